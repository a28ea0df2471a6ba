//! Graph to [`Lowering`]: every node becomes definitions, routines and reshapes. The last stage
//! that knows operators by name.

mod fold;

use crate::definition::{LoweredValue, Lowering};
use crate::error::{Error, Result};
use crate::graph::{Graph, Node};
use crate::ops::{Ctx, Lower};

/// Lowers a graph. Its values keep their ids; temporaries come after them.
pub fn lower(graph: &Graph) -> Result<Lowering> {
    let values = graph.values.iter().map(|v| LoweredValue {
        name: v.name.clone(),
        ty: v.ty.clone(),
        constant: v.constant.clone(),
    });
    let mut lowering = Lowering { values: values.collect(), stages: Vec::new() };
    for node in &graph.nodes {
        lower_node(graph, node, &mut lowering)
            .map_err(|e| e.at(format!("node '{}' ({})", node.name, node.op.name)))?;
    }
    fold::fold(&mut lowering, &graph.outputs);
    Ok(lowering)
}

fn lower_node(graph: &Graph, node: &Node, lowering: &mut Lowering) -> Result<()> {
    match node.op.lower {
        Lower::Define(define) => define(&Ctx { graph, node }, lowering),
        Lower::Expand(_) => Err(Error::bug("a compound operator was not expanded")),
        Lower::Control => Err(Error::model("control flow decided at run time is not supported")
            .advise("Make the condition or trip count a constant")),
    }
}
