//! Words for symbols that have none.

/// A name for a symbol that has none: a consonant and a vowel, more of them from the 91st on.
pub(super) fn syllable(symbol: u32) -> String {
    const CONSONANTS: [char; 18] =
        ['b', 'd', 'f', 'g', 'h', 'j', 'k', 'l', 'm', 'n', 'p', 'r', 's', 't', 'v', 'w', 'y', 'z'];
    const VOWELS: [char; 5] = ['a', 'e', 'i', 'o', 'u'];
    let (rest, place) = (symbol / 90, symbol as usize % 90);
    let first = [CONSONANTS[place % 18], VOWELS[place / 18]].iter().collect();
    if rest == 0 { first } else { syllable(rest - 1) + &first }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn syllables_differ() {
        let words: HashSet<String> = (0..20_000).map(syllable).collect();
        assert_eq!(words.len(), 20_000);
    }
}
