//! Requantized numbers in registers: what [`crate::nest::requantize`] has taken apart, as few operations.

use super::{Exprs, Point};
use crate::base::DType;
use crate::nest::emit::Emitter;
use crate::nest::pairs::integers;
use crate::nest::range::{BOUND, divisor, range};
use crate::nest::registers::constant;
use crate::nest::requantize::{Requantized, Zero};
use crate::scalar::{Op, Scalar};
use crate::schedule::linear::{Node, Pair};
use crate::tile::{Bin, Convert, Lane, Reg, RegType, Un, Value};

impl Requantized {
    /// Emits it: a register of the integers.
    pub fn emit(&self, exprs: &Exprs, e: &mut Emitter, point: &Point, memo: &mut Vec<Option<Reg>>) -> Reg {
        let sum = self.emit_whole(exprs, e, point, memo);
        self.emit_limits(e, sum, point)
    }

    /// The integers between their limits.
    pub(super) fn emit_limits(&self, e: &mut Emitter, sum: Reg, point: &Point) -> Reg {
        let limits = [self.lo, self.hi].map(|n| number(e, n, point.lanes));
        clamp(e, sum, limits)
    }

    /// The integers before they are limited.
    pub(super) fn emit_whole(
        &self,
        exprs: &Exprs,
        e: &mut Emitter,
        point: &Point,
        memo: &mut Vec<Option<Reg>>,
    ) -> Reg {
        let mut sum = self.rounded(exprs, e, point, memo);
        let zero = match self.zero {
            Zero::Known(0) => None,
            Zero::Known(n) => Some(number(e, n, point.lanes)),
            Zero::Value(id) => Some(exprs.eval_memo(e, id, point, memo)),
        };
        if let Some(zero) = zero {
            sum = e.value(e.ty(sum), Value::Bin(Bin::Add, sum, zero));
        }
        sum
    }

    /// Emits it less its zero point, which is neither added nor taken off: the limits move.
    pub fn emit_less_zero(
        &self,
        exprs: &Exprs,
        e: &mut Emitter,
        point: &Point,
        memo: &mut Vec<Option<Reg>>,
    ) -> Reg {
        let sum = self.rounded(exprs, e, point, memo);
        let zero = self.zero_value().map(|id| exprs.eval_memo(e, id, point, memo));
        let limits = self.limits_less_zero(e, zero, point.lanes);
        clamp(e, sum, limits)
    }

    /// The same as floats.
    pub(super) fn emit_less_zero_as_floats(
        &self,
        exprs: &Exprs,
        e: &mut Emitter,
        point: &Point,
        memo: &mut Vec<Option<Reg>>,
    ) -> Reg {
        let value = self.before_rounding(exprs, e, point, memo);
        let ty = e.ty(value);
        let rounded = e.value(ty, Value::Un(Un::Round, value));
        let zero = self.zero_value().map(|id| exprs.eval_memo(e, id, point, memo));
        let limits = self.float_limits(e, zero, point.lanes);
        clamp(e, rounded, limits)
    }

    /// The limits less the zero point, of which `value` is the register where it has one.
    pub fn limits_less_zero(&self, e: &mut Emitter, value: Option<Reg>, lanes: usize) -> [Reg; 2] {
        let known = if let Zero::Known(n) = self.zero { n } else { 0 };
        [self.lo, self.hi].map(|limit| {
            let limit = number(e, limit - known, lanes);
            value.map_or(limit, |zero| e.value(e.ty(limit), Value::Bin(Bin::Sub, limit, zero)))
        })
    }

    /// These as floats.
    pub(in crate::nest) fn float_limits(
        &self,
        e: &mut Emitter,
        value: Option<Reg>,
        lanes: usize,
    ) -> [Reg; 2] {
        let ty = RegType { lane: Lane::F32, lanes: lanes as u8 };
        let limits = self.limits_less_zero(e, value, lanes);
        limits.map(|limit| e.value(ty, Value::Convert(Convert::IntToFloat, limit)))
    }

    /// The nearest integers, before the zero point.
    fn rounded(&self, exprs: &Exprs, e: &mut Emitter, point: &Point, memo: &mut Vec<Option<Reg>>) -> Reg {
        let Some(fixed) = exprs.linear.fixed.filter(|f| f.product == self.value) else {
            return self.nearest(exprs, e, point, memo);
        };
        let [sum, factor] = [fixed.sum, fixed.factor].map(|id| exprs.eval_memo(e, id, point, memo));
        let product = e.value(e.ty(sum), Value::Bin(Bin::MulHigh, sum, factor));
        let by = number(e, i64::from(fixed.shift), point.lanes);
        e.value(e.ty(sum), Value::Bin(Bin::ShrRound, product, by))
    }

    /// The nearest integer of what is rounded.
    fn nearest(&self, exprs: &Exprs, e: &mut Emitter, point: &Point, memo: &mut Vec<Option<Reg>>) -> Reg {
        let value = self.before_rounding(exprs, e, point, memo);
        let known = range(exprs.linear, self.value);
        let small = known.lo >= -BOUND && known.hi <= BOUND || self.pair(exprs.linear).is_some();
        let nearest = if small { Convert::NearestSmall } else { Convert::Nearest };
        e.value(RegType { lane: Lane::I32, lanes: point.lanes as u8 }, Value::Convert(nearest, value))
    }

    /// What is rounded.
    fn before_rounding(
        &self,
        exprs: &Exprs,
        e: &mut Emitter,
        point: &Point,
        memo: &mut Vec<Option<Reg>>,
    ) -> Reg {
        if let Some(pair) = self.pair(exprs.linear) {
            return multiply_adds(&pair, exprs, e, point, memo);
        }
        match &exprs.linear.nodes[self.value as usize] {
            Node::Op(Op::Div, args) if divisor(exprs.linear, args[1]).is_some() && e.fused() => {
                let [dividend, divisor] = [args[0], args[1]].map(|id| exprs.eval_memo(e, id, point, memo));
                quotient(e, dividend, divisor)
            }
            _ => exprs.eval_memo(e, self.value, point, memo),
        }
    }
}

fn number(e: &mut Emitter, n: i64, lanes: usize) -> Reg {
    constant(e, Scalar::from_i64(DType::I32, n), lanes)
}

fn clamp(e: &mut Emitter, sum: Reg, [lo, hi]: [Reg; 2]) -> Reg {
    let ty = e.ty(sum);
    let above = e.value(ty, Value::Bin(Bin::Max, lo, sum));
    e.value(ty, Value::Bin(Bin::Min, hi, above))
}

/// The reciprocal of a divisor, and its negative.
pub fn prepared(e: &mut Emitter, divisor: Reg) -> (Reg, Reg) {
    let ty = e.ty(divisor);
    let one = e.value(ty, Value::Const(u64::from(1f32.to_bits())));
    (e.value(ty, Value::Bin(Bin::Div, one, divisor)), e.value(ty, Value::Un(Un::Neg, divisor)))
}

fn quotient(e: &mut Emitter, dividend: Reg, divisor: Reg) -> Reg {
    let ty = e.ty(dividend);
    let (reciprocal, negative) = prepared(e, divisor);
    let near = e.value(ty, Value::Bin(Bin::Mul, dividend, reciprocal));
    let rest = e.value(ty, Value::Mla(dividend, near, negative));
    e.value(ty, Value::Mla(near, rest, reciprocal))
}

/// What is rounded, by multiply-adds.
fn multiply_adds(
    pair: &Pair,
    exprs: &Exprs,
    e: &mut Emitter,
    point: &Point,
    memo: &mut Vec<Option<Reg>>,
) -> Reg {
    let ty = RegType { lane: Lane::F32, lanes: point.lanes as u8 };
    let mut byte = |e: &mut Emitter, id: u32| match integers(exprs.linear, id) {
        Some(integers) => integers.emit_less_zero_as_floats(exprs, e, point, memo),
        None => {
            let byte = exprs.eval_memo(e, id, point, memo);
            e.value(ty, Value::Convert(Convert::IntToFloat, byte))
        }
    };
    let [x, y] = pair.bytes.map(|id| byte(e, id));
    let [a, b] = pair.factors.map(|id| exprs.eval_memo(e, id, point, memo));
    let offset = exprs.eval_memo(e, pair.offset, point, memo);
    let inner = e.value(ty, Value::Mla(offset, y, b));
    e.value(ty, Value::Mla(inner, x, a))
}
