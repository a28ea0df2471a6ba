//! Names that the options give to dimensions: of those that the file leaves without one, names like another that may
//! have another size, or unlike another that has the same.

use super::bind::{input, no_dimension};
use super::{Bindings, Body, Declared, Dim, Sum};
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
        self.equal.keys().try_for_each(|name| self.unite(body, name))
    }

    /// Gives a dimension, where it is one by another name, that one's name.
    fn unite(&self, body: &mut Body, name: &str) -> Result<()> {
        let mut other = name;
        for _ in 0..self.equal.len() {
            other = self.equal.get(other).map_or(other, String::as_str);
        }
        if !self.is_known(body, &other.to_string()) {
            return Err(no_dimension(other));
        }
        let dims = body.inputs.iter_mut().chain(&mut body.outputs).flat_map(|d| d.dims.iter_mut().flatten());
        let mut found = false;
        for dim in dims {
            if let Dim::Free(Some(own)) = dim
                && let Some(new) = with_name(own, name, other)
            {
                (*own, found) = (new, true);
            }
        }
        if found { Ok(()) } else { Err(no_dimension(name)) }
    }
}

/// A name, or a sum, in which a dimension is called otherwise; `None` where that is not in it.
fn with_name(text: &str, from: &str, to: &str) -> Option<String> {
    let has = |sum: Sum| sum.of.iter().any(|(name, _)| name == from);
    if text != from && !Sum::parse(text).is_some_and(has) {
        return None;
    }
    let factor = |part: &str| if part.trim() == from { to.to_string() } else { part.trim().to_string() };
    let term = |term: &str| term.split('*').map(factor).collect::<Vec<_>>().join("*");
    Some(text.split('+').map(term).collect::<Vec<_>>().join(" + "))
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
