//! Code for the vector unit of this processor, chosen when the program runs.

/// The vector units that functions are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// 512 bits.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// 256 bits.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// What every processor of this architecture has: on 64-bit Arm, Neon.
    Baseline,
}

/// The widest vector unit of this processor.
#[inline]
pub(crate) fn unit() -> Unit {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        let wide = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        return if wide { Unit::Avx512 } else { Unit::Avx2 };
    }
    Unit::Baseline
}

/// Name of the vector unit that the operations run on in this process: `avx512`, `avx2`, `neon` or `baseline`. Results
/// do not depend on it.
#[must_use]
pub fn vector_unit() -> &'static str {
    match unit() {
        #[cfg(target_arch = "x86_64")]
        Unit::Avx512 => "avx512",
        #[cfg(target_arch = "x86_64")]
        Unit::Avx2 => "avx2",
        Unit::Baseline if cfg!(target_arch = "aarch64") => "neon",
        Unit::Baseline => "baseline",
    }
}

/// Compiles each function once for every [`Unit`], with everything that is inlined into it, and lets it run
/// on the widest that the processor has.
///
/// What a kernel calls in its loops is `inline(always)` for this reason; a closure that is more than an
/// expression would be left outside. The arithmetic is the same on every unit (Rust never contracts
/// `a * b + c`), and so are the bits.
macro_rules! vectorised {
    ($(
        $(#[$meta:meta])*
        $visibility:vis fn $name:ident $(<$t:ident: $bound:path>)? (
            $($argument:ident: $type:ty),* $(,)?
        ) $(-> $result:ty)? $body:block
    )+) => {$(
        $(#[$meta])*
        $visibility fn $name $(<$t: $bound>)? ($($argument: $type),*) $(-> $result)? {
            #[inline(always)]
            fn body $(<$t: $bound>)? ($($argument: $type),*) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            fn avx512 $(<$t: $bound>)? ($($argument: $type),*) $(-> $result)? {
                body($($argument),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2 $(<$t: $bound>)? ($($argument: $type),*) $(-> $result)? {
                body($($argument),*)
            }

            match $crate::vectorised::unit() {
                // SAFETY: the processor has the features that the function is compiled for.
                #[cfg(target_arch = "x86_64")]
                #[expect(unsafe_code, reason = "the features were just detected")]
                $crate::vectorised::Unit::Avx512 => unsafe { avx512($($argument),*) },
                // SAFETY: likewise.
                #[cfg(target_arch = "x86_64")]
                #[expect(unsafe_code, reason = "the features were just detected")]
                $crate::vectorised::Unit::Avx2 => unsafe { avx2($($argument),*) },
                $crate::vectorised::Unit::Baseline => body($($argument),*),
            }
        }
    )+};
}
pub(crate) use vectorised;
