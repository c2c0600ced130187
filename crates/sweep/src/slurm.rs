//! A sweep as an array of jobs of Slurm.
use std::path::Path;

/// What a batch script is made of. All that knows of Slurm is in the script; the programs know numbers of cases.
#[derive(Clone, Debug)]
pub struct Slurm<'a> {
    /// Name of the jobs.
    pub name: &'a str,
    /// Number of cases.
    pub cases: usize,
    /// Most jobs that run at a time; none for as many as there is room for.
    pub at_once: Option<usize>,
    /// Further options of `sbatch`, such as `--time=4:00:00`.
    pub options: &'a [String],
    /// Where the jobs write their messages.
    pub logs: &'a Path,
    /// The command that does one case; `--index N` is put at its end.
    pub command: &'a [String],
}

impl Slurm<'_> {
    /// The script, to be given to `sbatch`.
    ///
    /// Slurm sends SIGUSR1 two minutes before the time is up, and SIGTERM when it takes the machine away: the run writes a
    /// checkpoint and ends with 75, the script puts the job back into the queue, and there it goes on.
    #[must_use]
    pub fn script(&self) -> String {
        let Self { name, cases, at_once, options, logs, command } = self;
        let limit = at_once.map_or_else(String::new, |limit| format!("%{limit}"));
        let last = cases.saturating_sub(1);
        let mut script = format!(
            "#!/bin/bash\n\
             #SBATCH --job-name={name}\n\
             #SBATCH --array=0-{last}{limit}\n\
             #SBATCH --output=\"{logs}/%a.log\"\n\
             #SBATCH --open-mode=append\n\
             #SBATCH --requeue\n\
             #SBATCH --signal=USR1@120\n",
            logs = logs.display().to_string().replace('%', "%%")
        );
        for option in *options {
            script += &format!("#SBATCH {option}\n");
        }
        let command: Vec<String> = command.iter().map(|word| quoted(word)).collect();
        let command = command.join(" ");
        script + &format!("\n{STEP} {command} --index \"$SLURM_ARRAY_TASK_ID\" &\n{WAIT}")
    }
}

/// A step of the job: what Slurm is certain to send its signals to.
const STEP: &str = r#"srun --ntasks=1 --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}""#;

/// Hands on the signals that come to the script itself, waits, and asks for another turn after a checkpoint.
const WAIT: &str = r#"run=$!
trap 'kill -USR1 "$run"' USR1 TERM
# A signal ends `wait` before the run has ended.
while wait "$run"; code=$?; kill -0 "$run" 2>/dev/null; do :; done
if [ "$code" = 75 ]; then
    scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
fi
exit "$code"
"#;

/// A word of a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(command: &[&str]) -> String {
        let command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
        let options = ["--time=1:00".to_owned()];
        let logs = Path::new("logs");
        let slurm = Slurm {
            name: "t",
            cases: 12,
            at_once: Some(2),
            options: &options,
            logs,
            command: &command,
        };
        slurm.script()
    }

    #[test]
    fn the_script_has_the_array_and_the_options_and_one_command() {
        let text = script(&["/a b/sweep", "run", "it's.toml"]);
        for line in [
            "#SBATCH --array=0-11%2",
            "#SBATCH --time=1:00",
            "#SBATCH --output=\"logs/%a.log\"",
            r#"srun --ntasks=1 --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" '/a b/sweep' run 'it'\''s.toml' --index "$SLURM_ARRAY_TASK_ID" &"#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in {text}");
        }
    }

    /// The shell's part, with an `srun` that only runs, a `scontrol` that says what it was asked, and a run that stops on request.
    #[test]
    fn a_signal_is_handed_on_and_a_stopped_run_asks_for_another_turn() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            use std::os::unix::fs::PermissionsExt;
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            path
        };
        write("srun", "#!/bin/bash\nexec \"${@:3}\"\n");
        write("scontrol", "#!/bin/sh\necho \"$@\" > \"$(dirname \"$0\")/asked\"\n");
        let run = write(
            "run",
            "#!/bin/bash\ntrap 'sleep 0.2; exit 75' USR1\ntouch \"$(dirname \"$0\")/ready\"\n\
             while :; do sleep 0.05; done\n",
        );
        let job = write("job", &script(&[run.to_str().unwrap()]));
        let path = std::env::var("PATH").unwrap();
        let mut child = std::process::Command::new("bash")
            .arg(job)
            .env("PATH", format!("{}:{path}", folder.path().display()))
            .env("SLURM_ARRAY_JOB_ID", "7")
            .env("SLURM_ARRAY_TASK_ID", "3")
            .spawn()
            .unwrap();
        while !folder.path().join("ready").exists() {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(75));
        let asked = std::fs::read_to_string(folder.path().join("asked")).unwrap();
        assert_eq!(asked, "requeue 7_3\n");
    }
}
