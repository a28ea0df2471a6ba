//! Numbers of 16 bits multiplied by bytes: couples that lie in memory, filters of single channels.

use super::run;
use crate::base::{DType, TensorType};
use crate::definition::{DefBuilder, Definition};
use crate::scalar::{Fold, Op, Scalar};
use crate::schedule::choose::choose;
use crate::schedule::linear::{Layout, Linear};
use crate::schedule::{Schedule, parse, verify};
use crate::target::resolve;

/// A convolution of channels-last data, of `groups` or all channels, padded with a number.
fn conv(
    (inner, outer): (usize, usize),
    (kernel, pad, fill): (usize, usize, i64),
    weights: DType,
    single: bool,
) -> Definition {
    let size = 9;
    let out = size + 2 * pad + 1 - kernel;
    let x = TensorType::new(DType::I16, [size, size, inner]);
    let w = TensorType::new(weights, [outer, kernel, kernel, if single { 1 } else { inner }]);
    let y = TensorType::new(DType::I32, [out, out, outer]);
    let mut b = DefBuilder::new(&y.shape);
    let (i, j) = (b.reduce("i", kernel), b.reduce("j", kernel));
    let c = if single { b.var(2) } else { b.reduce("c", inner) };
    let back = -(pad as i64);
    let at = vec![b.var(0).plus(&i).offset(back), b.var(1).plus(&j).offset(back), c.clone()];
    let data = match pad {
        0 => b.load(0, &x, at),
        _ => b.load_padded(0, &x, at, Scalar::from_i64(DType::I16, fill)),
    };
    let last = if single { crate::base::Affine::constant(0) } else { c };
    let index = vec![b.var(2), i, j, last];
    let weights = b.load(1, &w, index);
    let (data, weights) = (b.cast(DType::I32, data), b.cast(DType::I32, weights));
    let product = b.op(Op::Mul, &[data, weights]);
    let acc = b.fold(Fold::Sum, product);
    b.finish("conv", 2, &y, acc)
}

fn linear(def: &Definition) -> Linear {
    let layouts: Vec<Layout> = def.operands.iter().map(|o| Layout::dense(&o.ty.shape)).collect();
    Linear::new(def, &layouts, &[false, true], &Layout::dense(&def.output.ty.shape))
}

const TARGETS: [(&str, &str); 6] = [
    ("x86_64", "x86-64-v3"),
    ("x86_64", "icelake-server"),
    ("x86_64", "generic"),
    ("aarch64", "generic"),
    ("aarch64", "neoverse-n1"),
    ("aarch64", "neoverse-n2"),
];

fn agrees(def: &Definition, dot: usize) {
    let mut linear = linear(def);
    let expected = run(&linear, &Schedule::naive(&linear), &[false, false]);
    for (triple, cpu) in TARGETS {
        for compact in [false, true] {
            linear.compact = compact;
            let schedule = choose(&linear, &resolve(triple, cpu).unwrap());
            let text = schedule.display(&linear);
            assert_eq!(schedule.dot, dot, "{cpu}: {text}");
            verify(&schedule, &linear).unwrap();
            assert_eq!(parse(&text, &linear).unwrap(), schedule, "{text}");
            assert_eq!(run(&linear, &schedule, &[false, true]), expected, "{cpu}: {text}");
        }
    }
}

/// Odd and even numbers of channels, whole vectors and parts, windows over the edge, padding that adds and that does
/// not.
#[test]
fn couples_in_memory_agree_with_the_naive_loops() {
    for (inner, outer) in [(16, 16), (3, 24), (17, 35), (64, 12)] {
        for window in [(1, 0, 0), (3, 0, 0), (3, 1, 0), (3, 1, -300)] {
            for weights in [DType::I8, DType::U8] {
                agrees(&conv((inner, outer), window, weights, false), 2);
            }
        }
    }
}

/// Filters of single channels are products in lanes of their own.
#[test]
fn filters_of_single_channels_agree_with_the_naive_loops() {
    for channels in [16, 35] {
        for window in [(3, 0, 0), (3, 1, 0), (5, 2, 77)] {
            agrees(&conv((channels, channels), window, DType::I8, true), 1);
        }
    }
}
