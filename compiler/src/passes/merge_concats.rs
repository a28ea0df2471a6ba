//! A concatenation that begins, ends or goes on as another one does takes that one's result.
//!
//! In dense blocks each layer reads all results before it, joined anew. Where the joined values of one
//! concatenation are parts of the next, each has one place: in the last of them.

use super::edit::is;
use crate::error::Result;
use crate::graph::{Graph, Node, ValueId};
use std::collections::HashMap;

/// Lets concatenations read those before them on the same axis.
pub fn merge_concats(graph: &mut Graph) -> Result<bool> {
    // Of each axis and rank: the results, and what they are made of, by the first value.
    let mut known: HashMap<(i64, ValueId), Vec<(Vec<ValueId>, ValueId)>> = HashMap::new();
    let mut changed = false;
    for at in 0..graph.nodes.len() {
        let Some((axis, parts, result)) = concatenation(graph, &graph.nodes[at]) else { continue };
        let mut joined = Vec::new();
        let mut rest = parts.as_slice();
        while let Some(&first) = rest.first() {
            let found = known.get(&(axis, first)).into_iter().flatten();
            let longest = found.filter(|k| rest.starts_with(&k.0)).max_by_key(|k| k.0.len());
            let (length, value) = longest.map_or((1, first), |k| (k.0.len(), k.1));
            joined.push(Some(value));
            rest = &rest[length..];
        }
        if joined.len() < parts.len() {
            graph.nodes[at].inputs = joined;
            changed = true;
        }
        known.entry((axis, parts[0])).or_default().push((parts, result));
    }
    Ok(changed)
}

/// The axis, the parts (two at least) and the result of a concatenation that is computed at run time.
fn concatenation(graph: &Graph, node: &Node) -> Option<(i64, Vec<ValueId>, ValueId)> {
    let (true, &[Some(result)]) = (is(node, "Concat"), node.outputs.as_slice()) else { return None };
    let parts: Vec<ValueId> = node.inputs.iter().copied().collect::<Option<_>>()?;
    let axis = *node.attrs.get_int("axis").ok().flatten()?;
    let rank = graph.value(result).ty.shape.len() as i64;
    (parts.len() > 1).then_some((if axis < 0 { axis + rank } else { axis }, parts, result))
}
