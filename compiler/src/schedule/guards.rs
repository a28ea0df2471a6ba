//! What lies outside of a padded tensor, decided before a kernel is built.

use super::linear::{Guard, Linear, Node};
use crate::base::Affine;

/// The guards of the one padded load of a definition's fold, where each ties at most one axis to
/// one reduction axis: then the schedule decides, tile by tile, what lies outside.
pub fn decidable_guards(linear: &Linear) -> Vec<Guard> {
    let Some((_, _, body)) = linear.fold else { return Vec::new() };
    let padded: Vec<&Node> = (linear.reachable(body).into_iter().map(|e| &linear.nodes[e as usize]))
        .filter(|n| matches!(n, Node::Load { guards, .. } if !guards.is_empty()))
        .collect();
    let found = match padded.as_slice() {
        [Node::Load { guards, dynamic, .. }] if dynamic.is_empty() => guards.clone(),
        _ => return Vec::new(),
    };
    let simple = |g: &Guard| {
        if g.size.is_some() || g.form.has_size() {
            return false;
        }
        let reduce = g.form.terms.iter().filter(|t| linear.vars[t.0 as usize].reduce).count();
        reduce <= 1 && g.form.terms.len() - reduce <= 1 && g.form.terms.iter().all(|t| t.1 > 0)
    };
    if found.iter().all(simple) { found } else { Vec::new() }
}

/// All guards of a definition, where the schedule decides them all.
pub fn decided(linear: &Linear) -> Option<Vec<Guard>> {
    let count = |node: &Node| match node {
        Node::Load { guards, .. } => guards.len(),
        _ => 0,
    };
    let decidable = decidable_guards(linear);
    (linear.nodes.iter().map(count).sum::<usize>() == decidable.len()).then_some(decidable)
}

/// The points of an axis at which no guard can fail, whatever the reduction axes are.
pub fn safe_range(linear: &Linear, guards: &[Guard], var: u32) -> (i64, i64) {
    let (mut lo, mut hi) = (0, linear.extent(var) as i64);
    for guard in guards {
        let step = guard.form.coefficient(var);
        if step <= 0 {
            continue;
        }
        let mut rest: Affine = guard.form.clone();
        rest.add_term(var, -step);
        let (least, most) = rest.range(|v| linear.extent(v));
        // step*o + least >= 0  and  step*o + most < extent of the dimension.
        lo = lo.max(-(least.div_euclid(step)));
        hi = hi.min((guard.extent as i64 - 1 - most).div_euclid(step) + 1);
    }
    (lo, hi)
}
