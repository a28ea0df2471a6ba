//! Det, and Inverse of com.microsoft: Gaussian elimination with row pivots, one column an iteration.

use crate::base::{Affine, DType, Tensor, TensorType};
use crate::definition::{Carry, DefBuilder, ExprId, Index, Lowering, Repeat, Slice};
use crate::error::Result;
use crate::ops::emit::{Arith, Emit, Val, compute_type, require};
use crate::ops::{Ctx, Operator};
use crate::scalar::{Fold, Op, Scalar};

/// The rows.
pub const ROWS: &[Operator] = &[
    Operator::define("", "Det", &[11, 22], infer_determinant, determinant),
    Operator::define("com.microsoft", "Inverse", &[1], infer_inverse, inverse),
];

/// Rank of a tensor of square matrices.
fn square(x: &TensorType) -> Result<usize> {
    let rank = x.rank();
    require(rank >= 2 && x.shape[rank - 1] == x.shape[rank - 2] && x.dtype.is_float(), || {
        format!("{x} does not hold square matrices of floats")
    })?;
    Ok(rank)
}

fn infer_determinant(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let x = ctx.ty(0)?;
    let rank = square(x)?;
    Ok(vec![TensorType::new(x.dtype, &x.shape[..rank - 2])])
}

fn infer_inverse(ctx: &Ctx) -> Result<Vec<TensorType>> {
    square(ctx.ty(0)?)?;
    Ok(vec![ctx.ty(0)?.clone()])
}

fn determinant(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (x, out) = (e.input(0)?, e.result()?);
    let float = compute_type(x.dtype());
    let (size, count) = (x.shape()[x.rank() - 1], out.ty.elems());
    let flat = e.reshape(&x, [count, size, size]);
    let matrix = e.map("matrix", float, [count, size, size], |b| b.broadcast(&flat, float));
    let (_, determinant) = eliminated(&mut e, &matrix, false);
    let shape = out.shape().to_vec();
    let shaped = e.reshape(&determinant, shape);
    e.define("", &out, |b| b.broadcast(&shaped, float));
    Ok(())
}

/// The unit matrix beside each matrix becomes the inverse where the matrix becomes the unit matrix.
fn inverse(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (x, out) = (e.input(0)?, e.result()?);
    let float = compute_type(x.dtype());
    let size = x.shape()[x.rank() - 1];
    let count = x.ty.elems() / (size * size).max(1);
    let flat = e.reshape(&x, [count, size, size]);
    let both = e.temp("both", float, [count, size, 2 * size]);
    let axes: [Affine; 3] = std::array::from_fn(|i| Affine::var(i as u32));
    let place = |first: usize| vec![axes[0].clone(), axes[1].clone(), axes[2].offset(first as i64)];
    e.define_at("matrix", &both, &[count, size, size], place(0), |b| b.broadcast(&flat, float));
    e.define_at("unit", &both, &[count, size, size], place(size), |b| {
        let (row, column) = (b.index(b.var(1)), b.index(b.var(2)));
        let diagonal = b.op(Op::Eq, &[row, column]);
        let (one, zero) = (b.number(float, 1.0), b.number(float, 0.0));
        b.op(Op::Select, &[diagonal, one, zero])
    });
    let (reduced, _) = eliminated(&mut e, &both, true);
    let shaped = e.map("inverse", float, [count, size, size], |b| {
        let value = b.elem(&reduced, &place(size), float);
        let diagonal = b.elem(&reduced, &[axes[0].clone(), axes[1].clone(), axes[1].clone()], float);
        b.over(value, diagonal)
    });
    let shape = out.shape().to_vec();
    let shaped = e.reshape(&shaped, shape);
    e.define("", &out, |b| b.broadcast(&shaped, float));
    Ok(())
}

/// Matrices `[count, rows, columns]` after elimination below the diagonal, or also above, and the products
/// of their diagonals with the sign that the swapped rows give.
fn eliminated(e: &mut Emit, matrix: &Val, above: bool) -> (Val, Val) {
    let float = matrix.dtype();
    let (count, size) = (matrix.shape()[0], matrix.shape()[1]);
    let one = e.table("one", float, &[count], &vec![1.0; count]);
    let columns = e.constant("columns", Tensor::new([size], &(0..size as i64).collect::<Vec<_>>()));
    let column = e.temp("column", DType::I64, []);
    let [state, product, last_matrix, determinant] = [
        e.temp("state", float, matrix.shape()),
        e.temp("product", float, [count]),
        e.temp("triangle", float, matrix.shape()),
        e.temp("determinant", float, [count]),
    ];
    let before = e.low.stages.len();
    let (next, next_product) = eliminate(e, &state, &product, &column, above);
    let body = e.low.stages.split_off(before);
    let slice = Slice { whole: columns.id, part: column.id, reversed: false, written: false };
    let carry = |initial: &Val, state: &Val, next: &Val, last: &Val| Carry {
        initial: initial.id,
        state: state.id,
        next: next.id,
        last: last.id,
    };
    let carries =
        vec![carry(matrix, &state, &next, &last_matrix), carry(&one, &product, &next_product, &determinant)];
    e.low.repeat(Repeat { count: size, size: None, condition: None, slices: vec![slice], carries, body });
    (last_matrix, determinant)
}

/// One iteration: the matrices before it, and the column that it clears.
struct Column<'a> {
    /// `[count, size, ...]`.
    state: &'a Val,
    /// The column's number, also that of its diagonal element.
    number: &'a Val,
}

impl Column<'_> {
    fn float(&self) -> DType {
        self.state.dtype()
    }

    fn elem(&self, b: &mut DefBuilder, row: Index, col: Index) -> ExprId {
        let n = Index::Affine(b.var(0));
        b.elem_at(self.state, vec![n, row, col], self.float())
    }

    fn current(&self, b: &mut DefBuilder) -> ExprId {
        b.elem(self.number, &[], DType::I64)
    }

    /// The size of row `i` in the column; below zero above the diagonal.
    fn height(&self, b: &mut DefBuilder, i: &Affine) -> ExprId {
        let k = self.current(b);
        let elem = self.elem(b, Index::Affine(i.clone()), Index::Dynamic(k));
        let abs = b.op(Op::Abs, &[elem]);
        let row = b.index(i.clone());
        let below = b.op(Op::Ge, &[row, k]);
        let none = b.number(self.float(), -1.0);
        b.op(Op::Select, &[below, abs, none])
    }

    /// The first row with the largest element at or below the diagonal, `[count]`.
    fn pivot(&self, e: &mut Emit) -> Val {
        let (count, size) = (self.state.shape()[0], self.state.shape()[1]);
        let highest = e.map("highest", self.float(), [count], |b| {
            let i = b.reduce("i", size);
            let body = self.height(b, &i);
            b.fold(Fold::Max, body)
        });
        e.map("pivot", DType::I64, [count], |b| {
            let i = b.reduce("i", size);
            let (height, highest) = (self.height(b, &i), b.elem(&highest, &[b.var(0)], self.float()));
            let holds = b.op(Op::Eq, &[height, highest]);
            let row = b.index(i);
            let end = b.constant(Scalar::from_i64(DType::I64, size as i64 - 1));
            let body = b.op(Op::Select, &[holds, row, end]);
            b.fold(Fold::Min, body)
        })
    }

    /// The matrices with the pivot's row on the diagonal.
    fn swapped(&self, e: &mut Emit, pivot: &Val) -> Val {
        e.map("swapped", self.float(), self.state.shape(), |b| {
            let (k, p, row) = (self.current(b), b.elem(pivot, &[b.var(0)], DType::I64), b.index(b.var(1)));
            let (at_k, at_p) = (b.op(Op::Eq, &[row, k]), b.op(Op::Eq, &[row, p]));
            let source = b.op(Op::Select, &[at_p, k, row]);
            let source = b.op(Op::Select, &[at_k, p, source]);
            let col = Index::Affine(b.var(2));
            self.elem(b, Index::Dynamic(source), col)
        })
    }
}

/// Clears one column below the diagonal (also `above` it), after its largest element was swapped there;
/// gives the matrices and the products of their diagonals so far.
fn eliminate(e: &mut Emit, state: &Val, product: &Val, column: &Val, above: bool) -> (Val, Val) {
    let (float, count) = (state.dtype(), state.shape()[0]);
    let column = Column { state, number: column };
    let pivot = column.pivot(e);
    let swapped = column.swapped(e, &pivot);
    let column = Column { state: &swapped, ..column };
    let diagonal = |b: &mut DefBuilder| {
        let k = column.current(b);
        column.elem(b, Index::Dynamic(k), Index::Dynamic(k))
    };
    let next_product = e.map("next", float, [count], |b| {
        let (k, p) = (column.current(b), b.elem(&pivot, &[b.var(0)], DType::I64));
        let diagonal = diagonal(b);
        let old = b.broadcast(product, float);
        let new = b.times(old, diagonal);
        let negative = b.op(Op::Neg, &[new]);
        let kept = b.op(Op::Eq, &[k, p]);
        b.op(Op::Select, &[kept, new, negative])
    });
    let wide = [count, state.shape()[2]];
    let pivot_row = e.map("pivot_row", float, wide, |b| {
        let (k, j) = (column.current(b), Index::Affine(b.var(1)));
        column.elem(b, Index::Dynamic(k), j)
    });
    // How many times the pivot's row each row loses.
    let times = e.map("times", float, [count, state.shape()[1]], |b| {
        let (k, row, i) = (column.current(b), b.index(b.var(1)), Index::Affine(b.var(1)));
        let factor = column.elem(b, i, Index::Dynamic(k));
        let (diagonal, zero) = (diagonal(b), b.number(float, 0.0));
        let (cleared, regular) =
            (b.op(if above { Op::Ne } else { Op::Gt }, &[row, k]), b.op(Op::Ne, &[diagonal, zero]));
        let quotient = b.over(factor, diagonal);
        let quotient = b.op(Op::Select, &[regular, quotient, zero]);
        b.op(Op::Select, &[cleared, quotient, zero])
    });
    let next = e.map("cleared", float, state.shape(), |b| {
        let elem = b.broadcast(&swapped, float);
        let times = b.elem(&times, &[b.var(0), b.var(1)], float);
        let pivot_row = b.elem(&pivot_row, &[b.var(0), b.var(2)], float);
        let term = b.times(times, pivot_row);
        b.minus(elem, term)
    });
    (next, next_product)
}

#[cfg(test)]
mod tests {
    use crate::base::Tensor;
    use crate::ops::older::floats;

    /// The first has a zero on its diagonal.
    #[test]
    fn inverses() {
        let x = Tensor::new([2, 2, 2], &[0f32, 2.0, 1.0, 1.0, 4.0, 0.0, 0.0, 0.5]);
        let y = floats("com.microsoft.Inverse", 1, &[], &[x]);
        assert_eq!(y, [-0.5, 1.0, 0.5, 0.0, 0.25, 0.0, 0.0, 2.0]);
    }
}
