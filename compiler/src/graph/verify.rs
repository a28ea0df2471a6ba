//! Proves that a graph is well formed. The pass runner calls it after every pass.
//!
//! 1. Names of values are unique and not empty; every number refers to a value.
//! 2. A value is written once: it is an input, a capture, a constant, or the output of one node;
//!    nodes read what is written before them.
//! 3. A constant has the type of its value, and a symbol bounds each dimension that has one.
//! 4. The outputs of a node have the types that the operator's inference gives.
//! 5. Outputs of the graph are written. Captures have the type of the value they capture.
//! 6. Bodies are graphs that obey the same rules.
//!
//! Goldens: `tests/golden/graph`, those named `bad_*` must fail.

use super::{Attr, Ctx, Graph, Node, ValueId, text};
use crate::error::{Error, Result};
use std::collections::HashSet;

/// A violation: the node it concerns, if one, and what is wrong.
struct Fault {
    node: Option<usize>,
    reason: String,
}

/// An internal error where a graph breaks one of the invariants; it shows the guilty line.
pub fn verify(graph: &Graph) -> Result<()> {
    let faults = check(graph, None);
    let Some(first) = faults.first() else { return Ok(()) };
    let printer = text::lines(graph);
    let line = first.node.and_then(|n| printer.node_lines.get(n)).copied().unwrap_or(0);
    let shown = printer.lines.get(line).map_or("", |l| l.trim());
    Err(Error::bug(format!("{} in: {shown}", first.reason)).at(format!("graph {}", graph.name)))
}

/// The text of a graph with every violation under its line; the text alone for a valid graph.
pub fn explain(graph: &Graph) -> String {
    let printer = text::lines(graph);
    let mut output = String::new();
    let faults = check(graph, None);
    for (number, line) in printer.lines.iter().enumerate() {
        output.push_str(&format!("{line}\n"));
        for fault in &faults {
            let at = fault.node.and_then(|n| printer.node_lines.get(n)).copied().unwrap_or(0);
            if at == number {
                output.push_str(&format!("  ^ {}\n", fault.reason));
            }
        }
    }
    output
}

/// State of the check of one graph.
struct Check<'a> {
    graph: &'a Graph,
    written: HashSet<ValueId>,
    faults: Vec<Fault>,
}

fn check(graph: &Graph, outer: Option<&Graph>) -> Vec<Fault> {
    let mut check = Check { graph, written: HashSet::new(), faults: Vec::new() };
    if check.references(outer) {
        check.values(outer);
        for (i, node) in graph.nodes.iter().enumerate() {
            check.node(i, node);
        }
        for &id in &graph.outputs {
            if !check.written.contains(&id) {
                check.fault(None, format!("output '{}' is written by nothing", graph.value(id).name));
            }
        }
    }
    check.faults
}

impl Check<'_> {
    fn fault(&mut self, node: Option<usize>, reason: impl Into<String>) {
        self.faults.push(Fault { node, reason: reason.into() });
    }

    /// Rule 1; nothing else can be checked where it is broken.
    fn references(&mut self, outer: Option<&Graph>) -> bool {
        let count = self.graph.values.len();
        let inside = |id: &ValueId| (*id as usize) < count;
        let graph = self.graph;
        if !graph.inputs.iter().chain(&graph.outputs).all(inside) {
            self.fault(None, "an input or output is no value");
        }
        for &(from, to) in &graph.captures {
            if !inside(&to) || outer.is_none_or(|o| from as usize >= o.values.len()) {
                self.fault(None, "a capture is no value");
            }
        }
        for (i, node) in graph.nodes.iter().enumerate() {
            if !node.inputs.iter().chain(&node.outputs).flatten().all(inside) {
                self.fault(Some(i), "reads or writes what is no value");
            }
        }
        let mut names = HashSet::new();
        for value in &graph.values {
            if value.name.is_empty() || !names.insert(value.name.as_str()) {
                self.fault(None, format!("two values are named '{}', or one has no name", value.name));
            }
        }
        self.faults.is_empty()
    }

    fn write(&mut self, node: Option<usize>, id: ValueId) {
        if !self.written.insert(id) {
            self.fault(node, format!("'{}' is written a second time", self.graph.value(id).name));
        }
    }

    /// Rules 2, 3 and 5 for what no node writes.
    fn values(&mut self, outer: Option<&Graph>) {
        let graph = self.graph;
        graph.inputs.iter().for_each(|&id| self.write(None, id));
        for &(from, id) in &graph.captures {
            self.write(None, id);
            if outer.is_some_and(|o| o.value(from).ty != graph.value(id).ty) {
                self.fault(None, format!("capture '{}' has another type outside", graph.value(id).name));
            }
        }
        for (id, value) in graph.values.iter().enumerate() {
            if let Some(tensor) = &value.constant {
                self.write(None, id as ValueId);
                if tensor.ty != value.ty {
                    self.fault(None, format!("constant '{}' holds {}", value.name, tensor.ty));
                }
            }
            let bounded = |(i, s): (usize, &Option<u32>)| {
                s.is_none_or(|s| {
                    graph.symbols.get(s as usize).map(|s| s.max) == value.ty.shape.get(i).copied()
                })
            };
            if !value.symbolic.iter().enumerate().all(bounded) {
                self.fault(None, format!("'{}' has a dimension that is not its symbol's bound", value.name));
            }
        }
    }

    fn node(&mut self, i: usize, node: &Node) {
        for &id in node.inputs.iter().flatten() {
            if !self.written.contains(&id) {
                self.fault(Some(i), format!("reads '{}' before it is written", self.graph.value(id).name));
            }
        }
        for (key, attr) in &node.attrs.0 {
            if let Attr::Graph(body) = attr {
                for fault in check(body, Some(self.graph)) {
                    self.fault(Some(i), format!("{key}: {}", fault.reason));
                }
                for &(from, _) in body.captures.iter().filter(|c| (c.0 as usize) < self.graph.values.len()) {
                    if !self.written.contains(&from) {
                        let name = &self.graph.value(from).name;
                        self.fault(Some(i), format!("{key} captures '{name}' before it is written"));
                    }
                }
            }
        }
        node.outputs.iter().flatten().for_each(|&id| self.write(Some(i), id));
        match (node.op.infer)(&Ctx { graph: self.graph, node }) {
            Err(error) => self.fault(Some(i), format!("inference fails: {error}")),
            Ok(types) if types.len() < node.outputs.len() => self.fault(Some(i), "has too many outputs"),
            Ok(types) => {
                for (id, ty) in node.outputs.iter().zip(&types) {
                    if let Some(value) = id.map(|id| self.graph.value(id)).filter(|v| v.ty != *ty) {
                        self.fault(Some(i), format!("'{}' is {}, inferred {ty}", value.name, value.ty));
                    }
                }
            }
        }
    }
}
