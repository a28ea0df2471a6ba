//! Sizes that data decide, as they are taken in the samples of a graph (see [`super::Graph::sample`]).

use super::{Graph, Value};
use std::sync::Arc;

/// Samples (see [`super::Graph::sample`]) from a multiple of this on have sizes around a limit: the multiple.
const NEAR: u32 = 1 << 8;

/// The sample of this number that has sizes, where they depend on data, below and above a limit.
pub fn sample_near(limit: usize, number: u32) -> u32 {
    number % NEAR + NEAR * limit.clamp(1, 1 << 16) as u32
}

/// The sample in which sizes that depend on data are 0.
pub const SAMPLE_OF_NONE: u32 = NEAR - 1;

/// The sample in which they are 1.
pub const SAMPLE_OF_ONE: u32 = NEAR - 2;

impl Graph {
    /// What a value or a node of this graph is called among all graphs of a model.
    pub fn called(&self, name: &str) -> Arc<str> {
        match self.scope {
            0 => name.into(),
            scope => format!("{scope}/{name}").into(),
        }
    }

    /// Whose true flags those of a value are, and how many times.
    pub fn flags(&self, value: &Value) -> (Arc<str>, usize) {
        value.flags.clone().unwrap_or_else(|| (self.called(&value.name), 1))
    }

    /// The key of how many of the flags are true, and how many times that many there are.
    pub fn kept_key(&self, flags: &Value) -> (String, usize) {
        let (name, times) = self.flags(flags);
        (format!("kept {name}"), times)
    }

    /// How many of so many flags are true in this sample: as many times as those that they are made of.
    pub fn kept(&self, bound: usize, (key, times): (&str, usize)) -> usize {
        times * self.chosen(bound / times.max(1), key)
    }

    /// A size that depends on data and is at most `bound`: in the first sample the bound (2 at least), in
    /// others (see [`super::Graph::sample`]) other numbers from 2 on, the same for the same key. In the second sample
    /// it is 2, so that every limit (the best 50 of those found) shows; in half of the rest it is small. With
    /// nothing to choose from it is 0.
    pub fn chosen(&self, bound: usize, key: &str) -> usize {
        if bound == 0 {
            return 0;
        }
        let bound = bound.max(2);
        let (sample, limit) = (self.sample % NEAR, self.sample / NEAR);
        match sample {
            0 | 1 => return bound,
            2 => return 2,
            SAMPLE_OF_NONE => return 0,
            SAMPLE_OF_ONE => return 1,
            _ => {}
        }
        let bytes = key.bytes().chain(self.sample.to_le_bytes());
        let hash =
            bytes.fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
        let all = bound.max(8) - 1;
        let small = all >> ((hash >> 8) as u32 % all.ilog2());
        let count = match limit {
            0 if sample % 2 == 0 => small,
            0 => all,
            limit => all.min(2 * limit as usize),
        };
        2 + (hash >> 20) as usize % count
    }
}
