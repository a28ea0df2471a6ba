//! DFT and STFT as products with tables of cosines and sines.

use crate::base::{Affine, DType, TensorType};
use crate::definition::{DefBuilder, ExprId, Index, Lowering};
use crate::error::Result;
use crate::ops::emit::{Arith, Emit, Val, compute_type, require};
use crate::ops::{Ctx, Lower, Operator};
use crate::scalar::{Fold, Op, Scalar};

/// The rows.
pub const ROWS: &[Operator] = &[
    Operator {
        domain: "",
        name: "DFT",
        versions: &[17, 20],
        infer: infer_dft,
        lower: Lower::Define(dft),
        note: "length and axis must be constant",
    },
    Operator {
        domain: "",
        name: "STFT",
        versions: &[17],
        infer: infer_stft,
        lower: Lower::Define(stft),
        note: "step and length must be constant",
    },
];

/// A transform along one axis of a real (`parts` 1) or complex (2) tensor.
#[derive(Clone, Copy)]
struct Transform {
    axis: usize,
    /// Elements of the axis that are read.
    read: usize,
    /// Length of the transform.
    length: usize,
    /// Frequencies (or, inverse, samples) written.
    bins: usize,
    parts_in: usize,
    parts_out: usize,
    inverse: bool,
    onesided: bool,
}

fn constant_size(ctx: &Ctx, i: usize) -> Result<Option<usize>> {
    let Some(values) = ctx.constant_ints(i)? else { return Ok(None) };
    let size =
        values.first().copied().and_then(|v| usize::try_from(v).ok()).filter(|&v| v > 0 && v < 1 << 31);
    require(size.is_some(), || format!("input {i} must be a positive number"))?;
    Ok(size)
}

fn transform(ctx: &Ctx) -> Result<Transform> {
    let x = ctx.ty(0)?;
    require(x.rank() >= 2 && x.dtype.is_float() && [1, 2].contains(&x.shape[x.rank() - 1]), || {
        format!("a transform of {x} is not defined: the last dimension must be 1 (real) or 2 (complex)")
    })?;
    let axis = match ctx.version() {
        20.. => ctx.constant_ints(2)?.and_then(|a| a.first().copied()).unwrap_or(-2),
        _ => ctx.attrs().int("axis", 1)?,
    };
    let axis = ctx.axis(axis, x.rank())?;
    require(axis + 1 < x.rank() && x.shape[axis] > 0, || format!("axis {axis} cannot be transformed"))?;
    let (inverse, onesided) = (ctx.attrs().flag("inverse", false)?, ctx.attrs().flag("onesided", false)?);
    let here = x.shape[axis];
    let default = if inverse && onesided { (2 * (here - 1)).max(1) } else { here };
    let length = constant_size(ctx, 1)?.unwrap_or(default);
    let half = length / 2 + 1;
    Ok(Transform {
        axis,
        read: here.min(if inverse && onesided { half } else { length }),
        length,
        bins: if onesided && !inverse { half } else { length },
        parts_in: x.shape[x.rank() - 1],
        parts_out: if onesided && inverse { 1 } else { 2 },
        inverse,
        onesided,
    })
}

fn infer_dft(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let t = transform(ctx)?;
    let x = ctx.ty(0)?;
    let mut shape = x.shape.clone();
    shape[t.axis] = t.bins;
    shape[x.rank() - 1] = t.parts_out;
    Ok(vec![TensorType::new(x.dtype, shape)])
}

impl Transform {
    /// The factor from part `c` of element `n` to part `r` of bin `k`.
    fn factor(&self, k: usize, r: usize, n: usize, c: usize) -> f64 {
        let angle = std::f64::consts::TAU * ((k * n) % self.length) as f64 / self.length as f64;
        let sign = if self.inverse { 1.0 } else { -1.0 };
        let (cos, sin) = (angle.cos(), sign * angle.sin());
        let value = match (r, c) {
            (0, 0) | (1, 1) => cos,
            (0, _) => -sin,
            _ => sin,
        };
        if !self.inverse {
            return value;
        }
        // Of a half spectrum, all but the first and the middle bin stand for two.
        let twice = self.onesided && n > 0 && 2 * n != self.length;
        value * if twice { 2.0 } else { 1.0 } / self.length as f64
    }
}

/// The most elements of a table of all factors; longer transforms index one period.
const MOST: usize = 1 << 20;

/// Factors of a transform: a table of all, or one period and an index into it.
enum Factors {
    All(Val),
    Period { cos: Val, sin: Val },
}

impl Factors {
    fn new(e: &mut Emit, t: &Transform, float: DType) -> Factors {
        let shape = [t.bins, t.parts_out, t.read, t.parts_in];
        if shape.iter().product::<usize>() <= MOST || t.onesided && t.inverse {
            let mut values = Vec::with_capacity(shape.iter().product());
            for k in 0..t.bins {
                for r in 0..t.parts_out {
                    for n in 0..t.read {
                        values.extend((0..t.parts_in).map(|c| t.factor(k, r, n, c)));
                    }
                }
            }
            return Factors::All(e.table("factors", float, &shape, &values));
        }
        let period = |f: fn(f64) -> f64| -> Vec<f64> {
            let scale = if t.inverse { 1.0 / t.length as f64 } else { 1.0 };
            (0..t.length).map(|i| scale * f(std::f64::consts::TAU * i as f64 / t.length as f64)).collect()
        };
        Factors::Period {
            cos: e.table("cos", float, &[t.length], &period(f64::cos)),
            sin: e.table("sin", float, &[t.length], &period(f64::sin)),
        }
    }

    fn at(&self, b: &mut DefBuilder, t: &Transform, [k, r, n, c]: [Affine; 4], float: DType) -> ExprId {
        let (cos, sin) = match self {
            Factors::All(table) => return b.elem(table, &[k, r, n, c], float),
            Factors::Period { cos, sin } => (cos, sin),
        };
        let (k, n) = (b.index(k), b.index(n));
        let product = b.times(k, n);
        let length = b.constant(Scalar::from_i64(DType::I64, t.length as i64));
        let place = b.op(Op::Rem, &[product, length]);
        let cos = b.elem_at(cos, vec![Index::Dynamic(place)], float);
        let sin = b.elem_at(sin, vec![Index::Dynamic(place)], float);
        let (r, c) = (b.index(r), b.index(c));
        let same = b.op(Op::Eq, &[r, c]);
        // From imaginary to real, and forwards from real to imaginary, the sign differs.
        let downwards = if t.inverse { b.op(Op::Lt, &[r, c]) } else { b.op(Op::Gt, &[r, c]) };
        let negative = b.op(Op::Neg, &[sin]);
        let sin = b.op(Op::Select, &[downwards, negative, sin]);
        b.op(Op::Select, &[same, cos, sin])
    }
}

fn dft(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let t = transform(ctx)?;
    let mut e = Emit::new(ctx, low);
    let (x, out) = (e.input(0)?, e.result()?);
    let float = compute_type(x.dtype());
    let factors = Factors::new(&mut e, &t, float);
    let last = x.rank() - 1;
    e.define("", &out, |b| {
        let (n, c) = (b.reduce("n", t.read), b.reduce("c", t.parts_in));
        let mut index = b.axes();
        (index[t.axis], index[last]) = (n.clone(), c.clone());
        let elem = b.elem(&x, &index, float);
        let factor = factors.at(b, &t, [b.var(t.axis), b.var(last), n, c], float);
        let body = b.times(elem, factor);
        b.fold(Fold::Sum, body)
    });
    Ok(())
}

/// The frames of a short-time transform: step and their transform.
fn frames(ctx: &Ctx) -> Result<(usize, usize, Transform)> {
    let x = ctx.ty(0)?;
    let parts = x.shape.get(2).copied().unwrap_or(1);
    require((2..=3).contains(&x.rank()) && [1, 2].contains(&parts) && x.dtype.is_float(), || {
        format!("a short-time transform of {x} is not defined")
    })?;
    let step = constant_size(ctx, 1)?.unwrap_or(1);
    let length = match (constant_size(ctx, 3)?, ctx.optional(2)) {
        (Some(length), _) => length,
        (None, Some(window)) => window.ty.elems(),
        (None, None) => x.shape[1],
    };
    if let Some(window) = ctx.optional(2) {
        require(window.ty.shape == [length], || {
            format!("a window of type {} does not fit {length}", window.ty)
        })?;
    }
    require(length > 0 && length <= x.shape[1], || {
        format!("a frame of {length} does not fit the signal {x}")
    })?;
    let onesided = ctx.attrs().flag("onesided", true)?;
    let transform = Transform {
        axis: 1,
        read: length,
        length,
        bins: if onesided { length / 2 + 1 } else { length },
        parts_in: parts,
        parts_out: 2,
        inverse: false,
        onesided,
    };
    Ok((step, (x.shape[1] - length) / step + 1, transform))
}

fn infer_stft(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let (_, count, t) = frames(ctx)?;
    let x = ctx.ty(0)?;
    Ok(vec![TensorType::new(x.dtype, [x.shape[0], count, t.bins, 2])])
}

/// Each frame times the factors, into which the window is multiplied beforehand.
fn stft(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let (step, _, t) = frames(ctx)?;
    let mut e = Emit::new(ctx, low);
    let (x, window, out) = (e.input(0)?, e.optional(2), e.result()?);
    let float = compute_type(x.dtype());
    let x = e.reshape(&x, [x.shape()[0], x.shape()[1], t.parts_in]);
    let mut factors = Factors::new(&mut e, &t, float);
    if let Some(window) = window {
        factors = Factors::All(e.map("windowed", float, [t.bins, 2, t.read, t.parts_in], |b| {
            let at = [b.var(0), b.var(1), b.var(2), b.var(3)];
            let factor = factors.at(b, &t, at, float);
            let weight = b.elem(&window, &[b.var(2)], float);
            b.times(factor, weight)
        }));
    }
    e.define("", &out, |b| {
        let (n, c) = (b.reduce("n", t.read), b.reduce("c", t.parts_in));
        let at = b.var(1).scaled(step as i64).plus(&n);
        let elem = b.elem(&x, &[b.var(0), at, c.clone()], float);
        let factor = factors.at(b, &t, [b.var(2), b.var(3), n, c], float);
        let body = b.times(elem, factor);
        b.fold(Fold::Sum, body)
    });
    Ok(())
}
