//! Blocks of four by four that are turned in registers ([`crate::codegen::blocks`]).

use super::Result;
use super::inst::{Arg, Mem, VReg};
use super::rows::Op;
use super::select::Select;
use crate::tile::{Addr, Reg};

impl Select<'_> {
    /// Translates the loads of a block.
    pub(super) fn turn(&mut self, regs: [Reg; 4], addr: &Addr, stride: i64) -> Result<()> {
        /// Of each 128 bits: the lower and the upper halves of both, the even and the odd elements of both.
        const HALVES: [i64; 2] = [0x44, 0xee];
        const ELEMENTS: [i64; 2] = [0x88, 0xdd];
        let (mem, width) = (self.mem(addr)?, self.width(regs[0]));
        let quarters = self.kernel.regs[regs[0] as usize].lanes as i64 / 4;
        let rows: Vec<VReg> = (0..4)
            .map(|row| {
                let at = |quarter: i64| -> Mem { mem.offset((4 * quarter + row) * stride * 4) };
                let first = self.def(Op::Load, 16, &[at(0).into()]);
                // One after the other: each is loaded by the instruction that puts it in its place.
                (1..quarters).fold(first, |row, q| {
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
}
