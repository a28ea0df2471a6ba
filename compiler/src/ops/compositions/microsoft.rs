//! Small operators of com.microsoft: those of ai.onnx in another form, and two or three in one.

use super::{MS, axis_attr, composed, input, ints, optional};
use crate::base::{DType, Tensor};
use crate::error::{Error, Result};
use crate::graph::{Attr, Attrs, ValueId};
use crate::ops::emit::require;
use crate::ops::{Ctx, NodeBuilder, Operator};

/// The rows.
pub const ROWS: &[Operator] = &[
    composed!(MS, "BiasAdd", bias_add),
    composed!(MS, "BiasSoftmax", bias_softmax),
    composed!(MS, "BiasSplitGelu", bias_split_gelu),
    composed!(MS, "CDist", distances, "metrics euclidean and sqeuclidean"),
    composed!(MS, "ConvTransposeWithDynamicPads", conv_transpose, "pads must be constant"),
    composed!(MS, "DecoderMaskedMultiHeadAttention", decoder_heads, "no shared cache, no beams"),
    composed!(MS, "DecoderMaskedSelfAttention", decoder_projected, "no shared cache, no beams"),
    composed!(MS, "ExpandDims", expand_dims, "the axis must be constant"),
    composed!(MS, "GatherND", gather_nd),
    composed!(MS, "GemmFastGelu", gemm_fast_gelu),
    composed!(MS, "GroupNorm", |c, b| Ok(vec![group_norm(c, b, None)?])),
    composed!(MS, "MatMulInteger16", matmul_integer),
    composed!(MS, "NhwcConv", |c, b| nhwc(c, b, "", "Conv")),
    composed!(MS, "NhwcFusedConv", |c, b| nhwc(c, b, MS, "FusedConv")),
    composed!(MS, "NhwcMaxPool", |c, b| nhwc(c, b, "", "MaxPool")),
    composed!(MS, "Pad", pad, "pads must be constant"),
    composed!(MS, "Range", range, "start, limit and delta must be constant"),
    composed!(MS, "SkipGroupNorm", skip_group_norm),
    composed!(MS, "Solve", solve),
    composed!(MS, "TorchEmbedding", |c, b| Ok(vec![b.binary("Gather", input(c, 0)?, input(c, 1)?)?])),
    composed!(MS, "UnfoldTensor", unfold),
    composed!(MS, "Unique", unique),
];

/// The sum of a tensor, a bias of its last dimension and a tensor of the same shape.
fn bias_add(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    let (x, bias, skip) = (ctx.ty(0)?, ctx.ty(1)?, ctx.ty(2)?);
    let fits = x == skip && bias.rank() == 1 && x.shape.last() == bias.shape.first();
    require(fits, || format!("{bias} and {skip} are not added to {x}"))?;
    let sum = b.binary("Add", input(ctx, 0)?, input(ctx, 1)?)?;
    Ok(vec![b.binary("Add", sum, input(ctx, 2)?)?])
}

/// Softmax over all dimensions from the axis on.
fn bias_softmax(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    let shape = ctx.shape(0)?;
    let axis = ctx.axis(ctx.attrs().int("axis", 1)?, shape.len())?;
    let sum = b.binary("Add", input(ctx, 0)?, input(ctx, 1)?)?;
    require(b.ty(sum).shape == shape, || format!("a bias of type {} does not fit {shape:?}", b.ty(sum)))?;
    if axis + 1 == shape.len() {
        return Ok(vec![b.one("Softmax", &[sum], axis_attr(-1))?]);
    }
    let rows = b.one("Flatten", &[sum], axis_attr(axis as i64))?;
    let rows = b.one("Softmax", &[rows], axis_attr(-1))?;
    let back: Vec<i64> = shape.iter().map(|&d| d as i64).collect();
    let back = ints(b, &back);
    Ok(vec![b.binary("Reshape", rows, back)?])
}

/// The left half times the GELU of the right half.
fn bias_split_gelu(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    let sum = b.binary("Add", input(ctx, 0)?, input(ctx, 1)?)?;
    let halves = b.node("Split", &[sum], axis_attr(-1), 2)?;
    let gelu = b.unary("Gelu", halves[1])?;
    Ok(vec![b.binary("Mul", halves[0], gelu)?])
}

/// The distance of each row of one matrix to each row of the other.
fn distances(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    let root = match ctx.attrs().str("metric", "sqeuclidean")? {
        "euclidean" => true,
        "sqeuclidean" => false,
        other => return Err(Error::model(format!("the metric '{other}' is not supported"))),
    };
    let (one, zero, last) = (ints(b, &[1]), ints(b, &[0]), ints(b, &[-1]));
    let (x, y) = (input(ctx, 0)?, input(ctx, 1)?);
    let (x, y) = (b.binary("Unsqueeze", x, one)?, b.binary("Unsqueeze", y, zero)?);
    let difference = b.binary("Sub", x, y)?;
    let sum = b.one("ReduceSumSquare", &[difference, last], keep(false))?;
    Ok(vec![if root { b.unary("Sqrt", sum)? } else { sum }])
}

fn keep(dims: bool) -> Attrs {
    Attrs::default().with("keepdims", Attr::Int(dims.into()))
}

fn conv_transpose(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    let mut attrs = ctx.attrs().clone();
    if let Some(pads) = ctx.constant_ints(2)? {
        attrs.set("pads", Attr::Ints(pads));
    }
    let inputs = [Some(input(ctx, 0)?), Some(input(ctx, 1)?), optional(ctx, 3)];
    b.node_in("", "ConvTranspose", &inputs, attrs, 1)
}

fn gather_nd(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    let places = b.cast(input(ctx, 1)?, DType::I64)?;
    Ok(vec![b.binary("GatherND", input(ctx, 0)?, places)?])
}

fn gemm_fast_gelu(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    let product = b.binary("MatMul", input(ctx, 0)?, input(ctx, 1)?)?;
    b.node_in(MS, "FastGelu", &[Some(product), optional(ctx, 2)], Attrs::default(), 1)
}

/// Products of 16-bit integers, summed in 32 bits.
fn matmul_integer(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    let (x, y) = (ctx.dtype(0)?, ctx.dtype(1)?);
    require([x, y].iter().all(|d| matches!(d, DType::I16 | DType::U16)), || {
        format!("it is not defined for {x} and {y}")
    })?;
    let to = if (x, y) == (DType::U16, DType::U16) { DType::U32 } else { DType::I32 };
    let (x, y) = (b.cast(input(ctx, 0)?, to)?, b.cast(input(ctx, 1)?, to)?);
    Ok(vec![b.binary("MatMul", x, y)?])
}

/// Refuses caches of which a part is in use, and what chooses among beams.
fn without_beams(ctx: &Ctx, first: usize) -> Result<()> {
    let shared = ctx.attrs().flag("past_present_share_buffer", false)?;
    require(!shared, || "a cache shared between past and present is not supported".into())?;
    require(!ctx.has(first) && !ctx.has(first + 1), || "beams are not supported".into())
}

/// MultiHeadAttention with its inputs in another order.
fn decoder_heads(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    without_beams(ctx, 8)?;
    let packed = !ctx.has(1) && !ctx.has(2) && ctx.shape(0)?.len() == 3;
    require(!packed, || "queries, keys and values in one tensor are not supported".into())?;
    let inputs = [0, 1, 2, 10, 3, 4, 5, 6].map(|i| optional(ctx, i));
    b.node_in(MS, "MultiHeadAttention", &inputs, ctx.attrs().clone(), ctx.node.outputs.len())
}

fn decoder_projected(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    without_beams(ctx, 7)?;
    require(!ctx.attrs().flag("do_rotary", false)?, || "do_rotary is not supported".into())?;
    let inputs = [0, 1, 2, 3, 4, 5].map(|i| optional(ctx, i));
    b.node_in(MS, "Attention", &inputs, ctx.attrs().clone(), ctx.node.outputs.len())
}

/// The solution of `a x = y`, which scikit-learn's converter writes for a constant `a`: its inverse is
/// computed once, in f64.
fn solve(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    require(!ctx.attrs().flag("transposed", false)?, || "transposed is not supported".into())?;
    let a = b.cast(input(ctx, 0)?, DType::F64)?;
    let inverse = b.node_in(MS, "Inverse", &[Some(a)], Attrs::default(), 1)?[0];
    let inverse = b.cast(inverse, ctx.dtype(1)?)?;
    Ok(vec![b.binary("MatMul", inverse, input(ctx, 1)?)?])
}

/// Windows along one dimension; the places in a window become the last dimension.
fn unfold(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    let shape = ctx.shape(0)?;
    let axis = ctx.axis(ctx.attrs().int("dim", -1)?, shape.len())?;
    let (size, step) = (ctx.attrs().int("size", 0)?, ctx.attrs().int("step", 1)?);
    let extent = shape[axis] as i64;
    require(size > 0 && step > 0 && size <= extent, || {
        format!("windows of {size} every {step} of {extent} elements are not defined")
    })?;
    let count = (extent - size) / step + 1;
    let places: Vec<i64> = (0..count).flat_map(|i| (0..size).map(move |j| i * step + j)).collect();
    let places = b.constant(Tensor::new([count as usize, size as usize], &places));
    let windows = b.one("Gather", &[input(ctx, 0)?, places], axis_attr(axis as i64))?;
    let window = axis as i64 + 1;
    let perm = (0..=shape.len() as i64).filter(|&d| d != window).chain([window]).collect();
    Ok(vec![b.one("Transpose", &[windows], Attrs::default().with("perm", Attr::Ints(perm)))?])
}

/// Numbers from `start`, as scalars or vectors of one element, by `delta` (or 1).
fn range(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    let scalar = ints(b, &[]);
    let one = b.constant(Tensor::scalar(1i64));
    let delta = match optional(ctx, 2) {
        Some(delta) => delta,
        None => b.cast(one, ctx.dtype(0)?)?,
    };
    let given = [input(ctx, 0)?, input(ctx, 1)?, delta];
    let mut scalars = Vec::new();
    for v in given {
        scalars.push(b.binary("Reshape", v, scalar)?);
    }
    Ok(vec![b.one("Range", &scalars, Attrs::default())?])
}

/// In the order of first occurrence; the places in the input are not among the outputs.
fn unique(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    let unsorted = Attrs::default().with("sorted", Attr::Int(0));
    let found = b.node("Unique", &[input(ctx, 0)?], unsorted, 4)?;
    Ok(vec![found[0], found[2], found[3]])
}

/// Normalized groups of channels, which lie last unless `channels_last` is 0, and SiLU where wanted;
/// of `x`, or of the first input.
fn group_norm(ctx: &Ctx, b: &mut NodeBuilder, x: Option<ValueId>) -> Result<ValueId> {
    let (dtype, rank) = (ctx.dtype(0)?, ctx.shape(0)?.len());
    let mut x = x.map_or_else(|| input(ctx, 0), Ok)?;
    let [first, back] = channels_last(rank)?;
    let last = ctx.attrs().flag("channels_last", true)?;
    if last {
        x = b.one("Transpose", &[x], first)?;
    }
    let (scale, bias) = (b.cast(input(ctx, 1)?, dtype)?, b.cast(input(ctx, 2)?, dtype)?);
    let attrs = Attrs::default()
        .with("num_groups", Attr::Int(ctx.attrs().int("groups", 0)?))
        .with("epsilon", Attr::Float(ctx.attrs().float("epsilon", 1e-5)?));
    let mut y = b.one("GroupNormalization", &[x, scale, bias], attrs)?;
    if ctx.attrs().flag("activation", false)? {
        y = b.unary("Swish", y)?;
    }
    if last { b.one("Transpose", &[y], back) } else { Ok(y) }
}

/// The same of the sum with a skip (which may lack the spatial dimensions) and a bias; and that sum.
fn skip_group_norm(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    let (shape, mut skip) = (ctx.shape(0)?.to_vec(), input(ctx, 3)?);
    let last = ctx.attrs().flag("channels_last", true)?;
    if ctx.shape(3)?.len() == 2 {
        let axes: Vec<i64> = (0..shape.len() as i64 - 2).map(|i| if last { i + 1 } else { i + 2 }).collect();
        let axes = ints(b, &axes);
        skip = b.binary("Unsqueeze", skip, axes)?;
    }
    let mut sum = b.binary("Add", input(ctx, 0)?, skip)?;
    if let Some(bias) = optional(ctx, 4) {
        let mut place = vec![1; if last { 1 } else { shape.len() - 1 }];
        place[0] = -1;
        let place = ints(b, &place);
        let bias = b.binary("Reshape", bias, place)?;
        sum = b.binary("Add", sum, bias)?;
    }
    require(b.ty(sum).shape == shape, || format!("the sum {} does not fit {shape:?}", b.ty(sum)))?;
    Ok(vec![group_norm(ctx, b, Some(sum))?, sum])
}

fn new_axis(ctx: &Ctx) -> Result<usize> {
    let axis = ctx.constant_ints(1)?.and_then(|a| a.first().copied());
    ctx.axis(axis.ok_or_else(|| Error::model("the axis is missing"))?, ctx.shape(0)?.len() + 1)
}

fn expand_dims(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    let axis = ints(b, &[new_axis(ctx)? as i64]);
    Ok(vec![b.binary("Unsqueeze", input(ctx, 0)?, axis)?])
}

/// Orders of dimensions that take the channels from the last place to the second, and back.
fn channels_last(rank: usize) -> Result<[Attrs; 2]> {
    require(rank >= 3, || format!("a tensor of rank {rank} has no channels in its last place"))?;
    let last = rank as i64 - 1;
    let first: Vec<i64> = [0, last].into_iter().chain(1..last).collect();
    let back: Vec<i64> = std::iter::once(0).chain(2..=last).chain([1]).collect();
    Ok([first, back].map(|perm| Attrs::default().with("perm", Attr::Ints(perm))))
}

/// An operator whose images have their channels last; weights and bias are as ever.
fn nhwc(ctx: &Ctx, b: &mut NodeBuilder, domain: &str, op: &str) -> Result<Vec<ValueId>> {
    let [first, back] = channels_last(ctx.shape(0)?.len())?;
    let mut inputs = ctx.node.inputs.clone();
    for i in [0, 3] {
        if let Some(image) = optional(ctx, i) {
            inputs[i] = Some(b.one("Transpose", &[image], first.clone())?);
        }
    }
    let y = b.node_in(domain, op, &inputs, ctx.attrs().clone(), 1)?[0];
    Ok(vec![b.one("Transpose", &[y], back)?])
}

fn pad(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    let pads = ctx.constant_ints(1)?.ok_or_else(|| Error::model("the pads are missing"))?;
    let pads = ints(b, &pads);
    let value = ctx.node.inputs.get(2).copied().flatten();
    b.node_in("", "Pad", &[Some(input(ctx, 0)?), Some(pads), value], ctx.attrs().clone(), 1)
}

#[cfg(test)]
mod tests {
    use super::super::super::older::fold;
    use super::super::tests::floats;
    use crate::base::Tensor;
    use crate::graph::Attr;

    #[test]
    fn a_bias_of_the_last_dimension() {
        let (x, bias) = (Tensor::new([1, 2, 2], &[1f32, 2.0, 3.0, 4.0]), Tensor::new([2], &[10f32, 20.0]));
        let sum = floats("com.microsoft.BiasAdd", &[], &[x.clone(), bias, x.clone()]);
        assert_eq!(sum, [12.0, 24.0, 16.0, 28.0]);
        assert!(fold("com.microsoft.BiasAdd", 1, &[], &[x.clone(), x.clone(), x], 1).is_err());
    }
    /// Results of ONNX Runtime where it has the operator, otherwise of the text.
    #[test]
    fn other_forms() {
        let ms = |name: &str| format!("com.microsoft.{name}");
        let near = |got: Vec<f32>, want: &[f32]| {
            let same = got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-3);
            assert!(got.len() == want.len() && same, "{got:?} {want:?}");
        };
        let (x, y) = (Tensor::new([2, 2], &[1f32, 2.0, 4.0, 6.0]), Tensor::new([1, 2], &[4f32, 6.0]));
        let metric = [("metric", Attr::Str("euclidean".into()))];
        near(floats(&ms("CDist"), &metric, &[x.clone(), y.clone()]), &[5.0, 0.0]);
        near(floats(&ms("CDist"), &[], &[x.clone(), y]), &[25.0, 0.0]);
        let turned = [
            ("transB", Attr::Int(1)),
            ("alpha", Attr::Float(-1.0)),
            ("activation", Attr::Str("Relu".into())),
        ];
        near(
            floats(&ms("FusedMatMulActivation"), &turned, &[x.clone(), Tensor::new([1, 2], &[-1f32, 1.0])]),
            &[0.0, 0.0],
        );
        let halves = [Tensor::new([1, 1, 2], &[2f32, 0.5]), Tensor::new([2], &[1f32, 0.5])];
        near(floats(&ms("BiasSplitGelu"), &[], &halves), &[3.0 * 0.841_345]);
        let gelu = [x.clone(), Tensor::new([2, 1], &[1f32, 0.0]), Tensor::new([1], &[-1f32])];
        near(floats(&ms("GemmFastGelu"), &[], &gelu), &[0.0, 2.9960]);
        let over = [("axis", Attr::Int(0)), ("is_inner_broadcast", Attr::Int(0))];
        let third = 1.0 / (1.0 + 1.0 + 1.0f32);
        let (levels, zero) = (Tensor::new([1, 3], &[7f32, 8.0, 9.0]), Tensor::new([1, 3], &[2f32, 1.0, 0.0]));
        near(floats(&ms("BiasSoftmax"), &over, &[levels, zero]), &[third; 3]);
        let range = [Tensor::new([1], &[1f32]), Tensor::scalar(4f32), Tensor::scalar(2f32)];
        near(floats(&ms("Range"), &[], &range), &[1.0, 3.0]);
        let pads = [
            Tensor::new([1, 1, 1, 2], &[1f32, 2.0]),
            Tensor::new([1, 1, 1, 2], &[1f32, 10.0]),
            Tensor::new([4], &[0i64, 1, 0, 0]),
        ];
        near(floats(&ms("ConvTransposeWithDynamicPads"), &[], &pads), &[12.0, 20.0]);
    }

    #[test]
    fn groups_of_channels_in_the_last_place() {
        let x = Tensor::new([1, 1, 2, 2], &[1f32, 3.0, 3.0, 9.0]);
        let (scale, bias) = (Tensor::new([2], &[1f32, 2.0]), Tensor::new([2], &[0f32, 1.0]));
        let attrs = [("groups", Attr::Int(2)), ("activation", Attr::Int(1))];
        let silu = |v: f32| v / (1.0 + (-v).exp());
        let want = [-1.0, -1.0, 1.0, 3.0].map(silu);
        let y = floats("com.microsoft.GroupNorm", &attrs, &[x.clone(), scale.clone(), bias.clone()]);
        assert!(y.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-3), "{y:?}");
        let skip = [x, scale, bias, Tensor::new([1, 2], &[1f32, 0.0]), Tensor::new([2], &[0f32, -1.0])];
        let made = fold("com.microsoft.SkipGroupNorm", 1, &attrs, &skip, 2).expect("both outputs");
        assert_eq!(made[1].to_vec::<f32>().expect("floats"), [2.0, 2.0, 4.0, 8.0]);
        let y = made[0].to_vec::<f32>().expect("floats");
        assert!(y.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-3), "{y:?}");
    }

    /// Results of ONNX Runtime.
    #[test]
    fn channels_last() {
        let x = Tensor::new([1, 2, 2, 2], &[1f32, 8.0, 3.0, 6.0, 5.0, 4.0, 7.0, 2.0]);
        let window = ("kernel_shape", Attr::Ints(vec![2, 2]));
        assert_eq!(floats("com.microsoft.NhwcMaxPool", &[window], std::slice::from_ref(&x)), [7.0, 8.0]);
        let (scale, zero) = (Tensor::scalar(1f32), Tensor::scalar(0i8));
        let pixels = Tensor::new([1, 1, 2, 2], &[1i8, 2, 3, 4]);
        let weights = Tensor::new([3, 2, 1, 1], &[1i8, 0, 0, 1, 1, 1]);
        let inputs = [pixels, scale.clone(), zero.clone(), weights, scale.clone(), zero.clone(), scale, zero];
        let last = ("channels_last", Attr::Int(1));
        let y = fold("com.microsoft.QLinearConv", 1, &[last], &inputs, 1).expect("a convolution");
        assert_eq!((&y[0].ty.shape[..], y[0].to_i64s()), (&[1, 1, 2, 3][..], Some(vec![1, 2, 3, 3, 4, 7])));
    }

    #[test]
    fn solutions() {
        let a = Tensor::new([2, 2], &[2f32, 0.0, 1.0, 4.0]);
        let y = floats("com.microsoft.Solve", &[], &[a, Tensor::new([2, 1], &[6f32, -5.0])]);
        assert_eq!(y, [3.0, -2.0]);
    }

    /// Results of ONNX Runtime.
    #[test]
    fn windows_and_one_query() {
        let windows = [("dim", 1), ("size", 2), ("step", 2)].map(|(n, v)| (n, Attr::Int(v)));
        let x = Tensor::new([1, 5], &[0f32, 1.0, 2.0, 3.0, 4.0]);
        assert_eq!(floats("com.microsoft.UnfoldTensor", &windows, &[x]), [0.0, 1.0, 2.0, 3.0]);
        let inputs = [
            Tensor::new([1, 1, 2], &[1f32, 2.0]),
            Tensor::new([1, 1, 2, 2], &[1f32, 0.0, 0.0, 1.0]),
            Tensor::new([1, 1, 2, 2], &[1f32, 2.0, 3.0, 4.0]),
            Tensor::new([1, 2], &[1i32, 1]),
        ];
        let attrs = [("num_heads", Attr::Int(1)), ("scale", Attr::Float(1.0))];
        let y = floats("com.microsoft.DecoderMaskedMultiHeadAttention", &attrs, &inputs);
        assert!(y.iter().zip([2.462_117, 3.462_117]).all(|(a, b)| (a - b).abs() < 1e-5), "{y:?}");
    }
}
