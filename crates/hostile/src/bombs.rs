//! Files that lie about their size.
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

/// A small file that says, or becomes when it is unpacked, a large one.
#[derive(Clone, Debug)]
pub struct Bomb {
    /// What it is.
    pub name: &'static str,
    /// The format that it is read as.
    pub format: &'static str,
    /// Whether it holds what it says, and is only large.
    pub valid: bool,
    /// The file.
    pub bytes: Vec<u8>,
}

fn big_endian(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// The header of an IDX file of so many images of 28 × 28, packed together with `gibibytes` of nothing.
fn packed(images: u32, gibibytes: usize) -> std::io::Result<Vec<u8>> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::best());
    packer.write_all(&big_endian(&[0x803, images, 28, 28]))?;
    let nothing = vec![0; 1 << 20];
    for _ in 0..gibibytes << 10 {
        packer.write_all(&nothing)?;
    }
    packer.finish()
}

/// A header of safetensors with `count` tensors that have no elements.
fn many_tensors(count: usize) -> Vec<u8> {
    let entry = |i| format!(r#""{i}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}"#);
    let header = format!("{{{}}}", (0..count).map(entry).collect::<Vec<_>>().join(","));
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat()
}

/// All of them; the packed ones hold `gibibytes`.
///
/// # Errors
/// If one cannot be packed.
pub fn bombs(gibibytes: usize) -> std::io::Result<Vec<Bomb>> {
    let bomb = |name, format, bytes| Bomb { name, format, valid: false, bytes };
    let mut parquet = include_bytes!("../seeds/parquet/hub").to_vec();
    let footer = parquet.len().saturating_sub(8);
    // The length of the footer stands before the four bytes at the end.
    parquet
        .iter_mut()
        .skip(footer)
        .zip(0x7fff_ffff_u32.to_le_bytes())
        .for_each(|(b, new)| *b = new);
    // A PNG of 2^31-1 x 2^31-1 pixels whose first chunk has the right sum.
    let mut png = include_bytes!("../seeds/png/grey").to_vec();
    let put = |png: &mut Vec<u8>, at: usize, bytes: &[u8]| {
        png.iter_mut().skip(at).zip(bytes).for_each(|(b, new)| *b = *new);
    };
    put(&mut png, 16, &big_endian(&[0x7fff_ffff, 0x7fff_ffff]));
    let mut crc = flate2::Crc::new();
    crc.update(png.get(12..29).unwrap_or_default());
    put(&mut png, 29, &crc.sum().to_be_bytes());
    let long_header = [&(100_u64 << 20).to_le_bytes()[..], b"{}"].concat();
    let huge_tensor = {
        let header = r#"{"x":{"dtype":"F32","shape":[4294967295,4294967295],"data_offsets":[0,18446744065119617025]}}"#;
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat()
    };
    Ok(vec![
        bomb(
            "IDX of 2^32-1 images of 2^32-1 x 2^32-1",
            "idx-images",
            big_endian(&[0x803, u32::MAX, u32::MAX, u32::MAX]),
        ),
        bomb("IDX of 2^32-1 labels", "idx-labels", big_endian(&[0x801, u32::MAX])),
        bomb("IDX of images without pixels", "idx-images", big_endian(&[0x803, u32::MAX, 0, 0])),
        bomb("gzip that promises gibibytes", "idx-gz", packed(u32::MAX, 0)?),
        bomb("gzip that goes on for gibibytes", "idx-gz", packed(1, gibibytes)?),
        bomb("parquet whose footer is longer than the file", "parquet", parquet),
        bomb("PNG of 2^31-1 x 2^31-1 pixels", "png", png),
        bomb("safetensors with a header of 100 MiB that is not there", "safetensors", long_header),
        Bomb {
            valid: true,
            ..bomb("safetensors with 100,000 tensors", "safetensors", many_tensors(100_000))
        },
        bomb("safetensors with a tensor of 2^64 elements", "safetensors", huge_tensor),
        bomb("configuration of 2 MiB", "config", vec![b'#'; 2 << 20]),
        bomb(
            "configuration in 100,000 brackets",
            "config",
            ["x = ", &"[".repeat(100_000)].concat().into_bytes(),
        ),
        bomb(
            "metrics in 100,000 brackets",
            "metrics",
            ["{\"x\":", &"[".repeat(100_000), "\n{}\n"].concat().into_bytes(),
        ),
        bomb("state in 10,000 brackets", "state", "[".repeat(10_000).into_bytes()),
        bomb("tokenizer in 100,000 brackets", "tokenizer", "[".repeat(100_000).into_bytes()),
        bomb(
            "image of 100,000 brackets",
            "image-lines",
            ["{\"pixels\":", &"[".repeat(100_000)].concat().into_bytes(),
        ),
    ])
}
