//! A page of HTML that needs nothing else.
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::{Axes, Error, Panel, Result, svg_of_each};

/// Colours are the reader's: `color-scheme` has both.
const STYLE: &str = "
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 64rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2rem; }
table { border-collapse: collapse; } td, th { padding: .15rem .7rem .15rem 0; text-align: left; vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; } th[data-sort] { cursor: pointer; text-decoration: underline dotted; overflow-wrap: anywhere; min-width: 5rem; max-width: 12rem; vertical-align: bottom; }
.map td { width: 1.6rem; height: 1.6rem; padding: 0; border: 1px solid #8884; }
.wide { overflow-x: auto; } pre { overflow-x: auto; white-space: pre-wrap; }
svg { width: 100%; height: auto; } figure { display: inline-block; margin: 0 1rem 1rem 0; } .panel { width: min(20.5rem, 100%); margin: 0 0 1rem 0; } img { max-width: 100%; image-rendering: pixelated; }
figcaption, .note { opacity: .8; font-size: .9rem; } mark { background: #e69f0055; color: inherit; }
";

/// Sorts a table by the column whose head is clicked: numbers by size, else by letters.
const SORT: &str = "<script>document.querySelectorAll('th[data-sort]').forEach(h=>h.onclick=()=>{\
const t=h.closest('table'),i=[...h.parentNode.children].indexOf(h),d=h.dataset.sort=h.dataset.sort==='up'?'down':'up',\
v=r=>r.children[i].dataset.v??r.children[i].textContent;[...t.tBodies[0].rows].sort((a,b)=>{const x=v(a),y=v(b),\
n=x-y;return (isNaN(n)?x.localeCompare(y):n)*(d==='up'?1:-1)}).forEach(r=>t.tBodies[0].append(r))})</script>";

/// Variables of a map of codes, at most.
const VARIABLES: usize = 32;

/// Text as HTML shows it.
#[must_use]
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A page that grows section by section.
#[derive(Clone, Debug)]
pub struct Page {
    text: String,
    sorts: bool,
}

impl Page {
    /// A page with a title.
    #[must_use]
    pub fn new(title: &str) -> Self {
        let title = escaped(title);
        let text = format!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title>\
             <link rel=\"icon\" href=\"data:,\"><style>{STYLE}</style></head><body><main><h1>{title}</h1>\n"
        );
        Self { text, sorts: false }
    }

    /// A section; `body` is HTML.
    pub fn section(&mut self, title: &str, body: &str) {
        let _ = writeln!(self.text, "<section><h2>{}</h2>{body}</section>", escaped(title));
    }

    /// HTML between sections.
    pub fn add(&mut self, html: &str) {
        self.text.push_str(html);
    }

    /// A section with text as it is.
    pub fn listing(&mut self, title: &str, text: &str) {
        self.section(title, &format!("<pre>{}</pre>", escaped(text)));
    }

    /// The rows of a table of names and values; values are numbers where they look like some.
    #[must_use]
    pub fn pairs<'a>(rows: impl IntoIterator<Item = (&'a str, String)>) -> String {
        let mut text = "<div class=\"wide\" tabindex=\"0\"><table>".to_owned();
        for (name, value) in rows {
            let _ = write!(
                text,
                "<tr><th scope=\"row\">{}</th><td>{}</td></tr>",
                escaped(name),
                escaped(&value)
            );
        }
        text + "</table></div>"
    }

    /// A table that is sorted by a click on the head of a column. A cell is its text and, where it is a number, its value.
    #[must_use]
    pub(crate) fn sortable(
        &mut self,
        heads: &[String],
        rows: &[Vec<(String, Option<f64>)>],
    ) -> String {
        self.sorts = true;
        let mut text = "<div class=\"wide\" tabindex=\"0\"><table><thead><tr>".to_owned();
        for head in heads {
            let _ = write!(text, "<th scope=\"col\" data-sort=\"\">{}</th>", escaped(head));
        }
        text.push_str("</tr></thead><tbody>");
        for row in rows {
            text.push_str("<tr>");
            for (cell, value) in row {
                let _ = match value {
                    Some(value) => {
                        write!(text, "<td class=\"n\" data-v=\"{value}\">{}</td>", escaped(cell))
                    }
                    None => write!(text, "<td>{}</td>", escaped(cell)),
                };
            }
            text.push_str("</tr>");
        }
        text + "</tbody></table></div>"
    }

    /// How often each value of each variable is used, `[N][K]`: a table whose cells are as dark as their value is frequent.
    #[must_use]
    pub fn usage_map(marginals: &[Vec<f64>]) -> String {
        let mut text =
            "<div class=\"wide\" tabindex=\"0\"><table class=\"map\"><tr><th>variable</th>"
                .to_owned();
        let values = marginals.first().map_or(0, Vec::len);
        let most = marginals.iter().flatten().copied().fold(1e-9, f64::max);
        (0..values).for_each(|k| text += &format!("<th>{k}</th>"));
        for (m, usage) in marginals.iter().enumerate().take(VARIABLES) {
            text += &format!("</tr><tr><th>{m}</th>");
            for (k, share) in usage.iter().enumerate() {
                text += &format!(
                    "<td style=\"background:rgba(0,114,178,{:.3})\" title=\"variable {m}, value {k}: {:.1} %\"></td>",
                    share / most,
                    100. * share
                );
            }
        }
        text += "</tr></table></div>";
        if marginals.len() > VARIABLES {
            text += &format!("<p class=\"note\">The first {VARIABLES} of {}.</p>", marginals.len());
        }
        text
    }

    /// A picture in the page itself.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn picture(path: &Path, shows: &str) -> Result<String> {
        let bytes = fs::read(path).map_err(|source| Error::Io { path: path.into(), source })?;
        let (data, shows) = (BASE64_STANDARD.encode(bytes), escaped(shows));
        Ok(format!(
            "<figure><img src=\"data:image/png;base64,{data}\" alt=\"{shows}\"><figcaption>{shows}</figcaption></figure>"
        ))
    }

    /// Panels in the page itself, as many beside each other as the screen has room for.
    ///
    /// # Errors
    /// If one cannot be drawn.
    pub fn panels(panels: &[Panel], axes: &Axes) -> Result<String> {
        let mut text = String::new();
        for (panel, svg) in panels.iter().zip(svg_of_each(panels, axes)?) {
            // What it shows, for those who cannot see it.
            let shows = format!("{} by {}", panel.title, axes.x);
            let labelled = format!("<svg role=\"img\" aria-label=\"{}\" ", escaped(&shows));
            let _ = write!(
                text,
                "<figure class=\"panel\">{}</figure>",
                // In a page there is a colour that is read on any ground: that of its text.
                svg.replacen("<svg ", &labelled, 1)
                    .replace("fill=\"#808080\"", "fill=\"currentColor\"")
            );
        }
        Ok(text)
    }

    /// The whole page.
    #[must_use]
    pub fn finish(self) -> String {
        let script = if self.sorts { SORT } else { "" };
        format!("{}</main>{script}</body></html>\n", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_run_becomes_markup() {
        let mut page = Page::new("<b>&\"");
        page.listing("<i>", "</pre><script>");
        let pairs = Page::pairs([("<u>", "<s>".to_owned())]);
        let table = page.sortable(&["<h>".to_owned()], &[vec![("<c>".to_owned(), Some(1.5))]]);
        page.section("tables", &(pairs + &table));
        let text = page.finish();
        for part in ["<b>", "<i>", "<u>", "<s>", "<h>", "<c>", "</pre><script>"] {
            assert!(!text.contains(part), "{part}");
        }
        assert!(text.contains("data-v=\"1.5\"") && text.contains("&lt;b&gt;&amp;&quot;"));
    }
}
