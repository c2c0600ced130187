//! No result depends on the number of threads: the same bits with 1, 2, 3 and 7.
use std::process::Command;

use candle_core::{DType, Device, Result, Tensor, Var};
use gumbel_kernels::*;

const CPU: &Device = &Device::Cpu;

/// Large enough for many parallel tasks, and not a multiple of their size.
const ROWS: (usize, usize, usize) = (1, 997, 21);
const CATEGORIES: usize = 11;

type Computation = fn(&Tensor, &Tensor) -> Result<Tensor>;

/// Each takes `a: [1, B, N, K]` (differentiated) and `b` of the same shape.
const COMPUTATIONS: [(&str, Computation); 36] = [
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
    ("linear", |a, b| {
        let rows = b.flatten(0, 2)?;
        linear(a, &rows.narrow(0, 0, 64)?, &rows.narrow(0, 64, 64)?.narrow(1, 0, 1)?.squeeze(1)?)
    }),
    ("linear, bias", |a, b| {
        let rows = a.flatten(0, 2)?;
        linear(b, &rows.narrow(0, 0, 64)?, &rows.narrow(0, 64, 64)?.narrow(1, 0, 1)?.squeeze(1)?)
    }),
    ("add to rows", |a, b| add(b, &a.get(0)?.get(0)?)),
    ("gelu", |a, _| gelu(a)),
    ("layer_norm", |a, _| {
        let rows = a.flatten(0, 2)?;
        layer_norm(a, &rows.get(0)?, &rows.get(1)?, 1e-5)
    }),
    ("attention", |a, _| attention(&a.flatten_from(2)?, 7, AttentionMask::Causal)),
    ("embedding", |a, _| embedding(&a.flatten(0, 2)?, &ids(5000, 997)?)),
    ("cross_entropy", |a, _| {
        let rows = a.flatten(0, 2)?;
        cross_entropy(&rows, &ids(rows.dim(0)?, CATEGORIES)?)
    }),
    ("linear_cross_entropy", |a, b| {
        let rows = b.flatten(0, 2)?;
        let targets = ids(rows.dim(0)?, 700)?;
        linear_cross_entropy(&a.flatten(0, 2)?, &rows.narrow(0, 0, 700)?, &targets)
    }),
    ("linear_cross_entropy, weight", |a, b| {
        let rows = b.flatten(0, 2)?;
        let targets = ids(rows.dim(0)?, 700)?;
        linear_cross_entropy(&rows, &a.flatten(0, 2)?.narrow(0, 0, 700)?, &targets)
    }),
    ("gumbel_softmax_embedding", |a, b| {
        let (rows, words) = (a.flatten(0, 2)?, b.flatten(0, 2)?.narrow(0, 0, 700)?);
        gumbel_softmax_embedding(&rows, &words, &words, 0.7, Forward::Soft, Key::from_seed(3))
    }),
    ("gumbel_softmax_embedding, words", |a, b| {
        let (rows, words) = (b.flatten(0, 2)?, a.flatten(0, 2)?.narrow(0, 0, 700)?);
        gumbel_softmax_embedding(&rows, &words, &words, 0.7, Forward::Hard, Key::from_seed(3))
    }),
    ("markov_chain_log_likelihood", |a, b| {
        let rows = b.flatten(0, 2)?.narrow(0, 0, CATEGORIES)?;
        markov_chain_log_likelihood(&a.squeeze(0)?, &b.squeeze(0)?, &rows)
    }),
    ("markov_chain_log_likelihood, transitions", |a, b| {
        let rows = a.flatten(0, 2)?.narrow(0, 0, CATEGORIES)?;
        markov_chain_log_likelihood(&b.squeeze(0)?, &a.squeeze(0)?, &rows)
    }),
    ("expert_log_probs, weight", |a, b| {
        let (x, weight) = (b.flatten(0, 2)?, a.flatten(0, 2)?.narrow(0, 0, 700)?);
        let experts = b.flatten(0, 2)?.narrow(0, 0, 700)?.narrow(1, 0, 5)?.t()?.contiguous()?;
        expert_log_probs(&x, &weight, &experts, &ids(x.dim(0)?, 700)?)
    }),
    ("expert_log_probs, experts", |a, b| {
        let (x, weight) = (b.flatten(0, 2)?, b.flatten(0, 2)?.narrow(0, 0, 700)?);
        let experts = a.flatten(0, 2)?.narrow(0, 0, 700)?.narrow(1, 0, 5)?.t()?.contiguous()?;
        expert_log_probs(&x, &weight, &experts, &ids(x.dim(0)?, 700)?)
    }),
    ("expert_log_probs", |a, b| {
        let (x, weight) = (a.flatten(0, 2)?, b.flatten(0, 2)?.narrow(0, 0, 700)?);
        let experts = weight.narrow(1, 0, 5)?.t()?.contiguous()?;
        expert_log_probs(&x, &weight, &experts, &ids(x.dim(0)?, 700)?)
    }),
    ("one_hot_argmax", |a, b| one_hot_argmax(b)? * a),
    ("conditional_softmax_jacobian", |a, b| {
        let one_hot = one_hot_argmax(b)?;
        conditional_softmax_jacobian(b, &one_hot, b, 0.7, 9, Key::from_seed(5))? * a
    }),
    ("conditional_sigmoid_jacobian", |a, b| {
        let bits = one_hot_argmax(b)?;
        conditional_sigmoid_jacobian(b, &bits, b, 0.7, 9, Key::from_seed(5))? * a
    }),
    ("softmax", |a, _| softmax(a)),
    ("gumbel_sigmoid", |a, _| {
        gumbel_sigmoid(&a.flatten_from(2)?, 2, 0.7, Forward::Soft, Key::from_seed(5))
    }),
    ("bin_concrete", |a, _| bin_concrete(&a.flatten_from(2)?, 2, 0.7, Key::from_seed(5))),
    ("bin_concrete_log_density", |a, b| {
        bin_concrete_log_density(&a.flatten_from(2)?, &b.flatten_from(2)?, 0.7)
    }),
    ("exp_concrete", |a, _| exp_concrete(a, 2, 0.7, Key::from_seed(5))),
    ("exp_concrete_log_density", |a, b| exp_concrete_log_density(a, &log_softmax(b)?, 0.7)),
];

/// `n` numbers below `bound`.
fn ids(n: usize, bound: usize) -> Result<Tensor> {
    let id = |i: usize| Key::from_seed(4).word(i as u64) % bound as u32;
    Tensor::from_vec((0..n).map(id).collect(), n, CPU)
}

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

/// Candle reads the number of threads of its matrix products from the environment, which a process must
/// not change: this test starts itself again with another number, and compares what the two print.
const CHILD: &str = "GUMBEL_CONFORMANCE_CHILD";
const MARK: &str = "bits of the products:";

/// A layer that is large enough to be split, and its gradients.
fn products() -> Result<Vec<u64>> {
    let normal = |seed: u64, shape: &[usize]| {
        Var::from_tensor(&Key::from_seed(seed).normal(shape, DType::F32, CPU)?)
    };
    let (x, weight, bias) = (normal(7, &[997, 331])?, normal(8, &[211, 331])?, normal(9, &[211])?);
    let y = linear(&x, &weight, &bias)?;
    let grads = y.sqr()?.sum_all()?.backward()?;
    let mut all = bits(&y)?;
    for var in [&x, &weight, &bias] {
        let Some(gradient) = grads.get(var.as_tensor()) else {
            candle_core::bail!("a parameter of the layer has no gradient")
        };
        all.extend(bits(gradient)?);
    }
    Ok(all)
}

#[test]
fn matrix_products() -> Result<()> {
    if std::env::var_os(CHILD).is_some() {
        // Fowler, Noll and Vo's hash: the bits in one number.
        let hash = |hash: u64, x: u64| (hash ^ x).wrapping_mul(0x0100_0000_01b3);
        println!("{MARK} {:016x}", products()?.into_iter().fold(0xcbf2_9ce4_8422_2325, hash));
        return Ok(());
    }
    let mut printed = Vec::new();
    for threads in ["1", "2", "3", "7"] {
        let output = Command::new(std::env::current_exe()?)
            .args(["--exact", "matrix_products", "--nocapture"])
            .env(CHILD, "1")
            .env("RAYON_NUM_THREADS", threads)
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        // The test runner may write before the mark on the same line.
        let digest = text.lines().find_map(|line| line.split_once(MARK));
        printed.push(digest.map(|(_, digest)| digest.trim().to_owned()));
    }
    assert!(printed.iter().all(|digest| digest.is_some() && *digest == printed[0]), "{printed:?}");
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
