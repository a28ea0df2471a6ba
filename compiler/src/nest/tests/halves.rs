//! Products of words whose halves lie apart.

use super::super::long;
use super::{byte_conv, byte_windows, chains, run};
use crate::base::DType;
use crate::definition::Definition;
use crate::schedule::choose::choose;
use crate::schedule::linear::{Layout, Linear};
use crate::schedule::{Schedule, parse, verify};

/// Channels last; whether the constants' bytes are known to be none of them -128.
fn linear(def: &Definition, symmetric: bool) -> Linear {
    let last = |shape: &[usize]| Layout::permuted(shape, &[0, 2, 3, 1]);
    let layouts = [last(&def.operands[0].ty.shape), Layout::dense(&def.operands[1].ty.shape)];
    let mut linear = Linear::new(def, &layouts, &[false, true], &last(&def.output.ty.shape));
    linear.buffers[1].symmetric = symmetric;
    linear
}

/// Whole vectors and parts of them, of eight lanes and of others, ends of the sum within a word, windows that
/// reach over the edges.
#[test]
fn halves_agree_with_the_naive_loops() {
    let target = crate::target::resolve("aarch64", "cortex-a53").expect("the target is known");
    let signed = (DType::I8, DType::I8);
    for (c, o) in [(24, 16), (16, 24), (33, 40), (64, 8), (8, 29), (12, 52)] {
        for def in [
            byte_conv((c, o), (7, 5), 1, signed),
            byte_conv((c, o), (6, 9), 3, signed),
            byte_windows((c, o), (6, 3), 2, signed),
        ] {
            let linear = linear(&def, true);
            let schedule = choose(&linear, &target);
            let text = schedule.display(&linear);
            assert!(schedule.halves, "{text}");
            verify(&schedule, &linear).unwrap();
            assert_eq!(parse(&text, &linear).unwrap(), schedule);
            let expected = run(&linear, &Schedule::naive(&linear), &[false, false]);
            assert_eq!(run(&linear, &schedule, &[false, true]), expected, "{text}");
        }
    }
}

#[test]
fn other_bytes_have_no_halves() {
    let target = |cpu: &str| crate::target::resolve("aarch64", cpu).expect("the target is known");
    let halves = |def: &Definition, symmetric: bool, cpu: &str| {
        let linear = linear(def, symmetric);
        let mut schedule = choose(&linear, &target(cpu));
        let chosen = schedule.halves;
        schedule.halves = true;
        (chosen, verify(&schedule, &linear).is_ok())
    };
    let def = |types: (DType, DType)| byte_conv((24, 32), (7, 5), 1, types);
    assert_eq!(halves(&def((DType::I8, DType::I8)), false, "cortex-a53"), (false, false));
    assert_eq!(halves(&def((DType::U8, DType::I8)), true, "cortex-a53"), (false, false));
    assert_eq!(halves(&def((DType::I8, DType::I8)), true, "neoverse-n1"), (false, true));
}

/// Weights of channels last of whose four that are multiplied together the magnitudes add up to `most`, but of
/// those that are left at the end of the sum.
fn weights(def: &Definition, most: u8, signed: impl Fn(u32) -> i8) -> Vec<u8> {
    let shape = &def.operands[1].ty.shape;
    let (channels, taps) = (shape[1], shape[2..].iter().product::<usize>());
    let weight = |(at, n): (usize, u32)| {
        let channel = at / taps % channels;
        let magnitude = match (channel < channels / 8 * 8, channel % 8 / 2) {
            (false, _) | (_, 0) => 127,
            (_, 1) => 127,
            (_, 2) => most.wrapping_sub(254) as i8,
            _ => 0,
        };
        (magnitude * signed(n)) as u8
    };
    (0..shape.iter().product()).zip(chains::numbers(5)).map(weight).collect()
}

/// The most that fits and the largest bytes; ends of sums, parts of vectors, windows that reach over the edges.
#[test]
fn two_words_are_added_in_16_bits_where_they_fit() {
    let target = crate::target::resolve("aarch64", "cortex-a53").expect("the target is known");
    let signed = (DType::I8, DType::I8);
    for (c, o) in [(24, 16), (16, 24), (33, 40), (64, 8), (8, 29), (12, 52), (28, 16)] {
        for def in [
            byte_conv((c, o), (7, 5), 1, signed),
            byte_conv((c, o), (6, 9), 3, signed),
            byte_windows((c, o), (6, 3), 2, signed),
        ] {
            let mut linear = linear(&def, true);
            let known = |weights: &[u8]| long(&linear, &target, |operand| (operand == 1).then_some(weights));
            let negative = weights(&def, 255, |_| -1);
            assert!(!known(&weights(&def, 0, |_| 1)) && known(&negative));
            linear.facts.long = true;
            let schedule = choose(&linear, &target);
            let text = schedule.display(&linear);
            assert!(schedule.long, "{text}");
            verify(&schedule, &linear).unwrap();
            assert_eq!(parse(&text, &linear).unwrap(), schedule);
            // No chains are formed there.
            let cpu = "x86-64";
            let mixed = weights(&def, 255, |n| if n.is_multiple_of(2) { 1 } else { -1 });
            let data = |byte: fn(u32) -> u8| -> Vec<u8> {
                chains::numbers(3).map(byte).take(linear.buffers[0].elems).collect()
            };
            for data in [data(|_| 128), data(|n| [128, 127][n as usize % 2]), data(|n| n as u8)] {
                for weights in [&negative, &mixed] {
                    let expected = chains::run(&linear, &Schedule::naive(&linear), (&data, weights), cpu);
                    assert_eq!(chains::run(&linear, &schedule, (&data, weights), cpu), expected, "{text}");
                }
            }
            linear.facts.long = false;
            assert!(verify(&schedule, &linear).is_err());
        }
    }
}
