//! What a model file may ask for: versions that are understood, and sizes that are sane.
//!
//! A hostile file can claim a tensor of 2^62 elements or a chain of functions that expands to a
//! billion nodes in a few hundred bytes. Every size is compared with a cap before it is used.

use crate::error::{Error, Result};
use tract_onnx::pb;

/// Largest opset of `ai.onnx` that is understood.
pub const MAX_OPSET: i64 = 28;
/// Largest version of the file format that is understood.
const MAX_IR: i64 = 14;
/// Protobuf's own limit.
pub(super) const MAX_FILE_BYTES: u64 = (1 << 31) - 1;
/// Largest sum of all constants.
pub(super) const MAX_CONSTANT_BYTES: usize = 1 << 34;
/// Most nodes, functions expanded, subgraphs included.
pub(super) const MAX_NODES: usize = 1 << 18;
/// Deepest nesting of subgraphs and functions.
pub(super) const MAX_DEPTH: usize = 24;

pub(super) fn shape(dims: &[i64]) -> Result<Vec<usize>> {
    let positive = |&d: &i64| {
        usize::try_from(d).map_err(|_| Error::model(format!("a tensor has the negative dimension {d}")))
    };
    dims.iter().map(positive).collect()
}

/// The domain under its short name: `ai.onnx` is `""`.
pub(super) fn canonical_domain(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

/// The version imported for a domain.
pub(super) fn opset_of(imports: &[pb::OperatorSetIdProto], domain: &str) -> Option<i64> {
    imports.iter().filter(|o| canonical_domain(&o.domain) == domain).map(|o| o.version).max()
}

/// The graph, after a check of versions and of its presence.
pub(super) fn check_model(proto: &pb::ModelProto) -> Result<&pb::GraphProto> {
    let Some(graph) = &proto.graph else {
        return Err(Error::model("not an ONNX model: it has no graph")
            .advise("Check that the file is a model and not a tensor or another protobuf"));
    };
    if proto.ir_version < 1 {
        return Err(Error::model("not an ONNX model: it has no IR version")
            .advise("Check that the file is a model and not a tensor or another protobuf"));
    }
    if proto.ir_version > MAX_IR {
        return Err(Error::model(format!(
            "IR version {} is newer than {MAX_IR}, the newest that is understood",
            proto.ir_version
        ))
        .advise("Export for an older ONNX version, or update lmc"));
    }
    let opset = opset_of(&proto.opset_import, "");
    if let Some(opset) = opset.filter(|&v| !(1..=MAX_OPSET).contains(&v)) {
        return Err(Error::model(format!(
            "opset {opset} of ai.onnx is not understood; 1 to {MAX_OPSET} are"
        ))
        .advise("Export with an older opset (opset_version=...), or convert with onnx.version_converter"));
    }
    if opset.is_none() && proto.ir_version >= 3 && proto.opset_import.is_empty() {
        return Err(Error::model("the model imports no operator set")
            .advise("Add an opset_import entry; onnx.checker reports the same"));
    }
    if graph.output.is_empty() {
        return Err(Error::model("the graph has no outputs").advise("Declare the tensors to be computed"));
    }
    Ok(graph)
}

/// Recognises files that users mistake for ONNX.
pub(super) fn foreign_format(bytes: &[u8]) -> Option<&'static str> {
    let starts = |prefix: &[u8]| bytes.starts_with(prefix);
    match () {
        _ if bytes.get(4..8) == Some(b"TFL3") => Some("a TFLite model"),
        _ if starts(b"PK\x03\x04") => Some("a ZIP archive (perhaps a PyTorch or Keras file)"),
        _ if starts(b"\x89HDF") => Some("an HDF5 file"),
        _ if starts(b"\x1f\x8b") => Some("a gzip archive"),
        _ if starts(b"\x7fELF") => Some("an executable"),
        _ if starts(b"version https://git-lfs") => Some("a Git LFS pointer (run git lfs pull)"),
        _ if starts(b"<") => Some("an HTML or XML page"),
        _ if bytes.get(4..8) == Some(b"ORTM") => Some("an ONNX Runtime (.ort) model"),
        _ => None,
    }
}
