//! From 32 random bits to noise, exact in both tails.
//!
//! A word `w` stands for `u = (w + ½) 2⁻³²`. In `f32` a `u` close to 1 would round to 1, so that every
//! function here works with the smaller of `u` and `1 - u`, which any float holds to full relative
//! precision, see [`Real::minus_ln_of_tail`].
use crate::math::Real;

const ULP: f64 = 1.0 / 4_294_967_296.0; // 2⁻³²

/// `u = (w + ½) 2⁻³²`: in `[2⁻³³, 1 - 2⁻³³]`.
#[inline(always)]
#[must_use]
pub fn uniform(word: u32) -> f64 {
    (f64::from(word) + 0.5) * ULP
}

/// The smaller of `u` and `1 - u`, and whether that is `1 - u`.
#[inline(always)]
fn tail<T: Real>(word: u32) -> (T, bool) {
    let upper = word >> 31 == 1;
    let folded = if upper { !word } else { word };
    // Below 2³¹, so the signed conversion (which vectorises) is exact in meaning.
    (T::scaled_half_integer(folded as i32), upper)
}

/// `u` and `1 - u`, each to full relative precision.
#[inline(always)]
pub(crate) fn uniform_and_rest<T: Real>(word: u32) -> (T, T) {
    let (near, upper) = tail::<T>(word);
    let far = T::one() - near;
    if upper { (far, near) } else { (near, far) }
}

/// `Exp(1)`: `-ln u`.
#[inline(always)]
#[must_use]
pub fn exponential<T: Real>(word: u32) -> T {
    let (t, upper) = tail::<T>(word);
    T::minus_ln_of_tail(t, upper)
}

/// `Gumbel(0, 1)`: `-ln(-ln u)`.
#[inline(always)]
#[must_use]
pub fn gumbel<T: Real>(word: u32) -> T {
    gumbel_with_exponential(word).0
}

/// `Gumbel(0, 1)` and `e^-G`, which is `-ln u`.
#[inline(always)]
#[must_use]
pub fn gumbel_with_exponential<T: Real>(word: u32) -> (T, T) {
    let exponential = exponential::<T>(word);
    (-exponential.ln_normal(), exponential)
}

/// `Logistic(0, 1)`: `ln u - ln(1 - u)`.
#[inline(always)]
#[must_use]
pub fn logistic<T: Real>(word: u32) -> T {
    logistic_with_log_density(word).0
}

/// `Logistic(0, 1)` and the logarithm of its density there, which is `ln u + ln(1 - u)`.
#[inline(always)]
#[must_use]
pub fn logistic_with_log_density<T: Real>(word: u32) -> (T, T) {
    let (t, upper) = tail::<T>(word);
    let (far, near) = (T::minus_ln_of_tail(t, false), T::minus_ln_of_tail(t, true));
    let size = far - near;
    (if upper { size } else { -size }, -(far + near))
}

/// Two independent `N(0, 1)`: Box and Muller (1958).
#[inline(always)]
#[must_use]
pub fn normal_pair(a: u32, b: u32) -> (f64, f64) {
    let radius = (2. * exponential::<f64>(a)).sqrt();
    let (sin, cos) = (std::f64::consts::TAU * uniform(b)).sin_cos();
    (radius * cos, radius * sin)
}

/// `-ln(-ln u)` of a given `u` in `(0, 1)`.
#[must_use]
pub fn gumbel_of_uniform(u: f64) -> f64 {
    -(-ln_of_uniform(u)).ln()
}

/// `-ln(-ln(1 - v))` of a given `v` in `(0, 1)`: the form to use when `v` holds an upper tail.
#[must_use]
pub fn gumbel_of_complement(v: f64) -> f64 {
    -(-(-v).ln_1p()).ln()
}

/// `ln u - ln(1 - u)` of a given `u` in `(0, 1)`.
#[must_use]
pub fn logistic_of_uniform(u: f64) -> f64 {
    ln_of_uniform(u) - (-u).ln_1p()
}

/// `-ln(1 - u)` of a given `u` in `(0, 1)`.
#[must_use]
pub fn exponential_of_uniform(u: f64) -> f64 {
    -(-u).ln_1p()
}

/// `ln u`, by way of `1 - u` (exact for `u ≥ ½`) where that is the small number.
fn ln_of_uniform(u: f64) -> f64 {
    if u < 0.5 { u.ln() } else { (-(1. - u)).ln_1p() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every value is finite, and single precision agrees with double in both tails.
    #[test]
    fn tails_are_exact_in_single_precision() {
        let words =
            (0..2000u32).chain((0..2000).map(|i| u32::MAX - i)).chain((0..99).map(|i| i << 25));
        for word in words {
            let u = uniform(word);
            assert!(u > 0. && u < 1.);
            for (single, double, by_hand) in [
                (gumbel::<f32>(word), gumbel::<f64>(word), gumbel_of_uniform(u)),
                (logistic::<f32>(word), logistic::<f64>(word), logistic_of_uniform(u)),
            ] {
                let error = (f64::from(single) - double).abs();
                assert!(error < 1e-6 * double.abs().max(0.3), "word {word}: {single} {double}");
                assert!(
                    (double - by_hand).abs() <= 1e-9 * by_hand.abs().max(1.),
                    "{double} {by_hand}"
                );
            }
        }
        for word in [0, 5, 1 << 20, 1 << 31, u32::MAX - 9, u32::MAX] {
            let (x, density) = logistic_with_log_density::<f64>(word);
            assert_eq!(x, logistic::<f64>(word));
            let by_hand = -x.abs() - 2. * (-x.abs()).exp().ln_1p();
            assert!((density - by_hand).abs() < 1e-14 * by_hand.abs(), "{density} {by_hand}");
        }
        assert!((gumbel::<f32>(u32::MAX) - 22.873_857).abs() < 1e-5);
        assert!((gumbel::<f32>(0) + 3.130_3).abs() < 1e-3);
        assert_eq!(logistic::<f32>(7), -logistic::<f32>(!7));
    }
}
