//! Operators of com.microsoft on the elements of quantized tensors: dequantized, computed in floats, quantized
//! again, as nodes of their own, so that passes treat models of either form alike.

use super::{MS, composed, input, optional};
use crate::base::{DType, Tensor, TensorType};
use crate::error::Result;
use crate::graph::{Attr, Attrs, ValueId};
use crate::ops::emit::require;
use crate::ops::{Ctx, NodeBuilder, Operator};

/// The rows.
pub const ROWS: &[Operator] = &[
    composed!(MS, "QLinearAdd", |ctx, b| binary(ctx, b, "Add")),
    composed!(MS, "QLinearMul", |ctx, b| binary(ctx, b, "Mul")),
    composed!(MS, "QLinearSigmoid", |ctx, b| unary(ctx, b, "Sigmoid", Attrs::default())),
    composed!(MS, "QLinearLeakyRelu", leaky_relu),
    composed!(MS, "QLinearConcat", concat),
    composed!(MS, "QLinearWhere", choose),
];

/// Inputs `i` and the next, a scale and a zero point of one element each.
fn check(ctx: &Ctx, i: usize) -> Result<()> {
    let scale = ctx.ty(i)?;
    require(scale.elems() == 1 && scale.dtype.is_float(), || {
        format!("a scale of type {scale} must be one float")
    })?;
    let one = ctx.optional(i + 1).is_none_or(|zero| zero.ty.elems() == 1);
    require(one, || format!("the zero point of input {i} must be one number"))
}

/// One element as a number of its own.
fn single(b: &mut NodeBuilder, x: ValueId) -> Result<ValueId> {
    if b.ty(x).rank() == 0 {
        return Ok(x);
    }
    let none = b.constant(Tensor::new([0], &[0i64; 0]));
    b.binary("Reshape", x, none)
}

/// The real numbers of the integers that are input `i`, whose scale and zero point follow.
fn real(ctx: &Ctx, b: &mut NodeBuilder, i: usize) -> Result<ValueId> {
    check(ctx, i + 1)?;
    let scale = single(b, input(ctx, i + 1)?)?;
    let zero = optional(ctx, i + 2).map(|zero| single(b, zero)).transpose()?;
    let inputs = [Some(input(ctx, i)?), Some(scale), zero];
    Ok(b.node_in("", "DequantizeLinear", &inputs, Attrs::default(), 1)?[0])
}

/// The result in units of the scale that is input `i`; the zero point follows, or is zero.
fn quantized(ctx: &Ctx, b: &mut NodeBuilder, x: ValueId, i: usize, dtype: DType) -> Result<Vec<ValueId>> {
    check(ctx, i)?;
    let scale = single(b, input(ctx, i)?)?;
    let zero = match optional(ctx, i + 1) {
        Some(zero) => single(b, zero)?,
        None => {
            let ty = TensorType::new(dtype, []);
            let data = vec![0u8; ty.bytes()];
            b.constant(Tensor { ty, data: data.into() })
        }
    };
    require(b.ty(zero).dtype == dtype, || format!("its zero point is no {dtype}"))?;
    Ok(vec![b.one("QuantizeLinear", &[x, scale, zero], Attrs::default())?])
}

fn binary(ctx: &Ctx, b: &mut NodeBuilder, op: &str) -> Result<Vec<ValueId>> {
    let (first, second) = (ctx.ty(0)?, ctx.ty(3)?);
    require(first.dtype == second.dtype, || format!("it is not defined for {first} and {second}"))?;
    let (x, y) = (real(ctx, b, 0)?, real(ctx, b, 3)?);
    let value = b.binary(op, x, y)?;
    quantized(ctx, b, value, 6, first.dtype)
}

fn unary(ctx: &Ctx, b: &mut NodeBuilder, op: &str, attrs: Attrs) -> Result<Vec<ValueId>> {
    let x = real(ctx, b, 0)?;
    let value = b.one(op, &[x], attrs)?;
    quantized(ctx, b, value, 3, ctx.dtype(0)?)
}

fn leaky_relu(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    let alpha = ctx.attrs().float("alpha", 0.01)?;
    unary(ctx, b, "LeakyRelu", Attrs::default().with("alpha", Attr::Float(alpha)))
}

/// Scale and zero point of the result come first, then the tensors with theirs.
fn concat(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    let dtype = ctx.dtype(2)?;
    let tensors = (2..ctx.node.inputs.len()).step_by(3);
    let parts: Vec<ValueId> = tensors.map(|i| real(ctx, b, i)).collect::<Result<_>>()?;
    let axis = Attrs::default().with("axis", Attr::Int(ctx.attrs().int("axis", 0)?));
    let whole = b.one("Concat", &parts, axis)?;
    quantized(ctx, b, whole, 0, dtype)
}

fn choose(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    let (first, second) = (ctx.ty(1)?, ctx.ty(4)?);
    require(first.dtype == second.dtype, || format!("it is not defined for {first} and {second}"))?;
    let (x, y) = (real(ctx, b, 1)?, real(ctx, b, 4)?);
    let value = b.one("Where", &[input(ctx, 0)?, x, y], Attrs::default())?;
    quantized(ctx, b, value, 7, first.dtype)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Graph;
    use crate::ops::find;

    /// The operators that a node becomes, and the type of its result.
    fn nodes(op: &str, inputs: &[Option<Tensor>]) -> (Vec<&'static str>, TensorType) {
        let mut graph = Graph::default();
        let mut ids = Vec::new();
        for (i, given) in inputs.iter().enumerate() {
            ids.push(given.as_ref().map(|t| match t.ty.rank() > 1 {
                true => graph.add_value(format!("x{i}"), t.ty.clone()),
                false => graph.add_constant(format!("x{i}"), t.clone()),
            }));
        }
        assert!(find(MS, op).is_some());
        let mut b = NodeBuilder::new(&mut graph, "n", 1);
        let attrs = Attrs::default().with("axis", Attr::Int(1));
        let result = b.node_in(MS, op, &ids, attrs, 1).expect("a node")[0];
        (b.nodes.iter().map(|n| n.op.name).collect(), b.ty(result).clone())
    }

    #[test]
    fn elements_are_computed_between_dequantization_and_quantization() {
        let x = Some(Tensor::new([2, 3], &[1i8; 6]));
        // A scale of one element counts as a number.
        let (scale, zero) = (Some(Tensor::new([1], &[0.5f32])), Some(Tensor::scalar(3i8)));
        let one = || vec![x.clone(), scale.clone(), zero.clone()];
        let two = || [one(), one()].concat();
        let (q, dq) = ("QuantizeLinear", "DequantizeLinear");
        let result = || vec![scale.clone(), zero.clone()];
        let same = TensorType::new(DType::I8, [2, 3]);
        for (op, inner) in [("QLinearAdd", "Add"), ("QLinearMul", "Mul")] {
            assert_eq!(nodes(op, &[two(), result()].concat()), (vec![dq, dq, inner, q], same.clone()));
            // Without a zero point the result has the type of the factors.
            assert_eq!(nodes(op, &[two(), vec![scale.clone()]].concat()).1, same);
        }
        for (op, inner) in [("QLinearSigmoid", "Sigmoid"), ("QLinearLeakyRelu", "LeakyRelu")] {
            assert_eq!(nodes(op, &[one(), result()].concat()), (vec![dq, inner, q], same.clone()));
        }
        let wide = TensorType::new(DType::I8, [2, 6]);
        assert_eq!(nodes("QLinearConcat", &[result(), two()].concat()), (vec![dq, dq, "Concat", q], wide));
        let condition = vec![Some(
            Tensor::from_bytes(TensorType::new(DType::Bool, [2, 3]), vec![1; 6]).expect("a tensor"),
        )];
        let chosen = nodes("QLinearWhere", &[condition, two(), result()].concat());
        assert_eq!(chosen, (vec![dq, dq, "Where", q], same));
    }
}
