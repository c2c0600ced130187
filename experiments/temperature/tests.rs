//! The exact numbers against the general enumeration, and a study that is cut short.
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use candle_core::{DType, Device};
use gumbel::Key;
use gumbel::estimators::{Enumerate, Estimator, Trace};
use gumbel::objectives::Elbo;
use gumbel_datasets::{Binarisation, DatasetName};
use gumbel_experiments::{Data, DataArgs, DataConfig};
use gumbel_models::LatentVariableModel;

use crate::exact::Support;
use crate::study::{Arity, Budget, Family, Learner, Rule, Sizes};
use crate::train::{Model, Setting};
use crate::work::{Store, Unit, lock, work};

fn data() -> Data {
    let config = DataConfig {
        dataset: DatasetName::Strokes,
        path: None,
        binarisation: Binarisation::Fixed,
        held_out: true,
    };
    let nowhere = DataArgs { dataset: None, images: None, data_dir: None };
    Data::load(&config, &nowhere).unwrap()
}

const SIZES: Sizes = Sizes {
    hidden: 8,
    batch: 6,
    steps: 3,
    replicates: 40,
    seeds: 1,
    measured: &[0.5],
    trained: &[0.5],
    learning_rate: 1e-3,
};

#[test]
fn bounds_and_gradients_are_those_of_the_general_enumeration() {
    let (data, stop) = (data(), AtomicBool::new(false));
    let setting = Setting { data: &data, sizes: &SIZES, stop: &stop };
    for arity in [Arity { categories: 2, variables: 3 }, Arity { categories: 3, variables: 2 }] {
        let model = Model::new(arity, 1, setting).unwrap();
        for (name, var) in model.params.iter() {
            let key = Key::from_seed(7).named(&name);
            var.set(&(key.normal(var.shape(), DType::F32, &Device::Cpu).unwrap() * 0.3).unwrap())
                .unwrap();
        }
        let x = data.train.batch(0, 6, Key::from_seed(1), &Device::Cpu).unwrap();
        let program = |trace: &mut Trace<'_>| model.vae.log_likelihood(&x, trace);
        let general = Enumerate { samples: 1 }
            .surrogate(&program, &Elbo::default(), Key::from_seed(1))
            .unwrap();
        let support = Support::of(&model.vae, &x).unwrap();
        let known = support.decoded(&model.vae).unwrap().know(&model.vae, &x).unwrap();
        let (a, b) =
            (known.elbo.to_vec1::<f32>().unwrap(), general.bound.to_vec1::<f32>().unwrap());
        assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-3), "{a:?} {b:?}");
        let likelihood = known.log_likelihood.to_vec1::<f32>().unwrap();
        assert!(likelihood.iter().zip(&a).all(|(p, elbo)| p >= elbo), "{likelihood:?} {a:?}");
        let own = known.elbo.mean_all().unwrap().neg().unwrap().backward().unwrap();
        let general = general.loss.backward().unwrap();
        for (name, var) in model.params.iter() {
            let of = |grads: &candle_core::backprop::GradStore| {
                let gradient = grads.get(var.as_tensor()).unwrap();
                gradient.flatten_all().unwrap().to_vec1::<f32>().unwrap()
            };
            let (a, b) = (of(&own), of(&general));
            let size = b.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-3);
            let gap = a.iter().zip(&b).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt();
            assert!(gap < 1e-3 * size, "{arity} {name}: {gap} of {size}");
        }
    }
}

/// What is done is not done again, what needs a model has it, and numbers do not depend on the threads.
#[test]
fn units_are_done_once_and_the_same_on_any_number_of_threads() {
    let (data, stop) = (data(), AtomicBool::new(false));
    let setting = Setting { data: &data, sizes: &SIZES, stop: &stop };
    let arity = Arity { categories: 4, variables: 2 };
    let family = Family::StraightThroughGumbelSoftmax;
    let units = [
        Unit::Train(arity, Learner::Exact, 1),
        Unit::Train(arity, Learner::Tempered(Family::ReinMax, Rule::Adaptive(10.)), 1),
        Unit::Measure(arity, 3, family, 0.5),
    ];
    let numbers = |threads: usize| {
        let folder = tempfile::tempdir().unwrap();
        let open = || {
            let models = folder.path().join("models");
            Mutex::new(Store::open(folder.path(), models, "x".to_owned()).unwrap())
        };
        let store = open();
        assert!(work(&units[..1], &store, setting, 1, &stop).unwrap());
        assert!(work(&units, &store, setting, threads, &stop).unwrap());
        assert!(units.iter().all(|unit| lock(&open()).has(unit)));
        let store = lock(&store);
        let bounds: Vec<f64> = store.training.rows().map(|row| row.number("test_elbo")).collect();
        let biases: Vec<f64> = store.gradients.rows().map(|row| row.number("bias")).collect();
        (bounds, biases)
    };
    let one = numbers(1);
    assert_eq!((one.0.len(), one.1.len()), (2, 2));
    assert!(one.0.iter().chain(&one.1).all(|x| x.is_finite()), "{one:?}");
    assert_eq!(one, numbers(2));
    let stopped = AtomicBool::new(true);
    let folder = tempfile::tempdir().unwrap();
    let models = folder.path().join("models");
    let store = Mutex::new(Store::open(folder.path(), models, "x".to_owned()).unwrap());
    assert!(!work(&units, &store, setting, 1, &stopped).unwrap());
    assert_eq!(lock(&store).training.rows().count(), 0);
    assert_eq!(Budget::Cpu.sizes().seeds, 5);
}
