//! Softmax, LogSoftmax, Hardmax: a maximum, exponentials, their sum. Before version 13 the tensor
//! is taken as a matrix: all dimensions from `axis` on are normalized together.

use crate::base::{DType, TensorType};
use crate::definition::{DefBuilder, ExprId, Lowering};
use crate::error::Result;
use crate::ops::emit::{Arith, Emit, Val, compute_type, require};
use crate::ops::{Ctx, DefineFn, Operator};
use crate::scalar::{Fold, Op, Scalar};

const fn row(name: &'static str, lower: DefineFn) -> Operator {
    Operator::define("", name, &[1, 11, 13], infer, lower)
}

/// The rows.
pub const ROWS: &[Operator] =
    &[row("Softmax", softmax), row("LogSoftmax", log_softmax), row("Hardmax", hardmax)];

fn infer(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let x = ctx.ty(0)?;
    require(x.dtype.is_float(), || format!("it is not defined for {}", x.dtype))?;
    axes(ctx)?;
    Ok(vec![x.clone()])
}

fn axes(ctx: &Ctx) -> Result<Vec<usize>> {
    let rank = ctx.shape(0)?.len();
    let coerced = ctx.version() < 13;
    let axis = ctx.attrs().int("axis", if coerced { 1 } else { -1 })?;
    if coerced {
        let first = if axis == rank as i64 { rank } else { ctx.axis(axis, rank)? };
        return Ok((first..rank).collect());
    }
    if rank == 0 { Ok(Vec::new()) } else { Ok(vec![ctx.axis(axis, rank)?]) }
}

/// The largest element over `axes`, which keep extent 1.
pub fn maximum(e: &mut Emit, x: &Val, axes: &[usize]) -> Val {
    let float = compute_type(x.dtype());
    e.reduce("max", x.shape(), axes, Fold::Max, |b, i| b.elem(x, i, float), |_, acc| acc)
}

/// `exp(x - max)` at an index of `x`.
fn exponential(
    b: &mut DefBuilder,
    x: &Val,
    max: &Val,
    index: &[crate::base::Affine],
    axes: &[usize],
) -> ExprId {
    let at_max: Vec<_> = index
        .iter()
        .enumerate()
        .map(|(i, form)| if axes.contains(&i) { crate::base::Affine::constant(0) } else { form.clone() })
        .collect();
    let float = max.dtype();
    let (x, max) = (b.elem(x, index, float), b.elem(max, &at_max, float));
    let difference = b.minus(x, max);
    b.op(Op::Exp, &[difference])
}

/// Defines `out` as the softmax of `x` over `axes`.
pub fn define_softmax(e: &mut Emit, x: &Val, axes: &[usize], out: &Val) {
    let float = compute_type(x.dtype());
    let max = maximum(e, x, axes);
    let exp = e.map("exp", float, x.shape(), |b| exponential(b, x, &max, &b.axes(), axes));
    // A division for each row, not for each element. The sum is 1 or more.
    let share = e.reduce(
        "share",
        x.shape(),
        axes,
        Fold::Sum,
        |b, i| b.elem(&exp, i, float),
        |b, acc| {
            let one = b.number(float, 1.0);
            b.over(one, acc)
        },
    );
    e.define("", out, |b| {
        let (exp, share) = (b.broadcast(&exp, float), b.broadcast(&share, float));
        b.times(exp, share)
    });
}

fn softmax(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (x, out) = (e.input(0)?, e.result()?);
    define_softmax(&mut e, &x, &axes(ctx)?, &out);
    Ok(())
}

/// Defines `out` as the logarithm of the softmax of `x` over `axes`.
pub fn define_log_softmax(e: &mut Emit, x: &Val, axes: &[usize], out: &Val) {
    let float = compute_type(x.dtype());
    let max = maximum(e, x, axes);
    let log = e.reduce(
        "log",
        x.shape(),
        axes,
        Fold::Sum,
        |b, i| exponential(b, x, &max, i, axes),
        |b, acc| b.op(Op::Log, &[acc]),
    );
    e.define("", out, |b| {
        let (elem, max, log) = (b.broadcast(x, float), b.broadcast(&max, float), b.broadcast(&log, float));
        let difference = b.minus(elem, max);
        b.minus(difference, log)
    });
}

fn log_softmax(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (x, out) = (e.input(0)?, e.result()?);
    define_log_softmax(&mut e, &x, &axes(ctx)?, &out);
    Ok(())
}

/// One at the first maximum, zero elsewhere.
fn hardmax(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (x, out) = (e.input(0)?, e.result()?);
    let (axes, dtype) = (axes(ctx)?, x.dtype());
    let strides = crate::base::row_major_strides(x.shape());
    let position = |index: &[crate::base::Affine]| {
        axes.iter().fold(crate::base::Affine::constant(0), |sum, &a| sum.plus_scaled(&index[a], strides[a]))
    };
    let float = compute_type(dtype);
    let max = maximum(&mut e, &x, &axes);
    let first = e.reduce(
        "first",
        x.shape(),
        &axes,
        Fold::Min,
        |b, index| {
            let at_max: Vec<_> = (0..index.len())
                .map(|i| if axes.contains(&i) { crate::base::Affine::constant(0) } else { index[i].clone() })
                .collect();
            let (elem, max) = (b.elem(&x, index, float), b.elem(&max, &at_max, float));
            let holds = b.op(Op::Eq, &[elem, max]);
            let here = b.index(position(index));
            let here = b.cast(DType::I32, here);
            let none = b.constant(Scalar::highest(DType::I32));
            b.op(Op::Select, &[holds, here, none])
        },
        |_, acc| acc,
    );
    e.define("", &out, |b| {
        let first = b.broadcast(&first, DType::I32);
        let here = b.index(position(&b.axes()));
        let here = b.cast(DType::I32, here);
        let holds = b.op(Op::Eq, &[first, here]);
        let (one, zero) = (b.number(dtype, 1.0), b.number(dtype, 0.0));
        b.op(Op::Select, &[holds, one, zero])
    });
    Ok(())
}
