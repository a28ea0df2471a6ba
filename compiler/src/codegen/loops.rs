//! Loops, their bounds, and the pointers that run in them: what the encoders of both architectures do
//! alike.
//!
//! Loops with constant bounds count down, and those of one iteration disappear. Pointers run: see
//! `pointer`. Between what a pointer holds and what it would hold without loops there is a known
//! distance (`ahead`), so that returning a pointer to a row's start and moving it to the next row is
//! one addition. Bounds that are known only at run time (the windows of padded rows) are computed where
//! the last of their variables changes, which is often some loops further out than the loop itself.

use super::flatten::{conditions, once};
use super::live::VReg;
use super::pointer::{Around, Asked, Groups, LoopId, needs_value};
use crate::base::{Affine, Bound, DType};
use crate::tile::{Access, Addr, Kernel, LoopVar, Stmt};
use std::collections::HashMap;

type Result<T> = std::result::Result<T, String>;

/// Where a group's pointer is.
#[derive(Clone, Copy, Debug)]
pub struct Pointer {
    /// Its register, once loaded.
    pub reg: Option<VReg>,
    /// Bytes it is ahead of the parameter plus the moves of the loops around.
    pub ahead: i64,
}

/// What is known of a loop variable.
#[derive(Clone, Copy, Debug)]
enum VarValue {
    Constant(i64),
    Reg(VReg),
}

/// How two numbers compare, by sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cond {
    /// `a != b`
    Differ,
    /// `a < b`
    Less,
    /// `a >= b`
    NotLess,
    /// `a > b`
    Greater,
}

/// A number to compare with.
#[derive(Clone, Copy, Debug)]
pub enum Number {
    /// In a register.
    Reg(VReg),
    /// Known.
    Known(i64),
}

/// The place in a kernel's loops that is being translated.
pub struct Walk {
    /// The pointers there are.
    pub groups: Groups,
    /// Where each of them is.
    pub pointers: Vec<Pointer>,
    /// The loops around.
    pub around: Around,
    /// How many of them are loops in the code too.
    pub depth: u32,
    vars: HashMap<LoopVar, VarValue>,
    /// Bounds computed ahead, and by which condition their forms are joined.
    bounds: Vec<(Bound, Cond, VReg)>,
    /// First values of a loop times the bytes that a step moves a pointer.
    offsets: Vec<(VReg, i64, VReg)>,
}

impl Walk {
    /// The beginning of a kernel that asks for places ahead; accesses through one pointer are at most `reach` bytes
    /// apart.
    pub fn new(kernel: &Kernel, reach: i64, asked: Asked) -> Walk {
        let groups = Groups::of(kernel, reach, asked);
        let pointers = groups.list.iter().map(|_| Pointer { reg: None, ahead: 0 }).collect();
        let (around, vars) = (Vec::new(), HashMap::new());
        Walk { groups, pointers, around, depth: 0, vars, bounds: Vec::new(), offsets: Vec::new() }
    }

    /// The register that an access is addressed by, and the bytes added to it.
    pub fn place(&self, kernel: &Kernel, addr: &Addr) -> Result<(VReg, i64)> {
        let size = kernel.params[addr.param as usize].dtype.size() as i64;
        let pointer = self.pointers[self.groups.find(kernel, addr, &self.around)];
        let reg = pointer.reg.ok_or("a pointer is used before it is loaded")?;
        Ok((reg, size * addr.index.base - pointer.ahead))
    }

    /// The registers of the pointers to what the kernel only reads.
    pub fn read_only<'a>(&'a self, kernel: &'a Kernel) -> impl Iterator<Item = VReg> + 'a {
        let read = |param: u32| kernel.params[param as usize].access == Access::Read;
        let pointers = self.groups.list.iter().zip(&self.pointers);
        pointers.filter(move |(group, _)| read(group.param)).filter_map(|(_, pointer)| pointer.reg)
    }

    /// The pointers used inside a loop, with the bytes that a step of it moves them.
    fn moving(&self, id: LoopId) -> Vec<(usize, i64)> {
        let groups = self.groups.list.iter().enumerate();
        groups.filter_map(|(g, group)| Some((g, *group.moves.get(&id)?))).collect()
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

    fn bound_ahead(&self, bound: &Bound, join: Cond) -> Option<VReg> {
        self.bounds.iter().find(|known| known.0 == *bound && known.1 == join).map(|known| known.2)
    }

    fn offset_ahead(&self, first: VReg, factor: i64) -> Option<VReg> {
        self.offsets.iter().find(|known| known.0 == first && known.1 == factor).map(|known| known.2)
    }
}

/// A loop: its statement, variable and step.
#[derive(Clone, Copy)]
pub struct Loop<'a> {
    /// The statement.
    pub id: LoopId,
    /// The variable.
    pub var: LoopVar,
    /// What an iteration adds to it.
    pub step: i64,
    /// The statements inside.
    pub body: &'a [Stmt],
}

/// Statements with a variable that stands for a number in memory.
#[derive(Clone, Copy)]
pub struct Size<'a> {
    /// The variable.
    pub var: LoopVar,
    /// Where the number is.
    pub from: &'a Addr,
    /// The statements.
    pub body: &'a [Stmt],
}

/// Loops in the instructions of one architecture.
pub trait Loops {
    /// The place being translated.
    fn walk(&mut self) -> &mut Walk;
    /// Translates statements.
    fn block(&mut self, body: &[Stmt]) -> Result<()>;
    /// A number in a new register.
    fn number(&mut self, number: i64) -> VReg;
    /// A register's value in a new register.
    fn again(&mut self, reg: VReg) -> VReg;
    /// The 64-bit word at an address plus an offset, in a new register.
    fn word(&mut self, base: VReg, offset: i64) -> VReg;
    /// The 32 bits at an address plus an offset, in a new register; zeros above.
    fn half(&mut self, base: VReg, offset: i64) -> VReg;
    /// Whether the instructions are to be the same whatever the numbers are.
    fn is_alike(&self) -> bool {
        false
    }
    /// The register of the table of parameters.
    fn params(&self) -> VReg;
    /// `reg += number`.
    fn add_number(&mut self, reg: VReg, number: i64) -> Result<()>;
    /// `factor * value`, in a new register.
    fn product(&mut self, value: VReg, factor: i64) -> Result<VReg>;
    /// `base + factor * value`, in a new register.
    fn scaled_sum(&mut self, base: VReg, value: VReg, factor: i64) -> Result<VReg>;
    /// `best = other`, where `other` compares so with `best`.
    fn prefer(&mut self, best: VReg, other: VReg, cond: Cond);
    /// Jumps where `a` compares so with `b`.
    fn jump_if(&mut self, a: VReg, cond: Cond, b: Number, label: i64);
    /// Takes one from a counter and jumps where something is left.
    fn count_down(&mut self, counter: VReg, label: i64);
    /// A new label.
    fn new_label(&mut self) -> i64;
    /// Begins a run of instructions that is entered from more than one place.
    fn label(&mut self, label: i64);
    /// Moves pointers before a loop so that its accesses have short encodings.
    fn settle(&mut self, _id: LoopId, _moving: &[(usize, i64)]) -> Result<()> {
        Ok(())
    }

    /// Loads the pointers that a statement uses first.
    fn load_pointers(&mut self, kernel: &Kernel, stmt: &Stmt) -> Result<()> {
        let mut used = Vec::new();
        self.walk().groups.used(kernel, std::slice::from_ref(stmt), &mut Vec::new(), &mut used);
        for group in used {
            if self.walk().pointers[group].reg.is_none() {
                let param = self.walk().groups.list[group].param;
                let params = self.params();
                let reg = self.word(params, 8 * i64::from(param));
                self.walk().pointers[group].reg = Some(reg);
                let start = self.walk().groups.start(group);
                self.advance(group, start)?;
            }
        }
        Ok(())
    }

    /// Moves a pointer.
    fn advance(&mut self, group: usize, bytes: i64) -> Result<()> {
        let reg = self.walk().pointers[group].reg.ok_or("a pointer is moved before it is loaded")?;
        if bytes != 0 || self.is_alike() {
            self.add_number(reg, bytes)?;
        }
        self.walk().pointers[group].ahead += bytes;
        Ok(())
    }

    /// Moves pointers to where they are at the next iteration.
    fn next(&mut self, entry: &[Pointer], moving: &[(usize, i64)], step: i64) -> Result<()> {
        moving.iter().try_for_each(|&(g, m)| {
            let bytes = entry[g].ahead + m * step - self.walk().pointers[g].ahead;
            self.advance(g, bytes)
        })
    }

    /// Translates a counted loop.
    fn repeat(&mut self, this: Loop, lo: &Bound, hi: &Bound) -> Result<()> {
        let known = (self.walk().fixed(lo, i64::max), self.walk().fixed(hi, i64::min));
        match (known, once(lo, hi, this.step)) {
            ((Some(lo), Some(hi)), _) => self.counted(this, lo, hi),
            (_, Some(value)) => self.once(this, &conditions(lo, hi, value)),
            _ => self.bounded(this, lo, hi),
        }
    }

    /// A loop whose bounds are known.
    fn counted(&mut self, this: Loop, lo: i64, hi: i64) -> Result<()> {
        let trips = if hi > lo { (hi - lo + this.step - 1) / this.step } else { 0 };
        if trips == 0 {
            return Ok(());
        }
        let moving = self.walk().moving(this.id);
        moving.iter().for_each(|&(g, m)| self.walk().pointers[g].ahead -= m * lo);
        self.walk().around.push((this.id, this.var));
        if trips == 1 && !self.is_alike() {
            let outer = self.walk().vars.insert(this.var, VarValue::Constant(lo));
            self.body(this.body)?;
            self.walk().vars.remove(&this.var);
            outer.map(|o| self.walk().vars.insert(this.var, o));
            moving.iter().for_each(|&(g, m)| self.walk().pointers[g].ahead += m * lo);
        } else {
            let end = lo + trips * this.step;
            let up = needs_value(this.body, this.var);
            let counter = self.number(if up { lo } else { trips });
            self.walk().vars.insert(this.var, VarValue::Reg(counter));
            self.settle(this.id, &moving)?;
            let entry = self.walk().pointers.clone();
            let top = self.top();
            self.body(this.body)?;
            self.next(&entry, &moving, this.step)?;
            if up {
                self.add_number(counter, this.step)?;
                self.jump_if(counter, Cond::Differ, Number::Known(end), top);
            } else {
                self.count_down(counter, top);
            }
            self.walk().depth -= 1;
            moving.iter().for_each(|&(g, m)| self.walk().pointers[g].ahead = entry[g].ahead + m * end);
            self.walk().vars.remove(&this.var);
        }
        self.walk().around.pop();
        Ok(())
    }

    /// A loop whose bounds depend on variables outside it.
    fn bounded(&mut self, this: Loop, lo: &Bound, hi: &Bound) -> Result<()> {
        let counter = match self.walk().bound_ahead(lo, Cond::Greater) {
            Some(known) => self.again(known),
            None => self.joined(lo, Cond::Greater)?,
        };
        let end = match self.walk().bound_ahead(hi, Cond::Less) {
            Some(known) => known,
            None => self.joined(hi, Cond::Less)?,
        };
        let skip = self.new_label();
        self.jump_if(counter, Cond::NotLess, Number::Reg(end), skip);
        let outside = self.walk().pointers.clone();
        let moving = self.walk().moving(this.id);
        let first = self.walk().bound_ahead(lo, Cond::Greater);
        let moved: Vec<(usize, i64)> = moving.iter().copied().filter(|(_, m)| *m != 0).collect();
        for &(g, m) in &moved {
            let known = first.and_then(|first| self.walk().offset_ahead(first, m));
            self.shift(g, known.map_or((counter, m), |offset| (offset, 1)))?;
        }
        self.settle(this.id, &moved)?;
        self.walk().around.push((this.id, this.var));
        let outer = self.walk().vars.insert(this.var, VarValue::Reg(counter));
        let entry = self.walk().pointers.clone();
        let top = self.top();
        self.body(this.body)?;
        self.next(&entry, &moving, this.step)?;
        self.add_number(counter, this.step)?;
        self.jump_if(counter, Cond::Less, Number::Reg(end), top);
        self.walk().depth -= 1;
        self.label(skip);
        self.walk().around.pop();
        self.walk().vars.remove(&this.var);
        outer.map(|o| self.walk().vars.insert(this.var, o));
        self.walk().pointers = outside;
        Ok(())
    }

    /// A loop that runs once where no form is negative, and else not at all; its variable is not used.
    fn once(&mut self, this: Loop, conditions: &[Affine]) -> Result<()> {
        let skip = self.new_label();
        for form in conditions {
            self.jump_below(form, skip)?;
        }
        let outside = self.walk().pointers.clone();
        self.walk().around.push((this.id, this.var));
        self.body(this.body)?;
        let moving = self.walk().moving(this.id);
        self.next(&outside, &moving, 0)?;
        self.walk().around.pop();
        self.label(skip);
        self.walk().pointers = outside;
        Ok(())
    }

    /// Jumps where a form is negative.
    fn jump_below(&mut self, form: &Affine, label: i64) -> Result<()> {
        if let &[(var, factor @ (1 | -1))] = form.terms.as_slice()
            && let Some(&VarValue::Reg(reg)) = self.walk().vars.get(&var)
        {
            // `x + b < 0` where `x < -b`, and `b - x < 0` where `x > b`.
            let cond = if factor > 0 { Cond::Less } else { Cond::Greater };
            self.jump_if(reg, cond, Number::Known(-factor * form.base), label);
            return Ok(());
        }
        let value = self.affine(form)?;
        self.jump_if(value, Cond::Less, Number::Known(0), label);
        Ok(())
    }

    /// A pointer's value moved by a product, in a register of its own.
    fn shift(&mut self, group: usize, (value, factor): (VReg, i64)) -> Result<()> {
        let base = self.walk().pointers[group].reg.ok_or("a pointer is moved before it is loaded")?;
        let moved = self.scaled_sum(base, value, factor)?;
        self.walk().pointers[group].reg = Some(moved);
        Ok(())
    }

    /// The statements with a variable that stands for a number in memory.
    fn size(&mut self, kernel: &Kernel, id: LoopId, size: Size) -> Result<()> {
        let Size { var, from, body } = size;
        let (pointer, offset) = self.walk().place(kernel, from)?;
        let value = match kernel.params[from.param as usize].dtype {
            DType::I32 => self.half(pointer, offset),
            _ => self.word(pointer, offset),
        };
        let outside = self.walk().pointers.clone();
        for (g, m) in self.walk().moving(id).into_iter().filter(|(_, m)| *m != 0) {
            self.shift(g, (value, m))?;
        }
        self.walk().around.push((id, var));
        self.walk().vars.insert(var, VarValue::Reg(value));
        self.body(body)?;
        self.walk().around.pop();
        self.walk().vars.remove(&var);
        // What runs on in the pointers outside has stayed; those moved were new registers.
        for (g, before) in outside.into_iter().enumerate() {
            if self.walk().pointers[g].reg != before.reg {
                self.walk().pointers[g] = before;
            }
        }
        Ok(())
    }

    /// Begins a loop.
    fn top(&mut self) -> i64 {
        let top = self.new_label();
        self.walk().depth += 1;
        self.label(top);
        top
    }

    /// Translates a loop's body with the bounds ahead of it that are known from here on.
    fn body(&mut self, body: &[Stmt]) -> Result<()> {
        let known = (self.walk().bounds.len(), self.walk().offsets.len());
        // The bounds of loops right here are as well computed where these begin.
        for stmt in body {
            if let Stmt::For { body, .. } = stmt {
                self.look_ahead(body)?;
            }
        }
        self.block(body)?;
        self.walk().bounds.truncate(known.0);
        self.walk().offsets.truncate(known.1);
        Ok(())
    }

    /// Computes bounds of the loops in a body, as far as their variables are known.
    fn look_ahead(&mut self, body: &[Stmt]) -> Result<()> {
        for stmt in body {
            let Stmt::For { lo, hi, step, body, .. } = stmt else { continue };
            if once(lo, hi, *step).is_some() {
                self.look_ahead(body)?;
                continue;
            }
            let first = self.compute_ahead(lo, i64::max, Cond::Greater)?;
            self.compute_ahead(hi, i64::min, Cond::Less)?;
            if let Some(first) = first {
                for (_, factor) in self.walk().moving(stmt) {
                    if factor != 0 && self.walk().offset_ahead(first, factor).is_none() {
                        let offset = self.product(first, factor)?;
                        self.walk().offsets.push((first, factor, offset));
                    }
                }
            }
            self.look_ahead(body)?;
        }
        Ok(())
    }

    /// Computes a bound where it is not known already, and its variables are.
    fn compute_ahead(
        &mut self,
        bound: &Bound,
        join: fn(i64, i64) -> i64,
        cond: Cond,
    ) -> Result<Option<VReg>> {
        let walk = self.walk();
        let mut vars = bound.0.iter().flat_map(|form| &form.terms);
        if !vars.all(|(var, _)| walk.vars.contains_key(var)) || walk.fixed(bound, join).is_some() {
            return Ok(None);
        }
        if let Some(reg) = walk.bound_ahead(bound, cond) {
            return Ok(Some(reg));
        }
        let reg = self.joined(bound, cond)?;
        self.walk().bounds.push((bound.clone(), cond, reg));
        Ok(Some(reg))
    }

    /// A bound in a register of its own: of its forms the one that compares so with the others.
    fn joined(&mut self, bound: &Bound, cond: Cond) -> Result<VReg> {
        let best = self.affine(&bound.0[0])?;
        for form in &bound.0[1..] {
            let other = self.affine(form)?;
            self.prefer(best, other, cond);
        }
        Ok(best)
    }

    /// An affine form in a new register.
    fn affine(&mut self, form: &Affine) -> Result<VReg> {
        let mut base = form.base;
        let mut terms = Vec::new();
        for &(var, factor) in &form.terms {
            match self.walk().vars.get(&var) {
                Some(VarValue::Constant(value)) => base += factor * value,
                Some(&VarValue::Reg(reg)) => terms.push((reg, factor)),
                None => return Err("a loop variable is used outside its loop".to_string()),
            }
        }
        let mut sum = self.number(base);
        for (reg, factor) in terms {
            sum = self.scaled_sum(sum, reg, factor)?;
        }
        Ok(sum)
    }
}
