//! What a table is: cells with their configuration and what was published for them.
use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use gumbel_experiments::Budget;
use gumbel_sweep::plain;
use serde::Deserialize;

use crate::figure::Figure;

/// Name, definition, and the configuration that all cells start from.
pub(crate) const TABLES: [(&str, &str, &str); 17] = [
    ("jang-vae", include_str!("tables/jang-vae.toml"), VAE_JANG),
    ("jang-sbn", include_str!("tables/jang-sbn.toml"), PREDICT_JANG),
    ("maddison-prediction", include_str!("tables/maddison-prediction.toml"), PREDICT_MADDISON),
    ("maddison-density", include_str!("tables/maddison-density.toml"), VAE_MADDISON),
    ("maddison-omniglot", include_str!("tables/maddison-omniglot.toml"), VAE_MADDISON),
    ("maddison-arity", include_str!("tables/maddison-arity.toml"), VAE_MADDISON),
    ("maddison-temperature", include_str!("tables/maddison-temperature.toml"), PREDICT_MADDISON),
    ("jang-semi", include_str!("tables/jang-semi.toml"), SEMI_JANG),
    ("gumbel-rao", include_str!("tables/gumbel-rao.toml"), VAE_MADDISON),
    ("reinmax", include_str!("tables/reinmax.toml"), VAE_REINMAX),
    ("reinmax-rao", include_str!("tables/reinmax-rao.toml"), VAE_REINMAX),
    ("beyond", include_str!("tables/beyond.toml"), VAE_MADDISON),
    ("languages", include_str!("tables/languages.toml"), LM_SWITCHING),
    ("languages-longer", include_str!("tables/languages-longer.toml"), LM_SWITCHING),
    ("languages-grammar", include_str!("tables/languages-grammar.toml"), LM_SWITCHING),
    ("text", include_str!("tables/text.toml"), LM_E2E),
    ("wikitext", include_str!("tables/wikitext.toml"), LM_WIKITEXT),
];

const VAE_JANG: &str = include_str!("../vae/configs/jang-categorical.toml");
const VAE_MADDISON: &str = include_str!("../vae/configs/maddison.toml");
const VAE_REINMAX: &str = include_str!("../vae/configs/reinmax.toml");
const PREDICT_JANG: &str = include_str!("../predict/configs/jang-categorical.toml");
const SEMI_JANG: &str = include_str!("../semi/configs/jang.toml");
const LM_E2E: &str = include_str!("../lm/configs/e2e.toml");
const LM_WIKITEXT: &str = include_str!("../lm/configs/wikitext-2.toml");
const LM_SWITCHING: &str = include_str!("../lm/configs/switching.toml");
const PREDICT_MADDISON: &str = include_str!("../predict/configs/maddison.toml");

/// Something is asked for that there is not.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unknown {
    #[error("there is no table `{0}`, choose one of: {1}")]
    Table(String, String),
    #[error("no cell of {0} has `{1}` in its name")]
    Cell(String, String),
}

pub(crate) fn find(name: &str) -> Result<(Table, &'static str)> {
    let Some((_, text, config)) = TABLES.iter().find(|(known, _, _)| *known == name) else {
        bail!(Unknown::Table(name.to_owned(), TABLES.map(|(known, _, _)| known).join(", ")))
    };
    Ok((Table::parse(text).with_context(|| format!("table {name}"))?, config))
}

/// Steps and seeds of a budget, and what else it changes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Spending {
    pub(crate) steps: u64,
    pub(crate) seeds: u64,
    #[serde(default)]
    pub(crate) set: Vec<String>,
}

/// Which number of a run is compared with the published one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Score {
    /// The bound of one sample.
    Elbo,
    /// The bound of as many samples as the evaluation takes.
    Bound,
}

/// A program of this package, and the folder of its runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Experiment {
    Vae,
    Predict,
    Semi,
    Lm,
}

impl Experiment {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Vae => "vae",
            Self::Predict => "predict",
            Self::Semi => "semi",
            Self::Lm => "lm",
        }
    }

    /// What a bound is of.
    pub(crate) fn observation(self) -> &'static str {
        match self {
            Self::Vae | Self::Predict | Self::Semi => "image",
            Self::Lm => "sequence",
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Table {
    pub(crate) title: String,
    /// Where the published numbers are from.
    pub(crate) source: String,
    /// What the published numbers are, and how the set-up differs.
    pub(crate) notes: Vec<String>,
    pub(crate) score: Score,
    /// What a share is called that runs report beside their bounds.
    #[serde(default)]
    pub(crate) share: Option<String>,
    /// The program that runs the cells.
    pub(crate) experiment: Experiment,
    pub(crate) budgets: BTreeMap<Budget, Spending>,
    /// Named changes of the configuration, that cells refer to.
    #[serde(default)]
    settings: BTreeMap<String, Vec<String>>,
    pub(crate) cells: Vec<Cell>,
    /// What is drawn of it.
    #[serde(default)]
    pub(crate) figure: Figure,
    /// Pictures that runs made, to be shown with it.
    #[serde(default)]
    pub(crate) pictures: Vec<Picture>,
}

/// A picture that the first run of a cell made.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Picture {
    /// Name of the cell.
    pub(crate) cell: String,
    /// What the run calls it.
    pub(crate) sample: String,
    /// What it shows.
    pub(crate) shows: String,
}

impl Picture {
    /// Its file beside the table's page.
    pub(crate) fn file(&self, table: &str) -> String {
        format!("{}-{}.png", plain(&format!("{table}-{}", self.cell)), self.sample)
    }
}

/// One entry of a table.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cell {
    pub(crate) row: String,
    pub(crate) column: String,
    /// Names of settings.
    #[serde(default)]
    with: Vec<String>,
    /// Changes of the configuration after those.
    #[serde(default)]
    pub(crate) set: Vec<String>,
    /// Published, negative bounds in nats.
    #[serde(default)]
    pub(crate) test: Option<f64>,
    #[serde(default)]
    pub(crate) train: Option<f64>,
    /// Published, a share of the test images.
    #[serde(default)]
    pub(crate) accuracy: Option<f64>,
}

impl Cell {
    /// `row/column`.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.row, self.column)
    }
}

impl Table {
    /// Reads a definition, with the settings of each cell in its `set`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut table: Self = toml::from_str(text)?;
        for cell in &mut table.cells {
            let mut set = Vec::new();
            for name in &cell.with {
                let setting = table.settings.get(name);
                set.extend_from_slice(
                    setting.with_context(|| format!("there is no setting `{name}`"))?,
                );
            }
            set.append(&mut cell.set);
            cell.set = set;
        }
        let mut names: Vec<String> = table.cells.iter().map(Cell::name).collect();
        names.sort();
        ensure!(names.iter().all(|name| !name.contains(',')), "a name has a comma in it");
        ensure!(names.windows(2).all(|pair| pair[0] != pair[1]), "two cells have one name");
        for picture in &table.pictures {
            ensure!(
                names.contains(&picture.cell),
                "there is no cell `{}` to picture",
                picture.cell
            );
        }
        Ok(table)
    }

    /// The names of the rows in order.
    pub(crate) fn rows(&self) -> Vec<&str> {
        let mut rows: Vec<&str> = self.cells.iter().map(|cell| cell.row.as_str()).collect();
        rows.dedup();
        rows
    }

    pub(crate) fn budget(&self, budget: Budget) -> Result<&Spending> {
        self.budgets.get(&budget).with_context(|| format!("the table has no budget `{budget}`"))
    }

    /// The cell of a name, or if there is none, those with this in their name.
    pub(crate) fn only(&self, name: &str) -> Vec<&Cell> {
        match self.cells.iter().find(|cell| cell.name() == name) {
            Some(cell) => vec![cell],
            None => self.cells.iter().filter(|cell| cell.name().contains(name)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_is_complete() {
        for (name, ..) in TABLES {
            let (table, _) = find(name).unwrap();
            assert!(!table.cells.is_empty() && !table.source.is_empty(), "{name}");
            let steps =
                [Budget::Quick, Budget::Cpu, Budget::Full].map(|b| table.budget(b).unwrap().steps);
            assert!(steps[0] < steps[1] && steps[1] <= steps[2], "{name}");
            for cell in &table.cells {
                assert!(cell.test.is_none_or(|test| test > 0.), "{name}: {}", cell.name());
            }
        }
    }

    /// A schedule that ends with the run ends with it under every budget whose numbers count.
    #[test]
    fn schedules_end_with_the_run() {
        for (name, _, config) in TABLES {
            let (table, _) = find(name).unwrap();
            for budget in [Budget::Cpu, Budget::Full] {
                let budget = table.budget(budget).unwrap();
                for cell in &table.cells {
                    let mut settings = config
                        .lines()
                        .chain(cell.set.iter().chain(&budget.set).map(String::as_str));
                    let last = settings.rfind(|line| line.starts_with("learning_rate"));
                    let rate = last.unwrap().replace(' ', "");
                    if let Some((_, rest)) = rate.split_once("steps=") {
                        let steps: String = rest.chars().take_while(char::is_ascii_digit).collect();
                        assert_eq!(steps, budget.steps.to_string(), "{name}: {}", cell.name());
                    }
                }
            }
        }
    }

    #[test]
    fn a_name_is_that_of_one_cell_and_a_part_of_it_that_of_many() {
        let (table, _) = find("gumbel-rao").unwrap();
        let of = |name| table.only(name).len();
        assert_eq!((of("binary/GR-MC10"), of("binary/GR-MC"), of("/GR-MC10")), (1, 3, 12));
        assert_eq!((of(""), of("nothing")), (table.cells.len(), 0));
    }

    #[test]
    fn mistakes_are_named() {
        let error = find("reinmx").unwrap_err();
        assert!(error.is::<Unknown>() && error.to_string().contains("reinmax"), "{error}");
        let text =
            include_str!("tables/reinmax.toml").replacen("with = [\"8x4\"", "with = [\"9x4\"", 1);
        assert!(Table::parse(&text).unwrap_err().to_string().contains("`9x4`"));
    }
}
