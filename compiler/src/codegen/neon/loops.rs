//! Statements to instructions, and what loops need of the instructions.

use super::Result;
use super::address::Mem;
use super::couple;
use super::inst::{Class, Kind, VReg, read, write};
use super::select::Select;
use super::words;
use crate::codegen::blocks::Turned;
use crate::codegen::loops::{Cond, Loop, Loops, Number, Size, Walk};
use crate::codegen::planes::Stored;
use crate::tile::{Dot, Stmt, Value};

impl Select<'_> {
    fn statements(&mut self, body: &[Stmt]) -> Result<()> {
        let mut rest = body;
        while let [stmt, after @ ..] = rest {
            let couples = |kind| if self.isa.dot { Vec::new() } else { couple::couples(rest, kind) };
            let (words, bytes) = (couples(Dot::Sn), couples(Dot::Bytes));
            let coupled = match (&words[..], &bytes[..]) {
                ([_, ..], _) if words.iter().all(|c| self.split[c.0 as usize]) => {
                    self.coupled_dots(&words)?
                }
                (_, [_, ..]) => self.coupled_bytes(&bytes)?,
                _ => 0,
            };
            if coupled > 0 {
                words.iter().chain(&bytes).take(coupled).for_each(|c| self.assigned(c.0));
                rest = &rest[2 * coupled..];
                continue;
            }
            self.look_for_turns(rest);
            self.stmt(stmt)?;
            rest = after;
        }
        Ok(())
    }

    pub(super) fn stmt(&mut self, stmt: &Stmt) -> Result<()> {
        match stmt {
            Stmt::Let(r, Value::Const(_)) if self.constant_reg(*r).is_some() => Ok(()),
            Stmt::Let(r, value) => {
                match self.turned.get(&std::ptr::from_ref(stmt)).cloned() {
                    Some(Turned::First(block)) => return self.turn(&block),
                    Some(Turned::Later) => return Ok(()),
                    _ => {}
                }
                self.value(*r, value)?;
                self.assigned(*r);
                Ok(())
            }
            Stmt::Store { addr, stride, src } => match self.planes.get(&std::ptr::from_ref(stmt)).cloned() {
                Some(Stored::Earlier) => Ok(()),
                Some(Stored::Last(planes)) => self.store_planes(&planes),
                None => self.store(addr, *stride, *src),
            },
            Stmt::For { var, lo, hi, step, body } => {
                // What is derived inside is not there where the loop is not entered.
                self.reassigned(body);
                let derived = self.derived.clone();
                self.repeat(Loop { id: stmt, var: *var, step: *step, body }, lo, hi)?;
                self.derived = derived;
                self.reassigned(body);
                Ok(())
            }
            Stmt::Size { var, from, body, .. } => {
                self.size(self.kernel, stmt, Size { var: *var, from, body })
            }
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
}

impl Loops for Select<'_> {
    fn walk(&mut self) -> &mut Walk {
        &mut self.walk
    }

    fn block(&mut self, body: &[Stmt]) -> Result<()> {
        self.statements(body)
    }

    fn number(&mut self, number: i64) -> VReg {
        self.number(number)
    }

    fn again(&mut self, reg: VReg) -> VReg {
        let copy = self.f.reg(Class::General);
        self.push(words::MOV_X, vec![write(copy, 0), read(reg, 16)], Kind::Move);
        copy
    }

    fn word(&mut self, base: VReg, disp: i64) -> VReg {
        let reg = self.f.reg(Class::General);
        self.access(words::LDR_X, reg, Mem { base, disp }, true);
        reg
    }

    fn half(&mut self, base: VReg, disp: i64) -> VReg {
        let reg = self.f.reg(Class::General);
        self.access(words::LDR_W, reg, Mem { base, disp }, true);
        reg
    }

    fn params(&self) -> VReg {
        self.args
    }

    fn add_number(&mut self, reg: VReg, number: i64) -> Result<()> {
        self.add(reg, reg, number);
        self.moved(reg);
        Ok(())
    }

    fn product(&mut self, value: VReg, factor: i64) -> Result<VReg> {
        let product = self.f.reg(Class::General);
        if factor > 0 && factor.count_ones() == 1 {
            let shifted = words::ADD | words::ZERO << 5 | factor.trailing_zeros() << 10;
            self.push(shifted, vec![write(product, 0), read(value, 16)], Kind::Plain);
            return Ok(product);
        }
        let factor = self.number(factor);
        let fields = vec![write(product, 0), read(value, 5), read(factor, 16)];
        self.push(words::MADD | words::ZERO << 10, fields, Kind::Plain);
        Ok(product)
    }

    fn scaled_sum(&mut self, base: VReg, value: VReg, factor: i64) -> Result<VReg> {
        let sum = self.f.reg(Class::General);
        if factor > 0 && factor.count_ones() == 1 {
            let shifted = words::ADD | factor.trailing_zeros() << 10;
            self.push(shifted, vec![write(sum, 0), read(base, 5), read(value, 16)], Kind::Plain);
            return Ok(sum);
        }
        let factor = self.number(factor);
        let fields = vec![write(sum, 0), read(value, 5), read(factor, 16), read(base, 10)];
        self.push(words::MADD, fields, Kind::Plain);
        Ok(sum)
    }

    fn prefer(&mut self, best: VReg, other: VReg, cond: Cond) {
        self.push(words::CMP, vec![read(other, 5), read(best, 16)], Kind::Flags);
        let fields = vec![write(best, 0), read(other, 5), read(best, 16)];
        self.push(words::CSEL | code(cond) << 12, fields, Kind::Flags);
    }

    fn jump_if(&mut self, a: VReg, cond: Cond, b: Number, label: i64) {
        match b {
            Number::Known(number @ 0..4096) => {
                self.push(words::CMP_IMM | (number as u32) << 10, vec![read(a, 5)], Kind::Flags);
            }
            Number::Known(number) => {
                let number = self.number(number);
                self.push(words::CMP, vec![read(a, 5), read(number, 16)], Kind::Flags);
            }
            Number::Reg(b) => self.push(words::CMP, vec![read(a, 5), read(b, 16)], Kind::Flags),
        }
        self.push(words::B_COND | code(cond), Vec::new(), Kind::Jump(label));
    }

    fn count_down(&mut self, counter: VReg, label: i64) {
        self.push(words::SUBS_IMM | 1 << 10, vec![write(counter, 0), read(counter, 5)], Kind::Flags);
        self.push(words::B_COND | words::NE, Vec::new(), Kind::Jump(label));
    }

    fn new_label(&mut self) -> i64 {
        self.f.label()
    }

    fn label(&mut self, label: i64) {
        self.push(0, Vec::new(), Kind::Label(label));
        self.addresses.clear();
    }
}

/// The condition's number in an instruction.
fn code(cond: Cond) -> u32 {
    match cond {
        Cond::Differ => words::NE,
        Cond::Less => words::LT,
        Cond::NotLess => words::GE,
        Cond::Greater => words::GT,
    }
}
