//! Vectors whose lanes lie apart in memory, stored four at a time.
//!
//! A network's last layer makes channels of points side by side, and stores them as planes:
//! ```text
//! store y[i] stride 1024 = %0          lanes of 4 x 4 numbers of these turned at once (eight shuffles),
//! store y[i + 1] stride 1024 = %1      each then four neighbours in memory
//! store y[i + 2] stride 1024 = %2
//! store y[i + 3] stride 1024 = %3
//! ```
//! One by one each lane is a store of its own. A vector waits for its neighbours until the run of statements ends, or
//! something else reaches its buffer.

use super::Result;
use super::inst::{Arg, Mem, VReg};
use super::rows::Op;
use super::select::Select;
use super::state::Across;
use crate::tile::{Addr, Lane, Reg};

/// Vectors that are stored together.
const TOGETHER: usize = 4;
/// Bytes of a number.
const SIZE: i64 = 4;
/// Of each 128 bits: the lower and the upper halves of two vectors, the even and the odd elements of both.
const HALVES: [i64; 2] = [0x44, 0xee];
const ELEMENTS: [i64; 2] = [0x88, 0xdd];

impl Across {
    /// The place of the next one beside those that are there.
    fn next(&self) -> Mem {
        self.mem.offset(self.vectors.len() as i64 * SIZE)
    }

    /// Whether those of a vector that begins elsewhere are all others.
    fn is_apart(&self, mem: Mem) -> bool {
        let (own, from) = (self.mem.disp, mem.disp);
        let lanes = self.lanes as i64;
        let near = |lane: i64| (from - own - lane * self.stride * SIZE).abs() < TOGETHER as i64 * SIZE;
        Mem { disp: own, ..mem } == self.mem && !(1 - lanes..lanes).any(near)
    }
}

impl Select<'_> {
    /// Lets a store of numbers of 32 bits wait for its neighbours, where its lanes lie apart.
    pub(super) fn wait_across(&mut self, addr: &Addr, stride: i64, src: Reg) -> Result<bool> {
        let dtype = self.kernel.params[addr.param as usize].dtype;
        let (ty, width) = (self.ty(src), self.width(src));
        let words = matches!(ty.lane, Lane::F32 | Lane::I32) && dtype.size() as i64 == SIZE;
        if !words || ty.lanes < 2 || stride.abs() < TOGETHER as i64 || addr.dynamic.is_some() {
            return Ok(false);
        }
        if self.waiting.iter().any(|w| w.param == addr.param) {
            self.store_waiting();
        }
        let mem = self.mem(addr)?;
        let (param, lanes) = (addr.param, usize::from(ty.lanes));
        let like = |a: &Across| (a.param, a.lanes, a.width, a.stride) == (param, lanes, width, stride);
        let found = self.across.iter().position(|a| like(a) && a.next() == mem);
        if found.is_none() && !self.across.iter().all(|a| like(a) && a.is_apart(mem)) {
            self.store_across();
        }
        let source = self.source(src);
        // What is assigned again has to be kept as it is.
        let vector = match self.single(src) {
            Some(_) => source,
            None => self.def(Op::Movaps, width, &[source.into()]),
        };
        let at = found.unwrap_or_else(|| {
            self.across.push(Across { mem, param, lanes, width, stride, vectors: Vec::new() });
            self.across.len() - 1
        });
        self.across[at].vectors.push(vector);
        if self.across[at].vectors.len() == TOGETHER {
            let whole = self.across.remove(at);
            self.store_block(&whole);
        }
        Ok(true)
    }

    /// Stores what waits for its neighbours.
    pub(super) fn store_across(&mut self) {
        for part in std::mem::take(&mut self.across) {
            for (i, &vector) in part.vectors.iter().enumerate() {
                let mem = part.mem.offset(i as i64 * SIZE);
                self.scatter(vector, mem, SIZE as usize, part.stride * SIZE, part.lanes);
            }
        }
    }

    /// Stores what waits for its neighbours in a buffer.
    pub(super) fn store_across_for(&mut self, param: u32) {
        if self.across.iter().any(|a| a.param == param) {
            self.store_across();
        }
    }

    /// Stores four neighbours: their lanes are turned, four at a time.
    fn store_block(&mut self, block: &Across) {
        let mut turned: Vec<VReg> = Vec::new();
        let [a, b, c, d] = block.vectors[..] else { return };
        for half in HALVES {
            let [upper, lower] = [[a, b], [c, d]].map(|[one, other]| {
                self.def(Op::Shufps, block.width, &[one.into(), other.into(), Arg::Imm(half)])
            });
            turned.extend(ELEMENTS.map(|elements| {
                self.def(Op::Shufps, block.width, &[upper.into(), lower.into(), Arg::Imm(elements)])
            }));
        }
        for lane in 0..block.lanes {
            let to = block.mem.offset(lane as i64 * block.stride * SIZE);
            let (quarter, from) = (lane / TOGETHER, turned[lane % TOGETHER]);
            match quarter {
                0 => self.op(Op::Store, 16, &[to.into(), from.into()]),
                _ => {
                    let quarter = Arg::Imm(quarter as i64);
                    self.op(Op::StoreQuarter, block.width, &[to.into(), from.into(), quarter]);
                }
            }
        }
    }
}
