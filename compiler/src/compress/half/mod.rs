//! Models in `f16`: half the storage; inputs and outputs stay as they are.
//!
//! Every value of `f32` becomes one of `f16`, but those of the nodes that are kept (`keep.rs`): these read and write
//! `f32`, and casts stand between the two, where both are wanted.

mod keep;
mod range;

use super::observe::{Known, Sample};
use super::onnx::{Node, Onnx};
use super::prepare;
use super::quantize::Kept;
use crate::base::{DType, Tensor, TensorType};
use crate::build::Observer;
use crate::error::{Error, Result};
use crate::import::{from_tensor_proto, to_tensor_proto};
use half::f16;
use std::collections::HashSet;
use tract_onnx::pb;

const F32: i64 = DType::F32 as i64;
const F16: i64 = DType::F16 as i64;
/// Constants that only kept nodes read stay in `f32` up to so many elements (scales of Resize).
const SMALL: usize = 1024;

/// A model in half precision, and the nodes that compute in `f32`.
pub struct Halved {
    /// The model.
    pub onnx: Onnx,
    /// What stayed, and why.
    pub kept: Vec<Kept>,
}

/// Converts a model; `known` has the types of its values. What exceeds half precision on the samples is kept.
pub fn half(onnx: &Onnx, known: &Known, samples: &[Sample], observer: &dyn Observer) -> Result<Halved> {
    let mut onnx = onnx.clone();
    prepare::simplify(&mut onnx, known);
    let floats = floats(&onnx, known);
    if !onnx.initializers.iter().any(|i| i.proto.data_type == F32 as i32)
        && !onnx.nodes.iter().any(|n| n.outputs.iter().any(|o| floats.contains(o)))
    {
        return Err(Error::model("there is nothing to convert: no value of f32"));
    }
    let outside = range::outside(&onnx, known, samples, observer)?;
    let kept = keep::kept(&onnx, &outside);
    let mut made = onnx.clone();
    made.forget_types();
    let mut work = Work::new(&onnx, &floats, kept.iter().map(|k| k.node).collect(), made);
    work.constants()?;
    work.inputs();
    for (i, node) in onnx.nodes.iter().enumerate() {
        work.node(i, node)?;
    }
    work.made.nodes = work.nodes;
    Ok(Halved { onnx: work.made, kept })
}

/// Names of the values of `f32`.
fn floats(onnx: &Onnx, known: &Known) -> HashSet<String> {
    let float = |name: &&String| known.get(*name).is_some_and(|v| v.0.dtype == DType::F32);
    let values = onnx.nodes.iter().flat_map(|n| &n.outputs).chain(onnx.inputs.iter().map(|i| &i.name));
    let constants = onnx.initializers.iter().filter(|i| i.proto.data_type == F32 as i32);
    values.filter(float).chain(constants.map(|i| &i.proto.name)).cloned().collect()
}

/// A conversion under way.
struct Work<'a> {
    onnx: &'a Onnx,
    floats: &'a HashSet<String>,
    wide: HashSet<usize>,
    captured: HashSet<&'a str>,
    /// Values that some node reads in half precision.
    halves: HashSet<&'a str>,
    /// Values that are there in `f32` so far.
    full: HashSet<String>,
    made: Onnx,
    nodes: Vec<Node>,
}

impl<'a> Work<'a> {
    fn new(onnx: &'a Onnx, floats: &'a HashSet<String>, mut wide: HashSet<usize>, made: Onnx) -> Work<'a> {
        let captured: HashSet<&str> = onnx.nodes.iter().flat_map(Node::captured).collect();
        let mut halves = HashSet::new();
        // Constants are what their readers are, so that those come first.
        for (i, node) in onnx.nodes.iter().enumerate().rev() {
            if node.op() == "Constant" && !halves.contains(node.output()) && !captured.contains(node.output())
            {
                wide.insert(i);
            }
            if !wide.contains(&i) {
                halves.extend(node.inputs.iter().map(String::as_str));
            }
        }
        let (full, nodes) = (HashSet::new(), Vec::new());
        Work { onnx, floats, wide, captured, halves, full, made, nodes }
    }

    /// Whether the name of a value is known outside of the nodes.
    fn interface(&self, name: &str) -> bool {
        let outside = self.onnx.inputs.iter().chain(&self.onnx.outputs).any(|i| i.name == name);
        outside || self.captured.contains(name)
    }

    /// The names of a value in half and in full precision.
    fn names(&self, name: &str) -> [String; 2] {
        if self.interface(name) || !self.halves.contains(name) {
            [format!("{name}_half"), name.to_string()]
        } else {
            [name.to_string(), format!("{name}_full")]
        }
    }

    fn constants(&mut self) -> Result<()> {
        let onnx = self.onnx;
        let floats = onnx.initializers.iter().enumerate().filter(|(_, i)| i.proto.data_type == F32 as i32);
        for (at, initializer) in floats {
            let name = initializer.proto.name.as_str();
            let tensor = onnx
                .constant(name)
                .ok_or_else(|| Error::model(format!("initializer '{name}' cannot be read")))?;
            let [half, full] = self.names(name);
            let outside = range::exceeds(&tensor);
            let narrow = self.halves.contains(name) || self.captured.contains(name);
            if !narrow && (tensor.ty.elems() <= SMALL || outside) {
                self.made.initializers[at].proto = to_tensor_proto(&full, &tensor);
                self.full.insert(full);
                continue;
            }
            if self.captured.contains(name) {
                self.nodes.push(cast(&half, &full, F32));
                self.full.insert(full);
            }
            self.made.initializers[at].proto = to_tensor_proto(&half, &rounded(&tensor));
        }
        Ok(())
    }

    fn inputs(&mut self) {
        let onnx = self.onnx;
        let constants: HashSet<&str> = onnx.initializers.iter().map(|i| i.proto.name.as_str()).collect();
        for input in onnx.inputs.iter().filter(|i| self.floats.contains(&i.name)) {
            let name = input.name.as_str();
            if constants.contains(name) {
                continue;
            }
            let [half, full] = self.names(name);
            if self.halves.contains(name) {
                self.nodes.push(cast(&full, &half, F16));
            }
            self.full.insert(full);
        }
        let floats = self.floats;
        self.made.inputs.retain(|i| !(floats.contains(&i.name) && constants.contains(i.name.as_str())));
    }

    fn node(&mut self, index: usize, node: &Node) -> Result<()> {
        let (mut node, wide) = (node.clone(), self.wide.contains(&index));
        if !wide {
            convert_attributes(&mut node)?;
        }
        let mut after = Vec::new();
        for name in node.inputs.iter_mut().filter(|n| self.floats.contains(*n)) {
            let [half, full] = self.names(name);
            if wide && self.full.insert(full.clone()) {
                self.nodes.push(cast(&half, &full, F32));
            }
            *name = if wide { full } else { half };
        }
        for name in node.outputs.iter_mut().filter(|n| self.floats.contains(*n)) {
            let [half, full] = self.names(name);
            let (narrow, outside) = (self.halves.contains(name.as_str()), self.interface(name));
            if wide {
                self.full.insert(full.clone());
                after.extend(narrow.then(|| cast(&full, &half, F16)));
            } else if outside {
                self.full.insert(full.clone());
                after.push(cast(&half, &full, F32));
            }
            *name = if wide { full } else { half };
        }
        self.nodes.push(node);
        self.nodes.extend(after);
        Ok(())
    }
}

fn cast(from: &str, to: &str, dtype: i64) -> Node {
    let mut node = Node::new("Cast", &format!("{to}_cast"), &[from], &[to]);
    node.set_int("to", dtype);
    node
}

/// Element types in attributes.
fn convert_attributes(node: &mut Node) -> Result<()> {
    let name = match node.op() {
        "Cast" => "to",
        "RandomNormal" | "RandomUniform" | "RandomNormalLike" | "RandomUniformLike" | "EyeLike"
        | "Bernoulli" => "dtype",
        "HannWindow" | "HammingWindow" | "BlackmanWindow" | "MelWeightMatrix" => "output_datatype",
        "Constant" | "ConstantOfShape" => return convert_constant(node),
        _ => return Ok(()),
    };
    let default = if matches!(node.op(), "RandomNormal" | "RandomUniform") || name == "output_datatype" {
        F32
    } else {
        0
    };
    if node.int(name, default) == F32 {
        node.set_int(name, F16);
    }
    Ok(())
}

fn convert_constant(node: &mut Node) -> Result<()> {
    let tensor = match (node.tensor("value"), node.attr("value_float"), node.attr("value_floats")) {
        (Some(proto), ..) => from_tensor_proto(proto, None)?,
        (None, Some(attr), _) => Tensor::scalar(attr.f),
        (None, None, Some(attr)) => Tensor::new([attr.floats.len()], &attr.floats),
        _ if node.op() == "ConstantOfShape" => Tensor::new([1], &[0.0f32]),
        _ => return Ok(()),
    };
    if tensor.ty.dtype == DType::F32 {
        ["value_float", "value_floats"].iter().for_each(|n| node.remove_attr(n));
        let kind = pb::attribute_proto::AttributeType::Tensor as i32;
        let t = Some(to_tensor_proto("", &rounded(&tensor)));
        node.set_attr(pb::AttributeProto { name: "value".into(), t, r#type: kind, ..Default::default() });
    }
    Ok(())
}

/// The nearest numbers of `f16`. What is too large becomes the largest (masks), what is too small but
/// not zero the smallest (what keeps divisions from zero).
fn rounded(tensor: &Tensor) -> Tensor {
    let one = |&x: &f32| {
        let near = f16::from_f32(x.clamp(-65504.0, 65504.0));
        let near = if near == f16::ZERO && x != 0.0 { f16::from_bits(1) } else { near };
        if x.is_nan() { f16::NAN } else { near.copysign(f16::from_f32(x.signum())) }
    };
    let elements = tensor.to_vec::<f32>().unwrap_or_default();
    let bytes: Vec<u8> = elements.iter().flat_map(|x| one(x).to_le_bytes()).collect();
    Tensor { ty: TensorType::new(DType::F16, tensor.ty.shape.clone()), data: bytes.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extremes_stay_what_they_are() {
        let found = rounded(&Tensor::new([5], &[1.0f32, -1e30, 1e-12, -1e-12, 0.0]));
        let bits: Vec<u16> = found.data.chunks(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect();
        assert_eq!(bits, [0x3c00, 0xfbff, 1, 0x8001, 0]);
    }
}
