//! A mixture of experts with hard routing: each input goes to one expert, and the router learns which.
//!
//! `cargo run --release --example moe_routing`
use candle_core::{DType, Device, Result, Tensor, Var};
use gumbel::kernels::log_softmax;
use gumbel::{Key, SampleMode, Schedule, sample_categorical};

const EXPERTS: usize = 4;

struct Model {
    /// `[2, E]`: a linear router.
    router: Var,
    /// `[2, E]`: each expert is a linear function of the input.
    experts: Var,
}

impl Model {
    fn new(key: Key) -> Result<Self> {
        let normal = |name| key.named(name).normal((2, EXPERTS), DType::F32, &Device::Cpu);
        Ok(Self {
            router: Var::from_tensor(&(normal("router")? * 0.1)?)?,
            experts: Var::from_tensor(&normal("experts")?)?,
        })
    }

    /// Output `[B]`, route `[B, E]` and router logits `[B, E]` for inputs `x: [B, 2]`.
    fn forward(&self, x: &Tensor, tau: f64, mode: SampleMode, key: Key) -> Result<[Tensor; 3]> {
        let logits = x.matmul(&self.router)?;
        let route = sample_categorical(&logits, tau, mode, 1, key)?;
        // All experts are evaluated here; a large model would evaluate those that the route names.
        Ok([(x.matmul(&self.experts)? * &route)?.sum(1)?, route, logits])
    }
}

/// Inputs `[B, 2]`, and a target `[B]` that is another linear function in each quadrant.
fn batch(key: Key) -> Result<(Tensor, Tensor)> {
    let x = key.normal((256, 2), DType::F32, &Device::Cpu)?;
    let target = |x: &[f32]| match (x[0] > 0., x[1] > 0.) {
        (true, true) => 2. * x[0] + x[1],
        (true, false) => x[1] - x[0],
        (false, true) => 3. * x[1] + x[0],
        (false, false) => -2. * x[0],
    };
    let y: Vec<f32> = x.to_vec2()?.iter().map(|x: &Vec<f32>| target(x)).collect();
    Ok((x, Tensor::new(y, &Device::Cpu)?))
}

/// Trains, and returns the mean squared error of fresh inputs and the share of each expert, without noise.
fn train(key: Key) -> Result<(f32, Vec<f32>)> {
    let model = Model::new(key.named("model"))?;
    let tau = Schedule::Linear { start: 4., end: 0.5, steps: 800 };
    for step in 0..1000 {
        // Every expert learns from every input first; then each input goes to one.
        let mode = if step < 500 { SampleMode::Train } else { SampleMode::Hard };
        let key = key.named("step").fold_in(step);
        let (x, y) = batch(key.named("batch"))?;
        let [output, route, logits] = model.forward(&x, tau.at(step), mode, key.named("route"))?;
        let error = (output - y)?.sqr()?.mean(0)?;
        // Balance: the share of inputs times the mean probability, smallest where all experts are used alike.
        let probs = log_softmax(&logits)?.exp()?.mean(0)?;
        let balance = ((route.detach().mean(0)? * probs)?.sum(0)? * EXPERTS as f64)?;
        let grads = (error + (balance * 0.3)?)?.backward()?;
        for (var, rate) in [(&model.router, 1.), (&model.experts, 0.2)] {
            if let Some(gradient) = grads.get(var) {
                var.set(&(var.as_detached_tensor() - (gradient * rate)?)?)?;
            }
        }
    }
    let (x, y) = batch(key.named("test"))?;
    let [output, route, _] = model.forward(&x, 1., SampleMode::Mode, key)?;
    Ok(((output - y)?.sqr()?.mean(0)?.to_scalar()?, route.mean(0)?.to_vec1()?))
}

#[expect(clippy::print_stdout, reason = "an example shows its result")]
fn main() -> Result<()> {
    let (error, shares) = train(Key::from_seed(2))?;
    println!("mean squared error {error:.3}, shares of the experts {shares:.2?}");
    Ok(())
}

#[test]
fn experts_share_the_work_and_solve_it() -> Result<()> {
    let (error, shares) = train(Key::from_seed(2))?;
    // The best linear function without experts leaves 3.7.
    assert!(error < 0.3, "{error}");
    assert!(shares.iter().all(|share| *share > 0.1), "{shares:?}");
    Ok(())
}
