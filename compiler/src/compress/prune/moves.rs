//! Operators that move, merge or average axes: where the channels' axis is afterwards.

use super::follow::Walk;
use super::sets::{Layout, Segment};
use crate::compress::onnx::Node;

impl Walk<'_> {
    /// The axes that a node names, as an attribute or input 1.
    fn axes(&self, node: &Node, rank: usize) -> Option<Vec<usize>> {
        if node.attr("axes").is_none() && node.input(1).is_none() {
            return Some((0..rank).collect());
        }
        let listed = self.list(node, "axes", 1)?;
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
                let pads = self.list(node, "pads", 1)?;
                let whole = pads.len() == 2 * from.len() && node.input(3).is_none();
                let still = whole && pads[layout.axis] == 0 && pads[layout.axis + from.len()] == 0;
                if still { self.put(node, layout) } else { None }
            }
            "Resize" => {
                if from[layout.axis] != to[layout.axis] || node.attr("axes").is_some() {
                    return None;
                }
                if node.input(3).is_some() {
                    self.element(index, 3, layout.axis, &layout.segments);
                }
                self.put(node, layout)
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
            None => {
                let divided = self.divided(&layout, from, to);
                (divided.or_else(|| self.grouped(&layout, from, to))?, false)
            }
        };
        if node.op() == "Reshape" {
            // Elsewhere in the shape, -1 is worked out from all else and stays right.
            match self.list(node, "", 1)?.get(made.axis)? {
                -1 => {}
                0 if same => {}
                0 => return None,
                _ => self.element(index, 1, made.axis, &made.segments),
            }
        }
        self.put(node, made)
    }

    /// A Reshape that divides the channels into axes: blocks of them (attention heads) stay or go, the same ones
    /// of several parts (of queries, keys and values).
    fn divided(&mut self, layout: &Layout, from: &[usize], to: &[usize]) -> Option<Layout> {
        if layout.segments.iter().any(|s| s.inner != 1) {
            return None;
        }
        let (before, channels) = (from[..layout.axis].iter().product::<usize>(), from[layout.axis]);
        let begins = |at: &usize| to[..*at].iter().product::<usize>() == before;
        let holds = |at: usize, axes: usize| {
            to.get(at..at + axes).is_some_and(|t| t.iter().product::<usize>() == channels)
        };
        let starts: Vec<usize> = (0..to.len()).rev().filter(begins).collect();
        let parted = |at: &&usize| to[**at] > 1 && self.makes_times(layout, to[**at]);
        for &at in starts.iter().filter(parted) {
            if let Some(axes) = [3, 2].into_iter().find(|&axes| holds(at, axes)) {
                let size = if axes == 3 { to[at + 2] } else { 1 };
                return self.parted(layout, to[at], size).map(|segments| Layout { axis: at + 1, segments });
            }
        }
        let [Segment { set, .. }] = layout.segments[..] else { return None };
        for axes in [2, 3] {
            if let Some(&at) = starts.iter().find(|&&at| holds(at, axes)) {
                let set = self.found.sets.divide(set, to[at + 1..at + axes].iter().product());
                return Some(Layout { axis: at, segments: vec![Segment { set, inner: 1 }] });
            }
        }
        None
    }

    /// Groups of channels beside all that lies in each, as normalizations of groups are written, and back.
    fn grouped(&mut self, layout: &Layout, from: &[usize], to: &[usize]) -> Option<Layout> {
        let [Segment { set, inner: 1 }] = layout.segments[..] else { return None };
        let (before, channels) = (from[..layout.axis].iter().product::<usize>(), from[layout.axis]);
        let axis = (0..to.len()).find(|&at| to[at] > 1 && to[..at].iter().product::<usize>() == before)?;
        let groups = to[axis];
        let set = if groups < channels && channels.is_multiple_of(groups) && axis + 2 == to.len() {
            self.found.sets.divide(set, channels / groups)
        } else if groups.is_multiple_of(channels) && layout.axis + 2 == from.len() {
            self.found.sets.whole(set, groups / channels)?
        } else {
            return None;
        };
        Some(Layout { axis, segments: vec![Segment { set, inner: 1 }] })
    }

    /// Whether a layer makes so many channels for each that it reads: several projections at once.
    fn makes_times(&self, layout: &Layout, parts: usize) -> bool {
        let Some((layer, _)) = layout.segments.first().and_then(|s| self.origins.get(&s.set)) else {
            return false;
        };
        let shape = self.onnx.nodes[*layer].input(1).and_then(|n| self.shape(n));
        let pair = shape.filter(|s| s.len() >= 2).map(|s| (s[0].max(s[1]), s[0].min(s[1])));
        pair.is_some_and(|(most, least)| most == least * parts)
    }

    /// So many parts of an axis that keep the same blocks of channels.
    fn parted(&mut self, layout: &Layout, parts: usize, size: usize) -> Option<Vec<Segment>> {
        let extent = self.found.sets.extent(&layout.segments) / parts;
        let mut ranges = Vec::new();
        for part in 0..parts {
            ranges.push(self.range(layout, part * extent, (part + 1) * extent));
        }
        let mut ranges = ranges.into_iter().collect::<Option<Vec<_>>>()?;
        if size > 1 {
            for range in &mut ranges {
                let [segment] = range.as_mut_slice() else { return None };
                segment.set = self.found.sets.divide(segment.set, size);
            }
        }
        let layouts = ranges.into_iter().map(|segments| Layout { axis: 0, segments });
        let layouts: Vec<Layout> = layouts.collect();
        let (first, others) = layouts.split_first()?;
        others.iter().for_each(|other| self.joined(first, other, "its parts differ"));
        Some(first.segments.clone())
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
