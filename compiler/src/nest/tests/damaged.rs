//! Files of schedules are written by people, too: whatever number stands in one, it is an error or a kernel.

use super::*;
use crate::schedule::parse;
use std::collections::BTreeSet;

/// A text with each of its numbers in turn replaced by others.
fn damaged(text: &str) -> Vec<String> {
    let words: Vec<&str> = text.split(' ').collect();
    let numbers = (0..words.len()).filter(|&i| words[i].parse::<usize>().is_ok());
    let with = |i: usize, number: &str| {
        let mut words = words.clone();
        words[i] = number;
        words.join(" ")
    };
    let other = ["0", "1", "3", "1000", "4611686018427387905", "18446744073709551615"];
    numbers.flat_map(|i| other.map(|number| with(i, number))).collect()
}

#[test]
fn any_number_in_a_schedule_is_an_error_or_a_kernel() {
    let defs = [
        conv((8, 32), (16, 16), 3, 1, 1),
        byte_conv((8, 32), (16, 16), 3, (DType::U8, DType::I8)),
        depthwise(16, (12, 12), 1),
        byte_matmul(6, 32, 24),
        matmul(6, 32, 24),
        row_max(5, 40),
        silu(&[3, 40]),
    ];
    let (mut refused, mut built) = (0, 0);
    for def in &defs {
        let constant: Vec<bool> = (0..def.operands.len()).map(|i| i > 0).collect();
        let layouts: Vec<Layout> = def.operands.iter().map(|o| Layout::dense(&o.ty.shape)).collect();
        let linear = Linear::new(def, &layouts, &constant, &Layout::dense(&def.output.ty.shape));
        let texts: BTreeSet<String> = TARGETS
            .iter()
            .map(|(triple, cpu)| crate::target::resolve(triple, cpu).expect("the target is known"))
            .map(|target| choose(&linear, &target).display(&linear))
            .collect();
        for text in texts.iter().flat_map(|text| damaged(text)) {
            match parse(&text, &linear).and_then(|s| verify(&s, &linear).map(|()| s)) {
                Ok(schedule) => {
                    nest(&linear, &schedule, true, 1).unwrap_or_else(|e| panic!("{e}: {text}"));
                    built += 1;
                }
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > 100 && built > 10, "{refused} {built}");
}
