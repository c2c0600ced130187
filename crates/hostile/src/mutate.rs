//! Bad files out of good ones.
use gumbel_kernels::Key;

/// Numbers that lengths and offsets are replaced by.
const EXTREMES: [u64; 8] =
    [0, 1, 0x7f, 0xff, 0x7fff_ffff, 0xffff_ffff, 0x7fff_ffff_ffff_ffff, 0xffff_ffff_ffff_ffff];

/// Longest file that mutations make of a short one.
const LONGEST: usize = 1 << 16;

/// One to four mutations of `bytes`, always the same ones for the same key.
///
/// A file is cut, a bit is flipped, a byte replaced, eight bytes become ones, a number of one, two, four or eight bytes, in either
/// order, becomes an extreme one, digits become nines, a piece is doubled, removed, moved, or taken from `other`.
#[must_use]
pub fn mutated(bytes: &[u8], other: &[u8], key: Key) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for round in 0..=key.word(0) % 4 {
        mutate(&mut bytes, other, key.fold_in(u64::from(round)));
    }
    bytes
}

fn mutate(bytes: &mut Vec<u8>, other: &[u8], key: Key) {
    if bytes.is_empty() {
        return bytes.extend_from_slice(other);
    }
    let word = |i: u64| key.word(i) as usize;
    let length = bytes.len();
    let at = word(1) % length;
    let piece = at..(at + 1 + word(2) % 32).min(length);
    match word(0) % 10 {
        0 => bytes.truncate(at),
        1 => bytes.iter_mut().skip(at).take(1).for_each(|b| *b ^= 1 << (word(2) % 8)),
        2 => bytes.iter_mut().skip(at).take(1).for_each(|b| *b = word(2).to_le_bytes()[0]),
        3 => bytes.iter_mut().skip(at).take(8).for_each(|b| *b = 0xff),
        4 => put_number(bytes, at, key),
        5 => nines(bytes, at),
        6 if length < LONGEST => drop(bytes.splice(at..at, bytes[piece].to_vec())),
        7 => drop(bytes.drain(piece)),
        8 => {
            let moved: Vec<u8> = bytes.drain(piece).collect();
            let to = word(3) % (bytes.len() + 1);
            drop(bytes.splice(to..to, moved));
        }
        _ => {
            let from = word(3) % (other.len() + 1);
            let taken = other.iter().skip(from).take(1 + word(4) % 64).copied().collect::<Vec<_>>();
            let end = (at + taken.len()).min(length);
            drop(bytes.splice(at..end, taken));
        }
    }
}

/// An extreme number in place of what is there.
fn put_number(bytes: &mut [u8], at: usize, key: Key) {
    let value = EXTREMES.get(key.word(5) as usize % EXTREMES.len()).copied().unwrap_or(0);
    let width = 1 << (key.word(6) % 4);
    let (small_first, large_first) = (value.to_le_bytes(), value.to_be_bytes());
    let digits: &[u8] = match key.word(7) % 2 {
        0 => &small_first[..width],
        _ => &large_first[8 - width..],
    };
    bytes.iter_mut().skip(at).zip(digits).for_each(|(b, digit)| *b = *digit);
}

/// The next number in a text becomes a larger one, with more digits.
fn nines(bytes: &mut Vec<u8>, at: usize) {
    let Some(start) = bytes.iter().skip(at).position(u8::is_ascii_digit).map(|i| at + i) else {
        return;
    };
    let digits = bytes.iter().skip(start).take_while(|b| b.is_ascii_digit()).count();
    drop(bytes.splice(start..start + digits, [b'9'; 20]));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mutations_depend_on_the_key_alone_and_change_nearly_always_something() {
        let seed = b"{\"step\": 12, \"x\": [1, 2, 3]}";
        let key = Key::from_seed(1);
        let made: Vec<Vec<u8>> =
            (0..500).map(|i| mutated(seed, b"other", key.fold_in(i))).collect();
        assert_eq!(made[7], mutated(seed, b"other", key.fold_in(7)));
        assert!(made.iter().filter(|bytes| bytes[..] != seed[..]).count() > 450);
        assert!(made.iter().any(|bytes| bytes.windows(20).any(|w| w == [b'9'; 20])));
        assert!(made.iter().any(|bytes| bytes.windows(5).any(|w| w == b"other")));
        assert!(made.iter().any(|bytes| bytes.len() < seed.len() / 2));
        assert_eq!(mutated(b"", b"x", key.fold_in(2)).first(), Some(&b'x'));
    }
}
