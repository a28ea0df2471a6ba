//! What `run`, `verify` and `bench` share: data for the inputs, a compiled model, its executor.

use super::options::{RunArgs, split};
use super::report::Report;
use crate::base::{Tensor, TensorType};
use crate::build::Built;
use crate::data::{DataSet, read_tensor};
use crate::error::{Error, Result};
use crate::import::{self, Dim, Model};
use crate::run::executor::Executor;
use crate::run::reference::seeded;
use std::path::{Path, PathBuf};

/// The names of the model's inputs and outputs.
pub(super) fn names(model: &Model) -> (Vec<String>, Vec<String>) {
    let of = |values: &[import::Declared]| values.iter().map(|v| v.name.clone()).collect();
    (of(&model.body.inputs), of(&model.body.outputs))
}

/// A tensor in the shape that the model fixes, where it has as many elements: a scalar may be given
/// as a list of one.
fn fitted(declared: &import::Declared, tensor: Tensor) -> Tensor {
    let fixed = |d: &Dim| match d {
        Dim::Fixed(n) => Some(*n),
        Dim::Free(_) => None,
    };
    let shape: Option<Vec<usize>> = declared.dims.as_ref().and_then(|d| d.iter().map(fixed).collect());
    shape.and_then(|s| tensor.reshaped(s)).unwrap_or(tensor)
}

/// Reads folders of test data, or of such folders.
pub(super) fn data_sets(model: &Model, folders: &[PathBuf]) -> Result<Vec<DataSet>> {
    let (inputs, outputs) = names(model);
    let read = |folder: &PathBuf| DataSet::read(folder, &inputs, &outputs, &model.words);
    let folders =
        folders.iter().map(|f| DataSet::folders(f, &inputs, &outputs)).collect::<Result<Vec<_>>>()?.concat();
    let mut sets = folders.iter().map(read).collect::<Result<Vec<_>>>()?;
    for set in &mut sets {
        for (declared, slot) in model.body.inputs.iter().zip(&mut set.inputs) {
            *slot = slot.take().map(|t| fitted(declared, t));
        }
    }
    Ok(sets)
}

/// Puts tensors of `NAME=FILE` options in the place of the inputs they name.
pub(super) fn input_files(model: &Model, files: &[String]) -> Result<Vec<Option<Tensor>>> {
    let (names, _) = names(model);
    let mut tensors = vec![None; names.len()];
    for text in files {
        let (name, file) = split("--input-file", text)?;
        let at = names.iter().position(|n| n == name).ok_or_else(|| {
            Error::options(format!("the model has no input named '{name}'"))
                .advise(format!("Its inputs: {}", names.join(", ")))
                .at("--input-file")
        })?;
        tensors[at] = Some(fitted(&model.body.inputs[at], read_tensor(Path::new(file))?.1));
    }
    Ok(tensors)
}

/// A model compiled for given data.
pub(super) struct Session {
    pub built: Built,
    pub executor: Executor,
    /// Types of the inputs.
    pub types: Vec<TensorType>,
}

impl Session {
    /// Compiles the model; free dimensions that no option binds take the sizes of the data.
    pub(super) fn new(args: &RunArgs, data: &[Option<Tensor>], report: &Report) -> Result<Session> {
        let decoded = import::read(&args.model.model)?;
        let mut bindings = args.model.bindings()?;
        for (input, tensor) in decoded.body.inputs.iter().zip(data) {
            if let Some(tensor) = tensor {
                bindings.shapes.entry(input.name.clone()).or_insert_with(|| tensor.ty.shape.clone());
            }
        }
        let build = args.form.of(args.target.build(&args.model)?.bindings(bindings));
        let built = report.follow(&[], |observer| build.build(observer))?;
        built.notes.iter().for_each(|n| report.note(n));
        let executor =
            Executor::new(&built.program, &built.object.bytes, &built.target, args.runner.as_deref())?;
        let types = built.program.inputs.iter().map(|i| i.ty.clone()).collect();
        Ok(Session { built, executor, types })
    }

    /// The inputs: those of the data, seeded ones for the others. An error where data do not fit.
    pub(super) fn inputs(&self, data: &[Option<Tensor>]) -> Result<Vec<Tensor>> {
        let given = |i: usize| data.get(i).cloned().flatten();
        let seeded = seeded(&self.types).into_iter().enumerate();
        let inputs: Vec<Tensor> = seeded.map(|(i, t)| given(i).unwrap_or(t)).collect();
        self.executor.sizes(&inputs)?;
        Ok(inputs)
    }
}
