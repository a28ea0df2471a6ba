//! Loops that data end, at the latest by a count: `while unfinished and n < 20`, as greedy decoders are
//! written. What decides is a conjunction; a part of it that depends on counters alone bounds the iterations.

use super::counters::MAX_COUNTED;
use super::{Binding, Driver};
use crate::import::{Body, SourceNode};

/// A condition has at most so many parts.
const MAX_PARTS: usize = 64;

impl Driver {
    /// The most iterations that a loop runs, where a part of its condition says it.
    pub(super) fn most_iterations(
        &mut self,
        body: &Body,
        trips: Option<i64>,
        carried: &[Option<Binding>],
    ) -> Option<i64> {
        let (body, parts) = self.conjuncts(body)?;
        let mut most: Option<i64> = None;
        for name in parts {
            let mut alone = body.clone();
            alone.outputs.first_mut()?.name = name;
            let count = self.iterations(&alone, trips, true, carried).filter(|&n| n < MAX_COUNTED);
            most = [most, count].into_iter().flatten().min();
        }
        most
    }

    /// Names that are true wherever the loop's condition is, in a body that has what writes them.
    fn conjuncts(&mut self, body: &Body) -> Option<(Body, Vec<String>)> {
        let mut whole = body.clone();
        // Each name with whether its negation is meant.
        let mut open = vec![(whole.outputs.first()?.name.clone(), false)];
        let mut parts = Vec::new();
        while let Some((name, negated)) = open.pop() {
            if open.len() + parts.len() > MAX_PARTS {
                return None;
            }
            let place = whole.nodes.iter().position(|n| n.outputs.contains(&name));
            let node = place.map(|i| whole.nodes[i].clone()).filter(|n| n.domain.is_empty());
            match (node.as_ref().map(|n| (n.op.as_str(), n.inputs.as_slice())), negated) {
                (Some(("Identity" | "Cast", [from])), _) => open.push((from.clone(), negated)),
                (Some(("Squeeze" | "Unsqueeze" | "Reshape", [from, ..])), _) => {
                    open.push((from.clone(), negated));
                }
                (Some(("Add", [from, zero])), _) if self.is_false(&whole, zero) => {
                    open.push((from.clone(), negated));
                }
                (Some(("Not", [from])), _) => open.push((from.clone(), !negated)),
                (Some(("And", both)), false) | (Some(("Or", both)), true) => {
                    open.extend(both.iter().map(|b| (b.clone(), negated)));
                }
                (Some(("If", [condition])), false) => {
                    let (condition, branches) = (condition.clone(), node.as_ref().map(|n| &n.bodies)?);
                    let (then, otherwise) = (branches.get("then_branch")?, branches.get("else_branch")?);
                    let (taken, is_otherwise) = match (self.gives_false(then), self.gives_false(otherwise)) {
                        (_, true) => (then, false),
                        (true, _) => (otherwise, true),
                        _ => continue,
                    };
                    open.push((condition, is_otherwise));
                    open.push((taken.outputs.first()?.name.clone(), false));
                    whole.constants.extend(taken.constants.iter().cloned());
                    let at = place?;
                    whole.nodes.splice(at..at, taken.nodes.iter().cloned());
                }
                (_, false) => parts.push(name),
                (_, true) => {
                    let opposite = format!("{name}/not");
                    whole.nodes.push(SourceNode::plain("Not", 1, &[&name], &opposite));
                    parts.push(opposite);
                }
            }
        }
        Some((whole, parts))
    }

    /// Whether what a branch gives is the constant false.
    fn gives_false(&mut self, branch: &Body) -> bool {
        branch.outputs.first().is_some_and(|o| self.is_false(branch, &o.name))
    }

    /// Whether a name of a body is the constant false, or zero.
    fn is_false(&mut self, body: &Body, name: &str) -> bool {
        self.constant_in(body, name).and_then(|c| c.to_i64s()).is_some_and(|v| v == [0])
    }
}
