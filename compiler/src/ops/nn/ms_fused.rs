//! Fused operators of com.microsoft: normalizations with what precedes them, GELU with bias, and
//! products with 4- to 8-bit weights.

use super::normalize::{Statistics, check_broadcast, scaled};
use crate::base::{Affine, DType, TensorType};
use crate::definition::{DefBuilder, ExprId, Index, Lowering};
use crate::error::Result;
use crate::ops::emit::{Arith, Emit, Val, compute_type, require};
use crate::ops::{Ctx, Lower, Operator};
use crate::scalar::{Fold, Op, Scalar};

type InferFn = fn(&Ctx) -> Result<Vec<TensorType>>;
type LowerFn = fn(&Ctx, &mut Lowering) -> Result<()>;

const fn row(name: &'static str, infer: InferFn, lower: LowerFn) -> Operator {
    Operator { domain: "com.microsoft", name, versions: &[1], infer, lower: Lower::Define(lower), note: "" }
}

/// The rows.
pub const ROWS: &[Operator] = &[
    row("SkipLayerNormalization", infer_skip, |c, l| skip(c, l, true)),
    row("SkipSimplifiedLayerNormalization", infer_skip, |c, l| skip(c, l, false)),
    row("EmbedLayerNormalization", infer_embed, embed),
    row("Gelu", infer_same, |c, l| activation(c, l, gelu)),
    row("BiasGelu", infer_same, |c, l| activation(c, l, gelu)),
    row("FastGelu", infer_same, |c, l| activation(c, l, fast_gelu)),
    row("QuickGelu", infer_same, quick_gelu),
    row("MatMulNBits", infer_bits, bits),
];

fn infer_skip(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let x = ctx.ty(0)?;
    require(x.dtype.is_float() && x.rank() >= 1, || format!("it is not defined for {x}"))?;
    let mut statistics = x.shape.clone();
    statistics[x.rank() - 1] = 1;
    let statistics = TensorType::new(DType::F32, statistics);
    Ok(vec![x.clone(), statistics.clone(), statistics, x.clone()])
}

/// Normalizes `input + skip + bias`; output 3 is that sum.
fn skip(ctx: &Ctx, low: &mut Lowering, centred: bool) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (x, other, gamma, out) = (e.input(0)?, e.input(1)?, e.input(2)?, e.result()?);
    let (beta, bias) = if centred { (e.optional(3), e.optional(4)) } else { (None, e.optional(3)) };
    check_broadcast(&other, x.shape(), "the skip")?;
    let float = compute_type(x.dtype());
    if let Some(bias) = &bias {
        check_broadcast(bias, x.shape(), "a bias")?;
    }
    let sum = match e.output(3) {
        Some(sum) => sum,
        None => e.temp("sum", float, x.shape()),
    };
    e.define("sum", &sum, |b| {
        let (x, other) = (b.broadcast(&x, float), b.broadcast(&other, float));
        let sum = b.plus(x, other);
        let Some(bias) = &bias else { return sum };
        let bias = b.broadcast(bias, float);
        b.plus(sum, bias)
    });
    let axes = [x.rank() - 1];
    let epsilon = f64::from(ctx.attrs().float("epsilon", 1e-5)?);
    let statistics = match centred {
        true => Statistics::new(&mut e, &sum, &axes, epsilon),
        false => Statistics::root_mean_square(&mut e, &sum, &axes, epsilon),
    };
    scaled(&mut e, &sum, &statistics, Some(&gamma), beta.as_ref(), &out)?;
    for (i, value) in [(1, statistics.mean.as_ref()), (2, Some(&statistics.inverse))] {
        if let (Some(out), Some(value)) = (e.output(i), value) {
            e.define("statistics", &out, |b| b.broadcast(value, value.dtype()));
        }
    }
    Ok(())
}

fn infer_embed(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let (ids, words) = (ctx.ty(0)?, ctx.ty(2)?);
    require(ids.rank() == 2 && words.rank() == 2 && words.dtype.is_float(), || {
        format!("an embedding of {ids} in {words} is not defined")
    })?;
    let embedding = TensorType::new(words.dtype, [ids.shape[0], ids.shape[1], words.shape[1]]);
    Ok(vec![embedding.clone(), TensorType::new(DType::I32, [ids.shape[0]]), embedding])
}

/// The sum of word, position and segment embeddings, normalized; output 1 counts the mask.
fn embed(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (ids, segments, words, places, kinds) =
        (e.input(0)?, e.optional(1), e.input(2)?, e.input(3)?, e.optional(4));
    let (gamma, beta, mask, positions, out) =
        (e.input(5)?, e.input(6)?, e.optional(7), e.optional(8), e.result()?);
    let float = compute_type(words.dtype());
    let tables = [Some(&words), Some(&places), kinds.as_ref()];
    for table in tables.into_iter().flatten() {
        require(table.rank() == 2 && table.shape()[1] == out.shape()[2], || {
            format!("a table of type {} does not fit", table.ty)
        })?;
    }
    let sum = match e.output(2) {
        Some(sum) => sum,
        None => e.temp("sum", float, out.shape()),
    };
    let lookup = |b: &mut DefBuilder, table: &Val, row: Index| {
        let column = Index::Affine(b.var(2));
        b.elem_at(table, vec![row, column], float)
    };
    e.define("sum", &sum, |b| {
        let at = [b.var(0), b.var(1)];
        let id = b.elem(&ids, &at, DType::I64);
        let mut total = lookup(b, &words, Index::Dynamic(id));
        let place = match &positions {
            Some(p) => {
                let batch = if p.shape()[0] == 1 { Affine::constant(0) } else { b.var(0) };
                Index::Dynamic(b.elem(p, &[batch, b.var(1)], DType::I64))
            }
            None => Index::Affine(b.var(1)),
        };
        let place = lookup(b, &places, place);
        total = b.plus(total, place);
        if let (Some(segments), Some(kinds)) = (&segments, &kinds) {
            let kind = b.elem(segments, &at, DType::I64);
            let kind = lookup(b, kinds, Index::Dynamic(kind));
            total = b.plus(total, kind);
        }
        total
    });
    let epsilon = f64::from(ctx.attrs().float("epsilon", 1e-12)?);
    let statistics = Statistics::new(&mut e, &sum, &[2], epsilon);
    scaled(&mut e, &sum, &statistics, Some(&gamma), Some(&beta), &out)?;
    if let Some(counts) = e.output(1) {
        e.define("counts", &counts, |b| match &mask {
            Some(mask) => {
                let s = b.reduce("s", ids.shape()[1]);
                let elem = b.elem(mask, &[b.var(0), s], DType::I32);
                b.fold(Fold::Sum, elem)
            }
            None => b.number(DType::I32, 0.0),
        });
    }
    Ok(())
}

fn infer_same(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let x = ctx.ty(0)?;
    require(x.dtype.is_float(), || format!("it is not defined for {x}"))?;
    Ok(vec![x.clone()])
}

/// A function of the input plus an optional bias.
fn activation(ctx: &Ctx, low: &mut Lowering, f: fn(&mut DefBuilder, ExprId) -> ExprId) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (x, bias, out) = (e.input(0)?, e.optional(1), e.result()?);
    let float = compute_type(x.dtype());
    if let Some(bias) = &bias {
        check_broadcast(bias, x.shape(), "a bias")?;
    }
    e.define("", &out, |b| {
        let mut value = b.broadcast(&x, float);
        if let Some(bias) = &bias {
            let bias = b.broadcast(bias, float);
            value = b.plus(value, bias);
        }
        f(b, value)
    });
    Ok(())
}

/// `x / 2 * (1 + erf(x / sqrt 2))`.
fn gelu(b: &mut DefBuilder, x: ExprId) -> ExprId {
    let scaled = b.times_number(x, std::f64::consts::FRAC_1_SQRT_2);
    let erf = b.op(Op::Erf, &[scaled]);
    let sum = b.plus_number(erf, 1.0);
    let half = b.times_number(x, 0.5);
    b.times(half, sum)
}

/// `x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))`.
fn fast_gelu(b: &mut DefBuilder, x: ExprId) -> ExprId {
    let square = b.times(x, x);
    let cubic = b.times_number(square, 0.044715 * 0.797_884_560_802_865_4);
    let factor = b.plus_number(cubic, 0.797_884_560_802_865_4);
    let inner = b.times(x, factor);
    let tanh = b.op(Op::Tanh, &[inner]);
    let sum = b.plus_number(tanh, 1.0);
    let half = b.times_number(x, 0.5);
    b.times(half, sum)
}

/// `x * sigmoid(alpha x)`.
fn quick_gelu(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (x, out) = (e.input(0)?, e.result()?);
    let float = compute_type(x.dtype());
    let alpha = f64::from(ctx.attrs().float("alpha", 1.702)?);
    e.define("", &out, |b| {
        let x = b.broadcast(&x, float);
        let scaled = b.times_number(x, alpha);
        let gate = b.op(Op::Sigmoid, &[scaled]);
        b.times(x, gate)
    });
    Ok(())
}

/// Sizes of a MatMulNBits: weights `[n, k]` in blocks along k.
struct Bits {
    k: usize,
    n: usize,
    bits: usize,
    block: usize,
    blocks: usize,
}

impl Bits {
    fn per_byte(&self) -> usize {
        8 / self.bits
    }
}

fn read_bits(ctx: &Ctx) -> Result<Bits> {
    let attr = |name, default| ctx.attrs().int(name, default).map(|v| usize::try_from(v).unwrap_or(0));
    let (k, n) = (attr("K", 0)?, attr("N", 0)?);
    let (bits, block) = (attr("bits", 4)?, attr("block_size", 0)?);
    require([2, 4, 8].contains(&bits) && block >= 16 && block.is_power_of_two() && k > 0 && n > 0, || {
        format!("weights of {bits} bits in blocks of {block} for K {k}, N {n} are not supported")
    })?;
    let blocks = k.div_ceil(block);
    let (x, w, scales) = (ctx.ty(0)?, ctx.ty(1)?, ctx.ty(2)?);
    let fits = x.shape.last() == Some(&k)
        && w.dtype == DType::U8
        && w.elems() == n * blocks * (block * bits / 8)
        && scales.elems() == n * blocks
        && x.dtype.is_float();
    require(fits, || format!("{x}, {w} and {scales} do not fit K {k} and N {n}"))?;
    require(!ctx.has(4), || "reordered columns (g_idx) are not supported".into())?;
    Ok(Bits { k, n, bits, block, blocks })
}

fn infer_bits(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let s = read_bits(ctx)?;
    let x = ctx.ty(0)?;
    let mut shape = x.shape.clone();
    shape[x.rank() - 1] = s.n;
    Ok(vec![TensorType::new(x.dtype, shape)])
}

/// Element `i` of a byte that holds several, as i32.
fn unpacked(b: &mut DefBuilder, byte: ExprId, place: ExprId, bits: usize) -> ExprId {
    let byte = b.cast(DType::I32, byte);
    let place = b.cast(DType::I32, place);
    let width = b.number(DType::I32, bits as f64);
    let shift = b.times(place, width);
    let low = b.op(Op::Shr, &[byte, shift]);
    let mask = b.constant(Scalar::from_i64(DType::I32, (1 << bits) - 1));
    b.op(Op::And, &[low, mask])
}

/// The packed weights of a MatMulNBits, and what turns them into floats.
struct Packed {
    sizes: Bits,
    /// `[n, blocks, bytes of a block]`.
    weights: Val,
    /// `[n, blocks]`.
    scales: Val,
    /// Whole bytes per row where packed, one float per block otherwise.
    zeros: Option<Val>,
    float: DType,
}

impl Packed {
    fn new(e: &mut Emit, sizes: Bits, float: DType) -> Result<Packed> {
        let (w, scales, zeros) = (e.input(1)?, e.input(2)?, e.optional(3));
        let weights = e.reshape(&w, [sizes.n, sizes.blocks, sizes.block / sizes.per_byte()]);
        let scales = e.reshape(&scales, [sizes.n, sizes.blocks]);
        let zeros = match zeros {
            Some(z) => {
                let packed = z.dtype() == DType::U8;
                let row = if packed { sizes.blocks.div_ceil(sizes.per_byte()) } else { sizes.blocks };
                require(z.ty.elems() == sizes.n * row, || {
                    format!("zero points of type {} do not fit", z.ty)
                })?;
                Some(e.reshape(&z, [sizes.n, row]))
            }
            None => None,
        };
        Ok(Packed { sizes, weights, scales, zeros, float })
    }

    /// The weight at a row, block, byte of the block and place within the byte.
    fn weight(&self, b: &mut DefBuilder, at: &[Affine; 4]) -> ExprId {
        let (bits, per_byte) = (self.sizes.bits, self.sizes.per_byte());
        let byte = b.elem(&self.weights, &at[..3], DType::U8);
        let place = b.index(at[3].clone());
        let value = unpacked(b, byte, place, bits);
        let value = b.cast(self.float, value);
        let zero = match &self.zeros {
            None => b.number(self.float, (1u32 << (bits - 1)) as f64),
            Some(z) if z.dtype() != DType::U8 => b.elem(z, &at[..2], self.float),
            Some(z) => {
                let (block, n) = (b.index(at[1].clone()), b.number(DType::I64, per_byte as f64));
                let (byte, place) = (b.op(Op::Div, &[block, n]), b.op(Op::Rem, &[block, n]));
                let byte = b.elem_at(z, vec![Index::Affine(at[0].clone()), Index::Dynamic(byte)], DType::U8);
                let zero = unpacked(b, byte, place, bits);
                b.cast(self.float, zero)
            }
        };
        let difference = b.minus(value, zero);
        let scale = b.elem(&self.scales, &at[..2], self.float);
        b.times(difference, scale)
    }
}

/// Up to so many rows of data the weights are unpacked where they are used; with more it pays to
/// unpack them once.
const FEW_ROWS: usize = 4;

fn bits(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (x, bias, out) = (e.input(0)?, e.optional(5), e.result()?);
    let float = compute_type(x.dtype());
    let packed = Packed::new(&mut e, read_bits(ctx)?, float)?;
    let (k, n) = (packed.sizes.k, packed.sizes.n);
    if let Some(bias) = &bias {
        require(bias.shape() == [n], || format!("a bias of type {} does not fit", bias.ty))?;
    }
    let finish = |b: &mut DefBuilder, acc: ExprId| {
        let Some(bias) = &bias else { return acc };
        let bias = b.broadcast(bias, float);
        b.plus(acc, bias)
    };
    let last = x.rank() - 1;
    if x.ty.elems() <= FEW_ROWS * k {
        e.define("", &out, |b| {
            let (column, at) = packed.reduced(b, last);
            let mut index = b.axes();
            index[last] = column;
            let (x, w) = (b.elem_or_zero(&x, &index, float), packed.weight(b, &at));
            let product = b.times(x, w);
            let acc = b.fold(Fold::Sum, product);
            finish(b, acc)
        });
        return Ok(());
    }
    let weights = packed.unpacked(&mut e);
    e.define("", &out, |b| {
        let k = b.reduce("k", k);
        let mut at = b.axes();
        at[last] = k.clone();
        let (x, w) = (b.elem(&x, &at, float), b.elem(&weights, &[b.var(last), k], float));
        let product = b.times(x, w);
        let acc = b.fold(Fold::Sum, product);
        finish(b, acc)
    });
    Ok(())
}

impl Packed {
    /// Reduction axes over the blocks, bytes and places of a row (the axis `row`): the column they
    /// stand for, and their index.
    fn reduced(&self, b: &mut DefBuilder, row: usize) -> (Affine, [Affine; 4]) {
        let s = &self.sizes;
        let per_byte = s.per_byte();
        let block = b.reduce("block", s.blocks);
        let byte = b.reduce("byte", s.block / per_byte);
        let place = b.reduce("place", per_byte);
        let column = block.scaled(s.block as i64).plus_scaled(&byte, per_byte as i64).plus(&place);
        (column, [b.var(row), block, byte, place])
    }

    /// Defines all weights as floats, `[n, blocks * block]`.
    fn unpacked(&self, e: &mut Emit) -> Val {
        let s = &self.sizes;
        let per_byte = s.per_byte();
        let weights = e.temp("weights", self.float, [s.n, s.blocks * s.block]);
        let at: [Affine; 4] = std::array::from_fn(|i| Affine::var(i as u32));
        let column = at[1].scaled(s.block as i64).plus_scaled(&at[2], per_byte as i64).plus(&at[3]);
        let extents = [s.n, s.blocks, s.block / per_byte, per_byte];
        e.define_at("weights", &weights, &extents, vec![at[0].clone(), column], |b| self.weight(b, &at));
        weights
    }
}
