//! The element types of a definition's expressions, where they have one, and whether its
//! operations mean something on them.

use super::{Definition, Expr, ExprId, Index, Stage};
use crate::base::{DType, TensorType};
use crate::error::{Error, Result};
use crate::scalar::Op;

/// The element type of each expression; `None` where its arguments do not fit.
pub(super) fn types(d: &Definition) -> Vec<Option<DType>> {
    let mut types = Vec::with_capacity(d.exprs.len());
    for expr in &d.exprs {
        types.push(type_of(d, &types, expr));
    }
    types
}

/// An operation on elements that it has no meaning for, if there is one.
fn senseless(d: &Definition) -> Option<(Op, DType)> {
    let types = types(d);
    d.exprs.iter().find_map(|expr| {
        let Expr::Op(op, args) = expr else { return None };
        let dtype = args.last().and_then(|&a| types[a as usize])?;
        (!op.takes(dtype)).then_some((*op, dtype))
    })
}

/// The most points of a definition. A core takes hours for so many; sums of them do not overflow.
const MAX_VOLUME: u64 = 1 << 46;

/// ONNX's types of an operator are not all checked at inference; an expression without a meaning is
/// refused here, and so is one that nobody waits for.
pub fn meaningful(stages: &[Stage]) -> Result<()> {
    let endless = |stage: &Stage| matches!(stage, Stage::Define(d) if d.volume() > MAX_VOLUME);
    if stages.iter().any(endless) {
        return Err(Error::model(format!("it takes more than {MAX_VOLUME} steps")));
    }
    let picked = stages.iter().find_map(|stage| match stage {
        Stage::Define(d) => picks_from_nothing(d),
        _ => None,
    });
    if let Some(ty) = picked {
        return Err(Error::model(format!("elements are picked from {ty}, which has none")));
    }
    let found = stages.iter().find_map(|stage| match stage {
        Stage::Define(d) => senseless(d),
        _ => None,
    });
    match found {
        Some((op, dtype)) => {
            Err(Error::model(format!("elements of type {dtype} are not defined: {} of them", op.name())))
        }
        None => Ok(()),
    }
}

/// The type of an empty tensor that computed indices point into.
fn picks_from_nothing(d: &Definition) -> Option<&TensorType> {
    let picks = |e: &Expr| match e {
        Expr::Load { operand, index, .. } if index.iter().any(|i| matches!(i, Index::Dynamic(_))) => {
            Some(&d.operands.get(*operand as usize)?.ty).filter(|ty| ty.elems() == 0)
        }
        _ => None,
    };
    d.exprs.iter().find_map(picks).filter(|_| d.volume() > 0)
}

/// The element type of an expression that follows those of the given types.
pub(super) fn type_of(d: &Definition, types: &[Option<DType>], expr: &Expr) -> Option<DType> {
    let of = |e: &ExprId| types.get(*e as usize).copied().flatten();
    match expr {
        Expr::Const(scalar) => Some(scalar.dtype),
        Expr::Index(_) => Some(DType::I64),
        Expr::Acc => d.fold.as_ref().map(|f| f.dtype),
        Expr::Load { operand, .. } => d.operands.get(*operand as usize).map(|o| o.ty.dtype),
        Expr::Op(op, args) => op.result_type(&args.iter().map(of).collect::<Option<Vec<_>>>()?),
        Expr::Cast { to, arg, .. } => of(arg).map(|_| *to),
        Expr::Bitcast { to, arg } => of(arg).filter(|from| from.size() == to.size()).map(|_| *to),
    }
}

/// The expressions that an expression names.
pub(super) fn arguments(expr: &Expr) -> Vec<ExprId> {
    match expr {
        Expr::Const(_) | Expr::Index(_) | Expr::Acc => Vec::new(),
        Expr::Load { index, .. } => index
            .iter()
            .filter_map(|i| match i {
                Index::Affine(_) => None,
                Index::Dynamic(e) => Some(*e),
            })
            .collect(),
        Expr::Op(_, args) => args.clone(),
        Expr::Cast { arg, .. } | Expr::Bitcast { arg, .. } => vec![*arg],
    }
}
