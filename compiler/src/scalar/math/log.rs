//! log and what is made of it: the inverse hyperbolic functions.
//!
//! `log x = k ln 2 + log m` with `m` in `sqrt(1/2)..sqrt(2)`, and `log m` from `s = (m-1) / (m+1)`;
//! coefficients and order of operations are those of fdlibm (Sun Microsystems).

use super::{Emit, Math};
use crate::scalar::Op;

const LOG_SINGLE: [f64; 4] = [0.66666662693, 0.40000972152, 0.28498786688, 0.24279078841];
const LOG_DOUBLE: [f64; 7] = [
    6.666666666666735e-1,
    3.999999999940942e-1,
    2.857142874366239e-1,
    2.222219843214978e-1,
    1.818357216161805e-1,
    1.5313837699209373e-1,
    1.479819860511659e-1,
];

impl<E: Emit> Math<'_, E> {
    /// `(m, k)` with `x = m * 2^k`, `k` a whole number as float and `m` in `least..2*least`, for
    /// positive finite `x`; `least` is given by its bits.
    pub(super) fn split_exponent(&mut self, x: E::Value, least: i64) -> (E::Value, E::Value) {
        let (mantissa, bias) = (self.f.mantissa, self.f.bias);
        let smallest = self.c(2f64.powi(1 - bias as i32));
        let subnormal = self.lt(x, smallest);
        let up = mantissa + 2;
        let scaled = self.mul_c(x, 2f64.powi(up as i32));
        let x = self.select(subnormal, scaled, x);
        let (bits, one, least) = (self.bits(x), self.k(bias << mantissa), self.k(least));
        let offset = self.e.op(Op::Sub, &[one, least]);
        let bits = self.add(bits, offset);
        let (width, mask) = (self.k(mantissa), self.k((1 << mantissa) - 1));
        let k = self.shr(bits, width);
        let low = self.and(bits, mask);
        let m = self.add(low, least);
        let m = self.float(m);
        let k = self.e.cast(self.f.float, k);
        let (for_subnormal, for_normal) = (self.c((bias + up) as f64), self.c(bias as f64));
        let by = self.select(subnormal, for_subnormal, for_normal);
        (m, self.sub(k, by))
    }

    pub(super) fn log(&mut self, x: E::Value) -> E::Value {
        let root = if self.single() { 0x3f35_04f3 } else { 0x3fe6_a09e_667f_3bcd };
        let (m, k) = self.split_exponent(x, root);
        let (f, two) = (self.add_c(m, -1.0), self.c(2.0));
        let below = self.add(f, two);
        let s = self.div(f, below);
        let z = self.mul(s, s);
        let r = self.poly_of(z, &LOG_SINGLE, &LOG_DOUBLE);
        let half = self.mul_c(f, 0.5);
        let half_square = self.mul(half, f);
        let sum = self.e.add_product(half_square, r, z);
        let (low, high) = (self.either(9.0580006145e-6, 1.908_214_929_270_587_7e-10), self.log_2_high());
        let k_low = self.mul(k, low);
        let y = self.e.add_product(k_low, s, sum);
        let y = self.sub(y, half_square);
        let y = self.add(y, f);
        let y = self.e.add_product(y, k, high);
        self.log_of_special(x, y)
    }

    fn log_2_high(&mut self) -> E::Value {
        self.either(6.9313812256e-1, 6.931_471_803_691_238e-1)
    }

    /// `y` where `x` is positive and finite; the limits and NaN elsewhere.
    fn log_of_special(&mut self, x: E::Value, y: E::Value) -> E::Value {
        let (zero, infinity) = (self.c(0.0), self.c(f64::INFINITY));
        let (positive, finite, is_zero) = (self.lt(zero, x), self.lt(x, infinity), self.eq(x, zero));
        let (least, nan) = (self.c(f64::NEG_INFINITY), self.c(f64::NAN));
        let not_positive = self.select(is_zero, least, nan);
        let y = self.select(finite, y, x);
        self.select(positive, y, not_positive)
    }

    /// `log(1 + x)`: the logarithm of the rounded sum, corrected by what rounding lost.
    fn log1p(&mut self, x: E::Value) -> E::Value {
        let u = self.add_c(x, 1.0);
        let y = self.log(u);
        let back = self.add_c(u, -1.0);
        let lost = self.sub(x, back);
        let correction = self.div(lost, u);
        let (large, zero) = (self.c(2f64.powi(60)), self.c(0.0));
        let (small, positive) = (self.lt(u, large), self.lt(zero, u));
        let apply = self.and(small, positive);
        let correction = self.select(apply, correction, zero);
        self.add(y, correction)
    }

    /// `log1p(near)`, or `log(a) + ln 2` where `a` is large.
    fn log1p_or_large(&mut self, a: E::Value, near: E::Value) -> E::Value {
        let limit = self.either(2f64.powi(30), 2f64.powi(60));
        let large = self.lt(limit, a);
        let (zero, ln_2) = (self.c(0.0), self.c(std::f64::consts::LN_2));
        let argument = self.select(large, a, near);
        let more = self.select(large, ln_2, zero);
        let y = self.log1p(argument);
        self.add(y, more)
    }

    /// `log1p(a + a^2 / (1 + sqrt(a^2 + 1)))`
    pub(super) fn asinh(&mut self, x: E::Value) -> E::Value {
        let a = self.abs(x);
        let square = self.mul(a, a);
        let next = self.add_c(square, 1.0);
        let root = self.sqrt(next);
        let below = self.add_c(root, 1.0);
        let part = self.div(square, below);
        let near = self.add(a, part);
        let y = self.log1p_or_large(a, near);
        self.with_sign(y, x)
    }

    /// With `t = x - 1`: `log1p(t + sqrt(2t + t^2))`; NaN below 1.
    pub(super) fn acosh(&mut self, x: E::Value) -> E::Value {
        let t = self.add_c(x, -1.0);
        let (square, twice) = (self.mul(t, t), self.add(t, t));
        let sum = self.add(twice, square);
        let root = self.sqrt(sum);
        let near = self.add(t, root);
        let y = self.log1p_or_large(x, near);
        let (zero, nan) = (self.c(0.0), self.c(f64::NAN));
        let below = self.lt(t, zero);
        self.select(below, nan, y)
    }

    /// `log1p(2a / (1 - a)) / 2`; NaN beyond 1.
    pub(super) fn atanh(&mut self, x: E::Value) -> E::Value {
        let a = self.abs(x);
        let (one, twice) = (self.c(1.0), self.add(a, a));
        let below = self.sub(one, a);
        let ratio = self.div(twice, below);
        let y = self.log1p(ratio);
        let y = self.mul_c(y, 0.5);
        self.with_sign(y, x)
    }
}
