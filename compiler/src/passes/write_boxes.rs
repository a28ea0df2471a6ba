//! A ScatterND whose constant indices are those of a box (`x[..., 0] = y`, `x[:, a:b] = y`, as exporters write
//! assignments) is a concatenation of what lies around the box and the updates: nothing is looked up, no index is
//! stored, and sizes may be left to run time.

use super::edit::{cut, is, put};
use crate::base::Tensor;
use crate::error::Result;
use crate::graph::{Attr, Attrs, Graph, Node, ValueId};
use crate::ops::NodeBuilder;

/// Where the box begins along an axis, and how long it is.
type Part = (usize, usize);

/// Writes such boxes by concatenations.
pub fn write_boxes(graph: &mut Graph) -> Result<bool> {
    let mut changed = false;
    for at in (0..graph.nodes.len()).rev() {
        let Some((data, updates, parts)) = assignment(graph, &graph.nodes[at]) else { continue };
        let written = put(graph, at, |b| {
            let shape: Vec<usize> = b.graph.value(data).ty.shape.clone();
            let own = parts.iter().map(|p| p.1).chain(shape[parts.len()..].iter().copied());
            let own: Vec<i64> = own.map(|n| n as i64).collect();
            let own = b.constant(Tensor::new([own.len()], &own));
            let updates = b.binary("Reshape", updates, own)?;
            written(b, data, updates, &parts, 0)
        });
        changed |= written.is_ok();
    }
    Ok(changed)
}

/// The data, the updates and the box of a ScatterND that writes one.
fn assignment(graph: &Graph, node: &Node) -> Option<(ValueId, ValueId, Vec<Part>)> {
    let (true, &[Some(data), Some(indices), Some(updates)]) = (is(node, "ScatterND"), node.inputs.as_slice())
    else {
        return None;
    };
    let (ty, indices) = (&graph.value(data).ty, graph.value(indices).constant.as_ref()?);
    let joins = node.attrs.str("reduction", "none").ok()? != "none";
    let computed = graph.value(data).constant.is_none() || graph.value(updates).constant.is_none();
    let parts = boxed(indices, &ty.shape).filter(|_| !joins && computed)?;
    Some((data, updates, parts))
}

/// The box whose places are the indices, in order; without places there is none.
fn boxed(indices: &Tensor, shape: &[usize]) -> Option<Vec<Part>> {
    let (&named, grid) = indices.ty.shape.split_last()?;
    let numbers = indices.to_i64s()?;
    if named == 0 || named > shape.len() || numbers.is_empty() {
        return None;
    }
    let place = |i: usize, axis: usize| -> Option<usize> {
        let (at, extent) = (numbers[i * named + axis], shape[axis] as i64);
        let at = if at < 0 { at + extent } else { at };
        (0..extent).contains(&at).then_some(at as usize)
    };
    // Which dimension of the grid each axis follows: each of more than one is followed once, in their order.
    let mut follows = vec![None; named];
    let (mut next, mut step) = (0, numbers.len() / named);
    for (dim, &extent) in grid.iter().enumerate() {
        step /= extent;
        if extent > 1 {
            let axis = (next..named).find(|&a| place(step, a) != place(0, a))?;
            follows[axis] = Some((dim, step));
            next = axis + 1;
        }
    }
    let starts: Vec<usize> = (0..named).map(|axis| place(0, axis)).collect::<Option<_>>()?;
    let along = |i: usize, axis: usize| follows[axis].map_or(0, |(dim, step)| i / step % grid[dim]);
    let holds = |i: usize| (0..named).all(|axis| place(i, axis) == Some(starts[axis] + along(i, axis)));
    let count = |axis: usize| follows[axis].map_or(1, |(dim, _)| grid[dim]);
    (0..numbers.len() / named)
        .all(holds)
        .then(|| starts.iter().enumerate().map(|(axis, &start)| (start, count(axis))).collect())
}

/// The data with the updates in the box, from an axis on.
fn written(
    b: &mut NodeBuilder,
    data: ValueId,
    updates: ValueId,
    parts: &[Part],
    from: usize,
) -> Result<ValueId> {
    let shape = b.graph.value(data).ty.shape.clone();
    let Some(axis) = (from..parts.len()).find(|&a| parts[a].1 < shape[a]) else {
        return b.one("Identity", &[updates], Attrs::default());
    };
    let (start, count) = parts[axis];
    let slice = |b: &mut NodeBuilder, from: usize, to: usize| cut(b, data, axis, from..to);
    let more = (axis + 1..parts.len()).any(|a| parts[a].1 < shape[a]);
    let inner = match more {
        true => {
            let slab = slice(b, start, start + count)?;
            written(b, slab, updates, parts, axis + 1)?
        }
        false => updates,
    };
    let mut all = Vec::new();
    if start > 0 {
        all.push(slice(b, 0, start)?);
    }
    all.push(inner);
    if start + count < shape[axis] {
        all.push(slice(b, start + count, shape[axis])?);
    }
    b.one("Concat", &all, Attrs::default().with("axis", Attr::Int(axis as i64)))
}
