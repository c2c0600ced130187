//! Estimators of the gradient of an expected bound, for discrete latents.
//!
//! What all of them estimate, for discrete `z`, is:
//!
//! ```math
//! \nabla\, \mathbb{E}_{q(z)}\bigl[\mathrm{bound}(\log w(z))\bigr]
//! ```
//!
//! A model is a *program*: it asks a [`Trace`] for its latents by name and returns `log p(x | z): [S, B]`.
//! An [`Estimator`] decides how each draw is made and how the gradient flows back, runs the program as
//! often as it needs, and returns a [`Surrogate`] whose gradient is the estimate. An [`Objective`] turns
//! log-weights into a bound and knows neither of the two. So they compose with no glue, and one contract
//! covers every estimator.
//!
//! In what is said of them `f` is the bound, or the sample's term of it, and `J` the Jacobian of a softmax by its value
//! `p` (of bits `p (1 - p)`):
//!
//! ```math
//! J(p) = \operatorname{diag}(p) - p\, p^\top
//! ```
mod adaptive_temperature;
mod antithetic;
mod arm;
mod arms;
mod bound_of;
mod carms;
mod class_coupling;
mod copula;
mod darn;
mod decoupled;
mod disarm;
mod double_control_variates;
mod enumerate;
mod gapped;
mod gumbel_rao;
mod gumbel_softmax;
mod gumbel_sparse;
mod invertible_gaussian;
mod jacobian;
mod leave_one_out;
mod leaves;
mod method;
mod moments;
mod muprop;
mod network;
mod nvil;
mod others;
mod pathwise;
mod rebar;
mod reinforce;
mod reinmax;
mod reinmax_rao;
mod relax;
mod relaxed_control;
mod replay;
mod rodeo;
mod scheduled;
mod signal;
mod site;
mod slope_annealed;
mod store;
mod straight_through;
mod straight_through_gumbel_softmax;
mod sum_and_sample;
mod surrogate;
mod trace;
mod zgr;

pub(crate) use adaptive_temperature::dot;
pub use adaptive_temperature::{AdaptiveConfig, AdaptiveTemperature};
pub use arm::Arm;
pub use arms::Arms;
pub use bound_of::BoundOf;
pub use carms::Carms;
pub use darn::Darn;
pub use decoupled::DecoupledStraightThroughGumbelSoftmax;
pub use disarm::DisArm;
pub use double_control_variates::DoubleControlVariates;
pub use enumerate::Enumerate;
pub(crate) use enumerate::run_on_all;
pub use gapped::{ByProbability, Gap, GappedStraightThrough};
pub use gumbel_rao::GumbelRao;
pub use gumbel_softmax::GumbelSoftmax;
pub use gumbel_sparse::GumbelSparse;
pub use invertible_gaussian::InvertibleGaussianReparameterisation;
pub use leave_one_out::LeaveOneOut;
pub use method::Method;
pub use moments::{RunningMoments, SignalConfig};
pub use muprop::MuProp;
pub use nvil::Nvil;
pub use pathwise::Pathwise;
pub use rebar::Rebar;
pub use reinforce::Reinforce;
pub use reinmax::ReinMax;
pub use reinmax_rao::ReinMaxRao;
pub use relax::Relax;
pub use rodeo::Rodeo;
pub use scheduled::ScheduledEstimator;
pub use site::{Divergence, Draw, Measure, Site, SiteDraw};
pub use slope_annealed::SlopeAnnealedStraightThrough;
pub use store::{Store, Variables};
pub use straight_through::StraightThrough;
pub use straight_through_gumbel_softmax::StraightThroughGumbelSoftmax;
pub use sum_and_sample::SumAndSample;
pub use surrogate::Surrogate;
pub use trace::{Independent, Sampler, Trace};
pub use zgr::Zgr;

use candle_core::{Result, Tensor};
use gumbel_kernels::Key;

/// A model together with one batch: latents in, `log p(x | z): [S, B]` in nats out.
pub type Program<'a> = dyn Fn(&mut Trace<'_>) -> Result<Tensor> + 'a;

/// What is maximised, as a function of importance weights.
pub trait Objective: std::fmt::Debug {
    /// `log w: [S, B]` in nats from `log p(x|z): [S, B]` and the sites that the program visited.
    fn log_weights(&self, log_px: &Tensor, sites: &[SiteDraw]) -> Result<Tensor>;

    /// The bound `[B]` in nats from `log w: [S, B]`.
    fn bound(&self, log_w: &Tensor) -> Result<Tensor>;

    /// What the bound bounds, where it is made of such draws.
    fn bounds(&self, sites: &[SiteDraw]) -> BoundOf;

    /// The terms of the bound that depend on each sample, `[S, B]`: what a score function multiplies the
    /// score of that sample by. The whole bound, unless it is a sum over the samples.
    fn learning_signal(&self, log_w: &Tensor) -> Result<Tensor> {
        self.bound(log_w)?.unsqueeze(0)?.broadcast_as(log_w.shape())?.contiguous()
    }
}

/// An estimator of the gradient of an expected bound.
///
/// Contract, tested for every implementation against exact enumeration: the gradient of [`Surrogate::loss`] in any
/// parameter estimates, exactly in expectation if [`Estimator::is_unbiased`] says so:
///
/// ```math
/// \nabla \Bigl( -\frac{1}{B} \sum_{b=1}^{B} \mathbb{E}\bigl[\mathrm{bound}_b\bigr] \Bigr)
/// ```
pub trait Estimator: std::fmt::Debug {
    /// Runs `program` and builds the surrogate; all its noise comes from `key`.
    fn surrogate(
        &self,
        program: &Program<'_>,
        objective: &dyn Objective,
        key: Key,
    ) -> Result<Surrogate>;

    /// Whether the estimate is exact in expectation, for the discrete model.
    fn is_unbiased(&self) -> bool;

    /// BibTeX of the papers to cite for this estimator; empty where there is none.
    fn bibtex(&self) -> &'static str;
}
