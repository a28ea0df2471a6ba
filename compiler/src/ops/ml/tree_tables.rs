//! The nodes of tree ensembles, read from attributes into one numbering: inner nodes first, then
//! leaves.

use crate::error::{Error, Result};
use crate::graph::Attr;
use crate::ops::Ctx;
use crate::ops::emit::{numbers, require};
use crate::scalar::Fold;
use std::collections::HashMap;

/// An inner node: which child follows from how a feature compares with the split.
#[derive(Clone, Debug)]
pub struct Node {
    /// Which feature.
    pub feature: usize,
    /// What it is compared with.
    pub split: f64,
    /// Whether the condition holds for less, equal, greater and missing (NaN) features.
    pub when: [bool; 4],
    /// Number of the child where the condition holds.
    pub yes: i64,
    /// Number of the child where it does not.
    pub no: i64,
}

/// All trees.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    /// The inner nodes.
    pub nodes: Vec<Node>,
    /// How many leaves there are; their numbers begin after the nodes'.
    pub leaves: usize,
    /// The root of each tree: a node or a leaf.
    pub roots: Vec<i64>,
    /// The most steps from a root to a leaf.
    pub depth: usize,
}

/// What the leaves vote.
#[derive(Clone, Debug)]
pub struct Votes {
    /// Number of targets (or classes).
    pub targets: usize,
    /// One row of targets per leaf.
    pub weights: Vec<f64>,
    /// Added to each target's sum.
    pub base: Vec<f64>,
    /// How votes are joined over the trees.
    pub fold: Fold,
    /// Whether a sum is divided by the number of trees.
    pub average: bool,
    /// Which targets any leaf votes for.
    voted: Vec<bool>,
}

impl Votes {
    fn new(targets: usize, leaves: usize, fold: Fold) -> Votes {
        let nothing = match fold {
            Fold::Min => f64::INFINITY,
            Fold::Max => f64::NEG_INFINITY,
            _ => 0.0,
        };
        Votes {
            targets,
            weights: vec![nothing; targets * leaves],
            base: vec![0.0; targets],
            fold,
            average: false,
            voted: vec![false; targets],
        }
    }

    fn add(&mut self, leaf: usize, target: usize, weight: f64) {
        let place = &mut self.weights[leaf * self.targets + target];
        *place = if place.is_infinite() { weight } else { *place + weight };
        self.voted[target] = true;
    }

    /// The target, where all leaves vote for one and the same.
    pub fn only_column(&self) -> Option<usize> {
        let mut voted = (0..self.targets).filter(|&t| self.voted[t]);
        voted.next().filter(|_| voted.next().is_none())
    }

    /// Drops all targets but one; of two base values the second is meant.
    pub fn keep_column(&mut self, column: usize) {
        self.weights = self.weights.iter().skip(column).step_by(self.targets).copied().collect();
        self.base = vec![self.base.last().copied().unwrap_or(0.0)];
        (self.targets, self.voted) = (1, vec![true]);
    }

    /// Adds targets that nothing votes for.
    pub fn widen(&mut self, targets: usize) {
        let rows = self.weights.chunks(self.targets.max(1));
        self.weights = rows
            .flat_map(|r| r.iter().copied().chain(std::iter::repeat(0.0)).take(targets).collect::<Vec<_>>())
            .collect();
        self.base.resize(targets, 0.0);
        self.voted.resize(targets, false);
        self.targets = targets;
    }
}

/// Less, equal, greater, missing.
fn condition(mode: &str, missing: bool) -> Option<[bool; 4]> {
    Some(match mode {
        "BRANCH_LEQ" => [true, true, false, missing],
        "BRANCH_LT" => [true, false, false, missing],
        "BRANCH_GTE" => [false, true, true, missing],
        "BRANCH_GT" => [false, false, true, missing],
        "BRANCH_EQ" => [false, true, false, missing],
        "BRANCH_NEQ" => [true, false, true, true],
        _ => return None,
    })
}

/// Numbers of an attribute that may be floats or, as `NAME_as_tensor`, a tensor.
fn floats(ctx: &Ctx, name: &str) -> Result<Vec<f64>> {
    for key in [name.to_string(), format!("{name}_as_tensor")] {
        match ctx.attrs().0.get(&key) {
            Some(Attr::Floats(v)) if !v.is_empty() => return Ok(v.iter().map(|&x| f64::from(x)).collect()),
            Some(Attr::Tensor(t)) => return numbers(t),
            _ => {}
        }
    }
    Ok(Vec::new())
}

fn ints<'a>(ctx: &Ctx<'a>, name: &str) -> Result<&'a [i64]> {
    Ok(ctx.attrs().get_ints(name)?.unwrap_or(&[]))
}

fn bad(what: &str) -> Error {
    Error::model(format!("the trees are not valid: {what}"))
}

/// The most steps from the roots; an error where a path runs in a circle.
fn depth(tables: &Tables) -> Result<usize> {
    // Depth of each node, in an order in which children are done first.
    let count = tables.nodes.len();
    let mut depth: Vec<Option<usize>> = vec![None; count];
    let mut stack: Vec<(usize, bool)> = Vec::new();
    let mut open = vec![false; count];
    let inner = |i: i64| usize::try_from(i).ok().filter(|&i| i < count);
    let of = |depth: &[Option<usize>], i: i64| inner(i).map_or(Some(0), |i| depth[i]);
    for root in tables.roots.iter().filter_map(|&r| inner(r)) {
        stack.push((root, false));
        while let Some((i, done)) = stack.pop() {
            let children = [tables.nodes[i].yes, tables.nodes[i].no];
            if done {
                let below = children.map(|c| of(&depth, c).unwrap_or(0));
                depth[i] = Some(1 + below[0].max(below[1]));
                open[i] = false;
                continue;
            }
            if depth[i].is_some() {
                continue;
            }
            if std::mem::replace(&mut open[i], true) {
                return Err(bad("a path runs in a circle"));
            }
            stack.push((i, true));
            stack.extend(
                children.into_iter().filter_map(inner).filter(|&c| depth[c].is_none()).map(|c| (c, false)),
            );
        }
    }
    Ok(tables.roots.iter().map(|&r| of(&depth, r).unwrap_or(0)).max().unwrap_or(0))
}

/// Trees and votes of TreeEnsembleRegressor (`role` target) and -Classifier (`role` class).
pub fn read_regressor(ctx: &Ctx, role: &str) -> Result<(Tables, Votes)> {
    let (trees, ids) = (ints(ctx, "nodes_treeids")?, ints(ctx, "nodes_nodeids")?);
    let (features, yes, no) =
        (ints(ctx, "nodes_featureids")?, ints(ctx, "nodes_truenodeids")?, ints(ctx, "nodes_falsenodeids")?);
    let modes = ctx.attrs().get_strs("nodes_modes")?.unwrap_or(&[]);
    let splits = floats(ctx, "nodes_values")?;
    let missing = ints(ctx, "nodes_missing_value_tracks_true")?;
    let count = ids.len();
    let equal = [trees.len(), features.len(), yes.len(), no.len(), modes.len(), splits.len()];
    require(count > 0 && equal.iter().all(|&n| n == count), || "the lists of nodes differ in length".into())?;
    // Numbers: inner nodes in order, then leaves in order.
    let inner = modes.iter().filter(|m| *m != "LEAF").count() as i64;
    let (mut next_node, mut next_leaf) = (0, inner);
    let mut number: HashMap<(i64, i64), i64> = HashMap::new();
    for i in 0..count {
        let next = if modes[i] == "LEAF" { &mut next_leaf } else { &mut next_node };
        number.insert((trees[i], ids[i]), *next);
        *next += 1;
    }
    let mut tables = Tables { leaves: (next_leaf - inner) as usize, ..Tables::default() };
    for i in 0..count {
        if i == 0 || trees[i] != trees[i - 1] {
            tables.roots.push(number[&(trees[i], ids[i])]);
        }
        if modes[i] == "LEAF" {
            continue;
        }
        let child = |id: i64| number.get(&(trees[i], id)).copied().ok_or_else(|| bad("a child is not there"));
        let tracks = missing.get(i).is_some_and(|&m| m != 0);
        tables.nodes.push(Node {
            feature: usize::try_from(features[i]).map_err(|_| bad("a feature is negative"))?,
            split: splits[i],
            when: condition(&modes[i], tracks)
                .ok_or_else(|| bad(&format!("mode '{}' is not known", modes[i])))?,
            yes: child(yes[i])?,
            no: child(no[i])?,
        });
    }
    tables.depth = depth(&tables)?;
    let votes = read_votes(ctx, role, &number, inner, tables.leaves)?;
    Ok((tables, votes))
}

fn read_votes(
    ctx: &Ctx,
    role: &str,
    number: &HashMap<(i64, i64), i64>,
    inner: i64,
    leaves: usize,
) -> Result<Votes> {
    let list = |name: &str| ints(ctx, &format!("{role}_{name}"));
    let (trees, nodes, targets) = (list("treeids")?, list("nodeids")?, list("ids")?);
    let weights = floats(ctx, &format!("{role}_weights"))?;
    let equal = [nodes.len(), targets.len(), weights.len()];
    require(equal.iter().all(|&n| n == trees.len()), || "the lists of votes differ in length".into())?;
    let most = targets.iter().max().map_or(1, |&m| m.max(0) as usize + 1);
    let count = match role {
        "class" => super::score::labels(ctx, "classlabels_int64s")?.len().max(most),
        _ => (ctx.attrs().int("n_targets", most as i64)?.max(0) as usize).max(most),
    };
    let (fold, average) = match ctx.attrs().str("aggregate_function", "SUM")? {
        "SUM" => (Fold::Sum, false),
        "AVERAGE" => (Fold::Sum, true),
        "MIN" => (Fold::Min, false),
        "MAX" => (Fold::Max, false),
        other => return Err(bad(&format!("aggregate_function '{other}' is not known"))),
    };
    let mut votes = Votes::new(count, leaves, fold);
    votes.average = average;
    for (i, &weight) in weights.iter().enumerate() {
        let leaf = number.get(&(trees[i], nodes[i])).map(|n| n - inner).filter(|&n| n >= 0);
        let leaf = leaf.ok_or_else(|| bad("a vote is of no leaf"))?;
        let target = usize::try_from(targets[i]).map_err(|_| bad("a target is negative"))?;
        votes.add(leaf as usize, target, weight);
    }
    let base = floats(ctx, "base_values")?;
    votes.base.iter_mut().zip(&base).for_each(|(to, &from)| *to = from);
    if base.len() == 1 {
        votes.base.fill(base[0]);
    }
    Ok(votes)
}

/// Trees and votes of TreeEnsemble (version 5).
pub fn read_v5(ctx: &Ctx) -> Result<(Tables, Votes)> {
    const MODES: [&str; 6] =
        ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"];
    let (features, yes, no) =
        (ints(ctx, "nodes_featureids")?, ints(ctx, "nodes_truenodeids")?, ints(ctx, "nodes_falsenodeids")?);
    let (yes_leaf, no_leaf) = (ints(ctx, "nodes_trueleafs")?, ints(ctx, "nodes_falseleafs")?);
    let modes = ctx.attrs().get_tensor("nodes_modes")?.and_then(|t| t.to_i64s()).unwrap_or_default();
    let (splits, members) = (floats(ctx, "nodes_splits")?, floats(ctx, "membership_values")?);
    let missing = ints(ctx, "nodes_missing_value_tracks_true")?;
    let count = features.len();
    let equal = [yes.len(), no.len(), yes_leaf.len(), no_leaf.len(), modes.len(), splits.len()];
    require(count > 0 && equal.iter().all(|&n| n == count), || "the lists of nodes differ in length".into())?;
    let (targets, weights) = (ints(ctx, "leaf_targetids")?, floats(ctx, "leaf_weights")?);
    require(targets.len() == weights.len(), || "the lists of leaves differ in length".into())?;
    // A set is a chain of nodes, one per member; the extra nodes follow those given.
    let mut sets = members.split(|m| m.is_nan());
    let mut chains: Vec<Vec<f64>> = Vec::new();
    for (i, &mode) in modes.iter().enumerate() {
        chains.push(if mode == 6 { sets.next().unwrap_or(&[]).to_vec() } else { vec![splits[i]] });
    }
    let inner = count + chains.iter().map(|c| c.len().max(1) - 1).sum::<usize>();
    let mut extra = count as i64;
    let mut nodes: Vec<Option<Node>> = vec![None; inner];
    for i in 0..count {
        let child = |id: i64, leaf: i64| {
            let end = if leaf != 0 { targets.len() } else { count };
            let id =
                usize::try_from(id).ok().filter(|&id| id < end).ok_or_else(|| bad("a child is not there"))?;
            Ok::<i64, Error>(if leaf != 0 { (inner + id) as i64 } else { id as i64 })
        };
        let (yes, no) = (child(yes[i], yes_leaf[i])?, child(no[i], no_leaf[i])?);
        let tracks = missing.get(i).is_some_and(|&m| m != 0);
        let name =
            if modes[i] == 6 { "BRANCH_EQ" } else { MODES.get(modes[i] as usize).copied().unwrap_or("") };
        let when = condition(name, tracks).ok_or_else(|| bad(&format!("mode {} is not known", modes[i])))?;
        let feature = usize::try_from(features[i]).map_err(|_| bad("a feature is negative"))?;
        let mut place = i;
        // An empty set holds nothing.
        let chain = if chains[i].is_empty() { vec![f64::NAN] } else { chains[i].clone() };
        for (m, &split) in chain.iter().enumerate() {
            let last = m + 1 == chain.len();
            nodes[place] = Some(Node { feature, split, when, yes, no: if last { no } else { extra } });
            if !last {
                place = extra as usize;
                extra += 1;
            }
        }
    }
    let mut tables = Tables { leaves: targets.len(), ..Tables::default() };
    tables.nodes =
        nodes.into_iter().collect::<Option<_>>().ok_or_else(|| Error::bug("a node was left out"))?;
    for &root in ints(ctx, "tree_roots")? {
        require((0..count as i64).contains(&root), || "a root is not there".into())?;
        tables.roots.push(root);
    }
    tables.depth = depth(&tables)?;
    let votes = v5_votes(ctx, targets, &weights)?;
    Ok((tables, votes))
}

fn v5_votes(ctx: &Ctx, targets: &[i64], weights: &[f64]) -> Result<Votes> {
    let (fold, average) = match ctx.attrs().int("aggregate_function", 1)? {
        0 => (Fold::Sum, true),
        1 => (Fold::Sum, false),
        2 => (Fold::Min, false),
        3 => (Fold::Max, false),
        other => return Err(bad(&format!("aggregate_function {other} is not known"))),
    };
    let most = targets.iter().max().map_or(1, |&m| m.max(0) + 1);
    let count = ctx.attrs().int("n_targets", most)?.max(most) as usize;
    let mut votes = Votes::new(count, targets.len(), fold);
    votes.average = average;
    for (leaf, (&target, &weight)) in targets.iter().zip(weights).enumerate() {
        let target = usize::try_from(target).map_err(|_| bad("a target is negative"))?;
        votes.add(leaf, target, weight);
    }
    Ok(votes)
}
