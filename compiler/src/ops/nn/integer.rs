//! Exact products of quantized tensors: zero points are folded into constant weights or into a sum
//! per column, so that the fold itself stays a plain sum of products.
//!
//! `sum((x - zx) * (w - zw))` becomes `sum(x * v) - zx * sum(v)` with `v = w - zw`; where the
//! weights are constant, `v` and its sums are constants.

use super::matmul::Product;
use super::quantize::integer_range;
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

/// Constant weights less their zero points.
pub struct Shifted {
    /// The weights.
    pub value: Val,
    /// Their elements, where they are known.
    pub elems: Option<Vec<i64>>,
    /// What is still to be subtracted, one number for all or one per channel; nothing: none.
    pub left: Vec<i64>,
}

/// `w - zero` as the narrowest constant that holds it. Where that is no byte, but the weights are, and
/// `bytes` says that it pays: signed bytes, and what is left of the zero points. `channel` gives the index
/// of the zero point of an element.
pub fn shifted(
    e: &mut Emit,
    w: &Val,
    elems: &[i64],
    zero: &[i64],
    bytes: bool,
    channel: impl Fn(usize) -> usize,
) -> Shifted {
    let at = |i: usize| if zero.len() == 1 { zero[0] } else { zero[channel(i)] };
    let mut values: Vec<i64> = elems.iter().enumerate().map(|(i, &v)| v - at(i)).collect();
    let mut left = vec![];
    let fits = |values: &[i64], dtype: DType| {
        let (least, most) = integer_range(dtype);
        values.iter().all(|&v| (least..=most).contains(&(v as f64)))
    };
    if bytes && w.dtype().size() == 1 && !fits(&values, DType::I8) {
        let middle = if w.dtype().is_signed_int() { 0 } else { 128 };
        values = elems.iter().map(|v| v - middle).collect();
        left = zero.iter().map(|z| z - middle).collect();
    }
    let narrow = [DType::I8, DType::I16].into_iter().find(|&dtype| fits(&values, dtype));
    let tensor = match narrow {
        Some(DType::I8) => Tensor::new(w.shape(), &values.iter().map(|&v| v as i8).collect::<Vec<i8>>()),
        Some(_) => Tensor::new(w.shape(), &values.iter().map(|&v| v as i16).collect::<Vec<i16>>()),
        None => Tensor::new(w.shape(), &values.iter().map(|&v| v as i32).collect::<Vec<i32>>()),
    };
    Shifted { value: e.constant("shifted", tensor), elems: Some(values), left }
}

/// `x - zero` as a temporary of 16 bits (values of 8 bits) or 32 bits.
pub fn subtracted(e: &mut Emit, x: &Val, zero: &Val, index: impl FnOnce(&DefBuilder) -> Vec<Affine>) -> Val {
    let dtype = if x.dtype().size() == 1 { DType::I16 } else { DType::I32 };
    e.map("shifted", dtype, x.shape(), |b| {
        let at = index(b);
        let (x, zero) = (b.broadcast(x, DType::I32), b.elem(zero, &at, DType::I32));
        b.minus(x, zero)
    })
}

/// What is added to a sum and what is taken off it: one constant that is added where they are known, since
/// sums begin with that.
pub struct Terms {
    plus: Option<Val>,
    minus: Option<Val>,
}

impl Terms {
    /// Of two numbers per output channel.
    pub fn new(e: &mut Emit, plus: Option<Val>, minus: Option<Val>) -> Terms {
        let elems = |v: &Option<Val>| v.as_ref().and_then(|v| known(e, v));
        let sums: Vec<i32> = match (elems(&plus), elems(&minus)) {
            (Some(p), Some(m)) if p.len() == m.len() => {
                p.iter().zip(&m).map(|(p, m)| p.wrapping_sub(*m) as i32).collect()
            }
            (None, Some(m)) if plus.is_none() => m.iter().map(|m| m.wrapping_neg() as i32).collect(),
            _ => return Terms { plus, minus },
        };
        Terms { plus: Some(e.constant("bias", Tensor::new([sums.len()], &sums))), minus: None }
    }

    /// Nothing.
    pub fn none() -> Terms {
        Terms { plus: None, minus: None }
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
            let bytes = shifted(e, &b, &elems, zero, true, |i| i / stride.max(1) % columns.max(1));
            b = bytes.value;
            b_zero = if bytes.left.is_empty() { Zero::None } else { Zero::Known(bytes.left) };
        }
    }
    // One known zero point is joined with the sums, which do not depend on it otherwise; they are added, since
    // the product begins with what is.
    let scale = match (&a_zero, &b_zero) {
        (Zero::Known(zero), Zero::None) if zero.len() == 1 => Some(zero[0].wrapping_neg()),
        _ => None,
    };
    let rows = if vector { Several::LastAxis } else { Several::Rows };
    let zeros = [zero_term(e, a_zero, &a, rows)?, zero_term(e, b_zero, &b, Several::LastAxis)?];
    let column_sums = zeros[0].is_some().then(|| {
        let sums = inner_sums(e, &b, inner, scale);
        if vector { Term(sums) } else { Term(beside_columns(e, &sums, b_transposed, a.rank() == 1)) }
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
        let acc = d.fold(Fold::Sum, body);
        let count = product.inner as i64;
        let exact = without_zeros(d, acc, zeros, [column_sums, row_sums], (scale.is_some(), count));
        finish(d, exact)
    });
    Ok(())
}

/// Takes off a sum of `count` products what the zero points of both sides add to it: each times the sums of the
/// other side. `joined`: the column sums have the first zero point in them, and are added.
fn without_zeros(
    d: &mut DefBuilder,
    mut acc: ExprId,
    zeros: [Option<Term>; 2],
    [column_sums, row_sums]: [Option<Term>; 2],
    (joined, count): (bool, i64),
) -> ExprId {
    let [a_zero, b_zero] = zeros.map(|z| z.map(|z| d.broadcast(&z.0, DType::I32)));
    if let (Some(zero), Some(sums)) = (a_zero, column_sums) {
        let sums = d.broadcast(&sums.0, DType::I32);
        acc = if joined {
            d.plus(acc, sums)
        } else {
            let term = d.times(zero, sums);
            d.minus(acc, term)
        };
    }
    if let (Some(zero), Some(sums)) = (b_zero, row_sums) {
        let mut sums = d.broadcast(&sums.0, DType::I32);
        if let Some(a_zero) = a_zero {
            let count = d.constant(Scalar::from_i64(DType::I32, count));
            let all = d.times(a_zero, count);
            sums = d.minus(sums, all);
        }
        let term = d.times(zero, sums);
        acc = d.minus(acc, term);
    }
    acc
}

/// Sums of columns under a shape that is broadcast to the product's axes, of which a vector as first side has one
/// less.
fn beside_columns(e: &mut Emit, sums: &Val, transposed: bool, vector: bool) -> Val {
    let mut shape = sums.ty.shape.clone();
    let rank = shape.len();
    if transposed {
        shape.swap(rank - 1, rank - 2);
    }
    if vector {
        shape.remove(rank - 2);
    }
    e.reshape(sums, shape)
}

/// What zero points belong to, where a factor has several.
#[derive(Clone, Copy, PartialEq)]
enum Several {
    /// Rows, with columns behind them.
    Rows,
    /// The product's last axis: columns, or rows where there are no columns.
    LastAxis,
}

/// The zero point of a factor under a shape that is broadcast to the product's axes.
fn zero_term(e: &mut Emit, zero: Zero, side: &Val, several: Several) -> Result<Option<Term>> {
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
    let shape = if several == Several::LastAxis { vec![elems] } else { vec![elems, 1] };
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
