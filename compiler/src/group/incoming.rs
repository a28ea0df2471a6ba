//! Bytes that come in by planes are copied, channels side by side, once.
//!
//! Products of bytes are summed several neighbours at a time. What the application passes keeps its order, and where
//! the bytes of a sum lie far apart in it, each would be widened and multiplied by itself. After:
//! `t[n, c, h, w] = x[n, c, h, w]`, whose order of memory is free, and folds read `t` in place of `x`.

use super::layout::wished;
use super::rewrite::replace_loads;
use super::turn::WORTH;
use crate::base::{Affine, DType};
use crate::definition::{DefBuilder, Definition, LoweredValue, Lowering, Stage, ValueId, Var};

/// Copies those of the model's inputs for which that pays.
pub(super) fn copy(lowering: &mut Lowering, inputs: &[ValueId]) {
    for (value, wish) in wished(lowering, inputs) {
        let ty = &lowering.values[value as usize].ty;
        let beside = wish.map_or(0, |(dim, _)| ty.shape[dim + 1..].iter().product());
        let pays = wish.is_some_and(|(_, products)| products >= (WORTH * ty.elems()) as u64);
        if beside > 1 && pays && matches!(ty.dtype, DType::I8 | DType::U8) {
            copy_one(lowering, value);
        }
    }
}

fn copy_one(lowering: &mut Lowering, value: ValueId) {
    let from = lowering.values[value as usize].clone();
    let name = format!("{}_turned", from.name);
    let to = lowering.values.len() as ValueId;
    let dims = lowering.dims.get(&value).cloned();
    let axis = |(i, &extent): (usize, &usize)| Var {
        name: format!("i{i}"),
        extent,
        size: dims.as_ref().map(|d| d[i].clone()).filter(Affine::has_size),
    };
    let vars: Vec<Var> = from.ty.shape.iter().enumerate().map(axis).collect();
    let mut b = DefBuilder::with_vars(vars, from.ty.rank());
    let at = b.axes();
    let element = b.load(value, &from.ty, at);
    let copy = b.finish(&name, to, &from.ty, element);
    if let Some(at) = lowering.stages.iter().position(|s| folds(s, value)) {
        read_instead(&mut lowering.stages, value, to);
        lowering.stages.insert(at, Stage::Define(copy));
        lowering.dims.extend(dims.map(|dims| (to, dims)));
        lowering.values.push(LoweredValue { name, ty: from.ty, constant: None });
    }
}

fn reads(def: &Definition, value: ValueId) -> bool {
    def.fold.is_some() && def.operands.iter().any(|o| o.value == value)
}

fn folds(stage: &Stage, value: ValueId) -> bool {
    match stage {
        Stage::Define(def) => reads(def, value),
        Stage::Repeat(repeat) => repeat.body.iter().any(|s| folds(s, value)),
        _ => false,
    }
}

/// Folds read `to` in place of `value`.
fn read_instead(stages: &mut [Stage], value: ValueId, to: ValueId) {
    for stage in stages {
        match stage {
            Stage::Define(def) if reads(def, value) => {
                let reader = replace_loads(def, &mut |b, operand, index, fill| {
                    let operand = &def.operands[operand as usize];
                    (operand.value == value).then(|| b.load_at(to, &operand.ty, index.to_vec(), fill))
                });
                *stage = reader.map_or_else(|| stage.clone(), Stage::Define);
            }
            Stage::Repeat(repeat) => read_instead(&mut repeat.body, value, to),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Tensor, TensorType};
    use crate::definition::verify;
    use crate::group::layouts;
    use crate::group::tests::{computed, result};
    use crate::scalar::{Fold, Op};

    /// `y[n, h, w] = sum(c) x[c, h, w] * weights[n, c]` of eight channels, into so many.
    fn one_point(outputs: usize, side: usize) -> Lowering {
        let numbers = |n: usize| (0..n).map(|i| (i * 7 % 11) as u8).collect::<Vec<u8>>();
        let x = Tensor::new([8, side, side], &numbers(8 * side * side));
        let (mut low, from) = computed(&x);
        let y = TensorType::new(DType::I32, [outputs, side, side]);
        let to = low.temporary("y", y.clone());
        let weights = Tensor::new([outputs, 8], &numbers(8 * outputs));
        let factor = low.constant("w", weights.clone());
        let mut b = DefBuilder::new(&y.shape);
        let c = b.reduce("c", 8);
        let at = vec![c.clone(), b.var(1), b.var(2)];
        let of = vec![b.var(0), c];
        let (v, f) = (b.load(from, &x.ty, at), b.load(factor, &weights.ty, of));
        let [v, f] = [v, f].map(|e| b.cast(DType::I32, e));
        let product = b.op(Op::Mul, &[v, f]);
        let sum = b.fold(Fold::Sum, product);
        low.define(b.finish("y", to, &y, sum));
        low
    }

    #[test]
    fn planes_of_bytes_are_copied_for_many_products() {
        for (outputs, side, copied) in [(32, 4, true), (8, 4, false), (32, 1, false)] {
            let mut low = one_point(outputs, side);
            let before = result(&low);
            copy(&mut low, &[1]);
            verify(&low).unwrap();
            assert_eq!(low.stages.len(), if copied { 3 } else { 2 }, "{outputs} of {side}");
            assert_eq!(before, result(&low));
            let layouts = layouts(&low, &[1, 2]);
            assert!(!copied || layouts[4].strides == [1, 32, 8], "{:?}", layouts[4].strides);
        }
    }
}
