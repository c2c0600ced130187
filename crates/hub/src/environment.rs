//! What the environment says.
use std::env::{var, var_os};
use std::path::PathBuf;

/// Variables that forbid the network where they are set to anything but 0, nothing, `false`, `no` or `off`.
const OFFLINE: [&str; 2] = ["GUMBEL_OFFLINE", "HF_HUB_OFFLINE"];

/// The variable that forbids the network, if one does.
#[must_use]
pub fn offline() -> Option<&'static str> {
    OFFLINE.into_iter().find(|name| var(name).is_ok_and(|value| is_true(&value)))
}

fn is_true(value: &str) -> bool {
    !matches!(value.trim().to_ascii_lowercase().as_str(), "" | "0" | "false" | "no" | "off")
}

fn path(name: &str) -> Option<PathBuf> {
    var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// The cache directory of the user: `$XDG_CACHE_HOME`, or `~/.cache` if that is unset or relative.
fn user_cache() -> Option<PathBuf> {
    let absolute = |name| path(name).filter(|path| path.is_absolute());
    absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")))
}

/// The folder of the hub's own programs.
fn home() -> Option<PathBuf> {
    path("HF_HOME").or_else(|| user_cache().map(|cache| cache.join("huggingface")))
}

/// Where the hub's own programs keep what they fetched.
pub(crate) fn hub_cache() -> Option<PathBuf> {
    let said = path("HF_HUB_CACHE").or_else(|| path("HUGGINGFACE_HUB_CACHE"));
    said.or_else(|| home().map(|home| home.join("hub")))
}

/// The user's token: `HF_TOKEN`, or the file that a login left.
pub(crate) fn token() -> Option<String> {
    if var("HF_HUB_DISABLE_IMPLICIT_TOKEN").is_ok_and(|value| is_true(&value)) {
        return None;
    }
    let file = || path("HF_TOKEN_PATH").or_else(|| home().map(|home| home.join("token")));
    let read = || std::fs::read_to_string(file()?).ok();
    let token = var("HF_TOKEN").ok().or_else(read)?.trim().to_owned();
    (!token.is_empty()).then_some(token)
}

/// The address of the hub, without a slash at its end.
pub(crate) fn endpoint() -> String {
    let said = var("HF_ENDPOINT").ok().filter(|value| !value.trim().is_empty());
    let endpoint = said.unwrap_or_else(|| "https://huggingface.co".to_owned());
    endpoint.trim().trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_says_offline_unless_it_says_no() {
        for yes in ["1", "true", "ON", "yes", "x"] {
            assert!(is_true(yes), "{yes}");
        }
        for no in ["", "0", "False", "no", " off "] {
            assert!(!is_true(no), "{no}");
        }
    }
}
