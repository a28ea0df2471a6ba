//! Definitions that differ in numbers, as one.

use super::{Merger, unlike};
use crate::base::{Affine, DType};
use crate::definition::{DefBuilder, Definition, Expr, ExprId, Index, Var};
use crate::error::{Error, Result};
use crate::scalar::{Op, Scalar, cast};

/// An index in all samples.
enum Form {
    /// The factors are the same.
    Affine(Affine),
    /// They are not: factor of each variable, and the rest.
    Sum(Vec<(u32, Affine)>, Affine),
}

impl Merger<'_> {
    /// One definition of those of all samples.
    pub(super) fn definition(&mut self, defs: &[&Definition]) -> Result<Definition> {
        let first = defs[0];
        let alike = |d: &&Definition| {
            let fold = |d: &Definition| d.fold.as_ref().map(|f| (f.op, f.dtype, f.body));
            (d.vars.len(), d.axes, d.exprs.len(), d.finish, fold(d))
                == (first.vars.len(), first.axes, first.exprs.len(), first.finish, fold(first))
        };
        if defs.iter().all(|d| *d == first) && !self.reads_sized(first) {
            return Ok(first.clone());
        }
        if !defs.iter().all(alike) {
            return Err(unlike("it is computed in another way for other sizes"));
        }
        let mut vars = Vec::new();
        for (i, var) in first.vars.iter().enumerate() {
            let extents: Vec<i64> = defs.iter().map(|d| d.vars[i].extent as i64).collect();
            let size = Some(self.fit(&extents)?).filter(|f| !f.is_constant());
            let extent = extents[0].max(0) as usize;
            vars.push(Var { name: var.name.clone(), extent, size });
        }
        let mut b = DefBuilder::with_vars(vars.clone(), first.axes);
        let mut ids: Vec<ExprId> = Vec::new();
        let mut folded = None;
        for e in 0..first.exprs.len() {
            let exprs: Vec<&Expr> = defs.iter().map(|d| &d.exprs[e]).collect();
            let id = match (exprs[0], &first.fold) {
                (Expr::Acc, Some(fold)) => {
                    let body =
                        *ids.get(fold.body as usize).ok_or_else(|| Error::bug("acc before its fold"))?;
                    *folded.get_or_insert_with(|| b.fold(fold.op, body))
                }
                _ => self.expr(&mut b, &vars, first, &exprs, &ids)?,
            };
            ids.push(id);
        }
        if let (None, Some(fold)) = (folded, &first.fold) {
            b.fold(fold.op, ids[fold.body as usize]);
        }
        let mut store = Vec::new();
        for d in 0..first.store.len() {
            let forms: Vec<&Affine> = defs.iter().map(|def| &def.store[d]).collect();
            match self.index_form(&forms)? {
                Form::Affine(form) => store.push(form),
                Form::Sum(..) => return Err(unlike("where its elements go moves with the sizes")),
            }
        }
        let output = &first.output;
        Ok(b.finish_at(&first.name, output.value, &output.ty, store, ids[first.finish as usize]))
    }

    fn reads_sized(&self, d: &Definition) -> bool {
        d.operands.iter().any(|o| self.low.dims.contains_key(&o.value))
    }

    fn expr(
        &mut self,
        b: &mut DefBuilder,
        vars: &[Var],
        first: &Definition,
        exprs: &[&Expr],
        ids: &[ExprId],
    ) -> Result<ExprId> {
        let changed = || unlike("it is computed in another way for other sizes");
        Ok(match exprs[0] {
            Expr::Const(scalar) => {
                let constant = |e: &&Expr| if let Expr::Const(s) = e { Some(*s) } else { None };
                let scalars: Vec<Scalar> = exprs.iter().filter_map(constant).collect();
                match scalars.len() == exprs.len() && scalars.iter().all(|s| s.dtype == scalar.dtype) {
                    true => self.scalar(b, &scalars)?,
                    false => return Err(changed()),
                }
            }
            Expr::Index(_) => {
                let index = |e: &&'_ Expr| if let Expr::Index(f) = e { Some(f.clone()) } else { None };
                let forms: Vec<Affine> = exprs.iter().filter_map(index).collect();
                if forms.len() != exprs.len() {
                    return Err(changed());
                }
                match self.index_form(&forms.iter().collect::<Vec<_>>())? {
                    Form::Affine(form) => b.index(form),
                    Form::Sum(terms, rest) => sum(b, &terms, rest),
                }
            }
            Expr::Load { operand, index, fill } => {
                let mut merged = Vec::new();
                for d in 0..index.len() {
                    let extent = first.operands[*operand as usize].ty.shape[d];
                    merged.push(self.load_index(b, vars, exprs, d, (extent, fill.is_some()), ids)?);
                }
                let same = |e: &&Expr| matches!(e, Expr::Load { operand: o, fill: f, .. } if (o, f) == (operand, fill));
                if !exprs.iter().all(same) {
                    return Err(changed());
                }
                let operand = &first.operands[*operand as usize];
                b.load_at(operand.value, &operand.ty, merged, *fill)
            }
            _ if exprs.iter().any(|e| *e != exprs[0]) => return Err(changed()),
            Expr::Op(op, args) => {
                let args: Vec<ExprId> = args.iter().map(|&a| ids[a as usize]).collect();
                b.op(*op, &args)
            }
            Expr::Cast { to, saturate, arg } => b.cast_as(*to, *saturate, ids[*arg as usize]),
            Expr::Bitcast { to, arg } => b.bitcast(*to, ids[*arg as usize]),
            Expr::Acc => return Err(Error::bug("acc without a fold")),
        })
    }

    /// One index of a load. Where the ranges of variables and sizes do not show that an affine one lies
    /// inside, it is checked at run time.
    fn load_index(
        &mut self,
        b: &mut DefBuilder,
        vars: &[Var],
        exprs: &[&Expr],
        dim: usize,
        (extent, filled): (usize, bool),
        ids: &[ExprId],
    ) -> Result<Index> {
        let index =
            |e: &&'_ Expr| if let Expr::Load { index, .. } = e { index.get(dim).cloned() } else { None };
        let all: Vec<Index> = exprs.iter().filter_map(index).collect();
        let forms: Vec<&Affine> =
            all.iter().filter_map(|i| if let Index::Affine(f) = i { Some(f) } else { None }).collect();
        match &all[0] {
            Index::Dynamic(e) if all.iter().all(|i| i == &all[0]) => Ok(Index::Dynamic(ids[*e as usize])),
            Index::Affine(_) if forms.len() == exprs.len() => Ok(match self.index_form(&forms)? {
                Form::Affine(form) => {
                    let (low, high) = form.range(|v| vars[v as usize].extent);
                    match filled || low >= 0 && high < extent as i64 {
                        true => Index::Affine(form),
                        false => Index::Dynamic(b.index(form)),
                    }
                }
                Form::Sum(terms, rest) => Index::Dynamic(sum(b, &terms, rest)),
            }),
            _ => Err(unlike("it is computed in another way for other sizes")),
        }
    }

    fn index_form(&mut self, forms: &[&Affine]) -> Result<Form> {
        let mut vars: Vec<u32> = forms.iter().flat_map(|f| f.terms.iter().map(|t| t.0)).collect();
        vars.sort_unstable();
        vars.dedup();
        let bases: Vec<i64> = forms.iter().map(|f| f.base).collect();
        let rest = self.fit(&bases)?;
        let mut terms = Vec::new();
        for var in vars {
            let factors: Vec<i64> = forms.iter().map(|f| f.coefficient(var)).collect();
            terms.push((var, self.fit(&factors)?));
        }
        if terms.iter().any(|t| !t.1.is_constant()) {
            return Ok(Form::Sum(terms, rest));
        }
        let sum = terms.iter().fold(rest, |sum, (v, f)| sum.plus_scaled(&Affine::var(*v), f.base));
        Ok(Form::Affine(sum))
    }

    /// A constant that may differ: an integer, or a float that is one or the inverse of one.
    pub(super) fn scalar(&mut self, b: &mut DefBuilder, scalars: &[Scalar]) -> Result<ExprId> {
        let first = scalars[0];
        if scalars.iter().all(|s| s.bits == first.bits) {
            return Ok(b.constant(first));
        }
        let whole = |values: &[f64]| -> Option<Vec<i64>> {
            let fits = |v: &f64| v.fract() == 0.0 && v.abs() < 1e15;
            values.iter().all(fits).then(|| values.iter().map(|v| *v as i64).collect())
        };
        if !first.dtype.is_float() {
            let numbers: Vec<i64> = scalars.iter().map(|s| s.to_i64()).collect();
            let form = self.fit(&numbers)?;
            let index = b.index(form);
            return Ok(b.cast(first.dtype, index));
        }
        let values: Vec<f64> = scalars.iter().map(|s| s.to_f64()).collect();
        let rule = || unlike("no rule was found for a factor that depends on the sizes");
        if let Some(numbers) = whole(&values) {
            let form = self.fit(&numbers)?;
            let index = b.index(form);
            return Ok(b.cast(first.dtype, index));
        }
        let inverse: Vec<f64> = values.iter().map(|v| (1.0 / v).round()).collect();
        let exact = |(i, s): (&f64, &Scalar)| {
            let rounded = Scalar::from_f64(DType::F32, *i).to_f64();
            cast(Scalar::from_f64(DType::F64, 1.0 / rounded), s.dtype, true).bits == s.bits
        };
        if !inverse.iter().zip(scalars).all(exact) {
            return Err(rule());
        }
        let numbers = whole(&inverse).ok_or_else(rule)?;
        let form = self.fit(&numbers)?;
        let index = b.index(form);
        let (one, number) = (b.number(first.dtype, 1.0), b.cast(first.dtype, index));
        Ok(b.op(Op::Div, &[one, number]))
    }
}

/// `sum(factor * variable) + rest` as an expression.
pub(super) fn sum(b: &mut DefBuilder, terms: &[(u32, Affine)], rest: Affine) -> ExprId {
    let (fixed, moving): (Vec<_>, Vec<_>) = terms.iter().partition(|t| t.1.is_constant());
    let plain = fixed.iter().fold(rest, |sum, (v, f)| sum.plus_scaled(&Affine::var(*v), f.base));
    let mut total = b.index(plain);
    for (var, factor) in moving {
        let (var, factor) = (b.index(Affine::var(*var)), b.index(factor.clone()));
        let product = b.op(Op::Mul, &[var, factor]);
        total = b.op(Op::Add, &[total, product]);
    }
    total
}
