//! Whether two parameters of a kernel take turns in memory.
//!
//! Parts of one tensor lie between each other where channels are innermost: of each pixel a kernel reads some bytes
//! and writes others. Nothing of one part is reached through the other, wherever the kernel's loops stand, although
//! the ranges from the first byte to the last one overlap.

use super::Kernel;
use super::reach::Walk;
use crate::base::Affine;

/// What one access reaches: bytes from the buffer's beginning, and by how much loops move it on how far in all.
struct Reached {
    start: i64,
    length: i64,
    moves: Vec<(i64, i64)>,
}

impl Reached {
    /// Where it begins, and how far it extends, in a memory that repeats after `period` bytes.
    fn within(&self, period: i64) -> (i64, i64) {
        let others = self.moves.iter().filter(|m| m.0 % period != 0);
        others.fold((self.start, self.length), |(start, length), m| (start + m.1.min(0), length + m.1.abs()))
    }
}

/// Whether they take turns: two parameters, each with the place it begins at.
pub fn interleaved(kernel: &Kernel, one: (usize, usize), other: (usize, usize)) -> bool {
    let (mut fixed, mut reached) = (true, [Vec::new(), Vec::new()]);
    Walk::new(kernel).each(&kernel.body, &mut |walk, addr, along, span| {
        let Some(side) = [one, other].iter().position(|p| p.0 == addr.param as usize) else { return };
        fixed &= addr.dynamic.is_none();
        let size = kernel.params[addr.param as usize].dtype.size() as i64;
        let (mut start, mut moves) = (addr.index.base + along.min(0), Vec::new());
        for &(var, step) in &addr.index.terms {
            let (lo, hi) = walk.range(&Affine::var(var));
            start += step * lo;
            moves.push((size * step, size * step * (hi - lo)));
        }
        let start = [one, other][side].1 as i64 + size * start;
        reached[side].push(Reached { start, length: size * (along.abs() + span), moves });
    });
    let mut periods: Vec<i64> =
        reached.iter().flatten().flat_map(|r| r.moves.iter().map(|m| m.0.abs())).collect();
    periods.sort_unstable();
    periods.dedup();
    fixed && periods.iter().any(|&period| period > 1 && take_turns(&reached, period))
}

/// Whether all of the one lies beside all of the other in each period.
fn take_turns([one, other]: &[Vec<Reached>; 2], period: i64) -> bool {
    let beside = |a: &Reached, b: &Reached| {
        let ((a, length), (b, other)) = (a.within(period), b.within(period));
        let between = (b - a).rem_euclid(period);
        length <= between && between + other <= period
    };
    one.iter().all(|a| other.iter().all(|b| beside(a, b)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tile::parse;

    fn kernel(read: &str) -> Kernel {
        let text = "kernel k {
  read in: u8[600]
  write out: u8[600]
  vars y, x, r
  for y in 0..4 {
    for x in 0..8 {
      for r in 0..16 step 4 {
        %0: i32x4 = load in[READ]
      }
      store out[113*x + 1130*y] stride 10 = %0
    }
  }
}";
        parse(&text.replace("READ", read)).unwrap()
    }

    #[test]
    fn channels_of_one_tensor_take_turns() {
        // Of each 113 bytes 16 are read, and four of 31 written.
        let apart = |read: &str, distance: usize| interleaved(&kernel(read), (0, 1000 + distance), (1, 1000));
        let distances = [30, 31, 97, 98, 144, 210];
        let expected = [false, true, true, false, true, true];
        assert_eq!(distances.map(|d| apart("113*x + 1130*y + r", d)), expected);
        assert_eq!(distances.map(|d| apart("226*x + 1130*y + r", d)), expected);
        assert!(!apart("113*x + 1131*y + r", 40), "rows are no multiple of pixels");
    }
}
