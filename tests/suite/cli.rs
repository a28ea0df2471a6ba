//! The command line on bad input: what it says, its exit codes, and that nothing is written.

use crate::golden::check_text;
use crate::support::onnx::{node, value};
use crate::support::{repository, scratch};
use lmc::base::Tensor;
use prost::Message;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use tract_onnx::pb;

/// A model of the given nodes from `x: f32[2,3]` to `y`.
fn model(nodes: Vec<pb::NodeProto>) -> pb::ModelProto {
    let graph = pb::GraphProto {
        name: "g".to_string(),
        node: nodes,
        input: vec![value("x", 1, &[2, 3])],
        output: vec![value("y", 1, &[2, 3])],
        ..Default::default()
    };
    pb::ModelProto {
        ir_version: 8,
        opset_import: vec![pb::OperatorSetIdProto { domain: String::new(), version: 17 }],
        graph: Some(graph),
        ..Default::default()
    }
}

fn edited(edit: impl FnOnce(&mut pb::ModelProto, &mut pb::GraphProto)) -> Vec<u8> {
    let mut model = model(vec![node("Relu", &["x"], "y")]);
    let mut graph = model.graph.take().expect("a graph");
    edit(&mut model, &mut graph);
    model.graph = Some(graph);
    model.encode_to_vec()
}

fn external(location: &str) -> pb::TensorProto {
    let entry = pb::StringStringEntryProto { key: "location".to_string(), value: location.to_string() };
    pb::TensorProto {
        name: "w".to_string(),
        dims: vec![2, 3],
        data_type: 1,
        data_location: Some(1),
        external_data: vec![entry],
        ..Default::default()
    }
}

/// Files that are no good model, by name.
fn bad_models() -> Vec<(&'static str, Vec<u8>)> {
    let plain = model(vec![node("Relu", &["x"], "y")]).encode_to_vec();
    let weights = |tensor: pb::TensorProto| {
        edited(|_, g| {
            g.initializer.push(tensor);
            g.node[0] = node("Add", &["x", "w"], "y");
        })
    };
    let cycle = vec![node("Add", &["x", "b"], "a"), node("Relu", &["a"], "b"), node("Relu", &["b"], "y")];
    vec![
        ("empty", Vec::new()),
        ("text", b"this is no model at all".to_vec()),
        ("archive", b"PK\x03\x04 and so on".to_vec()),
        ("cut", plain[..plain.len() / 2].to_vec()),
        ("no_graph", pb::ModelProto { ir_version: 8, ..Default::default() }.encode_to_vec()),
        ("future_ir", edited(|m, _| m.ir_version = 99)),
        ("future_opset", edited(|m, _| m.opset_import[0].version = 99)),
        ("external_missing", weights(external("weights.bin"))),
        ("external_outside", weights(external("../weights.bin"))),
        ("external_folder", weights(external("."))),
        ("cycle", model(cycle).encode_to_vec()),
        ("own_input", model(vec![node("Relu", &["y"], "y")]).encode_to_vec()),
        ("wrong_type", edited(|_, g| g.output[0] = value("y", 7, &[2, 3]))),
        (
            "mixed_types",
            edited(|_, g| {
                g.input.push(value("i", 7, &[2, 3]));
                g.node[0] = node("Add", &["x", "i"], "y");
            }),
        ),
        ("huge", edited(|_, g| g.input[0] = value("x", 1, &[1 << 40, 1 << 40]))),
        ("unknown_operator", edited(|_, g| g.node[0] = node("Frobnicate", &["x"], "y"))),
        ("strings", edited(|_, g| g.input[0] = value("x", 8, &[2, 3]))),
        ("unwritten", edited(|_, g| g.node[0] = node("Relu", &["nothing"], "y"))),
        ("two_of_a_name", edited(|_, g| g.input.push(value("x", 1, &[2, 3])))),
        ("written_twice", edited(|_, g| g.node.push(node("Neg", &["x"], "y")))),
        ("unbound", edited(|_, g| g.input[0] = value("x", 1, &[2, -1]))),
        (
            "short_data",
            weights(pb::TensorProto {
                name: "w".to_string(),
                dims: vec![2, 3],
                data_type: 1,
                raw_data: vec![0; 8],
                ..Default::default()
            }),
        ),
    ]
}

/// Runs lmc in a folder; its exit code and everything it printed.
fn lmc(folder: &Path, args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lmc"));
    let output = command.current_dir(folder).args(args).output().expect("lmc starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!(
        "$ lmc {}\n{}{}exit code {}\n\n",
        args.join(" "),
        text(&output.stdout),
        text(&output.stderr),
        output.status.code().unwrap_or(-1)
    )
}

#[test]
fn bad_models_and_options() {
    let folder = scratch("cli");
    let mut said = String::new();
    for (name, bytes) in bad_models() {
        let file = format!("{name}.onnx");
        std::fs::write(folder.join(&file), bytes).expect("a file under target");
        write!(said, "{}", lmc(&folder, &["build", &file, "-o", "out"])).expect("writing to a string");
    }
    std::fs::write(folder.join("good.onnx"), model(vec![node("Relu", &["x"], "y")]).encode_to_vec())
        .expect("a file under target");
    for args in [
        ["build", "absent.onnx", "-o", "out"].as_slice(),
        &["build", "good.onnx", "-o", "out", "--target", "pdp11"],
        &["build", ".", "-o", "out"],
        &["build", "good.onnx", "-o", "good.onnx"],
        &["build", "good.onnx", "-o", "out", "--target", "aarch64", "--cpu", "cortex-a5"],
        &["build", "good.onnx", "-o", "out", "--target", "x86_64", "--cpu", "cortex-a53"],
        &["build", "good.onnx", "-o", "out", "--dim", "batch=1"],
        &["build", "good.onnx", "-o", "out", "--dim", "batch"],
        &["build", "unbound.onnx", "-o", "out", "--dim", "length=1..64"],
        &["build", "good.onnx", "-o", "out", "--input", "x=4x3"],
        &["build", "good.onnx", "-o", "out", "--name", "7 up"],
        &["build", "good.onnx", "-o", "out", "--dump-after", "nothing"],
        &["build", "good.onnx", "-o", "out", "--max-flash", "10"],
        &["build", "good.onnx", "-o", "out", "--schedule", "empty.onnx"],
        &["build", "unbound.onnx", "-o", "out", "--message-format", "json"],
        &["run", "good.onnx"],
        &["verify", "good.onnx", "--data", "absent"],
        &["verify", "good.onnx", "--rtol", "nan"],
        &["verify", "good.onnx", "--atol", "-1"],
        &["verify", "good.onnx", "--min-cosine", "1.5"],
        &["bench", "good.onnx", "--seconds", "nan"],
        &["quantize", "good.onnx", "--random-data", "0", "-o", "out.onnx"],
        &["quantize", "good.onnx", "--random-data", "10001", "-o", "out.onnx"],
        &["quantize", "good.onnx", "--random-data", "1", "--percentile", "0", "-o", "out.onnx"],
        &["quantize", "good.onnx", "--fp16", "-o", "./good.onnx"],
        &["prune", "good.onnx", "--sparsity", "0.5", "-o", "good.onnx"],
    ] {
        write!(said, "{}", lmc(&folder, args)).expect("writing to a string");
    }
    assert!(!folder.join("out").exists(), "a failed build has written files");
    check_text("cli/errors.txt", &said.replace(&without_sizes(&said), ""));
}

/// Nothing: the whole text is compared. Sizes of code depend on the encoder, so that budgets are
/// tested with one that every model exceeds and their line is left out.
fn without_sizes(said: &str) -> String {
    let line = said.lines().find(|l| l.contains("bytes, ") && l.contains("more than allowed"));
    line.map(|l| format!("{l}\n")).unwrap_or_default()
}

#[test]
fn a_model_is_inspected_built_and_run() {
    let folder = scratch("cli_good");
    let source = repository().join("tests/models/kws_dscnn");
    let model = source.join("model.onnx");
    let (model, data) = (model.to_string_lossy(), source.join("test_data_set_0"));
    let data = data.to_string_lossy();
    let inspected = lmc(&folder, &["inspect", &model]);
    assert!(
        inspected.contains("multiply-adds 2,656,768") && inspected.contains("exit code 0"),
        "{inspected}"
    );
    let built = lmc(&folder, &["build", &model, "--name", "kws", "-o", "out"]);
    assert!(built.contains("arena") && built.contains("exit code 0"), "{built}");
    assert!(built.contains("note: compiled for every") && built.contains("--cpu native"), "{built}");
    let named = lmc(&folder, &["build", &model, "--name", "kws", "-o", "out", "--cpu", "generic"]);
    assert!(!named.contains("compiled for every"), "{named}");
    for file in ["kws.o", "kws.h", "kws.rs", "kws.json"] {
        assert!(folder.join("out").join(file).exists(), "{file} is missing");
    }
    let ran = lmc(&folder, &["run", &model, "--data", &data, "-o", "outputs"]);
    assert!(folder.join("outputs/dense.npy").exists(), "{ran}");
    let verified = lmc(&folder, &["verify", &model, "--data", &data]);
    assert!(verified.contains("right") && verified.contains("exit code 0"), "{verified}");
    let all = lmc(&folder, &["verify", &model, "--data", &source.to_string_lossy()]);
    assert_eq!(all.matches("test_data_set_").count(), 2, "{all}");
    let none = lmc(&folder, &["verify", &model, "--data", "out"]);
    assert!(none.contains("out: holds no data") && none.contains("exit code 2"), "{none}");
    let two = lmc(&folder, &["run", &model, "--data", &source.to_string_lossy(), "-o", "outputs"]);
    assert!(two.contains("holds 2 sets of data") && two.contains("exit code 2"), "{two}");
    let strict = lmc(&folder, &["verify", &model, "--data", &data, "--rtol", "0", "--atol", "0"]);
    assert!(strict.contains("exit code 0") || strict.contains("WRONG"), "{strict}");
    assert!(!strict.contains("by its cosine"), "{strict}");
    let close = lmc(
        &folder,
        &["verify", &model, "--data", &data, "--atol", "0", "--rtol", "0", "--min-cosine", "0.9"],
    );
    assert!(!close.contains("WRONG") && close.contains("exit code 0"), "{close}");
    let layers = lmc(&folder, &["verify", &model, "--data", &data, "--per-layer"]);
    assert!(layers.contains("agree with the naive loops"), "{layers}");
    let dumped = lmc(&folder, &["build", &model, "-o", "out", "--dump-after", "fold-affine"]);
    assert!(dumped.contains("graph tf2onnx {"), "{dumped}");
}

/// Data may be files named as inputs and outputs are: what a run has written is a reference.
#[test]
fn data_lie_in_files_of_the_models_names() {
    let folder = scratch("cli_named");
    let weights = pb::TensorProto {
        name: "w".to_string(),
        dims: vec![4, 3],
        data_type: 1,
        float_data: (0..12).map(|i| i as f32 / 8.0 - 0.5).collect(),
        ..Default::default()
    };
    let graph = pb::GraphProto {
        name: "g".to_string(),
        node: vec![node("MatMul", &["a:0", "w"], "p"), node("Add", &["p", "in/b"], "out:0")],
        input: vec![value("a:0", 1, &[1, 4]), value("in/b", 1, &[1, 3])],
        output: vec![value("out:0", 1, &[1, 3])],
        initializer: vec![weights],
        ..Default::default()
    };
    let model = pb::ModelProto { graph: Some(graph), ..model(Vec::new()) };
    std::fs::write(folder.join("m.onnx"), model.encode_to_vec()).expect("a file");
    let place = folder.join("data/one");
    std::fs::create_dir_all(&place).expect("a folder");
    let write = |name: &str, elems: &[f32]| {
        let tensor = Tensor::new([1, elems.len()], elems);
        lmc::data::write_npy(&place.join(name), &tensor).expect("a file");
    };
    write("a_0.npy", &[1.0, -2.0, 0.5, 3.0]);
    write("in_b.npy", &[0.25, 4.0, -1.0]);
    let ran = lmc(&folder, &["run", "m.onnx", "--data", "data/one", "-o", "data/one"]);
    assert!(place.join("out_0.npy").exists(), "{ran}");
    let exact = ["verify", "m.onnx", "--data", "data", "--rtol", "0", "--atol", "0"];
    let verified = lmc(&folder, &exact);
    assert!(verified.contains("right") && verified.contains("exit code 0"), "{verified}");
    write("out_0.npy", &[1.0, 1.0, 1.0]);
    let other = lmc(&folder, &exact);
    assert!(other.contains("WRONG") && other.contains("exit code 1"), "{other}");
    let quantized = lmc(&folder, &["quantize", "m.onnx", "--data", "data", "-o", "q.onnx"]);
    assert!(folder.join("q.onnx").exists() && quantized.contains("exit code 0"), "{quantized}");
}

/// The form that a budget makes can be run, compared and timed as it is built.
#[test]
fn what_keeps_to_a_budget_is_run_as_it_is_built() {
    let folder = scratch("cli_budget");
    let source = repository().join("tests/models/ic_resnet8");
    let (model, data) = (source.join("model.onnx"), source.join("test_data_set_0"));
    let (model, data) = (model.to_string_lossy(), data.to_string_lossy());
    let with = |command: &[&str], limit: &str| lmc(&folder, &[command, &["--max-ram", limit]].concat());
    let commands: [&[&str]; 4] = [
        &["build", &model, "-o", "out"],
        &["run", &model, "--data", &data, "-o", "outputs"],
        &["verify", &model, "--data", &data],
        &["bench", &model, "--seconds", "0"],
    ];
    for command in commands {
        let kept = with(command, "150K");
        assert!(kept.contains("kept within `--max-ram`") && kept.contains("exit code 0"), "{kept}");
        let refused = with(command, "1K");
        assert!(refused.contains("more than allowed") && refused.contains("exit code 2"), "{refused}");
    }
}

/// Each kernel of a model with its calls and its time; how long these are is not asserted.
#[test]
fn the_time_of_each_kernel_is_measured() {
    let folder = scratch("cli_kernels");
    let model = repository().join("tests/models/kws_dscnn/model.onnx");
    let model = model.to_string_lossy();
    for target in ["native", "aarch64"] {
        let args = ["bench", &model, "--per-kernel", "--target", target, "--seconds", "0"];
        let said = lmc(&folder, &args);
        assert!(said.contains("all kernels") && said.contains("exit code 0"), "{said}");
        let said = lmc(&folder, &[args.as_slice(), &["--message-format", "json"]].concat());
        let found = said.lines().find(|l| l.contains("\"profile\"")).unwrap_or_else(|| panic!("{said}"));
        let found: serde_json::Value = serde_json::from_str(found).expect("an object per line");
        let kernels = found["kernels"].as_array().expect("a list");
        // Four pairs of layers share two kernels; each of the others is called once.
        let calls: Vec<u64> = kernels.iter().filter_map(|k| k["calls"].as_u64()).collect();
        assert_eq!(calls, [1, 4, 4, 1, 1, 1, 1, 1, 1], "{target}: {said}");
        let times: Vec<f64> = kernels.iter().filter_map(|k| k["median_ns"].as_f64()).collect();
        assert!(times.len() == calls.len() && times.iter().all(|t| *t >= 0.0), "{said}");
        assert!(times.iter().sum::<f64>() > 0.0, "{said}");
    }
}

/// An output may be an input, and be listed twice: both have its name.
#[test]
fn outputs_share_names() {
    let folder = scratch("cli_names");
    let bytes = edited(|_, g| g.output.extend([value("x", 1, &[2, 3]), value("y", 1, &[2, 3])]));
    std::fs::write(folder.join("shared.onnx"), bytes).expect("a file under target");
    for target in ["x86_64", "aarch64"] {
        let said = lmc(&folder, &["verify", "shared.onnx", "--target", target]);
        assert!(said.matches("right").count() == 3 && said.contains("exit code 0"), "{said}");
        let built = lmc(&folder, &["build", "shared.onnx", "--target", target, "-o", target]);
        assert!(built.contains("exit code 0"), "{built}");
    }
    let header = std::fs::read_to_string(folder.join("x86_64/shared.h")).expect("a header");
    assert!(
        ["output \"x\"", "output \"y\"", "x_2[", "y_2["].iter().all(|part| header.contains(part)),
        "{header}"
    );
}

/// Where tract cannot run a model, its own definitions are the reference, and lmc says so.
#[test]
fn what_tract_cannot_run_is_compared_with_naive_loops() {
    let folder = scratch("cli_naive");
    const BF16: i32 = 16;
    let bytes = edited(|_, g| {
        g.input[0] = value("x", BF16, &[2, 3]);
        g.output[0] = value("y", BF16, &[2, 3]);
    });
    std::fs::write(folder.join("bf16.onnx"), bytes).expect("a file under target");
    let said = lmc(&folder, &["verify", "bf16.onnx"]);
    assert!(said.contains("compared with lmc's own naive loops") && said.contains("exit code 0"), "{said}");
}

/// Results of half floats are right by their cosine where single elements are outside of the tolerance; floats have no
/// such default.
#[test]
fn half_floats_are_verified_within_their_precision() {
    let folder = scratch("cli_half");
    let source = repository().join("tests/models/kws_dscnn");
    let (model, data) = (source.join("model.onnx"), source.join("test_data_set_1"));
    let (model, data) = (model.to_string_lossy(), data.to_string_lossy());
    let halved = lmc(&folder, &["quantize", &model, "--fp16", "-o", "half.onnx"]);
    assert!(halved.contains("exit code 0"), "{halved}");
    for cpu in ["generic", "native"] {
        let strict = ["--data", &data, "--cpu", cpu, "--rtol", "0", "--atol", "0"];
        let with = |args: &[&str]| lmc(&folder, &[&["verify"], args, &strict].concat());
        let half = with(&["half.onnx"]);
        assert!(half.contains("right by its cosine") && half.contains("exit code 0"), "{cpu}: {half}");
        let exact = with(&["half.onnx", "--min-cosine", "1"]);
        assert!(exact.contains("WRONG") && exact.contains("exit code 1"), "{cpu}: {exact}");
        let float = with(&[&model]);
        assert!(!float.contains("by its cosine"), "{cpu}: {float}");
    }
    let layers = lmc(&folder, &["verify", "half.onnx", "--data", &data, "--per-layer", "--cpu", "native"]);
    assert!(layers.contains("agree with the naive loops"), "{layers}");
}

/// Sizes that the inputs bind replace the names that a file gives to the dimensions of what lies between.
#[test]
fn tract_runs_a_model_whose_dimensions_are_bound() {
    let folder = scratch("cli_bound");
    let named = |name: &str| {
        let mut value = value(name, 1, &[2, 3]);
        if let Some(pb::type_proto::Value::TensorType(tensor)) =
            value.r#type.as_mut().and_then(|t| t.value.as_mut())
        {
            let batch = pb::tensor_shape_proto::dimension::Value::DimParam("batch".to_string());
            tensor.shape.as_mut().expect("a shape").dim[0].value = Some(batch);
        }
        value
    };
    let bytes = edited(|_, g| {
        g.node = vec![node("Relu", &["x"], "h"), node("Neg", &["h"], "y")];
        (g.input, g.value_info, g.output) = (vec![named("x")], vec![named("h")], vec![named("y")]);
    });
    std::fs::write(folder.join("named.onnx"), bytes).expect("a file under target");
    let said = lmc(&folder, &["verify", "named.onnx", "--dim", "batch=3"]);
    assert!(said.contains("right") && !said.contains("naive loops"), "{said}");
}
