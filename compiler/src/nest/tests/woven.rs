//! Couples and words woven from bytes of rows.

use super::run;
use crate::base::{Affine, DType, TensorType};
use crate::definition::{DefBuilder, Definition, Index};
use crate::group::replace_loads;
use crate::nest::{bytes, nest};
use crate::scalar::{Fold, Op, Scalar};
use crate::schedule::choose::choose;
use crate::schedule::linear::{Layout, Linear};
use crate::schedule::{Schedule, parse, verify};
use crate::target::resolve;

/// A filter of its own for each channel, of so many rows and columns, whose windows are so many points apart.
fn filters(
    c: usize,
    out: usize,
    (rows, columns): (usize, usize),
    stride: i64,
    types: (DType, DType),
) -> Definition {
    let size = |kernel: usize| (out - 1) * stride as usize + kernel;
    let x = TensorType::new(types.0, [size(rows), size(columns), c]);
    let w = TensorType::new(types.1, [c, rows, columns]);
    let y = TensorType::new(DType::I32, [out, out, c]);
    let mut b = DefBuilder::new(&y.shape);
    let (i, j) = (b.reduce("i", rows), b.reduce("j", columns));
    let at = vec![b.var(0).scaled(stride).plus(&i), b.var(1).scaled(stride).plus(&j), b.var(2)];
    let (data, weights) = (b.load(0, &x, at), vec![b.var(2), i, j]);
    let weights = b.load(1, &w, weights);
    let (data, weights) = (b.cast(DType::I32, data), b.cast(DType::I32, weights));
    let product = b.op(Op::Mul, &[data, weights]);
    let acc = b.fold(Fold::Sum, product);
    b.finish("filters", 2, &y, acc)
}

fn linear(def: &Definition) -> Linear {
    let layouts: Vec<Layout> = def.operands.iter().map(|o| Layout::dense(&o.ty.shape)).collect();
    Linear::new(def, &layouts, &[false, true], &Layout::dense(&def.output.ty.shape))
}

/// Even and odd numbers of rows, windows that share columns and others, whole vectors of channels and parts.
#[test]
fn woven_couples_agree_with_the_naive_loops() {
    let target = resolve("x86_64", "x86-64-v3").expect("the target is known");
    let bytes = [(DType::U8, DType::I8), (DType::I8, DType::I8), (DType::U8, DType::U8)];
    // Weights less a zero point.
    let numbers = [(DType::U8, DType::I16), (DType::I8, DType::I16)];
    for types in bytes.into_iter().chain(numbers) {
        for kernel in [(3, 3), (5, 5), (4, 2), (3, 1), (1, 3), (7, 3), (7, 7)] {
            for (c, out, stride) in [(16, 9, 1), (35, 4, 2), (8, 17, 1), (20, 3, 3)] {
                let mut linear = linear(&filters(c, out, kernel, stride, types));
                let expected = run(&linear, &Schedule::naive(&linear), &[false, false]);
                for compact in [false, true] {
                    linear.compact = compact;
                    let schedule = choose(&linear, &target);
                    let text = schedule.display(&linear);
                    let wide = !compact || types.1 == DType::I16;
                    assert_eq!((schedule.dot, schedule.wide), (2, wide), "{text}");
                    verify(&schedule, &linear).unwrap();
                    assert_eq!(parse(&text, &linear).unwrap(), schedule);
                    assert_eq!(run(&linear, &schedule, &[false, true]), expected, "{text}");
                }
            }
        }
    }
}

/// The same filter where columns of padding, which `fill` says, are on both sides of the data.
fn beside_padding(def: &Definition, fill: f64) -> Definition {
    let x = &def.operands[0].ty;
    let narrow = TensorType::new(x.dtype, [x.shape[0], x.shape[1] - 2, x.shape[2]]);
    let filled = Scalar::from_f64(x.dtype, fill);
    let padded = replace_loads(def, &mut |b, operand, index, _| {
        let form = |i: &Index| match i {
            Index::Affine(form) => form.clone(),
            Index::Dynamic(_) => panic!("the index is known"),
        };
        let mut at: Vec<Affine> = index.iter().map(form).collect();
        (operand == 0).then(|| {
            at[1] = at[1].offset(-1);
            b.load_padded(0, &narrow, at, filled)
        })
    });
    padded.expect("the loads are replaced")
}

/// Padding beside the rows of words: tiles at both ends of a row leave it out, or sum its zero point.
#[test]
fn words_beside_padding_agree_with_the_naive_loops() {
    let cpus = [("x86_64", "icelake-server", 4), ("aarch64", "neoverse-n1", 4), ("x86_64", "x86-64-v3", 1)];
    let kernels = [(3, 3), (3, 5), (5, 3), (4, 2), (7, 9)];
    for (types, fill) in [((DType::U8, DType::I8), 0.0), ((DType::I8, DType::I8), -3.0)] {
        for kernel in kernels {
            for (c, out, stride) in [(16, 5, 1), (35, 4, 2), (8, 17, 1), (64, 9, 1), (20, 3, 3), (16, 2, 1)] {
                let linear = linear(&beside_padding(&filters(c, out, kernel, stride, types), fill));
                let expected = run(&linear, &Schedule::naive(&linear), &[false, false]);
                for (triple, cpu, dot) in cpus {
                    let schedule = choose(&linear, &resolve(triple, cpu).expect("the target is known"));
                    let text = schedule.display(&linear);
                    assert_eq!(schedule.dot, dot, "{text}");
                    verify(&schedule, &linear).unwrap();
                    assert_eq!(run(&linear, &schedule, &[false, true]), expected, "{cpu}: {text}");
                }
            }
        }
    }
}

/// Filters that the first-level cache does not keep beside all else stay bytes.
#[test]
fn few_couples_are_packed_as_16_bits() {
    let target = resolve("x86_64", "x86-64-v3").expect("the target is known");
    for (channels, wide) in [(640, true), (1024, false)] {
        let linear = linear(&filters(channels, 9, (3, 3), 1, (DType::I8, DType::I8)));
        let schedule = choose(&linear, &target);
        assert_eq!(schedule.wide, wide, "{}", schedule.display(&linear));
        let weights = nest(&linear, &schedule, true, 1).unwrap().kernel.params[1].clone();
        let couples = 6 * channels;
        let memory = if wide { (DType::I32, couples) } else { (DType::I8, 2 * couples) };
        assert_eq!((weights.dtype, weights.elems), memory);
    }
}

/// Words of filters that end within one, without zeros behind: 9 bytes of a filter of 3x3 points.
#[test]
fn woven_words_agree_with_the_naive_loops() {
    let target = resolve("x86_64", "icelake-server").expect("the target is known");
    for types in [(DType::U8, DType::I8), (DType::I8, DType::I8), (DType::U8, DType::U8)] {
        for kernel in [(3, 3), (5, 5), (6, 2), (3, 1), (4, 3), (7, 3)] {
            for (c, out, stride) in [(16, 9, 1), (35, 4, 2), (8, 17, 1), (20, 3, 3)] {
                let linear = linear(&filters(c, out, kernel, stride, types));
                let schedule = choose(&linear, &target);
                let text = schedule.display(&linear);
                assert!(schedule.dot == 4 && schedule.dense, "{text}");
                verify(&schedule, &linear).unwrap();
                assert_eq!(parse(&text, &linear).unwrap(), schedule);
                let expected = run(&linear, &Schedule::naive(&linear), &[false, false]);
                assert_eq!(run(&linear, &schedule, &[false, true]), expected, "{text}");
                let elems = nest(&linear, &schedule, true, 1).unwrap().kernel.params[1].elems;
                let points = kernel.0 * kernel.1 * c.next_multiple_of(4);
                assert!((points..points + 4 * 16).contains(&elems), "{elems} bytes: {text}");
            }
        }
    }
}

/// Filters that would take too much code, and targets without the instructions.
#[test]
fn other_filters_are_not_woven() {
    let dot_of = |kernel: (usize, usize), cpu: &str, weights: DType| {
        let linear = linear(&filters(16, 9, kernel, 1, (DType::U8, weights)));
        choose(&linear, &resolve("x86_64", cpu).expect("the target is known")).dot
    };
    let dot = |kernel: (usize, usize), cpu: &str| dot_of(kernel, cpu, DType::I8);
    assert_eq!(dot((3, 3), "x86-64-v3"), 2);
    assert_eq!(dot((7, 7), "x86-64-v3"), 2);
    assert_eq!(dot((7, 9), "x86-64-v3"), 2);
    assert_eq!(dot((7, 15), "x86-64-v3"), 1);
    assert_eq!(dot((3, 3), "x86-64"), 1);
    assert_eq!(dot((3, 3), "x86-64-v4"), 1);
    assert_eq!(dot((3, 3), "icelake-server"), 4);
    assert_eq!(dot_of((3, 3), "icelake-server", DType::I16), 1);
}

/// Products of bytes in lanes of their own, on a target without dot products: of signed bytes, and of weights that are
/// no -128.
#[test]
fn products_in_lanes_of_their_own_agree_with_the_naive_loops() {
    let target = |cpu: &str| resolve("aarch64", cpu).expect("the target is known");
    for (kernel, c, out, stride) in
        [((3, 3), 16, 9, 1), ((5, 5), 35, 4, 2), ((1, 3), 8, 17, 1), ((3, 3), 20, 3, 3)]
    {
        for (data, symmetric) in [(DType::I8, true), (DType::I8, false), (DType::U8, true)] {
            let mut linear = linear(&filters(c, out, kernel, stride, (data, DType::I8)));
            linear.buffers[1].symmetric = symmetric;
            assert!(!bytes(&linear, &target("neoverse-n1")));
            linear.facts.bytes = bytes(&linear, &target("cortex-a53"));
            assert_eq!(linear.facts.bytes, data == DType::I8 && symmetric);
            let schedule = choose(&linear, &target("cortex-a53"));
            let text = nest(&linear, &schedule, true, 1).expect("a kernel").kernel.to_string();
            assert_eq!(text.contains("dot_bytes"), linear.facts.bytes, "{text}");
            let expected = run(&linear, &Schedule::naive(&linear), &[false, false]);
            assert_eq!(run(&linear, &schedule, &[false, true]), expected, "{text}");
        }
    }
}
