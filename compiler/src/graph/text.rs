//! The text form of graphs: for reading, goldens and `--dump-after`; [`super::parse`] reads it back.
//!
//! The grammar is in `docs/ir.md`. `{}` prints long constants as a hash, `{:#}` all elements.

use super::{Attr, Graph, Node, Value, ValueId};
use crate::base::lex::write_name;
use crate::base::{Tensor, elements};
use std::fmt;

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut printer = Printer { lines: Vec::new(), node_lines: Vec::new(), full: f.alternate() };
        printer.graph(self, None, 0, "");
        f.write_str(&printer.lines.join("\n"))?;
        f.write_str("\n")
    }
}

/// Prints line by line and remembers where each node of the outermost graph stands.
pub(super) struct Printer {
    pub lines: Vec<String>,
    pub node_lines: Vec<usize>,
    full: bool,
}

pub(super) fn lines(graph: &Graph) -> Printer {
    let mut printer = Printer { lines: Vec::new(), node_lines: Vec::new(), full: false };
    printer.graph(graph, None, 0, "");
    printer
}

/// A name, quoted also where it could be taken for a word of the grammar.
fn word(name: &str) -> String {
    match name {
        "graph" | "symbol" | "input" | "capture" | "const" | "output" | "_" => format!("\"{name}\""),
        _ => write_name(name),
    }
}

fn name(graph: &Graph, id: ValueId) -> String {
    graph.values.get(id as usize).map_or_else(|| format!("\"?{id}\""), |v| word(&v.name))
}

/// `f32[1,?0,8]`, with the numbers of symbols where dimensions are known only at run time.
fn type_text(value: &Value) -> String {
    let dim = |(i, d): (usize, &usize)| match value.symbolic.get(i).copied().flatten() {
        Some(symbol) => format!("?{symbol}"),
        None => d.to_string(),
    };
    let dims: Vec<String> = value.ty.shape.iter().enumerate().map(dim).collect();
    format!("{}[{}]", value.ty.dtype, dims.join(","))
}

fn list<T>(items: &[T], show: impl Fn(&T) -> String) -> String {
    format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(", "))
}

fn text(s: &str) -> String {
    format!("\"{}\"", s.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

impl Printer {
    fn line(&mut self, depth: usize, text: String) {
        self.lines.push(format!("{}{text}", "  ".repeat(depth)));
    }

    fn constant(&self, tensor: &Tensor) -> String {
        format!("{} = {}", tensor.ty, elements::print(tensor, self.full))
    }

    fn graph(&mut self, graph: &Graph, outer: Option<&Graph>, depth: usize, before: &str) {
        self.line(depth, format!("{before}graph {} {{", write_name(&graph.name)));
        for symbol in &graph.symbols {
            let name = symbol.name.as_deref().map(|n| format!("{} ", write_name(n))).unwrap_or_default();
            self.line(depth + 1, format!("symbol {name}<= {}", symbol.max));
        }
        for &id in &graph.inputs {
            let ty = graph.values.get(id as usize).map(type_text).unwrap_or_default();
            self.line(depth + 1, format!("input {}: {ty}", name(graph, id)));
        }
        for &(from, id) in &graph.captures {
            let ty = graph.values.get(id as usize).map(type_text).unwrap_or_default();
            let from = outer.map_or_else(|| format!("\"?{from}\""), |o| name(o, from));
            self.line(depth + 1, format!("capture {}: {ty} = {from}", name(graph, id)));
        }
        for value in &graph.values {
            if let Some(tensor) = &value.constant {
                let text = self.constant(tensor);
                self.line(depth + 1, format!("const {}: {text}", word(&value.name)));
            }
        }
        for node in &graph.nodes {
            if depth == 0 {
                self.node_lines.push(self.lines.len());
            }
            self.node(graph, node, depth + 1);
        }
        let outputs: Vec<String> = graph.outputs.iter().map(|&o| name(graph, o)).collect();
        self.line(depth + 1, format!("output {}", outputs.join(", ")));
        self.line(depth, "}".to_string());
    }

    fn node(&mut self, graph: &Graph, node: &Node, depth: usize) {
        let output = |id: &Option<ValueId>| match id {
            Some(id) => {
                let ty = graph.values.get(*id as usize).map(type_text).unwrap_or_default();
                format!("{}: {ty}", name(graph, *id))
            }
            None => "_".to_string(),
        };
        let outputs: Vec<String> = node.outputs.iter().map(output).collect();
        let input = |id: &Option<ValueId>| id.map_or_else(|| "_".to_string(), |id| name(graph, id));
        let inputs: Vec<String> = node.inputs.iter().map(input).collect();
        let op = match node.op.domain {
            "" => write_name(node.op.name),
            domain => text(&format!("{domain}.{}", node.op.name)),
        };
        let opset = if node.opset == i64::MAX { String::new() } else { format!("@{}", node.opset) };
        let mut line = format!("{} = {op}{opset}({})", outputs.join(", "), inputs.join(", "));
        let first = node.outputs.iter().flatten().next();
        if first.and_then(|&o| graph.values.get(o as usize)).is_none_or(|v| v.name != node.name) {
            line.push_str(&format!(" {}", text(&node.name)));
        }
        let plain: Vec<String> = node
            .attrs
            .0
            .iter()
            .filter_map(|(k, v)| Some(format!("{} = {}", write_name(k), self.attr(v)?)))
            .collect();
        if !plain.is_empty() {
            line.push_str(&format!(" {{ {} }}", plain.join(", ")));
        }
        self.line(depth, line);
        for (key, value) in &node.attrs.0 {
            if let Attr::Graph(body) = value {
                self.graph(body, Some(graph), depth + 1, &format!("{} = ", write_name(key)));
            }
        }
    }

    fn attr(&self, attr: &Attr) -> Option<String> {
        let float = |v: &f32| match v.is_finite() {
            true => format!("{v:?}f"),
            false => format!("{} f", v.to_string().to_lowercase()),
        };
        Some(match attr {
            Attr::Int(v) => v.to_string(),
            Attr::Float(v) => float(v),
            Attr::Str(v) => text(v),
            Attr::Ints(v) => list(v, i64::to_string),
            Attr::Floats(v) => format!("floats {}", list(v, |v| format!("{v:?}").to_lowercase())),
            Attr::Strs(v) => format!("strings {}", list(v, |s| text(s))),
            Attr::Tensor(t) => format!("tensor {}", self.constant(t)),
            Attr::Graph(_) => return None,
        })
    }
}
