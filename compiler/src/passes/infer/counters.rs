//! What a loop's counters are in every iteration. A body's names that depend on the number of the iteration and on
//! carried constants alone are followed through the iterations at compile time: a condition of that kind says how many
//! there are ([`super::counted`], [`super::bounded`]), other names what is read in each ([`super::spans`]).

use super::control::bool_tensor;
use super::{Binding, Driver};
use crate::base::Tensor;
use crate::import::{Body, Declared, SourceNode, reads};
use std::collections::HashSet;

/// Names are followed through at most so many iterations.
pub(super) const MAX_COUNTED: i64 = 1 << 16;

/// The nodes of a body that the names need, in their order, and all names that these read.
pub(super) fn needed(
    body: &Body,
    names: impl IntoIterator<Item = String>,
) -> (Vec<&SourceNode>, HashSet<String>) {
    let mut names: HashSet<String> = names.into_iter().collect();
    let mut nodes: Vec<&SourceNode> = Vec::new();
    for node in body.nodes.iter().rev() {
        if node.outputs.iter().any(|o| !o.is_empty() && names.contains(o)) {
            names.extend(reads(node).into_iter().map(String::from));
            nodes.push(node);
        }
    }
    nodes.reverse();
    (nodes, names)
}

/// A body with these outputs, and only what they need.
pub(super) fn part(body: &Body, outputs: Vec<Declared>) -> Body {
    let (nodes, names) = needed(body, outputs.iter().map(|o| o.name.clone()));
    Body {
        name: body.name.clone(),
        inputs: body.inputs.clone(),
        outputs,
        constants: body.constants.iter().filter(|c| names.contains(&c.0)).cloned().collect(),
        nodes: nodes.into_iter().cloned().collect(),
        ..Body::default()
    }
}

/// The part of a body that some of its names depend on.
pub(super) struct Counting {
    /// Gives the names, then the next values of what is carried.
    body: Body,
    /// Which carried values these are.
    carried: Vec<usize>,
    /// What they begin with.
    state: Vec<Tensor>,
    /// Whether the number of the iteration is read.
    numbered: bool,
    /// The iteration that comes next.
    trip: i64,
}

impl Counting {
    /// Whether what the names are changes from iteration to iteration.
    fn changes(&self) -> bool {
        self.numbered || !self.carried.is_empty()
    }
}

impl Driver {
    /// How many iterations a loop runs, where its condition depends on counters alone.
    pub(super) fn iterations(
        &mut self,
        body: &Body,
        trips: Option<i64>,
        mut go: bool,
        carried: &[Option<Binding>],
    ) -> Option<i64> {
        let limit = trips.unwrap_or(i64::MAX);
        let mut counting = self.counting(body, vec![body.outputs.first()?.clone()], carried)?;
        while go && counting.trip < limit {
            if counting.trip == MAX_COUNTED {
                return None;
            }
            go = *self.count(&mut counting)?.first()?.to_i64s()?.first()? != 0;
            if !counting.changes() {
                return if go { trips } else { Some(counting.trip) };
            }
        }
        Some(counting.trip)
    }

    /// What these names of a body depend on, where all that is carried of it begins with constants.
    pub(super) fn counting(
        &mut self,
        body: &Body,
        names: Vec<Declared>,
        carried: &[Option<Binding>],
    ) -> Option<Counting> {
        let mut wanted: Vec<usize> = Vec::new();
        let (part, numbered) = loop {
            let next = wanted.iter().map(|&i| &body.outputs[i + 1]);
            let part = part(body, names.iter().chain(next).cloned().collect());
            let (_, mut read) = needed(&part, part.outputs.iter().map(|o| o.name.clone()));
            read.extend(part.outputs.iter().map(|o| o.name.clone()));
            let reads = |i: &usize| body.inputs.get(i + 2).is_some_and(|p| read.contains(&p.name));
            let more: Vec<usize> =
                (0..carried.len().min(body.outputs.len().saturating_sub(1))).filter(reads).collect();
            if more == wanted {
                break (part, body.inputs.first().is_some_and(|number| read.contains(&number.name)));
            }
            wanted = more;
        };
        let constant = |binding: &Option<Binding>| match binding {
            Some(Binding::Value(id)) => self.constant(*id).cloned(),
            _ => None,
        };
        let state = wanted.iter().map(|&i| constant(&carried[i])).collect::<Option<Vec<_>>>()?;
        Some(Counting { body: part, carried: wanted, state, numbered, trip: 0 })
    }

    /// The constant that a name of a body stands for.
    pub(super) fn constant_in(&mut self, body: &Body, name: &str) -> Option<Tensor> {
        let mut counting = self.counting(body, vec![Declared::plain(name)], &[])?;
        if counting.changes() { None } else { self.count(&mut counting)?.pop() }
    }

    /// The names in the next iteration, where all are constants.
    pub(super) fn count(&mut self, counting: &mut Counting) -> Option<Vec<Tensor>> {
        let mark = (self.errors.len(), self.notes.len(), self.mark());
        let mut inputs = vec![Binding::Failed; counting.body.inputs.len()];
        let truth = bool_tensor(true).ok()?;
        let known = counting.carried.iter().map(|i| i + 2).zip(counting.state.iter().cloned());
        for (i, tensor) in [(0, Tensor::scalar(counting.trip)), (1, truth)].into_iter().chain(known) {
            *inputs.get_mut(i)? = Binding::Value(self.add_constant("count", tensor));
        }
        let cost = std::mem::replace(&mut self.node_cost, 1);
        let outputs = self.inline(&counting.body, inputs).unwrap_or_default();
        self.node_cost = cost;
        let constant = |binding: &Binding| match binding {
            Binding::Value(id) => self.constant(*id).cloned(),
            _ => None,
        };
        let outputs: Option<Vec<Tensor>> = outputs.iter().map(constant).collect();
        self.errors.truncate(mark.0);
        self.notes.truncate(mark.1);
        self.reset(mark.2);
        let mut names = outputs.filter(|o| o.len() >= counting.carried.len())?;
        counting.state = names.split_off(names.len() - counting.carried.len());
        counting.trip += 1;
        Some(names)
    }
}
