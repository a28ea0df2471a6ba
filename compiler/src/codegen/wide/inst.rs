//! Instructions over virtual registers: what selection writes and the allocator reads.

use super::rows::{Kind, Op};
use crate::codegen::live::Instruction;
pub use crate::codegen::live::{Class, VReg};
use crate::tile::Lane;
use std::collections::HashSet;

/// Lanes' bytes.
pub fn lane_size(lane: Lane) -> usize {
    match lane {
        Lane::F16 => 2,
        Lane::F32 | Lane::I32 | Lane::M32 => 4,
        Lane::F64 | Lane::I64 | Lane::M64 => 8,
    }
}

/// Where a memory operand begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Base {
    /// An address in a general register.
    Reg(VReg),
    /// A constant, by number.
    Pool(u32),
    /// A part of the stack, by number.
    Slot(u32),
}

/// A memory operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mem {
    /// Where it begins.
    pub base: Base,
    /// A general register added, times 1, 2, 4 or 8.
    pub index: Option<(VReg, u32)>,
    /// Bytes added.
    pub disp: i64,
    /// One element, broadcast by the instruction itself.
    pub broadcast: bool,
}

impl Mem {
    /// A place without index or displacement.
    pub fn at(base: Base) -> Mem {
        Mem { base, index: None, disp: 0, broadcast: false }
    }

    /// The place some bytes further.
    pub fn offset(self, bytes: i64) -> Mem {
        Mem { disp: self.disp + bytes, ..self }
    }

    /// The registers of the address.
    pub fn regs(&self) -> impl Iterator<Item = VReg> {
        let base = match self.base {
            Base::Reg(r) => Some(r),
            _ => None,
        };
        base.into_iter().chain(self.index.map(|i| i.0))
    }
}

/// An operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Arg {
    /// A register.
    Reg(VReg),
    /// Memory.
    Mem(Mem),
    /// A number; for jumps and labels the label's.
    Imm(i64),
}

impl From<VReg> for Arg {
    fn from(r: VReg) -> Arg {
        Arg::Reg(r)
    }
}

impl From<Mem> for Arg {
    fn from(m: Mem) -> Arg {
        Arg::Mem(m)
    }
}

/// An instruction.
#[derive(Clone, Debug, PartialEq)]
pub struct Inst {
    /// Which.
    pub op: Op,
    /// Bytes of its vectors: 16, 32 or 64.
    pub width: usize,
    /// One per operand of the row.
    pub args: Vec<Arg>,
    /// The lanes written.
    pub mask: Option<VReg>,
    /// Whether the other lanes keep the destination's value; otherwise they become zero.
    pub merge: bool,
    /// Loops around it.
    pub depth: u32,
}

impl Instruction for Inst {
    fn visit(&self, mut f: impl FnMut(VReg, bool, bool)) {
        for (arg, operand) in self.args.iter().zip(self.op.operands()) {
            match arg {
                Arg::Reg(r) => f(*r, operand.read || (operand.written && self.merge), operand.written),
                Arg::Mem(m) => m.regs().for_each(|r| f(r, true, false)),
                Arg::Imm(_) => {}
            }
        }
        self.mask.into_iter().for_each(|m| f(m, true, false));
    }

    fn depth(&self) -> u32 {
        self.depth
    }

    fn leave_loop(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    fn label(&self) -> Option<i64> {
        match (self.op, self.args.first()) {
            (Op::Label, Some(Arg::Imm(label))) => Some(*label),
            _ => None,
        }
    }

    fn jump(&self) -> Option<i64> {
        use Op::*;
        match (self.op, self.args.first()) {
            (Jmp | Je | Jne | Jl | Jge | Jg | Js, Some(Arg::Imm(label))) => Some(*label),
            _ => None,
        }
    }

    fn falls(&self) -> bool {
        !matches!(self.op, Op::Jmp | Op::Ret)
    }
}

impl Inst {
    /// Whether an operand is memory.
    pub fn has_memory(&self) -> bool {
        self.args.iter().any(|a| matches!(a, Arg::Mem(_)))
    }

    /// Whether it writes memory.
    pub fn stores(&self) -> bool {
        let first = self.op.operands().first();
        matches!(self.args.first(), Some(Arg::Mem(_)))
            && self.op != Op::Prefetch
            && first.is_some_and(|o| o.kind == Kind::Mem || o.written)
    }

    /// Whether it begins or ends a straight run of instructions.
    pub fn is_control(&self) -> bool {
        self.op == Op::Label || self.jump().is_some() || self.op == Op::Ret
    }
}

/// How the value of a register can be had again without keeping it.
#[derive(Clone, Debug, PartialEq)]
pub enum Again {
    /// It cannot.
    No,
    /// A constant vector: its bytes, and the size of the element it repeats (0: none).
    Vector(Vec<u8>, usize),
    /// A constant mask.
    Mask(u32),
    /// A load whose memory and address stay the same up to the last use.
    Load(Box<Inst>),
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
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Function {
    /// The instructions, in order.
    pub insts: Vec<Inst>,
    /// The registers.
    pub regs: Vec<RegInfo>,
    /// Constants, each once.
    pub pool: Vec<Vec<u8>>,
    /// Labels so far.
    pub labels: i64,
    /// Bytes of each slot of the stack.
    pub slots: Vec<usize>,
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
    pub fn constant(&mut self, bytes: &[u8]) -> u32 {
        let known = self.pool.iter().position(|p| p == bytes);
        known.unwrap_or_else(|| {
            self.pool.push(bytes.to_vec());
            self.pool.len() - 1
        }) as u32
    }

    /// Whether there are vectors on the stack.
    pub fn aligned_stack(&self) -> bool {
        self.slots.iter().any(|&s| s > 8)
    }

    /// A new label.
    pub fn label(&mut self) -> i64 {
        self.labels += 1;
        self.labels
    }
}
