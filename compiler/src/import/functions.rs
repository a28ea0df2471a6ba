//! The model-local functions of a file, by name.

use super::limits::canonical_domain;
use crate::error::{Error, Result};
use prost::Message;
use std::collections::HashMap;
use tract_onnx::pb;

/// Fields of functions that the protobuf types of `tract-onnx` leave out.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Extras {
    #[prost(message, repeated, tag = "25")]
    functions: Vec<FunctionExtras>,
}

#[derive(Clone, PartialEq, Message)]
struct FunctionExtras {
    /// Attributes with defaults.
    #[prost(message, repeated, tag = "11")]
    attribute_proto: Vec<pb::AttributeProto>,
    #[prost(string, tag = "13")]
    overload: String,
}

/// A function and the defaults of its attributes.
#[derive(Clone)]
pub(super) struct Function<'a> {
    pub(super) proto: &'a pb::FunctionProto,
    pub(super) defaults: Vec<pb::AttributeProto>,
    overloaded: bool,
}

/// The functions of a model, by domain and name.
pub(super) struct Functions<'a>(HashMap<(String, String), Function<'a>>);

impl<'a> Functions<'a> {
    pub(super) fn new(protos: &'a [pb::FunctionProto], extras: Extras) -> Result<Self> {
        if protos.len() != extras.functions.len() {
            return Err(Error::model("its local functions cannot be decoded"));
        }
        let mut functions = HashMap::new();
        for (proto, extra) in protos.iter().zip(extras.functions) {
            let key = (canonical_domain(proto.domain()).to_string(), proto.name().to_string());
            let function = Function {
                proto,
                defaults: extra.attribute_proto,
                overloaded: functions.contains_key(&key) || !extra.overload.is_empty(),
            };
            functions.insert(key, function);
        }
        Ok(Functions(functions))
    }

    /// The function that a node calls, if any.
    pub(super) fn find(&self, domain: &str, name: &str) -> Result<Option<Function<'a>>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        match self.0.get(&(domain.to_string(), name.to_string())) {
            Some(f) if f.overloaded => {
                Err(Error::model(format!("the local function {name} has overloads, which are not supported"))
                    .advise("Inline the functions first (onnx.inliner.inline_local_functions)"))
            }
            found => Ok(found.cloned()),
        }
    }
}

/// How names of a function's body are called outside.
pub(super) struct Names {
    pub(super) formal: HashMap<String, String>,
    pub(super) prefix: String,
}

impl Names {
    /// The outer name; an omitted value stays omitted.
    pub(super) fn get(&self, name: &str) -> String {
        match self.formal.get(name) {
            _ if name.is_empty() => String::new(),
            Some(actual) => actual.clone(),
            None => format!("{}{name}", self.prefix),
        }
    }
}
