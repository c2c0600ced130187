//! What holds for every dtype, every mask and every number of categories.
mod estimators;
mod half;
mod many_categories;
mod masks;

use candle_core::{DType, Device, Result, Tensor, Var};

const CPU: &Device = &Device::Cpu;

fn numbers(x: &Tensor) -> Result<Vec<f64>> {
    x.to_dtype(DType::F64)?.flatten_all()?.to_vec1()
}

/// The gradient of the sum of `y`, in the dtype of `of`; zeros where there is none.
fn gradient(y: &Tensor, of: &Var) -> Result<Tensor> {
    let grads = y.sum_all()?.backward()?;
    match grads.get(of.as_tensor()) {
        Some(gradient) => Ok(gradient.clone()),
        None => of.zeros_like(),
    }
}

fn assert_close(what: &str, a: &[f64], b: &[f64], tolerance: f64) {
    assert_eq!(a.len(), b.len(), "{what}");
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        let same = a == b || (a - b).abs() <= tolerance * b.abs().max(1.);
        assert!(same, "{what}, element {i}: {a} against {b}");
    }
}
