//! ONNX's own operator tests: each case is a model of one node or few, with inputs and outputs.
//!
//! The cases are `tests/data/onnx_node_tests.tar.xz` (from onnx/onnx, Apache-2.0; see
//! `tests/data/LICENSES.md`). Here each model is typed, lowered and run by the interpreter of
//! definitions. Models may get a shape or an axis as an input, which must be a constant for lmc:
//! where that is the only obstacle, such inputs are given as constants.
//!
//! A case that fails must be listed, with its reason, in `conformance_exceptions.txt`; listed cases
//! that pass are printed. `LMC_CASE=name` runs only the cases whose name holds `name`, and prints
//! why each fails.

use crate::support::{repository, run};
use lmc::base::{DType, Tensor, TensorType};
use lmc::definition::{Env, interpret};
use lmc::import::{self, Declared, Model};
use lmc::scalar::Scalar;
use lmc::{lower, passes};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

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

#[test]
fn operator_tests_by_the_interpreter() {
    let only = std::env::var("LMC_CASE").unwrap_or_default();
    let excepted = exceptions();
    let (mut passed, mut failures) = (0, BTreeMap::new());
    for case in cases().iter().filter(|c| name(c).contains(&only)) {
        match check(case) {
            Ok(()) => passed += 1,
            Err(reason) => {
                failures.insert(name(case), reason);
            }
        }
    }
    let wrong: Vec<String> = failures
        .iter()
        .filter(|(name, _)| !only.is_empty() || !excepted.contains_key(*name))
        .map(|(name, reason)| format!("{name}: {reason}"))
        .collect();
    println!("{passed} passed, {} failed or refused, {} of them unexpected", failures.len(), wrong.len());
    let unlisted: Vec<&String> =
        excepted.keys().filter(|n| n.contains(&only) && !failures.contains_key(*n)).collect();
    println!("listed as exceptions, but pass: {unlisted:?}");
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}

fn name(case: &Path) -> String {
    case.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The folders of the cases, unpacked once.
fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("onnx_node_tests");
    let done = folder.join(".unpacked");
    if !done.exists() {
        std::fs::create_dir_all(&folder).expect("a folder under target");
        let archive = repository().join("tests/data/onnx_node_tests.tar.xz");
        run(Command::new("tar").arg("-xJf").arg(archive).arg("-C").arg(&folder));
        std::fs::write(done, "").expect("a file under target");
    }
    let entries = std::fs::read_dir(&folder).expect("the cases");
    let mut cases: Vec<PathBuf> = entries.flatten().map(|e| e.path()).filter(|p| p.is_dir()).collect();
    cases.sort();
    cases
}

/// Name and reason of the cases that may fail.
fn exceptions() -> BTreeMap<String, String> {
    let text = include_str!("conformance_exceptions.txt");
    let lines = text.lines().filter(|l| !l.is_empty() && !l.starts_with('#'));
    lines
        .map(|l| l.split_once(": ").unwrap_or_else(|| panic!("no reason: {l}")))
        .map(|(name, reason)| (name.to_string(), reason.to_string()))
        .collect()
}

/// Runs all data sets of a case; the reason where one fails.
fn check(case: &Path) -> Result<(), String> {
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
            let run = std::panic::catch_unwind(|| execute(&model, &data, constants));
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

fn execute(model: &Model, data: &Data, constants: Constants) -> Result<Vec<Tensor>, String> {
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
    let lowering = lower::lower(&graph).map_err(|e| format!("refused: {e}"))?;
    let mut env = Env::new(&lowering);
    for (&value, tensor) in graph.inputs.iter().zip(given) {
        env.set(value, tensor);
    }
    interpret(&lowering, &mut env).map_err(|e| format!("failed: {e}"))?;
    let output =
        |&value| env.get(value, &graph.value(value).ty).ok_or_else(|| "an output is not written".to_string());
    graph.outputs.iter().map(output).collect()
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
    let relative = match dtype {
        DType::BF16 => 1e-2,
        _ => 1e-3,
    };
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-7 + relative * b.abs()
}
