//! What sums of products lie between, and whether 32 bits hold them.
//!
//! Sums of products of bytes always fit. Those of 16 bits by bytes fit where the constants say so: the magnitudes of
//! a channel's weights, times what the data's integers lie between. Data behind a Relu lies on one side of its zero
//! point, which halves that. Where sums do not fit, the product is computed in float.

use super::super::edit::writers;
use super::linear::{Linear, Product};
use super::movement::moves_bytes;
use crate::base::{DType, Tensor};
use crate::graph::{Graph, Node};
use crate::scalar::Scalar;

/// More than a product of two bytes without their zero points.
const LARGEST: i64 = 1 << 17;

/// What is known of the sum of a product.
pub(super) struct Sum<'a> {
    /// The axis of the weights that is the results' channel.
    pub(super) axis: usize,
    /// Added to it.
    pub(super) bias: Option<&'a Tensor>,
    /// The number that the data's scale is multiplied by before that of the result divides it; where all
    /// scales are joined, none.
    pub(super) alpha: Option<f32>,
}

impl Product {
    /// An error where data of 16 bits has sums that 32 bits may not hold.
    pub(super) fn check(&self, graph: &Graph, sum: &Sum) -> Result<(), String> {
        if self.x.dtype(graph).size() == 1 {
            return Ok(());
        }
        if graph.value(self.w.value).constant.is_none() {
            return Err("data of 16 bits is multiplied by what is no constant".to_string());
        }
        let whole = i64::from(i32::MIN)..=i64::from(i32::MAX);
        match self.sums(graph, sum).iter().all(|s| whole.contains(&s.0) && whole.contains(&s.1)) {
            true => Ok(()),
            false => Err("the sums of its products of 16 bits may not fit 32".to_string()),
        }
    }

    /// What the data's integers lie between.
    pub(super) fn range(&self, graph: &Graph) -> (i64, i64) {
        range(graph, &self.x)
    }

    /// What the sum of each channel lies between.
    pub(super) fn sums(&self, graph: &Graph, sum: &Sum) -> Vec<(i64, i64)> {
        let weights = graph.value(self.w.value);
        let shape = &weights.ty.shape;
        let (channels, inner) = (shape[sum.axis], shape[sum.axis + 1..].iter().product::<usize>().max(1));
        let bytes = weights.constant.as_ref().map(|t| &t.data);
        let signed = weights.ty.dtype == DType::I8;
        let Some(bytes) = bytes else {
            let most = (weights.ty.elems() / channels.max(1)) as i64 * LARGEST;
            return vec![(-most, most)];
        };
        let zero = self.x.zeros(graph)[0];
        let (low, high) = self.range(graph);
        // What padding adds is zero.
        let (low, high) = ((low - zero).min(0), (high - zero).max(0));
        let zeros = self.w.zeros(graph);
        let mut sums = vec![(0, 0); channels];
        for (i, row) in bytes.chunks(inner).enumerate() {
            let channel = i % channels;
            let (sum, zero) = (&mut sums[channel], zeros[if zeros.len() == channels { channel } else { 0 }]);
            for &byte in row {
                let weight = if signed { i64::from(byte as i8) } else { i64::from(byte) };
                let weight = weight - zero;
                sum.0 += (weight * low).min(weight * high);
                sum.1 += (weight * low).max(weight * high);
            }
        }
        let bias = sum.bias.and_then(|t| t.to_i64s()).unwrap_or_default();
        for (i, sum) in sums.iter_mut().enumerate().filter(|_| !bias.is_empty()) {
            let of = if bias.len() == channels { &bias[i..=i] } else { &bias[..] };
            sum.0 += of.iter().copied().min().unwrap_or(0);
            sum.1 += of.iter().copied().max().unwrap_or(0);
        }
        sums
    }
}

/// What the integers of a value lie between: those of its type, or of 16 bits what they are clamped to.
fn range(graph: &Graph, linear: &Linear) -> (i64, i64) {
    let dtype = linear.dtype(graph);
    let [mut low, mut high] = [Scalar::lowest(dtype), Scalar::highest(dtype)].map(|s| s.to_i64());
    if dtype.size() == 1 {
        return (low, high);
    }
    let (writers, mut value) = (writers(graph), linear.value);
    while let Some(node) = writers[value as usize].map(|n| &graph.nodes[n]) {
        let Some(from) = node.inputs.first().copied().flatten() else { break };
        match (node.op.name, limit(graph, node)) {
            ("Max", Some((least, _))) => low = low.max(least),
            ("Min", Some((_, most))) => high = high.min(most),
            _ if moves_bytes(graph, node) => {}
            _ => break,
        }
        value = from;
    }
    (low, high)
}

/// The least and the greatest of a constant second input.
fn limit(graph: &Graph, node: &Node) -> Option<(i64, i64)> {
    let &[_, Some(limit)] = node.inputs.as_slice() else { return None };
    let limits = graph.value(limit).constant.as_ref()?.to_i64s()?;
    Some((*limits.iter().min()?, *limits.iter().max()?))
}
