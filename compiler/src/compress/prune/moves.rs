//! Operators that move, merge or average axes: where the channels' axis is afterwards.

use super::follow::{Edit, Walk};
use super::sets::{Layout, Segment};
use crate::compress::onnx::Node;

impl Walk<'_> {
    /// The axes that a node names, as an attribute or input 1.
    fn axes(&self, node: &Node, rank: usize) -> Option<Vec<usize>> {
        let listed = match node.attr("axes") {
            Some(attr) => attr.ints.clone(),
            None => match node.input(1) {
                Some(name) => self.known.get(name)?.1.as_ref()?.to_i64s()?,
                None => return Some((0..rank).collect()),
            },
        };
        let one = |a: i64| usize::try_from(if a < 0 { a + rank as i64 } else { a }).ok();
        listed.into_iter().map(one).collect()
    }

    pub(super) fn moved(&mut self, index: usize, node: &Node) -> Option<()> {
        let Some(layout) = self.layouts.get(node.input(0)?).cloned() else { return Some(()) };
        let from = self.shape(node.input(0)?)?.to_vec();
        let to = self.shape(node.output())?.to_vec();
        match node.op() {
            "Transpose" => {
                let perm = node.ints("perm");
                let axis = match perm.is_empty() {
                    true => from.len() - 1 - layout.axis,
                    false => perm.iter().position(|&p| p == layout.axis as i64)?,
                };
                self.put(node, Layout { axis, ..layout })
            }
            "Pad" => {
                let pads = match node.attr("pads") {
                    Some(attr) => attr.ints.clone(),
                    None => self.known.get(node.input(1)?)?.1.as_ref()?.to_i64s()?,
                };
                let whole = pads.len() == 2 * from.len() && node.input(3).is_none();
                let still = whole && pads[layout.axis] == 0 && pads[layout.axis + from.len()] == 0;
                if still { self.put(node, layout) } else { None }
            }
            "Resize" => {
                let still = from[layout.axis] == to[layout.axis] && node.input(3).is_none();
                if still { self.put(node, layout) } else { None }
            }
            "Squeeze" if node.attr("axes").is_none() && node.input(1).is_none() => None,
            "Squeeze" => {
                let gone = self.axes(node, from.len())?;
                let before = gone.iter().filter(|&&a| a < layout.axis).count();
                if gone.contains(&layout.axis) {
                    None
                } else {
                    self.put(node, Layout { axis: layout.axis - before, ..layout })
                }
            }
            "Unsqueeze" => {
                let new = self.axes(node, to.len())?;
                let axis = (0..to.len()).filter(|a| !new.contains(a)).nth(layout.axis)?;
                self.put(node, Layout { axis, ..layout })
            }
            _ => self.reshaped(index, node, layout, &from, &to),
        }
    }

    /// Flatten and Reshape, where whole axes are merged or stay.
    fn reshaped(
        &mut self,
        index: usize,
        node: &Node,
        layout: Layout,
        from: &[usize],
        to: &[usize],
    ) -> Option<()> {
        let (made, same) = match merged(from, to, layout.axis) {
            Some((axis, first, last)) => {
                let repeats: usize = from[first..layout.axis].iter().product();
                let inner: usize = from[layout.axis + 1..last].iter().product();
                let merged = layout.segments.iter().map(|s| Segment { inner: s.inner * inner, ..*s });
                let once: Vec<Segment> = merged.collect();
                let segments = (0..repeats).flat_map(|_| once.clone()).collect();
                let same = from.get(axis) == Some(&from[layout.axis]) && axis == layout.axis;
                (Layout { axis, segments }, same)
            }
            None => (self.divided(&layout, from, to)?, false),
        };
        if node.op() == "Reshape" {
            // Elsewhere in the shape, -1 is worked out from all else and stays right.
            let (at, segments) = (made.axis, made.segments.clone());
            match self.onnx.constant(node.input(1)?)?.to_i64s()?.get(at)? {
                -1 => {}
                0 if same => {}
                0 => return None,
                _ => self.found.edits.push(Edit::Shape { node: index, at, segments }),
            }
        }
        self.put(node, made)
    }

    /// A Reshape that divides the channels into two axes: blocks of them (attention heads) stay or go.
    fn divided(&mut self, layout: &Layout, from: &[usize], to: &[usize]) -> Option<Layout> {
        let [Segment { set, inner: 1 }] = layout.segments[..] else { return None };
        let (before, channels) = (from[..layout.axis].iter().product::<usize>(), from[layout.axis]);
        let fits =
            |at: &usize| to[..*at].iter().product::<usize>() == before && to[*at] * to[at + 1] == channels;
        let axis = (0..to.len().saturating_sub(1)).rev().find(fits)?;
        let set = self.found.sets.divide(set, to[axis + 1]);
        Some(Layout { axis, segments: vec![Segment { set, inner: 1 }] })
    }

    /// Reductions over other axes.
    pub(super) fn reduced(&mut self, node: &Node) -> Option<()> {
        let Some(layout) = self.layouts.get(node.input(0)?).cloned() else { return Some(()) };
        let axes = self.axes(node, self.shape(node.input(0)?)?.len())?;
        if axes.contains(&layout.axis) {
            return None;
        }
        let before = match node.int("keepdims", 1) {
            0 => axes.iter().filter(|&&a| a < layout.axis).count(),
            _ => 0,
        };
        self.put(node, Layout { axis: layout.axis - before, ..layout })
    }
}

/// The axis of `to` that holds axis `axis` of `from`, and the range of axes of `from` merged in it.
fn merged(from: &[usize], to: &[usize], axis: usize) -> Option<(usize, usize, usize)> {
    let mut found = None;
    for (at, &extent) in to.iter().enumerate() {
        let before: usize = to[..at].iter().product();
        for first in 0..=axis {
            if from[..first].iter().product::<usize>() != before {
                continue;
            }
            let last = (axis + 1..=from.len()).find(|&l| from[first..l].iter().product::<usize>() == extent);
            if let Some(last) = last {
                // Of several (axes of 1), the one that merges least.
                if found.is_none_or(|(_, f, l)| last - first < l - f) {
                    found = Some((at, first, last));
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merged_axes_are_found() {
        assert_eq!(merged(&[1, 8, 5, 5], &[1, 200], 1), Some((1, 1, 4)));
        assert_eq!(merged(&[1, 5, 5, 8], &[1, 200], 3), Some((1, 1, 4)));
        assert_eq!(merged(&[1, 8, 1, 1], &[1, 8], 1), Some((1, 1, 2)));
        assert_eq!(merged(&[2, 8, 5, 5], &[2, 8, 25], 1), Some((1, 1, 2)));
        assert_eq!(merged(&[2, 8, 5], &[2, 2, 4, 5], 1), None);
        assert_eq!(merged(&[2, 3, 8], &[6, 8], 2), Some((1, 2, 3)));
    }
}
