//! Statements and loops to instructions.
//!
//! Pointers run as in `pointer`; between what a pointer holds and what it would hold without loops
//! there is a known distance (`ahead`), so that returning to a row's start and moving on to the next
//! row is one addition. Loops with known bounds count down.

use super::Result;
use super::couple;
use super::inst::{Kind, VReg, read, write};
use super::select::{Select, VarValue};
use super::words;
use crate::base::{Affine, Bound};
use crate::codegen::pointer::needs_value;
use crate::tile::{LoopVar, Stmt, Value};

impl Select<'_> {
    pub(super) fn block(&mut self, body: &[Stmt]) -> Result<()> {
        let mut rest = body;
        while let [stmt, after @ ..] = rest {
            let couples = if self.isa.dot { Vec::new() } else { couple::couples(rest) };
            rest = match couples.iter().all(|c| self.split[c.0 as usize]) {
                true if !couples.is_empty() => {
                    self.coupled_dots(&couples)?;
                    couples.iter().for_each(|c| self.assigned(c.0));
                    &rest[2 * couples.len()..]
                }
                _ => {
                    self.stmt(stmt)?;
                    after
                }
            };
        }
        Ok(())
    }

    pub(super) fn stmt(&mut self, stmt: &Stmt) -> Result<()> {
        match stmt {
            Stmt::Let(r, Value::Const(_)) if self.constant_reg(*r).is_some() => Ok(()),
            Stmt::Let(r, value) => {
                self.value(*r, value)?;
                self.assigned(*r);
                Ok(())
            }
            Stmt::Store { addr, stride, src } => self.store(addr, *stride, *src),
            Stmt::For { var, lo, hi, step, body } => {
                // What is derived inside is not there where the loop is not entered.
                self.reassigned(body);
                let derived = self.derived.clone();
                match (self.fixed_bound(lo, i64::max), self.fixed_bound(hi, i64::min)) {
                    (Some(lo), Some(hi)) => self.counted(stmt, *var, (lo, hi), *step, body)?,
                    _ => self.bounded(stmt, *var, (lo, hi), *step, body)?,
                }
                self.derived = derived;
                self.reassigned(body);
                Ok(())
            }
            Stmt::Size { .. } => Err("a size known at run time".into()),
            Stmt::If { .. } | Stmt::Loop { .. } | Stmt::Break { .. } => Err("control flow".into()),
            Stmt::Fail { .. } => Err("an error code".into()),
        }
    }

    /// Forgets what was derived from registers that a loop assigns.
    fn reassigned(&mut self, body: &[Stmt]) {
        for stmt in body {
            match stmt {
                Stmt::Let(r, _) => self.assigned(*r),
                Stmt::For { body, .. } => self.reassigned(body),
                _ => {}
            }
        }
    }

    /// The value of a bound, where known.
    pub(super) fn fixed_bound(&self, bound: &Bound, join: fn(i64, i64) -> i64) -> Option<i64> {
        let form = |a: &Affine| {
            a.terms.iter().try_fold(a.base, |sum, (v, c)| match self.vars.get(v) {
                Some(VarValue::Constant(value)) => Some(sum + c * value),
                _ => None,
            })
        };
        bound.0.iter().map(form).reduce(|a, b| Some(join(a?, b?)))?
    }

    /// Moves a pointer.
    pub(super) fn advance(&mut self, group: usize, bytes: i64) -> Result<()> {
        let reg = self.pointers[group].reg.ok_or("a pointer is moved before it is loaded")?;
        if bytes != 0 {
            self.add(reg, reg, bytes);
            self.moved(reg);
        }
        self.pointers[group].ahead += bytes;
        Ok(())
    }

    /// A loop whose bounds are known.
    fn counted(
        &mut self,
        id: &Stmt,
        var: LoopVar,
        (lo, hi): (i64, i64),
        step: i64,
        body: &[Stmt],
    ) -> Result<()> {
        let trips = if hi > lo { (hi - lo + step - 1) / step } else { 0 };
        if trips == 0 {
            return Ok(());
        }
        let moving = self.moving(id);
        moving.iter().for_each(|&(g, m)| self.pointers[g].ahead -= m * lo);
        self.around.push((id, var));
        if trips == 1 {
            let outer = self.vars.insert(var, VarValue::Constant(lo));
            self.body(body)?;
            self.vars.remove(&var);
            outer.map(|o| self.vars.insert(var, o));
            moving.iter().for_each(|&(g, m)| self.pointers[g].ahead += m * lo);
        } else {
            let up = needs_value(body, var);
            let counter = self.number(if up { lo } else { trips });
            self.vars.insert(var, VarValue::Reg(counter));
            let entry = self.pointers.clone();
            let top = self.top();
            self.body(body)?;
            for &(g, m) in &moving {
                self.advance(g, entry[g].ahead + m * step - self.pointers[g].ahead)?;
            }
            if up {
                self.add(counter, counter, step);
                self.compare_number(counter, lo + trips * step);
            } else {
                self.push(words::SUBS_IMM | 1 << 10, vec![write(counter, 0), read(counter, 5)], Kind::Flags);
            }
            self.push(words::B_COND | words::NE, Vec::new(), Kind::Jump(top));
            self.depth -= 1;
            let end = lo + trips * step;
            moving.iter().for_each(|&(g, m)| self.pointers[g].ahead = entry[g].ahead + m * end);
            self.vars.remove(&var);
        }
        self.around.pop();
        Ok(())
    }

    fn compare_number(&mut self, reg: VReg, number: i64) {
        if (0..4096).contains(&number) {
            return self.push(words::CMP_IMM | (number as u32) << 10, vec![read(reg, 5)], Kind::Flags);
        }
        let number = self.number(number);
        self.push(words::CMP, vec![read(reg, 5), read(number, 16)], Kind::Flags);
    }

    fn top(&mut self) -> i64 {
        let top = self.f.label();
        self.depth += 1;
        self.label(top);
        top
    }

    /// A loop whose bounds depend on variables outside it.
    fn bounded(
        &mut self,
        id: &Stmt,
        var: LoopVar,
        bounds: (&Bound, &Bound),
        step: i64,
        body: &[Stmt],
    ) -> Result<()> {
        let counter = self.first(bounds.0)?;
        let end = self.end(bounds.1)?;
        let skip = self.f.label();
        self.push(words::CMP, vec![read(counter, 5), read(end, 16)], Kind::Flags);
        self.push(words::B_COND | words::GE, Vec::new(), Kind::Jump(skip));
        let outside = self.pointers.clone();
        let moving = self.moving(id);
        for &(g, m) in moving.iter().filter(|(_, m)| *m != 0) {
            let base = self.pointers[g].reg.ok_or("a pointer is used before it is loaded")?;
            self.pointers[g].reg = Some(self.pointer_at(base, bounds.0, counter, m));
        }
        self.around.push((id, var));
        let outer = self.vars.insert(var, VarValue::Reg(counter));
        let entry = self.pointers.clone();
        let top = self.top();
        self.body(body)?;
        for &(g, m) in &moving {
            self.advance(g, entry[g].ahead + m * step - self.pointers[g].ahead)?;
        }
        self.add(counter, counter, step);
        self.push(words::CMP, vec![read(counter, 5), read(end, 16)], Kind::Flags);
        self.push(words::B_COND | words::LT, Vec::new(), Kind::Jump(top));
        self.depth -= 1;
        self.label(skip);
        self.around.pop();
        self.vars.remove(&var);
        outer.map(|o| self.vars.insert(var, o));
        self.pointers = outside;
        Ok(())
    }
}
