//! Dependencies point down, and unsafe code has one home.
use std::path::{Path, PathBuf};
use std::process::Command;

use gumbel_conformance::lines_with_token;
use serde_json::Value;

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

/// Packages from the bottom up. An edge goes to a lower row; dev-dependencies are edges, too.
const LAYERS: [&[&str]; 6] = [
    &[
        "gumbel-hub",
        "gumbel-distributed",
        "gumbel-formulas",
        "gumbel-kernels",
        "gumbel-metrics",
        "gumbel-report",
        "gumbel-sweep",
    ],
    &["gumbel", "gumbel-datasets"],
    &["gumbel-models", "gumbel-training"],
    &["gumbel-hostile"],
    &["gumbel-experiments"],
    &["gumbel-conformance"],
];

/// The only package that may hold unsafe code.
const UNSAFE: &str = "gumbel-kernels";

struct Package {
    name: String,
    directory: PathBuf,
    dependencies: Vec<String>,
}

fn packages() -> Fallible<Vec<Package>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let text = |value: &Value| value.as_str().map(str::to_owned).ok_or("metadata: no text");
    let list = |value: &Value| value.as_array().cloned().ok_or("metadata: no list");
    let package = |package: &Value| -> Fallible<Package> {
        let dependencies = list(&package["dependencies"])?;
        let names: Result<_, _> = dependencies.iter().map(|d| text(&d["name"])).collect();
        let manifest = PathBuf::from(text(&package["manifest_path"])?);
        let directory = manifest.parent().ok_or("metadata: no directory")?.to_owned();
        Ok(Package { name: text(&package["name"])?, directory, dependencies: names? })
    };
    list(&metadata["packages"])?.iter().map(package).collect()
}

fn layer(name: &str) -> Option<usize> {
    LAYERS.iter().position(|names| names.contains(&name))
}

/// Everything wrong with the edges between our packages.
fn complaints(packages: &[Package]) -> Vec<String> {
    let mut complaints = Vec::new();
    for Package { name, dependencies, .. } in packages {
        let Some(from) = layer(name) else {
            complaints.push(format!("`{name}` has no layer: add it to LAYERS"));
            continue;
        };
        for dependency in dependencies {
            match layer(dependency) {
                Some(to) if to >= from => {
                    complaints.push(format!("`{name}` -> `{dependency}` does not point down"));
                }
                None if packages.iter().any(|package| package.name == *dependency) => {
                    complaints.push(format!("`{name}` -> `{dependency}`, which has no layer"));
                }
                _ => {}
            }
        }
    }
    complaints
}

#[test]
fn dependencies_point_down() -> Fallible<()> {
    let packages = packages()?;
    let known = |name: &&&str| packages.iter().any(|package| package.name == **name);
    assert_eq!(LAYERS.concat().iter().filter(known).count(), packages.len());
    let complaints = complaints(&packages);
    assert!(complaints.is_empty(), "{complaints:?}");
    Ok(())
}

#[test]
fn upward_and_sideways_edges_are_found() {
    let package = |name: &str, dependencies: &[&str]| Package {
        name: name.to_owned(),
        directory: PathBuf::new(),
        dependencies: dependencies.iter().map(|d| (*d).to_owned()).collect(),
    };
    let found = |packages: &[Package]| complaints(packages).len();
    assert_eq!(found(&[package("gumbel", &["gumbel-kernels", "candle-core"])]), 0);
    assert_eq!(found(&[package("gumbel", &["gumbel-models"])]), 1);
    assert_eq!(found(&[package("gumbel-metrics", &["gumbel-kernels"])]), 1);
    assert_eq!(found(&[package("gumbel-new", &[]), package("gumbel", &["gumbel-new"])]), 2);
}

/// All `.rs` files below a directory, except in directories that hold a package of their own or build
/// products.
fn sources(directory: &Path, found: &mut Vec<PathBuf>) -> Fallible<()> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            let product = path.join("CACHEDIR.TAG").exists() || path.join("Cargo.toml").exists();
            if !product {
                sources(&path, found)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

#[test]
fn unsafe_code_is_in_the_kernels_alone() -> Fallible<()> {
    let mut places = Vec::new();
    for Package { name, directory, .. } in packages()? {
        let mut files = Vec::new();
        sources(&directory, &mut files)?;
        assert!(!files.is_empty(), "`{name}` has no sources");
        for file in files {
            for line in lines_with_token(&std::fs::read_to_string(&file)?, "unsafe") {
                places.push((name.clone(), format!("{}:{line}", file.display())));
            }
        }
    }
    // The scan does find unsafe code where it is.
    assert!(places.iter().any(|(package, _)| package == UNSAFE));
    places.retain(|(package, _)| package != UNSAFE);
    assert!(places.is_empty(), "unsafe code outside `{UNSAFE}`: {places:?}");
    Ok(())
}

/// Lines of a file that call cargo on crates of other people without holding it to `Cargo.lock`.
fn unlocked(text: &str) -> Vec<&str> {
    const CALLS: [&str; 6] = [" build", " run", " test", " clippy", " doc", " miri test"];
    let calls = |line: &&str| {
        let arguments = line.split("cargo").skip(1);
        let arguments = arguments.map(|rest| rest.trim_start_matches([' ', '+']));
        arguments
            .map(|rest| format!(" {}", rest.trim_start_matches("nightly ")))
            .any(|rest| CALLS.iter().any(|call| rest.starts_with(call)))
    };
    let said = |line: &&str| line.trim_start().starts_with(['#', '@']) || line.contains("--locked");
    text.lines().filter(calls).filter(|line| !said(line)).collect()
}

#[test]
fn every_recipe_is_held_to_the_lock_file() -> Fallible<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for name in ["justfile", ".ci/run"] {
        let text = std::fs::read_to_string(root.join(name))?;
        assert!(text.contains("--locked"), "{name} calls nothing");
        assert_eq!(unlocked(&text), [""; 0], "{name}");
    }
    assert_eq!(
        unlocked("    cargo test --workspace\n# cargo run\n    cargo run --locked"),
        ["    cargo test --workspace"]
    );
    assert_eq!(unlocked("X=1 cargo +nightly miri test -p a").len(), 1);
    Ok(())
}
