//! Det: Gaussian elimination with row pivots, one column an iteration.

use crate::base::{Affine, DType, Tensor, TensorType};
use crate::definition::{Carry, DefBuilder, ExprId, Index, Lowering, Repeat, Slice};
use crate::error::Result;
use crate::ops::emit::{Arith, Emit, Val, compute_type, require};
use crate::ops::{Ctx, Lower, Operator};
use crate::scalar::{Fold, Op, Scalar};

/// The rows.
pub const ROWS: &[Operator] = &[Operator {
    domain: "",
    name: "Det",
    versions: &[11, 22],
    infer,
    lower: Lower::Define(lower),
    note: "",
}];

fn infer(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let x = ctx.ty(0)?;
    let rank = x.rank();
    require(rank >= 2 && x.shape[rank - 1] == x.shape[rank - 2] && x.dtype.is_float(), || {
        format!("{x} has no determinant")
    })?;
    Ok(vec![TensorType::new(x.dtype, &x.shape[..rank - 2])])
}

fn lower(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (x, out) = (e.input(0)?, e.result()?);
    let float = compute_type(x.dtype());
    let (size, count) = (x.shape()[x.rank() - 1], out.ty.elems());
    let flat = e.reshape(&x, [count, size, size]);
    let matrix = e.map("matrix", float, [count, size, size], |b| b.broadcast(&flat, float));
    let one = e.table("one", float, &[count], &vec![1.0; count]);
    let columns = e.constant("columns", Tensor::new([size], &(0..size as i64).collect::<Vec<_>>()));
    let column = e.temp("column", DType::I64, []);
    let [state, product, last_matrix, determinant] = [
        e.temp("state", float, [count, size, size]),
        e.temp("product", float, [count]),
        e.temp("triangle", float, [count, size, size]),
        e.temp("determinant", float, [count]),
    ];
    let before = e.low.stages.len();
    let (next, next_product) = eliminate(&mut e, &state, &product, &column);
    let body = e.low.stages.split_off(before);
    let slice = Slice { whole: columns.id, part: column.id, reversed: false, written: false };
    let carry = |initial: &Val, state: &Val, next: &Val, last: &Val| Carry {
        initial: initial.id,
        state: state.id,
        next: next.id,
        last: last.id,
    };
    let carries =
        vec![carry(&matrix, &state, &next, &last_matrix), carry(&one, &product, &next_product, &determinant)];
    e.low.repeat(Repeat { count: size, size: None, slices: vec![slice], carries, body });
    let shape = out.shape().to_vec();
    let shaped = e.reshape(&determinant, shape);
    e.define("", &out, |b| b.broadcast(&shaped, float));
    Ok(())
}

/// Clears one column below the diagonal, after its largest element was swapped there; gives the
/// matrices and the products of their diagonals so far.
fn eliminate(e: &mut Emit, state: &Val, product: &Val, column: &Val) -> (Val, Val) {
    let float = state.dtype();
    let (count, size) = (state.shape()[0], state.shape()[1]);
    let load = |b: &mut DefBuilder, row: Index, col: Index| {
        let n = Index::Affine(b.var(0));
        b.elem_at(state, vec![n, row, col], float)
    };
    let current = |b: &mut DefBuilder| b.elem(column, &[], DType::I64);
    // The size of row `i` in the column; below zero above the diagonal.
    let height = |b: &mut DefBuilder, i: &Affine| -> ExprId {
        let k = current(b);
        let elem = load(b, Index::Affine(i.clone()), Index::Dynamic(k));
        let abs = b.op(Op::Abs, &[elem]);
        let row = b.index(i.clone());
        let below = b.op(Op::Ge, &[row, k]);
        let none = b.number(float, -1.0);
        b.op(Op::Select, &[below, abs, none])
    };
    let highest = e.map("highest", float, [count], |b| {
        let i = b.reduce("i", size);
        let body = height(b, &i);
        b.fold(Fold::Max, body)
    });
    let pivot = e.map("pivot", DType::I64, [count], |b| {
        let i = b.reduce("i", size);
        let (height, highest) = (height(b, &i), b.elem(&highest, &[b.var(0)], float));
        let holds = b.op(Op::Eq, &[height, highest]);
        let row = b.index(i);
        let end = b.constant(Scalar::from_i64(DType::I64, size as i64 - 1));
        let body = b.op(Op::Select, &[holds, row, end]);
        b.fold(Fold::Min, body)
    });
    let swapped = e.map("swapped", float, [count, size, size], |b| {
        let (k, p, row) = (current(b), b.elem(&pivot, &[b.var(0)], DType::I64), b.index(b.var(1)));
        let (at_k, at_p) = (b.op(Op::Eq, &[row, k]), b.op(Op::Eq, &[row, p]));
        let source = b.op(Op::Select, &[at_p, k, row]);
        let source = b.op(Op::Select, &[at_k, p, source]);
        let col = Index::Affine(b.var(2));
        load(b, Index::Dynamic(source), col)
    });
    let diagonal = |b: &mut DefBuilder| {
        let k = current(b);
        b.elem_at(&swapped, vec![Index::Affine(b.var(0)), Index::Dynamic(k), Index::Dynamic(k)], float)
    };
    let next_product = e.map("next", float, [count], |b| {
        let (k, p) = (current(b), b.elem(&pivot, &[b.var(0)], DType::I64));
        let diagonal = diagonal(b);
        let old = b.broadcast(product, float);
        let new = b.times(old, diagonal);
        let negative = b.op(Op::Neg, &[new]);
        let kept = b.op(Op::Eq, &[k, p]);
        b.op(Op::Select, &[kept, new, negative])
    });
    let next = e.map("cleared", float, [count, size, size], |b| {
        let (k, row) = (current(b), b.index(b.var(1)));
        let (n, i, j) = (b.var(0), b.var(1), b.var(2));
        let elem = b.broadcast(&swapped, float);
        let factor =
            b.elem_at(&swapped, vec![n.clone().into_index(), i.into_index(), Index::Dynamic(k)], float);
        let above = b.elem_at(&swapped, vec![n.into_index(), Index::Dynamic(k), j.into_index()], float);
        let diagonal = diagonal(b);
        let (zero, below) = (b.number(float, 0.0), b.op(Op::Gt, &[row, k]));
        let singular = b.op(Op::Eq, &[diagonal, zero]);
        let quotient = b.over(factor, diagonal);
        let quotient = b.op(Op::Select, &[singular, zero, quotient]);
        let term = b.times(quotient, above);
        let cleared = b.minus(elem, term);
        b.op(Op::Select, &[below, cleared, elem])
    });
    (next, next_product)
}

trait IntoIndex {
    fn into_index(self) -> Index;
}

impl IntoIndex for Affine {
    fn into_index(self) -> Index {
        Index::Affine(self)
    }
}
