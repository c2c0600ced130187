//! Jobs of a program made for the test: some fail, one diverges, one is asked to stop, and the others go on.
#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::{Path, PathBuf};
    use std::sync::Mutex;

    use gumbel_sweep::{Error, Event, Job, Outcome, Place, Requests, State, work};

    /// Takes the options of a run; the value of `kind` says how it ends.
    const PROGRAM: &str = r#"#!/bin/bash
set="" resume=""
while [ $# -gt 0 ]; do
    case $1 in
        --print-config) print=1 ;;
        --quiet) ;;
        --set) set="$2"; shift ;;
        *) declare "${1#--}=$2"; shift ;;
    esac
    shift
done
config="seed = $seed
$set"
if [ -n "$print" ]; then
    [ "$set" = kind=wrong ] && { echo "error: no kind wrong" >&2; exit 2; }
    echo "$config"; exit
fi
run="$resume"
if [ -z "$run" ]; then
    run="$out/fake/20260101-000000-$name-s$seed-$(printf %06x $$)"
    mkdir -p "$run"
    echo "$config" > "$run/config.toml"
fi
echo "$threads" >> "$run/threads"
case $(tail -n 1 "$run/config.toml") in
    kind=fail) echo "failed: no reason" > "$run/STATUS"; exit 65 ;;
    kind=diverge) echo "failed: not finite" > "$run/STATUS"; exit 77 ;;
    kind=slow)
        if [ -z "$resume" ]; then
            trap 'echo "interrupted: SIGINT" > "$run/STATUS"; exit 75' TERM
            echo running > "$run/STATUS"
            while :; do sleep 0.02; done
        fi ;;
    kind=silent) exit 0 ;;
esac
echo done > "$run/STATUS"
"#;

    /// Signals are those of the process: one test at a time.
    static ONE: Mutex<()> = Mutex::new(());

    fn place(folder: &Path) -> Place {
        let program = folder.join("fake");
        fs::write(&program, PROGRAM).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        Place::new(&program, None, vec![], &folder.join("runs"), None).unwrap()
    }

    fn jobs(place: &Place, kinds: &[&str]) -> Vec<(Job, State)> {
        let job = |(i, kind): (usize, &&str)| {
            let job = place.job(kind, "t/1", vec![format!("kind={kind}")], i as u64).unwrap();
            let state = place.state(&job).unwrap();
            (job, state)
        };
        kinds.iter().enumerate().map(job).collect()
    }

    fn done(
        place: &Place,
        jobs: Vec<(Job, State)>,
        at_once: usize,
        tell: &mut dyn FnMut(&Event<'_>),
    ) -> (Outcome, Vec<String>) {
        let mut said = Vec::new();
        let mut requests = Requests::listen().unwrap();
        let outcome = work::<Error>(jobs, at_once, place, &mut requests, &mut |event| {
            tell(&event);
            said.push(match event {
                Event::Begins(job, State::Begun(_)) => format!("{} goes on", job.label),
                Event::Begins(job, _) => format!("{} begins", job.label),
                Event::Ended(job, ended) => {
                    let text = ended.to_string();
                    format!("{}: {}", job.label, text.split(" after").next().unwrap_or_default())
                }
            });
            Ok(())
        });
        (outcome.unwrap(), said)
    }

    #[test]
    fn one_failure_stops_no_other_and_what_is_done_is_not_done_again() {
        let _one = ONE.lock();
        let folder = tempfile::tempdir().unwrap();
        let place = place(folder.path());
        let kinds = ["good", "fail", "diverge", "silent", "good"];
        let (outcome, said) = done(&place, jobs(&place, &kinds), 1, &mut |_| ());
        assert_eq!(outcome, Outcome { done: 2, failed: 3, left: 0 });
        assert_eq!(outcome.code(), 70);
        let expected = [
            "good begins",
            "good: done",
            "fail begins",
            "fail: FAILED with exit code 65, see its message above",
            "diverge begins",
            "diverge: FAILED: not finite (exit code 77)",
            "silent begins",
            "silent: FAILED: ended without a result",
            "good begins",
            "good: done",
        ];
        assert_eq!(said, expected);
        let (outcome, said) = done(&place, jobs(&place, &kinds), 2, &mut |_| ());
        assert_eq!((outcome.done, outcome.failed), (2, 3));
        assert!(!said.iter().any(|line| line.starts_with("good")), "{said:?}");
        assert!(said.contains(&"fail goes on".to_owned()), "{said:?}");
    }

    #[test]
    fn a_request_stops_what_runs_and_begins_nothing_and_the_next_time_goes_on() {
        let _one = ONE.lock();
        let folder = tempfile::tempdir().unwrap();
        let place = place(folder.path());
        let kinds = ["slow", "slow", "good"];
        // The second run begins: once its trap is set, this process is told to stop.
        let runs = folder.path().join("runs/fake");
        let stop = std::thread::spawn(move || {
            let set = |path: &PathBuf| path.join("STATUS").exists();
            loop {
                let entries = fs::read_dir(&runs).into_iter().flatten().flatten();
                if entries.map(|entry| entry.path()).filter(set).count() == 2 {
                    break signal_hook::low_level::raise(signal_hook::consts::SIGTERM).unwrap();
                }
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        });
        let (outcome, said) = done(&place, jobs(&place, &kinds), 2, &mut |_| ());
        stop.join().unwrap();
        assert_eq!(outcome, Outcome { done: 0, failed: 0, left: 3 });
        assert_eq!(outcome.code(), 75);
        assert_eq!(said.iter().filter(|line| line.contains("stopped")).count(), 2, "{said:?}");
        let (outcome, said) = done(&place, jobs(&place, &kinds), 3, &mut |_| ());
        assert_eq!((outcome.done, outcome.code()), (3, 0));
        assert_eq!(said.iter().filter(|line| line.contains("goes on")).count(), 2, "{said:?}");
        let threads = folder.path().join("runs/fake");
        let entries: Vec<_> = fs::read_dir(threads).unwrap().collect();
        assert_eq!(entries.len(), 3);
    }

    #[test]
    fn a_configuration_that_the_program_refuses_is_said_in_its_words() {
        let folder = tempfile::tempdir().unwrap();
        let place = place(folder.path());
        let error = place.job("a cell", "t", vec!["kind=wrong".into()], 1).unwrap_err();
        assert_eq!(error.to_string(), "a cell: error: no kind wrong");
        let none = Place::new(Path::new("no-such"), None, vec![], folder.path(), None).unwrap_err();
        assert!(none.to_string().contains("--bin no-such"), "{none}");
        assert_eq!(none.exit_code(), 2);
    }
}
