//! What the configurations and options of all experiments have in common.
use anyhow::{Context, ensure};
use gumbel_training::config::to_toml;
use gumbel_training::{Error, Presets, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How a program that trains ends: the last lines of its help.
pub const EXIT_CODES: &str = "\
Exit codes: 0 done, 2 wrong option or configuration, 65 bad data, 69 data missing, 70 a bug, 71 no memory,
74 input/output, 75 stopped on request after a checkpoint, 77 not finite, 130 second Ctrl-C";

/// What is wrong with a table of the configuration, with its name.
///
/// # Errors
/// If something is.
pub fn within(table: &str, checked: std::result::Result<(), String>) -> Result<()> {
    checked.map_err(|error| Error::Usage(format!("{table}: {error}")))
}

/// # Errors
/// The first of the keys whose number is 0.
pub fn at_least_one(numbers: &[(&str, usize)]) -> Result<()> {
    match numbers.iter().find(|(_, number)| *number == 0) {
        Some((key, _)) => Err(Error::Usage(format!("{key} is 0; use at least 1"))),
        None => Ok(()),
    }
}

/// What the tests of an experiment hold the files in `folder` to: each is valid, complete, and one of `presets`.
///
/// `resolve` makes a configuration of options.
///
/// # Errors
/// If a file is refused, or comes back as another configuration when it is written out, or is no preset.
pub fn check_shipped<C: Serialize + DeserializeOwned + PartialEq>(
    folder: &str,
    presets: &Presets,
    resolve: impl Fn(&[&str]) -> Result<C>,
) -> anyhow::Result<()> {
    let mut count = 0;
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let file = path.display();
        let resolved = resolve(&["--config", &path.to_string_lossy()])
            .with_context(|| format!("{file} is refused"))?;
        let again: C = toml::from_str(&to_toml(&resolved)?)?;
        ensure!(resolved == again, "{file} comes back as another configuration");
        count += 1;
    }
    ensure!(count == presets.len(), "{folder} has {count} files for {} presets", presets.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[test]
    fn the_first_key_that_is_0_is_named() {
        assert!(at_least_one(&[("a", 1), ("b", 2)]).is_ok());
        let error = at_least_one(&[("a", 1), ("b", 0), ("c", 0)]).unwrap_err();
        assert_eq!((error.to_string().as_str(), error.exit_code()), ("b is 0; use at least 1", 2));
        let error = within("model", Err("width is 7".to_owned())).unwrap_err();
        assert_eq!(error.to_string(), "model: width is 7");
    }

    #[derive(PartialEq, Serialize, Deserialize)]
    struct Forgetful {
        #[serde(default, skip_serializing)]
        seed: u64,
    }

    fn read<C: DeserializeOwned>(args: &[&str]) -> Result<C> {
        let text = std::fs::read_to_string(args[1]).unwrap();
        toml::from_str(&text).map_err(|error| Error::Usage(error.to_string()))
    }

    #[test]
    fn what_is_wrong_with_files_that_are_shipped_is_found() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().to_str().unwrap();
        let presets = [("a", "")];
        let message = |checked: anyhow::Result<()>| format!("{:#}", checked.unwrap_err());
        assert!(
            message(check_shipped(folder, &presets, read::<toml::Table>)).contains("0 files for 1")
        );
        std::fs::write(place.path().join("a.toml"), "seed = 3").unwrap();
        assert!(check_shipped(folder, &presets, read::<toml::Table>).is_ok());
        assert!(message(check_shipped(folder, &presets, read::<Forgetful>)).contains("comes back"));
        std::fs::write(place.path().join("a.toml"), "seed = ").unwrap();
        assert!(
            message(check_shipped(folder, &presets, read::<toml::Table>)).contains("is refused")
        );
    }
}
