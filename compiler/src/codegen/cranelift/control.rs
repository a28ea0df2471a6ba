//! Loops and branches.

use super::body::Body;
use crate::base::{Affine, Bound};
use crate::codegen::flatten::trip;
use crate::error::{Error, Result};
use crate::target::Arch;
use crate::tile::{Addr, LoopVar, Reg, Stmt, Value as TileValue};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use cranelift_frontend::Variable;

/// What a counted loop tests.
struct Test {
    moving: Variable,
    end: Value,
    condition: IntCC,
}

impl Body<'_> {
    /// A counted loop. Where nothing needs its variable, it ends when one of its pointers does.
    pub fn repeat(&mut self, var: LoopVar, lo: &Bound, hi: &Bound, step: i64, body: &[Stmt]) -> Result<()> {
        if step <= 0 {
            return Err(Error::bug("a loop's step must be positive"));
        }
        let trip = trip(lo, hi, step);
        let first = match lo.as_constant() {
            Some(_) => None,
            None => Some(self.bound(lo, IntCC::SignedGreaterThan)?),
        };
        let last = match trip {
            Some(_) => None,
            None => Some(self.bound(hi, IntCC::SignedLessThan)?),
        };
        self.loops.push(var);
        let groups = self.moving(body);
        let pointers = self.start_pointers(&groups, lo, first);
        let counted = trip.is_none() || groups.is_empty() || uses(body, var);
        if counted {
            let start = first.unwrap_or_else(|| self.int(types::I64, lo.as_constant().unwrap_or(0)));
            let counter = self.b.declare_var(types::I64);
            self.b.def_var(counter, start);
            self.counters[var as usize] = Some(counter);
        }
        let test = match (trip, last) {
            (Some(trip), _) if !counted => {
                let bytes = groups[0].terms.last().map_or(0, |t| t.1);
                let start = self.b.use_var(pointers[0]);
                let end = self.b.ins().iadd_imm_s(start, trip * step * bytes);
                Test { moving: pointers[0], end, condition: IntCC::NotEqual }
            }
            (_, last) => {
                let moving =
                    self.counters[var as usize].ok_or_else(|| Error::bug("a loop has no counter"))?;
                let end = last.unwrap_or_else(|| self.int(types::I64, hi.as_constant().unwrap_or(0)));
                Test { moving, end, condition: IntCC::SignedLessThan }
            }
        };
        self.run_loop(&test, trip.is_none(), |this| {
            this.statements(body)?;
            this.advance_pointers(&groups, &pointers, step);
            if let Some(counter) = this.counters[var as usize] {
                let value = this.b.use_var(counter);
                let next = this.b.ins().iadd_imm_s(value, step);
                this.b.def_var(counter, next);
            }
            Ok(())
        })?;
        self.end_pointers(&groups);
        self.counters[var as usize] = None;
        self.loops.pop();
        Ok(())
    }

    /// The statements with a variable that stands for a number in memory.
    pub fn size(&mut self, var: LoopVar, from: &Addr, body: &[Stmt]) -> Result<()> {
        let value = self.load_size(from)?;
        let counter = self.b.declare_var(types::I64);
        self.b.def_var(counter, value);
        self.counters[var as usize] = Some(counter);
        self.loops.push(var);
        let groups = self.moving(body);
        self.start_pointers(&groups, &Bound(Vec::new()), Some(value));
        self.statements(body)?;
        self.end_pointers(&groups);
        self.loops.pop();
        self.counters[var as usize] = None;
        Ok(())
    }

    /// x86_64 tests at the top, which lets loads fold into the instructions that use them; aarch64
    /// at the bottom, which saves a branch.
    fn run_loop(
        &mut self,
        test: &Test,
        may_be_empty: bool,
        body: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        let (inside, exit) = (self.b.create_block(), self.b.create_block());
        if self.target.arch == Arch::X86_64 {
            let header = self.b.create_block();
            self.b.ins().jump(header, &[]);
            self.b.switch_to_block(header);
            self.test(test, inside, exit);
            self.b.switch_to_block(inside);
            body(self)?;
            self.b.ins().jump(header, &[]);
        } else {
            if may_be_empty {
                self.test(test, inside, exit);
            } else {
                self.b.ins().jump(inside, &[]);
            }
            self.b.switch_to_block(inside);
            body(self)?;
            self.test(test, inside, exit);
        }
        self.b.switch_to_block(exit);
        Ok(())
    }

    fn test(
        &mut self,
        test: &Test,
        inside: cranelift_codegen::ir::Block,
        exit: cranelift_codegen::ir::Block,
    ) {
        let at = self.b.use_var(test.moving);
        let more = self.b.ins().icmp(test.condition, at, test.end);
        self.b.ins().brif(more, inside, &[], exit, &[]);
    }

    /// The largest or smallest of a bound's forms.
    fn bound(&mut self, bound: &Bound, prefer: IntCC) -> Result<Value> {
        let mut best = None;
        for form in &bound.0 {
            let value = self.affine(form)?;
            best = Some(match best {
                None => value,
                Some(best) => {
                    let better = self.b.ins().icmp(prefer, value, best);
                    self.b.ins().select(better, value, best)
                }
            });
        }
        best.ok_or_else(|| Error::bug("a bound has no form"))
    }

    pub fn branch(&mut self, cond: Reg, then: &[Stmt], otherwise: &[Stmt]) -> Result<()> {
        let cond = self.get_scalar(cond)?;
        let (yes, no, join) = (self.b.create_block(), self.b.create_block(), self.b.create_block());
        self.b.ins().brif(cond, yes, &[], no, &[]);
        for (block, body) in [(yes, then), (no, otherwise)] {
            self.b.switch_to_block(block);
            self.statements(body)?;
            self.b.ins().jump(join, &[]);
        }
        self.b.switch_to_block(join);
        Ok(())
    }

    pub fn forever(&mut self, body: &[Stmt]) -> Result<()> {
        let (again, exit) = (self.b.create_block(), self.b.create_block());
        self.b.ins().jump(again, &[]);
        self.b.switch_to_block(again);
        self.exits.push(exit);
        self.statements(body)?;
        self.exits.pop();
        self.b.ins().jump(again, &[]);
        self.b.switch_to_block(exit);
        Ok(())
    }

    pub fn leave(&mut self, cond: Reg) -> Result<()> {
        let cond = self.get_scalar(cond)?;
        let exit = *self.exits.last().ok_or_else(|| Error::bug("a break is outside a loop"))?;
        let stay = self.b.create_block();
        self.b.ins().brif(cond, exit, &[], stay, &[]);
        self.b.switch_to_block(stay);
        Ok(())
    }

    pub fn fail(&mut self, cond: Reg, code: i32) -> Result<()> {
        let cond = self.get_scalar(cond)?;
        let (failed, good) = (self.b.create_block(), self.b.create_block());
        self.b.set_cold_block(failed);
        self.b.ins().brif(cond, failed, &[], good, &[]);
        self.b.switch_to_block(failed);
        let code = self.int(types::I32, i64::from(code));
        self.b.ins().return_(&[code]);
        self.b.switch_to_block(good);
        Ok(())
    }
}

/// Whether the value of a loop variable is needed, beside in addresses.
fn uses(body: &[Stmt], var: LoopVar) -> bool {
    let has = |form: &Affine| form.coefficient(var) != 0;
    body.iter().any(|stmt| match stmt {
        Stmt::Let(_, TileValue::Index(form, _)) => has(form),
        Stmt::For { lo, hi, body, .. } => lo.0.iter().chain(&hi.0).any(has) || uses(body, var),
        Stmt::Loop { body } | Stmt::Size { body, .. } => uses(body, var),
        Stmt::If { then, otherwise, .. } => uses(then, var) || uses(otherwise, var),
        _ => false,
    })
}
