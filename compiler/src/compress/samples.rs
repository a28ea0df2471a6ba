//! Samples to calibrate with: folders of ONNX test data or of a file for each input, folders of `.npy` files, files of
//! one or many.

use super::observe::Sample;
use crate::base::{Tensor, TensorType};
use crate::data::{DataSet, entries, is_named, is_numbered, read_tensor};
use crate::error::{Error, Kind, Result};
use crate::import::{Bindings, Declared, Dim, Model};
use crate::run::limits;
use crate::run::reference::seeded;
use std::path::{Path, PathBuf};

/// Reads samples. A path is a folder of test data (`input_0.pb` or `.npy`, ...) or with a file for each of several
/// inputs (`NAME.npy`), a folder of such folders, or, for a model with one input, a `.npy` or `.pb` file or a folder of
/// them. What has more in its first dimension than the model takes at once, or one dimension more, holds several
/// samples.
pub fn read(model: &Model, bindings: &Bindings, paths: &[PathBuf]) -> Result<Vec<Sample>> {
    let declared = bindings.declared(&model.body)?;
    let reader = Reader { model, declared };
    let mut samples = Vec::new();
    for path in paths {
        let place = path.display().to_string();
        let before = samples.len();
        reader
            .gather(path, 0, &mut samples)
            .map_err(|e| if e.place.is_empty() { e.at(&place) } else { e })?;
        if samples.len() == before {
            return Err(Error::options("holds no data")
                .advise("Name folders with input_0.pb (or input_0.npy), ..., or .npy files")
                .at(place));
        }
    }
    Ok(samples)
}

fn is_tensor(path: &Path) -> bool {
    path.is_file() && path.extension().is_some_and(|e| e == "npy" || e == "pb")
}

/// What samples are read for.
struct Reader<'a> {
    model: &'a Model,
    /// The inputs, with the dimensions that options bind.
    declared: Vec<Declared>,
}

impl Reader<'_> {
    fn gather(&self, path: &Path, depth: usize, samples: &mut Vec<Sample>) -> Result<()> {
        if is_tensor(path) {
            samples.extend(self.single(path)?);
            return Ok(());
        }
        if !path.is_dir() {
            return Err(Error::new(Kind::Options, "is neither a folder nor a .npy or .pb file"));
        }
        if is_numbered(path, "input") || self.declared.len() > 1 && is_named(path, &self.names()) {
            samples.extend(self.set(path)?);
            return Ok(());
        }
        for entry in entries(path)? {
            if is_tensor(&entry) || entry.is_dir() && depth < 2 {
                self.gather(&entry, depth + 1, samples)?;
            }
        }
        Ok(())
    }

    /// A file for the only input.
    fn single(&self, path: &Path) -> Result<Vec<Sample>> {
        let place = path.display().to_string();
        let [declared] = self.declared.as_slice() else {
            let names = self.names();
            return Err(Error::options(format!("the model has {} inputs", names.len()))
                .advise(format!(
                    "Give folders with one file per input, input_0.npy ... or by their names, for {}",
                    names.join(", ")
                ))
                .at(place));
        };
        let tensors = fitted(declared, read_tensor(path)?.1).map_err(|e| e.at(&place))?;
        Ok(tensors.into_iter().map(|t| vec![t]).collect())
    }

    fn names(&self) -> Vec<String> {
        self.declared.iter().map(|i| i.name.clone()).collect()
    }

    /// A folder of test data.
    fn set(&self, folder: &Path) -> Result<Vec<Sample>> {
        let place = folder.display().to_string();
        let names = self.names();
        let found = DataSet::read(folder, &names, &[], &self.model.words)?.inputs;
        let one = |(declared, tensor): (&Declared, Option<Tensor>)| match tensor {
            Some(tensor) => fitted(declared, tensor),
            None => Err(Error::options(format!("has no data for input '{}'", declared.name))),
        };
        let inputs: Result<Vec<Vec<Tensor>>> = self.declared.iter().zip(found).map(one).collect();
        inputs.and_then(|inputs| side_by_side(&names, &inputs)).map_err(|e| e.at(place))
    }
}

/// Samples from those of each input; what an input has one of belongs to all.
fn side_by_side(names: &[String], inputs: &[Vec<Tensor>]) -> Result<Vec<Sample>> {
    let count = inputs.iter().map(Vec::len).max().unwrap_or(0);
    if let Some(short) = inputs.iter().position(|i| i.len() != count && i.len() != 1) {
        let reason = format!("holds {} samples, another input {count}", inputs[short].len());
        return Err(Error::options(reason).at(format!("input '{}'", names[short])));
    }
    let sample = |i: usize| inputs.iter().map(|all| all[i.min(all.len() - 1)].clone()).collect();
    Ok((0..count).map(sample).collect())
}

/// Whether data of a shape are what an input takes.
fn fits(dims: &[Dim], shape: &[usize]) -> bool {
    let one = |(d, &n): (&Dim, &usize)| match d {
        Dim::Fixed(m) => *m == n,
        Dim::Free(_) => true,
    };
    shape.len() == dims.len() && dims.iter().zip(shape).all(one)
}

/// The tensor in the rank that the model declares: a missing batch is put in front, several samples are
/// taken apart.
fn in_shape(dims: &[Dim], tensor: &Tensor) -> Option<Vec<Tensor>> {
    let shape = &tensor.ty.shape;
    if fits(dims, shape) {
        return Some(vec![tensor.clone()]);
    }
    let batched: Vec<usize> = [1].into_iter().chain(shape.iter().copied()).collect();
    if fits(dims, &batched) {
        return tensor.reshaped(batched).map(|t| vec![t]);
    }
    let fixed: Option<Vec<usize>> =
        dims.iter().map(|d| if let Dim::Fixed(n) = d { Some(*n) } else { None }).collect();
    if tensor.ty.elems() == 1 {
        return tensor.reshaped(fixed?).map(|t| vec![t]);
    }
    let count = *shape.first()?;
    let parts = |at_once: usize| {
        let part = move |i| tensor.picked(0, &(i * at_once..(i + 1) * at_once).collect::<Vec<usize>>());
        (0..count / at_once).map(part)
    };
    if fits(dims, &shape[1..]) {
        return parts(1).map(|t| t.reshaped(&shape[1..])).collect();
    }
    let Some(&Dim::Fixed(at_once)) = dims.first() else { return None };
    let several = at_once > 0 && count % at_once == 0;
    (several && fits(&dims[1..], &shape[1..])).then(|| parts(at_once).collect())
}

/// The samples that the data of one input hold.
fn fitted(declared: &Declared, tensor: Tensor) -> Result<Vec<Tensor>> {
    let found = match &declared.dims {
        None => vec![tensor],
        Some(dims) => in_shape(dims, &tensor).ok_or_else(|| {
            let dim = |d: &Dim| match d {
                Dim::Fixed(n) => n.to_string(),
                Dim::Free(name) => name.clone().unwrap_or_else(|| "?".to_string()),
            };
            let wanted: Vec<String> = dims.iter().map(dim).collect();
            wrong(declared, &tensor.ty, &format!("[{}]", wanted.join(",")), "shape")
        })?,
    };
    match (declared.dtype, found.first()) {
        (Some(dtype), Some(first)) if dtype != first.ty.dtype => {
            let want = TensorType::new(dtype, first.ty.shape.clone());
            Err(wrong(declared, &first.ty, &want.to_string(), "element type"))
        }
        _ => Ok(found),
    }
}

fn wrong(declared: &Declared, is: &TensorType, wanted: &str, of: &str) -> Error {
    Error::options(format!("the data are {is}, the model takes {wanted}"))
        .advise(format!("Save the data with the {of} of the input"))
        .at(format!("input '{}'", declared.name))
}

/// Seeded samples, for a try without data; an error where they are larger than what a run may hold.
pub fn random(types: &[TensorType], count: usize) -> Result<Vec<Sample>> {
    limits::check_data(types, count)?;
    let many: Vec<TensorType> = (0..count).flat_map(|_| types.to_vec()).collect();
    let all = seeded(&many);
    Ok(all.chunks(types.len().max(1)).map(<[Tensor]>::to_vec).collect())
}
