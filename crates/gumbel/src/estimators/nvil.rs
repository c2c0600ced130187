//! Neural variational inference and learning: a score function with learned baselines.
use candle_core::Result;
use gumbel_kernels::Key;

use super::network::Network;
use super::signal::score;
use super::site::latent;
use super::{
    Estimator, Independent, Objective, Program, RunningMoments, SiteDraw, Store, Surrogate, Trace,
};

/// NVIL: the score function with a learned baseline for each layer, centring and variance normalisation.
///
/// The signal of site `i` is, with `c` and `σ` the running mean and standard deviation where signals are centred and
/// scaled, and 0 and 1 where they are not:
///
/// ```math
/// \frac{f(z) - c}{\max(1, \sigma)} - C_i
/// ```
///
/// `C_i`, a network with one hidden layer, learns to predict the first term from what the site was conditioned on: it
/// reads the site's posterior logits, which are a function of the input and of earlier latents, and never of the site's
/// own draw. So the gradient stays **unbiased** (up to a factor where signals are scaled). The networks are trained by
/// their squared error, which is part of the loss and has no gradient in the model.
///
/// Source: Mnih and Gregor (2014), section 2.3, without local signals. There the baseline reads the input itself.
#[derive(Clone, Debug)]
pub struct Nvil {
    samples: usize,
    moments: RunningMoments,
    baselines: Vec<Network>,
}

impl Nvil {
    /// For the sites that a first run visited; `hidden` units in each baseline.
    ///
    /// # Errors
    /// If `store` refuses a parameter.
    pub fn new(
        samples: usize,
        moments: RunningMoments,
        hidden: usize,
        sites: &[SiteDraw],
        store: &mut dyn Store,
        key: Key,
    ) -> Result<Self> {
        let baseline = |site: &SiteDraw| Network::new(site, hidden, store, key);
        let latent = latent(sites);
        let baselines = latent.map(baseline).collect::<Result<_>>()?;
        Ok(Self { samples, moments, baselines })
    }
}

impl Estimator for Nvil {
    fn surrogate(
        &self,
        program: &Program<'_>,
        objective: &dyn Objective,
        key: Key,
    ) -> Result<Surrogate> {
        let (log_px, sites) = Trace::run(program, &mut Independent { samples: self.samples }, key)?;
        let (log_w, bound) = self.moments.weigh(objective, &log_px, &sites)?;
        let centred = self.moments.apply(&[objective.learning_signal(&log_w.detach())?])?;
        let mut gain = bound.clone();
        for site in &sites {
            let (false, Some(signal)) = (site.is_observed(), centred.signals.first()) else {
                continue;
            };
            let baseline = Network::of(&self.baselines, site)?.value(site.posterior.logits())?;
            let residual = signal.broadcast_sub(&baseline)?; // [S, B]
            gain = (gain.broadcast_add(&score(site, &residual)?)? - residual.sqr()?.sum(0)?)?;
        }
        let surrogate = Surrogate::new(&gain, &bound, &log_px, sites)?;
        Ok(surrogate.with_statistics(centred.statistics))
    }

    fn is_unbiased(&self) -> bool {
        !self.moments.is_scaled()
    }

    fn bibtex(&self) -> &'static str {
        include_str!("bibtex/nvil.bib")
    }
}
