//! Bytes of the model's interface get the sign that the target multiplies (see [`super::signs`]), where windows with
//! padding read them.
//!
//! Windows over bytes read a copy with a rim of zero points, so that the change of sign is another operation of the
//! copy, and none beside each product:
//! ```text
//! QLinearConv(x, zero 3) { pads }   ->   QLinearConv(x + 128, zero 131) { pads }
//! ```

use super::super::edit::{is, reads, replace};
use super::linear::named;
use super::signs::{carried, preferred, shift_zero};
use crate::base::{DType, Tensor};
use crate::error::Result;
use crate::graph::{Attrs, Graph, Node, ValueId};
use crate::ops::NodeBuilder;
use crate::target::{Arch, Feature, Target};
use std::collections::HashMap;

/// Changes the sign of inputs wherever all readers take them back to floats, or multiply them by signed bytes.
pub fn input_signs(graph: &mut Graph, target: &Target) -> Result<bool> {
    let Some(wanted) = preferred(target).filter(|_| costs(target)) else { return Ok(false) };
    let mut changed = false;
    for input in graph.inputs.clone() {
        let dtype = graph.value(input).ty.dtype;
        if !matches!(dtype, DType::I8 | DType::U8) || dtype == wanted {
            continue;
        }
        let Some((values, zeros)) = carried(graph, input) else { continue };
        if !zeros.iter().any(|&(n, _)| pads(graph, n)) {
            continue;
        }
        let mut shifted = HashMap::new();
        zeros.into_iter().for_each(|(n, zero)| shift_zero(graph, n, zero, wanted, &mut shifted));
        values[1..].iter().for_each(|&v| graph.values[v as usize].ty.dtype = wanted);
        turn(graph, input, wanted)?;
        changed = true;
    }
    Ok(changed)
}

/// Whether a target multiplies bytes of one sign only, so that others take an operation each.
fn costs(target: &Target) -> bool {
    match target.arch {
        Arch::X86_64 => target.has_vnni(),
        Arch::Aarch64 => !target.has(Feature::I8mm),
    }
}

/// Whether a node reads bytes in windows with padding, or gives the floats that such a node reads.
fn pads(graph: &Graph, n: usize) -> bool {
    let padded = |node: &Node| {
        let pads = node.attrs.get_ints("pads").ok().flatten().is_some_and(|pads| pads.iter().any(|&p| p > 0));
        let auto = node.attrs.str("auto_pad", "NOTSET").is_ok_and(|auto| auto.starts_with("SAME"));
        (is(node, "Conv") || named(node, "QLinearConv")) && (pads || auto)
    };
    let node = &graph.nodes[n];
    let reader = |r: &&Node| node.outputs.iter().flatten().any(|o| reads(r).any(|v| v == *o));
    padded(node) || graph.nodes.iter().filter(reader).any(padded)
}

/// Makes all that reads bytes read those of the other sign: a sum that stays in their range.
fn turn(graph: &mut Graph, bytes: ValueId, wanted: DType) -> Result<()> {
    let name = format!("{}.turned", graph.value(bytes).name);
    let mut b = NodeBuilder::new(graph, name, i64::MAX);
    let (shift, least) = if wanted == DType::U8 { (128, 0) } else { (-128, -128) };
    let [shift, least, most] = [shift, least, least + 255].map(|n: i32| b.constant(Tensor::new([], &[n])));
    let wide = b.cast(bytes, DType::I32)?;
    let moved = b.binary("Add", wide, shift)?;
    let within = b.one("Clip", &[moved, least, most], Attrs::default())?;
    let turned = b.cast(within, wanted)?;
    let nodes = std::mem::take(&mut b.nodes);
    replace(graph, bytes, turned);
    graph.nodes.splice(0..0, nodes);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{parse, verify};
    use crate::target::resolve;

    const GRAPH: &str = "graph g {
  input x: i8[1,20]
  const to: i64[4] = [1, 1, 4, 5]
  const s: f32[] = [0.5]
  const z: i8[] = [-3]
  const w: i8[2,1,3,3] = random 1
  r: i8[1,1,4,5] = Reshape(x, to)
  d: f32[1,1,4,5] = DequantizeLinear(r, s, z)
  v: f32[2,1,3,3] = DequantizeLinear(w, s)
  y: f32[1,2,4,5] = Conv(d, v) { pads = [1, 1, 1, 1] }
  output y
}
";

    fn changed((arch, cpu): (&str, &str), graph: &str) -> (bool, String) {
        let mut graph = parse(graph, crate::ops::find).unwrap();
        let changed = input_signs(&mut graph, &resolve(arch, cpu).unwrap()).unwrap();
        verify(&graph).unwrap();
        (changed, graph.to_string())
    }

    #[test]
    fn padded_windows_read_inputs_of_the_sign_that_the_target_multiplies() {
        let (is_changed, text) = changed(("x86_64", "icelake-server"), GRAPH);
        assert!(is_changed);
        for line in ["i32[1,20] = Add(", "r: u8[1,1,4,5] = Reshape(\"x.turned/Cast", "u8[] = [125]"] {
            assert!(text.contains(line), "{line}: {text}");
        }
        let unsigned = GRAPH
            .replace("x: i8", "x: u8")
            .replace("r: i8", "r: u8")
            .replace("z: i8[] = [-3]", "z: u8[] = [125]");
        for cpu in ["cortex-a53", "neoverse-n1"] {
            let (is_changed, text) = changed(("aarch64", cpu), &unsigned);
            assert!(is_changed && text.contains("i8[] = [-3]"), "{text}");
        }
        let others = [("aarch64", "neoverse-n2"), ("x86_64", "x86-64-v3"), ("x86_64", "x86-64-v4")];
        for target in others {
            assert!(!changed(target, GRAPH).0 && !changed(target, &unsigned).0);
        }
    }

    #[test]
    fn other_inputs_stay() {
        let vnni = ("x86_64", "icelake-server");
        let unpadded =
            GRAPH.replace(" { pads = [1, 1, 1, 1] }", "").replace("y: f32[1,2,4,5]", "y: f32[1,2,2,3]");
        let read = GRAPH.replace("output y", "e: i8[1,20] = Abs(x)\n  output y, e");
        let given = GRAPH.replace("output y", "output y, r");
        for graph in [unpadded, read, given] {
            assert!(!changed(vnni, &graph).0, "{graph}");
        }
    }
}
