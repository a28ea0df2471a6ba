//! The aarch64 encoder against the interpreter, under emulation, on processors that have no more
//! than the target.

mod across;
mod products;

use crate::machine::{Case, check, count, disassemble, lookups, quantization};
use lmc::codegen::neon::{encode, supports};
use lmc::error::Error;
use lmc::target::{Feature, Target, resolve};
use lmc::tile::random::{self, Vocabulary};
use lmc::tile::{Access, Dot, Kernel, Lane, RegType, Value, parse};

/// Without dot products, with those of equal signs, with those of unequal signs.
pub fn targets() -> Vec<Target> {
    ["cortex-a53", "neoverse-n1", "neoverse-n2"].map(|cpu| resolve("aarch64", cpu).expect("known")).into()
}

/// Runs the kernels of some cases that the encoder takes; gives how many.
pub fn check_supported(name: &str, cases: &[Case], target: &Target) -> usize {
    let taken: Vec<Case> = cases.iter().filter(|c| supports(&c.kernel, target).is_ok()).cloned().collect();
    if !taken.is_empty() {
        check(name, &taken, target, &|kernel| encode(kernel, target).map_err(Error::bug));
    }
    taken.len()
}

fn case(kernel: Kernel, seed: u64) -> Case {
    let buffers = random::buffers(&kernel, seed);
    let read = kernel.params.iter().zip(buffers).filter(|(p, _)| p.access == Access::Read);
    let inputs = read.map(|(_, buffer)| buffer).collect();
    Case { kernel, inputs }
}

/// Integer division and products of couples that are whole are left to others; which of two equal zeros is the
/// smaller is not specified.
fn taken(target: &Target, ty: RegType, value: &Value) -> bool {
    use lmc::scalar::Fold;
    use lmc::tile::Bin::*;
    let float = matches!(ty.lane, Lane::F16 | Lane::F32);
    !match value {
        Value::Bin(DivS | DivU | RemS | RemU, ..) => true,
        Value::Dot(Dot::Couples | Dot::Pairs, ..) => true,
        Value::Dot(Dot::Squares(_), ..) => !target.has(Feature::I8mm),
        Value::Bin(Min | Max | MinNan | MaxNan, ..) | Value::Reduce(Fold::Min | Fold::Max, _) => float,
        _ => false,
    }
}

/// Random kernels; `LMC_RANDOM_KERNELS` says how many.
#[test]
fn random_kernels() {
    let count = std::env::var("LMC_RANDOM_KERNELS").ok().and_then(|n| n.parse().ok()).unwrap_or(150);
    for target in targets() {
        for lanes in [4, 16] {
            let accept = |ty, value: &Value| taken(&target, ty, value);
            let half_lanes = target.has(Feature::Fp16) && lanes == 16;
            let words = Vocabulary { accept: &accept, half_lanes, ..Vocabulary::vectors(lanes) };
            let cases: Vec<Case> = (0..count).map(|seed| case(random::kernel(seed, &words), seed)).collect();
            let run = check_supported(&format!("neon_random_{lanes}"), &cases, &target);
            assert!(run * 10 >= cases.len() * 9, "only {run} of {} are taken", cases.len());
        }
    }
}

/// A tile of a matrix product over packed operands, the rows' factor by lane.
fn tile(rows: usize, columns: usize, depth: usize) -> Kernel {
    let (tile, width) = (rows * columns, 4 * columns);
    let (b, a) = (tile, tile + columns);
    let mut text = format!(
        "kernel gemm fused {{ read a: f32[{}] read b: f32[{}] write c: f32[{}] vars k\n",
        rows * depth,
        width * depth,
        rows * width
    );
    (0..tile).for_each(|i| text += &format!("%{i}: f32x4 = const 0.0\n"));
    text += &format!("for k in 0..{depth} {{\n");
    (0..columns).for_each(|c| text += &format!("%{}: f32x4 = load b[{width}*k + {}]\n", b + c, 4 * c));
    for r in 0..rows {
        if r % 4 == 0 {
            text += &format!("%{}: f32x4 = load a[{rows}*k + {r}]\n", a + rows + r / 4);
        }
        text += &format!("%{}: f32x4 = broadcast %{}[{}]\n", a + r, a + rows + r / 4, r % 4);
        for c in 0..columns {
            text += &format!("%{i}: f32x4 = mla %{i}, %{}, %{}\n", a + r, b + c, i = r * columns + c);
        }
    }
    text += "}\n";
    (0..tile).for_each(|i| text += &format!("store c[{}] = %{i}\n", 4 * i));
    parse(&(text + "}")).unwrap_or_else(|e| panic!("{e}"))
}

fn text(name: &str, kernel: &Kernel, target: &Target) -> String {
    disassemble(name, kernel, target, &|kernel| encode(kernel, target).map_err(Error::bug))
}

/// A loop has nothing but its work: two iterations at once, ten vectors in four loads, which move the
/// pointers, and one test.
#[test]
fn matrix_tiles_have_no_overhead() {
    let a53 = resolve("aarch64", "cortex-a53").expect("known");
    let kernel = tile(8, 3, 64);
    let text = text("neon_gemm", &kernel, &a53);
    assert_eq!(count(&text, "fmla\tv"), 48, "{text}");
    assert_eq!(count(&text, ".s["), 48, "by element: {text}");
    assert!(count(&text, "[sp") <= 8, "only the saved registers on the stack: {text}");
    let body: Vec<&str> = text.lines().skip_while(|l| !l.contains("ld1\t")).collect();
    let end = body.iter().position(|l| l.contains("b.ne")).expect("a loop");
    assert_eq!(end + 1, 48 + 4 + 2, "{text}");
    assert_eq!(check_supported("neon_gemm_runs", &[case(kernel, 1)], &a53), 1);
}

/// Fixed-point factors: four products, four narrowing shifts that round, two more narrowings, and where the
/// zero point moves between the signs, one flip.
#[test]
fn requantization_takes_eleven_instructions_for_sixteen_bytes() {
    for (zero, dtype, low, high, flips) in
        [(-128, "i8", -128, 127, 1), (0, "i8", -128, 127, 0), (128, "u8", 0, 255, 1), (3, "u8", 2, 255, 0)]
    {
        let kernel = format!(
            "kernel fixed {{ read a: i32[160] read m: i32[16] write c: {dtype}[160] vars k\n\
             %0: i32x16 = load m[0]\n%1: i32x16 = const 7\n%2: i32x16 = const {zero}\n\
             %3: i32x16 = const {low}\n%4: i32x16 = const {high}\nfor k in 0..10 {{\n\
             %5: i32x16 = load a[16*k]\n%6: i32x16 = mul_high %5, %0\n%7: i32x16 = shr_round %6, %1\n\
             %8: i32x16 = add %7, %2\n%9: i32x16 = max %3, %8\n%10: i32x16 = min %4, %9\n\
             store c[16*k] = %10\n}}\n}}"
        );
        let kernel = parse(&kernel).unwrap_or_else(|e| panic!("{e}"));
        for target in &targets() {
            let text = text("neon_fixed", &kernel, target);
            let times = count(&text, "sqdmulh") / 4;
            assert!(times > 0 && count(&text, "sqrshrn") == 4 * times, "{text}");
            assert_eq!(count(&text, "sqxt"), 2 * times, "{text}");
            assert_eq!(count(&text, "eor\tv"), flips * times, "{text}");
            assert_eq!(check_supported("neon_fixed_run", &[case(kernel.clone(), 1)], target), 1);
        }
    }
}

/// Words put together from the bytes of four rows: eight instructions for sixteen words.
#[test]
fn words_are_woven() {
    let kernel = parse(
        "kernel woven { read x: i8[64] read w: i8[64] write y: i32[16]
  %0: i32x16 = const 0
  %1: i32x16 = load x[0]
  %2: i32x16 = zext_low 8, %1
  %3: i32x16 = load x[16]
  %4: i32x16 = zext_low 8, %3
  %5: i32x16 = const 8
  %6: i32x16 = shl %4, %5
  %7: i32x16 = or %2, %6
  %8: i32x16 = load x[32]
  %9: i32x16 = zext_low 8, %8
  %10: i32x16 = const 16
  %11: i32x16 = shl %9, %10
  %12: i32x16 = or %7, %11
  %13: i32x16 = load x[48]
  %14: i32x16 = const 24
  %15: i32x16 = shl %13, %14
  %16: i32x16 = or %12, %15
  %17: i32x16 = words w[0]
  %0: i32x16 = dot_ss %0, %16, %17
  store y[0] = %0
}",
    )
    .unwrap_or_else(|e| panic!("{e}"));
    for target in targets() {
        let text = self::text("neon_woven", &kernel, &target);
        assert_eq!((count(&text, "zip1"), count(&text, "zip2")), (4, 4), "{text}");
        assert_eq!(count(&text, "\tshl\t"), 0, "{text}");
        assert_eq!(check_supported("neon_woven_run", &[case(kernel.clone(), 1)], &target), 1);
    }
}

/// Four neighbouring columns are loaded as rows and turned, others element by element.
#[test]
fn blocks_are_turned_in_registers() {
    for target in &targets() {
        for (columns, turned) in [(4, 1), (3, 0), (9, 2)] {
            let mut body = String::new();
            (0..columns).for_each(|i| body += &format!("%{i}: f32x4 = load a[8*k + {i}] stride 24\n"));
            (0..columns).for_each(|i| body += &format!("store b[4*k + {}] = %{i}\n", 16 * i));
            let kernel = format!(
                "kernel columns {{ read a: f32[200] write b: f32[160] vars k\nfor k in 0..2 {{\n{body}}}}}"
            );
            let kernel = parse(&kernel).unwrap_or_else(|e| panic!("{e}"));
            let code = text("neon_columns", &kernel, target);
            assert_eq!(count(&code, "zip"), 8 * turned, "{code}");
            assert_eq!(check_supported("neon_columns_run", &[case(kernel, 1)], target), 1);
        }
    }
}

/// Bounds that change with an outer loop are computed there: the loop between has a move, a
/// comparison and two additions for them.
/// Floats of three planes to bytes side by side: one store, where alone each element would have one.
#[test]
fn stores_take_turns() {
    let kernel = |read: &str| {
        let mut text = format!(
            "kernel turns {{ read a: f32[96] {read} b: i8[96] vars k\n%9: i32x16 = const -128\n%10: i32x16 = const 127\n\
             for k in 0..2 {{\n"
        );
        for plane in 0..3 {
            text += &format!("%{plane}: f32x16 = load a[16*k + {}]\n", 32 * plane);
            text += &format!("%{}: i32x16 = float_to_int %{plane}\n", 3 + plane);
            text += &format!("%{}: i32x16 = max %9, %{}\n", 11 + plane, 3 + plane);
            text += &format!("%{}: i32x16 = min %10, %{}\n", 6 + plane, 11 + plane);
            text += &format!("store b[48*k + {plane}] stride 3 = %{}\n", 6 + plane);
            if read != "write" && plane == 1 {
                text += "%14: i32x16 = load b[48*k]\n";
            }
        }
        parse(&(text + "}}")).unwrap_or_else(|e| panic!("{e}"))
    };
    for target in &targets() {
        let together = kernel("write");
        let code = text("neon_turns", &together, target);
        assert_eq!((count(&code, "st3\t"), count(&code, "st1\t")), (1, 0), "{code}");
        assert_eq!(check_supported("neon_turns_run", &[case(together, 1)], target), 1);
        let in_between = text("neon_turns_read", &kernel("readwrite"), target);
        assert_eq!(count(&in_between, "st3\t"), 0, "{in_between}");
    }
}

#[test]
fn bounds_are_computed_where_they_change() {
    let kernel = parse(
        "kernel window { read x: f32[128] read w: f32[48] write y: f32[128] vars i, j, k
  for i in 0..8 {
    for j in 0..16 step 4 {
      %0: f32x4 = const 0.0
      for k in max(0, -i + 1)..min(3, -i + 9) {
        %1: f32x4 = load x[16*i + j + 16*k - 16]
        %2: f32x4 = load w[16*k + j]
        %0: f32x4 = mla %0, %1, %2
      }
      store y[16*i + j] = %0
    }
  }
}",
    )
    .unwrap_or_else(|e| panic!("{e}"));
    let a53 = resolve("aarch64", "cortex-a53").expect("known");
    let text = self::text("neon_bounds", &kernel, &a53);
    let chosen = text.lines().position(|l| l.contains("csel")).expect("bounds");
    let zero = text.lines().position(|l| l.contains("movi\tv")).expect("a sum begins");
    assert!(chosen < zero && count(&text, "csel") == 2, "{text}");
    assert_eq!(check_supported("neon_bounds_run", &[case(kernel, 1)], &a53), 1);
}

/// Unsigned by signed bytes where only equal signs are multiplied: the unsigned ones are flipped, and
/// what is given back is summed once for all rows.
#[test]
fn signs_are_flipped_once() {
    let kernel = products::four_rows("signs", "u8", "dot_us");
    let n1 = resolve("aarch64", "neoverse-n1").expect("known");
    let text = self::text("neon_signs", &kernel, &n1);
    // An iteration, or two at once: 4 x 4 products, 4 sums; 4 x 4 additions at the end.
    let (dots, flips) = (count(&text, "sdot"), count(&text, "\teor\t"));
    assert!((dots, flips) == (20, 4) || (dots, flips) == (40, 8), "{dots} {flips} {text}");
    assert_eq!(text.lines().filter(|l| l.contains("\tadd\tv")).count(), 16, "{text}");
    for target in targets() {
        assert_eq!(check_supported("neon_signs_run", &[case(kernel.clone(), 1)], &target), 1);
    }
}

/// Small numbers are rounded by an addition that leaves their integers in the low halves, which are put
/// together at once; an even zero point is a part of it.
#[test]
fn small_numbers_are_rounded_by_an_addition() {
    let values: Vec<f32> = (0..64)
        .map(|i| match i {
            0..56 => (i - 28) as f32 * 0.5,
            _ => [-16384.0, 16384.0, -129.5, 127.5, 0.49999997, -0.50000006, 254.5, -2.4999998]
                [i as usize - 56],
        })
        .collect();
    let input: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    for (zero, moved) in
        [(Some("const -128"), 0), (Some("const 3"), 2), (Some("load z[0] stride 0"), 2), (None, 0)]
    {
        let mut values = vec!["const -128".to_string(), "const 127".to_string()];
        values.extend(zero.map(str::to_string));
        let mut stores = Vec::new();
        for i in 0..4 {
            let float = values.len();
            values.push(format!("load x[{}]", 16 * i));
            values.push(format!("nearest_small %{float}"));
            values.extend(zero.map(|_| format!("add %{}, %2", float + 1)));
            values.push(format!("max %0, %{}", values.len() - 1));
            values.push(format!("min %1, %{}", values.len() - 1));
            stores.push(format!("store y[{}] = %{}\n", 16 * i, values.len() - 1));
        }
        let mut text = String::from("kernel small { read x: f32[64] read z: i8[1] write y: i8[64]\n");
        for (i, value) in values.iter().enumerate() {
            let lane = if value.starts_with("load x") { "f32" } else { "i32" };
            text += &format!("%{i}: {lane}x16 = {value}\n");
        }
        let kernel = parse(&(text + &stores.concat() + "}")).unwrap_or_else(|e| panic!("{e}"));
        let case = Case { kernel, inputs: vec![input.clone(), vec![0xf9]] };
        for target in targets() {
            let text = self::text("neon_small", &case.kernel, &target);
            let counts = ["fcvtns", "\tfadd\t", "uzp1", "sqadd", "sqxtn"].map(|word| count(&text, word));
            assert_eq!(counts, [0, 16, 8, 4 * moved, 8], "{zero:?}: {text}");
            assert_eq!(check_supported("neon_small_run", std::slice::from_ref(&case), &target), 1);
        }
    }
}

/// A clamp to some of the bytes follows where they are bytes: an instruction for sixteen.
#[test]
fn some_bytes_are_limited_as_bytes() {
    let values: Vec<u8> = (0..32).flat_map(|i: i32| ((i - 16) * 24 + i % 3).to_le_bytes()).collect();
    let wide: Vec<u8> = (0..32).flat_map(|i: i32| ((i - 16) << 27 | i).to_le_bytes()).collect();
    for (ty, lo, hi, limits) in [("i8", -20, 127, (1, 0)), ("i8", -5, 90, (1, 1)), ("u8", 3, 200, (1, 1))] {
        let kernel = format!(
            "kernel limits {{ read x: i32[32] write y: {ty}[32] write z: {ty}[32]
  %0: i32x16 = const {lo}
  %1: i32x16 = const {hi}
  %2: i32x16 = load x[0]
  %3: i32x16 = max %0, %2
  %4: i32x16 = min %1, %3
  store y[0] = %4
  %5: i32x16 = load x[16]
  %6: i32x16 = const 7
  %7: i32x16 = add %5, %6
  %8: i32x16 = min %7, %1
  %9: i32x16 = max %8, %0
  store z[16] = %9
}}"
        );
        let kernel = parse(&kernel).unwrap_or_else(|e| panic!("{e}"));
        for target in targets() {
            let text = self::text("neon_limits", &kernel, &target);
            let count = |word: &str| text.lines().filter(|l| l.contains(word) && l.contains(".16b")).count();
            let found = (count("max\tv"), count("min\tv"));
            assert_eq!(found, (2 * limits.0, 2 * limits.1), "{text}");
            assert!(!text.contains("max\tv0.4s") && !text.contains("uzp1"), "{text}");
            for input in [&values, &wide] {
                let case = Case { kernel: kernel.clone(), inputs: vec![input.clone()] };
                assert_eq!(check_supported("neon_limits_run", &[case], &target), 1);
            }
        }
    }
}

#[test]
fn quantization_narrows_and_clamps_at_once() {
    for target in &targets() {
        let kernel = quantization(8);
        let text = text("neon_quantize", &kernel, target);
        assert_eq!((count(&text, "smin"), count(&text, "fcvtns") > 0), (0, true), "{text}");
        assert_eq!(check_supported("neon_quantize_runs", &[case(kernel, 1)], target), 1);
    }
}

/// The reciprocal of what sixteen lanes share: one division.
#[test]
fn what_all_lanes_share_is_computed_once() {
    let kernel = parse(
        "kernel shared { read x: f32[16] read s: f32[1] write y: f32[16]
  %0: f32x16 = const 1.0
  %1: f32x16 = load s[0] stride 0
  %2: f32x16 = div %0, %1
  %3: f32x16 = sub %1, %0
  %4: f32x16 = load x[0]
  %5: f32x16 = mul %4, %2
  %6: f32x16 = add %5, %3
  store y[0] = %6
}",
    )
    .unwrap_or_else(|e| panic!("{e}"));
    for target in targets() {
        let text = self::text("neon_shared", &kernel, &target);
        assert_eq!(["fdiv", "fsub", "fmul", "fadd"].map(|word| count(&text, word)), [1, 1, 4, 4], "{text}");
        assert_eq!(check_supported("neon_shared_run", &[case(kernel.clone(), 1)], &target), 1);
    }
}

/// A zero point and a factor that the kernel only reads are loaded and widened ahead of the loop.
#[test]
fn what_is_alike_each_time_is_computed_once() {
    let kernel = parse(
        "kernel scaled { read x: i8[800] read z: i8[1] read s: f32[1] write y: f32[800] vars i
  for i in 0..800 step 16 {
    %0: i32x16 = load x[i]
    %1: i32x16 = load z[0] stride 0
    %2: i32x16 = sub %0, %1
    %3: f32x16 = int_to_float %2
    %4: f32x16 = load s[0] stride 0
    %5: f32x16 = mul %3, %4
    store y[i] = %5
  }
}",
    )
    .unwrap_or_else(|e| panic!("{e}"));
    for target in targets() {
        let text = self::text("neon_scaled", &kernel, &target);
        let (ahead, within) = text.split_once("sub\tv").expect("a subtraction");
        let scalar = |text: &str| count(text, "\tb") + count(text, "dup\t") + count(text, "ld1r\t");
        assert_eq!(scalar(&within.replace("b.ne", "")), 0, "{text}");
        assert!(scalar(ahead) > 0, "{text}");
        assert_eq!(check_supported("neon_scaled_run", &[case(kernel.clone(), 1)], &target), 1);
    }
}

/// A quarter of a table is loaded by one instruction, and looked up in for 16 bytes by another one.
#[test]
fn tables_of_bytes() {
    for target in &targets() {
        let kernels = ["u8", "i8"].into_iter().flat_map(|index| {
            let rows = [(1, 16), (3, 16), (30, 16), (2, 8), (2, 5), (2, 1)];
            rows.map(|(rows, lanes)| lookups(index, "i8", rows, lanes))
        });
        let cases: Vec<Case> = kernels.map(|kernel| case(kernel, 1)).collect();
        assert_eq!(check_supported("neon_tables", &cases, target), cases.len());
        let text = text("neon_table", &lookups("u8", "u8", 3, 16), target);
        assert_eq!((count(&text, "tbl\tv"), count(&text, "tbx\tv")), (3, 9), "{text}");
        assert!(count(&text, "ld1\t{") >= 12, "{text}");
    }
}

/// Halves of bytes are taken apart as bytes, and become floats by a lookup for four, where products of bytes are.
#[test]
fn halves_of_bytes_become_floats() {
    for (dtype, low, high) in [("i8", "sext_low 4", "shr_s"), ("u8", "zext_low 4", "shr_u")] {
        let extended = if dtype == "i8" { "sext_low 8" } else { "zext_low 8" };
        let kernel = parse(&format!(
            "kernel halves fused {{ read x: {dtype}[256] write y: f32[768] vars i
  for i in 0..256 step 16 {{
    %0: i32x16 = load x[i]
    %1: i32x16 = {low}, %0
    %2: f32x16 = int_to_float %1
    store y[i] = %2
    %3: i32x16 = const 4
    %4: i32x16 = {high} %0, %3
    %5: f32x16 = int_to_float %4
    store y[i + 256] = %5
    %6: i32x16 = {extended}, %0
    %7: f32x16 = int_to_float %6
    store y[i + 512] = %7
  }}
}}"
        ))
        .unwrap_or_else(|e| panic!("{e}"));
        for target in targets() {
            let bytes = Case::new(kernel.clone(), |_, _| (0..=255).collect());
            assert_eq!(check_supported("neon_halves_run", &[bytes], &target), 1);
            let text = self::text("neon_halves", &kernel, &target);
            let times = count(&text, "\tshl\t");
            let lookups = if target.has(Feature::DotProd) { 12 } else { 0 };
            assert!(times > 0 && count(&text, "tbl\tv") == lookups * times, "{text}");
            assert_eq!(count(&text, ".16b, #4"), 3 * times, "{text}");
        }
    }
}
