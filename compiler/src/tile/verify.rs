//! Proves that a kernel is well formed. Every stage that makes or rewrites kernels calls it.
//!
//! 1. Names of parameters and of loop variables are unique; every number refers to something.
//! 2. Types: each operation exists for the lane type of its operands, results have the type that
//!    the operation gives (`Cmp`: the mask beside the operands; `Reduce`: a scalar), constants fit
//!    their lane, loads and stores use the lane of the parameter's element type ([`super::Lane::of`];
//!    stores also those that they extend, [`super::extends`]), `LoadCouples` and `Lookup` a parameter
//!    of bytes, `LoadWords` one of bytes or of 16 bits; conditions are scalar masks; `Fail` has a code
//!    other than 0.
//! 3. A register is assigned before it is used, on every path.
//! 4. A `for` has a positive step, bounds of at least one form in variables of loops around it, and
//!    a variable that no loop around it has; a `size` likewise, read from a parameter of `i64` or
//!    `i32`; addresses use variables of loops around them.
//! 5. A `break` is inside a `loop`, and each `loop` has one.
//! 6. Parameters are read and written as declared, and every lane of every access lies inside for
//!    all values of the loop variables and all computed indices up to their limit.
//!
//! Goldens: `tests/golden/tile`, those named `bad_*` must fail.

use super::range::Loop;
use super::text::Printer;
use super::typing::{Scope, Verdict};
use super::{Access, Addr, Kernel, Param, Stmt};
use crate::base::annotate::{annotate, defect};
use crate::base::{Bound, DType};
use crate::error::Result;

/// A violation: the number of the statement (in the order of the text), and what is wrong.
struct Fault {
    stmt: Option<usize>,
    reason: String,
}

/// More violations are not listed.
const MAX_FAULTS: usize = 20;

/// An internal error where a kernel breaks one of the invariants; it shows the guilty lines.
pub fn verify(kernel: &Kernel) -> Result<()> {
    let faults = check(kernel);
    if faults.is_empty() {
        return Ok(());
    }
    let printer = Printer::print(kernel);
    let defect = defect(&printer.lines, &located(&printer, &faults), 6);
    defect.map_or(Ok(()), |e| Err(e.at(kernel.name.clone())))
}

/// The text of a kernel with every violation under its line; the text alone for a valid kernel.
pub fn explain(kernel: &Kernel) -> String {
    let printer = Printer::print(kernel);
    annotate(&printer.lines, &located(&printer, &check(kernel)))
}

/// The violations with the lines they belong to.
fn located<'f>(printer: &Printer, faults: &'f [Fault]) -> Vec<(usize, &'f str)> {
    let line_of = |f: &Fault| f.stmt.and_then(|s| printer.line_of.get(s).copied()).unwrap_or(0);
    faults.iter().map(|f| (line_of(f), f.reason.as_str())).collect()
}

fn check(kernel: &Kernel) -> Vec<Fault> {
    let mut v =
        Verifier { kernel, faults: Vec::new(), stmt: None, next: 0, loops: Vec::new(), exits: Vec::new() };
    v.names();
    let mut assigned = vec![false; kernel.regs.len()];
    v.body(&kernel.body, &mut assigned);
    v.faults
}

/// Which registers are assigned.
type Assigned = Vec<bool>;

struct Verifier<'a> {
    kernel: &'a Kernel,
    faults: Vec<Fault>,
    /// The statement being checked.
    stmt: Option<usize>,
    /// The number of the next statement.
    next: usize,
    /// The `for` loops around it.
    loops: Vec<Loop>,
    /// For each `loop` around it, what is assigned at all of its breaks so far.
    exits: Vec<Option<Assigned>>,
}

fn intersect(a: &mut Assigned, b: &Assigned) {
    a.iter_mut().zip(b).for_each(|(x, y)| *x &= y);
}

impl<'a> Verifier<'a> {
    fn fault(&mut self, reason: impl Into<String>) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(Fault { stmt: self.stmt, reason: reason.into() });
        }
    }

    fn require(&mut self, holds: bool, reason: impl FnOnce() -> String) {
        if !holds {
            self.fault(reason());
        }
    }

    fn names(&mut self) {
        let params: Vec<&String> = self.kernel.params.iter().map(|p| &p.name).collect();
        let vars: Vec<&String> = self.kernel.vars.iter().collect();
        for (what, names) in [("parameters", params), ("loop variables", vars)] {
            for (i, name) in names.iter().enumerate() {
                self.require(!names[..i].contains(name), || format!("two {what} are named '{name}'"));
            }
        }
        for (reg, ty) in self.kernel.regs.iter().enumerate() {
            self.require(ty.lanes > 0, || format!("%{reg} has no lanes"));
        }
    }

    fn body(&mut self, body: &'a [Stmt], assigned: &mut Assigned) {
        for stmt in body {
            self.stmt = Some(self.next);
            self.next += 1;
            self.statement(stmt, assigned);
        }
    }

    fn statement(&mut self, stmt: &'a Stmt, assigned: &mut Assigned) {
        match stmt {
            Stmt::Let(dst, value) => {
                let Some(&ty) = self.kernel.regs.get(*dst as usize) else {
                    return self.fault(format!("there is no %{dst}"));
                };
                self.hold(self.scope(assigned).value(ty, value));
                assigned[*dst as usize] = true;
            }
            Stmt::Store { addr, stride, src } => self.hold(self.scope(assigned).stored(addr, *stride, *src)),
            Stmt::For { var, lo, hi, step, body } => {
                let around = Loop { var: *var, lo: lo.clone(), hi: hi.clone(), step: *step };
                let mut inside = assigned.clone();
                self.inside(around, body, &mut inside);
                let entered = matches!((lo.as_constant(), hi.as_constant()), (Some(a), Some(b)) if a < b);
                if entered {
                    *assigned = inside;
                }
            }
            Stmt::Size { var, from, max, body } => {
                self.size(from, *max, assigned);
                let (lo, hi) = (Bound::constant(0), Bound::constant(max.saturating_add(1)));
                self.inside(Loop { var: *var, lo, hi, step: 1 }, body, assigned);
            }
            Stmt::If { cond, then, otherwise } => {
                self.hold(self.scope(assigned).condition(*cond));
                let mut other = assigned.clone();
                self.body(then, assigned);
                self.body(otherwise, &mut other);
                intersect(assigned, &other);
            }
            Stmt::Loop { body } => self.endless(body, assigned),
            Stmt::Break { cond } => {
                self.hold(self.scope(assigned).condition(*cond));
                match self.exits.last_mut() {
                    Some(Some(exit)) => intersect(exit, assigned),
                    Some(exit) => *exit = Some(assigned.clone()),
                    None => self.fault("a break outside of every loop"),
                }
            }
            Stmt::Fail { cond, code } => {
                self.hold(self.scope(assigned).condition(*cond));
                self.require(*code != 0, || "the code 0 means success".to_string());
            }
        }
    }

    /// The body of a `for`, or of a size, which is a variable like that of a loop.
    fn inside(&mut self, around: Loop, body: &'a [Stmt], assigned: &mut Assigned) {
        self.head(&around);
        self.loops.push(around);
        self.body(body, assigned);
        self.loops.pop();
    }

    fn head(&mut self, Loop { var, lo, hi, step }: &Loop) {
        self.require((*var as usize) < self.kernel.vars.len(), || format!("there is no variable {var}"));
        let twice = self.loops.iter().any(|l| l.var == *var);
        self.require(!twice, || "a loop around has the same variable".to_string());
        self.require(*step > 0, || format!("the step {step} is not positive"));
        for bound in [lo, hi] {
            self.require(!bound.0.is_empty(), || "a bound has no form".to_string());
            for form in &bound.0 {
                self.hold(self.scope(&[]).form(form));
            }
        }
    }

    fn size(&mut self, from: &Addr, max: i64, assigned: &Assigned) {
        let integer = |p: &Param| matches!(p.dtype, DType::I64 | DType::I32) && p.access == Access::Read;
        let fits = self.kernel.params.get(from.param as usize).is_some_and(integer);
        self.require(fits && from.dynamic.is_none() && max >= 0, || {
            "a size must be read from a parameter of i64 or i32".to_string()
        });
        self.hold(self.scope(assigned).number(from));
    }

    /// A `loop`: behind it is assigned what is so at all of its breaks.
    fn endless(&mut self, body: &'a [Stmt], assigned: &mut Assigned) {
        self.exits.push(None);
        let head = self.stmt;
        self.body(body, assigned);
        match self.exits.pop().flatten() {
            Some(exit) => *assigned = exit,
            None => {
                self.stmt = head;
                self.fault("this loop has no break");
            }
        }
    }

    fn scope<'s>(&'s self, assigned: &'s [bool]) -> Scope<'s> {
        Scope { kernel: self.kernel, loops: &self.loops, assigned }
    }

    /// Notes what a check found.
    fn hold(&mut self, verdict: Verdict) {
        if let Err(reason) = verdict {
            self.fault(reason);
        }
    }
}
