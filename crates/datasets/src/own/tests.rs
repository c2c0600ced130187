//! Every kind of a user's own images, right and wrong.
use std::fs;

use flate2::{Compression, write::GzEncoder};

use super::*;

/// A PNG of 2x3 pixels: grey, or another kind.
fn png(first: u8, colour: png::ColorType) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 3, 2);
    encoder.set_color(colour);
    encoder.set_depth(png::BitDepth::Eight);
    let data = vec![first; 6 * colour.samples()];
    encoder.write_header().unwrap().write_image_data(&data).unwrap();
    bytes
}

pub(crate) fn grey_png(first: u8) -> Vec<u8> {
    png(first, png::ColorType::Grayscale)
}

fn put(root: &Path, name: &str, bytes: &[u8]) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn idx(magic: u32, dims: &[u32], data: &[u8]) -> Vec<u8> {
    let words = [&[magic], dims].concat();
    [words.iter().flat_map(|word| word.to_be_bytes()).collect(), data.to_vec()].concat()
}

/// First pixel of each image.
fn firsts(images: &Images) -> Vec<u8> {
    images.pixels().chunks(images.dim()).map(|image| image[0]).collect()
}

fn refused(path: &Path) -> String {
    let error = load_own(path).unwrap_err();
    assert!(matches!(error.exit_code(), 2 | 65), "{error}");
    error.to_string()
}

#[test]
fn folders_of_png_with_splits_and_classes() {
    let root = tempfile::tempdir().unwrap();
    for (name, pixel) in [("train/b/1.png", 10), ("train/b/0.PNG", 11), ("train/c/x.png", 12)] {
        put(root.path(), name, &grey_png(pixel));
    }
    put(root.path(), "val/c/0.png", &png(13, png::ColorType::Rgb));
    put(root.path(), "Test/a/0.png", &grey_png(14));
    put(root.path(), "train/b/notes.txt", b"not an image");
    put(root.path(), "train/.hidden/0.png", b"");
    let [train, valid, test] = load_own(root.path()).unwrap();
    assert_eq!((train.height(), train.width(), firsts(&train)), (2, 3, vec![11, 10, 12]));
    // The classes of all splits together are a, b, c.
    assert_eq!(train.labels(), Some(&[1, 1, 2][..]));
    assert_eq!((firsts(&valid), valid.labels()), (vec![13], Some(&[2][..])));
    assert_eq!((firsts(&test), test.labels()), (vec![14], Some(&[0][..])));
    assert!(train.identity().starts_with("own/train rows=3 size=2x3 sha256="));
    assert_eq!(train.classes(), Some(3));
    // It may be more test images, which must not be trained on.
    put(root.path(), "holdout/a/0.png", &grey_png(15));
    assert!(refused(root.path()).contains("holdout"));
}

#[test]
fn without_splits_a_tenth_is_held_out_the_same_each_time() {
    let root = tempfile::tempdir().unwrap();
    for i in 0..30 {
        put(root.path(), &format!("{i:02}.png"), &grey_png(i));
    }
    let all = load_own(root.path()).unwrap();
    assert_eq!(all.each_ref().map(Images::len), [25, 2, 3]);
    assert_eq!(all[0].labels(), None);
    let mut together: Vec<u8> = all.iter().flat_map(firsts).collect();
    assert_ne!(firsts(&all[2]), [27, 28, 29]);
    together.sort_unstable();
    assert_eq!(together, (0..30).collect::<Vec<u8>>());
    let again = load_own(root.path()).unwrap();
    assert_eq!(firsts(&all[1]), firsts(&again[1]));
    assert_eq!(all[0].identity(), again[0].identity());
}

#[test]
fn idx_files_gzipped_or_not() {
    use std::io::Write;
    let root = tempfile::tempdir().unwrap();
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(&idx(0x803, &[10, 1, 2], &[7; 20])).unwrap();
    put(root.path(), "train-images-idx3-ubyte.gz", &gzip.finish().unwrap());
    put(
        root.path(),
        "train-labels-idx1-ubyte",
        &idx(0x801, &[10], &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
    );
    put(root.path(), "t10k-images-idx3-ubyte", &idx(0x803, &[1, 1, 2], &[8, 9]));
    put(root.path(), "t10k-labels-idx1-ubyte", &idx(0x801, &[1], &[4]));
    let [train, valid, test] = load_own(root.path()).unwrap();
    assert_eq!((train.len(), valid.len(), test.len()), (9, 1, 1));
    assert_eq!(test.labels(), Some(&[4][..]));

    put(root.path(), "t10k-labels-idx1-ubyte", &idx(0x801, &[2], &[4, 4]));
    assert!(refused(root.path()).contains("2 labels for 1 images"));
    put(root.path(), "other-images-idx3-ubyte", &idx(0x803, &[1, 1, 2], &[8, 9]));
    assert!(refused(root.path()).contains("no split is called `other`"));
}

#[test]
fn json_lines_name_files_or_give_pixels() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("all.jsonl");
    put(root.path(), "pictures/a.png", &grey_png(5));
    let good = "{\"image\": \"pictures/a.png\", \"label\": 1}\n\n\
        {\"pixels\": [[1, 2, 3], [4, 5, 6]], \"label\": 0, \"split\": \"test\"}\n\
        {\"pixels\": [[9, 2, 3], [4, 5, 6]], \"label\": 3, \"split\": \"dev\"}\n";
    fs::write(&path, good).unwrap();
    let [train, valid, test] = load_own(&path).unwrap();
    assert_eq!((train.pixels(), train.labels()), (&[5; 6][..], Some(&[1][..])));
    assert_eq!((test.pixels(), valid.labels()), (&[1, 2, 3, 4, 5, 6][..], Some(&[3][..])));
    for (line, part) in [
        ("{\"image\": \"../x.png\"}", "line 5: `../x.png` is no path below"),
        ("{\"image\": \"/etc/passwd\"}", "is no path below"),
        ("{\"pixels\": [[1, 2], [3]]}", "different lengths"),
        ("{\"pixels\": [[256]]}", "line 5: invalid value: integer `256`"),
        ("{\"pixels\": [[1]], \"label\": 0}", "1x1 pixels among others of 2x3"),
        ("{\"pixels\": [[1, 2, 3], [4, 5, 6]]}", "a label for some images"),
        ("{\"pixels\": []}", "an image of no pixels"),
        ("{\"label\": 1}", "give `image` or `pixels`"),
        ("{\"pixels\": [[1]], \"class\": 1}", "unknown field `class`"),
        ("{\"pixels\": [[1]], \"split\": \"holdout\"}", "no split is called `holdout`"),
        ("nonsense", "line 5"),
    ] {
        fs::write(&path, format!("{good}{line}\n")).unwrap();
        let error = refused(&path);
        assert!(error.contains(part) && error.contains("all.jsonl"), "{line}: {error}");
    }
}

#[test]
fn what_is_no_grey_image_is_named() {
    let root = tempfile::tempdir().unwrap();
    for i in 0..5 {
        put(root.path(), &format!("{i}.png"), &grey_png(i));
    }
    let mut coloured = Vec::new();
    let mut encoder = png::Encoder::new(&mut coloured, 3, 2);
    encoder.set_color(png::ColorType::Rgb);
    let data: Vec<u8> = (0..18).collect();
    encoder.write_header().unwrap().write_image_data(&data).unwrap();
    for (bytes, part) in [
        (coloured, "it is in colour"),
        (png(9, png::ColorType::Rgba), "not opaque"),
        (b"<html>".to_vec(), "no PNG"),
        (grey_png(1)[..40].to_vec(), "no PNG"),
    ] {
        put(root.path(), "bad.png", &bytes);
        let error = refused(root.path());
        assert!(error.contains(part) && error.contains("bad.png"), "{error}");
    }
}

#[test]
fn what_is_not_there_is_named() {
    let root = tempfile::tempdir().unwrap();
    assert!(refused(&root.path().join("none")).contains("no such file or folder"));
    assert!(refused(root.path()).contains("there are no training images"));
    put(root.path(), "x.zip", b"");
    assert!(refused(&root.path().join("x.zip")).contains("a .parquet or a .jsonl file"));
    put(root.path(), "0.png", &grey_png(1));
    assert!(refused(root.path()).contains("too few to hold some out"));
    put(root.path(), "p/train/0.png", &grey_png(1));
    put(root.path(), "p/valid/a/0.png", &grey_png(1));
    put(root.path(), "p/test/0.png", &grey_png(1));
    assert!(refused(&root.path().join("p")).contains("with labels"));
}

#[cfg(feature = "parquet")]
pub(crate) mod columns {
    use std::sync::Arc;

    use ::parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
    use ::parquet::file::writer::SerializedFileWriter;
    use ::parquet::schema::parser::parse_message_type;

    use super::*;

    const HUB: &str = "message m { optional group image { optional binary bytes; \
                       optional binary path (UTF8); } optional int64 label; }";

    /// A file with these images in the layout of model hubs.
    pub(crate) fn write(path: &Path, images: &[Vec<u8>], labels: &[i64]) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let schema = Arc::new(parse_message_type(HUB).unwrap());
        let file = fs::File::create(path).unwrap();
        let mut writer = SerializedFileWriter::new(file, schema, Arc::default()).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let rows = images.len();
        let bytes: Vec<ByteArray> = images.iter().map(|png| png.clone().into()).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&bytes, Some(&vec![2; rows]), None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&[], Some(&vec![1; rows]), None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(labels, Some(&vec![1; rows]), None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
        writer.close().unwrap();
    }

    #[test]
    fn a_folder_of_parquet_files_as_on_a_hub() {
        let root = tempfile::tempdir().unwrap();
        let png = |i| grey_png(i);
        write(&root.path().join("mnist/train/0000.parquet"), &[png(1), png(2)], &[3, 4]);
        write(&root.path().join("mnist/train/0001.parquet"), &[png(3)], &[5]);
        write(&root.path().join("validation-00000-of-00001.parquet"), &[png(4)], &[6]);
        write(&root.path().join("MNIST_Test.parquet"), &[png(5)], &[7]);
        let [train, valid, test] = load_own(root.path()).unwrap();
        assert_eq!((firsts(&train), train.labels()), (vec![1, 2, 3], Some(&[3, 4, 5][..])));
        assert_eq!((firsts(&valid), firsts(&test)), (vec![4], vec![5]));
        let one = load_own(&root.path().join("mnist/train/0000.parquet"));
        assert!(one.unwrap_err().to_string().contains("too few"));
        write(&root.path().join("more.parquet"), &[png(6)], &[7]);
        assert!(refused(root.path()).contains("more.parquet"));
    }

    #[test]
    fn what_is_wrong_with_a_parquet_file_is_named() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("x.parquet");
        write(&path, &[b"no png".to_vec()], &[1]);
        assert!(refused(&path).contains("row 0: no PNG"));
        write(&path, &[grey_png(1)], &[256]);
        assert!(refused(&path).contains("row 0: label 256"));
        fs::write(&path, b"PAR1").unwrap();
        assert!(refused(&path).contains("no parquet"));
    }

    #[test]
    fn no_damage_is_a_panic() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("x.parquet");
        write(&path, &[grey_png(1), grey_png(2), grey_png(3)], &[1, 2, 3]);
        let good = fs::read(&path).unwrap();
        for i in 0..400_u32 {
            let draw = |n: u32| (i.wrapping_mul(2_654_435_761).wrapping_add(n) >> 7) as usize;
            let mut bytes = good.clone();
            let at = draw(0) % bytes.len();
            bytes[at] ^= 1 << (draw(1) % 8);
            if i % 4 == 0 {
                bytes.truncate(draw(2) % good.len());
            }
            fs::write(&path, &bytes).unwrap();
            if let Err(error) = load_own(&path) {
                assert!(error.to_string().contains("x.parquet"), "{error}");
            }
        }
    }
}
