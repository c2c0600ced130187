//! Noise from given uniforms, and the distributions on the line.
use gumbel::distributions::{BinConcrete, Gumbel, Logistic};
use gumbel_kernels::noise;

use crate::case::{Array, Case, Fallible, NO_FLOOR, cancellation};

/// `u` to noise: exact in both tails, and so without a floor but for the zero crossings.
pub(crate) fn check_noise(case: &mut Case<'_>) -> Fallible<()> {
    let u = case.number("u")?;
    let crossing = cancellation(&[]);
    case.expect("gumbel_loglog", &[noise::gumbel_of_uniform(u)], crossing)?;
    case.expect("gumbel_flipped", &[noise::gumbel_of_complement(u)], crossing)?;
    case.expect("logistic", &[noise::logistic_of_uniform(u)], crossing)?;
    case.expect("exponential", &[noise::exponential_of_uniform(u)], NO_FLOOR)
}

/// What a distribution on the line knows about itself.
struct Line {
    /// `log f(x)`, `log P(X ≤ x)`, `log P(X > x)`.
    at: Box<dyn Fn(f64) -> [f64; 3]>,
    mean: f64,
    variance: f64,
    entropy: f64,
    mode: f64,
    median: f64,
}

fn line(family: &str, loc: f64, scale: f64) -> Fallible<Line> {
    match family {
        "Gumbel" => {
            let d = Gumbel::new(loc, scale)?;
            Ok(Line {
                at: Box::new(move |x| [d.log_density(x), d.log_cdf(x), d.log_survival(x)]),
                mean: d.mean(),
                variance: d.variance(),
                entropy: d.entropy(),
                mode: d.mode(),
                median: d.median(),
            })
        }
        "Logistic" => {
            let d = Logistic::new(loc, scale)?;
            Ok(Line {
                at: Box::new(move |x| [d.log_density(x), d.log_cdf(x), d.log_survival(x)]),
                mean: d.mean(),
                variance: d.variance(),
                entropy: d.entropy(),
                mode: d.mean(),
                median: d.mean(),
            })
        }
        other => Err(format!("no check for the family `{other}`").into()),
    }
}

/// Gumbel and Logistic: density, both tails, moments.
pub(crate) fn check_univariate(case: &mut Case<'_>) -> Fallible<()> {
    let (loc, scale) = (case.number("loc")?, case.number("scale")?);
    let line = line(case.text("family")?, loc, scale)?;
    let floor = cancellation(&[loc, scale]);
    for (field, value) in [
        ("mean", line.mean),
        ("variance", line.variance),
        ("entropy", line.entropy),
        ("mode", line.mode),
        ("median", line.median),
    ] {
        case.expect(field, &[value], floor)?;
    }
    for mut point in case.parts("points")? {
        let [log_prob, log_cdf, log_sf] = (line.at)(point.number("x")?);
        point.expect("log_prob", &[log_prob], floor)?;
        point.expect("log_cdf", &[log_cdf], NO_FLOOR)?;
        point.expect("log_sf", &[log_sf], NO_FLOOR)?;
        case.absorb(point);
    }
    Ok(())
}

/// The binary Concrete distribution on the unit interval.
pub(crate) fn check_cdf(case: &mut Case<'_>) -> Fallible<()> {
    let x = case.array("x")?;
    let logit = Array { shape: vec![1, 1, 1], values: vec![case.number("log_alpha")?] };
    let d = BinConcrete::new(&logit.tensor()?, case.number("temperature")?)?;
    let points = x.tensor()?.reshape((x.values.len(), 1, 1))?;
    case.expect_tensor("cdf", &d.cdf(&points)?, NO_FLOOR)?;
    case.expect_tensor("prob_gt_half", &d.probability_above_half()?, NO_FLOOR)?;
    if case.has("mean") {
        case.expect_tensor("mean", &d.mean()?, NO_FLOOR)?;
    }
    if case.has("variance") {
        case.expect_tensor("variance", &d.variance()?, NO_FLOOR)?;
    }
    Ok(())
}
