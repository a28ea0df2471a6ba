//! Products of four bytes summed into 32-bit lanes.
//!
//! `vpdpbusd` takes unsigned by signed. Other signs flip the top bit of one operand, which changes
//! it by 128, and take back 128 times the sum of the other. Without the instruction, bytes are
//! widened to 16 bits, even and odd ones apart, for `vpmaddwd`: exact, since no intermediate
//! saturates. `vpmaddubsw` would, but for signed bytes by a constant without -128, where the sizes
//! of one factor are multiplied by the other one under its sign. What depends on one operand alone is computed once for all
//! products that share it.

use super::inst::{Arg, Class, VReg};
use super::rows::Op;
use super::select::Select;
use super::state::Derived;
use crate::base::DType;
use crate::tile::{Dot, Lane, Reg, Value};

impl Select<'_> {
    /// Translates a dot product.
    pub(super) fn dot(&mut self, r: Reg, dot: Dot, acc: Reg, a: Reg, b: Reg) {
        if dot == Dot::Pairs {
            return self.pairs(r, acc, (a, b));
        }
        let (dst, width) = (self.target(r), self.width(r));
        let first = self.constant_reg(acc) == Some(0);
        if dot == Dot::Couples && !self.isa.dot && first {
            let factors = [a, b].map(|factor| Arg::Reg(self.source(factor)));
            return self.op(Op::Pmaddwd, width, &[dst.into(), factors[0], factors[1]]);
        }
        let (acc, a, b) = (self.source(acc), self.source(a), self.source(b));
        if dot == Dot::Couples && self.isa.dot {
            return self.add_products(Op::Pdpwssd, dst, acc, (a, b), width);
        }
        if dot == Dot::Couples {
            let sums = self.def(Op::Pmaddwd, width, &[a.into(), b.into()]);
            return self.op(Op::Paddd, width, &[dst.into(), acc.into(), sums.into()]);
        }
        if !self.isa.dot && dot == Dot::Sn && !self.isa.masks {
            return self.dot_by_signs((dst, acc, a, b), width);
        }
        if !self.isa.dot {
            return self.dot_by_words(dot, (dst, acc, a, b), width);
        }
        match dot {
            Dot::Us => self.us(dst, acc, a, b, width),
            Dot::Ss | Dot::Sn => {
                let raised = self.derived(a, Derived::Flipped, width);
                let excess = self.derived(b, Derived::SignedSum, width);
                let sum = self.new_us(acc, raised, b, width);
                self.op(Op::Psubd, width, &[dst.into(), sum.into(), excess.into()]);
            }
            Dot::Uu => {
                let lowered = self.derived(b, Derived::Flipped, width);
                let missing = self.derived(a, Derived::UnsignedSum, width);
                let sum = self.new_us(acc, a, lowered, width);
                self.op(Op::Paddd, width, &[dst.into(), sum.into(), missing.into()]);
            }
            Dot::Bytes
            | Dot::Couples
            | Dot::Pairs
            | Dot::Halves
            | Dot::HalfPairs
            | Dot::CoupleHalves
            | Dot::Squares(_) => {}
        }
    }

    /// Factors in lanes of their own that fit 16 bits as they were loaded, one of them of 16 bits, the other one to be
    /// taken for all its products without what lies above.
    pub(super) fn halves(&self, a: Reg, b: Reg) -> Option<(Reg, Reg)> {
        let loaded = |r: Reg| match self.single(r)? {
            Value::Load(addr, _) => Some(self.kernel.params[addr.param as usize].dtype),
            _ => None,
        };
        match (loaded(a)?, loaded(b)?) {
            _ if self.ty(a).lane != Lane::I32 => None,
            (DType::I16, DType::I8 | DType::U8 | DType::I16) => Some((a, b)),
            (DType::I8 | DType::U8, DType::I16) => Some((b, a)),
            _ => None,
        }
    }

    /// `acc + a * b` of numbers of 16 bits: couples of which the upper products are zero. Products of 32 bits take
    /// two instructions in many cores, and sums another one.
    pub(super) fn multiply_add_halves(&mut self, r: Reg, acc: Reg, a: Reg, b: Reg) {
        let (dst, width) = (self.target(r), self.width(r));
        let (a, b) = (self.source(a), self.source(b));
        let b = self.derived(b, Derived::Low, width);
        if !self.isa.dot && self.constant_reg(acc) == Some(0) {
            return self.op(Op::Pmaddwd, width, &[dst.into(), a.into(), b.into()]);
        }
        let acc = self.source(acc);
        if self.isa.dot {
            return self.add_products(Op::Pdpwssd, dst, acc, (a, b), width);
        }
        let products = self.def(Op::Pmaddwd, width, &[a.into(), b.into()]);
        self.op(Op::Paddd, width, &[dst.into(), acc.into(), products.into()]);
    }

    /// Sums of two products in 16 bits.
    fn pairs(&mut self, r: Reg, acc: Reg, (a, b): (Reg, Reg)) {
        let (dst, width) = (self.target(r), self.width(r));
        let factors = [a, b].map(|factor| Arg::Reg(self.source(factor)));
        if self.constant_reg(acc) == Some(0) {
            return self.op(Op::Pmaddubsw, width, &[dst.into(), factors[0], factors[1]]);
        }
        let acc = self.source(acc);
        let sums = self.def(Op::Pmaddubsw, width, &factors);
        self.op(Op::Paddw, width, &[dst.into(), acc.into(), sums.into()]);
    }

    /// What is derived from a register's value, computed once as long as it has that value.
    pub(super) fn derived(&mut self, src: VReg, what: Derived, width: usize) -> VReg {
        if let Some(&known) = self.derived.get(&(src, what)) {
            return known;
        }
        let new = self.new_derived(src, what, width);
        self.derived.insert((src, what), new);
        new
    }

    fn new_derived(&mut self, src: VReg, what: Derived, width: usize) -> VReg {
        let eight = Arg::Imm(8);
        match what {
            Derived::Low => {
                let low = self.splat(0x0000_ffff, 4, width);
                self.def(Op::Pand, width, &[src.into(), low.into()])
            }
            Derived::Even(false) => {
                let low = self.splat(0x00ff_00ff, 4, width);
                self.def(Op::Pand, width, &[src.into(), low.into()])
            }
            Derived::Even(true) => {
                let high = self.def(Op::Psllw, width, &[src.into(), eight]);
                self.def(Op::Psraw, width, &[high.into(), eight])
            }
            Derived::Odd(false) => self.def(Op::Psrlw, width, &[src.into(), eight]),
            Derived::Odd(true) => self.def(Op::Psraw, width, &[src.into(), eight]),
            Derived::Flipped => {
                let flip = self.splat(0x8080_8080, 4, width);
                self.def(Op::Pxor, width, &[src.into(), flip.into()])
            }
            Derived::Index => self.def(Op::MovqToGpr, 16, &[src.into()]),
            Derived::Size => self.def(Op::Pabsb, width, &[src.into()]),
            Derived::SignedSum => {
                let zero = self.splat(0, 4, width);
                let most = self.splat(0x8080_8080, 4, width);
                self.new_us(zero, most, src, width)
            }
            Derived::UnsignedSum => {
                let zero = self.splat(0, 4, width);
                let half = self.splat(0x4040_4040, 4, width);
                let sum = self.new_us(zero, src, half, width);
                self.new_us(sum, src, half, width)
            }
        }
    }

    fn new_us(&mut self, acc: VReg, a: VReg, b: VReg, width: usize) -> VReg {
        let dst = self.f.reg(Class::Vector);
        self.us(dst, acc, a, b, width);
        dst
    }

    fn us(&mut self, dst: VReg, acc: VReg, a: VReg, b: VReg, width: usize) {
        self.add_products(Op::Pdpbusd, dst, acc, (a, b), width);
    }

    /// `dst = acc + a * b`, where the destination may be an operand.
    fn add_products(&mut self, op: Op, dst: VReg, acc: VReg, (a, b): (VReg, VReg), width: usize) {
        let sum = if dst != acc && (dst == a || dst == b) { self.f.reg(Class::Vector) } else { dst };
        if sum != acc {
            self.op(Op::Movaps, width, &[sum.into(), acc.into()]);
        }
        self.op(op, width, &[sum.into(), a.into(), b.into()]);
        if sum != dst {
            self.op(Op::Movaps, width, &[dst.into(), sum.into()]);
        }
    }

    /// Sizes by signed bytes: two products of at most 128 by 127 fit 16 bits.
    fn dot_by_signs(&mut self, (dst, acc, a, b): (VReg, VReg, VReg, VReg), width: usize) {
        let size = self.derived(a, Derived::Size, width);
        let signed = self.def(Op::Psignb, width, &[b.into(), a.into()]);
        let pairs = self.def(Op::Pmaddubsw, width, &[size.into(), signed.into()]);
        let ones = self.splat(0x0001_0001, 4, width);
        let sums = self.def(Op::Pmaddwd, width, &[pairs.into(), ones.into()]);
        self.op(Op::Paddd, width, &[dst.into(), acc.into(), sums.into()]);
    }

    fn dot_by_words(&mut self, dot: Dot, (dst, acc, a, b): (VReg, VReg, VReg, VReg), width: usize) {
        let (a_signed, b_signed) = (matches!(dot, Dot::Ss | Dot::Sn), dot != Dot::Uu);
        let even = [
            self.derived(a, Derived::Even(a_signed), width),
            self.derived(b, Derived::Even(b_signed), width),
        ];
        let odd =
            [self.derived(a, Derived::Odd(a_signed), width), self.derived(b, Derived::Odd(b_signed), width)];
        let even = self.def(Op::Pmaddwd, width, &even.map(Arg::Reg));
        let odd = self.def(Op::Pmaddwd, width, &odd.map(Arg::Reg));
        let sum = self.def(Op::Paddd, width, &[acc.into(), even.into()]);
        self.op(Op::Paddd, width, &[dst.into(), sum.into(), odd.into()]);
    }
}
