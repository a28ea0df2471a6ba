//! Random valid graphs, made from the operator table, against tract and ONNX Runtime.
//!
//! A graph has a seed: the same one is the same graph. `LMC_RANDOM_FIRST=n` and
//! `LMC_RANDOM_COUNT=n` choose the seeds, `LMC_RANDOM_OPERATOR=name` makes every graph begin with
//! that operator, `LMC_RANDOM_RECIPES=1` leaves out what inference alone says to be valid. `LMC_RANDOM_DIR=folder`
//! writes each model there with its inputs, on which `tests/tools/random_graphs.py` compares with ONNX Runtime. What
//! was found is in `compiler/src/ops/regressions.rs`.

mod blocks;
mod bodies;
mod chosen;
mod draw;
mod file;
mod found;
mod layers;
mod layouts;
mod maker;
mod moves;
mod nets;
mod numbers;
mod processors;
mod quantized;
mod recipes;
mod sized;
mod structured;
mod transformers;
mod windows;

use crate::support::{batch, scratch};
use file::full;
use lmc::base::{DType, Tensor};
use lmc::build::{Build, Built, Silent};
use lmc::error::Kind;
use lmc::import::encode_tensor;
use lmc::run::compare::numbers;
use lmc::run::executor::Executor;
use lmc::run::reference::tract;
use maker::Maker;
use recipes::{LEFT_OUT, Recipe};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What makes nodes: every row of the table, and every pattern.
fn makers() -> Vec<(String, Option<Recipe>)> {
    let listed: Vec<(&str, Recipe)> = recipes::all().collect();
    let mut makers: Vec<(String, Option<Recipe>)> =
        listed.iter().map(|(name, recipe)| (name.to_string(), Some(*recipe))).collect();
    let more = setting("LMC_RANDOM_RECIPES", 0) == 0;
    for row in lmc::ops::rows().filter(|r| r.domain != "lmc" && more) {
        let name = full(row.domain, row.name);
        let known = listed.iter().any(|l| l.0 == name) || LEFT_OUT.iter().any(|l| l.0 == name);
        if !known {
            makers.push((name, None));
        }
    }
    makers
}

/// A graph of one to eight nodes or patterns; `None` where no node came about.
fn graph(seed: u64, makers: &[(String, Option<Recipe>)]) -> Option<Maker> {
    let mut m = Maker::new(seed, 0);
    m.opset = m.random.pick(&[7, 9, 10, 11, 12, 13, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22]);
    let first = std::env::var("LMC_RANDOM_OPERATOR").ok();
    let parts = m.random.between(1, 8);
    for part in 0..parts {
        let mut choice = m.random.below(makers.len());
        if let Some(name) = first.as_ref().filter(|_| part == 0) {
            choice = makers.iter().position(|r| r.0 == *name).unwrap_or_else(|| panic!("no recipe {name}"));
        }
        match &makers[choice] {
            (_, Some(recipe)) => recipe(&mut m),
            (name, None) => recipes::by_inference(&mut m, name),
        };
    }
    (!m.operators().is_empty()).then_some(m)
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

/// A graph as a file, with its inputs.
struct Case {
    seed: u64,
    operators: Vec<String>,
    model: PathBuf,
    inputs: Vec<Tensor>,
    guessed: bool,
}

/// A graph as a folder with `model.onnx`.
fn case(folder: &Path, seed: u64, made: Maker) -> Case {
    assert!(made.refused.is_empty(), "seed {seed}: a valid node is refused: {:?}", made.refused);
    let (operators, guessed) = (made.operators(), made.guessed);
    let (bytes, inputs) = made.finish();
    let place = folder.join(seed.to_string());
    std::fs::create_dir_all(&place).expect("a folder");
    let model = place.join("model.onnx");
    std::fs::write(&model, bytes).expect("a file");
    Case { seed, operators, model, inputs, guessed }
}

/// The graphs of the seeds asked for.
fn cases(folder: &Path, first: u64, count: u64) -> impl Iterator<Item = Case> {
    let makers = makers();
    let folder = folder.to_path_buf();
    (first..first + count).filter_map(move |seed| Some(case(&folder, seed, graph(seed, &makers)?)))
}

/// The compiled graph; `None` where an operator does not take what was guessed for it.
fn build(case: &Case, target: &str, cpu: &str) -> Option<Built> {
    match Build::new(&case.model).target(target).cpu(cpu).name("m").build(&Silent) {
        Ok(built) => Some(built),
        Err(e) if case.guessed && e.kind == Kind::Model => None,
        Err(e) => panic!("seed {}, {:?}: refused: {e}", case.seed, case.operators),
    }
}

/// Runs a graph in this process.
fn here(case: &Case, cpu: &str) -> Option<Vec<Tensor>> {
    let built = build(case, "native", cpu)?;
    let executor = Executor::new(&built.program, &built.object.bytes, &built.target, None);
    match executor.and_then(|mut e| e.run(&case.inputs)) {
        Ok(outputs) => Some(outputs),
        Err(e) if case.guessed && e.kind == Kind::Model => None,
        Err(e) => panic!("seed {}, {:?}: {e}", case.seed, case.operators),
    }
}

/// What differs by more than another order of sums explains.
fn difference(got: &[Tensor], want: &[Tensor]) -> Option<String> {
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        if got.ty != want.ty {
            return Some(format!("output {i} is {} instead of {}", got.ty, want.ty));
        }
        let (a, b) = (numbers(got), numbers(want));
        let scale = b.iter().filter(|v| v.is_finite()).fold(1e-3f64, |m, v| m.max(v.abs()));
        let allowed = match want.ty.dtype {
            // A sum in another order may be rounded to the next step.
            DType::U8 | DType::I8 => 1.0,
            DType::F16 | DType::BF16 => 0.02 * scale,
            d if d.is_float() => 1e-3 * scale,
            _ => 0.0,
        };
        let differ = |(x, y): &(&f64, &f64)| {
            x != y && !(x.is_nan() && y.is_nan()) && ((*x - *y).abs() > allowed || (*x - *y).is_nan())
        };
        if let Some(at) = a.iter().zip(&b).position(|p| differ(&p)) {
            return Some(format!("output {i} {}: element {at} is {} instead of {}", want.ty, a[at], b[at]));
        }
    }
    None
}

#[test]
fn every_operator_has_a_recipe_or_is_tried_by_inference() {
    let makers = makers();
    for (name, why) in LEFT_OUT {
        assert!(makers.iter().all(|m| m.0 != *name), "{name} is left out ({why}) and made");
    }
    let rows = lmc::ops::rows().filter(|r| r.domain != "lmc").map(|r| full(r.domain, r.name));
    for name in rows {
        let known = makers.iter().any(|m| m.0 == name) || LEFT_OUT.iter().any(|l| l.0 == name);
        assert!(known, "{name}");
    }
}

#[test]
fn random_graphs_agree_with_tract() {
    let folder = scratch("random_tract");
    let (start, limit) = (Instant::now(), Duration::from_secs(setting("LMC_RANDOM_SECONDS", 20)));
    let (mut compared, mut without, mut differ) = (0, 0, Vec::new());
    for case in cases(&folder, setting("LMC_RANDOM_FIRST", 1), setting("LMC_RANDOM_COUNT", 400)) {
        if start.elapsed() > limit {
            break;
        }
        let cpu = ["generic", "native"][case.seed as usize % 2];
        let Some(got) = here(&case, cpu) else { continue };
        let excepted = case.operators.iter().any(|o| WRONG_IN_TRACT.iter().any(|w| w.0 == o));
        match tract(&case.model, &case.inputs) {
            Ok(want) if !excepted && want.len() == got.len() => {
                compared += 1;
                let why = difference(&got, &want);
                differ
                    .extend(why.map(|why| format!("seed {}, {:?}, {cpu}: {why}", case.seed, case.operators)));
            }
            _ => without += 1,
        }
    }
    println!("{compared} graphs compared with tract, {without} others only run");
    assert!(differ.is_empty() && compared > 0, "{}", differ.join("\n"));
}

/// Operators whose results in tract are not ONNX's: what ONNX Runtime agrees with us on.
const WRONG_IN_TRACT: &[(&str, &str)] = &[
    ("LSTM", "clip and some other attributes are left out"),
    ("GRU", "clip and some other attributes are left out"),
    ("DynamicQuantizeLinear", "the scale of zeros alone is 0, by which they are divided"),
    ("GlobalLpPool", "the mean of the powers is taken for their sum"),
    ("Pad", "reflections of the whole extent"),
    ("ai.onnx.ml.Normalizer", "the largest size is taken for the largest element"),
    ("ai.onnx.ml.ArrayFeatureExtractor", "the features of a vector are no row"),
    ("RNN", "clip and some other attributes are left out"),
];

#[test]
fn random_graphs_agree_between_targets() {
    let folder = scratch("random_aarch64");
    let cases: Vec<Case> = cases(&folder, 10_000, setting("LMC_RANDOM_AARCH64", 60)).collect();
    let (mut objects, mut wanted, mut kept) = (Vec::new(), Vec::new(), Vec::new());
    for case in cases {
        let (Some(want), Some(object)) = (here(&case, "native"), build(&case, "aarch64", "generic")) else {
            continue;
        };
        if !object.program.symbols.is_empty() {
            // Sizes that come out of a run: the batch knows of none.
            let executor = Executor::new(&object.program, &object.object.bytes, &object.target, None);
            let got = executor.and_then(|mut e| e.run(&case.inputs));
            let got = got.unwrap_or_else(|e| panic!("seed {}, {:?}: {e}", case.seed, case.operators));
            assert_eq!(difference(&got, &want), None, "seed {}, {:?}", case.seed, case.operators);
            continue;
        }
        wanted.push(want);
        objects.push(object.object.bytes);
        kept.push(case);
    }
    let cases = kept;
    let models: Vec<batch::Model> = (0..cases.len())
        .map(|i| batch::Model {
            object: &objects[i],
            inputs: cases[i].inputs.iter().map(|t| &*t.data).collect(),
            outputs: wanted[i].iter().map(|t| t.ty.bytes()).collect(),
        })
        .collect();
    for (i, result) in batch::run_on_aarch64("random_batch", &models).into_iter().enumerate() {
        let place = format!("seed {}, {:?}", cases[i].seed, cases[i].operators);
        let bytes = result.unwrap_or_else(|e| panic!("{place}: {e}"));
        let typed = bytes.into_iter().zip(&wanted[i]).map(|(b, w)| Tensor::from_bytes(w.ty.clone(), b));
        let got: Vec<Tensor> = typed.map(|t| t.expect("as many bytes")).collect();
        if let Some(why) = difference(&got, &wanted[i]) {
            panic!("{place}, aarch64 against this machine: {why}");
        }
    }
}

/// Writes models, inputs and our results for `tests/tools/random_graphs.py`; only where asked for.
#[test]
fn random_graphs_are_written_where_asked() {
    let Some(folder) = std::env::var_os("LMC_RANDOM_DIR").map(PathBuf::from) else { return };
    let makers = makers();
    let first = setting("LMC_RANDOM_FIRST", 1);
    for seed in first..first + setting("LMC_RANDOM_COUNT", 1000) {
        let Some(made) = graph(seed, &makers) else { continue };
        let place = folder.join(seed.to_string());
        let data = place.join("test_data_set_0");
        std::fs::create_dir_all(&data).expect("a folder");
        std::fs::write(place.join("operators"), made.operators().join(" ")).expect("a file");
        std::fs::write(place.join("refused"), made.refused.join("\n")).expect("a file");
        let (bytes, inputs) = made.finish();
        std::fs::write(place.join("model.onnx"), bytes).expect("a file");
        for (i, tensor) in inputs.iter().enumerate() {
            std::fs::write(data.join(format!("input_{i}.pb")), encode_tensor("", tensor)).expect("a file");
        }
    }
}
