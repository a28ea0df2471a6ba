//! Lanes to narrower elements, on their way to memory.

use super::inst::lane_size;
use super::inst::{Arg, Class, VReg};
use super::rows::Op;
use super::select::Select;
use crate::base::DType;
use crate::tile::{Bin, Lane, Reg, Value};

/// A register that is clamped to the range of a narrow integer type just before it is stored.
pub(super) struct Clamped {
    /// What is clamped.
    pub(super) value: Reg,
    /// The same, at least the smallest value of the type.
    above: Reg,
    pub(super) signed: bool,
}

impl Select<'_> {
    /// Lanes to packed elements of a type; `r` is the kernel's register, `src` what holds it.
    pub(super) fn narrow(&mut self, r: Reg, src: VReg, dtype: DType, width: usize) -> VReg {
        let lane = self.ty(r).lane;
        match (dtype, dtype.size()) {
            (DType::F16, _) if lane == Lane::F32 => self.def(Op::Cvtps2ph, width, &[src.into(), Arg::Imm(0)]),
            (DType::BF16, _) if lane == Lane::F32 => {
                let rounded = self.round_bf16(src, width);
                self.pack(rounded, 2, width)
            }
            (_, size) if size < lane_size(lane) => match self.clamped(r, dtype) {
                Some(clamped) => self.pack_clamped(&clamped, size, width),
                None => self.pack(src, size, width),
            },
            _ => src,
        }
    }

    /// What a register is the clamp of, to just the range of a type of one or two bytes.
    pub(super) fn clamped(&self, r: Reg, dtype: DType) -> Option<Clamped> {
        let signed = dtype.is_signed_int();
        let bits = 8 * dtype.size() as u32;
        if self.ty(r).lane != Lane::I32 || !dtype.is_int() || dtype.bits() != bits || bits > 16 {
            return None;
        }
        let (lo, hi) = match signed {
            true => (-(1i32 << (bits - 1)), (1 << (bits - 1)) - 1),
            false => (0, (1 << bits) - 1),
        };
        let limited = |r: Reg, op: Bin, limit: i32| match self.single(r)? {
            Value::Bin(found, a, b) if *found == op => {
                let is_limit = |x: Reg| self.constant_reg(x).is_some_and(|bits| bits as i32 == limit);
                let inner = [(*a, *b), (*b, *a)].into_iter().find(|pair| is_limit(pair.0))?.1;
                self.single(inner).is_some().then_some(inner)
            }
            _ => None,
        };
        let above = limited(r, Bin::Min, hi)?;
        Some(Clamped { value: limited(above, Bin::Max, lo)?, above, signed })
    }

    /// Instructions that narrow saturate: those of AVX-512 signed or unsigned values by their sign,
    /// those of AVX2 signed values to either.
    fn pack_clamped(&mut self, clamped: &Clamped, size: usize, width: usize) -> VReg {
        if self.isa.masks {
            let (op, from) = match (size, clamped.signed) {
                (1, true) => (Op::Pmovsdb, clamped.value),
                (1, false) => (Op::Pmovusdb, clamped.above),
                (_, true) => (Op::Pmovsdw, clamped.value),
                (_, false) => (Op::Pmovusdw, clamped.above),
            };
            let from = self.source(from);
            return self.def(op, width, &[from.into()]);
        }
        let value = self.source(clamped.value);
        let high = match width {
            16 => value,
            _ => self.def(Op::Extract128, width, &[value.into(), Arg::Imm(1)]),
        };
        let to_words = if size == 2 && !clamped.signed { Op::Packusdw } else { Op::Packssdw };
        let words = self.def(to_words, 16, &[value.into(), high.into()]);
        if size == 2 {
            return words;
        }
        let to_bytes = if clamped.signed { Op::Packsswb } else { Op::Packuswb };
        self.def(to_bytes, 16, &[words.into(), words.into()])
    }

    /// The low bytes of each 32-bit lane, side by side.
    fn pack(&mut self, src: VReg, size: usize, width: usize) -> VReg {
        if self.isa.masks {
            let op = if size == 1 { Op::Pmovdb } else { Op::Pmovdw };
            return self.def(op, width, &[src.into()]);
        }
        let half: Vec<u8> = (0..4u8).flat_map(|lane| (0..size as u8).map(move |b| 4 * lane + b)).collect();
        let order: Vec<u8> = (0..64).map(|i| half.get(i % 16).copied().unwrap_or(0x80)).collect();
        let order = self.constant(order, 0, width);
        let packed = self.def(Op::Pshufb, width, &[src.into(), order.into()]);
        if width == 16 {
            return packed;
        }
        let high = self.def(Op::Extract128, 32, &[packed.into(), Arg::Imm(1)]);
        let join = if size == 1 { Op::Punpckldq } else { Op::Punpcklqdq };
        self.def(join, 16, &[packed.into(), high.into()])
    }

    /// The upper half of each lane rounded to nearest even, in the lower half; NaNs stay quiet NaNs.
    pub(super) fn round_bf16(&mut self, src: VReg, width: usize) -> VReg {
        let high = self.def(Op::Psrld, width, &[src.into(), Arg::Imm(16)]);
        let one = self.splat(1, 4, width);
        let odd = self.def(Op::Pand, width, &[high.into(), one.into()]);
        let half = self.splat(0x7fff, 4, width);
        let sum = self.def(Op::Paddd, width, &[src.into(), half.into()]);
        let sum = self.def(Op::Paddd, width, &[sum.into(), odd.into()]);
        let rounded = self.def(Op::Psrld, width, &[sum.into(), Arg::Imm(16)]);
        let quiet = self.splat(0x40, 4, width);
        let quiet = self.def(Op::Por, width, &[high.into(), quiet.into()]);
        if self.isa.masks {
            let nan = self.def(Op::KCmpps, width, &[src.into(), src.into(), Arg::Imm(3)]);
            let dst = self.f.reg(Class::Vector);
            self.masked(Op::KBlend32, width, &[dst.into(), rounded.into(), quiet.into()], Some(nan), false);
            return dst;
        }
        let nan = self.def(Op::Cmpps, width, &[src.into(), src.into(), Arg::Imm(3)]);
        self.def(Op::Blendv, width, &[rounded.into(), quiet.into(), nan.into()])
    }
}
