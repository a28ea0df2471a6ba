//! Resizing an axis whose length is known only at run time: positions and weights are computed, in
//! tables of their own, from the lengths; the same numbers as in `resample.rs`, in the same order.

use super::resample::{Coordinates, Filter, Nearest};
use crate::base::{Affine, DType};
use crate::definition::{DefBuilder, ExprId, Index};
use crate::graph::{Graph, Node, ValueId};
use crate::ops::emit::{Arith, Emit, Val, numbers};
use crate::scalar::Op;

const F: DType = DType::F32;

/// One axis: its lengths in this sample, and the factor where it is given.
#[derive(Clone, Copy)]
pub struct Moving {
    pub input: usize,
    pub output: usize,
    pub scale: Option<f64>,
    pub coordinates: Coordinates,
    pub filter: Filter,
}

/// A region that data give: where the start and the end of an axis stand in the roi.
#[derive(Clone)]
pub struct Region {
    pub roi: Val,
    pub start: usize,
    pub end: usize,
}

/// The input elements of each output, and their weights; one element without weights is copied.
pub struct Taps {
    places: Vec<Val>,
    weights: Vec<Val>,
}

impl Moving {
    /// Whether the mode has computed positions.
    pub fn is_supported(&self) -> bool {
        let filter = match self.filter {
            Filter::Nearest(_) => true,
            Filter::Linear { antialias, exclude_outside } => !antialias && !exclude_outside,
            Filter::Cubic { antialias, exclude_outside, .. } => !antialias && !exclude_outside,
        };
        filter && self.coordinates != Coordinates::CropAndResize
    }

    /// Whether the mode has computed positions within a region that data give.
    pub fn takes_regions(&self) -> bool {
        Moving { coordinates: Coordinates::Asymmetric, ..*self }.is_supported()
    }

    /// Defines the tables.
    pub fn taps(&self, e: &mut Emit, float: DType) -> Taps {
        let position = e.map("position", F, [self.output], |b| self.position(b, None));
        self.taps_at(e, float, &position)
    }

    /// The tables of a region of the input, and which outputs lie outside of the input.
    pub fn taps_of(&self, e: &mut Emit, float: DType, region: &Region) -> (Taps, Val) {
        let position = e.map("position", F, [self.output], |b| self.position(b, Some(region)));
        let outside = e.map("outside", DType::Bool, [self.output], |b| {
            let x = b.elem(&position, &[b.var(0)], F);
            let (zero, last) = (b.number(F, 0.0), b.index(Affine::constant(self.input as i64 - 1)));
            let last = b.cast(F, last);
            let (from, to) = (b.op(Op::Ge, &[x, zero]), b.op(Op::Le, &[x, last]));
            let inside = b.op(Op::And, &[from, to]);
            b.op(Op::Not, &[inside])
        });
        (self.taps_at(e, float, &position), outside)
    }

    fn taps_at(&self, e: &mut Emit, float: DType, position: &Val) -> Taps {
        let at = |b: &mut DefBuilder| {
            let x = b.elem(position, &[b.var(0)], F);
            b.cast(DType::F64, x)
        };
        if let Filter::Nearest(nearest) = self.filter {
            let place = e.map("place", DType::I64, [self.output], |b| {
                let x = at(b);
                let nearest = self.nearest(b, nearest, x);
                self.inside(b, nearest)
            });
            return Taps { places: vec![place], weights: Vec::new() };
        }
        let (first, last) = if matches!(self.filter, Filter::Linear { .. }) { (0, 1) } else { (-1, 2) };
        let mut taps = Taps { places: Vec::new(), weights: Vec::new() };
        for tap in first..=last {
            taps.places.push(e.map("place", DType::I64, [self.output], |b| {
                let x = at(b);
                let floor = b.op(Op::Floor, &[x]);
                let place = b.plus_number(floor, f64::from(tap));
                self.inside(b, place)
            }));
            taps.weights.push(e.map("weight", float, [self.output], |b| {
                let x = at(b);
                let floor = b.op(Op::Floor, &[x]);
                let place = b.plus_number(floor, f64::from(tap));
                let distance = b.minus(place, x);
                let weight = self.weight(b, distance);
                b.cast(float, weight)
            }));
        }
        taps
    }

    /// Where an output lies in the input: [`Coordinates::original`] as an expression.
    fn position(&self, b: &mut DefBuilder, region: Option<&Region>) -> ExprId {
        let length = |b: &mut DefBuilder, n: usize| {
            let n = b.index(Affine::constant(n as i64));
            b.cast(F, n)
        };
        let o = b.index(b.var(0));
        let o = b.cast(F, o);
        let (input, output) = (length(b, self.input), length(b, self.output));
        let scale = match self.scale {
            Some(scale) => b.number(F, scale),
            None => b.over(output, input),
        };
        let half_pixel = |b: &mut DefBuilder| {
            let middle = b.plus_number(o, 0.5);
            let middle = b.over(middle, scale);
            b.plus_number(middle, -0.5)
        };
        let unless_one = |b: &mut DefBuilder, length: ExprId, otherwise: f64, x: ExprId| {
            let (one, otherwise) = (b.number(F, 1.0), b.number(F, otherwise));
            let single = b.op(Op::Eq, &[length, one]);
            b.op(Op::Select, &[single, otherwise, x])
        };
        let width = b.times(scale, input);
        if let Some(region) = region {
            let width = if self.scale.is_some() { width } else { output };
            return region.position(b, [o, input, width]);
        }
        match self.coordinates {
            Coordinates::HalfPixel | Coordinates::CropAndResize => half_pixel(b),
            Coordinates::PytorchHalfPixel => {
                let x = half_pixel(b);
                unless_one(b, output, 0.0, x)
            }
            Coordinates::HalfPixelForNearest => {
                let middle = b.plus_number(o, 0.5);
                b.over(middle, scale)
            }
            Coordinates::Asymmetric => b.over(o, scale),
            Coordinates::AlignCorners => {
                let (last, end) = (b.plus_number(input, -1.0), b.plus_number(width, -1.0));
                let x = b.times(o, last);
                let x = b.over(x, end);
                unless_one(b, width, 0.0, x)
            }
            Coordinates::HalfPixelSymmetric => {
                let (part, one) = (b.over(output, width), b.number(F, 1.0));
                let (rest, half) = (b.minus(one, part), b.times_number(input, 0.5));
                let (offset, middle) = (b.times(half, rest), b.plus_number(o, 0.5));
                let middle = b.over(middle, scale);
                let x = b.plus(offset, middle);
                b.plus_number(x, -0.5)
            }
        }
    }

    fn nearest(&self, b: &mut DefBuilder, nearest: Nearest, x: ExprId) -> ExprId {
        match nearest {
            Nearest::RoundPreferFloor => {
                let x = b.plus_number(x, -0.5);
                b.op(Op::Ceil, &[x])
            }
            Nearest::RoundPreferCeil => {
                let x = b.plus_number(x, 0.5);
                b.op(Op::Floor, &[x])
            }
            Nearest::Floor => b.op(Op::Floor, &[x]),
            Nearest::Ceil => b.op(Op::Ceil, &[x]),
            Nearest::Simple => {
                let (floor, ceil) = (b.op(Op::Floor, &[x]), b.op(Op::Ceil, &[x]));
                let length = |n: usize| Affine::constant(n as i64);
                let (input, output) = (b.index(length(self.input)), b.index(length(self.output)));
                let shrinks = match self.scale {
                    Some(scale) => b.number(DType::Bool, f64::from(u8::from(scale < 1.0))),
                    None => b.op(Op::Lt, &[output, input]),
                };
                b.op(Op::Select, &[shrinks, ceil, floor])
            }
        }
    }

    /// A place within the input.
    fn inside(&self, b: &mut DefBuilder, place: ExprId) -> ExprId {
        let place = b.cast(DType::I64, place);
        let (zero, last) = (b.number(DType::I64, 0.0), b.index(Affine::constant(self.input as i64 - 1)));
        let place = b.op(Op::Max, &[place, zero]);
        b.op(Op::Min, &[place, last])
    }

    /// The weight of an element at a distance: the filter's kernel.
    fn weight(&self, b: &mut DefBuilder, distance: ExprId) -> ExprId {
        let d = b.op(Op::Abs, &[distance]);
        let Filter::Cubic { a, .. } = self.filter else {
            let one = b.number(DType::F64, 1.0);
            let rest = b.minus(one, d);
            let zero = b.number(DType::F64, 0.0);
            return b.op(Op::Max, &[rest, zero]);
        };
        // ((a + 2) d - (a + 3)) d^2 + 1 up to 1, ((a d - 5 a) d + 8 a) d - 4 a up to 2.
        let near = b.times_number(d, a + 2.0);
        let near = b.plus_number(near, -(a + 3.0));
        let near = b.times(near, d);
        let near = b.times(near, d);
        let near = b.plus_number(near, 1.0);
        let far = b.times_number(d, a);
        let far = b.plus_number(far, -5.0 * a);
        let far = b.times(far, d);
        let far = b.plus_number(far, 8.0 * a);
        let far = b.times(far, d);
        let far = b.plus_number(far, -4.0 * a);
        let (one, two, zero) =
            (b.number(DType::F64, 1.0), b.number(DType::F64, 2.0), b.number(DType::F64, 0.0));
        let (is_near, is_far) = (b.op(Op::Le, &[d, one]), b.op(Op::Lt, &[d, two]));
        let far = b.op(Op::Select, &[is_far, far, zero]);
        b.op(Op::Select, &[is_near, near, far])
    }
}

impl Taps {
    /// Whether each output is one element.
    pub fn is_gather(&self) -> bool {
        self.weights.is_empty()
    }

    /// The place of tap `t` for the output variable of dimension `d`.
    pub fn place(&self, b: &mut DefBuilder, t: usize, d: usize) -> Index {
        Index::Dynamic(b.elem(&self.places[t], &[b.var(d)], DType::I64))
    }

    /// The weighted sum along dimension `d` of `x`.
    pub fn weighted(&self, b: &mut DefBuilder, x: &Val, d: usize, float: DType) -> ExprId {
        let mut sum = None;
        for (t, weights) in self.weights.iter().enumerate() {
            let mut index: Vec<Index> = b.axes().into_iter().map(Index::Affine).collect();
            index[d] = self.place(b, t, d);
            let element = b.elem_at(x, index, float);
            let weight = b.elem(weights, &[b.var(d)], float);
            let term = b.times(element, weight);
            sum = Some(match sum {
                Some(sum) => b.plus(sum, term),
                None => term,
            });
        }
        sum.unwrap_or_else(|| b.number(float, 0.0))
    }
}

/// An element of a list, where it is known: lists are put together from parts, of which some are constant.
fn known(graph: &Graph, mut value: ValueId, mut at: usize) -> Option<f64> {
    loop {
        if let Some(tensor) = &graph.value(value).constant {
            return numbers(tensor).ok()?.get(at).copied();
        }
        let joins = |n: &&Node| n.op.name == "Concat" && n.outputs.contains(&Some(value));
        let node = graph.nodes.iter().find(joins)?;
        let mut parts = node.inputs.iter().flatten();
        value = *parts.find(|&&part| {
            let length = graph.value(part).ty.elems();
            let here = at < length;
            at -= if here { 0 } else { length };
            here
        })?;
    }
}

impl Region {
    /// Whether it is known to be the whole axis.
    pub fn is_whole(&self, graph: &Graph) -> bool {
        let is = |at: usize, number: f64| known(graph, self.roi.id, at) == Some(number);
        is(self.start, 0.0) && is(self.end, 1.0)
    }

    /// Where an output lies in the input: `Coordinates::original` of the region, as an expression.
    pub fn position(&self, b: &mut DefBuilder, [output, input, width]: [ExprId; 3]) -> ExprId {
        let [start, end] =
            [self.start, self.end].map(|i| b.elem(&self.roi, &[Affine::constant(i as i64)], F));
        let last = b.plus_number(input, -1.0);
        let span = b.minus(end, start);
        let reach = b.times(span, last);
        let (steps, one) = (b.plus_number(width, -1.0), b.number(F, 1.0));
        let within = b.times(output, reach);
        let within = b.over(within, steps);
        let (single, middle) = (b.op(Op::Eq, &[width, one]), b.times_number(reach, 0.5));
        let inside = b.op(Op::Select, &[single, middle, within]);
        let first = b.times(start, last);
        b.plus(inside, first)
    }
}
