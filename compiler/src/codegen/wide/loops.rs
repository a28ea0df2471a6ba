//! Statements and loops to instructions.
//!
//! Loops with constant bounds count down, and those of one iteration disappear. Pointers run: see
//! `pointer`. Between what a pointer holds and what it would hold without loops there is a known
//! distance (`ahead`), so that returning a pointer to a row's start and moving it to the next row is
//! one addition.

use super::Result;
use super::inst::{Arg, Base, Mem, VReg};
use super::rows::Op;
use super::select::{Select, VarValue};
use crate::base::{Affine, Bound};
use crate::codegen::pointer::{LoopId, needs_value};
use crate::tile::{LoopVar, Stmt, Value};

impl Select<'_> {
    pub(super) fn block(&mut self, body: &[Stmt]) -> Result<()> {
        body.iter().try_for_each(|stmt| self.stmt(stmt))
    }

    pub(super) fn stmt(&mut self, stmt: &Stmt) -> Result<()> {
        match stmt {
            Stmt::Let(r, Value::Const(_)) if self.constant_reg(*r).is_some() && !self.in_mask(*r) => Ok(()),
            Stmt::Let(r, value) => {
                self.value(*r, value)?;
                self.assigned(*r);
                Ok(())
            }
            Stmt::Store { addr, stride, src } => self.store(addr, *stride, *src),
            Stmt::For { var, lo, hi, step, body } => {
                match (self.fixed(lo, i64::max), self.fixed(hi, i64::min)) {
                    (Some(lo), Some(hi)) => self.counted(stmt, *var, lo, hi, *step, body),
                    _ => self.bounded(stmt, *var, (lo, hi), *step, body),
                }
            }
            Stmt::Size { var, param, body, .. } => self.size(stmt, *var, *param, body),
            Stmt::If { cond, then, otherwise } => self.branch(*cond, then, otherwise),
            Stmt::Loop { body } => self.endless(body),
            Stmt::Break { cond } => self.leave(*cond),
            Stmt::Fail { cond, code } => {
                self.fail(*cond, *code);
                Ok(())
            }
        }
    }

    /// The value of a bound, where known.
    fn fixed(&self, bound: &Bound, join: fn(i64, i64) -> i64) -> Option<i64> {
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
        let reg = self.pointers[group].reg.expect("pointers are loaded before the statement");
        if i32::try_from(bytes).is_err() {
            return Err("a pointer moves more than 2 GiB".to_string());
        }
        if bytes != 0 {
            self.op(Op::AddImm, 16, &[reg.into(), Arg::Imm(bytes)]);
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
    fn counted(&mut self, id: &Stmt, var: LoopVar, lo: i64, hi: i64, step: i64, body: &[Stmt]) -> Result<()> {
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
            let counter = self.def(Op::MovImm, 16, &[Arg::Imm(if up { lo } else { trips })]);
            self.vars.insert(var, VarValue::Reg(counter));
            self.bias(id, &moving)?;
            let entry = self.pointers.clone();
            let top = self.loop_top();
            self.block(body)?;
            for &(g, m) in &moving {
                self.advance(g, entry[g].ahead + m * step - self.pointers[g].ahead)?;
            }
            if up {
                self.op(Op::AddImm, 16, &[counter.into(), Arg::Imm(step)]);
                self.op(Op::CmpImm, 16, &[counter.into(), Arg::Imm(lo + trips * step)]);
            } else {
                self.op(Op::Dec, 16, &[counter.into()]);
            }
            self.op(Op::Jne, 16, &[Arg::Imm(top)]);
            self.depth -= 1;
            moving
                .iter()
                .for_each(|&(g, m)| self.pointers[g].ahead = entry[g].ahead + m * (lo + trips * step));
            self.vars.remove(&var);
        }
        self.around.pop();
        Ok(())
    }

    pub(super) fn loop_top(&mut self) -> i64 {
        let top = self.f.label();
        self.depth += 1;
        self.label(top);
        top
    }

    /// Begins a run of instructions that is entered from more than one place.
    pub(super) fn label(&mut self, label: i64) {
        self.op(Op::Label, 16, &[Arg::Imm(label)]);
        self.derived.clear();
    }

    /// Moves pointers before an innermost loop so that most displacements fit one byte.
    fn bias(&mut self, id: LoopId, moving: &[(usize, i64)]) -> Result<()> {
        for &(g, _) in moving {
            let Some(distances) = self.groups.list[g].distances.get(&Some(id)) else { continue };
            let long = |shift: i64| {
                let disp = |d: &&i64| self.isa.long_displacement(*d - self.pointers[g].ahead - shift);
                distances.iter().filter(disp).count()
            };
            let low = distances.iter().min().expect("a group has accesses") - self.pointers[g].ahead;
            let best = [0, low + 128, low].into_iter().min_by_key(|&shift| long(shift)).unwrap_or(0);
            if long(0) >= long(best) + 4 {
                self.advance(g, best)?;
            }
        }
        Ok(())
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
        let counter = self.bound(bounds.0, Op::CmovG)?;
        let end = self.bound(bounds.1, Op::CmovL)?;
        let skip = self.f.label();
        self.op(Op::Cmp, 16, &[counter.into(), end.into()]);
        self.op(Op::Jge, 16, &[Arg::Imm(skip)]);
        let outside = self.pointers.clone();
        let moving = self.moving(id);
        for &(g, m) in moving.iter().filter(|(_, m)| *m != 0) {
            let reg = self.scaled_sum(self.pointers[g].reg, counter, m)?;
            self.pointers[g].reg = Some(reg);
        }
        self.around.push((id, var));
        let outer = self.vars.insert(var, VarValue::Reg(counter));
        let entry = self.pointers.clone();
        let top = self.loop_top();
        self.block(body)?;
        for &(g, m) in &moving {
            self.advance(g, entry[g].ahead + m * step - self.pointers[g].ahead)?;
        }
        self.op(Op::AddImm, 16, &[counter.into(), Arg::Imm(step)]);
        self.op(Op::Cmp, 16, &[counter.into(), end.into()]);
        self.op(Op::Jl, 16, &[Arg::Imm(top)]);
        self.depth -= 1;
        self.label(skip);
        self.around.pop();
        self.vars.remove(&var);
        outer.map(|o| self.vars.insert(var, o));
        self.pointers = outside;
        Ok(())
    }

    /// The statements with a variable that stands for a number in memory.
    fn size(&mut self, id: &Stmt, var: LoopVar, param: u32, body: &[Stmt]) -> Result<()> {
        let table = Mem::at(Base::Reg(self.args)).offset(8 * i64::from(param));
        let pointer = self.def(Op::Mov, 16, &[table.into()]);
        let value = self.def(Op::Mov, 16, &[Mem::at(Base::Reg(pointer)).into()]);
        let outside = self.pointers.clone();
        for (g, m) in self.moving(id).into_iter().filter(|(_, m)| *m != 0) {
            let reg = self.scaled_sum(self.pointers[g].reg, value, m)?;
            self.pointers[g].reg = Some(reg);
        }
        self.around.push((id, var));
        self.vars.insert(var, VarValue::Reg(value));
        self.block(body)?;
        self.around.pop();
        self.vars.remove(&var);
        // What runs on in the pointers outside has stayed; those moved were new registers.
        for (g, before) in outside.into_iter().enumerate() {
            if self.pointers[g].reg != before.reg {
                self.pointers[g] = before;
            }
        }
        Ok(())
    }

    /// A bound in a register: the largest or smallest of its forms.
    fn bound(&mut self, bound: &Bound, join: Op) -> Result<VReg> {
        let first = self.affine(&bound.0[0])?;
        for form in &bound.0[1..] {
            let other = self.affine(form)?;
            self.op(Op::Cmp, 16, &[other.into(), first.into()]);
            self.op(join, 16, &[first.into(), other.into()]);
        }
        Ok(first)
    }

    /// `base + factor * value`, in a new register.
    fn scaled_sum(&mut self, base: Option<VReg>, value: VReg, factor: i64) -> Result<VReg> {
        let base = base.expect("pointers are loaded before the statement");
        if matches!(factor, 1 | 2 | 4 | 8) {
            let mem = Mem { index: Some((value, factor as u32)), ..Mem::at(Base::Reg(base)) };
            return Ok(self.def(Op::Lea, 16, &[mem.into()]));
        }
        if factor == -1 {
            let sum = self.def(Op::Mov, 16, &[base.into()]);
            self.op(Op::Sub, 16, &[sum.into(), value.into()]);
            return Ok(sum);
        }
        if i32::try_from(factor).is_err() {
            return Err("a pointer moves more than 2 GiB".to_string());
        }
        let product = self.def(Op::ImulImm, 16, &[value.into(), Arg::Imm(factor)]);
        self.op(Op::Add, 16, &[product.into(), base.into()]);
        Ok(product)
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
        let mut sum = self.def(Op::MovImm, 16, &[Arg::Imm(base)]);
        for (reg, factor) in terms {
            sum = self.scaled_sum(Some(sum), reg, factor)?;
        }
        Ok(sum)
    }
}
