//! What a row of the operator table says: how types are inferred, and what the operator becomes.
//!
//! Nodes point at their rows, so the type of a row is the graph's; the rows themselves are in [`crate::ops`].

use super::{Ctx, Graph, Node, ValueId};
use crate::base::TensorType;
use crate::definition::Lowering;
use crate::error::Result;

/// Output types from a node and its inputs.
pub type InferFn = fn(&Ctx) -> Result<Vec<TensorType>>;
/// Adds what writes a node's outputs to a lowering.
pub type DefineFn = fn(&Ctx, &mut Lowering) -> Result<()>;
/// Adds simpler nodes, and returns the values of a node's outputs.
pub type ExpandFn = fn(&Ctx, &mut NodeBuilder) -> Result<Vec<ValueId>>;

/// A row of the operator table.
pub struct Operator {
    /// ONNX domain: `""` is ai.onnx.
    pub domain: &'static str,
    /// ONNX name.
    pub name: &'static str,
    /// Opset versions whose meaning is implemented, as ONNX lists them; a model's opset selects
    /// the largest not above it.
    pub versions: &'static [i64],
    /// Output types from the node and its inputs (types, and constants where known).
    pub infer: InferFn,
    /// How it is lowered.
    pub lower: Lower,
    /// A note for `docs/operators.md`: what is restricted.
    pub note: &'static str,
}

impl Operator {
    /// A row without restrictions, lowered to definitions.
    pub const fn define(
        domain: &'static str,
        name: &'static str,
        versions: &'static [i64],
        infer: InferFn,
        lower: DefineFn,
    ) -> Operator {
        Operator { domain, name, versions, infer, lower: Lower::Define(lower), note: "" }
    }

    /// A row of our own, for what ONNX has no operator for: passes and expansions write it.
    pub const fn internal(name: &'static str, infer: InferFn, lower: DefineFn) -> Operator {
        Operator { note: "internal", ..Self::define("lmc", name, &[1], infer, lower) }
    }

    /// A row without restrictions, lowered to simpler nodes.
    pub const fn expand(
        domain: &'static str,
        name: &'static str,
        versions: &'static [i64],
        infer: InferFn,
        expand: ExpandFn,
    ) -> Operator {
        Operator { domain, name, versions, infer, lower: Lower::Expand(expand), note: "" }
    }
}

impl std::fmt::Debug for Operator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.name)
    }
}

/// How an operator is lowered.
#[derive(Clone, Copy)]
pub enum Lower {
    /// To definitions and routines: adds what writes the outputs to the lowering.
    Define(DefineFn),
    /// To simpler nodes: adds them to the builder and returns the values of the outputs. Types of
    /// new nodes are inferred, and they are expanded in turn. Also for results that the types
    /// alone determine: they are constants of the builder.
    Expand(ExpandFn),
    /// Control flow (If, Loop, Scan): the stages know these by name.
    Control,
}

/// Adds nodes in place of one that is expanded. The graph holds the node's inputs under the same
/// ids as its [`Ctx`] has them.
pub struct NodeBuilder<'a> {
    /// The graph the nodes are added to.
    pub graph: &'a mut Graph,
    /// Name of the node that is expanded; new values and nodes are named after it.
    pub name: String,
    /// The nodes added, in order.
    pub nodes: Vec<Node>,
    /// The opset that the expanded node's model imports for ai.onnx; new nodes follow the newest.
    pub opset: i64,
    /// How many expansions this one lies within.
    pub nesting: usize,
}
