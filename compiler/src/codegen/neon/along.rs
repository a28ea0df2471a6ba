//! Pointers that run along with loads whose addresses have no displacement.
//!
//! Each load leaves the pointer where the next one begins, by a distance that is its own length or waits
//! in a register, and the last where the next iteration begins. What else goes through the pointer has its
//! displacement changed. Works on straight runs, one pointer at a time, where that is fewer instructions.

use super::address;
use super::groups::{Group, access};
use super::inst::{Class, Field, Function, Inst, Kind, NOWHERE, VReg, read, update, write};
use super::words::{self, Access};
use crate::codegen::live::Instruction;
use std::collections::{BTreeMap, HashMap};

/// Distances that wait in registers, of all loops of a function together.
const DISTANCES: usize = 8;

/// What happens through a pointer.
#[derive(Clone, Copy)]
enum Event<'a> {
    /// Loads of one instruction.
    Group(&'a Group),
    /// An access with a displacement.
    Access(Access, i64),
    /// A number is added to it.
    Moves(i64),
    /// It is read otherwise, or written.
    Other,
}

/// The changes to a function.
#[derive(Default)]
pub struct Edit {
    /// Instructions before others.
    before: BTreeMap<usize, Vec<Inst>>,
    /// What stands for an instruction.
    instead: HashMap<usize, Option<Inst>>,
    /// Registers with distances.
    distances: Vec<(i64, VReg)>,
}

/// The changes of one pointer in one run.
#[derive(Default)]
struct Plan {
    /// Numbers added to the pointer before instructions.
    moves: Vec<(usize, i64)>,
    /// Loads of one instruction, and by how much it moves the pointer.
    groups: Vec<(usize, i64)>,
    /// New displacements.
    accesses: Vec<(usize, u32)>,
    gone: Vec<usize>,
}

impl Edit {
    /// Lets a pointer run along with loads in a run, where that is fewer instructions.
    pub fn pointer(&mut self, f: &mut Function, (start, end): (usize, usize), base: VReg, groups: &[&Group]) {
        let events = events(f, (start, end), base, groups);
        let plan = plan(&events, end);
        let cost = |cost: i64, event: &(usize, Event)| match event.1 {
            Event::Group(group) => cost + group.before() - 1,
            Event::Moves(_) => cost + 1,
            _ => cost,
        };
        let gain = events.iter().fold(0, cost) - plan.moves.len() as i64;
        let depth = f.insts[start].depth;
        let in_registers = |by: &&(usize, i64)| {
            let group = groups.iter().find(|g| g.at == by.0);
            by.1 != 0 && group.is_some_and(|g| g.bytes() != by.1)
        };
        let mut needed: Vec<i64> = plan.groups.iter().filter(in_registers).map(|g| g.1).collect();
        let more = needed.len() as i64;
        needed.sort_unstable();
        needed.dedup();
        needed.retain(|n| self.distances.iter().all(|d| d.0 != *n));
        let waits = depth > 0 && self.distances.len() + needed.len() <= DISTANCES;
        let far = plan.moves.iter().chain(&plan.groups).any(|by| by.1.abs() >= address::FAR);
        if far || gain - if waits { 0 } else { more } <= 0 {
            return;
        }
        for number in needed.into_iter().filter(|_| waits) {
            self.distances.push((number, f.reg(Class::General)));
        }
        for &(at, number) in &plan.moves {
            self.before.entry(at).or_default().extend(address::sum(base, base, number, depth));
        }
        for &(at, word) in &plan.accesses {
            self.instead.insert(at, Some(Inst { word, ..f.insts[at].clone() }));
        }
        plan.gone.iter().for_each(|&i| _ = self.instead.insert(i, None));
        for &(at, by) in &plan.groups {
            let Some(group) = groups.iter().find(|g| g.at == at) else { continue };
            group.gone.iter().for_each(|&i| _ = self.instead.insert(i, None));
            let distance = self.distances.iter().find(|d| d.0 == by && waits).map(|d| d.1);
            let (inst, rest) = group.load(by, distance, depth);
            let rest = address::sum(base, base, rest, depth);
            if group.gone.contains(&at) {
                self.instead.insert(at, Some(inst));
                self.before.entry(at + 1).or_default().splice(0..0, rest);
            } else {
                self.before.entry(at).or_default().extend([inst].into_iter().chain(rest));
            }
        }
    }

    /// Makes the changes.
    pub fn apply(mut self, f: &mut Function) {
        if self.before.is_empty() && self.instead.is_empty() {
            return;
        }
        let mut made = Vec::with_capacity(f.insts.len());
        for (i, inst) in std::mem::take(&mut f.insts).into_iter().enumerate() {
            made.extend(self.before.remove(&i).unwrap_or_default());
            match self.instead.remove(&i) {
                Some(Some(other)) => made.push(other),
                Some(None) => {}
                None => made.push(inst),
            }
            if i == 0 {
                for &(number, reg) in &self.distances {
                    made.extend(address::number(reg, number, 0));
                }
            }
        }
        f.insts = made;
    }
}

impl Group {
    /// The instruction, which moves the pointer by some bytes, and what it does not of these.
    fn load(&self, by: i64, distance: Option<VReg>, depth: u32) -> (Inst, i64) {
        let count = self.members.len();
        let after = match distance {
            _ if by == 0 => None,
            _ if by == self.bytes() => Some(None),
            Some(reg) => Some(Some(reg)),
            None => None,
        };
        let word = match self.copies {
            Some(size) => words::ld_copies(count, size),
            None => words::ld_neighbours(count),
        };
        let mut fields: Vec<Field> = (self.members.iter().enumerate())
            .map(|(i, &r)| write(r, if i == 0 { 0 } else { NOWHERE }))
            .collect();
        let word = match after {
            None => {
                fields.push(read(self.base, 5));
                word
            }
            Some(None) => {
                fields.push(update(self.base, 5));
                word | words::AFTER | words::ZERO << 16
            }
            Some(Some(distance)) => {
                fields.extend([update(self.base, 5), read(distance, 16)]);
                word | words::AFTER
            }
        };
        let kind = Kind::Tuple { count: count as u8, copies: self.copies.is_some() };
        (Inst { word, fields, kind, depth }, if after.is_none() { by } else { 0 })
    }
}

/// What happens through a pointer in a run, in order.
fn events<'a>(
    f: &Function,
    (start, end): (usize, usize),
    base: VReg,
    groups: &[&'a Group],
) -> Vec<(usize, Event<'a>)> {
    let mut events = Vec::new();
    for i in start..end {
        let inst = &f.insts[i];
        if let Some(group) = groups.iter().find(|g| g.at == i) {
            events.push((i, Event::Group(group)));
            continue;
        }
        let mut touched = false;
        inst.visit(|r, _, _| touched |= r == base);
        if !touched || groups.iter().any(|g| g.gone.contains(&i)) {
            continue;
        }
        let event = match (access(inst), address::added(inst)) {
            (Some((form, of, disp)), _) if of == base && inst.fields[0].reg != base => {
                Event::Access(form, disp)
            }
            (_, Some(number)) if inst.fields.iter().all(|field| field.reg == base) => Event::Moves(number),
            _ => Event::Other,
        };
        events.push((i, event));
    }
    events
}

/// How a pointer runs along with its loads.
fn plan(events: &[(usize, Event)], end: usize) -> Plan {
    let mut plan = Plan::default();
    // Bytes that the pointer is ahead of what it was.
    let mut ahead = 0;
    for (place, &(at, event)) in events.iter().enumerate() {
        match event {
            Event::Group(group) => {
                if ahead != group.disp {
                    plan.moves.push((at, group.disp - ahead));
                }
                ahead = wanted(&events[place + 1..]);
                plan.groups.push((at, ahead - group.disp));
            }
            Event::Access(form, disp) => match form.encoded(disp - ahead) {
                Some(word) => plan.accesses.push((at, word)),
                None => {
                    plan.moves.push((at, -ahead));
                    ahead = 0;
                }
            },
            Event::Moves(number) => {
                ahead -= number;
                plan.gone.push(at);
            }
            Event::Other => {
                if ahead != 0 {
                    plan.moves.push((at, -ahead));
                }
                ahead = 0;
            }
        }
    }
    if ahead != 0 {
        plan.moves.push((end, -ahead));
    }
    plan
}

/// How far ahead a pointer is wanted next.
fn wanted(events: &[(usize, Event)]) -> i64 {
    let mut moved = 0;
    for (_, event) in events {
        match event {
            Event::Group(group) => return moved + group.disp,
            Event::Moves(number) => moved += number,
            Event::Other => break,
            Event::Access(..) => {}
        }
    }
    moved
}
