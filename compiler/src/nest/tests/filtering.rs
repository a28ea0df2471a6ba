//! Convolutions of bytes by minimal filtering.

use super::*;
use crate::schedule::linear::Magnitude;
use crate::schedule::winograd::{CHANNELS, Conv, HALVES, Tiles, WINDOW, Winograd, product};

/// Schedules that filter a convolution in tiles of so many outputs, so many rows of them at a time: with couples
/// as they are, by points and by columns of points, and in halves where those can be; of whole rows, and of each part
/// that there is.
pub(super) fn filtering(linear: &Linear, conv: &Conv, size: (usize, usize), rows: usize) -> Vec<Schedule> {
    let (outputs, part) = size;
    let target = crate::target::resolve("x86_64", "x86-64-v3").expect("the target is known");
    let kinds = [(false, 0, false), (false, 2, true), (false, 3, false), (false, 4, false), (true, 0, false)];
    let parts = 1..=conv.tiles(linear, 1, outputs);
    let kinds = parts.flat_map(|across| kinds.map(|kind| (kind, across)));
    let schedules =
        kinds.filter(|(k, _)| !k.0 || conv.in_halves(linear)).map(|((halves, columns, each), across)| {
            let tiles = Tiles { outputs, part, rows, across };
            let mut product = Box::new(choose(&product(conv, linear, tiles), &target));
            if halves {
                product.vector = Vector::Axis { var: CHANNELS, lanes: HALVES };
            }
            let schedule = Schedule {
                vector: Vector::Axis { var: conv.outer, lanes: 16 },
                pack: vec![conv.weights],
                winograd: Some(Winograd { tiles, halves, columns, each, product }),
                ..Schedule::naive(linear)
            };
            verify(&schedule, linear).expect("a valid schedule");
            schedule
        });
    schedules.collect()
}

/// Couples of channels that are no multiple of eight have no halves.
#[test]
fn couples_of_some_channels_do_not_lie_in_halves() {
    let def = byte_windows((4, 12), (4, 3), 1, (DType::I8, DType::I8));
    let last = |ty: &TensorType| Layout::permuted(&ty.shape, &[0, 2, 3, 1]);
    let layouts = [last(&def.operands[0].ty), Layout::dense(&def.operands[1].ty.shape)];
    let linear = Linear::new(&def, &layouts, &[false, true], &last(&def.output.ty));
    let conv = Conv::of(&linear).expect("a convolution that can be filtered");
    let list = filtering(&linear, &conv, (4, WINDOW), 1);
    assert!(list.len() > 1 && list.iter().all(|s| s.winograd.as_ref().is_some_and(|w| !w.halves)));
    for whole in list {
        let filtered = whole.winograd.as_ref().map(|w| Winograd { halves: true, ..w.clone() });
        assert!(verify(&Schedule { winograd: filtered, ..whole.clone() }, &linear).is_err());
    }
}

/// Filtering of bytes rounds nothing, whatever the rows of a block, its parts and strips, and the last tile's outputs
/// are.
#[test]
fn filtered_bytes_are_exact() {
    let last = |ty: &TensorType| Layout::permuted(&ty.shape, &[0, 2, 3, 1]);
    for types in [(DType::U8, DType::I8), (DType::I8, DType::I8), (DType::U8, DType::U8)] {
        for (c, o, out) in [(2, 3, 5), (16, 20, 8), (6, 9, 4), (34, 16, 7), (10, 24, 6), (16, 4, 16)] {
            let def = byte_windows((c, o), (out, 3), 1, types);
            let layouts = [last(&def.operands[0].ty), Layout::dense(&def.operands[1].ty.shape)];
            let linear = Linear::new(&def, &layouts, &[false, true], &last(&def.output.ty));
            let conv = Conv::of(&linear).expect("a convolution that can be filtered");
            let expected = run(&linear, &Schedule::naive(&linear), &[false; 2]);
            let blocks = conv.sizes(&linear).iter().flat_map(|&size| {
                let tiles = conv.tiles(&linear, 0, size.0);
                (1..=tiles).filter(move |r| tiles.is_multiple_of(*r)).map(move |rows| (size, rows))
            });
            for (size, rows) in blocks {
                for schedule in filtering(&linear, &conv, size, rows) {
                    let got = run(&linear, &schedule, &[false, true]);
                    assert_eq!(got, expected, "{linear}{}", schedule.display(&linear));
                }
            }
        }
    }
}

/// Behind an odd channel of the data is anything, which is multiplied by zero; where there is nothing, such a
/// convolution is not filtered.
#[test]
fn an_odd_channel_is_half_a_couple() {
    let last = |ty: &TensorType| Layout::permuted(&ty.shape, &[0, 2, 3, 1]);
    let target = crate::target::resolve("x86_64", "x86-64-v3").expect("the target is known");
    for (c, o, out, chosen) in [(3, 16, 32, true), (3, 8, 5, false), (5, 8, 4, true)] {
        let def = byte_windows((c, o), (out, 3), 1, (DType::I8, DType::I8));
        let layouts = [last(&def.operands[0].ty), Layout::dense(&def.operands[1].ty.shape)];
        let mut linear = Linear::new(&def, &layouts, &[false, true], &last(&def.output.ty));
        assert!(Conv::of(&linear).is_none());
        linear.buffers[0].elems += 1;
        let conv = Conv::of(&linear).expect("a convolution that can be filtered");
        assert_eq!(choose(&linear, &target).winograd.is_some(), chosen, "{c} channels");
        let expected = run(&linear, &Schedule::naive(&linear), &[false; 2]);
        for &size in conv.sizes(&linear) {
            for schedule in filtering(&linear, &conv, size, 1) {
                let got = run(&linear, &schedule, &[false, true]);
                assert_eq!(got, expected, "{linear}{}", schedule.display(&linear));
            }
        }
    }
}

/// The largest sums that tiles of four outputs take: bytes of one sign throughout, the most channels.
#[test]
fn filtered_bytes_do_not_overflow() {
    let last = |ty: &TensorType| Layout::permuted(&ty.shape, &[0, 2, 3, 1]);
    for (dtype, most, byte) in [(DType::U8, 114, 255), (DType::I8, 226, -128)] {
        let linear = |channels: usize| {
            let def = byte_windows((channels, 8), (4, 3), 1, (dtype, DType::I8));
            let layouts = [last(&def.operands[0].ty), Layout::dense(&def.operands[1].ty.shape)];
            Linear::new(&def, &layouts, &[false, true], &last(&def.output.ty))
        };
        let (widest, wider) = (linear(most), linear(most + 2));
        let conv = Conv::of(&widest).expect("a convolution that can be filtered");
        for schedule in filtering(&widest, &conv, (4, WINDOW), 1) {
            let nested = nest(&widest, &schedule, true, 1).expect("the kernel is built");
            let weights = vec![i8::MIN as u8; widest.buffers[1].elems];
            let packed = nested.packed(&widest, 1, &weights).expect("the weights are packed");
            let mut buffers = vec![vec![byte as u8; widest.buffers[0].elems], packed];
            buffers.push(vec![0; widest.output.elems * 4]);
            buffers.push(vec![0; nested.between * 4]);
            interpret(&nested.kernel, &mut buffers).expect("the kernel runs");
            let sum = (most as i32 * 9 * byte * i32::from(i8::MIN)).to_le_bytes();
            assert!(buffers[2].chunks(4).all(|got| got == sum));
        }
        assert_eq!(
            Conv::of(&wider).expect("a convolution that can be filtered").sizes(&wider),
            &[(2, WINDOW)]
        );
    }
}

/// Where the weights themselves bound the sums, more channels take tiles of four outputs.
#[test]
fn sums_that_weights_bound_are_filtered_in_tiles_of_four() {
    let last = |ty: &TensorType| Layout::permuted(&ty.shape, &[0, 2, 3, 1]);
    let def = byte_windows((256, 8), (4, 3), 1, (DType::I8, DType::I8));
    let layouts = [last(&def.operands[0].ty), Layout::dense(&def.operands[1].ty.shape)];
    let mut linear = Linear::new(&def, &layouts, &[false, true], &last(&def.output.ty));
    let conv = Conv::of(&linear).expect("a convolution that can be filtered");
    for (weight, small) in [(113, true), (114, false), (-114, false)] {
        // One channel alone has such weights.
        let mut weights = vec![0; linear.buffers[1].elems];
        weights[256 * 9..2 * 256 * 9].fill(weight as u8);
        assert_eq!(small_sums(&linear, |operand| (operand == 1).then_some(&weights[..])), small, "{weight}");
    }
    assert!(!small_sums(&linear, |_| None));
    assert_eq!(conv.sizes(&linear), &[(2, WINDOW)]);
    linear.facts.small_sums = true;
    assert_eq!(conv.sizes(&linear), &[(4, WINDOW), (2, WINDOW)]);
    for schedule in filtering(&linear, &conv, (4, WINDOW), 1) {
        let nested = nest(&linear, &schedule, true, 1).expect("the kernel is built");
        let weights = vec![113; linear.buffers[1].elems];
        let packed = nested.packed(&linear, 1, &weights).expect("the weights are packed");
        let mut buffers = vec![vec![i8::MIN as u8; linear.buffers[0].elems], packed];
        buffers.push(vec![0; linear.output.elems * 4]);
        buffers.push(vec![0; nested.between * 4]);
        interpret(&nested.kernel, &mut buffers).expect("the kernel runs");
        let sum = (256 * 9 * 113 * i32::from(i8::MIN)).to_le_bytes();
        assert!(buffers[2].chunks(4).all(|got| got == sum));
    }
}

/// Windows of bytes with a bias and a scale for each of so many channels, rounded to bytes.
fn rounded_windows(channels: usize) -> Definition {
    let ty = |dtype, shape: &[usize]| TensorType::new(dtype, shape);
    let (x, w) = (ty(DType::I8, &[1, 4, 8, 8]), ty(DType::I8, &[channels, 4, 3, 3]));
    let y = ty(DType::I8, &[1, channels, 6, 6]);
    let mut b = DefBuilder::new(&y.shape);
    let (c, k, l) = (b.reduce("c", 4), b.reduce("k", 3), b.reduce("l", 3));
    let data = vec![b.var(0), c.clone(), b.var(2).plus(&k), b.var(3).plus(&l)];
    let (data, weights) = (b.load(0, &x, data), vec![b.var(1), c, k, l]);
    let weights = b.load(1, &w, weights);
    let (data, weights) = (b.cast(DType::I32, data), b.cast(DType::I32, weights));
    let product = b.op(Op::Mul, &[data, weights]);
    let acc = b.fold(Fold::Sum, product);
    let at = vec![b.var(1)];
    let (bias, scale) =
        (b.load(2, &ty(DType::I32, &[channels]), at.clone()), b.load(3, &ty(DType::F32, &[channels]), at));
    let sum = b.op(Op::Add, &[acc, bias]);
    let sum = b.cast(DType::F32, sum);
    let scaled = b.op(Op::Mul, &[sum, scale]);
    let nearest = b.op(Op::Round, &[scaled]);
    let (zero, lo, hi) =
        (b.number(DType::F32, -5.0), b.number(DType::F32, -128.0), b.number(DType::F32, 127.0));
    let moved = b.op(Op::Add, &[nearest, zero]);
    let above = b.op(Op::Max, &[moved, lo]);
    let inside = b.op(Op::Min, &[above, hi]);
    let narrow = b.cast(DType::I8, inside);
    b.finish("rounded_windows", 4, &y, narrow)
}

/// Bias and scale take over what the outputs are a multiple of, to the bit; where a bias may be too large, or
/// scales too small, the outputs are divided.
#[test]
fn constants_take_over_the_multiple() {
    let last = |ty: &TensorType| Layout::permuted(&ty.shape, &[0, 2, 3, 1]);
    for (channels, bias, scale, taken) in [
        (32, 20, -12, true),
        (20, 20, -12, true),
        (8, i32::MIN + 1, -12, true),
        (16, 30, -12, false),
        (16, 20, -126, false),
    ] {
        let def = rounded_windows(channels);
        let dense = |i: usize| Layout::dense(&def.operands[i].ty.shape);
        let layouts = [last(&def.operands[0].ty), dense(1), dense(2), dense(3)];
        let constant = [false, true, true, true];
        let mut linear = Linear::new(&def, &layouts, &constant, &last(&def.output.ty));
        linear.buffers[2].magnitude = Some(Magnitude { least: i32::MIN, below: bias });
        linear.buffers[3].magnitude = Some(Magnitude { least: scale, below: scale + 1 });
        let number = |i: usize, seed: usize| (i * 37 + i / 7 * 11 + seed) % 251;
        let word = |operand: usize, i: usize| match operand {
            2 if bias < 0 => [0; 4],
            2 => (number(i, 1) as i32 * 37 - 4000).to_le_bytes(),
            _ => (2f32.powi(scale) * (1.0 + number(i, 2) as f32 / 256.0)).to_le_bytes(),
        };
        let data: Vec<Vec<u8>> = (linear.buffers.iter().enumerate())
            .map(|(operand, buffer)| match buffer.dtype.size() {
                1 => (0..buffer.elems).map(|i| number(i, operand) as u8).collect(),
                _ => (0..buffer.elems).flat_map(|i| word(operand, i)).collect(),
            })
            .collect();
        let run = |schedule: &Schedule| {
            let nested = nest(&linear, schedule, true, 1).expect("the kernel is built");
            crate::tile::verify(&nested.kernel).unwrap_or_else(|e| panic!("{e}"));
            let packed = data.iter().enumerate();
            let packed = packed.map(|(i, d)| nested.packed(&linear, i as u32, d).unwrap_or(d.clone()));
            let mut buffers: Vec<Vec<u8>> = packed.collect();
            buffers.push(vec![0; linear.output.elems]);
            buffers.push(vec![0; nested.between * 4]);
            buffers.truncate(nested.kernel.params.len());
            interpret(&nested.kernel, &mut buffers).expect("the kernel runs");
            (nested.kernel.to_string(), buffers.swap_remove(linear.buffers.len()))
        };
        let (_, expected) = run(&Schedule::naive(&linear));
        let conv = Conv::of(&linear).expect("a convolution that can be filtered");
        for outputs in [2, 4] {
            for schedule in filtering(&linear, &conv, (outputs, WINDOW), 1) {
                let (text, got) = run(&schedule);
                assert_eq!(!text.contains("shr_s"), taken, "{text}");
                assert_eq!(got, expected, "{text}");
            }
        }
    }
}

/// With an instruction for couples, bytes are filtered where the constants stay small, and where words are not
/// multiplied twice a cycle few channels, too.
#[test]
fn few_channels_are_filtered_where_bytes_are_multiplied() {
    let last = |ty: &TensorType| Layout::permuted(&ty.shape, &[0, 2, 3, 1]);
    for (cpu, least) in [("znver4", 16), ("icelake-server", 64)] {
        let target = crate::target::resolve("x86_64", cpu).expect("the target is known");
        for (channels, size) in [(16, 32), (32, 16), (64, 8)] {
            let def = byte_windows((channels, channels), (size, 3), 1, (DType::U8, DType::I8));
            let layouts = [last(&def.operands[0].ty), Layout::dense(&def.operands[1].ty.shape)];
            let linear = Linear::new(&def, &layouts, &[false, true], &last(&def.output.ty));
            let filtered = choose(&linear, &target).winograd.is_some();
            assert_eq!(filtered, (least..64).contains(&channels), "{channels} channels on {cpu}");
        }
    }
}

/// Weights that are bytes are filtered as floats where the data is floats.
#[test]
fn floats_are_filtered_by_bytes() {
    let last = |ty: &TensorType| Layout::permuted(&ty.shape, &[0, 2, 3, 1]);
    for weights in [DType::I8, DType::U8] {
        let def = byte_windows((16, 20), (8, 3), 1, (DType::F32, weights));
        let layouts = [last(&def.operands[0].ty), Layout::dense(&def.operands[1].ty.shape)];
        let linear = Linear::new(&def, &layouts, &[false, true], &last(&def.output.ty));
        let conv = Conv::of(&linear).expect("a convolution that can be filtered");
        assert!(!conv.couples);
        let expected = run(&linear, &Schedule::naive(&linear), &[false; 2]);
        for schedule in filtering(&linear, &conv, (4, WINDOW), 1) {
            let got = run(&linear, &schedule, &[false, true]);
            assert!(nearly(&got, &expected), "{}", schedule.display(&linear));
        }
    }
    let data = byte_windows((16, 20), (8, 3), 1, (DType::U8, DType::F32));
    let layouts = [last(&data.operands[0].ty), Layout::dense(&data.operands[1].ty.shape)];
    assert!(Conv::of(&Linear::new(&data, &layouts, &[false, true], &last(&data.output.ty))).is_none());
}
