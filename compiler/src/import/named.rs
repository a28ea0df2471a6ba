//! Names that the options give to dimensions: of those that the file leaves without one, or names like another that may
//! have another size.

use super::bind::input;
use super::{Bindings, Body, Declared, Dim};
use crate::error::{Error, Result};

impl Bindings {
    /// What an option says of the dimensions of an input: names and sizes, as in `batch,total` or `batch,3,side,side`.
    pub fn parse_dims(text: &str) -> Option<Vec<Dim>> {
        let name = |c: char| c.is_alphanumeric() || "_.-/:".contains(c);
        let one = |part: &str| match part.parse::<usize>() {
            Ok(size) => Some(Dim::Fixed(size)),
            Err(_) if part.is_empty() || part.starts_with(|c: char| c.is_ascii_digit()) => None,
            Err(_) => part.chars().all(name).then(|| Dim::Free(Some(part.to_string()))),
        };
        text.split(',').map(|part| one(part.trim())).collect()
    }

    /// Gives the dimensions of the graph's inputs the names that the options give them, and the sizes.
    pub fn name_dims(&self, body: &mut Body) -> Result<()> {
        for (name, dims) in &self.named {
            let number = input(body, name)?;
            rename(&mut body.inputs[number], dims)
                .map_err(|e| e.at(format!("input '{name}'")).at("--input"))?;
        }
        Ok(())
    }
}

fn rename(input: &mut Declared, dims: &[Dim]) -> Result<()> {
    let Some(own) = &mut input.dims else {
        input.dims = Some(dims.to_vec());
        return Ok(());
    };
    if own.len() != dims.len() {
        let reason = format!("{} dimensions are named, the model's input has {}", dims.len(), own.len());
        return Err(Error::options(reason));
    }
    for (axis, (own, given)) in own.iter_mut().zip(dims).enumerate() {
        match (&*own, given) {
            (Dim::Fixed(size), given) if *given != Dim::Fixed(*size) => {
                let reason = format!("dimension {axis} is fixed by the model, at {size}");
                return Err(Error::options(reason).advise(format!("Write {size} in its place")));
            }
            _ => *own = given.clone(),
        }
    }
    Ok(())
}
