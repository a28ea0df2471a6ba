//! Products of flags and constants are rows that are picked.
//!
//! Before: `t[i, k] = p[i] == k ? 1 : 0` and `y[i, n] = sum(k) t[i, k] * w[k, n]`, an embedding written as a
//! product of a OneHot. After: `y[i, n] = w[p[i], n] or 0`. The constants must be finite, since zero times anything
//! else is no zero, and none may be -0, which the sum makes 0.

use super::rewrite::{Copy, Var, keep, plain_var, store_axes};
use crate::base::{Affine, DType, Tensor};
use crate::definition::{self, DefBuilder, Definition, Expr, ExprId, Index, LoweredValue};
use crate::scalar::{Fold, Op, Scalar};

/// The reader of flags that `producer` writes, without its sum; `None` where it is no such product.
pub fn picked(values: &[LoweredValue], reader: &Definition, producer: &Definition) -> Option<Definition> {
    reader.fold.as_ref().filter(|f| f.op == Fold::Sum && f.dtype == DType::F32)?;
    let one_sum = reader.vars.len() == reader.axes + 1;
    if !one_sum || producer.fold.is_some() || reader.has_sizes() || producer.has_sizes() {
        return None;
    }
    let [a, b] = reader.factors()?;
    let (flags, weights) = [(a, b), (b, a)].into_iter().find(|&(flags, _)| {
        matches!(&reader.exprs[flags as usize], Expr::Load { operand, fill: None, .. }
            if reader.operands[*operand as usize].value == producer.output.value)
    })?;
    let Expr::Load { index: places, .. } = &reader.exprs[flags as usize] else { return None };
    let Expr::Load { operand, index: rows, fill: None } = &reader.exprs[weights as usize] else {
        return None;
    };
    let table = &reader.operands[*operand as usize];
    values[table.value as usize].constant.as_ref().filter(|t| plain(t))?;

    // The flag is 1 where the position equals what the sum runs over.
    let summed = reader.axes as u32;
    let runs = |index: &Index| matches!(index, Index::Affine(form) if plain_var(form) == Some(summed));
    let still = |index: &Index| matches!(index, Index::Affine(form) if form.coefficient(summed) == 0);
    let alone = |list: &[Index]| {
        let at = list.iter().position(runs)?;
        list.iter().enumerate().all(|(i, index)| i == at || still(index)).then_some(at)
    };
    let (along, row) = (alone(places)?, alone(rows)?);
    let axes = store_axes(producer)?;
    let axis = axes.iter().position(|&dim| dim == Some(along))? as u32;
    let whole = producer.vars[axis as usize].extent == reader.vars[summed as usize].extent
        && table.ty.shape[row] == reader.vars[summed as usize].extent;
    let position = position(values, producer, axis).filter(|_| whole)?;

    let vars = reader.vars[..reader.axes].iter().enumerate();
    let named = |(i, v): (usize, &definition::Var)| definition::Var { name: format!("i{i}"), ..v.clone() };
    let mut b = DefBuilder::with_vars(vars.map(named).collect(), reader.axes);
    let of = |dim: &Option<usize>| match dim.map(|d| &places[d]) {
        Some(Index::Affine(form)) => Var::Affine(form.clone()),
        _ => Var::Affine(Affine::constant(0)),
    };
    let at: Vec<Var> = axes.iter().map(of).collect();
    let position = Copy::new(producer, &at, None).expr(&mut b, position, &mut keep)?;
    let mut index = rows.clone();
    index[row] = Index::Dynamic(position);
    let element = b.load_at(table.value, &table.ty, index, Some(Scalar::from_f64(DType::F32, 0.0)));
    let same: Vec<Var> = (0..reader.axes as u32).map(|v| Var::Affine(Affine::var(v))).collect();
    let finish = Copy::new(reader, &same, Some(element)).expr(&mut b, reader.finish, &mut keep)?;
    Some(b.finish_at(&reader.name, reader.output.value, &reader.output.ty, reader.store.clone(), finish))
}

/// The position of a definition that is 1 where that equals an axis, and 0 elsewhere.
fn position(values: &[LoweredValue], def: &Definition, axis: u32) -> Option<ExprId> {
    let expr = |e: ExprId| &def.exprs[e as usize];
    let Expr::Op(Op::Select, args) = expr(def.finish) else { return None };
    let &[equal, on, off] = args.as_slice() else { return None };
    let is = |e: ExprId, number: f32| match expr(e) {
        Expr::Const(s) => *s == Scalar::from_f64(DType::F32, f64::from(number)),
        Expr::Load { operand, index, .. } => {
            let constant = values[def.operands[*operand as usize].value as usize].constant.as_ref();
            let at = |i: &Index| matches!(i, Index::Affine(form) if form.is_constant());
            element(constant, index).filter(|_| index.iter().all(at)) == Some(number)
        }
        _ => false,
    };
    let Expr::Op(Op::Eq, sides) = expr(equal) else { return None };
    let &[x, y] = sides.as_slice() else { return None };
    let counts = |e: ExprId| matches!(expr(e), Expr::Index(form) if plain_var(form) == Some(axis));
    let (_, position) = [(x, y), (y, x)].into_iter().find(|s| counts(s.0))?;
    let fits = is(on, 1.0) && is(off, 0.0) && def.expr_types()[position as usize] == DType::I64;
    (fits && !def.walks(position, |v| v == axis)).then_some(position)
}

/// An element of a constant vector of floats.
fn element(constant: Option<&Tensor>, index: &[Index]) -> Option<f32> {
    let ([Index::Affine(form)], Some(list)) = (index, constant?.to_vec::<f32>()) else { return None };
    list.get(usize::try_from(form.base).ok()?).copied()
}

/// Whether all elements are finite floats of which none is -0.
fn plain(tensor: &Tensor) -> bool {
    let fits = |v: &f32| v.is_finite() && !(*v == 0.0 && v.is_sign_negative());
    tensor.to_vec::<f32>().is_some_and(|list| list.iter().all(fits))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::TensorType;
    use crate::definition::Lowering;
    use crate::group::fuse;
    use crate::group::tests::result;

    /// `y[i, n] = sum(k) (p[i] == k ? on : 0) * w[k, n]`, where one position lies outside.
    fn embedding(on: f32, first: f32) -> Lowering {
        let mut low = Lowering::default();
        let (flags, y) = (TensorType::new(DType::F32, [5, 4]), TensorType::new(DType::F32, [5, 3]));
        let p = low.constant("p", Tensor::new([5], &[3i64, 0, 1, 7, 3]));
        let numbers: Vec<f32> = (0..12).map(|i| if i == 0 { first } else { i as f32 - 4.5 }).collect();
        let w = low.constant("w", Tensor::new([4, 3], &numbers));
        let out = low.temporary("y", y.clone());
        let given = low.temporary("given", TensorType::new(DType::I64, [5]));
        let t = low.temporary("t", flags.clone());
        let mut b = DefBuilder::new(&[5]);
        let at = b.axes();
        let position = b.load(p, &TensorType::new(DType::I64, [5]), at);
        low.define(b.finish("given", given, &TensorType::new(DType::I64, [5]), position));
        let mut b = DefBuilder::new(&flags.shape);
        let (row, column) = (vec![b.var(0)], b.var(1));
        let position = b.load(given, &TensorType::new(DType::I64, [5]), row);
        let column = b.index(column);
        let equal = b.op(Op::Eq, &[column, position]);
        let (on, off) = [on, 0.0].map(|n| Scalar::from_f64(DType::F32, f64::from(n))).into();
        let (on, off) = (b.constant(on), b.constant(off));
        let flag = b.op(Op::Select, &[equal, on, off]);
        low.define(b.finish("t", t, &flags, flag));
        let mut b = DefBuilder::new(&y.shape);
        let k = b.reduce("k", 4);
        let (at, of) = (vec![b.var(0), k.clone()], vec![k, b.var(1)]);
        let (flag, weight) = (b.load(t, &flags, at), b.load(w, &TensorType::new(DType::F32, [4, 3]), of));
        let product = b.op(Op::Mul, &[flag, weight]);
        let sum = b.fold(Fold::Sum, product);
        low.define(b.finish("y", out, &y, sum));
        low
    }

    #[test]
    fn a_product_of_flags_picks_rows() {
        let infinite = f32::INFINITY;
        for (on, first, rows) in
            [(1.0, -4.5, true), (2.0, -4.5, false), (1.0, infinite, false), (1.0, -0.0, false)]
        {
            let mut low = embedding(on, first);
            let before = result(&low);
            fuse(&mut low, &[2]);
            let sums = low
                .stages
                .iter()
                .any(|s| matches!(s, crate::definition::Stage::Define(d) if d.fold.is_some()));
            assert_eq!(sums, !rows, "{on} {first}");
            assert_eq!(format!("{before:?}"), format!("{:?}", result(&low)));
        }
    }
}
