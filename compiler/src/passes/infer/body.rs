//! Frames and levels: looking names up through nested graphs, bodies as graphs, the outputs.

use super::{Binding, Driver, Frame, Level};
use crate::base::{Tensor, TensorType};
use crate::error::{Error, Result};
use crate::graph::{Attrs, Graph, Node, ValueId};
use crate::import::{Body, Declared, Dim};
use crate::ops::find;
use std::collections::{HashMap, HashSet};

/// What a body is called with: a type, and the value where it is known.
pub(super) struct Parameter {
    pub ty: TensorType,
    pub constant: Option<Tensor>,
}

impl Driver {
    /// What a name stands for; a value of an outer graph is captured into the current one.
    pub(super) fn lookup(&mut self, name: &str) -> Option<Binding> {
        let found = self.frames.iter().rposition(|f| f.names.contains_key(name))?;
        let binding = self.frames[found].names[name].clone();
        let (from, to) = (self.frames[found].level, self.frames.last()?.level);
        if from == to {
            return Some(binding);
        }
        let captured = match binding {
            Binding::Value(id) => Binding::Value(self.capture(id, from, to)),
            Binding::Sequence(ids) => {
                Binding::Sequence(ids.into_iter().map(|id| self.capture(id, from, to)).collect())
            }
            Binding::Words(id) => Binding::Words(self.capture(id, from, to)),
            Binding::Failed => Binding::Failed,
        };
        self.bind(name, captured.clone());
        Some(captured)
    }

    /// Brings a value of an outer level in: constants are copied, others captured level by level.
    fn capture(&mut self, mut id: ValueId, from: usize, to: usize) -> ValueId {
        for inner in from + 1..=to {
            let outside = &self.levels[inner - 1].graph;
            let value = outside.value(id).clone();
            let flags = outside.flags(&value);
            let level = &mut self.levels[inner];
            if let Some(&(_, known)) = level.graph.captures.iter().find(|c| c.0 == id) {
                id = known;
                continue;
            }
            let name = level.unique(&value.name);
            let outer = id;
            id = match value.constant {
                Some(tensor) => {
                    let id = level.graph.add_constant(name, tensor);
                    level.graph.copies.push((outer, id));
                    id
                }
                None => {
                    let id = level.graph.add_value(name, value.ty);
                    level.graph.values[id as usize].flags = Some(flags);
                    level.graph.captures.push((outer, id));
                    id
                }
            };
        }
        id
    }

    /// The bindings of a body's outputs in the current frame.
    fn outputs(&mut self, body: &Body) -> Result<Vec<Binding>> {
        let outputs = body.outputs.iter().map(|o| {
            self.lookup(&o.name).ok_or_else(|| {
                Error::model(format!("output '{}' of a subgraph is written by nothing", o.name))
            })
        });
        outputs.collect()
    }

    /// Puts a body into the current graph with its inputs bound; gives its outputs.
    pub(super) fn inline(&mut self, body: &Body, inputs: Vec<Binding>) -> Result<Vec<Binding>> {
        check_inputs(body, inputs.len())?;
        let level = self.frames.last().map_or(0, |f| f.level);
        let names = body.inputs.iter().map(|i| i.name.clone()).zip(inputs).collect();
        self.frames.push(Frame { names, level });
        let errors = self.errors.len();
        self.walk(body);
        let outputs = self.outputs(body);
        self.frames.pop();
        self.first_error_since(errors)?;
        outputs
    }

    /// A body as a graph of its own.
    pub(super) fn typed_body(&mut self, body: &Body, inputs: Vec<Parameter>) -> Result<Graph> {
        self.typed_body_within(body, inputs, &[])
    }

    /// The same, with further names for values of the graph around it.
    pub(super) fn typed_body_within(
        &mut self,
        body: &Body,
        inputs: Vec<Parameter>,
        outer: &[(String, ValueId)],
    ) -> Result<Graph> {
        check_inputs(body, inputs.len())?;
        let level = self.frames.last().map_or(0, |f| f.level) + 1;
        let sample = self.graph().sample;
        self.levels.truncate(level);
        self.scopes += 1;
        self.levels.push(Level::new(sample, self.scopes, self.given.known.clone()));
        self.frames.push(Frame { names: HashMap::new(), level });
        for (declared, parameter) in body.inputs.iter().zip(inputs) {
            let inner = self.level();
            let name = inner.unique(&declared.name);
            let id = inner.graph.add_value(name, parameter.ty);
            inner.graph.inputs.push(id);
            let known = parameter.constant.map(|t| self.add_constant(&declared.name, t));
            self.bind(&declared.name, Binding::Value(known.unwrap_or(id)));
        }
        for (name, value) in outer {
            let id = self.capture(*value, level - 1, level);
            self.bind(name, Binding::Value(id));
        }
        let errors = self.errors.len();
        self.walk(body);
        let outputs = self.outputs(body);
        self.frames.pop();
        let inner = self.levels.pop().unwrap_or_default();
        self.first_error_since(errors)?;
        let mut graph = Graph { nodes: inner.nodes, name: body.name.clone(), ..inner.graph };
        for output in outputs? {
            match output {
                Binding::Value(id) => graph.outputs.push(id),
                Binding::Words(_) => {
                    return Err(Error::model("a subgraph gives strings, which is not supported"));
                }
                _ => return Err(Error::model("a subgraph gives a sequence, which is not supported")),
            }
        }
        Ok(graph)
    }

    /// Takes back the errors of a body: the node around it fails with the first of them.
    pub(super) fn first_error_since(&mut self, mark: usize) -> Result<()> {
        match self.errors.drain(mark..).next() {
            Some(first) => Err(first),
            None => Ok(()),
        }
    }

    /// Names the outputs of the main graph as the file does, and checks their types.
    pub(super) fn finish(&mut self, body: &Body) {
        let mut taken: HashSet<ValueId> = HashSet::new();
        for declared in &body.outputs {
            if let Err(error) = self.finish_one(declared, &mut taken) {
                self.errors.push(error.at(format!("output '{}'", declared.name)));
            }
        }
    }

    fn finish_one(&mut self, declared: &Declared, taken: &mut HashSet<ValueId>) -> Result<()> {
        let id = match self.lookup(&declared.name) {
            Some(Binding::Value(id)) if !declared.words => id,
            Some(Binding::Words(id)) if declared.words => {
                self.notes.push(format!(
                    "output '{}' holds strings: it is the number of a word, which header and binding list",
                    declared.name
                ));
                id
            }
            Some(Binding::Value(_) | Binding::Words(_)) => {
                return Err(Error::model("holds strings, or is declared to, but not both")
                    .advise("The model is inconsistent; onnx.checker with full_check reports the same"));
            }
            Some(_) => return Err(Error::model("is a sequence, which is not supported")),
            None => return Err(Error::model("is written by no node")),
        };
        self.check_declared(declared, id)?;
        let level = &mut self.levels[0];
        let fixed = level.graph.inputs.contains(&id) || level.graph.value(id).constant.is_some();
        let id = if fixed || !taken.insert(id) { copy(level, id)? } else { id };
        level.name_output(id, &declared.name);
        level.graph.outputs.push(id);
        Ok(())
    }

    /// The element type must be the declared one; a shape that differs is noted.
    fn check_declared(&mut self, declared: &Declared, id: ValueId) -> Result<()> {
        let ty = self.levels[0].graph.value(id).ty.clone();
        if let Some(dtype) = declared.dtype.filter(|&d| d != ty.dtype) {
            return Err(Error::model(format!("is declared {dtype}, but computed as {}", ty.dtype))
                .advise("The model is inconsistent; onnx.checker with full_check reports the same"));
        }
        let Some(dims) = &declared.dims else { return Ok(()) };
        let agrees = |(d, &n): (&Dim, &usize)| !matches!(d, Dim::Fixed(m) if *m != n);
        if dims.len() != ty.rank() || !dims.iter().zip(&ty.shape).all(agrees) {
            self.notes
                .push(format!("output '{}' has the shape of {ty}, not the declared one", declared.name));
        }
        Ok(())
    }
}

impl Level {
    /// Gives a value the name of an output. Names in a graph are unique: an input or output that has it
    /// already keeps it.
    fn name_output(&mut self, id: ValueId, name: &str) {
        if self.graph.value(id).name == name {
            return;
        }
        if let Some(other) = self.graph.values.iter().position(|v| v.name == name) {
            let kept = [&self.graph.inputs, &self.graph.outputs];
            if kept.iter().any(|list| list.contains(&(other as ValueId))) {
                return;
            }
            self.used.insert(name.to_string());
            self.graph.values[other].name = self.unique(name);
        }
        self.graph.values[id as usize].name = name.to_string();
    }
}

fn check_inputs(body: &Body, given: usize) -> Result<()> {
    if body.inputs.len() == given {
        return Ok(());
    }
    Err(Error::model(format!("a subgraph takes {} inputs, but {given} are given", body.inputs.len())))
}

/// An output that is an input, a constant, or another output is a copy.
fn copy(level: &mut Level, from: ValueId) -> Result<ValueId> {
    let op = find("", "Identity").ok_or_else(|| Error::bug("no row for Identity"))?;
    let value = level.graph.value(from);
    let (name, ty) = (value.name.clone(), value.ty.clone());
    let name = level.unique(&name);
    let to = level.graph.add_value(name.clone(), ty);
    level.nodes.push(Node {
        op,
        opset: i64::MAX,
        name,
        attrs: Attrs::default(),
        inputs: vec![Some(from)],
        outputs: vec![Some(to)],
    });
    Ok(to)
}
