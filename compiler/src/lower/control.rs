//! Control flow: an If computes both branches and selects; Loop and Scan repeat their body.
//!
//! Branches have no effects but their results, so computing both gives the right ones. A Loop
//! that data end carries a condition, which is tested before each iteration.

use super::flat::{Body, Nested};
use super::lower_items;
use crate::base::{Affine, DType, Tensor, TensorType};
use crate::definition::{Carry, DefBuilder, Lowering, Repeat, Slice, Stage, ValueId};
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::scalar::Op;
use std::collections::HashSet;

/// How often a loop runs that only data end.
const ENDLESS: usize = i64::MAX as usize;

fn ty(lowering: &Lowering, id: ValueId) -> TensorType {
    lowering.values[id as usize].ty.clone()
}

/// `to[i] = condition ? a[i] : b[i]`.
fn select(lowering: &mut Lowering, condition: ValueId, a: ValueId, b: ValueId, to: ValueId) {
    let (flag, element) = (ty(lowering, condition), ty(lowering, to));
    let mut def = DefBuilder::new(&element.shape);
    let zero = vec![Affine::constant(0); flag.rank()];
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

/// One boolean: whether all of `flags` hold and `number` (plus `more`) is below `trips`.
fn go_on(lowering: &mut Lowering, flags: &[ValueId], trips: Option<(ValueId, ValueId, f64)>) -> ValueId {
    let go = lowering.temporary(format!("go{}", lowering.values.len()), TensorType::new(DType::Bool, []));
    let mut def = DefBuilder::new(&[]);
    let scalar = |def: &mut DefBuilder, id: ValueId| {
        let element = ty(lowering, id);
        def.load(id, &element, vec![Affine::constant(0); element.rank()])
    };
    let mut all: Vec<_> = flags.iter().map(|&flag| scalar(&mut def, flag)).collect();
    if let Some((number, trips, more)) = trips {
        let (number, trips) = (scalar(&mut def, number), scalar(&mut def, trips));
        let more = def.number(DType::I64, more);
        let number = def.op(Op::Add, &[number, more]);
        all.push(def.op(Op::Lt, &[number, trips]));
    }
    let holds = all.into_iter().reduce(|a, b| def.op(Op::And, &[a, b]));
    let holds = holds.unwrap_or_else(|| def.number(DType::Bool, 1.0));
    lowering.define(def.finish("go", go, &TensorType::new(DType::Bool, []), holds));
    go
}

/// The boolean true.
fn yes() -> Result<Tensor> {
    let yes = Tensor::from_bytes(TensorType::new(DType::Bool, []), vec![1u8]);
    yes.ok_or_else(|| Error::bug("one boolean"))
}

/// Whether a value is the constant true.
fn is_true(lowering: &Lowering, id: ValueId) -> bool {
    let constant = lowering.values[id as usize].constant.as_ref();
    constant.is_some_and(|t| t.data.iter().all(|&b| b != 0))
}

/// How a Loop ends.
struct Length {
    /// After so many iterations at the latest.
    count: usize,
    /// After so many: a value known only at run time.
    trips: Option<ValueId>,
    /// By a condition, known only at run time.
    tested: bool,
}

impl Length {
    fn of(nested: &Nested<Body>, lowering: &Lowering) -> Result<Length> {
        let body = &nested.bodies;
        let input = |i: usize| nested.node.inputs.get(i).copied().flatten();
        let known = |id: ValueId| lowering.values[id as usize].constant.as_ref()?.to_i64s()?.first().copied();
        let count = input(0).and_then(known).map(|n| usize::try_from(n).unwrap_or(0));
        let passed = body.outputs[0] == body.inputs[1] || is_true(lowering, body.outputs[0]);
        let length = Length {
            count: count.unwrap_or(ENDLESS),
            trips: input(0).filter(|_| count.is_none()),
            tested: !passed || input(1).is_some_and(|c| !is_true(lowering, c)),
        };
        if !length.is_fixed() && body.outputs.len() > body.inputs.len() - 1 {
            return Err(Error::model(match passed && length.trips.is_none() {
                true => {
                    "the condition of a Loop with scan outputs must be a constant: their size follows from it"
                }
                false => "scan outputs of a Loop that data end have a size known only at run time",
            })
            .advise("Let the Loop run a constant number of iterations"));
        }
        match length.is_fixed() && count.is_none() {
            true => Err(Error::model("the Loop never ends").advise("Give it a trip count or a condition")),
            false => Ok(length),
        }
    }

    /// Whether it is known at compile time.
    fn is_fixed(&self) -> bool {
        self.trips.is_none() && !self.tested
    }
}

pub(super) fn lower_loop(graph: &Graph, nested: &Nested<Body>, lowering: &mut Lowering) -> Result<()> {
    let (node, body) = (&nested.node, &nested.bodies);
    let input = |i: usize| node.inputs.get(i).copied().flatten();
    let length = Length::of(nested, lowering)?;
    let (number, condition) = (body.inputs[0], body.inputs[1]);
    let states = &body.inputs[2..];
    let truth = lowering.constant(format!("{}/true{}", node.name, lowering.values.len()), yes()?);
    let zero =
        lowering.constant(format!("{}/zero{}", node.name, lowering.values.len()), Tensor::scalar(0i64));
    let first: Vec<ValueId> = input(1).filter(|_| length.tested).into_iter().collect();
    let first = match length.is_fixed() {
        true => truth,
        false => go_on(lowering, &first, length.trips.map(|trips| (zero, trips, 0.0))),
    };
    let (stages, mut repeat) = apart(lowering, |low| {
        if length.is_fixed() {
            copy(low, truth, condition);
        }
        lower_items(graph, &body.items, low)?;
        let own = own_outputs(low, body, 1);
        let mut carries = Vec::new();
        let mut carry = |low: &mut Lowering, initial, state, next, last: Option<ValueId>| {
            let last = last.unwrap_or_else(|| like(low, "last", state));
            carries.push(Carry { initial, state, next, last });
        };
        let next = increment(low, number);
        carry(low, zero, number, next, None);
        if !length.is_fixed() {
            let flags: Vec<ValueId> = length.tested.then_some(body.outputs[0]).into_iter().collect();
            let next = go_on(low, &flags, length.trips.map(|trips| (number, trips, 1.0)));
            carry(low, first, condition, next, None);
        }
        for (i, &state) in states.iter().enumerate() {
            let initial = input(i + 2).ok_or_else(|| Error::model("a carried value is missing"))?;
            carry(low, initial, state, own[i], node.outputs.get(i).copied().flatten());
        }
        let mut slices = Vec::new();
        for (i, &part) in own[states.len()..].iter().enumerate() {
            if let Some(whole) = node.outputs.get(states.len() + i).copied().flatten() {
                slices.push(Slice { whole, part, reversed: false, written: true });
            }
        }
        let condition = (!length.is_fixed()).then_some(condition);
        Ok(Repeat { count: length.count, size: None, condition, slices, carries, body: Vec::new() })
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

/// A Scan: its body once for each element along an axis of what it scans, which is moved to the front.
pub(super) fn lower_scan(graph: &Graph, nested: &Nested<Body>, lowering: &mut Lowering) -> Result<()> {
    let (node, body) = (&nested.node, &nested.bodies);
    let scans = usize::try_from(node.attrs.int("num_scan_inputs", 0)?).unwrap_or(0);
    let states = body.inputs.len().saturating_sub(scans);
    let input = |i: usize| {
        let given = node.inputs.get(i).copied().flatten();
        given.ok_or_else(|| Error::model(format!("input {i} is missing")))
    };
    let mut slices = Vec::new();
    let (axes, reversed) =
        (list(nested, "scan_input_axes", scans)?, list(nested, "scan_input_directions", scans)?);
    for i in 0..scans {
        let whole = axis_in_front(lowering, &node.name, input(states + i)?, axes[i]);
        let (part, reversed) = (body.inputs[states + i], reversed[i] == 1);
        slices.push(Slice { whole, part, reversed, written: false });
    }
    let count = slices.last().map_or(0, |s| ty(lowering, s.whole).shape[0]);
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
        let whole = match at {
            0 => output,
            _ => {
                let mut element = ty(lowering, part);
                element.shape.insert(0, count);
                scanned(lowering, &node.name, element)
            }
        };
        slices.push(Slice { whole, part, reversed: reversed[i] == 1, written: true });
        if at > 0 {
            moved.push((whole, output, at));
        }
    }
    lowering.repeat(Repeat { count, size: None, condition: None, slices, carries, body: stages });
    for (whole, output, at) in moved {
        move_axis(lowering, whole, output, at, true);
    }
    Ok(())
}

/// What is scanned, with that axis in front.
fn axis_in_front(lowering: &mut Lowering, node: &str, whole: ValueId, axis: i64) -> ValueId {
    let mut moved = ty(lowering, whole);
    let at = from_front(axis, moved.rank());
    if at == 0 {
        return whole;
    }
    let extent = moved.shape.remove(at);
    moved.shape.insert(0, extent);
    let moved = scanned(lowering, node, moved);
    move_axis(lowering, whole, moved, at, false);
    moved
}

fn scanned(lowering: &mut Lowering, node: &str, ty: TensorType) -> ValueId {
    let name = format!("{node}/scan{}", lowering.values.len());
    lowering.temporary(name, ty)
}
