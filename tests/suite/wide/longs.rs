//! Integers of 64 bits, which AVX2 has few instructions for.

use super::{check, disassembly, targets};
use lmc::tile::{Kernel, parse};

/// All that AVX2 lacks, of numbers of any size and of those that constants are, over vectors and single lanes.
fn longs(lanes: usize) -> Kernel {
    let ty = if lanes == 1 { "i64".to_string() } else { format!("i64x{lanes}") };
    let binary = ["mul", "min", "max", "min_u", "max_u"].map(|op| format!("{op} %0, %1"));
    let others = ["mul %0, %2", "mul %3, %0", "mul %0, %4", "abs %0", "shr_s %0, %5", "mla %1, %0, %2"];
    let values: Vec<String> = binary.into_iter().chain(others.map(String::from)).collect();
    let (bits, first) = (["16", "-9223372036854775808", "-7", "7"], 2);
    let mut text = format!(
        "kernel longs {{ read x: i64[9] read y: i64[9] write z: i64[{}]\n\
         %0: {ty} = load x[0]\n%1: {ty} = load y[0]\n",
        lanes * values.len()
    );
    (first..).zip(bits).for_each(|(i, n)| text += &format!("%{i}: {ty} = const {n}\n"));
    (first + bits.len()..).zip(&values).for_each(|(i, v)| text += &format!("%{i}: {ty} = {v}\n"));
    (0..values.len())
        .for_each(|i| text += &format!("store z[{}] = %{}\n", lanes * i, first + bits.len() + i));
    parse(&(text + "}")).unwrap_or_else(|e| panic!("{e}\n"))
}

#[test]
fn what_has_no_instruction_is_computed_by_others() {
    for target in targets() {
        (1..=target.lanes() / 2).for_each(|lanes| check(&longs(lanes), &target));
    }
}

/// A row that a table names.
#[test]
fn a_multiple_of_a_power_of_two_is_shifted() {
    let text = "kernel rows { read at: i64[8] read x: f32[128] write y: f32[8]\n\
                %0: i64 = load at[3]\n%1: i64 = const 16\n%2: i64 = mul %0, %1\n%3: i64 = const 112\n\
                %4: i64 = max_u %2, %2\n%5: i64 = min_u %4, %3\n%6: f32x8 = load x[0; %5 <= 112]\n\
                store y[0] = %6\n}";
    let kernel = parse(text).unwrap_or_else(|e| panic!("{e}"));
    for target in targets() {
        check(&kernel, &target);
        let text = disassembly(&kernel, &target);
        assert!(text.contains("vpsllq") && !text.contains("mul"), "{text}");
    }
}
