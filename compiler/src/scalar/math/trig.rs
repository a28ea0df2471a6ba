//! The trigonometric functions and their inverses.
//!
//! Reduction: `r = x - k * pi/2`, with pi/2 in parts so short that their products with `k` are
//! exact. Both kernels are computed, and the quadrant selects. Kernels: Cephes (`f32`) and fdlibm.

use super::{Emit, Math};
use crate::scalar::Op;
use std::f64::consts::{FRAC_2_PI, FRAC_PI_2, FRAC_PI_4, PI};

/// pi/2 in parts of 8 bits: exact products for `k < 2^16`.
const PARTS_SINGLE: [f64; 5] = [
    1.5703125,
    0.000_482_559_204_101_562_5,
    1.266_598_701_477_050_8e-6,
    9.895_302_355_289_46e-10,
    2.563_344_068_257_09e-12,
];
/// pi/2 in parts of 22 bits: exact products for `k < 2^31`.
const PARTS_DOUBLE: [f64; 4] =
    [1.570_796_012_878_418, 3.139_164_164_167_596e-7, 6.223_371_969_669_989e-14, 2.022_266_248_795_950_6e-21];

const SIN_SINGLE: [f64; 3] = [-1.6666654611e-1, 8.3321608736e-3, -1.9515295891e-4];
const SIN_DOUBLE: [f64; 6] = [
    -1.6666666666666632e-1,
    8.33333333332249e-3,
    -1.984126982985795e-4,
    2.7557313707070068e-6,
    -2.5050760253406863e-8,
    1.58969099521155e-10,
];
const COS_SINGLE: [f64; 3] = [4.166664568298827e-2, -1.388731625493765e-3, 2.443315711809948e-5];
const COS_DOUBLE: [f64; 6] = [
    4.16666666666666e-2,
    -1.388888888887411e-3,
    2.480158728947673e-5,
    -2.7557314351390663e-7,
    2.087572321298175e-9,
    -1.1359647557788195e-11,
];
const ASIN_P_SINGLE: [f64; 3] = [1.6666586697e-1, -4.2743422091e-2, -8.6563630030e-3];
const ASIN_Q_SINGLE: [f64; 2] = [1.0, -7.0662963390e-1];
const ASIN_P_DOUBLE: [f64; 6] = [
    1.6666666666666666e-1,
    -3.255_658_186_224_009e-1,
    2.0121253213486293e-1,
    -4.005_553_450_067_941e-2,
    7.915_349_942_898_145e-4,
    3.479331075960212e-5,
];
const ASIN_Q_DOUBLE: [f64; 5] =
    [1.0, -2.403394911734414, 2.0209457602335057, -6.882_839_716_054_533e-1, 7.703_815_055_590_194e-2];
const ATAN_SINGLE: [f64; 5] =
    [3.3333328366e-1, -1.9999158382e-1, 1.4253635705e-1, -1.0648017377e-1, 6.1687607318e-2];
const ATAN_DOUBLE: [f64; 11] = [
    3.333333333333293e-1,
    -1.9999999999876483e-1,
    1.4285714272503466e-1,
    -1.1111110405462356e-1,
    9.090_887_133_436_507e-2,
    -7.691_876_205_044_83e-2,
    6.661_073_137_387_531e-2,
    -5.8335701337905735e-2,
    4.9768779946159324e-2,
    -3.6531572744216916e-2,
    1.6285820115365782e-2,
];

impl<E: Emit> Math<'_, E> {
    /// `(sin r, cos r, k)` for `x = k * pi/2 + r`; the low bits of the integer `k` hold the quadrant.
    fn reduced(&mut self, x: E::Value) -> (E::Value, E::Value, E::Value) {
        let magic = self.c(self.f.magic);
        let scale = self.c(FRAC_2_PI);
        let shifted = self.e.add_product(magic, x, scale);
        let k = self.bits(shifted);
        let whole = self.sub(shifted, magic);
        let parts: &[f64] = if self.single() { &PARTS_SINGLE } else { &PARTS_DOUBLE };
        let r = parts.iter().fold(x, |r, &part| {
            let part = self.c(-part);
            self.e.add_product(r, whole, part)
        });
        // Past the exact range r is meaningless: keep the results within -1..1.
        let r = self.at_most(r, FRAC_PI_4 * 1.01);
        let r = self.at_least(r, -FRAC_PI_4 * 1.01);
        let z = self.mul(r, r);
        let p = self.poly_of(z, &SIN_SINGLE, &SIN_DOUBLE);
        let p = self.mul(p, z);
        let sin = self.e.add_product(r, p, r);
        let p = self.poly_of(z, &COS_SINGLE, &COS_DOUBLE);
        let square = self.mul(z, z);
        let (half, one) = (self.mul_c(z, 0.5), self.c(1.0));
        let high = self.sub(one, half);
        let back = self.sub(one, high);
        let lost = self.sub(back, half);
        let p = self.e.add_product(lost, p, square);
        let cos = self.add(high, p);
        (sin, cos, k)
    }

    /// Whether the low bit of `k` is set.
    fn odd(&mut self, k: E::Value) -> E::Value {
        let (one, zero) = (self.k(1), self.k(0));
        let low = self.and(k, one);
        self.e.op(Op::Ne, &[low, zero])
    }

    /// `a`, negated where the second bit of `k` is set.
    fn negated_by(&mut self, a: E::Value, k: E::Value) -> E::Value {
        let (two, up) = (self.k(2), self.k(self.f.mantissa + (self.f.bias + 1).ilog2() as i64));
        let bit = self.and(k, two);
        let sign = self.shl(bit, up);
        let bits = self.bits(a);
        let flipped = self.e.op(Op::Xor, &[bits, sign]);
        self.float(flipped)
    }

    pub(super) fn sin(&mut self, x: E::Value) -> E::Value {
        let (sin, cos, k) = self.reduced(x);
        let odd = self.odd(k);
        let y = self.select(odd, cos, sin);
        let y = self.negated_by(y, k);
        // Keeps the sign of zero.
        let zero = self.c(0.0);
        let is_zero = self.eq(x, zero);
        self.select(is_zero, x, y)
    }

    pub(super) fn cos(&mut self, x: E::Value) -> E::Value {
        let (sin, cos, k) = self.reduced(x);
        let odd = self.odd(k);
        let y = self.select(odd, sin, cos);
        let one = self.k(1);
        let next = self.add(k, one);
        self.negated_by(y, next)
    }

    pub(super) fn tan(&mut self, x: E::Value) -> E::Value {
        let (sin, cos, k) = self.reduced(x);
        let odd = self.odd(k);
        let minus = self.neg(cos);
        let (above, below) = (self.select(odd, minus, sin), self.select(odd, sin, cos));
        let y = self.div(above, below);
        let zero = self.c(0.0);
        let is_zero = self.eq(x, zero);
        self.select(is_zero, x, y)
    }

    /// `(t, far)`: `asin a` where not `far`, else `asin sqrt((1-a)/2)`, the half of `acos a`.
    fn asin_parts(&mut self, a: E::Value) -> (E::Value, E::Value) {
        let (half, one) = (self.c(0.5), self.c(1.0));
        let far = self.lt(half, a);
        let rest = self.sub(one, a);
        let rest = self.mul(rest, half);
        let square = self.mul(a, a);
        let z = self.select(far, rest, square);
        let root = self.sqrt(rest);
        let s = self.select(far, root, a);
        let (p, q): (&[f64], &[f64]) =
            if self.single() { (&ASIN_P_SINGLE, &ASIN_Q_SINGLE) } else { (&ASIN_P_DOUBLE, &ASIN_Q_DOUBLE) };
        let r = self.ratio(z, p, q);
        let r = self.mul(r, z);
        let r = self.mul(r, s);
        (self.add(s, r), far)
    }

    pub(super) fn asin(&mut self, x: E::Value) -> E::Value {
        let a = self.abs(x);
        let (t, far) = self.asin_parts(a);
        let (high, low) = self.half_pi();
        let twice = self.add(t, t);
        let twice = self.sub(twice, low);
        let large = self.sub(high, twice);
        let y = self.select(far, large, t);
        self.with_sign(y, x)
    }

    pub(super) fn acos(&mut self, x: E::Value) -> E::Value {
        let a = self.abs(x);
        let (t, far) = self.asin_parts(a);
        let (high, low) = self.half_pi();
        let (zero, pi) = (self.c(0.0), self.c(PI));
        let negative = self.lt(x, zero);
        let minus = self.neg(t);
        let signed = self.select(negative, minus, t);
        let near = self.sub(signed, low);
        let near = self.sub(high, near);
        let twice = self.add(t, t);
        let opposite = self.sub(pi, twice);
        let large = self.select(negative, opposite, twice);
        self.select(far, large, near)
    }

    /// pi/2 in two parts.
    fn half_pi(&mut self) -> (E::Value, E::Value) {
        let high = self.c(FRAC_PI_2);
        let low = self.either(FRAC_PI_2 - f64::from(FRAC_PI_2 as f32), 6.123_233_995_736_766e-17);
        (high, low)
    }

    /// `atan a` directly, or from pi/4 or pi/2, whichever is nearest.
    pub(super) fn atan(&mut self, x: E::Value) -> E::Value {
        let a = self.abs(x);
        let (first, second) = (self.c(0.414_213_562_373_095), self.c(2.414_213_562_373_095));
        let (middle, far) = (self.lt(first, a), self.lt(second, a));
        let (one, zero, minus) = (self.c(1.0), self.c(0.0), self.c(-1.0));
        let (less, more) = (self.add_c(a, -1.0), self.add_c(a, 1.0));
        let (above, below) = (self.select(middle, less, a), self.select(middle, more, one));
        let (above, below) = (self.select(far, minus, above), self.select(far, a, below));
        let r = self.div(above, below);
        let (half, half_low) = self.half_pi();
        let (quarter, quarter_low) = (self.mul_c(half, 0.5), self.mul_c(half_low, 0.5));
        let (base, base_low) = (self.select(middle, quarter, zero), self.select(middle, quarter_low, zero));
        let (base, base_low) = (self.select(far, half, base), self.select(far, half_low, base_low));
        let z = self.mul(r, r);
        let p = self.poly_of(z, &ATAN_SINGLE, &ATAN_DOUBLE);
        let p = self.mul(p, z);
        let base_low = self.neg(base_low);
        let p = self.e.add_product(base_low, p, r);
        let p = self.sub(p, r);
        let y = self.sub(base, p);
        self.with_sign(y, x)
    }
}
