//! Products of bytes on aarch64: the instructions that each arrangement of words takes.

use super::*;
use crate::nest::to_one_channel;
use lmc::base::DType;
use lmc::nest::nest;
use lmc::schedule::choose::choose;

/// Four rows by 16 columns of bytes: 64 products of four bytes in 16 instructions, by element, and
/// no widening of what is stored.
#[test]
fn products_of_bytes_by_element() {
    let mut kernel = String::from(
        "kernel dots { read a: i8[256] read b: i8[1024] write c: i8[64] vars k\n\
         %17: i32x16 = const -128\n%18: i32x16 = const 127\n",
    );
    (0..4).for_each(|r| kernel += &format!("%{r}: i32x16 = const 0\n"));
    kernel += "for k in 0..64 step 4 {\n%4: i32x16 = words b[16*k]\n";
    for r in 0..4 {
        kernel += &format!("%{}: i32x16 = words a[k + {}] stride 0\n", 5 + r, 64 * r);
        kernel += &format!("%{r}: i32x16 = dot_ss %{r}, %{}, %4\n", 5 + r);
    }
    kernel += "}\n";
    for r in 0..4 {
        kernel +=
            &format!("%{}: i32x16 = add %{r}, %17\n%{}: i32x16 = max %17, %{}\n", 19 + r, 9 + r, 19 + r);
        kernel += &format!("%{}: i32x16 = min %18, %{}\nstore c[{}] = %{}\n", 13 + r, 9 + r, 16 * r, 13 + r);
    }
    let kernel = parse(&(kernel + "}")).unwrap_or_else(|e| panic!("{e}"));
    for target in &targets() {
        let text = text("neon_dots", &kernel, target);
        match target.cpu == "cortex-a53" {
            true => assert_eq!((count(&text, "smull"), count(&text, "sadalp")), (32, 32), "{text}"),
            false => assert_eq!((count(&text, "sdot"), count(&text, ".4b[")), (32, 32), "{text}"),
        }
        assert_eq!(count(&text, "sqxtn"), 4 * 6, "{text}");
        assert_eq!(check_supported("neon_dots_run", &[case(kernel.clone(), 1)], target), 1);
    }
}

/// Two rows by four columns, sixteen bytes of each: four products of squares, and what is put side by side
/// takes an instruction for each vector.
#[test]
fn products_of_two_rows_by_two_columns() {
    let n2 = resolve("aarch64", "neoverse-n2").expect("known");
    for (signs, (a, b), word) in
        [("us", ("u8", "i8"), "usmmla"), ("ss", ("i8", "i8"), "smmla"), ("uu", ("u8", "u8"), "ummla")]
    {
        let kernel = format!(
            "kernel squares {{ read a: {a}[32] read b: {b}[64] write c: i32[8]
  %0: i32x4 = words a[0]\n%1: i32x4 = words a[16]
  %2: i32x4 = pairs %0[0], %1[0]\n%3: i32x4 = pairs %0[2], %1[2]
  %4: i32x4 = const 0\n%5: i32x4 = const 0
  %6: i32x8 = words b[0]\n%7: i32x8 = words b[32]
  %8: i32x4 = pairs %6[0], %6[2]\n%9: i32x4 = pairs %6[6], %7[0]
  %10: i32x4 = pairs %7[2], %7[6]\n%11: i32x4 = pairs %6[4], %7[6]
  %4: i32x4 = squares_{signs} %4, %2, %8\n%5: i32x4 = squares_{signs} %5, %2, %9
  %4: i32x4 = squares_{signs} %4, %3, %10\n%5: i32x4 = squares_{signs} %5, %3, %11
  %12: i32x4 = pairs %4[0], %5[0]\n%13: i32x4 = pairs %4[2], %5[2]
  store c[0] = %12\nstore c[4] = %13\n}}"
        );
        let kernel = parse(&kernel).unwrap_or_else(|e| panic!("{e}"));
        let text = text("neon_squares", &kernel, &n2);
        assert_eq!(count(&text, &format!("\t{word}\t")), 4, "{text}");
        let moves = ["zip1", "zip2", "ext", "mov\tv"].map(|word| count(&text, word));
        assert_eq!(moves, [2, 3, 1, 3], "{text}");
        assert_eq!(check_supported("neon_squares_run", &[case(kernel, 1)], &n2), 1);
    }
}

/// Without the instruction: of bytes without -128, two products are added in 16 bits, two steps of
/// the reduction at a time, and the other rows' products follow while the vectors are there.
#[test]
fn products_of_bytes_in_couples() {
    let mut text =
        String::from("kernel couples { read a: i8[128] read b: i8[1024] write c: i32[32] vars k\n");
    (0..2).for_each(|r| text += &format!("%{r}: i32x16 = const 0\n"));
    text += "for k in 0..64 step 8 {\n";
    for step in 0..2 {
        text += &format!("%{}: i32x16 = words b[16*k + {}]\n", 2 + step, 64 * step);
        for row in 0..2 {
            let factor = 4 + 2 * step + row;
            text += &format!("%{factor}: i32x16 = words a[k + {}] stride 0\n", 64 * row + 4 * step);
            text += &format!("%{row}: i32x16 = dot_sn %{row}, %{factor}, %{}\n", 2 + step);
        }
    }
    text += "}\n";
    (0..2).for_each(|r| text += &format!("store c[{}] = %{r}\n", 16 * r));
    let kernel = parse(&(text + "}")).unwrap_or_else(|e| panic!("{e}"));
    let mut case = case(kernel, 1);
    case.inputs[1].iter_mut().for_each(|b| *b = if *b == 0x80 { 0x7f } else { *b });
    let a53 = resolve("aarch64", "cortex-a53").expect("known");
    let text = self::text("neon_couples", &case.kernel, &a53);
    // Two rows, four vectors of columns, two halves.
    let counts = ["smull", "smlal", "sadalp"].map(|word| count(&text, word));
    assert_eq!(counts, [16; 3], "{text}");
    assert!(count(&text, "[sp") <= 8, "only the saved registers on the stack: {text}");
    for target in targets() {
        assert_eq!(check_supported("neon_couples_run", std::slice::from_ref(&case), &target), 1);
    }
}

/// Four rows of bytes of a type by sixteen channels, four products at a time.
pub fn four_rows(name: &str, rows: &str, dot: &str) -> Kernel {
    let mut text = format!("kernel {name} {{ read a: {rows}[256] read b: i8[1024] write c: i32[64] vars k\n");
    (0..4).for_each(|r| text += &format!("%{r}: i32x16 = const 0\n"));
    text += "for k in 0..64 step 4 {\n%4: i32x16 = words b[16*k]\n";
    for r in 0..4 {
        text += &format!("%{}: i32x16 = words a[k + {}] stride 0\n", 5 + r, 64 * r);
        text += &format!("%{r}: i32x16 = {dot} %{r}, %{}, %4\n", 5 + r);
    }
    text += "}\n";
    (0..4).for_each(|r| text += &format!("store c[{}] = %{r}\n", 16 * r));
    parse(&(text + "}")).unwrap_or_else(|e| panic!("{e}"))
}

/// Without the instruction: of words in halves, four products of a word go to two sums of 16 bits, which are the
/// four products of each channel once they are added. What a row reads is loaded into every lane.
#[test]
fn products_of_words_in_halves() {
    let kernel = four_rows("halves", "i8", "dot_halves");
    let mut case = case(kernel, 1);
    case.inputs[1].iter_mut().for_each(|b| *b = if *b == 0x80 { 0x7f } else { *b });
    let a53 = resolve("aarch64", "cortex-a53").expect("known");
    let text = self::text("neon_halves", &case.kernel, &a53);
    let counts = ["smull", "smlal", "sadalp", "ld2r", "addp\t"].map(|word| count(&text, word));
    assert_eq!(counts, [16, 16, 16, 4, 0], "{text}");
    assert!(count(&text, "[sp") <= 8, "only the saved registers on the stack: {text}");
    for target in targets() {
        assert_eq!(check_supported("neon_halves_run", std::slice::from_ref(&case), &target), 1);
    }
}

/// Two words in halves at a time: eight products go to two sums of 16 bits, and half as many of these are added to
/// those of 32. Three rows' products, what one row reads and both words of the channels fit the registers.
#[test]
fn products_of_two_words_in_halves() {
    let mut text = String::from("kernel long { read a: i8[192] read b: i8[1024] write c: i32[48] vars k\n");
    text += "%0: i32x16 = const 0\n%1: i32x16 = const 65537\n";
    (2..5).for_each(|sum| text += &format!("%{sum}: i32x16 = const 0\n"));
    text += "for k in 0..64 step 8 {\n%5: i32x16 = words b[16*k]\n%6: i32x16 = words b[16*k + 64]\n";
    for (sum, pairs) in [(2, 7), (3, 10), (4, 13)] {
        for word in 0..2 {
            let (at, row, before) = (64 * (sum - 2) + 4 * word, pairs + 1 + word, pairs * word);
            text += &format!("%{row}: i32x16 = words a[k + {at}] stride 0\n");
            text += &format!("%{pairs}: i32x16 = dot_half_pairs %{before}, %{row}, %{}\n", 5 + word);
        }
        text += &format!("%{sum}: i32x16 = dot_couples %{sum}, %{pairs}, %1\n");
    }
    text += "}\n";
    (0..3).for_each(|r| text += &format!("store c[{}] = %{}\n", 16 * r, 2 + r));
    let kernel = parse(&(text + "}")).unwrap_or_else(|e| panic!("{e}"));
    let case = case(kernel, 1);
    let a53 = resolve("aarch64", "cortex-a53").expect("known");
    let text = self::text("neon_long", &case.kernel, &a53);
    let counts = ["smull", "smlal", "sadalp", "ld2r", "dup\t"].map(|word| count(&text, word));
    assert_eq!(counts, [12, 36, 12, 6, 0], "{text}");
    assert!(count(&text, "[sp") <= 8, "only the saved registers on the stack: {text}");
    for target in targets() {
        assert_eq!(check_supported("neon_long_run", std::slice::from_ref(&case), &target), 1);
    }
}

/// Filters of single channels: two taps' products are added in 16 bits, and widened as they are added to the sums. Of
/// two points of the output, each goes with the other that has the same weights; the fifth tap is left alone.
#[test]
fn products_of_bytes_in_lanes_of_their_own() {
    let mut text = String::from("kernel taps { read x: i8[176] read w: i8[160] write y: i32[32] vars k\n");
    (0..2).for_each(|sum| text += &format!("%{sum}: i32x16 = const 0\n"));
    text += "for k in 0..160 step 80 {\n";
    for tap in 0..5 {
        text += &format!("%{}: i32x16 = load w[k + {}]\n", 2 + tap, 16 * tap);
        for sum in 0..2 {
            let (x, w) = (7 + 2 * tap + sum, 2 + tap);
            text += &format!("%{x}: i32x16 = load x[k + {}]\n", 16 * (tap + sum));
            text += &format!("%{sum}: i32x16 = dot_bytes %{sum}, %{x}, %{w}\n");
        }
    }
    text += "}\n";
    (0..2).for_each(|sum| text += &format!("store y[{}] = %{sum}\n", 16 * sum));
    let kernel = parse(&(text + "}")).unwrap_or_else(|e| panic!("{e}"));
    let mut case = case(kernel, 1);
    let extreme = |i: usize, b: &mut u8| *b = [0x80, 0x7f, *b][i % 3];
    case.inputs[0].iter_mut().enumerate().for_each(|(i, b)| extreme(i / 16, b));
    case.inputs[1].iter_mut().for_each(|b| *b = if *b < 0x80 { 0x7f } else { 0x81 });
    let a53 = resolve("aarch64", "cortex-a53").expect("known");
    let text = self::text("neon_taps", &case.kernel, &a53);
    // Two points, two taps of each pair, two halves of the vector; four lanes at a time for the last tap.
    let counts = ["smull", "smlal", "saddw"].map(|word| count(&text, word));
    assert_eq!(counts, [8, 8 + 8, 16], "{text}");
    for target in targets() {
        assert_eq!(check_supported("neon_taps_run", std::slice::from_ref(&case), &target), 1);
    }
}

/// Words that overlap: a load and a permutation of bytes for each four.
#[test]
fn words_that_overlap() {
    for lanes in [1usize, 4, 6, 16] {
        for stride in 1..4 {
            let kernel = format!(
                "kernel overlap {{ read x: i8[{}] write y: i32[{lanes}]
  %0: i32x{lanes} = words x[3] stride {stride}\nstore y[0] = %0\n}}",
                3 + 4 * lanes
            );
            let kernel = parse(&kernel.replace("x1 =", " =")).unwrap_or_else(|e| panic!("{e}"));
            for target in &targets() {
                let text = text("neon_overlap", &kernel, target);
                let tables = if lanes == 1 { 0 } else { lanes.div_ceil(4) };
                assert_eq!(count(&text, "\ttbl\t"), tables, "{text}");
                assert_eq!(check_supported("neon_overlap_run", &[case(kernel.clone(), 1)], target), 1);
            }
        }
    }
}

/// Words along the channels of a convolution to one: no byte is multiplied in a lane of 32 bits.
#[test]
fn words_over_lanes() {
    for (target, types) in targets().iter().flat_map(|t| [(t, DType::U8), (t, DType::I8)]) {
        let linear = to_one_channel(36, [types, DType::I8]);
        let kernel = nest(&linear, &choose(&linear, target), target.fma, 1).expect("a kernel").kernel;
        let text = text("neon_words", &kernel, target);
        let dots = ["sdot", "usdot", "sadalp"].map(|word| count(&text, word)).iter().sum::<usize>();
        assert!(dots > 0 && count(&text, "\tmla\t") == 0, "{text}");
        assert_eq!(check_supported("neon_words_run", &[case(kernel, 1)], target), 1);
    }
}

/// Words that are loaded into every lane, two of which would be loaded before the same instruction: a product of 13 bytes
/// by six channels, two rows of it.
const WORDS: &str = "
kernel rows fused {
  read x: i8[926]
  read w: i8[128]
  read b: i32[6]
  read f: f32[6]
  read s: f32[1]
  write y: f32[384]
  vars i2, i3
  for i2 in 0..8 {
    for i3 in 0..8 step 2 {
      %0: i32x6 = load b[0]
      %1: i32x6 = %0
      %2: i32x6 = %0
      %3: i32x6 = words x[117*i2 + 13*i3] stride 0
      %4: i32x6 = words w[0]
      %1: i32x6 = dot_sn %1, %3, %4
      %5: i32x6 = words x[117*i2 + 13*i3 + 4] stride 0
      %6: i32x6 = words w[32]
      %1: i32x6 = dot_sn %1, %5, %6
      %7: i32x6 = words x[117*i2 + 13*i3 + 13] stride 0
      %2: i32x6 = dot_sn %2, %7, %4
      %8: i32x6 = words x[117*i2 + 13*i3 + 17] stride 0
      %2: i32x6 = dot_sn %2, %8, %6
      %9: i32x6 = words x[117*i2 + 13*i3 + 8] stride 0
      %10: i32x6 = words w[64]
      %1: i32x6 = dot_sn %1, %9, %10
      %11: i32x6 = words x[117*i2 + 13*i3 + 21] stride 0
      %2: i32x6 = dot_sn %2, %11, %10
      %12: i32x6 = words x[117*i2 + 13*i3 + 12] stride 0
      %13: i32x6 = words w[96]
      %1: i32x6 = dot_sn %1, %12, %13
      %14: i32x6 = words x[117*i2 + 13*i3 + 25] stride 0
      %2: i32x6 = dot_sn %2, %14, %13
      %15: f32x6 = int_to_float %1
      %16: f32x6 = load f[0]
      %17: f32x6 = mul %15, %16
      %18: i32x6 = nearest_small %17
      %19: i32x6 = const 0
      %20: i32x6 = const 255
      %21: i32x6 = max %19, %18
      %22: i32x6 = min %20, %21
      %23: f32x6 = int_to_float %22
      %24: f32x6 = load s[0] stride 0
      %25: f32x6 = mul %23, %24
      store y[48*i2 + 6*i3] = %25
      %26: f32x6 = int_to_float %2
      %27: f32x6 = mul %26, %16
      %28: i32x6 = nearest_small %27
      %29: i32x6 = max %19, %28
      %30: i32x6 = min %20, %29
      %31: f32x6 = int_to_float %30
      %32: f32x6 = mul %31, %24
      store y[48*i2 + 6*i3 + 6] = %32
    }
  }
}
";

#[test]
fn words_in_every_lane_have_places_of_their_own() {
    let kernel = parse(WORDS).expect("a kernel");
    for target in &targets() {
        let mut case = case(kernel.clone(), 1);
        // Four products fit 16 bits.
        case.inputs[1].iter_mut().for_each(|byte| *byte = (*byte % 32).wrapping_sub(16));
        check_supported("neon_words_in_every_lane", &[case], target);
    }
}
