//! Addresses: displacements from running pointers, as far as the instructions reach.

use super::Result;
use super::inst::{Class, Kind, VReg, read, update, write};
use super::select::Select;
use super::words::{self, Access};
use crate::tile::Addr;

/// An address: a register and bytes added.
#[derive(Clone, Copy, Debug)]
pub struct Mem {
    /// The register.
    pub base: VReg,
    /// The bytes.
    pub disp: i64,
}

impl Mem {
    /// The place some bytes further.
    pub fn offset(self, bytes: i64) -> Mem {
        Mem { disp: self.disp + bytes, ..self }
    }
}

impl Select<'_> {
    /// The address of an access.
    pub(super) fn mem(&mut self, addr: &Addr) -> Result<Mem> {
        if addr.dynamic.is_some() {
            return Err("a computed index".into());
        }
        let (base, disp) = self.walk.place(self.kernel, addr)?;
        Ok(Mem { base, disp })
    }

    /// A load or store of one register.
    pub(super) fn access(&mut self, form: Access, reg: VReg, mem: Mem, load: bool) {
        let encoded = |disp: i64| {
            if disp >= 0 && disp % form.size == 0 && disp / form.size < 4096 {
                return Some(form.scaled | ((disp / form.size) as u32) << 10);
            }
            (-256..256).contains(&disp).then_some(form.unscaled | (disp as u32 & 0x1ff) << 12)
        };
        let mut mem = mem;
        if encoded(mem.disp).is_none() {
            let near = mem.disp & !0xfff;
            let near = if encoded(mem.disp - near).is_some() { near } else { mem.disp };
            mem = Mem { base: self.address(mem.base, near), disp: mem.disp - near };
        }
        let field = if load { write(reg, 0) } else { read(reg, 0) };
        let kind = if load { Kind::Plain } else { Kind::Store };
        self.push(encoded(mem.disp).unwrap_or(form.scaled), vec![field, read(mem.base, 5)], kind);
    }

    /// A register with an address.
    pub(super) fn at(&mut self, mem: Mem) -> VReg {
        self.address(mem.base, mem.disp)
    }

    fn address(&mut self, base: VReg, bytes: i64) -> VReg {
        if bytes == 0 {
            return base;
        }
        if let Some(&known) = self.addresses.get(&(base, bytes)) {
            return known;
        }
        let sum = self.f.reg(Class::General);
        self.add(sum, base, bytes);
        self.addresses.insert((base, bytes), sum);
        sum
    }

    /// `dst = src + number`, of general registers.
    pub(super) fn add(&mut self, dst: VReg, src: VReg, number: i64) {
        let (word, size) = match number < 0 {
            true => (words::SUB_IMM, number.unsigned_abs()),
            false => (words::ADD_IMM, number as u64),
        };
        if size >= 1 << 24 {
            let big = self.number(number);
            return self.push(words::ADD, vec![write(dst, 0), read(src, 5), read(big, 16)], Kind::Plain);
        }
        let (high, low) = ((size >> 12) as u32, (size & 0xfff) as u32);
        let mut from = src;
        let fields = [(high != 0).then_some(1 << 22 | high << 10), (low != 0).then_some(low << 10)];
        for field in fields.into_iter().flatten() {
            self.push(word | field, vec![write(dst, 0), read(from, 5)], Kind::Plain);
            from = dst;
        }
        if from != dst {
            self.push(words::MOV_X, vec![write(dst, 0), read(src, 16)], Kind::Move);
        }
    }

    /// A number in a general register.
    pub(super) fn number(&mut self, number: i64) -> VReg {
        let reg = self.f.reg(Class::General);
        let (first, bits) = match number < 0 {
            true => (words::MOVN, !number),
            false => (words::MOVZ, number),
        };
        self.push(first | (bits as u32 & 0xffff) << 5, vec![write(reg, 0)], Kind::Plain);
        for part in 1..4 {
            let piece = (number >> (16 * part)) as u32 & 0xffff;
            if (bits >> (16 * part)) as u32 & 0xffff != 0 {
                self.push(words::MOVK | part << 21 | piece << 5, vec![update(reg, 0)], Kind::Plain);
            }
        }
        reg
    }

    /// Forgets addresses computed from a pointer that moved.
    pub(super) fn moved(&mut self, pointer: VReg) {
        self.addresses.retain(|key, _| key.0 != pointer);
    }
}
