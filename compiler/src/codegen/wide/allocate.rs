//! The registers of x86_64, and what it costs to do without one.

use super::Isa;
use super::inst::{Again, Arg, Base, Class, Function, Inst, Mem, VReg};
use super::rows::Op;
use super::spill;
use crate::codegen::allocate::{Registers, often};
use crate::codegen::live::Instruction;

/// Numbers of the general registers in the order of use: caller-saved first (rax rcx rdx rsi rdi
/// r8-r11, then rbx r14 r15 rbp r12 r13), those that need longer addresses last.
const GENERAL: &[u8] = &[0, 1, 2, 6, 7, 8, 9, 10, 11, 3, 14, 15, 5, 12, 13];

/// The number of rdi, which the argument comes in.
const ARGUMENT: u8 = 7;

/// The number of rbp, which holds the stack pointer where vectors on the stack are aligned.
const FRAME: u8 = 5;

/// What reading a constant from memory costs beside a load: most instructions take it as an operand.
const FOLDED: f64 = 0.5;

/// What a value that an instruction updates in memory costs beside other stores and loads: the next
/// update waits until the store is done (measured on sums in a loop: 12 cycles in place of 4).
const FORWARDED: f64 = 8.0;

/// A function for the machine that it will run on.
pub struct Allocation<'a> {
    /// The function.
    pub f: &'a mut Function,
    /// The instructions there are.
    pub isa: Isa,
}

impl Registers for Allocation<'_> {
    type Inst = Inst;

    fn insts(&self) -> &[Inst] {
        &self.f.insts
    }

    fn insts_mut(&mut self) -> &mut Vec<Inst> {
        &mut self.f.insts
    }

    fn result(&self, inst: &Inst) -> Option<VReg> {
        let first = inst.op.operands().first()?;
        let Some(&Arg::Reg(reg)) = inst.args.first() else { return None };
        let kept = |arg: &Arg| match arg {
            Arg::Mem(Mem { base: Base::Reg(base), index: None, .. }) => self.f.stays.contains(base),
            Arg::Mem(mem) => matches!(mem.base, Base::Pool(_)),
            Arg::Reg(_) | Arg::Imm(_) => true,
        };
        let alone = first.written && !first.read && inst.mask.is_none() && inst.args.iter().all(kept);
        (alone && self.class(reg) == Class::Vector).then_some(reg)
    }

    fn count(&self) -> usize {
        self.f.regs.len()
    }

    fn class(&self, reg: VReg) -> Class {
        self.f.regs[reg as usize].class
    }

    fn is_short(&self, reg: VReg) -> bool {
        self.f.regs[reg as usize].short
    }

    fn argument(&self) -> Option<(VReg, u8)> {
        let arguments = self.f.insts.iter().find(|i| i.op == Op::Arguments)?;
        if let Arg::Reg(r) = arguments.args[0] { Some((r, ARGUMENT)) } else { None }
    }

    /// Copies, and accumulations that replace their sum.
    fn partners(&self, inst: &Inst) -> Option<(VReg, VReg)> {
        let joins = matches!(inst.op, Op::Movaps | Op::KMove | Op::Mov | Op::Fma16 | Op::Fma32 | Op::Fma64);
        match &inst.args[..] {
            [Arg::Reg(a), Arg::Reg(b), ..] if joins => Some((*a, *b)),
            _ => None,
        }
    }

    fn file(&self, class: Class) -> Vec<u8> {
        let aligned = self.f.aligned_stack();
        match class {
            Class::Vector => (0..if self.isa.masks { 32 } else { 16 }).collect(),
            Class::Mask => (1..8).collect(),
            Class::General => GENERAL.iter().copied().filter(|&n| !aligned || n != FRAME).collect(),
        }
    }

    /// Loads and stores; constants and repeated loads cost less, sums that grow in a loop more.
    fn costs(&self) -> Vec<f64> {
        let mut costs = vec![0.0; self.f.regs.len()];
        for inst in &self.f.insts {
            let mut target = None;
            inst.visit(|r, _, written| target = if written { Some(r) } else { target });
            let updates = |r: VReg, read: bool| read && target == Some(r);
            inst.visit(|r, read, written| {
                let accesses = match self.f.regs[r as usize].again {
                    Again::No if updates(r, read) => FORWARDED,
                    Again::No => f64::from(u8::from(read) + u8::from(written)),
                    _ => f64::from(u8::from(read)) * FOLDED,
                };
                costs[r as usize] += often(inst) * accesses;
            });
        }
        costs
    }

    fn spill(&mut self, reg: VReg) {
        spill::spill(self.f, self.isa, reg);
    }
}
