//! Named tensors as safetensors bytes and back.
use std::collections::BTreeMap;

use candle_core::safetensors::Load;
use candle_core::{DType, Device, Tensor};
use safetensors::{Dtype, SafeTensors};

use crate::{Error, Result};

/// Encodes tensors; the layout depends only on names, types and shapes.
pub(crate) fn encode(tensors: &BTreeMap<String, Tensor>) -> Result<Vec<u8>> {
    let mut host = BTreeMap::new();
    for (name, tensor) in tensors {
        if !writable(tensor.dtype()) {
            return Err(Error::caller(
                70,
                format!(
                    "tensor `{name}` has dtype {:?}, which a checkpoint cannot hold",
                    tensor.dtype()
                ),
            ));
        }
        // Checked here because the encoder of candle panics where this fails.
        host.insert(name.as_str(), tensor.detach().to_device(&Device::Cpu)?.contiguous()?);
    }
    safetensors::serialize(host.iter().map(|(name, tensor)| (*name, tensor)), None)
        .map_err(|error| Error::caller(70, format!("cannot encode tensors: {error}")))
}

/// Decodes tensors onto the CPU. Every length is checked; the error says what is wrong.
pub(crate) fn decode(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>, String> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.iter() {
        if !readable(view.dtype()) {
            return Err(format!("tensor `{name}` has dtype {:?}", view.dtype()));
        }
        let elements = view.shape().iter().try_fold(1usize, |n, side| n.checked_mul(*side));
        let length = elements.and_then(|n| n.checked_mul(view.dtype().bitsize() / 8));
        if length != Some(view.data().len()) {
            return Err(format!("tensor `{name}` has a length other than its shape's"));
        }
        let tensor =
            view.load(&Device::Cpu).map_err(|error| format!("tensor `{name}`: {error}"))?;
        tensors.insert(name.to_owned(), tensor);
    }
    Ok(tensors)
}

fn writable(dtype: DType) -> bool {
    use DType::{BF16, F16, F32, F64, I64, U8, U32};
    matches!(dtype, U8 | U32 | I64 | F16 | BF16 | F32 | F64)
}

fn readable(dtype: Dtype) -> bool {
    use Dtype::{BF16, F16, F32, F64, I64, U8, U32};
    matches!(dtype, U8 | U32 | I64 | F16 | BF16 | F32 | F64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, tensor: Tensor) -> BTreeMap<String, Tensor> {
        [(name.to_owned(), tensor)].into()
    }

    #[test]
    fn every_type_and_layout_reads_back_bit_for_bit() -> Result<()> {
        let numbers = Tensor::arange(0f64, 6., &Device::Cpu)?.reshape((2, 3))?;
        for dtype in
            [DType::U8, DType::U32, DType::I64, DType::F16, DType::BF16, DType::F32, DType::F64]
        {
            let tensor = numbers.to_dtype(dtype)?;
            for tensor in [tensor.t()?, tensor.narrow(1, 1, 2)?, tensor.get(0)?.get(1)?] {
                let back = decode(&encode(&named("x", tensor.clone()))?).unwrap();
                let text =
                    |t: &Tensor| format!("{:?} {}", t.shape(), t.to_dtype(DType::F64).unwrap());
                assert_eq!(text(&back["x"]), text(&tensor), "{dtype:?}");
                assert_eq!(back["x"].dtype(), dtype);
            }
        }
        let nan = Tensor::new(&[f32::from_bits(0x7fc0_1234), -0.], &Device::Cpu)?;
        let back = decode(&encode(&named("x", nan))?).unwrap();
        let bits: Vec<u32> = back["x"].to_vec1::<f32>()?.iter().map(|x| x.to_bits()).collect();
        assert_eq!(bits, [0x7fc0_1234, 0x8000_0000]);
        assert!(decode(&encode(&BTreeMap::new())?).unwrap().is_empty());
        Ok(())
    }

    #[test]
    fn a_parameter_is_saved_without_its_graph() -> Result<()> {
        let var = candle_core::Var::new(&[1f32, 2.], &Device::Cpu)?;
        let back = decode(&encode(&named("x", var.as_tensor().clone()))?).unwrap();
        assert!(!back["x"].track_op());
        Ok(())
    }

    #[test]
    fn an_unknown_type_is_refused_by_name() {
        let file = |dtype: &str, shape: &str, data: usize| {
            let header = format!(
                r#"{{"x":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[0,{data}]}}}}"#
            );
            let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
            bytes.extend(header.bytes());
            bytes.extend(vec![0; data]);
            bytes
        };
        assert!(decode(&file("F32", "[2]", 8)).is_ok());
        assert!(decode(&file("F8_E4M3", "[8]", 8)).unwrap_err().contains("`x`"));
        assert!(decode(&file("C64", "[1]", 8)).is_err());
        assert!(decode(&file("F32", "[3]", 8)).is_err());
        assert!(decode(&file("F32", "[4294967296, 4294967296, 4]", 8)).is_err());
    }
}
