//! Classifiers as converters write them: labels that are strings, and maps of the scores.

use crate::support::scratch;
use lmc::base::Tensor;
use lmc::build::{Build, Built, Silent};
use lmc::run::executor::Executor;
use prost::Message;
use tract_onnx::pb;
use tract_onnx::pb::attribute_proto::AttributeType as Type;

fn strings(name: &str, values: &[&str]) -> pb::AttributeProto {
    let strings = values.iter().map(|v| v.as_bytes().to_vec()).collect();
    pb::AttributeProto { name: name.into(), strings, r#type: Type::Strings as i32, ..Default::default() }
}

fn floats(name: &str, values: &[f32]) -> pb::AttributeProto {
    let floats = values.to_vec();
    pb::AttributeProto { name: name.into(), floats, r#type: Type::Floats as i32, ..Default::default() }
}

fn node(domain: &str, op: &str, io: (&[&str], &[&str]), attribute: Vec<pb::AttributeProto>) -> pb::NodeProto {
    let list = |names: &[&str]| names.iter().map(|n| n.to_string()).collect();
    pb::NodeProto {
        domain: domain.into(),
        op_type: op.into(),
        input: list(io.0),
        output: list(io.1),
        attribute,
        ..Default::default()
    }
}

/// A classifier of two features with the labels `cat` and `dog`, and what follows it.
fn build(folder: &str, after: Vec<pb::NodeProto>, outputs: &[&str]) -> Result<Built, String> {
    let labels = strings("classlabels_strings", &["cat", "dog"]);
    let weights = vec![floats("coefficients", &[1., 0., 0., 2.]), floats("intercepts", &[0.5, 0.]), labels];
    let mut nodes = vec![node("ai.onnx.ml", "LinearClassifier", (&["x"], &["label", "scores"]), weights)];
    nodes.extend(after);
    let dims = [1, 2].map(|d| pb::tensor_shape_proto::Dimension {
        value: Some(pb::tensor_shape_proto::dimension::Value::DimValue(d)),
        ..Default::default()
    });
    let shape = Some(pb::TensorShapeProto { dim: dims.to_vec() });
    let tensor = pb::type_proto::Value::TensorType(pb::type_proto::Tensor { elem_type: 1, shape });
    let info = |name: &str, value| pb::ValueInfoProto {
        name: name.into(),
        r#type: Some(pb::TypeProto { value, ..Default::default() }),
        ..Default::default()
    };
    let graph = pb::GraphProto {
        name: "classifier".into(),
        node: nodes,
        input: vec![info("x", Some(tensor))],
        output: outputs.iter().map(|name| info(name, None)).collect(),
        ..Default::default()
    };
    let import = |domain: &str, version| pb::OperatorSetIdProto { domain: domain.into(), version };
    let model = pb::ModelProto {
        ir_version: 8,
        opset_import: vec![import("", 13), import("ai.onnx.ml", 1)],
        graph: Some(graph),
        ..Default::default()
    };
    let file = scratch(folder).join("model.onnx");
    std::fs::write(&file, model.encode_to_vec()).expect("a file");
    Build::new(&file).target("native").name("m").build(&Silent).map_err(|e| e.to_string())
}

fn zip_map() -> pb::NodeProto {
    let labels = strings("classlabels_strings", &["cat", "dog"]);
    node("ai.onnx.ml", "ZipMap", (&["scores"], &["named"]), vec![labels])
}

#[test]
fn scores_take_the_place_of_maps_and_names() {
    let built = build("classifier_map", vec![zip_map()], &["named"]).expect("a model");
    let names: Vec<&str> = built.program.outputs.iter().map(|o| o.name.as_str()).collect();
    assert_eq!(names, ["named"]);
    let notes = built.notes.join("\n");
    assert!(notes.contains("'cat', 'dog'"), "{notes}");
    let mut executor =
        Executor::new(&built.program, &built.object.bytes, &built.target, None).expect("an object");
    let scores = executor.run(&[Tensor::new([1, 2], &[3f32, 4.])]).expect("scores");
    assert_eq!(scores[0].to_vec::<f32>(), Some(vec![3.5, 8.]));
}

#[test]
fn strings_are_refused_where_they_are_read() {
    let compared = node("", "Equal", (&["label", "label"], &["same"]), Vec::new());
    let error = build("classifier_read", vec![compared], &["same"]).err().expect("strings");
    assert!(error.contains("takes strings, which are not supported"), "{error}");
    let error = build("classifier_label", Vec::new(), &["label"]).err().expect("strings");
    assert!(error.contains("output 'label': holds strings"), "{error}");
}
