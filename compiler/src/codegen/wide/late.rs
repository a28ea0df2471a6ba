//! What waits for a product is listed some instructions after it.
//!
//! Without an instruction that adds products of couples, each `vpmaddwd` has a `vpaddd` behind it, which waits for
//! it, and then takes a port that products need as often as one that they do not. Some instructions later its
//! operands are there when it comes, and it goes where there is room (Zen 4, 256 bits: a product and its addition
//! take .69 cycles one behind the other, .66 in this order; ResNet-8 int8 73.6 -> 71.8 us).
//!
//! What waits longer takes registers meanwhile, which a kernel may not have ([`accesses`]).

use super::inst::{Class, Function, Inst};
use super::rows::Op;
use crate::codegen::live::Instruction;
use std::collections::HashMap;

/// How many instructions later (measured: of 4 to 14 ResNet-8 is fastest by 8, others no slower).
const LATER: usize = 8;

/// A function in whose straight runs what reads a product comes later; `None` where nothing adds products.
pub fn listed(f: &Function) -> Option<Function> {
    let adds = |pair: &[Inst]| pair[0].op == Op::Pmaddwd && pair[1].op == Op::Paddd;
    if !f.insts.windows(2).any(adds) {
        return None;
    }
    let ends = |inst: &Inst| inst.is_control() || inst.stores();
    let mut insts = Vec::with_capacity(f.insts.len());
    for run in f.insts.chunk_by(|a, b| !ends(a) && !ends(b)) {
        insts.extend(order(f, run).into_iter().map(|i| run[i].clone()));
    }
    Some(Function { insts, ..f.clone() })
}

/// How often memory is accessed between products.
pub fn accesses(f: &Function) -> usize {
    let runs = f.insts.split(Inst::is_control).filter(|run| run.iter().any(product));
    runs.flatten().filter(|inst| inst.has_memory()).count()
}

/// Whether an instruction multiplies integers, for which others wait.
fn product(inst: &Inst) -> bool {
    matches!(inst.op, Op::Pmaddwd | Op::Pmaddubsw)
}

/// The order of a straight run. What computes no vector sets flags, and stays in order.
fn order(f: &Function, run: &[Inst]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..run.len()).collect();
    if !run.iter().any(product) {
        return order;
    }
    // Who wrote each register last, and the last place of those that have used it since.
    let mut written: HashMap<u32, usize> = HashMap::new();
    let mut used: HashMap<u32, usize> = HashMap::new();
    let mut places: Vec<usize> = Vec::with_capacity(run.len());
    let mut flags = 0;
    for (i, inst) in run.iter().enumerate() {
        let (mut place, mut vector) = (i, false);
        inst.visit(|r, reads, writes| {
            vector |= writes && f.regs[r as usize].class == Class::Vector;
            if let (true, Some(&from)) = (reads, written.get(&r)) {
                place = place.max(places[from] + if product(&run[from]) { LATER } else { 0 });
            }
            if let (true, Some(&last)) = (writes, used.get(&r)) {
                place = place.max(last);
            }
        });
        if !vector {
            place = place.max(flags);
            flags = place;
        }
        inst.visit(|r, _, writes| {
            let last = used.entry(r).or_default();
            *last = place.max(*last);
            if writes {
                written.insert(r, i);
            }
        });
        places.push(place);
    }
    order.sort_by_key(|&i| (places[i], i));
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::wide::inst::{Arg, Base, Mem};

    fn function(rows: usize) -> Function {
        let mut f = Function::default();
        let base = f.reg(Class::General);
        let sums: Vec<u32> = (0..rows).map(|_| f.reg(Class::Vector)).collect();
        let push = |f: &mut Function, op: Op, args: &[Arg]| {
            f.insts.push(Inst { op, width: 32, args: args.to_vec(), mask: None, merge: false, depth: 1 });
        };
        push(&mut f, Op::Label, &[Arg::Imm(1)]);
        for (row, &sum) in sums.iter().enumerate() {
            let (data, products) = (f.reg(Class::Vector), f.reg(Class::Vector));
            let at = Mem::at(Base::Reg(base)).offset(32 * row as i64);
            push(&mut f, Op::Load, &[data.into(), at.into()]);
            push(&mut f, Op::Pmaddwd, &[products.into(), data.into(), data.into()]);
            push(&mut f, Op::Paddd, &[sum.into(), sum.into(), products.into()]);
        }
        push(&mut f, Op::Store, &[Mem::at(Base::Reg(base)).into(), sums[0].into()]);
        push(&mut f, Op::Jne, &[Arg::Imm(1)]);
        f
    }

    /// Of instructions that have to do with one register, one of which writes it, none changes places.
    fn same_meaning(before: &[Inst], after: &[Inst]) -> bool {
        let at = |inst: &Inst| after.iter().position(|other| other == inst);
        let regs = |inst: &Inst, all: bool| {
            let mut regs = Vec::new();
            inst.visit(|r, _, written| regs.extend((all || written).then_some(r)));
            regs
        };
        let fixed = |inst: &Inst| inst.is_control() || inst.stores();
        (0..before.len()).all(|i| {
            (0..i).all(|j| {
                let (a, b) = (&before[j], &before[i]);
                let meets = |a: &Inst, b: &Inst| regs(a, false).iter().any(|r| regs(b, true).contains(r));
                let ordered = fixed(a) || fixed(b) || meets(a, b) || meets(b, a);
                !ordered || at(a) < at(b)
            })
        })
    }

    #[test]
    fn additions_come_later_and_nothing_else_changes() {
        let f = function(9);
        let later = listed(&f).unwrap();
        assert_eq!(later.insts.len(), f.insts.len());
        assert!(same_meaning(&f.insts, &later.insts), "{:?}", later.insts);
        let ops: Vec<Op> = later.insts.iter().map(|inst| inst.op).collect();
        let behind = |i: usize| ops[..i].iter().filter(|op| **op == Op::Pmaddwd).count();
        let first = ops.iter().position(|op| *op == Op::Paddd).unwrap();
        assert_eq!(behind(first), 3, "{ops:?}");
    }

    /// A pointer moves behind a load that waits until its register is read, and what sets the flags that a jump
    /// tests is still the last to set them.
    #[test]
    fn flags_are_set_last_by_what_was_last() {
        let mut f = function(1);
        let count = f.reg(Class::General);
        let (load, product) = (f.insts[1].clone(), f.insts[2].clone());
        let Arg::Mem(Mem { base: Base::Reg(base), .. }) = load.args[1] else { panic!("a pointer") };
        let inst = |op: Op, args: &[Arg]| Inst { op, args: args.to_vec(), ..load.clone() };
        let more = [
            inst(Op::Load, &[product.args[0], load.args[1]]),
            inst(Op::AddImm, &[base.into(), Arg::Imm(32)]),
            inst(Op::Dec, &[count.into()]),
        ];
        f.insts.splice(4..5, more);
        let later = listed(&f).unwrap().insts;
        assert!(same_meaning(&f.insts, &later), "{later:?}");
        assert_eq!(later[later.len() - 2].op, Op::Dec, "{later:?}");
    }

    #[test]
    fn without_products_the_order_stays() {
        let mut f = function(3);
        f.insts.retain(|inst| inst.op != Op::Paddd);
        assert!(listed(&f).is_none());
    }
}
