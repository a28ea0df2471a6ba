//! Vectors whose lanes lie apart in memory, stored four at a time.

use super::{case, check_supported, targets, text};
use crate::machine::{count, planes};

/// Neighbours wait for each other, four of them, whatever is between: others, gaps, and what is read again.
#[test]
fn planes_are_stored_four_points_at_a_time() {
    let orders: [&[usize]; 7] = [
        &[0, 1, 2, 3],
        &[0, 1, 2, 3, 4, 5, 6, 7, 8],
        &[0, 1, 2],
        &[0, 1, 3, 4, 5, 6],
        &[0, 8, 1, 9, 2, 10, 3, 11],
        &[3, 2, 1, 0],
        &[0, 1, 1, 2, 3, 4],
    ];
    for target in targets() {
        let mut cases = Vec::new();
        for (lanes, from) in [4, 8, 7, 3, 16].into_iter().flat_map(|l| orders.map(|o| (l, o))) {
            for stride in [4, 5, 16, 3000, -16] {
                for (shared, read) in [(false, false), (true, false), (false, true)] {
                    cases.push(case(planes(lanes, stride, from, shared, read), 1));
                }
            }
        }
        assert_eq!(check_supported("neon_planes", &cases, &target), cases.len());
        let text = text("neon_planes_text", &planes(8, 64, orders[0], false, false), &target);
        assert_eq!(
            (count(&text, "zip1"), count(&text, "zip2")),
            (8, 8),
            "four by four are turned at once: {text}"
        );
        assert_eq!(count(&text, "st1"), 0, "no lane is stored by itself: {text}");
    }
}
