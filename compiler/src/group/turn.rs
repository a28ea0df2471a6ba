//! Factors that lie the wrong way round are copied, once.
//!
//! `y[m, n] = sum(k) a[m, k] * b[n, k]`, as queries by keys, wants `b` with `n` innermost. As it is made
//! and read by others no factor runs over neighbours along `n`, and each point is a sum over lanes.
//! After: `t[k, n] = b[n, k]`, and the product of `a` and `t`.

use super::rewrite::replace_loads;
use crate::base::{Affine, TensorType};
use crate::definition::{DefBuilder, Definition, Expr, Index, LoweredValue, Lowering, Stage, ValueId, Var};
use crate::scalar::Scalar;
use crate::schedule::linear::Layout;

/// Products of which each copied element must be a factor.
pub(super) const WORTH: usize = 16;
/// Points of the axis along which the copy lies.
const LONG: usize = 8;

/// A factor of a sum of products, where all of its indices are affine.
pub(super) struct Factor<'a> {
    pub(super) value: ValueId,
    pub(super) ty: &'a TensorType,
    pub(super) index: Vec<Affine>,
    /// What it is where its index lies outside.
    pub(super) fill: Option<Scalar>,
    layout: &'a Layout,
}

/// The definitions of a copy, the one that reads it, and what the copy writes.
pub(super) type Copied = (Vec<Definition>, Definition, LoweredValue);

/// What gives a definition's copy.
pub(super) type Copies<'a> = dyn Fn(&[LoweredValue], &Definition, &[Layout]) -> Option<Copied> + 'a;

/// Puts a copy before each definition for which `copied` gives one, and gives the copies their layouts.
pub(super) fn materialize(lowering: &mut Lowering, layouts: &mut Vec<Layout>, copied: &Copies) {
    let mut stages = std::mem::take(&mut lowering.stages);
    copy_in(lowering, &mut stages, layouts, copied);
    lowering.stages = stages;
}

fn copy_in(lowering: &mut Lowering, stages: &mut Vec<Stage>, layouts: &mut Vec<Layout>, copied: &Copies) {
    for stage in std::mem::take(stages) {
        match stage {
            Stage::Define(def) => match copied(&lowering.values, &def, layouts) {
                Some((copy, reader, value)) => {
                    layouts.push(Layout::dense(&value.ty.shape));
                    lowering.values.push(value);
                    lowering.dims.extend(copy.first().and_then(sizes));
                    // Behind what it copies: between the stages of a chain it would part them.
                    let reads = copy.iter().flat_map(|c| &c.operands).map(|o| o.value).next();
                    let writer =
                        stages.iter().rposition(|s| s.writes().into_iter().any(|v| Some(v) == reads));
                    let at = writer.map_or(0, |w| w + 1);
                    stages.splice(at..at, copy.into_iter().map(Stage::Define));
                    stages.push(Stage::Define(reader));
                }
                None => stages.push(Stage::Define(def)),
            },
            Stage::Repeat(mut repeat) => {
                copy_in(lowering, &mut repeat.body, layouts, copied);
                stages.push(Stage::Repeat(repeat));
            }
            other => stages.push(other),
        }
    }
}

/// The dimensions of what a copy with sizes known only at run time writes: those of its axes.
fn sizes(copy: &Definition) -> Option<(ValueId, Vec<Affine>)> {
    let dim = |v: &Var| v.size.clone().unwrap_or(Affine::constant(v.extent as i64));
    copy.has_sizes().then(|| (copy.output.value, copy.vars.iter().map(dim).collect()))
}

/// What begins a copy of a shape that runs over some variables of a definition: axes with their sizes.
pub(super) fn copy_over(def: &Definition, order: &[u32], shape: &[usize]) -> DefBuilder {
    let axis = |(i, (&v, &extent)): (usize, (&u32, &usize))| Var {
        name: format!("i{i}"),
        extent,
        size: def.vars[v as usize].size.clone(),
    };
    DefBuilder::with_vars(order.iter().zip(shape).enumerate().map(axis).collect(), shape.len())
}

/// The copy for a product of floats of which no factor runs over neighbours of an axis of its own.
pub(super) fn turned(values: &[LoweredValue], def: &Definition, layouts: &[Layout]) -> Option<Copied> {
    let factors = factors(values, def, layouts)?;
    if !def.fold.as_ref()?.dtype.is_float() || factors.iter().any(|f| f.fill.is_some()) {
        return None;
    }
    let own = |v: u32| match [0, 1].map(|f: usize| factors[f].step(v) != 0) {
        [true, false] => Some(0),
        [false, true] => Some(1),
        _ => None,
    };
    let axes: Vec<u32> = (0..def.axes as u32).filter(|&v| def.vars[v as usize].extent >= LONG).collect();
    if axes.iter().any(|&v| own(v).is_some_and(|f| factors[f].step(v) == 1)) {
        return None;
    }
    let output = &layouts[def.output.value as usize];
    let stored = |v: u32| steps(&def.store, output, v) == 1;
    let along = axes.into_iter().find(|&v| own(v).is_some() && stored(v))?;
    let factor = &factors[own(along)?];
    let walked: Vec<u32> =
        (0..def.vars.len() as u32).filter(|&v| v != along && factor.step(v) != 0).collect();
    let order = [walked, vec![along]].concat();
    let extent = |v: &u32| def.vars[*v as usize].extent;
    let shape: Vec<usize> = order.iter().map(extent).collect();
    let elems: usize = shape.iter().product();
    let uses = def.vars.iter().map(|v| v.extent).product::<usize>() / elems.max(1);
    if uses < WORTH || elems > factor.ty.shape.iter().product() {
        return None;
    }
    let ty = TensorType::new(factor.ty.dtype, shape.clone());
    let to = values.len() as ValueId;
    let name = format!("{}_turned", def.name);
    let mut b = copy_over(def, &order, &shape);
    let place =
        |v: u32| order.iter().position(|&o| o == v).map_or(Affine::constant(0), |p| Affine::var(p as u32));
    let from = factor.index.iter().map(|form| form.map_vars(place)).collect();
    let element = b.load(factor.value, factor.ty, from);
    let copy = b.finish(&name, to, &ty, element);
    let wanted: Vec<Index> = factor.index.iter().cloned().map(Index::Affine).collect();
    let reader = replace_loads(def, &mut |b, operand, index, fill| {
        let same =
            fill.is_none() && def.operands[operand as usize].value == factor.value && *index == wanted[..];
        same.then(|| b.load(to, &ty, order.iter().map(|&v| Affine::var(v)).collect()))
    })?;
    Some((vec![copy], reader, LoweredValue { name, ty, constant: None }))
}

/// The two factors of a sum of products of computed values, as they are or widened, whose places do not depend on
/// sizes known only at run time.
pub(super) fn factors<'a>(
    values: &[LoweredValue],
    def: &'a Definition,
    layouts: &'a [Layout],
) -> Option<[Factor<'a>; 2]> {
    let [a, b] = def.factors()?;
    let factor = |e: u32| {
        let Expr::Load { operand, index, fill } = def.behind_casts(e) else { return None };
        let operand = &def.operands[*operand as usize];
        let affine = |i: &Index| match i {
            Index::Affine(form) if !form.has_size() => Some(form.clone()),
            _ => None,
        };
        let index = index.iter().map(affine).collect::<Option<Vec<Affine>>>()?;
        let computed = values[operand.value as usize].constant.is_none();
        let layout = &layouts[operand.value as usize];
        computed.then_some(Factor { value: operand.value, ty: &operand.ty, index, fill: *fill, layout })
    };
    Some([factor(a)?, factor(b)?])
}

impl Factor<'_> {
    /// Elements from one point of a variable to the next.
    pub(super) fn step(&self, var: u32) -> i64 {
        steps(&self.index, self.layout, var)
    }
}

/// Elements from one point of a variable to the next, of an index under a layout.
pub(super) fn steps(index: &[Affine], layout: &Layout, var: u32) -> i64 {
    index.iter().zip(&layout.strides).map(|(form, stride)| form.coefficient(var) * stride).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{DType, Tensor};
    use crate::definition::verify;
    use crate::group::tests::{computed, result};
    use crate::scalar::{Fold, Op};

    /// `y[m, n] = sum(k) x[m, k] * x[n, k + 4]`, of `rows` rows and 12 points `n`.
    fn queries_by_keys(rows: usize) -> Lowering {
        let numbers: Vec<f32> = (0..20 * 8).map(|i| (i * 7 % 11) as f32 - 5.0).collect();
        let x = Tensor::new([20, 8], &numbers);
        let y = TensorType::new(DType::F32, [rows, 12]);
        let (mut low, from) = computed(&x);
        let to = low.temporary("y", y.clone());
        let mut b = DefBuilder::new(&y.shape);
        let k = b.reduce("k", 4);
        let queries = vec![b.var(0), k.clone()];
        let query = b.load(from, &x.ty, queries);
        let keys = vec![b.var(1), k.offset(4)];
        let key = b.load(from, &x.ty, keys);
        let product = b.op(Op::Mul, &[query, key]);
        let sum = b.fold(Fold::Sum, product);
        low.define(b.finish("scores", to, &y, sum));
        low
    }

    fn turn(low: &mut Lowering) {
        let mut layouts: Vec<Layout> = low.values.iter().map(|v| Layout::dense(&v.ty.shape)).collect();
        materialize(low, &mut layouts, &turned);
        assert_eq!(layouts.len(), low.values.len());
        verify(low).unwrap();
    }

    #[test]
    fn keys_that_lie_beside_queries_are_turned() {
        let mut low = queries_by_keys(20);
        let before = result(&low);
        turn(&mut low);
        assert_eq!(low.stages.len(), 3);
        assert_eq!(low.values[3].ty.shape, [4, 12]);
        assert_eq!(before, result(&low));
    }

    #[test]
    fn for_few_rows_keys_stay_as_they_are() {
        let mut low = queries_by_keys(2);
        turn(&mut low);
        assert_eq!(low.stages.len(), 2);
    }
}
