//! Operators that say what a value is rather than compute it: constants, shapes, copies.

use super::{Ctx, Lower, NodeBuilder, Operator};
use crate::base::{DType, Tensor, TensorType};
use crate::definition::{DefBuilder, Lowering};
use crate::error::{Error, Result};
use crate::graph::{Attr, ValueId};

const ALL: &[i64] = &[1, 13, 14, 16, 19, 21, 23, 24, 25];

/// The rows of this family.
pub(super) const ROWS: &[Operator] = &[
    Operator {
        domain: "",
        name: "Constant",
        versions: &[1, 9, 11, 12, 13, 19, 21, 23, 24, 25],
        infer: |ctx| Ok(vec![constant(ctx)?.ty]),
        lower: Lower::Expand(|ctx, b| Ok(vec![b.constant(constant(ctx)?)])),
        note: "strings are numbers of words",
    },
    Operator {
        domain: "",
        name: "Identity",
        versions: ALL,
        infer: |ctx| Ok(vec![ctx.ty(0)?.clone()]),
        lower: Lower::Define(define_identity),
        note: "",
    },
    Operator {
        domain: "",
        name: "Shape",
        versions: &[1, 13, 15, 19, 21, 23, 24, 25],
        infer: |ctx| Ok(vec![TensorType::new(DType::I64, [shape(ctx)?.len()])]),
        lower: Lower::Expand(expand_shape),
        note: "",
    },
    Operator {
        domain: "",
        name: "Size",
        versions: &[1, 13, 19, 21, 23, 24, 25],
        infer: |_| Ok(vec![TensorType::new(DType::I64, [])]),
        lower: Lower::Expand(|ctx, b| Ok(vec![b.constant(Tensor::scalar(ctx.ty(0)?.elems() as i64))])),
        note: "",
    },
];

/// The tensor of a Constant node, whichever attribute holds it.
fn constant(ctx: &Ctx) -> Result<Tensor> {
    let forms = ["value", "sparse_value", "value_float", "value_int", "value_floats", "value_ints"];
    match forms.iter().find_map(|f| ctx.attrs().0.get(*f)) {
        Some(Attr::Tensor(tensor)) => Ok(tensor.clone()),
        Some(Attr::Float(v)) => Ok(Tensor::scalar(*v)),
        Some(Attr::Int(v)) => Ok(Tensor::scalar(*v)),
        Some(Attr::Floats(v)) => Ok(Tensor::new([v.len()], v)),
        Some(Attr::Ints(v)) => Ok(Tensor::new([v.len()], v)),
        None if !["value_string", "value_strings"].iter().any(|f| ctx.attrs().0.contains_key(*f)) => {
            Err(Error::model("has no attribute that holds a value"))
        }
        _ => Err(Error::model("holds no tensor of numbers").advise("Strings are not supported")),
    }
}

/// The dimensions that Shape gives: all, or those from `start` to `end`.
fn shape<'a>(ctx: &Ctx<'a>) -> Result<&'a [usize]> {
    let shape = ctx.shape(0)?;
    let rank = shape.len() as i64;
    let clamp = |v: i64| (if v < 0 { v.saturating_add(rank) } else { v }).clamp(0, rank) as usize;
    let start = clamp(ctx.attrs().int("start", 0)?);
    let end = clamp(ctx.attrs().int("end", rank)?);
    Ok(shape.get(start..end).unwrap_or(&[]))
}

fn expand_shape(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    let dims: Vec<i64> = shape(ctx)?.iter().map(|&d| d as i64).collect();
    Ok(vec![b.constant(Tensor::new([dims.len()], &dims))])
}

fn define_identity(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let (Some(from), Some(to)) = (ctx.node.inputs[0], ctx.node.outputs[0]) else { return Ok(()) };
    let ty = ctx.ty(0)?;
    let mut b = DefBuilder::new(&ty.shape);
    let x = b.load_broadcast(from, ty);
    low.define(b.finish(&ctx.node.name, to, ty, x));
    Ok(())
}
