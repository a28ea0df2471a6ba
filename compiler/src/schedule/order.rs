//! The order of the loops around a register tile.

use super::bytes::Bytes;
use super::factors::walks;
use super::linear::{Linear, Node};
use crate::target::Target;

/// The order of the loops around the tile: whichever operand is read again should be the one that
/// stays in the nearer cache.
pub(super) fn nearest(
    linear: &Linear,
    target: &Target,
    product: Option<(&Node, &Node)>,
    rows: Option<u32>,
    (var, width): (u32, usize),
    m: usize,
) -> Vec<u32> {
    let mut order: Vec<u32> = linear.axes().filter(|&v| v != var && Some(v) != rows).collect();
    order.extend(rows);
    let inner = [order.clone(), vec![var]].concat();
    let Some((a, b)) = product else { return inner };
    let (vectors, broadcast) = match (walks(a, var), walks(b, var)) {
        (true, false) => (a, b),
        (false, true) => (b, a),
        _ => return inner,
    };
    // Axes that the vector factor follows stay outside of it.
    let (dependent, free): (Vec<u32>, Vec<u32>) = order.iter().partition(|&&v| walks(vectors, v));
    let bytes = |n: &Node| match n {
        Node::Load { operand, .. } => linear.buffers[*operand as usize].elems * 4,
        _ => 0,
    };
    let again = |size: usize| match size {
        s if s <= target.l1 / 2 => 0.25,
        s if s <= target.l2 / 2 => 1.0,
        _ => 4.0,
    };
    let (vector_bytes, row_bytes) = (bytes(vectors), bytes(broadcast));
    let row_tiles: usize =
        free.iter().map(|&v| linear.extent(v).div_ceil(if Some(v) == rows { m } else { 1 })).product();
    let vector_tiles = linear.extent(var).div_ceil(width);
    let outer_cost = (row_bytes * vector_tiles) as f64 * again(row_bytes) + vector_bytes as f64;
    let inner_cost = (vector_bytes * row_tiles) as f64 * again(vector_bytes) + row_bytes as f64;
    match outer_cost <= inner_cost {
        true => [dependent, vec![var], free].concat(),
        false => inner,
    }
}

/// The axes that a factor follows outside of the others: it is widened for all of those at once.
pub(super) fn widened(linear: &Linear, bytes: &Bytes, rows: Option<u32>, var: u32) -> Vec<u32> {
    let mut order: Vec<u32> = linear.axes().collect();
    order.sort_by_key(|&v| (v == var, !walks(bytes.rows, v), Some(v) == rows));
    order
}

/// The axes that a narrow factor follows outside of the others: its floats serve all of those.
pub(super) fn restored(linear: &Linear, factor: u32, rows: Option<u32>, var: u32) -> Vec<u32> {
    let follows = |v: u32| linear.depends(factor, v);
    let mut order: Vec<u32> = linear.axes().collect();
    order.sort_by_key(|&v| (v != var && !follows(v), v == var, Some(v) == rows));
    order
}
