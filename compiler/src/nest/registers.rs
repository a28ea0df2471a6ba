//! Numbers of a definition in registers: which lanes hold them, constants, choices, and how they come from memory and
//! go there.

use super::emit::Emitter;
use crate::base::DType;
use crate::scalar::Scalar;
use crate::tile::{Addr, Bin, Cmp, Convert, Lane, Reg, RegType, Value};

/// The lane that holds an element type in a register; of the small floats, their code.
pub fn lane_of(dtype: DType) -> Lane {
    match dtype {
        DType::F64 => Lane::F64,
        DType::I64 | DType::U64 => Lane::I64,
        DType::Bool => Lane::M32,
        _ if dtype.is_float() && !dtype.is_small_float() => Lane::F32,
        _ => Lane::I32,
    }
}

/// `mask ? a : b`, the mask brought to the operands' lanes and width.
pub fn select(e: &mut Emitter, cond: Reg, a: Reg, b: Reg) -> Reg {
    let ty = e.ty(a);
    let (wanted, have) = (ty.lane.mask(), e.ty(cond));
    let mut cond = cond;
    if have.lane != wanted {
        cond = e.value(RegType { lane: wanted, lanes: have.lanes }, Value::Convert(Convert::Int, cond));
    }
    if have.lanes != ty.lanes {
        cond = e.value(RegType { lane: wanted, lanes: ty.lanes }, Value::Splat(cond));
    }
    e.value(ty, Value::Select(cond, a, b))
}

/// A byte, four times in a word.
pub fn quad(byte: u64) -> u64 {
    (byte & 0xff) * 0x0101_0101
}

/// A constant in every lane.
pub fn constant(e: &mut Emitter, s: Scalar, lanes: usize) -> Reg {
    let lane = lane_of(s.dtype);
    let ty = RegType { lane, lanes: lanes as u8 };
    let wide = match s.dtype {
        DType::I8 | DType::U8 if e.quads => quad(s.bits),
        _ if lane == Lane::F32 && s.dtype != DType::F32 => crate::scalar::cast(s, DType::F32, true).bits,
        DType::I8 | DType::I16 | DType::I4 | DType::I2 => crate::scalar::cast(s, DType::I32, true).bits,
        _ => s.bits,
    };
    e.value(ty, Value::Const(wide))
}

/// One of the two elements of four bits in a byte, which was loaded with its sign.
pub fn half_byte(e: &mut Emitter, byte: Reg, dtype: DType, second: bool) -> Reg {
    let (ty, signed) = (e.ty(byte), dtype.is_signed_int());
    if !second {
        let low = if signed { Convert::SextLow(4) } else { Convert::ZextLow(4) };
        return e.value(ty, Value::Convert(low, byte));
    }
    let four = e.value(ty, Value::Const(4));
    e.value(ty, Value::Bin(if signed { Bin::ShrS } else { Bin::ShrU }, byte, four))
}

/// A load brought to the register form of its element type: truth values become masks.
pub fn memory_load(e: &mut Emitter, addr: Addr, dtype: DType, stride: i64, lanes: usize) -> Reg {
    let lane = if dtype == DType::Bool { Lane::I32 } else { lane_of(dtype) };
    let ty = RegType { lane, lanes: lanes as u8 };
    let loaded = e.value(ty, Value::Load(addr, stride));
    if dtype != DType::Bool {
        return loaded;
    }
    let zero = e.value(ty, Value::Const(0));
    e.value(RegType { lane: Lane::M32, ..ty }, Value::Cmp(Cmp::Ne, loaded, zero))
}

/// Stores a register as an element type.
pub fn memory_store(e: &mut Emitter, addr: Addr, dtype: DType, stride: i64, src: Reg) {
    let ty = e.ty(src);
    let src = match dtype {
        DType::Bool => {
            let ints = RegType { lane: Lane::I32, ..ty };
            let one = e.value(ints, Value::Const(1));
            let zero = e.value(ints, Value::Const(0));
            select(e, src, one, zero)
        }
        _ => src,
    };
    e.store(addr, stride, src);
}
