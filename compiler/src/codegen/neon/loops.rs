//! Statements and loops to instructions.
//!
//! Pointers run as in `pointer`; between what a pointer holds and what it would hold without loops
//! there is a known distance (`ahead`), so that returning to a row's start and moving on to the next
//! row is one addition. Loops with known bounds count down.

use super::Result;
use super::inst::{Class, Kind, VReg, read, write};
use super::select::{Select, VarValue};
use super::words;
use crate::base::{Affine, Bound};
use crate::codegen::pointer::{LoopId, needs_value};
use crate::tile::{LoopVar, Stmt, Value};

impl Select<'_> {
    fn block(&mut self, body: &[Stmt]) -> Result<()> {
        body.iter().try_for_each(|stmt| self.stmt(stmt))
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
    fn fixed_bound(&self, bound: &Bound, join: fn(i64, i64) -> i64) -> Option<i64> {
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

    /// Groups used inside a loop, with their moves in it.
    fn moving(&self, id: LoopId) -> Vec<(usize, i64)> {
        let groups = self.groups.list.iter().enumerate();
        groups.filter_map(|(g, group)| Some((g, *group.moves.get(&id)?))).collect()
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
            self.block(body)?;
            self.vars.remove(&var);
            outer.map(|o| self.vars.insert(var, o));
            moving.iter().for_each(|&(g, m)| self.pointers[g].ahead += m * lo);
        } else {
            let up = needs_value(body, var);
            let counter = self.number(if up { lo } else { trips });
            self.vars.insert(var, VarValue::Reg(counter));
            let entry = self.pointers.clone();
            let top = self.top();
            self.block(body)?;
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
        let counter = self.bound(bounds.0, words::GT)?;
        let end = self.bound(bounds.1, words::LT)?;
        let skip = self.f.label();
        self.push(words::CMP, vec![read(counter, 5), read(end, 16)], Kind::Flags);
        self.push(words::B_COND | words::GE, Vec::new(), Kind::Jump(skip));
        let outside = self.pointers.clone();
        let moving = self.moving(id);
        for &(g, m) in moving.iter().filter(|(_, m)| *m != 0) {
            let base = self.pointers[g].reg.ok_or("a pointer is used before it is loaded")?;
            self.pointers[g].reg = Some(self.scaled_sum(base, counter, m));
        }
        self.around.push((id, var));
        let outer = self.vars.insert(var, VarValue::Reg(counter));
        let entry = self.pointers.clone();
        let top = self.top();
        self.block(body)?;
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

    /// A bound in a register of its own: the form that `join` prefers to the others.
    fn bound(&mut self, bound: &Bound, join: u32) -> Result<VReg> {
        let best = self.affine(&bound.0[0])?;
        for form in &bound.0[1..] {
            let other = self.affine(form)?;
            self.push(words::CMP, vec![read(other, 5), read(best, 16)], Kind::Flags);
            let fields = vec![write(best, 0), read(other, 5), read(best, 16)];
            self.push(words::CSEL | join << 12, fields, Kind::Flags);
        }
        Ok(best)
    }

    /// `base + factor * value`, in a new register.
    fn scaled_sum(&mut self, base: VReg, value: VReg, factor: i64) -> VReg {
        let sum = self.f.reg(Class::General);
        if factor > 0 && factor.count_ones() == 1 {
            let shifted = words::ADD | factor.trailing_zeros() << 10;
            self.push(shifted, vec![write(sum, 0), read(base, 5), read(value, 16)], Kind::Plain);
            return sum;
        }
        let factor = self.number(factor);
        let fields = vec![write(sum, 0), read(value, 5), read(factor, 16), read(base, 10)];
        self.push(words::MADD, fields, Kind::Plain);
        sum
    }

    /// An affine form in a new register.
    pub(super) fn affine(&mut self, form: &Affine) -> Result<VReg> {
        let mut base = form.base;
        let mut terms = Vec::new();
        for &(var, factor) in &form.terms {
            match self.vars.get(&var) {
                Some(VarValue::Constant(value)) => base += factor * value,
                Some(&VarValue::Reg(reg)) => terms.push((reg, factor)),
                None => return Err("a loop variable is used outside its loop".to_string()),
            }
        }
        let mut sum = self.number(base);
        for (reg, factor) in terms {
            sum = self.scaled_sum(sum, reg, factor);
        }
        Ok(sum)
    }
}
