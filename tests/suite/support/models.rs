//! The models that come with test data: `tests/models`, and those of the folder `$LMC_MODELS`, or
//! of `../shared/models` beside the repository, where there is one.

use super::repository;
use lmc::base::Tensor;
use lmc::import::Bindings;
use lmc::run::compare::numbers;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// `models.json`.
#[derive(Deserialize)]
struct Index {
    models: Vec<Entry>,
}

/// What `models.json` says of a model.
#[derive(Clone, Deserialize)]
pub struct Entry {
    pub name: String,
    /// Begins with `fp32`, `fp16` or `int8`.
    pub dtype: String,
    pub inputs: Vec<Declared>,
    pub outputs: Vec<Declared>,
    pub test_sets: Vec<TestSet>,
    /// By output.
    pub tolerance: BTreeMap<String, Tolerance>,
    #[serde(skip)]
    pub folder: PathBuf,
}

/// An input or output.
#[derive(Clone, Deserialize)]
pub struct Declared {
    pub name: String,
}

/// The shapes of a test data set.
#[derive(Clone, Deserialize)]
pub struct TestSet {
    pub inputs: BTreeMap<String, Vec<usize>>,
}

/// `|got - want| <= atol + rtol * |want|` for every element; for models that are not fp32, the
/// cosine as well.
#[derive(Clone, Copy, Deserialize)]
pub struct Tolerance {
    pub rtol: f64,
    pub atol: f64,
    pub min_cosine: f64,
}

/// Every model that is here, and the folders that were looked into.
pub fn all() -> (Vec<Entry>, Vec<PathBuf>) {
    let more = std::env::var_os("LMC_MODELS").map_or(repository().join("../shared/models"), PathBuf::from);
    let folders = vec![repository().join("tests/models"), more];
    let mut models: Vec<Entry> = Vec::new();
    for folder in &folders {
        let Ok(text) = std::fs::read_to_string(folder.join("models.json")) else { continue };
        let index: Index =
            serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        for mut entry in index.models {
            entry.folder = folder.join(&entry.name);
            if entry.folder.join("model.onnx").is_file() && models.iter().all(|m| m.name != entry.name) {
                models.push(entry);
            }
        }
    }
    (models, folders)
}

/// The model of a name, which must be in `tests/models`.
pub fn named(name: &str) -> Entry {
    all().0.into_iter().find(|m| m.name == name).unwrap_or_else(|| panic!("no model {name} in tests/models"))
}

impl Entry {
    /// The shapes of one test data set.
    pub fn bindings(&self, set: usize) -> Bindings {
        let shapes = self.test_sets[set].inputs.iter().map(|(name, shape)| (name.clone(), shape.clone()));
        Bindings { shapes: shapes.collect(), ..Bindings::default() }
    }

    /// Inputs and expected outputs of one test data set, in the model's order.
    pub fn data(&self, set: usize) -> (Vec<Tensor>, Vec<Tensor>) {
        let names = |list: &[Declared]| list.iter().map(|d| d.name.clone()).collect::<Vec<_>>();
        let folder = self.folder.join(format!("test_data_set_{set}"));
        let read = lmc::data::DataSet::read(
            &folder,
            &names(&self.inputs),
            &names(&self.outputs),
            &lmc::import::Words::default(),
        );
        let read = read.unwrap_or_else(|e| panic!("{e}"));
        let whole = |list: Vec<Option<Tensor>>| list.into_iter().map(|t| t.expect("a tensor file")).collect();
        (whole(read.inputs), whole(read.outputs))
    }

    /// What is wrong with an output, if anything.
    pub fn compare(&self, output: usize, got: &Tensor, want: &Tensor) -> Result<(), String> {
        let name = &self.outputs[output].name;
        let tolerance = self.tolerance[name];
        if got.ty != want.ty {
            return Err(format!("{name}: {} instead of {}", got.ty, want.ty));
        }
        let (got, want) = (numbers(got), numbers(want));
        let excess = |(g, w): (&f64, &f64)| {
            let allowed = tolerance.atol + tolerance.rtol * w.abs();
            if g == w || g.is_nan() && w.is_nan() { 0.0 } else { (g - w).abs() - allowed }
        };
        let worst =
            got.iter().zip(&want).map(excess).fold(0.0, |a: f64, e| if e > a || e.is_nan() { e } else { a });
        let cosine = cosine(&got, &want);
        if worst.is_nan() || worst > 0.0 {
            return Err(format!("{name}: off by {worst:.3e} more than allowed, cosine {cosine:.6}"));
        }
        if !self.dtype.starts_with("fp32") && cosine < tolerance.min_cosine {
            return Err(format!("{name}: cosine {cosine:.6} under {}", tolerance.min_cosine));
        }
        Ok(())
    }
}

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(p, q)| p * q).sum::<f64>();
    let norm = (dot(a, a) * dot(b, b)).sqrt();
    if norm == 0.0 { f64::from(u8::from(a == b)) } else { dot(a, b) / norm }
}
