//! FlexAttention (ai.onnx.preview): attention in parts, between which graphs of the model may change
//! scores and probabilities (`passes/infer/flex.rs`).

use crate::base::{DType, Tensor, TensorType};
use crate::error::{Error, Result};
use crate::graph::{Attr, Attrs, ValueId};
use crate::ops::emit::{float_tensor, require};
use crate::ops::{Ctx, Lower, NodeBuilder, Operator};

/// The rows.
pub const ROWS: &[Operator] = &[Operator {
    domain: "ai.onnx.preview",
    name: "FlexAttention",
    versions: &[1],
    infer: |ctx| Ok(vec![parts(ctx)?.result.clone()]),
    lower: Lower::Expand(expand),
    note: "",
}];

/// The sizes and types of an attention.
pub struct Parts {
    /// Batch, key heads, queries per key head, queries, keys.
    sizes: [usize; 5],
    /// The type that scores are normalized in.
    float: DType,
    /// The square root of the factor of the scores.
    root: f32,
    result: TensorType,
}

fn parts(ctx: &Ctx) -> Result<Parts> {
    Parts::new(ctx.ty(0)?, ctx.ty(1)?, ctx.ty(2)?, ctx.attrs())
}

fn expand(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    let [Some(q), Some(k), Some(v)] = ctx.node.inputs[..] else {
        return Err(Error::model("queries, keys and values must be given"));
    };
    let parts = parts(ctx)?;
    let scores = parts.scores(b, q, k)?;
    let weights = parts.weights(b, scores)?;
    Ok(vec![parts.result(b, weights, v)?])
}

fn reshape(b: &mut NodeBuilder, x: ValueId, shape: &[usize]) -> Result<ValueId> {
    let dims: Vec<i64> = shape.iter().map(|&d| d as i64).collect();
    let shape = b.constant(Tensor::new([dims.len()], &dims));
    b.one("Reshape", &[x, shape], Attrs::default().with("allowzero", Attr::Int(1)))
}

impl Parts {
    /// Of queries, keys and values of four dimensions.
    pub fn new(q: &TensorType, k: &TensorType, v: &TensorType, attrs: &Attrs) -> Result<Parts> {
        let no = || Error::model(format!("attention of {q} to {k} and {v} is not defined"));
        let ([batch, heads, queries, size], [_, kv_heads, keys, _], [.., width]) =
            (&q.shape[..], &k.shape[..], &v.shape[..])
        else {
            return Err(no());
        };
        let fits = k.shape == [*batch, *kv_heads, *keys, *size]
            && v.shape == [*batch, *kv_heads, *keys, *width]
            && q.dtype.is_float()
            && q.dtype == k.dtype
            && k.dtype == v.dtype
            && *kv_heads > 0
            && heads.is_multiple_of(*kv_heads);
        require(fits, || no().to_string())?;
        let float = match attrs.get_int("softmax_precision")? {
            Some(&number) => DType::from_onnx(number)
                .filter(|d| d.is_float())
                .ok_or_else(|| Error::model(format!("softmax_precision {number} is not a type of floats")))?,
            None if q.dtype == DType::F64 => DType::F64,
            None => DType::F32,
        };
        let scale = attrs.float("scale", 1.0 / (*size as f32).sqrt())?;
        Ok(Parts {
            sizes: [*batch, *kv_heads, heads / kv_heads, *queries, *keys],
            float,
            root: scale.sqrt(),
            result: TensorType::new(q.dtype, [*batch, *heads, *queries, *width]),
        })
    }

    /// Adds the scaled products of queries and keys.
    pub fn scores(&self, b: &mut NodeBuilder, q: ValueId, k: ValueId) -> Result<ValueId> {
        let [batch, kv_heads, group, queries, keys] = self.sizes;
        let size = b.ty(q).shape[3];
        let root = b.constant(float_tensor(self.result.dtype, &[], &[f64::from(self.root)]));
        let (q, k) = (b.binary("Mul", q, root)?, b.binary("Mul", k, root)?);
        let k = b.one("Transpose", &[k], Attrs::default().with("perm", Attr::Ints(vec![0, 1, 3, 2])))?;
        let q = reshape(b, q, &[batch, kv_heads, group * queries, size])?;
        let scores = b.binary("MatMul", q, k)?;
        let scores = reshape(b, scores, &[batch, kv_heads * group, queries, keys])?;
        b.cast(scores, self.float)
    }

    /// Adds the probabilities of scores.
    pub fn weights(&self, b: &mut NodeBuilder, scores: ValueId) -> Result<ValueId> {
        b.one("Softmax", &[scores], Attrs::default().with("axis", Attr::Int(3)))
    }

    /// Adds the sums of the values by their probabilities.
    pub fn result(&self, b: &mut NodeBuilder, weights: ValueId, v: ValueId) -> Result<ValueId> {
        let [batch, kv_heads, group, queries, keys] = self.sizes;
        let weights = reshape(b, weights, &[batch, kv_heads, group * queries, keys])?;
        let v = b.cast(v, self.float)?;
        let sums = b.binary("MatMul", weights, v)?;
        let sums = reshape(b, sums, &self.result.shape)?;
        b.cast(sums, self.result.dtype)
    }
}
