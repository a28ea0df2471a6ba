//! Planes: vectors whose lanes lie apart in memory, turned in registers and stored four numbers at a time
//! ([`crate::codegen::planes`]).

use super::Result;
use super::inst::VReg;
use super::select::Select;
use super::words;
use crate::codegen::planes::{FEWEST, Planes};

/// Bytes of a number.
const SIZE: usize = 4;

impl Select<'_> {
    /// Stores four neighbours whose lanes lie apart.
    pub(super) fn store_planes(&mut self, planes: &Planes) -> Result<()> {
        let mem = self.mem(&planes.start)?;
        let rows = planes.regs.iter().map(|&r| self.words(r)).collect::<Result<Vec<_>>>()?;
        let lanes = usize::from(self.ty(planes.regs[0]).lanes);
        for first in (0..lanes).step_by(FEWEST) {
            let rows = [0, 1, 2, 3].map(|row| rows[row][first / FEWEST]);
            let columns = [(); FEWEST].map(|()| self.vector());
            self.exchange(rows, columns);
            for (lane, column) in (first..lanes).zip(columns) {
                let to = mem.offset(lane as i64 * planes.stride * SIZE as i64);
                self.access(words::str(SIZE * FEWEST), column, to, false);
            }
        }
        Ok(())
    }

    /// Sets columns to those of four rows of four numbers.
    pub(super) fn exchange(&mut self, [a, b, c, d]: [VReg; 4], columns: [VReg; 4]) {
        for (high, pair) in [false, true].into_iter().zip(columns.chunks(2)) {
            let half = words::zip(SIZE, high);
            let (even, odd) = (self.new2(half, a, c), self.new2(half, b, d));
            for (last, &column) in [false, true].into_iter().zip(pair) {
                self.op2(words::zip(SIZE, last), column, even, odd);
            }
        }
    }
}
