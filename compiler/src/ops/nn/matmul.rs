//! Matrix products of floats and integers: MatMul, Gemm, and their fused forms.

use super::activation::Activation;
use crate::base::{Affine, DType, TensorType};
use crate::definition::{DefBuilder, ExprId, Lowering};
use crate::error::Result;
use crate::ops::emit::{Arith, Emit, Val, compute_type, require};
use crate::ops::{Ctx, Lower, Operator};
use crate::scalar::Fold;

/// The rows.
pub const ROWS: &[Operator] = &[
    Operator {
        domain: "",
        name: "MatMul",
        versions: &[1, 9, 13],
        infer: infer_matmul,
        lower: Lower::Define(matmul),
        note: "",
    },
    Operator {
        domain: "",
        name: "Gemm",
        versions: &[1, 6, 7, 9, 11, 13],
        infer: infer_gemm,
        lower: Lower::Define(gemm),
        note: "",
    },
    Operator {
        domain: "com.microsoft",
        name: "FusedGemm",
        versions: &[1],
        infer: infer_gemm,
        lower: Lower::Define(gemm),
        note: "",
    },
    fused_row("FusedMatMul"),
    fused_row("FusedMatMulActivation"),
    fused_row("TransposeMatMul"),
];

const fn fused_row(name: &'static str) -> Operator {
    let lower = Lower::Define(fused);
    Operator { domain: "com.microsoft", name, versions: &[1], infer: infer_fused, lower, note: "" }
}

/// Which dimension of a tensor is which of a product.
#[derive(Clone, Debug, PartialEq)]
struct Side {
    /// Leading dimensions, broadcast between the sides.
    batch: Vec<usize>,
    /// Dimension of the matrix's own extent (M of the first, N of the second side).
    own: Option<usize>,
    /// Dimension that is summed over.
    inner: usize,
}

/// How the last dimensions of a factor are read as a matrix.
#[derive(Clone, Copy, Default)]
pub struct Form {
    /// The matrix is transposed.
    transposed: bool,
    /// Its rows are the first of all dimensions, as FusedMatMul's `transBatchA` says: `[M, batch..., K]`.
    rows_first: bool,
}

impl Form {
    /// As it is, or transposed.
    pub fn transposed(transposed: bool) -> Form {
        Form { transposed, rows_first: false }
    }
}

/// A product of stacked matrices: `out[batch..., M, N] = sum over K of a * b`.
#[derive(Clone, Debug, PartialEq)]
pub struct Product {
    a: Side,
    b: Side,
    /// Broadcast batch extents.
    batch: Vec<usize>,
    /// Rows, where the first side is not a vector.
    rows: Option<usize>,
    /// Columns, where the second side is not a vector.
    columns: Option<usize>,
    /// Extent summed over.
    pub inner: usize,
}

impl Product {
    /// Of tensors of the given shapes, as numpy's matmul.
    pub fn plain(a: &[usize], b: &[usize]) -> Result<Product> {
        Product::new((a, Form::default()), (b, Form::default()))
    }

    /// Of tensors of the given shapes, each read in its form.
    pub fn new((a, a_form): (&[usize], Form), (b, b_form): (&[usize], Form)) -> Result<Product> {
        let no = || format!("a matrix product of {a:?} and {b:?} is not defined");
        require(!a.is_empty() && !b.is_empty(), no)?;
        let left = side(a.len(), a_form);
        // The second factor is summed over its rows: what the first one is when it is transposed.
        let right = side(b.len(), Form { transposed: !b_form.transposed, ..b_form });
        require(a[left.inner] == b[right.inner], no)?;
        let extents =
            |shape: &[usize], side: &Side| -> Vec<usize> { side.batch.iter().map(|&d| shape[d]).collect() };
        let batch = broadcast(&extents(a, &left), &extents(b, &right));
        let batch = batch.ok_or_else(|| crate::error::Error::model(no()))?;
        Ok(Product {
            rows: left.own.map(|d| a[d]),
            columns: right.own.map(|d| b[d]),
            inner: a[left.inner],
            a: left,
            b: right,
            batch,
        })
    }

    /// Shape of the result.
    pub fn output(&self) -> Vec<usize> {
        self.batch.iter().copied().chain(self.rows).chain(self.columns).collect()
    }

    fn index(
        &self,
        b: &DefBuilder,
        shape: &[usize],
        side: &Side,
        own_axis: usize,
        k: &Affine,
    ) -> Vec<Affine> {
        let mut index = vec![Affine::constant(0); shape.len()];
        let skip = self.batch.len() - side.batch.len();
        for (i, &d) in side.batch.iter().enumerate() {
            if shape[d] != 1 {
                index[d] = b.var(skip + i);
            }
        }
        if let Some(d) = side.own {
            index[d] = b.var(own_axis);
        }
        index[side.inner] = k.clone();
        index
    }

    /// Adds the reduction axis; gives the indices of both sides.
    pub fn indices(&self, b: &mut DefBuilder, a_shape: &[usize], b_shape: &[usize]) -> [Vec<Affine>; 2] {
        let k = b.reduce("k", self.inner);
        let rows = self.batch.len();
        let columns = rows + usize::from(self.rows.is_some());
        [self.index(b, a_shape, &self.a, rows, &k), self.index(b, b_shape, &self.b, columns, &k)]
    }
}

/// The dimensions of a factor that is summed over its columns.
fn side(rank: usize, form: Form) -> Side {
    if rank == 1 {
        return Side { batch: Vec::new(), own: None, inner: 0 };
    }
    let (batch, [rows, columns]) = match form.rows_first {
        true => ((1..rank - 1).collect(), [0, rank - 1]),
        false => ((0..rank - 2).collect(), [rank - 2, rank - 1]),
    };
    let [own, inner] = if form.transposed { [columns, rows] } else { [rows, columns] };
    Side { batch, own: Some(own), inner }
}

/// ONNX multidirectional broadcasting of two shapes; `None` where they do not fit.
pub fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let at = |s: &[usize], i: usize| if i + s.len() < rank { 1 } else { s[i + s.len() - rank] };
    (0..rank)
        .map(|i| match (at(a, i), at(b, i)) {
            (x, y) if x == y => Some(x),
            (1, y) => Some(y),
            (x, 1) => Some(x),
            _ => None,
        })
        .collect()
}

/// Defines a product of two tensors, then `finish`.
pub fn define(
    e: &mut Emit,
    out: &Val,
    product: &Product,
    [x, y]: [&Val; 2],
    float: DType,
    finish: impl FnOnce(&mut DefBuilder, ExprId) -> ExprId,
) {
    e.define("", out, |b| {
        let [at_x, at_y] = product.indices(b, x.shape(), y.shape());
        let (x, y) = (b.elem(x, &at_x, float), b.elem(y, &at_y, float));
        let body = b.times(x, y);
        let acc = b.fold(Fold::Sum, body);
        finish(b, acc)
    });
}

fn same_types(ctx: &Ctx) -> Result<DType> {
    let (a, b) = (ctx.dtype(0)?, ctx.dtype(1)?);
    require(a == b && a != DType::Bool, || format!("a matrix product of {a} and {b} is not defined"))?;
    Ok(a)
}

fn infer_matmul(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let product = Product::plain(ctx.shape(0)?, ctx.shape(1)?)?;
    Ok(vec![TensorType::new(same_types(ctx)?, product.output())])
}

fn matmul(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (x, y, out) = (e.input(0)?, e.input(1)?, e.result()?);
    let product = Product::plain(x.shape(), y.shape())?;
    define(&mut e, &out, &product, [&x, &y], compute_type(x.dtype()), |_, acc| acc);
    Ok(())
}

fn fused_product(ctx: &Ctx) -> Result<Product> {
    let flag = |name| ctx.attrs().flag(name, false);
    let a = Form { transposed: flag("transA")?, rows_first: flag("transBatchA")? };
    let b = Form { transposed: flag("transB")?, rows_first: flag("transBatchB")? };
    Product::new((ctx.shape(0)?, a), (ctx.shape(1)?, b))
}

fn infer_fused(ctx: &Ctx) -> Result<Vec<TensorType>> {
    Ok(vec![TensorType::new(same_types(ctx)?, fused_product(ctx)?.output())])
}

fn fused(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (x, y, out) = (e.input(0)?, e.input(1)?, e.result()?);
    let alpha = f64::from(ctx.attrs().float("alpha", 1.0)?);
    let product = fused_product(ctx)?;
    let activation = Activation::of_fused(ctx)?;
    define(&mut e, &out, &product, [&x, &y], compute_type(x.dtype()), |b, acc| {
        let scaled = b.times_number(acc, alpha);
        activation.map_or(scaled, |a| a.apply(b, scaled))
    });
    Ok(())
}

fn gemm_product(ctx: &Ctx) -> Result<Product> {
    let (a, b) = (ctx.shape(0)?, ctx.shape(1)?);
    require(a.len() == 2 && b.len() == 2, || format!("Gemm takes matrices, not {a:?} and {b:?}"))?;
    let form = |name| Ok(Form::transposed(ctx.attrs().flag(name, false)?));
    Product::new((a, form("transA")?), (b, form("transB")?))
}

fn infer_gemm(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let (dtype, shape) = (same_types(ctx)?, gemm_product(ctx)?.output());
    if let Some(c) = ctx.optional(2) {
        let fits = broadcast(&c.ty.shape, &shape).is_some_and(|s| s == shape);
        require(fits && c.ty.dtype == dtype, || format!("input C of type {} does not fit {shape:?}", c.ty))?;
    }
    Ok(vec![TensorType::new(dtype, shape)])
}

fn gemm(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (x, y, c, out) = (e.input(0)?, e.input(1)?, e.optional(2), e.result()?);
    let float = compute_type(x.dtype());
    let alpha = f64::from(ctx.attrs().float("alpha", 1.0)?);
    let beta = f64::from(ctx.attrs().float("beta", 1.0)?);
    let activation = Activation::of_fused(ctx)?;
    let product = gemm_product(ctx)?;
    define(&mut e, &out, &product, [&x, &y], float, |b, acc| {
        let mut sum = b.times_number(acc, alpha);
        if let Some(c) = c.filter(|_| beta != 0.0) {
            let c = b.broadcast(&c, float);
            let c = b.times_number(c, beta);
            sum = b.plus(sum, c);
        }
        activation.iter().fold(sum, |sum, a| a.apply(b, sum))
    });
    Ok(())
}
