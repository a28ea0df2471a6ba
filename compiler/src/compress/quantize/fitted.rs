//! Forms of a model that need no samples, and use those that are given to round weights.

use super::compensate::{self, Item, Rounded};
use super::measure::Reference;
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

/// What `make` makes of weights at their nearest integers, or of those that fit the data. These are taken where such
/// that fit every other sample make the outputs better on the rest: few samples may be fitted by chance.
pub(super) fn fitted(
    onnx: &Onnx,
    items: &[Item],
    data: &Data,
    make: impl Fn(&Rounded) -> Result<Made>,
) -> Result<Made> {
    let plain = make(&Rounded::new())?;
    if data.samples.is_empty() || items.is_empty() {
        return Ok(plain);
    }
    let fit = |samples: &[Sample]| make(&compensate::rounded(onnx, items, samples, data.observer)?);
    let every = |first: usize| data.samples.iter().skip(first).step_by(2).cloned().collect::<Vec<Sample>>();
    let (part, rest) = (every(0), every(1));
    let unseen = if rest.is_empty() { &part } else { &rest };
    let found = fit(&part)?;
    let reference = Reference::new(onnx, unseen)?;
    let cosine = |made: &Made| reference.cosine(&made.onnx, unseen);
    if cosine(&found)? <= cosine(&plain)? {
        return Ok(plain);
    }
    if rest.is_empty() { Ok(found) } else { fit(data.samples) }
}
