//! The estimators of the tables: all there are.
use gumbel::estimators::Method;

/// An estimator as a configuration file would name it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Name in the tables.
    pub(crate) name: &'static str,
    /// Its settings, `method = ".."` first.
    pub(crate) settings: String,
    /// Runs of the model for one estimate, by problem: `S` samples, `n` sites.
    pub(crate) runs: &'static str,
}

impl Entry {
    pub(crate) fn method(&self) -> anyhow::Result<Method> {
        Ok(toml::from_str(&self.settings)?)
    }

    /// The settings in one line, without the name of the method.
    pub(crate) fn summary(&self) -> String {
        let settings = self.settings.lines().filter(|line| !line.starts_with("method"));
        settings.collect::<Vec<_>>().join(", ")
    }
}

/// Every estimator for a bound of `samples` samples; those that need two have at least two.
pub(crate) fn all(samples: usize) -> Vec<Entry> {
    let two = samples.max(2);
    let entry = |name, method: &str, settings: &str, samples: usize, runs| {
        let settings = format!("method = \"{method}\"\nsamples = {samples}\n{settings}");
        Entry { name, settings: settings.trim_end().to_owned(), runs }
    };
    let single = |name, method: &str, settings: &str| entry(name, method, settings, samples, "S");
    let mut entries = vec![
        single("Enumeration", "enumerate", ""),
        Entry {
            name: "Sum-and-sample",
            settings: "method = \"sum-and-sample\"\nclasses = 1".to_owned(),
            runs: "(C+1)^N",
        },
        single("Gumbel-Softmax", "gumbel-softmax", "temperature = 0.5"),
        single("Invertible Gaussian", "invertible-gaussian", "temperature = 0.5"),
        single("Gumbel-sparsemax", "gumbel-sparsemax", "temperature = 0.5"),
        single("Gumbel-entmax", "gumbel-entmax", "temperature = 0.5"),
        single("Straight-through", "straight-through", ""),
        single("Slope-annealed ST", "slope-annealed-straight-through", "slope = 2"),
        single("ST Gumbel-Softmax", "straight-through-gumbel-softmax", "temperature = 0.5"),
        single(
            "Decoupled ST-GS",
            "decoupled-straight-through-gumbel-softmax",
            "forward_temperature = 1\nbackward_temperature = 0.7",
        ),
        single("Gapped ST", "gapped-straight-through", "temperature = 0.5"),
        single("Gumbel-Rao", "gumbel-rao", "temperature = 0.5\ndraws = 10"),
        single("ZGR", "zgr", ""),
        single("ReinMax", "reinmax", "temperature = 1"),
        single("ReinMax-Rao", "reinmax-rao", "temperature = 1\ndraws = 10"),
        single("DARN", "darn", ""),
        single("REINFORCE", "reinforce", "signal = { centred = false }"),
        single("REINFORCE, moving average", "reinforce", ""),
        single("NVIL", "nvil", "signal = { scaled = false }\nhidden = 20"),
        entry("MuProp", "muprop", "", samples, "S + 1"),
        entry("Leave-one-out (RLOO, VIMCO)", "leave-one-out", "", two, "S"),
        entry("REBAR", "rebar", "temperature = 0.5", samples, "S (1 + 6 n)"),
        entry("RELAX", "relax", "temperature = 0.5\nhidden = 20", samples, "S (1 + 6 n)"),
        entry("ARM", "arm", "", samples, "2 S"),
        entry("DisARM (U2G)", "disarm", "", samples, "2 S"),
        entry("ARMS", "arms", "copies = 4", samples, "4 S"),
        entry("CARMS", "carms", "copies = 2", samples, "2 S"),
        entry("CARMS", "carms", "copies = 4", samples, "4 S"),
        entry("Double control variates", "double-control-variates", "", two, "S"),
        entry("RODEO", "rodeo", "", two, "S"),
    ];
    if samples == 1 {
        // To compare with four copies; of another bound than S = 1 only in name.
        entries.push(entry("Leave-one-out (RLOO, VIMCO)", "leave-one-out", "", 4, "S"));
    }
    entries
}

/// Those with a temperature, for the sweep.
pub(crate) fn tempered(temperature: f64) -> Vec<Entry> {
    let entry = |name, method: &str, settings: &str| Entry {
        name,
        settings: format!("method = \"{method}\"\ntemperature = {temperature}{settings}"),
        runs: "S",
    };
    vec![
        entry("Gumbel-Softmax", "gumbel-softmax", ""),
        entry("Invertible Gaussian", "invertible-gaussian", ""),
        entry("Gumbel-sparsemax", "gumbel-sparsemax", ""),
        entry("ST Gumbel-Softmax", "straight-through-gumbel-softmax", ""),
        entry("Gapped ST", "gapped-straight-through", ""),
        entry("Gumbel-Rao, 16 draws", "gumbel-rao", "\ndraws = 16"),
        entry("ReinMax", "reinmax", ""),
    ]
}
