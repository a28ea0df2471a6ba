//! An If whose condition is an input of the model and whose branches give unlike shapes, as merged decoders have them:
//! the branch that the options choose is compiled, or quantized; `run` returns an error where the input says the other.
//! Dimensions that the options name: those without a name, or with one that stands for two sizes.

use crate::lengths::{body, name_dim};
use crate::sizes::decode;
use crate::support::onnx::{int, ints, model, node, value, with};
use lmc::base::{DType, Tensor, TensorType};
use lmc::build::{Build, Built, Silent};
use lmc::compress::chosen::choose;
use lmc::compress::onnx::Onnx;
use lmc::data::write_npy;
use lmc::error::Result;
use lmc::import::{Bindings, Dim};
use lmc::run::executor::Executor;
use lmc::target::resolve;
use prost::Message;
use std::path::Path;
use std::process::Command;
use tract_onnx::pb;

/// An If of one node per branch.
fn chosen_by(condition: &str, branches: [pb::NodeProto; 2], output: &str) -> pb::NodeProto {
    let mut chosen = node("If", &[condition], output);
    for (name, inner) in ["then_branch", "else_branch"].into_iter().zip(branches) {
        let output = inner.output[0].clone();
        body(&mut chosen, vec![inner], (&[], &[(&output, 1)]));
        chosen.attribute.last_mut().expect("a branch").name = name.into();
    }
    chosen
}

fn chosen(branches: [pb::NodeProto; 2], output: &str) -> pb::NodeProto {
    chosen_by("all", branches, output)
}

/// Three rows plus one; or two of them. Names within branches are those of others.
fn merged() -> pb::ModelProto {
    let twice = chosen([node("Add", &["x", "x"], "sum"), node("Sub", &["x", "one"], "part")], "z");
    let chosen =
        chosen([node("Add", &["x", "one"], "sum"), node("Slice", &["x", "from", "to"], "part")], "y");
    let constants = [
        ("one", Tensor::scalar(1f32)),
        ("from", Tensor::new([1], &[1i64])),
        ("to", Tensor::new([1], &[3i64])),
    ];
    let mut proto = model(vec![twice, chosen], &[3, 2], &[-1, 2], &constants);
    let graph = proto.graph.as_mut().expect("a graph");
    graph.input.push(value("all", 9, &[1]));
    graph.output.push(value("z", 1, &[3, 2]));
    proto
}

/// A decoder as exporters merge them: the prompt, or a step with what was there before.
pub fn decoder() -> pb::ModelProto {
    let prompt = node("Identity", &["embedded"], "first");
    let step = with(node("Concat", &["past", "embedded"], "all"), [int("axis", 1)]);
    let mean = with(node("ReduceMean", &["encoded"], "mean"), [ints("axes", &[1])]);
    let nodes = vec![
        node("Gather", &["table", "input_ids"], "rows"),
        mean,
        node("Add", &["rows", "mean"], "embedded"),
        chosen_by("use_cache_branch", [step, prompt], "present"),
        node("MatMul", &["present", "weights"], "y"),
    ];
    let weights = crate::sizes::floats(&[16, 32], 2);
    let constants = [("table", crate::sizes::floats(&[20, 16], 1)), ("weights", weights)];
    let mut proto = model(nodes, &[], &[], &constants);
    let declared = |name: &str, dtype: i32, dims: &[&str], last: &[i64]| {
        let sizes: Vec<i64> = dims.iter().map(|_| -1).chain(last.iter().copied()).collect();
        let mut input = value(name, dtype, &sizes);
        dims.iter().enumerate().for_each(|(axis, dim)| name_dim(&mut input, axis, dim));
        input
    };
    let graph = proto.graph.as_mut().expect("a graph");
    graph.input = vec![
        declared("input_ids", 7, &["batch_size", "decoder_sequence_length"], &[]),
        declared("encoded", 1, &["batch_size", "encoder_sequence_length"], &[16]),
        declared("past", 1, &["batch_size", "past_decoder_sequence_length"], &[16]),
        value("use_cache_branch", 9, &[1]),
    ];
    graph.output = vec![value("y", 1, &[-1, -1, 32])];
    proto
}

fn build(arch: &str, build: Build) -> Result<Built> {
    build.build_model(&decode(&merged()), resolve(arch, "generic").expect("known"), "m", &Silent)
}

fn flag(value: bool) -> Tensor {
    Tensor::from_bytes(TensorType::new(DType::Bool, [1]), vec![u8::from(value)]).expect("a boolean")
}

#[test]
fn the_branch_that_is_chosen_is_compiled() {
    let x = Tensor::new([3, 2], &[1f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let cases = [(true, vec![2f32, 3.0, 4.0, 5.0, 6.0, 7.0]), (false, vec![3f32, 4.0, 5.0, 6.0])];
    for arch in ["x86_64", "aarch64"] {
        for (taken, want) in &cases {
            let built = build(arch, Build::new("m.onnx").branch("all", *taken)).expect("a program");
            let mut run =
                Executor::new(&built.program, &built.object.bytes, &built.target, None).expect("an object");
            let y = run.run(&[x.clone(), flag(*taken)]).expect("a result");
            assert_eq!(
                (y[0].ty.shape[0], y[0].to_vec::<f32>()),
                (want.len() / 2, Some(want.clone())),
                "{arch}"
            );
            assert!(run.run(&[x.clone(), flag(!taken)]).is_err(), "{arch}: the other branch");
        }
    }
}

#[test]
fn what_cannot_be_chosen_is_an_error() {
    let error = |builder: Build| build("x86_64", builder).err().map(|e| e.to_string()).unwrap_or_default();
    let unlike = error(Build::new("m.onnx"));
    assert!(
        unlike.contains("the branches give different types") && unlike.contains("--input NAME=true"),
        "{unlike}"
    );
    let shape = error(Build::new("m.onnx").branch("x", true));
    assert!(shape.contains("'x' is not the condition of an If"), "{shape}");
}

/// What is left is the branch alone, under names of its own.
#[test]
fn a_branch_takes_the_place_of_its_if() {
    let x = Tensor::new([3, 2], &[1f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let cases = [
        (true, vec![2f32, 3.0, 4.0, 5.0, 6.0, 7.0], vec![2f32, 4.0, 6.0, 8.0, 10.0, 12.0]),
        (false, vec![3f32, 4.0, 5.0, 6.0], vec![0f32, 1.0, 2.0, 3.0, 4.0, 5.0]),
    ];
    for (taken, y, z) in cases {
        let mut onnx = Onnx::decode(&merged().encode_to_vec(), None).expect("a model");
        let gone = choose(&mut onnx, &[("all".to_string(), taken)].into()).expect("a branch");
        assert_eq!((gone, onnx.inputs.len()), (vec![1], 1));
        let proto = pb::ModelProto::decode(&*onnx.encode().expect("bytes")).expect("a model");
        let got = crate::sizes::naive(&decode(&proto), std::slice::from_ref(&x));
        assert_eq!(got.iter().map(|t| t.to_vec::<f32>()).collect::<Vec<_>>(), [Some(y), Some(z)], "{taken}");
    }
}

/// Data are for the model as it is in the file; what is written has the branch that was chosen.
#[test]
fn a_branch_is_quantized() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("chosen_quantized");
    std::fs::create_dir_all(&folder).expect("a folder");
    let weights: Vec<f32> = (0..32 * 32).map(|i| (i % 7) as f32 - 3.0).collect();
    let product = |name| node("MatMul", &["x", "w"], name);
    let nodes = vec![chosen([product("wide"), node("Slice", &["x", "from", "to"], "part")], "y")];
    let constants = [
        ("w", Tensor::new([32, 32], &weights)),
        ("from", Tensor::new([1], &[1i64])),
        ("to", Tensor::new([1], &[3i64])),
    ];
    let mut proto = model(nodes, &[4, 32], &[-1, 32], &constants);
    proto.graph.as_mut().expect("a graph").input.insert(0, value("all", 9, &[1]));
    std::fs::write(folder.join("m.onnx"), proto.encode_to_vec()).expect("a file");
    let x: Vec<f32> = (0..4 * 32).map(|i| (i % 5) as f32 / 4.0).collect();
    for (number, tensor) in [flag(true), Tensor::new([4, 32], &x)].iter().enumerate() {
        write_npy(&folder.join(format!("input_{number}.npy")), tensor).expect("a file");
    }
    for how in [&["--data", "."][..], &["--dynamic"], &["--weights-only", "int8"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lmc"));
        command.args(["quantize", "m.onnx", "-o", "q.onnx", "--input", "all=true"]).args(how);
        let made = command.current_dir(&folder).output().expect("it runs");
        let said = String::from_utf8_lossy(&made.stdout) + String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success() && said.contains("cosine with float 0.999"), "{how:?}: {said}");
        let onnx = Onnx::read(&folder.join("q.onnx")).expect("a model");
        assert!(onnx.nodes.iter().all(|n| n.op() != "If") && onnx.inputs[0].name == "x", "{how:?}");
    }
}

/// Two inputs whose lengths have one name, and one without a name.
#[test]
fn dimensions_get_names() {
    let joined = with(node("Concat", &["x", "more", "last"], "y"), [int("axis", 0)]);
    let mut proto = model(vec![joined], &[-1], &[-1], &[]);
    let graph = proto.graph.as_mut().expect("a graph");
    let mut last = value("last", 1, &[-1]);
    name_dim(&mut last, 0, "");
    graph.input.extend([value("more", 1, &[-1]), last]);
    let decoded = decode(&proto);
    let named = |name: &str| vec![Dim::Free(Some(name.to_string()))];
    let bounds = |build: Build| ["length", "more", "last"].into_iter().fold(build, |b, n| b.dim_up_to(n, 5));
    let build = |build: Build, arch: &str| {
        build.build_model(&decoded, resolve(arch, "generic").expect("known"), "m", &Silent)
    };
    for arch in ["x86_64", "aarch64"] {
        let builder =
            Build::new("m.onnx").input_dims("more", named("more")).input_dims("last", named("last"));
        let built = build(bounds(builder), arch).unwrap_or_else(|e| panic!("{e}"));
        let mut run =
            Executor::new(&built.program, &built.object.bytes, &built.target, None).expect("an object");
        for sizes in [[5usize, 5, 5], [2, 4, 1], [1, 3, 5]] {
            let inputs = [0, 1, 2].map(|i| crate::sizes::floats(&[sizes[i]], i as u64));
            let want: Vec<f32> = inputs.iter().flat_map(|t| t.to_vec::<f32>().expect("floats")).collect();
            let got = run.run(&inputs).expect("a result");
            assert_eq!(got[0].to_vec::<f32>(), Some(want), "{arch} {sizes:?}");
        }
    }
    let refused = |b: Build| build(b, "x86_64").err().map(|e| e.to_string()).unwrap_or_default();
    let none = refused(Build::new("m.onnx").input_dims("less", named("n")));
    assert!(none.contains("no input named 'less'"), "{none}");
    let two = refused(Build::new("m.onnx").input_dims("x", [named("n"), named("m")].concat()));
    assert!(two.contains("input 'x'") && two.contains("2 dimensions are named"), "{two}");

    let mut unnamed = model(vec![node("Abs", &["x"], "y")], &[2, -1, -1], &[2, -1, -1], &[]);
    let inputs = &mut unnamed.graph.as_mut().expect("a graph").input;
    [1, 2].iter().for_each(|&axis| name_dim(&mut inputs[0], axis, ""));
    let target = resolve("x86_64", "generic").expect("known");
    let free = Build::new("m.onnx").build_model(&decode(&unnamed), target, "m", &Silent).err();
    let free = free.map(|e| e.to_string()).unwrap_or_default();
    assert!(free.contains("--input x=2,a,b") && free.contains("--dim 'a<=128'"), "{free}");
}

/// Exporters name the length of each cache anew: names that options say are one take one size.
#[test]
fn dimensions_of_two_names_are_one() {
    let nodes = vec![
        node("Add", &["x", "more"], "sum"),
        with(node("Concat", &["sum", "last"], "y"), [int("axis", 0)]),
    ];
    let mut proto = model(nodes, &[-1], &[-1], &[]);
    let graph = proto.graph.as_mut().expect("a graph");
    graph.input.extend(["more", "last"].map(|name| value(name, 1, &[-1])));
    let names = ["past", "s71", "s71 + 2*s12"];
    graph.input.iter_mut().zip(names).for_each(|(input, name)| name_dim(input, 0, name));
    let equal = [("s71", "s5"), ("s5", "past"), ("s12", "past")];
    let equal = equal.map(|(name, other)| (name.to_string(), other.to_string()));
    let with_equal = |equal: &[(String, String)]| {
        let bounds = [("past".to_string(), 5)].into();
        let bindings = Bindings { equal: equal.iter().cloned().collect(), bounds, ..Bindings::default() };
        let target = resolve("x86_64", "generic").expect("known");
        Build::new("m.onnx").bindings(bindings).build_model(&decode(&proto), target, "m", &Silent)
    };
    let unknown = with_equal(&[("s7".to_string(), "past".to_string())]).err().map(|e| e.to_string());
    assert!(unknown.is_some_and(|e| e.contains("'s7'")));
    let unused = with_equal(&equal).err().map(|e| e.to_string());
    assert!(unused.is_some_and(|e| e.contains("'s5'")));
    let built = with_equal(&[("s71", "past"), ("s12", "past")].map(|(a, b)| (a.to_string(), b.to_string())));
    let built = built.unwrap_or_else(|e| panic!("{e}"));
    let mut run = Executor::new(&built.program, &built.object.bytes, &built.target, None).expect("an object");
    for size in [3usize, 5, 1] {
        let inputs = [size, size, 3 * size].map(|n| crate::sizes::floats(&[n], n as u64));
        let [x, more, last] = inputs.each_ref().map(|t| t.to_vec::<f32>().expect("floats"));
        let want: Vec<f32> = x.iter().zip(&more).map(|(a, b)| a + b).chain(last).collect();
        assert_eq!(run.run(&inputs).expect("a result")[0].to_vec::<f32>(), Some(want), "{size}");
    }
}

#[test]
fn names_of_dimensions_are_read() {
    let fixed = Dim::Fixed;
    let name = |text: &str| Dim::Free(Some(text.to_string()));
    assert_eq!(Bindings::parse_dims("batch, 3,side"), Some(vec![name("batch"), fixed(3), name("side")]));
    for wrong in ["", "a,,b", "3x4,a", "a b"] {
        assert_eq!(Bindings::parse_dims(wrong), None, "{wrong}");
    }
}

/// Exporters number dimensions that have no names: where each is the first of an input, all are batches.
#[test]
fn numbered_first_dimensions_are_batches() {
    let of = |names: [&str; 2]| {
        let mut proto = model(vec![node("Add", &["x", "z"], "y")], &[-1, 4], &[-1, 4], &[]);
        let graph = proto.graph.as_mut().expect("a graph");
        graph.input.push(value("z", 1, &[-1, 4]));
        graph.input.iter_mut().zip(names).for_each(|(input, name)| name_dim(input, 0, name));
        Bindings::default().resolve(&decode(&proto).body).map_err(|e| e.to_string())
    };
    let (types, notes) = of(["unk__17", "unk__18"]).expect("batches");
    let batch = TensorType::new(DType::F32, [1, 4]);
    assert_eq!((types, notes.len()), (vec![batch.clone(), batch], 2));
    let refused = of(["frames", "tokens"]).expect_err("no batches");
    assert!(refused.contains("'frames', 'tokens'"), "{refused}");
}
