//! The rows of data that a layer's sums multiply with its weights.

use crate::compress::onnx::Node;
use std::ops::Range;

/// How the data of a convolution or matrix product lie under its weights. A row has all that the sums at one
/// position read, group after group.
#[derive(Clone, Debug, PartialEq)]
pub struct Patches {
    /// Groups of channels that are multiplied with weights of their own.
    groups: usize,
    /// Weights of a sum.
    depth: usize,
    /// Sums of all groups.
    outputs: usize,
    /// Distances of the weights of neighbouring sums, and of those in a sum.
    strides: [usize; 2],
    /// Of a convolution.
    window: Option<Window>,
    /// Positions.
    count: usize,
}

/// What a convolution reads at a position.
#[derive(Clone, Debug, PartialEq)]
struct Window {
    channels: usize,
    /// Extents of the data, of the results and of the window; steps of the window and within it, and padding.
    data: Vec<usize>,
    results: Vec<usize>,
    kernel: Vec<usize>,
    strides: Vec<usize>,
    dilations: Vec<usize>,
    before: Vec<i64>,
}

impl Patches {
    /// For a node that multiplies data of a shape with weights (its second input); `None` where it is none of
    /// those known.
    pub fn new(node: &Node, weights: &[usize], data: &[usize]) -> Option<Patches> {
        if data.contains(&0) || weights.contains(&0) {
            return None;
        }
        let product = |depth: usize, outputs: usize, strides| {
            let plain = data.last() == Some(&depth);
            let count = data.iter().product::<usize>() / depth;
            plain.then_some(Patches { groups: 1, depth, outputs, strides, window: None, count })
        };
        match (node.op(), weights) {
            ("MatMul", &[depth, outputs]) => product(depth, outputs, [1, outputs]),
            ("Gemm", &[a, b]) if node.int("transA", 0) == 0 => match node.int("transB", 0) {
                0 => product(a, b, [1, b]),
                _ => product(b, a, [b, 1]),
            },
            ("Conv", &[outputs, inner, ..]) if weights.len() == data.len() && weights.len() > 2 => {
                let window = Window::new(node, &weights[2..], data)?;
                let depth = inner * window.kernel.iter().product::<usize>();
                let groups = window.channels / inner;
                let count = data[0] * window.results.iter().product::<usize>();
                let fits = groups > 0 && groups * inner == window.channels && outputs.is_multiple_of(groups);
                fits.then_some(Patches {
                    groups,
                    depth,
                    outputs,
                    strides: [depth, 1],
                    window: Some(window),
                    count,
                })
            }
            _ => None,
        }
    }

    /// Rows.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Elements of a row.
    pub fn width(&self) -> usize {
        self.groups * self.depth
    }

    /// Parts of a row, none longer than `most`, none of two groups; whole windows where they fit.
    pub fn blocks(&self, most: usize) -> Vec<Range<usize>> {
        let window = self.window.as_ref().map_or(1, |w| w.kernel.iter().product());
        let size = if most >= window { most / window * window } else { most };
        if size < 2 {
            return Vec::new();
        }
        let of_group = |group: usize| {
            let (start, end) = (group * self.depth, (group + 1) * self.depth);
            (start..end).step_by(size).map(move |at| at..(at + size).min(end))
        };
        (0..self.groups).flat_map(of_group).collect()
    }

    /// The sums that multiply an element of a row.
    pub fn outputs(&self, element: usize) -> Range<usize> {
        let (group, count) = (element / self.depth, self.outputs / self.groups);
        group * count..(group + 1) * count
    }

    /// Where the weight is that a sum multiplies an element of a row with.
    pub fn weight(&self, output: usize, element: usize) -> usize {
        output * self.strides[0] + element % self.depth * self.strides[1]
    }

    /// So many of the rows, spread over all.
    pub fn spread(&self, rows: usize) -> impl Iterator<Item = usize> + use<> {
        /// The golden ratio in units of 2^-64: its multiples are spread evenly.
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        let (count, all) = (self.count, rows >= self.count);
        let at = move |i: u64| ((u128::from(GOLDEN.wrapping_mul(i)) * count as u128) >> 64) as usize;
        (0..rows.min(count)).map(move |i| if all { i } else { at(i as u64) })
    }

    /// Reads a row.
    pub fn row(&self, data: &[f32], at: usize, row: &mut [f32]) {
        match &self.window {
            Some(window) => window.row(data, at, row),
            None => row.copy_from_slice(&data[at * self.depth..][..self.depth]),
        }
    }
}

impl Window {
    fn new(node: &Node, kernel: &[usize], data: &[usize]) -> Option<Window> {
        let count = kernel.len();
        let list = |name: &str, default: i64| match node.ints(name) {
            [] => Some(vec![default; count]),
            list => (list.len() == count && list.iter().all(|&v| v >= default)).then(|| list.to_vec()),
        };
        let sizes = |list: Vec<i64>| -> Vec<usize> { list.into_iter().map(|v| v as usize).collect() };
        let (strides, dilations) = (sizes(list("strides", 1)?), sizes(list("dilations", 1)?));
        let pads = node.ints("pads");
        let (mut results, mut before) = (Vec::new(), Vec::new());
        for d in 0..count {
            let (extent, reach) = (data[2 + d], dilations[d] * (kernel[d] - 1) + 1);
            let same = ((extent.div_ceil(strides[d]) - 1) * strides[d] + reach).saturating_sub(extent) as i64;
            let [first, last] = match node.text("auto_pad", "NOTSET") {
                "SAME_UPPER" => [same / 2, same - same / 2],
                "SAME_LOWER" => [same - same / 2, same / 2],
                "VALID" => [0, 0],
                _ => [pads.get(d), pads.get(count + d)].map(|p| p.copied().unwrap_or(0)),
            };
            let room = extent as i64 + first + last - reach as i64;
            results.push(usize::try_from(room).ok()? / strides[d] + 1);
            before.push(first);
        }
        let (channels, data, kernel) = (data[1], data[2..].to_vec(), kernel.to_vec());
        Some(Window { channels, data, results, kernel, strides, dilations, before })
    }

    fn row(&self, data: &[f32], at: usize, row: &mut [f32]) {
        let (points, plane) = (self.results.iter().product::<usize>(), self.data.iter().product::<usize>());
        let (image, position) = (at / points, digits(at % points, &self.results));
        let window = self.kernel.iter().product::<usize>();
        for tap in 0..window {
            let steps = digits(tap, &self.kernel);
            let mut from = Some(0);
            for d in 0..self.kernel.len() {
                let x =
                    (position[d] * self.strides[d] + steps[d] * self.dilations[d]) as i64 - self.before[d];
                let inside = usize::try_from(x).ok().filter(|&x| x < self.data[d]);
                from = from.zip(inside).map(|(from, x)| from * self.data[d] + x);
            }
            for channel in 0..self.channels {
                let start = (image * self.channels + channel) * plane;
                row[channel * window + tap] = from.map_or(0.0, |from| data[start + from]);
            }
        }
    }
}

/// The index along each axis of an element of a shape.
fn digits(mut index: usize, shape: &[usize]) -> Vec<usize> {
    let mut digits = vec![0; shape.len()];
    for (digit, extent) in digits.iter_mut().zip(shape).rev() {
        *digit = index % extent;
        index /= extent;
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;
    use tract_onnx::pb::{AttributeProto, attribute_proto::AttributeType};

    fn set(node: &mut Node, name: &str, list: &[i64]) {
        let (ints, r#type) = (list.to_vec(), AttributeType::Ints as i32);
        node.set_attr(AttributeProto { name: name.into(), ints, r#type, ..Default::default() });
    }

    #[test]
    fn rows_are_what_windows_see() {
        let mut node = Node::new("Conv", "", &["x", "w"], &["y"]);
        set(&mut node, "pads", &[1, 0, 0, 0]);
        set(&mut node, "strides", &[2, 1]);
        let patches = Patches::new(&node, &[3, 2, 2, 1], &[1, 2, 3, 2]).unwrap();
        assert_eq!((patches.count(), patches.width()), (4, 4));
        let data: Vec<f32> = (1..=12).map(|i| i as f32).collect();
        let mut row = [0.0; 4];
        // Rows -1 and 0 of column 1, then rows 1 and 2 of column 0, of both channels.
        patches.row(&data, 1, &mut row);
        assert_eq!(row, [0.0, 2.0, 0.0, 8.0]);
        patches.row(&data, 2, &mut row);
        assert_eq!(row, [3.0, 5.0, 9.0, 11.0]);
        assert_eq!(patches.weight(2, 3), 11);
        assert_eq!(patches.blocks(3), [0..2, 2..4]);
    }

    #[test]
    fn groups_have_blocks_of_their_own() {
        let mut node = Node::new("Conv", "", &["x", "w"], &["y"]);
        node.set_int("group", 2);
        let patches = Patches::new(&node, &[4, 1, 3], &[1, 2, 8]).unwrap();
        assert_eq!(patches.blocks(256), [0..3, 3..6]);
        assert_eq!(patches.outputs(4), 2..4);
        assert_eq!(patches.weight(2, 4), 7);
    }

    #[test]
    fn products_of_matrices() {
        let mut node = Node::new("Gemm", "", &["x", "w"], &["y"]);
        let patches = Patches::new(&node, &[5, 3], &[7, 5]).unwrap();
        assert_eq!((patches.count(), patches.weight(2, 4)), (7, 14));
        node.set_int("transB", 1);
        assert_eq!(Patches::new(&node, &[3, 5], &[7, 5]).unwrap().weight(2, 4), 14);
        assert_eq!(Patches::new(&node, &[3, 5], &[7, 4]), None);
        let rows: Vec<usize> = patches.spread(4).collect();
        assert!(rows.iter().all(|&r| r < 7) && rows.windows(2).all(|w| w[0] != w[1]));
        assert_eq!(patches.spread(9).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6]);
    }
}
