//! Trees of which every node asks whether its feature is at most a number.
//!
//! What nodes of models ask becomes one or more of such questions, to which a missing feature says no, or yes where
//! the node says so. So a feature need be known only by its rank among the numbers that it is compared with.

use super::tree_names::bad;
use super::tree_tables::{Node, Tables, Test};
use crate::base::DType;
use crate::error::Result;

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum To {
    /// A node of the model.
    Node(u32),
    /// One of [`Tests::all`].
    Test(u32),
    /// A leaf.
    Leaf(u32),
}

/// A question: `feature <= most`.
#[derive(Clone, Copy, Debug)]
pub struct AtMost {
    /// The feature.
    pub feature: u32,
    /// Whether a missing feature says yes.
    pub missing: bool,
    /// What it is compared with; never NaN or -0.
    pub most: f64,
    /// What follows a yes.
    pub yes: To,
    /// What follows a no.
    pub no: To,
}

/// All trees.
pub struct Tests {
    /// The questions.
    pub all: Vec<AtMost>,
    /// What stands for each node of the model.
    first: Vec<To>,
}

/// The questions of one node.
struct Asks<'a> {
    all: &'a mut Vec<AtMost>,
    feature: u32,
    float: DType,
}

impl Asks<'_> {
    fn ask(&mut self, most: f64, missing: bool, [yes, no]: [To; 2]) -> To {
        self.all.push(AtMost { feature: self.feature, missing, most: most + 0.0, yes, no });
        To::Test(self.all.len() as u32 - 1)
    }

    /// At most a number; without one no number is.
    fn at_most(&mut self, most: Option<f64>, missing: bool, [yes, no]: [To; 2]) -> To {
        match most {
            Some(most) => self.ask(most, missing, [yes, no]),
            None if missing => self.ask(f64::INFINITY, false, [no, yes]),
            None => no,
        }
    }

    /// What is compared, in the type in which it is; `None` where no number can be at most that.
    fn number(&self, split: f64) -> Option<f64> {
        let split = if self.float == DType::F64 { split } else { f64::from(split as f32) };
        Some(split).filter(|s| !s.is_nan())
    }

    /// The largest number below another one.
    fn below(&self, split: f64) -> Option<f64> {
        let split = self.number(split).filter(|&s| s > f64::NEG_INFINITY)?;
        Some(if self.float == DType::F64 { split.next_down() } else { f64::from((split as f32).next_down()) })
    }

    fn equal(&mut self, split: f64, missing: bool, [yes, no]: [To; 2]) -> To {
        let Some(number) = self.number(split) else { return self.at_most(None, missing, [yes, no]) };
        let above = self.at_most(self.below(split), false, [no, yes]);
        self.ask(number, missing, [above, no])
    }

    /// A member of a set of numbers in order, found by halves.
    fn member(&mut self, set: &[f64], missing: bool, to: [To; 2]) -> To {
        match set {
            [] => self.at_most(None, missing, to),
            [one] => self.equal(*one, missing, to),
            _ => {
                let (low, high) = set.split_at(set.len() / 2);
                let middle = self.number(low[low.len() - 1]);
                let parts = [low, high].map(|part| self.member(part, missing, to));
                self.at_most(middle, missing, parts)
            }
        }
    }
}

impl Tests {
    /// The questions of trees whose features are compared in a type of floats.
    pub fn new(tables: &Tables, float: DType) -> Tests {
        let mut all = Vec::with_capacity(tables.nodes.len());
        let count = tables.nodes.len() as u32;
        let to = |i: u32| if i < count { To::Node(i) } else { To::Leaf(i - count) };
        let mut first = Vec::with_capacity(tables.nodes.len());
        for node in &tables.nodes {
            let &Node { feature, test, missing, split, yes, no } = node;
            let (ways, turned) = ([to(yes), to(no)], [to(no), to(yes)]);
            let mut asks = Asks { all: &mut all, feature, float };
            first.push(match test {
                Test::Le => asks.at_most(asks.number(split), missing, ways),
                Test::Lt => asks.at_most(asks.below(split), missing, ways),
                Test::Ge if split.is_nan() => asks.at_most(None, missing, ways),
                Test::Gt if split.is_nan() => asks.at_most(None, missing, ways),
                Test::Ge => asks.at_most(asks.below(split), !missing, turned),
                Test::Gt => asks.at_most(asks.number(split), !missing, turned),
                Test::Eq => asks.equal(split, missing, ways),
                Test::Ne => asks.equal(split, false, turned),
                Test::In(set) => {
                    let numbers = tables.sets[set as usize].iter().filter_map(|&s| asks.number(s));
                    let mut set: Vec<f64> = numbers.map(|s| s + 0.0).collect();
                    set.sort_by(f64::total_cmp);
                    set.dedup();
                    asks.member(&set, missing, ways)
                }
            });
        }
        Tests { all, first }
    }

    /// The question or leaf where one is sent.
    pub fn end(&self, mut to: To) -> Result<To> {
        for _ in 0..=self.first.len() {
            match to {
                To::Node(node) => to = self.first[node as usize],
                _ => return Ok(to),
            }
        }
        Err(bad("a path runs in a circle"))
    }
}
