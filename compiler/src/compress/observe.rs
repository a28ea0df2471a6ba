//! Running a model on samples, with any of its values as outputs: compiled for this machine.

use super::onnx::Onnx;
use crate::base::{Tensor, TensorType};
use crate::build::{Build, Silent};
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::import::{self, Bindings, Declared, Dim, Model};
use crate::passes::{Around, data_decide_outputs, infer, run_passes};
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
    /// Wanted values that are computed, by number of the output.
    names: Vec<(String, usize)>,
    /// Wanted values that are known without a run.
    known: Vec<(String, Tensor)>,
    /// Wanted values that are inputs of the model, by number.
    passed: Vec<(String, usize)>,
}

/// What a sample gave: the values wanted, by name.
pub type Values = HashMap<String, Tensor>;

impl Observed {
    /// Prepares a model; `wanted` are names of values, those that are computed in no sample are left
    /// out of the results.
    pub fn new(onnx: &Onnx, wanted: &[String]) -> Result<Observed> {
        let model = decoded(onnx)?;
        Ok(Observed { model, wanted: wanted.to_vec(), runs: BTreeMap::new() })
    }

    /// The values for one sample.
    pub fn run(&mut self, sample: &Sample) -> Result<Values> {
        let key: Vec<Vec<usize>> = sample.iter().map(|t| t.ty.shape.clone()).collect();
        let run = self.run_for(key, sample)?;
        let results = run.executor.run(sample)?;
        let computed = run.names.iter().map(|(name, output)| (name.clone(), results[*output].clone()));
        let mut values: Values = computed.collect();
        values.extend(run.known.iter().cloned());
        values.extend(run.passed.iter().map(|(name, input)| (name.clone(), sample[*input].clone())));
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
        let (mut graph, ids) = infer(&self.model, &types).into_named()?;
        let found = expose(&mut graph, &ids, &self.wanted);
        if data_decide_outputs(&graph) {
            return self.compile_sized(found, sample);
        }
        let build = Build::new("").cpu("native").first_plan();
        let target = build.resolve_target()?;
        run_passes(&mut graph, Around::new(&target), &mut |_, _, _| {})?;
        let built = build.build_graph(&graph, target, "observed", &Silent)?;
        let executor = Executor::new(&built.program, &built.object.bytes, &built.target, None)?;
        Ok(found.run(executor))
    }

    /// As [`Observed::compile`], where data decide sizes: the values wanted are outputs of the model, each as large as
    /// it is for the sample.
    fn compile_sized(&self, mut found: Exposed, sample: &Sample) -> Result<Run> {
        let mut model = self.model.clone();
        if !found.names.is_empty() {
            model.body.outputs = found.names.iter().map(|(name, _)| Declared::plain(name)).collect();
            found.names.iter_mut().enumerate().for_each(|(i, (_, output))| *output = i);
        }
        let inputs = model.body.inputs.iter().zip(sample);
        let build = inputs.fold(Build::new("").cpu("native").first_plan(), |build, (input, tensor)| {
            build.input(input.name.clone(), tensor.ty.shape.to_vec())
        });
        let built = build.build_model(&model, build.resolve_target()?, "observed", &Silent)?;
        let executor = Executor::new(&built.program, &built.object.bytes, &built.target, None)?;
        Ok(found.run(executor))
    }
}

/// Where the values wanted are.
#[derive(Default)]
struct Exposed {
    /// Those that are outputs now, by number.
    names: Vec<(String, usize)>,
    /// Those that are constants.
    known: Vec<(String, Tensor)>,
    /// Those that are inputs, by number.
    passed: Vec<(String, usize)>,
}

impl Exposed {
    fn run(self, executor: Executor) -> Run {
        Run { executor, names: self.names, known: self.known, passed: self.passed }
    }
}

/// Makes the graph's outputs those wanted; its own stay where none of those are computed.
fn expose(graph: &mut Graph, ids: &HashMap<String, u32>, wanted: &[String]) -> Exposed {
    let (mut outputs, mut found) = (Vec::<u32>::new(), Exposed::default());
    for name in wanted {
        let Some(&id) = ids.get(name) else { continue };
        if let Some(constant) = &graph.value(id).constant {
            found.known.push((name.clone(), constant.clone()));
        } else if let Some(input) = graph.inputs.iter().position(|&i| i == id) {
            found.passed.push((name.clone(), input));
        } else {
            let at = outputs.iter().position(|&o| o == id).unwrap_or(outputs.len());
            if at == outputs.len() {
                outputs.push(id);
            }
            found.names.push((name.clone(), at));
        }
    }
    if !outputs.is_empty() {
        graph.outputs = outputs;
    }
    found
}

/// The model; its inputs have the sizes that samples have, whatever names their dimensions share.
fn decoded(onnx: &Onnx) -> Result<Model> {
    let mut model = import::decode(&onnx.encode()?, None)?;
    for dim in model.body.inputs.iter_mut().flat_map(|i| i.dims.iter_mut().flatten()) {
        if let Dim::Free(name) = dim {
            *name = None;
        }
    }
    Ok(model)
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
pub type Known = HashMap<String, (TensorType, Option<Tensor>)>;

/// Types the model for one sample.
pub fn known(onnx: &Onnx, sample: &Sample) -> Result<Known> {
    let model = decoded(onnx)?;
    known_for(&model, &types(&model, sample)?)
}

/// Types the model for types of its inputs.
pub fn known_for(model: &Model, types: &[TensorType]) -> Result<Known> {
    let (graph, names) = infer(model, types).into_named()?;
    let fact = |id: u32| (graph.value(id).ty.clone(), graph.value(id).constant.clone());
    Ok(names.into_iter().map(|(name, id)| (name, fact(id))).collect())
}
