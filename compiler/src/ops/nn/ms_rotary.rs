//! RotaryEmbedding and MRotaryEmbedding of com.microsoft.

use super::heads::{Heads, Positions, Rotary};
use crate::base::Tensor;
use crate::definition::Lowering;
use crate::error::{Error, Result};
use crate::ops::emit::{Emit, Val, compute_type, require};
use crate::ops::{Ctx, DefineFn, Lower, Operator};

/// The rows.
pub const ROWS: &[Operator] = &[row("RotaryEmbedding", rotary), row("MRotaryEmbedding", multimodal)];

const fn row(name: &'static str, lower: DefineFn) -> Operator {
    let infer = |ctx: &Ctx| Ok(vec![ctx.ty(0)?.clone()]);
    Operator { domain: "com.microsoft", name, versions: &[1], infer, lower: Lower::Define(lower), note: "" }
}

fn rotary(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    define(ctx, low, |_, ids, batch, length| {
        let per_position = ids.rank() == 2 && ids.shape() == [batch, length];
        require(per_position || ids.ty.elems() == 1, || format!("positions {} do not fit", ids.ty))?;
        Ok(if per_position { Positions::Given(ids) } else { Positions::From(ids) })
    })
}

/// Each angle belongs to one of three positions: of time, row or column.
fn multimodal(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    define(ctx, low, |e, ids, batch, length| {
        require(ids.shape() == [3, batch, length], || format!("positions {} do not fit", ids.ty))?;
        let angles = ctx.shape(2)?.last().copied().unwrap_or(0);
        let streams = streams(ctx, angles)?;
        let streams = e.constant("streams", Tensor::new([angles], &streams));
        Ok(Positions::Streams(ids, streams))
    })
}

/// Which position each angle belongs to: sections after each other, or in turn.
fn streams(ctx: &Ctx, angles: usize) -> Result<Vec<i64>> {
    let sections: Vec<usize> = match ctx.attrs().get_ints("mrope_section")? {
        Some(given) => given.iter().map(|&s| usize::try_from(s).unwrap_or(usize::MAX)).collect(),
        None => Vec::new(),
    };
    let sum = sections.iter().try_fold(0usize, |a, &b| a.checked_add(b));
    require(sections.len() == 3 && sum == Some(angles), || {
        format!("mrope_section {sections:?} does not divide {angles} angles")
    })?;
    match ctx.attrs().int("mrope_layout", 0)? {
        0 => Ok((0..3).flat_map(|s| vec![s as i64; sections[s]]).collect()),
        1 => {
            let stream = |i: usize| if i < 3 * sections[i % 3] { (i % 3) as i64 } else { 0 };
            Ok((0..angles).map(stream).collect())
        }
        other => Err(Error::model(format!("mrope_layout {other} is not known"))),
    }
}

fn define(
    ctx: &Ctx,
    low: &mut Lowering,
    positions: impl FnOnce(&mut Emit, Val, usize, usize) -> Result<Positions>,
) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (x, ids, cos, sin, out) = (e.input(0)?, e.input(1)?, e.input(2)?, e.input(3)?, e.result()?);
    let angles = cos.shape().last().copied().unwrap_or(0);
    let attr = |name| ctx.attrs().int(name, 0).map(|v| usize::try_from(v).unwrap_or(0));
    let (heads, size) = (attr("num_heads")?, attr("rotary_embedding_dim")?);
    let hidden = x.shape().last().copied().unwrap_or(0);
    let heads = if heads > 0 { heads } else { hidden / (2 * angles).max(1) };
    let (from, to) = (Heads::of(&x, heads)?, Heads::of(&out, heads)?);
    let size = if size > 0 { size } else { 2 * angles };
    let positions = positions(&mut e, ids, x.shape()[0], from.length)?;
    let interleaved = ctx.attrs().flag("interleaved", false)?;
    let scale = ctx.attrs().float("scale", 1.0)?;
    require(scale == 1.0, || format!("scale {scale} is not supported"))?;
    let rotary = Rotary { cos, sin, positions, interleaved, size };
    rotary.define(&mut e, &from, &to, x.shape()[0], compute_type(x.dtype()))
}

#[cfg(test)]
mod tests {
    use crate::base::Tensor;
    use crate::graph::Attr;
    use crate::ops::older::{floats, fold};

    /// Results of ONNX Runtime: each of three angles at its own position.
    #[test]
    fn three_positions() {
        let x = Tensor::new([1, 1, 1, 6], &[1f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let ids = Tensor::new([3, 1, 1], &[0i64, 1, 2]);
        let cos = Tensor::new([3, 3], &[1f32, 1.0, 1.0, 0.5, 0.5, 0.5, 0.0, 0.0, 0.0]);
        let sin = Tensor::new([3, 3], &[0f32, 0.0, 0.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0]);
        let inputs = [x, ids, cos, sin];
        let sections = |s: &[i64]| ("mrope_section", Attr::Ints(s.to_vec()));
        let op = "com.microsoft.MRotaryEmbedding";
        let y = floats(op, 1, &[sections(&[1, 1, 1])], &inputs);
        assert_eq!(y, [1.0, -4.0, -12.0, 4.0, 4.5, 6.0]);
        let turns = [sections(&[1, 1, 1]), ("mrope_layout", Attr::Int(1)), ("interleaved", Attr::Int(1))];
        assert_eq!(floats(op, 1, &turns, &inputs), [1.0, 2.0, -2.5, 5.0, -12.0, 10.0]);
        assert!(fold(op, 1, &[sections(&[2, 2, 2])], &inputs, 1).is_err());
    }
}
