//! How long registers live, in the order of a kernel's text: enough to estimate pressure.

use crate::tile::{Access, Addr, Kernel, Reg, Stmt, Value};
use std::collections::HashMap;

/// The registers a value is computed from, in order.
pub fn operands(value: &Value) -> Vec<Reg> {
    match value {
        Value::Const(_) | Value::Index(..) => Vec::new(),
        Value::Load(addr, _) | Value::LoadWords(addr, _) | Value::LoadCouples(addr) => {
            addr.dynamic.iter().map(|d| d.0).collect()
        }
        Value::Lookup(addr, a) => addr.dynamic.iter().map(|d| d.0).chain([*a]).collect(),
        Value::Copy(a)
        | Value::Un(_, a)
        | Value::Convert(_, a)
        | Value::Splat(a)
        | Value::Broadcast(a, _)
        | Value::Reduce(_, a) => vec![*a],
        Value::Pairs(pairs) => pairs.iter().map(|pair| pair.0).collect(),
        Value::Bin(_, a, b) | Value::Cmp(_, a, b) => vec![*a, *b],
        Value::Mla(a, b, c) | Value::Dot(_, a, b, c) | Value::Select(a, b, c) => vec![*a, *b, *c],
    }
}

/// The registers a statement reads itself, not in the statements inside it.
pub fn reads(stmt: &Stmt) -> Vec<Reg> {
    match stmt {
        Stmt::Let(_, value) => operands(value),
        Stmt::Store { addr, src, .. } => addr.dynamic.iter().map(|d| d.0).chain([*src]).collect(),
        Stmt::If { cond, .. } | Stmt::Break { cond } | Stmt::Fail { cond, .. } => vec![*cond],
        Stmt::For { .. } | Stmt::Loop { .. } | Stmt::Size { .. } => Vec::new(),
    }
}

/// The register a statement assigns.
pub fn writes(stmt: &Stmt) -> Option<Reg> {
    if let Stmt::Let(reg, _) = stmt { Some(*reg) } else { None }
}

/// How often each register is read or written in straight statements.
pub fn mentions(body: &[Stmt]) -> HashMap<Reg, usize> {
    let mut mentions = HashMap::new();
    for reg in body.iter().flat_map(|stmt| reads(stmt).into_iter().chain(writes(stmt))) {
        *mentions.entry(reg).or_default() += 1;
    }
    mentions
}

/// When each register lives, as positions of statements in the order of the text.
pub struct Lives {
    /// First and last position; first > last where a register is not used.
    pub ranges: Vec<(usize, usize)>,
    /// How often each register is read or written.
    pub mentions: Vec<usize>,
    /// How many machine registers each takes.
    pub sizes: Vec<usize>,
    /// Parameters that cannot be one buffer with what the kernel writes, see [`apart`].
    pub apart: Vec<bool>,
}

/// Of a kernel that folds, the parameters that are read elsewhere than where it writes: a result is
/// written over an operand only where each element is read for its own result alone, and no element
/// of a fold depends on another's result.
fn apart(kernel: &Kernel) -> Vec<bool> {
    let (mut loads, mut stores, mut folds) = (Vec::new(), Vec::new(), false);
    accesses(&kernel.body, &mut loads, &mut stores, &mut folds);
    let elsewhere = |param: usize| {
        loads.iter().any(|&(addr, stride)| {
            let here = |s: &(&Addr, i64)| s.0.index == addr.index && s.1 == stride;
            addr.param as usize == param && !stores.iter().any(here)
        })
    };
    let read = |param: usize| kernel.params[param].access == Access::Read;
    (0..kernel.params.len()).map(|param| folds && read(param) && elsewhere(param)).collect()
}

type Accesses<'a> = Vec<(&'a Addr, i64)>;

fn accesses<'a>(body: &'a [Stmt], loads: &mut Accesses<'a>, stores: &mut Accesses<'a>, folds: &mut bool) {
    for stmt in body {
        match stmt {
            Stmt::Let(_, Value::Load(addr, stride)) => loads.push((addr, *stride)),
            Stmt::Let(_, Value::LoadWords(addr, _) | Value::LoadCouples(addr) | Value::Lookup(addr, _)) => {
                loads.push((addr, 0));
            }
            Stmt::Let(r, Value::Mla(acc, ..) | Value::Dot(_, acc, ..)) => *folds |= r == acc,
            Stmt::Let(..) | Stmt::Break { .. } | Stmt::Fail { .. } => {}
            Stmt::Store { addr, stride, .. } => stores.push((addr, *stride)),
            Stmt::For { body, .. } | Stmt::Loop { body } | Stmt::Size { body, .. } => {
                accesses(body, loads, stores, folds);
            }
            Stmt::If { then, otherwise, .. } => {
                accesses(then, loads, stores, folds);
                accesses(otherwise, loads, stores, folds);
            }
        }
    }
}

impl Lives {
    /// The lives of a kernel's registers, which take so many machine registers each.
    pub fn new(kernel: &Kernel, sizes: Vec<usize>) -> Lives {
        let regs = kernel.regs.len();
        let mut walk = Walk {
            lives: Lives {
                ranges: vec![(usize::MAX, 0); regs],
                mentions: vec![0; regs],
                sizes,
                apart: apart(kernel),
            },
            read_first: vec![false; regs],
            loops: Vec::new(),
            at: 0,
        };
        walk.body(&kernel.body);
        // A value that enters a loop, or is carried around it, lives until its end. Inner loops come
        // before the loops around them.
        for (start, end) in walk.loops {
            for (range, read_first) in walk.lives.ranges.iter_mut().zip(&walk.read_first) {
                let inside = (start..=end).contains(&range.1);
                if inside && range.0 < start {
                    range.1 = end;
                } else if inside && *read_first {
                    *range = (start, end);
                }
            }
        }
        walk.lives
    }
}

struct Walk {
    lives: Lives,
    read_first: Vec<bool>,
    loops: Vec<(usize, usize)>,
    at: usize,
}

impl Walk {
    fn body(&mut self, body: &[Stmt]) {
        for stmt in body {
            let start = self.at;
            self.at += 1;
            for reg in reads(stmt) {
                self.mention(reg, start, true);
            }
            if let Some(reg) = writes(stmt) {
                self.mention(reg, start, false);
            }
            match stmt {
                Stmt::For { body, .. } | Stmt::Loop { body } => {
                    self.body(body);
                    self.loops.push((start, self.at - 1));
                }
                Stmt::Size { body, .. } => self.body(body),
                Stmt::If { then, otherwise, .. } => {
                    self.body(then);
                    self.body(otherwise);
                }
                _ => {}
            }
        }
    }

    fn mention(&mut self, reg: Reg, at: usize, read: bool) {
        let range = &mut self.lives.ranges[reg as usize];
        if range.0 == usize::MAX {
            range.0 = at;
            self.read_first[reg as usize] = read;
        }
        range.1 = at;
        self.lives.mentions[reg as usize] += 1;
    }
}
