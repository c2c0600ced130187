//! Temperatures that are none are refused, with their value.
use candle_core::{DType, Result, Tensor, Var};
use gumbel::distributions::{
    Bernoulli, BinConcrete, Categorical, Discrete, ExpConcrete, InvertibleGaussian,
};
use gumbel::estimators::{
    DecoupledStraightThroughGumbelSoftmax, Estimator, Gap, GappedStraightThrough, GumbelRao,
    GumbelSoftmax, GumbelSparse, Independent, InvertibleGaussianReparameterisation, Program, Rebar,
    ReinMax, Relax, Store, StraightThroughGumbelSoftmax, Trace,
};
use gumbel::kernels::{Forward, SparseMap};
use gumbel::objectives::Elbo;
use gumbel::structured::{PlackettLuce, gumbel_sinkhorn, sinkhorn};
use gumbel::{Key, SampleMode, gumbel_softmax, sample_categorical};

use super::CPU;

const BAD: [f64; 4] = [0., -1., f64::NAN, f64::INFINITY];

fn names_value<T: std::fmt::Debug>(what: &str, bad: f64, result: Result<T>) {
    let error =
        result.map_or_else(|error| error.to_string(), |value| format!("took it: {value:?}"));
    let named = error.contains(&format!("got {bad}")) && error.contains("temperature");
    assert!(named, "{what}: {error}");
}

/// PyTorch takes 0, -1 and NaN, and returns NaN.
#[test]
fn functions_and_distributions_refuse_a_temperature_that_is_none() -> Result<()> {
    let logits = Key::from_seed(4).normal((1, 2, 3, 4), DType::F32, CPU)?;
    let bits = logits.get_on_dim(3, 0)?;
    let (one_hot, bit) = (Categorical::from_logits(&logits)?, Bernoulli::from_logits(&bits)?);
    let key = Key::from_seed(5);
    for bad in BAD {
        let tensor = Tensor::new(&[[1.], [bad]], CPU)?;
        for hard in [false, true] {
            names_value("function", bad, gumbel_softmax(&logits, bad, hard, 3, key));
            names_value("function", bad, gumbel_softmax(&logits, &tensor, hard, 3, key));
        }
        for mode in [SampleMode::Train, SampleMode::Hard, SampleMode::Mode, SampleMode::Mean] {
            names_value("modes", bad, sample_categorical(&logits, bad, mode, 3, key));
            names_value("modes", bad, sample_categorical(&logits, &tensor, mode, 3, key));
        }
        let kernel = gumbel::kernels::gumbel_softmax(&logits, 1, bad, Forward::Soft, key);
        names_value("kernel", bad, kernel);
        names_value("ExpConcrete", bad, ExpConcrete::new(&logits, bad));
        names_value("ExpConcrete", bad, ExpConcrete::new(&logits, &tensor));
        names_value("BinConcrete", bad, BinConcrete::new(&bits, bad));
        names_value("BinConcrete", bad, BinConcrete::new(&bits, &tensor));
        names_value("Categorical", bad, one_hot.relax(bad));
        names_value("Bernoulli", bad, bit.relax(bad));
        names_value("Discrete", bad, Discrete::from(&bit).relax(&tensor));
        names_value("InvertibleGaussian", bad, InvertibleGaussian::new(&logits, &logits, bad, 1.));
        let square = logits.narrow(3, 0, 3)?;
        names_value("sinkhorn", bad, sinkhorn(&square, bad, 2));
        names_value("gumbel_sinkhorn", bad, gumbel_sinkhorn(&square, bad, 1., 2, 1, key));
        let order = PlackettLuce::new(&logits)?;
        names_value("PlackettLuce", bad, order.relaxed_top_k(2, bad, Forward::Soft, 1, key));
    }
    Ok(())
}

/// A store that keeps nothing.
struct Nothing;

impl Store for Nothing {
    fn parameter(&mut self, _: &str, initial: &Tensor) -> Result<Tensor> {
        Ok(initial.clone())
    }

    fn statistic(&mut self, _: &str, initial: &Tensor) -> Result<Var> {
        Var::from_tensor(initial)
    }
}

#[test]
fn estimators_refuse_a_temperature_that_is_none() -> Result<()> {
    let logits = Key::from_seed(6).normal((1, 2, 3, 4), DType::F64, CPU)?;
    let bits = logits.get_on_dim(3, 0)?;
    let classes = |trace: &mut Trace<'_>| {
        let q = Categorical::from_logits(&logits)?;
        trace.sample("z", &q, &Categorical::uniform_like(&q)?)?.sqr()?.sum((2, 3))
    };
    let switches = |trace: &mut Trace<'_>| {
        let q = Bernoulli::from_logits(&bits)?;
        trace.sample("z", &q, &Bernoulli::uniform_like(&q)?)?.sqr()?.sum(2)
    };
    for program in [&classes as &Program<'_>, &switches] {
        let key = Key::from_seed(7);
        let run = |estimator: &dyn Estimator| estimator.surrogate(program, &Elbo::default(), key);
        let (_, sites) = Trace::run(program, &mut Independent { samples: 1 }, key)?;
        for bad in BAD {
            let tensor = Tensor::new(bad, CPU)?;
            let posterior = GumbelSoftmax::new(1, bad);
            let prior =
                GumbelSoftmax { prior_temperature: bad.into(), ..GumbelSoftmax::new(1, 1.) };
            let decoupled =
                |forward_temperature, backward_temperature| DecoupledStraightThroughGumbelSoftmax {
                    samples: 1,
                    forward_temperature,
                    backward_temperature,
                };
            let estimators: [&dyn Estimator; 11] = [
                &posterior,
                &GumbelSoftmax::new(1, &tensor),
                &prior,
                &StraightThroughGumbelSoftmax { samples: 1, temperature: bad },
                &decoupled(bad, 1.),
                &decoupled(1., bad),
                &GappedStraightThrough { samples: 1, temperature: bad, gap: Gap::default() },
                &GumbelRao { samples: 1, temperature: bad, draws: 2 },
                &ReinMax { samples: 1, temperature: bad },
                &GumbelSparse { samples: 1, temperature: bad, map: SparseMap::Sparsemax },
                &InvertibleGaussianReparameterisation { samples: 1, temperature: bad },
            ];
            for estimator in estimators {
                names_value(&format!("{estimator:?}"), bad, run(estimator));
            }
            names_value("REBAR", bad, Rebar::new(1, bad, &sites, &mut Nothing));
            names_value("RELAX", bad, Relax::new(1, bad, 2, &sites, &mut Nothing, key));
        }
    }
    Ok(())
}
