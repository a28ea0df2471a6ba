//! The report on a static quantization: its layers, alone and together, and what is stored as integers.

use super::compensate::Rounded;
use super::plan::Plan;
use super::report::{Compared, LayerReport, Report};
use super::stats::{Relative, floats};
use super::stored::{Stored, store_inner, stored};
use super::{Candidate, Work};
use crate::base::{DType, in_parallel};
use crate::compress::observe::Observed;
use crate::error::Result;
use std::collections::HashMap;

impl Work<'_> {
    /// Reports on a candidate; `all` has the layers that could be quantized.
    pub(super) fn report(&self, all: &Plan, best: &Candidate) -> Result<Report> {
        let own = self.own_errors("reporting", best)?;
        let totals = self.totals(all, best)?;
        let grids = &best.grids;
        let mut layers = Vec::new();
        for layer in &all.layers {
            let node = &self.onnx.nodes[layer.node];
            let found = own.iter().find(|o| o.node == layer.node);
            let data = &node.inputs[layer.data[0]];
            let grid = best.plan.values.get(data).and_then(|g| grids.get(g)).filter(|_| found.is_some());
            let weights = layer.weights.as_ref().and_then(|w| self.onnx.floats(&w.name));
            layers.push(LayerReport {
                name: node.name().to_string(),
                op: node.op().to_string(),
                float: found.is_none(),
                weights: weights.map_or(0, |w| w.1.len()),
                error: found.map_or(0.0, |o| o.error),
                total_error: totals.get(node.output()).copied(),
                seen: self.histograms.get(data).map(|h| [h.lo, h.hi]),
                range: grid.map(|g| [g.range().0, g.range().1]),
                saturation: found.map(|o| o.saturation),
            });
        }
        layers.extend(self.constants(all, &best.plan));
        let cosine = self.reference.names().iter().cloned().zip(best.cosines.iter().copied()).collect();
        let (calibration, samples) = (best.method.name(), self.samples.len());
        Ok(Report { calibration, samples, compared: Compared::Samples, cosine, layers, kept: Vec::new() })
    }

    /// What is stored as integers and computes in float: tables, weights of recurrent operators and of bodies.
    fn constants(&self, all: &Plan, best: &Plan) -> Vec<LayerReport> {
        let among = |plan: &Plan, node| plan.tables.contains(&node) || plan.stored.contains(&node);
        let list = stored(&self.onnx, false, &|node| among(all, node));
        let report = |s: &Stored| {
            let (_, report) = s.rounded(&self.onnx, DType::I8, &Rounded::new());
            LayerReport { float: !among(best, s.node), ..report }
        };
        list.iter().map(report).chain(store_inner(&mut self.onnx.clone(), &best.inner)).collect()
    }

    /// The relative error of each layer's result in the quantized model, by value.
    fn totals(&self, all: &Plan, best: &Candidate) -> Result<HashMap<String, f64>> {
        let names: Vec<String> =
            all.layers.iter().map(|l| self.onnx.nodes[l.node].output().to_string()).collect();
        let (mut float, mut quantized) =
            (Observed::new(&self.onnx, &names)?, Observed::new(&best.onnx, &names)?);
        let mut sums: HashMap<String, Relative> = HashMap::new();
        for (i, sample) in self.samples.iter().enumerate() {
            self.observer.progress("reporting", i, self.samples.len());
            let (wanted, found) = (float.run(sample)?, quantized.run(sample)?);
            let values: Vec<_> =
                wanted.iter().filter_map(|(name, w)| Some((name, w, found.get(name)?))).collect();
            let more = in_parallel(values.len(), &|v| {
                let (name, want, is) = values[v];
                let mut sum = sums.get(name).copied().unwrap_or_default();
                sum.add(&floats(want), &floats(is));
                sum
            });
            sums.extend(values.iter().map(|(name, ..)| (*name).clone()).zip(more));
        }
        Ok(sums.into_iter().map(|(name, sum)| (name, sum.error())).collect())
    }
}
