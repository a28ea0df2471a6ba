//! Where the channels of each layer go: through the graph, up to what reads them.
//!
//! A layer makes a set of channels. Operators pass the set on, join it with others (additions), put it
//! beside others (concatenations), or read it (layers, normalizations). What is not understood freezes
//! the sets it reads: their channels stay.

use super::sets::{Layout, Pinned, Segment, SetId, Sets};
use crate::compress::observe::Known;
use crate::compress::onnx::{Node, Onnx};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// An edit of the model that follows from removed channels.
#[derive(Debug)]
pub enum Edit {
    /// The constant at an input of a node loses the indices of an axis.
    Slice {
        /// The node.
        node: usize,
        /// Its input.
        input: usize,
        /// Axis of the constant.
        axis: usize,
        /// What lies along it.
        segments: Vec<Segment>,
    },
    /// The number of groups of a depthwise convolution is that of its channels.
    Groups {
        /// The node.
        node: usize,
        /// Its channels.
        segments: Vec<Segment>,
    },
    /// An element of a constant list (a shape, where a part begins) is an extent.
    Element(Element),
    /// The parts that a Split makes have these extents.
    Parts {
        /// The node.
        node: usize,
        /// What lies along each.
        parts: Vec<Vec<Segment>>,
    },
}

/// An element of a list that says an extent.
#[derive(Clone, Debug)]
pub struct Element {
    /// The node that reads the list.
    pub node: usize,
    /// At which input.
    pub input: usize,
    /// Which element.
    pub at: usize,
    /// What lies along the axis.
    pub segments: Vec<Segment>,
}

/// What was found.
pub struct Followed {
    /// The sets of channels.
    pub sets: Sets,
    /// What removing channels changes.
    pub edits: Vec<Edit>,
    /// By layer (node), a set that it makes.
    pub made: Vec<(usize, SetId)>,
    /// How channels lie in each value that has some.
    pub layouts: HashMap<String, Layout>,
    /// Elements of computed lists that have to be extents.
    pub elements: Vec<Element>,
}

/// By layer (node), the channels at which a new set begins.
type Cuts = BTreeMap<usize, BTreeSet<usize>>;

/// The walk is repeated so many times at most, for what is cut in parts of parts.
const WALKS: usize = 32;

/// Operators that keep each element where it is.
const PLAIN: &[&str] = &[
    "Relu",
    "LeakyRelu",
    "Elu",
    "Selu",
    "Celu",
    "Sigmoid",
    "HardSigmoid",
    "HardSwish",
    "Tanh",
    "Erf",
    "Gelu",
    "Mish",
    "Softplus",
    "Softsign",
    "ThresholdedRelu",
    "Clip",
    "Abs",
    "Neg",
    "Exp",
    "Log",
    "Sqrt",
    "Sign",
    "IsNaN",
    "Floor",
    "Ceil",
    "Round",
    "Identity",
    "Dropout",
    "Cast",
    "MaxPool",
    "AveragePool",
    "LpPool",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "GlobalLpPool",
];
/// Element-wise operators of several tensors.
const JOINING: &[&str] = &["Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean", "Pow", "PRelu", "Where"];

/// The state of the walk.
pub(super) struct Walk<'a> {
    pub onnx: &'a Onnx,
    pub known: &'a Known,
    pub layouts: HashMap<String, Layout>,
    pub found: Followed,
    pub writers: &'a HashMap<String, usize>,
    pub cuts: &'a Cuts,
    /// Where sets should be cut that are not yet.
    pub wanted: Cuts,
    /// By set that a layer makes, the layer and its first channel.
    pub origins: HashMap<SetId, (usize, usize)>,
}

/// Follows the channels of all layers; those of the values in `pinned` stay.
pub fn follow(onnx: &Onnx, known: &Known, pinned: &Pinned) -> Followed {
    let writers = onnx.writers();
    let mut cuts = Cuts::new();
    let mut walked = walk(onnx, known, pinned, &writers, &cuts);
    for _ in 1..WALKS {
        if walked.1.is_empty() {
            break;
        }
        for (layer, channels) in walked.1 {
            cuts.entry(layer).or_default().extend(channels);
        }
        walked = walk(onnx, known, pinned, &writers, &cuts);
    }
    walked.0
}

/// One walk: what was found, and where sets should be cut so that more would be.
fn walk(
    onnx: &Onnx,
    known: &Known,
    pinned: &Pinned,
    writers: &HashMap<String, usize>,
    cuts: &Cuts,
) -> (Followed, Cuts) {
    let found = Followed {
        sets: Sets::default(),
        edits: Vec::new(),
        made: Vec::new(),
        layouts: HashMap::new(),
        elements: Vec::new(),
    };
    let layouts = HashMap::new();
    let (wanted, origins) = (Cuts::new(), HashMap::new());
    let mut walk = Walk { onnx, known, layouts, found, writers, cuts, wanted, origins };
    for (i, node) in onnx.nodes.iter().enumerate() {
        for name in node.captured() {
            walk.freeze(name, &format!("a subgraph of {} reads it", node.place()));
        }
        if walk.node(i, node).is_none() {
            let why = format!("{} reads it", node.place());
            node.inputs.iter().for_each(|n| walk.freeze(n, &why));
        }
    }
    for output in &onnx.outputs {
        walk.freeze(&output.name, "it is an output of the model");
    }
    for (value, why) in pinned {
        walk.freeze(value, why);
    }
    walk.found.sets.settle();
    walk.found.layouts = walk.layouts;
    (walk.found, walk.wanted)
}

impl Walk<'_> {
    fn freeze(&mut self, value: &str, why: &str) {
        if let Some(layout) = self.layouts.get(value) {
            self.found.sets.freeze_all(layout, why);
        }
    }

    pub(super) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.known.get(name).map(|v| v.0.shape.as_slice())
    }

    pub(super) fn slice(&mut self, node: usize, input: usize, axis: usize, segments: &[Segment]) {
        self.found.edits.push(Edit::Slice { node, input, axis, segments: segments.to_vec() });
    }

    pub(super) fn put(&mut self, node: &Node, layout: Layout) -> Option<()> {
        self.layouts.insert(node.output().to_string(), layout);
        Some(())
    }

    /// Follows one node; `None` where what it reads must stay.
    fn node(&mut self, index: usize, node: &Node) -> Option<()> {
        match node.op() {
            "Conv" => self.conv(index, node),
            "ConvTranspose" => self.conv_transpose(index, node),
            "Gemm" | "MatMul" => self.product(index, node),
            "BatchNormalization" | "InstanceNormalization" => self.normalization(index, node),
            op if JOINING.contains(&op) => self.joining(index, node),
            "Softmax" | "LogSoftmax" => self.softmax(node),
            "Concat" => self.concat(node),
            // Numbers of channels are judged where they are used.
            "Shape" => Some(()),
            "Slice" => self.sliced(index, node),
            "Split" => self.split(index, node),
            "Gather" => self.gathered(node),
            "Transpose" | "Squeeze" | "Unsqueeze" | "Flatten" | "Reshape" | "Pad" | "Resize" => {
                self.moved(index, node)
            }
            op if op.starts_with("Reduce") => self.reduced(node),
            // Indices of a MaxPool count over all channels.
            "MaxPool" if node.outputs.len() > 1 => None,
            op if PLAIN.contains(&op) => {
                let layout = self.layouts.get(node.input(0)?).cloned();
                let spatial = !op.contains("Pool") || layout.as_ref().is_none_or(|l| l.axis == 1);
                match layout.filter(|_| spatial) {
                    Some(layout) => self.put(node, layout),
                    None if self.layouts.contains_key(node.input(0)?) => None,
                    None => Some(()),
                }
            }
            _ => None,
        }
    }

    /// Element-wise with broadcasting: the channels of all tensors are the same.
    fn joining(&mut self, index: usize, node: &Node) -> Option<()> {
        let rank = self.shape(node.output())?.len();
        let aligned = |name: &str, walk: &Self| -> Option<(Layout, usize)> {
            let own = walk.shape(name)?.len();
            let layout = walk.layouts.get(name)?.clone();
            Some((Layout { axis: layout.axis + rank - own, ..layout }, own))
        };
        let mut all: Vec<Option<Layout>> = Vec::new();
        for name in &node.inputs {
            all.push(aligned(name, self).map(|a| a.0));
        }
        let Some(first) = all.iter().flatten().next().cloned() else { return Some(()) };
        let extent = self.found.sets.extent(&first.segments);
        for (input, layout) in all.iter().enumerate() {
            let name = &node.inputs[input];
            let own = self.shape(name)?;
            let at = (first.axis + own.len()).checked_sub(rank);
            let here = at.map_or(1, |a| own[a]);
            match layout {
                Some(layout) if layout.axis == first.axis && here == extent => {
                    self.joined(&first, layout, &format!("{} does not fit it", node.place()));
                }
                Some(_) => return None,
                None if here == 1 => {}
                None => {
                    self.onnx.constant(name)?;
                    self.slice(index, input, at?, &first.segments);
                }
            }
        }
        self.put(node, first)
    }

    fn concat(&mut self, node: &Node) -> Option<()> {
        let rank = self.shape(node.output())?.len() as i64;
        let axis = node.int("axis", 0);
        let axis = usize::try_from(if axis < 0 { axis + rank } else { axis }).ok()?;
        let layouts: Vec<Option<Layout>> = node.inputs.iter().map(|n| self.layouts.get(n).cloned()).collect();
        let Some(first) = layouts.iter().flatten().next().cloned() else { return Some(()) };
        if layouts.iter().flatten().any(|l| l.axis != first.axis) {
            return None;
        }
        if axis != first.axis {
            let why = format!("{} does not fit it", node.place());
            for layout in &layouts {
                self.joined(&first, layout.as_ref()?, &why);
            }
            return self.put(node, first);
        }
        let mut segments = Vec::new();
        for (name, layout) in node.inputs.iter().zip(layouts) {
            match layout {
                Some(layout) => segments.extend(layout.segments),
                None => {
                    let set = self.found.sets.add(vec![0.0; *self.shape(name)?.get(axis)?]);
                    self.found.sets.freeze(set, "no layer makes it");
                    segments.push(Segment { set, inner: 1 });
                }
            }
        }
        self.put(node, Layout { axis, segments })
    }
}
