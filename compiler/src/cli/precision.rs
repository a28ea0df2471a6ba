//! How close a model's results can be to a reference: what it rounds to says so.
//!
//! Where values are rounded to integers, a bit in the floats before moves some by a step. Where they are half floats,
//! each of them is off by its rounding, an element near zero by many times what it is itself. In both cases the cosine
//! tells right results from wrong ones, no tolerance for single elements does.

use crate::base::DType;
use crate::import::{Body, Declared, SourceNode};

/// The least cosine of a quantized model.
const QUANTIZED: f64 = 0.999;
/// Roundings by which the results of a model of half floats are off at most, as a share of their length. Real networks
/// of `f16`, whatever they are run in, are off by 1 to 35.
const ROUNDINGS: f64 = 64.0;

/// The cosine with a reference that is enough, by default, where the tolerance is not met; `None` where it must be.
pub(super) fn least_cosine(body: &Body) -> Option<f64> {
    let halves = [(DType::BF16, 8), (DType::F16, 11)];
    let coarsest = halves.into_iter().find(|&(dtype, _)| computes_in(body, dtype));
    let halves = coarsest.map(|(_, bits)| 1.0 - (ROUNDINGS / f64::from(1 << bits)).powi(2) / 2.0);
    let quantized = quantizes(body).then_some(QUANTIZED);
    halves.into_iter().chain(quantized).min_by(f64::total_cmp)
}

/// Whether a model rounds to integers at run time: ONNX and ONNX Runtime name the operators that do so.
fn quantizes(body: &Body) -> bool {
    let rounds = |op: &str| op.starts_with('Q') || op.contains("Quantize");
    let one = |node: &SourceNode| rounds(&node.op) || node.bodies.values().any(quantizes);
    body.nodes.iter().any(one)
}

/// Whether values of a model have an element type: what it reads, writes or states, constants, what is cast to it.
fn computes_in(body: &Body, dtype: DType) -> bool {
    let declared = |value: &Declared| value.dtype == Some(dtype);
    let casts = |node: &SourceNode| node.attrs.int("to", 0).ok().and_then(DType::from_onnx) == Some(dtype);
    let one = |node: &SourceNode| casts(node) || node.bodies.values().any(|body| computes_in(body, dtype));
    body.inputs.iter().chain(&body.outputs).chain(body.declared.values()).any(declared)
        || body.constants.iter().any(|(_, tensor)| tensor.ty.dtype == dtype)
        || body.nodes.iter().any(one)
}
