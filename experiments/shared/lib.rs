//! What the experiments share: what a configuration has to hold to, where data is looked for, what is printed and written;
//! and of those on images the configuration, the data, and how a model is judged.
mod budget;
mod config;
mod estimators;
mod images;
mod output;
mod places;

pub use budget::Budget;
pub use config::{EXIT_CODES, at_least_one, check_shipped, within};
pub use estimators::build_estimators;
pub use images::{
    Config, Data, DataArgs, DataConfig, EvaluationConfig, Evaluator, ImageArgs, Judged, Names,
    ProbeConfig, probe, variables,
};
pub use output::{
    mark, print, print_result, say, told, whole_or_none, write_and_say, write_report,
    write_summary, write_whole,
};
pub use places::{loaded, places};
