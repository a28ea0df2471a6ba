//! Vectors narrowed together: the rows of a tile, whose stores wait for each other.
//!
//! Alone, a vector of 32-bit lanes takes two to four instructions to become bytes and one to be stored.
//! Four take two instructions to words, one to bytes and one that puts each one's bytes side by side; a
//! zero point is added to the words. Every step saturates, so that values outside 16 bits end at the
//! limit that they lie beyond.
//!
//! Vectors whose lanes take turns in memory (pixels of three channels, one channel in each vector) are
//! woven on the way, by one shuffle more.
//!
//! Where numbers are the lower halves of lanes (`scalar::placed`), two vectors become words by a shift and a blend,
//! lanes of both by turns, and a shuffle puts the bytes in order.
//!
//! Two vectors become numbers of 16 bits by one instruction, and one that puts them side by side; zero points are
//! added before, since sums that saturate do so at the end.
//!
//! Bytes of a table are looked up last, all at once ([`super::table`]).
//!
//! A store waits until the run of statements ends, or something else reaches its buffer.

use super::Result;
use super::inst::{Arg, Mem, VReg};
use super::rows::Op;
use super::select::{Select, vector_bytes};
use super::state::{Narrowed, Waiting};
use crate::base::DType;
use crate::tile::{Addr, Bin, Convert, Reg, Value};

/// Vectors narrowed together, at most.
const MOST: usize = 4;
/// Zero points of this magnitude leave words that saturate beyond the range of every byte.
const MOST_ZERO: i64 = 1 << 14;

/// Of three bits the first where the third is set, and otherwise the second.
const CHOSEN: i64 = 0xe4;

/// Vectors narrowed to 16 bits together.
const MOST_HALVES: usize = 2;

impl Waiting {
    /// Whether it is of the kind of another one.
    fn is_like(&self, other: &Waiting) -> bool {
        let kind = |w: &Waiting| (w.param, w.lanes, w.stride, w.table, w.size);
        kind(self) == kind(other) && self.from.is_like(&other.from)
    }

    /// Whether it can wait with others: be stored with those of its kind, and before or behind the rest.
    fn goes_with(&self, others: &[Waiting]) -> bool {
        let Some(first) = others.first() else { return true };
        match self.stride {
            1 => {
                others.iter().all(|w| self.is_like(w) || w.stride == 1 && w.is_apart(self.mem, self.bytes()))
            }
            _ => self.is_like(first) && self.mem == first.mem.offset(others.len() as i64),
        }
    }

    /// Whether so many bytes are others than its own.
    fn is_apart(&self, mem: Mem, bytes: usize) -> bool {
        let (own, from) = (self.mem.disp, mem.disp);
        let beside = from + bytes as i64 <= own || own + self.bytes() as i64 <= from;
        self.stride == 1 && beside && Mem { disp: own, ..mem } == self.mem
    }

    /// Vectors that are stored at once.
    fn most(&self) -> usize {
        match (self.stride, self.size) {
            (1, 1) => MOST,
            (1, _) => MOST_HALVES,
            _ => self.stride,
        }
    }

    /// Bytes it is stored as.
    fn bytes(&self) -> usize {
        self.lanes * self.size
    }
}

/// Puts rows that lie side by side in the order of memory, in which they may not have been computed.
fn in_order(waiting: &mut [Waiting]) {
    let along = |w: &Waiting| Mem { disp: 0, ..w.mem };
    if waiting.windows(2).all(|two| two[0].stride == 1 && along(&two[0]) == along(&two[1])) {
        waiting.sort_by_key(|w| w.mem.disp);
    }
}

/// Of bytes packed from lower halves, where in each 128 bits the one is that stands at a place if each vector's are side
/// by side.
fn of_halves(place: usize) -> usize {
    8 * (place / 8) + place % 8 / 4 + 2 * (place % 4)
}

/// Of words of four bytes, in each 128 bits one of every vector, the one that stands at a place if the vectors are one
/// behind the other.
fn in_line(place: usize, width: usize) -> usize {
    let quarters = width / 16;
    MOST * (place % quarters) + place / quarters
}

impl Select<'_> {
    /// Lets a store wait for others, where it can be joined with them.
    pub(super) fn wait(&mut self, addr: &Addr, stride: i64, src: Reg) -> Result<bool> {
        let dtype = self.kernel.params[addr.param as usize].dtype;
        let width = self.width(src);
        let lanes = self.ty(src).lanes as usize;
        // Lanes that take turns in memory may end early.
        let whole = width > 16 && (4 * lanes == width || stride > 1);
        let size = dtype.size();
        let halves = dtype == DType::I16 && stride == 1 && !self.isa.masks;
        let narrow = (1..=MOST as i64).contains(&stride) && size == 1 || halves;
        if !narrow || addr.dynamic.is_some() || !whole {
            return Ok(false);
        }
        let looked = self.looked_up(src);
        let (src, dtype) =
            looked.map_or((src, dtype), |looked| (looked.index, self.index_type(looked.index)));
        let Some(from) = self.narrowed(src, dtype) else { return Ok(false) };
        let table = match looked {
            Some(looked) => Some(self.mem(looked.table)?),
            None => None,
        };
        let mem = self.mem(addr)?;
        let (stride, param) = (stride as usize, addr.param);
        let new = Waiting { src, size, from, table, mem, param, lanes, width, stride };
        if !new.goes_with(&self.waiting) {
            self.store_waiting();
        }
        self.waiting.push(new);
        if self.waiting.iter().filter(|w| w.is_like(&new)).count() == new.most() {
            self.store_like(&new);
        }
        Ok(true)
    }

    /// What a register saturates from to a type; `None` where it is no number of that.
    fn narrowed(&self, src: Reg, dtype: DType) -> Option<Narrowed> {
        let (value, zero) = self.before_clamp(src, dtype)?;
        let half = self.halves_of(value).filter(|_| dtype.size() == 1);
        let (value, signed) = (half.unwrap_or(value), dtype.is_signed_int());
        Some(Narrowed { value, zero, low: half.is_some(), signed })
    }

    /// What is found in a table by whole vectors of indices, up to four: in each 128 bits four lanes of every vector.
    /// `None` where these are not narrowed alike.
    pub(super) fn found(&mut self, indices: &[Reg], table: Mem) -> Option<VReg> {
        let (first, width) = (*indices.first()?, self.width(indices[0]));
        let dtype = self.index_type(first);
        let narrowed = |&index: &Reg| self.narrowed(index, dtype).filter(|_| self.index_type(index) == dtype);
        let from: Vec<Narrowed> = indices.iter().map(narrowed).collect::<Option<_>>()?;
        let whole = 4 * self.ty(first).lanes as usize == width && width > 16;
        let alike = from.iter().all(|n| n.is_like(&from[0]));
        (whole && alike).then(|| self.bytes_of(&from, width, Some(table)))
    }

    /// What saturates to the number that is stored, and a zero point added to it; bytes that are only moved
    /// are in range as they are.
    fn before_clamp(&self, src: Reg, dtype: DType) -> Option<(Reg, i64)> {
        let read = |param: u32| self.kernel.params[param as usize].dtype;
        match self.single(src) {
            Some(Value::Load(from, _)) if read(from.param) == dtype && dtype.is_int() => Some((src, 0)),
            _ if dtype.size() > 1 => self.clamped(src, dtype).map(|clamped| (clamped.value, 0)),
            _ => self.clamped(src, dtype).map(|clamped| self.without_zero(clamped.value)),
        }
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

    /// What numbers are the lower halves of, where two vectors' halves are put together by blending them.
    fn halves_of(&self, r: Reg) -> Option<Reg> {
        match self.single(r) {
            Some(Value::Convert(Convert::SextLow(16), from)) => self.single(*from).is_some().then_some(*from),
            _ => None,
        }
    }

    /// Stores what waits where a store of so many bytes to a buffer may write over it.
    pub(super) fn store_waiting_before(&mut self, param: u32, mem: Mem, bytes: usize) {
        if self.waiting.iter().any(|w| w.param == param && !w.is_apart(mem, bytes)) {
            self.store_waiting();
        }
    }

    /// Stores what waits, if it waits for a buffer.
    pub(super) fn store_waiting_for(&mut self, param: u32) {
        if self.waiting.first().is_some_and(|w| w.param == param) {
            self.store_waiting();
        }
    }

    /// Stores what waits.
    pub(super) fn store_waiting(&mut self) {
        while let Some(&first) = self.waiting.first() {
            self.store_like(&first);
        }
    }

    /// Stores what waits of one kind.
    fn store_like(&mut self, one: &Waiting) {
        let mut waiting = std::mem::take(&mut self.waiting);
        (waiting, self.waiting) = waiting.into_iter().partition(|w| w.is_like(one));
        in_order(&mut waiting);
        match waiting[..] {
            [] => {}
            [first, ..] if first.stride > 1 && first.stride == waiting.len() => {
                let bytes = self.waiting_bytes(&waiting);
                let bytes = self.weave(bytes, first.width, first.stride);
                match first.stride * first.bytes() {
                    all if all == first.width => self.op(Op::Store, all, &[first.mem.into(), bytes.into()]),
                    part => self.store_pieces(bytes, first.mem, part),
                }
            }
            [first, second] if first.size == 2 => {
                let [low, high] = [first, second].map(|w| self.source(w.from.value));
                let halves = self.def(Op::Packssdw, first.width, &[low.into(), high.into()]);
                // Each 128 bits have four lanes of both.
                let place = |i: usize| i % 2 + 4 * (i / 2 % 2) + 2 * (i / 4);
                let halves = self.permute(halves, first.width, place);
                self.store_parts(halves, &waiting);
            }
            [first, _, ..] if first.stride == 1 => {
                let bytes = match first.from.low && first.table.is_none() && self.isa.permutes_bytes {
                    true => self.halves_in_line(&waiting),
                    false => {
                        let bytes = self.waiting_bytes(&waiting);
                        self.line_up(bytes, first.width)
                    }
                };
                self.store_parts(bytes, &waiting);
            }
            _ => waiting.iter().for_each(|one| self.store_alone(one)),
        }
    }

    fn store_alone(&mut self, one: &Waiting) {
        let source = self.source(one.src);
        let dtype = match (one.size, one.from.signed) {
            (2, _) => DType::I16,
            (_, true) => DType::I8,
            (_, false) => DType::U8,
        };
        let mut packed = self.narrow(one.src, source, dtype, one.width);
        if let Some(table) = one.table {
            packed = self.mapped(packed, table, vector_bytes(one.bytes()));
        }
        match one.stride {
            1 => self.store_pieces(packed, one.mem, one.bytes()),
            stride => self.scatter(packed, one.mem, 1, stride as i64, one.bytes()),
        }
    }

    /// The bytes of lower halves one vector behind the other, by one instruction.
    fn halves_in_line(&mut self, waiting: &[Waiting]) -> VReg {
        let from: Vec<Narrowed> = waiting.iter().map(|w| w.from).collect();
        let width = waiting[0].width;
        let bytes = self.packed(&from, width);
        let place = |i: usize| {
            let at = 4 * in_line(i / 4, width) + i % 4;
            (at / 16 * 16 + of_halves(at % 16)) as u8
        };
        let places = self.constant((0..width).map(place).collect(), 0, width);
        self.def(Op::Permb, width, &[places.into(), bytes.into()])
    }

    fn waiting_bytes(&mut self, waiting: &[Waiting]) -> VReg {
        let from: Vec<Narrowed> = waiting.iter().map(|w| w.from).collect();
        self.bytes_of(&from, waiting[0].width, waiting[0].table)
    }

    /// The bytes of up to four vectors, or what is found by them in a table: in each 128 bits four lanes of every
    /// vector.
    fn bytes_of(&mut self, from: &[Narrowed], width: usize, table: Option<Mem>) -> VReg {
        let mut bytes = self.packed(from, width);
        if from[0].low {
            let order = (0..64).map(|i| of_halves(i % 16) as u8).collect();
            let order = self.constant(order, 0, width);
            bytes = self.def(Op::Pshufb, width, &[bytes.into(), order.into()]);
        }
        table.map_or(bytes, |table| self.mapped(bytes, table, width))
    }

    /// The same; of lower halves, lanes of two vectors by turns.
    fn packed(&mut self, from: &[Narrowed], width: usize) -> VReg {
        let Narrowed { mut zero, mut signed, low, .. } = from[0];
        // A zero point at the end of the range is a limit at the other type's zero, and the flip of a bit.
        let flips = zero == if signed { -128 } else { 128 };
        if flips {
            (zero, signed) = (0, !signed);
        }
        let mut words = Vec::new();
        for pair in from.chunks(2) {
            let pair = [pair[0].value, pair[pair.len() - 1].value].map(|r| self.source(r));
            let mut sum = match low {
                true => self.lower_halves(pair, width),
                false => self.def(Op::Packssdw, width, &pair.map(Arg::from)),
            };
            if zero != 0 {
                let couple = u64::from(zero as i16 as u16) * 0x1_0001;
                let zero = self.splat(couple, 4, width);
                sum = self.def(Op::Paddsw, width, &[sum.into(), zero.into()]);
            }
            words.push(sum);
        }
        let narrow = if signed { Op::Packsswb } else { Op::Packuswb };
        let mut bytes = self.def(narrow, width, &[words[0].into(), words[words.len() - 1].into()]);
        if flips {
            let flip = self.splat(0x8080_8080, 4, width);
            bytes = self.def(Op::Pxor, width, &[bytes.into(), flip.into()]);
        }
        bytes
    }

    /// The lower halves of two vectors' lanes by turns.
    fn lower_halves(&mut self, [low, high]: [VReg; 2], width: usize) -> VReg {
        let high = self.def(Op::Pslld, width, &[high.into(), Arg::Imm(16)]);
        if !self.isa.masks {
            return self.def(Op::Pblendw, width, &[low.into(), high.into(), Arg::Imm(0xaa)]);
        }
        let mask = self.splat(0xffff, 4, width);
        let halves = self.def(Op::Movaps, width, &[low.into()]);
        self.op(Op::Pternlogd, width, &[halves.into(), high.into(), mask.into(), Arg::Imm(CHOSEN)]);
        halves
    }

    /// The vectors' bytes one behind the other.
    fn line_up(&mut self, bytes: VReg, width: usize) -> VReg {
        self.permute(bytes, width, |i| in_line(i, width))
    }

    /// A lane of each of `count` vectors in turn.
    fn weave(&mut self, bytes: VReg, width: usize, count: usize) -> VReg {
        let place = |i: usize| if i < 4 * count { (4 * (i % count) + i / count) as u8 } else { 0x80 };
        let order = (0..64).map(|i| place(i % 16)).collect();
        let order = self.constant(order, 0, width);
        let woven = self.def(Op::Pshufb, width, &[bytes.into(), order.into()]);
        match count {
            MOST => woven,
            _ => self.permute(woven, width, |i| (MOST * (i / count) + i % count) % (width / 4)),
        }
    }

    /// Words of 32 bits in another order.
    fn permute(&mut self, from: VReg, width: usize, place: impl Fn(usize) -> usize) -> VReg {
        let order = (0..width / 4).flat_map(|i| (place(i) as u32).to_le_bytes()).collect();
        let order = self.constant(order, 0, width);
        self.def(Op::Permd, width, &[order.into(), from.into()])
    }

    /// Stores vectors' bytes; those that are neighbours in memory too at once.
    fn store_parts(&mut self, bytes: VReg, waiting: &[Waiting]) {
        let (size, width) = (waiting[0].bytes(), waiting[0].width);
        let (mut at, mut quarters) = (0, vec![None; width / 16]);
        while at < waiting.len() {
            let neighbours = |n: usize| {
                at % n == 0
                    && at + n <= waiting.len()
                    && (1..n).all(|i| waiting[at + i].mem == waiting[at].mem.offset((i * size) as i64))
            };
            let count = [4, 2, 1].into_iter().find(|&n| neighbours(n)).unwrap_or(1);
            self.store_part((bytes, &mut quarters), width, at * size, count * size, waiting[at].mem);
            at += count;
        }
    }

    /// Stores so many bytes of a vector, from a multiple of their number; quarters are taken out of it once.
    fn store_part(
        &mut self,
        (bytes, quarters): (VReg, &mut [Option<VReg>]),
        width: usize,
        from: usize,
        size: usize,
        to: Mem,
    ) {
        let place = Arg::Imm((from / size) as i64);
        match size {
            32 | 64 if from == 0 => self.op(Op::Store, size, &[to.into(), bytes.into()]),
            32 => self.op(Op::StoreHalf, width, &[to.into(), bytes.into(), place]),
            16 if from > 0 => self.op(Op::StoreQuarter, width, &[to.into(), bytes.into(), place]),
            _ => {
                let known = quarters[from / 16];
                let part = known.unwrap_or_else(|| self.quarter(bytes, from / 16, width));
                quarters[from / 16] = Some(part);
                self.store_piece(part, to, size, from % 16 / size);
            }
        }
    }
}
