//! The meaning of each scalar operation on one element.
//!
//! Primitive operations are functions on the bits of elements; the compound ones run their
//! expansion ([`super::math`]) on numbers.

use super::math::{self, Emit};
use super::{Op, Scalar};
use crate::base::DType;
use half::{bf16, f16};

/// A primitive operation on the bits of its arguments, which are zero-extended.
#[derive(Clone, Copy)]
pub enum Function {
    /// One argument.
    Unary(fn(u64) -> u64),
    /// Two arguments.
    Binary(fn(u64, u64) -> u64),
}

/// The result of an operation. Arguments must fit the operation's row.
pub fn eval(op: Op, args: &[Scalar]) -> Scalar {
    let dtype = args[args.len() - 1].dtype;
    let types = [args[0].dtype, args.get(1).map_or(dtype, |a| a.dtype), dtype];
    let result = op.result_type(&types[..args.len()]);
    let result = result.unwrap_or_else(|| panic!("{} of {args:?}", op.name()));
    if op == Op::Select {
        return if args[0].bits != 0 { args[1] } else { args[2] };
    }
    if dtype.is_float() && !matches!(dtype, DType::F32 | DType::F64) {
        let wide: Vec<Scalar> = args.iter().map(|&a| cast(a, DType::F32, true)).collect();
        return cast(eval(op, &wide), result, true);
    }
    if !math::is_primitive(op, dtype) {
        return math::expand(&mut Numbers { fused: true }, op, dtype, args);
    }
    let bits = match function(op, dtype) {
        Some(Function::Unary(f)) => f(args[0].bits),
        Some(Function::Binary(f)) => f(args[0].bits, args[1].bits),
        None => panic!("{} of {dtype}", op.name()),
    };
    Scalar { dtype: result, bits }
}

/// Emits by computing.
pub(super) struct Numbers {
    /// Whether products are added up before they are rounded, as targets do that fuse the two.
    pub fused: bool,
}

impl Emit for Numbers {
    type Value = Scalar;
    fn op(&mut self, op: Op, args: &[Scalar]) -> Scalar {
        eval(op, args)
    }
    fn constant(&mut self, constant: Scalar) -> Scalar {
        constant
    }
    fn cast(&mut self, to: DType, value: Scalar) -> Scalar {
        cast(value, to, true)
    }
    fn bitcast(&mut self, to: DType, value: Scalar) -> Scalar {
        Scalar { dtype: to, bits: value.bits }
    }
    fn add_product(&mut self, sum: Scalar, a: Scalar, b: Scalar) -> Scalar {
        match self.fused {
            true => Scalar { dtype: sum.dtype, bits: add_product(sum.dtype)(sum.bits, a.bits, b.bits) },
            false => eval(Op::Add, &[sum, eval(Op::Mul, &[a, b])]),
        }
    }
}

/// `(sum, a, b)` to `sum + a * b` of `f32` or `f64`, rounded once.
pub fn add_product(dtype: DType) -> fn(u64, u64, u64) -> u64 {
    match dtype {
        DType::F64 => |sum, a, b| f64::from_bits(a).mul_add(f64::from_bits(b), f64::from_bits(sum)).to_bits(),
        _ => |sum, a, b| {
            let [sum, a, b] = [sum, a, b].map(|bits| f32::from_bits(bits as u32));
            a.mul_add(b, sum).to_bits().into()
        },
    }
}

macro_rules! float_functions {
    ($name:ident, $t:ty, $bits:ty) => {
        fn $name(op: Op) -> Option<Function> {
            use Function::{Binary, Unary};
            fn get(bits: u64) -> $t {
                <$t>::from_bits(bits as $bits)
            }
            fn put(value: $t) -> u64 {
                u64::from(value.to_bits())
            }
            // NaN wins; of two equal zeros either may.
            fn pick(a: $t, b: $t, first: bool) -> $t {
                if a.is_nan() || (first && !b.is_nan()) { a } else { b }
            }
            Some(match op {
                Op::Neg => Unary(|a| put(-get(a))),
                Op::Abs => Unary(|a| put(get(a).abs())),
                Op::Sqrt => Unary(|a| put(get(a).sqrt())),
                Op::Floor => Unary(|a| put(get(a).floor())),
                Op::Ceil => Unary(|a| put(get(a).ceil())),
                Op::Trunc => Unary(|a| put(get(a).trunc())),
                Op::Round => Unary(|a| put(get(a).round_ties_even())),
                Op::Add => Binary(|a, b| put(get(a) + get(b))),
                Op::Sub => Binary(|a, b| put(get(a) - get(b))),
                Op::Mul => Binary(|a, b| put(get(a) * get(b))),
                Op::Div => Binary(|a, b| put(get(a) / get(b))),
                Op::Min => Binary(|a, b| put(pick(get(a), get(b), get(a) < get(b)))),
                Op::Max => Binary(|a, b| put(pick(get(a), get(b), get(a) > get(b)))),
                Op::Eq => Binary(|a, b| u64::from(get(a) == get(b))),
                Op::Ne => Binary(|a, b| u64::from(get(a) != get(b))),
                Op::Lt => Binary(|a, b| u64::from(get(a) < get(b))),
                Op::Le => Binary(|a, b| u64::from(get(a) <= get(b))),
                Op::Gt => Binary(|a, b| u64::from(get(a) > get(b))),
                Op::Ge => Binary(|a, b| u64::from(get(a) >= get(b))),
                _ => return None,
            })
        }
    };
}
float_functions!(f32_function, f32, u32);
float_functions!(f64_function, f64, u64);

macro_rules! int_functions {
    ($name:ident, $t:ty, $unsigned:ty) => {
        fn $name(op: Op) -> Option<Function> {
            use Function::{Binary, Unary};
            fn get(bits: u64) -> $t {
                bits as $t
            }
            #[allow(clippy::unnecessary_cast)]
            fn put(value: $t) -> u64 {
                value as $unsigned as u64
            }
            #[allow(unused_comparisons)]
            fn abs(value: $t) -> $t {
                if value < 0 { value.wrapping_neg() } else { value }
            }
            #[allow(unused_comparisons)]
            fn shift_right(value: $t, count: u64) -> $t {
                let past = if value < 0 { <$t>::MAX.wrapping_add(1) >> (<$t>::BITS - 1) } else { 0 };
                if count < u64::from(<$t>::BITS) { value >> count } else { past }
            }
            Some(match op {
                Op::Neg => Unary(|a| put(get(a).wrapping_neg())),
                Op::Abs => Unary(|a| put(abs(get(a)))),
                Op::Floor | Op::Ceil | Op::Trunc | Op::Round => Unary(|a| a),
                Op::Not => Unary(|a| put(!get(a))),
                Op::Add => Binary(|a, b| put(get(a).wrapping_add(get(b)))),
                Op::Sub => Binary(|a, b| put(get(a).wrapping_sub(get(b)))),
                Op::Mul => Binary(|a, b| put(get(a).wrapping_mul(get(b)))),
                Op::Div => Binary(|a, b| if get(b) == 0 { 0 } else { put(get(a).wrapping_div(get(b))) }),
                Op::Rem => Binary(|a, b| if get(b) == 0 { 0 } else { put(get(a).wrapping_rem(get(b))) }),
                Op::Min => Binary(|a, b| put(get(a).min(get(b)))),
                Op::Max => Binary(|a, b| put(get(a).max(get(b)))),
                Op::And => Binary(|a, b| a & b),
                Op::Or => Binary(|a, b| a | b),
                Op::Xor => Binary(|a, b| a ^ b),
                Op::Shl => Binary(|a, b| if b < u64::from(<$t>::BITS) { put(get(a) << b) } else { 0 }),
                Op::Shr => Binary(|a, b| put(shift_right(get(a), b))),
                Op::Eq => Binary(|a, b| u64::from(a == b)),
                Op::Ne => Binary(|a, b| u64::from(a != b)),
                Op::Lt => Binary(|a, b| u64::from(get(a) < get(b))),
                Op::Le => Binary(|a, b| u64::from(get(a) <= get(b))),
                Op::Gt => Binary(|a, b| u64::from(get(a) > get(b))),
                Op::Ge => Binary(|a, b| u64::from(get(a) >= get(b))),
                _ => return None,
            })
        }
    };
}
int_functions!(i8_function, i8, u8);
int_functions!(i16_function, i16, u16);
int_functions!(i32_function, i32, u32);
int_functions!(i64_function, i64, u64);
int_functions!(u8_function, u8, u8);
int_functions!(u16_function, u16, u16);
int_functions!(u32_function, u32, u32);
int_functions!(u64_function, u64, u64);

fn bool_function(op: Op) -> Option<Function> {
    use Function::{Binary, Unary};
    Some(match op {
        Op::Not => Unary(|a| a ^ 1),
        Op::And | Op::Mul | Op::Min => Binary(|a, b| a & b),
        Op::Or | Op::Add | Op::Max => Binary(|a, b| a | b),
        Op::Xor | Op::Ne => Binary(|a, b| a ^ b),
        Op::Eq => Binary(|a, b| u64::from(a == b)),
        Op::Lt => Binary(|a, b| u64::from(a < b)),
        Op::Le => Binary(|a, b| u64::from(a <= b)),
        Op::Gt => Binary(|a, b| u64::from(a > b)),
        Op::Ge => Binary(|a, b| u64::from(a >= b)),
        _ => return None,
    })
}

/// The function of a primitive operation other than `Select` on a type; `None` where it has no
/// meaning. Four- and two-bit integers are computed as bytes.
pub fn function(op: Op, dtype: DType) -> Option<Function> {
    match dtype {
        DType::F32 => f32_function(op),
        DType::F64 => f64_function(op),
        DType::I8 | DType::I4 | DType::I2 => i8_function(op),
        DType::U8 | DType::U4 | DType::U2 => u8_function(op),
        DType::I16 => i16_function(op),
        DType::U16 => u16_function(op),
        DType::I32 => i32_function(op),
        DType::U32 => u32_function(op),
        DType::I64 => i64_function(op),
        DType::U64 => u64_function(op),
        DType::Bool => bool_function(op),
        _ => None,
    }
}

/// Converts as ONNX `Cast` does. Floats to integers: towards zero, saturating, NaN gives 0.
/// Integers to narrower ones keep the low bits. Small floats saturate where `saturate` says so.
pub fn cast(value: Scalar, to: DType, saturate: bool) -> Scalar {
    let from = value.dtype;
    if from == to {
        return value;
    }
    if to == DType::Bool {
        return Scalar { dtype: to, bits: u64::from(is_nonzero(value)) };
    }
    if to.is_small_float() {
        let x = cast(value, DType::F32, true);
        let code = math::cast_small_float(&mut Numbers { fused: true }, to, true, saturate, x);
        return Scalar { dtype: to, bits: code.bits };
    }
    if from.is_small_float() {
        let code = Scalar { dtype: DType::I32, bits: value.bits };
        return cast(
            math::cast_small_float(&mut Numbers { fused: true }, from, false, true, code),
            to,
            saturate,
        );
    }
    if from.is_float() { cast_float(value, to) } else { cast_int(value, to) }
}

fn is_nonzero(value: Scalar) -> bool {
    match value.dtype {
        t if t.is_float() => value.to_f64() != 0.0,
        _ => value.bits != 0,
    }
}

fn cast_float(value: Scalar, to: DType) -> Scalar {
    let wide = value.to_f64();
    let bits = match to {
        DType::F32 => u64::from((wide as f32).to_bits()),
        DType::F64 => wide.to_bits(),
        DType::F16 => u64::from(f16::from_f64(wide).to_bits()),
        DType::BF16 => u64::from(bf16::from_f64(wide).to_bits()),
        DType::U64 => wide as u64,
        DType::I64 => wide as i64 as u64,
        _ => return Scalar::from_f64(to, if wide.is_nan() { 0.0 } else { wide.trunc() }),
    };
    Scalar { dtype: to, bits }
}

fn cast_int(value: Scalar, to: DType) -> Scalar {
    let signed = value.to_i64();
    let is_u64 = value.dtype == DType::U64;
    let bits = match to {
        DType::F32 if is_u64 => u64::from((value.bits as f32).to_bits()),
        DType::F32 => u64::from((signed as f32).to_bits()),
        DType::F64 if is_u64 => (value.bits as f64).to_bits(),
        DType::F64 => (signed as f64).to_bits(),
        // Exact in f64, or far beyond the range of f16; bf16 rounds by way of a sticky bit.
        DType::F16 => u64::from(f16::from_f64(sticky_f64(value, is_u64)).to_bits()),
        DType::BF16 => u64::from(bf16::from_f64(sticky_f64(value, is_u64)).to_bits()),
        _ => return Scalar::from_i64(to, keep_low_bits(to, signed)),
    };
    Scalar { dtype: to, bits }
}

/// An integer as `f64`, its bits beyond the precision joined into the last one kept: rounding it
/// further to a narrow type gives what rounding the integer gives.
fn sticky_f64(value: Scalar, is_u64: bool) -> f64 {
    let (negative, magnitude) = match is_u64 {
        true => (false, value.bits),
        false => (value.to_i64() < 0, value.to_i64().unsigned_abs()),
    };
    let lost = magnitude & 0xfff;
    let kept =
        if magnitude >> 52 == 0 { magnitude } else { (magnitude & !0xfff) | (u64::from(lost != 0) << 12) };
    if negative { -(kept as f64) } else { kept as f64 }
}

/// The low bits of a four- or two-bit type, extended into its byte.
fn keep_low_bits(to: DType, value: i64) -> i64 {
    let drop = 64 - to.bits();
    if to.is_signed_int() { value << drop >> drop } else { ((value as u64) << drop >> drop) as i64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_f32(value: f32, to: DType) -> Scalar {
        cast(Scalar::from_f64(DType::F32, value.into()), to, true)
    }

    #[test]
    fn floats_saturate_to_integers() {
        assert_eq!(from_f32(300.7, DType::U8).to_i64(), 255);
        assert_eq!(from_f32(-3.9, DType::U8).to_i64(), 0);
        assert_eq!(from_f32(-3.9, DType::I8).to_i64(), -3);
        assert_eq!(from_f32(f32::NAN, DType::I32).to_i64(), 0);
        assert_eq!(from_f32(1e30, DType::I64).to_i64(), i64::MAX);
        assert_eq!(from_f32(-9.0, DType::I4).to_i64(), -8);
        assert_eq!(from_f32(f32::NAN, DType::Bool).bits, 1);
    }

    #[test]
    fn integers_keep_their_low_bits() {
        let x = Scalar::from_i64(DType::I16, 200);
        assert_eq!(cast(x, DType::I8, true).to_i64(), -56);
        assert_eq!(cast(Scalar::from_i64(DType::I32, 23), DType::I4, true).to_i64(), 7);
        assert_eq!(cast(Scalar::from_i64(DType::I32, -1), DType::U4, true).to_i64(), 15);
        let big = Scalar { dtype: DType::U64, bits: u64::MAX };
        assert_eq!(cast(big, DType::F32, true).to_f64(), 2f64.powi(64));
    }

    /// Every code of every small float survives the way to `f32` and back.
    #[test]
    fn small_floats_survive_a_round_trip() {
        for to in DType::all().filter(|d| d.is_small_float()) {
            for bits in 0..1u64 << to.bits() {
                let wide = cast(Scalar { dtype: to, bits }, DType::F32, true);
                let finite = wide.to_f64().is_finite();
                let back = cast(wide, to, false);
                assert!(!finite || back.bits == bits, "{to} {bits:#x}: {back:?}");
            }
        }
    }

    #[test]
    fn small_floats_round_to_even_and_saturate() {
        assert_eq!(from_f32(1.0625, DType::F8E4M3FN).bits, 0x38);
        assert_eq!(from_f32(1.1875, DType::F8E4M3FN).bits, 0x3a);
        assert_eq!(from_f32(1e6, DType::F8E4M3FN).to_f64(), 448.0);
        assert_eq!(from_f32(f32::NEG_INFINITY, DType::F8E5M2).to_f64(), -57344.0);
        let over = cast(Scalar::from_f64(DType::F32, 1e6), DType::F8E5M2, false);
        assert_eq!(over.to_f64(), f64::INFINITY);
        assert_eq!(from_f32(-0.0, DType::F8E4M3FNUZ).bits, 0);
        assert_eq!(from_f32(0.0009, DType::F8E4M3FN).bits, 0);
        assert_eq!(from_f32(3.0, DType::F8E8M0).to_f64(), 4.0);
        assert_eq!(from_f32(5.0, DType::F4E2M1).to_f64(), 4.0);
    }

    #[test]
    fn half_types_compute_in_single_precision() {
        let one = Scalar::from_f64(DType::F16, 1.0);
        assert_eq!(eval(Op::Add, &[one, one]).to_f64(), 2.0);
        assert_eq!(eval(Op::IsNan, &[one]), Scalar { dtype: DType::Bool, bits: 0 });
    }
}
