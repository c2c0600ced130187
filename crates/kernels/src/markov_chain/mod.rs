//! The likelihood of what a Markov chain emits, summed over all paths of its states.
mod backward;
mod forward;
mod numbers;

use candle_core::{D, Device, Result, Tensor};

use crate::graph::{compute, fusible, node};
use crate::in_single;
use crate::log_sum_exp::reference as log_sum_exp;

const NAME: &str = "markov_chain_log_likelihood";

/// Sequences that are gone through side by side, as rows of one matrix product.
const SEQUENCES: usize = 16;

/// Log-likelihood of what a chain of `N` states out of `K` emits, summed over all its paths.
///
/// Where the first state depends on none:
///
/// ```math
/// \begin{aligned}
/// &\log \sum_{z_1, \dots, z_N} \prod_{s=1}^{N} p(z_s \mid z_{s-1}) \exp(\mathrm{emission}_s[z_s]) \\
/// &p(z_1 = k) \propto \exp(\mathrm{gate}_1[k]) \\
/// &p(z_s = k \mid z_{s-1} = j) \propto \exp(\mathrm{transitions}[j, k] + \mathrm{gate}_s[k])
/// \end{aligned}
/// ```
///
/// `emission: [B, N, K]` (log-likelihoods), `gate: [B, N, K]`, `transitions: [K, K]` → `[B]`, in nats. Differentiable in
/// all three; the gradient of `emission` is the posterior probability of each state. Computed in `f64` whatever the
/// type, by the forward-backward algorithm: `O(B N K²)` operations, and nothing of size `K²` for each place; the
/// backward pass has one block of `K²` numbers for every 16 sequences. -∞, with gradient 0, where no path is possible; a
/// step that is less likely than about `e^-700` counts as impossible.
///
/// Source: Rabiner (1989), section III, with a scale for each place.
///
/// # Errors
/// If the shapes do not fit, or `N` or `K` is 0.
pub fn markov_chain_log_likelihood(
    emission: &Tensor,
    gate: &Tensor,
    transitions: &Tensor,
) -> Result<Tensor> {
    let (batch, length, states) = emission.dims3()?;
    if gate.dims() != emission.dims() || transitions.dims() != [states, states] {
        candle_core::bail!(
            "{NAME}: expected emission and gate [B, N, K] and transitions [K, K], got {:?}, {:?} and {:?}",
            emission.shape(),
            gate.shape(),
            transitions.shape()
        )
    }
    if length == 0 || states == 0 {
        candle_core::bail!("{NAME}: there is no place or no state in {:?}", emission.shape())
    }
    in_single([emission, gate, transitions], |[emission, gate, transitions]| {
        if !fusible([emission, gate, transitions]) {
            return reference(emission, gate, transitions);
        }
        let sizes = Sizes { length, states };
        let y = compute!(NAME, batch, T, |emission, gate, transitions| {
            sizes.likelihoods::<T>(emission, gate, transitions)
        });
        node(NAME, [emission, gate, transitions], y, move |[emission, gate, transitions], _, g| {
            let others;
            let of_emission =
                compute!(NAME, emission.shape(), T, |emission, gate, transitions, g| {
                    let [of_emission, of_gate, of_transitions] =
                        sizes.gradients::<T>(emission, gate, transitions, g);
                    others = (
                        Tensor::from_vec(of_gate, (batch, length, states), &Device::Cpu)?,
                        Tensor::from_vec(of_transitions, (states, states), &Device::Cpu)?,
                    );
                    of_emission
                });
            let (of_gate, of_transitions) = others;
            Ok([Some(of_emission.tensor()), Some(of_gate), Some(of_transitions)])
        })
    })
}

/// The twin of [`markov_chain_log_likelihood`] from plain candle operations, with `[B, K, K]` numbers at a time
/// (finite inputs only).
pub fn reference(emission: &Tensor, gate: &Tensor, transitions: &Tensor) -> Result<Tensor> {
    let (_, length, _) = emission.dims3()?;
    let normalised = |x: &Tensor| x.broadcast_sub(&log_sum_exp(x)?.unsqueeze(D::Minus1)?);
    let place = |x: &Tensor, s: usize| x.narrow(1, s, 1)?.squeeze(1);
    let mut forward = (normalised(&place(gate, 0)?)? + place(emission, 0)?)?; // [B, K]
    for s in 1..length {
        let gate = place(gate, s)?.unsqueeze(1)?;
        let step = normalised(&transitions.unsqueeze(0)?.broadcast_add(&gate)?)?; // [B, from, to]
        let joint = step.broadcast_add(&forward.unsqueeze(2)?)?.transpose(1, 2)?.contiguous()?;
        forward = (log_sum_exp(&joint)? + place(emission, s)?)?;
    }
    log_sum_exp(&forward)
}

#[derive(Clone, Copy, Debug)]
struct Sizes {
    length: usize,
    states: usize,
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Var};

    use super::*;
    use crate::check::{close, finite_differences, irregular, twins};

    fn inputs(b: usize, s: usize, k: usize, dtype: DType) -> Result<[Tensor; 3]> {
        Ok([
            (irregular(&[b, s, k], 1, dtype)? * 3.)?,
            irregular(&[b, s, k], 2, dtype)?,
            (irregular(&[k, k], 3, dtype)? * 2.)?,
        ])
    }

    #[test]
    fn fused_equals_reference_in_value_and_gradient() -> Result<()> {
        for (b, s, k, dtype, tolerance) in [
            (3, 4, 5, DType::F64, 1e-11),
            (2, 3, 1, DType::F64, 1e-11),
            (37, 6, 8, DType::F64, 1e-11),
            (5, 20, 16, DType::F32, 3e-5),
        ] {
            twins(
                &inputs(b, s, k, dtype)?,
                tolerance,
                |i| markov_chain_log_likelihood(&i[0], &i[1], &i[2]),
                |i| reference(&i[0], &i[1], &i[2]),
            )?;
        }
        // Of one place the transitions are no part of the twin.
        let [emission, gate, transitions] = inputs(2, 1, 3, DType::F64)?;
        close(
            &markov_chain_log_likelihood(&emission, &gate, &transitions)?,
            &reference(&emission, &gate, &transitions)?,
            1e-11,
        )?;
        finite_differences(&inputs(2, 3, 3, DType::F64)?, |i| {
            markov_chain_log_likelihood(&i[0], &i[1], &i[2])
        })
    }

    /// Against all 81 paths of four places and three states.
    #[test]
    fn it_is_the_sum_over_all_paths() -> Result<()> {
        let [emission, gate, transitions] = inputs(1, 4, 3, DType::F64)?;
        let (e, g) = (emission.squeeze(0)?.to_vec2::<f64>()?, gate.squeeze(0)?.to_vec2::<f64>()?);
        let a = transitions.to_vec2::<f64>()?;
        let softmax = |x: [f64; 3]| {
            let total: f64 = x.iter().map(|x| x.exp()).sum();
            x.map(|x| x.exp() / total)
        };
        let mut total = 0.;
        for path in 0..81usize {
            let z: Vec<usize> = (0..4u32).map(|s| path / 3usize.pow(s) % 3).collect();
            let mut p = 1.;
            for s in 0..4 {
                let logits =
                    std::array::from_fn(|k| g[s][k] + if s > 0 { a[z[s - 1]][k] } else { 0. });
                p *= softmax(logits)[z[s]] * e[s][z[s]].exp();
            }
            total += p;
        }
        let found = markov_chain_log_likelihood(&emission, &gate, &transitions)?;
        close(&found, &Tensor::new(&[total.ln()], &Device::Cpu)?, 1e-12)
    }

    #[test]
    fn numbers_some_hundred_nats_apart_neither_overflow_nor_vanish() -> Result<()> {
        let [emission, gate, transitions] = inputs(2, 5, 4, DType::F64)?;
        let (emission, transitions) = ((emission * 200.)?, (transitions * 50.)?);
        let found = markov_chain_log_likelihood(&emission, &gate, &transitions)?;
        close(&found, &reference(&emission, &gate, &transitions)?, 1e-11)?;
        let shifted = markov_chain_log_likelihood(
            &(&emission - 1e6)?,
            &(gate + 1e6)?,
            &(transitions - 1e6)?,
        )?;
        close(&shifted, &(found - 5e6)?, 1e-9)
    }

    #[test]
    fn what_is_impossible_has_no_gradient() -> Result<()> {
        let [_, gate, transitions] = inputs(2, 3, 2, DType::F32)?;
        let no = f32::NEG_INFINITY;
        let emission = Var::new(
            &[[[0f32, 0.], [no, no], [0., 0.]], [[0., no], [1., 2.], [no, 0.]]],
            &Device::Cpu,
        )?;
        let (gate, transitions) = (Var::from_tensor(&gate)?, Var::from_tensor(&transitions)?);
        let y = markov_chain_log_likelihood(&emission, &gate, &transitions)?;
        let found = y.to_vec1::<f32>()?;
        assert!(found[0] == no && found[1].is_finite(), "{found:?}");
        let d = y.backward()?;
        let of_emission = d.get(&emission).unwrap().to_vec3::<f32>()?;
        assert_eq!(of_emission[0].concat(), [0.; 6]);
        let second = &of_emission[1];
        assert_eq!((second[0][0], second[0][1], second[2][1]), (1., 0., 1.));
        assert_eq!(d.get(&gate).unwrap().to_vec3::<f32>()?[0].concat(), [0.; 6]);
        let alone = y.get(0)?.backward()?;
        assert_eq!(alone.get(&transitions).unwrap().to_vec2::<f32>()?.concat(), [0.; 4]);
        Ok(())
    }

    /// A state that is never reached, however well it would explain what is seen, changes nothing.
    #[test]
    fn a_state_that_is_never_reached_is_as_if_it_were_not() -> Result<()> {
        let (no, places) = (f64::NEG_INFINITY, 100);
        let apart = Tensor::new(&[[0., no], [no, 0.]], &Device::Cpu)?;
        let gate = Tensor::zeros((1, places, 2), DType::F64, &Device::Cpu)?;
        let first = Tensor::new(&[[[0., no]]], &Device::Cpu)?;
        let gate = Tensor::cat(&[&first, &gate.narrow(1, 1, places - 1)?], 1)?;
        for gap in [10., 900.] {
            let row = Tensor::new(&[[[-gap, 0.]]], &Device::Cpu)?;
            let inputs = [row.repeat((1, places, 1))?, gate.clone(), apart.clone()];
            let [emission, gate, apart] = inputs.map(|x| Var::from_tensor(&x));
            let (emission, gate, apart) = (emission?, gate?, apart?);
            let y = markov_chain_log_likelihood(&emission, &gate, &apart)?;
            close(&y, &Tensor::new(&[-gap * places as f64], &Device::Cpu)?, 1e-12)?;
            let d = y.backward()?;
            let expected = Tensor::new(&[[[1., 0.]]], &Device::Cpu)?.repeat((1, places, 1))?;
            close(d.get(&emission).unwrap(), &expected, 0.)?;
            close(d.get(&gate).unwrap(), &expected.zeros_like()?, 0.)?;
            close(d.get(&apart).unwrap(), &Tensor::zeros((2, 2), DType::F64, &Device::Cpu)?, 0.)?;
        }
        Ok(())
    }

    #[test]
    fn sizes_that_do_not_fit_are_an_error_that_names_them() -> Result<()> {
        let [emission, gate, transitions] = inputs(2, 3, 4, DType::F32)?;
        for (e, g, a) in [
            (&emission, &gate.narrow(1, 0, 2)?, &transitions),
            (&emission, &gate, &transitions.narrow(0, 0, 3)?),
            (&emission.narrow(1, 0, 0)?, &gate.narrow(1, 0, 0)?, &transitions),
        ] {
            let error = markov_chain_log_likelihood(e, g, a).unwrap_err().to_string();
            assert!(error.contains(&format!("{:?}", e.shape())), "{error}");
        }
        let none = markov_chain_log_likelihood(
            &emission.narrow(0, 0, 0)?,
            &gate.narrow(0, 0, 0)?,
            &transitions,
        )?;
        assert_eq!(none.dims(), [0]);
        Ok(())
    }
}
