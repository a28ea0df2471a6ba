//! Control flow: an If computes both branches and selects; Loop and Scan repeat their body.
//!
//! Branches have no effects but their results, so computing both gives the right ones. A Loop
//! whose condition is known only at run time runs its greatest number of iterations, and keeps the
//! carried values once the condition is false.

use super::flat::{Body, Nested};
use super::lower_items;
use crate::base::{DType, Tensor, TensorType};
use crate::definition::{Carry, DefBuilder, Lowering, Repeat, Slice, Stage, ValueId};
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::scalar::Op;
use std::collections::HashSet;

/// A loop whose condition is known only at run time has at most this many iterations.
const MAX_DYNAMIC_TRIPS: usize = 1 << 16;

fn ty(lowering: &Lowering, id: ValueId) -> TensorType {
    lowering.values[id as usize].ty.clone()
}

/// `to[i] = condition ? a[i] : b[i]`.
fn select(lowering: &mut Lowering, condition: ValueId, a: ValueId, b: ValueId, to: ValueId) {
    let (flag, element) = (ty(lowering, condition), ty(lowering, to));
    let mut def = DefBuilder::new(&element.shape);
    let zero = vec![crate::base::Affine::constant(0); flag.rank()];
    let condition = def.load(condition, &flag, zero);
    let (a, b) = (def.load_broadcast(a, &element), def.load_broadcast(b, &element));
    let chosen = def.op(Op::Select, &[condition, a, b]);
    let name = lowering.values[to as usize].name.clone();
    lowering.define(def.finish(&name, to, &element, chosen));
}

/// `to[i] = from[i]`.
fn copy(lowering: &mut Lowering, from: ValueId, to: ValueId) {
    let element = ty(lowering, to);
    let mut def = DefBuilder::new(&element.shape);
    let x = def.load_broadcast(from, &element);
    let name = lowering.values[to as usize].name.clone();
    lowering.define(def.finish(&name, to, &element, x));
}

/// A temporary that copies a value.
fn copied(lowering: &mut Lowering, from: ValueId) -> ValueId {
    let name = format!("{}.copy{}", lowering.values[from as usize].name, lowering.values.len());
    let element = ty(lowering, from);
    let to = lowering.temporary(name, element);
    copy(lowering, from, to);
    to
}

/// A temporary of the type of another value.
fn like(lowering: &mut Lowering, what: &str, value: ValueId) -> ValueId {
    let name = format!("{}.{what}{}", lowering.values[value as usize].name, lowering.values.len());
    let element = ty(lowering, value);
    lowering.temporary(name, element)
}

pub(super) fn lower_if(graph: &Graph, nested: &Nested<[Body; 2]>, lowering: &mut Lowering) -> Result<()> {
    let condition = nested.node.inputs.first().copied().flatten();
    let condition = condition.ok_or_else(|| Error::model("input 0 is missing"))?;
    for body in &nested.bodies {
        lower_items(graph, &body.items, lowering)?;
    }
    let [then, otherwise] = &nested.bodies;
    for (i, to) in nested.node.outputs.iter().enumerate() {
        if let Some(to) = to {
            select(lowering, condition, then.outputs[i], otherwise.outputs[i], *to);
        }
    }
    Ok(())
}

/// Lowers the body's nodes apart, with what `f` adds before and after them.
fn apart<T>(lowering: &mut Lowering, f: impl FnOnce(&mut Lowering) -> Result<T>) -> Result<(Vec<Stage>, T)> {
    let outer = std::mem::take(&mut lowering.stages);
    let result = f(lowering);
    let inner = std::mem::replace(&mut lowering.stages, outer);
    Ok((inner, result?))
}

/// The body's results as values that it writes itself, each once; the others are copied.
fn own_outputs(lowering: &mut Lowering, body: &Body, from: usize) -> Vec<ValueId> {
    let mut taken = HashSet::new();
    let own = |&id: &ValueId| match body.written.contains(&id) && taken.insert(id) {
        true => id,
        false => copied(lowering, id),
    };
    body.outputs[from..].iter().map(own).collect()
}

/// `state + 1`, for the number of the iteration.
fn increment(lowering: &mut Lowering, state: ValueId) -> ValueId {
    let next = like(lowering, "next", state);
    let element = ty(lowering, state);
    let mut def = DefBuilder::new(&element.shape);
    let (x, one) = (def.load_broadcast(state, &element), def.number(DType::I64, 1.0));
    let sum = def.op(Op::Add, &[x, one]);
    lowering.define(def.finish("next", next, &element, sum));
    next
}

/// `a && b`, both one boolean.
fn both(lowering: &mut Lowering, a: ValueId, b: ValueId) -> ValueId {
    let next = like(lowering, "go", a);
    let mut def = DefBuilder::new(&[]);
    let mut flag = |id: ValueId| {
        let element = ty(lowering, id);
        let zero = vec![crate::base::Affine::constant(0); element.rank()];
        def.load(id, &element, zero)
    };
    let (x, y) = (flag(a), flag(b));
    let and = def.op(Op::And, &[x, y]);
    let element = ty(lowering, next);
    lowering.define(def.finish("go", next, &element, and));
    next
}

/// Whether a value is the constant true.
fn is_true(lowering: &Lowering, id: ValueId) -> bool {
    let constant = lowering.values[id as usize].constant.as_ref();
    constant.is_some_and(|t| t.data.iter().all(|&b| b != 0))
}

pub(super) fn lower_loop(graph: &Graph, nested: &Nested<Body>, lowering: &mut Lowering) -> Result<()> {
    let (node, body) = (&nested.node, &nested.bodies);
    let input = |i: usize| node.inputs.get(i).copied().flatten();
    let trips = input(0).and_then(|id| lowering.values[id as usize].constant.as_ref()?.to_i64s());
    let trips = trips.and_then(|t| t.first().copied()).map(|t| usize::try_from(t).unwrap_or(0));
    let count = trips.ok_or_else(|| {
        Error::model("the number of iterations is known only at run time")
            .advise("Give the Loop a constant trip count; a condition may still end it earlier")
    })?;
    let (number, condition) = (body.inputs[0], body.inputs[1]);
    let states = &body.inputs[2..];
    let passed = body.outputs[0] == condition || is_true(lowering, body.outputs[0]);
    let endless = passed && input(1).is_none_or(|c| is_true(lowering, c));
    let scans = body.outputs.len() - 1 - states.len();
    if !endless && scans > 0 {
        return Err(Error::model(
            "scan outputs of a Loop that a condition ends have a size known only at run time",
        )
        .advise("Let the Loop run a constant number of iterations"));
    }
    if !endless && count > MAX_DYNAMIC_TRIPS {
        return Err(Error::model(format!("a Loop that a condition ends may run {count} iterations"))
            .advise(format!("Give it a trip count of at most {MAX_DYNAMIC_TRIPS}")));
    }
    let truth = Tensor::from_bytes(TensorType::new(DType::Bool, []), vec![1u8]);
    let truth = lowering.constant(
        format!("{}/true{}", node.name, lowering.values.len()),
        truth.ok_or_else(|| Error::bug("one boolean"))?,
    );
    let zero =
        lowering.constant(format!("{}/zero{}", node.name, lowering.values.len()), Tensor::scalar(0i64));
    let (stages, mut repeat) = apart(lowering, |low| {
        if endless {
            copy(low, truth, condition);
        }
        lower_items(graph, &body.items, low)?;
        let mut carries = Vec::new();
        let next = increment(low, number);
        let last = like(low, "last", number);
        carries.push(Carry { initial: zero, state: number, next, last });
        let own = own_outputs(low, body, 1);
        if !endless {
            let next = both(low, condition, body.outputs[0]);
            let initial = input(1).unwrap_or(truth);
            let last = like(low, "last", condition);
            carries.push(Carry { initial, state: condition, next, last });
        }
        for (i, &state) in states.iter().enumerate() {
            let next = match endless {
                true => own[i],
                false => {
                    let kept = like(low, "kept", state);
                    select(low, condition, own[i], state, kept);
                    kept
                }
            };
            let last = match node.outputs.get(i).copied().flatten() {
                Some(output) => output,
                None => like(low, "last", state),
            };
            let initial = input(i + 2).ok_or_else(|| Error::model("a carried value is missing"))?;
            carries.push(Carry { initial, state, next, last });
        }
        let mut slices = Vec::new();
        for (i, &part) in own[states.len()..].iter().enumerate() {
            if let Some(whole) = node.outputs.get(states.len() + i).copied().flatten() {
                slices.push(Slice { whole, part, reversed: false, written: true });
            }
        }
        Ok(Repeat { count, size: None, slices, carries, body: Vec::new() })
    })?;
    repeat.body = stages;
    lowering.repeat(repeat);
    Ok(())
}

/// A list attribute of a Scan, zeros where absent.
fn list(nested: &Nested<Body>, name: &str, count: usize) -> Result<Vec<i64>> {
    Ok(nested.node.attrs.get_ints(name)?.map_or(vec![0; count], <[i64]>::to_vec))
}

/// `to` is `from` with the axis moved to another place.
fn move_axis(lowering: &mut Lowering, from: ValueId, to: ValueId, at: usize, back: bool) {
    let (source, target) = (ty(lowering, from), ty(lowering, to));
    let mut def = DefBuilder::new(&target.shape);
    let mut index = def.axes();
    if back {
        let first = index.remove(at);
        index.insert(0, first);
    } else {
        let first = index.remove(0);
        index.insert(at, first);
    }
    let x = def.load(from, &source, index);
    let name = lowering.values[to as usize].name.clone();
    lowering.define(def.finish(&name, to, &target, x));
}

fn from_front(axis: i64, rank: usize) -> usize {
    (if axis < 0 { axis + rank as i64 } else { axis }).clamp(0, rank.saturating_sub(1) as i64) as usize
}

pub(super) fn lower_scan(graph: &Graph, nested: &Nested<Body>, lowering: &mut Lowering) -> Result<()> {
    let (node, body) = (&nested.node, &nested.bodies);
    let scans = usize::try_from(node.attrs.int("num_scan_inputs", 0)?).unwrap_or(0);
    let states = body.inputs.len().saturating_sub(scans);
    let input = |i: usize| {
        let given = node.inputs.get(i).copied().flatten();
        given.ok_or_else(|| Error::model(format!("input {i} is missing")))
    };
    let (axes, reversed) =
        (list(nested, "scan_input_axes", scans)?, list(nested, "scan_input_directions", scans)?);
    let mut slices = Vec::new();
    let mut count = 0;
    for i in 0..scans {
        let mut whole = input(states + i)?;
        let mut element = ty(lowering, whole);
        let at = from_front(axes[i], element.rank());
        if at > 0 {
            let extent = element.shape.remove(at);
            element.shape.insert(0, extent);
            let moved =
                lowering.temporary(format!("{}/scan{}", node.name, lowering.values.len()), element.clone());
            move_axis(lowering, whole, moved, at, false);
            whole = moved;
        }
        count = element.shape[0];
        slices.push(Slice {
            whole,
            part: body.inputs[states + i],
            reversed: reversed[i] == 1,
            written: false,
        });
    }
    let (stages, (own, carries)) = apart(lowering, |low| {
        lower_items(graph, &body.items, low)?;
        let own = own_outputs(low, body, 0);
        let mut carries = Vec::new();
        for (i, &next) in own[..states].iter().enumerate() {
            let state = body.inputs[i];
            let last = node.outputs.get(i).copied().flatten();
            let last = last.unwrap_or_else(|| like(low, "last", state));
            carries.push(Carry { initial: input(i)?, state, next, last });
        }
        Ok((own, carries))
    })?;
    let outs = own.len() - states;
    let (axes, reversed) =
        (list(nested, "scan_output_axes", outs)?, list(nested, "scan_output_directions", outs)?);
    let mut moved = Vec::new();
    for (i, &part) in own[states..].iter().enumerate() {
        let Some(output) = node.outputs.get(states + i).copied().flatten() else { continue };
        let at = from_front(axes[i], ty(lowering, output).rank());
        let mut element = ty(lowering, part);
        element.shape.insert(0, count);
        let whole = match at {
            0 => output,
            _ => lowering.temporary(format!("{}/scan{}", node.name, lowering.values.len()), element),
        };
        slices.push(Slice { whole, part, reversed: reversed[i] == 1, written: true });
        if at > 0 {
            moved.push((whole, output, at));
        }
    }
    lowering.repeat(Repeat { count, size: None, slices, carries, body: stages });
    for (whole, output, at) in moved {
        move_axis(lowering, whole, output, at, true);
    }
    Ok(())
}
