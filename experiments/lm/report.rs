//! What the page of a run, `report.html`, has of language: codes, their sentences, samples.
use std::fmt::Write;

use candle_core::{D, DType, Device};
use gumbel_metrics::CodeUsage;
use gumbel_models::Choice;
use gumbel_report::{Page, escaped};
use gumbel_training::Result;

use crate::data::sequences;
use crate::evaluate::Evaluator;
use crate::summary::Summary;
use crate::words;

/// Sequences among which examples are looked for.
const SEARCHED: usize = 500;
/// Examples of a value of a code.
const EXAMPLES: usize = 2;
/// Variables that are shown, at most.
const VARIABLES: usize = 16;
/// Values of a variable that are shown, at most.
const VALUES: usize = 64;

/// The sections of the page that are this experiment's own: titles and HTML.
pub(crate) fn sections(
    evaluator: &Evaluator<'_>,
    summary: &Summary,
    samples: &str,
) -> Result<Vec<(&'static str, String)>> {
    let listing = |text: &str| format!("<pre>{}</pre>", escaped(text));
    let mut sections = vec![("In words", listing(&words::result(summary)))];
    let found = Found::search(evaluator)?;
    if found.usage.count() > 0 {
        sections.push(("How often each code is used", Page::usage_map(&found.usage.marginals())));
        sections.push(("Sentences of each code", found.examples(evaluator)));
    }
    if let Some(flips) = flips(evaluator, &found)? {
        sections.push(("One code changed at a time", flips));
    }
    sections.push(("Samples", listing(samples)));
    Ok(sections)
}

/// What is known about the latents of some test sequences.
#[derive(Default)]
struct Found {
    usage: CodeUsage,
    /// Of each variable and value, the sequences that have it most surely, and in which segment.
    examples: Vec<Vec<Vec<Example>>>,
    /// Symbols of a segment; none where a sequence is one.
    segment: Option<usize>,
    /// A sequence, and its most probable codes.
    row: u32,
    first: Vec<u32>,
}

impl Found {
    fn search(evaluator: &Evaluator<'_>) -> Result<Self> {
        let mut found = Self::default();
        let Some(layout) = evaluator.layout() else { return Ok(found) };
        found.segment = layout.segment;
        let corpus = &evaluator.data.test;
        for rows in evaluator.batches(corpus, SEARCHED, 1)? {
            let x = sequences(corpus, &rows, evaluator.device)?;
            let Some(probs) = evaluator.model.posterior(&x)? else { return Ok(found) };
            found.usage.push(&layout.by_segment(&probs)?)?;
            let probs = probs.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
            if found.first.is_empty() {
                found.first = probs.argmax(D::Minus1)?.get(0)?.to_vec1()?;
                found.row = rows.first().copied().unwrap_or(0);
            }
            for (probs, row) in probs.to_vec3::<f64>()?.into_iter().zip(rows) {
                // Variables of one kind in all segments are taken together.
                for (place, q) in probs.iter().enumerate() {
                    let variable = place % layout.variables;
                    found.keep_examples(variable, q, (row, place / layout.variables));
                }
            }
        }
        Ok(found)
    }

    fn keep_examples(&mut self, variable: usize, q: &[f64], (row, segment): (u32, usize)) {
        if self.examples.len() <= variable {
            self.examples.resize(variable + 1, vec![vec![]; q.len()]);
        }
        let Some(examples) = self.examples.get_mut(variable) else { return };
        for (best, p) in examples.iter_mut().zip(q) {
            if *p > 0.5 && !best.iter().any(|other| other.row == row) {
                best.push(Example { probability: *p, row, segment });
                best.sort_by(|a, b| b.probability.total_cmp(&a.probability));
                best.truncate(EXAMPLES);
            }
        }
    }

    /// The words of an example, its segment marked.
    fn sentence(&self, example: &Example, evaluator: &Evaluator<'_>) -> String {
        let words = evaluator.data.test.words(example.row as usize);
        let text = |words: &[u32]| escaped(&evaluator.data.symbols.text(words));
        let Some(segment) = self.segment else { return text(words) };
        let (before, rest) = words.split_at((example.segment * segment).min(words.len()));
        let (own, after) = rest.split_at(segment.min(rest.len()));
        format!("{} <mark>{}</mark> {}", text(before), text(own), text(after))
    }

    fn examples(&self, evaluator: &Evaluator<'_>) -> String {
        let mut text = "<table>".to_owned();
        for (m, values) in self.examples.iter().enumerate().take(VARIABLES) {
            for (k, examples) in values.iter().enumerate().take(VALUES) {
                for example in examples {
                    let _ = write!(
                        text,
                        "<tr><td>{m}={k}</td><td class=\"n\">{:.2}</td><td>{}</td></tr>",
                        example.probability,
                        self.sentence(example, evaluator)
                    );
                }
            }
        }
        text + "</table>"
    }
}

/// A sequence that has a value.
#[derive(Clone, Copy)]
struct Example {
    probability: f64,
    row: u32,
    segment: usize,
}

/// What is written by the codes of a test sequence, and with each of them changed, by the same random numbers.
fn flips(evaluator: &Evaluator<'_>, found: &Found) -> Result<Option<String>> {
    if found.first.is_empty() {
        return Ok(None);
    }
    let data = evaluator.data;
    let (end, length) = (data.symbols.boundary, data.longest());
    let write = |codes: &[u32]| -> Result<String> {
        let key = evaluator.key.named("flips");
        let choice = Choice { top_p: 0.9, ..Choice::default() };
        let prompts = [vec![data.symbols.start]];
        let written = evaluator.model.write(
            &prompts,
            codes,
            (length, end),
            &choice,
            key,
            evaluator.device,
        )?;
        Ok(written.symbols.first().map_or_else(String::new, |symbols| data.symbols.text(symbols)))
    };
    let base = write(&found.first)?;
    let marginals = found.usage.marginals();
    let mut text = format!(
        "<p>Test sentence: {}</p><table><tr><td>{}</td><td>{}</td></tr>",
        escaped(&data.symbols.text(data.test.words(found.row as usize))),
        words::tag(&found.first),
        escaped(&base)
    );
    for m in 0..found.first.len().min(VARIABLES) {
        let mut codes = found.first.clone();
        let usage = marginals.get(m % marginals.len().max(1));
        let other = usage.and_then(|usage| {
            let others =
                usage.iter().enumerate().filter(|(k, _)| found.first.get(m) != Some(&(*k as u32)));
            others.max_by(|a, b| a.1.total_cmp(b.1)).map(|(k, _)| k as u32)
        });
        if let (Some(code), Some(other)) = (codes.get_mut(m), other) {
            *code = other;
        }
        let _ = write!(
            text,
            "<tr><td>{}</td><td>{}</td></tr>",
            words::tag(&codes),
            marked(&base, &write(&codes)?)
        );
    }
    Ok(Some(text + "</table>"))
}

/// The words of `text`, those marked that `base` has not at their place.
fn marked(base: &str, text: &str) -> String {
    let mut before = base.split(' ');
    let words = text.split(' ').map(|word| match before.next() == Some(word) {
        true => escaped(word),
        false => format!("<mark>{}</mark>", escaped(word)),
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_no_markup_and_changes_are_marked() {
        assert_eq!(escaped("a < b & \"c\""), "a &lt; b &amp; &quot;c&quot;");
        assert_eq!(marked("a b c", "a <x> c d"), "a <mark>&lt;x&gt;</mark> c <mark>d</mark>");
    }
}
