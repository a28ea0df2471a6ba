//! Convolutions of bytes that make few channels: points fill lanes beside these.
//!
//! What makes eight channels leaves half of sixteen lanes empty, in its products and in all that follows. Where
//! neighbouring points lie side by side, some of them and the channels are one axis, whose window is that of all of
//! them, with zeros among the weights where a point has none:
//! ```text
//! y[x, o]           =  sum(k, c) d[s * x + k, c]           * w[o, k, c]
//! y[2 * xo + xi, o] =  sum(k, c) d[2 * s * xo + k, c] * wide[xi, o, k, c]     wide[xi, o, k, c] = w[o, k - s * xi, c]
//! ```
//! Two points of a window of three are four points for both, in place of six.

use super::points::{MOST, Plain, Points, WORD, factors};
use super::rewrite::plain_var;
use super::turn::steps;
use crate::base::{Affine, Tensor, TensorType, row_major_strides};
use crate::definition::{self, DefBuilder, Definition, Expr, ExprId, LoweredValue, Lowering, ValueId};
use crate::schedule::linear::Layout;

/// Channels that single points fill lanes with well enough: sums of fewer are split over lanes.
const LEAST: usize = 4;
/// What finishing a vector takes, in products of a word.
const FINISH: usize = 4;
/// The work that may be left of so many parts.
const WORTH: (usize, usize) = (4, 5);

/// The window that neighbouring points share.
pub(super) struct Window {
    data: ValueId,
    /// The constants that the data is multiplied by.
    pub weights: ValueId,
    /// The variable along the window; points that read one point alone have none yet.
    along: Option<u32>,
    /// The dimension of the data along which it lies, and that of the weights (behind all others where it has none).
    dims: [usize; 2],
    /// The dimension of the weights that the channels are.
    channels: usize,
    /// Points of the window from one output to the next one, and elements of the data from one such point to another.
    apart: usize,
    step: i64,
}

impl Window {
    /// The points beside the channels of a convolution, and the window that they share.
    pub fn of(
        values: &[LoweredValue],
        def: &Definition,
        layouts: &[Layout],
        lanes: usize,
    ) -> Option<(Points, Window)> {
        let [data, weights] = factors(values, def)?;
        let extent = |v: u32| def.vars[v as usize].extent;
        let step = |v: u32| {
            let [data, weights] = [&data, &weights].map(|f| steps(&f.1, &layouts[f.0 as usize], v));
            (data, weights, steps(&def.store, &layouts[def.output.value as usize], v))
        };
        let mut axes = (0..def.axes as u32).filter(|&v| extent(v) > 1);
        let channels = axes.clone().find(|&v| matches!(step(v), (0, 1.., 1)))?;
        let width = extent(channels);
        let axis = axes.find(|&v| matches!(step(v), (1.., 0, out) if out == width as i64))?;
        let window = Window::along(def, (&data, &weights), (channels, axis))?;
        let once = |value: ValueId| {
            let of = |e: &&Expr| matches!(e, Expr::Load { operand, .. } if def.operands[*operand as usize].value == value);
            def.exprs.iter().filter(of).count() == 1
        };
        let dense = layouts[weights.0 as usize] == Layout::dense(&weights.2.shape);
        if width < LEAST || !dense || !once(data.0) || !once(weights.0) {
            return None;
        }
        let single = window.along.map_or(1, extent);
        let beside = def.vars[def.axes..].iter().map(|v| v.extent).product::<usize>() / single;
        // The work of so many points at once.
        let work = |points: usize| {
            let words = (beside * window.length(single, points)).div_ceil(WORD);
            (points * width).div_ceil(lanes) * (words + FINISH)
        };
        let possible = |&n: &usize| extent(axis).is_multiple_of(n) && n * width <= MOST;
        let points = (2..=extent(axis)).filter(possible).min_by_key(|&n| work(n) * MOST / n)?;
        let pays = work(points) * WORTH.1 <= points * work(1) * WORTH.0;
        pays.then_some((Points { channels, axis, points }, window))
    }

    /// The window of the points along `axis`.
    fn along(
        def: &Definition,
        (data, weights): (&Plain, &Plain),
        (channels, axis): (u32, u32),
    ) -> Option<Window> {
        let place = |index: &[Affine], v: u32| {
            let mut dims = (0..index.len()).filter(|&d| index[d].coefficient(v) != 0);
            dims.next().filter(|_| dims.next().is_none())
        };
        let at = place(&data.1, axis)?;
        let stride = data.1[at].coefficient(axis);
        let long = |t: &&(u32, i64)| t.0 != axis && def.vars.get(t.0 as usize).is_none_or(|v| v.extent > 1);
        let mut others = data.1[at].terms.iter().filter(long);
        let (along, step) = match (others.next(), others.next()) {
            (None, _) => (None, stride),
            (Some(&(v, step)), None) if v as usize >= def.axes && (v as usize) < def.vars.len() => {
                (Some(v), step)
            }
            _ => return None,
        };
        let of_weights = match along {
            Some(v) => place(&weights.1, v).filter(|&d| plain_var(&weights.1[d]) == Some(v))?,
            None => weights.1.len(),
        };
        let of_channels = place(&weights.1, channels)?;
        let alone = along.is_none_or(|v| place(&data.1, v) == Some(at));
        let plain = plain_var(&weights.1[of_channels]) == Some(channels);
        (stride > 0 && step > 0 && stride % step == 0 && alone && plain).then_some(Window {
            data: data.0,
            weights: weights.0,
            along,
            dims: [at, of_weights],
            channels: of_channels,
            apart: (stride / step) as usize,
            step,
        })
    }

    /// Points of the window that so many outputs share.
    fn length(&self, single: usize, points: usize) -> usize {
        single + self.apart * (points - 1)
    }

    /// The definition with a window of so many outputs, of which each still reads from its own place on.
    pub fn longer(&self, def: &Definition, points: usize) -> Definition {
        let mut def = def.clone();
        match self.along {
            Some(v) => {
                let along = &mut def.vars[v as usize].extent;
                *along = self.length(*along, points);
            }
            None => {
                let mut name = String::from("k");
                while def.vars.iter().any(|v| v.name == name) {
                    name.push('_');
                }
                def.vars.push(definition::Var { name, extent: self.length(1, points), size: None });
            }
        }
        def
    }

    /// The weights of all outputs, one more dimension before that of the channels.
    pub fn wide(
        &self,
        lowering: &mut Lowering,
        layouts: &mut Vec<Layout>,
        points: usize,
    ) -> Option<(ValueId, TensorType)> {
        let value = &lowering.values[self.weights as usize];
        let tensor = value.constant.as_ref().filter(|t| t.ty.dtype.size() == 1)?;
        let mut shape = tensor.ty.shape.clone();
        if self.along.is_none() {
            shape.push(1);
        }
        let mut wide = shape.clone();
        wide[self.dims[1]] = self.length(shape[self.dims[1]], points);
        wide.insert(self.channels, points);
        let ty = TensorType::new(tensor.ty.dtype, wide);
        let mut strides = row_major_strides(&ty.shape);
        let first = strides.remove(self.channels);
        let point = first + self.apart as i64 * strides[self.dims[1]];
        let mut data = vec![0; ty.elems()];
        for (i, &byte) in tensor.data.iter().enumerate() {
            let (mut left, mut at) = (i, 0);
            for (extent, stride) in shape.iter().zip(&strides).rev() {
                at += (left % extent) as i64 * stride;
                left /= extent;
            }
            (0..points as i64).for_each(|n| data[(at + n * point) as usize] = byte);
        }
        let name = format!("{}_wide", value.name);
        layouts.push(Layout::dense(&ty.shape));
        let value = lowering.constant(name, Tensor { ty: ty.clone(), data: data.into() });
        Some((value, ty))
    }

    /// A load of the data or of the weights, where `inner` counts the outputs that share the window, and `last` is the
    /// last variable.
    pub fn load(
        &self,
        b: &mut DefBuilder,
        (value, (ty, wide)): (ValueId, (&TensorType, &(ValueId, TensorType))),
        index: &[Affine],
        (inner, last): (u32, u32),
    ) -> Option<ExprId> {
        let mut index = index.to_vec();
        if value == self.data {
            let form = &mut index[self.dims[0]];
            let by = form.coefficient(inner);
            form.add_term(inner, -by);
            if self.along.is_none() {
                form.add_term(last, self.step);
            }
            return Some(b.load(value, ty, index));
        }
        if value != self.weights {
            return None;
        }
        if self.along.is_none() {
            index.push(Affine::var(last));
        }
        index.insert(self.channels, Affine::var(inner));
        Some(b.load(wide.0, &wide.1, index))
    }
}

#[cfg(test)]
mod tests {
    use super::super::spread::spread;
    use super::*;
    use crate::base::DType;
    use crate::definition::verify;
    use crate::group::tests::result;
    use crate::scalar::{Fold, Op};

    /// `outputs` sums over windows of `kernel` points of `channels` channels, 24 windows `stride` points apart, with a
    /// number added to each. Windows of one point have no variable along them.
    fn windows(outputs: usize, channels: usize, kernel: usize, stride: usize) -> Lowering {
        let numbers = |n: usize| (0..n).map(|i| (i * 7 % 11) as u8).collect::<Vec<u8>>();
        let from = TensorType::new(DType::U8, [23 * stride + kernel, channels]);
        let single = kernel == 1;
        let shape = if single { vec![channels, outputs] } else { vec![outputs, kernel, channels] };
        let w = Tensor::new(shape, &numbers(outputs * kernel * channels));
        let y = TensorType::new(DType::I32, [24, outputs]);
        let mut low = Lowering::default();
        let given = low.constant("given", Tensor::new(from.shape.clone(), &numbers(from.elems())));
        let weights = low.constant("w", w.clone());
        let bias = Tensor::new([outputs], &(0..outputs as i32).collect::<Vec<i32>>());
        let more = low.constant("bias", bias.clone());
        let (data, to) = (low.temporary("x", from.clone()), low.temporary("y", y.clone()));
        let mut b = DefBuilder::new(&from.shape);
        let axes = b.axes();
        let element = b.load(given, &from, axes);
        low.define(b.finish("x", data, &from, element));
        let mut b = DefBuilder::new(&y.shape);
        let k = if single { Affine::constant(0) } else { b.reduce("k", kernel) };
        let c = b.reduce("c", channels);
        let at = vec![b.var(0).scaled(stride as i64).plus(&k), c.clone()];
        let of = if single { vec![c, b.var(1)] } else { vec![b.var(1), k, c] };
        let (v, f) = (b.load(data, &from, at), b.load(weights, &w.ty, of));
        let (v, f) = (b.cast(DType::I32, v), b.cast(DType::I32, f));
        let product = b.op(Op::Mul, &[v, f]);
        let sum = b.fold(Fold::Sum, product);
        let channel = vec![b.var(1)];
        let more = b.load(more, &bias.ty, channel);
        let sum = b.op(Op::Add, &[sum, more]);
        low.define(b.finish("windows", to, &y, sum));
        low
    }

    #[test]
    fn points_fill_lanes_beside_the_few_channels_of_a_convolution() {
        let cases = [
            // Outputs, channels, points of a window, stride, lanes: points that share a window.
            ((8, 3, 3, 1), 16, Some(2)),
            ((8, 3, 3, 2), 16, Some(2)),
            ((4, 16, 3, 1), 16, Some(4)),
            ((4, 16, 3, 1), 8, Some(2)),
            ((8, 8, 1, 1), 16, Some(2)),
            ((8, 8, 1, 2), 16, Some(2)),
            // Lanes are full, a window twice as long for two points alone, one channel for each lane of a sum.
            ((8, 16, 3, 1), 8, None),
            ((16, 16, 3, 1), 16, None),
            ((8, 64, 1, 1), 16, None),
            ((1, 16, 3, 1), 16, None),
        ];
        for ((outputs, channels, kernel, stride), lanes, points) in cases {
            let mut low = windows(outputs, channels, kernel, stride);
            let before = result(&low);
            let mut layouts: Vec<Layout> = low.values.iter().map(|v| Layout::dense(&v.ty.shape)).collect();
            let values = low.values.len();
            spread(&mut low, &mut layouts, lanes);
            verify(&low).unwrap_or_else(|e| panic!("{e}: {low}"));
            assert_eq!(layouts.len(), low.values.len());
            assert_eq!(before, result(&low));
            let wide = low.values[values..].iter().find(|v| v.name == "w_wide");
            let shared = wide.map(|v| v.ty.shape[usize::from(kernel == 1)]);
            assert_eq!(shared, points, "{outputs} {channels} {kernel} {stride} {lanes}");
        }
    }
}
