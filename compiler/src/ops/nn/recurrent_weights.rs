//! The weights of a recurrent node in one direction: products of inputs and of hidden states with them, and where the
//! states of that direction begin and are stored.

use super::recurrent_sizes::Sizes;
use super::rounded::Rounded;
use crate::base::{Affine, DType};
use crate::definition::{DefBuilder, ExprId};
use crate::error::Result;
use crate::ops::emit::{Arith, Emit, Val};
use crate::scalar::Fold;

/// The weights of one direction.
pub struct Weights {
    /// Which direction.
    pub direction: usize,
    /// Sizes of the node.
    pub sizes: Sizes,
    /// Rows of weights per hidden unit.
    pub gates: usize,
    /// The type of the arithmetic.
    pub float: DType,
    /// What multiplies the hidden state where that is rounded to bytes.
    pub rounded: Option<Rounded>,
}

impl Weights {
    fn at(&self, index: &[Affine]) -> Vec<Affine> {
        std::iter::once(Affine::constant(self.direction as i64)).chain(index.iter().cloned()).collect()
    }

    /// `W x_t + bias` of all time steps, `[time, batch, gates * hidden]`. The biases of the last
    /// `apart` rows of the recurrence are left out.
    pub fn projection(&self, e: &mut Emit, apart: usize) -> Result<Val> {
        let (x, bias) = (e.input(0)?, e.optional(3));
        let s = self.sizes;
        let rows = self.gates * s.hidden;
        let bias = bias.map(|bias| {
            let sum = e.temp("bias", self.float, [rows]);
            for (first, count, both) in [(0, rows - apart, true), (rows - apart, apart, false)] {
                if count == 0 {
                    continue;
                }
                let row = Affine::var(0).offset(first as i64);
                e.define_at("bias", &sum, &[count], vec![row.clone()], |b| {
                    let input = b.elem(&bias, &self.at(std::slice::from_ref(&row)), self.float);
                    if !both {
                        return input;
                    }
                    let recurrent = b.elem(&bias, &self.at(&[row.offset(rows as i64)]), self.float);
                    b.plus(input, recurrent)
                });
            }
            sum
        });
        if self.rounded.is_some() {
            return Ok(e.map("projection", self.float, [s.time, s.batch, rows], |b| {
                let index = self.at(&[b.var(0), b.var(1), b.var(2)]);
                let sum = b.elem(&x, &index, self.float);
                let Some(bias) = &bias else { return sum };
                let bias = b.elem(bias, &[b.var(2)], self.float);
                b.plus(sum, bias)
            }));
        }
        let w = e.input(1)?;
        Ok(e.map("projection", self.float, [s.time, s.batch, rows], |b| {
            let k = b.reduce("k", s.input);
            let (t, n, g) = (b.var(0), b.var(1), b.var(2));
            let at_x = if s.batch_first { [n, t, k.clone()] } else { [t, n, k.clone()] };
            let (x, w) = (b.elem(&x, &at_x, self.float), b.elem(&w, &self.at(&[g.clone(), k]), self.float));
            let product = b.times(x, w);
            let acc = b.fold(Fold::Sum, product);
            let Some(bias) = &bias else { return acc };
            let bias = b.elem(bias, &[g], self.float);
            b.plus(acc, bias)
        }))
    }

    /// The recurrent bias of `count` rows from `first`; `None` where there is none.
    pub fn recurrent_bias(&self, e: &mut Emit, first: usize, count: usize) -> Option<Val> {
        let bias = e.optional(3)?;
        let offset = (self.gates * self.sizes.hidden + first) as i64;
        Some(e.map("bias", self.float, [count], |b| {
            b.elem(&bias, &self.at(&[b.var(0).offset(offset)]), self.float)
        }))
    }

    /// `R h` for `count` rows of the recurrent weights from `first`, then `finish` of the sum and
    /// the row, `[batch, count]`.
    pub fn recurrent(
        &self,
        e: &mut Emit,
        h: &Val,
        first: usize,
        count: usize,
        finish: impl FnOnce(&mut DefBuilder, ExprId, Affine) -> ExprId,
    ) -> Result<Val> {
        if let Some(rounded) = &self.rounded {
            return rounded.recurrent(e, h, finish);
        }
        let r = e.input(2)?;
        let s = self.sizes;
        Ok(e.map("recurrence", self.float, [s.batch, count], |b| {
            let j = b.reduce("j", s.hidden);
            let g = b.var(1);
            let row = g.offset(first as i64);
            let h = b.elem(h, &[b.var(0), j.clone()], self.float);
            let r = b.elem(&r, &self.at(&[row, j]), self.float);
            let product = b.times(h, r);
            let acc = b.fold(Fold::Sum, product);
            finish(b, acc, g)
        }))
    }

    /// A state before the first step, `[batch, hidden]`: input `i`, or zeros.
    pub fn initial(&self, e: &mut Emit, i: usize) -> Val {
        let s = self.sizes;
        match e.optional(i) {
            Some(value) => e.map("initial", self.float, [s.batch, s.hidden], |b| {
                let index = self.state_index(b.var(0), b.var(1));
                b.elem(&value, &index, self.float)
            }),
            None => e.table("initial", self.float, &[s.batch, s.hidden], &vec![0.0; s.batch * s.hidden]),
        }
    }

    /// The index in a state input or output.
    fn state_index(&self, batch: Affine, unit: Affine) -> Vec<Affine> {
        let direction = Affine::constant(self.direction as i64);
        if self.sizes.batch_first { vec![batch, direction, unit] } else { vec![direction, batch, unit] }
    }

    pub fn store_state(&self, e: &mut Emit, i: usize, state: &Val) {
        let Some(out) = e.output(i) else { return };
        let s = self.sizes;
        let store = self.state_index(Affine::var(0), Affine::var(1));
        e.define_at("last", &out, &[s.batch, s.hidden], store, |b| b.broadcast(state, self.float));
    }

    pub fn store_all(&self, e: &mut Emit, out: &Val, all: &Val) {
        let s = self.sizes;
        let (t, n, j) = (Affine::var(0), Affine::var(1), Affine::var(2));
        let direction = Affine::constant(self.direction as i64);
        let store = if s.batch_first { vec![n, t, direction, j] } else { vec![t, direction, n, j] };
        e.define_at("all", out, &[s.time, s.batch, s.hidden], store, |b| b.broadcast(all, self.float));
    }
}
