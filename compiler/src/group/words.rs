//! Factors of products of computed bytes are copied, neighbours of the sum side by side, once.
//!
//! `y[m, n] = sum(k) a[m, k] * b[k, n]`, as scores or attended values of quantized attention. Weights are
//! packed at compile time so that each lane finds the bytes it multiplies in one word; what is computed is
//! not, and would be widened byte by byte. After: `t[k / 4, n, k % 4] = b[k, n]`, and the sum of `a` and `t`
//! over `k / 4` and `k % 4`; two in place of four where bytes are multiplied as couples of 16 bits. The other factor is
//! copied, too, where it does not lie along the sum. A copy pays where each of its elements is a factor of many products.

use super::rewrite::{Var, rebuild, same_vars, split_vars};
use super::split::split;
use super::turn::{Copied, Factor, WORTH, copy_over, factors, steps};
use crate::base::{Affine, DType, TensorType};
use crate::definition::{DefBuilder, Definition, Index, LoweredValue, ValueId};
use crate::scalar::Scalar;
use crate::schedule::linear::Layout;

/// Points of the axis that fills lanes, at least: a word for each takes less than a product for each byte even where
/// half of the lanes or more are empty.
const LONG: usize = 4;

/// A sum of products of bytes, one of them in words.
struct Words<'a> {
    /// The factor that is to lie in words.
    own: Factor<'a>,
    /// The other one, which is to lie along the sum.
    other: Factor<'a>,
    /// The axis that fills lanes.
    lanes: u32,
    /// The reduction axis.
    sum: u32,
}

impl<'a> Words<'a> {
    /// A sum in words of so many bytes that are worth a copy.
    fn of(
        values: &[LoweredValue],
        def: &'a Definition,
        layouts: &'a [Layout],
        word: usize,
    ) -> Option<Words<'a>> {
        let [a, b] = factors(values, def, layouts)?;
        let byte = |f: &Factor| matches!(f.ty.dtype, DType::I8 | DType::U8);
        if def.fold.as_ref()?.dtype != DType::I32 || !byte(&a) || !byte(&b) {
            return None;
        }
        let extent = |v: u32| def.vars[v as usize].extent;
        let output = &layouts[def.output.value as usize];
        let (first, lanes) = (0..def.axes as u32).find_map(|v| {
            let walked = (a.step(v) != 0, b.step(v) != 0);
            let alone = walked.0 != walked.1 && extent(v) >= LONG && steps(&def.store, output, v) == 1;
            alone.then_some((walked.0, v))
        })?;
        let (own, other) = if first { (a, b) } else { (b, a) };
        let known = |v: u32| def.vars[v as usize].size.is_none();
        let both =
            |v: &u32| [&own, &other].iter().all(|f| f.step(*v) != 0) && extent(*v) >= word && known(*v);
        let sums = (def.axes as u32..def.vars.len() as u32).filter(both);
        let sum = sums.max_by_key(|&v| (other.step(v) == 1, extent(v)))?;
        is_worth(def, &own).then_some(Words { own, other, lanes, sum })
    }

    /// Whether the other factor lies along the sum.
    fn is_along(&self) -> bool {
        self.other.step(self.sum) == 1
    }
}

/// Whether each element of a factor is in so many products that a copy pays.
fn is_worth(def: &Definition, factor: &Factor) -> bool {
    let walked = (0..def.vars.len() as u32).filter(|&v| factor.step(v) != 0);
    let elems = walked.map(|v| def.vars[v as usize].extent).product::<usize>();
    let uses = def.vars.iter().map(|v| v.extent).product::<usize>() / elems.max(1);
    // Windows that overlap would be copied more than once; rows may end within a word.
    uses >= WORTH && elems <= factor.ty.shape.iter().product::<usize>() * 5 / 4
}

/// The other factor along the sum, with zeros where its rows end within a word, and the sum over whole words.
pub(super) fn padded(
    values: &[LoweredValue],
    def: &Definition,
    layouts: &[Layout],
    word: usize,
) -> Option<Copied> {
    let words = Words::of(values, def, layouts, word)?;
    let along = words.is_along();
    let Words { own, other, sum, .. } = words;
    let extent = def.vars[sum as usize].extent;
    let whole_words = extent.is_multiple_of(word);
    // Behind the sum nothing follows in its dimension: what the copy reads there is zero.
    let ends = |(form, &dim): (&Affine, &usize)| *form == Affine::var(sum) && dim == extent;
    let ends = whole_words || other.index.iter().zip(&other.ty.shape).any(ends);
    let pays = if along { !whole_words } else { is_worth(def, &other) };
    if !pays || own.fill.is_some() || other.fill.is_some() || !ends {
        return None;
    }
    let whole = extent.next_multiple_of(word);
    let walked = (0..def.vars.len() as u32).filter(|&v| other.step(v) != 0 && v != sum);
    let order: Vec<u32> = walked.chain([sum]).collect();
    let mut shape: Vec<usize> = order.iter().map(|&v| def.vars[v as usize].extent).collect();
    if shape.iter().product::<usize>() > other.ty.shape.iter().product() {
        return None;
    }
    shape.pop();
    shape.push(whole);
    let ty = TensorType::new(other.ty.dtype, shape.clone());
    let to = values.len() as ValueId;
    let name = format!("{}_rows", def.name);
    let copy = {
        let mut b = copy_over(def, &order, &shape);
        let place = |v: u32| {
            order.iter().position(|&o| o == v).map_or(Affine::constant(0), |p| Affine::var(p as u32))
        };
        let from = other.index.iter().map(|form| form.map_vars(place)).collect();
        let element = b.load_padded(other.value, other.ty, from, Scalar::from_i64(ty.dtype, 0));
        b.finish(&name, to, &ty, element)
    };
    let (_, vars) = same_vars(def);
    let mut extended = def.vars.clone();
    extended[sum as usize].extent = whole;
    let b = DefBuilder::with_vars(extended, def.axes);
    let index = |factor: &Factor| -> Vec<Index> { factor.index.iter().cloned().map(Index::Affine).collect() };
    let wanted = [&own, &other].map(index);
    let mut hook = |b: &mut DefBuilder, operand: u32, at: &[Index], _| {
        let value = def.operands[operand as usize].value;
        if value == other.value && *at == wanted[1][..] {
            return Some(b.load(to, &ty, order.iter().map(|&v| Affine::var(v)).collect()));
        }
        let zero = Scalar::from_i64(own.ty.dtype, 0);
        (value == own.value && *at == wanted[0][..] && !whole_words)
            .then(|| b.load_at(value, own.ty, at.to_vec(), Some(zero)))
    };
    let reader = rebuild(def, b, &vars, &mut hook, def.store.clone())?;
    let copy = split(&copy).unwrap_or(vec![copy]);
    Some((copy, reader, LoweredValue { name, ty, constant: None }))
}

/// One factor in words, the definition that reads it, and what the copy writes.
pub(super) fn copied(
    values: &[LoweredValue],
    def: &Definition,
    layouts: &[Layout],
    word: usize,
) -> Option<Copied> {
    let words = Words::of(values, def, layouts, word).filter(Words::is_along)?;
    let Words { own, other, lanes, sum } = words;
    let extent = |v: u32| def.vars[v as usize].extent;
    if !extent(sum).is_multiple_of(word) || other.fill.is_some() {
        return None;
    }
    let walked = (0..def.vars.len() as u32).filter(|&v| own.step(v) != 0 && v != lanes && v != sum);
    let outer: Vec<u32> = walked.collect();
    let mut shape: Vec<usize> = outer.iter().map(|&v| extent(v)).collect();
    shape.extend([extent(sum) / word, extent(lanes), word]);
    let ty = TensorType::new(own.ty.dtype, shape.clone());
    let to = values.len() as ValueId;
    let name = format!("{}_words", def.name);
    let copy = {
        let mut b = copy_over(def, &[outer.clone(), vec![sum, lanes, sum]].concat(), &shape);
        let last = shape.len() as u32 - 1;
        let place = |v: u32| match outer.iter().position(|&o| o == v) {
            Some(at) => Affine::var(at as u32),
            None if v == lanes => Affine::var(last - 1),
            None if v == sum => Affine::var(last - 2).scaled(word as i64).plus(&Affine::var(last)),
            None => Affine::constant(0),
        };
        let from = own.index.iter().map(|form| form.map_vars(place)).collect();
        let element = match own.fill {
            Some(fill) => b.load_padded(own.value, own.ty, from, fill),
            None => b.load(own.value, own.ty, from),
        };
        b.finish(&name, to, &ty, element)
    };
    let reader = reader(def, &own, (&outer, lanes, sum), (to, &ty), word)?;
    let copy = split(&copy).unwrap_or(vec![copy]);
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
        let same = fill == own.fill && def.operands[operand as usize].value == own.value && *at == wanted[..];
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
    use crate::group::tests::{computed, result};
    use crate::scalar::{Fold, Op};

    /// `y[m, n] = sum(k) x[m, k] * x[n, k]` of bytes, over `depth` points `k` of `columns`.
    fn scores(rows: usize, depth: usize, columns: usize) -> Lowering {
        scores_of(24, rows, depth, columns)
    }

    /// ... of so many keys `n`.
    fn scores_of(keys: usize, rows: usize, depth: usize, columns: usize) -> Lowering {
        let numbers: Vec<i8> = (0..24 * columns).map(|i| (i * 7 % 251) as i8).collect();
        let x = Tensor::new([24, columns], &numbers);
        let y = TensorType::new(DType::I32, [rows, keys]);
        let (mut low, from) = computed(&x);
        let to = low.temporary("y", y.clone());
        let mut b = DefBuilder::new(&y.shape);
        let k = b.reduce("k", depth);
        let (query, key) = (vec![b.var(0), k.clone()], vec![b.var(1), k]);
        let (row, column) = (b.load(from, &x.ty, query), b.load(from, &x.ty, key));
        let (row, column) = (b.cast(DType::I32, row), b.cast(DType::I32, column));
        let product = b.op(Op::Mul, &[row, column]);
        let sum = b.fold(Fold::Sum, product);
        low.define(b.finish("scores", to, &y, sum));
        low
    }

    fn copies(low: &mut Lowering) -> usize {
        let mut layouts: Vec<Layout> = low.values.iter().map(|v| Layout::dense(&v.ty.shape)).collect();
        for copied in [padded, copied] {
            materialize(low, &mut layouts, &|values, def, layouts| copied(values, def, layouts, 4));
        }
        assert_eq!(layouts.len(), low.values.len());
        verify(low).unwrap();
        low.values.len() - 3
    }

    #[test]
    fn four_rows_of_bytes_become_words_behind_what_writes_them() {
        let mut low = scores(24, 20, 24);
        let before = result(&low);
        assert_eq!(copies(&mut low), 1);
        assert_eq!(low.values[3].ty.shape, [5, 24, 4]);
        assert!(low.stages[1].writes().contains(&3));
        assert_eq!(before, result(&low));
    }

    #[test]
    fn rows_that_end_within_a_word_get_zeros() {
        let mut low = scores(24, 21, 21);
        let before = result(&low);
        assert_eq!(copies(&mut low), 2);
        assert_eq!(
            (&low.values[3].ty.shape[..], &low.values[4].ty.shape[..]),
            (&[24, 24][..], &[6, 24, 4][..])
        );
        assert_eq!(before, result(&low));
    }

    /// Heads of four channels: a word is all of a sum of scores, and four lanes are attended values.
    #[test]
    fn small_heads_are_words() {
        for (keys, depth, shape) in [(24, 4, [1, 24, 4]), (4, 20, [5, 4, 4])] {
            let mut low = scores_of(keys, 24, depth, 20);
            let before = result(&low);
            assert_eq!(copies(&mut low), 1);
            assert_eq!(low.values[3].ty.shape, shape);
            assert_eq!(before, result(&low));
        }
        assert_eq!(copies(&mut scores_of(3, 24, 20, 20)), 0);
    }

    /// `y[m, n] = sum(k) x[k, m] * x[k, n]`, of which neither factor lies along the sum, as contexts of linear attention.
    #[test]
    fn both_factors_are_copied_where_neither_lies_along_the_sum() {
        for (depth, shapes) in [(24, [[20, 24], [6, 20]]), (22, [[20, 24], [6, 20]])] {
            let numbers: Vec<i8> = (0..depth * 20).map(|i| (i * 7 % 251) as i8).collect();
            let x = Tensor::new([depth, 20], &numbers);
            let y = TensorType::new(DType::I32, [20, 20]);
            let (mut low, from) = computed(&x);
            let to = low.temporary("y", y.clone());
            let mut b = DefBuilder::new(&y.shape);
            let k = b.reduce("k", depth);
            let (one, other) = (vec![k.clone(), b.var(0)], vec![k, b.var(1)]);
            let factors = [b.load(from, &x.ty, one), b.load(from, &x.ty, other)];
            let factors = factors.map(|f| b.cast(DType::I32, f));
            let product = b.op(Op::Mul, &factors);
            let sum = b.fold(Fold::Sum, product);
            low.define(b.finish("context", to, &y, sum));
            let before = result(&low);
            assert_eq!(copies(&mut low), 2, "{depth}");
            let made = [3, 4].map(|v: usize| low.values[v].ty.shape[..2].to_vec());
            assert_eq!(made, shapes.map(Vec::from), "{depth}");
            assert_eq!(before, result(&low));
        }
    }

    #[test]
    fn for_few_rows_and_where_others_follow_the_sum_bytes_stay() {
        assert_eq!(copies(&mut scores(8, 20, 24)), 0);
        assert_eq!(copies(&mut scores(24, 21, 24)), 0);
    }
}
