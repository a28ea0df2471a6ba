//! Arithmetic on single lanes, as functions from bits to bits: what the operations of [`super`] mean.
//!
//! Lanes of 32 bits are kept zero-extended in a `u64`; truth values are 0 or 1. A function that
//! chooses an operation gives `None` where the operation does not exist for the lane type: the
//! verifier and the interpreter share these tables of what is allowed.

use super::{Bin, Cmp, Convert, Dot, Lane, Un};
use crate::base::DType;
use crate::scalar::{Fold, add_product};

/// One operand to a result, as bits.
pub type UnFn = fn(u64) -> u64;
/// Two operands to a result, as bits.
pub type BinFn = fn(u64, u64) -> u64;
/// Three operands to a result, as bits.
pub type TriFn = fn(u64, u64, u64) -> u64;

fn f32_of(bits: u64) -> f32 {
    f32::from_bits(bits as u32)
}

fn f64_of(bits: u64) -> f64 {
    f64::from_bits(bits)
}

fn f16_of(bits: u64) -> f64 {
    half::f16::from_bits(bits as u16).to_f64()
}

/// Of a result in `f64`, which has more than twice the bits: rounded once.
fn b16(value: f64) -> u64 {
    u64::from(half::f16::from_f64(value).to_bits())
}

fn b32(value: f32) -> u64 {
    u64::from(value.to_bits())
}

fn b64(value: f64) -> u64 {
    value.to_bits()
}

fn int32(value: i32) -> u64 {
    u64::from(value as u32)
}

fn int64(value: i64) -> u64 {
    value as u64
}

macro_rules! float_un {
    ($op:expr, $of:ident, $to:ident) => {
        match $op {
            Un::Neg => |a| $to(-$of(a)),
            Un::Abs => |a| $to($of(a).abs()),
            Un::Sqrt => |a| $to($of(a).sqrt()),
            Un::Floor => |a| $to($of(a).floor()),
            Un::Ceil => |a| $to($of(a).ceil()),
            Un::Trunc => |a| $to($of(a).trunc()),
            Un::Round => |a| $to($of(a).round_ties_even()),
            Un::Not => return None,
        }
    };
}

macro_rules! int_un {
    ($op:expr, $int:ident, $to:ident) => {
        match $op {
            Un::Neg => |a| $to((a as $int).wrapping_neg()),
            Un::Abs => |a| $to((a as $int).wrapping_abs()),
            Un::Not => |a| $to(!(a as $int)),
            _ => return None,
        }
    };
}

/// An operation on one lane.
pub fn un(op: Un, lane: Lane) -> Option<UnFn> {
    Some(match lane {
        Lane::F16 => float_un!(op, f16_of, b16),
        Lane::F32 => float_un!(op, f32_of, b32),
        Lane::F64 => float_un!(op, f64_of, b64),
        Lane::I32 => int_un!(op, i32, int32),
        Lane::I64 => int_un!(op, i64, int64),
        Lane::M32 | Lane::M64 if op == Un::Not => |a| a ^ 1,
        Lane::M32 | Lane::M64 => return None,
    })
}

macro_rules! float_bin {
    ($op:expr, $of:ident, $to:ident) => {
        match $op {
            Bin::Add => |a, b| $to($of(a) + $of(b)),
            Bin::Sub => |a, b| $to($of(a) - $of(b)),
            Bin::Mul => |a, b| $to($of(a) * $of(b)),
            Bin::Div => |a, b| $to($of(a) / $of(b)),
            Bin::Min => |a, b| if $of(a) < $of(b) { a } else { b },
            Bin::Max => |a, b| if $of(a) > $of(b) { a } else { b },
            Bin::MinNan => |a, b| if $of(a).is_nan() || $of(a) < $of(b) { a } else { b },
            Bin::MaxNan => |a, b| if $of(a).is_nan() || $of(a) > $of(b) { a } else { b },
            _ => return None,
        }
    };
}

macro_rules! int_bin {
    ($op:expr, $int:ident, $uint:ident, $to:ident) => {
        match $op {
            Bin::Add => |a, b| $to((a as $int).wrapping_add(b as $int)),
            Bin::Sub => |a, b| $to((a as $int).wrapping_sub(b as $int)),
            Bin::Mul => |a, b| $to((a as $int).wrapping_mul(b as $int)),
            Bin::DivS => |a, b| if b == 0 { 0 } else { $to((a as $int).wrapping_div(b as $int)) },
            Bin::RemS => |a, b| if b == 0 { 0 } else { $to((a as $int).wrapping_rem(b as $int)) },
            Bin::DivU => |a, b| a.checked_div(b).unwrap_or(0),
            Bin::RemU => |a, b| a.checked_rem(b).unwrap_or(0),
            Bin::Min => |a, b| $to((a as $int).min(b as $int)),
            Bin::Max => |a, b| $to((a as $int).max(b as $int)),
            Bin::MinU => |a, b| a.min(b),
            Bin::MaxU => |a, b| a.max(b),
            Bin::And => |a, b| a & b,
            Bin::Or => |a, b| a | b,
            Bin::Xor => |a, b| a ^ b,
            Bin::Shl => |a, b| if b < width::<$int>() { $to(((a as $uint) << b) as $int) } else { 0 },
            Bin::ShrU => |a, b| if b < width::<$int>() { a >> b } else { 0 },
            Bin::ShrS => |a, b| $to((a as $int) >> b.min(width::<$int>() - 1)),
            _ => return None,
        }
    };
}

const fn width<T>() -> u64 {
    8 * size_of::<T>() as u64
}

/// An operation on the halves of two lanes.
fn halves(a: u64, b: u64, op: fn(u16, u16) -> u16) -> u64 {
    u64::from(op(a as u16, b as u16)) | u64::from(op((a >> 16) as u16, (b >> 16) as u16)) << 16
}

/// An operation on the bytes of two lanes.
fn bytes(a: u64, b: u64, op: fn(u8, u8) -> u8) -> u64 {
    let (a, b) = ((a as u32).to_le_bytes(), (b as u32).to_le_bytes());
    u64::from(u32::from_le_bytes(std::array::from_fn(|i| op(a[i], b[i]))))
}

/// The upper 32 bits of twice a product of signed numbers.
fn product_high(a: u64, b: u64) -> u64 {
    let high = (i64::from(a as i32) * i64::from(b as i32)) >> 31;
    int32(high.min(i64::from(i32::MAX)) as i32)
}

/// A quotient by a power of two, to nearest, halves up.
fn rounded_quotient(a: u64, by: u64) -> u64 {
    let by = by.min(32);
    int32(((i64::from(a as i32) + ((1i64 << by) >> 1)) >> by) as i32)
}

/// An operation on two lanes of one type.
pub fn bin(op: Bin, lane: Lane) -> Option<BinFn> {
    match (op, lane) {
        (Bin::AddCouples, Lane::I32) => return Some(|a, b| halves(a, b, u16::wrapping_add)),
        (Bin::SubCouples, Lane::I32) => return Some(|a, b| halves(a, b, u16::wrapping_sub)),
        (Bin::MinBytes, Lane::I32) => return Some(|a, b| bytes(a, b, |a, b| (a as i8).min(b as i8) as u8)),
        (Bin::MaxBytes, Lane::I32) => return Some(|a, b| bytes(a, b, |a, b| (a as i8).max(b as i8) as u8)),
        (Bin::MinBytesU, Lane::I32) => return Some(|a, b| bytes(a, b, u8::min)),
        (Bin::MaxBytesU, Lane::I32) => return Some(|a, b| bytes(a, b, u8::max)),
        (Bin::MulHigh, Lane::I32) => return Some(product_high),
        (Bin::ShrRound, Lane::I32) => return Some(rounded_quotient),
        _ => {}
    }
    Some(match lane {
        Lane::F16 => float_bin!(op, f16_of, b16),
        Lane::F32 => float_bin!(op, f32_of, b32),
        Lane::F64 => float_bin!(op, f64_of, b64),
        Lane::I32 => int_bin!(op, i32, u32, int32),
        Lane::I64 => int_bin!(op, i64, u64, int64),
        Lane::M32 | Lane::M64 => match op {
            Bin::And => |a, b| a & b,
            Bin::Or => |a, b| a | b,
            Bin::Xor => |a, b| a ^ b,
            _ => return None,
        },
    })
}

macro_rules! compare {
    ($op:expr, $of:expr, $unsigned:expr) => {
        match $op {
            Cmp::Eq => |a, b| u64::from($of(a) == $of(b)),
            Cmp::Ne => |a, b| u64::from($of(a) != $of(b)),
            Cmp::Lt => |a, b| u64::from($of(a) < $of(b)),
            Cmp::Le => |a, b| u64::from($of(a) <= $of(b)),
            Cmp::Gt => |a, b| u64::from($of(a) > $of(b)),
            Cmp::Ge => |a, b| u64::from($of(a) >= $of(b)),
            Cmp::LtU if $unsigned => |a, b| u64::from(a < b),
            Cmp::LeU if $unsigned => |a, b| u64::from(a <= b),
            Cmp::LtU | Cmp::LeU => return None,
        }
    };
}

/// A comparison of two lanes of one type; the result is 0 or 1.
pub fn cmp(op: Cmp, lane: Lane) -> Option<BinFn> {
    Some(match lane {
        Lane::F32 => compare!(op, f32_of, false),
        Lane::F64 => compare!(op, f64_of, false),
        Lane::I32 => compare!(op, |x| x as i32, true),
        Lane::I64 => compare!(op, |x| x as i64, true),
        Lane::F16 | Lane::M32 | Lane::M64 => return None,
    })
}

/// `(acc, a, b)` to `acc + a * b`, for floats rounded once or twice.
pub fn mla(lane: Lane, fused: bool) -> Option<TriFn> {
    Some(match (lane, fused) {
        (Lane::F16, true) => |c, a, b| fused_f16(f16_of(c), f16_of(a), f16_of(b)),
        (Lane::F32, true) => add_product(DType::F32),
        (Lane::F32, false) => |c, a, b| b32(f32_of(c) + f32_of(a) * f32_of(b)),
        (Lane::F64, true) => add_product(DType::F64),
        (Lane::F64, false) => |c, a, b| b64(f64_of(c) + f64_of(a) * f64_of(b)),
        (Lane::I32, _) => |c, a, b| int32((c as i32).wrapping_add((a as i32).wrapping_mul(b as i32))),
        (Lane::I64, _) => |c, a, b| int64((c as i64).wrapping_add((a as i64).wrapping_mul(b as i64))),
        (Lane::F16, false) | (Lane::M32 | Lane::M64, _) => return None,
    })
}

/// `c + a * b` of half floats, rounded once: the product is exact, and a sum that is not keeps what was lost in
/// its last bit, which a half float does not reach.
fn fused_f16(c: f64, a: f64, b: f64) -> u64 {
    let product = a * b;
    let sum = product + c;
    let other = sum - product;
    let lost = (product - (sum - other)) + (c - other);
    let odd = match sum.to_bits() {
        bits if lost == 0.0 || lost.is_nan() || bits & 1 == 1 => bits,
        bits if (lost > 0.0) == (sum > 0.0) => bits + 1,
        bits => bits - 1,
    };
    b16(f64::from_bits(odd))
}

/// How many lanes a product is made of together: its registers have a multiple of them.
pub fn together(kind: Dot) -> usize {
    match kind {
        Dot::Squares(_) => 4,
        Dot::Halves | Dot::HalfPairs | Dot::CoupleHalves => 8,
        _ => 1,
    }
}

/// `(acc, a, b)` to `acc` plus the sum of products, wrapping; of squares, those of one word of each operand;
/// of halves, those of whole words.
pub fn dot(kind: Dot) -> TriFn {
    fn sum(acc: u64, a: u64, b: u64, x: impl Fn(u8) -> i32, y: impl Fn(u8) -> i32) -> u64 {
        let (a, b) = ((a as u32).to_le_bytes(), (b as u32).to_le_bytes());
        let products = a.iter().zip(b).map(|(&a, b)| x(a) * y(b));
        int32(products.fold(acc as i32, i32::wrapping_add))
    }
    match kind {
        Dot::Us => |c, a, b| sum(c, a, b, i32::from, |v| i32::from(v as i8)),
        Dot::Ss | Dot::Sn | Dot::Halves => {
            |c, a, b| sum(c, a, b, |v| i32::from(v as i8), |v| i32::from(v as i8))
        }
        Dot::Uu => |c, a, b| sum(c, a, b, i32::from, i32::from),
        Dot::Squares(signs) => dot(signs.of_words()),
        Dot::Bytes => |c, a, b| int32((c as i32).wrapping_add((a as i32).wrapping_mul(b as i32))),
        Dot::Couples | Dot::CoupleHalves => |c, a, b| {
            let product = |shift: u32| i32::from((a >> shift) as i16) * i32::from((b >> shift) as i16);
            int32((c as i32).wrapping_add(product(0)).wrapping_add(product(16)))
        },
        Dot::HalfPairs => |c, a, b| {
            let product = |shift: u32| i32::from((a >> shift) as i8) * i32::from((b >> shift) as i8);
            let half = |at: u32, first: u32| {
                let sum = product(first).wrapping_add(product(first + 16)) as u16;
                u64::from(sum.wrapping_add((c >> at) as u16)) << at
            };
            half(0, 0) | half(16, 8)
        },
        Dot::Pairs => |c, a, b| {
            let product = |shift: u32| i32::from((a >> shift) as u8) * i32::from((b >> shift) as i8);
            let pair = |shift: u32| product(shift) + product(shift + 8);
            let half = |shift: u32| {
                let sum = pair(shift).clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as u16;
                u64::from(sum.wrapping_add((c >> shift) as u16)) << shift
            };
            half(0) | half(16)
        },
    }
}

/// A conversion of one lane.
pub fn convert(kind: Convert, from: Lane, to: Lane, a: u64) -> Option<u64> {
    use Lane::*;
    Some(match (kind, from, to) {
        (Convert::FloatToInt, F32, I32) => int32(f32_of(a) as i32),
        (Convert::FloatToInt, F32, I64) => int64(f32_of(a) as i64),
        (Convert::FloatToInt, F64, I32) => int32(f64_of(a) as i32),
        (Convert::FloatToInt, F64, I64) => int64(f64_of(a) as i64),
        (Convert::Nearest | Convert::NearestSmall, F32, I32) => int32(f32_of(a).round_ties_even() as i32),
        (Convert::FloatToUint, F32, I32) => u64::from(f32_of(a) as u32),
        (Convert::FloatToUint, F32, I64) => f32_of(a) as u64,
        (Convert::FloatToUint, F64, I32) => u64::from(f64_of(a) as u32),
        (Convert::FloatToUint, F64, I64) => f64_of(a) as u64,
        (Convert::IntToFloat, I32, F32) => b32(a as i32 as f32),
        (Convert::IntToFloat, I32, F64) => b64(f64::from(a as i32)),
        (Convert::IntToFloat, I64, F32) => b32(a as i64 as f32),
        (Convert::IntToFloat, I64, F64) => b64(a as i64 as f64),
        (Convert::UintToFloat, I32 | I64, F32) => b32(a as f32),
        (Convert::UintToFloat, I32 | I64, F64) => b64(a as f64),
        (Convert::Float, F16, F32) => b32(f16_of(a) as f32),
        (Convert::Float, F32, F64) => b64(f64::from(f32_of(a))),
        (Convert::Float, F64, F32) => b32(f64_of(a) as f32),
        (Convert::RoundF16, F32, F32) => b32(half::f16::from_f32(f32_of(a)).to_f32()),
        (Convert::RoundBf16, F32, F32) => b32(half::bf16::from_f32(f32_of(a)).to_f32()),
        (Convert::Int, I32, I64) => int64(i64::from(a as i32)),
        (Convert::Int, I64, I32) => u64::from(a as u32),
        (Convert::Int, M32, M64) | (Convert::Int, M64, M32) | (Convert::Zext, I32, I64) => a,
        (Convert::Bits, F32, I32) | (Convert::Bits, I32, F32) => a,
        (Convert::Bits, F64, I64) | (Convert::Bits, I64, F64) => a,
        (Convert::SextLow(n @ 1..=32), I32, I32) => int32((a as i32) << (32 - n) >> (32 - n)),
        (Convert::SextLow(n @ 1..=64), I64, I64) => int64((a as i64) << (64 - n) >> (64 - n)),
        (Convert::ZextLow(n @ 1..=32), I32, I32) | (Convert::ZextLow(n @ 1..=64), I64, I64) => {
            a & (u64::MAX >> (64 - n))
        }
        _ => return None,
    })
}

/// The operation that joins two lanes in a fold, and the bits that leave every lane unchanged.
pub fn fold(fold: Fold, lane: Lane) -> Option<(BinFn, u64)> {
    let op = Bin::of(fold);
    let identity = match lane.dtype() {
        Some(dtype) => fold.identity(dtype).bits,
        None => u64::from(fold == Fold::And),
    };
    Some((bin(op, lane)?, identity))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn f(value: f32) -> u64 {
        b32(value)
    }

    /// The corners where encoders tend to differ.
    #[test]
    fn corners() {
        let apply = |op, lane, a, b| bin(op, lane).expect("an operation")(a, b);
        assert_eq!(apply(Bin::DivS, Lane::I32, int32(i32::MIN), int32(-1)), int32(i32::MIN));
        assert_eq!(apply(Bin::RemS, Lane::I32, int32(i32::MIN), int32(-1)), 0);
        assert_eq!(apply(Bin::DivU, Lane::I64, 7, 0), 0);
        assert_eq!(apply(Bin::Shl, Lane::I32, 1, 32), 0);
        assert_eq!(apply(Bin::Shl, Lane::I32, int32(-1), 31), 1 << 31);
        assert_eq!(apply(Bin::ShrS, Lane::I64, int64(-5), 99), int64(-1));
        assert_eq!(apply(Bin::Min, Lane::F32, f(f32::NAN), f(1.0)), f(1.0));
        assert_eq!(apply(Bin::MaxNan, Lane::F32, f(f32::NAN), f(1.0)), f(f32::NAN));
        assert_eq!(apply(Bin::MinNan, Lane::F32, f(1.0), f(f32::NAN)), f(f32::NAN));
        let half = |v: f64| u64::from(half::f16::from_f64(v).to_bits());
        let fused = mla(Lane::F16, true).expect("an operation");
        assert_eq!(fused(half(1.0), half(1.0), half(2f64.powi(-11))), half(1.0));
        // Twice rounded it would be even.
        assert_eq!(
            fused(half(1.0 + 2f64.powi(-9)), half(2f64.powi(-6)), half(0.0625 / 2.0)),
            half(1.0 + 2f64.powi(-9))
        );
        assert_eq!(fused(half(2048.0), half(1.0 + 2f64.powi(-10)), half(1.0)), half(2050.0));
        assert_eq!(fused(half(65504.0), half(65504.0), half(-1.0)), half(0.0));
        assert_eq!(convert(Convert::Float, Lane::F16, Lane::F32, half(-1.5)), Some(f(-1.5)));
        assert!(bin(Bin::Div, Lane::I32).is_none());
        assert_eq!(convert(Convert::FloatToInt, Lane::F32, Lane::I32, f(3e9)), Some(int32(i32::MAX)));
        assert_eq!(convert(Convert::FloatToUint, Lane::F32, Lane::I32, f(3e9)), Some(3_000_000_000));
        assert_eq!(convert(Convert::FloatToInt, Lane::F32, Lane::I32, f(f32::NAN)), Some(0));
        assert_eq!(convert(Convert::SextLow(4), Lane::I32, Lane::I32, 0x1f), Some(int32(-1)));
        assert_eq!(convert(Convert::ZextLow(4), Lane::I64, Lane::I64, 0x1f), Some(15));
        assert_eq!(dot(Dot::Us)(1, 0xff, 0xff), int32(1 - 255));
        assert_eq!(dot(Dot::Ss)(1, 0xff, 0xff), 2);
        assert_eq!(dot(Dot::Uu)(int32(i32::MAX), 0x0101, 0x0101), int32(i32::MIN + 1));
        assert_eq!(dot(Dot::Couples)(1, 0xffff_0003, 0x0002_0005), 1 + 15 - 2);
        assert_eq!(bin(Bin::AddCouples, Lane::I32).map(|f| f(0x0001_ffff, 0xffff_0002)), Some(1));
        assert_eq!(bin(Bin::SubCouples, Lane::I32).map(|f| f(0, 0x0001_0002)), Some(0xffff_fffe));
        assert_eq!(apply(Bin::MaxBytes, Lane::I32, 0x80ff_017f, 0x7f00_02ff), 0x7f00_027f);
        assert_eq!(apply(Bin::MinBytesU, Lane::I32, 0x80ff_017f, 0x7f00_02ff), 0x7f00_017f);
        assert_eq!(dot(Dot::Couples)(0, 0x8000_8000, 0x8000_8000), int32(i32::MIN));
        assert_eq!(dot(Dot::Pairs)(0x0001_ffff, 0xff02_0203, 0x01ff_0504), 0x00fe_0015);
        assert_eq!(dot(Dot::Pairs)(0, 0xffff_ffff, 0x8080_7f7f), 0x8000_7fff);
    }
}
