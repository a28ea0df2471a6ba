//! CropAndResize of com.microsoft: boxes of images, each resized to one size. Corners lie on elements; what
//! lies outside the image is a constant.

use super::sample::{Taps, linear_taps, weighted};
use crate::base::{Affine, DType, TensorType};
use crate::definition::{DefBuilder, Index, Lowering};
use crate::error::{Error, Result};
use crate::ops::emit::{Arith, Emit, Val, compute_type, require};
use crate::ops::{Ctx, Lower, Operator};
use crate::scalar::Op;

/// The row.
pub const ROWS: &[Operator] = &[Operator {
    domain: "com.microsoft",
    name: "CropAndResize",
    versions: &[1],
    infer,
    lower: Lower::Define(lower),
    note: "the size must be constant",
}];

fn infer(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let (x, boxes, images) = (ctx.ty(0)?, ctx.ty(1)?, ctx.ty(2)?);
    let fits = x.rank() == 4 && boxes.rank() == 2 && boxes.shape[1] == 4 && images.shape == boxes.shape[..1];
    require(fits && x.dtype.is_float() && x.elems() > 0, || format!("boxes {boxes} of {x} are not defined"))?;
    let size = ctx.constant_ints(3)?.unwrap_or_default();
    require(size.len() == 2 && size.iter().all(|s| (1..1 << 20).contains(s)), || {
        format!("crop_size is {size:?}, but must be two positive numbers")
    })?;
    Ok(vec![TensorType::new(x.dtype, [boxes.shape[0], x.shape[1], size[0] as usize, size[1] as usize])])
}

/// Where the elements of boxes lie along one dimension of space, `[boxes, output]`.
struct Places {
    /// The element before, within the image.
    start: Val,
    /// The next one's share; the nearest element has all of it.
    fraction: Val,
    /// Whether the place lies in the image.
    inside: Val,
}

fn places(e: &mut Emit, d: usize, size: usize, outputs: usize, nearest: bool) -> Result<Places> {
    let boxes = e.input(1)?;
    let float = compute_type(boxes.dtype());
    let last = size as f64 - 1.0;
    let shape = [boxes.shape()[0], outputs];
    let place = e.map("place", float, shape, |b| {
        let corner =
            |b: &mut DefBuilder, i: usize| b.elem(&boxes, &[b.var(0), Affine::constant(i as i64)], float);
        let (from, to) = (corner(b, d), corner(b, d + 2));
        if outputs == 1 {
            let sum = b.plus(from, to);
            return b.times_number(sum, 0.5 * last);
        }
        let span = b.minus(to, from);
        let span = b.times_number(span, last);
        let steps = b.number(float, outputs as f64 - 1.0);
        let step = b.over(span, steps);
        let i = b.index(b.var(1));
        let i = b.cast(float, i);
        let (start, within) = (b.times_number(from, last), b.times(i, step));
        b.plus(start, within)
    });
    let inside = e.map("inside", DType::Bool, shape, |b| {
        let x = b.broadcast(&place, float);
        let (least, end) = (b.number(float, 0.0), b.number(float, last));
        let (above, below) = (b.op(Op::Ge, &[x, least]), b.op(Op::Le, &[x, end]));
        b.op(Op::And, &[above, below])
    });
    let start = e.map("start", DType::I64, shape, |b| {
        let x = b.broadcast(&place, float);
        let x = b.clamp(x, 0.0, last);
        let x = if nearest { b.plus_number(x, 0.5) } else { x };
        b.op(Op::Floor, &[x])
    });
    let fraction = e.map("fraction", float, shape, |b| {
        let (x, start) = (b.broadcast(&place, float), b.broadcast(&start, float));
        let difference = b.minus(x, start);
        b.clamp(difference, 0.0, 1.0)
    });
    Ok(Places { start, fraction, inside })
}

impl Places {
    fn taps(&self, b: &mut DefBuilder, at: &[Affine; 2], nearest: bool, size: usize, float: DType) -> Taps {
        let start = b.elem(&self.start, at, DType::I64);
        if nearest {
            return vec![(start, None)];
        }
        let fraction = b.elem(&self.fraction, at, float);
        let taps = linear_taps(b, start, fraction);
        taps.into_iter().map(|(i, weight)| (b.clamp(i, 0.0, size as f64 - 1.0), weight)).collect()
    }
}

fn lower(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (x, images, out) = (e.input(0)?, e.input(2)?, e.result()?);
    let nearest = match ctx.attrs().str("mode", "bilinear")?.to_ascii_lowercase().as_str() {
        "bilinear" => false,
        "nearest" => true,
        other => return Err(Error::model(format!("mode '{other}' is not known"))),
    };
    let outside = f64::from(ctx.attrs().float("extrapolation_value", 0.0)?);
    let float = compute_type(x.dtype());
    let sizes = [x.shape()[2], x.shape()[3]];
    let rows = places(&mut e, 0, sizes[0], out.shape()[2], nearest)?;
    let columns = places(&mut e, 1, sizes[1], out.shape()[3], nearest)?;
    e.define("", &out, |b| {
        let at = [[b.var(0), b.var(2)], [b.var(0), b.var(3)]];
        let taps = [
            rows.taps(b, &at[0], nearest, sizes[0], float),
            columns.taps(b, &at[1], nearest, sizes[1], float),
        ];
        let image = b.elem(&images, &[b.var(0)], DType::I64);
        let prefix = [Index::Dynamic(image), Index::Affine(b.var(1))];
        let value = weighted(b, &x, &prefix, &taps, false, float);
        let (row, column) =
            (b.elem(&rows.inside, &at[0], DType::Bool), b.elem(&columns.inside, &at[1], DType::Bool));
        let inside = b.op(Op::And, &[row, column]);
        let outside = b.number(float, outside);
        b.op(Op::Select, &[inside, value, outside])
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::base::Tensor;
    use crate::graph::Attr;
    use crate::ops::older::floats;

    /// Results of ONNX Runtime: a box between elements, one that reaches out of the image, one element.
    #[test]
    fn boxes_of_an_image() {
        let x = Tensor::new([1, 1, 2, 3], &[0f32, 1.0, 2.0, 3.0, 4.0, 5.0]);
        let boxes = Tensor::new([2, 4], &[0f32, 0.25, 1.0, 1.0, -0.5, 0.0, 0.5, 0.75]);
        let crop = |mode: &str, boxes: Tensor, size: i32| {
            let images = Tensor::new([boxes.ty.shape[0]], &vec![0i32; boxes.ty.shape[0]]);
            let attrs = [("mode", Attr::Str(mode.into())), ("extrapolation_value", Attr::Float(9.0))];
            let inputs = [x.clone(), boxes, images, Tensor::new([2], &[size; 2])];
            floats("com.microsoft.CropAndResize", 1, &attrs, &inputs)
        };
        assert_eq!(crop("bilinear", boxes.clone(), 2), [0.5, 2.0, 3.5, 5.0, 9.0, 9.0, 1.5, 3.0]);
        assert_eq!(crop("nearest", boxes, 2), [1.0, 2.0, 4.0, 5.0, 9.0, 9.0, 3.0, 5.0]);
        assert_eq!(crop("bilinear", Tensor::new([1, 4], &[0f32, 0.25, 1.0, 1.0]), 1), [2.75]);
    }
}
