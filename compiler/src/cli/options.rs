//! Options that several commands share.

use crate::error::{Error, Result};
use crate::import::Bindings;
use clap::Args;
use std::path::PathBuf;

/// The model and its free dimensions.
#[derive(Args, Clone, Debug)]
pub(super) struct ModelArgs {
    /// The ONNX file.
    pub model: PathBuf,
    /// Bind a free dimension by its name, as in batch=1.
    #[arg(long = "dim", value_name = "NAME=N")]
    dims: Vec<String>,
    /// Give the whole shape of an input, as in data=1x3x224x224.
    #[arg(long = "input", value_name = "NAME=AxBxC")]
    inputs: Vec<String>,
}

fn split<'a>(option: &str, text: &'a str) -> Result<(&'a str, &'a str)> {
    let pair = text.rsplit_once('=').filter(|(name, _)| !name.is_empty());
    pair.ok_or_else(|| Error::options(format!("'{text}' is not of the form NAME=VALUE")).at(option))
}

fn size(option: &str, text: &str) -> Result<usize> {
    text.trim().parse().map_err(|_| Error::options(format!("'{text}' is not a size")).at(option))
}

impl ModelArgs {
    /// The options as bindings.
    pub(super) fn bindings(&self) -> Result<Bindings> {
        let mut bindings = Bindings::default();
        for text in &self.dims {
            let (name, value) = split("--dim", text)?;
            bindings.dims.insert(name.to_string(), size("--dim", value)?);
        }
        for text in &self.inputs {
            let (name, value) = split("--input", text)?;
            let shape: Result<Vec<usize>> = match value {
                "" => Ok(Vec::new()),
                dims => dims.split('x').map(|d| size("--input", d)).collect(),
            };
            bindings.shapes.insert(name.to_string(), shape?);
        }
        Ok(bindings)
    }
}
