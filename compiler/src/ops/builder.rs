//! Adding nodes: types inferred, constants folded, compound operators expanded, in one place.
//!
//! Both the driver that reads a model and the operators that expand into simpler nodes add nodes
//! here, so whatever is in a graph has been checked and typed, and an expander may ask for the
//! type or the constant value of what it just built.

use super::{Ctx, ExpandFn, Lower, NodeBuilder, Operator, find};
use crate::base::{DType, Tensor, TensorType};
use crate::definition::{Env, LoweredValue, Lowering, interpret, meaningful};
use crate::error::{Error, Result};
use crate::graph::{Attr, Attrs, DefineFn, Graph, Node, Results, Value, ValueId, check_size};
use std::collections::HashMap;

/// Expansions may nest this deep.
const MAX_NESTING: usize = 16;

/// Opset of the nodes that expanders add: they are written for the newest meaning.
const NEWEST: i64 = i64::MAX;

/// A node to be added.
pub struct Pending {
    /// The operator.
    pub op: &'static Operator,
    /// Opset that the model imports for its domain.
    pub opset: i64,
    /// Name of the node.
    pub name: String,
    /// Attributes.
    pub attrs: Attrs,
    /// Values read.
    pub inputs: Vec<Option<ValueId>>,
    /// Names of the outputs; `None` where an output is omitted.
    pub outputs: Vec<Option<String>>,
}

impl Pending {
    /// The node, with these outputs.
    fn node(self, outputs: Vec<Option<ValueId>>) -> Node {
        let Pending { op, opset, name, attrs, inputs, .. } = self;
        Node { op, opset, name, attrs, inputs, outputs }
    }
}

impl<'a> NodeBuilder<'a> {
    /// A builder on a graph; `name` prefixes what expanders add.
    pub fn new(graph: &'a mut Graph, name: impl Into<String>, opset: i64) -> Self {
        NodeBuilder { graph, name: name.into(), nodes: Vec::new(), opset, nesting: 0 }
    }

    /// Type of a value.
    pub fn ty(&self, value: ValueId) -> &TensorType {
        &self.graph.value(value).ty
    }

    /// Adds a constant.
    pub fn constant(&mut self, tensor: Tensor) -> ValueId {
        let name = format!("{}/const.{}", self.name, self.graph.values.len());
        self.graph.add_constant(name, tensor)
    }

    /// Adds a node of ai.onnx, in its newest meaning, and returns its outputs.
    pub fn node(
        &mut self,
        op: &str,
        inputs: &[ValueId],
        attrs: Attrs,
        outputs: usize,
    ) -> Result<Vec<ValueId>> {
        let inputs: Vec<_> = inputs.iter().copied().map(Some).collect();
        self.node_in("", op, &inputs, attrs, outputs)
    }

    /// Adds a node of any domain; inputs may be omitted.
    pub fn node_in(
        &mut self,
        domain: &str,
        op: &str,
        inputs: &[Option<ValueId>],
        attrs: Attrs,
        outputs: usize,
    ) -> Result<Vec<ValueId>> {
        let row = find(domain, op).ok_or_else(|| {
            Error::model(format!("needs the operator {op}, which is not supported"))
                .advise("Rewrite the model without it")
        })?;
        let name = format!("{}/{op}.{}", self.name, self.graph.values.len());
        let names = (0..outputs).map(|i| Some(if i == 0 { name.clone() } else { format!("{name}.{i}") }));
        let pending = Pending {
            op: row,
            opset: NEWEST,
            name: name.clone(),
            attrs,
            inputs: inputs.to_vec(),
            outputs: names.collect(),
        };
        Ok(self.add(pending)?.into_iter().flatten().collect())
    }

    /// A node with one input, one output and no attributes.
    pub fn unary(&mut self, op: &str, x: ValueId) -> Result<ValueId> {
        self.one(op, &[x], Attrs::default())
    }

    /// Adds a cast.
    pub fn cast(&mut self, x: ValueId, to: DType) -> Result<ValueId> {
        self.one("Cast", &[x], Attrs::default().with("to", Attr::Int(to as i64)))
    }

    /// A node with two inputs, one output and no attributes.
    pub fn binary(&mut self, op: &str, a: ValueId, b: ValueId) -> Result<ValueId> {
        self.one(op, &[a, b], Attrs::default())
    }

    /// A node with one output.
    pub fn one(&mut self, op: &str, inputs: &[ValueId], attrs: Attrs) -> Result<ValueId> {
        Ok(self.node(op, inputs, attrs, 1)?[0])
    }

    /// Adds a node: infers its types, then folds it, expands it or keeps it. Gives one value per
    /// name of `pending.outputs`.
    pub fn add(&mut self, pending: Pending) -> Result<Vec<Option<ValueId>>> {
        let op = pending.op;
        if !op.versions.iter().any(|&v| v <= pending.opset) {
            let first = op.versions.iter().min().copied().unwrap_or(1);
            return Err(Error::model(format!(
                "operator {} begins with opset {first}, but the model imports {}",
                op.name, pending.opset
            ))
            .advise("Correct the model's opset_import"));
        }
        let (mut scratch, mut node) = isolate(self.graph, &pending);
        let types = (op.infer)(&Ctx { graph: &scratch, node: &node })?;
        if pending.outputs.len() > types.len() {
            return Err(Error::model(format!(
                "operator {} has {} outputs here, not {}",
                op.name,
                types.len(),
                pending.outputs.len()
            )));
        }
        for ty in &types {
            check_size(ty)?;
        }
        for ((output, name), ty) in node.outputs.iter_mut().zip(&pending.outputs).zip(&types) {
            *output = name.as_ref().map(|n| scratch.add_value(n.clone(), ty.clone()));
        }
        match op.lower {
            Lower::Expand(expand) => self.expand(expand, &node, scratch, &pending),
            Lower::Define(define) if is_foldable(&scratch, &node) => {
                let folded = folded(define, &scratch, &node)?;
                let named = pending.outputs.iter().cloned().zip(folded);
                let outputs: Vec<_> =
                    named.map(|(name, t)| Some(self.graph.add_constant(name?, t?))).collect();
                if self.graph.sample > 0 {
                    self.graph.folded.push(pending.node(outputs.clone()));
                }
                Ok(outputs)
            }
            Lower::Define(_) | Lower::Control => Ok(self.keep(pending, types)),
        }
    }

    fn keep(&mut self, mut pending: Pending, types: Vec<TensorType>) -> Vec<Option<ValueId>> {
        let named = std::mem::take(&mut pending.outputs).into_iter().zip(types);
        let outputs: Vec<_> = named.map(|(name, ty)| Some(self.graph.add_value(name?, ty))).collect();
        self.nodes.push(pending.node(outputs.clone()));
        outputs
    }

    /// Expands in a graph of its own, then moves the result here.
    fn expand(
        &mut self,
        expand: ExpandFn,
        node: &Node,
        scratch: Graph,
        pending: &Pending,
    ) -> Result<Vec<Option<ValueId>>> {
        if self.nesting >= MAX_NESTING {
            return Err(Error::bug(format!("expansions nest more than {MAX_NESTING} deep")));
        }
        let mut inner_graph = scratch.clone();
        let mut inner = NodeBuilder::new(&mut inner_graph, pending.name.clone(), self.opset);
        inner.nesting = self.nesting + 1;
        let results = expand(&Ctx { graph: &scratch, node }, &mut inner)?;
        let nodes = inner.nodes;
        for (result, output) in results.iter().zip(&node.outputs) {
            let (have, want) = (&inner_graph.value(*result).ty, output.map(|o| &scratch.value(o).ty));
            if want.is_some_and(|w| w != have) {
                return Err(Error::bug(format!(
                    "{} was inferred as {want:?}, expanded to {have}",
                    node.op.name
                )));
            }
        }
        if results.len() < pending.outputs.len() {
            return Err(Error::bug(format!("{} expands to {} outputs", node.op.name, results.len())));
        }
        let mut moved: HashMap<ValueId, ValueId> =
            node.inputs.iter().flatten().copied().zip(pending.inputs.iter().flatten().copied()).collect();
        for (result, name) in results.iter().zip(&pending.outputs) {
            if let Some(name) = name.as_ref().filter(|_| !moved.contains_key(result)) {
                inner_graph.values[*result as usize].name = name.clone();
                self.take(&inner_graph, *result, &mut moved);
            }
        }
        for mut node in nodes {
            for value in node.inputs.iter_mut().chain(&mut node.outputs).flatten() {
                *value = self.take(&inner_graph, *value, &mut moved);
            }
            self.nodes.push(node);
        }
        for mut node in std::mem::take(&mut inner_graph.folded) {
            for value in node.inputs.iter_mut().chain(&mut node.outputs).flatten() {
                *value = self.take(&inner_graph, *value, &mut moved);
            }
            self.graph.folded.push(node);
        }
        let taken = results.iter().zip(&pending.outputs);
        Ok(taken.map(|(r, name)| name.as_ref().map(|_| moved[r])).collect())
    }

    /// The value here that a value of an expansion becomes.
    fn take(&mut self, from: &Graph, value: ValueId, moved: &mut HashMap<ValueId, ValueId>) -> ValueId {
        *moved.entry(value).or_insert_with(|| {
            self.graph.values.push(from.value(value).clone());
            (self.graph.values.len() - 1) as ValueId
        })
    }
}

/// Constants that grow by folding are folded up to this size: larger ones cost more flash than
/// the time they save.
const FOLD_BYTES: usize = 1 << 16;

/// The same where sizes are known only at run time: whether something is folded must not depend on them.
const FOLD_SIZED: usize = 1 << 26;

/// Whether a node's outputs are computed now: its inputs are constants and the result is no larger
/// than they are, or small. Dequantization stays: integer regions are recognized by it.
fn is_foldable(scratch: &Graph, node: &Node) -> bool {
    let constants = || node.inputs.iter().flatten().map(|&i| scratch.value(i).constant.as_ref());
    let given: usize = constants().flatten().map(|t| t.ty.bytes()).sum();
    let made: usize = node.outputs.iter().flatten().map(|&o| scratch.value(o).ty.bytes()).sum();
    let small = made <= if scratch.sample == 0 { given.max(FOLD_BYTES) } else { FOLD_SIZED };
    constants().all(|c| c.is_some()) && small && node.op.name != "DequantizeLinear"
}

/// The values of a graph as a lowering has them.
fn lowered(graph: &Graph) -> Vec<LoweredValue> {
    let lowered =
        |v: &Value| LoweredValue { name: v.name.clone(), ty: v.ty.clone(), constant: v.constant.clone() };
    graph.values.iter().map(lowered).collect()
}

/// The outputs of a node on constants.
fn folded(define: DefineFn, scratch: &Graph, node: &Node) -> Result<Results> {
    let (mut inputs, mut attrs): (Vec<Option<&Tensor>>, Vec<_>) = Default::default();
    inputs.extend(node.inputs.iter().map(|i| scratch.value((*i)?).constant.as_ref()));
    for (name, attr) in &node.attrs.0 {
        attrs.push((name, attr));
        if let Attr::Tensor(tensor) = attr {
            inputs.push(Some(tensor));
        }
    }
    let what = || {
        let types: Vec<_> = node.outputs.iter().map(|o| o.map(|o| &scratch.value(o).ty)).collect();
        format!("{} {} {} {attrs:?} {types:?}", node.op.domain, node.op.name, node.opset)
    };
    scratch.once(what, &inputs, || fold(define, scratch, node))
}

/// Interprets the node's own definitions.
fn fold(define: DefineFn, scratch: &Graph, node: &Node) -> Result<Results> {
    let mut lowering = Lowering { values: lowered(scratch), ..Lowering::default() };
    define(&Ctx { graph: scratch, node }, &mut lowering)?;
    meaningful(&lowering.stages)?;
    let mut env = Env::new(&lowering);
    interpret(&lowering, &mut env)?;
    Ok(node.outputs.iter().map(|o| o.and_then(|o| env.get(o, &scratch.value(o).ty))).collect())
}

/// Whether a node has the types that its outputs have, and can be lowered, with what is known of its
/// inputs.
pub fn is_computed(graph: &Graph, node: &Node) -> bool {
    let output = |o: &Option<ValueId>| o.map(|o| graph.value(o).name.clone());
    let Node { op, opset, name, attrs, inputs, outputs } = node.clone();
    let outputs = outputs.iter().map(output).collect();
    let (mut scratch, mut alone) = isolate(graph, &Pending { op, opset, name, attrs, inputs, outputs });
    let Ok(types) = (op.infer)(&Ctx { graph: &scratch, node: &alone }) else { return false };
    for ((id, to), ty) in node.outputs.iter().zip(&mut alone.outputs).zip(types) {
        let Some(value) = id.map(|id| graph.value(id)) else { continue };
        if value.ty != ty {
            return false;
        }
        *to = Some(scratch.add_value(value.name.clone(), ty));
    }
    let Lower::Define(define) = op.lower else { return true };
    let mut lowering = Lowering { values: lowered(&scratch), ..Lowering::default() };
    define(&Ctx { graph: &scratch, node: &alone }, &mut lowering).is_ok()
}

/// A graph of the node's inputs alone, and the node on it, its outputs counted but not there.
fn isolate(graph: &Graph, pending: &Pending) -> (Graph, Node) {
    let (symbols, sample, scope) = (graph.symbols.clone(), graph.sample, graph.scope);
    let mut alone = Graph { symbols, sample, scope, known: graph.known.clone(), ..Graph::default() };
    let mut ids: HashMap<ValueId, ValueId> = HashMap::new();
    let mut place = |id: ValueId| {
        *ids.entry(id).or_insert_with(|| {
            let value: Value = graph.value(id).clone();
            alone.values.push(value);
            (alone.values.len() - 1) as ValueId
        })
    };
    let inputs = pending.inputs.iter().map(|v| v.map(&mut place)).collect();
    let node = Node {
        op: pending.op,
        opset: pending.opset,
        name: pending.name.clone(),
        attrs: pending.attrs.clone(),
        inputs,
        outputs: vec![None; pending.outputs.len()],
    };
    (alone, node)
}
