//! From the last place to the first: gradients.
use super::forward::Forward;
use super::numbers::{multiply, scale_rows, subtract_from, to_f64};
use super::{SEQUENCES, Sizes};
use crate::Real;
use crate::matmul::{Block, Matrix, multiply_into};
use crate::rows::for_units;

impl Sizes {
    /// The gradients of emission, gate and transitions from that of the result, `g: [B]`.
    pub(super) fn gradients<T: Real>(
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
        let step = Matrix::new(rows, k);
        let [mut later, mut change] = [vec![1.; n], vec![0.; n]];
        let mut posterior = forward.filtered[(self.length - 1) * n..].to_vec();
        scale_rows(&mut posterior, g, k);
        for s in (1..self.length).rev() {
            let (gate, inverse) = (&forward.gate[s * n..][..n], &forward.inverse[s * n..][..n]);
            let before = &forward.filtered[(s - 1) * n..][..n];
            let worth = worth(forward, s, &later);
            multiply_into(
                1.,
                Matrix::new(&worth, k),
                step.transposed(),
                Block::new(&mut later, k),
                false,
            );
            multiply(&mut later, inverse);

            let mut joint = before.to_vec();
            multiply(&mut joint, inverse);
            scale_rows(&mut joint, g, k);
            let joint = Matrix::new(&joint, k).transposed();
            multiply_into(1., joint, Matrix::new(&worth, k), Block::new(of_rows, k), true);

            // p(z_{s-1} | all of x), and what its step to each state was expected to be.
            let mut earlier = before.to_vec();
            multiply(&mut earlier, &later);
            scale_rows(&mut earlier, g, k);
            let mut weights = earlier.clone();
            multiply(&mut weights, inverse);
            let expected = Matrix::new(&weights, k);
            multiply_into(
                -1.,
                expected.transposed(),
                Matrix::new(gate, k),
                Block::new(of_rows, k),
                true,
            );
            multiply_into(1., expected, step, Block::new(&mut change, k), false);
            multiply(&mut change, gate);
            subtract_from(&posterior, &mut change);
            each(s, &posterior, &change);
            posterior = earlier;
        }
        // Of the first place less p(z_1), as often as there is a path.
        let often: Vec<f64> = posterior.chunks_exact(k).map(|row| row.iter().sum()).collect();
        change.copy_from_slice(&forward.gate[..n]);
        multiply(&mut change, &forward.inverse[..n]);
        scale_rows(&mut change, &often, k);
        subtract_from(&posterior, &mut change);
        each(0, &posterior, &change);
    }
}

/// `exp(gate + emission) p(x_{s+1} … | z_s)`, scaled: what a step into a state of place `s` is worth.
fn worth(forward: &Forward, s: usize, later: &[f64]) -> Vec<f64> {
    let place = s * later.len()..(s + 1) * later.len();
    let mut worth = forward.emission[place.clone()].to_vec();
    multiply(&mut worth, &forward.gate[place.clone()]);
    multiply(&mut worth, later);
    // What follows a state that cannot be may be as likely as it likes, even ∞.
    let states = worth.iter_mut().zip(&forward.filtered[place]);
    states.filter(|(_, p)| **p == 0.).for_each(|(x, _)| *x = 0.);
    worth
}
