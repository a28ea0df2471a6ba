//! Operators that are a few others put together: those of com.microsoft and of ONNX's first, experimental
//! set that tools have written, encoders of ai.onnx.ml, and quantizers of QONNX.

mod elements;
mod encoders;
mod experts;
mod first;
mod gated;
mod microsoft;
mod qonnx;
mod quantized;

use super::emit::require;
use super::{Ctx, ExpandFn, NodeBuilder, Operator};
use crate::base::{DType, Tensor, TensorType};
use crate::error::{Error, Result};
use crate::graph::{Attr, Attrs, ValueId};

/// The families.
pub const FAMILIES: &[&[Operator]] = &[
    elements::ROWS,
    encoders::ROWS,
    experts::ROWS,
    first::ROWS,
    gated::ROWS,
    microsoft::ROWS,
    qonnx::ROWS,
    quantized::ROWS,
];

/// A row whose types are those of what it expands to.
macro_rules! composed {
    ($domain:expr, $name:literal, $expand:expr) => {
        composed!($domain, $name, $expand, "")
    };
    ($domain:expr, $name:literal, $expand:expr, $note:literal) => {
        crate::ops::Operator {
            domain: $domain,
            name: $name,
            versions: &[1],
            infer: |ctx| crate::ops::compositions::types_of(ctx, $expand),
            lower: crate::ops::Lower::Expand($expand),
            note: $note,
        }
    };
}
use composed;

const MS: &str = "com.microsoft";

/// The types of what a node expands to.
fn types_of(ctx: &Ctx, expand: ExpandFn) -> Result<Vec<TensorType>> {
    let mut graph = ctx.graph.clone();
    let mut b = NodeBuilder::new(&mut graph, ctx.node.name.clone(), ctx.node.opset);
    let made = expand(ctx, &mut b)?;
    Ok(made.into_iter().map(|v| b.ty(v).clone()).collect())
}

fn optional(ctx: &Ctx, i: usize) -> Option<ValueId> {
    ctx.node.inputs.get(i).copied().flatten()
}

fn input(ctx: &Ctx, i: usize) -> Result<ValueId> {
    let given = ctx.node.inputs.get(i).copied().flatten();
    given.ok_or_else(|| Error::model(format!("input {i} is missing")))
}

fn number(b: &mut NodeBuilder, dtype: DType, value: f32) -> Result<ValueId> {
    let number = b.constant(Tensor::scalar(value));
    b.cast(number, dtype)
}

fn ints(b: &mut NodeBuilder, values: &[i64]) -> ValueId {
    b.constant(Tensor::new([values.len()], values))
}

fn infer_float(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let x = ctx.ty(0)?;
    require(x.dtype.is_float(), || format!("it is not defined for {x}"))?;
    Ok(vec![x.clone()])
}

fn axis_attr(axis: i64) -> Attrs {
    Attrs::default().with("axis", Attr::Int(axis))
}

#[cfg(test)]
mod tests {
    use super::super::older;
    use crate::base::Tensor;
    use crate::graph::Attr;

    /// The first output of a node on constants.
    pub(super) fn floats(op: &str, attrs: &[(&str, Attr)], inputs: &[Tensor]) -> Vec<f32> {
        older::floats(op, 1, attrs, inputs)
    }
}
