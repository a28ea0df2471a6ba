//! A definition of all entries as that of a single one.
//!
//! Each integer that may become an index is taken apart into `factor * entry + rest`; of the rest it is known in which
//! range it lies. So `entry` itself never is a number of the definition, and an expression that depends on it in
//! another way makes the definition one of all entries.

use super::{Entries, Place};
use crate::base::{Affine, DType, Tensor};
use crate::definition::{DefBuilder, Definition, Expr, ExprId, Index, Lowering};
use crate::group::replace_loads;
use crate::scalar::{Op, Scalar};
use std::collections::HashMap;

/// Factors and ranges that are followed at most, so that no number of entries makes one overflow.
const LARGEST: i64 = 1 << 31;
const FAR: i64 = 1 << 60;

/// Where an integer lies, both ends included.
type Range = Option<(i64, i64)>;

/// `factor * entry + rest`.
#[derive(Clone, Copy)]
struct Number {
    factor: i64,
    /// An expression of the new definition.
    rest: ExprId,
    range: Range,
}

/// A form, and how often it has the entry.
type Form = (i64, (i64, i64));

pub(super) struct Definer<'a> {
    entries: &'a Entries<'a>,
    def: &'a Definition,
    /// The lowering of a single entry.
    to: &'a Lowering,
    /// The axis that runs over entries, and how many of its points belong to each.
    axis: Option<(u32, usize)>,
    b: DefBuilder,
    known: HashMap<ExprId, Number>,
    /// The folded value.
    acc: Option<ExprId>,
    /// Whether a comparison says the same for all entries.
    decided: bool,
}

impl<'a> Definer<'a> {
    /// `None` where another number of points depends on the number of entries.
    pub(super) fn of(entries: &'a Entries, def: &'a Definition, to: &'a Lowering) -> Option<Self> {
        let mut vars = def.vars.clone();
        let mut axis = None;
        for (i, var) in vars.iter_mut().enumerate() {
            let Some(size) = var.size.as_ref().filter(|s| s.coefficient(entries.var) != 0) else { continue };
            let per = usize::try_from(size.coefficient(entries.var)).ok()?;
            let plain =
                *size == Affine::var(entries.var).scaled(per as i64) && var.extent == per * entries.count;
            if !plain || i >= def.axes || axis.is_some() {
                return None;
            }
            (axis, var.extent, var.size) = (Some((i as u32, per)), per, None);
        }
        let b = DefBuilder::with_vars(vars, def.axes);
        Some(Definer { entries, def, to, axis, b, known: HashMap::new(), acc: None, decided: false })
    }

    pub(super) fn define(mut self) -> Option<Definition> {
        let def = self.def;
        let store = def.store.iter().map(|form| self.form(form)).collect::<Option<Vec<Form>>>()?;
        let place = self.entries.places.get(&def.output.value).copied();
        let follows = |(dim, form): (usize, &Form)| follows(place, dim, form.0, Some(form.1));
        if !store.iter().enumerate().all(follows) {
            return None;
        }
        if let Some(fold) = &def.fold {
            let body = self.plain(fold.body)?;
            self.acc = Some(self.b.fold(fold.op, body));
        }
        let finish = self.plain(def.finish)?;
        let ty = &self.to.values[def.output.value as usize].ty;
        let made = self.b.finish_at(&def.name, def.output.value, ty, def.store.clone(), finish);
        // Without what only the comparison was computed from.
        if self.decided { replace_loads(&made, &mut |_, _, _, _| None) } else { Some(made) }
    }

    /// How often a form has the entry, and the range of what is left of it; `None` where it has their number.
    fn form(&self, form: &Affine) -> Option<Form> {
        if form.coefficient(self.entries.var) != 0 {
            return None;
        }
        let extent = |v: u32| match self.axis {
            Some((axis, per)) if axis == v => per,
            _ => self.def.vars[v as usize].extent,
        };
        let factor = self.axis.map_or(0, |(axis, per)| form.coefficient(axis) * per as i64);
        Some((factor, form.range(extent)))
    }

    /// An expression that is the same number for every entry.
    fn plain(&mut self, e: ExprId) -> Option<ExprId> {
        self.number(e).filter(|n| n.factor == 0).map(|n| n.rest)
    }

    fn number(&mut self, e: ExprId) -> Option<Number> {
        if let Some(known) = self.known.get(&e) {
            return Some(*known);
        }
        let same = |rest| Number { factor: 0, rest, range: None };
        let number = match &self.def.exprs[e as usize] {
            Expr::Const(scalar) => {
                let rest = self.b.constant(*scalar);
                let number = (scalar.dtype == DType::I64).then(|| scalar.to_i64());
                Number { factor: 0, rest, range: number.map(|n| (n, n)) }
            }
            Expr::Index(form) => {
                let (factor, range) = self.form(form)?;
                Number { factor, rest: self.b.index(form.clone()), range: Some(range) }
            }
            Expr::Acc => same(self.acc?),
            Expr::Load { operand, index, fill } => self.load(*operand, index, *fill)?,
            Expr::Op(op, args) => self.op(*op, args)?,
            Expr::Cast { to, saturate, arg } => {
                let arg = self.plain(*arg)?;
                same(self.b.cast_as(*to, *saturate, arg))
            }
            Expr::Bitcast { to, arg } => {
                let arg = self.plain(*arg)?;
                same(self.b.bitcast(*to, arg))
            }
        };
        let range = number.range.filter(|(lo, hi)| -FAR <= *lo && *hi <= FAR);
        let number = Some(Number { range, ..number }).filter(|n| n.factor.abs() <= LARGEST)?;
        self.known.insert(e, number);
        Some(number)
    }

    fn load(&mut self, operand: u32, index: &[Index], fill: Option<Scalar>) -> Option<Number> {
        let value = self.def.operands[operand as usize].value;
        let place = self.entries.places.get(&value).copied();
        let mut made = Vec::new();
        for (dim, index) in index.iter().enumerate() {
            let (factor, range) = match index {
                Index::Affine(form) => {
                    let (factor, range) = self.form(form)?;
                    made.push(Index::Affine(form.clone()));
                    (factor, Some(range))
                }
                Index::Dynamic(e) => {
                    let number = self.number(*e)?;
                    let only =
                        number.range.filter(|(lo, hi)| place.is_some_and(|p| p.dim == dim) && lo == hi);
                    made.push(match only {
                        Some((only, _)) => Index::Affine(Affine::constant(only)),
                        None => Index::Dynamic(number.rest),
                    });
                    (number.factor, number.range)
                }
            };
            if !follows(place, dim, factor, range) {
                return None;
            }
        }
        let (factor, range) = match (place, &self.entries.low.values[value as usize].constant) {
            (Some(place), Some(tensor)) => self.entries.steps(tensor, place, &made)?,
            _ => (0, None),
        };
        let ty = &self.to.values[value as usize].ty;
        Some(Number { factor, rest: self.b.load_at(value, ty, made, fill), range })
    }

    fn op(&mut self, op: Op, args: &[ExprId]) -> Option<Number> {
        let first = self.number(args[0])?;
        if let (Op::Select, Expr::Const(picked)) = (op, self.b.expr(first.rest)) {
            return self.number(if picked.bits != 0 { args[1] } else { args[2] });
        }
        let args: Vec<Number> = args.iter().map(|&a| self.number(a)).collect::<Option<_>>()?;
        if let Some(known) = compared(op, &args) {
            self.decided = true;
            let rest = self.b.constant(Scalar::from_i64(DType::Bool, i64::from(known)));
            return Some(Number { factor: 0, rest, range: None });
        }
        let (factor, range) = joined(op, &args)?;
        let rest: Vec<ExprId> = args.iter().map(|a| a.rest).collect();
        Some(Number { factor, rest: self.b.op(op, &rest), range })
    }
}

/// Whether an index into one dimension is the place within the entry, or, where entries lie elsewhere, no matter of
/// the entry.
fn follows(place: Option<Place>, dim: usize, factor: i64, range: Range) -> bool {
    match place {
        Some(place) if place.dim == dim => {
            let inside = |(lo, hi): (i64, i64)| 0 <= lo && hi < place.per as i64;
            factor == place.per as i64 && range.is_some_and(inside)
        }
        _ => factor == 0,
    }
}

/// What a comparison says for all entries.
fn compared(op: Op, args: &[Number]) -> Option<bool> {
    let [a, b] = args else { return None };
    let ((low, _), (_, most)) = (a.range?, b.range?);
    // Entries are counted from 0.
    let never_below = a.factor >= 0 && b.factor == 0 && low >= most;
    (op == Op::Lt && never_below).then_some(false)
}

/// What becomes of `factor` and range under an operation; `None` where the result is no such number.
fn joined(op: Op, args: &[Number]) -> Option<(i64, Range)> {
    if args.iter().all(|a| a.factor == 0) {
        return Some((0, within(op, args)));
    }
    let constant = |n: &Number| n.range.filter(|(lo, hi)| n.factor == 0 && lo == hi).map(|(lo, _)| lo);
    match (op, args) {
        (Op::Add, [a, b]) => Some((a.factor.checked_add(b.factor)?, within(op, args))),
        (Op::Sub, [a, b]) => Some((a.factor.checked_sub(b.factor)?, within(op, args))),
        (Op::Mul, [a, b]) => {
            let (other, times) = constant(b).map(|n| (a, n)).or_else(|| constant(a).map(|n| (b, n)))?;
            Some((other.factor.checked_mul(times)?, within(op, args)))
        }
        (Op::Div | Op::Rem, [a, b]) => {
            let by = constant(b).filter(|&by| by > 0 && a.factor >= 0 && a.factor % by == 0)?;
            let range = within(op, args)?;
            Some((if op == Op::Div { a.factor / by } else { 0 }, Some(range)))
        }
        (Op::Select, [_, a, b]) if a.factor == b.factor => Some((a.factor, None)),
        _ => None,
    }
}

/// The range of an operation on what is left of numbers.
fn within(op: Op, args: &[Number]) -> Range {
    let [a, b] = args else { return None };
    let ((a_lo, a_hi), (b_lo, b_hi)) = (a.range?, b.range?);
    let single = b_lo == b_hi && b_lo > 0 && a_lo >= 0;
    match op {
        Op::Add => Some((a_lo.checked_add(b_lo)?, a_hi.checked_add(b_hi)?)),
        Op::Sub => Some((a_lo.checked_sub(b_hi)?, a_hi.checked_sub(b_lo)?)),
        Op::Mul => {
            let ends = [(a_lo, b_lo), (a_lo, b_hi), (a_hi, b_lo), (a_hi, b_hi)];
            let ends = ends.iter().map(|(a, b)| a.checked_mul(*b)).collect::<Option<Vec<i64>>>()?;
            Some((*ends.iter().min()?, *ends.iter().max()?))
        }
        Op::Div if single => Some((a_lo / b_lo, a_hi / b_lo)),
        Op::Rem if single => Some((0, a_hi.min(b_lo - 1))),
        _ => None,
    }
}

impl Entries<'_> {
    /// By how much the elements of a constant at some indices grow from entry to entry, and the range of those of the
    /// first one; `None` where that is not the same for all.
    fn steps(&self, tensor: &Tensor, place: Place, index: &[Index]) -> Option<(i64, Range)> {
        let of_entry = |i: usize| {
            let picked: Vec<usize> = (i * place.per..(i + 1) * place.per).collect();
            let mut part = tensor.picked(place.dim, &picked);
            for (dim, index) in index.iter().enumerate().filter(|(dim, _)| *dim != place.dim) {
                match index {
                    Index::Affine(form) if form.is_constant() => {
                        let at = usize::try_from(form.base).ok().filter(|&at| at < part.ty.shape[dim])?;
                        part = part.picked(dim, &[at]);
                    }
                    _ => {}
                }
            }
            Some(part)
        };
        let first = of_entry(0)?;
        let others = (1..self.count).map(of_entry).collect::<Option<Vec<Tensor>>>()?;
        if others.iter().all(|other| other.data == first.data) {
            return Some((0, None));
        }
        let integers = (first.ty.dtype == DType::I64).then(|| first.to_i64s())??;
        let step = others[0].to_i64s()?.first()?.checked_sub(*integers.first()?)?;
        let grown = |n: &i64, times: usize| n.checked_add(step.checked_mul(times as i64)?);
        let grows = |(i, other): (usize, &Tensor)| {
            let wanted = integers.iter().map(|n| grown(n, i + 1));
            other.to_i64s().is_some_and(|have| have.into_iter().map(Some).eq(wanted))
        };
        let range = Some((*integers.iter().min()?, *integers.iter().max()?));
        others.iter().enumerate().all(grows).then_some((step, range))
    }
}
