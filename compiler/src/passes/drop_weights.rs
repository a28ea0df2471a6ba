//! Weights that no sum can show are zeros.
//!
//! Training with weight decay halves the weights of what a network does not need, step after step, and never makes
//! them zero: trained files hold millions of 1e-30 beside biases of 0.1, and denormal floats, with which processors
//! multiply a hundred times slower. A weight is a zero here where its filter has one, or a bias, 2^[`BELOW`] times as
//! large: a float shows its last bit where 2^24 apart, so an activation would have to be 2^40 times what all that
//! counts is multiplied by. So is every denormal one. What is empty then is left out by `drop_channels`, or stored
//! as zeros. Goldens: `tests/golden/passes/drop-weights`.

use super::edit::{differs, is, put_constant};
use crate::base::{DType, Tensor, row_major_strides};
use crate::error::Result;
use crate::graph::{Graph, Node};

/// The power of two by which a weight is smaller than what counts beside it.
const BELOW: i32 = 64;

/// What an operator multiplies by: the inputs with weights, and the axes that tell filters apart.
struct Row {
    name: &'static str,
    weights: &'static [usize],
    filters: fn(&Node, usize) -> Vec<usize>,
    /// The input with an addend for each filter.
    bias: Option<usize>,
}

const fn cell(name: &'static str) -> Row {
    Row { name, weights: &[1, 2], filters: |_, rank| (0..rank - 1).collect(), bias: None }
}

const ROWS: &[Row] = &[
    Row { name: "Conv", weights: &[1], filters: |_, _| vec![0], bias: Some(2) },
    // With groups, the same filter stands for each.
    Row { name: "ConvTranspose", weights: &[1], filters: |_, _| vec![0, 1], bias: None },
    Row { name: "MatMul", weights: &[1], filters: columns, bias: None },
    Row { name: "Gemm", weights: &[1], filters: gemm, bias: None },
    cell("LSTM"),
    cell("GRU"),
    cell("RNN"),
];

/// All axes but the one that is summed over.
fn columns(_: &Node, rank: usize) -> Vec<usize> {
    (0..rank).filter(|&axis| axis + 2 != rank).collect()
}

fn gemm(node: &Node, rank: usize) -> Vec<usize> {
    match node.attrs.flag("transB", false) {
        Ok(true) => vec![0],
        _ => columns(node, rank),
    }
}

/// Puts zeros in place of weights that do not count, and notes how many.
pub fn drop_weights(graph: &mut Graph, notes: &mut Vec<String>) -> Result<bool> {
    let mut dropped = 0;
    for n in 0..graph.nodes.len() {
        let Some(row) = ROWS.iter().find(|row| is(&graph.nodes[n], row.name)) else { continue };
        for &input in row.weights {
            let Some((tensor, count)) = without(graph, &graph.nodes[n], row, input) else { continue };
            dropped += count;
            put_constant(graph, n, input, tensor);
        }
    }
    if dropped > 0 {
        notes.push(format!("{dropped} weights are too small to be seen in any sum: they count as zeros"));
    }
    Ok(dropped > 0)
}

/// The weights without those that do not count, and how many these are; `None` where all do.
fn without(graph: &Graph, node: &Node, row: &Row, input: usize) -> Option<(Tensor, usize)> {
    let constant = |i: usize| {
        let id = node.inputs.get(i).copied().flatten().filter(|&id| !differs(graph, id))?;
        graph.value(id).constant.as_ref()
    };
    let weights = constant(input).filter(|w| w.ty.dtype == DType::F32 && w.ty.rank() >= 2)?;
    let mut numbers = weights.to_vec::<f32>()?;
    let largest = numbers.iter().fold(0f32, |m, w| m.max(w.abs()));
    let bias = row.bias.and_then(constant).and_then(Tensor::to_vec::<f32>);
    let most = bias.iter().flatten().fold(largest, |m, b| m.max(b.abs()));
    let below = |w: f32, most: f32| w != 0.0 && w.abs() < limit(most);
    if !numbers.iter().any(|&w| below(w, most)) {
        return None;
    }
    let filters = Filters::new(&weights.ty.shape, (row.filters)(node, weights.ty.rank()));
    let mut counts = vec![0f32; filters.count];
    if let Some(bias) = bias.filter(|b| b.len() == filters.count) {
        counts.iter_mut().zip(bias).for_each(|(count, b)| *count = b.abs());
    }
    numbers.iter().enumerate().for_each(|(i, w)| {
        let count = &mut counts[filters.of(i)];
        *count = count.max(w.abs());
    });
    let mut dropped = 0;
    for (i, w) in numbers.iter_mut().enumerate().filter(|(_, w)| **w != 0.0) {
        if below(*w, counts[filters.of(i)]) {
            (*w, dropped) = (0.0, dropped + 1);
        }
    }
    (dropped > 0).then(|| (Tensor::new(weights.ty.shape.clone(), &numbers), dropped))
}

/// What weights count from on beside a number.
fn limit(most: f32) -> f32 {
    (most * 2f32.powi(-BELOW)).max(f32::MIN_POSITIVE)
}

/// Which filter a weight belongs to.
struct Filters {
    /// Of each axis that tells them apart: the stride of weights, the extent, the stride of filters.
    axes: Vec<(usize, usize, usize)>,
    count: usize,
}

impl Filters {
    fn new(shape: &[usize], axes: Vec<usize>) -> Filters {
        let (strides, extents) =
            (row_major_strides(shape), axes.iter().map(|&a| shape[a]).collect::<Vec<_>>());
        let own = row_major_strides(&extents);
        let axes = axes.iter().zip(&extents).zip(own);
        Filters {
            axes: axes.map(|((&a, &extent), own)| (strides[a] as usize, extent, own as usize)).collect(),
            count: extents.iter().product(),
        }
    }

    fn of(&self, weight: usize) -> usize {
        self.axes.iter().map(|&(stride, extent, own)| weight / stride % extent * own).sum()
    }
}
