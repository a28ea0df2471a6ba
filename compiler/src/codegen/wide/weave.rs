//! Couples and words put together from bytes of several rows.
//!
//! A kernel that multiplies bytes that lie apart extends each to a lane, shifts it to its place there and joins them:
//! `b0 | b1 << 8 | b2 << 16 | b3 << 24`. Here rows are put side by side as they are, and one instruction makes lanes
//! of them: `vpermb` of four rows of 16 bytes (of three in four instructions for seven).

use super::Result;
use super::inst::{Arg, Inst, Mem, VReg};
use super::rows::Op;
use super::select::Select;
use super::state::Eights;
use crate::base::DType;
use crate::codegen::live::Instruction;
use crate::tile::{Access, Addr, Bin, Convert, Reg, Value};

/// Bytes of a row that is woven to words.
const ROW: usize = 16;

/// Bytes of a row that are woven to couples.
const EIGHT: i64 = 8;

/// Where the bytes lie that stand in each place of the words of a register.
type Rows<'a> = [Option<&'a Addr>; 4];

impl<'a> Select<'a> {
    /// Translates a register that is joined from bytes of several rows; whether it is one.
    pub(super) fn weave_bytes(&mut self, r: Reg, (a, b): (Reg, Reg)) -> Result<bool> {
        Ok(self.weave_couples(r, (a, b))? || self.weave_words(r, (a, b))?)
    }

    /// Couples of bytes that are extended in lanes of their own and joined there: two vectors of eight bytes at most
    /// are woven before they are extended.
    fn weave_couples(&mut self, r: Reg, (low, high): (Reg, Reg)) -> Result<bool> {
        let (lanes, width) = (self.ty(r).lanes as usize, self.width(r));
        let (low, cut) = match self.single(low) {
            Some(Value::Convert(Convert::ZextLow(16), inner)) => (*inner, true),
            _ => (low, false),
        };
        let (Some(Value::Load(first, 1)), Some(Value::Bin(Bin::Shl, high, by))) =
            (self.single(low), self.single(high))
        else {
            return Ok(false);
        };
        let Some(Value::Load(second, 1)) = self.single(*high) else { return Ok(false) };
        let read = |addr: &Addr| {
            let param = &self.kernel.params[addr.param as usize];
            (param.access == Access::Read && addr.dynamic.is_none()).then_some(param.dtype)
        };
        // What extends a byte by its sign would reach into the other half.
        let apart = matches!((read(first), cut), (Some(DType::U8), _) | (Some(DType::I8), true));
        let bytes = apart && read(first) == read(second);
        if !(bytes && self.constant_reg(*by) == Some(16) && 4 * lanes == width && matches!(lanes, 4 | 8)) {
            return Ok(false);
        }
        let extend = if read(first) == Some(DType::I8) { Op::Pmovsxbw } else { Op::Pmovzxbw };
        let rows = [self.mem(first)?, self.mem(second)?];
        let woven = match self.neighbours(rows) {
            Some(loaded) => self.def(Op::Punpckhbw, 16, &loaded.map(Arg::Reg)),
            None => {
                let at = self.f.insts.len();
                let load = if lanes == 8 { Op::Load64 } else { Op::Load32 };
                let loaded = rows.map(|row| self.def(load, 16, &[row.into()]));
                self.eights = (lanes == 8).then_some(Eights { rows, loaded, at });
                self.def(Op::Punpcklbw, 16, &loaded.map(Arg::Reg))
            }
        };
        let dst = self.target(r);
        self.op(extend, width, &[dst.into(), woven.into()]);
        Ok(true)
    }

    /// Where the last couples were woven from the eight bytes before these of each row: registers of both, which
    /// are loaded together then.
    fn neighbours(&mut self, rows: [Mem; 2]) -> Option<[VReg; 2]> {
        let last = self.eights.take().filter(|last| last.rows.map(|row| row.offset(EIGHT)) == rows)?;
        let stays = |inst: &Inst| {
            let mut moved = inst.is_control() || inst.stores();
            inst.visit(|r, _, written| {
                moved |= written && rows.iter().any(|row| row.regs().any(|of| of == r));
            });
            !moved
        };
        let since = self.f.insts.get_mut(last.at..).filter(|since| since.iter().all(stays))?;
        let [first, second, ..] = since else { return None };
        (first.op, second.op) = (Op::Load, Op::Load);
        Some(last.loaded)
    }

    /// Words of 16 lanes.
    fn weave_words(&mut self, r: Reg, (a, b): (Reg, Reg)) -> Result<bool> {
        let width = self.width(r);
        if !self.isa.permutes_bytes || usize::from(self.ty(r).lanes) != ROW || width != 4 * ROW {
            return Ok(false);
        }
        let Some([Some(first), rows @ ..]) = self.rows_of(a).zip(self.rows_of(b)).and_then(joined) else {
            return Ok(false);
        };
        let first = self.mem(first)?;
        let mut all = self.def(Op::Load, ROW, &[first.into()]);
        for (place, row) in (1..).zip(rows) {
            let Some(row) = row else { continue };
            let row = self.mem(row)?;
            let to = (place + 1usize).next_power_of_two() * ROW;
            all = self.def(Op::Insert128, to, &[all.into(), row.into(), Arg::Imm(place as i64)]);
        }
        let place = |i: usize| (i % 4 * ROW + i / 4) as u8;
        let places = self.constant((0..width).map(place).collect(), 0, width);
        let dst = self.target(r);
        self.op(Op::Permb, width, &[dst.into(), places.into(), all.into()]);
        Ok(true)
    }

    /// The rows whose bytes a register is joined from, the lowest place first.
    fn rows_of(&self, r: Reg) -> Option<Rows<'a>> {
        let (from, place) = match self.single(r)? {
            Value::Bin(Bin::Or, a, b) => return joined((self.rows_of(*a)?, self.rows_of(*b)?)),
            Value::Bin(Bin::Shl, a, by) => (*a, self.constant_reg(*by)?),
            _ => (r, 0),
        };
        let (from, cut) = match self.single(from)? {
            Value::Convert(Convert::ZextLow(8), inner) => (*inner, true),
            _ => (from, false),
        };
        let Value::Load(addr, 1) = self.single(from)? else { return None };
        let param = &self.kernel.params[addr.param as usize];
        let alone = param.dtype == DType::U8 || param.dtype == DType::I8 && (cut || place == 24);
        if !alone || param.access != Access::Read || addr.dynamic.is_some() || place % 8 != 0 {
            return None;
        }
        let mut rows = [None; 4];
        *rows.get_mut(place as usize / 8)? = Some(addr);
        Some(rows)
    }
}

/// Both registers' rows, where no two stand in one place.
fn joined<'a>((a, b): (Rows<'a>, Rows<'a>)) -> Option<Rows<'a>> {
    let apart = a.iter().zip(&b).all(|(a, b)| a.is_none() || b.is_none());
    apart.then(|| std::array::from_fn(|i| a[i].or(b[i])))
}
