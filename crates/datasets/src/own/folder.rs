//! A folder: which kind of files is in it, and which split each belongs to.
use std::path::{Path, PathBuf};

use super::{Gathered, Parts, corrupt, grey, read_file, read_idx, read_parquet};
use crate::{Error, Result, Split};

/// Names of splits as they are found in files and folders.
const SPLITS: [(&str, Split); 7] = [
    ("train", Split::Train),
    ("validation", Split::Valid),
    ("valid", Split::Valid),
    ("val", Split::Valid),
    ("dev", Split::Valid),
    ("test", Split::Test),
    ("t10k", Split::Test),
];

/// The split that a name stands for, in small letters or not.
pub(super) fn split_named(name: &str) -> Option<Split> {
    let same = |(known, _): &(&str, Split)| name.eq_ignore_ascii_case(known);
    SPLITS.into_iter().find(same).map(|(_, split)| split)
}

/// The split that is a word of a name: `train-00000-of-00001.parquet`, `mnist_test.parquet`; the first, where there are several.
fn split_in(name: &str) -> Option<Split> {
    name.split(|c: char| !c.is_ascii_alphanumeric()).find_map(split_named)
}

/// Reads whatever is in the folder.
pub(super) fn read(folder: &Path, parts: &mut Parts) -> Result<()> {
    let files = entries(folder)?;
    if files.iter().any(|path| name(path).contains("-images-idx3-ubyte")) {
        return idx(&files, parts);
    }
    let parquet = parquet_files(folder, 0)?;
    if !parquet.is_empty() {
        let split_of = |path: &PathBuf| {
            let within = path.strip_prefix(folder).unwrap_or(path);
            // The name of the file first, then those of its folders.
            within.iter().rev().find_map(|word| split_in(&word.to_string_lossy()))
        };
        let splits: Vec<Option<Split>> = parquet.iter().map(split_of).collect();
        let none_has_one = splits.iter().all(Option::is_none);
        for (path, split) in parquet.iter().zip(splits) {
            let split = split.or(none_has_one.then_some(Split::Train));
            read_parquet(path, parts.of(split.ok_or_else(|| no_split(path))?))?;
        }
        return Ok(());
    }
    let splits: Vec<(&PathBuf, Split)> = files
        .iter()
        .filter(|path| path.is_dir())
        .filter_map(|path| Some((path, split_named(&name(path))?)))
        .collect();
    if splits.is_empty() {
        return pngs(folder, None, parts.of(Split::Train));
    }
    let other = files.iter().find(|path| path.is_dir() && split_named(&name(path)).is_none());
    if let Some(other) = other {
        return Err(no_split(other));
    }
    // One numbering of the classes for all splits.
    let mut classes = Vec::new();
    for (path, _) in &splits {
        classes.extend(folders(path)?.iter().map(|class| name(class)));
    }
    classes.sort();
    classes.dedup();
    splits.into_iter().try_for_each(|(path, split)| pngs(path, Some(&classes), parts.of(split)))
}

/// Beside files or folders that say which split they are, one that does not might hold rows of any.
fn no_split(path: &Path) -> Error {
    corrupt(
        path,
        "its name has no split, and others here have; name it by train, valid or test, or move it away",
    )
}

/// Images and labels in IDX files.
fn idx(files: &[PathBuf], parts: &mut Parts) -> Result<()> {
    for path in files {
        let file = name(path);
        let Some((before, _)) = file.split_once("-images-idx3-ubyte") else { continue };
        let split = split_named(before).ok_or_else(|| {
            corrupt(path, format!("no split is called `{before}`; use train, valid or t10k"))
        })?;
        let labels = files.iter().find(|other| {
            name(other)
                .strip_prefix(before)
                .is_some_and(|rest| rest.starts_with("-labels-idx1-ubyte"))
        });
        if !parts.of(split).is_empty() {
            return Err(corrupt(
                path,
                format!("a second file of {split} images; keep one of them"),
            ));
        }
        read_idx(path, labels, parts.of(split))?;
    }
    Ok(())
}

/// Every PNG in a folder; where it has folders, those are the classes.
fn pngs(folder: &Path, classes: Option<&[String]>, rows: &mut Gathered) -> Result<()> {
    let own: Vec<String>;
    let folders = folders(folder)?;
    let classes = match classes {
        Some(classes) => classes,
        None => {
            own = folders.iter().map(|class| name(class)).collect();
            &own
        }
    };
    if folders.is_empty() {
        return pngs_of(folder, None, rows);
    }
    for class in &folders {
        let position = classes.iter().position(|known| *known == name(class));
        let label = position.and_then(|position| u8::try_from(position).ok());
        let label = label.ok_or_else(|| {
            let count = classes.len();
            Error::Argument(format!("{}: {count} classes; there can be 256", folder.display()))
        })?;
        pngs_of(class, Some(label), rows)?;
    }
    Ok(())
}

fn pngs_of(folder: &Path, label: Option<u8>, rows: &mut Gathered) -> Result<()> {
    for path in entries(folder)? {
        if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("png")) {
            add_png(&path, label, rows)?;
        }
    }
    Ok(())
}

/// One more image, from its file.
pub(super) fn add_png(path: &Path, label: Option<u8>, rows: &mut Gathered) -> Result<()> {
    let image = grey::decode(&read_file(path)?);
    let added = image.and_then(|(shape, pixels)| rows.add(shape, &pixels, label));
    added.map_err(|reason| corrupt(path, reason))
}

/// Files that end in `.parquet`, up to two folders down.
fn parquet_files(folder: &Path, depth: usize) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in entries(folder)? {
        if path.is_dir() && depth < 2 {
            found.extend(parquet_files(&path, depth + 1)?);
        } else if path.extension().is_some_and(|extension| extension == "parquet") {
            found.push(path);
        }
    }
    Ok(found)
}

fn folders(folder: &Path) -> Result<Vec<PathBuf>> {
    Ok(entries(folder)?.into_iter().filter(|path| path.is_dir()).collect())
}

/// What is in a folder, by name; hidden files are left out.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let refused = |source| Error::Io { path: folder.to_path_buf(), source };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(refused)? {
        let path = entry.map_err(refused)?.path();
        if !name(&path).starts_with('.') {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
