//! Quantized regions are computed in integers.
//!
//! Models say `QuantizeLinear(f(DequantizeLinear(x), DequantizeLinear(w)))`; computed as written,
//! that is float arithmetic on tensors four times as large. Quantization moves up across what only
//! moves, clamps or picks elements, dequantization moves down across it, and equal pairs cancel
//! ([`movement`]). Products and means between them become the integer operators that ONNX has
//! for them ([`product`], [`pool`]). What is left is element-wise: it is fused where it is
//! read, and stores narrow results. Goldens: `tests/golden/passes/integer`.

mod bias;
mod channels;
mod dynamic_signs;
mod filtered;
mod halves;
mod input_signs;
mod linear;
mod movement;
mod parts;
mod pool;
mod product;
mod signs;
mod sums;
mod units;

use super::Around;
use super::drop_dead::drop_dead;
use crate::error::Result;
use crate::graph::Graph;

/// Rewrites the quantized regions of a graph; notes say which products stay in float, and why.
pub fn integer(graph: &mut Graph, around: &mut Around) -> Result<bool> {
    let mut changed = halves::halves(graph)?;
    drop_dead(graph)?;
    changed |= signs::signs(graph, around.target)?;
    changed |= input_signs::input_signs(graph, around.target)?;
    changed |= dynamic_signs::dynamic_signs(graph, around.target)?;
    changed |= movement::movement(graph)?;
    drop_dead(graph)?;
    changed |= pool::pools(graph)?;
    changed |= product::products(graph, around)?;
    changed |= units::units(graph);
    drop_dead(graph)?;
    Ok(changed)
}
