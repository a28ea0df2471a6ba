//! Which accesses share a running pointer.
//!
//! A pointer follows the loops around it: it is raised once per iteration by what its accesses
//! move, so inside an iteration every access is a constant distance from it. Accesses to one
//! parameter share a pointer where they move alike in every loop around both; how a pointer moves
//! in loops that none of its accesses is in is free, so loops one after the other share pointers
//! too. Where displacements are limited, accesses far from each other have pointers of their own.

use crate::base::{Affine, Bound};
use crate::tile::{Addr, Kernel, LoopVar, Stmt, Value};
use std::collections::HashMap;

/// Bytes of a table that are loaded at once.
const TABLE_PART: u8 = 64;

/// A loop of the kernel: the address of its statement, which stays while the kernel is borrowed.
pub type LoopId = *const Stmt;

/// Accesses that share a running pointer.
#[derive(Debug)]
pub struct Group {
    /// The parameter.
    pub param: u32,
    /// Bytes that one unit of each loop's variable moves it, for every loop around an access.
    pub moves: HashMap<LoopId, i64>,
    /// The distances of its accesses per innermost loop, what displacements will be needed, with the bytes
    /// of each access.
    pub distances: HashMap<Option<LoopId>, Vec<(i64, i64)>>,
    /// The least and the largest distance.
    pub span: (i64, i64),
}

/// The pointers of a kernel.
#[derive(Debug)]
pub struct Groups {
    /// The groups, in the order of their first accesses.
    pub list: Vec<Group>,
    /// The most bytes between accesses that share a pointer.
    reach: i64,
    /// What is asked for beside a statement.
    asked: Asked,
}

/// Places that are asked for ahead of their use, each beside a statement.
pub type Asked = HashMap<*const Stmt, Addr>;

/// The loops around a statement, outermost first, with their variables.
pub type Around = Vec<(LoopId, LoopVar)>;

fn moves(kernel: &Kernel, addr: &Addr, around: &Around) -> Vec<(LoopId, i64)> {
    let size = kernel.params[addr.param as usize].dtype.size() as i64;
    around.iter().map(|&(id, var)| (id, size * addr.index.coefficient(var))).collect()
}

impl Groups {
    /// Groups all accesses of a kernel and what is `asked` for; those that share a pointer are at most `reach`
    /// bytes apart.
    pub fn of(kernel: &Kernel, reach: i64, asked: Asked) -> Groups {
        let mut groups = Groups { list: Vec::new(), reach, asked };
        groups.collect(kernel, &kernel.body, &mut Vec::new());
        groups
    }

    fn collect(&mut self, kernel: &Kernel, body: &[Stmt], around: &mut Around) {
        for stmt in body {
            if let Some(addr) = self.asked(stmt).cloned() {
                self.add(kernel, &addr, 1, around);
            }
            match stmt {
                Stmt::Let(reg, Value::Load(addr, stride)) => {
                    let lanes = if *stride == 0 { 1 } else { kernel.regs[*reg as usize].lanes };
                    self.add(kernel, addr, lanes, around)
                }
                Stmt::Let(_, Value::LoadWords(addr, _) | Value::LoadCouples(addr)) => {
                    self.add(kernel, addr, 4, around)
                }
                Stmt::Let(_, Value::Lookup(addr, _)) => self.add(kernel, addr, TABLE_PART, around),
                Stmt::Store { addr, src, .. } => {
                    self.add(kernel, addr, kernel.regs[*src as usize].lanes, around);
                }
                Stmt::For { var, body, .. } | Stmt::Size { var, body, .. } => {
                    if let Stmt::Size { from, .. } = stmt {
                        self.add(kernel, from, 1, around);
                    }
                    around.push((stmt, *var));
                    self.collect(kernel, body, around);
                    around.pop();
                }
                Stmt::If { then, otherwise, .. } => {
                    self.collect(kernel, then, around);
                    self.collect(kernel, otherwise, around);
                }
                Stmt::Loop { body } => self.collect(kernel, body, around),
                Stmt::Let(..) | Stmt::Break { .. } | Stmt::Fail { .. } => {}
            }
        }
    }

    /// The place that is asked for beside a statement.
    pub fn asked(&self, stmt: &Stmt) -> Option<&Addr> {
        self.asked.get(&std::ptr::from_ref(stmt))
    }

    fn add(&mut self, kernel: &Kernel, addr: &Addr, lanes: u8, around: &Around) {
        let moves = moves(kernel, addr, around);
        let size = kernel.params[addr.param as usize].dtype.size() as i64;
        let (at, bytes) = (size * addr.index.base, size * i64::from(lanes));
        let reach = self.reach;
        let fits = |g: &&mut Group| {
            g.param == addr.param
                && moves.iter().all(|(id, m)| g.moves.get(id).is_none_or(|n| n == m))
                && g.span.1.max(at) - g.span.0.min(at) <= reach
        };
        let innermost = around.last().map(|a| a.0);
        match self.list.iter_mut().find(fits) {
            Some(group) => {
                group.moves.extend(moves);
                group.distances.entry(innermost).or_default().push((at, bytes));
                group.span = (group.span.0.min(at), group.span.1.max(at));
            }
            None => self.list.push(Group {
                param: addr.param,
                moves: moves.into_iter().collect(),
                distances: HashMap::from([(innermost, vec![(at, bytes)])]),
                span: (at, at),
            }),
        }
    }

    /// The distance at which a group's pointer begins: that of its first access where displacements are
    /// limited.
    pub fn start(&self, group: usize) -> i64 {
        if self.reach == i64::MAX { 0 } else { self.list[group].span.0 }
    }

    /// The group of an access.
    pub fn find(&self, kernel: &Kernel, addr: &Addr, around: &Around) -> usize {
        let moves = moves(kernel, addr, around);
        let at = kernel.params[addr.param as usize].dtype.size() as i64 * addr.index.base;
        let fits = |g: &Group| {
            g.param == addr.param
                && moves.iter().all(|(id, m)| g.moves.get(id).copied().unwrap_or(0) == *m)
                && (g.span.0..=g.span.1).contains(&at)
        };
        self.list.iter().position(fits).expect("every access was grouped")
    }

    /// The groups with an access in a list of statements.
    pub fn used(&self, kernel: &Kernel, body: &[Stmt], around: &mut Around, used: &mut Vec<usize>) {
        for stmt in body {
            let addr = match stmt {
                Stmt::Let(
                    _,
                    Value::Load(addr, _)
                    | Value::LoadWords(addr, _)
                    | Value::LoadCouples(addr)
                    | Value::Lookup(addr, _),
                )
                | Stmt::Store { addr, .. }
                | Stmt::Size { from: addr, .. } => Some(addr),
                _ => None,
            };
            for addr in addr.into_iter().chain(self.asked(stmt)) {
                let group = self.find(kernel, addr, around);
                if !used.contains(&group) {
                    used.push(group);
                }
            }
            match stmt {
                Stmt::For { var, body, .. } | Stmt::Size { var, body, .. } => {
                    around.push((stmt, *var));
                    self.used(kernel, body, around, used);
                    around.pop();
                }
                Stmt::If { then, otherwise, .. } => {
                    self.used(kernel, then, around, used);
                    self.used(kernel, otherwise, around, used);
                }
                Stmt::Loop { body } => self.used(kernel, body, around, used),
                _ => {}
            }
        }
    }
}

/// Whether a variable's value is needed in a list of statements, beyond moving pointers.
pub fn needs_value(body: &[Stmt], var: LoopVar) -> bool {
    let has = |a: &Affine| a.coefficient(var) != 0;
    let bound = |b: &Bound| b.0.iter().any(has);
    body.iter().any(|stmt| match stmt {
        Stmt::Let(_, Value::Index(a, _)) => has(a),
        Stmt::For { lo, hi, body, .. } => bound(lo) || bound(hi) || needs_value(body, var),
        Stmt::If { then, otherwise, .. } => needs_value(then, var) || needs_value(otherwise, var),
        Stmt::Loop { body } | Stmt::Size { body, .. } => needs_value(body, var),
        _ => false,
    })
}
