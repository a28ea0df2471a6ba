//! Where the channels of a layer's weights lie.

use super::Node;
use crate::base::Tensor;

/// The axes of the constant at an input: that of the channels, and that of the sums, where there is one
/// to divide into blocks.
pub fn axes(node: &Node, input: usize, rank: usize) -> Option<(Option<usize>, Option<usize>)> {
    match (node.op(), input) {
        _ if rank < 2 => None,
        ("MatMul", 1) => Some((Some(rank - 1), Some(rank - 2))),
        ("MatMul", 0) => Some((Some(rank - 2), Some(rank - 1))),
        ("Gemm", 1) => {
            let transposed = usize::from(node.int("transB", 0) != 0);
            Some((Some(1 - transposed), Some(transposed)))
        }
        ("Conv", 1) => Some((Some(0), None)),
        ("ConvTranspose", 1) => Some(((node.int("group", 1) == 1).then_some(1), None)),
        ("Gather", 0) if node.int("axis", 0) == 0 => Some((Some(rank - 1), Some(rank - 1))),
        ("LSTM" | "GRU" | "RNN", 1 | 2) if rank == 3 => Some((Some(1), None)),
        _ => None,
    }
}

/// The axis of the channels of the constant at an input.
pub fn channel_axis(node: &Node, input: usize, rank: usize) -> Option<usize> {
    axes(node, input, rank)?.0
}

/// Of elements in row-major order, the index of each along an axis.
pub fn along(shape: &[usize], axis: usize) -> impl Fn(usize) -> usize + use<> {
    let (extent, inner) = (shape[axis], shape[axis + 1..].iter().product::<usize>().max(1));
    move |element| element / inner % extent
}

/// Elements multiplied by the factor of their index along an axis.
pub fn scaled(shape: &[usize], axis: usize, elements: &[f32], factors: &[f64]) -> Tensor {
    let index = along(shape, axis);
    let one = |(i, &x): (usize, &f32)| (f64::from(x) * factors[index(i)]) as f32;
    Tensor::new(shape, &elements.iter().enumerate().map(one).collect::<Vec<f32>>())
}
