//! Dropout: at inference the input itself and a mask of ones; in training mode elements are left out
//! by numbers drawn from the seed (`ops/random.rs`), and the rest is scaled up.

use crate::base::{DType, Tensor, TensorType};
use crate::error::{Error, Result};
use crate::graph::{Attr, Attrs, ValueId};
use crate::ops::emit::{numbers, require};
use crate::ops::random::drawn;
use crate::ops::{Ctx, Lower, NodeBuilder, Operator};

/// The rows.
pub const ROWS: &[Operator] = &[Operator {
    domain: "",
    name: "Dropout",
    versions: &[1, 6, 7, 10, 12, 13, 22],
    infer,
    lower: Lower::Expand(expand),
    note: "training mode draws its mask at compile time, as RandomUniform",
}];

fn infer(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let x = ctx.ty(0)?;
    for i in (1..3).filter(|&i| ctx.version() >= 12 && ctx.has(i)) {
        let ty = ctx.ty(i)?;
        let fits = ty.elems() == 1 && if i == 1 { ty.dtype.is_float() } else { ty.dtype == DType::Bool };
        require(fits, || format!("input {i} is {ty}"))?;
    }
    let mask = if ctx.version() < 10 { x.dtype } else { DType::Bool };
    Ok(vec![x.clone(), TensorType::new(mask, x.shape.clone())])
}

/// Whether elements are left out: `None` where an input decides at run time.
fn trains(ctx: &Ctx) -> Result<Option<bool>> {
    if ctx.version() < 12 || !ctx.has(2) {
        return Ok(Some(false));
    }
    let Some(training) = &ctx.input(2)?.constant else { return Ok(None) };
    let ratio = match ctx.optional(1).map(|r| &r.constant) {
        Some(Some(ratio)) => numbers(ratio)?.first().copied(),
        _ => None,
    };
    Ok(Some(training.data.iter().any(|&b| b != 0) && ratio != Some(0.0)))
}

fn expand(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    let x = ctx.node.inputs[0].ok_or_else(|| Error::model("input 0 is missing"))?;
    let mask = infer(ctx)?.swap_remove(1);
    let one = b.constant(Tensor::scalar(1.0f32));
    let mode = trains(ctx)?;
    if mode == Some(false) {
        if ctx.node.outputs.get(1).is_none_or(Option::is_none) {
            return Ok(vec![x]);
        }
        let shape: Vec<i64> = mask.shape.iter().map(|&d| d as i64).collect();
        let shape = b.constant(Tensor::new([shape.len()], &shape));
        let ones = b.one("Cast", &[one], to(mask.dtype))?;
        return Ok(vec![x, b.binary("Expand", ones, shape)?]);
    }
    let dtype = ctx.dtype(0)?;
    let ratio = match ctx.node.inputs.get(1).copied().flatten() {
        Some(ratio) => b.one("Cast", &[ratio], to(DType::F32))?,
        None => b.constant(Tensor::scalar(0.5f32)),
    };
    let scalar = b.constant(Tensor::new([0], &[0i64; 0]));
    let ratio = b.binary("Reshape", ratio, scalar)?;
    let numbers = drawn(ctx, &mask.shape, DType::F32)?;
    let numbers = b.constant(numbers);
    let mut kept = b.binary("GreaterOrEqual", numbers, ratio)?;
    let rest = b.binary("Sub", one, ratio)?;
    let scale = b.binary("Div", one, rest)?;
    let (factor, scale) = (b.one("Cast", &[kept], to(dtype))?, b.one("Cast", &[scale], to(dtype))?);
    let product = b.binary("Mul", factor, x)?;
    let mut out = b.binary("Mul", product, scale)?;
    if let (None, Some(training)) = (mode, ctx.node.inputs.get(2).copied().flatten()) {
        let training = b.binary("Reshape", training, scalar)?;
        out = b.one("Where", &[training, out, x], Attrs::default())?;
        let all = b.unary("Not", training)?;
        kept = b.binary("Or", kept, all)?;
    }
    Ok(vec![out, kept])
}

fn to(dtype: DType) -> Attrs {
    Attrs::default().with("to", Attr::Int(dtype as i64))
}
