//! The operators: one file each (families share one), one row each in `table.rs`.
//!
//! A row says how an operator's types are inferred and how it is lowered: to definitions (loops),
//! to simpler nodes (`Expand`), or, for control flow, by later stages. Semantics are stated
//! nowhere else: constant folding interprets the operator's own definitions.

mod builder;
mod cast;
mod chosen;
mod compositions;
mod control;
mod elementwise;
mod emit;
mod frame;
mod heap;
mod ml;
mod nn;
mod movement;
mod random;
mod reduce;
mod require;
mod routine;
mod scan;
mod scatter;
mod sized;
mod structure;
mod suppress;
mod table;
mod top_k;

pub use builder::{Pending, is_computed};
pub use elementwise::is_elementwise;
pub use nn::flex_attention;
pub use nn::matmul::broadcast;
pub use sized::{data_decide_sizes, decides_size};
pub use table::{find, rows};

use crate::base::{DType, Tensor, TensorType};
use crate::definition::Lowering;
use crate::error::{Error, Result};
use crate::graph::{Attrs, Graph, Node, Value, ValueId};

/// Samples (see [`Graph::sample`]) from a multiple of this on have sizes around a limit: the multiple.
const NEAR: u32 = 1 << 8;

/// The sample of this number that has sizes, where they depend on data, below and above a limit.
pub fn sample_near(limit: usize, number: u32) -> u32 {
    number % NEAR + NEAR * limit.clamp(1, 1 << 16) as u32
}

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

/// What an operator's functions see: its node, within its graph.
pub struct Ctx<'a> {
    /// The graph around the node.
    pub graph: &'a Graph,
    /// The node.
    pub node: &'a Node,
}

impl<'a> Ctx<'a> {
    /// The opset version of the operator's row in force: the largest of its versions that is not
    /// above the opset the model imports.
    pub fn version(&self) -> i64 {
        let imported = self.node.opset;
        self.node.op.versions.iter().copied().filter(|&v| v <= imported).max().unwrap_or(imported)
    }

    /// The attributes.
    pub fn attrs(&self) -> &'a Attrs {
        &self.node.attrs
    }

    /// Whether input `i` is given.
    pub fn has(&self, i: usize) -> bool {
        self.node.inputs.get(i).is_some_and(|v| v.is_some())
    }

    /// Input `i`, where given.
    pub fn optional(&self, i: usize) -> Option<&'a Value> {
        self.node.inputs.get(i).copied().flatten().map(|v| self.graph.value(v))
    }

    /// Whether any of the dimensions of input `i` from `first` on has another length for other sizes.
    pub fn moves(&self, i: usize, first: usize) -> bool {
        let value = self.node.inputs.get(i).copied().flatten();
        let moving = |v| (first..self.graph.value(v).ty.rank()).any(|d| self.graph.lengths(v, d).is_some());
        value.is_some_and(moving)
    }

    /// Input `i`; an error where it is missing.
    pub fn input(&self, i: usize) -> Result<&'a Value> {
        self.optional(i).ok_or_else(|| Error::model(format!("input {i} is missing")))
    }

    /// Type of input `i`.
    pub fn ty(&self, i: usize) -> Result<&'a TensorType> {
        Ok(&self.input(i)?.ty)
    }

    /// Shape of input `i`.
    pub fn shape(&self, i: usize) -> Result<&'a [usize]> {
        Ok(&self.input(i)?.ty.shape)
    }

    /// Element type of input `i`.
    pub fn dtype(&self, i: usize) -> Result<DType> {
        Ok(self.input(i)?.ty.dtype)
    }

    /// Input `i` as a constant; an error that says what to do where it is not one.
    pub fn constant(&self, i: usize) -> Result<&'a Tensor> {
        let value = self.input(i)?;
        value.constant.as_ref().ok_or_else(|| {
            Error::model(format!(
                "input {i} ('{}') must be a constant, but is computed at run time",
                value.name
            ))
            .advise("Make it an initializer, or bind the dimensions it depends on with --dim or --input")
        })
    }

    /// Input `i` as constant integers; `None` where it is omitted.
    pub fn constant_ints(&self, i: usize) -> Result<Option<Vec<i64>>> {
        if !self.has(i) {
            return Ok(None);
        }
        let ints = self.constant(i)?.to_i64s();
        ints.map(Some).ok_or_else(|| Error::model(format!("input {i} must hold integers")))
    }

    /// Type of output `i`, once inferred.
    pub fn out(&self, i: usize) -> Result<&'a TensorType> {
        let id = self.node.outputs.get(i).copied().flatten();
        id.map(|v| &self.graph.value(v).ty).ok_or_else(|| Error::bug(format!("output {i} is not there")))
    }

    /// A size that depends on data and is at most `bound`: in the first sample the bound (2 at least), in
    /// others (see [`Graph::sample`]) other numbers from 2 on, the same for the same key. In the second sample
    /// it is 2, so that every limit (the best 50 of those found) shows; in half of the rest it is small. With
    /// nothing to choose from it is 0.
    pub fn chosen(&self, bound: usize, key: &str) -> usize {
        if bound == 0 {
            return 0;
        }
        let bound = bound.max(2);
        let (sample, limit) = (self.graph.sample % NEAR, self.graph.sample / NEAR);
        match sample {
            0 | 1 => return bound,
            2 => return 2,
            _ => {}
        }
        let bytes = key.bytes().chain(self.graph.sample.to_le_bytes());
        let hash =
            bytes.fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
        let all = bound.max(8) - 1;
        let small = all >> ((hash >> 8) as u32 % all.ilog2());
        let count = match limit {
            0 if sample % 2 == 0 => small,
            0 => all,
            limit => all.min(2 * limit as usize),
        };
        2 + (hash >> 20) as usize % count
    }

    /// Counts `axis` from the front; an error where it lies outside `-rank..rank`.
    pub fn axis(&self, axis: i64, rank: usize) -> Result<usize> {
        let positive = if axis < 0 { axis + rank as i64 } else { axis };
        usize::try_from(positive)
            .ok()
            .filter(|&a| a < rank)
            .ok_or_else(|| Error::model(format!("axis {axis} lies outside a tensor of rank {rank}")))
    }
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
    nesting: usize,
}

#[cfg(test)]
mod older;
#[cfg(test)]
mod regressions;

#[cfg(test)]
mod tests {
    /// A name in the table twice would hide one of the rows.
    #[test]
    fn no_operator_is_listed_twice() {
        let mut names: Vec<_> = super::rows().map(|r| (r.domain, r.name)).collect();
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(all, names.len());
    }
}
