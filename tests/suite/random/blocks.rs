//! Recipes of blocks of convolutional nets, and of chains of half floats.

use super::layers::batch_norm;
use super::maker::{Maker, V};
use super::recipes::{Recipe, beside};
use super::windows::{conv, image};
use lmc::base::DType;
use lmc::graph::Attr;

pub const RECIPES: &[(&str, Recipe)] = &[
    ("Conv, normalization, activation, sum", residual),
    ("Squeeze and excite", squeeze_excite),
    ("Chain of half floats", |m| halves(m, DType::F16)),
    ("Chain of short floats", |m| halves(m, DType::BF16)),
    ("Net of half floats", half_net),
];

const F: DType = DType::F32;
const BINARY: &[&str] = &["Add", "Sub", "Mul", "Max", "Min"];

/// One of the activations that nets have, some of several nodes.
pub fn activation(m: &mut Maker, x: V) -> Option<V> {
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

/// Elements of another type.
pub fn cast(m: &mut Maker, x: V, to: DType) -> Option<V> {
    m.one("Cast", &[x], &[("to", Attr::Int(to as i64))])
}

/// Some layers on half floats, from floats and back to them.
fn halves(m: &mut Maker, half: DType) -> Option<()> {
    let shape = m.extents(3);
    if shape.contains(&0) {
        return None;
    }
    if half == DType::BF16 && m.opset < 13 {
        return None;
    }
    let x = m.fresh(DType::F32, &shape);
    let mut y = cast(m, x, half)?;
    let mut made = vec![y];
    for _ in 0..m.random.between(1, 3) {
        let last = *m.shape(y).last()?;
        y = match m.random.below(6) {
            0 => {
                let (k, n) = (last, m.dim());
                let w = m.weights(&[k, n], k);
                let w = cast(m, w, half)?;
                made.push(w);
                m.one("MatMul", &[y, w], &[])?
            }
            1 => m.one("Softmax", &[y], &[("axis", Attr::Int(2))])?,
            2 => {
                let other = m.data(half, &[last]);
                let other = m.constant(other);
                let op = m.random.pick(BINARY);
                m.one(op, &[y, other], &[])?
            }
            3 => m.one("Transpose", &[y], &[("perm", Attr::Ints(vec![0, 2, 1]))])?,
            4 => m.one("Concat", &[y, y], &[("axis", Attr::Int(1))])?,
            _ => {
                let op = m.random.pick(&["Relu", "Neg", "Abs", "Sigmoid", "Tanh"]);
                m.one(op, &[y], &[])?
            }
        };
        made.push(y);
    }
    m.close(&made);
    let z = cast(m, y, DType::F32)?;
    m.close(&[z]);
    Some(())
}

/// Convolutions, normalizations and activations of half floats, as converters leave them.
fn half_net(m: &mut Maker) -> Option<()> {
    let shape = [1, m.dim(), m.random.between(3, 12) as usize, m.random.between(3, 12) as usize];
    let x = m.data(DType::F16, &shape);
    let mut y = m.input(x);
    let mut made = Vec::new();
    for _ in 0..m.random.between(1, 4) {
        let c = m.shape(y)[1];
        y = match m.random.below(6) {
            0..=2 => {
                let (k, depthwise) = (m.random.pick(&[1usize, 3]), m.random.chance(30));
                let (out, groups) = if depthwise { (c, c) } else { (m.dim(), 1) };
                let (w, bias) =
                    (m.weights(&[out, c / groups, k, k], c / groups * k * k), m.data(DType::F16, &[out]));
                let (w, bias) = (m.narrowed(w, DType::F16), m.constant(bias));
                let pads = vec![(k as i64 - 1) / 2; 4];
                let attrs = [("pads", Attr::Ints(pads)), ("group", Attr::Int(groups as i64))];
                let y = m.one("Conv", &[y, w, bias], &attrs)?;
                made.push(y);
                let op = m.random.pick(&["Relu", "Sigmoid", "Tanh", "HardSigmoid"]);
                m.one(op, &[y], &[])?
            }
            3 => {
                let other = m.data(DType::F16, &[1, c, 1, 1]);
                let other = m.constant(other);
                let op = m.random.pick(BINARY);
                m.one(op, &[y, other], &[])?
            }
            4 => m.one("MaxPool", &[y], &[("kernel_shape", Attr::Ints(vec![2, 2]))])?,
            _ => {
                let mean = m.one("GlobalAveragePool", &[y], &[])?;
                made.push(mean);
                m.one("Mul", &[y, mean], &[])?
            }
        };
        made.push(y);
        if m.shape(y)[2..].iter().any(|&d| d < 3) {
            break;
        }
    }
    m.close(&made);
    Some(())
}
