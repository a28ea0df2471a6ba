//! Words that are multiplied in 16 bits.

use super::super::{Formed, chains, nest};
use super::byte_windows;
use crate::base::DType;
use crate::definition::Definition;
use crate::schedule::choose::choose;
use crate::schedule::linear::{Layout, Linear};
use crate::schedule::{Schedule, parse, verify};
use crate::target::{Target, resolve};
use crate::tile::interpret;

/// Channels last.
fn linear(def: &Definition) -> Linear {
    let last = |shape: &[usize]| Layout::permuted(shape, &[0, 2, 3, 1]);
    let layouts = [last(&def.operands[0].ty.shape), Layout::dense(&def.operands[1].ty.shape)];
    Linear::new(def, &layouts, &[false, true], &last(&def.output.ty.shape))
}

fn target(cpu: &str) -> Target {
    resolve("x86_64", cpu).expect("the target is known")
}

/// Numbers that repeat late.
pub(super) fn numbers(seed: u32) -> impl Iterator<Item = u32> {
    std::iter::successors(Some(seed), |&n| Some(n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223)))
        .map(|n| n >> 16)
}

fn formed(linear: &Linear, constants: &[u8], cpu: &str) -> Option<Formed> {
    chains(linear, &target(cpu), |operand| (operand == 1).then_some(constants))
}

/// What a schedule computes from bytes and constants. The interpreter saturates where the instruction does.
pub(super) fn run(
    linear: &Linear,
    schedule: &Schedule,
    (data, constants): (&[u8], &[u8]),
    cpu: &str,
) -> Vec<u8> {
    let mut formed = formed(linear, constants, cpu);
    let nested = nest(linear, schedule, true, 1).expect("the kernel is built");
    crate::tile::verify(&nested.kernel).unwrap_or_else(|e| panic!("{e}"));
    let packed = nested.packed_chains(1, &mut formed).or_else(|| nested.packed(linear, 1, constants));
    let out = vec![0; 4 * linear.output.elems];
    let mut buffers = vec![data.to_vec(), packed.unwrap_or(constants.to_vec()), out];
    buffers.extend((nested.between > 0).then(|| vec![0xa5; 4 * nested.between]));
    assert_eq!(interpret(&nested.kernel, &mut buffers).expect("the kernel runs"), 0);
    buffers.swap_remove(2)
}

/// The definition with the chains that constants form, in the schedule chosen: whether it has any, and their counts.
fn chained(def: &Definition, constants: &[u8], cpu: &str) -> (Linear, Schedule) {
    let mut linear = linear(def);
    linear.facts.chains = formed(&linear, constants, cpu).map(|f| f.chains);
    let schedule = choose(&linear, &target(cpu));
    verify(&schedule, &linear).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(parse(&schedule.display(&linear), &linear).unwrap(), schedule);
    (linear, schedule)
}

/// Constants of all kinds: those of narrow ranges, of wide ones with zeros, and the largest there are beside the
/// largest bytes.
#[test]
fn chains_agree_with_the_naive_loops() {
    let weights: [(&str, fn(u32) -> i8); 5] = [
        ("four bits", |n| (n % 16) as i8 - 8),
        ("seven bits", |n| (n % 128) as i8 - 64),
        ("bell", |n| (n.to_le_bytes()[0] as i8 / 4).wrapping_add((n >> 3) as i8 / 4)),
        ("extremes", |n| [-128, 127, 127, -127][n as usize % 4]),
        ("mostly zero", |n| if n.is_multiple_of(7) { n as u8 as i8 } else { 0 }),
    ];
    let mut taken = 0;
    for (name, weight) in weights {
        for types in [DType::U8, DType::I8] {
            for def in [
                byte_windows((24, 16), (7, 1), 1, (types, DType::I8)),
                byte_windows((64, 29), (5, 1), 1, (types, DType::I8)),
                byte_windows((8, 40), (6, 3), 2, (types, DType::I8)),
            ] {
                let constants: Vec<u8> =
                    numbers(7).map(|n| weight(n) as u8).take(linear(&def).buffers[1].elems).collect();
                for cpu in ["x86-64-v3", "x86-64-v4"] {
                    let (linear, schedule) = chained(&def, &constants, cpu);
                    taken += usize::from(schedule.chains);
                    let ends = if types == DType::U8 { [0, 255] } else { [128, 127] };
                    for data in [|n: u32, _: [u8; 2]| n as u8, |n: u32, ends: [u8; 2]| ends[n as usize % 2]] {
                        let data: Vec<u8> =
                            numbers(3).map(|n| data(n, ends)).take(linear.buffers[0].elems).collect();
                        let expected = run(&linear, &Schedule::naive(&linear), (&data, &constants), cpu);
                        let got = run(&linear, &schedule, (&data, &constants), cpu);
                        assert_eq!(got, expected, "{name}: {}", schedule.display(&linear));
                    }
                }
            }
        }
    }
    assert!(taken > 20, "{taken}");
}

/// Of windows that overlap, what a tile reads is copied once: one run of each of their rows.
#[test]
fn windows_that_overlap_are_one_run() {
    let def = byte_windows((8, 40), (6, 3), 2, (DType::U8, DType::I8));
    let constants = vec![1; linear(&def).buffers[1].elems];
    let (linear, schedule) = chained(&def, &constants, "x86-64-v3");
    let turns = linear.facts.chains.expect("small weights form chains").turns;
    assert!(schedule.chains && schedule.tile.iter().any(|t| t.1 == 6), "{}", schedule.display(&linear));
    let nested = nest(&linear, &schedule, true, 1).expect("the kernel is built");
    // Five windows are two columns of eight bytes from the one before, the last one is three wide.
    let words = 3 * (5 * 2 + 3) * 8 / 4 * turns;
    assert_eq!(nested.between, (words.div_ceil(16) | 1) * 16);
}

/// Seven rows of 4.5 KB, which a first-level cache of 32 KB holds just about, share each word of the constants: they
/// are not four and three.
#[test]
fn long_rows_are_multiplied_together() {
    let def = byte_windows((512, 8), (7, 3), 1, (DType::U8, DType::I8));
    let bell = |n: u32| (n.to_le_bytes()[0] as i8 / 4).wrapping_add((n >> 3) as i8 / 4) as u8;
    let constants: Vec<u8> = numbers(7).map(bell).take(linear(&def).buffers[1].elems).collect();
    let (linear, schedule) = chained(&def, &constants, "x86-64-v3");
    assert!(schedule.chains && schedule.tile.iter().any(|t| t.1 == 7), "{}", schedule.display(&linear));
}

#[test]
fn other_products_form_no_chains() {
    let form = |types: (DType, DType), cpu: &str, rows: usize| {
        let def = byte_windows((32, 32), (rows, 1), 1, types);
        chained(&def, &[1; 32 * 32], cpu).1.chains
    };
    assert!(form((DType::U8, DType::I8), "x86-64-v3", 8));
    assert!(!form((DType::U8, DType::I8), "x86-64-v3", 1));
    assert!(!form((DType::U8, DType::U8), "x86-64-v3", 8));
    assert!(!form((DType::U8, DType::I8), "x86-64", 8));
    assert!(!form((DType::U8, DType::I8), "icelake-server", 8));
}
