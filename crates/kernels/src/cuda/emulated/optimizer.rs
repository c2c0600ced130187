use candle_core::{DType, Result, Tensor, Var};

use super::{Grid, close, kernels, numbers};
use crate::check::irregular;
use crate::optimizer::{AdamStep, AdamTensors, adam_update_all, sums_of_squares};

const MANY: usize = 96;
/// Numbers of each tensor; one has none.
const SIZES: [usize; 4] = [1003, 1, 0, 70];

#[repr(C)]
#[derive(Clone, Copy)]
struct Step([f32; 8]);

#[repr(C)]
#[derive(Clone, Copy)]
struct Places<const COUNT: usize>([[*mut f32; MANY]; COUNT], [u64; MANY]);

impl<const COUNT: usize> Places<COUNT> {
    fn of(tensors: &mut [[Vec<f32>; COUNT]]) -> Self {
        let mut places = Self([[std::ptr::null_mut(); MANY]; COUNT], [0; MANY]);
        for (i, tensor) in tensors.iter_mut().enumerate() {
            places.1[i] = tensor[0].len() as u64;
            for (which, x) in tensor.iter_mut().enumerate() {
                places.0[which][i] = x.as_mut_ptr();
            }
        }
        places
    }
}

const GRIDS: [Grid; 2] = [
    Grid { blocks: 3, threads: 8, tensors: SIZES.len() as u32 },
    Grid { blocks: 2, threads: 64, tensors: SIZES.len() as u32 },
];

#[test]
fn a_step_of_adam_is_that_of_the_cpu() -> Result<()> {
    let Some(kernels) = kernels() else { return Ok(()) };
    let step =
        AdamStep { beta1: 0.9, beta2: 0.999, shrink: 0.98, rate: 0.1, scale: 1.5, epsilon: 1e-3 };
    let AdamStep { beta1, beta2, shrink, rate, scale, epsilon } = step;
    let coefficients = Step(
        [beta1, 1. - beta1, beta2, 1. - beta2, shrink, rate, scale, epsilon].map(|x| x as f32),
    );
    for grid in GRIDS {
        let tensors = SIZES.map(|n| {
            let of = |seed| irregular(&[n], seed, DType::F32);
            let v = Var::from_tensor(&of(3)?.abs()?)?;
            Ok::<_, candle_core::Error>((
                Var::from_tensor(&of(1)?)?,
                Var::from_tensor(&of(2)?)?,
                v,
                of(4)?,
            ))
        });
        let tensors = tensors.into_iter().collect::<Result<Vec<_>>>()?;
        let mut theirs = tensors
            .iter()
            .map(|(p, m, v, g)| Ok([numbers(p)?, numbers(m)?, numbers(v)?, numbers(g)?]))
            .collect::<Result<Vec<_>>>()?;
        kernels.run("adam", grid, (Places::of(&mut theirs), coefficients));
        let all: Vec<AdamTensors<'_>> = tensors
            .iter()
            .map(|(parameter, m, v, gradient)| AdamTensors { parameter, m, v, gradient })
            .collect();
        adam_update_all(&all, &step)?;
        for ([p, m, v, _], ours) in theirs.iter().zip(&tensors) {
            close(p, &numbers(&ours.0)?, 2e-6);
            close(m, &numbers(&ours.1)?, 2e-6);
            close(v, &numbers(&ours.2)?, 2e-6);
        }
    }
    Ok(())
}

#[test]
fn sums_of_squares_are_those_of_the_cpu() -> Result<()> {
    let Some(kernels) = kernels() else { return Ok(()) };
    let tensors =
        SIZES.iter().map(|n| irregular(&[*n], 5, DType::F32)).collect::<Result<Vec<_>>>()?;
    let ours = sums_of_squares(&tensors.iter().collect::<Vec<&Tensor>>())?;
    let mut theirs = tensors.iter().map(|x| Ok([numbers(x)?])).collect::<Result<Vec<_>>>()?;
    for grid in GRIDS {
        let mut sums = vec![f64::NAN; SIZES.len() * grid.blocks as usize];
        kernels.run("sums_of_squares", grid, (Places::of(&mut theirs), sums.as_mut_ptr()));
        for (sums, ours) in sums.chunks(grid.blocks as usize).zip(&ours) {
            let sum: f64 = sums.iter().sum();
            assert!((sum - ours).abs() <= 1e-12 * ours, "{sum} {ours}");
        }
    }
    Ok(())
}
