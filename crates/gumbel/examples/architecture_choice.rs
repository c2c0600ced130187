//! A differentiable choice among candidate operations: which function belongs on which edge of a network?
//!
//! `cargo run --release --example architecture_choice`
use candle_core::{DType, Device, Result, Tensor, Var};
use gumbel::{Key, SampleMode, Schedule, sample_categorical};

type Operation = fn(&Tensor) -> Result<Tensor>;

const CANDIDATES: [(&str, Operation); 4] = [
    ("identity", |x| Ok(x.clone())),
    ("sine", |x| (x * 3.)?.sin()),
    ("square", |x| x.sqr()),
    ("absolute value", |x| x.abs()),
];

/// Edges of the network: one for each input.
const EDGES: usize = 3;

/// The function that is looked for, of `x: [B, EDGES]`: a sine, an absolute value and a square.
fn target(x: &Tensor) -> Result<Tensor> {
    let column = |i| x.narrow(1, i, 1)?.squeeze(1);
    let sine = (column(0)? * 3.)?.sin()?;
    (sine * 1.5)? + (column(1)?.abs()? - (column(2)?.sqr()? * 0.7)?)?
}

struct Network {
    /// `[EDGES, candidates]`: logits of the choice, and a weight for each candidate.
    choice: Var,
    weights: Var,
}

impl Network {
    /// `Σ_e Σ_o z_eo w_eo operation_o(x_e)`: `[B]`. One architecture `z` serves the whole batch.
    fn forward(&self, x: &Tensor, tau: f64, mode: SampleMode, key: Key) -> Result<Tensor> {
        let z = sample_categorical(&self.choice, tau, mode, 1, key)?;
        let outputs = CANDIDATES.map(|(_, operation)| operation(x));
        let outputs = outputs.into_iter().collect::<Result<Vec<_>>>()?;
        let outputs = Tensor::stack(&outputs, 2)?; // [B, EDGES, candidates]
        outputs.broadcast_mul(&(z * self.weights.as_tensor())?)?.sum((1, 2))
    }
}

/// Trains choice and weights together, and returns the names that were chosen and the error of the network
/// that is left when every edge keeps one operation.
fn train(key: Key) -> Result<(Vec<&'static str>, f32)> {
    let zeros = || Var::zeros((EDGES, CANDIDATES.len()), DType::F32, &Device::Cpu);
    let network = Network { choice: zeros()?, weights: zeros()? };
    let tau = Schedule::Linear { start: 2., end: 0.3, steps: 600 };
    for step in 0..800 {
        let key = key.named("step").fold_in(step);
        let x = key.named("batch").normal((64, EDGES), DType::F32, &Device::Cpu)?;
        let y = network.forward(&x, tau.at(step), SampleMode::Train, key.named("choice"))?;
        let grads = (y - target(&x)?)?.sqr()?.mean(0)?.backward()?;
        for (var, rate) in [(&network.choice, 0.1), (&network.weights, 0.05)] {
            if let Some(gradient) = grads.get(var) {
                var.set(&(var.as_detached_tensor() - (gradient * rate)?)?)?;
            }
        }
    }
    let x = key.named("test").normal((1000, EDGES), DType::F32, &Device::Cpu)?;
    let y = network.forward(&x, 1., SampleMode::Mode, key)?;
    let error = (y - target(&x)?)?.sqr()?.mean(0)?.to_scalar()?;
    let chosen: Vec<u32> = network.choice.argmax(1)?.to_vec1()?;
    Ok((chosen.into_iter().map(|i| CANDIDATES[i as usize].0).collect(), error))
}

#[expect(clippy::print_stdout, reason = "an example shows its result")]
fn main() -> Result<()> {
    let (names, error) = train(Key::from_seed(1))?;
    println!("chosen: {names:?}, mean squared error {error:.3}");
    Ok(())
}

#[test]
fn the_right_operations_are_chosen() -> Result<()> {
    let (names, error) = train(Key::from_seed(1))?;
    assert_eq!(names, ["sine", "absolute value", "square"]);
    assert!(error < 0.05, "{error}");
    Ok(())
}
