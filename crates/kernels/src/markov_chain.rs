//! The likelihood of what a Markov chain emits, summed over all paths of its states.
use candle_core::{D, Device, Result, Tensor};

use crate::graph::{compute, fusible, node};
use crate::log_sum_exp::reference as log_sum_exp;
use crate::matmul::{Block, Matrix, multiply_into};
use crate::rows::for_units;
use crate::vectorised::vectorised;
use crate::{Real, in_single};

const NAME: &str = "markov_chain_log_likelihood";

/// Sequences that are gone through side by side, as rows of one matrix product.
const SEQUENCES: usize = 16;

/// `log Σ_z Π_s p(z_s | z_{s-1}) exp(emission_s[z_s])` of a chain of `N` states out of `K`, where
/// `p(z_1 = k) ∝ exp(gate_1[k])` and `p(z_s = k | z_{s-1} = j) ∝ exp(transitions[j, k] + gate_s[k])`.
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

/// What the forward pass over some sequences leaves behind; blocks `[sequences, K]`, one for each place.
struct Forward {
    /// `p(z_s | x_1 … x_s)`.
    filtered: Vec<f64>,
    /// `exp gate`, up to a factor for each row.
    gate: Vec<f64>,
    /// `exp emission` over `p(x_s | x_1 … x_{s-1})`.
    emission: Vec<f64>,
    /// One over the sum that makes each row of the transitions a distribution, up to a factor; of the first place,
    /// over the sum of the gate.
    inverse: Vec<f64>,
    likelihoods: Vec<f64>,
}

impl Sizes {
    /// `exp transitions`, the greatest number of a row 1.
    fn transitions<T: Real>(self, transitions: &[T]) -> Vec<f64> {
        let mut numbers = to_f64(transitions);
        numbers.chunks_exact_mut(self.states).for_each(|row| {
            exp_below_top(row);
        });
        numbers
    }

    /// The sequences from number `first` on, of the numbers `[B, S, K]`, place by place.
    fn by_place<T: Real>(self, numbers: &[T], first: usize, count: usize) -> Vec<f64> {
        let k = self.states;
        let row = |s, b| &numbers[((first + b) * self.length + s) * k..][..k];
        let rows = (0..self.length).flat_map(|s| (0..count).map(move |b| (s, b)));
        rows.flat_map(|(s, b)| row(s, b)).map(|x| x.to_f64()).collect()
    }

    fn likelihoods<T: Real>(self, emission: &[T], gate: &[T], transitions: &[T]) -> Vec<T> {
        let transitions = self.transitions(transitions);
        let mut y = vec![T::zero(); emission.len() / (self.length * self.states)];
        for_units(y.chunks_mut(SEQUENCES).collect(), |unit, y: &mut [T]| {
            let (first, count) = (unit * SEQUENCES, y.len());
            let [emission, gate] = [emission, gate].map(|x| self.by_place(x, first, count));
            let found = self.forward(emission, gate, &transitions, count).likelihoods;
            y.iter_mut().zip(found).for_each(|(y, found)| *y = T::of(found));
        });
        y
    }

    fn forward(
        self,
        mut emission: Vec<f64>,
        mut gate: Vec<f64>,
        transitions: &[f64],
        count: usize,
    ) -> Forward {
        let (k, n) = (self.states, count * self.states);
        let mut likelihoods = vec![0.; count];
        gate.chunks_exact_mut(k).for_each(|row| {
            exp_below_top(row);
        });
        let (mut filtered, mut inverse) = (vec![0.; emission.len()], vec![0.; emission.len()]);
        let mut weights = vec![0.; n];
        for s in 0..self.length {
            let (before, here) = filtered.split_at_mut(s * n);
            let here = &mut here[..n];
            let (gate, inverse) = (&gate[s * n..][..n], &mut inverse[s * n..][..n]);
            if s == 0 {
                here.copy_from_slice(gate);
                for (row, inverse) in gate.chunks_exact(k).zip(inverse.chunks_exact_mut(k)) {
                    inverse.fill(reciprocal(row.iter().sum()));
                }
                multiply(here, inverse);
            } else {
                let rows = Matrix::new(transitions, k);
                multiply_into(
                    1.,
                    Matrix::new(gate, k),
                    rows.transposed(),
                    Block::new(inverse, k),
                    false,
                );
                inverse.iter_mut().for_each(|x| *x = reciprocal(*x));
                weights.copy_from_slice(&before[(s - 1) * n..]);
                multiply(&mut weights, inverse);
                multiply_into(1., Matrix::new(&weights, k), rows, Block::new(here, k), false);
                multiply(here, gate);
            }
            let emission = &mut emission[s * n..][..n];
            for (b, likelihood) in likelihoods.iter_mut().enumerate() {
                // A state that cannot be does not set the scale.
                let row = &mut emission[b * k..][..k];
                let states = row.iter_mut().zip(&here[b * k..][..k]);
                states.filter(|(_, p)| **p == 0.).for_each(|(x, _)| *x = f64::NEG_INFINITY);
                *likelihood += exp_below_top(row);
            }
            multiply(here, emission);
            for (b, likelihood) in likelihoods.iter_mut().enumerate() {
                let here = &mut here[b * k..][..k];
                let total: f64 = here.iter().sum();
                *likelihood += total.ln();
                let scale = reciprocal(total);
                here.iter_mut().for_each(|x| *x *= scale);
                emission[b * k..][..k].iter_mut().for_each(|x| *x *= scale);
            }
        }
        Forward { filtered, gate, emission, inverse, likelihoods }
    }

    /// The gradients of emission, gate and transitions from that of the result, `g: [B]`.
    fn gradients<T: Real>(
        self,
        emission: &[T],
        gate: &[T],
        transitions: &[T],
        g: &[T],
    ) -> [Vec<T>; 3] {
        let (k, sequence) = (self.states, self.length * self.states);
        let rows = self.transitions(transitions);
        let [mut of_emission, mut of_gate] = [(); 2].map(|()| vec![T::zero(); emission.len()]);
        let units = g.len().div_ceil(SEQUENCES);
        let mut of_rows = vec![0.; units * k * k];
        let parts = of_emission
            .chunks_mut(SEQUENCES * sequence)
            .zip(of_gate.chunks_mut(SEQUENCES * sequence))
            .zip(of_rows.chunks_mut(k * k))
            .zip(g.chunks(SEQUENCES));
        for_units(parts.collect(), |unit, (((of_emission, of_gate), of_rows), g)| {
            let (first, count) = (unit * SEQUENCES, g.len());
            let [emission, gate] = [emission, gate].map(|x| self.by_place(x, first, count));
            let forward = self.forward(emission, gate, &rows, count);
            self.backward(&forward, &rows, &to_f64(g), of_rows, |s, posterior, change| {
                for b in 0..count {
                    let place = (b * self.length + s) * k..(b * self.length + s + 1) * k;
                    for (to, from) in [(&mut *of_emission, posterior), (&mut *of_gate, change)] {
                        let from = &from[b * k..][..k];
                        to[place.clone()].iter_mut().zip(from).for_each(|(to, x)| *to = T::of(*x));
                    }
                }
            });
        });
        let mut of_transitions = vec![0.; k * k];
        for unit in of_rows.chunks_exact(k * k) {
            of_transitions.iter_mut().zip(unit).for_each(|(sum, x)| *sum += x);
        }
        multiply(&mut of_transitions, &rows);
        [of_emission, of_gate, of_transitions.into_iter().map(T::of).collect()]
    }

    /// From the last place to the first: `each(place, gradient of the emission, of the gate)`; adds that of `exp
    /// transitions` to `of_rows`.
    fn backward(
        self,
        forward: &Forward,
        rows: &[f64],
        g: &[f64],
        of_rows: &mut [f64],
        mut each: impl FnMut(usize, &[f64], &[f64]),
    ) {
        let (k, n) = (self.states, g.len() * self.states);
        let [mut later, mut weights, mut change] = [vec![1.; n], vec![0.; n], vec![0.; n]];
        let mut posterior = forward.filtered[(self.length - 1) * n..].to_vec();
        scale_rows(&mut posterior, g, k);
        for s in (0..self.length).rev() {
            let at = |x: &'_ [f64]| x[s * n..][..n].to_vec();
            let (gate, inverse) = (at(&forward.gate), at(&forward.inverse));
            if s == 0 {
                // Less p(z_1), as often as there is a path.
                let often: Vec<f64> =
                    posterior.chunks_exact(k).map(|row| row.iter().sum()).collect();
                change.copy_from_slice(&gate);
                multiply(&mut change, &inverse);
                scale_rows(&mut change, &often, k);
                subtract_from(&posterior, &mut change);
                each(0, &posterior, &change);
                return;
            }
            // exp(gate + emission) p(x_{s+1} … | z_s), scaled: what a step into a state is worth.
            let mut worth = at(&forward.emission);
            multiply(&mut worth, &gate);
            multiply(&mut worth, &later);
            // What follows a state that cannot be may be as likely as it likes, even ∞.
            let states = worth.iter_mut().zip(&forward.filtered[s * n..][..n]);
            states.filter(|(_, p)| **p == 0.).for_each(|(x, _)| *x = 0.);
            let step = Matrix::new(rows, k);
            multiply_into(
                1.,
                Matrix::new(&worth, k),
                step.transposed(),
                Block::new(&mut later, k),
                false,
            );
            multiply(&mut later, &inverse);

            let before = &forward.filtered[(s - 1) * n..][..n];
            let mut joint = before.to_vec();
            multiply(&mut joint, &inverse);
            scale_rows(&mut joint, g, k);
            multiply_into(
                1.,
                Matrix::new(&joint, k).transposed(),
                Matrix::new(&worth, k),
                Block::new(of_rows, k),
                true,
            );

            // p(z_{s-1} | all of x), and what its step to each state was expected to be.
            let mut earlier = before.to_vec();
            multiply(&mut earlier, &later);
            scale_rows(&mut earlier, g, k);
            weights.copy_from_slice(&earlier);
            multiply(&mut weights, &inverse);
            multiply_into(
                -1.,
                Matrix::new(&weights, k).transposed(),
                Matrix::new(&gate, k),
                Block::new(of_rows, k),
                true,
            );
            multiply_into(1., Matrix::new(&weights, k), step, Block::new(&mut change, k), false);
            multiply(&mut change, &gate);
            subtract_from(&posterior, &mut change);
            each(s, &posterior, &change);
            posterior = earlier;
        }
    }
}

fn to_f64<T: Real>(x: &[T]) -> Vec<f64> {
    x.iter().map(|x| x.to_f64()).collect()
}

/// 0 of what is as good as 0: what is impossible stays so.
fn reciprocal(x: f64) -> f64 {
    if x < f64::MIN_POSITIVE { 0. } else { x.recip() }
}

fn scale_rows(x: &mut [f64], factors: &[f64], width: usize) {
    for (row, factor) in x.chunks_exact_mut(width).zip(factors) {
        row.iter_mut().for_each(|x| *x *= factor);
    }
}

vectorised! {
    /// `x ← exp(x - max x)`, all 0 where all are -∞; returns the maximum.
    fn exp_below_top(x: &mut [f64]) -> f64 {
        let top = crate::reduce::max(x);
        let shift = if top == f64::NEG_INFINITY { 0. } else { top };
        for x in x.iter_mut() {
            *x = Real::exp(*x - shift);
        }
        top
    }

    fn multiply(x: &mut [f64], by: &[f64]) {
        for (x, by) in x.iter_mut().zip(by) {
            *x *= *by;
        }
    }

    /// `x ← from - x`.
    fn subtract_from(from: &[f64], x: &mut [f64]) {
        for (x, from) in x.iter_mut().zip(from) {
            *x = *from - *x;
        }
    }
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
