//! A language model with discrete latents: `just run-lm`, or `cargo run --release --locked --bin lm`.
//!
//! A causal transformer whose sentences have codes, or whose words follow a chain of states, on any estimator of the
//! library. The default configuration trains on a synthetic language whose exact probabilities are known, in under three
//! minutes on two cores; README.md says what is measured, and what it reaches.
mod averages;
mod codes;
mod config;
mod cost;
mod data;
mod evaluate;
mod report;
mod summary;
mod symbols;
mod use_model;
mod words;

use std::process::ExitCode;

use candle_core::{DType, Result as TensorResult, Tensor};
use gumbel::Key;
use gumbel::estimators::{ScheduledEstimator, Trace};
use gumbel_experiments::{build_estimators, print};
use gumbel_kernels::allocator::Explained;
use gumbel_kernels::scale;
use gumbel_metrics::Report;
use gumbel_models::{LanguageModel, LatentVariableModel, Sequences};
use gumbel_training::{Params, Result, Run, Step, config::to_toml, launch, parse};
use mimalloc::MiMalloc;

use config::{Args, Command, Config, Maximise};
use data::{Batches, Data, drop_words};
use evaluate::Evaluator;

#[global_allocator]
static ALLOCATOR: Explained<MiMalloc> = Explained::new(MiMalloc);

fn main() -> ExitCode {
    let args: Args = parse();
    launch(&args.run, || match &args.command {
        None => train(&args),
        Some(Command::Sample(sample)) => use_model::sample(sample),
        Some(Command::Encode(encode)) => use_model::encode(encode),
        Some(Command::Cost(cost)) => cost::cost(cost, args.run.threads()),
    })
}

fn train(args: &Args) -> Result<()> {
    let config = args.config()?;
    if let Some(text) = args.instead(&config)? {
        return print(&text);
    }
    let toml = to_toml(&config)?;
    let device = args.run.device.open()?;
    let data = Data::load(&config.data, args.text.data_dir.clone())?;
    let decoder = config.sized(data.symbols.count(), data.longest())?;
    let mut run = Run::start("lm", &args.run, &toml, config.seed)?;
    data.identify(&mut run)?;
    if let Some(tokenizer) = data.symbols.tokenizer()? {
        run.write_file(symbols::FILE, tokenizer.as_bytes())?;
    }
    let key = Key::from_seed(config.seed);

    let params = Params::new(key.named("init"), DType::F32, &device);
    let model = LanguageModel::new(&decoder, &config.latents, &params.var_builder())?;
    let batches = Batches::new(&config, &data, key.named("data"), &device)?;
    let sampled = config.maximise == Maximise::SampledBound;
    let build = || {
        let (first, _) = batches.at(0)?;
        build_estimators(&config.estimator, (&model, &first), &params, key, &run)
    };
    let estimators = sampled.then(build).transpose()?;
    let frozen = LanguageModel::new(&decoder, &config.latents, &params.frozen())?;
    let mut evaluator = Evaluator::new(frozen, &config, &data, &params, &device);

    run.train(
        &config.train,
        &params,
        config.batch_size,
        &mut |micro| {
            let step = micro.step;
            let (x, share) = batches.at(micro.index)?; // sequences of one length
            let noise = key.named("noise").fold_in(micro.index);
            let hidden = config.aids.word_dropout.at(step);
            let x = drop_words(x, hidden, data.symbols.boundary, noise.named("words"))?;
            let (loss, report) =
                objective_of(&config, (&model, estimators.as_ref()), &x, step, noise)?;
            // A batch of few sequences counts as few.
            let loss = (loss * share)?;
            Ok(Step { loss, learning_rate: config.learning_rate.at(step), report })
        },
        &mut |evaluation| evaluator.evaluate(evaluation),
    )?;
    evaluator.summarise(&run)?;
    run.finish()
}

/// A loss, and what to report: of a sampled bound where there are estimators, else of what is known in closed form.
fn objective_of(
    config: &Config,
    (model, estimators): (&LanguageModel, Option<&ScheduledEstimator>),
    x: &Sequences,
    step: u64,
    noise: Key,
) -> Result<(Tensor, Report)> {
    let mut report = Report::new();
    let (loss, value, name) = match (estimators, model) {
        (None, LanguageModel::States(model)) if config.maximise == Maximise::MeanFieldBound => {
            let bound = model.mean_field_bound(x)?;
            (bound.mean_all()?.neg()?, bound, "elbo_per_symbol")
        }
        (Some(estimators), model) => {
            let (estimator, objective) = (estimators.at(step), config.objective.at(step));
            let bag = config.aids.bag_of_words.at(step);
            let program = |trace: &mut Trace<'_>| told(model, x, bag, trace);
            let surrogate = estimator.surrogate(&program, &*objective, noise)?;
            surrogate.update_statistics()?; // of an estimator with a running baseline
            if let Some(temperature) = estimators.temperature_at(step)? {
                report = report.number("temperature", temperature);
            }
            (surrogate.loss, surrogate.bound, "objective_per_symbol")
        }
        (None, model) => {
            let log_prob = model.log_prob(x)?;
            (log_prob.mean_all()?.neg()?, log_prob, "log_prob_per_symbol")
        }
    };
    let length = x.targets.dim(1)? as f64;
    Ok((loss, report.mean(name, &(value / length)?)))
}

/// `log p(x|z)`, with what a bag of words makes of the codes where that has a weight.
fn told(
    model: &LanguageModel,
    x: &Sequences,
    bag_of_words: f64,
    trace: &mut Trace<'_>,
) -> TensorResult<Tensor> {
    match model {
        LanguageModel::Codes(model) if model.has_bag_of_words() => {
            let (log_px, words) = model.log_likelihood_and_bag_of_words(x, trace)?;
            log_px + scale(&words, bag_of_words)?
        }
        _ => model.log_likelihood(x, trace),
    }
}
