//! Products of which zeros are left out.

use super::*;
use crate::nest::kept;
use crate::schedule::sparse::{Along, Product, Sparse};

/// A product of points by channels, twice where there are several points, with a bias and another value added.
fn product(points: usize, inner: usize, outer: usize) -> Linear {
    let batch = if points > 1 { 2 } else { 1 };
    let (x, w, bias) = (f32s(&[batch, points, inner]), f32s(&[outer, inner]), f32s(&[outer]));
    let y = f32s(&[batch, points, outer]);
    let mut b = DefBuilder::new(&y.shape);
    let over = b.reduce("c", inner);
    let (left, right) = (vec![b.var(0), b.var(1), over.clone()], vec![b.var(2), over]);
    let (left, right) = (b.load(0, &x, left), b.load(1, &w, right));
    let product = b.op(Op::Mul, &[left, right]);
    let sum = b.fold(Fold::Sum, product);
    let (channel, all) = (vec![b.var(2)], b.axes());
    let (bias, other) = (b.load(2, &bias, channel), b.load(3, &y, all));
    let sum = b.op(Op::Add, &[sum, bias]);
    let sum = b.op(Op::Add, &[sum, other]);
    let def = b.finish("product", 4, &y, sum);
    // Rows of another tensor lie between those of both batches.
    let apart = Layout { offset: 0, strides: vec![((points + 3) * inner) as i64, inner as i64, 1] };
    let layouts: Vec<Layout> = (def.operands.iter().enumerate())
        .map(|(i, o)| if i == 0 { apart.clone() } else { Layout::dense(&o.ty.shape) })
        .collect();
    Linear::new(&def, &layouts, &[false, true, true, false], &Layout::dense(&def.output.ty.shape))
}

const CONSTANT: [bool; 4] = [false, true, true, false];

/// Whether a weight is zero: four of five, all of some outputs.
fn zero(operand: usize, element: usize, inner: usize) -> bool {
    operand == 1 && (!(element * 7 + element / 13).is_multiple_of(5) || (element / inner) % 6 == 4)
}

#[test]
fn sums_of_the_others_are_those_of_all() {
    let sizes = [(36, 8, 16), (61, 24, 20), (5, 7, 3), (49, 33, 37), (130, 16, 64), (1, 45, 33), (1, 16, 16)];
    for (points, inner, outer) in sizes {
        let mut linear = product(points, inner, outer);
        let zero = |operand: usize, element: usize| zero(operand, element, inner);
        let data = numbers(&linear, &zero);
        linear.facts.kept = kept(&linear, |operand| data.get(operand as usize).map(Vec::as_slice));
        assert!(linear.facts.kept.is_some_and(|kept| kept > 0));
        let expected = run_on(&linear, &Schedule::naive(&linear), &[false; 4], &zero);
        let Product { outer: channels, along, .. } = Product::of(&linear).expect("a product");
        assert_eq!(along == Along::One, points == 1);
        for (lanes, vectors) in [(4, 1), (4, 3), (8, 2), (16, 1), (16, 4)] {
            let vectors = if points > 1 { vectors } else { 1 };
            let schedule = Schedule {
                vector: Vector::Axis { var: channels, lanes },
                pack: vec![1],
                sparse: Some(Sparse { vectors, rows: 1 }),
                ..Schedule::naive(&linear)
            };
            verify(&schedule, &linear).expect("a valid schedule");
            let got = run_on(&linear, &schedule, &CONSTANT, &zero);
            assert!(got == expected, "{points} x {inner} x {outer}: {}", schedule.display(&linear));
        }
    }
}

/// A convolution of channels that lie side by side, as many points from window to window as the stride says.
fn windows(
    (height, width): (usize, usize),
    (kernel, stride, before): ((usize, usize), i64, i64),
    (inner, outer): (usize, usize),
) -> Linear {
    let out = |d: usize, k: usize, b: i64| (d as i64 + 2 * b - k as i64) / stride + 1;
    let (x, w) = (f32s(&[1, inner, height, width]), f32s(&[outer, inner, kernel.0, kernel.1]));
    let above = if kernel.0 > 1 { before } else { 0 };
    let y = f32s(&[1, outer, out(height, kernel.0, above) as usize, out(width, kernel.1, before) as usize]);
    let mut b = DefBuilder::new(&y.shape);
    let (c, ky, kx) = (b.reduce("c", inner), b.reduce("ky", kernel.0), b.reduce("kx", kernel.1));
    let row = b.var(2).scaled(stride).plus(&ky).offset(-above);
    let column = b.var(3).scaled(stride).plus(&kx).offset(-before);
    let index = vec![b.var(0), c.clone(), row, column];
    let data = b.load_padded(0, &x, index, Scalar::from_f64(DType::F32, 0.0));
    let weight = vec![b.var(1), c, ky, kx];
    let weight = b.load(1, &w, weight);
    let product = b.op(Op::Mul, &[data, weight]);
    let sum = b.fold(Fold::Sum, product);
    let def = b.finish("conv", 2, &y, sum);
    let last = |ty: &TensorType| Layout::permuted(&ty.shape, &[0, 2, 3, 1]);
    let layouts = [last(&def.operands[0].ty), Layout::dense(&def.operands[1].ty.shape)];
    Linear::new(&def, &layouts, &[false, true], &last(&def.output.ty))
}

#[test]
fn convolutions_leave_zeros_out() {
    let cases = [
        ((9, 11), ((3, 3), 1, 1), (8, 20)),
        ((8, 34), ((3, 3), 1, 0), (5, 16)),
        ((12, 13), ((3, 3), 2, 1), (8, 7)),
        ((11, 16), ((5, 2), 2, 0), (4, 9)),
        ((7, 9), ((2, 5), 3, 2), (9, 16)),
        ((1, 30), ((1, 4), 1, 2), (8, 24)),
    ];
    for (size, kernel, channels) in cases {
        let mut linear = windows(size, kernel, channels);
        let zero =
            |operand: usize, element: usize| operand == 1 && !(element * 7 + element / 13).is_multiple_of(5);
        let data = numbers(&linear, &zero);
        linear.facts.kept = kept(&linear, |operand| data.get(operand as usize).map(Vec::as_slice));
        let expected = run_on(&linear, &Schedule::naive(&linear), &[false; 2], &zero);
        let Product { outer, along: Along::Windows(slides), .. } = Product::of(&linear).expect("a product")
        else {
            panic!("no windows: {linear}");
        };
        let rows = slides.down.map_or(1, |s| linear.extent(s.axis));
        for (lanes, vectors, rows) in
            [(4, 1, 1), (4, 3, rows.min(2)), (8, 2, rows), (16, 4, rows.div_ceil(2))]
        {
            let schedule = Schedule {
                vector: Vector::Axis { var: outer, lanes },
                pack: vec![1],
                sparse: Some(Sparse { vectors, rows }),
                ..Schedule::naive(&linear)
            };
            verify(&schedule, &linear).expect("a valid schedule");
            let got = run_on(&linear, &schedule, &[false, true], &zero);
            assert!(got == expected, "{size:?} {kernel:?}: {}", schedule.display(&linear));
        }
    }
}

/// Where channels are many, it is chosen; where they are few, it is not; nothing is known where few weights are zero.
#[test]
fn few_weights_are_lists() {
    let choice = |channels: usize, left: usize| {
        let mut linear = product(144, channels, channels);
        let zero = |operand: usize, element: usize| operand == 1 && element * 7 % 10 >= left;
        let data = numbers(&linear, &zero);
        linear.facts.kept = kept(&linear, |operand| data.get(operand as usize).map(Vec::as_slice));
        let sparse = |&(triple, cpu): &(&str, &str)| {
            let target = crate::target::resolve(triple, cpu).expect("the target is known");
            choose(&linear, &target).sparse.is_some()
        };
        (linear.facts.kept.is_some(), TARGETS.iter().filter(|t| sparse(t)).count())
    };
    assert_eq!(choice(64, 2), (true, TARGETS.len()));
    assert_eq!(choice(16, 4), (true, 0));
    assert_eq!(choice(64, 8), (false, 0));
}
