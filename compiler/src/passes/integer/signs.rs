//! Bytes between a QuantizeLinear or a quantized product and what takes them back, or multiplies them,
//! get the sign that the target multiplies by signed weights: none for `vpdpbusd`, one for AVX2 and
//! aarch64. I8MM takes both: unsigned bytes, to which rounded sums narrow at once where they have no zero
//! point. Of two activations that are multiplied, the second one stands for the weights.
//!
//! `q + 128` with a zero point 128 higher stands for the same real number, and saturates where `q`
//! does: nothing rounds differently, and zero points are constants that products fold. What moves bytes moves
//! the others as well. The bytes of the model's interface stay ([`super::input_signs`]), and so do weights.

use super::super::edit::{is, reads};
use super::linear::{dequantize, named, quantize};
use super::movement::moves_bytes;
use crate::base::{DType, Tensor, TensorType};
use crate::error::Result;
use crate::graph::{Graph, Node, ValueId};
use crate::target::{Arch, Feature, Target};
use std::collections::HashMap;

/// How far the bytes move, modulo 256, or the highest ones of numbers of 16 bits: up or down.
const SHIFT: u8 = 128;

/// The bytes that a target multiplies by signed ones; none where it makes no difference.
pub(super) fn preferred(target: &Target) -> Option<DType> {
    let unsigned = [Feature::AvxVnni, Feature::Avx512, Feature::Avx512Vnni, Feature::I8mm];
    match unsigned.iter().any(|f| target.has(*f)) {
        true => Some(DType::U8),
        false => (target.arch == Arch::Aarch64 || target.has(Feature::Avx2)).then_some(DType::I8),
    }
}

/// Changes the sign of activations wherever all readers take them back to floats, or multiply them by
/// signed bytes.
pub fn signs(graph: &mut Graph, target: &Target) -> Result<bool> {
    let preferred = preferred(target);
    let mut changed = false;
    let mut shifted = HashMap::new();
    for i in 0..graph.nodes.len() {
        let Some((value, zero)) = written(graph, i) else { continue };
        let wanted = match (graph.value(value).ty.dtype, preferred) {
            (DType::U16, _) => DType::I16,
            (DType::I8 | DType::U8, Some(_)) if is_second(graph, value) => DType::I8,
            (DType::I8 | DType::U8, Some(preferred)) => preferred,
            _ => continue,
        };
        if graph.value(value).ty.dtype == wanted {
            continue;
        }
        let Some((values, zeros)) = carried(graph, value) else { continue };
        for (n, zero) in [(i, zero)].into_iter().chain(zeros) {
            shift_zero(graph, n, zero, wanted, &mut shifted);
        }
        values.iter().for_each(|&v| graph.values[v as usize].ty.dtype = wanted);
        changed = true;
    }
    Ok(changed)
}

/// Bytes and what they are moved to, and where the zero points of those that read them stand: nodes and their
/// inputs. `None` where anything else reads them.
pub(super) fn carried(graph: &Graph, value: ValueId) -> Option<(Vec<ValueId>, Vec<(usize, usize)>)> {
    let (mut values, mut zeros) = (vec![value], Vec::new());
    let mut seen = 0;
    while let Some(&value) = values.get(seen) {
        seen += 1;
        if graph.outputs.contains(&value) {
            return None;
        }
        for n in (0..graph.nodes.len()).filter(|&n| reads(&graph.nodes[n]).any(|v| v == value)) {
            let node = &graph.nodes[n];
            match moves_bytes(graph, node) && node.inputs.first() == Some(&Some(value)) {
                true => values.extend(node.outputs.iter().flatten()),
                false => zeros.push((n, read(graph, n, value)?)),
            }
        }
    }
    Some((values, zeros))
}

/// Whether bytes are the second factor of a product of two activations: what multiplies unsigned bytes
/// wants them signed.
fn is_second(graph: &Graph, value: ValueId) -> bool {
    let from = |id: ValueId| {
        let writer = graph.nodes.iter().find(|n| n.outputs.contains(&Some(id)))?;
        dequantize(graph, writer).filter(|l| graph.value(l.value).constant.is_none())
    };
    graph.nodes.iter().filter(|n| is(n, "MatMul")).any(|n| match n.inputs[..] {
        [Some(a), Some(b), ..] => from(a).is_some() && from(b).is_some_and(|b| b.value == value),
        _ => false,
    })
}

/// Whether a node multiplies quantized numbers and quantizes the sums: factors and what belongs to them
/// are inputs 0 to 2 and 3 to 5, what belongs to the result follows.
fn is_product(node: &Node) -> bool {
    named(node, "QLinearConv") || named(node, "QLinearMatMul")
}

/// Whether a node averages quantized numbers, to quantized ones of any sign: what belongs to the result are inputs 3
/// and 4.
fn is_mean(node: &Node) -> bool {
    let zero = node.inputs.get(4).copied().flatten();
    zero.is_some() && (named(node, "QLinearGlobalAveragePool") || named(node, "QLinearAveragePool"))
}

/// The quantized bytes that a node writes, and which input their zero point is.
fn written(graph: &Graph, n: usize) -> Option<(ValueId, usize)> {
    let node = &graph.nodes[n];
    let result = || node.outputs.first().copied().flatten();
    let (value, zero) = match () {
        _ if is_product(node) => (result()?, 7),
        _ if is_mean(node) => (result()?, 4),
        _ => (quantize(graph, node)?.value, 2),
    };
    let typed = node.attrs.int("output_dtype", 0).is_ok_and(|t| t == 0);
    (typed && is_known(graph, node, zero)).then_some((value, zero))
}

/// Which input of a node the zero point of bytes is that it reads once, if nothing else is known of them.
fn read(graph: &Graph, n: usize, value: ValueId) -> Option<usize> {
    let node = &graph.nodes[n];
    let input = |i: usize| node.inputs.get(i).copied().flatten();
    let zero = match () {
        _ if is_mean(node) => Some(2).filter(|_| input(0) == Some(value))?,
        _ if is_product(node) => {
            let factor = [0, 3].into_iter().find(|&i| input(i) == Some(value))?;
            // Constant weights become signed when they are lowered.
            let other = graph.value(input(3 - factor)?);
            Some(factor + 2).filter(|_| other.ty.dtype == DType::I8 || other.constant.is_some())?
        }
        _ => dequantize(graph, node).filter(|l| l.value == value).map(|_| 2)?,
    };
    let once = reads(node).filter(|&v| v == value).count() == 1;
    (once && is_known(graph, node, zero)).then_some(zero)
}

/// Whether a zero point is left out or a constant.
fn is_known(graph: &Graph, node: &Node, zero: usize) -> bool {
    node.inputs.get(zero).copied().flatten().is_none_or(|z| graph.value(z).constant.is_some())
}

/// Moves a node's zero point along; equal ones stay one constant, so that kernels see that they are equal.
pub(super) fn shift_zero(
    graph: &mut Graph,
    node: usize,
    place: usize,
    to: DType,
    shifted: &mut HashMap<ValueId, ValueId>,
) {
    let inputs = &mut graph.nodes[node].inputs;
    inputs.resize(inputs.len().max(place + 1), None);
    let (scale, zero) = (inputs[place - 1], inputs[place]);
    if let Some(&known) = zero.and_then(|z| shifted.get(&z)) {
        inputs[place] = Some(known);
        return;
    }
    let shape = scale.map(|s| graph.value(s).ty.shape.clone()).unwrap_or_default();
    let mut data: Vec<u8> = match zero.and_then(|z| graph.value(z).constant.as_ref()) {
        Some(zero) => zero.data.to_vec(),
        None => vec![0; shape.iter().product::<usize>() * to.size()],
    };
    data.iter_mut().skip(to.size() - 1).step_by(to.size()).for_each(|b| *b = b.wrapping_add(SHIFT));
    let ty = TensorType::new(to, zero.map_or(shape, |z| graph.value(z).ty.shape.clone()));
    let name = format!("{}.zero.{}", graph.nodes[node].name, graph.values.len());
    let id = graph.add_constant(name, Tensor { ty, data: data.into() });
    zero.map(|z| shifted.insert(z, id));
    graph.nodes[node].inputs[place] = Some(id);
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
        let mut graph = parse(GRAPH, crate::ops::find).unwrap();
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
    fn aarch64_gets_signed_activations_but_with_i8mm_unsigned_ones() {
        let unsigned =
            GRAPH.replace("i8[1,4]", "u8[1,4]").replace("const z: i8[] = [-3]", "const z: u8[] = [125]");
        for (cpu, graph, dtype, zero) in [
            ("cortex-a53", unsigned.as_str(), "i8", -3),
            ("neoverse-n1", unsigned.as_str(), "i8", -3),
            ("neoverse-n2", GRAPH, "u8", 125),
        ] {
            let mut graph = parse(graph, crate::ops::find).unwrap();
            assert!(signs(&mut graph, &resolve("aarch64", cpu).unwrap()).unwrap());
            verify(&graph).unwrap();
            let text = graph.to_string();
            assert!(text.contains(&format!("q: {dtype}[1,4] = QuantizeLinear(x, s, \"q.zero")), "{text}");
            assert!(text.contains(&format!("{dtype}[] = [{zero}]")), "{text}");
        }
    }

    #[test]
    fn what_moves_bytes_moves_the_others() {
        let graph = "graph g {
  input x: f32[1,4]
  const s: f32[] = [0.5]
  const z: i8[] = [-3]
  const to: i64[2] = [2, 2]
  q: i8[1,4] = QuantizeLinear(x, s, z)
  r: i8[2,2] = Reshape(q, to)
  t: i8[2,2] = Transpose(r)
  d: f32[2,2] = DequantizeLinear(t, s, z)
  output d
}
";
        let unsigned = |graph: &str| {
            let mut graph = parse(graph, crate::ops::find).unwrap();
            let changed = signs(&mut graph, &resolve("x86_64", "icelake-server").unwrap()).unwrap();
            verify(&graph).unwrap();
            (changed, graph.to_string().matches(": u8[").count())
        };
        // Three tensors and the zero point.
        assert_eq!(unsigned(graph), (true, 4));
        let kept =
            [("output d", "output d, t"), ("d: f32[2,2] = DequantizeLinear(t, s, z)", "d: i8[2,2] = Abs(t)")];
        for (from, to) in kept {
            assert_eq!(unsigned(&graph.replace(from, to)), (false, 0), "{to}");
        }
    }

    #[test]
    fn means_take_and_give_them() {
        let graph = "graph g {
  input x: f32[1,2,3,3]
  const s: f32[] = [0.5]
  const z: i8[] = [-3]
  q: i8[1,2,3,3] = QuantizeLinear(x, s, z)
  m: i8[1,2,1,1] = \"com.microsoft.QLinearGlobalAveragePool\"(q, s, z, s, z)
  d: f32[1,2,1,1] = DequantizeLinear(m, s, z)
  output d
}
";
        let mut graph = parse(graph, crate::ops::find).unwrap();
        assert!(signs(&mut graph, &resolve("x86_64", "icelake-server").unwrap()).unwrap());
        verify(&graph).unwrap();
        let text = graph.to_string();
        assert!(text.contains("q: u8[1,2,3,3]") && text.contains("m: u8[1,2,1,1]"), "{text}");
    }

    #[test]
    fn products_of_quantized_numbers_take_and_give_them() {
        let graph = "graph g {
  input x: f32[1,4]
  input u: u8[4,4]
  const s: f32[] = [0.5]
  const z: u8[] = [125]
  const w: u8[4,4] = random 1
  const n: u8[] = [128]
  q: u8[1,4] = QuantizeLinear(x, s, z)
  a: u8[1,4] = QLinearMatMul(q, s, z, w, s, n, s, z)
  b: u8[1,4] = QLinearMatMul(a, s, z, w, s, n, s, z)
  c: u8[1,4] = QLinearMatMul(b, s, z, u, s, z, s, z)
  output c
}
";
        let mut graph = parse(graph, crate::ops::find).unwrap();
        assert!(signs(&mut graph, &resolve("aarch64", "cortex-a53").unwrap()).unwrap());
        verify(&graph).unwrap();
        let text = graph.to_string();
        for signed in ["q: i8[1,4] = Quant", "a: i8[1,4] = QLinear", "b: u8[1,4] = QLinear", "c: u8[1,4]"] {
            assert!(text.contains(signed), "{text}");
        }
        // One constant, and its four readers.
        assert_eq!((text.matches("i8[] = [-3]").count(), text.matches("q.zero").count()), (1, 5), "{text}");
    }
}
