//! ONNX files that are edited: what is not touched is written as it was read.
//!
//! [`Onnx`] holds the main graph's nodes and initializers as lists; all else (metadata, functions,
//! declared types, fields of newer versions of the format) stays encoded. Tensors in other files are
//! read, and written into the one file.

mod axes;
mod parts;
mod wire;

pub use axes::{along, axes, channel_axis, scaled};
pub use parts::{Initializer, Node};

use crate::base::Tensor;
use crate::error::{Error, Kind, Result};
use crate::import::{from_tensor_proto, to_tensor_proto};
use parts::malformed;
use prost::Message;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use tract_onnx::pb;
use wire::{fields, put};

/// Protobuf's own limit.
const MAX_BYTES: usize = (1 << 31) - 1;
/// Fields of a model: IR version, graph, operator sets.
const MODEL: [u32; 3] = [1, 7, 8];
/// Fields of a graph: nodes, initializers, inputs, outputs, declared types.
const GRAPH: [u32; 5] = [1, 5, 11, 12, 13];

/// A declared value: its name, and the encoded declaration.
#[derive(Clone, Debug)]
pub struct Info {
    /// Name of the value.
    pub name: String,
    raw: Vec<u8>,
}

/// A model file.
#[derive(Clone, Debug)]
pub struct Onnx {
    /// Version of the file format.
    pub ir_version: i64,
    /// Operator sets by domain; `""` is ai.onnx.
    pub opsets: BTreeMap<String, i64>,
    /// Nodes, each after those it depends on.
    pub nodes: Vec<Node>,
    /// Constants.
    pub initializers: Vec<Initializer>,
    /// Inputs; initializers may be among them.
    pub inputs: Vec<Info>,
    /// Outputs.
    pub outputs: Vec<Info>,
    declared: Vec<Info>,
    rest: Vec<u8>,
    graph_rest: Vec<u8>,
    folder: Option<PathBuf>,
    issued: HashSet<String>,
}

impl Onnx {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Onnx> {
        let place = path.display().to_string();
        let io = |e: std::io::Error| Error::new(Kind::Io, format!("cannot be read: {e}")).at(&place);
        let bytes = std::fs::read(path).map_err(io)?;
        Onnx::decode(&bytes, path.parent()).map_err(|e| e.at(&place))
    }

    /// Decodes a file; `folder` is where external data are.
    pub fn decode(bytes: &[u8], folder: Option<&Path>) -> Result<Onnx> {
        let mut model = Onnx {
            ir_version: 0,
            opsets: BTreeMap::new(),
            nodes: Vec::new(),
            initializers: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            declared: Vec::new(),
            rest: wire::others(bytes, &MODEL)?,
            graph_rest: Vec::new(),
            folder: folder.map(Path::to_path_buf),
            issued: HashSet::new(),
        };
        let known = fields(bytes)?.into_iter().filter(|f| MODEL.contains(&f.number));
        for field in known {
            match field.number {
                1 => model.ir_version = pb::ModelProto::decode(field.whole).map_err(malformed)?.ir_version,
                8 => {
                    let set = pb::OperatorSetIdProto::decode(field.payload).map_err(malformed)?;
                    let domain = if set.domain == "ai.onnx" { String::new() } else { set.domain };
                    let version = model.opsets.entry(domain).or_insert(set.version);
                    *version = set.version.max(*version);
                }
                _ => model.graph(field.payload)?,
            }
        }
        Ok(model)
    }

    fn graph(&mut self, bytes: &[u8]) -> Result<()> {
        self.graph_rest.extend(wire::others(bytes, &GRAPH)?);
        let info = |bytes: &[u8]| -> Result<Info> {
            let proto = pb::ValueInfoProto::decode(bytes).map_err(malformed)?;
            Ok(Info { name: proto.name, raw: bytes.to_vec() })
        };
        for field in fields(bytes)? {
            match field.number {
                1 => self.nodes.push(Node::decode(field.payload)?),
                5 => self.initializers.push(Initializer::decode(field.payload)?),
                11 => self.inputs.push(info(field.payload)?),
                12 => self.outputs.push(info(field.payload)?),
                13 => self.declared.push(info(field.payload)?),
                _ => {}
            }
        }
        Ok(())
    }

    /// The bytes of the file.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let mut graph = Vec::new();
        self.nodes.iter().for_each(|n| put(&mut graph, 1, &n.encode()));
        for initializer in &self.initializers {
            if initializer.proto.external_data.is_empty() {
                put(&mut graph, 5, &initializer.encode());
            } else {
                let tensor = self.decoded(&initializer.proto)?;
                put(&mut graph, 5, &to_tensor_proto(&initializer.proto.name, &tensor).encode_to_vec());
            }
        }
        let written: HashSet<&str> =
            self.nodes.iter().flat_map(|n| n.outputs.iter().map(String::as_str)).collect();
        let infos = self.declared.iter().filter(|i| written.contains(i.name.as_str())).map(|i| (13, i));
        let interface = self.inputs.iter().map(|i| (11, i)).chain(self.outputs.iter().map(|i| (12, i)));
        interface.chain(infos).for_each(|(number, info)| put(&mut graph, number, &info.raw));
        graph.extend_from_slice(&self.graph_rest);
        let mut bytes = pb::ModelProto { ir_version: self.ir_version, ..Default::default() }.encode_to_vec();
        bytes.extend_from_slice(&self.rest);
        for (domain, &version) in &self.opsets {
            let set = pb::OperatorSetIdProto { domain: domain.clone(), version };
            put(&mut bytes, 8, &set.encode_to_vec());
        }
        put(&mut bytes, 7, &graph);
        if bytes.len() > MAX_BYTES {
            return Err(Error::model(format!(
                "the result has {} bytes; ONNX files end at 2 GiB",
                bytes.len()
            ))
            .advise("Quantize the weights (--weights-only int8), so that they fit one file"));
        }
        Ok(bytes)
    }

    /// Writes the file; returns its size.
    pub fn write(&self, path: &Path) -> Result<usize> {
        let bytes = self.encode().map_err(|e| e.at(path.display().to_string()))?;
        std::fs::write(path, &bytes).map_err(|e| {
            Error::new(Kind::Io, format!("cannot be written: {e}")).at(path.display().to_string())
        })?;
        Ok(bytes.len())
    }

    fn decoded(&self, proto: &pb::TensorProto) -> Result<Tensor> {
        from_tensor_proto(proto, self.folder.as_deref())
            .map_err(|e| e.at(format!("initializer '{}'", proto.name)))
    }

    /// The constant of a name: an initializer, or the result of a Constant node.
    pub fn constant(&self, name: &str) -> Option<Tensor> {
        let proto = match self.initializers.iter().find(|i| i.proto.name == name) {
            Some(initializer) => &initializer.proto,
            None => {
                let node = self.nodes.iter().find(|n| n.op() == "Constant" && n.output() == name)?;
                node.tensor("value")?
            }
        };
        self.decoded(proto).ok()
    }

    /// The elements of a constant of `f32`, and its shape.
    pub fn floats(&self, name: &str) -> Option<(Vec<usize>, Vec<f32>)> {
        let tensor = self.constant(name)?;
        Some((tensor.ty.shape.clone(), tensor.to_vec::<f32>()?))
    }

    /// Replaces the elements of the constant of a name (see [`Onnx::constant`]), or adds an initializer.
    pub fn set_constant(&mut self, name: &str, tensor: &Tensor) {
        let proto = to_tensor_proto(name, tensor);
        let writer = self.nodes.iter_mut().find(|n| n.op() == "Constant" && n.output() == name);
        match (self.initializers.iter_mut().find(|i| i.proto.name == name), writer) {
            (Some(initializer), _) => initializer.proto = proto,
            (None, Some(node)) => node.set_tensor("value", proto),
            (None, None) => self.initializers.push(Initializer::new(proto)),
        }
    }

    /// Removes the constant of a name.
    pub fn remove_constant(&mut self, name: &str) {
        self.initializers.retain(|i| i.proto.name != name);
        self.inputs.retain(|i| i.name != name);
        self.nodes.retain(|n| n.op() != "Constant" || n.output() != name);
    }

    /// Adds a constant under a new name like `base`; returns that.
    pub fn add_constant(&mut self, base: &str, tensor: &Tensor) -> String {
        let name = self.fresh(base);
        self.initializers.push(Initializer::new(to_tensor_proto(&name, tensor)));
        name
    }

    /// Adds a constant under the name that it has.
    pub fn add_initializer(&mut self, proto: pb::TensorProto) {
        self.initializers.push(Initializer::new(proto));
    }

    /// A name that nothing has, made of `base`.
    pub fn fresh(&mut self, base: &str) -> String {
        let taken = |name: &str| {
            let captured = |n: &Node| n.captured().contains(name);
            self.issued.contains(name)
                || self.initializers.iter().any(|i| i.proto.name == name)
                || self.inputs.iter().any(|i| i.name == name)
                || self.nodes.iter().any(|n| n.outputs.iter().any(|o| o == name) || captured(n))
        };
        let mut name = base.to_string();
        let mut count = 1;
        while taken(&name) {
            count += 1;
            name = format!("{base}_{count}");
        }
        self.issued.insert(name.clone());
        name
    }

    /// Keeps the names of all values from being issued, whatever becomes of their nodes.
    pub fn reserve_names(&mut self) {
        let written: Vec<String> = self.nodes.iter().flat_map(|n| n.outputs.iter().cloned()).collect();
        let inner = self.nodes.iter().flat_map(Node::captured).map(str::to_string).collect::<Vec<_>>();
        self.issued.extend(written.into_iter().chain(inner));
    }

    /// Forgets the declared types of values between nodes, which are optional.
    pub fn forget_types(&mut self) {
        self.declared.clear();
    }

    /// By value, the nodes that read it; once more per subgraph or output of the graph that does
    /// (then `usize::MAX`).
    pub fn readers(&self) -> HashMap<String, Vec<usize>> {
        let mut readers: HashMap<String, Vec<usize>> = HashMap::new();
        for (i, node) in self.nodes.iter().enumerate() {
            for name in node.inputs.iter().filter(|n| !n.is_empty()) {
                readers.entry(name.clone()).or_default().push(i);
            }
            for name in node.captured() {
                readers.entry(name.to_string()).or_default().push(usize::MAX);
            }
        }
        for output in &self.outputs {
            readers.entry(output.name.clone()).or_default().push(usize::MAX);
        }
        readers
    }

    /// By value, the node that writes it.
    pub fn writers(&self) -> HashMap<String, usize> {
        let outputs =
            |(i, n): (usize, &Node)| n.outputs.iter().map(move |o| (o.clone(), i)).collect::<Vec<_>>();
        self.nodes.iter().enumerate().flat_map(outputs).filter(|(o, _)| !o.is_empty()).collect()
    }

    /// Removes constants that nothing reads any more (of those in `candidates`).
    pub fn drop_unread(&mut self, candidates: &BTreeSet<String>) {
        let readers = self.readers();
        let dead = |name: &str| candidates.contains(name) && !readers.contains_key(name);
        self.initializers.retain(|i| !dead(&i.proto.name));
        self.inputs.retain(|i| !dead(&i.name));
        self.nodes.retain(|n| n.op() != "Constant" || !dead(n.output()));
    }

    /// The opset of ai.onnx.
    pub fn opset(&self) -> i64 {
        self.opsets.get("").copied().unwrap_or(1)
    }
}
