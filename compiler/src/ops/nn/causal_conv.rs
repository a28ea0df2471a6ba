//! CausalConvWithState: a depthwise convolution over time that carries its last inputs.

use super::conv::{self, Shape};
use super::window::Slide;
use crate::base::{Affine, TensorType};
use crate::definition::Lowering;
use crate::error::{Error, Result};
use crate::ops::emit::{Arith, Emit, require};
use crate::ops::{Ctx, Lower, Operator};
use crate::scalar::Op;

/// The rows.
pub const ROWS: &[Operator] =
    &[row("", &[27], ""), row("com.microsoft", &[1], "one dimension, channels first")];

const fn row(domain: &'static str, versions: &'static [i64], note: &'static str) -> Operator {
    Operator { domain, name: "CausalConvWithState", versions, infer, lower: Lower::Define(lower), note }
}

/// Attributes of com.microsoft that must have their defaults.
const FIXED: &[(&str, i64)] = &[
    ("ndim", 1),
    ("dilation", 1),
    ("state_window", 0),
    ("channels_last", 0),
    ("state_length", 0),
    ("input_channels", 0),
    ("input_channel_offset", 0),
    ("state_update_capacity", 0),
];

fn infer(ctx: &Ctx) -> Result<Vec<TensorType>> {
    for (name, value) in FIXED {
        let given = ctx.attrs().int(name, *value)?;
        require(given == *value, || format!("attribute {name} of {given} is not supported"))?;
    }
    let (x, w) = (ctx.ty(0)?, ctx.ty(1)?);
    let fits = x.rank() == 3 && w.rank() == 3 && w.shape[..2] == [x.shape[1], 1] && w.shape[2] > 0;
    require(fits && x.dtype.is_float() && w.dtype == x.dtype, || {
        format!("it is not defined for {x} and {w}")
    })?;
    let state = TensorType::new(x.dtype, [x.shape[0], x.shape[1], w.shape[2] - 1]);
    for (i, shape) in [(2, &x.shape[1..2]), (3, &state.shape[..])] {
        if let Some(v) = ctx.optional(i) {
            require(v.ty.shape == *shape, || {
                format!("input {i} of type {} must have shape {shape:?}", v.ty)
            })?;
        }
    }
    Ok(vec![x.clone(), state])
}

fn lower(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let gated = match ctx.attrs().str("activation", "none")? {
        "none" => false,
        "silu" | "swish" => true,
        other => return Err(Error::model(format!("activation '{other}' is not known"))),
    };
    let mut e = Emit::new(ctx, low);
    let (x, w, bias, past, out) = (e.input(0)?, e.input(1)?, e.optional(2), e.optional(3), e.result()?);
    let [batch, channels, length] = [x.shape()[0], x.shape()[1], x.shape()[2]];
    let kernel = w.shape()[2];
    // The earlier inputs stand before the new ones; zeros where there are none.
    let mut before = kernel - 1;
    let mut source = x.clone();
    if let Some(past) = &past {
        source = e.temp("padded", x.dtype(), [batch, channels, kernel - 1 + length]);
        for (part, first) in [(past, 0), (&x, kernel - 1)] {
            let axes: Vec<Affine> = (0..3).map(Affine::var).collect();
            let store = vec![axes[0].clone(), axes[1].clone(), axes[2].offset(first as i64)];
            e.define_at("padded", &source, part.shape(), store, |b| b.elem(part, &axes, part.dtype()));
        }
        before = 0;
    }
    let input = source.shape()[2];
    let slide = Slide {
        input,
        kernel,
        stride: 1,
        dilation: 1,
        before,
        after: 0,
        most: (before, 0),
        skipped: 0,
        output: length,
    };
    let shape = Shape { groups: channels, batch, inner: 1, outer: 1, slides: vec![slide] };
    conv::weighted(&mut e, &out, &shape, (&source, &w, bias.as_ref()), |b, point| {
        if !gated {
            return point.acc;
        }
        let gate = b.op(Op::Sigmoid, &[point.acc]);
        b.times(point.acc, gate)
    });
    if let Some(state) = e.output(1) {
        e.define("state", &state, |b| {
            let mut at = b.axes();
            at[2] = at[2].offset(input as i64 - (kernel as i64 - 1));
            b.elem_or_zero(&source, &at, x.dtype())
        });
    }
    Ok(())
}
