//! Classifiers and encoders as converters write them: strings go in and labels come out as numbers of words, and
//! maps of the scores are tensors.

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

fn int(name: &str, i: i64) -> pb::AttributeProto {
    pb::AttributeProto { name: name.into(), i, r#type: Type::Int as i32, ..Default::default() }
}

fn text(name: &str, s: &str) -> pb::AttributeProto {
    pb::AttributeProto { name: name.into(), s: s.into(), r#type: Type::String as i32, ..Default::default() }
}

/// The types of outputs.
const FLOATS: i32 = pb::tensor_proto::DataType::Float as i32;
const NUMBERS: i32 = pb::tensor_proto::DataType::Int64 as i32;
const STRINGS: i32 = pb::tensor_proto::DataType::String as i32;
const TRUTHS: i32 = pb::tensor_proto::DataType::Bool as i32;

fn info(name: &str, elem_type: i32, dims: Option<[i64; 2]>) -> pb::ValueInfoProto {
    let dim = |d| pb::tensor_shape_proto::Dimension {
        value: Some(pb::tensor_shape_proto::dimension::Value::DimValue(d)),
        ..Default::default()
    };
    let shape = dims.map(|dims| pb::TensorShapeProto { dim: dims.map(dim).to_vec() });
    let tensor = pb::type_proto::Value::TensorType(pb::type_proto::Tensor { elem_type, shape });
    pb::ValueInfoProto {
        name: name.into(),
        r#type: Some(pb::TypeProto { value: Some(tensor), ..Default::default() }),
        ..Default::default()
    }
}

/// A constant of words.
fn words(name: &str, list: &[&str]) -> pb::TensorProto {
    pb::TensorProto {
        name: name.into(),
        dims: vec![list.len() as i64],
        data_type: STRINGS,
        string_data: list.iter().map(|w| w.as_bytes().to_vec()).collect(),
        ..Default::default()
    }
}

/// A classifier of two features with the labels `dog` and `cat`, and what follows it.
fn model(after: Vec<pb::NodeProto>, outputs: &[(&str, i32)]) -> pb::ModelProto {
    let labels = strings("classlabels_strings", &["dog", "cat"]);
    let weights = vec![floats("coefficients", &[1., 0., 0., 2.]), floats("intercepts", &[0.5, 0.]), labels];
    let mut nodes = vec![node("ai.onnx.ml", "LinearClassifier", (&["x"], &["label", "scores"]), weights)];
    nodes.extend(after);
    let graph = pb::GraphProto {
        name: "classifier".into(),
        node: nodes,
        input: vec![info("x", FLOATS, Some([3, 2]))],
        output: outputs.iter().map(|(name, ty)| info(name, *ty, None)).collect(),
        initializer: vec![words("cat", &["cat"]), words("others", &["eel", "cat"])],
        ..Default::default()
    };
    let import = |domain: &str, version| pb::OperatorSetIdProto { domain: domain.into(), version };
    pb::ModelProto {
        ir_version: 8,
        opset_import: vec![import("", 13), import("ai.onnx.ml", 2)],
        graph: Some(graph),
        ..Default::default()
    }
}

fn build(folder: &str, model: &pb::ModelProto, target: &str) -> Result<Built, String> {
    let file = scratch(folder).join("model.onnx");
    std::fs::write(&file, model.encode_to_vec()).expect("a file");
    Build::new(&file).target(target).name("m").build(&Silent).map_err(|e| e.to_string())
}

/// What comes out for a dog, a cat, and a dog, on both targets.
fn results(folder: &str, model: &pb::ModelProto) -> (Built, Vec<Tensor>) {
    let x = Tensor::new([3, 2], &[3f32, 1., 1., 2., 4., 0.]);
    let on = |target: &str| {
        let built = build(folder, model, target).expect("a model");
        let mut executor =
            Executor::new(&built.program, &built.object.bytes, &built.target, None).expect("an object");
        let outputs = executor.run(std::slice::from_ref(&x)).expect("results");
        (built, outputs)
    };
    let (built, here) = on("native");
    assert_eq!(here, on("aarch64").1);
    (built, here)
}

fn zip_map() -> pb::NodeProto {
    let labels = strings("classlabels_strings", &["dog", "cat"]);
    node("ai.onnx.ml", "ZipMap", (&["scores"], &["named"]), vec![labels])
}

#[test]
fn scores_take_the_place_of_maps() {
    let mut model = model(vec![zip_map()], &[]);
    let graph = model.graph.as_mut().expect("a graph");
    graph.output.push(pb::ValueInfoProto { name: "named".into(), ..Default::default() });
    let (built, outputs) = results("classifier_map", &model);
    let names: Vec<&str> = built.program.outputs.iter().map(|o| o.name.as_str()).collect();
    assert_eq!(names, ["named"]);
    let notes = built.notes.join("\n");
    assert!(notes.contains("'dog', 'cat'"), "{notes}");
    assert!(built.strings.words.is_empty(), "no output has strings");
    assert_eq!(outputs[0].to_vec::<f32>(), Some(vec![3.5, 2., 1.5, 4., 4.5, 0.]));
}

/// The scores of several classifiers as sklearn-onnx gives them: a sequence, of which each is an output.
#[test]
fn tensors_of_a_sequence_are_outputs() {
    let negative = node("", "Neg", (&["scores"], &["both_1"]), Vec::new());
    let list = node("", "SequenceConstruct", (&["scores", "both_1"], &["both"]), Vec::new());
    let mut model = model(vec![negative, list], &[("label", STRINGS)]);
    // No tensor type: what a sequence is for the reader.
    model.graph.as_mut().expect("a graph").output.push(pb::ValueInfoProto {
        name: "both".into(),
        r#type: Some(pb::TypeProto::default()),
        ..Default::default()
    });
    let (built, outputs) = results("classifier_list", &model);
    let names: Vec<&str> = built.program.outputs.iter().map(|o| o.name.as_str()).collect();
    assert_eq!(names, ["label", "both_0", "both_1_"]);
    assert_eq!(outputs[1].to_vec::<f32>(), Some(vec![3.5, 2., 1.5, 4., 4.5, 0.]));
    assert_eq!(outputs[2].to_vec::<f32>(), Some(vec![-3.5, -2., -1.5, -4., -4.5, 0.]));
}

#[test]
fn labels_are_numbers_of_words() {
    let (built, outputs) = results("classifier_label", &model(Vec::new(), &[("label", STRINGS)]));
    assert_eq!(built.strings.words, ["cat", "eel", "dog"]);
    assert_eq!(built.strings.outputs, [true]);
    assert_eq!(outputs[0].to_vec::<i64>(), Some(vec![2, 0, 2]));
    assert!(built.notes.join("\n").contains("output 'label' holds strings"), "{:?}", built.notes);
}

fn ints(name: &str, ints: &[i64]) -> pb::AttributeProto {
    let r#type = Type::Ints as i32;
    pb::AttributeProto { name: name.into(), ints: ints.to_vec(), r#type, ..Default::default() }
}

/// Words are picked from constants, compared, and mapped to and from numbers.
#[test]
fn words_move_as_numbers_do() {
    let encoder = |io, attributes| node("ai.onnx.ml", "LabelEncoder", io, attributes);
    let to_numbers = vec![strings("keys_strings", &["cat", "dog"]), ints("values_int64s", &[7, 9])];
    let to_words = vec![ints("keys_int64s", &[7, 8]), strings("values_strings", &["miaow", "none"])];
    let after = vec![
        encoder((&["label"], &["code"]), to_numbers),
        encoder((&["code"], &["sound"]), to_words),
        node("", "Equal", (&["label", "cat"], &["same"]), Vec::new()),
        node("", "Where", (&["same", "others_0", "label"], &["chosen"]), Vec::new()),
        node("ai.onnx.ml", "ArrayFeatureExtractor", (&["others", "zero"], &["others_0"]), Vec::new()),
    ];
    let outputs = [("code", NUMBERS), ("sound", STRINGS), ("same", TRUTHS), ("chosen", STRINGS)];
    let mut model = model(after, &outputs);
    let graph = model.graph.as_mut().expect("a graph");
    graph.node.swap(4, 5);
    graph.initializer.push(pb::TensorProto {
        name: "zero".into(),
        dims: vec![1],
        data_type: NUMBERS,
        int64_data: vec![0],
        ..Default::default()
    });
    let (built, outputs) = results("classifier_words", &model);
    let spelled = |t: &Tensor| -> Vec<String> {
        let numbers = t.to_vec::<i64>().expect("numbers of words");
        numbers.iter().map(|&n| built.strings.words[n as usize].clone()).collect()
    };
    assert_eq!(outputs[0].to_vec::<i64>(), Some(vec![9, 7, 9]));
    assert_eq!(spelled(&outputs[1]), ["_Unused", "miaow", "_Unused"]);
    assert_eq!(&*outputs[2].data, [0, 1, 0]);
    assert_eq!(spelled(&outputs[3]), ["dog", "eel", "dog"]);
    assert_eq!(built.strings.outputs, [false, true, false, true]);
}

/// Strings of an input are looked up in the lists of encoders, compared, and given back.
#[test]
fn inputs_of_strings_are_numbers_of_words() {
    let keys = vec![strings("keys_strings", &["cat", "dog"]), ints("values_int64s", &[7, 9])];
    let grams = vec![
        strings("pool_strings", &["eel", "cat", "dog", "cat"]),
        ints("ngram_counts", &[0, 2]),
        ints("ngram_indexes", &[0, 1, 2]),
        text("mode", "TF"),
        int("min_gram_length", 1),
        int("max_gram_length", 2),
        int("max_skip_count", 0),
    ];
    let nodes = vec![
        node(
            "ai.onnx.ml",
            "OneHotEncoder",
            (&["x"], &["hot"]),
            vec![strings("cats_strings", &["dog", "eel"])],
        ),
        node("ai.onnx.ml", "LabelEncoder", (&["x"], &["code"]), keys),
        node("", "TfIdfVectorizer", (&["x"], &["counts"]), grams),
        node("", "Equal", (&["x", "cat"], &["same"]), Vec::new()),
        node("", "Identity", (&["x"], &["given"]), Vec::new()),
    ];
    let outputs =
        [("hot", FLOATS), ("code", NUMBERS), ("counts", FLOATS), ("same", TRUTHS), ("given", STRINGS)];
    let mut model = model(Vec::new(), &outputs);
    let graph = model.graph.as_mut().expect("a graph");
    (graph.node, graph.input) = (nodes, vec![info("x", STRINGS, Some([2, 2]))]);
    // Two words, then one that the model does not hold and one more, as numpy.save writes them.
    let npy = |words: &[&str]| {
        let letters = |w: &&str| -> Vec<u8> {
            let padded = w.chars().chain("\0\0\0\0".chars()).take(4);
            padded.flat_map(|c| u32::from(c).to_le_bytes()).collect()
        };
        let head = "{'descr': '<U4', 'fortran_order': False, 'shape': (2, 2), }\n";
        let start = [b"\x93NUMPY\x01\x00".as_slice(), &(head.len() as u16).to_le_bytes(), head.as_bytes()];
        [start.concat(), words.iter().flat_map(letters).collect()].concat()
    };
    for target in ["native", "aarch64"] {
        let built = build("strings_given", &model, target).expect("a model");
        assert_eq!((&*built.strings.inputs, &built.strings.outputs[3..]), (&[true][..], &[false, true][..]));
        assert!(built.notes.join("\n").contains("input 'x' takes strings"), "{:?}", built.notes);
        let folder = scratch("strings_read");
        std::fs::write(folder.join("model.onnx"), model.encode_to_vec()).expect("a file");
        std::fs::write(folder.join("input_0.npy"), npy(&["dog", "cat", "\u{e4}ff", "eel"])).expect("a file");
        let words = lmc::import::read(&folder.join("model.onnx")).expect("a model").words;
        let data = lmc::data::DataSet::read(&folder, &["x".to_string()], &[], &words).expect("data");
        let input = data.inputs[0].clone().expect("an input");
        let number = |word: &str| words.number(word);
        assert_eq!(input.to_vec::<i64>(), Some(vec![number("dog"), number("cat"), -1, number("eel")]));
        let mut executor =
            Executor::new(&built.program, &built.object.bytes, &built.target, None).expect("an object");
        let results = executor.run(std::slice::from_ref(&input)).expect("results");
        assert_eq!(results[0].to_vec::<f32>(), Some(vec![1., 0., 0., 0., 0., 0., 0., 1.]));
        assert_eq!(results[1].to_vec::<i64>(), Some(vec![9, 7, -1, -1]));
        assert_eq!(results[2].to_vec::<f32>(), Some(vec![0., 1., 1., 1., 0., 0.]));
        assert_eq!(&*results[3].data, [0, 1, 0, 0]);
        assert_eq!(results[4], input);
    }
}

#[test]
fn characters_of_strings_are_refused() {
    let refused = |folder: &str, after: Vec<pb::NodeProto>, output: &str, ty| {
        build(folder, &model(after, &[(output, ty)]), "native").err().expect("strings")
    };
    let length = node("", "Cast", (&["label"], &["number"]), vec![int("to", 1)]);
    let error = refused("classifier_cast", vec![length], "number", FLOATS);
    assert!(error.contains("takes strings, which are not supported here"), "{error}");
    let mixed = node("", "Concat", (&["label", "scores"], &["joined"]), vec![int("axis", 0)]);
    let error = refused("classifier_mixed", vec![mixed], "joined", STRINGS);
    assert!(error.contains("takes strings, which are not supported here"), "{error}");
    let error = refused("classifier_declared", Vec::new(), "label", FLOATS);
    assert!(error.contains("holds strings, or is declared to, but not both"), "{error}");
}
