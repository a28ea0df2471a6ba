//! Points whose folds fill lanes, finished side by side.

use super::{TARGETS, run};
use crate::base::{DType, TensorType};
use crate::definition::{DefBuilder, Definition};
use crate::scalar::{Fold, Op, Scalar};
use crate::schedule::choose::choose;
use crate::schedule::linear::{Layout, Linear};
use crate::schedule::{Schedule, Vector, parse, verify};

/// One channel of windows of bytes, with a scale for each column, rounded to bytes.
fn one_channel(c: usize, width: usize, floats: bool) -> Definition {
    let types = if floats { [DType::F32; 2] } else { [DType::U8, DType::I8] };
    let x = TensorType::new(types[0], [5, width + 1, c]);
    let w = TensorType::new(types[1], [2, 2, c]);
    let scales = TensorType::new(DType::F32, [width]);
    let y = TensorType::new(DType::U8, [4, width]);
    let mut b = DefBuilder::new(&y.shape);
    let (k, l, i) = (b.reduce("k", 2), b.reduce("l", 2), b.reduce("c", c));
    let at = vec![b.var(0).plus(&k), b.var(1).plus(&l), i.clone()];
    let (data, weights) = (b.load(0, &x, at), b.load(1, &w, vec![k, l, i]));
    let sums = if floats { DType::F32 } else { DType::I32 };
    let (data, weights) = (b.cast(sums, data), b.cast(sums, weights));
    let product = b.op(Op::Mul, &[data, weights]);
    let acc = b.fold(Fold::Sum, product);
    let scale = b.load(2, &scales, vec![b.var(1)]);
    let acc = b.cast(DType::F32, acc);
    let scaled = b.op(Op::Mul, &[acc, scale]);
    let rounded = b.op(Op::Round, &[scaled]);
    let (least, most) =
        (b.constant(Scalar::from_f64(DType::F32, 0.0)), b.constant(Scalar::from_f64(DType::F32, 255.0)));
    let limited = b.op(Op::Max, &[rounded, least]);
    let limited = b.op(Op::Min, &[limited, most]);
    let byte = b.cast(DType::U8, limited);
    b.finish("one", 3, &y, byte)
}

#[test]
fn points_beside_each_other_are_finished_as_vectors() {
    for (c, width) in [(32, 16), (16, 21), (64, 5), (32, 9)] {
        for floats in [false, true] {
            let def = one_channel(c, width, floats);
            let layouts: Vec<Layout> = def.operands.iter().map(|o| Layout::dense(&o.ty.shape)).collect();
            let linear =
                Linear::new(&def, &layouts, &[false, true, true], &Layout::dense(&def.output.ty.shape));
            let expected = run(&linear, &Schedule::naive(&linear), &[false; 3]);
            for (triple, cpu) in TARGETS {
                let target = crate::target::resolve(triple, cpu).expect("the target is known");
                let schedule = choose(&linear, &target);
                let text = schedule.display(&linear);
                let over = matches!(schedule.vector, Vector::Reduction { .. });
                assert!(floats || over, "{cpu}: {text}");
                assert_eq!(schedule.apart > 0, over, "{cpu}: {text}");
                verify(&schedule, &linear).unwrap();
                assert_eq!(parse(&text, &linear).unwrap(), schedule);
                assert_eq!(run(&linear, &schedule, &[false, true, true]), expected, "{cpu}: {text}");
            }
        }
    }
}
