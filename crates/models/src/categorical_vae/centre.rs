//! Centring of what the encoders of upper layers see.
use candle_core::{DType, Device, Tensor, Var};
use gumbel::estimators::SiteDraw;

use super::model::{CategoricalVae, Result};

/// Weight of the past in the running means (Maddison et al. 2017, appendix D).
const DECAY: f64 = 0.9;

impl CategoricalVae {
    /// Has the encoders of upper layers see codes less their running mean over the steps, where the configuration says
    /// `centred`; until then, and where there is one layer, nothing changes.
    ///
    /// `statistic(name, initial)` makes a mean, `[code]` in `F32`, that starts at `initial` and is saved with the model
    /// but not trained. [`Self::update_centres`] moves them.
    ///
    /// Source: Maddison, Mnih, Teh (2017), appendix D, after Mnih and Gregor (2014).
    pub fn centre(
        &mut self,
        mut statistic: impl FnMut(&str, &Tensor) -> Result<Var>,
    ) -> Result<()> {
        if !self.config.centred {
            return Ok(());
        }
        let code = self.latents.width();
        let zero = Tensor::zeros(code, DType::F32, &Device::Cpu)?.to_device(self.mean.device())?;
        let names = (2..=self.config.layers).map(|layer| format!("encoder_{layer}.centre"));
        self.centres = names.map(|name| statistic(&name, &zero)).collect::<Result<_>>()?;
        Ok(())
    }

    /// Takes the running means of a model in training, to evaluate it.
    pub fn share_centres(&mut self, trained: &Self) {
        self.centres.clone_from(&trained.centres);
    }

    /// Moves the running means by the draws of a step: `0.9` of what they were and `0.1` of the mean over the batch.
    pub fn update_centres(&self, sites: &[SiteDraw]) -> Result<()> {
        for (layer, centre) in self.centres.iter().enumerate() {
            let drawn = sites.iter().find(|site| site.site == ("z", layer).into());
            let Some(drawn) = drawn else {
                candle_core::bail!("the sites of a step have no layer {layer} of latents")
            };
            let code = self.latents.code(&drawn.draw.value.detach())?.to_dtype(DType::F32)?;
            let mean = code.flatten_to(1)?.mean(0)?;
            centre.set(&((centre.as_tensor().detach() * DECAY)? + (mean * (1. - DECAY))?)?)?;
        }
        Ok(())
    }

    /// What the encoder above `layer` sees of its code.
    pub(super) fn centred(&self, layer: usize, code: &Tensor) -> Result<Tensor> {
        match self.centres.get(layer) {
            Some(centre) => {
                code.broadcast_sub(&centre.as_tensor().detach().to_dtype(code.dtype())?)
            }
            None => Ok(code.clone()),
        }
    }
}
