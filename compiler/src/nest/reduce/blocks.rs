//! Scales that blocks of weights share are multiplied by the sums of the blocks, not by each weight.
//!
//! `y[n] = sum(b, k) x[b, k] * (w[b, k, n] * s[b, n])` is summed as `sum(b) s[b, n] * sum(k) x[b, k] * w[b, k, n]`
//! where the tile has one row: with more of them each scaled weight serves several products.

use super::{Reduction, steps};
use crate::base::DType;
use crate::nest::Nest;
use crate::nest::emit::Emitter;
use crate::nest::expr::Group;
use crate::scalar::{Fold, Op};
use crate::schedule::linear::{Linear, Node};
use crate::schedule::{Schedule, Vector};
use crate::tile::Value;

/// Products in a block from which on its sum is worth a multiplication.
const LONG: usize = 4;

/// A product whose second factor is scaled by what stays the same over the inner reduction axes.
#[derive(Clone, Copy)]
pub(super) struct Blocks {
    /// The first reduction step over which the scale stays the same.
    depth: usize,
    /// The factors without the scale.
    factors: [u32; 2],
    scale: u32,
}

impl Blocks {
    /// The blocks of a sum, if the schedule runs through one after the other.
    pub(super) fn of(linear: &Linear, schedule: &Schedule) -> Option<Blocks> {
        let (Fold::Sum, DType::F32, body) = linear.fold? else { return None };
        let Vector::Axis { var, .. } = schedule.vector else { return None };
        let rows = schedule.tile.iter().any(|&(v, points)| v != var && points > 1);
        let plain = |n: &Node| match n {
            Node::Load { guards, dynamic, .. } => guards.is_empty() && dynamic.is_empty(),
            _ => true,
        };
        let product = linear.reachable(body);
        let sized = schedule.reduce.iter().any(|s| linear.vars[s.var as usize].size.is_some());
        if rows
            || schedule.restored
            || sized
            || schedule.dot > 1
            || !product.iter().all(|&e| plain(&linear.nodes[e as usize]))
        {
            return None;
        }
        let Node::Op(Op::Mul, outer) = &linear.nodes[body as usize] else { return None };
        [(outer[0], outer[1]), (outer[1], outer[0])].into_iter().find_map(|(scaled, other)| {
            let Node::Op(Op::Mul, inner) = &linear.nodes[scaled as usize] else { return None };
            [(inner[0], inner[1]), (inner[1], inner[0])].into_iter().find_map(|(weight, scale)| {
                let stays = |step: usize| !moves(linear, scale, schedule.reduce[step].var);
                let still = (0..schedule.reduce.len()).rev().take_while(|&step| stays(step));
                let depth = still.last()?;
                let length: usize = schedule.reduce[depth..].iter().map(|s| linear.extent(s.var)).product();
                (depth > 0 && length >= LONG).then_some(Blocks { depth, factors: [other, weight], scale })
            })
        })
    }
}

/// Whether an expression differs along a variable.
fn moves(linear: &Linear, e: u32, var: u32) -> bool {
    linear.reachable(e).into_iter().any(|e| match &linear.nodes[e as usize] {
        Node::Load { addr, .. } => addr.coefficient(var) != 0,
        Node::Index(form) => form.coefficient(var) != 0,
        _ => false,
    })
}

/// The reduction steps from `depth` on where a block begins there: its sum, then the scaled sum is added.
/// Whether it does.
pub(super) fn block(
    nest: &mut Nest,
    e: &mut Emitter,
    r: &mut Reduction,
    depth: usize,
    group: &Option<Group>,
) -> bool {
    let Some(blocks) = r.blocks.filter(|b| b.depth == depth) else { return false };
    let sums = r.points.iter().map(|p| r.kind.start(e, p.lanes)).collect();
    let whole = std::mem::replace(&mut r.chains[0], sums);
    (r.blocks, r.factors) = (None, Some(blocks.factors));
    steps(nest, e, r, depth, group.clone());
    (r.blocks, r.factors) = (Some(blocks), None);
    let sums = std::mem::replace(&mut r.chains[0], whole);
    for (i, (point, sum)) in r.points.iter().zip(sums).enumerate() {
        let place = nest.place_of(point);
        let scale = nest.eval(e, blocks.scale, &nest.point(&place, point, None), r.index_error);
        e.assign(r.chains[0][i], Value::Mla(r.chains[0][i], sum, scale));
    }
    true
}
