//! Branches, endless loops, and errors to instructions.
//!
//! Where paths meet, every pointer is where it was before they parted.

use super::Result;
use super::inst::Arg;
use super::rows::Op;
use super::select::Select;
use super::state::Exit;
use crate::codegen::loops::{Loops, Pointer};
use crate::tile::{Reg, Stmt};

impl Select<'_> {
    /// Sets the flags: not zero where a scalar mask is true.
    fn test(&mut self, cond: Reg) {
        let mask = self.source(cond);
        let op = if self.isa.masks { Op::KToGpr } else { Op::MovdToGpr };
        let bits = self.def(op, 16, &[mask.into()]);
        self.op(Op::TestImm, 16, &[bits.into(), Arg::Imm(1)]);
    }

    fn jump(&mut self, op: Op, label: i64) {
        self.op(op, 16, &[Arg::Imm(label)]);
    }

    /// Moves all pointers to where they were.
    fn restore(&mut self, before: &[Pointer]) -> Result<()> {
        (0..before.len()).try_for_each(|g| match self.walk.pointers[g].reg {
            Some(_) => self.advance(g, before[g].ahead - self.walk.pointers[g].ahead),
            None => Ok(()),
        })
    }

    /// Translates an `If`.
    pub(super) fn branch(&mut self, cond: Reg, then: &[Stmt], otherwise: &[Stmt]) -> Result<()> {
        let (not, end) = (self.f.label(), self.f.label());
        let before = self.walk.pointers.clone();
        self.test(cond);
        self.jump(Op::Je, not);
        self.derived.clear();
        self.block(then)?;
        self.restore(&before)?;
        if !otherwise.is_empty() {
            self.jump(Op::Jmp, end);
        }
        self.label(not);
        self.block(otherwise)?;
        self.restore(&before)?;
        self.label(end);
        Ok(())
    }

    /// Translates a `Loop`.
    pub(super) fn endless(&mut self, body: &[Stmt]) -> Result<()> {
        let exit = Exit {
            label: self.f.label(),
            pointers: self.walk.pointers.clone(),
            around: self.walk.around.len(),
        };
        let (label, before) = (exit.label, exit.pointers.clone());
        self.exits.push(exit);
        let top = self.top();
        self.block(body)?;
        self.restore(&before)?;
        self.jump(Op::Jmp, top);
        self.walk.depth -= 1;
        self.label(label);
        self.exits.pop();
        self.walk.pointers = before;
        Ok(())
    }

    /// Translates a `Break`.
    pub(super) fn leave(&mut self, cond: Reg) -> Result<()> {
        let exit = self.exits.last().ok_or("a break outside a loop")?;
        if exit.around != self.walk.around.len() {
            return Err("a break out of a counted loop".into());
        }
        let (label, before) = (exit.label, exit.pointers.clone());
        let stay = self.f.label();
        let now = self.walk.pointers.clone();
        self.test(cond);
        self.jump(Op::Je, stay);
        self.restore(&before)?;
        self.jump(Op::Jmp, label);
        self.label(stay);
        self.walk.pointers = now;
        Ok(())
    }

    /// Translates a `Fail`.
    pub(super) fn fail(&mut self, cond: Reg, code: i32) {
        let known = self.failures.iter().find(|f| f.1 == code).map(|f| f.0);
        let label = known.unwrap_or_else(|| self.f.label());
        if known.is_none() {
            self.failures.push((label, code));
        }
        self.test(cond);
        self.jump(Op::Jne, label);
    }

    /// The returns with error codes.
    pub(super) fn failures(&mut self) {
        for (label, code) in std::mem::take(&mut self.failures) {
            self.label(label);
            self.op(Op::Ret, 16, &[Arg::Imm(i64::from(code))]);
        }
    }
}
