//! Rounding of weights against data: what some weights of a sum are rounded by, the others make up for.
//!
//! With `e` what the weights of a sum are rounded by and `G` the products of its data with each other, added over
//! the samples, the sum is off by `e' G e`. Each weight at its nearest integer makes `e` least, not that: neighbours
//! in an image are nearly equal, so that their errors add up where they could cancel. `G = L L'` makes it
//! `|L' e|^2`, and weights are rounded from the last to the first, each to the integer next to what makes up for
//! those before it (the nearest plane of a lattice; GPTQ rounds the same way).
//!
//! Sums are taken in blocks of neighbours, no longer than the rows of data can tell apart.

use super::facts::Layer;
use super::patches::Patches;
use super::plane::{LANES, Plane, Weights};
use super::stats::floats;
use super::weights::{Quantized, Share, quantize};
use crate::base::{DType, Tensor, in_parallel};
use crate::build::Observer;
use crate::compress::observe::{Observed, Sample};
use crate::compress::onnx::Onnx;
use crate::error::Result;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;

/// Weights as integers that fit the data, by name of the constant.
pub type Rounded = BTreeMap<String, Quantized>;

/// Weights to be rounded.
pub struct Item {
    /// The node that multiplies with them.
    pub node: usize,
    /// Which weights share a scale.
    pub share: Share,
    /// Type of the integers.
    pub dtype: DType,
}

impl Item {
    /// The weights of a layer, where they are its second input.
    pub(super) fn of_layer(layer: &Layer) -> Option<Item> {
        let weights = layer.weights.as_ref().filter(|w| w.input == 1)?;
        Some(Item { node: layer.node, share: Share::of_axis(weights.axis), dtype: DType::I8 })
    }
}

/// Rows of data per layer, over all samples.
const ROWS: usize = 2048;
/// Weights that make up for each other, at most.
const BLOCK: usize = 256;
/// So many rows of data are taken for each weight of a block: with fewer, weights would fit these rows alone (RepVGG,
/// samples not seen: .9928 with one row, .9949 with four, .9960 with eight).
const ROWS_PER_WEIGHT: usize = 8;
/// Sums of a block by which is judged whether what fits a half of the data is better on the other.
const JUDGED: usize = 4 * LANES;

/// Products of the data of a layer.
struct Gram {
    patches: Patches,
    blocks: Vec<Range<usize>>,
    /// A square for each block, of each half of the data; the part below the diagonal is used.
    products: [Vec<Vec<f64>>; 2],
}

/// The weights of a model rounded against the samples, where their data can be followed.
pub fn rounded(onnx: &Onnx, items: &[Item], samples: &[Sample], observer: &dyn Observer) -> Result<Rounded> {
    let mut wanted: Vec<String> = items.iter().map(|i| onnx.nodes[i.node].inputs[0].clone()).collect();
    wanted.sort();
    wanted.dedup();
    let mut observed = Observed::new(onnx, &wanted)?;
    let mut nodes: Vec<usize> = items.iter().map(|i| i.node).collect();
    nodes.sort_unstable();
    nodes.dedup();
    let grams: Vec<Mutex<Option<Gram>>> = nodes.iter().map(|_| Mutex::new(None)).collect();
    for (i, sample) in samples.iter().enumerate() {
        observer.progress("rounding", i, samples.len());
        let values = observed.run(sample)?;
        in_parallel(nodes.len(), &|at| -> Option<()> {
            let node = &onnx.nodes[nodes[at]];
            let (data, (shape, _)) = (values.get(&node.inputs[0])?, onnx.floats(&node.inputs[1])?);
            let patches = Patches::new(node, &shape, &data.ty.shape)?;
            let mut gram = grams[at].lock().ok()?;
            let gram = gram.get_or_insert_with(|| Gram::new(patches.clone(), samples.len()));
            let half = (samples.len() > 1).then_some(i % 2);
            // As often as weights of the node are rounded.
            for _ in items.iter().filter(|item| item.node == nodes[at]) {
                gram.add(&patches, data, ROWS.div_ceil(samples.len()), half);
            }
            Some(())
        });
    }
    let made = in_parallel(items.len(), &|at| {
        let item = &items[at];
        let gram = grams[nodes.binary_search(&item.node).ok()?].lock().ok()?;
        let gram = gram.as_ref()?;
        let name = &onnx.nodes[item.node].inputs[1];
        let (shape, weights) = onnx.floats(name)?;
        let mut found = quantize(&shape, &weights, item.share, item.dtype, None, item.dtype == DType::I4);
        gram.round(&weights, item.share, &mut found);
        Some((name.clone(), found))
    });
    Ok(made.into_iter().flatten().collect())
}

impl Gram {
    fn new(patches: Patches, samples: usize) -> Gram {
        let rows = (patches.count() * samples).min(ROWS);
        let blocks = patches.blocks(BLOCK.min(rows / ROWS_PER_WEIGHT));
        let products: Vec<Vec<f64>> = blocks.iter().map(|b| vec![0.0; b.len() * b.len()]).collect();
        Gram { patches, blocks, products: [products.clone(), products] }
    }

    /// Adds the products of some rows of a sample to a half of the data; to both, where it is the only sample.
    fn add(&mut self, patches: &Patches, data: &Tensor, rows: usize, half: Option<usize>) {
        let data = floats(data);
        let mut row = vec![0.0f32; patches.width()];
        for at in patches.spread(rows) {
            let half = half.unwrap_or(usize::from(at >= patches.count() / 2));
            patches.row(&data, at, &mut row);
            if row.iter().any(|x| !x.is_finite()) {
                continue;
            }
            for (block, products) in self.blocks.iter().zip(&mut self.products[half]) {
                let row = &row[block.clone()];
                for (i, line) in products.chunks_exact_mut(row.len()).enumerate() {
                    let x = f64::from(row[i]);
                    if x != 0.0 {
                        line[..=i].iter_mut().zip(row).for_each(|(p, &y)| *p += x * f64::from(y));
                    }
                }
            }
        }
    }

    /// Rounds weights that are at their nearest integers so far.
    fn round(&self, weights: &[f32], share: Share, made: &mut Quantized) {
        let mut integers = made.values.to_i64s().unwrap_or_default();
        let owners = share.owners(&made.values.ty.shape);
        let grid = Weights {
            patches: &self.patches,
            elements: weights,
            scales: &made.scales,
            owners,
            limits: made.limits(),
        };
        if !self.is_more_than_chance(&grid) {
            return;
        }
        for (i, block) in self.blocks.iter().enumerate() {
            let halves = self.products[0][i].iter().zip(&self.products[1][i]);
            let all: Vec<f64> = halves.map(|(a, b)| a + b).collect();
            let Some(plane) = Plane::new(&all, block.len()) else { continue };
            let outputs: Vec<usize> = self.patches.outputs(block.start).collect();
            for lanes in outputs.chunks(LANES) {
                let rounded = plane.round(&grid, block, lanes);
                let places = rounded.places.iter().flatten().zip(rounded.integers.iter().flatten());
                places.for_each(|(&place, &integer)| integers[place] = integer);
            }
        }
        made.set_integers(&integers);
    }

    /// Whether weights that fit a half of the data are better on the other half than their nearest integers.
    fn is_more_than_chance(&self, weights: &Weights) -> bool {
        let errors = self.blocks.iter().enumerate().map(|(i, block)| {
            let [a, b] = [0, 1].map(|half| &self.products[half][i]);
            let ([one, plain], [other, same]) = (judged(weights, block, a, b), judged(weights, block, b, a));
            [one + other, plain + same]
        });
        let [fitted, nearest] = errors.fold([0.0, 0.0], |sum, e| [sum[0] + e[0], sum[1] + e[1]]);
        fitted < nearest
    }
}

/// What some sums of a block are off by on the second data: with weights that fit the first, and with the nearest ones.
fn judged(weights: &Weights, block: &Range<usize>, first: &[f64], second: &[f64]) -> [f64; 2] {
    let outputs: Vec<usize> = weights.patches.outputs(block.start).collect();
    let step = outputs.len().div_ceil(JUDGED).max(1);
    let outputs: Vec<usize> = outputs.into_iter().step_by(step).collect();
    let nearest = Plane::nearest(block.len());
    let fitted = Plane::new(first, block.len());
    [fitted.as_ref().unwrap_or(&nearest), &nearest].map(|plane| {
        outputs.chunks(LANES).map(|o| plane.round(weights, block, o).error(second, o.len())).sum()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compress::onnx::Node;

    /// The error of all sums over rows of data that neighbours share.
    fn error(weights: &[f32], found: &Quantized, rows: &[f32], depth: usize) -> f64 {
        let back = found.dequantized(Share::Axis(1));
        let outputs = weights.len() / depth;
        let sum = |row: &[f32], o: usize| -> f64 {
            let off =
                |(i, x): (usize, &f32)| f64::from(x * (weights[i * outputs + o] - back[i * outputs + o]));
            row.iter().enumerate().map(off).sum()
        };
        rows.chunks(depth).flat_map(|row| (0..outputs).map(move |o| sum(row, o).powi(2))).sum()
    }

    /// Data whose neighbours are nearly equal, as pixels are.
    fn correlated(rows: usize, depth: usize) -> Vec<f32> {
        let noise = |i: usize| ((i * 7919 + 13) % 1009) as f32 / 1009.0 - 0.5;
        (0..rows * depth).map(|i| noise(i / depth) + 0.1 * noise(i + 5)).collect()
    }

    #[test]
    fn errors_of_correlated_data_cancel() {
        let (depth, outputs, rows) = (16, 11, 256);
        let weights: Vec<f32> =
            (0..depth * outputs).map(|i| ((i * 31 + 7) % 97) as f32 / 97.0 - 0.4).collect();
        let data = correlated(rows, depth);
        let node = Node::new("MatMul", "", &["x", "w"], &["y"]);
        let patches = Patches::new(&node, &[depth, outputs], &[rows, depth]).unwrap();
        let mut gram = Gram::new(patches.clone(), 1);
        gram.add(&patches, &Tensor::new([rows, depth], &data), rows, None);
        let nearest = quantize(&[depth, outputs], &weights, Share::Axis(1), DType::I8, None, false);
        let mut found = nearest.clone();
        gram.round(&weights, Share::Axis(1), &mut found);
        let (before, after) =
            (error(&weights, &nearest, &data, depth), error(&weights, &found, &data, depth));
        assert!(after < before / 2.0, "{after} of {before}");
        assert_eq!(found.scales, nearest.scales);
        assert!(found.values.to_i64s().unwrap().iter().all(|q| (-127..=127).contains(q)));
        // Data that have nothing in common leave each weight at its nearest integer.
        let mut plain = Gram::new(patches.clone(), 1);
        let one: Vec<f64> = (0..depth * depth).map(|i| f64::from(u8::from(i % (depth + 1) == 0))).collect();
        plain.products = [vec![one.clone()], vec![one]];
        let mut found = nearest.clone();
        plain.round(&weights, Share::Axis(1), &mut found);
        assert_eq!(found.values, nearest.values);
    }

    /// What fits one half of the data and not the other is chance.
    #[test]
    fn data_that_differ_leave_weights_at_their_nearest_integers() {
        let (depth, outputs, rows) = (16, 11, 64);
        let weights: Vec<f32> =
            (0..depth * outputs).map(|i| ((i * 31 + 7) % 97) as f32 / 97.0 - 0.4).collect();
        let node = Node::new("MatMul", "", &["x", "w"], &["y"]);
        let patches = Patches::new(&node, &[depth, outputs], &[rows, depth]).unwrap();
        // Neighbours are nearly equal in one half, and nearly opposite in the other.
        let near = correlated(rows, depth);
        let turned = |(i, &x): (usize, &f32)| if i % 2 == 0 { x } else { -x };
        let opposite: Vec<f32> = near.iter().enumerate().map(turned).collect();
        let nearest = quantize(&[depth, outputs], &weights, Share::Axis(1), DType::I8, None, false);
        let after = |second: &[f32]| {
            let mut gram = Gram::new(patches.clone(), 2);
            gram.add(&patches, &Tensor::new([rows, depth], &near), rows, Some(0));
            gram.add(&patches, &Tensor::new([rows, depth], second), rows, Some(1));
            let mut found = nearest.clone();
            gram.round(&weights, Share::Axis(1), &mut found);
            found
        };
        assert_eq!(after(&opposite).values, nearest.values);
        assert_ne!(after(&near).values, nearest.values);
    }

    #[test]
    fn few_rows_of_data_round_few_weights() {
        let node = Node::new("MatMul", "", &["x", "w"], &["y"]);
        let blocks = |rows: usize, samples| {
            Gram::new(Patches::new(&node, &[64, 3], &[rows, 64]).unwrap(), samples).blocks.len()
        };
        assert_eq!([blocks(1, 8), blocks(16, 8), blocks(64, 8)], [0, 4, 1]);
    }
}
