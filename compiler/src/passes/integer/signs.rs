//! Bytes between a QuantizeLinear and its DequantizeLinears get the sign that the target multiplies
//! by signed weights: none for `vpdpbusd`, one for AVX2 and aarch64.
//!
//! `q + 128` with a zero point 128 higher stands for the same real number, and saturates where `q`
//! does: nothing rounds differently, and zero points are constants that products fold. The bytes of
//! the model's interface stay, and so do weights.

use super::super::edit::reads;
use super::linear::{dequantize, quantize};
use crate::base::{DType, Tensor, TensorType};
use crate::error::Result;
use crate::graph::{Graph, ValueId};
use crate::target::{Arch, Feature, Target};

/// How far the bytes move, modulo 256: up or down.
const SHIFT: u8 = 128;

/// The bytes that a target multiplies by signed ones; none where it makes no difference.
fn preferred(target: &Target) -> Option<DType> {
    let dots = [Feature::AvxVnni, Feature::Avx512, Feature::Avx512Vnni].iter().any(|f| target.has(*f));
    match dots {
        true => Some(DType::U8),
        false => (target.arch == Arch::Aarch64 || target.has(Feature::Avx2)).then_some(DType::I8),
    }
}

/// Changes the sign of activations wherever all readers take them back to floats.
pub fn signs(graph: &mut Graph, target: &Target) -> Result<bool> {
    let Some(wanted) = preferred(target) else { return Ok(false) };
    let other = if wanted == DType::U8 { DType::I8 } else { DType::U8 };
    let mut changed = false;
    for i in 0..graph.nodes.len() {
        let Some(to) = quantize(graph, &graph.nodes[i]).filter(|l| l.dtype(graph) == other) else {
            continue;
        };
        let known = |list: &[Option<ValueId>]| {
            list.get(2).copied().flatten().is_none_or(|z| graph.value(z).constant.is_some())
        };
        let readers: Vec<usize> =
            (0..graph.nodes.len()).filter(|&n| reads(&graph.nodes[n]).any(|v| v == to.value)).collect();
        let takes_back = |&n: &usize| {
            let node = &graph.nodes[n];
            let once = reads(node).filter(|&v| v == to.value).count() == 1;
            once && dequantize(graph, node).is_some_and(|l| l.value == to.value) && known(&node.inputs)
        };
        let typed = graph.nodes[i].attrs.int("output_dtype", 0).is_ok_and(|t| t == 0);
        let free = !graph.outputs.contains(&to.value) && readers.iter().all(takes_back);
        if !free || !typed || !known(&graph.nodes[i].inputs) {
            continue;
        }
        for n in readers.into_iter().chain([i]) {
            shift_zero(graph, n, wanted);
        }
        graph.values[to.value as usize].ty.dtype = wanted;
        changed = true;
    }
    Ok(changed)
}

/// Moves a node's zero point along.
fn shift_zero(graph: &mut Graph, node: usize, to: DType) {
    let inputs = &mut graph.nodes[node].inputs;
    inputs.resize(inputs.len().max(3), None);
    let (scale, zero) = (inputs[1], inputs[2]);
    let shape = scale.map(|s| graph.value(s).ty.shape.clone()).unwrap_or_default();
    let shifted: Vec<u8> = match zero.and_then(|z| graph.value(z).constant.as_ref()) {
        Some(zero) => zero.data.iter().map(|z| z.wrapping_add(SHIFT)).collect(),
        None => vec![SHIFT; shape.iter().product()],
    };
    let ty = TensorType::new(to, zero.map_or(shape, |z| graph.value(z).ty.shape.clone()));
    let name = format!("{}.zero.{}", graph.nodes[node].name, graph.values.len());
    let id = graph.add_constant(name, Tensor { ty, data: shifted.into() });
    graph.nodes[node].inputs[2] = Some(id);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{parse, verify};
    use crate::target::resolve;

    /// One activation, one that is an output of the graph, weights.
    const GRAPH: &str = "graph g {
  input x: f32[1,4]
  const s: f32[] = [0.5]
  const z: i8[] = [-3]
  const w: i8[4,2] = random 1
  q: i8[1,4] = QuantizeLinear(x, s, z)
  d: f32[1,4] = DequantizeLinear(q, s, z)
  k: i8[1,4] = QuantizeLinear(x, s, z)
  e: f32[1,4] = DequantizeLinear(k, s, z)
  v: f32[4,2] = DequantizeLinear(w, s)
  y: f32[1,2] = MatMul(d, v)
  output k, e, y
}
";

    fn changed(cpu: &str) -> (bool, String) {
        let mut graph = parse(GRAPH).unwrap();
        let changed = signs(&mut graph, &resolve("x86_64", cpu).unwrap()).unwrap();
        verify(&graph).unwrap();
        (changed, graph.to_string())
    }

    #[test]
    fn vnni_gets_unsigned_activations_and_nothing_else_does() {
        let (is_changed, text) = changed("icelake-server");
        assert!(is_changed);
        assert!(text.contains("q: u8[1,4] = QuantizeLinear(x, s, \"q.zero"), "{text}");
        assert!(text.contains("u8[] = [125]"), "{text}");
        assert!(text.contains("k: i8[1,4] = QuantizeLinear(x, s, z)"), "{text}");
        assert!(text.contains("v: f32[4,2] = DequantizeLinear(w, s)"), "{text}");
        assert!(!changed("x86-64-v3").0 && !changed("x86-64-v2").0);
    }

    #[test]
    fn aarch64_gets_signed_activations() {
        let graph =
            GRAPH.replace("i8[1,4]", "u8[1,4]").replace("const z: i8[] = [-3]", "const z: u8[] = [125]");
        for cpu in ["cortex-a53", "neoverse-n1", "neoverse-n2"] {
            let mut graph = parse(&graph).unwrap();
            assert!(signs(&mut graph, &resolve("aarch64", cpu).unwrap()).unwrap());
            verify(&graph).unwrap();
            let text = graph.to_string();
            assert!(
                text.contains("q: i8[1,4] = QuantizeLinear(x, s, \"q.zero") && text.contains("i8[] = [-3]"),
                "{text}"
            );
        }
    }
}
