//! Control flow: If, Loop and Scan over typed bodies.
//!
//! The bodies are attributes: graphs whose inputs, captures and outputs have types already. Here
//! only the types of the outputs are derived from them; later stages run the bodies.

use super::{Ctx, Lower, Operator};
use crate::base::TensorType;
use crate::error::{Error, Result};
use crate::graph::Graph;

/// The rows of this family.
pub(super) const ROWS: &[Operator] = &[
    Operator {
        domain: "",
        name: "If",
        versions: &[1, 11, 13, 16, 19, 21, 23, 24, 25],
        infer: infer_if,
        lower: Lower::Control,
        note: "both branches must give the same types",
    },
    Operator {
        domain: "",
        name: "Loop",
        versions: &[1, 11, 13, 16, 19, 21, 23, 24, 25],
        infer: infer_loop,
        lower: Lower::Control,
        note: "carried values must keep their types; scan outputs need a constant trip count",
    },
    Operator {
        domain: "",
        name: "Scan",
        versions: &[8, 9, 11, 16, 19, 21, 23, 24, 25],
        infer: infer_scan,
        lower: Lower::Control,
        note: "states must keep their types",
    },
];

fn body<'a>(ctx: &Ctx<'a>, name: &str) -> Result<&'a Graph> {
    ctx.attrs().get_graph(name)?.ok_or_else(|| Error::model(format!("attribute {name} is missing")))
}

fn output_types(body: &Graph) -> Vec<TensorType> {
    body.outputs.iter().map(|&o| body.value(o).ty.clone()).collect()
}

fn infer_if(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let then = output_types(body(ctx, "then_branch")?);
    let otherwise = output_types(body(ctx, "else_branch")?);
    for (i, (a, b)) in then.iter().zip(&otherwise).enumerate() {
        if a != b {
            return Err(Error::model(format!(
                "the branches give different types for output {i}: {a} and {b}"
            ))
            .advise("Make the condition a constant, or both branches give the same shape; where it is an input of the model, choose one: --input NAME=true"));
        }
    }
    if then.len() != otherwise.len() {
        return Err(Error::model("the branches give different numbers of outputs"));
    }
    Ok(then)
}

/// An error where a carried value changes its type.
fn check_carried(before: &TensorType, after: &TensorType, i: usize) -> Result<()> {
    if before == after {
        return Ok(());
    }
    Err(Error::model(format!("carried value {i} is {before} before an iteration and {after} after it"))
        .advise("Values that grow are supported only where the number of iterations is a small constant"))
}

/// `[trips, ...type of one iteration]`.
fn stacked(trips: usize, one: &TensorType, axis: usize) -> TensorType {
    let mut shape = one.shape.clone();
    shape.insert(axis.min(shape.len()), trips);
    TensorType::new(one.dtype, shape)
}

fn infer_loop(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let carried = ctx.node.inputs.len().saturating_sub(2);
    let outs = output_types(body(ctx, "body")?);
    if outs.len() < carried + 1 {
        return Err(Error::model(format!(
            "the body gives {} outputs for {carried} carried values",
            outs.len()
        )));
    }
    for (i, out) in outs[1..=carried].iter().enumerate() {
        check_carried(ctx.ty(i + 2)?, out, i)?;
    }
    let mut types = outs[1..=carried].to_vec();
    if outs.len() > carried + 1 {
        let trips = ctx.constant_ints(0)?.and_then(|t| t.first().copied());
        let trips = trips.and_then(|t| usize::try_from(t.max(0)).ok());
        let trips = trips.ok_or_else(|| {
            Error::model("scan outputs need a constant trip count")
                .advise("Give the Loop its M as a constant")
        })?;
        types.extend(outs[carried + 1..].iter().map(|o| stacked(trips, o, 0)));
    }
    Ok(types)
}

/// The axes of a list attribute of Scan; zeros where absent.
fn axes(ctx: &Ctx, name: &str, count: usize) -> Result<Vec<i64>> {
    let given = ctx.attrs().get_ints(name)?.map(<[i64]>::to_vec).unwrap_or_else(|| vec![0; count]);
    if given.len() != count {
        return Err(Error::model(format!("attribute {name} has {} entries instead of {count}", given.len())));
    }
    Ok(given)
}

fn infer_scan(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let scans = usize::try_from(ctx.attrs().int("num_scan_inputs", 0)?).unwrap_or(usize::MAX);
    let inputs = ctx.node.inputs.len();
    let states = inputs.checked_sub(scans).filter(|_| scans > 0);
    let states = states.ok_or_else(|| Error::model("attribute num_scan_inputs does not fit the inputs"))?;
    let outs = output_types(body(ctx, "body")?);
    if outs.len() < states {
        return Err(Error::model(format!("the body gives {} outputs for {states} states", outs.len())));
    }
    let axis = axes(ctx, "scan_input_axes", scans)?[0];
    let shape = ctx.shape(states)?;
    let trips = shape[ctx.axis(axis, shape.len())?];
    for (i, out) in outs[..states].iter().enumerate() {
        check_carried(ctx.ty(i)?, out, i)?;
    }
    let out_axes = axes(ctx, "scan_output_axes", outs.len() - states)?;
    let mut types = outs[..states].to_vec();
    for (out, axis) in outs[states..].iter().zip(out_axes) {
        types.push(stacked(trips, out, ctx.axis(axis, out.rank() + 1)?));
    }
    Ok(types)
}
