//! Conversions of element types: Cast, CastLike, BitCast.

use super::emit::{Emit, require};
use super::{Ctx, Lower, Operator};
use crate::base::{DType, TensorType};
use crate::definition::{DefBuilder, ExprId, Lowering};
use crate::error::{Error, Result};
use crate::scalar::{Op, Scalar};

/// The rows.
pub const ROWS: &[Operator] = &[
    Operator {
        domain: "",
        name: "Cast",
        versions: &[1, 6, 9, 13, 19, 21, 23, 24, 25, 28],
        infer: |ctx| Ok(vec![TensorType::new(target(ctx)?, ctx.shape(0)?)]),
        lower: Lower::Define(lower_cast),
        note: "no strings; floats beyond the range of an integer type saturate",
    },
    Operator {
        domain: "",
        name: "CastLike",
        versions: &[15, 19, 21, 23, 24, 25],
        infer: |ctx| Ok(vec![TensorType::new(ctx.dtype(1)?, ctx.shape(0)?)]),
        lower: Lower::Define(lower_cast),
        note: "as Cast",
    },
    Operator {
        domain: "",
        name: "BitCast",
        versions: &[26],
        infer: infer_bits,
        lower: Lower::Define(lower_bits),
        note: "no strings",
    },
];

/// The element type of the attribute `to`: a number, before opset 6 a name.
fn target(ctx: &Ctx) -> Result<DType> {
    if ctx.version() < 6 {
        let name = ctx.attrs().str("to", "")?;
        let names = [
            ("FLOAT", DType::F32),
            ("UINT8", DType::U8),
            ("INT8", DType::I8),
            ("UINT16", DType::U16),
            ("INT16", DType::I16),
            ("INT32", DType::I32),
            ("INT64", DType::I64),
            ("BOOL", DType::Bool),
            ("FLOAT16", DType::F16),
            ("DOUBLE", DType::F64),
            ("UINT32", DType::U32),
            ("UINT64", DType::U64),
        ];
        let known = names.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        return known.map(|k| k.1).ok_or_else(|| Error::model(format!("to = '{name}' is not supported")));
    }
    let number = ctx.attrs().int("to", 0)?;
    DType::from_onnx(number).ok_or_else(|| {
        Error::model(format!("the element type {number} in attribute 'to' is not supported"))
            .advise("Strings and complex numbers are not; cast to a number type")
    })
}

fn lower_cast(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (x, out) = (e.input(0)?, e.result()?);
    let saturate = ctx.attrs().flag("saturate", true)?;
    let mut b = DefBuilder::new(out.shape());
    let mut y = b.load_broadcast(x.id, &x.ty);
    if out.dtype() == DType::F8E8M0 && x.dtype() != out.dtype() {
        y = b.cast(DType::F32, y);
        y = round_to_power(&mut b, y, ctx.attrs().str("round_mode", "up")?)?;
    }
    // Beyond the range of the types below a byte the result is not defined: ONNX's own tests keep
    // the low bits since opset 25, and saturate before.
    if ctx.node.opset >= 25 && out.dtype().is_int() && out.dtype().bits() < 8 && x.dtype().is_float() {
        y = b.cast(DType::I32, y);
    }
    let y = b.cast_as(out.dtype(), saturate, y);
    e.low.define(b.finish(&ctx.node.name, out.id, &out.ty, y));
    Ok(())
}

/// Rounds `f32` to a power of two on its bits; the cast itself rounds up.
fn round_to_power(b: &mut DefBuilder, x: ExprId, mode: &str) -> Result<ExprId> {
    let integer = |b: &mut DefBuilder, v: i64| b.constant(Scalar::from_i64(DType::I32, v));
    let carry = match mode {
        "up" => return Ok(x),
        "down" => 0,
        "nearest" => 0x40_0000,
        other => return Err(Error::model(format!("round_mode = '{other}' is not known"))),
    };
    let bits = b.bitcast(DType::I32, x);
    let (carry, mask, limit) = (integer(b, carry), integer(b, 0x7f80_0000), integer(b, 0x7f80_0000));
    let sum = b.op(Op::Add, &[bits, carry]);
    let kept = b.op(Op::And, &[sum, mask]);
    let rounded = b.bitcast(DType::F32, kept);
    let finite = b.op(Op::Lt, &[bits, limit]);
    Ok(b.op(Op::Select, &[finite, rounded, x]))
}

fn infer_bits(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let (from, to) = (ctx.dtype(0)?, target(ctx)?);
    require(from.bits() == to.bits(), || format!("{from} and {to} have different sizes"))?;
    Ok(vec![TensorType::new(to, ctx.shape(0)?)])
}

fn lower_bits(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (x, out) = (e.input(0)?, e.result()?);
    e.define("", &out, |b| {
        let element = b.load_broadcast(x.id, &x.ty);
        // Truth values are bytes only in memory.
        match (x.dtype(), out.dtype()) {
            (DType::Bool, to) => {
                let byte = b.cast(DType::U8, element);
                if to == DType::U8 { byte } else { b.bitcast(to, byte) }
            }
            (_, DType::Bool) => b.cast(DType::Bool, element),
            (_, to) => b.bitcast(to, element),
        }
    });
    Ok(())
}
