//! Keeps a value in memory: in a slot of the stack, or, where it is a constant, after the code.
//!
//! Uses become memory operands where the instruction takes one, else loads into a short-lived
//! register.

use super::Isa;
use super::fold::{broadcast_size, replace};
use super::inst::{Again, Arg, Base, Class, Function, Inst, Mem, VReg};
use super::rows::{Kind, Op};
use crate::codegen::live::Instruction;

/// Rewrites a function so that a register is not needed.
pub fn spill(f: &mut Function, isa: Isa, reg: VReg) {
    let info = f.regs[reg as usize].clone();
    let home = match &info.again {
        Again::No => {
            f.slots.push(if info.class == Class::Vector { isa.vector_bytes() } else { 8 });
            Home::Slot(Mem::at(Base::Slot(f.slots.len() as u32 - 1)))
        }
        Again::Vector(bytes, element) => Home::Constant(bytes.clone(), *element),
        Again::Mask(bits) => Home::Mask(*bits),
        Again::Load(load) => Home::Load((**load).clone()),
    };
    // Loads through a pointer that is no longer kept cannot be repeated.
    for other in &mut f.regs {
        if matches!(&other.again, Again::Load(load) if load.uses(reg).0) {
            other.again = Again::No;
        }
    }
    let insts = std::mem::take(&mut f.insts);
    for inst in insts {
        let (read, written) = inst.uses(reg);
        match (read, written, &home) {
            (false, false, _) => f.insts.push(inst),
            // The definition.
            (false, true, Home::Constant(..) | Home::Mask(_) | Home::Load(_)) => {}
            _ => rewrite(f, isa, inst, reg, &home, (read, written)),
        }
    }
}

enum Home {
    Slot(Mem),
    Constant(Vec<u8>, usize),
    Mask(u32),
    Load(Inst),
}

fn rewrite(f: &mut Function, isa: Isa, inst: Inst, reg: VReg, home: &Home, (read, written): (bool, bool)) {
    if let Some(folded) = folded(f, isa, &inst, reg, home) {
        return f.insts.push(folded);
    }
    let class = f.regs[reg as usize].class;
    let short = f.reg(class);
    f.regs[short as usize].short = true;
    let depth = inst.depth;
    let width = isa.vector_bytes();
    let make = |op: Op, args: Vec<Arg>| Inst { op, width, args, mask: None, merge: false, depth };
    if read {
        match home {
            Home::Slot(slot) => f.insts.push(make(load(class), vec![short.into(), (*slot).into()])),
            Home::Constant(bytes, element) => {
                let (op, len) = match element {
                    4 => (Op::Broadcast32, 4),
                    8 => (Op::Broadcast64, 8),
                    _ => (Op::Load, width),
                };
                let mem = Mem::at(Base::Pool(f.constant(&bytes[..len])));
                f.insts.push(make(op, vec![short.into(), mem.into()]));
            }
            Home::Load(load) => f.insts.push(Inst { depth, ..renamed(load.clone(), reg, short) }),
            Home::Mask(bits) => {
                let gpr = f.reg(Class::General);
                f.regs[gpr as usize].short = true;
                f.insts.push(make(Op::MovImm, vec![gpr.into(), Arg::Imm(i64::from(*bits))]));
                f.insts.push(make(Op::KFromGpr, vec![short.into(), gpr.into()]));
            }
        }
    }
    f.insts.push(renamed(inst, reg, short));
    if let (true, Home::Slot(slot)) = (written, home) {
        f.insts.push(make(store(class), vec![(*slot).into(), short.into()]));
    }
}

/// The instruction with the value as a memory operand, where it takes one.
fn folded(f: &mut Function, isa: Isa, inst: &Inst, reg: VReg, home: &Home) -> Option<Inst> {
    match home {
        Home::Slot(slot) => {
            let place = inst.args.iter().position(|a| *a == Arg::Reg(reg))?;
            let operand = inst.op.operands()[place];
            // A vector is written to its slot whole; elsewhere only the operand's bytes are touched.
            let whole = !operand.written || operand.kind == Kind::Gpr64 || operand.kind == Kind::Gpr32;
            if inst.mask.is_some() || !whole {
                return None;
            }
            replace(inst, reg, *slot, 0)
        }
        Home::Constant(bytes, element) if isa.masks && *element > 0 => {
            let mem = Mem { broadcast: true, ..Mem::at(Base::Pool(f.constant(&bytes[..*element]))) };
            replace(inst, reg, mem, *element)
        }
        Home::Constant(bytes, _) => {
            let place = inst.args.iter().position(|a| *a == Arg::Reg(reg))?;
            if inst.mask.is_some() || !matches!(inst.op.operands()[place].kind, Kind::Vector(1)) {
                return None;
            }
            let found = replace(inst, reg, Mem::at(Base::Pool(0)), 0)?;
            let mem = Mem::at(Base::Pool(f.constant(&bytes[..inst.width])));
            let swap = |a: &Arg| if matches!(a, Arg::Mem(_)) { Arg::Mem(mem) } else { *a };
            Some(Inst { args: found.args.iter().map(swap).collect(), ..found })
        }
        Home::Load(load) => {
            let broadcast = load.op != Op::Load;
            let Arg::Mem(mem) = load.args[1] else { return None };
            let fits = if broadcast { isa.masks } else { load.width == inst.width };
            fits.then(|| replace(inst, reg, Mem { broadcast, ..mem }, broadcast_size(load.op)))?
        }
        Home::Mask(_) => None,
    }
}

fn load(class: Class) -> Op {
    match class {
        Class::Vector => Op::Load,
        Class::Mask => Op::KLoad,
        Class::General => Op::Mov,
    }
}

fn store(class: Class) -> Op {
    match class {
        Class::Vector => Op::Store,
        Class::Mask => Op::KStore,
        Class::General => Op::MovStore,
    }
}

fn renamed(mut inst: Inst, from: VReg, to: VReg) -> Inst {
    let base = |b: Base| if b == Base::Reg(from) { Base::Reg(to) } else { b };
    for arg in &mut inst.args {
        match arg {
            Arg::Reg(r) if *r == from => *r = to,
            Arg::Mem(m) => {
                m.base = base(m.base);
                m.index = m.index.map(|(r, s)| (if r == from { to } else { r }, s));
            }
            _ => {}
        }
    }
    inst.mask = inst.mask.map(|m| if m == from { to } else { m });
    inst
}
