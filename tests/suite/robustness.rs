//! Damaged models: thousands of mutations of small models must give errors, never a panic or an internal error.
//!
//! Bytes are flipped, files cut, and fields of the decoded model set to hostile values; what still
//! decodes goes all the way to a program. `LMC_MUTATIONS=n` sets how often each model is mutated.

use crate::conformance::cases;
use crate::lengths::body;
use crate::support::onnx::{self, model, node, text, value, with};
use crate::support::repository;
use lmc::base::{DType, Tensor, TensorType};
use lmc::import::{self, Bindings};
use lmc::passes::{Around, infer, run_passes};
use lmc::plan::Program;
use lmc::run::limits;
use lmc::target::{Target, resolve};
use prost::Message;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use tract_onnx::pb;

thread_local! {
    /// Where the last panic of this thread was.
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Numbers from a seed (xorshift).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 7
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    fn pick<'a, T>(&mut self, of: &'a mut [T]) -> Option<&'a mut T> {
        let at = self.below(of.len());
        of.get_mut(at)
    }

    fn hostile(&mut self) -> i64 {
        const VALUES: [i64; 12] = [0, -1, 1, 2, -2, 7, 255, 65536, i64::MAX, i64::MIN, 1 << 31, -(1 << 33)];
        VALUES[self.below(VALUES.len())]
    }
}

/// Damages the bytes of a file.
fn mutate_bytes(bytes: &mut Vec<u8>, random: &mut Random) {
    match random.below(4) {
        0 => bytes.truncate(random.below(bytes.len())),
        1 => {
            let at = random.below(bytes.len());
            bytes.remove(at);
        }
        _ => {
            for _ in 0..1 + random.below(4) {
                let bit = 1 << random.below(8);
                if let Some(byte) = random.pick(bytes) {
                    *byte ^= bit;
                }
            }
        }
    }
}

fn mutate_tensor(tensor: &mut pb::TensorProto, random: &mut Random) {
    match random.below(5) {
        0 => tensor.data_type = random.below(30) as i32,
        1 => {
            let value = random.hostile();
            random.pick(&mut tensor.dims).into_iter().for_each(|d| *d = value);
        }
        2 => tensor.dims.push(random.hostile()),
        3 => {
            let value = random.hostile();
            random.pick(&mut tensor.int64_data).into_iter().for_each(|d| *d = value);
            let at = random.below(tensor.raw_data.len() / 8) * 8;
            if let Some(place) = tensor.raw_data.get_mut(at..at + 8) {
                place.copy_from_slice(&value.to_le_bytes());
            }
        }
        _ => tensor.raw_data.truncate(random.below(tensor.raw_data.len())),
    }
}

fn mutate_attribute(attr: &mut pb::AttributeProto, random: &mut Random) {
    match random.below(6) {
        0 => attr.i = random.hostile(),
        1 => {
            let value = random.hostile();
            random.pick(&mut attr.ints).into_iter().for_each(|i| *i = value);
        }
        2 => attr.ints.truncate(random.below(attr.ints.len())),
        3 => attr.ints.push(random.hostile()),
        4 => attr.r#type = random.below(16) as i32,
        _ => match (&mut attr.t, &mut attr.g) {
            (Some(tensor), _) => mutate_tensor(tensor, random),
            (_, Some(graph)) => mutate_graph(graph, random),
            _ => attr.s = b"SAME_UPPER".to_vec(),
        },
    }
}

fn mutate_node(node: &mut pb::NodeProto, names: &[String], random: &mut Random) {
    match random.below(6) {
        0 => {
            let name = names.get(random.below(names.len())).cloned().unwrap_or_default();
            random.pick(&mut node.input).into_iter().for_each(|i| i.clone_from(&name));
        }
        1 => node.input.truncate(random.below(node.input.len())),
        2 => node.input.push(names.get(random.below(names.len())).cloned().unwrap_or_default()),
        3 => node.output.push(format!("extra{}", random.next())),
        4 => {
            let at = random.below(node.attribute.len());
            if at < node.attribute.len() {
                node.attribute.remove(at);
            }
        }
        _ => {
            if let Some(attr) = random.pick(&mut node.attribute) {
                mutate_attribute(attr, random);
            }
        }
    }
}

fn mutate_type(info: &mut pb::ValueInfoProto, random: &mut Random) {
    use pb::tensor_shape_proto::dimension::Value;
    let Some(pb::TypeProto { value: Some(pb::type_proto::Value::TensorType(tensor)), .. }) = &mut info.r#type
    else {
        return;
    };
    match random.below(3) {
        0 => tensor.elem_type = random.below(30) as i32,
        1 => tensor.shape = None,
        _ => {
            let value = random.hostile();
            let dims = tensor.shape.as_mut().map(|s| s.dim.as_mut_slice()).unwrap_or_default();
            random.pick(dims).into_iter().for_each(|d| d.value = Some(Value::DimValue(value)));
        }
    }
}

fn mutate_graph(graph: &mut pb::GraphProto, random: &mut Random) {
    let names: Vec<String> =
        graph.node.iter().flat_map(|n| n.input.iter().chain(&n.output)).cloned().collect();
    match random.below(6) {
        0 => {
            if let Some(info) = random.pick(&mut graph.input) {
                mutate_type(info, random);
            }
        }
        1 => {
            if let Some(tensor) = random.pick(&mut graph.initializer) {
                mutate_tensor(tensor, random);
            }
        }
        _ => {
            if let Some(node) = random.pick(&mut graph.node) {
                mutate_node(node, &names, random);
            }
        }
    }
}

/// A damaged copy of a model.
fn mutate(original: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = original.to_vec();
    match pb::ModelProto::decode(original) {
        Ok(mut model) if random.below(4) > 0 => {
            for _ in 0..1 + random.below(2) {
                if let Some(graph) = &mut model.graph {
                    mutate_graph(graph, random);
                }
            }
            match random.below(20) {
                0 => model.ir_version = random.hostile(),
                1 => model.opset_import.iter_mut().for_each(|o| o.version = random.hostile()),
                2 => model.graph = None,
                _ => {}
            }
            model.encode_to_vec()
        }
        _ => {
            mutate_bytes(&mut bytes, random);
            bytes
        }
    }
}

/// Goes as far as the model allows.
fn compile(bytes: &[u8], target: &Target) -> lmc::error::Result<Program> {
    let model = import::decode(bytes, None)?;
    let (types, _) = Bindings::default().resolve(&model.body)?;
    let (mut graph, _) = infer(&model, &types).into_result()?;
    run_passes(&mut graph, Around::new(target), &mut |_, _, _| {})?;
    lmc::plan::program(&graph, "mutated", target)
}

fn models() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = cases().into_iter().map(|c| c.join("model.onnx")).collect();
    let small = ["kws_dscnn", "kws_dscnn_int8_qdq", "sww_streaming"];
    files.extend(small.map(|m| repository().join("tests/models").join(m).join("model.onnx")));
    files
}

#[test]
fn damaged_models_give_errors() {
    let rounds: u64 = std::env::var("LMC_MUTATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(4);
    let target = resolve("x86_64", "generic").expect("a target");
    let files = models();
    let panics: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());
    let (next, refused, bugs) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|info| {
        PLACE.with(|p| p.replace(info.location().map(|l| l.to_string()).unwrap_or_default()));
    }));
    let work = || {
        while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            let original = std::fs::read(file).expect("a readable model");
            for round in 0..rounds {
                let seed = file.as_os_str().as_encoded_bytes().iter().rev().take(40);
                let seed = seed.fold(round + 1, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
                let bytes = mutate(&original, &mut Random(seed | 1));
                let place = format!("{} round {round}", file.display());
                let start = Instant::now();
                let result = catch_unwind(AssertUnwindSafe(|| compile(&bytes, &target)));
                if start.elapsed().as_secs() >= 5 {
                    println!("{place} takes {:?}", start.elapsed());
                }
                match result {
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) => {
                        refused.fetch_add(1, Ordering::Relaxed);
                        if error.kind == lmc::error::Kind::Bug {
                            bugs.lock().expect("no panic").insert(place, error.to_string());
                        }
                    }
                    Err(panic) => {
                        let text = panic.downcast_ref::<String>().cloned();
                        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| s.to_string()));
                        let text = format!("{}: {}", PLACE.take(), text.unwrap_or_default());
                        panics.lock().expect("no panic").insert(place, text);
                    }
                }
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    std::panic::set_hook(hook);
    let (panics, bugs) = (panics.into_inner().expect("no panic"), bugs.into_inner().expect("no panic"));
    println!("{} of {} refused", refused.into_inner(), files.len() as u64 * rounds);
    assert!(panics.is_empty(), "{} panics: {panics:#?}", panics.len());
    assert!(bugs.is_empty(), "{} internal errors: {bugs:#?}", bugs.len());
}

/// A model of opset 27 around one node, with the given inputs and output.
fn around(node: pb::NodeProto, inputs: &[(&str, i32, &[i64])], output: (&str, i32, &[i64])) -> Vec<u8> {
    let graph = pb::GraphProto {
        name: "g".to_string(),
        node: vec![node],
        input: inputs.iter().map(|(name, ty, dims)| value(name, *ty, dims)).collect(),
        output: vec![value(output.0, output.1, output.2)],
        ..Default::default()
    };
    let opset_import = vec![pb::OperatorSetIdProto { domain: String::new(), version: 27 }];
    pb::ModelProto { ir_version: 10, opset_import, graph: Some(graph), ..Default::default() }.encode_to_vec()
}

const F32: i32 = 1;
const U8: i32 = 2;
const I8: i32 = 3;
const I64: i32 = 7;
const BOOL: i32 = 9;

/// Models that once failed, and are sound.
fn sound_models_of_the_past() -> Vec<(&'static str, Vec<u8>)> {
    let tall = node("BitwiseAnd", &["a", "b"], "y");
    let mut state = node("CausalConvWithState", &["x", "w"], "y");
    state.output.push("state".to_string());
    let emptied =
        vec![node("Neg", &["x"], "a"), node("Tile", &["a", "times"], "t"), node("Neg", &["t"], "y")];
    let reflected = with(node("Pad", &["x", "pads"], "y"), [text("mode", "reflect")]);
    vec![
        ("one output of three", around(node("Unique", &["x"], "y"), &[("x", F32, &[4])], ("y", F32, &[-1]))),
        (
            "an axis of 2^31 points",
            around(tall, &[("a", U8, &[3]), ("b", U8, &[1 << 31, 1])], ("y", U8, &[1 << 31, 3])),
        ),
        (
            "tiles of which there is none",
            model(emptied, &[1, 3, 8, 8], &[1, 3, 0, 8], &[("times", Tensor::new([4], &[1i64, 1, 0, 1]))])
                .encode_to_vec(),
        ),
        ("loops within loops", nested(node("Sin", &["v"], "next"), 2, 14)),
        (
            "a reflection of reflections",
            model(vec![reflected], &[8], &[-1], &[("pads", Tensor::new([2], &[1_000_000i64; 2]))])
                .encode_to_vec(),
        ),
        (
            "padding around nothing",
            around(state, &[("x", F32, &[1, 1, 0]), ("w", F32, &[1, 1, 4])], ("y", F32, &[1, 1, 0])),
        ),
    ]
}

/// Models that are wrong, or too large, of which that was not always said.
fn wrong_models_of_the_past() -> Vec<(&'static str, Vec<u8>)> {
    let boxes = node("NonMaxSuppression", &["b", "s", "most"], "y");
    let endless = node("MatMul", &["a", "b"], "y");
    let classes = node("NegativeLogLikelihoodLoss", &["x", "t"], "y");
    let mut attention = node("Attention", &["q", "k", "v", "", "pk", "pv"], "y");
    attention.output.extend(["nk".to_string(), "nv".to_string()]);
    vec![
        (
            "a number of boxes that is no integer",
            around(
                boxes,
                &[("b", F32, &[1, 3, 4]), ("s", F32, &[1, 1, 3]), ("most", F32, &[1])],
                ("y", I64, &[-1, 3]),
            ),
        ),
        (
            "2^62 multiply-adds",
            around(endless, &[("a", I8, &[1 << 31, 1]), ("b", I8, &[1, 1 << 31])], ("y", I8, &[-1, -1])),
        ),
        ("what is not supported, in loops", nested(node("Unknown", &["v"], "next"), 2, 14)),
        ("branches within branches, tried twice each", nested_branches(18)),
        ("a class of none", around(classes, &[("x", F32, &[3, 0]), ("t", I64, &[3])], ("y", F32, &[]))),
        (
            "earlier keys of another batch",
            around(
                attention,
                &[
                    ("q", F32, &[2, 3, 4, 8]),
                    ("k", F32, &[2, 3, 6, 8]),
                    ("v", F32, &[2, 3, 6, 8]),
                    ("pk", F32, &[1, 3, 12, 8]),
                    ("pv", F32, &[1, 3, 12, 8]),
                ],
                ("y", F32, &[2, 3, 4, 8]),
            ),
        ),
    ]
}

/// What mutations have found, each as its smallest model, and whether it can be compiled.
#[test]
fn faults_of_the_past() {
    let target = resolve("x86_64", "generic").expect("a target");
    for (name, bytes) in sound_models_of_the_past() {
        assert!(compile(&bytes, &target).is_ok(), "{name}");
    }
    for (name, bytes) in wrong_models_of_the_past() {
        let error = compile(&bytes, &target).err().expect(name);
        assert!(error.kind == lmc::error::Kind::Model, "{name}: {error}");
    }
}

/// A sine of so many sines, by a Loop.
fn sines(count: i64) -> Vec<u8> {
    nested(node("Sin", &["v"], "next"), count, 1)
}

/// A node on `v` that gives `next`, in so many Loops, each in the body of another, that run so often.
fn nested(mut repeated: pb::NodeProto, count: i64, depth: usize) -> Vec<u8> {
    for level in 1..=depth {
        let (from, to) = if level == depth { ("x", "y") } else { ("v", "next") };
        let nodes = vec![repeated, node("Identity", &["go"], "on")];
        repeated = node("Loop", &["count", "", from], to);
        body(&mut repeated, nodes, (&[("i", I64), ("go", BOOL), ("v", F32)], &[("on", BOOL), ("next", F32)]));
    }
    model(vec![repeated], &[1, 3], &[1, 3], &[("count", Tensor::scalar(count))]).encode_to_vec()
}

/// A node that gives `t`, in so many branches, each in another, beside which there is one that cannot be taken.
fn nested_branches(depth: usize) -> Vec<u8> {
    let branch = |node: pb::NodeProto| pb::GraphProto {
        name: "branch".to_string(),
        output: vec![value(&node.output[0], F32, &[1, 3])],
        node: vec![node],
        ..Default::default()
    };
    let mut chosen = node("Relu", &["x"], "t");
    for level in 1..=depth {
        let mut choice = node("If", &["go"], if level == depth { "y" } else { "t" });
        let other = branch(node("Unknown", &["x"], "t"));
        choice.attribute.push(onnx::body("then_branch", branch(chosen)));
        choice.attribute.push(onnx::body("else_branch", other));
        chosen = choice;
    }
    around(chosen, &[("x", F32, &[1, 3]), ("go", BOOL, &[])], ("y", F32, &[1, 3]))
}

/// What a few bytes describe is compiled, but neither memory nor time is asked for that a run cannot have.
#[test]
fn what_takes_too_much_is_not_run() {
    let target = resolve("x86_64", "generic").expect("a target");
    let run = |bytes: &[u8]| limits::check(&compile(bytes, &target).expect("it compiles"));
    run(&sines(1 << 20)).expect("a moment");
    let error = run(&sines(1 << 60)).expect_err("an eternity").to_string();
    assert!(error.contains("steps") && error.contains("lmc build"), "{error}");
    let relu =
        |length: i64| around(node("Relu", &["x"], "y"), &[("x", F32, &[length])], ("y", F32, &[length]));
    run(&relu(1 << 20)).expect("some megabytes");
    let error = run(&relu(1 << 30)).expect_err("32 GB").to_string();
    assert!(error.contains("34359738368 bytes") && error.contains("--dim"), "{error}");
    let types = [TensorType::new(DType::F32, [1 << 20])];
    limits::check_data(&types, 8).expect("some megabytes");
    limits::check_data(&types, 2048).expect_err("8 GB");
}
