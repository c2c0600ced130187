//! Hard permutations.
use candle_core::{D, DType, Device, Result, Tensor};

/// The permutation matrix of the largest total score: `scores: [.., n, n]` → `[.., n, n]`. No gradient.
///
/// Exact, by shortest augmenting paths (the Hungarian method), `O(n³)` on the host. For a straight-through
/// gradient add `soft - soft.detach()` of a relaxed one.
///
/// Source: Kuhn (1955); Jonker and Volgenant (1987).
///
/// # Errors
/// If the last two axes differ, a score is `+∞` or NaN, or no permutation avoids all entries of `-∞`.
pub fn hard_permutation(scores: &Tensor) -> Result<Tensor> {
    let n = scores.dim(D::Minus1)?;
    if scores.rank() < 2 || scores.dim(D::Minus2)? != n {
        candle_core::bail!("expected square matrices [.., n, n], got {:?}", scores.shape())
    }
    if n == 0 {
        return Ok(scores.clone());
    }
    let flat = scores.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?;
    let flat = flat.to_vec1::<f64>()?;
    if let Some(bad) = flat.iter().find(|score| score.is_nan() || **score == f64::INFINITY) {
        candle_core::bail!("scores of an assignment must be finite or -inf, got {bad}")
    }
    // A mask costs more than all other scores can make up for.
    let finite = flat.iter().filter(|score| score.is_finite());
    let size = finite.fold(1., |size: f64, score| size.max(score.abs()));
    let mask = -4. * size * (n + 1) as f64;
    let mut out = vec![0f64; flat.len()];
    for (scores, out) in flat.chunks(n * n).zip(out.chunks_mut(n * n)) {
        let costs: Vec<f64> = scores.iter().map(|score| score.max(mask)).collect();
        for (row, column) in assign(&costs, n).into_iter().enumerate() {
            let place = row * n + column;
            if scores.get(place) == Some(&f64::NEG_INFINITY) {
                candle_core::bail!(
                    "no permutation avoids the entries of -inf: row {row} has no column left"
                )
            }
            if let Some(entry) = out.get_mut(place) {
                *entry = 1.;
            }
        }
    }
    let out = Tensor::from_vec(out, scores.shape(), &Device::Cpu)?;
    out.to_dtype(scores.dtype())?.to_device(scores.device())
}

/// The column of each row. Rows enter one by one; each time the cheapest way to make room for it is found, as a
/// shortest path in reduced costs, which the prices keep non-negative.
fn assign(scores: &[f64], n: usize) -> Vec<usize> {
    // Row and column 0 stand for "none".
    let (mut row_price, mut column_price) = (vec![0.; n + 1], vec![0.; n + 1]);
    let mut row_of = vec![0; n + 1];
    for row in 1..=n {
        row_of[0] = row;
        let (mut distance, mut previous) = (vec![f64::INFINITY; n + 1], vec![0; n + 1]);
        let mut done = vec![false; n + 1];
        let mut column = 0;
        loop {
            done[column] = true;
            let (from, mut step, mut next) = (row_of[column], f64::INFINITY, 0);
            for j in (1..=n).filter(|j| !done[*j]) {
                let cost = -scores[(from - 1) * n + j - 1] - row_price[from] - column_price[j];
                if cost < distance[j] {
                    (distance[j], previous[j]) = (cost, column);
                }
                if distance[j] < step {
                    (step, next) = (distance[j], j);
                }
            }
            for j in 0..=n {
                if done[j] {
                    row_price[row_of[j]] += step;
                    column_price[j] -= step;
                } else {
                    distance[j] -= step;
                }
            }
            column = next;
            if row_of[column] == 0 {
                break;
            }
        }
        while column != 0 {
            row_of[column] = row_of[previous[column]];
            column = previous[column];
        }
    }
    let mut columns = vec![0; n];
    for (column, row) in row_of.iter().enumerate().skip(1) {
        columns[row - 1] = column - 1;
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;
    use gumbel_kernels::Key;

    /// The largest total over all permutations.
    fn best(scores: &[Vec<f64>], row: usize, free: &mut Vec<bool>) -> f64 {
        let Some(line) = scores.get(row) else { return 0. };
        let mut top = f64::NEG_INFINITY;
        for (column, score) in line.iter().enumerate() {
            if free[column] {
                free[column] = false;
                top = top.max(score + best(scores, row + 1, free));
                free[column] = true;
            }
        }
        top
    }

    #[test]
    fn no_permutation_has_a_larger_total() -> Result<()> {
        for n in 1..7 {
            let scores = Key::from_seed(n as u64).normal((20, n, n), DType::F64, &Device::Cpu)?;
            let hard = hard_permutation(&scores)?;
            assert!(hard.sum(1)?.flatten_all()?.to_vec1::<f64>()?.iter().all(|s| *s == 1.));
            assert!(hard.sum(2)?.flatten_all()?.to_vec1::<f64>()?.iter().all(|s| *s == 1.));
            let totals = (hard * &scores)?.sum((1, 2))?.to_vec1::<f64>()?;
            for (scores, total) in scores.to_vec3::<f64>()?.iter().zip(totals) {
                assert!((total - best(scores, 0, &mut vec![true; n])).abs() < 1e-12);
            }
        }
        assert!(hard_permutation(&Tensor::new(&[[f64::NAN]], &Device::Cpu)?).is_err());
        let inf = f64::NEG_INFINITY;
        let masked = Tensor::new(&[[5f64, 1.], [3., inf]], &Device::Cpu)?;
        assert_eq!(hard_permutation(&masked)?.to_vec2::<f64>()?, [[0., 1.], [1., 0.]]);
        let none = Tensor::new(&[[5f64, inf], [3., inf]], &Device::Cpu)?;
        assert!(hard_permutation(&none).unwrap_err().to_string().contains("-inf"));
        Ok(())
    }
}
