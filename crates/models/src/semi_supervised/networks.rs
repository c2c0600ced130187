//! The convolutions from images to a hidden layer, and from a code to an image.
use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};
use gumbel_kernels::{Window, add};

use super::SemiSupervisedVaeConfig;
use crate::convolution::{Convolution, ConvolutionTransposed};
use crate::{Activation, Mlp};

/// Halves an image.
const HALVE: Window = Window { size: 4, stride: 2, padding: 1 };
const SMOOTH: Window = Window { size: 3, stride: 1, padding: 1 };

/// Sizes of the images after one and two halvings.
fn halved((height, width): (usize, usize)) -> Result<[(usize, usize); 2]> {
    let half = |(h, w)| Ok::<_, candle_core::Error>((HALVE.positions(h)?, HALVE.positions(w)?));
    let once = half((height, width))?;
    Ok([once, half(once)?])
}

/// Convolutions and a hidden layer.
#[derive(Clone, Debug)]
pub(super) struct Trunk {
    convolutions: [Convolution; 3],
    hidden: Mlp,
}

impl Trunk {
    pub(super) fn new(
        config: &SemiSupervisedVaeConfig,
        image: (usize, usize),
        builder: &VarBuilder<'_>,
    ) -> Result<Self> {
        let [a, b, c] = config.channels;
        let [_, small] = halved(image)?;
        let sides = [HALVE.positions(small.0)?, HALVE.positions(small.1)?];
        let layer = |index: usize, channels| Convolution::new(channels, HALVE, &builder.pp(index));
        Ok(Self {
            convolutions: [layer(0, (1, a))?, layer(1, (a, b))?, layer(2, (b, c))?],
            hidden: Mlp::new(
                sides[0] * sides[1] * c,
                &[],
                config.hidden,
                Activation::Relu,
                &builder.pp("hidden"),
            )?,
        })
    }

    /// `[B, H, W, 1]` → `[B, hidden]`, before the nonlinearity.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut h = x.clone();
        for convolution in &self.convolutions {
            h = convolution.forward(&h)?;
        }
        self.hidden.forward(&h.flatten_from(1)?)
    }
}

/// From class and style to logits of pixels.
#[derive(Clone, Debug)]
pub(super) struct Decoder {
    /// A transposed convolution with one position: the whole of the smallest image.
    first: Mlp,
    rest: [ConvolutionTransposed; 3],
    biases: [Tensor; 3],
    small: (usize, usize),
}

impl Decoder {
    pub(super) fn new(
        config: &SemiSupervisedVaeConfig,
        image: (usize, usize),
        builder: &VarBuilder<'_>,
    ) -> Result<Self> {
        let [a, b, _] = config.channels;
        let [large, small] = halved(image)?;
        let units = small.0 * small.1 * b;
        let layer = |index: usize, channels, image, window| {
            ConvolutionTransposed::new(channels, image, window, &builder.pp(index))
        };
        let bias = |index: usize, n| builder.pp(index).get_with_hints(n, "bias", Init::Const(0.));
        let first = builder.pp(0);
        Ok(Self {
            first: Mlp::new(config.classes + config.style, &[], units, Activation::Relu, &first)?,
            rest: [
                layer(1, (b, b), small, SMOOTH)?,
                layer(2, (b, a), large, HALVE)?,
                layer(3, (a, 1), image, HALVE)?,
            ],
            biases: [bias(1, b)?, bias(2, a)?, bias(3, image.0 * image.1)?],
            small,
        })
    }

    /// `[S, B, K + style]` → `[S, B, D]`.
    pub(super) fn forward(&self, code: &Tensor) -> Result<Tensor> {
        let (s, b, _) = code.dims3()?;
        let h = self.first.forward(code)?.relu()?;
        let mut h = h.reshape((s, b, self.small.0, self.small.1, ()))?;
        for (layer, bias) in self.rest.iter().zip(&self.biases).take(2) {
            h = layer.forward(&h, bias)?.relu()?;
        }
        let bias = &self.biases[2];
        let pixels = self.rest[2].forward(&h, &Tensor::zeros(1, h.dtype(), h.device())?)?;
        add(&pixels.flatten_from(2)?, bias)
    }
}
