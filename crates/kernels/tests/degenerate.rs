//! Input that is empty, huge, or not a number: an answer or an error, never a panic.
use candle_core::{D, DType, Device, Result, Tensor, Var};
use gumbel_kernels::{
    Activation, AttentionMask, Forward, Key, SparseMap, Window, add, attention, backward_with,
    bernoulli_log_prob, bin_concrete, bin_concrete_log_density, bin_concrete_with_log_density,
    categorical_entropy, categorical_kl, conditional_sigmoid_jacobian,
    conditional_softmax_jacobian, cross_entropy, embedding, exp_concrete, exp_concrete_log_density,
    exp_concrete_with_log_density, expert_log_probs, fold, gelu, gumbel_sigmoid, gumbel_softmax,
    gumbel_softmax_embedding, layer_norm, linear, linear_cross_entropy, linear_with_activation,
    log_softmax, log_sum_exp, markov_chain_log_likelihood, one_hot_argmax, sigmoid, softmax,
    softplus, sparse_map, unfold,
};

const CPU: &Device = &Device::Cpu;

fn zeros(shape: &[usize]) -> Result<Tensor> {
    Tensor::zeros(shape, DType::F32, CPU)
}

fn ids(n: usize) -> Result<Tensor> {
    Tensor::zeros(n, DType::U32, CPU)
}

type Operation = fn(&Tensor) -> Result<Tensor>;

/// Operations on `x: [1, 0, 3, 4]`: a batch without a row.
const OPERATIONS: [(&str, Operation); 33] = [
    ("log_softmax", |x| log_softmax(x)),
    ("softmax", |x| softmax(x)),
    ("log_sum_exp", |x| log_sum_exp(x, D::Minus1)),
    ("categorical_entropy", |x| categorical_entropy(x)),
    ("categorical_kl", |x| categorical_kl(x, &zeros(&[1, 4])?)),
    ("categorical_kl, other way", |x| categorical_kl(&zeros(&[1, 4])?, x)),
    ("bernoulli_log_prob", |x| bernoulli_log_prob(&zeros(&[1, 4])?, x)),
    ("bernoulli_log_prob, other way", |x| bernoulli_log_prob(x, &zeros(&[1, 4])?)),
    ("sparse_map", |x| sparse_map(x, SparseMap::Entmax15)),
    ("one_hot_argmax", |x| one_hot_argmax(x)),
    ("sigmoid", |x| sigmoid(x)),
    ("softplus", |x| softplus(x)),
    ("add", |x| add(x, &zeros(&[3, 4])?)),
    ("gelu", |x| gelu(x)),
    ("layer_norm", |x| layer_norm(x, &zeros(&[4])?, &zeros(&[4])?, 1e-5)),
    ("attention", |x| attention(&x.squeeze(0)?.narrow(2, 0, 3)?, 1, AttentionMask::Causal)),
    ("markov_chain_log_likelihood", |x| {
        let x = x.squeeze(0)?;
        markov_chain_log_likelihood(&x, &x, &zeros(&[4, 4])?)
    }),
    ("expert_log_probs", |x| {
        expert_log_probs(&x.reshape((0, 4))?, &zeros(&[3, 4])?, &zeros(&[2, 3])?, &ids(0)?)
    }),
    ("embedding", |x| embedding(&x.reshape((0, 12))?, &ids(0)?)),
    ("cross_entropy", |x| cross_entropy(&x.reshape((0, 4))?, &ids(0)?)),
    ("conditional_softmax_jacobian", |x| {
        conditional_softmax_jacobian(&zeros(&[1, 4])?, x, x, 0.7, 2, Key::from_seed(1))
    }),
    ("conditional_sigmoid_jacobian", |x| {
        conditional_sigmoid_jacobian(&zeros(&[1, 4])?, x, x, 0.7, 2, Key::from_seed(1))
    }),
    ("gumbel_softmax", |x| gumbel_softmax(x, 2, 0.7, Forward::Soft, Key::from_seed(1))),
    ("gumbel_softmax, hard", |x| gumbel_softmax(x, 2, 0.7, Forward::Hard, Key::from_seed(1))),
    ("gumbel_softmax_embedding", |x| {
        let (words, key) = ((zeros(&[5, 4])?, zeros(&[5, 2])?), Key::from_seed(1));
        gumbel_softmax_embedding(x, &words.0, &words.1, 0.7, Forward::Hard, key)
    }),
    ("gumbel_sigmoid", |x| gumbel_sigmoid(x, 2, 0.7, Forward::Hard, Key::from_seed(1))),
    ("bin_concrete", |x| Ok(bin_concrete_with_log_density(x, 2, 0.7, Key::from_seed(1))?.0)),
    ("bin_concrete_log_density", |x| bin_concrete_log_density(&zeros(&[1, 4])?, x, 0.7)),
    ("exp_concrete", |x| Ok(exp_concrete_with_log_density(x, 2, 0.7, Key::from_seed(1))?.0)),
    ("exp_concrete_log_density", |x| exp_concrete_log_density(&zeros(&[1, 1, 3, 4])?, x, 0.7)),
    ("linear", |x| linear(x, &zeros(&[5, 4])?, &zeros(&[5])?)),
    ("unfold", |x| unfold(&x.reshape((0, 3, 2, 2))?, WINDOW)),
    ("fold", |x| fold(&x.reshape((0, 3, 1, 4))?, (4, 2), WINDOW)),
];

const WINDOW: Window = Window { size: 2, stride: 1, padding: 0 };

#[test]
fn of_nothing_comes_nothing_and_so_does_its_gradient() -> Result<()> {
    let x = Var::zeros((1, 0, 3, 4), DType::F32, CPU)?;
    for (name, operation) in OPERATIONS {
        let y = operation(&x).map_err(|error| error.context(name))?;
        assert_eq!(y.elem_count(), 0, "{name}");
        if name.starts_with("one_hot") || name.starts_with("conditional") {
            continue;
        }
        let gradients = backward_with(&y, &y.zeros_like()?).map_err(|error| error.context(name))?;
        let gradient = gradients.get(&x).map(|gradient| gradient.dims().to_vec());
        assert!(gradient.is_none_or(|dims| dims == x.dims()), "{name}");
    }
    Ok(())
}

/// Axes without a number elsewhere: never a tensor that has fewer numbers than its shape says.
#[test]
fn results_have_as_many_numbers_as_their_shape() -> Result<()> {
    let results = [
        linear(&zeros(&[5, 0])?, &zeros(&[3, 0])?, &zeros(&[3])?),
        linear(&zeros(&[5, 2])?, &zeros(&[0, 2])?, &zeros(&[0])?),
        linear_with_activation(&zeros(&[5, 2])?, &zeros(&[0, 2])?, &zeros(&[0])?, Activation::Tanh),
        bin_concrete(&zeros(&[1, 3, 0])?, 2, 1., Key::from_seed(1)),
        exp_concrete(&zeros(&[1, 3, 0, 4])?, 2, 1., Key::from_seed(1)),
        exp_concrete_with_log_density(&zeros(&[1, 3, 0, 4])?, 2, 1., Key::from_seed(1))
            .map(|y| y.1),
        bernoulli_log_prob(&zeros(&[3, 0])?, &zeros(&[3, 0])?),
        linear_cross_entropy(&zeros(&[2, 0])?, &zeros(&[3, 0])?, &ids(2)?),
    ];
    for result in results.into_iter().flatten() {
        assert_eq!(result.flatten_all()?.to_vec1::<f32>()?.len(), result.elem_count());
    }
    Ok(())
}

#[test]
fn one_number_stands_for_a_whole_row() -> Result<()> {
    let (l, one) =
        (Key::from_seed(1).normal((3, 4), DType::F32, CPU)?, Tensor::ones((), DType::F32, CPU)?);
    let whole =
        bernoulli_log_prob(&l, &Tensor::ones((3, 4), DType::F32, CPU)?)?.to_vec1::<f32>()?;
    for x in [one.clone(), one.reshape(1)?, one.reshape((1, 1))?] {
        assert_eq!(bernoulli_log_prob(&l, &x)?.to_vec1::<f32>()?, whole);
    }
    let kl = categorical_kl(&l, &one.reshape((1, 1))?)?.to_vec1::<f32>()?;
    assert_eq!(kl, categorical_kl(&l, &zeros(&[4])?)?.to_vec1::<f32>()?);
    let other_way = categorical_kl(&one.reshape((1, 1))?, &l)?.to_vec1::<f32>()?;
    assert_eq!(other_way, categorical_kl(&zeros(&[4])?, &l)?.to_vec1::<f32>()?);
    Ok(())
}

/// Equal logits are equal probabilities, however large they are.
#[test]
fn large_logits_lose_no_digits() -> Result<()> {
    for level in [0f32, 1e4, 1e7, -1e7] {
        let x = Var::new(&[[level, level]], CPU)?;
        let loss = cross_entropy(&x, &ids(1)?)?;
        assert!((loss.to_vec1::<f32>()?[0] - 2f32.ln()).abs() < 1e-6, "{level}");
        let gradient = loss.sum_all()?.backward()?.get(&x).unwrap().to_vec2::<f32>()?;
        assert_eq!(gradient, [[-0.5, 0.5]], "{level}");
        let gradient =
            log_sum_exp(&x, 1)?.sum_all()?.backward()?.get(&x).unwrap().to_vec2::<f32>()?;
        assert_eq!(gradient, [[0.5, 0.5]], "{level}");
    }
    let huge = Tensor::new(&[[1e17f32, 0.], [3., 3.]], CPU)?;
    for map in [SparseMap::Sparsemax, SparseMap::Entmax15] {
        assert_eq!(sparse_map(&huge, map)?.to_vec2::<f32>()?, [[1., 0.], [0.5, 0.5]]);
    }
    Ok(())
}

#[test]
fn a_nan_is_not_hidden() -> Result<()> {
    for row in [[f32::NAN, f32::NAN], [f32::NAN, f32::NEG_INFINITY], [f32::NAN, 1.]] {
        let x = Tensor::new(&[row], CPU)?;
        assert!(log_sum_exp(&x, 1)?.to_vec1::<f32>()?[0].is_nan(), "{row:?}");
        let hides = |y: Result<Tensor>| -> Result<bool> {
            let Ok(y) = y else { return Ok(false) };
            Ok(!y.to_vec2::<f32>()?[0].iter().any(|y| y.is_nan()))
        };
        assert!(!hides(sparse_map(&x, SparseMap::Sparsemax))?, "{row:?}");
        assert!(!hides(softmax(&x))? && !hides(log_softmax(&x))?, "{row:?}");
    }
    Ok(())
}
