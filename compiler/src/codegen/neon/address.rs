//! Addresses: displacements from running pointers, as far as the instructions reach.

use super::Result;
use super::inst::{Class, Inst, Kind, VReg, read, update, write};
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
        let mut mem = mem;
        if form.encoded(mem.disp).is_none() {
            let near = mem.disp & !0xfff;
            let near = if form.encoded(mem.disp - near).is_some() { near } else { mem.disp };
            mem = Mem { base: self.address(mem.base, near), disp: mem.disp - near };
        }
        let field = if load { write(reg, 0) } else { read(reg, 0) };
        let kind = if load { Kind::Plain } else { Kind::Store };
        self.push(form.encoded(mem.disp).unwrap_or(form.scaled), vec![field, read(mem.base, 5)], kind);
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
        if number.unsigned_abs() >= FAR as u64 {
            let big = self.number(number);
            return self.push(words::ADD, vec![write(dst, 0), read(src, 5), read(big, 16)], Kind::Plain);
        }
        self.f.insts.extend(sum(dst, src, number, self.walk.depth));
    }

    /// A number in a general register.
    pub(super) fn number(&mut self, number: i64) -> VReg {
        let reg = self.f.reg(Class::General);
        self.f.insts.extend(self::number(reg, number, self.walk.depth));
        reg
    }

    /// Forgets addresses computed from a pointer that moved.
    pub(super) fn moved(&mut self, pointer: VReg) {
        self.addresses.retain(|key, _| key.0 != pointer);
    }
}

/// What is added to a pointer by instructions with a number in them is less.
pub const FAR: i64 = 1 << 24;

/// `dst = src + number`, of general registers, of less than [`FAR`].
pub fn sum(dst: VReg, src: VReg, number: i64, depth: u32) -> Vec<Inst> {
    let word = if number < 0 { words::SUB_IMM } else { words::ADD_IMM };
    let size = number.unsigned_abs();
    let (high, low) = ((size >> 12) as u32, (size & 0xfff) as u32);
    let fields = [(high != 0).then_some(1 << 22 | high << 10), (low != 0).then_some(low << 10)];
    let mut insts = Vec::new();
    let mut from = src;
    for field in fields.into_iter().flatten() {
        let fields = vec![write(dst, 0), read(from, 5)];
        insts.push(Inst { word: word | field, fields, kind: Kind::Plain, depth });
        from = dst;
    }
    if from != dst {
        let fields = vec![write(dst, 0), read(src, 16)];
        insts.push(Inst { word: words::MOV_X, fields, kind: Kind::Move, depth });
    }
    insts
}

/// The number that an instruction adds to a general register.
pub fn added(inst: &Inst) -> Option<i64> {
    let number = i64::from(inst.word >> 10 & 0xfff) << (12 * (inst.word >> 22 & 1));
    match inst.word & 0xff80_0000 {
        words::ADD_IMM => Some(number),
        words::SUB_IMM => Some(-number),
        _ => None,
    }
}

/// A number in a general register.
pub fn number(reg: VReg, number: i64, depth: u32) -> Vec<Inst> {
    let (first, bits) = match number < 0 {
        true => (words::MOVN, !number),
        false => (words::MOVZ, number),
    };
    let word = first | (bits as u32 & 0xffff) << 5;
    let mut insts = vec![Inst { word, fields: vec![write(reg, 0)], kind: Kind::Plain, depth }];
    for part in 1..4 {
        let piece = (number >> (16 * part)) as u32 & 0xffff;
        if (bits >> (16 * part)) as u32 & 0xffff != 0 {
            let word = words::MOVK | part << 21 | piece << 5;
            insts.push(Inst { word, fields: vec![update(reg, 0)], kind: Kind::Plain, depth });
        }
    }
    insts
}
