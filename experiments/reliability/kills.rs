//! Rows 1 and 2: processes that are killed, and what comes of their runs.
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use gumbel_kernels::Key;

use crate::run::{
    differences, last_step, look_at_checkpoints, names, science, status, tear_newest_checkpoint,
};
use crate::scorecard::Outcome;
use crate::world::{FOREVER, WATCHED, World, kill, pause, wait_until};

/// Kills a run that saves every fifth step at random moments, from its first instruction on, and looks at what is there.
pub(crate) fn atomic_checkpoints(world: &World) -> Result<Outcome> {
    let kills = world.pick(100, 1000);
    let key = Key::from_seed(1).named("kills");
    let options = [&WATCHED[..5], &["--checkpoint-every", "5"], &FOREVER].concat();
    let (child, run) = world.begin("vae", "killed", &options, 6)?;
    kill(child)?;
    let resume = ["--quiet", "--resume", &run.display().to_string()];
    // From the start of a process to well after its next checkpoint.
    let start = Instant::now();
    let (before, _) = look_at_checkpoints(&run);
    let mut child = world.spawn("vae", &resume)?;
    wait_until(&mut child, || look_at_checkpoints(&run).0 > before)?;
    kill(child)?;
    let longest = start.elapsed() * 5;

    let (mut complaints, mut newest, mut advanced) = (Vec::new(), None, 0);
    for index in 0..kills {
        let mut child = world.spawn("vae", &resume)?;
        pause(key, index, longest);
        if child.try_wait()?.is_some() {
            complaints.push(format!("resuming by hand is needed after kill {index}"));
            break;
        }
        kill(child)?;
        if world.sabotage {
            tear_newest_checkpoint(&run)?;
        }
        let (step, torn) = look_at_checkpoints(&run);
        complaints.extend(torn);
        if step < newest {
            complaints.push(format!("step {newest:?} went back to {step:?}"));
        }
        advanced += u64::from(step > newest);
        newest = step;
    }
    ensure!(advanced > 0, "the run was never left alone for long enough to save");
    let figure = format!(
        "{kills} kills within {} ms of the start, {advanced} of them after a new checkpoint, up to step {}: {} torn or gone back",
        longest.as_millis(),
        newest.unwrap_or(0),
        complaints.len()
    );
    Ok(Outcome::of(figure, &complaints))
}

/// Every estimator; those first that keep something from step to step.
const ESTIMATORS: [&str; 24] = [
    "method='nvil', hidden=5",
    "method='relax', hidden=5",
    "method='leave-one-out', samples=2",
    "method='gumbel-softmax', learned_temperature=true, temperature=0.7",
    "method='rebar', temperature=0.5",
    "method='reinforce'",
    "method='muprop'",
    "method='gumbel-softmax', temperature=0.5",
    "method='straight-through-gumbel-softmax', temperature=0.5",
    "method='straight-through'",
    "method='decoupled-straight-through-gumbel-softmax', forward_temperature=1.0, backward_temperature=0.5",
    "method='gapped-straight-through', temperature=0.5",
    "method='gumbel-rao', temperature=0.5, draws=4",
    "method='gumbel-sparsemax', temperature=0.5",
    "method='gumbel-entmax', temperature=0.5",
    "method='invertible-gaussian', temperature=0.5",
    "method='zgr'",
    "method='reinmax'",
    "method='reinmax-rao', temperature=1.0, draws=4",
    "method='darn'",
    "method='carms', copies=3",
    "method='rodeo', samples=2",
    "method='sum-and-sample', classes=1",
    "method='enumerate'",
];

/// Those for variables of two values.
const BINARY: [&str; 5] = [
    "method='slope-annealed-straight-through', slope=2.0",
    "method='arm'",
    "method='disarm'",
    "method='arms', copies=3",
    "method='double-control-variates', samples=2",
];

/// Whether a run that is killed again and again has the bytes of one that was left alone.
fn same_after_kills(
    world: &World,
    program: &str,
    options: &[&str],
    moments: &[u64],
    key: Key,
) -> Result<(usize, Vec<String>)> {
    const STEPS: u64 = 60;
    let options = [&WATCHED[..], &["--steps", "60"], options].concat();
    let expected = science(&world.train(program, "straight", &options)?, STEPS)?;
    let (child, run) = world.begin(program, "killed", &options, 1)?;
    let mut kills = usize::from(kill(child)?);
    let resume = ["--quiet", "--resume", &run.display().to_string()];
    for (index, step) in moments.iter().enumerate() {
        let mut child = world.spawn(program, &resume)?;
        wait_until(&mut child, || last_step(&run) >= *step)?;
        // Between two steps is a checkpoint, or an evaluation, which takes longer.
        let longest = if step % 20 == 0 { 100_000 } else { 8_000 };
        pause(key, index as u64, Duration::from_micros(longest));
        kills += usize::from(kill(child)?);
    }
    let ended = world.run(program, &resume)?;
    ensure!(ended.code == Some(0), "{program} {options:?}: {}", ended.text);
    if world.sabotage {
        spoil(&run)?;
    }
    let mut complaints = differences(&science(&run, STEPS)?, &expected);
    complaints.extend((status(&run) != "done").then(|| status(&run)));
    let left = names(&run.join("checkpoints"));
    complaints.extend(left.into_iter().filter(|name| !["step-57", "step-60"].contains(&&**name)));
    complaints.extend((kills * 2 < moments.len()).then(|| format!("only {kills} kills")));
    let told = complaints.iter().map(|what| format!("{program} {options:?}: {what}"));
    Ok((kills, told.collect()))
}

/// As if one number of the last line had come out otherwise.
fn spoil(run: &Path) -> Result<()> {
    let file = run.join("metrics.jsonl");
    let text = std::fs::read_to_string(&file)?;
    std::fs::write(&file, text.trim_end().trim_end_matches('}'))?;
    Ok(())
}

/// VAE, language model and every estimator, killed and resumed.
pub(crate) fn exact_resume(world: &World) -> Result<Outcome> {
    let key = Key::from_seed(2).named("resume");
    let often: Vec<u64> = (0..world.pick(6, 20)).map(|i| 1 + i * world.pick(11, 3)).collect();
    let (mut kills, mut equal, mut all, mut complaints) = (0, 0, 0, Vec::new());
    let mut tally = |(killed, different): (usize, Vec<String>)| {
        kills += killed;
        all += 1;
        equal += usize::from(different.is_empty());
        complaints.extend(different);
    };
    for program in ["vae", "lm"] {
        tally(same_after_kills(world, program, &[], &often, key.named(program))?);
    }
    let any = ESTIMATORS.iter().map(|estimator| (estimator, "model.categories=4"));
    let binary = BINARY.iter().map(|estimator| (estimator, "model.categories=2"));
    for (estimator, categories) in any.chain(binary).take(world.pick(3, usize::MAX)) {
        let set = format!("estimator={{{estimator}}}");
        let options = ["--set", &set, "--set", categories];
        tally(same_after_kills(world, "vae", &options, &[7, 20, 41], key.named(estimator))?);
    }
    let figure = format!("{equal}/{all} runs equal in every byte after {kills} kills");
    Ok(Outcome::of(figure, &complaints))
}
