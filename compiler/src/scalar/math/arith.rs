//! Sign, remainders, and integer powers.

use super::{Emit, Math};
use crate::base::DType;
use crate::scalar::{Op, Scalar};

impl<E: Emit> Math<'_, E> {
    pub(super) fn sign(&mut self, x: E::Value) -> E::Value {
        let (zero, one, minus) = (self.c(0.0), self.c(1.0), self.c(-1.0));
        let (positive, negative) = (self.lt(zero, x), self.lt(x, zero));
        let y = self.select(negative, minus, x);
        self.select(positive, one, y)
    }

    /// One round of `a - trunc(a / b) * b` for `a, b >= 0`, the product computed exactly in four parts.
    fn rem_round(&mut self, a: E::Value, b: E::Value) -> E::Value {
        let q = self.div(a, b);
        let q = self.trunc(q);
        let (q_high, b_high) = (self.high(q), self.high(b));
        let (q_low, b_low) = (self.sub(q, q_high), self.sub(b, b_high));
        let pairs = [(q_high, b_high), (q_high, b_low), (q_low, b_high), (q_low, b_low)];
        let r = pairs.into_iter().fold(a, |r, (x, y)| {
            let product = self.mul(x, y);
            self.sub(r, product)
        });
        // The quotient may be one too large.
        let zero = self.c(0.0);
        let below = self.lt(r, zero);
        let more = self.add(r, b);
        self.select(below, more, r)
    }

    /// C's `fmod`; exact while `|a / b|` is below 2^40 (`f32`) or 2^100 (`f64`).
    pub(super) fn rem(&mut self, a: E::Value, b: E::Value) -> E::Value {
        let (left, right) = (self.abs(a), self.abs(b));
        let r = self.rem_round(left, right);
        let r = self.rem_round(r, right);
        let smaller = self.lt(left, right);
        let r = self.select(smaller, left, r);
        self.with_sign(r, a)
    }

    /// Python's `%`; a zero has the sign of the divisor.
    pub(super) fn modulo(&mut self, a: E::Value, b: E::Value) -> E::Value {
        let r = self.rem(a, b);
        let zero = self.c(0.0);
        let (not_zero, r_below, b_below) =
            (self.e.op(Op::Ne, &[r, zero]), self.lt(r, zero), self.lt(b, zero));
        let differ = self.e.op(Op::Xor, &[r_below, b_below]);
        let apply = self.and(not_zero, differ);
        let moved = self.add(r, b);
        let y = self.select(apply, moved, r);
        let (is_zero, signed) = (self.eq(r, zero), self.with_sign(zero, b));
        self.select(is_zero, signed, y)
    }
}

/// The compound operations on integers; on booleans too, where they mean something.
pub(super) fn integer<E: Emit>(e: &mut E, op: Op, dtype: DType, args: &[E::Value]) -> E::Value {
    let zero = e.constant(Scalar::from_i64(dtype, 0));
    match op {
        Op::IsNan => e.op(Op::Ne, &[args[0], args[0]]),
        Op::Sign => {
            let (one, minus) =
                (e.constant(Scalar::from_i64(dtype, 1)), e.constant(Scalar::from_i64(dtype, -1)));
            let positive = e.op(Op::Gt, &[args[0], zero]);
            let above = e.op(Op::Select, &[positive, one, zero]);
            if !dtype.is_signed_int() {
                return above;
            }
            let negative = e.op(Op::Lt, &[args[0], zero]);
            e.op(Op::Select, &[negative, minus, above])
        }
        Op::Mod => {
            let r = e.op(Op::Rem, args);
            if !dtype.is_signed_int() {
                return r;
            }
            let not_zero = e.op(Op::Ne, &[r, zero]);
            let signs = e.op(Op::Xor, &[r, args[1]]);
            let differ = e.op(Op::Lt, &[signs, zero]);
            let apply = e.op(Op::And, &[not_zero, differ]);
            let moved = e.op(Op::Add, &[r, args[1]]);
            e.op(Op::Select, &[apply, moved, r])
        }
        Op::Pow => power(e, dtype, args[0], args[1]),
        _ => unreachable!("{} of {dtype}", op.name()),
    }
}

/// Squares and multiplies, over all bits of the exponent.
fn power<E: Emit>(e: &mut E, dtype: DType, base: E::Value, exponent: E::Value) -> E::Value {
    let (zero, one) = (e.constant(Scalar::from_i64(dtype, 0)), e.constant(Scalar::from_i64(dtype, 1)));
    let (mut result, mut square) = (one, base);
    for bit in 0..dtype.bits() {
        let mask = e.constant(Scalar { dtype, bits: 1 << bit });
        let bit = e.op(Op::And, &[exponent, mask]);
        let set = e.op(Op::Ne, &[bit, zero]);
        let product = e.op(Op::Mul, &[result, square]);
        result = e.op(Op::Select, &[set, product, result]);
        square = e.op(Op::Mul, &[square, square]);
    }
    if !dtype.is_signed_int() {
        return result;
    }
    // A negative exponent: 1 over the power, which truncates to 0 but for bases 1 and -1.
    let minus = e.constant(Scalar::from_i64(dtype, -1));
    let low = e.op(Op::And, &[exponent, one]);
    let odd = e.op(Op::Ne, &[low, zero]);
    let of_minus = e.op(Op::Select, &[odd, minus, one]);
    let is_minus = e.op(Op::Eq, &[base, minus]);
    let is_one = e.op(Op::Eq, &[base, one]);
    let inverse = e.op(Op::Select, &[is_minus, of_minus, zero]);
    let inverse = e.op(Op::Select, &[is_one, one, inverse]);
    let negative = e.op(Op::Lt, &[exponent, zero]);
    e.op(Op::Select, &[negative, inverse, result])
}
