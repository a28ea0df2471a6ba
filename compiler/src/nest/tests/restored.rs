//! Weights that are kept narrow, as floats made once for all rows.

use super::{dequantized, run};
use crate::base::DType;
use crate::schedule::choose::{choose, choose_small};
use crate::schedule::linear::{Layout, Linear};
use crate::schedule::{Schedule, parse, verify};
use crate::target::resolve;

/// Tiles of several sizes, rows that are no multiple of them, a row alone; with a copy and without.
#[test]
fn restored_weights_agree_with_the_naive_loops() {
    let targets =
        [("x86_64", "x86-64-v4"), ("x86_64", "x86-64-v3"), ("x86_64", "x86-64"), ("aarch64", "cortex-a53")];
    for (triple, cpu) in targets {
        let target = resolve(triple, cpu).expect("the target is known");
        for dtype in [DType::U8, DType::I8, DType::I4] {
            for (m, n, k) in [(64, 80, 12), (37, 21, 3), (130, 16, 5), (1, 64, 8)] {
                let def = dequantized(m, n, k, dtype);
                let layouts: Vec<Layout> = def.operands.iter().map(|o| Layout::dense(&o.ty.shape)).collect();
                let constant = [false, true, true, true];
                let linear = Linear::new(&def, &layouts, &constant, &Layout::dense(&def.output.ty.shape));
                let schedule = choose(&linear, &target);
                let text = schedule.display(&linear);
                // Few rows, or few columns, are as fast where each tile does it.
                assert!(schedule.restored == (m > 1) || m == 37 || n == 16, "{cpu}: {text}");
                verify(&schedule, &linear).unwrap();
                assert_eq!(parse(&text, &linear).unwrap(), schedule);
                let expected = run(&linear, &Schedule::naive(&linear), &[false; 4]);
                assert_eq!(run(&linear, &schedule, &constant), expected, "{cpu}: {text}");
                let small = choose_small(&linear, &target);
                assert!(!small.restored);
                assert_eq!(run(&linear, &small, &constant), expected, "{cpu}: {}", small.display(&linear));
            }
        }
    }
}
