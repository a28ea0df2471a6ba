//! Copies that vanish: what is copied is written into the copy's output at once.
//!
//! A concatenation is one copy per input, a merging reshape is one copy. When the copy reads all
//! of a value, the value becomes a part of the copy's output: its producers store there, its other
//! readers load from there. Goldens: `tests/golden/group`.

use super::rewrite::{
    Var, copied_load, keep, plain_var, rebuild, replace_loads, same_vars, split_vars, with_vars,
};
use crate::base::affine::SIZE;
use crate::base::{Affine, TensorType};
use crate::definition::{Definition, Expr, Index, ValueId};

/// Lanes of the widest vectors.
const LANES: usize = 16;

/// A value's place in the output of the copy that reads it.
pub struct Forward {
    /// The value that vanishes.
    pub from: ValueId,
    /// The value it becomes a part of.
    pub to: ValueId,
    to_ty: TensorType,
    /// Per dimension of `from`: the copy's axes it is made of, `(axis, factor, extent)`.
    dims: Vec<Vec<(u32, i64, usize)>>,
    /// Per dimension of `to`: a form in the copy's axes.
    store: Vec<Affine>,
    axes: usize,
    /// Of each axis, its size where that is known only at run time.
    sizes: Vec<Option<Affine>>,
}

impl Forward {
    /// The forwarding that makes a copy unnecessary; `None` where it is not a plain copy of the
    /// whole value.
    pub fn of(copy: &Definition) -> Option<Forward> {
        let (operand, index, None) = copied_load(copy)? else { return None };
        let source = &copy.operands[operand as usize];
        let mut used = vec![false; copy.axes];
        let mut dims = Vec::new();
        for (i, &extent) in index.iter().zip(&source.ty.shape) {
            let Index::Affine(form) = i else { return None };
            if form.has_size() {
                return None;
            }
            let mut parts: Vec<(u32, i64, usize)> =
                form.terms.iter().map(|&(v, f)| (v, f, copy.vars[v as usize].extent)).collect();
            parts.sort_by_key(|p| -p.1);
            let covered: usize = parts.iter().map(|p| p.2).product();
            if form.base != 0 || covered != extent || !mixed_radix(&parts) {
                return None;
            }
            for p in &parts {
                if std::mem::replace(&mut used[p.0 as usize], true) {
                    return None;
                }
            }
            let sized = |p: &(u32, i64, usize)| copy.vars[p.0 as usize].size.is_some();
            if parts.len() > 1 && parts.iter().any(sized) {
                return None;
            }
            dims.push(parts);
        }
        let unused_extent =
            used.iter().zip(&copy.vars).any(|(u, v)| !u && (v.extent != 1 || v.size.is_some()));
        (!unused_extent).then(|| Forward {
            from: source.value,
            to: copy.output.value,
            to_ty: copy.output.ty.clone(),
            dims,
            store: copy.store.clone(),
            axes: copy.axes,
            sizes: copy.vars.iter().map(|v| v.size.clone()).collect(),
        })
    }

    /// A producer of the value, storing into the copy's output.
    pub fn producer(&self, def: &Definition) -> Option<Definition> {
        // Where a dimension is split, the producer's variable that runs over it is split too.
        let mut parts = vec![None; def.vars.len()];
        if !self.dims.iter().zip(&def.store).all(|(dim, form)| self.same_size(def, dim, form)) {
            return None;
        }
        for (dim, form) in self.dims.iter().zip(&def.store) {
            if dim.len() > 1 {
                let var = plain_var(form)?;
                if def.vars[var as usize].extent != dim.iter().map(|p| p.2).product::<usize>() {
                    return None;
                }
                parts[var as usize] = Some(dim.clone());
            }
        }
        let split = split_vars(def, &parts);
        let mut axis = vec![Affine::constant(0); self.axes];
        for (dim, form) in self.dims.iter().zip(&def.store) {
            match dim.as_slice() {
                [] => {}
                [(a, _, _)] => axis[*a as usize] = form.map_vars(|v| split.map[v as usize].clone()),
                parts => {
                    let var = plain_var(form)? as usize;
                    parts.iter().for_each(|p| axis[p.0 as usize] = Affine::var(split.part[var][&p.0]));
                }
            }
        }
        let store = self.store.iter().map(|f| f.map_vars(|a| axis[a as usize].clone())).collect();
        let renamed = with_vars(def, &split)?;
        let (b, vars): (_, Vec<Var>) = same_vars(&renamed);
        let mut moved = rebuild(&renamed, b, &vars, &mut keep, store)?;
        moved.output.value = self.to;
        moved.output.ty = self.to_ty.clone();
        Some(moved)
    }

    /// Whether a producer's channels, which its constant weights follow and its data does not, would fall into
    /// parts that take over a quarter more vectors: the copy costs less.
    pub fn crumbles(&self, def: &Definition, constant: &dyn Fn(ValueId) -> bool) -> bool {
        let Some([a, b]) = def.factors() else { return false };
        let load = |e: u32| match def.behind_casts(e) {
            Expr::Load { operand, index, .. } => {
                Some((constant(def.operands[*operand as usize].value), index))
            }
            _ => None,
        };
        let (Some(a), Some(b)) = (load(a), load(b)) else { return false };
        let ((true, weights, data) | (false, data, weights)) = (a.0, a.1, b.1);
        let walks = |index: &[Index], v: u32| {
            index.iter().any(|i| matches!(i, Index::Affine(form) if form.coefficient(v) != 0))
        };
        (a.0 != b.0)
            && self.dims.iter().zip(&def.store).any(|(dim, form)| {
                let channels = plain_var(form).is_some_and(|v| walks(weights, v) && !walks(data, v));
                let all: usize = dim.iter().map(|part| part.2).product();
                let vectors = dim.iter().map(|part| all / part.2 * part.2.div_ceil(LANES)).min();
                channels && vectors.is_some_and(|vectors| 4 * vectors > 5 * all.div_ceil(LANES))
            })
    }

    /// Whether a producer's index runs as far as the copy's axis where a size says how far.
    fn same_size(&self, def: &Definition, dim: &[(u32, i64, usize)], form: &Affine) -> bool {
        let axis = dim.first().and_then(|p| self.sizes[p.0 as usize].as_ref());
        match plain_var(form) {
            Some(var) => def.vars[var as usize].size.as_ref() == axis,
            None => {
                axis.is_none() && def.vars[..def.axes].iter().all(|v| v.size.is_none()) && !form.has_size()
            }
        }
    }

    /// A reader of the value, loading from the copy's output.
    pub fn reader(&self, def: &Definition) -> Option<Definition> {
        let pads = |e: &Expr| matches!(e, Expr::Load { fill: Some(_), .. });
        let sized = def.has_sizes() || self.sizes.iter().any(Option::is_some);
        if self.dims.iter().any(|d| d.len() > 1) || sized && def.exprs.iter().any(pads) {
            return None;
        }
        let mut possible = true;
        let moved = replace_loads(def, &mut |b, operand, index, fill| {
            if def.operands[operand as usize].value != self.from {
                return None;
            }
            let place = self.place(def, index, fill.is_some());
            possible &= place.is_some();
            Some(b.load_at(self.to, &self.to_ty, place?, fill))
        })?;
        possible.then_some(moved)
    }

    /// An index of the value as an index of the copy's output.
    fn place(&self, def: &Definition, index: &[Index], padded: bool) -> Option<Vec<Index>> {
        let inside = |at: &Affine, extent: usize| {
            let (least, most) = at.range(|v| def.vars[v as usize].extent);
            !padded || least >= 0 && most < extent as i64
        };
        // The output has no dimension against which an index of one that is no axis could be checked.
        let checked = |(dim, at): (&Vec<_>, &Index)| match at {
            _ if !dim.is_empty() => true,
            Index::Affine(at) => inside(at, 1),
            Index::Dynamic(_) => false,
        };
        if !self.dims.iter().zip(index).all(checked) {
            return None;
        }
        let mut axis: Vec<Index> = vec![Index::Affine(Affine::constant(0)); self.axes];
        for (dim, at) in self.dims.iter().zip(index) {
            if let [(a, _, _)] = dim.as_slice() {
                axis[*a as usize] = at.clone();
            }
        }
        let place = self.store.iter().zip(&self.to_ty.shape).map(|(form, &extent)| {
            // Padding and computed indices are checked against this dimension: it must be the same.
            if let Some(a) = plain_var(form) {
                let whole = self.dims.iter().flatten().any(|p| p.0 == a && p.2 == extent);
                if whole {
                    return Some(axis[a as usize].clone());
                }
            }
            let mut sum = Affine::constant(form.base);
            for &(a, f) in &form.terms {
                if a >= SIZE {
                    sum.add_term(a, f);
                    continue;
                }
                let extent = self.dims.iter().flatten().find(|p| p.0 == a).map_or(1, |p| p.2);
                match &axis[a as usize] {
                    Index::Affine(at) if inside(at, extent) => sum = sum.plus_scaled(at, f),
                    _ => return None,
                }
            }
            Some(Index::Affine(sum))
        });
        place.collect()
    }
}

/// Whether parts, outermost first, are digits: each factor is the product of the extents inside.
fn mixed_radix(parts: &[(u32, i64, usize)]) -> bool {
    let mut inside = 1;
    parts.iter().rev().all(|&(_, factor, extent)| {
        let fits = factor == inside;
        inside *= extent as i64;
        fits
    })
}
