//! What the graph says of its values: which are data, which nodes are layers, and where values come from.
//!
//! A layer is a convolution or matrix product of data.

use crate::base::{DType, TensorType};
use crate::compress::observe::Known;
use crate::compress::onnx::{Node, Onnx, channel_axis};
use std::collections::{BTreeSet, HashMap};

/// Operators that only move or pick elements of their first input.
const MOVES: &[&str] = &[
    "Reshape",
    "Transpose",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
    "Identity",
    "MaxPool",
    "Slice",
    "Expand",
    "Tile",
    "DepthToSpace",
    "SpaceToDepth",
    "Pad",
    "Resize",
    "Split",
];
/// Operators that join or average quantized tensors.
pub(super) const CARRIERS: &[&str] =
    &["Add", "Sub", "Mul", "Concat", "AveragePool", "GlobalAveragePool", "ReduceMean"];
/// Element-wise operators of one tensor that take a few instructions.
const CHEAP: &[&str] =
    &["Relu", "Clip", "LeakyRelu", "PRelu", "Add", "Sub", "Mul", "Div", "BatchNormalization"];

/// Element-wise operators of one tensor that take long in floats.
pub(super) const COSTLY: &[&str] = &[
    "Sigmoid",
    "HardSigmoid",
    "HardSwish",
    "Tanh",
    "Elu",
    "Selu",
    "Celu",
    "Erf",
    "Gelu",
    "Softplus",
    "Softsign",
    "Mish",
    "Swish",
];

/// Whether an operator is an element-wise one of one tensor, seen through in search of where a value comes from.
pub(super) fn is_unary(op: &str) -> bool {
    CHEAP.contains(&op) || COSTLY.contains(&op)
}

/// Tables of fewer elements stay in float.
const SMALL_TABLE: usize = 1024;

/// Longest chain of element-wise operators that is followed.
const MAX_CHAIN: usize = 16;

/// The weights of a layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    /// Which input of the node they are.
    pub input: usize,
    /// Name of the constant.
    pub name: String,
    /// The axis with a scale each; `None` where one scale must do.
    pub axis: Option<usize>,
}

/// A product that is computed in integers.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Index of its node.
    pub node: usize,
    /// Inputs that are data.
    pub data: Vec<usize>,
    /// Its constant factor.
    pub weights: Option<Weights>,
    /// The bias, where it is a constant that can be an integer.
    pub bias: Option<String>,
}

/// What is known of the graph.
pub struct Facts<'a> {
    /// The graph.
    pub onnx: &'a Onnx,
    /// Types of the values for the first sample, and those that are constant.
    pub values: &'a Known,
}

impl Facts<'_> {
    fn ty(&self, name: &str) -> Option<&TensorType> {
        self.values.get(name).map(|v| &v.0)
    }

    fn is_constant(&self, name: &str) -> bool {
        self.values.get(name).is_some_and(|v| v.1.is_some())
    }

    /// Whether a value is a computed tensor of `f32`.
    pub(super) fn is_data(&self, name: &str) -> bool {
        !self.is_constant(name) && self.ty(name).is_some_and(|t| t.dtype == DType::F32)
    }

    fn is_float_constant(&self, name: &str) -> bool {
        self.is_constant(name) && self.ty(name).is_some_and(|t| t.dtype == DType::F32)
    }

    fn rank(&self, name: &str) -> usize {
        self.ty(name).map_or(0, TensorType::rank)
    }

    /// How many elements a constant of `f32` has; 0 for all else.
    pub(super) fn constant_elements(&self, name: &str) -> usize {
        self.ty(name).filter(|_| self.is_float_constant(name)).map_or(0, TensorType::elems)
    }

    /// The inputs of a node that are computed tensors of `f32`.
    pub(super) fn data<'n>(&self, node: &'n Node) -> Vec<&'n str> {
        node.inputs.iter().map(String::as_str).filter(|n| self.is_data(n)).collect()
    }

    /// The layer that a node is, if it is one.
    pub fn layer(&self, index: usize, per_channel: bool) -> Option<Layer> {
        let node = &self.onnx.nodes[index];
        let (a, b) = (node.input(0)?, node.input(1)?);
        // ONNX Runtime's products of integers take scales by column of matrices only.
        let matrix = |input: usize, name: &str| input == 1 && self.rank(name) == 2;
        let weights = |input: usize, name: &str| {
            let fits = per_channel && (node.op() != "MatMul" || matrix(input, name));
            let axis = channel_axis(node, input, self.rank(name)).filter(|_| fits);
            Some(Weights { input, name: name.to_string(), axis })
        };
        let by_constant = self.is_data(a) && self.is_float_constant(b);
        let (data, weights) = match node.op() {
            "Conv" | "ConvTranspose" | "MatMul" if by_constant => (vec![0], weights(1, b)),
            "Gemm" if by_constant && node.int("transA", 0) == 0 => (vec![0], weights(1, b)),
            "MatMul" if self.is_data(a) && self.is_data(b) => (vec![0, 1], None),
            "MatMul" if self.is_float_constant(a) && self.is_data(b) => (vec![1], weights(0, a)),
            _ => return None,
        };
        let plain = node.op() != "Gemm" || node.float("beta", 1.0) == 1.0 && node.float("alpha", 1.0) == 1.0;
        let bias = node.input(2).filter(|n| plain && node.op() != "MatMul" && self.is_float_constant(n));
        let bias = bias.filter(|n| self.rank(n) == 1).map(str::to_string);
        Some(Layer { node: index, data, weights, bias })
    }

    /// Whether a node picks from a constant table worth quantizing.
    pub(super) fn is_table(&self, node: &Node) -> bool {
        let table = node.input(0).filter(|n| node.op() == "Gather" && self.is_float_constant(n));
        table.and_then(|n| self.ty(n)).is_some_and(|t| t.rank() >= 2 && t.elems() >= SMALL_TABLE)
    }

    pub(super) fn is_move(&self, node: &Node) -> bool {
        let fits = match node.op() {
            "Pad" => {
                let zero = |n: &str| self.onnx.floats(n).is_some_and(|(_, v)| v.iter().all(|&x| x == 0.0));
                node.text("mode", "constant") != "constant" || node.input(2).is_none_or(zero)
            }
            "Resize" => {
                node.text("mode", "nearest") == "nearest"
                    && node.text("coordinate_transformation_mode", "") != "tf_crop_and_resize"
            }
            "MaxPool" => node.outputs.iter().filter(|o| !o.is_empty()).count() == 1,
            _ => true,
        };
        fits && MOVES.contains(&node.op()) && node.input(0).is_some_and(|n| self.is_data(n))
    }

    /// Whether a value is quantized where it is, or after element-wise operators, and read by nothing
    /// else.
    pub(super) fn needed(
        &self,
        value: &str,
        wanted: &BTreeSet<String>,
        readers: &HashMap<String, Vec<usize>>,
        depth: usize,
    ) -> bool {
        if wanted.contains(value) {
            return true;
        }
        let after = |&reader: &usize| {
            self.onnx.nodes.get(reader).is_some_and(|node| {
                is_unary(node.op())
                    && self.data(node).len() == 1
                    && self.needed(node.output(), wanted, readers, depth + 1)
            })
        };
        let readers = readers.get(value).map_or(&[] as &[usize], Vec::as_slice);
        depth < MAX_CHAIN && !readers.is_empty() && readers.iter().all(after)
    }

    /// Where each value comes from: up over moves and element-wise operators of one tensor, and over
    /// those of several that come from the same (`x * sigmoid(x)`). Values that are not listed come
    /// from themselves.
    pub(super) fn origins(&self) -> Origins {
        let mut origins = Origins(HashMap::new());
        for node in &self.onnx.nodes {
            let data = self.data(node);
            let Some(first) = data.first().map(|d| origins.of(d).to_string()) else { continue };
            let through = self.is_move(node) || is_unary(node.op());
            if through && data.iter().all(|d| origins.of(d) == first) {
                node.outputs.iter().for_each(|o| {
                    origins.0.insert(o.clone(), first.clone());
                });
            }
        }
        origins
    }
}

/// By value, the value that it comes from.
pub(super) struct Origins(HashMap<String, String>);

impl Origins {
    /// The value that a value comes from.
    pub(super) fn of<'a>(&'a self, value: &'a str) -> &'a str {
        self.0.get(value).map_or(value, String::as_str)
    }
}
