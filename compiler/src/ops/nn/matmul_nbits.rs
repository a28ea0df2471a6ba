//! MatMulNBits: a product with weights of 2, 4 or 8 bits, quantized in blocks along the sum.
//!
//! The elements are taken out of their bytes by a definition of its own, which constants fold; what is
//! left is a product whose factor is shifted and scaled where it is read, like that of a
//! DequantizeLinear by blocks.
//!
//! At `accuracy_level` 4 the model allows that what weights of four bits multiply is quantized, too: to signed bytes,
//! each block by its largest magnitude, as ONNX Runtime does. Without that, a single row is split into three bytes,
//! numbers of 24 bits, where the pass `four-bits` says that the target is faster so: that is as exact as sums of floats.

use crate::base::{Affine, DType, TensorType};
use crate::definition::{DefBuilder, ExprId, Index, Lowering};
use crate::error::Result;
use crate::ops::emit::{Arith, Emit, Val, compute_type, require};
use crate::ops::{Ctx, Lower, Operator};
use crate::scalar::{Fold, Op, Scalar};

/// The row.
pub const ROWS: &[Operator] = &[Operator {
    domain: "com.microsoft",
    name: "MatMulNBits",
    versions: &[1],
    infer,
    lower: Lower::Define(lower),
    note: "at accuracy_level 4 weights of four bits multiply bytes, quantized by blocks",
}];

/// The `accuracy_level` at which what is multiplied may be quantized to signed bytes.
const BYTES: i64 = 4;
/// The largest of these.
const MOST: f64 = 127.0;
/// The zero point of weights of four bits that have none of their own.
const MIDDLE: f64 = 8.0;
/// The attribute that the pass `four-bits` sets where a single row may be split.
pub const SPLIT: &str = "lmc.split";
/// The longest blocks whose sums of 24 bits fit 32.
const SPLIT_BLOCK: usize = 256;

/// Weights `[n, k]` in blocks along k.
struct Bits {
    k: usize,
    n: usize,
    bits: usize,
    block: usize,
    blocks: usize,
}

impl Bits {
    fn read(ctx: &Ctx) -> Result<Bits> {
        let attr = |name, default| ctx.attrs().int(name, default).map(|v| usize::try_from(v).unwrap_or(0));
        let (k, n) = (attr("K", 0)?, attr("N", 0)?);
        let (bits, block) = (attr("bits", 4)?, attr("block_size", 0)?);
        require(
            [2, 4, 8].contains(&bits) && block >= 16 && block.is_power_of_two() && k > 0 && n > 0,
            || format!("weights of {bits} bits in blocks of {block} for K {k}, N {n} are not supported"),
        )?;
        let blocks = k.div_ceil(block);
        let (x, w, scales) = (ctx.ty(0)?, ctx.ty(1)?, ctx.ty(2)?);
        let fits = x.shape.last() == Some(&k)
            && w.dtype == DType::U8
            && w.elems() == n * blocks * (block * bits / 8)
            && scales.elems() == n * blocks
            && x.dtype.is_float();
        require(fits, || format!("{x}, {w} and {scales} do not fit K {k} and N {n}"))?;
        require(attr("weight_prepacked", 0)? == 0, || {
            "weights packed for one processor are not supported: export with weight_prepacked 0".into()
        })?;
        if let Some(groups) = ctx.optional(4) {
            require(groups.ty.shape == [k] || groups.ty.shape == [blocks * block], || {
                format!("g_idx of type {} does not fit K {k}", groups.ty)
            })?;
        }
        Ok(Bits { k, n, bits, block, blocks })
    }

    /// How many bytes what is multiplied is split into, by the blocks of weights of four bits; `None` where it stays in
    /// floats.
    fn split(&self, ctx: &Ctx) -> Result<Option<usize>> {
        let (level, split) = (ctx.attrs().int("accuracy_level", 0)?, ctx.attrs().flag(SPLIT, false)?);
        let (Some(x), 4, None) = (ctx.node.inputs[0], self.bits, ctx.optional(4)) else { return Ok(None) };
        let ty = &ctx.graph.value(x).ty;
        let alone = ty.elems() == self.k && (0..ty.rank()).all(|d| ctx.graph.lengths(x, d).is_none());
        Ok(match level {
            BYTES => Some(1),
            _ if split && alone && self.block <= SPLIT_BLOCK => Some(3),
            _ => None,
        })
    }

    /// An element of what is multiplied; zero behind the last.
    fn multiplied(&self, b: &mut DefBuilder, x: &Val, at: &[Affine], float: DType) -> ExprId {
        let padded = self.blocks * self.block > self.k;
        if padded { b.elem_or_zero(x, at, float) } else { b.elem(x, at, float) }
    }

    fn per_byte(&self) -> usize {
        8 / self.bits
    }

    /// The elements of `n` rows of bytes, the first in the lowest bits: `[n, elements]`, as many as fill
    /// the bytes; `signed` ones are less the middle of their range.
    fn elements(&self, e: &mut Emit, what: &str, packed: &Val, signed: bool) -> Val {
        let (row, per_byte) = (packed.ty.elems() / self.n, self.per_byte());
        let bytes = e.reshape(packed, [self.n, row]);
        let dtype = match (per_byte, signed) {
            (1, false) => return bytes,
            (1, true) => DType::I8,
            (_, false) => DType::U4,
            (_, true) => DType::I4,
        };
        let elements = e.temp(what, dtype, [self.n, row * per_byte]);
        let at: [Affine; 3] = std::array::from_fn(|i| Affine::var(i as u32));
        let column = at[1].scaled(per_byte as i64).plus(&at[2]);
        e.define_at(what, &elements, &[self.n, row, per_byte], vec![at[0].clone(), column], |b| {
            let byte = b.elem(&bytes, &at[..2], DType::I32);
            let place = b.index(at[2].clone());
            let place = b.cast(DType::I32, place);
            let width = b.number(DType::I32, self.bits as f64);
            let shift = b.times(place, width);
            let low = b.op(Op::Shr, &[byte, shift]);
            let mask = b.constant(Scalar::from_i64(DType::I32, (1 << self.bits) - 1));
            let mut element = b.op(Op::And, &[low, mask]);
            if signed {
                let middle = b.number(DType::I32, f64::from(1u32 << (self.bits - 1)));
                element = b.minus(element, middle);
            }
            b.cast(dtype, element)
        });
        elements
    }
}

fn infer(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let s = Bits::read(ctx)?;
    let x = ctx.ty(0)?;
    let mut shape = x.shape.clone();
    shape[x.rank() - 1] = s.n;
    Ok(vec![TensorType::new(x.dtype, shape)])
}

/// The weights and what makes floats of them.
struct Weights {
    /// `[n, blocks * block]`.
    elements: Val,
    /// `[n, blocks]`.
    scales: Val,
    /// `[n, blocks]` or more; none: the elements are signed, or less the middle of their range.
    zeros: Option<Val>,
    /// The block of each column, where they do not follow each other.
    groups: Option<Val>,
    float: DType,
}

impl Weights {
    /// Those of a node; without zero points they are signed, unless they have to be `unsigned`.
    fn read(e: &mut Emit, s: &Bits, float: DType, unsigned: bool) -> Result<Weights> {
        let (packed, scales) = (e.input(1)?, e.input(2)?);
        let zeros = match e.optional(3) {
            Some(z) => {
                let packed = z.dtype() == DType::U8;
                let row = if packed { s.blocks.div_ceil(s.per_byte()) } else { s.blocks };
                require(z.ty.elems() == s.n * row, || format!("zero points of type {} do not fit", z.ty))?;
                Some(if packed { s.elements(e, "zeros", &z, false) } else { e.reshape(&z, [s.n, row]) })
            }
            None => None,
        };
        Ok(Weights {
            elements: s.elements(e, "weights", &packed, zeros.is_none() && !unsigned),
            scales: e.reshape(&scales, [s.n, s.blocks]),
            zeros,
            groups: e.optional(4),
            float,
        })
    }

    fn at(&self, b: &mut DefBuilder, row: &Affine, block: &Affine, column: &Affine) -> ExprId {
        let element = b.elem(&self.elements, &[row.clone(), column.clone()], self.float);
        let block = match &self.groups {
            Some(groups) => Index::Dynamic(b.elem(groups, std::slice::from_ref(column), DType::I64)),
            None => Index::Affine(block.clone()),
        };
        let of_block = vec![Index::Affine(row.clone()), block];
        let element = match &self.zeros {
            Some(zeros) => {
                let zero = b.elem_at(zeros, of_block.clone(), self.float);
                b.minus(element, zero)
            }
            None => element,
        };
        let scale = b.elem_at(&self.scales, of_block, self.float);
        b.times(element, scale)
    }
}

/// What is multiplied as signed bytes, with what each block of a row has: a factor, and its share in the zero points of
/// columns, for each of the block's elements.
struct Bytes {
    /// `[..., blocks * block]` each, the highest first.
    elements: Vec<Val>,
    /// `[..., blocks]`.
    factors: Val,
    shares: Val,
}

impl Bytes {
    /// Quantizes what is multiplied, to so many bytes; without zero points of their own, all columns have that in the
    /// middle.
    fn read(e: &mut Emit, s: &Bits, (x, split): (&Val, usize), middle: Option<f64>) -> Bytes {
        let most = MOST * f64::from(1 << (8 * (split - 1)));
        let last = x.rank() - 1;
        let shape = |of: usize| [&x.shape()[..last], &[of]].concat();
        let place = |s: &Bits, b: &mut DefBuilder| {
            let place = b.reduce("place", s.block);
            let mut at = b.axes();
            at[last] = at[last].scaled(s.block as i64).plus(&place);
            at
        };
        let peaks = e.map("peaks", DType::F32, shape(s.blocks), |b| {
            let at = place(s, b);
            let element = s.multiplied(b, x, &at, DType::F32);
            let magnitude = b.op(Op::Abs, &[element]);
            b.fold(Fold::Max, magnitude)
        });
        // What is no number, or infinite, has no bytes: its block's factor is none either.
        let strays = e.map("strays", DType::F32, shape(s.blocks), |b| {
            let at = place(s, b);
            let element = s.multiplied(b, x, &at, DType::F32);
            let zero = b.times_number(element, 0.0);
            b.fold(Fold::Sum, zero)
        });
        let factors = e.map("factors", DType::F32, shape(s.blocks), |b| {
            let (peak, most) = (b.broadcast(&peaks, DType::F32), b.number(DType::F32, most));
            let (factor, stray) = (b.over(peak, most), b.broadcast(&strays, DType::F32));
            b.plus(factor, stray)
        });
        let inverses = e.map("inverses", DType::F32, shape(s.blocks), |b| {
            let peak = b.broadcast(&peaks, DType::F32);
            let [none, most] = [0.0, most].map(|n| b.number(DType::F32, n));
            let (zero, inverse) = (b.op(Op::Eq, &[peak, none]), b.over(most, peak));
            b.op(Op::Select, &[zero, none, inverse])
        });
        let wide = [&x.shape()[..last], &[s.blocks, s.block]].concat();
        let dtype = if split == 1 { DType::I8 } else { DType::I32 };
        let numbers = e.map("numbers", dtype, wide, |b| {
            let mut at = b.axes();
            let within = at.pop().unwrap_or_default();
            let inverse = b.elem(&inverses, &at, DType::F32);
            at[last] = at[last].scaled(s.block as i64).plus(&within);
            let element = s.multiplied(b, x, &at, DType::F32);
            let quotient = b.times(element, inverse);
            b.op(Op::Round, &[quotient])
        });
        let numbers = e.reshape(&numbers, shape(s.blocks * s.block));
        let shares = e.map("shares", DType::F32, shape(s.blocks), |b| {
            let axes = b.axes();
            let at = place(s, b);
            let element = b.elem(&numbers, &at, DType::I32);
            let sum = b.fold(Fold::Sum, element);
            let (sum, factor) = (b.cast(DType::F32, sum), b.elem(&factors, &axes, DType::F32));
            let share = b.times_number(sum, -middle.unwrap_or(1.0) / s.block as f64);
            b.times(share, factor)
        });
        let elements = if split == 1 { vec![numbers] } else { thirds(e, &numbers) };
        Bytes { elements, factors, shares }
    }

    /// An element as a float.
    fn element(&self, b: &mut DefBuilder, at: &[Affine]) -> ExprId {
        let (mut byte, mut sum) = (1u32, None);
        for value in self.elements.iter().rev() {
            let element = b.elem(value, at, DType::F32);
            let element = b.times_number(element, f64::from(byte));
            sum = Some(sum.map_or(element, |sum| b.plus(element, sum)));
            byte <<= 8;
        }
        sum.unwrap_or_else(|| b.number(DType::F32, 0.0))
    }
}

/// Numbers of 24 bits as three signed bytes, the highest first.
fn thirds(e: &mut Emit, numbers: &Val) -> Vec<Val> {
    let byte = |e: &mut Emit, place: i64| {
        e.map("bytes", DType::I8, numbers.shape(), |b| {
            // What is below is rounded to nearest; so is what is above.
            let number = b.broadcast(numbers, DType::I32);
            let below: i64 = (0..place).map(|i| 0x80 << (8 * i)).sum();
            let [below, shift, half, mask] =
                [below, 8 * place, 0x80, 0xff].map(|n| b.constant(Scalar::from_i64(DType::I32, n)));
            let number = b.plus(number, below);
            let number = b.op(Op::Shr, &[number, shift]);
            let number = b.plus(number, half);
            let low = b.op(Op::And, &[number, mask]);
            b.minus(low, half)
        })
    };
    (0..3).rev().map(|place| byte(e, place)).collect()
}

/// A product of bytes: a block's integers are summed as such, and scaled once ([`crate::schedule::blocked`]).
fn bytes(e: &mut Emit, s: &Bits, (x, bias, out): (&Val, Option<&Val>, &Val), split: usize) -> Result<()> {
    let (last, float) = (x.rank() - 1, DType::F32);
    let weights = Weights::read(e, s, float, true)?;
    let middle = weights.zeros.is_none().then_some(MIDDLE);
    let bytes = Bytes::read(e, s, (x, split), middle);
    e.define("", out, |b| {
        let (block, place) = (b.reduce("block", s.blocks), b.reduce("place", s.block));
        let (mut row, mut of_block) = (b.axes(), b.axes());
        let column = std::mem::replace(&mut row[last], block.scaled(s.block as i64).plus(&place));
        of_block[last] = block.clone();
        let byte = bytes.element(b, &row);
        let [factor, share] = [&bytes.factors, &bytes.shares].map(|value| b.elem(value, &of_block, float));
        let weight = b.elem(&weights.elements, &[column.clone(), row[last].clone()], float);
        let product = b.times(byte, weight);
        let product = b.times(product, factor);
        let at = [column, block];
        let share = match &weights.zeros {
            Some(zeros) => {
                let zero = b.elem(zeros, &at, float);
                b.times(share, zero)
            }
            None => share,
        };
        let (sum, scale) = (b.plus(product, share), b.elem(&weights.scales, &at, float));
        let scaled = b.times(sum, scale);
        let acc = b.fold(Fold::Sum, scaled);
        with_bias(b, acc, bias, float)
    });
    Ok(())
}

/// A folded value with the bias added to it.
fn with_bias(b: &mut DefBuilder, acc: ExprId, bias: Option<&Val>, float: DType) -> ExprId {
    let Some(bias) = bias else { return acc };
    let bias = b.broadcast(bias, float);
    b.plus(acc, bias)
}

fn lower(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (x, bias, out) = (e.input(0)?, e.optional(5), e.result()?);
    let float = compute_type(x.dtype());
    let s = Bits::read(ctx)?;
    if let Some(bias) = &bias {
        require(bias.shape() == [s.n], || format!("a bias of type {} does not fit", bias.ty))?;
    }
    if let Some(split) = s.split(ctx)?.filter(|_| float == DType::F32) {
        return bytes(&mut e, &s, (&x, bias.as_ref(), &out), split);
    }
    let weights = Weights::read(&mut e, &s, float, false)?;
    let last = x.rank() - 1;
    e.define("", &out, |b| {
        let (block, place) = (b.reduce("block", s.blocks), b.reduce("place", s.block));
        let column = block.scaled(s.block as i64).plus(&place);
        let mut at = b.axes();
        let row = std::mem::replace(&mut at[last], column.clone());
        let x = s.multiplied(b, &x, &at, float);
        let w = weights.at(b, &row, &block, &column);
        let product = b.times(x, w);
        let acc = b.fold(Fold::Sum, product);
        with_bias(b, acc, bias.as_ref(), float)
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::base::Tensor;
    use crate::graph::Attr;
    use crate::ops::older::fold_given;

    /// The result of ONNX Runtime: columns belong to two blocks in turn.
    #[test]
    fn columns_in_another_order() {
        let mut x = vec![0f32; 32];
        for (i, v) in [(0, 1.0), (1, 2.0), (5, 3.0), (31, 4.0)] {
            x[i] = v;
        }
        let bytes: Vec<u8> = (0..16).map(|i| i * 9).collect();
        let groups: Vec<i32> = (0..32).map(|i| i % 2).collect();
        let inputs = [
            Some(Tensor::new([1, 32], &x)),
            Some(Tensor::new([1, 2, 8], &bytes)),
            Some(Tensor::new([1, 2], &[1f32, 10.0])),
            None,
            Some(Tensor::new([32], &groups)),
        ];
        let attrs = [("K", 32), ("N", 1), ("bits", 4), ("block_size", 16)].map(|(n, v)| (n, Attr::Int(v)));
        let y = fold_given("com.microsoft.MatMulNBits", 1, &attrs, &inputs, 1).expect("a product");
        assert_eq!(y[0].to_vec::<f32>().expect("floats"), [-378.0]);
    }
}
