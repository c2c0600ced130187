//! The IDX format of MNIST, as such or gzipped: a big-endian header, then bytes.
use std::io::Read;

use flate2::bufread::GzDecoder;
use gumbel_kernels::allocator::attempt;

/// First word of an IDX file of byte images: `[rows, height, width]`.
const IMAGES: u32 = 2051;
/// First word of an IDX file of byte labels: `[rows]`.
const LABELS: u32 = 2049;
/// First bytes of every gzip stream.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// What is wrong with the bytes of an IDX file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdxError {
    /// The file ends early.
    #[error("truncated: {wanted} bytes of {part} expected, {found} found")]
    Truncated {
        /// The part of the file that is incomplete.
        part: &'static str,
        /// Bytes that the part has.
        wanted: usize,
        /// Bytes that were there.
        found: usize,
    },
    /// There is something after the end.
    #[error("more bytes than the header promises: remove what follows the data")]
    Trailing,
    /// The first word is not that of the kind of file asked for.
    #[error("the file starts with the number {found}, an IDX file of {kind} starts with {wanted}")]
    Magic {
        /// `"images"` or `"labels"`.
        kind: &'static str,
        /// The first word of such a file.
        wanted: u32,
        /// The first word of this file.
        found: u32,
    },
    /// A dimension is zero.
    #[error("dimension {axis} of the header is 0")]
    Empty {
        /// The number of the dimension, from 0.
        axis: usize,
    },
    /// The header promises more than may be read.
    #[error("the header promises {found} bytes of data, at most {limit} are allowed here")]
    TooLarge {
        /// The product of the dimensions.
        found: u128,
        /// The most that the caller allows.
        limit: usize,
    },
    /// The gzip stream does not decompress.
    #[error("damaged gzip stream: {0}")]
    Gzip(String),
    /// The data do not fit into memory.
    #[error("no memory for {0} bytes")]
    Memory(usize),
}

/// Images: `rows * height * width` bytes, row-major, one byte per pixel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdxImages {
    /// Number of images.
    pub rows: usize,
    /// Number of pixel rows of an image.
    pub height: usize,
    /// Number of pixels in a pixel row.
    pub width: usize,
    /// The pixels, 0 to 255.
    pub pixels: Vec<u8>,
}

/// Reads an IDX file of images, gzipped or not, of at most `limit` bytes of pixels.
///
/// Anything but exactly what the header promises is an error, and memory is taken as the data comes.
pub fn images(bytes: &[u8], limit: usize) -> Result<IdxImages, IdxError> {
    let ([rows, height, width], pixels) = read(bytes, "images", IMAGES, limit)?;
    Ok(IdxImages { rows, height, width, pixels })
}

/// Reads an IDX file of labels, gzipped or not, of at most `limit` labels.
pub fn labels(bytes: &[u8], limit: usize) -> Result<Vec<u8>, IdxError> {
    let ([_], labels) = read(bytes, "labels", LABELS, limit)?;
    Ok(labels)
}

/// Bytes that are made room for before any of them is seen.
const FIRST: usize = 1 << 20;

/// The dimensions and the data of an IDX file with `R` dimensions.
fn read<const R: usize>(
    bytes: &[u8],
    kind: &'static str,
    magic: u32,
    limit: usize,
) -> Result<([usize; R], Vec<u8>), IdxError> {
    if !bytes.starts_with(&GZIP) {
        return parse(&mut { bytes }, kind, magic, limit);
    }
    let mut decoder = GzDecoder::new(bytes);
    let parsed = parse(&mut decoder, kind, magic, limit)?;
    // A second gzip member would be a continuation for `gzip -d`; here it is one thing too many.
    if decoder.into_inner().is_empty() { Ok(parsed) } else { Err(IdxError::Trailing) }
}

fn parse<const R: usize>(
    reader: &mut impl Read,
    kind: &'static str,
    magic: u32,
    limit: usize,
) -> Result<([usize; R], Vec<u8>), IdxError> {
    let mut dims = [0; R];
    let found = word(reader)?;
    if found != magic {
        return Err(IdxError::Magic { kind, wanted: magic, found });
    }
    let mut product = 1_u128;
    for (axis, dim) in dims.iter_mut().enumerate() {
        let size = word(reader)?;
        if size == 0 {
            return Err(IdxError::Empty { axis });
        }
        // At most three factors below 2^32: no overflow.
        product *= u128::from(size);
        *dim = size as usize;
    }
    let size = usize::try_from(product)
        .ok()
        .filter(|size| *size <= limit)
        .ok_or(IdxError::TooLarge { found: product, limit })?;
    // No more than a part at first: a header of some bytes may promise gigabytes that do not come.
    let mut data = Vec::new();
    attempt(|| data.try_reserve_exact(size.min(FIRST))).map_err(|_| IdxError::Memory(size))?;
    fill(reader, size, &mut data)?;
    if data.len() < size {
        return Err(IdxError::Truncated { part: "data", wanted: size, found: data.len() });
    }
    // Reading one byte more also makes the decoder check the checksum at the end of the stream.
    if fill(reader, 1, &mut Vec::new())? > 0 {
        return Err(IdxError::Trailing);
    }
    Ok((dims, data))
}

/// The next big-endian word of a header.
fn word(reader: &mut impl Read) -> Result<u32, IdxError> {
    let mut bytes = Vec::with_capacity(4);
    fill(reader, 4, &mut bytes)?;
    let found = bytes.len();
    let word = bytes.try_into().map_err(|_| IdxError::Truncated {
        part: "a header word",
        wanted: 4,
        found,
    })?;
    Ok(u32::from_be_bytes(word))
}

/// Appends at most `limit` bytes, and says how many there were.
fn fill(reader: &mut impl Read, limit: usize, out: &mut Vec<u8>) -> Result<usize, IdxError> {
    let fault = |error: std::io::Error| IdxError::Gzip(error.to_string());
    reader.take(limit as u64).read_to_end(out).map_err(fault)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;

    use super::*;

    fn file(magic: u32, dims: &[u32], data: &[u8]) -> Vec<u8> {
        let header = std::iter::once(&magic).chain(dims).flat_map(|word| word.to_be_bytes());
        header.chain(data.iter().copied()).collect()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn plain_and_gzipped_files_read_the_same() {
        let plain = file(IMAGES, &[2, 1, 3], &[1, 2, 3, 4, 5, 6]);
        let read = images(&plain, 6).unwrap();
        assert_eq!((read.rows, read.height, read.width), (2, 1, 3));
        assert_eq!(read.pixels, [1, 2, 3, 4, 5, 6]);
        assert_eq!(images(&gzip(&plain), 6).unwrap(), read);
        assert_eq!(labels(&file(LABELS, &[2], &[7, 8]), 2).unwrap(), [7, 8]);
    }

    #[test]
    fn each_fault_is_named() {
        let good = file(IMAGES, &[2, 1, 3], &[0; 6]);
        let short = IdxError::Truncated { part: "data", wanted: 6, found: 5 };
        assert_eq!(images(&good[..21], 6), Err(short));
        let header = IdxError::Truncated { part: "a header word", wanted: 4, found: 2 };
        assert_eq!(images(&good[..6], 6), Err(header));
        assert_eq!(images(&[&good[..], &[0]].concat(), 6), Err(IdxError::Trailing));
        assert_eq!(images(&gzip(&[&good[..], &[0]].concat()), 6), Err(IdxError::Trailing));
        assert_eq!(images(&[gzip(&good), vec![0]].concat(), 6), Err(IdxError::Trailing));
        assert_eq!(images(&[gzip(&good), gzip(&good)].concat(), 6), Err(IdxError::Trailing));
        let magic = IdxError::Magic { kind: "labels", wanted: LABELS, found: IMAGES };
        assert_eq!(labels(&good, 6), Err(magic));
        let empty = IdxError::Empty { axis: 1 };
        assert_eq!(images(&file(IMAGES, &[2, 0, 3], &[]), 6), Err(empty));
        let cut = gzip(&good);
        assert!(matches!(images(&cut[..cut.len() - 1], 6), Err(IdxError::Gzip(_))));
        let mut wrong_sum = gzip(&good);
        let sum = wrong_sum.len() - 8;
        wrong_sum[sum] ^= 1;
        assert!(matches!(images(&wrong_sum, 6), Err(IdxError::Gzip(_))));
    }

    #[test]
    fn a_header_that_promises_too_much_is_refused_before_allocation() {
        let limit = 1 << 20;
        let huge = file(IMAGES, &[u32::MAX; 3], &[0; 100]);
        let found = u128::from(u32::MAX).pow(3);
        assert_eq!(images(&huge, limit), Err(IdxError::TooLarge { found, limit }));
        // A gzip bomb: the header is honest, the stream goes on for 64 MiB.
        let mut bomb = file(LABELS, &[4], &[0; 4]);
        bomb.resize(64 << 20, 0);
        assert_eq!(labels(&gzip(&bomb), limit), Err(IdxError::Trailing));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn any_bytes_give_an_error_or_what_the_header_says(
            dims in proptest::array::uniform3(0_u32..5),
            data in proptest::collection::vec(any::<u8>(), 0..80),
            zipped: bool,
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            keep in 0_usize..200,
        ) {
            let mut bytes = file(IMAGES, &dims, &data);
            if zipped {
                bytes = gzip(&bytes);
            }
            for (index, value) in changes {
                let at = index.index(bytes.len());
                bytes[at] = value;
            }
            bytes.truncate(keep);
            if let Ok(read) = images(&bytes, 64) {
                prop_assert!(read.pixels.len() <= 64);
                prop_assert_eq!(read.pixels.len(), read.rows * read.height * read.width);
            }
            let _ = labels(&bytes, 64);
        }

        #[test]
        fn what_was_written_is_read(rows in 1_u32..5, side in 1_u32..5, zipped: bool, seed: u8) {
            let data: Vec<u8> = (0..rows * side * side).map(|i| (i as u8).wrapping_mul(seed)).collect();
            let plain = file(IMAGES, &[rows, side, side], &data);
            let bytes = if zipped { gzip(&plain) } else { plain };
            prop_assert_eq!(images(&bytes, 64).unwrap().pixels, data);
        }
    }
}
