//! Where and Clip: inputs of other types and shapes than the elements they act on.

use crate::base::{DType, TensorType};
use crate::definition::{DefBuilder, ExprId, Lowering};
use crate::error::{Error, Result};
use crate::ops::emit::{Arith, Emit, Val, compute_type, require};
use crate::ops::nn::matmul::broadcast;
use crate::ops::{Ctx, Lower, Operator};
use crate::scalar::Op;

/// The rows.
pub const ROWS: &[Operator] = &[
    Operator {
        domain: "",
        name: "Where",
        versions: &[9, 16],
        infer: infer_where,
        lower: Lower::Define(lower_where),
        note: "",
    },
    Operator {
        domain: "",
        name: "Clip",
        versions: &[1, 6, 11, 12, 13],
        infer: infer_clip,
        lower: Lower::Define(lower_clip),
        note: "",
    },
];

fn infer_where(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let (x, y) = (ctx.ty(1)?, ctx.ty(2)?);
    require(ctx.dtype(0)? == DType::Bool, || "the condition must be boolean".into())?;
    require(x.dtype == y.dtype, || format!("inputs have types {} and {}", x.dtype, y.dtype))?;
    let shape = broadcast(&x.shape, &y.shape).and_then(|s| broadcast(&s, ctx.shape(0).ok()?));
    let shape = shape.ok_or_else(|| Error::model("the shapes of the inputs do not broadcast"))?;
    Ok(vec![TensorType::new(x.dtype, shape)])
}

fn lower_where(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (mask, x, y, out) = (e.input(0)?, e.input(1)?, e.input(2)?, e.result()?);
    e.define("", &out, |b| {
        let mask = b.broadcast(&mask, DType::Bool);
        let (x, y) = (b.broadcast(&x, x.dtype()), b.broadcast(&y, y.dtype()));
        b.op(Op::Select, &[mask, x, y])
    });
    Ok(())
}

fn infer_clip(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let x = ctx.ty(0)?;
    super::Accepts::Number.check(x.dtype)?;
    for limit in [1, 2] {
        if let Some(limit) = ctx.optional(limit) {
            require(limit.ty.elems() == 1 && limit.ty.dtype == x.dtype, || {
                format!("a limit must be a scalar of type {}, not {}", x.dtype, limit.ty)
            })?;
        }
    }
    Ok(vec![x.clone()])
}

/// The limit given by an attribute (before opset 11) or by an input.
fn limit(ctx: &Ctx, e: &Emit, b: &mut DefBuilder, i: usize, dtype: DType) -> Result<Option<ExprId>> {
    if ctx.version() < 11 {
        let given = ctx.attrs().get_float(if i == 1 { "min" } else { "max" })?;
        return Ok(given.map(|&v| b.number(dtype, f64::from(v))));
    }
    let Some(value) = e.optional(i) else { return Ok(None) };
    // A constant limit is part of the definition, so that no kernel has to load it.
    if let Some(tensor) = &ctx.graph.value(value.id).constant {
        let scalar = crate::scalar::Scalar::from_le(value.dtype(), &tensor.data);
        let scalar = b.constant(scalar);
        return Ok(Some(b.cast(dtype, scalar)));
    }
    let index = vec![crate::base::Affine::constant(0); value.rank()];
    Ok(Some(b.elem(&value, &index, dtype)))
}

fn lower_clip(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (x, out): (Val, Val) = (e.input(0)?, e.result()?);
    let dtype = compute_type(x.dtype());
    let mut b = DefBuilder::new(out.shape());
    let mut y = b.broadcast(&x, dtype);
    for (i, op) in [(1, Op::Max), (2, Op::Min)] {
        if let Some(limit) = limit(ctx, &e, &mut b, i, dtype)? {
            y = b.op(op, &[y, limit]);
        }
    }
    let y = b.cast(out.dtype(), y);
    e.low.define(b.finish(&ctx.node.name, out.id, &out.ty, y));
    Ok(())
}
