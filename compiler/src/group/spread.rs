//! Filters of few single channels over bytes: points fill lanes beside channels.
//!
//! A window of a filter of its own for each of three channels is computed in lanes along the channels, of which three
//! are full. Where neighbouring points lie side by side, as their sums do, some points and the channels are one axis
//! in memory; it is one in the constants, too, once these are repeated for each of the points:
//! ```text
//! y[x, c]             =  sum(k) d[x + k, c] * w[k, c]
//! y[16 * xo + xi, c]  =  sum(k) d[16 * xo + xi + k, c] * repeated[xi, k, c]
//! ```
//! That is 48 channels for all that follows, in chains of strips as elsewhere: it is done once these are formed.
//! Convolutions that make few channels of all there are: [`super::spread_windows`].

use super::points::{Points, factors, plain, points};
use super::rewrite::{replace_loads, split_vars, with_vars};
use super::spread_windows::Window;
use super::turn::steps;
use crate::base::{Affine, Tensor, TensorType};
use crate::definition::{Definition, Expr, LoweredValue, Lowering, Stage, ValueId};
use crate::schedule::linear::Layout;
use std::collections::HashMap;

/// What is repeated: a constant, so many times.
type Repeated = HashMap<(ValueId, usize), ValueId>;

/// Lets points fill the lanes of vectors that channels leave empty.
pub fn spread(lowering: &mut Lowering, layouts: &mut Vec<Layout>, lanes: usize) {
    let mut stages = std::mem::take(&mut lowering.stages);
    within(lowering, &mut stages, (layouts, &mut Repeated::new()), lanes);
    lowering.stages = stages;
}

fn within(
    lowering: &mut Lowering,
    stages: &mut [Stage],
    (layouts, repeated): (&mut Vec<Layout>, &mut Repeated),
    lanes: usize,
) {
    for stage in stages {
        match stage {
            Stage::Define(def) => {
                let values = &lowering.values;
                let points =
                    filters(values, def, layouts, lanes).map(|points| Spread { points, window: None });
                let points = points.or_else(|| {
                    let (points, window) = Window::of(values, def, layouts, lanes)?;
                    Some(Spread { points, window: Some(window) })
                });
                if let Some(new) = points.and_then(|p| p.made(lowering, def, (layouts, repeated))) {
                    *def = new;
                }
            }
            Stage::Repeat(repeat) => within(lowering, &mut repeat.body, (layouts, repeated), lanes),
            Stage::Strips(strips) => within(lowering, &mut strips.body, (layouts, repeated), lanes),
            Stage::Routine(_) | Stage::Reshape { .. } => {}
        }
    }
}

/// The points beside the channels of filters of single channels.
fn filters(values: &[LoweredValue], def: &Definition, layouts: &[Layout], lanes: usize) -> Option<Points> {
    let [data, weights] = factors(values, def)?;
    let step = |v: u32| {
        let [data, weights] = [&data, &weights].map(|f| steps(&f.1, &layouts[f.0 as usize], v));
        (data, weights, steps(&def.store, &layouts[def.output.value as usize], v))
    };
    let extent = |v: u32| def.vars[v as usize].extent;
    let mut axes = (0..def.axes as u32).filter(|&v| extent(v) > 1);
    let channels = axes.clone().find(|&v| matches!(step(v), (1, 1.., 1)))?;
    let width = extent(channels) as i64;
    let axis = axes.find(|&v| step(v) == (width, 0, width))?;
    let points = points(extent(channels), extent(axis), lanes)?;
    Some(Points { channels, axis, points })
}

/// What fills lanes.
struct Spread {
    points: Points,
    /// The window that they share, where each reads all channels.
    window: Option<Window>,
}

impl Spread {
    /// The definition over repeated constants.
    fn made(
        &self,
        lowering: &mut Lowering,
        def: &Definition,
        (layouts, repeated): (&mut Vec<Layout>, &mut Repeated),
    ) -> Option<Definition> {
        let Spread { points: Points { channels, axis, points }, ref window } = *self;
        let def = &window.as_ref().map_or_else(|| def.clone(), |w| w.longer(def, points));
        let mut parts = vec![None; def.vars.len()];
        let pieces = def.vars[axis as usize].extent / points;
        parts[axis as usize] = Some(vec![(0, points as i64, pieces), (1, 1, points)]);
        let split = split_vars(def, &parts);
        let inner = split.part[axis as usize][&1];
        let [(channels, 1)] = split.map[channels as usize].terms[..] else { return None };
        let cut = with_vars(def, &split)?;
        let last = cut.vars.len() as u32 - 1;
        let wide = match window {
            Some(window) => Some(window.wide(lowering, layouts, points)?),
            None => None,
        };
        let along = |e: &Expr| {
            let load = plain(&cut, e).filter(|l| window.as_ref().is_none_or(|w| l.0 != w.weights))?;
            load.1.iter().any(|form| form.coefficient(channels) != 0).then(|| (load.0, load.2.clone()))
        };
        let follow: Vec<(ValueId, TensorType)> = cut.exprs.iter().filter_map(along).collect();
        for (value, ty) in follow {
            let dense = layouts[value as usize] == Layout::dense(&ty.shape);
            let Some(tensor) = lowering.values[value as usize].constant.clone().filter(|_| dense) else {
                continue;
            };
            repeated.entry((value, points)).or_insert_with(|| {
                let ty = TensorType::new(tensor.ty.dtype, [vec![points], tensor.ty.shape.clone()].concat());
                layouts.push(Layout::dense(&ty.shape));
                let name = format!("{}_repeated", lowering.values[value as usize].name);
                lowering.constant(name, Tensor { ty, data: tensor.data.repeat(points).into() })
            });
        }
        replace_loads(&cut, &mut |b, operand, index, _| {
            let index: Vec<Affine> = index.iter().map(|i| i.affine().cloned()).collect::<Option<_>>()?;
            let value = cut.operands[operand as usize].value;
            if let (Some(window), Some(wide)) = (window, &wide) {
                let ty = (&cut.operands[operand as usize].ty, wide);
                if let Some(load) = window.load(b, (value, ty), &index, (inner, last)) {
                    return Some(load);
                }
            }
            let to = *repeated.get(&(value, points))?;
            let follows = index.iter().any(|form| form.coefficient(channels) != 0);
            let ty = lowering.values[to as usize].ty.clone();
            follows.then(|| b.load(to, &ty, [vec![Affine::var(inner)], index].concat()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::DType;
    use crate::definition::{DefBuilder, verify};
    use crate::group::tests::result;
    use crate::scalar::{Fold, Op};

    /// Filters of 3 rows of `points` sums of `channels` channels, `stride` points apart, with a number added to each.
    fn filters(channels: usize, points: usize, stride: usize) -> Lowering {
        let numbers = |n: usize| (0..n).map(|i| (i * 7 % 11) as u8).collect::<Vec<u8>>();
        let from = TensorType::new(DType::U8, [(points - 1) * stride + 3, channels]);
        let x = Tensor::new(from.shape.clone(), &numbers(from.elems()));
        let w = Tensor::new([channels, 3], &numbers(3 * channels));
        let y = TensorType::new(DType::I32, [points, channels]);
        let mut low = Lowering::default();
        let given = low.constant("given", x);
        let weights = low.constant("w", w.clone());
        let to = low.temporary("y", y.clone());
        let data = low.temporary("x", from.clone());
        let bias = Tensor::new([channels], &(0..channels as i32).collect::<Vec<i32>>());
        let more = low.constant("bias", bias.clone());
        let mut b = DefBuilder::new(&from.shape);
        let axes = b.axes();
        let element = b.load(given, &from, axes);
        low.define(b.finish("x", data, &from, element));
        let mut b = DefBuilder::new(&y.shape);
        let k = b.reduce("k", 3);
        let at = vec![b.var(0).scaled(stride as i64).plus(&k), b.var(1)];
        let of = vec![b.var(1), k];
        let (v, f) = (b.load(data, &from, at), b.load(weights, &w.ty, of));
        let (v, f) = (b.cast(DType::I32, v), b.cast(DType::I32, f));
        let product = b.op(Op::Mul, &[v, f]);
        let sum = b.fold(Fold::Sum, product);
        let channel = vec![b.var(1)];
        let more = b.load(more, &bias.ty, channel);
        let sum = b.op(Op::Add, &[sum, more]);
        low.define(b.finish("filters", to, &y, sum));
        low
    }

    /// The points that are spread, if any are.
    fn spread_points(channels: usize, points: usize, stride: usize, lanes: usize) -> Option<usize> {
        let mut low = filters(channels, points, stride);
        let before = result(&low);
        let mut layouts: Vec<Layout> = low.values.iter().map(|v| Layout::dense(&v.ty.shape)).collect();
        let values = low.values.len();
        spread(&mut low, &mut layouts, lanes);
        verify(&low).unwrap();
        assert_eq!(layouts.len(), low.values.len());
        assert_eq!(before, result(&low));
        let repeated = &low.values[values..];
        assert!(repeated.is_empty() || repeated.len() == 2);
        repeated.first().map(|v| v.ty.shape[0])
    }

    #[test]
    fn points_fill_lanes_that_few_channels_leave_empty() {
        for (channels, points, lanes, spread) in [
            (3, 48, 16, 16),
            (3, 48, 8, 8),
            (6, 24, 16, 8),
            (8, 48, 16, 2),
            (12, 24, 8, 2),
            (3, 48, 4, 4),
            (5, 49, 16, 7),
        ] {
            assert_eq!(spread_points(channels, points, 1, lanes), Some(spread), "{channels} {lanes}");
        }
    }

    #[test]
    fn other_filters_stay() {
        // Full vectors, points that are not neighbours, points that cannot be cut.
        for (channels, points, stride, lanes) in
            [(16, 48, 1, 16), (3, 48, 2, 16), (3, 47, 1, 16), (24, 8, 1, 8)]
        {
            assert_eq!(spread_points(channels, points, stride, lanes), None, "{channels}");
        }
    }
}
