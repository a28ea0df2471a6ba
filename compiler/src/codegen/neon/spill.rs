//! Keeps a value in a slot of the stack, or makes a constant again where it is needed.

use super::inst::{Again, Class, Field, Function, Inst, Kind, VReg};
use super::words;
use crate::codegen::live::Instruction;

/// Rewrites a function so that a register is needed for shorter times.
pub fn spill(f: &mut Function, reg: VReg) {
    match f.regs[reg as usize].again.clone() {
        Again::No => to_stack(f, reg),
        Again::Constant(inst) => again(f, reg, &inst),
    }
}

/// One constant for all becomes one per straight run, and that one per instruction.
fn again(f: &mut Function, reg: VReg, make: &Inst) {
    let once = f.insts.iter().filter(|i| i.fields.iter().any(|x| x.reg == reg && x.written)).count() == 1;
    let labels = f.insts.iter().any(|i| i.label().is_some() || i.jump().is_some());
    let runs = uses_in_runs(f, reg);
    // A constant that lives in one run already cannot live shorter but for one use.
    let by_run = once && labels && runs;
    let insts = std::mem::take(&mut f.insts);
    let mut current: Option<VReg> = None;
    for inst in insts {
        if inst.label().is_some() || inst.jump().is_some() {
            current = None;
        }
        let (read, written) = inst.uses(reg);
        if written && !read {
            continue;
        }
        if !read {
            f.insts.push(inst);
            continue;
        }
        let local = match current.filter(|_| by_run) {
            Some(local) => local,
            None => {
                let local = f.reg(Class::Vector);
                let made = renamed(Inst { depth: inst.depth, ..make.clone() }, reg_of(make), local);
                f.regs[local as usize].short = !by_run;
                if by_run {
                    f.regs[local as usize].again = Again::Constant(Box::new(made.clone()));
                }
                f.insts.push(made);
                local
            }
        };
        current = Some(local);
        f.insts.push(renamed(inst, reg, local));
    }
}

fn reg_of(make: &Inst) -> VReg {
    make.fields[0].reg
}

/// Whether a register is defined in another straight run than it is read in.
fn uses_in_runs(f: &Function, reg: VReg) -> bool {
    let (mut run, mut defined, mut used) = (0, 0, Vec::new());
    for inst in &f.insts {
        if inst.label().is_some() || inst.jump().is_some() {
            run += 1;
        }
        inst.visit(|r, read, written| {
            if r == reg && written && !read {
                defined = run;
            }
            if r == reg && read {
                used.push(run);
            }
        });
    }
    used.iter().any(|&u| u != defined)
}

fn to_stack(f: &mut Function, reg: VReg) {
    let slot = f.slots;
    f.slots += 1;
    let class = f.regs[reg as usize].class;
    let (load, store) = match class {
        Class::Vector => (words::ldr(16), words::str(16)),
        Class::General | Class::Mask => (words::LDR_X, words::STR_X),
    };
    let insts = std::mem::take(&mut f.insts);
    for inst in insts {
        let (mut read, mut written) = (false, false);
        inst.visit(|r, reads, writes| {
            read |= r == reg && reads;
            written |= r == reg && writes;
        });
        if !read && !written {
            f.insts.push(inst);
            continue;
        }
        let short = f.reg(class);
        f.regs[short as usize].short = true;
        let depth = inst.depth;
        let access =
            |word: u32, field: Field| Inst { word, fields: vec![field], kind: Kind::Slot(slot), depth };
        if read {
            f.insts.push(access(load.scaled, super::inst::write(short, 0)));
        }
        f.insts.push(renamed(inst, reg, short));
        if written {
            f.insts.push(access(store.scaled, super::inst::read(short, 0)));
        }
    }
}

fn renamed(mut inst: Inst, from: VReg, to: VReg) -> Inst {
    inst.fields.iter_mut().filter(|field| field.reg == from).for_each(|field| field.reg = to);
    inst
}
