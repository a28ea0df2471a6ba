//! Products of bytes by weights of four bits in blocks, each block with scales of its own: a block's integers are summed
//! as such, and its sum is scaled once.
//!
//! ```text
//! y[r, n] = sum(b, p) (q[r, b, p] * w[n, b, p] * t[r, b] + c[r, b] * z[n, b]) * s[n, b]
//!         = sum(b) (t[r, b] * sum(p) q[r, b, p] * w[n, b, p] + P * c[r, b] * z[n, b]) * s[n, b]
//! ```
//! `q` are signed bytes, or the sum of three times 65536, 256 and 1: then each has a sum of its own. `w` are constants without a sign, `P` is the length of a block, and `z` may be missing.

use super::instructions::couple_halves;
use super::linear::{Linear, Node};
use super::{Schedule, Vector};
use crate::base::{Affine, DType};
use crate::scalar::{Fold, Op};
use crate::target::{Arch, Target};

/// Weights that two words of a lane hold: a block is a multiple of so many.
pub const TOGETHER: usize = 8;
/// Products of one block that are unrolled, at most: two of four bits by a byte each fit 16 bits so many times.
pub const UNROLLED: usize = 32;

/// How words of bytes are multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Words {
    /// Weights without a sign by signed bytes ([`crate::tile::Dot::Us`]).
    Unsigned,
    /// Signed bytes, as which weights of four bits are the same ([`crate::tile::Dot::Sn`]).
    Signed,
    /// The same, two products summed in 16 bits, of words whose halves lie apart ([`crate::tile::Dot::HalfPairs`]).
    Halves,
    /// Two products are summed in 16 bits ([`crate::tile::Dot::Pairs`]).
    Pairs,
}

impl Words {
    /// Their names in text forms.
    pub const NAMES: [(Words, &'static str); 4] = [
        (Words::Unsigned, "unsigned"),
        (Words::Signed, "signed"),
        (Words::Halves, "halves"),
        (Words::Pairs, "pairs"),
    ];

    /// The fastest that a target has.
    fn of(target: &Target) -> Option<Words> {
        let words = match target.arch {
            Arch::Aarch64 if couple_halves(target) => Words::Halves,
            Arch::Aarch64 => Words::Signed,
            Arch::X86_64 if target.has_vnni() => Words::Unsigned,
            Arch::X86_64 => Words::Pairs,
        };
        target.sums_bytes().then_some(words)
    }

    /// Lanes of a vector: both halves of words fill one.
    fn lanes(self, target: &Target) -> usize {
        if self == Words::Halves { 2 * target.lanes() } else { target.lanes() }
    }
}

/// Register tiles: vectors of columns where there is one row; rows and vectors where there are more.
struct Tiles {
    alone: usize,
    /// Where each vector has three sums.
    split: usize,
    several: (usize, usize),
}

/// Of vectors of one of 32 registers; and of one of 16, or of two.
const TILES: [Tiles; 2] =
    [Tiles { alone: 4, split: 4, several: (4, 2) }, Tiles { alone: 2, split: 1, several: (4, 1) }];

/// A plain load.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// The buffer.
    pub operand: u32,
    /// The element.
    pub addr: Affine,
}

/// The parts of such a product; `data`, `weights`, `factor`, `share`, `zeros` and `scale` are `q`, `w`, `t`, `c`, `z` and
/// `s` of the module's form.
#[allow(missing_docs)]
#[derive(Clone, Debug, PartialEq)]
pub struct Product {
    /// The axis of the columns, which fills lanes.
    pub outer: u32,
    /// The axis of rows, if there are several.
    pub rows: Option<u32>,
    /// The reduction axis that counts blocks, if there are several.
    pub block: Option<u32>,
    /// The one within a block.
    pub place: u32,
    /// One byte of each number or three, the highest first.
    pub data: Vec<Place>,
    pub weights: Place,
    pub factor: Place,
    pub share: Place,
    pub zeros: Option<Place>,
    pub scale: Place,
}

impl Product {
    /// The product that a definition sums, if it is one.
    pub fn of(linear: &Linear) -> Option<Product> {
        let (Fold::Sum, DType::F32, body) = linear.fold? else { return None };
        either(linear, body, Op::Mul, |sum, scale| {
            let scale = place(linear, scale)?;
            either(linear, sum, Op::Add, |product, share| {
                let (share, zeros) = shares(linear, share)?;
                either(linear, product, Op::Mul, |integers, factor| {
                    let factor = place(linear, factor)?;
                    either(linear, integers, Op::Mul, |data, weights| {
                        let (data, weights) = (bytes(linear, data)?, place(linear, weights)?);
                        let places = [weights, factor.clone(), share.clone(), scale.clone()];
                        Product::from(linear, data, places, zeros.clone())
                    })
                })
            })
        })
    }

    fn from(linear: &Linear, data: Vec<Place>, places: [Place; 4], zeros: Option<Place>) -> Option<Product> {
        let [weights, factor, share, scale] = places;
        let columns = [Some(&weights), Some(&scale), zeros.as_ref()];
        let mut reductions = linear.reductions();
        let place = linear.reductions().find(|&v| !moves(&scale, v))?;
        let block = linear.reductions().find(|&v| v != place);
        let outer = linear.axes().find(|&v| moves(&weights, v))?;
        let constant = |p: &Place| linear.buffers[p.operand as usize].constant;
        let only = |p: &Place| p.addr.terms.iter().all(|t| t.0 == outer || linear.vars[t.0 as usize].reduce);
        let of_columns = columns.into_iter().flatten().all(|p| constant(p) && only(p) && moves(p, outer));
        let of_rows = data.iter().chain([&factor, &share]).all(|p| !moves(p, outer));
        let per_block = [Some(&factor), Some(&share), Some(&scale), zeros.as_ref()];
        let per_block = per_block.into_iter().flatten().all(|p| !moves(p, place));
        let dtype = |p: &Place| linear.buffers[p.operand as usize].dtype;
        let half = |p: &Place| matches!(dtype(p), DType::F32 | DType::F16 | DType::BF16);
        let types = data.iter().all(|p| dtype(p) == DType::I8)
            && dtype(&weights) == DType::U4
            && half(&scale)
            && [&factor, &share].iter().all(|p| dtype(p) == DType::F32)
            && zeros.as_ref().is_none_or(|z| half(z) || dtype(z) == DType::U4);
        let fixed = |v: u32| linear.vars[v as usize].size.is_none();
        let lies = data.iter().all(|p| p.addr.coefficient(place) == 1)
            && linear.extent(place).is_multiple_of(TOGETHER)
            && reductions.all(fixed)
            && fixed(outer)
            && linear.store.coefficient(outer) == 1;
        let few = linear.reductions().count() <= 2;
        let rows =
            linear.axes().filter(|&v| data.iter().any(|p| moves(p, v))).max_by_key(|&v| linear.extent(v));
        (of_columns && of_rows && per_block && types && lies && few).then_some(Product {
            outer,
            rows,
            block,
            place,
            data,
            weights,
            factor,
            share,
            zeros,
            scale,
        })
    }

    /// Blocks.
    pub fn blocks(&self, linear: &Linear) -> usize {
        self.block.map_or(1, |b| linear.extent(b))
    }
}

/// What `found` makes of the arguments of an operation on two, in either order.
fn either<T>(linear: &Linear, e: u32, op: Op, found: impl Fn(u32, u32) -> Option<T>) -> Option<T> {
    let Node::Op(is, args) = &linear.nodes[e as usize] else { return None };
    let &[a, b] = args.as_slice() else { return None };
    if *is != op { None } else { found(a, b).or_else(|| found(b, a)) }
}

/// The bytes whose sum an expression is, the highest first.
fn bytes(linear: &Linear, e: u32) -> Option<Vec<Place>> {
    let scaled = |e: u32, by: f32| {
        either(linear, e, Op::Mul, |byte, factor| match &linear.nodes[factor as usize] {
            Node::Const(number) if number.bits == u64::from(by.to_bits()) => place(linear, byte),
            _ => None,
        })
    };
    let split = either(linear, e, Op::Add, |high, others| {
        let high = scaled(high, 65536.0)?;
        either(linear, others, Op::Add, |middle, low| {
            Some(vec![high.clone(), scaled(middle, 256.0)?, place(linear, low)?])
        })
    });
    split.or_else(|| Some(vec![place(linear, e)?]))
}

/// The element that an expression is.
fn place(linear: &Linear, e: u32) -> Option<Place> {
    let Node::Load { operand, addr, dynamic, guards, .. } = &linear.nodes[linear.without_casts(e) as usize]
    else {
        return None;
    };
    (dynamic.is_empty() && guards.is_empty()).then(|| Place { operand: *operand, addr: addr.clone() })
}

/// The shares of a product's rows in the zero points, and these where each column has its own.
fn shares(linear: &Linear, e: u32) -> Option<(Place, Option<Place>)> {
    let constant = |p: &Place| linear.buffers[p.operand as usize].constant;
    let both =
        either(linear, e, Op::Mul, |share, zeros| Some((place(linear, share)?, place(linear, zeros)?)));
    match both {
        Some((zeros, share)) if constant(&zeros) => Some((share, Some(zeros))),
        Some((share, zeros)) => Some((share, Some(zeros))),
        None => Some((place(linear, e)?, None)),
    }
}

fn moves(place: &Place, var: u32) -> bool {
    place.addr.coefficient(var) != 0
}

/// What fills the lanes of such a product, where a target multiplies its words: the columns.
pub(super) fn columns(linear: &Linear, target: &Target) -> Option<Vector> {
    let (product, words) = (Product::of(linear)?, Words::of(target)?);
    Some(Vector::Axis { var: product.outer, lanes: words.lanes(target) })
}

/// The schedule of such a product whose lanes are filled by its columns.
pub(super) fn blocked(linear: &Linear, target: &Target, vector: Vector) -> Option<Schedule> {
    let (product, words) = (Product::of(linear)?, Words::of(target)?);
    let Vector::Axis { var, lanes } = vector else { return None };
    if var != product.outer || lanes != words.lanes(target) {
        return None;
    }
    let few = words == Words::Halves || target.arch == Arch::X86_64 && target.vector_bytes < 64;
    let tiles = &TILES[usize::from(few)];
    let rows = product.rows.filter(|&r| linear.extent(r) > 1 && !linear.ends(r));
    let (m, vectors) = match rows {
        _ if product.data.len() > 1 => (1, tiles.split),
        Some(_) => tiles.several,
        None => (1, tiles.alone),
    };
    let vectors = vectors.min(linear.extent(var).div_ceil(lanes));
    let mut tile = vec![(var, vectors)];
    tile.extend(rows.map(|r| (r, m.min(linear.extent(r)))));
    let around = linear.axes().filter(|&v| v != var && Some(v) != product.rows);
    let columns = [Some(product.weights), product.zeros, Some(product.scale)];
    Some(Schedule {
        vector,
        tile,
        order: around.chain([var]).chain(product.rows).collect(),
        pack: columns.into_iter().flatten().map(|p| p.operand).collect(),
        blocked: Some(words),
        ..Schedule::naive(linear)
    })
}
