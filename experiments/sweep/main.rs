//! Sweeps: `just sweep run FILE`, see README.md.
mod collect;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args as Options, Parser, Subcommand};
use gumbel_experiments::{say, told};
use gumbel_sweep::{Case, Error, Event, Job, Place, Requests, Slurm, State, Sweep, work};

/// Run a grid of configurations times seeds, some at a time or as an array of jobs.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
struct Args {
    #[command(subcommand)]
    command: Task,
}

const EXAMPLES: &str = "\
Examples:
  sweep status experiments/sweep/temperature.toml            the list, and how far each case is
  sweep run experiments/sweep/temperature.toml --jobs 2      run what is not done; the same command goes on
  sweep run experiments/sweep/temperature.toml --index 7     one case: what a scheduler calls
  sweep slurm experiments/sweep/temperature.toml --submit -- --time=4:00:00 --mem=4G
  sweep collect experiments/sweep/temperature.toml --split test

Exit codes: 0 done, 2 wrong option or sweep, 70 a run failed, 74 input/output, 75 something is left: the same command goes on";

#[derive(Debug, Subcommand)]
enum Task {
    /// Run every case that is not done, or go on with it
    #[command(visible_alias = "resume")]
    Run {
        #[command(flatten)]
        what: What,
        /// Only this case; its number is in the list of `status`
        #[arg(long, value_name = "N")]
        index: Option<usize>,
        /// Runs at a time; each has an equal share of the cores
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
        jobs: u16,
    },
    /// Say how far each case is
    Status {
        #[command(flatten)]
        what: What,
    },
    /// Print the batch script that runs the cases as an array of jobs of Slurm, or submit it
    Slurm {
        #[command(flatten)]
        what: What,
        /// Most jobs that run at a time
        #[arg(long, value_name = "N")]
        at_once: Option<usize>,
        /// Give the script to sbatch
        #[arg(long)]
        submit: bool,
        /// Further options of sbatch, after `--`
        #[arg(last = true, value_name = "SBATCH OPTION")]
        options: Vec<String>,
    },
    /// Write what is done into one table of runs, one of groups over seeds, and one page
    Collect {
        #[command(flatten)]
        what: What,
        /// Whose numbers: train, valid or test
        #[arg(long, default_value = "test")]
        split: String,
    },
}

#[derive(Clone, Debug, Options)]
struct What {
    /// The sweep
    file: PathBuf,
    /// Directory for the directories of runs
    #[arg(long, value_name = "DIR", default_value = "runs")]
    out: PathBuf,
    /// Where the data sets are looked for first; then GUMBEL_DATA_DIR, data/ and the user's cache
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Args::parse().command) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {}", told(&error));
            let of_sweep = error.downcast_ref().map(Error::exit_code);
            let of_report = error.downcast_ref().map(gumbel_report::Error::exit_code);
            ExitCode::from(of_sweep.or(of_report).unwrap_or(74))
        }
    }
}

/// A sweep, and where its runs are.
struct Opened {
    sweep: Sweep,
    place: Place,
}

impl Opened {
    fn new(what: &What) -> Result<Self> {
        let sweep = Sweep::read(&what.file)?;
        let (config, args) = (sweep.config.clone(), sweep.args.clone());
        let place = Place::new(&sweep.program, config, args, &what.out, what.data_dir.clone())?;
        Ok(Self { sweep, place })
    }

    fn label(&self, index: usize, case: &Case) -> String {
        let pairs = self.sweep.keys.iter().zip(&case.values);
        let values: Vec<String> = pairs.map(|(key, value)| format!("{key}={value}")).collect();
        format!("{index:>3}  {} seed={}", values.join(" "), case.seed)
    }

    fn job(&self, index: usize, case: &Case) -> Result<(Job, State)> {
        let label = self.label(index, case);
        let job = self.place.job(&label, &self.sweep.name, case.set.clone(), case.seed)?;
        let state = self.place.state(&job)?;
        Ok((job, state))
    }

    /// One case, or all.
    fn jobs(&self, index: Option<usize>) -> Result<Vec<(Job, State)>> {
        let cases = self.sweep.cases.iter().enumerate();
        let Some(index) = index else {
            return cases.map(|(index, case)| self.job(index, case)).collect();
        };
        let count = self.sweep.cases.len();
        let case = self.sweep.cases.get(index).ok_or_else(|| {
            Error::Usage(format!("--index {index}: the sweep has cases 0 to {}", count - 1))
        })?;
        Ok(vec![self.job(index, case)?])
    }
}

fn run(task: &Task) -> Result<u8> {
    match task {
        Task::Run { what, index, jobs } => run_cases(what, *index, *jobs),
        Task::Status { what } => {
            let jobs = Opened::new(what)?.jobs(None)?;
            let done = jobs.iter().filter(|(_, state)| matches!(state, State::Done(_))).count();
            jobs.iter().for_each(|(job, state)| say(&format!("{}: {}", job.label, stands(state))));
            say(&format!("{done} of {} runs are done", jobs.len()));
            Ok(0)
        }
        Task::Slurm { what, at_once, submit, options } => {
            let script = script(what, *at_once, options)?;
            if *submit {
                give_to_sbatch(&script)?;
            } else {
                say(script.trim_end());
            }
            Ok(0)
        }
        Task::Collect { what, split } => {
            let opened = Opened::new(what)?;
            let jobs = opened.jobs(None)?;
            collect::collect(&opened.sweep, &jobs, &what.out, split)?;
            Ok(0)
        }
    }
}

fn run_cases(what: &What, index: Option<usize>, at_once: u16) -> Result<u8> {
    let mut requests = Requests::listen()?;
    let opened = Opened::new(what)?;
    let mut jobs = opened.jobs(index)?;
    let outcome =
        work::<Error>(jobs.clone(), at_once.into(), &opened.place, &mut requests, &mut |event| {
            match event {
                Event::Begins(job, state) => say(&format!("{}: {state}", job.label)),
                Event::Ended(job, ended) => say(&format!("{}: {ended}", job.label)),
            }
            Ok(())
        })?;
    if index.is_none() {
        for (job, state) in &mut jobs {
            *state = opened.place.state(job)?;
        }
        if jobs.iter().any(|(_, state)| matches!(state, State::Done(_))) {
            collect::collect(&opened.sweep, &jobs, &what.out, "test")?;
        }
    }
    say(&outcome.to_string());
    Ok(outcome.code())
}

/// How a case stands, with the first line of the `STATUS` of its run.
fn stands(state: &State) -> String {
    let State::Begun(directory) = state else {
        return state.to_string().replace("begins", "not begun");
    };
    let status = std::fs::read_to_string(directory.join("STATUS")).unwrap_or_default();
    format!("{} in {}", status.lines().next().unwrap_or("begun"), directory.display())
}

fn script(what: &What, at_once: Option<usize>, options: &[String]) -> Result<String> {
    let opened = Opened::new(what)?;
    let absolute = |path: &Path| {
        std::path::absolute(path).with_context(|| format!("the full path of {}", path.display()))
    };
    let text = |path: PathBuf| path.to_string_lossy().into_owned();
    let out = absolute(&what.out)?;
    let logs = out.join("slurm").join(gumbel_sweep::plain(&opened.sweep.name));
    std::fs::create_dir_all(&logs).with_context(|| format!("creating {}", logs.display()))?;
    let this = std::env::current_exe().context("finding this program")?;
    let mut command = vec![text(this), "run".to_owned(), text(absolute(&what.file)?)];
    command.extend(["--out".to_owned(), text(out)]);
    if let Some(data_dir) = &what.data_dir {
        command.extend(["--data-dir".to_owned(), text(absolute(data_dir)?)]);
    }
    let cases = opened.sweep.cases.len();
    let name = gumbel_sweep::plain(&opened.sweep.name);
    let slurm = Slurm { name: &name, cases, at_once, options, logs: &logs, command: &command };
    Ok(slurm.script())
}

fn give_to_sbatch(script: &str) -> Result<()> {
    let sbatch = Command::new("sbatch").stdin(Stdio::piped()).spawn();
    let mut sbatch = match sbatch {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => bail!(Error::Usage(
            "there is no sbatch here; run this on a machine of the cluster, or leave out --submit to see the script".into()
        )),
        other => other.context("starting sbatch")?,
    };
    let mut input = sbatch.stdin.take().context("sbatch takes no script")?;
    input.write_all(script.as_bytes()).context("giving the script to sbatch")?;
    drop(input);
    let status = sbatch.wait().context("waiting for sbatch")?;
    ensure!(status.success(), Error::Usage("sbatch refused, see its message above".into()));
    Ok(())
}
