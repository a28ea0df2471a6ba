//! Trees as words: one of each node and leaf, which holds all that a step from there asks for.
//!
//! A word is, from its lowest bits on, the entry of the table of ranks that is asked for, how much further the pair
//! of children lies, and the rank that is compared with: the rank of the feature is at most that, or the second child
//! follows. Entry 0 is always 0; a leaf asks for it, is its own child, and holds its number in place of a rank.
//! Ranks are shifted to where they are in words, so that words are compared as they are.

use super::tree_names::bad;
use super::tree_questions::{AtMost, Tests, To};
use super::tree_tables::Tables;
use super::tree_votes::Votes;
use crate::base::DType;
use crate::error::{Error, Result};
use std::collections::HashMap;

/// What is not numbered yet.
const NONE: u32 = u32::MAX;

/// A feature and the numbers that it is compared with.
#[derive(Clone, Debug)]
pub struct Feature {
    /// Which one.
    pub feature: usize,
    /// In order, all different.
    pub numbers: Vec<f64>,
}

impl Feature {
    /// Questions that find the rank of the feature among the numbers.
    pub fn steps(&self) -> u32 {
        usize::BITS - self.numbers.len().leading_zeros()
    }
}

/// A node or leaf before it is a word.
#[derive(Clone, Copy, Debug)]
struct Part {
    /// Entry in the table of ranks.
    entry: u32,
    /// How much further its children are; until they have a place, the question that has them.
    further: u32,
    /// Rank, or the number of a leaf.
    top: u32,
}

/// All trees.
#[derive(Debug)]
pub struct Words {
    /// Bits of a word.
    pub bits: u32,
    /// The words.
    pub words: Vec<u64>,
    /// The features, those with few numbers first.
    pub features: Vec<Feature>,
    /// For which features entries of the table of ranks are: with missing ones above all numbers, and below.
    pub kinds: [bool; 2],
    /// Bits of an entry's number.
    pub entry_bits: u32,
    /// Bits of how much further children are.
    pub further_bits: u32,
    /// The most steps from a root to a leaf.
    pub depth: usize,
    /// The word of each tree's root.
    pub roots: Vec<usize>,
    /// The first of each tree's leaves in `leaves`.
    pub firsts: Vec<usize>,
    /// The model's numbers of the leaves, tree by tree; none of a tree that votes nothing.
    pub leaves: Vec<Option<u32>>,
}

fn bits_of(largest: usize) -> u32 {
    usize::BITS - largest.leading_zeros()
}

/// The layout under construction.
struct Layout<'a> {
    tests: &'a Tests,
    /// Entry and rank of each question.
    asks: Vec<(u32, u32)>,
    parts: Vec<Part>,
    leaves: Vec<Option<u32>>,
    /// Of each question: where its children are.
    pairs: Vec<u32>,
    /// Of each question: how many lead there that are not laid out yet, in this tree.
    before: Vec<u32>,
    /// Of each question: the most steps that lead there.
    steps: Vec<u32>,
    /// The most steps that lead to a leaf.
    depth: u32,
    /// Of each leaf: where it stands among all.
    places: Vec<u32>,
}

/// The features that are compared, of so many, and for which kinds of comparison (see [`Words::kinds`]).
fn compared(tests: &Tests, features: usize) -> Result<(Vec<Feature>, [bool; 2])> {
    let mut numbers: Vec<Vec<f64>> = vec![Vec::new(); features];
    let mut kinds = [false; 2];
    for test in &tests.all {
        let list = numbers.get_mut(test.feature as usize).ok_or_else(|| {
            Error::model(format!("a tree asks for a feature beyond the input's {features}"))
        })?;
        list.push(test.most);
        kinds[usize::from(test.missing)] = true;
    }
    for list in &mut numbers {
        list.sort_unstable_by(f64::total_cmp);
        list.dedup();
        list.shrink_to_fit();
    }
    let used = numbers.into_iter().enumerate().filter(|(_, n)| !n.is_empty());
    let mut used: Vec<Feature> = used.map(|(feature, numbers)| Feature { feature, numbers }).collect();
    used.sort_by_key(|f| f.steps());
    Ok((used, kinds))
}

/// Entries of each feature in the table of ranks.
fn each(kinds: [bool; 2]) -> usize {
    kinds.iter().filter(|&&k| k).count()
}

/// The entry in the table of ranks that each question asks for, and the rank it compares with.
fn asks(tests: &Tests, features: &[Feature], kinds: [bool; 2]) -> Vec<(u32, u32)> {
    let slots: HashMap<usize, usize> =
        features.iter().enumerate().map(|(slot, f)| (f.feature, slot)).collect();
    let ask = |test: &AtMost| {
        let slot = slots[&(test.feature as usize)];
        let rank = features[slot].numbers.partition_point(|&n| n < test.most);
        let kind = if kinds[0] { usize::from(test.missing) } else { 0 };
        ((1 + slot * each(kinds) + kind) as u32, rank as u32)
    };
    tests.all.iter().map(ask).collect()
}

impl<'a> Layout<'a> {
    fn new(tests: &'a Tests, tables: &Tables, asks: Vec<(u32, u32)>) -> Layout<'a> {
        Layout {
            asks,
            parts: Vec::with_capacity(tables.roots.len() + 2 * tests.all.len()),
            leaves: Vec::with_capacity(tables.leaves),
            pairs: vec![NONE; tests.all.len()],
            before: vec![NONE; tests.all.len()],
            steps: vec![0; tests.all.len()],
            depth: 0,
            places: vec![NONE; tables.leaves],
            tests,
        }
    }

    /// All trees, and such of one leaf that votes nothing until their number is a multiple of `group`: where the
    /// root of each lies, and the first of its leaves.
    fn trees(&mut self, tables: &Tables, group: usize) -> Result<(Vec<usize>, Vec<usize>)> {
        let (mut roots, mut firsts) = (Vec::new(), Vec::new());
        let count = tables.nodes.len() as u32;
        for &root in &tables.roots {
            roots.push(self.parts.len());
            firsts.push(self.leaves.len());
            let root = if root < count { To::Node(root) } else { To::Leaf(root - count) };
            let root = self.tests.end(root)?;
            self.tree(root)?;
        }
        while !roots.len().is_multiple_of(group) {
            roots.push(self.parts.len());
            firsts.push(self.leaves.len());
            self.parts.push(Part { entry: 0, further: 0, top: 0 });
            self.leaves.push(None);
        }
        Ok((roots, firsts))
    }

    /// The questions that a tree reaches are counted: how many ways lead to each.
    fn count(&mut self, root: u32) -> Result<()> {
        let mut open = vec![root];
        self.before[root as usize] = 0;
        self.steps[root as usize] = 0;
        while let Some(test) = open.pop() {
            let asked = self.tests.all[test as usize];
            for to in [asked.yes, asked.no] {
                if let To::Test(next) = self.tests.end(to)? {
                    let before = &mut self.before[next as usize];
                    if *before == NONE {
                        *before = 0;
                        self.steps[next as usize] = 0;
                        open.push(next);
                    }
                    *before += 1;
                }
            }
        }
        Ok(())
    }

    /// A node or leaf at the end of what there is.
    fn push(&mut self, to: To, first: usize) {
        let part = match to {
            To::Test(test) => {
                let (entry, top) = self.asks[test as usize];
                Part { entry, further: test, top }
            }
            To::Leaf(leaf) => {
                let place = &mut self.places[leaf as usize];
                if *place == NONE || (*place as usize) < first {
                    *place = self.leaves.len() as u32;
                    self.leaves.push(Some(leaf));
                }
                Part { entry: 0, further: 0, top: *place - first as u32 }
            }
            To::Node(_) => return,
        };
        self.parts.push(part);
    }

    /// A tree: children after all nodes that lead to them, those near the root first.
    fn tree(&mut self, root: To) -> Result<()> {
        let (begin, first) = (self.parts.len(), self.leaves.len());
        self.push(root, first);
        let To::Test(root) = root else { return Ok(()) };
        self.count(root)?;
        if self.before[root as usize] != 0 {
            return Err(bad("a path runs in a circle"));
        }
        let mut order = vec![root];
        let mut done = 0;
        while let Some(&test) = order.get(done) {
            done += 1;
            self.pairs[test as usize] = self.parts.len() as u32;
            let asked = self.tests.all[test as usize];
            let steps = self.steps[test as usize] + 1;
            self.depth = self.depth.max(steps);
            for to in [asked.yes, asked.no] {
                let to = self.tests.end(to)?;
                self.push(to, first);
                if let To::Test(next) = to {
                    let most = &mut self.steps[next as usize];
                    *most = steps.max(*most);
                    self.before[next as usize] -= 1;
                    if self.before[next as usize] == 0 {
                        order.push(next);
                    }
                }
            }
        }
        for place in begin..self.parts.len() {
            let part = &mut self.parts[place];
            if part.entry == 0 {
                continue;
            }
            let test = part.further as usize;
            if self.before[test] != 0 {
                return Err(bad("a path runs in a circle"));
            }
            part.further = self.pairs[test] - place as u32;
        }
        // The next tree may share questions.
        order.iter().for_each(|&test| self.before[test as usize] = NONE);
        Ok(())
    }
}

impl Words {
    /// The words of trees whose features, of which there are so many, are compared in a type of floats. Trees of one
    /// leaf that votes nothing are added until their number is a multiple of `group`.
    pub fn new(tables: &Tables, float: DType, features: usize, group: usize) -> Result<Words> {
        let tests = Tests::new(tables, float);
        let (features, kinds) = compared(&tests, features)?;
        let mut layout = Layout::new(&tests, tables, asks(&tests, &features, kinds));
        let (roots, firsts) = layout.trees(tables, group)?;
        let Layout { parts, leaves, depth, .. } = layout;
        let largest = |of: fn(&Part) -> u32| bits_of(parts.iter().map(of).max().unwrap_or(0) as usize);
        let entry_bits = bits_of(features.len() * each(kinds));
        let further_bits = largest(|p| p.further);
        let ranks = bits_of(features.iter().map(|f| f.numbers.len()).max().unwrap_or(0));
        let top_bits = largest(|p| p.top).max(ranks);
        let bits = [16, 32, 64].into_iter().find(|&b| b >= entry_bits + further_bits + top_bits);
        let bits = bits.ok_or_else(|| Error::model("the trees are too large"))?;
        let word = |p: &Part| {
            u64::from(p.entry)
                | u64::from(p.further) << entry_bits
                | u64::from(p.top) << (entry_bits + further_bits)
        };
        let words = parts.iter().map(word).collect();
        let depth = depth as usize;
        Ok(Words { bits, words, features, kinds, entry_bits, further_bits, depth, roots, firsts, leaves })
    }

    /// Entries of the table of ranks.
    pub fn entries(&self) -> usize {
        1 + self.features.len() * each(self.kinds)
    }

    /// Where the rank stands in a word.
    pub fn shift(&self) -> u32 {
        self.entry_bits + self.further_bits
    }
}

/// The votes of the leaves of trees as words.
pub struct Weights {
    /// A row of each leaf.
    pub weights: Vec<f64>,
    /// Numbers in a row: one, or one of each target.
    pub columns: usize,
    /// The target of each tree, where its leaves vote for one only.
    pub targets: Option<Vec<usize>>,
}

impl Weights {
    /// What the leaves vote.
    pub fn new(words: &Words, votes: &Votes, leaves: usize) -> Weights {
        // One vote of each leaf at most, and the target is that of its tree.
        let mut single: Vec<(u32, f64)> = vec![(NONE, votes.nothing()); leaves];
        let mut whole = true;
        for vote in &votes.list {
            let of = &mut single[vote.leaf as usize];
            whole &= of.0 == NONE || of.0 == vote.target;
            *of = (vote.target, if of.1.is_infinite() { vote.weight } else { of.1 + vote.weight });
        }
        let ends = words.firsts.iter().skip(1).copied().chain([words.leaves.len()]);
        let mut targets = Vec::new();
        for (&begin, end) in words.firsts.iter().zip(ends) {
            let mut voted = words.leaves[begin..end].iter().flatten().map(|&l| single[l as usize].0);
            let target = voted.clone().find(|&t| t != NONE).unwrap_or(0);
            whole &= voted.all(|t| t == NONE || t == target);
            targets.push(target as usize);
        }
        let nothing = votes.nothing();
        if whole {
            let weights = words.leaves.iter().map(|l| l.map_or(nothing, |l| single[l as usize].1)).collect();
            return Weights { weights, columns: 1, targets: Some(targets) };
        }
        let columns = votes.targets;
        let mut rows = vec![nothing; leaves * columns];
        for vote in &votes.list {
            let place = &mut rows[vote.leaf as usize * columns + vote.target as usize];
            *place = if place.is_infinite() { vote.weight } else { *place + vote.weight };
        }
        let row = |leaf: &Option<u32>| match *leaf {
            Some(leaf) => rows[leaf as usize * columns..][..columns].to_vec(),
            None => vec![nothing; columns],
        };
        Weights { weights: words.leaves.iter().flat_map(row).collect(), columns, targets: None }
    }
}
