//! Texts by name: which files, how they are split, whose they are.
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::Split;
use crate::catalogue::DataFile;

/// A text that is read from files, by the name used in configurations and as a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum TextName {
    /// Lines from Shakespeare's plays (Karpathy 2015), running text.
    Tinyshakespeare,
    /// Articles of Wikipedia (Merity et al. 2017), running text of words.
    #[serde(rename = "wikitext-2")]
    WikiText2,
    /// Descriptions of restaurants (Novikova, Dušek, Rieser 2017), sentences of words.
    E2e,
    /// Sentences for learners of English (Tatoeba), one by one.
    TatoebaEn,
}

impl TextName {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Tinyshakespeare, Self::WikiText2, Self::E2e, Self::TatoebaEn];

    /// The name as it is written in a configuration and on disk.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tinyshakespeare => "tinyshakespeare",
            Self::WikiText2 => "wikitext-2",
            Self::E2e => "e2e",
            Self::TatoebaEn => "tatoeba-en",
        }
    }
}

/// What the lines of a text are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Layout {
    /// Sentences of their own, that know nothing of each other.
    Sentences,
    /// Running text; their ends are symbols like others.
    Running,
}

/// The part of a file that is a split.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cut {
    /// All of it.
    All,
    /// Some lines.
    Lines(Range<usize>),
    /// Some bytes.
    Bytes(Range<usize>),
}

impl Cut {
    /// The part of `text`; nothing where it is not there.
    #[must_use]
    pub fn of<'a>(&self, text: &'a str) -> &'a str {
        match self {
            Self::All => text,
            Self::Bytes(range) => text.get(range.clone()).unwrap_or_default(),
            Self::Lines(range) => {
                let start = |line: usize| {
                    let mut starts =
                        std::iter::once(0).chain(text.match_indices('\n').map(|(i, _)| i + 1));
                    starts.nth(line).unwrap_or(text.len())
                };
                text.get(start(range.start)..start(range.end)).unwrap_or_default()
            }
        }
    }
}

/// What is known about a text.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct TextEntry {
    /// The name of the text and of its folder.
    pub name: TextName,
    /// The name to call it by in results.
    pub title: &'static str,
    /// What its lines are.
    pub layout: Layout,
    /// The licence.
    pub licence: &'static str,
    /// Who is to be cited.
    pub citation: &'static str,
    /// Folders of URLs where its files are published; none for texts that were made from others.
    pub mirrors: &'static [&'static str],
    files: &'static [DataFile],
}

impl TextEntry {
    /// Every file of the text.
    #[must_use]
    pub fn files(&self) -> &'static [DataFile] {
        self.files
    }

    /// Where a split is. Tinyshakespeare: 85, 5 and 10 hundredths, the last of which others validate on. E2E: its
    /// validation file in halves.
    #[must_use]
    pub fn part(&self, split: Split) -> (Option<&'static DataFile>, Cut) {
        let file = |index: usize| self.files.get(index);
        match (self.name, split) {
            (TextName::Tinyshakespeare, Split::Train) => (file(0), Cut::Bytes(0..948_084)),
            (TextName::Tinyshakespeare, Split::Valid) => (file(0), Cut::Bytes(948_084..1_003_854)),
            (TextName::Tinyshakespeare, Split::Test) => (file(0), Cut::Bytes(1_003_854..1_115_394)),
            (TextName::E2e, Split::Valid) => (file(1), Cut::Lines(0..2336)),
            (TextName::E2e, Split::Test) => (file(1), Cut::Lines(2336..4672)),
            (_, Split::Train) => (file(0), Cut::All),
            (_, Split::Valid) => (file(1), Cut::All),
            (_, Split::Test) => (file(2), Cut::All),
        }
    }
}

/// The entry of a text.
#[must_use]
pub const fn entry(name: TextName) -> &'static TextEntry {
    match name {
        TextName::Tinyshakespeare => &TINYSHAKESPEARE,
        TextName::WikiText2 => &WIKITEXT_2,
        TextName::E2e => &E2E,
        TextName::TatoebaEn => &TATOEBA_EN,
    }
}

const fn file(name: &'static str, bytes: u64, sha256: &'static str) -> DataFile {
    DataFile { name, bytes, sha256 }
}

static TINYSHAKESPEARE: TextEntry = TextEntry {
    name: TextName::Tinyshakespeare,
    title: "tinyshakespeare",
    layout: Layout::Running,
    licence: "public domain",
    citation: "Karpathy (2015), The Unreasonable Effectiveness of Recurrent Neural Networks",
    mirrors: &["https://raw.githubusercontent.com/karpathy/char-rnn/\
                 d1d7aa34fdb3626174bce1d753e6cc6845ce7087/data/tinyshakespeare/"],
    files: &[file(
        "input.txt",
        1_115_394,
        "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    )],
};

static WIKITEXT_2: TextEntry = TextEntry {
    name: TextName::WikiText2,
    title: "WikiText-2",
    layout: Layout::Running,
    licence: "CC BY-SA 3.0",
    citation: "Merity, Xiong, Bradbury, Socher (2017), Pointer Sentinel Mixture Models",
    mirrors: &[],
    files: &[
        file(
            "wiki.train.tokens",
            10_797_148,
            "728c77e87e176af4730f9a80fc6008bcaff421a7202c1c048877c0eec3685f89",
        ),
        file(
            "wiki.valid.tokens",
            1_121_681,
            "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8",
        ),
        file(
            "wiki.test.tokens",
            1_256_449,
            "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0",
        ),
    ],
};

static E2E: TextEntry = TextEntry {
    name: TextName::E2e,
    title: "E2E",
    layout: Layout::Sentences,
    licence: "CC BY-SA 4.0",
    citation: "Novikova, Dušek, Rieser (2017), The E2E Dataset; tokenised by Wiseman, Shieber, Rush (2018)",
    mirrors: &[],
    files: &[
        file(
            "e2e.train.txt",
            4_763_900,
            "26ef255be181affd38b98afa8da195dc393a2970b05d884ce4d9d27f3c6e36a3",
        ),
        file(
            "e2e.valid.txt",
            591_128,
            "6efe4ebcc3b3f031fb0bda64ba315e4fd99f99e35980c9ad6319b29b7ddf1395",
        ),
    ],
};

static TATOEBA_EN: TextEntry = TextEntry {
    name: TextName::TatoebaEn,
    title: "Tatoeba (English)",
    layout: Layout::Sentences,
    licence: "CC BY 2.0",
    citation: "tatoeba.org, by way of manythings.org/anki",
    mirrors: &[],
    files: &[
        file(
            "en.train.txt",
            3_078_583,
            "5f956ef39219c66d0975948313b617fc7857dfd9e85658a57296c59128cc1ea9",
        ),
        file(
            "en.valid.txt",
            175_872,
            "4fab7f95a4b4f16fa3d6aef832e010f93279ae2fce743d85d0afbd500ae53e0b",
        ),
        file(
            "en.test.txt",
            171_023,
            "aea743a3b8d7399ca3b179133fae0fbe73f9c71782cb572210eb95d9356e4d10",
        ),
    ],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_configurations() {
        #[derive(Deserialize)]
        struct Config {
            text: TextName,
        }
        for name in TextName::ALL {
            let config: Config =
                serde_json::from_str(&format!("{{\"text\": \"{}\"}}", name.as_str())).unwrap();
            assert_eq!((config.text, entry(name).name), (name, name));
            for split in Split::ALL {
                assert!(entry(name).part(split).0.is_some());
            }
        }
    }

    #[test]
    fn cuts_are_lines_and_bytes() {
        let text = "one\ntwo\nthree\nfour";
        assert_eq!(Cut::All.of(text), text);
        assert_eq!(Cut::Lines(1..3).of(text), "two\nthree\n");
        assert_eq!(Cut::Lines(3..9).of(text), "four");
        assert_eq!(Cut::Lines(7..9).of(text), "");
        assert_eq!(Cut::Bytes(4..7).of(text), "two");
        assert_eq!(Cut::Bytes(4..700).of(text), "");
    }
}
