//! Bytes through a table of 256: lookups in registers.
//!
//! An instruction picks bytes out of 16 of each 128 bits (`vpshufb`), or, with VBMI, out of 128 (`vpermi2b`). So
//! each byte is looked up in all parts of the table by its lower bits, and the upper ones choose among the results:
//! 16 shuffles and 15 blends, or two permutations and one. It takes as many for a whole vector of bytes as for one,
//! so that bytes are looked up where they lie close together: on their way to memory ([`super::together`]).

use super::Result;
use super::inst::{Arg, Class, Mem, VReg};
use super::rows::Op;
use super::select::Select;
use crate::base::DType;
use crate::tile::{Access, Addr, Reg, TABLE, Value};

/// Bytes that a shuffle picks from.
const ROW: usize = 16;

/// What chooses between the results for two parts of a table: where a bit of the index is set.
#[derive(Clone, Copy)]
enum Chooser {
    /// A mask.
    Mask(VReg),
    /// The top bit of each byte of a vector.
    Top(VReg),
}

/// A table, and the register of the bytes that are looked up in it.
#[derive(Clone, Copy)]
pub(super) struct Looked<'a> {
    pub(super) table: &'a Addr,
    pub(super) index: Reg,
}

impl<'a> Select<'a> {
    /// What a register is the entry of, in a table that stays.
    pub(super) fn looked_up(&self, r: Reg) -> Option<Looked<'a>> {
        let Value::Lookup(table, index) = self.single(r)? else { return None };
        let stays = self.kernel.params[table.param as usize].access == Access::Read;
        (stays && self.single(*index).is_some()).then_some(Looked { table, index: *index })
    }

    /// The type of the bytes that a register is clamped to or was loaded as; any where it is neither, for then
    /// its lowest byte counts.
    pub(super) fn index_type(&self, index: Reg) -> DType {
        match self.clamped(index, DType::I8) {
            Some(_) => DType::I8,
            None => DType::U8,
        }
    }

    /// Translates a lookup by the lowest byte of each lane.
    pub(super) fn lookup(&mut self, r: Reg, table: &Addr, index: Reg) -> Result<()> {
        let signed = self.kernel.params[table.param as usize].dtype.is_signed_int();
        let (from, table) = (self.source(index), self.mem(table)?);
        let (dst, width) = (self.target(r), self.width(r));
        // The other bytes of a lane are looked up in vain.
        let entries = self.mapped(from, table, width);
        let upper = self.def(Op::Pslld, width, &[entries.into(), Arg::Imm(24)]);
        let down = if signed { Op::Psrad } else { Op::Psrld };
        self.op(down, width, &[dst.into(), upper.into(), Arg::Imm(24)]);
        Ok(())
    }

    /// The entries of each byte of a vector.
    pub(super) fn mapped(&mut self, index: VReg, table: Mem, width: usize) -> VReg {
        match self.isa.permutes_bytes {
            true => self.permuted(index, table),
            false => self.shuffled(index, table, width),
        }
    }

    fn permuted(&mut self, index: VReg, table: Mem) -> VReg {
        let width = 64;
        let half = |select: &mut Self, from: usize| {
            let [low, high] = [from, from + width].map(|at| {
                let part = table.offset(at as i64);
                select.def(Op::Load, width, &[part.into()])
            });
            let entries = select.def(Op::Movaps, width, &[index.into()]);
            select.op(Op::Permi2b, width, &[entries.into(), low.into(), high.into()]);
            entries
        };
        let [low, high] = [0, TABLE / 2].map(|from| half(self, from));
        let top = self.chooser(index, 7, width);
        self.chosen(top, low, high, width)
    }

    fn shuffled(&mut self, index: VReg, table: Mem, width: usize) -> VReg {
        let low_bits = self.splat(0x0f0f_0f0f, 4, width);
        let low = self.def(Op::Pand, width, &[index.into(), low_bits.into()]);
        let choosers: Vec<Chooser> = (4..8).map(|bit| self.chooser(index, bit, width)).collect();
        self.entries(low, table, &choosers, width)
    }

    /// The entries in as many rows as the upper bits can choose from.
    fn entries(&mut self, low: VReg, table: Mem, choosers: &[Chooser], width: usize) -> VReg {
        let Some((&top, below)) = choosers.split_last() else {
            let load = if width == ROW { Op::Load } else { Op::BroadcastRow };
            let row = self.def(load, width, &[table.into()]);
            return self.def(Op::Pshufb, width, &[row.into(), low.into()]);
        };
        let upper = table.offset((ROW << below.len()) as i64);
        let [zero, one] = [table, upper].map(|half| self.entries(low, half, below, width));
        self.chosen(top, zero, one, width)
    }

    /// What a bit of the index chooses by.
    fn chooser(&mut self, index: VReg, bit: u32, width: usize) -> Chooser {
        let top = match bit {
            7 => index,
            _ => self.def(Op::Pslld, width, &[index.into(), Arg::Imm(7 - i64::from(bit))]),
        };
        if !self.isa.masks {
            return Chooser::Top(top);
        }
        let mask = self.def(Op::KTops, width, &[top.into()]);
        // It has more bits than are kept elsewhere.
        self.f.regs[mask as usize].short = true;
        Chooser::Mask(mask)
    }

    fn chosen(&mut self, by: Chooser, zero: VReg, one: VReg, width: usize) -> VReg {
        match by {
            Chooser::Top(top) => self.def(Op::BlendBytes, width, &[zero.into(), one.into(), top.into()]),
            Chooser::Mask(mask) => {
                let dst = self.f.reg(Class::Vector);
                self.masked(Op::KBlend8, width, &[dst.into(), zero.into(), one.into()], Some(mask), false);
                dst
            }
        }
    }
}
