//! What the pages say holds: links lead somewhere, code is compiled or quoted, recipes and programs exist.
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use gumbel::estimators::Method;
use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Files with that ending that belong to the project, by path from its root.
fn files(ending: &str) -> Fallible<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = ["", "crates", "data", "docs", "experiments", ".github"]
        .map(|name| root().join(name))
        .into();
    folders.retain(|folder| folder.is_dir());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_file() && path.extension().is_some_and(|e| e == ending) {
                found.push(path.strip_prefix(root())?.to_owned());
            } else if path.is_dir() && folder != root() && !path.ends_with("target") {
                folders.push(path);
            }
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// What is looked at on a page.
#[derive(Debug, Default, PartialEq)]
struct Page {
    links: Vec<String>,
    anchors: BTreeSet<String>,
    /// Language, with what follows it, and text.
    blocks: Vec<(String, String)>,
    /// Words in code font between words.
    spans: Vec<String>,
}

impl Page {
    fn read(text: &str) -> Self {
        let mut page = Self::default();
        let (mut heading, mut block) = (None::<String>, None::<(String, String)>);
        for event in Parser::new_ext(text, Options::ENABLE_TABLES) {
            match event {
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    page.links.push(dest_url.into());
                }
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => {
                    page.anchors.extend(heading.take().map(|text| anchor(&text)));
                }
                Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(language))) => {
                    block = Some((language.into(), String::new()));
                }
                Event::End(TagEnd::CodeBlock) => page.blocks.extend(block.take()),
                Event::Code(code) => {
                    if let Some(heading) = &mut heading {
                        heading.push_str(&code);
                    }
                    page.spans.push(code.into());
                }
                Event::Text(text) => {
                    if let Some(heading) = &mut heading {
                        heading.push_str(&text);
                    } else if let Some((_, code)) = &mut block {
                        code.push_str(&text);
                    }
                }
                _ => {}
            }
        }
        page
    }

    /// Lines that somebody may type: those of shell blocks, and spans.
    fn commands(&self) -> impl Iterator<Item = &str> {
        let shell =
            self.blocks.iter().filter(|(language, _)| matches!(language.as_str(), "sh" | ""));
        shell.flat_map(|(_, text)| text.lines()).chain(self.spans.iter().map(String::as_str))
    }
}

/// What a heading is called in a link: small letters, hyphens, and no other signs.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

fn pages() -> Fallible<Vec<(PathBuf, Page)>> {
    let read =
        |path: PathBuf| Ok((path.clone(), Page::read(&fs::read_to_string(root().join(&path))?)));
    files("md")?.into_iter().map(read).collect()
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !(c.is_alphanumeric() || matches!(c, '-' | '_')))
        .filter(|word| !word.is_empty())
}

#[test]
fn every_link_leads_to_a_file_and_to_a_heading() -> Fallible<()> {
    let (mut broken, mut count) = (Vec::new(), 0);
    for (path, page) in pages()? {
        for link in page.links.iter().filter(|link| !link.contains("://")) {
            count += 1;
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let folder = path.parent().map_or_else(root, |folder| root().join(folder));
            let target = if file.is_empty() { root().join(&path) } else { folder.join(file) };
            let found = target.exists()
                && (heading.is_empty()
                    || Page::read(&fs::read_to_string(&target)?).anchors.contains(heading));
            if !found {
                broken.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(count > 150, "only {count} links: the pages were not read");
    assert!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
    Ok(())
}

/// Lines with something on them, without what is before and behind it.
fn trimmed(text: &str) -> Vec<&str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect()
}

fn quotes(source: &str, block: &str) -> bool {
    let (source, block) = (trimmed(source), trimmed(block));
    source.windows(block.len()).any(|lines| lines == block)
}

#[test]
fn rust_on_a_page_is_compiled_by_the_tests_or_stands_in_a_source_file() -> Fallible<()> {
    let sources: Vec<(PathBuf, String)> = files("rs")?
        .into_iter()
        .map(|path| Ok((path.clone(), fs::read_to_string(root().join(path))?)))
        .collect::<Fallible<_>>()?;
    let compiled = |page: &Path| {
        let included = format!("#[doc = include_str!(\"../../../{}\")]", page.display());
        sources.iter().any(|(path, text)| path.ends_with("src/lib.rs") && text.contains(&included))
    };
    for (path, page) in pages()? {
        for (language, text) in &page.blocks {
            assert!(
                !language.contains("ignore"),
                "{}: a block that nobody compiles",
                path.display()
            );
            if language == "rust" && !compiled(&path) {
                let quoted = sources.iter().any(|(_, source)| quotes(source, text));
                assert!(
                    quoted,
                    "{}: neither compiled nor quoted from a file:\n{text}",
                    path.display()
                );
            }
        }
    }
    Ok(())
}

#[test]
fn configurations_on_a_page_can_be_read() -> Fallible<()> {
    let mut estimators = 0;
    for (path, page) in pages()? {
        for (_, text) in page.blocks.iter().filter(|(language, _)| language == "toml") {
            let table: toml::Table =
                text.parse().map_err(|e| format!("{}: {e}", path.display()))?;
            if let Some(estimator) = table.get("estimator") {
                let _: Method =
                    estimator.clone().try_into().map_err(|e| format!("{}: {e}", path.display()))?;
                estimators += 1;
            }
        }
    }
    assert!(estimators > 0, "no configuration of an estimator was found");
    Ok(())
}

/// The recipes with their comments, as `just --list` has them.
fn recipes() -> Fallible<Vec<(String, String)>> {
    let text = fs::read_to_string(root().join("justfile"))?;
    let lines: Vec<&str> = text.lines().collect();
    let recipe = |pair: &[&str]| {
        let comment = pair[0].strip_prefix("# ")?;
        let name = pair[1].split([' ', ':']).next()?;
        (pair[1].starts_with(|c: char| c.is_ascii_lowercase()) && pair[1].contains(':'))
            .then(|| (name.to_owned(), comment.to_owned()))
    };
    Ok(lines.windows(2).filter_map(recipe).collect())
}

#[test]
fn the_recipes_are_listed_and_those_that_pages_name_exist() -> Fallible<()> {
    let recipes = recipes()?;
    let listed = fs::read_to_string(root().join("docs/CONTRIBUTING.md"))?;
    for (name, comment) in &recipes {
        assert!(
            listed.contains(&format!("| `{name}` | {comment} |")),
            "docs/CONTRIBUTING.md lacks {name}: {comment}"
        );
    }
    let names: BTreeSet<&str> = recipes.iter().map(|(name, _)| name.as_str()).collect();
    for (path, page) in pages()? {
        for command in page.commands().filter(|command| command.starts_with("just ")) {
            let name = words(command).nth(1).unwrap_or_default();
            // Words in capitals stand for any name.
            assert!(
                names.contains(name) || name.chars().all(char::is_uppercase),
                "{}: `{command}` is no recipe",
                path.display()
            );
        }
    }
    Ok(())
}

#[test]
fn the_programs_that_pages_start_exist() -> Fallible<()> {
    let manifest: toml::Table =
        fs::read_to_string(root().join("experiments/Cargo.toml"))?.parse()?;
    let bins = manifest["bin"].as_array().ok_or("no programs")?;
    let bins: BTreeSet<&str> = bins.iter().filter_map(|bin| bin.get("name")?.as_str()).collect();
    let mut count = 0;
    for (path, page) in pages()? {
        for command in page.commands() {
            let after = words(command).skip_while(|word| *word != "--bin").nth(1);
            if let Some(name) =
                after.filter(|name| name.chars().all(|c| c.is_lowercase() || c == '-'))
            {
                assert!(bins.contains(name), "{}: there is no program `{name}`", path.display());
                count += 1;
            }
        }
    }
    assert!(count > 3, "only {count} programs: the pages were not read");
    Ok(())
}

#[test]
fn every_estimator_is_on_the_pages_that_list_them() -> Fallible<()> {
    // The names are told to whoever asks for one that is none.
    let error = toml::from_str::<Method>("method = \"none of them\"")
        .err()
        .ok_or("there is such a method")?;
    let names: Vec<String> =
        error.message().split('`').skip(3).step_by(2).map(str::to_owned).collect();
    assert!(names.len() > 20, "{error}");
    for page in ["docs/choosing-an-estimator.md", "docs/learn.md"] {
        let text = fs::read_to_string(root().join(page))?;
        let missing: Vec<&String> =
            names.iter().filter(|name| words(&text).all(|word| word != name.as_str())).collect();
        assert!(missing.is_empty(), "{page} lacks {missing:?}");
    }
    Ok(())
}

#[test]
fn a_page_is_read_as_a_reader_sees_it() {
    let text = "# A `b`: C?\n\n[x](y.md#z)\n\n```rust\n[no](link)\n```\n\n`just go`\n";
    let page = Page::read(text);
    assert_eq!(page.links, ["y.md#z"]);
    assert_eq!(page.anchors, BTreeSet::from(["a-b-c".to_owned()]));
    assert_eq!(page.blocks, [("rust".to_owned(), "[no](link)\n".to_owned())]);
    assert_eq!(page.commands().collect::<Vec<_>>(), ["b", "just go"]);
    assert!(
        quotes("fn a() {\n    b();\n\n    c();\n}\n", "b();\nc();\n")
            && !quotes("a();\nx();\nb();", "a();\nb();")
    );
}
