//! LinearRegressor and LinearClassifier.

use super::score::{Pair, Transform, choose, choose_of_two, labels};
use crate::base::{DType, Tensor, TensorType};
use crate::definition::Lowering;
use crate::error::Result;
use crate::ops::emit::{Arith, Emit, Val, require};
use crate::ops::{Ctx, Lower, Operator};
use crate::scalar::Fold;

const F: DType = DType::F32;

/// The rows.
pub const ROWS: &[Operator] = &[
    Operator {
        domain: "ai.onnx.ml",
        name: "LinearRegressor",
        versions: &[1],
        infer: infer_regressor,
        lower: Lower::Define(regressor),
        note: "",
    },
    Operator {
        domain: "ai.onnx.ml",
        name: "LinearClassifier",
        versions: &[1],
        infer: infer_classifier,
        lower: Lower::Define(classifier),
        note: "labels that are strings are numbers of words",
    },
];

/// Rows and features of the input: a vector is one row.
pub fn rows(ctx: &Ctx) -> Result<[usize; 2]> {
    let x = ctx.ty(0)?;
    match x.shape.as_slice() {
        [features] => Ok([1, *features]),
        [rows, features] => Ok([*rows, *features]),
        _ => Err(crate::error::Error::model(format!("it is not defined for {x}"))),
    }
}

/// Coefficients, `[targets, features]`, and one intercept per target.
struct Model {
    targets: usize,
    coefficients: Vec<f32>,
    intercepts: Vec<f32>,
}

fn model(ctx: &Ctx) -> Result<Model> {
    let [_, features] = rows(ctx)?;
    let coefficients = ctx.attrs().get_floats("coefficients")?.unwrap_or(&[]).to_vec();
    require(features > 0 && !coefficients.is_empty() && coefficients.len().is_multiple_of(features), || {
        format!("{} coefficients do not fit {features} features", coefficients.len())
    })?;
    let targets = coefficients.len() / features;
    let mut intercepts = ctx.attrs().get_floats("intercepts")?.unwrap_or(&[]).to_vec();
    intercepts.resize(targets, 0.0);
    Ok(Model { targets, coefficients, intercepts })
}

/// Defines the scores, `[rows, targets]`.
fn scores(e: &mut Emit, model: &Model) -> Result<Val> {
    let [n, features] = rows(e.ctx)?;
    let x = e.input(0)?;
    let x = e.reshape(&x, [n, features]);
    let w = e.constant("coefficients", Tensor::new([model.targets, features], &model.coefficients));
    let intercepts = e.constant("intercepts", Tensor::new([model.targets], &model.intercepts));
    Ok(e.map("scores", F, [n, model.targets], |b| {
        let k = b.reduce("k", features);
        let (x, w) = (b.elem(&x, &[b.var(0), k.clone()], F), b.elem(&w, &[b.var(1), k], F));
        let product = b.times(x, w);
        let acc = b.fold(Fold::Sum, product);
        let intercept = b.broadcast(&intercepts, F);
        b.plus(acc, intercept)
    }))
}

fn infer_regressor(ctx: &Ctx) -> Result<Vec<TensorType>> {
    Ok(vec![TensorType::new(F, [rows(ctx)?[0], model(ctx)?.targets])])
}

fn regressor(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let out = e.result()?;
    let scores = scores(&mut e, &model(ctx)?)?;
    Transform::read(ctx)?.define(&mut e, &scores, &out);
    Ok(())
}

fn infer_classifier(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let (n, labels, model) = (rows(ctx)?[0], labels(ctx, "classlabels_ints")?, model(ctx)?);
    let classes = if model.targets == 1 && labels.len() == 2 { 2 } else { model.targets };
    require(labels.len() == classes, || format!("{} labels do not fit {classes} classes", labels.len()))?;
    Ok(vec![TensorType::new(DType::I64, [n]), TensorType::new(F, [n, classes])])
}

fn classifier(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let (model, labels, transform) = (model(ctx)?, labels(ctx, "classlabels_ints")?, Transform::read(ctx)?);
    let mut e = Emit::new(ctx, low);
    let scores = scores(&mut e, &model)?;
    if model.targets == 1 && labels.len() == 2 {
        let pair = if transform == Transform::Logistic { Pair::Signed } else { Pair::Probability };
        return choose_of_two(&mut e, &scores, pair, transform, 0.0, [labels[0], labels[1]]);
    }
    if let Some(out) = e.output(0) {
        choose(&mut e, &scores, &labels, &out);
    }
    if let Some(out) = e.output(1) {
        transform.define(&mut e, &scores, &out);
    }
    Ok(())
}
