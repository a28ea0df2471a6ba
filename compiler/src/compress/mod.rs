//! Making models smaller before they are compiled: quantization and pruning of ONNX files.
//!
//! A file is edited as it is ([`onnx`]), so that what is written is the model with few other nodes. `prepare` brings it
//! into the form that is worked on ([`chosen`], `bodies`, `branches`, `normalization`, [`opset`]); [`samples`] are run
//! through it ([`observe`]) to know the ranges of its values; then `quantize`, `prune` or `half` rewrites it.

mod bodies;
mod branches;
pub mod chosen;
pub mod half;
mod normalization;
pub mod observe;
pub mod onnx;
pub mod opset;
mod prepare;
pub mod prune;
pub mod quantize;
pub mod samples;
