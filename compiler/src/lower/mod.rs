//! Graph to [`Lowering`]: every node becomes definitions, routines and reshapes, control flow loops
//! and selections. The last stage that knows operators by name.

mod control;
mod flat;
mod fold;
mod lift;

pub use fold::fold;

use crate::definition::{LoweredValue, Lowering, meaningful};
use crate::error::{Error, NODE_ADVICE, Result};
use crate::graph::{Graph, Node};
use crate::ops::{Ctx, Lower};
use flat::Item;

/// Lowers a graph. Its values keep their ids; those of bodies and temporaries come after them.
pub fn lower(graph: &Graph) -> Result<Lowering> {
    let mut lowering = lower_plain(graph)?;
    fold::fold(&mut lowering, &graph.outputs);
    Ok(lowering)
}

/// The same without computing what depends on constants alone.
pub fn lower_plain(graph: &Graph) -> Result<Lowering> {
    let (flat, items) = flat::flatten(graph)?;
    let values = flat.values.iter().map(|v| LoweredValue {
        name: v.name.clone(),
        ty: v.ty.clone(),
        constant: v.constant.clone(),
    });
    let mut lowering = Lowering { values: values.collect(), ..Lowering::default() };
    lower_items(&flat, &items, &mut lowering)?;
    Ok(lowering)
}

fn lower_items(graph: &Graph, items: &[Item], lowering: &mut Lowering) -> Result<()> {
    for item in items {
        let node = item.node();
        let result = match item {
            Item::Node(node) => lower_node(graph, node, lowering),
            Item::If(branches) => control::lower_if(graph, branches, lowering),
            Item::Loop(body) => control::lower_loop(graph, body, lowering),
            Item::Scan(body) => control::lower_scan(graph, body, lowering),
        };
        result
            .map_err(|e| e.or_advise(NODE_ADVICE).at(format!("node '{}' ({})", node.name, node.op.name)))?;
    }
    Ok(())
}

fn lower_node(graph: &Graph, node: &Node, lowering: &mut Lowering) -> Result<()> {
    match node.op.lower {
        Lower::Define(define) => {
            let before = lowering.stages.len();
            define(&Ctx { graph, node }, lowering)?;
            meaningful(&lowering.stages[before..])
        }
        Lower::Expand(_) => Err(Error::bug("a compound operator was not expanded")),
        Lower::Control => Err(Error::bug("control flow was not flattened")),
    }
}
