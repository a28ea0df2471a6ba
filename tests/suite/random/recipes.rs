//! How random nodes of each operator are made. A recipe makes only what ONNX allows; operators that
//! no list names are tried with tensors of shapes that broadcast, which the table's own inference
//! accepts or not.

use super::maker::{Maker, V};
use super::{
    blocks, bodies, chosen, layers, layouts, moves, nets, quantized, structured, transformers, windows,
};
use lmc::base::{DType, Tensor};
use lmc::graph::Attr;

/// Adds one or some nodes.
pub type Recipe = fn(&mut Maker) -> Option<()>;

/// Operators with a recipe of their own, and patterns of several nodes.
pub fn all() -> impl Iterator<Item = (&'static str, Recipe)> {
    let lists = [
        SUMS,
        moves::RECIPES,
        windows::RECIPES,
        layers::RECIPES,
        quantized::RECIPES,
        blocks::RECIPES,
        nets::RECIPES,
        structured::RECIPES,
        transformers::RECIPES,
        layouts::RECIPES,
        chosen::RECIPES,
        bodies::RECIPES,
    ];
    lists.into_iter().flatten().copied()
}

/// Operators that no random graph has, and why.
pub const LEFT_OUT: &[(&str, &str)] = &[
    ("Constant", "it has no inputs"),
    ("RandomUniform", "no other implementation draws the same numbers"),
    ("RandomUniformLike", "no other implementation draws the same numbers"),
    ("RandomNormal", "no other implementation draws the same numbers"),
    ("RandomNormalLike", "no other implementation draws the same numbers"),
    ("Bernoulli", "no other implementation draws the same numbers"),
    ("Multinomial", "no other implementation draws the same numbers"),
    ("ai.onnx.preview.FlexAttention", "ONNX's own cases are all there is to compare with"),
    ("com.microsoft.DynamicQuantizeLSTM", "its inputs are not rounded as ONNX Runtime's are"),
];

const SUMS: &[(&str, Recipe)] = &[
    ("ReduceSum", |m| reduce(m, "ReduceSum", 13)),
    ("ReduceMean", |m| reduce(m, "ReduceMean", 18)),
    ("ReduceMax", |m| reduce(m, "ReduceMax", 18)),
    ("ReduceMin", |m| reduce(m, "ReduceMin", 18)),
    ("ReduceL1", |m| reduce(m, "ReduceL1", 18)),
    ("ReduceL2", |m| reduce(m, "ReduceL2", 18)),
    ("ReduceProd", |m| reduce(m, "ReduceProd", 18)),
    ("ReduceSumSquare", |m| reduce(m, "ReduceSumSquare", 18)),
    ("ReduceLogSumExp", |m| reduce(m, "ReduceLogSumExp", 18)),
    ("ArgMax", |m| arg(m, "ArgMax")),
    ("ArgMin", |m| arg(m, "ArgMin")),
    ("CumSum", cumsum),
    ("Softmax", |m| along(m, "Softmax")),
    ("LogSoftmax", |m| along(m, "LogSoftmax")),
    ("Hardmax", |m| along(m, "Hardmax")),
    ("LpNormalization", lp),
    ("MatMul", matmul),
    ("Gemm", gemm),
    ("Einsum", einsum),
    ("TopK", top_k),
    ("Cast", cast),
    ("Clip", clip),
    ("Where", choose),
    ("Pow", pow),
    ("Div", |m| beside_zero(m, "Div")),
    ("Log", |m| beside_zero(m, "Log")),
    ("ReduceLogSum", |m| beside_zero(m, "ReduceLogSum")),
    ("Neg", |m| {
        let x = m.any(0);
        m.one("Neg", &[x], &[]).map(drop)
    }),
    ("ai.onnx.ml.Normalizer", |m| {
        let x = m.floats(2);
        let norm = m.random.pick(&["MAX", "L1", "L2"]);
        m.one("ai.onnx.ml.Normalizer", &[x], &[("norm", Attr::Str(norm.into()))]).map(drop)
    }),
    ("SimplifiedLayerNormalization", |m| simplified(m, "SimplifiedLayerNormalization")),
    ("com.microsoft.SimplifiedLayerNormalization", |m| {
        simplified(m, "com.microsoft.SimplifiedLayerNormalization")
    }),
    ("Unique", |m| {
        let (dtype, length) = (m.random.pick(&[DType::I64, DType::F32, DType::I8]), m.dim());
        let x = m.fresh(dtype, &[length]);
        let sorted = Attr::Int(m.random.between(0, 1));
        let outputs = m.random.between(1, 4) as usize;
        let made = m.node("Unique", &[Some(x)], &[("sorted", sorted)], outputs)?;
        m.close(&made);
        Some(())
    }),
    ("NonZero", |m| {
        // Of a scalar ONNX Runtime gives a row; ONNX's definition gives none.
        let x = m.any(1);
        let made = m.one("NonZero", &[x], &[])?;
        m.close(&[made]);
        Some(())
    }),
    ("Dropout", |m| {
        let x = m.any(0);
        m.one("Dropout", &[x], &[]).map(drop)
    }),
    ("Sqrt", |m| beside_zero(m, "Sqrt")),
    ("Reciprocal", |m| beside_zero(m, "Reciprocal")),
    ("Exp", |m| bounded(m, "Exp")),
    ("Sinh", |m| bounded(m, "Sinh")),
    ("Cosh", |m| bounded(m, "Cosh")),
    ("Asin", |m| bounded(m, "Asin")),
    ("Acos", |m| bounded(m, "Acos")),
    ("Atanh", |m| bounded(m, "Atanh")),
    ("Tan", |m| bounded(m, "Tan")),
    ("Gelu", |m| {
        let x = m.any(0);
        let how = m.random.pick(&["none", "tanh"]);
        m.one("Gelu", &[x], &[("approximate", Attr::Str(how.into()))]).map(drop)
    }),
    ("LeakyRelu", |m| alpha(m, "LeakyRelu")),
    ("Elu", |m| alpha(m, "Elu")),
    ("HardSigmoid", |m| alpha(m, "HardSigmoid")),
    ("PRelu", prelu),
];

fn simplified(m: &mut Maker, op: &str) -> Option<()> {
    let x = m.any(1);
    let size = *m.shape(x).last()?;
    let scale = m.fresh(DType::F32, &[size]);
    m.one(op, &[x, scale], &[]).map(drop)
}

/// Axes as an attribute, or as an input since an opset.
fn reduce(m: &mut Maker, op: &str, since: i64) -> Option<()> {
    let x = m.any(1);
    let rank = m.shape(x).len();
    let count = m.random.between(1, rank as i64) as usize;
    let mut axes: Vec<i64> = m.random.order(rank)[..count].iter().map(|&a| a as i64).collect();
    axes.sort();
    if m.random.chance(30) {
        axes.iter_mut().for_each(|a| *a -= rank as i64);
    }
    let empty = axes.iter().any(|a| m.shape(x)[a.rem_euclid(rank as i64) as usize] == 0);
    if empty && op != "ReduceSum" {
        return None;
    }
    let keep = ("keepdims", Attr::Int(m.random.between(0, 1)));
    let all = m.random.chance(15);
    if m.opset >= since {
        let axes = m.ints(&axes);
        let inputs = if all { vec![x] } else { vec![x, axes] };
        m.one(op, &inputs, &[keep]).map(drop)
    } else if all {
        m.one(op, &[x], &[keep]).map(drop)
    } else {
        m.one(op, &[x], &[keep, ("axes", Attr::Ints(axes))]).map(drop)
    }
}

fn axis_of(m: &mut Maker, v: V) -> i64 {
    let rank = m.shape(v).len() as i64;
    m.random.between(-rank, rank - 1)
}

fn arg(m: &mut Maker, op: &str) -> Option<()> {
    let x = m.any(1);
    if m.ty(x).elems() == 0 {
        return None;
    }
    let mut attrs = vec![("axis", Attr::Int(axis_of(m, x))), ("keepdims", Attr::Int(m.random.between(0, 1)))];
    if m.opset >= 12 {
        attrs.push(("select_last_index", Attr::Int(m.random.between(0, 1))));
    }
    m.one(op, &[x], &attrs).map(drop)
}

fn cumsum(m: &mut Maker) -> Option<()> {
    let x = m.any(1);
    let axis = axis_of(m, x);
    let axis = m.constant(Tensor::scalar(axis));
    let flag = |m: &mut Maker| Attr::Int(m.random.between(0, 1));
    let attrs = [("exclusive", flag(m)), ("reverse", flag(m))];
    m.one("CumSum", &[x, axis], &attrs).map(drop)
}

fn along(m: &mut Maker, op: &str) -> Option<()> {
    let x = m.any(1);
    let axis = axis_of(m, x);
    let axis = if m.opset < 11 { axis.rem_euclid(m.shape(x).len() as i64) } else { axis };
    m.one(op, &[x], &[("axis", Attr::Int(axis))]).map(drop)
}

fn lp(m: &mut Maker) -> Option<()> {
    let x = m.any(1);
    let y = m.one("Sigmoid", &[x], &[])?;
    let attrs = [("axis", Attr::Int(axis_of(m, x))), ("p", Attr::Int(m.random.between(1, 2)))];
    m.one("LpNormalization", &[y], &attrs).map(drop)
}

fn matmul(m: &mut Maker) -> Option<()> {
    let a = m.any(1);
    let shape = m.shape(a);
    let k = *shape.last()?;
    let n = m.dim();
    let second = match m.random.below(4) {
        0 => vec![k],
        1 if shape.len() > 2 => {
            let mut batch = shape[..shape.len() - 2].to_vec();
            if m.random.chance(30) {
                batch[0] = 1;
            }
            batch.extend([k, n]);
            batch
        }
        _ => vec![k, n],
    };
    let b = if m.random.chance(60) { m.weights(&second, k) } else { m.fresh(DType::F32, &second) };
    let swapped = shape.len() == 1 && second.len() == 2 && m.random.chance(30);
    if swapped {
        let t = m.one("Transpose", &[b], &[("perm", Attr::Ints(vec![1, 0]))])?;
        return m.one("MatMul", &[t, a], &[]).map(drop);
    }
    m.one("MatMul", &[a, b], &[]).map(drop)
}

fn gemm(m: &mut Maker) -> Option<()> {
    let a = m.floats(2);
    let (ta, tb) = (m.random.chance(30), m.random.chance(50));
    let shape = m.shape(a);
    let (rows, k) = if ta { (shape[1], shape[0]) } else { (shape[0], shape[1]) };
    let n = m.dim();
    let b = m.weights(&if tb { [n, k] } else { [k, n] }, k);
    let c = match m.random.below(5) {
        0 => vec![],
        1 => vec![1, n],
        2 => vec![rows, 1],
        3 => vec![rows, n],
        _ => vec![n],
    };
    let c = m.fresh(DType::F32, &c);
    let attrs = [
        ("transA", Attr::Int(ta.into())),
        ("transB", Attr::Int(tb.into())),
        ("alpha", Attr::Float(m.random.pick(&[1.0, 0.5, -2.0]))),
        ("beta", Attr::Float(m.random.pick(&[1.0, 0.25, 0.0]))),
    ];
    let with_c = m.opset < 11 || m.random.chance(80);
    m.one("Gemm", &if with_c { vec![a, b, c] } else { vec![a, b] }, &attrs).map(drop)
}

fn einsum(m: &mut Maker) -> Option<()> {
    let d = m.extents(4);
    let (text, shapes): (&str, Vec<Vec<usize>>) = match m.random.below(8) {
        0 => ("ij,jk->ik", vec![vec![d[0], d[1]], vec![d[1], d[2]]]),
        1 => ("bhid,bhjd->bhij", vec![vec![1, d[0], d[1], d[2]], vec![1, d[0], d[3], d[2]]]),
        2 => ("bhij,bhjd->bihd", vec![vec![1, d[0], d[1], d[2]], vec![1, d[0], d[2], d[3]]]),
        3 => ("i,j->ij", vec![vec![d[0]], vec![d[1]]]),
        4 => ("...ij->...ji", vec![d.clone()]),
        5 => ("ij->j", vec![vec![d[0], d[1]]]),
        6 => ("ii->i", vec![vec![d[0], d[0]]]),
        _ => ("bnc,bc->bn", vec![vec![d[0], d[1], d[2]], vec![d[0], d[2]]]),
    };
    let inputs: Vec<V> = shapes.iter().map(|s| m.fresh(DType::F32, s)).collect();
    m.one("Einsum", &inputs, &[("equation", Attr::Str(text.into()))]).map(drop)
}

fn top_k(m: &mut Maker) -> Option<()> {
    let x = m.any(1);
    let axis = axis_of(m, x);
    let size = m.shape(x)[axis.rem_euclid(m.shape(x).len() as i64) as usize];
    let k = m.random.between(0, size as i64).max(1).min(size as i64);
    if m.opset < 11 {
        return None;
    }
    let k = m.ints(&[k]);
    let attrs = [("axis", Attr::Int(axis)), ("largest", Attr::Int(m.random.between(0, 1)))];
    m.node("TopK", &[Some(x), Some(k)], &attrs, 2).map(drop)
}

fn cast(m: &mut Maker) -> Option<()> {
    use DType::*;
    let (from, to) = (
        m.random.pick(&[F32, F32, F16, F64, I8, U8, I32, I64, Bool]),
        m.random.pick(&[F32, F32, F16, F64, I8, I32, I64, Bool]),
    );
    let rank = m.random.below(4);
    let shape = m.extents(rank);
    let x = m.fresh(from, &shape);
    m.one("Cast", &[x], &[("to", Attr::Int(to as i64))]).map(drop)
}

fn clip(m: &mut Maker) -> Option<()> {
    let x = m.any(0);
    let (lo, hi) = (m.random.pick(&[-1.0, 0.0]), m.random.pick(&[0.75, 6.0]));
    if m.opset < 11 {
        return m.one("Clip", &[x], &[("min", Attr::Float(lo)), ("max", Attr::Float(hi))]).map(drop);
    }
    let (lo, hi) = (m.number(lo), m.number(hi));
    let (use_lo, use_hi) = (m.random.chance(80), m.random.chance(80));
    m.node("Clip", &[Some(x), use_lo.then_some(lo), use_hi.then_some(hi)], &[], 1).map(drop)
}

/// A shape that broadcasts with another one.
pub fn beside(m: &mut Maker, shape: &[usize]) -> Vec<usize> {
    let from = if m.random.chance(40) { m.random.below(shape.len() + 1) } else { 0 };
    shape[from..].iter().map(|&d| if m.random.chance(20) { 1 } else { d }).collect()
}

fn choose(m: &mut Maker) -> Option<()> {
    let x = m.any(0);
    let shape = m.shape(x);
    let (c, y) = (beside(m, &shape), beside(m, &shape));
    let (c, y) = (m.fresh(DType::Bool, &c), m.fresh(DType::F32, &y));
    let inputs = if m.random.chance(50) { [c, x, y] } else { [c, y, x] };
    m.one("Where", &inputs, &[]).map(drop)
}

fn pow(m: &mut Maker) -> Option<()> {
    let x = m.any(0);
    let x = m.one("Sigmoid", &[x], &[])?;
    let power = m.random.pick(&[2.0, 3.0, 0.5, -1.0, 1.5, 0.0]);
    let power = m.number(power);
    m.one("Pow", &[x, power], &[]).map(drop)
}

/// On numbers that are not near 0.
fn beside_zero(m: &mut Maker, op: &str) -> Option<()> {
    let x = m.any(0);
    let y = m.one("Abs", &[x], &[])?;
    let half = m.number(0.5);
    let y = m.one("Add", &[y, half], &[])?;
    let inputs = if op == "Div" { vec![x, y] } else { vec![y] };
    m.one(op, &inputs, &[]).map(drop)
}

/// On numbers between -1 and 1.
fn bounded(m: &mut Maker, op: &str) -> Option<()> {
    let x = m.any(0);
    let y = m.one("Tanh", &[x], &[])?;
    let near = m.number(0.9);
    let y = m.one("Mul", &[y, near], &[])?;
    m.one(op, &[y], &[]).map(drop)
}

fn alpha(m: &mut Maker, op: &str) -> Option<()> {
    let x = m.any(0);
    let alpha = m.random.pick(&[0.1, 0.3]);
    m.one(op, &[x], &[("alpha", Attr::Float(alpha))]).map(drop)
}

fn prelu(m: &mut Maker) -> Option<()> {
    let x = m.any(2);
    let mut slope = m.shape(x);
    slope[0] = 1;
    slope.iter_mut().skip(2).for_each(|d| *d = 1);
    let slope = m.fresh(DType::F32, &slope[1..]);
    m.one("PRelu", &[x, slope], &[]).map(drop)
}

/// An operator without a recipe: tensors of one type whose shapes broadcast, no attributes.
pub fn by_inference(m: &mut Maker, op: &str) -> Option<()> {
    use DType::*;
    for _ in 0..4 {
        let dtype = m.random.pick(&[F32, F32, F32, F32, F16, I32, I64, U8, I8, Bool, F64]);
        let rank = m.random.below(5);
        let base = m.extents(rank);
        let x = m.value(dtype, |_| true, &base);
        let shape = m.shape(x);
        let mut inputs = vec![Some(x)];
        for _ in 0..m.random.below(3) {
            let other = beside(m, &shape);
            let other = m.fresh(dtype, &other);
            inputs.push(Some(other));
        }
        if m.random.chance(30) {
            inputs.reverse();
        }
        if let Some(Ok(_)) = m.try_node(op, &inputs, &[], 0) {
            m.guessed = true;
            return Some(());
        }
    }
    None
}
