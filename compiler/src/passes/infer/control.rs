//! If and Loop: inlined where what decides is constant, typed bodies otherwise. Loops that count:
//! [`super::counted`].

use super::body::Parameter;
use super::{Binding, Driver, values};
use crate::base::{DType, Tensor, TensorType};
use crate::error::{Error, Result};
use crate::graph::{Attr, Attrs, Graph, ValueId};
use crate::import::{Body, SourceNode};
use crate::ops::{Pending, find};

/// A Loop or Scan is unrolled up to this many iterations times nodes of its body.
pub(super) const MAX_UNROLLED: usize = 512;

/// The same of loops over sequences, which have no other form than the unrolled one; and of loops within loops in all.
pub(super) const MAX_UNROLLED_IN_ALL: usize = 16384;

pub(super) type Bindings = Vec<Option<Binding>>;

pub(super) fn body<'a>(node: &'a SourceNode, name: &str) -> Result<&'a Body> {
    node.bodies.get(name).ok_or_else(|| Error::model(format!("attribute {name} must be a graph")))
}

/// Nodes of a body and of the bodies in it.
pub(super) fn size(body: &Body) -> usize {
    body.nodes.iter().map(|n| 1 + n.bodies.values().map(size).sum::<usize>()).sum()
}

impl Driver {
    /// The constant boolean or integer that a binding is.
    fn known(&self, binding: &Option<Binding>) -> Option<i64> {
        match binding {
            Some(Binding::Value(id)) => self.constant(*id)?.to_i64s()?.first().copied(),
            _ => None,
        }
    }

    pub(super) fn parameter(&self, value: ValueId) -> Parameter {
        Parameter { ty: self.graph().value(value).ty.clone(), constant: None }
    }

    /// Keeps a control-flow node, with its bodies as typed graphs.
    pub(super) fn keep(
        &mut self,
        node: &SourceNode,
        inputs: Vec<Option<ValueId>>,
        bodies: Vec<(&str, Graph)>,
    ) -> Result<Bindings> {
        let op = find("", &node.op).ok_or_else(|| super::unsupported(node))?;
        let mut attrs = node.attrs.clone();
        bodies.into_iter().for_each(|(name, graph)| attrs.set(name, Attr::Graph(Box::new(graph))));
        let level = self.level();
        let outputs = node.outputs.iter().map(|n| (!n.is_empty()).then(|| level.unique(n))).collect();
        let pending = Pending { op, opset: node.opset, name: node.name.clone(), attrs, inputs, outputs };
        Ok(self.add(pending)?.into_iter().map(|v| v.map(Binding::Value)).collect())
    }

    /// Whether a constant condition holds for all sizes; notes what it says.
    fn decides(&mut self, node: &SourceNode, condition: &Option<Binding>, known: bool) -> bool {
        let Some(Binding::Value(id)) = condition else { return true };
        let level = self.frames.last().map_or(0, |f| f.level);
        let value = self.graph().value(*id).name.clone();
        let name = if level == 0 { value } else { format!("{level} {} {value}", node.name) };
        let open = self.given.open.contains(&name);
        self.levels[0].graph.decided.push((name, known));
        !open
    }

    pub(super) fn if_node(&mut self, node: &SourceNode, inputs: Bindings) -> Result<Bindings> {
        let [condition @ Some(_)] = inputs.as_slice() else {
            return Err(Error::model("must have one input, the condition"));
        };
        let (then, otherwise) = (body(node, "then_branch")?, body(node, "else_branch")?);
        let known = self.known(condition).map(|known| known != 0);
        let taken = if known == Some(false) { otherwise } else { then };
        let decided = known.map(|known| self.decides(node, condition, known));
        if decided == Some(true) {
            return Ok(self.inline(taken, Vec::new())?.into_iter().map(Some).collect());
        }
        let inputs = values(&inputs)?;
        let ty = inputs[0].map(|v| self.graph().value(v).ty.clone());
        if ty.is_none_or(|t| t.dtype != DType::Bool || t.elems() != 1) {
            return Err(Error::model("the condition must be one boolean"));
        }
        if let Some(value) = inputs[0].and_then(|condition| self.chosen(condition)) {
            return self.chosen_branch(node, inputs, if value { then } else { otherwise }, value);
        }
        match (self.typed_body(then, Vec::new()), self.typed_body(otherwise, Vec::new())) {
            // A branch of nothing is what the other one gives where there is nothing.
            (Ok(a), Ok(b)) if known.is_some_and(|known| is_empty(if known { &b } else { &a })) => {
                Ok(self.inline(taken, Vec::new())?.into_iter().map(Some).collect())
            }
            (Ok(a), Ok(b)) => {
                let marks = self.mark();
                let graphs = self.typed_branches([then, otherwise], [a, b]);
                let kept = graphs.and_then(|[a, b]| {
                    self.keep(node, inputs.clone(), vec![("then_branch", a), ("else_branch", b)])
                });
                match (kept, known) {
                    (Err(error), Some(known)) => {
                        self.reset(marks);
                        self.only_branch(node, inputs, taken, known, error)
                    }
                    (kept, _) => kept,
                }
            }
            (Err(error), Err(_)) => Err(error),
            (Ok(_), Err(error)) => self.only_branch(node, inputs, then, true, error),
            (Err(error), Ok(_)) => self.only_branch(node, inputs, otherwise, false, error),
        }
    }

    /// Which branch the options choose, where the condition is an input of the model.
    fn chosen(&self, condition: ValueId) -> Option<bool> {
        let graph = self.graph();
        let is_input = self.levels.len() == 1 && graph.inputs.contains(&condition);
        self.given.branches.get(&graph.value(condition).name).copied().filter(|_| is_input)
    }

    /// Inlines the one branch that fits the shapes; taking the other is an error at run time.
    fn only_branch(
        &mut self,
        node: &SourceNode,
        inputs: Vec<Option<ValueId>>,
        taken: &Body,
        value: bool,
        error: Error,
    ) -> Result<Bindings> {
        self.notes.push(format!(
            "{}: only the branch for {value} fits these shapes; the other is an error at run time ({error})",
            node.place()
        ));
        self.chosen_branch(node, inputs, taken, value)
    }

    /// Inlines one branch; a condition that says otherwise is an error at run time.
    fn chosen_branch(
        &mut self,
        node: &SourceNode,
        inputs: Vec<Option<ValueId>>,
        taken: &Body,
        value: bool,
    ) -> Result<Bindings> {
        let op = find("lmc", "Require").ok_or_else(|| Error::bug("no row for Require"))?;
        let outputs = self.inline(taken, Vec::new())?;
        let mut checked = Vec::new();
        for (output, name) in outputs.into_iter().zip(&node.outputs) {
            let Binding::Value(x) = output else {
                return Err(
                    Error::model("the branches give a sequence").advise("Make the condition a constant")
                );
            };
            let name = self.level().unique(name);
            let pending = Pending {
                op,
                opset: i64::MAX,
                name: node.name.clone(),
                attrs: Attrs::default().with("value", Attr::Int(i64::from(value))),
                inputs: vec![inputs[0], Some(x)],
                outputs: vec![Some(name)],
            };
            checked.extend(self.add(pending)?.into_iter().map(|v| v.map(Binding::Value)));
        }
        Ok(checked)
    }

    pub(super) fn loop_node(&mut self, node: &SourceNode, mut inputs: Bindings) -> Result<Bindings> {
        inputs.resize(inputs.len().max(2), None);
        self.bound_trips(node, &mut inputs[0])?;
        let body = body(node, "body")?;
        let mut trips = self.known(&inputs[0]);
        let condition = match inputs[1] {
            None => Some(1),
            _ => self.known(&inputs[1]),
        };
        let sequences = inputs[2..].iter().flatten().any(|b| matches!(b, Binding::Sequence(_)));
        let most = if sequences { MAX_UNROLLED_IN_ALL } else { MAX_UNROLLED };
        let count = condition.filter(|_| !sequences);
        let count = count.and_then(|go| self.iterations(body, trips, go != 0, &inputs[2..]));
        if count.is_none() && !sequences {
            let most = self.most_iterations(body, trips, &inputs[2..]);
            if let Some(most) = most.filter(|&m| trips.is_none_or(|t| m < t)) {
                trips = Some(most);
                let most = self.add_constant("most", Tensor::scalar(most));
                inputs[0] = Some(Binding::Value(most));
            }
        }
        let spanned = self.spans(body, count.or(trips), &inputs[2..]);
        let body = spanned.as_ref().unwrap_or(body);
        let runs = condition.is_some_and(|go| go != 0) && trips.is_none_or(|t| t > 0);
        // Where nothing says how often, until it is too long.
        let repeats = count.or(trips).map_or(most / size(body).max(1), |t| t.max(0) as usize);
        let short = self.is_short(body, repeats, most);
        let marks = (self.errors.len(), self.mark());
        // How often it runs may depend on a size that is known only at run time.
        let sized = self.graph().sample > 0 && count.or(trips).is_some() && !sequences;
        let typed = sized.then(|| self.typed_loop(node, body, inputs.clone(), count, runs));
        if let Some(Ok(outputs)) = typed {
            return Ok(outputs);
        }
        self.errors.truncate(marks.0);
        self.reset(marks.1);
        if let (Some(go), true) = (condition, short) {
            match self.unroll_loop(body, (trips, repeats), go != 0, &inputs[2..], most) {
                Ok(Some(outputs)) => return Ok(outputs),
                // The loop around it, which is unrolled too, is tried as a whole in its other form.
                Err(error) if sequences || self.repeats > 1 => return Err(error),
                Ok(None) | Err(_) => {
                    self.errors.truncate(marks.0);
                    self.reset(marks.1);
                }
            }
        }
        typed.unwrap_or_else(|| self.typed_loop(node, body, inputs, count, runs))
    }

    /// Whether a body is unrolled that often, in loops that are as well.
    pub(super) fn is_short(&self, body: &Body, trips: usize, most: usize) -> bool {
        let nodes = trips.saturating_mul(size(body));
        nodes <= most && nodes.saturating_mul(self.repeats) <= MAX_UNROLLED_IN_ALL
    }

    /// How often a loop runs, where a bound is given for what data say.
    fn bound_trips(&mut self, node: &SourceNode, trips: &mut Option<Binding>) -> Result<()> {
        let Some(Binding::Value(id)) = trips else { return Ok(()) };
        let (bound, checks) = self.sized(node, vec![Some(*id)])?;
        if let (Some(bound), true) = (bound[0], checks.is_empty()) {
            *trips = Some(Binding::Value(bound));
        }
        Ok(())
    }

    /// The loop as a node with a typed body. `count`: its iterations, where they are known; `runs`: whether there is
    /// one at least.
    fn typed_loop(
        &mut self,
        node: &SourceNode,
        body: &Body,
        inputs: Bindings,
        count: Option<i64>,
        runs: bool,
    ) -> Result<Bindings> {
        let mut inputs = values(&inputs).map_err(|e| {
            e.advise("Loops over sequences are supported where their trip count is a small constant")
        })?;
        if let Some(count) = count.filter(|&n| n > 0) {
            let missing = || Error::model("a carried value is missing");
            let carried =
                inputs[2..].iter().map(|v| v.ok_or_else(missing)).collect::<Result<Vec<ValueId>>>()?;
            return self.counted_loop(node, body, &carried, count);
        }
        let graph = self.typed_iteration(body, &mut inputs, runs)?;
        let lists = node.outputs.len() + 2 > inputs.len();
        match self.keep(node, inputs.clone(), vec![("body", graph)]) {
            // A list of what iterations give is as long as they are many.
            Err(error) if lists => Err(self.unbounded(node, &inputs, error)),
            kept => kept,
        }
    }

    /// How much the current graph holds, to take back an attempt.
    pub(super) fn mark(&mut self) -> (usize, usize, usize) {
        let level = self.level();
        (level.nodes.len(), level.graph.values.len(), level.graph.captures.len())
    }

    pub(super) fn reset(&mut self, mark: (usize, usize, usize)) {
        let level = self.level();
        level.nodes.truncate(mark.0);
        level.graph.captures.truncate(mark.2);
        level.graph.copies.retain(|c| (c.1 as usize) < mark.1);
        for value in level.graph.values.split_off(mark.1) {
            level.release(&value.name);
        }
        let kept = |id: &ValueId| (*id as usize) < mark.1;
        level.graph.folded.retain(|n| n.outputs.iter().flatten().all(kept));
        let at = self.frames.last().map_or(0, |f| f.level);
        for frame in self.frames.iter_mut().filter(|f| f.level == at) {
            frame.names.retain(|_, b| match b {
                Binding::Value(id) | Binding::Words(id) => kept(id),
                Binding::Sequence(ids) => ids.iter().all(kept),
                Binding::Failed => true,
            });
        }
    }

    /// Runs what adds one of so many repetitions to the current graph.
    pub(super) fn repeated<T>(&mut self, repeats: usize, f: impl FnOnce(&mut Self) -> T) -> T {
        let around = self.repeats;
        self.repeats = around.saturating_mul(repeats.max(1));
        let result = f(self);
        self.repeats = around;
        result
    }

    /// Repeats the body in the current graph; `None` where the number of iterations is not known.
    fn unroll_loop(
        &mut self,
        body: &Body,
        (trips, repeats): (Option<i64>, usize),
        mut go: bool,
        initial: &[Option<Binding>],
        most: usize,
    ) -> Result<Option<Bindings>> {
        let missing = || Error::model("a carried value is missing");
        let mut carried =
            initial.iter().map(|b| b.clone().ok_or_else(missing)).collect::<Result<Vec<_>>>()?;
        let scans = body.outputs.len().checked_sub(1 + carried.len());
        let scans = scans.ok_or_else(|| Error::model("the body has fewer outputs than carried values"))?;
        let mut stacks: Vec<Vec<ValueId>> = vec![Vec::new(); scans];
        let mut trip = 0i64;
        while go && trips.is_none_or(|t| trip < t) {
            if (trip as usize + 1).saturating_mul(size(body)) > most {
                return Ok(None);
            }
            let number = self.add_constant("trip", Tensor::scalar(trip));
            let truth = bool_tensor(true)?;
            let condition = self.add_constant("go", truth);
            let mut inputs = vec![Binding::Value(number), Binding::Value(condition)];
            inputs.append(&mut carried);
            let mut outputs = self.repeated(repeats, |d| d.inline(body, inputs))?.into_iter();
            let Some(next) = self.known(&outputs.next()) else { return Ok(None) };
            go = next != 0;
            carried = outputs.by_ref().take(initial.len()).collect();
            for (stack, output) in stacks.iter_mut().zip(outputs) {
                match output {
                    Binding::Value(id) => stack.push(id),
                    _ => return Err(Error::model("scan outputs must be tensors")),
                }
            }
            trip += 1;
        }
        let mut outputs: Bindings = carried.into_iter().map(Some).collect();
        for stack in stacks {
            if stack.is_empty() {
                return Ok(None);
            }
            outputs.push(Some(Binding::Value(self.stack(&stack, 0)?)));
        }
        Ok(Some(outputs))
    }

    /// Joins tensors along a new axis.
    pub(super) fn stack(&mut self, parts: &[ValueId], axis: i64) -> Result<ValueId> {
        self.build("stack", |b| {
            let axes = b.constant(Tensor::new([1], &[axis]));
            let parts = parts.iter().map(|&p| b.binary("Unsqueeze", p, axes)).collect::<Result<Vec<_>>>()?;
            b.one("Concat", &parts, Attrs::default().with("axis", Attr::Int(axis)))
        })
    }
}

/// Whether no output of a graph has an element.
fn is_empty(graph: &Graph) -> bool {
    graph.outputs.iter().all(|&output| graph.value(output).ty.elems() == 0)
}

pub(super) fn bool_tensor(value: bool) -> Result<Tensor> {
    Tensor::from_bytes(TensorType::new(DType::Bool, []), vec![u8::from(value)])
        .ok_or_else(|| Error::bug("one boolean"))
}
