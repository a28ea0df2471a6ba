//! Vectors that are stored or loaded together: bytes narrowed side by side, lanes that take turns in memory.

use super::{check, disassembly, targets};
use lmc::target::Feature;
use lmc::tile::{Kernel, parse};

/// Rows of clamped bytes, `gap` elements apart; between two of them the first one's bytes are read again.
fn byte_rows(ty: &str, rows: usize, lanes: usize, gap: usize, zero: Option<i32>) -> Kernel {
    let (lo, hi) = if ty == "u8" { (0, 255) } else { (-128, 127) };
    let elems = rows * (lanes + gap);
    let mut text = format!(
        "kernel rows {{ read x: i32[{}] readwrite y: {ty}[{elems}] write z: i32[{}]\n\
         %0: i32x{lanes} = const {}\n%1: i32x{lanes} = const {lo}\n%2: i32x{lanes} = const {hi}\n",
        rows * lanes,
        lanes,
        zero.unwrap_or(0)
    );
    for row in 0..rows {
        let at = 3 + 4 * row;
        text += &format!("%{at}: i32x{lanes} = load x[{}]\n", row * lanes);
        let value = if zero.is_some() { format!("add %{at}, %0") } else { format!("xor %{at}, %0") };
        text += &format!("%{}: i32x{lanes} = {value}\n", at + 1);
        text += &format!("%{}: i32x{lanes} = max %1, %{}\n", at + 2, at + 1);
        text += &format!("%{}: i32x{lanes} = min %2, %{}\n", at + 3, at + 2);
        text += &format!("store y[{}] = %{}\n", row * (lanes + gap), at + 3);
        if row == 2 {
            let again = 3 + 4 * rows;
            text += &format!("%{again}: i32x{lanes} = load y[0]\nstore z[0] = %{again}\n");
        }
    }
    parse(&(text + "}")).unwrap_or_else(|e| panic!("{e}"))
}

/// Vectors stored as bytes are narrowed four at a time, and stored at once where they are neighbours.
#[test]
fn rows_of_bytes_are_narrowed_together() {
    for target in targets() {
        let lanes = target.lanes();
        for ty in ["u8", "i8"] {
            for zero in [None, Some(-3), Some(128), Some(-128), Some(-16384), Some(40_000)] {
                for rows in 1..=9 {
                    [0, 1, 16].iter().for_each(|&gap| check(&byte_rows(ty, rows, lanes, gap, zero), &target));
                }
            }
            let text = disassembly(&byte_rows(ty, 8, lanes, 0, Some(7)), &target);
            let together = (text.matches("vpermd").count(), text.matches("vpaddsw").count());
            assert_eq!(together, (2, 4), "three rows, four, and one alone: {text}");
            let end = if ty == "u8" { 128 } else { -128 };
            let text = disassembly(&byte_rows(ty, 4, lanes, 1, Some(end)), &target);
            assert!(!text.contains("vpaddsw"), "one bit is another: {text}");
            let taken = text.matches("vextract").count();
            assert!(taken <= lanes / 4, "each quarter is taken once: {text}");
        }
    }
}

/// The same of the lower halves of lanes.
fn half_rows(ty: &str, rows: usize, lanes: usize, gap: usize) -> Kernel {
    let text = byte_rows(ty, rows, lanes, gap, None).to_string();
    let text = text.replace("= xor ", "= sext_low 16, ").replace(", %0\n", "\n");
    parse(&text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// Lower halves of lanes become words by blending; where an instruction permutes bytes, one puts them in order.
#[test]
fn halves_of_lanes_are_narrowed_together() {
    for target in targets() {
        let lanes = target.lanes();
        for ty in ["u8", "i8"] {
            for rows in 1..=9 {
                [0, 1, 16].iter().for_each(|&gap| check(&half_rows(ty, rows, lanes, gap), &target));
            }
            let text = disassembly(&half_rows(ty, 8, lanes, 0), &target);
            // Three rows, four, and one alone.
            let blends = text.matches("vpblendw").count() + text.matches("vpternlogd").count();
            assert_eq!(blends, 4, "{text}");
            let permutes = target.has(Feature::Avx512Vbmi);
            assert_eq!(text.matches("vpermb").count(), if permutes { 2 } else { 0 }, "{text}");
        }
    }
}

/// Clamped bytes of some vectors whose lanes take turns in memory; the last store is `missing` elements off.
fn pixels(ty: &str, channels: usize, lanes: usize, missing: usize) -> Kernel {
    let (lo, hi) = if ty == "u8" { (0, 255) } else { (-128, 127) };
    let mut text = format!(
        "kernel pixels {{ read x: i32[{}] write y: {ty}[{}]\n%0: i32x{lanes} = const {lo}\n%1: i32x{lanes} = const {hi}\n",
        channels * lanes,
        channels * lanes + missing
    );
    for c in 0..channels {
        let [x, above, inside] = [2 + 3 * c, 3 + 3 * c, 4 + 3 * c];
        text += &format!("%{x}: i32x{lanes} = load x[{}]\n%{above}: i32x{lanes} = max %0, %{x}\n", c * lanes);
        let at = if c + 1 == channels { c + missing } else { c };
        text += &format!("%{inside}: i32x{lanes} = min %1, %{above}\n");
        text += &format!("store y[{at}] stride {channels} = %{inside}\n");
    }
    parse(&(text + "}")).unwrap_or_else(|e| panic!("{e}"))
}

/// The bytes of pixels are woven in registers and stored at once.
#[test]
fn channels_of_pixels_are_woven() {
    for target in targets() {
        for (ty, channels) in [("u8", 2), ("i8", 2), ("u8", 3), ("i8", 3), ("u8", 4), ("i8", 4), ("u8", 5)] {
            let all = target.lanes();
            for lanes in [all, all - 2, all - 3, all / 2 + 1, all / 2] {
                [0, 1, 7].iter().for_each(|&off| check(&pixels(ty, channels, lanes, off), &target));
            }
            for lanes in [all, all - 2] {
                let text = disassembly(&pixels(ty, channels, lanes, 0), &target);
                assert_eq!(text.contains("vpextrb"), channels > 4, "{text}");
            }
        }
    }
}

/// Rows that are computed in another order than they lie in are stored at once all the same.
#[test]
fn rows_are_stored_in_the_order_of_memory() {
    for target in targets() {
        let lanes = target.lanes();
        let mut text = format!(
            "kernel rows {{ read x: i32[{0}] write y: i8[{0}]\n%0: i32x{lanes} = const -128\n%1: i32x{lanes} = const 127\n",
            4 * lanes
        );
        for (i, row) in [1, 2, 3, 0].into_iter().enumerate() {
            let ([x, above, inside], at) = ([2 + 3 * i, 3 + 3 * i, 4 + 3 * i], row * lanes);
            text += &format!("%{x}: i32x{lanes} = load x[{at}]\n%{above}: i32x{lanes} = max %0, %{x}\n");
            text += &format!("%{inside}: i32x{lanes} = min %1, %{above}\nstore y[{at}] = %{inside}\n");
        }
        let kernel = parse(&(text + "}")).unwrap_or_else(|e| panic!("{e}"));
        check(&kernel, &target);
        let text = disassembly(&kernel, &target);
        assert!(!text.contains("vextract") && !text.contains("vmovhps"), "{text}");
    }
}

/// Elements of `x`, `rows` apart, side by side in `y`: `count` neighbouring columns of so many lanes.
fn columns(ty: &str, (lanes, rows): (usize, usize), count: usize) -> Kernel {
    let (x, y) = (rows * lanes, lanes * rows);
    let mut text = format!("kernel columns {{ read x: {ty}[{x}] write y: {ty}[{y}] vars i\n");
    text += &format!("for i in 0..{} step {count} {{\n", rows / count * count);
    for column in 0..count {
        text += &format!("%{column}: {ty}x{lanes} = load x[i + {column}] stride {rows}\n");
        text += &format!("store y[{lanes}*i + {}] = %{column}\n", lanes * column);
    }
    parse(&(text + "}\n}")).unwrap_or_else(|e| panic!("{e}"))
}

/// Four neighbouring columns are loaded as rows and turned, others element by element.
#[test]
fn blocks_are_turned_in_registers() {
    for target in targets() {
        for (lanes, count) in [(target.lanes(), 4), (target.lanes(), 9), (target.lanes(), 3), (4, 4), (5, 4)]
        {
            for ty in ["f32", "i32"] {
                let kernel = columns(ty, (lanes, 23), count);
                check(&kernel, &target);
                let text = disassembly(&kernel, &target);
                assert_eq!(
                    text.matches("vshufps").count(),
                    8 * (count / 4),
                    "{lanes} lanes, {count}: {text}"
                );
                // Rows are loaded by the instructions that join them.
                let joined = text.lines().filter(|l| l.contains("vinsertf") && l.contains('['));
                assert!(
                    joined.count() >= count / 4 * 4 * (lanes.div_ceil(4) - 1),
                    "{lanes} lanes, {count}: {text}"
                );
            }
        }
    }
}

/// Rows of a whole vector and a shorter one are narrowed with those of their length; what lies over what waits is
/// stored behind it.
#[test]
fn vectors_of_two_lengths_wait_side_by_side() {
    for target in targets() {
        let (lanes, half) = (target.lanes(), target.lanes() / 2);
        for step in [lanes + half, half] {
            let mut text = format!("kernel ends {{ read x: i32[{0}] write y: i8[{0}]\n", 4 * (lanes + half));
            for (i, n) in [lanes, half].into_iter().enumerate() {
                text += &format!("%{}: i32x{n} = const -128\n%{}: i32x{n} = const 127\n", 2 * i, 2 * i + 1);
            }
            for part in 0..8 {
                let (row, short) = (part / 2, part % 2);
                let (n, at) = (if short == 1 { half } else { lanes }, row * step + short * (step - half));
                let [x, above, inside] = [4 + 3 * part, 5 + 3 * part, 6 + 3 * part];
                text += &format!("%{x}: i32x{n} = load x[{}]\n", row * (lanes + half) + short * lanes);
                text += &format!("%{above}: i32x{n} = max %{}, %{x}\n", 2 * short);
                text += &format!("%{inside}: i32x{n} = min %{}, %{above}\n", 2 * short + 1);
                text += &format!("store y[{at}] = %{inside}\n");
            }
            let kernel = parse(&(text + "}")).unwrap_or_else(|e| panic!("{e}"));
            check(&kernel, &target);
            if step > half {
                let text = disassembly(&kernel, &target);
                assert!(!text.contains("vpmovsdb"), "{text}");
                let packed = if lanes == 16 { "vpacksswb zmm" } else { "vpacksswb ymm" };
                assert_eq!(text.matches(packed).count(), 1, "{text}");
            }
        }
    }
}

/// The four bytes of each lane are loaded at once, in whichever order they are used.
#[test]
fn blocks_of_bytes_are_loaded_as_words() {
    for target in targets() {
        for (lanes, ty) in [target.lanes(), 8, 5].into_iter().flat_map(|lanes| [(lanes, "i8"), (lanes, "u8")])
        {
            let mut text =
                format!("kernel planes {{ read x: {ty}[{}] write y: i32[{}]\n", 23 * lanes, 4 * lanes);
            for column in [1, 2, 3, 0] {
                text += &format!("%{column}: i32x{lanes} = load x[{column}] stride 23\n");
                text += &format!("store y[{}] = %{column}\n", lanes * column);
            }
            let kernel = parse(&(text + "}")).unwrap_or_else(|e| panic!("{e}"));
            check(&kernel, &target);
            let text = disassembly(&kernel, &target);
            assert_eq!((text.matches("vpinsrb").count(), text.matches("vpmov").count()), (0, 0), "{text}");
        }
    }
}

/// Bytes of two rows as the halves of words; those of signed ones are `cut` to 16 bits first.
fn couples_of_rows(ty: &str, lanes: usize, cut: bool) -> Kernel {
    let joined = match cut {
        true => {
            format!("%4: i32x{lanes} = zext_low 16, %1\n%5: i32x{lanes} = or %4, %3\nstore y[0] = %5\n}}")
        }
        false => format!("%4: i32x{lanes} = or %1, %3\nstore y[0] = %4\n}}"),
    };
    let text = format!(
        "kernel couples {{ read x: {ty}[{}] write y: i32[{lanes}]\n%0: i32x{lanes} = const 16\n\
         %1: i32x{lanes} = load x[0]\n%2: i32x{lanes} = load x[{lanes}]\n%3: i32x{lanes} = shl %2, %0\n{joined}",
        2 * lanes
    );
    parse(&text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// Bytes that become couples are woven before they are extended, where nothing but them is in these.
#[test]
fn bytes_of_two_rows_are_woven() {
    for target in targets() {
        for (ty, lanes, cut) in
            [("u8", 8, false), ("u8", 4, true), ("i8", 8, true), ("i8", 8, false), ("i8", 5, true)]
        {
            let kernel = couples_of_rows(ty, lanes, cut);
            check(&kernel, &target);
            let woven = disassembly(&kernel, &target).contains("vpunpcklbw");
            assert_eq!(woven, lanes != 5 && (ty == "u8" || cut), "{ty} {lanes} {cut}");
        }
    }
}

/// Neighbouring couples of two rows, so many bytes apart, with or without a store between them.
fn neighbouring_couples(apart: usize, between: bool) -> Kernel {
    let couple = |first: usize, at: usize| {
        let names: Vec<String> = (first..first + 6).map(|r| format!("%{r}: i32x8")).collect();
        format!(
            "{} = load x[{at}]\n{} = load x[{}]\n{} = zext_low 16, %{first}\n{} = const 16\n{} = shl %{}, %{}\n{} = or %{}, %{}\n",
            names[0],
            names[1],
            32 + at,
            names[2],
            names[3],
            names[4],
            first + 1,
            first + 3,
            names[5],
            first + 2,
            first + 4
        )
    };
    let (first, second) = ("store y[0] = %5\n", "store y[8] = %11\n");
    let (between, behind) =
        if between { (first, second) } else { ("", "store y[0] = %5\nstore y[8] = %11\n") };
    let text = format!(
        "kernel couples {{ read x: i8[64] write y: i32[16]\n{}{between}{}{behind}}}",
        couple(0, 0),
        couple(6, apart)
    );
    parse(&text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// Sixteen bytes of two rows are loaded at once, for both couples that they are woven to.
#[test]
fn neighbouring_couples_share_their_loads() {
    for target in targets() {
        for (apart, between) in [(8, false), (8, true), (4, false), (16, false)] {
            let kernel = neighbouring_couples(apart, between);
            check(&kernel, &target);
            let text = disassembly(&kernel, &target);
            let shared = apart == 8 && !between;
            assert_eq!(text.contains("vpunpckhbw"), shared, "{text}");
            assert_eq!(
                text.matches("vmovq").count() + text.matches("vmovsd").count(),
                if shared { 0 } else { 4 },
                "{text}"
            );
        }
    }
}

/// Bytes of so many rows in the places of words; those of signed ones are `cut` to 8 bits first.
fn words_of_rows(ty: &str, lanes: usize, rows: usize, cut: bool) -> Kernel {
    let mut text = format!(
        "kernel words {{ read x: {ty}[{}] write y: i32[{lanes}]\n%0: i32x{lanes} = load x[0]\n",
        rows * lanes
    );
    let mut next = 1;
    let mut value = |text: &mut String, value: String| {
        *text += &format!("%{next}: i32x{lanes} = {value}\n");
        next += 1;
        next - 1
    };
    let zext = |byte: usize| format!("zext_low 8, %{byte}");
    let mut word = if cut { value(&mut text, zext(0)) } else { 0 };
    for row in 1..rows {
        let mut byte = value(&mut text, format!("load x[{}]", row * lanes));
        if cut && row < 3 {
            byte = value(&mut text, zext(byte));
        }
        let by = value(&mut text, format!("const {}", 8 * row));
        let shifted = value(&mut text, format!("shl %{byte}, %{by}"));
        word = value(&mut text, format!("or %{word}, %{shifted}"));
    }
    text += &format!("store y[0] = %{word}\n}}");
    parse(&text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// Rows of 16 bytes become words by one permutation, where there is one of bytes and nothing but they is in these.
#[test]
fn bytes_of_rows_become_words() {
    for target in targets() {
        for (ty, cut) in [("u8", false), ("i8", true), ("i8", false)] {
            let shapes = [(16, 2), (16, 3), (16, 4), (8, 3), (5, 4)];
            for (lanes, rows) in shapes.into_iter().filter(|s| 4 * s.0 <= target.vector_bytes) {
                let kernel = words_of_rows(ty, lanes, rows, cut);
                check(&kernel, &target);
                let text = disassembly(&kernel, &target);
                let woven = target.has(Feature::Avx512Vbmi) && lanes == 16 && (ty == "u8" || cut);
                assert_eq!(text.contains("vpermb"), woven, "{ty} {lanes} {rows} {cut}: {text}");
                assert_eq!(text.matches("vinsertf").count(), if woven { rows - 1 } else { 0 }, "{text}");
            }
        }
    }
}

/// Words that overlap are spread by one or two instructions.
#[test]
fn words_that_overlap() {
    for target in targets() {
        for lanes in [1, 4, 5, 8, 16].into_iter().filter(|lanes| lanes * 4 <= target.vector_bytes) {
            for stride in 1..4 {
                let bytes = 3 + 4 * lanes;
                let text = format!(
                    "kernel overlap {{ read x: i8[{bytes}] write y: i32[{lanes}]\n\
                     %0: i32x{lanes} = words x[3] stride {stride}\nstore y[0] = %0\n}}"
                );
                let kernel = parse(&text.replace("x1 =", " =")).unwrap_or_else(|e| panic!("{text}: {e}"));
                check(&kernel, &target);
                let text = disassembly(&kernel, &target);
                let whole = matches!(lanes, 4 | 8 | 16);
                let one = target.has(Feature::Avx512Vbmi) && lanes > 4;
                assert_eq!(text.contains("vpermb"), whole && one, "{lanes} {stride}: {text}");
                assert_eq!(text.contains("vpshufb"), whole && !one, "{lanes} {stride}: {text}");
            }
        }
    }
}
