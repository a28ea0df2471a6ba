//! Definitions: what a kernel computes, with nothing said about how.
//!
//! ```text
//! for each point of the axes:
//!     acc = identity of fold.op
//!     for each point of the reduction axes:  acc = fold.op(acc, body)      (only where there is a fold)
//!     output[store(axes)] = finish(acc, loads...)
//! ```
//! Extents are constants, or affine in sizes known only at run time up to a bound, and indices are affine in the variables, or computed (`Index::Dynamic`:
//! Gather, Resize tables). A load with a `fill` outside the tensor gives the fill: padding is part
//! of the definition, and the schedule decides how to avoid the comparison. Several definitions
//! may write disjoint parts of one value (Concat, ConvTranspose by phases).
//!
//! Meaning: the naive loops above. Every schedule computes the same bits, except
//! that a fold over floats may be reordered or fused where the schedule carries that flag.

mod build;
mod interpret;
mod lowering;
mod parse;
mod stages;
mod text;
mod types;
mod verify;

pub use build::DefBuilder;
pub use interpret::{Env, interpret};
pub use lowering::{
    Carry, LoweredValue, Lowering, Repeat, Routine, Size, Slice, Stage, Strips, View, definitions,
    each_definition,
};
pub use parse::{parse, parse_definition};
pub use stages::{explain_lowering, verify};
pub use types::meaningful;
pub use verify::{explain, verify_definition};

use crate::base::affine::as_size;
use crate::base::{Affine, DType, TensorType};
use crate::scalar::{Fold, Op, Scalar};

/// A value of the graph or a temporary of a definition: an index into [`Lowering::values`].
pub type ValueId = u32;

/// An expression: an index into [`Definition::exprs`].
pub type ExprId = u32;

/// An iteration variable; its number is its index in [`Definition::vars`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Var {
    /// Name in text forms.
    pub name: String,
    /// The variable runs over `0..extent`.
    pub extent: usize,
    /// Affine in sizes known only at run time: the variable runs over `0..size` in place of `extent`,
    /// which is the bound.
    pub size: Option<Affine>,
}

impl Var {
    /// A variable whose extent is known.
    pub fn new(name: impl Into<String>, extent: usize) -> Var {
        Var { name: name.into(), extent, size: None }
    }
}

/// A tensor that a definition reads or writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operand {
    /// Which value.
    pub value: ValueId,
    /// Its type (the whole tensor's).
    pub ty: TensorType,
}

/// An index into one dimension of an operand.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Index {
    /// Affine in the definition's variables.
    Affine(Affine),
    /// An `i64` expression. Out of `0..extent` at run time: the model returns `LMC_ERR_INDEX`
    /// (unless the load has a fill, which then applies).
    Dynamic(ExprId),
}

impl Index {
    /// The form, where it is affine.
    pub fn affine(&self) -> Option<&Affine> {
        match self {
            Index::Affine(form) => Some(form),
            Index::Dynamic(_) => None,
        }
    }
}

/// A node of an expression. Arguments have smaller ids: the list is in order of evaluation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Expr {
    /// A constant.
    Const(Scalar),
    /// The `i64` value of an affine form in the variables.
    Index(Affine),
    /// The folded value; only in `finish`.
    Acc,
    /// An element of an operand: an index into [`Definition::operands`], one index per dimension.
    Load {
        /// Index into `operands`.
        operand: u32,
        /// One index per dimension.
        index: Vec<Index>,
        /// The value where an index lies outside; without it every index is inside.
        fill: Option<Scalar>,
    },
    /// A scalar operation.
    Op(Op, Vec<ExprId>),
    /// Conversion as ONNX `Cast` defines it.
    Cast {
        /// The type converted to.
        to: DType,
        /// For 8-bit floats: saturate instead of overflowing to infinity or NaN.
        saturate: bool,
        /// What is converted.
        arg: ExprId,
    },
    /// The same bits as another type of the same size.
    Bitcast {
        /// The type reinterpreted as.
        to: DType,
        /// What is reinterpreted.
        arg: ExprId,
    },
}

/// The reduction of a definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reduction {
    /// How partial results are joined.
    pub op: Fold,
    /// Element type of the accumulator and of `body`.
    pub dtype: DType,
    /// What is folded at each point.
    pub body: ExprId,
}

/// What one kernel computes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// From the ONNX node's name; made unique.
    pub name: String,
    /// The variables: first the axes, then the reduction axes.
    pub vars: Vec<Var>,
    /// How many of `vars` are axes.
    pub axes: usize,
    /// The tensors read; no value twice.
    pub operands: Vec<Operand>,
    /// The tensor written.
    pub output: Operand,
    /// One affine form in the axes per dimension of the output; injective.
    pub store: Vec<Affine>,
    /// All expressions, arguments first, no two alike.
    pub exprs: Vec<Expr>,
    /// The reduction, if any.
    pub fold: Option<Reduction>,
    /// The value stored.
    pub finish: ExprId,
}

impl Definition {
    /// The points of all variables: how often the fold's expression is computed.
    pub fn volume(&self) -> u64 {
        self.vars.iter().fold(1, |n: u64, v| n.saturating_mul(v.extent as u64))
    }

    /// The smallest and the largest value of a form in the variables, as forms in the sizes at which these end.
    pub fn ends(&self, form: &Affine) -> (Affine, Affine) {
        let place = |last: bool| {
            form.map_vars(|v| match &self.vars[v as usize] {
                var if last == (form.coefficient(v) > 0) => {
                    let end = var.size.clone().unwrap_or_else(|| Affine::constant(var.extent as i64));
                    end.offset(-1)
                }
                _ => Affine::constant(0),
            })
        };
        (place(false), place(true))
    }

    /// The two factors of a sum of products.
    pub fn factors(&self) -> Option<[ExprId; 2]> {
        let fold = self.fold.as_ref().filter(|f| f.op == Fold::Sum)?;
        match &self.exprs[fold.body as usize] {
            Expr::Op(Op::Mul, args) => args[..].try_into().ok(),
            _ => None,
        }
    }

    /// What an expression is before it is converted.
    pub fn behind_casts(&self, mut e: ExprId) -> &Expr {
        while let Expr::Cast { arg, .. } = &self.exprs[e as usize] {
            e = *arg;
        }
        &self.exprs[e as usize]
    }

    /// The expressions that one is computed from, those of indices and itself included. Each is met once: steps down
    /// a tree use every place several times, and a walk along all uses would not end.
    pub fn reached(&self, from: ExprId) -> Vec<ExprId> {
        let mut used = vec![false; self.exprs.len()];
        let mark = |used: &mut Vec<bool>, e: ExprId| {
            if let Some(flag) = used.get_mut(e as usize) {
                *flag = true;
            }
        };
        mark(&mut used, from);
        for e in (0..used.len()).rev() {
            if used[e] {
                types::arguments(&self.exprs[e]).into_iter().for_each(|a| mark(&mut used, a));
            }
        }
        (0..used.len() as ExprId).filter(|&e| used[e as usize]).collect()
    }

    /// Whether a variable of a kind has a part in an expression, indices included.
    pub fn walks(&self, e: ExprId, kind: impl Fn(u32) -> bool) -> bool {
        let walks = |form: &Affine| form.terms.iter().any(|t| as_size(t.0).is_none() && kind(t.0));
        self.reached(e).into_iter().any(|e| match &self.exprs[e as usize] {
            Expr::Index(form) => walks(form),
            Expr::Load { index, .. } => index.iter().any(|i| matches!(i, Index::Affine(form) if walks(form))),
            _ => false,
        })
    }

    /// Whether sizes known only at run time occur.
    pub fn has_sizes(&self) -> bool {
        self.forms().any(Affine::has_size)
    }

    /// The numbers of the sizes that occur, some of them repeatedly.
    pub fn sizes(&self) -> impl Iterator<Item = usize> + '_ {
        self.forms().flat_map(|f| &f.terms).filter_map(|t| Some(as_size(t.0)?.0))
    }

    /// All forms but those of computed indices.
    fn forms(&self) -> impl Iterator<Item = &Affine> {
        fn index(index: &Index) -> Option<&Affine> {
            if let Index::Affine(form) = index { Some(form) } else { None }
        }
        fn of(expr: &Expr) -> Vec<&Affine> {
            match expr {
                Expr::Index(form) => vec![form],
                Expr::Load { index: list, .. } => list.iter().filter_map(index).collect(),
                _ => Vec::new(),
            }
        }
        let extents = self.vars.iter().filter_map(|v| v.size.as_ref());
        extents.chain(&self.store).chain(self.exprs.iter().flat_map(of))
    }

    /// The definition with numbers in place of the sizes.
    pub fn with_sizes(&self, value: impl Fn(usize) -> i64 + Copy) -> Definition {
        let mut fixed = self.clone();
        for var in &mut fixed.vars {
            if let Some(size) = var.size.take() {
                var.extent = size.with_sizes(value).base.clamp(0, var.extent as i64) as usize;
            }
        }
        fixed.store.iter_mut().for_each(|f| *f = f.with_sizes(value));
        for expr in &mut fixed.exprs {
            match expr {
                Expr::Index(form) => *form = form.with_sizes(value),
                Expr::Load { index, .. } => index.iter_mut().for_each(|i| {
                    if let Index::Affine(form) = i {
                        *form = form.with_sizes(value);
                    }
                }),
                _ => {}
            }
        }
        fixed
    }

    /// The element type of each expression.
    pub fn expr_types(&self) -> Vec<DType> {
        let mut types: Vec<DType> = Vec::with_capacity(self.exprs.len());
        for expr in &self.exprs {
            types.push(match expr {
                Expr::Const(s) => s.dtype,
                Expr::Index(_) => DType::I64,
                Expr::Acc => self.fold.as_ref().map_or(self.output.ty.dtype, |f| f.dtype),
                Expr::Load { operand, .. } => self.operands[*operand as usize].ty.dtype,
                Expr::Op(op, args) => {
                    let args: Vec<DType> = args.iter().map(|&a| types[a as usize]).collect();
                    op.result_type(&args).unwrap_or(args[0])
                }
                Expr::Cast { to, .. } | Expr::Bitcast { to, .. } => *to,
            });
        }
        types
    }
}
