//! Scientific results as JSON lines.
use std::io::{Error, ErrorKind, Result, Write};

/// A sink that writes one JSON object per line: `step`, `split`, then the numbers in the given order.
///
/// A number is written as the shortest text that reads back as the same `f64`; one that is not finite
/// as the string `"NaN"`, `"inf"` or `"-inf"`, because JSON has no such number. There is no time stamp
/// and no throughput in a line, so that equal runs write equal bytes.
///
/// ```
/// let mut lines = gumbel_metrics::JsonLines::new(Vec::new());
/// let length = lines.write(7, "train", &[("loss", 0.1), ("kl", f64::NAN)])?;
/// let text = lines.into_inner();
/// assert_eq!(text, b"{\"step\":7,\"split\":\"train\",\"loss\":0.1,\"kl\":\"NaN\"}\n");
/// assert_eq!(length, text.len() as u64);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct JsonLines<W> {
    writer: W,
}

impl<W: Write> JsonLines<W> {
    /// Writes to `writer`, each line with a single `write_all`; hand in an unbuffered file.
    pub fn new(writer: W) -> Self {
        Self { writer }
    }

    /// Writes the line of one step and returns its length in bytes, the line break included.
    ///
    /// An error if a name is `step`, `split`, or given twice; nothing is written then.
    pub fn write(&mut self, step: u64, split: &str, scalars: &[(&str, f64)]) -> Result<u64> {
        let mut line = format!("{{\"step\":{step},\"split\":{}", quoted(split)?);
        for (i, (name, value)) in scalars.iter().enumerate() {
            let earlier = scalars.iter().take(i).any(|(other, _)| other == name);
            if earlier || ["step", "split"].contains(name) {
                let problem = format!("`{name}` is in the line already; choose another name");
                return Err(Error::new(ErrorKind::InvalidInput, problem));
            }
            line.push(',');
            line.push_str(&quoted(name)?);
            line.push(':');
            line.push_str(&number(*value)?);
        }
        line.push_str("}\n");
        self.writer.write_all(line.as_bytes())?;
        Ok(line.len() as u64)
    }

    /// The writer, to flush or to synchronise it.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.writer
    }

    /// Gives the writer back.
    pub fn into_inner(self) -> W {
        self.writer
    }
}

fn quoted(text: &str) -> Result<String> {
    Ok(serde_json::to_string(text)?)
}

fn number(x: f64) -> Result<String> {
    if x.is_finite() { Ok(serde_json::to_string(&x)?) } else { Ok(format!("\"{x}\"")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(scalars: &[(&str, f64)]) -> Result<String> {
        let mut lines = JsonLines::new(Vec::new());
        let length = lines.write(3, "valid", scalars)?;
        let text = lines.into_inner();
        assert_eq!(length, text.len() as u64);
        String::from_utf8(text).map_err(Error::other)
    }

    #[test]
    fn keys_keep_their_order_behind_step_and_split() -> Result<()> {
        let text = line(&[("zebra", 1.), ("ape", -0.5)])?;
        assert_eq!(text, "{\"step\":3,\"split\":\"valid\",\"zebra\":1.0,\"ape\":-0.5}\n");
        assert_eq!(line(&[])?, "{\"step\":3,\"split\":\"valid\"}\n");
        Ok(())
    }

    #[test]
    fn finite_numbers_read_back_bit_for_bit() -> Result<()> {
        let third = 1. / 3.;
        let numbers =
            [0.1, -0., third, 5e-324, f64::MAX, f64::MIN_POSITIVE, 1e21, 1e-7, 2f64.powi(60)];
        for x in numbers {
            let value: serde_json::Value = serde_json::from_str(&line(&[("x", x)])?)?;
            let back = value.get("x").and_then(serde_json::Value::as_f64);
            assert_eq!(back.map(f64::to_bits), Some(x.to_bits()), "{x:e}");
        }
        Ok(())
    }

    #[test]
    fn non_finite_numbers_are_strings_and_the_line_stays_json() -> Result<()> {
        let (inf, nan) = (f64::INFINITY, f64::NAN);
        let value: serde_json::Value =
            serde_json::from_str(&line(&[("a", nan), ("b", inf), ("c", -inf), ("d", -nan)])?)?;
        let strings = ["a", "b", "c", "d"].map(|k| value.get(k).and_then(|v| v.as_str()));
        assert_eq!(strings, [Some("NaN"), Some("inf"), Some("-inf"), Some("NaN")]);
        Ok(())
    }

    #[test]
    fn names_are_escaped_and_repeated_or_reserved_ones_write_nothing() -> Result<()> {
        let value: serde_json::Value = serde_json::from_str(&line(&[("a\"\n\\b", 1.)])?)?;
        assert_eq!(value.get("a\"\n\\b").and_then(serde_json::Value::as_f64), Some(1.));
        for bad in [[("step", 1.), ("x", 1.)], [("x", 1.), ("split", 1.)], [("x", 1.), ("x", 1.)]] {
            let mut lines = JsonLines::new(Vec::new());
            let error = lines.write(0, "train", &bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(lines.into_inner().is_empty());
        }
        Ok(())
    }
}
