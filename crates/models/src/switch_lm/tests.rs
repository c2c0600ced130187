//! Likelihoods, bounds and gradients against sums over all paths of states.
use candle_core::{Device, Result, Tensor, Var};
use candle_nn::VarMap;
use gumbel::Key;
use gumbel::distributions::Discrete;
use gumbel::estimators::{
    Draw, Enumerate, Estimator, GumbelSoftmax, LeaveOneOut, Measure, Sampler, Site, Trace,
};
use gumbel::objectives::Elbo;
use gumbel_kernels::{cross_entropy, log_sum_exp};

use super::{Emission, SwitchLm, SwitchLmConfig};
use crate::check::irregular;
use crate::defaults::usual_scale;
use crate::{LatentVariableModel, Sequences, TransformerConfig};

const DECODER: TransformerConfig =
    TransformerConfig { vocabulary: 7, width: 8, heads: 2, layers: 1, context: 9, window: Some(2) };

fn config(states: usize, segment: usize, gated: bool) -> SwitchLmConfig {
    SwitchLmConfig {
        states,
        segment,
        emission: if states == 3 { Emission::Readout } else { Emission::Product },
        gated,
        scale: usual_scale(),
        encoder_layers: 1,
        evidence: states == 3,
    }
}

/// A model whose parameters are irregular numbers.
fn model(config: &SwitchLmConfig) -> Result<(SwitchLm, Vec<Var>)> {
    let (model, map) = named(config)?;
    Ok((model, map.all_vars()))
}

/// The same, with the names of the parameters.
fn named(config: &SwitchLmConfig) -> Result<(SwitchLm, VarMap)> {
    irregular(0.7, |builder| SwitchLm::new(&DECODER, config, builder))
}

fn sequences(b: usize, t: usize) -> Result<Sequences> {
    let ids = |shift: usize| {
        let ids: Vec<u32> = (0..b * t).map(|i| ((i * 5 + shift * i / t) % 7) as u32).collect();
        Tensor::from_vec(ids, (b, t), &Device::Cpu)
    };
    Ok(Sequences { inputs: ids(1)?, targets: ids(2)? })
}

fn numbers(x: &Tensor) -> Result<Vec<f32>> {
    x.flatten_all()?.to_vec1()
}

/// Each path of the states as one sample.
struct Paths;

impl Sampler for Paths {
    fn draw(&mut self, _: &Site, posterior: &Discrete, _: Key) -> Result<Draw> {
        let (_, b, n, k) = posterior.logits().dims4()?;
        let mut value = Vec::new();
        for path in 0..k.pow(n as u32) {
            for place in (0..b).flat_map(|_| 0..n) {
                let state = path / k.pow(place as u32) % k;
                value.extend((0..k).map(|z| f32::from(u8::from(z == state))));
            }
        }
        let value = Tensor::from_vec(value, (k.pow(n as u32), b, n, k), &Device::Cpu)?;
        Ok(Draw { value, measure: Measure::Discrete })
    }
}

/// Against the sum over all paths, each as the story of the model has it.
#[test]
fn likelihood_and_bound_in_closed_form_are_those_of_all_paths() -> Result<()> {
    for (states, segment, gated, t) in
        [(3, 1, true, 4), (2, 3, true, 8), (3, 2, false, 5), (2, 9, true, 4)]
    {
        let (model, _) = model(&config(states, segment, gated))?;
        let x = sequences(2, t)?;
        let program = |trace: &mut Trace<'_>| model.log_likelihood(&x, trace);
        let (log_px, sites) = Trace::run(&program, &mut Paths, Key::from_seed(1))?;
        let z = &sites[0].draw.value;
        let prior = sites[0].prior.as_ref().unwrap().log_prob(z)?;
        let paths = (&log_px + prior)?;
        let share = paths.broadcast_sub(&log_sum_exp(&paths, 0)?)?.exp()?;
        let counted = z.broadcast_mul(&share.unsqueeze(2)?.unsqueeze(3)?)?.sum(0)?;
        let off = (counted - model.smoothed(&x)?)?.abs()?.max_all()?.to_scalar::<f32>()?;
        assert!(off < 1e-4, "{off}");
        let exact = numbers(&model.log_prob(&x)?)?;
        // What writes is what is summed over.
        let path = z.get(1)?;
        let logits = model.logits(&x.inputs, &path, t)?;
        let chosen = cross_entropy(&logits, &x.targets)?.sum(1)?;
        let off = (chosen + log_px.get(1)?)?.abs()?.max_all()?.to_scalar::<f32>()?;
        assert!(off < 1e-4, "{off}");
        let closed = numbers(&model.mean_field_bound(&x)?)?;
        let log_q = sites[0].posterior.log_prob(z)?;
        let bound = numbers(&(log_q.exp()? * (&paths - &log_q)?)?.sum(0)?)?;
        for (i, sum) in numbers(&log_sum_exp(&paths, 0)?)?.into_iter().enumerate() {
            assert!((exact[i] - sum).abs() < 1e-4, "{} {sum}", exact[i]);
            assert!((closed[i] - bound[i]).abs() < 1e-4, "{} {}", closed[i], bound[i]);
            assert!(closed[i] <= exact[i]);
        }
    }
    Ok(())
}

/// `Σ_x p(x) = 1` over all sequences of three symbols after a start.
#[test]
fn it_is_a_distribution_over_sequences() -> Result<()> {
    for (segment, gated) in [(1, true), (2, true), (1, false)] {
        let (model, _) = model(&config(3, segment, gated))?;
        let (mut inputs, mut targets) = (Vec::new(), Vec::new());
        for code in 0..343u32 {
            let x = [code % 7, code / 7 % 7, code / 49];
            inputs.extend([0, x[0], x[1]]);
            targets.extend(x);
        }
        let tensor = |ids| Tensor::from_vec(ids, (343, 3), &Device::Cpu);
        let x = Sequences { inputs: tensor(inputs)?, targets: tensor(targets)? };
        let total = model.log_prob(&x)?.exp()?.sum_all()?.to_scalar::<f32>()?;
        assert!((total - 1.).abs() < 1e-4, "{total}");
    }
    Ok(())
}

/// The gradient of the mean-field bound is that of enumeration, and an unbiased estimator has it on average.
#[test]
fn gradients_of_the_closed_form_are_those_of_enumeration() -> Result<()> {
    // An encoder alone, and one with the likelihoods in view.
    for states in [2, 3] {
        let (model, variables) = model(&config(states, 2, true))?;
        let x = sequences(1, 5)?;
        let flat = |loss: &Tensor| -> Result<Tensor> {
            let grads = loss.backward()?;
            let parts = variables.iter().map(|v| match grads.get(v) {
                Some(g) => g.flatten_all(),
                None => v.zeros_like()?.flatten_all(),
            });
            Tensor::cat(&parts.collect::<Result<Vec<_>>>()?, 0)
        };
        let closed = flat(&model.mean_field_bound(&x)?.mean_all()?.neg()?)?;
        let program = |trace: &mut Trace<'_>| model.log_likelihood(&x, trace);
        let run = |estimator: &dyn Estimator, key: u64| {
            flat(&estimator.surrogate(&program, &Elbo::default(), Key::from_seed(key))?.loss)
        };
        let length = |x: &Tensor| x.sqr()?.sum_all()?.to_scalar::<f32>();
        let exact = run(&Enumerate { samples: 1 }, 1)?;
        assert!(length(&(&closed - &exact)?)? < 1e-8 * length(&exact)?);
        let estimate = run(&LeaveOneOut { samples: 5_000 }, 2)?;
        assert!(length(&(&exact - &estimate)?)? < 4e-3 * length(&exact)?);
    }
    Ok(())
}

/// Where the chain and the encoder say nothing, likelihoods in view are the true posterior.
#[test]
fn the_evidence_is_what_the_true_posterior_has_of_each_segment() -> Result<()> {
    let gap = |evidence: bool| -> Result<f32> {
        let config = SwitchLmConfig { evidence, ..config(3, 2, false) };
        let (model, map) = named(&config)?;
        let silent = ["states.transitions", "states.start", "posterior.weight", "posterior.bias"];
        #[expect(clippy::iter_over_hash_type, reason = "each is set to the same")]
        for (name, variable) in map.data().lock().unwrap().iter() {
            if silent.contains(&name.as_str()) {
                variable.set(&variable.zeros_like()?)?;
            }
        }
        let x = sequences(4, 6)?;
        (model.log_prob(&x)? - model.mean_field_bound(&x)?)?.max_all()?.to_scalar()
    };
    assert!(gap(true)?.abs() < 1e-4, "{}", gap(true)?);
    assert!(gap(false)? > 0.1);
    Ok(())
}

#[test]
fn every_parameter_is_reached_and_mistakes_are_named() -> Result<()> {
    let (model, variables) = model(&config(4, 2, true))?;
    let x = sequences(3, 6)?;
    let program = |trace: &mut Trace<'_>| model.log_likelihood(&x, trace);
    let estimator = GumbelSoftmax::new(2, 0.5);
    let loss = estimator.surrogate(&program, &Elbo::default(), Key::from_seed(2))?.loss;
    let grads = loss.backward()?;
    assert!(variables.iter().all(|v| grads.get(v).is_some()));
    for (bad, key) in [
        (SwitchLmConfig { states: 0, ..config(2, 1, true) }, "states"),
        (SwitchLmConfig { segment: 0, ..config(2, 1, true) }, "segment is 0"),
        (SwitchLmConfig { segment: 10, ..config(2, 1, true) }, "use 1 to 9"),
        (SwitchLmConfig { scale: -1., ..config(2, 1, true) }, "scale is -1"),
        (SwitchLmConfig { encoder_layers: 0, ..config(3, 1, true) }, "evidence is true"),
    ] {
        assert!(bad.check(&DECODER).unwrap_err().contains(key));
    }
    Ok(())
}
