//! The registers of aarch64, and what it costs to do without one.

use super::inst::{Again, Class, Field, Function, Inst, Kind, VReg};
use super::spill;
use super::words;
use crate::codegen::allocate::{Registers, Tuple, length, often};
use crate::codegen::live::{Instruction, Ranges};

/// Numbers of the general registers in the order of use: those that callees keep last; not x18,
/// which belongs to the platform, and not x29, the frame pointer.
const GENERAL: &[u8] = &[
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 30,
];

/// Numbers of the vector registers in the order of use: those whose lower halves callees keep last.
const VECTORS: &[u8] = &[
    0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 8, 9, 10, 11, 12,
    13, 14, 15,
];

/// The number of x0, which the argument comes in.
const ARGUMENT: u8 = 0;

impl Registers for Function {
    type Inst = Inst;

    fn insts(&self) -> &[Inst] {
        &self.insts
    }

    fn insts_mut(&mut self) -> &mut Vec<Inst> {
        &mut self.insts
    }

    fn result(&self, inst: &Inst) -> Option<VReg> {
        let [to, from @ ..] = &inst.fields[..] else { return None };
        let kept = |field: &Field| {
            !field.written && (self.class(field.reg) == Class::Vector || self.stays.contains(&field.reg))
        };
        let alone = to.written && !to.read && from.iter().all(kept);
        let plain = matches!(inst.kind, Kind::Plain | Kind::Literal(_));
        (plain && alone && self.class(to.reg) == Class::Vector).then_some(to.reg)
    }

    fn count(&self) -> usize {
        self.regs.len()
    }

    fn class(&self, reg: VReg) -> Class {
        self.regs[reg as usize].class
    }

    fn is_short(&self, reg: VReg) -> bool {
        self.regs[reg as usize].short
    }

    fn argument(&self) -> Option<(VReg, u8)> {
        self.insts.iter().find(|i| i.kind == Kind::Arguments).map(|i| (i.fields[0].reg, ARGUMENT))
    }

    fn partners(&self, inst: &Inst) -> Option<(VReg, VReg)> {
        (inst.kind == Kind::Move).then(|| (inst.fields[0].reg, inst.fields[1].reg))
    }

    fn tuples(&self) -> Vec<Tuple> {
        let tuple = |inst: &Inst| {
            let (count, required) = match inst.kind {
                Kind::Tuple { count, .. } | Kind::Turns(count) => (count, false),
                Kind::Table(count) => (count, true),
                _ => return None,
            };
            let regs = inst.fields[..usize::from(count)].iter().map(|f| f.reg).collect();
            Some(Tuple { regs, required })
        };
        self.insts.iter().filter_map(tuple).collect()
    }

    fn lower(&self) -> Vec<VReg> {
        let last = |inst: &Inst| inst.fields.iter().find(|field| field.at == 16).map(|field| field.reg);
        self.insts.iter().filter(|inst| words::takes_lower(inst.word)).filter_map(last).collect()
    }

    fn file(&self, class: Class) -> Vec<u8> {
        match class {
            Class::Vector => VECTORS.to_vec(),
            Class::General => GENERAL.to_vec(),
            Class::Mask => Vec::new(),
        }
    }

    /// Loads and stores; a constant is made again once in each straight run that needs it.
    fn costs(&self) -> Vec<f64> {
        let mut costs = vec![0.0; self.regs.len()];
        let mut run = 0u32;
        let mut made = vec![u32::MAX; self.regs.len()];
        for inst in &self.insts {
            if inst.label().is_some() || inst.jump().is_some() {
                run += 1;
            }
            inst.visit(|r, read, written| {
                let r = r as usize;
                let accesses = match self.regs[r].again {
                    Again::No => u8::from(read) + u8::from(written),
                    Again::Constant(_) => u8::from(read && std::mem::replace(&mut made[r], run) != run),
                };
                costs[r] += often(inst) * f64::from(accesses);
            });
        }
        costs
    }

    /// The time that a register is free: what lives longest here are constants, and to make these again
    /// takes fewer instructions than to load and store (measured on products by Winograd's method).
    fn gains(&self, ranges: &[Ranges]) -> Vec<f64> {
        ranges.iter().map(|r| f64::from(length(r))).collect()
    }

    fn spill(&mut self, reg: VReg) {
        spill::spill(self, reg);
    }
}
