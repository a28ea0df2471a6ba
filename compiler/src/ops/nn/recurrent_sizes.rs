//! Sizes of recurrent nodes.

use crate::error::{Error, Result};
use crate::ops::Ctx;

/// Sizes of a recurrent node.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Time steps.
    pub time: usize,
    /// Batch.
    pub batch: usize,
    /// Size of an input vector.
    pub input: usize,
    /// Size of the hidden state.
    pub hidden: usize,
    /// Directions: 1 or 2.
    pub directions: usize,
    /// Batch comes first in inputs and outputs.
    pub batch_first: bool,
}

/// How many rows of weights each unit of the hidden state has.
pub fn gates(name: &str) -> usize {
    match name {
        "GRU" => 3,
        "RNN" => 1,
        _ => 4,
    }
}

/// How many directions the attributes say.
pub fn directions(ctx: &Ctx) -> Result<usize> {
    match ctx.attrs().str("direction", "forward")? {
        "forward" | "reverse" => Ok(1),
        "bidirectional" => Ok(2),
        other => Err(Error::model(format!("direction '{other}' is not known"))),
    }
}
