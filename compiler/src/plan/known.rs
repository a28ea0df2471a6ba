//! What constants tell of the definitions that read them.

use crate::base::{DType, Tensor};
use crate::scalar::Scalar;
use crate::schedule::linear::{Linear, Magnitude, Node};

/// Elements up to which a constant is looked at.
const MOST_MEASURED: usize = 1 << 16;

/// Writes down what a definition's constant operands tell of it.
pub(super) fn know<'a>(linear: &mut Linear, constant: impl Fn(u32) -> Option<&'a Tensor>) {
    for (operand, buffer) in linear.buffers.iter_mut().enumerate() {
        let known = constant(operand as u32);
        let bytes = known.filter(|_| buffer.dtype == DType::I8);
        buffer.symmetric = bytes.is_some_and(|t| t.data.iter().all(|&b| b != i8::MIN as u8));
        buffer.magnitude = known.and_then(magnitude);
    }
    zero_points(linear, &constant);
    indices(linear, &constant);
}

/// The zero point of what is never negative becomes a number: most have it, and can share their kernels.
fn zero_points<'a>(linear: &mut Linear, constant: &dyn Fn(u32) -> Option<&'a Tensor>) {
    for (node, &dtype) in linear.nodes.iter_mut().zip(&linear.types) {
        let Node::Load { operand, addr, .. } = node else { continue };
        let one = constant(*operand).filter(|t| t.ty.elems() == 1 && addr.is_constant());
        let element = one.filter(|_| dtype.is_int() && dtype.bits() == 8).and_then(|t| t.data.first());
        let lowest = Scalar::lowest(dtype);
        if element.is_some_and(|&bits| u64::from(bits) == lowest.bits) {
            *node = Node::Const(lowest);
        }
    }
}

/// Indices out of tables, all of which lie inside, need not be checked.
fn indices<'a>(linear: &mut Linear, constant: &dyn Fn(u32) -> Option<&'a Tensor>) {
    let most: Vec<Option<u64>> = (linear.nodes.iter())
        .map(|node| match node {
            Node::Load { operand, .. } => constant(*operand).and_then(largest),
            _ => None,
        })
        .collect();
    for node in &mut linear.nodes {
        let Node::Load { dynamic, .. } = node else { continue };
        for index in dynamic.iter_mut().filter(|d| d.size.is_none()) {
            index.inside = most[index.value as usize].is_some_and(|most| most < index.extent as u64);
        }
    }
}

/// The largest of a table's indices, of which none is negative.
fn largest(table: &Tensor) -> Option<u64> {
    let indices = table.ty.dtype == DType::I64 && table.ty.elems() <= MOST_MEASURED;
    let unsigned = |v: i64| u64::try_from(v).ok();
    let numbers: Option<Vec<u64>> = table.to_i64s().filter(|_| indices)?.into_iter().map(unsigned).collect();
    numbers?.into_iter().max()
}

/// How large the elements of a constant are, of floats and of integers that are not narrow; of weights
/// it is not asked.
fn magnitude(constant: &Tensor) -> Option<Magnitude> {
    let numbers: Vec<f64> = match constant.ty.dtype {
        _ if constant.ty.elems() > MOST_MEASURED => return None,
        DType::F32 => constant.to_vec::<f32>()?.into_iter().map(f64::from).collect(),
        DType::I32 => constant.to_i64s()?.into_iter().map(|v| v as f64).collect(),
        _ => return None,
    };
    measured(&numbers)
}

/// Says how large the new elements of an operand are.
pub(super) fn measure(linear: &mut Linear, operand: u32, bytes: &[u8]) {
    let numbers = bytes.as_chunks().0.iter().map(|&b| f64::from(f32::from_le_bytes(b)));
    linear.buffers[operand as usize].magnitude = measured(&numbers.collect::<Vec<f64>>());
}

fn measured(numbers: &[f64]) -> Option<Magnitude> {
    let least = numbers.iter().fold(f64::INFINITY, |least, v| least.min(v.abs()));
    let most = numbers.iter().fold(0f64, |most, v| most.max(v.abs()));
    let power = |v: f64| v.log2().floor() as i32;
    numbers
        .iter()
        .all(|v| v.is_finite())
        .then(|| Magnitude { least: power(least), below: power(most).saturating_add(1) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::TensorType;
    use crate::definition::{DefBuilder, Index};
    use crate::schedule::linear::Layout;

    /// Whether elements of `x[10]` that `table` chooses are read without a check.
    fn unchecked(table: &[i64]) -> bool {
        let (x, y) = (TensorType::new(DType::F32, [10]), TensorType::new(DType::F32, [table.len()]));
        let table = Tensor::new([table.len()], table);
        let mut b = DefBuilder::new(&y.shape);
        let at = vec![b.var(0)];
        let index = b.load(1, &table.ty, at);
        let element = b.load_at(0, &x, vec![Index::Dynamic(index)], None);
        let def = b.finish("gather", 2, &y, element);
        let layouts: Vec<Layout> = def.operands.iter().map(|o| Layout::dense(&o.ty.shape)).collect();
        let constant: Vec<bool> = def.operands.iter().map(|o| o.value == 1).collect();
        let mut linear = Linear::new(&def, &layouts, &constant, &Layout::dense(&y.shape));
        know(&mut linear, |operand| constant[operand as usize].then_some(&table));
        linear
            .nodes
            .iter()
            .any(|n| matches!(n, Node::Load { dynamic, .. } if dynamic.iter().any(|d| d.inside)))
    }

    #[test]
    fn indices_out_of_tables_are_checked_where_some_lie_outside() {
        assert!(unchecked(&[0, 9, 3]));
        assert!(!unchecked(&[0, 10, 3]));
        assert!(!unchecked(&[0, -1, 3]));
    }
}
