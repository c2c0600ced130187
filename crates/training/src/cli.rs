//! The options that every experiment has.
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::config::{self, Change, MAY_CHANGE, diff};
use crate::run::{CONFIG, check_name};
use crate::{DeviceChoice, Error, Result};

/// Configurations that are built into a program, by name; the first is the default.
pub type Presets = [(&'static str, &'static str)];

fn default_of(presets: &Presets) -> &'static str {
    presets.first().map_or("", |(_, text)| text)
}

/// Options of a run. An experiment flattens them into its own `clap::Parser`.
#[derive(Clone, Debug, clap::Args)]
pub struct RunArgs {
    /// TOML file, or the name of a preset, in place of the built-in configuration
    #[arg(long, value_name = "FILE|PRESET", help_heading = "Configuration")]
    pub config: Option<PathBuf>,

    /// Change one key, for example train.log_every=50; can be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", help_heading = "Configuration")]
    pub set: Vec<String>,

    /// Same as --set seed=N [default: seed of the configuration]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(0..), help_heading = "Configuration")]
    pub seed: Option<i64>,

    /// Same as --set train.steps=N [default: train.steps of the configuration]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(i64).range(0..), help_heading = "Configuration")]
    pub steps: Option<i64>,

    /// Same as --set train.checkpoint_every=N [default: train.checkpoint_every of the configuration]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(0..), help_heading = "Configuration")]
    pub checkpoint_every: Option<i64>,

    /// Print the resulting configuration, itself a valid --config file, and end
    #[arg(long, help_heading = "Configuration")]
    pub print_config: bool,

    /// Print each value of the resulting configuration with its source, and end
    #[arg(long, conflicts_with = "print_config", help_heading = "Configuration")]
    pub dry_run: bool,

    /// Directory for the directories of runs
    #[arg(long, value_name = "DIR", default_value = "runs", help_heading = "Run")]
    pub out: PathBuf,

    /// Word for the name of the run's directory
    #[arg(long, value_name = "NAME", default_value = "run", value_parser = run_name, help_heading = "Run")]
    pub name: String,

    /// Go on with the run in this directory, with its own configuration
    #[arg(long, value_name = "RUNDIR", conflicts_with_all = ["out", "name"], help_heading = "Run")]
    pub resume: Option<PathBuf>,

    /// Start from the parameters in this folder, which `runs export` made
    #[arg(long, value_name = "DIR", conflicts_with = "resume", help_heading = "Run")]
    pub init: Option<PathBuf>,

    /// Threads to compute with; results do not depend on it [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..), help_heading = "Machine")]
    pub threads: Option<u16>,

    /// Train by this process alone, even where mpirun or srun started several
    #[arg(long, help_heading = "Machine")]
    pub no_distributed: bool,

    /// Where to compute: auto, cpu, cuda, cuda:N or metal; GPUs need a build for them
    #[arg(long, value_name = "DEVICE", default_value_t, help_heading = "Machine")]
    pub device: DeviceChoice,

    /// No progress, only warnings and errors
    #[arg(long, short, conflicts_with = "verbose", help_heading = "Messages")]
    pub quiet: bool,

    /// More messages; RUST_LOG chooses in detail
    #[arg(long, short, help_heading = "Messages")]
    pub verbose: bool,
}

fn run_name(name: &str) -> Result<String> {
    check_name(name)?;
    Ok(name.to_owned())
}

impl RunArgs {
    /// How many threads to compute with: as asked for, or one per core.
    #[must_use]
    pub fn threads(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.map_or_else(cores, usize::from)
    }

    /// The configuration of the run: the first of `presets` (name and TOML) or `--config`, then `--set` and its shorthands.
    ///
    /// A run that is resumed has the configuration in its directory. There, options may change how long
    /// it trains, how often it logs, evaluates and saves, and how many checkpoints it keeps; any other
    /// difference is an error that lists it.
    pub fn config<C: Serialize + DeserializeOwned>(&self, presets: &Presets) -> Result<C> {
        let sets = self.sets();
        let default_toml = default_of(presets);
        let Some(directory) = &self.resume else {
            return self.resolved(presets, self.config.as_deref(), &sets);
        };
        let stored = directory.join(CONFIG);
        if !stored.is_file() {
            let directory = directory.display();
            return Err(Error::Usage(format!(
                "--resume {directory}: no run directory, there is no {CONFIG} in it"
            )));
        }
        let old: C = config::resolve(default_toml, Some(&stored), &[])?;
        let file = self.config.as_ref().unwrap_or(&stored);
        let new: C = self.resolved(presets, Some(file), &sets)?;
        let refused: Vec<String> = diff(&old, &new)?
            .iter()
            .filter(|change| !MAY_CHANGE.contains(&change.key.as_str()))
            .map(Change::to_string)
            .collect();
        if refused.is_empty() {
            return Ok(new);
        }
        Err(Error::Usage(format!(
            "a resumed run keeps its configuration, but these options change {}; leave them out, or \
             start a new run without --resume (free to change are {})",
            refused.join(", "),
            MAY_CHANGE.join(", ")
        )))
    }

    /// What to print instead of a run: for `--print-config` the configuration, for `--dry-run` each value with its source;
    /// `overrides` are those beside `--set` and its shorthands.
    pub fn instead<C: Serialize>(
        &self,
        config: &C,
        presets: &Presets,
        overrides: &[String],
    ) -> Result<Option<String>> {
        if !self.print_config && !self.dry_run {
            return Ok(None);
        }
        let toml = config::to_toml(config)?;
        if self.print_config {
            return Ok(Some(toml));
        }
        let stored = self.resume.as_ref().map(|directory| directory.join(CONFIG));
        let preset = self.preset(presets)?;
        let base = match (&preset, self.config.as_ref().or(stored.as_ref())) {
            (Some((name, text)), _) => ((*text).to_owned(), format!("preset {name}")),
            (None, Some(path)) => (config::read(path)?, path.display().to_string()),
            (None, None) => (default_of(presets).to_owned(), "built in".to_owned()),
        };
        let overrides = [overrides, &self.sets()].concat();
        config::with_sources(&toml, (&base.0, &base.1), &overrides).map(Some)
    }

    /// The preset that was asked for, or the file.
    fn resolved<C: Serialize + DeserializeOwned>(
        &self,
        presets: &Presets,
        file: Option<&Path>,
        sets: &[String],
    ) -> Result<C> {
        match self.preset(presets)? {
            Some((_, text)) => config::resolve(text, None, sets),
            None => config::resolve(default_of(presets), file, sets),
        }
    }

    /// The preset that `--config` names; none where it is a file, or not there.
    fn preset<'a>(&self, presets: &'a Presets) -> Result<Option<&'a (&'static str, &'static str)>> {
        let Some(path) = &self.config else { return Ok(None) };
        let name = path.to_string_lossy();
        let found = presets.iter().find(|(known, _)| *known == name);
        let is_name = path.extension().is_none() && path.components().count() == 1;
        if path.is_file() || found.is_some() || !is_name {
            return Ok(found.filter(|_| !path.is_file()));
        }
        let known: Vec<&str> = presets.iter().map(|(known, _)| *known).collect();
        Err(Error::Usage(format!(
            "--config {name}: there is no such file, and the presets are {}",
            known.join(", ")
        )))
    }

    /// All overrides; the shorthands come last.
    fn sets(&self) -> Vec<String> {
        let shorthands = [
            ("seed", self.seed),
            ("train.steps", self.steps),
            ("train.checkpoint_every", self.checkpoint_every),
        ];
        let given = shorthands.into_iter().filter_map(|(key, n)| Some(format!("{key}={}", n?)));
        self.set.iter().cloned().chain(given).collect()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Parser)]
    struct Args {
        #[command(flatten)]
        run: RunArgs,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Config {
        seed: u64,
        hidden: u64,
        train: crate::TrainConfig,
    }

    const DEFAULT: &str = "seed = 1\nhidden = 5\n[train]\nsteps = 10\n";
    const LARGE: &str = "seed = 1\nhidden = 500\n[train]\nsteps = 10\n";
    const PRESETS: [(&str, &str); 2] = [("small", DEFAULT), ("large", LARGE)];

    fn parse(args: &[&str]) -> Result<RunArgs, String> {
        Args::try_parse_from([&["vae"], args].concat())
            .map(|args| args.run)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn shorthands_are_overrides() {
        let args = parse(&["--set", "seed=3", "--seed", "4", "--steps", "7", "--set=hidden=6"]);
        let config: Config = args.unwrap().config(&PRESETS).unwrap();
        assert_eq!((config.seed, config.hidden, config.train.steps), (4, 6, 7));
        let config: Config = parse(&["--checkpoint-every", "9"]).unwrap().config(&PRESETS).unwrap();
        assert_eq!(config.train.checkpoint_every, 9);
    }

    #[test]
    fn a_preset_is_a_configuration_by_its_name() {
        let run = parse(&["--config", "large", "--seed", "2", "--dry-run"]).unwrap();
        let config: Config = run.config(&PRESETS).unwrap();
        assert_eq!((config.hidden, config.seed), (500, 2));
        let text = run.instead(&config, &PRESETS, &[]).unwrap().unwrap();
        for line in ["hidden = 500 ", "seed = 2 "] {
            assert!(text.contains(line), "{text}");
        }
        assert!(text.contains("# preset large\n") && text.contains("# command line\n"), "{text}");
        let error = parse(&["--config", "lagre"]).unwrap().config::<Config>(&PRESETS).unwrap_err();
        assert!(error.to_string().contains("the presets are small, large"), "{error}");
        let error =
            parse(&["--config", "no.toml"]).unwrap().config::<Config>(&PRESETS).unwrap_err();
        assert_eq!(error.exit_code(), 74);
        let plain = parse(&[]).unwrap();
        assert_eq!(plain.instead(&config, &PRESETS, &[]).unwrap(), None);
        let shown = parse(&["--print-config"]).unwrap().instead(&config, &PRESETS, &[]).unwrap();
        assert!(shown.unwrap().contains("hidden = 500\n"));
    }

    #[test]
    fn bad_names_and_devices_are_refused_before_anything_starts() {
        for name in ["", "a/b", "..", ".hidden", "a\\b", "a\nb", "é\u{0}", &"x".repeat(65)] {
            assert!(parse(&["--name", name]).is_err(), "{name:?}");
        }
        assert_eq!(parse(&["--name", "tau-0.5 é"]).unwrap().name, "tau-0.5 é");
        assert!(parse(&["--device", "gpu"]).unwrap_err().contains("auto, cpu"));
        assert!(parse(&["--threads", "0"]).is_err());
        assert!(parse(&["--seed", "-1"]).is_err());
        assert!(parse(&["--quiet", "--verbose"]).is_err());
        assert!(parse(&["--resume", "x", "--name", "y"]).is_err());
        assert!(parse(&["--resume", "x"]).is_ok());
    }

    #[test]
    fn help_shows_groups_and_every_default() {
        let help = parse(&["--help"]).unwrap_err();
        for part in [
            "Configuration:",
            "Run:",
            "Machine:",
            "Messages:",
            "[default: runs]",
            "[default: run]",
            "[default: auto]",
            "[default: one per core]",
            "[default: train.steps of the configuration]",
        ] {
            let flat = help.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(flat.contains(part), "{part} is not in {help}");
        }
    }

    #[test]
    fn a_resumed_run_keeps_all_but_the_length_and_the_intervals() {
        let directory = tempfile::tempdir().unwrap();
        let run = directory.path().to_str().unwrap();
        let stored = DEFAULT.replace("hidden = 5", "hidden = 50");
        std::fs::write(directory.path().join(CONFIG), &stored).unwrap();
        let args =
            parse(&["--resume", run, "--steps", "20", "--set", "train.log_every=3"]).unwrap();
        let config: Config = args.config(&PRESETS).unwrap();
        assert_eq!((config.hidden, config.train.steps, config.train.log_every), (50, 20, 3));

        let args = parse(&["--resume", run, "--seed", "2", "--set", "hidden=51"]).unwrap();
        let error = args.config::<Config>(&PRESETS).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("hidden: 50 -> 51, seed: 1 -> 2;"), "{error}");

        // The same configuration as a file is no change.
        let file = directory.path().join("same.toml");
        std::fs::write(&file, &stored).unwrap();
        let args = parse(&["--resume", run, "--config", file.to_str().unwrap()]).unwrap();
        assert!(args.config::<Config>(&PRESETS).is_ok());
        let args = parse(&["--resume", "not-there"]).unwrap();
        assert!(args.config::<Config>(&PRESETS).unwrap_err().to_string().contains("not-there"));
    }
}
