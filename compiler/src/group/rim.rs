//! Wide padded windows, and windows over bytes, read a copy with a rim.
//!
//! Before: `y[p] = sum(k) x[4 p + k - 254 or 0] * w[k]` with 512 points `k`: most windows reach over
//! an edge, and no two alike, so that each point is a loop of its own. After: `t[i] = x[i - 254 or 0]`
//! and `y[p] = sum(k) t[4 p + k] * w[k]`, whose tiles are all alike. The copy is cut where the padding
//! begins ([`super::split`]) and vanishes where the producer can write into its middle
//! ([`super::forward`]). Narrow windows keep their padding: the schedule leaves out what lies outside. Bytes, and
//! numbers of 16 bits, always get a rim: their padding is a zero point, which cannot be left out, and four points of
//! a window are multiplied at once. Filters of single channels are multiplied by words along their outermost axis
//! alone: along the others their padding may be left to the schedule, which saves memory ([`Rims`]). Where a size is
//! known only at run time, what lies behind it is no padding yet: [`super::sized_rim`].

use super::points::{WORD, points};
use super::rewrite::{plain_var, replace_loads};
use crate::base::{Affine, DType, TensorType};
use crate::definition::{DefBuilder, Definition, Expr, Index, LoweredValue, Operand, Stage, ValueId};
use crate::scalar::{Fold, Scalar};

/// Points of a window from which on its padding is made.
const WIDE: usize = 13;
/// The copy is made where the fold has so many points for each of its elements.
const WORTH: usize = 32;
/// The same where nothing but the window itself can fill vectors: windows of a single channel that are
/// further apart than every other element.
const WORTH_ALONE: usize = 4;
const APART: i64 = 2;

/// Channels that fill vectors.
const CHANNELS: usize = 8;

/// A load that reads through a rim: what is loaded and the range of each index.
struct Rim {
    /// Whether it is padded; otherwise words alone reach over the tensor's end.
    padding: bool,
    value: ValueId,
    ty: TensorType,
    index: Vec<Affine>,
    fill: Scalar,
    /// Elements before the tensor, per dimension.
    before: Vec<usize>,
    /// The tensor's shape with its rim.
    padded: Vec<usize>,
}

/// Which padding of bytes becomes a rim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rims {
    /// All of it.
    Whole,
    /// But for that of filters of single channels, of which only rows of the outermost axis do, where these or so many
    /// lanes are not to be filled by points ([`super::spread`]).
    Outermost(usize),
}

/// Puts a copy with a rim before each definition that reads a wide padded window.
pub fn materialize(values: &mut Vec<LoweredValue>, stages: &mut Vec<Stage>, rims: Rims) {
    for stage in std::mem::take(stages) {
        match stage {
            Stage::Define(def) => {
                let made = Rim::of(&def, rims).and_then(|rim| rim.made(values, &def));
                match made {
                    Some((copy, reader)) => stages.extend([copy, reader].map(Stage::Define)),
                    None => stages.push(Stage::Define(def)),
                }
            }
            Stage::Repeat(mut repeat) => {
                materialize(values, &mut repeat.body, rims);
                stages.push(Stage::Repeat(repeat));
            }
            other => stages.push(other),
        }
    }
}

/// The dimensions whose padding a filter of single channels can leave to the schedule: those along which it slides,
/// point by point, but for the outermost one. Points that fill `lanes` beside their channels are to be all alike.
fn left(def: &Definition, value: ValueId, index: &[Affine], lanes: usize) -> Vec<usize> {
    let parts = |form: &Affine| -> (Vec<(u32, i64)>, Vec<(u32, i64)>) {
        let moving = form.terms.iter().filter(|t| def.vars[t.0 as usize].extent > 1);
        moving.partition(|t| t.0 as usize >= def.axes)
    };
    let mut slides = (0..index.len()).filter(|&d| !parts(&index[d]).0.is_empty());
    let (Some(outermost), Some(channels)) = (slides.next(), channels(def, value)) else { return Vec::new() };
    let woven = parts(&index[outermost]).0.iter().any(|t| def.vars[t.0 as usize].extent > 2);
    let filled = |&(axis, step): &(u32, i64)| {
        step == 1 && points(channels, def.vars[axis as usize].extent, lanes).is_some()
    };
    let point = |d: &usize| match parts(&index[*d]) {
        (windows, axes) if windows.len() == 1 && axes.len() == 1 => {
            let narrow = windows[0].1 == 1 && def.vars[windows[0].0 as usize].extent < WIDE;
            narrow && axes[0].1 > 0 && !filled(&axes[0])
        }
        _ => false,
    };
    slides.filter(|d| woven && point(d)).collect()
}

/// How many channels both factors of a definition's products follow, where these fill vectors.
fn channels(def: &Definition, value: ValueId) -> Option<usize> {
    let factors = def.factors()?;
    let loads = factors.map(|f| match def.behind_casts(f) {
        Expr::Load { operand, index, .. } => Some((def.operands[*operand as usize].value, index)),
        _ => None,
    });
    let [Some(one), Some(other)] = loads else { return None };
    let follows = |index: &[Index], v: u32| {
        index.iter().any(|i| matches!(i, Index::Affine(form) if form.coefficient(v) != 0))
    };
    let shared = |v: &u32| follows(one.1, *v) && follows(other.1, *v);
    let mut shared = (0..def.axes as u32).filter(shared).map(|v| def.vars[v as usize].extent);
    shared.find(|&n| n >= CHANNELS).filter(|_| [one.0, other.0].contains(&value))
}

/// What a fold loads through padding, or if nothing is padded in windows, where that is one load alone: operand, index
/// and what lies around.
fn load(def: &Definition) -> Option<(u32, &[Index], Option<Scalar>)> {
    def.fold.as_ref()?;
    let loads = || {
        def.exprs.iter().filter_map(|e| match e {
            Expr::Load { operand, index, fill } => Some((*operand, index.as_slice(), *fill)),
            _ => None,
        })
    };
    let padding = loads().any(|l| l.2.is_some());
    let product = def.factors().is_some();
    let mut found = loads().filter(|l| if padding { l.2.is_some() } else { product && windows(def, l.1) });
    found.next().filter(|_| found.next().is_none())
}

/// Whether a load reads windows: along some dimension they move with an axis.
fn windows(def: &Definition, index: &[Index]) -> bool {
    let moves = |form: &Affine, fold: bool| {
        let moving = |t: &&(u32, i64)| def.vars.get(t.0 as usize).is_some_and(|v| v.extent > 1);
        form.terms.iter().filter(moving).any(|t| (t.0 as usize >= def.axes) == fold)
    };
    index.iter().filter_map(Index::affine).any(|form| moves(form, true) && moves(form, false))
}

/// Whether the rows of a window of a single channel end within a word of four bytes.
fn part_of_word(def: &Definition, operand: &Operand, index: &[Affine]) -> bool {
    let axis = |form: &Affine| form.terms.iter().any(|t| (t.0 as usize) < def.axes);
    let window = |form: &Affine| {
        let mut points = form.terms.iter().filter(|t| t.0 as usize >= def.axes && t.1 == 1);
        points.next().map(|t| def.vars[t.0 as usize].extent).filter(|&points| points > 1 && axis(form))
    };
    let alone = |(form, &extent): (&Affine, &usize)| extent == 1 || window(form).is_some();
    // The first dimension counts examples.
    let single = index.iter().zip(&operand.ty.shape).skip(1).all(alone);
    let innermost = index.iter().filter_map(window).next_back();
    single && innermost.is_some_and(|points| points > 2 && !points.is_multiple_of(WORD))
}

impl Rim {
    /// The load that a rim is for, if a wide window reaches over the tensor's edge, or words over its end.
    fn of(def: &Definition, rims: Rims) -> Option<Rim> {
        let (operand, index, fill) = load(def)?;
        let (padding, operand) = (fill.is_some(), &def.operands[operand as usize]);
        let fill = fill.unwrap_or_else(|| Scalar::from_f64(operand.ty.dtype, 0.0));
        let index: Vec<Affine> = index.iter().map(|i| i.affine().cloned()).collect::<Option<_>>()?;
        if index.iter().any(Affine::has_size) {
            return None;
        }
        let (mut before, mut shape, mut wide) = (Vec::new(), Vec::new(), false);
        for (form, &extent) in index.iter().zip(&operand.ty.shape) {
            let (least, most) = form.range(|v| def.vars[v as usize].extent);
            let (least, most) = (least.min(0), most.max(extent as i64 - 1));
            let window = |v: u32| v as usize >= def.axes && def.vars[v as usize].extent >= WIDE;
            wide |= most - least >= extent as i64 && form.terms.iter().any(|t| window(t.0));
            before.push(-least as usize);
            shape.push((most - least + 1) as usize);
        }
        let points: usize = def.vars.iter().map(|v| v.extent).product();
        let elems = shape.iter().product::<usize>();
        let known = def.vars.iter().all(|v| v.size.is_none());
        let sums = def.fold.as_ref().is_some_and(|f| f.op == Fold::Sum);
        let narrow = operand.ty.dtype.size() == 1 || operand.ty.dtype == DType::I16;
        let bytes = known && sums && narrow;
        // Words of four bytes along three channels, or along a window of one channel, reach over the end: into a row
        // more.
        let short = |form: &Affine| {
            let alone = |v: u32| v as usize >= def.axes && def.vars[v as usize].extent == 3;
            plain_var(form).is_some_and(alone)
        };
        let words = index.iter().any(short) || part_of_word(def, operand, &index);
        if bytes && operand.ty.dtype.size() == 1 && words {
            let outermost = index.iter().position(|form| form.terms.len() > 1).unwrap_or(shape.len() - 1);
            shape[outermost] += 1;
        }
        if let (Rims::Outermost(lanes), true) = (rims, bytes && operand.ty.dtype.size() == 1) {
            for dim in left(def, operand.value, &index, lanes) {
                (before[dim], shape[dim]) = (0, operand.ty.shape[dim]);
            }
        }
        let apart = |v: &u32| index.iter().any(|form| form.coefficient(*v) > APART);
        let mut axes = (0..def.axes as u32).filter(|&v| def.vars[v as usize].extent > 1);
        let worth = if axes.all(|v| apart(&v)) { WORTH_ALONE } else { WORTH };
        let pays = bytes || padding && known && wide && elems.saturating_mul(worth) <= points;
        (pays && shape != operand.ty.shape).then(|| Rim {
            padding,
            value: operand.value,
            ty: operand.ty.clone(),
            index,
            fill,
            before,
            padded: shape,
        })
    }

    /// The copy with a rim, and the definition that reads it.
    fn made(&self, values: &mut Vec<LoweredValue>, def: &Definition) -> Option<(Definition, Definition)> {
        let ty = TensorType::new(self.ty.dtype, self.padded.clone());
        let to = values.len() as ValueId;
        let name = format!("{}_padded", def.name);
        let mut b = DefBuilder::new(&self.padded);
        let from = self.before.iter().enumerate().map(|(d, &by)| b.var(d).offset(-(by as i64))).collect();
        let element = b.load_padded(self.value, &self.ty, from, self.fill);
        let copy = b.finish(&name, to, &ty, element);
        let within: Vec<Affine> =
            self.index.iter().zip(&self.before).map(|(form, &by)| form.offset(by as i64)).collect();
        let reaches = |(form, &extent): (&Affine, &usize)| {
            let (least, most) = form.range(|v| def.vars[v as usize].extent);
            least < 0 || most >= extent as i64
        };
        let beside = within.iter().zip(&self.padded).any(reaches);
        let reader = replace_loads(def, &mut |b, operand, _, fill| {
            let same = fill.is_some() == self.padding && def.operands[operand as usize].value == self.value;
            same.then(|| match beside {
                true => b.load_padded(to, &ty, within.clone(), self.fill),
                false => b.load(to, &ty, within.clone()),
            })
        })?;
        values.push(LoweredValue { name, ty, constant: None });
        Some((copy, reader))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{DType, Tensor};
    use crate::definition::Lowering;
    use crate::group::tests::result;
    use crate::scalar::Op;

    /// `y[o, c, p] = sum(k) x[c, 2 p + k - 9 or 0] * w[o, k]`, `points` points `k`.
    fn windows(points: usize) -> Lowering {
        filtered([8, 3], points, 2)
    }

    /// `y[o, c, p] = sum(k) x[c, step * p + k - 9 or 0] * w[o, k]`, 20 windows.
    fn filtered([outputs, rows]: [usize; 2], points: usize, step: i64) -> Lowering {
        let numbers = |n: usize| (0..n).map(|i| (i * 7 % 11) as f32 - 5.0).collect::<Vec<f32>>();
        let length = 20 * step as usize;
        let x = Tensor::new([rows, length], &numbers(rows * length));
        let w = Tensor::new([outputs, points], &numbers(outputs * points));
        let y = TensorType::new(DType::F32, [outputs, rows, 20]);
        let mut low = Lowering::default();
        let from = low.constant("x", x.clone());
        let weights = low.constant("w", w.clone());
        let to = low.temporary("y", y.clone());
        let mut b = DefBuilder::new(&y.shape);
        let k = b.reduce("k", points);
        let at = vec![b.var(1), b.var(2).scaled(step).plus(&k).offset(-9)];
        let v = b.load_padded(from, &x.ty, at, Scalar::from_f64(DType::F32, 0.0));
        let of = vec![b.var(0), k];
        let f = b.load(weights, &w.ty, of);
        let product = b.op(Op::Mul, &[v, f]);
        let sum = b.fold(Fold::Sum, product);
        low.define(b.finish("windows", to, &y, sum));
        low
    }

    #[test]
    fn a_wide_window_reads_a_copy_with_a_rim() {
        let mut low = windows(200);
        let before = result(&low);
        materialize(&mut low.values, &mut low.stages, Rims::Whole);
        assert_eq!(low.stages.len(), 2);
        assert_eq!(low.values[3].ty.shape, [3, 238]);
        assert_eq!(before, result(&low));
        let padded = |d: &Definition| d.exprs.iter().any(|e| matches!(e, Expr::Load { fill: Some(_), .. }));
        assert!(matches!(&low.stages[1], Stage::Define(d) if !padded(d)));
    }

    /// A resampler: where windows move by more than two elements, only they themselves fill vectors.
    #[test]
    fn windows_of_one_channel_read_a_copy_where_nothing_else_fills_vectors() {
        for (shape, step, copied) in [([1, 1], 3, true), ([1, 1], 2, false), ([4, 1], 3, false)] {
            let mut low = filtered(shape, 20, step);
            let before = result(&low);
            materialize(&mut low.values, &mut low.stages, Rims::Whole);
            assert_eq!(low.stages.len() == 2, copied, "{shape:?} {step}");
            assert_eq!(before, result(&low));
        }
    }

    /// A sum over `channels` of bytes in `[n, h, w, c]`, in windows of `kernel` points padded by `pad`.
    fn bytes(channels: usize, kernel: usize, pad: i64) -> Lowering {
        let mut low = Lowering::default();
        let x = TensorType::new(DType::U8, [1, 6, 6, channels]);
        let y = TensorType::new(DType::I32, [6, 6]);
        let (from, to) = (low.temporary("x", x.clone()), low.temporary("y", y.clone()));
        let mut b = DefBuilder::new(&y.shape);
        let (i, j, c) = (b.reduce("i", kernel), b.reduce("j", kernel), b.reduce("c", channels));
        let place = |axis: usize, k: &Affine, b: &DefBuilder| b.var(axis).plus(k).offset(-pad);
        let at = vec![Affine::constant(0), place(0, &i, &b), place(1, &j, &b), c];
        let v = b.load_padded(from, &x, at, Scalar::from_f64(DType::U8, 7.0));
        let v = b.cast(DType::I32, v);
        let sum = b.fold(Fold::Sum, v);
        low.define(b.finish("bytes", to, &y, sum));
        low
    }

    #[test]
    fn windows_of_three_channels_and_of_one_read_into_a_row_more() {
        for (channels, kernel, more) in [(3, 3, 1), (4, 3, 0), (1, 3, 1), (1, 4, 0), (1, 5, 1), (2, 5, 0)] {
            let mut low = bytes(channels, kernel, 1);
            materialize(&mut low.values, &mut low.stages, Rims::Whole);
            assert_eq!(low.values[2].ty.shape, [1, kernel + 5 + more, kernel + 5, channels]);
        }
    }

    /// The product of bytes in windows that stay inside of them, and weights, both of three channels.
    #[test]
    fn windows_without_padding_read_into_a_row_more_of_three_channels() {
        for (channels, more) in [(3, Some(7)), (4, None)] {
            let mut low = Lowering::default();
            let numbers = |n: usize| (0..n).map(|i| (i * 7 % 11) as u8).collect::<Vec<u8>>();
            let x = Tensor::new([1, 6, 6, channels], &numbers(36 * channels));
            let w = Tensor::new([3, 3, channels], &numbers(9 * channels));
            let y = TensorType::new(DType::I32, [4, 4]);
            let (from, weights) = (low.constant("x", x.clone()), low.constant("w", w.clone()));
            let to = low.temporary("y", y.clone());
            let mut b = DefBuilder::new(&y.shape);
            let (i, j, c) = (b.reduce("i", 3), b.reduce("j", 3), b.reduce("c", channels));
            let at = vec![Affine::constant(0), b.var(0).plus(&i), b.var(1).plus(&j), c.clone()];
            let (v, f) = (b.load(from, &x.ty, at), b.load(weights, &w.ty, vec![i, j, c]));
            let (v, f) = (b.cast(DType::I32, v), b.cast(DType::I32, f));
            let product = b.op(Op::Mul, &[v, f]);
            let sum = b.fold(Fold::Sum, product);
            low.define(b.finish("inside", to, &y, sum));
            let before = result(&low);
            materialize(&mut low.values, &mut low.stages, Rims::Whole);
            assert_eq!(low.values.get(3).map(|v| v.ty.shape[1]), more);
            assert_eq!(before, result(&low));
        }
    }

    /// A filter of its own for each of so many channels, of `rows` rows and three columns, in `[n, h, w, c]`.
    fn by_channel(channels: usize, rows: usize) -> Lowering {
        let mut low = Lowering::default();
        let numbers = |n: usize| (0..n).map(|i| (i * 7 % 11) as u8).collect::<Vec<u8>>();
        let x = Tensor::new([1, 6, 5, channels], &numbers(30 * channels));
        let w = Tensor::new([rows, 3, channels], &numbers(3 * rows * channels));
        let y = TensorType::new(DType::I32, [6, 5, channels]);
        let (from, weights) = (low.constant("x", x.clone()), low.constant("w", w.clone()));
        let to = low.temporary("y", y.clone());
        let mut b = DefBuilder::new(&y.shape);
        let (i, j) = (b.reduce("i", rows), b.reduce("j", 3));
        let place = |axis: usize, k: &Affine, b: &DefBuilder| b.var(axis).plus(k).offset(-1);
        let at = vec![Affine::constant(0), place(0, &i, &b), place(1, &j, &b), b.var(2)];
        let v = b.load_padded(from, &x.ty, at, Scalar::from_f64(DType::U8, 7.0));
        let of = vec![i, j, b.var(2)];
        let f = b.load(weights, &w.ty, of);
        let (v, f) = (b.cast(DType::I32, v), b.cast(DType::I32, f));
        let product = b.op(Op::Mul, &[v, f]);
        let sum = b.fold(Fold::Sum, product);
        low.define(b.finish("filters", to, &y, sum));
        low
    }

    #[test]
    fn filters_of_single_channels_need_rows_of_padding_alone() {
        let less = Rims::Outermost(16);
        let cases = [(16, 3, Rims::Whole, [1, 8, 7, 16]), (16, 3, less, [1, 8, 5, 16])];
        // Channels that fill no vector, or half of one, and windows of too few rows for a word.
        let others = [(4, 3, less, [1, 8, 7, 4]), (8, 3, less, [1, 8, 7, 8]), (16, 2, less, [1, 7, 7, 16])];
        for (channels, rows, rims, shape) in cases.into_iter().chain(others) {
            let mut low = by_channel(channels, rows);
            let before = result(&low);
            materialize(&mut low.values, &mut low.stages, rims);
            assert_eq!(low.values[3].ty.shape, shape, "{channels} {rows} {rims:?}");
            assert_eq!(before, result(&low));
        }
    }

    #[test]
    fn bytes_that_nothing_pads_are_not_copied() {
        let mut low = bytes(4, 1, 0);
        materialize(&mut low.values, &mut low.stages, Rims::Whole);
        assert_eq!(low.stages.len(), 1);
    }

    #[test]
    fn a_narrow_window_keeps_its_padding() {
        let mut low = windows(9);
        materialize(&mut low.values, &mut low.stages, Rims::Whole);
        assert_eq!(low.stages.len(), 1);
    }
}
