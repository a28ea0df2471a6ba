//! Products of two rows by two channels at a time.

use super::{byte_conv, byte_matmul, byte_windows, check};
use crate::base::DType;
use crate::schedule::choose::choose;
use crate::schedule::linear::{Layout, Linear};

/// An odd number of rows, ends of the sum within eight bytes, windows that reach
/// over the edges.
#[test]
fn squares_agree_with_the_naive_loops() {
    let target = crate::target::resolve("aarch64", "neoverse-n2").expect("the target is known");
    for (m, n, k) in [(4, 16, 24), (11, 36, 16), (7, 22, 41), (9, 48, 100), (49, 64, 96)] {
        let def = byte_matmul(m, n, k);
        let layouts: Vec<Layout> = def.operands.iter().map(|o| Layout::dense(&o.ty.shape)).collect();
        let linear = Linear::new(&def, &layouts, &[false, true], &Layout::dense(&def.output.ty.shape));
        assert_eq!(choose(&linear, &target).dot, 8, "{linear}");
        check(&def, &[false, true], false);
    }
    for types in [(DType::U8, DType::I8), (DType::I8, DType::I8), (DType::U8, DType::U8)] {
        check(&byte_conv((24, 32), (7, 9), 3, types), &[false, true], true);
        check(&byte_conv((34, 16), (6, 5), 3, types), &[false, true], true);
        check(&byte_windows((40, 20), (6, 3), 2, types), &[false, true], true);
    }
}
