//! The exact numbers against the general enumeration, and a study that is cut short.
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use candle_core::{DType, Device};
use gumbel::Key;
use gumbel::estimators::{Enumerate, Estimator, Trace};
use gumbel::objectives::Elbo;
use gumbel_datasets::{Binarisation, DatasetName};
use gumbel_experiments::{Budget, Data, DataArgs, DataConfig};
use gumbel_models::LatentVariableModel;

use crate::exact::Support;
use crate::page;
use crate::store::{Claim, Store};
use crate::study::{Arity, Family, Learner, Rule, Sizes};
use crate::train::{Model, Setting};
use crate::units::{Unit, wanted};
use crate::work::{lock, work};

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
    hotter: &[8.],
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

fn open(folder: &Path) -> Mutex<Store> {
    let models = folder.join("models");
    Mutex::new(Store::open(folder, models, SIZES.checkpoints(), "x".to_owned()).unwrap())
}

/// What is done is not done again, what needs a model has it, and numbers do not depend on the threads.
#[test]
fn units_are_done_once_and_the_same_on_any_number_of_threads() {
    let (data, stop) = (data(), AtomicBool::new(false));
    let setting = Setting { data: &data, sizes: &SIZES, stop: &stop };
    let arity = Arity { categories: 4, variables: 2 };
    let family = Family::StraightThroughGumbelSoftmax;
    let measure = Unit::Measure(arity, 3, family, 0.5);
    let units = [
        measure.clone(),
        Unit::Train(arity, Learner::Tempered(Family::ReinMax, Rule::Adaptive(10.)), 1),
        Unit::Train(arity, Learner::Exact, 1),
    ];
    assert_eq!(wanted(&units, "Measure"), [units[0].clone(), units[2].clone()]);
    let numbers = |threads: usize| {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        assert!(work(&units, &store, setting, threads).unwrap());
        let store = open(folder.path());
        assert!(units.iter().all(|unit| lock(&store).has(unit)));
        // Each row has the time that its step took, which no second run would repeat.
        let rows = || {
            let read = |name| std::fs::read_to_string(folder.path().join(name)).unwrap();
            read("temperature-training.csv") + &read("temperature-gradients.csv")
        };
        let before = rows();
        assert!(work(&units, &store, setting, threads).unwrap());
        assert_eq!(before, rows());
        page(folder.path(), &lock(&store), setting);
        let text = std::fs::read_to_string(folder.path().join("temperature.md")).unwrap();
        assert!(text.starts_with("# The temperature") && text.contains("SYNTHETIC"), "{text}");
        let store = lock(&store);
        let bounds: Vec<f64> = store.training.rows().map(|row| row.number("test_elbo")).collect();
        let biases: Vec<f64> = store.gradients.rows().map(|row| row.number("bias")).collect();
        drop(std::fs::remove_dir_all(folder.path().join("models")));
        assert!(!store.has(&units[2]), "a model to measure on is gone");
        (bounds, biases)
    };
    let one = numbers(1);
    assert_eq!((one.0.len(), one.1.len()), (2, 2));
    assert!(one.0.iter().chain(&one.1).all(|x| x.is_finite()), "{one:?}");
    assert_eq!(one, numbers(2));

    let folder = tempfile::tempdir().unwrap();
    let stopped = AtomicBool::new(true);
    let store = open(folder.path());
    assert!(!work(&units, &store, Setting { stop: &stopped, ..setting }, 1).unwrap());
    assert_eq!(lock(&store).training.rows().count(), 0);
}

fn page(folder: &Path, store: &Store, setting: Setting<'_>) {
    page::write(folder, &store.view(), (Budget::Quick, 3), setting, "here").unwrap();
}

/// A page of made-up rows: two seeds, one of which diverged at one temperature, and a schedule.
#[test]
fn a_page_has_what_the_rows_say_and_no_more() {
    let (data, stop) = (data(), AtomicBool::new(false));
    let setting = Setting { data: &data, sizes: &SIZES, stop: &stop };
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    page(folder.path(), &lock(&store), setting);
    let text = std::fs::read_to_string(folder.path().join("temperature.md")).unwrap();
    assert!(!text.contains("## "), "{text}");
    let row = |rule: &str, seed: &str, elbo: &str| {
        let name = ["x", "8", "4", "ST-GS", rule, seed, "3"];
        let numbers = [elbo, elbo, elbo, elbo, "", "", "1", "2"];
        let cells: Vec<String> =
            name.iter().chain(&numbers).map(|cell| (*cell).to_owned()).collect();
        lock(&store).training.add([cells]).unwrap();
    };
    for (rule, first, second) in [
        ("0.5", "-101", "-103"),
        ("1", "-100", "-101"),
        ("2", "-104", ""),
        ("linear 2 to 0.2", "-99", "-102"),
    ] {
        row(rule, "1", first);
        row(rule, "2", second);
    }
    page(folder.path(), &lock(&store), setting);
    let text = std::fs::read_to_string(folder.path().join("temperature.md")).unwrap();
    assert!(text.contains("| ST-GS | 8×4 | 1 | -100.50 ± 0.50 |"), "{text}");
    // +1 for one seed and -1 for the other.
    assert!(text.contains("| linear 2 to 0.2 | -100.50 ± 1.50 | +0.00 ± 1.00 |"), "{text}");
    assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
    let figure = std::fs::read_to_string(folder.path().join("temperature-bound.svg")).unwrap();
    assert!(figure.contains("ST-GS") && !figure.contains("NaN"));
    assert!(folder.path().join("temperature-bound.svg").is_file());
}

#[test]
fn a_study_of_other_settings_has_another_identity_and_one_writes_at_a_time() {
    let changed = [
        Sizes { hidden: 9, ..SIZES },
        Sizes { batch: 7, ..SIZES },
        Sizes { steps: 4, ..SIZES },
        Sizes { replicates: 41, ..SIZES },
        Sizes { learning_rate: 2e-3, ..SIZES },
    ];
    assert!(changed.iter().all(|sizes| sizes.description() != SIZES.description()));
    // More seeds and temperatures are more rows of the same study.
    let more = Sizes { seeds: 2, trained: &[0.5, 1.], hotter: &[], ..SIZES };
    assert_eq!(more.description(), SIZES.description());
    let folder = tempfile::tempdir().unwrap();
    let claim = Claim::on(folder.path()).unwrap();
    let error = Claim::on(folder.path()).unwrap_err().to_string();
    assert!(error.contains("another study"), "{error}");
    drop(claim);
    assert!(Claim::on(folder.path()).is_ok());
}
