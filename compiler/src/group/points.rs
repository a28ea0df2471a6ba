//! Points that fill lanes beside channels of bytes: what [`super::spread`] and [`super::spread_windows`] look for.

use crate::base::{Affine, DType, TensorType};
use crate::definition::{Definition, Expr, LoweredValue, ValueId};

/// Elements that points and channels make together, at most: constants are repeated for as many.
pub const MOST: usize = 64;
/// Bytes that are multiplied at a time.
pub const WORD: usize = 4;
/// How many times as many of the lanes must be full.
const WORTH: f64 = 1.25;

/// The points that fill lanes beside channels.
pub struct Points {
    pub channels: u32,
    /// The axis that is cut, and into pieces of how many points.
    pub axis: u32,
    pub points: usize,
}

/// How many of the points along an axis fill lanes beside so many channels, where that fills more of them.
pub fn points(channels: usize, along: usize, lanes: usize) -> Option<usize> {
    let full = |points: usize| {
        let elems = points * channels;
        elems as f64 / elems.next_multiple_of(lanes) as f64
    };
    let possible = |&n: &usize| along.is_multiple_of(n) && n * channels <= MOST;
    let best = |best: usize, n: usize| if full(n) > full(best) { n } else { best };
    let points = (2..=along).filter(possible).fold(1, best);
    (full(points) >= WORTH * full(1)).then_some(points)
}

/// A load with affine indices inside of what it loads.
pub type Plain<'a> = (ValueId, Vec<Affine>, &'a TensorType);

/// The data that a definition multiplies by constants, both bytes, and the constants.
pub fn factors<'a>(values: &[LoweredValue], def: &'a Definition) -> Option<[Plain<'a>; 2]> {
    let constant = |v: ValueId| values[v as usize].constant.is_some();
    let sums = def.fold.as_ref().is_some_and(|f| f.dtype == DType::I32);
    let [a, b] = def.factors().filter(|_| sums && !def.has_sizes())?;
    let (a, b) = (plain(def, def.behind_casts(a))?, plain(def, def.behind_casts(b))?);
    let (data, weights) = match (constant(a.0), constant(b.0)) {
        (false, true) => (a, b),
        (true, false) => (b, a),
        _ => return None,
    };
    matches!(data.2.dtype, DType::I8 | DType::U8).then_some([data, weights])
}

/// A load with affine indices inside of what it loads.
pub fn plain<'a>(def: &'a Definition, e: &'a Expr) -> Option<Plain<'a>> {
    let Expr::Load { operand, index, fill: None } = e else { return None };
    let operand = &def.operands[*operand as usize];
    Some((operand.value, index.iter().map(|i| i.affine().cloned()).collect::<Option<_>>()?, &operand.ty))
}
