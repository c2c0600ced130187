//! Convolutional layers.
use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};
use gumbel_kernels::{Activation, Window, add, conv_transpose2d, conv2d};

/// A convolution with its nonlinearity, on images whose channels come last.
///
/// Weights are drawn uniformly from `±√(6 / (in + out))` (Glorot and Bengio 2010), where `in` and `out` count the
/// window's pixels; biases are 0.
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
            weight: builder.get_with_hints(
                (output, patch),
                "weight",
                init(window, input, output),
            )?,
            bias: builder.get_with_hints(output, "bias", Init::Const(0.))?,
            window,
        })
    }

    /// `[.., H, W, input]` → `[.., H', W', output]`, rectified.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        conv2d(x, &self.weight, &self.bias, self.window, Activation::Relu)
    }
}

/// A transposed convolution, to images of a given size.
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
        let weight =
            builder.get_with_hints((patch, input), "weight", init(window, input, output))?;
        Ok(Self { weight, image, window })
    }

    /// `[.., H', W', input]` and a bias `[output]` or `[H, W, output]` → `[.., H, W, output]`.
    pub(crate) fn forward(&self, x: &Tensor, bias: &Tensor) -> Result<Tensor> {
        add(&conv_transpose2d(x, &self.weight, self.image, self.window)?, bias)
    }
}

/// A pixel of the result hears of as many numbers as fit, at the stride, into the window.
fn init(window: Window, input: usize, output: usize) -> Init {
    let area = (window.size * window.size) as f64;
    let bound = (6. / (area * (input + output) as f64)).sqrt();
    Init::Uniform { lo: -bound, up: bound }
}
