//! Running a model on samples, with any of its values as outputs: compiled for this machine.

use super::onnx::Onnx;
use crate::base::{Tensor, TensorType};
use crate::build::{Build, Silent};
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::import::{self, Bindings, Model};
use crate::passes::{infer, run_passes};
use crate::run::executor::Executor;
use std::collections::{BTreeMap, HashMap};

/// One sample: a tensor per input of the model.
pub type Sample = Vec<Tensor>;

/// A model compiled per shape of the samples.
pub struct Observed {
    model: Model,
    wanted: Vec<String>,
    runs: BTreeMap<Vec<Vec<usize>>, Run>,
}

/// One shape: what runs, and which output each wanted value is.
struct Run {
    executor: Executor,
    names: Vec<String>,
    /// Wanted values that are known without a run.
    known: Vec<(String, Tensor)>,
}

/// What a sample gave: the values wanted, by name.
pub type Values = HashMap<String, Tensor>;

impl Observed {
    /// Prepares a model; `wanted` are names of values, those that are computed in no sample are left
    /// out of the results.
    pub fn new(onnx: &Onnx, wanted: &[String]) -> Result<Observed> {
        let model = import::decode(&onnx.encode()?, None)?;
        Ok(Observed { model, wanted: wanted.to_vec(), runs: BTreeMap::new() })
    }

    /// The values for one sample.
    pub fn run(&mut self, sample: &Sample) -> Result<Values> {
        let key: Vec<Vec<usize>> = sample.iter().map(|t| t.ty.shape.clone()).collect();
        let run = self.run_for(key, sample)?;
        let results = run.executor.run(sample)?;
        let mut values: Values = run.names.iter().cloned().zip(results).collect();
        values.extend(run.known.iter().cloned());
        let inputs = self.model.body.inputs.iter().zip(sample);
        let asked = inputs.filter(|(declared, _)| self.wanted.contains(&declared.name));
        values.extend(asked.map(|(declared, tensor)| (declared.name.clone(), tensor.clone())));
        Ok(values)
    }

    /// The outputs of the model for one sample, where nothing else was wanted.
    pub fn outputs(&mut self, sample: &Sample) -> Result<Vec<Tensor>> {
        let key: Vec<Vec<usize>> = sample.iter().map(|t| t.ty.shape.clone()).collect();
        self.run_for(key, sample)?.executor.run(sample)
    }

    fn run_for(&mut self, key: Vec<Vec<usize>>, sample: &Sample) -> Result<&mut Run> {
        if !self.runs.contains_key(&key) {
            let run = self.compile(sample)?;
            self.runs.insert(key.clone(), run);
        }
        self.runs.get_mut(&key).ok_or_else(|| Error::bug("a model that was not compiled"))
    }

    fn compile(&self, sample: &Sample) -> Result<Run> {
        let types = types(&self.model, sample)?;
        let (mut graph, _) = infer(&self.model, &types).into_result()?;
        let (names, known) = expose(&mut graph, &self.wanted);
        let build = Build::new("").cpu("native");
        let target = build.resolve_target()?;
        run_passes(&mut graph, &target, &mut |_, _, _| {})?;
        let built = build.build_graph(&graph, target, "observed", &Silent)?;
        let executor = Executor::new(&built.program, &built.object.bytes, &built.target, None)?;
        Ok(Run { executor, names, known })
    }
}

/// Makes the graph's outputs those wanted; their names, and the wanted values that are constants.
fn expose(graph: &mut Graph, wanted: &[String]) -> (Vec<String>, Vec<(String, Tensor)>) {
    let ids: HashMap<&str, u32> =
        graph.values.iter().enumerate().map(|(i, v)| (v.name.as_str(), i as u32)).collect();
    let (mut outputs, mut names, mut known) = (Vec::new(), Vec::new(), Vec::new());
    for name in wanted {
        let Some(&id) = ids.get(name.as_str()) else { continue };
        if let Some(constant) = &graph.value(id).constant {
            known.push((name.clone(), constant.clone()));
        } else if !graph.inputs.contains(&id) {
            outputs.push(id);
            names.push(name.clone());
        }
    }
    if outputs.is_empty() {
        names = graph.outputs.iter().map(|&o| graph.value(o).name.clone()).collect();
    } else {
        graph.outputs = outputs;
    }
    (names, known)
}

/// The types of the inputs for a sample; an error that names the input where they do not fit.
fn types(model: &Model, sample: &Sample) -> Result<Vec<TensorType>> {
    let shapes = model.body.inputs.iter().zip(sample);
    let shapes = shapes.map(|(declared, tensor)| (declared.name.clone(), tensor.ty.shape.clone()));
    let bindings = Bindings { shapes: shapes.collect(), ..Bindings::default() };
    let (types, _) = bindings.resolve(&model.body)?;
    for ((declared, tensor), ty) in model.body.inputs.iter().zip(sample).zip(&types) {
        if tensor.ty != *ty {
            return Err(Error::options(format!("the data are {}, the model takes {ty}", tensor.ty))
                .advise("Save the data with the element type and shape of the input")
                .at(format!("input '{}'", declared.name)));
        }
    }
    Ok(types)
}

/// What is known of each value for one sample: its type, and its elements where it is constant.
pub type Facts = HashMap<String, (TensorType, Option<Tensor>)>;

/// Types the model for one sample.
pub fn facts(onnx: &Onnx, sample: &Sample) -> Result<Facts> {
    let model = import::decode(&onnx.encode()?, None)?;
    facts_for(&model, &types(&model, sample)?)
}

/// Types the model for types of its inputs.
pub fn facts_for(model: &Model, types: &[TensorType]) -> Result<Facts> {
    let (graph, _) = infer(model, types).into_result()?;
    Ok(graph.values.into_iter().map(|v| (v.name, (v.ty, v.constant))).collect())
}
