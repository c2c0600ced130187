//! Values that configurations of models have if they do not say, and which are then not written.
use crate::stack::EMBEDDING_SCALE;

/// How large the vectors of latents are at the start, if a configuration does not say.
pub(crate) fn usual_scale() -> f64 {
    EMBEDDING_SCALE
}

pub(crate) fn is_usual_scale(x: &f64) -> bool {
    *x == usual_scale()
}

/// What is wrong with the scale of the vectors of latents, if anything.
pub(crate) fn check_scale(scale: f64) -> std::result::Result<(), String> {
    if scale >= 0. && scale.is_finite() {
        return Ok(());
    }
    Err(format!("scale is {scale}; use a number from 0 on"))
}

pub(crate) fn is_false(x: &bool) -> bool {
    !*x
}
