//! The gates and normalizations of com.microsoft around linear attention.

use super::{MS, composed, input, ints, number, optional};
use crate::base::DType;
use crate::error::{Error, Result};
use crate::graph::{Attr, Attrs, ValueId};
use crate::ops::emit::require;
use crate::ops::{Ctx, NodeBuilder, Operator};

/// The rows.
pub const ROWS: &[Operator] = &[
    composed!(MS, "BranchwiseRMSNorm", branches),
    composed!(MS, "GatedAdd", gated_add),
    composed!(MS, "GatedRMSNorm", gated_norm),
    composed!(MS, "LinearAttentionGate", attention_gate),
    composed!(MS, "ScaledSiLU", scaled_silu),
];

/// The root mean square of each `width` elements in a row becomes 1; in f32.
fn normalized(ctx: &Ctx, b: &mut NodeBuilder, width: usize) -> Result<ValueId> {
    let x = b.cast(input(ctx, 0)?, DType::F32)?;
    let mut shape: Vec<i64> = b.ty(x).shape.iter().map(|&d| d as i64).collect();
    let last = shape.pop().unwrap_or(0);
    require(width > 0 && last % width as i64 == 0, || format!("{last} elements are no groups of {width}"))?;
    shape.extend([last / width as i64, width as i64]);
    let shape = ints(b, &shape);
    let x = b.binary("Reshape", x, shape)?;
    let ones = b.constant(crate::base::Tensor::new([width], &vec![1f32; width]));
    let epsilon = Attr::Float(ctx.attrs().float("epsilon", 1e-5)?);
    b.one("RMSNormalization", &[x, ones], Attrs::default().with("epsilon", epsilon))
}

/// In the shape and the type of the first input.
fn like_input(ctx: &Ctx, b: &mut NodeBuilder, x: ValueId) -> Result<ValueId> {
    let shape: Vec<i64> = ctx.shape(0)?.iter().map(|&d| d as i64).collect();
    let shape = ints(b, &shape);
    let x = b.binary("Reshape", x, shape)?;
    b.cast(x, ctx.dtype(0)?)
}

fn gated_norm(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    let gate = match ctx.attrs().str("activation", "silu")? {
        "silu" | "swish" => "Swish",
        "sigmoid" => "Sigmoid",
        other => return Err(Error::model(format!("activation '{other}' is not known"))),
    };
    let width = ctx.ty(1)?.elems();
    let x = normalized(ctx, b, width)?;
    let scale = b.cast(input(ctx, 1)?, DType::F32)?;
    let x = b.binary("Mul", x, scale)?;
    let z = b.cast(input(ctx, 2)?, DType::F32)?;
    let z = b.unary(gate, z)?;
    let shape: Vec<i64> = b.ty(x).shape.iter().map(|&d| d as i64).collect();
    let shape = ints(b, &shape);
    let z = b.binary("Reshape", z, shape)?;
    let y = b.binary("Mul", x, z)?;
    Ok(vec![like_input(ctx, b, y)?])
}

fn branches(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    let shape = ctx.shape(0)?;
    let last = shape.last().copied().unwrap_or(0);
    let flat = usize::try_from(ctx.attrs().int("num_branches", 0)?).unwrap_or(0);
    let width = last.checked_div(flat).unwrap_or(last);
    let mut x = normalized(ctx, b, width)?;
    if let Some(scale) = optional(ctx, 1) {
        let scale = b.cast(scale, DType::F32)?;
        let shape = ints(b, &[-1, width as i64]);
        let scale = b.binary("Reshape", scale, shape)?;
        if flat == 0 {
            let shape: Vec<i64> = ctx.shape(0)?.iter().map(|&d| d as i64).collect();
            let shape = ints(b, &shape);
            x = b.binary("Reshape", x, shape)?;
        }
        x = b.binary("Mul", x, scale)?;
    }
    Ok(vec![like_input(ctx, b, x)?])
}

/// `x + y * gate`; the gate is given, or the sigmoid of a product with a weight, rounded at each step.
fn gated_add(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    let mut gate = input(ctx, 2)?;
    if let Some(weight) = optional(ctx, 3) {
        let product = b.binary("MatMul", gate, weight)?;
        gate = b.unary("Sigmoid", product)?;
    }
    let scaled = b.binary("Mul", input(ctx, 1)?, gate)?;
    Ok(vec![b.binary("Add", input(ctx, 0)?, scaled)?])
}

/// `scale * softplus(a + bias)` and the sigmoid of `b`, in f32.
fn attention_gate(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    let dtype = ctx.dtype(0)?;
    let a = b.cast(input(ctx, 0)?, DType::F32)?;
    let sum = b.binary("Add", a, input(ctx, 1)?)?;
    let soft = b.unary("Softplus", sum)?;
    let decay = b.binary("Mul", soft, input(ctx, 2)?)?;
    let mut outputs = vec![b.cast(decay, dtype)?];
    if let Some(rate) = optional(ctx, 3) {
        outputs.push(b.unary("Sigmoid", rate)?);
    }
    Ok(outputs)
}

/// `z * sigmoid(z)` of the scaled input, rounded at each step.
fn scaled_silu(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    let dtype = ctx.dtype(0)?;
    let scale = match optional(ctx, 1) {
        Some(scale) => b.cast(scale, DType::F32)?,
        None => number(b, DType::F32, ctx.attrs().float("alpha", 1.0)?)?,
    };
    let x = b.cast(input(ctx, 0)?, DType::F32)?;
    let z = b.binary("Mul", x, scale)?;
    let z = b.cast(z, dtype)?;
    let gate = b.unary("Sigmoid", z)?;
    Ok(vec![b.binary("Mul", z, gate)?])
}

#[cfg(test)]
mod tests {
    use super::super::super::older::fold;
    use super::super::tests::floats;
    use crate::base::Tensor;
    use crate::graph::Attr;

    fn near(got: &[f32], want: &[f32]) {
        let same = got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-4);
        assert!(got.len() == want.len() && same, "{got:?} {want:?}");
    }

    fn sigmoid(v: f32) -> f32 {
        1.0 / (1.0 + (-v).exp())
    }

    /// Against the text; the random comparison has been with ONNX Runtime.
    #[test]
    fn gates() {
        let ms = |name: &str| format!("com.microsoft.{name}");
        let x = Tensor::new([1, 4], &[3f32, -3.0, 1.0, 1.0]);
        let gate = Tensor::new([1, 4], &[1f32, 0.0, -1.0, 2.0]);
        let attrs = [("activation", Attr::Str("sigmoid".into()))];
        let y =
            floats(&ms("GatedRMSNorm"), &attrs, &[x.clone(), Tensor::new([2], &[1f32, 2.0]), gate.clone()]);
        near(&y, &[sigmoid(1.0), -1.0, sigmoid(-1.0), 2.0 * sigmoid(2.0)]);
        let halves = [("num_branches", Attr::Int(2))];
        near(&floats(&ms("BranchwiseRMSNorm"), &halves, std::slice::from_ref(&x)), &[1.0, -1.0, 1.0, 1.0]);
        let sum = floats(&ms("GatedAdd"), &[], &[x.clone(), gate.clone(), Tensor::new([1, 1], &[2f32])]);
        near(&sum, &[5.0, -3.0, -1.0, 5.0]);
        near(
            &floats(&ms("ScaledSiLU"), &[("alpha", Attr::Float(0.5))], &[gate]),
            &[0.5 * sigmoid(0.5), 0.0, -0.5 * sigmoid(-0.5), sigmoid(1.0)],
        );
        let (a, b) = (Tensor::new([1, 1, 1], &[1f32]), Tensor::new([1, 1, 1], &[3f32]));
        let inputs = [a, Tensor::new([1], &[-1f32]), Tensor::new([1], &[-2f32]), b];
        let made = fold(&ms("LinearAttentionGate"), 1, &[], &inputs, 2).expect("both");
        near(&made[0].to_vec::<f32>().expect("floats"), &[-2.0 * 2f32.ln()]);
        near(&made[1].to_vec::<f32>().expect("floats"), &[sigmoid(3.0)]);
    }
}
