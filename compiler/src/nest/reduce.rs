//! The reduction inside a register tile.
//!
//! Points that a padded window places outside the tensor are never computed: where a loop runs
//! over the window its bounds are shortened, and where it is unrolled the point is left out. The
//! loops of an axis under a dilated window are cut where the window's part inside changes.

mod blocks;
pub(super) mod border;
pub(super) mod dot;
mod half_sums;
mod lanes;
pub(super) mod long;
mod sized;
mod squares;
mod tested;
mod words;
pub(super) mod woven;

use self::blocks::{Blocks, block};
use self::border::{cut_along, cut_steps, parted};
use self::dot::{dot, symmetric};
use self::half_sums::HalfSums;
use self::lanes::{lane_steps, width};
use self::sized::sized_steps;
use self::tested::{tested_along, tested_steps};
use self::words::{couple_steps, word_steps};
use super::accumulate::Accumulator;
use super::emit::Emitter;
use super::expr::{Group, Guards, Point};
use super::panel::run;
use super::segments::{Edge, Segment, constant_of, inside, outside_is_neutral, reduction_of};
use super::{Nest, TilePoint, chains};
use crate::base::{Affine, Bound, DType};
use crate::scalar::{Fold, Op};
use crate::schedule::linear::{Guard, Node};
use crate::schedule::{ReduceStep, Vector, decidable_guards, reached};
use crate::tile::{Dot, Lane, Reg, RegType, Value};

/// What the steps of a reduction share.
struct Reduction<'a> {
    points: &'a [TilePoint],
    guards: Vec<Guard>,
    /// What lies outside need not be computed.
    neutral: bool,
    /// A loop around runs over what lies outside.
    outside: bool,
    kind: Accumulator,
    body: u32,
    /// The factors, where they are not those of the body.
    factors: Option<[u32; 2]>,
    /// Blocks with scales of their own, outside of one.
    blocks: Option<Blocks>,
    /// Sums of half floats, outside of them.
    half_sums: Vec<HalfSums>,
    index_error: i32,
    /// Accumulators: `[chain][point]`.
    chains: Vec<Vec<Reg>>,
    /// Accumulators of the lanes past the last full vector, of a reduction over lanes.
    rest: Option<(usize, Vec<Reg>)>,
    /// Accumulators of two rows each, of products of two rows by two channels.
    couples: Vec<squares::Couple>,
    /// Bytes that lie inside the reduction axis, of those that are multiplied at a time.
    words: usize,
    /// Points of the tile along an axis to which the body is kept.
    kept: Vec<(u32, std::ops::Range<usize>)>,
    /// The lanes in force and the chain, while the body is emitted.
    lanes: usize,
    chain: usize,
}

/// Emits the reduction of a tile and gives the folded value of each of its points.
pub fn reduction(
    nest: &mut Nest,
    e: &mut Emitter,
    points: &[TilePoint],
    index_error: i32,
) -> Vec<Option<Reg>> {
    let Some((fold, dtype, body)) = nest.linear.fold else { return vec![None; points.len()] };
    let kind = Accumulator { fold, dtype, quads: nest.linear.facts.quads };
    let mut r = Reduction::new(nest, points, kind, body, index_error);
    if nest.schedule.dot == 8 {
        r.couples = squares::begin(nest, e, points, index_error);
        parted(nest, e, &mut r);
        e.forget();
        return squares::finish(e, &r.couples, points);
    }
    if nest.schedule.chains {
        let sums = chains::sums(nest, e, points, index_error);
        e.forget();
        return sums.into_iter().map(Some).collect();
    }
    let whole = r.half_sums.pop_if(|sums| sums.is_whole(nest)).is_some();
    r.start(nest, e, whole);
    parted(nest, e, &mut r);
    e.forget();
    if whole {
        let finished = |(p, &sum)| Some(half_sums::finished(nest, e, p, sum));
        return points.iter().zip(&r.chains[0]).map(finished).collect();
    }
    let over_lanes = matches!(nest.schedule.vector, Vector::Reduction { .. });
    (0..points.len()).map(|p| Some(join(e, &r, p, over_lanes))).collect()
}

impl<'a> Reduction<'a> {
    fn new(
        nest: &Nest,
        points: &'a [TilePoint],
        kind: Accumulator,
        body: u32,
        index_error: i32,
    ) -> Reduction<'a> {
        Reduction {
            points,
            guards: if nest.decided { decidable_guards(nest.linear) } else { Vec::new() },
            neutral: outside_is_neutral(nest.linear),
            outside: false,
            kind,
            body,
            factors: None,
            blocks: Blocks::of(nest.linear, nest.schedule),
            half_sums: HalfSums::of(nest.linear, nest.schedule),
            index_error,
            chains: Vec::new(),
            rest: None,
            couples: Vec::new(),
            words: 4,
            kept: Vec::new(),
            lanes: 1,
            chain: 0,
        }
    }

    /// What the accumulators begin with: of half floats where the `whole` sum is one.
    fn start(&mut self, nest: &Nest, e: &mut Emitter, whole: bool) {
        let over = match (nest.schedule.vector, nest.schedule.reduce.last()) {
            (Vector::Reduction { lanes, .. }, Some(step)) => Some((lanes, step)),
            _ => None,
        };
        let chains = over.map_or(1, |(lanes, step)| {
            (nest.linear.extent(step.var) / width(nest, lanes)).clamp(1, step.unroll)
        });
        if let Vector::Reduction { lanes, .. } = nest.schedule.vector {
            self.lanes = lanes;
        }
        for _ in 0..chains {
            let accumulators = self.points.iter().map(|p| match nest.started {
                _ if whole => half_sums::begun(nest, e, p),
                Some(started) => started.begun(nest, e, p, self.index_error),
                None => self.kind.start(e, over.map_or(p.lanes, |o| o.0)),
            });
            let accumulators = accumulators.collect();
            self.chains.push(accumulators);
        }
        let Some((lanes, step)) = over else { return };
        let rest = match nest.linear.vars[step.var as usize].size {
            Some(_) => 1,
            None => nest.linear.extent(step.var) / nest.schedule.dot % lanes,
        };
        if rest > 0 {
            self.rest = Some((rest, self.points.iter().map(|_| self.kind.start(e, rest)).collect()));
        }
    }
}

/// The folded value of a point: its chains, and the lanes, joined.
fn join(e: &mut Emitter, r: &Reduction, point: usize, over_lanes: bool) -> Reg {
    let mut sum = r.chains[0][point];
    let vector = e.ty(sum);
    for chain in &r.chains[1..] {
        sum = r.kind.joined(e, vector, sum, chain[point]);
    }
    if !over_lanes {
        return r.kind.finished(e, sum);
    }
    let scalar = RegType { lanes: 1, ..vector };
    sum = e.value(scalar, Value::Reduce(r.kind.fold, sum));
    if let Some((_, rest)) = &r.rest {
        let rest = e.value(scalar, Value::Reduce(r.kind.fold, rest[point]));
        sum = r.kind.joined(e, scalar, sum, rest);
    }
    r.kind.finished(e, sum)
}

/// The reduction axes from `depth` on.
fn steps(nest: &mut Nest, e: &mut Emitter, r: &mut Reduction, depth: usize, group: Option<Group>) {
    if block(nest, e, r, depth, &group) || half_sums::summed(nest, e, r, depth) {
        return;
    }
    let Some(&ReduceStep { var, unroll }) = nest.schedule.reduce.get(depth) else {
        return bodies(nest, e, r, group.as_ref());
    };
    if nest.weaves && depth + 2 >= nest.schedule.reduce.len() {
        return woven::steps(nest, e, r, depth);
    }
    if let Vector::Reduction { var: v, lanes } = nest.schedule.vector {
        if v == var {
            return lane_steps(nest, e, r, lanes);
        }
    }
    let extent = nest.linear.extent(var) as i64;
    if nest.schedule.dot == 2 && run(nest.linear, nest.schedule).first() == Some(&var) {
        return couple_steps(nest, e, r);
    }
    if (nest.schedule.dot >= 4 || nest.sixteen) && depth + 1 == nest.schedule.reduce.len() {
        return word_steps(nest, e, r, ReduceStep { var, unroll });
    }
    if let Some(axis) = cut_along(nest, r, var) {
        let (lo, hi) = bounds(nest, r, var);
        return cut_steps(nest, e, r, depth, axis, (lo, hi));
    }
    part(nest, e, r, depth, (Affine::constant(0), Affine::constant(extent)), unroll);
}

/// The points of a reduction axis from one to before another: those inside, and where it matters those outside.
fn part(
    nest: &mut Nest,
    e: &mut Emitter,
    r: &mut Reduction,
    depth: usize,
    (start, end): (Affine, Affine),
    unroll: usize,
) {
    let (mut lo, mut hi) = bounds(nest, r, nest.schedule.reduce[depth].var);
    (lo.0[0], hi.0[0]) = (start.clone(), end.clone());
    if !r.neutral && !r.outside {
        // What lies before and after the part inside is folded with the fill.
        let before = Bound([vec![end.clone()], moving(&lo)].concat());
        let after = Bound([vec![start.clone()], moving(&hi)].concat());
        r.outside = true;
        if !moving(&lo).is_empty() {
            range_steps(nest, e, r, depth, (Bound(vec![start]), before), 1);
        }
        if !moving(&hi).is_empty() {
            range_steps(nest, e, r, depth, (after, Bound(vec![end])), 1);
        }
        r.outside = false;
    }
    range_steps(nest, e, r, depth, (lo, hi), unroll);
}

/// The forms of a bound that padding has added.
fn moving(bound: &Bound) -> Vec<Affine> {
    bound.0[1..].to_vec()
}

/// A part of a reduction axis.
fn range_steps(
    nest: &mut Nest,
    e: &mut Emitter,
    r: &mut Reduction,
    depth: usize,
    (lo, hi): (Bound, Bound),
    unroll: usize,
) {
    let var = nest.schedule.reduce[depth].var;
    let extent = nest.linear.extent(var) as i64;
    let name = nest.linear.vars[var as usize].name.clone();
    let (lo, mut hi) = (constant_of(lo, i64::max), constant_of(hi, i64::min));
    if let Some(size) = nest.linear.vars[var as usize].size.clone() {
        if let (Some(0), Some(end)) = (lo.as_constant(), hi.as_constant())
            && end == extent
        {
            return sized_steps(nest, e, r, depth, &size, unroll as i64);
        }
        hi.0.push(size);
    }
    let (Some(lo), Some(hi)) = (lo.as_constant(), hi.as_constant()) else {
        return e.repeat_bounds(&name, lo, hi, 1, |e, at| {
            nest.place[var as usize] = at;
            steps(nest, e, r, depth + 1, None);
        });
    };
    let unroll = match nest_borders(nest, r, var) {
        true => extent,
        false => unroll as i64,
    };
    let lanes = nest.schedule.lane_loads as i64;
    if unroll >= extent {
        for k in lo..hi {
            nest.place[var as usize] = Affine::constant(k);
            if let Some(axis) = tested_along(nest, r, var) {
                tested_steps(nest, e, r, depth, axis);
                continue;
            }
            let group = lane_group(nest, r, depth, Affine::constant(k - k % lanes), k % lanes, extent);
            steps(nest, e, r, depth + 1, group);
        }
        return;
    }
    let full = lo + (hi - lo).max(0) / unroll * unroll;
    e.repeat(&name, lo, full, unroll, |e, at| {
        for u in 0..unroll {
            nest.place[var as usize] = at.offset(u);
            let group = match lo % lanes == 0 && unroll % lanes == 0 {
                true => lane_group(nest, r, depth, at.offset(u - u % lanes), u % lanes, extent),
                false => None,
            };
            steps(nest, e, r, depth + 1, group);
        }
    });
    for k in full..hi {
        nest.place[var as usize] = Affine::constant(k);
        steps(nest, e, r, depth + 1, None);
    }
}

/// The points of the innermost reduction axis that are loaded together with this one.
fn lane_group(
    nest: &Nest,
    r: &Reduction,
    depth: usize,
    start: Affine,
    lane: i64,
    extent: i64,
) -> Option<Group> {
    let innermost = depth + 1 == nest.schedule.reduce.len();
    let lanes = nest.schedule.lane_loads as i64;
    let inside = !start.is_constant() || start.base + lanes <= extent;
    let wanted = lanes > 1 && innermost && inside && r.kind.dtype == DType::F32;
    let var = nest.schedule.reduce[depth].var;
    // A window that reaches over the border is loaded point by point.
    let padded = r.guards.iter().any(|g| g.form.coefficient(var) != 0);
    (wanted && !padded).then_some(Group { var, start, lanes: lanes as u8, lane: lane as u8 })
}

/// Whether a guard ties `var` to an axis whose tile reaches over the border: then each point is
/// decided by itself.
fn nest_borders(nest: &Nest, r: &Reduction, var: u32) -> bool {
    let border = |v: u32| nest.current[v as usize].is_some_and(|s| s.edge == Edge::Border);
    r.guards
        .iter()
        .any(|g| g.form.coefficient(var) != 0 && g.form.terms.iter().any(|&(v, _)| v != var && border(v)))
}

/// Loop bounds of a reduction axis that keep its guards.
fn bounds(nest: &Nest, r: &Reduction, var: u32) -> (Bound, Bound) {
    let extent = nest.linear.extent(var) as i64;
    let (mut lo, mut hi) = (vec![Affine::constant(0)], vec![Affine::constant(extent)]);
    for guard in r.guards.iter().filter(|g| !r.outside && g.form.coefficient(var) != 0) {
        let axis = guard.form.terms.iter().map(|t| t.0).find(|&v| v != var);
        let segment = axis.and_then(|a| nest.current[a as usize]);
        if segment.is_some_and(|s| s.points > 1) {
            // Interior of a tiled axis: inside whatever the window does; border: point by point.
            continue;
        }
        let step = guard.form.coefficient(var);
        let mut rest = guard.form.clone();
        rest.add_term(var, -step);
        let placed = rest.map_vars(|v| nest.place[v as usize].clone());
        if step == 1 && !placed.is_constant() {
            lo.push(placed.scaled(-1));
            hi.push(placed.scaled(-1).offset(guard.extent as i64));
            continue;
        }
        // Constant over the segment, which ends where the window changes.
        let start = rest.eval(|_| segment.map_or(0, |s| s.start as i64));
        let (first, end) = inside(nest.linear, guard, var, start);
        lo.push(Affine::constant(first));
        hi.push(Affine::constant(end));
    }
    let looped = nest.schedule.reduce.iter().any(|s| s.var == var && s.unroll == 1);
    for margin in nest.linear.margins.iter().filter(|g| looped && r.neutral && g.form.coefficient(var) != 0) {
        let points = |v: u32| nest.current[v as usize].map_or(1, |s| s.points);
        if let Some((first, end)) = reached(margin, var, points, |v| nest.place[v as usize].clone()) {
            lo.push(first);
            hi.push(end);
        }
    }
    (Bound(lo), Bound(hi))
}

/// The body at every point of the tile.
fn bodies(nest: &mut Nest, e: &mut Emitter, r: &mut Reduction, group: Option<&Group>) {
    match nest.schedule.dot {
        8 => squares::bodies(nest, e, r, group),
        _ => (0..r.points.len()).for_each(|point| body(nest, e, r, point, group)),
    }
}

/// The body at a point of the tile.
fn body(nest: &Nest, e: &mut Emitter, r: &Reduction, i: usize, group: Option<&Group>) {
    let over_lanes = match nest.schedule.vector {
        Vector::Reduction { var, .. } => Some(var),
        _ => None,
    };
    let Some((place, guards)) = r.at(nest, i) else { return };
    let point = Point {
        place: &place,
        vector: over_lanes.or(nest.vector_axis()),
        lanes: if over_lanes.is_some() { r.lanes } else { r.points[i].lanes },
        acc: None,
        guards,
        group: group.cloned(),
        chunk: r.points[i].chunk as i64,
    };
    let acc = match &r.rest {
        Some((rest, regs)) if over_lanes.is_some() && r.lanes == *rest => regs[i],
        _ => r.chains[r.chain][i],
    };
    accumulate(nest, e, r, acc, &point);
}

impl Reduction<'_> {
    /// The place of a point of the tile and what is known of its guards; `None` where it has nothing to fold.
    fn at(&self, nest: &Nest, point: usize) -> Option<(Vec<Affine>, Guards)> {
        let point = &self.points[point];
        let place = nest.place_of(point);
        let outside = self.outside || outside(nest, self, &place);
        let offset = &nest.offsets[point.offset];
        let left_out =
            offset.iter().any(|(v, i)| self.kept.iter().any(|(axis, k)| axis == v && !k.contains(i)));
        let guards = match (nest.decided, outside) {
            (_, true) => Guards::Outside,
            (true, false) => Guards::Inside,
            (false, false) => Guards::Tested,
        };
        (!(outside && self.neutral || left_out)).then_some((place, guards))
    }
}

/// Whether a guard is known to fail at a point.
fn outside(nest: &Nest, r: &Reduction, place: &[Affine]) -> bool {
    // A tile at the border is the only one, whatever variable stands for its place.
    let placed = |v: u32| match nest.current[v as usize] {
        Some(Segment { start, edge: Edge::Border, .. }) => {
            place[v as usize].plus_scaled(&nest.place[v as usize], -1).offset(start as i64)
        }
        _ => place[v as usize].clone(),
    };
    r.guards.iter().any(|g| {
        let form = g.form.map_vars(placed);
        let known = match reduction_of(nest.linear, g) {
            None => g.form.eval(|v| match (placed(v), nest.current[v as usize]) {
                (place, Some(segment)) if !place.is_constant() => segment.start as i64,
                (place, _) => place.base,
            }),
            Some(_) if form.is_constant() => form.base,
            Some(_) => return false,
        };
        !(0..g.extent as i64).contains(&known)
    })
}

fn accumulate(nest: &Nest, e: &mut Emitter, r: &Reduction, acc: Reg, point: &Point) {
    let ty = e.ty(acc);
    let together = match (ty.lane, nest.schedule.dot) {
        (Lane::F16, _) => half_sums::product(nest, e, r.body, acc, point),
        (_, 2..) => dot(nest, e, (r.body, r.words), acc, point),
        _ => None,
    };
    if let Some(value) = together {
        return e.assign(acc, value);
    }
    let product = match &nest.linear.nodes[r.body as usize] {
        // What lies outside is the same product in all points.
        Node::Op(Op::Mul, args)
            if r.kind.fold == Fold::Sum
                && (matches!(ty.lane, Lane::F32 | Lane::F64)
                    || (r.kind.dtype == DType::I32 && point.guards != Guards::Outside)) =>
        {
            Some([args[0], args[1]])
        }
        _ => None,
    };
    if let Some(factors) = r.factors.or(product) {
        let [a, b] = factors.map(|f| nest.factor(e, f, point, r.index_error));
        let bytes = product
            .filter(|_| nest.linear.facts.bytes && r.factors.is_none() && point.guards != Guards::Outside);
        let product = match bytes {
            Some([_, second]) if symmetric(nest, second) => Value::Dot(Dot::Bytes, acc, a, b),
            Some(_) => Value::Dot(Dot::Bytes, acc, b, a),
            None => Value::Mla(acc, a, b),
        };
        return e.assign(acc, product);
    }
    let value = nest.eval(e, r.body, point, r.index_error);
    e.assign(acc, r.kind.with(acc, value));
}
