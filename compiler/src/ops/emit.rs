//! Writes the definitions of one node: one call per tensor computed, names and types kept in one
//! place.

use crate::base::{Affine, DType, Tensor, TensorType};
use crate::definition::{DefBuilder, ExprId, Index, Lowering, Stage, ValueId};
use crate::error::{Error, Result};
use crate::ops::Ctx;
use crate::scalar::{Fold, Op, Scalar};

/// A value of a lowering, with its type.
#[derive(Clone, Debug)]
pub struct Val {
    /// Which value.
    pub id: ValueId,
    /// Its type.
    pub ty: TensorType,
}

impl Val {
    /// The shape.
    pub fn shape(&self) -> &[usize] {
        &self.ty.shape
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.ty.dtype
    }

    /// The number of dimensions.
    pub fn rank(&self) -> usize {
        self.ty.rank()
    }
}

/// The type that arithmetic on an element type is done in: f32 for half floats, i32 for narrow
/// integers, the type itself otherwise.
pub fn compute_type(dtype: DType) -> DType {
    match dtype {
        DType::F16 | DType::BF16 => DType::F32,
        d if d.is_small_float() => DType::F32,
        d if d.is_int() && d.size() < 4 => DType::I32,
        d => d,
    }
}

/// An error about the model where the condition does not hold.
pub fn require(holds: bool, reason: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::model(reason())) }
}

/// The definitions of one node under construction.
pub struct Emit<'c, 'l> {
    /// The node.
    pub ctx: &'c Ctx<'c>,
    /// Where stages are added.
    pub low: &'l mut Lowering,
}

impl<'c, 'l> Emit<'c, 'l> {
    /// For a node.
    pub fn new(ctx: &'c Ctx<'c>, low: &'l mut Lowering) -> Self {
        Emit { ctx, low }
    }

    /// Input `i`; an error where it is missing.
    pub fn input(&self, i: usize) -> Result<Val> {
        self.optional(i).ok_or_else(|| Error::model(format!("input {i} is missing")))
    }

    /// Input `i`, where given.
    pub fn optional(&self, i: usize) -> Option<Val> {
        let id = self.ctx.node.inputs.get(i).copied().flatten()?;
        Some(Val { id, ty: self.ctx.graph.value(id).ty.clone() })
    }

    /// Output `i`, where wanted.
    pub fn output(&self, i: usize) -> Option<Val> {
        let id = self.ctx.node.outputs.get(i).copied().flatten()?;
        Some(Val { id, ty: self.ctx.graph.value(id).ty.clone() })
    }

    /// Output 0; a temporary in its place where it is not wanted.
    pub fn result(&mut self) -> Result<Val> {
        match self.output(0) {
            Some(val) => Ok(val),
            None => {
                let ty = (self.ctx.node.op.infer)(self.ctx)?.swap_remove(0);
                Ok(self.temp("result", ty.dtype, ty.shape))
            }
        }
    }

    fn name(&self, what: &str) -> String {
        match what {
            "" => self.ctx.node.name.clone(),
            _ => format!("{}/{what}", self.ctx.node.name),
        }
    }

    /// A name for a new value that no other value of the lowering has.
    fn unique(&self, what: &str) -> String {
        format!("{}/{what}.{}", self.ctx.node.name, self.low.values.len())
    }

    /// A temporary.
    pub fn temp(&mut self, what: &str, dtype: DType, shape: impl Into<Vec<usize>>) -> Val {
        let ty = TensorType::new(dtype, shape);
        let name = self.unique(what);
        Val { id: self.low.temporary(name, ty.clone()), ty }
    }

    /// A constant.
    pub fn constant(&mut self, what: &str, tensor: Tensor) -> Val {
        let ty = tensor.ty.clone();
        let name = self.unique(what);
        Val { id: self.low.constant(name, tensor), ty }
    }

    /// A constant of floats, rounded to the element type.
    pub fn table(&mut self, what: &str, dtype: DType, shape: &[usize], values: &[f64]) -> Val {
        let tensor = float_tensor(dtype, shape, values);
        self.constant(what, tensor)
    }

    /// The same elements under another shape (of as many elements).
    pub fn reshape(&mut self, from: &Val, shape: impl Into<Vec<usize>>) -> Val {
        let shape = shape.into();
        if shape == from.ty.shape {
            return from.clone();
        }
        let to = self.temp("reshape", from.dtype(), shape);
        self.low.stages.push(Stage::Reshape { from: from.id, to: to.id });
        to
    }

    /// Copies a value to an output of the same number of elements.
    pub fn alias(&mut self, from: &Val, to: &Val) {
        self.low.stages.push(Stage::Reshape { from: from.id, to: to.id });
    }

    /// Defines every element of a value; the expression is converted to its element type.
    pub fn define(&mut self, what: &str, out: &Val, body: impl FnOnce(&mut DefBuilder) -> ExprId) {
        let mut b = DefBuilder::new(out.shape());
        let e = body(&mut b);
        let e = b.cast(out.dtype(), e);
        let definition = b.finish(&self.name(what), out.id, &out.ty, e);
        self.low.define(definition);
    }

    /// Defines the elements of a value at `store`, which are affine forms in axes of `extents`.
    pub fn define_at(
        &mut self,
        what: &str,
        out: &Val,
        extents: &[usize],
        store: Vec<Affine>,
        body: impl FnOnce(&mut DefBuilder) -> ExprId,
    ) {
        let mut b = DefBuilder::new(extents);
        let e = body(&mut b);
        let e = b.cast(out.dtype(), e);
        let definition = b.finish_at(&self.name(what), out.id, &out.ty, store, e);
        self.low.define(definition);
    }

    /// A temporary and its definition.
    pub fn map(
        &mut self,
        what: &str,
        dtype: DType,
        shape: impl Into<Vec<usize>>,
        body: impl FnOnce(&mut DefBuilder) -> ExprId,
    ) -> Val {
        let out = self.temp(what, dtype, shape);
        self.define(what, &out, body);
        out
    }

    /// Folds a tensor of the given shape over `axes`, which keep extent 1. `body` gets the index of
    /// an element; `finish` gets the folded value, and says the result's element type.
    pub fn reduce(
        &mut self,
        what: &str,
        shape: &[usize],
        axes: &[usize],
        fold: Fold,
        body: impl FnOnce(&mut DefBuilder, &[Affine]) -> ExprId,
        finish: impl FnOnce(&mut DefBuilder, ExprId) -> ExprId,
    ) -> Val {
        let kept: Vec<usize> =
            shape.iter().enumerate().map(|(i, &d)| if axes.contains(&i) { 1 } else { d }).collect();
        let mut b = DefBuilder::new(&kept);
        let index = reduced_index(&mut b, shape, axes);
        let e = body(&mut b, &index);
        let acc = b.fold(fold, e);
        let e = finish(&mut b, acc);
        let out = self.temp(what, b.dtype(e), kept);
        self.low.define(b.finish(&self.name(what), out.id, &out.ty, e));
        out
    }
}

/// The index of an element of a tensor of which `axes` are folded and the rest are the axes of
/// the definition.
pub fn reduced_index(b: &mut DefBuilder, shape: &[usize], axes: &[usize]) -> Vec<Affine> {
    (0..shape.len())
        .map(|i| if axes.contains(&i) { b.reduce(&format!("r{i}"), shape[i]) } else { b.var(i) })
        .collect()
}

/// A tensor of floats, rounded to the element type.
pub fn float_tensor(dtype: DType, shape: &[usize], values: &[f64]) -> Tensor {
    let mut data = Vec::with_capacity(values.len() * dtype.size());
    for &v in values {
        let bits = Scalar::from_f64(dtype, v).bits.to_le_bytes();
        data.extend_from_slice(&bits[..dtype.size()]);
    }
    Tensor { ty: TensorType::new(dtype, shape), data: data.into() }
}

/// The elements of a tensor as `f64`.
pub fn numbers(tensor: &Tensor) -> Result<Vec<f64>> {
    let half = |to: fn(u16) -> f64| {
        tensor.data.chunks_exact(2).map(|b| to(u16::from_le_bytes([b[0], b[1]]))).collect()
    };
    Ok(match tensor.ty.dtype {
        DType::F64 => tensor.to_vec::<f64>().unwrap_or_default(),
        DType::F32 => tensor.to_vec::<f32>().unwrap_or_default().into_iter().map(f64::from).collect(),
        DType::F16 => half(|b| half::f16::from_bits(b).to_f64()),
        DType::BF16 => half(|b| half::bf16::from_bits(b).to_f64()),
        other => {
            let ints = tensor.to_i64s();
            let ints =
                ints.ok_or_else(|| Error::model(format!("numbers of type {other} are not supported here")))?;
            ints.into_iter().map(|v| v as f64).collect()
        }
    })
}

/// Expressions written shortly.
pub trait Arith {
    /// An element of `x`, converted to `to`.
    fn elem(&mut self, x: &Val, index: &[Affine], to: DType) -> ExprId;
    /// The same, or zero where the index lies outside.
    fn elem_or_zero(&mut self, x: &Val, index: &[Affine], to: DType) -> ExprId;
    /// An element at computed indices.
    fn elem_at(&mut self, x: &Val, index: Vec<Index>, to: DType) -> ExprId;
    /// The element of `x` that is broadcast to the axes, converted to `to`.
    fn broadcast(&mut self, x: &Val, to: DType) -> ExprId;
    /// `a + b`.
    fn plus(&mut self, a: ExprId, b: ExprId) -> ExprId;
    /// `a - b`.
    fn minus(&mut self, a: ExprId, b: ExprId) -> ExprId;
    /// `a * b`.
    fn times(&mut self, a: ExprId, b: ExprId) -> ExprId;
    /// `a / b`.
    fn over(&mut self, a: ExprId, b: ExprId) -> ExprId;
    /// `a + v`.
    fn plus_number(&mut self, a: ExprId, v: f64) -> ExprId;
    /// `a * v`.
    fn times_number(&mut self, a: ExprId, v: f64) -> ExprId;
    /// `a` held in `lo..=hi`.
    fn clamp(&mut self, a: ExprId, lo: f64, hi: f64) -> ExprId;
    /// `1 / sqrt(a + epsilon)`.
    fn inverse_root(&mut self, a: ExprId, epsilon: f64) -> ExprId;
}

impl Arith for DefBuilder {
    fn elem(&mut self, x: &Val, index: &[Affine], to: DType) -> ExprId {
        let e = self.load(x.id, &x.ty, index.to_vec());
        self.cast(to, e)
    }

    fn elem_or_zero(&mut self, x: &Val, index: &[Affine], to: DType) -> ExprId {
        let e = self.load_padded(x.id, &x.ty, index.to_vec(), Scalar::from_f64(x.dtype(), 0.0));
        self.cast(to, e)
    }

    fn elem_at(&mut self, x: &Val, index: Vec<Index>, to: DType) -> ExprId {
        let e = self.load_at(x.id, &x.ty, index, None);
        self.cast(to, e)
    }

    fn broadcast(&mut self, x: &Val, to: DType) -> ExprId {
        let e = self.load_broadcast(x.id, &x.ty);
        self.cast(to, e)
    }

    fn plus(&mut self, a: ExprId, b: ExprId) -> ExprId {
        self.op(Op::Add, &[a, b])
    }

    fn minus(&mut self, a: ExprId, b: ExprId) -> ExprId {
        self.op(Op::Sub, &[a, b])
    }

    fn times(&mut self, a: ExprId, b: ExprId) -> ExprId {
        self.op(Op::Mul, &[a, b])
    }

    fn over(&mut self, a: ExprId, b: ExprId) -> ExprId {
        self.op(Op::Div, &[a, b])
    }

    fn plus_number(&mut self, a: ExprId, v: f64) -> ExprId {
        if v == 0.0 {
            return a;
        }
        let n = self.number(self.dtype(a), v);
        self.plus(a, n)
    }

    fn times_number(&mut self, a: ExprId, v: f64) -> ExprId {
        if v == 1.0 {
            return a;
        }
        let n = self.number(self.dtype(a), v);
        self.times(a, n)
    }

    fn clamp(&mut self, a: ExprId, lo: f64, hi: f64) -> ExprId {
        let dtype = self.dtype(a);
        let (lo, hi) = (self.number(dtype, lo), self.number(dtype, hi));
        let a = self.op(Op::Max, &[a, lo]);
        self.op(Op::Min, &[a, hi])
    }

    fn inverse_root(&mut self, a: ExprId, epsilon: f64) -> ExprId {
        let a = self.plus_number(a, epsilon);
        let root = self.op(Op::Sqrt, &[a]);
        let one = self.number(self.dtype(a), 1.0);
        self.over(one, root)
    }
}
