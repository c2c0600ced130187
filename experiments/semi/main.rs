//! Classification with few labels: `cargo run --release --locked --bin semi`.
//!
//! Jang, Gu, Poole (2017), section 4.3, on the model of Kingma et al. (2014): the class of an image is a discrete latent
//! where there is no label. One draw of it by any estimator of the library, or the sum over all classes, `enumerate`.
mod config;
mod evaluate;
mod labels;

use std::process::ExitCode;

use candle_core::{DType, Tensor};
use gumbel::Key;
use gumbel::estimators::{Independent, Trace};
use gumbel_experiments::{Data, print};
use gumbel_kernels::allocator::Explained;
use gumbel_metrics::Report;
use gumbel_models::{ImagesWithLabels, LatentVariableModel, SemiSupervisedVae};
use gumbel_training::{MicroBatch, Params, Result, Run, Step, config::to_toml, launch, parse};
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
    let toml = to_toml(&config)?;
    let device = args.run.device.open()?;
    let data = Data::load(&config.data, &args.images)?;
    let mut run = Run::start("semi", &args.run, &toml, config.seed)?;
    data.identify(&mut run)?;
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
    let estimators = config.estimator.build(
        &|trace| model.log_likelihood(&first, trace),
        &mut params.clone(),
        key.named("estimator"),
    )?;
    run.write_file("citations.bib", estimators.at(0).bibtex().as_bytes())?;

    let names = data.names();
    let mut evaluator = Evaluator {
        model: SemiSupervisedVae::new(&config.model, image, &mean, &params.frozen())?,
        classes,
        key: key.named("evaluation"),
        objective: config.objective,
        estimators: &estimators,
        data: &data,
        device: &device,
        summary: None,
    };

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

            // that of images with labels, where nothing discrete is drawn,
            let batch = labelled.batch(&data.train, micro, noise.named("binarise"), &device)?;
            let program = |trace: &mut Trace<'_>| model.log_likelihood(&batch, trace);
            let noise = noise.named("labelled");
            let (log_px, sites) = Trace::run(&program, &mut Independent { samples: 1 }, noise)?;
            let bound = objective.log_weights(&log_px, &sites)?.mean_all()?;

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
