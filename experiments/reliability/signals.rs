//! Rows 10 and 11: requests to stop, and two who want the same run.
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use gumbel_kernels::Key;
use rustix::process::Signal;

use crate::run::{lines, names, status, step_of};
use crate::scorecard::Outcome;
use crate::world::{FOREVER, WATCHED, World, kill, pause, send, wait_until};

const SIGNALS: [(Signal, &str); 4] = [
    (Signal::INT, "SIGINT"),
    (Signal::TERM, "SIGTERM"),
    (Signal::USR1, "SIGUSR1"),
    (Signal::HUP, "SIGHUP"),
];

/// The longest that a process may take to follow; machines that do other things beside have more time.
const LONGEST: Duration = Duration::from_secs(2);

/// Four signals at random moments of a run, and the second interrupt of somebody who does not want to wait.
pub(crate) fn asked_to_stop(world: &World) -> Result<Outcome> {
    let each = world.pick(3, 25);
    let key = Key::from_seed(10).named("signals");
    let (mut slowest, mut complaints) = (Duration::ZERO, Vec::new());
    let options = [&WATCHED[..], &FOREVER].concat();
    let (child, run) = world.begin("vae", "asked", &options, 2)?;
    kill(child)?;
    let resume = ["--quiet", "--resume", &run.display().to_string()];
    for index in 0..each * SIGNALS.len() {
        let (signal, name) = SIGNALS[index % SIGNALS.len()];
        let before = lines(&run).len();
        let mut child = world.spawn("vae", &resume)?;
        // It listens from before its first step on.
        wait_until(&mut child, || status(&run) == "running" && lines(&run).len() != before)?;
        pause(key, index as u64, Duration::from_millis(100));
        let start = Instant::now();
        send(&child, if world.sabotage { Signal::KILL } else { signal });
        let code = child.wait()?.code();
        slowest = slowest.max(start.elapsed());
        let said = status(&run);
        let step = said.strip_prefix(&format!("interrupted: {name} at step "));
        let saved = step
            .is_some_and(|step| names(&run.join("checkpoints")).contains(&format!("step-{step}")));
        if code != Some(75) || !saved {
            complaints.push(format!("{name}: exit code {code:?}, {said}, saved: {saved}"));
        }
    }
    if slowest > world.pick(Duration::from_secs(10), LONGEST) {
        complaints.push(format!("the slowest took {slowest:?}"));
    }
    let hurried = second_interrupts(world, world.pick(2, 20), &mut complaints)?;
    let figure = format!(
        "{} signals: a checkpoint and exit 75, the slowest in {:.2} s; {hurried} second interrupts: exit 130",
        each * SIGNALS.len(),
        slowest.as_secs_f64()
    );
    Ok(Outcome::of(figure, &complaints))
}

/// How many second interrupts ended a run whose steps are long at once.
fn second_interrupts(world: &World, count: usize, complaints: &mut Vec<String>) -> Result<usize> {
    let long = ["--set", "batch_size=500", "--set", "model.decoder=[2000, 2000]"];
    let options = [&WATCHED[..], &FOREVER, &long].concat();
    let (mut hurried, longest) = (0, world.pick(Duration::from_secs(10), LONGEST));
    for _ in 0..10 * count {
        if hurried == count {
            break;
        }
        let (mut child, _) = world.begin("vae", "hurried", &options, 1)?;
        send(&child, Signal::INT);
        std::thread::sleep(Duration::from_millis(20));
        send(&child, Signal::INT);
        let start = Instant::now();
        match child.wait()?.code() {
            Some(130) if start.elapsed() < longest => hurried += 1,
            // The step may have ended just between the two, or both came as one.
            Some(75) => {}
            code => complaints.push(format!("second SIGINT: {code:?} after {:?}", start.elapsed())),
        }
    }
    ensure!(hurried > 0, "no second interrupt came in time");
    Ok(hurried)
}

/// Two processes that want the same run, again and again.
pub(crate) fn one_writer(world: &World) -> Result<Outcome> {
    let races = world.pick(5, 100);
    let options = [&WATCHED[..], &FOREVER].concat();
    let (child, run) = world.begin("vae", "shared", &options, 2)?;
    kill(child)?;
    let resume = ["--quiet", "--resume", &run.display().to_string()];
    let mut complaints = Vec::new();
    for race in 0..races {
        let mut both = [world.spawn("vae", &resume)?, world.spawn("vae", &resume)?];
        let [first, second] = &mut both;
        wait_until(first, || second.try_wait().is_ok_and(|ended| ended.is_some()))?;
        // One of them has ended; the other has to be there still, and to go on.
        let ended = [first.try_wait()?, second.try_wait()?].map(|ended| ended.is_some());
        let before = lines(&run).len();
        let other = if ended[0] { second } else { first };
        wait_until(other, || lines(&run).len() > before + 1)?;
        let mut codes = Vec::new();
        for child in &mut both {
            send(child, Signal::TERM);
            codes.push(child.wait()?.code());
        }
        let right = ended[0] != ended[1] && codes == [Some(75); 2];
        if !right || world.sabotage {
            complaints.push(format!("race {race}: {codes:?}"));
        }
    }
    let steps: Vec<Option<u64>> = lines(&run).iter().map(|line| step_of(line)).collect();
    let in_order = steps.windows(2).all(|pair| pair[0].is_some() && pair[0] <= pair[1]);
    let all = steps.len() > races;
    complaints.extend((!all).then(|| format!("only {} lines", steps.len())));
    complaints.extend((!in_order).then(|| "lines of two writers in metrics.jsonl".to_owned()));
    let figure = format!(
        "{races} races: one goes on, the other ends with 75; {} lines in order",
        steps.len()
    );
    Ok(Outcome::of(figure, &complaints))
}
