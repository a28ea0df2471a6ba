//! Which convolutions of 16 bits floats compute in less time, because these are filtered.
//!
//! Winograd's method makes tiles of outputs from sums and differences of inputs, which have two more bits or four:
//! numbers of 16 bits do not hold them. Floats do, and take as few as a quarter of the products. Where an
//! instruction multiplies no more numbers of 16 bits than floats, integers would take longer.

use super::super::Around;
use super::super::edit::is;
use crate::error::Error;
use crate::graph::{Graph, Node};
use crate::target::{Arch, Target};

/// What filtering leaves of the time of a float convolution whose data is rounded to 16 bits, at most (ResNet-8 on
/// Cortex-A53: .65 of the instructions of the direct one; at AVX2 with 16 channels nearly all).
const FILTERED: f64 = 0.7;
/// Channels from which on that holds.
const CHANNELS: usize = 8;

/// Products of 16 bits by 8 in the time of one of floats: an instruction that multiplies couples and adds them has
/// two; couples, with an addition beside, were measured on Zen 4; by element there are as many as of floats.
fn products(target: &Target) -> f64 {
    match target.arch {
        Arch::X86_64 if target.has_vnni() => 2.0,
        Arch::X86_64 => 1.5,
        Arch::Aarch64 => 1.0,
    }
}

/// Whether a node is a convolution that is filtered in floats, in less time than integers take.
pub(super) fn float_filters(graph: &Graph, node: &Node, around: &Around) -> Result<bool, String> {
    let shape = |i: usize| node.inputs.get(i).copied().flatten().map(|v| graph.value(v).ty.shape.as_slice());
    let (true, Some(&[out, channels, 3, 3])) = (around.filters && is(node, "Conv"), shape(1)) else {
        return Ok(false);
    };
    let error = |e: Error| e.to_string();
    let ones = |name: &str| -> Result<bool, String> {
        Ok(node.attrs.get_ints(name).map_err(error)?.is_none_or(|list| list.iter().all(|&v| v == 1)))
    };
    let single = node.attrs.int("group", 1).map_err(error)? == 1 && ones("strides")? && ones("dilations")?;
    let wide = out.min(channels) >= CHANNELS;
    Ok(single && wide && FILTERED * products(around.target) < 1.0)
}
