//! Bytes through a table of 256: lookups in registers.
//!
//! An instruction picks bytes out of 16 of each 128 bits (`vpshufb`), or, with VBMI, out of 128 (`vpermi2b`). So
//! each byte is looked up in all parts of the table by its lower bits, and the upper ones choose among the results:
//! two permutations and a blend, or 16 shuffles and 15 blends. Without masks a blend by bytes is three instructions
//! in itself on some cores; but a shuffle makes a zero of an index whose top bit is set: of four rows three give
//! zeros, and the results are joined, so that three blends are left (Golden Cove: 5.7 -> 3.9 ns for 32 bytes).
//! It takes as many for a whole vector of bytes as for one, so that bytes are looked up where they lie close together:
//! on their way to memory ([`super::together`]). Where
//! more is computed with the entries they lie in lanes of four bytes; vectors that are looked up next to each other
//! share these, a byte each. A byte that is alone is loaded from the table.

use super::Result;
use super::inst::{Arg, Class, Mem, VReg};
use super::rows::Op;
use super::select::Select;
use crate::base::DType;
use crate::tile::{Access, Addr, Reg, Stmt, TABLE, Value};

/// Bytes that a shuffle picks from.
const ROW: usize = 16;

/// Rows that are looked up next to each other, each by an index that is its own.
const ROWS: usize = 4;
/// What makes the top bit of an index be set from the second row on.
const PAST: u64 = 0x70;

/// Bytes of a lane, and their bits.
const BYTES: usize = 4;
const BYTE: i64 = 8;
/// From the lowest to the highest byte of a lane.
const TOP: i64 = 24;

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
        let loaded = match self.single(index) {
            Some(Value::Load(from, _)) => Some(self.kernel.params[from.param as usize].dtype),
            _ => None,
        };
        match self.clamped(index, DType::I8) {
            None if loaded != Some(DType::I8) => DType::U8,
            _ => DType::I8,
        }
    }

    /// Translates a lookup by the lowest byte of each lane.
    pub(super) fn lookup(&mut self, r: Reg, table: &Addr, index: Reg) -> Result<()> {
        let (from, place) = (self.source(index), self.mem(table)?);
        if let Some(entry) = self.single_entry(from, place, self.ty(r).lanes) {
            let packed = self.def(Op::Broadcast8, ROW, &[entry.into()]);
            self.entry(r, table, packed, 0);
            return Ok(());
        }
        // The other bytes of a lane are looked up in vain.
        let entries = self.mapped(from, place, self.width(r));
        self.entry(r, table, entries, 0);
        Ok(())
    }

    /// Where the entry of a byte is that has no others beside it.
    pub(super) fn single_entry(&mut self, index: VReg, table: Mem, lanes: u8) -> Option<Mem> {
        if lanes > 1 || table.index.is_some() {
            return None;
        }
        let byte = self.def(Op::MovdToGpr, ROW, &[index.into()]);
        self.op(Op::AndImm, ROW, &[byte.into(), Arg::Imm(0xff)]);
        Some(Mem { index: Some((byte, 1)), ..table })
    }

    /// Takes a byte of each lane to a register.
    fn entry(&mut self, r: Reg, table: &Addr, entries: VReg, byte: i64) {
        let (dst, width, up) = (self.target(r), self.width(r), TOP - BYTE * byte);
        let upper = match up {
            0 => entries,
            _ => self.def(Op::Pslld, width, &[entries.into(), Arg::Imm(up)]),
        };
        let signed = self.kernel.params[table.param as usize].dtype.is_signed_int();
        let down = if signed { Op::Psrad } else { Op::Psrld };
        self.op(down, width, &[dst.into(), upper.into(), Arg::Imm(TOP)]);
    }

    /// Translates the lookups in one table that the first of some statements begins, where there are several whose
    /// indices are there already.
    pub(super) fn lookups(&mut self, stmts: &[Stmt]) -> Result<()> {
        let Some(Stmt::Let(first, Value::Lookup(table, _))) = stmts.first() else { return Ok(()) };
        let place = std::ptr::from_ref(&stmts[0]);
        let members = match self.shared.contains(&place) || self.ty(*first).lanes == 1 {
            true => Vec::new(),
            false => self.beside(stmts, *first, table),
        };
        if members.len() < 2 {
            return Ok(());
        }
        let (place, width) = (self.mem(table)?, self.width(*first));
        let indices: Vec<Reg> = members.iter().map(|m| m.2).collect();
        if let Some(entries) = self.found(&indices, place) {
            for (quarter, (stmt, r, _)) in members.into_iter().enumerate() {
                self.entry_of_quarter(r, table, entries, quarter);
                self.assigned(r);
                self.shared.insert(stmt);
            }
            return Ok(());
        }
        let all = self.in_lanes(&indices, width);
        let entries = self.mapped(all, place, width);
        for (byte, (stmt, r, _)) in (0..).zip(members) {
            self.entry(r, table, entries, byte);
            self.assigned(r);
            self.shared.insert(stmt);
        }
        Ok(())
    }

    /// The lowest bytes of vectors' lanes, a byte of each lane for each vector.
    fn in_lanes(&mut self, indices: &[Reg], width: usize) -> VReg {
        let part = |select: &mut Self, byte: usize| {
            let from = select.source(indices[byte]);
            let upper = select.def(Op::Pslld, width, &[from.into(), Arg::Imm(TOP)]);
            match TOP - BYTE * byte as i64 {
                0 => upper,
                down => select.def(Op::Psrld, width, &[upper.into(), Arg::Imm(down)]),
            }
        };
        let first = part(self, 0);
        (1..indices.len()).fold(first, |all, byte| {
            let part = part(self, byte);
            self.def(Op::Por, width, &[all.into(), part.into()])
        })
    }

    /// Takes a quarter of each 128 bits' bytes to the lanes of a register.
    fn entry_of_quarter(&mut self, r: Reg, table: &Addr, entries: VReg, quarter: usize) {
        let width = self.width(r);
        let place = |i: usize| if i % BYTES == BYTES - 1 { BYTES * quarter + i % ROW / BYTES } else { 0x80 };
        let order = self.constant((0..width).map(|i| place(i) as u8).collect(), 0, width);
        let upper = self.def(Op::Pshufb, width, &[entries.into(), order.into()]);
        self.entry(r, table, upper, BYTES as i64 - 1);
    }

    /// The lookups beside the first one, with what they give and take.
    fn beside(&self, stmts: &[Stmt], first: Reg, table: &Addr) -> Vec<(*const Stmt, Reg, Reg)> {
        let (mut members, mut since) = (Vec::new(), Vec::new());
        let stays = self.kernel.params[table.param as usize].access == Access::Read;
        for stmt in stmts.iter().take_while(|s| stays && matches!(s, Stmt::Let(..) | Stmt::Store { .. })) {
            let Stmt::Let(r, value) = stmt else { continue };
            match value {
                Value::Lookup(other, index)
                    if other == table
                        && self.ty(*r) == self.ty(first)
                        && [*r, *index].iter().all(|&r| self.single(r).is_some())
                        && !since.contains(index) =>
                {
                    members.push((std::ptr::from_ref(stmt), *r, *index));
                }
                _ => {}
            }
            since.push(*r);
            if members.len() == BYTES {
                break;
            }
        }
        members
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
        if self.isa.masks {
            let low = self.with_bytes(Op::Pand, index, 0x0f, width);
            let choosers: Vec<Chooser> = (4..8).map(|bit| self.chooser(index, bit, width)).collect();
            return self.entries(&[low], table, &choosers, width);
        }
        let low = self.with_bytes(Op::Pand, index, (ROW * ROWS - 1) as u64, width);
        let [one, two] = [ROW, 2 * ROW].map(|from| self.with_bytes(Op::Pxor, low, from as u64, width));
        let three = self.with_bytes(Op::Pxor, two, ROW as u64, width);
        let indices =
            [low, one, two, three].map(|from_row| self.with_bytes(Op::Paddb, from_row, PAST, width));
        let choosers = [6, 7].map(|bit| self.chooser(index, bit, width));
        self.entries(&indices, table, &choosers, width)
    }

    /// An operation of a vector and one that has the same number in all bytes.
    fn with_bytes(&mut self, op: Op, of: VReg, byte: u64, width: usize) -> VReg {
        let all = self.splat(byte * 0x0101_0101, 4, width);
        self.def(op, width, &[of.into(), all.into()])
    }

    /// The entries in as many rows as the upper bits can choose from; each index has an entry in one row of as many.
    fn entries(&mut self, indices: &[VReg], table: Mem, choosers: &[Chooser], width: usize) -> VReg {
        if let Some((&top, below)) = choosers.split_last() {
            let upper = table.offset(((ROW * indices.len()) << below.len()) as i64);
            let [zero, one] = [table, upper].map(|half| self.entries(indices, half, below, width));
            return self.chosen(top, zero, one, width);
        }
        let load = if width == ROW { Op::Load } else { Op::BroadcastRow };
        let of_row = |select: &mut Self, row: usize| {
            let place = table.offset((ROW * row) as i64);
            let entries = select.def(load, width, &[place.into()]);
            select.def(Op::Pshufb, width, &[entries.into(), indices[row].into()])
        };
        let first = of_row(self, 0);
        (1..indices.len()).fold(first, |all, row| {
            let part = of_row(self, row);
            self.def(Op::Por, width, &[all.into(), part.into()])
        })
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
