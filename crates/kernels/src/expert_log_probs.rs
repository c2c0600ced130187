//! Log-probabilities of a symbol under each of several experts, every one a change of the same logits.
use candle_core::{D, Device, Result, Tensor};

use crate::autocast::{rounded, times_transposed};
use crate::cross_entropy::checked;
use crate::graph::{compute, fusible, node};
use crate::linear_cross_entropy::rows_at_a_time;
use crate::matmul::{Matrix, add_product, append_product, product};
use crate::reduce::{max, sum};
use crate::rows::for_units;
use crate::softmax_rows;
use crate::vectorised::vectorised;
use crate::{Real, in_single};

const NAME: &str = "expert_log_probs";

/// The least sum of products that has all its digits in `f32`.
const LEAST: f64 = f32::MIN_POSITIVE as f64;

/// Log-probability of a symbol under each of `K` products of experts, `log p_k(target)`.
///
/// Of symbol `v` under expert `k`, the probability is:
///
/// ```math
/// p_k(v) = \frac{\exp\bigl((x W^\top)_v + \mathrm{experts}_{kv}\bigr)}
/// {\sum_u \exp\bigl((x W^\top)_u + \mathrm{experts}_{ku}\bigr)}
/// ```
///
/// `x: [.., D]`, `weight: [V, D]`, `experts: [K, V]`, `targets: [..]` of `u32` → `[.., K]`, in nats. Differentiable in
/// all but the targets.
///
/// The sum over symbols is a matrix product, `exp(x Wᵀ) exp(experts)ᵀ`, so that nothing of size `[N, K, V]` is made: `2 N
/// V (D + K)` operations, and in the backward pass, which makes the logits again, three times as many. The logits `[N,
/// V]` are never there as a whole, but for some rows at a time: 2²² numbers, or 64 rows if those are more. Bound the
/// experts: their sums are of products, which underflow where an expert and the logits want things apart.
///
/// Source: Hinton (2002), section 1, for products of experts.
///
/// # Errors
/// If a target is not below `V`, the shapes do not fit, or for some row and expert all symbols that the logits favour are
/// more than about 87 nats from those that the expert does.
pub fn expert_log_probs(
    x: &Tensor,
    weight: &Tensor,
    experts: &Tensor,
    targets: &Tensor,
) -> Result<Tensor> {
    let ((v, d), (k, columns)) = (weight.dims2()?, experts.dims2()?);
    let ids = checked(NAME, x, v, targets)?.0;
    if x.dims().last() != Some(&d) || columns != v || d == 0 || v == 0 || k == 0 {
        candle_core::bail!(
            "{NAME}: expected x [.., D], weight [V, D] and experts [K, V], got {:?}, {:?} and {:?}",
            x.shape(),
            weight.shape(),
            experts.shape()
        )
    }
    let [x, weight] = &rounded([x, weight])?;
    in_single([x, weight, experts], |[x, weight, experts]| {
        #[cfg(feature = "cuda")]
        if crate::cuda::takes([x, weight, experts]) {
            let (logits, targets) = logits_of_experts(x, weight, experts, targets)?;
            return crate::cuda::cross_entropy(&logits, &targets)?.neg();
        }
        if !fusible([x, weight, experts]) {
            return reference(x, weight, experts, targets);
        }
        let shape = [targets.dims(), &[k]].concat();
        let y = compute!(NAME, shape, T, |x, weight, experts| {
            Pass::<T>::new(x, weight, experts, (d, v)).log_probs(&ids)?
        });
        node(NAME, [x, weight, experts], y, move |[x, weight, experts], _, g| {
            let others;
            let of_x = compute!(NAME, x.shape(), T, |x, weight, experts, g| {
                let pass = Pass::<T>::new(x, weight, experts, (d, v));
                let [of_x, of_weight, of_experts] = pass.gradients(&ids, g);
                others = (
                    Tensor::from_vec(of_weight, (v, d), &Device::Cpu)?,
                    Tensor::from_vec(of_experts, (k, v), &Device::Cpu)?,
                );
                of_x
            });
            let (of_weight, of_experts) = others;
            Ok([Some(of_x.tensor()), Some(of_weight), Some(of_experts)])
        })
    })
}

/// The twin of [`expert_log_probs`] from plain candle operations, with `[N, K, V]` numbers.
pub fn reference(
    x: &Tensor,
    weight: &Tensor,
    experts: &Tensor,
    targets: &Tensor,
) -> Result<Tensor> {
    let (logits, targets) = logits_of_experts(x, weight, experts, targets)?;
    crate::cross_entropy::reference(&logits, &targets)?.neg()
}

/// `[.., K, V]`, and the targets `[.., K]`.
fn logits_of_experts(
    x: &Tensor,
    weight: &Tensor,
    experts: &Tensor,
    targets: &Tensor,
) -> Result<(Tensor, Tensor)> {
    let logits = times_transposed(x, weight)?.unsqueeze(D::Minus2)?.broadcast_add(experts)?;
    let k = experts.dim(0)?;
    let targets = targets.unsqueeze(D::Minus1)?.repeat({
        let mut times = vec![1; targets.rank() + 1];
        times[targets.rank()] = k;
        times
    })?;
    Ok((logits, targets))
}

/// The numbers of the inputs, and what all rows need of the experts.
struct Pass<'a, T> {
    x: &'a [T],
    weight: &'a [T],
    width: usize,
    symbols: usize,
    /// `exp(experts)`, the greatest of a row 1.
    factors: Vec<T>,
    /// `log factors`.
    experts: Vec<T>,
}

/// Some rows: `exp(logits - top)`, what is left of the target's logit, and the sum for each expert.
struct Rows<T> {
    powers: Vec<T>,
    target: Vec<T>,
    totals: Vec<T>,
}

impl<'a, T: Real> Pass<'a, T> {
    fn new(x: &'a [T], weight: &'a [T], experts: &[T], (width, symbols): (usize, usize)) -> Self {
        let mut experts = experts.to_vec();
        experts.chunks_exact_mut(symbols).for_each(subtract_top);
        let mut factors = experts.clone();
        exp_in_place(&mut factors);
        Self { x, weight, width, symbols, factors, experts }
    }

    fn weight(&self) -> Matrix<'_, T> {
        Matrix::new(self.weight, self.width)
    }

    fn factors(&self) -> Matrix<'_, T> {
        Matrix::new(&self.factors, self.symbols)
    }

    fn forward(&self, x: &[T], ids: &[u32], powers: Vec<T>) -> Rows<T> {
        let (v, mut powers, mut target) = (self.symbols, powers, vec![T::zero(); ids.len()]);
        powers.clear();
        append_product(Matrix::new(x, self.width), self.weight().transposed(), &mut powers);
        let rows = powers.chunks_exact_mut(v).zip(ids).zip(&mut target);
        for_units(rows.collect(), |_, ((row, id), target)| {
            subtract_top(row);
            *target = row[*id as usize];
            exp_in_place(row);
        });
        let totals = product(Matrix::new(&powers, v), self.factors().transposed());
        Rows { powers, target, totals }
    }

    fn log_probs(&self, ids: &[u32]) -> Result<Vec<T>> {
        let (v, k, rows) =
            (self.symbols, self.factors.len() / self.symbols, rows_at_a_time(self.symbols));
        let (mut y, mut powers) = (Vec::with_capacity(ids.len() * k), Vec::new());
        for (ids, x) in ids.chunks(rows).zip(self.x.chunks(rows * self.width)) {
            let found = self.forward(x, ids, powers);
            // A NaN is not below it, and stays one.
            if let Some(place) = found.totals.iter().position(|total| *total < T::of(LEAST)) {
                candle_core::bail!(
                    "{NAME}: expert {} leaves nothing of what the logits of a row favour, they are more than 87 nats \
                     apart; bound the experts",
                    place % k
                )
            }
            for ((id, target), totals) in ids.iter().zip(found.target).zip(found.totals.chunks(k)) {
                let experts = totals.iter().enumerate();
                y.extend(
                    experts
                        .map(|(k, total)| target + self.experts[k * v + *id as usize] - total.ln()),
                );
            }
            powers = found.powers;
        }
        Ok(y)
    }

    /// Of x, weight and experts, from the gradient `g: [N, K]` of the result.
    fn gradients(&self, ids: &[u32], g: &[T]) -> [Vec<T>; 3] {
        let (v, k, rows) =
            (self.symbols, self.factors.len() / self.symbols, rows_at_a_time(self.symbols));
        let mut of_x = Vec::with_capacity(self.x.len());
        let mut of_weight = vec![T::zero(); self.weight.len()];
        let [mut of_factors, mut of_experts] = [(); 2].map(|()| vec![T::zero(); k * v]);
        let (mut powers, mut slopes) = (Vec::new(), Vec::new());
        let chunks = ids.chunks(rows).zip(self.x.chunks(rows * self.width)).zip(g.chunks(rows * k));
        for ((ids, x), g) in chunks {
            let found = self.forward(x, ids, powers);
            let shares: Vec<T> =
                g.iter().zip(&found.totals).map(|(g, total)| *g / *total).collect();
            let shares = Matrix::new(&shares, k);
            slopes.clear();
            append_product(shares, self.factors(), &mut slopes);
            let each = slopes.chunks_exact_mut(v).zip(found.powers.chunks_exact(v));
            let each = each.zip(ids).zip(g.chunks_exact(k));
            for_units(each.collect(), |_, (((slopes, powers), id), g)| {
                minus_product(slopes, powers);
                slopes[*id as usize] += sum(g, |g| g);
            });
            for (id, g) in ids.iter().zip(g.chunks_exact(k)) {
                for (k, g) in g.iter().enumerate() {
                    of_experts[k * v + *id as usize] += *g;
                }
            }
            let of_logits = Matrix::new(&slopes, v);
            append_product(of_logits, self.weight(), &mut of_x);
            add_product(of_logits.transposed(), Matrix::new(x, self.width), &mut of_weight);
            add_product(shares.transposed(), Matrix::new(&found.powers, v), &mut of_factors);
            powers = found.powers;
        }
        minus_product(&mut of_factors, &self.factors);
        of_experts.iter_mut().zip(of_factors).for_each(|(sum, x)| *sum += x);
        [of_x, of_weight, of_experts]
    }
}

vectorised! {
    fn subtract_top<T: Real>(row: &mut [T]) {
        let top = max(row);
        for x in row.iter_mut() {
            *x -= top;
        }
    }

    fn exp_in_place<T: Real>(row: &mut [T]) {
        softmax_rows::exp_in_place(row);
    }

    /// `x ← -x y`.
    fn minus_product<T: Real>(x: &mut [T], y: &[T]) {
        for (x, y) in x.iter_mut().zip(y) {
            *x = -(*x * *y);
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use super::*;
    use crate::check::{close, finite_differences, irregular, twins};
    use crate::linear_cross_entropy;

    fn targets(shape: &[usize], v: usize) -> Result<Tensor> {
        let n: usize = shape.iter().product();
        let ids: Vec<u32> = (0..n).map(|i| (i * 7 % v) as u32).collect();
        Tensor::from_vec(ids, shape, &Device::Cpu)
    }

    #[test]
    fn fused_equals_reference_in_value_and_gradient() -> Result<()> {
        for (shape, d, v, k, dtype, tolerance) in [
            (&[2, 3][..], 4, 5, 3, DType::F64, 1e-11),
            (&[5], 3, 2, 1, DType::F64, 1e-11),
            (&[2, 600], 4, 9, 2, DType::F64, 1e-10),
            (&[3, 50], 8, 33, 7, DType::F32, 2e-4),
        ] {
            let ids = targets(shape, v)?;
            let inputs = [
                irregular(&[shape, &[d]].concat(), 1, dtype)?,
                irregular(&[v, d], 2, dtype)?,
                (irregular(&[k, v], 3, dtype)? * 3.)?,
            ];
            twins(
                &inputs,
                tolerance,
                |i| expert_log_probs(&i[0], &i[1], &i[2], &ids),
                |i| reference(&i[0], &i[1], &i[2], &ids),
            )?;
        }
        let ids = targets(&[3], 4)?;
        let inputs = [
            irregular(&[3, 2], 1, DType::F64)?,
            irregular(&[4, 2], 2, DType::F64)?,
            irregular(&[2, 4], 3, DType::F64)?,
        ];
        finite_differences(&inputs, |i| expert_log_probs(&i[0], &i[1], &i[2], &ids))
    }

    /// Several chunks of rows, and an expert that changes nothing.
    #[test]
    fn an_expert_without_an_opinion_is_the_cross_entropy() -> Result<()> {
        let (x, weight) =
            (irregular(&[3000, 3], 1, DType::F64)?, irregular(&[5, 3], 2, DType::F64)?);
        let ids = targets(&[3000], 5)?;
        let same = (Tensor::zeros((1, 5), DType::F64, &Device::Cpu)? + 7.)?;
        let y = expert_log_probs(&x, &weight, &same, &ids)?.mean_all()?;
        close(&y.neg()?, &linear_cross_entropy(&x, &weight, &ids)?, 1e-12)
    }

    #[test]
    fn experts_that_want_what_the_logits_exclude_are_an_error() -> Result<()> {
        let x = Tensor::new(&[[1f32]], &Device::Cpu)?;
        let weight = Tensor::new(&[[0f32], [200.]], &Device::Cpu)?;
        let ids = Tensor::new(&[0u32], &Device::Cpu)?;
        let run = |experts: [[f32; 2]; 2]| {
            expert_log_probs(&x, &weight, &Tensor::new(&experts, &Device::Cpu)?, &ids)
        };
        let error = run([[0., 0.], [200., 0.]]).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("expert 1"), "{error}");
        close(&run([[0., 0.], [40., 0.]])?, &Tensor::new(&[[-200f32, -160.]], &Device::Cpu)?, 1e-6)
    }

    #[test]
    fn sizes_that_do_not_fit_are_an_error_that_names_them() -> Result<()> {
        let (x, weight) = (irregular(&[3, 2], 1, DType::F32)?, irregular(&[4, 2], 2, DType::F32)?);
        let experts = irregular(&[5, 4], 3, DType::F32)?;
        let ids = targets(&[3], 4)?;
        assert!(expert_log_probs(&x, &weight, &experts, &targets(&[3], 9)?).is_err());
        assert!(expert_log_probs(&x, &weight, &experts.narrow(1, 0, 3)?, &ids).is_err());
        assert!(expert_log_probs(&x, &weight.narrow(1, 0, 1)?, &experts, &ids).is_err());
        assert!(expert_log_probs(&x, &weight, &experts.narrow(0, 0, 0)?, &ids).is_err());
        let none = expert_log_probs(&x.narrow(0, 0, 0)?, &weight, &experts, &ids.narrow(0, 0, 0)?)?;
        assert_eq!(none.dims(), [0, 5]);
        Ok(())
    }
}
