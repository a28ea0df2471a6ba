//! Recipes of layers: windows, normalizations, recurrent nets, quantized operators, and patterns of
//! several nodes as models have them.

use super::maker::{Maker, V};
use super::recipes::{Recipe, beside};
use lmc::base::{DType, Tensor};
use lmc::graph::Attr;

pub const RECIPES: &[(&str, Recipe)] = &[
    ("Conv", |m| conv_any(m).map(drop)),
    ("Conv in two dimensions", |m| {
        let x = image(m);
        conv(m, x).map(drop)
    }),
    ("ConvTranspose", conv_transpose),
    ("MaxPool", |m| pool(m, "MaxPool")),
    ("AveragePool", |m| pool(m, "AveragePool")),
    ("LpPool", |m| pool(m, "LpPool")),
    ("GlobalAveragePool", |m| global(m, "GlobalAveragePool")),
    ("GlobalMaxPool", |m| global(m, "GlobalMaxPool")),
    ("Resize", resize),
    ("BatchNormalization", |m| {
        let x = m.any(2);
        batch_norm(m, x).map(drop)
    }),
    ("InstanceNormalization", instance),
    ("LayerNormalization", layer_norm),
    ("GroupNormalization", group_norm),
    ("LRN", lrn),
    ("MeanVarianceNormalization", |m| global(m, "MeanVarianceNormalization")),
    ("LSTM", |m| recurrent(m, "LSTM", 4)),
    ("GRU", |m| recurrent(m, "GRU", 3)),
    ("RNN", |m| recurrent(m, "RNN", 1)),
    ("GridSample", grid),
    ("QuantizeLinear", quantize),
    ("QLinearConv", qlinear_conv),
    ("QLinearMatMul", qlinear_matmul),
    ("ConvInteger", conv_integer),
    ("MatMulInteger", matmul_integer),
    ("Conv, normalization, activation, sum", residual),
    ("Quantized convolution by dequantization", qdq_conv),
    ("Squeeze and excite", squeeze_excite),
    ("Attention by products", attention),
];

const F: DType = DType::F32;

fn image(m: &mut Maker) -> V {
    let shape = [
        m.random.pick(&[1, 1, 1, 2]),
        m.dim(),
        m.random.range(3, 17) as usize,
        m.random.range(3, 17) as usize,
    ];
    m.value(F, |s| s.len() == 4 && s[2] > 2 && s[3] > 2 && s[1] > 0 && s[0] > 0, &shape)
}

fn ints(list: impl IntoIterator<Item = i64>) -> Attr {
    Attr::Ints(list.into_iter().collect())
}

/// Attributes of a window over `shape` (without batch and channels); `None` where it does not fit.
fn window(m: &mut Maker, shape: &[usize], kernel: &[i64], dilate: bool) -> Option<Vec<(&'static str, Attr)>> {
    let n = shape.len();
    let dilations: Vec<i64> =
        (0..n).map(|_| if dilate { m.random.pick(&[1, 1, 1, 2, 3]) } else { 1 }).collect();
    let mut attrs = vec![("kernel_shape", ints(kernel.iter().copied()))];
    if dilate {
        attrs.push(("dilations", ints(dilations.iter().copied())));
    }
    let strides: Vec<i64> = (0..n).map(|_| m.random.pick(&[1, 1, 1, 2, 2, 3])).collect();
    attrs.push(("strides", ints(strides)));
    let reach = |i: usize| (kernel[i] - 1) * dilations[i] + 1;
    match m.random.below(8) {
        0 => attrs.push(("auto_pad", Attr::Str("SAME_UPPER".into()))),
        1 => attrs.push(("auto_pad", Attr::Str("SAME_LOWER".into()))),
        2 => attrs.push(("auto_pad", Attr::Str("VALID".into()))),
        _ => {
            let even = m.random.chance(60);
            let pads: Vec<i64> = (0..2 * n)
                .map(|i| if even { (kernel[i % n] - 1) / 2 } else { m.random.range(0, kernel[i % n] - 1) })
                .collect();
            let fits = (0..n).all(|i| shape[i] as i64 + pads[i] + pads[i + n] >= reach(i));
            attrs.push(("pads", ints(pads)));
            return fits.then_some(attrs);
        }
    }
    (0..n).all(|i| shape[i] as i64 >= reach(i)).then_some(attrs)
}

fn conv_any(m: &mut Maker) -> Option<V> {
    let dims = m.random.range(1, 3) as usize;
    let mut shape = vec![m.random.pick(&[1, 1, 2]), m.dim()];
    (0..dims).for_each(|_| shape.push(m.random.range(1, if dims == 3 { 7 } else { 19 }) as usize));
    let x = m.value(F, |s| s.len() == dims + 2 && !s.contains(&0), &shape);
    conv(m, x)
}

fn conv(m: &mut Maker, x: V) -> Option<V> {
    let shape = m.shape(x);
    let channels = shape[1];
    let divisors: Vec<usize> = (1..=channels).filter(|&g| channels.is_multiple_of(g)).collect();
    let groups = if m.random.chance(50) { 1 } else { m.random.pick(&divisors) };
    let groups = if m.random.chance(20) { channels } else { groups };
    let per = if groups == 1 { m.dim() } else { m.random.pick(&[1, 1, 2, 3]) };
    let kernel: Vec<i64> = if m.random.chance(50) {
        vec![m.random.pick(&[1, 3, 3, 5]); shape.len() - 2]
    } else {
        shape[2..].iter().map(|_| m.random.range(1, 5)).collect()
    };
    let mut attrs = window(m, &shape[2..], &kernel, true)?;
    attrs.push(("group", Attr::Int(groups as i64)));
    let mut w = vec![groups * per, channels / groups];
    w.extend(kernel.iter().map(|&k| k as usize));
    let terms = w[1..].iter().product();
    let w = m.weights(&w, terms);
    let bias = m.fresh(F, &[groups * per]);
    let inputs = if m.random.chance(60) { vec![x, w, bias] } else { vec![x, w] };
    m.one("Conv", &inputs, &attrs)
}

fn conv_transpose(m: &mut Maker) -> Option<()> {
    let dims = m.random.pick(&[1, 2, 2, 2, 3]);
    let mut shape = vec![1, m.dim()];
    (0..dims).for_each(|_| shape.push(m.random.range(1, 6) as usize));
    let x = m.value(
        F,
        |s| s.len() == dims + 2 && !s.contains(&0) && s[2..].iter().product::<usize>() < 200,
        &shape,
    );
    let channels = m.shape(x)[1];
    let groups = if m.random.chance(25) { channels } else { 1 };
    let per = m.random.range(1, 5) as usize;
    let mut w = vec![channels, per];
    let kernel: Vec<i64> = (0..dims).map(|_| m.random.range(1, 4)).collect();
    w.extend(kernel.iter().map(|&k| k as usize));
    let strides: Vec<i64> = (0..dims).map(|_| m.random.range(1, 3)).collect();
    let mut attrs = vec![("strides", ints(strides.clone())), ("group", Attr::Int(groups as i64))];
    match m.random.below(4) {
        0 if strides.iter().zip(&kernel).all(|(s, k)| k >= s) => {
            attrs.push(("auto_pad", Attr::Str(m.random.pick(&["SAME_UPPER", "SAME_LOWER"]).into())));
        }
        1 => attrs.push(("dilations", ints((0..dims).map(|_| 2)))),
        _ => {
            let sides: Vec<i64> =
                (0..2 * dims).map(|i| m.random.range(0, (kernel[i % dims] - 1) / 2)).collect();
            attrs.push(("pads", ints(sides)));
            attrs.push(("output_padding", ints(strides.iter().map(|s| s - 1))));
        }
    }
    let w = m.weights(&w, channels);
    let bias = m.fresh(F, &[per * groups]);
    let inputs = if m.random.chance(60) { vec![x, w, bias] } else { vec![x, w] };
    m.one("ConvTranspose", &inputs, &attrs).map(drop)
}

fn pool(m: &mut Maker, op: &str) -> Option<()> {
    let dims = m.random.pick(&[1, 2, 2, 2, 3]);
    let mut shape = vec![1, m.dim()];
    (0..dims).for_each(|_| shape.push(m.random.range(2, if dims == 3 { 7 } else { 15 }) as usize));
    let x = m.value(F, |s| s.len() == dims + 2 && !s.contains(&0), &shape);
    let shape = m.shape(x);
    let kernel: Vec<i64> = (0..dims).map(|_| m.random.range(1, 4)).collect();
    let dilate = op == "MaxPool" && m.opset >= 10 || op == "AveragePool" && m.opset >= 19;
    let dilate = dilate && m.random.chance(30);
    let mut attrs = window(m, &shape[2..], &kernel, dilate)?;
    let auto = attrs.iter().any(|a| a.0 == "auto_pad");
    if m.opset >= 10 && !auto && op != "LpPool" && m.random.chance(40) {
        attrs.push(("ceil_mode", Attr::Int(1)));
    }
    if op == "AveragePool" && !auto {
        attrs.push(("count_include_pad", Attr::Int(m.random.range(0, 1))));
    }
    m.one(op, &[x], &attrs).map(drop)
}

fn global(m: &mut Maker, op: &str) -> Option<()> {
    let x = image(m);
    m.one(op, &[x], &[]).map(drop)
}

fn resize(m: &mut Maker) -> Option<()> {
    if m.opset < 11 {
        return None;
    }
    let x = image(m);
    let s = m.shape(x);
    let mode = m.random.pick(&["nearest", "linear", "linear", "cubic"]);
    let place = m.random.pick(&["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"]);
    let mut attrs =
        vec![("mode", Attr::Str(mode.into())), ("coordinate_transformation_mode", Attr::Str(place.into()))];
    if mode == "nearest" {
        let nearest = m.random.pick(&["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"]);
        attrs.push(("nearest_mode", Attr::Str(nearest.into())));
    }
    if mode == "cubic" {
        attrs.push(("cubic_coeff_a", Attr::Float(m.random.pick(&[-0.75, -0.5]))));
        attrs.push(("exclude_outside", Attr::Int(m.random.range(0, 1))));
    }
    let none = if m.opset < 13 { Some(m.constant(Tensor::new([0], &[0f32; 0]))) } else { None };
    // Fractions that are not exact in binary would decide a tie of `nearest`.
    if m.random.chance(60) {
        if place == "align_corners" {
            // ONNX Runtime rounds the length first; ONNX's definition does not.
            return None;
        }
        let scales =
            [1.0, 1.0, m.random.pick(&[2.0f32, 0.5, 1.5, 4.0]), m.random.pick(&[2.0f32, 0.5, 1.0, 2.5])];
        let scales = m.constant(Tensor::new([4], &scales));
        return m.node("Resize", &[Some(x), none, Some(scales)], &attrs, 1).map(drop);
    }
    let factor = m.random.pick(&[2, 4]);
    let sizes = m.ints(&[s[0] as i64, s[1] as i64, s[2] as i64 * factor, s[3] as i64 * 2]);
    m.node("Resize", &[Some(x), none, none, Some(sizes)], &attrs, 1).map(drop)
}

fn positive(m: &mut Maker, n: usize) -> V {
    let values: Vec<f32> = (0..n).map(|_| m.random.range(20, 128) as f32 / 64.0).collect();
    m.constant(Tensor::new([n], &values))
}

fn batch_norm(m: &mut Maker, x: V) -> Option<V> {
    let c = m.shape(x)[1];
    let (scale, bias, mean, var) = (m.fresh(F, &[c]), m.fresh(F, &[c]), m.fresh(F, &[c]), positive(m, c));
    m.one("BatchNormalization", &[x, scale, bias, mean, var], &[("epsilon", Attr::Float(0.001))])
}

fn instance(m: &mut Maker) -> Option<()> {
    let x = image(m);
    let c = m.shape(x)[1];
    let (scale, bias) = (m.fresh(F, &[c]), m.fresh(F, &[c]));
    m.one("InstanceNormalization", &[x, scale, bias], &[("epsilon", Attr::Float(0.01))]).map(drop)
}

fn layer_norm(m: &mut Maker) -> Option<()> {
    let x = m.any(1);
    let shape = m.shape(x);
    if shape.contains(&0) {
        return None;
    }
    let axis = m.random.below(shape.len());
    let (scale, bias) = (m.fresh(F, &shape[axis..]), m.fresh(F, &shape[axis..]));
    let axis = if m.random.chance(50) { axis as i64 - shape.len() as i64 } else { axis as i64 };
    let attrs = [("axis", Attr::Int(axis)), ("epsilon", Attr::Float(0.01))];
    let inputs = if m.random.chance(70) { vec![x, scale, bias] } else { vec![x, scale] };
    m.one("LayerNormalization", &inputs, &attrs).map(drop)
}

fn group_norm(m: &mut Maker) -> Option<()> {
    if m.opset < 21 {
        return None;
    }
    let x = image(m);
    let c = m.shape(x)[1];
    let divisors: Vec<i64> = (1..=c as i64).filter(|g| c as i64 % g == 0).collect();
    let attrs = [("num_groups", Attr::Int(m.random.pick(&divisors))), ("epsilon", Attr::Float(0.01))];
    let (scale, bias) = (m.fresh(F, &[c]), m.fresh(F, &[c]));
    m.one("GroupNormalization", &[x, scale, bias], &attrs).map(drop)
}

fn lrn(m: &mut Maker) -> Option<()> {
    let x = image(m);
    let attrs = [
        ("size", Attr::Int(m.random.pick(&[1, 3, 5]))),
        ("alpha", Attr::Float(0.1)),
        ("beta", Attr::Float(0.75)),
    ];
    m.one("LRN", &[x], &attrs).map(drop)
}

fn recurrent(m: &mut Maker, op: &str, gates: usize) -> Option<()> {
    let (time, batch, size, hidden) =
        (m.random.range(1, 7) as usize, m.random.range(1, 3) as usize, m.dim(), m.dim());
    let x = m.value(F, |s| s.len() == 3 && !s.contains(&0) && s[0] < 12, &[time, batch, size]);
    let s = m.shape(x);
    let direction = m.random.pick(&["forward", "reverse", "bidirectional"]);
    let d = if direction == "bidirectional" { 2 } else { 1 };
    let w = m.weights(&[d, gates * hidden, s[2]], s[2]);
    let r = m.weights(&[d, gates * hidden, hidden], hidden);
    let bias = m.fresh(F, &[d, 2 * gates * hidden]);
    let lengths: Vec<i32> = (0..s[1]).map(|_| m.random.range(1, s[0] as i64) as i32).collect();
    let lengths = m.input(Tensor::new([s[1]], &lengths));
    let (h, c) = (m.fresh(F, &[d, s[1], hidden]), m.fresh(F, &[d, s[1], hidden]));
    let (with_bias, with_lengths, with_state) =
        (m.random.chance(70), m.random.chance(25), m.random.chance(50));
    let mut inputs = vec![
        Some(x),
        Some(w),
        Some(r),
        with_bias.then_some(bias),
        with_lengths.then_some(lengths),
        with_state.then_some(h),
    ];
    if op == "LSTM" {
        inputs.push(with_state.then_some(c));
        let peepholes = m.weights(&[d, 3 * hidden], 4);
        inputs.push(m.random.chance(25).then_some(peepholes));
    }
    let mut attrs =
        vec![("hidden_size", Attr::Int(hidden as i64)), ("direction", Attr::Str(direction.into()))];
    if op == "GRU" {
        attrs.push(("linear_before_reset", Attr::Int(m.random.range(0, 1))));
    }
    if m.random.chance(20) {
        attrs.push(("clip", Attr::Float(0.5)));
    }
    m.node(op, &inputs, &attrs, if op == "LSTM" { 3 } else { 2 }).map(drop)
}

fn grid(m: &mut Maker) -> Option<()> {
    let shape = [1, m.dim(), m.random.range(2, 9) as usize, m.random.range(2, 9) as usize];
    let x = m.fresh(F, &shape);
    let places = m.fresh(F, &[1, 3, 4, 2]);
    let cubic =
        if m.opset < 20 { ["bilinear", "nearest", "bicubic"] } else { ["linear", "nearest", "cubic"] };
    let mode = m.random.pick(&cubic);
    let padding = m.random.pick(&["zeros", "border", "reflection"]);
    if mode.ends_with("cubic") && padding == "border" {
        // ONNX Runtime moves both coordinates where one lies outside; ONNX's definition does not.
        return None;
    }
    let attrs = [
        ("mode", Attr::Str(mode.into())),
        ("padding_mode", Attr::Str(padding.into())),
        ("align_corners", Attr::Int(m.random.range(0, 1))),
    ];
    m.one("GridSample", &[x, places], &attrs).map(drop)
}

fn scalar_u8(m: &mut Maker) -> V {
    let zero = m.random.range(0, 255) as u8;
    let zero = m.random.pick(&[0, 128, zero]);
    m.constant(Tensor::scalar(zero))
}

fn quantize(m: &mut Maker) -> Option<()> {
    let x = m.any(1);
    let (scale, zero) = (m.number(0.0173), scalar_u8(m));
    let q = m.one("QuantizeLinear", &[x, scale, zero], &[])?;
    let y = m.one("DequantizeLinear", &[q, scale, zero], &[])?;
    m.close(&[q, y]);
    Some(())
}

fn qlinear_conv(m: &mut Maker) -> Option<()> {
    let shape = [1, m.dim(), m.random.range(3, 9) as usize, m.random.range(3, 9) as usize];
    let x = m.fresh(DType::U8, &shape);
    let depthwise = m.random.chance(30);
    let (out, k) = (if depthwise { shape[1] } else { m.dim() }, m.random.pick(&[1usize, 3]));
    let w = [out, if depthwise { 1 } else { shape[1] }, k, k];
    let kind = m.random.pick(&[DType::I8, DType::U8]);
    let data = m.data(kind, &w);
    let (w, w_zero) =
        (m.constant(data), m.constant(Tensor::from_bytes(lmc::base::TensorType::new(kind, []), [3u8])?));
    let (a, b, c) = (m.number(0.02), m.number(0.005), m.number(0.09));
    let (x_zero, y_zero) = (scalar_u8(m), scalar_u8(m));
    let bias: Vec<i32> = (0..out).map(|_| m.random.range(-900, 900) as i32).collect();
    let bias = m.constant(Tensor::new([out], &bias));
    let group = if depthwise { shape[1] as i64 } else { 1 };
    let pad = m.random.range(0, (k as i64 - 1) / 2);
    let attrs =
        [("group", Attr::Int(group)), ("pads", ints([pad; 4])), ("strides", ints([m.random.range(1, 2); 2]))];
    let mut inputs = vec![x, a, x_zero, w, b, w_zero, c, y_zero];
    if m.random.chance(60) {
        inputs.push(bias);
    }
    let y = m.one("QLinearConv", &inputs, &attrs)?;
    m.close(&[y]);
    Some(())
}

fn qlinear_matmul(m: &mut Maker) -> Option<()> {
    let (i, k, n) = (m.dim(), m.dim(), m.dim());
    let (x, w) = (m.fresh(DType::U8, &[i, k]), m.fresh(DType::I8, &[k, n]));
    let w_zero = m.constant(Tensor::scalar(2i8));
    let (a, b, c) = (m.number(0.02), m.number(0.01), m.number(0.11));
    let (x_zero, y_zero) = (scalar_u8(m), scalar_u8(m));
    let y = m.one("QLinearMatMul", &[x, a, x_zero, w, b, w_zero, c, y_zero], &[])?;
    m.close(&[y]);
    Some(())
}

fn conv_integer(m: &mut Maker) -> Option<()> {
    let shape = [1, m.dim(), m.random.range(3, 9) as usize, m.random.range(3, 9) as usize];
    let (x, zero) = (m.fresh(DType::U8, &shape), scalar_u8(m));
    let out = m.dim();
    let w = m.fresh(DType::U8, &[out, shape[1], 3, 3]);
    m.one("ConvInteger", &[x, w, zero], &[("pads", ints([1; 4]))]).map(drop)
}

fn matmul_integer(m: &mut Maker) -> Option<()> {
    let (i, k, n) = (m.dim(), m.dim(), m.dim());
    let (x, w, zero) = (m.fresh(DType::U8, &[i, k]), m.fresh(DType::I8, &[k, n]), scalar_u8(m));
    m.one("MatMulInteger", &[x, w, zero], &[]).map(drop)
}

fn activation(m: &mut Maker, x: V) -> Option<V> {
    match m.random.below(5) {
        0 => m.one("Relu", &[x], &[]),
        1 => m.one("LeakyRelu", &[x], &[("alpha", Attr::Float(0.2))]),
        2 => {
            let s = m.one("Sigmoid", &[x], &[])?;
            m.one("Mul", &[x, s], &[])
        }
        3 => {
            let (three, six) = (m.number(3.0), m.number(1.0 / 6.0));
            let y = m.one("Add", &[x, three], &[])?;
            let y = m.one("Relu", &[y], &[])?;
            let y = m.one("Mul", &[x, y], &[])?;
            m.one("Mul", &[y, six], &[])
        }
        _ => m.one("Tanh", &[x], &[]),
    }
}

fn residual(m: &mut Maker) -> Option<()> {
    let x = image(m);
    let y = conv(m, x)?;
    let y = if m.random.chance(50) { batch_norm(m, y)? } else { y };
    let y = if m.random.chance(70) { activation(m, y)? } else { y };
    let shape = m.shape(y);
    let side = if m.random.chance(40) { beside(m, &shape) } else { shape.clone() };
    let other = m.value(F, |s| s == shape, &side);
    let op = m.random.pick(&["Add", "Mul", "Sub"]);
    let z = m.one(op, &[y, other], &[])?;
    activation(m, z).map(drop)
}

fn qdq_conv(m: &mut Maker) -> Option<()> {
    let shape = [1, m.dim(), m.random.range(3, 9) as usize, m.random.range(3, 9) as usize];
    let x = m.fresh(F, &shape);
    let (scale, zero, out) = (m.number(1.0 / 64.0), scalar_u8(m), m.dim());
    let q = m.one("QuantizeLinear", &[x, scale, zero], &[])?;
    let x = m.one("DequantizeLinear", &[q, scale, zero], &[])?;
    let data = m.data(DType::I8, &[out, shape[1], 3, 3]);
    let (w, w_scale) = (m.constant(data), positive(m, out));
    let hundredth = m.number(1.0 / 256.0);
    let w_scale = if m.opset >= 13 { w_scale } else { hundredth };
    let w_zero = if m.opset >= 13 {
        m.constant(Tensor::new([out], &vec![0i8; out]))
    } else {
        m.constant(Tensor::scalar(0i8))
    };
    let attrs: &[_] = if m.opset >= 13 { &[("axis", Attr::Int(0))] } else { &[] };
    let w = m.one("DequantizeLinear", &[w, w_scale, w_zero], attrs)?;
    let y = m.one("Conv", &[x, w], &[("pads", ints([1; 4]))])?;
    let y = if m.random.chance(50) { m.one("Relu", &[y], &[])? } else { y };
    m.close(&[q, x, w, y]);
    Some(())
}

fn squeeze_excite(m: &mut Maker) -> Option<()> {
    let x = image(m);
    let c = m.shape(x)[1];
    let y = m.one("GlobalAveragePool", &[x], &[])?;
    let (down, up) = (m.weights(&[3, c, 1, 1], c), m.weights(&[c, 3, 1, 1], 3));
    let y = m.one("Conv", &[y, down], &[])?;
    let y = activation(m, y)?;
    let y = m.one("Conv", &[y, up], &[])?;
    let gate = m.random.pick(&["Sigmoid", "HardSigmoid"]);
    let y = m.one(gate, &[y], &[])?;
    m.one("Mul", &[x, y], &[]).map(drop)
}

fn attention(m: &mut Maker) -> Option<()> {
    let (n, heads, size) = (m.random.range(1, 19), m.random.range(1, 4), m.random.range(1, 9));
    let d = heads * size;
    let x = m.fresh(F, &[1, n as usize, d as usize]);
    let mut parts = Vec::new();
    for i in 0..3 {
        let w = m.weights(&[d as usize, d as usize], d as usize);
        let y = m.one("MatMul", &[x, w], &[])?;
        let apart = m.ints(&[1, n, heads, size]);
        let y = m.one("Reshape", &[y, apart], &[])?;
        let perm = if i == 1 { [0, 2, 3, 1] } else { [0, 2, 1, 3] };
        parts.push(m.one("Transpose", &[y], &[("perm", ints(perm))])?);
    }
    let scores = m.one("MatMul", &[parts[0], parts[1]], &[])?;
    let root = m.number((size as f32).sqrt());
    let mut scores = m.one("Div", &[scores, root], &[])?;
    if m.random.chance(50) {
        let mask = m.fresh(F, &[1, 1, n as usize, n as usize]);
        scores = m.one("Add", &[scores, mask], &[])?;
    }
    let weights = m.one("Softmax", &[scores], &[("axis", Attr::Int(3))])?;
    let y = m.one("MatMul", &[weights, parts[2]], &[])?;
    let y = m.one("Transpose", &[y], &[("perm", ints([0, 2, 1, 3]))])?;
    let flat = m.ints(&[1, n, d]);
    m.one("Reshape", &[y, flat], &[]).map(drop)
}
