//! The loop as a whole: stopped anywhere and resumed, a run gives the bits of one never stopped.
#[cfg(test)]
mod support;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::{Path, PathBuf};

    use candle_core::{DType, Device, Tensor};
    use clap::Parser;
    use gumbel_kernels::Key;
    use gumbel_metrics::Report;
    use gumbel_training::{Error, Params, Result, Run, Step, Stop};
    use gumbel_training::{config, png};

    use crate::support::{Args, Config};

    const STEPS: u64 = 13;
    const DEFAULT: &str = "seed = 3\n[train]\nsteps = 13\nlog_every = 2\nevaluate_every = 4\n\
                           checkpoint_every = 3\nclip_norm = 0.5\n";

    /// Where a fault may strike.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum At {
        Step(u64),
        Evaluation(u64),
        /// When all of it is written, and nobody looks for requests any more.
        Evaluated(u64),
    }

    type Fault<'a> = &'a dyn Fn(At, &Stop, &Params) -> Result<()>;

    /// One process' worth of training: a model of two parameters and a noisy loss.
    fn session(options: &[&str], fault: Fault<'_>) -> (PathBuf, Result<()>) {
        let args = Args::parse_from([&["toy", "--quiet"], options].concat()).run;
        let config: Config = args.config(&[("default", DEFAULT)]).unwrap();
        let toml = config::to_toml(&config).unwrap();
        let mut run = Run::start("toy", &args, &toml, config.seed).unwrap();
        let key = Key::from_seed(config.seed);
        let params = Params::new(key.named("init"), DType::F32, &Device::Cpu);
        let normal = candle_nn::Init::Randn { mean: 0., stdev: 1. };
        let a = params.var_builder().get_with_hints((2, 3), "a", normal).unwrap();
        let b = params.var_builder().get_with_hints((), "b", candle_nn::Init::Const(1.5)).unwrap();
        let stop = run.stop();
        let outcome = run.train(
            &config.train,
            &params,
            6,
            &mut |micro| {
                let step = micro.step;
                fault(At::Step(step), &stop, &params)?;
                let noise = key.named("noise").fold_in(micro.index).normal(
                    (2, 3),
                    DType::F32,
                    a.device(),
                )?;
                let loss = ((&a - noise)?.sqr()?.mean_all()? + b.sqr()?.sqrt()?)?;
                let report = Report::new().mean("loss", &loss);
                Ok(Step { loss, learning_rate: 0.1 / (1. + step as f64), report })
            },
            &mut |evaluation| {
                let split = if evaluation.is_last() { "test" } else { "valid" };
                evaluation.record(split, &Report::new().mean("a", &a).mean("b", &b))?;
                let pixels: Vec<f32> = a.flatten_all()?.to_vec1()?;
                evaluation.sample("prior", &png::grid(&pixels, 2, 3, 1, 1)?)?;
                fault(At::Evaluation(evaluation.step()), &stop, &params)?;
                evaluation.check_stop()?;
                fault(At::Evaluated(evaluation.step()), &stop, &params)
            },
        );
        let outcome = outcome.and_then(|()| run.finish());
        (run.directory().to_path_buf(), outcome)
    }

    fn new(out: &Path, fault: Fault<'_>) -> (PathBuf, Result<()>) {
        session(&["--out", out.to_str().unwrap()], fault)
    }

    fn resume(directory: &Path, options: &[&str], fault: Fault<'_>) -> Result<()> {
        session(&[&["--resume", directory.to_str().unwrap()], options].concat(), fault).1
    }

    fn never(_: At, _: &Stop, _: &Params) -> Result<()> {
        Ok(())
    }

    fn status(directory: &Path) -> String {
        fs::read_to_string(directory.join("STATUS")).unwrap().trim_end().to_owned()
    }

    fn checkpoints(directory: &Path) -> Vec<String> {
        names(&directory.join("checkpoints"))
    }

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// Every byte that must not depend on how often the run was stopped.
    fn science(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
        let last = format!("checkpoints/step-{STEPS}");
        let mut files = vec![PathBuf::from("metrics.jsonl")];
        for folder in ["samples", &last] {
            files.extend(names(&directory.join(folder)).iter().map(|n| Path::new(folder).join(n)));
        }
        files.into_iter().map(|f| (f.clone(), fs::read(directory.join(f)).unwrap())).collect()
    }

    fn straight(out: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
        let (directory, outcome) = new(out, &never);
        outcome.unwrap();
        science(&directory)
    }

    #[test]
    fn a_run_writes_its_results_and_is_done() {
        let out = tempfile::tempdir().unwrap();
        let (directory, outcome) = new(out.path(), &never);
        outcome.unwrap();
        assert_eq!(status(&directory), "done");
        assert_eq!(checkpoints(&directory), ["step-12", "step-13"]);
        assert_eq!(
            names(&directory.join("samples")),
            [4, 8, 12, 13].map(|step| format!("step-{step:09}-prior.png"))
        );
        let metrics = fs::read_to_string(directory.join("metrics.jsonl")).unwrap();
        let heads: Vec<String> = metrics
            .lines()
            .map(|line| {
                let value: serde_json::Value = serde_json::from_str(line).unwrap();
                format!("{} {}", value["step"], value["split"].as_str().unwrap())
            })
            .collect();
        assert_eq!(
            heads,
            [
                "2 train", "4 train", "4 valid", "6 train", "8 train", "8 valid", "10 train",
                "12 train", "12 valid", "13 train", "13 test"
            ]
        );
        assert!(metrics.lines().next().unwrap().contains("\"grad_norm\":"));
        let timing = fs::read_to_string(directory.join("timing.jsonl")).unwrap();
        assert_eq!(timing.lines().count(), 7);
    }

    #[test]
    fn a_crash_at_any_step_or_evaluation_leaves_no_trace_in_the_results() {
        let out = tempfile::tempdir().unwrap();
        let expected = straight(out.path());
        let places = (0..STEPS).map(At::Step).chain([4, 8, 12, 13].map(At::Evaluation));
        for place in places {
            let crash = |at: At, _: &Stop, _: &Params| {
                if at == place { Err(Error::caller(70, "crash")) } else { Ok(()) }
            };
            let (directory, outcome) = new(out.path(), &crash);
            assert_eq!(outcome.unwrap_err().to_string(), "crash");
            assert_eq!(status(&directory), "failed: crash");
            resume(&directory, &[], &never).unwrap();
            assert_eq!(science(&directory), expected, "{place:?}");
            assert_eq!(status(&directory), "done");
        }
    }

    #[test]
    fn a_request_to_stop_is_obeyed_after_the_step_and_the_run_goes_on_from_there() {
        let out = tempfile::tempdir().unwrap();
        let expected = straight(out.path());
        let places = (0..STEPS).map(At::Step).chain([4, 8, 12, 13].map(At::Evaluation));
        for place in places.chain([4, 8, 12].map(At::Evaluated)) {
            let ask = |at: At, stop: &Stop, _: &Params| {
                if at == place {
                    stop.request();
                }
                Ok(())
            };
            let (directory, outcome) = new(out.path(), &ask);
            let error = outcome.unwrap_err();
            assert_eq!(error.exit_code(), 75);
            let done = match place {
                At::Step(step) => step + 1,
                At::Evaluation(step) | At::Evaluated(step) => step,
            };
            assert_eq!(status(&directory), format!("interrupted: request at step {done}"));
            assert!(error.to_string().contains("--resume"), "{error}");
            assert!(checkpoints(&directory).contains(&format!("step-{done}")));
            // What is refused leaves the run as it was.
            let refused = resume(&directory, &["--steps", "0"], &never).unwrap_err();
            assert_eq!(refused.exit_code(), 2);
            assert_eq!(status(&directory), format!("interrupted: request at step {done}"));
            // The resumed process does not do any step again.
            let first = |at: At, _: &Stop, _: &Params| match at {
                At::Step(step) if step < done => Err(Error::caller(70, "done already")),
                _ => Ok(()),
            };
            resume(&directory, &[], &first).unwrap();
            assert_eq!(science(&directory), expected, "{place:?}");
        }
    }

    #[test]
    fn a_run_that_starts_from_a_model_goes_on_from_its_first_checkpoint() {
        let out = tempfile::tempdir().unwrap();
        let (model, _) = new(out.path(), &never);
        let folder = out.path().join("model");
        gumbel_training::export(&model, &folder, |steps| format!("{steps} steps")).unwrap();
        assert_eq!(fs::read_to_string(folder.join("README.md")).unwrap(), "13 steps");
        let options = ["--out", out.path().to_str().unwrap(), "--init", folder.to_str().unwrap()];
        let (directory, outcome) = session(&options, &never);
        outcome.unwrap();
        let expected = science(&directory);
        let crash = |at: At, _: &Stop, _: &Params| {
            if at == At::Step(0) { Err(Error::caller(70, "crash")) } else { Ok(()) }
        };
        let (directory, _) = session(&options, &crash);
        assert_eq!(checkpoints(&directory), ["step-0"]);
        resume(&directory, &[], &never).unwrap();
        assert_eq!(science(&directory), expected);
        // One that was killed before it is not begun from chance.
        let (directory, _) = session(&options, &crash);
        fs::remove_dir_all(directory.join("checkpoints/step-0")).unwrap();
        let error = resume(&directory, &[], &never).unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains("--init"), "{error}");
    }

    /// What a program makes of a finished training may still be missing: the run is evaluated once more.
    #[test]
    fn a_run_is_done_when_its_program_says_so_and_not_before() {
        let out = tempfile::tempdir().unwrap();
        let expected = straight(out.path());
        let (directory, _) = new(out.path(), &never);
        fs::write(directory.join("STATUS"), "running\n").unwrap();
        let evaluated = std::cell::Cell::new(false);
        let look = |at: At, _: &Stop, _: &Params| {
            evaluated.set(matches!(at, At::Evaluated(STEPS)));
            Ok(())
        };
        resume(&directory, &[], &look).unwrap();
        assert!(evaluated.get());
        assert_eq!((science(&directory), status(&directory)), (expected, "done".to_owned()));
    }

    #[test]
    fn a_torn_checkpoint_costs_some_steps_and_nothing_else() {
        let out = tempfile::tempdir().unwrap();
        let expected = straight(out.path());
        let crash = |at: At, _: &Stop, _: &Params| {
            if at == At::Step(10) { Err(Error::caller(70, "crash")) } else { Ok(()) }
        };
        let (directory, _) = new(out.path(), &crash);
        assert_eq!(checkpoints(&directory), ["step-6", "step-9"]);
        fs::write(directory.join("checkpoints/step-9/model.safetensors"), b"torn").unwrap();
        resume(&directory, &[], &never).unwrap();
        assert_eq!(science(&directory), expected);
    }

    #[test]
    fn a_finished_run_has_nothing_to_do_and_more_steps_continue_it() {
        let out = tempfile::tempdir().unwrap();
        let (directory, _) =
            session(&["--out", out.path().to_str().unwrap(), "--steps", "5"], &never);
        let fail = |_: At, _: &Stop, _: &Params| Err(Error::caller(70, "nothing was to be done"));
        let before = fs::read(directory.join("metrics.jsonl")).unwrap();
        resume(&directory, &[], &fail).unwrap();
        assert_eq!(fs::read(directory.join("metrics.jsonl")).unwrap(), before);
        assert_eq!(status(&directory), "done");
        let error = resume(&directory, &["--steps", "3"], &fail).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("cannot end at step 3"), "{error}");
        // The refusal changed nothing: neither the length in config.toml nor the results.
        resume(&directory, &[], &fail).unwrap();
        assert_eq!(fs::read(directory.join("metrics.jsonl")).unwrap(), before);
        assert_eq!(status(&directory), "done");
        // As if it had been meant to be as long from the start.
        resume(&directory, &["--steps", "13"], &never).unwrap();
        let mut got = science(&directory);
        let mut expected = straight(out.path());
        // Step 5 was the last one and was written down as such.
        let text = |files: &mut BTreeMap<PathBuf, Vec<u8>>| {
            String::from_utf8(files.remove(Path::new("metrics.jsonl")).unwrap()).unwrap()
        };
        let (got_text, expected_text) = (text(&mut got), text(&mut expected));
        let kept: Vec<&str> =
            got_text.lines().filter(|line| !line.starts_with("{\"step\":5,")).collect();
        assert_eq!(kept, expected_text.lines().collect::<Vec<_>>());
        assert_eq!(got_text.lines().count(), expected_text.lines().count() + 1);
        let weights = |files: &BTreeMap<PathBuf, Vec<u8>>| -> Vec<Vec<u8>> {
            let of = files
                .iter()
                .filter(|(path, _)| !path.ends_with("MANIFEST") && !path.ends_with("state.json"));
            of.map(|(_, bytes)| bytes.clone()).collect()
        };
        assert_eq!(weights(&got), weights(&expected));
    }

    #[test]
    fn what_is_not_finite_ends_the_run_with_its_name_and_the_last_good_checkpoint() {
        let out = tempfile::tempdir().unwrap();
        let nan = |name: &'static str, value: f32, bad: u64| {
            move |at: At, _: &Stop, params: &Params| {
                if at == At::Step(bad) {
                    let var = params.get(name).unwrap();
                    let value = Tensor::full(value, var.shape(), &Device::Cpu)?;
                    params.set(name, &value).unwrap();
                }
                Ok(())
            }
        };
        for (name, value, what) in [
            ("a", f32::NAN, "parameter `a`"),
            ("b", f32::INFINITY, "parameter `b`"),
            // √b² is 0 there and has no derivative.
            ("b", 0., "the gradient of `b`"),
            // Squares of it overflow.
            ("a", 1e30, "`loss` of its report"),
        ] {
            let (directory, outcome) = new(out.path(), &nan(name, value, 8));
            let error = outcome.unwrap_err();
            assert_eq!(error.exit_code(), 77, "{error}");
            assert!(error.to_string().contains(what), "{what}: {error}");
            assert!(error.to_string().contains("step 8"), "{error}");
            assert_eq!(checkpoints(&directory), ["step-3", "step-6"]);
            assert!(
                status(&directory).starts_with("failed: ") && status(&directory).contains(what)
            );
            resume(&directory, &[], &never).unwrap();
            assert_eq!(science(&directory), straight(out.path()));
        }
    }

    #[test]
    fn parameters_that_are_not_finite_are_never_saved() {
        let out = tempfile::tempdir().unwrap();
        let options =
            ["--out", out.path().to_str().unwrap(), "--set", "train.optimizer={kind=\"sgd\"}"];
        let nan = |at: At, stop: &Stop, params: &Params| {
            if at == At::Evaluation(4) {
                let bad = Tensor::full(f32::NAN, (2, 3), &Device::Cpu)?;
                params.set("a", &bad).unwrap();
                stop.request();
            }
            Ok(())
        };
        let (directory, outcome) = session(&options, &nan);
        assert_eq!(outcome.unwrap_err().exit_code(), 77);
        assert_eq!(checkpoints(&directory), ["step-3"]);
    }

    #[test]
    fn a_changed_configuration_is_noticed_at_the_checkpoint_too() {
        let out = tempfile::tempdir().unwrap();
        let (directory, _) = new(out.path(), &never);
        let path = directory.join("config.toml");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("clip_norm = 0.5", "clip_norm = 0.25")).unwrap();
        let error = resume(&directory, &["--steps", "20"], &never).unwrap_err();
        assert_eq!(error.exit_code(), 65);
        assert!(error.to_string().contains("another configuration"), "{error}");
    }
}
