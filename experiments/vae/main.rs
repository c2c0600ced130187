//! A VAE with discrete latents on images: `just run-vae`, or `cargo run --release --locked --bin vae`.
//!
//! Jang, Gu, Poole (2017), section 4.2, on any estimator of the library. The default configuration trains on
//! drawn digits in under two minutes on two cores; `configs/` has those of the paper, README.md what they
//! reach.
mod config;
mod pictures;

use std::process::ExitCode;

use candle_core::{DType, Tensor};
use gumbel::Key;
use gumbel::estimators::Trace;
use gumbel_experiments::{Data, Evaluator, Judged, build_estimators, print, probe, variables};
use gumbel_kernels::allocator::Explained;
use gumbel_metrics::Report;
use gumbel_models::{CategoricalVae, LatentVariableModel};
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
    let mut run = data.start_run("vae", &args.run, &config, config.seed)?;
    let key = Key::from_seed(config.seed);

    let params = Params::new(key.named("init"), DType::F32, &device);
    let images = data.train.images();
    let size = (images.height(), images.width());
    let mean = Tensor::from_vec(data.train.mean(), size, &device)?;
    let mut model = CategoricalVae::new(&config.model, &mean, &params.var_builder())?;
    model.centre(|name, initial| params.statistic(name, initial))?;
    let (bias, base_rate) = model.base_rate_bias()?;
    params.set(&bias, &base_rate)?;

    let batch = |micro| data.batch(micro, config.batch_size, key, &device);
    let first = batch(MicroBatch::first(&config.train))?;
    let estimators = build_estimators(&config.estimator, (&model, &first), &params, key, &run)?;

    let mut frozen = CategoricalVae::new(&config.model, &mean, &params.frozen())?;
    frozen.share_centres(&model);
    let mut evaluator = Evaluator::new(Judged {
        model: frozen,
        seed: config.seed,
        settings: config.evaluation,
        objective: config.objective,
        estimators: &estimators,
        data: &data,
        pixels: data.test.dim(),
        device: &device,
    });
    let (names, variables) = (data.names(), variables(&params));

    run.train(
        &config.train,
        &params,
        config.batch_size,
        &mut |micro| {
            let (x, step) = (batch(micro)?, micro.step);
            let estimator = estimators.at(step); // for example Gumbel-Softmax at τ(step)
            let objective = config.objective.at(step);

            let noise = key.named("noise").fold_in(micro.index);
            let program = |trace: &mut Trace<'_>| model.log_likelihood(&x, trace);
            let surrogate = estimator.surrogate(&program, &*objective, noise)?;
            surrogate.update_statistics()?; // of an estimator with a running baseline
            model.update_centres(&surrogate.sites)?; // of upper layers
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
        &mut |evaluation| evaluator.evaluate(evaluation, pictures::all),
    )?;
    evaluator.summarise(&run)?;
    run.finish()
}
