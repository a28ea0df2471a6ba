//! Models in `f16`: half the storage; inputs and outputs stay as they are.
//!
//! Every value of `f32` becomes one of `f16`. Operators that other runtimes have in `f32` only, and the
//! bodies of control flow, keep it, between casts.

use super::observe::Facts;
use super::onnx::{Node, Onnx};
use super::prepare;
use crate::base::{DType, Tensor, TensorType};
use crate::error::{Error, Result};
use crate::import::{from_tensor_proto, to_tensor_proto};
use half::f16;
use std::collections::HashSet;
use tract_onnx::pb;

const F32: i64 = DType::F32 as i64;
const F16: i64 = DType::F16 as i64;

/// Operators that stay in `f32`.
const WIDE: &[&str] = &[
    "NonMaxSuppression",
    "Range",
    "CumSum",
    "RoiAlign",
    "TopK",
    "Resize",
    "Upsample",
    "QuantizeLinear",
    "DynamicQuantizeLinear",
    "DFT",
    "STFT",
];

/// Whether a node computes in `f32`. Other runtimes scatter halves, but do not reduce them.
fn stays_wide(node: &Node) -> bool {
    let reduces = node.op().starts_with("Scatter") && !matches!(node.text("reduction", "none"), "none" | "");
    WIDE.contains(&node.op()) || reduces || node.is_classical() || node.has_bodies()
}

/// Converts a model; `known` has the types of its values.
pub fn half(onnx: &Onnx, known: &Facts) -> Result<Onnx> {
    let is_float = |name: &str| known.get(name).is_some_and(|v| v.0.dtype == DType::F32);
    let mut onnx = onnx.clone();
    prepare::simplify(&mut onnx, known);
    let mut made = onnx.clone();
    made.forget_types();
    if !onnx.initializers.iter().any(|i| i.proto.data_type == F32 as i32)
        && !onnx.nodes.iter().any(|n| n.outputs.iter().any(|o| is_float(o)))
    {
        return Err(Error::model("there is nothing to convert: no value of f32"));
    }
    let captured: HashSet<&str> = onnx.nodes.iter().flat_map(Node::captured).collect();
    let interface = |name: &str| {
        let outside = onnx.inputs.iter().chain(&onnx.outputs).any(|i| i.name == name);
        is_float(name) && (outside || captured.contains(name))
    };
    let narrow = |name: &str| if interface(name) { format!("{name}_half") } else { name.to_string() };
    let mut nodes = Vec::new();
    for initializer in made.initializers.iter_mut() {
        let name = initializer.proto.name.clone();
        if initializer.proto.data_type == F32 as i32 {
            if captured.contains(name.as_str()) {
                nodes.push(cast(&narrow(&name), &name, F32));
            }
            let tensor = onnx
                .constant(&name)
                .ok_or_else(|| Error::model(format!("initializer '{name}' cannot be read")))?;
            initializer.proto = to_tensor_proto(&narrow(&name), &rounded(&tensor));
        }
    }
    let constants: Vec<&str> = onnx.initializers.iter().map(|i| i.proto.name.as_str()).collect();
    let given = onnx.inputs.iter().filter(|i| is_float(&i.name) && !constants.contains(&i.name.as_str()));
    given.for_each(|i| nodes.push(cast(&i.name, &narrow(&i.name), F16)));
    made.inputs.retain(|i| !(is_float(&i.name) && constants.contains(&i.name.as_str())));
    for node in &onnx.nodes {
        let mut node = node.clone();
        convert_attributes(&mut node)?;
        let wide = stays_wide(&node);
        let mut after = Vec::new();
        for name in node.inputs.iter_mut().filter(|n| is_float(n)) {
            let half = narrow(name);
            *name = if wide {
                let full = made.fresh(&format!("{name}_full"));
                nodes.push(cast(&half, &full, F32));
                full
            } else {
                half
            };
        }
        for name in node.outputs.iter_mut().filter(|n| is_float(n)) {
            let half = narrow(name);
            if half != *name {
                after.push(cast(&half, name, F32));
            }
            *name = if wide {
                let full = made.fresh(&format!("{name}_full"));
                after.insert(0, cast(&full, &half, F16));
                full
            } else {
                half
            };
        }
        nodes.push(node);
        nodes.extend(after);
    }
    made.nodes = nodes;
    Ok(made)
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

    #[test]
    fn what_others_have_in_floats_only_stays() {
        let node = |op: &str| Node::new(op, "node", &["x"], &["y"]);
        assert!(stays_wide(&node("DynamicQuantizeLinear")));
        assert!(!stays_wide(&node("LSTM")));
        let mut scatter = node("ScatterElements");
        assert!(!stays_wide(&scatter));
        let (s, kind) = (b"add".to_vec(), pb::attribute_proto::AttributeType::String as i32);
        scatter.set_attr(pb::AttributeProto {
            name: "reduction".into(),
            s,
            r#type: kind,
            ..Default::default()
        });
        assert!(stays_wide(&scatter));
    }
}
