//! A Transpose of a Transpose is one Transpose, or none.
//!
//! Converters between channel orders (tf2onnx) surround every group of nodes with them.

use super::edit::{is, remove, replace, writers};
use crate::error::Result;
use crate::graph::{Attr, Graph, Node};

/// The permutation of a Transpose; reversed order where the attribute is absent.
fn permutation(graph: &Graph, node: &Node) -> Option<Vec<usize>> {
    let rank = graph.value((*node.inputs.first()?)?).ty.rank();
    match node.attrs.get_ints("perm").ok()? {
        None => Some((0..rank).rev().collect()),
        Some(p) if p.len() == rank => {
            p.iter().map(|&d| usize::try_from(d).ok().filter(|&d| d < rank)).collect()
        }
        Some(_) => None,
    }
}

/// Merges each Transpose into the one before it.
pub fn merge_transposes(graph: &mut Graph) -> Result<bool> {
    let mut dead = vec![false; graph.nodes.len()];
    let (mut changed, mut writers) = (false, writers(graph));
    for i in 0..graph.nodes.len() {
        let Some(source) = graph.nodes[i].inputs.first().copied().flatten() else { continue };
        let Some(before) = writers[source as usize] else { continue };
        if !is(&graph.nodes[i], "Transpose") || !is(&graph.nodes[before], "Transpose") || dead[before] {
            continue;
        }
        let (outer, inner) = (permutation(graph, &graph.nodes[i]), permutation(graph, &graph.nodes[before]));
        let (Some(outer), Some(inner)) = (outer, inner) else { continue };
        let (Some(origin), Some(Some(to))) = (graph.nodes[before].inputs[0], graph.nodes[i].outputs.first())
        else {
            continue;
        };
        let (to, joined): (_, Vec<i64>) = (*to, outer.iter().map(|&o| inner[o] as i64).collect());
        if joined.iter().enumerate().all(|(d, &p)| p == d as i64) && replace(graph, to, origin) {
            dead[i] = true;
            // An output of the graph is written by what wrote the origin.
            writers[to as usize] = writers[origin as usize];
        } else {
            graph.nodes[i].inputs[0] = Some(origin);
            graph.nodes[i].attrs.set("perm", Attr::Ints(joined));
        }
        changed = true;
    }
    remove(graph, &dead);
    Ok(changed)
}
