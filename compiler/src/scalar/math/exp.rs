//! exp and what is made of it: sigmoid, the hyperbolic functions, erf.
//!
//! `e^x = 2^k * (1 + q)` with `k = round(x / ln 2)` and `q = e^r - 1` for `|r| <= ln 2 / 2`. `k` is
//! found by adding a number so large that only integers are left, whose low bits are then `k`.

use super::{Emit, Math};
use std::f64::consts::{LN_2, LOG2_E};

/// `(e^r - 1 - r) / r^2` for `|r| <= ln 2 / 2`: Chebyshev fits, relative errors 8e-9 and 2e-19.
const EXP_SINGLE: [f64; 5] = [
    0.5,
    0.166_665_769_896_987_76,
    0.041_666_554_617_204_574,
    0.008_363_179_052_722_577,
    0.001_392_618_358_771_349_5,
];
const EXP_DOUBLE: [f64; 11] = [
    0.5,
    0.166_666_666_666_666_7,
    0.041_666_666_666_666_67,
    0.008_333_333_333_326_135,
    0.001_388_888_888_888_374_9,
    1.984_126_987_482_062_5e-4,
    2.480_158_732_554_774e-5,
    2.755_725_540_020_642_4e-6,
    2.755_727_364_311_03e-7,
    2.510_521_700_472_074_5e-8,
    2.091_468_696_808_687_7e-9,
];

impl<E: Emit> Math<'_, E> {
    /// `(e^r - 1 - r) / r^2` for `|r| <= ln 2 / 2`.
    pub(super) fn exp_poly(&mut self, r: E::Value) -> E::Value {
        self.poly_of(r, &EXP_SINGLE, &EXP_DOUBLE)
    }

    /// `(q, k)` with `e^x = 2^k * (1 + q)`; `k` is in the low bits of an integer.
    fn exp_parts(&mut self, x: E::Value) -> (E::Value, E::Value) {
        let magic = self.c(self.f.magic);
        let scaled = self.mul_c(x, LOG2_E);
        let shifted = self.add(scaled, magic);
        let k = self.bits(shifted);
        let whole = self.sub(shifted, magic);
        // The high part has few bits, so that its product with k is exact.
        let high = if self.single() { 0.693_359_375 } else { 0.693_147_180_369_123_8 };
        let (by_high, by_low) =
            (self.mul_c(whole, high), self.mul_c(whole, LN_2_LOW[!self.single() as usize]));
        let r = self.sub(x, by_high);
        let r = self.sub(r, by_low);
        let p = self.exp_poly(r);
        let square = self.mul(r, r);
        let tail = self.mul(square, p);
        (self.add(r, tail), k)
    }

    /// `(e^x - 1) * 2^by`, accurate near 0, for `0 <= x` and `k + by` an exponent.
    fn expm1_scaled(&mut self, x: E::Value, by: i64) -> E::Value {
        let (q, k) = self.exp_parts(x);
        let scale = self.exp2(k, by);
        let whole = self.add_c(scale, -(2f64.powi(by as i32)));
        let part = self.mul(scale, q);
        self.add(part, whole)
    }

    /// The largest and smallest argument whose exponent can be scaled by `2^(k-1)`: a larger one
    /// gives infinity, a smaller one 0.
    fn exp_limits(&self) -> (f64, f64) {
        let smallest = (1 - self.f.bias) as f64 * LN_2;
        (if self.single() { 89.0 } else { 710.0 }, smallest)
    }

    pub(super) fn exp(&mut self, x: E::Value) -> E::Value {
        let (most, least) = self.exp_limits();
        let x = self.at_most(x, most);
        let x = self.at_least(x, least);
        let (q, k) = self.exp_parts(x);
        let y = self.add_c(q, 1.0);
        let (twice, half) = (self.add(y, y), self.exp2(k, -1));
        self.mul(twice, half)
    }

    pub(super) fn sigmoid(&mut self, x: E::Value) -> E::Value {
        let x = self.neg(x);
        let e = self.exp(x);
        let (below, one) = (self.add_c(e, 1.0), self.c(1.0));
        self.div(one, below)
    }

    /// `(e^2a - 1) / (e^2a + 1)`
    pub(super) fn tanh(&mut self, x: E::Value) -> E::Value {
        let a = self.abs(x);
        let a = self.at_most(a, if self.single() { 9.1 } else { 19.1 });
        let twice = self.add(a, a);
        let e = self.expm1_scaled(twice, 0);
        let below = self.add_c(e, 2.0);
        let t = self.div(e, below);
        self.with_sign(t, x)
    }

    /// With `v = (e^a - 1) / 4`, which does not overflow: `2 * (v + v / (4v + 1))`.
    pub(super) fn sinh(&mut self, x: E::Value) -> E::Value {
        let a = self.abs(x);
        let a = self.at_most(a, if self.single() { 89.5 } else { 710.6 });
        let v = self.expm1_scaled(a, -2);
        let below = self.mul_c(v, 4.0);
        let below = self.add_c(below, 1.0);
        let small = self.div(v, below);
        let half = self.add(v, small);
        let y = self.add(half, half);
        self.with_sign(y, x)
    }

    /// With `v = e^a / 4`: `2 * (v + 1 / (16 v))`.
    pub(super) fn cosh(&mut self, x: E::Value) -> E::Value {
        let a = self.abs(x);
        let a = self.at_most(a, if self.single() { 89.5 } else { 710.6 });
        let (q, k) = self.exp_parts(a);
        let (y, scale) = (self.add_c(q, 1.0), self.exp2(k, -2));
        let v = self.mul(y, scale);
        let sixteenth = self.c(0.0625);
        let small = self.div(sixteenth, v);
        let half = self.add(v, small);
        self.add(half, half)
    }

    pub(super) fn erf(&mut self, x: E::Value) -> E::Value {
        if self.single() { self.erf_single(x) } else { self.erf_double(x) }
    }

    /// `1 - e^(a P(a))` with `a = |x|`, as `(1 - 2^k) - 2^k q`, which is accurate near 0 as well.
    fn erf_single(&mut self, x: E::Value) -> E::Value {
        let a = self.abs(x);
        let a = self.at_most(a, 4.0);
        let p = self.poly(a, &ERF_SINGLE);
        let y = self.mul(a, p);
        let (q, k) = self.exp_parts(y);
        let (one, scale) = (self.c(1.0), self.exp2(k, 0));
        let (whole, part) = (self.sub(one, scale), self.mul(scale, q));
        let y = self.sub(whole, part);
        self.with_sign(y, x)
    }

    /// The four ranges of fdlibm's `s_erf.c`, by selection.
    fn erf_double(&mut self, x: E::Value) -> E::Value {
        let a = self.abs(x);
        let a = self.at_most(a, 6.0);
        let limits = [0.84375, 1.25, 1.0 / 0.35].map(|l| self.c(l));
        let (near, middle, far) = (self.lt(a, limits[0]), self.lt(a, limits[1]), self.lt(a, limits[2]));
        let one = self.c(1.0);

        let z = self.mul(a, a);
        let r = self.ratio(z, &ERF_NEAR_P, &ERF_NEAR_Q);
        let r = self.mul(a, r);
        let y_near = self.add(a, r);

        let s = self.add_c(a, -1.0);
        let r = self.ratio(s, &ERF_MIDDLE_P, &ERF_MIDDLE_Q);
        let y_middle = self.add_c(r, ERF_ONE);

        let guarded = self.select(middle, one, a);
        let square = self.mul(guarded, guarded);
        let s = self.div(one, square);
        let (r, t) = (self.ratio(s, &ERF_FAR_P, &ERF_FAR_Q), self.ratio(s, &ERF_FURTHER_P, &ERF_FURTHER_Q));
        let r = self.select(far, r, t);
        let high = self.high(a);
        let square = self.mul(high, high);
        let square = self.neg(square);
        let square = self.add_c(square, -0.5625);
        let first = self.exp(square);
        let (difference, sum) = (self.sub(high, a), self.add(high, a));
        let rest = self.mul(difference, sum);
        let rest = self.add(rest, r);
        let second = self.exp(rest);
        let complement = self.mul(first, second);
        let complement = self.div(complement, guarded);
        let y_far = self.sub(one, complement);

        let y = self.select(middle, y_middle, y_far);
        let y = self.select(near, y_near, y);
        self.with_sign(y, x)
    }

    /// The ratio of two polynomials.
    pub(super) fn ratio(&mut self, x: E::Value, p: &[f64], q: &[f64]) -> E::Value {
        let (p, q) = (self.poly(x, p), self.poly(x, q));
        self.div(p, q)
    }
}

/// `ln 2` less its high part, for `f32` and `f64`.
pub(super) const LN_2_LOW: [f64; 2] = [-2.121_944_400_546_905_8e-4, 1.908_214_929_270_587_7e-10];

/// `ln(1 - erf(a)) / a` for `0 < a < 4`: a fit of this project, by iterated weighted least squares on
/// Chebyshev nodes; what it adds to the relative error of erf is 4e-9.
const ERF_SINGLE: [f64; 9] = [
    -1.128_379_171_613_835,
    -0.636_619_381_899_335_6,
    -0.102_777_831_016_338_1,
    0.019_153_065_583_857_64,
    1.603_932_076_881_985e-4,
    -0.001_667_024_785_469_347,
    6.328_354_692_596_049e-4,
    -1.176_409_007_406_296_2e-4,
    9.256_225_411_756e-6,
];

/// Coefficients of fdlibm's `s_erf.c` (Sun Microsystems), for `f64`.
const ERF_ONE: f64 = 8.450_629_115_104_675e-1;
const ERF_NEAR_P: [f64; 5] = [
    0.12837916709551256,
    -0.3250421072470015,
    -0.02848174957559851,
    -0.005770270296489442,
    -2.3763016656650163e-05,
];
const ERF_NEAR_Q: [f64; 6] = [
    1.0,
    0.39791722395915535,
    0.0650222499887673,
    0.005081306281875766,
    0.00013249473800432164,
    -3.960228278775368e-06,
];
const ERF_MIDDLE_P: [f64; 7] = [
    -0.0023621185607526594,
    0.41485611868374833,
    -0.3722078760357013,
    0.31834661990116175,
    -0.11089469428239668,
    0.035478304325618236,
    -0.002166375594868791,
];
const ERF_MIDDLE_Q: [f64; 7] = [
    1.0,
    0.10642088040084423,
    0.540397917702171,
    0.07182865441419627,
    0.12617121980876164,
    0.01363708391202905,
    0.011984499846799107,
];
const ERF_FAR_P: [f64; 8] = [
    -0.009864944034847148,
    -0.6938585727071818,
    -10.558626225323291,
    -62.375332450326006,
    -162.39666946257347,
    -184.60509290671104,
    -81.2874355063066,
    -9.814329344169145,
];
const ERF_FAR_Q: [f64; 9] = [
    1.0,
    19.651271667439257,
    137.65775414351904,
    434.56587747522923,
    645.3872717332679,
    429.00814002756783,
    108.63500554177944,
    6.570249770319282,
    -0.0604244152148581,
];
const ERF_FURTHER_P: [f64; 7] = [
    -0.0098649429247001,
    -0.799283237680523,
    -17.757954917754752,
    -160.63638485582192,
    -637.5664433683896,
    -1025.0951316110772,
    -483.5191916086514,
];
const ERF_FURTHER_Q: [f64; 8] = [
    1.0,
    30.33806074348246,
    325.7925129965739,
    1536.729586084437,
    3199.8582195085955,
    2553.0504064331644,
    474.52854120695537,
    -22.44095244658582,
];
