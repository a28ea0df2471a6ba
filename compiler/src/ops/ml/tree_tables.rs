//! The nodes of tree ensembles, read from attributes into one numbering: inner nodes first, then
//! leaves.

use super::tree_names::{Numbers, Places, bad, feature, floats, ints};
use super::tree_votes::{Votes, read_v5_votes, read_votes};
use crate::error::Result;
use crate::ops::Ctx;
use crate::ops::emit::require;

/// What a node asks of its feature.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Test {
    Le,
    Lt,
    Ge,
    Gt,
    Eq,
    Ne,
    /// Whether it is a member of one of [`Tables::sets`].
    In(u32),
}

/// The tests by their names, in the order of the numbers of TreeEnsemble; then follows membership.
const MODES: [(&str, Test); 6] = [
    ("BRANCH_LEQ", Test::Le),
    ("BRANCH_LT", Test::Lt),
    ("BRANCH_GTE", Test::Ge),
    ("BRANCH_GT", Test::Gt),
    ("BRANCH_EQ", Test::Eq),
    ("BRANCH_NEQ", Test::Ne),
];

/// An inner node: which child follows from what a feature is.
#[derive(Clone, Copy, Debug)]
pub struct Node {
    /// Which feature.
    pub feature: u32,
    /// What is asked.
    pub test: Test,
    /// Whether a missing feature (NaN) goes the way of those of which the test is true. It is unequal to any number
    /// whatever this says.
    pub missing: bool,
    /// What it is compared with.
    pub split: f64,
    /// Number of the child where the test is true.
    pub yes: u32,
    /// Number of the child where it is not.
    pub no: u32,
}

/// All trees.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    /// The inner nodes.
    pub nodes: Vec<Node>,
    /// How many leaves there are; their numbers begin after the nodes'.
    pub leaves: usize,
    /// The root of each tree: a node or a leaf.
    pub roots: Vec<u32>,
    /// The sets that nodes ask for.
    pub sets: Vec<Vec<f64>>,
}

/// Trees and votes of TreeEnsembleRegressor (`role` target) and -Classifier (`role` class).
pub fn read(ctx: &Ctx, role: &str) -> Result<(Tables, Votes)> {
    let (trees, ids) = (ints(ctx, "nodes_treeids")?, ints(ctx, "nodes_nodeids")?);
    let (features, yes, no) =
        (ints(ctx, "nodes_featureids")?, ints(ctx, "nodes_truenodeids")?, ints(ctx, "nodes_falsenodeids")?);
    let modes = ctx.attrs().get_strs("nodes_modes")?.unwrap_or(&[]);
    let splits = floats(ctx, "nodes_values")?;
    let missing = ints(ctx, "nodes_missing_value_tracks_true")?;
    let count = ids.len();
    let equal = [trees.len(), features.len(), yes.len(), no.len(), modes.len(), splits.len()];
    require(count > 0 && equal.iter().all(|&n| n == count), || "the lists of nodes differ in length".into())?;
    require(count < u32::MAX as usize / 2, || "there are more nodes than can be numbered".into())?;
    let is_leaf = |i: usize| modes[i] == "LEAF";
    let inner = (0..count).filter(|&i| !is_leaf(i)).count() as u32;
    let (mut next_node, mut next_leaf) = (0, inner);
    let number = |i| {
        let next = if is_leaf(i) { &mut next_leaf } else { &mut next_node };
        *next += 1;
        *next - 1
    };
    let numbers: Vec<u32> = (0..count).map(number).collect();
    let names = Numbers { places: Places::new(trees, ids)?, numbers, inner };
    let mut tables = Tables { leaves: count - inner as usize, ..Tables::default() };
    tables.nodes.reserve_exact(inner as usize);
    for i in 0..count {
        if i == 0 || trees[i] != trees[i - 1] {
            tables.roots.push(names.numbers[i]);
        }
        if is_leaf(i) {
            continue;
        }
        let child = |id: i64| names.of(trees[i], id).ok_or_else(|| bad("a child is not there"));
        let test = MODES.iter().find(|m| m.0 == modes[i]).map(|m| m.1);
        tables.nodes.push(Node {
            feature: feature(features[i])?,
            test: test.ok_or_else(|| bad(&format!("mode '{}' is not known", modes[i])))?,
            missing: missing.get(i).is_some_and(|&m| m != 0),
            split: splits[i],
            yes: child(yes[i])?,
            no: child(no[i])?,
        });
    }
    let votes = read_votes(ctx, role, &names)?;
    Ok((tables, votes))
}

/// Trees and votes of TreeEnsemble (version 5).
pub fn read_v5(ctx: &Ctx) -> Result<(Tables, Votes)> {
    let (features, yes, no) =
        (ints(ctx, "nodes_featureids")?, ints(ctx, "nodes_truenodeids")?, ints(ctx, "nodes_falsenodeids")?);
    let (yes_leaf, no_leaf) = (ints(ctx, "nodes_trueleafs")?, ints(ctx, "nodes_falseleafs")?);
    let modes = ctx.attrs().get_tensor("nodes_modes")?.and_then(|t| t.to_i64s()).unwrap_or_default();
    let (splits, members) = (floats(ctx, "nodes_splits")?, floats(ctx, "membership_values")?);
    let missing = ints(ctx, "nodes_missing_value_tracks_true")?;
    let count = features.len();
    let equal = [yes.len(), no.len(), yes_leaf.len(), no_leaf.len(), modes.len(), splits.len()];
    require(count > 0 && equal.iter().all(|&n| n == count), || "the lists of nodes differ in length".into())?;
    let votes = read_v5_votes(ctx)?;
    let leaves = ints(ctx, "leaf_targetids")?.len();
    require(count + leaves < u32::MAX as usize / 2, || "there are more nodes than can be numbered".into())?;
    let mut tables = Tables { leaves, ..Tables::default() };
    let mut sets = members.split(|m| m.is_nan());
    for i in 0..count {
        let child = |id: i64, leaf: i64| {
            let (end, first) = if leaf != 0 { (leaves, count) } else { (count, 0) };
            let id = usize::try_from(id).ok().filter(|&id| id < end);
            id.map(|id| (first + id) as u32).ok_or_else(|| bad("a child is not there"))
        };
        let test = match modes[i] {
            6 => {
                tables.sets.push(sets.next().unwrap_or(&[]).to_vec());
                Test::In(tables.sets.len() as u32 - 1)
            }
            mode => {
                let known = usize::try_from(mode).ok().and_then(|m| MODES.get(m));
                known.ok_or_else(|| bad(&format!("mode {mode} is not known")))?.1
            }
        };
        tables.nodes.push(Node {
            feature: feature(features[i])?,
            test,
            missing: missing.get(i).is_some_and(|&m| m != 0),
            split: splits[i],
            yes: child(yes[i], yes_leaf[i])?,
            no: child(no[i], no_leaf[i])?,
        });
    }
    for &root in ints(ctx, "tree_roots")? {
        require((0..count as i64).contains(&root), || "a root is not there".into())?;
        tables.roots.push(root as u32);
    }
    Ok((tables, votes))
}
