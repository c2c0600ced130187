//! Gradients summed over ranks, here threads: the same bits for 1, 2 and 4 of them, because numbers are added in the same
//! order whoever adds them.
//!
//! `cargo run -p gumbel-distributed --example sum`
use candle_core::{Device, Tensor};
use gumbel_distributed::{Communicator, Result, halves, on_threads};

/// Micro-batches of a step.
const PARTS: usize = 8;

/// The gradient of a micro-batch, by its number alone; large and small numbers, so that the order of a sum shows.
fn gradient(part: usize) -> Result<Tensor> {
    let number = |i: usize| (1. + (part * 6 + i) as f32).sin() * 1e3f32.powi(i as i32 % 3);
    Ok(Tensor::from_vec((0..6).map(number).collect(), 6, &Device::Cpu)?)
}

/// What each of some ranks has as the sum over all micro-batches, of which each rank computes its share.
fn summed(ranks: usize) -> Result<Vec<Vec<f32>>> {
    let each = PARTS / ranks;
    let of_rank = |world: &dyn Communicator| {
        let share = world.rank() * each..(world.rank() + 1) * each;
        let own = halves(share, &mut gradient, &mut |first, second| Ok((first + second)?))?;
        Ok(world.sum(&own)?.to_vec1()?)
    };
    on_threads(ranks, |world| of_rank(world)).into_iter().collect()
}

/// The same numbers added one after the other.
fn one_by_one() -> Result<Vec<f32>> {
    let mut sum = gradient(0)?;
    for part in 1..PARTS {
        sum = (sum + gradient(part)?)?;
    }
    Ok(sum.to_vec1()?)
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|x| x.to_bits()).collect()
}

#[expect(clippy::print_stdout, reason = "an example shows its result")]
fn main() -> Result<()> {
    for ranks in [1, 2, 4] {
        for (rank, sum) in summed(ranks)?.iter().enumerate() {
            println!("{ranks} ranks, rank {rank}: {:08x?}", bits(sum));
        }
    }
    println!("one by one:       {:08x?}", bits(&one_by_one()?));
    Ok(())
}

#[test]
fn any_power_of_two_of_ranks_has_the_same_bits() -> Result<()> {
    let alone = bits(&summed(1)?[0]);
    for ranks in [2, 4, 8] {
        let all = summed(ranks)?;
        assert_eq!(all.len(), ranks);
        assert!(all.iter().all(|sum| bits(sum) == alone), "{ranks} ranks");
    }
    // These numbers do show an order.
    assert_ne!(bits(&one_by_one()?), alone);
    Ok(())
}

#[test]
fn the_sum_is_right() -> Result<()> {
    for (found, expected) in summed(4)?[3].iter().zip(one_by_one()?) {
        assert!((found - expected).abs() <= 1e-5 * expected.abs().max(1e3), "{found} {expected}");
    }
    Ok(())
}
