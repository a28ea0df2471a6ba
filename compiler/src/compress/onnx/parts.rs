//! The parts of a graph that are edited: nodes and initializers, with the fields of newer files.

use super::wire::{others, put};
use crate::error::{Error, Result};
use prost::Message;
use std::collections::BTreeSet;
use tract_onnx::pb;

/// Numbers of the fields of nodes: inputs, outputs, and those that the protobuf types know.
const INPUT: u32 = 1;
const OUTPUT: u32 = 2;
const NODE: &[u32] = &[1, 2, 3, 4, 5, 6, 7];
const TENSOR: &[u32] = &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14];

pub(super) fn malformed(error: prost::DecodeError) -> Error {
    Error::model(format!("not an ONNX model, or cut off: {error}"))
}

/// A node.
#[derive(Clone, Debug)]
pub struct Node {
    /// Names of the values read; empty for an omitted optional input.
    pub inputs: Vec<String>,
    /// Names of the values written; empty for an omitted optional output.
    pub outputs: Vec<String>,
    proto: pb::NodeProto,
    /// All of the file's node but inputs and outputs, while that is unchanged.
    raw: Option<Vec<u8>>,
    /// Fields that the protobuf types do not know.
    unknown: Vec<u8>,
}

impl Node {
    /// A node of ai.onnx without attributes.
    pub fn new(op: &str, name: &str, inputs: &[&str], outputs: &[&str]) -> Node {
        let texts = |list: &[&str]| list.iter().map(|s| s.to_string()).collect();
        let proto = pb::NodeProto { op_type: op.into(), name: name.into(), ..Default::default() };
        Node { inputs: texts(inputs), outputs: texts(outputs), proto, raw: None, unknown: Vec::new() }
    }

    /// A node of a body.
    pub fn of(proto: &pb::NodeProto) -> Node {
        let mut proto = proto.clone();
        let (inputs, outputs) = (std::mem::take(&mut proto.input), std::mem::take(&mut proto.output));
        Node { inputs, outputs, proto, raw: None, unknown: Vec::new() }
    }

    /// As a node of a body.
    pub fn into_proto(self) -> pb::NodeProto {
        pb::NodeProto { input: self.inputs, output: self.outputs, ..self.proto }
    }

    /// Its bodies.
    pub fn bodies(&self) -> impl Iterator<Item = &pb::GraphProto> {
        self.proto.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs))
    }

    /// Its bodies; the node is encoded anew.
    pub fn bodies_mut(&mut self) -> impl Iterator<Item = &mut pb::GraphProto> {
        self.raw = None;
        self.proto.attribute.iter_mut().flat_map(|a| a.g.iter_mut().chain(&mut a.graphs))
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Node> {
        let mut proto = pb::NodeProto::decode(bytes).map_err(malformed)?;
        Ok(Node {
            inputs: std::mem::take(&mut proto.input),
            outputs: std::mem::take(&mut proto.output),
            proto,
            raw: Some(others(bytes, &[INPUT, OUTPUT])?),
            unknown: others(bytes, NODE)?,
        })
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.inputs.iter().for_each(|n| put(&mut out, INPUT, n.as_bytes()));
        self.outputs.iter().for_each(|n| put(&mut out, OUTPUT, n.as_bytes()));
        match &self.raw {
            Some(raw) => out.extend_from_slice(raw),
            None => {
                out.extend(self.proto.encode_to_vec());
                out.extend_from_slice(&self.unknown);
            }
        }
        out
    }

    /// The operator, of ai.onnx; empty for those of other domains.
    pub fn op(&self) -> &str {
        if matches!(self.proto.domain.as_str(), "" | "ai.onnx") { &self.proto.op_type } else { "" }
    }

    /// Its name; its first output's where it has none.
    pub fn name(&self) -> &str {
        match self.proto.name.as_str() {
            "" => self.outputs.iter().find(|o| !o.is_empty()).map_or("", String::as_str),
            name => name,
        }
    }

    /// How errors name the node.
    pub fn place(&self) -> String {
        format!("node '{}' ({})", self.name(), self.proto.op_type)
    }

    /// Input `i`; `None` where it is omitted.
    pub fn input(&self, i: usize) -> Option<&str> {
        self.inputs.get(i).map(String::as_str).filter(|n| !n.is_empty())
    }

    /// The first output.
    pub fn output(&self) -> &str {
        self.outputs.first().map_or("", String::as_str)
    }

    /// Puts an input, which may lie past those there are.
    pub fn set_input(&mut self, i: usize, name: impl Into<String>) {
        if self.inputs.len() <= i {
            self.inputs.resize(i + 1, String::new());
        }
        self.inputs[i] = name.into();
    }

    /// An attribute.
    pub fn attr(&self, name: &str) -> Option<&pb::AttributeProto> {
        self.proto.attribute.iter().find(|a| a.name == name)
    }

    /// An integer attribute, or its default.
    pub fn int(&self, name: &str, default: i64) -> i64 {
        self.attr(name).map_or(default, |a| a.i)
    }

    /// A float attribute, or its default.
    pub fn float(&self, name: &str, default: f32) -> f32 {
        self.attr(name).map_or(default, |a| a.f)
    }

    /// A list of integers; empty where the node has none.
    pub fn ints(&self, name: &str) -> &[i64] {
        self.attr(name).map_or(&[], |a| &a.ints)
    }

    /// A text attribute, or its default.
    pub fn text<'a>(&'a self, name: &str, default: &'a str) -> &'a str {
        self.attr(name).and_then(|a| std::str::from_utf8(&a.s).ok()).unwrap_or(default)
    }

    /// Sets an attribute; the node is encoded anew.
    pub fn set_attr(&mut self, attr: pb::AttributeProto) {
        self.raw = None;
        self.proto.attribute.retain(|a| a.name != attr.name);
        self.proto.attribute.push(attr);
    }

    /// Sets an integer attribute.
    pub fn set_int(&mut self, name: &str, value: i64) {
        let kind = pb::attribute_proto::AttributeType::Int as i32;
        self.set_attr(pb::AttributeProto { name: name.into(), i: value, r#type: kind, ..Default::default() });
    }

    /// Sets an attribute that is a list of integers.
    pub fn set_ints(&mut self, name: &str, values: &[i64]) {
        let kind = pb::attribute_proto::AttributeType::Ints as i32;
        let ints = values.to_vec();
        self.set_attr(pb::AttributeProto { name: name.into(), ints, r#type: kind, ..Default::default() });
    }

    /// Sets a tensor attribute.
    pub fn set_tensor(&mut self, name: &str, value: pb::TensorProto) {
        let kind = pb::attribute_proto::AttributeType::Tensor as i32;
        self.set_attr(pb::AttributeProto {
            name: name.into(),
            t: Some(value),
            r#type: kind,
            ..Default::default()
        });
    }

    /// Sets a text attribute.
    pub fn set_text(&mut self, name: &str, value: &str) {
        let kind = pb::attribute_proto::AttributeType::String as i32;
        let s = value.as_bytes().to_vec();
        self.set_attr(pb::AttributeProto { name: name.into(), s, r#type: kind, ..Default::default() });
    }

    /// Removes an attribute.
    pub fn remove_attr(&mut self, name: &str) {
        if self.attr(name).is_none() {
            return;
        }
        self.raw = None;
        self.proto.attribute.retain(|a| a.name != name);
    }

    /// Whether it is an operator of ai.onnx.ml (trees, linear models, scalers).
    pub fn is_classical(&self) -> bool {
        self.proto.domain == "ai.onnx.ml"
    }

    /// Whether it is an operator of com.microsoft.
    pub fn is_contrib(&self) -> bool {
        self.proto.domain == "com.microsoft"
    }

    /// Makes it an operator of com.microsoft.
    pub fn set_contrib(&mut self, op: &str) {
        self.set_op(op);
        self.proto.domain = "com.microsoft".into();
    }

    /// The operator, whatever its domain.
    pub fn operator(&self) -> &str {
        &self.proto.op_type
    }

    /// Makes it another operator of the same domain.
    pub fn set_op(&mut self, op: &str) {
        self.raw = None;
        self.proto.op_type = op.into();
    }

    /// The tensor in an attribute.
    pub fn tensor(&self, name: &str) -> Option<&pb::TensorProto> {
        self.attr(name)?.t.as_ref()
    }

    /// Whether it has subgraphs.
    pub fn has_bodies(&self) -> bool {
        self.bodies().next().is_some()
    }

    /// Names that its subgraphs may take from outside.
    pub fn captured(&self) -> BTreeSet<&str> {
        fn walk<'a>(attributes: &'a [pb::AttributeProto], names: &mut BTreeSet<&'a str>) {
            for graph in attributes.iter().flat_map(|a| a.g.iter().chain(&a.graphs)) {
                names.extend(graph.output.iter().map(|o| o.name.as_str()));
                for node in &graph.node {
                    names.extend(node.input.iter().map(String::as_str));
                    walk(&node.attribute, names);
                }
            }
        }
        let mut names = BTreeSet::new();
        walk(&self.proto.attribute, &mut names);
        names
    }
}

/// An initializer.
#[derive(Clone, Debug)]
pub struct Initializer {
    /// The tensor.
    pub proto: pb::TensorProto,
    unknown: Vec<u8>,
}

impl Initializer {
    pub(super) fn new(proto: pb::TensorProto) -> Initializer {
        Initializer { proto, unknown: Vec::new() }
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Initializer> {
        let proto = pb::TensorProto::decode(bytes).map_err(malformed)?;
        Ok(Initializer { proto, unknown: others(bytes, TENSOR)? })
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = self.proto.encode_to_vec();
        out.extend_from_slice(&self.unknown);
        out
    }
}
