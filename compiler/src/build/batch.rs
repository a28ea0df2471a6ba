//! A batch of fixed size is computed entry by entry, as one that is left to run time, where its entries have nothing to
//! do with each other: in the memory of a single one.
//!
//! Which dimensions of what lies between are those of the batch, no lowering says. So the model is lowered a second time
//! with the first dimension of its inputs left free ([`super::sized`]), and what is known to be apart is bound again.

use super::timing::Clock;
use super::{Silent, sized};
use crate::graph::Graph;
use crate::import::{Bindings, Dim, Model};
use crate::passes::Around;
use crate::plan::Lowered;
use crate::sizes::{has_work_for, of_fixed_batch};

/// The name of the dimension: that of no other, since all others are numbers.
const ENTRIES: &str = "entries";

/// The stages of a single entry of the batch that a graph computes; `None` where it computes none, or must compute it
/// together. `whole`: its stages; `compact`: memory counts first.
pub(super) fn by_entries(
    (model, graph, whole): (&Model, &Graph, &Lowered),
    bindings: &Bindings,
    around: &Around,
    compact: bool,
) -> Option<Lowered> {
    let count = entries(graph).filter(|&n| has_work_for(&whole.lowering, n))?;
    let mut free = model.clone();
    for (input, &value) in free.body.inputs.iter_mut().zip(&graph.inputs) {
        let shape = &graph.value(value).ty.shape;
        let mut dims: Vec<Dim> = shape.iter().map(|&n| Dim::Fixed(n)).collect();
        if let Some(first) = dims.first_mut().filter(|first| **first == Dim::Fixed(count)) {
            *first = Dim::Free(Some(ENTRIES.to_string()));
        }
        input.dims = Some(dims);
    }
    let bindings = Bindings {
        bounds: [(ENTRIES.to_string(), count)].into(),
        branches: bindings.branches.clone(),
        ..Bindings::default()
    };
    let (lowered, _) = sized::lowered(&free, &bindings, around, &Silent, &Clock::start()).ok()?;
    of_fixed_batch(lowered, compact)
}

/// How many entries the first input has, if some output has as many.
fn entries(graph: &Graph) -> Option<usize> {
    let first = |&value: &u32| graph.value(value).ty.shape.first().copied();
    let count = graph.inputs.iter().find_map(first).filter(|&n| n > 1)?;
    graph.outputs.iter().any(|output| first(output) == Some(count)).then_some(count)
}
