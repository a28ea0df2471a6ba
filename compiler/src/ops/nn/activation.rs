//! Activation functions that an operator names by an attribute: those of RNN, GRU, LSTM, and of
//! the fused operators.

use crate::definition::{DefBuilder, ExprId};
use crate::error::{Error, Result};
use crate::ops::Ctx;
use crate::ops::emit::Arith;
use crate::scalar::Op;

/// A function of one number, with its parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Activation {
    kind: Kind,
    alpha: f64,
    beta: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Relu,
    Tanh,
    Sigmoid,
    Affine,
    LeakyRelu,
    ThresholdedRelu,
    ScaledTanh,
    HardSigmoid,
    Elu,
    Softsign,
    Softplus,
    Clip,
    HardSwish,
}

/// Lower-case name, function, default alpha and beta.
const ROWS: &[(&str, Kind, f32, f32)] = &[
    ("relu", Kind::Relu, 0.0, 0.0),
    ("tanh", Kind::Tanh, 0.0, 0.0),
    ("sigmoid", Kind::Sigmoid, 0.0, 0.0),
    ("affine", Kind::Affine, 1.0, 0.0),
    ("leakyrelu", Kind::LeakyRelu, 0.01, 0.0),
    ("thresholdedrelu", Kind::ThresholdedRelu, 1.0, 0.0),
    ("scaledtanh", Kind::ScaledTanh, 1.0, 1.0),
    ("hardsigmoid", Kind::HardSigmoid, 0.2, 0.5),
    ("elu", Kind::Elu, 1.0, 0.0),
    ("softsign", Kind::Softsign, 0.0, 0.0),
    ("softplus", Kind::Softplus, 0.0, 0.0),
    ("clip", Kind::Clip, f32::MIN, f32::MAX),
    ("hardswish", Kind::HardSwish, 1.0 / 6.0, 0.5),
];

impl Activation {
    /// Whether a function of RNN, GRU, LSTM takes an alpha, a beta.
    pub fn parameters(name: &str) -> (bool, bool) {
        match name.to_ascii_lowercase().as_str() {
            "affine" | "scaledtanh" | "hardsigmoid" => (true, true),
            "leakyrelu" | "thresholdedrelu" | "elu" => (true, false),
            _ => (false, false),
        }
    }

    /// By name (letter case does not matter); parameters that are not given take the defaults of
    /// the function's own ONNX operator.
    pub fn find(name: &str, alpha: Option<f32>, beta: Option<f32>) -> Result<Activation> {
        let lower = name.to_ascii_lowercase();
        let &(_, kind, a, b) = ROWS.iter().find(|r| r.0 == lower).ok_or_else(|| {
            Error::model(format!("activation '{name}' is not known"))
                .advise("Use one of those that ONNX lists for RNN, GRU and LSTM")
        })?;
        Ok(Activation { kind, alpha: f64::from(alpha.unwrap_or(a)), beta: f64::from(beta.unwrap_or(b)) })
    }

    /// The activation of a fused operator of com.microsoft: `activation`, `activation_params`
    /// (FusedConv) or `activation_alpha` and `activation_beta`.
    pub fn of_fused(ctx: &Ctx) -> Result<Option<Activation>> {
        let Some(name) = ctx.attrs().get_str("activation")? else { return Ok(None) };
        if name.is_empty() {
            return Ok(None);
        }
        let params = ctx.attrs().get_floats("activation_params")?.unwrap_or(&[]);
        let alpha = ctx.attrs().get_float("activation_alpha")?.or(params.first());
        let beta = ctx.attrs().get_float("activation_beta")?.or(params.get(1));
        Activation::find(name, alpha.copied(), beta.copied()).map(Some)
    }

    /// The function of an expression.
    pub fn apply(&self, b: &mut DefBuilder, x: ExprId) -> ExprId {
        let dtype = b.dtype(x);
        let zero = b.number(dtype, 0.0);
        let one = b.number(dtype, 1.0);
        let (alpha, beta) = (self.alpha, self.beta);
        match self.kind {
            Kind::Relu => b.op(Op::Max, &[x, zero]),
            Kind::Tanh => b.op(Op::Tanh, &[x]),
            Kind::Sigmoid => b.op(Op::Sigmoid, &[x]),
            Kind::Affine => {
                let x = b.times_number(x, alpha);
                b.plus_number(x, beta)
            }
            Kind::LeakyRelu => {
                let scaled = b.times_number(x, alpha);
                let negative = b.op(Op::Lt, &[x, zero]);
                b.op(Op::Select, &[negative, scaled, x])
            }
            Kind::ThresholdedRelu => {
                let threshold = b.number(dtype, alpha);
                let above = b.op(Op::Gt, &[x, threshold]);
                b.op(Op::Select, &[above, x, zero])
            }
            Kind::ScaledTanh => {
                let x = b.times_number(x, beta);
                let tanh = b.op(Op::Tanh, &[x]);
                b.times_number(tanh, alpha)
            }
            Kind::HardSigmoid => hard_sigmoid(b, x, alpha, beta),
            Kind::Elu => {
                let exp = b.op(Op::Exp, &[x]);
                let less = b.minus(exp, one);
                let scaled = b.times_number(less, alpha);
                let negative = b.op(Op::Lt, &[x, zero]);
                b.op(Op::Select, &[negative, scaled, x])
            }
            Kind::Softsign => {
                let abs = b.op(Op::Abs, &[x]);
                let sum = b.plus(abs, one);
                b.over(x, sum)
            }
            Kind::Softplus => softplus(b, x),
            Kind::Clip => b.clamp(x, alpha, beta),
            Kind::HardSwish => {
                let gate = hard_sigmoid(b, x, alpha, beta);
                b.times(x, gate)
            }
        }
    }
}

fn hard_sigmoid(b: &mut DefBuilder, x: ExprId, alpha: f64, beta: f64) -> ExprId {
    let x = b.times_number(x, alpha);
    let x = b.plus_number(x, beta);
    b.clamp(x, 0.0, 1.0)
}

/// `max(x, 0) + log(1 + exp(-|x|))`, which does not overflow.
fn softplus(b: &mut DefBuilder, x: ExprId) -> ExprId {
    let zero = b.number(b.dtype(x), 0.0);
    let abs = b.op(Op::Abs, &[x]);
    let negative = b.op(Op::Neg, &[abs]);
    let exp = b.op(Op::Exp, &[negative]);
    let sum = b.plus_number(exp, 1.0);
    let log = b.op(Op::Log, &[sum]);
    let positive = b.op(Op::Max, &[x, zero]);
    b.plus(positive, log)
}
