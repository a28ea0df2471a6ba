//! Producers that number one dimension by several axes, computed where they are read by the same
//! digits.
//!
//! Before: `t[8 i + j] = f(x[i, j])` and `y[i, j] = g(t[8 i + j])`, as a normalization between two
//! reshapes. After: `y[i, j] = g(f(x[i, j]))`. Goldens: `tests/golden/group`.

use super::inline::{MAX_EXPRS, reads_at_most};
use super::rewrite::{Copy, Var, copied_load, keep, replace_loads};
use crate::base::Affine;
use crate::base::affine::SIZE;
use crate::definition::{Definition, Expr, Index};

/// One digit of the index of a dimension.
pub struct Digit {
    dim: usize,
    factor: i64,
    extent: i64,
}

/// The reader with the producer computed at each of its loads; `None` where the digits differ, or
/// something would be computed twice.
pub fn inline_digits(reader: &Definition, producer: &Definition, only_reader: bool) -> Option<Definition> {
    let value = producer.output.value;
    let once = copied_load(producer).is_some() || only_reader && reads_at_most(1, reader, value);
    let padded = producer.exprs.iter().any(|e| matches!(e, Expr::Load { fill: Some(_), .. }));
    let long = reader.exprs.len() + producer.exprs.len() > MAX_EXPRS;
    if producer.fold.is_some() || !once || padded || long || producer.has_sizes() || reader.has_sizes() {
        return None;
    }
    let digits = digits(producer)?;
    let extent = |v: u32| reader.vars[v as usize].extent;
    let mut possible = true;
    let replaced = replace_loads(reader, &mut |b, operand, index, fill| {
        if reader.operands[operand as usize].value != value {
            return None;
        }
        let place = |digit: &Option<Digit>| match digit {
            None => Some(Var::Affine(Affine::constant(0))),
            Some(d) => match &index[d.dim] {
                Index::Affine(form) => Some(Var::Affine(d.of(form, &extent)?)),
                Index::Dynamic(_) => None,
            },
        };
        // What may lie outside is tested against dimensions of one point too, which are no digits.
        let inside = fill.is_none() && index.iter().all(|i| matches!(i, Index::Affine(_)));
        let vars: Option<Vec<Var>> = if inside { digits.iter().map(place).collect() } else { None };
        let inlined = vars.and_then(|v| Copy::new(producer, &v, None).expr(b, producer.finish, &mut keep));
        possible &= inlined.is_some();
        inlined
    })?;
    possible.then_some(replaced)
}

/// For each axis, the digit of the output's index that it is; `None` for an axis of extent 1.
/// Nothing where the axes are no digits, or write but a part of the output, or where that has no element.
pub fn digits(def: &Definition) -> Option<Vec<Option<Digit>>> {
    let mut digits: Vec<Option<Digit>> = def.vars[..def.axes].iter().map(|_| None).collect();
    for (dim, (form, &whole)) in def.store.iter().zip(&def.output.ty.shape).enumerate() {
        let mut terms = form.terms.clone();
        terms.sort_by_key(|t| t.1);
        let mut inside = 1;
        for &(var, factor) in &terms {
            if var >= SIZE || factor != inside || digits[var as usize].is_some() {
                return None;
            }
            let extent = def.vars[var as usize].extent as i64;
            digits[var as usize] = Some(Digit { dim, factor, extent });
            inside *= extent;
        }
        if form.base != 0 || inside != whole as i64 || whole == 0 {
            return None;
        }
    }
    let covered = digits.iter().zip(&def.vars[..def.axes]).all(|(d, v)| d.is_some() || v.extent == 1);
    covered.then_some(digits)
}

impl Digit {
    /// This digit of an index: its terms that count in it, if they never carry.
    fn of(&self, form: &Affine, extent: &dyn Fn(u32) -> usize) -> Option<Affine> {
        let next = self.factor * self.extent;
        let mut digit = Affine::constant(form.base.rem_euclid(next) / self.factor);
        for &(var, step) in form.terms.iter().filter(|t| t.0 >= SIZE || extent(t.0) > 1) {
            match step {
                _ if var >= SIZE || step < 0 => return None,
                s if s < self.factor => {}
                s if s < next && s % self.factor == 0 => digit.add_term(var, s / self.factor),
                s if s % next == 0 => {}
                _ => return None,
            }
        }
        (form.base >= 0 && digit.range(extent).1 < self.extent).then_some(digit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{DType, Tensor, TensorType};
    use crate::definition::{DefBuilder, Lowering, verify};
    use crate::group::tests::result;
    use crate::scalar::Op;

    /// `t[8 i + j] = x[i, j] + x[i, j]` of 6 by 8, and `y[p, q] = t[step p + q + first]`.
    fn between_reshapes(rows: usize, columns: usize, step: i64, first: i64) -> Lowering {
        let numbers: Vec<f32> = (0..48).map(|i| i as f32).collect();
        let (x, flat) = (Tensor::new([6, 8], &numbers), TensorType::new(DType::F32, [48]));
        let y = TensorType::new(DType::F32, [rows, columns]);
        let mut low = Lowering::default();
        let given = low.constant("x", x.clone());
        let (t, to) = (low.temporary("t", flat.clone()), low.temporary("y", y.clone()));
        let mut b = DefBuilder::new(&[6, 8]);
        let (axes, store) = (b.axes(), b.var(0).scaled(8).plus(&b.var(1)));
        let element = b.load(given, &x.ty, axes);
        let twice = b.op(Op::Add, &[element, element]);
        low.define(b.finish_at("t", t, &flat, vec![store], twice));
        let mut b = DefBuilder::new(&y.shape);
        let place = b.var(0).scaled(step).plus(&b.var(1)).offset(first);
        let element = b.load(t, &flat, vec![place]);
        low.define(b.finish("y", to, &y, element));
        low
    }

    fn inlined(low: &mut Lowering) -> bool {
        let definition = |i: usize| match &low.stages[i] {
            crate::definition::Stage::Define(d) => d,
            _ => panic!("a definition"),
        };
        let Some(fused) = inline_digits(definition(1), definition(0), true) else { return false };
        low.stages = vec![crate::definition::Stage::Define(fused)];
        verify(low).unwrap();
        true
    }

    #[test]
    fn the_same_digits_are_computed_where_they_are_read() {
        // All rows; two columns of each; every second row from the second on.
        for (rows, columns, step, first) in [(6, 8, 8, 0), (6, 2, 8, 3), (3, 8, 16, 8)] {
            let mut low = between_reshapes(rows, columns, step, first);
            let before = result(&low);
            assert!(inlined(&mut low), "{rows} {columns} {step} {first}");
            assert_eq!(before, result(&low));
        }
    }

    #[test]
    fn other_digits_stay() {
        // Rows of another length; rows that reach into the next one.
        for (rows, columns, step, first) in [(8, 6, 6, 0), (5, 8, 8, 3)] {
            assert!(!inlined(&mut between_reshapes(rows, columns, step, first)));
        }
    }
}
