//! What this machine can do at best: memory traffic and arithmetic.
use std::time::{Duration, Instant};

use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use gumbel::Key;
use rayon::prelude::*;

use crate::operations::Work;

/// Bytes of each of the two arrays of a copy, from what fits into a first-level cache to what fits into none.
const COPIES: [usize; 7] = [1 << 13, 1 << 15, 1 << 17, 1 << 19, 1 << 21, 1 << 23, 1 << 26];

/// Sides of the square matrix products. The small ones fit between two interruptions by other processes.
const SIDES: [usize; 4] = [256, 384, 512, 1024];

/// For how long each copy and each product is repeated; the fastest repeat counts.
const REPEAT_FOR: Duration = Duration::from_millis(150);

/// Rates measured on this machine with the threads there are.
#[derive(Debug)]
pub(crate) struct Machine {
    /// Working set in bytes and bytes per second, read and written, of a copy.
    copies: Vec<(f64, f64)>,
    /// Additions and multiplications per second of the fastest matrix product.
    flops: f64,
}

/// What bounds an operation from below.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bound {
    pub(crate) seconds: f64,
    pub(crate) by: &'static str,
}

impl Machine {
    pub(crate) fn measure() -> Result<Self> {
        let copies = COPIES.iter().map(|bytes| (2. * *bytes as f64, copy(*bytes))).collect();
        let mut flops = 0f64;
        for side in SIDES {
            flops = flops.max(product(side)?);
        }
        Ok(Self { copies, flops })
    }

    /// The better of two measurements, rate by rate: what else the machine does can only slow it down.
    pub(crate) fn best_of(self, other: &Self) -> Self {
        let pairs = self.copies.into_iter().zip(&other.copies);
        let copies = pairs.map(|((bytes, a), (_, b))| (bytes, a.max(*b))).collect();
        Self { copies, flops: self.flops.max(other.flops) }
    }

    /// Bytes per second at a working set: of the fastest copy that is not smaller than the next smaller one, so that
    /// noise does not make a bound too lenient.
    fn bandwidth(&self, working_set: f64) -> f64 {
        let smaller = self.copies.iter().rposition(|(bytes, _)| *bytes <= working_set).unwrap_or(0);
        self.copies.iter().skip(smaller).map(|(_, rate)| *rate).fold(0., f64::max)
    }

    /// The least time that this machine can do the work in.
    pub(crate) fn bound(&self, work: &Work) -> Bound {
        let memory = Bound { seconds: work.bytes / self.bandwidth(work.working_set), by: "memory" };
        let arithmetic = Bound { seconds: work.flops / self.flops, by: "arithmetic" };
        if memory.seconds > arithmetic.seconds { memory } else { arithmetic }
    }

    /// The rates, for a reader.
    pub(crate) fn summary(&self) -> String {
        let rates: Vec<String> = self
            .copies
            .iter()
            .map(|(bytes, rate)| format!("{:.0} GB/s at {}", rate / 1e9, size(*bytes)))
            .collect();
        format!("copies {}; matrix products {:.0} GFLOP/s", rates.join(", "), self.flops / 1e9)
    }
}

fn size(bytes: f64) -> String {
    let kibibytes = bytes / 1024.;
    if kibibytes < 1024. {
        format!("{kibibytes} KiB")
    } else {
        format!("{} MiB", kibibytes / 1024.)
    }
}

/// Seconds of the fastest repeat.
fn fastest(mut f: impl FnMut()) -> f64 {
    let (start, mut best) = (Instant::now(), f64::INFINITY);
    while start.elapsed() < REPEAT_FOR {
        let begin = Instant::now();
        f();
        best = best.min(begin.elapsed().as_secs_f64());
    }
    best
}

/// Bytes per second, read and written, of copying an array of so many bytes: on one thread or on all, whichever is
/// faster.
fn copy(bytes: usize) -> f64 {
    let (from, mut to) = (vec![1u8; bytes], vec![0u8; bytes]);
    // A clock is read around so many copies that reading it takes no part.
    let repeats = ((1 << 20) / bytes).max(1);
    let one = fastest(|| {
        for _ in 0..repeats {
            std::hint::black_box(&mut to).copy_from_slice(std::hint::black_box(&from));
        }
    });
    let part = bytes.div_ceil(rayon::current_num_threads());
    let all = fastest(|| {
        // Each thread its part, over and over: waking threads is no part of the bandwidth.
        to.par_chunks_mut(part).zip(from.par_chunks(part)).for_each(|(to, from)| {
            for _ in 0..repeats {
                std::hint::black_box(&mut *to).copy_from_slice(std::hint::black_box(from));
            }
        });
    });
    (2 * bytes * repeats) as f64 / one.min(all)
}

/// Additions and multiplications per second of a product of two square matrices.
fn product(side: usize) -> Result<f64> {
    let matrix = |seed| Key::from_seed(seed).normal((side, side), DType::F32, &Device::Cpu);
    let (a, b): (Tensor, Tensor) = (matrix(1)?, matrix(2)?);
    a.matmul(&b)?;
    let mut outcome = Ok(());
    let seconds = fastest(|| {
        if let Err(error) = a.matmul(&b) {
            outcome = Err(error);
        }
    });
    outcome?;
    Ok(2. * (side as f64).powi(3) / seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_better_of_two_measurements_is_taken_rate_by_rate() {
        let a = Machine { copies: vec![(1., 5.), (2., 3.)], flops: 7. };
        let b = Machine { copies: vec![(1., 4.), (2., 6.)], flops: 8. };
        let best = a.best_of(&b);
        assert_eq!((best.copies, best.flops), (vec![(1., 5.), (2., 6.)], 8.));
    }

    #[test]
    fn the_tighter_of_two_bounds_holds() {
        let machine = Machine { copies: vec![(100., 50.), (1000., 20.), (9000., 10.)], flops: 4. };
        let bound = |bytes, working_set, flops| machine.bound(&Work { bytes, working_set, flops });
        assert_eq!(bound(100., 10., 4.), Bound { seconds: 2., by: "memory" });
        assert_eq!(bound(100., 500., 4.), Bound { seconds: 2., by: "memory" });
        assert_eq!(bound(100., 1e6, 4.), Bound { seconds: 10., by: "memory" });
        assert_eq!(bound(100., 1e6, 48.), Bound { seconds: 12., by: "arithmetic" });
    }
}
