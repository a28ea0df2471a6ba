//! Chains of words whose products' sums fit 16 bits, two joined to one where both fit together.
//!
//! Those that go with the fewest others are joined first, each to the one of these that goes with the fewest.

use crate::schedule::chains::LENGTHS;
use std::cmp::Reverse;

/// What weights of one sign may add up to so that 16 bits hold their products' sum.
pub(super) const MOST: usize = i16::MAX as usize / u8::MAX as usize;
/// Words of a chain at most.
const LONGEST: usize = LENGTHS[0];
/// Lanes of a vector at most.
pub(super) const LANES: usize = 16;
/// Other chains that are tried for each, and how much more than fits the largest sums of both may be together: they
/// are seldom of the same channel (MobileNetV2's products take 2 % longer with 24 and 64; with all of them, 0.5 %
/// less).
const TRIED: usize = 48;
const APART: usize = 96;

/// What the positive weights of each sum of two products add up to, and the negative ones.
#[derive(Clone, Copy)]
pub(super) struct Sums {
    /// Four numbers of 16 bits each.
    parts: [u64; LANES],
}

/// What leaves the upper bit of 16 unset where it is added to [`MOST`] at most.
const ROOM: u64 = 0x0001_0001_0001_0001 * (i16::MAX as u64 - MOST as u64);
/// The upper bits of four numbers.
const UPPER: u64 = 0x8000_8000_8000_8000;

impl Sums {
    pub fn of(bytes: &[i16]) -> Sums {
        let mut parts = [0; LANES];
        for (i, pair) in bytes.chunks_exact(2).enumerate() {
            let (a, b) = (i64::from(pair[0]), i64::from(pair[1]));
            let (positive, negative) = (a.max(0) + b.max(0), (-a).max(0) + (-b).max(0));
            parts[i / 2] |= ((positive | negative << 16) as u64) << (32 * (i % 2));
        }
        Sums { parts }
    }

    fn part(&self, i: usize) -> usize {
        usize::from((self.parts[i / 4] >> (16 * (i % 4))) as u16)
    }

    /// The largest sum, and which it is.
    fn largest(&self) -> (usize, usize) {
        let mut largest = (0, 0);
        for (i, part) in self.parts.iter().enumerate() {
            for (j, place) in [0, 16, 32, 48].into_iter().enumerate() {
                let sum = usize::from((part >> place) as u16);
                if sum > largest.0 {
                    largest = (sum, 4 * i + j);
                }
            }
        }
        largest
    }

    fn fit(&self, other: &Sums) -> bool {
        let mut bits = 0;
        for i in 0..LANES {
            bits |= self.parts[i].wrapping_add(other.parts[i]).wrapping_add(ROOM);
        }
        bits & UPPER == 0
    }

    fn with(&self, other: &Sums) -> Sums {
        let mut parts = self.parts;
        for (part, other) in parts.iter_mut().zip(&other.parts) {
            *part += other;
        }
        Sums { parts }
    }
}

/// A word in one of its ways, as a whole or the first or second of two.
#[derive(Clone, Copy, Default)]
pub(super) struct Piece {
    pub word: u32,
    pub way: u8,
    pub part: Option<u8>,
}

/// Words that are summed in 16 bits.
#[derive(Clone, Copy)]
pub(super) struct Chain {
    /// The words, [`Chain::length`] of them.
    pieces: [Piece; LONGEST],
    length: usize,
    sums: Sums,
    /// The largest of the sums, and which it is.
    pub most: usize,
    largest: usize,
}

impl Chain {
    pub fn new(piece: Piece, sums: Sums) -> Chain {
        let (most, largest) = sums.largest();
        Chain { pieces: [piece; LONGEST], length: 1, sums, most, largest }
    }

    pub fn pieces(&self) -> &[Piece] {
        &self.pieces[..self.length]
    }

    /// Whether the sums of both fit 16 bits.
    fn fits(&self, other: &Chain) -> bool {
        let here = |a: &Chain, b: &Chain| a.most + b.sums.part(a.largest) <= MOST;
        here(self, other) && here(other, self) && self.sums.fit(&other.sums)
    }

    fn with(&self, other: &Chain) -> Chain {
        let sums = self.sums.with(&other.sums);
        let (most, largest) = sums.largest();
        let mut both = Chain { sums, most, largest, ..*self };
        both.pieces[self.length..][..other.length].copy_from_slice(other.pieces());
        both.length += other.length;
        both
    }
}

/// Two chains in one where that fits, and those that are left. Of each there are forms, those with the least sums
/// first.
pub(super) fn joined(mut chains: Vec<Vec<Chain>>) -> [Vec<Chain>; 2] {
    chains.sort_by_key(|forms| Reverse(forms[0].most));
    // Another chain, and a form of each.
    let mut partners: Vec<Vec<(u32, [u8; 2])>> = vec![Vec::new(); chains.len()];
    for (i, forms) in chains.iter().enumerate() {
        let room = (MOST + APART).saturating_sub(forms[0].most);
        let first = chains.partition_point(|other| other[0].most > room).max(i + 1);
        for (j, others) in chains.iter().enumerate().skip(first).take(TRIED) {
            if let Some([a, b]) = together(forms, others) {
                partners[i].push((j as u32, [a, b]));
                partners[j].push((i as u32, [b, a]));
            }
        }
    }
    let mut free: Vec<Option<usize>> = partners.iter().map(|p| Some(p.len())).collect();
    let mut pairs = Vec::new();
    // By how many it is free with; what has become free with fewer is there once more.
    let mut queue = vec![Vec::new(); chains.len()];
    (0..chains.len()).rev().for_each(|i| queue[partners[i].len()].push(i));
    let mut count = 1;
    while count < queue.len() {
        let Some(i) = queue[count].pop() else {
            count += 1;
            continue;
        };
        if free[i] != Some(count) {
            continue;
        }
        let left = partners[i].iter().filter(|(j, _)| free[*j as usize].is_some());
        let Some(&(j, [a, b])) = left.min_by_key(|(j, _)| free[*j as usize]) else { break };
        let j = j as usize;
        pairs.push(chains[i][usize::from(a)].with(&chains[j][usize::from(b)]));
        (free[i], free[j]) = (None, None);
        for &(other, _) in partners[i].iter().chain(&partners[j]) {
            if let Some(with) = &mut free[other as usize] {
                *with -= 1;
                queue[*with].push(other as usize);
                count = count.min((*with).max(1));
            }
        }
    }
    let alone = chains.into_iter().zip(free).filter(|(_, free)| free.is_some());
    [pairs, alone.filter_map(|(forms, _)| forms.into_iter().next()).collect()]
}

/// The first forms of two chains that fit each other.
fn together(forms: &[Chain], others: &[Chain]) -> Option<[u8; 2]> {
    forms.iter().enumerate().find_map(|(a, form)| {
        let room = (MOST + APART).saturating_sub(form.most);
        let near = others.iter().take_while(|other| other.most <= room);
        near.enumerate().find(|(_, other)| form.fits(other)).map(|(b, _)| [a as u8, b as u8])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_are_joined_where_none_of_their_sums_could_saturate() {
        let chain = |w: &[i16; 4]| Chain::new(Piece::default(), Sums::of(w));
        let joined = |words: &[&[[i16; 4]]]| {
            let forms = words.iter().map(|forms| forms.iter().map(chain).collect());
            joined(forms.collect()).map(|chains| chains.len())
        };
        let alone = |words: &[[i16; 4]]| joined(&words.iter().map(std::slice::from_ref).collect::<Vec<_>>());
        assert_eq!(alone(&[[64, 0, 0, -60], [32, 32, -68, 0]]), [1, 0]);
        assert_eq!(alone(&[[64, 0, 0, 0], [32, 33, 0, 0]]), [0, 2]);
        assert_eq!(alone(&[[0, 0, -64, 0], [0, 0, -64, -1]]), [0, 2]);
        assert_eq!(alone(&[[100, 20, 0, 0], [-100, -28, 0, 0], [8, 0, 0, 0]]), [1, 1]);
        // The first goes with the third alone.
        assert_eq!(alone(&[[100, 0, 0, 0], [60, 0, 0, 0], [20, 0, 0, 0], [40, 0, 0, 0]]), [2, 0]);
        // In its second form the first goes with the other.
        assert_eq!(joined(&[&[[70, 0, 0, 0], [0, 0, 80, 0]], &[[70, 0, 0, 0]]]), [1, 0]);
    }
}
