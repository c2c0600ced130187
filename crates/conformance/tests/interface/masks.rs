//! Rows of different length by masks: values and gradients are those of the shorter rows alone.
use candle_core::{DType, Result, Tensor, Var};
use gumbel::distributions::{Categorical, ExpConcrete};
use gumbel::estimators::{Divergence, Trace};
use gumbel::kernels::{
    Forward, categorical_entropy, categorical_kl, conditional_softmax_jacobian, log_softmax,
    log_sum_exp, one_hot_argmax,
};
use gumbel::objectives::Elbo;
use gumbel::{Key, SampleMode, gumbel_softmax, mask_logits, sample_categorical};

use crate::{CPU, assert_close, estimators, gradient, numbers};

/// Which of five categories each of four rows has.
const ROWS: [&[u32]; 4] = [&[0, 1, 4], &[0, 1, 2, 3, 4], &[3], &[1, 2, 3, 4]];

fn mask() -> Result<Tensor> {
    let row = |open: &&[u32]| (0..5).map(|k| u8::from(open.contains(&k))).collect::<Vec<_>>();
    Tensor::new(ROWS.iter().flat_map(row).collect::<Vec<u8>>(), CPU)?.reshape((1, 2, 2, 5))
}

fn row(x: &Tensor, i: usize) -> Result<Tensor> {
    x.narrow(1, i / 2, 1)?.narrow(2, i % 2, 1)
}

/// The categories of row `i` of `x: [S, 2, 2, 5]` alone: `[S, 1, 1, K]`.
fn open(x: &Tensor, i: usize) -> Result<Tensor> {
    row(x, i)?.contiguous()?.index_select(&Tensor::new(ROWS[i], CPU)?, 3)
}

fn normal(shape: &[usize], seed: u64) -> Result<Tensor> {
    Key::from_seed(seed).normal(shape, DType::F64, CPU)
}

/// A function of posterior logits, prior logits and a tensor of samples or noise `[3, B, N, K]`: one number
/// for each variable, `[.., B, N]` or `[.., B, N, K]`.
type Quantity = (&'static str, fn(&Tensor, &Tensor, &Tensor) -> Result<Tensor>);

/// The values of a sum over the variables, for each variable: one at a time.
fn each(logits: [&Tensor; 3], f: impl Fn([Tensor; 3]) -> Result<Tensor>) -> Result<Tensor> {
    let (b, n) = (logits[0].dim(1)?, logits[0].dim(2)?);
    let parts = (0..b * n).map(|i| {
        let part = |x: &Tensor| x.narrow(1, i / n, 1)?.narrow(2, i % n, 1);
        f([part(logits[0])?, part(logits[1])?, part(logits[2])?])
    });
    let parts = parts.collect::<Result<Vec<_>>>()?;
    let s = parts[0].dim(0)?;
    Tensor::cat(&parts, 1)?.reshape((s, b, n))
}

const QUANTITIES: [Quantity; 12] = [
    ("entropy", |q, _, _| categorical_entropy(q)),
    ("kl", |q, p, _| categorical_kl(q, p)),
    ("kl to the uniform law", |q, _, _| {
        let q = Categorical::from_logits(q)?;
        q.kl_per_variable(&Categorical::uniform_like(&q)?)
    }),
    ("log_sum_exp", |q, _, _| log_sum_exp(q, 3)),
    ("probs", |q, _, _| Categorical::from_logits(q)?.probs()),
    ("log_prob", |q, p, x| {
        each([q, p, x], |[q, _, x]| {
            Categorical::from_logits(&q)?.log_prob(&one_hot_argmax(&x.broadcast_add(&q.detach())?)?)
        })
    }),
    ("log_density", |q, p, x| {
        each([q, p, x], |[q, _, x]| ExpConcrete::new(&q, 0.7)?.log_density(&x))
    }),
    ("log_density of a path", |q, p, x| {
        each([q, p, x], |[q, p, x]| {
            let (q, p) = (ExpConcrete::new(&q, 0.7)?, ExpConcrete::new(&p, 0.4)?);
            p.log_density(&q.transport(&x)?)? - q.log_density_of_noise(&x)?
        })
    }),
    ("log_density_simplex", |q, p, x| {
        each([q, p, x], |[q, _, x]| ExpConcrete::new(&q, 0.7)?.log_density_simplex_from_log(&x))
    }),
    ("Concrete entropy", |q, p, x| each([q, p, x], |[q, ..]| ExpConcrete::new(&q, 0.7)?.entropy())),
    ("Concrete kl", |q, p, x| {
        each([q, p, x], |[q, p, _]| ExpConcrete::new(&q, 0.7)?.kl(&ExpConcrete::new(&p, 0.7)?))
    }),
    ("sample", |q, _, x| ExpConcrete::new(q, 0.7)?.transport(x)?.exp()?.sqr()),
];

#[test]
fn a_masked_row_has_the_values_and_gradients_of_the_shorter_row() -> Result<()> {
    let (q, p) = (normal(&[1, 2, 2, 5], 1)?, normal(&[1, 2, 2, 5], 2)?);
    let x = normal(&[3, 2, 2, 5], 3)?;
    for (name, quantity) in QUANTITIES {
        let [full_q, full_p] = [Var::from_tensor(&q)?, Var::from_tensor(&p)?];
        let y = quantity(&mask_logits(&full_q, &mask()?)?, &mask_logits(&full_p, &mask()?)?, &x)?;
        let [slope_q, slope_p] = [gradient(&y, &full_q)?, gradient(&y, &full_p)?];
        for (i, categories) in ROWS.iter().enumerate() {
            let what = format!("{name}, row {i}");
            let [short_q, short_p] =
                [Var::from_tensor(&open(&q, i)?)?, Var::from_tensor(&open(&p, i)?)?];
            let expected = quantity(&short_q, &short_p, &open(&x, i)?)?;
            let of_row = y.narrow(1, i / 2, 1)?.narrow(2, i % 2, 1)?;
            let of_row = if y.rank() == 4 { open(&y, i)? } else { of_row };
            assert_close(&what, &numbers(&of_row)?, &numbers(&expected)?, 1e-12);
            for (slope, short) in [(&slope_q, &short_q), (&slope_p, &short_p)] {
                let exact = numbers(&gradient(&expected, short)?)?;
                assert_close(&what, &numbers(&open(slope, i)?)?, &exact, 1e-11);
                for (k, slope) in numbers(&row(slope, i)?)?.into_iter().enumerate() {
                    assert!(
                        slope == 0. || categories.contains(&(k as u32)),
                        "{what}: {slope} at {k}"
                    );
                }
            }
        }
    }
    Ok(())
}

/// The gradient in a logit of `-∞` itself, with no mask in between that would stop it.
#[test]
fn a_logit_of_minus_infinity_has_a_gradient_of_exactly_zero() -> Result<()> {
    let masked = |seed| Var::from_tensor(&mask_logits(&normal(&[1, 2, 2, 5], seed)?, &mask()?)?);
    let x = normal(&[3, 2, 2, 5], 3)?;
    for (name, quantity) in QUANTITIES {
        let (q, p) = (masked(1)?, masked(2)?);
        let y = quantity(&q, &p, &x)?;
        let grads = y.sum_all()?.backward()?;
        for slopes in [&q, &p].into_iter().filter_map(|v| grads.get(v.as_tensor())) {
            for (slope, open) in numbers(slopes)?.iter().zip(numbers(&mask()?)?) {
                assert!(slope.is_finite() && (open == 1. || *slope == 0.), "{name}: {slope}");
            }
        }
    }
    Ok(())
}

#[test]
fn a_learned_temperature_is_not_poisoned_by_a_mask() -> Result<()> {
    let (q, x) = (normal(&[1, 2, 2, 5], 1)?, normal(&[3, 2, 2, 5], 3)?);
    let run = |logits: &Tensor, x: &Tensor| {
        let tau = Var::new(0.7f64, CPU)?;
        let law = ExpConcrete::new(logits, tau.as_tensor())?;
        let y = law.transport(x)?;
        let total = (y.exp()?.sqr()?.sum_all()? + law.log_density(&y)?.sum_all()?)?;
        let total =
            ((total + law.log_density_of_noise(x)?.sum_all()?)? + law.entropy()?.sum_all()?)?;
        let slope = numbers(&gradient(&total, &tau)?)?[0];
        Ok::<_, candle_core::Error>([total.to_scalar::<f64>()?, slope])
    };
    let whole = run(&mask_logits(&q, &mask()?)?, &x)?;
    let mut sums = [0.; 2];
    for i in 0..ROWS.len() {
        for (sum, part) in sums.iter_mut().zip(run(&open(&q, i)?, &open(&x, i)?)?) {
            *sum += part;
        }
    }
    assert_close("value and slope", &whole, &sums, 1e-11);
    let tau = Var::new(0.7f64, CPU)?;
    let y =
        gumbel_softmax(&mask_logits(&q, &mask()?)?, tau.as_tensor(), false, 3, Key::from_seed(1))?;
    assert!(numbers(&gradient(&y.sqr()?, &tau)?)?[0].is_finite());
    Ok(())
}

#[test]
fn a_masked_category_is_never_drawn_and_never_the_mode() -> Result<()> {
    let logits = normal(&[1, 2, 2, 5], 1)?;
    let closed = (1. - mask()?.to_dtype(DType::F64)?)?;
    let q = Categorical::from_logits(&logits)?.masked(&mask()?)?;
    let masked = mask_logits(&logits, &mask()?)?;
    let key = Key::from_seed(4);
    let mut samples = vec![q.sample(500, key)?, q.mode()?, q.relax(3.)?.rsample(500, key)?.exp()?];
    for mode in [SampleMode::Train, SampleMode::Hard, SampleMode::Mode, SampleMode::Mean] {
        samples.push(sample_categorical(&masked, 3., mode, 3, key)?);
    }
    for (i, z) in samples.iter().enumerate() {
        let mass = numbers(&z.broadcast_mul(&closed)?.sum_all()?)?[0];
        assert!(mass == 0., "{i}: {mass}");
        assert_close("sums", &numbers(&z.sum(3)?.min_all()?)?, &[1.], 1e-12);
    }
    Ok(())
}

#[test]
fn a_row_with_no_category_left_is_an_error_that_names_it_everywhere() -> Result<()> {
    let mut values = numbers(&normal(&[1, 2, 2, 3], 5)?)?;
    values[6..9].fill(f64::NEG_INFINITY);
    let logits = Tensor::from_vec(values, (1, 2, 2, 3), CPU)?;
    let fine = logits.zeros_like()?;
    let key = Key::from_seed(6);
    let (q, r) = (Categorical::from_logits(&logits)?, ExpConcrete::new(&logits, 0.5)?);
    let uniform = Categorical::from_logits(&fine)?;
    let soft = Tensor::new(0.5f64, CPU)?;
    let mut results = vec![
        ("log_softmax", log_softmax(&logits)),
        ("categorical_entropy", categorical_entropy(&logits)),
        ("categorical_kl", categorical_kl(&logits, &fine)),
        ("categorical_kl", categorical_kl(&fine, &logits)),
        ("one_hot_argmax", one_hot_argmax(&logits)),
        (
            "conditional_softmax_jacobian",
            conditional_softmax_jacobian(&logits, &fine, &fine, 0.5, 2, key),
        ),
        ("sample", q.sample(2, key)),
        ("mode", q.mode()),
        ("probs", q.probs()),
        ("log_prob", q.log_prob(&fine)),
        ("entropy", q.entropy()),
        ("kl", q.kl(&uniform)),
        ("kl", uniform.kl(&q)),
        ("uniform_like", Categorical::uniform_like(&q).map(|q| q.logits().clone())),
        ("rsample", r.rsample(2, key)),
        ("rsample_with_log_density", r.rsample_with_log_density(2, key).map(|(y, _)| y)),
        ("log_density", r.log_density(&fine)),
        ("log_density_of_noise", r.log_density_of_noise(&fine)),
        ("Concrete entropy", r.entropy()),
        ("Concrete kl", r.kl(&r)),
        ("Concrete mode", r.mode()),
        ("learned temperature", ExpConcrete::new(&logits, &soft)?.rsample(2, key)),
    ];
    let mask = logits.ne(f64::NEG_INFINITY)?;
    results.push(("masked", uniform.masked(&mask).map(|q| q.logits().clone())));
    for hard in [false, true] {
        results.push(("gumbel_softmax", gumbel_softmax(&logits, 0.5, hard, 3, key)));
        results.push(("gumbel_softmax", gumbel_softmax(&logits, &soft, hard, 3, key)));
    }
    for forward in [Forward::Soft, Forward::Hard] {
        results.push(("kernel", gumbel::kernels::gumbel_softmax(&logits, 2, 0.5, forward, key)));
    }
    for mode in [SampleMode::Train, SampleMode::Hard, SampleMode::Mode, SampleMode::Mean] {
        results.push(("sample_categorical", sample_categorical(&logits, 0.5, mode, 3, key)));
    }
    for (name, result) in results {
        let error = result.unwrap_err().to_string();
        assert!(error.contains("row 2") && error.contains("no category left"), "{name}: {error}");
    }
    Ok(())
}

/// Bounds and gradients of every estimator are finite and leave masked logits alone; of the exact one they are
/// those of the shorter rows.
#[test]
fn estimators_train_models_with_masked_categories() -> Result<()> {
    let (values, scores) = (normal(&[1, 2, 2, 5], 7)?, normal(&[2, 2, 5], 8)?);
    for divergence in [Divergence::Analytic, Divergence::Sampled, Divergence::Mass] {
        let objective = Elbo { divergence, beta: 1. };
        let logits = Var::from_tensor(&values)?;
        let program = |trace: &mut Trace<'_>| {
            let q = Categorical::from_logits(&logits)?.masked(&mask()?)?;
            let z = trace.sample("z", &q, &Categorical::uniform_like(&q)?)?;
            z.broadcast_mul(&scores)?.sum(3)?.sqr()?.sum(2)
        };
        for (which, estimator) in estimators::all(&program)?.iter().enumerate() {
            let surrogate = match estimator.surrogate(&program, &objective, Key::from_seed(9)) {
                Err(error) if error.to_string().contains("has no density") => continue,
                result => result?,
            };
            let slopes = gradient(&surrogate.loss, &logits)?;
            let finite = numbers(&surrogate.bound)?.iter().all(|x| x.is_finite());
            assert!(finite, "{estimator:?} with {divergence:?}");
            for (slope, open) in numbers(&slopes)?.iter().zip(numbers(&mask()?)?) {
                let fine = slope.is_finite() && (open == 1. || *slope == 0.);
                assert!(fine, "{estimator:?} with {divergence:?}: {slope}");
            }
            if which > 0 {
                continue;
            }
            for i in 0..ROWS.len() {
                let short = Var::from_tensor(&open(&values, i)?)?;
                let scores = open(&scores.unsqueeze(0)?, i)?;
                let alone = |trace: &mut Trace<'_>| {
                    let q = Categorical::from_logits(&short)?;
                    let z = trace.sample("z", &q, &Categorical::uniform_like(&q)?)?;
                    z.broadcast_mul(&scores)?.sum(3)?.sqr()?.sum(2)
                };
                let surrogate = estimator.surrogate(&alone, &objective, Key::from_seed(9))?;
                // The loss is a mean over a batch of two rows, here of one.
                let exact = (gradient(&surrogate.loss, &short)? / 2.)?;
                assert_close("exact", &numbers(&open(&slopes, i)?)?, &numbers(&exact)?, 1e-11);
            }
        }
    }
    Ok(())
}
