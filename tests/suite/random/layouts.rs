//! Recipes of layouts: nets with channels last, windows by reshaping, shuffles, one dimension as two.

use super::blocks::activation;
use super::layers::batch_norm;
use super::maker::{Maker, V};
use super::moves::with_axes;
use super::recipes::{Recipe, beside};
use super::windows::{conv, image, ints};
use lmc::base::{DType, Tensor};
use lmc::graph::Attr;

pub const RECIPES: &[(&str, Recipe)] = &[
    ("Shuffle of channels", shuffle),
    ("Roll of windows", windows),
    ("Net with channels last", channels_last),
    ("One dimension as two", flat_conv),
    ("Pixels to channels and back", pixels),
    ("Pooled sizes joined", pyramid),
];

const F: DType = DType::F32;

/// What is done where channels are last; values keep their rank.
fn last_step(m: &mut Maker, x: V) -> Option<V> {
    let shape = m.shape(x);
    let c = *shape.last()?;
    match m.random.below(8) {
        0 => {
            let w = m.weights(&[c, 7], c);
            m.one("MatMul", &[x, w], &[])
        }
        1 => {
            let side = beside(m, &shape);
            let side = m.fresh(F, &side);
            let op = m.random.pick(&["Add", "Mul"]);
            m.one(op, &[x, side], &[])
        }
        2 => m.one("Softmax", &[x], &[("axis", Attr::Int(shape.len() as i64 - 1))]),
        3 if m.opset >= 17 => {
            let (scale, bias) = (m.fresh(F, &[c]), m.fresh(F, &[c]));
            m.one("LayerNormalization", &[x, scale, bias], &[("epsilon", Attr::Float(0.01))])
        }
        4 if m.opset >= 11 => {
            let sides: Vec<i64> =
                (0..8).map(|i| if i % 4 == 0 { 0 } else { m.random.between(0, 2) }).collect();
            let sides = m.ints(&sides);
            m.one("Pad", &[x, sides], &[])
        }
        5 => {
            let axis = m.random.between(1, 3);
            m.one("Concat", &[x, x], &[("axis", Attr::Int(axis))])
        }
        6 if m.opset >= 10 => {
            let (from, to, axis) = (m.ints(&[0]), m.ints(&[-1]), m.random.between(1, 3));
            let (axes, steps) = (m.ints(&[axis]), m.ints(&[1]));
            let y = m.one("Slice", &[x, from, to, axes, steps], &[])?;
            (!m.shape(y).contains(&0)).then_some(y)
        }
        _ => activation(m, x),
    }
}

/// Between convolutions, whose channels are first, transposed back and forth as TensorFlow's converters do.
fn channels_last(m: &mut Maker) -> Option<()> {
    let mut x = image(m);
    let wide = m.random.chance(50);
    if wide {
        // The model's own layout is the other one.
        let shape = m.shape(x);
        x = m.fresh(F, &[shape[0], shape[2], shape[3], shape[1]]);
        x = m.one("Transpose", &[x], &[("perm", ints([0, 3, 1, 2]))])?;
    }
    for _ in 0..m.random.between(1, 3) {
        x = conv(m, x)?;
        if m.random.chance(40) {
            x = batch_norm(m, x)?;
        }
        x = m.one("Transpose", &[x], &[("perm", ints([0, 2, 3, 1]))])?;
        for _ in 0..m.random.between(0, 2) {
            x = last_step(m, x)?;
        }
        if wide && m.random.chance(40) {
            return Some(());
        }
        x = m.one("Transpose", &[x], &[("perm", ints([0, 3, 1, 2]))])?;
    }
    Some(())
}

/// A convolution in one dimension, by one in two.
fn flat_conv(m: &mut Maker) -> Option<()> {
    let shape = [1, m.dim(), m.random.between(3, 30) as usize];
    let x = m.value(F, |s| s.len() == 3 && !s.contains(&0), &shape);
    let axis = m.random.pick(&[2, 3]);
    let y = with_axes(m, "Unsqueeze", x, &[axis])?;
    let (c, out) = (m.shape(y)[1], m.dim());
    let k = m.random.pick(&[1usize, 3, 5, 8]);
    let depthwise = m.random.chance(40);
    let (out, groups) = if depthwise { (c, c) } else { (out, 1) };
    let kernel = if axis == 2 { [1, k] } else { [k, 1] };
    let w = m.weights(&[out, c / groups, kernel[0], kernel[1]], c / groups * k);
    let (before, after) = ((k as i64 - 1) / 2, k as i64 / 2);
    let pads = if axis == 2 { [0, before, 0, after] } else { [before, 0, after, 0] };
    let attrs = [("pads", ints(pads)), ("group", Attr::Int(groups as i64))];
    let y = m.one("Conv", &[y, w], &attrs)?;
    let y = with_axes(m, "Squeeze", y, &[axis])?;
    activation(m, y).map(drop)
}

/// Blocks of pixels as channels, a convolution, and back.
fn pixels(m: &mut Maker) -> Option<()> {
    let (b, c) = (m.random.pick(&[2usize, 2, 3]), m.random.between(1, 6) as usize);
    let shape = [1, c, b * m.random.between(1, 5) as usize, b * m.random.between(1, 5) as usize];
    let x = m.fresh(F, &shape);
    let block = ("blocksize", Attr::Int(b as i64));
    let y = m.one("SpaceToDepth", &[x], std::slice::from_ref(&block))?;
    let (from, to) = (m.shape(y)[1], b * b * m.random.between(1, 4) as usize);
    let w = m.weights(&[to, from, 3, 3], from * 9);
    let y = m.one("Conv", &[y, w], &[("pads", ints([1; 4]))])?;
    let y = activation(m, y)?;
    let mode = m.random.pick(&["DCR", "CRD"]);
    let attrs = [block, ("mode", Attr::Str(mode.into()))];
    m.one("DepthToSpace", &[y], if m.opset < 11 { &attrs[..1] } else { &attrs }).map(drop)
}

/// Smaller copies by pooling, brought back to one size and joined.
fn pyramid(m: &mut Maker) -> Option<()> {
    if m.opset < 11 {
        return None;
    }
    let side = 4 * m.random.between(1, 4) as usize;
    let shape = [1, m.dim(), side, side];
    let x = m.fresh(F, &shape);
    let mut parts = vec![x];
    for by in [2i64, 4] {
        let op = m.random.pick(&["MaxPool", "AveragePool"]);
        let y = m.one(op, &[x], &[("kernel_shape", ints([by; 2])), ("strides", ints([by; 2]))])?;
        let w = m.weights(&[5, shape[1], 1, 1], shape[1]);
        let y = m.one("Conv", &[y, w], &[])?;
        let y = activation(m, y)?;
        let none = m.constant(Tensor::new([0], &[0f32; 0]));
        let scales = m.constant(Tensor::new([4], &[1.0, 1.0, by as f32, by as f32]));
        let mode = m.random.pick(&["nearest", "linear"]);
        let place = if mode == "linear" { "half_pixel" } else { "asymmetric" };
        let attrs = [
            ("mode", Attr::Str(mode.into())),
            ("coordinate_transformation_mode", Attr::Str(place.into())),
            ("nearest_mode", Attr::Str("floor".into())),
        ];
        let none = (m.opset < 13).then_some(none);
        parts.push(m.node("Resize", &[Some(y), none, Some(scales)], &attrs, 1)?[0]);
    }
    let y = m.one("Concat", &parts, &[("axis", Attr::Int(1))])?;
    conv(m, y).map(drop)
}

/// Reshape, Transpose, Reshape over groups of channels.
fn shuffle(m: &mut Maker) -> Option<()> {
    let groups = m.random.between(2, 4);
    let shape = [1, groups as usize * m.random.between(1, 5) as usize, m.dim(), m.dim()];
    let x = m.value(
        DType::F32,
        |s| s.len() == 4 && s[1] > 0 && s[1] % groups as usize == 0 && !s.contains(&0),
        &shape,
    );
    let s: Vec<i64> = m.shape(x).iter().map(|&d| d as i64).collect();
    let (apart, back) = (m.ints(&[s[0], groups, s[1] / groups, s[2], s[3]]), m.ints(&[s[0], -1, s[2], s[3]]));
    let y = m.one("Reshape", &[x, apart], &[])?;
    let y = m.one("Transpose", &[y], &[("perm", Attr::Ints(vec![0, 2, 1, 3, 4]))])?;
    m.one("Reshape", &[y, back], &[]).map(drop)
}

/// A roll by Slice and Concat, then windows by a Reshape to six dimensions and a Transpose.
fn windows(m: &mut Maker) -> Option<()> {
    let (w, c) = (m.random.between(2, 4), m.dim() as i64);
    let (h, k) = (w * m.random.between(1, 3), w * m.random.between(1, 3));
    let mut x = m.fresh(DType::F32, &[1, h as usize, k as usize, c as usize]);
    let by = m.random.between(1, w - 1);
    for axis in 1..3 {
        let axes = m.ints(&[axis]);
        let (zero, by, end) = (m.ints(&[0]), m.ints(&[by]), m.ints(&[i64::MAX]));
        if m.opset < 10 {
            return None;
        }
        let (a, b) = (m.one("Slice", &[x, by, end, axes], &[])?, m.one("Slice", &[x, zero, by, axes], &[])?);
        x = m.one("Concat", &[a, b], &[("axis", Attr::Int(axis))])?;
    }
    let (apart, flat) = (m.ints(&[1, h / w, w, k / w, w, c]), m.ints(&[-1, w * w, c]));
    let y = m.one("Reshape", &[x, apart], &[])?;
    let y = m.one("Transpose", &[y], &[("perm", Attr::Ints(vec![0, 1, 3, 2, 4, 5]))])?;
    m.one("Reshape", &[y, flat], &[]).map(drop)
}
