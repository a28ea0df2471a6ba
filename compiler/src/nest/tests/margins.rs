//! Windows over margins of zeros: what lies in them may be left out.

use super::{TARGETS, f32s, nearly, nest, run_on};
use crate::definition::{DefBuilder, Definition};
use crate::scalar::{Fold, Op};
use crate::schedule::linear::{Known, Layout, Linear};
use crate::schedule::{Schedule, choose::choose};

/// A 1-D convolution of `size` points between two margins of `margin` points each, which memory holds.
fn within_margins(size: usize, margin: usize, (kernel, stride, dilation): (usize, i64, i64)) -> Definition {
    let span = dilation as usize * (kernel - 1) + 1;
    let (x, w) = (f32s(&[1, 5, size + 2 * margin]), f32s(&[18, 5, kernel]));
    let y = f32s(&[1, 18, (size + 2 * margin - span) / stride as usize + 1]);
    let mut b = DefBuilder::new(&y.shape);
    let (c, k) = (b.reduce("c", 5), b.reduce("k", kernel));
    let index = vec![b.var(0), c.clone(), b.var(2).scaled(stride).plus_scaled(&k, dilation)];
    let data = b.load(0, &x, index);
    let weights = vec![b.var(1), c, k];
    let weights = b.load(1, &w, weights);
    let product = b.op(Op::Mul, &[data, weights]);
    let acc = b.fold(Fold::Sum, product);
    b.finish("within_margins", 2, &y, acc)
}

#[test]
fn windows_over_margins_agree_with_the_naive_loops() {
    let cases = [
        (64, 28, (29, 1, 2)),
        (61, 28, (29, 1, 2)),
        (50, 40, (33, 2, 2)),
        (24, 64, (128, 1, 1)),
        (70, 13, (19, 3, 2)),
    ];
    for (size, margin, window) in cases {
        for order in [[0, 2, 1], [0, 1, 2]] {
            let def = within_margins(size, margin, window);
            let layouts: Vec<Layout> = [&def.operands[0].ty, &def.operands[1].ty, &def.output.ty]
                .map(|t| Layout::permuted(&t.shape, &order))
                .into();
            let inner = margin as i64..(margin + size) as i64;
            let nonzero = [vec![0..1, 0..5, inner.clone()], Vec::new()];
            let linear = |nonzero| {
                let known = Known { nonzero, ..Known::default() };
                Linear::knowing(&def, &layouts[..2], &[false, true], &layouts[2], &known)
            };
            let (plain, known) = (linear(&[]), linear(&nonzero));
            assert_eq!((plain.margins.len(), known.margins.len()), (0, 1));
            let step = layouts[0].strides[2] as usize;
            let zero = |operand: usize, j: usize| {
                operand == 0 && !inner.contains(&((j / step % (size + 2 * margin)) as i64))
            };
            let expected = run_on(&plain, &Schedule::naive(&plain), &[false, false], &zero);
            for (triple, cpu) in TARGETS {
                let target = crate::target::resolve(triple, cpu).expect("the target is known");
                let schedule = choose(&known, &target);
                let got = run_on(&known, &schedule, &[false, true], &zero);
                let same =
                    if schedule.winograd.is_some() { nearly(&got, &expected) } else { got == expected };
                assert!(same, "{cpu}: {}", schedule.display(&known));
            }
        }
    }
}

/// In tiles of eight rows, a window of 29 points that lie two apart begins at the first whose row is inside.
#[test]
fn loops_over_windows_end_where_margins_begin() {
    let def = within_margins(64, 28, (29, 1, 2));
    let layouts: Vec<Layout> = [&def.operands[0].ty, &def.operands[1].ty, &def.output.ty]
        .map(|t| Layout::permuted(&t.shape, &[0, 2, 1]))
        .into();
    let nonzero = [vec![0..1, 0..5, 28..92], Vec::new()];
    let known = Known { nonzero: &nonzero, ..Known::default() };
    let linear = Linear::knowing(&def, &layouts[..2], &[false, true], &layouts[2], &known);
    let target = crate::target::resolve("x86_64", "x86-64-v4").expect("the target is known");
    let schedule = choose(&linear, &target);
    let kernel = nest(&linear, &schedule, true, 1).expect("the kernel is built").kernel;
    assert!(kernel.to_string().contains("max(0, -4*"), "{kernel}");
}
