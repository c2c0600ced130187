//! Columns `image` and `label` of a parquet file, as model hubs keep images.
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};

use super::{Gathered, MAX_BYTES, corrupt, grey};
use crate::{Error, Result};

/// Adds every row of a file.
pub(crate) fn read(path: &Path, rows: &mut Gathered) -> Result<()> {
    let file = std::fs::File::open(path)
        .map_err(|source| Error::Io { path: path.to_path_buf(), source })?;
    // The reader of the format stops with a panic at some files that are damaged.
    let read = catch_unwind(AssertUnwindSafe(|| add_rows(file, rows)));
    read.unwrap_or_else(|_| Err("damaged".into())).map_err(|reason| corrupt(path, reason))
}

fn add_rows(file: std::fs::File, rows: &mut Gathered) -> Result<(), String> {
    let no_parquet = |error: parquet::errors::ParquetError| format!("no parquet: {error}");
    let length = file.metadata().map_err(|error| error.to_string())?.len();
    let reader = SerializedFileReader::new(file).map_err(no_parquet)?;
    // What the file says of its own size, before any of it is unpacked.
    let groups = reader.metadata().row_groups();
    let unpacked =
        groups.iter().map(|group| u64::try_from(group.total_byte_size()).unwrap_or(u64::MAX));
    if unpacked.fold(length, u64::saturating_add) > MAX_BYTES {
        return Err(format!("more than {MAX_BYTES} bytes, packed and unpacked; split it"));
    }
    for (number, row) in reader.get_row_iter(None).map_err(no_parquet)?.enumerate() {
        let wrong = |reason: String| format!("row {number}: {reason}");
        let row = row.map_err(|error| wrong(error.to_string()))?;
        let png = image(&row).ok_or_else(|| {
            let columns: Vec<&String> = row.get_column_iter().map(|(name, _)| name).collect();
            wrong(format!("no bytes in a column `image`; the columns are {columns:?}"))
        })?;
        let label = label(&row).map_err(wrong)?;
        let (shape, pixels) = grey::decode(png).map_err(wrong)?;
        rows.add(shape, &pixels, label).map_err(wrong)?;
    }
    Ok(())
}

fn column<'a>(row: &'a Row, wanted: &str) -> Option<&'a Field> {
    row.get_column_iter().find(|(name, _)| *name == wanted).map(|(_, field)| field)
}

/// The file in the column `image`: bytes, or a group that has them.
fn image(row: &Row) -> Option<&[u8]> {
    let field = match column(row, "image")? {
        Field::Group(group) => column(group, "bytes")?,
        field => field,
    };
    match field {
        Field::Bytes(bytes) => Some(bytes.data()),
        _ => None,
    }
}

fn label(row: &Row) -> Result<Option<u8>, String> {
    let number = match column(row, "label") {
        None | Some(Field::Null) => return Ok(None),
        Some(Field::Byte(n)) => i64::from(*n),
        Some(Field::Short(n)) => i64::from(*n),
        Some(Field::Int(n)) => i64::from(*n),
        Some(Field::Long(n)) => *n,
        Some(Field::UByte(n)) => i64::from(*n),
        Some(Field::UShort(n)) => i64::from(*n),
        Some(Field::UInt(n)) => i64::from(*n),
        Some(other) => return Err(format!("the label is {other}; give a whole number")),
    };
    let label = u8::try_from(number);
    label.map(Some).map_err(|_| format!("label {number}; labels are 0 to 255"))
}
