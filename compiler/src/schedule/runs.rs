//! Windows of bytes over few channels as runs.
//!
//! A window of five points of two channels, whose channels lie side by side, is ten neighbours in memory: three words,
//! or five couples. Two channels alone are no word, and three are one with a byte of nothing. Where the weights, which
//! are constant, lie in the same order, both axes are one.

use super::factors::{factors, walks};
use super::instructions::word;
use super::linear::{Linear, Node};
use crate::base::Affine;
use crate::target::Target;

/// Elements of channels that are a couple of their own at most: an axis of words has more.
const ALONE: usize = 2;

/// Makes one axis of a window's innermost points and its channels, where it takes fewer words so: the operand that the
/// weights are, and its elements in their new order. `data` gives the bytes of constant operands.
pub fn in_runs<'a>(
    linear: &mut Linear,
    target: &Target,
    data: impl Fn(u32) -> Option<&'a [u8]>,
) -> Option<(u32, Vec<u8>)> {
    let neighbours = word(target)?;
    let (a, b) = factors(linear)?;
    let constant = |n: &Node| operand(linear, n).is_some_and(|o| linear.buffers[o as usize].constant);
    let (weights, rows) = if constant(a) { (a, b) } else { (b, a) };
    let bytes = |n: &Node| operand(linear, n).is_some_and(|o| linear.buffers[o as usize].dtype.size() == 1);
    let (Node::Load { operand, addr, .. }, Node::Load { addr: place, .. }) = (weights, rows) else {
        return None;
    };
    let shared = linear.axes().any(|v| walks(weights, v) && !walks(rows, v));
    if !(bytes(weights) && bytes(rows) && constant(weights) && !constant(rows) && shared) {
        return None;
    }
    let walked = |v: &u32| addr.coefficient(*v) != 0 && linear.vars[*v as usize].size.is_none();
    let along =
        |step: usize| linear.reductions().filter(walked).find(|&v| place.coefficient(v) == step as i64);
    let channel = along(1)?;
    let channels = linear.extent(channel);
    let window = along(channels)?;
    let points = linear.extent(window);
    let apart = if channels <= ALONE { points * channels } else { points * channels.div_ceil(neighbours) };
    let reads = |n: &&Node| matches!(n, Node::Load { operand: o, .. } if o == operand);
    let once = linear.nodes.iter().filter(reads).count() == 1;
    // Couples are those of a run whatever its axes are.
    let gains = (points * channels).div_ceil(neighbours) < apart && (neighbours > 2 || channels <= ALONE);
    if !(once && gains && linear.margins.is_empty()) {
        return None;
    }
    let (operand, addr) = (*operand, addr.clone());
    let (form, source) = reordered(linear, &addr, [window, channel])?;
    let elements = data(operand)?;
    let elements = source.into_iter().map(|at| elements.get(at).copied()).collect::<Option<_>>()?;
    let load =
        linear.nodes.iter_mut().find(|n| matches!(n, Node::Load { operand: o, .. } if *o == operand))?;
    if let Node::Load { addr, .. } = load {
        *addr = form;
    }
    linear.join(window, channel);
    Some((operand, elements))
}

/// The buffer of a load that nothing guards.
fn operand(linear: &Linear, node: &Node) -> Option<u32> {
    match node {
        Node::Load { operand, dynamic, guards, .. } => {
            let plain = dynamic.is_empty() && guards.is_empty();
            (plain && (*operand as usize) < linear.buffers.len()).then_some(*operand)
        }
        _ => None,
    }
}

/// The address of a dense constant with some axes innermost, and where each of its elements was; `None` where it is not
/// dense.
fn reordered(linear: &Linear, addr: &Affine, last: [u32; 2]) -> Option<(Affine, Vec<usize>)> {
    // A size known only at run time is no axis.
    if addr.terms.iter().any(|t| t.0 as usize >= linear.vars.len()) {
        return None;
    }
    let mut axes: Vec<(u32, i64)> = addr.terms.clone();
    axes.sort_by_key(|t| std::cmp::Reverse(t.1));
    let dense = axes
        .iter()
        .rev()
        .try_fold(1, |stride, &(v, by)| (by == stride).then(|| stride * linear.extent(v) as i64));
    if addr.base != 0 || dense.is_none() {
        return None;
    }
    axes.sort_by_key(|t| last.iter().position(|&v| v == t.0).map_or(0, |at| at + 1));
    let (mut form, mut stride) = (Affine::constant(0), 1);
    for &(v, _) in axes.iter().rev() {
        form.add_term(v, stride);
        stride *= linear.extent(v) as i64;
    }
    let source = axes.iter().fold(vec![0], |places: Vec<usize>, &(v, by)| {
        let from = |&first: &usize| (0..linear.extent(v)).map(move |i| first + i * by as usize);
        places.iter().flat_map(from).collect()
    });
    Some((form, source))
}
