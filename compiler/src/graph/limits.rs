//! How large a tensor may be: a model that asks for more is refused before memory is asked for.

use crate::base::TensorType;
use crate::error::{Error, Result};

/// Largest tensor.
pub const MAX_TENSOR_BYTES: usize = 1 << 33;
/// Most dimensions of a tensor.
const MAX_RANK: usize = 32;

/// The bytes of a tensor, when they stay below [`MAX_TENSOR_BYTES`]; an error otherwise.
pub fn check_size(ty: &TensorType) -> Result<usize> {
    if ty.rank() > MAX_RANK {
        return Err(Error::model(format!("a tensor of rank {} exceeds the limit of {MAX_RANK}", ty.rank())));
    }
    let bytes = ty.shape.iter().try_fold(ty.dtype.size(), |n, &d| n.checked_mul(d.max(1)));
    match bytes {
        Some(n) if n <= MAX_TENSOR_BYTES => Ok(ty.bytes()),
        _ => Err(Error::model(format!("a tensor {ty} exceeds the limit of {MAX_TENSOR_BYTES} bytes"))
            .advise("Bind the free dimensions to smaller sizes with --dim or --input, or check the model")),
    }
}
