//! A Pad with zeros before a convolution or average pool becomes the pads of that node.
//!
//! Padding inside a kernel costs nothing; a padded copy costs memory and a pass over it.

use super::edit::{is, read_counts, remove, writers};
use crate::base::Tensor;
use crate::error::Result;
use crate::graph::{Attr, Graph, Node, ValueId};

/// Begin and end pads of the spatial axes of a Pad with zeros that touches no other axis.
fn zero_pads(graph: &Graph, node: &Node) -> Option<(Vec<i64>, Vec<i64>)> {
    let constant = |i: usize| -> Option<Option<&Tensor>> {
        match node.inputs.get(i).copied().flatten() {
            Some(id) => graph.value(id).constant.as_ref().map(Some),
            None => Some(None),
        }
    };
    if node.attrs.str("mode", "constant").ok()? != "constant" {
        return None;
    }
    let fill_is_zero = match constant(2)? {
        Some(fill) => fill.data.iter().all(|&b| b == 0),
        None => node.attrs.float("value", 0.0).ok()? == 0.0,
    };
    let pads = match constant(1)? {
        Some(pads) => pads.to_i64s()?,
        None => node.attrs.get_ints("pads").or_else(|_| node.attrs.get_ints("paddings")).ok()??.to_vec(),
    };
    let rank = graph.value((*node.inputs.first()?)?).ty.rank();
    let axes: Vec<i64> = match constant(3)? {
        Some(axes) => axes.to_i64s()?,
        None => (0..rank as i64).collect(),
    };
    if !fill_is_zero || pads.len() != 2 * axes.len() || rank < 3 || pads.iter().any(|&p| p < 0) {
        return None;
    }
    let (mut begin, mut end) = (vec![0; rank], vec![0; rank]);
    for (i, &axis) in axes.iter().enumerate() {
        let at =
            usize::try_from(if axis < 0 { axis + rank as i64 } else { axis }).ok().filter(|&a| a < rank)?;
        begin[at] += pads[i];
        end[at] += pads[axes.len() + i];
    }
    let spatial = begin[..2].iter().chain(&end[..2]).all(|&p| p == 0);
    spatial.then(|| (begin.split_off(2), end.split_off(2)))
}

/// The pads of the node with those of the Pad added; `None` where they cannot be joined.
fn joined(graph: &Graph, node: &Node, pad: &Node) -> Option<Vec<i64>> {
    let (begin, end) = zero_pads(graph, pad)?;
    let spatial = begin.len();
    let auto = node.attrs.str("auto_pad", "NOTSET").ok()?;
    let own = match node.attrs.get_ints("pads").ok()? {
        _ if auto == "VALID" => vec![0; 2 * spatial],
        Some(p) => p.to_vec(),
        None => vec![0; 2 * spatial],
    };
    let unpadded = own.iter().all(|&p| p == 0);
    let counted = node.attrs.flag("count_include_pad", false).ok()?;
    let ceil = node.attrs.flag("ceil_mode", false).ok()?;
    let legal = is(node, "Conv") || is(node, "AveragePool") && (unpadded || counted) && !ceil;
    if !legal || !matches!(auto, "NOTSET" | "VALID") || own.len() != 2 * spatial {
        return None;
    }
    Some(own.iter().zip(begin.iter().chain(&end)).map(|(a, b)| a + b).collect())
}

/// Merges Pads that only one node reads.
pub fn merge_pad(graph: &mut Graph) -> Result<bool> {
    let mut dead = vec![false; graph.nodes.len()];
    let (reads, writers) = (read_counts(graph), writers(graph));
    for i in 0..graph.nodes.len() {
        let Some(source) = graph.nodes[i].inputs.first().copied().flatten() else { continue };
        let pad =
            writers[source as usize].filter(|&w| is(&graph.nodes[w], "Pad") && reads[source as usize] == 1);
        let Some(pad) = pad else { continue };
        let Some(pads) = joined(graph, &graph.nodes[i], &graph.nodes[pad]) else { continue };
        let origin: Option<ValueId> = graph.nodes[pad].inputs[0];
        let node = &mut graph.nodes[i];
        node.inputs[0] = origin;
        node.attrs.set("pads", Attr::Ints(pads));
        node.attrs.0.remove("auto_pad");
        if is(node, "AveragePool") {
            node.attrs.set("count_include_pad", Attr::Int(1));
        }
        dead[pad] = true;
    }
    let changed = dead.contains(&true);
    remove(graph, &dead);
    Ok(changed)
}
