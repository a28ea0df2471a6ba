//! Products by weights of four bits in one form: MatMulNBits.
//!
//! Quantizers write them as a MatMul by a DequantizeLinear, in blocks of rows. What they multiply is split into bytes
//! then where there is one row, which takes a little memory, and less time than floats where the target sums products of
//! bytes (`ops/nn/matmul_nbits.rs`).

use super::edit::{is, writers};
use crate::base::{DType, Tensor, TensorType};
use crate::error::Result;
use crate::graph::{Attr, Attrs, Graph, Node, ValueId};
use crate::ops::{NodeBuilder, SPLIT};

/// Rewrites the products of a graph; `split`: single rows may be split into bytes.
pub fn four_bits(graph: &mut Graph, split: bool) -> Result<bool> {
    let (mut changed, writers) = (false, writers(graph));
    for at in 0..graph.nodes.len() {
        if let Some(weights) = Weights::of(graph, &graph.nodes[at], &writers) {
            changed |= rewrite(graph, at, &weights)?;
        }
        let node = &mut graph.nodes[at];
        let narrow = node.op.domain == "com.microsoft" && node.op.name == "MatMulNBits";
        if split && narrow && node.attrs.int("bits", 4)? == 4 && !node.attrs.flag(SPLIT, false)? {
            node.attrs.set(SPLIT, Attr::Int(1));
            changed = true;
        }
    }
    Ok(changed)
}

/// Constant weights `[k, n]` of four bits, and what puts them back, in blocks of rows.
struct Weights {
    elements: Tensor,
    scales: Tensor,
    zeros: Option<Tensor>,
    block: usize,
}

impl Weights {
    /// The second factor of a MatMul, where it is a DequantizeLinear of these.
    fn of(graph: &Graph, node: &Node, writers: &[Option<usize>]) -> Option<Weights> {
        let &[Some(x), Some(factor)] = node.inputs.as_slice() else { return None };
        if !is(node, "MatMul") || graph.value(x).constant.is_some() {
            return None;
        }
        let from = &graph.nodes[writers[factor as usize]?];
        let constant =
            |i: usize| from.inputs.get(i).copied().flatten().map(|v| graph.value(v).constant.clone());
        let (elements, scales) = (constant(0)??, constant(1)??);
        let zeros = match constant(2) {
            Some(zeros) => Some(zeros?),
            None => None,
        };
        let &[k, n] = elements.ty.shape.as_slice() else { return None };
        let block = usize::try_from(from.attrs.int("block_size", 0).ok()?).ok()?;
        let axis = from.attrs.int("axis", 1).ok()?;
        let blocks = k.checked_div(block).filter(|blocks| blocks * block == k)?;
        let fits = |t: &Tensor| t.ty.shape.as_slice() == [blocks, n];
        let float = graph.value(x).ty.dtype == DType::F32 && scales.ty.dtype == DType::F32;
        let possible = is(from, "DequantizeLinear")
            && matches!(elements.ty.dtype, DType::I4 | DType::U4)
            && matches!(axis, 0 | -2)
            && (block >= 16 && block.is_power_of_two())
            && float
            && fits(&scales)
            && zeros.as_ref().is_none_or(|z| fits(z) && z.ty.dtype == elements.ty.dtype);
        possible.then_some(Weights { elements, scales, zeros, block })
    }

    /// Columns of numbers of four bits without a sign, two to a byte.
    fn packed(&self, of: &Tensor) -> Tensor {
        let (rows, n) = (of.ty.shape[0], of.ty.shape[1]);
        let unsigned = |row: usize, column: usize| match of.data.get(row * n + column) {
            Some(element) if of.ty.dtype == DType::I4 => element.wrapping_add(8) & 15,
            Some(element) => element & 15,
            None => 0,
        };
        let pair = |row: usize, column: usize| {
            let second = if row + 1 < rows { unsigned(row + 1, column) } else { 0 };
            unsigned(row, column) | second << 4
        };
        let bytes: Vec<u8> = (0..n).flat_map(|c| (0..rows).step_by(2).map(move |r| pair(r, c))).collect();
        let count = bytes.len();
        Tensor { ty: TensorType::new(DType::U8, [count]), data: bytes.into() }
    }

    /// The inputs of a MatMulNBits behind what is multiplied; without zero points those of U4 are zero.
    fn inputs(&self) -> Option<Vec<Tensor>> {
        let (k, n) = (self.elements.ty.shape[0], self.elements.ty.shape[1]);
        let blocks = k / self.block;
        let numbers = self.scales.to_vec::<f32>()?;
        let scales: Vec<f32> = (0..n * blocks).map(|i| numbers[i % blocks * n + i / blocks]).collect();
        let elements = self.packed(&self.elements).reshaped([n, blocks, self.block / 2])?;
        let mut inputs = vec![elements, Tensor::new([n * blocks], &scales)];
        let row = blocks.div_ceil(2);
        match (&self.zeros, self.elements.ty.dtype) {
            (Some(zeros), _) => inputs.push(self.packed(zeros)),
            (None, DType::U4) => inputs.push(Tensor::new([n * row], &vec![0u8; n * row])),
            (None, _) => {}
        }
        Some(inputs)
    }
}

/// Puts a MatMulNBits in a node's place.
fn rewrite(graph: &mut Graph, at: usize, weights: &Weights) -> Result<bool> {
    let (Some(inputs), node) = (weights.inputs(), graph.nodes[at].clone()) else { return Ok(false) };
    let mut b = NodeBuilder::new(graph, node.name.clone(), i64::MAX);
    let mut ids: Vec<ValueId> = node.inputs.iter().flatten().copied().take(1).collect();
    ids.extend(inputs.into_iter().map(|tensor| b.constant(tensor)));
    let mut attrs = Attrs::default();
    let (k, n) = (weights.elements.ty.shape[0], weights.elements.ty.shape[1]);
    for (name, value) in [("K", k), ("N", n), ("bits", 4), ("block_size", weights.block)] {
        attrs.set(name, Attr::Int(value as i64));
    }
    b.node_in("com.microsoft", "MatMulNBits", &ids.into_iter().map(Some).collect::<Vec<_>>(), attrs, 1)?;
    let made = std::mem::take(&mut b.nodes);
    let Some(mut made) = <[Node; 1]>::try_from(made).ok().map(|[n]| n) else { return Ok(false) };
    made.outputs = node.outputs;
    made.name = node.name;
    graph.nodes[at] = made;
    Ok(true)
}
