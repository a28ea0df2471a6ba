//! Tensors in files: NumPy's `.npy`, ONNX's `.pb`, and folders of ONNX test data.

mod npy;

pub use npy::{decode_npy, encode_npy};

use crate::base::Tensor;
use crate::error::{Error, Kind, Result};
use crate::import::{Words, decode_tensor_of};
use std::path::{Path, PathBuf};

/// One folder of ONNX test data (`input_0.pb`, `output_0.pb`, ...).
#[derive(Clone, Debug)]
pub struct DataSet {
    /// The folder.
    pub path: PathBuf,
    /// One tensor per input of the model, in its order; `None` where the folder has none.
    pub inputs: Vec<Option<Tensor>>,
    /// One tensor per output of the model, in its order; `None` where the folder has none.
    pub outputs: Vec<Option<Tensor>>,
}

/// Reads a tensor file by its extension, `.npy` or `.pb`: its name, empty where it has none, and
/// its elements.
pub fn read_tensor(path: &Path) -> Result<(String, Tensor)> {
    read_tensor_of(path, &Words::default())
}

/// The same; strings are the numbers of a model's words.
fn read_tensor_of(path: &Path, words: &Words) -> Result<(String, Tensor)> {
    let place = path.display().to_string();
    let bytes =
        std::fs::read(path).map_err(|e| Error::new(Kind::Io, format!("cannot be read: {e}")).at(&place))?;
    let decoded = match path.extension().and_then(|e| e.to_str()) {
        Some("npy") => decode_npy(&bytes).map(|t| (String::new(), t)),
        Some("pb") => decode_tensor_of(&bytes, words),
        _ => Err(Error::options("is neither .npy nor .pb").advise("Save the tensor with numpy.save")),
    };
    decoded.map_err(|e| e.at(&place))
}

/// Writes a tensor as `.npy`.
pub fn write_npy(path: &Path, tensor: &Tensor) -> Result<()> {
    let place = path.display().to_string();
    let bytes = encode_npy(tensor).map_err(|e| e.at(&place))?;
    std::fs::write(path, bytes)
        .map_err(|e| Error::new(Kind::Io, format!("cannot be written: {e}")).at(&place))
}

/// Whether a folder holds `PREFIX_0` (`.pb` or `.npy`).
pub fn is_numbered(folder: &Path, prefix: &str) -> bool {
    ["pb", "npy"].iter().any(|end| folder.join(format!("{prefix}_0.{end}")).is_file())
}

/// What lies in a folder, by name.
pub fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        std::fs::read_dir(folder).map_err(|e| Error::new(Kind::Io, format!("cannot be read: {e}")))?;
    let mut entries: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    entries.sort();
    Ok(entries)
}

/// Reads `PREFIX_0`, `PREFIX_1`, ... (`.pb` or `.npy`) of a folder. A tensor belongs to the value
/// of its name; without a name that fits, to the value of its number.
fn read_numbered(
    folder: &Path,
    prefix: &str,
    names: &[String],
    words: &Words,
) -> Result<Vec<Option<Tensor>>> {
    let mut tensors: Vec<Option<Tensor>> = vec![None; names.len()];
    for number in 0..names.len() {
        let file = ["pb", "npy"].iter().map(|e| folder.join(format!("{prefix}_{number}.{e}")));
        let Some(file) = file.into_iter().find(|f| f.exists()) else { continue };
        let (name, tensor) = read_tensor_of(&file, words)?;
        let at = names.iter().position(|n| *n == name).unwrap_or(number);
        tensors[at] = Some(tensor);
    }
    Ok(tensors)
}

impl DataSet {
    /// The folders of test data at a place: itself, or those in it.
    pub fn folders(place: &Path) -> Result<Vec<PathBuf>> {
        let numbered = |folder: &Path| is_numbered(folder, "input") || is_numbered(folder, "output");
        if !place.is_dir() || numbered(place) {
            return Ok(vec![place.to_path_buf()]);
        }
        let mut found = entries(place).map_err(|e| e.at(place.display().to_string()))?;
        found.retain(|folder| folder.is_dir() && numbered(folder));
        match found.is_empty() {
            true => Err(Error::options("holds no data")
                .advise("Name a folder that holds input_0.pb, output_0.pb, ..., or such folders")
                .at(place.display().to_string())),
            false => Ok(found),
        }
    }

    /// Reads a folder for a model with the given names of inputs and outputs, and words.
    pub fn read(folder: &Path, inputs: &[String], outputs: &[String], words: &Words) -> Result<DataSet> {
        if !folder.is_dir() {
            return Err(Error::new(Kind::Options, "is not a folder")
                .advise("Name a folder that holds input_0.pb, output_0.pb, ...")
                .at(folder.display().to_string()));
        }
        Ok(DataSet {
            path: folder.to_path_buf(),
            inputs: read_numbered(folder, "input", inputs, words)?,
            outputs: read_numbered(folder, "output", outputs, words)?,
        })
    }
}
