//! Scalar operations and conversions to register operations.
//!
//! Narrow integers are computed in 32-bit lanes and wrapped after each operation that can leave
//! their range; truth values are masks beside 32-bit lanes; transcendental functions are the
//! expansions of [`crate::scalar::math`].

use super::emit::Emitter;
use super::registers::{constant, lane_of, select};
use crate::base::DType;
use crate::scalar::math::{self, Emit};
use crate::scalar::{Op, Scalar};
use crate::tile::{Bin, Cmp, Convert, Lane, Reg, RegType, Un, Value};

/// Emits scalar expansions into registers of a number of lanes.
struct Lanes<'a> {
    emitter: &'a mut Emitter,
    lanes: u8,
}

impl Emit for Lanes<'_> {
    /// A register and its element type.
    type Value = (Reg, DType);

    fn op(&mut self, op: Op, args: &[(Reg, DType)]) -> (Reg, DType) {
        let regs: Vec<Reg> = args.iter().map(|a| a.0).collect();
        let types: Vec<DType> = args.iter().map(|a| a.1).collect();
        let from = types[types.len() - 1];
        (operation(self.emitter, op, from, &regs), op.result_type(&types).unwrap_or(from))
    }

    fn constant(&mut self, s: Scalar) -> (Reg, DType) {
        (constant(self.emitter, s, self.lanes as usize), s.dtype)
    }

    fn cast(&mut self, to: DType, value: (Reg, DType)) -> (Reg, DType) {
        (cast(self.emitter, value.0, value.1, to, true), to)
    }

    fn bitcast(&mut self, to: DType, value: (Reg, DType)) -> (Reg, DType) {
        (bitcast(self.emitter, value.0, value.1, to), to)
    }

    fn add_product(&mut self, sum: Self::Value, a: Self::Value, b: Self::Value) -> Self::Value {
        let ty = self.emitter.ty(sum.0);
        (self.emitter.value(ty, Value::Mla(sum.0, a.0, b.0)), sum.1)
    }
}

/// Emits `op` on registers whose (last) element type is `from`.
pub fn operation(e: &mut Emitter, op: Op, from: DType, args: &[Reg]) -> Reg {
    let ty = e.ty(args[args.len() - 1]);
    match op {
        Op::Max | Op::Min if e.quads => {
            e.value(ty, Value::Bin(of_quads(op == Op::Max, from.is_unsigned_int()), args[0], args[1]))
        }
        Op::Select => select(e, args[0], args[1], args[2]),
        _ if compare(op).is_some() => comparison(e, op, from, args),
        _ if from == DType::Bool => truth(e, op, args),
        _ => match (unary(op), binary(op, from)) {
            (Some(un), _) if from.is_float() || matches!(op, Op::Neg | Op::Abs | Op::Not) => {
                let value = e.value(ty, Value::Un(un, args[0]));
                wrap(e, value, from)
            }
            (_, Some(bin)) => {
                let value = e.value(ty, Value::Bin(bin, args[0], args[1]));
                wrap(e, value, from)
            }
            _ => expanded(e, op, from, args, ty.lanes),
        },
    }
}

/// The larger or the smaller one of numbers of a byte, four in each lane.
pub fn of_quads(larger: bool, unsigned: bool) -> Bin {
    match (larger, unsigned) {
        (true, true) => Bin::MaxBytesU,
        (true, false) => Bin::MaxBytes,
        (false, true) => Bin::MinBytesU,
        (false, false) => Bin::MinBytes,
    }
}

fn expanded(e: &mut Emitter, op: Op, from: DType, args: &[Reg], lanes: u8) -> Reg {
    // Half types compute in f32 registers.
    let computed = if from.is_float() && from != DType::F64 { DType::F32 } else { from };
    let args: Vec<(Reg, DType)> = args.iter().map(|&a| (a, computed)).collect();
    math::expand(&mut Lanes { emitter: e, lanes }, op, computed, &args).0
}

fn unary(op: Op) -> Option<Un> {
    Some(match op {
        Op::Neg => Un::Neg,
        Op::Abs => Un::Abs,
        Op::Sqrt => Un::Sqrt,
        Op::Floor => Un::Floor,
        Op::Ceil => Un::Ceil,
        Op::Trunc => Un::Trunc,
        Op::Round => Un::Round,
        Op::Not => Un::Not,
        _ => return None,
    })
}

fn binary(op: Op, dtype: DType) -> Option<Bin> {
    let (float, unsigned) = (dtype.is_float(), dtype.is_unsigned_int());
    Some(match op {
        Op::Add => Bin::Add,
        Op::Sub => Bin::Sub,
        Op::Mul => Bin::Mul,
        Op::Div if float => Bin::Div,
        Op::Div if unsigned => Bin::DivU,
        Op::Div => Bin::DivS,
        Op::Rem if float => return None,
        Op::Rem if unsigned => Bin::RemU,
        Op::Rem => Bin::RemS,
        Op::Mod if unsigned => Bin::RemU,
        Op::Min if float => Bin::MinNan,
        Op::Max if float => Bin::MaxNan,
        Op::Min if unsigned => Bin::MinU,
        Op::Max if unsigned => Bin::MaxU,
        Op::Min => Bin::Min,
        Op::Max => Bin::Max,
        Op::And => Bin::And,
        Op::Or => Bin::Or,
        Op::Xor => Bin::Xor,
        Op::Shl => Bin::Shl,
        Op::Shr if unsigned => Bin::ShrU,
        Op::Shr => Bin::ShrS,
        _ => return None,
    })
}

/// Comparisons and whether their operands change places.
fn compare(op: Op) -> Option<Cmp> {
    Some(match op {
        Op::Eq => Cmp::Eq,
        Op::Ne | Op::IsNan => Cmp::Ne,
        Op::Lt => Cmp::Lt,
        Op::Le => Cmp::Le,
        Op::Gt => Cmp::Gt,
        Op::Ge => Cmp::Ge,
        _ => return None,
    })
}

fn comparison(e: &mut Emitter, op: Op, from: DType, args: &[Reg]) -> Reg {
    let (mut a, mut b) = (args[0], args[args.len() - 1]);
    let ty = e.ty(a);
    if from == DType::Bool {
        let bools = RegType { lane: Lane::M32, ..ty };
        let differ = e.value(bools, Value::Bin(Bin::Xor, a, b));
        return match op {
            Op::Ne => differ,
            _ => e.value(bools, Value::Un(Un::Not, differ)),
        };
    }
    let mut cmp = compare(op).unwrap_or(Cmp::Eq);
    if from.is_unsigned_int() {
        if matches!(cmp, Cmp::Gt | Cmp::Ge) {
            std::mem::swap(&mut a, &mut b);
        }
        cmp = match cmp {
            Cmp::Lt | Cmp::Gt => Cmp::LtU,
            Cmp::Le | Cmp::Ge => Cmp::LeU,
            other => other,
        };
    }
    let wide = RegType { lane: ty.lane.mask(), ..ty };
    let result = e.value(wide, Value::Cmp(cmp, a, b));
    match wide.lane {
        Lane::M64 => e.value(RegType { lane: Lane::M32, ..ty }, Value::Convert(Convert::Int, result)),
        _ => result,
    }
}

fn truth(e: &mut Emitter, op: Op, args: &[Reg]) -> Reg {
    let ty = e.ty(args[0]);
    let bin = match op {
        Op::Not => return e.value(ty, Value::Un(Un::Not, args[0])),
        Op::Or | Op::Max | Op::Add => Bin::Or,
        Op::Xor | Op::Sub => Bin::Xor,
        _ => Bin::And,
    };
    e.value(ty, Value::Bin(bin, args[0], args[1]))
}

/// Brings a 32-bit lane back into the range of a narrow integer type.
fn wrap(e: &mut Emitter, value: Reg, dtype: DType) -> Reg {
    if !dtype.is_int() || dtype.bits() >= 32 {
        return value;
    }
    let bits = dtype.bits() as u8;
    let convert = if dtype.is_signed_int() { Convert::SextLow(bits) } else { Convert::ZextLow(bits) };
    e.value(e.ty(value), Value::Convert(convert, value))
}

/// A code of a small float to or from f32.
fn small_float(e: &mut Emitter, dtype: DType, encode: bool, saturate: bool, value: Reg) -> Reg {
    let lanes = e.ty(value).lanes;
    let typed = (value, if encode { DType::F32 } else { DType::I32 });
    math::cast_small_float(&mut Lanes { emitter: e, lanes }, dtype, encode, saturate, typed).0
}

/// Emits a conversion as [`crate::scalar::cast`] defines it.
pub fn cast(e: &mut Emitter, value: Reg, from: DType, to: DType, saturate: bool) -> Reg {
    let have = e.ty(value);
    let want = RegType { lane: lane_of(to), lanes: have.lanes };
    match (from, to) {
        _ if from == to => value,
        _ if to.is_small_float() => {
            let single = cast(e, value, from, DType::F32, saturate);
            small_float(e, to, true, saturate, single)
        }
        _ if from.is_small_float() => {
            let single = small_float(e, from, false, saturate, value);
            cast(e, single, DType::F32, to, saturate)
        }
        (DType::Bool, _) => {
            let one = constant(e, Scalar::from_f64(to, 1.0), have.lanes as usize);
            let zero = constant(e, Scalar::from_f64(to, 0.0), have.lanes as usize);
            select(e, value, one, zero)
        }
        (_, DType::Bool) => {
            let zero = e.value(have, Value::Const(0));
            comparison(e, Op::Ne, from, &[value, zero])
        }
        _ if from.is_float() && to.is_float() => {
            let value = match have.lane == want.lane {
                true => value,
                false => e.value(want, Value::Convert(Convert::Float, value)),
            };
            round_half(e, value, to)
        }
        _ if from.is_float() => float_to_int(e, value, to, want),
        _ if to.is_float() => {
            let float = int_to_float(e, value, from, want);
            if from.size() > 1 { round_half(e, float, to) } else { float }
        }
        _ => {
            let widened = match (have.lane, want.lane) {
                (a, b) if a == b => value,
                (Lane::I32, _) if from == DType::U32 => e.value(want, Value::Convert(Convert::Zext, value)),
                _ => e.value(want, Value::Convert(Convert::Int, value)),
            };
            wrap(e, widened, to)
        }
    }
}

/// Rounds to what a half float holds; half floats are in f32 lanes.
pub fn round_half(e: &mut Emitter, value: Reg, dtype: DType) -> Reg {
    let convert = match dtype {
        DType::F16 => Convert::RoundF16,
        DType::BF16 => Convert::RoundBf16,
        _ => return value,
    };
    e.value(e.ty(value), Value::Convert(convert, value))
}

fn float_to_int(e: &mut Emitter, value: Reg, to: DType, want: RegType) -> Reg {
    if matches!(to, DType::U32 | DType::U64) {
        return e.value(want, Value::Convert(Convert::FloatToUint, value));
    }
    let wide = e.value(want, Value::Convert(Convert::FloatToInt, value));
    if to.bits() >= 32 {
        return wide;
    }
    let lo = constant(e, Scalar::lowest(to), want.lanes as usize);
    let hi = constant(e, Scalar::highest(to), want.lanes as usize);
    let above = e.value(want, Value::Bin(Bin::Max, lo, wide));
    e.value(want, Value::Bin(Bin::Min, hi, above))
}

fn int_to_float(e: &mut Emitter, value: Reg, from: DType, want: RegType) -> Reg {
    let convert = match from {
        DType::U32 | DType::U64 => Convert::UintToFloat,
        _ => Convert::IntToFloat,
    };
    e.value(want, Value::Convert(convert, value))
}

/// Emits a reinterpretation of bits; narrow types are in 32-bit lanes.
pub fn bitcast(e: &mut Emitter, value: Reg, from: DType, to: DType) -> Reg {
    let have = e.ty(value);
    let want = RegType { lane: lane_of(to), lanes: have.lanes };
    match have.lane == want.lane {
        _ if from == DType::Bool || to == DType::Bool => cast(e, value, from, to, true),
        true if from.is_int() && to.is_int() => wrap(e, value, to),
        true => value,
        false => e.value(want, Value::Convert(Convert::Bits, value)),
    }
}
