//! SVMRegressor and SVMClassifier.

use super::linear::rows;
use super::probability::couple;
use super::score::{Pair, Transform, choose, choose_of_two, labels};
use crate::base::{Affine, DType, Tensor, TensorType};
use crate::definition::{DefBuilder, ExprId, Lowering};
use crate::error::{Error, Result};
use crate::ops::emit::{Arith, Emit, Val, require};
use crate::ops::{Ctx, Lower, Operator};
use crate::scalar::{Fold, Op};

const F: DType = DType::F32;

/// The rows.
pub const ROWS: &[Operator] = &[
    Operator {
        domain: "ai.onnx.ml",
        name: "SVMRegressor",
        versions: &[1],
        infer: |ctx| Ok(vec![TensorType::new(F, [rows(ctx)?[0], 1])]),
        lower: Lower::Define(regressor),
        note: "",
    },
    Operator {
        domain: "ai.onnx.ml",
        name: "SVMClassifier",
        versions: &[1],
        infer: infer_classifier,
        lower: Lower::Define(classifier),
        note: "labels that are strings are numbers of words",
    },
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kernel {
    Linear,
    Polynomial,
    Gaussian,
    Sigmoid,
}

/// The vectors and the function that compares the input with them.
struct Vectors {
    kernel: Kernel,
    gamma: f64,
    offset: f64,
    degree: f64,
    count: usize,
    vectors: Vec<f32>,
}

fn floats(ctx: &Ctx, name: &str) -> Result<Vec<f32>> {
    Ok(ctx.attrs().get_floats(name)?.unwrap_or(&[]).to_vec())
}

fn vectors(ctx: &Ctx) -> Result<Vectors> {
    let features = rows(ctx)?[1];
    let kernel = match ctx.attrs().str("kernel_type", "LINEAR")? {
        "LINEAR" => Kernel::Linear,
        "POLY" => Kernel::Polynomial,
        "RBF" => Kernel::Gaussian,
        "SIGMOID" => Kernel::Sigmoid,
        other => return Err(Error::model(format!("kernel_type '{other}' is not known"))),
    };
    let mut params = floats(ctx, "kernel_params")?;
    params.resize(3, 0.0);
    let vectors = floats(ctx, "support_vectors")?;
    require(features > 0 && !vectors.is_empty() && vectors.len().is_multiple_of(features), || {
        format!("{} numbers of support vectors do not fit {features} features", vectors.len())
    })?;
    let [gamma, offset, degree] = [params[0], params[1], params[2]].map(f64::from);
    Ok(Vectors { kernel, gamma, offset, degree, count: vectors.len() / features, vectors })
}

impl Vectors {
    /// Defines the kernel of each row with each vector, `[rows, vectors]`.
    fn define(&self, e: &mut Emit) -> Result<Val> {
        let [n, features] = rows(e.ctx)?;
        let x = e.input(0)?;
        let x = e.reshape(&x, [n, features]);
        let table = e.constant("vectors", Tensor::new([self.count, features], &self.vectors));
        Ok(e.map("kernel", F, [n, self.count], |b| {
            let k = b.reduce("k", features);
            let (x, v) = (b.elem(&x, &[b.var(0), k.clone()], F), b.elem(&table, &[b.var(1), k], F));
            let body = if self.kernel == Kernel::Gaussian {
                let difference = b.minus(x, v);
                b.times(difference, difference)
            } else {
                b.times(x, v)
            };
            let acc = b.fold(Fold::Sum, body);
            self.finish(b, acc)
        }))
    }

    fn finish(&self, b: &mut DefBuilder, acc: ExprId) -> ExprId {
        match self.kernel {
            Kernel::Linear => acc,
            Kernel::Gaussian => {
                let scaled = b.times_number(acc, -self.gamma);
                b.op(Op::Exp, &[scaled])
            }
            Kernel::Polynomial => {
                let scaled = b.times_number(acc, self.gamma);
                let sum = b.plus_number(scaled, self.offset);
                let degree = b.number(F, self.degree);
                b.op(Op::Pow, &[sum, degree])
            }
            Kernel::Sigmoid => {
                let scaled = b.times_number(acc, self.gamma);
                let sum = b.plus_number(scaled, self.offset);
                b.op(Op::Tanh, &[sum])
            }
        }
    }
}

/// Defines `[rows, columns]`: the kernels times constant coefficients `[columns, vectors]`, plus
/// a constant per column.
fn weighted(e: &mut Emit, kernel: &Val, columns: usize, coefficients: &[f32], plus: &[f32]) -> Val {
    let [n, count] = [kernel.shape()[0], kernel.shape()[1]];
    let w = e.constant("coefficients", Tensor::new([columns, count], coefficients));
    let plus = e.constant("rho", Tensor::new([columns], plus));
    e.map("scores", F, [n, columns], |b| {
        let k = b.reduce("k", count);
        let (x, w) = (b.elem(kernel, &[b.var(0), k.clone()], F), b.elem(&w, &[b.var(1), k], F));
        let product = b.times(x, w);
        let acc = b.fold(Fold::Sum, product);
        let plus = b.broadcast(&plus, F);
        b.plus(acc, plus)
    })
}

fn regressor(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let out = e.result()?;
    let (coefficients, rho) = (floats(ctx, "coefficients")?, floats(ctx, "rho")?);
    let rho = rho.first().copied().unwrap_or(0.0);
    let kernel = if ctx.attrs().int("n_supports", 0)? > 0 {
        vectors(ctx)?.define(&mut e)?
    } else {
        let [n, features] = rows(ctx)?;
        let x = e.input(0)?;
        e.reshape(&x, [n, features])
    };
    require(coefficients.len() == kernel.shape()[1], || {
        format!("{} coefficients do not fit {}", coefficients.len(), kernel.shape()[1])
    })?;
    let scores = weighted(&mut e, &kernel, 1, &coefficients, &[rho]);
    if !ctx.attrs().flag("one_class", false)? {
        Transform::read(ctx)?.define(&mut e, &scores, &out);
        return Ok(());
    }
    e.define("", &out, |b| {
        let x = b.broadcast(&scores, F);
        let [zero, one, minus] = [0.0, 1.0, -1.0].map(|v| b.number(F, v));
        let above = b.op(Op::Gt, &[x, zero]);
        b.op(Op::Select, &[above, one, minus])
    });
    Ok(())
}

/// The classes of a classifier, and how many vectors each has.
fn classes(ctx: &Ctx) -> Result<(Vec<i64>, Vec<usize>)> {
    let labels = labels(ctx, "classlabels_ints")?;
    let per_class = ctx.attrs().get_ints("vectors_per_class")?.unwrap_or(&[]);
    let per_class: Vec<usize> = per_class.iter().map(|&v| v.max(0) as usize).collect();
    require(per_class.len() == labels.len() && labels.len() >= 2, || {
        format!("{} groups of vectors do not fit {} labels", per_class.len(), labels.len())
    })?;
    Ok((labels, per_class))
}

fn infer_classifier(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let (n, (labels, _)) = (rows(ctx)?[0], classes(ctx)?);
    let pairs = labels.len() * (labels.len() - 1) / 2;
    let probable = !floats(ctx, "prob_a")?.is_empty();
    let scores = if probable || pairs == 1 { labels.len() } else { pairs };
    Ok(vec![TensorType::new(DType::I64, [n]), TensorType::new(F, [n, scores])])
}

/// One decision per pair of classes; the class that wins most pairs is chosen.
fn classifier(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let (labels, per_class) = classes(ctx)?;
    let vectors = vectors(ctx)?;
    let (coefficients, rho) = (floats(ctx, "coefficients")?, floats(ctx, "rho")?);
    let total = vectors.count;
    let starts: Vec<usize> = per_class.iter().scan(0, |s, &c| Some(std::mem::replace(s, *s + c))).collect();
    let pairs: Vec<(usize, usize)> =
        (0..labels.len()).flat_map(|i| (i + 1..labels.len()).map(move |j| (i, j))).collect();
    let fits = per_class.iter().sum::<usize>() == total
        && coefficients.len() == (labels.len() - 1) * total
        && rho.len() == pairs.len();
    require(fits, || format!("{} coefficients do not fit {total} vectors", coefficients.len()))?;
    let mut matrix = vec![0f32; pairs.len() * total];
    for (p, &(i, j)) in pairs.iter().enumerate() {
        for (class, row) in [(i, j - 1), (j, i)] {
            let range = starts[class]..starts[class] + per_class[class];
            for v in range {
                matrix[p * total + v] = coefficients[row * total + v];
            }
        }
    }
    let mut e = Emit::new(ctx, low);
    let kernel = vectors.define(&mut e)?;
    let decisions = weighted(&mut e, &kernel, pairs.len(), &matrix, &rho);
    let (a, b) = (floats(ctx, "prob_a")?, floats(ctx, "prob_b")?);
    if let ([first, second], true) = (&labels[..], a.is_empty()) {
        // A positive decision is for the first class, and yet stands in the second column: so it is in
        // ONNX's reference implementation and in ONNX Runtime.
        let transform = Transform::read(ctx)?;
        let pair = match transform {
            Transform::None | Transform::Logistic => Pair::Signed,
            _ => Pair::Probability,
        };
        return choose_of_two(&mut e, &decisions, pair, transform, 0.0, [*second, *first]);
    }
    if let Some(out) = e.output(0) {
        let votes = votes(&mut e, &decisions, &pairs, labels.len());
        choose(&mut e, &votes, &labels, &out);
    }
    if let Some(out) = e.output(1) {
        let scores = match a.is_empty() {
            true => decisions,
            false => couple(&mut e, &decisions, &pairs, labels.len(), [&a, &b])?,
        };
        Transform::read(ctx)?.define(&mut e, &scores, &out);
    }
    Ok(())
}

/// How many pairs each class wins, `[rows, classes]`.
fn votes(e: &mut Emit, decisions: &Val, pairs: &[(usize, usize)], classes: usize) -> Val {
    let side = |class: usize, p: usize| match pairs[p] {
        (i, _) if i == class => 1i64,
        (_, j) if j == class => -1,
        _ => 0,
    };
    let sides: Vec<i64> =
        (0..classes).flat_map(|c| (0..pairs.len()).map(move |p| (c, p))).map(|(c, p)| side(c, p)).collect();
    let sides = e.constant("sides", Tensor::new([classes, pairs.len()], &sides));
    e.map("votes", F, [decisions.shape()[0], classes], |b| {
        let p: Affine = b.reduce("p", pairs.len());
        let (x, side) =
            (b.elem(decisions, &[b.var(0), p.clone()], F), b.elem(&sides, &[b.var(1), p], DType::I64));
        let [zero, one] = [0.0, 1.0].map(|v| b.number(F, v));
        let none = b.number(DType::I64, 0.0);
        let positive = b.op(Op::Gt, &[x, zero]);
        let (first, second) = (b.op(Op::Gt, &[side, none]), b.op(Op::Lt, &[side, none]));
        let for_second = b.op(Op::Not, &[positive]);
        let won = [b.op(Op::And, &[first, positive]), b.op(Op::And, &[second, for_second])];
        let won = b.op(Op::Or, &won);
        let body = b.op(Op::Select, &[won, one, zero]);
        b.fold(Fold::Sum, body)
    })
}
