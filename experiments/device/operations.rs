//! What is held against the processor.
use candle_core::{DType, Device, Result, Tensor};
use gumbel::Key;
use gumbel_kernels::{
    AttentionMask, Forward, attention, bernoulli_log_prob, bin_concrete, categorical_kl,
    cross_entropy, embedding, exp_concrete, gelu, gumbel_softmax, layer_norm, linear, log_softmax,
    softmax,
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

/// Every operation that a run spends time in, small rows and long ones.
pub(crate) fn all() -> Vec<Operation> {
    let key = Key::from_seed(5);
    let mut all = vec![
        Operation::new("bernoulli_log_prob", &[&[5, 100, 784], &[100, 784]], 1e-5, |x| {
            bernoulli_log_prob(&x[0], &x[1])
        }),
        Operation::new("bin_concrete", &[&[1, 100, 200]], 1e-4, move |x| {
            bin_concrete(&x[0], 5, 0.7, key)
        }),
        Operation::new("exp_concrete", &[&[1, 100, 20, 10]], 1e-4, move |x| {
            exp_concrete(&x[0], 1, 0.7, key)
        }),
        Operation::new("categorical_kl", &[&[100, 30, 10], &[100, 30, 10]], 1e-4, |x| {
            categorical_kl(&x[0], &x[1])
        }),
        Operation::new("linear", &[&[100, 784], &[512, 784], &[512]], 1e-3, |x| {
            linear(&x[0], &x[1], &x[2])
        }),
        Operation::new("gelu", &[&[2048, 256]], 1e-5, |x| gelu(&x[0])),
        Operation::new("layer_norm", &[&[2048, 256], &[256], &[256]], 1e-3, |x| {
            layer_norm(&x[0], &x[1], &x[2], 1e-5)
        }),
        Operation::new("embedding", &[&[10_000, 256]], 1e-4, |x| {
            embedding(&x[0], &ids(2048, 10_000, &x[0])?)
        }),
        Operation::new("attention", &[&[16, 128, 768]], 1e-3, |x| {
            attention(&x[0], 4, AttentionMask::Causal)
        }),
    ];
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
