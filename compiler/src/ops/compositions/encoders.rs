//! Encoders of ai.onnx.ml: features side by side, categories as vectors.

use super::{input, ints};
use crate::base::{DType, TensorType};
use crate::error::{Error, Result};
use crate::graph::{Attr, Attrs, ValueId};
use crate::ops::emit::require;
use crate::ops::{Ctx, ExpandFn, InferFn, NodeBuilder, Operator};

const fn row(name: &'static str, infer: InferFn, expand: ExpandFn) -> Operator {
    Operator::expand("ai.onnx.ml", name, &[1], infer, expand)
}

/// The rows.
pub const ROWS: &[Operator] =
    &[row("FeatureVectorizer", infer_features, features), row("OneHotEncoder", infer_one_hot, one_hot)];

/// Rows of all inputs; a vector is one row.
fn rows(ctx: &Ctx) -> Result<usize> {
    let shape = ctx.shape(0)?;
    Ok(if shape.len() > 1 { shape[0] } else { 1 })
}

/// Columns that each input has, and that it has in the result: as onnxruntime, more are zeros, and fewer the first.
fn widths(ctx: &Ctx) -> Result<Vec<[usize; 2]>> {
    let (all, stated) = (rows(ctx)?, ctx.attrs().get_ints("inputdimensions")?);
    let count = ctx.node.inputs.len();
    require(stated.is_none_or(|s| s.len() == count && s.iter().all(|&d| d >= 0)), || {
        format!("inputdimensions {stated:?} do not fit {count} inputs")
    })?;
    let width = |i: usize| -> Result<[usize; 2]> {
        let x = ctx.ty(i)?;
        let (rows, columns) = match x.shape.as_slice() {
            [columns] => (1, *columns),
            shape => (shape.first().copied().unwrap_or(1), shape.iter().skip(1).product()),
        };
        require(rows == all, || format!("input {i} of type {x} does not have {all} rows"))?;
        Ok([columns, stated.map_or(columns, |s| s[i] as usize)])
    };
    (0..count).map(width).collect()
}

fn infer_features(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let columns = widths(ctx)?.iter().map(|[_, stated]| stated).sum();
    Ok(vec![TensorType::new(DType::F32, [rows(ctx)?, columns])])
}

/// All columns side by side, as floats.
fn features(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    let rows = rows(ctx)? as i64;
    let mut parts = Vec::new();
    for (i, [width, stated]) in widths(ctx)?.into_iter().enumerate() {
        let x = b.cast(input(ctx, i)?, DType::F32)?;
        let shape = ints(b, &[rows, width as i64]);
        let x = b.binary("Reshape", x, shape)?;
        // Negative pads cut.
        let pads = ints(b, &[0, 0, 0, stated as i64 - width as i64]);
        parts.push(if stated == width { x } else { b.binary("Pad", x, pads)? });
    }
    Ok(vec![b.one("Concat", &parts, Attrs::default().with("axis", Attr::Int(1)))?])
}

fn categories<'a>(ctx: &Ctx<'a>) -> Result<&'a [i64]> {
    let given = ctx.attrs().get_ints("cats_int64s")?.filter(|c| !c.is_empty());
    given.ok_or_else(|| Error::model("the categories must be integers: strings are not supported"))
}

fn infer_one_hot(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let x = ctx.ty(0)?;
    require(x.dtype.is_int() || x.dtype.is_float(), || format!("it is not defined for {x}"))?;
    let mut shape = x.shape.clone();
    shape.push(categories(ctx)?.len());
    Ok(vec![TensorType::new(DType::F32, shape)])
}

/// One at the category's place; what is no category is all zeros, or an error at run time.
fn one_hot(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    let categories = categories(ctx)?;
    let x = b.cast(input(ctx, 0)?, DType::I64)?;
    let last = ints(b, &[-1]);
    let x = b.binary("Unsqueeze", x, last)?;
    let categories = ints(b, categories);
    let equal = b.binary("Equal", x, categories)?;
    let hot = b.cast(equal, DType::F32)?;
    if ctx.attrs().flag("zeros", true)? {
        return Ok(vec![hot]);
    }
    let known = b.one("ReduceMax", &[hot, last], Attrs::default())?;
    let all = b.one("ReduceMin", &[known], Attrs::default().with("keepdims", Attr::Int(0)))?;
    let all = b.cast(all, DType::Bool)?;
    b.node_in("lmc", "Require", &[Some(all), Some(hot)], Attrs::default(), 1)
}

#[cfg(test)]
mod tests {
    use super::super::super::older::fold;
    use super::super::tests::floats;
    use crate::base::Tensor;
    use crate::graph::Attr;

    #[test]
    fn features_and_categories() {
        let (a, b) = (Tensor::new([2, 1], &[1i64, 2]), Tensor::new([2, 2], &[0.5f32, 1.5, 2.5, 3.5]));
        let widths = ("inputdimensions", Attr::Ints(vec![1, 2]));
        let features = floats("ai.onnx.ml.FeatureVectorizer", &[widths], &[a, b]);
        assert_eq!(features, [1.0, 0.5, 1.5, 2.0, 2.5, 3.5]);
        // What onnxruntime gives for a vector, for more dimensions, and where other widths are stated.
        let numbers = |shape: &[usize]| {
            let values: Vec<f32> = (1..=shape.iter().product::<usize>()).map(|i| i as f32).collect();
            Tensor::new(shape, &values)
        };
        let of = |stated: &[i64], inputs: &[Tensor]| {
            let widths = ("inputdimensions", Attr::Ints(stated.to_vec()));
            floats("ai.onnx.ml.FeatureVectorizer", &[widths], inputs)
        };
        assert_eq!(of(&[3, 1], &[numbers(&[3]), numbers(&[1])]), [1.0, 2.0, 3.0, 1.0]);
        assert_eq!(of(&[4], &[numbers(&[1, 2, 2])]), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(of(&[2], &[numbers(&[2, 3])]), [1.0, 2.0, 4.0, 5.0]);
        let more = of(&[4, 2], &[numbers(&[2, 3]), numbers(&[2, 1])]);
        assert_eq!(more, [1.0, 2.0, 3.0, 0.0, 1.0, 0.0, 4.0, 5.0, 6.0, 0.0, 2.0, 0.0]);
        let categories = ("cats_int64s", Attr::Ints(vec![3, 9]));
        let hot = |values: &[i64], zeros: i64| {
            let attrs = [categories.clone(), ("zeros", Attr::Int(zeros))];
            fold("ai.onnx.ml.OneHotEncoder", 1, &attrs, &[Tensor::new([values.len()], values)], 1)
        };
        let known = hot(&[9, 4, 3], 1).expect("zeros for 4")[0].to_vec::<f32>().expect("floats");
        assert_eq!(known, [0.0, 1.0, 0.0, 0.0, 1.0, 0.0]);
        assert!(hot(&[9, 3], 0).is_ok() && hot(&[9, 4], 0).is_err());
    }
}
