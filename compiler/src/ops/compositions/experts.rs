//! MoE and QMoE of com.microsoft: every expert sees every token, and the router's weights choose among the
//! results. The work is that of all experts, but the same for any choice.

use super::{MS, axis_attr, composed, input, ints, number, optional};
use crate::base::{DType, Tensor};
use crate::error::{Error, Result};
use crate::graph::{Attr, Attrs, ValueId};
use crate::ops::emit::require;
use crate::ops::{Ctx, NodeBuilder, Operator};

/// The rows.
pub const ROWS: &[Operator] = &[
    composed!(MS, "MoE", |c, b| experts(c, b, &FLOATS), "all experts are computed"),
    composed!(MS, "QMoE", |c, b| experts(c, b, &INTEGERS), "all experts are computed; weights of integers"),
];

/// Which inputs a layer of the experts has.
struct Layer {
    weights: usize,
    bias: usize,
    /// Scales, zero points, and the attribute of their bits where they have their own.
    quantized: Option<(usize, usize, &'static str)>,
}

/// The three layers; the third is the linear part of a gate that is not joined to the first.
type Layers = [Layer; 3];

const FLOATS: Layers = [
    Layer { weights: 2, bias: 3, quantized: None },
    Layer { weights: 4, bias: 5, quantized: None },
    Layer { weights: 6, bias: 7, quantized: None },
];

const INTEGERS: Layers = [
    Layer { weights: 2, bias: 4, quantized: Some((3, 11, "fc1_expert_weight_bits")) },
    Layer { weights: 5, bias: 7, quantized: Some((6, 12, "fc2_expert_weight_bits")) },
    Layer { weights: 8, bias: 10, quantized: Some((9, 13, "fc3_expert_weight_bits")) },
];

fn experts(ctx: &Ctx, b: &mut NodeBuilder, layers: &Layers) -> Result<Vec<ValueId>> {
    let unknown = ctx.attrs().flag("use_sparse_mixer", false)?
        || ctx.attrs().flag("swiglu_limit_after_activation", false)?;
    require(!unknown, || "the sparse mixer, and a limit behind the activation, are not supported".into())?;
    let shape: Vec<i64> = ctx.shape(0)?.iter().map(|&d| d as i64).collect();
    let hidden = shape.last().copied().unwrap_or(0);
    let rows = ints(b, &[1, -1, hidden]);
    let x = b.binary("Reshape", input(ctx, 0)?, rows)?;
    let inner = projected(ctx, b, x, &layers[0])?;
    let inner = activated(ctx, b, x, inner, &layers[2])?;
    let y = projected(ctx, b, inner, &layers[1])?;
    let weights = weights(ctx, b, layers[0].quantized.is_some())?;
    let weighted = b.binary("Mul", y, weights)?;
    let all = ints(b, &[0]);
    let sum = b.one("ReduceSum", &[weighted, all], Attrs::default())?;
    let shape = ints(b, &shape);
    Ok(vec![b.binary("Reshape", sum, shape)?])
}

/// `x W + bias` for each expert, `[experts, tokens, rows]`.
fn projected(ctx: &Ctx, b: &mut NodeBuilder, x: ValueId, layer: &Layer) -> Result<ValueId> {
    let turned = Attrs::default().with("perm", Attr::Ints(vec![0, 2, 1]));
    let mut w = input(ctx, layer.weights)?;
    if let Some((scales, zeros, bits)) = layer.quantized {
        let columns = b.ty(x).shape.last().copied().unwrap_or(0);
        let bits = ctx.attrs().int(bits, ctx.attrs().int("expert_weight_bits", 4)?)?;
        w = dequantized(ctx, b, w, [scales, zeros], bits, columns)?;
    }
    let w = b.one("Transpose", &[w], turned)?;
    let y = b.binary("MatMul", x, w)?;
    let Some(bias) = optional(ctx, layer.bias) else { return Ok(y) };
    let beside = ints(b, &[1]);
    let bias = b.binary("Unsqueeze", bias, beside)?;
    b.binary("Add", y, bias)
}

/// Floats `[experts, rows, columns]` of integers that lie along their rows, each block with its own scale
/// and zero point.
fn dequantized(
    ctx: &Ctx,
    b: &mut NodeBuilder,
    w: ValueId,
    [scales, zeros]: [usize; 2],
    bits: i64,
    columns: usize,
) -> Result<ValueId> {
    require(ctx.attrs().str("quant_type", "int")? == "int" && [2, 4, 8].contains(&bits), || {
        format!("weights of {bits} bits, or of floats, are not supported")
    })?;
    // -1 and 0 are the layout that the text states, for a processor that packs nothing.
    require(ctx.attrs().int("weights_prepacked", -1)? <= 0, || {
        "weights packed for one processor are not supported: export with weights_prepacked 0".into()
    })?;
    let block = usize::try_from(ctx.attrs().int("block_size", 0)?).unwrap_or(0);
    let block = if block == 0 { columns } else { block };
    let shape = b.ty(w).shape.clone();
    let fits = b.ty(w).dtype == DType::U8 && shape.len() == 3 && shape[2] * 8 == columns * bits as usize;
    require(fits && block > 0 && columns.is_multiple_of(block), || {
        format!("weights {} do not hold rows of {columns} integers in blocks of {block}", b.ty(w))
    })?;
    let (experts, rows, blocks) = (shape[0] as i64, shape[1] as i64, (columns / block) as i64);
    let of_block = ints(b, &[experts, rows, blocks]);
    let scales = b.binary("Reshape", input(ctx, scales)?, of_block)?;
    let w = unpacked(b, w, bits, columns)?;
    let zeros = match optional(ctx, zeros) {
        // By blocks, bytes lie along the blocks; otherwise along the rows.
        Some(zeros) => unpacked(b, zeros, bits, if block < columns { blocks as usize } else { shape[1] })?,
        None => {
            let middle = b.constant(Tensor::scalar(1u8 << (bits - 1)));
            let middle = b.cast(middle, b.ty(w).dtype)?;
            b.binary("Expand", middle, of_block)?
        }
    };
    let zeros = b.binary("Reshape", zeros, of_block)?;
    let attrs = axis_attr(2).with("block_size", Attr::Int(block as i64));
    b.one("DequantizeLinear", &[w, scales, zeros], attrs)
}

/// The integers of bytes, the first in the lowest bits: `count` in the last dimension.
fn unpacked(b: &mut NodeBuilder, bytes: ValueId, bits: i64, count: usize) -> Result<ValueId> {
    if bits == 8 {
        return Ok(bytes);
    }
    let mut shape: Vec<i64> = b.ty(bytes).shape.iter().map(|&d| d as i64).collect();
    let last = ints(b, &[-1]);
    let apart = b.binary("Unsqueeze", bytes, last)?;
    let shifts: Vec<u8> = (0..8).step_by(bits as usize).collect();
    let shifts = b.constant(Tensor::new([shifts.len()], &shifts));
    let right = Attrs::default().with("direction", Attr::Str("RIGHT".into()));
    let shifted = b.one("BitShift", &[apart, shifts], right)?;
    let mask = b.constant(Tensor::scalar((1u8 << bits) - 1));
    let integers = b.binary("BitwiseAnd", shifted, mask)?;
    if let Some(last) = shape.last_mut() {
        *last *= 8 / bits;
    }
    let shape = ints(b, &shape);
    let integers = b.binary("Reshape", integers, shape)?;
    let integers = b.cast(integers, DType::U4)?;
    let (from, to) = (ints(b, &[0]), ints(b, &[count as i64]));
    b.one("Slice", &[integers, from, to, last], Attrs::default())
}

fn activated(ctx: &Ctx, b: &mut NodeBuilder, x: ValueId, inner: ValueId, third: &Layer) -> Result<ValueId> {
    let name = ctx.attrs().str("activation_type", "relu")?;
    if name == "swiglu" {
        let (gate, linear) = halves(ctx, b, x, inner, third)?;
        return swiglu(ctx, b, gate, linear);
    }
    let y = match name {
        "relu" => b.unary("Relu", inner)?,
        // As ONNX Runtime computes it.
        "gelu" => b.one("Gelu", &[inner], Attrs::default().with("approximate", Attr::Str("tanh".into())))?,
        "silu" => b.unary("Swish", inner)?,
        "identity" => inner,
        other => return Err(Error::model(format!("activation_type '{other}' is not supported"))),
    };
    if !ctx.has(third.weights) {
        return Ok(y);
    }
    let third = projected(ctx, b, x, third)?;
    b.binary("Mul", y, third)
}

/// Gate and linear part of a SwiGLU: columns in turn, one half and the other, or a third projection.
fn halves(
    ctx: &Ctx,
    b: &mut NodeBuilder,
    x: ValueId,
    inner: ValueId,
    third: &Layer,
) -> Result<(ValueId, ValueId)> {
    let ty = b.ty(inner).clone();
    let columns = ty.shape[2] as i64;
    match ctx.attrs().int("swiglu_fusion", 0)? {
        0 => Ok((inner, projected(ctx, b, x, third)?)),
        1 => {
            let apart = ints(b, &[ty.shape[0] as i64, ty.shape[1] as i64, columns / 2, 2]);
            let pairs = b.binary("Reshape", inner, apart)?;
            let [first, second] = [0i64, 1].map(|i| {
                let at = b.constant(Tensor::scalar(i));
                b.one("Gather", &[pairs, at], axis_attr(3))
            });
            Ok((first?, second?))
        }
        2 => {
            let parts = b.node("Split", &[inner], axis_attr(2), 2)?;
            Ok((parts[0], parts[1]))
        }
        other => Err(Error::model(format!("swiglu_fusion {other} is not known"))),
    }
}

/// `gate * sigmoid(alpha gate) * (linear + beta)`, both held within the limit.
fn swiglu(ctx: &Ctx, b: &mut NodeBuilder, mut gate: ValueId, mut linear: ValueId) -> Result<ValueId> {
    let dtype = b.ty(gate).dtype;
    if let Some(&limit) = ctx.attrs().get_float("swiglu_limit")? {
        let (most, least) = (number(b, dtype, limit)?, number(b, dtype, -limit)?);
        gate = b.binary("Min", gate, most)?;
        linear = b.one("Clip", &[linear, least, most], Attrs::default())?;
    }
    let alpha = Attr::Float(ctx.attrs().float("activation_alpha", 1.0)?);
    let gate = b.one("Swish", &[gate], Attrs::default().with("alpha", alpha))?;
    let beta = number(b, dtype, ctx.attrs().float("activation_beta", 0.0)?)?;
    let linear = b.binary("Add", linear, beta)?;
    b.binary("Mul", gate, linear)
}

/// What each expert's result counts for each token, `[experts, tokens, 1]`: 0 but for the best `k`.
fn weights(ctx: &Ctx, b: &mut NodeBuilder, quantized: bool) -> Result<ValueId> {
    let (dtype, count) = (ctx.dtype(0)?, ctx.shape(1)?.last().copied().unwrap_or(0) as i64);
    let router = b.cast(input(ctx, 1)?, DType::F32)?;
    let mut chances = b.one("Softmax", &[router], axis_attr(-1))?;
    let k = ints(b, &[ctx.attrs().int("k", 1)?]);
    let best = b.node("TopK", &[chances, k], axis_attr(-1), 2)?;
    let (last, depth) = (ints(b, &[-1]), b.constant(Tensor::scalar(count)));
    chances = best[0];
    let mut normalized = ctx.attrs().flag("normalize_routing_weights", false)?;
    if quantized {
        // QMoE takes the softmax over the chosen ones alone, or weights of their own.
        match optional(ctx, 14) {
            Some(own) => {
                let own = b.cast(own, DType::F32)?;
                chances = b.one("GatherElements", &[own, best[1]], axis_attr(1))?;
            }
            None => normalized = true,
        }
    }
    if normalized {
        let sum = b.binary("ReduceSum", chances, last)?;
        chances = b.binary("Div", chances, sum)?;
    }
    let flags = b.constant(Tensor::new([2], &[0f32, 1.0]));
    let chosen = b.one("OneHot", &[best[1], depth, flags], axis_attr(-1))?;
    let chances = b.binary("Unsqueeze", chances, last)?;
    let placed = b.binary("Mul", chosen, chances)?;
    let each = ints(b, &[1]);
    let dropped = Attrs::default().with("keepdims", Attr::Int(0));
    let weights = b.one("ReduceSum", &[placed, each], dropped)?;
    let turned = Attrs::default().with("perm", Attr::Ints(vec![1, 0]));
    let weights = b.one("Transpose", &[weights], turned)?;
    let weights = b.binary("Unsqueeze", weights, last)?;
    b.cast(weights, dtype)
}

#[cfg(test)]
mod tests {
    use super::super::tests::floats;
    use crate::base::Tensor;
    use crate::graph::Attr;

    /// Results of ONNX Runtime: two of three experts, as SwiGLU with columns in turn, and plain.
    #[test]
    fn two_of_three_experts() {
        let x = Tensor::new([2, 2], &[1f32, -0.5, 0.25, 2.0]);
        let router = Tensor::new([2, 3], &[0.5f32, 1.5, -1.0, 0.0, -2.0, 1.0]);
        let first: Vec<f32> = (0..12).map(|i| (i * 5 % 7) as f32 * 0.25 - 0.75).collect();
        let second: Vec<f32> = (0..6).map(|i| (i * 3 % 5) as f32 * 0.5 - 1.0).collect();
        let inputs = [
            x.clone(),
            router.clone(),
            Tensor::new([3, 2, 2], &first),
            Tensor::new([3, 2], &[0.5f32, -0.5, 0.25, 0.0, 1.0, -1.0]),
            Tensor::new([3, 2, 1], &second),
        ];
        let attrs = [
            ("k", Attr::Int(2)),
            ("normalize_routing_weights", Attr::Int(1)),
            ("activation_type", Attr::Str("swiglu".into())),
            ("swiglu_fusion", Attr::Int(1)),
            ("activation_alpha", Attr::Float(1.5)),
            ("activation_beta", Attr::Float(1.0)),
            ("swiglu_limit", Attr::Float(1.25)),
        ];
        let y = floats("com.microsoft.MoE", &attrs, &inputs);
        assert!(
            y.iter().zip([-0.251_156, 0.550_846, 0.072_869, -0.990_759]).all(|(a, b)| (a - b).abs() < 1e-5),
            "{y:?}"
        );
        let plain = [x, router, Tensor::new([3, 2, 2], &first)];
        let bias = Tensor::new([3, 2], &[0.5f32, -0.5, 0.25, 0.0, 1.0, -1.0]);
        let wide: Vec<f32> = (0..12).map(|i| (i * 3 % 5) as f32 * 0.5 - 1.0).collect();
        let plain = [&plain[..], &[bias, Tensor::new([3, 2, 2], &wide)]].concat();
        let y = floats("com.microsoft.MoE", &[("k", Attr::Int(2))], &plain);
        assert!(
            y.iter().zip([-0.086_209, 0.258_627, 0.452_968, -0.831_593]).all(|(a, b)| (a - b).abs() < 1e-5),
            "{y:?}"
        );
    }
}
