//! Padding beside sizes known only at run time lies in memory.
//!
//! Before: `y[i] = sum(k) x[i + k - 1 or 0] * w[k]` for `i < n`, where no loop knows which tiles reach over an edge:
//! each element would be tested, for every channel. After: what wrote `x[i]` writes `t[i + 1]`; then zeros go to `t[0]`
//! and to `t[n + 1]`, and `y[i] = sum(k) t[i + k] * w[k]` tests nothing. Where something else reads or writes `x` that
//! cannot move, or where one window is padded with zeros and another one with the smallest number, `t` is a copy.
//!
//! A tile of what writes the middle may reach over its end; so the rim is written after all of it.

use super::reach::Sizes;
use super::rewrite::replace_loads;
use crate::base::{Affine, DType, TensorType};
use crate::definition::{
    DefBuilder, Definition, Expr, Index, LoweredValue, Lowering, Operand, Stage, ValueId,
};
use crate::scalar::Scalar;
use crate::schedule::winograd::{BEHIND, WINDOW};
use std::collections::BTreeMap;

/// A value with a rim takes at most so many times its memory.
const MOST: usize = 4;
/// Channels from which on windows over them are filtered.
const CHANNELS: usize = 16;

/// The rim of a value that windows read.
struct Rim {
    value: ValueId,
    fill: Scalar,
    /// Elements before the value and behind it, per dimension.
    before: Vec<usize>,
    behind: Vec<usize>,
}

/// Gives each value that padded windows read, and that has sizes, a rim in memory.
pub fn materialize(lowering: &mut Lowering, outputs: &[ValueId]) {
    if lowering.dims.is_empty() {
        return;
    }
    for rim in found(lowering) {
        rim.made(lowering, outputs);
    }
}

/// The index of a load that pads windows of a value with sizes, and the fill.
fn padded<'a>(
    lowering: &Lowering,
    def: &'a Definition,
    expr: &'a Expr,
) -> Option<(ValueId, &'a [Index], Scalar)> {
    let Expr::Load { operand, index, fill: Some(fill) } = expr else { return None };
    let value = def.operands[*operand as usize].value;
    let affine = index.iter().all(|i| i.affine().is_some());
    (def.fold.is_some() && affine && !depends(index) && lowering.dims.contains_key(&value))
        .then_some((value, index, *fill))
}

/// Whether an index depends on sizes: how far such windows reach is counted in no rim.
fn depends(index: &[Index]) -> bool {
    index.iter().any(|i| i.affine().is_some_and(Affine::has_size))
}

/// The rims that the windows of the definitions want: with room for tiles, or, where that is too much, without.
fn found(lowering: &Lowering) -> Vec<Rim> {
    let sizes = Sizes::of(lowering);
    let mut rims: BTreeMap<(ValueId, u64), Option<[Rim; 2]>> = BTreeMap::new();
    for stage in &lowering.stages {
        let Stage::Define(def) = stage else { continue };
        for (value, index, fill) in def.exprs.iter().filter_map(|e| padded(lowering, def, e)) {
            let around = around(lowering, &sizes, (def, value), index);
            let wanted = rims.entry((value, fill.bits)).or_insert_with(|| {
                let none = || vec![0; index.len()];
                Some([(); 2].map(|()| Rim { value, fill, before: none(), behind: none() }))
            });
            match (wanted.as_mut(), around) {
                (Some([with, without]), Some(around)) => {
                    with.widen(around.iter().map(|reach| reach[0]));
                    without.widen(around.iter().map(|reach| reach[1]));
                }
                _ => *wanted = None,
            }
        }
    }
    let worth = |rim: &Rim| {
        let ty = &lowering.values[rim.value as usize].ty;
        let whole = rim.shape(ty).iter().product::<usize>();
        whole <= MOST * ty.elems()
    };
    rims.into_values().flatten().filter_map(|wanted| wanted.into_iter().find(worth)).collect()
}

/// What windows reach before and behind each dimension, with what tiles of those that may be filtered do, and without;
/// none where that is not known for all sizes.
fn around(
    lowering: &Lowering,
    sizes: &Sizes,
    (def, value): (&Definition, ValueId),
    index: &[Index],
) -> Option<Vec<[(usize, usize); 2]>> {
    let filters = may_be_filtered(def, index);
    let reaches = index.iter().zip(lowering.dims.get(&value)?).map(|(index, dim)| {
        let (least, most) = def.ends(index.affine()?);
        let behind = sizes.most(&most.plus_scaled(dim, -1).offset(1))?;
        let before = sizes.most(&least.scaled(-1))?;
        let tiles = if filters && !dim.is_constant() { BEHIND } else { 0 };
        Some([tiles, 0].map(|tiles| {
            let behind = behind.max(0) as usize + tiles;
            // What lies behind begins inside whatever the size is, even where the model has no meaning.
            let inside = if behind > 0 { -dim.range(|_| 1).0 } else { 0 };
            (before.max(inside).max(0) as usize, behind)
        }))
    });
    reaches.collect()
}

/// Whether a definition sums products of floats over channels in windows of three points.
fn may_be_filtered(def: &Definition, index: &[Index]) -> bool {
    let folded = |form: &Affine| {
        let vars = || {
            form.terms.iter().filter(|t| (t.0 as usize) < def.vars.len() && def.vars[t.0 as usize].extent > 1)
        };
        let (axes, sums): (Vec<_>, Vec<_>) = vars().partition(|t| (t.0 as usize) < def.axes);
        let extent = |t: &(u32, i64)| def.vars[t.0 as usize].extent;
        match (axes.as_slice(), sums.as_slice()) {
            ([], [sum]) => (extent(sum) >= CHANNELS, false),
            ([axis], [sum]) => (false, (axis.1, sum.1, extent(sum)) == (1, 1, WINDOW)),
            _ => (false, false),
        }
    };
    let forms = index.iter().filter_map(Index::affine).map(folded);
    let (channels, windows): (Vec<bool>, Vec<bool>) = forms.unzip();
    let floats = def.fold.as_ref().is_some_and(|f| f.dtype == DType::F32) && def.factors().is_some();
    floats && channels.contains(&true) && windows.contains(&true)
}

impl Rim {
    fn widen(&mut self, around: impl Iterator<Item = (usize, usize)>) {
        for (d, (before, behind)) in around.enumerate() {
            (self.before[d], self.behind[d]) = (self.before[d].max(before), self.behind[d].max(behind));
        }
    }

    /// The shape of a value with its rim.
    fn shape(&self, ty: &TensorType) -> Vec<usize> {
        ty.shape.iter().enumerate().map(|(d, extent)| extent + self.before[d] + self.behind[d]).collect()
    }

    /// Puts the rim around the value, or around a copy.
    fn made(&self, lowering: &mut Lowering, outputs: &[ValueId]) {
        let Some(dims) = lowering.dims.get(&self.value).cloned() else { return };
        let of = &lowering.values[self.value as usize];
        let (from, ty) = (of.ty.clone(), TensorType::new(of.ty.dtype, self.shape(&of.ty)));
        let name = format!("{}_padded", of.name);
        if ty == from {
            return self.within(lowering, &Operand { value: self.value, ty });
        }
        let wide = |(d, dim): (usize, &Affine)| dim.offset((self.before[d] + self.behind[d]) as i64);
        let whole: Vec<Affine> = dims.iter().enumerate().map(wide).collect();
        let to = Operand { value: lowering.values.len() as ValueId, ty };
        let moved = self.moved(lowering, outputs, &to);
        let rims = self.rims(&to, &name, (&dims, &whole));
        let stages = match moved {
            Some(stages) => self.framed(lowering, stages, &to, &rims),
            None => self.copied(lowering, (&from, &to), &name, (&dims, &rims)),
        };
        let Some(stages) = stages else { return };
        lowering.stages = stages;
        lowering.dims.insert(to.value, whole);
        lowering.values.push(LoweredValue { name, ty: to.ty, constant: None });
    }

    /// Whether a load stays where it is: one that pads with something else, or as sizes say.
    fn leaves(&self, index: &[Index], fill: Option<Scalar>) -> bool {
        fill != Some(self.fill) || depends(index)
    }

    /// Windows that no size lets reach outside need no padding.
    fn within(&self, lowering: &mut Lowering, own: &Operand) {
        for stage in &mut lowering.stages {
            if let Stage::Define(def) = stage
                && def.fold.is_some()
                && let Some(inside) = self.definition(def, own, &|index, fill| self.leaves(index, fill))
            {
                *def = inside;
            }
        }
    }

    /// All stages, those that write or read the value moved to its new place; none where one of them cannot move.
    fn moved(&self, lowering: &Lowering, outputs: &[ValueId], to: &Operand) -> Option<Vec<Stage>> {
        let given = lowering.values[self.value as usize].constant.is_some();
        let written = |s: &Stage| s.writes().contains(&self.value);
        if given || outputs.contains(&self.value) || !lowering.stages.iter().any(written) {
            return None;
        }
        let moved = lowering.stages.iter().map(|stage| match stage {
            Stage::Define(def) => self.definition(def, to, &|_, _| false).map(Stage::Define),
            other => (!written(other) && !other.reads().contains(&self.value)).then(|| other.clone()),
        });
        moved.collect()
    }

    /// A definition whose loads and stores of the value go to its new place; `left` says which loads stay.
    fn definition(
        &self,
        def: &Definition,
        to: &Operand,
        left: &dyn Fn(&[Index], Option<Scalar>) -> bool,
    ) -> Option<Definition> {
        let mut possible = true;
        let mut moved = replace_loads(def, &mut |b, operand, index, fill| {
            if def.operands[operand as usize].value != self.value || left(index, fill) {
                return None;
            }
            let place: Option<Vec<Affine>> = index.iter().map(|i| i.affine().cloned()).collect();
            let counted = |f: Scalar| f == self.fill && def.fold.is_some() && !depends(index);
            possible &= place.is_some() && fill.is_none_or(counted);
            let place = place?.iter().zip(&self.before).map(|(form, &by)| form.offset(by as i64)).collect();
            Some(b.load(to.value, &to.ty, place))
        })?;
        if moved.output.value == self.value {
            moved.output = to.clone();
            moved.store.iter_mut().zip(&self.before).for_each(|(form, &by)| *form = form.offset(by as i64));
        }
        possible.then_some(moved)
    }

    /// The stages with the rim behind the last one that writes the middle.
    fn framed(
        &self,
        lowering: &Lowering,
        mut stages: Vec<Stage>,
        to: &Operand,
        rims: &[Definition],
    ) -> Option<Vec<Stage>> {
        let needed: Vec<ValueId> = rims
            .iter()
            .flat_map(Definition::sizes)
            .filter_map(|n| Some(lowering.sizes.get(n)?.value))
            .chain([to.value])
            .collect();
        let at = stages.iter().rposition(|s| s.writes().iter().any(|v| needed.contains(v)))? + 1;
        let early =
            stages[..at].iter().any(|s| s.reads().contains(&to.value) && !s.writes().contains(&to.value));
        stages.splice(at..at, rims.iter().cloned().map(Stage::Define));
        (!early).then_some(stages)
    }

    /// The stages with a copy before the first of those that read it.
    fn copied(
        &self,
        lowering: &Lowering,
        (from, to): (&TensorType, &Operand),
        name: &str,
        (dims, rims): (&[Affine], &[Definition]),
    ) -> Option<Vec<Stage>> {
        let reads = |def: &Definition| {
            let mut windows = def.exprs.iter().filter_map(|e| padded(lowering, def, e));
            windows.any(|(value, _, fill)| value == self.value && fill == self.fill)
        };
        let mut stages = lowering.stages.clone();
        let mut first = None;
        for (i, stage) in stages.iter_mut().enumerate() {
            if let Stage::Define(def) = stage
                && reads(def)
            {
                *def = self.definition(def, to, &|index, fill| self.leaves(index, fill))?;
                first = first.or(Some(i));
            }
        }
        let mut b = DefBuilder::ending(dims, &from.shape);
        let element = b.load(self.value, from, b.axes());
        let store = (0..dims.len()).map(|d| b.var(d).offset(self.before[d] as i64)).collect();
        let copy = b.finish_at(name, to.value, &to.ty, store, element);
        let at = first?;
        stages.splice(at..at, [&copy].into_iter().chain(rims).cloned().map(Stage::Define));
        Some(stages)
    }

    /// What writes the rim: for each dimension the parts before and behind, along the ones before it as wide as the
    /// middle, along those after it with their rims.
    fn rims(&self, to: &Operand, name: &str, (dims, whole): (&[Affine], &[Affine])) -> Vec<Definition> {
        let mut rims = Vec::new();
        for d in 0..dims.len() {
            let behind = dims[d].offset(self.before[d] as i64);
            for (start, points) in [(Affine::constant(0), self.before[d]), (behind, self.behind[d])] {
                if points == 0 {
                    continue;
                }
                let along = |o: usize| match o.cmp(&d) {
                    std::cmp::Ordering::Less => (dims[o].clone(), Affine::constant(self.before[o] as i64)),
                    std::cmp::Ordering::Equal => (Affine::constant(points as i64), start.clone()),
                    std::cmp::Ordering::Greater => (whole[o].clone(), Affine::constant(0)),
                };
                let (ends, starts): (Vec<Affine>, Vec<Affine>) = (0..dims.len()).map(along).unzip();
                let bounds: Vec<usize> = ends.iter().map(|e| e.range(|_| 1).1 as usize).collect();
                let mut b = DefBuilder::ending(&ends, &bounds);
                let fill = b.constant(self.fill);
                let store = starts.iter().enumerate().map(|(o, start)| b.var(o).plus(start)).collect();
                rims.push(b.finish_at(name, to.value, &to.ty, store, fill));
            }
        }
        rims
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::affine::size_var;
    use crate::base::{DType, Tensor};
    use crate::definition::{Env, interpret};
    use crate::scalar::{Fold, Op};

    const BOUND: usize = 9;

    fn size(number: usize) -> Affine {
        size_var(number, BOUND).map(Affine::var).unwrap_or_default()
    }

    /// `x[c, i] = 2 g[c, i]` of a constant, `i < n`; `y[c, j] = sum(k) x[c, step * j + k - 1 or 0]` for three points `k`,
    /// as many as fit; `z[c, j]` is the largest of the same windows, if `maxima`. Sizes: `n`, and how many windows.
    fn windows(step: i64, maxima: bool) -> Lowering {
        let mut low = Lowering::default();
        let n = low.size("n", BOUND, BOUND);
        low.sizes[0].name = Some("n".into());
        let count = low.size("count", BOUND, BOUND);
        let mut b = DefBuilder::new(&[]);
        let (last, by, one) =
            (b.index(size(0).offset(-1)), b.number(DType::I64, step as f64), b.number(DType::I64, 1.0));
        let steps = b.op(Op::Div, &[last, by]);
        let sum = b.op(Op::Add, &[steps, one]);
        low.define(b.finish("count", count, &TensorType::new(DType::I64, []), sum));
        let ty = TensorType::new(DType::F32, [2, BOUND]);
        let given: Vec<f32> = (0..2 * BOUND).map(|i| i as f32 - 7.0).collect();
        let given = low.constant("g", Tensor::new([2, BOUND], &given));
        let x = low.temporary("x", ty.clone());
        low.dims.insert(x, vec![Affine::constant(2), size(0)]);
        let over = |end: usize| DefBuilder::ending(&[Affine::constant(2), size(end)], &[2, BOUND]);
        let mut b = over(0);
        let element = b.load(given, &ty, b.axes());
        let twice = b.op(Op::Add, &[element, element]);
        low.define(b.finish("x", x, &ty, twice));
        for (name, fold) in [("y", Fold::Sum), ("z", Fold::Max)].into_iter().take(1 + usize::from(maxima)) {
            let to = low.temporary(name, ty.clone());
            low.dims.insert(to, vec![Affine::constant(2), size(1)]);
            let mut b = over(1);
            let k = b.reduce("k", 3);
            let at = vec![b.var(0), b.var(1).scaled(step).plus(&k).offset(-1)];
            let element = b.load_padded(x, &ty, at, fold.identity(DType::F32));
            let all = b.fold(fold, element);
            low.define(b.finish(name, to, &ty, all));
        }
        assert_eq!((n, x), (0, 3));
        low
    }

    /// The elements of a value within the actual size.
    fn result(low: &Lowering, length: usize, value: ValueId) -> Vec<f32> {
        let mut env = Env::new(low);
        env.set(0, &Tensor::scalar(length as i64));
        interpret(low, &mut env).unwrap();
        let all = env.get(value, &low.values[value as usize].ty).unwrap().to_vec::<f32>().unwrap();
        let count = env.get(1, &low.values[1].ty).unwrap().to_i64s().unwrap()[0] as usize;
        (0..2).flat_map(|c| all[c * BOUND..c * BOUND + count].to_vec()).collect()
    }

    /// The sums or the maxima of windows over the elements of so many columns.
    fn wanted(length: usize, step: i64, fold: fn(f32, f32) -> f32, start: f32) -> Vec<f32> {
        let windows = (length as i64 - 1) / step + 1;
        let element = |c: i64, i: i64| {
            (0..length as i64).contains(&i).then(|| 2.0 * ((c * BOUND as i64 + i) as f32 - 7.0))
        };
        let window = |c: i64, j: i64| (-1..2).filter_map(|k| element(c, step * j + k)).fold(start, fold);
        (0..2).flat_map(|c| (0..windows).map(move |j| (c, j))).map(|(c, j)| window(c, j)).collect()
    }

    fn pads(low: &Lowering) -> usize {
        let fills = |s: &Stage| match s {
            Stage::Define(d) => {
                d.exprs.iter().filter(|e| matches!(e, Expr::Load { fill: Some(_), .. })).count()
            }
            _ => 0,
        };
        low.stages.iter().map(fills).sum()
    }

    #[test]
    fn what_writes_the_middle_comes_before_the_rim() {
        for step in [1, 2, 3] {
            let before = windows(step, false);
            let mut low = before.clone();
            materialize(&mut low, &[4]);
            let names: Vec<&str> = low.values.iter().map(|v| v.name.as_str()).collect();
            assert_eq!(low.values.last().map(|v| v.ty.shape[1]), Some(BOUND + 2), "{names:?}");
            assert_eq!((pads(&before), pads(&low), low.stages.len()), (1, 0, before.stages.len() + 2));
            assert!(!low.stages.iter().any(|s| s.writes().contains(&3)), "{low}");
            for length in 1..=BOUND {
                let sums = wanted(length, step, |a, b| a + b, 0.0);
                assert_eq!(result(&low, length, 4), sums, "{step} {length}");
            }
        }
    }

    #[test]
    fn windows_with_other_padding_read_a_copy() {
        let before = windows(2, true);
        let mut low = before.clone();
        materialize(&mut low, &[4, 5]);
        assert_eq!((pads(&before), pads(&low)), (2, 0));
        for length in 1..=BOUND {
            assert_eq!(result(&low, length, 4), wanted(length, 2, |a, b| a + b, 0.0), "{length}");
            assert_eq!(result(&low, length, 5), wanted(length, 2, f32::max, f32::NEG_INFINITY), "{length}");
        }
    }

    /// What the caller reads stays dense.
    #[test]
    fn outputs_keep_their_place() {
        let mut low = windows(1, false);
        materialize(&mut low, &[3, 4]);
        assert!(low.stages.iter().any(|s| s.writes().contains(&3)));
        assert_eq!(result(&low, 5, 4), wanted(5, 1, |a, b| a + b, 0.0));
    }
}
