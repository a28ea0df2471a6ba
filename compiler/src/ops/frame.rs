//! Tensors within a frame whose value is known only at run time.
//!
//! Each part is a definition of its own: the tensor is written to where it belongs, and the frame's sides are
//! filled. Nothing asks for each element where it lies.

use super::emit::{Arith, Emit, Val};
use crate::base::Affine;
use crate::definition::{DefBuilder, ExprId};

/// Writes `x` into `out`, `before[d]` elements from the beginning of each dimension (negative: so many are
/// cut off), and the one element of `value` around it.
pub fn framed(e: &mut Emit, x: &Val, out: &Val, before: &[i64], value: &Val) {
    let inside: Vec<(usize, usize)> = (before.iter().zip(x.shape()).zip(out.shape()))
        .map(|((&b, &extent), &all)| {
            let end = (b + extent as i64).clamp(0, all as i64);
            (b.clamp(0, end) as usize, end as usize)
        })
        .collect();
    part(e, out, &inside, |b, index| {
        let index = index.iter().zip(before).map(|(form, b)| form.offset(-b)).collect::<Vec<_>>();
        b.elem(x, &index, x.dtype())
    });
    for (d, &(start, end)) in inside.iter().enumerate() {
        for side in [(0, start), (end, out.shape()[d])] {
            let whole = out.shape()[d + 1..].iter().map(|&extent| (0, extent));
            let part_of: Vec<_> = inside[..d].iter().copied().chain([side]).chain(whole).collect();
            part(e, out, &part_of, |b, _| b.elem(value, &vec![Affine::constant(0); value.rank()], x.dtype()));
        }
    }
}

/// Defines the elements of `out` in a range of each dimension; `body` gets the index of an element.
fn part(
    e: &mut Emit,
    out: &Val,
    ranges: &[(usize, usize)],
    body: impl FnOnce(&mut DefBuilder, &[Affine]) -> ExprId,
) {
    let extents: Vec<usize> = ranges.iter().map(|(start, end)| end - start).collect();
    if extents.contains(&0) {
        return;
    }
    let index: Vec<Affine> = (0..).zip(ranges).map(|(d, r)| Affine::var(d).offset(r.0 as i64)).collect();
    e.define_at("", out, &extents, index.clone(), |b| body(b, &index));
}
