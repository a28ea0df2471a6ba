//! Operations on integers of 64 bits, which AVX2 mostly has no instructions for.
//!
//! Positions that a kernel computes (rows that a table names, clamped indices) are such numbers. A single one of
//! them is no reason for 128-bit vectors throughout.

use super::inst::{Arg, VReg};
use super::rows::Op;
use super::select::Select;
use crate::tile::{Bin, Reg};

const BITS: i64 = 64;
const HALF: i64 = 32;

impl Select<'_> {
    /// The product of integers of 64 bits.
    pub(super) fn multiply_longs(&mut self, dst: VReg, a: Reg, b: Reg, width: usize) {
        let power = |r: Reg| self.constant_reg(r).filter(|bits| bits.is_power_of_two());
        for (constant, other) in [(b, a), (a, b)] {
            if let Some(bits) = power(constant) {
                let (x, count) = (self.source(other), Arg::Imm(i64::from(bits.trailing_zeros())));
                return self.op(Op::Psllq, width, &[dst.into(), x.into(), count]);
            }
        }
        let (x, y) = (self.source(a), self.source(b));
        if self.isa.masks {
            return self.op(Op::Pmullq, width, &[dst.into(), x.into(), y.into()]);
        }
        // (xh * 2^32 + xl) * (yh * 2^32 + yl), modulo 2^64.
        let low = self.def(Op::Pmuludq, width, &[x.into(), y.into()]);
        let mut cross = |half: VReg, whole: VReg| {
            let upper = self.def(Op::Psrlq, width, &[half.into(), Arg::Imm(HALF)]);
            self.def(Op::Pmuludq, width, &[upper.into(), whole.into()])
        };
        let (one, other) = (cross(x, y), cross(y, x));
        let both = self.def(Op::Paddq, width, &[one.into(), other.into()]);
        let high = self.def(Op::Psllq, width, &[both.into(), Arg::Imm(HALF)]);
        self.op(Op::Paddq, width, &[dst.into(), low.into(), high.into()]);
    }

    /// The least or the largest of integers of 64 bits, signed or not, without an instruction for it.
    pub(super) fn extreme_long(&mut self, bin: Bin, (dst, x, y): (VReg, VReg, VReg), width: usize) {
        let (mut left, mut right) = (x, y);
        if matches!(bin, Bin::MinU | Bin::MaxU) {
            let sign = self.splat(1 << (BITS - 1), 8, width);
            left = self.def(Op::Pxor, width, &[x.into(), sign.into()]);
            right = self.def(Op::Pxor, width, &[y.into(), sign.into()]);
        }
        let above = self.def(Op::Pcmpgtq, width, &[left.into(), right.into()]);
        let (otherwise, where_above) = if matches!(bin, Bin::Min | Bin::MinU) { (x, y) } else { (y, x) };
        self.op(Op::Blendv, width, &[dst.into(), otherwise.into(), where_above.into(), above.into()]);
    }

    /// All ones where an integer of 64 bits is negative.
    fn negative_longs(&mut self, x: VReg, width: usize) -> VReg {
        let zero = self.splat(0, 8, width);
        self.def(Op::Pcmpgtq, width, &[zero.into(), x.into()])
    }

    /// The magnitude of integers of 64 bits, without an instruction for it.
    pub(super) fn magnitude_longs(&mut self, dst: VReg, x: VReg, width: usize) {
        let sign = self.negative_longs(x, width);
        let turned = self.def(Op::Pxor, width, &[x.into(), sign.into()]);
        self.op(Op::Psubq, width, &[dst.into(), turned.into(), sign.into()]);
    }

    /// Integers of 64 bits shifted right with their signs, without an instruction for it.
    pub(super) fn shift_longs(&mut self, dst: VReg, x: VReg, count: i64, width: usize) {
        let sign = self.negative_longs(x, width);
        let above = self.def(Op::Psllq, width, &[sign.into(), Arg::Imm(BITS - count)]);
        let below = self.def(Op::Psrlq, width, &[x.into(), Arg::Imm(count)]);
        self.op(Op::Por, width, &[dst.into(), above.into(), below.into()]);
    }
}
