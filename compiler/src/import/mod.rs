//! Reads ONNX files: the only place where untrusted bytes become typed data.
//!
//! `tract-onnx` lends its protobuf types; nothing else of it is used. What comes out is a
//! [`Model`]: nodes in execution order, constants decoded, model-local functions expanded, names
//! resolvable and unique. Whatever is malformed is an [`Error`] that names the file, the node or
//! tensor, the reason and what to do; sizes are capped before memory is asked for.

mod attrs;
mod bind;
mod calls;
mod convert;
mod external;
mod functions;
mod limits;
mod lists;
mod named;
mod order;
mod signature;
mod tensor;
mod words;

pub use bind::{Bindings, Sum};
pub use limits::MAX_OPSET;
pub(crate) use order::reads;
pub use tensor::{decode_tensor, decode_tensor_of, encode_tensor, from_tensor_proto, to_tensor_proto};
pub use words::{UNKNOWN, Words};

use crate::base::{DType, Tensor};
use crate::error::{Error, FILE_ADVICE, Kind, Result};
use crate::graph::Attrs;
use external::Folder;
use prost::Message;
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use tract_onnx::pb;

/// A decoded model.
#[derive(Clone, Debug)]
pub struct Model {
    /// The graph that runs.
    pub body: Body,
    /// Opset of the domain `ai.onnx`.
    pub opset: i64,
    /// The tool that wrote the file; may be empty.
    pub producer: String,
    /// Files of external data that were read.
    pub files: Vec<PathBuf>,
    /// The strings of its constants, for which their numbers stand.
    pub words: Words,
}

/// A decoded graph or subgraph. Values are still names.
#[derive(Clone, Debug, Default)]
pub struct Body {
    /// Name of the graph.
    pub name: String,
    /// Inputs that are not initializers.
    pub inputs: Vec<Declared>,
    /// Outputs.
    pub outputs: Vec<Declared>,
    /// Types of intermediate values that the file states.
    pub declared: BTreeMap<String, Declared>,
    /// Initializers, dense.
    pub constants: Vec<(String, Tensor)>,
    /// Constants that were strings: tensors of the numbers of words.
    pub words: Vec<(String, Tensor)>,
    /// Nodes, each after those it depends on.
    pub nodes: Vec<SourceNode>,
}

impl Body {
    /// Whether a node, of this graph or of the bodies within it, writes a value of this name.
    pub fn computes(&self, name: &str) -> bool {
        let writes = |n: &SourceNode| n.outputs.iter().any(|o| o == name);
        self.nodes.iter().any(|n| writes(n) || n.bodies.values().any(|body| body.computes(name)))
    }

    /// The names of what nodes write, of this graph and of the bodies within it.
    pub fn names(&self) -> HashSet<String> {
        let within = self.nodes.iter().flat_map(|n| n.bodies.values()).flat_map(Body::names);
        self.nodes.iter().flat_map(|n| n.outputs.iter().cloned()).chain(within).collect()
    }
}

/// What the file says about the type of a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Declared {
    /// Name of the value.
    pub name: String,
    /// Element type; `None` where the file does not state one.
    pub dtype: Option<DType>,
    /// Dimensions; `None` where the file states no shape.
    pub dims: Option<Vec<Dim>>,
    /// False where the value is a sequence, map, optional or sparse tensor.
    pub is_tensor: bool,
    /// Whether the elements are strings; `dtype` is that of their numbers.
    pub words: bool,
}

/// A declared dimension.
#[derive(Clone, Debug, PartialEq)]
pub enum Dim {
    /// Known.
    Fixed(usize),
    /// Free: its name, where it has one.
    Free(Option<String>),
}

impl Declared {
    /// A tensor of which nothing is declared.
    pub fn plain(name: &str) -> Declared {
        Declared { name: name.into(), dtype: None, dims: None, is_tensor: true, words: false }
    }
}

/// A node as the file has it.
#[derive(Clone, Debug)]
pub struct SourceNode {
    /// Operator domain; `""` is ai.onnx.
    pub domain: String,
    /// Operator name.
    pub op: String,
    /// Opset version that the model imports for the domain.
    pub opset: i64,
    /// Name of the node; its first output's where it has none.
    pub name: String,
    /// Attributes but for graphs.
    pub attrs: Attrs,
    /// Attributes that are graphs.
    pub bodies: BTreeMap<String, Body>,
    /// Names of the values read; empty for an omitted optional input.
    pub inputs: Vec<String>,
    /// Names of the values written; empty for an omitted optional output.
    pub outputs: Vec<String>,
}

impl SourceNode {
    /// A node of ai.onnx without attributes, named as its output.
    pub fn plain(op: &str, opset: i64, inputs: &[&str], output: &str) -> SourceNode {
        SourceNode {
            domain: String::new(),
            op: op.into(),
            opset,
            name: output.into(),
            attrs: Attrs::default(),
            bodies: BTreeMap::new(),
            inputs: inputs.iter().map(|&i| i.into()).collect(),
            outputs: vec![output.into()],
        }
    }

    /// How errors name the node.
    pub fn place(&self) -> String {
        format!("node '{}' ({})", self.name, self.op)
    }
}

/// Reads a model file; external data is looked for in its folder.
pub fn read(path: &Path) -> Result<Model> {
    let place = path.display().to_string();
    let unread = |e: std::io::Error| Error::new(Kind::Io, format!("cannot be read: {e}")).at(&place);
    let file = File::open(path).map_err(unread)?;
    let about = file.metadata().map_err(unread)?;
    if about.is_dir() {
        return Err(Error::new(Kind::Io, "is a folder").advise("Name the .onnx file in it").at(&place));
    }
    let mut bytes = Vec::new();
    if about.len() <= limits::MAX_FILE_BYTES {
        bytes.reserve(about.len() as usize);
        // What is no file (a pipe, a device) does not say how long it is.
        file.take(limits::MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(unread)?;
    }
    let size = about.len().max(bytes.len() as u64);
    if size > limits::MAX_FILE_BYTES {
        return Err(Error::model(format!("the file has {size} bytes or more; ONNX files end at 2 GiB"))
            .advise("Save the weights as external data")
            .at(&place));
    }
    let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
    decode(&bytes, Some(&folder)).map_err(|e| e.at(&place))
}

/// Decodes a model from memory. `folder` is where external data may be read from, if anywhere.
pub fn decode(bytes: &[u8], folder: Option<&Path>) -> Result<Model> {
    decoded(bytes, folder).map_err(|e| e.or_advise(FILE_ADVICE))
}

fn decoded(bytes: &[u8], folder: Option<&Path>) -> Result<Model> {
    if bytes.is_empty() {
        return Err(Error::model("the file is empty").advise("Export or download the model again"));
    }
    if let Some(format) = limits::foreign_format(bytes) {
        return Err(Error::model(format!("this is {format}, not an ONNX model"))
            .advise("Convert it to ONNX first (torch.onnx, tf2onnx, tflite2onnx)"));
    }
    let proto = pb::ModelProto::decode(bytes).map_err(|e| {
        Error::model(format!("not an ONNX model, or cut off: {e}"))
            .advise("Check the file with onnx.checker, or download it again")
    })?;
    let extras = functions::Extras::decode(bytes)
        .map_err(|e| Error::model(format!("its local functions cannot be decoded: {e}")))?;
    let graph = limits::check_model(&proto)?;
    let opset = limits::opset_of(&proto.opset_import, "").unwrap_or(1);
    let mut converter = convert::Converter::new(Folder::new(folder), &proto, extras)?;
    let mut body = converter.model_body(graph)?;
    lists::dissolve(&mut body);
    let producer = format!("{} {}", proto.producer_name, proto.producer_version);
    let (files, words) = (converter.folder.opened(), converter.words);
    Ok(Model { body, opset, producer, files, words })
}
