//! Panels that several tiles of rows read: the next one is asked for meanwhile.

use super::{check, disassembly, targets};
use lmc::tile::{Kernel, parse};

/// `c[m, n] = sum(k) a[k, m] * b[n, k]`, of so many panels, tiles of one row, and points; one vector a tile.
fn panels(panels: usize, rows: usize, depth: usize, lanes: usize) -> Kernel {
    let text = format!(
        "kernel panels fused {{ read a: f32[{}] read b: f32[{}] write c: f32[{}] vars n, m, k\n\
         for n in 0..{panels} {{\nfor m in 0..{rows} {{\n%0: f32x{lanes} = const 0.0\n\
         for k in 0..{depth} {{\n%1: f32x{lanes} = load b[{}*n + {lanes}*k]\n\
         %2: f32x{lanes} = load a[{rows}*k + m] stride 0\n%0: f32x{lanes} = mla %0, %1, %2\n}}\n\
         store c[{}*m + {lanes}*n] = %0\n}}\n}}\n}}",
        rows * depth,
        panels * depth * lanes,
        panels * rows * lanes,
        depth * lanes,
        panels * lanes,
    );
    parse(&text).unwrap_or_else(|e| panic!("{e}"))
}

/// A prefetch in the loop over a large panel that is read again, from a panel further on; none where the panel is
/// read once, too often for its size, or all panels are small. What lies behind the last panel cannot be read.
#[test]
fn the_next_panel_is_asked_for() {
    for target in targets() {
        let lanes = target.lanes();
        let (many, depth) = (32768 / lanes / 64, 64);
        let large = 2 * many;
        let cases = [(many, 3, 1), (many, 64, 1), (many, 1, 0), (many, 65, 0), (4, 3, 0)];
        for (panels_, rows, expected) in cases.into_iter().chain([(large, 65, 1), (large, 193, 0)]) {
            let kernel = panels(panels_, rows, depth, lanes);
            check(&kernel, &target);
            let text = disassembly(&kernel, &target);
            assert_eq!(text.matches("prefetcht1").count(), expected, "{rows} rows: {text}");
            let place = format!("+{:X}h]", 4 * depth * lanes).to_lowercase();
            assert_eq!(text.to_lowercase().contains(&place), expected == 1, "{place} {text}");
        }
    }
}

/// `c[n] = sum(k) a[k] * b[n, k]` of bytes in so many panels of 16 lanes, each of them read once.
fn bytes(panels: usize, depth: usize, dtype: &str) -> Kernel {
    let text = format!(
        "kernel bytes fused {{ read a: f32[{depth}] read b: {dtype}[{}] write c: f32[{}] vars n, k\n\
         for n in 0..{panels} {{\n%0: f32x8 = const 0.0\n%1: f32x8 = const 0.0\n\
         for k in 0..{depth} step 4 {{\n{}}}\nstore c[16*n] = %0\nstore c[16*n + 8] = %1\n}}\n}}",
        16 * depth * panels,
        16 * panels,
        (0..4).map(|k| tap(depth, k)).collect::<String>()
    );
    parse(&text).unwrap_or_else(|e| panic!("{e}"))
}

/// The products of one `k` of four: two vectors of eight bytes.
fn tap(depth: usize, k: usize) -> String {
    let [x, b, wide] = [2, 3, 4].map(|i| 3 * k + i);
    let half = |sum: usize, at: usize| {
        format!(
            "%{b}: i32x8 = load b[{}*n + 16*k + {at}]\n%{wide}: f32x8 = int_to_float %{b}\n\
             %{sum}: f32x8 = mla %{sum}, %{x}, %{wide}\n",
            16 * depth
        )
    };
    format!("%{x}: f32x8 = load a[k + {k}] stride 0\n{}{}", half(0, 16 * k), half(1, 16 * k + 8))
}

/// `c[n] = sum(k) a[k] * b[n, k]` of couples of bytes in so many panels of 8 lanes, each of them read once.
fn couples(panels: usize, depth: usize) -> Kernel {
    let text = format!(
        "kernel couples fused {{ read a: i16[{depth}] read b: i8[{}] write c: i32[{}] vars n, k\n\
         for n in 0..{panels} {{\n%0: i32x8 = const 0\nfor k in 0..{depth} step 8 {{\n{}}}\nstore c[8*n] = %0\n}}\n}}",
        8 * depth * panels,
        8 * panels,
        (0..8).step_by(2).map(|k| couple(depth, k)).collect::<String>()
    );
    parse(&text).unwrap_or_else(|e| panic!("{e}"))
}

/// The products of the couple at `k`.
fn couple(depth: usize, k: usize) -> String {
    let [x, b] = [1, 2].map(|i| k + i);
    format!(
        "%{x}: i32x8 = words a[k + {k}] stride 0\n%{b}: i32x8 = couples b[{}*n + 8*k + {}]\n\
         %0: i32x8 = dot_couples %0, %{x}, %{b}\n",
        8 * depth,
        8 * k
    )
}

/// One request for each line of narrow weights that are read once, from beyond what the core sees of the instructions
/// ahead; none where there are few.
#[test]
fn narrow_weights_are_asked_for_line_by_line() {
    for target in targets().iter().filter(|t| t.lanes() >= 8) {
        for (panels, expected) in [(256, 1), (16, 0)] {
            let kernel = couples(panels, 64);
            check(&kernel, target);
            let text = disassembly(&kernel, target);
            assert_eq!(text.matches("prefetcht1").count(), expected, "{panels} panels of couples: {text}");
            let kernel = bytes(panels, 64, "i8");
            check(&kernel, target);
            let text = disassembly(&kernel, target);
            assert_eq!(text.matches("prefetcht1").count(), expected, "{panels} panels: {text}");
        }
    }
}
