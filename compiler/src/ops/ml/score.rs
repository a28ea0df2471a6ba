//! What follows the scores of a classifier or regressor: a transform, and the class chosen.

use crate::base::{Affine, DType, Tensor};
use crate::definition::{DefBuilder, ExprId, Index};
use crate::error::{Error, Result};
use crate::ops::Ctx;
use crate::ops::emit::{Arith, Emit, Val, require};
use crate::scalar::{Fold, Op, Scalar};

const F: DType = DType::F32;

/// A transform of the scores of one row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Transform {
    None,
    Softmax,
    Logistic,
    SoftmaxZero,
    Probit,
}

impl Transform {
    /// The attribute `post_transform`: a name, or (TreeEnsemble) a number.
    pub fn read(ctx: &Ctx) -> Result<Transform> {
        let all = [
            ("NONE", Transform::None),
            ("SOFTMAX", Transform::Softmax),
            ("LOGISTIC", Transform::Logistic),
            ("SOFTMAX_ZERO", Transform::SoftmaxZero),
            ("PROBIT", Transform::Probit),
        ];
        let found = match ctx.attrs().0.get("post_transform") {
            None => Some(Transform::None),
            Some(crate::graph::Attr::Int(i)) => {
                usize::try_from(*i).ok().and_then(|i| all.get(i)).map(|r| r.1)
            }
            Some(crate::graph::Attr::Str(s)) => all.iter().find(|r| r.0 == s).map(|r| r.1),
            Some(_) => None,
        };
        found.ok_or_else(|| Error::model("is not known").at("attribute post_transform"))
    }

    /// Defines the transformed scores `[N, C]` in `out`.
    pub fn define(self, e: &mut Emit, scores: &Val, out: &Val) {
        let one_by_one = |f: fn(&mut DefBuilder, ExprId) -> ExprId| {
            move |b: &mut DefBuilder| {
                let x = b.broadcast(scores, F);
                f(b, x)
            }
        };
        match self {
            Transform::None => e.define("", out, one_by_one(|_, x| x)),
            Transform::Logistic => e.define("", out, one_by_one(|b, x| b.op(Op::Sigmoid, &[x]))),
            Transform::Probit => e.define("", out, one_by_one(probit)),
            Transform::Softmax | Transform::SoftmaxZero => {
                softmax(e, scores, out, self == Transform::SoftmaxZero)
            }
        }
    }
}

/// Softmax over columns; with `zeros`, scores of zero stay so and do not count in the sum.
fn softmax(e: &mut Emit, scores: &Val, out: &Val, zeros: bool) {
    let max = e.reduce("max", scores.shape(), &[1], Fold::Max, |b, i| b.elem(scores, i, F), |_, acc| acc);
    let exp = e.map("exp", F, scores.shape(), |b| {
        let (x, max) = (b.broadcast(scores, F), b.broadcast(&max, F));
        let difference = b.minus(x, max);
        let exp = b.op(Op::Exp, &[difference]);
        if !zeros {
            return exp;
        }
        let (size, small, zero) = (b.op(Op::Abs, &[x]), b.number(F, 1e-7), b.number(F, 0.0));
        let counts = b.op(Op::Gt, &[size, small]);
        b.op(Op::Select, &[counts, exp, zero])
    });
    let sum = e.reduce("sum", scores.shape(), &[1], Fold::Sum, |b, i| b.elem(&exp, i, F), |_, acc| acc);
    e.define("", out, |b| {
        let (exp, sum) = (b.broadcast(&exp, F), b.broadcast(&sum, F));
        let zero = b.number(F, 0.0);
        let none = b.op(Op::Eq, &[sum, zero]);
        let quotient = b.over(exp, sum);
        b.op(Op::Select, &[none, zero, quotient])
    });
}

/// `sqrt(2) * erfinv(2 x - 1)`, with Winitzki's approximation of the inverse error function, as
/// ONNX Runtime computes it.
fn probit(b: &mut DefBuilder, x: ExprId) -> ExprId {
    let x = b.times_number(x, 2.0);
    let x = b.plus_number(x, -1.0);
    let sign = b.op(Op::Sign, &[x]);
    let square = b.times(x, x);
    let one = b.number(F, 1.0);
    let rest = b.minus(one, square);
    let log = b.op(Op::Log, &[rest]);
    let half = b.times_number(log, 0.5);
    let v = b.plus_number(half, 2.0 / (std::f64::consts::PI * 0.147));
    let w = b.times_number(log, 1.0 / 0.147);
    let squared = b.times(v, v);
    let difference = b.minus(squared, w);
    let root = b.op(Op::Sqrt, &[difference]);
    let inner = b.minus(root, v);
    let root = b.op(Op::Sqrt, &[inner]);
    let signed = b.times(sign, root);
    b.times_number(signed, std::f64::consts::SQRT_2)
}

/// The labels of a classifier; where they are strings, the numbers of words (`passes/infer/words.rs`).
pub fn labels(ctx: &Ctx, ints: &str) -> Result<Vec<i64>> {
    match ctx.attrs().get_ints(ints)? {
        Some(labels) if !labels.is_empty() => Ok(labels.to_vec()),
        _ => Err(Error::model("is missing").at(format!("attribute {ints}"))),
    }
}

/// Defines the label of the largest score of each row, the first of equal ones.
pub fn choose(e: &mut Emit, scores: &Val, labels: &[i64], out: &Val) {
    let columns = scores.shape()[1];
    let labels = e.constant("labels", Tensor::new([labels.len()], labels));
    let max = e.reduce("max", scores.shape(), &[1], Fold::Max, |b, i| b.elem(scores, i, F), |_, acc| acc);
    let last = Scalar::from_i64(DType::I64, columns as i64 - 1);
    e.define("label", out, |b| {
        let j = b.reduce("j", columns);
        let n = b.var(0);
        let (x, max) =
            (b.elem(scores, &[n.clone(), j.clone()], F), b.elem(&max, &[n, Affine::constant(0)], F));
        let holds = b.op(Op::Eq, &[x, max]);
        let (here, last) = (b.index(j), b.constant(last));
        let body = b.op(Op::Select, &[holds, here, last]);
        let first = b.fold(Fold::Min, body);
        b.elem_at(&labels, vec![Index::Dynamic(first)], DType::I64)
    });
}

/// How one score stands for two classes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pair {
    /// The score is a probability: the other class has the rest of one.
    Probability,
    /// The other class has the negated score.
    Signed,
}

/// Defines the label of two classes: the second where the score in a column is above `threshold`.
pub fn label_of_two(e: &mut Emit, score: &Val, column: i64, threshold: f64, labels: [i64; 2]) {
    let Some(out) = e.output(0) else { return };
    e.define("label", &out, |b| {
        let at = [b.var(0), Affine::constant(column)];
        let (x, limit) = (b.elem(score, &at, F), b.number(F, threshold));
        let above = b.op(Op::Gt, &[x, limit]);
        let [no, yes] = labels.map(|l| b.constant(Scalar::from_i64(DType::I64, l)));
        b.op(Op::Select, &[above, yes, no])
    });
}

/// Defines label and two scores from one score per row: the second class where it is above
/// `threshold`.
pub fn choose_of_two(
    e: &mut Emit,
    score: &Val,
    pair: Pair,
    transform: Transform,
    threshold: f64,
    labels: [i64; 2],
) -> Result<()> {
    label_of_two(e, score, 0, threshold, labels);
    let Some(out) = e.output(1) else { return Ok(()) };
    // ONNX Runtime transforms the one score and leaves the other column as it was in memory.
    require(transform != Transform::Probit, || {
        "PROBIT of one score that stands for two classes is not defined".into()
    })?;
    for column in 0..2 {
        let store = vec![Affine::var(0), Affine::constant(column)];
        e.define_at("scores", &out, &[out.shape()[0]], store, |b| {
            let at = [b.var(0), Affine::constant(0)];
            let x = b.elem(score, &at, F);
            let second = column == 1;
            if transform == Transform::Logistic {
                let x = if second { x } else { b.op(Op::Neg, &[x]) };
                return b.op(Op::Sigmoid, &[x]);
            }
            match (second, pair) {
                (true, _) => x,
                (false, Pair::Signed) => b.op(Op::Neg, &[x]),
                (false, Pair::Probability) => {
                    let one = b.number(F, 1.0);
                    b.minus(one, x)
                }
            }
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::base::Tensor;
    use crate::graph::Attr;
    use crate::ops::older::fold;

    /// One score for two classes: every transform but PROBIT says what both columns are.
    #[test]
    fn one_score_for_two_classes_takes_no_probit() {
        let x = Tensor::new([1, 1], &[0.25f32]);
        let scores = |transform: &str| {
            let attrs = [
                ("coefficients", Attr::Floats(vec![1.0])),
                ("intercepts", Attr::Floats(vec![0.0])),
                ("classlabels_ints", Attr::Ints(vec![0, 1])),
                ("post_transform", Attr::Str(transform.into())),
            ];
            fold("ai.onnx.ml.LinearClassifier", 1, &attrs, std::slice::from_ref(&x), 2)
        };
        let none = scores("NONE").expect("two columns");
        assert_eq!(none[1].to_vec::<f32>().expect("f32"), [0.75, 0.25]);
        let error = scores("PROBIT").expect_err("one column is not defined").to_string();
        assert!(error.contains("PROBIT"), "{error}");
    }
}
