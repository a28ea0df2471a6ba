//! Convolutions of bytes by minimal filtering.

use super::*;
use crate::schedule::winograd::{CHANNELS, Conv, HALVES, Winograd, product};

/// Schedules that filter a convolution in tiles of so many outputs, so many rows of them at a time: with couples
/// as they are, and in halves where those can be.
fn filtering(linear: &Linear, conv: &Conv, outputs: usize, rows: usize) -> Vec<Schedule> {
    let target = crate::target::resolve("x86_64", "x86-64-v3").expect("the target is known");
    let halves = [false, true].into_iter().filter(|&halves| !halves || conv.in_halves(linear));
    let schedules = halves.map(|halves| {
        let mut product = Box::new(choose(&product(conv, linear, outputs, rows), &target));
        if halves {
            product.vector = Vector::Axis { var: CHANNELS, lanes: HALVES };
        }
        let schedule = Schedule {
            vector: Vector::Axis { var: conv.outer, lanes: 16 },
            pack: vec![conv.weights],
            winograd: Some(Winograd { outputs, rows, halves, product }),
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
    let [whole] = &filtering(&linear, &conv, 4, 1)[..] else { panic!("one schedule") };
    let filtered = whole.winograd.as_ref().map(|w| Winograd { halves: true, ..w.clone() });
    assert!(verify(&Schedule { winograd: filtered, ..whole.clone() }, &linear).is_err());
}

/// Filtering of bytes rounds nothing, whatever the rows of a block and the last tile's outputs are.
#[test]
fn filtered_bytes_are_exact() {
    let last = |ty: &TensorType| Layout::permuted(&ty.shape, &[0, 2, 3, 1]);
    for types in [(DType::U8, DType::I8), (DType::I8, DType::I8), (DType::U8, DType::U8)] {
        for (c, o, out) in [(2, 3, 5), (16, 20, 8), (6, 9, 4), (34, 16, 7), (10, 24, 6)] {
            let def = byte_windows((c, o), (out, 3), 1, types);
            let layouts = [last(&def.operands[0].ty), Layout::dense(&def.operands[1].ty.shape)];
            let linear = Linear::new(&def, &layouts, &[false, true], &last(&def.output.ty));
            let conv = Conv::of(&linear).expect("a convolution that can be filtered");
            let expected = run(&linear, &Schedule::naive(&linear), &[false; 2]);
            let blocks = conv.outputs(&linear).iter().flat_map(|&outputs| {
                let tiles = conv.tiles(&linear, 0, outputs);
                (1..=tiles).filter(move |r| tiles.is_multiple_of(*r)).map(move |rows| (outputs, rows))
            });
            for (outputs, rows) in blocks {
                for schedule in filtering(&linear, &conv, outputs, rows) {
                    let got = run(&linear, &schedule, &[false, true]);
                    assert_eq!(got, expected, "{linear}{}", schedule.display(&linear));
                }
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
        for schedule in filtering(&widest, &conv, 4, 1) {
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
        assert_eq!(Conv::of(&wider).expect("a convolution that can be filtered").outputs(&wider), &[2]);
    }
}
