//! No result depends on the number of threads: the same bits in pools of 1, 2, 3 and 7.
use candle_core::{DType, Device, Result, Tensor, Var};
use gumbel::Key;
use gumbel_kernels::{
    Forward, bernoulli_log_prob, categorical_entropy, categorical_kl, gumbel_softmax, log_softmax,
    log_sum_exp, one_hot_argmax, sigmoid, softplus,
};

const CPU: &Device = &Device::Cpu;

/// Large enough for many parallel tasks, and not a multiple of their size.
const ROWS: (usize, usize, usize) = (1, 997, 21);
const CATEGORIES: usize = 11;

type Computation = fn(&Tensor, &Tensor) -> Result<Tensor>;

/// Each takes `a: [1, B, N, K]` (differentiated) and `b` of the same shape.
const COMPUTATIONS: [(&str, Computation); 11] = [
    ("gumbel_softmax, soft", |a, _| gumbel_softmax(a, 2, 0.7, Forward::Soft, Key::from_seed(5))),
    ("gumbel_softmax, hard", |a, _| gumbel_softmax(a, 2, 0.7, Forward::Hard, Key::from_seed(5))),
    ("bernoulli_log_prob", |a, b| {
        bernoulli_log_prob(&a.flatten_from(2)?, &sigmoid(&b.flatten_from(2)?)?)
    }),
    ("log_softmax", |a, _| log_softmax(a)),
    ("log_sum_exp", |a, _| log_sum_exp(a, 3)),
    ("categorical_kl", |a, b| categorical_kl(a, b)),
    ("categorical_kl to a", |a, b| categorical_kl(b, a)),
    ("categorical_entropy", |a, _| categorical_entropy(a)),
    ("sigmoid", |a, _| sigmoid(a)),
    ("softplus", |a, _| softplus(a)),
    ("one_hot_argmax", |a, b| one_hot_argmax(b)? * a),
];

/// The bits of a tensor of floats.
fn bits(x: &Tensor) -> Result<Vec<u64>> {
    let flat = x.flatten_all()?;
    Ok(match x.dtype() {
        DType::F64 => flat.to_vec1::<f64>()?.into_iter().map(f64::to_bits).collect(),
        _ => flat.to_vec1::<f32>()?.into_iter().map(|x| u64::from(x.to_bits())).collect(),
    })
}

/// `run` in pools of different sizes.
fn assert_same_bits(what: &str, run: impl Fn() -> Result<Vec<Vec<u64>>> + Sync) -> Result<()> {
    let mut first: Option<Vec<Vec<u64>>> = None;
    for threads in [1, 2, 3, 7] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let result = pool.map_err(candle_core::Error::wrap)?.install(|| {
            assert_eq!(rayon::current_num_threads(), threads);
            run()
        })?;
        match &first {
            None => first = Some(result),
            // Not `assert_eq`: a failure would print a hundred thousand numbers.
            Some(first) => assert!(*first == result, "{what}: other bits with {threads} threads"),
        }
    }
    Ok(())
}

#[test]
fn operations_and_their_gradients() -> Result<()> {
    let shape = (ROWS.0, ROWS.1, ROWS.2, CATEGORIES);
    for dtype in [DType::F32, DType::F64] {
        let a = (Key::from_seed(1).normal(shape, dtype, CPU)? * 2.)?;
        let b = Key::from_seed(2).normal(shape, dtype, CPU)?;
        for (name, computation) in COMPUTATIONS {
            assert_same_bits(&format!("{name} {dtype:?}"), || {
                let a = Var::from_tensor(&a)?;
                let y = computation(&a, &b)?;
                let cotangent = Key::from_seed(3).normal(y.shape(), dtype, CPU)?;
                let grads = (&y * cotangent)?.sum_all()?.backward()?;
                let Some(gradient) = grads.get(a.as_tensor()) else {
                    candle_core::bail!("{name} has no gradient")
                };
                Ok(vec![bits(&y)?, bits(gradient)?])
            })?;
        }
    }
    Ok(())
}

#[test]
fn noise() -> Result<()> {
    type Draw = fn(Key, usize, DType, &Device) -> Result<Tensor>;
    for (name, draw) in [
        ("uniform", Key::uniform as Draw),
        ("gumbel", Key::gumbel),
        ("logistic", Key::logistic),
        ("normal", Key::normal),
    ] {
        for dtype in [DType::F32, DType::F64] {
            assert_same_bits(&format!("{name} {dtype:?}"), || {
                Ok(vec![bits(&draw(Key::from_seed(4), 100_003, dtype, CPU)?)?])
            })?;
        }
    }
    Ok(())
}

/// The comparison can fail: a sum whose order follows the number of threads has other bits.
#[test]
fn a_sum_split_by_the_number_of_threads_is_caught() -> Result<()> {
    let x: Vec<f32> = Key::from_seed(6).normal(100_003, DType::F32, CPU)?.to_vec1()?;
    let sum = |threads: usize| {
        let parts = x.chunks(x.len().div_ceil(threads));
        parts.map(|part| part.iter().sum::<f32>()).sum::<f32>().to_bits()
    };
    assert_ne!(sum(1), sum(7));
    Ok(())
}
