//! Which products of bytes are made of words that may be multiplied in 16 bits, [`super::chains`].

use super::Vector;
use super::bytes::Bytes;
use super::chains::{ROWS, WORD};
use super::factors::walks;
use super::instructions::couples;
use super::linear::{Linear, Node};
use super::vector::choose_vector;
use crate::base::DType;
use crate::target::{Feature, Target};

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
