//! Weights that memory holds narrower than they are multiplied: what it takes to make floats of them.
//!
//! A dequantization that products read is computed in the registers of their tile, once for all of its rows.
//! Where there are several tiles of rows, each would do the same again: then the floats of a tile's vectors
//! are written to memory of the kernel's own first, and all rows read those.

use super::factors::{factors, four_bits, walks};
use super::linear::{Linear, Node};
use super::loads::{loads, value_nodes};
use crate::base::DType;

/// The factor of a sum of products that is made of narrower constants and fills lanes.
#[derive(Clone, Copy, Debug)]
pub struct Restored {
    /// Its expression.
    pub factor: u32,
    /// Operations on each vector of it, loads left out that need none of their own.
    pub operations: usize,
}

impl Restored {
    /// The factor along an axis, where the other one is the same in all lanes.
    pub fn of(linear: &Linear, var: u32) -> Option<Restored> {
        let (a, b) = factors(linear)?;
        let (_, DType::F32, body) = linear.fold? else { return None };
        let Node::Op(_, args) = &linear.nodes[body as usize] else { return None };
        let moves = |e: u32| loads(linear, e).iter().any(|n| walks(n, var));
        let (factor, other) = match (moves(args[0]), moves(args[1])) {
            (true, false) => (args[0], b),
            (false, true) => (args[1], a),
            _ => return None,
        };
        let constant = |n: &Node| match n {
            Node::Load { operand, guards, dynamic, .. } => {
                linear.buffers[*operand as usize].constant && guards.is_empty() && dynamic.is_empty()
            }
            Node::Index(_) | Node::Acc => false,
            _ => true,
        };
        let nodes = value_nodes(linear, factor);
        let sized = linear.reductions().any(|r| linear.vars[r as usize].size.is_some());
        let plain = !sized && linear.types[factor as usize] == DType::F32;
        if !plain || !matches!(other, Node::Load { .. }) {
            return None;
        }
        if !nodes.iter().all(|&e| constant(&linear.nodes[e as usize])) {
            return None;
        }
        let operations = nodes.iter().map(|&e| operations(linear, e)).sum();
        (operations > 0).then_some(Restored { factor, operations })
    }
}

/// Instructions of an expression beside the load that another one takes along.
fn operations(linear: &Linear, e: u32) -> usize {
    match &linear.nodes[e as usize] {
        // Halves of bytes are masked or shifted, and extended by sign.
        Node::Load { operand, .. } => {
            let narrow = linear.buffers[*operand as usize].dtype.size() < size_of::<f32>();
            usize::from(narrow) + 2 * usize::from(four_bits(linear, *operand))
        }
        Node::Cast { to, arg, .. } => {
            let from = linear.types[*arg as usize];
            usize::from(!from.is_small_float() && from.is_float() != to.is_float())
        }
        Node::Const(_) => 0,
        _ => 1,
    }
}
