//! Ensembles of decision trees: the trees become words, which a routine walks; what it adds up becomes scores.

use super::linear::rows;
use super::score::{Pair, Transform, choose, choose_of_two, label_of_two, labels};
use super::tree_tables::{Tables, read, read_v5};
use super::tree_votes::{Votes, targets, v5_targets};
use super::tree_walk::{define, together};
use super::tree_words::{Weights, Words};
use crate::base::{DType, TensorType};
use crate::definition::Lowering;
use crate::error::Result;
use crate::ops::emit::{Arith, Emit, Val, compute_type, require};
use crate::ops::{Ctx, Lower, Operator};
use crate::scalar::{Fold, Op};

const F: DType = DType::F32;

/// The rows.
pub const ROWS: &[Operator] = &[
    Operator {
        domain: "ai.onnx.ml",
        name: "TreeEnsembleRegressor",
        versions: &[1, 3],
        infer: |ctx| Ok(vec![TensorType::new(F, [rows(ctx)?[0], targets(ctx, "target")?])]),
        lower: Lower::Define(regressor),
        note: "",
    },
    Operator {
        domain: "ai.onnx.ml",
        name: "TreeEnsembleClassifier",
        versions: &[1, 3],
        infer: infer_classifier,
        lower: Lower::Define(classifier),
        note: "labels that are strings are numbers of words",
    },
    Operator {
        domain: "ai.onnx.ml",
        name: "TreeEnsemble",
        versions: &[5],
        infer: |ctx| Ok(vec![TensorType::new(ctx.dtype(0)?, [rows(ctx)?[0], v5_targets(ctx)?])]),
        lower: Lower::Define(ensemble),
        note: "",
    },
];

/// Defines the votes of the leaves, joined over the trees, `[rows, targets]`.
fn scores(e: &mut Emit, tables: &Tables, votes: &Votes, float: DType) -> Result<Val> {
    let [n, features] = rows(e.ctx)?;
    let x = e.input(0)?;
    let mut x = e.reshape(&x, [n, features]);
    if !matches!(x.dtype(), DType::F32 | DType::F64) {
        x = e.map("features", F, [n, features], |b| b.broadcast(&x, F));
    }
    let trees = tables.roots.len();
    let words = Words::new(tables, x.dtype(), features, together(trees))?;
    let weights = Weights::new(&words, votes, tables.leaves);
    let sums = define(e, &x, &words, &weights, votes, float);
    let base = e.table("base", float, &[votes.targets], &votes.base);
    Ok(e.map("scores", float, [n, votes.targets], |b| {
        let sum = b.broadcast(&sums, float);
        let joined = if votes.average { b.times_number(sum, 1.0 / trees.max(1) as f64) } else { sum };
        let base = b.broadcast(&base, float);
        let score = b.plus(joined, base);
        if votes.fold == Fold::Sum {
            return score;
        }
        // The least or largest of no votes is 0.
        let (zero, nothing) = (b.number(float, 0.0), b.number(float, votes.nothing()));
        let none = b.op(Op::Eq, &[sum, nothing]);
        b.op(Op::Select, &[none, zero, score])
    }))
}

fn regressor(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let (tables, votes) = read(ctx, "target")?;
    let mut e = Emit::new(ctx, low);
    let out = e.result()?;
    let scores = scores(&mut e, &tables, &votes, F)?;
    Transform::read(ctx)?.define(&mut e, &scores, &out);
    Ok(())
}

fn ensemble(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let (tables, votes) = read_v5(ctx)?;
    let mut e = Emit::new(ctx, low);
    let out = e.result()?;
    let transform = Transform::read(ctx)?;
    let float = if transform == Transform::None { compute_type(out.dtype()) } else { F };
    let scores = scores(&mut e, &tables, &votes, float)?;
    transform.define(&mut e, &scores, &out);
    Ok(())
}

fn infer_classifier(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let (n, labels) = (rows(ctx)?[0], labels(ctx, "classlabels_int64s")?);
    Ok(vec![TensorType::new(DType::I64, [n]), TensorType::new(F, [n, labels.len()])])
}

fn classifier(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let (tables, mut votes) = read(ctx, "class")?;
    let labels = labels(ctx, "classlabels_int64s")?;
    let transform = Transform::read(ctx)?;
    let mut e = Emit::new(ctx, low);
    // Two classes of which the trees vote for one only: one score stands for both where it is the first.
    let only = votes.only_column().filter(|_| labels.len() == 2);
    let positive = votes.list.iter().all(|v| v.weight >= 0.0);
    let (pair, threshold) = if positive { (Pair::Probability, 0.5) } else { (Pair::Signed, 0.0) };
    if let (&[first, second], Some(0)) = (&labels[..], only) {
        votes.keep_column();
        let score = scores(&mut e, &tables, &votes, F)?;
        return choose_of_two(&mut e, &score, pair, transform, threshold, [first, second]);
    }
    require(votes.targets <= labels.len(), || "trees vote for more classes than there are labels".into())?;
    votes.widen(labels.len());
    let scores = scores(&mut e, &tables, &votes, F)?;
    match (&labels[..], only, e.output(0)) {
        (&[first, second], Some(1), _) => label_of_two(&mut e, &scores, 1, threshold, [first, second]),
        (_, _, Some(out)) => choose(&mut e, &scores, &labels, &out),
        (_, _, None) => {}
    }
    if let Some(out) = e.output(1) {
        transform.define(&mut e, &scores, &out);
    }
    Ok(())
}
