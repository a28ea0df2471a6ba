//! Planes: vectors whose lanes lie apart in memory, turned in registers and stored together
//! ([`crate::codegen::planes`]).
//!
//! Lanes of four vectors are turned by eight shuffles, four at a time. Sixteen of 512 bits take eight more for each four
//! of their lanes, and are then a line of the caches each (on Golden Cove a store for each of four parts of it
//! takes twice as long; stored by fours, where planes share a set of the first-level cache, nine times).

use super::Result;
use super::inst::{Arg, Mem, VReg};
use super::rows::Op;
use super::select::Select;
use crate::codegen::planes::{FEWEST, Planes};

/// Bytes of a number.
const SIZE: i64 = 4;
/// Of each 128 bits: the lower and the upper halves of two vectors, the even and the odd elements of both. Of 512: the
/// same of quarters.
const HALVES: [i64; 2] = [0x44, 0xee];
const ELEMENTS: [i64; 2] = [0x88, 0xdd];
/// Vectors of 512 bits.
const WHOLE: usize = 16;

impl Select<'_> {
    /// Stores neighbours whose lanes lie apart.
    pub(super) fn store_planes(&mut self, planes: &Planes) -> Result<()> {
        let Planes { regs, start, stride } = planes;
        let (mem, width) = (self.mem(start)?, self.width(regs[0]));
        let lanes = usize::from(self.ty(regs[0]).lanes);
        let turned: Vec<[VReg; 4]> = regs
            .chunks_exact(FEWEST)
            .map(|four| {
                let four = [0, 1, 2, 3].map(|i| self.source(four[i]));
                self.exchanged(Op::Shufps, width, four)
            })
            .collect();
        let to = |lane: usize| -> Mem { mem.offset(lane as i64 * stride * SIZE) };
        if width == WHOLE * SIZE as usize && regs.len() == WHOLE {
            for place in 0..FEWEST {
                let four = [0, 1, 2, 3].map(|i| turned[i][place]);
                let whole = self.exchanged(Op::Shuff128, width, four);
                for (quarter, vector) in whole.into_iter().enumerate() {
                    let lane = FEWEST * quarter + place;
                    if lane < lanes {
                        self.op(Op::Store, width, &[to(lane).into(), vector.into()]);
                    }
                }
            }
            return Ok(());
        }
        for lane in 0..lanes {
            for (i, four) in turned.iter().enumerate() {
                let to = to(lane).offset(i as i64 * FEWEST as i64 * SIZE);
                let from = four[lane % FEWEST];
                match lane / FEWEST {
                    0 => self.op(Op::Store, 16, &[to.into(), from.into()]),
                    quarter => {
                        self.op(Op::StoreQuarter, width, &[to.into(), from.into(), Arg::Imm(quarter as i64)]);
                    }
                }
            }
        }
        Ok(())
    }

    /// Four vectors of four parts, the first parts of all in the first.
    fn exchanged(&mut self, shuffle: Op, width: usize, [a, b, c, d]: [VReg; 4]) -> [VReg; 4] {
        let mut of = |one: VReg, other: VReg, parts: i64| {
            self.def(shuffle, width, &[one.into(), other.into(), Arg::Imm(parts)])
        };
        let [lower, upper] = HALVES.map(|half| [of(a, b, half), of(c, d, half)]);
        let [first, second] = ELEMENTS.map(|parts| of(lower[0], lower[1], parts));
        let [third, fourth] = ELEMENTS.map(|parts| of(upper[0], upper[1], parts));
        [first, second, third, fourth]
    }
}
