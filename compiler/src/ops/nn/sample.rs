//! Reads a tensor between its elements, at coordinates computed at run time: GridSample,
//! DeformConv, RoiAlign.

use crate::base::DType;
use crate::definition::{DefBuilder, ExprId, Index};
use crate::ops::emit::{Arith, Val};
use crate::scalar::{Op, Scalar};

/// Input positions along one dimension, each with its weight (`None`: one).
pub type Taps = Vec<(ExprId, Option<ExprId>)>;

/// `x` at an index of which the last dimensions are weighted sums over taps. Positions outside
/// give zero where `zeros`; they must lie inside otherwise.
pub fn weighted(
    b: &mut DefBuilder,
    x: &Val,
    prefix: &[Index],
    taps: &[Taps],
    zeros: bool,
    to: DType,
) -> ExprId {
    let Some((first, rest)) = taps.split_first() else {
        let fill = zeros.then(|| Scalar::from_f64(x.dtype(), 0.0));
        let elem = b.load_at(x.id, &x.ty, prefix.to_vec(), fill);
        return b.cast(to, elem);
    };
    let mut sum = None;
    for (position, weight) in first {
        let mut index = prefix.to_vec();
        index.push(Index::Dynamic(*position));
        let value = weighted(b, x, &index, rest, zeros, to);
        let term = weight.map_or(value, |w| b.times(value, w));
        sum = Some(sum.map_or(term, |s| b.plus(s, term)));
    }
    sum.unwrap_or_else(|| b.number(to, 0.0))
}

/// The two neighbours of a position: `start` and the next one, with weights by the fraction.
pub fn linear_taps(b: &mut DefBuilder, start: ExprId, fraction: ExprId) -> Taps {
    let one = b.number(DType::I64, 1.0);
    let next = b.plus(start, one);
    let whole = b.number(b.dtype(fraction), 1.0);
    let rest = b.minus(whole, fraction);
    vec![(start, Some(rest)), (next, Some(fraction))]
}

/// The four neighbours of a position, with the weights of cubic convolution.
pub fn cubic_taps(b: &mut DefBuilder, start: ExprId, fraction: ExprId, a: f64) -> Taps {
    let float = b.dtype(fraction);
    (-1..=2)
        .map(|i: i64| {
            let offset = b.constant(Scalar::from_i64(DType::I64, i));
            let position = b.plus(start, offset);
            let place = b.number(float, i as f64);
            let difference = b.minus(place, fraction);
            let distance = b.op(Op::Abs, &[difference]);
            let weight = if (0..=1).contains(&i) {
                // ((a + 2) d - (a + 3)) d^2 + 1
                let w = b.times_number(distance, a + 2.0);
                let w = b.plus_number(w, -(a + 3.0));
                let w = b.times(w, distance);
                let w = b.times(w, distance);
                b.plus_number(w, 1.0)
            } else {
                // ((a d - 5 a) d + 8 a) d - 4 a
                let w = b.times_number(distance, a);
                let w = b.plus_number(w, -5.0 * a);
                let w = b.times(w, distance);
                let w = b.plus_number(w, 8.0 * a);
                let w = b.times(w, distance);
                b.plus_number(w, -4.0 * a)
            };
            (position, Some(weight))
        })
        .collect()
}

/// A coordinate mirrored at `lo` and `hi` until it lies between.
pub fn reflected(b: &mut DefBuilder, x: ExprId, lo: f64, hi: f64) -> ExprId {
    let float = b.dtype(x);
    let span = hi - lo;
    if span <= 0.0 {
        return b.number(float, lo);
    }
    let from = b.plus_number(x, -lo);
    let from = b.op(Op::Abs, &[from]);
    let period = b.number(float, 2.0 * span);
    let within = b.op(Op::Rem, &[from, period]);
    let back = b.minus(period, within);
    let least = b.op(Op::Min, &[within, back]);
    b.plus_number(least, lo)
}

/// For integers: the nearest value of the type, halves to even.
pub fn rounded(b: &mut DefBuilder, value: ExprId, to: DType) -> ExprId {
    if !to.is_int() {
        return value;
    }
    let bound = |s: Scalar| match to.is_signed_int() {
        true => ((s.bits << (64 - 8 * to.size())) as i64 >> (64 - 8 * to.size())) as f64,
        false => s.bits as f64,
    };
    let nearest = b.op(Op::Round, &[value]);
    b.clamp(nearest, bound(Scalar::lowest(to)), bound(Scalar::highest(to)))
}
