//! Copies between tensors of the application, dense at the actual sizes, and those whose elements lie where they would
//! at the bounds: row by row, a row being what lies together in both.

use super::Merger;
use super::reshape::Shape;
use crate::base::{Affine, DType, TensorType};
use crate::definition::{Operand, Stage};
use crate::error::{Error, Result};
use crate::nest::bind_sizes;
use crate::ops::emit::Val;
use crate::ops::routine::{Code, Place};
use crate::tile::{Access, Bin, Cmp, Lane, Reg};

/// So many vectors are copied at once.
const VECTORS: usize = 4;

/// The two parameters of a copy.
struct Copy {
    /// The one whose elements lie where they would at the bounds.
    bound: u32,
    dense: u32,
    /// Whether the dense one is written.
    packs: bool,
}

/// Where a row lies.
struct Row {
    /// In the tensor at the bounds.
    bound: Affine,
    /// In the dense one, and the largest such place.
    dense: (Reg, usize),
    /// Its length, the same in a register, and the largest.
    length: (Affine, Reg, usize),
}

impl Merger<'_> {
    /// The copy of a value to its dense form, or from there.
    pub(super) fn copied(&self, bound: &Shape, dense: &Shape, packs: bool) -> Result<Stage> {
        let mut code = Code::new(if packs { "pack" } else { "unpack" });
        let val = |shape: &Shape| Val { id: shape.value, ty: shape.ty.clone() };
        let (read, write) = if packs { (bound, dense) } else { (dense, bound) };
        let from = code.param("from", &val(read), Access::Read);
        let to = code.param("to", &val(write), Access::Write);
        let (bound_param, dense_param) = if packs { (from, to) } else { (to, from) };
        let copy = Copy { bound: bound_param, dense: dense_param, packs };
        let last = bound.dims.iter().rposition(|d| !d.is_constant()).unwrap_or(0);
        copy.outer(&mut code, bound, last, Vec::new());
        let mut routine = code.routine();
        for number in bind_sizes(&mut routine.kernel) {
            let value = self.low.sizes.get(number).ok_or_else(|| Error::bug("no such size"))?.value;
            routine.operands.push(Operand { value, ty: TensorType::new(DType::I64, []) });
        }
        Ok(Stage::Routine(routine))
    }
}

impl Copy {
    /// Loops over the dimensions around a row, whose last free dimension is `last`; `index` is that of the outer ones.
    fn outer(&self, code: &mut Code, shape: &Shape, last: usize, mut index: Vec<Affine>) {
        if index.len() < last {
            let end = shape.dims[index.len()].clone();
            if end == Affine::constant(1) {
                index.push(Affine::constant(0));
                return self.outer(code, shape, last, index);
            }
            return code.repeat_to("i", &end, |code, i| {
                index.push(i);
                self.outer(code, shape, last, index);
            });
        }
        let inner: usize = shape.ty.shape[last + 1..].iter().product();
        let (length, most) = (shape.dims[last].scaled(inner as i64), shape.ty.shape[last] * inner);
        let mut bound = Affine::constant(0);
        let mut before = code.number(Lane::I64, 0.0);
        for (d, i) in index.iter().enumerate() {
            bound = bound.scaled(shape.ty.shape[d] as i64).plus(i);
            let (dim, i) = (code.index(Lane::I64, &shape.dims[d]), code.index(Lane::I64, i));
            let rows = code.bin(Bin::Mul, before, dim);
            before = code.bin(Bin::Add, rows, i);
        }
        let whole = code.index(Lane::I64, &length);
        let place = code.bin(Bin::Mul, before, whole);
        let row = Row {
            bound: bound.scaled(most as i64),
            dense: (place, shape.ty.elems().saturating_sub(most)),
            length: (length, whole, most),
        };
        self.row(code, &row);
    }

    /// Vectors, the last ones of which overlap those before; elements, where a row is shorter.
    fn row(&self, code: &mut Code, row: &Row) {
        let lanes = if matches!(code.lane(self.dense), Lane::F64 | Lane::I64) { 2 } else { 4 };
        let step = lanes * VECTORS;
        let (length, whole, most) = &row.length;
        let limit = code.number(Lane::I64, step as f64);
        let short = code.cmp(Cmp::Lt, *whole, limit);
        code.when(short, |code| {
            code.repeat_to("e", length, |code, at| self.elements(code, row, &at, None, 1));
        });
        if *most < step {
            return;
        }
        let long = code.cmp(Cmp::Le, limit, *whole);
        code.when(long, |code| {
            code.repeat_by("v", &length.offset(1 - step as i64), step as i64, |code, at| {
                self.elements(code, row, &at, None, lanes);
            });
            let rest = code.bin(Bin::Sub, *whole, limit);
            self.elements(code, row, &Affine::constant(0), Some((rest, most - step)), lanes);
        });
    }

    /// One element, or vectors, at a place in a row: an affine part, and a computed one with its largest value.
    fn elements(&self, code: &mut Code, row: &Row, at: &Affine, rest: Option<(Reg, usize)>, lanes: usize) {
        let (place, largest) = row.dense;
        let dense = match rest {
            Some((rest, most)) => (code.bin(Bin::Add, place, rest), largest + most),
            None => (place, largest),
        };
        let sides = [
            (self.bound, Place { index: row.bound.plus(at), dynamic: rest }),
            (self.dense, Place { index: at.clone(), dynamic: Some(dense) }),
        ];
        let [(from, read), (to, write)] = if self.packs { [0, 1] } else { [1, 0] }.map(|i| sides[i].clone());
        let shifted =
            |place: &Place, by: usize| Place { index: place.index.offset(by as i64), ..place.clone() };
        let vectors = if lanes == 1 { 1 } else { VECTORS };
        let loaded: Vec<Reg> =
            (0..vectors).map(|n| code.load_run(from, shifted(&read, n * lanes), lanes as u8)).collect();
        for (n, elements) in loaded.into_iter().enumerate() {
            code.store(to, shifted(&write, n * lanes), elements);
        }
    }
}
