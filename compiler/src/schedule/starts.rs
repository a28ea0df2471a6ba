//! Where a definition's accesses begin, taken out of its addresses.
//!
//! Definitions that differ only in the part of a tensor they touch (one step of an unrolled
//! recurrence, one slice of a split) are the same code once the start is added to the pointer.

use super::linear::{Linear, Node};

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
    /// have one start, for a call may be given overlapping memory only as one place.
    pub fn take_starts(&mut self, own: &[bool]) -> Starts {
        let mut spans: Vec<(usize, usize)> = (0..self.buffers.len()).map(|b| self.span(b as u32)).collect();
        let (store, last) = self.store.range(|v| self.vars[v as usize].extent);
        let shared = spans.iter().zip(own).filter(|s| *s.1).map(|s| s.0.0 as i64);
        let first = shared.chain([store]).min().unwrap_or(store);
        spans.iter_mut().zip(own).filter(|s| *s.1).for_each(|s| s.0.0 = first as usize);
        for (buffer, &(first, end)) in self.buffers.iter_mut().zip(&spans) {
            buffer.elems = end - first;
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

    /// The first element of a buffer that is read, and one past the last. What guards keep out and
    /// what is indexed by computed numbers counts as far as the buffer goes.
    fn span(&self, buffer: u32) -> (usize, usize) {
        let elems = self.buffers[buffer as usize].elems;
        let (mut first, mut end) = (elems, 0);
        for node in &self.nodes {
            let Node::Load { operand, addr, dynamic, .. } = node else { continue };
            if *operand != buffer {
                continue;
            }
            let (low, high) = addr.range(|v| self.vars[v as usize].extent);
            if !dynamic.is_empty() {
                return (0, elems);
            }
            first = first.min(low.max(0) as usize);
            end = end.max((high + 1).clamp(0, elems as i64) as usize);
        }
        if first < end { (first, end) } else { (0, elems) }
    }
}
