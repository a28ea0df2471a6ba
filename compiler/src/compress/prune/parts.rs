//! Operators that take parts of an axis (Slice, Split, Gather): which channels lie in each part.

use super::follow::{Edit, Walk};
use super::sets::{Layout, Segment};
use crate::compress::onnx::Node;

impl Walk<'_> {
    /// The elements of a list that a node has as an attribute or an input, if they are known.
    pub(super) fn list(&self, node: &Node, name: &str, input: usize) -> Option<Vec<i64>> {
        match node.attr(name) {
            Some(attr) => Some(attr.ints.clone()),
            None => self.known.get(node.input(input)?)?.1.as_ref()?.to_i64s(),
        }
    }

    /// A Slice: along another axis than that of the channels, or of whole sets.
    pub(super) fn sliced(&mut self, index: usize, node: &Node) -> Option<()> {
        let Some(layout) = self.layouts.get(node.input(0)?).cloned() else { return Some(()) };
        let shape = self.shape(node.input(0)?)?.to_vec();
        let [starts, ends] = [("starts", 1), ("ends", 2)].map(|(name, input)| self.list(node, name, input));
        let (starts, ends) = (starts?, ends?);
        let axes = match node.attr("axes").is_some() || node.input(3).is_some() {
            true => self.list(node, "axes", 3)?,
            false => (0..starts.len() as i64).collect(),
        };
        let rank = shape.len() as i64;
        let on = |&a: &i64| (if a < 0 { a + rank } else { a }) == layout.axis as i64;
        let Some(at) = axes.iter().position(on) else { return self.put(node, layout) };
        let step = match node.input(4) {
            Some(_) => *self.list(node, "", 4)?.get(at)?,
            None => 1,
        };
        let extent = shape[layout.axis] as i64;
        let place = |v: i64| (if v < 0 { v.saturating_add(extent) } else { v }).clamp(0, extent) as usize;
        let (from, to) = (place(*starts.get(at)?), place(*ends.get(at)?));
        if step != 1 || node.attr("starts").is_some() {
            return (from == 0 && to as i64 == extent && step == 1).then(|| self.put(node, layout))?;
        }
        let before = if from == 0 { Vec::new() } else { self.range(&layout, 0, from)? };
        let taken = self.range(&layout, from, to)?;
        self.element(index, 1, at, &before);
        self.element(index, 2, at, &[before, taken.clone()].concat());
        self.put(node, Layout { segments: taken, ..layout })
    }

    /// A Split: along another axis than that of the channels, or into whole sets.
    pub(super) fn split(&mut self, index: usize, node: &Node) -> Option<()> {
        let Some(layout) = self.layouts.get(node.input(0)?).cloned() else { return Some(()) };
        let rank = self.shape(node.input(0)?)?.len() as i64;
        let axis = node.int("axis", 0);
        if (if axis < 0 { axis + rank } else { axis }) != layout.axis as i64 {
            for output in &node.outputs {
                self.layouts.insert(output.clone(), layout.clone());
            }
            return Some(());
        }
        let extents = node.outputs.iter().map(|o| self.shape(o).map(|s| s[layout.axis]));
        let extents: Vec<usize> = extents.collect::<Option<_>>()?;
        let (mut start, mut parts) = (0, Vec::new());
        // All the places where it is cut are found before the walk is repeated.
        for extent in extents {
            parts.push(self.range(&layout, start, start + extent));
            start += extent;
        }
        let parts: Vec<Vec<Segment>> = parts.into_iter().collect::<Option<_>>()?;
        for (output, segments) in node.outputs.iter().zip(&parts) {
            let made = Layout { axis: layout.axis, segments: segments.clone() };
            self.layouts.insert(output.clone(), made);
        }
        let computed = node.input(1).is_some_and(|n| self.onnx.constant(n).is_none());
        if !computed {
            self.found.edits.push(Edit::Parts { node: index, parts });
        }
        Some(())
    }

    /// A Gather from another axis than that of the channels.
    pub(super) fn gathered(&mut self, node: &Node) -> Option<()> {
        let Some(layout) = self.layouts.get(node.input(0)?).cloned() else { return Some(()) };
        if self.layouts.contains_key(node.input(1)?) {
            return None;
        }
        let rank = self.shape(node.input(0)?)?.len() as i64;
        let picked = self.shape(node.input(1)?)?.len();
        let axis = node.int("axis", 0);
        let axis = usize::try_from(if axis < 0 { axis + rank } else { axis }).ok()?;
        match axis.cmp(&layout.axis) {
            std::cmp::Ordering::Less => self.put(node, Layout { axis: layout.axis + picked - 1, ..layout }),
            std::cmp::Ordering::Equal => None,
            std::cmp::Ordering::Greater => self.put(node, layout),
        }
    }
}
