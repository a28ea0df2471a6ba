//! NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss.

use super::softmax::define_log_softmax;
use crate::base::{Affine, DType, TensorType};
use crate::definition::{DefBuilder, ExprId, Index, Lowering};
use crate::error::Result;
use crate::ops::emit::{Arith, Emit, Val, compute_type, require};
use crate::ops::{Ctx, Lower, Operator};
use crate::scalar::{Fold, Op, Scalar};

/// The rows.
pub const ROWS: &[Operator] = &[
    Operator {
        domain: "",
        name: "NegativeLogLikelihoodLoss",
        versions: &[12, 13, 22],
        infer,
        lower: Lower::Define(likelihood),
        note: "",
    },
    Operator {
        domain: "",
        name: "SoftmaxCrossEntropyLoss",
        versions: &[12, 13],
        infer,
        lower: Lower::Define(cross_entropy),
        note: "",
    },
];

fn reduction<'a>(ctx: &Ctx<'a>) -> Result<&'a str> {
    let name = ctx.attrs().str("reduction", "mean")?;
    require(["none", "sum", "mean"].contains(&name), || format!("reduction '{name}' is not known"))?;
    Ok(name)
}

fn infer(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let (x, target) = (ctx.ty(0)?, ctx.ty(1)?);
    let fits = x.rank() >= 2
        && target.rank() + 1 == x.rank()
        && target.shape[0] == x.shape[0]
        && target.shape[1..] == x.shape[2..];
    require(fits && x.dtype.is_float() && target.dtype.is_int(), || {
        format!("a loss of scores {x} for targets {target} is not defined")
    })?;
    if let Some(weight) = ctx.optional(2) {
        require(weight.ty.shape == [x.shape[1]], || format!("weights of type {} do not fit", weight.ty))?;
    }
    let shape = if reduction(ctx)? == "none" { target.shape.clone() } else { Vec::new() };
    Ok(vec![TensorType::new(x.dtype, shape), x.clone()])
}

fn likelihood(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let x = e.input(0)?;
    define_loss(&mut e, &x)
}

fn cross_entropy(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let x = e.input(0)?;
    let log = match e.output(1) {
        Some(out) => out,
        None => e.temp("log", compute_type(x.dtype()), x.shape()),
    };
    define_log_softmax(&mut e, &x, &[1], &log);
    define_loss(&mut e, &log)
}

/// The target of the axes' point, and whether it counts.
fn target(b: &mut DefBuilder, target: &Val, ignored: Option<i64>) -> (ExprId, Option<ExprId>) {
    let class = b.elem(target, &b.axes(), DType::I64);
    let Some(ignored) = ignored else { return (class, None) };
    let (ignored, zero) = (b.constant(Scalar::from_i64(DType::I64, ignored)), b.number(DType::I64, 0.0));
    let counts = b.op(Op::Ne, &[class, ignored]);
    (b.op(Op::Select, &[counts, class, zero]), Some(counts))
}

/// `-log * weight` of the target's class, then the reduction.
fn define_loss(e: &mut Emit, log: &Val) -> Result<()> {
    let (targets, weight, out) = (e.input(1)?, e.optional(2), e.result()?);
    let ignored = e.ctx.attrs().get_int("ignore_index")?.copied();
    let float = compute_type(log.dtype());
    let shape = targets.ty.shape.clone();
    // How much each target counts; without weights and ignored targets, one.
    let weights = (weight.is_some() || ignored.is_some()).then(|| {
        e.map("weights", float, shape.clone(), |b| {
            let (class, counts) = target(b, &targets, ignored);
            let value = match &weight {
                Some(weight) => b.elem_at(weight, vec![Index::Dynamic(class)], float),
                None => b.number(float, 1.0),
            };
            let zero = b.number(float, 0.0);
            counts.map_or(value, |counts| b.op(Op::Select, &[counts, value, zero]))
        })
    });
    let losses = |b: &mut DefBuilder| {
        let (class, counts) = target(b, &targets, ignored);
        let mut index: Vec<Index> = b.axes().into_iter().map(Index::Affine).collect();
        index.insert(1, Index::Dynamic(class));
        let score = b.elem_at(log, index, float);
        let mut loss = b.op(Op::Neg, &[score]);
        if let Some(weights) = &weights {
            let weight = b.broadcast(weights, float);
            loss = b.times(loss, weight);
        }
        let zero = b.number(float, 0.0);
        counts.map_or(loss, |counts| b.op(Op::Select, &[counts, loss, zero]))
    };
    let reduction = reduction(e.ctx)?;
    if reduction == "none" {
        e.define("", &out, losses);
        return Ok(());
    }
    let losses = e.map("losses", float, shape.clone(), losses);
    let count = targets.ty.elems();
    let total = (reduction == "mean").then(|| weights.map(|w| total(e, "total", &w)));
    let sum = self::total(e, "sum", &losses);
    e.define("", &out, |b| {
        let sum = b.elem(&sum, &[], float);
        match total {
            None => sum,
            Some(Some(weights)) => {
                let weights = b.elem(&weights, &[], float);
                b.over(sum, weights)
            }
            Some(None) => {
                let count = b.number(float, count as f64);
                b.over(sum, count)
            }
        }
    });
    Ok(())
}

/// The sum of all elements, a scalar.
fn total(e: &mut Emit, what: &str, x: &Val) -> Val {
    e.map(what, x.dtype(), [], |b| {
        let index: Vec<Affine> =
            x.shape().iter().enumerate().map(|(i, &d)| b.reduce(&format!("r{i}"), d)).collect();
        let elem = b.elem(x, &index, x.dtype());
        b.fold(Fold::Sum, elem)
    })
}
