//! Operators that are a few others put together: those of com.microsoft and of ONNX's first, experimental
//! set that tools have written, and encoders of ai.onnx.ml.

use super::emit::require;
use super::{Ctx, Lower, NodeBuilder, Operator};
use crate::base::{DType, Tensor, TensorType};
use crate::error::{Error, Result};
use crate::graph::{Attr, Attrs, ValueId};

type InferFn = fn(&Ctx) -> Result<Vec<TensorType>>;
type ExpandFn = fn(&Ctx, &mut NodeBuilder) -> Result<Vec<ValueId>>;

const fn row(domain: &'static str, name: &'static str, infer: InferFn, expand: ExpandFn) -> Operator {
    Operator { domain, name, versions: &[1], infer, lower: Lower::Expand(expand), note: "" }
}

const MS: &str = "com.microsoft";
const ML: &str = "ai.onnx.ml";

/// The rows.
pub const ROWS: &[Operator] = &[
    row("", "Affine", infer_float, |c, b| affine(c, b, None)),
    row("", "Crop", infer_crop, crop),
    row("", "ImageScaler", infer_image, image_scaler),
    row("", "ParametricSoftplus", infer_float, |c, b| affine(c, b, Some("Softplus"))),
    row("", "Scale", infer_float, scale),
    row("", "ScaledTanh", infer_float, |c, b| affine(c, b, Some("Tanh"))),
    row(MS, "BiasAdd", infer_bias_add, bias_add),
    row(MS, "ExpandDims", infer_expand_dims, expand_dims),
    row(MS, "NhwcMaxPool", infer_nhwc, nhwc_max_pool),
    row(MS, "Pad", infer_pad, pad),
    row(MS, "DynamicQuantizeLSTM", infer_lstm, lstm),
    row(ML, "FeatureVectorizer", infer_features, features),
    row(ML, "OneHotEncoder", infer_one_hot, one_hot),
];

fn input(ctx: &Ctx, i: usize) -> Result<ValueId> {
    let given = ctx.node.inputs.get(i).copied().flatten();
    given.ok_or_else(|| Error::model(format!("input {i} is missing")))
}

fn number(b: &mut NodeBuilder, dtype: DType, value: f32) -> Result<ValueId> {
    let number = b.constant(Tensor::scalar(value));
    cast(b, number, dtype)
}

fn cast(b: &mut NodeBuilder, x: ValueId, to: DType) -> Result<ValueId> {
    b.one("Cast", &[x], Attrs::default().with("to", Attr::Int(to as i64)))
}

fn ints(b: &mut NodeBuilder, values: &[i64]) -> ValueId {
    b.constant(Tensor::new([values.len()], values))
}

fn infer_float(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let x = ctx.ty(0)?;
    require(x.dtype.is_float(), || format!("it is not defined for {x}"))?;
    Ok(vec![x.clone()])
}

/// `alpha x + beta` (Affine), or `alpha f(beta x)`.
fn affine(ctx: &Ctx, b: &mut NodeBuilder, f: Option<&str>) -> Result<Vec<ValueId>> {
    let (x, dtype) = (input(ctx, 0)?, ctx.dtype(0)?);
    let beta = if f.is_some() { 1.0 } else { 0.0 };
    let alpha = number(b, dtype, ctx.attrs().float("alpha", 1.0)?)?;
    let beta = number(b, dtype, ctx.attrs().float("beta", beta)?)?;
    let Some(f) = f else {
        let product = b.binary("Mul", x, alpha)?;
        return Ok(vec![b.binary("Add", product, beta)?]);
    };
    let inner = b.binary("Mul", x, beta)?;
    let value = b.unary(f, inner)?;
    Ok(vec![b.binary("Mul", value, alpha)?])
}

fn scale(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    let factor = number(b, ctx.dtype(0)?, ctx.attrs().float("scale", 1.0)?)?;
    Ok(vec![b.binary("Mul", input(ctx, 0)?, factor)?])
}

fn infer_image(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let x = infer_float(ctx)?;
    let bias = ctx.attrs().get_floats("bias")?.map_or(0, <[f32]>::len);
    require(x[0].rank() == 4 && x[0].shape[1] == bias, || format!("{bias} biases do not fit {}", x[0]))?;
    Ok(x)
}

/// `scale x + bias of the channel`.
fn image_scaler(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    let scaled = scale(ctx, b)?[0];
    let bias = ctx.attrs().get_floats("bias")?.unwrap_or(&[]);
    let bias = b.constant(Tensor::new([bias.len(), 1, 1], bias));
    let bias = cast(b, bias, ctx.dtype(0)?)?;
    Ok(vec![b.binary("Add", scaled, bias)?])
}

/// First and last row and column that Crop leaves, the last not included.
fn window(ctx: &Ctx) -> Result<[[i64; 2]; 2]> {
    let x = ctx.ty(0)?;
    let border = ctx.attrs().get_ints("border")?.unwrap_or(&[]);
    let (4, &[left, top, right, bottom]) = (x.rank(), border) else {
        return Err(Error::model(format!("a border of {border:?} around {x} is not defined")));
    };
    let (height, width) = (x.shape[2] as i64, x.shape[3] as i64);
    let window = match ctx.attrs().get_ints("scale")? {
        Some(&[rows, columns]) => [[top, top + rows], [left, left + columns]],
        _ => [[top, height - bottom], [left, width - right]],
    };
    let inside = |w: [i64; 2], end: i64| 0 <= w[0] && w[0] <= w[1] && w[1] <= end;
    require(inside(window[0], height) && inside(window[1], width), || {
        format!("a border of {border:?} does not fit {x}")
    })?;
    Ok(window)
}

fn infer_crop(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let (x, window) = (ctx.ty(0)?, window(ctx)?);
    let [height, width] = window.map(|w| (w[1] - w[0]) as usize);
    Ok(vec![TensorType::new(x.dtype, [x.shape[0], x.shape[1], height, width])])
}

fn crop(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    let [rows, columns] = window(ctx)?;
    let (starts, ends) = (ints(b, &[rows[0], columns[0]]), ints(b, &[rows[1], columns[1]]));
    let axes = ints(b, &[2, 3]);
    Ok(vec![b.one("Slice", &[input(ctx, 0)?, starts, ends, axes], Attrs::default())?])
}

fn infer_bias_add(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let (x, bias, skip) = (ctx.ty(0)?, ctx.ty(1)?, ctx.ty(2)?);
    let fits = x == skip && bias.dtype == x.dtype && bias.rank() == 1 && x.shape.last() == bias.shape.first();
    require(fits, || format!("{bias} and {skip} are not added to {x}"))?;
    infer_float(ctx)
}

/// The sum of a tensor, a bias of its last dimension and a tensor of the same shape.
fn bias_add(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    let sum = b.binary("Add", input(ctx, 0)?, input(ctx, 1)?)?;
    Ok(vec![b.binary("Add", sum, input(ctx, 2)?)?])
}

fn new_axis(ctx: &Ctx) -> Result<usize> {
    let axis = ctx.constant_ints(1)?.and_then(|a| a.first().copied());
    ctx.axis(axis.ok_or_else(|| Error::model("the axis is missing"))?, ctx.shape(0)?.len() + 1)
}

fn infer_expand_dims(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let mut ty = ctx.ty(0)?.clone();
    ty.shape.insert(new_axis(ctx)?, 1);
    Ok(vec![ty])
}

fn expand_dims(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    let axis = ints(b, &[new_axis(ctx)? as i64]);
    Ok(vec![b.binary("Unsqueeze", input(ctx, 0)?, axis)?])
}

/// Orders of dimensions that take the channels from the last place to the second, and back.
fn channels_last(rank: usize) -> [Attrs; 2] {
    let last = rank as i64 - 1;
    let first: Vec<i64> = [0, last].into_iter().chain(1..last).collect();
    let back: Vec<i64> = std::iter::once(0).chain(2..=last).chain([1]).collect();
    [first, back].map(|perm| Attrs::default().with("perm", Attr::Ints(perm)))
}

/// A node of ai.onnx between transposes, its types by that operator's own inference.
fn transposed(ctx: &Ctx, b: &mut NodeBuilder, op: &str) -> Result<ValueId> {
    let rank = ctx.shape(0)?.len();
    require(rank >= 3, || format!("a tensor of rank {rank} has no channels in its last place"))?;
    let [first, back] = channels_last(rank);
    let x = b.one("Transpose", &[input(ctx, 0)?], first)?;
    let y = b.one(op, &[x], ctx.attrs().clone())?;
    b.one("Transpose", &[y], back)
}

fn infer_nhwc(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let mut graph = ctx.graph.clone();
    let mut b = NodeBuilder::new(&mut graph, ctx.node.name.clone(), ctx.node.opset);
    let y = transposed(ctx, &mut b, "MaxPool")?;
    Ok(vec![b.ty(y).clone()])
}

fn nhwc_max_pool(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    Ok(vec![transposed(ctx, b, "MaxPool")?])
}

fn infer_pad(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let mut graph = ctx.graph.clone();
    let mut b = NodeBuilder::new(&mut graph, ctx.node.name.clone(), ctx.node.opset);
    let y = pad(ctx, &mut b)?[0];
    Ok(vec![b.ty(y).clone()])
}

fn pad(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    let pads = ctx.constant_ints(1)?.ok_or_else(|| Error::model("the pads are missing"))?;
    let pads = ints(b, &pads);
    let value = ctx.node.inputs.get(2).copied().flatten();
    b.node_in("", "Pad", &[Some(input(ctx, 0)?), Some(pads), value], ctx.attrs().clone(), 1)
}

fn infer_lstm(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let (x, w, r) = (ctx.ty(0)?, ctx.ty(1)?, ctx.ty(2)?);
    let no = || format!("a recurrence over {x} with weights {w} and {r} is not defined");
    require(x.rank() == 3 && w.rank() == 3 && r.rank() == 3 && x.dtype == DType::F32, no)?;
    let all = TensorType::new(x.dtype, [x.shape[0], r.shape[0], x.shape[1], r.shape[1]]);
    let last = TensorType::new(x.dtype, [r.shape[0], x.shape[1], r.shape[1]]);
    Ok(vec![all, last.clone(), last])
}

/// The LSTM of weights that are dequantized; the inputs are not rounded.
fn lstm(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    let mut inputs: Vec<Option<ValueId>> =
        (0..8).map(|i| ctx.node.inputs.get(i).copied().flatten()).collect();
    for (i, scale) in [(1, 8), (2, 10)] {
        let directions = ctx.shape(i)?[0] as i64;
        let (scale, zero) = (input(ctx, scale)?, input(ctx, scale + 1)?);
        let [scale, zero] = [scale, zero].map(|v| {
            let per_column = b.ty(v).rank() == 2;
            let shape = ints(b, &[directions, 1, if per_column { -1 } else { 1 }]);
            b.binary("Reshape", v, shape)
        });
        let weights = cast(b, input(ctx, i)?, DType::I32)?;
        let zero = cast(b, zero?, DType::I32)?;
        let centred = b.binary("Sub", weights, zero)?;
        let centred = cast(b, centred, DType::F32)?;
        let weights = b.binary("Mul", centred, scale?)?;
        let order = Attrs::default().with("perm", Attr::Ints(vec![0, 2, 1]));
        inputs[i] = Some(b.one("Transpose", &[weights], order)?);
    }
    b.node_in("", "LSTM", &inputs, ctx.attrs().clone(), 3)
}

/// Columns that each input has.
fn widths(ctx: &Ctx) -> Result<Vec<usize>> {
    let rows = ctx.shape(0)?.first().copied().unwrap_or(1);
    let width = |i: usize| -> Result<usize> {
        let x = ctx.ty(i)?;
        require(x.rank() <= 2 && x.shape.first().copied().unwrap_or(1) == rows, || {
            format!("input {i} of type {x} does not have {rows} rows")
        })?;
        Ok(x.shape.get(1).copied().unwrap_or(1))
    };
    let found: Vec<usize> = (0..ctx.node.inputs.len()).map(width).collect::<Result<_>>()?;
    if let Some(stated) = ctx.attrs().get_ints("inputdimensions")? {
        let same = stated.iter().map(|&d| d as usize).eq(found.iter().copied());
        require(same, || format!("inputdimensions {stated:?} differ from the inputs' {found:?}"))?;
    }
    Ok(found)
}

fn infer_features(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let rows = ctx.shape(0)?.first().copied().unwrap_or(1);
    Ok(vec![TensorType::new(DType::F32, [rows, widths(ctx)?.iter().sum()])])
}

/// All columns side by side, as floats.
fn features(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    let rows = ctx.shape(0)?.first().copied().unwrap_or(1) as i64;
    let mut parts = Vec::new();
    for (i, width) in widths(ctx)?.into_iter().enumerate() {
        let x = cast(b, input(ctx, i)?, DType::F32)?;
        let shape = ints(b, &[rows, width as i64]);
        parts.push(b.binary("Reshape", x, shape)?);
    }
    Ok(vec![b.one("Concat", &parts, Attrs::default().with("axis", Attr::Int(1)))?])
}

fn categories<'a>(ctx: &Ctx<'a>) -> Result<&'a [i64]> {
    let given = ctx.attrs().get_ints("cats_int64s")?.filter(|c| !c.is_empty());
    given.ok_or_else(|| Error::model("the categories must be integers: strings are not supported"))
}

fn infer_one_hot(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let x = ctx.ty(0)?;
    require(x.dtype.is_int() || x.dtype.is_float(), || format!("it is not defined for {x}"))?;
    let mut shape = x.shape.clone();
    shape.push(categories(ctx)?.len());
    Ok(vec![TensorType::new(DType::F32, shape)])
}

/// One at the category's place; what is no category is all zeros, or an error at run time.
fn one_hot(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    let categories = categories(ctx)?;
    let x = cast(b, input(ctx, 0)?, DType::I64)?;
    let last = ints(b, &[-1]);
    let x = b.binary("Unsqueeze", x, last)?;
    let categories = ints(b, categories);
    let equal = b.binary("Equal", x, categories)?;
    let hot = cast(b, equal, DType::F32)?;
    if ctx.attrs().flag("zeros", true)? {
        return Ok(vec![hot]);
    }
    let known = b.one("ReduceMax", &[hot, last], Attrs::default())?;
    let all = b.one("ReduceMin", &[known], Attrs::default().with("keepdims", Attr::Int(0)))?;
    let all = cast(b, all, DType::Bool)?;
    b.node_in("lmc", "Require", &[Some(all), Some(hot)], Attrs::default(), 1)
}

#[cfg(test)]
mod tests {
    use super::super::older::fold;
    use crate::base::Tensor;
    use crate::graph::Attr;

    fn floats(op: &str, attrs: &[(&str, Attr)], inputs: &[Tensor]) -> Vec<f32> {
        let result = fold(op, 1, attrs, inputs, 1).unwrap_or_else(|e| panic!("{op}: {e}"));
        result[0].to_vec::<f32>().expect("f32")
    }

    #[test]
    fn the_first_set_of_operators() {
        let x = Tensor::new([1, 2, 1, 2], &[1f32, -2.0, 0.5, 4.0]);
        let (alpha, beta) = (("alpha", Attr::Float(2.0)), ("beta", Attr::Float(0.5)));
        let one = std::slice::from_ref(&x);
        assert_eq!(floats("Affine", &[alpha.clone(), beta.clone()], one), [2.5, -3.5, 1.5, 8.5]);
        let tanh = floats("ScaledTanh", &[alpha, beta], one);
        let want = [1f32, -2.0, 0.5, 4.0].map(|v| 2.0 * (0.5 * v).tanh());
        assert!(tanh.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-6), "{tanh:?}");
        let image = [("scale", Attr::Float(2.0)), ("bias", Attr::Floats(vec![1.0, -1.0]))];
        assert_eq!(floats("ImageScaler", &image, one), [3.0, -3.0, 0.0, 7.0]);
        let x = Tensor::new([1, 1, 3, 3], &[0f32, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
        let border = ("border", Attr::Ints(vec![1, 0, 0, 1]));
        assert_eq!(
            floats("Crop", std::slice::from_ref(&border), std::slice::from_ref(&x)),
            [1.0, 2.0, 4.0, 5.0]
        );
        let size = ("scale", Attr::Ints(vec![1, 2]));
        assert_eq!(floats("Crop", &[border.clone(), size], std::slice::from_ref(&x)), [1.0, 2.0]);
        assert!(fold("Crop", 1, &[("border", Attr::Ints(vec![2, 2, 2, 2]))], &[x], 1).is_err());
    }

    #[test]
    fn features_and_categories() {
        let (a, b) = (Tensor::new([2, 1], &[1i64, 2]), Tensor::new([2, 2], &[0.5f32, 1.5, 2.5, 3.5]));
        let widths = ("inputdimensions", Attr::Ints(vec![1, 2]));
        let features = floats("ai.onnx.ml.FeatureVectorizer", &[widths], &[a, b]);
        assert_eq!(features, [1.0, 0.5, 1.5, 2.0, 2.5, 3.5]);
        let categories = ("cats_int64s", Attr::Ints(vec![3, 9]));
        let hot = |values: &[i64], zeros: i64| {
            let attrs = [categories.clone(), ("zeros", Attr::Int(zeros))];
            fold("ai.onnx.ml.OneHotEncoder", 1, &attrs, &[Tensor::new([values.len()], values)], 1)
        };
        let known = hot(&[9, 4, 3], 1).expect("zeros for 4")[0].to_vec::<f32>().expect("floats");
        assert_eq!(known, [0.0, 1.0, 0.0, 0.0, 1.0, 0.0]);
        assert!(hot(&[9, 3], 0).is_ok() && hot(&[9, 4], 0).is_err());
    }

    #[test]
    fn a_bias_of_the_last_dimension() {
        let (x, bias) = (Tensor::new([1, 2, 2], &[1f32, 2.0, 3.0, 4.0]), Tensor::new([2], &[10f32, 20.0]));
        let sum = floats("com.microsoft.BiasAdd", &[], &[x.clone(), bias, x.clone()]);
        assert_eq!(sum, [12.0, 24.0, 16.0, 28.0]);
        assert!(fold("com.microsoft.BiasAdd", 1, &[], &[x.clone(), x.clone(), x], 1).is_err());
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

    /// A sequence of one step from dequantized weights, against the same from floats.
    #[test]
    fn a_quantized_recurrence() {
        let x = Tensor::new([1, 1, 2], &[0.5f32, -1.0]);
        let (w, r) =
            (Tensor::new([1, 2, 4], &[10i8, -20, 30, 40, 5, 6, 7, 8]), Tensor::new([1, 1, 4], &[3i8; 4]));
        let (scale, zero) = (Tensor::new([1], &[0.05f32]), Tensor::new([1], &[2i8]));
        let float = |values: &[i8]| values.iter().map(|&v| f32::from(v - 2) * 0.05).collect::<Vec<_>>();
        let turned = float(&[10, 5, -20, 6, 30, 7, 40, 8]);
        let plain = [x.clone(), Tensor::new([1, 4, 2], &turned), Tensor::new([1, 4, 1], &float(&[3; 4]))];
        let hidden = [("hidden_size", Attr::Int(1))];
        let want = fold("LSTM", 14, &hidden, &plain, 1).expect("a recurrence");
        let bias = Tensor::new([1, 8], &[0f32; 8]);
        let lengths = Tensor::new([1], &[1i32]);
        let state = Tensor::new([1, 1, 1], &[0f32]);
        let peepholes = Tensor::new([1, 3], &[0f32; 3]);
        let inputs = [
            x,
            w,
            r,
            bias,
            lengths,
            state.clone(),
            state,
            peepholes,
            scale.clone(),
            zero.clone(),
            scale,
            zero,
        ];
        let got = fold("com.microsoft.DynamicQuantizeLSTM", 1, &hidden, &inputs, 1).expect("a recurrence");
        let (got, want) = (got[0].to_vec::<f32>().expect("floats"), want[0].to_vec::<f32>().expect("floats"));
        assert!(got.iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-6), "{got:?} {want:?}");
    }
}
