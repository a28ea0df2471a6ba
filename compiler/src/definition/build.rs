//! Builds definitions: variables, loads, expressions, each expression kept once.

use super::{Definition, Expr, ExprId, Index, Operand, Reduction, ValueId, Var};
use crate::base::{Affine, DType, TensorType};
use crate::scalar::{Fold, Op, Scalar};
use std::collections::HashMap;

/// A definition under construction.
pub struct DefBuilder {
    vars: Vec<Var>,
    axes: usize,
    operands: Vec<Operand>,
    exprs: Vec<Expr>,
    types: Vec<DType>,
    known: HashMap<Expr, ExprId>,
    fold: Option<Reduction>,
}

impl DefBuilder {
    /// A builder with one axis per extent, named `i0`, `i1`, ...
    pub fn new(extents: &[usize]) -> Self {
        let vars: Vec<Var> =
            extents.iter().enumerate().map(|(i, &extent)| Var::new(format!("i{i}"), extent)).collect();
        let axes = vars.len();
        DefBuilder::with_vars(vars, axes)
    }

    /// A builder with axes that end at forms in sizes, bounded by a shape.
    pub fn ending(ends: &[Affine], bounds: &[usize]) -> Self {
        let var = |(i, (end, &extent)): (usize, (&Affine, &usize))| {
            let size = Some(end.clone()).filter(|end| !end.is_constant());
            Var { name: format!("i{i}"), extent, size }
        };
        DefBuilder::with_vars(ends.iter().zip(bounds).enumerate().map(var).collect(), ends.len())
    }

    /// A builder with these variables, of which the first `axes` are axes.
    pub fn with_vars(vars: Vec<Var>, axes: usize) -> Self {
        DefBuilder {
            axes,
            vars,
            operands: Vec::new(),
            exprs: Vec::new(),
            types: Vec::new(),
            known: HashMap::new(),
            fold: None,
        }
    }

    /// The affine form of axis or reduction axis `i`.
    pub fn var(&self, i: usize) -> Affine {
        Affine::var(i as u32)
    }

    /// The affine forms of all axes: the index of the element being computed.
    pub fn axes(&self) -> Vec<Affine> {
        (0..self.axes).map(|i| self.var(i)).collect()
    }

    /// Adds a reduction axis.
    pub fn reduce(&mut self, name: &str, extent: usize) -> Affine {
        self.vars.push(Var::new(name, extent));
        self.var(self.vars.len() - 1)
    }

    fn add(&mut self, expr: Expr, dtype: DType) -> ExprId {
        if let Some(&id) = self.known.get(&expr) {
            return id;
        }
        let id = self.exprs.len() as ExprId;
        self.known.insert(expr.clone(), id);
        self.exprs.push(expr);
        self.types.push(dtype);
        id
    }

    /// The element type of an expression.
    pub fn dtype(&self, e: ExprId) -> DType {
        self.types[e as usize]
    }

    /// An expression.
    pub fn expr(&self, e: ExprId) -> &Expr {
        &self.exprs[e as usize]
    }

    /// A constant.
    pub fn constant(&mut self, scalar: Scalar) -> ExprId {
        self.add(Expr::Const(scalar), scalar.dtype)
    }

    /// A constant of an element type, rounded to it.
    pub fn number(&mut self, dtype: DType, value: f64) -> ExprId {
        self.constant(Scalar::from_f64(dtype, value))
    }

    /// The `i64` value of an affine form.
    pub fn index(&mut self, form: Affine) -> ExprId {
        self.add(Expr::Index(form), DType::I64)
    }

    fn operand(&mut self, value: ValueId, ty: &TensorType) -> u32 {
        let known = self.operands.iter().position(|o| o.value == value);
        known.unwrap_or_else(|| {
            self.operands.push(Operand { value, ty: ty.clone() });
            self.operands.len() - 1
        }) as u32
    }

    /// An element at affine indices that lie inside.
    pub fn load(&mut self, value: ValueId, ty: &TensorType, index: Vec<Affine>) -> ExprId {
        self.load_at(value, ty, index.into_iter().map(Index::Affine).collect(), None)
    }

    /// An element at affine indices, or `fill` where they lie outside.
    pub fn load_padded(
        &mut self,
        value: ValueId,
        ty: &TensorType,
        index: Vec<Affine>,
        fill: Scalar,
    ) -> ExprId {
        self.load_at(value, ty, index.into_iter().map(Index::Affine).collect(), Some(fill))
    }

    /// An element at any indices.
    pub fn load_at(
        &mut self,
        value: ValueId,
        ty: &TensorType,
        index: Vec<Index>,
        fill: Option<Scalar>,
    ) -> ExprId {
        let operand = self.operand(value, ty);
        self.add(Expr::Load { operand, index, fill }, ty.dtype)
    }

    /// The element of a tensor that is broadcast (ONNX multidirectional broadcasting) to the axes.
    pub fn load_broadcast(&mut self, value: ValueId, ty: &TensorType) -> ExprId {
        let skip = self.axes - ty.rank();
        let index = ty.shape.iter().enumerate().map(|(i, &d)| match d {
            1 => Affine::constant(0),
            _ => self.var(skip + i),
        });
        let index = index.collect();
        self.load(value, ty, index)
    }

    /// A scalar operation. Its argument types must fit its row.
    pub fn op(&mut self, op: Op, args: &[ExprId]) -> ExprId {
        let types: Vec<DType> = args.iter().map(|&a| self.dtype(a)).collect();
        let dtype = op.result_type(&types).unwrap_or_else(|| panic!("{} of {types:?}", op.name()));
        self.add(Expr::Op(op, args.to_vec()), dtype)
    }

    /// A conversion (saturating, for 8-bit floats); nothing where the type is the same.
    pub fn cast(&mut self, to: DType, arg: ExprId) -> ExprId {
        self.cast_as(to, true, arg)
    }

    /// A conversion that says whether 8-bit floats saturate.
    pub fn cast_as(&mut self, to: DType, saturate: bool, arg: ExprId) -> ExprId {
        if self.dtype(arg) == to {
            return arg;
        }
        self.add(Expr::Cast { to, saturate, arg }, to)
    }

    /// The same bits under another type of the same size.
    pub fn bitcast(&mut self, to: DType, arg: ExprId) -> ExprId {
        self.add(Expr::Bitcast { to, arg }, to)
    }

    /// Folds an expression over the reduction axes; the result is the folded value, for `finish`. Half
    /// floats are folded as `f32` and rounded in the end.
    pub fn fold(&mut self, op: Fold, body: ExprId) -> ExprId {
        let dtype = self.dtype(body);
        let half = matches!(dtype, DType::F16 | DType::BF16);
        let folded = if half { self.cast(DType::F32, body) } else { body };
        self.fold = Some(Reduction { op, dtype: self.dtype(folded), body: folded });
        let acc = self.add(Expr::Acc, self.dtype(folded));
        self.cast(dtype, acc)
    }

    /// The definition that stores `finish` at the axes' point of the whole output.
    pub fn finish(self, name: &str, value: ValueId, ty: &TensorType, finish: ExprId) -> Definition {
        let store = self.axes();
        self.finish_at(name, value, ty, store, finish)
    }

    /// The definition that stores `finish` at the given index of the output.
    pub fn finish_at(
        self,
        name: &str,
        value: ValueId,
        ty: &TensorType,
        store: Vec<Affine>,
        finish: ExprId,
    ) -> Definition {
        Definition {
            name: name.to_string(),
            vars: self.vars,
            axes: self.axes,
            operands: self.operands,
            output: Operand { value, ty: ty.clone() },
            store,
            exprs: self.exprs,
            fold: self.fold,
            finish,
        }
    }
}
