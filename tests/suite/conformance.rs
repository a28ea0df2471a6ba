//! ONNX's own operator tests: each case is a model of one node or few, with inputs and outputs.
//!
//! The cases are `tests/data/onnx_node_tests*.tar.xz` (from onnx/onnx, Apache-2.0; see
//! `tests/data/LICENSES.md`). Each model is typed, then run by the interpreter of definitions, and
//! compiled to an object that runs on this machine. Models may get a shape or an axis as an input, which must be a constant for lmc:
//! where that is the only obstacle, such inputs are given as constants.
//!
//! A case that fails must be listed, with its reason, in `conformance_exceptions.txt`, or, where the
//! interpreter passes it, in `conformance_compiled.txt`; listed cases that pass are printed. `LMC_CASE=name` runs only the cases whose name holds `name`, and prints
//! why each fails; `LMC_ONNX_TESTS=folder` takes the cases from there, newer ones for example.

use crate::support::{repository, run};
use lmc::base::{DType, Tensor, TensorType};
use lmc::build::{Build, Silent};
use lmc::definition::{Env, interpret};
use lmc::graph::Graph;
use lmc::import::{self, Declared, Model};
use lmc::run::load::Loaded;
use lmc::scalar::Scalar;
use lmc::target::{Target, resolve};
use lmc::{lower, passes};
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Inputs and outputs of one run.
struct Data {
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
}

/// Which inputs are given as constants.
#[derive(Clone, Copy)]
enum Constants {
    None,
    /// Integers of at most one dimension: shapes, axes, counts.
    Integers,
    All,
}

/// Runs a typed graph on inputs.
type Execute<'a> = &'a (dyn Fn(&Graph, &[&Tensor]) -> Result<Vec<Tensor>, String> + Sync);

#[test]
fn operator_tests_by_the_interpreter() {
    check_all("interpreter", &interpreted, &[LISTED]);
}

#[test]
fn operator_tests_on_this_machine() {
    for cpu in ["generic", "native"] {
        let target = resolve("native", cpu).expect("this machine");
        check_all(cpu, &|graph, inputs| compiled(graph, inputs, &target), &[LISTED, LISTED_COMPILED]);
    }
}

/// Cases that may fail.
const LISTED: &str = include_str!("conformance_exceptions.txt");
/// Cases that the interpreter passes, but that fail when compiled.
const LISTED_COMPILED: &str = include_str!("conformance_compiled.txt");

/// Checks all cases, two at a time; panics with those that fail and are not listed.
fn check_all(place: &str, execute: Execute, listed: &[&str]) {
    let only = std::env::var("LMC_CASE").unwrap_or_default();
    let excepted = exceptions(listed);
    let cases: Vec<PathBuf> = cases().into_iter().filter(|c| name(c).contains(&only)).collect();
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let work = || {
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            if !only.is_empty() {
                eprintln!("{place}: {}", name(case));
            }
            if let Err(reason) = check(case, execute) {
                failures.lock().expect("no panic").insert(name(case), reason);
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    let failures = failures.into_inner().expect("no panic");
    let wrong: Vec<String> = failures
        .iter()
        .filter(|(name, _)| !only.is_empty() || !excepted.contains_key(*name))
        .map(|(name, reason)| format!("{name}: {reason}"))
        .collect();
    let passed = cases.len() - failures.len();
    println!(
        "{place}: {passed} passed, {} failed or refused, {} of them unexpected",
        failures.len(),
        wrong.len()
    );
    let unlisted: Vec<&String> =
        excepted.keys().filter(|n| n.contains(&only) && !failures.contains_key(*n)).collect();
    println!("listed as exceptions, but pass: {unlisted:?}");
    assert!(wrong.is_empty(), "{place}: {} cases:\n{}", wrong.len(), wrong.join("\n"));
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
fn cases() -> Vec<PathBuf> {
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

/// Runs all data sets of a case; the reason where one fails.
fn check(case: &Path, execute: Execute) -> Result<(), String> {
    let model = import::read(&case.join("model.onnx")).map_err(|e| format!("refused: {e}"))?;
    if model.body.inputs.iter().chain(&model.body.outputs).any(|v| !v.is_tensor) {
        return Err("refused: inputs or outputs are sequences or optionals".into());
    }
    for set in 0.. {
        let folder = case.join(format!("test_data_set_{set}"));
        if !folder.exists() {
            break;
        }
        let data = Data {
            inputs: tensors(&folder, "input", &model.body.inputs)?,
            outputs: tensors(&folder, "output", &model.body.outputs)?,
        };
        let attempt = |constants| {
            let run =
                std::panic::catch_unwind(AssertUnwindSafe(|| run_model(&model, &data, constants, execute)));
            run.unwrap_or_else(|_| Err("panicked".into()))
        };
        let needs_constants =
            |r: &Result<_, String>| r.as_ref().is_err_and(|e| e.contains("must be a constant"));
        let mut got = attempt(Constants::None);
        for constants in [Constants::Integers, Constants::All] {
            if needs_constants(&got) {
                got = attempt(constants);
            }
        }
        compare(&got?, &data.outputs)?;
    }
    Ok(())
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

/// Types the model, some of its inputs as constants, and executes it on the others.
fn run_model(
    model: &Model,
    data: &Data,
    constants: Constants,
    execute: Execute,
) -> Result<Vec<Tensor>, String> {
    let mut model = model.clone();
    let declared = std::mem::take(&mut model.body.inputs);
    let mut given = Vec::new();
    for (input, tensor) in declared.into_iter().zip(&data.inputs) {
        let constant = match constants {
            Constants::None => false,
            Constants::Integers => tensor.ty.dtype.is_int() && tensor.ty.rank() <= 1,
            Constants::All => true,
        };
        if constant {
            model.body.constants.push((input.name, tensor.clone()));
        } else {
            model.body.inputs.push(input);
            given.push(tensor);
        }
    }
    let types: Vec<TensorType> = given.iter().map(|t| t.ty.clone()).collect();
    let (graph, _) = passes::infer(&model, &types).into_result().map_err(|e| format!("refused: {e}"))?;
    execute(&graph, &given)
}

fn interpreted(graph: &Graph, inputs: &[&Tensor]) -> Result<Vec<Tensor>, String> {
    let lowering = lower::lower(graph).map_err(|e| format!("refused: {e}"))?;
    let mut env = Env::new(&lowering);
    graph.inputs.iter().zip(inputs).for_each(|(&value, tensor)| env.set(value, tensor));
    interpret(&lowering, &mut env).map_err(|e| format!("failed: {e}"))?;
    let output =
        |&value| env.get(value, &graph.value(value).ty).ok_or_else(|| "an output is not written".to_string());
    graph.outputs.iter().map(output).collect()
}

/// As an object, loaded into this process.
fn compiled(graph: &Graph, inputs: &[&Tensor], target: &Target) -> Result<Vec<Tensor>, String> {
    let mut graph = graph.clone();
    let refused = |e: lmc::error::Error| format!("refused: {e}");
    passes::run_passes(&mut graph, &mut |_, _, _| ()).map_err(refused)?;
    let built = Build::new("m.onnx").build_graph(&graph, target.clone(), "m", &Silent).map_err(refused)?;
    let loaded = Loaded::load(&built.object.bytes, "m").map_err(|e| e.to_string())?;
    let mut symbols: Vec<i64> = built.program.symbols.iter().map(|s| s.max as i64).collect();
    let inputs: Vec<&[u8]> = inputs.iter().map(|t| &*t.data).collect();
    let mut outputs = Vec::new();
    let status = loaded.run(&inputs, &mut symbols, &mut outputs).map_err(|e| e.to_string())?;
    if status != 0 {
        return Err(format!("the model returned {status}"));
    }
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
