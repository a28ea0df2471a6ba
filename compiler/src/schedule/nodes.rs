//! Expressions of a definition over places in memory: the nodes of [`super::linear`].

use super::linear::{DynamicIndex, Guard, Layout, Node};
use crate::base::affine::SIZE;
use crate::base::{Affine, DType};
use crate::definition::{Definition, Expr, Index};
use crate::tile::TABLE;

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
    let Some(size) = size else { return true };
    match form.terms.as_slice() {
        [(v, 1)] if *v < SIZE && form.base <= 0 => def.vars[*v as usize].size.as_ref() == Some(size),
        _ => false,
    }
}
