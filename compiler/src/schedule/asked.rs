//! Which constants are asked for ahead of the tiles that read them.
//!
//! A tile of rows asks for its part of the next panel of constants (`codegen/wide/ahead.rs`), once in each iteration
//! of its innermost loop. The more tiles of rows there are, the more iterations ask for the same line, each time
//! beyond the first-level cache; so these loops are unrolled more often than others, where the constants are many
//! times as large as the code that this takes.

use super::cores::core;
use super::linear::{Linear, Node};
use crate::target::Target;

/// Bytes of a parameter from which on they are taken to come from beyond the second-level cache: the others of
/// the model push them out.
pub const LARGE: usize = 1 << 16;
/// How often a panel is read, at most, where prefetching the next one each time costs less than it gains.
const READ: i64 = 64;
/// The same of constants for which loops are unrolled.
const READ_UNROLLED: i64 = 192;
/// How often where one line is asked for again and again (measured on Golden Cove: 10 tiles of rows gain nothing).
const AGAIN: i64 = 16;
/// Bytes of constants for which more code is little.
const WORTH: usize = 1 << 18;

/// Multiply-adds in each iteration of the innermost loop of a tile of `m` rows, at most, whose constants are `packed`.
pub(super) fn repeated(
    linear: &Linear,
    target: &Target,
    packed: &[u32],
    (rows, m): (Option<u32>, usize),
) -> usize {
    let core = core(target);
    let asked = |o: u32| {
        let buffer = &linear.buffers[o as usize];
        let tiles = (linear.axes().filter(|&v| !follows(linear, o, v)))
            .map(|v| linear.extent(v).div_ceil(if Some(v) == rows { m } else { 1 }))
            .product::<usize>() as i64;
        let bytes = buffer.elems * buffer.dtype.size();
        bytes >= WORTH && tiles >= AGAIN && asks(bytes, tiles)
    };
    match packed.iter().any(|&o| asked(o)) {
        true => core.repeated.max(core.asking),
        false => core.repeated,
    }
}

/// Whether the next panel is asked for where each one of so many bytes of constants is read so often.
pub fn asks(bytes: usize, read: i64) -> bool {
    let most = if bytes >= WORTH { READ_UNROLLED } else { READ };
    (2..=most).contains(&read)
}

/// Whether what is read of a buffer moves with an axis.
fn follows(linear: &Linear, buffer: u32, axis: u32) -> bool {
    let moves = |node: &Node| matches!(node, Node::Load { operand, addr, .. } if *operand == buffer && addr.coefficient(axis) != 0);
    linear.nodes.iter().any(moves)
}
