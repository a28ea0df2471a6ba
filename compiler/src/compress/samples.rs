//! Samples to calibrate with: folders of ONNX test data, folders of `.npy` files, single files.

use super::observe::Sample;
use crate::base::{Tensor, TensorType};
use crate::data::{DataSet, read_tensor};
use crate::error::{Error, Kind, Result};
use crate::import::{Declared, Dim, Model};
use std::path::{Path, PathBuf};

/// Reads samples. A path is a folder of test data (`input_0.pb` or `.npy`, ...), a folder of such
/// folders, or, for a model with one input, a `.npy` or `.pb` file or a folder of them, one sample each.
pub fn read(model: &Model, paths: &[PathBuf]) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    for path in paths {
        let place = path.display().to_string();
        let before = samples.len();
        gather(model, path, 0, &mut samples)
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

fn gather(model: &Model, path: &Path, depth: usize, samples: &mut Vec<Sample>) -> Result<()> {
    if is_tensor(path) {
        return single(model, path, samples);
    }
    if !path.is_dir() {
        return Err(Error::new(Kind::Options, "is neither a folder nor a .npy or .pb file"));
    }
    if ["pb", "npy"].iter().any(|e| path.join(format!("input_0.{e}")).is_file()) {
        samples.push(set(model, path)?);
        return Ok(());
    }
    let entries =
        std::fs::read_dir(path).map_err(|e| Error::new(Kind::Io, format!("cannot be read: {e}")))?;
    let mut entries: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    entries.sort();
    for entry in entries {
        if is_tensor(&entry) || entry.is_dir() && depth < 2 {
            gather(model, &entry, depth + 1, samples)?;
        }
    }
    Ok(())
}

/// A file for the only input.
fn single(model: &Model, path: &Path, samples: &mut Vec<Sample>) -> Result<()> {
    let place = path.display().to_string();
    let [declared] = model.body.inputs.as_slice() else {
        let names: Vec<&str> = model.body.inputs.iter().map(|i| i.name.as_str()).collect();
        return Err(Error::options(format!("the model has {} inputs", names.len()))
            .advise(format!(
                "Give folders with one file per input, input_0.npy ..., for {}",
                names.join(", ")
            ))
            .at(place));
    };
    let tensor = fitted(declared, read_tensor(path)?.1).map_err(|e| e.at(&place))?;
    samples.push(vec![tensor]);
    Ok(())
}

/// A folder of test data.
fn set(model: &Model, folder: &Path) -> Result<Sample> {
    let place = folder.display().to_string();
    let names: Vec<String> = model.body.inputs.iter().map(|i| i.name.clone()).collect();
    let found = DataSet::read(folder, &names, &[], &model.words)?.inputs;
    let one = |(declared, tensor): (&Declared, Option<Tensor>)| match tensor {
        Some(tensor) => fitted(declared, tensor),
        None => Err(Error::options(format!("has no data for input '{}'", declared.name))),
    };
    model.body.inputs.iter().zip(found).map(one).collect::<Result<_>>().map_err(|e| e.at(place))
}

/// The tensor in the rank that the model declares: a missing batch is put in front.
fn fitted(declared: &Declared, tensor: Tensor) -> Result<Tensor> {
    let Some(dims) = &declared.dims else { return Ok(tensor) };
    let shape = tensor.ty.shape.clone();
    let fits = |shape: &[usize]| {
        let one = |(d, &n): (&Dim, &usize)| match d {
            Dim::Fixed(m) => *m == n,
            Dim::Free(_) => true,
        };
        shape.len() == dims.len() && dims.iter().zip(shape).all(one)
    };
    let batched: Vec<usize> = [1].into_iter().chain(shape.iter().copied()).collect();
    let fixed: Option<Vec<usize>> =
        dims.iter().map(|d| if let Dim::Fixed(n) = d { Some(*n) } else { None }).collect();
    let found = if fits(&shape) {
        Some(tensor.clone())
    } else if fits(&batched) {
        tensor.reshaped(batched)
    } else {
        fixed.filter(|_| tensor.ty.elems() == 1).and_then(|f| tensor.reshaped(f))
    };
    let wrong = || {
        let dim = |d: &Dim| match d {
            Dim::Fixed(n) => n.to_string(),
            Dim::Free(name) => name.clone().unwrap_or_else(|| "?".to_string()),
        };
        let wanted: Vec<String> = dims.iter().map(dim).collect();
        Error::options(format!("the data are {}, the model takes [{}]", tensor.ty, wanted.join(",")))
            .advise("Save the data in the shape of the input")
            .at(format!("input '{}'", declared.name))
    };
    let found = found.ok_or_else(wrong)?;
    match declared.dtype {
        Some(dtype) if dtype != found.ty.dtype => {
            let want = TensorType::new(dtype, found.ty.shape.clone());
            Err(Error::options(format!("the data are {}, the model takes {want}", found.ty))
                .advise("Save the data with the element type of the input")
                .at(format!("input '{}'", declared.name)))
        }
        _ => Ok(found),
    }
}

/// Seeded samples, for a try without data.
pub fn random(types: &[TensorType], count: usize) -> Vec<Sample> {
    let many: Vec<TensorType> = (0..count).flat_map(|_| types.to_vec()).collect();
    let all = crate::run::reference::seeded(&many);
    all.chunks(types.len().max(1)).map(<[Tensor]>::to_vec).collect()
}
