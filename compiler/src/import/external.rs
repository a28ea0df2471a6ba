//! Tensors stored beside the model: a relative path, inside the model's folder, within bounds.

use crate::error::{Error, Kind, Result};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};
use tract_onnx::pb;

/// The folder external data may come from.
pub(super) struct Folder {
    path: Option<PathBuf>,
    opened: RefCell<BTreeSet<PathBuf>>,
}

impl Folder {
    /// A folder, or none where the model comes from memory.
    pub(super) fn new(path: Option<&Path>) -> Self {
        let dot = |p: &Path| if p.as_os_str().is_empty() { PathBuf::from(".") } else { p.to_path_buf() };
        Folder { path: path.map(dot), opened: RefCell::default() }
    }

    /// The files that tensors were loaded from.
    pub(super) fn opened(&self) -> Vec<PathBuf> {
        self.opened.borrow().iter().cloned().collect()
    }

    fn open(&self, location: &str) -> Result<File> {
        let advice = "External data must be a file in the model's folder";
        let relative = Path::new(location);
        let plain = relative.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        if location.is_empty() || !plain {
            return Err(Error::model(format!("external data '{location}' lies outside the model's folder"))
                .advise(advice));
        }
        let Some(folder) = &self.path else {
            return Err(Error::model(format!("external data '{location}' has no folder to come from"))
                .advise("Read the model from a file"));
        };
        let missing = |e: std::io::Error| {
            Error::new(Kind::Io, format!("external data '{location}' cannot be read: {e}"))
                .advise("Put the file beside the model")
        };
        let root = folder.canonicalize().map_err(missing)?;
        let full = folder.join(relative).canonicalize().map_err(missing)?;
        if !full.starts_with(&root) {
            return Err(Error::model(format!(
                "external data '{location}' is a link out of the model's folder"
            ))
            .advise(advice));
        }
        // A pipe would be waited for.
        if !full.is_file() {
            return Err(Error::model(format!("external data '{location}' is no file")).advise(advice));
        }
        let file = File::open(&full).map_err(missing)?;
        self.opened.borrow_mut().insert(full);
        Ok(file)
    }

    /// The bytes of a tensor of `expected` bytes.
    pub(super) fn load(&self, tensor: &pb::TensorProto, expected: usize) -> Result<Vec<u8>> {
        let entry = |key: &str| tensor.external_data.iter().find(|e| e.key == key).map(|e| e.value.as_str());
        let number = |key: &str| -> Result<Option<u64>> {
            let parsed = entry(key).map(|v| v.trim().parse::<u64>()).transpose();
            parsed.map_err(|_| Error::model(format!("external data has a malformed {key}")))
        };
        let location = entry("location").ok_or_else(|| Error::model("external data names no location"))?;
        let offset = number("offset")?.unwrap_or(0);
        let mut file = self.open(location)?;
        let read_error = |e: std::io::Error| {
            Error::new(Kind::Io, format!("external data '{location}' cannot be read: {e}"))
        };
        let size = file.metadata().map_err(read_error)?.len();
        let length = number("length")?.unwrap_or_else(|| size.saturating_sub(offset));
        if length != expected as u64 {
            return Err(Error::model(format!(
                "external data '{location}' gives {length} bytes where the shape needs {expected}"
            )));
        }
        if offset.checked_add(length).is_none_or(|end| end > size) {
            return Err(Error::model(format!(
                "external data '{location}' ends at byte {size}, before {offset} + {length}"
            ))
            .advise("The file is cut off or belongs to another model"));
        }
        let mut bytes = Vec::with_capacity(expected);
        file.seek(SeekFrom::Start(offset)).map_err(read_error)?;
        file.take(length).read_to_end(&mut bytes).map_err(read_error)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(location: &str, offset: &str) -> pb::TensorProto {
        let entry =
            |key: &str, value: &str| pb::StringStringEntryProto { key: key.into(), value: value.into() };
        let external_data = vec![entry("location", location), entry("offset", offset)];
        pb::TensorProto { external_data, ..Default::default() }
    }

    #[test]
    fn files_read_are_remembered_once() {
        let path = std::env::temp_dir().join(format!("lmc-external-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("weights"), [1, 2, 3, 4]).unwrap();
        let folder = Folder::new(Some(&path));
        assert_eq!(folder.load(&tensor("weights", "1"), 3).unwrap(), [2, 3, 4]);
        assert_eq!(folder.load(&tensor("weights", "3"), 1).unwrap(), [4]);
        assert!(folder.load(&tensor("others", "0"), 1).is_err());
        assert!(folder.load(&tensor(".", "0"), 1).unwrap_err().reason.contains("is no file"));
        assert_eq!(folder.opened(), [path.canonicalize().unwrap().join("weights")]);
        std::fs::remove_dir_all(&path).unwrap();
    }
}
