//! The first values of each stream.
//!
//! A red test here says that every result ever published with this library would come out differently.
//! Such a change needs a reason, an entry in the change log, and new numbers below.
use candle_core::{DType, Device, Result, Tensor};
use gumbel::Key;
use gumbel::distributions::{Bernoulli, Categorical};

const CPU: &Device = &Device::Cpu;

fn key() -> Key {
    Key::from_seed(2017).named("stability").fold_in(3)
}

/// The first four values in double and in single precision.
fn assert_stream(
    draw: fn(Key, usize, DType, &Device) -> Result<Tensor>,
    expected: [f64; 4],
) -> Result<()> {
    for dtype in [DType::F64, DType::F32] {
        let actual: Vec<f64> = draw(key(), 4, dtype, CPU)?.to_dtype(DType::F64)?.to_vec1()?;
        let same = actual.iter().zip(expected).all(|(actual, e)| (actual - e).abs() < 1e-6);
        assert!(same, "{dtype:?}: {actual:.9?} for {expected:?}");
    }
    Ok(())
}

mod a_change_here_changes_every_published_result {
    use super::*;

    #[test]
    fn words() {
        assert_eq!(
            [0, 1, 2, 3, 1 << 40].map(|i| key().word(i)),
            [2_765_364_556, 460_198_566, 2_388_146_418, 1_886_308_036, 949_306_757]
        );
    }

    #[test]
    fn uniform() -> Result<()> {
        assert_stream(Key::uniform, [0.643_861_610, 0.107_148_328, 0.556_033_668, 0.439_190_314])
    }

    #[test]
    fn gumbel() -> Result<()> {
        assert_stream(Key::gumbel, [0.820_363_770, -0.803_588_289, 0.532_855_794, 0.195_014_846])
    }

    #[test]
    fn logistic() -> Result<()> {
        assert_stream(Key::logistic, [0.592_164_419, -2.120_206_344, 0.225_080_115, -0.244_448_770])
    }

    #[test]
    fn normal() -> Result<()> {
        assert_stream(Key::normal, [0.733_629_044, 0.585_090_900, -1.005_319_496, 0.403_962_345])
    }

    #[test]
    fn permutation() {
        assert_eq!(key().permutation(10), [3, 6, 0, 4, 5, 8, 9, 2, 1, 7]);
    }

    #[test]
    fn categorical_sample() -> Result<()> {
        let logits = Tensor::new(&[[[[0.5f32, -0.5, 1., 0.]]]], CPU)?;
        let z = Categorical::from_logits(&logits)?.sample(12, key())?;
        let classes: Vec<u32> = z.reshape((12, 4))?.argmax(1)?.to_vec1()?;
        assert_eq!(classes, [2, 2, 0, 2, 2, 2, 2, 2, 0, 1, 0, 2]);
        Ok(())
    }

    #[test]
    fn bernoulli_sample() -> Result<()> {
        let logits = Tensor::new(&[[[0.5f32, -0.5, 1., 0.]]], CPU)?;
        let z = Bernoulli::from_logits(&logits)?.sample(3, key())?;
        let bits: Vec<f32> = z.flatten_all()?.to_vec1()?;
        assert_eq!(bits, [1., 0., 1., 0., 0., 0., 0., 0., 1., 0., 1., 1.]);
        Ok(())
    }

    #[test]
    fn gumbel_softmax() -> Result<()> {
        let logits = Tensor::new(&[0.5f64, -0.5, 1., 0.], CPU)?;
        let y: Vec<f64> = gumbel::gumbel_softmax(&logits, 0.7, false, 0, key())?.to_vec1()?;
        let expected = [0.387_809_513, 0.009_134_070, 0.525_355_043, 0.077_701_375];
        for (actual, expected) in y.iter().zip(expected) {
            assert!((actual - expected).abs() < 1e-6, "{y:.9?}");
        }
        Ok(())
    }
}
