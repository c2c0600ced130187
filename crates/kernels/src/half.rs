//! Half precision: stored in sixteen bits, computed in single precision.
use candle_core::{DType, Result, Tensor};

/// The dtype to compute in: `F32` for `F16` and `BF16`, any other dtype itself.
#[must_use]
pub fn compute_dtype(storage: DType) -> DType {
    match storage {
        DType::F16 | DType::BF16 => DType::F32,
        other => other,
    }
}

/// `f` of the tensors in their [`compute_dtype`]; where all of them are of half precision, the result is
/// rounded to the dtype of the first.
///
/// Differentiable: a gradient is computed in single precision and reaches a tensor in its own dtype.
pub fn in_single<const N: usize>(
    tensors: [&Tensor; N],
    f: impl FnOnce([&Tensor; N]) -> Result<Tensor>,
) -> Result<Tensor> {
    let is_half = |t: &Tensor| compute_dtype(t.dtype()) != t.dtype();
    if !tensors.iter().any(|t| is_half(t)) {
        return f(tensors);
    }
    let all = tensors.iter().all(|t| is_half(t));
    let wide =
        tensors.iter().map(|t| t.to_dtype(compute_dtype(t.dtype()))).collect::<Result<Vec<_>>>()?;
    let y = f(std::array::from_fn(|i| &wide[i]))?;
    match tensors.first() {
        Some(first) if all => y.to_dtype(first.dtype()),
        _ => Ok(y),
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{D, Device, Var};

    use super::*;
    use crate::check::irregular;
    use crate::{
        AttentionMask, Forward, Key, SparseMap, add, attention, bernoulli_log_prob, bin_concrete,
        bin_concrete_log_density, categorical_entropy, categorical_kl,
        conditional_sigmoid_jacobian, conditional_softmax_jacobian, cross_entropy, embedding,
        exp_concrete, exp_concrete_log_density, expert_log_probs, gelu, gumbel_sigmoid,
        gumbel_softmax, gumbel_softmax_embedding, layer_norm, linear, linear_cross_entropy,
        log_softmax, log_sum_exp, markov_chain_log_likelihood, one_hot_argmax, sigmoid, softmax,
        softplus, sparse_map,
    };

    fn ids() -> Result<Tensor> {
        Tensor::new(&[1u32, 0, 2], &Device::Cpu)
    }

    type Operation = fn(&[Tensor; 3]) -> Result<Tensor>;

    const OPERATIONS: [(&str, Operation); 32] = [
        ("log_softmax", |t| log_softmax(&t[0])),
        ("softmax", |t| softmax(&t[0])),
        ("log_sum_exp", |t| log_sum_exp(&t[0], D::Minus1)),
        ("categorical_entropy", |t| categorical_entropy(&t[0])),
        ("categorical_kl", |t| categorical_kl(&t[0], &t[1])),
        ("bernoulli_log_prob", |t| bernoulli_log_prob(&t[0], &t[1])),
        ("sparsemax", |t| sparse_map(&t[0], SparseMap::Sparsemax)),
        ("entmax", |t| sparse_map(&t[0], SparseMap::Entmax15)),
        ("sigmoid", |t| sigmoid(&t[0])),
        ("softplus", |t| softplus(&t[0])),
        ("add", |t| add(&t[0], &t[1])),
        ("gelu", |t| gelu(&t[0])),
        ("layer_norm", |t| layer_norm(&t[0], &t[1].get(0)?, &t[1].get(1)?, 1e-5)),
        ("attention", |t| attention(&t[0].reshape((1, 4, 3))?, 1, AttentionMask::Causal)),
        ("markov_chain_log_likelihood", |t| {
            let emission = t[0].narrow(1, 0, 3)?.unsqueeze(0)?;
            let gate = emission.zeros_like()?;
            markov_chain_log_likelihood(&emission, &gate, &t[1].narrow(1, 0, 3)?)
        }),
        ("expert_log_probs", |t| expert_log_probs(&t[0], &t[1], &t[2].unsqueeze(0)?, &ids()?)),
        ("embedding", |t| embedding(&t[0], &ids()?)),
        ("cross_entropy", |t| cross_entropy(&t[0], &ids()?)),
        ("linear_cross_entropy", |t| linear_cross_entropy(&t[0], &t[1], &ids()?)),
        ("linear", |t| linear(&t[0], &t[1], &t[2])),
        ("one_hot_argmax", |t| one_hot_argmax(&t[0])),
        ("conditional_softmax_jacobian", |t| {
            let one_hot = one_hot_argmax(&t[1])?;
            conditional_softmax_jacobian(&t[0], &one_hot, &t[1], 0.5, 3, Key::from_seed(5))
        }),
        ("conditional_sigmoid_jacobian", |t| {
            let bits = one_hot_argmax(&t[1])?;
            conditional_sigmoid_jacobian(&t[0], &bits, &t[1], 0.5, 3, Key::from_seed(5))
        }),
        ("gumbel_softmax", |t| gumbel_softmax(&t[0], 3, 0.5, Forward::Soft, Key::from_seed(5))),
        ("gumbel_sigmoid", |t| gumbel_sigmoid(&t[0], 3, 0.5, Forward::Soft, Key::from_seed(5))),
        ("hard bit", |t| gumbel_sigmoid(&t[0], 3, 0.5, Forward::Hard, Key::from_seed(5))),
        ("bin_concrete", |t| bin_concrete(&t[0], 3, 0.5, Key::from_seed(5))),
        ("bin_concrete density", |t| bin_concrete_log_density(&t[0], &t[1], 0.5)),
        ("exp_concrete", |t| exp_concrete(&t[0], 3, 0.5, Key::from_seed(5))),
        ("exp_concrete density", |t| exp_concrete_log_density(&t[0], &t[1], 0.5)),
        ("hard", |t| gumbel_softmax(&t[0], 3, 0.5, Forward::Hard, Key::from_seed(5))),
        ("word", |t| {
            let key = Key::from_seed(5);
            gumbel_softmax_embedding(&t[0], &t[1], &t[2].unsqueeze(1)?, 0.5, Forward::Soft, key)
        }),
    ];

    fn numbers(x: &Tensor) -> Result<Vec<f64>> {
        x.to_dtype(DType::F64)?.flatten_all()?.to_vec1()
    }

    /// Value and gradient in half precision are those in single precision of the rounded inputs, rounded.
    #[test]
    fn every_operation_computes_in_single_precision() -> Result<()> {
        for half in [DType::BF16, DType::F16] {
            let inputs = [(&[3, 4], 1u64), (&[3, 4], 2)].map(|(s, seed)| irregular(s, seed, half));
            let [a, b] = inputs;
            let inputs = [a?, b?, irregular(&[3], 3, half)?];
            for (name, operation) in OPERATIONS {
                let run = |dtype: DType| {
                    let vars = inputs.each_ref().map(|t| Var::from_tensor(&t.to_dtype(dtype)?));
                    let [a, b, c] = vars;
                    let tensors = [a?, b?, c?].map(|v| v.as_tensor().clone());
                    let y = operation(&tensors)?;
                    assert_eq!(y.dtype(), dtype, "{name}");
                    let weights = irregular(y.dims(), 9, half)?.to_dtype(dtype)?;
                    let grads = (&y * weights)?.sum_all()?.backward()?;
                    let mut results = vec![numbers(&y.to_dtype(half)?)?];
                    for gradient in tensors.iter().filter_map(|t| grads.get(t)) {
                        assert_eq!(gradient.dtype(), dtype, "{name}");
                        results.push(numbers(&gradient.to_dtype(half)?)?);
                    }
                    Ok::<_, candle_core::Error>(results)
                };
                assert_eq!(run(half)?, run(DType::F32)?, "{name} in {half:?}");
            }
        }
        Ok(())
    }

    #[test]
    fn a_tensor_in_single_precision_makes_the_result_one() -> Result<()> {
        let (logits, data) =
            (irregular(&[2, 3], 1, DType::F32)?, irregular(&[2, 3], 2, DType::BF16)?);
        assert_eq!(bernoulli_log_prob(&logits, &data)?.dtype(), DType::F32);
        assert!(sigmoid(&Tensor::new(1u32, &Device::Cpu)?).is_err());
        Ok(())
    }
}
