//! Words of bytes that are multiplied in 16 bits.
//!
//! `vpmaddubsw` multiplies four unsigned bytes by four signed ones into two sums of 16 bits, twice as many
//! products as `vpmaddwd` takes. The sums saturate: whether they can is a question to the constants
//! ([`crate::nest::chains`]). Where they cannot, products of up to four words are added in 16 bits before they are
//! widened: a chain. Which words of the constants form chains differs from vector to vector of channels, and so do
//! their order and how many chains there are: here is known how many all vectors have together.

use super::cores::core;
use crate::target::Target;

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
