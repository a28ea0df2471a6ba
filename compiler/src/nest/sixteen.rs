//! The broadcast factor of products of 16 bits: two neighbours in memory are a couple.

use super::Nest;
use super::emit::{Emitter, addr};
use super::expr::{Guards, Point};
use crate::base::DType;
use crate::schedule::linear::Node;
use crate::schedule::{Bytes, Linear, Schedule, Vector};
use crate::tile::{Lane, Reg, RegType, Value};

/// Whether a schedule multiplies couples that lie in memory.
pub fn multiplies(linear: &Linear, schedule: &Schedule) -> bool {
    let Vector::Axis { var, .. } = schedule.vector else { return false };
    schedule.dot == 2 && Bytes::of(linear, var).is_some_and(|bytes| bytes.sixteen)
}

/// Whether a factor is the broadcast one of a product of 16 bits.
pub fn is_rows(nest: &Nest, factor: u32) -> bool {
    let factor = nest.linear.without_casts(factor);
    nest.sixteen && nest.linear.types[factor as usize] == DType::I16
}

/// The couple of a point, of which so many neighbours lie inside the reduction axis.
pub(super) fn couple(nest: &Nest, e: &mut Emitter, load: &Node, point: &Point, left: usize) -> Option<Reg> {
    let Node::Load { operand, addr: form, guards, fill, .. } = load else { return None };
    let ty = RegType { lane: Lane::I32, lanes: point.lanes as u8 };
    if let (Guards::Outside, Some(fill), false) = (point.guards, fill, guards.is_empty()) {
        return Some(e.value(ty, Value::Const((fill.bits & 0xffff) * 0x0001_0001)));
    }
    if let (2, Some(group)) = (left, &point.group) {
        let start = addr(*operand, point.start_of(group, form));
        let loaded = e.value(RegType { lanes: group.lanes, ..ty }, Value::LoadWords(start, 4));
        return Some(e.value(ty, Value::Broadcast(loaded, group.lane)));
    }
    let index = addr(*operand, form.map_vars(|v| point.place[v as usize].clone()));
    let last = form.range(|v| nest.linear.extent(v)).1;
    // What follows the axis is multiplied by the packed factor's zeros.
    let whole = left == 2 || last + 1 < nest.linear.buffers[*operand as usize].elems as i64;
    Some(e.value(ty, if whole { Value::LoadWords(index, 0) } else { Value::Load(index, 0) }))
}
