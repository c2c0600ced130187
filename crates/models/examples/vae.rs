//! A small VAE with categorical latents, trained by plain gradient descent, and judged by bounds and by the exact
//! likelihood of the discrete model.
//!
//! `cargo run -p gumbel-models --example vae`
use std::sync::PoisonError;

use candle_core::{DType, Device, Error, Result, Tensor, Var};
use candle_nn::{VarBuilder, VarMap};
use gumbel::Key;
use gumbel::estimators::{Estimator, LeaveOneOut, Trace};
use gumbel::objectives::{Elbo, exact_log_likelihood, multi_sample_bound};
use gumbel_models::{CategoricalVae, CategoricalVaeConfig, LatentVariableModel};

/// Two latents of four values, and layers of 16 units between them and the pixels.
const CONFIG: &str =
    "latents = 2\ncategories = 4\nencoder = [16]\ndecoder = [16]\nactivation = 'tanh'";

/// All images of 4 by 4 bits with one bar, a row or a column: `[8, 16]`.
fn bars() -> Result<Tensor> {
    let bar = |bar: usize| -> [f32; 16] {
        let on = |i: usize| if bar < 4 { i / 4 == bar } else { i % 4 == bar - 4 };
        std::array::from_fn(|i| f32::from(u8::from(on(i))))
    };
    let bars: [_; 8] = std::array::from_fn(bar);
    Tensor::new(&bars, &Device::Cpu)
}

/// The model and its parameters, which depend on nothing but the key.
fn model(x: &Tensor, key: Key) -> Result<(CategoricalVae, Vec<Var>)> {
    let config: CategoricalVaeConfig = toml::from_str(CONFIG).map_err(Error::wrap)?;
    let map = VarMap::new();
    let builder = VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
    let model = CategoricalVae::new(&config, &x.mean(0)?, &builder)?;
    let (bias, base_rate) = model.base_rate_bias()?;
    let draw = |(name, var): (&String, &Var)| {
        let normal = key.named(name).normal(var.shape(), DType::F32, &Device::Cpu)?;
        let start = if name.ends_with("weight") { (normal * 0.4)? } else { var.zeros_like()? };
        var.set(if *name == bias { &base_rate } else { &start })?;
        Ok(var.clone())
    };
    let named = map.data().lock().unwrap_or_else(PoisonError::into_inner);
    let vars = named.iter().map(draw).collect::<Result<_>>()?;
    Ok((model, vars))
}

/// Before and after training: the bounds with 1 and with 100 samples and the exact `log p(x)`, means in nats.
fn train(steps: u64, key: Key) -> Result<[[f32; 3]; 2]> {
    let x = bars()?;
    let (model, vars) = model(&x, key.named("model"))?;
    let program = |trace: &mut Trace<'_>| model.log_likelihood(&x, trace);
    let judge = || {
        let bound = |samples| multi_sample_bound(&program, samples, 100, key.named("judge"));
        let all = [bound(1)?, bound(100)?, exact_log_likelihood(&program)?];
        Ok::<_, Error>([mean(&all[0])?, mean(&all[1])?, mean(&all[2])?])
    };
    let before = judge()?;
    let estimator = LeaveOneOut { samples: 8 };
    for step in 0..steps {
        let key = key.named("noise").fold_in(step);
        let grads = estimator.surrogate(&program, &Elbo::default(), key)?.loss.backward()?;
        for var in &vars {
            if let Some(gradient) = grads.get(var) {
                var.set(&(var.as_detached_tensor() - (gradient * 0.5)?)?)?;
            }
        }
    }
    Ok([before, judge()?])
}

fn mean(x: &Tensor) -> Result<f32> {
    x.mean_all()?.to_scalar()
}

#[expect(clippy::print_stdout, reason = "an example shows its result")]
fn main() -> Result<()> {
    let [before, after] = train(100, Key::from_seed(1))?;
    println!("bounds with 1 and 100 samples and log p(x), in nats");
    println!("before {before:.2?}\nafter  {after:.2?}\nbest   {:.2}", -(8f32.ln()));
    Ok(())
}

#[test]
fn it_learns_and_the_bounds_are_bounds() -> Result<()> {
    let [before, after] = train(100, Key::from_seed(1))?;
    for [one, hundred, exact] in [before, after] {
        // Bounds in expectation; these are means of few draws.
        assert!(one < hundred && hundred < exact + 0.05, "{one} {hundred} {exact}");
        // Nothing is better than the distribution of the data itself.
        assert!(exact < -(8f32.ln()), "{exact}");
    }
    assert!(before[1] < -7. && after[1] > -5., "{before:?} {after:?}");
    Ok(())
}
