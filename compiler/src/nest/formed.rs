//! Which words of constants form chains, whose products are summed in 16 bits ([`super::chains`]).
//!
//! An instruction multiplies unsigned bytes `x` by signed ones `w` and gives sums of two products, which saturate at
//! 16 bits. None of them does where the positive ones of the two weights, and so the negative ones, add up to
//! [`MOST`]: the sum lies between 255 times these. The same holds for the sum of a chain's products.
//!
//! Weights of one sign add up to less where a byte is turned: `x * w = 255 * w - (255 - x) * w`. So each word
//! of bytes lies there in some ways, of which a word of weights chooses one, and the constants are what sums begin
//! with. Ways are in three orders of the bytes, since each puts others beside each other. A word that exceeds
//! [`MOST`] in all ways is two words; one of zeros is none.
//!
//! Words are joined to chains where some way of each goes with the other's: [`super::joined`].

use super::joined::{Chain, LANES, MOST, Piece, Sums, joined};
use crate::base::{Affine, DType, in_parallel};
use crate::schedule::Linear;
use crate::schedule::chained::{Words, chained};
use crate::schedule::chains::{Chains, LENGTHS, WORD};
use crate::schedule::linear::Node;
use crate::target::Target;

/// The bytes of a word that are turned, in each way of an order.
const TURNED: [u32; 4] = [0, 0xff00_ff00, 0x0000_ff00, 0xff00_0000];
/// Which byte of a word stands in each place, by order.
pub const ORDERS: [[usize; WORD]; 3] = [[0, 1, 2, 3], [3, 0, 1, 2], [0, 2, 1, 3]];
/// Numbers of ways that are tried.
const WAYS: [usize; 5] = [1, 2, 4, 8, 12];
/// Vectors of channels by which they are compared.
const SAMPLES: usize = 6;
/// Bytes of a row in all ways at most: some rows shall stay in a first-level cache.
const ROW: usize = 6144;
/// Cycles in which a vector of a row is copied in one way.
const COPIED: f64 = 1.0;
/// Ways of a word, those with the least sums, in which it is joined to others.
const FORMS: usize = 6;

/// The order of a word's bytes and the bits that are flipped in it, in each of so many ways: signed ones become
/// unsigned besides.
pub fn flipped(signed: bool, turns: usize) -> Vec<(usize, u32)> {
    let unsigned = if signed { 0x8080_8080 } else { 0 };
    (0..turns).map(|way| (way / TURNED.len(), turned(way) ^ unsigned)).collect()
}

/// The bytes that are turned in a way.
fn turned(way: usize) -> u32 {
    TURNED[way % TURNED.len()]
}

/// A word of each lane's weights, and where the bytes are that it is multiplied by.
pub(super) struct Word {
    /// Its number among a row's words in all ways.
    pub place: usize,
    /// Four bytes of each lane.
    pub weights: Vec<i8>,
}

/// The chains of a vector of channels: of four words, of two, of one.
type Kinds<T> = [Vec<T>; 3];

/// A word as one that fits, or as two: what exceeds the most is left to the second.
fn parts(weights: &[i16]) -> [Vec<i16>; 2] {
    let mut parts = [(); 2].map(|_| Vec::with_capacity(weights.len()));
    let byte = |w: i16| w.clamp(i16::from(i8::MIN), i16::from(i8::MAX));
    for pair in weights.chunks_exact(2) {
        let first = byte(pair[0]);
        let room = MOST as i16 - if (first < 0) == (pair[1] < 0) { first.abs() } else { 0 };
        let second = byte(pair[1].clamp(-room, room));
        parts[0].extend([first, second]);
        parts[1].extend([pair[0] - first, pair[1] - second]);
    }
    parts
}

/// A word's weights in one of its ways.
fn in_way(word: &[i16], way: usize) -> [i16; LANES * WORD] {
    let (order, turned) = (ORDERS[way / TURNED.len()], turned(way));
    let signs: [i16; WORD] = std::array::from_fn(|i| if turned >> (8 * i) & 1 == 1 { -1 } else { 1 });
    let mut weights = [0; LANES * WORD];
    for (from, to) in word.chunks_exact(WORD).zip(weights.chunks_exact_mut(WORD)) {
        for i in 0..WORD {
            to[i] = from[order[i]] * signs[i];
        }
    }
    weights
}

/// The constants that a product's words are made of.
struct Weights<'a> {
    linear: &'a Linear,
    words: Words<'a>,
    data: &'a [u8],
    addr: &'a Affine,
    /// From a channel's first weight to each byte of its words.
    steps: Vec<i64>,
    var: u32,
    lanes: usize,
}

impl<'a> Weights<'a> {
    fn of(linear: &'a Linear, (var, lanes): (u32, usize), data: &'a [u8]) -> Option<Weights<'a>> {
        let words = Words::of(linear, var)?;
        let Node::Load { addr, .. } = words.vectors else { return None };
        let axes = words.around.iter().chain(&words.run);
        let steps = axes.fold(vec![0], |steps, &v| {
            let along = |&at: &i64| (0..linear.extent(v) as i64).map(move |i| at + i * addr.coefficient(v));
            steps.iter().flat_map(along).collect()
        });
        Some(Weights { linear, words, data, addr, steps, var, lanes })
    }

    fn channels(&self) -> usize {
        self.linear.extent(self.var)
    }

    /// The bytes of one word of each lane, from a channel on; what lies behind the last channel is zero.
    fn word(&self, channel: usize, word: usize) -> Vec<i16> {
        let step = self.addr.coefficient(self.var);
        let mut bytes = vec![0; self.lanes * WORD];
        let inside = self.lanes.min(self.channels().saturating_sub(channel));
        for (lane, bytes) in bytes.chunks_exact_mut(WORD).enumerate().take(inside) {
            let first = self.addr.base + (channel + lane) as i64 * step;
            for (byte, at) in bytes.iter_mut().zip(&self.steps[word * WORD..]) {
                let weight = usize::try_from(first + at).ok().and_then(|place| self.data.get(place));
                *byte = weight.map_or(0, |&b| i16::from(b as i8));
            }
        }
        bytes
    }

    /// A word in its forms: the ways in which it fits, or two words of which each has one.
    fn forms(&self, channel: usize, word: usize, turns: usize) -> Vec<Vec<Chain>> {
        let bytes = self.word(channel, word);
        let piece = |way: usize, part: Option<u8>| Piece { word: word as u32, way: way as u8, part };
        let mut ways: Vec<(Chain, bool, usize)> = (0..turns)
            .map(|way| {
                let weights = in_way(&bytes, way);
                let bytes = weights.iter().all(|&w| w <= i16::from(i8::MAX));
                (Chain::new(piece(way, None), Sums::of(&weights)), bytes, way)
            })
            .collect();
        ways.sort_by_key(|&(chain, _, way)| (chain.most, way));
        let fitting = ways.iter().filter(|(chain, bytes, _)| chain.most <= MOST && *bytes);
        let forms: Vec<Chain> = fitting.take(FORMS).map(|way| way.0).collect();
        match (forms.first(), ways.first()) {
            (Some(least), _) if least.most == 0 => Vec::new(),
            (Some(_), _) => vec![forms],
            (None, Some(&(.., way))) => {
                let parts = parts(&in_way(&bytes, way)).map(|part| Sums::of(&part)).into_iter().zip([0, 1]);
                let parts = parts.map(|(sums, part)| Chain::new(piece(way, Some(part)), sums));
                parts.filter(|part| part.most > 0).map(|part| vec![part]).collect()
            }
            (None, None) => Vec::new(),
        }
    }

    /// The chains of the vector of channels that begins with one.
    fn kinds(&self, channel: usize, turns: usize) -> Kinds<Chain> {
        let words = 0..self.words.count(self.linear);
        let [twos, ones] = joined(words.flat_map(|word| self.forms(channel, word, turns)).collect());
        let [fours, twos] = joined(twos.into_iter().map(|chain| vec![chain]).collect());
        [fours, twos, ones]
    }

    /// The words of a chain of the vector of channels that begins with one.
    fn written(&self, channel: usize, chain: &Chain) -> Vec<Word> {
        let word = |piece: &Piece| {
            let (word, way) = (piece.word as usize, usize::from(piece.way));
            let weights = in_way(&self.word(channel, word), way);
            let parts = piece.part.map(|part| (parts(&weights), usize::from(part)));
            let weights = parts.as_ref().map_or(weights.as_slice(), |(parts, part)| &parts[*part]);
            let weights = weights[..self.lanes * WORD].iter().map(|&w| w as i8).collect();
            let place = way * self.words.count(self.linear) + word;
            Word { place, weights }
        };
        chain.pieces().iter().map(word).collect()
    }

    /// The vector of channels that begins with one.
    fn panel(&self, channel: usize, turns: usize) -> Channels {
        let kinds = self.kinds(channel, turns);
        let kinds = kinds.map(|chains| chains.iter().map(|chain| self.written(channel, chain)).collect());
        let begins = (0..self.lanes).map(|lane| self.begins(&kinds, lane)).collect();
        Channels { kinds, begins }
    }

    /// What a channel's sum begins with: what turned bytes, and signed ones that became unsigned, add to it.
    fn begins(&self, kinds: &Kinds<Vec<Word>>, lane: usize) -> i32 {
        let count = self.words.count(self.linear);
        let signed = match self.words.rows {
            Node::Load { operand, .. } => self.linear.buffers[*operand as usize].dtype == DType::I8,
            _ => false,
        };
        let words = kinds.iter().flatten().flatten();
        words.fold(0, |sum: i32, word| {
            let bits = turned(word.place / count);
            (0..WORD).fold(sum, |sum, i| {
                let weight = i32::from(word.weights[lane * WORD + i]);
                // The byte is `x`, `255 - x`, `x + 128` or `127 - x`.
                let turned = bits >> (8 * i) & 1 == 1;
                let added =
                    if turned { 255 } else { 0 } + if signed { 128 } else { 0 } * if turned { -1 } else { 1 };
                sum.wrapping_sub(weight.wrapping_mul(added))
            })
        })
    }
}

/// A vector of channels.
pub(super) struct Channels {
    /// The words of its chains.
    pub kinds: Kinds<Vec<Word>>,
    /// What its sums begin with.
    pub begins: Vec<i32>,
}

/// The chains that a definition's constants form.
pub struct Formed {
    /// How many.
    pub chains: Chains,
    /// Those of each vector of channels.
    pub(super) panels: Vec<Channels>,
}

/// The chains that a definition's constants form on a target that multiplies words in 16 bits.
pub fn chains<'a>(
    linear: &Linear,
    target: &Target,
    data: impl Fn(u32) -> Option<&'a [u8]>,
) -> Option<Formed> {
    let (var, lanes) = chained(linear, target).filter(|of| of.1 <= LANES)?;
    let Node::Load { operand, .. } = Words::of(linear, var)?.vectors else { return None };
    let weights = Weights::of(linear, (var, lanes), data(*operand)?)?;
    let words = weights.words.count(linear);
    let channels: Vec<usize> = (0..weights.channels()).step_by(lanes).collect();
    let counted = |panels: &[[usize; 3]], turns: usize| {
        let length = |counts: &[usize; 3]| counts.iter().zip(LENGTHS).map(|(n, l)| n * l).sum();
        Chains {
            var,
            lanes,
            counts: std::array::from_fn(|kind| panels.iter().map(|counts| counts[kind]).sum()),
            vectors: panels.len(),
            words: panels.iter().map(length).max().unwrap_or(0),
            turns,
        }
    };
    let samples: Vec<usize> = channels.iter().copied().step_by(channels.len().div_ceil(SAMPLES)).collect();
    let cost = |turns: usize| {
        let sample = |i: usize| weights.kinds(samples[i], turns).map(|chains| chains.len());
        let panels = in_parallel(samples.len(), &sample);
        let copied = (turns * words) as f64 / lanes as f64 * COPIED;
        counted(&panels, turns).cycles(target) * channels.len() as f64 + copied
    };
    let ways = WAYS.into_iter().filter(|&turns| turns == 1 || turns * words * WORD <= ROW);
    let turns = ways.map(|turns| (cost(turns), turns)).min_by(|a, b| a.0.total_cmp(&b.0))?.1;
    let panels = in_parallel(channels.len(), &|i| weights.panel(channels[i], turns));
    let counts: Vec<[usize; 3]> = panels.iter().map(|p| std::array::from_fn(|i| p.kinds[i].len())).collect();
    Some(Formed { chains: counted(&counts, turns), panels })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 255 times 128 fits 16 bits, 255 times 129 does not.
    #[test]
    fn a_word_that_could_saturate_is_two() {
        let split = |weights: [i16; 4]| parts(&weights);
        assert_eq!(split([64, 64, -127, 127]), [vec![64, 64, -127, 127], vec![0; 4]]);
        assert_eq!(split([65, 64, -64, -65]), [vec![65, 63, -64, -64], vec![0, 1, 0, -1]]);
        assert_eq!(split([127, 127, -128, -128]), [vec![127, 1, -128, 0], vec![0, 126, 0, -128]]);
        // What -128 is where it is turned is no byte.
        assert_eq!(split([128, 128, 128, -128]), [vec![127, 1, 127, -128], vec![1, 127, 1, 0]]);
        for first in -128..=128 {
            for second in -128..=128 {
                for part in parts(&[first, second]) {
                    let [least, most] = [i16::min as fn(i16, i16) -> i16, i16::max]
                        .map(|of| part.iter().map(|&w| 255 * i32::from(of(w, 0))).sum::<i32>());
                    assert!(i16::try_from(least).is_ok() && i16::try_from(most).is_ok(), "{part:?}");
                }
            }
        }
    }

    #[test]
    fn orders_put_each_byte_beside_each_other_one() {
        let beside = |order: &[usize; WORD]| order.iter().position(|&b| b == 0).map(|at| order[at ^ 1]);
        let mut found: Vec<usize> = ORDERS.iter().filter_map(beside).collect();
        found.sort_unstable();
        assert_eq!(found, [1, 2, 3]);
    }
}
