//! What the leaves of tree ensembles vote.

use super::tree_names::{Numbers, bad, floats, ints};
use crate::error::Result;
use crate::ops::Ctx;
use crate::ops::emit::require;
use crate::scalar::Fold;
use std::collections::HashSet;

/// What a leaf adds to a target.
#[derive(Clone, Copy, Debug)]
pub struct Vote {
    /// Which leaf.
    pub leaf: u32,
    /// Which target.
    pub target: u32,
    /// What it adds.
    pub weight: f64,
}

/// What the leaves vote.
#[derive(Clone, Debug)]
pub struct Votes {
    /// Number of targets (or classes).
    pub targets: usize,
    /// All votes; several of one leaf for one of several targets are added up.
    pub list: Vec<Vote>,
    /// Added to each target's sum.
    pub base: Vec<f64>,
    /// How votes are joined over the trees.
    pub fold: Fold,
    /// Whether a sum is divided by the number of trees.
    pub average: bool,
}

impl Votes {
    /// What a leaf votes that votes nothing.
    pub fn nothing(&self) -> f64 {
        match self.fold {
            Fold::Min => f64::INFINITY,
            Fold::Max => f64::NEG_INFINITY,
            _ => 0.0,
        }
    }

    /// The target, where all leaves vote for one and the same.
    pub fn only_column(&self) -> Option<u32> {
        let first = self.list.first()?.target;
        self.list.iter().all(|v| v.target == first).then_some(first)
    }

    /// Drops all targets but the one that is voted for; of two base values the second is meant.
    pub fn keep_column(&mut self) {
        self.list.iter_mut().for_each(|v| v.target = 0);
        self.base = vec![self.base.last().copied().unwrap_or(0.0)];
        self.targets = 1;
    }

    /// Adds targets that nothing votes for.
    pub fn widen(&mut self, targets: usize) {
        self.base.resize(targets, 0.0);
        self.targets = targets;
    }
}

/// How many targets TreeEnsembleRegressor (`role` target) and -Classifier (`role` class) have.
pub fn targets(ctx: &Ctx, role: &str) -> Result<usize> {
    let most = ints(ctx, &format!("{role}_ids"))?.iter().max().map_or(1, |&m| m.max(0) as usize + 1);
    Ok(match role {
        "class" => super::score::labels(ctx, "classlabels_int64s")?.len().max(most),
        _ => (ctx.attrs().int("n_targets", most as i64)?.max(0) as usize).max(most),
    })
}

/// How many targets TreeEnsemble has.
pub fn v5_targets(ctx: &Ctx) -> Result<usize> {
    let most = ints(ctx, "leaf_targetids")?.iter().max().map_or(1, |&m| m.max(0) + 1);
    Ok(ctx.attrs().int("n_targets", most)?.max(most) as usize)
}

fn vote(leaf: usize, target: i64, weight: f64) -> Result<Vote> {
    let target = u32::try_from(target).map_err(|_| bad("a target is negative"))?;
    Ok(Vote { leaf: leaf as u32, target, weight })
}

/// Votes of TreeEnsembleRegressor and -Classifier.
pub fn read_votes(ctx: &Ctx, role: &str, numbers: &Numbers) -> Result<Votes> {
    let list = |name: &str| ints(ctx, &format!("{role}_{name}"));
    let (trees, nodes, ids) = (list("treeids")?, list("nodeids")?, list("ids")?);
    let weights = floats(ctx, &format!("{role}_weights"))?;
    let equal = [nodes.len(), ids.len(), weights.len()];
    require(equal.iter().all(|&n| n == trees.len()), || "the lists of votes differ in length".into())?;
    let (fold, average) = match ctx.attrs().str("aggregate_function", "SUM")? {
        "SUM" => (Fold::Sum, false),
        "AVERAGE" => (Fold::Sum, true),
        "MIN" => (Fold::Min, false),
        "MAX" => (Fold::Max, false),
        other => return Err(bad(&format!("aggregate_function '{other}' is not known"))),
    };
    let of = |(i, &weight): (usize, &f64)| {
        let leaf = numbers.leaf(trees[i], nodes[i]).ok_or_else(|| bad("a vote is of no leaf"))?;
        vote(leaf, ids[i], weight)
    };
    let mut list = weights.iter().enumerate().map(of).collect::<Result<Vec<_>>>()?;
    let targets = targets(ctx, role)?;
    if targets == 1 {
        // sklearn-onnx names a leaf once for each class where the only target is the leaf's number; ONNX Runtime, whose
        // results these models are meant to have, takes the first vote.
        let mut seen = HashSet::new();
        list.retain(|vote| seen.insert(vote.leaf));
    }
    let mut base = vec![0.0; targets];
    let given = floats(ctx, "base_values")?;
    base.iter_mut().zip(&given).for_each(|(to, &from)| *to = from);
    if given.len() == 1 {
        base.fill(given[0]);
    }
    let mut votes = Votes { targets, list, base, fold, average };
    // One number for two classes belongs to the first, as ONNX Runtime has it, which does not count without votes.
    if role == "class" && given.len() == 1 && targets == 2 && votes.only_column() == Some(1) {
        votes.base.fill(0.0);
    }
    Ok(votes)
}

/// Votes of TreeEnsemble: one of each leaf.
pub fn read_v5_votes(ctx: &Ctx) -> Result<Votes> {
    let (ids, weights) = (ints(ctx, "leaf_targetids")?, floats(ctx, "leaf_weights")?);
    require(ids.len() == weights.len(), || "the lists of leaves differ in length".into())?;
    let (fold, average) = match ctx.attrs().int("aggregate_function", 1)? {
        0 => (Fold::Sum, true),
        1 => (Fold::Sum, false),
        2 => (Fold::Min, false),
        3 => (Fold::Max, false),
        other => return Err(bad(&format!("aggregate_function {other} is not known"))),
    };
    let list = ids.iter().zip(&weights).enumerate();
    let list = list.map(|(leaf, (&target, &weight))| vote(leaf, target, weight)).collect::<Result<_>>()?;
    let targets = v5_targets(ctx)?;
    Ok(Votes { targets, list, base: vec![0.0; targets], fold, average })
}
