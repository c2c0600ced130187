//! What a training step costs as texts get longer and vocabularies larger: `lm cost`.
use std::fmt::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use candle_core::{DType, Device, Tensor, Var};
use gumbel::Key;
use gumbel::estimators::{Estimator, StraightThroughGumbelSoftmax, Trace};
use gumbel::objectives::Elbo;
use gumbel_experiments::print;
use gumbel_kernels::{Forward, gumbel_softmax_embedding};
use gumbel_models::{
    CodeLmConfig, Emission, LanguageModel, LatentVariableModel, Latents, Sequences, SwitchLmConfig,
    TransformerConfig,
};
use gumbel_training::{Error, Params, Result};

/// Symbols of a step, whatever its length.
const SYMBOLS: usize = 4096;
const WIDTH: usize = 64;
const LENGTHS: [usize; 5] = [128, 256, 512, 1024, 2048];
const VOCABULARIES: [usize; 4] = [65, 1000, 10_000, 50_000];
/// Where the other is varied.
const USUAL: (usize, usize) = (128, 1000);
const KINDS: [(&str, &str); 5] = [
    ("decoder", "decoder, all context"),
    ("window", "decoder, window 2"),
    ("states", "32 states, likelihood, window 2"),
    ("codes", "8 × 8 codes, ST-GS, window 2"),
    ("words", "words by ST-GS and their vectors"),
];

/// Options of `lm cost`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct CostArgs {
    /// Page to write
    #[arg(long, value_name = "FILE", default_value = "docs/results/language-cost.md")]
    page: PathBuf,

    /// One measurement, as the program asks it of itself
    #[arg(long, value_name = "KIND,T,V", hide = true)]
    one: Option<String>,
}

/// `lm cost`.
pub(crate) fn cost(args: &CostArgs, threads: usize) -> Result<()> {
    if let Some(one) = &args.one {
        let parts: Vec<&str> = one.split(',').collect();
        let size = |part: Option<&&str>| part.and_then(|text| text.parse().ok());
        let (Some(kind), Some(t), Some(v)) =
            (parts.first(), size(parts.get(1)), size(parts.get(2)))
        else {
            return Err(Error::Usage(format!("--one {one}; use KIND,T,V")));
        };
        let seconds = measured(kind, t, v)?;
        return print(&format!("{seconds} {}\n", peak_mib()));
    }
    let mut page = format!(
        "# What a training step of a language model costs\n\n\
         Made by `lm cost` with {threads} threads: likelihood and gradients of {SYMBOLS} symbols, width {WIDTH}, 2 layers; microseconds \
         per symbol (fastest of three), and the most memory that the process had, in MiB. Each number is of a process of \
         its own. The last row has no decoder and no likelihood: words drawn from logits that are a linear map, and their \
         vectors.\n"
    );
    let by_length: Vec<_> = LENGTHS.map(|t| (t, USUAL.1)).to_vec();
    let by_size: Vec<_> = VOCABULARIES.map(|v| (USUAL.0, v)).to_vec();
    for (title, sizes) in [
        (format!("By length of the sequences, {} symbols in the vocabulary", USUAL.1), by_length),
        (format!("By size of the vocabulary, sequences of {}", USUAL.0), by_size),
    ] {
        let by_length = sizes.iter().any(|(t, _)| *t != USUAL.0);
        let heads: Vec<String> =
            sizes.iter().map(|(t, v)| format!("{}", if by_length { t } else { v })).collect();
        let _ = write!(
            page,
            "\n## {title}\n\n| | {} |\n|---|{}\n",
            heads.join(" | "),
            "--:|".repeat(sizes.len())
        );
        // Words are drawn whatever the length.
        for (kind, name) in KINDS.into_iter().filter(|(kind, _)| !by_length || *kind != "words") {
            let cells = sizes.iter().map(|(t, v)| in_a_process(kind, *t, *v));
            let cells: Vec<String> = cells.collect::<Result<_>>()?;
            let _ = writeln!(page, "| {name} | {} |", cells.join(" | "));
        }
    }
    if let Some(folder) = args.page.parent() {
        std::fs::create_dir_all(folder).map_err(|error| Error::caller(74, error))?;
    }
    let failed = |error| Error::caller(74, format!("{}: {error}", args.page.display()));
    std::fs::write(&args.page, &page).map_err(failed)?;
    print(&page)
}

/// A measurement in a process of its own, so that memory is that of the step alone.
fn in_a_process(kind: &str, t: usize, v: usize) -> Result<String> {
    let program = std::env::current_exe().map_err(|error| Error::caller(74, error))?;
    let output = Command::new(program)
        .args(["cost", "--one", &format!("{kind},{t},{v}")])
        .output()
        .map_err(|error| Error::caller(74, error))?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(Error::caller(70, format!("{kind} at T = {t}, V = {v}: {message}")));
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut numbers = text.split_whitespace();
    let seconds: f64 = numbers.next().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN);
    let memory = numbers.next().unwrap_or("?");
    Ok(format!("{:.1} µs, {memory} MiB", 1e6 * seconds / SYMBOLS as f64))
}

/// Seconds of a step, the fastest of three after one that is not counted.
fn measured(kind: &str, t: usize, v: usize) -> Result<f64> {
    let step = if kind == "words" { words(v)? } else { model(kind, t, v)? };
    let mut fastest = f64::INFINITY;
    for repetition in 0..4 {
        let start = Instant::now();
        let gradients = gumbel_kernels::backward(&step(repetition)?)?;
        drop(gradients);
        if repetition > 0 {
            fastest = fastest.min(start.elapsed().as_secs_f64());
        }
    }
    Ok(fastest)
}

/// The loss of one repetition.
type Step = Box<dyn Fn(u64) -> Result<Tensor>>;

/// Sampled text on its way to a reader: words drawn by relaxation from states of a decoder, and their vectors.
fn words(v: usize) -> Result<Step> {
    let key = Key::from_seed(1);
    let parameter = |name: &str, rows: usize| {
        let numbers = key.named(name).normal((rows, WIDTH), DType::F32, &Device::Cpu)?;
        Var::from_tensor(&(numbers * 0.125)?)
    };
    let (x, weight) = (parameter("states", SYMBOLS)?, parameter("output", v)?);
    let table = parameter("embeddings", v)?;
    Ok(Box::new(move |repetition| {
        let noise = key.named("noise").fold_in(repetition);
        let vectors = gumbel_softmax_embedding(&x, &weight, &table, 1., Forward::Hard, noise)?;
        Ok(vectors.sqr()?.mean_all()?)
    }))
}

/// Likelihood of a model, or a bound of it.
fn model(kind: &str, t: usize, v: usize) -> Result<Step> {
    let window = (kind != "decoder").then_some(2);
    let decoder =
        TransformerConfig { vocabulary: v, width: WIDTH, heads: 2, layers: 2, context: t, window };
    let latents = match kind {
        "states" => Latents::States(SwitchLmConfig {
            states: 32,
            segment: 1,
            emission: Emission::Product,
            gated: true,
            scale: 0.02,
            encoder_layers: 0,
            evidence: false,
        }),
        "codes" => Latents::Codes(CodeLmConfig {
            variables: 8,
            categories: 8,
            segment: None,
            encoder_layers: 1,
            prior_layers: 1,
            scale: 0.01,
            bag_of_words: false,
        }),
        "decoder" | "window" => Latents::None {},
        _ => return Err(Error::Usage(format!("there is no kind `{kind}`"))),
    };
    let device = Device::Cpu;
    let key = Key::from_seed(1);
    let params = Params::new(key.named("init"), DType::F32, &device);
    let model = LanguageModel::new(&decoder, &latents, &params.var_builder())?;
    let b = (SYMBOLS / t).max(1);
    let ids = |name: &str| {
        let draw = |i| (key.named(name).uniform_at(i) * v as f64) as u32;
        Tensor::from_vec((0..(b * t) as u64).map(draw).collect(), (b, t), &device)
    };
    let x = Sequences { inputs: ids("inputs")?, targets: ids("targets")? };
    let estimator = StraightThroughGumbelSoftmax { samples: 1, temperature: 1. };
    let sampled = kind == "codes";
    Ok(Box::new(move |repetition| {
        if !sampled {
            return Ok(model.log_prob(&x)?.mean_all()?.neg()?);
        }
        let program = |trace: &mut Trace<'_>| model.log_likelihood(&x, trace);
        Ok(estimator.surrogate(&program, &Elbo::default(), key.fold_in(repetition))?.loss)
    }))
}

/// The most memory that this process had; unknown where the system does not say.
fn peak_mib() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.map_or_else(|| "?".to_owned(), |kib| (kib >> 10).to_string())
}
