//! Compiles a definition into a list of primitive steps, one column of values each.

use super::super::{Definition, Expr, ExprId, Index};
use crate::base::{Affine, DType, row_major_strides};
use crate::scalar::math::{self, Emit};
use crate::scalar::{Function, Op, Scalar, add_product, function};

/// Index of a column.
pub(super) type Column = usize;

/// What fills a column.
pub(super) enum Step {
    Const(u64),
    /// The value of an affine form.
    Index(Affine),
    /// The folded value.
    Acc,
    Load(Load),
    Unary(fn(u64) -> u64, Column),
    Binary(fn(u64, u64) -> u64, Column, Column),
    /// A sum, and what a product adds to it.
    AddProduct(fn(u64, u64, u64) -> u64, Column, Column, Column),
    /// The four hot operations of `f32`, in loops of their own.
    Single(Op, Column, Column),
    Select(Column, Column, Column),
    Cast(DType, DType, bool, Column),
    Copy(Column),
}

/// One load: the affine part of its address joined into one form, the rest one by one.
pub(super) struct Load {
    pub operand: usize,
    /// Bytes of an element.
    pub size: usize,
    /// The address in elements, of all dimensions that need no check.
    pub address: Affine,
    /// Dimensions whose index must be checked: form or column, extent, stride.
    pub checked: Vec<(Place, i64, i64)>,
    pub fill: Option<u64>,
}

/// An index that must be checked.
pub(super) enum Place {
    Affine(Affine),
    Dynamic(Column),
}

/// A reduction.
pub(super) struct Joined {
    pub body: Column,
    pub join: fn(u64, u64) -> u64,
    /// Bits of the initial value.
    pub identity: u64,
}

/// A definition ready to run.
pub(super) struct Program {
    pub steps: Vec<Step>,
    /// Columns that are constant, filled once.
    pub once: Vec<Column>,
    /// Columns filled once per block of points, before the reduction.
    pub before: Vec<Column>,
    /// Columns filled at each point of the reduction.
    pub body: Vec<Column>,
    /// Columns filled after it.
    pub after: Vec<Column>,
    /// Extents of the axes, then of the reduction axes.
    pub extents: Vec<usize>,
    pub axes: usize,
    pub fold: Option<Joined>,
    pub acc: Option<Column>,
    pub result: Column,
    /// Address of the output in elements.
    pub store: Affine,
    pub store_size: usize,
}

struct Compiler<'d> {
    definition: &'d Definition,
    steps: Vec<Step>,
    types: Vec<DType>,
    /// Whether a column changes along the reduction.
    varies: Vec<bool>,
}

pub(super) fn compile(definition: &Definition) -> Program {
    let mut compiler = Compiler { definition, steps: Vec::new(), types: Vec::new(), varies: Vec::new() };
    let mut columns: Vec<Column> = Vec::with_capacity(definition.exprs.len());
    for expr in &definition.exprs {
        let column = compiler.expr(expr, &columns);
        columns.push(column);
    }
    let result = columns[definition.finish as usize];
    let store = &definition.output.ty;
    let fold = definition.fold.as_ref().map(|r| {
        let body = columns[r.body as usize];
        let Some(Function::Binary(join)) = function(r.op.op(), r.dtype) else {
            panic!("{} of {}", r.op.name(), r.dtype)
        };
        Joined { body, join, identity: r.op.identity(r.dtype).bits }
    });
    let in_body = compiler.reachable(fold.iter().map(|f| f.body));
    let in_finish = compiler.reachable([result].into_iter());
    let is_const = |c: &Column| matches!(compiler.steps[*c], Step::Const(_));
    let varies = |c: &Column| compiler.varies[*c];
    let all = || 0..compiler.steps.len();
    let once = all().filter(is_const).collect();
    let before = all().filter(|c| in_body[*c] && !varies(c) && !is_const(c)).collect();
    let body = all().filter(|c| in_body[*c] && varies(c)).collect();
    let after = all().filter(|c| in_finish[*c] && !is_const(c) && (varies(c) || !in_body[*c])).collect();
    let acc = compiler.steps.iter().position(|s| matches!(s, Step::Acc));
    Program {
        once,
        before,
        body,
        after,
        extents: definition.vars.iter().map(|v| v.extent).collect(),
        axes: definition.axes,
        fold,
        acc,
        result,
        store: flatten(&definition.store, &store.shape),
        store_size: store.dtype.size(),
        steps: compiler.steps,
    }
}

fn flatten(index: &[Affine], shape: &[usize]) -> Affine {
    let strides = row_major_strides(shape);
    index.iter().zip(strides).fold(Affine::constant(0), |sum, (i, s)| sum.plus_scaled(i, s))
}

impl Compiler<'_> {
    fn push(&mut self, step: Step, dtype: DType, varies: bool) -> Column {
        self.steps.push(step);
        self.types.push(dtype);
        self.varies.push(varies);
        self.steps.len() - 1
    }

    fn on_reduction(&self, form: &Affine) -> bool {
        form.terms.iter().any(|t| t.0 as usize >= self.definition.axes)
    }

    fn expr(&mut self, expr: &Expr, columns: &[Column]) -> Column {
        let at = |e: &ExprId| columns[*e as usize];
        match expr {
            Expr::Const(scalar) => self.constant(*scalar),
            Expr::Index(form) => {
                let varies = self.on_reduction(form);
                self.push(Step::Index(form.clone()), DType::I64, varies)
            }
            Expr::Acc => {
                let dtype = self.definition.fold.as_ref().map_or(DType::F32, |r| r.dtype);
                self.push(Step::Acc, dtype, false)
            }
            Expr::Load { operand, index, fill } => self.load(*operand as usize, index, *fill, columns),
            Expr::Op(op, args) => {
                let args: Vec<Column> = args.iter().map(at).collect();
                self.op_of_any(*op, &args)
            }
            Expr::Cast { to, saturate, arg } => self.cast_as(*to, *saturate, at(arg)),
            Expr::Bitcast { to, arg } => self.bitcast(*to, at(arg)),
        }
    }

    fn load(&mut self, operand: usize, index: &[Index], fill: Option<Scalar>, columns: &[Column]) -> Column {
        let ty = &self.definition.operands[operand].ty;
        let strides = row_major_strides(&ty.shape);
        let mut address = Affine::constant(0);
        let (mut checked, mut varies) = (Vec::new(), false);
        for ((index, &extent), &stride) in index.iter().zip(&ty.shape).zip(&strides) {
            match index {
                Index::Affine(form) => {
                    varies |= self.on_reduction(form);
                    let (least, most) = form.range(|v| self.definition.vars[v as usize].extent);
                    if least >= 0 && most < extent as i64 {
                        address = address.plus_scaled(form, stride);
                    } else {
                        checked.push((Place::Affine(form.clone()), extent as i64, stride));
                    }
                }
                Index::Dynamic(e) => {
                    let column = columns[*e as usize];
                    varies |= self.varies[column];
                    checked.push((Place::Dynamic(column), extent as i64, stride));
                }
            }
        }
        let fill = fill.map(|f| f.bits);
        let load = Load { operand, size: ty.dtype.size(), address, checked, fill };
        self.push(Step::Load(load), ty.dtype, varies)
    }

    /// An operation, expanded where it is not primitive, computed in `f32` for half types.
    fn op_of_any(&mut self, op: Op, args: &[Column]) -> Column {
        let dtype = self.types[args[args.len() - 1]];
        if op != Op::Select && dtype.is_float() && !matches!(dtype, DType::F32 | DType::F64) {
            let wide: Vec<Column> = args.iter().map(|&a| self.cast_as(DType::F32, true, a)).collect();
            let result = self.op_of_any(op, &wide);
            let is_bool = self.types[result] == DType::Bool;
            return if is_bool { result } else { self.cast_as(dtype, true, result) };
        }
        if math::is_primitive(op, dtype) { self.op(op, args) } else { math::expand(self, op, dtype, args) }
    }

    fn cast_as(&mut self, to: DType, saturate: bool, arg: Column) -> Column {
        let varies = self.varies[arg];
        self.push(Step::Cast(self.types[arg], to, saturate, arg), to, varies)
    }

    /// The columns that the given ones depend on, themselves included.
    fn reachable(&self, from: impl Iterator<Item = Column>) -> Vec<bool> {
        let mut seen = vec![false; self.steps.len()];
        from.for_each(|c| seen[c] = true);
        for c in (0..self.steps.len()).rev().collect::<Vec<_>>() {
            if seen[c] {
                self.steps[c].args().for_each(|a| seen[a] = true);
            }
        }
        seen
    }
}

impl Step {
    fn args(&self) -> impl Iterator<Item = Column> {
        let none = usize::MAX;
        let fixed = match self {
            Step::Unary(_, a) | Step::Cast(_, _, _, a) | Step::Copy(a) => [*a, none, none],
            Step::Binary(_, a, b) | Step::Single(_, a, b) => [*a, *b, none],
            Step::Select(a, b, c) | Step::AddProduct(_, a, b, c) => [*a, *b, *c],
            _ => [none; 3],
        };
        let places: &[(Place, i64, i64)] = if let Step::Load(load) = self { &load.checked } else { &[] };
        let dynamic = places.iter().filter_map(|(place, _, _)| match place {
            Place::Dynamic(column) => Some(*column),
            Place::Affine(_) => None,
        });
        fixed.into_iter().filter(move |&a| a != none).chain(dynamic)
    }
}

impl Emit for Compiler<'_> {
    type Value = Column;

    fn op(&mut self, op: Op, args: &[Column]) -> Column {
        let dtype = self.types[args[args.len() - 1]];
        let types: Vec<DType> = args.iter().map(|&a| self.types[a]).collect();
        let result = op.result_type(&types).unwrap_or_else(|| panic!("{} of {types:?}", op.name()));
        let varies = args.iter().any(|&a| self.varies[a]);
        let hot = matches!(op, Op::Add | Op::Sub | Op::Mul | Op::Div) && dtype == DType::F32;
        let step = match (op, function(op, dtype)) {
            (Op::Select, _) => Step::Select(args[0], args[1], args[2]),
            _ if hot => Step::Single(op, args[0], args[1]),
            (_, Some(Function::Unary(f))) => Step::Unary(f, args[0]),
            (_, Some(Function::Binary(f))) => Step::Binary(f, args[0], args[1]),
            (_, None) => panic!("{} of {dtype}", op.name()),
        };
        self.push(step, result, varies)
    }

    fn constant(&mut self, constant: Scalar) -> Column {
        let known = self.steps.iter().zip(&self.types).position(|(s, &t)| {
            t == constant.dtype && matches!(s, Step::Const(bits) if *bits == constant.bits)
        });
        known.unwrap_or_else(|| self.push(Step::Const(constant.bits), constant.dtype, false))
    }

    fn cast(&mut self, to: DType, value: Column) -> Column {
        self.cast_as(to, true, value)
    }

    fn bitcast(&mut self, to: DType, value: Column) -> Column {
        let varies = self.varies[value];
        self.push(Step::Copy(value), to, varies)
    }

    fn add_product(&mut self, sum: Column, a: Column, b: Column) -> Column {
        let (dtype, varies) = (self.types[sum], [sum, a, b].iter().any(|&c| self.varies[c]));
        self.push(Step::AddProduct(add_product(dtype), sum, a, b), dtype, varies)
    }
}
