//! Channels that pruning, or training, has emptied are not computed.
//!
//! Between two products, of floats or of quantized numbers, lies a chain of operators that keep channels
//! apart: activations, pools, depthwise convolutions. A channel of it is dead where the product after it
//! multiplies it by zeros only, or where it is a constant (its own weights are all zeros), which then goes
//! into that product's bias. Dead channels leave the weights on both sides, and all of the chain. The sums
//! are the same but for their order. Goldens: `tests/golden/passes/drop-channels`, `drop-integer-channels`.

use super::channels::{
    Chain, Constants, Edges, Operand, Product, Sink, is_padded, known_constants, operands,
};
use super::edit::{is, put_constant};
use crate::base::Tensor;
use crate::error::Result;
use crate::graph::{Attr, Graph, ValueId};

/// Drops channels until none is dead; the number of them is noted.
pub fn drop_channels(graph: &mut Graph, notes: &mut Vec<String>) -> Result<bool> {
    let mut dropped = 0;
    let edges = Edges::of(graph);
    loop {
        let before = dropped;
        let constants = known_constants(graph);
        // Of values whose channels have changed since, they are others'.
        let mut seen = vec![false; graph.nodes.len()];
        for root in 0..graph.nodes.len() {
            let Some(chain) = (!seen[root]).then(|| Chain::from(graph, root, &edges)).flatten() else {
                continue;
            };
            chain.roots.iter().for_each(|&root| seen[root] = true);
            let keep = kept(graph, &chain, &constants);
            if keep.len() < chain.channels {
                dropped += chain.channels - keep.len();
                apply(graph, &chain, &keep, &constants);
            }
        }
        if dropped == before {
            break;
        }
    }
    if dropped > 0 {
        notes.push(format!("{dropped} channels are constant or multiplied by zeros: they are not computed"));
    }
    Ok(dropped > 0)
}

/// From so many channels on, rows of channels stay multiples of so many: vectors of such rows are aligned, so
/// that fewer channels are never slower.
const ROWS: (usize, usize) = (16, 4);
/// The same for bytes, whose layers, with a few channels less each, would have kernels of their own
/// (EfficientNet-Lite0: 33 KB of code for 15 KB of weights).
const BYTES: (usize, usize) = (64, 16);
/// The same where so many are kept: whole vectors, of which the last would be taken in any case, and extents that
/// can be divided into strips (468 of 480 channels took 1.38 of the arena).
const KEPT: [(usize, usize); 2] = [(80, 8), (160, 16)];

/// The channels that are kept: what someone needs, one at least, and what fills the row.
fn kept(graph: &Graph, chain: &Chain, constants: &Constants) -> Vec<usize> {
    let sinks: Vec<(&Sink, Option<Product>)> =
        chain.sinks.iter().map(|sink| (sink, Product::of(graph, sink.node))).collect();
    let dead = |channel: usize| {
        sinks.iter().all(|(sink, product)| {
            let Some(product) = product else { return false };
            let folds = sink.constant(product, constants, channel).is_some_and(|c| {
                c == 0.0 || (product.convolves() && c.is_finite() && !is_padded(&graph.nodes[sink.node]))
            });
            folds || sink.is_zero(product, channel)
        })
    };
    let (unread, mut keep): (Vec<usize>, Vec<usize>) = (0..chain.channels).partition(|&c| dead(c));
    let bytes = Product::of(graph, chain.roots[0]).is_some_and(|p| p.is_quantized());
    let rows = [(chain.channels, ROWS), (if bytes { chain.channels } else { 0 }, BYTES)];
    let rows = rows.into_iter().chain(KEPT.map(|kept| (keep.len(), kept)));
    let row = rows.filter(|(count, (many, _))| count >= many).map(|(_, (_, row))| row).max().unwrap_or(1);
    let count = keep.len().max(1).next_multiple_of(row).min(chain.channels);
    keep.extend(&unread[..count - keep.len()]);
    keep.sort_unstable();
    keep
}

fn apply(graph: &mut Graph, chain: &Chain, keep: &[usize], constants: &Constants) {
    for sink in &chain.sinks {
        fold_bias(graph, sink, keep, constants);
        let weights = Product::of(graph, sink.node).map(|p| p.inputs().0);
        weights.into_iter().for_each(|input| shrink(graph, sink.node, input, sink.axis, keep));
    }
    for &node in chain.joins.iter().chain(&chain.roots) {
        let inputs: Vec<usize> = Product::of(graph, node).iter().flat_map(Product::of_results).collect();
        inputs.iter().for_each(|&input| shrink(graph, node, input, 0, keep));
        if !inputs.is_empty() && !chain.roots.contains(&node) {
            graph.nodes[node].attrs.set("group", Attr::Int(keep.len() as i64));
        }
        for (input, operand) in operands(graph, node, chain.channels).into_iter().flatten().enumerate() {
            if let Operand::Each(axis) = operand {
                shrink(graph, node, input, axis, keep);
            }
        }
    }
    for &value in &chain.values {
        graph.values[value as usize].ty.shape[1] = keep.len();
    }
    for &node in &chain.joins {
        if is(&graph.nodes[node], "Reshape") {
            let shape = graph.nodes[node].outputs[0].map(|o| graph.value(o).ty.shape.clone());
            let dims: Vec<i64> = shape.unwrap_or_default().iter().map(|&d| d as i64).collect();
            put_constant(graph, node, 1, Tensor::new([dims.len()], &dims));
        }
    }
}

/// What dropped constants give to each result goes into the bias.
fn fold_bias(graph: &mut Graph, sink: &Sink, keep: &[usize], constants: &Constants) {
    let Some(product) = Product::of(graph, sink.node) else { return };
    let (weights, Some(input)) = (&product.weights.ty, product.inputs().1) else { return };
    let (rows, columns) = (weights.shape[0], weights.shape[1]);
    let window = weights.elems() / (rows * columns);
    let mut sums = vec![0f64; rows];
    for channel in (0..columns).filter(|c| !keep.contains(c)) {
        let constant = sink.constant(&product, constants, channel).unwrap_or(0.0);
        if constant == 0.0 {
            continue;
        }
        for (row, sum) in sums.iter_mut().enumerate() {
            let taps = product.numbers((row * columns + channel) * window, window);
            *sum += f64::from(constant) * taps.map(f64::from).sum::<f64>();
        }
    }
    if sums.iter().all(|&s| s == 0.0) {
        return;
    }
    let old = product.bias().unwrap_or_else(|| vec![0.0; rows]);
    let new = old.iter().zip(&sums).map(|(b, s)| b + s);
    let bias = match product.is_quantized() {
        // Sums of products wrap, and so does their bias.
        true => Tensor::new([rows], &new.map(|b| b as i64 as i32).collect::<Vec<i32>>()),
        false => Tensor::new([rows], &new.map(|b| b as f32).collect::<Vec<f32>>()),
    };
    put_constant(graph, sink.node, input, bias);
}

/// Keeps some indices of an axis of a constant input, where there is one with more than one number.
fn shrink(graph: &mut Graph, node: usize, input: usize, axis: usize, keep: &[usize]) {
    let value: Option<ValueId> = graph.nodes[node].inputs.get(input).copied().flatten();
    let Some(tensor) = value.and_then(|v| graph.value(v).constant.clone()) else { return };
    if tensor.ty.elems() > 1 {
        put_constant(graph, node, input, tensor.picked(axis, keep));
    }
}
