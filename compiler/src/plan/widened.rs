//! Weights that are bytes and that a loop dequantizes in each of its steps lie in memory as the floats that they become.
//!
//! A recurrence multiplies one row, so that nothing shares what is converted: a load, an extension and a conversion stand
//! beside each multiply-add, step by step. Small weights are read from the nearest caches as floats in no more time.

use crate::base::DType;
use crate::scalar::{Op, Scalar};
use crate::schedule::linear::{Linear, Node};

/// Steps from which on it pays.
const STEPS: u64 = 8;
/// Bytes of the floats at most: beyond, they would be read from farther away, and be much more flash.
const MOST: usize = 1 << 16;

/// Makes the bytes of small constant factors floats, where a definition runs so many times: operands and their elements.
/// `data` gives the bytes of constant operands.
pub(super) fn widened<'a>(
    linear: &mut Linear,
    times: u64,
    data: impl Fn(u32) -> Option<&'a [u8]>,
) -> Vec<(u32, Vec<u8>)> {
    let cast = if times < STEPS { None } else { converted(linear) };
    let Some((cast, load, operand)) = cast else { return Vec::new() };
    let Some(bytes) = data(operand) else { return Vec::new() };
    let signed = linear.buffers[operand as usize].dtype == DType::I8;
    let float = |&b: &u8| if signed { f32::from(b as i8) } else { f32::from(b) };
    let floats = bytes.iter().map(float).flat_map(f32::to_le_bytes).collect();
    linear.nodes.swap(cast, load);
    linear.nodes[load] = Node::Const(Scalar::from_f64(DType::F32, 0.0));
    linear.types[load] = DType::F32;
    let buffer = &mut linear.buffers[operand as usize];
    (buffer.dtype, buffer.symmetric) = (DType::F32, false);
    vec![(operand, floats)]
}

/// A factor of a sum of products that is a constant of bytes, converted to floats: the conversion, the load and the
/// operand.
fn converted(linear: &Linear) -> Option<(usize, usize, u32)> {
    let Node::Op(Op::Mul, args) = &linear.nodes[linear.fold?.2 as usize] else { return None };
    args.iter().find_map(|&cast| {
        let Node::Cast { to: DType::F32, arg, .. } = linear.nodes[cast as usize] else { return None };
        let Node::Load { operand, .. } = linear.nodes[arg as usize] else { return None };
        let buffer = &linear.buffers[operand as usize];
        let bytes = matches!(buffer.dtype, DType::I8 | DType::U8) && buffer.constant;
        let reads = |n: &&Node| match n {
            Node::Load { operand: o, .. } | Node::Lookup { operand: o, .. } => *o == operand,
            _ => false,
        };
        let once = linear.nodes.iter().filter(reads).count() == 1;
        let alone = linear.nodes.iter().flat_map(Node::args).filter(|&a| a == arg).count() == 1;
        let small = buffer.elems * size_of::<f32>() <= MOST;
        (bytes && once && alone && small).then_some((cast as usize, arg as usize, operand))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::TensorType;
    use crate::definition::DefBuilder;
    use crate::scalar::Fold;
    use crate::schedule::linear::Layout;

    /// `y[o] = sum(k) x[k] * w[o, k]`, with weights that are bytes.
    fn product(units: usize) -> Linear {
        let (x, w) = (TensorType::new(DType::F32, [units]), TensorType::new(DType::I8, [units, units]));
        let y = TensorType::new(DType::F32, [units]);
        let mut b = DefBuilder::new(&y.shape);
        let (o, k) = (b.var(0), b.reduce("k", units));
        let (row, weight) = (b.load(0, &x, vec![k.clone()]), b.load(1, &w, vec![o, k]));
        let weight = b.cast(DType::F32, weight);
        let product = b.op(Op::Mul, &[row, weight]);
        let sum = b.fold(Fold::Sum, product);
        let def = b.finish("product", 2, &y, sum);
        let layouts: Vec<Layout> = def.operands.iter().map(|o| Layout::dense(&o.ty.shape)).collect();
        Linear::new(&def, &layouts, &[false, true], &Layout::dense(&y.shape))
    }

    #[test]
    fn small_weights_that_loops_read_are_floats() {
        for (units, times, widens) in [(32, STEPS, true), (32, STEPS - 1, false), (129, STEPS, false)] {
            let mut linear = product(units);
            let before = linear.clone();
            let bytes: Vec<u8> = (0..units * units).map(|i| i as u8).collect();
            let made = widened(&mut linear, times, |operand| (operand == 1).then_some(&bytes[..]));
            if !widens {
                assert_eq!((made.len(), &linear), (0, &before));
                continue;
            }
            let floats: Vec<u8> = bytes.iter().flat_map(|&b| f32::from(b as i8).to_le_bytes()).collect();
            assert_eq!(made, [(1, floats)]);
            assert_eq!(linear.buffers[1].dtype, DType::F32);
            assert!(!linear.nodes.iter().any(|n| matches!(n, Node::Cast { .. })));
        }
    }
}
