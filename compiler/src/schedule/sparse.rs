//! Products by constants of which most are zero: only the others are multiplied.
//!
//! The nonzero weights of one output are a list of places and numbers, so lanes are filled by points: some points'
//! data is turned first, so that each channel's numbers of all of them lie side by side, and sums are turned back to
//! channels before they are finished (Elsen et al., Fast Sparse ConvNets, arXiv:1911.09723, with data that is turned
//! once beforehand). Of a convolution these are rows with their padding: what is multiplied by a weight begins at its
//! place in the window, for all points. Of a single point the numbers are multiplied one by one.

use super::factors::factors;
use super::linear::{Guard, Linear, Node};
use super::slides::Slide;
use crate::base::{Affine, DType};

/// Nonzero weights of an output that are multiplied together, where several points are: each output's are a multiple of
/// so many.
const TOGETHER: usize = 2;
/// ... and of a single point, whose sums would wait for each other.
const ALONE: usize = 4;

/// How a product's zeros are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sparse {
    /// Vectors of points whose sums are in registers at once.
    pub vectors: usize,
    /// Rows of outputs that are done at a time, of a convolution; 1: there are none, and a block has as many points as
    /// these vectors hold.
    pub rows: usize,
}

/// What the points of a product are.
#[derive(Clone, Debug, PartialEq)]
pub enum Along {
    /// A single one.
    One,
    /// Those of an axis.
    Points(u32),
    /// Those that windows move to.
    Windows(Slides),
}

/// The axes along which a window moves, down and across.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slides {
    /// Rows; of a sequence there are none.
    pub down: Option<Slide>,
    /// Columns.
    pub across: Slide,
}

/// How the rows of data that a block reads lie: with their padding, those with the same remainders of row and column by
/// the strides together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rows {
    /// Elements from a row to the next one.
    pub row: usize,
    /// ... and to the rows with the next remainder.
    remainder: usize,
    /// Strides, down and across, and remainders across.
    strides: (usize, usize),
    across: usize,
}

impl Rows {
    /// Where the first element with such remainders is.
    pub fn place(&self, y: usize, x: usize) -> usize {
        (y * self.across + x) * self.remainder
    }

    /// Where the data is that the first output's window has at a place.
    pub fn at(&self, y: usize, x: usize) -> usize {
        let (down, across) = self.strides;
        self.place(y % down, x % across) + y / down * self.row + x / across
    }
}

impl Slides {
    /// How the data of so many rows of outputs lie.
    pub fn rows(&self, linear: &Linear, rows: usize) -> Rows {
        let row = linear.extent(self.across.axis) - 1 + self.across.wholes(linear);
        let down = self.down.as_ref();
        Rows {
            row,
            remainder: row * (rows - 1 + down.map_or(1, |s| s.wholes(linear))),
            strides: (down.map_or(1, |s| s.stride as usize), self.across.stride as usize),
            across: self.across.remainders(linear),
        }
    }

    /// Whether windows reach outside of the data.
    pub fn padded(&self, linear: &Linear) -> bool {
        self.down.iter().chain([&self.across]).any(|s| s.is_padded(linear))
    }

    /// Remainders in all.
    fn remainders(&self, linear: &Linear) -> usize {
        self.down.iter().chain([&self.across]).map(|s| s.remainders(linear)).product()
    }
}

/// A weight of an output: the channel and the place in the window, down and across.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tap {
    /// The channel.
    pub channel: usize,
    /// The row.
    pub y: usize,
    /// The column.
    pub x: usize,
}

/// A product of data by constant weights whose zeros can be left out: `out[p, o] = sum(c) data[p, c] * weight[o, c]`,
/// channels side by side in the data and in the output; or a convolution of these.
#[derive(Clone, Debug, PartialEq)]
pub struct Product {
    /// The operand that is not constant, and the place of its elements.
    pub data: u32,
    /// As in [`Product::data`].
    pub addr: Affine,
    /// The constant operand, and the place of its elements.
    pub weights: u32,
    /// As in [`Product::weights`].
    pub weight: Affine,
    /// The points.
    pub along: Along,
    /// The channels out.
    pub outer: u32,
    /// The channels in.
    pub inner: u32,
}

/// What a block of points needs in between, in elements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Block {
    /// Points of a vector.
    pub across: usize,
    /// The data of all channels.
    pub data: usize,
    /// From the data of a channel to those of the next.
    pub channel: usize,
    /// The sums of a channel, of which there are as many as a vector has.
    pub row: usize,
    rows: usize,
}

impl Block {
    /// All of it.
    pub fn elems(&self) -> usize {
        self.data + self.rows * self.row
    }
}

impl Product {
    /// The product that a definition is; `None` where it is none of this kind.
    pub fn of(linear: &Linear) -> Option<Product> {
        let (_, sums, _) = linear.fold?;
        let (a, b) = factors(linear)?;
        let ((weights, weight, always), (data, addr, guards)) = match (load(linear, a)?, load(linear, b)?) {
            (a, b) if linear.buffers[a.0 as usize].constant => (a, b),
            (a, b) => (b, a),
        };
        let [of_weights, of_data] = [weights, data].map(|o| &linear.buffers[o as usize]);
        let floats = [sums, of_weights.dtype, of_data.dtype].iter().all(|&t| t == DType::F32);
        let known = of_weights.constant && !of_data.constant && always.is_empty();
        let mut outer = linear.axes().filter(|&v| weight.coefficient(v) != 0);
        let (Some(outer), None) = (outer.next(), outer.next()) else { return None };
        let inner = linear.reductions().min_by_key(|&v| addr.coefficient(v))?;
        let windows: Vec<u32> = linear.reductions().filter(|&v| v != inner).collect();
        let along = along(linear, (addr, guards), outer, &windows)?;
        let reads = |n: &&Node| matches!(n, Node::Load { operand, .. } if *operand == weights);
        let once = linear.nodes.iter().filter(reads).count() == 1;
        let step = addr.coefficient(inner);
        let side_by_side =
            (step == 1 || along == Along::One && step > 0) && linear.store.coefficient(outer) == 1;
        let whole = |v: u32| linear.vars[v as usize].size.is_none();
        let apart = addr.coefficient(outer) == 0 && whole(outer) && linear.reductions().all(whole);
        let found =
            Product { data, addr: addr.clone(), weights, weight: weight.clone(), along, outer, inner };
        (floats && known && once && side_by_side && apart).then_some(found)
    }

    /// The weights of an output, in the order in which they are multiplied.
    pub fn taps(&self, linear: &Linear) -> Vec<Tap> {
        let extent = |s: Option<&Slide>| s.map_or(1, |s| linear.extent(s.window));
        let (rows, columns) = match &self.along {
            Along::Windows(slides) => (extent(slides.down.as_ref()), extent(Some(&slides.across))),
            _ => (1, 1),
        };
        let window = move |channel: usize| {
            (0..rows * columns).map(move |i| Tap { channel, y: i / columns, x: i % columns })
        };
        (0..linear.extent(self.inner)).flat_map(window).collect()
    }

    /// The place of a weight among the constant's elements.
    pub fn place(&self, o: usize, tap: Tap) -> usize {
        let [down, across] = match &self.along {
            Along::Windows(slides) => [slides.down.map(|s| s.window), Some(slides.across.window)],
            _ => [None; 2],
        };
        let at = |v: u32| match v {
            _ if v == self.outer => o as i64,
            _ if v == self.inner => tap.channel as i64,
            _ if Some(v) == down => tap.y as i64,
            _ if Some(v) == across => tap.x as i64,
            _ => 0,
        };
        self.weight.eval(at) as usize
    }

    /// Where the data begins that a weight is multiplied by.
    pub fn data_at(&self, linear: &Linear, block: &Block, rows: usize, tap: Tap) -> usize {
        let in_row = match &self.along {
            Along::Windows(slides) => slides.rows(linear, rows).at(tap.y, tap.x),
            _ => 0,
        };
        tap.channel * block.channel + in_row
    }

    /// What a block needs in between.
    pub fn block(&self, linear: &Linear, sparse: Sparse, lanes: usize) -> Block {
        let (inner, rows) = (linear.extent(self.inner), lanes.min(linear.extent(self.outer)));
        match &self.along {
            Along::One => {
                let channel = self.addr.coefficient(self.inner) as usize;
                Block { across: 1, data: 0, channel, row: 1, rows }
            }
            Along::Points(_) => {
                let points = sparse.vectors * lanes;
                Block { across: lanes, data: inner * points, channel: points, row: points, rows }
            }
            Along::Windows(slides) => {
                let lies = slides.rows(linear, sparse.rows);
                let channel = lies.remainder * slides.remainders(linear);
                let points = (sparse.rows - 1) * lies.row + linear.extent(slides.across.axis);
                // The last vector of points reads on behind the last row.
                let data = (inner * channel + lanes).next_multiple_of(lanes);
                Block { across: lanes, data, channel, row: points.next_multiple_of(lanes), rows }
            }
        }
    }

    /// Nonzero weights of an output that are multiplied together.
    pub fn together(&self) -> usize {
        if self.along == Along::One { ALONE } else { TOGETHER }
    }

    /// The axes around the product.
    pub fn around(&self, linear: &Linear) -> Vec<u32> {
        let own = match &self.along {
            Along::One => Vec::new(),
            Along::Points(axis) => vec![*axis],
            Along::Windows(slides) => slides.down.iter().chain([&slides.across]).map(|s| s.axis).collect(),
        };
        linear.axes().filter(|v| *v != self.outer && !own.contains(v)).collect()
    }
}

/// What the points of a product are, whose data is read at such places and sums run over such windows.
fn along(linear: &Linear, (addr, guards): (&Affine, &[Guard]), outer: u32, windows: &[u32]) -> Option<Along> {
    let points = linear.axes().filter(|&v| v != outer && addr.coefficient(v) != 0);
    let slide = |&window: &u32| Slide::of(linear, addr, guards, outer, window);
    let mut slides: Vec<Slide> = windows.iter().map(slide).collect::<Option<_>>()?;
    slides.sort_by_key(|s| s.step);
    let whole = |s: &Slide| linear.vars[s.axis as usize].size.is_none();
    let guarded = guards.iter().all(|g| slides.iter().any(|s| g.form.coefficient(s.window) != 0));
    match slides[..] {
        _ if !guarded || !slides.iter().all(whole) => None,
        [] => match points.max_by_key(|&v| linear.extent(v)) {
            Some(axis) => (!linear.ends(axis)).then_some(Along::Points(axis)),
            None => Some(Along::One),
        },
        [across] => Some(Along::Windows(Slides { down: None, across })),
        [across, down] if across.axis != down.axis => {
            Some(Along::Windows(Slides { down: Some(down), across }))
        }
        _ => None,
    }
}

/// The operand and the place of a load, and where it is inside; what is outside is zero.
fn load<'a>(linear: &Linear, node: &'a Node) -> Option<(u32, &'a Affine, &'a [Guard])> {
    let Node::Load { operand, addr, dynamic, guards, fill } = node else { return None };
    let known = linear.buffers.get(*operand as usize).is_some();
    let zero = fill.is_none_or(|f| f.bits == 0);
    (known && zero && dynamic.is_empty()).then_some((*operand, addr, guards.as_slice()))
}
