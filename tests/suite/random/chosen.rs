//! Recipes of results whose size depends on the data, and of what reads them. The maker types them at
//! their bounds, so they are read here alone.

use super::maker::{Maker, V};
use super::moves::with_axes;
use super::recipes::Recipe;
use super::windows::ints;
use lmc::base::{DType, Tensor, TensorType};
use lmc::graph::Attr;

pub const RECIPES: &[(&str, Recipe)] = &[
    ("Elements that are not zero", found),
    ("Rows that are kept", kept),
    ("Rows that are distinct", distinct),
    ("Boxes that are kept", boxes),
];

const F: DType = DType::F32;

/// What is done with rows of any number; all that is left of them are outputs.
fn rows(m: &mut Maker, x: V, made: &mut Vec<V>) -> Option<()> {
    let shape = m.shape(x);
    let width = *shape.last()?;
    let mut y = x;
    for _ in 0..m.random.between(1, 3) {
        y = match m.random.below(7) {
            0 => m.one("Sigmoid", &[y], &[])?,
            1 => {
                let k = *m.shape(y).last()?;
                let w = m.weights(&[k, 6], k);
                m.one("MatMul", &[y, w], &[])?
            }
            2 => {
                let k = *m.shape(y).last()?;
                let other = m.fresh(F, &[k]);
                m.one("Add", &[y, other], &[])?
            }
            3 if width > 0 => m.one("Softmax", &[y], &[("axis", Attr::Int(1))])?,
            4 => {
                let axis = m.random.between(0, 1);
                m.one("Concat", &[y, y], &[("axis", Attr::Int(axis))])?
            }
            5 => {
                let top = m.fresh(F, &[2, *m.shape(y).last()?]);
                m.one("Concat", &[top, y], &[("axis", Attr::Int(0))])?
            }
            _ => m.one("Relu", &[y], &[])?,
        };
        made.push(y);
    }
    if m.random.chance(40) {
        let y = if m.opset < 13 {
            m.one("ReduceSum", &[y], &[("axes", ints([0]))])?
        } else {
            let axes = m.ints(&[0]);
            m.one("ReduceSum", &[y, axes], &[])?
        };
        made.push(y);
    }
    if m.random.chance(30) {
        made.push(m.one("Shape", &[x], &[])?);
    }
    Some(())
}

fn closed(m: &mut Maker, recipe: fn(&mut Maker, &mut Vec<V>) -> Option<()>) -> Option<()> {
    let mut made = Vec::new();
    let done = recipe(m, &mut made);
    m.close(&made);
    done
}

/// Places of a mask, and the rows there.
fn found(m: &mut Maker) -> Option<()> {
    closed(m, |m, made| {
        if m.opset < 11 {
            return None;
        }
        let (a, b, width) = (m.dim(), m.dim(), m.random.between(1, 9) as usize);
        let flags = m.data(DType::Bool, &[a, b]);
        let flags = m.input(flags);
        let places = m.one("NonZero", &[flags], &[])?;
        let across = m.one("Transpose", &[places], &[("perm", ints([1, 0]))])?;
        made.extend([places, across]);
        let x = m.fresh(F, &[a, b, width]);
        let y = m.one("GatherND", &[x, across], &[])?;
        made.push(y);
        rows(m, y, made)
    })
}

fn kept(m: &mut Maker) -> Option<()> {
    closed(m, |m, made| {
        if m.opset < 11 {
            return None;
        }
        let (n, width) = (m.dim(), m.dim());
        let scores = m.fresh(F, &[n]);
        let least = m.number(0.25);
        let flags = m.one("Greater", &[scores, least], &[])?;
        let x = m.fresh(F, &[n, width]);
        let y = m.one("Compress", &[x, flags], &[("axis", Attr::Int(0))])?;
        made.extend([flags, y]);
        let kept = m.one("Compress", &[scores, flags], &[("axis", Attr::Int(0))])?;
        made.push(kept);
        let column = with_axes(m, "Unsqueeze", kept, &[1])?;
        let y = m.one("Mul", &[y, column], &[])?;
        made.extend([column, y]);
        rows(m, y, made)
    })
}

fn distinct(m: &mut Maker) -> Option<()> {
    closed(m, |m, made| {
        if m.opset < 11 {
            return None;
        }
        let (n, width) = (m.dim(), m.random.between(1, 3) as usize);
        let kind = m.random.pick(&[DType::I64, DType::F32, DType::I32, DType::I8]);
        let values: Vec<i64> = (0..n * width).map(|_| m.random.between(-1, 2)).collect();
        let bytes = |v: &i64| {
            lmc::scalar::Scalar::from_f64(kind, *v as f64).bits.to_le_bytes()[..kind.size()].to_vec()
        };
        let data: Vec<u8> = values.iter().flat_map(bytes).collect();
        let x = m.input(Tensor::from_bytes(TensorType::new(kind, [n, width]), data)?);
        let sorted = Attr::Int(m.random.between(0, 1));
        let outputs = m.node("Unique", &[Some(x)], &[("axis", Attr::Int(0)), ("sorted", sorted)], 4)?;
        made.extend(&outputs);
        let y = m.one("Cast", &[outputs[0]], &[("to", Attr::Int(F as i64))])?;
        made.push(y);
        rows(m, y, made)?;
        let weights = m.fresh(F, &[n, 4]);
        let y = m.one("Gather", &[weights, outputs[1]], &[])?;
        made.push(y);
        Some(())
    })
}

/// As detectors end: boxes chosen by their scores, and what belongs to them.
fn boxes(m: &mut Maker) -> Option<()> {
    closed(m, |m, made| {
        if m.opset < 11 {
            return None;
        }
        let (n, classes) = (m.random.between(1, 20) as usize, m.random.between(1, 3) as usize);
        let corners: Vec<f32> = (0..n)
            .flat_map(|_| {
                let [y, x] = [0; 2].map(|_| m.random.between(0, 20) as f32);
                let [h, w] = [0; 2].map(|_| m.random.between(2, 12) as f32);
                [y, x, y + h, x + w]
            })
            .collect();
        let order = m.random.order(n * classes);
        let scores: Vec<f32> = order.iter().map(|&o| (o + 1) as f32 / 64.0).collect();
        let places = m.input(Tensor::new([1, n, 4], &corners));
        let scores = m.input(Tensor::new([1, classes, n], &scores));
        let most = m.random.between(1, 8);
        let most = m.ints(&[most]);
        let (overlap, least) =
            (m.constant(Tensor::new([1], &[0.37f32])), m.constant(Tensor::new([1], &[0.1f32])));
        let chosen = m.one("NonMaxSuppression", &[places, scores, most, overlap, least], &[])?;
        made.push(chosen);
        let (from, to, axes) = (m.ints(&[2]), m.ints(&[3]), m.ints(&[1]));
        let which = m.one("Slice", &[chosen, from, to, axes], &[])?;
        made.push(which);
        let which = with_axes(m, "Squeeze", which, &[1])?;
        let flat = m.ints(&[n as i64, 4]);
        let all = m.one("Reshape", &[places, flat], &[])?;
        let y = m.one("Gather", &[all, which], &[])?;
        made.extend([which, y]);
        rows(m, y, made)
    })
}
