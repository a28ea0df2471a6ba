//! Requantized numbers in registers: what [`crate::nest::requantize`] has taken apart, as few operations.

use super::{Exprs, Point};
use crate::base::DType;
use crate::nest::emit::Emitter;
use crate::nest::pairs::integers;
use crate::nest::range::{BOUND, divisor, range};
use crate::nest::registers::constant;
use crate::nest::requantize::{Requantized, Zero};
use crate::scalar::placed::PLACE;
use crate::scalar::{Op, Scalar};
use crate::schedule::Linear;
use crate::schedule::linear::{Node, Pair, Placed};
use crate::tile::{Bin, Convert, Lane, Reg, RegType, Un, Value};

/// Where numbers are emitted: of which expressions, at which point, and what of it is in registers already.
pub(super) struct Site<'s> {
    pub exprs: &'s Exprs<'s>,
    pub e: &'s mut Emitter,
    pub point: &'s Point<'s>,
    pub memo: &'s mut Vec<Option<Reg>>,
}

impl Site<'_> {
    /// The register that holds an expression.
    pub fn eval(&mut self, id: u32) -> Reg {
        self.exprs.eval_memo(self.e, id, self.point, self.memo)
    }

    /// The zero point's register, where a value says it.
    fn zero(&mut self, of: &Requantized) -> Option<Reg> {
        of.zero_value().map(|id| self.eval(id))
    }
}

impl Requantized {
    /// Emits it: a register of the integers.
    pub(super) fn emit(&self, at: &mut Site) -> Reg {
        let sum = self.emit_whole(at);
        self.emit_limits(at.e, sum, at.point)
    }

    /// The integers between their limits.
    pub(super) fn emit_limits(&self, e: &mut Emitter, sum: Reg, point: &Point) -> Reg {
        let limits = [self.lo, self.hi].map(|n| number(e, n, point.lanes));
        clamp(e, sum, limits)
    }

    /// The integers before they are limited.
    pub(super) fn emit_whole(&self, at: &mut Site) -> Reg {
        let sum = self.rounded(at);
        if self.placed(at.exprs.linear).is_some_and(|p| p.whole) {
            return sum;
        }
        let zero = match self.zero {
            Zero::Known(0) => return sum,
            Zero::Known(n) => number(at.e, n, at.point.lanes),
            Zero::Value(id) => at.eval(id),
        };
        at.e.value(at.e.ty(sum), Value::Bin(Bin::Add, sum, zero))
    }

    /// Emits it less its zero point, which is neither added nor taken off: the limits move.
    pub(super) fn emit_less_zero(&self, at: &mut Site) -> Reg {
        let (sum, zero) = (self.rounded(at), at.zero(self));
        let limits = self.limits_less_zero(at.e, zero, at.point.lanes);
        clamp(at.e, sum, limits)
    }

    /// The same as floats.
    pub(super) fn emit_less_zero_as_floats(&self, at: &mut Site) -> Reg {
        let rounded = match self.placed(at.exprs.linear) {
            Some(placed) => {
                let (float, place) = (placed.emit(at), f64::from(PLACE as i32) as f32);
                let ty = at.e.ty(float);
                let place = at.e.value(ty, Value::Const(u64::from(place.to_bits())));
                at.e.value(ty, Value::Bin(Bin::Sub, float, place))
            }
            None => {
                let value = self.before_rounding(at);
                at.e.value(at.e.ty(value), Value::Un(Un::Round, value))
            }
        };
        let zero = at.zero(self);
        let limits = self.float_limits(at.e, zero, at.point.lanes);
        clamp(at.e, rounded, limits)
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

    /// The multiply-add that it is.
    fn placed(&self, linear: &Linear) -> Option<Placed> {
        linear.facts.placed.filter(|p| p.product == self.value)
    }

    /// The nearest integers, before the zero point unless that is in an offset.
    fn rounded(&self, at: &mut Site) -> Reg {
        if let Some(placed) = self.placed(at.exprs.linear) {
            let float = placed.emit(at);
            let ty = RegType { lane: Lane::I32, lanes: at.point.lanes as u8 };
            let bits = at.e.value(ty, Value::Convert(Convert::Bits, float));
            return at.e.value(ty, Value::Convert(Convert::SextLow(16), bits));
        }
        let Some(fixed) = at.exprs.linear.facts.fixed.filter(|f| f.product == self.value) else {
            return self.nearest(at);
        };
        let [sum, factor] = [fixed.sum, fixed.factor].map(|id| at.eval(id));
        let product = at.e.value(at.e.ty(sum), Value::Bin(Bin::MulHigh, sum, factor));
        let by = number(at.e, i64::from(fixed.shift), at.point.lanes);
        at.e.value(at.e.ty(sum), Value::Bin(Bin::ShrRound, product, by))
    }

    /// The nearest integer of what is rounded.
    fn nearest(&self, at: &mut Site) -> Reg {
        let (value, linear) = (self.before_rounding(at), at.exprs.linear);
        let known = range(linear, self.value);
        let small = known.lo >= -BOUND && known.hi <= BOUND || self.within.is_some();
        let small = small || self.pair(linear).is_some();
        let nearest = if small { Convert::NearestSmall } else { Convert::Nearest };
        let ty = RegType { lane: Lane::I32, lanes: at.point.lanes as u8 };
        at.e.value(ty, Value::Convert(nearest, value))
    }

    /// What is rounded.
    fn before_rounding(&self, at: &mut Site) -> Reg {
        let linear = at.exprs.linear;
        if let Some(pair) = self.pair(linear) {
            return multiply_adds(&pair, at);
        }
        match &linear.nodes[self.value as usize] {
            Node::Op(Op::Div, args) if divisor(linear, args[1]).is_some() && at.e.fused() => {
                let [dividend, divisor] = [args[0], args[1]].map(|id| at.eval(id));
                let dividend = self.limit(at.e, dividend);
                quotient(at.e, dividend, divisor)
            }
            _ => at.eval(self.value),
        }
    }
}

impl Requantized {
    /// A dividend within what it is limited to.
    fn limit(&self, e: &mut Emitter, dividend: Reg) -> Reg {
        let Some(most) = self.within else { return dividend };
        let ty = e.ty(dividend);
        let limits = [-most, most].map(|n| e.value(ty, Value::Const(u64::from((n as f32).to_bits()))));
        clamp(e, dividend, limits)
    }
}

impl Placed {
    /// The float whose low bits are the integer.
    fn emit(&self, at: &mut Site) -> Reg {
        let ty = RegType { lane: Lane::F32, lanes: at.point.lanes as u8 };
        let [sum, factor] = [self.sum, self.factor].map(|id| at.eval(id));
        let number = at.e.value(ty, Value::Convert(Convert::Bits, sum));
        let offset = at.exprs.load_behind(at.e, self.factor, self.apart, at.point);
        at.e.value(ty, Value::Mla(offset, number, factor))
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
fn multiply_adds(pair: &Pair, at: &mut Site) -> Reg {
    let ty = RegType { lane: Lane::F32, lanes: at.point.lanes as u8 };
    let mut byte = |id: u32| match integers(at.exprs.linear, id) {
        Some(integers) => integers.emit_less_zero_as_floats(at),
        None => {
            let byte = at.eval(id);
            at.e.value(ty, Value::Convert(Convert::IntToFloat, byte))
        }
    };
    let [x, y] = pair.bytes.map(&mut byte);
    let [a, b] = pair.factors.map(|id| at.eval(id));
    let offset = match pair.apart {
        0 => at.eval(pair.offset),
        apart => at.exprs.load_behind(at.e, pair.offset, apart, at.point),
    };
    let inner = at.e.value(ty, Value::Mla(offset, y, b));
    at.e.value(ty, Value::Mla(inner, x, a))
}
