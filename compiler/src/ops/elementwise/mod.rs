//! Element-wise operators: one row each, an expression of the inputs' elements.
//!
//! Inputs are broadcast (before opset 7 by the attributes `broadcast` and `axis`), converted to the
//! type that arithmetic is done in, and the result is converted to the output's element type.

mod activation;
mod binary;
mod choice;
mod unary;

use super::emit::{Emit, compute_type, require};
use super::nn::matmul::broadcast;
use super::{Ctx, Operator};
use crate::base::{Affine, DType, TensorType};
use crate::definition::{DefBuilder, ExprId, Lowering};
use crate::error::{Error, Result};

/// The families.
pub const FAMILIES: &[&[Operator]] = &[activation::ROWS, binary::ROWS, choice::ROWS, unary::ROWS];

/// Whether each element of an operator's result is computed from the elements of its inputs at that place,
/// after broadcasting.
pub fn is_elementwise(op: &Operator) -> bool {
    FAMILIES
        .iter()
        .copied()
        .flatten()
        .chain(super::cast::ROWS)
        .any(|row| (row.domain, row.name) == (op.domain, op.name))
}

/// Element types that an operator is defined for.
#[derive(Clone, Copy, PartialEq)]
enum Accepts {
    /// Floats of 16 bits and more, integers.
    Number,
    /// Floats of 16 bits and more.
    Float,
    Int,
    Bool,
    /// All of the above.
    Any,
}

impl Accepts {
    fn check(self, dtype: DType) -> Result<()> {
        let float = dtype.is_float() && !dtype.is_small_float();
        let int = dtype.is_int() && dtype.bits() >= 8;
        let holds = match self {
            Accepts::Number => float || int,
            Accepts::Float => float,
            Accepts::Int => int,
            Accepts::Bool => dtype == DType::Bool,
            Accepts::Any => float || int || dtype == DType::Bool,
        };
        require(holds, || format!("it is not defined for elements of type {dtype}"))
    }
}

/// What an operator's result holds.
#[derive(Clone, Copy, PartialEq)]
enum Gives {
    /// The type of the first input.
    Same,
    Bool,
}

/// An expression of the elements of the inputs, each in its type of arithmetic.
type Body = fn(&Ctx, &mut DefBuilder, &[ExprId]) -> Result<ExprId>;

/// Shape of the result: all inputs broadcast together.
fn result_shape(ctx: &Ctx) -> Result<Vec<usize>> {
    if is_legacy(ctx)? {
        return Ok(ctx.shape(0)?.to_vec());
    }
    let mut shape = ctx.shape(0)?.to_vec();
    for i in 1..ctx.node.inputs.len() {
        if let Some(value) = ctx.optional(i) {
            shape = broadcast(&shape, &value.ty.shape).ok_or_else(|| {
                Error::model(format!("shapes {shape:?} and {:?} do not broadcast", value.ty.shape))
            })?;
        }
    }
    Ok(shape)
}

/// Whether the second input is placed by the rules of opsets before 7: by the attributes
/// `broadcast` and `axis`; a slope for each channel in PRelu.
fn is_legacy(ctx: &Ctx) -> Result<bool> {
    let slopes = ctx.node.op.name == "PRelu" && ctx.ty(1)?.elems() > 1;
    Ok(ctx.node.opset < 7 && (slopes || ctx.attrs().flag("broadcast", false)?))
}

fn infer(ctx: &Ctx, inputs: usize, accepts: Accepts, gives: Gives) -> Result<Vec<TensorType>> {
    let given = ctx.node.inputs.len();
    let fits = if inputs == 0 { given > 0 } else { given == inputs };
    require(fits, || format!("it takes {inputs} inputs, not {given}"))?;
    (0..given).try_for_each(|i| ctx.input(i).map(|_| ()))?;
    let dtype = ctx.dtype(0)?;
    for i in 0..ctx.node.inputs.len() {
        if let Some(value) = ctx.optional(i) {
            accepts.check(value.ty.dtype)?;
            require(value.ty.dtype == dtype || ctx.node.op.name == "Pow", || {
                format!("inputs have types {dtype} and {}", value.ty.dtype)
            })?;
        }
    }
    let dtype = if gives == Gives::Bool { DType::Bool } else { dtype };
    Ok(vec![TensorType::new(dtype, result_shape(ctx)?)])
}

fn lower(ctx: &Ctx, low: &mut Lowering, body: Body) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let out = e.result()?;
    let mut b = DefBuilder::new(out.shape());
    let mut args = Vec::with_capacity(ctx.node.inputs.len());
    for i in 0..ctx.node.inputs.len() {
        let x = e.input(i)?;
        let index = place(ctx, &b, i, x.shape(), out.shape())?;
        let x = b.load(x.id, &x.ty, index);
        args.push(b.cast(compute_type(b.dtype(x)), x));
    }
    let y = body(ctx, &mut b, &args)?;
    let y = b.cast(out.dtype(), y);
    e.low.define(b.finish(&ctx.node.name, out.id, &out.ty, y));
    Ok(())
}

/// The index into input `i` at the point of the axes.
fn place(ctx: &Ctx, b: &DefBuilder, i: usize, shape: &[usize], out: &[usize]) -> Result<Vec<Affine>> {
    let room = out.len().checked_sub(shape.len());
    let mut first = room.ok_or_else(|| Error::model("an input has too many dimensions"))?;
    if i == 1 && is_legacy(ctx)? {
        let channels = (ctx.node.op.name == "PRelu").then_some(1);
        if let Some(axis) = ctx.attrs().get_int("axis")?.copied().or(channels) {
            let axis = if axis < 0 { axis + out.len() as i64 } else { axis };
            let at = usize::try_from(axis).ok().filter(|&a| a <= first);
            first =
                at.ok_or_else(|| Error::model(format!("axis {axis} leaves no room for the second input")))?;
        }
    }
    let fits = shape.iter().zip(&out[first..]).all(|(&d, &o)| d == 1 || d == o);
    require(fits, || format!("shape {shape:?} does not fit {out:?} from axis {first} on"))?;
    let at = |(d, &extent): (usize, &usize)| if extent == 1 { Affine::constant(0) } else { b.var(first + d) };
    Ok(shape.iter().enumerate().map(at).collect())
}

/// Rows of a family: name, number of inputs (0: any), versions, accepted types, result, body.
macro_rules! rows {
    ($($name:literal $inputs:literal $versions:expr, $accepts:ident, $gives:ident, $body:expr;)*) => {
        /// The rows.
        pub const ROWS: &[crate::ops::Operator] = &[$(crate::ops::Operator {
            domain: "",
            name: $name,
            versions: &$versions,
            infer: |ctx| super::infer(ctx, $inputs, super::Accepts::$accepts, super::Gives::$gives),
            lower: crate::ops::Lower::Define(|ctx, low| super::lower(ctx, low, $body)),
            note: "",
        }),*];
    };
}
use rows;
