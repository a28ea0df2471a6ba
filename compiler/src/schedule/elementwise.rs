//! What fills the lanes of an element-wise definition.

use super::Vector;
use super::choose::{follows, loads, value_nodes};
use super::linear::{Linear, Node};
use crate::scalar::math::primitives;

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

/// A vector's share of a store of several that are woven, in loads of a vector.
const WOVEN: f64 = 2.0;

/// An operation on a vector, in loads of a vector.
const OPERATION: f64 = 0.5;

/// Points between the lanes of a vector of over 128 bits in memory that encoders weave.
const MOST_INTERLEAVED: i64 = 4;

/// The axis along which loads, operations and the store cost least; none where scalars do.
pub fn elementwise_vector(linear: &Linear, lanes: usize) -> Vector {
    let (apart, loads) = (apart(lanes), loads(linear, linear.finish));
    let operations = |e: &u32| match &linear.nodes[*e as usize] {
        Node::Op(op, args) => primitives(*op, linear.types[args[args.len() - 1] as usize]),
        Node::Cast { .. } => 1,
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
            _ => apart.store * lanes as f64,
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
