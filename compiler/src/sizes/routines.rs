//! Kernels written by hand that differ in numbers, as one. What they read and write has its place in
//! [`super::places`].

use super::places::Places;
use super::scaled::distances;
use super::{Merger, changed, unlike};
use crate::base::{Affine, Bound, TensorType};
use crate::definition::{Operand, Routine};
use crate::error::{Error, Result};
use crate::nest::bind_sizes;
use crate::tile::{Addr, Kernel, Lane, Stmt, Value};

/// The kernel of the first sample, and where elements lie.
type Around<'k, 'p> = (&'k Kernel, &'p mut Places);

impl Merger<'_> {
    /// One routine of those of all samples.
    pub(super) fn routine(&mut self, routines: &[&Routine]) -> Result<Routine> {
        let first = routines[0];
        if routines.iter().all(|r| *r == first) {
            return Ok(first.clone());
        }
        let kernels: Vec<&Kernel> = routines.iter().map(|r| &r.kernel).collect();
        let same = |k: &&Kernel| {
            (&k.regs, &k.vars, k.params.len())
                == (&kernels[0].regs, &kernels[0].vars, kernels[0].params.len())
        };
        if !kernels.iter().all(same) {
            return Err(unlike("it is computed in another way for other sizes"));
        }
        let bodies: Vec<&[Stmt]> = kernels.iter().map(|k| k.body.as_slice()).collect();
        let mut kernel = kernels[0].clone();
        let operands: Vec<_> = first.operands.iter().map(|o| self.operand(o.value)).collect();
        let distances = distances(&kernels, &operands)?;
        let mut places = Places::new(operands, distances);
        kernel.body = self.block((kernels[0], &mut places), &bodies)?;
        let mut operands: Vec<Operand> = first.operands.clone();
        for number in bind_sizes(&mut kernel) {
            let value = self.low.sizes.get(number).ok_or_else(|| Error::bug("no such size"))?.value;
            operands.push(Operand { value, ty: TensorType::new(crate::base::DType::I64, []) });
        }
        Ok(Routine { operands, kernel })
    }

    fn block(&mut self, (kernel, places): Around, bodies: &[&[Stmt]]) -> Result<Vec<Stmt>> {
        if bodies.iter().any(|b| b.len() != bodies[0].len()) {
            return Err(unlike("it is computed in another way for other sizes"));
        }
        (0..bodies[0].len())
            .map(|i| self.statement((kernel, places), &bodies.iter().map(|b| &b[i]).collect::<Vec<_>>()))
            .collect()
    }

    /// What a register is assigned, for each size.
    fn value(&mut self, (_, places): Around, lane: Lane, values: &[Value]) -> Result<Value> {
        let first = &values[0];
        Ok(match first {
            Value::Load(_, stride) => {
                let addr = |v: &Value| match v {
                    Value::Load(a, s) if s == stride => Some(a.clone()),
                    _ => None,
                };
                let addrs: Vec<Addr> = values.iter().filter_map(addr).collect();
                Value::Load(self.place(places, &addrs, values.len())?, *stride)
            }
            _ if values.iter().all(|v| v == first) => first.clone(),
            Value::Const(_) => self.number(lane, values)?,
            Value::Index(_, step) => {
                let form = |v: &Value| match v {
                    Value::Index(f, s) if s == step => Some(f.clone()),
                    _ => None,
                };
                let forms: Vec<Affine> = values.iter().filter_map(form).collect();
                Value::Index(self.kernel_form(&forms, values.len())?, *step)
            }
            _ => return Err(changed()),
        })
    }

    fn statement(&mut self, (kernel, places): Around, stmts: &[&Stmt]) -> Result<Stmt> {
        Ok(match stmts[0] {
            Stmt::Let(reg, _) => {
                let value = |s: &&Stmt| match s {
                    Stmt::Let(r, v) => (r == reg).then(|| v.clone()),
                    _ => None,
                };
                let values: Vec<Value> = stmts.iter().filter_map(value).collect();
                if values.len() != stmts.len() {
                    return Err(changed());
                }
                let value = match places.distances.contains(reg) {
                    true => values[0].clone(),
                    false => self.value((kernel, places), kernel.regs[*reg as usize].lane, &values)?,
                };
                Stmt::Let(*reg, value)
            }
            Stmt::Store { stride, src, .. } => {
                let addr = |s: &&Stmt| match s {
                    Stmt::Store { addr, stride: t, src: r } if (t, r) == (stride, src) => Some(addr.clone()),
                    _ => None,
                };
                let addrs: Vec<Addr> = stmts.iter().filter_map(addr).collect();
                Stmt::Store { addr: self.place(places, &addrs, stmts.len())?, stride: *stride, src: *src }
            }
            Stmt::For { var, step, .. } => self.loops((kernel, places), stmts, *var, *step)?,
            Stmt::If { cond, .. } => {
                let parts = |s: &&'_ Stmt| match s {
                    Stmt::If { then, otherwise, .. } => Some((then.clone(), otherwise.clone())),
                    _ => None,
                };
                let parts: Vec<_> = stmts.iter().filter_map(parts).collect();
                let then =
                    self.block((kernel, places), &parts.iter().map(|p| p.0.as_slice()).collect::<Vec<_>>())?;
                let otherwise =
                    self.block((kernel, places), &parts.iter().map(|p| p.1.as_slice()).collect::<Vec<_>>())?;
                Stmt::If { cond: *cond, then, otherwise }
            }
            Stmt::Loop { .. } => {
                let body = |s: &&'_ Stmt| if let Stmt::Loop { body } = s { Some(body.clone()) } else { None };
                let bodies: Vec<_> = stmts.iter().filter_map(body).collect();
                Stmt::Loop {
                    body: self
                        .block((kernel, places), &bodies.iter().map(Vec::as_slice).collect::<Vec<_>>())?,
                }
            }
            first if stmts.iter().all(|s| *s == first) => first.clone(),
            _ => return Err(changed()),
        })
    }

    /// A loop whose end differs.
    fn loops(&mut self, (kernel, places): Around, stmts: &[&Stmt], var: u32, step: i64) -> Result<Stmt> {
        let changed = || unlike("it is computed in another way for other sizes");
        let part = |s: &&'_ Stmt| match s {
            Stmt::For { var: v, lo, hi, step: t, body } if (*v, *t) == (var, step) => {
                Some((lo.clone(), hi.clone(), body.clone()))
            }
            _ => None,
        };
        let parts: Vec<(Bound, Bound, Vec<Stmt>)> = stmts.iter().filter_map(part).collect();
        let lo = parts.first().map(|p| p.0.clone()).ok_or_else(changed)?;
        if parts.len() != stmts.len() || parts.iter().any(|p| p.0 != lo) {
            return Err(changed());
        }
        let mut hi = parts[0].1.clone();
        if parts.iter().any(|p| p.1 != hi) {
            let ends: Option<Vec<i64>> = parts.iter().map(|p| p.1.as_constant()).collect();
            let size = self.fit(&ends.ok_or_else(changed)?)?;
            hi.0.push(size);
        }
        let ends = parts.iter().map(|p| p.1.as_constant()).collect::<Option<Vec<i64>>>();
        places.enter(var, ends);
        let body = self.block((kernel, places), &parts.iter().map(|p| p.2.as_slice()).collect::<Vec<_>>())?;
        Ok(Stmt::For { var, lo, hi, step, body })
    }

    /// An integer that differs.
    fn number(&mut self, lane: Lane, values: &[Value]) -> Result<Value> {
        let number = |v: &Value| match (v, lane) {
            (Value::Const(bits), Lane::I64) => Some(*bits as i64),
            (Value::Const(bits), Lane::I32) => Some(i64::from(*bits as i32)),
            _ => None,
        };
        let numbers: Option<Vec<i64>> = values.iter().map(number).collect();
        let numbers = numbers.ok_or_else(|| unlike("a factor in it depends on the sizes"))?;
        Ok(Value::Index(self.fit(&numbers)?, 0))
    }

    fn place(&mut self, places: &Places, addrs: &[Addr], count: usize) -> Result<Addr> {
        let first = addrs.first().ok_or_else(|| Error::bug("no access"))?;
        let dynamic = |a: &Addr| a.dynamic.map(|d| d.0);
        if addrs.len() != count
            || addrs.iter().any(|a| a.param != first.param || dynamic(a) != dynamic(first))
        {
            return Err(unlike("it is computed in another way for other sizes"));
        }
        let forms: Vec<&Affine> = addrs.iter().map(|a| &a.index).collect();
        Ok(Addr { index: self.element(places, first, &forms)?, ..first.clone() })
    }

    fn kernel_form(&mut self, forms: &[Affine], count: usize) -> Result<Affine> {
        let first = forms.first().ok_or_else(|| Error::bug("no form"))?;
        if forms.len() != count || forms.iter().any(|f| f.terms != first.terms) {
            return Err(unlike("its elements move with the sizes"));
        }
        let base = self.fit(&forms.iter().map(|f| f.base).collect::<Vec<_>>())?;
        Ok(Affine { base: 0, terms: first.terms.clone() }.plus(&base))
    }
}
