//! Matrix products of quantized tensors, with integer, quantized or float results.

use super::integer::{Factors, Zero, check_quantized, define_product};
use super::integer_conv::single_zero;
use super::matmul::{Form, Product};
use super::normalize::check_broadcast;
use super::quantize::check_scales;
use super::quantize::{Quantized, dynamically_quantized, requantized};
use crate::base::{Affine, DType, TensorType};
use crate::definition::{DefBuilder, ExprId, Lowering};
use crate::error::{Error, Result};
use crate::ops::emit::{Arith, Emit, Val, require};
use crate::ops::{Ctx, Operator};

/// The rows.
pub const ROWS: &[Operator] = &[
    Operator::define("", "MatMulInteger", &[10], infer_integer, integer),
    Operator::define("", "QLinearMatMul", &[10, 21], infer_qlinear, |c, l| qlinear(c, l, Order::Joined)),
    Operator::define("com.microsoft", "QGemm", &[1], infer_gemm, |c, l| gemm(c, l, Order::Joined)),
    // The same between dequantized factors and a QuantizeLinear, which round in the order of the model's nodes.
    Operator::internal("QuantizedMatMul", infer_qlinear, |c, l| qlinear(c, l, Order::Apart)),
    Operator::internal("QuantizedGemm", infer_gemm, |c, l| gemm(c, l, Order::Apart)),
    Operator::define("com.microsoft", "MatMulIntegerToFloat", &[1], infer_to_float, to_float),
    Operator::define("com.microsoft", "DynamicQuantizeMatMul", &[1], infer_dynamic, dynamic),
];

fn product(ctx: &Ctx, b: usize) -> Result<Product> {
    check_quantized(ctx.ty(0)?)?;
    check_quantized(ctx.ty(b)?)?;
    Product::plain(ctx.shape(0)?, ctx.shape(b)?)
}

fn infer_integer(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let product = product(ctx, 1)?;
    check_zeros(ctx, [0, 1], [2, 3])?;
    Ok(vec![TensorType::new(DType::I32, product.output())])
}

/// An error where the zero points at `zeros` do not fit the factors at `sides`.
fn check_zeros(ctx: &Ctx, sides: [usize; 2], zeros: [usize; 2]) -> Result<()> {
    check_zero(ctx, zeros[0], ctx.shape(sides[0])?, |rows, _| [rows, 1])?;
    check_zero(ctx, zeros[1], ctx.shape(sides[1])?, |_, columns| [1, columns])
}

/// An error where input `i` is a zero point neither for all of a factor of shape `side` nor one per row
/// or column, which is what `kept` leaves of the last two extents.
fn check_zero(ctx: &Ctx, i: usize, side: &[usize], kept: fn(usize, usize) -> [usize; 2]) -> Result<()> {
    let Some(zero) = ctx.optional(i) else { return Ok(()) };
    let shape = zero.ty.shape.as_slice();
    let fits = match (side, shape) {
        _ if zero.ty.elems() == 1 => true,
        ([outer @ .., rows, columns], shape) => {
            let last = kept(*rows, *columns);
            let whole = [outer, last.as_slice()].concat();
            *shape == [last[0] * last[1]] || *shape == last || *shape == whole
        }
        _ => false,
    };
    require(fits, || format!("the zero point {} does not fit the rows or columns of {side:?}", zero.ty))
}

fn integer(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (a, b, out) = (e.input(0)?, e.input(1)?, e.result()?);
    let (a_zero, b_zero) = (Zero::of(&e, 2), Zero::of(&e, 3));
    let factors = Factors { a, a_zero, b, b_zero, b_transposed: false };
    define_product(&mut e, &out, &product(ctx, 1)?, factors, |_, acc| acc)
}

/// A scale under a shape that is broadcast to the product: per row of the first side (`[M]` or
/// `[..., M, 1]`), per column of the second (`[N]` or `[..., 1, N]`).
fn scale_term(e: &mut Emit, scale: &Val, rows: bool) -> Val {
    match (scale.ty.elems(), scale.rank()) {
        (1, _) => e.reshape(scale, []),
        (n, 1) if rows => e.reshape(scale, [n, 1]),
        _ => scale.clone(),
    }
}

/// In which order a sum is scaled: all scales in one factor, as QLinearMatMul is defined, or as the weights are and
/// then to the result, where one factor per column would round what the model does not.
#[derive(Clone, Copy, PartialEq)]
enum Order {
    Joined,
    Apart,
}

/// Terms whose product is the factor of the exact sum.
struct Factor {
    scales: [Val; 2],
    alpha: f64,
}

impl Factor {
    fn new(e: &mut Emit, [a, b]: [&Val; 2], out: &[usize]) -> Result<Factor> {
        let scales = [scale_term(e, a, true), scale_term(e, b, false)];
        scales.iter().try_for_each(|t| check_broadcast(t, out, "a scale"))?;
        Ok(Factor { scales, alpha: 1.0 })
    }

    /// The scaled sum, as f32, in the order of a product of dequantized factors.
    fn apply(&self, b: &mut DefBuilder, acc: ExprId) -> ExprId {
        let f = DType::F32;
        let sum = b.cast(f, acc);
        let terms: Vec<ExprId> = self.scales.iter().map(|t| b.broadcast(t, f)).collect();
        let scaled = terms.iter().fold(sum, |sum, &term| b.times(sum, term));
        b.times_number(scaled, self.alpha)
    }

    /// What takes a sum to units of `over`, the scale of the result.
    fn ratio(&self, e: &mut Emit, over: &Val, order: Order) -> Result<Ratio> {
        let [a, b] = &self.scales;
        let joined = Some(b).filter(|_| order == Order::Joined);
        let mut shape = over.ty.shape.clone();
        for scale in [Some(a), joined].into_iter().flatten() {
            let fits = super::matmul::broadcast(scale.shape(), &shape);
            shape =
                fits.ok_or_else(|| Error::model(format!("scales {} and {} do not fit", scale.ty, over.ty)))?;
        }
        let ratio = e.map("ratio", DType::F32, shape, |d| {
            let (a, over) = (d.broadcast(a, DType::F32), d.broadcast(over, DType::F32));
            let mut scaled = d.times_number(a, self.alpha);
            if let Some(b) = joined {
                let b = d.broadcast(b, DType::F32);
                scaled = d.times(scaled, b);
            }
            d.over(scaled, over)
        });
        Ok(Ratio { column: Some(b.clone()).filter(|_| joined.is_none()), ratio })
    }
}

/// How an exact sum becomes quantized.
struct Ratio {
    /// What a sum is multiplied by first.
    column: Option<Val>,
    ratio: Val,
}

impl Ratio {
    /// The sum in units of the result, around `zero`.
    fn apply(&self, b: &mut DefBuilder, acc: ExprId, zero: Option<ExprId>, to: DType) -> ExprId {
        let mut value = b.cast(DType::F32, acc);
        for scale in self.column.iter().chain([&self.ratio]) {
            let scale = b.broadcast(scale, DType::F32);
            value = b.times(value, scale);
        }
        requantized(b, value, zero, to)
    }
}

fn infer_qlinear(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let to = ctx.dtype(7)?;
    check_zeros(ctx, [0, 3], [2, 5])?;
    check_scales(ctx, &[1, 4, 6])?;
    require(to.is_int(), || format!("{to} is not supported as a quantized type here"))?;
    Ok(vec![TensorType::new(to, product(ctx, 3)?.output())])
}

fn qlinear(ctx: &Ctx, low: &mut Lowering, order: Order) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (a, b, out) = (e.input(0)?, e.input(3)?, e.result()?);
    let (a_scale, b_scale, y_scale) = (e.input(1)?, e.input(4)?, e.input(6)?);
    let factor = Factor::new(&mut e, [&a_scale, &b_scale], out.shape())?;
    let y_scale = scale_term(&mut e, &y_scale, true);
    check_broadcast(&y_scale, out.shape(), "a scale")?;
    let ratio = factor.ratio(&mut e, &y_scale, order)?;
    let y_zero = e.input(7)?;
    let y_zero = scale_term(&mut e, &y_zero, true);
    let (a_zero, b_zero) = (Zero::of(&e, 2), Zero::of(&e, 5));
    let factors = Factors { a, a_zero, b, b_zero, b_transposed: false };
    define_product(&mut e, &out, &product(ctx, 3)?, factors, |d, acc| {
        let zero = d.broadcast(&y_zero, DType::F32);
        ratio.apply(d, acc, Some(zero), out.dtype())
    })
}

fn gemm_product(ctx: &Ctx) -> Result<Product> {
    let (a, b) = (ctx.ty(0)?, ctx.ty(3)?);
    check_quantized(a)?;
    check_quantized(b)?;
    require(a.rank() == 2 && b.rank() == 2, || format!("it takes matrices, not {a} and {b}"))?;
    let flag = |name| ctx.attrs().flag(name, false);
    require(!flag("transA")?, || "transA is not supported".into())?;
    Product::new((&a.shape, Form::default()), (&b.shape, Form::transposed(flag("transB")?)))
}

fn infer_gemm(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let to = match (ctx.has(7), ctx.optional(8)) {
        (false, _) => DType::F32,
        (true, Some(zero)) => zero.ty.dtype,
        (true, None) => DType::U8,
    };
    let shape = gemm_product(ctx)?.output();
    check_scales(ctx, &[1, 4, 7])?;
    check_zero(ctx, 2, &shape, |rows, _| [rows, 1])?;
    check_zero(ctx, 5, &shape, |_, columns| [1, columns])?;
    Ok(vec![TensorType::new(to, shape)])
}

/// The bias, in units of the product, is added to the exact sum.
fn gemm(ctx: &Ctx, low: &mut Lowering, order: Order) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (a, b, c, out) = (e.input(0)?, e.input(3)?, e.optional(6), e.result()?);
    let (a_scale, b_scale, y_scale) = (e.input(1)?, e.input(4)?, e.optional(7));
    let mut factor = Factor::new(&mut e, [&a_scale, &b_scale], out.shape())?;
    factor.alpha = f64::from(ctx.attrs().float("alpha", 1.0)?);
    let ratio = match y_scale {
        None => None,
        Some(over) => {
            let over = scale_term(&mut e, &over, true);
            check_broadcast(&over, out.shape(), "a scale")?;
            Some(factor.ratio(&mut e, &over, order)?)
        }
    };
    let y_zero = single_zero(&e, 8)?;
    let (a_zero, b_zero) = (Zero::of(&e, 2), Zero::of(&e, 5));
    let factors = Factors { a, a_zero, b, b_zero, b_transposed: ctx.attrs().flag("transB", false)? };
    if let Some(c) = &c {
        let fits = super::matmul::broadcast(c.shape(), out.shape()).is_some_and(|s| s == out.shape());
        require(fits && c.dtype() == DType::I32, || format!("input C of type {} does not fit", c.ty))?;
    }
    define_product(&mut e, &out, &gemm_product(ctx)?, factors, |d, mut acc| {
        if let Some(c) = &c {
            let c = d.broadcast(c, DType::I32);
            acc = d.plus(acc, c);
        }
        let Some(ratio) = &ratio else { return factor.apply(d, acc) };
        let zero = y_zero.map(|z| d.elem(&z, &vec![Affine::constant(0); z.rank()], DType::F32));
        ratio.apply(d, acc, zero, out.dtype())
    })
}

fn infer_to_float(ctx: &Ctx) -> Result<Vec<TensorType>> {
    check_zeros(ctx, [0, 1], [4, 5])?;
    Ok(vec![TensorType::new(ctx.dtype(2)?, product(ctx, 1)?.output())])
}

fn with_bias(bias: Option<&Val>, out: &Val) -> Result<()> {
    bias.map_or(Ok(()), |b| check_broadcast(b, out.shape(), "a bias"))
}

fn biased(d: &mut DefBuilder, value: ExprId, bias: Option<&Val>) -> ExprId {
    let Some(bias) = bias else { return value };
    let bias = d.broadcast(bias, DType::F32);
    d.plus(value, bias)
}

fn to_float(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (a, b, bias, out) = (e.input(0)?, e.input(1)?, e.optional(6), e.result()?);
    let (a_scale, b_scale) = (e.input(2)?, e.input(3)?);
    let factor = Factor::new(&mut e, [&a_scale, &b_scale], out.shape())?;
    with_bias(bias.as_ref(), &out)?;
    let (a_zero, b_zero) = (Zero::of(&e, 4), Zero::of(&e, 5));
    let factors = Factors { a, a_zero, b, b_zero, b_transposed: false };
    define_product(&mut e, &out, &product(ctx, 1)?, factors, |d, acc| {
        let value = factor.apply(d, acc);
        biased(d, value, bias.as_ref())
    })
}

fn infer_dynamic(ctx: &Ctx) -> Result<Vec<TensorType>> {
    require(ctx.dtype(0)? == DType::F32, || "it is defined for f32 only".into())?;
    check_quantized(ctx.ty(1)?)?;
    let product = Product::plain(ctx.shape(0)?, ctx.shape(1)?)?;
    check_zero(ctx, 3, ctx.shape(1)?, |_, columns| [1, columns])?;
    Ok(vec![TensorType::new(DType::F32, product.output())])
}

fn dynamic(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (x, b, b_scale, bias, out) = (e.input(0)?, e.input(1)?, e.input(2)?, e.optional(4), e.result()?);
    let to = Quantized {
        elems: e.temp("quantized", DType::U8, x.shape()),
        scale: e.temp("scale", DType::F32, []),
        zero: e.temp("zero", DType::U8, []),
    };
    let a = dynamically_quantized(&mut e, &x, to);
    let factor = Factor::new(&mut e, [&a.scale, &b_scale], out.shape())?;
    with_bias(bias.as_ref(), &out)?;
    let product = Product::plain(x.shape(), b.shape())?;
    let b_zero = Zero::of(&e, 3);
    let factors = Factors { a: a.elems, a_zero: Zero::Value(a.zero), b, b_zero, b_transposed: false };
    define_product(&mut e, &out, &product, factors, |d, acc| {
        let value = factor.apply(d, acc);
        biased(d, value, bias.as_ref())
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::run;
    use crate::base::Tensor;

    /// Where `a_scale * b_scale / y_scale` rounds matters for sums half way between two results.
    #[test]
    fn scales_are_joined_where_onnx_joins_them_and_apart_between_dequantized_factors() {
        let (a_scale, b_scale, y_scale) = (0.05f32, 0.07f32, 0.01f32);
        let rows: Vec<u8> = (0..=255).collect();
        let columns: Vec<i8> = (-127..=127).collect();
        let inputs = [
            Some(Tensor::new([256, 1], &rows)),
            Some(Tensor::scalar(a_scale)),
            Some(Tensor::scalar(0u8)),
            Some(Tensor::new([1, 255], &columns)),
            Some(Tensor::scalar(b_scale)),
            Some(Tensor::scalar(0i8)),
            Some(Tensor::scalar(y_scale)),
            Some(Tensor::scalar(0i8)),
        ];
        let products =
            || rows.iter().flat_map(|&r| columns.iter().map(move |&c| f32::from(r) * f32::from(c)));
        let nearest = |x: f32| x.round_ties_even().clamp(-128.0, 127.0) as i8;
        let joined: Vec<i8> = products().map(|s| nearest(s * (a_scale * b_scale / y_scale))).collect();
        let apart: Vec<i8> = products().map(|s| nearest(s * b_scale * (a_scale / y_scale))).collect();
        assert_ne!(joined, apart);
        for (domain, name, wanted) in [("", "QLinearMatMul", joined), ("lmc", "QuantizedMatMul", apart)] {
            let got = run(domain, name, &[], &inputs, 1);
            assert_eq!(got[0].to_vec::<i8>(), Some(wanted), "{name}");
        }
    }
}
