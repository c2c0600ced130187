//! Rows, and the table of what they came to.
use std::fmt;

use anyhow::Result;

use crate::world::World;

/// What a row came to: the measured figure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// As it should be.
    Reached(String),
    /// Not as it should be.
    Missed(String),
    /// Not measured, and why.
    Left(String),
}

impl Outcome {
    /// Reached if there is nothing to complain of.
    pub(crate) fn of(figure: String, complaints: &[String]) -> Self {
        match complaints {
            [] => Self::Reached(figure),
            [first, ..] => {
                Self::Missed(format!("{figure}; {} wrong, first: {first}", complaints.len()))
            }
        }
    }

    pub(crate) fn figure(&self) -> &str {
        match self {
            Self::Reached(figure) | Self::Missed(figure) | Self::Left(figure) => figure,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reached(_) => "pass",
            Self::Missed(_) => "FAIL",
            Self::Left(_) => "left out",
        })
    }
}

/// A property that can be measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) number: usize,
    pub(crate) property: &'static str,
    /// The figure to reach.
    pub(crate) wanted: &'static str,
    pub(crate) measure: fn(&World) -> Result<Outcome>,
}

impl Row {
    /// What it comes to; a row that cannot be measured is one that fails.
    pub(crate) fn outcome(&self, world: &World) -> Outcome {
        (self.measure)(world).unwrap_or_else(|error| {
            Outcome::Missed(format!("not measured: {}", gumbel_experiments::told(&error)))
        })
    }
}

/// A row of a Markdown table, with what would end a cell made harmless.
pub(crate) fn markdown(row: &Row, outcome: &Outcome) -> String {
    let figure = outcome.figure().replace('|', "\\|").replace('\n', " ");
    format!("| {} | {} | {} | {figure} | {outcome} |", row.number, row.property, row.wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_makes_a_miss_and_an_error_is_one() {
        assert_eq!(Outcome::of("3 kills".into(), &[]), Outcome::Reached("3 kills".into()));
        let missed = Outcome::of("3 kills".into(), &["torn | a".into(), "torn b".into()]);
        assert_eq!(missed, Outcome::Missed("3 kills; 2 wrong, first: torn | a".into()));
        let row =
            Row { number: 1, property: "p", wanted: "w", measure: |_| anyhow::bail!("no program") };
        assert!(markdown(&row, &missed).ends_with("torn \\| a | FAIL |"));
    }
}
