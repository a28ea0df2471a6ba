//! Packing: constant operands stored in the order in which the register tile reads them.
//!
//! A packed operand is laid out as `[outer axes][tile of the vector axis][reduction axes][lanes]`,
//! so that the innermost loop reads it from front to back, whatever its order in the model.

use super::segments::Segment;
use crate::base::Affine;
use crate::schedule::linear::Node;
use crate::schedule::{Linear, Schedule, Vector};

/// The packed form of one operand.
pub struct Packing {
    /// Which operand.
    pub operand: u32,
    /// Address of the element in the unpacked buffer.
    source: Affine,
    /// Variables around the vector tile, with their strides in the packed buffer's region.
    outer: Vec<(u32, usize)>,
    /// Reduction variables, outermost first, with their extents.
    reduce: Vec<(u32, usize)>,
    /// The axis whose neighbours fill lanes; none where the reduction does.
    vector: Option<u32>,
    regions: Vec<Region>,
    /// Neighbours along the innermost reduction axis that lie together in a lane.
    group: usize,
    /// Elements of the packed buffer.
    pub elems: usize,
}

/// The part of the packed buffer that one segment of the vector axis reads.
struct Region {
    segment: Segment,
    start: usize,
    width: usize,
}

impl Packing {
    /// The packing of an operand under a schedule; `None` where it would not help: the operand
    /// does not follow the vector axis, or is read in two ways.
    pub fn new(linear: &Linear, schedule: &Schedule, operand: u32, segments: &[Segment]) -> Option<Packing> {
        let source = single_load(linear, operand)?;
        let (vector, lanes, follows) = match schedule.vector {
            Vector::Axis { var, lanes } => (Some(var), lanes, source.coefficient(var) != 0),
            Vector::Reduction { var, .. } => (None, 1, source.coefficient(var) != 0),
            Vector::None => return None,
        };
        if !follows {
            return None;
        }
        let whole = [Segment { start: 0, points: 1, count: 1, border: false }];
        let segments = if vector.is_some() { segments } else { &whole };
        let reduce: Vec<(u32, usize)> = (schedule.reduce.iter().map(|r| r.var))
            .filter(|&v| source.coefficient(v) != 0)
            .map(|v| (v, linear.extent(v)))
            .collect();
        // What the reduction does not run over (a bias) is no factor of the products of bytes.
        let group = if schedule.dot && !reduce.is_empty() { 4 } else { 1 };
        let depth = depth(&reduce, group);
        let outer_vars = schedule.order.iter().filter(|&&v| Some(v) != vector && source.coefficient(v) != 0);
        let mut outer: Vec<(u32, usize)> = outer_vars.map(|&v| (v, 0)).collect();
        let (mut regions, mut per_point) = (Vec::new(), 0);
        for segment in segments {
            let width = segment.points.next_multiple_of(lanes.min(4));
            regions.push(Region { segment: *segment, start: per_point, width });
            per_point += segment.count * depth * width;
        }
        let mut elems = per_point;
        for (var, stride) in outer.iter_mut().rev() {
            *stride = elems;
            elems *= linear.extent(*var);
        }
        Some(Packing { operand, source, outer, reduce, vector, regions, group, elems })
    }

    /// The first segment of the vector axis.
    pub fn whole(&self) -> Segment {
        self.regions[0].segment
    }

    /// The packed address of the vector at a point: `base` are the places of the variables at the
    /// start of the tile, `chunk` the elements past it along the vector axis.
    pub fn address(&self, place: &[Affine], base: &Affine, segment: &Segment, chunk: i64) -> Affine {
        let region = self.regions.iter().find(|r| r.segment == *segment).unwrap_or(&self.regions[0]);
        let depth = depth(&self.reduce, self.group);
        // Tiles follow one another `depth * width` elements apart, every `points` of the axis.
        let past = base.offset(-(segment.start as i64));
        let tiles = match past.is_constant() {
            true => Affine::constant(past.base / segment.points as i64 * (depth * region.width) as i64),
            false => past.scaled((depth * region.width / segment.points) as i64),
        };
        let mut sum = tiles.offset(region.start as i64 + chunk * self.group as i64);
        for &(var, stride) in &self.outer {
            sum = sum.plus_scaled(&place[var as usize], stride as i64);
        }
        let mut stride = region.width;
        for &(var, extent) in self.reduce.iter().rev() {
            sum = sum.plus_scaled(&place[var as usize], stride as i64);
            stride *= if stride == region.width { extent.next_multiple_of(self.group) } else { extent };
        }
        sum
    }

    /// The reduction axes but the innermost, and the step and extent of that one.
    fn groups(&self) -> (Vec<(u32, usize)>, (i64, usize)) {
        match self.reduce.split_last() {
            Some((&(var, extent), outer)) => (outer.to_vec(), (self.source.coefficient(var), extent)),
            None => (Vec::new(), (0, 1)),
        }
    }

    /// The packed bytes; lanes past the operand's edge are zero.
    pub fn pack(&self, linear: &Linear, data: &[u8], size: usize) -> Vec<u8> {
        let mut packed = vec![0u8; self.elems * size];
        let mut at = 0;
        let outer: Vec<(u32, usize)> = self.outer.iter().map(|&(v, _)| (v, linear.extent(v))).collect();
        for_each_point(&self.source, &outer, self.source.base, &mut |from| {
            for region in &self.regions {
                let step = self.vector.map_or(0, |v| self.source.coefficient(v));
                for tile in 0..region.segment.count {
                    let first = region.segment.start + tile * region.segment.points;
                    let from = from + step * first as i64;
                    let (groups, along) = self.groups();
                    for_each_point(&self.source, &groups, from, &mut |from| {
                        for (i, from) in (0..along.1).map(|i| (i, from + along.0 * i as i64)) {
                            let row = at + i / self.group * self.group * region.width + i % self.group;
                            for lane in 0..region.segment.points {
                                let source = (from + step * lane as i64) as usize * size;
                                let to = (row + lane * self.group) * size;
                                packed[to..to + size].copy_from_slice(&data[source..source + size]);
                            }
                        }
                        at += along.1.next_multiple_of(self.group) * region.width;
                    });
                }
            }
        });
        packed
    }
}

/// Points of the reduction axes, the innermost rounded up to whole groups.
fn depth(reduce: &[(u32, usize)], group: usize) -> usize {
    let (outer, inner) = reduce.split_at(reduce.len().saturating_sub(1));
    let points = |list: &[(u32, usize)]| list.iter().map(|r| r.1).product::<usize>();
    points(outer) * points(inner).next_multiple_of(group)
}

/// Calls `visit` with the address at every point of the variables, in order.
fn for_each_point(form: &Affine, vars: &[(u32, usize)], at: i64, visit: &mut dyn FnMut(i64)) {
    match vars.split_first() {
        None => visit(at),
        Some((&(var, extent), rest)) => {
            let step = form.coefficient(var);
            (0..extent as i64).for_each(|i| for_each_point(form, rest, at + step * i, visit));
        }
    }
}

/// The address of the only load of an operand; `None` where there are several or it is guarded.
fn single_load(linear: &Linear, operand: u32) -> Option<Affine> {
    let mut loads = linear.nodes.iter().filter_map(|n| match n {
        Node::Load { operand: o, addr, dynamic, guards, .. } if *o == operand => {
            Some((addr, dynamic.is_empty() && guards.is_empty()))
        }
        _ => None,
    });
    let (form, plain) = loads.next()?;
    (plain && loads.next().is_none()).then(|| form.clone())
}
