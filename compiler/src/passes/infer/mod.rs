//! Turns a decoded model into a typed graph: one walk over its nodes, in order.
//!
//! Each node is looked up in the operator table, typed, and folded, expanded or kept by the
//! builder of [`crate::ops`]. Identity only renames. Control flow whose condition or trip count
//! is constant is inlined, sequences dissolve into their elements; otherwise bodies become typed
//! graphs of their own. What is unsupported is collected, so that all of it can be listed.

mod body;
mod bounded;
mod chosen;
mod control;
mod counted;
mod counters;
mod extent;
mod flags;
mod flex;
mod given;
mod maps;
mod masked;
mod meeting;
mod moving;
mod range;
mod ranks;
mod scan;
mod sequence;
mod spans;
mod words;

use crate::base::{Tensor, TensorType};
use crate::error::{Error, NODE_ADVICE, Result};
use crate::graph::{Graph, Known, Node, ValueId};
use crate::import::{Body, Model, SourceNode, Words};
use crate::ops::{NodeBuilder, Pending, find};
pub use given::Given;
use given::{Numbers, Taken};
pub use meeting::infer_sample;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// What inference gives.
pub struct Inferred {
    /// The graph; incomplete where there are errors.
    pub graph: Graph,
    /// What is wrong or unsupported, in the order of the nodes.
    pub errors: Vec<Error>,
    /// What the user should know: declared shapes that do not hold.
    pub notes: Vec<String>,
    /// The tensors that the names of the main graph stand for. Names of inlined control flow are not the
    /// graph's own.
    pub names: HashMap<String, ValueId>,
}

impl Inferred {
    /// The graph and what its names stand for, or the first error.
    pub fn into_named(mut self) -> Result<(Graph, HashMap<String, ValueId>)> {
        let names = std::mem::take(&mut self.names);
        Ok((self.into_result()?.0, names))
    }

    /// The graph, or the first error with the number of the others.
    pub fn into_result(self) -> Result<(Graph, Vec<String>)> {
        let others = self.errors.len().saturating_sub(1);
        match self.errors.into_iter().next() {
            None => Ok((self.graph, self.notes)),
            Some(first) if others == 0 => Err(first),
            Some(mut first) => {
                let more = format!("{others} more problems: lmc inspect lists them");
                first.advice = match first.advice.is_empty() {
                    true => more,
                    false => format!("{}. {more}", first.advice),
                };
                Err(first)
            }
        }
    }
}

/// What one walk may cost: nodes that are typed, bodies as often as they are unrolled and tried. What cannot be typed in
/// one form is tried in another, and so is each loop or branch around it.
const MOST_COST: usize = 1 << 21;

/// What a node costs; in what only counts iterations, 1.
const NODE_COST: usize = 8;

/// What a name stands for.
#[derive(Clone)]
enum Binding {
    /// A tensor.
    Value(ValueId),
    /// A sequence of tensors, known element by element; an absent optional is an empty one.
    Sequence(Vec<ValueId>),
    /// A tensor of strings: the numbers of words.
    Words(ValueId),
    /// The result of a node that failed.
    Failed,
}

/// A graph under construction: the main one, and one per body around the current node.
#[derive(Default)]
struct Level {
    graph: Graph,
    nodes: Vec<Node>,
    used: HashSet<String>,
    /// For names that were given before, the number from which on one behind them may be free.
    counts: HashMap<String, usize>,
    /// How many nodes have had each name. Models and unrolled loops repeat names.
    named: HashMap<String, usize>,
    /// The flags of what lies between computed ends.
    cuts: HashMap<chosen::Between, ValueId>,
    /// What values are taken for where they say how large something is.
    taken: HashMap<ValueId, Taken>,
    /// Of the places of a mask, and of the front of a list: whose they are, and how many.
    fronts: HashMap<ValueId, (ValueId, i64)>,
}

impl Level {
    fn new(sample: u32, scope: usize, known: Option<Arc<Known>>) -> Self {
        Level { graph: Graph { sample, scope, known, ..Graph::default() }, ..Level::default() }
    }

    /// A name for a node, which the names of what it expands to begin with.
    fn node_name(&mut self, name: &str) -> String {
        let count = self.named.entry(name.to_string()).or_default();
        *count += 1;
        if *count == 1 { name.to_string() } else { format!("{name}#{count}") }
    }

    /// A name that no value of the graph has yet.
    fn unique(&mut self, name: &str) -> String {
        if self.used.insert(name.to_string()) {
            return name.to_string();
        }
        let count = self.counts.entry(name.to_string()).or_insert(2);
        loop {
            let candidate = format!("{name}.{count}");
            *count += 1;
            if self.used.insert(candidate.clone()) {
                return candidate;
            }
        }
    }

    /// Takes back a name that [`Self::unique`] gave.
    fn release(&mut self, name: &str) {
        self.used.remove(name);
        if let Some((before, number)) = name.rsplit_once('.')
            && let (Some(count), Ok(number)) = (self.counts.get_mut(before), number.parse::<usize>())
        {
            *count = number.min(*count);
        }
    }
}

/// The names of one ONNX graph, whose nodes go to a level; an inlined body shares its level.
struct Frame {
    names: HashMap<String, Binding>,
    level: usize,
}

/// The walk's state.
struct Driver {
    levels: Vec<Level>,
    frames: Vec<Frame>,
    /// How many graphs have been begun within the main one.
    scopes: usize,
    /// What the walk has cost so far, and what the next node costs.
    cost: usize,
    node_cost: usize,
    /// How often the loops around the current node repeat it that are being unrolled.
    repeats: usize,
    errors: Vec<Error>,
    notes: Vec<String>,
    opset: i64,
    words: Words,
    given: Given,
    numbers: Numbers,
}

/// Types the model for the given types of its inputs.
pub fn infer(model: &Model, inputs: &[TensorType]) -> Inferred {
    infer_sample(model, inputs, 0, &Given::default())
}

/// One walk over the model, and what was found of numbers in it.
fn walked(
    model: &Model,
    inputs: &[TensorType],
    sample: u32,
    given: &Given,
    numbers: Numbers,
) -> (Inferred, Numbers) {
    let mut driver = Driver {
        levels: vec![Level::new(sample, 0, given.known.clone())],
        frames: vec![Frame { names: HashMap::new(), level: 0 }],
        scopes: 0,
        cost: 0,
        node_cost: NODE_COST,
        repeats: 1,
        errors: Vec::new(),
        notes: Vec::new(),
        opset: model.opset,
        words: model.words.clone(),
        given: given.clone(),
        numbers,
    };
    driver.levels[0].graph.name = model.body.name.clone();
    for (declared, ty) in model.body.inputs.iter().zip(inputs) {
        let level = &mut driver.levels[0];
        let name = level.unique(&declared.name);
        let id = level.graph.add_value(name, ty.clone());
        level.graph.inputs.push(id);
        let binding = if declared.words { Binding::Words(id) } else { Binding::Value(id) };
        driver.bind(&declared.name, binding);
        if declared.words {
            driver.notes.push(format!(
                "input '{}' takes strings: give it numbers of words, which header and binding list",
                declared.name
            ));
        }
    }
    driver.walk(&model.body);
    if driver.errors.is_empty() {
        driver.finish(&model.body);
    }
    let level = driver.levels.swap_remove(0);
    let graph = Graph { nodes: level.nodes, ..level.graph };
    let tensor = |(name, binding)| match binding {
        Binding::Value(id) => Some((name, id)),
        _ => None,
    };
    let names = driver.frames.swap_remove(0).names.into_iter().filter_map(tensor).collect();
    (Inferred { graph, errors: driver.errors, notes: driver.notes, names }, driver.numbers)
}

impl Driver {
    fn level(&mut self) -> &mut Level {
        let at = self.frames.last().map_or(0, |f| f.level);
        &mut self.levels[at]
    }

    fn graph(&self) -> &Graph {
        &self.levels[self.frames.last().map_or(0, |f| f.level)].graph
    }

    fn bind(&mut self, name: &str, binding: Binding) {
        if let Some(frame) = self.frames.last_mut().filter(|_| !name.is_empty()) {
            frame.names.insert(name.to_string(), binding);
        }
    }

    fn add_constant(&mut self, name: &str, tensor: Tensor) -> ValueId {
        let level = self.level();
        let name = level.unique(name);
        level.graph.add_constant(name, tensor)
    }

    /// The constant that a value is, if it is one.
    fn constant(&self, value: ValueId) -> Option<&Tensor> {
        self.graph().value(value).constant.as_ref()
    }

    /// Adds the constants and nodes of a body to the current frame.
    fn walk(&mut self, body: &Body) {
        for (name, tensor) in &body.constants {
            let id = self.add_constant(name, tensor.clone());
            self.bind(name, Binding::Value(id));
        }
        for (name, tensor) in &body.words {
            let id = self.add_constant(name, tensor.clone());
            self.bind(name, Binding::Words(id));
        }
        for node in &body.nodes {
            if let Err(error) = self.node(node) {
                self.errors.push(error.or_advise(NODE_ADVICE).at(node.place()));
                node.outputs.iter().for_each(|o| self.bind(o, Binding::Failed));
            }
        }
    }

    /// The bindings of the node's inputs; `None` where one of them failed.
    fn inputs(&mut self, node: &SourceNode) -> Result<Option<Vec<Option<Binding>>>> {
        let mut bindings = Vec::with_capacity(node.inputs.len());
        for name in &node.inputs {
            if name.is_empty() {
                bindings.push(None);
                continue;
            }
            match self.lookup(name) {
                None => {
                    return Err(Error::model(format!("reads '{name}', which nothing writes"))
                        .advise("The model is incomplete; onnx.checker reports the same"));
                }
                Some(Binding::Failed) => return Ok(None),
                bound => bindings.push(bound),
            }
        }
        Ok(Some(bindings))
    }

    fn node(&mut self, node: &SourceNode) -> Result<()> {
        self.cost += self.node_cost;
        if self.cost > MOST_COST {
            return Err(Error::model(
                "loops and branches lie within each other too deep for all their forms to be tried",
            )
            .advise("Nest fewer of them, or decide by constants which are taken and how often"));
        }
        let Some(inputs) = self.inputs(node)? else {
            node.outputs.iter().for_each(|o| self.bind(o, Binding::Failed));
            return Ok(());
        };
        let outputs = match (node.domain.as_str(), node.op.as_str()) {
            ("", "Identity") => inputs,
            ("", "If") => self.if_node(node, inputs)?,
            ("", "Loop") => self.loop_node(node, inputs)?,
            ("", "Scan") => self.scan_node(node, inputs)?,
            ("", op) if sequence::NAMES.contains(&op) => self.sequence_node(node, inputs)?,
            ("ai.onnx.ml", "ZipMap") => self.zip_map(node, inputs)?,
            ("ai.onnx.preview", "FlexAttention") => self.flex_attention(node, values(&inputs)?)?,
            _ => match self.words_node(node, &inputs)? {
                Some(outputs) => outputs,
                None => self.tensor_node(node, values(&inputs)?)?,
            },
        };
        for (name, binding) in node.outputs.iter().zip(outputs) {
            self.bind(name, binding.unwrap_or(Binding::Failed));
        }
        Ok(())
    }

    /// A node on tensors.
    fn tensor_node(
        &mut self,
        node: &SourceNode,
        inputs: Vec<Option<ValueId>>,
    ) -> Result<Vec<Option<Binding>>> {
        if let ("", "Range") = (node.domain.as_str(), node.op.as_str())
            && let Some(outputs) = self.moving_range(node, &inputs)?
        {
            return Ok(outputs);
        }
        let sized = self.sized(node, inputs)?;
        let (inputs, checks) = self.tried_sizes(node, sized)?;
        let chosen = match (node.domain.as_str(), node.op.as_str()) {
            ("", "Slice") => self.moving_slice(node, &inputs)?,
            ("", "TopK") => self.computed_top(node, &inputs)?,
            ("", "ScatterND") => self.masked_write(node, &inputs)?,
            _ => None,
        };
        let made = match chosen {
            Some(outputs) => Ok(outputs),
            None => self.any_size(node, &inputs),
        };
        let outputs = made.map_err(|e| self.unbounded(node, &inputs, e))?;
        if checks.is_empty() {
            return Ok(outputs);
        }
        let checked = |output: Option<Binding>| match output {
            Some(Binding::Value(id)) => Ok(Some(Binding::Value(self.checked(&node.name, id, &checks)?))),
            other => Ok(other),
        };
        outputs.into_iter().map(checked).collect()
    }

    /// A node of the operator table, or what is as long as computed numbers say.
    fn any_size(&mut self, node: &SourceNode, inputs: &[Option<ValueId>]) -> Result<Vec<Option<Binding>>> {
        match self.computed_extent(node, inputs)? {
            Some(outputs) => Ok(outputs),
            None => self.plain_node(node, inputs.to_vec()).inspect_err(|_| self.meet(node, inputs)),
        }
    }

    /// A node of the operator table.
    fn plain_node(
        &mut self,
        node: &SourceNode,
        inputs: Vec<Option<ValueId>>,
    ) -> Result<Vec<Option<Binding>>> {
        let op = find(&node.domain, &node.op).ok_or_else(|| unsupported(node))?;
        if let Some(attribute) = node.bodies.keys().next() {
            return Err(Error::model(format!("the graph attribute {attribute} is not expected here")));
        }
        let level = self.level();
        let names = node.outputs.iter().map(|n| (!n.is_empty()).then(|| level.unique(n))).collect();
        let pending = Pending {
            op,
            opset: node.opset,
            name: level.node_name(&node.name),
            attrs: node.attrs.clone(),
            inputs: inputs.clone(),
            outputs: names,
        };
        let outputs = self.add(pending)?;
        self.follow_flags(op, &inputs, &outputs);
        self.follow_lists(op, &inputs, &outputs);
        Ok(outputs.into_iter().map(|v| v.map(Binding::Value)).collect())
    }

    fn add(&mut self, pending: Pending) -> Result<Vec<Option<ValueId>>> {
        self.build(&pending.name.clone(), |b| b.add(pending))
    }

    /// Runs a builder on the current graph.
    fn build<T>(&mut self, name: &str, f: impl FnOnce(&mut NodeBuilder) -> Result<T>) -> Result<T> {
        let opset = self.opset;
        let level = self.level();
        let mut builder = NodeBuilder::new(&mut level.graph, name, opset);
        let result = f(&mut builder)?;
        level.nodes.append(&mut builder.nodes);
        Ok(result)
    }
}

/// All inputs as tensors; an error where one is a sequence.
fn values(inputs: &[Option<Binding>]) -> Result<Vec<Option<ValueId>>> {
    let value = |binding: &Option<Binding>| match binding {
        Some(Binding::Value(id)) => Ok(Some(*id)),
        None => Ok(None),
        Some(Binding::Words(_)) => Err(Error::model("takes strings, which are not supported")),
        Some(_) => Err(Error::model("takes a sequence, which is not supported here")),
    };
    inputs.iter().map(value).collect()
}

/// Whether an operator is in the table, or dissolves while the graph is typed.
pub fn is_supported(domain: &str, name: &str) -> bool {
    let dissolves = match domain {
        "" => sequence::NAMES.contains(&name),
        "ai.onnx.ml" => name == "ZipMap",
        _ => false,
    };
    dissolves || find(domain, name).is_some()
}

/// The error for an operator that is not in the table.
fn unsupported(node: &SourceNode) -> Error {
    let domain = if node.domain.is_empty() { String::new() } else { format!(" of domain {}", node.domain) };
    Error::model(format!("operator {}{domain} (opset {}) is not supported", node.op, node.opset))
        .advise(advice(&node.domain, &node.op))
}

/// What to do about an operator that is not supported.
fn advice(domain: &str, op: &str) -> &'static str {
    match (domain, op) {
        ("ai.onnx.contrib", _) => {
            "Operators of onnxruntime-extensions prepare data (text, images): leave them out of the model"
        }
        ("com.microsoft.nchwc", _) => {
            "The model was saved as optimized for one processor: save it with ORT_ENABLE_EXTENDED at most"
        }
        ("ai.onnx.training" | "ai.onnx.preview.training", _) => "Export the model for inference",
        (_, "ImageDecoder") => "Give the model the decoded image",
        ("", op) if op.starts_with("String") || op.starts_with("Regex") => "Strings are not supported",
        ("ai.onnx.ml", "CastMap" | "DictVectorizer" | "CategoryMapper") => {
            "Maps and strings are not supported: give the model numbers in a tensor"
        }
        _ => "lmc ops lists the operators that are; rewrite or simplify the model without it",
    }
}
