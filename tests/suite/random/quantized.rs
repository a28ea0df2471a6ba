//! Recipes of single quantized operators and layers.

use super::layers::positive;
use super::maker::{Maker, V};
use super::recipes::Recipe;
use super::windows::ints;
use lmc::base::{DType, Tensor, TensorType};
use lmc::graph::Attr;

pub const RECIPES: &[(&str, Recipe)] = &[
    ("QuantizeLinear", quantize),
    ("QLinearConv", qlinear_conv),
    ("QLinearMatMul", qlinear_matmul),
    ("ConvInteger", conv_integer),
    ("MatMulInteger", matmul_integer),
    ("Quantized convolution by dequantization", qdq_conv),
    ("Products with dynamic quantization", dynamic),
    ("Weights of four bits in blocks", nibbles),
    ("Net of quantized operators", operators),
    ("Net of dequantized parts", parts),
];

const F: DType = DType::F32;

fn scalar_u8(m: &mut Maker) -> V {
    let zero = m.random.between(0, 255) as u8;
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
    let shape = [1, m.dim(), m.random.between(3, 9) as usize, m.random.between(3, 9) as usize];
    let x = m.fresh(DType::U8, &shape);
    let depthwise = m.random.chance(30);
    let (out, k) = (if depthwise { shape[1] } else { m.dim() }, m.random.pick(&[1usize, 3]));
    let w = [out, if depthwise { 1 } else { shape[1] }, k, k];
    let kind = m.random.pick(&[DType::I8, DType::U8]);
    let data = m.data(kind, &w);
    let (w, w_zero) = (m.constant(data), m.constant(Tensor::from_bytes(TensorType::new(kind, []), [3u8])?));
    let (a, b, c) = (m.number(0.02), m.number(0.005), m.number(0.09));
    let (x_zero, y_zero) = (scalar_u8(m), scalar_u8(m));
    let bias: Vec<i32> = (0..out).map(|_| m.random.between(-900, 900) as i32).collect();
    let bias = m.constant(Tensor::new([out], &bias));
    let group = if depthwise { shape[1] as i64 } else { 1 };
    let pad = m.random.between(0, (k as i64 - 1) / 2);
    let attrs = [
        ("group", Attr::Int(group)),
        ("pads", ints([pad; 4])),
        ("strides", ints([m.random.between(1, 2); 2])),
    ];
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
    let shape = [1, m.dim(), m.random.between(3, 9) as usize, m.random.between(3, 9) as usize];
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

fn qdq_conv(m: &mut Maker) -> Option<()> {
    let shape = [1, m.dim(), m.random.between(3, 9) as usize, m.random.between(3, 9) as usize];
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

/// As ONNX Runtime's quantizer writes a product where ranges are found at run time.
fn dynamic(m: &mut Maker) -> Option<()> {
    if m.opset < 11 {
        return None;
    }
    let (rows, k, n) = (m.dim(), m.dim(), m.dim());
    let x = m.fresh(F, &[rows, k]);
    let found = m.node("DynamicQuantizeLinear", &[Some(x)], &[], 3)?;
    let kind = m.random.pick(&[DType::I8, DType::U8]);
    let w = m.data(kind, &[k, n]);
    let w = m.constant(w);
    let zeros = vec![m.random.pick(&[0u8, 7]); if m.random.chance(50) { n } else { 1 }];
    let shape: &[usize] = if zeros.len() == 1 { &[] } else { &[n] };
    let zeros = m.constant(Tensor::from_bytes(TensorType::new(kind, shape), zeros)?);
    let sums = m.one("MatMulInteger", &[found[0], w, found[2], zeros], &[])?;
    let sums = m.one("Cast", &[sums], &[("to", Attr::Int(F as i64))])?;
    let scale = m.number(1.0 / 128.0);
    let scale = m.one("Mul", &[found[1], scale], &[])?;
    let y = m.one("Mul", &[sums, scale], &[])?;
    let bias = m.fresh(F, &[n]);
    m.close(&[found[0], found[1], found[2], sums, scale, y]);
    m.one("Add", &[y, bias], &[]).map(drop)
}

/// A product with dequantized weights, a scale for each block of a column.
fn nibbles(m: &mut Maker) -> Option<()> {
    if m.opset < 21 {
        return None;
    }
    let block = m.random.pick(&[16usize, 32]);
    let (rows, k, n) = (m.dim(), block * m.random.between(1, 3) as usize, m.dim());
    let kind = m.random.pick(&[DType::I4, DType::U4, DType::I8]);
    let w = m.data(kind, &[k, n]);
    let w = m.constant(w);
    let values: Vec<f32> = (0..k / block * n).map(|_| m.random.between(1, 64) as f32 / 1024.0).collect();
    let scales = m.constant(Tensor::new([k / block, n], &values));
    let mut inputs = vec![w, scales];
    if m.random.chance(60) {
        let zeros = m.data(kind, &[k / block, n]);
        inputs.push(m.constant(zeros));
    }
    let attrs = [("axis", Attr::Int(0)), ("block_size", Attr::Int(block as i64))];
    let w = m.one("DequantizeLinear", &inputs, &attrs)?;
    m.close(&[w]);
    let x = m.fresh(F, &[rows, k]);
    m.one("MatMul", &[x, w], &[]).map(drop)
}

/// Layers that take quantized tensors, of ONNX and of ONNX Runtime. Scales are powers of two: all is exact.
fn operators(m: &mut Maker) -> Option<()> {
    if m.opset < 10 {
        return None;
    }
    let shape = [
        1,
        m.random.pick(&[1usize, 3, 8, 16]),
        m.random.between(3, 10) as usize,
        m.random.between(3, 10) as usize,
    ];
    let mut y = m.fresh(DType::U8, &shape);
    let mut made = Vec::new();
    for _ in 0..m.random.between(1, 5) {
        y = after(m, y)?;
        made.push(y);
        if m.shape(y)[2..].iter().any(|&d| d < 2) {
            break;
        }
    }
    m.close(&made);
    Some(())
}

/// One operator on a tensor of quantized images.
fn after(m: &mut Maker, y: V) -> Option<V> {
    let (c, hw) = (m.shape(y)[1], m.shape(y)[2..].to_vec());
    let [from, to] = [m.random.between(-6, -4), m.random.between(-6, -3)].map(|e| (e as f32).exp2());
    let (from, to) = (m.number(from), m.number(to));
    let [a, b] =
        [0, 100, 128].map(|_| m.random.pick(&[0u8, 100, 128])).map(|z| m.constant(Tensor::scalar(z)))[..2]
    else {
        return None;
    };
    match m.random.below(7) {
        0..=2 => {
            let (k, depthwise) = (m.random.pick(&[1usize, 3]), m.random.chance(40));
            let out = if depthwise { c } else { m.random.between(1, 20) as usize };
            let w = m.data(DType::I8, &[out, if depthwise { 1 } else { c }, k, k]);
            let (w, scale) = (m.constant(w), m.number(1.0 / 128.0));
            let zero = m.constant(Tensor::scalar(0i8));
            let attrs = [
                ("group", Attr::Int(if depthwise { c as i64 } else { 1 })),
                ("pads", ints([(k as i64 - 1) / 2; 4])),
            ];
            m.one("QLinearConv", &[y, from, a, w, scale, zero, to, b], &attrs)
        }
        3 => {
            let other = m.fresh(DType::U8, &[1, c, hw[0], hw[1]]);
            let op = m.random.pick(&["com.microsoft.QLinearAdd", "com.microsoft.QLinearMul"]);
            m.one(op, &[y, from, a, other, from, b, to, a], &[])
        }
        4 => m.one("com.microsoft.QLinearConcat", &[to, a, y, from, a, y, to, b], &[("axis", Attr::Int(1))]),
        5 => {
            let attrs = [("kernel_shape", ints([2, 2])), ("strides", ints([2, 2]))];
            m.one("com.microsoft.QLinearAveragePool", &[y, from, a, to, b], &attrs)
        }
        _ => m.one("com.microsoft.QLinearLeakyRelu", &[y, from, a, to, b], &[("alpha", Attr::Float(0.25))]),
    }
}

/// Dequantized tensors that are moved, split, put together and multiplied, some with a scale per channel. Scales are
/// powers of two: all is exact.
fn parts(m: &mut Maker) -> Option<()> {
    if m.opset < 13 {
        return None;
    }
    let shape = [1, 2 * m.random.between(1, 8) as usize, m.random.between(3, 9) as usize, 4];
    let mut y = m.fresh(F, &shape);
    for _ in 0..m.random.between(1, 3) {
        let scale = m.random.between(-6, -3);
        let per_channel = m.random.chance(40);
        let x = through_bytes(m, y, scale, per_channel)?;
        let x = match m.random.below(if per_channel { 1 } else { 4 }) {
            0 => x,
            1 => {
                let parts = m.node("Split", &[Some(x)], &[("axis", Attr::Int(1))], 2)?;
                m.one("Concat", &[parts[1], x, parts[0]], &[("axis", Attr::Int(1))])?
            }
            2 => {
                let attrs = [("kernel_shape", ints([3, 3])), ("pads", ints([1; 4]))];
                let pool = m.one("MaxPool", &[x], &attrs)?;
                m.one("Concat", &[x, pool], &[("axis", Attr::Int(1))])?
            }
            _ => {
                let other = m.fresh(F, &shape);
                let scale = scale + m.random.between(0, 1);
                let other = through_bytes(m, other, scale, false)?;
                let other = m.one("Concat", &[x, other], &[("axis", Attr::Int(2))])?;
                m.one("Transpose", &[other], &[("perm", ints([0, 1, 3, 2]))])?
            }
        };
        let (c, depthwise) = (m.shape(x)[1], per_channel || m.random.chance(30));
        let out = if depthwise { c } else { shape[1] };
        let data = m.data(DType::I8, &[out, if depthwise { 1 } else { c }, 3, 3]);
        let scales: Vec<f32> = (0..out).map(|_| (m.random.between(-9, -7) as f32).exp2()).collect();
        let (w, scales) = (m.constant(data), m.constant(Tensor::new([out], &scales)));
        let zeros = m.constant(Tensor::new([out], &vec![0i8; out]));
        let w = m.one("DequantizeLinear", &[w, scales, zeros], &[("axis", Attr::Int(0))])?;
        let attrs = [("group", Attr::Int(if depthwise { c as i64 } else { 1 })), ("pads", ints([1; 4]))];
        y = m.one("Conv", &[x, w], &attrs)?;
        y = if m.random.chance(50) { m.one("Relu", &[y], &[])? } else { y };
        if m.shape(y)[1] != shape[1] || m.shape(y)[2] > 20 {
            break;
        }
    }
    Some(())
}

/// A tensor as bytes and back, with a scale of about this power of two.
fn through_bytes(m: &mut Maker, x: V, scale: i64, per_channel: bool) -> Option<V> {
    let channels = if per_channel { m.shape(x)[1] } else { 1 };
    let scales: Vec<f32> = (0..channels)
        .map(|_| scale + m.random.between(0, i64::from(per_channel)))
        .map(|e| (e as f32).exp2())
        .collect();
    let zeros = vec![m.random.pick(&[0u8, 100]); channels];
    let shape: &[usize] = if per_channel { &[channels] } else { &[] };
    let scale = m.constant(Tensor::new(shape.to_vec(), &scales));
    let zero = m.constant(Tensor::new(shape.to_vec(), &zeros));
    let q = m.one("QuantizeLinear", &[x, scale, zero], &[])?;
    m.one("DequantizeLinear", &[q, scale, zero], &[])
}
