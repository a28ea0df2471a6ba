//! Quantizers of QONNX, which tools for few bits write (Brevitas, QKeras, HAWQ): a float rounded to a grid
//! is a float again.
//!
//! Grids of up to 8 bits are those of QuantizeLinear, so that what lies between them is computed in integers.

use super::{axis_attr, composed, input, number, optional};
use crate::base::{DType, Tensor, TensorType};
use crate::error::{Error, Result};
use crate::graph::{Attrs, ValueId};
use crate::ops::emit::{numbers, require};
use crate::ops::{Ctx, NodeBuilder, Operator};

const QONNX: &str = "qonnx.custom_op.general";
/// The name that Brevitas gives to the same operators.
const BREVITAS: &str = "onnx.brevitas";

/// The rows.
pub const ROWS: &[Operator] = &[
    composed!(QONNX, "BipolarQuant", bipolar),
    composed!(QONNX, "Quant", quant, "a constant number of bits; rounding_mode ROUND, CEIL or FLOOR"),
    composed!(BREVITAS, "BipolarQuant", bipolar),
    composed!(BREVITAS, "Quant", quant, "a constant number of bits; rounding_mode ROUND, CEIL or FLOOR"),
];

/// The least and the largest integer.
fn range(ctx: &Ctx) -> Result<(f64, f64)> {
    let [bits] = numbers(ctx.constant(3)?)?[..] else {
        return Err(Error::model("its number of bits is not one number"));
    };
    require((1.0..=32.0).contains(&bits), || format!("{bits} bits are not supported"))?;
    let (signed, narrow) = (ctx.attrs().flag("signed", true)?, ctx.attrs().flag("narrow", false)?);
    let narrow = f64::from(u8::from(narrow));
    Ok(match signed {
        true => (narrow - (bits - 1.0).exp2(), (bits - 1.0).exp2() - 1.0),
        false => (0.0, bits.exp2() - 1.0 - narrow),
    })
}

/// A grid that QuantizeLinear has.
struct Grid {
    dtype: DType,
    /// One, or one for each index of `axis`.
    scales: Vec<f32>,
    zero: u8,
    axis: usize,
}

impl Grid {
    /// The grid of a node; none where its integers or its scales are others.
    fn of(ctx: &Ctx, (low, high): (f64, f64)) -> Option<Grid> {
        let constant = |i: usize| ctx.optional(i)?.constant.as_ref();
        let (scale, zeros) = (constant(1)?, numbers(constant(2)?).ok()?);
        let scales: Vec<f32> = numbers(scale).ok()?.iter().map(|&s| s as f32).collect();
        let (rank, shape) = (ctx.ty(0).ok()?.rank(), &scale.ty.shape);
        let wide: Vec<usize> = (0..shape.len()).filter(|&a| shape[a] != 1).collect();
        let axis = match wide[..] {
            [] => 0,
            [axis] => (axis + rank).checked_sub(shape.len())?,
            _ => return None,
        };
        let dtype = match (-128.0..=127.0).contains(&low) && high <= 127.0 {
            true if low < 0.0 => DType::I8,
            _ if low == 0.0 && high <= 255.0 => DType::U8,
            _ => return None,
        };
        let zero = *zeros.first()?;
        // An even one: halves are rounded to even after it is added here, before that there.
        let whole = zeros.iter().all(|&z| z == zero) && zero % 2.0 == 0.0 && (low..=high).contains(&zero);
        let fits = whole && !scales.is_empty() && scales.iter().all(|s| *s > 0.0 && s.is_finite());
        let f32 = ctx.ty(0).ok()?.dtype == DType::F32;
        (fits && f32).then_some(Grid { dtype, scales, zero: zero as i64 as u8, axis })
    }

    /// A constant of the type of the integers.
    fn integers(&self, b: &mut NodeBuilder, shape: &[usize], value: u8) -> Result<ValueId> {
        let ty = TensorType::new(self.dtype, shape);
        let bytes = vec![value; ty.elems()];
        let tensor = Tensor::from_bytes(ty, bytes).ok_or_else(|| Error::bug("a byte for each integer"))?;
        Ok(b.constant(tensor))
    }

    /// Quantizes to integers from `low` to `high`, and back.
    fn quantized(&self, b: &mut NodeBuilder, x: ValueId, (low, high): (f64, f64)) -> Result<ValueId> {
        let shape: &[usize] = if self.scales.len() == 1 { &[] } else { &[self.scales.len()] };
        let scale = b.constant(Tensor::new(shape, &self.scales));
        let zero = self.integers(b, shape, self.zero)?;
        let axis = axis_attr(self.axis as i64);
        let mut q = b.one("QuantizeLinear", &[x, scale, zero], axis.clone())?;
        let all = if self.dtype == DType::I8 { (-128.0, 127.0) } else { (0.0, 255.0) };
        if (low, high) != all {
            let [low, high] = [low, high].map(|end| end as i64 as u8);
            let ends = [self.integers(b, &[], low)?, self.integers(b, &[], high)?];
            q = b.one("Clip", &[q, ends[0], ends[1]], Attrs::default())?;
        }
        b.one("DequantizeLinear", &[q, scale, zero], axis)
    }
}

fn quant(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    let (x, range) = (input(ctx, 0)?, range(ctx)?);
    let round = match ctx.attrs().str("rounding_mode", "ROUND")?.to_ascii_uppercase().as_str() {
        "ROUND" => "Round",
        "CEIL" => "Ceil",
        "FLOOR" => "Floor",
        other => return Err(Error::model(format!("rounding_mode {other} is not supported"))),
    };
    if let Some(grid) = Grid::of(ctx, range).filter(|_| round == "Round") {
        return Ok(vec![grid.quantized(b, x, range)?]);
    }
    let dtype = ctx.dtype(0)?;
    let (scale, zero) = (input(ctx, 1)?, optional(ctx, 2));
    let mut q = b.binary("Div", x, scale)?;
    if let Some(zero) = zero {
        q = b.binary("Add", q, zero)?;
    }
    let (low, high) = (number(b, dtype, range.0 as f32)?, number(b, dtype, range.1 as f32)?);
    q = b.one("Clip", &[q, low, high], Attrs::default())?;
    q = b.one(round, &[q], Attrs::default())?;
    if let Some(zero) = zero {
        q = b.binary("Sub", q, zero)?;
    }
    Ok(vec![b.binary("Mul", q, scale)?])
}

/// The scale with the sign of the data; zero counts as positive.
fn bipolar(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    let (x, scale, dtype) = (input(ctx, 0)?, input(ctx, 1)?, ctx.dtype(0)?);
    let zero = number(b, dtype, 0.0)?;
    let positive = b.binary("GreaterOrEqual", x, zero)?;
    let ends = [number(b, dtype, 1.0)?, number(b, dtype, -1.0)?];
    let sign = b.one("Where", &[positive, ends[0], ends[1]], Attrs::default())?;
    Ok(vec![b.binary("Mul", sign, scale)?])
}

#[cfg(test)]
mod tests {
    use super::super::tests::floats;
    use crate::base::Tensor;
    use crate::graph::Attr;

    fn quant(x: &[f32], [scale, zero, bits]: [f32; 3], attrs: &[(&str, Attr)]) -> Vec<f32> {
        let inputs =
            [Tensor::new([x.len()], x), Tensor::scalar(scale), Tensor::scalar(zero), Tensor::scalar(bits)];
        floats("qonnx.custom_op.general.Quant", attrs, &inputs)
    }

    /// As the reference of QONNX, `(round(clip(x / scale + zero)) - zero) * scale`, where QuantizeLinear is not:
    /// many bits, odd zero points, other roundings.
    #[test]
    fn grids_of_their_own() {
        let x = [-3.0f32, -0.26, 0.25, 0.3, 0.76, 9.0];
        assert_eq!(quant(&x, [0.5, 0.0, 16.0], &[]), [-3.0, -0.5, 0.0, 0.5, 1.0, 9.0]);
        let unsigned = [("signed", Attr::Int(0))];
        assert_eq!(quant(&x, [0.5, 1.0, 2.0], &unsigned), [-0.5, -0.5, 0.5, 0.5, 1.0, 1.0]);
        let floor = [("rounding_mode", Attr::Str("FLOOR".into())), ("narrow", Attr::Int(1))];
        assert_eq!(quant(&x, [0.5, 0.0, 3.0], &floor), [-1.5, -0.5, 0.0, 0.0, 0.5, 1.5]);
        let signs = [Tensor::new([3], &[-0.1f32, 0.0, 2.0]), Tensor::scalar(0.25f32)];
        assert_eq!(floats("onnx.brevitas.BipolarQuant", &[], &signs), [-0.25, 0.25, 0.25]);
    }
}
