//! Operators of neural networks: products, windows, normalizations, recurrence, quantization.
//!
//! They share [`super::emit::Emit`], which writes definitions into a lowering with one call per tensor.

mod activation;
mod cell;
mod integer;
mod resample;
mod window;

pub mod batch_norm;
pub mod conv;
pub mod conv_transpose;
pub mod integer_conv;
pub mod integer_matmul;
pub mod matmul;
pub mod normalize;
pub mod pool;
pub mod qlinear;
pub mod quantize;
pub mod recurrent;
pub mod resize;
pub mod softmax;

use super::Operator;

/// The families.
pub const FAMILIES: &[&[Operator]] = &[
    batch_norm::ROWS,
    conv::ROWS,
    conv_transpose::ROWS,
    integer_conv::ROWS,
    integer_matmul::ROWS,
    matmul::ROWS,
    normalize::ROWS,
    pool::ROWS,
    qlinear::ROWS,
    quantize::ROWS,
    recurrent::ROWS,
    resize::ROWS,
    softmax::ROWS,
];
