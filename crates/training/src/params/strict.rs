//! Exact comparison of named tensors with those that are expected.
use std::collections::BTreeMap;
use std::fmt;

use candle_core::{DType, Tensor};

/// How named tensors differ from those that are expected; each list in name order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mismatch {
    /// Names that are expected and not there.
    pub missing: Vec<String>,
    /// Names that are there and not expected.
    pub extra: Vec<String>,
    /// Name, expected and actual dtype and shape, such as `` `w`: F32 [2, 3], got F64 [2, 3] ``.
    pub different: Vec<String>,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if !self.missing.is_empty() {
            parts.push(format!("missing {}", list(&self.missing)));
        }
        if !self.extra.is_empty() {
            parts.push(format!("unknown {}", list(&self.extra)));
        }
        if !self.different.is_empty() {
            parts.push(format!("expected {}", self.different.join("; ")));
        }
        f.write_str(&parts.join("; "))
    }
}

impl std::error::Error for Mismatch {}

/// Dtype and shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kind(DType, Vec<usize>);

impl Kind {
    pub(crate) fn of(tensor: &Tensor) -> Self {
        Self(tensor.dtype(), tensor.dims().to_vec())
    }
}

/// An error unless both have the same names with the same dtypes and shapes.
pub(crate) fn compare<'a>(
    expected: impl Iterator<Item = (&'a str, Kind)>,
    got: impl Iterator<Item = (&'a str, Kind)>,
) -> Result<(), Mismatch> {
    let mut got: BTreeMap<&str, Kind> = got.collect();
    let mut mismatch = Mismatch::default();
    for (name, Kind(dtype, dims)) in expected {
        match got.remove(name) {
            None => mismatch.missing.push(name.to_owned()),
            Some(other) if other != Kind(dtype, dims.clone()) => {
                let Kind(other, shape) = other;
                let text = format!("`{name}`: {dtype:?} {dims:?}, got {other:?} {shape:?}");
                mismatch.different.push(text);
            }
            Some(_) => {}
        }
    }
    mismatch.extra = got.into_keys().map(str::to_owned).collect();
    if mismatch == Mismatch::default() { Ok(()) } else { Err(mismatch) }
}

/// The names, for a message; not more of them than a reader takes in.
pub(super) fn list(names: &[String]) -> String {
    const SHOWN: usize = 20;
    let mut text: Vec<String> = names.iter().take(SHOWN).map(|n| format!("`{n}`")).collect();
    if names.is_empty() {
        return "none".to_owned();
    }
    if names.len() > SHOWN {
        text.push(format!("{} more", names.len() - SHOWN));
    }
    text.join(", ")
}
