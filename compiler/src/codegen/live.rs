//! When each virtual register holds a value that is still needed.
//!
//! Positions: instruction `i` reads at `2i` and writes at `2i + 1`, so that a destination may take
//! the place of an operand that is read for the last time.

use std::collections::HashMap;

/// A virtual register: an index into a function's list of them.
pub type VReg = u32;

/// A register file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Vectors.
    Vector,
    /// AVX-512's masks.
    Mask,
    /// Addresses and counters.
    General,
}

/// An instruction, as far as control flow and registers go.
pub trait Instruction {
    /// Calls `f` with each register, whether it is read, and whether it is written.
    fn visit(&self, f: impl FnMut(VReg, bool, bool));
    /// Whether it reads a register, and whether it writes it.
    fn uses(&self, reg: VReg) -> (bool, bool) {
        let (mut read, mut written) = (false, false);
        self.visit(|r, reads, writes| {
            read |= r == reg && reads;
            written |= r == reg && writes;
        });
        (read, written)
    }
    /// Loops around it.
    fn depth(&self) -> u32;
    /// Takes it out of the innermost of them.
    fn leave_loop(&mut self);
    /// The label it is.
    fn label(&self) -> Option<i64>;
    /// The label it may jump to.
    fn jump(&self) -> Option<i64>;
    /// Whether the instruction behind it may be the next one.
    fn falls(&self) -> bool;
}

/// Ranges of positions, start included, end excluded; sorted, apart.
pub type Ranges = Vec<(u32, u32)>;

/// A set of registers.
#[derive(Clone, PartialEq)]
struct Set(Vec<u64>);

impl Set {
    fn new(size: usize) -> Set {
        Set(vec![0; size.div_ceil(64)])
    }

    fn insert(&mut self, r: u32) {
        self.0[r as usize / 64] |= 1 << (r % 64);
    }

    fn remove(&mut self, r: u32) {
        self.0[r as usize / 64] &= !(1 << (r % 64));
    }

    fn add(&mut self, other: &Set) {
        self.0.iter_mut().zip(&other.0).for_each(|(a, b)| *a |= b);
    }

    fn iter(&self) -> impl Iterator<Item = u32> {
        let bits = |(i, &word): (usize, &u64)| {
            (0..64).filter(move |b| word >> b & 1 != 0).map(move |b| (i * 64 + b) as u32)
        };
        self.0.iter().enumerate().flat_map(bits)
    }
}

/// Straight runs of instructions: first, one past the last, and the blocks that may follow.
fn blocks<I: Instruction>(insts: &[I]) -> Vec<(usize, usize, Vec<usize>)> {
    let mut starts: Vec<usize> = vec![0];
    for (i, inst) in insts.iter().enumerate() {
        if inst.label().is_some() {
            starts.push(i);
        } else if inst.jump().is_some() || !inst.falls() {
            starts.push(i + 1);
        }
    }
    starts.retain(|&s| s < insts.len());
    starts.dedup();
    let number: HashMap<i64, usize> =
        starts.iter().enumerate().filter_map(|(b, &s)| Some((insts[s].label()?, b))).collect();
    let end = |b: usize| starts.get(b + 1).copied().unwrap_or(insts.len());
    (0..starts.len())
        .map(|b| {
            let last = &insts[end(b) - 1];
            let mut next: Vec<usize> = last.jump().iter().map(|l| number[l]).collect();
            next.extend((last.falls() && b + 1 < starts.len()).then_some(b + 1));
            (starts[b], end(b), next)
        })
        .collect()
}

/// The ranges of every one of so many registers.
pub fn ranges<I: Instruction>(insts: &[I], regs: usize) -> Vec<Ranges> {
    let blocks = blocks(insts);
    let mut live_in = vec![Set::new(regs); blocks.len()];
    let mut changed = true;
    while changed {
        changed = false;
        for (b, (start, end, next)) in blocks.iter().enumerate().rev() {
            let mut live = Set::new(regs);
            next.iter().for_each(|&n| live.add(&live_in[n]));
            for inst in insts[*start..*end].iter().rev() {
                inst.visit(|r, read, written| {
                    if written && !read {
                        live.remove(r)
                    }
                });
                inst.visit(|r, read, _| {
                    if read {
                        live.insert(r)
                    }
                });
            }
            if live != live_in[b] {
                live_in[b] = live;
                changed = true;
            }
        }
    }
    let mut ranges: Vec<Ranges> = vec![Vec::new(); regs];
    for (start, end, next) in blocks.iter().rev() {
        let mut live = Set::new(regs);
        next.iter().for_each(|&n| live.add(&live_in[n]));
        let mut open: HashMap<u32, u32> = live.iter().map(|r| (r, 2 * *end as u32)).collect();
        for i in (*start..*end).rev() {
            let (read_at, write_at) = (2 * i as u32, 2 * i as u32 + 1);
            insts[i].visit(|r, read, written| {
                if written && !read {
                    let end = open.remove(&r).unwrap_or(write_at + 1);
                    ranges[r as usize].push((write_at, end.max(write_at + 1)));
                }
            });
            insts[i].visit(|r, read, written| {
                if read {
                    open.entry(r).or_insert(if written { write_at + 1 } else { read_at + 1 });
                }
            });
        }
        for (r, end) in open {
            ranges[r as usize].push((2 * *start as u32, end));
        }
    }
    ranges.into_iter().map(merged).collect()
}

fn merged(mut ranges: Ranges) -> Ranges {
    ranges.sort_unstable();
    let mut merged: Ranges = Vec::with_capacity(ranges.len());
    for (start, end) in ranges {
        match merged.last_mut() {
            Some(last) if last.1 >= start => last.1 = last.1.max(end),
            _ => merged.push((start, end)),
        }
    }
    merged
}
