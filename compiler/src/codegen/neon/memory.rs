//! Loads and stores of whole, partial and strided vectors, and of narrow element types: exactly the
//! bytes of the lanes.

use super::Result;
use super::address::Mem;
use super::inst::{Kind, VReg, read, update};
use super::select::{Form, Select};
use super::words;
use crate::base::DType;
use crate::tile::{Addr, Bin, Convert, Lane, Reg, Un, Value, extends};

/// 1.5 * 2^23: floats near it are integers, with that integer in the low 16 bits.
const INTEGERS: f32 = 12_582_912.0;

/// Splits bytes into accesses: `(first byte, 16, 8, 4, 2 or 1)`.
fn pieces(bytes: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let size = [16, 8, 4, 2, 1].into_iter().find(|&size| size <= bytes - at)?;
        at += size;
        Some((at - size, size))
    })
}

/// What elements of a type are in a register.
fn element(dtype: DType, lane: Lane) -> Result<Element> {
    use DType::*;
    Ok(match (dtype, lane) {
        (F32, Lane::F32) | (I32 | U32, Lane::I32) | (F16, Lane::F16) => Element::Whole,
        (F16, Lane::F32) => Element::Half,
        (BF16, Lane::F32) => Element::Brain,
        (I8 | I4 | I2 | I16, Lane::I32) => Element::Int { signed: true },
        (U8 | U4 | U2 | Bool | U16, Lane::I32) => Element::Int { signed: false },
        _ => return Err(format!("{dtype} elements in {lane:?} lanes")),
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Element {
    /// As in memory.
    Whole,
    /// A float of 16 bits.
    Half,
    /// The upper half of a float.
    Brain,
    /// An integer of 8 or 16 bits.
    Int { signed: bool },
}

impl Select<'_> {
    /// Translates a load.
    pub(super) fn load(&mut self, r: Reg, addr: &Addr, stride: i64) -> Result<()> {
        let dtype = self.kernel.params[addr.param as usize].dtype;
        let (ty, size) = (self.ty(r), dtype.size());
        let element = element(dtype, ty.lane)?;
        let mem = self.mem(addr)?;
        self.load_elements(r, element, size, mem, stride)
    }

    /// Translates a load of four bytes a lane.
    pub(super) fn load_words(&mut self, r: Reg, addr: &Addr, stride: i64) -> Result<()> {
        let (mem, lanes) = (self.mem(addr)?, i64::from(self.ty(r).lanes));
        if !(1..4).contains(&stride) || lanes == 1 {
            return self.load_elements(r, Element::Whole, 4, mem, stride.min(1));
        }
        // Words that overlap.
        let place = |i: usize| (i / 4 * stride as usize + i % 4) as u8;
        let places = self.constant(std::array::from_fn(place));
        let words = (0..lanes).step_by(4).map(|first| {
            let bytes = if lanes - first < 4 { stride * (lanes - first - 1) + 4 } else { 16 };
            let bytes = self.load_bytes(mem.offset(stride * first), bytes as usize);
            self.new2(words::TBL_ONE, bytes, places)
        });
        let words = words.collect();
        self.define(r, Form::Words(words))
    }

    /// Translates a load of two bytes a lane, each extended to 16 bits.
    pub(super) fn load_couples(&mut self, r: Reg, addr: &Addr) -> Result<()> {
        let signed = self.kernel.params[addr.param as usize].dtype.is_signed_int();
        let (mem, bytes) = (self.mem(addr)?, 2 * usize::from(self.ty(r).lanes));
        let raw: Vec<VReg> = (0..bytes)
            .step_by(16)
            .map(|at| self.load_bytes(mem.offset(at as i64), (bytes - at).min(16)))
            .collect();
        let couples = (0..self.count(r)).map(|i| self.new1(words::widen(1, signed, i % 2 == 1), raw[i / 2]));
        let couples = couples.collect();
        self.define(r, Form::Words(couples))
    }

    fn load_elements(&mut self, r: Reg, element: Element, size: usize, mem: Mem, stride: i64) -> Result<()> {
        let lanes = usize::from(self.ty(r).lanes);
        if stride == 0 && lanes > 1 {
            let raw = self.vector();
            self.access(words::ldr(size), raw, mem, true);
            let one = self.extended(element, size, &[raw], 1)[0];
            return self.define(r, Form::Lane(one, 0));
        }
        let raw: Vec<VReg> = match stride == 1 || lanes == 1 {
            true => {
                let chunks = (0..lanes * size).step_by(16);
                chunks.map(|at| self.load_bytes(mem.offset(at as i64), (lanes * size - at).min(16))).collect()
            }
            false => {
                let per = 16 / size;
                let chunks = (0..lanes).step_by(per);
                chunks.map(|first| self.gather(mem, size, stride, first..lanes.min(first + per))).collect()
            }
        };
        let form = match element {
            Element::Whole => Form::Words(raw),
            Element::Int { signed } => Form::Narrow { raw, bytes: size, signed },
            _ => Form::Words(self.extended(element, size, &raw, lanes)),
        };
        self.define(r, form)
    }

    /// Loaded elements in lanes of 32 bits.
    fn extended(&mut self, element: Element, size: usize, raw: &[VReg], lanes: usize) -> Vec<VReg> {
        let vectors = 0..lanes.div_ceil(4);
        match element {
            Element::Whole => raw.to_vec(),
            Element::Half => {
                vectors.map(|i| self.new1(words::FCVTL | (i as u32 % 2) << 30, raw[i / 2])).collect()
            }
            Element::Brain => vectors.map(|i| self.new1(words::shll16(i % 2 == 1), raw[i / 2])).collect(),
            Element::Int { signed } => {
                let halves: Vec<VReg> = match size {
                    2 => raw.to_vec(),
                    _ => (0..lanes.div_ceil(8))
                        .map(|i| self.new1(words::widen(1, signed, i % 2 == 1), raw[i / 2]))
                        .collect(),
                };
                vectors.map(|i| self.new1(words::widen(2, signed, i % 2 == 1), halves[i / 2])).collect()
            }
        }
    }

    /// So many bytes, at most 16, in the low end of a vector; the others are anything.
    fn load_bytes(&mut self, mem: Mem, bytes: usize) -> VReg {
        let vector = self.vector();
        for (at, size) in pieces(bytes) {
            let from = mem.offset(at as i64);
            match at {
                0 => self.access(words::ldr(size), vector, from, true),
                _ => self.load_lane(vector, from, size, at / size),
            }
        }
        vector
    }

    /// Replaces an element of a vector.
    fn load_lane(&mut self, vector: VReg, from: Mem, size: usize, lane: usize) {
        let address = self.at(from);
        self.push(words::ld1(size, lane), vec![update(vector, 0), read(address, 5)], Kind::Plain);
    }

    /// Elements some elements apart, side by side.
    fn gather(&mut self, mem: Mem, size: usize, stride: i64, lanes: std::ops::Range<usize>) -> VReg {
        let vector = self.vector();
        for (place, lane) in lanes.enumerate() {
            let from = mem.offset(lane as i64 * stride * size as i64);
            match place {
                0 => self.access(words::ldr(size), vector, from, true),
                _ => self.load_lane(vector, from, size, place),
            }
        }
        vector
    }

    /// Translates a store.
    pub(super) fn store(&mut self, addr: &Addr, stride: i64, src: Reg) -> Result<()> {
        let dtype = self.kernel.params[addr.param as usize].dtype;
        let (ty, size) = (self.ty(src), dtype.size());
        let lanes = usize::from(ty.lanes);
        let packed = match element(dtype, ty.lane) {
            Err(_) if extends(dtype, ty.lane) => self.extended_words(src)?,
            element => match element? {
                Element::Whole => self.words(src)?,
                Element::Half => {
                    let words = self.words(src)?;
                    self.narrowed(&words, |high| words::FCVTN | u32::from(high) << 30)
                }
                Element::Brain => self.brain(src)?,
                Element::Int { signed } => self.narrow(src, size, signed)?,
            },
        };
        let mem = self.mem(addr)?;
        if self.take_turn(&packed, size, mem) {
            return Ok(());
        }
        if stride != 1 && lanes > 1 {
            for lane in 0..lanes {
                let to = mem.offset(lane as i64 * stride * size as i64);
                self.store_piece(packed[lane * size / 16], to, size, lane * size % 16 / size);
            }
            return Ok(());
        }
        for (at, piece) in pieces(lanes * size) {
            self.store_piece(packed[at / 16], mem.offset(at as i64), piece, at % 16 / piece);
        }
        Ok(())
    }

    /// 32-bit lanes as numbers of 64 bits.
    fn extended_words(&mut self, src: Reg) -> Result<Vec<VReg>> {
        let (words, lanes) = (self.words(src)?, usize::from(self.ty(src).lanes));
        let pairs = 0..lanes.div_ceil(2);
        Ok(pairs.map(|i| self.new1(words::widen(4, true, i % 2 == 1), words[i / 2])).collect())
    }

    /// Packed bf16.
    fn brain(&mut self, src: Reg) -> Result<Vec<VReg>> {
        let words = self.words(src)?;
        if self.isa.brain {
            return Ok(self.narrowed(&words, |high| words::BFCVTN | u32::from(high) << 30));
        }
        let rounded: Vec<VReg> = words.into_iter().map(|v| self.rounded_brain(v)).collect();
        Ok(self.narrowed(&rounded, words::shrn16))
    }

    /// To the nearest (even) bf16, in the upper half of each lane; what is below it is anything.
    pub(super) fn rounded_brain(&mut self, v: VReg) -> VReg {
        let upper = self.new1(words::shr(false, 16), v);
        let one = self.splat(1);
        let odd = self.new2(words::AND, upper, one);
        let half = self.splat(0x7fff);
        let bias = self.new2(words::ADD_V, odd, half);
        let rounded = self.new2(words::ADD_V, v, bias);
        let nan = self.splat(0x7fc0_0000);
        let quiet = self.new2(words::ORR, v, nan);
        let number = self.new2(words::FCMEQ, v, v);
        self.op3(words::BSL, number, rounded, quiet);
        number
    }

    fn store_piece(&mut self, vector: VReg, to: Mem, size: usize, lane: usize) {
        if lane == 0 {
            return self.access(words::str(size), vector, to, false);
        }
        let address = self.at(to);
        self.push(words::st1(size, lane), vec![read(vector, 0), read(address, 5)], Kind::Store);
    }

    /// Whether a register is clamped to just the signed bytes.
    pub(super) fn is_signed_byte(&self, r: Reg) -> bool {
        self.limited(r, false).is_none() && self.limited(r, true).is_some()
    }

    /// 32-bit lanes as packed elements of one or two bytes.
    pub(super) fn narrow(&mut self, src: Reg, size: usize, signed: bool) -> Result<Vec<VReg>> {
        if let Some(Form::Narrow { raw, bytes, .. }) = self.form(src)
            && *bytes == size
        {
            return Ok(raw.clone());
        }
        if let Some((inner, limits)) = self.limited(src, signed).filter(|_| size == 1)
            && let Some(bytes) = self.saturated_bytes(inner, signed, limits == range(8, signed))?
        {
            return Ok(self.limit_bytes(bytes, limits, signed));
        }
        if let Some(from) = self.saturated(src, size, signed)? {
            if size == 2 {
                return Ok(self.narrowed(&from, |high| words::sqxtn(2, !signed, high)));
            }
            let halves = self.narrowed(&from, |high| words::sqxtn(2, false, high));
            return Ok(self.narrowed(&halves, |high| words::sqxtn(1, !signed, high)));
        }
        let from = self.words(src)?;
        let halves = self.packed(&from, 2);
        Ok(if size == 2 { halves } else { self.packed(&halves, 1) })
    }

    /// What a register is the clamp of, to bytes or to some of them, and the limits.
    fn limited(&self, src: Reg, signed: bool) -> Option<(Reg, (i64, i64))> {
        let step = |r: Reg, op: Bin| -> Option<(Reg, i64)> {
            let Some(Value::Bin(found, a, b)) = self.single(r) else { return None };
            let limit = |x: Reg| self.constant_reg(x).map(|bits| i64::from(bits as i32));
            let (limit, inner) = [(*a, *b), (*b, *a)].into_iter().find_map(|(x, y)| Some((limit(x)?, y)))?;
            (*found == op && self.single(inner).is_some()).then_some((inner, limit))
        };
        let ((inner, lo), hi) = match step(src, Bin::Min) {
            Some((inner, hi)) => (step(inner, Bin::Max)?, hi),
            None => {
                let (inner, lo) = step(src, Bin::Max)?;
                let (inner, hi) = step(inner, Bin::Min)?;
                ((inner, lo), hi)
            }
        };
        let (least, most) = range(8, signed);
        (least <= lo && lo <= hi && hi <= most).then_some((inner, (lo, hi)))
    }

    /// A register's lanes as saturated bytes; `None` where `all` bytes are wanted and it has no form of its
    /// own.
    fn saturated_bytes(&mut self, r: Reg, signed: bool, all: bool) -> Result<Option<Vec<VReg>>> {
        if let Some((sum, zero)) = self.moved_by(r) {
            return self.narrow_sum(sum, Some(zero), signed).map(Some);
        }
        if self.small(r).is_some() || self.quotient(r).is_some() || !all {
            return self.narrow_sum(r, None, signed).map(Some);
        }
        Ok(None)
    }

    /// Bytes within limits.
    fn limit_bytes(&mut self, bytes: Vec<VReg>, (lo, hi): (i64, i64), signed: bool) -> Vec<VReg> {
        let (least, most) = range(8, signed);
        let [above, below] = if signed { [words::SMAX, words::SMIN] } else { [words::UMAX, words::UMIN] };
        let mut limited = bytes;
        for (word, limit) in
            [(above, Some(lo).filter(|&l| l > least)), (below, Some(hi).filter(|&h| h < most))]
        {
            let Some(limit) = limit else { continue };
            let limit = self.splat(u32::from(limit as u8) * 0x0101_0101);
            limited = limited.into_iter().map(|v| self.new2(words::of_bytes(word), v, limit)).collect();
        }
        limited
    }

    /// What a sum adds a small number to, the same for all lanes. To clamp it to bytes, the addition can be
    /// done in 16 bits: what saturates there is outside of the bytes by far.
    fn moved_by(&self, sum: Reg) -> Option<(Reg, Reg)> {
        let Some(Value::Bin(Bin::Add, a, b)) = self.single(sum) else { return None };
        let small = |r: Reg| match self.single(r) {
            Some(Value::Const(bits)) => (-256..256).contains(&(*bits as i32)),
            Some(Value::Load(addr, 0)) => self.kernel.params[addr.param as usize].dtype.size() == 1,
            _ => false,
        };
        let (sum, zero) = [(*a, *b), (*b, *a)].into_iter().find(|pair| small(pair.1))?;
        (self.single(sum).is_some() && self.ty(zero).lanes > 1).then_some((sum, zero))
    }

    /// What a register is the nearest integer of, of small numbers.
    fn small(&self, r: Reg) -> Option<Reg> {
        match self.single(r) {
            Some(Value::Convert(Convert::NearestSmall, float)) => Some(*float),
            _ => None,
        }
    }

    /// What a register is the rounded quotient of, and the power of two.
    fn quotient(&self, r: Reg) -> Option<(Reg, u32)> {
        let Some(Value::Bin(Bin::ShrRound, a, by)) = self.single(r) else { return None };
        let count = self.constant_reg(*by).filter(|count| (1..=16).contains(count))?;
        self.single(*a).map(|_| (*a, count))
    }

    /// Bytes: the saturated sums of 32-bit lanes and a small number that all lanes have.
    fn narrow_sum(&mut self, sum: Reg, zero: Option<Reg>, signed: bool) -> Result<Vec<VReg>> {
        let known = zero.map_or(Some(0), |zero| self.constant_reg(zero)).map(|bits| bits as i32);
        let mut opposite = false;
        let (halves, zero) = match (self.small(sum), self.quotient(sum)) {
            (Some(float), _) => {
                // Added to a float whose neighbours are 1 apart, a small one is rounded, and its integer is
                // the low half of the bits. An even number added too leaves halves what they round to.
                let even = known.filter(|zero| zero % 2 == 0);
                let begin = self.splat((INTEGERS + even.unwrap_or(0) as f32).to_bits());
                let floats = self.words(float)?;
                let sums: Vec<VReg> = floats.into_iter().map(|v| self.new2(words::FADD, v, begin)).collect();
                (self.packed(&sums, 2), zero.filter(|_| even.is_none()))
            }
            (_, Some((dividend, count))) => {
                let from = self.words(dividend)?;
                // To move bytes to those of the other sign is to flip their top bits.
                opposite = known == Some(if signed { -128 } else { 128 });
                (self.narrowed(&from, |high| words::sqrshrn(count, high)), zero.filter(|_| !opposite))
            }
            (None, None) => {
                let from = self.words(sum)?;
                (self.narrowed(&from, |high| words::sqxtn(2, false, high)), zero)
            }
        };
        let halves = match zero {
            Some(zero) => {
                let zero = self.in_halves_of_all(zero, known)?;
                halves.into_iter().map(|v| self.new2(words::SQADD_H, v, zero)).collect()
            }
            None => halves,
        };
        let bytes = self.narrowed(&halves, |high| words::sqxtn(1, signed == opposite, high));
        Ok(match opposite {
            true => bytes.into_iter().map(|v| self.flipped(v)).collect(),
            false => bytes,
        })
    }

    /// A number that all lanes have, in lanes of 16 bits.
    fn in_halves_of_all(&mut self, r: Reg, known: Option<i32>) -> Result<VReg> {
        Ok(match (known, self.lane(r)) {
            (Some(bits), _) => self.splat((bits as u32 & 0xffff) * 0x0001_0001),
            (None, Some((v, lane))) => self.copies(v, 2, 2 * lane),
            (None, None) => {
                let words = self.words(r)?;
                self.copies(words[0], 2, 0)
            }
        })
    }

    /// The low halves of the lanes of neighbouring vectors in one.
    fn packed(&mut self, from: &[VReg], bytes: usize) -> Vec<VReg> {
        let pairs = from.chunks(2);
        pairs
            .map(|pair| match pair {
                [low, high] => self.new2(words::uzp1(bytes), *low, *high),
                _ => self.new1(words::xtn(bytes, false), pair[0]),
            })
            .collect()
    }

    /// Neighbouring vectors narrowed into one.
    fn narrowed(&mut self, from: &[VReg], word: impl Fn(bool) -> u32) -> Vec<VReg> {
        let pairs = from.chunks(2);
        pairs
            .map(|pair| {
                let narrow = self.new1(word(false), pair[0]);
                if let Some(&high) = pair.get(1) {
                    self.push(word(true), vec![update(narrow, 0), read(high, 5)], Kind::Plain);
                }
                narrow
            })
            .collect()
    }

    /// The value that a stored one is, clamped to the range of the stored type.
    fn saturated(&mut self, src: Reg, size: usize, signed: bool) -> Result<Option<Vec<VReg>>> {
        let range = range(8 * size as u32, signed);
        let integer = self.clamped(src, range, integer);
        let float = match self.single(integer.unwrap_or(src)) {
            // To clamp the float first changes nothing: the conversion saturates, and a NaN, which the
            // clamp keeps, gives 0.
            Some(Value::Convert(Convert::FloatToInt, float)) => {
                self.clamped(*float, range, |bits| f64::from(f32::from_bits(bits)))
            }
            _ => None,
        };
        let Some(float) = float else { return integer.map(|r| self.words(r)).transpose() };
        let (word, float) = match self.single(float) {
            Some(Value::Un(Un::Round, rounded)) if self.single(*rounded).is_some() => {
                (words::FCVTNS, *rounded)
            }
            _ => (words::FCVTZS, float),
        };
        let floats = self.words(float)?;
        Ok(Some(floats.into_iter().map(|v| self.new1(word, v)).collect()))
    }

    /// What a register is the clamp of, to just this range.
    fn clamped(&self, r: Reg, (low, high): (i64, i64), number: impl Fn(u32) -> f64) -> Option<Reg> {
        let step = |r: Reg, op: Bin, limit: i64| -> Option<Reg> {
            let Some(Value::Bin(found, a, b)) = self.single(r) else { return None };
            let is_limit = |x: Reg| self.constant_reg(x).is_some_and(|bits| number(bits) == limit as f64);
            let inner = [(*a, *b), (*b, *a)].into_iter().find(|pair| is_limit(pair.0))?.1;
            (*found == op && self.single(inner).is_some()).then_some(inner)
        };
        let highest = step(r, Bin::Min, high).and_then(|inner| step(inner, Bin::Max, low));
        highest.or_else(|| step(r, Bin::Max, low).and_then(|inner| step(inner, Bin::Min, high)))
    }
}

/// The numbers that so many bits hold.
fn range(bits: u32, signed: bool) -> (i64, i64) {
    match signed {
        true => (-(1i64 << (bits - 1)), (1i64 << (bits - 1)) - 1),
        false => (0, (1i64 << bits) - 1),
    }
}

/// The bits of a lane as a number.
fn integer(bits: u32) -> f64 {
    f64::from(bits as i32)
}
