//! Sizes between those of the samples, for which what was found in these is looked at once more: all of them where there
//! are few, otherwise those next to numbers of the model, where a condition or a limit may lie, and others, spread.

use super::{SMALLEST, Sizes, over};
use crate::graph::Graph;
use std::collections::BTreeSet;
use std::ops::Range;

/// So many sizes are looked at of one dimension: of a large model the fewer, of a small one the more.
const MOST: Range<usize> = 64..1024;

/// So many nodes are typed for one of these, if those are more than the fewest.
const NODES: usize = 1 << 14;

/// Of these, as many next to numbers of the model.
const NEAR: usize = 36;

/// So many are looked at where several dimensions are free, each being any.
const TOGETHER: usize = 24;

/// A number of the model has so many elements at most.
const NUMBERS: usize = 8;

/// Sets of sizes; what is below the least ones is left out.
pub(super) fn between(graph: &Graph, free: &Sizes, least: &Sizes) -> Vec<Sizes> {
    let numbers = numbers(graph);
    let nodes = (graph.nodes.len() + graph.folded.len()).max(1) * free.len().max(1);
    let most = (NODES / nodes).clamp(MOST.start, MOST.end);
    let beginning = |name: &String| least.get(name).copied().unwrap_or(SMALLEST);
    let lists: Vec<(&String, Vec<usize>)> =
        free.iter().map(|(name, &bound)| (name, list(beginning(name), bound, most, &numbers))).collect();
    let alone = lists.iter().flat_map(|(name, list)| {
        list.iter().map(move |&size| over(free, [(name.to_string(), size)].into_iter().collect()))
    });
    let together = (1..=TOGETHER).filter(|_| free.len() > 1).filter_map(|k| {
        let one = |(i, (name, list)): (usize, &(&String, Vec<usize>))| {
            let place = (k * (i + 1) * 7919 + k * k * (2 * i + 1)) % list.len().max(1);
            Some((name.to_string(), *list.get(place)?))
        };
        lists.iter().enumerate().map(one).collect()
    });
    alone.chain(together).collect()
}

fn list(least: usize, bound: usize, most: usize, numbers: &BTreeSet<usize>) -> Vec<usize> {
    if bound < least + most {
        return (least..=bound).collect();
    }
    let near: BTreeSet<usize> = numbers.iter().flat_map(|n| n.saturating_sub(1)..=n + 1).collect();
    let near: Vec<usize> = near.into_iter().filter(|n| (least..=bound).contains(n)).collect();
    let step = near.len().div_ceil(NEAR).max(1);
    let mut all: BTreeSet<usize> = near.into_iter().step_by(step).collect();
    // Parts of the golden section lie apart from each other, however many there are.
    let mut place = 0u64;
    while all.len() < most {
        place = (place + 0x9e37_79b9) % (1 << 32);
        all.insert(least + (((bound - least) as u64 * place) >> 32) as usize);
    }
    all.into_iter().collect()
}

/// The integers that stand in a graph.
fn numbers(graph: &Graph) -> BTreeSet<usize> {
    let constants = graph.values.iter().filter_map(|v| v.constant.as_ref());
    let few = constants.filter(|t| t.ty.dtype.is_int() && t.ty.elems() <= NUMBERS);
    few.filter_map(|t| t.to_i64s()).flatten().filter_map(|n| usize::try_from(n).ok()).collect()
}
