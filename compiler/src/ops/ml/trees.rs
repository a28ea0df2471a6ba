//! Ensembles of decision trees: all trees take one step down an iteration, as a loop over tables of
//! nodes; then the leaves' votes are added up.

use super::linear::rows;
use super::score::{Pair, Transform, choose, choose_of_two, labels};
use super::tree_tables::{Tables, Votes, read_regressor, read_v5};
use crate::base::{Affine, DType, Tensor, TensorType};
use crate::definition::{Carry, DefBuilder, ExprId, Index, Lowering, Repeat};
use crate::error::Result;
use crate::ops::emit::{Arith, Emit, Val, compute_type, require};
use crate::ops::{Ctx, Lower, Operator};
use crate::scalar::{Fold, Op, Scalar};

const F: DType = DType::F32;

/// The rows.
pub const ROWS: &[Operator] = &[
    Operator {
        domain: "ai.onnx.ml",
        name: "TreeEnsembleRegressor",
        versions: &[1, 3],
        infer: |ctx| Ok(vec![TensorType::new(F, [rows(ctx)?[0], read_regressor(ctx, "target")?.1.targets])]),
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
        infer: |ctx| Ok(vec![TensorType::new(ctx.dtype(0)?, [rows(ctx)?[0], read_v5(ctx)?.1.targets])]),
        lower: Lower::Define(ensemble),
        note: "",
    },
];

/// The node tables as constants of the lowering.
struct Walk {
    feature: Val,
    split: Val,
    yes: Val,
    no: Val,
    when: [Val; 4],
}

/// Defines the leaf that each row reaches in each tree, `[rows, trees]`.
fn leaves(e: &mut Emit, tables: &Tables) -> Result<Val> {
    let [n, features] = rows(e.ctx)?;
    require(tables.nodes.iter().all(|t| t.feature < features), || {
        format!("a tree asks for a feature beyond the input's {features}")
    })?;
    let x = e.input(0)?;
    let x = e.reshape(&x, [n, features]);
    let float = if x.dtype() == DType::F64 { DType::F64 } else { F };
    let trees = tables.roots.len();
    let roots = e.constant("roots", Tensor::new([trees], &tables.roots));
    let first = e.map("first", DType::I64, [n, trees], |b| b.broadcast(&roots, DType::I64));
    if tables.depth == 0 || tables.nodes.is_empty() {
        return Ok(first);
    }
    let ints = |e: &mut Emit, what: &str, f: &dyn Fn(usize) -> i64| {
        let values: Vec<i64> = (0..tables.nodes.len()).map(f).collect();
        e.constant(what, Tensor::new([values.len()], &values))
    };
    let flags = |e: &mut Emit, what: &str, i: usize| {
        let bytes: Vec<u8> = tables.nodes.iter().map(|t| u8::from(t.when[i])).collect();
        let ty = TensorType::new(DType::Bool, [bytes.len()]);
        e.constant(what, Tensor { ty, data: bytes.into() })
    };
    let splits: Vec<f64> = tables.nodes.iter().map(|t| t.split).collect();
    let walk = Walk {
        feature: ints(e, "feature", &|i| tables.nodes[i].feature as i64),
        split: e.table("split", float, &[splits.len()], &splits),
        yes: ints(e, "yes", &|i| tables.nodes[i].yes),
        no: ints(e, "no", &|i| tables.nodes[i].no),
        when: [flags(e, "less", 0), flags(e, "equal", 1), flags(e, "greater", 2), flags(e, "missing", 3)],
    };
    let state = e.temp("node", DType::I64, [n, trees]);
    let last = e.temp("leaf", DType::I64, [n, trees]);
    let before = e.low.stages.len();
    let next = e.map("next", DType::I64, [n, trees], |b| step(b, &walk, &x, &state, float));
    let body = e.low.stages.split_off(before);
    let carries = vec![Carry { initial: first.id, state: state.id, next: next.id, last: last.id }];
    e.low.repeat(Repeat {
        count: tables.depth,
        size: None,
        condition: None,
        slices: Vec::new(),
        carries,
        body,
    });
    Ok(last)
}

/// The child of the node at the axes; leaves, which are numbered after the nodes, stay.
fn step(b: &mut DefBuilder, walk: &Walk, x: &Val, state: &Val, float: DType) -> ExprId {
    let node = b.broadcast(state, DType::I64);
    let count = b.constant(Scalar::from_i64(DType::I64, walk.feature.ty.elems() as i64));
    let is_node = b.op(Op::Lt, &[node, count]);
    let zero = b.number(DType::I64, 0.0);
    let place = b.op(Op::Select, &[is_node, node, zero]);
    let at = |b: &mut DefBuilder, table: &Val, to: DType| b.elem_at(table, vec![Index::Dynamic(place)], to);
    let feature = at(b, &walk.feature, DType::I64);
    let value = b.elem_at(x, vec![Index::Affine(b.var(0)), Index::Dynamic(feature)], float);
    let split = at(b, &walk.split, float);
    let [less, equal, greater, missing] = [0, 1, 2, 3].map(|i| at(b, &walk.when[i], DType::Bool));
    let (below, same) = (b.op(Op::Lt, &[value, split]), b.op(Op::Eq, &[value, split]));
    let above = b.op(Op::Gt, &[value, split]);
    let holds = b.op(Op::Select, &[above, greater, missing]);
    let holds = b.op(Op::Select, &[same, equal, holds]);
    let holds = b.op(Op::Select, &[below, less, holds]);
    let (yes, no) = (at(b, &walk.yes, DType::I64), at(b, &walk.no, DType::I64));
    let child = b.op(Op::Select, &[holds, yes, no]);
    b.op(Op::Select, &[is_node, child, node])
}

/// Defines the votes of the leaves, joined over the trees, `[rows, targets]`.
fn scores(e: &mut Emit, tables: &Tables, votes: &Votes, float: DType) -> Result<Val> {
    let leaves = leaves(e, tables)?;
    let (n, trees) = (leaves.shape()[0], leaves.shape()[1]);
    let weights = e.table("votes", float, &[tables.leaves, votes.targets], &votes.weights);
    let base = e.table("base", float, &[votes.targets], &votes.base);
    let first_leaf = tables.nodes.len() as i64;
    Ok(e.map("scores", float, [n, votes.targets], |b| {
        let t: Affine = b.reduce("t", trees);
        let leaf = b.elem(&leaves, &[b.var(0), t], DType::I64);
        let offset = b.constant(Scalar::from_i64(DType::I64, first_leaf));
        let row = b.minus(leaf, offset);
        let vote = b.elem_at(&weights, vec![Index::Dynamic(row), Index::Affine(b.var(1))], float);
        let acc = b.fold(votes.fold, vote);
        let joined = match votes.average {
            true => b.times_number(acc, 1.0 / trees.max(1) as f64),
            false => acc,
        };
        let base = b.broadcast(&base, float);
        if votes.fold == Fold::Sum { b.plus(joined, base) } else { joined }
    }))
}

fn regressor(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let (tables, votes) = read_regressor(ctx, "target")?;
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
    read_regressor(ctx, "class")?;
    Ok(vec![TensorType::new(DType::I64, [n]), TensorType::new(F, [n, labels.len()])])
}

fn classifier(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let (tables, mut votes) = read_regressor(ctx, "class")?;
    let labels = labels(ctx, "classlabels_int64s")?;
    let transform = Transform::read(ctx)?;
    let mut e = Emit::new(ctx, low);
    // Two classes of which the trees vote for one only: one score stands for both.
    if let ([first, second], Some(column)) = (&labels[..], votes.only_column()) {
        votes.keep_column(column);
        let score = scores(&mut e, &tables, &votes, F)?;
        let positive = votes.weights.iter().all(|&w| w >= 0.0);
        let (pair, threshold) = if positive { (Pair::Probability, 0.5) } else { (Pair::Signed, 0.0) };
        choose_of_two(&mut e, &score, pair, transform, threshold, [*first, *second]);
        return Ok(());
    }
    require(votes.targets <= labels.len(), || "trees vote for more classes than there are labels".into())?;
    votes.widen(labels.len());
    let scores = scores(&mut e, &tables, &votes, F)?;
    if let Some(out) = e.output(0) {
        choose(&mut e, &scores, &labels, &out);
    }
    if let Some(out) = e.output(1) {
        transform.define(&mut e, &scores, &out);
    }
    Ok(())
}
