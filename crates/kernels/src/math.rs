//! Elementary functions of the kernels: vector polynomials in `f32`, the standard library in `f64`.
//!
//! The `f32` versions use only `+ - * /`, comparisons and bit casts, which are exactly rounded: they give
//! the same bits on every processor and with every instruction set, and loops over them vectorise.
use candle_core::WithDType;

/// A float type that a kernel can be written for.
pub trait Real: WithDType + std::ops::Neg<Output = Self> {
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

impl Real for f32 {
    const NEG_INFINITY: Self = f32::NEG_INFINITY;
    #[inline(always)]
    fn abs(self) -> Self {
        self.abs()
    }
    #[inline(always)]
    fn exp(self) -> Self {
        let x = self.clamp(-105., 89.);
        let shifted = x * std::f32::consts::LOG2_E + ROUND;
        let n = shifted - ROUND;
        // x - n ln 2, with ln 2 in two parts.
        let r = (x - n * 0.693_359_4) - n * -2.121_944_4e-4;
        // Minimax polynomial for (e^r - 1 - r) / r² on |r| ≤ ln 2 / 2.
        let p = 1.987_569_1e-4 * r + 1.398_2e-3;
        let p = p * r + 8.333_452e-3;
        let p = p * r + 4.166_579_6e-2;
        let p = p * r + 1.666_666_5e-1;
        let p = p * r + 0.5;
        let y = (p * (r * r) + r) + 1.;
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
        // x = m 2^e with m in [√½, √2).
        let bits = (x.to_bits() as i32).wrapping_sub(0x3f35_04f3);
        let e = (bits >> 23) as f32 - if small { 25. } else { 0. };
        let m = f32::from_bits(((bits & 0x007f_ffff) + 0x3f35_04f3) as u32);
        let r = m - 1.;
        // Minimax polynomial for (ln(1 + r) - r + r²/2) / r³.
        let p = 7.037_683_6e-2 * r - 1.151_461e-1;
        let p = p * r + 1.167_699_87e-1;
        let p = p * r - 1.242_014_1e-1;
        let p = p * r + 1.424_932_3e-1;
        let p = p * r - 1.666_805_8e-1;
        let p = p * r + 2.000_071_5e-1;
        let p = p * r - 2.499_999_4e-1;
        let p = p * r + 0.333_333_3;
        let r2 = r * r;
        let y = p * r * r2 + e * -2.121_944_4e-4 - 0.5 * r2;
        let y = r + y + e * 0.693_359_4;
        let y = if self == f32::INFINITY { self } else { y };
        let y = if self == 0. { f32::NEG_INFINITY } else { y };
        if self < 0. || self.is_nan() { f32::NAN } else { y }
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

#[cfg(test)]
mod tests {
    use super::*;

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
    fn sigmoid_and_softplus_do_not_overflow() {
        for x in [-1e30f32, -200., -90., -20., -1., 0., 1e-3, 20., 90., 1e30] {
            let double = f64::from(x);
            assert!((f64::from(Real::sigmoid(x)) - Real::sigmoid(double)).abs() < 1e-6);
            let (single, exact) = (f64::from(Real::softplus(x)), Real::softplus(double));
            assert!((single - exact).abs() <= 1e-6 * exact + 1e-45, "{x}: {single} {exact}");
        }
    }
}
