//! What is held against the processor.
use candle_core::{DType, Device, Result, Tensor};
use gumbel::Key;
use gumbel_kernels::{
    Activation, AttentionMask, Forward, attention, autocast, bernoulli_log_prob, bin_concrete,
    bin_concrete_log_density, bin_concrete_with_log_density, categorical_kl, cross_entropy,
    embedding, exp_concrete, exp_concrete_log_density, exp_concrete_with_log_density,
    expert_log_probs, gelu, gumbel_sigmoid, gumbel_softmax, gumbel_softmax_embedding, layer_norm,
    linear, linear_cross_entropy, linear_with_activation, log_softmax, softmax,
};

type Compute = dyn Fn(&[Tensor]) -> Result<Tensor>;

/// An operation on inputs of some shapes.
pub(crate) struct Operation {
    pub(crate) name: String,
    shapes: Vec<Vec<usize>>,
    pub(crate) compute: Box<Compute>,
    /// The difference in value or gradient that sums in another order may make.
    pub(crate) allowed: f64,
}

impl Operation {
    fn new(
        name: &str,
        shapes: &[&[usize]],
        allowed: f64,
        compute: impl Fn(&[Tensor]) -> Result<Tensor> + 'static,
    ) -> Self {
        let name = format!("{name} {shapes:?}");
        let shapes = shapes.iter().map(|shape| shape.to_vec()).collect();
        Self { name, shapes, compute: Box::new(compute), allowed }
    }

    /// The same numbers each time.
    pub(crate) fn inputs(&self) -> Result<Vec<Tensor>> {
        let key = Key::from_seed(1).named("inputs");
        let of = |(i, shape): (usize, &Vec<usize>)| {
            key.fold_in(i as u64).normal(shape.as_slice(), DType::F32, &Device::Cpu)
        };
        self.shapes.iter().enumerate().map(of).collect()
    }
}

/// Whole numbers below `n` on the device of `like`.
fn ids(count: usize, n: u32, like: &Tensor) -> Result<Tensor> {
    let ids: Vec<u32> = (0..count as u32).map(|i| i.wrapping_mul(2_654_435_761) % n).collect();
    Tensor::from_vec(ids, count, like.device())
}

/// Samples of Concrete variables, and their densities.
fn concrete() -> Vec<Operation> {
    let key = Key::from_seed(6);
    vec![
        Operation::new("bin_concrete", &[&[1, 100, 200]], 1e-4, move |x| {
            bin_concrete(&x[0], 5, 0.7, key)
        }),
        Operation::new("bin_concrete, density", &[&[1, 100, 200]], 1e-4, move |x| {
            let (v, density) = bin_concrete_with_log_density(&x[0], 5, 0.7, key)?;
            v.sum(2)? + density
        }),
        Operation::new("bin_concrete_log_density", &[&[1, 1, 200], &[5, 100, 200]], 1e-4, |x| {
            bin_concrete_log_density(&x[0], &x[1], 0.7)
        }),
        Operation::new("gumbel_sigmoid, soft", &[&[1, 100, 200]], 1e-4, move |x| {
            gumbel_sigmoid(&x[0], 5, 0.7, Forward::Soft, key)
        }),
        Operation::new("gumbel_sigmoid, straight-through", &[&[1, 100, 200]], 1e-4, move |x| {
            gumbel_sigmoid(&x[0], 5, 0.7, Forward::Hard, key)
        }),
        Operation::new("exp_concrete", &[&[1, 100, 20, 10]], 1e-4, move |x| {
            exp_concrete(&x[0], 5, 0.7, key)
        }),
        Operation::new("exp_concrete, density", &[&[1, 100, 20, 10]], 1e-4, move |x| {
            let (y, density) = exp_concrete_with_log_density(&x[0], 5, 0.7, key)?;
            y.sum((2, 3))? + density
        }),
        Operation::new(
            "exp_concrete_log_density",
            &[&[1, 1, 20, 10], &[5, 100, 20, 10]],
            1e-4,
            |x| exp_concrete_log_density(&x[0], &x[1], 0.7),
        ),
    ]
}

/// Operations that are made of products, in single precision and with factors in half.
fn products() -> Vec<Operation> {
    let linear_of =
        |activation| move |x: &[Tensor]| linear_with_activation(&x[0], &x[1], &x[2], activation);
    let layer: [&[usize]; 3] = [&[100, 784], &[512, 784], &[512]];
    let attend = |mask| move |x: &[Tensor]| attention(&x[0], 4, mask);
    let heads: [&[usize]; 1] = [&[4, 128, 768]];
    let output: [&[usize]; 2] = [&[128, 256], &[10_000, 256]];
    let loss = |x: &[Tensor]| linear_cross_entropy(&x[0], &x[1], &ids(128, 10_000, &x[0])?);
    let words: [&[usize]; 3] = [&[128, 256], &[10_000, 256], &[10_000, 64]];
    let experts: [&[usize]; 3] = [&[64, 256], &[1000, 256], &[8, 1000]];
    let half = DType::BF16;
    vec![
        Operation::new("linear", &layer, 1e-3, |x| linear(&x[0], &x[1], &x[2])),
        Operation::new("linear, relu", &layer, 1e-3, linear_of(Activation::Relu)),
        Operation::new("linear, tanh", &layer, 1e-3, linear_of(Activation::Tanh)),
        // A product is rounded to three digits, and the sums of its gradient are of hundreds.
        Operation::new("linear, bf16", &layer, 0.2, move |x| {
            autocast(half, || linear(&x[0], &x[1], &x[2]))
        }),
        Operation::new("attention", &heads, 1e-3, attend(AttentionMask::Causal)),
        Operation::new("attention, window", &heads, 1e-3, attend(AttentionMask::SlidingWindow(16))),
        Operation::new("attention, bf16", &heads, 0.2, move |x| {
            autocast(half, || attention(&x[0], 4, AttentionMask::Causal))
        }),
        Operation::new("linear_cross_entropy", &output, 1e-3, loss),
        Operation::new("linear_cross_entropy, bf16", &output, 0.2, move |x| {
            autocast(half, || loss(x))
        }),
        Operation::new("gumbel_softmax_embedding", &words, 1e-3, |x| {
            let key = Key::from_seed(5);
            gumbel_softmax_embedding(&x[0], &x[1], &x[2], 0.5, Forward::Soft, key)
        }),
        Operation::new("expert_log_probs", &experts, 1e-3, |x| {
            expert_log_probs(&x[0], &x[1], &x[2], &ids(64, 1000, &x[0])?)
        }),
    ]
}

/// Every operation that a run spends time in, small rows and long ones.
pub(crate) fn all() -> Vec<Operation> {
    let key = Key::from_seed(5);
    let mut all = concrete();
    all.extend(products());
    all.extend([
        Operation::new("bernoulli_log_prob", &[&[5, 100, 784], &[100, 784]], 1e-5, |x| {
            bernoulli_log_prob(&x[0], &x[1])
        }),
        Operation::new("categorical_kl", &[&[100, 30, 10], &[100, 30, 10]], 1e-4, |x| {
            categorical_kl(&x[0], &x[1])
        }),
        Operation::new("gelu", &[&[2048, 256]], 1e-5, |x| gelu(&x[0])),
        Operation::new("layer_norm", &[&[2048, 256], &[256], &[256]], 1e-3, |x| {
            layer_norm(&x[0], &x[1], &x[2], 1e-5)
        }),
        Operation::new("embedding", &[&[10_000, 256]], 1e-4, |x| {
            embedding(&x[0], &ids(2048, 10_000, &x[0])?)
        }),
    ]);
    for shape in [&[100, 30, 10][..], &[4096, 32], &[64, 50_257]] {
        all.push(Operation::new("softmax", &[shape], 1e-5, |x| softmax(&x[0])));
        all.push(Operation::new("log_softmax", &[shape], 1e-4, |x| log_softmax(&x[0])));
        for (name, forward) in [("soft", Forward::Soft), ("straight-through", Forward::Hard)] {
            all.push(Operation::new(
                &format!("gumbel_softmax, {name}"),
                &[shape],
                1e-4,
                move |x| gumbel_softmax(&x[0].unsqueeze(0)?, 1, 1., forward, key),
            ));
        }
    }
    for shape in [&[1, 100, 10][..], &[1, 3, 5000]] {
        all.push(Operation::new("gumbel_softmax, 5 samples", &[shape], 1e-4, move |x| {
            gumbel_softmax(&x[0], 5, 0.7, Forward::Soft, key)
        }));
    }
    for (rows, classes) in [(2048, 65), (512, 50_257)] {
        all.push(Operation::new("cross_entropy", &[&[rows, classes]], 1e-4, move |x| {
            cross_entropy(&x[0], &ids(rows, classes as u32, &x[0])?)
        }));
    }
    all
}
