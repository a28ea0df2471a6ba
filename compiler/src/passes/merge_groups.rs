//! Groups of a quantized convolution that make few channels each become one.
//!
//! The channels that lanes are filled with are those of one group, so that a group of two leaves most of a vector
//! empty, in its sums and in all that follows them. Groups side by side are one whose weights are zero between a
//! channel and what it does not read: as many vectors are multiplied as before, of words that are no longer cut at
//! each group, and there are as many times fewer to finish. Integers make the sums the same. Filters of single
//! channels fill lanes with their groups.

use super::edit::is;
use crate::base::{DType, Tensor, TensorType};
use crate::error::Result;
use crate::graph::{Attr, Graph, Node};
use crate::target::Target;

/// Lanes of the widest vectors that take one unit of a core: larger ones that are half empty take no longer than full
/// ones that do the same work.
const WIDE: usize = 8;

/// Merges groups of all convolutions of integers with constant weights.
pub fn merge_groups(graph: &mut Graph, target: &Target) -> Result<bool> {
    let lanes = target.lanes().min(WIDE);
    let mut changed = false;
    for at in 0..graph.nodes.len() {
        changed |= merged(graph, at, lanes).is_some();
    }
    Ok(changed)
}

/// Where a convolution of integers has its weights and their zero points.
fn places(node: &Node) -> Option<(usize, usize)> {
    match () {
        _ if is(node, "QLinearConv") => Some((3, 5)),
        _ if is(node, "ConvInteger") => Some((1, 3)),
        _ => None,
    }
}

fn merged(graph: &mut Graph, at: usize, lanes: usize) -> Option<()> {
    let node = &graph.nodes[at];
    let (weights, zeros) = places(node)?;
    let input = |i: usize| node.inputs.get(i).copied().flatten();
    let groups = usize::try_from(node.attrs.int("group", 1).ok()?).ok()?;
    let constant = graph.value(input(weights)?).constant.as_ref()?;
    let [out, channels, window @ ..] = constant.ty.shape.as_slice() else { return None };
    let zeros = match input(zeros) {
        None => vec![0],
        Some(id) => graph.value(id).constant.as_ref()?.to_i64s()?,
    };
    let each = out / groups.max(1);
    let count = (2..=groups).rev().find(|n| groups.is_multiple_of(*n) && n * each <= lanes)?;
    let bytes = matches!(constant.ty.dtype, DType::I8 | DType::U8);
    if !bytes || *channels < 2 || each == 0 || zeros.len() != 1 && zeros.len() != *out {
        return None;
    }
    let points = window.iter().product::<usize>();
    let row = channels * points;
    let mut data = Vec::with_capacity(out * row * count);
    for o in 0..*out {
        let place = o / each % count;
        let zero = zeros[if zeros.len() == 1 { 0 } else { o }] as u8;
        data.resize(data.len() + place * row, zero);
        data.extend_from_slice(&constant.data[o * row..][..row]);
        data.resize(data.len() + (count - 1 - place) * row, zero);
    }
    let shape: Vec<usize> = [*out, channels * count].into_iter().chain(window.iter().copied()).collect();
    let tensor = Tensor::from_bytes(TensorType::new(constant.ty.dtype, shape), data)?;
    let name = format!("{}.weights.{}", node.name, graph.values.len());
    let value = graph.add_constant(name, tensor);
    let node = &mut graph.nodes[at];
    node.inputs[weights] = Some(value);
    node.attrs.set("group", Attr::Int((groups / count) as i64));
    Some(())
}
