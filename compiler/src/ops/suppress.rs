//! NonMaxSuppression with all inputs given, `lmc.Suppress(boxes, scores, most, overlap, score)`: boxes
//! are taken from a heap of scores and kept unless one that is kept overlaps them.

use super::emit::{Emit, require};
use super::heap::Heap;
use super::routine::{Code, Place};
use super::sized::{key, size};
use super::{Ctx, Operator};
use crate::base::{Affine, DType, TensorType};
use crate::definition::Lowering;
use crate::error::Result;
use crate::tile::{Access, Bin, Cmp, Lane, Reg, Value};

/// The rows.
pub const ROWS: &[Operator] = &[Operator::internal("Suppress", infer_suppress, suppress)];

/// Boxes that are compared at a time.
const LANES: u8 = 8;

/// The most boxes of one class that are kept, as far as it is known now.
fn most(ctx: &Ctx) -> Result<usize> {
    let boxes = ctx.shape(0)?[1];
    let given = match ctx.input(2)?.constant {
        Some(_) => ctx.constant_ints(2)?.and_then(|m| m.first().copied()),
        None => None,
    };
    Ok(given.map_or(boxes, |m| usize::try_from(m).unwrap_or(0).min(boxes)))
}

fn infer_suppress(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let (b, s) = (ctx.ty(0)?, ctx.ty(1)?);
    let fits = b.rank() == 3 && s.rank() == 3;
    let fits = fits && b.shape[2] == 4 && b.shape[0] == s.shape[0] && b.shape[1] == s.shape[2];
    require(fits && b.dtype == DType::F32 && s.dtype == DType::F32, || {
        format!("boxes {b} and scores {s} do not fit")
    })?;
    for (i, dtype) in [(2, DType::I64), (3, DType::F32), (4, DType::F32)] {
        let ty = ctx.ty(i)?;
        require(ty.dtype == dtype && ty.elems() == 1, || {
            format!("input {i} is {ty}, but must be one number of type {dtype}")
        })?;
    }
    let found = ctx.graph.chosen(s.shape[0] * s.shape[1] * most(ctx)?, key(ctx)?);
    Ok(vec![TensorType::new(DType::I64, [found, 3])])
}

/// The corners of box `at` (a computed place or an affine one): low y, low x, high y, high x.
fn corners(code: &mut Code, param: u32, place: &dyn Fn(i64) -> Place, centered: bool) -> [Reg; 4] {
    let raw = [0, 1, 2, 3].map(|i| code.load(param, place(i)));
    if !centered {
        let [y0, x0, y1, x1] = raw;
        return [
            code.bin(Bin::Min, y0, y1),
            code.bin(Bin::Min, x0, x1),
            code.bin(Bin::Max, y0, y1),
            code.bin(Bin::Max, x0, x1),
        ];
    }
    let [x, y, w, h] = raw;
    let half = code.number(Lane::F32, 0.5);
    let (w, h) = (code.bin(Bin::Mul, w, half), code.bin(Bin::Mul, h, half));
    [code.bin(Bin::Sub, y, h), code.bin(Bin::Sub, x, w), code.bin(Bin::Add, y, h), code.bin(Bin::Add, x, w)]
}

/// The area of a box.
fn area(code: &mut Code, b: [Reg; 4]) -> Reg {
    let (height, width) = (code.bin(Bin::Sub, b[2], b[0]), code.bin(Bin::Sub, b[3], b[1]));
    code.bin(Bin::Mul, height, width)
}

/// What boxes have in common, and their union: corners and areas. Where they have nothing in common, the first is
/// no more than zero.
fn common(code: &mut Code, a: [Reg; 5], b: [Reg; 5], zero: Reg) -> (Reg, Reg) {
    let side = |code: &mut Code, low: usize| {
        let (from, to) = (code.bin(Bin::Max, a[low], b[low]), code.bin(Bin::Min, a[low + 2], b[low + 2]));
        code.bin(Bin::Sub, to, from)
    };
    let (height, width) = (side(code, 0), side(code, 1));
    let height = code.bin(Bin::Max, height, zero);
    let common = code.bin(Bin::Mul, height, width);
    let both = code.bin(Bin::Add, a[4], b[4]);
    (common, code.bin(Bin::Sub, both, common))
}

/// What is read and written for all classes.
struct Suppress {
    boxes: u32,
    scores: u32,
    /// Corners and areas of the boxes kept of a class, a list each.
    kept: [u32; 5],
    out: u32,
    /// Boxes of a batch.
    all: usize,
    /// Rows of the output, and the most boxes of one class.
    rows: usize,
    bound: usize,
    centered: bool,
    most: Reg,
    limit: Reg,
    least: Reg,
    found: Reg,
    heap: Heap,
}

/// Four numbers in a row: `row` of `rows`, which begin at `first`.
fn four(code: &mut Code, first: &Affine, row: Reg, rows: usize) -> impl Fn(i64) -> Place + use<> {
    let width = code.number(Lane::I64, 4.0);
    let offset = code.bin(Bin::Mul, row, width);
    let first = first.clone();
    move |i| Place { index: first.offset(i), dynamic: Some((offset, 4 * rows.saturating_sub(1))) }
}

impl Suppress {
    /// The boxes of one class whose scores are good enough, as a heap; gives their number.
    fn candidates(&self, code: &mut Code, first: &Affine) -> Reg {
        let (size, one) = (code.number(Lane::I64, 0.0), code.number(Lane::I64, 1.0));
        code.repeat("i", self.all, |code, i| {
            let score = code.load(self.scores, first.plus(&i));
            let good = code.cmp(Cmp::Gt, score, self.least);
            code.when(good, |code| {
                let place = code.index(Lane::I32, &i);
                self.heap.store(code, size, (score, place));
                code.set(size, Value::Bin(Bin::Add, size, one));
            });
        });
        self.heap.build(code, size);
        size
    }

    /// A place in the lists of boxes that are kept.
    fn among(&self, at: Reg) -> Place {
        Place { index: Affine::constant(0), dynamic: Some((at, self.bound - 1)) }
    }

    /// Whether one of the `taken` boxes that are kept overlaps a box: `LANES` of them at a time. The quotient is
    /// above the limit, which is not negative, only where the product of limit and union is not above what they have
    /// in common: rounding keeps order. So it is computed for few.
    fn is_overlapped(&self, code: &mut Code, own: [Reg; 5], taken: Reg) -> Reg {
        let (j, step) = (code.number(Lane::I64, 0.0), code.number(Lane::I64, f64::from(LANES)));
        let dropped = code.number(Lane::M32, 0.0);
        let zero = code.number(Lane::F32, 0.0);
        let [zero, limit] = [zero, self.limit].map(|r| code.splat(r, LANES));
        let own = own.map(|r| code.splat(r, LANES));
        code.forever(|code| {
            let done = code.cmp(Cmp::Le, taken, j);
            code.break_if(done);
            let other = self.kept.map(|list| code.load_run(list, self.among(j), LANES));
            let (common, union) = common(code, other, own, zero);
            let least = code.bin(Bin::Mul, limit, union);
            let near = code.cmp(Cmp::Ge, common, least);
            let near = code.any(near);
            code.when(near, |code| {
                let part = code.bin(Bin::Div, common, union);
                let (some, more) = (code.cmp(Cmp::Gt, union, zero), code.cmp(Cmp::Gt, part, limit));
                let close = code.bin(Bin::And, some, more);
                let close = code.any(close);
                code.set(dropped, Value::Copy(close));
            });
            code.break_if(dropped);
            code.set(j, Value::Bin(Bin::Add, j, step));
        });
        dropped
    }

    /// Adds a box to those kept. Behind it stand copies of it, to the end of a vector, which change nothing.
    fn keep(&self, code: &mut Code, own: [Reg; 5], taken: Reg) {
        for (list, number) in self.kept.into_iter().zip(own) {
            let copies = code.splat(number, LANES);
            code.store(list, self.among(taken), copies);
        }
    }

    /// One class of one batch.
    fn class(&self, code: &mut Code, batch: &Affine, class: &Affine, classes: usize) {
        let first = batch.scaled((classes * self.all) as i64).plus_scaled(class, self.all as i64);
        let left = self.candidates(code, &first);
        let [zero, one, three] = [0.0, 1.0, 3.0].map(|v| code.number(Lane::I64, v));
        let taken = code.let_(Lane::I64, Value::Copy(zero));
        code.forever(|code| {
            let enough = code.cmp(Cmp::Le, self.most, taken);
            code.break_if(enough);
            let none = code.cmp(Cmp::Le, left, zero);
            code.break_if(none);
            let (_, best) = self.heap.pop(code, left);
            let best = code.widen(best);
            let place = four(code, &batch.scaled(4 * self.all as i64), best, self.all);
            let own = corners(code, self.boxes, &place, self.centered);
            let [y0, x0, y1, x1] = own;
            let own = [y0, x0, y1, x1, area(code, own)];
            let dropped = self.is_overlapped(code, own, taken);
            let yes = code.number(Lane::M32, 1.0);
            let keep = code.bin(Bin::Xor, dropped, yes);
            code.when(keep, |code| {
                self.keep(code, own, taken);
                let row = code.bin(Bin::Mul, self.found, three);
                let numbers = [code.index(Lane::I64, batch), code.index(Lane::I64, class), best];
                (0..3).zip(numbers).for_each(|(i, number)| {
                    let dynamic = Some((row, 3 * self.rows.saturating_sub(1)));
                    code.store(self.out, Place { index: Affine::constant(i), dynamic }, number);
                });
                code.set(self.found, Value::Bin(Bin::Add, self.found, one));
                code.set(taken, Value::Bin(Bin::Add, taken, one));
            });
        });
    }
}

fn suppress(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let bound = most(ctx)?;
    let mut e = Emit::new(ctx, low);
    let (boxes, scores, out) = (e.input(0)?, e.input(1)?, e.result()?);
    let given = [e.input(2)?, e.input(3)?, e.input(4)?];
    let (batches, classes, all) = (scores.shape()[0], scores.shape()[1], scores.shape()[2]);
    let count = size(&mut e, ctx, &out);
    let lists = ["low_y", "low_x", "high_y", "high_x", "areas"];
    let kept = lists.map(|name| e.temp(name, DType::F32, [bound.max(1) + usize::from(LANES) - 1]));
    let mut code = Code::new(&ctx.node.name);
    let (b, s) = (code.param("boxes", &boxes, Access::Read), code.param("scores", &scores, Access::Read));
    let numbers = [("most", 0), ("overlap", 1), ("score", 2)]
        .map(|(name, i)| code.param(name, &given[i], Access::Read));
    let (to, n) = (code.param("found", &out, Access::Write), code.param("count", &count, Access::Write));
    let kept = [0, 1, 2, 3, 4].map(|i| code.param(lists[i], &kept[i], Access::ReadWrite));
    let [most, limit, least] = numbers.map(|p| code.load(p, Affine::constant(0)));
    let largest = code.number(Lane::I64, bound as f64);
    let most = code.bin(Bin::Min, most, largest);
    // Any two boxes overlap by more than a negative limit.
    let (zero, one) = (code.number(Lane::F32, 0.0), code.number(Lane::I64, 1.0));
    let (negative, single) = (code.cmp(Cmp::Lt, limit, zero), code.bin(Bin::Min, most, one));
    let most = code.select(negative, single, most);
    let suppress = Suppress {
        heap: Heap::new(&mut e, &mut code, DType::F32, all, true),
        boxes: b,
        scores: s,
        kept,
        out: to,
        all,
        rows: out.shape()[0],
        bound: bound.max(1),
        centered: ctx.attrs().flag("center_point_box", false)?,
        most,
        limit,
        least,
        found: code.number(Lane::I64, 0.0),
    };
    let none = all == 0 || bound == 0;
    code.repeat("batch", if none { 0 } else { batches }, |code, batch| {
        code.repeat("class", classes, |code, class| suppress.class(code, &batch, &class, classes));
    });
    code.store(n, Affine::constant(0), suppress.found);
    code.finish(e.low);
    Ok(())
}
