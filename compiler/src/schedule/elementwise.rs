//! Schedules of element-wise definitions: what fills the lanes, how many vectors are held, and in which order the
//! others follow.

use super::cores::{LINE, lookups};
use super::halves::{half_finish, half_lanes};
use super::linear::{Linear, Node};
use super::loads::{finish_length, follows, loads, value_nodes};
use super::planes::{Planes, together};
use super::{Schedule, Vector};
use crate::base::DType;
use crate::scalar::math::primitives;
use crate::target::{Arch, Target};

/// Operations from which on several vectors are computed in turn.
const LONG_FINISH: usize = 12;
/// Operations on vectors that are turned in tiles of several blocks, at most: such a tile does each of them 16 to 64
/// times, and its code weighs more than what the turn saves.
const SHORT_FINISH: usize = 4;
/// Vectors of one pointwise step, and of one that only copies.
const POINTWISE_VECTORS: usize = 4;
const COPIED_VECTORS: usize = 8;
/// Vectors that are turned together, and the bytes of their elements.
const BLOCK: usize = 4;
const WORD: usize = 4;
/// Elements from which on rows of bytes are narrowed together.
const MANY: usize = 4096;
/// Numbers that are computed one by one, several at a time, where there are so many.
const ALONE: usize = 8;
const LONG: usize = 32;

/// What lanes that lie apart in memory cost, each, in loads of a vector.
pub(super) struct Apart {
    load: f64,
    pub(super) store: f64,
}

/// Over 128 bits fitted to what `lmc tune` measured on Zen 4: of 128 x 384 elements, loaded apart
/// 0.17 ns each, stored apart 1.15 ns, neighbours 0.03 ns.
pub(super) fn apart(lanes: usize) -> Apart {
    match lanes {
        0..=4 => Apart { load: 2.0, store: 1.0 },
        _ => Apart { load: 0.6, store: 3.0 },
    }
}

/// A vector's share of a store of several that are woven, or turned and stored as planes, in loads of a vector.
const WOVEN: f64 = 2.0;
const TURNED: f64 = 3.0;

/// An operation on a vector, in loads of a vector.
const OPERATION: f64 = 0.5;

/// Points between the lanes of a vector of over 128 bits in memory that encoders weave.
const MOST_INTERLEAVED: i64 = 4;

/// The axis along which loads, operations and the store cost least; none where scalars do.
pub fn elementwise_vector(linear: &Linear, target: &Target, lanes: usize) -> Vector {
    let (apart, loads) = (apart(lanes), loads(linear, linear.finish));
    let operations = |e: &u32| match &linear.nodes[*e as usize] {
        Node::Op(op, args) => primitives(*op, linear.types[args[args.len() - 1] as usize]),
        Node::Cast { .. } | Node::Lookup { .. } => 1,
        _ => 0,
    };
    let work = OPERATION * value_nodes(linear, linear.finish).iter().map(operations).sum::<usize>() as f64;
    let load = |n: &&Node, var: u32| match n {
        Node::Load { addr, .. } => match addr.coefficient(var) {
            0 => 0.4,
            1 => 1.0,
            _ => apart.load * lanes as f64,
        },
        _ => 0.0,
    };
    let vector = |var: u32| {
        let filled = (linear.extent(var) as f64 / linear.extent(var).div_ceil(lanes) as f64).max(1.0);
        let store = match linear.store.coefficient(var) {
            1 => 1.0,
            _ if interleaved(linear, var, lanes).is_some() => WOVEN,
            _ if planes(linear, target, var).is_some() => TURNED,
            _ => apart.store * linear.extent(var).min(lanes) as f64,
        };
        let loads: f64 = loads.iter().map(|n| load(n, var)).sum();
        ((loads + store + work) / filled, Vector::Axis { var, lanes })
    };
    let possible = |v: &u32| !linear.ends(*v) && loads.iter().all(|l| follows(linear, l, *v));
    let scalar = loads.len() as f64 + 1.5 + work;
    let axes = linear.axes().filter(possible).map(vector);
    axes.chain([(scalar, Vector::None)]).min_by(|a, b| a.0.total_cmp(&b.0)).map_or(Vector::None, |b| b.1)
}

/// The axis whose points stand between the lanes along `var` in memory, as the channels of pixels do: held
/// in registers together, all bytes of a pixel are stored at once.
pub(super) fn interleaved(linear: &Linear, var: u32, lanes: usize) -> Option<u32> {
    let step = linear.store.coefficient(var);
    let few = linear.output.dtype.size() == 1 && (2..=MOST_INTERLEAVED).contains(&step) && lanes > 4;
    let between = |&v: &u32| linear.store.coefficient(v) == 1 && linear.extent(v) as i64 == step;
    linear.axes().filter(|_| few).find(|v| *v != var && !linear.ends(*v) && between(v))
}

/// The axis of the neighbours in memory of what lanes along `var` store as planes, where lanes along it are not possible:
/// what it reads is found for each point (a resize of channels that lie side by side). Four lanes are stored one by one in
/// fewer instructions (Neoverse N1: .94).
fn planes(linear: &Linear, target: &Target, var: u32) -> Option<u32> {
    let wide = target.arch == Arch::X86_64 && target.lanes() > 4;
    let computed = |v: u32| wide && loads(linear, linear.finish).iter().any(|l| !follows(linear, l, v));
    let stored = |&v: &u32| v != var && !linear.ends(v) && Planes::of(linear, target, var, v).is_some();
    linear.axes().filter(|&v| computed(v)).find(stored)
}

/// The schedule of an element-wise definition whose lanes are filled along `var`.
pub(super) fn pointwise(linear: &Linear, target: &Target, var: u32, lanes: usize) -> Schedule {
    let half_finish = target.multiplies_halves() && half_finish(linear);
    let lanes = if half_finish { half_lanes(target) } else { lanes };
    let (vector, naive) = (Vector::Axis { var, lanes }, Schedule { half_finish, ..Schedule::naive(linear) });
    if let Some(between) = interleaved(linear, var, lanes) {
        let others = linear.axes().filter(|&v| v != var && v != between);
        let order = others.chain([var, between]).collect();
        let tile = vec![(var, 1), (between, linear.extent(between))];
        return Schedule { vector, tile, order, woven: true, ..naive };
    }
    let shares = linear.looks_up_inside() && lookups(target).beside > 1;
    let woven = finish_length(linear) >= LONG_FINISH || shares;
    if let Some(rows) = planes(linear, target, var) {
        let order = linear.axes().filter(|&v| v != var && v != rows).chain([var, rows]).collect();
        let most = if woven { woven_points(linear, target) } else { usize::MAX };
        let tile = vec![(var, 1), (rows, together(linear.extent(rows).min(most), lanes))];
        return Schedule { vector, tile, order, woven, ..naive };
    }
    let along = along_lines(linear, target, var);
    let short = finish_length(linear) <= SHORT_FINISH;
    let fits = |v: u32| match along {
        Some(along) => short && along == v,
        None => !woven || woven_points(linear, target) >= BLOCK,
    };
    let turned = turned(linear, target, var).filter(|&v| fits(v));
    // Blocks use a quarter of a line: where it would be pushed out, a tile uses all of it.
    let columns = if along.is_some() { LINE / WORD } else { BLOCK };
    let most = match along.or(turned) {
        // Of a long finish one block is computed at a time.
        Some(_) if !short && along.is_none() => 1,
        Some(_) => {
            let line = LINE / linear.output.dtype.size() / lanes;
            line.min(target.vector_regs / (2 * BLOCK)).max(1)
        }
        None => (vectors_held(linear, target, var, woven) * target.lanes() / lanes).max(1),
    };
    let vectors = linear.extent(var).div_ceil(lanes).min(most);
    let beside = [Some(var), along, turned];
    let mut order: Vec<u32> = linear.axes().filter(|&v| !beside.contains(&Some(v))).collect();
    let mut tile = vec![(var, vectors)];
    tile.extend(turned.map(|v| (v, columns.min(linear.extent(v)))));
    // Of short rows several fill the core; bytes of four vectors are narrowed together.
    let several = woven || narrowed_together(linear, target, var, lanes);
    let rows = order.last().filter(|&&v| several && 2 * vectors <= most && !linear.ends(v));
    tile.extend(rows.map(|&v| (v, (most / vectors).min(linear.extent(v)))));
    order.extend(turned);
    order.push(var);
    order.extend(along.filter(|_| turned.is_none()));
    Schedule { vector, tile, order, woven, ..naive }
}

/// Whether the bytes of several rows are narrowed and stored together: whole vectors of each, of so many elements that
/// it is worth the code.
fn narrowed_together(linear: &Linear, target: &Target, var: u32, lanes: usize) -> bool {
    let whole = linear.extent(var) <= lanes || linear.extent(var).is_multiple_of(lanes);
    let elements: usize = linear.axes().map(|v| linear.extent(v)).product();
    let bytes = linear.output.dtype.size() == 1 && target.arch == Arch::X86_64;
    bytes && whole && elements >= MANY && !loads(linear, linear.finish).is_empty()
}

/// Vectors that are computed in turn: long expressions hold more registers each (measured: exp 4, erf 5
/// to 6), and few of them fill the core. Those that look entries up share that.
pub(super) fn woven_points(linear: &Linear, target: &Target) -> usize {
    let sharing = if linear.looks_up_inside() { lookups(target).beside } else { 1 };
    let held = match target.vector_regs / (3 + finish_length(linear) / 20) {
        ..2 => 1,
        2..4 => 2,
        _ => POINTWISE_VECTORS,
    };
    held.max(sharing)
}

/// Vectors of a tile along `var`.
fn vectors_held(linear: &Linear, target: &Target, var: u32, woven: bool) -> usize {
    let copies = linear.nodes.iter().all(|n| match n {
        Node::Load { addr, dynamic, .. } => addr.coefficient(var) == 1 && dynamic.is_empty(),
        n => matches!(n, Node::Const(_)),
    });
    match (woven, copies) {
        (true, _) => woven_points(linear, target),
        (_, true) => COPIED_VECTORS,
        _ => POINTWISE_VECTORS,
    }
}

/// Numbers one by one: several neighbours at a time, which share what is computed for all of them.
pub(super) fn alone(linear: &Linear) -> Schedule {
    let naive = Schedule::naive(linear);
    let long = |&v: &u32| linear.extent(v) >= LONG && !linear.ends(v) && linear.store.coefficient(v) == 1;
    let along = linear.axes().find(|v| linear.fold.is_none() && long(v));
    Schedule { tile: along.map(|v| (v, ALONE)).into_iter().collect(), ..naive }
}

/// The axis that walks along the lines of a cache of which lanes along `var` load one element each, where all
/// lines of one walk along `var` are more than the first-level cache keeps: innermost, each line is used up
/// before it is pushed out.
fn along_lines(linear: &Linear, target: &Target, var: u32) -> Option<u32> {
    loads(linear, linear.finish).into_iter().find_map(|n| {
        let Node::Load { operand, addr, dynamic, .. } = n else { return None };
        let step =
            addr.coefficient(var).unsigned_abs() as usize * linear.buffers[*operand as usize].dtype.size();
        let touched = linear.extent(var).saturating_mul(step.min(LINE));
        let apart = addr.coefficient(var).abs() > 1 && dynamic.is_empty() && touched > target.l1 / 2;
        apart
            .then(|| linear.axes().find(|&v| v != var && addr.coefficient(v) == 1 && linear.extent(v) > 1))?
    })
}

/// The axis along which vectors are read whose lanes along `var` lie apart, where blocks of them are turned in
/// registers.
fn turned(linear: &Linear, target: &Target, var: u32) -> Option<u32> {
    let wide = target.arch == Arch::X86_64 && target.lanes() > 4;
    let across = |n: &Node| match n {
        Node::Load { operand, addr, dynamic, guards, .. } => {
            let plain = dynamic.is_empty() && guards.is_empty();
            let dtype = linear.buffers[*operand as usize].dtype;
            let words = dtype.size() == WORD || matches!(dtype, DType::I8 | DType::U8);
            let one = |&v: &u32| addr.coefficient(v) == 1 && linear.extent(v) >= BLOCK && !linear.ends(v);
            let apart = addr.coefficient(var).unsigned_abs() as usize >= BLOCK;
            (wide && plain && words && apart).then(|| linear.axes().find(one)).flatten()
        }
        _ => None,
    };
    loads(linear, linear.finish).into_iter().find_map(across)
}
