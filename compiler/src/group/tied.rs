//! A table of which rows are picked, and a copy of it with rows and columns exchanged, become one.
//!
//! Language models multiply by the embedding that they pick tokens from. Exporters write its transpose as a
//! constant of its own, or as a Transpose that is computed at compile time; read in the table's order, the largest
//! tensor of a small model lies in memory once.

use crate::base::{Affine, Tensor};
use crate::definition::{Definition, Expr, Index, Lowering, ValueId, definitions, each_definition};
use std::collections::{HashMap, HashSet};

/// Bytes of a table from which on a second copy counts.
pub const TABLE: usize = 1 << 14;

/// Lets definitions that read an exchanged copy of a table read the table.
pub fn tie(lowering: &mut Lowering) {
    let all = definitions(&lowering.stages);
    let mut picked: HashSet<ValueId> = all.iter().flat_map(|def| row_tables(def)).collect();
    // Dequantized tables are made of others.
    let mut before = 0;
    while picked.len() > before {
        before = picked.len();
        for def in &all {
            if picked.contains(&def.output.value) {
                picked.extend(elementwise(def));
            }
        }
    }
    let mut picked: Vec<ValueId> = picked.into_iter().collect();
    picked.sort_unstable();
    let constant = |v: ValueId| lowering.values[v as usize].constant.as_ref();
    let mut tied: HashMap<ValueId, ValueId> = HashMap::new();
    for table in picked {
        let Some(rows) = constant(table).filter(|t| t.data.len() >= TABLE) else { continue };
        let copies = (0..lowering.values.len() as ValueId)
            .filter(|&v| v != table && constant(v).is_some_and(|other| is_exchanged(rows, other)));
        tied.extend(copies.map(|copy| (copy, table)));
    }
    if !tied.is_empty() {
        each_definition(&mut lowering.stages, &mut |def| exchange(def, &tied));
    }
}

/// The values with two dimensions that a definition goes through element by element.
fn elementwise(def: &Definition) -> Vec<ValueId> {
    let own = |(d, i): (usize, &Index)| i.affine() == Some(&Affine::var(d as u32));
    let loaded = |e: &Expr| match e {
        Expr::Load { operand, index, fill: None } if index.iter().enumerate().all(own) => {
            let operand = &def.operands[*operand as usize];
            (operand.ty.shape == def.output.ty.shape && index.len() == 2).then_some(operand.value)
        }
        _ => None,
    };
    if def.fold.is_some() { Vec::new() } else { def.exprs.iter().filter_map(loaded).collect() }
}

/// The values with two dimensions of which a definition picks rows by a computed index.
pub fn row_tables(def: &Definition) -> Vec<ValueId> {
    let picks = |e: &Expr| match e {
        Expr::Load { operand, index, .. } => match index.as_slice() {
            [Index::Dynamic(_), Index::Affine(_)] => Some(def.operands[*operand as usize].value),
            _ => None,
        },
        _ => None,
    };
    def.exprs.iter().filter_map(picks).collect()
}

/// Whether a matrix is another with rows and columns exchanged.
fn is_exchanged(rows: &Tensor, other: &Tensor) -> bool {
    let ([n, k], [j, m]) = (&rows.ty.shape[..], &other.ty.shape[..]) else { return false };
    if (n, k, rows.ty.dtype) != (m, j, other.ty.dtype) || rows.ty.dtype.bits() < 8 {
        return false;
    }
    let size = rows.ty.dtype.size();
    let row = |i: usize| rows.data[i * k * size..][..k * size].chunks_exact(size);
    let column = |i: usize| (0..*k).map(move |c| &other.data[(c * n + i) * size..][..size]);
    (0..*n).all(|i| row(i).eq(column(i)))
}

/// Reads tables in the place of their exchanged copies.
fn exchange(def: &mut Definition, tied: &HashMap<ValueId, ValueId>) {
    for (number, operand) in def.operands.iter_mut().enumerate() {
        let Some(&table) = tied.get(&operand.value) else { continue };
        operand.value = table;
        operand.ty.shape.reverse();
        for expr in &mut def.exprs {
            if let Expr::Load { operand, index, .. } = expr
                && *operand as usize == number
            {
                index.reverse();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{DType, TensorType};
    use crate::definition::{DefBuilder, verify};
    use crate::scalar::{Fold, Op};

    /// `e[k] = T[row, k]` and `y[n] = sum(k) e[k] * C[k, n]`, where `C` is `T` exchanged but for one element.
    fn embedding(change: f32) -> (Lowering, [ValueId; 2]) {
        let (n, k) = (80, 64);
        let element = |i: usize| (i * 37 % 1009) as f32;
        let rows: Vec<f32> = (0..n * k).map(element).collect();
        let mut columns: Vec<f32> = (0..n * k).map(|i| element(i % n * k + i / n)).collect();
        columns[n * k - 1] += change;
        let mut low = Lowering::default();
        let [table, copy] = [("T", [n, k], rows), ("C", [k, n], columns)]
            .map(|(name, shape, elements)| low.constant(name, Tensor::new(shape, &elements)));
        let ty = |dtype, shape: &[usize]| TensorType::new(dtype, shape);
        let (row, e, y) = (ty(DType::I64, &[1]), ty(DType::F32, &[k]), ty(DType::F32, &[n]));
        let [from, picked, out] =
            [("row", &row), ("e", &e), ("y", &y)].map(|(name, ty)| low.temporary(name, ty.clone()));
        let mut b = DefBuilder::new(&[k]);
        let number = b.load(from, &row, vec![Affine::constant(0)]);
        let index = vec![Index::Dynamic(number), Index::Affine(b.var(0))];
        let element = b.load_at(table, &ty(DType::F32, &[n, k]), index, None);
        low.define(b.finish("e", picked, &e, element));
        let mut b = DefBuilder::new(&[n]);
        let along = b.reduce("k", k);
        let (weight, column) = (b.load(picked, &e, vec![along.clone()]), vec![along, b.var(0)]);
        let column = b.load(copy, &ty(DType::F32, &[k, n]), column);
        let product = b.op(Op::Mul, &[weight, column]);
        let sum = b.fold(Fold::Sum, product);
        low.define(b.finish("y", out, &y, sum));
        (low, [table, copy])
    }

    #[test]
    fn an_exchanged_copy_of_a_table_is_the_table() {
        for (change, own) in [(0.0, false), (1.0, true)] {
            let (mut low, [table, copy]) = embedding(change);
            tie(&mut low);
            verify(&low).unwrap();
            let reads = low.stages[1].reads();
            assert_eq!((reads.contains(&table), reads.contains(&copy)), (!own, own));
        }
    }
}
