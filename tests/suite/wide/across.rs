//! Vectors whose lanes lie apart in memory, stored several at a time.

use super::{check, disassembly, targets};
use lmc::tile::{Kernel, parse};

/// Points of so many channels, stored as planes `stride` elements apart; `from` is the plane's element of each. One
/// register holds all points in turn where it is `shared`; what was stored third is `read` again.
fn planes(lanes: usize, stride: i64, from: &[usize], shared: bool, read: bool) -> Kernel {
    let points = from.len();
    let last = from.iter().max().map_or(0, |&most| most as i64);
    let elems = last + 1 + stride.abs() * (lanes as i64 - 1);
    let first = if stride < 0 { -stride * (lanes as i64 - 1) } else { 0 };
    let mut text = format!(
        "kernel planes {{ read x: f32[{}] readwrite y: f32[{elems}] write z: f32[{lanes}]\n%0: f32x{lanes} = const 0.5\n",
        points * lanes
    );
    for (i, &at) in from.iter().enumerate() {
        let [x, sum] = match shared {
            true => [if i == 0 { 1 } else { 2 + i }, 2],
            false => [1 + 2 * i, 2 + 2 * i],
        };
        text += &format!("%{x}: f32x{lanes} = load x[{}]\n", i * lanes);
        text += &format!("%{sum}: f32x{lanes} = add %0, %{x}\n");
        text += &format!("store y[{}] stride {stride} = %{sum}\n", first + at as i64);
        if read && i == 2 {
            let again = 1 + 2 * points;
            text +=
                &format!("%{again}: f32x{lanes} = load y[{first}] stride {stride}\nstore z[0] = %{again}\n");
        }
    }
    text += "}";
    parse(&text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// Neighbours wait for each other, four of them, whatever is between: others, gaps, and what is read again.
#[test]
fn planes_are_stored_four_points_at_a_time() {
    let orders: [&[usize]; 7] = [
        &[0, 1, 2, 3],
        &[0, 1, 2, 3, 4, 5, 6, 7],
        &[0, 1, 2],
        &[0, 1, 3, 4, 5, 6],
        &[0, 8, 1, 9, 2, 10, 3, 11],
        &[3, 2, 1, 0],
        &[0, 1, 1, 2, 3, 4],
    ];
    for target in targets() {
        let all = target.lanes();
        for (lanes, from) in [all, all - 1, all / 2, 3].into_iter().flat_map(|l| orders.map(|o| (l, o))) {
            for stride in [4, 5, 16, 64, -16] {
                for (shared, read) in [(false, false), (true, false), (false, true)] {
                    check(&planes(lanes, stride, from, shared, read), &target);
                }
            }
        }
        let text = disassembly(&planes(all, 64, orders[0], false, false), &target);
        assert_eq!(text.matches("vshufps").count(), 8, "four by four are turned at once: {text}");
        assert!(
            !text.contains("vextractps") && !text.contains("vpextrd"),
            "no lane is stored by itself: {text}"
        );
    }
}
