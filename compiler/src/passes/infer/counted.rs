//! Loops that count. Converters write recurrent layers as loops that end by a condition on a counter, hand
//! weights from iteration to iteration, and read their input row by row with the counter.
//!
//! The condition, where it depends on counters alone, says how many iterations there are. What passes
//! through unchanged is the value outside, so that weights are constants again. Rows that a counter reads
//! are the inputs of a Scan, and a loop that has some becomes one.

use super::body::Parameter;
use super::control::{Bindings, bool_tensor};
use super::counters::{needed, part};
use super::{Binding, Driver};
use crate::base::{DType, Tensor, TensorType};
use crate::error::{Error, Result};
use crate::graph::{Attr, Attrs, ValueId};
use crate::import::{Body, Declared, SourceNode};
use std::collections::{HashMap, HashSet};

/// The names of a body that stand for one value: Identity, and casts of one integer type to another.
struct Aliases<'a> {
    writer: HashMap<&'a str, &'a SourceNode>,
}

impl<'a> Aliases<'a> {
    fn new(body: &'a Body) -> Self {
        let outputs = |n: &'a SourceNode| n.outputs.iter().map(move |o| (o.as_str(), n));
        Aliases { writer: body.nodes.iter().flat_map(outputs).collect() }
    }

    /// The first name of a value; with `casts`, of an integer that is cast.
    fn source(&self, mut name: &'a str, casts: bool) -> &'a str {
        let integer = |node: &SourceNode| matches!(node.attrs.0.get("to"), Some(Attr::Int(6 | 7)));
        while let Some(node) = self.writer.get(name) {
            match (node.domain.as_str(), node.op.as_str(), node.inputs.as_slice()) {
                ("", "Identity", [from]) => name = from,
                ("", "Cast", [from]) if casts && integer(node) => name = from,
                _ => break,
            }
        }
        name
    }
}

/// What becomes of a loop's values.
struct Roles<'a> {
    aliases: Aliases<'a>,
    /// For each carried value whether every iteration hands it on as it is.
    unchanged: Vec<bool>,
    /// Names that count, with where they begin.
    counters: HashMap<&'a str, i64>,
}

impl Driver {
    fn roles<'a>(&mut self, body: &'a Body, carried: &[ValueId]) -> Roles<'a> {
        let aliases = Aliases::new(body);
        let mut counters = HashMap::from([(body.inputs[0].name.as_str(), 0)]);
        let mut unchanged = Vec::new();
        for (i, &value) in carried.iter().enumerate() {
            let own = body.inputs[i + 2].name.as_str();
            let next = aliases.source(&body.outputs[i + 1].name, false);
            unchanged.push(next == own);
            let is_scalar = self.graph().value(value).ty.rank() == 0;
            let start = self.constant(value).and_then(Tensor::to_i64s).filter(|_| is_scalar);
            let counts = aliases.writer.get(next).is_some_and(|n| self.adds_one(body, n, own));
            if let (Some([start]), true) = (start.as_deref(), counts) {
                counters.insert(own, *start);
            }
        }
        Roles { aliases, unchanged, counters }
    }

    /// Whether a node adds one to a value.
    fn adds_one(&mut self, body: &Body, node: &SourceNode, name: &str) -> bool {
        let other = match (node.domain.as_str(), node.op.as_str(), node.inputs.as_slice()) {
            ("", "Add", [a, b]) if a == name => b,
            ("", "Add", [a, b]) if b == name => a,
            _ => return false,
        };
        let known = self.constant_in(body, other);
        known.is_some_and(|t| t.ty.rank() == 0 && t.to_i64s().as_deref() == Some(&[1]))
    }

    /// The value outside of the loop whose row of the iteration's number a node reads.
    fn row(
        &mut self,
        node: &SourceNode,
        roles: &Roles,
        bound: &[(String, ValueId)],
        own: &HashSet<String>,
        count: i64,
    ) -> Result<Option<ValueId>> {
        let ("", "Gather", [data, index]) = (node.domain.as_str(), node.op.as_str(), node.inputs.as_slice())
        else {
            return Ok(None);
        };
        let start = roles.counters.get(roles.aliases.source(index, true)).copied();
        let (Some(start), 0) = (start.filter(|&s| s >= 0), node.attrs.int("axis", 0)?) else {
            return Ok(None);
        };
        let value = match bound.iter().find(|b| b.0 == *data) {
            Some((_, value)) => *value,
            None if own.contains(data) => return Ok(None),
            None => match self.lookup(data) {
                Some(Binding::Value(value)) => value,
                _ => return Ok(None),
            },
        };
        let rows = self.graph().value(value).ty.shape.first().map_or(0, |&n| n as i64);
        match (start, rows - start - count) {
            (_, rest) if rest < 0 => Ok(None),
            (0, 0) => Ok(Some(value)),
            _ => self.build(&node.name, |b| {
                let ends = [start, start + count, 0].map(|n| b.constant(Tensor::new([1], &[n])));
                b.one("Slice", &[value, ends[0], ends[1], ends[2]], Attrs::default()).map(Some)
            }),
        }
    }

    /// Takes what reads rows of a value outside out of the body; gives the names of the rows, and the
    /// values.
    fn rows(
        &mut self,
        inner: &mut Body,
        roles: &Roles,
        bound: &[(String, ValueId)],
        count: i64,
    ) -> Result<Vec<(String, ValueId)>> {
        let inputs = inner.inputs.iter().map(|i| &i.name).filter(|n| bound.iter().all(|b| b.0 != **n));
        let written = inner.nodes.iter().flat_map(|n| &n.outputs);
        let constants = inner.constants.iter().map(|c| &c.0);
        let own: HashSet<String> = inputs.chain(written).chain(constants).cloned().collect();
        let (mut rows, mut nodes) = (Vec::new(), Vec::new());
        for node in std::mem::take(&mut inner.nodes) {
            match self.row(&node, roles, bound, &own, count)? {
                Some(value) => rows.push((node.outputs[0].clone(), value)),
                None => nodes.push(node),
            }
        }
        inner.nodes = nodes;
        *inner = part(inner, inner.outputs.clone());
        Ok(rows)
    }

    /// A loop of so many iterations, at least one.
    pub(super) fn counted_loop(
        &mut self,
        node: &SourceNode,
        body: &Body,
        carried: &[ValueId],
        count: i64,
    ) -> Result<Bindings> {
        if body.inputs.len() != carried.len() + 2 || body.outputs.len() <= carried.len() {
            return Err(Error::model("the body does not fit the carried values"));
        }
        let roles = self.roles(body, carried);
        let (passing, kept): (Vec<usize>, Vec<usize>) = (0..carried.len()).partition(|&i| roles.unchanged[i]);
        let truth = self.add_constant("go", bool_tensor(true)?);
        let mut bound = vec![(body.inputs[1].name.clone(), truth)];
        bound.extend(passing.iter().map(|&i| (body.inputs[i + 2].name.clone(), carried[i])));
        let results = kept.iter().copied().chain(carried.len()..body.outputs.len() - 1);
        let mut inner = part(body, results.clone().map(|i| body.outputs[i + 1].clone()).collect());
        let rows = self.rows(&mut inner, &roles, &bound, count)?;

        let mut form = Form::default();
        match rows.is_empty() {
            true => self.loop_header(&mut inner, &mut form, body, count)?,
            false => form.op = "Scan",
        }
        for &i in &kept {
            form.input(body.inputs[i + 2].name.clone(), carried[i], self.parameter(carried[i]));
        }
        form.results = results.map(Some).collect();
        let number = &body.inputs[0].name;
        let (_, names) = needed(&inner, inner.outputs.iter().map(|o| o.name.clone()));
        if !rows.is_empty() && names.contains(number) {
            let zero = self.add_constant("number", Tensor::scalar(0i64));
            form.input(number.clone(), zero, self.parameter(zero));
            form.results.insert(kept.len(), None);
            count_on(&mut inner, number, kept.len());
        }
        for (name, value) in &rows {
            let mut ty = self.graph().value(*value).ty.clone();
            ty.shape.remove(0);
            form.input(name.clone(), *value, Parameter { ty, constant: None });
        }
        inner.inputs = form.declared;
        let mut made = SourceNode { op: form.op.into(), attrs: Attrs::default(), ..node.clone() };
        if !rows.is_empty() {
            made.opset = made.opset.max(11);
            made.attrs.set("num_scan_inputs", Attr::Int(rows.len() as i64));
        }
        let name = |i: &Option<usize>| i.and_then(|i| node.outputs.get(i).cloned()).unwrap_or_default();
        made.outputs = form.results.iter().map(name).collect();
        let graph = self.typed_body_within(&inner, form.parameters, &bound)?;
        let outputs = self.keep(&made, form.inputs, vec![("body", graph)])?;
        let mut all: Bindings = vec![None; body.outputs.len() - 1];
        passing.iter().for_each(|&i| all[i] = Some(Binding::Value(carried[i])));
        for (output, result) in outputs.into_iter().zip(form.results) {
            if let Some(result) = result {
                all[result] = output;
            }
        }
        Ok(all)
    }

    /// What a Loop has before its carried values: the count, and a condition that is always true.
    fn loop_header(&mut self, inner: &mut Body, form: &mut Form, body: &Body, count: i64) -> Result<()> {
        form.op = "Loop";
        let trips = self.add_constant("count", Tensor::scalar(count));
        form.inputs.extend([Some(trips), None]);
        let unread = format!("{}/unread", body.inputs[1].name);
        for (name, dtype) in [(body.inputs[0].name.clone(), DType::I64), (unread, DType::Bool)] {
            form.declared.push(Declared::plain(&name));
            form.parameters.push(Parameter { ty: TensorType::new(dtype, []), constant: None });
        }
        let go = format!("{}/true", body.outputs[0].name);
        inner.outputs.insert(0, Declared::plain(&go));
        inner.constants.push((go, bool_tensor(true)?));
        Ok(())
    }
}

/// A loop in its new form.
#[derive(Default)]
struct Form {
    op: &'static str,
    /// What it reads, and with which types and names its body has that.
    inputs: Vec<Option<ValueId>>,
    parameters: Vec<Parameter>,
    declared: Vec<Declared>,
    /// Which output of the Loop each of its outputs is.
    results: Vec<Option<usize>>,
}

impl Form {
    fn input(&mut self, name: String, value: ValueId, parameter: Parameter) {
        self.inputs.push(Some(value));
        self.parameters.push(parameter);
        self.declared.push(Declared::plain(&name));
    }
}

/// Makes the number of the iteration a state, whose next value is the output `at`.
fn count_on(inner: &mut Body, number: &str, at: usize) {
    let [one, next] = ["one", "next"].map(|what| format!("{number}/{what}"));
    inner.constants.push((one.clone(), Tensor::scalar(1i64)));
    inner.outputs.insert(at, Declared::plain(&next));
    inner.nodes.push(SourceNode::plain("Add", 14, &[number, &one], &next));
}
