//! Convolution of images whose channels come last, as a matrix product with their patches.
use candle_core::{Result, Tensor};

use crate::graph::{compute, fusible, node};
use crate::rows::make_rows;
use crate::{Activation, Real, in_single, linear, linear_with_activation};

/// A square window that slides over an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Side in pixels.
    pub size: usize,
    /// Pixels from one position to the next.
    pub stride: usize,
    /// Zeros that the image is framed with, on each side.
    pub padding: usize,
}

impl Window {
    /// Number of positions along a side of `pixels`.
    ///
    /// With the frame at both ends:
    ///
    /// ```math
    /// \Bigl\lfloor \frac{\mathrm{pixels} + 2\, \mathrm{padding} - \mathrm{size}}{\mathrm{stride}} \Bigr\rfloor + 1
    /// ```
    ///
    /// # Errors
    /// If the window is larger than the framed image, or its size or stride is 0.
    pub fn positions(&self, pixels: usize) -> Result<usize> {
        let framed = self.padding.checked_mul(2).and_then(|frame| frame.checked_add(pixels));
        match framed.and_then(|framed| framed.checked_sub(self.size)) {
            Some(room) if self.size > 0 && self.stride > 0 => Ok(room / self.stride + 1),
            _ => candle_core::bail!("{self:?} has no place along a side of {pixels} pixels"),
        }
    }

    /// The part of the image under the window at a position along a side: its first pixel, the first of the window's
    /// that lies on it, and how many do.
    fn overlap(&self, position: usize, pixels: usize) -> (usize, usize, usize) {
        let start = position * self.stride;
        let skipped = self.padding.saturating_sub(start).min(self.size);
        let first = (start + skipped).saturating_sub(self.padding);
        (first, skipped, (self.size - skipped).min(pixels.saturating_sub(first)))
    }
}

/// Convolution (cross-correlation) of images, with its nonlinearity.
///
/// `x: [.., H, W, C]`, `weight: [O, size · size · C]` (rows of the window, its columns, channels), `bias: [O]` →
/// `[.., H', W', O]`. Differentiable in all three.
///
/// # Errors
/// If the shapes do not fit, or the window has no place on the image.
pub fn conv2d(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    window: Window,
    activation: Activation,
) -> Result<Tensor> {
    linear_with_activation(&unfold(x, window)?, weight, bias, activation)
}

/// Transposed convolution: the map whose matrix is the transpose of that of [`conv2d`], to images of `H · W` pixels.
///
/// `x: [.., H', W', I]`, `weight: [size · size · O, I]` → `[.., H, W, O]`, without a bias. Differentiable.
///
/// # Errors
/// If the shapes do not fit: `H'` and `W'` have to be the window's positions on the image.
pub fn conv_transpose2d(
    x: &Tensor,
    weight: &Tensor,
    image: (usize, usize),
    window: Window,
) -> Result<Tensor> {
    let bias = Tensor::zeros(weight.dim(0)?, weight.dtype(), weight.device())?;
    fold(&linear(x, weight, &bias)?, image, window)
}

/// Sizes of a slide over images: of an image, and of its patches.
#[derive(Clone, Copy)]
struct Slide {
    window: Window,
    image: [usize; 3],
    patches: [usize; 3],
}

impl Slide {
    fn new(window: Window, [height, width, channels]: [usize; 3]) -> Result<Self> {
        let sides = [window.positions(height)?, window.positions(width)?];
        let patch = window.size.checked_pow(2).and_then(|area| area.checked_mul(channels));
        let Some(patch) = patch else { candle_core::bail!("{window:?} is too large") };
        Ok(Self { window, image: [height, width, channels], patches: [sides[0], sides[1], patch] })
    }

    /// Calls `f(place in the image, place in the patches, numbers)` for each run that both have in a row.
    #[inline(always)]
    fn runs(&self, mut f: impl FnMut(usize, usize, usize)) {
        let ([height, width, channels], [rows, columns, patch]) = (self.image, self.patches);
        for row in 0..rows {
            let (top, skipped_rows, here) = self.window.overlap(row, height);
            for column in 0..columns {
                let (left, skipped, run) = self.window.overlap(column, width);
                let start = (row * columns + column) * patch;
                for line in 0..here {
                    let to = (skipped_rows + line) * self.window.size + skipped;
                    let from = (top + line) * width + left;
                    f(from * channels, start + to * channels, run * channels);
                }
            }
        }
    }
}

/// The last three sizes of a tensor, and those before them.
fn split<'a>(x: &'a Tensor, name: &str) -> Result<(&'a [usize], [usize; 3])> {
    match x.dims() {
        [leading @ .., height, width, channels] => Ok((leading, [*height, *width, *channels])),
        dims => candle_core::bail!("{name}: expected [.., height, width, channels], got {dims:?}"),
    }
}

/// The patches under a window: `x: [.., H, W, C]` → `[.., H', W', size · size · C]`. Differentiable; its gradient is
/// [`fold`].
///
/// # Errors
/// If `x` has fewer than three axes, or the window has no place on it.
pub fn unfold(x: &Tensor, window: Window) -> Result<Tensor> {
    let (leading, image) = split(x, "unfold")?;
    let slide = Slide::new(window, image)?;
    if !fusible([x]) {
        return reference_unfold(x, window);
    }
    let shape = [leading, &slide.patches].concat();
    let [count, from, to] = [leading, &slide.image, &slide.patches].map(numbers);
    in_single([x], |[x]| {
        let y = compute!("unfold", shape, T, |x| {
            make_rows(count, to, to, |first, y: &mut [T]| {
                // An image without a pixel has no patch either.
                let images = x[first * from..].chunks_exact(from.max(1));
                for (y, x) in y.chunks_exact_mut(to.max(1)).zip(images) {
                    slide.runs(|i, j, n| y[j..j + n].copy_from_slice(&x[i..i + n]));
                }
                Ok(())
            })?
        });
        node("unfold", [x], y, move |_, _, g| {
            Ok([Some(fold(g, (slide.image[0], slide.image[1]), window)?)])
        })
    })
}

/// The sum of patches where they lie on an image: `[.., H', W', size · size · C]` → `[.., H, W, C]`. Differentiable; its
/// gradient is [`unfold`].
///
/// # Errors
/// If there are not as many patches as the window has positions, or they are no patches of that window.
pub fn fold(patches: &Tensor, image: (usize, usize), window: Window) -> Result<Tensor> {
    let slide = slide_of(patches, image, window)?;
    if !fusible([patches]) {
        return reference_fold(patches, image, window);
    }
    let (leading, _) = split(patches, "fold")?;
    let shape = [leading, &slide.image].concat();
    let [count, to, from] = [leading, &slide.image, &slide.patches].map(numbers);
    in_single([patches], |[patches]| {
        let y = compute!("fold", shape, T, |patches| {
            make_rows(count, to, from, |first, y: &mut [T]| {
                let patches = patches[first * from..].chunks_exact(from.max(1));
                for (y, patches) in y.chunks_exact_mut(to.max(1)).zip(patches) {
                    slide.runs(|i, j, n| add_to::<T>(&patches[j..j + n], &mut y[i..i + n]));
                }
                Ok(())
            })?
        });
        node("fold", [patches], y, move |_, _, g| Ok([Some(unfold(g, window)?)]))
    })
}

fn numbers(dims: &[usize]) -> usize {
    dims.iter().product()
}

#[inline(always)]
fn add_to<T: Real>(x: &[T], y: &mut [T]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += *x;
    }
}

/// The slide that `patches` are from.
fn slide_of(patches: &Tensor, image: (usize, usize), window: Window) -> Result<Slide> {
    let (_, found) = split(patches, "fold")?;
    let area = window.size.saturating_mul(window.size).max(1);
    let slide = Slide::new(window, [image.0, image.1, found[2] / area])?;
    if slide.patches != found {
        candle_core::bail!(
            "fold: {window:?} on {image:?} pixels has patches {:?}, got {:?}",
            slide.patches,
            patches.shape()
        )
    }
    Ok(slide)
}

/// For each offset within the window, the rows and the columns of the framed image at all positions.
fn offsets(slide: &Slide, like: &Tensor) -> Result<Vec<[Tensor; 2]>> {
    let Window { size, stride, .. } = slide.window;
    let along = |offset: usize, positions: usize| {
        let all: Vec<u32> = (0..positions).map(|p| (p * stride + offset) as u32).collect();
        Tensor::from_vec(all, positions, like.device())
    };
    let [rows, columns, _] = slide.patches;
    (0..size * size).map(|o| Ok([along(o / size, rows)?, along(o % size, columns)?])).collect()
}

/// The twin of [`unfold`] from plain candle operations.
pub fn reference_unfold(x: &Tensor, window: Window) -> Result<Tensor> {
    let slide = Slide::new(window, split(x, "unfold")?.1)?;
    let (h, frame) = (x.rank() - 3, window.padding);
    let framed = x.pad_with_zeros(h, frame, frame)?.pad_with_zeros(h + 1, frame, frame)?;
    let parts = offsets(&slide, x)?
        .into_iter()
        .map(|[rows, columns]| framed.index_select(&rows, h)?.index_select(&columns, h + 1));
    Tensor::cat(&parts.collect::<Result<Vec<_>>>()?, h + 2)
}

/// The twin of [`fold`] from plain candle operations.
pub fn reference_fold(patches: &Tensor, image: (usize, usize), window: Window) -> Result<Tensor> {
    let slide = slide_of(patches, image, window)?;
    let (h, frame, channels) = (patches.rank() - 3, 2 * window.padding, slide.image[2]);
    let zeros = |dims: &[usize]| Tensor::zeros(dims, patches.dtype(), patches.device());
    let leading = &patches.dims()[..h];
    let mut framed = zeros(&[leading, &[image.0 + frame, image.1 + frame, channels]].concat())?;
    for (index, [rows, columns]) in offsets(&slide, patches)?.iter().enumerate() {
        let part = patches.narrow(h + 2, index * channels, channels)?.contiguous()?;
        let lines = zeros(&[leading, &[slide.patches[0], image.1 + frame, channels]].concat())?;
        framed = framed.index_add(rows, &lines.index_add(columns, &part, h + 1)?, h)?;
    }
    framed.narrow(h, window.padding, image.0)?.narrow(h + 1, window.padding, image.1)
}

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use super::*;
    use crate::check::{finite_differences, irregular, twins};

    fn window(size: usize, stride: usize, padding: usize) -> Window {
        Window { size, stride, padding }
    }

    #[test]
    fn fused_equals_reference_in_value_and_gradient() -> Result<()> {
        for (shape, window, dtype, tolerance) in [
            (vec![2, 5, 6, 3], window(3, 2, 1), DType::F64, 1e-12),
            (vec![2, 2, 7, 4, 1], window(4, 1, 2), DType::F64, 1e-12),
            (vec![3, 3, 2], window(1, 3, 0), DType::F64, 1e-12),
            (vec![1, 1, 2], window(5, 2, 3), DType::F64, 1e-12),
            (vec![70, 14, 14, 8], window(4, 2, 1), DType::F32, 1e-5),
        ] {
            let x = irregular(&shape, 1, dtype)?;
            twins(
                std::slice::from_ref(&x),
                tolerance,
                |x| unfold(&x[0], window),
                |x| reference_unfold(&x[0], window),
            )?;
            let image = (shape[shape.len() - 3], shape[shape.len() - 2]);
            let patches = irregular(unfold(&x, window)?.dims(), 2, dtype)?;
            twins(
                &[patches],
                tolerance,
                |x| fold(&x[0], image, window),
                |x| reference_fold(&x[0], image, window),
            )?;
        }
        let x = irregular(&[2, 3, 4, 2], 3, DType::F64)?;
        finite_differences(&[x], |x| unfold(&x[0], window(2, 2, 1)))
    }

    /// Candle has the channels first.
    #[test]
    fn convolution_and_its_transpose_are_those_of_candle() -> Result<()> {
        let (c, o, window) = (3, 4, window(4, 2, 1));
        let x = irregular(&[5, 8, 6, c], 1, DType::F64)?;
        let weight = irregular(&[o, 4, 4, c], 2, DType::F64)?;
        let bias = irregular(&[o], 3, DType::F64)?;
        let y = conv2d(&x, &weight.flatten_from(1)?, &bias, window, Activation::Relu)?;
        let first = |x: &Tensor| x.permute((0, 3, 1, 2))?.contiguous();
        let theirs = first(&x)?.conv2d(&first(&weight)?, 1, 2, 1, 1)?;
        let theirs = theirs.broadcast_add(&bias.reshape((1, o, 1, 1))?)?.relu()?;
        let distance = |a: &Tensor, b: &Tensor| (a - b)?.abs()?.max_all()?.to_scalar::<f64>();
        assert!(distance(&first(&y)?, &theirs)? < 1e-12);

        let matrix = weight.flatten_from(1)?.t()?.contiguous()?; // [16 C, O]
        let back = conv_transpose2d(&y, &matrix, (8, 6), window)?;
        let theirs = first(&y)?.conv_transpose2d(&first(&weight)?, 1, 0, 2, 1)?;
        assert!(distance(&first(&back)?, &theirs)? < 1e-12);
        Ok(())
    }

    #[test]
    fn what_does_not_fit_is_an_error_that_says_so() -> Result<()> {
        let x = irregular(&[2, 3, 4, 2], 1, DType::F32)?;
        for window in [window(0, 1, 1), window(2, 0, 0), window(4, 1, 0), window(9, 1, usize::MAX)]
        {
            let error = unfold(&x, window).unwrap_err().to_string();
            assert!(error.contains("has no place along a side of 3 pixels"), "{error}");
        }
        let patches = unfold(&x, window(2, 1, 0))?;
        let error = fold(&patches, (3, 5), window(2, 1, 0)).unwrap_err().to_string();
        assert!(error.contains("[2, 4, 8]") && error.contains("[2, 2, 3, 8]"), "{error}");
        assert!(fold(&patches.narrow(3, 0, 7)?, (3, 4), window(2, 1, 0)).is_err());
        assert!(unfold(&x.flatten_all()?, window(1, 1, 0)).is_err());
        Ok(())
    }
}
