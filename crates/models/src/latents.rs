//! A layer of discrete latents: what its law is made of, and what networks see of its draws.
use candle_core::{D, DType, Device, Result, Tensor};
use gumbel::distributions::{Bernoulli, Categorical, Discrete};
use serde::{Deserialize, Serialize};

/// What a variable is to the networks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Coding {
    /// 0 or 1 of a bit, a one-hot vector of a category, as in Jang et al. (2017).
    #[default]
    Bits,
    /// A corner of the hypercube `{-1, 1}^{log₂ K}`, as in Maddison et al. (2017), section 5.1: -1 or 1 of a bit, and
    /// of a category the signs of the binary digits of its number, for which `K` has to be a power of two.
    Signs,
}

/// Units of one layer above which a size is taken for a mistake.
const MOST_UNITS: usize = 1 << 20;

/// What is wrong with the sizes of layers, if anything: key, value, what to do.
pub(crate) fn check_units<'a>(
    layers: impl IntoIterator<Item = (&'static str, &'a [usize])>,
) -> std::result::Result<(), String> {
    for (key, layers) in layers {
        if let Some(units) = layers.iter().find(|units| !(1..=MOST_UNITS).contains(*units)) {
            return Err(format!("{key} has a layer of {units} units; use 1 to {MOST_UNITS}"));
        }
    }
    Ok(())
}

/// Layers of latents above which their number is taken for a mistake.
const MOST_LAYERS: usize = 64;

/// What is wrong with a number of layers of latents, if anything.
pub(crate) fn check_layers(layers: usize) -> std::result::Result<(), String> {
    if (1..=MOST_LAYERS).contains(&layers) {
        return Ok(());
    }
    Err(format!("layers is {layers}; use 1 to {MOST_LAYERS}"))
}

/// The logits of pixels with these means, clipped to `[0.001, 0.999]`.
pub(crate) fn base_rate_logits(mean: &Tensor) -> Result<Tensor> {
    let rate = mean.clamp(0.001, 0.999)?;
    rate.log()? - (1. - rate)?.log()?
}

/// An error unless images `x: [.., D]` have the pixels of `mean: [D]`.
pub(crate) fn check_pixels(x: &Tensor, mean: &Tensor) -> Result<()> {
    let d = mean.dim(0)?;
    if x.dim(D::Minus1)? == d {
        return Ok(());
    }
    candle_core::bail!("the model is for images of {d} pixels, got {:?}", x.shape())
}

/// `N` variables of `K` values; bits in logistic form where `K` is 2.
#[derive(Clone, Debug)]
pub(crate) struct Latents {
    variables: usize,
    categories: usize,
    coding: Coding,
    /// `[K, log₂ K]`: the codes of the categories, where they are not one-hot vectors.
    corners: Option<Tensor>,
}

impl Latents {
    /// What is wrong with the sizes, if anything.
    pub(crate) fn check(
        variables: usize,
        categories: usize,
        coding: Coding,
    ) -> std::result::Result<(), String> {
        if categories < 2 {
            return Err(format!("categories is {categories}; use at least 2"));
        }
        if coding == Coding::Signs && !categories.is_power_of_two() {
            return Err(format!(
                "categories is {categories}; coding = \"signs\" needs a power of two"
            ));
        }
        let units = variables.checked_mul(if categories == 2 { 1 } else { categories });
        check_units([("latents × categories", &[units.unwrap_or(usize::MAX)][..])])
    }

    /// # Errors
    /// Those of [`Self::check`].
    pub(crate) fn new(
        variables: usize,
        categories: usize,
        coding: Coding,
        (dtype, device): (DType, &Device),
    ) -> Result<Self> {
        Self::check(variables, categories, coding).map_err(candle_core::Error::msg)?;
        let wide = coding == Coding::Signs && categories > 2;
        let corners = wide.then(|| corners(categories)?.to_dtype(dtype)?.to_device(device));
        Ok(Self { variables, categories, coding, corners: corners.transpose()? })
    }

    /// Numbers that the logits of the layer have: `N` of bits, `N · K` of categories.
    pub(crate) fn logits(&self) -> usize {
        if self.categories == 2 { self.variables } else { self.variables * self.categories }
    }

    /// Numbers that networks see of a draw.
    pub(crate) fn width(&self) -> usize {
        match self.coding {
            Coding::Bits => self.logits(),
            Coding::Signs => self.variables * self.categories.ilog2() as usize,
        }
    }

    /// The shape of one set of logits: `[1, 1, N]` or `[1, 1, N, K]`.
    pub(crate) fn shape(&self) -> Vec<usize> {
        let Self { variables: n, categories: k, .. } = *self;
        if k == 2 { vec![1, 1, n] } else { vec![1, 1, n, k] }
    }

    /// The law with the logits `[S, B, N]`, or `[S, B, N · K]` in any grouping of the last axes.
    pub(crate) fn law(&self, logits: &Tensor) -> Result<Discrete> {
        if self.categories == 2 {
            return Ok(Discrete::from(&Bernoulli::from_logits(logits)?));
        }
        let (s, b) = (logits.dim(0)?, logits.dim(1)?);
        let logits = logits.reshape((s, b, self.variables, self.categories))?;
        Ok(Discrete::from(&Categorical::from_logits(&logits)?))
    }

    /// What networks see of draws `[S, B, N]` or `[S, B, N, K]`: `[S, B, width]`.
    pub(crate) fn code(&self, z: &Tensor) -> Result<Tensor> {
        match (&self.corners, self.coding) {
            (Some(corners), _) => z.broadcast_matmul(corners)?.flatten_from(2),
            (None, Coding::Signs) => z.affine(2., -1.),
            (None, Coding::Bits) => z.flatten_from(2),
        }
    }
}

/// `[K, log₂ K]`: the corner of the hypercube that each category is, the last digit first.
fn corners(categories: usize) -> Result<Tensor> {
    let digits = categories.ilog2();
    let sign = |category: usize, digit: u32| if category >> digit & 1 == 1 { 1f32 } else { -1. };
    let corners: Vec<f32> = (0..categories)
        .flat_map(|category| (0..digits).map(move |digit| sign(category, digit)))
        .collect();
    Tensor::from_vec(corners, (categories, digits as usize), &Device::Cpu)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corners_are_all_signs_and_no_two_alike() -> Result<()> {
        let corners = corners(8)?;
        assert_eq!(corners.dims(), [8, 3]);
        let corners = corners.to_vec2::<f32>()?;
        assert_eq!((&corners[0][..], &corners[6][..]), (&[-1., -1., -1.][..], &[-1., 1., 1.][..]));
        for (i, a) in corners.iter().enumerate() {
            assert!(a.iter().all(|x| x.abs() == 1.) && corners[..i].iter().all(|b| a != b));
        }
        Ok(())
    }

    #[test]
    fn codes_have_the_width_that_is_promised() -> Result<()> {
        let cpu = (DType::F32, &Device::Cpu);
        for (k, coding, width) in [
            (2, Coding::Bits, 3),
            (2, Coding::Signs, 3),
            (8, Coding::Bits, 24),
            (8, Coding::Signs, 9),
            (6, Coding::Bits, 18),
        ] {
            let latents = Latents::new(3, k, coding, cpu)?;
            let law = latents.law(&Tensor::zeros((1, 2, latents.logits()), DType::F32, cpu.1)?)?;
            let z = law.sample(4, gumbel::Key::from_seed(1))?;
            let code = latents.code(&z)?;
            assert_eq!((code.dims(), latents.width()), (&[4, 2, width][..], width));
        }
        Ok(())
    }
}
