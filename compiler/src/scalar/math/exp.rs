//! exp and what is made of it: sigmoid, the hyperbolic functions, erf.
//!
//! `e^x = 2^k * (1 + q)` with `k = round(x / ln 2)` and `q = e^r - 1` for `|r| <= ln 2 / 2`. `k` is
//! found by adding a number so large that only integers are left, whose low bits are then `k`.
//!
//! tanh and erf in `f32` are ratios of polynomials: half the time of what is made of exp, on Zen 4, for twice
//! the error.

use super::{Emit, Math};
use std::f64::consts::{LN_2, LOG2_E};

/// `(e^r - 1 - r) / r^2` for `|r| <= ln 2 / 2`: Chebyshev fits, relative errors 8e-9 and 2e-19.
pub(super) const EXP_SINGLE: [f64; 5] = [
    0.5,
    0.166_665_769_896_987_76,
    0.041_666_554_617_204_574,
    0.008_363_179_052_722_577,
    0.001_392_618_358_771_349_5,
];
pub(super) const EXP_DOUBLE: [f64; 11] = [
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
    /// `(sign q, k)` with `e^(sign x) = 2^k * (1 + q)`, for a sign of 1 or -1; `k` is in the low bits of an integer.
    fn exp_parts(&mut self, x: E::Value, sign: f64) -> (E::Value, E::Value) {
        let magic = self.c(self.f.magic);
        let scale = self.c(sign * LOG2_E);
        let shifted = self.e.add_product(magic, x, scale);
        let k = self.bits(shifted);
        let whole = self.sub(shifted, magic);
        let r = LN_2_PARTS[!self.single() as usize].iter().fold(x, |r, part| {
            let part = self.c(-sign * part);
            self.e.add_product(r, whole, part)
        });
        let square = self.mul(r, r);
        let c: &[f64] = if self.single() { &EXP_SINGLE } else { &EXP_DOUBLE };
        let c: Vec<f64> = c.iter().zip([sign, 1.0].into_iter().cycle()).map(|(c, sign)| sign * c).collect();
        let p = self.poly_by(r, square, &c);
        (self.e.add_product(r, square, p), k)
    }

    /// `(e^x - 1) * 2^by`, accurate near 0, for `0 <= x` and `k + by` an exponent.
    fn expm1_scaled(&mut self, x: E::Value, by: i64) -> E::Value {
        let (q, k) = self.exp_parts(x, 1.0);
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

    /// `e^(sign x)` as a product of two numbers, which is exact where it is not 0.
    fn exp_factors(&mut self, x: E::Value, sign: f64) -> (E::Value, E::Value) {
        let (most, least) = self.exp_limits();
        let (most, least) = if sign < 0.0 { (-least, -most) } else { (most, least) };
        let x = self.at_most(x, most);
        let x = self.at_least(x, least);
        let (q, k) = self.exp_parts(x, sign);
        let (two, signed) = (self.c(2.0), self.c(2.0 * sign));
        (self.e.add_product(two, q, signed), self.exp2(k, -1))
    }

    pub(super) fn exp(&mut self, x: E::Value) -> E::Value {
        let (twice, half) = self.exp_factors(x, 1.0);
        self.mul(twice, half)
    }

    /// `1 / (1 + e^-x)`
    pub(super) fn sigmoid(&mut self, x: E::Value) -> E::Value {
        let (twice, half) = self.exp_factors(x, -1.0);
        let one = self.c(1.0);
        let below = self.e.add_product(one, twice, half);
        self.div(one, below)
    }

    pub(super) fn tanh(&mut self, x: E::Value) -> E::Value {
        if self.single() { self.odd_ratio(x, 9.0, &TANH_P, &TANH_Q) } else { self.tanh_double(x) }
    }

    /// `(e^2a - 1) / (e^2a + 1)`
    fn tanh_double(&mut self, x: E::Value) -> E::Value {
        let a = self.abs(x);
        let a = self.at_most(a, 19.1);
        let twice = self.add(a, a);
        let e = self.expm1_scaled(twice, 0);
        let below = self.add_c(e, 2.0);
        let t = self.div(e, below);
        self.with_sign(t, x)
    }

    /// `x P(x^2) / Q(x^2)` within -1..1, for a function that rounds to -1 and 1 beyond `limit`.
    fn odd_ratio(&mut self, x: E::Value, limit: f64, p: &[f64], q: &[f64]) -> E::Value {
        let z = self.mul(x, x);
        let z = self.at_most(z, limit * limit);
        let square = self.mul(z, z);
        let (p, q) = (self.poly_by(z, square, p), self.poly_by(z, square, q));
        let y = self.mul(x, p);
        let y = self.div(y, q);
        let y = self.at_most(y, 1.0);
        self.at_least(y, -1.0)
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
        let (q, k) = self.exp_parts(a, 1.0);
        let (y, scale) = (self.add_c(q, 1.0), self.exp2(k, -2));
        let v = self.mul(y, scale);
        let sixteenth = self.c(0.0625);
        let small = self.div(sixteenth, v);
        let half = self.add(v, small);
        self.add(half, half)
    }

    pub(super) fn erf(&mut self, x: E::Value) -> E::Value {
        if self.single() { self.odd_ratio(x, 3.925, &ERF_P, &ERF_Q) } else { self.erf_double(x) }
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
}

/// `ln 2` as a sum of numbers of so few bits, for `f32` and `f64`, that their products with `k` are exact.
const LN_2_PARTS: [[f64; 2]; 2] = [
    [0.693_145_751_953_125, 1.428_619_725_629_687_3e-6],
    [0.693_147_180_369_123_8, 1.908_214_929_270_822e-10],
];

/// `tanh(x) / x` and `erf(x) / x` as ratios of polynomials in `x^2`, for `|x|` below 9 and 3.925: fits of this
/// project, by iterated weighted least squares on Chebyshev nodes. They add 2e-8 to the relative error; all
/// coefficients are positive, so that rounding adds 3.5e-7 at most.
const TANH_P: [f64; 5] = [1.0, 0.133810386, 0.0034956031, 2.06093027e-5, 1.33549092e-8];
const TANH_Q: [f64; 5] = [1.0, 0.467143536, 0.0258770417, 3.28565802e-4, 7.77667196e-7];
const ERF_P: [f64; 6] = [1.12837911, 0.190593943, 0.0527691804, 0.00377251324, 2.84835027e-4, 2.04593266e-6];
const ERF_Q: [f64; 6] = [1.0, 0.502242208, 0.114182666, 0.0149831381, 0.00116383377, 3.80463352e-5];

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
