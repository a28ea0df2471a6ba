//! Calls of model-local functions: each is replaced by the function's nodes.
//!
//! The names of the body are put under the name of the calling node, its formal inputs and outputs
//! are the call's own, and attribute references take the call's attributes or the defaults.

use super::SourceNode;
use super::convert::{CallAttrs, Converter, Frame};
use super::functions::{Function, Names};
use crate::error::{Error, Result};
use std::collections::HashMap;
use tract_onnx::pb;

impl Converter<'_> {
    fn fresh_prefix(&mut self, name: &str) -> String {
        let mut prefix = format!("{name}/");
        let mut count = 1;
        while !self.prefixes.insert(prefix.clone()) {
            count += 1;
            prefix = format!("{name}.{count}/");
        }
        prefix
    }

    /// Adds the nodes of a function in place of the node that calls it.
    pub(super) fn call(
        &mut self,
        function: Function,
        node: &pb::NodeProto,
        name: &str,
        attributes: Vec<pb::AttributeProto>,
        frame: &Frame,
        out: &mut Vec<SourceNode>,
    ) -> Result<()> {
        let proto = function.proto;
        if node.input.len() > proto.input.len() || node.output.len() > proto.output.len() {
            return Err(Error::model("the call has more inputs or outputs than the local function"));
        }
        let mut names = Names { formal: HashMap::new(), prefix: self.fresh_prefix(name) };
        for (i, formal) in proto.input.iter().enumerate() {
            let actual = node.input.get(i).map(|n| frame.name(n)).unwrap_or_default();
            names.formal.insert(formal.clone(), actual);
        }
        for (formal, actual) in proto.output.iter().zip(&node.output).filter(|(_, a)| !a.is_empty()) {
            let actual = frame.name(actual);
            if let Some(passed) = names.formal.get(formal) {
                out.push(identity(passed.clone(), actual));
            } else {
                names.formal.insert(formal.clone(), actual);
            }
        }
        let mut call: CallAttrs = function.defaults.into_iter().map(|a| (a.name.clone(), a)).collect();
        for attr in attributes {
            if attr.g.is_some() {
                return Err(Error::model(format!("the local function takes a graph ({})", attr.name))
                    .advise("Inline the functions first (onnx.inliner.inline_local_functions)"));
            }
            call.insert(attr.name.clone(), attr);
        }
        let imports = proto.opset_import.as_slice();
        let imports = if imports.is_empty() { frame.imports } else { imports };
        let inner = Frame { imports, names: Some(&names), call: Some(&call), depth: frame.depth }.deeper()?;
        self.nodes(&proto.node, &inner, out)
    }
}

/// An output of a function that is one of its inputs, or the same output under a second name.
fn identity(from: String, to: String) -> SourceNode {
    SourceNode {
        domain: String::new(),
        op: "Identity".to_string(),
        opset: 1,
        name: to.clone(),
        attrs: Default::default(),
        bodies: Default::default(),
        inputs: vec![from],
        outputs: vec![to],
    }
}
