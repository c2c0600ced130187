//! The vectors that categories stand for.
use candle_core::{Result, Tensor};
use gumbel_kernels::in_single;

/// The vector of each group that `weights` selects, or the weighted mean of its vectors.
///
/// Of group `g`, with entries `v`:
///
/// ```math
/// \sum_v \mathrm{weights}_{gv}\, \mathrm{codebook}_{gv}
/// ```
///
/// `weights: [.., G, V]` (one-hot or relaxed, as [`gumbel_softmax()`](crate::gumbel_softmax()) gives them along the
/// last axis), `codebook: [G, V, D]` → `[.., G, D]`: `G` groups of `V` entries with `D` numbers each. One matrix
/// product for each group; the product of every weight with its entry, `[.., G, V, D]`, is never in memory.
/// Differentiable in both.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use gumbel::{Key, codebook_lookup, gumbel_softmax};
/// let key = Key::from_seed(1);
/// let logits = key.named("logits").normal((8, 2, 320), DType::F32, &Device::Cpu)?; // [N, G, V]
/// let codebook = key.named("codebook").normal((2, 320, 64), DType::F32, &Device::Cpu)?;
/// let z = gumbel_softmax(&logits, 2., true, 2, key.named("noise"))?;
/// let quantised = codebook_lookup(&z, &codebook)?.flatten_from(1)?; // [N, G · D]
/// assert_eq!(quantised.dims(), [8, 128]);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// Source: Baevski, Zhou, Mohamed, Auli (2020), "wav2vec 2.0", section 2.
///
/// # Errors
/// If the shapes do not fit.
pub fn codebook_lookup(weights: &Tensor, codebook: &Tensor) -> Result<Tensor> {
    let (g, v, d) = codebook.dims3()?;
    let [leading @ .., groups, entries] = weights.dims() else {
        candle_core::bail!("expected weights [.., G, V], got {:?}", weights.shape())
    };
    if (*groups, *entries) != (g, v) {
        candle_core::bail!(
            "weights {:?} do not fit the codebook {:?}: expected [.., {g}, {v}]",
            weights.shape(),
            codebook.shape()
        )
    }
    let rows: usize = leading.iter().product();
    in_single([weights, codebook], |[weights, codebook]| {
        let grouped = weights.reshape((rows, g, v))?.transpose(0, 1)?.contiguous()?; // [G, rows, V]
        let vectors = grouped.matmul(&codebook.contiguous()?)?.transpose(0, 1)?.contiguous()?;
        vectors.reshape([leading, &[g, d]].concat())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device, Var};
    use gumbel_kernels::{Key, one_hot_argmax};

    fn normal(shape: &[usize], seed: u64) -> Result<Tensor> {
        Key::from_seed(seed).normal(shape, DType::F64, &Device::Cpu)
    }

    /// Value and both gradients are those of the product with every entry, summed.
    #[test]
    fn it_is_the_sum_over_weighted_entries() -> Result<()> {
        let run = |f: &dyn Fn(&Tensor, &Tensor) -> Result<Tensor>| {
            let weights = Var::from_tensor(&normal(&[3, 5, 2, 4], 1)?)?;
            let codebook = Var::from_tensor(&normal(&[2, 4, 6], 2)?)?;
            let y = f(&weights, &codebook)?;
            assert_eq!(y.dims(), [3, 5, 2, 6]);
            let grads = (&y * normal(&[3, 5, 2, 6], 3)?)?.sum_all()?.backward()?;
            let gradients =
                [&weights, &codebook].map(|v| grads.get(v.as_tensor()).unwrap().clone());
            let [a, b] = gradients;
            Ok::<_, candle_core::Error>([y, a, b])
        };
        let naive = |w: &Tensor, c: &Tensor| w.unsqueeze(4)?.broadcast_mul(c)?.sum(3);
        for (a, b) in run(&codebook_lookup)?.iter().zip(&run(&naive)?) {
            let off = (a - b)?.abs()?.max_all()?.to_scalar::<f64>()?;
            assert!(off < 1e-12, "{off}");
        }
        Ok(())
    }

    #[test]
    fn a_one_hot_vector_takes_its_entry_in_every_dtype() -> Result<()> {
        for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16] {
            let codebook = normal(&[2, 3, 4], 4)?.to_dtype(dtype)?;
            let z = one_hot_argmax(&normal(&[7, 2, 3], 5)?.to_dtype(dtype)?)?;
            let y = codebook_lookup(&z, &codebook)?;
            assert_eq!((y.dtype(), y.dims()), (dtype, &[7, 2, 4][..]));
            let classes = z.argmax(2)?.to_vec2::<u32>()?;
            for (row, classes) in classes.iter().enumerate() {
                for (group, class) in classes.iter().enumerate() {
                    let entry = codebook.get(group)?.get(*class as usize)?;
                    let off = (y.get(row)?.get(group)? - entry)?.to_dtype(DType::F64)?.sqr()?;
                    assert_eq!(off.sum_all()?.to_scalar::<f64>()?, 0.);
                }
            }
        }
        Ok(())
    }

    /// Most memory that this process ever held, in bytes, where the system says so.
    fn peak() -> Option<u64> {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let line = status.lines().find(|line| line.starts_with("VmHWM"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kilobytes| kilobytes << 10)
    }

    /// The product of all weights and entries would hold 6400 · 2 · 320 · 64 numbers: a gigabyte, and its
    /// gradient another.
    #[test]
    fn a_large_lookup_needs_no_large_tensor() -> Result<()> {
        let (n, g, v, d) = (6400, 2, 320, 64);
        let weights = Var::zeros((n, g, v), DType::F32, &Device::Cpu)?;
        let codebook = Var::ones((g, v, d), DType::F32, &Device::Cpu)?;
        let before = peak();
        let grads = codebook_lookup(&weights, &codebook)?.sum_all()?.backward()?;
        assert_eq!(grads.get(weights.as_tensor()).unwrap().max_all()?.to_scalar::<f32>()?, 64.);
        if let (Some(before), Some(after)) = (before, peak()) {
            assert!(after - before < 300 << 20, "{} MiB", (after - before) >> 20);
        }
        Ok(())
    }

    #[test]
    fn shapes_that_do_not_fit_are_an_error_that_names_them() -> Result<()> {
        let error = codebook_lookup(&normal(&[3, 2, 4], 1)?, &normal(&[2, 5, 6], 2)?).unwrap_err();
        assert!(error.to_string().contains("[.., 2, 5]"), "{error}");
        assert!(codebook_lookup(&normal(&[3], 1)?, &normal(&[2, 5, 6], 2)?).is_err());
        Ok(())
    }
}
