//! Activation functions that an operator names by an attribute: those of RNN, GRU, LSTM, and of
//! the fused operators.

use crate::definition::{DefBuilder, ExprId};
use crate::error::{Error, Result};
use crate::ops::Ctx;
use crate::ops::activation::{
    elu, hard_sigmoid, hard_swish, leaky_relu, relu, softplus, softsign, thresholded_relu,
};
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
        let (alpha, beta) = (self.alpha, self.beta);
        match self.kind {
            Kind::Relu => relu(b, x),
            Kind::Tanh => b.op(Op::Tanh, &[x]),
            Kind::Sigmoid => b.op(Op::Sigmoid, &[x]),
            Kind::Affine => {
                let x = b.times_number(x, alpha);
                b.plus_number(x, beta)
            }
            Kind::LeakyRelu => leaky_relu(b, x, alpha),
            Kind::ThresholdedRelu => thresholded_relu(b, x, alpha),
            Kind::ScaledTanh => {
                let x = b.times_number(x, beta);
                let tanh = b.op(Op::Tanh, &[x]);
                b.times_number(tanh, alpha)
            }
            Kind::HardSigmoid => hard_sigmoid(b, x, alpha, beta),
            Kind::Elu => elu(b, x, alpha),
            Kind::Softsign => softsign(b, x),
            Kind::Softplus => softplus(b, x),
            Kind::Clip => b.clamp(x, alpha, beta),
            Kind::HardSwish => hard_swish(b, x, alpha, beta),
        }
    }
}
