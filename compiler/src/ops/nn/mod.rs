//! Operators of neural networks: products, windows, normalizations, recurrence, quantization.
//!
//! They share [`super::emit::Emit`], which writes definitions into a lowering with one call per tensor.

mod activation;
mod cell;
mod exact_conv;
mod heads;
mod integer;
mod recurrent_sizes;
mod recurrent_weights;
mod resample;
mod rounded;
mod sample;
mod scaled_attention;
mod window;

pub mod attention;
pub mod audio;
pub mod batch_norm;
pub mod causal_conv;
pub mod col2im;
pub mod conv;
pub mod conv_transpose;
pub mod crop;
pub mod deform_conv;
pub mod determinant;
pub mod dropout;
pub mod einsum;
pub mod flex_attention;
pub mod fourier;
pub mod grid;
pub mod integer_conv;
pub mod integer_matmul;
pub mod integer_transpose;
pub mod linear_attention;
pub mod loss;
pub mod matmul;
pub mod matmul_nbits;
pub mod ms_attention;
pub mod ms_fused;
pub mod ms_grouped;
mod ms_resident;
pub mod ms_rotary;
pub mod ngrams;
pub mod normalize;
pub mod pool;
pub mod qlinear;
pub mod quantize;
pub mod recurrent;
pub mod resize;
mod resize_moving;
mod resize_region;
pub mod roi;
pub mod softmax;
pub mod unpool;

use super::Operator;

#[cfg(test)]
mod tests;

/// The families.
pub const FAMILIES: &[&[Operator]] = &[
    attention::ROWS,
    audio::ROWS,
    batch_norm::ROWS,
    causal_conv::ROWS,
    col2im::ROWS,
    conv::ROWS,
    conv_transpose::ROWS,
    crop::ROWS,
    deform_conv::ROWS,
    determinant::ROWS,
    dropout::ROWS,
    einsum::ROWS,
    flex_attention::ROWS,
    fourier::ROWS,
    grid::ROWS,
    integer_conv::ROWS,
    integer_matmul::ROWS,
    integer_transpose::ROWS,
    linear_attention::ROWS,
    loss::ROWS,
    matmul::ROWS,
    matmul_nbits::ROWS,
    ms_attention::ROWS,
    ms_fused::ROWS,
    ms_grouped::ROWS,
    ms_rotary::ROWS,
    ngrams::ROWS,
    normalize::ROWS,
    pool::ROWS,
    qlinear::ROWS,
    quantize::ROWS,
    recurrent::ROWS,
    resize::ROWS,
    roi::ROWS,
    softmax::ROWS,
    unpool::ROWS,
];
