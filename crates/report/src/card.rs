//! The card of an exported model.
use std::fmt::Write as _;

use serde_json::Value;

use crate::Record;

/// `README.md` of a model that is given away, as it was after so many `steps`: what it is, what it was trained on and how well, how to use it, whom to cite.
#[must_use]
pub fn card(run: &Record, steps: u64) -> String {
    let experiment = &run.experiment;
    let mut text = format!(
        "---\nlibrary_name: gumbel\ntags:\n- discrete-latent-variables\n---\n\n# {}\n\nA model of the experiment `{experiment}` of gumbel, after {steps} training steps.\n",
        run.name()
    );
    if let Value::Object(data) = &run.environment["identity"] {
        text.push_str("\n## Data\n\n");
        for (name, value) in data {
            let _ = writeln!(text, "- `{name}`: {}", value.as_str().unwrap_or_default());
        }
    }
    // That of an earlier end is of another model.
    if let Value::Object(summary) = &run.summary
        && run.summary["steps"] == steps
    {
        text.push_str("\n## Result\n\n| | |\n|---|---|\n");
        for (name, value) in summary {
            let _ = writeln!(
                text,
                "| {name} | {} |",
                value.to_string().trim_matches('"').replace('|', "\\|")
            );
        }
    }
    let _ = write!(
        text,
        "\n## Use\n\n```sh\n{experiment} --config FOLDER/config.toml --init FOLDER --steps 0    # the same bound again\n\
         {experiment} --config FOLDER/config.toml --init FOLDER --steps N    # training from here\n```\n\n\
         `model.safetensors` has the parameters by name, `config.toml` (and `config.json`) the configuration.\n"
    );
    if !run.citations.is_empty() {
        let _ = write!(text, "\n## To be cited\n\n```bibtex\n{}\n```\n", run.citations.trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::made_up;

    #[test]
    fn a_card_says_what_the_model_is() {
        let root = tempfile::tempdir().unwrap();
        let directory = made_up(root.path(), "a", "seed = 1\n", -100.);
        std::fs::write(directory.join("citations.bib"), "@article{x}\n").unwrap();
        let record = Record::read(&directory).unwrap();
        let earlier = card(&record, 150);
        assert!(earlier.contains("150 training steps") && !earlier.contains("Result"), "{earlier}");
        let text = card(&record, 200);
        for part in
            ["`vae`", "200 training steps", "| bound | -100 |", "vae --config", "@article{x}\n```"]
        {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }
}
