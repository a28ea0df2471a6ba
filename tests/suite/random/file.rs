//! Parts of a model file: types, tensors, attributes.

use lmc::base::{Tensor, TensorType};
use lmc::graph::Attr;
use lmc::import::encode_tensor;
use prost::Message;
use tract_onnx::pb;

/// A name with its domain.
pub fn full(domain: &str, name: &str) -> String {
    if domain.is_empty() { name.to_string() } else { format!("{domain}.{name}") }
}

pub fn tensor_proto(name: &str, tensor: &Tensor) -> pb::TensorProto {
    pb::TensorProto::decode(&*encode_tensor(name, tensor)).expect("what was encoded")
}

pub fn type_proto(ty: &TensorType) -> pb::TypeProto {
    use pb::tensor_shape_proto::{Dimension, dimension::Value};
    let dim = |&d: &usize| Dimension { value: Some(Value::DimValue(d as i64)), ..Default::default() };
    let shape = pb::TensorShapeProto { dim: ty.shape.iter().map(dim).collect() };
    let tensor = pb::type_proto::Tensor { elem_type: ty.dtype as u32 as i32, shape: Some(shape) };
    pb::TypeProto { value: Some(pb::type_proto::Value::TensorType(tensor)), ..Default::default() }
}

pub fn attribute(name: &str, attr: &Attr) -> pb::AttributeProto {
    use pb::attribute_proto::AttributeType as Type;
    let mut proto = pb::AttributeProto { name: name.to_string(), ..Default::default() };
    let kind = match attr {
        Attr::Int(i) => {
            proto.i = *i;
            Type::Int
        }
        Attr::Float(f) => {
            proto.f = *f;
            Type::Float
        }
        Attr::Str(s) => {
            proto.s = s.clone().into_bytes();
            Type::String
        }
        Attr::Ints(list) => {
            proto.ints = list.clone();
            Type::Ints
        }
        Attr::Floats(list) => {
            proto.floats = list.clone();
            Type::Floats
        }
        Attr::Strs(list) => {
            proto.strings = list.iter().map(|s| s.clone().into_bytes()).collect();
            Type::Strings
        }
        Attr::Tensor(tensor) => {
            proto.t = Some(tensor_proto("", tensor));
            Type::Tensor
        }
        Attr::Graph(_) => panic!("no recipe makes bodies"),
    };
    proto.r#type = kind as i32;
    proto
}
