//! Blocks of four by four that are turned in registers ([`crate::codegen::blocks`]).
//!
//! Of bytes, the four of each lane are loaded as one lane, and shifted (planes of floats from a sum of two tensors of
//! bytes, 16 channels by 32 x 32 points, on Golden Cove: 11.2 -> 4.3 us, at AVX2 9.5 -> 5.6).

use super::Result;
use super::inst::{Arg, Mem, VReg};
use super::rows::Op;
use super::select::Select;
use crate::codegen::blocks::Block;

impl Select<'_> {
    /// Translates the loads of a block.
    pub(super) fn turn(&mut self, block: &Block) -> Result<()> {
        /// Of each 128 bits: the lower and the upper halves of both, the even and the odd elements of both.
        const HALVES: [i64; 2] = [0x44, 0xee];
        const ELEMENTS: [i64; 2] = [0x88, 0xdd];
        let &Block { regs, ref start, stride } = block;
        if self.kernel.params[start.param as usize].dtype.size() == 1 {
            return self.spread(block);
        }
        let (mem, width) = (self.mem(start)?, self.width(regs[0]));
        let lanes = i64::from(self.ty(regs[0]).lanes);
        // Where lanes end early, any of them stands for those that are not there.
        let row = |quarter: i64, row: i64| (4 * quarter + row).min(lanes - 1);
        let rows: Vec<VReg> = (0..4)
            .map(|r| {
                let at = |quarter: i64| -> Mem { mem.offset(row(quarter, r) * stride * 4) };
                let first = self.def(Op::Load, 16, &[at(0).into()]);
                // One after the other: each is loaded by the instruction that puts it in its place.
                (1..(lanes + 3) / 4).fold(first, |row, q| {
                    let part = self.def(Op::Load, 16, &[at(q).into()]);
                    self.def(Op::Insert128, width, &[row.into(), part.into(), Arg::Imm(q)])
                })
            })
            .collect();
        for (half, pair) in HALVES.into_iter().zip(regs.chunks(2)) {
            let mut halves =
                |a: VReg, b: VReg| self.def(Op::Shufps, width, &[a.into(), b.into(), Arg::Imm(half)]);
            let (upper, lower) = (halves(rows[0], rows[1]), halves(rows[2], rows[3]));
            for (elements, &r) in ELEMENTS.into_iter().zip(pair) {
                let dst = self.target(r);
                self.op(Op::Shufps, width, &[dst.into(), upper.into(), lower.into(), Arg::Imm(elements)]);
            }
        }
        regs.into_iter().for_each(|r| self.assigned(r));
        Ok(())
    }

    /// Translates the loads of a block of bytes.
    fn spread(&mut self, block: &Block) -> Result<()> {
        let &Block { regs, ref start, stride } = block;
        let (mem, width, lanes) = (self.mem(start)?, self.width(regs[0]), self.ty(regs[0]).lanes as usize);
        let down = match self.kernel.params[start.param as usize].dtype.is_signed_int() {
            true => Op::Psrad,
            false => Op::Psrld,
        };
        let words = self.gather(mem, 4, stride, lanes);
        for (byte, r) in (0..4).zip(regs) {
            let above = 8 * (3 - byte);
            let upper = match above {
                0 => words,
                _ => self.def(Op::Pslld, width, &[words.into(), Arg::Imm(above)]),
            };
            let dst = self.target(r);
            self.op(down, width, &[dst.into(), upper.into(), Arg::Imm(24)]);
            self.assigned(r);
        }
        Ok(())
    }
}
