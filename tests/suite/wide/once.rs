//! What a loop computes alike each time.

use super::{check, disassembly, targets};
use lmc::tile::{Kernel, parse};

/// Bytes less a zero point, times a factor, both from memory; `held`: so many vectors more are alive meanwhile.
fn scaled(lanes: usize, factor: &str, held: usize) -> Kernel {
    let mut text = format!(
        "kernel scaled {{ read x: i8[{0}] read z: i8[1] {factor} s: f32[1] read h: f32[{1}] write y: f32[{0}] \
         write g: f32[{1}] vars i\n",
        8 * lanes,
        (held * lanes).max(1)
    );
    (0..held).for_each(|h| text += &format!("%{}: f32x{lanes} = load h[{}]\n", 7 + h, h * lanes));
    text += &format!(
        "for i in 0..{} step {lanes} {{
  %0: i32x{lanes} = load x[i]
  %1: i32x{lanes} = load z[0] stride 0
  %2: i32x{lanes} = sub %0, %1
  %3: f32x{lanes} = int_to_float %2
  %4: f32x{lanes} = load s[0] stride 0
  %5: f32x{lanes} = mul %3, %4
  %6: f32x{lanes} = add %5, %4
",
        8 * lanes
    );
    (0..held).for_each(|h| text += &format!("%6: f32x{lanes} = add %6, %{}\n", 7 + h));
    (0..held).for_each(|h| text += &format!("%{0}: f32x{lanes} = mul %{0}, %6\n", 7 + h));
    text += "store y[i] = %6\n}\n";
    (0..held).for_each(|h| text += &format!("store g[{}] = %{}\n", h * lanes, 7 + h));
    parse(&(text + "}")).unwrap_or_else(|e| panic!("{e}"))
}

/// The instructions of the loop.
fn body(text: &str) -> String {
    let end = text.lines().position(|line| line.contains("jne")).expect("a loop");
    let top =
        text.lines().nth(end).and_then(|line| line.split("jne").nth(1)).expect("where it begins").trim();
    let top =
        top.trim_start_matches("short").trim().trim_start_matches('0').trim_end_matches('h').to_lowercase();
    let lines = text.lines().skip_while(|line| line.split_whitespace().next() != Some(&top));
    lines.take_while(|line| !line.contains("jne")).map(|line| format!("{line}\n")).collect()
}

/// Zero points and factors that the kernel only reads are loaded, spread and widened ahead of the loop; a factor in
/// memory that it may write is loaded each time.
#[test]
fn what_is_alike_each_time_is_computed_once() {
    for target in targets() {
        for (factor, spread) in [("read", 0), ("readwrite", 1)] {
            let kernel = scaled(target.lanes(), factor, 0);
            check(&kernel, &target);
            let text = disassembly(&kernel, &target);
            let body = body(&text);
            assert_eq!(body.matches("vpbroadcastb").count(), 0, "{text}");
            assert_eq!(body.matches("vpmovsxbd").count(), 1, "{text}");
            // With AVX-512 the product spreads it.
            if target.lanes() == 8 {
                assert_eq!(body.matches("vpbroadcastd").count(), spread, "{text}");
            }
        }
    }
}

/// Nothing goes to the stack for it.
#[test]
fn what_no_register_holds_stays() {
    for target in targets() {
        let registers = if target.lanes() == 16 { 32 } else { 16 };
        for held in registers - 6..registers - 1 {
            let kernel = scaled(target.lanes(), "read", held);
            check(&kernel, &target);
            let text = disassembly(&kernel, &target);
            assert!(!text.contains("rsp"), "{held} vectors: {text}");
        }
    }
}
