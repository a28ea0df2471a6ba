//! ONNX models made in tests.

use lmc::base::Tensor;
use tract_onnx::pb;

fn tensor_type(elem_type: i32, dims: &[i64]) -> Option<pb::TypeProto> {
    use pb::tensor_shape_proto::{Dimension, dimension::Value};
    let dim = |&d: &i64| match d {
        -2 => Dimension { value: Some(Value::DimParam("batch".to_string())), ..Default::default() },
        -1 => Dimension { value: Some(Value::DimParam("length".to_string())), ..Default::default() },
        d => Dimension { value: Some(Value::DimValue(d)), ..Default::default() },
    };
    let shape = Some(pb::TensorShapeProto { dim: dims.iter().map(dim).collect() });
    let tensor = pb::type_proto::Tensor { elem_type, shape };
    Some(pb::TypeProto { value: Some(pb::type_proto::Value::TensorType(tensor)), ..Default::default() })
}

/// A declared value.
pub fn value(name: &str, elem_type: i32, dims: &[i64]) -> pb::ValueInfoProto {
    pb::ValueInfoProto { name: name.to_string(), r#type: tensor_type(elem_type, dims), ..Default::default() }
}

/// A node named after its operator.
pub fn node(op: &str, inputs: &[&str], output: &str) -> pb::NodeProto {
    pb::NodeProto {
        op_type: op.to_string(),
        name: format!("the {op}"),
        input: inputs.iter().map(|i| i.to_string()).collect(),
        output: vec![output.to_string()],
        ..Default::default()
    }
}

/// A node with attributes.
pub fn with<const N: usize>(node: pb::NodeProto, attributes: [pb::AttributeProto; N]) -> pb::NodeProto {
    pb::NodeProto { attribute: attributes.to_vec(), ..node }
}

/// A model of opset 13 with one input `x` and one output `y`, of the given shapes.
pub fn model(
    nodes: Vec<pb::NodeProto>,
    x: &[i64],
    y: &[i64],
    constants: &[(&str, Tensor)],
) -> pb::ModelProto {
    let graph = pb::GraphProto {
        name: "g".to_string(),
        node: nodes,
        input: vec![value("x", 1, x)],
        output: vec![value("y", 1, y)],
        initializer: constants.iter().map(|(n, t)| lmc::import::to_tensor_proto(n, t)).collect(),
        ..Default::default()
    };
    pb::ModelProto {
        ir_version: 8,
        opset_import: vec![pb::OperatorSetIdProto { domain: String::new(), version: 13 }],
        graph: Some(graph),
        ..Default::default()
    }
}

/// An attribute of integers.
pub fn ints(name: &str, values: &[i64]) -> pb::AttributeProto {
    let kind = pb::attribute_proto::AttributeType::Ints as i32;
    pb::AttributeProto { name: name.into(), ints: values.to_vec(), r#type: kind, ..Default::default() }
}

/// An integer attribute.
pub fn int(name: &str, i: i64) -> pb::AttributeProto {
    let kind = pb::attribute_proto::AttributeType::Int as i32;
    pb::AttributeProto { name: name.into(), i, r#type: kind, ..Default::default() }
}

/// An attribute of a number.
pub fn float(name: &str, f: f32) -> pb::AttributeProto {
    let kind = pb::attribute_proto::AttributeType::Float as i32;
    pb::AttributeProto { name: name.to_string(), r#type: kind, f, ..Default::default() }
}

/// An attribute that is text.
pub fn text(name: &str, s: &str) -> pb::AttributeProto {
    let mut attribute = pb::AttributeProto { name: name.to_string(), s: s.into(), ..Default::default() };
    attribute.set_type(pb::attribute_proto::AttributeType::String);
    attribute
}

/// An attribute that is a graph.
pub fn body(name: &str, graph: pb::GraphProto) -> pb::AttributeProto {
    let kind = pb::attribute_proto::AttributeType::Graph as i32;
    pb::AttributeProto { name: name.into(), g: Some(graph), r#type: kind, ..Default::default() }
}
