//! Factors of products of computed bytes are copied, neighbours of the sum side by side, once.
//!
//! `y[m, n] = sum(k) a[m, k] * b[k, n]`, as scores or attended values of quantized attention. Weights are
//! packed at compile time so that each lane finds the bytes it multiplies in one word; what is computed is
//! not, and would be widened byte by byte. After: `t[k / 4, n, k % 4] = b[k, n]`, and the sum of `a` and `t`
//! over `k / 4` and `k % 4`; two in place of four where bytes are multiplied as couples of 16 bits. The copy pays where each of its elements is a factor of many products.

use super::rewrite::{Var, rebuild, split_vars};
use super::turn::{Copied, Factor, WORTH, factors, steps};
use crate::base::{Affine, DType, TensorType};
use crate::definition::{DefBuilder, Definition, Index, LoweredValue, ValueId};
use crate::scalar::Scalar;
use crate::schedule::linear::Layout;

/// Points of the axis that fills lanes.
const LONG: usize = 8;

/// The copy, the definition that reads it, and what the copy writes.
pub(super) fn copied(
    values: &[LoweredValue],
    def: &Definition,
    layouts: &[Layout],
    word: usize,
) -> Option<Copied> {
    let factors = factors(values, def, layouts)?;
    let byte = |f: &Factor| matches!(f.ty.dtype, DType::I8 | DType::U8);
    if def.fold.as_ref()?.dtype != DType::I32 || !factors.iter().all(byte) {
        return None;
    }
    let extent = |v: u32| def.vars[v as usize].extent;
    let output = &layouts[def.output.value as usize];
    let (own, other, lanes) = (0..def.axes as u32).find_map(|v| {
        let steps = [0, 1].map(|f: usize| factors[f].step(v) != 0);
        let own = steps.iter().position(|&s| s)?;
        let alone = !steps[1 - own] && extent(v) >= LONG && self::steps(&def.store, output, v) == 1;
        alone.then_some((&factors[own], &factors[1 - own], v))
    })?;
    let sum = (def.axes as u32..def.vars.len() as u32).find(|&v| {
        other.step(v) == 1 && own.step(v) != 0 && extent(v) > word && extent(v).is_multiple_of(word)
    })?;
    let walked = (0..def.vars.len() as u32).filter(|&v| own.step(v) != 0 && v != lanes && v != sum);
    let outer: Vec<u32> = walked.collect();
    let mut shape: Vec<usize> = outer.iter().map(|&v| extent(v)).collect();
    shape.extend([extent(sum) / word, extent(lanes), word]);
    let elems: usize = shape.iter().product();
    let uses = def.vars.iter().map(|v| v.extent).product::<usize>() / elems.max(1);
    if uses < WORTH || elems > own.ty.shape.iter().product() {
        return None;
    }
    let ty = TensorType::new(own.ty.dtype, shape.clone());
    let to = values.len() as ValueId;
    let name = format!("{}_words", def.name);
    let copy = {
        let mut b = DefBuilder::new(&shape);
        let last = shape.len() as u32 - 1;
        let place = |v: u32| match outer.iter().position(|&o| o == v) {
            Some(at) => Affine::var(at as u32),
            None if v == lanes => Affine::var(last - 1),
            None if v == sum => Affine::var(last - 2).scaled(word as i64).plus(&Affine::var(last)),
            None => Affine::constant(0),
        };
        let from = own.index.iter().map(|form| form.map_vars(place)).collect();
        let element = b.load(own.value, own.ty, from);
        b.finish(&name, to, &ty, element)
    };
    let reader = reader(def, own, (&outer, lanes, sum), (to, &ty), word)?;
    Some((copy, reader, LoweredValue { name, ty, constant: None }))
}

/// The definition with its sum in words, of which the copy holds one factor's.
fn reader(
    def: &Definition,
    own: &Factor,
    (outer, lanes, sum): (&[u32], u32, u32),
    (to, ty): (ValueId, &TensorType),
    word: usize,
) -> Option<Definition> {
    let mut parts = vec![None; def.vars.len()];
    parts[sum as usize] = Some(vec![(0, word as i64, def.vars[sum as usize].extent / word), (1, 1, word)]);
    let split = split_vars(def, &parts);
    let form = |v: u32| split.map[v as usize].clone();
    let mut index: Vec<Affine> = outer.iter().map(|&v| form(v)).collect();
    let part = |p: u32| split.part[sum as usize].get(&p).map(|&v| Affine::var(v));
    index.extend([part(0)?, form(lanes), part(1)?]);
    let wanted = |form: &Affine| Index::Affine(form.map_vars(|v| split.map[v as usize].clone()));
    let wanted: Vec<Index> = own.index.iter().map(wanted).collect();
    let mut hook = |b: &mut DefBuilder, operand: u32, at: &[Index], fill: Option<Scalar>| {
        let same = fill.is_none() && def.operands[operand as usize].value == own.value && *at == wanted[..];
        same.then(|| b.load(to, ty, index.clone()))
    };
    let vars: Vec<Var> = split.map.iter().cloned().map(Var::Affine).collect();
    let b = DefBuilder::with_vars([split.axes.clone(), split.reduce.clone()].concat(), split.axes.len());
    let store = def.store.iter().map(|f| f.map_vars(form)).collect();
    rebuild(def, b, &vars, &mut hook, store)
}

#[cfg(test)]
mod tests {
    use super::super::turn::materialize;
    use super::*;
    use crate::base::Tensor;
    use crate::definition::{Lowering, verify};
    use crate::group::tests::result;
    use crate::scalar::{Fold, Op};

    /// `y[m, n] = sum(k) x[m, k] * x[k, n]` of bytes, over `depth` points `k`.
    fn attended(rows: usize, depth: usize) -> Lowering {
        let numbers: Vec<i8> = (0..24 * 24).map(|i| (i * 7 % 251) as i8).collect();
        let x = Tensor::new([24, 24], &numbers);
        let y = TensorType::new(DType::I32, [rows, 24]);
        let mut low = Lowering::default();
        let given = low.constant("given", x.clone());
        let from = low.temporary("x", x.ty.clone());
        let mut b = DefBuilder::new(&x.ty.shape);
        let axes = b.axes();
        let element = b.load(given, &x.ty, axes);
        low.define(b.finish("x", from, &x.ty, element));
        let to = low.temporary("y", y.clone());
        let mut b = DefBuilder::new(&y.shape);
        let k = b.reduce("k", depth);
        let (row, column) = (vec![b.var(0), k.clone()], vec![k, b.var(1)]);
        let (row, column) = (b.load(from, &x.ty, row), b.load(from, &x.ty, column));
        let (row, column) = (b.cast(DType::I32, row), b.cast(DType::I32, column));
        let product = b.op(Op::Mul, &[row, column]);
        let sum = b.fold(Fold::Sum, product);
        low.define(b.finish("attended", to, &y, sum));
        low
    }

    fn copies(low: &mut Lowering) -> usize {
        let mut layouts: Vec<Layout> = low.values.iter().map(|v| Layout::dense(&v.ty.shape)).collect();
        materialize(&mut low.values, &mut low.stages, &mut layouts, &|values, def, layouts| {
            copied(values, def, layouts, 4)
        });
        assert_eq!(layouts.len(), low.values.len());
        verify(low).unwrap();
        low.stages.len() - 2
    }

    #[test]
    fn four_rows_of_bytes_become_words_behind_what_writes_them() {
        let mut low = attended(24, 20);
        let before = result(&low);
        assert_eq!(copies(&mut low), 1);
        assert_eq!(low.values[3].ty.shape, [5, 24, 4]);
        assert!(low.stages[1].writes().contains(&3));
        assert_eq!(before, result(&low));
    }

    #[test]
    fn for_few_rows_and_for_parts_of_words_bytes_stay() {
        assert_eq!(copies(&mut attended(8, 20)), 0);
        assert_eq!(copies(&mut attended(24, 21)), 0);
    }
}
