//! Which repository.
use std::str::FromStr;

use crate::{Error, Result};

/// What a repository holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A model.
    Model,
    /// A data set.
    Dataset,
}

/// A repository at a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    kind: Kind,
    name: String,
    revision: String,
}

impl Repository {
    /// `owner/name` at a branch, a tag or a commit.
    ///
    /// # Errors
    /// If the name or the revision is none.
    pub fn new(kind: Kind, name: &str, revision: &str) -> Result<Self> {
        let plain = |word: &str| {
            let known = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            !word.is_empty()
                && word.len() <= 96
                && !word.starts_with('.')
                && word.chars().all(known)
        };
        let mut words = name.split('/');
        let two = words.next().is_some_and(plain) && words.next().is_some_and(plain);
        if !two || words.next().is_some() {
            return Err(Error::Usage(format!("{name:?} is no repository; give owner/name")));
        }
        if !revision.split('/').all(plain) {
            return Err(Error::Usage(format!(
                "{revision:?} is no revision; give a branch, a tag or a commit"
            )));
        }
        Ok(Self { kind, name: name.to_owned(), revision: revision.to_owned() })
    }

    /// The same at another revision.
    pub(crate) fn at(&self, revision: &str) -> Result<Self> {
        Self::new(self.kind, &self.name, revision)
    }

    /// `owner/name`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Branch, tag or commit.
    #[must_use]
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// The path of a file on a hub.
    pub(crate) fn url(&self, file: &str) -> String {
        let kind = match self.kind {
            Kind::Model => "",
            Kind::Dataset => "datasets/",
        };
        format!("/{kind}{}/resolve/{}/{file}", self.name, self.encoded_revision())
    }

    /// Where a hub says which files there are.
    pub(crate) fn listing(&self) -> String {
        let kind = match self.kind {
            Kind::Model => "models",
            Kind::Dataset => "datasets",
        };
        format!("/api/{kind}/{}/revision/{}", self.name, self.encoded_revision())
    }

    fn encoded_revision(&self) -> String {
        self.revision.replace('/', "%2F")
    }

    /// The folder of the repository in a cache of the hub's own programs.
    pub(crate) fn cached(&self) -> String {
        let kind = match self.kind {
            Kind::Model => "models",
            Kind::Dataset => "datasets",
        };
        format!("{kind}--{}", self.name.replace('/', "--"))
    }
}

impl FromStr for Repository {
    type Err = Error;

    /// A model as `owner/name`, or `owner/name@revision`.
    fn from_str(text: &str) -> Result<Self> {
        let (name, revision) = text.split_once('@').unwrap_or((text, "main"));
        Self::new(Kind::Model, name, revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_place() {
        let repository: Repository = "a-b/c.d_e@refs/pr/1".parse().unwrap();
        assert_eq!(repository.url("x"), "/a-b/c.d_e/resolve/refs%2Fpr%2F1/x");
        assert_eq!(repository.cached(), "models--a-b--c.d_e");
        let set = Repository::new(Kind::Dataset, "o/n", "main").unwrap();
        assert_eq!(set.listing(), "/api/datasets/o/n/revision/main");
        for bad in
            ["", "a", "a/", "/b", "a/b/c", "../b", "a/..", "a/b@", "a/b@../x", "a b/c", "a/b?x"]
        {
            let error = bad.parse::<Repository>().unwrap_err();
            assert_eq!(error.exit_code(), 2, "{bad}");
        }
    }
}
