//! Words of bytes that are multiplied in 16 bits.
//!
//! `vpmaddubsw` multiplies four unsigned bytes by four signed ones into two sums of 16 bits, twice as many
//! products as `vpmaddwd` takes. The sums saturate: whether they can is a question to the constants
//! ([`crate::nest::chains`]). Where they cannot, products of up to four words are added in 16 bits before they are
//! widened: a chain. Which words of the constants form chains differs from vector to vector of channels, and so do
//! their order and how many chains there are: here is known how many all vectors have together.

use super::bytes::{Bytes, couples};
use super::choose::choose_vector;
use super::factors::walks;
use super::linear::{Linear, Node};
use super::{Vector, cores::core};
use crate::base::DType;
use crate::target::{Feature, Target};

/// Words in a chain, of each kind.
pub const LENGTHS: [usize; 3] = [4, 2, 1];
/// Bytes in a word.
pub const WORD: usize = 4;
/// Rows of the broadcast factor that are multiplied at a time, at least.
pub const ROWS: usize = 4;

/// The chains of words that a product's constants form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Chains {
    /// The axis that fills lanes.
    pub var: u32,
    /// Lanes of a vector.
    pub lanes: usize,
    /// How many there are of each of the [`LENGTHS`], in all vectors of channels.
    pub counts: [usize; 3],
    /// Vectors of channels.
    pub vectors: usize,
    /// Words of a vector at most.
    pub words: usize,
    /// Ways in which a word of the broadcast factor is read: as it is, and with some of its bytes turned (255 less
    /// each, and its weight negated), since weights of two signs add up to less than those of one.
    pub turns: usize,
}

impl Chains {
    /// Cycles of a row's chains in a vector of channels, in the mean.
    pub fn cycles(&self, target: &Target) -> f64 {
        let cycles =
            self.counts.iter().zip(core(target).chains).map(|(&count, cycles)| count as f64 * cycles);
        cycles.sum::<f64>() / self.vectors.max(1) as f64
    }

    /// Chains of a vector, in the mean.
    pub fn mean(&self) -> f64 {
        self.counts.iter().sum::<usize>() as f64 / self.vectors.max(1) as f64
    }
}

/// The words of a product of bytes by constants.
pub struct Words<'a> {
    /// The constant factor.
    pub vectors: &'a Node,
    /// The broadcast one.
    pub rows: &'a Node,
    /// The reduction axes along which the broadcast factor lies in one run, outermost first.
    pub run: Vec<u32>,
    /// The others, outermost first.
    pub around: Vec<u32>,
}

impl Words<'_> {
    /// The words of a product whose lanes are filled along an axis; `None` where they do not lie in memory so.
    pub fn of(linear: &Linear, var: u32) -> Option<Words<'_>> {
        let Bytes { vectors, rows, woven, in_place, .. } =
            Bytes::of(linear, var).filter(|b| b.can_widen(linear))?;
        let (Node::Load { operand: constant, .. }, Node::Load { addr, .. }) = (vectors, rows) else {
            return None;
        };
        let follows = |v: u32| walks(vectors, v) && walks(rows, v);
        let signed = linear.buffers[*constant as usize].dtype == DType::I8;
        let shared = linear.axes().all(|v| v == var || !walks(vectors, v));
        let fixed = linear.vars[var as usize].size.is_none() && in_place.is_none();
        if woven || !(signed && shared && fixed && linear.reductions().all(follows)) {
            return None;
        }
        let (mut around, mut run, mut length): (Vec<u32>, Vec<u32>, i64) =
            (linear.reductions().collect(), Vec::new(), 1);
        while let Some(at) = around.iter().position(|&v| addr.coefficient(v) == length) {
            length *= linear.extent(around[at]) as i64;
            run.insert(0, around.remove(at));
        }
        (!run.is_empty() && length % WORD as i64 == 0).then_some(Words { vectors, rows, run, around })
    }

    /// How many there are.
    pub fn count(&self, linear: &Linear) -> usize {
        let points: usize = linear.reductions().map(|v| linear.extent(v)).product();
        points / WORD
    }
}

/// The vectors of channels that a target may multiply in 16 bits: their axis and lanes.
pub fn chained(linear: &Linear, target: &Target) -> Option<(u32, usize)> {
    if !couples(target) || !target.has(Feature::Avx2) {
        return None;
    }
    let Vector::Axis { var, lanes } = choose_vector(linear, target) else { return None };
    let words = Words::of(linear, var)?;
    let rows = |v: u32| v != var && walks(words.rows, v) && linear.extent(v) >= ROWS;
    linear.axes().any(rows).then_some((var, lanes))
}
