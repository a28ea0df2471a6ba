//! Transcendental and other compound operations as sequences of primitive ones.
//!
//! The problem: the interpreter and every target that fuses multiply-adds must give the same bits. So each
//! function is written once, over the trait [`Emit`]: evaluation runs the sequence on numbers, the later stages
//! emit the very same sequence into vector registers. A baseline x86_64, which would make a fused multiply-add of
//! some forty instructions, rounds twice; the errors stay within the same bounds.
//! The `f32` versions use only 32-bit lanes. Errors below are the largest measured, in units of the last
//! place (ulp), by the sweeps in the tests, fused and not.
//!
//! | function | `f32` | remarks |
//! |---|---|---|
//! | exp, sigmoid | 1.5, 2.5 | results below the smallest normal number are 0 |
//! | tanh, erf | 6 | 0.8 on average; never outside of -1..1 |
//! | log | 1 | subnormals included |
//! | sin, cos, tan | 2, 2.5, 4 | reduction exact up to 1e5 (`f32`) and 1e9 (`f64`); beyond, inaccurate but within -1..1 |
//! | pow | 1 | all special cases of C's `pow` |
//! | the others | 4 | |

mod arith;
mod exp;
mod float8;
mod log;
mod pow;
mod trig;

pub use float8::cast_small_float;

use super::{Op, Scalar};
use crate::base::DType;

/// What a sequence of primitive operations is emitted into.
pub trait Emit {
    /// A value: a number, or a register that will hold it.
    type Value: Copy;
    /// A primitive operation (see [`is_primitive`]).
    fn op(&mut self, op: Op, args: &[Self::Value]) -> Self::Value;
    /// A constant.
    fn constant(&mut self, constant: Scalar) -> Self::Value;
    /// A conversion between `f32` and `i32`, or `f64` and `i64`.
    fn cast(&mut self, to: DType, value: Self::Value) -> Self::Value;
    /// The same bits as another type of the same size.
    fn bitcast(&mut self, to: DType, value: Self::Value) -> Self::Value;
    /// `sum + a * b`, rounded once where the target fuses the two, twice elsewhere.
    fn add_product(&mut self, sum: Self::Value, a: Self::Value, b: Self::Value) -> Self::Value;
}

/// Whether an operation on a type is primitive: every other is emitted by [`expand`]. `f16`, `bf16`
/// and smaller floats have no operations of their own: they are computed in `f32`.
pub fn is_primitive(op: Op, dtype: DType) -> bool {
    match op {
        Op::Neg | Op::Abs | Op::Sqrt | Op::Floor | Op::Ceil | Op::Trunc | Op::Round => true,
        Op::Not | Op::And | Op::Or | Op::Xor | Op::Shl | Op::Shr => true,
        Op::Add | Op::Sub | Op::Mul | Op::Div | Op::Min | Op::Max => true,
        Op::Eq | Op::Ne | Op::Lt | Op::Le | Op::Gt | Op::Ge | Op::Select => true,
        Op::Rem => !dtype.is_float(),
        _ => false,
    }
}

/// Emits an operation that is not primitive, on arguments of type `dtype`: `f32`, `f64`, or, where
/// the operation has a meaning for them, integers.
pub fn expand<E: Emit>(e: &mut E, op: Op, dtype: DType, args: &[E::Value]) -> E::Value {
    if !dtype.is_float() {
        return arith::integer(e, op, dtype, args);
    }
    let format = if dtype == DType::F64 { &F64 } else { &F32 };
    let (mut m, a) = (Math { e, f: format }, args[0]);
    match op {
        Op::Exp => m.exp(a),
        Op::Sigmoid => m.sigmoid(a),
        Op::Tanh => m.tanh(a),
        Op::Sinh => m.sinh(a),
        Op::Cosh => m.cosh(a),
        Op::Erf => m.erf(a),
        Op::Log => m.log(a),
        Op::Asinh => m.asinh(a),
        Op::Acosh => m.acosh(a),
        Op::Atanh => m.atanh(a),
        Op::Sin => m.sin(a),
        Op::Cos => m.cos(a),
        Op::Tan => m.tan(a),
        Op::Asin => m.asin(a),
        Op::Acos => m.acos(a),
        Op::Atan => m.atan(a),
        Op::Pow => m.pow(a, args[1]),
        Op::Sign => m.sign(a),
        Op::IsNan => m.e.op(Op::Ne, &[a, a]),
        Op::Rem => m.rem(a, args[1]),
        Op::Mod => m.modulo(a, args[1]),
        _ => unreachable!("{} is primitive", op.name()),
    }
}

/// How many primitive operations an operation on a type is.
pub fn primitives(op: Op, dtype: DType) -> usize {
    struct Count(usize);
    impl Emit for Count {
        type Value = ();
        fn op(&mut self, _: Op, _: &[()]) {
            self.0 += 1;
        }
        fn constant(&mut self, _: Scalar) {}
        fn cast(&mut self, _: DType, (): ()) {
            self.0 += 1;
        }
        fn bitcast(&mut self, _: DType, (): ()) {}
        fn add_product(&mut self, (): (), (): (), (): ()) {
            self.0 += 1;
        }
    }
    if is_primitive(op, dtype) || !dtype.is_float() {
        return 1;
    }
    let (mut count, args) = (Count(0), [(); 3]);
    expand(&mut count, op, if dtype == DType::F64 { dtype } else { DType::F32 }, &args);
    count.0
}

/// A floating-point format, and the constants of it that many functions share.
struct Format {
    float: DType,
    int: DType,
    /// Explicit bits of the mantissa.
    mantissa: i64,
    /// Bias of the exponent.
    bias: i64,
    /// Adding it rounds to an integer and leaves that integer in the low bits.
    magic: f64,
    /// Clears the lower half of the mantissa.
    high_half: i64,
    sign: i64,
}

const F32: Format = Format {
    float: DType::F32,
    int: DType::I32,
    mantissa: 23,
    bias: 127,
    magic: 12_582_912.0,
    high_half: 0xffff_f000u32 as i32 as i64,
    sign: i32::MIN as i64,
};

const F64: Format = Format {
    float: DType::F64,
    int: DType::I64,
    mantissa: 52,
    bias: 1023,
    magic: 6_755_399_441_055_744.0,
    high_half: 0xffff_ffff_f800_0000u64 as i64,
    sign: i64::MIN,
};

/// Emits in one format.
struct Math<'e, E: Emit> {
    e: &'e mut E,
    f: &'static Format,
}

macro_rules! two {
    ($($name:ident $op:ident),*) => {$(
        fn $name(&mut self, a: E::Value, b: E::Value) -> E::Value {
            self.e.op(Op::$op, &[a, b])
        }
    )*};
}

impl<E: Emit> Math<'_, E> {
    two! { add Add, sub Sub, mul Mul, div Div, lt Lt, eq Eq, and And, or Or, shl Shl, shr Shr }

    fn single(&self) -> bool {
        self.f.float == DType::F32
    }

    /// A floating-point constant.
    fn c(&mut self, value: f64) -> E::Value {
        self.e.constant(Scalar::from_f64(self.f.float, value))
    }

    /// The constant of the format at hand.
    fn either(&mut self, single: f64, double: f64) -> E::Value {
        let value = if self.single() { single } else { double };
        self.c(value)
    }

    /// An integer constant.
    fn k(&mut self, value: i64) -> E::Value {
        self.e.constant(Scalar::from_i64(self.f.int, value))
    }

    fn add_c(&mut self, a: E::Value, c: f64) -> E::Value {
        let c = self.c(c);
        self.add(a, c)
    }

    fn mul_c(&mut self, a: E::Value, c: f64) -> E::Value {
        let c = self.c(c);
        self.mul(a, c)
    }

    fn neg(&mut self, a: E::Value) -> E::Value {
        self.e.op(Op::Neg, &[a])
    }

    fn abs(&mut self, a: E::Value) -> E::Value {
        self.e.op(Op::Abs, &[a])
    }

    fn sqrt(&mut self, a: E::Value) -> E::Value {
        self.e.op(Op::Sqrt, &[a])
    }

    fn trunc(&mut self, a: E::Value) -> E::Value {
        self.e.op(Op::Trunc, &[a])
    }

    fn select(&mut self, mask: E::Value, a: E::Value, b: E::Value) -> E::Value {
        self.e.op(Op::Select, &[mask, a, b])
    }

    /// `limit < a ? limit : a`: one instruction where a target has it; NaN passes.
    fn at_most(&mut self, a: E::Value, limit: f64) -> E::Value {
        let limit = self.c(limit);
        let mask = self.lt(limit, a);
        self.select(mask, limit, a)
    }

    /// `limit > a ? limit : a`; NaN passes.
    fn at_least(&mut self, a: E::Value, limit: f64) -> E::Value {
        let limit = self.c(limit);
        let mask = self.e.op(Op::Gt, &[limit, a]);
        self.select(mask, limit, a)
    }

    fn bits(&mut self, a: E::Value) -> E::Value {
        self.e.bitcast(self.f.int, a)
    }

    fn float(&mut self, bits: E::Value) -> E::Value {
        self.e.bitcast(self.f.float, bits)
    }

    /// `a` with the lower half of its mantissa cleared: products of such numbers are exact.
    fn high(&mut self, a: E::Value) -> E::Value {
        let (bits, mask) = (self.bits(a), self.k(self.f.high_half));
        let kept = self.and(bits, mask);
        self.float(kept)
    }

    /// The sign bit of `a`, as an integer.
    fn sign_bit(&mut self, a: E::Value) -> E::Value {
        let (bits, mask) = (self.bits(a), self.k(self.f.sign));
        self.and(bits, mask)
    }

    /// The non-negative `a` with the sign of `of`.
    fn with_sign(&mut self, a: E::Value, of: E::Value) -> E::Value {
        let (bits, sign) = (self.bits(a), self.sign_bit(of));
        let joined = self.or(bits, sign);
        self.float(joined)
    }

    /// `c[0] + c[1]*x + c[2]*x^2 + ...`
    fn poly(&mut self, x: E::Value, c: &[f64]) -> E::Value {
        let square = self.mul(x, x);
        self.poly_by(x, square, c)
    }

    /// `poly` whose `x^2` is at hand: a polynomial in it, whose coefficients are of first degree in `x`. A
    /// step waits for two operations per two coefficients, not four: cores wait for results here, they do
    /// not lack units (exp, erf: 1.3 and 2 times as fast as by single coefficients, on Zen 4).
    fn poly_by(&mut self, x: E::Value, square: E::Value, c: &[f64]) -> E::Value {
        let mut sum = None;
        for pair in c.chunks(2).rev() {
            let mut term = self.c(pair[0]);
            if let Some(&second) = pair.get(1) {
                let second = self.c(second);
                term = self.e.add_product(term, x, second);
            }
            sum = Some(sum.map_or(term, |sum| self.e.add_product(term, sum, square)));
        }
        sum.unwrap_or_else(|| self.c(0.0))
    }

    /// `poly` of the format at hand.
    fn poly_of(&mut self, x: E::Value, single: &[f64], double: &[f64]) -> E::Value {
        let c = if self.single() { single } else { double };
        self.poly(x, c)
    }

    /// The ratio of two polynomials.
    fn ratio(&mut self, x: E::Value, p: &[f64], q: &[f64]) -> E::Value {
        let square = self.mul(x, x);
        let (p, q) = (self.poly_by(x, square, p), self.poly_by(x, square, q));
        self.div(p, q)
    }

    /// `2^k` where the low bits of `k` hold an integer; `k + by` must be an exponent of a normal
    /// number, or one less than the smallest, which gives 0.
    fn exp2(&mut self, k: E::Value, by: i64) -> E::Value {
        let mantissa = self.k(self.f.mantissa);
        let (shifted, one) = (self.shl(k, mantissa), self.k((self.f.bias + by) << self.f.mantissa));
        let bits = self.add(shifted, one);
        self.float(bits)
    }
}

#[cfg(test)]
mod tests;
