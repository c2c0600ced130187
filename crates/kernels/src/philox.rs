//! The Philox4x32-10 block function.
use crate::vectorised::vectorised;

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// Philox4x32-10: ten rounds that scramble a 128-bit `counter` under a 64-bit `key`.
///
/// A bijection of the counter for each key, and so a random-access generator: block number `c` costs
/// the same for every `c` and needs no state. Passes the Random123 known-answer vectors.
///
/// Source: Salmon, Moraes, Dror, Shaw (2011), "Parallel random numbers: as easy as 1, 2, 3".
#[inline]
#[must_use]
pub fn philox4x32_10(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let [mut c0, mut c1, mut c2, mut c3] = counter;
    let [mut k0, mut k1] = key;
    for _ in 0..10 {
        let a = u64::from(MULTIPLIERS[0]) * u64::from(c0);
        let b = u64::from(MULTIPLIERS[1]) * u64::from(c2);
        (c0, c1, c2, c3) =
            ((b >> 32) as u32 ^ c1 ^ k0, b as u32, (a >> 32) as u32 ^ c3 ^ k1, a as u32);
        k0 = k0.wrapping_add(WEYL[0]);
        k1 = k1.wrapping_add(WEYL[1]);
    }
    [c0, c1, c2, c3]
}

/// Blocks that are computed side by side.
const LANES: usize = 16;

vectorised! {
    /// Blocks `first`, `first + 1`, … of the stream of a key and a nonce.
    pub(crate) fn fill_blocks(key: [u32; 2], nonce: [u32; 2], first: u64, out: &mut [[u32; 4]]) {
        let mut block = first;
        let (groups, rest) = out.as_chunks_mut::<LANES>();
        for group in groups {
            side_by_side(key, nonce, block, group);
            block = block.wrapping_add(LANES as u64);
        }
        for out in rest {
            let [lo, hi] = [block as u32, (block >> 32) as u32];
            *out = philox4x32_10([lo, hi, nonce[0], nonce[1]], key);
            block = block.wrapping_add(1);
        }
    }
}

/// One block per lane. Words are the low halves of 64-bit lanes, as the multiplication takes and gives them; what
/// the high halves hold does not matter.
#[inline(always)]
fn side_by_side(key: [u32; 2], nonce: [u32; 2], first: u64, out: &mut [[u32; 4]; LANES]) {
    const LOW: u64 = 0xffff_ffff;
    let [m0, m1] = MULTIPLIERS.map(u64::from);
    let keys: [[u64; 2]; 10] = std::array::from_fn(|round| {
        let word = |i: usize| key[i].wrapping_add(WEYL[i].wrapping_mul(round as u32));
        [u64::from(word(0)), u64::from(word(1))]
    });
    let [n2, n3] = nonce.map(u64::from);
    let mut packed = [[0u64; LANES]; 2];
    let [low, high] = &mut packed;
    for (lane, (low, high)) in low.iter_mut().zip(high.iter_mut()).enumerate() {
        let block = first.wrapping_add(lane as u64);
        let (mut c0, mut c1, mut c2, mut c3) = (block, block >> 32, n2, n3);
        for [k0, k1] in keys {
            let (a, b) = ((c0 & LOW) * m0, (c2 & LOW) * m1);
            (c0, c1, c2, c3) = ((b >> 32) ^ c1 ^ k0, b, (a >> 32) ^ c3 ^ k1, a);
        }
        *low = (c0 & LOW) | (c1 << 32);
        *high = (c2 & LOW) | (c3 << 32);
    }
    for (out, (low, high)) in out.iter_mut().zip(packed[0].iter().zip(&packed[1])) {
        *out = [*low as u32, (*low >> 32) as u32, *high as u32, (*high >> 32) as u32];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_side_by_side_are_those_one_by_one() {
        let (key, nonce) = ([0xa409_3822, 0x299f_31d0], [0x1319_8a2e, 0x0370_7344]);
        for first in [0, 5, u64::from(u32::MAX) - 9, u64::MAX - 30] {
            let mut out = [[0; 4]; 29];
            fill_blocks(key, nonce, first, &mut out);
            for (i, words) in out.iter().enumerate() {
                let block = first.wrapping_add(i as u64);
                let counter = [block as u32, (block >> 32) as u32, nonce[0], nonce[1]];
                assert_eq!(*words, philox4x32_10(counter, key));
            }
        }
    }

    /// `kat_vectors` of the Random123 distribution, lines "philox4x32 10".
    #[test]
    fn known_answers_of_random123() {
        let cases = [
            ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ];
        for (counter, key, expected) in cases {
            assert_eq!(philox4x32_10(counter, key), expected);
        }
    }
}
