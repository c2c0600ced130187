//! One of each estimator.
use candle_core::{Result, Tensor, Var};
use gumbel::Key;
use gumbel::estimators::{
    Arm, Arms, Carms, Darn, DecoupledStraightThroughGumbelSoftmax, DisArm, DoubleControlVariates,
    Enumerate, Estimator, Gap, GappedStraightThrough, GumbelRao, GumbelSoftmax, GumbelSparse,
    Independent, InvertibleGaussianReparameterisation, LeaveOneOut, MuProp, Nvil, Program, Rebar,
    ReinMax, ReinMaxRao, Reinforce, Relax, Rodeo, RunningMoments, SignalConfig,
    SlopeAnnealedStraightThrough, Store, StraightThrough, StraightThroughGumbelSoftmax,
    SumAndSample, Trace, Zgr,
};
use gumbel::kernels::SparseMap;

/// Learned parts as they start.
struct Fresh;

impl Store for Fresh {
    fn parameter(&mut self, _: &str, initial: &Tensor) -> Result<Tensor> {
        Ok(Var::from_tensor(initial)?.as_tensor().clone())
    }

    fn statistic(&mut self, _: &str, initial: &Tensor) -> Result<Var> {
        Var::from_tensor(initial)
    }
}

/// Number of estimators in [`all`].
pub(crate) const COUNT: usize = 27;

/// Estimators of two samples or so, with learned parts for the sites of `program`.
pub(crate) fn all(program: &Program<'_>) -> Result<[Box<dyn Estimator>; COUNT]> {
    let key = Key::from_seed(1);
    let sites = Trace::run(program, &mut Independent { samples: 1 }, key)?.1;
    let moments = || RunningMoments::new(SignalConfig::default(), &mut Fresh);
    let (samples, temperature) = (2, 0.7);
    Ok([
        Box::new(Enumerate { samples }),
        Box::new(LeaveOneOut { samples }),
        Box::new(Reinforce { samples, moments: moments()? }),
        Box::new(Nvil::new(samples, moments()?, 3, &sites, &mut Fresh, key)?),
        Box::new(MuProp { samples, moments: moments()? }),
        Box::new(Darn { samples }),
        Box::new(Arm { samples }),
        Box::new(DisArm { samples }),
        Box::new(Arms { samples, copies: 3 }),
        Box::new(Carms { samples, copies: 3 }),
        Box::new(Rebar::new(samples, temperature, &sites, &mut Fresh)?),
        Box::new(Relax::new(samples, temperature, 3, &sites, &mut Fresh, key)?),
        Box::new(GumbelSoftmax::new(samples, temperature)),
        Box::new(StraightThroughGumbelSoftmax { samples, temperature }),
        Box::new(StraightThrough { samples }),
        Box::new(SlopeAnnealedStraightThrough { samples, slope: 2. }),
        Box::new(DecoupledStraightThroughGumbelSoftmax {
            samples,
            forward_temperature: 1.,
            backward_temperature: temperature,
        }),
        Box::new(GappedStraightThrough { samples, temperature, gap: Gap::default() }),
        Box::new(GumbelRao { samples, temperature, draws: 3 }),
        Box::new(ReinMax { samples, temperature: 1. }),
        Box::new(ReinMaxRao { samples, temperature: 1., draws: 3 }),
        Box::new(Zgr { samples }),
        Box::new(GumbelSparse { samples, temperature, map: SparseMap::Entmax15 }),
        Box::new(InvertibleGaussianReparameterisation { samples, temperature }),
        Box::new(DoubleControlVariates::new(samples, &sites, &mut Fresh)?),
        Box::new(Rodeo::new(samples, 3, &sites, &mut Fresh, key)?),
        Box::new(SumAndSample { classes: 2 }),
    ])
}
