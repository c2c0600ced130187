//! What each library offers is written down in `crates/conformance/api`, so that a change of it is seen in a review.
//!
//! After a change that is meant: `just api`, and look at the difference.
#![cfg(unix)]
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

/// The libraries that others may depend on.
const LIBRARIES: [&str; 10] = [
    "gumbel",
    "gumbel_datasets",
    "gumbel_distributed",
    "gumbel_hub",
    "gumbel_kernels",
    "gumbel_metrics",
    "gumbel_models",
    "gumbel_report",
    "gumbel_sweep",
    "gumbel_training",
];

/// Set to anything, the files are written and not compared.
const WRITE: &str = "GUMBEL_API_WRITE";

fn succeed(command: &mut Command) -> Fallible<Vec<u8>> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into())
}

/// Has rustdoc write what it knows as JSON, and returns the folder.
///
/// The option is not stable. A script lets rustdoc, and nothing else, take it: if the compiler were allowed the same, every
/// dependency would be built anew.
fn describe() -> Fallible<PathBuf> {
    let own = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let target = own.parent().ok_or("no folder of what is built")?;
    let (apart, script) = (target.join("api"), own.join("rustdoc.sh"));
    fs::write(&script, "#!/bin/sh\nRUSTC_BOOTSTRAP=1 exec rustdoc \"$@\"\n")?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    succeed(
        Command::new(env!("CARGO"))
            .args(["doc", "--workspace", "--lib", "--no-deps", "--offline", "--locked"])
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
            // What is compiled is shared; pages of documentation that are there stay.
            .env("CARGO_TARGET_DIR", &apart)
            .env("CARGO_BUILD_BUILD_DIR", target)
            .env_remove("CARGO_BUILD_TARGET")
            .env("RUSTDOC", &script)
            .env("RUSTDOCFLAGS", "-Z unstable-options --output-format json"),
    )?;
    Ok(apart.join("doc"))
}

/// Every public item of a library, a line each.
fn interface(described: &Path, library: &str) -> Fallible<Vec<String>> {
    let json = described.join(format!("{library}.json"));
    let api = public_api::Builder::from_rustdoc_json(json)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .build()?;
    Ok(api.items().map(ToString::to_string).collect())
}

/// Lines of one that the other does not have, with a sign before them.
fn changes(before: &[String], after: &[String]) -> Vec<String> {
    let (old, new): (BTreeSet<_>, BTreeSet<_>) = (before.iter().collect(), after.iter().collect());
    let removed = old.difference(&new).map(|line| format!("- {line}"));
    removed.chain(new.difference(&old).map(|line| format!("+ {line}"))).collect()
}

#[test]
fn the_interface_of_each_library_is_the_one_that_is_written_down() -> Fallible<()> {
    // Another compiler may describe the same interface otherwise.
    let compiler = String::from_utf8(succeed(Command::new("rustc").arg("--version"))?)?;
    let write = std::env::var_os(WRITE).is_some();
    if !compiler.starts_with(concat!("rustc ", env!("CARGO_PKG_RUST_VERSION"), ".")) {
        assert!(!write, "interfaces are written down with Rust {}", env!("CARGO_PKG_RUST_VERSION"));
        return Ok(());
    }
    let (described, kept) = (describe()?, Path::new(env!("CARGO_MANIFEST_DIR")).join("api"));
    let mut report = Vec::new();
    for library in LIBRARIES {
        let (now, file) = (interface(&described, library)?, kept.join(format!("{library}.txt")));
        if write {
            fs::write(&file, now.join("\n") + "\n")?;
            continue;
        }
        let before: Vec<String> = fs::read_to_string(&file)?.lines().map(str::to_owned).collect();
        report.extend(changes(&before, &now).into_iter().map(|line| format!("{library} {line}")));
    }
    assert!(
        report.is_empty(),
        "public items changed; if that is meant, `just api`:\n{}",
        report.join("\n")
    );
    Ok(())
}

#[test]
fn a_changed_signature_is_a_line_less_and_a_line_more() {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let (before, after) = (lines("fn a(u8)\nfn b()"), lines("fn a(u16)\nfn b()"));
    assert_eq!(changes(&before, &after), ["- fn a(u8)", "+ fn a(u16)"]);
    assert!(changes(&before, &before).is_empty());
}
