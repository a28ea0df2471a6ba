//! Exact convolutions of quantized tensors, as products of bytes wherever they can be.
//!
//! `sum((x - zx) * (w - zw))` over a window is `sum(x * v) - zx * sum(v) - c * (sum(x) - n * zx)`: `v` are the
//! weights as signed bytes, `c` what they are still to be lowered by (nothing, where `w - zw` fits a byte),
//! and `n` the elements of a window, whose sum is the same for all output channels. Data whose zero point
//! is known only at run time are framed by it where windows reach outside, and so are data of any size: what lies
//! behind them cannot be told from them four bytes at a time.

use super::conv::{self, Point, Shape};
use super::integer::{Shifted, Terms, Zero, known, shifted, subtracted};
use super::window::Slide;
use crate::base::{Affine, DType, Tensor};
use crate::definition::{DefBuilder, ExprId, Index};
use crate::error::Result;
use crate::ops::emit::{Arith, Emit, Val, require};
use crate::ops::frame::framed;
use crate::scalar::{Fold, Scalar};

/// Multiplications for each addition of the sums over windows, from which on these are worth what they take.
const SHARED: usize = 8;

/// The operands of an integer convolution.
pub struct Operands {
    /// Data `[N, C, D...]`.
    pub x: Val,
    /// Its zero point: one.
    pub x_zero: Zero,
    /// Weights `[M, C/groups, K...]`.
    pub w: Val,
    /// Their zero point: one, or one per output channel.
    pub w_zero: Zero,
    /// Added to the sum, one number per output channel.
    pub bias: Option<Val>,
}

/// Defines a convolution of quantized tensors; `finish` gets the exact sum in i32.
pub fn define_conv(
    e: &mut Emit,
    out: &Val,
    shape: &Shape,
    operands: Operands,
    finish: impl FnOnce(&mut DefBuilder, Point) -> ExprId,
) -> Result<()> {
    let Operands { x, x_zero, w, w_zero, bias } = operands;
    let w = weights(e, w, w_zero, shape)?;
    let data = Data::new(e, x, x_zero, shape, w.value.dtype().size() == 1)?;
    let correction = channel_sums(e, &w, &data.zero);
    let terms = Terms::new(e, bias, correction);
    let left = Left::new(e, &data, w.left);
    let Data { value: x, shape, fill, .. } = data;
    let w = w.value;
    conv::define(
        e,
        out,
        &shape,
        |b, at_x, at_w| {
            let x = load(b, &x, at_x, fill);
            let (x, w) = (b.cast(DType::I32, x), b.elem(&w, at_w, DType::I32));
            b.times(x, w)
        },
        |b, point| {
            let acc = terms.apply(b, point.acc, point.channel);
            let point = Point { acc, ..point };
            let acc = left.map_or(acc, |left| left.apply(b, &point));
            finish(b, Point { acc, ..point })
        },
    );
    Ok(())
}

/// The weights less their zero point, or as much of it as bytes can hold.
fn weights(e: &mut Emit, w: Val, zero: Zero, shape: &Shape) -> Result<Shifted> {
    let channels = w.shape()[0];
    let per_channel = (w.ty.elems() / channels.max(1)).max(1);
    let elems = known(e, &w);
    let fits =
        |n: usize| require(n == 1 || n == channels, || "the weights' zero point has a wrong length".into());
    let zero = match (zero, elems) {
        (Zero::None, elems) => return Ok(Shifted { value: w, elems, left: vec![] }),
        (Zero::Known(zero), Some(elems)) => {
            fits(zero.len())?;
            // Channels are summed once, then windows of these sums.
            let points = per_channel / shape.inner.max(1);
            let bytes = per_channel * shape.outer >= SHARED * (shape.inner + points - 1);
            return Ok(shifted(e, &w, &elems, &zero, bytes, |i| i / per_channel));
        }
        (Zero::Known(zero), None) => e.constant("zero", Tensor::new([zero.len()], &zero)),
        (Zero::Value(zero), _) => zero,
    };
    fits(zero.ty.elems())?;
    let value = subtracted(e, &w, &zero, |b| zero_index(&zero, b.var(0)));
    Ok(Shifted { value, elems: None, left: vec![] })
}

/// The index of a zero point with one element, or with one per index of `axis`.
fn zero_index(zero: &Val, axis: Affine) -> Vec<Affine> {
    let mut index = vec![Affine::constant(0); zero.rank()];
    if zero.ty.elems() > 1
        && let Some(last) = index.last_mut()
    {
        *last = axis;
    }
    index
}

/// The data of a convolution.
struct Data {
    value: Val,
    /// What is still to be subtracted from them.
    zero: Zero,
    /// The convolution of `value`.
    shape: Shape,
    /// What lies outside of them, where windows reach there.
    fill: Option<Scalar>,
}

impl Data {
    /// Data as bytes, where they and the weights are some.
    fn new(e: &mut Emit, x: Val, zero: Zero, shape: &Shape, bytes: bool) -> Result<Data> {
        let moves = e.ctx.may_move(0, 1);
        let one = |n: usize| require(n == 1, || "the data's zero point must be one number".into());
        let (mut value, mut shape, mut left) = (x, shape.clone(), Zero::None);
        match zero {
            Zero::None => {}
            Zero::Known(zero) => {
                one(zero.len())?;
                left = Zero::Known(zero);
            }
            Zero::Value(zero) => {
                one(zero.ty.elems())?;
                match bytes && value.dtype().size() == 1 {
                    true => {
                        value = within(e, value, &zero, moves, &mut shape);
                        left = Zero::Value(zero);
                    }
                    false => value = subtracted(e, &value, &zero, |_| vec![Affine::constant(0); zero.rank()]),
                }
            }
        }
        let fill = match &left {
            Zero::Known(zero) => zero[0],
            _ => 0,
        };
        if value.dtype().size() <= 2 && moves {
            let outside = e.table("outside", value.dtype(), &[], &[fill as f64]);
            value = within(e, value, &outside, moves, &mut shape);
        }
        let fill = reaches(&shape).then(|| Scalar::from_i64(value.dtype(), fill));
        Ok(Data { value, zero: left, shape, fill })
    }
}

/// Whether windows reach outside of the data.
fn reaches(shape: &Shape) -> bool {
    shape.slides.iter().any(|s| (s.before, s.after) != (0, 0))
}

/// An element, or `fill` outside.
fn load(b: &mut DefBuilder, x: &Val, at: &[Affine], fill: Option<Scalar>) -> ExprId {
    b.load_at(x.id, &x.ty, at.iter().cloned().map(Index::Affine).collect(), fill)
}

/// Data framed by their zero point as far as windows reach, of which no window reaches outside. Where extents move, the
/// frame is the same for all of them: as far as windows reach for any.
fn within(e: &mut Emit, x: Val, zero: &Val, moves: bool, shape: &mut Shape) -> Val {
    let frame = |slide: &Slide| if moves { slide.most } else { (slide.before, slide.after) };
    if shape.slides.iter().all(|slide| frame(slide) == (0, 0)) {
        return x;
    }
    let (mut before, mut whole) = (vec![0; 2], x.shape()[..2].to_vec());
    for slide in &mut shape.slides {
        let sides = frame(slide);
        before.push(sides.0 as i64);
        slide.input += sides.0 + sides.1;
        slide.skipped = sides.0 - slide.before;
        (slide.before, slide.after, slide.most) = (0, 0, (0, 0));
        whole.push(slide.input);
    }
    let out = e.temp("framed", x.dtype(), whole);
    framed(e, &x, &out, &before, zero);
    out
}

/// `zero * sum of the weights` of each output channel, where that is not zero.
fn channel_sums(e: &mut Emit, w: &Shifted, zero: &Zero) -> Option<Val> {
    let channels = w.value.shape()[0];
    let sums = w.elems.as_ref().map(|elems| {
        let row = elems.len() / channels.max(1);
        (0..channels).map(|c| elems[c * row..][..row].iter().sum::<i64>()).collect::<Vec<_>>()
    });
    let constant = |e: &mut Emit, what: &str, sums: &[i64], by: i64| {
        let scaled: Vec<i32> = sums.iter().map(|s| s.wrapping_mul(by) as i32).collect();
        e.constant(what, Tensor::new([channels], &scaled))
    };
    let sums = match (zero, sums) {
        (Zero::None, _) => return None,
        (Zero::Known(zero), Some(sums)) => return Some(constant(e, "correction", &sums, zero[0])),
        (_, Some(sums)) => constant(e, "sums", &sums, 1),
        (_, None) => {
            let axes: Vec<usize> = (1..w.value.rank()).collect();
            let (w, shape) = (&w.value, w.value.shape());
            let sums =
                e.reduce("sums", shape, &axes, Fold::Sum, |b, i| b.elem(w, i, DType::I32), |_, acc| acc);
            e.reshape(&sums, [channels])
        }
    };
    Some(e.map("correction", DType::I32, [channels], |b| {
        let sums = b.broadcast(&sums, DType::I32);
        let zero = zero_of(b, zero);
        b.times(sums, zero)
    }))
}

/// A zero point as a number.
fn zero_of(b: &mut DefBuilder, zero: &Zero) -> ExprId {
    match zero {
        Zero::None => b.number(DType::I32, 0.0),
        Zero::Known(zero) => b.constant(Scalar::from_i64(DType::I32, zero[0])),
        Zero::Value(zero) => b.elem(zero, &vec![Affine::constant(0); zero.rank()], DType::I32),
    }
}

/// What the weights are still to be lowered by, with what that takes off each sum.
struct Left {
    /// One number per output channel; none where `windows` are multiplied by the one number.
    channels: Option<Val>,
    /// `sum(x) - n * zx` over each window, `[N, groups, O...]`.
    windows: Val,
}

impl Left {
    fn new(e: &mut Emit, data: &Data, left: Vec<i64>) -> Option<Left> {
        let one = match left[..] {
            [] => return None,
            [one] => Some(one),
            _ => None,
        };
        let (x, shape) = (&data.value, &data.shape);
        let (groups, inner) = (shape.groups, shape.inner);
        let count = inner * shape.slides.iter().map(|s| s.kernel).product::<usize>();
        let finished = |b: &mut DefBuilder, sum: ExprId| {
            let zero = zero_of(b, &data.zero);
            let count = b.constant(Scalar::from_i64(DType::I32, count as i64));
            let whole = b.times(zero, count);
            let above = b.minus(sum, whole);
            match one {
                Some(one) => {
                    let one = b.constant(Scalar::from_i64(DType::I32, one));
                    b.times(above, one)
                }
                None => above,
            }
        };
        let points = shape.slides.iter().all(|s| s.kernel == 1 && s.stride == 1 && s.before + s.after == 0);
        let sums = |e: &mut Emit, finish: &dyn Fn(&mut DefBuilder, ExprId) -> ExprId| {
            let split = [&[x.shape()[0], groups, inner], &x.shape()[2..]].concat();
            let element = |b: &mut DefBuilder, i: &[Affine]| {
                let channel = i[1].scaled(inner as i64).plus(&i[2]);
                let at = [&[i[0].clone(), channel], &i[3..]].concat();
                b.elem(x, &at, DType::I32)
            };
            let sums = e.reduce("channels", &split, &[2], Fold::Sum, element, |b, acc| finish(b, acc));
            let joined = [&[x.shape()[0], groups], &x.shape()[2..]].concat();
            e.reshape(&sums, joined)
        };
        let windows = match points {
            true => sums(e, &finished),
            false => {
                let sums = sums(e, &|_, acc| acc);
                let one =
                    Shape { groups, batch: shape.batch, inner: 1, outer: 1, slides: shape.slides.clone() };
                let windows = e.temp("windows", DType::I32, one.output());
                let fill = match &data.zero {
                    Zero::Known(zero) => zero[0].wrapping_mul(inner as i64),
                    _ => 0,
                };
                let fill = data.fill.map(|_| Scalar::from_i64(DType::I32, fill));
                let element = |b: &mut DefBuilder, at: &[Affine], _: &[Affine]| load(b, &sums, at, fill);
                conv::define(e, &windows, &one, element, |b, point| finished(b, point.acc));
                windows
            }
        };
        let left: Vec<i32> = left.iter().map(|&c| c as i32).collect();
        let channels = one.is_none().then(|| e.constant("left", Tensor::new([left.len()], &left)));
        Some(Left { channels, windows })
    }

    /// A sum less its share.
    fn apply(&self, b: &mut DefBuilder, point: &Point) -> ExprId {
        let mut at = point.index.to_vec();
        at[1] = point.group.clone();
        let mut share = b.elem(&self.windows, &at, DType::I32);
        if let Some(channels) = &self.channels {
            let left = b.elem(channels, std::slice::from_ref(point.channel), DType::I32);
            share = b.times(share, left);
        }
        b.minus(point.acc, share)
    }
}

#[cfg(test)]
mod tests {
    use crate::base::{DType, Tensor, TensorType};
    use crate::graph::Attr;
    use crate::ops::nn::tests::{run, run_computed};

    fn bytes(shape: &[usize], step: usize, dtype: DType) -> (Tensor, Vec<i64>) {
        let data: Vec<u8> = (0..shape.iter().product()).map(|i: usize| (i * step % 251) as u8).collect();
        let signed = |&b: &u8| if dtype == DType::I8 { i64::from(b as i8) } else { i64::from(b) };
        let values = data.iter().map(signed).collect();
        (Tensor { ty: TensorType::new(dtype, shape), data: data.into() }, values)
    }

    fn zeros(list: &[i64], dtype: DType) -> Tensor {
        let data: Vec<u8> = list.iter().map(|&z| z as u8).collect();
        let shape = if list.len() == 1 { vec![] } else { vec![list.len()] };
        Tensor { ty: TensorType::new(dtype, shape), data: data.into() }
    }

    /// ConvInteger with given zero points, of which `computed` inputs are known at run time only, against Conv
    /// of the numbers above the zero points.
    fn agrees(
        x: (DType, i64),
        w: (DType, &[i64]),
        (channels, groups, kernel): (usize, usize, usize),
        computed: &[usize],
    ) {
        let shape = [2, 6, 5, 7];
        let weights = [channels, 6 / groups, kernel, kernel];
        let ((data, xs), (filter, ws)) = (bytes(&shape, 37, x.0), bytes(&weights, 91, w.0));
        let attrs = [
            ("group", Attr::Int(groups as i64)),
            ("strides", Attr::Ints(vec![2, 1])),
            ("pads", Attr::Ints(vec![1, 0, 2, 1])),
        ];
        let inputs = [data, filter, zeros(&[x.1], x.0), zeros(w.1, w.0)].map(Some);
        let got = run_computed("", "ConvInteger", &attrs, &inputs, computed, 1);
        let row = ws.len() / channels;
        let above = |list: &[i64], zero: &dyn Fn(usize) -> i64| -> Vec<f32> {
            list.iter().enumerate().map(|(i, v)| (v - zero(i)) as f32).collect()
        };
        let plain = [
            Some(Tensor::new(shape, &above(&xs, &|_| x.1))),
            Some(Tensor::new(weights, &above(&ws, &|i| w.1[if w.1.len() == 1 { 0 } else { i / row }]))),
        ];
        let wanted = run("", "Conv", &attrs, &plain, 1);
        let wanted: Vec<i32> = wanted[0].to_vec::<f32>().unwrap().into_iter().map(|v| v as i32).collect();
        assert_eq!(
            got[0].to_vec::<i32>(),
            Some(wanted),
            "{x:?} {w:?} {channels} channels, {groups} groups, {computed:?} computed"
        );
    }

    #[test]
    fn zero_points_of_all_kinds() {
        let many: Vec<i64> = (0..24).map(|i| 90 + 3 * i).collect();
        for computed in [&[][..], &[0, 2], &[0, 1, 2, 3]] {
            for x in [(DType::U8, 131), (DType::U8, 0), (DType::I8, -7)] {
                let sizes =
                    [(24, 1, 3), (24, 1, 1), (24, 2, 3), (24, 3, 1), (24, 6, 2), (3, 1, 3), (3, 3, 2)];
                for sizes in sizes {
                    agrees(x, (DType::U8, &[17]), sizes, computed);
                    agrees(x, (DType::U8, &many[..sizes.0]), sizes, computed);
                    agrees(x, (DType::I8, &[-100]), sizes, computed);
                    agrees(x, (DType::I8, &[0]), sizes, computed);
                }
            }
        }
    }

    #[test]
    fn sums_over_no_channels_are_zero() {
        let inputs = [
            bytes(&[1, 0, 3, 3], 1, DType::U8).0,
            bytes(&[4, 0, 2, 2], 1, DType::I8).0,
            zeros(&[3], DType::U8),
            zeros(&[0], DType::I8),
        ];
        for computed in [&[0][..], &[0, 1], &[0, 2]] {
            let got = run_computed("", "ConvInteger", &[], &inputs.clone().map(Some), computed, 1);
            assert_eq!(got[0].to_vec::<i32>(), Some(vec![0; 16]), "{computed:?} computed");
        }
    }
}
