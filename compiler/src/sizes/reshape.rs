//! Reshapes of tensors whose dimensions are known only at run time, as copies.
//!
//! Equal dimensions are paired from the right and from the left, runs of fixed dimensions with the
//! same product among them. What is left in the middle is counted through: the place of an element
//! among the elements there is divided by the dimensions of the source, at run time.

use super::Merger;
use crate::base::{Affine, DType, TensorType};
use crate::definition::{DefBuilder, Definition, ExprId, Index, Stage, ValueId, Var};
use crate::error::Result;
use crate::scalar::Op;

/// A value and its dimensions.
pub(super) struct Shape {
    pub value: ValueId,
    pub ty: TensorType,
    pub dims: Vec<Affine>,
}

/// The pairing of two shapes.
struct Pairing {
    vars: Vec<Var>,
    from: Vec<Affine>,
    to: Vec<Affine>,
}

impl Merger<'_> {
    pub(super) fn reshape(&mut self, from: ValueId, to: ValueId) -> Result<Vec<Stage>> {
        if !self.low.dims.contains_key(&from) && !self.low.dims.contains_key(&to) {
            return Ok(vec![Stage::Reshape { from, to }]);
        }
        let name = self.low.values[to as usize].name.clone();
        let (from, to) = (self.shape(from), self.shape(to));
        Ok(vec![Stage::Define(reshaped(&name, &from, &to))])
    }

    pub(super) fn shape(&self, value: ValueId) -> Shape {
        Shape { value, ty: self.low.values[value as usize].ty.clone(), dims: self.dims(value) }
    }
}

/// The copy that reshapes.
fn reshaped(name: &str, from: &Shape, to: &Shape) -> Definition {
    let mut p = Pairing {
        vars: Vec::new(),
        from: vec![Affine::constant(0); from.dims.len()],
        to: vec![Affine::constant(0); to.dims.len()],
    };
    let (mut a, mut b) = (0..from.dims.len(), 0..to.dims.len());
    while p.pair_last(from, to, &mut a, &mut b) {}
    while p.pair_first(from, to, &mut a, &mut b) {}
    for d in b.clone() {
        p.to[d] = p.axis(to, d);
    }
    let axes = p.vars.len();
    let mut builder = DefBuilder::with_vars(p.vars, axes);
    let mut index: Vec<Index> = p.from.into_iter().map(Index::Affine).collect();
    let rest: Vec<usize> = a.filter(|&d| from.dims[d] != Affine::constant(1)).collect();
    if !rest.is_empty() {
        let place =
            counted(&mut builder, &b.map(|d| (p.to[d].clone(), to.dims[d].clone())).collect::<Vec<_>>());
        divided(&mut builder, place, &rest, &from.dims, &mut index);
    }
    let element = builder.load_at(from.value, &from.ty, index, None);
    builder.finish_at(name, to.value, &to.ty, p.to, element)
}

impl Pairing {
    /// A new axis along a dimension.
    fn axis(&mut self, shape: &Shape, d: usize) -> Affine {
        let size = Some(shape.dims[d].clone()).filter(|f| !f.is_constant());
        self.vars.push(Var { name: format!("i{}", self.vars.len()), extent: shape.ty.shape[d], size });
        Affine::var(self.vars.len() as u32 - 1)
    }

    fn pair_last(
        &mut self,
        from: &Shape,
        to: &Shape,
        a: &mut std::ops::Range<usize>,
        b: &mut std::ops::Range<usize>,
    ) -> bool {
        let one = Affine::constant(1);
        while left(a) && from.dims[a.end - 1] == one {
            a.end -= 1;
        }
        while left(b) && to.dims[b.end - 1] == one {
            b.end -= 1;
        }
        if !left(a) || !left(b) {
            return false;
        }
        if from.dims[a.end - 1] == to.dims[b.end - 1] {
            (a.end, b.end) = (a.end - 1, b.end - 1);
            let axis = self.axis(to, b.end);
            (self.from[a.end], self.to[b.end]) = (axis.clone(), axis);
            return true;
        }
        let (left, right) = (fixed_run(from, a.clone(), true), fixed_run(to, b.clone(), true));
        let Some((m, n)) = equal_products(&left, &right) else { return false };
        (a.end, b.end) = (a.end - m, b.end - n);
        self.run((from, a.end, m), (to, b.end, n));
        true
    }

    fn pair_first(
        &mut self,
        from: &Shape,
        to: &Shape,
        a: &mut std::ops::Range<usize>,
        b: &mut std::ops::Range<usize>,
    ) -> bool {
        let one = Affine::constant(1);
        while left(a) && from.dims[a.start] == one {
            a.start += 1;
        }
        while left(b) && to.dims[b.start] == one {
            b.start += 1;
        }
        if !left(a) || !left(b) {
            return false;
        }
        if from.dims[a.start] == to.dims[b.start] {
            let axis = self.axis(to, b.start);
            (self.from[a.start], self.to[b.start]) = (axis.clone(), axis);
            (a.start, b.start) = (a.start + 1, b.start + 1);
            return true;
        }
        let (left, right) = (fixed_run(from, a.clone(), false), fixed_run(to, b.clone(), false));
        let Some((m, n)) = equal_products(&left, &right) else { return false };
        self.run((from, a.start, m), (to, b.start, n));
        (a.start, b.start) = (a.start + m, b.start + n);
        true
    }

    /// Pairs a run of fixed dimensions with one that is their product.
    fn run(&mut self, (from, i, m): (&Shape, usize, usize), (to, j, n): (&Shape, usize, usize)) {
        let (fine, start, count) = if m >= n { (from, i, m) } else { (to, j, n) };
        let mut whole = Affine::constant(0);
        for d in start..start + count {
            let axis = self.axis(fine, d);
            whole = whole.scaled(fine.ty.shape[d] as i64).plus(&axis);
            match m >= n {
                true => self.from[d] = axis,
                false => self.to[d] = axis,
            }
        }
        match m >= n {
            true => self.to[j] = whole,
            false => self.from[i] = whole,
        }
    }
}

/// Whether dimensions are left.
fn left(range: &std::ops::Range<usize>) -> bool {
    range.start < range.end
}

/// The fixed dimensions at one end of a range, from that end on.
fn fixed_run(shape: &Shape, range: std::ops::Range<usize>, last: bool) -> Vec<i64> {
    let dims: Vec<&Affine> = if last {
        range.rev().map(|d| &shape.dims[d]).collect()
    } else {
        range.map(|d| &shape.dims[d]).collect()
    };
    dims.into_iter().take_while(|d| d.is_constant()).map(|d| d.base).collect()
}

/// How many of each run, one of one of them, have the same product.
fn equal_products(a: &[i64], b: &[i64]) -> Option<(usize, usize)> {
    let count =
        |run: &[i64], wanted: i64| (1..=run.len()).find(|&n| run[..n].iter().product::<i64>() == wanted);
    let one = a.first().and_then(|&first| Some((1, count(b, first)?)));
    one.or_else(|| b.first().and_then(|&first| Some((count(a, first)?, 1))))
}

/// The place among the elements of some dimensions: `(index, dimension)`, outermost first.
fn counted(b: &mut DefBuilder, dims: &[(Affine, Affine)]) -> ExprId {
    let mut place = b.number(DType::I64, 0.0);
    for (i, (index, dim)) in dims.iter().enumerate() {
        let index = b.index(index.clone());
        if i == 0 {
            place = index;
            continue;
        }
        let dim = b.index(dim.clone());
        let before = b.op(Op::Mul, &[place, dim]);
        place = b.op(Op::Add, &[before, index]);
    }
    place
}

/// Divides a place into the indices of the dimensions `list`.
fn divided(b: &mut DefBuilder, mut place: ExprId, list: &[usize], dims: &[Affine], index: &mut [Index]) {
    for &d in list[1..].iter().rev() {
        let dim = b.index(dims[d].clone());
        index[d] = Index::Dynamic(b.op(Op::Rem, &[place, dim]));
        place = b.op(Op::Div, &[place, dim]);
    }
    index[list[0]] = Index::Dynamic(place);
}
