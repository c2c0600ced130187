//! Using a model that is trained: writing text, finding codes.
use std::path::{Path, PathBuf};

use candle_core::{D, DType, Device, Tensor};
use gumbel::Key;
use gumbel_experiments::print;
use gumbel_models::{Choice, LanguageModel, Sequences, Written};
use gumbel_training::checkpoint::Checkpoint;
use gumbel_training::{Error, Params, Result};

use crate::config::Config;
use crate::data::Data;
use crate::words::tag;

/// Options of `lm sample`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct SampleArgs {
    /// Directory of a run
    run: PathBuf,

    /// Values of the first codes, or states, separated by commas; the others are drawn from the prior
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    codes: Vec<u32>,

    /// Number of texts
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    count: u16,

    /// Symbols of a text, at most [default: as many as the longest of the corpus has]
    #[arg(long, value_name = "N")]
    length: Option<usize>,

    /// What the texts start with
    #[arg(long, value_name = "TEXT", default_value = "")]
    prompt: String,

    /// Divides the logits: 0 takes the most probable symbol, 1 draws from the model
    #[arg(long, value_name = "T", default_value_t = 1.)]
    temperature: f64,

    /// Only so many of the most probable symbols
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,

    /// Only the most probable symbols that together have this probability
    #[arg(long, value_name = "P", default_value_t = 1.)]
    top_p: f64,

    /// Names the random numbers
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Where the text that the model was trained on is looked for first
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// Options of `lm encode`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct EncodeArgs {
    /// Directory of a run
    run: PathBuf,

    /// Text, a sentence a line
    file: PathBuf,

    /// Where the text that the model was trained on is looked for first
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// A model as a run left it.
struct Trained {
    model: LanguageModel,
    data: Data,
}

impl Trained {
    /// Of the newest checkpoint of a run.
    fn open(directory: &Path, data_dir: Option<PathBuf>) -> Result<Self> {
        let file = directory.join("config.toml");
        let text = std::fs::read_to_string(&file).map_err(|error| {
            Error::Usage(format!(
                "{}: no run directory ({error}); give one below runs/lm",
                directory.display()
            ))
        })?;
        let config: Config = toml::from_str(&text)
            .map_err(|error| Error::Usage(format!("{}: {error}", file.display())))?;
        let Some(checkpoint) = Checkpoint::newest(&directory.join("checkpoints"))? else {
            return Err(Error::Usage(format!(
                "{} has no checkpoint; let the run go on with --resume",
                directory.display()
            )));
        };
        let data = Data::load(&config.data, data_dir)?;
        same_text(directory, &data.train.identity())?;
        let decoder = config.sized(&data)?;
        let params = Params::new(Key::from_seed(config.seed), DType::F32, &Device::Cpu);
        let model = LanguageModel::new(&decoder, &config.latents, &params.var_builder())?;
        for (name, value) in &checkpoint.model {
            // Learned parts of the estimator are of no use here.
            if params.get(name).is_some() {
                params.set(name, value)?;
            }
        }
        Ok(Self { model, data })
    }
}

/// An error unless the run was trained on this text: with another, symbols would stand for other words.
fn same_text(directory: &Path, identity: &str) -> Result<()> {
    let file = directory.join("env.json");
    let text = std::fs::read(&file)
        .map_err(|error| Error::caller(74, format!("{}: {error}", file.display())))?;
    let environment: serde_json::Value = serde_json::from_slice(&text)
        .map_err(|error| Error::caller(65, format!("{}: {error}", file.display())))?;
    match environment["identity"]["data.train"].as_str() {
        Some(recorded) if recorded == identity => Ok(()),
        recorded => Err(Error::caller(
            65,
            format!(
                "the run was trained on {}, and here is {identity}; bring that text back",
                recorded.unwrap_or("a text that it does not name")
            ),
        )),
    }
}

/// `lm sample`.
pub(crate) fn sample(args: &SampleArgs) -> Result<()> {
    let choice = Choice { temperature: args.temperature, top_k: args.top_k, top_p: args.top_p };
    choice.check().map_err(Error::Usage)?;
    let Trained { model, data } = Trained::open(&args.run, args.data_dir.clone())?;
    let (end, longest) = (data.train.boundary(), data.longest());
    let length = args.length.unwrap_or(longest);
    let prompt = [vec![data.start()?], data.ids(&args.prompt)?].concat();
    if length > longest || prompt.len() > length {
        return Err(Error::Usage(format!(
            "--length {length} with a prompt of {} symbols; this model writes up to {longest}, the prompt among them",
            prompt.len() - 1
        )));
    }
    let (most, values) = model.latents_of(length).unwrap_or((0, 0));
    let wrong = args.codes.iter().find(|code| **code as usize >= values);
    if args.codes.len() > most || wrong.is_some() {
        return Err(Error::Usage(format!(
            "--codes {:?}; this model has {most} latents for {length} symbols, of {values} values each, from 0 on",
            args.codes
        )));
    }
    let prompts = vec![prompt; usize::from(args.count)];
    let key = Key::from_seed(args.seed).named("sample");
    let Written { symbols, codes } =
        model.write(&prompts, &args.codes, (length, end), &choice, key, &Device::Cpu)?;
    let lines = symbols.iter().zip(&codes);
    let lines: Vec<String> =
        lines.map(|(symbols, codes)| format!("{}\t{}\n", tag(codes), data.text(symbols))).collect();
    print(&lines.concat())
}

/// `lm encode`.
pub(crate) fn encode(args: &EncodeArgs) -> Result<()> {
    let Trained { model, data } = Trained::open(&args.run, args.data_dir.clone())?;
    let bytes = std::fs::read(&args.file)
        .map_err(|error| Error::caller(74, format!("{}: {error}", args.file.display())))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        Error::caller(65, format!("{}: {error}; give a text in UTF-8", args.file.display()))
    })?;
    let mut lines = String::new();
    for line in text.lines() {
        let targets = data.line(line)?;
        if targets.is_empty() || targets.len() > data.longest() {
            return Err(Error::Usage(format!(
                "a line of {} symbols; this model reads 1 to {}: {line}",
                targets.len(),
                data.longest()
            )));
        }
        let inputs = [&[data.start()?], &targets[..targets.len() - 1]].concat();
        let count = targets.len();
        let tensor = |ids: Vec<u32>| Tensor::from_vec(ids, (1, count), &Device::Cpu);
        let x = Sequences { inputs: tensor(inputs)?, targets: tensor(targets)? };
        let Some(probs) = model.posterior(&x)? else {
            return Err(Error::Usage(
                "this model has no latents; train one with latents.kind = \"codes\" or \"states\""
                    .to_owned(),
            ));
        };
        let codes = probs.argmax(D::Minus1)?.get(0)?.to_vec1::<u32>()?;
        lines += &format!("{}\t{line}\n", tag(&codes));
    }
    print(&lines)
}
