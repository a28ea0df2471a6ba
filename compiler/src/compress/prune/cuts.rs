//! Sets of channels that are cut where parts of them are taken, and the numbers that say where.

use super::follow::{Edit, Element, Walk};
use super::sets::{Layout, Segment, SetId};

impl Walk<'_> {
    /// A range of the axis of a layout, as segments; where it begins or ends within a set, the layer is asked to
    /// make two.
    pub(super) fn range(&mut self, layout: &Layout, from: usize, to: usize) -> Option<Vec<Segment>> {
        let (mut start, mut taken, mut whole) = (0, Vec::new(), true);
        for segment in &layout.segments {
            let end = start + self.found.sets.channels(segment.set) * segment.inner;
            for at in [from, to].into_iter().filter(|at| start < *at && *at < end) {
                whole = false;
                if (at - start).is_multiple_of(segment.inner) {
                    self.cut(segment.set, (at - start) / segment.inner);
                }
            }
            if from <= start && end <= to {
                taken.push(segment.clone());
            }
            start = end;
        }
        whole.then_some(taken).filter(|t| !t.is_empty())
    }

    /// Asks for a set to be cut, and all that were joined with it.
    pub(super) fn cut(&mut self, set: SetId, channel: usize) {
        let root = self.found.sets.root(set);
        for (other, (layer, first)) in &self.origins {
            if self.found.sets.root(*other) == root {
                self.wanted.entry(*layer).or_default().insert(first + channel);
            }
        }
    }

    /// Joins what lies along two axes; where one is cut and the other is not, asks for the same cuts.
    pub(super) fn joined(&mut self, a: &Layout, b: &Layout, why: &str) {
        for (one, other) in [(a, b), (b, a)] {
            let mut start = 0;
            for segment in &one.segments {
                self.cut_at(other, start);
                start += self.found.sets.channels(segment.set) * segment.inner;
            }
        }
        self.found.sets.join_all(a, b, why);
    }

    fn cut_at(&mut self, layout: &Layout, at: usize) {
        let mut start = 0;
        for segment in &layout.segments {
            let end = start + self.found.sets.channels(segment.set) * segment.inner;
            if start < at && at < end && (at - start).is_multiple_of(segment.inner) {
                self.cut(segment.set, (at - start) / segment.inner);
            }
            start = end;
        }
    }

    /// An element of a list at an input of a node has to be an extent: where it is constant, it is edited.
    pub(super) fn element(&mut self, node: usize, input: usize, at: usize, segments: &[Segment]) {
        let name = &self.onnx.nodes[node].inputs[input];
        let element = Element { node, input, at, segments: segments.to_vec() };
        if self.onnx.constant(name).is_some() {
            self.found.edits.push(Edit::Element(element));
            return;
        }
        self.found.elements.push(element);
        let Some(&writer) = self.writers.get(name) else { return };
        let joined = &self.onnx.nodes[writer];
        if joined.op() == "Cast" {
            return self.element(writer, 0, at, segments);
        }
        if joined.op() != "Concat" {
            return;
        }
        let mut first = 0;
        for part in 0..joined.inputs.len() {
            let Some(&[length]) = self.shape(&joined.inputs[part]) else { return };
            if (first..first + length).contains(&at) {
                return self.element(writer, part, at - first, segments);
            }
            first += length;
        }
    }
}
