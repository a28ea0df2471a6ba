//! ONNX's first, experimental set of operators, as old tools have written them.

use super::{infer_float, input, ints, number};
use crate::base::{Tensor, TensorType};
use crate::error::{Error, Result};
use crate::graph::{Attrs, ValueId};
use crate::ops::emit::require;
use crate::ops::{Ctx, ExpandFn, InferFn, NodeBuilder, Operator};

const fn row(name: &'static str, infer: InferFn, expand: ExpandFn) -> Operator {
    Operator::expand("", name, &[1], infer, expand)
}

/// The rows.
pub const ROWS: &[Operator] = &[
    row("Affine", infer_float, |c, b| affine(c, b, None)),
    row("Crop", infer_crop, crop),
    super::composed!("", "DynamicSlice", slice, "starts, ends and axes must be constant"),
    row("ImageScaler", infer_image, image_scaler),
    row("ParametricSoftplus", infer_float, |c, b| affine(c, b, Some("Softplus"))),
    row("Scale", infer_float, scale),
    row("ScaledTanh", infer_float, |c, b| affine(c, b, Some("Tanh"))),
];

/// As Slice has become since.
fn slice(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    b.node_in("", "Slice", &ctx.node.inputs, Attrs::default(), 1)
}

/// `alpha x + beta` (Affine), or `alpha f(beta x)`.
fn affine(ctx: &Ctx, b: &mut NodeBuilder, f: Option<&str>) -> Result<Vec<ValueId>> {
    let (x, dtype) = (input(ctx, 0)?, ctx.dtype(0)?);
    let beta = if f.is_some() { 1.0 } else { 0.0 };
    let alpha = number(b, dtype, ctx.attrs().float("alpha", 1.0)?)?;
    let beta = number(b, dtype, ctx.attrs().float("beta", beta)?)?;
    let Some(f) = f else {
        let product = b.binary("Mul", x, alpha)?;
        return Ok(vec![b.binary("Add", product, beta)?]);
    };
    let inner = b.binary("Mul", x, beta)?;
    let value = b.unary(f, inner)?;
    Ok(vec![b.binary("Mul", value, alpha)?])
}

fn scale(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    let factor = number(b, ctx.dtype(0)?, ctx.attrs().float("scale", 1.0)?)?;
    Ok(vec![b.binary("Mul", input(ctx, 0)?, factor)?])
}

fn infer_image(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let x = infer_float(ctx)?;
    let bias = ctx.attrs().get_floats("bias")?.map_or(0, <[f32]>::len);
    require(x[0].rank() == 4 && x[0].shape[1] == bias, || format!("{bias} biases do not fit {}", x[0]))?;
    Ok(x)
}

/// `scale x + bias of the channel`.
fn image_scaler(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    let scaled = scale(ctx, b)?[0];
    let bias = ctx.attrs().get_floats("bias")?.unwrap_or(&[]);
    let bias = b.constant(Tensor::new([bias.len(), 1, 1], bias));
    let bias = b.cast(bias, ctx.dtype(0)?)?;
    Ok(vec![b.binary("Add", scaled, bias)?])
}

/// First and last row and column that Crop leaves, the last not included.
fn window(ctx: &Ctx) -> Result<[[i64; 2]; 2]> {
    let x = ctx.ty(0)?;
    let border = ctx.attrs().get_ints("border")?.unwrap_or(&[]);
    let (4, &[left, top, right, bottom]) = (x.rank(), border) else {
        return Err(Error::model(format!("a border of {border:?} around {x} is not defined")));
    };
    let (height, width) = (x.shape[2] as i64, x.shape[3] as i64);
    let window = match ctx.attrs().get_ints("scale")? {
        Some(&[rows, columns]) => [[top, top + rows], [left, left + columns]],
        _ => [[top, height - bottom], [left, width - right]],
    };
    let inside = |w: [i64; 2], end: i64| 0 <= w[0] && w[0] <= w[1] && w[1] <= end;
    require(inside(window[0], height) && inside(window[1], width), || {
        format!("a border of {border:?} does not fit {x}")
    })?;
    Ok(window)
}

fn infer_crop(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let (x, window) = (ctx.ty(0)?, window(ctx)?);
    let [height, width] = window.map(|w| (w[1] - w[0]) as usize);
    Ok(vec![TensorType::new(x.dtype, [x.shape[0], x.shape[1], height, width])])
}

fn crop(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    let [rows, columns] = window(ctx)?;
    let (starts, ends) = (ints(b, &[rows[0], columns[0]]), ints(b, &[rows[1], columns[1]]));
    let axes = ints(b, &[2, 3]);
    Ok(vec![b.one("Slice", &[input(ctx, 0)?, starts, ends, axes], Attrs::default())?])
}

#[cfg(test)]
mod tests {
    use super::super::super::older::fold;
    use super::super::tests::floats;
    use crate::base::Tensor;
    use crate::graph::Attr;

    #[test]
    fn the_first_set_of_operators() {
        let x = Tensor::new([1, 2, 1, 2], &[1f32, -2.0, 0.5, 4.0]);
        let (alpha, beta) = (("alpha", Attr::Float(2.0)), ("beta", Attr::Float(0.5)));
        let one = std::slice::from_ref(&x);
        assert_eq!(floats("Affine", &[alpha.clone(), beta.clone()], one), [2.5, -3.5, 1.5, 8.5]);
        let tanh = floats("ScaledTanh", &[alpha, beta], one);
        let want = [1f32, -2.0, 0.5, 4.0].map(|v| 2.0 * (0.5 * v).tanh());
        assert!(tanh.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-6), "{tanh:?}");
        let image = [("scale", Attr::Float(2.0)), ("bias", Attr::Floats(vec![1.0, -1.0]))];
        assert_eq!(floats("ImageScaler", &image, one), [3.0, -3.0, 0.0, 7.0]);
        let x = Tensor::new([1, 1, 3, 3], &[0f32, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
        let border = ("border", Attr::Ints(vec![1, 0, 0, 1]));
        assert_eq!(
            floats("Crop", std::slice::from_ref(&border), std::slice::from_ref(&x)),
            [1.0, 2.0, 4.0, 5.0]
        );
        let size = ("scale", Attr::Ints(vec![1, 2]));
        assert_eq!(floats("Crop", &[border.clone(), size], std::slice::from_ref(&x)), [1.0, 2.0]);
        assert!(fold("Crop", 1, &[("border", Attr::Ints(vec![2, 2, 2, 2]))], &[x], 1).is_err());
    }
}
