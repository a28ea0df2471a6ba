//! Constants as chains of words whose products are summed in 16 bits.
//!
//! An instruction multiplies unsigned bytes `x` by signed ones `w` and gives sums of two products, which saturate at
//! 16 bits. None of them does where the positive ones of the two weights, and so the negative ones, add up to
//! [`MOST`]: the sum lies between 255 times these. The same holds for the sum of a chain's products. So the words of
//! each vector of channels are put in an order of their own, chains of four first, then of two, then single ones,
//! with a table of where each of them finds its bytes:
//! ```text
//! panel of 8 channels:  [what sums begin with] [places of the words] [words, 8 lanes each]
//! sum += sum of pairs(x[place 0] * word 0 + x[place 1] * word 1)
//! ```
//! Weights of one sign add up to less where a byte is turned: `x * w = 255 * w - (255 - x) * w`. So each word
//! of bytes lies there in some ways, of which a word of weights chooses one, and the constants are what sums begin
//! with. Ways are in three orders of the bytes, since each puts others beside each other. A word that exceeds
//! [`MOST`] in all ways is two words; one of zeros is none.

use super::Nest;
use super::TilePoint;
use super::emit::{Emitter, addr};
use crate::base::{Affine, DType};
use crate::schedule::chains::{Chains, LENGTHS, WORD, Words, chained, cycles};
use crate::schedule::linear::Node;
use crate::schedule::{Linear, Schedule};
use crate::target::Target;
use crate::tile::{Addr, Bin, Convert, Dot, Lane, Reg, RegType, Value};

/// What weights of one sign may add up to so that 16 bits hold their products' sum.
const MOST: u8 = (i16::MAX / u8::MAX as i16) as u8;
/// The bytes of a word that are turned, in each way of an order.
const TURNED: [u32; 4] = [0, 0xff00_ff00, 0x0000_ff00, 0xff00_0000];
/// Which byte of a word stands in each place, by order.
pub const ORDERS: [[usize; WORD]; 3] = [[0, 1, 2, 3], [3, 0, 1, 2], [0, 2, 1, 3]];
/// Numbers of ways that are tried.
const WAYS: [usize; 5] = [1, 2, 4, 8, 12];
/// Bytes of a row in all ways at most: some rows shall stay in a first-level cache.
const ROW: usize = 4096;
/// Cycles in which a vector of a row is copied in one way.
const COPIED: f64 = 1.0;
/// Lanes of a vector at most.
const LANES: usize = 16;
/// Other chains that are tried for each.
const TRIED: usize = 96;
/// How much more than fits two chains' largest sums may be together, for others to be tried first: they are
/// seldom of the same channel.
const APART: usize = 48;
/// Sums of products of a row's chains that are unrolled.
const UNROLLED: usize = 24;

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

/// What the positive weights of each sum of two products add up to, and the negative ones.
#[derive(Clone, Copy)]
struct Sums {
    parts: [u8; 4 * LANES],
}

impl Sums {
    fn of(bytes: &[i16]) -> Sums {
        let mut parts = [0; 4 * LANES];
        for (part, pair) in parts.chunks_exact_mut(2).zip(bytes.chunks_exact(2)) {
            let sum = |sign: i16| pair.iter().map(|w| (w * sign).max(0)).sum::<i16>().min(255) as u8;
            (part[0], part[1]) = (sum(1), sum(-1));
        }
        Sums { parts }
    }

    fn most(&self) -> u8 {
        self.parts.iter().copied().fold(0, u8::max)
    }

    fn with(&self, other: &Sums) -> Sums {
        Sums { parts: std::array::from_fn(|i| self.parts[i].saturating_add(other.parts[i])) }
    }
}

/// A word of each lane's weights, and where the bytes are that it is multiplied by.
#[derive(Clone)]
struct Word {
    place: usize,
    weights: Vec<i8>,
}

/// Words that are summed in 16 bits.
struct Chain {
    words: Vec<Word>,
    sums: Sums,
}

impl Chain {
    fn new(words: Vec<Word>) -> Chain {
        let sums = |w: &Word| Sums::of(&w.weights.iter().map(|&b| i16::from(b)).collect::<Vec<_>>());
        let sums = words.iter().map(sums).reduce(|a, b| a.with(&b)).unwrap_or(Sums { parts: [0; 4 * LANES] });
        Chain { words, sums }
    }
}

/// The chains of a vector of channels: of four words, of two, of one.
type Kinds = [Vec<Chain>; 3];

/// Two chains in one where that fits, and those that are left.
fn joined(mut chains: Vec<Chain>) -> [Vec<Chain>; 2] {
    chains.sort_by_key(|c| std::cmp::Reverse(c.sums.most()));
    let most: Vec<usize> = chains.iter().map(|c| usize::from(c.sums.most())).collect();
    let mut chains: Vec<Option<Chain>> = chains.into_iter().map(Some).collect();
    let [mut pairs, mut alone] = [Vec::new(), Vec::new()];
    for i in 0..chains.len() {
        let Some(chain) = chains[i].take() else { continue };
        let first = most.partition_point(|&m| m + most[i] > usize::from(MOST) + APART).max(i + 1);
        let left = (first..chains.len()).filter(|&j| chains[j].is_some()).take(TRIED);
        let fits =
            |&j: &usize| chains[j].as_ref().is_some_and(|other| chain.sums.with(&other.sums).most() <= MOST);
        match left.into_iter().find(fits).and_then(|j| chains[j].take()) {
            Some(other) => pairs.push(Chain {
                sums: chain.sums.with(&other.sums),
                words: [chain.words, other.words].concat(),
            }),
            None => alone.push(chain),
        }
    }
    [pairs, alone]
}

/// A word as one that fits, or as two: what exceeds the most is left to the second.
fn parts(weights: &[i16]) -> [Vec<i8>; 2] {
    let mut parts = [Vec::new(), Vec::new()];
    let byte = |w: i16| w.clamp(i16::from(i8::MIN), i16::from(i8::MAX));
    for pair in weights.chunks_exact(2) {
        let first = byte(pair[0]);
        let room = i16::from(MOST) - if (first < 0) == (pair[1] < 0) { first.abs() } else { 0 };
        let second = byte(pair[1].clamp(-room, room));
        parts[0].extend([first as i8, second as i8]);
        parts[1].extend([(pair[0] - first) as i8, (pair[1] - second) as i8]);
    }
    parts
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
        let weight = |channel: usize, at: i64| {
            let place = self.addr.base + channel as i64 * step + at;
            let inside = channel < self.channels();
            let byte = usize::try_from(place).ok().filter(|_| inside).and_then(|p| self.data.get(p));
            byte.map_or(0, |&b| i16::from(b as i8))
        };
        let steps = &self.steps[word * WORD..][..WORD];
        (channel..channel + self.lanes).flat_map(|c| steps.iter().map(move |&at| weight(c, at))).collect()
    }

    /// The words of the vector of channels that begins with one, each as it is turned best.
    fn panel(&self, channel: usize, turns: usize) -> Vec<Chain> {
        let count = self.words.count(self.linear);
        let mut chains = Vec::new();
        for word in 0..count {
            let weights = self.word(channel, word);
            let in_way = |way: usize| -> Vec<i16> {
                let order = ORDERS[way / TURNED.len()];
                let sign = |i: usize| if turned(way) >> (8 * i) & 1 == 1 { -1 } else { 1 };
                let word = |word: &[i16]| order.map(|i| word[i]);
                let words = weights.chunks_exact(WORD).map(word);
                words.flat_map(|w| (0..WORD).map(move |i| w[i] * sign(i))).collect()
            };
            let ways = (0..turns).map(|way| (way, in_way(way)));
            let Some((way, best)) = ways.min_by_key(|(_, w)| Sums::of(w).most()) else { continue };
            for weights in parts(&best) {
                let chain = Chain::new(vec![Word { place: way * count + word, weights }]);
                if chain.sums.most() > 0 {
                    chains.push(chain);
                }
            }
        }
        chains
    }

    /// The chains of each vector of channels.
    fn panels(&self, turns: usize) -> impl Iterator<Item = Kinds> + '_ {
        (0..self.channels()).step_by(self.lanes).map(move |channel| {
            let [twos, ones] = joined(self.panel(channel, turns));
            let [fours, twos] = joined(twos);
            [fours, twos, ones]
        })
    }

    /// What a channel's sum begins with: what turned bytes, and signed ones that became unsigned, add to it.
    fn begins(&self, kinds: &Kinds, lane: usize) -> i32 {
        let count = self.words.count(self.linear);
        let signed = match self.words.rows {
            Node::Load { operand, .. } => self.linear.buffers[*operand as usize].dtype == DType::I8,
            _ => false,
        };
        let words = kinds.iter().flatten().flat_map(|chain| &chain.words);
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

/// How many chains of each kind hold the words of all vectors: where one has fewer chains of two, single words
/// take their places, beside a word of zeros.
fn agreed(panels: &[[usize; 3]], target: &Target) -> [usize; 3] {
    let fours = panels.iter().map(|p| p[0]).min().unwrap_or(0);
    let rest = |p: &[usize; 3]| (p[1] + 2 * (p[0] - fours), p[2]);
    let ones = |twos: usize| {
        let left = |p: &[usize; 3]| {
            let (own, single) = rest(p);
            (single + 2 * own.saturating_sub(twos)).saturating_sub(twos.saturating_sub(own))
        };
        panels.iter().map(left).max().unwrap_or(0)
    };
    let most = panels.iter().map(|p| rest(p).0).max().unwrap_or(0);
    let counts = (0..=most).map(|twos| [fours, twos, ones(twos)]);
    counts.min_by(|&a, &b| cycles(a, target).total_cmp(&cycles(b, target))).unwrap_or_default()
}

/// The chains that a definition's constants form.
pub struct Formed {
    /// How many.
    pub chains: Chains,
    /// Those of each vector of channels, and what its sums begin with.
    panels: Vec<(Kinds, Vec<i32>)>,
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
    let with = |turns: usize| {
        let panels: Vec<Kinds> = weights.panels(turns).collect();
        let kinds: Vec<[usize; 3]> =
            panels.iter().map(|[fours, twos, ones]| [fours.len(), twos.len(), ones.len()]).collect();
        let counts = agreed(&kinds, target);
        let copied = (turns * words) as f64 / lanes as f64 * COPIED;
        let cost = cycles(counts, target) * panels.len() as f64 + copied;
        (cost, Chains { var, lanes, counts, turns }, panels)
    };
    let ways = WAYS.into_iter().filter(|&turns| turns == 1 || turns * words * WORD <= ROW);
    let (_, chains, panels) = ways.map(with).min_by(|a, b| a.0.total_cmp(&b.0))?;
    let begun = |kinds: Kinds| {
        let begins = (0..lanes).map(|lane| weights.begins(&kinds, lane)).collect();
        (kinds, begins)
    };
    Some(Formed { chains, panels: panels.into_iter().map(begun).collect() })
}

/// The packed form of a product's constants.
pub struct Packing {
    /// Which operand.
    pub operand: u32,
    chains: Chains,
    panels: usize,
}

impl Packing {
    /// The packing that a schedule asks for.
    pub fn of(linear: &Linear, schedule: &Schedule) -> Option<Packing> {
        let chains = linear.chains.filter(|_| schedule.chains)?;
        let Node::Load { operand, .. } = Words::of(linear, chains.var)?.vectors else { return None };
        Some(Packing { operand: *operand, chains, panels: linear.extent(chains.var).div_ceil(chains.lanes) })
    }

    /// Where the words of a panel begin, behind what sums begin with and the places.
    fn head(&self) -> usize {
        self.chains.lanes + self.chains.words().next_multiple_of(self.chains.lanes)
    }

    /// Numbers of 32 bits of a panel.
    fn panel(&self) -> usize {
        self.head() + self.chains.words() * self.chains.lanes
    }

    /// Numbers of 32 bits of all.
    pub fn elems(&self) -> usize {
        self.panels * self.panel()
    }

    /// The packed bytes.
    pub fn pack(&self, formed: Formed) -> Vec<u8> {
        let mut packed = Vec::with_capacity(4 * self.elems());
        for (kinds, begins) in formed.panels {
            let words = self.listed(kinds);
            let places = words.iter().map(|w| w.place as i32);
            let numbers = begins.into_iter().chain(places).flat_map(i32::to_le_bytes);
            let end = packed.len() + 4 * self.head();
            packed.extend(numbers);
            packed.resize(end, 0);
            packed.extend(words.iter().flat_map(|w| &w.weights).map(|&b| b as u8));
        }
        packed
    }

    /// The words of a panel in the order of the chains.
    fn listed(&self, [mut fours, mut twos, mut ones]: Kinds) -> Vec<Word> {
        let [four, two, one] = self.chains.counts;
        let empty = || Word { place: 0, weights: vec![0; self.chains.lanes * WORD] };
        let halves = |chain: Chain, length: usize| {
            chain.words.chunks(length).map(|words| Chain::new(words.to_vec())).collect::<Vec<_>>()
        };
        twos.extend(fours.split_off(four.min(fours.len())).into_iter().flat_map(|c| halves(c, 2)));
        ones.extend(twos.split_off(two.min(twos.len())).into_iter().flat_map(|c| halves(c, 1)));
        let beside = ones.split_off(ones.len() - ones.len().min(two - twos.len()));
        twos.extend(beside);
        // Rows' words are read from front to back, as far as can be.
        [(fours, four), (twos, two), (ones, one)]
            .into_iter()
            .zip(LENGTHS)
            .flat_map(|((mut chains, count), length)| {
                chains.sort_by_key(|c| c.words.iter().map(|w| w.place).min());
                let whole = |mut chain: Chain| {
                    chain.words.resize_with(length, empty);
                    chain.words
                };
                let mut words: Vec<Word> = chains.into_iter().flat_map(whole).collect();
                words.resize_with(count * length, empty);
                words
            })
            .collect()
    }
}

/// The sums of a tile's points.
pub(super) fn sums(nest: &Nest, e: &mut Emitter, points: &[TilePoint], index_error: i32) -> Vec<Reg> {
    let (Some(packing), Some(panel)) = (&nest.chains, &nest.panel) else { return Vec::new() };
    let begin =
        nest.place[packing.chains.var as usize].scaled((packing.panel() / packing.chains.lanes) as i64);
    let begun = |e: &mut Emitter, point: &TilePoint| {
        let ty = RegType { lane: Lane::I32, lanes: point.lanes as u8 };
        let begins = e.value(ty, Value::Load(addr(packing.operand, begin.clone()), 1));
        let value = match nest.started {
            Some(started) => {
                let addend = started.addend(nest, e, point, index_error);
                e.value(ty, Value::Bin(Bin::Add, addend, begins))
            }
            None => begins,
        };
        let sum = e.fresh(ty);
        e.assign(sum, Value::Copy(value));
        (sum, panel.row(&nest.place, &nest.place_of(point)))
    };
    let sums: Vec<(Reg, Affine)> = points.iter().map(|p| begun(e, p)).collect();
    let tile = Tile { packing, begin, between: nest.between().0, words: panel.words(), sums: &sums };
    let mut first = 0;
    for (count, length) in packing.chains.counts.into_iter().zip(LENGTHS) {
        let unroll = (UNROLLED / (length * sums.len())).clamp(1, count.max(1));
        let (whole, end) = (first + count / unroll * unroll * length, first + count * length);
        e.repeat("word", first as i64, whole as i64, (unroll * length) as i64, |e, at| {
            (0..unroll).for_each(|u| tile.chain(e, &at.offset((u * length) as i64), length));
        });
        (whole..end).step_by(length).for_each(|at| tile.chain(e, &Affine::constant(at as i64), length));
        first = end;
    }
    sums.into_iter().map(|sum| sum.0).collect()
}

/// A tile whose sums are under way.
struct Tile<'a> {
    packing: &'a Packing,
    /// Where its panel begins.
    begin: Affine,
    /// The parameter with what its rows read.
    between: u32,
    /// Words of a row.
    words: usize,
    /// Each sum, and where what its row reads begins.
    sums: &'a [(Reg, Affine)],
}

impl Tile<'_> {
    /// The chain of so many words from one on.
    fn chain(&self, e: &mut Emitter, first: &Affine, length: usize) {
        let Packing { operand, chains: Chains { lanes, .. }, .. } = *self.packing;
        let [word, index] = [Lane::I32, Lane::I64].map(|lane| RegType { lane, lanes: 1 });
        let places: Vec<Reg> = (0..length as i64)
            .map(|i| {
                let at = self.begin.plus(first).offset(lanes as i64 + i);
                let place = e.value(word, Value::Load(addr(operand, at), 1));
                e.value(index, Value::Convert(Convert::Zext, place))
            })
            .collect();
        for (sum, row) in self.sums {
            let ty = e.ty(*sum);
            let ones = e.hoisted(ty, 0x0001_0001);
            let mut pairs = e.value(ty, Value::Const(0));
            for (i, &place) in places.iter().enumerate() {
                let at = first.offset(i as i64).scaled(lanes as i64).offset(self.packing.head() as i64);
                let weights = e.value(ty, Value::Load(addr(operand, self.begin.plus(&at)), 1));
                let dynamic = Some((place, self.words - 1));
                let at = Addr { param: self.between, index: row.clone(), dynamic };
                let bytes = e.value(ty, Value::Load(at, 0));
                pairs = e.value(ty, Value::Dot(Dot::Pairs, pairs, bytes, weights));
            }
            e.assign(*sum, Value::Dot(Dot::Couples, *sum, pairs, ones));
        }
    }
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
                    let [least, most] = [i8::min as fn(i8, i8) -> i8, i8::max]
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

    #[test]
    fn chains_are_joined_where_none_of_their_sums_could_saturate() {
        let joined = |words: &[[i8; 4]]| {
            let chain = |w: &[i8; 4]| Chain::new(vec![Word { place: 0, weights: w.to_vec() }]);
            joined(words.iter().map(chain).collect()).map(|chains| chains.len())
        };
        assert_eq!(joined(&[[64, 0, 0, -60], [32, 32, -68, 0]]), [1, 0]);
        assert_eq!(joined(&[[64, 0, 0, 0], [32, 33, 0, 0]]), [0, 2]);
        assert_eq!(joined(&[[0, 0, -64, 0], [0, 0, -64, -1]]), [0, 2]);
        assert_eq!(joined(&[[100, 20, 0, 0], [-100, -28, 0, 0], [8, 0, 0, 0]]), [1, 1]);
    }
}
