//! Definitions that differ in numbers, as one.

use super::{Merger, changed, unlike};
use crate::base::affine::SIZE;
use crate::base::{Affine, DType};
use crate::definition::{DefBuilder, Definition, Expr, ExprId, Index, Operand, Var};
use crate::error::{Error, Result};
use crate::scalar::{Op, Scalar, cast};
use std::collections::HashMap;

/// An index in all samples.
enum Form {
    /// The factors are the same.
    Affine(Affine),
    /// They are not: factor of each variable, and the rest.
    Sum(Vec<(u32, Affine)>, Affine),
}

/// What a load reads outside of a dimension.
#[derive(Clone, Copy, PartialEq)]
enum Padding {
    /// Nothing: it stays inside.
    None,
    /// A fill.
    Fixed,
    /// A fill, outside of a dimension whose end no loop of the definition knows.
    Moving,
}

/// Expressions of all samples that have been made one already: by their numbers in each.
struct Walk<'d> {
    defs: &'d [&'d Definition],
    vars: Vec<Var>,
    acc: Option<ExprId>,
    known: HashMap<Vec<ExprId>, ExprId>,
}

impl Merger<'_> {
    /// One definition of those of all samples. Expressions are followed from what is stored: where a size
    /// equals another number by chance, a sample has fewer of them.
    pub(super) fn definition(&mut self, defs: &[&Definition]) -> Result<Definition> {
        let first = defs[0];
        let alike = |d: &&Definition| {
            let fold = |d: &Definition| d.fold.as_ref().map(|f| (f.op, f.dtype));
            (d.vars.len(), d.axes, d.store.len(), fold(d))
                == (first.vars.len(), first.axes, first.store.len(), fold(first))
        };
        if defs.iter().all(|d| *d == first) && !self.reads_sized(first) {
            return Ok(first.clone());
        }
        if !defs.iter().all(alike) {
            return Err(changed());
        }
        let mut vars = Vec::new();
        for (i, var) in first.vars.iter().enumerate() {
            let extents: Vec<i64> = defs.iter().map(|d| d.vars[i].extent as i64).collect();
            let (extent, size) = self.axis(&extents)?;
            vars.push(Var { name: var.name.clone(), extent, size });
        }
        let mut b = DefBuilder::with_vars(vars.clone(), first.axes);
        let mut walk = Walk { defs, vars: vars.clone(), acc: None, known: HashMap::new() };
        if let Some(fold) = &first.fold {
            let bodies: Vec<ExprId> = defs.iter().filter_map(|d| Some(d.fold.as_ref()?.body)).collect();
            let body = self.expr(&mut b, &mut walk, bodies)?;
            walk.acc = Some(b.fold(fold.op, body));
        }
        let finish = self.expr(&mut b, &mut walk, defs.iter().map(|d| d.finish).collect())?;
        let mut store = Vec::new();
        for d in 0..first.store.len() {
            let forms: Vec<&Affine> = defs.iter().map(|def| &def.store[d]).collect();
            match self.index_form(defs, &forms)? {
                Form::Affine(form) => store.push(self.inside(form, &vars, first.output.ty.shape[d])?),
                Form::Sum(..) => return Err(unlike("where its elements go moves with the sizes")),
            }
        }
        let output = &first.output;
        Ok(b.finish_at(&first.name, output.value, &output.ty, store, finish))
    }

    /// The bound of an axis and how long it is, where that is no number.
    fn axis(&mut self, extents: &[i64]) -> Result<(usize, Option<Affine>)> {
        let form = self.fit(extents)?;
        if form.is_constant() {
            return Ok((extents[0].max(0) as usize, None));
        }
        let most = self.facts.most(&form);
        let form = match form.range(|_| 1).1 > most {
            true => self.facts.plain(&form, &mut self.low, &mut self.before)?,
            false => form,
        };
        Ok((most.max(extents[0]).max(0) as usize, Some(form)))
    }

    /// Where elements go along a dimension. What sizes make of it is a size of its own, never negative, where
    /// that shows that it lies inside.
    fn inside(&mut self, form: Affine, vars: &[Var], extent: usize) -> Result<Affine> {
        let (low, high) = form.range(|v| vars[v as usize].extent);
        if low >= 0 && high < extent as i64 {
            return Ok(form);
        }
        let (sizes, moves): (Vec<_>, Vec<_>) = form.terms.iter().partition(|t| t.0 >= SIZE);
        let start =
            self.facts.plain(&Affine { base: form.base, terms: sizes }, &mut self.low, &mut self.before)?;
        let place = start.plus(&Affine { base: 0, terms: moves });
        let (low, high) = place.range(|v| vars[v as usize].extent);
        match low >= 0 && high < extent as i64 {
            true => Ok(place),
            false => Err(unlike("where its elements go is not known to lie inside for all sizes")),
        }
    }

    fn reads_sized(&self, d: &Definition) -> bool {
        d.operands.iter().any(|o| self.low.dims.contains_key(&o.value))
    }

    /// An operation, the same one of as many arguments for each size; `None` where they differ.
    fn operation(&mut self, b: &mut DefBuilder, walk: &mut Walk, exprs: &[&Expr]) -> Result<Option<ExprId>> {
        let shape = |e: &&Expr| match e {
            Expr::Op(op, args) => Some((Some(*op), None, args.clone())),
            Expr::Cast { to, saturate, arg } => Some((None, Some((*to, Some(*saturate))), vec![*arg])),
            Expr::Bitcast { to, arg } => Some((None, Some((*to, None)), vec![*arg])),
            _ => None,
        };
        let shapes: Vec<_> = exprs.iter().filter_map(shape).collect();
        let alike = |s: &(Option<Op>, _, Vec<ExprId>)| {
            (s.0, s.1, s.2.len()) == (shapes[0].0, shapes[0].1, shapes[0].2.len())
        };
        if shapes.len() != exprs.len() || !shapes.iter().all(alike) {
            return Ok(None);
        }
        let args = (0..shapes[0].2.len())
            .map(|i| self.expr(b, walk, shapes.iter().map(|s| s.2[i]).collect()))
            .collect::<Result<Vec<ExprId>>>()?;
        Ok(Some(match exprs[0] {
            Expr::Cast { to, saturate, .. } => b.cast_as(*to, *saturate, args[0]),
            Expr::Bitcast { to, .. } => b.bitcast(*to, args[0]),
            Expr::Op(op, _) => b.op(*op, &args),
            _ => return Err(changed()),
        }))
    }

    /// One expression of those with the given numbers, one per sample.
    fn expr(&mut self, b: &mut DefBuilder, walk: &mut Walk, ids: Vec<ExprId>) -> Result<ExprId> {
        if let Some(&known) = walk.known.get(&ids) {
            return Ok(known);
        }
        let exprs: Vec<&Expr> = walk.defs.iter().zip(&ids).map(|(d, &e)| &d.exprs[e as usize]).collect();
        let kind = std::mem::discriminant(exprs[0]);
        let made = match exprs[0] {
            _ if exprs.iter().any(|e| std::mem::discriminant(*e) != kind) => self.left_out(b, walk, &ids)?,
            Expr::Const(_) => {
                let constant = |e: &&Expr| if let Expr::Const(s) = e { Some(*s) } else { None };
                let scalars: Vec<Scalar> = exprs.iter().filter_map(constant).collect();
                let same =
                    scalars.len() == exprs.len() && scalars.iter().all(|s| s.dtype == scalars[0].dtype);
                if !same {
                    return Err(changed());
                }
                self.scalar(b, &scalars)?
            }
            Expr::Index(_) => {
                let index = |e: &&'_ Expr| if let Expr::Index(f) = e { Some(f.clone()) } else { None };
                let forms: Vec<Affine> = exprs.iter().filter_map(index).collect();
                if forms.len() != exprs.len() {
                    return Err(changed());
                }
                match self.index_form(walk.defs, &forms.iter().collect::<Vec<_>>())? {
                    Form::Affine(form) => b.index(form),
                    Form::Sum(terms, rest) => sum(b, &terms, rest),
                }
            }
            Expr::Load { .. } => self.load(b, walk, &exprs)?,
            Expr::Acc if exprs.iter().all(|e| **e == Expr::Acc) => {
                walk.acc.ok_or_else(|| Error::bug("acc without a fold"))?
            }
            Expr::Acc => return Err(changed()),
            _ => match self.operation(b, walk, &exprs)? {
                Some(made) => made,
                None => return self.left_out(b, walk, &ids),
            },
        };
        walk.known.insert(ids, made);
        Ok(made)
    }

    fn load(&mut self, b: &mut DefBuilder, walk: &mut Walk, exprs: &[&Expr]) -> Result<ExprId> {
        let mut loads = Vec::new();
        for (expr, def) in exprs.iter().zip(walk.defs) {
            let Expr::Load { operand, index, fill } = expr else { return Err(changed()) };
            loads.push((&def.operands[*operand as usize], index, *fill));
        }
        let (operand, index, fill) = loads[0];
        let same = |l: &(&Operand, &Vec<Index>, Option<Scalar>)| {
            (l.0.value, l.1.len(), l.2) == (operand.value, index.len(), fill)
        };
        if !loads.iter().all(same) {
            return Err(changed());
        }
        let mut merged = Vec::new();
        for d in 0..index.len() {
            let all: Vec<&Index> = loads.iter().map(|l| &l.1[d]).collect();
            // Where no loop ends with the dimension, what lies behind its end is found out at run time.
            let moves = self.dims(operand.value).get(d).is_some_and(|f| !f.is_constant());
            let padding = match fill {
                None => Padding::None,
                Some(_) if moves && walk.vars.iter().all(|v| v.size.is_none()) => Padding::Moving,
                Some(_) => Padding::Fixed,
            };
            merged.push(self.load_index(b, walk, &all, (operand.ty.shape[d], padding))?);
        }
        Ok(b.load_at(operand.value, &operand.ty, merged, fill))
    }

    /// One index of a load. Where the ranges of variables and sizes do not show that an affine one lies
    /// inside, it is checked at run time.
    fn load_index(
        &mut self,
        b: &mut DefBuilder,
        walk: &mut Walk,
        all: &[&Index],
        (extent, padding): (usize, Padding),
    ) -> Result<Index> {
        let forms: Vec<&Affine> =
            all.iter().filter_map(|i| if let Index::Affine(f) = i { Some(f) } else { None }).collect();
        let computed: Vec<ExprId> =
            all.iter().filter_map(|i| if let Index::Dynamic(e) = i { Some(*e) } else { None }).collect();
        if computed.len() == all.len() {
            return Ok(Index::Dynamic(self.expr(b, walk, computed)?));
        }
        if forms.len() != all.len() {
            return Err(changed());
        }
        Ok(match self.index_form(walk.defs, &forms)? {
            Form::Affine(form) => {
                let (low, high) = form.range(|v| walk.vars[v as usize].extent);
                let inside = low >= 0 && high < extent as i64;
                match padding == Padding::Fixed || padding == Padding::None && inside {
                    true => Index::Affine(form),
                    false => Index::Dynamic(b.index(form)),
                }
            }
            Form::Sum(terms, rest) => Index::Dynamic(sum(b, &terms, rest)),
        })
    }

    /// An index in all samples. The factor of a variable says nothing in a sample where it is always 0.
    fn index_form(&mut self, defs: &[&Definition], forms: &[&Affine]) -> Result<Form> {
        let mut vars: Vec<u32> = forms.iter().flat_map(|f| f.terms.iter().map(|t| t.0)).collect();
        vars.sort_unstable();
        vars.dedup();
        let bases: Vec<i64> = forms.iter().map(|f| f.base).collect();
        let rest = self.fit(&bases)?;
        let mut terms = Vec::new();
        for var in vars {
            let moves = |d: &Definition| d.vars[var as usize].extent > 1;
            let said = defs.iter().position(|d| moves(d)).unwrap_or(0);
            let factor =
                |(d, f): (&&Definition, &&Affine)| if moves(d) { f } else { forms[said] }.coefficient(var);
            let factors: Vec<i64> = defs.iter().zip(forms).map(factor).collect();
            terms.push((var, self.fit(&factors)?));
        }
        if terms.iter().any(|t| !t.1.is_constant()) {
            return Ok(Form::Sum(terms, rest));
        }
        let sum = terms.iter().fold(rest, |sum, (v, f)| sum.plus_scaled(&Affine::var(*v), f.base));
        Ok(Form::Affine(sum))
    }

    /// A constant that may differ: an integer, or a float that is one, a few parts of one, or the inverse.
    pub(super) fn scalar(&mut self, b: &mut DefBuilder, scalars: &[Scalar]) -> Result<ExprId> {
        let first = scalars[0];
        if scalars.iter().all(|s| s.bits == first.bits) {
            return Ok(b.constant(first));
        }
        if !first.dtype.is_float() {
            let numbers: Vec<i64> = scalars.iter().map(|s| s.to_i64()).collect();
            let form = self.fit(&numbers)?;
            let index = b.index(form);
            return Ok(b.cast(first.dtype, index));
        }
        let values: Vec<f64> = scalars.iter().map(|s| s.to_f64()).collect();
        if let Some(found) = PARTS.iter().find_map(|p| Some((*p, whole(&values, *p)?))) {
            return self.part(b, first.dtype, found);
        }
        let exact = |(i, s): (&i64, &Scalar), parts: f64| {
            let rounded = Scalar::from_f64(DType::F32, *i as f64 / parts).to_f64();
            cast(Scalar::from_f64(DType::F64, 1.0 / rounded), s.dtype, true).bits == s.bits
        };
        let inverse = |parts: f64| {
            let numbers = values.iter().map(|v| (parts / v).round() / parts).collect::<Vec<_>>();
            let numbers = whole(&numbers, parts)?;
            numbers.iter().zip(scalars).all(|pair| exact(pair, parts)).then_some((parts, numbers))
        };
        let found = PARTS.iter().find_map(|&parts| inverse(parts));
        let found =
            found.ok_or_else(|| unlike("no rule was found for a factor that depends on the sizes"))?;
        let (one, number) = (b.number(first.dtype, 1.0), self.part(b, first.dtype, found)?);
        Ok(b.op(Op::Div, &[one, number]))
    }

    /// Numbers in so many parts of 1.
    fn part(
        &mut self,
        b: &mut DefBuilder,
        dtype: DType,
        (parts, numbers): (f64, Vec<i64>),
    ) -> Result<ExprId> {
        let form = self.fit(&numbers)?;
        let index = b.index(form);
        let number = b.cast(dtype, index);
        if parts == 1.0 {
            return Ok(number);
        }
        let part = b.number(dtype, 1.0 / parts);
        Ok(b.op(Op::Mul, &[number, part]))
    }

    /// A sum or product with a number that is left out in some samples, where it changes nothing.
    fn left_out(&mut self, b: &mut DefBuilder, walk: &mut Walk, ids: &[ExprId]) -> Result<ExprId> {
        let with_number = |(d, id): (&&Definition, &ExprId)| match &d.exprs[*id as usize] {
            Expr::Op(op @ (Op::Mul | Op::Add), args) => match (args.as_slice(), args.last()) {
                (&[x, _], Some(&c)) => match &d.exprs[c as usize] {
                    Expr::Const(s) => Some((*op, x, *s)),
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        };
        let found: Vec<_> = walk.defs.iter().zip(ids).map(with_number).collect();
        let Some((op, _, number)) = found.iter().flatten().next().copied() else { return Err(changed()) };
        let neutral = Scalar::from_f64(number.dtype, if op == Op::Mul { 1.0 } else { 0.0 });
        let parts = found.iter().zip(ids).map(|(found, id)| match found {
            Some((o, x, s)) if *o == op && s.dtype == number.dtype => (*x, *s),
            _ => (*id, neutral),
        });
        let (rest, numbers): (Vec<ExprId>, Vec<Scalar>) = parts.unzip();
        let rest = self.expr(b, walk, rest)?;
        let number = self.scalar(b, &numbers)?;
        Ok(b.op(op, &[rest, number]))
    }
}

/// In how many parts of 1 floats are looked at.
const PARTS: [f64; 3] = [1.0, 2.0, 4.0];

/// The numbers in so many parts of 1, if they are whole.
fn whole(values: &[f64], parts: f64) -> Option<Vec<i64>> {
    let numbers: Vec<f64> = values.iter().map(|v| v * parts).collect();
    let fits = |v: &f64| v.fract() == 0.0 && v.abs() < 1e15;
    numbers.iter().all(fits).then(|| numbers.iter().map(|v| *v as i64).collect())
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
