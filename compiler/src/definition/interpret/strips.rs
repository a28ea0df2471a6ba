//! Runs stages over strips of tensors: parts are copied out of their wholes before a stage reads them,
//! and back once a stage has written them.

use super::{Env, run};
use crate::definition::{Lowering, Stage, Strips, View};
use crate::error::Result;
use std::ops::Range;

/// Runs strips as [`Strips`] says.
pub fn strips(lowering: &Lowering, strips: &Strips, env: &mut Env) -> Result<()> {
    let ty = |v: u32| &lowering.values[v as usize].ty;
    for i in 0..strips.count {
        for stage in &strips.body {
            let (reads, writes) = (stage.reads(), stage.writes());
            let touched = |v: &&View| reads.contains(&v.part) || writes.contains(&v.part);
            for view in strips.views.iter().filter(touched) {
                let whole = env.take(view.whole, ty(view.whole));
                let part = ranges(lowering, view, i).flat_map(|r| whole[r].to_vec()).collect();
                env.put(view.whole, whole);
                env.put(view.part, part);
            }
            run(lowering, std::slice::from_ref::<Stage>(stage), env)?;
            for view in strips.views.iter().filter(|v| writes.contains(&v.part)) {
                let part = env.take(view.part, ty(view.part));
                let mut whole = env.take(view.whole, ty(view.whole));
                let mut from = 0;
                for range in ranges(lowering, view, i) {
                    let next = from + range.len();
                    whole[range].copy_from_slice(&part[from..next]);
                    from = next;
                }
                env.put(view.whole, whole);
            }
        }
    }
    Ok(())
}

/// The bytes of the whole that are the part in iteration `i`, in the part's order.
fn ranges(lowering: &Lowering, view: &View, i: usize) -> impl Iterator<Item = Range<usize>> {
    let whole = &lowering.values[view.whole as usize].ty;
    let part = &lowering.values[view.part as usize].ty;
    let inner = whole.shape[view.dim + 1..].iter().product::<usize>() * whole.dtype.size();
    let outer: usize = whole.shape[..view.dim].iter().product();
    let (room, length) = (whole.shape[view.dim] * inner, part.shape[view.dim] * inner);
    let first = (view.start + i * view.step) * inner;
    (0..outer).map(move |o| o * room + first..o * room + first + length)
}
