//! The broadcast factor of a tile, widened from bytes to couples of 16 bits, or as unsigned words.
//!
//! Where no instruction multiplies bytes exactly, products of 16 bits do, two summed at a time
//! (`vpmaddwd`). To widen the broadcast factor for each vector would cost as much as the products: what
//! a tile's rows read of it is copied as couples first, and all vectors of the tile's rows read the copy.
//! It is laid out `[rows][reduction axes][couples]`, whatever the windows are that the rows read. What is
//! multiplied in chains of words is copied as it is, once for each way in which its bytes are turned:
//! `[rows][ways][reduction axes][words]`. Where windows of neighbouring rows overlap, by whole words if it is words,
//! what all rows read is one run, of which each row begins some further. Rows that begin within a couple of it read
//! another copy, whose couples begin a byte later.

use super::Nest;
use super::emit::{Emitter, addr};
use super::formed::{ORDERS, flipped};
use crate::base::{Affine, DType};
use crate::schedule::chained::Words;
use crate::schedule::chains::WORD;
use crate::schedule::linear::Node;
use crate::schedule::{Bytes, Linear, Schedule, Vector};
use crate::tile::{Bin, Lane, Reg, RegType, Value};

/// Couples or words in a line of the caches.
const LINE: usize = 16;
/// Vectors that one pass of a copying loop takes.
const VECTORS: usize = 4;
/// Runs that are copied without a loop, of a vector or two each.
const UNROLLED: usize = 4;

/// The innermost reduction axes along which the broadcast factor lies in one run, outermost first: they
/// are one axis for couples.
pub fn run(linear: &Linear, schedule: &Schedule) -> Vec<u32> {
    let Vector::Axis { var, .. } = schedule.vector else { return Vec::new() };
    if schedule.chains {
        return Words::of(linear, var).map_or(Vec::new(), |words| words.run);
    }
    let bytes = Bytes::of(linear, var).filter(|b| b.widened(schedule.dot));
    let Some(Node::Load { addr, .. }) = bytes.map(|b| b.rows) else { return Vec::new() };
    let (mut run, mut length) = (Vec::new(), 1);
    for step in schedule.reduce.iter().rev() {
        if addr.coefficient(step.var) != length {
            break;
        }
        run.insert(0, step.var);
        length *= linear.extent(step.var) as i64;
    }
    run
}

/// The copy for a tile.
pub struct Panel {
    /// Axes around it.
    pub depth: usize,
    operand: u32,
    source: Affine,
    /// Where it begins in the parameter for what a kernel keeps in between.
    start: usize,
    /// Axes of the tile that the factor follows, with couples or words from one row to the next, where rows do not
    /// overlap.
    rows: Vec<(u32, usize)>,
    /// The one of them along which runs overlap, and bytes from one to the next.
    sliding: Option<(u32, usize)>,
    /// Copies of couples, the second one of those that begin a byte later.
    shifts: usize,
    /// Reduction axes that the factor follows around a run, outermost first, with couples from one point to
    /// the next.
    reduce: Vec<(u32, usize)>,
    /// The innermost axis, whose points are parts of couples or words, and bytes of a run along it.
    run: (u32, usize),
    /// Bytes of a couple or word.
    unit: usize,
    /// Words are copied once in each of these orders of their bytes, with the bits flipped.
    turned: Vec<(usize, u32)>,
    /// Words of all rows in one of those ways; of rows that do not overlap, of one.
    words: usize,
    /// Those behind the first row's last one.
    beyond: usize,
    end: usize,
}

/// Axes, each with the stride that puts its points one after the other, and what all of them take together.
fn strided(axes: impl Iterator<Item = (u32, usize)>, element: usize) -> (Vec<(u32, usize)>, usize) {
    let mut end = element;
    let axis = |(axis, points): (u32, usize)| {
        let stride = end;
        end *= points;
        (axis, stride)
    };
    let strides = axes.map(axis).collect();
    (strides, end)
}

impl Panel {
    /// The copy that a schedule asks for, behind so many elements.
    pub fn of(linear: &Linear, schedule: &Schedule, before: usize) -> Option<Panel> {
        let Vector::Axis { var, .. } = schedule.vector else { return None };
        let bytes = Bytes::of(linear, var).filter(|b| b.widened(schedule.dot) || schedule.chains)?;
        let Node::Load { operand, addr: source, .. } = bytes.rows else { return None };
        let follows = |v: u32| source.coefficient(v) != 0;
        let run = run(linear, schedule);
        let length: usize = run.iter().map(|&v| linear.extent(v)).product();
        let chains = linear.facts.chains.filter(|_| schedule.chains);
        let unit = if chains.is_some() { WORD } else { 2 };
        let points = |v: u32| schedule.points(v).min(linear.extent(v));
        let mut moving: Vec<u32> = schedule.order.clone();
        moving.retain(|&v| v != var && follows(v) && points(v) > 1);
        let sliding = match moving[..] {
            [v] => slides(source.coefficient(v), length, unit).map(|step| (v, step)),
            _ => None,
        };
        let behind = sliding.map_or(0, |(v, step)| (points(v) - 1) * step);
        let beyond = behind / unit;
        let shifts = sliding.map_or(1, |(_, step)| if step.is_multiple_of(unit) { 1 } else { unit });
        let around: Vec<u32> = match chains {
            Some(_) => Words::of(linear, var)?.around,
            None => schedule.reduce.iter().map(|r| r.var).filter(|v| !run.contains(v)).collect(),
        };
        let mut words = (length + behind).div_ceil(unit);
        let mut reduce: Vec<(u32, usize)> = Vec::new();
        for &v in around.iter().rev().filter(|&&v| follows(v)) {
            reduce.insert(0, (v, words));
            words *= linear.extent(v);
        }
        let signed = linear.buffers[*operand as usize].dtype == DType::I8;
        let turned = chains.map_or(Vec::new(), |c| flipped(signed, c.turns));
        // An odd number of lines, so that rows lie in different sets of a cache.
        let row = ((words * shifts * turned.len().max(1)).div_ceil(LINE) | 1) * LINE;
        let start = before.next_multiple_of(LINE);
        let (rows, size) = match sliding {
            Some(_) => (Vec::new(), row),
            None => strided(moving.into_iter().map(|v| (v, points(v))), row),
        };
        let depth = schedule.order.iter().take_while(|&&v| follows(v)).count();
        Some(Panel {
            depth,
            operand: *operand,
            source: source.clone(),
            start,
            rows,
            sliding,
            shifts,
            reduce,
            run: (*run.last()?, length),
            unit,
            turned,
            words,
            beyond,
            end: start + size,
        })
    }

    /// Elements up to its end.
    pub fn end(&self) -> usize {
        self.end
    }

    /// Words up to a row's last one, in all ways.
    pub fn words(&self) -> usize {
        self.words * self.turned.len() - self.beyond
    }

    /// Words of a way.
    pub fn way(&self) -> usize {
        self.words
    }

    /// Where a word of a row is: they are counted along its runs.
    pub fn word(&self, word: usize) -> usize {
        let run = self.run.1 / self.unit;
        word / run * self.reduce.last().map_or(0, |r| r.1) + word % run
    }

    /// Where what a row reads begins: `tile` are the places of the variables at the tile's start.
    pub fn row(&self, tile: &[Affine], place: &[Affine]) -> Affine {
        let start = Affine::constant(self.start as i64);
        let row = |v: u32| place[v as usize].plus_scaled(&tile[v as usize], -1);
        match self.sliding {
            Some((v, step)) => {
                let (bytes, unit) = (row(v).base * step as i64, self.unit as i64);
                start.offset(bytes / unit + bytes % unit * self.words as i64)
            }
            None => {
                self.rows.iter().fold(start, |index, &(v, stride)| index.plus_scaled(&row(v), stride as i64))
            }
        }
    }

    /// Where the couple of a point is: `tile` are the places of the variables at the tile's start.
    pub fn index(&self, tile: &[Affine], place: &[Affine]) -> Affine {
        let mut index = self.row(tile, place);
        for &(v, stride) in &self.reduce {
            index = index.plus_scaled(&place[v as usize], stride as i64);
        }
        index.plus(&halved(&place[self.run.0 as usize]))
    }

    /// Copies what the tile in force reads.
    pub fn fill(&self, nest: &Nest, e: &mut Emitter) {
        let linear = nest.linear;
        let lanes = match nest.schedule.vector {
            Vector::Axis { lanes, .. } => lanes,
            _ => 1,
        };
        // Axes of the copy, outermost first: elements of the source and couples from point to point.
        let mut loops: Vec<Loop> = Vec::new();
        let points = |v: u32| nest.current[v as usize].map_or(1, |s| s.points);
        for &(v, stride) in &self.rows {
            loops.push(Loop::new(linear, v, self.source.coefficient(v), stride, points(v)));
        }
        for &(v, stride) in &self.reduce {
            loops.push(Loop::new(linear, v, self.source.coefficient(v), stride, linear.extent(v)));
        }
        let elems = linear.buffers[self.operand as usize].elems as i64;
        let last = self.source.range(|v| linear.extent(v)).1;
        // The packed factor has a zero for what lies behind.
        let bytes = self.run.1 + self.sliding.map_or(0, |(v, step)| (points(v) - 1) * step);
        let place = |v: u32| match linear.vars[v as usize].reduce {
            true => Affine::constant(0),
            false => nest.place[v as usize].clone(),
        };
        let Panel { unit, ref turned, words, .. } = *self;
        let source = self.source.map_vars(place);
        for shift in 0..self.shifts {
            let bytes = bytes - shift;
            let bytes = if last + 1 < elems { bytes.next_multiple_of(unit) } else { bytes };
            let run = Run { from: self.operand, to: nest.between().0, lanes, bytes, unit, turned, words };
            let to = Affine::constant((self.start + shift * words) as i64);
            repeat(e, &loops, (source.offset(shift as i64), to), &run);
        }
    }
}

/// The bytes from a row's run to the next one's, where they overlap by whole units, or by so much that two copies of
/// couples are less than a copy for each row.
fn slides(step: i64, length: usize, unit: usize) -> Option<usize> {
    let step = usize::try_from(step).ok()?;
    let whole = step < length && step.is_multiple_of(unit);
    (whole || unit < WORD && 2 * step < length).then_some(step)
}

/// Half of a form whose terms are even.
pub(super) fn halved(form: &Affine) -> Affine {
    Affine { base: form.base / 2, terms: form.terms.iter().map(|&(v, c)| (v, c / 2)).collect() }
}

/// A loop of a copy.
struct Loop {
    name: String,
    from: i64,
    to: i64,
    points: usize,
}

impl Loop {
    fn new(linear: &Linear, v: u32, from: i64, to: usize, points: usize) -> Loop {
        let var = &linear.vars[v as usize];
        Loop { name: var.name.clone(), from, to: to as i64, points }
    }
}

/// Neighbouring bytes that are copied as couples or words.
struct Run<'a> {
    from: u32,
    to: u32,
    lanes: usize,
    bytes: usize,
    unit: usize,
    turned: &'a [(usize, u32)],
    words: usize,
}

fn repeat(e: &mut Emitter, loops: &[Loop], (from, to): (Affine, Affine), run: &Run) {
    let Some((first, rest)) = loops.split_first() else { return run.copy(e, &from, &to) };
    let body = |e: &mut Emitter, at: Affine| {
        let at = (from.plus_scaled(&at, first.from), to.plus_scaled(&at, first.to));
        repeat(e, rest, at, run);
    };
    let short = run.bytes <= 2 * run.unit * run.lanes && first.points <= UNROLLED;
    match rest.is_empty() && short {
        true => (0..first.points as i64).for_each(|i| body(e, Affine::constant(i))),
        false => e.repeat(&first.name, 0, first.points as i64, 1, body),
    }
}

impl Run<'_> {
    fn copy(&self, e: &mut Emitter, from: &Affine, to: &Affine) {
        let couples = (self.bytes / self.unit) as i64;
        let vector = self.lanes as i64;
        let together = (couples / vector).clamp(1, VECTORS as i64) * vector;
        let full = couples / together * together;
        e.repeat("couple", 0, full, together, |e, at| {
            (0..together).step_by(self.lanes).for_each(|c| self.some(e, from, to, at.offset(c), self.lanes));
        });
        let mut at = full;
        while at < couples {
            // The last ones overlap with those before, so that none is a part of a vector.
            let left = (couples - at) as usize;
            let count = vector.min(left.next_power_of_two().max(2) as i64).min(1 << couples.ilog2());
            at = at.min(couples - count);
            self.some(e, from, to, Affine::constant(at), count as usize);
            at += count;
        }
        if self.bytes % 2 == 1 {
            let byte = RegType { lane: Lane::I32, lanes: 1 };
            let value = e.value(byte, Value::Load(addr(self.from, from.offset(2 * couples)), 1));
            e.store(addr(self.to, to.offset(couples)), 1, value);
        }
    }

    /// Some couples or words at a place.
    fn some(&self, e: &mut Emitter, from: &Affine, to: &Affine, at: Affine, count: usize) {
        let ty = RegType { lane: Lane::I32, lanes: count as u8 };
        let source = addr(self.from, from.plus_scaled(&at, self.unit as i64));
        if self.turned.is_empty() {
            let value = e.value(ty, Value::LoadCouples(source));
            return e.store(addr(self.to, to.plus(&at)), 1, value);
        }
        let words = e.value(ty, Value::LoadWords(source, 4));
        for (way, &(order, bits)) in self.turned.iter().enumerate() {
            let ordered = ordered(e, words, order);
            let turned = match bits {
                0 => ordered,
                _ => {
                    let bits = e.hoisted(ty, u64::from(bits));
                    e.value(ty, Value::Bin(Bin::Xor, ordered, bits))
                }
            };
            e.store(addr(self.to, to.plus(&at).offset((way * self.words) as i64)), 1, turned);
        }
    }
}

/// The bytes of words in another order: those that move so far are shifted at once.
fn ordered(e: &mut Emitter, words: Reg, order: usize) -> Reg {
    let (ty, order) = (e.ty(words), &ORDERS[order]);
    let mut joined: Option<Reg> = None;
    for by in 1 - WORD as i64..WORD as i64 {
        let moved = |place: usize| order[place] as i64 - place as i64 == by;
        let places = (0..WORD).filter(|&place| moved(place));
        let kept: u32 = places.map(|place| 0xff << (8 * place)).sum();
        if kept == 0 {
            continue;
        }
        let shifted = match by {
            0 => words,
            _ => {
                let (shift, count) = if by > 0 { (Bin::ShrU, by) } else { (Bin::Shl, -by) };
                let count = e.value(ty, Value::Const(8 * count as u64));
                e.value(ty, Value::Bin(shift, words, count))
            }
        };
        // What a shift leaves.
        let left = match by {
            0.. => u32::MAX >> (8 * by),
            _ => u32::MAX << (-8 * by),
        };
        let part = match kept == left {
            true => shifted,
            false => {
                let kept = e.hoisted(ty, u64::from(kept));
                e.value(ty, Value::Bin(Bin::And, shifted, kept))
            }
        };
        joined = Some(joined.map_or(part, |joined| e.value(ty, Value::Bin(Bin::Or, joined, part))));
    }
    joined.unwrap_or(words)
}
