//! Recognizing quantized values: an integer tensor, its scale and its zero point.

use super::super::edit::{read_counts, writers};
use crate::base::{DType, Tensor, TensorType};
use crate::error::Result;
use crate::graph::{Attr, Graph, Node, ValueId};
use crate::ops::NodeBuilder;

/// How integers stand for real numbers: `(q - zero) * scale`. Scale and zero point are constants.
#[derive(Clone, Debug)]
pub struct Linear {
    /// The integers.
    pub value: ValueId,
    /// The scale: a float, or one per index of `axis`.
    pub scale: ValueId,
    /// The zero point; none where it is zero.
    pub zero: Option<ValueId>,
    /// The axis that the scale varies along; none where it is one number.
    pub axis: Option<usize>,
}

/// The operands of a product, and where its result is quantized.
pub(super) struct Product {
    pub(super) x: Linear,
    pub(super) w: Linear,
    /// The QuantizeLinear of the result, by index, and what it makes.
    pub(super) to: Option<(usize, Linear)>,
}

/// Whether a node is this operator, of ai.onnx or com.microsoft.
pub fn named(node: &Node, name: &str) -> bool {
    node.op.name == name && matches!(node.op.domain, "" | "com.microsoft")
}

/// The parameters of a QuantizeLinear or DequantizeLinear whose integers are `value`.
fn parameters(graph: &Graph, node: &Node, value: ValueId) -> Option<Linear> {
    let input = |i: usize| node.inputs.get(i).copied().flatten();
    let scale = input(1)?;
    let constant = graph.value(scale).constant.as_ref()?;
    let zero = match input(2) {
        None => None,
        Some(id) => {
            let known = graph.value(id).constant.as_ref()?;
            (!known.data.iter().all(|&b| b == 0)).then_some(id)
        }
    };
    let blocks = node.attrs.int("block_size", 0).ok()? != 0;
    let rank = graph.value(value).ty.rank();
    let float = constant.ty.dtype == DType::F32 && constant.ty.elems() > 0;
    if blocks || !float || constant.ty.rank() > 1 || !constant.to_vec::<f32>()?.iter().all(|s| *s > 0.0) {
        return None;
    }
    let axis = match constant.ty.elems() {
        1 => None,
        _ => {
            let axis = node.attrs.int("axis", 1).ok()?;
            let axis = if axis < 0 { axis + rank as i64 } else { axis };
            Some(usize::try_from(axis).ok().filter(|&a| a < rank)?)
        }
    };
    Some(Linear { value, scale, zero, axis })
}

/// What a DequantizeLinear takes.
pub fn dequantize(graph: &Graph, node: &Node) -> Option<Linear> {
    let known = named(node, "DequantizeLinear");
    let value = node.inputs.first().copied().flatten().filter(|_| known)?;
    let ty = graph.value(*node.outputs.first()?.as_ref()?).ty.dtype;
    parameters(graph, node, value).filter(|_| ty == DType::F32)
}

/// One of a list of as many numbers, or of one number for all.
pub fn of<T: Copy>(list: &[T], i: usize) -> T {
    list[if list.len() == 1 { 0 } else { i }]
}

/// What a QuantizeLinear of f32 gives, if it gives integers.
pub fn quantize(graph: &Graph, node: &Node) -> Option<Linear> {
    let known = named(node, "QuantizeLinear");
    let value = node.outputs.first().copied().flatten().filter(|_| known)?;
    let from = graph.value(node.inputs.first().copied().flatten()?).ty.dtype;
    let linear = parameters(graph, node, value)?;
    let to = graph.value(value).ty.dtype;
    (from == DType::F32 && to.is_int() && to.bits() <= 16).then_some(linear)
}

/// The integers that a value is dequantized from.
pub fn source(graph: &Graph, value: ValueId) -> Option<Linear> {
    dequantize(graph, &graph.nodes[writers(graph)[value as usize]?])
}

/// The index of the QuantizeLinear that is the only reader of a value.
pub fn only_quantize(graph: &Graph, value: ValueId) -> Option<(usize, Linear)> {
    if read_counts(graph)[value as usize] != 1 {
        return None;
    }
    let reader = graph.nodes.iter().position(|n| n.inputs.first() == Some(&Some(value)))?;
    Some((reader, quantize(graph, &graph.nodes[reader])?))
}

impl Linear {
    /// Element type of the integers.
    pub fn dtype(&self, graph: &Graph) -> DType {
        graph.value(self.value).ty.dtype
    }

    /// The scales.
    pub fn scales(&self, graph: &Graph) -> Vec<f32> {
        let constant = graph.value(self.scale).constant.as_ref();
        constant.and_then(|t| t.to_vec::<f32>()).unwrap_or_default()
    }

    /// The zero points; one where all are alike.
    pub fn zeros(&self, graph: &Graph) -> Vec<i64> {
        let constant = self.zero.and_then(|z| graph.value(z).constant.as_ref());
        constant.and_then(|t| t.to_i64s()).unwrap_or_else(|| vec![0])
    }

    /// Whether greater integers stand for greater numbers: none of few bits times a normal scale is rounded to its
    /// neighbour, or to infinity.
    pub fn keeps_order(&self, graph: &Graph) -> bool {
        let (scales, dtype) = (self.scales(graph), self.dtype(graph));
        let normal = |s: &f32| s.is_normal() && (s * (1u32 << dtype.bits()) as f32).is_finite();
        self.axis.is_none() && dtype.is_int() && dtype.bits() <= 16 && scales.iter().all(normal)
    }

    /// Whether the same integers stand for the same numbers.
    pub fn equals(&self, other: &Linear, graph: &Graph) -> bool {
        let same = self.dtype(graph) == other.dtype(graph) && self.axis == other.axis;
        same && self.scales(graph) == other.scales(graph) && self.zeros(graph) == other.zeros(graph)
    }

    /// The zero point as a value: of the type of the integers where it is zero.
    pub fn zero_point(&self, b: &mut NodeBuilder) -> ValueId {
        self.zero.unwrap_or_else(|| {
            let ty = TensorType::new(b.ty(self.value).dtype, []);
            let data = vec![0u8; ty.bytes()];
            b.constant(Tensor { ty, data: data.into() })
        })
    }

    /// Constants of fewer bits as bytes.
    pub fn widened(&self, graph: &mut Graph) -> Option<Linear> {
        let dtype = if self.dtype(graph).is_signed_int() { DType::I8 } else { DType::U8 };
        let byte = |graph: &mut Graph, id: ValueId| -> Option<ValueId> {
            let constant = graph.value(id).constant.as_ref()?;
            let bytes: Vec<u8> = constant.to_i64s()?.iter().map(|&v| v as u8).collect();
            let tensor = Tensor::from_bytes(TensorType::new(dtype, constant.ty.shape.clone()), bytes)?;
            let name = graph.value(id).name.clone();
            Some(NodeBuilder::new(graph, name, i64::MAX).constant(tensor))
        };
        let value = byte(graph, self.value)?;
        let zero = match self.zero {
            Some(zero) => Some(byte(graph, zero)?),
            None => None,
        };
        Some(Linear { value, zero, ..self.clone() })
    }
}

/// A node like the quantization or dequantization `node`, on another input.
pub(super) fn again(b: &mut NodeBuilder, node: &Node, x: ValueId) -> Result<ValueId> {
    along(b, node, x, None)
}

/// The same with its scales along this axis, if they lie along one.
pub(super) fn along(b: &mut NodeBuilder, node: &Node, x: ValueId, axis: Option<usize>) -> Result<ValueId> {
    let mut inputs = node.inputs.clone();
    inputs[0] = Some(x);
    let attrs = match axis {
        None => node.attrs.clone(),
        Some(axis) => node.attrs.clone().with("axis", Attr::Int(axis as i64)),
    };
    Ok(b.node_in(node.op.domain, node.op.name, &inputs, attrs, 1)?[0])
}
