//! Every layer by itself: its quantized form computed on the float model's values.

use super::emit::{self, Recipe};
use super::stats::{Relative, channel_sums, floats};
use super::{Candidate, Work};
use crate::base::{Tensor, in_parallel};
use crate::compress::observe::Observed;
use crate::error::Result;

/// What quantizing one layer alone does to its result.
#[derive(Clone, Debug, Default)]
pub(super) struct Own {
    /// Index of the node.
    pub node: usize,
    /// Norm of the error over the norm of the result.
    pub error: f64,
    /// What the mean of each channel is off by.
    pub shift: Vec<f64>,
    /// The part of the elements of its data that lie outside of their grid.
    pub saturation: f64,
}

/// Sums over the samples.
#[derive(Clone, Default)]
struct Sums {
    error: Relative,
    shift: Vec<f64>,
    count: f64,
    outside: f64,
    data: f64,
}

impl Sums {
    /// Adds a layer's result in float and in integers; its channels lie along `axis`.
    fn add_result(&mut self, axis: usize, want: &Tensor, own: &Tensor) {
        let (want, own, shape) = (floats(want), floats(own), &want.ty.shape);
        let off: Vec<f32> = want.iter().zip(&own).map(|(x, y)| x - y).collect();
        self.error.add(&want, &own);
        channel_sums(shape, axis, &off, &mut self.shift);
        self.count += want.len() as f64 / self.shift.len().max(1) as f64;
    }
}

impl Work<'_> {
    /// Measures the layers of a candidate one by one; all in one run per sample. `step` is what the progress
    /// shows.
    pub(super) fn own_errors(&self, step: &str, candidate: &Candidate) -> Result<Vec<Own>> {
        let plan = &candidate.plan;
        let grids = &candidate.grids;
        let recipe = Recipe { plan, grids, rounded: &candidate.changes.rounded };
        let probe = emit::probe(&self.onnx, &candidate.float, &recipe)?;
        let mut wanted: Vec<String> = plan.values.keys().cloned().collect();
        for layer in &plan.layers {
            let output = self.onnx.nodes[layer.node].output();
            wanted.extend([output.to_string(), emit::own(output)]);
        }
        wanted.sort();
        wanted.dedup();
        let mut observed = Observed::new(&probe, &wanted)?;
        let mut sums = vec![Sums::default(); plan.layers.len()];
        for (i, sample) in self.samples.iter().enumerate() {
            self.observer.progress(step, i, self.samples.len());
            let values = observed.run(sample)?;
            // Each layer's numbers are added in the order of the samples, whichever thread does it.
            sums = in_parallel(plan.layers.len(), &|at| {
                let (layer, mut sum) = (&plan.layers[at], sums[at].clone());
                let node = &self.onnx.nodes[layer.node];
                let (want, own) = (values.get(node.output()), values.get(&emit::own(node.output())));
                let (Some(want), Some(own)) = (want, own) else { return sum };
                let axis = if node.op().starts_with("Conv") { 1 } else { want.ty.rank().saturating_sub(1) };
                sum.add_result(axis, want, own);
                for &input in &layer.data {
                    let name = &node.inputs[input];
                    let grid = plan.values.get(name).and_then(|g| grids.get(g));
                    if let (Some(grid), Some(data)) = (grid, values.get(name)) {
                        sum.outside += grid.outside(&floats(data)) as f64;
                        sum.data += data.ty.elems() as f64;
                    }
                }
                sum
            });
        }
        let own = |(layer, sum): (&super::facts::Layer, Sums)| Own {
            node: layer.node,
            error: sum.error.error(),
            shift: sum.shift.iter().map(|s| s / sum.count.max(1.0)).collect(),
            saturation: sum.outside / sum.data.max(1.0),
        };
        Ok(plan.layers.iter().zip(sums).map(own).collect())
    }
}
