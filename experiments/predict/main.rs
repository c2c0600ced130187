//! Structured output prediction: the lower half of an image from the upper one, through layers of discrete units.
//!
//! Jang, Gu, Poole (2017), section 4.1; Maddison, Mnih, Teh (2017), section 5.3: on any estimator of the library.
//! `configs/` has those of the papers, README.md says how to run them.
mod config;
mod pictures;

use std::process::ExitCode;

use candle_core::{DType, Tensor};
use gumbel::Key;
use gumbel::estimators::Trace;
use gumbel_experiments::{Data, Evaluator, Judged, build_estimators, print, probe, variables};
use gumbel_kernels::allocator::Explained;
use gumbel_metrics::Report;
use gumbel_models::{LatentVariableModel, StructuredPrediction};
use gumbel_training::{MicroBatch, Params, Result, Step, launch, parse};
use mimalloc::MiMalloc;

use config::Args;

#[global_allocator]
static ALLOCATOR: Explained<MiMalloc> = Explained::new(MiMalloc);

fn main() -> ExitCode {
    let args: Args = parse();
    launch(&args.run, || train(&args))
}

fn train(args: &Args) -> Result<()> {
    let config = args.config()?;
    if let Some(text) = args.instead(&config)? {
        return print(&text);
    }
    let device = args.run.device.open()?;
    let data = Data::load(&config.data, &args.images.data)?;
    let mut run = data.start_run("predict", &args.run, &config, config.seed)?;
    let key = Key::from_seed(config.seed);

    let params = Params::new(key.named("init"), DType::F32, &device);
    let mean = Tensor::new(data.train.mean(), &device)?;
    let model = StructuredPrediction::new(&config.model, &mean, &params.var_builder())?;
    let (bias, base_rate) = model.base_rate_bias()?;
    params.set(&bias, &base_rate)?;

    let batch = |micro| data.batch(micro, config.batch_size, key, &device);
    let first = batch(MicroBatch::first(&config.train))?;
    let estimators = build_estimators(&config.estimator, (&model, &first), &params, key, &run)?;

    let (names, variables) = (data.names(), variables(&params));
    let mut evaluator = Evaluator::new(Judged {
        model: StructuredPrediction::new(&config.model, &mean, &params.frozen())?,
        seed: config.seed,
        settings: config.evaluation,
        objective: config.objective,
        estimators: &estimators,
        data: &data,
        pixels: data.test.dim() - data.test.dim() / 2,
        device: &device,
    });

    run.train(
        &config.train,
        &params,
        config.batch_size,
        &mut |micro| {
            let (x, step) = (batch(micro)?, micro.step);
            let estimator = estimators.at(step);
            let objective = config.objective.at(step);

            let noise = key.named("noise").fold_in(micro.index);
            let program = |trace: &mut Trace<'_>| model.log_likelihood(&x, trace);
            let surrogate = estimator.surrogate(&program, &*objective, noise)?;
            surrogate.update_statistics()?; // of an estimator with a running baseline
            let mut report = Report::new()
                .mean(names.objective(objective.bounds(&surrogate.sites)), &surrogate.bound)
                .mean(names.log_likelihood, &surrogate.log_px);
            if let Some(temperature) = estimators.temperature_at(step)? {
                report = report.number("temperature", temperature);
            }
            let pair = (&*estimator, &*objective);
            report = probe(&config, micro, pair, &program, &variables, key, report)?;
            let learning_rate = config.learning_rate.at(step);
            Ok(Step { loss: surrogate.loss, learning_rate, report })
        },
        &mut |evaluation| evaluator.evaluate(evaluation, pictures::completions),
    )?;
    evaluator.summarise(&run)?;
    run.finish()
}
