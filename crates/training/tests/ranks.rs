//! Several processes train one model; here they are threads.
#[cfg(test)]
mod support;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::rc::Rc;

    use candle_core::{DType, Device, Tensor};
    use clap::Parser;
    use gumbel_distributed::{Communicator, Single, on_threads};
    use gumbel_kernels::Key;
    use gumbel_metrics::Report;
    use gumbel_training::{Error, Params, Result, Run, Step, Stop, config, with_world};

    use crate::support::{Args, Config};

    const DEFAULT: &str = "seed = 3\n[train]\nsteps = 12\nlog_every = 2\nevaluate_every = 5\n\
                           checkpoint_every = 4\nclip_norm = 0.5\nmicro_batches = 4\n";
    const BATCH: usize = 8;

    /// What a rank multiplies the loss of a micro-batch with, and does beside.
    type Factor<'a> = &'a (dyn Fn(usize, u64, &Stop) -> f64 + Sync);

    /// A model of two parameters and a running statistic that a micro-batch moves and uses.
    fn train(world: Rc<dyn Communicator>, options: &[&str], factor: Factor<'_>) -> Result<PathBuf> {
        let rank = world.rank();
        with_world(world, || {
            let args = Args::parse_from([&["toy", "--quiet"], options].concat()).run;
            let config: Config = args.config(&[("default", DEFAULT)])?;
            let mut run = Run::start("toy", &args, &config::to_toml(&config)?, config.seed)?;
            run.identify("data", "of all")?;
            let key = Key::from_seed(config.seed);
            // Elsewhere on each rank: it is the first one that counts.
            let params = Params::new(key.fold_in(rank as u64), DType::F32, &Device::Cpu);
            let normal = candle_nn::Init::Randn { mean: 0., stdev: 1. };
            let a = params.var_builder().get_with_hints((2, 3), "a", normal)?;
            let b = params.var_builder().get_with_hints(1, "b", normal)?;
            let baseline = params.statistic("baseline", &Tensor::new(&[0f32], &Device::Cpu)?)?;
            let (stop, directory) = (run.stop(), run.directory().to_path_buf());
            run.train(
                &config.train,
                &params,
                BATCH,
                &mut |micro| {
                    let shape = (micro.share(BATCH)?, 2, 3);
                    let noise = key.named("noise").fold_in(micro.index);
                    let noise = noise.normal(shape, DType::F32, &Device::Cpu)?;
                    let distance = a.broadcast_sub(&noise)?.sqr()?.mean_all()?;
                    baseline
                        .set(&((&*baseline * 0.9)? + (distance.detach() * 0.1)?.unsqueeze(0)?)?)?;
                    let loss = (distance + ((&b - &baseline.detach())?.sqr()?).mean_all()?)?;
                    let loss = (loss * factor(rank, micro.index, &stop))?;
                    let report = Report::new().mean("loss", &loss).number("rate", 0.1);
                    Ok(Step { loss, learning_rate: 0.1, report })
                },
                &mut |evaluation| {
                    let numbers: Vec<f32> = a.flatten_all()?.to_vec1()?;
                    let of = |i| Ok(vec![Tensor::new(&[numbers[i], i as f32], &Device::Cpu)?]);
                    // The order counts.
                    let mut sum = 0.;
                    evaluation.share(5, of, |all| {
                        sum = sum * 0.7 + f64::from(all[0].sum_all()?.to_scalar::<f32>()?);
                        Ok(())
                    })?;
                    evaluation.record("valid", &Report::new().number("sum", sum))
                },
            )?;
            run.finish()?;
            Ok(directory)
        })
    }

    fn plain(_: usize, _: u64, _: &Stop) -> f64 {
        1.
    }

    /// What each of so many ranks ended with.
    fn on(
        ranks: usize,
        options: &[&str],
        factor: Factor<'_>,
    ) -> Vec<Result<PathBuf, (u8, String)>> {
        let told = |error: Error| (error.exit_code(), error.to_string());
        if ranks == 1 {
            return vec![train(Rc::new(Single), options, factor).map_err(told)];
        }
        on_threads(ranks, |world| train(Rc::new(world.clone()), options, factor).map_err(told))
    }

    /// Every byte of the science of a run.
    fn science(directory: &Path) -> BTreeMap<String, Vec<u8>> {
        let names = ["metrics.jsonl", "STATUS", "config.toml"].map(str::to_owned);
        let of_checkpoint = ["model.safetensors", "optimizer.safetensors", "state.json"];
        let last = of_checkpoint.map(|name| format!("checkpoints/step-12/{name}"));
        let read = |name: String| (name.clone(), fs::read(directory.join(name)).unwrap());
        names.into_iter().chain(last).map(read).collect()
    }

    fn directories(out: &Path) -> Vec<PathBuf> {
        fs::read_dir(out.join("toy")).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    #[test]
    fn any_number_of_ranks_gives_the_same_bytes_in_one_directory() {
        let mut all = Vec::new();
        for ranks in [1, 2, 4] {
            let out = tempfile::tempdir().unwrap();
            let ends = on(ranks, &["--out", out.path().to_str().unwrap()], &plain);
            let directory = ends[0].clone().unwrap();
            assert!(ends.iter().all(|end| *end == Ok(directory.clone())), "{ends:?}");
            assert_eq!(directories(out.path()), std::slice::from_ref(&directory));
            all.push(science(&directory));
        }
        assert_eq!(all[0], all[1]);
        assert_eq!(all[0], all[2]);
        let lines = String::from_utf8(all[0]["metrics.jsonl"].clone()).unwrap();
        assert!(lines.contains("\"rate\":0.1,") && lines.lines().count() == 9, "{lines}");
    }

    #[test]
    fn a_rank_that_is_asked_stops_all_and_another_number_of_them_goes_on() {
        let out = tempfile::tempdir().unwrap();
        let out = out.path().to_str().unwrap();
        let straight = on(1, &["--out", out], &plain).remove(0).unwrap();
        // Micro-batch 23 is the last one of step 5, and with two ranks that of the second.
        let ask = |rank: usize, index: u64, stop: &Stop| {
            if index == 23 && rank == 1 {
                stop.request();
            }
            1.
        };
        let elsewhere = format!("{out}/other");
        let ends = on(2, &["--out", &elsewhere], &ask);
        assert!(ends.iter().all(|end| matches!(end, Err((75, _)))), "{ends:?}");
        let run = directories(Path::new(&elsewhere)).remove(0);
        assert_eq!(
            fs::read_to_string(run.join("STATUS")).unwrap(),
            "interrupted: request at step 6\n"
        );
        let ends = on(4, &["--resume", run.to_str().unwrap()], &plain);
        assert!(ends.iter().all(Result::is_ok), "{ends:?}");
        assert_eq!(science(&run), science(&straight));
    }

    #[test]
    fn a_loss_that_is_not_finite_on_one_rank_is_found_by_all() {
        let out = tempfile::tempdir().unwrap();
        let spoil = |_: usize, index: u64, _: &Stop| if index == 21 { f64::NAN } else { 1. };
        let ends = on(2, &["--out", out.path().to_str().unwrap()], &spoil);
        for end in &ends {
            let Err((77, text)) = end else { panic!("{ends:?}") };
            assert!(text.contains("`loss` of its report") && text.contains("step 5"), "{text}");
        }
        let run = directories(out.path()).remove(0);
        assert!(run.join("checkpoints/step-4").is_dir());
        assert!(fs::read_to_string(run.join("STATUS")).unwrap().starts_with("failed: "));
    }

    #[test]
    fn a_finished_run_has_nothing_to_do_and_parameters_may_come_from_it() {
        let out = tempfile::tempdir().unwrap();
        let out = out.path().to_str().unwrap();
        let run = on(2, &["--out", out], &plain).remove(0).unwrap();
        let before = science(&run);
        for ranks in [2, 1] {
            let ends = on(ranks, &["--resume", run.to_str().unwrap()], &plain);
            assert!(ends.iter().all(Result::is_ok), "{ends:?}");
        }
        assert_eq!(science(&run), before);

        let exported = format!("{out}/exported");
        gumbel_training::export(&run, Path::new(&exported), |_| String::new()).unwrap();
        let start = ["--init", &exported, "--steps", "0", "--out"];
        let runs = [1, 4].map(|ranks| {
            let elsewhere = format!("{out}/from-{ranks}");
            let ends = on(ranks, &[&start[..], &[&elsewhere]].concat(), &plain);
            let run = ends[0].clone().unwrap();
            assert!(ends.iter().all(|end| *end == Ok(run.clone())), "{ends:?}");
            fs::read(run.join("checkpoints/step-0/model.safetensors")).unwrap()
        });
        assert_eq!(runs[0], runs[1]);
        assert_eq!(runs[0], fs::read(run.join("checkpoints/step-12/model.safetensors")).unwrap());
    }

    #[test]
    fn all_need_the_same_options() {
        let out = tempfile::tempdir().unwrap();
        let out = out.path().to_str().unwrap();
        let ends = on_threads(2, |world| {
            let steps = ["12", "13"][world.rank()];
            // The first one would wait for the other, which does not come.
            if world.rank() == 0 {
                with_world(Rc::new(world.clone()), || {
                    let args =
                        Args::parse_from(["toy", "--quiet", "--out", out, "--steps", steps]).run;
                    let config: Config = args.config(&[("default", DEFAULT)]).unwrap();
                    Run::start("toy", &args, &config::to_toml(&config).unwrap(), 3).map(drop)
                })
                .map_err(|error| error.to_string())
            } else {
                let options = ["--out", out, "--steps", steps];
                train(Rc::new(world.clone()), &options, &plain)
                    .map(drop)
                    .map_err(|error| error.to_string())
            }
        });
        assert_eq!(ends[0], Ok(()));
        assert!(ends[1].as_ref().unwrap_err().contains("same options"), "{ends:?}");
    }

    #[test]
    fn the_gradient_is_the_mean_over_micro_batches() {
        let norms = |micro_batches: &str| {
            let out = tempfile::tempdir().unwrap();
            let set = format!("train.micro_batches={micro_batches}");
            // Of a step's only micro-batch, or in the mean of all four, the factor is 2.5.
            let factor = |_: usize, index: u64, _: &Stop| match micro_batches {
                "1" => 2.5,
                _ => (index % 4 + 1) as f64,
            };
            let options = ["--out", out.path().to_str().unwrap(), "--set", &set, "--steps", "1"];
            let run = on(1, &options, &factor).remove(0).unwrap();
            let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
            let line: serde_json::Value =
                serde_json::from_str(text.lines().next().unwrap()).unwrap();
            line["grad_norm"].as_f64().unwrap()
        };
        // Noise differs; the parameter's own share of the gradient is large.
        let (whole, parts) = (norms("1"), norms("4"));
        assert!((whole / parts - 1.).abs() < 0.3, "{whole} {parts}");
    }

    #[test]
    fn what_cannot_be_shared_is_refused_with_a_way_out() {
        let out = tempfile::tempdir().unwrap();
        let out = out.path().to_str().unwrap();
        for end in on(3, &["--out", out], &plain) {
            let (code, text) = end.unwrap_err();
            assert!(code == 2 && text.contains("--set train.micro_batches=3"), "{code} {text}");
        }
        for end in on(1, &["--out", out, "--set", "train.micro_batches=3"], &plain) {
            let (code, text) = end.unwrap_err();
            assert!(
                code == 2 && text.contains("8 examples") && text.contains("= 3"),
                "{code} {text}"
            );
        }
    }
}
