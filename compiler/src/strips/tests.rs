//! All strips of random chains against the definitions one after the other, bit for bit.

use super::chain::{Chain, Link, Part};
use super::emit::Emit;
use super::frame::{Unit, units};
use super::rates::Rates;
use super::split::{Cut, stages, within};
use crate::base::{DType, Tensor, TensorType};
use crate::definition::{DefBuilder, Env, Lowering, ValueId, interpret, verify};
use crate::group;
use crate::scalar::{Fold, Op, Scalar};
use crate::schedule::linear::Layout;
use crate::tile::random::Rng;
use std::rc::Rc;

/// `[1, channels, rows, columns]` under construction.
struct Chained {
    low: Lowering,
    rng: Rng,
}

impl Chained {
    fn tensor(&mut self, shape: &[usize]) -> Tensor {
        let numbers: Vec<f32> =
            (0..shape.iter().product()).map(|_| self.rng.below(17) as f32 - 8.0).collect();
        Tensor::new(shape.to_vec(), &numbers)
    }

    fn shape(&self, v: ValueId) -> Vec<usize> {
        self.low.values[v as usize].ty.shape.clone()
    }

    /// A convolution of random window, step, padding and dilation, by channel or over channels; with
    /// `beside` added where the shapes are the same.
    fn window(&mut self, from: ValueId, beside: Option<ValueId>) -> Option<ValueId> {
        let [_, c, h, w] = <[usize; 4]>::try_from(self.shape(from)).ok()?;
        let k = self.rng.pick(&[1, 1, 2, 3, 5]);
        let step = self.rng.pick(&[1, 1, 2, 3]);
        let dilation = if k > 1 { self.rng.pick(&[1, 1, 2]) } else { 1 };
        let (before, after) = (self.rng.below(k), self.rng.below(k));
        let reach = dilation * (k - 1) + 1;
        let out = |n: usize| Some((n + before + after).checked_sub(reach)? / step + 1);
        let (oh, ow) = (out(h)?, out(w)?);
        let deep = self.rng.chance(50);
        let o = if deep { 2 + self.rng.below(3) } else { c };
        let weights = self.tensor(&[o, if deep { c } else { 1 }, k, k]);
        let weights_ty = weights.ty.clone();
        let weights = self.low.constant(format!("w{}", self.low.values.len()), weights);
        let rim = if self.rng.chance(40) { [0, 1, 2, 3].map(|_| self.rng.below(3)) } else { [0; 4] };
        let [top, bottom, left, right] = rim;
        let ty = TensorType::new(DType::F32, [1, o, oh + top + bottom, ow + left + right]);
        let to = self.low.temporary(format!("y{}", self.low.values.len()), ty.clone());
        let mut b = DefBuilder::new(&[1, o, oh, ow]);
        let sums = [("c", if deep { c } else { 1 }), ("k0", k), ("k1", k)].map(|(n, e)| b.reduce(n, e));
        let at = |b: &DefBuilder, axis: usize, k: usize| {
            let along = b.var(axis).scaled(step as i64);
            along.plus_scaled(&sums[k], dilation as i64).offset(-(before as i64))
        };
        let channel = if deep { sums[0].clone() } else { b.var(1) };
        let index = vec![b.var(0), channel, at(&b, 2, 1), at(&b, 3, 2)];
        let from_ty = self.low.values[from as usize].ty.clone();
        let x = b.load_padded(from, &from_ty, index, Scalar::from_f64(DType::F32, 0.0));
        let index = vec![b.var(1), sums[0].clone(), sums[1].clone(), sums[2].clone()];
        let f = b.load(weights, &weights_ty, index);
        let product = b.op(Op::Mul, &[x, f]);
        let mut sum = b.fold(Fold::Sum, product);
        if let Some(beside) = beside.filter(|&v| self.shape(v) == ty.shape) {
            let axes = b.axes();
            let other = b.load(beside, &ty, axes);
            sum = b.op(Op::Add, &[sum, other]);
        }
        let store = vec![b.var(0), b.var(1), b.var(2).offset(top as i64), b.var(3).offset(left as i64)];
        self.low.define(b.finish_at("window", to, &ty, store, sum));
        self.rim(to, rim);
        Some(to)
    }

    /// What surrounds a tensor's middle: constants, by definitions of their own.
    fn rim(&mut self, to: ValueId, [top, bottom, left, right]: [usize; 4]) {
        let ty = self.low.values[to as usize].ty.clone();
        let [_, c, h, w] = <[usize; 4]>::try_from(ty.shape.clone()).expect("four dimensions");
        let rows = h - top - bottom;
        let parts =
            [(0, 0, top, w), (h - bottom, 0, bottom, w), (top, 0, rows, left), (top, w - right, rows, right)];
        for (y, x, rows, columns) in parts.into_iter().filter(|p| p.2 * p.3 > 0) {
            let mut b = DefBuilder::new(&[1, c, rows, columns]);
            let store = vec![b.var(0), b.var(1), b.var(2).offset(y as i64), b.var(3).offset(x as i64)];
            let element = b.constant(Scalar::from_f64(DType::F32, 3.0));
            self.low.define(b.finish_at("rim", to, &ty, store, element));
        }
    }
}

/// Scores of queries by keys, less their largest, times values: what attention does to its rows.
fn attention(rng: Rng) -> Lowering {
    let mut made = Chained { low: Lowering::default(), rng };
    let (heads, rows, keys, depth) = (3, 8, 5, 4);
    let tensors = [[heads, rows, depth], [heads, keys, depth], [heads, keys, depth]];
    let [q, k, v] = tensors.map(|shape| {
        let tensor = made.tensor(&shape);
        made.low.constant(format!("x{}", made.low.values.len()), tensor)
    });
    let ty = |low: &Lowering, v: ValueId| low.values[v as usize].ty.clone();
    let scores = TensorType::new(DType::F32, [heads, rows, keys]);
    let most = TensorType::new(DType::F32, [heads, rows, 1]);
    // Heads beside each other in the rows of the result.
    let result = TensorType::new(DType::F32, [rows, heads * depth]);
    let [s, m, y] =
        [("s", &scores), ("m", &most), ("y", &result)].map(|(name, ty)| made.low.temporary(name, ty.clone()));
    let mut b = DefBuilder::new(&scores.shape);
    let d = b.reduce("d", depth);
    let x = b.load(q, &ty(&made.low, q), vec![b.var(0), b.var(1), d.clone()]);
    let z = b.load(k, &ty(&made.low, k), vec![b.var(0), b.var(2), d]);
    let product = b.op(Op::Mul, &[x, z]);
    let sum = b.fold(Fold::Sum, product);
    made.low.define(b.finish("scores", s, &scores, sum));
    let mut b = DefBuilder::new(&most.shape);
    let key = b.reduce("key", keys);
    let x = b.load(s, &scores, vec![b.var(0), b.var(1), key]);
    let largest = b.fold(Fold::Max, x);
    made.low.define(b.finish("most", m, &most, largest));
    let mut b = DefBuilder::new(&[heads, rows, depth]);
    let key = b.reduce("key", keys);
    let x = b.load(s, &scores, vec![b.var(0), b.var(1), key.clone()]);
    let l = b.load(m, &most, vec![b.var(0), b.var(1), crate::base::Affine::constant(0)]);
    let less = b.op(Op::Sub, &[x, l]);
    let z = b.load(v, &ty(&made.low, v), vec![b.var(0), key, b.var(2)]);
    let product = b.op(Op::Mul, &[less, z]);
    let sum = b.fold(Fold::Sum, product);
    let store = vec![b.var(1), b.var(0).scaled(depth as i64).plus(&b.var(2))];
    made.low.define(b.finish_at("values", y, &result, store, sum));
    made.low
}

fn result(low: &Lowering, value: ValueId) -> Tensor {
    let mut env = Env::new(low);
    interpret(low, &mut env).expect("stages that run");
    env.get(value, &low.values[value as usize].ty).expect("a result")
}

/// All strips of a chain, and of its pieces.
fn cuts<'a>(chain: Chain<'a>, layouts: &[Layout]) -> Vec<Cut<'a>> {
    let inner = within(&chain, layouts);
    let whole = Rc::new(chain);
    let mut chains: Vec<(Option<Rc<Chain<'a>>>, Rc<Chain<'a>>)> = vec![(None, whole.clone())];
    chains.extend(inner.into_iter().map(|chain| (Some(whole.clone()), Rc::new(chain))));
    let cuts = chains.into_iter().flat_map(|(around, chain)| {
        let heights = 1..=chain.links.last().map_or(0, Link::rows);
        let rates = heights.filter_map(|rows| Rates::of(&chain, rows)).collect::<Vec<_>>();
        rates.into_iter().map(move |rates| Cut { around: around.clone(), chain: chain.clone(), rates })
    });
    cuts.collect()
}

/// Compares all strips of a lowering's definitions; says how many there are, and how many of pieces.
fn compare(low: &Lowering) -> (usize, usize) {
    let units = units(low.stages.clone());
    let parts: Vec<Part> = units.iter().filter_map(Unit::part).collect();
    let last = parts[parts.len() - 1].def;
    let wanted = result(low, last.output.value);
    let layouts = group::layouts(low, &[]);
    let mut found = (0, 0);
    for cut in (0..last.axes as u32)
        .filter_map(|axis| Chain::of(&parts, axis, &layouts))
        .flat_map(|chain| cuts(chain, &layouts))
    {
        let mut strips = Lowering { stages: Vec::new(), ..low.clone() };
        let mut layouts = layouts.clone();
        strips.stages = stages(&mut Emit { lowering: &mut strips, layouts: &mut layouts }, &cut);
        strips.stages.extend_from_slice(&units[units.len() - 1].stages[1..]);
        assert_eq!(layouts.len(), strips.values.len());
        verify(&strips).unwrap_or_else(|e| panic!("{low}{strips}: {e:?}"));
        assert_eq!(result(&strips, last.output.value), wanted, "{low}{strips}");
        *(if cut.around.is_some() { &mut found.1 } else { &mut found.0 }) += 1;
    }
    found
}

#[test]
fn strips_of_windows_compute_the_same() {
    let mut found = 0;
    for seed in 0..100 {
        let mut made = Chained { low: Lowering::default(), rng: Rng(seed + 1) };
        let (h, w) = (6 + made.rng.below(20), 3 + made.rng.below(5));
        let x = made.tensor(&[1, 2, h, w]);
        let mut values = vec![made.low.constant("x", x)];
        for _ in 0..2 + made.rng.below(3) {
            let beside = if made.rng.chance(40) { Some(made.rng.pick(&values)) } else { None };
            let from = values[values.len() - 1];
            values.extend(made.window(from, beside));
        }
        if values.len() > 2 {
            found += compare(&made.low).0;
        }
    }
    assert!(found > 100, "{found}");
}

#[test]
fn strips_of_attention_compute_the_same() {
    // Along the heads and along the queries, and along the queries of each head.
    let (plain, pieces) = compare(&attention(Rng(1)));
    assert!(plain >= 4 && pieces >= 4, "{plain} {pieces}");
}
