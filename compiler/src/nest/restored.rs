//! Weights that are kept narrow, as floats in memory of the kernel's own: made once for all rows that a
//! tile's vectors are multiplied by ([`Restored`]).
//!
//! They lie as the innermost loop reads them, `[reduction axes][points of the tile's vectors]`.

use super::Nest;
use super::emit::{Emitter, addr};
use crate::base::Affine;
use crate::schedule::restored::Restored;
use crate::schedule::{Linear, Schedule, Vector};
use crate::tile::{Lane, Reg, RegType, Value};

/// Elements in a line of the caches.
const LINE: usize = 16;

/// The floats of a tile's vectors.
pub struct Floats {
    /// Loops around them.
    pub depth: usize,
    /// The expression that they are.
    pub factor: u32,
    /// Where they begin in the parameter for what a kernel keeps in between.
    start: usize,
    /// Reduction axes that they follow, outermost first, with elements from one point to the next.
    reduce: Vec<(u32, usize)>,
    end: usize,
}

impl Floats {
    /// Those that a schedule asks for, behind so many elements.
    pub fn of(linear: &Linear, schedule: &Schedule, before: usize) -> Option<Floats> {
        let Vector::Axis { var, lanes } = schedule.vector else { return None };
        let factor = Restored::of(linear, var).filter(|_| schedule.restored)?.factor;
        let mut stride = schedule.points(var) * lanes;
        let mut reduce = Vec::new();
        for step in schedule.reduce.iter().rev().filter(|s| linear.depends(factor, s.var)) {
            reduce.insert(0, (step.var, stride));
            stride *= linear.extent(step.var);
        }
        let start = before.next_multiple_of(LINE);
        let depth = schedule.order.iter().rposition(|&v| v == var || linear.depends(factor, v))? + 1;
        Some(Floats { depth, factor, start, reduce, end: start + stride })
    }

    /// Elements up to its end.
    pub fn end(&self) -> usize {
        self.end
    }

    /// The vector at a point of the reduction, so many elements past the tile's start.
    pub fn at(&self, nest: &Nest, e: &mut Emitter, place: &[Affine], (chunk, lanes): (i64, usize)) -> Reg {
        let ty = RegType { lane: Lane::F32, lanes: lanes as u8 };
        e.value(ty, Value::Load(addr(nest.between().0, self.index(place, chunk)), 1))
    }

    fn index(&self, place: &[Affine], chunk: i64) -> Affine {
        let start = Affine::constant(self.start as i64 + chunk);
        self.reduce.iter().fold(start, |at, &(v, stride)| at.plus_scaled(&place[v as usize], stride as i64))
    }

    /// Makes the floats of the tile in force.
    pub fn fill(&self, nest: &mut Nest, e: &mut Emitter, index_error: i32) {
        self.steps(nest, e, 0, index_error);
    }

    /// The reduction axes from `depth` on.
    fn steps(&self, nest: &mut Nest, e: &mut Emitter, depth: usize, index_error: i32) {
        let Some(&(var, _)) = self.reduce.get(depth) else { return self.vectors(nest, e, index_error) };
        let linear = nest.linear;
        let extent = linear.extent(var) as i64;
        let step = nest.schedule.reduce.iter().find(|s| s.var == var).map_or(1, |s| s.unroll) as i64;
        let full = extent / step * step;
        let mut body = |e: &mut Emitter, at: Affine| {
            nest.place[var as usize] = at;
            self.steps(nest, e, depth + 1, index_error);
        };
        e.repeat(&linear.vars[var as usize].name, 0, full, step, |e, at| {
            (0..step).for_each(|u| body(e, at.offset(u)));
        });
        (full..extent).for_each(|k| body(e, Affine::constant(k)));
    }

    /// The vectors of the tile at a point of the reduction.
    fn vectors(&self, nest: &mut Nest, e: &mut Emitter, index_error: i32) {
        for point in nest.points().into_iter().filter(|p| p.offset == 0) {
            let place = nest.place_of(&point);
            let value = nest.eval(e, self.factor, &nest.point(&place, &point, None), index_error);
            let to = addr(nest.between().0, self.index(&place, point.chunk as i64));
            e.store(to, 1, value);
        }
    }
}
