//! How far indices lie beyond a dimension that is known only at run time, whatever its size is.
//!
//! Both ends are functions of sizes. Where their difference is not a number, as after a stride, what computes the sizes
//! is evaluated for each value of the one that all of them come from.

use crate::base::affine::as_size;
use crate::base::{Affine, DType};
use crate::definition::{Definition, Expr, Lowering, Stage, ValueId};
use crate::scalar::{Scalar, eval};
use std::collections::HashMap;

/// Sizes of which all values are tried.
const MAX_TRIED: usize = 1 << 14;

/// The sizes of a lowering, and what computes them.
pub struct Sizes<'a> {
    lowering: &'a Lowering,
    made: HashMap<ValueId, &'a Definition>,
}

impl<'a> Sizes<'a> {
    /// Of a lowering.
    pub fn of(lowering: &'a Lowering) -> Self {
        let single = |stage: &'a Stage| match stage {
            Stage::Define(def) if def.axes == 0 && def.fold.is_none() => Some((def.output.value, def)),
            _ => None,
        };
        Sizes { lowering, made: lowering.stages.iter().filter_map(single).collect() }
    }

    /// The largest value of a form in sizes; none where that is not found.
    pub fn most(&self, form: &Affine) -> Option<i64> {
        if form.is_constant() {
            return Some(form.base);
        }
        let mut roots: Vec<usize> = Vec::new();
        for &(var, _) in &form.terms {
            self.roots(as_size(var)?.0, &mut roots)?;
        }
        let &[root] = roots.as_slice() else { return None };
        let size = self.lowering.sizes.get(root).filter(|size| size.max <= MAX_TRIED)?;
        let values = size.least..=size.max;
        let mut found = None;
        for value in values {
            let at = self.at(form, (root, value as i64))?;
            found = found.max(Some(at));
        }
        found
    }

    /// The sizes that the caller gives from which one is computed.
    fn roots(&self, size: usize, roots: &mut Vec<usize>) -> Option<()> {
        let known = self.lowering.sizes.get(size)?;
        if known.name.is_some() {
            if !roots.contains(&size) {
                roots.push(size);
            }
            return Some(());
        }
        let def = self.made.get(&known.value)?;
        def.operands.is_empty().then_some(())?;
        def.sizes().filter(|&from| from != size).try_for_each(|from| self.roots(from, roots))
    }

    /// The value of a form in sizes where one of them is given.
    fn at(&self, form: &Affine, given: (usize, i64)) -> Option<i64> {
        let mut sum = form.base;
        for &(var, factor) in &form.terms {
            sum += factor * self.value(as_size(var)?.0, given)?;
        }
        Some(sum)
    }

    fn value(&self, size: usize, given: (usize, i64)) -> Option<i64> {
        if size == given.0 {
            return Some(given.1);
        }
        let def = self.made.get(&self.lowering.sizes.get(size)?.value)?;
        let mut values: Vec<Scalar> = Vec::new();
        for expr in &def.exprs {
            values.push(match expr {
                Expr::Const(scalar) => *scalar,
                Expr::Index(form) => Scalar { dtype: DType::I64, bits: self.at(form, given)? as u64 },
                Expr::Op(op, args) => {
                    let args: Vec<Scalar> = args.iter().map(|&a| values[a as usize]).collect();
                    eval(*op, &args)
                }
                _ => return None,
            });
        }
        values.get(def.finish as usize).filter(|s| s.dtype == DType::I64).map(|s| s.bits as i64)
    }
}
