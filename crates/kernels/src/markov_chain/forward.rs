//! From the first place to the last: what is known of each state from what came before.
use super::numbers::{exp_below_top, multiply, reciprocal, to_f64};
use super::{SEQUENCES, Sizes};
use crate::Real;
use crate::matmul::{Block, Matrix, multiply_into};
use crate::rows::for_units;

/// What the forward pass over some sequences leaves behind; blocks `[sequences, K]`, one for each place.
pub(super) struct Forward {
    /// `p(z_s | x_1 … x_s)`.
    pub(super) filtered: Vec<f64>,
    /// `exp gate`, up to a factor for each row.
    pub(super) gate: Vec<f64>,
    /// `exp emission` over `p(x_s | x_1 … x_{s-1})`.
    pub(super) emission: Vec<f64>,
    /// One over the sum that makes each row of the transitions a distribution, up to a factor; of the first place,
    /// over the sum of the gate.
    pub(super) inverse: Vec<f64>,
    pub(super) likelihoods: Vec<f64>,
}

impl Sizes {
    /// `exp transitions`, the greatest number of a row 1.
    pub(super) fn transitions<T: Real>(self, transitions: &[T]) -> Vec<f64> {
        let mut numbers = to_f64(transitions);
        numbers.chunks_exact_mut(self.states).for_each(|row| {
            exp_below_top(row);
        });
        numbers
    }

    /// The sequences from number `first` on, of the numbers `[B, S, K]`, place by place.
    pub(super) fn by_place<T: Real>(self, numbers: &[T], first: usize, count: usize) -> Vec<f64> {
        let k = self.states;
        let row = |s, b| &numbers[((first + b) * self.length + s) * k..][..k];
        let rows = (0..self.length).flat_map(|s| (0..count).map(move |b| (s, b)));
        rows.flat_map(|(s, b)| row(s, b)).map(|x| x.to_f64()).collect()
    }

    pub(super) fn likelihoods<T: Real>(
        self,
        emission: &[T],
        gate: &[T],
        transitions: &[T],
    ) -> Vec<T> {
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

    pub(super) fn forward(
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
}
