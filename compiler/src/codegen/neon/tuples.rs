//! Loads of several registers by one instruction: neighbours in memory (`ld1`), and words or halves of them
//! that are needed in every lane (`ld1r` to `ld4r`, in place of a load and copies of its lanes).
//!
//! These take consecutive registers, which the allocator gives where it can (`emit` writes single loads
//! where it could not), and an address without a displacement, see `along`.

use super::along::Edit;
use super::groups::{Group, access};
use super::inst::{Again, Class, Function, Inst, Kind, VReg};
use super::words;
use crate::codegen::live::{self, Instruction};
use std::collections::BTreeMap;

/// Instructions over which loads are brought together.
const APART: usize = 64;
/// Instructions that elements are loaded ahead of the first that needs them in every lane.
const AHEAD: usize = 6;
/// Vector registers that may be filled where a load comes earlier than it was.
const REGISTERS: i64 = 31;

/// Joins the loads of a function. `again`: constants take registers only in the straight runs that read them.
pub fn join(f: &mut Function, again: bool) {
    let mut groups = Finder::new(f, again).groups();
    let mut runs = runs(&f.insts);
    // Those that are executed most get the distances.
    runs.sort_by_key(|&(start, _)| std::cmp::Reverse(f.insts[start].depth));
    let mut edit = Edit::default();
    for (start, end) in runs {
        let here: Vec<Group> = groups.extract_if(.., |g| (start..end).contains(&g.at)).collect();
        let mut bases: Vec<VReg> = here.iter().map(|g| g.base).collect();
        bases.sort_unstable();
        bases.dedup();
        for base in bases {
            let of_base: Vec<&Group> = here.iter().filter(|g| g.base == base).collect();
            edit.pointer(f, (start, end), base, &of_base);
        }
    }
    edit.apply(f);
}

/// Straight runs: first instruction and one past the last.
fn runs(insts: &[Inst]) -> Vec<(usize, usize)> {
    let ends = |i: &Inst| i.label().is_some() || i.jump().is_some() || !i.falls();
    let mut runs = Vec::new();
    let mut start = 0;
    for end in (0..insts.len()).filter(|&i| ends(&insts[i])).chain([insts.len()]) {
        if end > start {
            runs.push((start, end));
        }
        start = end + 1;
    }
    runs
}

/// Where registers that can be made again are needed: from the first to the last use in each straight run.
fn used_in_runs(f: &Function, again: &[usize]) -> Vec<(u32, u32)> {
    let mut used = Vec::new();
    for (start, end) in runs(&f.insts) {
        let mut here: BTreeMap<VReg, (u32, u32)> = BTreeMap::new();
        for (i, inst) in f.insts[start..end].iter().enumerate() {
            let at = 2 * (start + i) as u32;
            inst.visit(|r, _, _| here.entry(r).or_insert((at, at)).1 = at + 1);
        }
        used.extend(again.iter().filter_map(|&r| here.get(&(r as VReg))));
    }
    used
}

/// A load of vectors, of so many bytes.
fn load(inst: &Inst, bytes: usize) -> Option<(VReg, VReg, i64)> {
    let (form, base, disp) = access(inst)?;
    (form == words::ldr(bytes)).then(|| (inst.fields[0].reg, base, disp))
}

/// A copy of an element in every lane: which element, the instruction, and the register.
type Copied = (usize, usize, VReg);

/// Finds loads that can be one.
struct Finder<'a> {
    f: &'a Function,
    /// Vector registers filled at each position, see `live`.
    filled: Vec<i64>,
    /// How often each register is written.
    written: Vec<usize>,
    /// The instructions that read each register.
    readers: Vec<Vec<usize>>,
    /// Registers that are in a group.
    taken: Vec<bool>,
}

impl<'a> Finder<'a> {
    fn new(f: &'a Function, again: bool) -> Self {
        let count = f.regs.len();
        let mut changes = vec![0i64; 2 * f.insts.len() + 2];
        let ranges = live::ranges(&f.insts, count);
        let vectors = (0..count).filter(|&r| f.regs[r].class == Class::Vector);
        let (again, once): (Vec<usize>, Vec<usize>) =
            vectors.partition(|&r| again && f.regs[r].again != Again::No);
        for &(start, end) in once.into_iter().flat_map(|r| &ranges[r]).chain(&used_in_runs(f, &again)) {
            changes[start as usize] += 1;
            changes[end as usize] -= 1;
        }
        let filled = changes.iter().scan(0, |sum, change| {
            *sum += change;
            Some(*sum)
        });
        let mut finder = Finder {
            f,
            filled: filled.collect(),
            written: vec![0; count],
            readers: vec![Vec::new(); count],
            taken: vec![false; count],
        };
        for (i, inst) in f.insts.iter().enumerate() {
            inst.visit(|r, read, written| {
                finder.written[r as usize] += usize::from(written);
                if read {
                    finder.readers[r as usize].push(i);
                }
            });
        }
        finder
    }

    fn groups(mut self) -> Vec<Group> {
        let mut groups = Vec::new();
        for (start, end) in runs(&self.f.insts) {
            for at in start..end {
                let _ = [4, 2].into_iter().any(|size| self.copies(at, end, size, &mut groups));
            }
            let gone: Vec<usize> = groups.iter().flat_map(|g| g.gone.iter().copied()).collect();
            let loads: Vec<usize> =
                (start..end).filter(|i| load(&self.f.insts[*i], 16).is_some() && !gone.contains(i)).collect();
            self.neighbours(&loads, &mut groups);
        }
        groups
    }

    /// Elements of so many bytes that are loaded to be in every lane; whether there are such.
    fn copies(&mut self, at: usize, end: usize, element: usize, groups: &mut Vec<Group>) -> bool {
        let found = [4, 8, 16].into_iter().find_map(|bytes| Some((bytes, load(&self.f.insts[at], bytes)?)));
        let Some((bytes, (from, base, disp))) = found else { return false };
        let lanes = bytes / element;
        let copy = |i: usize| {
            let inst = &self.f.insts[i];
            let lane = (0..lanes).find(|&lane| inst.word == words::dup(element, lane))?;
            let to = inst.fields[0].reg;
            let once = self.written[to as usize] == 1 && (at..end).contains(&i);
            once.then_some((lane, i, to))
        };
        let readers = self.readers[from as usize].iter();
        let Some(mut copies) = readers.map(|&i| copy(i)).collect::<Option<Vec<_>>>() else { return false };
        copies.sort_unstable();
        let each = copies.iter().map(|c| c.0).eq(0..lanes);
        let between = (at + 1..end).take_while(|i| copies.iter().any(|c| c.1 >= *i));
        let moves = between.clone().any(|i| writes(&self.f.insts[i], base) || is_store(&self.f.insts[i]));
        if !each || self.written[from as usize] != 1 || moves {
            return false;
        }
        let sizes = [4, 2, 1].into_iter().filter(|&size| size <= lanes);
        for (size, ahead) in sizes.flat_map(|size| [(size, AHEAD), (size, 0)]) {
            let parts: Vec<&[Copied]> = copies.chunks(size).collect();
            let taken: Vec<usize> = groups.iter().map(|g| g.at).collect();
            let Some(places) = self.places(&parts, (at, base), ahead, taken) else { continue };
            // Each vector of copies is filled from where the first of its part is.
            let mut more: BTreeMap<usize, i64> = BTreeMap::new();
            for (part, place) in parts.iter().zip(&places) {
                for copy in *part {
                    *more.entry(2 * place + 1).or_default() += 1;
                    *more.entry(2 * copy.1 + 1).or_default() -= 1;
                }
            }
            if !self.add(&more) {
                continue;
            }
            for (i, part) in parts.iter().enumerate() {
                let members: Vec<VReg> = part.iter().map(|c| c.2).collect();
                members.iter().for_each(|&r| self.taken[r as usize] = true);
                let mut gone: Vec<usize> = part.iter().map(|c| c.1).collect();
                gone.extend((i == 0).then_some(at));
                let disp = disp + (i * size * element) as i64;
                groups.push(Group { at: places[i], gone, members, base, disp, copies: Some(element) });
            }
            return true;
        }
        false
    }

    /// Where each part of the copies of a load is loaded: some instructions ahead of the first of them, before
    /// one that only computes, and each elsewhere; `None` where another load has the place of the first.
    fn places(
        &self,
        parts: &[&[Copied]],
        (at, base): (usize, VReg),
        ahead: usize,
        mut taken: Vec<usize>,
    ) -> Option<Vec<usize>> {
        let computes = |i: usize| {
            let inst = &self.f.insts[i];
            let copy = parts.iter().any(|part| part.iter().any(|c| c.1 == i));
            access(inst).is_none() && !mentions(inst, base) && !copy
        };
        let mut places = Vec::new();
        for part in parts {
            let first = part.iter().map(|c| c.1).min().unwrap_or(at);
            let near = first.saturating_sub(ahead).max(at)..first;
            let place = near.chain([first]).find(|&i| (i == first || computes(i)) && !taken.contains(&i))?;
            taken.push(place);
            places.push(place);
        }
        Some(places)
    }

    /// Fills more registers at some positions, where there are free ones.
    fn add(&mut self, more: &BTreeMap<usize, i64>) -> bool {
        let (Some((&start, _)), Some((&end, _))) = (more.first_key_value(), more.last_key_value()) else {
            return true;
        };
        let sums: Vec<i64> = (start..end)
            .scan(0, |sum, at| {
                *sum += more.get(&at).copied().unwrap_or(0);
                Some(*sum)
            })
            .collect();
        let fits =
            (start..end).zip(&sums).all(|(at, more)| *more == 0 || self.filled[at] + more <= REGISTERS);
        if fits {
            (start..end).zip(sums).for_each(|(at, more)| self.filled[at] += more);
        }
        fits
    }

    /// Loads of neighbours, each where the first of them is.
    fn neighbours(&mut self, loads: &[usize], groups: &mut Vec<Group>) {
        let mut done: Vec<usize> = Vec::new();
        for (place, &at) in loads.iter().enumerate() {
            let Some((_, base, disp)) = load(&self.f.insts[at], 16) else { continue };
            if done.contains(&at) {
                continue;
            }
            let near: Vec<usize> = loads[place..].iter().copied().take_while(|i| i - at <= APART).collect();
            let mut chain: Vec<usize> = Vec::new();
            while chain.len() < 4 {
                let disp = disp + 16 * chain.len() as i64;
                let next = near.iter().copied().find(|&i| {
                    load(&self.f.insts[i], 16).is_some_and(|l| (l.1, l.2) == (base, disp))
                        && !done.contains(&i)
                        && !chain.contains(&i)
                        && self.can_rise(i, at)
                });
                let Some(next) = next else { break };
                chain.push(next);
            }
            while chain.len() > 2 && !self.rise(&chain, at) {
                chain.pop();
            }
            if chain.len() < 3 {
                continue;
            }
            let members: Vec<VReg> = chain.iter().map(|&i| self.f.insts[i].fields[0].reg).collect();
            members.iter().for_each(|&r| self.taken[r as usize] = true);
            done.extend(&chain);
            groups.push(Group { at, gone: chain, members, base, disp, copies: None });
        }
    }

    /// Whether a load can be where another instruction before it is.
    fn can_rise(&self, from: usize, to: usize) -> bool {
        let Some((reg, base, _)) = load(&self.f.insts[from], 16) else { return false };
        let in_way = |i: usize| {
            let inst = &self.f.insts[i];
            let mut found = is_store(inst) || writes(inst, base);
            inst.visit(|r, _, _| found |= r == reg);
            found
        };
        (self.written[reg as usize] == 1 || !self.taken[reg as usize]) && !(to..from).any(in_way)
    }

    /// Whether there are registers for loads to be where the first of them is; then they are taken.
    fn rise(&mut self, chain: &[usize], at: usize) -> bool {
        let mut more: BTreeMap<usize, i64> = BTreeMap::new();
        for &i in chain {
            *more.entry(2 * at + 1).or_default() += 1;
            *more.entry(2 * i + 1).or_default() -= 1;
        }
        self.add(&more)
    }
}

fn is_store(inst: &Inst) -> bool {
    matches!(inst.kind, Kind::Store | Kind::Turns(_))
}

fn mentions(inst: &Inst, reg: VReg) -> bool {
    let mut found = false;
    inst.visit(|r, _, _| found |= r == reg);
    found
}

fn writes(inst: &Inst, reg: VReg) -> bool {
    let mut found = false;
    inst.visit(|r, _, written| found |= written && r == reg);
    found
}
