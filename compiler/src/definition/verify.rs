//! Proves that definitions and lowerings are well formed. Every stage that makes or rewrites them
//! calls it.
//!
//! A definition:
//! 1. Names of variables are unique; their sizes are forms in sizes alone, at most their extents; arguments have smaller numbers; everything named exists; no
//!    two expressions are alike, no value is read as two operands.
//! 2. Types: operations fit their row, bitcasts keep the size, a computed index is `i64`, a fill has
//!    the type of its operand, the fold that of its body, the stored value that of the output.
//! 3. `acc` needs a fold, and the folded expression does not use it. What is stored uses no
//!    reduction variable (but through `acc`).
//! 4. A load has one index per dimension; without a fill each affine one lies inside for all values
//!    of the variables. (A computed one is checked at run time.)
//! 5. The store has one index per dimension, in axes only; it lies inside, and no two points of the
//!    axes store to one element.
//!
//! A lowering:
//! 6. Operands have the types of their values; names of values are unique.
//! 7. No stage reads what a later one writes first, or names such a size; nothing writes a constant.
//! 8. A reshape keeps the element type and the number of elements. A routine has one operand per
//!    parameter, with its type and size, and its kernel is valid.
//! 9. Slices of a repetition are `whole` without its first dimension, which is the count; the four
//!    values of a carry have one type.
//! 10. A view has the type of its whole but along its dimension, and lies inside it in every iteration.
//!    Strips hold definitions and strips; parts are seen once each.
//!
//! Goldens: `tests/golden/definition`, those named `bad_*` must fail.

use super::text::{Printer, Subject};
use super::types::{arguments, types};
use super::{Definition, Expr, ExprId, Index};
use crate::base::affine::SIZE;
use crate::base::annotate::{annotate, defect};
use crate::base::{Affine, DType, row_major_strides};
use crate::error::Result;

/// A violation: in which stage (in the order of the text), at what, and what is wrong.
pub(super) struct Fault {
    pub stage: usize,
    pub subject: Subject,
    pub reason: String,
}

/// An internal error where a definition breaks one of the invariants; it shows the guilty lines.
pub fn verify_definition(d: &Definition) -> Result<()> {
    let mut printer = Printer::default();
    let faults = check(d, 0);
    if !faults.is_empty() {
        printer.definition(d);
    }
    report(&printer, &faults).map_err(|e| e.at(d.name.clone()))
}

/// The text of a definition with every violation under its line.
pub fn explain(d: &Definition) -> String {
    let mut printer = Printer::default();
    printer.definition(d);
    annotate(&printer.lines, &located(&printer, &check(d, 0)))
}

pub(super) fn report(printer: &Printer, faults: &[Fault]) -> Result<()> {
    defect(&printer.lines, &located(printer, faults), 12).map_or(Ok(()), Err)
}

/// The violations with the lines they belong to.
pub(super) fn located<'f>(printer: &Printer, faults: &'f [Fault]) -> Vec<(usize, &'f str)> {
    let line_of = |f: &Fault| {
        let found = printer.subjects.iter().find(|s| (s.0, s.1) == (f.stage, f.subject));
        found.map_or(0, |s| s.2)
    };
    faults.iter().map(|f| (line_of(f), f.reason.as_str())).collect()
}

/// All violations of a definition that is the given stage.
pub(super) fn check(d: &Definition, stage: usize) -> Vec<Fault> {
    let mut c = Checker { d, types: types(d), stage, faults: Vec::new() };
    c.head();
    for (i, expr) in d.exprs.iter().enumerate() {
        if let Err(reason) = c.expression(i, expr) {
            c.fault(Subject::Expr(i), reason);
        }
    }
    if let Err(reason) = c.fold() {
        c.fault(if d.fold.is_some() { Subject::Fold } else { Subject::Head }, reason);
    }
    if let Err(reason) = c.store() {
        c.fault(Subject::Store, reason);
    }
    c.faults
}

type Check = std::result::Result<(), String>;

fn require(holds: bool, reason: impl FnOnce() -> String) -> Check {
    if holds { Ok(()) } else { Err(reason()) }
}

struct Checker<'a> {
    d: &'a Definition,
    types: Vec<Option<DType>>,
    stage: usize,
    faults: Vec<Fault>,
}

impl Checker<'_> {
    fn fault(&mut self, subject: Subject, reason: String) {
        self.faults.push(Fault { stage: self.stage, subject, reason });
    }

    fn head(&mut self) {
        let d = self.d;
        if d.axes > d.vars.len() {
            self.fault(Subject::Head, format!("{} axes of {} variables", d.axes, d.vars.len()));
        }
        for (i, var) in d.vars.iter().enumerate() {
            let in_sizes =
                |s: &Affine| s.terms.iter().all(|t| t.0 >= SIZE) && s.range(|_| 1).1 <= var.extent as i64;
            if !var.size.as_ref().is_none_or(in_sizes) {
                self.fault(Subject::Head, format!("the size of '{}' is not below its bound", var.name));
            }
            if d.vars[..i].iter().any(|v| v.name == var.name) {
                self.fault(Subject::Head, format!("two variables are named '{}'", var.name));
            }
        }
        for (i, operand) in d.operands.iter().enumerate() {
            if d.operands[..i].iter().any(|o| o.value == operand.value) {
                self.fault(Subject::Head, format!("v{} is read twice", operand.value));
            }
        }
    }

    /// The largest index of a form, and the smallest, in variables that exist.
    fn range(&self, form: &Affine) -> std::result::Result<(i64, i64), String> {
        require(form.terms.iter().all(|t| t.0 >= SIZE || (t.0 as usize) < self.d.vars.len()), || {
            "a variable does not exist".to_string()
        })?;
        Ok(form.range(|v| self.d.vars[v as usize].extent))
    }

    /// Nothing is computed, so nothing is outside.
    fn is_empty(&self, vars: usize) -> bool {
        self.d.vars[..vars.min(self.d.vars.len())].iter().any(|v| v.extent == 0)
    }

    fn typed(&self, e: ExprId) -> std::result::Result<DType, String> {
        let known = self.types.get(e as usize).copied().flatten();
        known.ok_or_else(|| format!("%{e} has no type"))
    }

    fn expression(&self, number: usize, expr: &Expr) -> Check {
        let later = arguments(expr).into_iter().find(|a| *a as usize >= number);
        if let Some(later) = later {
            return Err(format!("%{later} comes later"));
        }
        if let Some(same) = self.d.exprs[..number].iter().position(|e| e == expr) {
            return Err(format!("the same as %{same}"));
        }
        match expr {
            Expr::Const(_) => Ok(()),
            Expr::Index(form) => self.range(form).map(|_| ()),
            Expr::Acc => require(self.d.fold.is_some(), || "there is no fold".to_string()),
            Expr::Load { operand, index, fill } => {
                let Some(operand) = self.d.operands.get(*operand as usize) else {
                    return Err("the operand does not exist".to_string());
                };
                let ty = &operand.ty;
                require(index.len() == ty.rank(), || format!("{} indices into {ty}", index.len()))?;
                require(fill.is_none_or(|f| f.dtype == ty.dtype), || format!("the fill is no {}", ty.dtype))?;
                index.iter().enumerate().try_for_each(|(dim, i)| match i {
                    Index::Dynamic(e) => {
                        let dtype = self.typed(*e)?;
                        require(dtype == DType::I64, || format!("index %{e} is {dtype}, not i64"))
                    }
                    Index::Affine(form) => self.inside(form, dim, ty.shape[dim], fill.is_some()),
                })
            }
            Expr::Op(..) | Expr::Cast { .. } | Expr::Bitcast { .. } => {
                let args = arguments(expr).into_iter().map(|a| self.typed(a));
                let args = args.collect::<std::result::Result<Vec<_>, _>>()?;
                let names: Vec<&str> = args.iter().map(|a| a.name()).collect();
                require(self.types[number].is_some(), || format!("there is none of {}", names.join(", ")))
            }
        }
    }

    fn inside(&self, form: &Affine, dim: usize, extent: usize, filled: bool) -> Check {
        let (low, high) = self.range(form)?;
        let inside = low >= 0 && high < extent as i64;
        require(inside || filled || self.is_empty(self.d.vars.len()), || {
            format!("index {dim} reaches from {low} to {high}, the dimension has {extent}")
        })
    }

    fn fold(&self) -> Check {
        let Some(fold) = &self.d.fold else {
            let reduced = self.d.vars.get(self.d.axes);
            return require(reduced.is_none(), || "reduction variables without a fold".to_string());
        };
        let dtype = self.typed(fold.body)?;
        require(dtype == fold.dtype, || format!("%{} is {dtype}, not {}", fold.body, fold.dtype))?;
        let acc = self.d.reached(fold.body).into_iter().find(|&e| self.d.exprs[e as usize] == Expr::Acc);
        require(acc.is_none(), || "the folded expression uses acc".to_string())
    }

    fn store(&self) -> Check {
        let (d, ty) = (self.d, &self.d.output.ty);
        let dtype = self.typed(d.finish)?;
        require(dtype == ty.dtype, || format!("%{} is {dtype}, not {}", d.finish, ty.dtype))?;
        let on_axes = |form: &Affine| form.terms.iter().all(|t| t.0 >= SIZE || (t.0 as usize) < d.axes);
        for e in d.reached(d.finish).into_iter().map(|e| e as usize) {
            let forms: Vec<&Affine> = match &d.exprs[e] {
                Expr::Index(form) => vec![form],
                Expr::Load { index, .. } => index.iter().filter_map(Index::affine).collect(),
                _ => Vec::new(),
            };
            require(forms.into_iter().all(on_axes), || format!("%{e} uses a reduction variable"))?;
        }
        require(d.store.len() == ty.rank(), || format!("{} indices into {ty}", d.store.len()))?;
        require(d.store.iter().all(on_axes), || "an index uses a reduction variable".to_string())?;
        if self.is_empty(d.axes) {
            return Ok(());
        }
        for (dim, form) in d.store.iter().enumerate() {
            self.inside(form, dim, ty.shape[dim], false)?;
        }
        self.injective()
    }

    /// Sorted by size, the step of each axis in the dense output exceeds what all smaller ones reach
    /// together, as the digits of a number do.
    fn injective(&self) -> Check {
        let strides = row_major_strides(&self.d.output.ty.shape);
        let flat = self.d.store.iter().zip(strides);
        let flat = flat.fold(Affine::default(), |sum, (form, stride)| sum.plus_scaled(form, stride));
        let axes = self.d.vars[..self.d.axes].iter().enumerate().filter(|(_, v)| v.extent > 1);
        let mut steps: Vec<(i64, i64, &str)> = axes
            .map(|(i, v)| (flat.coefficient(i as u32).abs(), v.extent as i64 - 1, v.name.as_str()))
            .collect();
        steps.sort_unstable();
        let mut reach = 0;
        for (step, most, name) in steps {
            require(step > reach, || format!("points that differ in '{name}' may store to one element"))?;
            reach += step * most;
        }
        Ok(())
    }
}
