//! Numbers of 64 bits in lanes beside those of 32.

use super::run;
use crate::base::{DType, TensorType};
use crate::definition::{DefBuilder, Definition};
use crate::scalar::{Fold, Op, Scalar};
use crate::schedule::choose::choose;
use crate::schedule::linear::{Layout, Linear};
use crate::schedule::{Schedule, Vector, parse, verify};
use crate::target::resolve;

/// `cast(op(cast(x) * y) / 3)` of floats and a number of 64 bits per column.
fn scaled(op: Op, columns: usize) -> Definition {
    let x = TensorType::new(DType::F32, [3, columns]);
    let y = TensorType::new(DType::F64, [columns]);
    let mut b = DefBuilder::new(&x.shape);
    let (row, column) = (b.var(0), b.var(1));
    let data = b.load(0, &x, vec![row, column.clone()]);
    let factor = b.load(1, &y, vec![column]);
    let data = b.cast(DType::F64, data);
    let product = b.op(Op::Mul, &[data, factor]);
    let result = b.op(op, &[product]);
    let three = b.constant(Scalar::from_f64(DType::F64, 3.0));
    let result = b.op(Op::Div, &[result, three]);
    let result = b.cast(DType::F32, result);
    b.finish("scaled", 2, &x, result)
}

/// `x * w + bias`, all of it in `f64`.
fn product(rows: usize, depth: usize, columns: usize) -> Definition {
    let double = |shape: &[usize]| TensorType::new(DType::F64, shape);
    let (x, w, y) = (double(&[rows, depth]), double(&[depth, columns]), double(&[rows, columns]));
    let mut b = DefBuilder::new(&y.shape);
    let (row, column, k) = (b.var(0), b.var(1), b.reduce("k", depth));
    let data = b.load(0, &x, vec![row, k.clone()]);
    let weights = b.load(1, &w, vec![k, column.clone()]);
    let product = b.op(Op::Mul, &[data, weights]);
    let acc = b.fold(Fold::Sum, product);
    let bias = b.load(2, &double(&[columns]), vec![column]);
    let result = b.op(Op::Add, &[acc, bias]);
    b.finish("product", 3, &y, result)
}

fn linear(def: &Definition) -> Linear {
    let layouts: Vec<Layout> = def.operands.iter().map(|o| Layout::dense(&o.ty.shape)).collect();
    let constant: Vec<bool> = (0..def.operands.len()).map(|i| i > 0 && def.fold.is_some()).collect();
    Linear::new(def, &layouts, &constant, &Layout::dense(&def.output.ty.shape))
}

/// Targets, and the lanes of 64 bits that definitions have there: two vectors of 128 bits, or one wider one.
const TARGETS: [(&str, &str, usize); 4] = [
    ("x86_64", "x86-64-v3", 4),
    ("x86_64", "icelake-server", 8),
    ("x86_64", "generic", 4),
    ("aarch64", "generic", 4),
];

fn agrees(def: &Definition) {
    let linear = linear(def);
    let constant: Vec<bool> = linear.buffers.iter().map(|b| b.constant).collect();
    let expected = run(&linear, &Schedule::naive(&linear), &constant);
    for (triple, cpu, lanes) in TARGETS {
        let schedule = choose(&linear, &resolve(triple, cpu).unwrap());
        let text = schedule.display(&linear);
        assert!(matches!(schedule.vector, Vector::Axis { lanes: l, .. } if l == lanes), "{cpu}: {text}");
        verify(&schedule, &linear).unwrap();
        assert_eq!(parse(&text, &linear).unwrap(), schedule, "{text}");
        assert_eq!(run(&linear, &schedule, &constant), expected, "{cpu}: {text}");
    }
}

#[test]
fn doubles_in_lanes_agree_with_the_naive_loops() {
    for columns in [5, 16, 43] {
        for op in [Op::Round, Op::Neg, Op::Abs, Op::Sqrt, Op::Floor, Op::Ceil, Op::Trunc, Op::Exp] {
            agrees(&scaled(op, columns));
        }
    }
}

#[test]
fn products_of_doubles_agree_with_the_naive_loops() {
    for (rows, depth, columns) in [(1, 7, 16), (3, 40, 21), (12, 9, 64)] {
        agrees(&product(rows, depth, columns));
    }
}
