//! A process that trains is killed, or asked to stop, at any moment.
#[cfg(test)]
mod support;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::io::Write;
    use std::path::{Path, PathBuf};
    use std::process::{Child, Command, ExitStatus, Stdio};
    use std::time::Duration;

    use candle_core::{DType, Device};
    use clap::Parser;
    use gumbel_kernels::Key;
    use gumbel_metrics::Report;
    use gumbel_training::{MicroBatch, Params, Result, Run, Step, config};

    use crate::support::{Args, Config};

    /// Command line of the child; the other side of every test here.
    const CHILD: &str = "GUMBEL_TEST_KILL_CHILD";

    const DEFAULT: &str = "seed = 3\n[train]\nsteps = 120\nlog_every = 1\nevaluate_every = 7\n\
                           checkpoint_every = 2\n";

    /// What the child does: trains, saving every other step.
    fn train(options: &str) -> Result<()> {
        let args = Args::parse_from(["kill", "--quiet"].into_iter().chain(options.split('\n'))).run;
        let config: Config = args.config(&[("default", DEFAULT)])?;
        let mut run = Run::start("kill", &args, &config::to_toml(&config)?, config.seed)?;
        let key = Key::from_seed(config.seed);
        let params = Params::new(key, DType::F32, &Device::Cpu);
        let x = params.var_builder().get(200, "x")?;
        let mut step = |micro: MicroBatch| {
            std::thread::sleep(Duration::from_millis(1));
            let noise = key.fold_in(micro.index).normal(200, DType::F32, &Device::Cpu)?;
            let loss = (&x - noise)?.sqr()?.mean_all()?;
            let report = Report::new().mean("loss", &loss);
            Ok(Step { loss, learning_rate: 0.01, report })
        };
        run.train(&config.train, &params, 1, &mut step, &mut |evaluation| {
            evaluation.record("valid", &Report::new().mean("x", &x))
        })?;
        run.finish()
    }

    /// Is this the child? Then it trains and ends with the exit code of its error.
    fn is_child() -> bool {
        let Ok(options) = std::env::var(CHILD) else { return false };
        let code = train(&options).map_or_else(
            |error| {
                let _ = writeln!(std::io::stderr(), "child: {error:?}");
                error.exit_code().into()
            },
            |()| 0,
        );
        std::process::exit(code)
    }

    fn start(test: &str, options: &[&str]) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &format!("tests::{test}")])
            .env(CHILD, options.join("\n"))
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    }

    fn finish(mut child: Child) -> ExitStatus {
        child.wait().unwrap()
    }

    /// The one run directory below `out`, once it is there and training has begun.
    fn directory(out: &Path) -> PathBuf {
        for _ in 0..5000 {
            let entries = fs::read_dir(out.join("kill")).into_iter().flatten();
            let found = entries.map(|entry| entry.unwrap().path()).next();
            let begun =
                |d: &PathBuf| fs::metadata(d.join("metrics.jsonl")).is_ok_and(|m| m.len() > 0);
            if let Some(directory) = found.filter(begun) {
                return directory;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        panic!("training does not begin");
    }

    fn science(directory: &Path) -> BTreeMap<&'static str, Vec<u8>> {
        let files = ["model.safetensors", "optimizer.safetensors", "state.json", "MANIFEST"];
        let mut bytes: BTreeMap<_, _> = files
            .map(|name| {
                (name, fs::read(directory.join("checkpoints/step-120").join(name)).unwrap())
            })
            .into();
        bytes.insert("metrics.jsonl", fs::read(directory.join("metrics.jsonl")).unwrap());
        bytes
    }

    #[test]
    fn a_run_that_is_killed_again_and_again_gives_the_bytes_of_one_that_is_not() {
        if is_child() {
            return;
        }
        let name = "a_run_that_is_killed_again_and_again_gives_the_bytes_of_one_that_is_not";
        let (straight, killed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let out = |dir: &tempfile::TempDir| dir.path().to_str().unwrap().to_owned();
        assert!(finish(start(name, &["--out", &out(&straight)])).success());

        let mut child = start(name, &["--out", &out(&killed)]);
        let run = directory(killed.path());
        let resume = ["--resume", run.to_str().unwrap()];
        let mut kills = 0;
        for trial in 0..12 {
            // From the first instruction of the process to the middle of its training.
            let delay = 40_000. * Key::from_seed(9).uniform_at(trial);
            std::thread::sleep(Duration::from_micros(delay as u64));
            if child.try_wait().unwrap().is_none() {
                kills += 1;
                child.kill().unwrap();
            }
            child.wait().unwrap();
            child = start(name, &resume);
        }
        assert!(finish(child).success());
        assert!(kills > 2, "only {kills} kills: make the run longer");
        assert_eq!(science(&run), science(&directory(straight.path())));
        assert_eq!(fs::read_to_string(run.join("STATUS")).unwrap(), "done\n");
        let strays: Vec<_> = fs::read_dir(run.join("checkpoints")).unwrap().collect();
        assert_eq!(strays.len(), 2, "{strays:?}");
    }

    #[test]
    fn a_signal_ends_a_run_with_a_checkpoint_and_75_and_a_second_user_gets_75_too() {
        if is_child() {
            return;
        }
        let name = "a_signal_ends_a_run_with_a_checkpoint_and_75_and_a_second_user_gets_75_too";
        for (option, signal) in [("-INT", "SIGINT"), ("-USR1", "SIGUSR1")] {
            let out = tempfile::tempdir().unwrap();
            let options = ["--out", out.path().to_str().unwrap(), "--steps", "1000000"];
            let child = start(name, &options);
            let run = directory(out.path());
            let second = start(name, &["--resume", run.to_str().unwrap()]);
            assert_eq!(finish(second).code(), Some(75));
            let kill = Command::new("kill").args([option, &child.id().to_string()]).status();
            assert!(kill.unwrap().success());
            assert_eq!(finish(child).code(), Some(75));
            let status = fs::read_to_string(run.join("STATUS")).unwrap();
            let step = status.strip_prefix(&format!("interrupted: {signal} at step ")).unwrap();
            assert!(run.join("checkpoints").join(format!("step-{}", step.trim())).is_dir());
        }
    }
}
