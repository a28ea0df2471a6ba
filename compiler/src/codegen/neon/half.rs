//! Sums of products of half floats, eight in a vector, for processors that multiply them.

use super::Result;
use super::select::Select;
use super::words;
use crate::tile::Reg;

impl Select<'_> {
    /// `acc + a * b`. A lane for all others is one of the first sixteen registers.
    pub(super) fn multiply_halves(&mut self, r: Reg, acc: Reg, a: Reg, b: Reg) -> Result<()> {
        if !self.isa.half || !self.kernel.fused {
            return Err("products of half floats".into());
        }
        let by_lane = [(a, b), (b, a)].into_iter().find_map(|(x, y)| Some((x, self.lane(y)?)));
        match by_lane {
            Some((x, (v, lane))) => {
                let xs = self.words(x)?;
                let to = self.accumulator(r, acc, &[a, b])?;
                to.iter().zip(xs).for_each(|(&to, x)| self.op3(words::fmla_half_lane(lane), to, x, v));
                self.accumulated(r, &to);
            }
            None => {
                let (xs, ys) = (self.words(a)?, self.words(b)?);
                let to = self.accumulator(r, acc, &[a, b])?;
                for ((&to, x), y) in to.iter().zip(xs).zip(ys) {
                    self.op3(words::of_pairs_of_half_floats(words::FMLA), to, x, y);
                }
                self.accumulated(r, &to);
            }
        }
        Ok(())
    }
}
