//! Rows 5, 6, 7 and 15: what is read, and what is named.
use std::fs;
use std::time::Instant;

use anyhow::Result;
use gumbel_hostile::{FORMATS, Verdict, bombs, format, quietly, survey};
use gumbel_hub::{Kind, Repository};

use crate::MEMORY;
use crate::run::names;
use crate::scorecard::Outcome;
use crate::world::World;

/// The most memory since it was last asked with true.
fn peak(reset: bool) -> usize {
    if reset {
        MEMORY.reset_peak_usage();
    }
    MEMORY.peak_usage()
}

/// Thousands of mutations of every format.
pub(crate) fn hostile_input(world: &World) -> Result<Outcome> {
    let folder = world.folder("hostile")?;
    let count = world.pick(200, 10_000);
    let (mut accepted, mut refused, mut complaints) = (0, 0, Vec::new());
    for format in FORMATS {
        let format = if world.sabotage { format.panicking() } else { format };
        let found = quietly(|| survey(&format, &folder, 0, count, &peak));
        accepted += found.accepted;
        refused += found.refused;
        complaints.extend(found.complaints);
    }
    let figure = format!(
        "{count} mutations of each of {} formats: {refused} refused with file and reason, {accepted} still valid, {} panics, floods or bad messages",
        FORMATS.len(),
        complaints.len()
    );
    Ok(Outcome::of(figure, &complaints))
}

/// Files that lie about their size.
pub(crate) fn bombs_do_not_go_off(world: &World) -> Result<Outcome> {
    let folder = world.folder("hostile")?;
    let (mut slowest, mut largest, mut complaints) = (0f64, 0, Vec::new());
    let all = bombs(world.pick(1, 10))?;
    for bomb in &all {
        let before = peak(true);
        let start = Instant::now();
        let verdict = format(bomb.format).map(|format| format.read(&folder, &bomb.bytes));
        let seconds = start.elapsed().as_secs_f64();
        let taken = peak(false).saturating_sub(before);
        slowest = slowest.max(seconds);
        largest = largest.max(taken);
        let most = if world.sabotage { 0 } else { 256 << 20 };
        let refused = matches!(verdict, Some(Verdict::Refused(_)));
        let slow = seconds > world.pick(5., 1.);
        let wrong = refused == bomb.valid || slow || taken > most;
        complaints.extend(
            wrong.then(|| {
                format!("{}: {verdict:?} after {seconds:.2} s and {taken} bytes", bomb.name)
            }),
        );
    }
    let figure = format!(
        "{} files, the slowest in {slowest:.2} s, the largest with {:.1} MiB",
        all.len(),
        largest as f64 / f64::from(1 << 20)
    );
    Ok(Outcome::of(figure, &complaints))
}

/// Names that would lead out of their place, or hide in it.
const NAMES: [&str; 8] =
    ["..", ".", "../outside", "/outside", "a\\b", "~/outside", ".hidden", "a/../../outside"];

/// Names of runs, of repositories, of revisions and of files in them.
pub(crate) fn no_way_out(world: &World) -> Result<Outcome> {
    let place = world.folder("inside/place")?;
    let outside = || -> Vec<String> {
        let around = names(&world.path("inside")).into_iter().chain(names(&world.path(".")));
        around.chain(names(std::path::Path::new("/"))).collect()
    };
    let before = outside();
    let (mut cases, mut complaints) = (0, Vec::new());
    let mut case = |what: String, refused: bool| {
        cases += 1;
        complaints.extend((!refused || world.sabotage).then(|| format!("{what} was taken")));
    };
    let config = ["--config", "vae.toml", "--steps", "1", "--quiet", "--out", "inside/place"];
    for name in NAMES {
        let name = format!("--name={name}");
        let ended = world.run("vae", &[&config[..], &[&name]].concat())?;
        case(format!("run {name}"), ended.code == Some(2));
    }
    for name in NAMES {
        let repository = format!("owner/{name}");
        case(
            format!("repository {repository}"),
            Repository::new(Kind::Model, &repository, "main").is_err(),
        );
        case(
            format!("revision {name}"),
            Repository::new(Kind::Model, "owner/model", name).is_err(),
        );
    }
    if !names(&place).is_empty() {
        complaints.push(format!("something was made: {:?}", names(&place)));
    }
    if outside() != before {
        complaints.push("there is something outside of the place".to_owned());
    }
    let figure = format!("{cases} names refused, no file anywhere; of hubs see row 13");
    Ok(Outcome::of(figure, &complaints))
}

/// Options that are wrong, and what the programs say, in the order of the file.
const WRONG: &str = include_str!("wrong.txt");

/// The words of a command, which are in single quotes where there are spaces in them.
fn words(command: &str) -> Vec<&str> {
    let parts = command.split('\'').enumerate();
    let words = parts.flat_map(|(number, part)| match number % 2 {
        1 => vec![part],
        _ => part.split(' ').filter(|word| !word.is_empty()).collect(),
    });
    words.collect()
}

/// Every wrong option ends with 2, names key and value, and says what it has always said.
pub(crate) fn wrong_configurations(world: &World) -> Result<Outcome> {
    let (mut count, mut complaints, mut fresh) = (0, Vec::new(), String::new());
    for case in format!("\n{WRONG}").split("\n$ ").skip(1) {
        let (command, expected) = case.split_once('\n').unwrap_or((case, ""));
        let (words, expected) = (words(command), expected.trim_end());
        let Some((program, options)) = words.split_first() else { continue };
        let ended = world.run(program, options)?;
        // Of the devices that this build has.
        let lines = ended.text.lines().filter(|line| !line.starts_with("device: "));
        let said = lines.collect::<Vec<_>>().join("\n");
        let said = said.trim_end();
        let keys = options.iter().filter_map(|option| option.split_once('=')).map(|(key, _)| key);
        let unnamed = keys.filter_map(|key| key.rsplit('.').next()).find(|key| !said.contains(key));
        complaints.extend(unnamed.map(|key| format!("{command} does not name {key}: {said}")));
        count += 1;
        fresh += &format!("$ {command}\n{said}\n\n");
        let said = if world.sabotage { "nothing" } else { said };
        if ended.code != Some(2) {
            complaints.push(format!("{command}: exit code {:?}", ended.code));
        } else if said != expected {
            complaints.push(format!("{command} says: {said}"));
        }
    }
    if let Some(file) = &world.record {
        fs::write(file, &fresh)?;
    }
    let figure = format!("{count} wrong configurations end with 2 and the message on record");
    Ok(Outcome::of(figure, &complaints))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_parted_as_a_shell_would() {
        let expected = ["vae", "--set", "model.encoder=[1, 2]", "--quiet"];
        assert_eq!(words("vae  --set 'model.encoder=[1, 2]' --quiet"), expected);
    }

    #[test]
    fn there_are_two_hundred_wrong_configurations() {
        let cases: Vec<&str> = WRONG.lines().filter(|line| line.starts_with("$ ")).collect();
        let mut distinct = cases.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert!(distinct.len() >= 200, "{}", distinct.len());
        assert_eq!(distinct.len(), cases.len(), "some are there twice");
    }
}
