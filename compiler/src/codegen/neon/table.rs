//! Bytes through a table of 256: `tbl` picks out of four registers, `tbx` leaves what lies beyond.
//!
//! ```text
//! ld1 {v0.16b-v3.16b}, [x1];  tbl v8.16b, {v0.16b-v3.16b}, v9.16b;  sub v9.16b, v9.16b, v10.16b   // less 64
//! ld1 {v0.16b-v3.16b}, [x2];  tbx v8.16b, {v0.16b-v3.16b}, v9.16b;  ...
//! ```
//! Lanes are narrowed to bytes first, of which a vector holds 16, and stay bytes until more is computed with them.
//! The registers of a quarter of the table have to be consecutive: the allocator makes room for them.

use super::Result;
use super::inst::{Kind, NOWHERE, VReg, read, update, write};
use super::select::{Form, Select};
use super::words;
use crate::tile::{Addr, Kernel, Reg, TABLE, Value, assignments};

/// Registers that one instruction picks from, and their bytes.
const REGISTERS: usize = 4;
const QUARTER: usize = 16 * REGISTERS;

/// Registers that lookups need beside the bytes: a quarter of the table, the entries, and the index less what was
/// looked up.
pub const NEEDED: usize = REGISTERS + 2;

/// Whether a kernel looks anything up.
pub fn looks_up(kernel: &Kernel) -> bool {
    assignments(kernel).iter().flatten().any(|value| matches!(value, Value::Lookup(..)))
}

impl Select<'_> {
    /// Translates a lookup.
    pub(super) fn lookup(&mut self, r: Reg, table: &Addr, index: Reg) -> Result<()> {
        let signed = self.kernel.params[table.param as usize].dtype.is_signed_int();
        let mem = self.mem(table)?;
        let bytes = self.narrow(index, 1, self.is_signed_byte(index))?;
        let raw = bytes
            .into_iter()
            .map(|index| {
                let mut entries: Option<VReg> = None;
                let mut index = index;
                for from in (0..TABLE).step_by(QUARTER) {
                    if entries.is_some() {
                        let less = self.splat(QUARTER as u32 * 0x0101_0101);
                        index = self.new2(words::of_bytes(words::SUB_V), index, less);
                    }
                    let address = self.at(mem.offset(from as i64));
                    entries = Some(self.quarter(address, index, entries));
                }
                entries.unwrap_or(index)
            })
            .collect();
        self.define(r, Form::Narrow { raw, bytes: 1, signed })
    }

    /// The entries that lie in a quarter of a table, among those of the quarters before it.
    fn quarter(&mut self, address: VReg, index: VReg, before: Option<VReg>) -> VReg {
        let table: Vec<VReg> = (0..REGISTERS).map(|_| self.vector()).collect();
        let place = |i: usize, first: u8| if i == 0 { first } else { NOWHERE };
        let mut load: Vec<_> = table.iter().enumerate().map(|(i, &t)| write(t, place(i, 0))).collect();
        load.push(read(address, 5));
        let tuple = Kind::Tuple { count: REGISTERS as u8, copies: false };
        self.push(words::ld_neighbours(REGISTERS), load, tuple);
        let (word, entries, to) = match before {
            Some(entries) => (words::TBX, entries, update(entries, 0)),
            None => {
                let entries = self.vector();
                (words::TBL, entries, write(entries, 0))
            }
        };
        let mut fields: Vec<_> = table.iter().enumerate().map(|(i, &t)| read(t, place(i, 5))).collect();
        fields.extend([to, read(index, 16)]);
        self.push(word, fields, Kind::Table(REGISTERS as u8));
        table.into_iter().for_each(|t| self.f.regs[t as usize].short = true);
        entries
    }
}
