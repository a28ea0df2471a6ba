//! Instructions over virtual registers: an encoding with its register fields open, and what fills
//! them. The encodings are in `words`.

use crate::codegen::live::Instruction;
pub use crate::codegen::live::{Class, VReg};
use std::collections::HashSet;

/// The place of a register that stands in no field of an instruction.
pub const NOWHERE: u8 = u8::MAX;

/// A register field of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// What fills it.
    pub reg: VReg,
    /// Its lowest bit, or [`NOWHERE`].
    pub at: u8,
    /// The value is used.
    pub read: bool,
    /// The value is replaced.
    pub written: bool,
}

/// What an instruction is beside its encoding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Nothing else; without effect where what it writes is not read.
    Plain,
    /// A store.
    Store,
    /// A store of so many registers, which have to be consecutive, an element of each in turn. The address
    /// follows in the fields.
    Turns(u8),
    /// Sets the flags, or reads them.
    Flags,
    /// A move between registers of one file: nothing where they are one.
    Move,
    /// Gives the value of the first argument of the function.
    Arguments,
    /// A place that is jumped to.
    Label(i64),
    /// A jump whose distance begins at bit 5 (19 bits), or, unconditional, at bit 0 (26 bits).
    Jump(i64),
    /// Returns 0.
    Return,
    /// A load of a constant by number, relative to itself.
    Literal(u32),
    /// A load or store of a slot of the stack by number.
    Slot(u32),
    /// Picks bytes out of so many registers, which have to be consecutive and stand first in the fields.
    Table(u8),
    /// A load of several registers, which have to be consecutive: of 16 bytes each or (`copies`) of an
    /// element for all lanes. The address follows in the fields.
    Tuple {
        /// How many.
        count: u8,
        /// Each is one element in every lane.
        copies: bool,
    },
}

/// An instruction.
#[derive(Clone, Debug, PartialEq)]
pub struct Inst {
    /// The encoding, register fields zero.
    pub word: u32,
    /// Its registers, as many as are used.
    pub fields: Vec<Field>,
    /// What else it is.
    pub kind: Kind,
    /// Loops around it.
    pub depth: u32,
}

impl Instruction for Inst {
    fn visit(&self, mut f: impl FnMut(VReg, bool, bool)) {
        self.fields.iter().for_each(|field| f(field.reg, field.read, field.written));
    }

    fn depth(&self) -> u32 {
        self.depth
    }

    fn leave_loop(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    fn label(&self) -> Option<i64> {
        if let Kind::Label(label) = self.kind { Some(label) } else { None }
    }

    fn jump(&self) -> Option<i64> {
        if let Kind::Jump(label) = self.kind { Some(label) } else { None }
    }

    fn falls(&self) -> bool {
        match self.kind {
            Kind::Return => false,
            Kind::Jump(_) => self.word != super::words::B,
            _ => true,
        }
    }
}

/// How the value of a register can be had again without keeping it.
#[derive(Clone, Debug, PartialEq)]
pub enum Again {
    /// It cannot.
    No,
    /// It is a constant vector: the instruction that makes it.
    Constant(Box<Inst>),
}

/// A virtual register.
#[derive(Clone, Debug, PartialEq)]
pub struct RegInfo {
    /// Its file.
    pub class: Class,
    /// How to have its value again.
    pub again: Again,
    /// It lives for one instruction: keeping it in memory would gain nothing.
    pub short: bool,
}

/// A kernel as instructions.
#[derive(Clone, Debug, Default)]
pub struct Function {
    /// The instructions, in order.
    pub insts: Vec<Inst>,
    /// The registers.
    pub regs: Vec<RegInfo>,
    /// Constants of 16 bytes, each once.
    pub pool: Vec<[u8; 16]>,
    /// Labels so far.
    pub labels: i64,
    /// Slots of the stack, of 16 bytes each.
    pub slots: u32,
    /// Pointers to what the kernel only reads.
    pub stays: HashSet<VReg>,
}

impl Function {
    /// A new register.
    pub fn reg(&mut self, class: Class) -> VReg {
        self.regs.push(RegInfo { class, again: Again::No, short: false });
        (self.regs.len() - 1) as VReg
    }

    /// A constant's number.
    pub fn constant(&mut self, bytes: [u8; 16]) -> u32 {
        let known = self.pool.iter().position(|p| *p == bytes);
        known.unwrap_or_else(|| {
            self.pool.push(bytes);
            self.pool.len() - 1
        }) as u32
    }

    /// A new label.
    pub fn label(&mut self) -> i64 {
        self.labels += 1;
        self.labels
    }
}

/// A field that is read.
pub fn read(reg: VReg, at: u8) -> Field {
    Field { reg, at, read: true, written: false }
}

/// A field that is written.
pub fn write(reg: VReg, at: u8) -> Field {
    Field { reg, at, read: false, written: true }
}

/// A field that is read and written.
pub fn update(reg: VReg, at: u8) -> Field {
    Field { reg, at, read: true, written: true }
}

/// Removes instructions whose results nothing reads.
pub fn drop_unused(f: &mut Function) {
    loop {
        let mut read = vec![false; f.regs.len()];
        for inst in &f.insts {
            // What an instruction reads of its own result does not count.
            let own = |r: VReg| inst.fields.iter().any(|field| field.written && field.reg == r);
            let pure = matches!(inst.kind, Kind::Plain | Kind::Table(_) | Kind::Move | Kind::Literal(_));
            inst.visit(|r, reads, _| read[r as usize] |= reads && !(pure && own(r)));
        }
        let before = f.insts.len();
        f.insts.retain(|inst| {
            let pure = matches!(inst.kind, Kind::Plain | Kind::Table(_) | Kind::Move | Kind::Literal(_));
            !pure || inst.fields.iter().any(|field| field.written && read[field.reg as usize])
        });
        if f.insts.len() == before {
            return;
        }
    }
}
