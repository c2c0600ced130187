//! The model: a decoder that is told codes, their prior, and what infers them.
use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};
use gumbel::distributions::Categorical;
use gumbel::estimators::Trace;
use gumbel_kernels::{AttentionMask, add, cross_entropy};

use super::CodeLmConfig;
use crate::encoder::Encoder;
use crate::segments::spread;
use crate::stack::{EMBEDDING, EMBEDDING_SCALE, Linear, Stack};
use crate::{LatentVariableModel, Sequences, Transformer, TransformerConfig};

/// `p(x, z) = Π_m p(z_m | z_{<m}) Π_t p(x_t | x_{<t}, codes of the segment of t)`: a causal transformer, each place of
/// which is told the codes of its segment.
///
/// A segment has `variables` codes, each one-hot of `K`; all codes of a sequence, one segment after another, are a
/// sequence themselves, whose prior is a causal transformer. A code adds a vector to what the decoder reads at each place
/// of the segment; what its output layer reads is stretched by a second vector and moved by a third (Perez et al. 2018), so
/// that a code changes what follows which symbol, and the window does not hide it. With a small scale all start near 0, so
/// that the model starts as the decoder without codes. Under a relaxation a mixture of codes adds the mixture of their vectors.
///
/// The posterior is `Π_m q(z_m | x)` of a bidirectional transformer that reads each symbol with the one before, and whose
/// outputs are averaged over the segment; there is one site, `z`, of all codes. Its
/// [`Divergence::Analytic`](gumbel::estimators::Divergence) is the sum of the divergences of each code given a draw of those
/// before it (Rao–Blackwellised).
///
/// Parameters: those of [`Transformer`] under `decoder`, `codes.{input, gain, output}.weight`, `prior.*`, and those that only
/// training needs under `encoder`, `posterior` and `bag`.
#[derive(Clone, Debug)]
pub struct CodeLm {
    decoder: Transformer,
    /// What infers codes.
    encoder: Option<Encoder>,
    prior: Stack,
    prior_output: Linear,
    /// `[M K, D]`.
    input: Tensor,
    gain: Tensor,
    output: Tensor,
    bag: Option<Linear>,
    variables: usize,
    categories: usize,
    segment: usize,
}

impl CodeLm {
    /// Builds the model on the parameters of `builder`.
    ///
    /// # Errors
    /// If [`CodeLmConfig::check`] finds something.
    pub fn new(
        decoder: &TransformerConfig,
        config: &CodeLmConfig,
        builder: &VarBuilder<'_>,
    ) -> Result<Self> {
        config.check(decoder).map_err(candle_core::Error::msg)?;
        let (d, values) = (decoder.width, config.variables * config.categories);
        let bag = || Linear::scaled(EMBEDDING, (values, decoder.vocabulary), &builder.pp("bag"));
        let codes = |name: &str, size: f64| {
            let start = Init::Randn { mean: 0., stdev: size * config.scale };
            builder.pp("codes").pp(name).get_with_hints((values, d), "weight", start)
        };
        let prior = builder.pp("prior");
        Ok(Self {
            decoder: Transformer::new(decoder, &builder.pp("decoder"))?,
            encoder: Encoder::new(decoder, config.encoder_layers, values, builder)?,
            prior: Stack::new(&config.prior(decoder), AttentionMask::Causal, &prior)?,
            prior_output: Linear::scaled(EMBEDDING, (d, config.categories), &prior.pp("output"))?,
            input: codes("input", EMBEDDING_SCALE)?,
            gain: codes("gain", 1.)?,
            output: codes("output", 1.)?,
            bag: config.bag_of_words.then(bag).transpose()?,
            variables: config.variables,
            categories: config.categories,
            segment: config.segment.unwrap_or(decoder.context),
        })
    }

    /// Logits `[B, M, K]` of `q(z_m | x)`, for the `M` codes of each sequence.
    pub fn posterior_logits(&self, x: &Sequences) -> Result<Tensor> {
        let (b, t) = x.targets.dims2()?;
        let shape = (b, self.codes_of(t), self.categories);
        match &self.encoder {
            None => Tensor::zeros(shape, self.input.dtype(), self.input.device()),
            Some(encoder) => encoder.forward(x, self.segment)?.reshape(shape),
        }
    }

    /// Logits `[R, M, K]` of `p(z_m | z_{<m})` at codes `z: [R, M, K]`.
    pub fn prior_logits(&self, z: &Tensor) -> Result<Tensor> {
        let embedded = self.prior.embed_mixtures(z)?.pad_with_zeros(1, 1, 0)?;
        let before = embedded.narrow(1, 0, z.dim(1)?)?.contiguous()?;
        self.prior_output.forward(&self.prior.transform(&before)?)
    }

    /// Logits `[R, T, V]` of the symbol after each of the last `T` places of `ids: [R, _]`, given codes `z: [R, M, K]`.
    pub fn logits(&self, ids: &Tensor, z: &Tensor, last: usize) -> Result<Tensor> {
        self.decoder.logits_after(&self.hidden(ids, z)?, last)
    }

    /// Whether there is a bag of words.
    #[must_use]
    pub fn has_bag_of_words(&self) -> bool {
        self.bag.is_some()
    }

    /// Whether codes are inferred.
    #[must_use]
    pub fn infers(&self) -> bool {
        self.encoder.is_some()
    }

    /// How many codes a sequence of `length` symbols has.
    #[must_use]
    pub fn codes_of(&self, length: usize) -> usize {
        length.div_ceil(self.segment) * self.variables
    }

    /// Values `K` of a code.
    #[must_use]
    pub fn categories(&self) -> usize {
        self.categories
    }

    /// What the output layer reads, `[S B, T, D]`: `inputs: [B, T]`, `z: [S B, M, K]`.
    fn hidden(&self, inputs: &Tensor, z: &Tensor) -> Result<Tensor> {
        let (_, t) = inputs.dims2()?;
        let told = |weight: &Tensor| {
            let codes = self.grouped(z)?.broadcast_matmul(weight)?;
            spread(&codes, self.segment, t)
        };
        let symbols = repeated(&self.decoder.stack().embed(inputs)?, z.dim(0)?)?;
        let h = self.decoder.stack().transform(&add(&symbols, &told(&self.input)?)?)?;
        let stretched = (&h * (told(&self.gain)? + 1.)?)?;
        add(&stretched, &told(&self.output)?)
    }

    /// The codes of each segment in one row: `[R, M, K]` → `[R, N, M/N K]`.
    fn grouped(&self, z: &Tensor) -> Result<Tensor> {
        let (rows, m, k) = z.dims3()?;
        z.reshape((rows, m / self.variables, self.variables * k))
    }

    /// `log p(x|z)` as [`LatentVariableModel::log_likelihood`], and `Σ_t log p(x_t | z)` of a bag of words that is told
    /// nothing but the codes, both `[S, B]`: with the second added during training, codes have to say something (Zhao,
    /// Zhao, Eskenazi 2017, section 4.3).
    pub fn log_likelihood_and_bag_of_words(
        &self,
        x: &Sequences,
        trace: &mut Trace<'_>,
    ) -> Result<(Tensor, Tensor)> {
        let z = self.drawn(x, trace)?;
        let (s, b, m, k) = z.dims4()?;
        let z = z.reshape((s * b, m, k))?;
        let Some(bag) = &self.bag else {
            candle_core::bail!("this model has no bag of words; set bag_of_words")
        };
        let bag = bag.forward(&self.grouped(&z)?)?;
        let told = spread(&bag, self.segment, x.targets.dim(1)?)?;
        let words = cross_entropy(&told, &repeated(&x.targets, s * b)?)?;
        let words = words.sum(1)?.neg()?.reshape((s, b))?;
        Ok((self.decode(x, &z)?.reshape((s, b))?, words))
    }

    /// Draws the codes, and says what their prior is: `[S, B, M, K]`.
    fn drawn(&self, x: &Sequences, trace: &mut Trace<'_>) -> Result<Tensor> {
        let posterior = self.posterior_logits(x)?.unsqueeze(0)?;
        let z = trace.infer("z", &Categorical::from_logits(&posterior)?)?;
        let (s, b, m, k) = z.dims4()?;
        let prior = self.prior_logits(&z.reshape((s * b, m, k))?)?.reshape((s, b, m, k))?;
        trace.prior("z", &Categorical::from_logits(&prior)?)?;
        Ok(z)
    }

    /// `log p(x | z): [S B]` at `z: [S B, M, K]`.
    fn decode(&self, x: &Sequences, z: &Tensor) -> Result<Tensor> {
        let h = self.hidden(&x.inputs, z)?;
        self.decoder.log_probs_after(&h, &repeated(&x.targets, h.dim(0)?)?)?.sum(1)
    }
}

impl LatentVariableModel for CodeLm {
    type Batch = Sequences;

    fn log_likelihood(&self, x: &Sequences, trace: &mut Trace<'_>) -> Result<Tensor> {
        let z = self.drawn(x, trace)?;
        let (s, b, m, k) = z.dims4()?;
        self.decode(x, &z.reshape((s * b, m, k))?)?.reshape((s, b))
    }
}

/// Sequences `x: [B, ..]`, once for each of the samples that `rows = S B` rows are of: `[S B, ..]`.
fn repeated(x: &Tensor, rows: usize) -> Result<Tensor> {
    let (b, each) = (x.dim(0)?, &x.dims()[1..]);
    let samples = x.unsqueeze(0)?.broadcast_as([&[rows / b.max(1), b], each].concat())?;
    samples.reshape([&[rows], each].concat())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use candle_core::{DType, Device};
    use candle_nn::VarMap;
    use gumbel::Key;
    use gumbel::estimators::{Estimator, GumbelSoftmax, Independent};
    use gumbel::objectives::{Elbo, exact_log_likelihood, multi_sample_bound};

    use super::*;
    use crate::check::irregular;
    use crate::defaults::usual_scale;

    const DECODER: TransformerConfig = TransformerConfig {
        vocabulary: 5,
        width: 8,
        heads: 2,
        layers: 1,
        context: 6,
        window: Some(1),
    };

    fn config(variables: usize, segment: Option<usize>) -> CodeLmConfig {
        CodeLmConfig {
            variables,
            categories: 3,
            segment,
            encoder_layers: 1,
            prior_layers: 1,
            scale: usual_scale(),
            bag_of_words: true,
        }
    }

    /// A model whose parameters are irregular numbers.
    fn model(config: &CodeLmConfig) -> Result<(CodeLm, VarMap)> {
        with_decoder(&DECODER, config)
    }

    fn with_decoder(
        decoder: &TransformerConfig,
        config: &CodeLmConfig,
    ) -> Result<(CodeLm, VarMap)> {
        irregular(0.7, |builder| CodeLm::new(decoder, config, builder))
    }

    fn sequences(ids: Vec<[u32; 3]>) -> Result<Sequences> {
        let inputs = ids.iter().flat_map(|x| [4, x[0], x[1]]).collect::<Vec<_>>();
        let b = ids.len();
        let targets = ids.into_iter().flatten().collect::<Vec<_>>();
        let tensor = |ids| Tensor::from_vec(ids, (b, 3), &Device::Cpu);
        Ok(Sequences { inputs: tensor(inputs)?, targets: tensor(targets)? })
    }

    /// `Σ_x Σ_z p(x, z) = 1` over all sequences of three symbols, however the codes are laid out.
    #[test]
    fn it_is_a_distribution_over_sequences() -> Result<()> {
        for (variables, segment) in [(1, None), (2, None), (1, Some(2)), (1, Some(1))] {
            let (model, _) = model(&config(variables, segment))?;
            let all = (0..125u32).map(|code| [code % 5, code / 5 % 5, code / 25]).collect();
            let x = sequences(all)?;
            let program = |trace: &mut Trace<'_>| model.log_likelihood(&x, trace);
            let exact = exact_log_likelihood(&program)?;
            let total = exact.exp()?.sum_all()?.to_scalar::<f32>()?;
            assert!((total - 1.).abs() < 1e-4, "{total}");
            let blind = CodeLmConfig { encoder_layers: 0, ..config(variables, segment) };
            let (blind, _) = self::model(&blind)?;
            let program = |trace: &mut Trace<'_>| blind.log_likelihood(&x, trace);
            let same = (exact_log_likelihood(&program)? - &exact)?.abs()?.max_all()?;
            assert!(same.to_scalar::<f32>()? < 1e-4, "{same}");
            let bound = multi_sample_bound(&program, 2000, 100, Key::from_seed(1))?;
            let off = (bound - &exact)?.abs()?.mean_all()?.to_scalar::<f32>()?;
            assert!(off < 0.1, "{off}");
        }
        Ok(())
    }

    /// A place is told the codes of its own segment, and may read what places before it were told.
    #[test]
    fn a_code_reaches_the_places_of_its_segment_and_later_ones() -> Result<()> {
        let (narrow, _) = model(&config(1, Some(2)))?;
        let wide = TransformerConfig { window: None, ..DECODER };
        let (wide, _) = with_decoder(&wide, &config(1, Some(2)))?;
        let ids = Tensor::new(&[[4u32, 1, 2, 3]], &Device::Cpu)?;
        let logits = |model: &CodeLm, codes: [usize; 2]| -> Result<Vec<Vec<f32>>> {
            let one_hot = codes.map(|code| [0, 1, 2].map(|k| f32::from(u8::from(k == code))));
            model.logits(&ids, &Tensor::new(&[one_hot], &Device::Cpu)?, 4)?.get(0)?.to_vec2()
        };
        for model in [&narrow, &wide] {
            let (old, new) = (logits(model, [0, 1])?, logits(model, [0, 2])?);
            assert_eq!(old[..2], new[..2]);
            assert!(old[2] != new[2] && old[3] != new[3]);
        }
        let (old, new) = (logits(&narrow, [0, 1])?, logits(&narrow, [2, 1])?);
        assert_eq!(old[2..], new[2..]);
        let (old, new) = (logits(&wide, [0, 1])?, logits(&wide, [2, 1])?);
        assert!(old[2] != new[2]);
        Ok(())
    }

    /// Codes start with hardly any influence: a strong one keeps the decoder from learning its language.
    #[test]
    fn it_starts_as_the_decoder_without_codes() -> Result<()> {
        let map = VarMap::new();
        let builder = VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
        let model = CodeLm::new(&DECODER, &config(2, None), &builder)?;
        let x = sequences(vec![[0, 1, 2], [3, 3, 3]])?;
        let program = |trace: &mut Trace<'_>| model.log_likelihood(&x, trace);
        let (log_px, _) = Trace::run(&program, &mut Independent { samples: 9 }, Key::from_seed(1))?;
        let without = model.decoder.log_probs(&x)?.sum(1)?;
        let off = log_px.broadcast_sub(&without)?.abs()?.max_all()?.to_scalar::<f32>()?;
        assert!(off < 0.3, "{off}");
        Ok(())
    }

    /// Each parameter learns from a relaxed draw, and a relaxed draw at an end of the simplex is a discrete one.
    #[test]
    fn every_parameter_has_a_gradient() -> Result<()> {
        let (model, map) = model(&config(2, Some(2)))?;
        let x = sequences(vec![[0, 1, 2], [3, 3, 3]])?;
        let program = |trace: &mut Trace<'_>| {
            let (log_px, words) = model.log_likelihood_and_bag_of_words(&x, trace)?;
            log_px + words
        };
        let estimator = GumbelSoftmax::new(2, 0.7);
        let loss = estimator.surrogate(&program, &Elbo::default(), Key::from_seed(3))?.loss;
        let gradients = loss.backward()?;
        let named: BTreeMap<_, _> = map.data().lock().unwrap().clone().into_iter().collect();
        for (name, var) in &named {
            assert!(gradients.get(var).is_some(), "{name}");
        }
        Ok(())
    }

    #[test]
    fn sizes_that_make_no_sense_are_refused_by_name() {
        let plain = config(2, None);
        for (config, expected) in [
            (CodeLmConfig { variables: 0, ..plain }, "variables is 0"),
            (CodeLmConfig { categories: 0, ..plain }, "categories is 0"),
            (CodeLmConfig { segment: Some(7), ..plain }, "segment is 7; use 1 to 6"),
            (CodeLmConfig { scale: f64::NAN, ..plain }, "scale is NaN"),
            (CodeLmConfig { prior_layers: 0, ..plain }, "prior_layers is 0"),
            (CodeLmConfig { variables: 4096, segment: Some(1), ..plain }, "24576 in all"),
        ] {
            let error = config.check(&DECODER).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
