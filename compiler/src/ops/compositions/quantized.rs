//! Operators of com.microsoft on weights that are stored as integers, and put back before they are used.

use super::{MS, axis_attr, composed, input, ints, optional};
use crate::base::{DType, Tensor, TensorType};
use crate::error::{Error, Result};
use crate::graph::{Attr, Attrs, ValueId};
use crate::ops::emit::{numbers, require};
use crate::ops::{Ctx, Lower, NodeBuilder, Operator};

/// The rows.
pub const ROWS: &[Operator] = &[
    Operator {
        domain: MS,
        name: "DynamicQuantizeLSTM",
        versions: &[1],
        infer: infer_lstm,
        lower: Lower::Expand(lstm),
        note: "",
    },
    composed!(MS, "GatherBlockQuantized", gather_blocks, "no floats of 4 or 8 bits"),
    composed!(MS, "MatMulBnb4", matmul_bnb4, "weights must be constant, and become floats"),
    composed!(MS, "QEmbedLayerNormalization", embed),
    composed!(MS, "QLinearReduceMean", reduce_mean),
];

/// The two, or four, or one elements in each byte, along the last dimension.
fn unpacked(b: &mut NodeBuilder, x: ValueId, bits: i64) -> Result<ValueId> {
    if bits == 8 || b.ty(x).dtype != DType::U8 {
        return Ok(x);
    }
    let mut shape: Vec<i64> = b.ty(x).shape.iter().map(|&d| d as i64).collect();
    let last = ints(b, &[-1]);
    let x = b.binary("Unsqueeze", x, last)?;
    let shifts: Vec<u8> = (0..8).step_by(bits as usize).collect();
    if let Some(extent) = shape.last_mut() {
        *extent *= shifts.len() as i64;
    }
    let shifts = b.constant(Tensor::new([shifts.len()], &shifts));
    let right = Attrs::default().with("direction", Attr::Str("RIGHT".into()));
    let shifted = b.one("BitShift", &[x, shifts], right)?;
    let mask = b.constant(Tensor::scalar((1u8 << bits) - 1));
    let parts = b.binary("BitwiseAnd", shifted, mask)?;
    let shape = ints(b, &shape);
    b.binary("Reshape", parts, shape)
}

/// Rows of a table that is quantized in blocks along another axis: they are put back after they are
/// gathered.
fn gather_blocks(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    let (data, rank) = (ctx.ty(0)?, ctx.shape(0)?.len());
    let axis = ctx.axis(ctx.attrs().int("gather_axis", 0)?, rank)?;
    let along = ctx.axis(ctx.attrs().int("quantize_axis", 1)?, rank)?;
    let (bits, block) = (ctx.attrs().int("bits", 4)?, ctx.attrs().int("block_size", 128)?);
    let packed = data.dtype == DType::U8 && bits < 8;
    require(data.dtype.is_int() && matches!(bits, 2 | 4 | 8) && axis != along && block > 0, || {
        format!("{bits} bits in {data}, gathered along axis {axis}, are not defined")
    })?;
    require(!packed || along + 1 == rank, || "bytes must be packed along the quantized axis".into())?;
    let dtype = ctx.dtype(2)?;
    let place = if along > axis { along + ctx.shape(1)?.len() - 1 } else { along };
    let gathered = |b: &mut NodeBuilder, i: usize| -> Result<ValueId> {
        let rows = b.one("Gather", &[input(ctx, i)?, input(ctx, 1)?], axis_attr(axis as i64))?;
        unpacked(b, rows, bits)
    };
    let x = gathered(b, 0)?;
    let shape = b.ty(x).shape.clone();
    let blocks = shape[place].div_ceil(block as usize);
    let zero = match (ctx.has(3), data.dtype) {
        (true, _) => {
            let zero = gathered(b, 3)?;
            // Packed zero points may have a place more than there are blocks.
            Some(leading(b, zero, place, blocks)?)
        }
        (false, DType::U8) => Some(b.constant(Tensor::scalar(1u8 << (bits - 1)))),
        _ => None,
    };
    let scale = b.one("Gather", &[input(ctx, 2)?, input(ctx, 1)?], axis_attr(axis as i64))?;
    let x = blocks_restored(b, x, zero, scale, (place, block as usize))?;
    let x = b.cast(x, dtype)?;
    Ok(vec![if b.ty(x).shape[place] == shape[place] { x } else { leading(b, x, place, shape[place])? }])
}

/// The first elements along an axis.
fn leading(b: &mut NodeBuilder, x: ValueId, axis: usize, count: usize) -> Result<ValueId> {
    let (from, to, axis) = (ints(b, &[0]), ints(b, &[count as i64]), ints(b, &[axis as i64]));
    b.one("Slice", &[x, from, to, axis], Attrs::default())
}

/// `(x - zero) * scale` in f32 with a scale and a zero point for each `block` elements along an axis, of which the
/// result has a whole number.
fn blocks_restored(
    b: &mut NodeBuilder,
    x: ValueId,
    zero: Option<ValueId>,
    scale: ValueId,
    (axis, block): (usize, usize),
) -> Result<ValueId> {
    let mut whole: Vec<i64> = b.ty(x).shape.iter().map(|&d| d as i64).collect();
    let (rank, extent) = (whole.len(), whole[axis] as usize);
    let blocks = extent.div_ceil(block);
    whole[axis] = (blocks * block) as i64;
    let mut split = whole.clone();
    split.splice(axis..=axis, [blocks as i64, block as i64]);
    let mut x = b.cast(x, DType::F32)?;
    if blocks * block > extent {
        let mut pads = vec![0; 2 * rank];
        pads[rank + axis] = (blocks * block - extent) as i64;
        let pads = ints(b, &pads);
        x = b.binary("Pad", x, pads)?;
    }
    let (split, beside) = (ints(b, &split), ints(b, &[axis as i64 + 1]));
    x = b.binary("Reshape", x, split)?;
    if let Some(mut zero) = zero {
        if !b.ty(zero).shape.is_empty() {
            zero = b.binary("Unsqueeze", zero, beside)?;
        }
        let zero = b.cast(zero, DType::F32)?;
        x = b.binary("Sub", x, zero)?;
    }
    let scale = b.binary("Unsqueeze", scale, beside)?;
    let scale = b.cast(scale, DType::F32)?;
    let x = b.binary("Mul", x, scale)?;
    let whole = ints(b, &whole);
    b.binary("Reshape", x, whole)
}

/// What the four bits of bitsandbytes' FP4 and NF4 stand for.
const FP4: [f32; 16] = [
    0.0,
    0.005_208_333_3,
    0.666_666_7,
    1.0,
    0.333_333_34,
    0.5,
    0.166_666_67,
    0.25,
    0.0,
    -0.005_208_333_3,
    -0.666_666_7,
    -1.0,
    -0.333_333_34,
    -0.5,
    -0.166_666_67,
    -0.25,
];
const NF4: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// A product with a matrix of table entries, each block of which has a factor; first the upper four bits.
fn matmul_bnb4(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    let attr = |name| ctx.attrs().int(name, 0).map(|v| usize::try_from(v).unwrap_or(0));
    let (rows, inner, block) = (attr("N")?, attr("K")?, attr("block_size")?);
    let table = match ctx.attrs().int("quant_type", 0)? {
        0 => FP4,
        1 => NF4,
        other => return Err(Error::model(format!("quant_type {other} is not known"))),
    };
    let packed = ctx.constant(1)?;
    let factors = numbers(ctx.constant(2)?)?;
    let count = rows.checked_mul(inner).filter(|&c| c > 0 && block > 0);
    let count = count.filter(|c| packed.data.len() * 2 >= *c && factors.len() * block >= *c);
    let count =
        count.ok_or_else(|| Error::model(format!("{} do not hold {rows} x {inner} weights", packed.ty)))?;
    let weight = |i: usize| {
        let byte = packed.data[i / 2];
        let entry = if i.is_multiple_of(2) { byte >> 4 } else { byte & 15 };
        table[usize::from(entry)] * factors[i / block] as f32
    };
    let weights: Vec<f32> = (0..count).map(weight).collect();
    let turned = ctx.attrs().flag("transB", true)?;
    let shape = if turned { [rows, inner] } else { [inner, rows] };
    let mut weights = b.constant(Tensor::new(shape, &weights));
    if turned {
        let perm = Attrs::default().with("perm", Attr::Ints(vec![1, 0]));
        weights = b.one("Transpose", &[weights], perm)?;
    }
    let x = b.cast(input(ctx, 0)?, DType::F32)?;
    let product = b.binary("MatMul", x, weights)?;
    Ok(vec![b.cast(product, ctx.dtype(0)?)?])
}

/// `(x - zero) * scale`.
fn put_back(b: &mut NodeBuilder, x: ValueId, scale: ValueId, zero: Option<ValueId>) -> Result<ValueId> {
    let mut x = b.cast(x, DType::F32)?;
    if let Some(zero) = zero {
        let zero = b.cast(zero, DType::F32)?;
        x = b.binary("Sub", x, zero)?;
    }
    b.binary("Mul", x, scale)
}

/// Rows of quantized tables, put back after they are looked up, in EmbedLayerNormalization's place.
fn embed(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    let put_back = |b: &mut NodeBuilder, x, i| put_back(b, x, input(ctx, i)?, optional(ctx, i + 5));
    let ids = input(ctx, 0)?;
    let words = b.one("Gather", &[input(ctx, 2)?, ids], axis_attr(0))?;
    let mut sum = put_back(b, words, 8)?;
    let length = b.ty(ids).shape.get(1).copied().unwrap_or(0) as i64;
    let (from, to) = (ints(b, &[0]), ints(b, &[length]));
    let places = b.one("Slice", &[input(ctx, 3)?, from, to], Attrs::default())?;
    let places = put_back(b, places, 9)?;
    sum = b.binary("Add", sum, places)?;
    if let Some(segments) = optional(ctx, 1) {
        let kinds = b.one("Gather", &[input(ctx, 4)?, segments], axis_attr(0))?;
        let kinds = put_back(b, kinds, 10)?;
        sum = b.binary("Add", sum, kinds)?;
    }
    let (scale, bias) = (put_back(b, input(ctx, 5)?, 11)?, put_back(b, input(ctx, 6)?, 12)?);
    let epsilon = Attr::Float(ctx.attrs().float("epsilon", 1e-12)?);
    let attrs = Attrs::default().with("epsilon", epsilon);
    let y = b.one("LayerNormalization", &[sum, scale, bias], attrs)?;
    let counts = match optional(ctx, 7) {
        Some(mask) => {
            let last = ints(b, &[1]);
            let mask = b.cast(mask, DType::I32)?;
            let dropped = Attrs::default().with("keepdims", Attr::Int(0));
            b.one("ReduceSum", &[mask, last], dropped)?
        }
        None => b.constant(Tensor::new([ctx.shape(0)?[0]], &vec![0i32; ctx.shape(0)?[0]])),
    };
    Ok(vec![y, counts])
}

/// The mean of what the integers stand for, quantized again.
fn reduce_mean(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    let x = put_back(b, input(ctx, 0)?, input(ctx, 1)?, optional(ctx, 2))?;
    let mut inputs = vec![x];
    if let Some(axes) = ctx.attrs().get_ints("axes")? {
        inputs.push(ints(b, axes));
    }
    let keep = Attrs::default().with("keepdims", Attr::Int(ctx.attrs().int("keepdims", 1)?));
    let mean = b.one("ReduceMean", &inputs, keep)?;
    let zero = match optional(ctx, 4) {
        Some(zero) => zero,
        None => {
            let zero = b.constant(Tensor::scalar(0i64));
            b.cast(zero, ctx.dtype(0)?)?
        }
    };
    Ok(vec![b.one("QuantizeLinear", &[mean, input(ctx, 3)?, zero], Attrs::default())?])
}

fn infer_lstm(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let (x, w, r) = (ctx.ty(0)?, ctx.ty(1)?, ctx.ty(2)?);
    let no = || format!("a recurrence over {x} with weights {w} and {r} is not defined");
    require(x.rank() == 3 && w.rank() == 3 && r.rank() == 3 && x.dtype == DType::F32, no)?;
    let all = TensorType::new(x.dtype, [x.shape[0], r.shape[0], x.shape[1], r.shape[1]]);
    let last = TensorType::new(x.dtype, [r.shape[0], x.shape[1], r.shape[1]]);
    Ok(vec![all, last.clone(), last])
}

/// The LSTM of integers: products of the inputs, which are quantized by one scale for all steps, and a loop that
/// quantizes the hidden state by one of each.
fn lstm(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    let mut inputs: Vec<Option<ValueId>> =
        (0..8).map(|i| ctx.node.inputs.get(i).copied().flatten()).collect();
    let directions = ctx.shape(2)?[0];
    let rows = ints(b, &[directions as i64, -1]);
    let mut numbers = [0; 4];
    for (i, number) in numbers.iter_mut().enumerate() {
        *number = b.binary("Reshape", input(ctx, 8 + i)?, rows)?;
    }
    let [scale, zero, recurrent_scale, recurrent_zero] = numbers;
    let bytes = b.node_in("", "DynamicQuantizeLinear", &inputs[..1], Attrs::default(), 3)?;
    let first = ints(b, &[0]);
    let mut projected = Vec::new();
    for direction in 0..directions {
        let place = ints(b, &[direction as i64]);
        let part = |b: &mut NodeBuilder, v| -> Result<ValueId> {
            let part = b.one("Gather", &[v, place], axis_attr(0))?;
            b.binary("Squeeze", part, first)
        };
        let (weights, zero, scale) = (part(b, input(ctx, 1)?)?, part(b, zero)?, part(b, scale)?);
        let sum = b.one("MatMulInteger", &[bytes[0], weights, bytes[2], zero], Attrs::default())?;
        let (sum, factor) = (b.cast(sum, DType::F32)?, b.binary("Mul", bytes[1], scale)?);
        let sum = b.binary("Mul", sum, factor)?;
        projected.push(b.binary("Unsqueeze", sum, first)?);
    }
    inputs[0] = Some(match projected[..] {
        [one] => one,
        _ => b.one("Concat", &projected, axis_attr(0))?,
    });
    inputs[1] = Some(recurrent_scale);
    inputs.push(Some(recurrent_zero));
    b.node_in("lmc", "RoundedLSTM", &inputs, ctx.attrs().clone(), 3)
}

#[cfg(test)]
mod tests {
    use super::super::super::older::fold;
    use crate::base::Tensor;
    use crate::graph::Attr;

    /// Results of ONNX Runtime.
    #[test]
    fn what_is_put_back() {
        let words = Tensor::new([2, 2], &[0x21u8, 0x43, 0x65, 0x87]);
        let (scale, zero) = (Tensor::new([2, 1], &[0.5f32, 2.0]), Tensor::new([2, 1], &[1u8, 5]));
        let attrs = [("block_size", Attr::Int(4)), ("quantize_axis", Attr::Int(1)), ("bits", Attr::Int(4))];
        let inputs = [words, Tensor::new([2], &[1i64, 0]), scale, zero];
        let y = fold("com.microsoft.GatherBlockQuantized", 1, &attrs, &inputs, 1).expect("rows");
        assert_eq!(y[0].to_vec::<f32>().expect("floats"), [0.0, 2.0, 4.0, 6.0, 0.0, 0.5, 1.0, 1.5]);
        // The last block of each row has two elements.
        let (scale, zero) = (Tensor::new([1, 2], &[0.5f32, 2.0]), Tensor::new([1, 1], &[0x51u8]));
        let words = Tensor::new([1, 3], &[0x21u8, 0x43, 0x65]);
        let inputs = [words, Tensor::new([1], &[0i64]), scale, zero];
        let y = fold("com.microsoft.GatherBlockQuantized", 1, &attrs, &inputs, 1).expect("rows");
        assert_eq!(y[0].to_vec::<f32>().expect("floats"), [0.0, 0.5, 1.0, 1.5, 0.0, 2.0]);
        let attrs =
            [("K", 2), ("N", 1), ("block_size", 2), ("quant_type", 1)].map(|(n, v)| (n, Attr::Int(v)));
        let inputs =
            [Tensor::new([1, 2], &[3f32, 5.0]), Tensor::new([1], &[0xf0u8]), Tensor::new([1], &[2f32])];
        let y = fold("com.microsoft.MatMulBnb4", 1, &attrs, &inputs, 1).expect("a product");
        assert_eq!(y[0].to_vec::<f32>().expect("floats"), [-4.0]);
        let (tenth, fifth) = (Tensor::scalar(0.1f32), Tensor::scalar(0.2f32));
        let inputs =
            [Tensor::new([1, 2], &[10u8, 30]), tenth, Tensor::scalar(10u8), fifth, Tensor::scalar(1u8)];
        let attrs = [("axes", Attr::Ints(vec![1])), ("keepdims", Attr::Int(0))];
        let y = fold("com.microsoft.QLinearReduceMean", 1, &attrs, &inputs, 1).expect("a mean");
        assert_eq!(y[0].to_i64s(), Some(vec![6]));
    }

    #[test]
    fn quantized_embeddings() {
        let (half, one) = (Tensor::scalar(0.5f32), Tensor::scalar(1f32));
        let (zero, ten) = (Tensor::scalar(0u8), Tensor::scalar(10u8));
        let inputs = [
            Tensor::new([1, 1], &[1i32]),
            Tensor::new([1, 1], &[0i32]),
            Tensor::new([2, 2], &[0u8, 0, 12, 16]),
            Tensor::new([3, 2], &[4u8; 6]),
            Tensor::new([1, 2], &[0u8, 2]),
            Tensor::new([2], &[1u8, 2]),
            Tensor::new([2], &[7u8, 8]),
            Tensor::new([1, 1], &[1i32]),
            half.clone(),
            one.clone(),
            half,
            one.clone(),
            one,
            ten,
            zero.clone(),
            zero.clone(),
            zero.clone(),
            zero,
        ];
        let made = fold("com.microsoft.QEmbedLayerNormalization", 1, &[], &inputs, 2).expect("an embedding");
        assert_eq!(made[0].to_vec::<f32>().expect("floats"), [6.0, 10.0]);
        assert_eq!(made[1].to_i64s(), Some(vec![1]));
    }

    /// Three steps, as ONNX Runtime computes them.
    #[test]
    fn a_quantized_recurrence() {
        let x = Tensor::new([3, 1, 2], &[0.5f32, -1.0, 0.25, 0.75, -0.3, 1.2]);
        let w: [i8; 16] = [10, -20, 30, 40, 5, 6, 7, 8, -9, 17, 22, -31, 4, 12, -5, 60];
        let r: [i8; 16] = [3, -14, 25, 9, -7, 11, 40, -2, 8, 21, -6, 13, 30, -27, 5, 1];
        let (w, r) = (Tensor::new([1, 2, 8], &w), Tensor::new([1, 2, 8], &r));
        let (zero, scales) = (Tensor::new([1], &[2i8]), [0.05f32, 0.1].map(|s| Tensor::new([1], &[s])));
        let bias = Tensor::new([1, 16], &[0f32; 16]);
        let lengths = Tensor::new([1], &[3i32]);
        let state = Tensor::new([1, 1, 2], &[0f32; 2]);
        let peepholes = Tensor::new([1, 6], &[0f32; 6]);
        let [ws, rs] = scales;
        let inputs = [x, w, r, bias, lengths, state.clone(), state, peepholes, ws, zero.clone(), rs, zero];
        let hidden = [("hidden_size", Attr::Int(2))];
        let got = fold("com.microsoft.DynamicQuantizeLSTM", 1, &hidden, &inputs, 3).expect("a recurrence");
        let want: [&[f32]; 3] = [
            &[0.124_192_42, -0.194_696_35, 0.157_185_54, 0.074_207_35, 0.106_605_64, 0.062_255_96],
            &[0.106_605_64, 0.062_255_96],
            &[0.143_834_9, 0.912_412_76],
        ];
        for (got, want) in got.iter().zip(want) {
            let got = got.to_vec::<f32>().expect("floats");
            assert!(got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-5), "{got:?} {want:?}");
        }
    }

    /// Both directions, a scale per column, a bias, and states of their own scale each: ONNX Runtime's results.
    #[test]
    fn quantized_recurrences_of_both_directions() {
        let bytes = |by: i32, of: i32| -> Vec<i8> { (0..32).map(|i| (i * by % of - of / 2) as i8).collect() };
        let scales =
            |f: fn(f32) -> f32| Tensor::new([2, 8], &(0..16u8).map(|i| f(f32::from(i))).collect::<Vec<_>>());
        let bias: Vec<f32> = (0..32u8).map(|i| 0.1 * f32::from(i % 5) - 0.2).collect();
        let zero = Tensor::new([2, 8], &[0i8; 16]);
        let state = Tensor::new([2, 1, 2], &[0f32; 4]);
        let inputs = [
            Tensor::new([3, 1, 2], &[0.5f32, -1.0, 0.25, 0.75, -0.3, 1.2]),
            Tensor::new([2, 2, 8], &bytes(37, 101)),
            Tensor::new([2, 2, 8], &bytes(53, 97)),
            Tensor::new([2, 16], &bias),
            Tensor::new([1], &[3i32]),
            state.clone(),
            state,
            Tensor::new([2, 6], &[0f32; 12]),
            scales(|i| 0.01 + 0.001 * i),
            zero.clone(),
            scales(|i| 0.03 - 0.001 * i),
            zero,
        ];
        let attrs = [("hidden_size", Attr::Int(2)), ("direction", Attr::Str("bidirectional".into()))];
        let got = fold("com.microsoft.DynamicQuantizeLSTM", 1, &attrs, &inputs, 3).expect("a recurrence");
        let want: [&[f32]; 3] = [
            &[
                0.057_236_82,
                -0.045_919_195,
                -0.141_319_19,
                0.015_059_654,
                -0.083_911_06,
                -0.034_488_38,
                0.225_910_47,
                -0.110_067_36,
                -0.179_574_89,
                -0.062_260_04,
                0.262_674_33,
                -0.076_281_264,
            ],
            &[-0.179_574_89, -0.062_260_04, -0.141_319_19, 0.015_059_654],
            &[-0.365_460_8, -0.173_363_36, -0.256_800_7, 0.034_341_23],
        ];
        for (got, want) in got.iter().zip(want) {
            let got = got.to_vec::<f32>().expect("floats");
            assert!(got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-5), "{got:?} {want:?}");
        }
    }
}
