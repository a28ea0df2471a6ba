//! Attributes: every form that a node may carry, but graphs, which the converter handles.

use super::external::Folder;
use super::tensor;
use crate::error::{Error, Result};
use crate::graph::Attr;
use tract_onnx::pb;
use tract_onnx::pb::attribute_proto::AttributeType as Type;

/// The type of an attribute; guessed from its content in files of the first IR version.
pub(super) fn kind(attr: &pb::AttributeProto) -> Result<Type> {
    let stated = Type::try_from(attr.r#type)
        .map_err(|_| Error::model(format!("has the unknown attribute type {}", attr.r#type)))?;
    Ok(match stated {
        Type::Undefined if attr.t.is_some() => Type::Tensor,
        Type::Undefined if attr.g.is_some() => Type::Graph,
        Type::Undefined if !attr.floats.is_empty() => Type::Floats,
        Type::Undefined if !attr.ints.is_empty() => Type::Ints,
        Type::Undefined if !attr.strings.is_empty() => Type::Strings,
        Type::Undefined if !attr.s.is_empty() => Type::String,
        Type::Undefined if attr.f != 0.0 => Type::Float,
        Type::Undefined => Type::Int,
        known => known,
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The value of an attribute that is not a graph; `None` for a type, which no operator on tensors
/// needs.
pub(super) fn convert(attr: &pb::AttributeProto, folder: &Folder) -> Result<Option<Attr>> {
    let missing = || Error::model("states a type but holds no value");
    Ok(Some(match kind(attr)? {
        Type::Float => Attr::Float(attr.f),
        Type::Int => Attr::Int(attr.i),
        Type::String => Attr::Str(text(&attr.s)),
        Type::Floats => Attr::Floats(attr.floats.clone()),
        Type::Ints => Attr::Ints(attr.ints.clone()),
        Type::Strings => Attr::Strs(attr.strings.iter().map(|s| text(s)).collect()),
        Type::Tensor => Attr::Tensor(tensor::from_proto(attr.t.as_ref().ok_or_else(missing)?, folder)?),
        Type::SparseTensor => {
            Attr::Tensor(tensor::from_sparse(attr.sparse_tensor.as_ref().ok_or_else(missing)?, folder)?.1)
        }
        Type::TypeProto | Type::TypeProtos => return Ok(None),
        Type::Undefined | Type::Graph | Type::Graphs | Type::Tensors | Type::SparseTensors => {
            return Err(Error::model("is a list of tensors or graphs, which is not supported"));
        }
    }))
}
