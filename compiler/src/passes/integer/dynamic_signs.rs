//! Bytes whose range is taken when the model runs are signed where the target multiplies those by weights
//! (see [`super::signs`]).
//!
//! `q - 128` with a zero point 128 lower stands for the same real number; both are outputs of one node.

use super::super::edit::{is, reads};
use super::linear::named;
use super::signs::preferred;
use crate::base::DType;
use crate::error::{Error, Result};
use crate::graph::{Graph, Node, ValueId};
use crate::ops::find;
use crate::target::Target;

/// Makes the bytes of DynamicQuantizeLinear signed wherever all that reads them multiplies them by weights.
pub fn dynamic_signs(graph: &mut Graph, target: &Target) -> Result<bool> {
    if preferred(target) != Some(DType::I8) {
        return Ok(false);
    }
    let signed = find("lmc", "SignedDynamicQuantizeLinear");
    let signed = signed.ok_or_else(|| Error::bug("no row for dynamic quantization to signed bytes"))?;
    let recurrence = find("lmc", "SignedRoundedLSTM");
    let recurrence = recurrence.ok_or_else(|| Error::bug("no row for recurrences of signed bytes"))?;
    let mut changed = false;
    for i in 0..graph.nodes.len() {
        let node = &graph.nodes[i];
        let constant = |i: usize| {
            node.inputs.get(i).copied().flatten().is_some_and(|v| graph.value(v).constant.is_some())
        };
        if node.op.name == "RoundedLSTM" && constant(2) {
            graph.nodes[i].op = recurrence;
            changed = true;
            continue;
        }
        let &[Some(elems), _, Some(zero)] = &node.outputs[..] else { continue };
        if !is(node, "DynamicQuantizeLinear") || !only_multiplied(graph, elems, zero) {
            continue;
        }
        graph.nodes[i].op = signed;
        [elems, zero].into_iter().for_each(|v| graph.values[v as usize].ty.dtype = DType::I8);
        changed = true;
    }
    Ok(changed)
}

/// Whether all that reads bytes and their zero point multiplies the bytes by weights.
fn only_multiplied(graph: &Graph, elems: ValueId, zero: ValueId) -> bool {
    let theirs = |v: ValueId| v == elems || v == zero;
    let mut readers = graph.nodes.iter().filter(|n| reads(n).any(theirs));
    !graph.outputs.iter().any(|&v| theirs(v)) && readers.all(|n| multiplies(graph, n, elems, zero))
}

/// Whether a node reads bytes as the first factor of a product with weights, and their zero point as that.
fn multiplies(graph: &Graph, node: &Node, elems: ValueId, zero: ValueId) -> bool {
    let place = match () {
        _ if is(node, "MatMulInteger") || is(node, "ConvInteger") => 2,
        _ if named(node, "MatMulIntegerToFloat") => 4,
        _ => return false,
    };
    let input = |i: usize| node.inputs.get(i).copied().flatten();
    let weights = input(1).map(|w| graph.value(w));
    // Constant weights become signed when they are lowered.
    let signed = weights.is_some_and(|w| w.ty.dtype == DType::I8 || w.constant.is_some());
    let both = reads(node).filter(|&v| v == elems || v == zero).count() == 2;
    signed && both && input(0) == Some(elems) && input(place) == Some(zero)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{parse, verify};
    use crate::target::resolve;

    const GRAPH: &str = "graph g {
  input x: f32[3,4]
  const w: i8[4,2] = random 1
  q: u8[3,4], s: f32[], z: u8[] = DynamicQuantizeLinear(x)
  y: i32[3,2] = MatMulInteger(q, w, z)
  c: f32[3,2] = Cast(y) { to = 1 }
  r: f32[3,2] = Mul(c, s)
  output r
}
";

    fn changed((arch, cpu): (&str, &str), graph: &str) -> (bool, String) {
        let mut graph = parse(graph, crate::ops::find).unwrap();
        let changed = dynamic_signs(&mut graph, &resolve(arch, cpu).unwrap()).unwrap();
        verify(&graph).unwrap();
        (changed, graph.to_string())
    }

    #[test]
    fn bytes_that_are_multiplied_by_weights_become_signed() {
        for cpu in [("aarch64", "cortex-a53"), ("aarch64", "neoverse-n1"), ("x86_64", "x86-64-v3")] {
            let (is_changed, text) = changed(cpu, GRAPH);
            assert!(is_changed && text.contains("q: i8[3,4], s: f32[], z: i8[] = \"lmc.Signed"), "{text}");
        }
        assert!(!changed(("x86_64", "x86-64-v4"), GRAPH).0);
    }

    #[test]
    fn bytes_that_something_else_reads_stay() {
        let elems = GRAPH.replace("output r", "output r, q");
        let zero = GRAPH.replace("output r", "output r, z");
        let none = GRAPH.replace("MatMulInteger(q, w, z)", "MatMulInteger(q, w)");
        let second = GRAPH
            .replace("MatMulInteger(q, w, z)", "MatMulInteger(a, q, u, z)")
            .replace("const w: i8[4,2] = random 1", "const a: u8[2,3] = random 1\n  const u: u8[] = [3]")
            .replace("[3,2]", "[2,4]");
        for graph in [elems, zero, none, second] {
            assert!(!changed(("aarch64", "cortex-a53"), &graph).0, "{graph}");
        }
    }
}
