//! Kernels written by hand that differ in numbers, as one.

use super::{Merger, unlike};
use crate::base::{Affine, Bound, TensorType};
use crate::definition::{Operand, Routine};
use crate::error::{Error, Result};
use crate::nest::bind_sizes;
use crate::tile::{Addr, Kernel, Lane, Stmt, Value};

impl Merger<'_> {
    /// One routine of those of all samples. Their tensors are dense, so that only the outermost
    /// dimension may be known at run time.
    pub(super) fn routine(&mut self, routines: &[&Routine]) -> Result<Routine> {
        let first = routines[0];
        if routines.iter().all(|r| *r == first) {
            return Ok(first.clone());
        }
        for operand in &first.operands {
            let dims = self.dims(operand.value);
            let outer = dims.iter().position(|d| *d != Affine::constant(1)).unwrap_or(0);
            if dims.iter().skip(outer + 1).any(|d| !d.is_constant()) {
                return Err(unlike("it runs over a dimension that is not the first of its tensor"));
            }
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
        kernel.body = self.block(kernels[0], &bodies)?;
        let mut operands: Vec<Operand> = first.operands.clone();
        for number in bind_sizes(&mut kernel) {
            let value = self.low.sizes.get(number).ok_or_else(|| Error::bug("no such size"))?.value;
            operands.push(Operand { value, ty: TensorType::new(crate::base::DType::I64, []) });
        }
        Ok(Routine { operands, kernel })
    }

    fn block(&mut self, kernel: &Kernel, bodies: &[&[Stmt]]) -> Result<Vec<Stmt>> {
        if bodies.iter().any(|b| b.len() != bodies[0].len()) {
            return Err(unlike("it is computed in another way for other sizes"));
        }
        (0..bodies[0].len())
            .map(|i| self.statement(kernel, &bodies.iter().map(|b| &b[i]).collect::<Vec<_>>()))
            .collect()
    }

    fn statement(&mut self, kernel: &Kernel, stmts: &[&Stmt]) -> Result<Stmt> {
        let changed = || unlike("it is computed in another way for other sizes");
        if stmts.iter().all(|s| *s == stmts[0]) {
            return Ok(stmts[0].clone());
        }
        Ok(match stmts[0] {
            Stmt::Let(reg, first) => {
                let value =
                    |s: &&Stmt| if let Stmt::Let(r, v) = s { (r == reg).then(|| v.clone()) } else { None };
                let values: Vec<Value> = stmts.iter().filter_map(value).collect();
                if values.len() != stmts.len() {
                    return Err(changed());
                }
                let merged = match first {
                    Value::Const(_) => self.number(kernel.regs[*reg as usize].lane, &values)?,
                    Value::Load(_, stride) => {
                        let addr = |v: &Value| match v {
                            Value::Load(a, s) if s == stride => Some(a.clone()),
                            _ => None,
                        };
                        let addrs: Vec<Addr> = values.iter().filter_map(addr).collect();
                        Value::Load(self.place(&addrs, stmts.len())?, *stride)
                    }
                    Value::Index(_, step) => {
                        let form = |v: &Value| match v {
                            Value::Index(f, s) if s == step => Some(f.clone()),
                            _ => None,
                        };
                        let forms: Vec<Affine> = values.iter().filter_map(form).collect();
                        Value::Index(self.kernel_form(&forms, stmts.len())?, *step)
                    }
                    _ => return Err(changed()),
                };
                Stmt::Let(*reg, merged)
            }
            Stmt::Store { stride, src, .. } => {
                let addr = |s: &&Stmt| match s {
                    Stmt::Store { addr, stride: t, src: r } if (t, r) == (stride, src) => Some(addr.clone()),
                    _ => None,
                };
                let addrs: Vec<Addr> = stmts.iter().filter_map(addr).collect();
                Stmt::Store { addr: self.place(&addrs, stmts.len())?, stride: *stride, src: *src }
            }
            Stmt::For { var, step, .. } => self.loops(kernel, stmts, *var, *step)?,
            Stmt::If { cond, .. } => {
                let parts = |s: &&'_ Stmt| match s {
                    Stmt::If { then, otherwise, .. } => Some((then.clone(), otherwise.clone())),
                    _ => None,
                };
                let parts: Vec<_> = stmts.iter().filter_map(parts).collect();
                let then = self.block(kernel, &parts.iter().map(|p| p.0.as_slice()).collect::<Vec<_>>())?;
                let otherwise =
                    self.block(kernel, &parts.iter().map(|p| p.1.as_slice()).collect::<Vec<_>>())?;
                Stmt::If { cond: *cond, then, otherwise }
            }
            Stmt::Loop { .. } => {
                let body = |s: &&'_ Stmt| if let Stmt::Loop { body } = s { Some(body.clone()) } else { None };
                let bodies: Vec<_> = stmts.iter().filter_map(body).collect();
                Stmt::Loop {
                    body: self.block(kernel, &bodies.iter().map(Vec::as_slice).collect::<Vec<_>>())?,
                }
            }
            _ => return Err(changed()),
        })
    }

    /// A loop whose end differs.
    fn loops(&mut self, kernel: &Kernel, stmts: &[&Stmt], var: u32, step: i64) -> Result<Stmt> {
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
        let body = self.block(kernel, &parts.iter().map(|p| p.2.as_slice()).collect::<Vec<_>>())?;
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

    fn place(&mut self, addrs: &[Addr], count: usize) -> Result<Addr> {
        let first = addrs.first().ok_or_else(|| Error::bug("no access"))?;
        let dynamic = |a: &Addr| a.dynamic.map(|d| d.0);
        if addrs.len() != count
            || addrs.iter().any(|a| a.param != first.param || dynamic(a) != dynamic(first))
        {
            return Err(unlike("it is computed in another way for other sizes"));
        }
        let forms: Vec<Affine> = addrs.iter().map(|a| a.index.clone()).collect();
        Ok(Addr { index: self.kernel_form(&forms, count)?, ..first.clone() })
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
