//! Recipes of layers: normalizations, recurrent nets, samples.

use super::maker::{Maker, V};
use super::recipes::Recipe;
use super::windows::image;
use lmc::base::{DType, Tensor};
use lmc::graph::Attr;

pub const RECIPES: &[(&str, Recipe)] = &[
    ("GlobalAveragePool", |m| global(m, "GlobalAveragePool")),
    ("GlobalMaxPool", |m| global(m, "GlobalMaxPool")),
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
];

const F: DType = DType::F32;

fn global(m: &mut Maker, op: &str) -> Option<()> {
    let x = image(m);
    m.one(op, &[x], &[]).map(drop)
}

/// Constants that are not near 0.
pub fn positive(m: &mut Maker, n: usize) -> V {
    let values: Vec<f32> = (0..n).map(|_| m.random.between(20, 128) as f32 / 64.0).collect();
    m.constant(Tensor::new([n], &values))
}

/// A normalization by constants.
pub fn batch_norm(m: &mut Maker, x: V) -> Option<V> {
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

/// What recurrent nets may use for gates and states, with the default parameters.
const FUNCTIONS: &[&str] =
    &["Sigmoid", "Tanh", "Relu", "HardSigmoid", "LeakyRelu", "Elu", "Softsign", "Softplus"];

fn recurrent(m: &mut Maker, op: &str, gates: usize) -> Option<()> {
    let (time, batch, size, hidden) =
        (m.random.between(1, 7) as usize, m.random.between(1, 3) as usize, m.dim(), m.dim());
    let x = m.value(F, |s| s.len() == 3 && !s.contains(&0) && s[0] < 12, &[time, batch, size]);
    let s = m.shape(x);
    let direction = m.random.pick(&["forward", "reverse", "bidirectional"]);
    let d = if direction == "bidirectional" { 2 } else { 1 };
    let w = m.weights(&[d, gates * hidden, s[2]], s[2]);
    let r = m.weights(&[d, gates * hidden, hidden], hidden);
    let bias = m.fresh(F, &[d, 2 * gates * hidden]);
    let lengths: Vec<i32> = (0..s[1]).map(|_| m.random.between(1, s[0] as i64) as i32).collect();
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
        attrs.push(("linear_before_reset", Attr::Int(m.random.between(0, 1))));
    }
    if m.random.chance(20) {
        attrs.push(("clip", Attr::Float(0.5)));
    }
    if m.random.chance(30) {
        let functions = (gates - 1).max(1);
        let names: Vec<&str> = (0..d * functions).map(|_| m.random.pick(FUNCTIONS)).collect();
        attrs.push(("activations", Attr::Strs(names.iter().map(|n| n.to_string()).collect())));
    }
    m.node(op, &inputs, &attrs, if op == "LSTM" { 3 } else { 2 }).map(drop)
}

fn grid(m: &mut Maker) -> Option<()> {
    let shape = [1, m.dim(), m.random.between(2, 9) as usize, m.random.between(2, 9) as usize];
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
        ("align_corners", Attr::Int(m.random.between(0, 1))),
    ];
    m.one("GridSample", &[x, places], &attrs).map(drop)
}
