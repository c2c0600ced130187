//! Writing: symbols one after another, from the discrete model.
use candle_core::{DType, Device, Result, Tensor};
use gumbel_kernels::Key;

use crate::LanguageModel;

/// How the next symbol is chosen from its logits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// Divides the logits; 0 takes the most probable symbol, 1 draws from the model.
    pub temperature: f64,
    /// Only so many of the most probable symbols; all if not given.
    pub top_k: Option<usize>,
    /// Only the most probable symbols that together have this probability; 1 for all (Holtzman et al. 2020).
    pub top_p: f64,
}

impl Default for Choice {
    fn default() -> Self {
        Self { temperature: 1., top_k: None, top_p: 1. }
    }
}

impl Choice {
    /// What is wrong with it, if anything.
    ///
    /// # Errors
    /// If the temperature is negative or not finite, `top_k` is 0, or `top_p` is not in `(0, 1]`.
    pub fn check(&self) -> std::result::Result<(), String> {
        if !(self.temperature >= 0. && self.temperature.is_finite()) {
            return Err(format!("temperature is {}; use a number from 0 on", self.temperature));
        }
        if self.top_k == Some(0) {
            return Err("top_k is 0; use at least 1, or leave it out".to_owned());
        }
        if !(self.top_p > 0. && self.top_p <= 1.) {
            return Err(format!("top_p is {}; use a number above 0, up to 1", self.top_p));
        }
        Ok(())
    }

    /// The symbol that a uniform number in `[0, 1)` chooses.
    fn choose(&self, logits: &[f64], uniform: f64) -> u32 {
        let mut order: Vec<usize> = (0..logits.len()).collect();
        let logit = |i: usize| logits.get(i).copied().unwrap_or(f64::NEG_INFINITY);
        order.sort_by(|a, b| logit(*b).total_cmp(&logit(*a)));
        let top = order.first().map_or(0., |i| logit(*i));
        order.truncate(if self.temperature == 0. { 1 } else { self.top_k.unwrap_or(usize::MAX) });
        let weights: Vec<f64> =
            order.iter().map(|i| ((logit(*i) - top) / self.temperature.max(1e-9)).exp()).collect();
        let most = self.top_p * weights.iter().sum::<f64>();
        let mut kept = 0.;
        let reached = weights.iter().position(|w| {
            kept += w;
            kept >= most
        });
        let last = reached.unwrap_or(weights.len().saturating_sub(1));
        let mut left = uniform * kept;
        let place = weights.iter().take(last).position(|w| {
            left -= w;
            left < 0.
        });
        order.get(place.unwrap_or(last)).map_or(0, |i| *i as u32)
    }

    /// A symbol for each row of `logits: [R, V]`.
    fn choose_rows(&self, logits: &Tensor, key: Key) -> Result<Vec<u32>> {
        let rows = logits.to_dtype(DType::F64)?.to_device(&Device::Cpu)?.to_vec2::<f64>()?;
        let rows = rows.iter().enumerate();
        Ok(rows.map(|(i, row)| self.choose(row, key.uniform_at(i as u64))).collect())
    }
}

/// What a model has written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Each text, without what it starts after and with its end, where it has one.
    pub symbols: Vec<Vec<u32>>,
    /// The latents of each, by which they were written.
    pub codes: Vec<Vec<u32>>,
}

impl LanguageModel {
    /// Writes a text after each of `prompts`, which are of one length and start with the symbol that a text follows: until
    /// `end`, or `length` symbols in all. Latents are drawn from the prior, but for those that `codes` gives, the first of
    /// all. Codes do not depend on a prompt; states that are gated do.
    ///
    /// # Errors
    /// If prompts are of different lengths or empty, a text would be longer than the context, or a code is too large.
    pub fn write(
        &self,
        prompts: &[Vec<u32>],
        codes: &[u32],
        (length, end): (usize, u32),
        choice: &Choice,
        key: Key,
        device: &Device,
    ) -> Result<Written> {
        choice.check().map_err(candle_core::Error::msg)?;
        let first = prompts.first().map_or(0, Vec::len);
        if first == 0 || prompts.iter().any(|prompt| prompt.len() != first) {
            candle_core::bail!("prompts must have at least one symbol, all as many as the first")
        }
        let mut writer =
            Writer { model: self, codes, latents: vec![Vec::new(); prompts.len()], key };
        let mut ids = prompts.to_vec();
        while ids.first().map_or(0, Vec::len) <= length && !ids.iter().all(|x| ended(x, first, end))
        {
            let here = matrix(&ids, device)?;
            let z = writer.latents(&here, length)?;
            let logits = self.logits(&here, &z, 1)?.squeeze(1)?;
            let symbols = key.named("symbols").fold_in(here.dim(1)? as u64);
            for (x, symbol) in ids.iter_mut().zip(choice.choose_rows(&logits, symbols)?) {
                x.push(symbol);
            }
        }
        let until_end = |x: Vec<u32>| {
            let stop = x.iter().skip(first).position(|symbol| *symbol == end);
            x.into_iter().skip(1).take(stop.map_or(usize::MAX, |stop| first + stop)).collect()
        };
        Ok(Written { symbols: ids.into_iter().map(until_end).collect(), codes: writer.latents })
    }
}

fn ended(x: &[u32], first: usize, end: u32) -> bool {
    x.iter().skip(first).any(|symbol| *symbol == end)
}

fn matrix(rows: &[Vec<u32>], device: &Device) -> Result<Tensor> {
    let width = rows.first().map_or(0, Vec::len);
    Tensor::from_vec(rows.concat(), (rows.len(), width), device)
}

/// Draws latents as the text gets longer.
struct Writer<'a> {
    model: &'a LanguageModel,
    codes: &'a [u32],
    latents: Vec<Vec<u32>>,
    key: Key,
}

impl Writer<'_> {
    /// One-hot latents `[R, M, K]` of all segments of `ids: [R, T]`; those that are not there yet are drawn.
    fn latents(&mut self, ids: &Tensor, length: usize) -> Result<Tensor> {
        let (rows, here) = ids.dims2()?;
        match self.model {
            LanguageModel::Decoder(_) => Tensor::zeros((rows, 1, 1), DType::F32, ids.device()),
            LanguageModel::States(model) => {
                let (segments, k) = (here.div_ceil(model.segment()), model.states());
                while self.count() < segments {
                    let known = ids.narrow(1, 0, self.count() * model.segment() + 1)?;
                    let before = match self.count() {
                        0 => None,
                        n => Some(self.one_hot(k, ids.device())?.narrow(1, n - 1, 1)?.squeeze(1)?),
                    };
                    self.draw(&model.next_state_logits(&known, before.as_ref())?)?;
                }
                self.one_hot(k, ids.device())
            }
            LanguageModel::Codes(model) => {
                let k = model.categories();
                while self.count() < model.codes_of(length) {
                    let n = self.count();
                    // A place for the next code, which the prior of the next code does not look at.
                    let so_far = match n {
                        0 => Tensor::zeros((rows, 1, k), DType::F32, ids.device())?,
                        _ => self.one_hot(k, ids.device())?.pad_with_zeros(1, 0, 1)?,
                    };
                    self.draw(&model.prior_logits(&so_far)?.narrow(1, n, 1)?.squeeze(1)?)?;
                }
                self.one_hot(k, ids.device())
            }
        }
    }

    fn count(&self) -> usize {
        self.latents.first().map_or(0, Vec::len)
    }

    /// The next latent of each row, given or drawn from `logits: [R, K]`.
    fn draw(&mut self, logits: &Tensor) -> Result<()> {
        let (rows, k) = logits.dims2()?;
        let next = match self.codes.get(self.count()) {
            Some(code) if *code as usize >= k => {
                candle_core::bail!("code {code} of {k}; use 0 to {}", k - 1)
            }
            Some(code) => vec![*code; rows],
            None => {
                let key = self.key.named("latents").fold_in(self.count() as u64);
                Choice::default().choose_rows(logits, key)?
            }
        };
        self.latents.iter_mut().zip(next).for_each(|(latents, code)| latents.push(code));
        Ok(())
    }

    fn one_hot(&self, k: usize, device: &Device) -> Result<Tensor> {
        let codes = matrix(&self.latents, device)?;
        let (rows, m) = codes.dims2()?;
        let eye = Tensor::eye(k, DType::F32, device)?;
        eye.index_select(&codes.flatten_all()?, 0)?.reshape((rows, m, k))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::check::irregular;
    use crate::{CodeLmConfig, Emission, Latents, Sequences, SwitchLmConfig, TransformerConfig};

    const DECODER: TransformerConfig = TransformerConfig {
        vocabulary: 3,
        width: 8,
        heads: 2,
        layers: 1,
        context: 4,
        window: None,
    };

    fn kinds() -> [Latents; 3] {
        [
            Latents::None {},
            Latents::States(SwitchLmConfig {
                states: 3,
                segment: 2,
                emission: Emission::Readout,
                gated: true,
                scale: 0.02,
                encoder_layers: 1,
                evidence: false,
            }),
            Latents::Codes(CodeLmConfig {
                variables: 2,
                categories: 2,
                segment: None,
                encoder_layers: 1,
                prior_layers: 1,
                scale: 0.01,
                bag_of_words: false,
            }),
        ]
    }

    /// A model whose parameters are irregular numbers.
    fn model(latents: &Latents) -> Result<LanguageModel> {
        Ok(irregular(0.3, |builder| LanguageModel::new(&DECODER, latents, builder))?.0)
    }

    /// Texts come as often as the exact likelihood says: χ² over the 27 of three symbols.
    #[test]
    fn texts_come_as_often_as_their_probability() -> Result<()> {
        for latents in kinds() {
            let model = model(&latents)?;
            let draws = 6000;
            let prompts = vec![vec![2]; draws];
            let key = Key::from_seed(7);
            let none = u32::MAX;
            let written =
                model.write(&prompts, &[], (3, none), &Choice::default(), key, &Device::Cpu)?;
            let mut counts: HashMap<Vec<u32>, f64> = HashMap::new();
            written.symbols.into_iter().for_each(|x| *counts.entry(x).or_default() += 1.);
            let all: Vec<Vec<u32>> = (0..27u32).map(|i| vec![i % 3, i / 3 % 3, i / 9]).collect();
            let inputs: Vec<Vec<u32>> = all.iter().map(|x| vec![2, x[0], x[1]]).collect();
            let x = Sequences {
                inputs: matrix(&inputs, &Device::Cpu)?,
                targets: matrix(&all, &Device::Cpu)?,
            };
            let probs = model.log_prob(&x)?.exp()?.to_vec1::<f32>()?;
            let chi: f64 = all
                .iter()
                .zip(probs)
                .map(|(x, p)| {
                    let expected = f64::from(p) * draws as f64;
                    (counts.get(x).copied().unwrap_or(0.) - expected).powi(2) / expected
                })
                .sum();
            assert!(chi < 26. + 4.5 * 52f64.sqrt(), "{latents:?}: {chi}");
        }
        Ok(())
    }

    #[test]
    fn given_codes_are_kept_and_texts_end_where_they_should() -> Result<()> {
        let model = model(&kinds()[2])?;
        let write = |codes: &[u32], end| {
            let prompts = vec![vec![2, 0]; 50];
            let (key, choice) = (Key::from_seed(3), Choice::default());
            model.write(&prompts, codes, (4, end), &choice, key, &Device::Cpu)
        };
        let written = write(&[1], 1)?;
        for (x, codes) in written.symbols.iter().zip(&written.codes) {
            assert!(codes.len() == 2 && codes[0] == 1 && x[0] == 0);
            let end = x.iter().skip(1).position(|symbol| *symbol == 1);
            assert!(x.len() == end.map_or(4, |end| end + 2), "{x:?}");
        }
        assert!(write(&[2], 1).unwrap_err().to_string().contains("use 0 to 1"));
        assert!(write(&[0], 1)?.symbols != written.symbols);
        Ok(())
    }

    #[test]
    fn limits_leave_only_the_most_probable() {
        let logits = [0.5f64, 0.1, 0.3, 0.1].map(f64::ln);
        let seen = |choice: Choice| {
            let mut seen: Vec<u32> =
                (0..1000).map(|i| choice.choose(&logits, f64::from(i) / 1000.)).collect();
            seen.sort_unstable();
            let count = |symbol| seen.iter().filter(|s| **s == symbol).count();
            [count(0), count(1), count(2), count(3)]
        };
        let all = Choice::default();
        for (found, expected) in seen(all).into_iter().zip([500, 100, 300, 100]) {
            assert!(found.abs_diff(expected) <= 1);
        }
        assert_eq!(seen(Choice { temperature: 0., ..all }), [1000, 0, 0, 0]);
        let two = seen(Choice { top_k: Some(2), ..all });
        assert!(two[0].abs_diff(625) <= 1 && two[1] == 0 && two[3] == 0);
        assert_eq!(seen(Choice { top_p: 0.75, ..all }), two);
        assert_eq!(seen(Choice { top_p: 0.4, ..all }), [1000, 0, 0, 0]);
        let hot = seen(Choice { temperature: 2., ..all });
        assert!(hot[0] < 500 && hot[1] > 100);
        for (bad, name) in [
            (Choice { temperature: -1., ..all }, "temperature"),
            (Choice { top_k: Some(0), ..all }, "top_k"),
            (Choice { top_p: f64::NAN, ..all }, "top_p"),
        ] {
            assert!(bad.check().unwrap_err().contains(name));
        }
    }
}
