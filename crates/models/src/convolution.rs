//! Convolutional layers.
use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};
use gumbel_kernels::{Activation, Window, add, conv_transpose2d, conv2d};

/// A convolution with its nonlinearity, on images whose channels come last.
///
/// Weights are drawn uniformly from `±√(6 / in)` (He et al. 2015), where `in` is how many numbers a number of the
/// result is made of, so that rectified layers pass on the variance of what they see; biases are 0.
#[derive(Clone, Debug)]
pub(crate) struct Convolution {
    weight: Tensor,
    bias: Tensor,
    window: Window,
}

impl Convolution {
    /// From `input` to `output` channels.
    pub(crate) fn new(
        (input, output): (usize, usize),
        window: Window,
        builder: &VarBuilder<'_>,
    ) -> Result<Self> {
        let patch = window.size * window.size * input;
        Ok(Self {
            weight: builder.get_with_hints((output, patch), "weight", init(patch as f64))?,
            bias: builder.get_with_hints(output, "bias", Init::Const(0.))?,
            window,
        })
    }

    /// `[.., H, W, input]` → `[.., H', W', output]`, rectified.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        conv2d(x, &self.weight, &self.bias, self.window, Activation::Relu)
    }
}

/// A transposed convolution, to images of a given size. Weights start as those of a [`Convolution`].
#[derive(Clone, Debug)]
pub(crate) struct ConvolutionTransposed {
    weight: Tensor,
    image: (usize, usize),
    window: Window,
}

impl ConvolutionTransposed {
    /// From `input` to `output` channels.
    pub(crate) fn new(
        (input, output): (usize, usize),
        image: (usize, usize),
        window: Window,
        builder: &VarBuilder<'_>,
    ) -> Result<Self> {
        let patch = window.size * window.size * output;
        // Of the positions of a window, one in `stride²` meets a given pixel of the result.
        let met =
            (window.size * window.size * input) as f64 / (window.stride * window.stride) as f64;
        let weight = builder.get_with_hints((patch, input), "weight", init(met))?;
        Ok(Self { weight, image, window })
    }

    /// `[.., H', W', input]` and a bias `[output]` or `[H, W, output]` → `[.., H, W, output]`.
    pub(crate) fn forward(&self, x: &Tensor, bias: &Tensor) -> Result<Tensor> {
        add(&conv_transpose2d(x, &self.weight, self.image, self.window)?, bias)
    }
}

/// For numbers that are made of `inputs` others.
fn init(inputs: f64) -> Init {
    let bound = (6. / inputs).sqrt();
    Init::Uniform { lo: -bound, up: bound }
}
