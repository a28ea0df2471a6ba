//! LSTMs whose hidden state is rounded to bytes, by a scale of each step, before weights of bytes multiply it.
//!
//! Inputs are those of LSTM, but for three: the first is the product of the inputs of all steps, `[directions, time,
//! batch, 4 * hidden]`, the second the scales of the recurrent weights, `[directions, 1 or 4 * hidden]`, and the
//! recurrent weights are integers, `[directions, hidden, 4 * hidden]`. A ninth is their zero points.

use super::integer::{Factors, Zero, check_quantized, define_product, known};
use super::matmul::Product;
use super::quantize::{Quantized, dynamically_quantized};
use super::recurrent_sizes::{Sizes, directions};
use crate::base::{Affine, DType, Tensor, TensorType};
use crate::definition::{DefBuilder, ExprId};
use crate::error::Result;
use crate::ops::Ctx;
use crate::ops::emit::{Arith, Emit, Val, require};

/// The operators: the bytes are unsigned, or signed.
pub const NAMES: [&str; 2] = ["RoundedLSTM", "SignedRoundedLSTM"];

/// Whether a node is one of them.
pub fn is(ctx: &Ctx) -> bool {
    NAMES.contains(&ctx.node.op.name)
}

/// Sizes of a node.
pub fn sizes(ctx: &Ctx) -> Result<Sizes> {
    let (x, r, scale) = (ctx.ty(0)?, ctx.ty(2)?, ctx.ty(1)?);
    let no = || format!("a recurrence over {x} with weights {r} times {scale} is not defined");
    check_quantized(r)?;
    require(x.rank() == 4 && r.rank() == 3 && scale.rank() == 2 && x.dtype == DType::F32, no)?;
    let (directions, hidden) = (directions(ctx)?, r.shape[1]);
    let rows = 4 * hidden;
    let fits = |ty: &TensorType| ty.shape == [directions, rows] || ty.shape == [directions, 1];
    require(fits(scale) && fits(ctx.ty(8)?), no)?;
    require(
        x.shape == [directions, x.shape[1], x.shape[2], rows] && r.shape == [directions, hidden, rows],
        no,
    )?;
    Ok(Sizes { time: x.shape[1], batch: x.shape[2], input: rows, hidden, directions, batch_first: false })
}

/// What multiplies the hidden state of one direction.
pub struct Rounded {
    weights: Val,
    zero: Val,
    scale: Val,
    bytes: DType,
}

impl Rounded {
    /// The weights of a direction.
    pub fn new(e: &mut Emit, direction: usize) -> Result<Rounded> {
        let bytes = if e.ctx.node.op.name == NAMES[0] { DType::U8 } else { DType::I8 };
        let mut of = |i: usize| Ok(part(e, &e.input(i)?, direction));
        Ok(Rounded { weights: of(2)?, zero: of(8)?, scale: of(1)?, bytes })
    }

    /// The product of the rounded state and the weights, then `finish` of the sum and the row.
    pub fn recurrent(
        &self,
        e: &mut Emit,
        h: &Val,
        finish: impl FnOnce(&mut DefBuilder, ExprId, Affine) -> ExprId,
    ) -> Result<Val> {
        let f = DType::F32;
        let to = Quantized {
            elems: e.temp("bytes", self.bytes, h.shape()),
            scale: e.temp("scale", f, []),
            zero: e.temp("zero", self.bytes, []),
        };
        let a = dynamically_quantized(e, h, to);
        let product = Product::plain(h.shape(), self.weights.shape())?;
        let out = e.temp("recurrence", f, [h.shape()[0], self.weights.shape()[1]]);
        let b_zero = match known(e, &self.zero) {
            Some(zero) if zero.iter().all(|&z| z == 0) => Zero::None,
            Some(zero) => Zero::Known(zero),
            None => Zero::Value(self.zero.clone()),
        };
        let factors = Factors {
            a: a.elems,
            a_zero: Zero::Value(a.zero),
            b: self.weights.clone(),
            b_zero,
            b_transposed: false,
        };
        define_product(e, &out, &product, factors, |b, sum| {
            let sum = b.cast(f, sum);
            let (step, scale) = (b.elem(&a.scale, &[], f), b.broadcast(&self.scale, f));
            let scale = b.times(step, scale);
            let sum = b.times(sum, scale);
            let row = b.var(1);
            finish(b, sum, row)
        })?;
        Ok(out)
    }
}

/// One direction of a value whose first dimension they are: a constant where it is known.
fn part(e: &mut Emit, whole: &Val, direction: usize) -> Val {
    let ty = TensorType::new(whole.dtype(), &whole.shape()[1..]);
    if let Some(tensor) = &e.ctx.graph.value(whole.id).constant {
        let bytes = ty.elems() * ty.dtype.size();
        let data = tensor.data[direction * bytes..][..bytes].to_vec();
        return e.constant("part", Tensor { ty, data: data.into() });
    }
    e.map("part", ty.dtype, ty.shape.clone(), |b| {
        let axes = (0..ty.rank()).map(|i| b.var(i));
        let index: Vec<Affine> = std::iter::once(Affine::constant(direction as i64)).chain(axes).collect();
        b.elem(whole, &index, ty.dtype)
    })
}
