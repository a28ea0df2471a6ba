//! Exact products of quantized tensors: zero points are folded into constant weights or into a sum
//! per column, so that the fold itself stays a plain sum of products.
//!
//! `sum((x - zx) * (w - zw))` becomes `sum(x * v) - zx * sum(v)` with `v = w - zw`; where the
//! weights are constant, `v` and its sums are constants.

use super::conv::{self, Point, Shape};
use super::matmul::Product;
use crate::base::{Affine, DType, Tensor, TensorType};
use crate::definition::{DefBuilder, ExprId};
use crate::error::Result;
use crate::ops::emit::{Arith, Emit, Val, require};
use crate::scalar::{Fold, Scalar};

/// What is subtracted from the elements of a tensor.
#[derive(Clone, Debug)]
pub enum Zero {
    /// Nothing.
    None,
    /// A constant, one for all or one per channel.
    Known(Vec<i64>),
    /// A value at run time.
    Value(Val),
}

impl Zero {
    /// Input `i` of the node as zero point.
    pub fn of(e: &Emit, i: usize) -> Zero {
        let Some(value) = e.optional(i) else { return Zero::None };
        let per_batch = value.rank() > 1 && value.ty.elems() > 1;
        match e.ctx.graph.value(value.id).constant.as_ref().and_then(|t| t.to_i64s()) {
            Some(known) if known.iter().all(|&z| z == 0) => Zero::None,
            Some(known) if known.windows(2).all(|w| w[0] == w[1]) => Zero::Known(known[..1].to_vec()),
            Some(known) if !per_batch => Zero::Known(known),
            _ => Zero::Value(value),
        }
    }
}

/// An input that must be an 8-bit (or narrower) integer tensor.
pub fn check_quantized(ty: &TensorType) -> Result<()> {
    require(ty.dtype.is_int() && ty.dtype.size() <= 2, || format!("{ty} is not a quantized tensor"))
}

/// The constant elements of a value.
pub fn known(e: &Emit, value: &Val) -> Option<Vec<i64>> {
    let id = value.id as usize;
    let constant = match e.ctx.graph.values.get(id) {
        Some(v) => v.constant.as_ref(),
        None => e.low.values.get(id).and_then(|v| v.constant.as_ref()),
    };
    constant.and_then(|t| t.to_i64s())
}

/// `w - zero` as a narrow constant: i8 where it fits, i16 otherwise. `channel` gives the index of
/// the zero point of an element.
pub fn shifted(
    e: &mut Emit,
    w: &Val,
    elems: &[i64],
    zero: &[i64],
    channel: impl Fn(usize) -> usize,
) -> (Val, Vec<i64>) {
    let at = |i: usize| if zero.len() == 1 { zero[0] } else { zero[channel(i)] };
    let values: Vec<i64> = elems.iter().enumerate().map(|(i, &v)| v - at(i)).collect();
    let narrow = values.iter().all(|&v| i8::try_from(v).is_ok());
    let dtype = if narrow { DType::I8 } else { DType::I16 };
    let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes().into_iter().take(dtype.size())).collect();
    let tensor = Tensor { ty: TensorType::new(dtype, w.shape()), data: data.into() };
    (e.constant("shifted", tensor), values)
}

/// `x - zero` as a temporary of 16 bits (values of 8 bits) or 32 bits.
fn subtracted(e: &mut Emit, x: &Val, zero: &Val, index: impl FnOnce(&DefBuilder) -> Vec<Affine>) -> Val {
    let dtype = if x.dtype().size() == 1 { DType::I16 } else { DType::I32 };
    e.map("shifted", dtype, x.shape(), |b| {
        let at = index(b);
        let (x, zero) = (b.broadcast(x, DType::I32), b.elem(zero, &at, DType::I32));
        b.minus(x, zero)
    })
}

/// The index of a zero point with one element, or with one per index of `axis`.
fn zero_index(zero: &Val, axis: Affine) -> Vec<Affine> {
    let mut index = vec![Affine::constant(0); zero.rank()];
    if zero.ty.elems() > 1
        && let Some(last) = index.last_mut()
    {
        *last = axis;
    }
    index
}

/// The operands of an integer convolution.
pub struct Operands {
    /// Data `[N, C, D...]`.
    pub x: Val,
    /// Its zero point: one.
    pub x_zero: Zero,
    /// Weights `[M, C/groups, K...]`.
    pub w: Val,
    /// Their zero point: one, or one per output channel.
    pub w_zero: Zero,
    /// Added to the sum, one number per output channel.
    pub bias: Option<Val>,
}

/// Defines a convolution of quantized tensors; `finish` gets the exact sum in i32.
pub fn define_conv(
    e: &mut Emit,
    out: &Val,
    shape: &Shape,
    operands: Operands,
    finish: impl FnOnce(&mut DefBuilder, Point) -> ExprId,
) -> Result<()> {
    let Operands { mut x, x_zero, mut w, w_zero, bias } = operands;
    let channels = w.shape()[0];
    let per_channel = w.ty.elems() / channels.max(1);
    let mut elems = known(e, &w);
    match (&w_zero, elems.take()) {
        (Zero::None, known) => elems = known,
        (Zero::Known(zero), Some(known)) => {
            require(zero.len() == 1 || zero.len() == channels, || {
                "the weights' zero point has a wrong length".into()
            })?;
            let (value, shifted) = shifted(e, &w, &known, zero, |i| i / per_channel.max(1));
            (w, elems) = (value, Some(shifted));
        }
        (Zero::Known(zero), None) => {
            let zero = e.constant("zero", Tensor::new([zero.len()], zero));
            w = subtracted(e, &w, &zero, |b| zero_index(&zero, b.var(0)));
        }
        (Zero::Value(zero), _) => {
            require(zero.ty.elems() == 1 || zero.ty.elems() == channels, || {
                "the weights' zero point has a wrong length".into()
            })?;
            w = subtracted(e, &w, zero, |b| zero_index(zero, b.var(0)));
        }
    }
    let mut x_known = 0;
    match &x_zero {
        Zero::None => {}
        Zero::Known(zero) => {
            require(zero.len() == 1, || "the data's zero point must be one number".into())?;
            x_known = zero[0];
        }
        Zero::Value(zero) => {
            require(zero.ty.elems() == 1, || "the data's zero point must be one number".into())?;
            x = subtracted(e, &x, zero, |_| vec![Affine::constant(0); zero.rank()]);
        }
    }
    let correction = (x_known != 0).then(|| channel_sums(e, &w, elems.as_deref(), x_known));
    let terms = Terms::new(e, bias, correction);
    let fill = Scalar::from_i64(x.dtype(), x_known);
    conv::define(
        e,
        out,
        shape,
        |b, at_x, at_w| {
            let x = b.load_padded(x.id, &x.ty, at_x.to_vec(), fill);
            let (x, w) = (b.cast(DType::I32, x), b.elem(&w, at_w, DType::I32));
            b.times(x, w)
        },
        |b, point| {
            let Point { acc, channel, index } = point;
            let acc = terms.apply(b, acc, channel);
            finish(b, Point { acc, channel, index })
        },
    );
    Ok(())
}

/// What is added to a sum and what is taken off it: one constant where both are known.
pub struct Terms {
    plus: Option<Val>,
    minus: Option<Val>,
}

impl Terms {
    /// Of two numbers per output channel.
    pub fn new(e: &mut Emit, plus: Option<Val>, minus: Option<Val>) -> Terms {
        let elems = |v: &Option<Val>| v.as_ref().and_then(|v| known(e, v));
        match (elems(&plus), elems(&minus)) {
            (Some(p), Some(m)) if p.len() == m.len() => {
                let sums: Vec<i32> = p.iter().zip(&m).map(|(p, m)| p.wrapping_sub(*m) as i32).collect();
                Terms { plus: Some(e.constant("bias", Tensor::new([sums.len()], &sums))), minus: None }
            }
            _ => Terms { plus, minus },
        }
    }

    /// The sum of a channel with both.
    pub fn apply(&self, b: &mut DefBuilder, mut acc: ExprId, channel: &Affine) -> ExprId {
        if let Some(plus) = &self.plus {
            let plus = b.elem(plus, std::slice::from_ref(channel), DType::I32);
            acc = b.plus(acc, plus);
        }
        if let Some(minus) = &self.minus {
            let minus = b.elem(minus, std::slice::from_ref(channel), DType::I32);
            acc = b.minus(acc, minus);
        }
        acc
    }
}

/// `zero * sum of the weights` of each output channel.
fn channel_sums(e: &mut Emit, w: &Val, elems: Option<&[i64]>, zero: i64) -> Val {
    let channels = w.shape()[0];
    if let Some(elems) = elems {
        let sums: Vec<i32> = (0..channels)
            .map(|m| {
                let row = elems.len() / channels;
                elems[m * row..(m + 1) * row].iter().sum::<i64>().wrapping_mul(zero) as i32
            })
            .collect();
        return e.constant("correction", Tensor::new([channels], &sums));
    }
    e.map("correction", DType::I32, [channels], |b| {
        let mut index = vec![b.var(0)];
        index.extend((1..w.rank()).map(|d| b.reduce(&format!("r{d}"), w.shape()[d])).collect::<Vec<_>>());
        let elem = b.elem(w, &index, DType::I32);
        let acc = b.fold(Fold::Sum, elem);
        let zero = b.constant(Scalar::from_i64(DType::I32, zero));
        b.times(acc, zero)
    })
}

/// The operands of an integer matrix product.
pub struct Factors {
    /// First side.
    pub a: Val,
    /// Its zero point: one, or one per row.
    pub a_zero: Zero,
    /// Second side.
    pub b: Val,
    /// Its zero point: one, or one per column.
    pub b_zero: Zero,
    /// Whether the second side is transposed (`[N, K]`).
    pub b_transposed: bool,
}

/// A number per element of a product: broadcast to its axes.
struct Term(Val);

/// Defines a product of quantized tensors; `finish` gets the exact sum in i32.
pub fn define_product(
    e: &mut Emit,
    out: &Val,
    product: &Product,
    factors: Factors,
    finish: impl FnOnce(&mut DefBuilder, ExprId) -> ExprId,
) -> Result<()> {
    let Factors { a, a_zero, mut b, mut b_zero, b_transposed } = factors;
    let vector = b.rank() == 1;
    let (inner, column) = match (vector, b_transposed) {
        (true, _) => (0, None),
        (false, true) => (b.rank() - 1, Some(b.rank() - 2)),
        (false, false) => (b.rank() - 2, Some(b.rank() - 1)),
    };
    if let (Zero::Known(zero), Some(elems)) = (&b_zero, known(e, &b)) {
        let columns = column.map_or(1, |d| b.shape()[d]);
        if zero.len() == 1 || zero.len() == columns {
            let stride = column.map_or(1, |d| b.shape()[d + 1..].iter().product::<usize>());
            let (value, _) = shifted(e, &b, &elems, zero, |i| i / stride.max(1) % columns.max(1));
            (b, b_zero) = (value, Zero::None);
        }
    }
    // One known zero point is joined with the sums, which do not depend on it otherwise.
    let scale = match (&a_zero, &b_zero) {
        (Zero::Known(zero), Zero::None) if zero.len() == 1 => Some(zero[0]),
        _ => None,
    };
    let zeros = [zero_term(e, a_zero, &a, false, vector)?, zero_term(e, b_zero, &b, true, vector)?];
    let column_sums = zeros[0].is_some().then(|| {
        let sums = inner_sums(e, &b, inner, scale);
        let mut shape = sums.ty.shape.clone();
        if !vector && b_transposed {
            let rank = shape.len();
            shape.swap(rank - 1, rank - 2);
        }
        if a.rank() == 1 && !vector {
            shape.remove(shape.len() - 2);
        }
        Term(if vector { sums } else { e.reshape(&sums, shape) })
    });
    let row_sums = zeros[1].is_some().then(|| {
        let sums = inner_sums(e, &a, a.rank() - 1, None);
        let kept = if vector { sums.shape()[..sums.rank() - 1].to_vec() } else { sums.ty.shape.clone() };
        Term(if a.rank() == 1 { sums } else { e.reshape(&sums, kept) })
    });
    e.define("", out, |d| {
        let [at_a, at_b] = product.indices(d, a.shape(), b.shape());
        let (x, y) = (d.elem(&a, &at_a, DType::I32), d.elem(&b, &at_b, DType::I32));
        let body = d.times(x, y);
        let mut acc = d.fold(Fold::Sum, body);
        let [a_zero, b_zero] = zeros.map(|z| z.map(|z| d.broadcast(&z.0, DType::I32)));
        if let (Some(zero), Some(sums)) = (a_zero, column_sums) {
            let sums = d.broadcast(&sums.0, DType::I32);
            let term = if scale.is_some() { sums } else { d.times(zero, sums) };
            acc = d.minus(acc, term);
        }
        if let (Some(zero), Some(sums)) = (b_zero, row_sums) {
            let mut sums = d.broadcast(&sums.0, DType::I32);
            if let Some(a_zero) = a_zero {
                let count = d.constant(Scalar::from_i64(DType::I32, product.inner as i64));
                let all = d.times(a_zero, count);
                sums = d.minus(sums, all);
            }
            let term = d.times(zero, sums);
            acc = d.minus(acc, term);
        }
        finish(d, acc)
    });
    Ok(())
}

/// A zero point under a shape that is broadcast to the product's axes: one per row of the first
/// side, one per column of the second.
fn zero_term(e: &mut Emit, zero: Zero, side: &Val, second: bool, vector: bool) -> Result<Option<Term>> {
    let value = match zero {
        Zero::None => return Ok(None),
        Zero::Known(zero) => {
            let zero: Vec<i32> = zero.iter().map(|&z| z as i32).collect();
            e.constant("zero", Tensor::new([zero.len()], &zero))
        }
        Zero::Value(zero) => zero,
    };
    let elems = value.ty.elems();
    if elems == 1 {
        return Ok(Some(Term(e.reshape(&value, []))));
    }
    if value.rank() > 1 {
        return Ok(Some(Term(value)));
    }
    require(side.rank() > 1, || "a zero point per row or column needs a matrix".into())?;
    let shape = if second || vector { vec![elems] } else { vec![elems, 1] };
    Ok(Some(Term(e.reshape(&value, shape))))
}

/// Sums over one dimension, which keeps extent 1, in i32, times a number.
fn inner_sums(e: &mut Emit, x: &Val, axis: usize, scale: Option<i64>) -> Val {
    let scaled = |b: &mut DefBuilder, acc: ExprId| match scale {
        None => acc,
        Some(scale) => {
            let scale = b.constant(Scalar::from_i64(DType::I32, scale));
            b.times(acc, scale)
        }
    };
    e.reduce("sums", x.shape(), &[axis], Fold::Sum, |b, i| b.elem(x, i, DType::I32), scaled)
}
