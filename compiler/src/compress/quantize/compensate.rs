//! Rounding of weights against data: what some weights of a sum are rounded by, the others make up for.
//!
//! With `e` what the weights of a sum are rounded by and `G` the products of its data with each other, added over
//! the samples, the sum is off by `e' G e`. Each weight at its nearest integer makes `e` least, not that: neighbours
//! in an image are nearly equal, so that their errors add up where they could cancel. `G = L L'` makes it
//! `|L' e|^2`, and weights are rounded from the last to the first, each to the integer next to what makes up for
//! those before it (the nearest plane of a lattice; GPTQ rounds the same way).
//!
//! Sums are taken in blocks of neighbours, no longer than the rows of data can tell apart.

use super::patches::Patches;
use super::plan::Layer;
use super::stats::floats;
use super::weights::{Quantized, Share, quantize};
use crate::base::{DType, Tensor};
use crate::build::Observer;
use crate::compress::observe::{Observed, Sample};
use crate::compress::onnx::Onnx;
use crate::error::Result;
use std::collections::BTreeMap;
use std::ops::Range;

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
/// What is added to the diagonal, in parts of its mean, for the same reason.
const DAMPING: f64 = 0.05;
/// Sums that are rounded side by side.
const LANES: usize = 8;

/// Products of the data of a layer.
struct Gram {
    patches: Patches,
    blocks: Vec<Range<usize>>,
    /// A square for each block; the part below the diagonal is used.
    products: Vec<Vec<f64>>,
}

/// The weights of a model rounded against the samples, where their data can be followed.
pub fn rounded(onnx: &Onnx, items: &[Item], samples: &[Sample], observer: &dyn Observer) -> Result<Rounded> {
    let mut wanted: Vec<String> = items.iter().map(|i| onnx.nodes[i.node].inputs[0].clone()).collect();
    wanted.sort();
    wanted.dedup();
    let mut observed = Observed::new(onnx, &wanted)?;
    let mut grams: BTreeMap<usize, Gram> = BTreeMap::new();
    for (i, sample) in samples.iter().enumerate() {
        observer.progress("rounding", i, samples.len());
        let values = observed.run(sample)?;
        for item in items {
            let node = &onnx.nodes[item.node];
            let (Some(data), Some((shape, _))) = (values.get(&node.inputs[0]), onnx.floats(&node.inputs[1]))
            else {
                continue;
            };
            if let Some(patches) = Patches::new(node, &shape, &data.ty.shape) {
                let gram =
                    grams.entry(item.node).or_insert_with(|| Gram::new(patches.clone(), samples.len()));
                gram.add(&patches, data, ROWS.div_ceil(samples.len()));
            }
        }
    }
    let mut made = Rounded::new();
    for item in items {
        let Some(gram) = grams.get(&item.node) else { continue };
        let name = &onnx.nodes[item.node].inputs[1];
        let Some((shape, weights)) = onnx.floats(name) else { continue };
        let mut found = quantize(&shape, &weights, item.share, item.dtype, None, item.dtype == DType::I4);
        gram.round(&weights, item.share, &mut found);
        made.insert(name.clone(), found);
    }
    Ok(made)
}

impl Gram {
    fn new(patches: Patches, samples: usize) -> Gram {
        let rows = (patches.count() * samples).min(ROWS);
        let blocks = patches.blocks(BLOCK.min(rows / ROWS_PER_WEIGHT));
        let products = blocks.iter().map(|b| vec![0.0; b.len() * b.len()]).collect();
        Gram { patches, blocks, products }
    }

    /// Adds the products of some rows of a sample.
    fn add(&mut self, patches: &Patches, data: &Tensor, rows: usize) {
        let data = floats(data);
        let mut row = vec![0.0f32; patches.width()];
        for at in patches.spread(rows) {
            patches.row(&data, at, &mut row);
            if row.iter().any(|x| !x.is_finite()) {
                continue;
            }
            for (block, products) in self.blocks.iter().zip(&mut self.products) {
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
        let owners = share.owners(&made.values.ty.shape);
        let (least, most) = made.limits();
        let mut integers = made.values.to_i64s().unwrap_or_default();
        for (block, products) in self.blocks.iter().zip(&self.products) {
            let Some(plane) = Plane::new(products, block.len()) else { continue };
            let outputs: Vec<usize> = self.patches.outputs(block.start).collect();
            for lanes in outputs.chunks(LANES) {
                let index = |i: usize, lane: usize| {
                    self.patches.weight(lanes[lane.min(lanes.len() - 1)], block.start + plane.order[i])
                };
                let mut off = vec![[0.0f64; LANES]; block.len()];
                for i in (0..block.len()).rev() {
                    let shift = plane.shift(i, &off);
                    for lane in 0..LANES {
                        let at = index(i, lane);
                        let (weight, scale) = (f64::from(weights[at]), f64::from(made.scales[owners[at]]));
                        let integer = ((weight + shift[lane]) / scale).round_ties_even().clamp(least, most);
                        integers[at] = integer as i64;
                        off[i][lane] = weight - integer * scale;
                    }
                }
            }
        }
        made.set_integers(&integers);
    }
}

/// The triangle that a block's weights are rounded by.
struct Plane {
    /// The weights from those with the least data to those with the most, which are rounded first.
    order: Vec<usize>,
    /// Of row `i`: what each later weight's error counts in units of its own.
    factors: Vec<f64>,
}

impl Plane {
    fn new(products: &[f64], size: usize) -> Option<Plane> {
        let at = |i: usize, j: usize| products[i.max(j) * size + i.min(j)];
        let mean = (0..size).map(|i| at(i, i)).sum::<f64>() / size as f64;
        if size < 2 || mean <= 0.0 || !mean.is_finite() {
            return None;
        }
        let mut order: Vec<usize> = (0..size).collect();
        order.sort_by(|&a, &b| at(a, a).total_cmp(&at(b, b)));
        let mut lower = vec![0.0; size * size];
        for i in 0..size {
            for j in 0..=i {
                let (before, line) = lower.split_at(i * size);
                let other = if i == j { line } else { &before[j * size..] };
                let sum: f64 = line[..j].iter().zip(&other[..j]).map(|(a, b)| a * b).sum();
                let damped = if i == j { DAMPING * mean } else { 0.0 };
                let rest = at(order[i], order[j]) + damped - sum;
                lower[i * size + j] =
                    if i == j { rest.max(DAMPING * mean * 0.5).sqrt() } else { rest / lower[j * size + j] };
            }
        }
        let factors = (0..size * size).map(|k| {
            let (i, j) = (k / size, k % size);
            if j > i { lower[j * size + i] / lower[i * size + i] } else { 0.0 }
        });
        let factors = factors.collect();
        Some(Plane { order, factors })
    }

    /// What weight `i` makes up for, of the errors of those after it.
    fn shift(&self, i: usize, off: &[[f64; LANES]]) -> [f64; LANES] {
        let size = off.len();
        let mut sum = [0.0; LANES];
        for (factor, off) in self.factors[i * size..][..size].iter().zip(off).skip(i + 1) {
            sum.iter_mut().zip(off).for_each(|(s, o)| *s += factor * o);
        }
        sum
    }
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
        gram.add(&patches, &Tensor::new([rows, depth], &data), rows);
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
        plain.products =
            vec![(0..depth * depth).map(|i| f64::from(u8::from(i % (depth + 1) == 0))).collect()];
        plain.round(&weights, Share::Axis(1), &mut found);
        assert_eq!(found.values, nearest.values);
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
