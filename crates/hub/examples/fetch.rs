//! A file over a connection that breaks, from a hub of this process: what came is kept, the rest asked for, and what
//! cannot be the file is refused.
//!
//! `cargo run -p gumbel-hub --features mock --example fetch`
use std::cell::RefCell;

use gumbel_hub::mock::{Fault, Mock};
use gumbel_hub::{Hub, Repository, Result};

/// Where a hub has the file.
const PATH: &str = "/owner/name/resolve/main/model.safetensors";
/// Most bytes that are taken.
const MOST: u64 = 1 << 20;

fn published() -> Vec<u8> {
    (0..200_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// Fetches the file from a hub with these faults: its bytes, what part each request asked for, and what the last report of
/// progress said.
fn fetch(faults: Vec<Fault>) -> Result<(Vec<u8>, Vec<String>, u64)> {
    let mock = Mock::new(&[(PATH, &published())], faults);
    let repository: Repository = "owner/name".parse()?;
    let seen = RefCell::new(0);
    let bytes = Hub::at(&mock.url(), None).fetch(
        &repository,
        "model.safetensors",
        MOST,
        &|held, _of| *seen.borrow_mut() = held,
    )?;
    let ranges = mock.requests().into_iter().map(|request| request.range).collect();
    Ok((bytes, ranges, seen.into_inner()))
}

#[expect(clippy::print_stdout, reason = "an example shows its result")]
fn main() -> Result<()> {
    let (bytes, ranges, _) =
        fetch(vec![Fault::Cut(70_000), Fault::Status(503), Fault::Cut(50_000)])?;
    println!("{} bytes, the published ones: {}", bytes.len(), bytes == published());
    for (number, range) in ranges.iter().enumerate() {
        println!("request {number}: {}", if range.is_empty() { "all" } else { range });
    }
    let page = b"<!DOCTYPE html><html>log in</html>".to_vec();
    for refused in [
        fetch(vec![Fault::Other(page)]).err(),
        fetch(vec![Fault::Linked("0".repeat(64))]).err(),
        "../etc/passwd".parse::<Repository>().err(),
    ] {
        println!("refused: {}", refused.map_or_else(String::new, |error| error.to_string()));
    }
    Ok(())
}

#[test]
fn a_transfer_that_breaks_goes_on_where_it_was() -> Result<()> {
    let (bytes, ranges, seen) = fetch(vec![Fault::Cut(70_000), Fault::Cut(50_000)])?;
    assert!(bytes == published() && seen == 200_000);
    let first = |range: &String| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok();
    let parts: Vec<Option<u64>> = ranges.iter().map(first).collect();
    let [None, Some(second), Some(third)] = parts[..] else { panic!("{ranges:?}") };
    assert!(0 < second && second < third && third <= 120_000, "{ranges:?}");
    Ok(())
}

#[test]
fn what_cannot_be_the_file_is_refused() {
    let page = b"<!DOCTYPE html><html>log in</html>".to_vec();
    let large = vec![7; 2 * MOST as usize];
    for fault in [Fault::Other(page), Fault::Other(large), Fault::Linked("0".repeat(64))] {
        assert_eq!(fetch(vec![fault.clone()]).unwrap_err().exit_code(), 65, "{fault:?}");
    }
    for name in ["../etc/passwd", "owner", "owner/name@../x", "owner/name/file"] {
        assert_eq!(name.parse::<Repository>().unwrap_err().exit_code(), 2, "{name}");
    }
}
