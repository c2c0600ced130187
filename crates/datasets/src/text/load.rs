//! Texts from files.
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::catalogue::{Layout, TextName, entry};
use super::{Corpus, Tokens, Vocabulary};
use crate::{Error, Places, Result, Split, verify};

/// The largest file of a user's own.
const MAX_BYTES: u64 = 1 << 32;

/// A text in files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum TextSource {
    /// One by name.
    Named(TextName),
    /// A user's own: a file of text, a line each sentence or line; or, ending in `.jsonl`, an object with a `text` a line. Of its lines the last twentieth is for testing, the one
    /// before for validation.
    File {
        /// The file.
        path: PathBuf,
        /// What its lines are.
        layout: Layout,
    },
}

impl TextSource {
    /// What its lines are.
    #[must_use]
    pub fn layout(&self) -> Layout {
        match self {
            Self::Named(name) => entry(*name).layout,
            Self::File { layout, .. } => *layout,
        }
    }
}

/// The three splits of a text, and its vocabulary.
#[derive(Debug)]
pub struct Text {
    /// What is trained on.
    pub train: Corpus,
    /// What choices are made by.
    pub valid: Corpus,
    /// What is looked at once, at the end.
    pub test: Corpus,
    /// Symbols and what they stand for; the boundary is not among them.
    pub vocabulary: Vocabulary,
}

/// Loads a text in pieces of at most `longest` symbols, the vocabulary being that of its training part.
///
/// Size and SHA-256 of the files of a text that has a name are checked before they are read.
///
/// # Errors
/// If a file is not there or not what it should be, or a split has no text.
pub fn load_text(
    source: &TextSource,
    tokens: Tokens,
    longest: usize,
    places: &Places,
) -> Result<Text> {
    let layout = source.layout();
    let (name, [train, valid, test]) = match source {
        TextSource::Named(name) => (name.as_str().to_owned(), named(*name, places)?),
        TextSource::File { path, layout } => {
            (path.display().to_string(), own(&text_of(path, *layout)?))
        }
    };
    if layout == Layout::Running && matches!(tokens, Tokens::Word { punctuation: true, .. }) {
        return Err(Error::Argument(
            "running text marks its lines and unknown words by words in angles, which punctuation = true takes apart; leave it out"
                .to_owned(),
        ));
    }
    let lines = |text: &String| cut(text, layout, tokens);
    let splits = [lines(&train), lines(&valid), lines(&test)];
    let [train, valid, test] =
        splits.each_ref().map(|lines| lines.iter().map(String::as_str).collect::<Vec<_>>());
    let vocabulary = Vocabulary::new(tokens, &train).map_err(|error| match error {
        Error::Argument(reason) => Error::Argument(format!("{name}: {reason}")),
        error => error,
    })?;
    let corpus = |split: Split, lines: &[&str]| {
        let original = Original::of(lines, layout, tokens);
        let symbols = vocabulary.symbols(lines)?;
        if symbols.iter().all(Vec::is_empty) {
            return Err(Error::Argument(format!(
                "{name} has no text for {split}; give more lines"
            )));
        }
        Corpus::read((&name, split), vocabulary.size(), symbols, (layout, longest), original)
    };
    Ok(Text {
        train: corpus(Split::Train, &train)?,
        valid: corpus(Split::Valid, &valid)?,
        test: corpus(Split::Test, &test)?,
        vocabulary,
    })
}

/// What a text was before it was made symbols of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Original {
    /// Words between spaces, and ends of lines.
    pub words: usize,
    /// Characters, ends of lines among them.
    pub characters: usize,
}

impl Original {
    fn of(lines: &[&str], layout: Layout, tokens: Tokens) -> Self {
        let ends = if layout == Layout::Sentences { lines.len() } else { 0 };
        let newlines = lines.iter().filter(|line| line.ends_with('\n')).count();
        let marked = layout == Layout::Running && matches!(tokens, Tokens::Word { .. });
        let eos = if marked { lines.len() } else { 0 };
        let words: usize = lines.iter().map(|line| line.split_whitespace().count()).sum();
        let characters: usize = lines.iter().map(|line| line.chars().count()).sum();
        // ` <eos>` stands for one character, and is a word already.
        Self { words: words + ends + newlines, characters: characters + ends - 5 * eos }
    }
}

/// The lines to make symbols of: with their end where that is a symbol.
fn cut(text: &str, layout: Layout, tokens: Tokens) -> Vec<String> {
    match (layout, tokens) {
        (Layout::Sentences, _) => {
            text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
        }
        (Layout::Running, Tokens::Word { .. }) => {
            text.lines().map(|line| format!("{} <eos>", line.trim())).collect()
        }
        (Layout::Running, _) => text.split_inclusive('\n').map(str::to_owned).collect(),
    }
}

/// The splits of a text that has a name.
fn named(name: TextName, places: &Places) -> Result<[String; 3]> {
    let entry = entry(name);
    let named = (name.as_str(), entry.title);
    let folder = places.folder(named, (entry.files(), entry.mirrors), "--corpus mixture")?;
    let part = |split| {
        let (file, cut) = entry.part(split);
        let Some(file) = file else {
            return Err(Error::Argument(format!("{} has no {split} file", entry.title)));
        };
        let bytes = verify::read(&folder, file)?;
        let path = folder.join(file.name);
        Ok(cut.of(&utf8(&path, bytes)?).to_owned())
    };
    Ok([part(Split::Train)?, part(Split::Valid)?, part(Split::Test)?])
}

fn read(path: &Path) -> Result<String> {
    let refused = |source| Error::Io { path: path.to_path_buf(), source };
    let meta = std::fs::metadata(path).map_err(refused)?;
    if !meta.is_file() || meta.len() > MAX_BYTES {
        let reason = format!(
            "a text of at most {MAX_BYTES} bytes was expected, this is none; give a text file"
        );
        return Err(Error::Corrupt { path: path.to_path_buf(), reason });
    }
    utf8(path, std::fs::read(path).map_err(refused)?)
}

fn utf8(path: &Path, bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|error| Error::Corrupt {
        path: path.to_path_buf(),
        reason: format!(
            "no text in UTF-8: byte {} is none; convert the file",
            error.utf8_error().valid_up_to()
        ),
    })
}

/// A line of JSON; what else it has is left alone.
#[derive(Deserialize)]
struct Record {
    text: String,
}

/// A user's own text: that of the file, or of the records in a file that ends in `.jsonl`.
fn text_of(path: &Path, layout: Layout) -> Result<String> {
    let text = read(path)?;
    let extension = path.extension().unwrap_or_default();
    if !["jsonl", "ndjson"].iter().any(|known| extension.eq_ignore_ascii_case(known)) {
        return Ok(text);
    }
    let mut lines = String::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let record: Record = serde_json::from_str(line).map_err(|error| Error::Corrupt {
            path: path.to_path_buf(),
            reason: format!(
                "line {}: {error}; give an object with a `text` on every line",
                number + 1
            ),
        })?;
        match layout {
            Layout::Running => lines.push_str(&record.text),
            // A record is a sentence, whatever lines it was written in.
            Layout::Sentences => lines.extend(record.text.lines().flat_map(|line| [line, " "])),
        }
        lines.push('\n');
    }
    Ok(lines)
}

/// The splits of a user's own text.
fn own(text: &str) -> [String; 3] {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let part = lines.len() / 20;
    let (rest, test) = lines.split_at(lines.len() - part);
    let (train, valid) = rest.split_at(rest.len() - part);
    [train.concat(), valid.concat(), test.concat()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dataset;

    fn file(lines: usize, line: impl Fn(usize) -> String) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text: Vec<String> = (0..lines).map(line).collect();
        std::fs::write(file.path(), text.join("\n")).unwrap();
        file
    }

    #[test]
    fn a_line_of_json_is_a_sentence_or_running_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.jsonl");
        let line = "{\"id\": 1, \"text\": \"one\\ntwo\"}\n\n{\"text\": \"three\"}\n";
        std::fs::write(&path, line).unwrap();
        assert_eq!(text_of(&path, Layout::Sentences).unwrap(), "one two \nthree \n");
        assert_eq!(text_of(&path, Layout::Running).unwrap(), "one\ntwo\nthree\n");
        for bad in ["{}", "[1]", "{\"text\": 1}", "{\"text\": \"a"] {
            std::fs::write(&path, format!("{line}{bad}\n")).unwrap();
            let error = text_of(&path, Layout::Running).unwrap_err();
            assert_eq!(error.exit_code(), 65);
            let text = error.to_string();
            assert!(text.contains("x.jsonl: line 4") && text.contains("`text`"), "{text}");
        }
    }

    fn load(path: &Path, layout: Layout, tokens: Tokens, longest: usize) -> Result<Text> {
        let source = TextSource::File { path: path.to_path_buf(), layout };
        load_text(&source, tokens, longest, &Places::new(vec![]))
    }

    const WORDS: Tokens = Tokens::Word { least_count: 1, lowercase: false, punctuation: false };

    /// No symbol is lost, however long the pieces are: what they predict, put together, is the text.
    #[test]
    fn pieces_are_the_text_and_each_symbol_follows_the_one_before() {
        let file = file(100, |i| format!("line {} of a hundred", i % 7));
        let cpu = candle_core::Device::Cpu;
        for (layout, tokens) in [
            (Layout::Running, Tokens::Character {}),
            (Layout::Running, WORDS),
            (Layout::Sentences, WORDS),
            (Layout::Sentences, Tokens::Bpe { vocabulary: 260 }),
        ] {
            let whole = load(file.path(), layout, tokens, 10_000).unwrap();
            let pieces = load(file.path(), layout, tokens, 3).unwrap();
            let symbols = |text: &Text| -> Vec<u32> {
                (0..text.train.len()).flat_map(|row| text.train.sentence(row).to_vec()).collect()
            };
            assert_eq!(symbols(&whole), symbols(&pieces));
            assert!(pieces.train.lengths().all(|length| length <= 3));
            let boundary = pieces.train.boundary();
            let mut before = boundary;
            for row in 0..pieces.train.len() {
                let batch = pieces.train.gather(&[row as u32], &cpu).unwrap();
                let inputs = batch.inputs.to_vec2::<u32>().unwrap().remove(0);
                assert_eq!(inputs[0], before, "{layout:?} {tokens:?}");
                before = *pieces.train.sentence(row).last().unwrap();
            }
        }
    }

    #[test]
    fn original_units_are_counted() {
        let file = file(100, |_| "two words".to_owned());
        let words = load(file.path(), Layout::Running, WORDS, 50).unwrap();
        assert_eq!(words.test.original(), Some(Original { words: 15, characters: 50 }));
        assert_eq!(words.test.symbols(), 15);
        let characters = load(file.path(), Layout::Running, Tokens::Character {}, 50).unwrap();
        // The last line has no end.
        assert_eq!(characters.test.original(), Some(Original { words: 14, characters: 49 }));
        let sentences = load(file.path(), Layout::Sentences, WORDS, 50).unwrap();
        assert_eq!(sentences.test.original(), Some(Original { words: 15, characters: 50 }));
        assert_eq!((sentences.test.len(), sentences.test.symbols()), (5, 15));
    }

    #[test]
    fn what_is_no_text_is_refused_by_its_name() {
        let angles = Tokens::Word { least_count: 1, lowercase: false, punctuation: true };
        let many = file(100, |_| "line".to_owned());
        let error = load(many.path(), Layout::Running, angles, 5).unwrap_err();
        assert!(error.to_string().contains("punctuation") && error.exit_code() == 2, "{error}");
        let few = file(3, |_| "line".to_owned());
        let error = load(few.path(), Layout::Sentences, WORDS, 5).unwrap_err();
        assert!(error.to_string().contains("no text for valid"), "{error}");
        let bytes = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(bytes.path(), [b'a', 0xff]).unwrap();
        let error = load(bytes.path(), Layout::Sentences, WORDS, 5).unwrap_err();
        assert!(error.to_string().contains("byte 1") && error.exit_code() == 65, "{error}");
        assert_eq!(
            load(Path::new("nowhere"), Layout::Sentences, WORDS, 5).unwrap_err().exit_code(),
            74
        );
        let source = TextSource::Named(TextName::WikiText2);
        let error = load_text(&source, WORDS, 9, &Places::new(vec![])).unwrap_err();
        assert!(
            error.to_string().contains("wiki.train.tokens") && error.exit_code() == 69,
            "{error}"
        );
        assert!(
            error.to_string().contains("--corpus mixture")
                && !error.to_string().contains("gzipped")
        );
    }
}
