//! Ensembles of decision trees: all trees take one step down an iteration, as a loop over tables of
//! nodes; then the leaves' votes are added up.

use super::linear::rows;
use super::score::{Pair, Transform, choose, choose_of_two, labels};
use super::tree_tables::{Node, Tables, Votes, read_regressor, read_v5};
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
    when: When,
}

/// Where a node's condition holds.
enum When {
    /// All nodes compare alike; what holds for missing features says each where that is not what the comparison says.
    Is(Op, Option<Val>),
    /// For less, equal, greater and missing features, by node.
    Each([Val; 4]),
}

/// What comparisons say of less, equal, greater and missing numbers.
const COMPARISONS: [([bool; 4], Op); 6] = [
    ([true, true, false, false], Op::Le),
    ([true, false, false, false], Op::Lt),
    ([false, true, true, false], Op::Ge),
    ([false, false, true, false], Op::Gt),
    ([false, true, false, false], Op::Eq),
    ([true, false, true, true], Op::Ne),
];

impl When {
    fn new(e: &mut Emit, nodes: &[Node]) -> When {
        let mut flags = |what: &str, i: usize| {
            let bytes: Vec<u8> = nodes.iter().map(|n| u8::from(n.when[i])).collect();
            let ty = TensorType::new(DType::Bool, [bytes.len()]);
            e.constant(what, Tensor { ty, data: bytes.into() })
        };
        let says = |says: &[bool; 4]| nodes.iter().all(|n| n.when[..3] == says[..3]);
        match COMPARISONS.iter().find(|c| says(&c.0)) {
            Some((says, op)) => {
                let known = nodes.iter().all(|n| n.when[3] == says[3]);
                When::Is(*op, (!known).then(|| flags("missing", 3)))
            }
            None => {
                When::Each([flags("less", 0), flags("equal", 1), flags("greater", 2), flags("missing", 3)])
            }
        }
    }

    /// Whether the condition of the node at a place holds.
    fn holds(&self, b: &mut DefBuilder, [value, split, place]: [ExprId; 3]) -> ExprId {
        let at = |b: &mut DefBuilder, flag| b.elem_at(flag, vec![Index::Dynamic(place)], DType::Bool);
        match self {
            When::Is(op, missing) => {
                let holds = b.op(*op, &[value, split]);
                let Some(missing) = missing else { return holds };
                let (number, missing) = (b.op(Op::Eq, &[value, value]), at(b, missing));
                b.op(Op::Select, &[number, holds, missing])
            }
            When::Each(flags) => {
                let [less, equal, greater, missing] = flags.each_ref().map(|flag| at(b, flag));
                let (below, same) = (b.op(Op::Lt, &[value, split]), b.op(Op::Eq, &[value, split]));
                let above = b.op(Op::Gt, &[value, split]);
                let holds = b.op(Op::Select, &[above, greater, missing]);
                let holds = b.op(Op::Select, &[same, equal, holds]);
                b.op(Op::Select, &[below, less, holds])
            }
        }
    }
}

/// A table of numbers, none negative, in the smallest type that holds them.
fn numbers(e: &mut Emit, what: &str, values: impl Iterator<Item = usize> + Clone) -> Val {
    let dtype = match values.clone().max() {
        None | Some(0..=0xff) => DType::U8,
        Some(0x100..=0xffff) => DType::U16,
        Some(_) => DType::I64,
    };
    let bytes: Vec<u8> =
        values.flat_map(|v| (v as u64).to_le_bytes().into_iter().take(dtype.size())).collect();
    let ty = TensorType::new(dtype, [bytes.len() / dtype.size()]);
    e.constant(what, Tensor { ty, data: bytes.into() })
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
    let splits: Vec<f64> = tables.nodes.iter().map(|t| t.split).collect();
    let walk = Walk {
        feature: numbers(e, "feature", tables.nodes.iter().map(|n| n.feature)),
        split: e.table("split", float, &[splits.len()], &splits),
        yes: numbers(e, "yes", tables.nodes.iter().map(|n| n.yes as usize)),
        no: numbers(e, "no", tables.nodes.iter().map(|n| n.no as usize)),
        when: When::new(e, &tables.nodes),
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
    let holds = walk.when.holds(b, [value, split, place]);
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
