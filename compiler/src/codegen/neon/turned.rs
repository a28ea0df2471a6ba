//! Blocks of four by four that are turned in registers ([`crate::codegen::blocks`]).

use super::Result;
use super::inst::VReg;
use super::select::Select;
use super::words;
use crate::codegen::blocks::Block;

impl Select<'_> {
    /// Translates the loads of a block.
    pub(super) fn turn(&mut self, block: &Block) -> Result<()> {
        const LANE: usize = 4;
        let &Block { regs, ref start, stride } = block;
        let mem = self.mem(start)?;
        let columns = regs.map(|r| self.target(r));
        for quarter in 0..columns[0].len() {
            let rows: [VReg; 4] = std::array::from_fn(|row| {
                let to = self.vector();
                let lane = (4 * quarter + row) as i64;
                self.access(words::ldr(LANE * 4), to, mem.offset(lane * stride * LANE as i64), true);
                to
            });
            self.exchange(rows, [0, 1, 2, 3].map(|column| columns[column][quarter]));
        }
        regs.into_iter().for_each(|r| self.assigned(r));
        Ok(())
    }
}
