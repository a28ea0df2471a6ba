//! Orders straight runs of statements for machines that execute in order and load in pairs.
//!
//! A nest lists the work of a register tile by its structure: all points of one step, then the next.
//! Executed so, a loaded value is used at once, before it has arrived, and values that many steps
//! share stay in registers until they spill. Here each run of loads, arithmetic and stores is listed
//! anew: loads a few statements ahead of their use, next to the load of the 16 bytes beside them
//! (`pairs` joins the two), and what makes a register free before what fills another. Each
//! register's own statements keep their order, so every result keeps its bits.

mod list;

use super::demand::by_results;
use super::lives::{Lives, reads, writes};
use super::unroll::second;
use crate::base::Affine;
use crate::tile::{Kernel, Lane, Reg, Stmt, Value};
use list::List;
use std::collections::HashMap;

/// Registers that a run may fill where it would need fewer: the allocator likes some room.
const COMFORT: usize = 29;
/// Statements between two accesses that may be brought together.
const APART: usize = 64;
/// Longer runs are left as they are.
const LONGEST: usize = 6000;

/// Orders all runs of a kernel, whose registers take so many vector registers each. What needs more
/// than `registers` of them counts as spilled; `double`: innermost loops may do two iterations at
/// once.
pub fn order(kernel: &mut Kernel, sizes: Vec<usize>, registers: usize, double: bool) {
    let mut lives = Lives::new(kernel, sizes);
    let how = How { registers, double };
    let mut body = std::mem::take(&mut kernel.body);
    orders(kernel, &mut lives, how, &mut body, &mut 0);
    kernel.body = body;
}

#[derive(Clone, Copy)]
struct How {
    registers: usize,
    double: bool,
}

fn is_straight(stmt: &Stmt) -> bool {
    matches!(stmt, Stmt::Let(..) | Stmt::Store { .. })
}

/// `at` is the position of the first statement in the text that `lives` was made from.
fn orders(kernel: &mut Kernel, lives: &mut Lives, how: How, body: &mut [Stmt], at: &mut usize) {
    let mut start = 0;
    while start < body.len() {
        let length = body[start..].iter().take_while(|s| is_straight(s)).count();
        if length > 0 {
            list(kernel, lives, how.registers, &mut body[start..start + length], *at);
            (start, *at) = (start + length, *at + length);
            continue;
        }
        *at += 1;
        let second = doubled(kernel, lives, how, &body[start], *at);
        match &mut body[start] {
            Stmt::For { step, body, .. } if second.is_some() => {
                let length = body.len();
                body.extend(second.into_iter().flatten());
                *step *= 2;
                list(kernel, lives, how.registers, body, *at);
                *at += length;
            }
            Stmt::For { body, .. } | Stmt::Loop { body } | Stmt::Size { body, .. } => {
                orders(kernel, lives, how, body, at);
            }
            Stmt::If { then, otherwise, .. } => {
                orders(kernel, lives, how, then, at);
                orders(kernel, lives, how, otherwise, at);
            }
            _ => {}
        }
        start += 1;
    }
}

/// The second copy of an innermost loop's body, where registers are left for both.
fn doubled(kernel: &mut Kernel, lives: &mut Lives, how: How, stmt: &Stmt, at: usize) -> Option<Vec<Stmt>> {
    let Stmt::For { body, .. } = stmt else { return None };
    if !how.double || !body.iter().all(is_straight) || body.len() > LONGEST {
        return None;
    }
    let run = Run::new(kernel, lives, body, at);
    let original: Vec<usize> = (0..body.len()).collect();
    let room = run.peak(&original) <= how.registers.min(31);
    room.then(|| second(kernel, lives, stmt)).flatten()
}

/// Orders one run.
fn list(kernel: &Kernel, lives: &Lives, registers: usize, run: &mut [Stmt], at: usize) {
    if !(4..=LONGEST).contains(&run.len()) {
        return;
    }
    let graph = Run::new(kernel, lives, run, at);
    let (cost, mut best) = graph.list(registers);
    if let Some(results) = by_results(&graph.after, |i| graph.kind[i] == Work::Store) {
        let asked: Vec<Stmt> = results.iter().map(|&i| run[i].clone()).collect();
        let (other, order) = Run::new(kernel, lives, &asked, at).list(registers);
        if other < cost {
            best = order.into_iter().map(|i| results[i]).collect();
        }
    }
    run.clone_from_slice(&best.into_iter().map(|i| run[i].clone()).collect::<Vec<_>>());
}

/// A 16-byte access: which parameter, loads or stores, terms and bytes past them.
type Spot = (u32, bool, Vec<(u32, i64)>, i64);

/// A run as a graph.
struct Run {
    /// Statements that must come after each, and the cycles until they can start.
    after: Vec<Vec<(usize, u32)>>,
    /// How many statements each still waits for.
    waits: Vec<usize>,
    /// The values each statement reads, as their roots.
    uses: Vec<Vec<usize>>,
    /// The value each statement makes: the same number as the statement.
    kind: Vec<Work>,
    /// Machine registers of each value; values that enter the run follow the statements'.
    size: Vec<usize>,
    /// Reads of each value to come; those that leave the run have one more.
    left: Vec<usize>,
    /// The statement that touches the 16 bytes beside those of each.
    beside: Vec<Option<usize>>,
    /// Registers filled at the start.
    pressure: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    Load,
    Store,
    /// A lane of another register, which the multiply-add takes itself.
    Free,
    Arithmetic,
}

impl Run {
    fn new(kernel: &Kernel, lives: &Lives, run: &[Stmt], at: usize) -> Run {
        let count = run.len();
        let mut r = Run {
            after: vec![Vec::new(); count],
            waits: vec![0; count],
            uses: vec![Vec::new(); count],
            kind: run.iter().map(kind).collect(),
            size: vec![0; count],
            left: vec![0; count],
            beside: beside(kernel, run),
            pressure: 0,
        };
        let mut b = Builder::default();
        for (i, stmt) in run.iter().enumerate() {
            for reg in reads(stmt) {
                let value = *b.value.entry(reg).or_insert_with(|| {
                    r.size.push(lives.sizes[reg as usize]);
                    r.left.push(0);
                    r.pressure += lives.sizes[reg as usize];
                    r.size.len() - 1
                });
                let root = b.root.get(&value).copied().unwrap_or(value);
                r.uses[i].push(root);
                r.left[root] += 1;
                if r.kind[i] == Work::Free {
                    b.root.insert(i, root);
                }
                if value < count {
                    r.edge(value, i, latency(&run[value]));
                }
                b.readers.entry(reg).or_default().push(i);
                *b.mentions.entry(reg).or_default() += 1;
            }
            if let Some(reg) = writes(stmt) {
                for reader in b.readers.remove(&reg).unwrap_or_default() {
                    r.edge(reader, i, 0);
                }
                if let Some(&old) = b.value.get(&reg).filter(|v| **v < count) {
                    r.edge(old, i, 0);
                }
                b.value.insert(reg, i);
                *b.mentions.entry(reg).or_default() += 1;
                r.size[i] = if r.kind[i] == Work::Free { 0 } else { lives.sizes[reg as usize] };
            }
            r.memory_edges(run, i, lives, &mut b);
        }
        r.join_stores(run);
        for (&reg, &value) in &b.value {
            if lives.mentions[reg as usize] > b.mentions[&reg] {
                let root = b.root.get(&value).copied().unwrap_or(value);
                r.left[root] += 1;
            }
        }
        // What passes by.
        for (reg, &(first, last)) in lives.ranges.iter().enumerate() {
            let passes = first < at && last >= at + count && !b.mentions.contains_key(&(reg as Reg));
            r.pressure += if passes { lives.sizes[reg] } else { 0 };
        }
        r
    }

    fn edge(&mut self, from: usize, to: usize, latency: u32) {
        if from != to {
            self.after[from].push((to, latency));
            self.waits[to] += 1;
        }
    }

    /// Stores keep their order, and come after the loads before them. A load may come before a store
    /// to another parameter: where the two are one buffer, each element is read before it is written. What
    /// cannot be one buffer with the stored one is read at any time.
    fn memory_edges(&mut self, run: &[Stmt], i: usize, lives: &Lives, b: &mut Builder) {
        match &run[i] {
            Stmt::Let(
                _,
                Value::Load(addr, _)
                | Value::LoadWords(addr, _)
                | Value::LoadCouples(addr)
                | Value::Lookup(addr, _),
            ) => {
                if let Some(&store) = b.stored.get(&addr.param) {
                    self.edge(store, i, 1);
                }
                if !lives.apart[addr.param as usize] {
                    b.loads.push(i);
                }
            }
            Stmt::Store { addr, .. } => {
                for load in std::mem::take(&mut b.loads) {
                    self.edge(load, i, 0);
                }
                if let Some(last) = b.last_store.replace(i) {
                    self.edge(last, i, 0);
                }
                b.stored.insert(addr.param, i);
            }
            _ => {}
        }
    }

    /// A store waits for the value of the store beside it.
    fn join_stores(&mut self, run: &[Stmt]) {
        for i in 0..run.len() {
            let Some(next) = self.beside[i].filter(|&next| next > i && self.kind[i] == Work::Store) else {
                continue;
            };
            if let Some(&value) = self.uses[next].iter().find(|&&v| v > i && v < run.len()) {
                self.edge(value, i, 4);
            }
        }
    }

    /// The statements in their new order, or the old one where that is better, and its cost.
    fn list(&self, registers: usize) -> (usize, Vec<usize>) {
        let original: Vec<usize> = (0..self.kind.len()).collect();
        let most = registers.min(31);
        let limit = (self.peak(&original) + 1).clamp(COMFORT.min(most), most);
        let listed = [false, true].map(|free| List::new(self, free, limit).run());
        // Statements may wait for each other, where a register is used again and again.
        let whole =
            listed.into_iter().filter(|order| order.len() == original.len()).chain([original.clone()]);
        let costs = whole.map(|order| (self.cost(&order, registers), order));
        costs.min_by_key(|c| c.0).unwrap_or((0, original))
    }

    /// Accesses to memory that an order needs, in instructions.
    fn cost(&self, order: &[usize], registers: usize) -> usize {
        let spilled = self.peak(order).saturating_sub(registers);
        // Stored and loaded again, and often moved about.
        let mut instructions = 8 * spilled;
        let mut single = None;
        for &i in order.iter().filter(|&&i| self.kind[i] != Work::Free) {
            let second = single.is_some_and(|last: usize| self.beside[last] == Some(i));
            let access = matches!(self.kind[i], Work::Load | Work::Store);
            instructions += usize::from(access && !second);
            single = (!second).then_some(i);
        }
        instructions
    }

    /// The most registers filled at once in an order.
    fn peak(&self, order: &[usize]) -> usize {
        let mut left = self.left.clone();
        let mut pressure = self.pressure as i64;
        let mut peak = pressure;
        for &i in order {
            pressure += self.step(i, &mut left);
            peak = peak.max(pressure);
        }
        peak as usize
    }

    /// How many more registers are filled after a statement.
    fn change(&self, i: usize, left: &[usize]) -> i64 {
        let mut change = if left[i] > 0 { self.size[i] as i64 } else { 0 };
        for (at, value) in self.uses[i].iter().enumerate() {
            let times = self.uses[i].iter().filter(|v| *v == value).count();
            if !self.uses[i][..at].contains(value) && left[*value] == times {
                change -= self.size[*value] as i64;
            }
        }
        change
    }

    /// Executes a statement: as [`Run::change`], and counts its reads.
    fn step(&self, i: usize, left: &mut [usize]) -> i64 {
        let change = self.change(i, left);
        self.uses[i].iter().for_each(|&value| left[value] -= 1);
        change
    }
}

/// What is known while the graph is built.
#[derive(Default)]
struct Builder {
    /// The value that a register holds.
    value: HashMap<Reg, usize>,
    /// For lanes of another register: that register's value.
    root: HashMap<usize, usize>,
    /// Who read a register since it was assigned.
    readers: HashMap<Reg, Vec<usize>>,
    mentions: HashMap<Reg, usize>,
    loads: Vec<usize>,
    stored: HashMap<u32, usize>,
    last_store: Option<usize>,
}

fn kind(stmt: &Stmt) -> Work {
    match stmt {
        Stmt::Store { .. } => Work::Store,
        Stmt::Let(_, Value::Load(..) | Value::LoadWords(..) | Value::LoadCouples(_)) => Work::Load,
        Stmt::Let(_, Value::Broadcast(..)) => Work::Free,
        _ => Work::Arithmetic,
    }
}

/// Cycles until the result can be used, about right for Cortex-A53 and A55.
fn latency(stmt: &Stmt) -> u32 {
    match kind(stmt) {
        Work::Free => 0,
        _ => 4,
    }
}

/// For each whole 16-byte access, the statement that touches the next 16 bytes.
fn beside(kernel: &Kernel, run: &[Stmt]) -> Vec<Option<usize>> {
    let spots: Vec<Option<Spot>> = run.iter().map(|stmt| spot(kernel, stmt)).collect();
    let mut at: HashMap<&Spot, usize> = HashMap::new();
    spots.iter().enumerate().for_each(|(i, spot)| {
        if let Some(spot) = spot {
            at.insert(spot, i);
        }
    });
    let next = |spot: &Spot| at.get(&(spot.0, spot.1, spot.2.clone(), spot.3 + 16)).copied();
    let near =
        |(i, spot): (usize, &Option<Spot>)| spot.as_ref().and_then(next).filter(|j| j.abs_diff(i) <= APART);
    spots.iter().enumerate().map(near).collect()
}

fn spot(kernel: &Kernel, stmt: &Stmt) -> Option<Spot> {
    let (addr, reg, load, words) = match stmt {
        Stmt::Let(reg, Value::Load(addr, 1)) => (addr, *reg, true, false),
        Stmt::Let(reg, Value::LoadWords(addr, 4)) => (addr, *reg, true, true),
        Stmt::Store { addr, stride: 1, src } => (addr, *src, false, false),
        _ => return None,
    };
    let size = kernel.params[addr.param as usize].dtype.size() as i64;
    // A lane of words holds four bytes.
    let (ty, lane) = (kernel.regs[reg as usize], if words { 4 } else { size });
    let lanes = i64::from(ty.lanes);
    let Affine { base, terms } = &addr.index;
    (lanes * lane == 16 && (lane >= 4 || ty.lane == Lane::F16) && addr.dynamic.is_none())
        .then(|| (addr.param, load, terms.clone(), base * size))
}
