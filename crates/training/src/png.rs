//! Grey images side by side, as PNG.
use crate::{Error, Result};

/// Each pixel becomes a square of this many pixels a side.
const SCALE: usize = 2;

/// Grey level between the images.
const BACKGROUND: u8 = 128;

/// Upper limit for the pixels of a grid, against a mistaken size.
const MAX_PIXELS: usize = 1 << 28;

/// Lays out grey images row by row in a grid and encodes it as an 8-bit PNG with equal bytes for equal
/// images.
///
/// `images` `[count, height, width]`, flat; 0 is black, 1 is white, values outside are clamped and NaN
/// is black. `columns` images a row, `padding` pixels around each, everything doubled in size.
///
/// An error if a size is zero, if `images` is not a whole number of images, or if the grid would have
/// more than 2²⁸ pixels.
///
/// ```
/// let two = [0.0, 0.5, 0.5, 1.0, 1.0, 0.5, 0.5, 0.0];
/// let png = gumbel_training::png::grid(&two, 2, 2, 2, 1)?;
/// assert!(png.starts_with(b"\x89PNG"));
/// # Ok::<(), gumbel_training::Error>(())
/// ```
pub fn grid(
    images: &[f32],
    height: usize,
    width: usize,
    columns: usize,
    padding: usize,
) -> Result<Vec<u8>> {
    let layout = Layout::new(images.len(), height, width, columns, padding).ok_or_else(|| {
        Error::Usage(format!(
            "{} values are no grid of {height} x {width} images, {columns} a row with padding \
             {padding}; give whole images and at most 2^28 pixels",
            images.len()
        ))
    })?;
    let mut pixels = vec![BACKGROUND; layout.width * layout.height];
    for (index, image) in images.chunks_exact(height * width).enumerate() {
        let top = padding + (index / columns) * (height + padding);
        let left = padding + (index % columns) * (width + padding);
        for (y, row) in image.chunks_exact(width).enumerate() {
            layout.paint(&mut pixels, (top + y) * SCALE, left * SCALE, row);
        }
    }
    encode(&pixels, layout.width, layout.height)
        .map_err(|error| Error::caller(70, format!("cannot encode a PNG: {error}")))
}

/// Size of the grid in pixels of the file.
struct Layout {
    height: usize,
    width: usize,
}

impl Layout {
    fn new(n: usize, height: usize, width: usize, columns: usize, padding: usize) -> Option<Self> {
        let area = height.checked_mul(width).filter(|area| *area > 0)?;
        if n == 0 || columns == 0 || !n.is_multiple_of(area) {
            return None;
        }
        let rows = (n / area).div_ceil(columns);
        let side = |images: usize, size: usize| {
            let pixels = images.checked_mul(size.checked_add(padding)?)?.checked_add(padding)?;
            pixels.checked_mul(SCALE)
        };
        let (height, width) = (side(rows, height)?, side(columns, width)?);
        (height.checked_mul(width)? <= MAX_PIXELS).then_some(Self { height, width })
    }

    /// Paints one row of an image `SCALE` times, from line `top` and column `left` of the file on.
    fn paint(&self, pixels: &mut [u8], top: usize, left: usize, row: &[f32]) {
        for line in pixels.chunks_exact_mut(self.width).skip(top).take(SCALE) {
            let squares = line.chunks_exact_mut(SCALE).skip(left / SCALE);
            for (square, value) in squares.zip(row) {
                // `as` saturates and turns NaN into 0.
                square.fill((value.clamp(0., 1.) * 255. + 0.5) as u8);
            }
        }
    }
}

fn encode(pixels: &[u8], width: usize, height: usize) -> Result<Vec<u8>, png::EncodingError> {
    let mut bytes = Vec::new();
    let side = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let mut encoder = png::Encoder::new(&mut bytes, side(width), side(height));
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Balanced);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(pixels)?;
    writer.finish()?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(bytes: &[u8]) -> (usize, usize, Vec<u8>) {
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        (info.width as usize, info.height as usize, pixels)
    }

    #[test]
    fn every_pixel_is_doubled_and_in_its_place() {
        // Three images of 1 x 2 in two columns: the last place stays empty.
        let images = [0., 1., 0.5, f32::NAN, 2., -3.];
        let (width, height, pixels) = decode(&grid(&images, 1, 2, 2, 1).unwrap());
        assert_eq!((width, height), (2 * (1 + 3 + 3), 2 * (1 + 2 + 2)));
        let at = |x: usize, y: usize| pixels[2 * y * width + 2 * x];
        let small: Vec<Vec<u8>> =
            (0..height / 2).map(|y| (0..width / 2).map(|x| at(x, y)).collect()).collect();
        let b = BACKGROUND;
        assert_eq!(small[0], [b; 7]);
        assert_eq!(small[1], [b, 0, 255, b, 128, 0, b]);
        assert_eq!(small[3], [b, 255, 0, b, b, b, b]);
        for y in 0..height {
            for x in 0..width {
                assert_eq!(pixels[y * width + x], at(x / 2, y / 2), "({x}, {y})");
            }
        }
    }

    #[test]
    fn equal_images_give_equal_bytes() {
        let images: Vec<f32> = (0..9 * 28 * 28).map(|i| (i % 97) as f32 / 96.).collect();
        assert_eq!(grid(&images, 28, 28, 3, 2).unwrap(), grid(&images, 28, 28, 3, 2).unwrap());
    }

    #[test]
    fn impossible_sizes_are_errors_and_nothing_is_allocated_for_them() {
        let images = [0.5; 12];
        for (height, width, columns, padding) in [
            (0, 2, 1, 0),
            (2, 0, 1, 0),
            (2, 2, 0, 0),
            (5, 2, 1, 0),
            (2, 2, 1, usize::MAX),
            (2, 2, usize::MAX, 1),
            (usize::MAX, 2, 1, 0),
            (2, 2, 1 << 20, 1 << 20),
        ] {
            let error = grid(&images, height, width, columns, padding).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{error}");
        }
        assert!(grid(&[], 2, 2, 1, 0).is_err());
    }
}
