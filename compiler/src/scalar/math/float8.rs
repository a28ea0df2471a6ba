//! Casts between `f32` and the floats of 8 bits and fewer, on their bits in 32-bit lanes.
//!
//! The rules are the tables of ONNX `Cast`. Subnormal results are rounded by an addition whose
//! last place is the smallest subnormal number; normal ones on the bits, to nearest even.

use super::{Emit, F32, Math};
use crate::base::DType;
use crate::scalar::Op;

/// A format with sign, exponent and mantissa.
struct Small {
    mantissa: i64,
    bias: i64,
    sign: i64,
    /// Code of the largest finite number.
    most: i64,
    /// Code of a positive number past it, where casts do not saturate.
    over: i64,
    nan: i64,
    /// Whether there is one zero, and the code of minus zero is NaN.
    unsigned_zero: bool,
}

fn small(dtype: DType) -> Small {
    let row = |mantissa, bias, most, over, nan, unsigned_zero| Small {
        mantissa,
        bias,
        sign: if dtype == DType::F4E2M1 { 8 } else { 0x80 },
        most,
        over,
        nan,
        unsigned_zero,
    };
    match dtype {
        DType::F8E4M3FN => row(3, 7, 0x7e, 0x7f, 0x7f, false),
        DType::F8E4M3FNUZ => row(3, 8, 0x7f, 0x80, 0x80, true),
        DType::F8E5M2 => row(2, 15, 0x7b, 0x7c, 0x7e, false),
        DType::F8E5M2FNUZ => row(2, 16, 0x7f, 0x80, 0x80, true),
        _ => row(1, 1, 7, 7, 0, false),
    }
}

/// Casts between `f32` and a small float `dtype`: where `encode`, `value` is `f32` and the result
/// is the code in an `i32`; otherwise the reverse.
pub fn cast_small_float<E: Emit>(
    e: &mut E,
    dtype: DType,
    encode: bool,
    saturate: bool,
    value: E::Value,
) -> E::Value {
    let mut m = Math { e, f: &F32 };
    match (dtype, encode) {
        (DType::F8E8M0, true) => m.encode_exponent(value, saturate),
        (DType::F8E8M0, false) => m.decode_exponent(value),
        (_, true) => m.encode(value, &small(dtype), saturate),
        (_, false) => m.decode(value, &small(dtype), dtype),
    }
}

impl<E: Emit> Math<'_, E> {
    fn shifted(&mut self, a: E::Value, op: Op, by: i64) -> E::Value {
        let by = self.k(by);
        self.e.op(op, &[a, by])
    }

    fn masked(&mut self, a: E::Value, mask: i64) -> E::Value {
        let mask = self.k(mask);
        self.and(a, mask)
    }

    fn encode(&mut self, x: E::Value, s: &Small, saturate: bool) -> E::Value {
        let bits = self.bits(x);
        let magnitude = self.masked(bits, 0x7fff_ffff);
        let a = self.float(magnitude);

        let drop = 23 - s.mantissa;
        let last = self.shifted(magnitude, Op::Shr, drop);
        let last = self.masked(last, 1);
        let almost_half = self.k((1 << (drop - 1)) - 1);
        let rounded = self.add(magnitude, almost_half);
        let rounded = self.add(rounded, last);
        let rounded = self.shifted(rounded, Op::Shr, drop);
        let rebias = self.k(-((127 - s.bias) << s.mantissa));
        let normal = self.add(rounded, rebias);

        let magic = self.c(2f64.powi((1 - s.bias - s.mantissa + 23) as i32));
        let sum = self.add(a, magic);
        let (sum, magic) = (self.bits(sum), self.bits(magic));
        let subnormal = self.e.op(Op::Sub, &[sum, magic]);
        let least = self.c(2f64.powi((1 - s.bias) as i32));
        let is_subnormal = self.lt(a, least);
        let code = self.select(is_subnormal, subnormal, normal);

        let (most, over) = (self.k(s.most), self.k(if saturate { s.most } else { s.over }));
        let too_large = self.lt(most, code);
        let code = self.select(too_large, over, code);
        let (nan, is_nan) = (self.k(s.nan), self.e.op(Op::Ne, &[x, x]));
        let code = self.select(is_nan, nan, code);

        let zero = self.k(0);
        let negative = self.lt(bits, zero);
        let (sign, none) = (self.k(s.sign), zero);
        let sign = self.select(negative, sign, none);
        let signed = self.or(code, sign);
        if !s.unsigned_zero {
            return signed;
        }
        let is_zero = self.eq(code, zero);
        self.select(is_zero, zero, signed)
    }

    fn decode(&mut self, code: E::Value, s: &Small, dtype: DType) -> E::Value {
        let magnitude = self.masked(code, s.sign - 1);
        let bits = self.shifted(magnitude, Op::Shl, 23 - s.mantissa);
        let scaled = self.float(bits);
        let y = self.mul_c(scaled, 2f64.powi((127 - s.bias) as i32));
        let (nan, infinity) = (self.c(f64::NAN), self.c(f64::INFINITY));
        let y = match dtype {
            DType::F8E4M3FN => {
                let k = self.k(s.nan);
                let is_nan = self.eq(magnitude, k);
                self.select(is_nan, nan, y)
            }
            DType::F8E5M2 => {
                let k = self.k(s.over);
                let (is_infinite, is_nan) = (self.eq(magnitude, k), self.lt(k, magnitude));
                let y = self.select(is_infinite, infinity, y);
                self.select(is_nan, nan, y)
            }
            _ => y,
        };
        let bits = self.bits(y);
        let sign = self.masked(code, s.sign);
        let sign = self.shifted(sign, Op::Shl, if s.sign == 8 { 28 } else { 24 });
        let signed = self.or(bits, sign);
        let y = self.float(signed);
        if !s.unsigned_zero {
            return y;
        }
        let k = self.k(s.nan);
        let is_nan = self.eq(code, k);
        self.select(is_nan, nan, y)
    }

    /// To a power of two, rounded up.
    fn encode_exponent(&mut self, x: E::Value, saturate: bool) -> E::Value {
        let bits = self.bits(x);
        let magnitude = self.masked(bits, 0x7fff_ffff);
        let fraction = self.k(0x7f_ffff);
        let up = self.add(magnitude, fraction);
        let code = self.shifted(up, Op::Shr, 23);
        let (zero, least) = (self.k(0), self.k(0x40_0000));
        let normal = self.lt(least, magnitude);
        let code = self.select(normal, code, zero);
        let (most, nan) = (self.k(254), self.k(255));
        let too_large = self.lt(most, code);
        let limit = if saturate { most } else { nan };
        let code = self.select(too_large, limit, code);
        let is_nan = self.e.op(Op::Ne, &[x, x]);
        self.select(is_nan, nan, code)
    }

    fn decode_exponent(&mut self, code: E::Value) -> E::Value {
        let bits = self.shifted(code, Op::Shl, 23);
        let (least, zero, last) = (self.k(0x40_0000), self.k(0), self.k(255));
        let is_least = self.eq(code, zero);
        let bits = self.select(is_least, least, bits);
        let y = self.float(bits);
        let (nan, is_nan) = (self.c(f64::NAN), self.eq(code, last));
        self.select(is_nan, nan, y)
    }
}
