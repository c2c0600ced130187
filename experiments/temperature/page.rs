//! The page of a study: its head, its tables and its figures.
use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use gumbel_datasets::Dataset;
use gumbel_experiments::{Budget, say, write_whole};
use gumbel_report::svg;

use crate::figures;
use crate::tables;
use crate::train::Setting;
use crate::view::View;

/// Writes `temperature.md` and its figures.
pub(crate) fn write(
    folder: &Path,
    view: &View<'_>,
    (budget, left): (Budget, usize),
    setting: Setting<'_>,
    environment: &str,
) -> Result<()> {
    let mut text = head(budget, setting, environment);
    if left > 0 {
        let _ = writeln!(
            text,
            "\n**Not complete: {left} measurements and models are still to be computed; the same command goes on.**"
        );
    }
    let page = folder.join("temperature.md");
    text.push_str(&answers(&std::fs::read_to_string(&page).unwrap_or_default()));
    for section in [
        tables::gradients(view),
        tables::laws(view),
        tables::fixed(view),
        tables::least_error(view),
        tables::schedules(view),
        tables::others(view),
    ] {
        text.push_str(&section);
    }
    let figures = figures::all(view);
    if !figures.is_empty() {
        text.push_str("\n## Figures\n");
    }
    for figure in figures {
        let name = format!("temperature-{}.svg", figure.name);
        write_whole(&folder.join(&name), &svg(&figure.panels, &figure.axes)?)?;
        let _ = write!(text, "\n![{}]({name})\n\n{}\n", figure.name, figure.caption);
    }
    write_whole(&page, &text)?;
    say(&format!("the result is in {}", page.display()));
    Ok(())
}

/// What somebody wrote about the results, which stays on the page when it is made again: the section of that name.
fn answers(page: &str) -> String {
    const HEADING: &str = "\n## Answers\n";
    let Some(start) = page.find(HEADING) else { return String::new() };
    let rest = &page[start + HEADING.len()..];
    let end = rest.find("\n## ").unwrap_or(rest.len());
    page[start..start + HEADING.len() + end].to_owned()
}

fn head(budget: Budget, setting: Setting<'_>, environment: &str) -> String {
    let sizes = setting.sizes;
    let images = setting.data.train.images();
    let synthetic = if setting.data.is_synthetic() {
        " SYNTHETIC images: these numbers compare with nothing published."
    } else {
        ""
    };
    format!(
        "# The temperature: what it does to gradients and to trained models\n\n\
         Made by `just run-temperature --budget {budget}` (page: {environment}): {}, fixed binarisation, {} training \
         images.{synthetic} Categorical VAEs with 4,096 joint values of the latents (n×N: N variables of n categories), {} rectified \
         units in encoder and decoder, uniform prior, one sample where nothing else is said, closed-form divergence (Concrete: \
         densities), batch {}, Adam, learning rate along a cosine from {} to a hundredth of it over {} steps.\n\n\
         Gradients: {} estimates at each point, against the exact one (all joint values summed), in the encoder of a model that the \
         exact gradient has trained (seed 1), on one batch of {} training images. The bias is that of the mean over this batch; what \
         noise adds to its square is taken off, and where that leaves less than nothing it is 0. The variance is that of the \
         draws, given the images. Bounds: exact, all joint values summed, on all test images; temperatures are chosen on 2,000 \
         validation images. ± is one standard error, over seeds where models are trained. Data: [gradients](temperature-gradients.csv), \
         [training](temperature-training.csv).\n",
        images.title(),
        setting.data.train.len(),
        sizes.hidden,
        sizes.batch,
        sizes.learning_rate,
        sizes.steps,
        sizes.replicates,
        sizes.batch,
    )
}

#[cfg(test)]
mod tests_of_this {
    use super::*;

    #[test]
    fn what_was_written_about_the_results_stays_on_the_page() {
        let written = "\n## Answers\n\nIt is warm.\n\n### Why\n\nSo.\n";
        assert_eq!(answers(&format!("# T\n{written}\n## Tables\n")), written);
        assert_eq!(answers(&format!("# T\n{written}")), written);
        assert_eq!(answers("# T\n\n## Tables\n"), "");
    }
}
