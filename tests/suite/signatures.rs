//! Nodes that have what their operator, in the opset of the model, has not: an error, since to ignore it would give
//! another result in silence. And the table behind it, beside the table of operators.

use crate::sizes::{agree, decode, naive};
use crate::support::onnx::{float, int, ints, model, node};
use crate::support::repository;
use lmc::base::Tensor;
use lmc::import;
use prost::Message;
use std::collections::HashMap;
use tract_onnx::pb;

fn opset(mut proto: pb::ModelProto, version: i64) -> pb::ModelProto {
    proto.opset_import[0].version = version;
    proto
}

/// A model of one node that reads `x` of [2, 3], and a list `a`.
fn one(node: pb::NodeProto, version: i64) -> pb::ModelProto {
    opset(model(vec![node], &[2, 3], &[-1, -1], &[("a", Tensor::new([1], &[1i64]))]), version)
}

fn error(proto: &pb::ModelProto) -> String {
    let decoded = import::decode(&proto.encode_to_vec(), None);
    decoded.err().map(|e| e.to_string()).unwrap_or_default()
}

fn with(mut node: pb::NodeProto, attribute: pb::AttributeProto) -> pb::NodeProto {
    node.attribute.push(attribute);
    node
}

#[test]
fn nodes_of_another_opset_are_refused() {
    let as_input = node("ReduceMin", &["x", "a"], "y");
    let as_attribute = with(node("ReduceMin", &["x"], "y"), ints("axes", &[1]));
    assert_eq!(error(&one(as_input.clone(), 18)), "");
    assert_eq!(error(&one(as_attribute.clone(), 13)), "");
    // Read by the other opset, both would be the least of all elements.
    let two = error(&one(as_input, 13));
    assert!(two.contains("'the ReduceMin' (ReduceMin)") && two.contains("2 inputs"), "{two}");
    let axes = error(&one(as_attribute, 18));
    assert!(axes.contains("'axes'") && axes.contains("opset 18"), "{axes}");
    let misspelt = error(&one(with(node("Softmax", &["x"], "y"), int("axes", 0)), 13));
    assert!(misspelt.contains("'axes'"), "{misspelt}");
    let mut more = node("Relu", &["x"], "y");
    more.output.push("z".into());
    assert!(error(&one(more, 13)).contains("2 outputs"));
}

#[test]
fn what_is_omitted_or_a_tools_own_note_is_none_too_many() {
    assert_eq!(error(&one(node("Relu", &["x", ""], "y"), 13)), "");
    assert_eq!(error(&one(with(node("Relu", &["x"], "y"), float("__note", 1.0)), 13)), "");
    assert_eq!(error(&one(node("Max", &["x", "x", "x", "x"], "y"), 13)), "");
}

/// A function that imports opset 13 and holds a node of 18, as sklearn-onnx writes them: ONNX Runtime reads the nodes
/// of functions by the model's opset.
#[test]
fn functions_may_hold_nodes_of_the_models_opset() {
    let domain = "local".to_string();
    let version = |domain: &str, version| pb::OperatorSetIdProto { domain: domain.into(), version };
    let mut call = node("least", &["x", "a"], "y");
    call.domain = domain.clone();
    let mut proto = one(call, 18);
    proto.opset_import.push(version("local", 1));
    proto.functions.push(pb::FunctionProto {
        name: Some("least".into()),
        domain: Some(domain),
        input: vec!["rows".into(), "axes".into()],
        output: vec!["least".into()],
        node: vec![node("ReduceMin", &["rows", "axes"], "least")],
        opset_import: vec![version("", 13)],
        ..Default::default()
    });
    let x = Tensor::new([2, 3], &[3f32, 1.0, 2.0, 6.0, 5.0, 4.0]);
    agree(&naive(&decode(&proto), &[x]), &[Tensor::new([2, 1], &[1f32, 4.0])], "rows");
}

/// Each operator of the table of operators that ONNX or ONNX Runtime define has its row, of one of its versions at least.
#[test]
fn the_tables_agree() {
    let path = repository().join("compiler/src/import/signatures.txt");
    let text = std::fs::read_to_string(path).expect("the table");
    let rows = text.lines().filter_map(|line| line.split_once(": "));
    let table: HashMap<&str, i64> = rows
        .map(|(name, versions)| {
            (name, versions.split(' ').next().and_then(|v| v.parse().ok()).expect("a version"))
        })
        .collect();
    // Experiments of ONNX's first years, and what ONNX Runtime has without a schema that says so.
    const WITHOUT: [&str; 10] = [
        "Affine",
        "Crop",
        "DynamicSlice",
        "ImageScaler",
        "ParametricSoftplus",
        "Scale",
        "ScaledTanh",
        "SimplifiedLayerNormalization",
        "com.microsoft.SimplifiedLayerNormalization",
        "com.microsoft.Solve",
    ];
    for row in lmc::ops::rows().filter(|r| ["", "ai.onnx.ml", "com.microsoft"].contains(&r.domain)) {
        let name =
            if row.domain.is_empty() { row.name.into() } else { format!("{}.{}", row.domain, row.name) };
        match table.get(name.as_str()) {
            Some(&first) => assert!(row.versions.iter().any(|&v| first <= v), "{name}"),
            None => assert!(WITHOUT.contains(&name.as_str()), "{name}"),
        }
    }
}
