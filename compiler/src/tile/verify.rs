//! Proves that a kernel is well formed. Every stage that makes or rewrites kernels calls it.
//!
//! 1. Names of parameters and of loop variables are unique; every number refers to something.
//! 2. Types: each operation exists for the lane type of its operands, results have the type that
//!    the operation gives (`Cmp`: the mask beside the operands; `Reduce`: a scalar), constants fit
//!    their lane, loads and stores use the lane of the parameter's element type ([`Lane::of`]; stores also those that they extend, [`extends`]),
//!    `LoadCouples` and `Lookup` a parameter of bytes, `LoadWords` one of bytes or of 16 bits; conditions are scalar masks; `Fail` has a code other than 0.
//! 3. A register is assigned before it is used, on every path.
//! 4. A `for` has a positive step, bounds of at least one form in variables of loops around it, and
//!    a variable that no loop around it has; a `size` likewise, read from an `i64` parameter; addresses use variables of loops around them.
//! 5. A `break` is inside a `loop`, and each `loop` has one.
//! 6. Parameters are read and written as declared, and every lane of every access lies inside for
//!    all values of the loop variables and all computed indices up to their limit.
//!
//! Goldens: `tests/golden/tile`, those named `bad_*` must fail.

use super::range::{Loop, is_empty, range};
use super::text::Printer;
use super::{
    Access, Addr, Dot, Kernel, Lane, Reg, RegType, Stmt, TABLE, Value, extends, has_words, lanes, words_span,
};
use crate::base::annotate::{annotate, defect};
use crate::base::{Affine, Bound, DType};
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
                if let Err(reason) = self.value(ty, value, assigned) {
                    self.fault(reason);
                }
                assigned[*dst as usize] = true;
            }
            Stmt::Store { addr, stride, src } => {
                let fits = self.used(*src, assigned).and_then(|ty| {
                    self.address(addr, ty, *stride, 1, Access::Write, assigned)?;
                    self.stored_fits(addr, ty)
                });
                if let Err(reason) = fits {
                    self.fault(reason);
                }
            }
            Stmt::For { var, lo, hi, step, body } => {
                self.for_head(*var, lo, hi, *step);
                self.loops.push(Loop { var: *var, lo: lo.clone(), hi: hi.clone(), step: *step });
                let mut inside = assigned.clone();
                self.body(body, &mut inside);
                self.loops.pop();
                let entered = matches!((lo.as_constant(), hi.as_constant()), (Some(a), Some(b)) if a < b);
                if entered {
                    *assigned = inside;
                }
            }
            Stmt::Size { var, from, max, body } => {
                let (lo, hi) = (Bound::constant(0), Bound::constant(max.saturating_add(1)));
                self.for_head(*var, &lo, &hi, 1);
                let fits =
                    self.kernel.params.get(from.param as usize).is_some_and(|p| {
                        matches!(p.dtype, DType::I64 | DType::I32) && p.access == Access::Read
                    });
                let fits = fits && from.dynamic.is_none() && *max >= 0;
                self.require(fits, || "a size must be read from a parameter of i64 or i32".to_string());
                let number = RegType { lane: Lane::I64, lanes: 1 };
                if let Err(reason) = self.address(from, number, 0, 1, Access::Read, assigned) {
                    self.fault(reason);
                }
                self.loops.push(Loop { var: *var, lo, hi, step: 1 });
                self.body(body, assigned);
                self.loops.pop();
            }
            Stmt::If { cond, then, otherwise } => {
                self.condition(*cond, assigned);
                let mut other = assigned.clone();
                self.body(then, assigned);
                self.body(otherwise, &mut other);
                intersect(assigned, &other);
            }
            Stmt::Loop { body } => {
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
            Stmt::Break { cond } => {
                self.condition(*cond, assigned);
                match self.exits.last_mut() {
                    Some(Some(exit)) => intersect(exit, assigned),
                    Some(exit) => *exit = Some(assigned.clone()),
                    None => self.fault("a break outside of every loop"),
                }
            }
            Stmt::Fail { cond, code } => {
                self.condition(*cond, assigned);
                self.require(*code != 0, || "the code 0 means success".to_string());
            }
        }
    }

    fn for_head(&mut self, var: u32, lo: &Bound, hi: &Bound, step: i64) {
        self.require((var as usize) < self.kernel.vars.len(), || format!("there is no variable {var}"));
        let twice = self.loops.iter().any(|l| l.var == var);
        self.require(!twice, || "a loop around has the same variable".to_string());
        self.require(step > 0, || format!("the step {step} is not positive"));
        for bound in [lo, hi] {
            self.require(!bound.0.is_empty(), || "a bound has no form".to_string());
            for form in &bound.0 {
                if let Err(reason) = self.in_scope(form) {
                    self.fault(reason);
                }
            }
        }
    }

    fn in_scope(&self, form: &Affine) -> std::result::Result<(), String> {
        let around = |v: u32| self.loops.iter().any(|l| l.var == v);
        match form.terms.iter().find(|t| !around(t.0)) {
            None => Ok(()),
            Some((v, _)) => {
                let name = self.kernel.vars.get(*v as usize).map_or("?", String::as_str);
                Err(format!("no loop around has the variable '{name}'"))
            }
        }
    }

    /// The type of a register that is read.
    fn used(&self, reg: Reg, assigned: &Assigned) -> std::result::Result<RegType, String> {
        match self.kernel.regs.get(reg as usize) {
            None => Err(format!("there is no %{reg}")),
            Some(_) if !assigned[reg as usize] => {
                Err(format!("%{reg} is not assigned on every path to here"))
            }
            Some(ty) => Ok(*ty),
        }
    }

    fn condition(&mut self, reg: Reg, assigned: &Assigned) {
        match self.used(reg, assigned) {
            Ok(ty) if ty.lanes == 1 && ty.lane == ty.lane.mask() => {}
            Ok(ty) => self.fault(format!("a condition must be a scalar mask, %{reg} is {ty}")),
            Err(reason) => self.fault(reason),
        }
    }

    fn value(&self, dst: RegType, value: &Value, assigned: &Assigned) -> std::result::Result<(), String> {
        let used = |r: &Reg| self.used(*r, assigned);
        let same = |regs: &[&Reg], wanted: RegType| {
            regs.iter().try_for_each(|r| match used(r)? {
                ty if ty == wanted => Ok(()),
                ty => Err(format!("%{r} is {ty} and should be {wanted}")),
            })
        };
        let exists = |known: bool, lane: Lane| {
            let ty = RegType { lane, lanes: dst.lanes };
            if known { Ok(()) } else { Err(format!("there is no such operation on {ty}")) }
        };
        let needs = |wanted: RegType| {
            if wanted == dst { Ok(()) } else { Err(format!("the result is {wanted}, not {dst}")) }
        };
        match value {
            Value::Const(bits) => {
                let fits = match dst.lane {
                    Lane::F16 => *bits <= u64::from(u16::MAX),
                    Lane::F32 | Lane::I32 => *bits <= u64::from(u32::MAX),
                    Lane::M32 | Lane::M64 => *bits <= 1,
                    Lane::F64 | Lane::I64 => true,
                };
                if fits { Ok(()) } else { Err(format!("{bits:#x} does not fit {dst}")) }
            }
            Value::Index(form, _) => {
                exists(matches!(dst.lane, Lane::I32 | Lane::I64), dst.lane)?;
                self.in_scope(form)
            }
            Value::Copy(a) => same(&[a], dst),
            Value::Load(addr, stride) => {
                self.address(addr, dst, *stride, 1, Access::Read, assigned)?;
                self.element_fits(addr, dst)
            }
            Value::LoadWords(addr, stride) => {
                let param = self.kernel.params.get(addr.param as usize);
                let dtype = param.ok_or_else(|| format!("there is no parameter {}", addr.param))?.dtype;
                let (step, span) = words_span(usize::from(dst.lanes), *stride, dtype.size());
                self.address(addr, dst, step, span, Access::Read, assigned)?;
                needs(RegType { lane: Lane::I32, ..dst })?;
                match dtype.size() {
                    _ if has_words(dtype.size(), *stride) => Ok(()),
                    1 | 2 => Err(format!("words that lie {stride} bytes apart")),
                    _ => Err(format!("words of {dtype} elements")),
                }
            }
            Value::LoadCouples(addr) => {
                self.address(addr, dst, 2, 2, Access::Read, assigned)?;
                needs(RegType { lane: Lane::I32, ..dst })?;
                let dtype = self.kernel.params[addr.param as usize].dtype;
                if dtype.size() == 1 { Ok(()) } else { Err(format!("couples of {dtype} elements")) }
            }
            Value::Lookup(addr, a) => {
                self.address(addr, dst, 0, TABLE as i64, Access::Read, assigned)?;
                needs(RegType { lane: Lane::I32, ..dst })?;
                let dtype = self.kernel.params[addr.param as usize].dtype;
                if dtype.size() != 1 {
                    return Err(format!("a table of {dtype} elements"));
                }
                same(&[a], dst)
            }
            Value::Un(op, a) => {
                exists(lanes::un(*op, dst.lane).is_some(), dst.lane)?;
                same(&[a], dst)
            }
            Value::Bin(op, a, b) => {
                exists(lanes::bin(*op, dst.lane).is_some(), dst.lane)?;
                same(&[a, b], dst)
            }
            Value::Mla(c, a, b) => {
                exists(lanes::mla(dst.lane, true).is_some(), dst.lane)?;
                same(&[c, a, b], dst)
            }
            Value::Dot(kind, c, a, b) => {
                let together = match kind {
                    Dot::Squares(_) => 4,
                    Dot::Halves | Dot::HalfPairs | Dot::CoupleHalves => 8,
                    _ => 1,
                };
                exists(dst.lane == Lane::I32 && dst.lanes.is_multiple_of(together), dst.lane)?;
                same(&[c, a, b], dst)
            }
            Value::Cmp(op, a, b) => {
                let ty = used(a)?;
                exists(lanes::cmp(*op, ty.lane).is_some(), ty.lane)?;
                same(&[b], ty)?;
                needs(RegType { lane: ty.lane.mask(), ..ty })
            }
            Value::Select(mask, a, b) => {
                exists(dst.lane != Lane::F16, dst.lane)?;
                same(&[mask], RegType { lane: dst.lane.mask(), ..dst })?;
                same(&[a, b], dst)
            }
            Value::Convert(kind, a) => {
                let ty = used(a)?;
                needs(RegType { lanes: ty.lanes, ..dst })?;
                match lanes::convert(*kind, ty.lane, dst.lane, 0) {
                    Some(_) => Ok(()),
                    None => Err(format!("there is no such conversion of {ty} to {dst}")),
                }
            }
            Value::Splat(a) => same(&[a], RegType { lanes: 1, ..dst }),
            Value::Broadcast(a, lane) => {
                let ty = used(a)?;
                needs(RegType { lane: ty.lane, ..dst })?;
                if *lane < ty.lanes { Ok(()) } else { Err(format!("%{a} has only {} lanes", ty.lanes)) }
            }
            Value::Pairs(pairs) => {
                needs(RegType { lanes: (2 * pairs.len()) as u8, ..dst })?;
                pairs.iter().try_for_each(|(a, lane)| {
                    let ty = used(a)?;
                    exists(matches!(ty.lane, Lane::I32 | Lane::F32), ty.lane)?;
                    needs(RegType { lane: ty.lane, ..dst })?;
                    match lane.is_multiple_of(2) && lane + 1 < ty.lanes {
                        true => Ok(()),
                        false => Err(format!("%{a} has no pair of lanes at {lane}")),
                    }
                })
            }
            Value::Reduce(fold, a) => {
                let ty = used(a)?;
                exists(lanes::fold(*fold, ty.lane).is_some(), ty.lane)?;
                needs(RegType { lanes: 1, ..ty })
            }
        }
    }

    fn element_fits(&self, addr: &Addr, ty: RegType) -> std::result::Result<(), String> {
        let dtype = self.kernel.params[addr.param as usize].dtype;
        let lane = RegType { lane: Lane::of(dtype), ..ty };
        if ty.lane.holds(dtype) {
            Ok(())
        } else {
            Err(format!("elements {dtype} are held in {lane}, not {ty}"))
        }
    }

    fn stored_fits(&self, addr: &Addr, ty: RegType) -> std::result::Result<(), String> {
        let dtype = self.kernel.params[addr.param as usize].dtype;
        if extends(dtype, ty.lane) { Ok(()) } else { self.element_fits(addr, ty) }
    }

    /// All lanes of an access, `span` elements each and `step` apart, lie inside the parameter.
    fn address(
        &self,
        addr: &Addr,
        ty: RegType,
        step: i64,
        span: i64,
        access: Access,
        assigned: &Assigned,
    ) -> std::result::Result<(), String> {
        let Some(param) = self.kernel.params.get(addr.param as usize) else {
            return Err(format!("there is no parameter {}", addr.param));
        };
        if param.access != access && param.access != Access::ReadWrite {
            return Err(format!("'{}' is declared {:?} only", param.name, param.access));
        }
        self.in_scope(&addr.index)?;
        let mut limit = 0;
        if let Some((reg, most)) = addr.dynamic {
            let scalar = RegType { lane: Lane::I64, lanes: 1 };
            let ty = self.used(reg, assigned)?;
            if ty != scalar {
                return Err(format!("%{reg} is {ty} and should be {scalar}"));
            }
            limit = most as i128;
        }
        if self.loops.iter().any(is_empty) {
            return Ok(());
        }
        let Some((low, high)) = range(&addr.index, &self.loops) else {
            return Err(format!("no range of the index into '{}' is found", param.name));
        };
        let across = i128::from(step) * (i128::from(ty.lanes) - 1);
        let first = i128::from(low) + across.min(0);
        let last = i128::from(high) + across.max(0) + limit + i128::from(span) - 1;
        if first >= 0 && last < param.elems as i128 {
            return Ok(());
        }
        let elems = param.elems;
        Err(format!("the access reaches from {first} to {last}, '{}' has {elems} elements", param.name))
    }
}
