//! Recipes of windows: convolutions, pooling, resizing.

use super::maker::{Maker, V};
use super::recipes::Recipe;
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
    ("Resize", resize),
];

const F: DType = DType::F32;

/// Images that fit windows.
pub fn image(m: &mut Maker) -> V {
    let shape = [
        m.random.pick(&[1, 1, 1, 2]),
        m.dim(),
        m.random.between(3, 17) as usize,
        m.random.between(3, 17) as usize,
    ];
    m.value(F, |s| s.len() == 4 && s[2] > 2 && s[3] > 2 && s[1] > 0 && s[0] > 0, &shape)
}

/// A list as an attribute.
pub fn ints(list: impl IntoIterator<Item = i64>) -> Attr {
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
                .map(|i| if even { (kernel[i % n] - 1) / 2 } else { m.random.between(0, kernel[i % n] - 1) })
                .collect();
            let fits = (0..n).all(|i| shape[i] as i64 + pads[i] + pads[i + n] >= reach(i));
            attrs.push(("pads", ints(pads)));
            return fits.then_some(attrs);
        }
    }
    (0..n).all(|i| shape[i] as i64 >= reach(i)).then_some(attrs)
}

fn conv_any(m: &mut Maker) -> Option<V> {
    let dims = m.random.between(1, 3) as usize;
    let mut shape = vec![m.random.pick(&[1, 1, 2]), m.dim()];
    (0..dims).for_each(|_| shape.push(m.random.between(1, if dims == 3 { 7 } else { 19 }) as usize));
    let x = m.value(F, |s| s.len() == dims + 2 && !s.contains(&0), &shape);
    conv(m, x)
}

/// A convolution in as many dimensions as its input has.
pub fn conv(m: &mut Maker, x: V) -> Option<V> {
    let shape = m.shape(x);
    let channels = shape[1];
    let divisors: Vec<usize> = (1..=channels).filter(|&g| channels.is_multiple_of(g)).collect();
    let groups = if m.random.chance(50) { 1 } else { m.random.pick(&divisors) };
    let groups = if m.random.chance(20) { channels } else { groups };
    let per = if groups == 1 { m.dim() } else { m.random.pick(&[1, 1, 2, 3]) };
    let kernel: Vec<i64> = if m.random.chance(50) {
        vec![m.random.pick(&[1, 3, 3, 5]); shape.len() - 2]
    } else {
        shape[2..].iter().map(|_| m.random.between(1, 5)).collect()
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
    (0..dims).for_each(|_| shape.push(m.random.between(1, 6) as usize));
    let x = m.value(
        F,
        |s| s.len() == dims + 2 && !s.contains(&0) && s[2..].iter().product::<usize>() < 200,
        &shape,
    );
    let channels = m.shape(x)[1];
    let groups = if m.random.chance(25) { channels } else { 1 };
    let per = m.random.between(1, 5) as usize;
    let mut w = vec![channels, per];
    let kernel: Vec<i64> = (0..dims).map(|_| m.random.between(1, 4)).collect();
    w.extend(kernel.iter().map(|&k| k as usize));
    let strides: Vec<i64> = (0..dims).map(|_| m.random.between(1, 3)).collect();
    let mut attrs = vec![("strides", ints(strides.clone())), ("group", Attr::Int(groups as i64))];
    match m.random.below(4) {
        0 if strides.iter().zip(&kernel).all(|(s, k)| k >= s) => {
            attrs.push(("auto_pad", Attr::Str(m.random.pick(&["SAME_UPPER", "SAME_LOWER"]).into())));
        }
        1 => attrs.push(("dilations", ints((0..dims).map(|_| 2)))),
        _ => {
            let sides: Vec<i64> =
                (0..2 * dims).map(|i| m.random.between(0, (kernel[i % dims] - 1) / 2)).collect();
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
    (0..dims).for_each(|_| shape.push(m.random.between(2, if dims == 3 { 7 } else { 15 }) as usize));
    let x = m.value(F, |s| s.len() == dims + 2 && !s.contains(&0), &shape);
    let shape = m.shape(x);
    let kernel: Vec<i64> = (0..dims).map(|_| m.random.between(1, 4)).collect();
    let dilate = op == "MaxPool" && m.opset >= 10 || op == "AveragePool" && m.opset >= 19;
    let dilate = dilate && m.random.chance(30);
    let mut attrs = window(m, &shape[2..], &kernel, dilate)?;
    let auto = attrs.iter().any(|a| a.0 == "auto_pad");
    if auto && dilate {
        // ONNX Runtime pads as if there were no dilations.
        return None;
    }
    if m.opset >= 10 && !auto && op != "LpPool" && m.random.chance(40) {
        attrs.push(("ceil_mode", Attr::Int(1)));
    }
    if op == "AveragePool" && !auto {
        attrs.push(("count_include_pad", Attr::Int(m.random.between(0, 1))));
    }
    m.one(op, &[x], &attrs).map(drop)
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
        attrs.push(("exclude_outside", Attr::Int(m.random.between(0, 1))));
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
