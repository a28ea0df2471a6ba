//! Products of four bytes summed into 32-bit lanes.
//!
//! `vpdpbusd` takes unsigned by signed. Other signs flip the top bit of one operand, which changes
//! it by 128, and take back 128 times the sum of the other. Without the instruction, bytes are
//! widened to 16 bits, even and odd ones apart, for `vpmaddwd`: exact, since no intermediate
//! saturates (`vpmaddubsw` would).

use super::inst::{Arg, VReg};
use super::rows::Op;
use super::select::Select;
use crate::tile::{Dot, Reg};

impl Select<'_> {
    /// Translates a dot product.
    pub(super) fn dot(&mut self, r: Reg, dot: Dot, acc: Reg, a: Reg, b: Reg) {
        let (dst, width) = (self.target(r), self.width(r));
        let (acc, a, b) = (self.source(acc), self.source(a), self.source(b));
        if !self.isa.dot {
            return self.dot_by_words(dot, (dst, acc, a, b), width);
        }
        match dot {
            Dot::Us => self.us(dst, acc, a, b, width),
            Dot::Ss => {
                let flip = self.splat(0x8080_8080, 4, width);
                let raised = self.def(Op::Pxor, width, &[a.into(), flip.into()]);
                let zero = self.splat(0, 4, width);
                let excess = self.new_us(zero, flip, b, width);
                let sum = self.new_us(acc, raised, b, width);
                self.op(Op::Psubd, width, &[dst.into(), sum.into(), excess.into()]);
            }
            Dot::Uu => {
                let flip = self.splat(0x8080_8080, 4, width);
                let half = self.splat(0x4040_4040, 4, width);
                let lowered = self.def(Op::Pxor, width, &[b.into(), flip.into()]);
                let sum = self.new_us(acc, a, lowered, width);
                let sum = self.new_us(sum, a, half, width);
                self.us(dst, sum, a, half, width);
            }
        }
    }

    fn new_us(&mut self, acc: VReg, a: VReg, b: VReg, width: usize) -> VReg {
        let dst = self.f.reg(super::inst::Class::Vector);
        self.us(dst, acc, a, b, width);
        dst
    }

    /// `dst = acc + a * b`, where the destination may be an operand.
    fn us(&mut self, dst: VReg, acc: VReg, a: VReg, b: VReg, width: usize) {
        let sum =
            if dst != acc && (dst == a || dst == b) { self.f.reg(super::inst::Class::Vector) } else { dst };
        if sum != acc {
            self.op(Op::Movaps, width, &[sum.into(), acc.into()]);
        }
        self.op(Op::Pdpbusd, width, &[sum.into(), a.into(), b.into()]);
        if sum != dst {
            self.op(Op::Movaps, width, &[dst.into(), sum.into()]);
        }
    }

    fn dot_by_words(&mut self, dot: Dot, (dst, acc, a, b): (VReg, VReg, VReg, VReg), width: usize) {
        let a = self.words(a, dot == Dot::Ss, width);
        let b = self.words(b, dot != Dot::Uu, width);
        let even = self.def(Op::Pmaddwd, width, &[a.0.into(), b.0.into()]);
        let odd = self.def(Op::Pmaddwd, width, &[a.1.into(), b.1.into()]);
        let sum = self.def(Op::Paddd, width, &[acc.into(), even.into()]);
        self.op(Op::Paddd, width, &[dst.into(), sum.into(), odd.into()]);
    }

    /// The even and the odd bytes of a register as 16-bit numbers, once for each value.
    fn words(&mut self, src: VReg, signed: bool, width: usize) -> (VReg, VReg) {
        if let Some(&known) = self.words.get(&(src, signed)) {
            return known;
        }
        let halves = self.new_words(src, signed, width);
        self.words.insert((src, signed), halves);
        halves
    }

    fn new_words(&mut self, src: VReg, signed: bool, width: usize) -> (VReg, VReg) {
        let eight = Arg::Imm(8);
        if !signed {
            let low = self.splat(0x00ff_00ff, 4, width);
            let even = self.def(Op::Pand, width, &[src.into(), low.into()]);
            return (even, self.def(Op::Psrlw, width, &[src.into(), eight]));
        }
        let high = self.def(Op::Psllw, width, &[src.into(), eight]);
        let even = self.def(Op::Psraw, width, &[high.into(), eight]);
        (even, self.def(Op::Psraw, width, &[src.into(), eight]))
    }
}
