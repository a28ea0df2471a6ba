//! TopK: the best elements in the order of values and, among equal ones, of positions.

use super::emit::{Emit, require};
use super::heap::{Heap, Item};
use super::routine::Code;
use super::{Ctx, Lower, Operator};
use crate::base::{Affine, DType, TensorType};
use crate::definition::Lowering;
use crate::error::{Error, Result};
use crate::tile::{Access, Lane, Reg};
use std::ops::Range;

/// The rows.
pub const ROWS: &[Operator] = &[Operator {
    domain: "",
    name: "TopK",
    versions: &[1, 10, 11, 24],
    infer,
    lower: Lower::Define(lower),
    note: "",
}];

/// So many times as many elements as are kept: then so few are kept in passing that several are compared at once.
const MANY: usize = 24;

/// Axis and number of elements.
fn parts(ctx: &Ctx) -> Result<(usize, usize)> {
    let x = ctx.ty(0)?;
    let axis = ctx.axis(ctx.attrs().int("axis", -1)?, x.rank())?;
    let k = match ctx.version() {
        1 => ctx.attrs().get_int("k")?.copied(),
        _ => ctx.constant_ints(1)?.and_then(|k| k.first().copied()),
    };
    let k = k.and_then(|k| usize::try_from(k).ok()).filter(|&k| k <= x.shape[axis]);
    let k = k.ok_or_else(|| Error::model(format!("k does not fit the extent {}", x.shape[axis])))?;
    Ok((axis, k))
}

fn infer(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let (axis, k) = parts(ctx)?;
    let x = ctx.ty(0)?;
    let number = !x.dtype.is_small_float() && x.dtype.bits() >= 8;
    require(number, || format!("it is not defined for {}", x.dtype))?;
    let mut shape = x.shape.clone();
    shape[axis] = k;
    Ok(vec![TensorType::new(x.dtype, shape.clone()), TensorType::new(DType::I64, shape)])
}

/// Keeps the best `k` elements of a row in a heap with the worst of them at its root; then takes the
/// roots, the last first.
fn lower(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let (axis, k) = parts(ctx)?;
    let mut e = Emit::new(ctx, low);
    let (x, values) = (e.input(0)?, e.result()?);
    let indices = match e.output(1) {
        Some(indices) => indices,
        None => e.temp("indices", DType::I64, values.shape().to_vec()),
    };
    let (extent, outer): (usize, usize) = (x.shape()[axis], x.shape()[..axis].iter().product());
    let inner: usize = x.shape()[axis + 1..].iter().product();
    let mut code = Code::new(&ctx.node.name);
    let from = code.param("x", &x, Access::Read);
    let to = code.param("values", &values, Access::Write);
    let at = code.param("indices", &indices, Access::Write);
    let heap = Heap::new(&mut e, &mut code, x.dtype(), k, ctx.attrs().flag("largest", true)?).last_first();
    let dims =
        |dims: &[usize]| if ctx.graph.sample == 0 { vec![dims.iter().product()] } else { dims.to_vec() };
    let before = if k == 0 { vec![0] } else { dims(&x.shape()[..axis]) };
    code.points(&before, |code, o, _| {
        code.points(&dims(&x.shape()[axis + 1..]), |code, i, _| {
            // Of a single row the lengths are in no address: they may be known only at run time.
            let apart = |length: usize| if outer == 1 { 0 } else { (length * inner) as i64 };
            let (row, result) = (o.scaled(apart(extent)).plus(&i), o.scaled(apart(k)).plus(&i));
            let line = Line { from, row, inner, heap: &heap };
            let size = code.number(Lane::I64, k as f64);
            code.repeat("first", k, |code, i| {
                let (item, slot) = (line.item(code, &i), code.index(Lane::I64, &i));
                heap.store(code, slot, item);
            });
            heap.build(code, size);
            if inner == 1 && ctx.graph.sample == 0 && extent / MANY >= k {
                line.try_runs(code, k..extent, size);
            } else if extent > k || ctx.graph.sample > 0 {
                code.repeat_to("rest", &Affine::constant((extent - k) as i64), |code, i| {
                    line.try_one(code, &i.offset(k as i64), size);
                });
            }
            code.repeat("k", k, |code, i| {
                let (value, position) = heap.pop(code, size);
                let here = result.plus_scaled(&i.scaled(-1).offset(k as i64 - 1), inner as i64);
                let position = code.widen(position);
                code.store(to, here.clone(), value);
                code.store(at, here, position);
            });
        });
    });
    code.finish(e.low);
    Ok(())
}

/// The elements of a row, and the heap of the best that have been seen, the worst of them at its root.
struct Line<'a> {
    from: u32,
    row: Affine,
    /// From one element to the next.
    inner: usize,
    heap: &'a Heap,
}

impl Line<'_> {
    fn item(&self, code: &mut Code, i: &Affine) -> Item {
        let x = code.load(self.from, self.row.plus_scaled(i, self.inner as i64));
        let place = self.heap.lanes(code).1;
        (x, code.index(place, i))
    }

    /// Puts an element in the root's place where it is better.
    fn try_one(&self, code: &mut Code, i: &Affine, size: Reg) {
        let zero = code.number(Lane::I64, 0.0);
        let (item, root) = (self.item(code, i), self.heap.load(code, zero));
        let better = self.heap.better(code, item.0, root.0);
        code.when(better, |code| self.heap.sift(code, zero, size, item));
    }

    /// The same for elements in a row, of which most are worse: several are compared at once.
    fn try_runs(&self, code: &mut Code, range: Range<usize>, size: Reg) {
        let first = range.start as i64;
        code.run(self.from, range.len(), |code, i, lanes| {
            let i = i.offset(first);
            if lanes == 1 {
                return self.try_one(code, &i, size);
            }
            let elements = code.load_run(self.from, self.row.plus(&i), lanes);
            let zero = code.number(Lane::I64, 0.0);
            let root = self.heap.load(code, zero).0;
            let root = code.splat(root, lanes);
            let better = self.heap.better(code, elements, root);
            let any = code.any(better);
            code.when(any, |code| {
                code.repeat("lane", lanes.into(), |code, lane| self.try_one(code, &i.plus(&lane), size));
            });
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::older::fold;
    use crate::base::Tensor;
    use crate::graph::Attr;

    /// Rows with many equal elements, whole and in part, against sorting.
    #[test]
    fn the_best_in_order() {
        let values: Vec<i64> = (0..3 * 50).map(|i| i * 7919 % 23 - 11).collect();
        for (k, largest) in [(1, 1), (2, 0), (7, 1), (49, 0), (50, 1)] {
            let inputs = [Tensor::new([3, 50], &values), Tensor::new([1], &[k as i64])];
            let found = fold("TopK", 11, &[("largest", Attr::Int(largest))], &inputs, 2).expect("elements");
            let (mut best, mut places) = (Vec::new(), Vec::new());
            for row in values.chunks(50) {
                let mut order: Vec<usize> = (0..50).collect();
                order.sort_by_key(|&i| (if largest == 1 { -row[i] } else { row[i] }, i));
                best.extend(order[..k].iter().map(|&i| row[i]));
                places.extend(order[..k].iter().map(|&i| i as i64));
            }
            assert_eq!((found[0].to_i64s(), found[1].to_i64s()), (Some(best), Some(places)), "{k} {largest}");
        }
        let values: Vec<f32> = (0..2 * 203).map(|i| (i * 7919 % 211) as f32 - 90.0).collect();
        let inputs = [Tensor::new([2, 203], &values), Tensor::new([1], &[3i64])];
        let found = fold("TopK", 11, &[("largest", Attr::Int(0))], &inputs, 2).expect("elements");
        let best = |row: &[f32]| -> Vec<i64> {
            let mut order: Vec<usize> = (0..203).collect();
            order.sort_by(|&a, &b| row[a].total_cmp(&row[b]).then(a.cmp(&b)));
            order[..3].iter().map(|&i| i as i64).collect()
        };
        assert_eq!(found[1].to_i64s(), Some(values.chunks(203).flat_map(best).collect()));
        let none = [Tensor::new([2, 3], &[1f32; 6]), Tensor::new([1], &[0i64])];
        assert_eq!(fold("TopK", 11, &[], &none, 2).expect("nothing")[0].ty.shape, [2, 0]);
    }
}
