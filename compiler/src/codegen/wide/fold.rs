//! Loads into the instruction that uses them.
//!
//! A load whose value is used once becomes that instruction's memory operand; with embedded
//! broadcast also one used twice, where the core loads as often as it multiplies. Only within a straight run of
//! instructions that changes neither memory nor the address. Other loads of that kind are marked, so
//! that the allocator may repeat them rather than keep their values. Before that, vectors of different lengths share
//! what spreads an element.

use super::Isa;
use super::inst::{Again, Arg, Class, Function, Inst, Mem, VReg};
use super::rows::{Kind, Op};
use crate::codegen::live::Instruction;
use std::collections::HashMap;

/// Most uses of one element that are worth a memory operand each. Two multiply-adds a cycle leave no load to spare
/// (Golden Cove: tiles of 12 to 14 rows and two vectors of 512 bits take .88 to .95 of the time with broadcasts of
/// their own).
fn broadcast_uses(width: usize, isa: Isa) -> usize {
    match isa.masks {
        true if width == 64 && !isa.twice => 2,
        true => 1,
        false => 0,
    }
}

/// Bytes of the element that a broadcast spreads.
pub fn broadcast_size(op: Op) -> usize {
    match op {
        Op::Broadcast16 => 2,
        Op::Broadcast64 => 8,
        _ => 4,
    }
}

/// Where a load's value is used.
struct Load {
    at: usize,
    mem: Mem,
    reg: VReg,
    uses: Vec<usize>,
}

/// The register and place of a plain load or broadcast.
fn plain_load(inst: &Inst) -> Option<(VReg, Mem)> {
    match (inst.op, &inst.args[..]) {
        _ if inst.mask.is_some() => None,
        (Op::Load, [Arg::Reg(r), Arg::Mem(m)]) => Some((*r, *m)),
        (Op::Broadcast16 | Op::Broadcast32 | Op::Broadcast64, [Arg::Reg(r), Arg::Mem(m)]) => {
            Some((*r, Mem { broadcast: true, ..*m }))
        }
        _ => None,
    }
}

/// Puts a memory operand in the place of a register, if the instruction takes one there.
pub fn replace(inst: &Inst, reg: VReg, mem: Mem, size: usize) -> Option<Inst> {
    let operands = inst.op.operands();
    let places: Vec<usize> = (0..inst.args.len()).filter(|&i| inst.args[i] == Arg::Reg(reg)).collect();
    let [place] = places[..] else { return None };
    if inst.has_memory() || inst.mask == Some(reg) || (mem.broadcast && inst.mask.is_some() && inst.merge) {
        return None;
    }
    let takes = |place: usize| match mem.broadcast {
        true => operands[place].broadcast == size,
        false => operands[place].memory || operands[place].broadcast > 0,
    };
    let mut replaced = inst.clone();
    let place = if takes(place) {
        place
    } else if inst.op.commutes() && place == 1 && takes(2) {
        replaced.args.swap(1, 2);
        2
    } else {
        return None;
    };
    replaced.args[place] = Arg::Mem(mem);
    Some(replaced)
}

/// Leaves out what computes registers that nothing reads.
pub fn drop_unused(f: &mut Function) {
    loop {
        let mut read = vec![false; f.regs.len()];
        for inst in &f.insts {
            // What an instruction reads of its own result does not count.
            let own = inst.args.first().filter(|_| inst.op.operands()[0].written);
            inst.visit(|r, reads, _| read[r as usize] |= reads && own != Some(&Arg::Reg(r)));
        }
        let count = f.insts.len();
        f.insts.retain(|inst| match inst.args.first() {
            Some(Arg::Reg(r)) if !inst.is_control() && inst.op.operands()[0].written => {
                read[*r as usize] || f.regs[*r as usize].class == Class::General
            }
            _ => true,
        });
        if f.insts.len() == count {
            return;
        }
    }
}

/// How often each register is written, and read.
fn counted(f: &Function) -> Vec<(usize, usize)> {
    let mut counts = vec![(0usize, 0usize); f.regs.len()];
    for inst in &f.insts {
        inst.visit(|r, read, written| {
            counts[r as usize].0 += usize::from(written);
            counts[r as usize].1 += usize::from(read);
        });
    }
    counts
}

/// Lets vectors of different lengths share the element that is spread in them: a shorter one is part of a longer one,
/// as at the end of 12 or 20 channels. Not where instructions spread the elements of memory themselves.
pub fn share(f: &mut Function, isa: Isa) {
    if isa.masks {
        return;
    }
    let counts = counted(f);
    let mut known: Vec<(Inst, VReg, Mem)> = Vec::new();
    let mut shared: HashMap<VReg, VReg> = HashMap::new();
    for inst in &f.insts {
        if inst.is_control() || inst.stores() {
            known.clear();
        }
        let spread = plain_load(inst).filter(|(r, mem)| mem.broadcast && counts[*r as usize].0 == 1);
        let Some((reg, mem)) = spread else {
            inst.visit(|r, _, written| {
                known.retain(|(.., mem)| !(written && mem.regs().any(|m| m == r)));
            });
            continue;
        };
        let longer = known.iter().find(|(of, _, m)| *m == mem && of.op == inst.op && of.width >= inst.width);
        match longer {
            Some(&(_, longer, _)) => _ = shared.insert(reg, longer),
            None => known.push((inst.clone(), reg, mem)),
        }
    }
    f.insts.retain(|inst| plain_load(inst).is_none_or(|(reg, _)| !shared.contains_key(&reg)));
    for arg in f.insts.iter_mut().flat_map(|inst| &mut inst.args) {
        if let Arg::Reg(reg) = arg {
            *reg = shared.get(reg).copied().unwrap_or(*reg);
        }
    }
}

/// Folds what can be folded.
pub fn fold(f: &mut Function, isa: Isa) {
    let counts = counted(f);
    let mut dead = vec![false; f.insts.len()];
    let mut start = 0;
    while start < f.insts.len() {
        let len = f.insts[start..]
            .iter()
            .position(|i| i.is_control() || i.stores())
            .unwrap_or(f.insts.len() - start);
        for at in (start..start + len).rev() {
            let Some((reg, mem)) = plain_load(&f.insts[at]) else { continue };
            let (defs, uses) = counts[reg as usize];
            if defs != 1 || f.regs[reg as usize].class != Class::Vector {
                continue;
            }
            // The instruction that ends the run may still take the operand: it reads before it writes.
            let end = (start + len + 1).min(f.insts.len());
            let Some(load) = find_uses(&f.insts[at..end], at, reg, mem, uses) else { continue };
            let most = if mem.broadcast { broadcast_uses(f.insts[at].width, isa) } else { 1 };
            dead[at] = uses <= most && apply(f, &load);
            if !dead[at] {
                f.regs[reg as usize].again = Again::Load(Box::new(f.insts[at].clone()));
            }
        }
        start += len + 1;
    }
    let mut keep = dead.iter().map(|d| !d);
    f.insts.retain(|_| keep.next().unwrap_or(true));
}

fn find_uses(insts: &[Inst], at: usize, reg: VReg, mem: Mem, expected: usize) -> Option<Load> {
    let mut uses = Vec::new();
    for (i, inst) in insts.iter().enumerate().skip(1) {
        let mut reads = false;
        let mut moved = false;
        inst.visit(|r, read, written| {
            reads |= r == reg && read;
            moved |= written && mem.regs().any(|m| m == r);
        });
        if reads {
            uses.push(at + i);
        }
        if moved || uses.len() == expected {
            break;
        }
    }
    (uses.len() == expected).then_some(Load { at, mem, reg, uses })
}

fn apply(f: &mut Function, load: &Load) -> bool {
    let origin = &f.insts[load.at];
    let size = broadcast_size(origin.op);
    let fits = |inst: &Inst| {
        let mut operands = inst.args.iter().zip(inst.op.operands());
        let whole = |kind: Kind| kind.bytes(inst.width) == Some(origin.width);
        load.mem.broadcast || operands.any(|(a, o)| *a == Arg::Reg(load.reg) && whole(o.kind))
    };
    let replaced: Option<Vec<Inst>> = load
        .uses
        .iter()
        .map(|&u| Some(&f.insts[u]).filter(|i| fits(i)).and_then(|i| replace(i, load.reg, load.mem, size)))
        .collect();
    let Some(replaced) = replaced else { return false };
    load.uses.iter().zip(replaced).for_each(|(&u, inst)| f.insts[u] = inst);
    true
}
