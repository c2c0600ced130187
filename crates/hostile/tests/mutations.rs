//! Nothing that is read brings a program down.
use std::time::{Duration, Instant};

use gumbel_hostile::{FORMATS, Format, Verdict, bombs, format, quietly, survey};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// How many mutations of each format.
const MUTATIONS: u64 = 10_000;

fn peak(reset: bool) -> usize {
    if reset {
        MEMORY.reset_peak_usage();
    }
    MEMORY.peak_usage()
}

#[test]
fn seeds_are_accepted() {
    let folder = tempfile::tempdir().unwrap();
    for format in FORMATS {
        for (number, seed) in format.seeds.iter().enumerate() {
            assert_eq!(
                format.read(folder.path(), seed),
                Verdict::Accepted,
                "{} {number}",
                format.name
            );
        }
    }
}

/// One test for all, so that memory is that of one reader.
#[test]
fn mutations_are_read_or_refused_with_file_and_reason_and_bombs_do_not_go_off() {
    let folder = tempfile::tempdir().unwrap();
    for format in FORMATS {
        let start = Instant::now();
        let found = quietly(|| survey(&format, folder.path(), 0, MUTATIONS, &peak));
        let (count, seconds) = (found.complaints.len(), start.elapsed().as_secs_f64());
        eprintln!(
            "{}: {} read, {} refused, {seconds:.1} s",
            format.name, found.accepted, found.refused
        );
        assert!(found.complaints.is_empty(), "{count}: {:?}", &found.complaints[..count.min(5)]);
        assert!(found.refused > 0, "{}: nothing was refused", format.name);
    }
    for bomb in bombs(1).unwrap() {
        let before = peak(true);
        let start = Instant::now();
        let verdict = format(bomb.format).unwrap().read(folder.path(), &bomb.bytes);
        assert_eq!(verdict == Verdict::Accepted, bomb.valid, "{}: {verdict:?}", bomb.name);
        assert!(start.elapsed() < Duration::from_secs(5), "{}: {:?}", bomb.name, start.elapsed());
        let taken = peak(false) - before.min(peak(false));
        assert!(taken < 256 << 20, "{} took {taken} bytes", bomb.name);
    }
}

/// The survey sees what it looks for.
#[test]
fn a_panic_a_bad_message_and_a_flood_are_complained_of() {
    let folder = tempfile::tempdir().unwrap();
    let base = *format("state").unwrap();
    let complaints = |broken: Format, peak: &dyn Fn(bool) -> usize| {
        quietly(|| survey(&broken, folder.path(), 0, 50, peak)).complaints
    };
    assert!(complaints(base, &|_| 0).is_empty());
    let mut unnamed = base;
    unnamed.file = Some("other.json");
    assert!(complaints(unnamed, &|_| 0)[0].contains("does not name other.json"));
    assert!(complaints(base, &|_| 1 << 30)[0].contains("took 1073741824 bytes"));
    assert!(complaints(base.panicking(), &|_| 0)[0].contains("panicked"));
}
