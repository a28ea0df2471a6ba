//! Vectors whose lanes lie apart in memory, stored several at a time.

use super::{check, disassembly, targets};
use crate::machine::planes;

/// Neighbours wait for each other, as many as a vector has lanes, whatever is between: others, gaps, and what is read
/// again.
#[test]
fn planes_are_stored_together() {
    let lines = |points: usize| (0..points).collect::<Vec<usize>>();
    let orders = [
        lines(4),
        lines(8),
        lines(3),
        lines(16),
        lines(29),
        vec![0, 1, 3, 4, 5, 6],
        vec![0, 8, 1, 9, 2, 10, 3, 11],
        vec![3, 2, 1, 0],
        vec![0, 1, 1, 2, 3, 4],
    ];
    for target in targets() {
        let all = target.lanes();
        for (lanes, from) in
            [all, all - 1, all / 2, 3].into_iter().flat_map(|l| orders.iter().map(move |o| (l, o)))
        {
            for stride in [4, 5, 16, 64, -32] {
                for (shared, read) in [(false, false), (true, false), (false, true)] {
                    check(&planes(lanes, stride, from, shared, read), &target);
                }
            }
        }
        let text = disassembly(&planes(all, 64, &orders[0], false, false), &target);
        assert_eq!(text.matches("vshufps").count(), 8, "four by four are turned at once: {text}");
        let text = disassembly(&planes(all, 64, &lines(all), false, false), &target);
        let quarters = if all == 16 { 32 } else { 0 };
        assert_eq!(text.matches("vshuff32x4").count(), quarters, "all lanes become vectors: {text}");
        assert!(
            !text.contains("vextractps") && !text.contains("vpextrd"),
            "no lane is stored by itself: {text}"
        );
    }
}
