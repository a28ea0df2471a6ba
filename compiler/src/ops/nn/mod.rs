//! Operators of neural networks: products, windows, normalizations, recurrence, quantization.
//!
//! They share [`emit::Emit`], which writes definitions into a lowering with one call per tensor.

mod activation;

mod resample;
mod window;

pub mod batch_norm;
pub mod conv;
pub mod conv_transpose;
pub mod matmul;
pub mod normalize;
pub mod pool;
pub mod resize;
pub mod softmax;

use super::{Operator, emit};

/// The families.
pub const FAMILIES: &[&[Operator]] = &[
    batch_norm::ROWS,
    conv::ROWS,
    conv_transpose::ROWS,
    matmul::ROWS,
    normalize::ROWS,
    pool::ROWS,
    resize::ROWS,
    softmax::ROWS,
];
