//! What the decoder says of pixels: one by one given the code, or each also given its neighbours before it.
use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use gumbel::Key;
use gumbel_kernels::{Window, sigmoid, unfold};
use serde::{Deserialize, Serialize};

use crate::latents::{base_rate_logits, check_units};
use crate::{Activation, Mlp};

/// Which pixels a pixel sees beside the code, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContextConfig {
    /// Side of the square window, odd, in whose middle a pixel is: it sees those above it and those left of it.
    pub window: usize,
    /// Numbers that the decoder makes of the code for each pixel.
    pub maps: usize,
    /// Hidden layers of the network that makes one logit of those numbers and the pixels seen, shared by all pixels.
    pub hidden: Vec<usize>,
}

impl ContextConfig {
    /// What is wrong with the sizes, if anything: key, value, what to do.
    ///
    /// # Errors
    /// If `window` is not odd within 3 to 63, `maps` not within 1 to 1024, or a hidden layer has no unit or too many.
    pub fn check(&self) -> std::result::Result<(), String> {
        let Self { window, maps, .. } = *self;
        if window % 2 == 0 || !(3..=63).contains(&window) {
            return Err(format!("context.window is {window}; use an odd number from 3 to 63"));
        }
        if !(1..=1024).contains(&maps) {
            return Err(format!("context.maps is {maps}; use 1 to 1024"));
        }
        check_units([("context.hidden", &self.hidden[..])])
    }

    /// Pixels of a window before the one in its middle, row by row.
    fn seen(&self) -> usize {
        self.window * self.window / 2
    }
}

/// `p(x|h) = Π_d Bernoulli(x_d; σ(h_d0 + f(h_d, x_N(d))_d))`, where `h_d` are the numbers that the decoder makes for a
/// pixel and `x_N(d)` the pixels before it, row by row, within a window around it, less their means (0 outside of the
/// image).
///
/// A code need then say only what the neighbours do not.
///
/// Source: Chen et al. (2017), Variational Lossy Autoencoder, section 3.1, a decoder that sees a small part of the
/// pixels; `f` is a multi-layer perceptron here.
#[derive(Clone, Debug)]
pub(super) struct Context {
    config: ContextConfig,
    net: Mlp,
    /// `[H, W]`.
    mean: Tensor,
}

impl Context {
    /// For images of the size of `mean: [H, W]`.
    pub(super) fn new(
        config: &ContextConfig,
        mean: &Tensor,
        activation: Activation,
        builder: &VarBuilder<'_>,
    ) -> Result<Self> {
        config.check().map_err(candle_core::Error::msg)?;
        if mean.rank() != 2 {
            candle_core::bail!(
                "a decoder that sees neighbours needs images [H, W], their mean is {:?}",
                mean.shape()
            )
        }
        let input = config.seen() + config.maps;
        let net = Mlp::new(input, &config.hidden, 1, activation, &builder.pp("context"))?;
        Ok(Self { config: config.clone(), net, mean: mean.clone() })
    }

    /// `[D · maps]`: the bias of the numbers for which the untrained model reproduces the base rate of each pixel, were
    /// there no context.
    pub(super) fn base_rate(&self) -> Result<Tensor> {
        let logits = base_rate_logits(&self.mean.flatten_all()?)?.unsqueeze(1)?;
        logits.pad_with_zeros(1, 0, self.config.maps - 1)?.flatten_all()
    }

    /// Logits `[S, B, D]` of pixels, given `numbers: [S, B, D · maps]` and all pixels `x: [B, D]`.
    pub(super) fn logits(&self, numbers: &Tensor, x: &Tensor) -> Result<Tensor> {
        let (s, b, _) = numbers.dims3()?;
        let ((height, width), size) = (self.mean.dims2()?, self.config.window);
        let image = x.reshape((b, height, width))?.broadcast_sub(&self.mean)?.unsqueeze(3)?;
        let window = Window { size, stride: 1, padding: size / 2 };
        let seen = self.config.seen();
        let seen =
            unfold(&image, window)?.narrow(3, 0, seen)?.reshape((b, height * width, seen))?;
        self.join(numbers, &seen.unsqueeze(0)?.repeat((s, 1, 1, 1))?)
    }

    /// Logits `[S, B, D]` given `numbers: [S, B, D · maps]` and what each pixel sees, `seen: [S, B, D, _]`.
    fn join(&self, numbers: &Tensor, seen: &Tensor) -> Result<Tensor> {
        let (s, b, d, _) = seen.dims4()?;
        let numbers = numbers.reshape((s, b, d, self.config.maps))?;
        let sum = self.net.forward(&Tensor::cat(&[seen, &numbers], 3)?)?.squeeze(3)?;
        numbers.narrow(3, 0, 1)?.squeeze(3)? + sum
    }

    /// Draws pixel after pixel given `numbers: [S, B, D · maps]`; returns the probabilities `[S, B, D]` that they were
    /// drawn with.
    pub(super) fn generate(&self, numbers: &Tensor, key: Key) -> Result<Tensor> {
        let ((s, b, _), maps) = (numbers.dims3()?, self.config.maps);
        let (height, width) = self.mean.dims2()?;
        let outside = Tensor::zeros((s, b), numbers.dtype(), numbers.device())?;
        let mut probs = Vec::with_capacity(height * width);
        // Of the pixels so far, less their means.
        let mut drawn: Vec<Tensor> = Vec::with_capacity(height * width);
        for row in 0..height {
            for column in 0..width {
                let seen =
                    self.neighbours(row, column).map(|at| at.map_or(&outside, |i| &drawn[i]));
                let seen = Tensor::stack(&seen.collect::<Vec<_>>(), 2)?.unsqueeze(2)?;
                let d = row * width + column;
                let logit = self.join(&numbers.narrow(2, d * maps, maps)?, &seen)?;
                let p = sigmoid(&logit.squeeze(2)?)?;
                let u = key.fold_in(d as u64).uniform((s, b), p.dtype(), p.device())?;
                let mean = self.mean.get(row)?.get(column)?;
                drawn.push(u.lt(&p)?.to_dtype(p.dtype())?.broadcast_sub(&mean)?);
                probs.push(p);
            }
        }
        Tensor::stack(&probs, 2)
    }

    /// The places of the pixels that the one at `row`, `column` sees, row by row; none of those outside of the image.
    fn neighbours(&self, row: usize, column: usize) -> impl Iterator<Item = Option<usize>> {
        let (size, width) = (self.config.window, self.mean.dims()[1]);
        (0..self.config.seen()).map(move |place| {
            let row = (row + place / size).checked_sub(size / 2)?;
            let column = (column + place % size).checked_sub(size / 2)?;
            (column < width).then_some(row * width + column)
        })
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use gumbel_kernels::bernoulli_log_prob;

    use super::*;
    use crate::check::irregular;

    fn context(window: usize) -> Result<Context> {
        let mean = Tensor::new(&[[0.2f32, 0., 0.5], [1., 0.9, 0.4]], &Device::Cpu)?;
        let config = ContextConfig { window, maps: 2, hidden: vec![5] };
        let (context, _) =
            irregular(1., |builder| Context::new(&config, &mean, Activation::Tanh, builder))?;
        Ok(context)
    }

    fn numbers(s: usize, b: usize) -> Result<Tensor> {
        Key::from_seed(2).normal((s, b, 12), DType::F32, &Device::Cpu)
    }

    /// All 64 images of six pixels.
    fn images() -> Result<Tensor> {
        let bits = (0..64u32).flat_map(|image| (0..6).map(move |d| (image >> d & 1) as f32));
        Tensor::from_vec(bits.collect(), (64, 6), &Device::Cpu)
    }

    /// A pixel that saw itself or one after it would break this.
    #[test]
    fn probabilities_of_all_images_sum_to_one() -> Result<()> {
        for window in [3, 5, 7] {
            let numbers = numbers(3, 1)?.broadcast_as((3, 64, 12))?.contiguous()?;
            let logits = context(window)?.logits(&numbers, &images()?)?;
            let log_p = bernoulli_log_prob(&logits, &images()?)?;
            for total in log_p.exp()?.sum(1)?.to_vec1::<f32>()? {
                assert!((total - 1.).abs() < 1e-5, "{total}");
            }
        }
        Ok(())
    }

    /// Frequencies of what is drawn, and the probabilities given with it, are those of the model.
    #[test]
    fn draws_follow_the_probabilities() -> Result<()> {
        let (context, draws) = (context(3)?, 20_000);
        let numbers = numbers(1, 1)?;
        let many = numbers.broadcast_as((draws, 1, 12))?.contiguous()?;
        let found = context.generate(&many, Key::from_seed(3))?.mean(0)?.squeeze(0)?;
        let all = numbers.broadcast_as((1, 64, 12))?.contiguous()?;
        let p = bernoulli_log_prob(&context.logits(&all, &images()?)?, &images()?)?.exp()?;
        let expected = p.matmul(&images()?)?.squeeze(0)?.to_vec1::<f32>()?;
        for (found, expected) in found.to_vec1::<f32>()?.into_iter().zip(expected) {
            assert!((found - expected).abs() < 0.015, "{found} {expected}");
        }
        Ok(())
    }

    #[test]
    fn sizes_that_cannot_be_are_refused() {
        let good = ContextConfig { window: 5, maps: 2, hidden: vec![4] };
        assert!(good.check().is_ok());
        for window in [0, 1, 4, 65] {
            assert!(ContextConfig { window, ..good.clone() }.check().is_err());
        }
        assert!(ContextConfig { maps: 0, ..good.clone() }.check().is_err());
        assert!(ContextConfig { hidden: vec![0], ..good }.check().is_err());
    }
}
