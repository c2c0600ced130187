//! Formulas of the built documentation, set by KaTeX so that they need no network and no script.
//!
//! A formula stands in a documentation comment as a block of the language `math`, in TeX. `cargo doc` shows it as it is written,
//! [`set`] puts MathML in its place, which every browser shows by itself; `just doc` does both.
//!
//! ```
//! let page = r#"<div class="example-wrap"><pre class="language-math"><code>x &lt; 1</code></pre></div>"#;
//! let (set, formulas) = gumbel_formulas::set(page)?;
//! assert!(set.contains("<math") && formulas == 1);
//! # Ok::<(), anyhow::Error>(())
//! ```
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use katex::{KatexContext, OutputFormat, Settings, render_to_string};

/// What rustdoc makes of such a block.
const BEFORE: &str = r#"<div class="example-wrap"><pre class="language-math"><code>"#;
const AFTER: &str = "</code></pre></div>";

/// Rustdoc's pages scroll what is wide; a formula is a little higher than its line.
const OPEN: &str = r#"<p style="overflow: auto hidden; padding: 0.3em 0">"#;

/// A page of HTML with its formulas set, and how many they were.
///
/// # Errors
///
/// If KaTeX cannot read a formula.
pub fn set(page: &str) -> Result<(String, usize)> {
    let settings = Settings::builder().display_mode(true).output(OutputFormat::Mathml).build();
    let context = KatexContext::default();
    let (mut result, mut rest, mut count) = (String::with_capacity(page.len()), page, 0);
    while let Some((text, formula)) = rest.split_once(BEFORE) {
        let (formula, after) = formula.split_once(AFTER).context("a formula without an end")?;
        let tex = unescaped(formula);
        let math = render_to_string(&context, &tex, &settings)
            .with_context(|| format!("no formula: {tex}"))?;
        result.extend([text, OPEN, &math, "</p>"]);
        (rest, count) = (after, count + 1);
    }
    result.push_str(rest);
    Ok((result, count))
}

fn unescaped(html: &str) -> String {
    html.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&#39;", "'")
        .replace("&amp;", "&")
}

/// Sets the formulas of all pages in a folder and those in it; returns how many there are, those that were set before counted.
///
/// # Errors
///
/// If a page cannot be read or written, or KaTeX cannot read a formula.
pub fn set_all(folder: &Path) -> Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir(folder).with_context(|| format!("{}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            count += set_all(&path)?;
        } else if path.extension().is_some_and(|ending| ending == "html") {
            let page = fs::read_to_string(&path)?;
            let (page, new) = set(&page).with_context(|| format!("{}", path.display()))?;
            if new > 0 {
                fs::write(&path, &page)?;
            }
            count += page.matches(OPEN).count();
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::{AFTER, BEFORE, set, set_all};

    fn page(formula: &str) -> String {
        format!("a{BEFORE}{formula}{AFTER}b")
    }

    #[test]
    fn a_formula_becomes_mathml_and_the_rest_of_the_page_stays() {
        let (page, count) = set(&(page(r"\frac{a}{b} &lt; 1") + &page("c"))).unwrap();
        assert_eq!(count, 2);
        assert!(
            page.starts_with("a<p ") && page.contains("</p>ba<p ") && page.ends_with("</p>b"),
            "{page}"
        );
        assert!(
            page.contains("<mfrac>") && page.contains("<mo>&lt;</mo>") && !page.contains("<pre"),
            "{page}"
        );
        assert_eq!(set(&page).unwrap(), (page, 0));
    }

    #[test]
    fn a_formula_that_is_none_is_an_error_that_quotes_it() {
        let error = set(&page(r"\frac{a}{")).unwrap_err();
        assert!(error.to_string().contains(r"no formula: \frac{a}{"), "{error}");
    }

    #[test]
    fn pages_in_folders_of_folders_are_found() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("a/b")).unwrap();
        std::fs::write(folder.path().join("a/b/c.html"), page("x")).unwrap();
        std::fs::write(folder.path().join("a/c.txt"), page("x")).unwrap();
        assert_eq!(set_all(folder.path()).unwrap(), 1);
        assert_eq!(set_all(folder.path()).unwrap(), 1); // a second time nothing is left to do
    }
}
