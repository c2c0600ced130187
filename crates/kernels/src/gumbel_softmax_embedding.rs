//! The vector of a word that is drawn by Gumbel-Softmax from a large vocabulary.
use candle_core::{Device, Result, Tensor};

use crate::autocast::{rounded, times_transposed};
use crate::graph::{compute, fusible, node};
use crate::gumbel_softmax::{self, Forward, Noisy};
use crate::linear_cross_entropy::rows_at_a_time;
use crate::matmul::{Matrix, add_product, append_product};
use crate::perturbed::positive;
use crate::reduce::position;
use crate::rows::for_units;
use crate::softmax_rows::{masked_row, normalise_long_row, softmax_slopes_in_place};
use crate::vectorised::vectorised;
use crate::{Key, Real, in_single};

const NAME: &str = "gumbel_softmax_embedding";

/// Vectors of words that are drawn by Gumbel-Softmax, relaxed or straight-through, with logits that are a linear map.
///
/// With `G ~ Gumbel(0, 1)` independent per word, and `τ = temperature`:
///
/// ```math
/// \sum_v z_v\, \mathrm{embeddings}_v, \qquad z = \operatorname{softmax}\Bigl(\frac{x W^\top + G}{\tau}\Bigr)
/// ```
///
/// `x: [.., D]`, `weight: [V, D]`, `embeddings: [V, E]` → `[.., E]`. With [`Forward::Hard`] the value is the vector of the word
/// that `z` rounds to, and the gradient in `x` and `weight` that of the relaxed sum, as in
/// [`gumbel_softmax()`](crate::gumbel_softmax()): **biased**. Differentiable in all three. What a sampled sentence is fed with,
/// on its way to a frozen classifier or to the next step of a decoder.
///
/// Neither logits nor draws are there as a whole, `[.., V]`, but for some rows at a time, as in
/// [`linear_cross_entropy()`](crate::linear_cross_entropy()); the backward pass makes both again, with the same noise. The draw of
/// row `n` is that of row `n` of `gumbel_softmax` with the same key. On a GPU all of them are in memory at once.
///
/// Source: Jang et al. (2017), section 2.2; for words Kusner and Hernández-Lobato (2016).
///
/// # Errors
/// If `temperature` is not positive and finite, the shapes do not fit, or a row has no finite logit. A NaN or `+∞` beside finite
/// logits is none, and makes gradients, and of relaxed draws the value, NaN.
pub fn gumbel_softmax_embedding(
    x: &Tensor,
    weight: &Tensor,
    embeddings: &Tensor,
    temperature: f64,
    forward: Forward,
    key: Key,
) -> Result<Tensor> {
    positive(temperature)?;
    let sizes = Sizes::new(x, weight, embeddings)?;
    let [x, weight] = &rounded([x, weight])?;
    in_single([x, weight, embeddings], |[x, weight, embeddings]| {
        if !fusible([x, weight, embeddings]) {
            return composed(x, weight, embeddings, |logits| {
                gumbel_softmax::gumbel_softmax(logits, 1, temperature, forward, key)
            });
        }
        let noisy = Noisy { inverse: 1. / temperature, key };
        let y = compute!(NAME, sizes.result(x), T, |x, weight, embeddings| {
            Pass::<T> { x, weight, embeddings, sizes, noisy }.vectors(forward)?
        });
        let tracked = [x, weight, embeddings].map(Tensor::track_op);
        node(NAME, [x, weight, embeddings], y, move |inputs, _, g| {
            let [x, weight, embeddings] = inputs;
            let mut all = [None, None, None];
            // The macro knows the type of the numbers; its own value is empty, as an input may have no gradient.
            let none = compute!(NAME, 0, T, |x, weight, embeddings, g| {
                let pass = Pass::<T> { x, weight, embeddings, sizes, noisy };
                let gradients = pass.gradients(g, forward, tracked)?;
                for ((slot, numbers), like) in all.iter_mut().zip(gradients).zip(inputs) {
                    let tensor = |n| Tensor::from_vec(n, like.shape(), &Device::Cpu);
                    *slot = numbers.map(tensor).transpose()?;
                }
                Vec::<T>::new()
            });
            drop(none);
            Ok(all)
        })
    })
}

/// The twin of [`gumbel_softmax_embedding`] from plain candle operations.
pub fn reference(
    x: &Tensor,
    weight: &Tensor,
    embeddings: &Tensor,
    temperature: f64,
    forward: Forward,
    key: Key,
) -> Result<Tensor> {
    composed(x, weight, embeddings, |logits| {
        gumbel_softmax::reference(logits, 1, temperature, forward, key)
    })
}

/// With all logits in memory; `draw` makes words `[1, N, V]` of them.
fn composed(
    x: &Tensor,
    weight: &Tensor,
    embeddings: &Tensor,
    draw: impl FnOnce(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let sizes = Sizes::new(x, weight, embeddings)?;
    let logits = times_transposed(x, weight)?.reshape((1, (), sizes.words))?;
    draw(&logits)?.squeeze(0)?.matmul(embeddings)?.reshape(sizes.result(x))
}

/// Numbers of a row of the input, words, numbers of a vector.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    input: usize,
    words: usize,
    vector: usize,
}

impl Sizes {
    fn new(x: &Tensor, weight: &Tensor, embeddings: &Tensor) -> Result<Self> {
        match (x.dims(), weight.dims(), embeddings.dims()) {
            ([.., input], [words, d], [v, vector])
                if input == d && words == v && input * words * vector > 0 =>
            {
                Ok(Self { input: *input, words: *words, vector: *vector })
            }
            (x, weight, embeddings) => candle_core::bail!(
                "{NAME}: expected x [.., D], weight [V, D] and embeddings [V, E] that are not empty, got {x:?}, {weight:?} and \
                 {embeddings:?}"
            ),
        }
    }

    /// The shape of the vectors of `x`, a row each.
    fn result(self, x: &Tensor) -> Vec<usize> {
        [&x.dims()[..x.rank() - 1], &[self.vector]].concat()
    }
}

/// The inputs.
struct Pass<'a, T> {
    x: &'a [T],
    weight: &'a [T],
    embeddings: &'a [T],
    sizes: Sizes,
    noisy: Noisy,
}

impl<T: Real> Pass<'_, T> {
    fn embeddings(&self) -> Matrix<'_, T> {
        Matrix::new(self.embeddings, self.sizes.vector)
    }

    fn weight(&self) -> Matrix<'_, T> {
        Matrix::new(self.weight, self.sizes.input)
    }

    /// Draws for the rows `x`, the first of which is row `first`: the words that they round to, and, if asked for, the relaxed
    /// draws in `draws`.
    fn draw(&self, x: &[T], first: usize, soft: bool, draws: &mut Vec<T>) -> Result<Vec<usize>> {
        let v = self.sizes.words;
        draws.clear();
        append_product(Matrix::new(x, self.sizes.input), self.weight().transposed(), draws);
        let mut words = vec![v; x.len() / self.sizes.input];
        let rows = draws.chunks_exact_mut(v).zip(&mut words);
        for_units(rows.collect(), |row, (draw, word)| {
            let start = (first + row) as u64 * v as u64;
            let top = self.noisy.perturb(draw, start);
            if let Some(at) = position(draw, top).filter(|_| top > T::NEG_INFINITY) {
                *word = at;
                if soft {
                    normalise(draw, top);
                }
            }
        });
        match words.iter().position(|word| *word == v) {
            Some(row) => masked_row(first + row),
            None => Ok(words),
        }
    }

    /// The vectors of all rows.
    fn vectors(&self, forward: Forward) -> Result<Vec<T>> {
        let Sizes { input, words: v, vector } = self.sizes;
        let (rows, mut draws) = (rows_at_a_time(v), Vec::new());
        let mut y = Vec::with_capacity(self.x.len() / input * vector);
        for (i, x) in self.x.chunks(rows * input).enumerate() {
            let words = self.draw(x, i * rows, forward == Forward::Soft, &mut draws)?;
            match forward {
                Forward::Soft => append_product(Matrix::new(&draws, v), self.embeddings(), &mut y),
                Forward::Hard => words.iter().for_each(|word| {
                    y.extend_from_slice(&self.embeddings[word * vector..][..vector]);
                }),
            }
        }
        Ok(y)
    }

    /// The gradients of `x`, `weight` and `embeddings`, of those that are tracked, from the gradient `g` of the vectors.
    fn gradients(
        &self,
        g: &[T],
        forward: Forward,
        [of_x, of_weight, of_embeddings]: [bool; 3],
    ) -> Result<[Option<Vec<T>>; 3]> {
        let Sizes { input, words: v, vector } = self.sizes;
        let mut dx = of_x.then(|| Vec::with_capacity(self.x.len()));
        let mut dw = of_weight.then(|| vec![T::zero(); self.weight.len()]);
        let mut de = of_embeddings.then(|| vec![T::zero(); self.embeddings.len()]);
        let (rows, mut draws, mut slopes) = (rows_at_a_time(v), Vec::new(), Vec::new());
        let inverse = T::of(self.noisy.inverse);
        let chunks = self.x.chunks(rows * input).zip(g.chunks(rows * vector));
        for (i, (x, g)) in chunks.enumerate() {
            let words = self.draw(x, i * rows, true, &mut draws)?;
            match (&mut de, forward) {
                (Some(de), Forward::Soft) => {
                    let draws = Matrix::new(&draws, v).transposed();
                    add_product(draws, Matrix::new(g, vector), de);
                }
                (Some(de), Forward::Hard) => {
                    for (word, g) in words.iter().zip(g.chunks_exact(vector)) {
                        let de = &mut de[word * vector..][..vector];
                        de.iter_mut().zip(g).for_each(|(d, g)| *d += *g);
                    }
                }
                (None, _) => {}
            }
            if !of_x && !of_weight {
                continue;
            }
            let g: Vec<T> = g.iter().map(|g| *g * inverse).collect();
            slopes.clear();
            append_product(Matrix::new(&g, vector), self.embeddings().transposed(), &mut slopes);
            let each = slopes.chunks_exact_mut(v).zip(draws.chunks_exact(v));
            for_units(each.collect(), |_, (d, w)| softmax_slopes_in_place(w, v, d));
            let slopes = Matrix::new(&slopes, v);
            if let Some(dx) = &mut dx {
                append_product(slopes, self.weight(), dx);
            }
            if let Some(dw) = &mut dw {
                add_product(slopes.transposed(), Matrix::new(x, input), dw);
            }
        }
        Ok([dx, dw, de])
    }
}

vectorised! {
    fn normalise<T: Real>(row: &mut [T], top: T) {
        normalise_long_row(row, top);
    }
}

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use super::*;
    use crate::check::{close, finite_differences, irregular, twins};

    fn key() -> Key {
        Key::from_seed(5).named(NAME)
    }

    #[test]
    fn fused_equals_reference_in_value_and_gradient() -> Result<()> {
        // The last is of two chunks of rows, of which the second is smaller.
        for (shape, v, vector, dtype, tolerance) in [
            (vec![4, 3], 5, 2, DType::F64, 1e-12),
            (vec![2, 3, 2], 1, 3, DType::F64, 1e-12),
            (vec![3, 2], 700, 4, DType::F64, 1e-12),
            (vec![2, 10, 8], 3000, 5, DType::F32, 5e-5),
            (vec![2, 100, 3], 30_000, 2, DType::F64, 1e-11),
        ] {
            let d = shape[shape.len() - 1];
            let inputs = [
                irregular(&shape, 1, dtype)?,
                irregular(&[v, d], 2, dtype)?,
                irregular(&[v, vector], 3, dtype)?,
            ];
            for forward in [Forward::Soft, Forward::Hard] {
                let run = |f: Compute, i: &[Tensor]| f(&i[0], &i[1], &i[2], 0.7, forward, key());
                twins(
                    &inputs,
                    tolerance,
                    |i| run(gumbel_softmax_embedding, i),
                    |i| run(reference, i),
                )?;
                // Each input alone.
                for one in 0..3 {
                    let with = |i: &[Tensor]| {
                        let mut all = inputs.clone();
                        all[one] = i[0].clone();
                        all
                    };
                    twins(
                        &inputs[one..=one],
                        tolerance,
                        |i| run(gumbel_softmax_embedding, &with(i)),
                        |i| run(reference, &with(i)),
                    )?;
                }
            }
        }
        let inputs = [
            irregular(&[2, 2], 1, DType::F64)?,
            irregular(&[3, 2], 2, DType::F64)?,
            irregular(&[3, 2], 3, DType::F64)?,
        ];
        finite_differences(&inputs, |i| {
            gumbel_softmax_embedding(&i[0], &i[1], &i[2], 0.7, Forward::Soft, key())
        })
    }

    type Compute = fn(&Tensor, &Tensor, &Tensor, f64, Forward, Key) -> Result<Tensor>;

    /// A hard draw is a row of the table, as often as its probability says.
    #[test]
    fn words_are_drawn_by_their_probability() -> Result<()> {
        let (n, v) = (20_000, 3);
        let logits = Tensor::new(&[[0f64], [1.], [-0.5]], &Device::Cpu)?;
        let (x, table) = (
            Tensor::ones((n, 1), DType::F64, &Device::Cpu)?,
            Tensor::eye(v, DType::F64, &Device::Cpu)?,
        );
        let draws = gumbel_softmax_embedding(&x, &logits, &table, 3., Forward::Hard, key())?;
        let shares = draws.mean(0)?.to_vec1::<f64>()?;
        let probs = crate::softmax(&logits.t()?)?.flatten_all()?.to_vec1::<f64>()?;
        for (share, p) in shares.iter().zip(probs) {
            let error = (p * (1. - p) / n as f64).sqrt();
            assert!((share - p).abs() < 4.5 * error, "{share} {p}");
        }
        close(&draws.sum(1)?, &Tensor::ones(n, DType::F64, &Device::Cpu)?, 0.)
    }

    #[test]
    fn bad_arguments_are_errors_that_name_them() -> Result<()> {
        let [x, weight, table] =
            [[2, 3], [5, 3], [5, 4]].map(|shape| irregular(&shape, 1, DType::F32));
        let (x, weight, table) = (x?, weight?, table?);
        let run = |x: &Tensor, weight: &Tensor, temperature| {
            gumbel_softmax_embedding(x, weight, &table, temperature, Forward::Soft, key())
        };
        // In a chunk of rows that is not the first.
        let nan = Tensor::full(f32::NAN, (1, 3), &Device::Cpu)?;
        let last = Tensor::cat(&[&Tensor::zeros((1500, 3), DType::F32, &Device::Cpu)?, &nan], 0)?;
        for (result, expected) in [
            (run(&x, &weight, 0.), "0"),
            (run(&x.narrow(1, 0, 2)?, &weight, 1.), "got [2, 2], [5, 3] and [5, 4]"),
            (run(&x, &weight.narrow(0, 0, 4)?, 1.), "got [2, 3], [4, 3] and [5, 4]"),
            (run(&(&x * f64::NAN)?, &weight, 1.), "row 0"),
            (run(&last, &weight, 1.), "row 1500"),
        ] {
            let error = result.unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert_eq!(run(&x.narrow(0, 0, 0)?, &weight, 1.)?.dims(), [0, 4]);
        Ok(())
    }
}
