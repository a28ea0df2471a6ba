//! Packing: constant operands stored in the order in which the register tile reads them.
//!
//! A packed operand is laid out as `[outer axes][tile of the vector axis][reduction axes][lanes]`,
//! so that the innermost loop reads it from front to back, whatever its order in the model. Elements of
//! four bits lie in pairs, two neighbours along the innermost reduction axis in a byte. Words of bytes that end
//! behind the axis hold zeros there; those of filters of single channels, which are multiplied by words with zeros
//! there, leave them out: 9 bytes of a filter of 3x3 points in place of 12.

use super::Nested;
use super::expr::PackedAt;
use super::reduce::dot::in_halves;
use super::segments::{Edge, Segment};
use crate::base::{Affine, DType};
use crate::schedule::linear::Node;
use crate::schedule::{Linear, ReduceStep, Schedule, Vector};

/// Variables with their extents.
type Extents = Vec<(u32, usize)>;

/// The packed form of one operand.
pub struct Packing {
    /// Which operand.
    pub operand: u32,
    /// Address of the element in the unpacked buffer.
    source: Affine,
    /// Variables around the vector tile, with their strides in the packed buffer's region.
    outer: Vec<(u32, usize)>,
    /// Reduction variables, outermost first, with their extents.
    reduce: Extents,
    /// The innermost of them that are walked as one, of which the last stands for all; with their extents.
    run: Extents,
    /// The axis whose neighbours fill lanes; none where the reduction does.
    vector: Option<u32>,
    regions: Vec<Region>,
    /// Neighbours along the innermost reduction axis that lie together in a lane.
    group: usize,
    /// Neighbours in the last word of a row, where it has only those; 0: all words are whole.
    last: usize,
    /// Lanes of a vector, of whose words halves lie apart; 0: words are whole.
    halves: usize,
    /// Two of them in a byte.
    pairs: bool,
    /// Couples as two numbers of 16 bits.
    wide: bool,
    /// Elements of the packed buffer.
    elems: usize,
}

/// Where rows of a packed matrix are: element `column` of a row is at
/// `((row / width * depth + column) / group * width + row % width) * group + column % group`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackedRows {
    /// Rows of a tile.
    pub width: usize,
    /// Elements of a row, whole groups.
    pub depth: usize,
    /// Neighbours in a row that lie side by side.
    pub group: usize,
}

impl Nested {
    /// Where the rows of a constant operand are as the kernel reads it, if it is a matrix that is packed by rows.
    pub fn packed_rows(&self, operand: u32) -> Option<PackedRows> {
        let packing = self.packings.iter().find(|p| p.operand == operand)?;
        packing.rows().filter(|_| self.packed.is_none())
    }
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
        let whole = [Segment { start: 0, points: 1, count: 1, edge: Edge::Inside }];
        let segments = if vector.is_some() { segments } else { &whole };
        let (run, reduce) = reduced(linear, schedule, &source);
        let innermost = reduce.last().and_then(|last| schedule.reduce.iter().find(|r| r.var == last.0));
        let pairs = vector.is_some()
            && matches!(linear.buffers[operand as usize].dtype, DType::I4 | DType::U4)
            && innermost.is_some_and(|step| in_pairs(linear, step));
        // What the reduction does not run over (a bias) is no factor of the products of bytes.
        let group = match reduce.is_empty() {
            false if schedule.dot > 1 => schedule.dot,
            false if pairs => 2,
            _ => 1,
        };
        let wide = schedule.wide && group > 1;
        let halves = if schedule.halves && group > 1 { lanes } else { 0 };
        let along = reduce.last().map_or(0, |r| r.1);
        let last = if schedule.dense { along % group } else { 0 };
        let depth = depth(&reduce, if last > 0 { 1 } else { group });
        let outer_vars = schedule.order.iter().filter(|&&v| Some(v) != vector && source.coefficient(v) != 0);
        let mut outer: Vec<(u32, usize)> = outer_vars.map(|&v| (v, 0)).collect();
        let (mut regions, mut per_point) = regions(segments, lanes, depth);
        if linear.facts.picked == Some(operand) {
            per_point = widen(&mut regions, depth);
        }
        let mut elems = per_point;
        for (var, stride) in outer.iter_mut().rev() {
            *stride = elems;
            elems *= linear.extent(*var);
        }
        if last > 0 {
            // What loads of words that overlap may read.
            let widest = regions.iter().map(|r| r.width).max().unwrap_or(0);
            elems += (group - last) * widest.min(lanes);
        }
        Some(Packing {
            operand,
            source,
            outer,
            reduce,
            run,
            vector,
            regions,
            group,
            last,
            halves,
            pairs,
            wide,
            elems,
        })
    }

    /// Element type and number of elements as they lie in memory.
    pub fn memory(&self, dtype: DType) -> (DType, usize) {
        match (self.pairs, dtype) {
            (false, _) if self.wide => (DType::I32, self.elems / 2),
            (false, _) => (dtype, self.elems),
            (true, DType::I4) => (DType::I8, self.elems / 2),
            (true, _) => (DType::U8, self.elems / 2),
        }
    }

    /// Where the rows of a matrix are whose columns the reduction runs over; `None` where tiles are not alike, or
    /// elements do not lie one by one.
    pub fn rows(&self) -> Option<PackedRows> {
        let plain = self.halves == 0 && self.last == 0 && !self.pairs && !self.wide;
        let (&[(column, depth)], true) = (&self.reduce[..], plain && self.outer.is_empty()) else {
            return None;
        };
        let steps = [column, self.vector?].map(|v| self.source.coefficient(v));
        let dense = self.source.base == 0 && self.run.is_empty() && steps == [1, depth as i64];
        let dense = dense && depth.is_multiple_of(self.group);
        let width = self.regions.first()?.width;
        let alike = |r: &Region| {
            let whole = r.segment.points == width || r.segment.count == 1;
            whole && r.width == width && r.segment.start * depth == r.start
        };
        (dense && self.regions.iter().all(alike)).then_some(PackedRows { width, depth, group: self.group })
    }

    /// The first segment of the vector axis.
    pub fn whole(&self) -> Segment {
        self.regions[0].segment
    }

    /// The packed address of the vector at a point: `base` are the places of the variables at the
    /// start of the tile, `chunk` the elements past it along the vector axis.
    pub fn address(&self, place: &[Affine], base: &Affine, segment: &Segment, chunk: i64) -> PackedAt {
        let region = self.regions.iter().find(|r| r.segment == *segment).unwrap_or(&self.regions[0]);
        let depth = depth(&self.reduce, self.whole_groups());
        // Tiles follow one another `depth * width` elements apart, every `points` of the axis.
        let past = base.offset(-(segment.start as i64));
        let tiles = match past.is_constant() {
            true => Affine::constant(past.base / segment.points as i64 * (depth * region.width) as i64),
            false => past.scaled((depth * region.width / segment.points) as i64),
        };
        let word = self.word_at(place);
        let mut sum = tiles.offset(region.start as i64 + chunk * word as i64);
        for &(var, stride) in &self.outer {
            sum = sum.plus_scaled(&place[var as usize], stride as i64);
        }
        let mut stride = region.width;
        for &(var, extent) in self.reduce.iter().rev() {
            sum = sum.plus_scaled(&place[var as usize], stride as i64);
            stride *=
                if stride == region.width { extent.next_multiple_of(self.whole_groups()) } else { extent };
        }
        let Some(&(innermost, _)) = self.reduce.last().filter(|_| self.pairs) else {
            return PackedAt { index: sum, second: None, word };
        };
        // Loops run over whole pairs, so that the constant part tells which of the two it is.
        let second = place[innermost as usize].base.rem_euclid(2);
        let first = sum.offset(-second * region.width as i64);
        let halves = first.terms.iter().map(|&(v, c)| (v, c / 2)).collect();
        PackedAt { index: Affine { base: first.base / 2, terms: halves }, second: Some(second == 1), word }
    }

    /// What rows along the innermost reduction axis are multiples of.
    fn whole_groups(&self) -> usize {
        if self.last > 0 { 1 } else { self.group }
    }

    /// Neighbours that a lane's word has at a place.
    fn word_at(&self, place: &[Affine]) -> usize {
        let behind = |&(var, extent): &(u32, usize)| {
            let at = &place[var as usize];
            at.is_constant() && at.base as usize + self.group > extent
        };
        if self.last > 0 && self.reduce.last().is_some_and(behind) { self.last } else { self.group }
    }

    /// The reduction axes but the innermost, and the elements along that one.
    fn groups(&self) -> (Vec<(u32, usize)>, Vec<i64>) {
        let Some((&innermost, outer)) = self.reduce.split_last() else { return (Vec::new(), vec![0]) };
        let run = if self.run.is_empty() { &[innermost] } else { self.run.as_slice() };
        let mut places = Vec::new();
        for_each_point(&self.source, run, 0, &mut |at| places.push(at));
        (outer.to_vec(), places)
    }

    /// Where one of the neighbours in a lane is, of so many points in a row and so many neighbours in a word.
    fn place(&self, lane: usize, neighbour: usize, points: usize, word: usize) -> usize {
        let vector = |lanes: usize| lanes.min(points - lane / lanes * lanes);
        if self.halves == 0 || !in_halves(vector(self.halves)) {
            return lane * word + neighbour;
        }
        if self.group == 2 {
            return lane / 8 * 16 + neighbour * 8 + lane % 8;
        }
        // Of eight words first all lower halves, then all upper ones.
        lane / 8 * 32 + neighbour / 2 * 16 + lane % 8 * 2 + neighbour % 2
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
                        for (i, from) in along.iter().map(|place| from + place).enumerate() {
                            let first = i / self.group * self.group;
                            let row = at + first * region.width;
                            let whole = self.last == 0 || first + self.group <= along.len();
                            let word = if whole { self.group } else { self.last };
                            for lane in 0..region.segment.points {
                                let source = (from + step * lane as i64) as usize * size;
                                let place = self.place(lane, i % self.group, region.segment.points, word);
                                let to = (row + place) * size;
                                packed[to..to + size].copy_from_slice(&data[source..source + size]);
                            }
                        }
                        at += along.len().next_multiple_of(self.whole_groups()) * region.width;
                    });
                }
            }
        });
        match self.pairs {
            true => packed.chunks_exact(2).map(|pair| pair[0] & 15 | pair[1] << 4).collect(),
            false if self.wide && size == 1 => widened(&packed, linear.buffers[self.operand as usize].dtype),
            false => packed,
        }
    }
}

/// The reduction axes that are walked as one, and all that an operand follows, in which the last of these stands for
/// them; outermost first, with their extents.
fn reduced(linear: &Linear, schedule: &Schedule, source: &Affine) -> (Extents, Extents) {
    let with_extent = |v: u32| (v, linear.extent(v));
    let run: Vec<(u32, usize)> = super::panel::run(linear, schedule).into_iter().map(with_extent).collect();
    let followed = schedule.reduce.iter().map(|r| r.var).filter(|&v| source.coefficient(v) != 0);
    let mut reduce: Extents = followed.map(with_extent).collect();
    if !run.is_empty() && !reduce.is_empty() {
        reduce.retain(|v| !run.contains(v));
        let points = run.iter().map(|v| v.1).product();
        reduce.extend(run.last().map(|v| (v.0, points)));
    }
    (run, reduce)
}

/// The parts of the packed buffer that segments read, `depth` rows of a tile each; and their elements.
fn regions(segments: &[Segment], lanes: usize, depth: usize) -> (Vec<Region>, usize) {
    let mut end = 0;
    let region = |segment: &Segment| {
        let (start, width) = (end, segment.points.next_multiple_of(lanes.min(4)));
        end += segment.count * depth * width;
        Region { segment: *segment, start, width }
    };
    let regions = segments.iter().map(region).collect();
    (regions, end)
}

/// Makes all tiles as wide as the widest, and gives the elements then.
fn widen(regions: &mut [Region], depth: usize) -> usize {
    let widest = regions.iter().map(|r| r.width).max().unwrap_or(0);
    let mut end = 0;
    for region in regions {
        (region.start, region.width) = (end, widest);
        end += region.segment.count * depth * widest;
    }
    end
}

/// Whether the loop over a reduction axis runs over pairs of its points, all of them.
fn in_pairs(linear: &Linear, step: &ReduceStep) -> bool {
    let guarded = |n: &Node| match n {
        Node::Load { guards, .. } => guards.iter().any(|g| g.form.coefficient(step.var) != 0),
        _ => false,
    };
    let whole = step.unroll.is_multiple_of(2) || step.unroll >= linear.extent(step.var);
    whole && linear.vars[step.var as usize].size.is_none() && !linear.nodes.iter().any(guarded)
}

/// Bytes as numbers of 16 bits.
fn widened(bytes: &[u8], dtype: DType) -> Vec<u8> {
    let sign = |&b: &u8| if dtype.is_signed_int() && b > 0x7f { 0xff } else { 0 };
    bytes.iter().flat_map(|b| [*b, sign(b)]).collect()
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
