//! Constants as chains of words whose products are summed in 16 bits.
//!
//! The words of each vector of channels are put in an order of their own, chains of four first, then of two, then
//! single ones ([`super::formed`]), with a table of where each of them finds its bytes, and where each kind ends:
//! ```text
//! panel of 8 channels:  [what sums begin with] [ends of the kinds] [places of the words] [words, 8 lanes each]
//! sum += sum of pairs(x[place 0] * word 0 + x[place 1] * word 1)
//! ```
//! So a loop over chains ends where its vector of channels says, and is the same code for all products of a shape.

use super::Nest;
use super::TilePoint;
use super::emit::{Emitter, addr};
use super::formed::{Channels, Formed, Word};
use super::panel::Panel;
use crate::base::{Affine, Bound};
use crate::schedule::chained::Words;
use crate::schedule::chains::{Chains, LENGTHS};
use crate::schedule::linear::Node;
use crate::schedule::{Linear, Schedule};
use crate::tile::{Addr, Bin, Convert, Dot, Lane, Reg, RegType, Value};

/// The packed form of a product's constants.
pub struct Packing {
    /// Which operand.
    pub operand: u32,
    chains: Chains,
    /// Where each of a row's words is in what a tile reads, as it is, and words from one way to the next.
    places: Vec<usize>,
    way: usize,
}

impl Packing {
    /// The packing that a schedule asks for.
    pub fn of(linear: &Linear, schedule: &Schedule) -> Option<Packing> {
        let chains = linear.facts.chains.filter(|_| schedule.chains)?;
        let words = Words::of(linear, chains.var)?;
        let Node::Load { operand, .. } = words.vectors else { return None };
        let panel = Panel::of(linear, schedule, 0)?;
        let places = (0..words.count(linear)).map(|word| panel.word(word)).collect();
        Some(Packing { operand: *operand, chains, places, way: panel.way() })
    }

    /// Where the words of a panel begin, behind what sums begin with, the kinds' ends and the places.
    fn head(&self) -> usize {
        self.chains.lanes + (LENGTHS.len() + self.chains.words).next_multiple_of(self.chains.lanes)
    }

    /// Numbers of 32 bits of a panel.
    fn panel(&self) -> usize {
        self.head() + self.chains.words * self.chains.lanes
    }

    /// Numbers of 32 bits of all. Behind the last panel there is room for a chain that begins in it.
    pub fn elems(&self) -> usize {
        let longest = self.kinds().map(|(_, length)| length).max().unwrap_or(1);
        self.chains.vectors * self.panel() + (longest - 1) * self.chains.lanes
    }

    /// The kinds of which there are chains: their numbers and lengths.
    fn kinds(&self) -> impl Iterator<Item = (usize, usize)> {
        let counts = self.chains.counts;
        LENGTHS.into_iter().enumerate().filter(move |(kind, _)| counts[*kind] > 0)
    }

    /// The packed bytes.
    pub fn pack(&self, formed: Formed) -> Vec<u8> {
        let mut packed = Vec::with_capacity(4 * self.elems());
        for Channels { mut kinds, begins } in formed.panels {
            // Rows' words are read from front to back, as far as can be.
            let first = |chain: &Vec<Word>| chain.iter().map(|word| word.place).min();
            kinds.iter_mut().for_each(|chains| chains.sort_by_key(first));
            let length = |chains: &Vec<Vec<Word>>| chains.iter().map(|chain| chain.len() as i32).sum::<i32>();
            let ends = kinds.iter().scan(0, |end, chains| {
                *end += length(chains);
                Some(*end)
            });
            let words = || kinds.iter().flatten().flatten();
            let place = |word: &Word| {
                let count = self.places.len();
                (word.place / count * self.way + self.places[word.place % count]) as i32
            };
            let numbers = begins.into_iter().chain(ends).chain(words().map(place));
            let end = packed.len() + 4 * self.panel();
            let head = packed.len() + 4 * self.head();
            packed.extend(numbers.flat_map(i32::to_le_bytes));
            packed.resize(head, 0);
            packed.extend(words().flat_map(|word| &word.weights).map(|&b| b as u8));
            packed.resize(end, 0);
        }
        packed.resize(4 * self.elems(), 0);
        packed
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
    tile.kinds(e, &packing.kinds().collect::<Vec<_>>(), Affine::constant(0));
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
    /// The chains of some kinds, one kind after the other, from a word on.
    fn kinds(&self, e: &mut Emitter, kinds: &[(usize, usize)], first: Affine) {
        let Some((&(kind, length), others)) = kinds.split_first() else { return };
        let Chains { lanes, words, .. } = self.packing.chains;
        let from = addr(self.packing.operand, self.begin.offset((lanes + kind) as i64));
        e.size("end", from, words as i64, |e, end| {
            let (from, to) = (Bound(vec![first]), Bound(vec![end.clone()]));
            e.repeat_bounds("word", from, to, length as i64, |e, at| self.chain(e, &at, length));
            self.kinds(e, others, end);
        });
    }

    /// The chain of so many words from one on.
    fn chain(&self, e: &mut Emitter, first: &Affine, length: usize) {
        let Packing { operand, chains: Chains { lanes, .. }, .. } = *self.packing;
        let [word, index] = [Lane::I32, Lane::I64].map(|lane| RegType { lane, lanes: 1 });
        let places: Vec<Reg> = (0..length as i64)
            .map(|i| {
                let at = self.begin.plus(first).offset((lanes + LENGTHS.len()) as i64 + i);
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
