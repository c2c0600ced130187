//! Rows 8 and 9: numbers that are none, and numbers that are the same everywhere.
use std::path::Path;

use anyhow::{Context, Result};
use candle_core::DType;
use gumbel_training::checkpoint::Checkpoint;

use crate::run::{differences, lines, science, status};
use crate::scorecard::Outcome;
use crate::world::{Ended, World, small};

/// Ways to come to numbers that are not finite, and whether they have to.
const EXTREMES: [(&str, bool); 6] = [
    // 1e-3 for one step, then more than single precision has.
    ("learning_rate={kind='linear', start=1e-3, end=1e39, steps=1}", true),
    ("learning_rate={kind='constant', value=1e30}", true),
    ("learning_rate={kind='constant', value=1e6}", false),
    ("estimator={method='gumbel-softmax', temperature=1e-30}", false),
    ("estimator={method='straight-through-gumbel-softmax', temperature=1e-30}", false),
    ("estimator={method='reinmax', temperature=1e-30}", false),
];

/// Learning rates and temperatures beyond reason.
pub(crate) fn not_finite(world: &World) -> Result<Outcome> {
    let (mut stopped, mut complaints, mut said) = (0, Vec::new(), String::new());
    for (set, must) in EXTREMES {
        world.folder("extreme")?;
        let config =
            ["--config", "vae.toml", "--quiet", "--out", "extreme", "--checkpoint-every", "1"];
        let more = ["--set", set, "--set", "model.decoder=[8]", "--set", "train.log_every=1"];
        let ended = world.run("vae", &[&config[..], &more].concat())?;
        let run = world.only_run("vae", "extreme")?.context("there is no run")?;
        stopped += usize::from(ended.code == Some(77));
        let wrong = extreme(world, &run, &ended, must)?;
        complaints.extend(wrong.map(|wrong| format!("{set}: {wrong}")));
        if ended.code == Some(77) && said.is_empty() {
            said = ended
                .text
                .lines()
                .find(|line| line.contains("error"))
                .unwrap_or_default()
                .to_owned();
        }
    }
    let figure = format!(
        "{stopped} of {} ended with 77 (\"{said}\"), the others with finite numbers; every checkpoint kept is finite",
        EXTREMES.len()
    );
    Ok(Outcome::of(figure, &complaints))
}

fn extreme(world: &World, run: &Path, ended: &Ended, must: bool) -> Result<Option<String>> {
    match ended.code {
        Some(77)
            if !["the loss", "gradient of `", "parameter `"]
                .iter()
                .any(|what| ended.text.contains(what)) =>
        {
            return Ok(Some(format!("does not say what: {}", ended.text)));
        }
        Some(77) if !status(run).starts_with("failed: ") => return Ok(Some(status(run))),
        Some(77) => {}
        Some(0) if !must => {}
        code => return Ok(Some(format!("exit code {code:?}: {}", ended.text))),
    }
    // What was written down before is finite, too.
    let written = lines(run).iter().any(|line| line.contains("null") || line.contains("NaN"));
    if written || world.sabotage {
        return Ok(Some("numbers that are none were written down".to_owned()));
    }
    let Some(kept) = Checkpoint::newest(&run.join("checkpoints"))? else {
        // At once, before there was a good one; each step that is done is saved.
        let done = !lines(run).is_empty();
        return Ok(done.then(|| "the last good checkpoint is gone".to_owned()));
    };
    for (name, tensor) in &kept.model {
        let sum = tensor.to_dtype(DType::F64)?.abs()?.sum_all()?.to_scalar::<f64>()?;
        if !sum.is_finite() {
            return Ok(Some(format!("{name} in the checkpoint is not finite")));
        }
    }
    Ok(None)
}

/// The same seed over threads, processes and builds.
pub(crate) fn same_everywhere(world: &World) -> Result<Outcome> {
    // Matrix products below 40 million multiply-adds stay on one thread; 500 x 128 x 784 are 50 million.
    let large = ["--set", "model.decoder=[128]", "--set", "batch_size=500", "--steps", "4"];
    let (mut runs, mut complaints) = (0, Vec::new());
    for (program, options) in [("vae", &large[..]), ("lm", &["--steps", "4"])] {
        let run = |program: &str, out: &str, more: &[&str]| -> Result<_> {
            science(&world.train(program, out, &[&["--quiet"], options, more].concat())?, 4)
        };
        let first = run(program, "first", &["--threads", "1"])?;
        let mut compare = |what: String, other| {
            runs += 1;
            let different = differences(&first, &other);
            complaints.extend(
                (!different.is_empty()).then(|| format!("{program} {what}: {different:?}")),
            );
        };
        for threads in ["1", "2", "3", "7"] {
            let seed = if world.sabotage { ["--seed", "2"] } else { ["--seed", "1"] };
            let other = run(program, "other", &[&["--threads", threads], &seed[..]].concat())?;
            compare(format!("with {threads} threads"), other);
        }
        if let Some(build) = world.other_build(program)?.filter(|_| !world.quick) {
            world.folder("build")?;
            let command = std::process::Command::new(&build);
            let all = [small(program), &["--out", "build", "--quiet"], options].concat();
            let ended: Ended = world.shielded(command, &all).output()?.into();
            anyhow::ensure!(ended.code == Some(0), "{}: {}", build.display(), ended.text);
            let run = world.only_run(program, "build")?.context("there is no run")?;
            compare(format!("built as {}", build.display()), science(&run, 4)?);
        }
    }
    let figure = format!(
        "{runs} runs equal in every byte: 1, 2, 3 and 7 threads, two processes{}",
        if !world.quick && world.other_build("vae")?.is_some() {
            ", debug and release build"
        } else {
            ""
        }
    );
    Ok(Outcome::of(figure, &complaints))
}
