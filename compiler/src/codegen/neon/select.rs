//! A kernel to instructions on virtual registers: the state, and the forms that values have.
//!
//! A register of the language is one or more vectors of four lanes, or of eight half floats. A value is brought to
//! that form only where it is needed so: an element that fills all lanes stays a lane of what was loaded, for
//! instructions by element, and bytes stay bytes for instructions that widen.

use super::Result;
use super::inst::{Again, Class, Field, Function, Inst, Kind, VReg, read, update, write};
use super::isa::Isa;
use super::sizes::split;
use super::words;
use crate::codegen::blocks::{Turned, are_words, blocks};
use crate::codegen::loops::{Loops, Walk};
use crate::codegen::planes::{Stored, Takes, planes};
use crate::codegen::pointer::Asked;
use crate::tile::visit::any;
use crate::tile::{Kernel, Lane, Reg, RegType, Stmt, Value, assignments};
use std::collections::HashMap;

/// The most bytes between accesses through one pointer: what most instructions reach.
const REACH: i64 = 32760;

/// The form a value has.
#[derive(Clone, Debug)]
pub enum Form {
    /// Vectors of whole lanes.
    Words(Vec<VReg>),
    /// A lane of a vector, for all lanes.
    Lane(VReg, usize),
    /// Elements of one or two bytes as loaded, 16 bytes in a vector.
    Narrow {
        /// The vectors.
        raw: Vec<VReg>,
        /// Bytes of an element.
        bytes: usize,
        /// Whether they extend by sign.
        signed: bool,
    },
    /// Words put together from bytes, of which each place has vectors of its own: 16 bytes in a
    /// vector; without one the place is zero.
    Woven(Vec<[Option<VReg>; 4]>),
}

/// What was derived from a value, and need not be again in the same straight run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Derived {
    /// The value in four lanes a vector.
    Words(Reg),
    /// The value in eight lanes of 16 bits a vector.
    Halves(Reg),
    /// A lane of so many bytes in every lane.
    Copies(VReg, usize, usize),
    /// Bytes with their top bits flipped.
    Flipped(VReg),
    /// 128 times the sum of the signed bytes of each lane.
    Excess(VReg),
}

/// Stores that wait for the last of those that they take turns with.
#[derive(Default)]
pub struct Turns {
    /// How many are to come.
    pub(super) left: usize,
    /// What those that came store, vector by vector.
    pub(super) packed: Vec<Vec<VReg>>,
}

/// A kernel being translated.
pub struct Select<'a> {
    pub(super) kernel: &'a Kernel,
    pub(super) isa: Isa,
    pub(super) f: Function,
    pub(super) walk: Walk,
    /// The values of registers assigned in one place.
    single: Vec<Option<&'a Value>>,
    /// Registers assigned in several places.
    fixed: HashMap<Reg, Vec<VReg>>,
    /// Sums of products that are kept as sums of pairs, see `dot`.
    pub(super) split: Vec<bool>,
    forms: HashMap<Reg, Form>,
    pub(super) derived: HashMap<Derived, Vec<VReg>>,
    /// Addresses computed in this straight run.
    pub(super) addresses: HashMap<(VReg, i64), VReg>,
    constants: HashMap<[u8; 16], VReg>,
    pub(super) turns: Turns,
    /// Loads that are turned in blocks.
    pub(super) turned: HashMap<*const Stmt, Turned>,
    /// Stores whose lanes lie apart that are done together.
    pub(super) planes: HashMap<*const Stmt, Stored>,
    pub(super) args: VReg,
    /// Whether bytes become floats by lookups.
    pub(super) looks_up: bool,
}

impl<'a> Select<'a> {
    /// Translates a kernel.
    pub fn run(kernel: &'a Kernel, isa: Isa) -> Result<Function> {
        let mut f = Function::default();
        let args = f.reg(Class::General);
        let all = assignments(kernel);
        let mut select = Select {
            kernel,
            isa,
            f,
            walk: Walk::new(kernel, REACH, Asked::new()),
            single: all.iter().map(|d| if let [one] = d[..] { Some(one) } else { None }).collect(),
            fixed: HashMap::new(),
            split: split(kernel, &all, isa),
            forms: HashMap::new(),
            derived: HashMap::new(),
            addresses: HashMap::new(),
            constants: HashMap::new(),
            turns: Turns::default(),
            turned: blocks(kernel, |ty, dtype| are_words(ty, dtype) && ty.lanes % 4 == 0),
            planes: planes(kernel, Takes::FOUR),
            args,
            looks_up: isa.dot && !any(&kernel.body, &mut |s| matches!(s, Stmt::Let(_, Value::Dot(..)))),
        };
        for stmt in &kernel.body {
            select.load_pointers(kernel, stmt)?;
            select.stmt(stmt)?;
        }
        select.push(words::RET, Vec::new(), Kind::Return);
        select.prelude();
        select.f.stays = select.walk.read_only(kernel).collect();
        Ok(select.f)
    }

    /// Puts the constants before the code.
    fn prelude(&mut self) {
        let code = std::mem::take(&mut self.f.insts);
        self.walk.depth = 0;
        self.push(0, vec![write(self.args, 0)], Kind::Arguments);
        let mut constants: Vec<_> = self.constants.drain().map(|c| c.1).collect();
        constants.sort_unstable();
        for reg in constants {
            if let Again::Constant(inst) = &self.f.regs[reg as usize].again {
                self.f.insts.push((**inst).clone());
            }
        }
        self.f.insts.extend(code);
    }

    /// Writes an instruction.
    pub(super) fn push(&mut self, word: u32, fields: Vec<Field>, kind: Kind) {
        self.f.insts.push(Inst { word, fields, kind, depth: self.walk.depth });
    }

    /// `dst = op(a)`.
    pub(super) fn op1(&mut self, word: u32, dst: VReg, a: VReg) {
        self.push(word, vec![write(dst, 0), read(a, 5)], Kind::Plain);
    }

    /// `dst = op(a, b)`.
    pub(super) fn op2(&mut self, word: u32, dst: VReg, a: VReg, b: VReg) {
        self.push(word, vec![write(dst, 0), read(a, 5), read(b, 16)], Kind::Plain);
    }

    /// `acc = op(acc, a, b)`.
    pub(super) fn op3(&mut self, word: u32, acc: VReg, a: VReg, b: VReg) {
        self.push(word, vec![update(acc, 0), read(a, 5), read(b, 16)], Kind::Plain);
    }

    /// As [`Select::op1`], into a new register.
    pub(super) fn new1(&mut self, word: u32, a: VReg) -> VReg {
        let dst = self.vector();
        self.op1(word, dst, a);
        dst
    }

    /// As [`Select::op2`], into a new register.
    pub(super) fn new2(&mut self, word: u32, a: VReg, b: VReg) -> VReg {
        let dst = self.vector();
        self.op2(word, dst, a, b);
        dst
    }

    /// A new vector register.
    pub(super) fn vector(&mut self) -> VReg {
        self.f.reg(Class::Vector)
    }

    /// `dst = src`, of vectors.
    pub(super) fn copy(&mut self, dst: VReg, src: VReg) {
        if dst != src {
            self.push(words::MOV_V, vec![write(dst, 0), read(src, 5), read(src, 16)], Kind::Move);
        }
    }

    /// The type of a kernel's register.
    pub(super) fn ty(&self, r: Reg) -> RegType {
        self.kernel.regs[r as usize]
    }

    /// The vectors a register of the kernel takes.
    pub(super) fn count(&self, r: Reg) -> usize {
        usize::from(self.ty(r).lanes).div_ceil(self.per_vector(r))
    }

    /// Lanes of a vector of a register.
    pub(super) fn per_vector(&self, r: Reg) -> usize {
        16 / self.lane_bytes(r)
    }

    /// Bytes of a lane of a register.
    pub(super) fn lane_bytes(&self, r: Reg) -> usize {
        if self.ty(r).lane == Lane::F16 { 2 } else { 4 }
    }

    /// The value of a register, where it has only one.
    pub(super) fn single(&self, r: Reg) -> Option<&'a Value> {
        self.single[r as usize]
    }

    /// The bits of a register that is always one constant.
    pub(super) fn constant_reg(&self, r: Reg) -> Option<u32> {
        match self.single(r) {
            Some(Value::Const(bits)) => Some(self.lane_bits(r, *bits)),
            _ => None,
        }
    }

    /// A constant as the lanes of a register hold it.
    pub(super) fn lane_bits(&self, r: Reg, bits: u64) -> u32 {
        match self.ty(r).lane {
            Lane::M32 if bits & 1 != 0 => u32::MAX,
            Lane::M32 => 0,
            Lane::F16 => (bits as u32 & 0xffff) * 0x1_0001,
            _ => bits as u32,
        }
    }

    /// The vectors of a register, to be written: all of them, each by one instruction.
    pub(super) fn target(&mut self, r: Reg) -> Vec<VReg> {
        let new = |s: &mut Self| -> Vec<VReg> {
            let count = s.count(r) * if s.split[r as usize] { 2 } else { 1 };
            (0..count).map(|_| s.vector()).collect()
        };
        if self.single[r as usize].is_some() {
            let parts = new(self);
            self.forms.insert(r, Form::Words(parts.clone()));
            return parts;
        }
        let parts = match self.fixed.get(&r) {
            Some(parts) => parts.clone(),
            None => new(self),
        };
        self.fixed.insert(r, parts.clone());
        parts
    }

    /// Sets a register to a value of any form.
    pub(super) fn define(&mut self, r: Reg, form: Form) -> Result<()> {
        if self.single[r as usize].is_some() {
            self.forms.insert(r, form);
            return Ok(());
        }
        let mut parts = self.in_words(&form, self.count(r), self.lane_bytes(r));
        if self.split[r as usize] {
            parts = self.apart(&parts);
        }
        let target = self.target(r);
        target.iter().zip(parts).for_each(|(&to, from)| self.copy(to, from));
        Ok(())
    }

    /// Forgets what was derived from a register's last value.
    pub(super) fn assigned(&mut self, r: Reg) {
        if let Some(parts) = self.fixed.get(&r) {
            self.derived.retain(|key, _| match key {
                Derived::Words(other) | Derived::Halves(other) => *other != r,
                Derived::Copies(v, ..) | Derived::Flipped(v) | Derived::Excess(v) => !parts.contains(v),
            });
        }
    }

    /// The form of a register that has one value.
    pub(super) fn form(&self, r: Reg) -> Option<&Form> {
        self.forms.get(&r)
    }

    /// The lane that a register repeats.
    pub(super) fn lane(&self, r: Reg) -> Option<(VReg, usize)> {
        if let Some(Form::Lane(v, lane)) = self.forms.get(&r) { Some((*v, *lane)) } else { None }
    }

    /// The vectors of a register, to be read.
    pub(super) fn words(&mut self, r: Reg) -> Result<Vec<VReg>> {
        if let Some(bits) = self.constant_reg(r) {
            let reg = self.splat(bits);
            return Ok(vec![reg; self.count(r)]);
        }
        if let Some(parts) = self.fixed.get(&r) {
            let parts = parts.clone();
            return Ok(if self.split[r as usize] { self.joined(&parts) } else { parts });
        }
        if let Some(known) = self.derived.get(&Derived::Words(r)) {
            return Ok(known.clone());
        }
        let form = self.forms.get(&r).ok_or_else(|| format!("%{r} is read before it is assigned"))?.clone();
        let words = self.in_words(&form, self.count(r), self.lane_bytes(r));
        if !matches!(form, Form::Words(_)) {
            self.derived.insert(Derived::Words(r), words.clone());
        }
        Ok(words)
    }

    fn in_words(&mut self, form: &Form, count: usize, bytes: usize) -> Vec<VReg> {
        match form {
            Form::Words(parts) => parts.clone(),
            Form::Lane(v, lane) => vec![self.copies(*v, bytes, *lane); count],
            Form::Narrow { raw, bytes, signed } => {
                let halves = self.in_halves(raw, *bytes, *signed, 4 * count);
                (0..count).map(|i| self.new1(words::widen(2, *signed, i % 2 == 1), halves[i / 2])).collect()
            }
            Form::Woven(places) => self.woven(places, count),
        }
    }

    /// Elements in lanes of 16 bits.
    fn in_halves(&mut self, raw: &[VReg], bytes: usize, signed: bool, lanes: usize) -> Vec<VReg> {
        if bytes == 2 {
            return raw.to_vec();
        }
        (0..lanes.div_ceil(8)).map(|i| self.new1(words::widen(1, signed, i % 2 == 1), raw[i / 2])).collect()
    }

    /// A register's value in lanes of 16 bits, by sign, where it was loaded from elements that fit.
    pub(super) fn halves(&mut self, r: Reg) -> Option<Vec<VReg>> {
        let Some(Form::Narrow { raw, bytes, signed }) = self.forms.get(&r) else { return None };
        let (raw, bytes, signed) = (raw.clone(), *bytes, *signed);
        if bytes > 1 && !signed {
            return None;
        }
        if let Some(known) = self.derived.get(&Derived::Halves(r)) {
            return Some(known.clone());
        }
        let halves = self.in_halves(&raw, bytes, signed, usize::from(self.ty(r).lanes));
        self.derived.insert(Derived::Halves(r), halves.clone());
        Some(halves)
    }

    /// A lane of so many bytes in every lane.
    pub(super) fn copies(&mut self, v: VReg, bytes: usize, lane: usize) -> VReg {
        let key = Derived::Copies(v, bytes, lane);
        if let Some(known) = self.derived.get(&key) {
            return known[0];
        }
        let copies = self.new1(words::dup(bytes, lane), v);
        self.derived.insert(key, vec![copies]);
        copies
    }

    /// A constant vector that repeats 32 bits.
    pub(super) fn splat(&mut self, bits: u32) -> VReg {
        let mut bytes = [0; 16];
        bytes.chunks_mut(4).for_each(|lane| lane.copy_from_slice(&bits.to_le_bytes()));
        self.constant(bytes)
    }

    /// A constant vector.
    pub(super) fn constant(&mut self, bytes: [u8; 16]) -> VReg {
        if let Some(&reg) = self.constants.get(&bytes) {
            return reg;
        }
        let reg = self.vector();
        let mut inst = self.constant_inst(bytes, reg);
        inst.depth = 0;
        self.f.regs[reg as usize].again = Again::Constant(Box::new(inst));
        self.constants.insert(bytes, reg);
        reg
    }

    /// The instruction that makes a constant vector.
    fn constant_inst(&mut self, bytes: [u8; 16], dst: VReg) -> Inst {
        let words: Vec<u32> = bytes.chunks(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        let same = words.iter().all(|w| *w == words[0]);
        let halves = same && words[0] >> 16 == words[0] & 0xffff;
        let short = same.then(|| words::immediate(words[0])).flatten();
        let short = short.or_else(|| halves.then(|| words::immediate_halves(words[0] as u16)).flatten());
        let (word, kind) = match short {
            Some(word) => (word, Kind::Plain),
            None => (words::LDR_LITERAL, Kind::Literal(self.f.constant(bytes))),
        };
        Inst { word, fields: vec![write(dst, 0)], kind, depth: self.walk.depth }
    }

    /// Sets vectors to a constant.
    pub(super) fn set_constant(&mut self, r: Reg, bits: u64) {
        let bits = self.lane_bits(r, bits);
        let mut bytes = [0; 16];
        bytes.chunks_mut(4).for_each(|lane| lane.copy_from_slice(&bits.to_le_bytes()));
        for part in self.target(r) {
            let inst = self.constant_inst(bytes, part);
            self.f.insts.push(inst);
        }
    }
}
