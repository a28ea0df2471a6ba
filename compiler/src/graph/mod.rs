//! The graph: nodes of ONNX operators over typed values, in execution order.
//!
//! Nodes keep their ONNX names and attributes; every shape is known (dimensions are bound at
//! import, constants folded). Passes rewrite the graph in place; a later stage turns it
//! into definitions.

mod attr;
mod context;
mod known;
mod limits;
mod operator;
mod parse;
mod samples;
mod text;
mod verify;

pub use attr::{Attr, Attrs};
pub use context::Ctx;
pub use known::{Known, Results};
pub use limits::{MAX_TENSOR_BYTES, check_size};
pub use operator::{DefineFn, ExpandFn, InferFn, Lower, NodeBuilder, Operator};
pub use parse::parse;
pub use samples::{SAMPLE_OF_NONE, SAMPLE_OF_ONE, sample_near};
pub use verify::{explain, verify};

use crate::base::{Tensor, TensorType};
use crate::error::Result;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// An index into [`Graph::values`].
pub type ValueId = u32;

/// A tensor that nodes read and write.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// Name, as in the ONNX graph; unique.
    pub name: String,
    /// Element type and shape. For a dimension known only at run time, its bound.
    pub ty: TensorType,
    /// For each dimension known only at run time, the number of its symbol in
    /// [`Graph::symbols`]; empty where every dimension is fixed.
    pub symbolic: Vec<Option<u32>>,
    /// The elements, where the value is a constant.
    pub constant: Option<Tensor>,
    /// Of flags that are others moved, repeated or taken from the graph around: of which ones, and how many times.
    pub flags: Option<(Arc<str>, usize)>,
}

/// A dimension known only at run time.
#[derive(Clone, Debug, PartialEq)]
pub struct Symbol {
    /// The ONNX name of a free dimension; `None` for a data-dependent size.
    pub name: Option<String>,
    /// The largest size.
    pub max: usize,
}

/// One operation.
#[derive(Clone, Debug)]
pub struct Node {
    /// The operator's row in the table.
    pub op: &'static Operator,
    /// The opset version of the operator's domain that the model imports.
    pub opset: i64,
    /// Name of the ONNX node it comes from (its output's name where it has none).
    pub name: String,
    /// Attributes as in ONNX.
    pub attrs: Attrs,
    /// Values read; `None` for an omitted optional input.
    pub inputs: Vec<Option<ValueId>>,
    /// Values written; `None` for an omitted optional output.
    pub outputs: Vec<Option<ValueId>>,
}

/// A graph; also the body of a control-flow attribute, where `captures` names what it takes from
/// the graph around it.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// Name of the graph.
    pub name: String,
    /// All values.
    pub values: Vec<Value>,
    /// All nodes, each after those it depends on.
    pub nodes: Vec<Node>,
    /// The graph's inputs, in order; initializers are not among them.
    pub inputs: Vec<ValueId>,
    /// The graph's outputs, in order.
    pub outputs: Vec<ValueId>,
    /// Dimensions known only at run time.
    pub symbols: Vec<Symbol>,
    /// 0 where all sizes are fixed. Otherwise the graph is one of several that differ in sizes alone (see
    /// `crate::sizes`): sizes that depend on data are their bounds in the first and other numbers in
    /// others, and no decision may depend on a size.
    pub sample: u32,
    /// Which of a model's graphs it is while that is typed: names are unique within one.
    pub scope: usize,
    /// Of several samples: the shapes in all of them, of the values (by name) of the typed graph.
    pub shapes: Arc<Shapes>,
    /// Of several samples: the constants (by name) of all. Those that are alike in every sample have the
    /// same number; 0 are those that do not differ between samples.
    pub alike: Arc<HashMap<String, usize>>,
    /// Of several samples: the constants (by name) whose elements are all one number in each.
    pub uniform: Arc<HashSet<String>>,
    /// Of several samples: the nodes that were computed while the graph was typed, whose outputs are constants.
    pub folded: Vec<Node>,
    /// Of several samples: the conditions (by name) that were constant, and which branch they chose.
    pub decided: Vec<(String, bool)>,
    /// The numbers (by name) computed from data that were found to be the length of a tensor.
    pub numbers: Vec<String>,
    /// Of several samples: what was made of constants in any of them.
    pub known: Option<Arc<Known>>,
    /// For a body: `(value of the outer graph, value here)`.
    pub captures: Vec<(ValueId, ValueId)>,
    /// Of several samples, for a body: the same of constants, which are here as they are in the outer graph.
    pub copies: Vec<(ValueId, ValueId)>,
}

/// Stands behind the name of what is constant in each of several samples, but computed at run time.
pub const COMPUTED: &str = ".computed";

/// For values by name, the shape in each sample.
pub type Shapes = HashMap<String, Vec<Vec<usize>>>;

impl Graph {
    /// The bodies of a node, each with its [`Graph::body_path`].
    pub fn bodies<'g>(&self, node: &'g Node, around: &str) -> Vec<(String, &'g Graph)> {
        let body = |(attribute, attr): (&String, &'g Attr)| match attr {
            Attr::Graph(body) => Some((self.body_path(node, attribute, around), &**body)),
            _ => None,
        };
        node.attrs.0.iter().filter_map(body).collect()
    }

    /// What stands before the names of a body's values where those of several graphs are listed: in all samples the same,
    /// and of no other body. `around` is what stands before the names of this graph.
    pub fn body_path(&self, node: &Node, attribute: &str, around: &str) -> String {
        let output = node.outputs.iter().flatten().next().map(|&output| &self.value(output).name);
        format!("{around}{}/{attribute}/", output.unwrap_or(&node.name))
    }

    /// How long a value is along a dimension in each sample; `None` where it is as long in all.
    pub fn lengths(&self, value: ValueId, dim: usize) -> Option<Vec<usize>> {
        let name = &self.value(value).name;
        let shapes = self.shapes.get(name.strip_suffix(COMPUTED).unwrap_or(name))?;
        let lengths: Option<Vec<usize>> = shapes.iter().map(|s| s.get(dim).copied()).collect();
        lengths.filter(|l| l.iter().any(|n| *n != l[0]))
    }

    /// Whether any of the dimensions of a value from `first` on has another length for other sizes, or what it is made of
    /// has, where it is not known in other samples itself.
    fn may_move(&self, value: ValueId, first: usize) -> bool {
        let (mut open, mut seen) = (vec![value], HashSet::new());
        while let Some(value) = open.pop() {
            if !seen.insert(value) {
                continue;
            }
            let Value { name, ty, constant, .. } = self.value(value);
            let typed = name.strip_suffix(COMPUTED).unwrap_or(name);
            let known = self.shapes.is_empty() || self.shapes.contains_key(typed);
            let moves = || (first..ty.rank()).any(|d| self.lengths(value, d).is_some());
            match self.nodes.iter().find(|n| n.outputs.contains(&Some(value))) {
                _ if constant.is_some() => {}
                _ if known && moves() => return true,
                _ if known => {}
                Some(writer) => open.extend(writer.inputs.iter().flatten()),
                None => return true,
            }
        }
        false
    }

    /// Adds a value.
    pub fn add_value(&mut self, name: impl Into<String>, ty: TensorType) -> ValueId {
        self.values.push(Value { name: name.into(), ty, symbolic: Vec::new(), constant: None, flags: None });
        (self.values.len() - 1) as ValueId
    }

    /// Adds a constant.
    pub fn add_constant(&mut self, name: impl Into<String>, tensor: Tensor) -> ValueId {
        let id = self.add_value(name, tensor.ty.clone());
        self.values[id as usize].constant = Some(tensor);
        id
    }

    /// What an operation on constants gives, with its attributes and the types of its results.
    pub fn once(
        &self,
        what: impl FnOnce() -> String,
        inputs: &[Option<&Tensor>],
        compute: impl FnOnce() -> Result<Results>,
    ) -> Result<Results> {
        match &self.known {
            Some(known) => known.once(what(), inputs, compute),
            None => compute(),
        }
    }

    /// A value by id.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id as usize]
    }
}
