//! Where a definition's accesses begin, taken out of its addresses.
//!
//! Definitions that differ only in the part of a tensor they touch (one step of an unrolled
//! recurrence, one slice of a split) are the same code once the start is added to the pointer.

use super::linear::{DynamicIndex, Guard, Linear, Node};
use crate::base::Affine;

/// What is to be added to the pointers, in elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Starts {
    /// Per operand.
    pub operands: Vec<usize>,
    /// For the output.
    pub output: usize,
}

impl Linear {
    /// Moves the start of each buffer to the first element accessed, its end past the last one.
    /// `own` says which operands are other elements of the output's own tensor: these and the output
    /// have one start, for a call may be given overlapping memory only as one place. `known` says of
    /// which all elements have a value: words of bytes may end behind the last one accessed.
    pub fn take_starts(&mut self, own: &[bool], known: &[bool]) -> Starts {
        let mut spans: Vec<(usize, usize)> = (0..self.buffers.len()).map(|b| self.span(b as u32)).collect();
        let (store, last) = self.store.range(|v| self.vars[v as usize].extent);
        let shared = spans.iter().zip(own).filter(|s| *s.1).map(|s| s.0.0 as i64);
        let first = shared.chain([store]).min().unwrap_or(store);
        spans.iter_mut().zip(own).filter(|s| *s.1).for_each(|s| s.0.0 = first as usize);
        for ((buffer, &(first, end)), &known) in self.buffers.iter_mut().zip(&spans).zip(known) {
            let after = if known && buffer.dtype.size() == 1 { size_of::<u32>() - 1 } else { 0 };
            buffer.elems = (end + after).min(buffer.elems) - first;
        }
        for node in &mut self.nodes {
            if let Node::Load { operand, addr, .. } = node {
                addr.base -= spans[*operand as usize].0 as i64;
            }
        }
        self.store.base -= first;
        self.output.elems = (last - first + 1) as usize;
        Starts { operands: spans.iter().map(|s| s.0).collect(), output: first as usize }
    }

    /// The first element of a buffer that is read, and one past the last. What is indexed by computed
    /// numbers counts as far as their dimensions go.
    fn span(&self, buffer: u32) -> (usize, usize) {
        let elems = self.buffers[buffer as usize].elems;
        let (mut first, mut end) = (elems, 0);
        for node in &self.nodes {
            let Node::Load { operand, addr, dynamic, guards, .. } = node else { continue };
            if *operand != buffer {
                continue;
            }
            let (low, high) = self.reach(addr, guards);
            let along = |d: &DynamicIndex| d.stride.max(0) * (d.extent as i64 - 1).max(0);
            let high = high + dynamic.iter().map(along).sum::<i64>();
            first = first.min(low.max(0) as usize);
            end = end.max((high + 1).clamp(0, elems as i64) as usize);
        }
        if first < end { (first, end) } else { (0, elems) }
    }

    /// The range of an address where its guards hold.
    fn reach(&self, addr: &Affine, guards: &[Guard]) -> (i64, i64) {
        let extent = |v: u32| self.vars[v as usize].extent;
        let (mut rest, mut low, mut high) = (addr.clone(), 0, 0);
        for guard in guards {
            // An index is multiplied by its stride in the address, if it is there by itself.
            let Some(&(var, step)) = guard.form.terms.first() else { continue };
            let stride = addr.coefficient(var) / step;
            let other = rest.plus_scaled(&guard.form, -stride);
            if guard.form.terms.iter().any(|t| other.coefficient(t.0) != 0) {
                continue;
            }
            let (first, last) = guard.form.range(extent);
            let ends = [first.max(0), last.min(guard.extent as i64 - 1)].map(|end| stride * end);
            (low, high) = (low + ends[0].min(ends[1]), high + ends[0].max(ends[1]));
            rest = other;
        }
        let (first, last) = rest.range(extent);
        (low + first, high + last)
    }
}

#[cfg(test)]
mod tests {
    use crate::base::{Affine, DType, TensorType};
    use crate::definition::{DefBuilder, Index};
    use crate::schedule::Linear;
    use crate::schedule::linear::Layout;

    /// A window reads a part of a buffer (channels of a concatenation): its padding adds nothing.
    #[test]
    fn padding_is_no_part_of_what_is_read() {
        let (x, y) = (TensorType::new(DType::F32, [4, 6]), TensorType::new(DType::F32, [3, 6]));
        let mut b = DefBuilder::new(&y.shape);
        let k = b.reduce("k", 3);
        let at = vec![b.var(0), b.var(1).plus(&k).offset(-1)];
        let element = b.load_padded(0, &x, at, crate::scalar::Scalar::from_f64(DType::F32, 0.0));
        let acc = b.fold(crate::scalar::Fold::Sum, element);
        let def = b.finish("window", 1, &y, acc);
        // `x` lies in every other element.
        let apart = Layout { offset: 1, strides: vec![12, 2] };
        let mut linear = Linear::new(&def, &[apart], &[false], &Layout::dense(&y.shape));
        assert_eq!(linear.take_starts(&[false], &[false]).operands, [1]);
        assert_eq!(linear.buffers[0].elems, 2 * 12 + 2 * 5 + 1);
    }

    /// Columns of a matrix whose other columns may be written later, by computed rows.
    #[test]
    fn computed_indices_reach_as_far_as_their_dimension() {
        let (x, y) = (TensorType::new(DType::F32, [4, 3]), TensorType::new(DType::F32, [4]));
        let mut b = DefBuilder::new(&y.shape);
        let row = b.index(b.var(0).scaled(-1).offset(3));
        let element = b.load_at(0, &x, vec![Index::Dynamic(row), Index::Affine(Affine::constant(1))], None);
        let def = b.finish("column", 1, &y, element);
        let dense = |ty: &TensorType| Layout::dense(&ty.shape);
        let mut linear = Linear::new(&def, &[dense(&x)], &[false], &dense(&y));
        assert_eq!(linear.take_starts(&[false], &[false]).operands, [1]);
        assert_eq!(linear.buffers[0].elems, 3 * 3 + 1);
    }

    #[test]
    fn words_end_in_known_bytes_behind_the_last_one() {
        let (x, y) = (TensorType::new(DType::U8, [12]), TensorType::new(DType::U8, [4]));
        let mut b = DefBuilder::new(&y.shape);
        let at = vec![b.var(0).offset(3)];
        let element = b.load(0, &x, at);
        let def = b.finish("part", 1, &y, element);
        let dense = |ty: &TensorType| Layout::dense(&ty.shape);
        let linear = Linear::new(&def, &[dense(&x)], &[false], &dense(&y));
        for (known, elems) in [(false, 4), (true, 7)] {
            let mut moved = linear.clone();
            assert_eq!(moved.take_starts(&[false], &[known]).operands, [3]);
            assert_eq!(moved.buffers[0].elems, elems);
        }
    }
}
