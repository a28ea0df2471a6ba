//! Every schedule computes what the naive loops compute.

use super::{nest, small_sums};
use crate::base::{Affine, DType, TensorType};
use crate::definition::{DefBuilder, Definition};
use crate::scalar::{Fold, Op, Scalar};
use crate::schedule::linear::{Buffer, Layout, Linear};
use crate::schedule::{Schedule, Vector, choose::choose, verify};
use crate::tile::interpret;

mod blocked;
mod chains;
mod damaged;
mod doubles;
mod filtering;
mod half_sums;
mod halves;
mod margins;
mod quads;
mod quotients;
mod restored;
mod runs;
mod side_by_side;
mod sixteen;
mod sparse;
mod squares;
mod windows;
mod woven;

const TARGETS: [(&str, &str); 7] = [
    ("x86_64", "x86-64-v4"),
    ("x86_64", "icelake-server"),
    ("x86_64", "x86-64-v3"),
    ("x86_64", "x86-64"),
    ("aarch64", "cortex-a53"),
    ("aarch64", "neoverse-n1"),
    ("aarch64", "neoverse-n2"),
];

fn f32s(shape: &[usize]) -> TensorType {
    TensorType::new(DType::F32, shape)
}

/// A 2-D convolution over `[n, c, h, w]`, padded by 1, with bias and relu.
fn conv(
    channels: (usize, usize),
    size: (usize, usize),
    kernel: usize,
    stride: i64,
    dilation: i64,
) -> Definition {
    let (c, o) = channels;
    let out = |d: usize| (d + 2 - dilation as usize * (kernel - 1) - 1) / stride as usize + 1;
    let (x, w, bias) = (f32s(&[1, c, size.0, size.1]), f32s(&[o, c, kernel, kernel]), f32s(&[o]));
    let y = f32s(&[1, o, out(size.0), out(size.1)]);
    let mut b = DefBuilder::new(&y.shape);
    let (ic, kh, kw) = (b.reduce("c", c), b.reduce("kh", kernel), b.reduce("kw", kernel));
    let at = |b: &DefBuilder, axis: usize, k: &crate::base::Affine| {
        b.var(axis).scaled(stride).plus_scaled(k, dilation).offset(-1)
    };
    let index = vec![b.var(0), ic.clone(), at(&b, 2, &kh), at(&b, 3, &kw)];
    let data = b.load_padded(0, &x, index, Scalar::from_f64(DType::F32, 0.0));
    let weights = vec![b.var(1), ic, kh, kw];
    let weights = b.load(1, &w, weights);
    let product = b.op(Op::Mul, &[data, weights]);
    let acc = b.fold(Fold::Sum, product);
    let add = vec![b.var(1)];
    let add = b.load(2, &bias, add);
    let sum = b.op(Op::Add, &[acc, add]);
    let zero = b.number(DType::F32, 0.0);
    let relu = b.op(Op::Max, &[sum, zero]);
    b.finish("conv", 3, &y, relu)
}

fn depthwise(c: usize, size: (usize, usize), stride: i64) -> Definition {
    let (x, w) = (f32s(&[1, c, size.0, size.1]), f32s(&[c, 1, 3, 3]));
    let y = f32s(&[1, c, (size.0 - 1) / stride as usize + 1, (size.1 - 1) / stride as usize + 1]);
    let mut b = DefBuilder::new(&y.shape);
    let (kh, kw) = (b.reduce("kh", 3), b.reduce("kw", 3));
    let index = vec![
        b.var(0),
        b.var(1),
        b.var(2).scaled(stride).plus(&kh).offset(-1),
        b.var(3).scaled(stride).plus(&kw).offset(-1),
    ];
    let data = b.load_padded(0, &x, index, Scalar::from_f64(DType::F32, 0.0));
    let weights = vec![b.var(1), crate::base::Affine::constant(0), kh, kw];
    let weights = b.load(1, &w, weights);
    let product = b.op(Op::Mul, &[data, weights]);
    let acc = b.fold(Fold::Sum, product);
    b.finish("depthwise", 2, &y, acc)
}

fn matmul(m: usize, n: usize, k: usize) -> Definition {
    let (a, w, y) = (f32s(&[m, k]), f32s(&[k, n]), f32s(&[m, n]));
    let mut b = DefBuilder::new(&y.shape);
    let kk = b.reduce("k", k);
    let left = vec![b.var(0), kk.clone()];
    let left = b.load(0, &a, left);
    let right = vec![kk, b.var(1)];
    let right = b.load(1, &w, right);
    let product = b.op(Op::Mul, &[left, right]);
    let acc = b.fold(Fold::Sum, product);
    b.finish("matmul", 2, &y, acc)
}

fn row_max(m: usize, n: usize) -> Definition {
    let (x, y) = (f32s(&[m, n]), f32s(&[m]));
    let mut b = DefBuilder::new(&y.shape);
    let k = b.reduce("k", n);
    let index = vec![b.var(0), k];
    let element = b.load(0, &x, index);
    let acc = b.fold(Fold::Max, element);
    b.finish("row_max", 1, &y, acc)
}

fn silu(shape: &[usize]) -> Definition {
    let x = f32s(shape);
    let mut b = DefBuilder::new(shape);
    let value = b.load_broadcast(0, &x);
    let gate = b.op(Op::Sigmoid, &[value]);
    let product = b.op(Op::Mul, &[value, gate]);
    b.finish("silu", 1, &x, product)
}

fn max_pool(c: usize, h: usize, w: usize) -> Definition {
    let (x, y) = (f32s(&[1, c, h, w]), f32s(&[1, c, h.div_ceil(2), w.div_ceil(2)]));
    let mut b = DefBuilder::new(&y.shape);
    let (kh, kw) = (b.reduce("kh", 3), b.reduce("kw", 3));
    let index = vec![
        b.var(0),
        b.var(1),
        b.var(2).scaled(2).plus(&kh).offset(-1),
        b.var(3).scaled(2).plus(&kw).offset(-1),
    ];
    let data = b.load_padded(0, &x, index, Scalar::lowest(DType::F32));
    let acc = b.fold(Fold::Max, data);
    b.finish("pool", 1, &y, acc)
}

/// A convolution of bytes over `[n, c, h, w]`, padded by 1 with a zero point.
fn byte_conv(
    channels: (usize, usize),
    size: (usize, usize),
    kernel: usize,
    types: (DType, DType),
) -> Definition {
    let (c, o) = channels;
    let x = TensorType::new(types.0, [1, c, size.0, size.1]);
    let w = TensorType::new(types.1, [o, c, kernel, kernel]);
    let y = TensorType::new(DType::I32, [1, o, size.0 + 3 - kernel, size.1 + 3 - kernel]);
    let mut b = DefBuilder::new(&y.shape);
    let (ic, kh, kw) = (b.reduce("c", c), b.reduce("kh", kernel), b.reduce("kw", kernel));
    let index = vec![b.var(0), ic.clone(), b.var(2).plus(&kh).offset(-1), b.var(3).plus(&kw).offset(-1)];
    let data = b.load_padded(0, &x, index, Scalar::from_f64(types.0, 3.0));
    let weights = vec![b.var(1), ic, kh, kw];
    let weights = b.load(1, &w, weights);
    let (data, weights) = (b.cast(DType::I32, data), b.cast(DType::I32, weights));
    let product = b.op(Op::Mul, &[data, weights]);
    let acc = b.fold(Fold::Sum, product);
    b.finish("byte_conv", 2, &y, acc)
}

fn byte_matmul(m: usize, n: usize, k: usize) -> Definition {
    let (a, w) = (TensorType::new(DType::U8, [m, k]), TensorType::new(DType::I8, [k, n]));
    let y = TensorType::new(DType::I32, [m, n]);
    let mut b = DefBuilder::new(&y.shape);
    let kk = b.reduce("k", k);
    let left = vec![b.var(0), kk.clone()];
    let left = b.load(0, &a, left);
    let right = vec![kk, b.var(1)];
    let right = b.load(1, &w, right);
    let (left, right) = (b.cast(DType::I32, left), b.cast(DType::I32, right));
    let product = b.op(Op::Mul, &[left, right]);
    let acc = b.fold(Fold::Sum, product);
    b.finish("byte_matmul", 2, &y, acc)
}

/// Computed bytes that lie in words along the sum, as quantized attention's keys do.
fn byte_words(m: usize, n: usize, (words, bytes): (usize, usize)) -> Definition {
    let a = TensorType::new(DType::U8, [m, bytes * words]);
    let w = TensorType::new(DType::I8, [words, n, bytes]);
    let y = TensorType::new(DType::I32, [m, n]);
    let mut b = DefBuilder::new(&y.shape);
    let (word, byte) = (b.reduce("word", words), b.reduce("byte", bytes));
    let left = vec![b.var(0), word.scaled(bytes as i64).plus(&byte)];
    let left = b.load(0, &a, left);
    let right = vec![word, b.var(1), byte];
    let right = b.load(1, &w, right);
    let (left, right) = (b.cast(DType::I32, left), b.cast(DType::I32, right));
    let product = b.op(Op::Mul, &[left, right]);
    let acc = b.fold(Fold::Sum, product);
    b.finish("byte_words", 2, &y, acc)
}

/// A product with weights that are shifted and scaled in blocks of 4 where they are read.
fn dequantized(m: usize, n: usize, k: usize, dtype: DType) -> Definition {
    let (a, y) = (f32s(&[m, k * 4]), f32s(&[m, n]));
    let (w, zeros, scales) =
        (TensorType::new(dtype, [k * 4, n]), TensorType::new(dtype, [k, n]), f32s(&[n, k]));
    let mut b = DefBuilder::new(&y.shape);
    let (block, place) = (b.reduce("block", k), b.reduce("place", 4));
    let column = block.scaled(4).plus(&place);
    let left = vec![b.var(0), column.clone()];
    let left = b.load(0, &a, left);
    let (at, of_block, scale) =
        (vec![column, b.var(1)], vec![block.clone(), b.var(1)], vec![b.var(1), block]);
    let (element, zero) = (b.load(1, &w, at), b.load(2, &zeros, of_block));
    let (element, zero) = (b.cast(DType::F32, element), b.cast(DType::F32, zero));
    let scale = b.load(3, &scales, scale);
    let difference = b.op(Op::Sub, &[element, zero]);
    let right = b.op(Op::Mul, &[difference, scale]);
    let product = b.op(Op::Mul, &[left, right]);
    let acc = b.fold(Fold::Sum, product);
    b.finish("dequantized", 4, &y, acc)
}

/// Runs one schedule in the interpreter on small whole numbers, whose sums are exact in any order.
fn run(linear: &Linear, schedule: &Schedule, constant: &[bool]) -> Vec<u8> {
    run_on(linear, schedule, constant, &|_, _| false)
}

/// Small whole numbers for each operand, some of them zero.
fn numbers(linear: &Linear, zero: &dyn Fn(usize, usize) -> bool) -> Vec<Vec<u8>> {
    let of = |(i, buffer): (usize, &Buffer)| {
        let number = |j: usize| (j * 7 + j / 11 * 5 + i * 3) % 11;
        match buffer.dtype.size() {
            1 if buffer.dtype.bits() == 4 => {
                let first = if buffer.dtype.is_signed_int() { 8 } else { 0 };
                (0..buffer.elems).map(|j| (number(j) as u8 + 5).wrapping_sub(first)).collect()
            }
            1 => (0..buffer.elems).map(|j| number(j) as u8 * 23).collect(),
            _ if buffer.dtype == DType::F16 => {
                let half = |j: usize| half::f16::from_f32(number(j) as f32 - 5.0);
                (0..buffer.elems).flat_map(|j| half(j).to_le_bytes()).collect()
            }
            8 => (0..buffer.elems).flat_map(|j| (number(j) as f64 - 5.0).to_le_bytes()).collect(),
            _ => {
                let float = |j: usize| if zero(i, j) { 0.0 } else { number(j) as f32 - 5.0 };
                (0..buffer.elems).flat_map(|j| float(j).to_le_bytes()).collect()
            }
        }
    };
    linear.buffers.iter().enumerate().map(of).collect()
}

/// The same, some elements of operands being zero.
fn run_on(
    linear: &Linear,
    schedule: &Schedule,
    constant: &[bool],
    zero: &dyn Fn(usize, usize) -> bool,
) -> Vec<u8> {
    let nested = nest(linear, schedule, true, 1).expect("the kernel is built");
    crate::tile::verify(&nested.kernel).unwrap_or_else(|e| panic!("{e}"));
    let mut buffers: Vec<Vec<u8>> = Vec::new();
    for (i, data) in numbers(linear, zero).into_iter().enumerate() {
        let packed = constant[i].then(|| nested.packed(linear, i as u32, &data)).flatten();
        buffers.push(packed.unwrap_or(data));
    }
    buffers.push(vec![0; linear.output.elems * linear.output.dtype.size().max(4)]);
    if nested.between > 0 {
        buffers.push(vec![0; nested.between * 4]);
    }
    let code = interpret(&nested.kernel, &mut buffers).expect("the kernel runs");
    assert_eq!(code, 0);
    buffers.swap_remove(linear.buffers.len())
}

fn check(def: &Definition, constant: &[bool], channels_last: bool) {
    let layout = |ty: &TensorType| match (channels_last, ty.rank()) {
        (true, 4) => Layout::permuted(&ty.shape, &[0, 2, 3, 1]),
        _ => Layout::dense(&ty.shape),
    };
    let layouts: Vec<Layout> = (def.operands.iter().zip(constant))
        .map(|(o, &constant)| if constant { Layout::dense(&o.ty.shape) } else { layout(&o.ty) })
        .collect();
    let linear = Linear::new(def, &layouts, constant, &layout(&def.output.ty));
    let expected = run(&linear, &Schedule::naive(&linear), &vec![false; constant.len()]);
    for (triple, cpu) in TARGETS {
        let target = crate::target::resolve(triple, cpu).expect("the target is known");
        let schedule = choose(&linear, &target);
        let got = run(&linear, &schedule, constant);
        let same = match &schedule.winograd {
            Some(_) if linear.fold.is_some_and(|f| f.1.is_float()) => nearly(&got, &expected),
            // The numbers are small integers: their sums are exact in any order.
            _ => got == expected,
        };
        assert!(same, "{cpu}: {}", schedule.display(&linear));
        if schedule.wide {
            let compact = choose(&Linear { compact: true, ..linear.clone() }, &target);
            assert!(!compact.wide && run(&linear, &compact, constant) == expected, "{cpu}");
        }
    }
}

/// Whether floats are the same but for the rounding of filtering, which divides by numbers like 6 and 24.
fn nearly(got: &[u8], expected: &[u8]) -> bool {
    let floats = |bytes: &[u8]| -> Vec<f32> {
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    };
    let (got, expected) = (floats(got), floats(expected));
    let largest = expected.iter().fold(0.0, |m: f32, v| m.max(v.abs()));
    got.len() == expected.len() && got.iter().zip(&expected).all(|(g, e)| (g - e).abs() <= 1e-5 * largest)
}

#[test]
fn convolutions_agree_with_the_naive_loops() {
    for channels_last in [true, false] {
        check(&conv((3, 20), (9, 13), 3, 1, 1), &[false, true, true], channels_last);
        check(&conv((3, 40), (17, 33), 3, 2, 1), &[false, true, true], channels_last);
        check(&conv((24, 10), (5, 7), 3, 1, 1), &[false, true, true], channels_last);
        check(&conv((6, 18), (12, 15), 3, 1, 2), &[false, true, true], channels_last);
        check(&conv((32, 48), (7, 7), 1, 1, 1), &[false, true, true], channels_last);
        check(&conv((4, 17), (30, 40), 5, 2, 1), &[false, true, true], channels_last);
        check(&conv((1, 20), (11, 9), 5, 2, 1), &[false, true, true], channels_last);
    }
}

/// A 1-D convolution with a window wider than its borders are tiled for.
fn long_window(size: usize, kernel: usize, stride: i64) -> Definition {
    let (x, w) = (f32s(&[1, 3, size]), f32s(&[18, 3, kernel]));
    let pad = (kernel / 2) as i64;
    let y = f32s(&[1, 18, (size + 2 * pad as usize - kernel) / stride as usize + 1]);
    let mut b = DefBuilder::new(&y.shape);
    let (c, k) = (b.reduce("c", 3), b.reduce("k", kernel));
    let index = vec![b.var(0), c.clone(), b.var(2).scaled(stride).plus(&k).offset(-pad)];
    let data = b.load_padded(0, &x, index, Scalar::from_f64(DType::F32, 0.0));
    let weights = vec![b.var(1), c, k];
    let weights = b.load(1, &w, weights);
    let product = b.op(Op::Mul, &[data, weights]);
    let acc = b.fold(Fold::Sum, product);
    b.finish("long_window", 2, &y, acc)
}

#[test]
fn wide_windows_agree_with_the_naive_loops() {
    check(&long_window(200, 33, 1), &[false, true], false);
    check(&long_window(150, 64, 4), &[false, true], false);
}

#[test]
fn depthwise_convolutions_agree_with_the_naive_loops() {
    for stride in [1, 2] {
        check(&depthwise(35, (9, 31), stride), &[false, true], true);
        check(&depthwise(8, (5, 3), stride), &[false, true], true);
        check(&depthwise(5, (6, 20), stride), &[false, true], false);
    }
}

#[test]
fn matrix_products_agree_with_the_naive_loops() {
    for (m, n, k) in [(1, 12, 64), (1, 640, 33), (50, 70, 19), (128, 48, 64), (7, 5, 3), (16, 1, 40)] {
        check(&matmul(m, n, k), &[false, true], false);
        check(&matmul(m, n, k), &[false, false], false);
    }
}

/// One output channel: the sum over input channels fills the lanes, and the weights, whose channels
/// lie apart, are packed.
#[test]
fn single_outputs_agree_with_the_naive_loops() {
    check(&conv((40, 1), (6, 7), 1, 1, 1), &[false, true, true], true);
    check(&conv((19, 1), (6, 7), 3, 1, 1), &[false, true, true], true);
    check(&matmul(9, 1, 70), &[false, true], false);
}

#[test]
fn folds_over_lanes_and_windows_agree_with_the_naive_loops() {
    check(&row_max(3, 103), &[false], false);
    check(&row_max(40, 6), &[false], false);
    for channels_last in [true, false] {
        check(&max_pool(19, 12, 13), &[false], channels_last);
        check(&max_pool(4, 40, 40), &[false], channels_last);
    }
}

#[test]
fn element_wise_work_agrees_with_the_naive_loops() {
    check(&silu(&[3, 5, 41]), &[false], false);
    check(&silu(&[2]), &[false], false);
}

/// A convolution whose windows lie inside, so many points apart, over channels-last data.
fn byte_windows(
    (c, o): (usize, usize),
    (out, kernel): (usize, usize),
    stride: i64,
    types: (DType, DType),
) -> Definition {
    let size = out * stride as usize + kernel - 1;
    let x = TensorType::new(types.0, [1, c, size, size]);
    let w = TensorType::new(types.1, [o, c, kernel, kernel]);
    let sums = if types.0.is_float() { types.0 } else { DType::I32 };
    let y = TensorType::new(sums, [1, o, out, out]);
    let mut b = DefBuilder::new(&y.shape);
    let (ic, kh, kw) = (b.reduce("c", c), b.reduce("kh", kernel), b.reduce("kw", kernel));
    let at = |b: &DefBuilder, axis: usize, k: &Affine| b.var(axis).scaled(stride).plus(k);
    let index = vec![b.var(0), ic.clone(), at(&b, 2, &kh), at(&b, 3, &kw)];
    let data = b.load(0, &x, index);
    let weights = vec![b.var(1), ic, kh, kw];
    let weights = b.load(1, &w, weights);
    let (data, weights) = (b.cast(sums, data), b.cast(sums, weights));
    let product = b.op(Op::Mul, &[data, weights]);
    let acc = b.fold(Fold::Sum, product);
    b.finish("byte_windows", 2, &y, acc)
}

/// Without an instruction for bytes, what a tile reads is widened ahead: all lengths of the innermost
/// run, couples and single bytes at its end, rows of one and of several windows.
#[test]
fn widened_windows_agree_with_the_naive_loops() {
    for types in [(DType::U8, DType::I8), (DType::I8, DType::I8), (DType::U8, DType::U8)] {
        for c in [1, 3, 4, 5, 7, 16, 22, 33, 96] {
            check(&byte_windows((c, 20), (6, 3), 1, types), &[false, true], true);
            check(&byte_windows((c, 9), (6, 3), 2, types), &[false, true], true);
            check(&byte_windows((c, 24), (6, 1), 1, types), &[false, true], true);
        }
        for (kernel, stride) in [(3, 1), (5, 1), (5, 3), (7, 2), (4, 1)] {
            check(&byte_windows((1, 8), (21, kernel), stride, types), &[false, true], true);
        }
    }
}

/// Rows that overlap, but begin within couples of the first one, read a second copy a byte later.
#[test]
fn couples_of_rows_that_overlap_lie_in_two_copies() {
    let def = byte_windows((3, 8), (20, 3), 1, (DType::U8, DType::I8));
    let layouts = [&def.operands[0].ty, &def.output.ty].map(|ty| Layout::permuted(&ty.shape, &[0, 2, 3, 1]));
    let [x, y] = layouts;
    let linear = Linear::new(&def, &[x, Layout::dense(&def.operands[1].ty.shape)], &[false, true], &y);
    let schedule =
        choose(&linear, &crate::target::resolve("x86_64", "x86-64-v3").expect("the target is known"));
    let rows = schedule.tile.iter().map(|t| t.1).max().unwrap_or(0);
    assert!(schedule.dot == 2 && rows > 4, "{}", schedule.display(&linear));
    let nested = nest(&linear, &schedule, true, 1).expect("the kernel is built");
    let couples = 2 * 3 * (3 * (rows - 1) + 9usize).div_ceil(2);
    assert_eq!(nested.between, (couples.div_ceil(16) | 1) * 16);
}

#[test]
fn products_of_bytes_agree_with_the_naive_loops() {
    check(&byte_matmul(20, 100, 64), &[false, true], false);
    check(&byte_matmul(1, 12, 65), &[false, true], false);
    for words in [(9, 4), (1, 4), (19, 2), (64, 2), (3, 2)] {
        check(&byte_words(33, 72, words), &[false, false], false);
        check(&byte_words(14, 20, words), &[false, false], false);
    }
    for types in [(DType::U8, DType::I8), (DType::I8, DType::I8), (DType::U8, DType::U8)] {
        check(&byte_conv((8, 20), (6, 9), 3, types), &[false, true], true);
        check(&byte_conv((3, 33), (11, 30), 3, types), &[false, true], true);
        check(&byte_conv((8, 20), (6, 9), 3, types), &[false, true], false);
        check(&byte_conv((16, 64), (12, 12), 3, types), &[false, true], true);
        check(&byte_conv((70, 16), (5, 5), 1, types), &[false, true], true);
        check(&byte_conv((5, 40), (8, 8), 5, types), &[false, true], true);
    }
}

#[test]
fn products_with_dequantized_weights_agree_with_the_naive_loops() {
    for dtype in [DType::I4, DType::U4, DType::I8, DType::U8] {
        for (m, n, k) in [(1, 70, 9), (1, 12, 1), (9, 33, 16), (40, 64, 3)] {
            check(&dequantized(m, n, k, dtype), &[false, true, true, true], false);
        }
    }
}

/// Two elements of four bits lie in a byte.
#[test]
fn four_bits_take_half_a_byte() {
    let def = dequantized(1, 64, 8, DType::I4);
    let layouts: Vec<Layout> = def.operands.iter().map(|o| Layout::dense(&o.ty.shape)).collect();
    let linear =
        Linear::new(&def, &layouts, &[false, true, true, true], &Layout::dense(&def.output.ty.shape));
    for (triple, cpu) in TARGETS {
        let target = crate::target::resolve(triple, cpu).expect("the target is known");
        let nested = nest(&linear, &choose(&linear, &target), true, 1).expect("the kernel is built");
        let packed = nested.packed(&linear, 1, &[0; 64 * 32]).map(|bytes| bytes.len());
        assert_eq!(packed, Some(64 * 16), "{cpu}");
    }
}
