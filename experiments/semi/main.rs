//! Classification with few labels: `cargo run --release --locked --bin semi`.
//!
//! Jang, Gu, Poole (2017), section 4.3, on the model of Kingma et al. (2014): the class of an image is a discrete latent
//! where there is no label. One draw of it by any estimator of the library, or the sum over all classes, `enumerate`.
mod config;
mod evaluate;
mod labels;

use std::process::ExitCode;

use candle_core::{DType, Result as TensorResult, Tensor};
use gumbel::Key;
use gumbel::estimators::{Independent, Objective, Trace};
use gumbel_experiments::{Data, build_estimators, print};
use gumbel_kernels::allocator::Explained;
use gumbel_metrics::Report;
use gumbel_models::{ImagesWithLabels, LatentVariableModel, SemiSupervisedVae};
use gumbel_training::{MicroBatch, Params, Result, Step, launch, parse};
use mimalloc::MiMalloc;

use config::Args;
use evaluate::Evaluator;
use labels::Labelled;

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
    let data = Data::load(&config.data, &args.images)?;
    let mut run = data.start_run("semi", &args.run, &config, config.seed)?;
    let key = Key::from_seed(config.seed);
    let classes = config.model.classes;
    let labelled = Labelled::choose(&data.train, &config.labels, classes, key.named("labels"))?;

    let params = Params::new(key.named("init"), DType::F32, &device);
    let mean = Tensor::new(data.train.mean(), &device)?;
    let image = (data.train.images().height(), data.train.images().width());
    let model = SemiSupervisedVae::new(&config.model, image, &mean, &params.var_builder())?;
    let (bias, base_rate) = model.base_rate_bias()?;
    params.set(&bias, &base_rate)?;

    let unlabelled = |micro: MicroBatch| -> Result<ImagesWithLabels> {
        let x = data.batch(micro, config.batch_size, key, &device)?;
        Ok(ImagesWithLabels { x, labels: None })
    };
    let first = unlabelled(MicroBatch::first(&config.train))?;
    let estimators = build_estimators(&config.estimator, (&model, &first), &params, key, &run)?;

    let names = data.names();
    let frozen = SemiSupervisedVae::new(&config.model, image, &mean, &params.frozen())?;
    let mut evaluator = Evaluator::new(frozen, &config, &estimators, &data, &device);

    run.train(
        &config.train,
        &params,
        config.batch_size + config.labels.batch_size,
        &mut |micro| {
            let step = micro.step;
            let (estimator, objective) = (estimators.at(step), config.objective.at(step));
            let noise = key.named("noise").fold_in(micro.index);

            // The bound of images without labels,
            let batch = unlabelled(micro)?;
            let program = |trace: &mut Trace<'_>| model.log_likelihood(&batch, trace);
            let surrogate = estimator.surrogate(&program, &*objective, noise)?;
            surrogate.update_statistics()?; // of an estimator with a running baseline

            // that of images with labels,
            let batch = labelled.batch(&data.train, micro, noise.named("binarise"), &device)?;
            let bound = labelled_bound(&model, &batch, &*objective, noise.named("labelled"))?;

            // and the classifier.
            let log_q = model.log_prob_of_labels(&batch)?.mean_all()?;
            let labels = &config.labels;
            let gain = ((&bound * labels.bound)? + (&log_q * labels.classification)?)?;
            let loss = (&surrogate.loss - gain)?;

            let mut report = Report::new()
                .mean(names.objective(objective.bounds(&surrogate.sites)), &surrogate.bound)
                .mean("labelled_bound", &bound.detach())
                .mean("labelled_log_prob", &log_q.detach());
            if let Some(temperature) = estimators.temperature_at(step)? {
                report = report.number("temperature", temperature);
            }
            Ok(Step { loss, learning_rate: config.learning_rate.at(step), report })
        },
        &mut |evaluation| evaluator.evaluate(evaluation),
    )?;
    evaluator.summarise(&run)?;
    run.finish()
}

/// The bound of images with labels, where nothing discrete is drawn.
fn labelled_bound(
    model: &SemiSupervisedVae,
    batch: &ImagesWithLabels,
    objective: &dyn Objective,
    key: Key,
) -> TensorResult<Tensor> {
    let program = |trace: &mut Trace<'_>| model.log_likelihood(batch, trace);
    let (log_px, sites) = Trace::run(&program, &mut Independent { samples: 1 }, key)?;
    objective.log_weights(&log_px, &sites)?.mean_all()
}
