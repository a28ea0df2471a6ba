//! Convolutions of single points are computed before a Resize that enlarges what they read.
//!
//! Before: `Conv(Resize(x))`, a decoder's last layer, whose weights meet the same numbers again and again, or mixtures
//! of them. After: `Resize(Conv(x))`: each number of the result is a mixture of numbers whose weights add up to one, so
//! a bias stays what it is. Rounding differs as it does in any sum of another order, and not at all where Resize takes
//! the nearest number.

use super::edit::{is, like, list, put, read_counts, writers};
use crate::base::Tensor;
use crate::error::{Error, Result};
use crate::graph::{COMPUTED, Graph, Node, ValueId};

/// Exchanges both, where the result has no more channels.
pub fn early_point(graph: &mut Graph) -> Result<bool> {
    let (mut changed, mut i) = (false, 0);
    while i < graph.nodes.len() {
        if let Some((resize, point)) = pair(graph, i)? {
            let before = graph.nodes.len();
            changed |= exchange(graph, i, &resize, &point).is_ok();
            i += graph.nodes.len() - before;
        }
        i += 1;
    }
    Ok(changed)
}

/// The Resize that a convolution of single points reads, alone, and that node.
fn pair(graph: &Graph, at: usize) -> Result<Option<(Node, Node)>> {
    let node = &graph.nodes[at];
    let (true, [Some(x), Some(weights), ..]) = (is(node, "Conv"), &node.inputs[..]) else { return Ok(None) };
    let channels = |id: ValueId| graph.value(id).ty.shape.get(1).copied();
    let shape = &graph.value(*weights).ty.shape;
    let spatial = shape.len().saturating_sub(2);
    let usual =
        |name: &str, count: usize, value: i64| list(node, name, count, value) == Some(vec![value; count]);
    let point = shape.iter().skip(2).all(|&k| k == 1)
        && usual("strides", spatial, 1)
        && usual("pads", 2 * spatial, 0);
    if !point {
        return Ok(None);
    }
    let Some(resize) = writers(graph)[*x as usize].map(|w| &graph.nodes[w]) else { return Ok(None) };
    let (true, Some(Some(from))) = (is(resize, "Resize"), resize.inputs.first()) else { return Ok(None) };
    let whole = resize.attrs.str("coordinate_transformation_mode", "half_pixel")? != "tf_crop_and_resize";
    let usual = resize.attrs.str("keep_aspect_ratio_policy", "stretch")? == "stretch";
    let same = channels(*from) == channels(*x) && channels(*from) >= shape.first().copied();
    let alone = read_counts(graph)[*x as usize] == 1;
    let fits = whole && usual && enlarges(graph, *from, *x) && same && alone;
    Ok(fits.then(|| (resize.clone(), node.clone())))
}

/// Whether one value is larger than the other: where sizes are free, in each sample.
fn enlarges(graph: &Graph, from: ValueId, to: ValueId) -> bool {
    let shapes = |id: ValueId| {
        let name = &graph.value(id).name;
        graph.shapes.get(name.strip_suffix(COMPUTED).unwrap_or(name))
    };
    let larger = |(from, to): (&Vec<usize>, &Vec<usize>)| {
        to.iter().product::<usize>() > from.iter().product::<usize>()
    };
    match (shapes(from), shapes(to)) {
        (Some(from), Some(to)) => from.iter().zip(to).all(larger),
        _ => graph.shapes.is_empty() && larger((&graph.value(from).ty.shape, &graph.value(to).ty.shape)),
    }
}

fn exchange(graph: &mut Graph, at: usize, resize: &Node, point: &Node) -> std::result::Result<(), String> {
    let sizes = resize.inputs.get(3).copied().flatten();
    let sizes = sizes.and_then(|id| graph.value(id).constant.clone()).and_then(|t| t.to_vec::<i64>());
    let channels = point.inputs[1].map(|w| graph.value(w).ty.shape[0] as i64);
    put(graph, at, |b| {
        let mut inputs = point.inputs.clone();
        inputs[0] = resize.inputs[0];
        let made = like(b, point, inputs)?;
        let mut inputs = resize.inputs.clone();
        inputs[0] = Some(made);
        // Sizes of all dimensions say how many channels there are.
        if let (Some(mut sizes), None) = (sizes, resize.attrs.get_ints("axes")?) {
            let place = sizes.get_mut(1).ok_or_else(|| Error::bug("sizes without channels"))?;
            *place = channels.unwrap_or(*place);
            inputs[3] = Some(b.constant(Tensor::new([sizes.len()], &sizes)));
        }
        like(b, resize, inputs)
    })
}
