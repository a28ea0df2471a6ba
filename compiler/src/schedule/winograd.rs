//! Convolutions with windows of 3x3 points by fewer multiplications: Winograd's minimal filtering.
//!
//! `m x m` outputs come from `(m+2) x (m+2)` inputs. Transformed inputs and transformed weights are
//! multiplied point by point, which takes `(m+2)^2 / m^2` multiplications an output in place of 9, and
//! the products, summed over the channels, are transformed back (Lavin and Gray, arXiv:1509.09308).
//! Between the transforms is a product of matrices per point, the [`product`], with a schedule of
//! its own. The tiles of some rows, or of a part of a row, are done at a time, so that little memory is needed in
//! between.

use super::Schedule;
use super::factors::factors;
use super::linear::{Buffer, Facts, Guard, Linear, LinearVar, Node};
use super::slides::Slide;
use crate::base::{Affine, DType};
use crate::scalar::{Fold, Op};

/// Channels whose couples lie in halves.
pub const HALVES: usize = 8;
/// Points of a window along one axis.
pub const WINDOW: usize = 3;

/// Tiles that are done at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tiles {
    /// Outputs of a tile along one axis: 2 or 4.
    pub outputs: usize,
    /// Rows of tiles; divides their number.
    pub rows: usize,
    /// Tiles of each row: all there are, or a part of them, which are whole.
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
    /// Down and across.
    pub slides: [Slide; 2],
    /// The channels out, which lie side by side in the output.
    pub outer: u32,
    /// The channels in, which lie side by side in the data.
    pub inner: u32,
    /// Bytes are multiplied as couples of 16 bits, summed in 32, exactly.
    pub couples: bool,
}

/// What sums of bytes have to stay below to leave two bits of 32 for what tiles of two outputs multiply them by.
const SUMS_OF_TWO: usize = 1 << 29;
/// ... and six bits for tiles of four outputs.
const SUMS_OF_FOUR: usize = 1 << 25;

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
        let [inner] =
            only(linear.reductions().filter(|&v| linear.extent(v) != WINDOW || addr.coefficient(v) == 1))?;
        let windows: [u32; 2] = only(linear.reductions().filter(|&v| v != inner))?;
        let slides = windows.map(|w| slide(linear, addr, guards, outer, w));
        let mut slides = [slides[0]?, slides[1]?];
        slides.sort_by_key(|s| -s.step);
        let side_by_side = addr.coefficient(inner) == 1 && linear.store.coefficient(outer) == 1;
        let guarded = guards.iter().all(|g| slides.iter().any(|s| g.form.coefficient(s.axis) != 0));
        let apart = addr.coefficient(outer) == 0 && slides[0].axis != slides[1].axis;
        let reads = |n: &&Node| matches!(n, Node::Load { operand, .. } if operand == weights);
        let finish = linear.nodes.iter().filter(reads).count() == 1;
        let channels = linear.extent(inner);
        // What stands behind an odd channel is multiplied by zero, and has to be memory.
        let last = addr.range(|v| linear.extent(v)).1;
        let whole = channels.is_multiple_of(2) || last + 1 < linear.buffers[*data as usize].elems as i64;
        let fits = !couples || whole && most(linear, (*data, *weights), channels) < SUMS_OF_TWO;
        // Axes around may end at sizes known only at run time, those of the convolution not.
        let own = [outer, inner, slides[0].axis, slides[1].axis];
        let sized = own.iter().any(|&v| linear.vars[v as usize].size.is_some())
            || guards.iter().any(|g| g.size.is_some());
        (side_by_side && guarded && apart && finish && !sized && fits).then(|| Conv {
            data: *data,
            weights: *weights,
            weight: weight.clone(),
            addr: addr.clone(),
            slides,
            outer,
            inner,
            couples,
        })
    }

    /// The sizes of tiles that there are: outputs along one axis. Those of four need signed weights, whose
    /// multiples fit 16 bits.
    pub fn outputs(&self, linear: &Linear) -> &'static [usize] {
        let signed = linear.buffers[self.weights as usize].dtype == DType::I8;
        match !self.couples || signed && self.most(linear) < SUMS_OF_FOUR {
            true => &[4, 2],
            false => &[2],
        }
    }

    /// What sums of products of bytes do not exceed.
    pub fn most(&self, linear: &Linear) -> usize {
        most(linear, (self.data, self.weights), linear.extent(self.inner))
    }

    /// Whether the couples of all channels out can lie in halves.
    pub fn in_halves(&self, linear: &Linear) -> bool {
        self.couples && linear.extent(self.outer).is_multiple_of(HALVES)
    }

    /// Numbers of 32 bits that the channels in are.
    pub fn channels(&self, linear: &Linear) -> usize {
        linear.extent(self.inner).div_ceil(if self.couples { 2 } else { 1 })
    }

    /// Whether rows of tiles can be done so many at a time: all, or some that are whole.
    pub fn in_rows(&self, linear: &Linear, outputs: usize, across: usize) -> bool {
        let width = linear.extent(self.slides[1].axis);
        across == self.tiles(linear, 1, outputs) || across > 0 && width.is_multiple_of(outputs * across)
    }

    /// So many rows of all their tiles.
    pub fn whole_rows(&self, linear: &Linear, outputs: usize, rows: usize) -> Tiles {
        Tiles { outputs, rows, across: self.tiles(linear, 1, outputs) }
    }

    /// What the numbers in between are.
    pub fn dtype(&self) -> DType {
        if self.couples { DType::I32 } else { DType::F32 }
    }

    /// Tiles along one of the axes.
    pub fn tiles(&self, linear: &Linear, slide: usize, outputs: usize) -> usize {
        linear.extent(self.slides[slide].axis).div_ceil(outputs)
    }

    /// The axes around the convolution: batches.
    pub fn around(&self, linear: &Linear) -> Vec<u32> {
        let own = [self.outer, self.slides[0].axis, self.slides[1].axis];
        linear.axes().filter(|v| !own.contains(v)).collect()
    }
}

/// What the sums of a window over so many channels of bytes do not exceed.
fn most(linear: &Linear, (data, weights): (u32, u32), channels: usize) -> usize {
    let byte = |operand: u32| match linear.buffers[operand as usize].dtype {
        DType::I8 => 128,
        _ => 255,
    };
    channels * WINDOW * WINDOW * byte(data) * byte(weights)
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

/// How a window of three points moves point by point.
fn slide(linear: &Linear, addr: &Affine, guards: &[Guard], outer: u32, window: u32) -> Option<Slide> {
    let slide = Slide::of(linear, addr, guards, outer, window)?;
    (slide.stride == 1 && linear.extent(window) == WINDOW).then_some(slide)
}

/// What a block of tiles needs in between, in elements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Block {
    /// Inputs of a tile along one axis.
    pub inputs: usize,
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
        Block {
            inputs: of.outputs + WINDOW - 1,
            tiles,
            data: apart(tiles * conv.channels(linear)),
            products: apart(tiles * linear.extent(conv.outer)),
        }
    }

    /// The block with the products of so many channels out at a time.
    pub fn with(self, channels: usize) -> Block {
        Block { products: apart(self.tiles * channels), ..self }
    }
}

/// The axis of the channels out in [`product`].
pub const CHANNELS: u32 = 2;

/// The products of a block: `out[p, t, o] = sum(c) in0[p, t, c] * in1[p, c, o]` for points `p` and
/// tiles `t`; a product of couples is the sum of two.
pub fn product(conv: &Conv, linear: &Linear, tiles: Tiles) -> Linear {
    let block = Block::of(conv, linear, tiles);
    let (points, inner, outer) =
        (block.inputs * block.inputs, conv.channels(linear), linear.extent(conv.outer));
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
        facts: Facts::default(),
        compact: linear.compact,
        finish: 3,
    }
}
