//! Minimal filtering of windows that are larger than three points, along one axis, or of points that lie apart.

use super::filtering::filtering;
use super::*;
use crate::schedule::winograd::{Conv, Rows};

/// A convolution of so many channels to others, of so many outputs down and across, by a window whose points lie `apart`
/// outputs from each other; of such data and weights; with as much padding as keeps the size, or none.
fn window(
    (c, o): (usize, usize),
    [out, kernel]: [[usize; 2]; 2],
    apart: [i64; 2],
    types: (DType, DType),
    padded: bool,
) -> Linear {
    let reach = [0, 1].map(|way| (kernel[way] as i64 - 1) * apart[way]);
    let before = reach.map(|reach| if padded { reach / 2 } else { 0 });
    let size = [0, 1].map(|way| out[way] + if padded { 0 } else { reach[way] as usize });
    let sums = if types.0.is_float() { types.0 } else { DType::I32 };
    let x = TensorType::new(types.0, [1, c, size[0], size[1]]);
    let w = TensorType::new(types.1, [o, c, kernel[0], kernel[1]]);
    let y = TensorType::new(sums, [1, o, out[0], out[1]]);
    let mut b = DefBuilder::new(&y.shape);
    let (ic, kh, kw) = (b.reduce("c", c), b.reduce("kh", kernel[0]), b.reduce("kw", kernel[1]));
    let at = |b: &DefBuilder, way: usize, k: &Affine| {
        b.var(2 + way).plus_scaled(k, apart[way]).offset(-before[way])
    };
    let index = vec![b.var(0), ic.clone(), at(&b, 0, &kh), at(&b, 1, &kw)];
    let data = match padded {
        true => b.load_padded(0, &x, index, Scalar::from_f64(types.0, 0.0)),
        false => b.load(0, &x, index),
    };
    let weights = vec![b.var(1), ic, kh, kw];
    let weights = b.load(1, &w, weights);
    let (data, weights) = (b.cast(sums, data), b.cast(sums, weights));
    let product = b.op(Op::Mul, &[data, weights]);
    let acc = b.fold(Fold::Sum, product);
    let def = b.finish("window", 2, &y, acc);
    let last = |ty: &TensorType| Layout::permuted(&ty.shape, &[0, 2, 3, 1]);
    let layouts = [last(&def.operands[0].ty), Layout::dense(&def.operands[1].ty.shape)];
    Linear::new(&def, &layouts, &[false, true], &last(&def.output.ty))
}

/// Outputs, points of the window, and outputs between these.
const CASES: [([usize; 2], [usize; 2], [i64; 2]); 8] = [
    // Parts of three points, of which the last has fewer.
    ([6, 9], [5, 5], [1, 1]),
    ([5, 8], [3, 4], [1, 1]),
    ([7, 4], [7, 3], [1, 1]),
    // Along one axis, beside rows and without.
    ([5, 12], [1, 3], [1, 1]),
    ([12, 3], [7, 1], [1, 1]),
    ([1, 16], [1, 17], [1, 1]),
    // Apart.
    ([1, 16], [1, 3], [1, 2]),
    ([1, 24], [1, 5], [1, 4]),
];

/// Checks all schedules that filter a convolution: what they give by the one that does not.
fn filtered(linear: &Linear, agree: impl Fn(&[u8], &[u8]) -> bool) {
    let conv = Conv::of(linear).expect("a convolution that can be filtered");
    let expected = run(linear, &Schedule::naive(linear), &[false; 2]);
    for &size in conv.sizes(linear) {
        let tiles = conv.tiles(linear, 0, size.0);
        for rows in (1..=tiles).filter(|r| tiles.is_multiple_of(*r)) {
            for schedule in filtering(linear, &conv, size, rows) {
                let got = run(linear, &schedule, &[false, true]);
                assert!(agree(&got, &expected), "{linear}{}", schedule.display(linear));
            }
        }
    }
}

#[test]
fn windows_of_any_points_are_filtered() {
    for (out, kernel, apart) in CASES {
        for padded in [true, false] {
            let linear = window((5, 20), [out, kernel], apart, (DType::F32, DType::F32), padded);
            let conv = Conv::of(&linear).expect("a convolution that can be filtered");
            assert_eq!(matches!(conv.rows, Rows::Slide(_)), !kernel.contains(&1));
            filtered(&linear, nearly);
        }
    }
}

/// Bytes are filtered as exactly, in parts of three points.
#[test]
fn windows_of_bytes_are_filtered() {
    for (types, channels) in [((DType::I8, DType::I8), (6, 20)), ((DType::U8, DType::I8), (4, 16))] {
        for (out, kernel, apart) in CASES {
            let linear = window(channels, [out, kernel], apart, types, false);
            filtered(&linear, |got, expected| got == expected);
        }
    }
}

/// Rows of outputs that lie apart are equally long.
#[test]
fn windows_apart_over_rows_of_two_lengths_are_not_filtered() {
    for (out, padded) in [([1, 17], true), ([1, 17], false)] {
        assert!(
            Conv::of(&window((5, 20), [out, [1, 3]], [1, 2], (DType::F32, DType::F32), padded)).is_none()
        );
    }
}
