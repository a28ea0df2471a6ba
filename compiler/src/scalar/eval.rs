//! The meaning of each scalar operation on one element.

use super::Scalar;
use crate::base::DType;

/// Converts as ONNX `Cast` does.
pub fn cast(value: Scalar, to: DType, _saturate: bool) -> Scalar {
    if value.dtype == to { value } else { unreachable!("conversions are being added") }
}
