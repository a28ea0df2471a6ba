//! Static quantization after training: ranges from samples, integers in the graph.

mod activations;
mod balance;
mod calibrate;
mod compensate;
mod correct;
mod dynamic;
mod emit;
mod facts;
mod fitted;
mod grid;
mod histogram;
mod layers;
mod logarithms;
mod measure;
mod patches;
mod plan;
mod plane;
mod recurrent;
mod report;
mod sensitive;
mod stats;
mod stored;
mod summary;
mod tables;
mod tied;
mod weights;

pub use calibrate::Method;
pub use dynamic::dynamic;
pub use fitted::{Data, Made};
pub use measure::{Reference, compared};
pub use report::{Compared, Kept, LayerReport, Report};
pub use stored::weights_only;

use super::observe::{self, Known, Observed, Sample};
use super::onnx::Onnx;
use super::{bodies, opset, prepare};
use crate::base::{DType, in_parallel};
use crate::build::Observer;
use crate::error::{Error, Result};
use compensate::Rounded;
use emit::Recipe;
use grid::Grid;
use histogram::Histogram;
use plan::{Choice, Plan};
use std::collections::{BTreeMap, BTreeSet};

/// Options of a static quantization.
#[derive(Clone, Debug)]
pub struct Options {
    /// How ranges are chosen; `None` tries all methods and takes the one with the best outputs.
    pub calibration: Option<Method>,
    /// Type of the activations: `U8`, `I8` or `I16`.
    pub activations: DType,
    /// Whether weights have a scale per channel.
    pub per_channel: bool,
    /// Whether ranges of channels are balanced between layers, where that makes the outputs better.
    pub balance: bool,
    /// Whether biases are corrected for the mean error, where that makes the outputs better.
    pub correct: bool,
    /// Whether weights are rounded against the samples, where that makes the outputs better.
    pub compensate: bool,
    /// Whether what costly activations read is quantized, so that they become tables.
    pub tables: bool,
    /// Layers are left in float until the least cosine of an output is this.
    pub min_cosine: Option<f64>,
    /// Names of nodes that are left in float.
    pub exclude: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            calibration: None,
            activations: DType::U8,
            per_channel: true,
            balance: true,
            correct: true,
            compensate: true,
            tables: true,
            min_cosine: None,
            exclude: Vec::new(),
        }
    }
}

/// A quantized model, and how it does.
pub struct Quantized {
    /// The model.
    pub onnx: Onnx,
    /// How it does, as a whole and layer by layer.
    pub report: Report,
}

/// A quantization under way.
struct Work<'a> {
    options: &'a Options,
    observer: &'a dyn Observer,
    samples: &'a [Sample],
    reference: Reference,
    /// The float model, prepared.
    onnx: Onnx,
    values: Known,
    /// By value that may be quantized.
    histograms: BTreeMap<String, Histogram>,
}

/// How what is written differs from the plain integers of the float model.
#[derive(Clone, Default)]
struct Changes {
    /// Weights that are not at their nearest integers.
    rounded: Rounded,
    /// What is added to the bias of each layer, by node and channel.
    shifts: BTreeMap<usize, Vec<f64>>,
}

/// A choice of what is quantized and how, and how well it does.
#[derive(Clone)]
struct Candidate {
    plan: Plan,
    method: Method,
    grids: BTreeMap<String, Grid>,
    changes: Changes,
    /// The float model with the biases that are written.
    float: Onnx,
    onnx: Onnx,
    /// Least cosine of each output.
    cosines: Vec<f64>,
    cosine: f64,
}

/// Quantizes a model with samples for all its inputs.
pub fn quantize(
    onnx: &Onnx,
    samples: &[Sample],
    options: &Options,
    observer: &dyn Observer,
) -> Result<Quantized> {
    prepare::check_float(onnx)?;
    let first = samples.first().ok_or_else(|| Error::options("no samples are given"))?;
    if options.min_cosine.is_some_and(|c| !(0.0..=1.0).contains(&c)) {
        return Err(Error::options("a cosine is a number from 0 to 1").at("--min-cosine"));
    }
    let reference = Reference::new(onnx, samples)?;
    let mut onnx = prepare::prepare(onnx, first)?;
    let version = if options.activations == DType::I16 { 21 } else { 13 };
    let known = observe::known(&onnx, first)?;
    opset::raise(&mut onnx, version, &known)?;
    let values = observe::known(&onnx, first)?;
    let histograms = BTreeMap::new();
    let mut work = Work { options, observer, samples, reference, onnx, values, histograms };
    let excluded = work.excluded()?;
    let plan = work.plan(&excluded, options.tables);
    let nothing = plan.layers.is_empty() && plan.tables.is_empty() && plan.stored.is_empty();
    if nothing && bodies::weights(&work.onnx).is_empty() {
        return Err(Error::model("there is nothing to quantize: no convolution or matrix product of floats")
            .advise(
                "Static quantization takes Conv, ConvTranspose, Gemm, MatMul, Gather and recurrent operators of f32",
            ));
    }
    work.calibrate(&plan)?;
    let mut best = work.choose(&plan, options.calibration)?;
    if options.balance {
        best = work.balance(&plan, best)?;
    }
    let plain = best.clone();
    if options.correct {
        best = work.corrected(best)?;
    }
    if options.compensate {
        best = work.compensated(plain, best)?;
    }
    if let Some(least) = options.min_cosine.filter(|&l| best.cosine < l) {
        best = work.relax(best, &excluded, least)?;
    }
    let report = work.report(&plan, &best)?;
    Ok(Quantized { onnx: best.onnx, report })
}

impl Work<'_> {
    /// Takes the ranges of all values that the plan quantizes.
    fn calibrate(&mut self, plan: &Plan) -> Result<()> {
        let wanted: Vec<String> = plan.values.keys().cloned().collect();
        let mut observed = Observed::new(&self.onnx, &wanted)?;
        self.histograms = stats::histograms(&mut observed, self.samples, &plan.values, self.observer)?;
        Ok(())
    }

    /// The candidate for the balanced model, which becomes the float model, where that is better.
    fn balance(&mut self, plan: &Plan, before: Candidate) -> Result<Candidate> {
        let Some(onnx) = balance::balanced(&self.onnx, plan, self.samples)? else { return Ok(before) };
        let (old, histograms) = (std::mem::replace(&mut self.onnx, onnx), self.histograms.clone());
        self.calibrate(plan)?;
        let found = self.choose(plan, Some(before.method))?;
        if found.cosine > before.cosine && self.balances_unseen(&old, plan, before.method)? {
            return Ok(found);
        }
        (self.onnx, self.histograms) = (old, histograms);
        Ok(before)
    }

    /// Whether balancing by each half of the samples makes the outputs on the other half better, too: of channels of
    /// which few numbers were seen, others exceed a range that fits these.
    fn balances_unseen(&self, plain: &Onnx, plan: &Plan, method: Method) -> Result<bool> {
        let half = |odd: usize| self.samples.iter().skip(odd).step_by(2).cloned().collect::<Vec<Sample>>();
        let halves = [half(0), half(1)];
        if halves[1].is_empty() {
            return Ok(true);
        }
        for (seen, unseen) in [(&halves[0], &halves[1]), (&halves[1], &halves[0])] {
            let Some(balanced) = balance::balanced(plain, plan, seen)? else { return Ok(false) };
            let reference = Reference::new(plain, unseen)?;
            let cosine = |onnx: &Onnx| {
                let mut observed = Observed::new(onnx, &plan.values.keys().cloned().collect::<Vec<_>>())?;
                let histograms = stats::histograms(&mut observed, seen, &plan.values, self.observer)?;
                let grids = grids(&histograms, plan, method, self.options.activations);
                let recipe = Recipe { plan, grids: &grids, rounded: &Rounded::default() };
                reference.cosine(&emit::qdq(onnx, &recipe)?, unseen)
            };
            if cosine(&balanced)? <= cosine(plain)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The nodes that the options leave in float.
    fn excluded(&self) -> Result<BTreeSet<usize>> {
        let inner = self.inner();
        let find = |name: &String| {
            let at = self.onnx.nodes.iter().position(|n| n.name() == name || n.output() == name);
            at.ok_or_else(|| {
                Error::options(format!("the model has no node named '{name}'"))
                    .advise("The report of a quantization lists the layers by name")
                    .at("--exclude")
            })
        };
        self.options.exclude.iter().filter(|name| !inner.contains(*name)).map(find).collect()
    }

    /// The layers in bodies that the options leave in float, by name.
    fn inner(&self) -> BTreeSet<String> {
        let names = bodies::weights(&self.onnx).into_iter().map(|i| i.node);
        names.filter(|name| self.options.exclude.contains(name)).collect()
    }

    fn plan(&self, float: &BTreeSet<usize>, activations: bool) -> Plan {
        let facts = facts::Facts { onnx: &self.onnx, values: &self.values };
        let per_channel = self.options.per_channel;
        plan::plan(&facts, &Choice { float: float.clone(), inner: self.inner(), per_channel, activations })
    }

    /// The quantized form with corrected biases, measured.
    fn candidate(&self, plan: &Plan, method: Method, changes: &Changes) -> Result<Candidate> {
        let mut plan = plan.clone();
        let grids = grids(&self.histograms, &plan, method, self.options.activations);
        let float = self.biased(&mut plan, &changes.shifts);
        let onnx = emit::qdq(&float, &Recipe { plan: &plan, grids: &grids, rounded: &changes.rounded })?;
        let cosines = self.reference.cosines(&onnx, self.samples)?;
        let cosine = cosines.iter().copied().fold(1.0, f64::min);
        Ok(Candidate { plan, method, grids, changes: changes.clone(), float, onnx, cosines, cosine })
    }

    /// The plain candidate with weights rounded against the samples, its biases corrected as those of the best
    /// were, where that is better than the best.
    fn compensated(&self, plain: Candidate, best: Candidate) -> Result<Candidate> {
        let items = plain.plan.layers.iter().filter_map(compensate::Item::of_layer).collect::<Vec<_>>();
        let rounded = compensate::rounded(&self.onnx, &items, self.samples, self.observer)?;
        let changes = Changes { rounded, ..Changes::default() };
        let mut found = self.candidate(&plain.plan, plain.method, &changes)?;
        if self.options.correct {
            found = self.corrected(found)?;
        }
        Ok(if found.cosine > best.cosine { found } else { best })
    }

    /// The candidate by the method whose outputs are best.
    fn choose(&self, plan: &Plan, method: Option<Method>) -> Result<Candidate> {
        let all = [Method::MinMax, Method::Percentile(99.99), Method::Entropy, Method::Mse];
        let methods = method.map_or(all.to_vec(), |m| vec![m]);
        let mut best: Option<Candidate> = None;
        let candidates = in_parallel(methods.len(), &|i| {
            self.observer.progress("comparing", i, methods.len());
            self.candidate(plan, methods[i], &Changes::default())
        });
        for found in candidates {
            let found = found?;
            if best.as_ref().is_none_or(|b| found.cosine > b.cosine) {
                best = Some(found);
            }
        }
        best.ok_or_else(|| Error::bug("no method of calibration"))
    }
}

/// The grids of the groups of values that share one.
fn grids(
    histograms: &BTreeMap<String, Histogram>,
    plan: &Plan,
    method: Method,
    dtype: DType,
) -> BTreeMap<String, Grid> {
    let mut groups: BTreeMap<&String, Vec<&Histogram>> = BTreeMap::new();
    for (value, group) in &plan.values {
        groups.entry(group).or_default().extend(histograms.get(value));
    }
    let grid = |members: &[&Histogram]| Grid::over(method.range(&Histogram::merged(members), dtype), dtype);
    groups.into_iter().map(|(group, members)| (group.clone(), grid(&members))).collect()
}
