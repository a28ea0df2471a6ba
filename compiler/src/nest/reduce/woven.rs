//! Couples of bytes of two rows, for filters of single channels.
//!
//! Where no instruction multiplies bytes exactly, the bytes of two rows of a window are woven to couples of 16 bits,
//! which are multiplied by two rows of the filter at a time:
//! ```text
//! sum[x] += couples(rows 0 and 1, column x + k) * couples(filter rows 0 and 1, column k)
//! ```
//! The rows of an odd one are a couple with what its byte is extended by, which the packed filter multiplies by zero.
//! Each pair of rows is finished for all points of the tile, column by column of the data: so registers hold one
//! column, and many sums.

use super::{Reduction, body};
use crate::base::Affine;
use crate::nest::emit::{Emitter, addr};
use crate::nest::expr::Point;
use crate::nest::{Nest, TilePoint};
use crate::schedule::linear::Node;
use crate::schedule::{Bytes, Linear, Schedule, Vector};
use crate::tile::{Bin, Convert, Lane, Reg, RegType, Value};

/// Whether a schedule weaves couples.
pub fn weaves(linear: &Linear, schedule: &Schedule) -> bool {
    let Vector::Axis { var, .. } = schedule.vector else { return false };
    schedule.dot == 2 && Bytes::of(linear, var).is_some_and(|bytes| bytes.woven)
}

/// The last two reduction axes: the window's columns, and its rows.
pub(super) fn steps(nest: &mut Nest, e: &mut Emitter, r: &mut Reduction, depth: usize) {
    let Some((&along, across)) = nest.schedule.reduce[depth..].split_last() else { return };
    let (rows, across) = (nest.linear.extent(along.var), across.first().map(|s| s.var));
    let columns = across.map_or(1, |v| nest.linear.extent(v)) as i64;
    let apart = across.map_or(0, |v| data(nest).map_or(0, |form| form.coefficient(v)));
    let from = |point: &TilePoint| {
        let place = nest.place_of(point);
        data(nest).map_or(0, |form| form.map_vars(|v| place[v as usize].clone()).base)
    };
    let starts: Vec<i64> = r.points.iter().map(from).collect();
    let steps = (0..r.points.len()).flat_map(|point| (0..columns).map(move |column| (point, column)));
    let mut steps: Vec<(usize, i64)> = steps.collect();
    steps.sort_by_key(|&(point, column)| starts[point] + column * apart);
    for row in (0..rows).step_by(2) {
        nest.place[along.var as usize] = Affine::constant(row as i64);
        r.words = 2.min(rows - row);
        for &(point, column) in &steps {
            across.into_iter().for_each(|v| nest.place[v as usize] = Affine::constant(column));
            body(nest, e, r, point, None);
        }
    }
}

/// Where the data lies.
fn data<'a>(nest: &Nest<'a>) -> Option<&'a Affine> {
    let Vector::Axis { var, .. } = nest.schedule.vector else { return None };
    match Bytes::of(nest.linear, var)?.rows {
        Node::Load { addr, .. } => Some(addr),
        _ => None,
    }
}

/// The couple of each lane from bytes of two rows, or of one.
pub fn couple(nest: &Nest, e: &mut Emitter, load: &Node, point: &Point, rows: usize) -> Option<Reg> {
    let (Node::Load { operand, addr: form, .. }, Some(along)) = (load, nest.schedule.reduce.last()) else {
        return None;
    };
    let ty = RegType { lane: Lane::I32, lanes: point.lanes as u8 };
    let index = form.map_vars(|v| point.place[v as usize].clone());
    let first = e.value(ty, Value::Load(addr(*operand, index.clone()), 1));
    if rows < 2 {
        return Some(first);
    }
    let low = match nest.linear.buffers[*operand as usize].dtype.is_signed_int() {
        true => e.value(ty, Value::Convert(Convert::ZextLow(16), first)),
        false => first,
    };
    let next = index.offset(form.coefficient(along.var));
    let second = e.value(ty, Value::Load(addr(*operand, next), 1));
    let shift = e.value(ty, Value::Const(16));
    let high = e.value(ty, Value::Bin(Bin::Shl, second, shift));
    Some(e.value(ty, Value::Bin(Bin::Or, low, high)))
}
