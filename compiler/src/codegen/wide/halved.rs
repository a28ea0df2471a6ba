//! Registers of two vectors, each as two registers of one.
//!
//! Half floats fill a vector with twice as many lanes as `f32`, so that what they are widened to takes two. A kernel's
//! register of that kind becomes two, of the lower and the upper lanes, and what is computed of it two values; those
//! that are made of half floats read a part of a register, which selection takes out of the whole one.

use super::Result;
use super::inst::lane_size;
use crate::tile::{Addr, Kernel, Reg, RegType, Stmt, Value, visit};
use std::collections::HashMap;

/// A part of a register: which register, and whether the upper lanes.
pub type Part = (Reg, bool);

/// What registers are parts of.
pub type Parts = HashMap<Reg, Part>;

/// A kernel whose registers are vectors, with the registers that are parts of others.
pub struct Halved {
    pub kernel: Kernel,
    pub parts: Parts,
}

/// The kernel with registers of at most so many bytes; `None` where it has no others.
pub fn halved(kernel: &Kernel, vector_bytes: usize) -> Result<Option<Halved>> {
    let most = vector_bytes / size_of::<f32>();
    let wide = |ty: &RegType| lane_size(ty.lane) * usize::from(ty.lanes) > vector_bytes;
    if !kernel.regs.iter().any(wide) {
        return Ok(None);
    }
    let fits = |ty: &RegType| lane_size(ty.lane) == size_of::<f32>() && usize::from(ty.lanes) <= 2 * most;
    if !kernel.regs.iter().filter(|ty| wide(ty)).all(fits) {
        return Err("a register is wider than the target's".into());
    }
    let regs = kernel.regs.clone();
    let mut halving =
        Halving { whole: &kernel.regs, most, regs, upper: HashMap::new(), parts: HashMap::new() };
    for (reg, ty) in (0..).zip(&kernel.regs).filter(|(_, ty)| wide(ty)) {
        let upper = halving.register(RegType { lanes: ty.lanes - most as u8, ..*ty });
        halving.regs[reg as usize].lanes = most as u8;
        halving.upper.insert(reg, upper);
    }
    let body = halving.body(&kernel.body)?;
    let Halving { regs, parts, .. } = halving;
    let parts = parts.into_iter().map(|(part, reg)| (reg, part)).collect();
    Ok(Some(Halved { kernel: Kernel { regs, body, ..kernel.clone() }, parts }))
}

struct Halving<'a> {
    /// The registers as they were.
    whole: &'a [RegType],
    /// Lanes of 32 bits of a vector.
    most: usize,
    regs: Vec<RegType>,
    /// The register of the upper lanes of one that keeps the lower ones.
    upper: HashMap<Reg, Reg>,
    parts: HashMap<Part, Reg>,
}

impl Halving<'_> {
    fn register(&mut self, ty: RegType) -> Reg {
        self.regs.push(ty);
        (self.regs.len() - 1) as Reg
    }

    fn body(&mut self, body: &[Stmt]) -> Result<Vec<Stmt>> {
        let mut all = Vec::with_capacity(body.len());
        for stmt in body {
            self.stmt(stmt, &mut all)?;
        }
        Ok(all)
    }

    fn stmt(&mut self, stmt: &Stmt, to: &mut Vec<Stmt>) -> Result<()> {
        let mut stmt = stmt.clone();
        match &mut stmt {
            Stmt::Let(r, value) if self.upper.contains_key(r) => {
                let made = [false, true].map(|upper| self.value(*r, value, upper));
                for stmt in made {
                    to.push(stmt?);
                }
                return Ok(());
            }
            Stmt::Let(_, value) => {
                let mut whole = true;
                visit::read(value, &mut |a| whole &= !self.upper.contains_key(&a));
                if !whole {
                    return Err("a vector of what two vectors hold".into());
                }
            }
            Stmt::Store { addr, stride, src } => {
                if let Some(&upper) = self.upper.get(src) {
                    let behind = self.behind(addr, *stride);
                    let stride = *stride;
                    to.push(stmt);
                    to.push(Stmt::Store { addr: behind, stride, src: upper });
                    return Ok(());
                }
            }
            Stmt::For { body, .. } | Stmt::Loop { body } | Stmt::Size { body, .. } => {
                *body = self.body(body)?
            }
            Stmt::If { then, otherwise, .. } => {
                *then = self.body(then)?;
                *otherwise = self.body(otherwise)?;
            }
            Stmt::Break { .. } | Stmt::Fail { .. } => {}
        }
        to.push(stmt);
        Ok(())
    }

    /// The place of the first upper lane.
    fn behind(&self, addr: &Addr, stride: i64) -> Addr {
        Addr { index: addr.index.offset(stride * self.most as i64), ..addr.clone() }
    }

    /// The assignment of the lower or the upper lanes of a register.
    fn value(&mut self, r: Reg, value: &Value, upper: bool) -> Result<Stmt> {
        let mut value = value.clone();
        match &mut value {
            Value::Load(addr, stride) if upper => *addr = self.behind(addr, *stride),
            Value::Index(form, step) if upper => *form = form.offset(*step * self.most as i64),
            Value::Broadcast(a, _) if self.upper.contains_key(a) => {
                return Err("a lane of what two vectors hold".into());
            }
            Value::Load(..)
            | Value::Index(..)
            | Value::Const(_)
            | Value::Copy(_)
            | Value::Un(..)
            | Value::Bin(..)
            | Value::Mla(..)
            | Value::Cmp(..)
            | Value::Select(..)
            | Value::Convert(..)
            | Value::Splat(_)
            | Value::Broadcast(..) => {}
            _ => return Err("lanes of two vectors".into()),
        }
        let lanewise = !matches!(value, Value::Load(..) | Value::Splat(_) | Value::Broadcast(..));
        let mut stmt = [Stmt::Let(r, value)];
        visit::each_reg(&mut stmt, &mut |reg| {
            *reg = match self.upper.get(reg).copied() {
                Some(above) if upper => above,
                None if lanewise => self.part(*reg, upper),
                _ => *reg,
            }
        });
        let [stmt] = stmt;
        Ok(stmt)
    }

    /// The register that stands for a part of another.
    fn part(&mut self, whole: Reg, upper: bool) -> Reg {
        if let Some(&known) = self.parts.get(&(whole, upper)) {
            return known;
        }
        let ty = self.whole[whole as usize];
        let lanes = if upper { ty.lanes - self.most as u8 } else { self.most as u8 };
        let reg = self.register(RegType { lanes, ..ty });
        self.parts.insert((whole, upper), reg);
        reg
    }
}
