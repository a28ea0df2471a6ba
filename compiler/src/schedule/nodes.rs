//! Expressions over places in memory: layouts of values, and the nodes of [`super::linear`] that loads and other
//! expressions of a definition become with them.

use crate::base::{Affine, DType};
use crate::definition::{Definition, Expr, ExprId, Index};
use crate::scalar::{Op, Scalar};
use crate::tile::TABLE;

/// Where a value's elements are: in elements from the start of its buffer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Layout {
    /// Place of the element whose indices are all 0.
    pub offset: i64,
    /// Elements between neighbours, per dimension.
    pub strides: Vec<i64>,
}

impl Layout {
    /// Dense and row-major.
    pub fn dense(shape: &[usize]) -> Self {
        Layout { offset: 0, strides: crate::base::row_major_strides(shape) }
    }

    /// Dense, with the dimensions in the given order of memory, outermost first.
    pub fn permuted(shape: &[usize], order: &[usize]) -> Self {
        let mut strides = vec![0; shape.len()];
        let mut next = 1;
        for &d in order.iter().rev() {
            strides[d] = next;
            next *= shape[d].max(1) as i64;
        }
        Layout { offset: 0, strides }
    }

    /// The dimensions in order of memory, outermost first.
    pub fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.strides.len()).collect();
        order.sort_by_key(|&d| std::cmp::Reverse(self.strides[d]));
        order
    }

    /// Elements from the buffer's start to past the last element.
    pub fn span(&self, shape: &[usize]) -> usize {
        if shape.contains(&0) {
            return 0;
        }
        let last: i64 = shape.iter().zip(&self.strides).map(|(&d, s)| (d as i64 - 1).max(0) * s).sum();
        (self.offset + last + 1) as usize
    }
}

/// A condition on a padded load: the form lies in `0..extent`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Guard {
    /// An index, affine in the variables.
    pub form: Affine,
    /// The dimension's extent.
    pub extent: usize,
    /// The extent at run time, where only its bound is known.
    pub size: Option<Affine>,
}

/// An index computed at run time: adds `stride * value` to the address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DynamicIndex {
    /// An `i64` expression.
    pub value: ExprId,
    /// Extent of the dimension it indexes.
    pub extent: usize,
    /// The extent at run time, where only its bound is known.
    pub size: Option<Affine>,
    /// Elements between neighbours.
    pub stride: i64,
    /// Whether it is known to lie inside.
    pub inside: bool,
}

/// An expression of a linear definition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Node {
    Const(Scalar),
    Index(Affine),
    Acc,
    Load {
        operand: u32,
        addr: Affine,
        dynamic: Vec<DynamicIndex>,
        guards: Vec<Guard>,
        fill: Option<Scalar>,
    },
    Op(Op, Vec<ExprId>),
    Cast {
        to: DType,
        saturate: bool,
        arg: ExprId,
    },
    Bitcast {
        to: DType,
        arg: ExprId,
    },
    /// The entry of a byte, whatever its sign, in a buffer of 256 bytes.
    Lookup {
        operand: u32,
        arg: ExprId,
    },
}

impl Node {
    /// The expressions it is computed from.
    pub fn args(&self) -> Vec<ExprId> {
        match self {
            Node::Op(_, args) => args.clone(),
            Node::Cast { arg, .. } | Node::Bitcast { arg, .. } | Node::Lookup { arg, .. } => vec![*arg],
            Node::Load { dynamic, .. } => dynamic.iter().map(|d| d.value).collect(),
            _ => Vec::new(),
        }
    }

    pub(super) fn forms_mut(&mut self) -> Vec<&mut Affine> {
        match self {
            Node::Index(form) => vec![form],
            Node::Load { addr, guards, .. } => {
                std::iter::once(addr).chain(guards.iter_mut().map(|g| &mut g.form)).collect()
            }
            _ => Vec::new(),
        }
    }

    pub(super) fn forms(&self) -> Vec<&Affine> {
        match self {
            Node::Index(form) => vec![form],
            Node::Load { addr, guards, .. } => {
                std::iter::once(addr).chain(guards.iter().map(|g| &g.form)).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// The place that indices have in memory of a layout.
pub(super) fn address(layout: &Layout, index: &[Affine]) -> Affine {
    let start = Affine::constant(layout.offset);
    index.iter().zip(&layout.strides).fold(start, |sum, (i, &s)| sum.plus_scaled(i, s))
}

/// What an expression is. `dims` are the extents of operands that are known only at run time.
pub(super) fn linear_node(def: &Definition, operands: &[Layout], dims: &[Vec<Affine>], expr: &Expr) -> Node {
    if let Some(lookup) = lookup(def, operands, expr) {
        return lookup;
    }
    match expr {
        Expr::Const(s) => Node::Const(*s),
        Expr::Index(form) => Node::Index(form.clone()),
        Expr::Acc => Node::Acc,
        Expr::Op(op, args) => Node::Op(*op, args.clone()),
        Expr::Cast { to, saturate, arg } => Node::Cast { to: *to, saturate: *saturate, arg: *arg },
        Expr::Bitcast { to, arg } => Node::Bitcast { to: *to, arg: *arg },
        Expr::Load { operand, index, fill } => {
            let shape = &def.operands[*operand as usize].ty.shape;
            if let (Some(fill), true) = (fill, shape.contains(&0)) {
                return Node::Const(*fill);
            }
            let layout = &operands[*operand as usize];
            let mut addr = Affine::constant(layout.offset);
            let (mut dynamic, mut guards) = (Vec::new(), Vec::new());
            let dims = dims.get(*operand as usize);
            for (d, ((i, &extent), &stride)) in index.iter().zip(shape).zip(&layout.strides).enumerate() {
                let size = dims.and_then(|dims| dims.get(d)).filter(|form| !form.is_constant());
                match i {
                    Index::Affine(form) => {
                        addr = addr.plus_scaled(form, stride);
                        let (lo, hi) = form.range(|v| def.vars[v as usize].extent);
                        let outside = lo < 0 || hi >= extent as i64 || !stays(def, form, size);
                        if fill.is_some() && outside {
                            guards.push(Guard { form: form.clone(), extent, size: size.cloned() });
                        }
                    }
                    Index::Dynamic(value) => {
                        let (value, size) = (*value, size.cloned());
                        dynamic.push(DynamicIndex { value, extent, size, stride, inside: false });
                    }
                }
            }
            let padded = !guards.is_empty() || !dynamic.is_empty();
            Node::Load { operand: *operand, addr, dynamic, guards, fill: fill.filter(|_| padded) }
        }
    }
}

/// A load out of 256 bytes whose index is a byte.
fn lookup(def: &Definition, operands: &[Layout], expr: &Expr) -> Option<Node> {
    let Expr::Load { operand, index, .. } = expr else { return None };
    let [Index::Dynamic(index)] = index[..] else { return None };
    let Expr::Cast { to: DType::I64, arg, .. } = def.exprs[index as usize] else { return None };
    let (ty, layout) = (&def.operands[*operand as usize].ty, &operands[*operand as usize]);
    let byte = |dtype: DType| matches!(dtype, DType::U8 | DType::I8);
    let table = byte(ty.dtype) && ty.shape == [TABLE] && *layout == Layout::dense(&ty.shape);
    let types = def.expr_types();
    let arg = match def.exprs[arg as usize] {
        Expr::Bitcast { to: DType::U8, arg } if byte(types[arg as usize]) => arg,
        _ if types[arg as usize] == DType::U8 => arg,
        _ => return None,
    };
    table.then_some(Node::Lookup { operand: *operand, arg })
}

/// Whether an index is known to stay below a size known only at run time.
fn stays(def: &Definition, form: &Affine, size: Option<&Affine>) -> bool {
    size.is_none_or(|size| {
        let beyond = def.ends(form).1.plus_scaled(size, -1);
        beyond.is_constant() && beyond.base < 0
    })
}
