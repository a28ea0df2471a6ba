//! Caches of GroupQueryAttention that hold a window of the keys: how many stay there after so many positions, in rows
//! that begin at 0. Some are given up at once, so that not every step moves all of them.

use super::heads::Heads;
use crate::base::DType;
use crate::definition::{DefBuilder, ExprId};
use crate::error::Result;
use crate::ops::Ctx;
use crate::ops::emit::{Arith, Emit, Val, require};
use crate::scalar::Op;

/// The rows of such a cache, and how many are given up at once.
pub(super) struct Resident {
    capacity: usize,
    step: usize,
}

impl Resident {
    /// What the attributes say, and `capacity` rows of the caches; `None` where these hold all keys.
    pub(super) fn of(ctx: &Ctx, capacity: usize) -> Result<Option<Resident>> {
        if !ctx.attrs().flag("sliding_window_cache", false)? {
            return Ok(None);
        }
        let window = usize::try_from(ctx.attrs().int("local_window_size", -1)?).unwrap_or(0);
        require(window > 0, || "a cache of a window needs a local_window_size".into())?;
        require(capacity >= window, || {
            format!(
                "caches of {capacity} rows (past_key) do not hold the window of {window}; give them that many"
            )
        })?;
        require(!ctx.has(10), || "attention_bias beside a cache of a window is not supported".into())?;
        Ok(Some(Resident { capacity, step: capacity - window + 1 }))
    }

    /// How many rows are there after `total` positions.
    fn count(&self, b: &mut DefBuilder, total: ExprId) -> ExprId {
        let (capacity, step) =
            (b.number(DType::I64, self.capacity as f64), b.number(DType::I64, self.step as f64));
        let beyond = b.minus(total, capacity);
        let rounded = b.plus_number(beyond, self.step as f64 - 1.0);
        let times = b.op(Op::Div, &[rounded, step]);
        let gone = b.times(times, step);
        let left = b.minus(total, gone);
        let fits = b.op(Op::Le, &[total, capacity]);
        b.op(Op::Select, &[fits, total, left])
    }

    /// How many rows are there before the queries, whose first positions are `first`: `[batch]`.
    pub(super) fn before(&self, e: &mut Emit, first: &Val, batch: usize) -> Val {
        e.map("before", DType::I64, [batch], |b| {
            let first = b.broadcast(first, DType::I64);
            self.count(b, first)
        })
    }

    /// Stores what stays of `staged`, the rows before and those of the queries, in the cache `output`. Of each entry of
    /// the batch: the position of its first query, the rows before that, the last position.
    pub(super) fn store(&self, e: &mut Emit, staged: &Heads, output: usize, of: [&Val; 3], batch: usize) {
        let Some(val) = e.output(output) else { return };
        let all = Heads { val, length: self.capacity, ..staged.clone() };
        let dtype = all.val.dtype();
        all.define(e, "present", batch, |b| {
            let a = b.axes();
            let [first, before, last] = of.map(|v| b.elem(v, &[a[0].clone()], DType::I64));
            let total = b.plus_number(last, 1.0);
            let stay = self.count(b, total);
            let row = b.index(a[2].clone());
            let new = b.minus(total, first);
            let sum = b.plus(before, new);
            let gone = b.minus(sum, stay);
            let from = b.plus(row, gone);
            let from = b.clamp(from, 0.0, staged.length as f64 - 1.0);
            let kept = staged.elem_at(b, [&a[0], &a[1], &a[3]], from, dtype);
            let (is_kept, nothing) = (b.op(Op::Lt, &[row, stay]), b.number(dtype, 0.0));
            b.op(Op::Select, &[is_kept, kept, nothing])
        });
    }
}

#[cfg(test)]
mod tests {
    use crate::base::Tensor;
    use crate::graph::Attr;
    use crate::ops::older::fold_given;

    const WINDOW: usize = 3;

    /// A step of attention at the positions `first..end` of one sequence: result, keys, values.
    fn step(sliding: bool, first: usize, end: usize, caches: [Tensor; 2]) -> Vec<Tensor> {
        let number = |i: usize| ((i * 37 + 11) % 23) as f32 / 7.0 - 1.5;
        let rows = |shift: usize| {
            let all = (first * 8..end * 8).map(|i| number(i + 100 * shift)).collect::<Vec<f32>>();
            Some(Tensor::new([1, end - first, 8], &all))
        };
        let [keys, values] = caches.map(Some);
        let inputs = [
            rows(0),
            rows(1),
            rows(2),
            keys,
            values,
            Some(Tensor::new([1], &[end as i32 - 1])),
            Some(Tensor::new([1], &[end as i32])),
        ];
        let attrs = [
            ("num_heads", Attr::Int(1)),
            ("kv_num_heads", Attr::Int(1)),
            ("local_window_size", Attr::Int(WINDOW as i64)),
            ("sliding_window_cache", Attr::Int(i64::from(sliding))),
        ];
        fold_given("com.microsoft.GroupQueryAttention", 1, &attrs, &inputs, 3).expect("attention")
    }

    /// However the positions come in steps, the results are those of a cache of all keys; the last rows stay.
    #[test]
    fn a_window_gives_what_all_keys_give() {
        let none = || Tensor::new([1, 1, 0, 8], &[] as &[f32]);
        let floats = |t: &Tensor| t.to_vec::<f32>().expect("floats");
        let all = step(false, 0, 17, [none(), none()]);
        let (want, keys) = (floats(&all[0]), floats(&all[1]));
        // How many rows are there after each number of positions, as the operator's definition has it.
        let tables: [(usize, &[usize]); 2] = [
            (3, &[0, 1, 2, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3]),
            (5, &[0, 1, 2, 3, 4, 5, 3, 4, 5, 3, 4, 5, 3, 4, 5, 3, 4, 5]),
        ];
        for (capacity, stay) in tables {
            for ends in [&[1, 2, 3, 4, 5, 6, 7, 8, 9][..], &[4, 5, 12, 13, 17], &[17], &[2, 9, 10]] {
                let empty = || Tensor::new([1, 1, capacity, 8], &vec![f32::MAX; capacity * 8]);
                let (mut first, mut caches) = (0, [empty(), empty()]);
                for &end in ends {
                    let y = step(true, first, end, caches);
                    for (a, b) in floats(&y[0]).iter().zip(&want[first * 8..]) {
                        assert!((a - b).abs() < 1e-5, "{capacity} rows, {first} to {end}: {a} {b}");
                    }
                    let n = stay[end];
                    assert_eq!(floats(&y[1])[..n * 8], keys[(end - n) * 8..end * 8]);
                    (first, caches) = (end, [y[1].clone(), y[2].clone()]);
                }
            }
        }
    }
}
