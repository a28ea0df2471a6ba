//! Making models smaller before they are compiled: quantization and pruning of ONNX files.

mod bodies;
mod branches;
pub mod half;
mod normalization;
pub mod observe;
pub mod onnx;
pub mod opset;
mod prepare;
pub mod prune;
pub mod quantize;
pub mod samples;
