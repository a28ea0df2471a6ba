//! Forms of a model that need no samples, and use those that are given to round weights.

use super::compensate::{self, Item, Rounded};
use super::report::LayerReport;
use crate::build::Observer;
use crate::compress::observe::Sample;
use crate::compress::onnx::Onnx;
use crate::error::Result;

/// What weights are rounded against.
pub struct Data<'a> {
    /// Samples; where there are none, each weight takes its nearest integer.
    pub samples: &'a [Sample],
    /// What follows the work.
    pub observer: &'a dyn Observer,
}

/// A model with integers, and its layers.
#[derive(Debug)]
pub struct Made {
    /// The model.
    pub onnx: Onnx,
    /// What became integers.
    pub layers: Vec<LayerReport>,
}

/// What `make` makes of weights at their nearest integers, or of those that fit the data.
pub(super) fn fitted(
    onnx: &Onnx,
    items: &[Item],
    data: &Data,
    make: impl Fn(&Rounded) -> Result<Made>,
) -> Result<Made> {
    let fit = !data.samples.is_empty() && !items.is_empty();
    let rounded = fit.then(|| compensate::rounded(onnx, items, data.samples, data.observer)).transpose()?;
    make(&rounded.unwrap_or_default())
}
