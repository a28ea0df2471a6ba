//! Bytes that are only moved or compared, four to a lane.

use super::{TARGETS, nest};
use crate::base::{DType, TensorType};
use crate::definition::{DefBuilder, Definition};
use crate::scalar::{Fold, Op, Scalar};
use crate::schedule::choose::choose;
use crate::schedule::linear::{Layout, Linear};
use crate::schedule::{Schedule, in_quads, verify};
use crate::tile::interpret;

/// Windows of 3 by 3 points, two apart, over channels last, padded by the smallest number.
fn pool(dtype: DType, fold: Fold, c: usize, padded: bool) -> Definition {
    let (size, rim) = (9, usize::from(!padded));
    let x = TensorType::new(dtype, [size + 2 * rim, size + 2 * rim, c]);
    let y = TensorType::new(dtype, [5, 5, c]);
    let mut b = DefBuilder::new(&y.shape);
    let (k, l) = (b.reduce("k", 3), b.reduce("l", 3));
    let at = |b: &mut DefBuilder, axis: usize, k: &crate::base::Affine| {
        b.var(axis).scaled(2).plus(k).offset(rim as i64 - 1)
    };
    let index = vec![at(&mut b, 0, &k), at(&mut b, 1, &l), b.var(2)];
    let fill = if fold == Fold::Max { Scalar::lowest(dtype) } else { Scalar::from_f64(dtype, 100.0) };
    let data = if padded { b.load_padded(0, &x, index, fill) } else { b.load(0, &x, index) };
    let acc = b.fold(fold, data);
    b.finish("pool", 1, &y, acc)
}

/// The larger one of two tensors, limited; a copy of the first where it is the only one.
fn larger(dtype: DType, shape: &[usize], limit: Option<f64>) -> Definition {
    let ty = TensorType::new(dtype, shape.to_vec());
    let mut b = DefBuilder::new(shape);
    let at: Vec<_> = (0..shape.len()).map(|i| b.var(i)).collect();
    let first = b.load(0, &ty, at.clone());
    let result = match limit {
        Some(limit) => {
            let second = b.load(1, &ty, at);
            let limit = b.constant(Scalar::from_f64(dtype, limit));
            let both = b.op(Op::Max, &[first, second]);
            b.op(Op::Min, &[both, limit])
        }
        None => first,
    };
    b.finish("larger", 2, &ty, result)
}

fn run(linear: &Linear, schedule: &Schedule) -> Vec<u8> {
    let nested = nest(linear, schedule, true, 1).expect("the kernel is built");
    crate::tile::verify(&nested.kernel).unwrap_or_else(|e| panic!("{e}"));
    let bytes = |i: usize, elems: usize| (0..elems).map(|j| (j * 89 + i * 57 + j / 7) as u8).collect();
    let mut buffers: Vec<Vec<u8>> =
        (linear.buffers.iter().enumerate()).map(|(i, b)| bytes(i, b.elems * b.dtype.size())).collect();
    buffers.push(vec![0; linear.output.elems * linear.output.dtype.size()]);
    assert_eq!(interpret(&nested.kernel, &mut buffers).expect("the kernel runs"), 0);
    buffers.swap_remove(linear.buffers.len())
}

/// Whether words were made of the bytes of a definition, which gives the same then.
fn in_words(def: &Definition) -> bool {
    let layouts: Vec<Layout> = def.operands.iter().map(|o| Layout::dense(&o.ty.shape)).collect();
    let linear =
        Linear::new(def, &layouts, &vec![false; layouts.len()], &Layout::dense(&def.output.ty.shape));
    let mut words = linear.clone();
    in_quads(&mut words);
    if words.facts.quads {
        assert!(words.output.dtype == DType::I32, "{words}");
        let expected = run(&linear, &Schedule::naive(&linear));
        assert_eq!(run(&words, &Schedule::naive(&words)), expected, "{words}");
        for (triple, cpu) in TARGETS {
            let target = crate::target::resolve(triple, cpu).expect("the target is known");
            let schedule = choose(&words, &target);
            verify(&schedule, &words).unwrap();
            assert_eq!(run(&words, &schedule), expected, "{cpu}: {}", schedule.display(&words));
        }
    } else {
        assert_eq!(words, linear);
    }
    words.facts.quads
}

#[test]
fn bytes_in_whole_words_are_compared_as_words() {
    for dtype in [DType::I8, DType::U8] {
        for (fold, padded) in [(Fold::Max, false), (Fold::Min, true), (Fold::Max, true)] {
            assert!(in_words(&pool(dtype, fold, 32, padded)));
            assert!(in_words(&pool(dtype, fold, 12, padded)));
            // Neighbours begin within words.
            assert!(!in_words(&pool(dtype, fold, 3, padded)));
        }
        for limit in [None, Some(77.0)] {
            assert!(in_words(&larger(dtype, &[7, 4, 5], limit)));
            assert!(!in_words(&larger(dtype, &[7, 3], limit)));
        }
        assert!(!in_words(&pool(dtype, Fold::Sum, 32, false)));
    }
    assert!(!in_words(&larger(DType::I16, &[8], None)));
}
