//! Slice: affine copies with a start and a step.

use super::super::emit::{Emit, require};
use super::super::{Ctx, Operator};
use super::row;
use crate::base::{Affine, TensorType};
use crate::definition::Lowering;
use crate::error::{Error, Result};

/// The rows.
pub const ROWS: &[Operator] = &[row(
    "Slice",
    &[1, 10, 11, 13],
    infer,
    lower,
    "axes and steps must be constant; so must starts and ends where a step is negative",
)];

/// Start, step and number of elements along each dimension.
fn ranges(ctx: &Ctx) -> Result<Vec<(i64, i64, usize)>> {
    let shape = ctx.shape(0)?;
    let attr = |name: &str| Ok::<_, Error>(ctx.attrs().get_ints(name)?.map(<[i64]>::to_vec));
    let [starts, ends, axes, steps] = match ctx.version() {
        1 => [attr("starts")?, attr("ends")?, attr("axes")?, None],
        _ => [ctx.constant_ints(1)?, ctx.constant_ints(2)?, ctx.constant_ints(3)?, ctx.constant_ints(4)?],
    };
    let missing = || Error::model("starts or ends are missing");
    let (starts, ends) = (starts.ok_or_else(missing)?, ends.ok_or_else(missing)?);
    let axes = axes.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = steps.unwrap_or_else(|| vec![1; starts.len()]);
    let fits = ends.len() == starts.len() && axes.len() == starts.len() && steps.len() == starts.len();
    require(fits, || "starts, ends, axes and steps have different lengths".into())?;
    let mut ranges: Vec<_> = shape.iter().map(|&d| (0, 1, d)).collect();
    for (((&start, &end), &axis), &step) in starts.iter().zip(&ends).zip(&axes).zip(&steps) {
        require(step != 0, || "a step is 0".into())?;
        let axis = ctx.axis(axis, shape.len())?;
        ranges[axis] = range(shape[axis] as i64, start, end, step);
    }
    Ok(ranges)
}

/// As Python slices: negative positions count from the end, those past it are held at it.
fn range(extent: i64, start: i64, end: i64, step: i64) -> (i64, i64, usize) {
    let from_end = |v: i64| if v < 0 { v.saturating_add(extent) } else { v };
    let (low, high) = if step > 0 { (0, extent) } else { (-1, extent - 1) };
    let start = from_end(start).clamp(if step > 0 { 0 } else { low.max(-1) }, high);
    let end = from_end(end).clamp(low, high);
    let distance = if step > 0 { end - start } else { start - end };
    let size = step.unsigned_abs() as i64;
    let count = if distance > 0 && size > 0 { (distance - 1) / size + 1 } else { 0 };
    (start, step, count.max(0) as usize)
}

fn infer(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let shape: Vec<usize> = ranges(ctx)?.iter().map(|r| r.2).collect();
    Ok(vec![TensorType::new(ctx.dtype(0)?, shape)])
}

fn lower(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let ranges = ranges(ctx)?;
    let mut e = Emit::new(ctx, low);
    let (x, out) = (e.input(0)?, e.result()?);
    if out.ty.elems() == 0 {
        return Ok(());
    }
    // A step over a single element may be as large as it likes.
    let form = |(i, &(start, step, count)): (usize, &(i64, i64, usize))| match count {
        1 => Affine::constant(start),
        _ => Affine::var(i as u32).scaled(step).offset(start),
    };
    let index = ranges.iter().enumerate().map(form).collect();
    e.define("", &out, |b| b.load(x.id, &x.ty, index));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::range;

    #[test]
    fn ranges_are_those_of_python() {
        assert_eq!(range(10, 2, 100, 3), (2, 3, 3));
        assert_eq!(range(10, -1, -100, -1), (9, -1, 10));
        assert_eq!(range(10, 20, 0, -4), (9, -4, 3));
        assert_eq!(range(10, 5, 5, 1).2, 0);
        assert_eq!(range(10, 0, i64::MAX, i64::MAX).2, 1);
        assert_eq!(range(10, i64::MIN, i64::MIN, i64::MIN).2, 0);
        assert_eq!(range(0, 0, 5, 1).2, 0);
        assert_eq!(range(0, -1, -5, -1).2, 0);
    }
}
