//! Tensors in files: NumPy's `.npy`, ONNX's `.pb`, and folders of them: ONNX test data, or a file for each name.

mod npy;

pub use npy::{decode_npy, decode_npy_of, encode_npy};

use crate::base::Tensor;
use crate::error::{Error, Kind, Result};
use crate::import::{Words, decode_tensor_of};
use std::path::{Path, PathBuf};

/// Extensions of files that hold a tensor.
const ENDS: [&str; 2] = ["pb", "npy"];
/// Letters of a file's name at most: systems limit them.
pub const STEM: usize = 100;
/// What a folder of data holds, for advice.
const HELD: &str = "input_0.npy (or .pb), output_0.npy, ..., or a file for each name (NAME.npy)";

/// One folder of data: ONNX test data (`input_0.pb`, `output_0.pb`, ...), or files named as inputs and outputs are.
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
        Some("npy") => decode_npy_of(&bytes, words).map(|t| (String::new(), t)),
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
    file(folder, &format!("{prefix}_0")).is_some()
}

/// Whether a folder has a file for one of some inputs or outputs, by its name.
pub fn is_named(folder: &Path, names: &[String]) -> bool {
    stems(names).iter().flatten().any(|stem| file(folder, stem).is_some())
}

fn file(folder: &Path, stem: &str) -> Option<PathBuf> {
    ENDS.iter().map(|end| folder.join(format!("{stem}.{end}"))).find(|f| f.is_file())
}

/// The names of values as files have them: `_` stands there for what is no letter, digit, `.` or `-`; `None` where
/// another one has the same.
fn stems(names: &[String]) -> Vec<Option<String>> {
    let plain = |c: char| if c.is_alphanumeric() || ".-".contains(c) { c } else { '_' };
    let stem = |name: &String| name.chars().map(plain).take(STEM).collect::<String>();
    let stems: Vec<String> = names.iter().map(stem).collect();
    let own = |stem: &&String| stems.iter().filter(|s| s == stem).count() == 1;
    stems.iter().map(|stem| Some(stem).filter(own).cloned()).collect()
}

/// What lies in a folder, by name.
pub fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        std::fs::read_dir(folder).map_err(|e| Error::new(Kind::Io, format!("cannot be read: {e}")))?;
    let mut entries: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    entries.sort();
    Ok(entries)
}

/// Reads `PREFIX_0`, `PREFIX_1`, ... (`.pb` or `.npy`) of a folder, or where there is no first one, files named as the
/// values are. A tensor belongs to the value of its name; without a name that fits, to the value of its number.
fn read_all(folder: &Path, prefix: &str, names: &[String], words: &Words) -> Result<Vec<Option<Tensor>>> {
    let mut tensors: Vec<Option<Tensor>> = vec![None; names.len()];
    let stems = if is_numbered(folder, prefix) { vec![None; names.len()] } else { stems(names) };
    for (number, stem) in stems.iter().enumerate() {
        let by_name = || file(folder, stem.as_ref()?);
        let Some(file) = file(folder, &format!("{prefix}_{number}")).or_else(by_name) else { continue };
        let (name, tensor) = read_tensor_of(&file, words)?;
        let at = names.iter().position(|n| *n == name).unwrap_or(number);
        tensors[at] = Some(tensor);
    }
    Ok(tensors)
}

impl DataSet {
    /// The folders of data at a place, for inputs and outputs of given names: itself, or those in it.
    pub fn folders(place: &Path, inputs: &[String], outputs: &[String]) -> Result<Vec<PathBuf>> {
        let sides = [("input", inputs), ("output", outputs)];
        let holds =
            |folder: &Path| sides.iter().any(|(p, names)| is_numbered(folder, p) || is_named(folder, names));
        if !place.is_dir() || holds(place) {
            return Ok(vec![place.to_path_buf()]);
        }
        let mut found = entries(place).map_err(|e| e.at(place.display().to_string()))?;
        found.retain(|folder| folder.is_dir() && holds(folder));
        match found.is_empty() {
            true => Err(Error::options("holds no data")
                .advise(format!("Name a folder that holds {HELD}, or such folders"))
                .at(place.display().to_string())),
            false => Ok(found),
        }
    }

    /// Reads a folder for a model with the given names of inputs and outputs, and words.
    pub fn read(folder: &Path, inputs: &[String], outputs: &[String], words: &Words) -> Result<DataSet> {
        if !folder.is_dir() {
            return Err(Error::new(Kind::Options, "is not a folder")
                .advise(format!("Name a folder that holds {HELD}"))
                .at(folder.display().to_string()));
        }
        Ok(DataSet {
            path: folder.to_path_buf(),
            inputs: read_all(folder, "input", inputs, words)?,
            outputs: read_all(folder, "output", outputs, words)?,
        })
    }
}
