//! Arithmetic in a cheaper form: powers as products and roots, divisions as products with the reciprocal, where that
//! is equal or what reads the quotient rounds as much itself, and `x * Tanh(Softplus(x))` as Mish, which is one
//! exponential.
//!
//! `Pow(x, 2)` of a decomposed normalization would be a logarithm and an exponential per element;
//! `Erf(x / sqrt(2))` and `Softmax(scores / sqrt(d))` are how exporters write GELU and attention.

use super::edit::{is, reads, writers};
use crate::base::{DType, Tensor};
use crate::error::Result;
use crate::graph::{Attrs, Graph, Node, ValueId};
use crate::ops::NodeBuilder;

/// The one number that a constant f32 tensor holds, at a rank that does not change the result's.
fn number(graph: &Graph, node: &Node, i: usize) -> Option<f32> {
    let x = graph.value((*node.inputs.first()?)?);
    let value = graph.value((*node.inputs.get(i)?)?);
    let fits = x.ty.dtype == DType::F32 && value.ty.rank() <= x.ty.rank();
    let elements = value.constant.as_ref().filter(|_| fits && value.ty.elems() == 1)?.to_vec::<f32>()?;
    elements.first().copied()
}

/// What a node multiplies by the hyperbolic tangent of its softplus.
fn mish(graph: &Graph, node: &Node, writers: &[Option<usize>]) -> Option<ValueId> {
    let from = |value: ValueId, op: &str| {
        let writer = &graph.nodes[writers[value as usize]?];
        is(writer, op).then(|| writer.inputs.first().copied().flatten())?
    };
    let [Some(a), Some(b)] = node.inputs[..] else { return None };
    let other = |x: ValueId, y: ValueId| from(from(y, "Tanh")?, "Softplus").filter(|&z| z == x);
    if is(node, "Mul") { other(a, b).or_else(|| other(b, a)) } else { None }
}

/// The cheaper form of a node: its operator, operand and number.
fn rewrite(graph: &Graph, node: &Node, writers: &[Option<usize>]) -> Option<(&'static str, ValueId, f32)> {
    if let Some(x) = mish(graph, node, writers) {
        return Some(("Mish", x, 1.0));
    }
    let (x, by) = (node.inputs.first().copied().flatten()?, number(graph, node, 1)?);
    if is(node, "Pow") {
        return match by {
            2.0 => Some(("Mul", x, by)),
            0.5 => Some(("Sqrt", x, by)),
            -1.0 => Some(("Reciprocal", x, by)),
            _ => None,
        };
    }
    let quotient = node.outputs.first().copied().flatten()?;
    let exact = || by.to_bits() & 0x007f_ffff == 0 || smooth_alone(graph, quotient);
    let normal = by.is_normal() && (1.0 / by).is_normal();
    (is(node, "Div") && normal && exact()).then_some(("Times", x, 1.0 / by))
}

/// Functions whose own rounding is more than what a product with a reciprocal adds to their argument.
const SMOOTH: &[&str] = &["Erf", "Tanh", "Sigmoid", "Softmax", "LogSoftmax"];

/// Whether only smooth functions read a value.
fn smooth_alone(graph: &Graph, value: ValueId) -> bool {
    let smooth = |n: &Node| SMOOTH.iter().any(|s| is(n, s));
    let all = graph.nodes.iter().filter(|n| reads(n).any(|v| v == value)).all(smooth);
    all && !graph.outputs.contains(&value)
}

/// Replaces nodes one by one.
pub fn cheaper(graph: &mut Graph) -> Result<bool> {
    let (mut changed, writers) = (false, writers(graph));
    for i in 0..graph.nodes.len() {
        let node = &graph.nodes[i];
        let (Some((form, x, by)), [Some(to)]) = (rewrite(graph, node, &writers), node.outputs.as_slice())
        else {
            continue;
        };
        let (to, name) = (*to, node.name.clone());
        let mark = graph.values.len();
        let mut builder = NodeBuilder::new(graph, name.clone(), i64::MAX);
        let built = build(&mut builder, form, x, by)?;
        let nodes = std::mem::take(&mut builder.nodes);
        let fits = graph.value(built).ty == graph.value(to).ty;
        let Some(mut made) = <[Node; 1]>::try_from(nodes).ok().map(|[n]| n).filter(|_| fits) else {
            graph.values.truncate(mark);
            continue;
        };
        made.outputs = vec![Some(to)];
        made.name = name;
        graph.nodes[i] = made;
        changed = true;
    }
    Ok(changed)
}

fn build(b: &mut NodeBuilder, form: &str, x: ValueId, by: f32) -> Result<ValueId> {
    match form {
        "Mul" => b.binary("Mul", x, x),
        "Times" => {
            let factor = b.constant(Tensor::scalar(by));
            b.binary("Mul", x, factor)
        }
        op => b.one(op, &[x], Attrs::default()),
    }
}
