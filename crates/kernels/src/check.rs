//! Checks that a kernel equals its twin and its gradient that of finite differences.
use candle_core::{DType, Device, Result, Tensor, Var};

use crate::Key;

/// A fixed, irregular `[..shape]` tensor.
pub(crate) fn irregular(shape: &[usize], seed: u64, dtype: DType) -> Result<Tensor> {
    Key::from_seed(seed).normal(shape, dtype, &Device::Cpu)
}

fn flat(t: &Tensor) -> Result<Vec<f64>> {
    t.to_dtype(DType::F64)?.flatten_all()?.to_vec1()
}

pub(crate) fn close(a: &Tensor, b: &Tensor, tolerance: f64) -> Result<()> {
    assert_eq!(a.dims(), b.dims());
    for (i, (x, y)) in flat(a)?.iter().zip(flat(b)?).enumerate() {
        let same = *x == y || (x - y).abs() <= tolerance * y.abs().max(1.);
        assert!(same, "element {i}: {x} against {y}");
    }
    Ok(())
}

/// The source of a GPU's kernels, compiled as C++, and where it lies; none where there is no C++ compiler.
#[expect(unsafe_code, reason = "a library of C is loaded")]
pub(crate) fn library(source: &str) -> Option<(libloading::Library, tempfile::TempDir)> {
    let directory = tempfile::tempdir().unwrap();
    let (file, library) =
        (directory.path().join("kernels.cpp"), directory.path().join("kernels.so"));
    std::fs::write(&file, source).unwrap();
    let compiler = std::env::var_os("CXX").unwrap_or_else(|| "c++".into());
    let options = ["-std=c++17", "-O1", "-ffp-contract=off", "-w", "-pthread", "-shared", "-fPIC"];
    let mut command = std::process::Command::new(compiler);
    let output = command.args(options).arg("-o").args([&library, &file]).output().ok()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // SAFETY: the library was just made of a source of ours; it does nothing when it is loaded.
    Some((unsafe { libloading::Library::new(&library) }.unwrap(), directory))
}

/// The numbers of a tensor of single precision.
pub(crate) fn numbers(x: &Tensor) -> Result<Vec<f32>> {
    x.flatten_all()?.to_vec1()
}

/// Values and gradients (under a fixed irregular cotangent) of `f` and `twin` at `inputs`.
pub(crate) fn twins(
    inputs: &[Tensor],
    tolerance: f64,
    f: impl Fn(&[Tensor]) -> Result<Tensor>,
    twin: impl Fn(&[Tensor]) -> Result<Tensor>,
) -> Result<()> {
    let run = |f: &dyn Fn(&[Tensor]) -> Result<Tensor>| {
        let vars = inputs.iter().map(Var::from_tensor).collect::<Result<Vec<_>>>()?;
        let tensors: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
        let y = f(&tensors)?;
        let cotangent = irregular(y.dims(), 99, y.dtype())?;
        let grads = (&y * cotangent)?.sum_all()?.backward()?;
        let grads = tensors.iter().map(|t| grads.get(t).cloned()).collect::<Vec<_>>();
        Ok::<_, candle_core::Error>((y, grads))
    };
    let ((y, gradients), (y_twin, gradients_twin)) = (run(&f)?, run(&twin)?);
    close(&y, &y_twin, tolerance)?;
    for (a, b) in gradients.iter().zip(&gradients_twin) {
        match (a, b) {
            (Some(a), Some(b)) => close(a, b, tolerance)?,
            (None, None) => {}
            _ => panic!("one twin has a gradient, the other has none"),
        }
    }
    Ok(())
}

/// Gradient of `Σ cotangent · f` against central differences; `inputs` in `f64`.
pub(crate) fn finite_differences(
    inputs: &[Tensor],
    f: impl Fn(&[Tensor]) -> Result<Tensor>,
) -> Result<()> {
    let value = |tensors: &[Tensor]| {
        let y = f(tensors)?;
        (&y * irregular(y.dims(), 98, y.dtype())?)?.sum_all()
    };
    let vars = inputs.iter().map(Var::from_tensor).collect::<Result<Vec<_>>>()?;
    let tensors: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let grads = value(&tensors)?.backward()?;
    for (which, input) in inputs.iter().enumerate() {
        let Some(grad) = grads.get(&tensors[which]) else { panic!("no gradient {which}") };
        let (x, grad) = (flat(input)?, flat(grad)?);
        for i in 0..x.len() {
            let at = |h: f64| {
                let mut x = x.clone();
                x[i] += h;
                let mut moved = inputs.to_vec();
                moved[which] = Tensor::from_vec(x, input.shape(), &Device::Cpu)?;
                value(&moved)?.to_scalar::<f64>()
            };
            let numeric = (at(1e-6)? - at(-1e-6)?) / 2e-6;
            let same = (numeric - grad[i]).abs() < 1e-6 * grad[i].abs().max(1.);
            assert!(same, "input {which}, element {i}: {} against {numeric}", grad[i]);
        }
    }
    Ok(())
}
