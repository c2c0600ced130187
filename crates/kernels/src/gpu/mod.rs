//! What kernels for GPUs have in common: their arithmetic, in `arithmetic.h`, and how their results become nodes.
use candle_core::op::BackpropOp;
use candle_core::{Shape, Storage, Tensor};

mod node;

pub(crate) use node::node;

/// Numbers that were written on a GPU, and are not a tensor yet.
pub(crate) struct Value(pub(crate) Storage, pub(crate) Shape);

impl Value {
    pub(crate) fn tensor(self) -> Tensor {
        Tensor::from_storage(self.0, self.1, BackpropOp::none(), false)
    }
}
