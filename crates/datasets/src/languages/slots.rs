//! Six latent attributes, each named four times, in an order that a template gives.
use gumbel_kernels::Key;

use super::dice::Dice;
use super::rows::log_sum_exp;
use super::{Language, Sentence};

/// Attributes.
const ATTRIBUTES: usize = 6;
/// Values of an attribute.
const VALUES: usize = 5;
/// Words of an attribute; values own two each, the last two belong to none.
const WORDS: usize = 12;
/// How often each attribute is named.
const ROUNDS: usize = 4;
/// Probabilities of the templates.
const TEMPLATES: [f64; 4] = [0.4, 0.3, 0.2, 0.1];
/// A word of no attribute comes after so many that are of one.
const GROUP: usize = 2;
/// Probability that an attribute's value is the one that belongs to the value of the attribute before it.
const FOLLOW: f64 = 0.7;
/// Probability of each of the two words that a value owns; the other ten share the rest.
const OWN: f64 = 0.4;
/// Length of a sentence.
const LENGTH: usize = ROUNDS * (ATTRIBUTES + ATTRIBUTES / GROUP);
/// What stands between.
const FUNCTION_WORDS: [&str; 8] = ["the", "a", "and", "of", "with", "its", "so", "quite"];

/// How the words of the attributes look: size, colour, animal, what it does, where, when.
const NAMES: [[&str; WORDS]; ATTRIBUTES] = [
    [
        "tiny", "wee", "small", "little", "medium", "average", "large", "big", "huge", "giant",
        "odd", "fine",
    ],
    [
        "red", "scarlet", "blue", "azure", "green", "emerald", "yellow", "golden", "black", "dark",
        "pale", "bright",
    ],
    [
        "cat", "kitten", "dog", "hound", "bird", "sparrow", "fish", "trout", "horse", "pony",
        "beast", "creature",
    ],
    [
        "sleeps", "dozes", "runs", "races", "sings", "hums", "eats", "dines", "waits", "lingers",
        "stays", "goes",
    ],
    [
        "indoors",
        "inside",
        "outdoors",
        "outside",
        "upstairs",
        "above",
        "downstairs",
        "below",
        "abroad",
        "away",
        "here",
        "there",
    ],
    [
        "today",
        "now",
        "yesterday",
        "before",
        "tomorrow",
        "soon",
        "daily",
        "often",
        "rarely",
        "seldom",
        "once",
        "again",
    ],
];

/// Sentences of 36 words about six attributes of five values each: `p(a_1)` uniform, `a_m` the partner of `a_{m-1}` with
/// probability 0.7; one of four templates; four rounds in which the template's order of attributes is gone through,
/// each word of attribute `m` one of twelve that hint at its value, and after every second a word of no attribute.
///
/// `log p(x)` sums over templates and, by the forward algorithm, over the chain of attributes. An attribute is named
/// again nine words later, further back than a decoder sees whose window is shorter.
#[derive(Clone, Debug)]
pub struct Slots {
    /// Of attribute `m > 0`: for each value of the one before, the partner.
    partners: Vec<Vec<usize>>,
    /// The attributes in the order of each template.
    templates: Vec<Vec<usize>>,
    /// Probabilities of the words of no attribute.
    function_words: Vec<f64>,
}

impl Slots {
    /// The language whose partners and orders are drawn by the key.
    #[must_use]
    pub fn new(key: Key) -> Self {
        let order = |name: &str, index: usize, n: usize| -> Vec<usize> {
            let order = key.named(name).fold_in(index as u64).permutation(n);
            order.into_iter().map(|i| i as usize).collect()
        };
        let zipf: Vec<f64> = (1..=FUNCTION_WORDS.len()).map(|rank| 1. / rank as f64).collect();
        let total: f64 = zipf.iter().sum();
        Self {
            partners: (0..ATTRIBUTES).map(|m| order("partners", m, VALUES)).collect(),
            templates: (0..TEMPLATES.len()).map(|r| order("template", r, ATTRIBUTES)).collect(),
            function_words: zipf.iter().map(|p| p / total).collect(),
        }
    }

    /// `p(a_m | a_{m-1})`.
    fn transition(&self, m: usize, before: usize, value: usize) -> f64 {
        let partner = self.partners.get(m).and_then(|partners| partners.get(before));
        if partner == Some(&value) { FOLLOW } else { (1. - FOLLOW) / (VALUES - 1) as f64 }
    }

    /// Of each place of a sentence, its attribute under a template; none of a function word.
    fn places(template: &[usize]) -> impl Iterator<Item = Option<usize>> {
        (0..ROUNDS).flat_map(move |_| {
            template.chunks(GROUP).flat_map(|group| group.iter().map(|m| Some(*m)).chain([None]))
        })
    }

    /// For each attribute and value, the log-probability of its words; and that of the function words. Nothing where a
    /// word stands in a place that cannot have it.
    fn scores(
        &self,
        template: &[usize],
        symbols: &[u32],
    ) -> Option<([[f64; VALUES]; ATTRIBUTES], f64)> {
        let (mut scores, mut between) = ([[0.; VALUES]; ATTRIBUTES], 0.);
        for (place, symbol) in Self::places(template).zip(symbols) {
            let symbol = *symbol as usize;
            match place {
                Some(m) => {
                    let word = symbol.checked_sub(m * WORDS).filter(|word| *word < WORDS)?;
                    for (value, score) in scores.get_mut(m)?.iter_mut().enumerate() {
                        *score += hint(value, word).ln();
                    }
                }
                None => {
                    let word = symbol.checked_sub(ATTRIBUTES * WORDS)?;
                    between += self.function_words.get(word)?.ln();
                }
            }
        }
        Some((scores, between))
    }

    fn given_template(&self, template: &[usize], symbols: &[u32]) -> f64 {
        let Some((scores, between)) = self.scores(template, symbols) else {
            return f64::NEG_INFINITY;
        };
        let mut forward = [-(VALUES as f64).ln(); VALUES];
        for (m, scores) in scores.iter().enumerate() {
            let before = forward;
            for (value, (f, score)) in forward.iter_mut().zip(scores).enumerate() {
                if m > 0 {
                    let reach = |(y, f): (usize, &f64)| f + self.transition(m, y, value).ln();
                    *f = log_sum_exp(before.iter().enumerate().map(reach));
                }
                *f += score;
            }
        }
        between + log_sum_exp(forward.into_iter())
    }
}

/// Probability of a word of an attribute with a value.
fn hint(value: usize, word: usize) -> f64 {
    if word / 2 == value { OWN } else { (1. - 2. * OWN) / (WORDS - 2) as f64 }
}

impl Language for Slots {
    fn vocabulary(&self) -> usize {
        ATTRIBUTES * WORDS + FUNCTION_WORDS.len()
    }

    fn lengths(&self) -> (usize, usize) {
        (LENGTH, LENGTH)
    }

    /// Its latents are the six attributes.
    fn sentence(&self, key: Key) -> Sentence {
        let mut dice = Dice::new(key);
        let mut latents: Vec<u32> = Vec::with_capacity(ATTRIBUTES);
        for m in 0..ATTRIBUTES {
            let value = match latents.last() {
                None => dice.choose(VALUES),
                Some(before) => {
                    let to = (0..VALUES).map(|value| self.transition(m, *before as usize, value));
                    dice.pick(&to.collect::<Vec<_>>())
                }
            };
            latents.push(value as u32);
        }
        let template = self.templates.get(dice.pick(&TEMPLATES)).map_or(&[][..], Vec::as_slice);
        let symbols = Self::places(template).map(|place| match place {
            Some(m) => {
                let value = latents.get(m).map_or(0, |value| *value as usize);
                let words: Vec<f64> = (0..WORDS).map(|word| hint(value, word)).collect();
                m * WORDS + dice.pick(&words)
            }
            None => ATTRIBUTES * WORDS + dice.pick(&self.function_words),
        });
        let symbols = symbols.map(|symbol| symbol as u32).collect();
        Sentence { symbols, latents }
    }

    fn log_prob(&self, symbols: &[u32]) -> f64 {
        if symbols.len() != LENGTH {
            return f64::NEG_INFINITY;
        }
        let templates = self.templates.iter().zip(TEMPLATES);
        log_sum_exp(templates.map(|(template, p)| p.ln() + self.given_template(template, symbols)))
    }

    fn word(&self, symbol: u32) -> String {
        let symbol = symbol as usize;
        let name = match NAMES.get(symbol / WORDS) {
            Some(words) => words.get(symbol % WORDS),
            None => FUNCTION_WORDS.get(symbol - ATTRIBUTES * WORDS),
        };
        name.map_or_else(|| "?".to_owned(), |name| (*name).to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// There are too many sentences to sum over; each step of the story is summed instead.
    #[test]
    fn words_values_and_templates_are_distributions() {
        let language = Slots::new(Key::from_seed(1));
        let near_one = |total: f64| assert!((total - 1.).abs() < 1e-12, "{total}");
        (0..VALUES).for_each(|value| near_one((0..WORDS).map(|word| hint(value, word)).sum()));
        near_one(language.function_words.iter().sum());
        near_one(TEMPLATES.iter().sum());
        for m in 1..ATTRIBUTES {
            for before in 0..VALUES {
                near_one((0..VALUES).map(|value| language.transition(m, before, value)).sum());
            }
        }
    }

    /// The sum over attributes against all 15,625 of them, one by one.
    #[test]
    fn the_likelihood_is_the_sum_over_all_attributes_and_templates() {
        let language = Slots::new(Key::from_seed(1));
        let Sentence { symbols, .. } = language.sentence(Key::from_seed(3));
        let mut terms = Vec::new();
        for (template, p) in language.templates.iter().zip(TEMPLATES) {
            let Some((scores, between)) = language.scores(template, &symbols) else { continue };
            for code in 0..VALUES.pow(ATTRIBUTES as u32) {
                let value = |m: usize| code / VALUES.pow(m as u32) % VALUES;
                let mut log_p = p.ln() + between - (VALUES as f64).ln();
                for (m, score) in scores.iter().enumerate() {
                    log_p += score[value(m)];
                    if m > 0 {
                        log_p += language.transition(m, value(m - 1), value(m)).ln();
                    }
                }
                terms.push(log_p);
            }
        }
        let expected = log_sum_exp(terms.iter().copied());
        assert!((language.log_prob(&symbols) - expected).abs() < 1e-9);
    }

    /// Marginals of the chain, and how often a value is the partner of the one before it.
    #[test]
    fn attributes_come_as_often_as_the_chain_says() {
        let language = Slots::new(Key::from_seed(1));
        let draws = 20_000;
        let mut pairs = 0.;
        let mut firsts = [0.; VALUES];
        for index in 0..draws {
            let Sentence { latents, .. } = language.sentence(Key::from_seed(2).fold_in(index));
            firsts[latents[0] as usize] += 1. / draws as f64;
            let partner = language.partners[3][latents[2] as usize];
            pairs += f64::from(u8::from(partner == latents[3] as usize)) / draws as f64;
        }
        assert!((pairs - FOLLOW).abs() < 4.5 * (FOLLOW * (1. - FOLLOW) / draws as f64).sqrt());
        firsts.iter().for_each(|p| assert!((p - 0.2).abs() < 4.5 * (0.16 / draws as f64).sqrt()));
    }

    #[test]
    fn every_symbol_has_a_word_of_its_own() {
        let language = Slots::new(Key::from_seed(1));
        let words: HashSet<String> =
            (0..language.vocabulary() as u32).map(|s| language.word(s)).collect();
        assert_eq!(words.len(), 80);
        assert_eq!(language.word(80), "?");
    }
}
