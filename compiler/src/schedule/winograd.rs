//! Convolutions by fewer multiplications: Winograd's minimal filtering.
//!
//! `m x m` outputs of a window of 3x3 points come from `(m+2) x (m+2)` inputs. Transformed inputs and transformed
//! weights are multiplied point by point, which takes `(m+2)^2 / m^2` multiplications an output in place of 9, and
//! the products, summed over the channels, are transformed back (Lavin and Gray, arXiv:1509.09308).
//! Between the transforms is a product of matrices per point, the [`product`], with a schedule of
//! its own. The tiles of some rows, or of a part of a row, are done at a time, so that little memory is needed in
//! between.
//!
//! So are windows of four and five points of floats, with fewer outputs for as many inputs. Larger ones are
//! [`Conv::parts`] of so many points along each axis, the last of them filled up with zeros. Their products are one sum:
//! what a part reads are channels of its own.
//!
//! A window along one axis has tiles of `m` outputs. Rows are then the points of another axis
//! ([`Rows::Axis`]); where the window's points lie `d` outputs apart, each `d`-th output is in one of `d` rows.

use super::Schedule;
use super::factors::factors;
use super::like::Like;
use super::linear::{Buffer, Facts, Guard, Linear, LinearVar, Node};
use super::slides::Slide;
use crate::base::{Affine, DType};
use crate::scalar::{Fold, Op};

/// Channels whose couples lie in halves.
pub const HALVES: usize = 8;
/// Points of most parts of a window along one axis, and of all parts where integers are filtered.
pub const WINDOW: usize = 3;

/// Tiles that are done at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tiles {
    /// Outputs of a tile along each axis over which the window moves: 2 or 4 for parts of three points; of floats 3 for
    /// parts of four, 2 of five.
    pub outputs: usize,
    /// Points of a part of the window along each of these.
    pub part: usize,
    /// Rows of tiles; divides their number.
    pub rows: usize,
    /// Tiles of each row: all there are, or a part of them.
    pub across: usize,
}

/// How a convolution is done by minimal filtering.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Winograd {
    /// What is done at a time.
    pub tiles: Tiles,
    /// The words of couples of [`HALVES`] channels lie in halves, for [`crate::tile::Dot::CoupleHalves`].
    pub halves: bool,
    /// Tiles whose products of a column of points stay in registers until they are transformed down; 0: the
    /// products of each point go to memory.
    pub columns: usize,
    /// Each vector of channels out is finished before the next one is multiplied: its products alone are in memory
    /// then.
    pub each: bool,
    /// The schedule of the products of a block.
    pub product: Box<Schedule>,
}

/// What rows of outputs are.
#[derive(Clone, Debug, PartialEq)]
pub enum Rows {
    /// The window moves over them.
    Slide(Slide),
    /// The points of an axis.
    Axis(u32),
    /// Outputs that lie so many apart along the axis over which the window moves.
    Apart(usize),
}

/// A convolution that minimal filtering can do.
#[derive(Clone, Debug, PartialEq)]
pub struct Conv {
    /// The operand the window moves over.
    pub data: u32,
    /// The constant operand.
    pub weights: u32,
    /// Address of the weights.
    pub weight: Affine,
    /// Address of the data.
    pub addr: Affine,
    /// Rows of outputs, one below the other.
    pub rows: Rows,
    /// The window along rows, of outputs that are neighbours there.
    pub across: Slide,
    /// The channels out, which lie side by side in the output.
    pub outer: u32,
    /// The channels in, which lie side by side in the data.
    pub inner: u32,
    /// Bytes are multiplied as couples of 16 bits, summed in 32, exactly.
    pub couples: bool,
}

/// Outputs that the largest tile may have behind the last one there is.
pub const BEHIND: usize = 3;

/// What sums of bytes have to stay below to leave two bits of 32 for what tiles of two outputs multiply them by.
const SUMS_OF_TWO: usize = 1 << 29;
/// ... and six bits for tiles of four outputs.
pub const SUMS_OF_FOUR: usize = 1 << 25;

impl Conv {
    /// The convolution that a definition is; `None` where it is none of this kind.
    pub fn of(linear: &Linear) -> Option<Conv> {
        let (Fold::Sum, sums, body) = linear.fold? else { return None };
        let Node::Op(Op::Mul, args) = &linear.nodes[body as usize] else { return None };
        let cast = |e: u32| matches!(linear.nodes[e as usize], Node::Cast { .. });
        let (a, b) = factors(linear)?;
        let constant =
            |n: &Node| matches!(n, Node::Load { operand, .. } if linear.buffers[*operand as usize].constant);
        let (data, weights, converted) =
            if constant(b) { (a, b, cast(*args.first()?)) } else { (b, a, cast(*args.get(1)?)) };
        let Node::Load { operand: data, addr, dynamic, guards, fill } = data else { return None };
        let Node::Load { operand: weights, addr: weight, dynamic: computed, guards: padded, .. } = weights
        else {
            return None;
        };
        let plain = dynamic.is_empty() && computed.is_empty() && padded.is_empty();
        let zero = fill.is_none_or(|f| f.bits == 0);
        let known = linear.buffers[*weights as usize].constant && !linear.buffers[*data as usize].constant;
        let dtype = |operand: u32| linear.buffers[operand as usize].dtype;
        let floats = sums == DType::F32 && filtered_as_floats(dtype(*data), dtype(*weights), converted);
        let byte = |operand: u32| matches!(dtype(operand), DType::I8 | DType::U8);
        let couples = sums == DType::I32 && byte(*data) && byte(*weights) && guards.is_empty();
        if !(plain && zero && known && (floats || couples)) {
            return None;
        }
        let [outer] = only(linear.axes().filter(|&v| weight.coefficient(v) != 0))?;
        let [inner] = only(linear.reductions().filter(|&v| addr.coefficient(v) == 1))?;
        let (rows, across) = moves(linear, (addr, guards), (outer, inner))?;
        let slides = [Some(&across), rows.slide()];
        let moved = |g: &Guard| slides.iter().flatten().any(|s| g.form.coefficient(s.axis) != 0);
        let guarded = guards.iter().all(moved);
        let reads = |n: &&Node| matches!(n, Node::Load { operand, .. } if operand == weights);
        let finish = linear.nodes.iter().filter(reads).count() == 1;
        // What stands behind an odd channel is multiplied by zero, and has to be memory.
        let last = addr.range(|v| linear.extent(v)).1;
        let even = linear.extent(inner).is_multiple_of(2);
        let whole = even || last + 1 < linear.buffers[*data as usize].elems as i64;
        // Points of a window that lie side by side are no channels: those of the next output begin among them.
        let channels =
            linear.axes().all(|v| !(1..linear.extent(inner) as i64).contains(&addr.coefficient(v)));
        let fits = !couples || channels && whole && most(linear, (*data, *weights)) < SUMS_OF_TWO;
        let sized = sized(linear, &rows, &across, (floats, guards))
            .is_some_and(|whole| !whole || linear.buffers[*data as usize].behind < BEHIND)
            || [outer, inner].into_iter().any(|v| linear.vars[v as usize].size.is_some());
        let apart = addr.coefficient(outer) == 0 && linear.store.coefficient(outer) == 1;
        (guarded && apart && finish && !sized && fits).then(|| Conv {
            data: *data,
            weights: *weights,
            weight: weight.clone(),
            addr: addr.clone(),
            rows,
            across,
            outer,
            inner,
            couples,
        })
    }

    /// The sizes of tiles that there are: outputs along one axis, and points of a part of the window. Those of four need
    /// signed weights, whose multiples fit 16 bits.
    pub fn sizes(&self, linear: &Linear) -> &'static [(usize, usize)] {
        let signed = linear.buffers[self.weights as usize].dtype == DType::I8;
        let slides = [Some(&self.across), self.rows.slide()].into_iter().flatten();
        let points = slides.map(|s| linear.extent(s.window)).min().unwrap_or(WINDOW);
        let small = self.most(linear) < SUMS_OF_FOUR || linear.facts.small_sums;
        match !self.couples {
            true if points > WINDOW => &[(4, WINDOW), (2, WINDOW), (3, 4), (2, 5)],
            false if !(signed && small) => &[(2, WINDOW)],
            _ => &[(4, WINDOW), (2, WINDOW)],
        }
    }

    /// What sums of products of bytes do not exceed.
    pub fn most(&self, linear: &Linear) -> usize {
        most(linear, (self.data, self.weights))
    }

    /// Whether the couples of all channels out can lie in halves.
    pub fn in_halves(&self, linear: &Linear) -> bool {
        self.couples && linear.extent(self.outer).is_multiple_of(HALVES)
    }

    /// Numbers of 32 bits that the channels in are.
    pub fn channels(&self, linear: &Linear) -> usize {
        linear.extent(self.inner).div_ceil(if self.couples { 2 } else { 1 })
    }

    /// Parts of the window of so many points each, down and across.
    pub fn parts(&self, linear: &Linear, part: usize) -> [usize; 2] {
        let of = |slide: &Slide| linear.extent(slide.window).div_ceil(part);
        [self.rows.slide().map_or(1, of), of(&self.across)]
    }

    /// Whether the window moves along two axes, and is one part.
    pub fn is_square(&self, linear: &Linear) -> bool {
        self.rows.slide().is_some() && self.parts(linear, WINDOW) == [1, 1]
    }

    /// Numbers that are multiplied for each point of a tile: the channels of all parts.
    pub fn summed(&self, linear: &Linear, part: usize) -> usize {
        let [down, across] = self.parts(linear, part);
        down * across * self.channels(linear)
    }

    /// Outputs of a tile down and across, where there are so many along an axis over which the window moves.
    pub fn shape(&self, outputs: usize) -> [usize; 2] {
        [self.rows.slide().map_or(1, |_| outputs), outputs]
    }

    /// Rows of outputs, and outputs of each.
    pub fn outs(&self, linear: &Linear) -> [usize; 2] {
        let along = linear.extent(self.across.axis);
        match &self.rows {
            Rows::Slide(slide) => [linear.extent(slide.axis), along],
            Rows::Axis(axis) => [linear.extent(*axis), along],
            Rows::Apart(apart) => [*apart, along / apart],
        }
    }

    /// The place of an output, by its row and its number there.
    pub fn put(&self, place: &mut [Affine], row: &Affine, column: &Affine) {
        let across = self.across.axis as usize;
        match &self.rows {
            Rows::Apart(apart) => place[across] = row.plus_scaled(column, *apart as i64),
            Rows::Axis(axis) | Rows::Slide(Slide { axis, .. }) => {
                (place[*axis as usize], place[across]) = (row.clone(), column.clone());
            }
        }
    }

    /// Whether rows of tiles consist of so many at a time: all, or some that are whole.
    pub fn in_rows(&self, linear: &Linear, outputs: usize, across: usize) -> bool {
        let width = self.outs(linear)[1];
        across == self.tiles(linear, 1, outputs) || across > 0 && width.is_multiple_of(outputs * across)
    }

    /// How often so many tiles of a row are done; the last time there may be fewer.
    pub fn times(&self, linear: &Linear, Tiles { outputs, across, .. }: Tiles) -> usize {
        self.tiles(linear, 1, outputs).div_ceil(across)
    }

    /// So many rows of all their tiles.
    pub fn whole_rows(&self, linear: &Linear, (outputs, part): (usize, usize), rows: usize) -> Tiles {
        Tiles { outputs, part, rows, across: self.tiles(linear, 1, outputs) }
    }

    /// What the numbers in between are.
    pub fn dtype(&self) -> DType {
        if self.couples { DType::I32 } else { DType::F32 }
    }

    /// Rows of tiles (0), or tiles of each (1).
    pub fn tiles(&self, linear: &Linear, way: usize, outputs: usize) -> usize {
        self.outs(linear)[way].div_ceil(self.shape(outputs)[way])
    }

    /// The axes around the convolution: batches.
    pub fn around(&self, linear: &Linear) -> Vec<u32> {
        let own = |v: u32| v == self.outer || v == self.across.axis || self.rows.axis() == Some(v);
        linear.axes().filter(|&v| !own(v)).collect()
    }
}

/// Of a convolution with outputs along axes that end at sizes known only at run time: whether tiles that begin inside may
/// be whole. Axes around may end so in any case.
fn sized(linear: &Linear, rows: &Rows, across: &Slide, (floats, guards): (bool, &[Guard])) -> Option<bool> {
    let sized = |v: u32| linear.vars[v as usize].size.is_some();
    let axes = [Some(across.axis), rows.axis()].into_iter().flatten();
    let moving = axes.into_iter().any(sized) || guards.iter().any(|g| g.size.is_some());
    let mut slides = [Some(across), rows.slide()].into_iter().flatten();
    let short = slides.all(|s| !sized(s.axis) || linear.extent(s.window) == WINDOW);
    let apart = matches!(rows, Rows::Apart(_));
    moving.then_some(floats && short && guards.is_empty() && !linear.exact && !apart)
}

/// What the sums of products of bytes do not exceed.
fn most(linear: &Linear, (data, weights): (u32, u32)) -> usize {
    let byte = |operand: u32| match linear.buffers[operand as usize].dtype {
        DType::I8 => 128,
        _ => 255,
    };
    let products: usize = linear.reductions().map(|v| linear.extent(v)).product();
    products * byte(data) * byte(weights)
}

/// Whether registers hold both factors as floats: half floats become those as they are loaded, weights that are bytes
/// are dequantized by a scale per channel out, and so filtered as the floats that they are.
fn filtered_as_floats(data: DType, weights: DType, converted: bool) -> bool {
    let half = |dtype: DType| dtype.is_float() && dtype.size() == 2;
    (data == DType::F32 && !converted || half(data))
        && (weights == DType::F32 || half(weights) || matches!(weights, DType::I8 | DType::U8))
}

/// The items, if there are just so many.
fn only<const N: usize>(items: impl Iterator<Item = u32>) -> Option<[u32; N]> {
    items.collect::<Vec<u32>>().try_into().ok()
}

impl Rows {
    /// How the window moves over them.
    pub fn slide(&self) -> Option<&Slide> {
        match self {
            Rows::Slide(slide) => Some(slide),
            _ => None,
        }
    }

    /// The axis whose points they are.
    pub fn axis(&self) -> Option<u32> {
        match self {
            Rows::Slide(slide) => Some(slide.axis),
            Rows::Axis(axis) => Some(*axis),
            Rows::Apart(_) => None,
        }
    }
}

/// How the window of a convolution with such channels moves over data at such places: along one axis or two.
fn moves(
    linear: &Linear,
    (addr, guards): (&Affine, &[Guard]),
    (outer, inner): (u32, u32),
) -> Option<(Rows, Slide)> {
    let mut windows = linear.reductions().filter(|&v| v != inner && linear.extent(v) > 1);
    let (first, second) = (windows.next()?, windows.next());
    // Windows of two points gain less than their transforms take.
    let short = [Some(first), second].into_iter().flatten().any(|w| linear.extent(w) < WINDOW);
    if windows.next().is_some() || short {
        return None;
    }
    let slide = |window: u32| Slide::of(linear, addr, guards, outer, window).filter(|s| s.stride == 1);
    if let Some(second) = second {
        let (one, other) = (slide(first)?, slide(second)?);
        let (down, across) = if one.step >= other.step { (one, other) } else { (other, one) };
        return (down.axis != across.axis).then_some((Rows::Slide(down), across));
    }
    if let Some(across) = slide(first) {
        let beside = |&v: &u32| {
            v != outer
                && v != across.axis
                && addr.coefficient(v) != 0
                && linear.vars[v as usize].size.is_none()
        };
        let rows = linear.axes().filter(beside).max_by_key(|&v| linear.extent(v));
        return Some((rows.map_or(Rows::Apart(1), Rows::Axis), across));
    }
    let (apart, across) = Slide::apart(linear, addr, guards, outer, first)?;
    Some((Rows::Apart(apart), across))
}

/// What a block of tiles needs in between, in elements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Block {
    /// Inputs of a tile, down and across.
    pub inputs: [usize; 2],
    /// Tiles of a block.
    pub tiles: usize,
    /// Elements from the transformed inputs of one point to those of the next.
    pub data: usize,
    /// ... and of its products.
    pub products: usize,
}

/// Elements in a cache line.
const LINE: usize = 16;
/// Matrices that are a multiple of so many lines apart meet in few sets of a cache, which do not hold the same place
/// of all of them.
const MEET: usize = 8;

/// From a matrix to the next.
fn apart(elems: usize) -> usize {
    let lines = elems.div_ceil(LINE);
    (lines + usize::from(lines.is_multiple_of(MEET))) * LINE
}

impl Block {
    /// The block of a convolution.
    pub fn of(conv: &Conv, linear: &Linear, of: Tiles) -> Block {
        let tiles = of.rows * of.across;
        let [down, across] = conv.shape(of.outputs);
        Block {
            inputs: [conv.rows.slide().map_or(down, |_| down + of.part - 1), across + of.part - 1],
            tiles,
            data: apart(tiles * conv.summed(linear, of.part)),
            products: apart(tiles * linear.extent(conv.outer)),
        }
    }

    /// The block with the products of so many channels out at a time.
    pub fn with(self, channels: usize) -> Block {
        Block { products: apart(self.tiles * channels), ..self }
    }

    /// The points of a tile that are multiplied.
    pub fn points(&self) -> usize {
        self.inputs[0] * self.inputs[1]
    }
}

/// The axis of the channels out in [`product`].
pub const CHANNELS: u32 = 2;
/// ... and that of the tiles.
pub const TILE: u32 = 1;

/// The products of a block: `out[p, t, o] = sum(c) in0[p, t, c] * in1[p, c, o]` for points `p` and
/// tiles `t`; a product of couples is the sum of two.
pub fn product(conv: &Conv, linear: &Linear, tiles: Tiles) -> Linear {
    let block = Block::of(conv, linear, tiles);
    let (points, inner, outer) = (block.points(), conv.summed(linear, tiles.part), linear.extent(conv.outer));
    let var =
        |name: &str, extent: usize, reduce: bool| LinearVar { name: name.into(), extent, reduce, size: None };
    let form = |terms: [(u32, usize); 3]| {
        let mut form = Affine::constant(0);
        terms.into_iter().for_each(|(v, by)| form.add_term(v, by as i64));
        form
    };
    let load = |operand: u32, addr: Affine| Node::Load {
        operand,
        addr,
        dynamic: Vec::new(),
        guards: Vec::new(),
        fill: None,
    };
    let buffer = |elems: usize, constant: bool| Buffer {
        dtype: conv.dtype(),
        elems,
        constant,
        symmetric: false,
        behind: 0,
        magnitude: None,
    };
    Linear {
        name: format!("{}_products", linear.name),
        vars: vec![
            var("p", points, false),
            var("t", block.tiles, false),
            var("o", outer, false),
            var("c", inner, true),
        ],
        buffers: vec![buffer(points * block.data, false), buffer(points * inner * outer, true)],
        output: buffer(points * block.products, false),
        store: form([(0, block.products), (1, outer), (2, 1)]),
        nodes: vec![
            load(0, form([(0, block.data), (1, inner), (3, 1)])),
            load(1, form([(0, inner * outer), (3, outer), (2, 1)])),
            Node::Op(Op::Mul, vec![0, 1]),
            Node::Acc,
        ],
        types: vec![conv.dtype(); 4],
        fold: Some((Fold::Sum, conv.dtype(), 2)),
        exact: false,
        margins: Vec::new(),
        facts: Facts { like: linear.facts.like.map(Like::of_products), ..Facts::default() },
        compact: linear.compact,
        finish: 3,
    }
}
