//! Operators of ai.onnx.ml on single features: Scaler, Normalizer, Binarizer, Imputer,
//! LabelEncoder over numbers, ArrayFeatureExtractor.

use crate::base::{Affine, DType, Tensor, TensorType};
use crate::definition::{DefBuilder, Index, Lowering};
use crate::error::{Error, Result};
use crate::graph::Attr;
use crate::ops::emit::{Arith, Emit, Val, require};
use crate::ops::{Ctx, DefineFn, InferFn, Lower, Operator};
use crate::scalar::{Fold, Op, Scalar};

const F: DType = DType::F32;

const fn row(
    name: &'static str,
    versions: &'static [i64],
    infer: InferFn,
    lower: DefineFn,
    note: &'static str,
) -> Operator {
    Operator { domain: "ai.onnx.ml", name, versions, infer, lower: Lower::Define(lower), note }
}

/// The rows.
pub const ROWS: &[Operator] = &[
    row("Scaler", &[1], infer_float, scaler, ""),
    row("Normalizer", &[1], infer_float, normalizer, ""),
    row("Binarizer", &[1], infer_same, binarizer, ""),
    row("Imputer", &[1], infer_same, imputer, ""),
    row("LabelEncoder", &[2, 4], infer_encoder, encoder, "strings are numbers of words"),
    row("ArrayFeatureExtractor", &[1], infer_extractor, extractor, ""),
];

fn infer_float(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let x = ctx.ty(0)?;
    require(x.rank() >= 1 && x.dtype != DType::Bool, || format!("it is not defined for {x}"))?;
    Ok(vec![TensorType::new(F, x.shape.clone())])
}

fn infer_same(ctx: &Ctx) -> Result<Vec<TensorType>> {
    Ok(vec![ctx.ty(0)?.clone()])
}

/// A table of one number, or one per feature (the last dimension), with the index of an element's.
fn per_feature(e: &mut Emit, x: &Val, values: Tensor, what: &str) -> Result<(Val, bool)> {
    let (count, features) = (values.ty.elems(), x.shape().last().copied().unwrap_or(1));
    require(count == 1 || count == features, || {
        format!("{what} has {count} numbers for {features} features")
    })?;
    Ok((e.constant(what, values), count > 1))
}

fn feature(
    b: &mut DefBuilder,
    (table, varies): &(Val, bool),
    rank: usize,
    to: DType,
) -> crate::definition::ExprId {
    let at = if *varies { b.var(rank - 1) } else { Affine::constant(0) };
    b.elem(table, &[at], to)
}

fn scaler(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (x, out) = (e.input(0)?, e.result()?);
    let floats = |name: &str, default: f32| -> Result<Tensor> {
        let values = ctx.attrs().get_floats(name)?.map_or(vec![default], <[f32]>::to_vec);
        Ok(Tensor::new([values.len()], &values))
    };
    let offset = per_feature(&mut e, &x, floats("offset", 0.0)?, "offset")?;
    let scale = per_feature(&mut e, &x, floats("scale", 1.0)?, "scale")?;
    e.define("", &out, |b| {
        let (elem, offset) = (b.broadcast(&x, F), feature(b, &offset, x.rank(), F));
        let scale = feature(b, &scale, x.rank(), F);
        let difference = b.minus(elem, offset);
        b.times(difference, scale)
    });
    Ok(())
}

/// Divides each row by its largest element, its sum of sizes, or its length.
fn normalizer(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (x, out) = (e.input(0)?, e.result()?);
    let last = x.rank() - 1;
    let norm = ctx.attrs().str("norm", "MAX")?;
    let fold = if norm == "MAX" { Fold::Max } else { Fold::Sum };
    require(["MAX", "L1", "L2"].contains(&norm), || format!("norm '{norm}' is not known"))?;
    let size = e.reduce(
        "norm",
        x.shape(),
        &[last],
        fold,
        |b, i| {
            let x = b.elem(&x, i, F);
            match norm {
                "L2" => b.times(x, x),
                "L1" => b.op(Op::Abs, &[x]),
                _ => x,
            }
        },
        |b, acc| if norm == "L2" { b.op(Op::Sqrt, &[acc]) } else { acc },
    );
    e.define("", &out, |b| {
        let (x, size) = (b.broadcast(&x, F), b.broadcast(&size, F));
        let zero = b.number(F, 0.0);
        let none = b.op(Op::Eq, &[size, zero]);
        let quotient = b.over(x, size);
        b.op(Op::Select, &[none, x, quotient])
    });
    Ok(())
}

fn binarizer(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (x, out) = (e.input(0)?, e.result()?);
    let threshold = f64::from(ctx.attrs().float("threshold", 0.0)?);
    e.define("", &out, |b| {
        let x = b.broadcast(&x, x.dtype());
        let dtype = b.dtype(x);
        let (limit, one, zero) = (b.number(dtype, threshold), b.number(dtype, 1.0), b.number(dtype, 0.0));
        let above = b.op(Op::Gt, &[x, limit]);
        b.op(Op::Select, &[above, one, zero])
    });
    Ok(())
}

/// Replaces one value (NaN where that is it) by a number per feature.
fn imputer(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (x, out) = (e.input(0)?, e.result()?);
    let dtype = x.dtype();
    let (values, replaced) = if dtype.is_float() {
        let values = ctx.attrs().get_floats("imputed_value_floats")?.unwrap_or(&[]);
        (Tensor::new([values.len()], values), f64::from(ctx.attrs().float("replaced_value_float", 0.0)?))
    } else {
        let values = ctx.attrs().get_ints("imputed_value_int64s")?.unwrap_or(&[]);
        (Tensor::new([values.len()], values), ctx.attrs().int("replaced_value_int64", 0)? as f64)
    };
    let values = per_feature(&mut e, &x, values, "imputed values")?;
    e.define("", &out, |b| {
        let elem = b.broadcast(&x, dtype);
        let new = feature(b, &values, x.rank(), dtype);
        let wrong = if replaced.is_nan() {
            b.op(Op::IsNan, &[elem])
        } else {
            let old = b.number(dtype, replaced);
            b.op(Op::Eq, &[elem, old])
        };
        b.op(Op::Select, &[wrong, new, elem])
    });
    Ok(())
}

/// Keys, values and default of a LabelEncoder.
struct Mapping {
    keys: Tensor,
    values: Tensor,
    default: Tensor,
}

fn mapping(ctx: &Ctx) -> Result<Mapping> {
    let list = |role: &str| -> Result<Tensor> {
        if let Some(tensor) = ctx.attrs().get_tensor(&format!("{role}_tensor"))? {
            let count = tensor.ty.elems();
            return tensor.reshaped([count]).ok_or_else(|| Error::bug("a tensor of as many elements"));
        }
        if let Some(ints) = ctx.attrs().get_ints(&format!("{role}_int64s"))? {
            return Ok(Tensor::new([ints.len()], ints));
        }
        if let Some(floats) = ctx.attrs().get_floats(&format!("{role}_floats"))? {
            return Ok(Tensor::new([floats.len()], floats));
        }
        Err(Error::model(format!("the {role} must be numbers: strings are not supported")))
    };
    let (keys, values) = (list("keys")?, list("values")?);
    require(keys.ty.elems() == values.ty.elems() && keys.ty.elems() > 0, || {
        "keys and values differ in number".into()
    })?;
    let default = match (ctx.attrs().0.get("default_tensor"), values.ty.dtype.is_int()) {
        (Some(Attr::Tensor(t)), _) if t.ty.elems() == 1 && t.ty.dtype == values.ty.dtype => t.clone(),
        (_, true) => Tensor::scalar(ctx.attrs().int("default_int64", -1)?),
        (_, false) => Tensor::scalar(ctx.attrs().float("default_float", -0.0)?),
    };
    Ok(Mapping { keys, values, default })
}

fn infer_encoder(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let (x, map) = (ctx.ty(0)?, mapping(ctx)?);
    require(x.dtype == map.keys.ty.dtype, || format!("the keys are not of the input's type, {}", x.dtype))?;
    Ok(vec![TensorType::new(map.values.ty.dtype, x.shape.clone())])
}

/// The position of each element among the keys, then the value there.
fn encoder(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let map = mapping(ctx)?;
    let mut e = Emit::new(ctx, low);
    let (x, out) = (e.input(0)?, e.result()?);
    let (dtype, count) = (x.dtype(), map.keys.ty.elems());
    let (keys, values) = (e.constant("keys", map.keys), e.constant("values", map.values));
    let default = map.default.reshaped([1]).ok_or_else(|| Error::bug("one element"))?;
    let default = e.constant("default", default);
    let none = Scalar::from_i64(DType::I64, count as i64);
    let place = e.map("place", DType::I64, x.shape(), |b| {
        let elem = b.broadcast(&x, dtype);
        let i = b.reduce("i", count);
        let key = b.elem(&keys, std::slice::from_ref(&i), dtype);
        let mut holds = b.op(Op::Eq, &[elem, key]);
        if dtype.is_float() {
            let both = [elem, key].map(|v| b.op(Op::IsNan, &[v]));
            let both = b.op(Op::And, &both);
            holds = b.op(Op::Or, &[holds, both]);
        }
        let (here, none) = (b.index(i), b.constant(none));
        let body = b.op(Op::Select, &[holds, here, none]);
        b.fold(Fold::Min, body)
    });
    e.define("", &out, |b| {
        let place = b.broadcast(&place, DType::I64);
        let (none, last) = (b.constant(none), b.constant(Scalar::from_i64(DType::I64, count as i64 - 1)));
        let found = b.op(Op::Lt, &[place, none]);
        let inside = b.op(Op::Min, &[place, last]);
        let value = b.elem_at(&values, vec![Index::Dynamic(inside)], out.dtype());
        let default = b.elem(&default, &[Affine::constant(0)], out.dtype());
        b.op(Op::Select, &[found, value, default])
    });
    Ok(())
}

fn infer_extractor(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let (x, y) = (ctx.ty(0)?, ctx.ty(1)?);
    require(x.rank() >= 1 && y.dtype.is_int(), || format!("features {y} of {x} are not defined"))?;
    let mut shape = if x.rank() == 1 { vec![1] } else { x.shape[..x.rank() - 1].to_vec() };
    shape.push(y.elems());
    Ok(vec![TensorType::new(x.dtype, shape)])
}

/// Columns of the last dimension, by their numbers.
fn extractor(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (x, y, out) = (e.input(0)?, e.input(1)?, e.result()?);
    let x = if x.rank() == 1 { e.reshape(&x, [1, x.shape()[0]]) } else { x };
    let y = e.reshape(&y, [y.ty.elems()]);
    let last = x.rank() - 1;
    e.define("", &out, |b| {
        let column = b.elem(&y, &[b.var(last)], DType::I64);
        let mut index: Vec<Index> = (0..last).map(|d| Index::Affine(b.var(d))).collect();
        index.push(Index::Dynamic(column));
        b.elem_at(&x, index, x.dtype())
    });
    Ok(())
}
