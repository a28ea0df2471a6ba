//! What an operator's functions read: a node's inputs, attributes and version.

use super::{Attrs, Graph, Node, Value};
use crate::base::{DType, Tensor, TensorType};
use crate::error::{Error, Result};

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

    /// The same; what passes have made moves where what it is made of does.
    pub fn may_move(&self, i: usize, first: usize) -> bool {
        self.node.inputs.get(i).copied().flatten().is_some_and(|v| self.graph.may_move(v, first))
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

    /// Counts `axis` from the front; an error where it lies outside `-rank..rank`.
    pub fn axis(&self, axis: i64, rank: usize) -> Result<usize> {
        let positive = if axis < 0 { axis + rank as i64 } else { axis };
        usize::try_from(positive)
            .ok()
            .filter(|&a| a < rank)
            .ok_or_else(|| Error::model(format!("axis {axis} lies outside a tensor of rank {rank}")))
    }
}
