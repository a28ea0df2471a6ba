//! Reshape as a copy with affine indices, so that it can be fused like any other movement.
//!
//! The axes of the copy are the finest factors that both shapes are made of: `[1,128,384]` to
//! `[128,12,32]` runs over `128, 12, 32`, and each dimension of either shape is an affine form in
//! those. Shapes without common factors (`[6,4]` to `[8,3]`) stay a reshape of dense memory.

use crate::base::{Affine, TensorType};
use crate::definition::{DefBuilder, Definition, ValueId};

/// The copy from `from` to `to`; `None` where the shapes have no common factors.
pub fn reshape_copy(
    name: &str,
    from: (ValueId, &TensorType),
    to: (ValueId, &TensorType),
) -> Option<Definition> {
    let (extents, source, target) = common_factors(&from.1.shape, &to.1.shape)?;
    let mut b = DefBuilder::new(&extents);
    let element = b.load(from.0, from.1, source);
    Some(b.finish_at(name, to.0, to.1, target, element))
}

/// The common refinement of two shapes, and each shape's dimensions as forms in its factors.
fn common_factors(a: &[usize], b: &[usize]) -> Option<(Vec<usize>, Vec<Affine>, Vec<Affine>)> {
    if a.contains(&0) || b.contains(&0) {
        return None;
    }
    let mut factors = Vec::new();
    let (mut forms_a, mut forms_b) = (vec![Affine::constant(0); a.len()], vec![Affine::constant(0); b.len()]);
    // From the innermost dimension out: how much of each is left to be matched.
    let (mut i, mut j) = (a.len(), b.len());
    let (mut left_a, mut left_b) = (1, 1);
    let (mut step_a, mut step_b) = (1, 1);
    let mut pending: Vec<(usize, usize, usize, i64, i64)> = Vec::new();
    loop {
        while left_a == 1 && i > 0 {
            i -= 1;
            (left_a, step_a) = (a[i], 1);
        }
        while left_b == 1 && j > 0 {
            j -= 1;
            (left_b, step_b) = (b[j], 1);
        }
        if left_a == 1 || left_b == 1 {
            break;
        }
        let factor = left_a.min(left_b);
        if left_a % factor != 0 || left_b % factor != 0 {
            return None;
        }
        pending.push((factor, i, j, step_a, step_b));
        left_a /= factor;
        left_b /= factor;
        step_a *= factor as i64;
        step_b *= factor as i64;
    }
    for (factor, i, j, step_a, step_b) in pending.into_iter().rev() {
        let var = factors.len() as u32;
        factors.push(factor);
        forms_a[i].add_term(var, step_a);
        forms_b[j].add_term(var, step_b);
    }
    Some((factors, forms_a, forms_b))
}
