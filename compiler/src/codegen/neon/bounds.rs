//! Loop bounds that are known only at run time.
//!
//! The windows of padded rows have bounds that change with the row: they are computed where the last of
//! their variables changes, not where the loop begins, which is often some loops further in.

use super::Result;
use super::inst::{Class, Kind, VReg, read, write};
use super::select::{Select, VarValue};
use super::words;
use crate::base::{Affine, Bound};
use crate::codegen::pointer::LoopId;
use crate::tile::Stmt;

/// What was computed ahead of the loops that use it.
#[derive(Default)]
pub struct Ahead {
    /// Bounds, and by which condition their forms are joined.
    bounds: Vec<(Bound, u32, VReg)>,
    /// First values of a loop times the bytes that a step moves a pointer.
    offsets: Vec<(VReg, i64, VReg)>,
}

impl Ahead {
    fn bound(&self, bound: &Bound, join: u32) -> Option<VReg> {
        self.bounds.iter().find(|known| known.0 == *bound && known.1 == join).map(|known| known.2)
    }

    fn offset(&self, first: VReg, factor: i64) -> Option<VReg> {
        self.offsets.iter().find(|known| known.0 == first && known.1 == factor).map(|known| known.2)
    }
}

impl Select<'_> {
    /// Translates a loop's body with the bounds ahead of it that are known from here on.
    pub(super) fn body(&mut self, body: &[Stmt]) -> Result<()> {
        let known = (self.ahead.bounds.len(), self.ahead.offsets.len());
        self.look_ahead(body)?;
        self.block(body)?;
        self.ahead.bounds.truncate(known.0);
        self.ahead.offsets.truncate(known.1);
        Ok(())
    }

    /// Computes bounds of the loops in a body, as far as their variables are known.
    fn look_ahead(&mut self, body: &[Stmt]) -> Result<()> {
        for stmt in body {
            let Stmt::For { lo, hi, body, .. } = stmt else { continue };
            let first = self.bound_ahead(lo, i64::max, words::GT)?;
            self.bound_ahead(hi, i64::min, words::LT)?;
            for (_, factor) in first.map(|_| self.moving(stmt)).unwrap_or_default() {
                if let Some(first) = first.filter(|&f| factor != 0 && self.ahead.offset(f, factor).is_none())
                {
                    let offset = self.scaled(first, factor);
                    self.ahead.offsets.push((first, factor, offset));
                }
            }
            self.look_ahead(body)?;
        }
        Ok(())
    }

    fn bound_ahead(&mut self, bound: &Bound, join: fn(i64, i64) -> i64, cond: u32) -> Result<Option<VReg>> {
        let known = bound.0.iter().flat_map(|form| &form.terms).all(|(var, _)| self.vars.contains_key(var));
        if !known || self.fixed_bound(bound, join).is_some() {
            return Ok(None);
        }
        if let Some(reg) = self.ahead.bound(bound, cond) {
            return Ok(Some(reg));
        }
        let reg = self.computed_bound(bound, cond)?;
        self.ahead.bounds.push((bound.clone(), cond, reg));
        Ok(Some(reg))
    }

    /// The first value of a loop, in a register of its own.
    pub(super) fn first(&mut self, bound: &Bound) -> Result<VReg> {
        let Some(known) = self.ahead.bound(bound, words::GT) else {
            return self.computed_bound(bound, words::GT);
        };
        let counter = self.f.reg(Class::General);
        self.push(words::MOV_X, vec![write(counter, 0), read(known, 16)], Kind::Move);
        Ok(counter)
    }

    /// Where a loop ends.
    pub(super) fn end(&mut self, bound: &Bound) -> Result<VReg> {
        match self.ahead.bound(bound, words::LT) {
            Some(known) => Ok(known),
            None => self.computed_bound(bound, words::LT),
        }
    }

    /// A pointer where a loop begins whose first value is in `counter`.
    pub(super) fn pointer_at(&mut self, base: VReg, lo: &Bound, counter: VReg, factor: i64) -> VReg {
        let known = self.ahead.bound(lo, words::GT).and_then(|first| self.ahead.offset(first, factor));
        match known {
            Some(offset) => {
                let sum = self.f.reg(Class::General);
                self.push(words::ADD, vec![write(sum, 0), read(base, 5), read(offset, 16)], Kind::Plain);
                sum
            }
            None => self.scaled_sum(base, counter, factor),
        }
    }

    fn scaled(&mut self, value: VReg, factor: i64) -> VReg {
        let zero = self.number(0);
        self.scaled_sum(zero, value, factor)
    }

    /// The moves of the pointers used inside a loop.
    pub(super) fn moving(&self, id: LoopId) -> Vec<(usize, i64)> {
        let groups = self.groups.list.iter().enumerate();
        groups.filter_map(|(g, group)| Some((g, *group.moves.get(&id)?))).collect()
    }

    /// A bound in a register of its own: the form that `join` prefers to the others.
    fn computed_bound(&mut self, bound: &Bound, join: u32) -> Result<VReg> {
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
    pub(super) fn scaled_sum(&mut self, base: VReg, value: VReg, factor: i64) -> VReg {
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
