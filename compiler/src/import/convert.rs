//! Graphs of the file to [`Body`]: tensors, declared types, nodes, subgraphs.

use super::external::Folder;
use super::functions::{Extras, Functions, Names};
use super::limits::{MAX_CONSTANT_BYTES, MAX_DEPTH, MAX_NODES, canonical_domain, opset_of};
use super::words::{STRING, UNKNOWN, Words, strings};
use super::{Body, Declared, Dim, SourceNode, attrs, order, signature, tensor};
use crate::base::{DType, Tensor};
use crate::error::{Error, Result};
use std::collections::{BTreeMap, HashMap, HashSet};
use tract_onnx::pb;

/// Attributes by name, as a function's body sees those of its call.
pub(super) type CallAttrs = HashMap<String, pb::AttributeProto>;

/// The last of the constants of each name: quantizers write a bias that nodes share once for each of them,
/// and ONNX Runtime takes the last.
fn latest(mut constants: Vec<(String, Tensor)>) -> Vec<(String, Tensor)> {
    let last: HashMap<String, usize> = constants.iter().enumerate().map(|(i, c)| (c.0.clone(), i)).collect();
    let mut index = 0;
    constants.retain(|c| {
        index += 1;
        last[&c.0] == index - 1
    });
    constants
}

/// What surrounds the nodes being converted.
#[derive(Clone, Copy)]
pub(super) struct Frame<'a> {
    /// Operator sets in force.
    pub imports: &'a [pb::OperatorSetIdProto],
    /// Names inside a function's body; `None` outside of functions.
    pub names: Option<&'a Names>,
    /// Attributes of the call of the function.
    pub call: Option<&'a CallAttrs>,
    /// Nesting of functions and subgraphs.
    pub depth: usize,
}

impl Frame<'_> {
    pub(super) fn name(&self, name: &str) -> String {
        self.names.map_or_else(|| name.to_string(), |n| n.get(name))
    }

    /// One level further in; an error past the limit.
    pub(super) fn deeper(&self) -> Result<Self> {
        match self.depth + 1 {
            depth if depth <= MAX_DEPTH => Ok(Frame { depth, ..*self }),
            _ => Err(Error::model(format!("subgraphs or functions are nested more than {MAX_DEPTH} deep"))),
        }
    }
}

/// Converts one model; counts what it makes against the limits.
pub(super) struct Converter<'a> {
    pub(super) folder: Folder,
    pub(super) functions: Functions<'a>,
    imports: &'a [pb::OperatorSetIdProto],
    pub(super) prefixes: HashSet<String>,
    pub(super) words: Words,
    /// Constant nodes that hold strings, in the bodies being converted.
    string_constants: Vec<(String, Tensor)>,
    nodes: usize,
    constant_bytes: usize,
}

impl<'a> Converter<'a> {
    pub(super) fn new(folder: Folder, proto: &'a pb::ModelProto, extras: Extras) -> Result<Self> {
        Ok(Converter {
            folder,
            functions: Functions::new(&proto.functions, extras)?,
            imports: &proto.opset_import,
            prefixes: HashSet::new(),
            words: Words::default(),
            string_constants: Vec::new(),
            nodes: 0,
            constant_bytes: 0,
        })
    }

    /// The main graph.
    pub(super) fn model_body(&mut self, graph: &pb::GraphProto) -> Result<Body> {
        let frame = Frame { imports: self.imports, names: None, call: None, depth: 0 };
        self.body(graph, &frame)
    }

    fn count_constant(&mut self, tensor: &Tensor) -> Result<()> {
        self.constant_bytes += tensor.data.len();
        if self.constant_bytes > MAX_CONSTANT_BYTES {
            return Err(Error::model(format!("the constants exceed {MAX_CONSTANT_BYTES} bytes")));
        }
        Ok(())
    }

    pub(super) fn count_node(&mut self) -> Result<()> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(Error::model(format!("the model has more than {MAX_NODES} nodes")));
        }
        Ok(())
    }

    fn constants(&mut self, graph: &pb::GraphProto, frame: &Frame) -> Result<Vec<(String, Tensor)>> {
        let mut constants = Vec::new();
        for proto in graph.initializer.iter().filter(|p| p.data_type != STRING) {
            let tensor = tensor::from_proto(proto, &self.folder)
                .map_err(|e| e.at(format!("initializer '{}'", proto.name)))?;
            self.count_constant(&tensor)?;
            constants.push((frame.name(&proto.name), tensor));
        }
        for proto in &graph.sparse_initializer {
            let (name, tensor) =
                tensor::from_sparse(proto, &self.folder).map_err(|e| e.at("sparse initializer"))?;
            self.count_constant(&tensor)?;
            constants.push((frame.name(&name), tensor));
        }
        Ok(latest(constants))
    }

    /// A tensor of strings, whose words are numbered from now on.
    fn string_tensor(&mut self, proto: &pb::TensorProto) -> Result<Tensor> {
        self.words.add_all(&strings(proto));
        let tensor = self.words.tensor(proto)?;
        self.count_constant(&tensor)?;
        Ok(tensor)
    }

    /// A graph or subgraph.
    pub(super) fn body(&mut self, graph: &pb::GraphProto, frame: &Frame) -> Result<Body> {
        let constants = self.constants(graph, frame)?;
        let outer = self.string_constants.len();
        for proto in graph.initializer.iter().filter(|p| p.data_type == STRING) {
            let place = |e: Error| e.at(format!("initializer '{}'", proto.name));
            let tensor = self.string_tensor(proto).map_err(place)?;
            self.string_constants.push((frame.name(&proto.name), tensor));
        }
        let known: HashSet<String> =
            constants.iter().chain(&self.string_constants[outer..]).map(|c| c.0.clone()).collect();
        let declare = |infos: &[pb::ValueInfoProto]| -> Result<Vec<Declared>> {
            infos.iter().map(|info| declared(info, frame)).collect()
        };
        let mut inputs = declare(&graph.input)?;
        inputs.retain(|i| !known.contains(i.name.as_str()));
        let outputs = declare(&graph.output)?;
        let declared: BTreeMap<String, Declared> =
            declare(&graph.value_info)?.into_iter().map(|d| (d.name.clone(), d)).collect();
        let mut nodes = Vec::new();
        self.nodes(&graph.node, frame, &mut nodes)?;
        let words = self.string_constants.split_off(outer);
        order::check_names(&inputs, constants.iter().chain(&words), &nodes)?;
        let nodes = order::sorted(nodes)?;
        Ok(Body { name: graph.name.clone(), inputs, outputs, declared, constants, words, nodes })
    }

    /// Converts nodes in the order of the file; calls of functions are expanded.
    pub(super) fn nodes(
        &mut self,
        protos: &[pb::NodeProto],
        frame: &Frame,
        out: &mut Vec<SourceNode>,
    ) -> Result<()> {
        for proto in protos {
            self.count_node()?;
            let first_output = proto.output.iter().find(|o| !o.is_empty());
            let plain = [Some(&proto.name), first_output].into_iter().flatten().find(|n| !n.is_empty());
            let name = frame.name(plain.unwrap_or(&proto.op_type));
            let place = format!("node '{name}' ({})", proto.op_type);
            self.node(proto, name, frame, out).map_err(|e| e.at(place))?;
        }
        Ok(())
    }

    fn node(
        &mut self,
        proto: &pb::NodeProto,
        name: String,
        frame: &Frame,
        out: &mut Vec<SourceNode>,
    ) -> Result<()> {
        let domain = canonical_domain(&proto.domain);
        let attributes = resolve(&proto.attribute, frame)?;
        if let Some(function) = self.functions.find(domain, &proto.op_type)? {
            return self.call(function, proto, &name, attributes, frame, out);
        }
        let mut node = SourceNode {
            domain: domain.to_string(),
            op: proto.op_type.clone(),
            opset: self.opset(proto, domain, &attributes, frame)?,
            name,
            attrs: Default::default(),
            bodies: BTreeMap::new(),
            inputs: proto.input.iter().map(|n| frame.name(n)).collect(),
            outputs: proto.output.iter().map(|n| frame.name(n)).collect(),
        };
        if self.string_constant(&node, &attributes)? {
            return Ok(());
        }
        for attr in &attributes {
            let at = |e: Error| e.at(format!("attribute {}", attr.name));
            if let (pb::attribute_proto::AttributeType::Graph, Some(graph)) =
                (attrs::kind(attr).map_err(at)?, &attr.g)
            {
                let body = frame.deeper().and_then(|inner| self.body(graph, &inner)).map_err(at)?;
                node.bodies.insert(attr.name.clone(), body);
            } else if let Some(tensor) = attr.t.as_ref().filter(|t| t.data_type == STRING) {
                let list = strings(tensor);
                self.words.add_all(&list);
                node.attrs.set(&attr.name.replace("tensor", "strings"), crate::graph::Attr::Strs(list));
            } else if let Some(value) = attrs::convert(attr, &self.folder).map_err(at)? {
                if let crate::graph::Attr::Tensor(t) = &value {
                    self.count_constant(t)?;
                }
                node.attrs.set(&attr.name, value);
            }
        }
        self.number_labels(&node);
        out.push(node);
        Ok(())
    }

    /// The version of its domain that a node is read by. Within a function it is the function's; nodes that are
    /// not defined there but by the model's version are taken to be of that, by which ONNX Runtime reads them all.
    fn opset(
        &self,
        proto: &pb::NodeProto,
        domain: &str,
        attributes: &[pb::AttributeProto],
        frame: &Frame,
    ) -> Result<i64> {
        let version = |imports| opset_of(imports, domain).unwrap_or(1);
        let (here, outside) = (version(frame.imports), version(self.imports));
        match signature::check(proto, domain, here, attributes) {
            Ok(()) => Ok(here),
            Err(_) if signature::check(proto, domain, outside, attributes).is_ok() => Ok(outside),
            Err(error) => Err(error),
        }
    }

    /// Whether the node is a Constant of strings, which is then one of the body's constants.
    fn string_constant(&mut self, node: &SourceNode, attributes: &[pb::AttributeProto]) -> Result<bool> {
        let ("", "Constant", [name], [attr]) =
            (node.domain.as_str(), node.op.as_str(), &node.outputs[..], attributes)
        else {
            return Ok(false);
        };
        let proto = |dims: &[i64], string_data: &[Vec<u8>]| pb::TensorProto {
            dims: dims.to_vec(),
            string_data: string_data.to_vec(),
            ..Default::default()
        };
        let tensor = match attr.name.as_str() {
            "value_string" => proto(&[], std::slice::from_ref(&attr.s)),
            "value_strings" => proto(&[attr.strings.len() as i64], &attr.strings),
            _ => match &attr.t {
                Some(tensor) if tensor.data_type == STRING => tensor.clone(),
                _ => return Ok(false),
            },
        };
        let tensor = self.string_tensor(&tensor)?;
        self.string_constants.push((name.clone(), tensor));
        Ok(true)
    }

    /// Numbers the strings that the node's attributes map to or from or look for, in the order of the labels.
    fn number_labels(&mut self, node: &SourceNode) {
        use crate::graph::Attr::{Str, Strs};
        for name in LISTS {
            if let Some(Strs(list)) = node.attrs.0.get(name) {
                self.words.add_all(list);
            }
        }
        if node.attrs.0.contains_key("values_strings") {
            let default = match node.attrs.0.get("default_string") {
                Some(Str(word)) => word.clone(),
                _ => UNKNOWN.to_string(),
            };
            self.words.add_all([&default]);
        }
    }
}

/// Attributes that are lists of words.
const LISTS: [&str; 6] = [
    "classlabels_strings",
    "values_strings",
    "keys_strings",
    "default_strings",
    "cats_strings",
    "pool_strings",
];

/// The attributes with references to those of the calling node replaced.
fn resolve(attributes: &[pb::AttributeProto], frame: &Frame) -> Result<Vec<pb::AttributeProto>> {
    let mut resolved = Vec::with_capacity(attributes.len());
    for attr in attributes {
        if attr.ref_attr_name.is_empty() {
            resolved.push(attr.clone());
            continue;
        }
        let Some(call) = frame.call else {
            return Err(Error::model(format!(
                "attribute {} refers to an attribute of a function, but the node is in none",
                attr.name
            )));
        };
        if let Some(given) = call.get(&attr.ref_attr_name) {
            resolved.push(pb::AttributeProto { name: attr.name.clone(), ..given.clone() });
        }
    }
    Ok(resolved)
}

/// What the file declares about a value.
fn declared(info: &pb::ValueInfoProto, frame: &Frame) -> Result<Declared> {
    let at = |e: Error| e.at(format!("value '{}'", info.name));
    let tensor = match info.r#type.as_ref().map(|t| &t.value) {
        Some(Some(pb::type_proto::Value::TensorType(tensor))) => Some(tensor),
        _ => None,
    };
    let mut declared = Declared {
        name: frame.name(&info.name),
        dtype: None,
        dims: None,
        is_tensor: tensor.is_some() || info.r#type.is_none(),
        words: tensor.is_some_and(|t| t.elem_type == STRING),
    };
    if let Some(tensor) = tensor {
        declared.dtype = match tensor.elem_type {
            0 => None,
            STRING => Some(DType::I64),
            n => Some(tensor::dtype(n).map_err(at)?),
        };
        declared.dims = tensor.shape.as_ref().map(|s| s.dim.iter().map(dim).collect());
    }
    Ok(declared)
}

fn dim(dim: &pb::tensor_shape_proto::Dimension) -> Dim {
    use pb::tensor_shape_proto::dimension::Value;
    match &dim.value {
        Some(Value::DimValue(n)) => usize::try_from(*n).map_or(Dim::Free(None), Dim::Fixed),
        Some(Value::DimParam(name)) if !name.is_empty() && name != "?" => Dim::Free(Some(name.clone())),
        _ => Dim::Free(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_one_name_the_last_constant() {
        let named = |name: &str, value: i32| (name.to_string(), Tensor::scalar(value));
        let kept = latest(vec![named("bias", 1), named("scale", 2), named("bias", 3)]);
        assert_eq!(kept, [named("scale", 2), named("bias", 3)]);
    }
}
