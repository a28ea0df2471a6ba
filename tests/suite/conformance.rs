//! ONNX's own operator tests: each case is a model of one node or few, with inputs and outputs.
//!
//! The cases are `tests/data/onnx_node_tests*.tar.xz` (from onnx/onnx, Apache-2.0; see
//! `tests/data/LICENSES.md`). Each model is typed, then run by the interpreter of definitions, and
//! compiled to an object that runs on this machine and under emulation. Models may get a shape or an axis as an
//! input, which must be a constant for lmc: where that is the only obstacle, such inputs are given as constants.
//!
//! A case that fails must be listed, with its reason, in `conformance_exceptions.txt`, or, where the
//! interpreter passes it, in `conformance_compiled.txt`; listed cases that pass are printed. `LMC_CASE=name` runs
//! only the cases whose name holds `name`, and prints why each fails; `LMC_ONNX_TESTS=folder` takes the cases from
//! there, newer ones for example.
//!
//! Of the cases whose values are tensors of numbers, `docs/testing.md` says how many pass.

use crate::support::{batch, repository, run};
use lmc::base::{DType, Tensor, TensorType};
use lmc::build::{Build, Built, Silent};
use lmc::definition::{Env, interpret};
use lmc::graph::Graph;
use lmc::import::{self, Bindings, Declared, Model};
use lmc::run::executor::Executor;
use lmc::run::load::Loaded;
use lmc::scalar::Scalar;
use lmc::target::{Target, resolve};
use lmc::{lower, passes, plan};
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use tract_onnx::pb;

/// Which inputs are given as constants.
#[derive(Clone, Copy)]
enum Constants {
    None,
    /// Integers of at most one dimension: shapes, axes, counts.
    Integers,
    All,
}

/// One data set of a case: a typed graph, what it is given, and what it must give.
struct Run {
    graph: Graph,
    /// The model, where sizes depend on data.
    sized: Option<Model>,
    inputs: Vec<Tensor>,
    wanted: Vec<Tensor>,
}

#[test]
fn operator_tests_by_the_interpreter() {
    report("interpreter", each_run(interpreted), &[LISTED]);
}

#[test]
fn operator_tests_on_this_machine() {
    for cpu in ["generic", "native"] {
        let target = resolve("native", cpu).expect("this machine");
        report(cpu, each_run(|run| compiled(run, &target)), &[LISTED, LISTED_COMPILED]);
    }
}

#[test]
fn operator_tests_on_aarch64_under_emulation() {
    let target = resolve("aarch64", "generic").expect("a known target");
    let (runs, refused) = (Mutex::new(Vec::new()), Mutex::new(Failures::new()));
    each_case(|case| {
        let built = typed(case).and_then(|runs| {
            let with_object = |run: Run| Ok((object(&run, &target)?, run));
            let (sized, fixed): (Vec<Run>, Vec<Run>) = runs.into_iter().partition(|r| r.sized.is_some());
            for run in &sized {
                compare(&compiled(run, &target)?, &run.wanted)?;
            }
            if fixed.is_empty() {
                refused.lock().expect("no panic").insert(name(case), None);
            }
            fixed.into_iter().map(with_object).collect::<Result<Vec<_>, String>>()
        });
        match built {
            Ok(built) => {
                let named = built.into_iter().map(|(object, run)| (name(case), object, run));
                runs.lock().expect("no panic").extend(named);
            }
            Err(reason) => {
                refused.lock().expect("no panic").insert(name(case), Some(reason));
            }
        }
    });
    let mut results = refused.into_inner().expect("no panic");
    let runs = runs.into_inner().expect("no panic");
    for (number, part) in runs.chunks(200).enumerate() {
        let models: Vec<batch::Model> = part
            .iter()
            .map(|(_, object, run)| batch::Model {
                object,
                inputs: run.inputs.iter().map(|t| &*t.data).collect(),
                outputs: run.wanted.iter().map(|t| t.ty.bytes()).collect(),
            })
            .collect();
        let outcomes = batch::run_on_aarch64(&format!("conformance_{number}"), &models);
        for ((name, _, run), outcome) in part.iter().zip(outcomes) {
            let failed = outcome.and_then(|bytes| compare(&tensors_of(&run.graph, bytes)?, &run.wanted));
            let before = results.entry(name.clone()).or_default();
            *before = before.take().or(failed.err());
        }
    }
    report("aarch64", results, &[LISTED, LISTED_COMPILED]);
}

/// Cases that may fail.
const LISTED: &str = include_str!("conformance_exceptions.txt");
/// Cases that the interpreter passes, but that fail when compiled.
const LISTED_COMPILED: &str = include_str!("conformance_compiled.txt");

/// For each case that ran, why it failed, if it did.
type Failures = BTreeMap<String, Option<String>>;

/// The part of the cases' names that `LMC_CASE` asks for.
fn filter() -> String {
    std::env::var("LMC_CASE").unwrap_or_default()
}

/// Does something with each case, two at a time.
fn each_case(work: impl Fn(&Path) + Sync) {
    let only = filter();
    let cases: Vec<PathBuf> = cases().into_iter().filter(|c| name(c).contains(&only)).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            if !only.is_empty() {
                eprintln!("{}", name(case));
            }
            work(case);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
}

/// Executes each run of each case and compares.
fn each_run(execute: impl Fn(&Run) -> Result<Vec<Tensor>, String> + Sync) -> Failures {
    let results = Mutex::new(Failures::new());
    each_case(|case| {
        let checked =
            AssertUnwindSafe(|| typed(case)?.iter().try_for_each(|run| compare(&execute(run)?, &run.wanted)));
        let result = std::panic::catch_unwind(checked).unwrap_or_else(|_| Err("panicked".into()));
        results.lock().expect("no panic").insert(name(case), result.err());
    });
    results.into_inner().expect("no panic")
}

/// Prints how many passed; panics with those that failed and are not listed.
fn report(place: &str, results: Failures, listed: &[&str]) {
    let (only, excepted) = (filter(), exceptions(listed));
    let failed = || results.iter().filter_map(|(name, reason)| Some((name, reason.as_ref()?)));
    let wrong: Vec<String> = failed()
        .filter(|(name, _)| !only.is_empty() || !excepted.contains_key(*name))
        .map(|(name, reason)| format!("{name}: {reason}"))
        .collect();
    let (all, failures) = (results.len(), failed().count());
    let passed = all - failures;
    println!("{place}: {passed} passed, {failures} failed or refused, {} of them unexpected", wrong.len());
    let passes = |n: &&String| results.get(*n).is_some_and(|r| r.is_none());
    println!("listed as exceptions, but pass: {:?}", excepted.keys().filter(passes).collect::<Vec<_>>());
    assert!(wrong.is_empty(), "{place}: {} cases:\n{}", wrong.len(), wrong.join("\n"));
    if only.is_empty() && std::env::var_os("LMC_ONNX_TESTS").is_none() {
        stated(place, &results);
    }
}

/// Holds the share of the cases on tensors of numbers that pass against what the documentation says.
fn stated(place: &str, results: &Failures) {
    let numeric: BTreeSet<String> = cases().iter().filter(|c| numeric(c)).map(|c| name(c)).collect();
    let of_numbers = || results.iter().filter(|(name, _)| numeric.contains(*name));
    let (all, passed) = (of_numbers().count(), of_numbers().filter(|(_, reason)| reason.is_none()).count());
    let share = 100. * passed as f64 / all as f64;
    let text = std::fs::read_to_string(repository().join("docs/testing.md")).expect("a page on testing");
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let claim = format!("{all} have tensors of numbers alone; {passed} of them pass ({share:.1} %)");
    assert!(text.contains(&claim), "docs/testing.md does not say of {place}: {claim}");
    assert!(share >= 97., "{place}: {share:.1} %");
}

/// Whether a case's values are tensors of numbers: no strings, sequences or optionals; neither training
/// nor decoding of images.
fn numeric(case: &Path) -> bool {
    let bytes = std::fs::read(case.join("model.onnx")).expect("a model");
    let graph = pb::ModelProto::decode(&*bytes).expect("a model").graph.expect("a graph");
    let is_numeric = |info: &pb::ValueInfoProto| {
        let value = info.r#type.as_ref().and_then(|t| t.value.as_ref());
        let string = pb::tensor_proto::DataType::String as i32;
        matches!(value, Some(pb::type_proto::Value::TensorType(t)) if t.elem_type != string)
    };
    graph.input.iter().chain(&graph.output).all(is_numeric)
        && !graph.node.iter().any(|n| n.domain == "ai.onnx.preview.training" || n.op_type == "ImageDecoder")
}

/// The case's name; of the newer ones with the opset behind it, since some are in both archives.
fn name(case: &Path) -> String {
    let part = |path: Option<&Path>| {
        path.and_then(|p| p.file_name()).map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
    };
    let archive = part(case.parent());
    let suffix = archive.strip_prefix("onnx_node_tests_").map(|opset| format!("@{opset}"));
    part(Some(case)) + &suffix.unwrap_or_default()
}

/// The folders of the cases.
pub fn cases() -> Vec<PathBuf> {
    let folders = match std::env::var_os("LMC_ONNX_TESTS") {
        Some(folder) => vec![PathBuf::from(folder)],
        None => vec![unpacked("onnx_node_tests"), unpacked("onnx_node_tests_28")],
    };
    let mut cases = Vec::new();
    for folder in folders {
        let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        cases.extend(entries.flatten().map(|e| e.path()).filter(|p| p.is_dir()));
    }
    cases.sort();
    cases
}

/// The folder of an archive of cases, unpacked once.
fn unpacked(archive: &str) -> PathBuf {
    static UNPACKING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = UNPACKING.lock();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(archive);
    let done = folder.join(".unpacked");
    if !done.exists() {
        std::fs::create_dir_all(&folder).expect("a folder under target");
        let file = repository().join(format!("tests/data/{archive}.tar.xz"));
        run(Command::new("tar").arg("-xJf").arg(file).arg("-C").arg(&folder));
        std::fs::write(done, "").expect("a file under target");
    }
    folder
}

/// Name and reason of the cases that may fail.
fn exceptions(listed: &[&str]) -> BTreeMap<String, String> {
    let lines = listed.iter().flat_map(|text| text.lines());
    lines
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
        .map(|l| l.split_once(": ").unwrap_or_else(|| panic!("no reason: {l}")))
        .map(|(name, reason)| (name.to_string(), reason.to_string()))
        .collect()
}

/// The runs of a case, typed; the reason where it is refused.
fn typed(case: &Path) -> Result<Vec<Run>, String> {
    let model = import::read(&case.join("model.onnx")).map_err(|e| format!("refused: {e}"))?;
    if model.body.inputs.iter().chain(&model.body.outputs).any(|v| !v.is_tensor) {
        return Err("refused: inputs or outputs are sequences or optionals".into());
    }
    let folders = (0..).map(|set| case.join(format!("test_data_set_{set}"))).take_while(|f| f.exists());
    let run = |folder: PathBuf| {
        let inputs = tensors(&folder, "input", &model.body.inputs)?;
        let wanted = tensors(&folder, "output", &model.body.outputs)?;
        let mut run = typed_run(&model, &inputs, Constants::None);
        for constants in [Constants::Integers, Constants::All] {
            if run.as_ref().is_err_and(|e| e.contains("must be a constant")) {
                run = typed_run(&model, &inputs, constants);
            }
        }
        let (graph, sized, inputs) = run?;
        Ok(Run { graph, sized, inputs, wanted })
    };
    folders.map(run).collect()
}

/// `input_0.pb`, `input_1.pb`, ... of a data set. Older cases keep bf16 as the u16 of its bits.
fn tensors(folder: &Path, kind: &str, declared: &[Declared]) -> Result<Vec<Tensor>, String> {
    let mut tensors = Vec::new();
    while let Ok(bytes) = std::fs::read(folder.join(format!("{kind}_{}.pb", tensors.len()))) {
        let (_, mut tensor) =
            import::decode_tensor(&bytes).map_err(|e| format!("not tensors of numbers: {e}"))?;
        let dtype = declared.get(tensors.len()).and_then(|d| d.dtype);
        if (dtype, tensor.ty.dtype) == (Some(DType::BF16), DType::U16) {
            tensor.ty.dtype = DType::BF16;
        }
        tensors.push(tensor);
    }
    Ok(tensors)
}

/// Types the model, some of its inputs as constants; gives the graph and its other inputs.
type Typed = (Graph, Option<Model>, Vec<Tensor>);

fn typed_run(model: &Model, inputs: &[Tensor], constants: Constants) -> Result<Typed, String> {
    let mut model = model.clone();
    let declared = std::mem::take(&mut model.body.inputs);
    let mut given = Vec::new();
    for (input, tensor) in declared.into_iter().zip(inputs) {
        let constant = match constants {
            Constants::None => false,
            Constants::Integers => tensor.ty.dtype.is_int() && tensor.ty.rank() <= 1,
            Constants::All => true,
        };
        if constant {
            model.body.constants.push((input.name, tensor.clone()));
        } else {
            model.body.inputs.push(input);
            given.push(tensor.clone());
        }
    }
    let types: Vec<TensorType> = given.iter().map(|t| t.ty.clone()).collect();
    let refused = |e: lmc::error::Error| format!("refused: {e}");
    let (graph, _) = passes::infer(&model, &types).into_result().map_err(refused)?;
    let sized = !lower::lower(&graph).map_err(refused)?.sizes.is_empty();
    Ok((graph, sized.then_some(model), given))
}

/// A model whose sizes depend on data, compiled for the shapes of the inputs.
fn sized(model: &Model, run: &Run, target: &Target) -> Result<Built, String> {
    let named = model.body.inputs.iter().map(|i| i.name.clone());
    let shapes = named.zip(run.inputs.iter().map(|t| t.ty.shape.clone())).collect();
    let build = Build::new("m.onnx").bindings(Bindings { shapes, ..Bindings::default() });
    build.build_model(model, target.clone(), "m", &Silent).map_err(|e| format!("refused: {e}"))
}

/// The same, executed; outputs have the sizes that came out.
fn sized_run(model: &Model, run: &Run, target: &Target) -> Result<Vec<Tensor>, String> {
    let built = sized(model, run, target)?;
    let mut executor = Executor::new(&built.program, &built.object.bytes, target, None)
        .map_err(|e| format!("refused: {e}"))?;
    executor.run(&run.inputs).map_err(|e| format!("failed: {e}"))
}

fn interpreted(run: &Run) -> Result<Vec<Tensor>, String> {
    if let Some(model) = &run.sized {
        let target = resolve("x86_64", "generic").expect("a known target");
        let program = sized(model, run, &target)?.program;
        let inputs: Vec<Vec<u8>> = run.inputs.iter().map(|t| t.data.to_vec()).collect();
        let mut symbols = vec![0; program.symbols.len()];
        let outputs = plan::interpret(&program, &inputs, &mut symbols).map_err(|e| e.to_string())?;
        let outputs = outputs.map_err(|code| format!("the model returned {code}"))?;
        let pairs = outputs.into_iter().zip(&program.outputs);
        return pairs.map(|(bytes, i)| i.actual(bytes, &symbols).map_err(|e| e.to_string())).collect();
    }
    let graph = &run.graph;
    let lowering = lower::lower(graph).map_err(|e| format!("refused: {e}"))?;
    let mut env = Env::new(&lowering);
    graph.inputs.iter().zip(&run.inputs).for_each(|(&value, tensor)| env.set(value, tensor));
    interpret(&lowering, &mut env).map_err(|e| format!("failed: {e}"))?;
    let output =
        |&value| env.get(value, &graph.value(value).ty).ok_or_else(|| "an output is not written".to_string());
    graph.outputs.iter().map(output).collect()
}

/// The object of a run: all its models are named `m`.
fn object(run: &Run, target: &Target) -> Result<Vec<u8>, String> {
    let mut graph = run.graph.clone();
    let refused = |e: lmc::error::Error| format!("refused: {e}");
    passes::run_passes(&mut graph, passes::Around::new(target), &mut |_, _, _| ()).map_err(refused)?;
    let build = Build::new("m.onnx");
    Ok(build.build_graph(&graph, target.clone(), "m", &Silent).map_err(refused)?.object.bytes)
}

/// As an object, loaded into this process.
fn compiled(run: &Run, target: &Target) -> Result<Vec<Tensor>, String> {
    if let Some(model) = &run.sized {
        return sized_run(model, run, target);
    }
    let object = object(run, target)?;
    let loaded = Loaded::load(&object, "m").map_err(|e| e.to_string())?;
    let mut symbols = vec![0; loaded.model().symbol_count as usize];
    let inputs: Vec<&[u8]> = run.inputs.iter().map(|t| &*t.data).collect();
    let mut outputs = Vec::new();
    let status = loaded.run(&inputs, &mut symbols, &mut outputs).map_err(|e| e.to_string())?;
    if status != 0 {
        return Err(format!("the model returned {status}"));
    }
    tensors_of(&run.graph, outputs)
}

/// The outputs of a graph from their bytes.
fn tensors_of(graph: &Graph, outputs: Vec<Vec<u8>>) -> Result<Vec<Tensor>, String> {
    let types = graph.outputs.iter().map(|&o| graph.value(o).ty.clone());
    let tensor = |(ty, bytes): (TensorType, Vec<u8>)| {
        Tensor::from_bytes(ty, bytes).ok_or_else(|| "an output has another size".to_string())
    };
    types.zip(outputs).map(tensor).collect()
}

fn compare(got: &[Tensor], want: &[Tensor]) -> Result<(), String> {
    if got.len() != want.len() {
        return Err(format!("{} outputs instead of {}", got.len(), want.len()));
    }
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        if got.ty != want.ty {
            return Err(format!("output {i} is {} instead of {}", got.ty, want.ty));
        }
        let dtype = got.ty.dtype;
        let elements = |t: &Tensor| -> Vec<Scalar> {
            t.data.chunks_exact(dtype.size()).map(|b| Scalar::from_le(dtype, b)).collect()
        };
        let pairs = elements(got).into_iter().zip(elements(want));
        if let Some((at, (a, b))) = pairs.enumerate().find(|(_, (a, b))| !close(dtype, *a, *b)) {
            return Err(format!("output {i}: element {at} is {} instead of {}", a.to_f64(), b.to_f64()));
        }
    }
    Ok(())
}

/// Equal; for floats within ONNX's own tolerance for these tests, and for half types within the
/// last place.
fn close(dtype: DType, got: Scalar, want: Scalar) -> bool {
    if !dtype.is_float() {
        return got == want;
    }
    let (a, b) = (got.to_f64(), want.to_f64());
    // Half types: two units of the last place, for what is rounded at each step of a function.
    let relative = match dtype {
        DType::BF16 => 1.6e-2,
        DType::F16 => 2e-3,
        _ => 1e-3,
    };
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-7 + relative * b.abs()
}
