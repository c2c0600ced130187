//! Exact means and variances of the estimators of bits, and their values at given uniform numbers.
use candle_core::{Device, Result as TensorResult, Tensor, Var};
use gumbel::Key;
use gumbel::distributions::{Bernoulli, conditional_logistic};
use gumbel::estimators::{
    Arm, DisArm, Enumerate, Estimator, LeaveOneOut, Rebar, Site, Surrogate, Trace, Variables,
};
use gumbel::kernels::sigmoid;

use crate::case::{Case, Fallible, cancellation, numbers};
use crate::estimators::{EXPECTATION, Quadratic};

/// The outcome of all bits.
type Bits = Vec<f64>;

struct Problem {
    logits: Vec<f64>,
    f: Quadratic,
}

/// Probability of a pair of outcomes, the two, and the range of the uniform number of each bit.
type Pair = (f64, Bits, Bits, Vec<(f64, f64)>);

/// Probability and gradient of each outcome.
type Law = Vec<(f64, Vec<f64>)>;

pub(crate) fn check(case: &mut Case<'_>) -> Fallible<()> {
    let problem = Problem { logits: case.array("logits")?.values, f: Quadratic::read(case)? };
    let floor = cancellation(&[
        problem.value(&problem.f.c.iter().map(|c| f64::from(u8::from(*c > 0.))).collect())
    ]);
    let (exact, surrogate) = problem.gradients(&Enumerate { samples: 1 }, 1, Key::from_seed(0))?;
    case.expect("exact_gradient", &exact[0], floor)?;
    case.expect_tensor("expectation", &surrogate.bound, floor)?;

    problem.check_rows()?;
    let mut methods = case.part("methods")?;
    let laws = [
        ("reinforce", problem.reinforce()?),
        ("reinforce_loo_n2", problem.leave_one_out()?),
        ("disarm", problem.disarm()),
    ];
    for (name, law) in laws {
        let mut method = methods.part(name)?;
        let (mean, variance) = moments(&law);
        method.expect("mean", &mean, floor)?;
        method.expect("var", &variance, floor)?;
        methods.absorb(method);
    }
    let mut method = methods.part("arm")?;
    let (mean, variance) = problem.arm();
    method.expect("mean", &mean, floor)?;
    method.expect("var", &variance, floor)?;
    methods.absorb(method);
    case.absorb(methods);

    let mut fixed = case.part("fixed_u")?;
    problem.check_fixed_u(&mut fixed, floor)?;
    case.absorb(fixed);
    let mut fixed = case.part("fixed_uv_rebar")?;
    problem.check_rebar(&mut fixed, floor)?;
    case.absorb(fixed);
    Ok(())
}

fn moments(law: &Law) -> (Vec<f64>, Vec<f64>) {
    let n = law.first().map_or(0, |(_, g)| g.len());
    let mean: Vec<f64> = (0..n).map(|i| law.iter().map(|(p, g)| p * g[i]).sum()).collect();
    let variance = (0..n).map(|i| law.iter().map(|(p, g)| p * (g[i] - mean[i]).powi(2)).sum());
    (mean.clone(), variance.collect())
}

fn sigma(x: f64) -> f64 {
    1. / (1. + (-x).exp())
}

/// All vectors of `n` digits below `base`.
fn tuples(n: usize, base: usize) -> impl Iterator<Item = Vec<usize>> {
    (0..base.pow(n as u32)).map(move |m| (0..n).map(|i| m / base.pow(i as u32) % base).collect())
}

impl Problem {
    fn value(&self, bits: &Bits) -> f64 {
        let sum: f64 = self.f.c.iter().zip(bits).map(|(c, b)| c * b).sum();
        (sum - self.f.t).powi(2)
    }

    /// Gradients in the logits for `rows` equal rows, and the surrogate they come from.
    fn gradients(
        &self,
        estimator: &dyn Estimator,
        rows: usize,
        key: Key,
    ) -> Fallible<(Vec<Vec<f64>>, Surrogate)> {
        let n = self.logits.len();
        let row = Tensor::new(self.logits.as_slice(), &Device::Cpu)?;
        let logits = Var::from_tensor(&row.broadcast_as((1, rows, n))?.contiguous()?)?;
        let program = |trace: &mut Trace<'_>| self.run(&logits, trace);
        let surrogate = estimator.surrogate(&program, &EXPECTATION, key)?;
        let grads = surrogate.loss.backward()?;
        let gradient = grads.get(logits.as_tensor()).ok_or("no gradient")?;
        let gradient = (gradient.squeeze(0)? * -(rows as f64))?.to_vec2()?;
        Ok((gradient, surrogate))
    }

    fn run(&self, logits: &Tensor, trace: &mut Trace<'_>) -> TensorResult<Tensor> {
        let q = Bernoulli::from_logits(logits)?;
        self.f.of(&trace.sample("b", &q, &q)?)
    }

    /// The estimates of single rows are those that their definitions give for the bits that were drawn.
    fn check_rows(&self) -> Fallible<()> {
        let rows = 500;
        for arm in [false, true] {
            let estimator: &dyn Estimator =
                if arm { &Arm { samples: 1 } } else { &DisArm { samples: 1 } };
            let (gradients, surrogate) = self.gradients(estimator, rows, Key::from_seed(4))?;
            let bits = surrogate.sites[0].draw.value.to_vec3::<f64>()?;
            for (row, gradient) in gradients.iter().enumerate() {
                let (b1, b2) = (&bits[0][row], &bits[1][row]);
                let gap = self.value(b1) - self.value(b2);
                for (i, l) in self.logits.iter().enumerate() {
                    let sound = if arm {
                        // Which of the copies is b₁ of the definition depends on the sign of the logit.
                        let u = 0.5 + if *l <= 0. { gradient[i] / gap } else { -gradient[i] / gap };
                        let (b1, b2) = if *l <= 0. { (b1, b2) } else { (b2, b1) };
                        let expected = [u > sigma(-l), u < sigma(*l)];
                        gap == 0. || [b1[i] == 1., b2[i] == 1.] == expected
                    } else {
                        let expected = 0.5 * gap * (b1[i] - b2[i]) * sigma(l.abs());
                        (gradient[i] - expected).abs() < 1e-12
                    };
                    if !sound {
                        return Err(format!("row {row}, bit {i}: {}", gradient[i]).into());
                    }
                }
            }
        }
        Ok(())
    }

    fn probability(&self, bits: &Bits) -> f64 {
        let p = |(l, b): (&f64, &f64)| if *b == 1. { sigma(*l) } else { sigma(-*l) };
        self.logits.iter().zip(bits).map(p).product()
    }

    fn outcomes(&self) -> Vec<Bits> {
        tuples(self.logits.len(), 2).map(|t| t.into_iter().map(|b| b as f64).collect()).collect()
    }

    /// `f(b) ∇ log q(b)`.
    fn reinforce(&self) -> Fallible<Law> {
        let n = self.logits.len();
        self.outcomes()
            .into_iter()
            .map(|bits| {
                let logits = Var::new(self.logits.as_slice(), &Device::Cpu)?;
                let q = Bernoulli::from_logits(&logits.reshape((1, 1, n))?)?;
                let value = Tensor::new(bits.as_slice(), &Device::Cpu)?.reshape((1, 1, n))?;
                let grads = q.log_prob(&value)?.sum_all()?.backward()?;
                let score = numbers(grads.get(logits.as_tensor()).ok_or("no gradient")?)?;
                let f = self.value(&bits);
                Ok((self.probability(&bits), score.iter().map(|s| f * s).collect()))
            })
            .collect()
    }

    /// The signals sum to 0, and so the gradient does not depend on the probabilities: pairs are drawn from fair
    /// bits, and weighed by theirs.
    fn leave_one_out(&self) -> Fallible<Law> {
        let fair = Self {
            logits: vec![0.; self.logits.len()],
            f: Quadratic { c: self.f.c.clone(), t: self.f.t },
        };
        // Each of the 4ⁿ pairs is drawn with certainty, but for one chance in e²⁰.
        let rows = 25 * 4usize.pow(self.logits.len() as u32);
        let (gradients, surrogate) =
            fair.gradients(&LeaveOneOut { samples: 2 }, rows, Key::from_seed(5))?;
        let bits = surrogate.sites[0].draw.value.to_vec3::<f64>()?;
        let mut law = Law::new();
        let outcomes = self.outcomes();
        for (a, b) in outcomes.iter().flat_map(|a| outcomes.iter().map(move |b| (a, b))) {
            let drawn = |row: &usize| bits[0][*row] == *a && bits[1][*row] == *b;
            let row = (0..gradients.len()).find(drawn).ok_or("a pair was never drawn")?;
            law.push((self.probability(a) * self.probability(b), gradients[row].clone()));
        }
        Ok(law)
    }

    /// The three outcomes of a pair of bits: only one, only the other, and the more probable one twice; each
    /// with its probability and its range of the uniform number.
    fn pairs(&self) -> Vec<Pair> {
        tuples(self.logits.len(), 3)
            .map(|t| {
                let (mut p, mut b1, mut b2, mut ranges) = (1., vec![], vec![], vec![]);
                for (l, digit) in self.logits.iter().zip(t) {
                    let rare = sigma(-l.abs());
                    let common = f64::from(u8::from(*l > 0.));
                    let (range, first, second) = match digit {
                        0 => ((0., rare), 0., 1.),
                        1 => ((1. - rare, 1.), 1., 0.),
                        _ => ((rare, 1. - rare), common, common),
                    };
                    p *= if digit == 2 { 1. - 2. * rare } else { rare };
                    b1.push(first);
                    b2.push(second);
                    ranges.push(range);
                }
                (p, b1, b2, ranges)
            })
            .collect()
    }

    fn disarm(&self) -> Law {
        let gradient = |(p, b1, b2, _): (f64, Bits, Bits, _)| {
            let gap = self.value(&b1) - self.value(&b2);
            let bit = |i: usize| 0.5 * gap * (b1[i] - b2[i]) * sigma(self.logits[i].abs());
            (p, (0..b1.len()).map(bit).collect())
        };
        self.pairs().into_iter().map(gradient).collect()
    }

    /// Mean and variance of `(f(b₁) - f(b₂)) (u - ½)`, with the integrals over `u` in each range.
    fn arm(&self) -> (Vec<f64>, Vec<f64>) {
        let n = self.logits.len();
        let (mut mean, mut square) = (vec![0.; n], vec![0.; n]);
        for (p, b1, b2, ranges) in self.pairs() {
            let gap = self.value(&b1) - self.value(&b2);
            for (i, (from, to)) in ranges.into_iter().enumerate() {
                let others = if to > from { p / (to - from) } else { 0. };
                let (a, b) = (from - 0.5, to - 0.5);
                mean[i] += others * gap * (b * b - a * a) / 2.;
                square[i] += others * gap * gap * (b.powi(3) - a.powi(3)) / 3.;
            }
        }
        let variance = square.iter().zip(&mean).map(|(s, m)| s - m * m).collect();
        (mean, variance)
    }

    fn check_fixed_u(&self, case: &mut Case<'_>, floor: f64) -> Fallible<()> {
        let u = case.array("u")?.values;
        let bit = |yes: bool| f64::from(u8::from(yes));
        let both = self.logits.iter().zip(&u);
        let b1: Bits = both.clone().map(|(l, u)| bit(*u > sigma(-l))).collect();
        let b2: Bits = both.map(|(l, u)| bit(*u < sigma(*l))).collect();
        let (f1, f2) = (self.value(&b1), self.value(&b2));
        case.expect("b1", &b1, 0.)?;
        case.expect("b2", &b2, 0.)?;
        case.expect("f1", &[f1], floor)?;
        case.expect("f2", &[f2], floor)?;
        let arm: Vec<f64> = u.iter().map(|u| (f1 - f2) * (u - 0.5)).collect();
        case.expect("arm", &arm, floor)?;
        let weight = |i: usize| 0.5 * (f1 - f2) * (b1[i] - b2[i]) * sigma(self.logits[i].abs());
        let disarm: Vec<f64> = (0..u.len()).map(weight).collect();
        case.expect("disarm", &disarm, floor)
    }

    fn check_rebar(&self, case: &mut Case<'_>, floor: f64) -> Fallible<()> {
        let (temperature, eta) = (case.number("lambda")?, case.number("eta")?);
        let logit = |x: Vec<f64>| -> TensorResult<Tensor> {
            Tensor::new(x.iter().map(|x| x.ln() - (-x).ln_1p()).collect::<Vec<_>>(), &Device::Cpu)
        };
        let (u, v) = (logit(case.array("u")?.values)?, logit(case.array("v")?.values)?);
        let l = Var::new(self.logits.as_slice(), &Device::Cpu)?;
        let z = (l.as_tensor() + &u)?;
        let b = z.gt(0.)?.to_dtype(candle_core::DType::F64)?;
        let z_tilde = conditional_logistic(&l, &b, &v)?;
        let size = cancellation(&self.logits);
        case.expect_tensor("z", &z.detach(), size)?;
        case.expect_tensor("b", &b, 0.)?;
        case.expect_tensor("z_tilde", &z_tilde.detach(), size)?;
        let slope = z_tilde.sum_all()?.backward()?;
        case.expect_tensor("dztilde_dlogits", slope.get(l.as_tensor()).ok_or("no slope")?, size)?;
        let relaxed = |z: &Tensor| self.f.of(&sigmoid(&(z / temperature)?)?);
        let (f_b, free, given) = (self.f.of(&b)?, relaxed(&z)?, relaxed(&z_tilde)?);
        case.expect_tensor("f_b", &f_b, floor)?;
        case.expect_tensor("f_relaxed", &free.detach(), floor)?;
        case.expect_tensor("f_relaxed_cond", &given.detach(), floor)?;
        let gradient = rebar_gradient(&l, &b, [&f_b, &free, &given], eta)?;
        case.expect_tensor("gradient", &gradient, floor)?;
        self.check_rebar_rows()
    }

    /// The estimator's rows are the same formula at the noise that its key names.
    fn check_rebar_rows(&self) -> Fallible<()> {
        let (rows, n, key) = (50, self.logits.len(), Key::from_seed(6));
        let row = Tensor::new(self.logits.as_slice(), &Device::Cpu)?;
        let probe = row.reshape((1, 1, n))?;
        let independent = &mut gumbel::estimators::Independent { samples: 1 };
        let (_, sites) = Trace::run(&|trace| self.run(&probe, trace), independent, key)?;
        let rebar = Rebar::new(1, 0.6, &sites, &mut Variables::default())?;
        let (gradients, surrogate) = self.gradients(&rebar, rows, key)?;
        let site = Site::from("b").key(key);
        let noise = |key: Key| key.logistic((1, rows, n), candle_core::DType::F64, &Device::Cpu);
        let l = Var::from_tensor(&row.broadcast_as((1, rows, n))?.contiguous()?)?;
        let (u, v) = (noise(site)?, noise(site.named("conditional"))?);
        let z = (l.as_tensor() + u)?;
        let b = surrogate.sites[0].draw.value.detach();
        let relaxed = |z: &Tensor| self.f.of(&sigmoid(&(z / 0.6)?)?);
        let (free, given) = (relaxed(&z)?, relaxed(&conditional_logistic(&l, &b, &v)?)?);
        let expected = rebar_gradient(&l, &b, [&self.f.of(&b)?, &free, &given], 1.)?;
        let expected = expected.squeeze(0)?.to_vec2::<f64>()?;
        for (a, b) in gradients.iter().flatten().zip(expected.iter().flatten()) {
            if (a - b).abs() > 1e-12 {
                return Err(format!("a row of REBAR is {a}, its formula {b}").into());
            }
        }
        Ok(())
    }
}

/// `[f(b) - η f(z̃)] ∇ log q(b) + η ∇f(z) - η ∇f(z̃)`, of `f: [..]` at the three.
fn rebar_gradient(l: &Var, b: &Tensor, f: [&Tensor; 3], eta: f64) -> Fallible<Tensor> {
    let [f_b, free, given] = f;
    let grads = (free - given)?.sum_all()?.backward()?;
    let path = grads.get(l.as_tensor()).ok_or("no gradient")?;
    let signal = (f_b - (given.detach() * eta)?)?.unsqueeze(candle_core::D::Minus1)?;
    let score = (b - sigmoid(l)?.detach())?;
    Ok((score.broadcast_mul(&signal)? + (path * eta)?)?)
}
