//! Which kernels that differ in numbers alone are one function.

use super::{check, targets};
use lmc::codegen::wide::{encode, share};
use lmc::tile::{Kernel, parse};

/// Points of the sums, and those of an iteration.
const DEPTH: usize = 60;
const POINTS: usize = 3;

/// `c[m] = sum(k) a[row * m + point * k] * b[k]` for four rows and two vectors.
fn product(row: usize, point: usize, lanes: usize) -> Kernel {
    let mut text = format!(
        "kernel product fused {{ read a: f32[{}] read b: f32[{}] write c: f32[{}] vars k\n",
        4 * row + point * DEPTH,
        2 * lanes * DEPTH,
        8 * lanes
    );
    (0..8).for_each(|sum| text += &format!("%{sum}: f32x{lanes} = const 0.0\n"));
    text += &format!("for k in 0..{DEPTH} step {POINTS} {{\n");
    for next in 0..POINTS {
        for v in 0..2 {
            let at = lanes * (2 * next + v);
            text += &format!("%{}: f32x{lanes} = load b[{}*k + {at}]\n", 8 + v, 2 * lanes);
        }
        for m in 0..4 {
            let at = row * m + point * next;
            text += &format!("%10: f32x{lanes} = load a[{point}*k + {at}] stride 0\n");
            (0..2).for_each(|v| {
                let sum = 2 * m + v;
                text += &format!("%{sum}: f32x{lanes} = mla %{sum}, %{}, %10\n", 8 + v);
            });
        }
    }
    text += "}\n";
    (0..8).for_each(|sum| text += &format!("store c[{}] = %{sum}\n", sum * lanes));
    parse(&(text + "}")).unwrap_or_else(|e| panic!("{e}"))
}

/// Rows at other distances are read by one function; where points are at other distances, too, it would move
/// pointers as often as it multiplies, so the kernel that differs has its own at 256 bits.
#[test]
fn a_shared_function_moves_few_pointers() {
    for target in targets() {
        let shares = [(64, 1), (96, 1), (1, 4), (160, 1)];
        let kernels = shares.map(|(row, point)| product(row, point, target.lanes()));
        kernels.iter().for_each(|kernel| check(kernel, &target));
        let own = kernels.each_ref().map(|kernel| encode(kernel, &target).expect("taken"));
        let shared = share(&kernels, &own, &target);
        let members: Vec<Vec<usize>> =
            shared.iter().map(|s| s.members.iter().map(|(kernel, _)| *kernel).collect()).collect();
        let together: &[usize] = if target.lanes() == 8 { &[0, 1, 3] } else { &[0, 1, 2, 3] };
        assert_eq!(members, [together], "{}", target.cpu);
    }
}
