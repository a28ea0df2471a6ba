//! Points of a convolution's window that meet nothing but padding are left out.
//!
//! A window of 3x3 points over one element, or one whose points lie further apart than the data is wide (the large
//! rates of DeepLab's pyramid over a small image), meets data at some of its points alone, the others multiply zeros:
//! `Conv(x, w) { dilations = [18, 18], pads = [18, 18, 18, 18] }` of 14x14 elements is `Conv(x, w[:, :, 1:2, 1:2])`.
//! Constant weights become smaller, pads as well. Where sizes are free, which points meet data hangs on them: windows stay.

use super::edit::{list, weights};
use crate::base::{Tensor, TensorType};
use crate::error::Result;
use crate::graph::{Attr, Graph, Node};

/// One dimension of a convolution.
struct Dim {
    input: i64,
    output: i64,
    kernel: i64,
    stride: i64,
    dilation: i64,
    before: i64,
    after: i64,
}

/// What is left of a dimension: its first point, how many, and the padding around.
struct Left {
    first: i64,
    points: i64,
    before: i64,
    after: i64,
}

impl Dim {
    /// Whether a point meets data in some window.
    fn meets(&self, point: i64) -> bool {
        let begin = point * self.dilation - self.before;
        (0..self.output).any(|o| (0..self.input).contains(&(o * self.stride + begin)))
    }

    fn left(&self) -> Left {
        let all = Left { first: 0, points: self.kernel, before: self.before, after: self.after };
        let met = || (0..self.kernel).filter(|&point| self.meets(point));
        let (Some(first), Some(last)) = (met().min(), met().max()) else { return all };
        let points = last - first + 1;
        let before = self.before - first * self.dilation;
        let reach = self.dilation * (points - 1) + 1;
        let after = ((self.output - 1) * self.stride + reach - self.input - before).max(0);
        let output = (self.input + before + after - reach).div_euclid(self.stride) + 1;
        if before < 0 || output != self.output { all } else { Left { first, points, before, after } }
    }
}

/// The dimensions of a convolution whose padding is given in numbers.
fn dims(graph: &Graph, node: &Node, weights: usize) -> Option<Vec<Dim>> {
    let shape = |id: Option<u32>| id.map(|id| &graph.value(id).ty.shape);
    let x = shape(*node.inputs.first()?)?;
    let (w, y) = (shape(*node.inputs.get(weights)?)?, shape(*node.outputs.first()?)?);
    let spatial = x.len().checked_sub(2).filter(|_| w.len() == x.len() && y.len() == x.len())?;
    let auto = node.attrs.str("auto_pad", "NOTSET").ok()?;
    let pads = list(node, "pads", 2 * spatial, 0)?;
    let (strides, dilations) = (list(node, "strides", spatial, 1)?, list(node, "dilations", spatial, 1)?);
    let dim = |d: usize| Dim {
        input: x[2 + d] as i64,
        output: y[2 + d] as i64,
        kernel: w[2 + d] as i64,
        stride: strides[d],
        dilation: dilations[d],
        before: pads[d],
        after: pads[spatial + d],
    };
    let sound = |d: &Dim| d.stride > 0 && d.dilation > 0 && d.before >= 0 && d.after >= 0;
    let dims: Vec<Dim> = (0..spatial).map(dim).collect();
    (auto == "NOTSET" && dims.iter().all(sound)).then_some(dims)
}

/// The points of a window that are left, of each filter and channel.
fn trimmed(weights: &Tensor, left: &[Left]) -> Option<Tensor> {
    let (outer, window) = weights.ty.shape.split_at(2);
    let size = weights.ty.dtype.size();
    let places = left.iter().zip(window).fold(vec![0usize], |places, (l, &extent)| {
        let along = l.first as usize..(l.first + l.points) as usize;
        places.iter().flat_map(|&p| along.clone().map(move |i| p * extent + i)).collect()
    });
    let points = window.iter().product::<usize>() * size;
    let data: Vec<u8> = weights
        .data
        .chunks_exact(points.max(1))
        .flat_map(|filter| places.iter().flat_map(move |&p| &filter[p * size..(p + 1) * size]).copied())
        .collect();
    let shape: Vec<usize> = outer.iter().copied().chain(left.iter().map(|l| l.points as usize)).collect();
    Tensor::from_bytes(TensorType::new(weights.ty.dtype, shape), data)
}

/// Leaves points out that meet nothing but padding.
pub fn trim_windows(graph: &mut Graph) -> Result<bool> {
    let mut changed = false;
    for i in 0..if graph.shapes.is_empty() { graph.nodes.len() } else { 0 } {
        let node = &graph.nodes[i];
        let Some(at) = weights(node) else { continue };
        let Some(dims) = dims(graph, node, at) else { continue };
        let left: Vec<Left> = dims.iter().map(Dim::left).collect();
        let value = node.inputs[at].map(|id| graph.value(id));
        let Some(value) = value.filter(|_| left.iter().zip(&dims).any(|(l, d)| l.points < d.kernel)) else {
            continue;
        };
        let Some(tensor) = value.constant.as_ref().and_then(|w| trimmed(w, &left)) else { continue };
        let name = format!("{}.trimmed{i}", value.name);
        let weights = graph.add_constant(name, tensor);
        let node = &mut graph.nodes[i];
        node.inputs[at] = Some(weights);
        let pads = left.iter().map(|l| l.before).chain(left.iter().map(|l| l.after));
        node.attrs.set("pads", Attr::Ints(pads.collect()));
        if node.attrs.get_ints("kernel_shape").is_ok_and(|k| k.is_some()) {
            node.attrs.set("kernel_shape", Attr::Ints(left.iter().map(|l| l.points).collect()));
        }
        changed = true;
    }
    Ok(changed)
}
