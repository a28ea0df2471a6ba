//! Pooling: maximum, average and p-norm over windows or over all of space.

use super::window::{Slide, window_index, windows};
use crate::base::{Affine, DType, TensorType};
use crate::definition::{DefBuilder, ExprId, Lowering};
use crate::error::{Error, Result};
use crate::ops::emit::{Arith, Emit, Val, compute_type, require};
use crate::ops::{Ctx, DefineFn, Lower, Operator};
use crate::scalar::{Fold, Op, Scalar};

const fn pool(name: &'static str, versions: &'static [i64], lower: DefineFn) -> Operator {
    Operator::define("", name, versions, infer, lower)
}

const fn global(name: &'static str, versions: &'static [i64], lower: DefineFn) -> Operator {
    Operator { domain: "", name, versions, infer: infer_global, lower: Lower::Define(lower), note: "" }
}

/// The rows.
pub const ROWS: &[Operator] = &[
    pool("MaxPool", &[1, 8, 10, 11, 12, 22], max_pool),
    pool("AveragePool", &[1, 7, 10, 11, 19, 22], average_pool),
    pool("LpPool", &[1, 2, 11, 18, 22], lp_pool),
    global("GlobalMaxPool", &[1, 22], global_max_pool),
    global("GlobalAveragePool", &[1, 22], global_average_pool),
    global("GlobalLpPool", &[1, 2, 22], global_lp_pool),
];

/// The windows of a pool over `x[N, C, D...]`.
pub fn pool_windows(ctx: &Ctx, x: &[usize]) -> Result<Vec<Slide>> {
    require(x.len() >= 3, || format!("pooling is not defined for a tensor of rank {}", x.len()))?;
    let kernel = super::window::positive(ctx, "kernel_shape", x.len() - 2, 0)?;
    windows(ctx, &x[2..], &kernel, ctx.attrs().flag("ceil_mode", false)?)
}

/// Shape of the output of a pool.
pub fn pooled(x: &[usize], slides: &[Slide]) -> Vec<usize> {
    x[..2].iter().copied().chain(slides.iter().map(|s| s.output)).collect()
}

fn infer(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let x = ctx.ty(0)?;
    let shape = pooled(&x.shape, &pool_windows(ctx, &x.shape)?);
    Ok(vec![TensorType::new(x.dtype, shape.clone()), TensorType::new(DType::I64, shape)])
}

fn infer_global(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let x = ctx.ty(0)?;
    require(x.rank() >= 2, || format!("pooling is not defined for a tensor of rank {}", x.rank()))?;
    let shape: Vec<usize> = x.shape.iter().enumerate().map(|(i, &d)| if i < 2 { d } else { 1 }).collect();
    Ok(vec![TensorType::new(x.dtype, shape)])
}

/// The index of the input of a pool: batch, channel, then the window's.
fn pool_index(b: &mut DefBuilder, slides: &[Slide]) -> Vec<Affine> {
    let (spatial, _) = window_index(b, 2, slides);
    let mut index = vec![b.var(0), b.var(1)];
    index.extend(spatial);
    index
}

fn max_pool(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (x, out) = (e.input(0)?, e.result()?);
    let slides = pool_windows(ctx, x.shape())?;
    let lowest = Scalar::lowest(x.dtype());
    e.define("", &out, |b| {
        let index = pool_index(b, &slides);
        let elem = b.load_padded(x.id, &x.ty, index, lowest);
        b.fold(Fold::Max, elem)
    });
    if let Some(indices) = e.output(1) {
        let column_major = ctx.attrs().flag("storage_order", false)?;
        max_indices(&mut e, &x, &out, &indices, &slides, column_major);
    }
    Ok(())
}

/// Positions of the maxima in the flattened input: the smallest of those in the window that hold
/// the maximum. A NaN is one, as in the values; of a window that lies in the padding, the channel's first element.
/// They are counted in 32 bits where those hold them, which fill lanes.
fn max_indices(e: &mut Emit, x: &Val, max: &Val, out: &Val, slides: &[Slide], column_major: bool) {
    let strides = crate::base::row_major_strides(x.shape());
    let count = if x.ty.elems() <= i32::MAX as usize { DType::I32 } else { DType::I64 };
    let at = |b: &mut DefBuilder, form: Affine| {
        let at = b.index(form);
        if count == DType::I64 { at } else { b.cast(count, at) }
    };
    e.define("indices", out, |b| {
        let index = pool_index(b, slides);
        let max = b.elem(max, &b.axes(), x.dtype());
        let elem = b.load_padded(x.id, &x.ty, index.clone(), Scalar::lowest(x.dtype()));
        let mut holds = b.op(Op::Eq, &[elem, max]);
        if x.dtype().is_float() {
            let nan = b.op(Op::Ne, &[elem, elem]);
            holds = b.op(Op::Or, &[holds, nan]);
        }
        for (slide, i) in slides.iter().zip(&index[2..]) {
            if slide.before > 0 {
                let (i, zero) = (at(b, i.clone()), b.number(count, 0.0));
                let inside = b.op(Op::Ge, &[i, zero]);
                holds = b.op(Op::And, &[holds, inside]);
            }
            if slide
                .index(&Affine::constant(slide.output as i64 - 1), &Affine::constant(slide.kernel as i64 - 1))
                .base
                >= slide.input as i64
            {
                let (i, end) = (at(b, i.clone()), b.number(count, slide.input as f64));
                let inside = b.op(Op::Lt, &[i, end]);
                holds = b.op(Op::And, &[holds, inside]);
            }
        }
        let flat = index.iter().zip(&strides).fold(Affine::constant(0), |sum, (i, &s)| sum.plus_scaled(i, s));
        let flat = at(b, flat);
        let none = b.constant(Scalar::highest(count));
        let body = b.op(Op::Select, &[holds, flat, none]);
        let mut acc = b.fold(Fold::Min, body);
        if slides.iter().any(|s| (0..s.output).any(|o| s.count(o, 0, s.input as i64) == 0)) {
            let plane =
                Affine::constant(0).plus_scaled(&b.var(0), strides[0]).plus_scaled(&b.var(1), strides[1]);
            let (nowhere, first) = (b.op(Op::Eq, &[acc, none]), at(b, plane));
            acc = b.op(Op::Select, &[nowhere, first, acc]);
        }
        let acc = if count == DType::I64 { acc } else { b.cast(DType::I64, acc) };
        if column_major { column_major_position(b, acc, &x.shape()[2..]) } else { acc }
    });
}

/// The same position when the spatial dimensions are numbered first to last.
fn column_major_position(b: &mut DefBuilder, flat: ExprId, spatial: &[usize]) -> ExprId {
    let number = |b: &mut DefBuilder, n: usize| b.constant(Scalar::from_i64(DType::I64, n as i64));
    let mut rest = flat;
    let mut sum = number(b, 0);
    for (d, &extent) in spatial.iter().enumerate().rev() {
        let extent = number(b, extent.max(1));
        let digit = b.op(Op::Rem, &[rest, extent]);
        rest = b.op(Op::Div, &[rest, extent]);
        let weight = number(b, spatial[..d].iter().product());
        let term = b.times(digit, weight);
        sum = b.plus(sum, term);
    }
    let plane = number(b, spatial.iter().product());
    let above = b.times(rest, plane);
    b.plus(sum, above)
}

/// How many input points each window averages over: a factor that is the same everywhere, and a
/// table for each dimension in which it varies.
pub struct Divisor {
    uniform: f64,
    tables: Vec<(usize, Val)>,
}

impl Divisor {
    /// Of the windows; with `padding`, points in the padding count, those past it never. Where sizes are known only at
    /// run time, what may vary is counted then.
    pub fn new(e: &mut Emit, slides: &[Slide], padding: bool, float: DType) -> Result<Divisor> {
        let mut divisor = Divisor { uniform: 1.0, tables: Vec::new() };
        let sized = e.ctx.may_move(0, 1);
        let (ceil, auto) =
            (e.ctx.attrs().flag("ceil_mode", false)?, e.ctx.attrs().str("auto_pad", "NOTSET")?);
        for (d, s) in slides.iter().enumerate() {
            let (before, after) = if padding { (s.before as i64, s.after as i64) } else { (0, 0) };
            let (from, to) = (-before, s.input as i64 + after);
            if sized {
                let outside = !padding && ((s.before, s.after) != (0, 0) || auto.starts_with("SAME"));
                match ceil || outside {
                    true => divisor.tables.push((d, counted(e, s, (from, to), float))),
                    false => divisor.uniform *= s.kernel as f64,
                }
                continue;
            }
            let counts: Vec<f64> =
                (0..s.output).map(|o| s.count(o, from, to) as f64).map(|n| n.max(1.0)).collect();
            if counts.windows(2).all(|w| w[0] == w[1]) {
                divisor.uniform *= counts.first().copied().unwrap_or(1.0);
            } else {
                divisor.tables.push((d, e.table("count", float, &[s.output], &counts)));
            }
        }
        Ok(divisor)
    }

    /// The number of points at the output's axes, whose spatial ones begin at `first`.
    pub fn expr(&self, b: &mut DefBuilder, first: usize, float: DType) -> ExprId {
        let uniform = b.number(float, self.uniform);
        self.tables.iter().fold(uniform, |product, (d, table)| {
            let count = b.elem(table, &[b.var(first + d)], float);
            if self.uniform == 1.0 && product == uniform { count } else { b.times(product, count) }
        })
    }
}

/// How many points of each window lie within a range of the input.
fn counted(e: &mut Emit, s: &Slide, (from, to): (i64, i64), float: DType) -> Val {
    e.map("count", float, [s.output], |b| {
        let point = b.reduce("k", s.kernel);
        let at = s.index(&b.var(0), &point);
        let at = b.index(at);
        let [from, to] = [from, to].map(|n| b.constant(Scalar::from_i64(DType::I64, n)));
        let [one, zero] = [1.0, 0.0].map(|n| b.number(float, n));
        let (after, before) = (b.op(Op::Ge, &[at, from]), b.op(Op::Lt, &[at, to]));
        let inside = b.op(Op::And, &[after, before]);
        let point = b.op(Op::Select, &[inside, one, zero]);
        let count = b.fold(Fold::Sum, point);
        b.op(Op::Max, &[count, one])
    })
}

fn average_pool(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (x, out) = (e.input(0)?, e.result()?);
    let slides = pool_windows(ctx, x.shape())?;
    let float = compute_type(x.dtype());
    let padding = ctx.attrs().flag("count_include_pad", false)?;
    let divisor = Divisor::new(&mut e, &slides, padding, float)?;
    e.define("", &out, |b| {
        let index = pool_index(b, &slides);
        let elem = b.elem_or_zero(&x, &index, float);
        let acc = b.fold(Fold::Sum, elem);
        let count = divisor.expr(b, 2, float);
        b.over(acc, count)
    });
    Ok(())
}

/// The exponent: an integer since version 2, a float before.
fn exponent(ctx: &Ctx) -> Result<f64> {
    let p = match ctx.attrs().0.get("p") {
        None => 2.0,
        Some(crate::graph::Attr::Int(p)) => *p as f64,
        Some(crate::graph::Attr::Float(p)) => f64::from(*p),
        Some(_) => return Err(Error::model("must be a number").at("attribute p")),
    };
    require(p > 0.0, || format!("attribute p is {p}, but must be positive"))?;
    Ok(p)
}

/// `|x|^p`.
pub fn power(b: &mut DefBuilder, x: ExprId, p: f64) -> ExprId {
    if p == 2.0 {
        return b.times(x, x);
    }
    let abs = b.op(Op::Abs, &[x]);
    if p == 1.0 {
        return abs;
    }
    let p = b.number(b.dtype(x), p);
    b.op(Op::Pow, &[abs, p])
}

/// `x^(1/p)`, for `x` not negative.
pub fn root(b: &mut DefBuilder, x: ExprId, p: f64) -> ExprId {
    if p == 1.0 {
        return x;
    }
    if p == 2.0 {
        return b.op(Op::Sqrt, &[x]);
    }
    let inverse = b.number(b.dtype(x), 1.0 / p);
    b.op(Op::Pow, &[x, inverse])
}

fn lp_pool(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (x, out) = (e.input(0)?, e.result()?);
    let slides = pool_windows(ctx, x.shape())?;
    let float = compute_type(x.dtype());
    let p = exponent(ctx)?;
    e.define("", &out, |b| {
        let index = pool_index(b, &slides);
        let elem = b.elem_or_zero(&x, &index, float);
        let body = power(b, elem, p);
        let acc = b.fold(Fold::Sum, body);
        root(b, acc, p)
    });
    Ok(())
}

/// Folds all spatial dimensions.
fn define_global(
    ctx: &Ctx,
    low: &mut Lowering,
    fold: Fold,
    body: impl FnOnce(&mut DefBuilder, ExprId) -> ExprId,
    finish: impl FnOnce(&mut DefBuilder, ExprId, usize) -> ExprId,
) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (x, out) = (e.input(0)?, e.result()?);
    let axes: Vec<usize> = (2..x.rank()).collect();
    let count = x.shape()[2..].iter().product();
    e.define("", &out, |b| {
        let index = crate::ops::emit::reduced_index(b, x.shape(), &axes);
        let elem = b.elem(&x, &index, compute_type(x.dtype()));
        let elem = body(b, elem);
        let acc = b.fold(fold, elem);
        finish(b, acc, count)
    });
    Ok(())
}

fn global_max_pool(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    define_global(ctx, low, Fold::Max, |_, x| x, |_, acc, _| acc)
}

fn global_average_pool(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mean = |b: &mut DefBuilder, acc: ExprId, count: usize| {
        let count = b.number(b.dtype(acc), count as f64);
        b.over(acc, count)
    };
    define_global(ctx, low, Fold::Sum, |_, x| x, mean)
}

fn global_lp_pool(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let p = exponent(ctx)?;
    define_global(ctx, low, Fold::Sum, |b, x| power(b, x, p), |b, acc, _| root(b, acc, p))
}

#[cfg(test)]
mod tests {
    use crate::base::Tensor;
    use crate::graph::Attr;
    use crate::ops::nn::tests::run;

    fn positions(x: &[f32], attrs: &[(&str, &[i64])]) -> Vec<i64> {
        let attrs: Vec<(&str, Attr)> = attrs.iter().map(|(n, v)| (*n, Attr::Ints(v.to_vec()))).collect();
        let outputs = run("", "MaxPool", &attrs, &[Some(Tensor::new([1, 1, x.len()], x))], 2);
        outputs[1].to_i64s().expect("positions")
    }

    /// A NaN is the largest element of its window; a window in the padding names an element that there is.
    #[test]
    fn every_position_is_one_of_the_input() {
        let pairs: &[(&str, &[i64])] = &[("kernel_shape", &[2]), ("strides", &[2])];
        let nan = f32::NAN;
        assert_eq!(positions(&[1.0, 2.0, 3.0, nan, nan, nan, nan, 4.0], pairs), [1, 3, 4, 6]);
        let apart: &[(&str, &[i64])] = &[("kernel_shape", &[2]), ("dilations", &[2]), ("pads", &[3, 0])];
        assert_eq!(positions(&[7.0, 5.0, 6.0], apart), [0, 0, 1, 0]);
    }
}
