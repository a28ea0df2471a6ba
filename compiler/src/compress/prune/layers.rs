//! Layers and normalizations: they read one set of channels, and make another or pass it on.

use super::follow::{Edit, Walk};
use super::sets::{Layout, Segment};
use crate::compress::onnx::{Node, along};
use std::collections::BTreeSet;

impl Walk<'_> {
    /// The sums of squares of weights by the index of an axis, relative to their mean.
    fn scores(&self, weights: &str, axis: usize) -> Option<Vec<f64>> {
        let (shape, elements) = self.onnx.floats(weights)?;
        let index = along(&shape, axis);
        let mut sums = vec![0.0; shape[axis]];
        for (i, &w) in elements.iter().enumerate() {
            sums[index(i)] += f64::from(w).powi(2);
        }
        let mean = (sums.iter().sum::<f64>() / sums.len().max(1) as f64).max(f64::MIN_POSITIVE);
        Some(sums.iter().map(|s| s / mean).collect())
    }

    /// A new set for what a layer makes along `axis` of its weights; the bias at input 2 goes with it.
    fn makes(&mut self, index: usize, node: &Node, axis: usize, on: usize) -> Option<()> {
        let scores = self.scores(node.input(1)?, axis)?;
        let channels = scores.len();
        let none = BTreeSet::new();
        let cuts = self.cuts.get(&index).unwrap_or(&none);
        let bounds: Vec<usize> = [0].into_iter().chain(cuts.iter().copied()).chain([channels]).collect();
        let mut segments = Vec::new();
        for part in bounds.windows(2) {
            let set = self.found.sets.add(scores[part[0]..part[1]].to_vec());
            self.origins.insert(set, (index, part[0]));
            self.found.made.push((index, set));
            segments.push(Segment { set, inner: 1 });
        }
        let layout = Layout { axis: on, segments: segments.clone() };
        self.slice(index, 1, axis, &segments);
        if let Some(bias) = node.input(2) {
            match self.shape(bias).unwrap_or(&[0]).to_vec().as_slice() {
                _ if self.onnx.constant(bias).is_none() => {
                    self.found.sets.freeze_all(&layout, "its bias is computed")
                }
                [.., last] if *last == channels => {
                    let axis = self.shape(bias).map_or(0, |s| s.len() - 1);
                    self.slice(index, 2, axis, &segments);
                }
                [] | [1] | [1, 1] => {}
                _ => self.found.sets.freeze_all(&layout, "its bias has another shape"),
            }
        }
        self.put(node, layout)
    }

    /// The layer reads the channels of its data along `axis` of its weights.
    fn reads(&mut self, index: usize, node: &Node, on: usize, axis: usize) -> Option<()> {
        match self.layouts.get(node.input(0)?).cloned() {
            None => Some(()),
            Some(layout) if layout.axis == on => {
                self.slice(index, 1, axis, &layout.segments);
                Some(())
            }
            Some(_) => None,
        }
    }

    pub(super) fn conv(&mut self, index: usize, node: &Node) -> Option<()> {
        let (shape, _) = self.onnx.floats(node.input(1)?)?;
        let group = usize::try_from(node.int("group", 1)).ok()?;
        if group == 1 {
            self.reads(index, node, 1, 1)?;
            return self.makes(index, node, 0, 1);
        }
        // Depthwise: each channel has its own filter and stays itself.
        let Some(layout) = self.layouts.get(node.input(0)?).cloned() else { return Some(()) };
        if layout.axis != 1
            || shape[1] != 1
            || shape[0] != group
            || layout.segments.iter().any(|s| s.inner != 1)
        {
            return None;
        }
        self.slice(index, 1, 0, &layout.segments);
        if let Some(bias) = node.input(2) {
            self.onnx.constant(bias)?;
            self.slice(index, 2, 0, &layout.segments);
        }
        self.found.edits.push(Edit::Groups { node: index, segments: layout.segments.clone() });
        self.put(node, layout)
    }

    pub(super) fn conv_transpose(&mut self, index: usize, node: &Node) -> Option<()> {
        self.onnx.floats(node.input(1)?)?;
        if node.int("group", 1) != 1 {
            return None;
        }
        self.reads(index, node, 1, 0)?;
        self.makes(index, node, 1, 1)
    }

    pub(super) fn product(&mut self, index: usize, node: &Node) -> Option<()> {
        if node.op() == "MatMul" && self.onnx.constant(node.input(1)?).is_none() {
            return self.batched(node);
        }
        let (shape, _) = self.onnx.floats(node.input(1)?)?;
        let last = self.shape(node.input(0)?)?.len().checked_sub(1)?;
        if shape.len() != 2 || node.int("transA", 0) != 0 {
            return None;
        }
        let columns = usize::from(node.int("transB", 0) == 0);
        self.reads(index, node, last, 1 - columns)?;
        self.makes(index, node, columns, last)
    }

    /// Products of two tensors for each index of an axis before both matrices (attention heads).
    fn batched(&mut self, node: &Node) -> Option<()> {
        let layouts = [node.input(0)?, node.input(1)?].map(|n| self.layouts.get(n).cloned());
        let [Some(a), Some(b)] = layouts else {
            return layouts.iter().all(Option::is_none).then_some(());
        };
        let rank = self.shape(node.output())?.len();
        let ranks = [node.input(0)?, node.input(1)?].map(|n| self.shape(n).map(<[usize]>::len));
        if a.axis != b.axis || a.axis + 2 >= rank || ranks != [Some(rank); 2] {
            return None;
        }
        self.joined(&a, &b, &format!("{} does not fit it", node.place()));
        self.put(node, a)
    }

    /// Softmax over another axis than that of the channels.
    pub(super) fn softmax(&mut self, node: &Node) -> Option<()> {
        let Some(layout) = self.layouts.get(node.input(0)?).cloned() else { return Some(()) };
        let rank = self.shape(node.input(0)?)?.len() as i64;
        let axis = node.int("axis", if self.onnx.opset() < 13 { 1 } else { -1 });
        let axis = if axis < 0 { axis + rank } else { axis };
        // Before opset 13, all axes from this on count.
        let single = self.onnx.opset() >= 13 || axis + 1 == rank;
        if single && axis != layout.axis as i64 { self.put(node, layout) } else { None }
    }

    pub(super) fn normalization(&mut self, index: usize, node: &Node) -> Option<()> {
        let Some(layout) = self.layouts.get(node.input(0)?).cloned() else { return Some(()) };
        if layout.axis != 1 {
            return None;
        }
        for input in 1..node.inputs.len() {
            self.onnx.constant(node.input(input)?)?;
            self.slice(index, input, 0, &layout.segments);
        }
        self.put(node, layout)
    }
}
