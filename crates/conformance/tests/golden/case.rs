//! One case of a golden file: what it holds, what was compared, what was left unread.
use std::collections::BTreeSet;
use std::error::Error;

use candle_core::{Device, Result as TensorResult, Tensor, Var};
use serde_json::{Map, Value};

/// A check fails as a whole where it cannot be carried out.
pub(crate) type Fallible<T> = Result<T, Box<dyn Error>>;

/// Relative tolerance of every comparison.
const RELATIVE: f64 = 1e-10;

/// The floor of a quantity that is computed without cancellation: none.
pub(crate) const NO_FLOOR: f64 = 0.;

/// The absolute floor of a sum of terms of these sizes (and of order one).
///
/// Terms that cancel leave an error of some ulp of the largest of them, which no relative tolerance
/// allows where the sum is near zero: 1e-14, some fifty ulp, of that term are allowed.
pub(crate) fn cancellation(terms: &[f64]) -> f64 {
    1e-14 * terms.iter().filter(|t| t.is_finite()).fold(1., |max, t| t.abs().max(max))
}

fn agree(actual: f64, expected: f64, floor: f64) -> bool {
    // Equality is for the infinite; a subnormal number has no relative precision.
    let tolerance = (RELATIVE * expected.abs()).max(floor).max(f64::MIN_POSITIVE);
    actual == expected || (expected.is_finite() && (actual - expected).abs() <= tolerance)
}

/// Numbers in a nest of lists.
#[derive(Clone, Debug, Default)]
pub(crate) struct Array {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f64>,
}

impl Array {
    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(Self { shape: vec![], values: vec![text.parse().ok()?] }),
            Value::Array(items) => {
                let items: Vec<Self> = items.iter().map(Self::read).collect::<Option<_>>()?;
                let inner = items.first().map_or_else(Vec::new, |first| first.shape.clone());
                if items.iter().any(|item| item.shape != inner) {
                    return None;
                }
                let shape = std::iter::once(items.len()).chain(inner).collect();
                Some(Self { shape, values: items.into_iter().flat_map(|i| i.values).collect() })
            }
            _ => None,
        }
    }

    pub(crate) fn tensor(&self) -> TensorResult<Tensor> {
        Tensor::from_vec(self.values.clone(), self.shape.as_slice(), &Device::Cpu)
    }

    pub(crate) fn var(&self) -> TensorResult<Var> {
        Var::from_tensor(&self.tensor()?)
    }
}

/// The numbers of a tensor in row-major order.
pub(crate) fn numbers(tensor: &Tensor) -> TensorResult<Vec<f64>> {
    tensor.flatten_all()?.to_vec1()
}

/// A case, which knows what was read of it.
pub(crate) struct Case<'a> {
    name: String,
    fields: &'a Map<String, Value>,
    read: BTreeSet<String>,
    failures: Vec<String>,
}

impl<'a> Case<'a> {
    pub(crate) fn new(name: String, fields: &'a Map<String, Value>) -> Self {
        Self { name, fields, read: BTreeSet::new(), failures: Vec::new() }
    }

    pub(crate) fn has(&self, field: &str) -> bool {
        self.fields.contains_key(field)
    }

    /// Names of the fields that start with `prefix`.
    pub(crate) fn fields_with(&self, prefix: &str) -> Vec<String> {
        self.fields.keys().filter(|name| name.starts_with(prefix)).cloned().collect()
    }

    fn field(&mut self, field: &str) -> Fallible<&'a Value> {
        self.read.insert(field.to_owned());
        self.fields.get(field).ok_or_else(|| format!("field `{field}` is missing").into())
    }

    pub(crate) fn text(&mut self, field: &str) -> Fallible<&'a str> {
        self.field(field)?.as_str().ok_or_else(|| format!("field `{field}` is no text").into())
    }

    pub(crate) fn array(&mut self, field: &str) -> Fallible<Array> {
        Array::read(self.field(field)?).ok_or_else(|| format!("field `{field}` is no array").into())
    }

    pub(crate) fn number(&mut self, field: &str) -> Fallible<f64> {
        let array = self.array(field)?;
        match (array.shape.as_slice(), array.values.as_slice()) {
            ([], [number]) => Ok(*number),
            _ => Err(format!("field `{field}` is not one number").into()),
        }
    }

    /// The case inside this one that `field` holds.
    pub(crate) fn part(&mut self, field: &str) -> Fallible<Case<'a>> {
        match self.field(field)? {
            Value::Object(fields) => Ok(Case::new(field.to_owned(), fields)),
            _ => Err(format!("field `{field}` is no object").into()),
        }
    }

    /// The names of the cases inside the one that `field` holds.
    pub(crate) fn names(&mut self, field: &str) -> Fallible<Vec<String>> {
        match self.field(field)? {
            Value::Object(fields) => {
                let cases = fields.iter().filter(|(_, value)| value.is_object());
                Ok(cases.map(|(name, _)| name.clone()).collect())
            }
            _ => Err(format!("field `{field}` is no object").into()),
        }
    }

    /// The cases in a list inside this one.
    pub(crate) fn parts(&mut self, field: &str) -> Fallible<Vec<Case<'a>>> {
        let Value::Array(items) = self.field(field)? else {
            return Err(format!("field `{field}` is no list").into());
        };
        let part = |(i, item): (usize, &'a Value)| match item {
            Value::Object(fields) => Ok(Case::new(format!("{field}[{i}]"), fields)),
            _ => Err(format!("field `{field}[{i}]` is no object").into()),
        };
        items.iter().enumerate().map(part).collect()
    }

    /// Takes over what a part of this case found.
    pub(crate) fn absorb(&mut self, part: Case<'_>) {
        self.failures.extend(part.finish());
    }

    /// Compares `actual` with the expected values that `field` holds.
    pub(crate) fn expect(&mut self, field: &str, actual: &[f64], floor: f64) -> Fallible<()> {
        let expected = self.array(field)?.values;
        if expected.is_empty() || expected.len() != actual.len() {
            return Err(format!("`{field}`: {} values for {}", actual.len(), expected.len()).into());
        }
        for (i, (actual, expected)) in actual.iter().zip(expected).enumerate() {
            if !agree(*actual, expected, floor) {
                self.failures.push(format!("`{field}`[{i}]: {actual:e}, expected {expected:e}"));
            }
        }
        Ok(())
    }

    /// [`Case::expect`] of a tensor.
    pub(crate) fn expect_tensor(&mut self, field: &str, t: &Tensor, floor: f64) -> Fallible<()> {
        self.expect(field, &numbers(t)?, floor)
    }

    /// Everything wrong with the case; numbers that no check has read are wrong, too.
    pub(crate) fn finish(mut self) -> Vec<String> {
        for (field, value) in self.fields {
            let remark = Array::read(value).is_none() && value.is_string();
            if !self.read.contains(field) && field != "id" && !remark {
                self.failures.push(format!("`{field}` is a quantity that no check reads"));
            }
        }
        self.failures.iter().map(|failure| format!("{}: {failure}", self.name)).collect()
    }

    pub(crate) fn fail(&mut self, error: &dyn Error) {
        self.failures.push(error.to_string());
    }
}
