//! Vectors narrowed to bytes together: the rows of a tile, whose stores wait for each other.
//!
//! Alone, a vector of 32-bit lanes takes two to four instructions to become bytes and one to be stored.
//! Four take two instructions to words, one to bytes and one that puts each one's bytes side by side; a
//! zero point is added to the words. Every step saturates, so that values outside 16 bits end at the
//! limit that they lie beyond.
//!
//! A store waits until the run of statements ends, or something else reaches its buffer.

use super::Result;
use super::inst::{Arg, Mem, VReg};
use super::rows::Op;
use super::select::Select;
use crate::tile::{Addr, Bin, Reg, Value};

/// Vectors narrowed together, at most.
const MOST: usize = 4;
/// Zero points of this magnitude leave words that saturate beyond the range of every byte.
const MOST_ZERO: i64 = 1 << 14;

/// A vector of 32-bit lanes on its way to bytes.
#[derive(Clone, Copy)]
pub struct Waiting {
    /// What is stored, clamped.
    src: Reg,
    /// The same before the clamp and the zero point.
    value: Reg,
    zero: i64,
    signed: bool,
    mem: Mem,
    param: u32,
    width: usize,
}

impl Waiting {
    fn goes_with(&self, other: &Waiting) -> bool {
        let kind = |w: &Waiting| (w.param, w.width, w.signed, w.zero);
        kind(self) == kind(other)
    }

    /// Bytes it is stored as.
    fn bytes(&self) -> usize {
        self.width / 4
    }
}

impl Select<'_> {
    /// Lets a store wait for others, where it can be joined with them.
    pub(super) fn wait(&mut self, addr: &Addr, stride: i64, src: Reg) -> Result<bool> {
        let dtype = self.kernel.params[addr.param as usize].dtype;
        let width = self.width(src);
        let whole = 4 * self.ty(src).lanes as usize == width && width > 16;
        if stride != 1 || dtype.size() != 1 || addr.dynamic.is_some() || !whole {
            return Ok(false);
        }
        let Some(clamped) = self.clamped(src, dtype) else { return Ok(false) };
        let (value, zero) = self.without_zero(clamped.value);
        let mem = self.mem(addr)?;
        let new = Waiting { src, value, zero, signed: clamped.signed, mem, param: addr.param, width };
        if self.waiting.first().is_some_and(|first| !first.goes_with(&new)) {
            self.store_waiting();
        }
        self.waiting.push(new);
        if self.waiting.len() == MOST {
            self.store_waiting();
        }
        Ok(true)
    }

    /// A sum taken apart into a register of this run and a zero point.
    fn without_zero(&self, sum: Reg) -> (Reg, i64) {
        if let Some(Value::Bin(Bin::Add, a, b)) = self.single(sum) {
            for (value, zero) in [(*a, *b), (*b, *a)] {
                let zero = self.constant_reg(zero).map(|bits| i64::from(bits as i32));
                match zero.filter(|zero| zero.abs() <= MOST_ZERO) {
                    Some(zero) if self.single(value).is_some() => return (value, zero),
                    _ => {}
                }
            }
        }
        (sum, 0)
    }

    /// Stores what waits, if it waits for a buffer.
    pub(super) fn store_waiting_for(&mut self, param: u32) {
        if self.waiting.first().is_some_and(|w| w.param == param) {
            self.store_waiting();
        }
    }

    /// Stores what waits.
    pub(super) fn store_waiting(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        match waiting[..] {
            [] => {}
            [Waiting { src, mem, param, width, .. }] => {
                let source = self.source(src);
                let dtype = self.kernel.params[param as usize].dtype;
                let packed = self.narrow(src, source, dtype, width);
                self.store_pieces(packed, mem, width / 4);
            }
            _ => {
                let bytes = self.narrow_together(&waiting);
                self.store_parts(bytes, &waiting);
            }
        }
    }

    /// The bytes of up to four vectors, one behind the other.
    fn narrow_together(&mut self, waiting: &[Waiting]) -> VReg {
        let Waiting { width, zero, signed, .. } = waiting[0];
        let mut words = Vec::new();
        for pair in waiting.chunks(2) {
            let [low, high] = [pair[0].value, pair[pair.len() - 1].value].map(|r| self.source(r));
            let mut sum = self.def(Op::Packssdw, width, &[low.into(), high.into()]);
            if zero != 0 {
                let couple = u64::from(zero as i16 as u16) * 0x1_0001;
                let zero = self.splat(couple, 4, width);
                sum = self.def(Op::Paddsw, width, &[sum.into(), zero.into()]);
            }
            words.push(sum);
        }
        let narrow = if signed { Op::Packsswb } else { Op::Packuswb };
        let bytes = self.def(narrow, width, &[words[0].into(), words[words.len() - 1].into()]);
        // Each 128 bits now have four lanes of every vector.
        let quarters = width / 16;
        let lane = |i: usize| (MOST * (i % quarters) + i / quarters) as u32;
        let order = (0..width / 4).flat_map(|i| lane(i).to_le_bytes()).collect();
        let order = self.constant(order, 0, width);
        self.def(Op::Permd, width, &[order.into(), bytes.into()])
    }

    /// Stores vectors' bytes; those that are neighbours in memory too at once.
    fn store_parts(&mut self, bytes: VReg, waiting: &[Waiting]) {
        let (size, width) = (waiting[0].bytes(), waiting[0].width);
        let mut at = 0;
        while at < waiting.len() {
            let neighbours = |n: usize| {
                at % n == 0
                    && at + n <= waiting.len()
                    && (1..n).all(|i| waiting[at + i].mem == waiting[at].mem.offset((i * size) as i64))
            };
            let count = [4, 2, 1].into_iter().find(|&n| neighbours(n)).unwrap_or(1);
            self.store_part(bytes, width, at * size, count * size, waiting[at].mem);
            at += count;
        }
    }

    /// Stores so many bytes of a vector, from a multiple of their number.
    fn store_part(&mut self, bytes: VReg, width: usize, from: usize, size: usize, to: Mem) {
        let place = Arg::Imm((from / size) as i64);
        match size {
            32 | 64 if from == 0 => self.op(Op::Store, size, &[to.into(), bytes.into()]),
            32 => self.op(Op::StoreHalf, width, &[to.into(), bytes.into(), place]),
            16 if from > 0 => self.op(Op::StoreQuarter, width, &[to.into(), bytes.into(), place]),
            _ => {
                let part = self.quarter(bytes, from / 16, width);
                self.store_piece(part, to, size, from % 16 / size);
            }
        }
    }
}
