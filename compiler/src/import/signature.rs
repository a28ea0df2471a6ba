//! What a node may have: how many inputs and outputs, and which attributes, in each version of its operator.
//!
//! A file may import one opset and hold nodes written for another: reductions whose axes have become an
//! input, or are one already. What a version does not know would be ignored, and the result be another
//! one in silence; so it is an error, as it is for ONNX's own checker.
//! The rows of `signatures.txt` come from the schemas of ONNX and ONNX Runtime; the test in
//! `tests/suite/signatures.rs` holds the operator table to them.

use crate::error::{Error, Result};
use std::collections::HashMap;
use std::sync::OnceLock;
use tract_onnx::pb;

const TABLE: &str = include_str!("signatures.txt");

/// One version: since which opset, the most inputs and outputs (`None`: any number), the attributes.
struct Version {
    since: i64,
    inputs: Option<usize>,
    outputs: Option<usize>,
    attributes: Vec<&'static str>,
}

impl Version {
    /// `18 2 1 keepdims noop_with_empty_axes`; `*` is any number.
    fn parse(text: &'static str) -> Option<Version> {
        let mut words = text.split_whitespace();
        let since = words.next()?.parse().ok()?;
        let mut most = || words.next().map(|w| w.parse().ok());
        let (inputs, outputs) = (most()?, most()?);
        Some(Version { since, inputs, outputs, attributes: words.collect() })
    }
}

/// The versions of each operator, by its name with its domain before it.
fn table() -> &'static HashMap<&'static str, Vec<Version>> {
    static PARSED: OnceLock<HashMap<&'static str, Vec<Version>>> = OnceLock::new();
    PARSED.get_or_init(|| {
        let row = |line: &'static str| {
            let (name, versions) = line.split_once(": ")?;
            Some((name, versions.split(';').filter_map(Version::parse).collect()))
        };
        TABLE.lines().filter_map(row).collect()
    })
}

/// An error where a node has what its operator, in the version of an opset, has not.
pub(super) fn check(
    node: &pb::NodeProto,
    domain: &str,
    opset: i64,
    attributes: &[pb::AttributeProto],
) -> Result<()> {
    let name = if domain.is_empty() { node.op_type.clone() } else { format!("{domain}.{}", node.op_type) };
    let Some(versions) = table().get(name.as_str()) else { return Ok(()) };
    let Some(version) = versions.iter().rev().find(|v| v.since <= opset) else { return Ok(()) };
    let given = |names: &[String]| names.iter().rposition(|n| !n.is_empty()).map_or(0, |last| last + 1);
    let wrong = |what: String| {
        Err(Error::model(format!("{what} in opset {opset}, which the model imports")).advise(
            "The node was written for another opset: export the model again, or let onnx.version_converter change the opset",
        ))
    };
    for (what, given, most) in
        [("inputs", given(&node.input), version.inputs), ("outputs", given(&node.output), version.outputs)]
    {
        if let Some(most) = most.filter(|&most| given > most) {
            return wrong(format!("it has {given} {what}, but {} has {most} at most", node.op_type));
        }
    }
    // Tools keep notes of their own under names with two underscores.
    let known = |name: &str| name.starts_with("__") || version.attributes.contains(&name);
    match attributes.iter().find(|a| !known(&a.name)) {
        Some(attr) => {
            wrong(format!("the attribute '{}' is none of those that {} has", attr.name, node.op_type))
        }
        None => Ok(()),
    }
}
