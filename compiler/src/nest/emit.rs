//! Builds tile kernels: statements in nested scopes, equal values computed once.
//!
//! Unrolled tiles repeat the same loads and index computations many times over; numbering values
//! as they are emitted keeps one of each, so that a register tile loads every operand once.

use crate::base::{Affine, Bound};
use crate::schedule::linear::LinearVar;
use crate::tile::{Access, Addr, Kernel, LoopVar, Param, Reg, RegType, Stmt, Value, mentioned};
use std::collections::{HashMap, HashSet, VecDeque};

/// A list of statements and the values known in it.
#[derive(Default)]
struct Scope {
    stmts: Vec<Stmt>,
    known: HashMap<(RegType, Value), Reg>,
}

/// A kernel under construction.
pub struct Emitter {
    kernel: Kernel,
    scopes: Vec<Scope>,
    /// Lanes hold four numbers of one byte each ([`crate::schedule::in_quads`]).
    pub quads: bool,
}

impl Emitter {
    /// An empty kernel.
    pub fn new(name: &str, params: Vec<Param>, fused: bool) -> Self {
        let kernel = Kernel {
            name: name.to_string(),
            params,
            vars: Vec::new(),
            regs: Vec::new(),
            fused,
            body: Vec::new(),
        };
        Emitter { kernel, scopes: vec![Scope::default()], quads: false }
    }

    /// The finished kernel, and the sizes that it reads from its last parameters, in order.
    pub fn finish(mut self) -> (Kernel, Vec<usize>) {
        self.kernel.body = self.scopes.pop().map(|s| s.stmts).unwrap_or_default();
        let sizes = super::sizes::bind(&mut self.kernel);
        (self.kernel, sizes)
    }

    /// Whether multiply-adds round once.
    pub fn fused(&self) -> bool {
        self.kernel.fused
    }

    /// The type of a register.
    pub fn ty(&self, reg: Reg) -> RegType {
        self.kernel.regs[reg as usize]
    }

    /// A new register, not assigned yet.
    pub fn fresh(&mut self, ty: RegType) -> Reg {
        self.kernel.regs.push(ty);
        (self.kernel.regs.len() - 1) as Reg
    }

    /// Assigns a register: for accumulators, which are assigned again.
    pub fn assign(&mut self, reg: Reg, value: Value) {
        self.push(Stmt::Let(reg, value));
    }

    /// The register that holds a value; computed here unless a surrounding scope has it.
    pub fn value(&mut self, ty: RegType, value: Value) -> Reg {
        let key = (ty, value);
        if let Some(&reg) = self.scopes.iter().rev().find_map(|s| s.known.get(&key)) {
            return reg;
        }
        let reg = self.fresh(ty);
        self.push(Stmt::Let(reg, key.1.clone()));
        if let Some(scope) = self.scopes.last_mut() {
            scope.known.insert(key, reg);
        }
        reg
    }

    /// A constant in every lane, computed in the outermost scope: for loops that repeat it.
    pub fn hoisted(&mut self, ty: RegType, bits: u64) -> Reg {
        let key = (ty, Value::Const(bits));
        if let Some(&reg) = self.scopes[0].known.get(&key) {
            return reg;
        }
        let reg = self.fresh(ty);
        let scope = &mut self.scopes[0];
        let first_loop =
            scope.stmts.iter().position(|s| !matches!(s, Stmt::Let(..))).unwrap_or(scope.stmts.len());
        scope.stmts.insert(first_loop, Stmt::Let(reg, key.1.clone()));
        scope.known.insert(key, reg);
        reg
    }

    /// A store of every lane.
    pub fn store(&mut self, addr: Addr, stride: i64, src: Reg) {
        self.push(Stmt::Store { addr, stride, src });
    }

    /// Adds a statement.
    pub fn push(&mut self, stmt: Stmt) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.stmts.push(stmt);
        }
    }

    /// The statements of another kernel, whose parameters are places in this one's: the number of the
    /// parameter, and elements from its start.
    pub fn splice(&mut self, kernel: &Kernel, params: &[(u32, i64)]) {
        let vars: Vec<LoopVar> = kernel.vars.iter().map(|name| self.loop_var(name)).collect();
        let first = self.kernel.regs.len() as Reg;
        self.kernel.regs.extend(&kernel.regs);
        let body = crate::tile::moved(kernel.body.clone(), first, &vars, params);
        body.into_iter().for_each(|s| self.push(s));
    }

    /// What independent parts emit, their statements in turn: a core looks ahead but so far, and so
    /// finds more to do at once. Values that the first part has computed serve the others too.
    pub fn woven(&mut self, parts: usize, mut part: impl FnMut(&mut Self, usize)) {
        let length = |e: &Self| e.scopes.last().map_or(0, |s| s.stmts.len());
        let mut ends = vec![length(self)];
        for i in 0..parts {
            part(self, i);
            ends.push(length(self));
        }
        if let Some(scope) = self.scopes.last_mut() {
            let mut lists: Vec<VecDeque<Stmt>> = Vec::new();
            for &at in ends[..parts].iter().rev() {
                lists.insert(0, scope.stmts.split_off(at).into());
            }
            scope.stmts.extend(weave(lists));
        }
    }

    /// Begins a scope: the body of a loop or condition.
    pub fn open(&mut self) {
        self.scopes.push(Scope::default());
    }

    /// Ends a scope and gives its statements.
    pub fn close(&mut self) -> Vec<Stmt> {
        self.scopes.pop().map(|s| s.stmts).unwrap_or_default()
    }

    /// What `body` emits in a scope of its own, whose values nothing behind it takes up: what they were loaded from may
    /// be written there.
    pub fn scoped(&mut self, body: impl FnOnce(&mut Self)) {
        self.open();
        body(self);
        self.close().into_iter().for_each(|s| self.push(s));
    }

    /// Forgets the values known in the innermost scope, so that what follows computes its own:
    /// keeps registers from living through a whole reduction.
    pub fn forget(&mut self) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.known.clear();
        }
    }

    /// A new loop variable.
    pub fn loop_var(&mut self, name: &str) -> LoopVar {
        let free = |n: &String| !self.kernel.vars.contains(n);
        let numbered = (1..).map(|i| format!("{name}_{i}"));
        let name = std::iter::once(name.to_string()).chain(numbered).find(free).unwrap_or_default();
        self.kernel.vars.push(name);
        (self.kernel.vars.len() - 1) as LoopVar
    }

    /// A loop from 0 that ends at a size known only at run time, at `most` at the latest.
    pub fn repeat_until(
        &mut self,
        name: &str,
        most: i64,
        size: &Affine,
        step: i64,
        body: impl FnMut(&mut Self, Affine),
    ) {
        if most > 0 {
            let ends = Bound(vec![Affine::constant(most), size.clone()]);
            self.repeat_bounds(name, Bound::constant(0), ends, step, body);
        }
    }

    /// A loop with constant bounds around what `body` emits; without a loop for one iteration.
    pub fn repeat(
        &mut self,
        name: &str,
        lo: i64,
        hi: i64,
        step: i64,
        mut body: impl FnMut(&mut Self, Affine),
    ) {
        if hi <= lo {
            return;
        }
        if lo + step >= hi {
            return body(self, Affine::constant(lo));
        }
        self.repeat_bounds(name, Bound::constant(lo), Bound::constant(hi), step, body);
    }

    /// A loop over an axis, which may end at a size known only at run time.
    pub fn over(&mut self, axis: &LinearVar, body: impl FnMut(&mut Self, Affine)) {
        let extent = axis.extent as i64;
        match &axis.size {
            Some(size) => self.repeat_until(&axis.name, extent, size, 1, body),
            None => self.repeat(&axis.name, 0, extent, 1, body),
        }
    }

    /// What `body` emits with a variable that stands for a number in memory, `max` at most.
    pub fn size(&mut self, name: &str, from: Addr, max: i64, body: impl FnOnce(&mut Self, Affine)) {
        let var = self.loop_var(name);
        self.open();
        body(self, Affine::var(var));
        let body = self.close();
        self.push(Stmt::Size { var, from, max, body });
    }

    /// A loop with any bounds.
    pub fn repeat_bounds(
        &mut self,
        name: &str,
        lo: Bound,
        hi: Bound,
        step: i64,
        mut body: impl FnMut(&mut Self, Affine),
    ) {
        let var = self.loop_var(name);
        self.open();
        body(self, Affine::var(var));
        let stmts = self.close();
        if !stmts.is_empty() {
            self.push(Stmt::For { var, lo, hi, step, body: stmts });
        }
    }
}

/// The statements of all lists, one of each in turn; constants are none. A statement that needs what
/// another list has yet to compute waits.
fn weave(mut lists: Vec<VecDeque<Stmt>>) -> Vec<Stmt> {
    let written = |s: &Stmt| match s {
        Stmt::Let(reg, _) => Some(*reg),
        _ => None,
    };
    let mut pending: HashSet<Reg> = lists.iter().flatten().filter_map(written).collect();
    let mut woven = Vec::new();
    while lists.iter().any(|l| !l.is_empty()) {
        let before = woven.len();
        for list in &mut lists {
            while let Some(next) = list.front() {
                let counts = !matches!(next, Stmt::Let(_, Value::Const(_)));
                let own = written(next);
                let mut ready = true;
                mentioned(next, &mut |r| ready &= Some(r) == own || !pending.contains(&r));
                if !ready {
                    break;
                }
                own.iter().for_each(|reg| _ = pending.remove(reg));
                woven.extend(list.pop_front());
                if counts {
                    break;
                }
            }
        }
        if woven.len() == before {
            // Registers assigned twice: no part can go first.
            lists.iter_mut().for_each(|l| woven.extend(l.drain(..)));
        }
    }
    woven
}

/// An address without a computed index.
pub fn addr(param: u32, index: Affine) -> Addr {
    Addr { param, index, dynamic: None }
}

/// A parameter.
pub fn param(name: &str, dtype: crate::base::DType, elems: usize, access: Access) -> Param {
    Param { name: name.to_string(), dtype, elems, access }
}
