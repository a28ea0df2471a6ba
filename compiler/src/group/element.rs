//! An element of what a definition computes, as an expression of its reader.

use super::rewrite::{Copy, Var, copied_load, plain_var};
use crate::base::Affine;
use crate::base::affine::SIZE;
use crate::definition::{DefBuilder, Definition, Expr, ExprId, Index};
use crate::scalar::Scalar;

/// The producer's expression at an index of its output.
pub fn at(
    b: &mut DefBuilder,
    producer: &Definition,
    axes: &[Option<usize>],
    index: &[Index],
    fill: Option<Scalar>,
) -> Option<ExprId> {
    let here = |d: &Option<usize>| d.map_or(Var::Affine(Affine::constant(0)), |d| var(&index[d]));
    let vars: Vec<Var> = axes.iter().map(here).collect();
    let dynamic = vars.iter().any(is_dynamic);
    // The check against the producer's extents must mean the same against its source's.
    if let (true, Some((operand, source, inner))) = (fill.is_some() || dynamic, copied_load(producer)) {
        if fill.is_some() && producer.has_sizes() {
            return None;
        }
        if !keeps_outside(producer, axes, source, operand, dynamic) || (inner.is_some() && inner != fill) {
            return None;
        }
        let mut moved = None;
        Copy::new(producer, &vars, None).expr(b, producer.finish, &mut |b, operand, index, _| {
            let operand = &producer.operands[operand as usize];
            moved = Some(b.load_at(operand.value, &operand.ty, index.to_vec(), fill.or(inner)));
            moved
        })?;
        return moved;
    }
    if fill.is_some() { None } else { of(b, producer, &vars) }
}

/// What a producer's axis becomes where its output is read at an index.
pub fn var(index: &Index) -> Var {
    match index {
        Index::Affine(form) => Var::Affine(form.clone()),
        Index::Dynamic(e) => Var::Dynamic(*e),
    }
}

fn is_dynamic(var: &Var) -> bool {
    matches!(var, Var::Dynamic(_))
}

/// The producer's expression with these in place of its axes; `None` where a computed one would be checked
/// against other extents than those of its output.
pub fn of(b: &mut DefBuilder, producer: &Definition, vars: &[Var]) -> Option<ExprId> {
    let computed = |v: usize| vars.get(v).is_some_and(is_dynamic);
    (0..vars.len()).all(|v| !computed(v) || is_checked(producer, v as u32)).then_some(())?;
    Copy::new(producer, vars, None).expr(b, producer.finish, &mut super::rewrite::keep)
}

/// Whether all loads along an axis are of tensors that are as long, and there is one.
fn is_checked(producer: &Definition, axis: u32) -> bool {
    let crate::definition::Var { extent, size: None, .. } = producer.vars[axis as usize] else {
        return false;
    };
    let uses = |form: &Affine| form.terms.iter().any(|t| t.0 == axis);
    let mut checked = false;
    let fits = producer.exprs.iter().all(|e| match e {
        Expr::Index(form) => !uses(form),
        Expr::Load { operand, index, .. } => {
            let shape = &producer.operands[*operand as usize].ty.shape;
            index.iter().zip(shape).all(|(i, &n)| match i {
                Index::Affine(form) if uses(form) => {
                    checked = true;
                    plain_var(form).is_some() && n == extent
                }
                _ => true,
            })
        }
        _ => true,
    });
    fits && checked
}

/// Whether an index outside the producer's output is outside its source too: every dimension of
/// the source is one axis, shifted by padding at most.
fn keeps_outside(
    producer: &Definition,
    axes: &[Option<usize>],
    source: &[Index],
    operand: u32,
    dynamic: bool,
) -> bool {
    let shape = &producer.operands[operand as usize].ty.shape;
    let mut seen = vec![false; producer.axes];
    let covers = source.iter().zip(shape).all(|(index, &extent)| {
        let Index::Affine(form) = index else { return false };
        match form.terms.as_slice() {
            [(v, 1)] if *v < SIZE => {
                seen[*v as usize] = true;
                let wide = producer.vars[*v as usize].extent as i64;
                let exact = form.base == 0 && extent as i64 == wide;
                exact || (!dynamic && form.base <= 0 && extent as i64 <= wide + form.base)
            }
            [] => form.base == 0 && extent == 1,
            _ => false,
        }
    });
    covers && axes.iter().zip(&seen).all(|(d, seen)| d.is_none() || *seen)
}
