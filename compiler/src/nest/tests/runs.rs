//! Windows of bytes whose points and channels are one axis.

use super::*;
use crate::schedule::in_runs;

/// What a schedule computes of data and weights.
fn computed(linear: &Linear, schedule: &Schedule, [data, weights]: [&[u8]; 2]) -> Vec<u8> {
    verify(schedule, linear).expect("a valid schedule");
    let nested = nest(linear, schedule, true, 1).expect("the kernel is built");
    crate::tile::verify(&nested.kernel).unwrap_or_else(|e| panic!("{e}"));
    let packed = nested.packed(linear, 1, weights).unwrap_or(weights.to_vec());
    let mut buffers = vec![data.to_vec(), packed, vec![0; linear.output.elems * 4]];
    if nested.between > 0 {
        buffers.push(vec![0; nested.between * 4]);
    }
    interpret(&nested.kernel, &mut buffers).expect("the kernel runs");
    buffers.swap_remove(2)
}

/// Where fewer words hold a window so, and by all schedules the same sums.
#[test]
fn windows_over_few_channels_are_runs() {
    let last = |ty: &TensorType| Layout::permuted(&ty.shape, &[0, 2, 3, 1]);
    for (c, kernel, words, couples) in [
        (2, 3, true, true),
        (2, 5, true, true),
        (3, 3, false, false),
        (3, 5, true, false),
        (3, 7, true, false),
        (4, 3, false, false),
        (6, 3, true, false),
    ] {
        for (types, stride) in [((DType::U8, DType::I8), 1), ((DType::I8, DType::I8), 2)] {
            let def = byte_windows((c, 20), (6, kernel), stride, types);
            let layouts = [last(&def.operands[0].ty), Layout::dense(&def.operands[1].ty.shape)];
            let apart = Linear::new(&def, &layouts, &[false, true], &last(&def.output.ty));
            let numbers = numbers(&apart, &|_, _| false);
            let expected = computed(&apart, &Schedule::naive(&apart), [&numbers[0], &numbers[1]]);
            for (triple, cpu) in TARGETS {
                let target = crate::target::resolve(triple, cpu).expect("the target is known");
                let mut linear = apart.clone();
                let weights = in_runs(&mut linear, &target, |o| (o == 1).then_some(&numbers[1][..]));
                let runs = match crate::schedule::word(&target) {
                    Some(4) => words,
                    Some(_) => couples,
                    None => false,
                };
                assert_eq!(weights.is_some(), runs, "{c} channels by {kernel} points on {cpu}");
                let Some((1, weights)) = weights else { continue };
                assert_eq!(linear.reductions().map(|v| linear.extent(v)).max(), Some(c * kernel));
                for schedule in [Schedule::naive(&linear), choose(&linear, &target)] {
                    let got = computed(&linear, &schedule, [&numbers[0], &weights]);
                    assert_eq!(got, expected, "{cpu}: {linear}{}", schedule.display(&linear));
                }
                assert!(choose(&linear, &target).dot > 1);
            }
        }
    }
}
