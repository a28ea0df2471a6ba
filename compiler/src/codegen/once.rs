//! What a loop computes alike in each iteration is computed once, ahead of it, where registers hold it.
//!
//! Layers that share a function read their scales and zero points from memory, and each tile spread, widened and
//! subtracted the same numbers anew:
//! ```text
//! tile: vpmovsxbd    ymm0, [rax]                         vpbroadcastb xmm1, [rcx]
//!       vpbroadcastb xmm1, [rcx]                         vpmovsxbd    ymm1, xmm1
//!       vpmovsxbd    ymm1, xmm1                    tile: vpmovsxbd    ymm0, [rax]
//!       vpsubd       ymm0, ymm0, ymm1                    vpsubd       ymm0, ymm0, ymm1
//! ```
//! No buffer that a kernel only reads is written by it before it has read that for the last time. A value that
//! would take the place of another in registers stays where it is.

use super::allocate::Registers;
use super::live::{Class, Instruction, Ranges, VReg, ranges};
use std::collections::{BTreeSet, HashMap, HashSet};

/// Moves what can be moved out of loops, inner ones first; whether that is anything.
pub fn hoist(f: &mut impl Registers) -> bool {
    let mut loops = loops(f);
    loops.sort_by_key(|(_, start, end)| end - start);
    let mut moved = false;
    for (label, ..) in loops {
        // What has moved out of loops inside has changed places.
        if let Some((_, start, end)) = self::loops(f).into_iter().find(|found| found.0 == label) {
            moved |= leave(f, start, end);
        }
    }
    moved
}

/// Loops that are entered from above alone: their labels, where these are, and the last jumps back there.
fn loops(f: &impl Registers) -> Vec<(i64, usize, usize)> {
    let labels = labels(f);
    let mut jumps: HashMap<i64, (usize, usize)> = HashMap::new();
    for (at, label) in f.insts().iter().enumerate().filter_map(|(at, inst)| Some((at, inst.jump()?))) {
        let (first, last) = jumps.entry(label).or_insert((at, at));
        (*first, *last) = (at.min(*first), at.max(*last));
    }
    let found = |(&label, &(first, last)): (&i64, &(usize, usize))| {
        let start = *labels.get(&label)?;
        (first > start && start > 0).then_some((label, start, last))
    };
    let mut loops: Vec<_> = jumps.iter().filter_map(found).collect();
    loops.sort_unstable();
    loops
}

fn labels(f: &impl Registers) -> HashMap<i64, usize> {
    f.insts().iter().enumerate().filter_map(|(at, inst)| Some((inst.label()?, at))).collect()
}

/// Moves what can be moved out of one loop, from its label to its last jump: what takes most instructions first;
/// whether anything has moved.
fn leave(f: &mut impl Registers, start: usize, end: usize) -> bool {
    let moving = moving(f, start, end);
    if moving.is_empty() {
        return false;
    }
    let by: HashMap<VReg, usize> = moving.iter().map(|&(at, reg)| (reg, at)).collect();
    let all: BTreeSet<usize> = by.values().copied().collect();
    let ends = read_inside(f, (start, end), &by, &all);
    let mut chains: Vec<(VReg, BTreeSet<usize>)> = ends.into_iter().map(|r| (r, chain(f, &by, r))).collect();
    chains.sort_by_key(|(r, chain)| (std::cmp::Reverse(chain.len()), *r));
    let room = Room::new(f, start, end);
    let mut leaves: BTreeSet<usize> = BTreeSet::new();
    for (_, chain) in chains {
        let more: BTreeSet<usize> = leaves.union(&chain).copied().collect();
        if room.holds(&read_inside(f, (start, end), &by, &more)) {
            leaves = more;
        }
    }
    let mut moved: Vec<_> = leaves.iter().map(|&at| f.insts()[at].clone()).collect();
    moved.iter_mut().for_each(Instruction::leave_loop);
    let mut at = 0;
    f.insts_mut().retain(|_| {
        at += 1;
        !leaves.contains(&(at - 1))
    });
    f.insts_mut().splice(start..start, moved);
    !leaves.is_empty()
}

/// The results of moving instructions that are read by what stays in the loop where some of them leave it.
fn read_inside(
    f: &impl Registers,
    (start, end): (usize, usize),
    by: &HashMap<VReg, usize>,
    leaves: &BTreeSet<usize>,
) -> BTreeSet<VReg> {
    let mut found = BTreeSet::new();
    for (at, inst) in f.insts().iter().enumerate().take(end).skip(start) {
        if !leaves.contains(&at) {
            let leaves = |r: &VReg| by.get(r).is_some_and(|at| leaves.contains(at));
            inst.visit(|r, read, _| found.extend(Some(r).filter(|r| read && leaves(r))));
        }
    }
    found
}

/// The vector registers of a loop.
struct Room {
    registers: usize,
    start: usize,
    /// How many are alive at each position.
    alive: Vec<usize>,
    ranges: Vec<Ranges>,
}

impl Room {
    fn new(f: &impl Registers, start: usize, end: usize) -> Room {
        let ranges = ranges(f.insts(), f.count());
        let mut alive = vec![0; 2 * (end - start) + 2];
        let vectors = (0..f.count()).filter(|&r| f.class(r as VReg) == Class::Vector);
        for &(from, to) in vectors.flat_map(|r| &ranges[r]) {
            let within = |at: u32| (at as usize).clamp(2 * start, 2 * end + 2) - 2 * start;
            alive[within(from)..within(to)].iter_mut().for_each(|alive| *alive += 1);
        }
        Room { registers: f.file(Class::Vector).len(), start, alive, ranges }
    }

    /// Whether there are registers for these to be alive throughout.
    fn holds(&self, regs: &BTreeSet<VReg>) -> bool {
        let mut more = vec![regs.len(); self.alive.len()];
        for &(from, to) in regs.iter().flat_map(|&r| &self.ranges[r as usize]) {
            let within = |at: u32| (at as usize).saturating_sub(2 * self.start).min(more.len());
            let (from, to) = (within(from), within(to));
            more[from..to].iter_mut().for_each(|more| *more -= 1);
        }
        self.alive.iter().zip(more).all(|(alive, more)| alive + more <= self.registers)
    }
}

/// Instructions of a loop that every iteration executes with the same operands and for itself alone, and what they
/// write.
fn moving(f: &impl Registers, start: usize, end: usize) -> Vec<(usize, VReg)> {
    let labels = labels(f);
    let mut counts = vec![(0, 0, 0); f.count()];
    for (at, inst) in f.insts().iter().enumerate() {
        let inside = usize::from((start..=end).contains(&at));
        inst.visit(|r, read, written| {
            let (writes, reads, reads_inside) = &mut counts[r as usize];
            *writes += usize::from(written);
            *reads += usize::from(read);
            *reads_inside += usize::from(read) * inside;
        });
    }
    let mut changed: HashSet<VReg> = HashSet::new();
    f.insts()[start..=end]
        .iter()
        .for_each(|inst| inst.visit(|r, _, written| _ = written.then(|| changed.insert(r))));
    let (mut passed, mut moving) = (start, Vec::new());
    for (at, inst) in f.insts().iter().enumerate().take(end).skip(start) {
        // Behind a jump ahead not every iteration comes.
        passed = passed.max(inst.jump().and_then(|label| labels.get(&label).copied()).unwrap_or(0));
        let Some(reg) = f.result(inst).filter(|_| passed <= at) else { continue };
        let (writes, reads, reads_inside) = counts[reg as usize];
        let mut alike = writes == 1 && reads == reads_inside;
        inst.visit(|r, read, _| alike &= !read || !changed.contains(&r));
        if alike {
            changed.remove(&reg);
            moving.push((at, reg));
        }
    }
    moving
}

/// The instructions that a value takes, of those that move.
fn chain(f: &impl Registers, by: &HashMap<VReg, usize>, reg: VReg) -> BTreeSet<usize> {
    let (mut chain, mut open) = (BTreeSet::new(), vec![reg]);
    while let Some(at) = open.pop().and_then(|reg| by.get(&reg)) {
        if chain.insert(*at) {
            f.insts()[*at].visit(|r, read, _| open.extend((read && by.contains_key(&r)).then_some(r)));
        }
    }
    chain
}
