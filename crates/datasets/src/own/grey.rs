//! A PNG as grey pixels.
use std::io::Cursor;

use png::{BitDepth, ColorType, Decoder, Limits, Transformations};

/// Most bytes that decoding one image may take.
const MAX_BYTES: usize = 64 << 20;

/// Height, width and pixels; a reason where there are none.
pub(super) fn decode(png: &[u8]) -> Result<([usize; 2], Vec<u8>), String> {
    let mut decoder = Decoder::new_with_limits(Cursor::new(png), Limits { bytes: MAX_BYTES });
    decoder.set_transformations(Transformations::normalize_to_color8());
    let no_png = |error: png::DecodingError| format!("no PNG that can be read: {error}");
    let mut reader = decoder.read_info().map_err(no_png)?;
    if reader.info().bit_depth == BitDepth::Sixteen {
        return Err("16 bits a pixel; save it with 8".into());
    }
    let size = reader.output_buffer_size().filter(|size| *size <= MAX_BYTES);
    let mut bytes = vec![0; size.ok_or_else(|| format!("more than {MAX_BYTES} bytes of pixels"))?];
    let frame = reader.next_frame(&mut bytes).map_err(no_png)?;
    bytes.truncate(frame.buffer_size());
    let (colours, opacity) = match frame.color_type {
        ColorType::Grayscale => (1, 0),
        ColorType::GrayscaleAlpha => (1, 1),
        ColorType::Rgb => (3, 0),
        ColorType::Rgba => (3, 1),
        ColorType::Indexed => return Err("colours by index; save it as grey".into()),
    };
    let shape = [frame.height as usize, frame.width as usize];
    if colours + opacity == 1 {
        return Ok((shape, bytes));
    }
    let mut pixels = Vec::with_capacity(bytes.len() / (colours + opacity));
    for pixel in bytes.chunks_exact(colours + opacity) {
        let (colour, opacity) = pixel.split_at(colours);
        let [first, others @ ..] = colour else { continue };
        if others.iter().any(|other| other != first) {
            return Err("it is in colour; models here are of grey images, save it as grey".into());
        }
        if opacity.iter().any(|opacity| *opacity != 255) {
            return Err("it is not opaque; put it on a ground and save it as grey".into());
        }
        pixels.push(*first);
    }
    Ok((shape, pixels))
}
