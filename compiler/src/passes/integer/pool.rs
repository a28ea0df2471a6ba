//! Means of quantized tensors: the integers are summed exactly, then scaled and requantized.

use super::super::edit::{is, put, remove};
use super::linear::{Linear, only_quantize, source};
use crate::error::Result;
use crate::graph::{Attrs, Graph, Node, ValueId};

/// Differences of two numbers of 16 bits whose sum always fits 32.
const MOST: usize = 1 << 15;

/// The operator of com.microsoft that averages as a node does, with its attributes.
fn averaging(graph: &Graph, node: &Node) -> Option<(&'static str, Attrs)> {
    let plain = |name: &str| match node.attrs.get_ints(name) {
        Ok(list) => list.is_none_or(|l| l.iter().all(|&d| d == 1)),
        Err(_) => false,
    };
    if is(node, "AveragePool") && plain("dilations") {
        return Some(("QLinearAveragePool", node.attrs.clone()));
    }
    if is(node, "GlobalAveragePool") {
        return Some(("QLinearGlobalAveragePool", Attrs::default()));
    }
    let rank = graph.value(node.inputs.first().copied().flatten()?).ty.rank();
    if !is(node, "ReduceMean") || rank < 3 || !node.attrs.flag("keepdims", true).ok()? {
        return None;
    }
    let axes = match node.inputs.get(1).copied().flatten() {
        Some(id) => graph.value(id).constant.as_ref()?.to_i64s()?,
        None => node.attrs.get_ints("axes").ok()??.to_vec(),
    };
    let mut axes: Vec<i64> = axes.iter().map(|&a| if a < 0 { a + rank as i64 } else { a }).collect();
    axes.sort_unstable();
    axes.iter().copied().eq(2..rank as i64).then(|| ("QLinearGlobalAveragePool", Attrs::default()))
}

/// Rewrites averages between dequantization and quantization.
pub fn pools(graph: &mut Graph) -> Result<bool> {
    let (mut changed, mut i) = (false, 0);
    while i < graph.nodes.len() {
        match pool(graph, i)? {
            true => changed = true,
            false => i += 1,
        }
    }
    Ok(changed)
}

fn pool(graph: &mut Graph, at: usize) -> Result<bool> {
    let node = graph.nodes[at].clone();
    let Some((name, attrs)) = averaging(graph, &node) else { return Ok(false) };
    let (Some(Some(x)), Some(Some(out))) = (node.inputs.first(), node.outputs.first()) else {
        return Ok(false);
    };
    let (Some(from), Some((quantize, to))) = (source(graph, *x), only_quantize(graph, *out)) else {
        return Ok(false);
    };
    let points = graph.value(*x).ty.shape.iter().skip(2).product::<usize>();
    let fits = |linear: &Linear| match linear.dtype(graph).size() {
        1 => true,
        2 => points <= MOST,
        _ => false,
    };
    if from.axis.is_some() || to.axis.is_some() || !fits(&from) || !fits(&to) {
        return Ok(false);
    }
    let made = put(graph, quantize, |b| {
        let (from_zero, to_zero) = (from.zero_point(b), to.zero_point(b));
        let inputs: Vec<Option<ValueId>> =
            [from.value, from.scale, from_zero, to.scale, to_zero].map(Some).to_vec();
        Ok(b.node_in("com.microsoft", name, &inputs, attrs, 1)?[0])
    });
    if made.is_ok() {
        let dead: Vec<bool> = (0..graph.nodes.len()).map(|i| i == at).collect();
        remove(graph, &dead);
    }
    Ok(made.is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{parse, verify};

    #[test]
    fn a_mean_of_unsigned_bytes_may_be_a_signed_one() {
        let graph = "graph g {
  input q: u8[1,4,3,3]
  const s: f32[] = [0.5]
  const z: u8[] = [125]
  const n: i8[] = [-3]
  d: f32[1,4,3,3] = DequantizeLinear(q, s, z)
  m: f32[1,4,1,1] = GlobalAveragePool(d)
  y: i8[1,4,1,1] = QuantizeLinear(m, s, n)
  output y
}
";
        let mut graph = parse(graph, crate::ops::find).unwrap();
        assert!(pools(&mut graph).unwrap());
        verify(&graph).unwrap();
        let text = graph.to_string();
        assert!(text.contains("QLinearGlobalAveragePool\"(q, s, z, s, n)"), "{text}");
    }
}
