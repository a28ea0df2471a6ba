//! The routine that walks trees: the rank of each feature among the numbers that it is compared with, then down all
//! trees, and the leaves' votes added up in the order of trees.
//!
//! A step down waits for two loads. So several trees take their steps in turn, without a branch between them, until
//! all have reached their leaves.

use super::tree_votes::Votes;
use super::tree_words::{Feature, Weights, Words};
use crate::base::{Affine, DType, Tensor, TensorType};
use crate::ops::emit::{Emit, Val};
use crate::ops::routine::{Code, Place};
use crate::tile::{Access, Bin, Cmp, Convert, Lane, Reg, Value};

/// Steps between two questions whether all have arrived.
const STEPS: usize = 2;
/// Trees of so many steps at most are walked to their ends without a question: its answer is hard to predict.
const UNASKED: usize = 8;
/// Trees walked in turn at most: their places fit the registers of x86_64.
const TOGETHER: usize = 6;
/// What the steps of a group take that do not depend on how many trees it has, in steps of one tree.
const LATENCY: usize = 8;

/// How many of so many trees are walked in turn: as many as keep a core busy while each waits for its loads.
pub fn together(trees: usize) -> usize {
    let time = |group: &usize| trees.div_ceil(*group) * (LATENCY + group);
    (1..=TOGETHER).rev().min_by_key(time).unwrap_or(1)
}

/// A table of numbers in the smallest type that holds them.
fn numbers(e: &mut Emit, what: &str, values: impl Iterator<Item = u64> + Clone) -> Val {
    let dtype = match values.clone().max() {
        None | Some(0..=0xff) => DType::U8,
        Some(0x100..=0xffff) => DType::U16,
        Some(0x1_0000..=0xffff_ffff) => DType::U32,
        Some(_) => DType::U64,
    };
    table(e, what, dtype, values)
}

fn table(e: &mut Emit, what: &str, dtype: DType, values: impl Iterator<Item = u64>) -> Val {
    let bytes: Vec<u8> = values.flat_map(|v| v.to_le_bytes().into_iter().take(dtype.size())).collect();
    let ty = TensorType::new(dtype, [bytes.len() / dtype.size()]);
    e.constant(what, Tensor { ty, data: bytes.into() })
}

/// A parameter of the routine.
#[derive(Clone, Copy)]
struct Table {
    param: u32,
    elems: usize,
}

impl Table {
    fn new(code: &mut Code, name: &str, val: &Val, access: Access) -> Table {
        Table { param: code.param(name, val, access), elems: val.ty.elems() }
    }

    /// The element at a computed index and so much further; the index lies where that is one.
    fn at(self, code: &mut Code, index: Reg, further: usize) -> Reg {
        let dynamic = Some((index, self.elems.saturating_sub(1 + further)));
        code.load(self.param, Place { index: Affine::constant(further as i64), dynamic })
    }

    /// An element that is an index.
    fn index(self, code: &mut Code, at: Affine) -> Reg {
        let number = code.load(self.param, at);
        let lane = code.lane(self.param);
        index(code, number, lane)
    }
}

/// An unsigned number as an index.
fn index(code: &mut Code, number: Reg, lane: Lane) -> Reg {
    match lane {
        Lane::I64 => number,
        _ => code.let_(Lane::I64, Value::Convert(Convert::Zext, number)),
    }
}

fn fixed(code: &mut Code, lane: Lane, number: u64) -> Reg {
    code.let_(lane, Value::Const(number))
}

/// The parameters, and what they hold.
struct Walk<'w> {
    words: &'w Words,
    weights: &'w Weights,
    votes: &'w Votes,
    /// Features of a row.
    width: usize,
    /// What words are computed in.
    lane: Lane,
    /// Trees walked in turn.
    group: usize,
    x: Table,
    /// The numbers of all features, and where each feature's begin.
    compared: Table,
    begins: Table,
    /// Which features these are.
    which: Table,
    nodes: Table,
    roots: Table,
    /// Where the votes of each tree begin.
    firsts: Table,
    cast: Table,
    /// The target of each tree, where there are several.
    targets: Option<Table>,
    /// The ranks of a row.
    ranks: Table,
    sums: Table,
}

/// Defines the votes of the trees on each row, joined: `[rows, targets]`.
pub fn define(e: &mut Emit, x: &Val, words: &Words, weights: &Weights, votes: &Votes, float: DType) -> Val {
    let (rows, width) = (x.shape()[0], x.shape()[1]);
    let group = together(words.roots.len());
    let compared: Vec<f64> = words.features.iter().flat_map(|f| f.numbers.iter().copied()).collect();
    let mut begins = vec![0];
    words.features.iter().for_each(|f| begins.push(begins[begins.len() - 1] + f.numbers.len()));
    let dtype = [DType::U16, DType::U32, DType::U64][words.bits.trailing_zeros() as usize - 4];
    let wide = |list: &[usize]| list.iter().map(|&i| i as u64).collect::<Vec<_>>();
    let columns = weights.columns;
    let firsts: Vec<u64> = words.firsts.iter().map(|&f| (f * columns) as u64).collect();
    let tables = [
        numbers(e, "which", words.features.iter().map(|f| f.feature as u64)),
        numbers(e, "begins", wide(&begins).into_iter()),
        numbers(e, "roots", wide(&words.roots).into_iter()),
        numbers(e, "firsts", firsts.into_iter()),
        table(e, "nodes", dtype, words.words.iter().copied()),
        e.table("compared", x.dtype(), &[compared.len()], &compared),
        e.table("votes", float, &[weights.weights.len()], &weights.weights),
        e.temp("ranks", dtype, [words.entries()]),
    ];
    let targets = weights.targets.as_ref().filter(|_| votes.targets > 1);
    let targets = targets.map(|t| numbers(e, "targets", wide(t).into_iter()));
    let sums = e.temp("sums", float, [rows, votes.targets]);
    let mut code = Code::new(&e.ctx.node.name);
    let mut table = |name: &str, val: &Val, access| Table::new(&mut code, name, val, access);
    let walk = Walk {
        words,
        weights,
        votes,
        width,
        lane: Lane::of(dtype),
        group,
        x: table("x", x, Access::Read),
        which: table("which", &tables[0], Access::Read),
        begins: table("begins", &tables[1], Access::Read),
        roots: table("roots", &tables[2], Access::Read),
        firsts: table("firsts", &tables[3], Access::Read),
        nodes: table("nodes", &tables[4], Access::Read),
        compared: table("compared", &tables[5], Access::Read),
        cast: table("votes", &tables[6], Access::Read),
        ranks: table("ranks", &tables[7], Access::ReadWrite),
        targets: targets.as_ref().map(|t| table("targets", t, Access::Read)),
        sums: table("sums", &sums, Access::ReadWrite),
    };
    code.repeat("row", rows, |code, row| {
        walk.ranks(code, &row);
        walk.trees(code, &row);
    });
    code.finish(e.low);
    sums
}

impl Walk<'_> {
    /// The rank of a feature among its numbers, which begin at `begin` and end before `end`: how many are below it, all
    /// where it is missing.
    fn rank(&self, code: &mut Code, value: Reg, [begin, end]: [Reg; 2], steps: u32) -> Reg {
        let mut half = 1usize << (steps - 1);
        // Two parts, which may overlap, of as many numbers as the steps that are left decide among.
        let first = self.compared.at(code, begin, half - 1);
        let below = code.cmp(Cmp::Le, value, first);
        let length = fixed(code, Lane::I64, half as u64 - 1);
        let upper = code.bin(Bin::Sub, end, length);
        let mut place = code.select(below, begin, upper);
        while half > 1 {
            half /= 2;
            let middle = self.compared.at(code, place, half - 1);
            let below = code.cmp(Cmp::Le, value, middle);
            let length = fixed(code, Lane::I64, half as u64);
            let upper = code.bin(Bin::Add, place, length);
            place = code.select(below, place, upper);
        }
        code.bin(Bin::Sub, place, begin)
    }

    /// Fills the table of ranks with those of one row.
    fn ranks(&self, code: &mut Code, row: &Affine) {
        let zero = fixed(code, self.lane, 0);
        code.store(self.ranks.param, Affine::constant(0), zero);
        let mut done = 0;
        for alike in self.words.features.chunk_by(|a, b| a.steps() == b.steps()) {
            let steps = alike.first().map_or(0, Feature::steps);
            code.repeat("feature", alike.len(), |code, i| self.feature(code, row, &i.offset(done), steps));
            done += alike.len() as i64;
        }
    }

    fn feature(&self, code: &mut Code, row: &Affine, i: &Affine, steps: u32) {
        let feature = self.which.index(code, i.clone());
        let ends = [0, 1].map(|end| self.begins.index(code, i.offset(end)));
        let row = row.scaled(self.width as i64);
        let value = code.load(self.x.param, Place { index: row, dynamic: Some((feature, self.width - 1)) });
        let rank = self.rank(code, value, ends, steps);
        let shift = fixed(code, Lane::I64, u64::from(self.words.shift()));
        let mut rank = code.bin(Bin::Shl, rank, shift);
        if self.lane != Lane::I64 {
            rank = code.let_(self.lane, Value::Convert(Convert::Int, rank));
        }
        let kinds = self.words.kinds;
        let each = kinds.iter().filter(|&&k| k).count() as i64;
        let entry = i.scaled(each).offset(1);
        if kinds[0] {
            code.store(self.ranks.param, entry.clone(), rank);
        }
        if kinds[1] {
            let (known, zero) = (code.cmp(Cmp::Eq, value, value), fixed(code, self.lane, 0));
            let rank = code.select(known, rank, zero);
            code.store(self.ranks.param, entry.offset(each - 1), rank);
        }
    }

    /// Walks all trees and joins their votes.
    fn trees(&self, code: &mut Code, row: &Affine) {
        let float = code.lane(self.sums.param);
        let row = row.scaled(self.votes.targets as i64);
        let sum = code.number(float, self.votes.nothing());
        let alone = self.votes.targets == 1;
        if !alone {
            code.repeat("target", self.votes.targets, |code, t| {
                code.store(self.sums.param, row.plus(&t), sum)
            });
        }
        code.repeat("group", self.words.roots.len() / self.group, |code, i| {
            let trees: Vec<Affine> =
                (0..self.group).map(|j| i.scaled(self.group as i64).offset(j as i64)).collect();
            let places: Vec<Reg> = trees.iter().map(|t| self.roots.index(code, t.clone())).collect();
            self.down(code, &places);
            for (tree, &place) in trees.iter().zip(&places) {
                let vote = self.vote(code, tree, place);
                match (alone, &self.targets) {
                    (true, _) => code.set(sum, Value::Bin(Bin::of(self.votes.fold), sum, vote.1)),
                    (false, Some(targets)) => {
                        let target = targets.index(code, tree.clone());
                        let limit = self.votes.targets - 1;
                        let at = Place { index: row.clone(), dynamic: Some((target, limit)) };
                        self.join(code, at, vote.1, 1);
                    }
                    (false, None) => {
                        let columns = self.weights.columns;
                        code.run(self.sums.param, columns, |code, target, lanes| {
                            let limit = self.cast.elems - columns;
                            let at = Place { index: target.clone(), dynamic: Some((vote.0, limit)) };
                            let votes = code.load_run(self.cast.param, at, lanes);
                            self.join(code, row.plus(&target).into(), votes, lanes);
                        });
                    }
                }
            }
        });
        if alone {
            code.store(self.sums.param, row, sum);
        }
    }

    /// Lets all places move down to leaves.
    fn down(&self, code: &mut Code, places: &[Reg]) {
        let shared = self.shared(code);
        let step = |code: &mut Code| places.iter().map(|&p| self.step(code, p, shared)).collect::<Vec<_>>();
        if self.words.depth <= UNASKED {
            return (0..self.words.depth).for_each(|_| drop(step(code)));
        }
        code.forever(|code| {
            let further = (0..STEPS).fold(Vec::new(), |_, _| step(code));
            let zero = fixed(code, Lane::I64, 0);
            if let Some(any) = further.into_iter().reduce(|a, b| code.bin(Bin::Or, a, b)) {
                let arrived = code.cmp(Cmp::Eq, any, zero);
                code.break_if(arrived);
            }
        });
    }

    fn join(&self, code: &mut Code, at: Place, votes: Reg, lanes: u8) {
        let sums = code.load_run(self.sums.param, at.clone(), lanes);
        let sums = code.bin(Bin::of(self.votes.fold), sums, votes);
        code.store(self.sums.param, at, sums);
    }

    /// Masks of a word's entry and distance, and where the distance stands.
    fn shared(&self, code: &mut Code) -> [Reg; 3] {
        let Words { entry_bits, further_bits, .. } = *self.words;
        [(1u64 << entry_bits) - 1, (1 << further_bits) - 1, u64::from(entry_bits)]
            .map(|n| fixed(code, self.lane, n))
    }

    /// A step down from a place, or none from a leaf: returns how much further the children are.
    fn step(&self, code: &mut Code, place: Reg, [entries, distances, shift]: [Reg; 3]) -> Reg {
        let word = self.nodes.at(code, place, 0);
        let entry = code.bin(Bin::And, word, entries);
        let entry = index(code, entry, self.lane);
        let rank = self.ranks.at(code, entry, 0);
        let second = code.cmp(Cmp::LtU, word, rank);
        let second = code.beside(second, place);
        let further = code.bin(Bin::ShrU, word, shift);
        let further = code.bin(Bin::And, further, distances);
        let further = index(code, further, self.lane);
        let yes = code.bin(Bin::Add, place, further);
        let one = fixed(code, Lane::I64, 1);
        let no = code.bin(Bin::Add, yes, one);
        code.set(place, Value::Select(second, no, yes));
        further
    }

    /// Where the votes of the leaf at a place begin, and the first of them.
    fn vote(&self, code: &mut Code, tree: &Affine, place: Reg) -> (Reg, Reg) {
        let word = self.nodes.at(code, place, 0);
        let shift = fixed(code, self.lane, u64::from(self.words.shift()));
        let leaf = code.bin(Bin::ShrU, word, shift);
        let mut leaf = index(code, leaf, self.lane);
        if self.weights.columns > 1 {
            let columns = fixed(code, Lane::I64, self.weights.columns as u64);
            leaf = code.bin(Bin::Mul, leaf, columns);
        }
        let first = self.firsts.index(code, tree.clone());
        let at = code.bin(Bin::Add, first, leaf);
        (at, self.cast.at(code, at, 0))
    }
}
