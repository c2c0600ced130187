//! Elementary functions of the kernels: vector polynomials in `f32`, the standard library in `f64`.
//!
//! The `f32` versions use only `+ - * /`, the fused multiply-add, comparisons and bit casts, which are exactly
//! rounded: they give the same bits on every processor and with every instruction set, and loops over them
//! vectorise. A processor without a fused multiply-add (an x86 from before 2013) computes it in software, slowly.
use candle_core::WithDType;

/// A float type that a kernel can be written for.
pub trait Real: WithDType + Default + std::ops::Neg<Output = Self> {
    /// -∞.
    const NEG_INFINITY: Self;
    /// `|x|`.
    #[must_use]
    fn abs(self) -> Self;
    /// `e^x`; `f32`: within 2 ulp, 0 below -104, +∞ above 88.8.
    #[must_use]
    fn exp(self) -> Self;
    /// `ln x` of a positive number; `f32`: within 2 ulp; `ln 0 = -∞`.
    #[must_use]
    fn ln(self) -> Self;
    /// `ln(1 + x)` for `x > -1`; `f32`: within 4 ulp.
    #[must_use]
    fn ln_1p(self) -> Self;
    /// `-ln u` of the `u` in `(0, 1)` that is `t` or, where `upper`, `1 - t`, with `0 < t ≤ ½`; relative error as
    /// that of `ln`, also where `u` is so close to 1 that it would round to it.
    #[must_use]
    fn minus_ln_of_tail(t: Self, upper: bool) -> Self;
    /// `ln x` of a positive, normal, finite number, likewise; any other gives a number without a meaning.
    #[must_use]
    fn ln_normal(self) -> Self;
    /// `tanh x`; `f32`: within 4 ulp.
    #[must_use]
    fn tanh(self) -> Self;
    /// `√x`.
    #[must_use]
    fn sqrt(self) -> Self;
    /// `(i + ½) 2⁻³²`.
    #[must_use]
    fn scaled_half_integer(i: i32) -> Self;
    /// The nearest number of this type.
    #[must_use]
    fn of(x: f64) -> Self;

    /// `1 / (1 + e^-x)`.
    #[must_use]
    #[inline(always)]
    fn sigmoid(self) -> Self {
        let e = Real::exp(-self.abs());
        (if self >= Self::zero() { Self::one() } else { e }) / (Self::one() + e)
    }

    /// `ln(1 + e^x)`.
    #[must_use]
    #[inline(always)]
    fn softplus(self) -> Self {
        let positive = if self > Self::zero() { self } else { Self::zero() };
        positive + Real::ln_1p(Real::exp(-self.abs()))
    }
}

impl Real for f64 {
    const NEG_INFINITY: Self = f64::NEG_INFINITY;
    #[inline(always)]
    fn abs(self) -> Self {
        self.abs()
    }
    #[inline(always)]
    fn exp(self) -> Self {
        self.exp()
    }
    #[inline(always)]
    fn ln(self) -> Self {
        self.ln()
    }
    #[inline(always)]
    fn ln_1p(self) -> Self {
        self.ln_1p()
    }
    #[inline(always)]
    fn minus_ln_of_tail(t: Self, upper: bool) -> Self {
        if upper { -(-t).ln_1p() } else { -t.ln() }
    }
    #[inline(always)]
    fn ln_normal(self) -> Self {
        self.ln()
    }
    #[inline(always)]
    fn tanh(self) -> Self {
        self.tanh()
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        self.sqrt()
    }
    #[inline(always)]
    fn scaled_half_integer(i: i32) -> Self {
        (f64::from(i) + 0.5) * (1.0 / 4_294_967_296.0)
    }
    #[inline(always)]
    fn of(x: f64) -> Self {
        x
    }
}

/// Adding and taking away 1.5·2²³ rounds to an integer, and leaves that integer in the low bits.
const ROUND: f32 = 12_582_912.0;

/// `(r, e)` with `x = (1 + r) 2^e` and `1 + r` in `[√½, √2)`, of a positive, normal, finite `x`.
#[inline(always)]
fn split(x: f32) -> (f32, f32) {
    let bits = (x.to_bits() as i32).wrapping_sub(0x3f35_04f3);
    let m = f32::from_bits(((bits & 0x007f_ffff) + 0x3f35_04f3) as u32);
    (m - 1., (bits >> 23) as f32)
}

/// `ln((1 + r) 2^e)`.
#[inline(always)]
fn ln_of_split(r: f32, e: f32) -> f32 {
    // Minimax polynomial for (ln(1 + r) - r + r²/2) / r³, in pairs (Estrin): a chain of nine steps, each waiting
    // for the one before, would take twice the time.
    let (square, fourth) = (r * r, (r * r) * (r * r));
    let low = r.mul_add(-2.499_999_4e-1, 0.333_333_3);
    let low = square.mul_add(r.mul_add(-1.666_805_8e-1, 2.000_071_5e-1), low);
    let high = r.mul_add(-1.242_014_1e-1, 1.424_932_3e-1);
    let high = square.mul_add(r.mul_add(-1.151_461e-1, 1.167_699_87e-1), high);
    let p = fourth.mul_add(fourth.mul_add(7.037_683_6e-2, high), low);
    let y = square.mul_add(p.mul_add(r, -0.5), e * -2.121_944_4e-4);
    e.mul_add(0.693_359_4, r + y)
}

impl Real for f32 {
    const NEG_INFINITY: Self = f32::NEG_INFINITY;
    #[inline(always)]
    fn abs(self) -> Self {
        self.abs()
    }
    #[inline(always)]
    fn exp(self) -> Self {
        let x = self.clamp(-105., 89.);
        let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
        let n = shifted - ROUND;
        // x - n ln 2, with ln 2 in two parts.
        let r = n.mul_add(2.121_944_4e-4, n.mul_add(-0.693_359_4, x));
        // Minimax polynomial for (e^r - 1 - r) / r² on |r| ≤ ln 2 / 2, in pairs.
        let square = r * r;
        let low = r.mul_add(1.666_666_5e-1, 0.5);
        let middle = r.mul_add(8.333_452e-3, 4.166_579_6e-2);
        let high = r.mul_add(1.987_569_1e-4, 1.398_2e-3);
        let p = square.mul_add(square.mul_add(high, middle), low);
        let y = p.mul_add(square, r) + 1.;
        // 2^n in two factors, so that subnormal results and +∞ come out right.
        let n = shifted.to_bits().wrapping_sub(ROUND.to_bits()) as i32;
        let half = n >> 1;
        let scale = |n: i32| f32::from_bits(((n + 127) << 23) as u32);
        y * scale(half) * scale(n - half)
    }

    #[inline(always)]
    fn ln(self) -> Self {
        // Subnormals are scaled up by 2²⁵ first.
        let small = self < f32::MIN_POSITIVE;
        let x = if small { self * 33_554_432. } else { self };
        let (r, e) = split(x);
        let y = ln_of_split(r, e - if small { 25. } else { 0. });
        let y = if self == f32::INFINITY { self } else { y };
        let y = if self == 0. { f32::NEG_INFINITY } else { y };
        if self < 0. || self.is_nan() { f32::NAN } else { y }
    }
    #[inline(always)]
    fn minus_ln_of_tail(t: Self, upper: bool) -> Self {
        let (r, e) = split(t);
        // u = 1 - t in [√½, 1) is 1 + r with r = -t; below √½ it is (1 + r) / 2 with r = 1 - 2t. Both are exact.
        let near = t <= 0.292_893_2;
        let (upper_r, upper_e) = (if near { -t } else { 1. - 2. * t }, if near { 0. } else { -1. });
        let (r, e) = (if upper { upper_r } else { r }, if upper { upper_e } else { e });
        -ln_of_split(r, e)
    }
    #[inline(always)]
    fn ln_normal(self) -> Self {
        let (r, e) = split(self);
        ln_of_split(r, e)
    }
    #[inline(always)]
    fn tanh(self) -> Self {
        let (x, square) = (self.abs(), self * self);
        // Minimax polynomial for (tanh x - x) / x³ on |x| ≤ 0.625.
        let p = square.mul_add(-5.704_988_7e-3, 2.063_908_8e-2);
        let p = p.mul_add(square, -5.373_971_6e-2);
        let p = p.mul_add(square, 1.333_144_2e-1);
        let p = p.mul_add(square, -0.333_332_8);
        let near = (p * square).mul_add(self, self);
        let far = (1. - 2. / (Real::exp(2. * x) + 1.)).copysign(self);
        // A NaN takes the first.
        if x > 0.625 { far } else { near }
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        self.sqrt()
    }
    #[inline(always)]
    fn ln_1p(self) -> Self {
        // ln(u) x / (u - 1) with u = fl(1 + x): the error of rounding 1 + x cancels.
        let u = 1. + self;
        let d = u - 1.;
        let y = Real::ln(u) * (self / d);
        let y = if u == f32::INFINITY { u } else { y };
        if d == 0. { self } else { y }
    }

    #[inline(always)]
    fn scaled_half_integer(i: i32) -> Self {
        (i as f32 + 0.5) * (1.0 / 4_294_967_296.0)
    }

    #[inline(always)]
    fn of(x: f64) -> Self {
        x as f32
    }
}

/// `ln Γ(n) = ln (n-1)!` for a whole `n ≥ 1`.
#[must_use]
pub fn ln_gamma(n: usize) -> f64 {
    if n <= 256 {
        return (2..n).map(|i| (i as f64).ln()).sum();
    }
    let x = n as f64;
    let half_ln_tau = 0.918_938_533_204_672_7;
    let series = (1. / 12. - (1. / 360. - 1. / (1260. * x * x)) / (x * x)) / x;
    (x - 0.5) * x.ln() - x + half_ln_tau + series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ln_gamma_of_small_and_large_arguments_meets() {
        assert_eq!(ln_gamma(1), 0.);
        assert!((ln_gamma(5) - 24f64.ln()).abs() < 1e-14);
        let (a, b) = (ln_gamma(256) + 256f64.ln(), ln_gamma(257));
        assert!((a - b).abs() < 1e-12 * b, "{a} {b}");
    }

    /// Distance in units in the last place of the exact value.
    fn ulps(got: f32, exact: f64) -> f64 {
        if got.is_infinite() && exact.abs() > f64::from(f32::MAX) {
            return 0.;
        }
        let next = f32::from_bits((exact.abs() as f32).to_bits() + 1);
        let ulp = f64::from(next) - f64::from(exact.abs() as f32);
        (f64::from(got) - exact).abs() / ulp
    }

    #[test]
    fn exp_is_within_2_ulp_everywhere() {
        for i in -10_500..8_890 {
            for j in 0..7 {
                let x = i as f32 * 0.01 + j as f32 * 0.001_37;
                assert!(ulps(Real::exp(x), f64::from(x).exp()) <= 2., "exp({x})");
            }
        }
        let (inf, nan) = (f32::INFINITY, f32::NAN);
        assert_eq!((Real::exp(-inf), Real::exp(-1e9f32), Real::exp(inf)), (0., 0., inf));
        assert_eq!(Real::exp(0f32), 1.);
        assert!(Real::exp(nan).is_nan());
    }

    #[test]
    fn ln_is_within_2_ulp_and_ln_1p_within_4() {
        let mut x = f32::from_bits(1);
        while x < f32::MAX / 2. {
            assert!(ulps(Real::ln(x), f64::from(x).ln()) <= 2., "ln({x:e})");
            x *= 1.000_3;
            x = f32::from_bits(x.to_bits() + 1);
        }
        let mut x = 1e-30f32;
        while x < 1e30 {
            for x in [x, -x] {
                if x > -1. {
                    assert!(ulps(Real::ln_1p(x), f64::from(x).ln_1p()) <= 4., "ln_1p({x:e})");
                }
            }
            x *= 1.003;
        }
        assert_eq!(Real::ln(0f32), f32::NEG_INFINITY);
        assert_eq!(Real::ln(f32::INFINITY), f32::INFINITY);
        assert!(Real::ln(-1f32).is_nan() && Real::ln(f32::NAN).is_nan());
        assert_eq!((Real::ln_1p(0f32), Real::ln_1p(-1f32)), (0., f32::NEG_INFINITY));
    }

    #[test]
    fn tanh_is_within_4_ulp_everywhere() {
        let mut x = 1e-30f32;
        while x < 100. {
            for x in [x, -x] {
                assert!(ulps(Real::tanh(x), f64::from(x).tanh()) <= 4., "tanh({x:e})");
            }
            x *= 1.000_7;
        }
        let (inf, nan) = (f32::INFINITY, f32::NAN);
        assert_eq!((Real::tanh(inf), Real::tanh(-inf), Real::tanh(0f32)), (1., -1., 0.));
        assert!(Real::tanh(nan).is_nan());
    }

    #[test]
    fn logarithms_of_a_tail_are_within_2_ulp() {
        let mut t = 2f32.powi(-33);
        while t <= 0.5 {
            let exact = f64::from(t);
            let (lower, upper) = (-exact.ln(), -(-exact).ln_1p());
            assert!(ulps(Real::minus_ln_of_tail(t, false), lower) <= 2., "{t:e}");
            assert!(ulps(Real::minus_ln_of_tail(t, true), upper) <= 2., "{t:e}");
            assert_eq!(Real::ln_normal(t), Real::ln(t));
            t *= 1.000_3;
        }
    }

    #[test]
    fn sigmoid_and_softplus_do_not_overflow() {
        for x in [-1e30f32, -200., -90., -20., -1., 0., 1e-3, 20., 90., 1e30] {
            let double = f64::from(x);
            assert!((f64::from(Real::sigmoid(x)) - Real::sigmoid(double)).abs() < 1e-6);
            let (single, exact) = (f64::from(Real::softplus(x)), Real::softplus(double));
            assert!((single - exact).abs() <= 1e-6 * exact + 1e-45, "{x}: {single} {exact}");
        }
    }
}
