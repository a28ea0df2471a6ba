//! Data and results of convolutions with a scale per channel.
//!
//! NNCF gives what depthwise convolutions read a scale per channel. The sum of an output channel has one scale
//! wherever the channels that it reads have one, and the requantization of a sum is a factor per output channel
//! anyway: both become part of the weights' scales.

use super::super::edit::is;
use super::linear::{Linear, Product, of};
use crate::base::{Tensor, TensorType};
use crate::graph::{Graph, Node, ValueId};

/// Puts scales of the data's channels into those of the weights; an error where sums have several.
pub(super) fn fold_data(graph: &mut Graph, node: &Node, product: &mut Product) -> Result<(), String> {
    let x = &product.x;
    if x.axis.is_none() {
        return Ok(());
    }
    let several = || "the data has a scale per channel".to_string();
    if !is(node, "Conv") || x.axis != Some(1) || product.w.axis.is_some_and(|a| a != 0) {
        return Err(several());
    }
    let weights = &graph.value(product.w.value).ty.shape;
    let (channels, inner) = (weights[0], weights[1]);
    let scales = x.scales(graph);
    let groups = scales.len() / inner.max(1);
    if !scales.chunks(inner.max(1)).all(alike) || groups == 0 || !channels.is_multiple_of(groups) {
        return Err(several());
    }
    let zero = one_zero(graph, x).ok_or("the data has a zero point per channel")?;
    let own = product.w.scales(graph);
    let joined = |c: usize| of(&own, c) * scales[c / (channels / groups) * inner];
    let joined: Vec<f32> = (0..channels).map(joined).collect();
    product.x = Linear { zero, scale: scale(graph, Tensor::scalar(1.0f32)), axis: None, ..product.x.clone() };
    product.w = Linear {
        scale: scale(graph, Tensor::new([joined.len()], &joined)),
        axis: Some(0),
        ..product.w.clone()
    };
    Ok(())
}

/// Whether a product can give what a QuantizeLinear gives: one scale, or a convolution's one per channel.
pub(super) fn folds_result(graph: &Graph, node: &Node, to: &Linear) -> bool {
    to.axis.is_none() || is(node, "Conv") && to.axis == Some(1) && alike(&to.zeros(graph))
}

/// Puts the scale of the data, and those of the result's channels, into those of the weights.
pub(super) fn fold_result(graph: &mut Graph, product: &mut Product) {
    let scales = product.scales(graph);
    let Some((_, to)) = product.to.as_mut().filter(|(_, to)| to.axis.is_some()) else { return };
    let over = to.scales(graph);
    let joined: Vec<f32> = over.iter().enumerate().map(|(c, y)| of(&scales, c) / y).collect();
    let zero = one_zero(graph, to).unwrap_or(to.zero);
    *to = Linear { zero, scale: scale(graph, Tensor::scalar(1.0f32)), axis: None, ..to.clone() };
    product.x.scale = scale(graph, Tensor::scalar(1.0f32));
    product.w = Linear {
        scale: scale(graph, Tensor::new([joined.len()], &joined)),
        axis: Some(0),
        ..product.w.clone()
    };
}

fn alike<T: PartialEq>(list: &[T]) -> bool {
    list.windows(2).all(|w| w[0] == w[1])
}

/// The zero point of all channels as one number, if they have the same.
fn one_zero(graph: &mut Graph, linear: &Linear) -> Option<Option<ValueId>> {
    let Some(zero) = linear.zero else { return Some(None) };
    let constant = graph.value(zero).constant.clone()?;
    let first = constant.repeated()?.to_vec();
    let name = format!("{}.{}", graph.value(zero).name, graph.values.len());
    let zero = Tensor { ty: TensorType::new(constant.ty.dtype, []), data: first.into() };
    Some(Some(graph.add_constant(name, zero)))
}

fn scale(graph: &mut Graph, tensor: Tensor) -> ValueId {
    let name = format!("scale.{}", graph.values.len());
    graph.add_constant(name, tensor)
}
