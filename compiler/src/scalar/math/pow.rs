//! pow for floats: `2^(y * log2 |x|)` with the logarithm in two parts.
//!
//! After fdlibm's `e_pow.c` (Sun Microsystems): each part of the logarithm has few enough bits that
//! its product with half of `y` is exact. Branches are selections here.

use super::exp::{EXP_DOUBLE, EXP_SINGLE};
use super::{Emit, Math};
use crate::scalar::Op;

const LOG_SINGLE: [f64; 6] =
    [6.0000002384e-1, 4.2857143283e-1, 3.3333334327e-1, 2.7272811532e-1, 2.3066075146e-1, 2.0697501302e-1];
const LOG_DOUBLE: [f64; 6] = [
    5.999999999999946e-1,
    4.285714285785502e-1,
    3.333333298183774e-1,
    2.727_281_238_085_34e-1,
    2.3066074577556175e-1,
    2.0697501780033842e-1,
];

impl<E: Emit> Math<'_, E> {
    pub(super) fn pow(&mut self, x: E::Value, y: E::Value) -> E::Value {
        let (zero, one, infinity) = (self.c(0.0), self.c(1.0), self.c(f64::INFINITY));
        let a = self.abs(x);
        let log = self.log2_parts(a);
        let huge = 2f64.powi(if self.single() { 60 } else { 100 });
        let bounded = self.at_most(y, huge);
        let bounded = self.at_least(bounded, -huge);
        let power = self.exp2_of_product(bounded, log);

        let (falls, is_zero, is_infinite) = (self.lt(y, zero), self.eq(a, zero), self.eq(a, infinity));
        let (of_zero, of_infinity) = (self.select(falls, infinity, zero), self.select(falls, zero, infinity));
        let power = self.select(is_zero, of_zero, power);
        let power = self.select(is_infinite, of_infinity, power);
        // NaN must not be lost by those selections.
        let (x_number, y_number) = (self.eq(x, x), self.eq(y, y));
        let power = self.select(x_number, power, x);
        let power = self.select(y_number, power, y);

        let whole = self.trunc(bounded);
        let integer = self.eq(whole, bounded);
        let half = self.mul_c(bounded, 0.5);
        let whole_half = self.trunc(half);
        let odd_half = self.e.op(Op::Ne, &[whole_half, half]);
        let odd = self.and(integer, odd_half);
        let (sign, none) = (self.sign_bit(x), self.k(0));
        let sign = self.select(odd, sign, none);
        let bits = self.bits(power);
        let signed = self.or(bits, sign);
        let signed = self.float(signed);

        let (negative, finite) = (self.lt(x, zero), self.lt(a, infinity));
        let fraction = self.e.op(Op::Not, &[integer]);
        let bad = self.and(negative, finite);
        let bad = self.and(bad, fraction);
        let (nan, y_zero, x_one) = (self.c(f64::NAN), self.eq(y, zero), self.eq(x, one));
        let result = self.select(bad, nan, signed);
        let result = self.select(y_zero, one, result);
        self.select(x_one, one, result)
    }

    /// `(high, low)` whose sum is `log2 a` to 1.5 times the precision, for positive finite `a`.
    fn log2_parts(&mut self, a: E::Value) -> (E::Value, E::Value) {
        let (m, n, centre) = self.near_a_centre(a);
        let (one, zero) = (self.c(1.0), self.c(0.0));
        let in_middle = self.lt(one, centre);
        let (p_high, p_low) = self.log_of_quotient(m, centre);
        // 2 / (3 ln 2), whole and in two parts; log2(1.5) in two parts.
        let scale = self.either(9.6179670095e-1, 9.617_966_939_259_756e-1);
        let scale_high = self.either(9.6191406250e-1, 9.617_967_009_544_373e-1);
        let scale_low = self.either(-1.1736857402e-4, -7.028_461_650_952_758e-9);
        let middle_high = self.either(5.84960938e-1, 5.849_624_872_207_642e-1);
        let middle_low = self.either(1.56322085e-6, 1.350_039_202_129_749e-8);
        let (c_high, c_low) =
            (self.select(in_middle, middle_high, zero), self.select(in_middle, middle_low, zero));
        let z_high = self.mul(scale_high, p_high);
        let (i, j) = (self.mul(scale_low, p_high), self.mul(p_low, scale));
        let z_low = self.add(i, j);
        let z_low = self.add(z_low, c_low);
        let sum = self.add(z_high, z_low);
        let sum = self.add(sum, c_high);
        let sum = self.add(sum, n);
        let high = self.high(sum);
        let back = self.sub(high, n);
        let back = self.sub(back, c_high);
        let back = self.sub(back, z_high);
        (high, self.sub(z_low, back))
    }

    /// `(m, n, centre)` with `a = m * 2^n`: `m` is near the centre, which is 1 or 1.5.
    fn near_a_centre(&mut self, a: E::Value) -> (E::Value, E::Value, E::Value) {
        let one = self.c(1.0);
        let least = self.f.bias << self.f.mantissa;
        let (m, n) = self.split_exponent(a, least);
        // m in 1..2; the centre is 1 below sqrt(3/2), 1.5 below sqrt(3), and 1 again, halved, above.
        let (low_edge, high_edge) = (self.c(1.224_744_871_391_589), self.c(1.732_050_807_568_877_2));
        let (upper, above) = (self.lt(low_edge, m), self.lt(high_edge, m));
        let halved = self.mul_c(m, 0.5);
        let m = self.select(above, halved, m);
        let next = self.add_c(n, 1.0);
        let n = self.select(above, next, n);
        let centre = self.c(1.5);
        let centre = self.select(upper, centre, one);
        (m, n, self.select(above, one, centre))
    }

    /// `(high, low)` whose sum is `3/2 ln(m / centre)`, by its series in `s = (m - centre) / (m + centre)`.
    fn log_of_quotient(&mut self, m: E::Value, centre: E::Value) -> (E::Value, E::Value) {
        let one = self.c(1.0);
        let (u, sum) = (self.sub(m, centre), self.add(m, centre));
        let v = self.div(one, sum);
        let s = self.mul(u, v);
        let (s_high, sum_high) = (self.high(s), self.high(sum));
        let back = self.sub(sum_high, centre);
        let sum_low = self.sub(m, back);
        let (p, q) = (self.mul(s_high, sum_high), self.mul(s_high, sum_low));
        let rest = self.sub(u, p);
        let rest = self.sub(rest, q);
        let s_low = self.mul(v, rest);

        let square = self.mul(s, s);
        let r = self.horner(square, &LOG_SINGLE, &LOG_DOUBLE);
        let fourth = self.mul(square, square);
        let r = self.mul(fourth, r);
        let twice = self.add(s_high, s);
        let more = self.mul(s_low, twice);
        let r = self.add(r, more);
        let square = self.mul(s_high, s_high);
        let t = self.add_c(square, 3.0);
        let t = self.add(t, r);
        let t_high = self.high(t);
        let back = self.add_c(t_high, -3.0);
        let back = self.sub(back, square);
        let t_low = self.sub(r, back);

        let u = self.mul(s_high, t_high);
        let (v, w) = (self.mul(s_low, t_high), self.mul(t_low, s));
        let v = self.add(v, w);
        let p = self.add(u, v);
        let p_high = self.high(p);
        let back = self.sub(p_high, u);
        (p_high, self.sub(v, back))
    }

    /// `2^(y * (high + low))`: 0 and infinity past the range.
    fn exp2_of_product(&mut self, y: E::Value, (high, low): (E::Value, E::Value)) -> E::Value {
        let y_high = self.high(y);
        let y_low = self.sub(y, y_high);
        let (i, j) = (self.mul(y_low, high), self.mul(y, low));
        let p_low = self.add(i, j);
        let p_high = self.mul(y_high, high);
        let z = self.add(p_low, p_high);
        let (most, least) = if self.single() { (130.0, -152.0) } else { (1026.0, -1078.0) };
        let (most_c, least_c) = (self.c(most), self.c(least));
        let (over, under) = (self.lt(most_c, z), self.lt(z, least_c));

        let z = self.at_most(z, most);
        let z = self.at_least(z, least);
        let magic = self.c(self.f.magic);
        let shifted = self.add(z, magic);
        let k = self.bits(shifted);
        let whole = self.sub(shifted, magic);
        let p_high = self.sub(p_high, whole);
        let t = self.add(p_low, p_high);
        let t = self.high(t);
        let ln_2 = self.c(std::f64::consts::LN_2);
        let ln_2_high = self.either(6.93145752e-1, 6.931_471_824_645_996e-1);
        let ln_2_low = self.either(1.42860654e-6, -1.904_654_299_957_768e-9);
        let u = self.mul(t, ln_2_high);
        let back = self.sub(t, p_high);
        let rest = self.sub(p_low, back);
        let (i, j) = (self.mul(rest, ln_2), self.mul(t, ln_2_low));
        let v = self.add(i, j);
        let z = self.add(u, v);
        let back = self.sub(z, u);
        let w = self.sub(v, back);
        let p = self.horner(z, &EXP_SINGLE, &EXP_DOUBLE);
        let square = self.mul(z, z);
        let p = self.mul(square, p);
        let zw = self.mul(z, w);
        let tail = self.add(w, zw);
        let tail = self.add(p, tail);
        let sum = self.add(z, tail);
        let y = self.add_c(sum, 1.0);

        // In two steps: neither power of two leaves the range, and a subnormal result rounds once.
        let (magic_bits, one) = (self.bits(magic), self.k(1));
        let k = self.e.op(Op::Sub, &[k, magic_bits]);
        let first = self.shr(k, one);
        let second = self.e.op(Op::Sub, &[k, first]);
        let (first, second) = (self.exp2(first, 0), self.exp2(second, 0));
        let y = self.mul(y, first);
        let y = self.mul(y, second);
        let (infinity, zero) = (self.c(f64::INFINITY), self.c(0.0));
        let y = self.select(over, infinity, y);
        self.select(under, zero, y)
    }

    /// `poly_of` one coefficient at a time: slower, and closer by the few hundredths that pow's bound needs.
    fn horner(&mut self, x: E::Value, single: &[f64], double: &[f64]) -> E::Value {
        let c = if self.single() { single } else { double };
        let last = self.c(c[c.len() - 1]);
        c[..c.len() - 1].iter().rev().fold(last, |sum, &c| {
            let c = self.c(c);
            self.e.add_product(c, sum, x)
        })
    }
}
