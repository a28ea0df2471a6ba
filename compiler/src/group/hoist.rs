//! The scale of dequantized weights is multiplied by the sum, not by each weight.
//!
//! Before: `y[n] = sum(k) x[k] * (float(w[k, n]) * s[n])`. After: `y[n] = s[n] * sum(k) x[k] * float(w[k, n])`.
//! Where few rows share the weights, a fourth of the arithmetic was this product.

use super::rewrite::{Copy, keep, same_vars};
use crate::base::DType;
use crate::definition::{Definition, Expr, ExprId, Stage};
use crate::scalar::Op;

/// Moves scales behind sums, in loops as well.
pub fn hoist_scales(stages: &mut [Stage]) {
    for stage in stages {
        match stage {
            Stage::Define(def) => {
                while let Some(hoisted) = hoisted(def) {
                    *def = hoisted;
                }
            }
            Stage::Repeat(repeat) => hoist_scales(&mut repeat.body),
            _ => {}
        }
    }
}

/// The definition with one scale behind its sum; `None` where there is none.
fn hoisted(def: &Definition) -> Option<Definition> {
    let fold = def.fold.as_ref().filter(|f| f.dtype == DType::F32)?;
    let types = def.expr_types();
    let mut factors = def.factors()?;
    let (place, weight, scale) = (0..2).find_map(|place| {
        let Expr::Op(Op::Mul, args) = &def.exprs[factors[place] as usize] else { return None };
        let scaled = |&(weight, scale): &(ExprId, ExprId)| {
            is_integer(def, &types, weight) && !moves(def, scale) && moves(def, weight)
        };
        let (weight, scale) = [(args[0], args[1]), (args[1], args[0])].into_iter().find(scaled)?;
        Some((place, weight, scale))
    })?;
    factors[place] = weight;
    let (mut b, same) = same_vars(def);
    let mut copy = Copy::new(def, &same, None);
    let [x, y] = factors.map(|e| copy.expr(&mut b, e, &mut keep));
    let product = b.op(Op::Mul, &[x?, y?]);
    let sum = b.fold(fold.op, product);
    let scale = Copy::new(def, &same, None).expr(&mut b, scale, &mut keep)?;
    let sum = b.op(Op::Mul, &[sum, scale]);
    let finish = Copy::new(def, &same, Some(sum)).expr(&mut b, def.finish, &mut keep)?;
    Some(b.finish_at(&def.name, def.output.value, &def.output.ty, def.store.clone(), finish))
}

/// Whether an expression is an integer as a float, perhaps less another one.
fn is_integer(def: &Definition, types: &[DType], e: ExprId) -> bool {
    match &def.exprs[e as usize] {
        Expr::Cast { arg, .. } => types[*arg as usize].is_int(),
        Expr::Op(Op::Sub, args) => args.iter().all(|&a| is_integer(def, types, a)),
        _ => false,
    }
}

/// Whether an expression differs along a reduction axis.
fn moves(def: &Definition, e: ExprId) -> bool {
    let sums = |&e: &ExprId| def.exprs[e as usize] == Expr::Acc;
    def.reached(e).iter().any(sums) || def.walks(e, |v| v as usize >= def.axes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Tensor, TensorType};
    use crate::definition::{DefBuilder, Lowering, verify};
    use crate::group::tests::result;
    use crate::scalar::Fold;

    /// `y[m, n] = sum(k) x[m, k] * (float(w[k, n]) * s)`, with a scale per column or per element of the sum.
    fn product(per_column: bool) -> Lowering {
        let mut low = Lowering::default();
        let x = low.constant("x", Tensor::new([2, 4], &[1f32, -2.0, 0.5, 3.0, 2.0, 1.0, -1.0, 4.0]));
        let w = low.constant("w", Tensor::new([4, 4], &(0..16).map(|i| i * 5 % 13 - 6).collect::<Vec<i8>>()));
        let ty = TensorType::new(DType::F32, [2, 4]);
        let y = low.temporary("y", ty.clone());
        let s = low.constant("s", Tensor::new([4], &[0.5f32, 2.0, 0.25, 1.0]));
        let mut b = DefBuilder::new(&ty.shape);
        let k = b.reduce("k", 4);
        let (row, column) = (vec![b.var(0), k.clone()], vec![k.clone(), b.var(1)]);
        let place = if per_column { b.var(1) } else { k };
        let (x, w) = (b.load(x, &ty, row), b.load(w, &TensorType::new(DType::I8, [4, 4]), column));
        let w = b.cast(DType::F32, w);
        let scale = b.load(s, &TensorType::new(DType::F32, [4]), vec![place]);
        let weight = b.op(Op::Mul, &[w, scale]);
        let product = b.op(Op::Mul, &[x, weight]);
        let sum = b.fold(Fold::Sum, product);
        low.define(b.finish("y", y, &ty, sum));
        low
    }

    #[test]
    fn scales_of_columns_leave_the_sum_and_others_stay() {
        for per_column in [true, false] {
            let mut low = product(per_column);
            let before = result(&low);
            let plain = low.stages.clone();
            hoist_scales(&mut low.stages);
            verify(&low).unwrap();
            assert_eq!(per_column, low.stages != plain);
            assert_eq!(before, result(&low));
        }
    }
}
