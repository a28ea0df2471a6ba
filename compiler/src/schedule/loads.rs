//! What a definition reads and computes, as choices of a schedule ask for it: the loads of an expression, whether they
//! can run along a variable in lanes, how long what follows a fold is, which windows overlap.

use super::guards::decided;
use super::linear::{Linear, Node};
use crate::base::{Affine, DType};
use crate::scalar::Op;
use crate::scalar::math::primitives;
use crate::target::{Arch, Target};

/// Lanes of the narrowest vectors, which two registers hold where lanes have 64 bits.
const NARROWEST: usize = 4;

/// Lanes of a vector: those of a register, or, on aarch64, of as many registers as one register of
/// the narrowest elements read or written fills; the encoder loads, widens and narrows them at once. Where
/// `f64` are among the values, a register holds half as many.
pub(super) fn lanes(linear: &Linear, target: &Target) -> usize {
    let mut values = roots(linear).flat_map(|r| value_nodes(linear, r));
    if values.any(|e| linear.types[e as usize] == DType::F64) {
        return (target.lanes() / 2).max(NARROWEST);
    }
    let roots = roots(linear).flat_map(|r| loads(linear, r));
    let read = roots.filter_map(|n| match n {
        Node::Load { operand, .. } => Some(linear.buffers[*operand as usize].dtype.size()),
        _ => None,
    });
    let narrowest = read.chain([linear.output.dtype.size()]).min().unwrap_or(4);
    match target.arch {
        Arch::Aarch64 => target.lanes() * 4 / narrowest.clamp(1, 4),
        Arch::X86_64 => target.lanes(),
    }
}

/// The load nodes an expression is computed from, without those inside indices.
pub(super) fn loads(linear: &Linear, root: u32) -> Vec<&Node> {
    value_nodes(linear, root)
        .into_iter()
        .map(|e| &linear.nodes[e as usize])
        .filter(|n| matches!(n, Node::Load { .. }))
        .collect()
}

/// The expressions that are computed in lanes: those of indices are scalars.
pub(super) fn value_nodes(linear: &Linear, root: u32) -> Vec<u32> {
    let (mut seen, mut stack) = (vec![false; linear.nodes.len()], vec![root]);
    while let Some(e) = stack.pop() {
        if std::mem::replace(&mut seen[e as usize], true) {
            continue;
        }
        if !matches!(linear.nodes[e as usize], Node::Load { .. }) && linear.narrow_index(e).is_none() {
            stack.extend(linear.nodes[e as usize].args());
        }
    }
    (0..linear.nodes.len() as u32).filter(|&e| seen[e as usize]).collect()
}

fn roots(linear: &Linear) -> impl Iterator<Item = u32> {
    linear.fold.map(|f| f.2).into_iter().chain([linear.finish])
}

/// Whether every value can be held in lanes, and every operation done on vectors. What follows a
/// reduction over lanes is done on single numbers.
pub(super) fn lanes_possible(linear: &Linear, over_lanes: bool) -> bool {
    let finish = (!over_lanes).then_some(linear.stored());
    let roots = linear.fold.map(|f| f.2).into_iter().chain(finish);
    roots.flat_map(|r| value_nodes(linear, r)).all(|e| {
        let dtype = linear.types[e as usize];
        let fits = !matches!(dtype, DType::I64 | DType::U64);
        let divides = match &linear.nodes[e as usize] {
            Node::Op(Op::Div | Op::Rem | Op::Mod | Op::Pow, args) => {
                !linear.types[args[0] as usize].is_float()
            }
            _ => false,
        };
        fits && !divides
    })
}

/// Whether a load can run along a variable in lanes: nothing it computes per element depends on it. What
/// lies outside along an axis may be decided for single points beside the vectors.
pub(super) fn follows(linear: &Linear, load: &Node, var: u32) -> bool {
    let Node::Load { dynamic, guards, .. } = load else { return true };
    let guarded = guards.iter().any(|g| g.form.coefficient(var) != 0)
        && (linear.vars[var as usize].reduce || decided(linear).is_none());
    let computed = dynamic.iter().any(|d| linear.depends(d.value, var));
    !guarded && !computed
}

/// Primitive operations of a finish on 32-bit numbers; conversions count where integers are folded.
pub(super) fn finish_length(linear: &Linear) -> usize {
    let integers = match linear.fold.map(|f| f.1) {
        None | Some(DType::F32) => false,
        Some(DType::I32) => true,
        Some(_) => return 0,
    };
    let steps = |e: u32| match &linear.nodes[e as usize] {
        Node::Op(op, args) => primitives(*op, linear.types[args[args.len() - 1] as usize]),
        Node::Cast { .. } | Node::Lookup { .. } => usize::from(integers),
        _ => 0,
    };
    value_nodes(linear, linear.finish).into_iter().map(steps).sum()
}

/// The step and the extent of a window that slides along an axis, where the first is the shorter one.
pub(super) fn overlap(linear: &Linear, addr: &Affine, axis: u32) -> Option<(usize, usize)> {
    linear.reductions().find_map(|r| overlap_along(linear, addr, axis, r))
}

/// The same of the window along one reduction axis.
pub(super) fn overlap_along(linear: &Linear, addr: &Affine, axis: u32, r: u32) -> Option<(usize, usize)> {
    let (step, one) = (addr.coefficient(axis), addr.coefficient(r));
    let fits = step > 0 && one > 0 && step % one == 0 && ((step / one) as usize) < linear.extent(r);
    fits.then(|| ((step / one) as usize, linear.extent(r)))
}
