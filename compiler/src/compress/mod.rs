//! Making models smaller before they are compiled: quantization and pruning of ONNX files.

pub mod half;
pub mod observe;
pub mod onnx;
pub mod opset;
mod prepare;
pub mod prune;
pub mod quantize;
pub mod samples;
