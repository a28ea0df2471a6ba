//! Reductions over axes, and the positions of extremes.
//!
//! Axes are an attribute before opset 18 (ReduceSum: 13), an input since. An empty set of elements
//! gives the fold's neutral value.

use super::emit::{Arith, Emit, Val, compute_type, reduced_index, require};
use super::{Ctx, Lower, Operator};
use crate::base::{Affine, DType, TensorType};
use crate::definition::{DefBuilder, ExprId, Lowering};
use crate::error::Result;
use crate::scalar::{Fold, Op, Scalar};

macro_rules! rows {
    ($($name:literal $versions:expr, $lower:expr;)*) => {
        /// The rows.
        pub const ROWS: &[Operator] = &[$(Operator {
            domain: "",
            name: $name,
            versions: &$versions,
            infer,
            lower: Lower::Define($lower),
            note: "axes must be constant",
        },)*
        Operator {
            domain: "",
            name: "ArgMax",
            versions: &[1, 11, 12, 13],
            infer: infer_position,
            lower: Lower::Define(|ctx, low| lower_position(ctx, low, Fold::Max)),
            note: "",
        },
        Operator {
            domain: "",
            name: "ArgMin",
            versions: &[1, 11, 12, 13],
            infer: infer_position,
            lower: Lower::Define(|ctx, low| lower_position(ctx, low, Fold::Min)),
            note: "",
        }];
    };
}

rows! {
    "ReduceSum" [1, 11, 13], |ctx, low| lower(ctx, low, Fold::Sum, same, same);
    "ReduceMean" [1, 11, 13, 18], |ctx, low| lower(ctx, low, Fold::Sum, same, mean);
    "ReduceProd" [1, 11, 13, 18], |ctx, low| lower(ctx, low, Fold::Prod, same, same);
    "ReduceMax" [1, 11, 12, 13, 18, 20], |ctx, low| lower(ctx, low, Fold::Max, same, same);
    "ReduceMin" [1, 11, 12, 13, 18, 20], |ctx, low| lower(ctx, low, Fold::Min, same, same);
    "ReduceL1" [1, 11, 13, 18], |ctx, low| lower(ctx, low, Fold::Sum, |b, x, _| b.op(Op::Abs, &[x]), same);
    "ReduceL2" [1, 11, 13, 18], |ctx, low| lower(ctx, low, Fold::Sum, square, root);
    "ReduceSumSquare" [1, 11, 13, 18], |ctx, low| lower(ctx, low, Fold::Sum, square, same);
    "ReduceLogSum" [1, 11, 13, 18, 28], |ctx, low| lower(ctx, low, Fold::Sum, same, log);
    "ReduceLogSumExp" [1, 11, 13, 18, 28], log_sum_exp;
}

/// An expression of one value and the number of elements folded.
type Body = fn(&mut DefBuilder, ExprId, usize) -> ExprId;

fn same(_: &mut DefBuilder, x: ExprId, _: usize) -> ExprId {
    x
}

fn square(b: &mut DefBuilder, x: ExprId, _: usize) -> ExprId {
    b.times(x, x)
}

fn mean(b: &mut DefBuilder, sum: ExprId, count: usize) -> ExprId {
    let count = b.number(b.dtype(sum), count as f64);
    b.over(sum, count)
}

/// A function of floats; of integers by way of f32.
fn of_float(b: &mut DefBuilder, op: Op, x: ExprId) -> ExprId {
    let dtype = b.dtype(x);
    let x = b.cast(if dtype.is_float() { dtype } else { DType::F32 }, x);
    b.op(op, &[x])
}

fn root(b: &mut DefBuilder, x: ExprId, _: usize) -> ExprId {
    of_float(b, Op::Sqrt, x)
}

fn log(b: &mut DefBuilder, x: ExprId, _: usize) -> ExprId {
    of_float(b, Op::Log, x)
}

/// The axes folded, sorted.
fn axes(ctx: &Ctx) -> Result<Vec<usize>> {
    let rank = ctx.shape(0)?.len();
    let given = match ctx.attrs().get_ints("axes")? {
        Some(axes) => Some(axes.to_vec()),
        None => ctx.constant_ints(1)?,
    };
    let given = given.unwrap_or_default();
    if given.is_empty() {
        let none = ctx.attrs().flag("noop_with_empty_axes", false)?;
        return Ok(if none { Vec::new() } else { (0..rank).collect() });
    }
    let mut axes = given.iter().map(|&a| ctx.axis(a, rank)).collect::<Result<Vec<_>>>()?;
    axes.sort_unstable();
    axes.dedup();
    Ok(axes)
}

/// The shape with the axes folded: kept with extent 1, or left out.
fn folded(ctx: &Ctx, axes: &[usize]) -> Result<Vec<usize>> {
    let keep = ctx.attrs().flag("keepdims", true)?;
    let dims = ctx.shape(0)?.iter().enumerate();
    Ok(dims.filter_map(|(i, &d)| if !axes.contains(&i) { Some(d) } else { keep.then_some(1) }).collect())
}

fn infer(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let dtype = ctx.dtype(0)?;
    let extreme = matches!(ctx.node.op.name, "ReduceMax" | "ReduceMin");
    let number = (dtype.is_float() && !dtype.is_small_float()) || (dtype.is_int() && dtype.bits() >= 8);
    require(number || (extreme && dtype == DType::Bool), || format!("it is not defined for {dtype}"))?;
    Ok(vec![TensorType::new(dtype, folded(ctx, &axes(ctx)?)?)])
}

/// Defines `out`, whose shape may lack the folded axes, by way of a value that has them.
fn store(e: &mut Emit, kept: &Val, out: &Val) {
    e.alias(kept, out);
}

fn lower(ctx: &Ctx, low: &mut Lowering, fold: Fold, body: Body, finish: Body) -> Result<()> {
    let axes = axes(ctx)?;
    let mut e = Emit::new(ctx, low);
    let (x, out) = (e.input(0)?, e.result()?);
    let count = axes.iter().map(|&a| x.shape()[a]).product();
    let (fold, dtype) = match (fold, x.dtype()) {
        (Fold::Max, DType::Bool) => (Fold::Or, DType::Bool),
        (Fold::Min, DType::Bool) => (Fold::And, DType::Bool),
        (fold, dtype) => (fold, compute_type(dtype)),
    };
    if count == 0 {
        return lower_empty(&mut e, &out, fold, finish);
    }
    let kept = e.reduce(
        "fold",
        x.shape(),
        &axes,
        fold,
        |b, index| {
            let x = b.elem(&x, index, dtype);
            body(b, x, count)
        },
        |b, acc| {
            let y = finish(b, acc, count);
            b.cast(x.dtype(), y)
        },
    );
    store(&mut e, &kept, &out);
    Ok(())
}

/// Nothing to fold: the fold's neutral value in the output's own type.
fn lower_empty(e: &mut Emit, out: &Val, fold: Fold, finish: Body) -> Result<()> {
    e.define("", out, |b| {
        let neutral = b.constant(fold.identity(out.dtype()));
        let neutral = match fold {
            Fold::Sum => b.cast(compute_type(out.dtype()), neutral),
            _ => neutral,
        };
        finish(b, neutral, 0)
    });
    Ok(())
}

/// `log(sum(exp(x - max))) + max`, with 0 for an infinite maximum.
fn log_sum_exp(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let axes = axes(ctx)?;
    let mut e = Emit::new(ctx, low);
    let (x, out) = (e.input(0)?, e.result()?);
    let float = if x.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
    let max = e.reduce(
        "max",
        x.shape(),
        &axes,
        Fold::Max,
        |b, i| b.elem(&x, i, float),
        |b, acc| {
            let (zero, infinity) = (b.number(float, 0.0), b.number(float, f64::INFINITY));
            let size = b.op(Op::Abs, &[acc]);
            let infinite = b.op(Op::Eq, &[size, infinity]);
            b.op(Op::Select, &[infinite, zero, acc])
        },
    );
    let kept_index = |index: &[Affine]| -> Vec<Affine> {
        let zero = Affine::constant(0);
        index
            .iter()
            .enumerate()
            .map(|(i, a)| if axes.contains(&i) { zero.clone() } else { a.clone() })
            .collect()
    };
    let kept = e.reduce(
        "sum",
        x.shape(),
        &axes,
        Fold::Sum,
        |b, index| {
            let (value, max) = (b.elem(&x, index, float), b.elem(&max, &kept_index(index), float));
            let difference = b.minus(value, max);
            b.op(Op::Exp, &[difference])
        },
        |b, acc| {
            let log = b.op(Op::Log, &[acc]);
            let at = b.axes();
            let max = b.elem(&max, &at, float);
            let sum = b.plus(log, max);
            b.cast(x.dtype(), sum)
        },
    );
    store(&mut e, &kept, &out);
    Ok(())
}

fn infer_position(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let axis = position_axis(ctx)?;
    require(ctx.shape(0)?[axis] > 0, || "there is no extreme among no elements".into())?;
    Ok(vec![TensorType::new(DType::I64, folded(ctx, &[axis])?)])
}

fn position_axis(ctx: &Ctx) -> Result<usize> {
    let dtype = ctx.dtype(0)?;
    let number = !dtype.is_small_float() && dtype.bits() >= 8 && dtype != DType::Bool;
    require(number, || format!("it is not defined for {dtype}"))?;
    ctx.axis(ctx.attrs().int("axis", 0)?, ctx.shape(0)?.len())
}

/// The extreme first, then the first or last index at which nothing less extreme stands: a NaN is not less, so that
/// there always is one.
fn lower_position(ctx: &Ctx, low: &mut Lowering, fold: Fold) -> Result<()> {
    let axis = position_axis(ctx)?;
    let last = ctx.attrs().flag("select_last_index", false)?;
    let mut e = Emit::new(ctx, low);
    let (x, out) = (e.input(0)?, e.result()?);
    let dtype = compute_type(x.dtype());
    let extreme = e.reduce("extreme", x.shape(), &[axis], fold, |b, i| b.elem(&x, i, dtype), |_, acc| acc);
    let kept: Vec<usize> = extreme.shape().to_vec();
    // Positions in 32 bits: a tensor has fewer elements along one axis.
    let (join, none) = if last { (Fold::Max, -1) } else { (Fold::Min, i64::from(i32::MAX)) };
    let position = e.map("position", DType::I64, kept, |b| {
        let mut index = reduced_index(b, x.shape(), &[axis]);
        let at = b.index(index[axis].clone());
        let at = b.cast(DType::I32, at);
        let value = b.elem(&x, &index, dtype);
        index[axis] = Affine::constant(0);
        let most = b.elem(&extreme, &index, dtype);
        let less = if fold == Fold::Max { [value, most] } else { [most, value] };
        let less = b.op(Op::Lt, &less);
        let none = b.constant(Scalar::from_i64(DType::I32, none));
        let candidate = b.op(Op::Select, &[less, none, at]);
        b.fold(join, candidate)
    });
    store(&mut e, &position, &out);
    Ok(())
}
