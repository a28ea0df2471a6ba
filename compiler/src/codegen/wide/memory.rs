//! Loads and stores of whole, partial and strided vectors, and of narrow element types.
//!
//! Nothing outside the accessed elements is read or written, faults included. With AVX-512 a
//! partial vector is a masked access; otherwise it is a masked load, or pieces of 16 to 1 bytes.
//! Narrow elements are first one packed vector, which is then extended (or was narrowed).

use super::Result;
use super::inst::{Arg, Mem, VReg};
use super::rows::Op;
use super::select::{Select, vector_bytes};
use crate::base::DType;
use crate::tile::{Addr, Lane, Reg, extends};

/// Bytes of a vector that pieces are put into.
const ROW: usize = 16;

/// How packed elements become lanes.
#[derive(Clone, Copy)]
struct Extend {
    op: Op,
    /// Elements are the upper half of their lanes.
    upper: bool,
}

/// How elements of a type become lanes; `None` where they are lanes as they are.
fn extension(dtype: DType, lane: Lane) -> Result<Option<Extend>> {
    use DType::*;
    let op = match (dtype, lane) {
        (F32, Lane::F32) | (I32 | U32, Lane::I32) | (F64, Lane::F64) | (I64 | U64, Lane::I64) => {
            return Ok(None);
        }
        (F16 | BF16, Lane::F16) => return Ok(None),
        (F16, Lane::F32) => Op::Cvtph2ps,
        (BF16, Lane::F32) => Op::Pmovzxwd,
        (I8 | I4 | I2, Lane::I32) => Op::Pmovsxbd,
        (U8 | U4 | U2 | Bool, Lane::I32) => Op::Pmovzxbd,
        (I16, Lane::I32) => Op::Pmovsxwd,
        (U16, Lane::I32) => Op::Pmovzxwd,
        _ => return Err(format!("{dtype} elements in {lane:?} lanes")),
    };
    Ok(Some(Extend { op, upper: dtype == BF16 }))
}

impl Select<'_> {
    /// Translates a load of elements of a type, so many bytes apart.
    pub(super) fn load(&mut self, r: Reg, addr: &Addr, dtype: DType, stride: i64) -> Result<()> {
        let ty = self.ty(r);
        let extend = extension(dtype, ty.lane)?;
        let (size, lanes) = (dtype.size(), ty.lanes as usize);
        let mem = self.mem(addr)?;
        let (dst, width) = (self.target(r), self.width(r));
        if (stride == 0 && lanes > 1) || (lanes == 1 && extend.is_some()) {
            self.load_repeated(dst, mem, dtype, extend, width);
            return Ok(());
        }
        if (1..4).contains(&stride) && size == 4 && lanes > 1 && lanes * size == width {
            self.overlapping(dst, mem, stride, width);
            return Ok(());
        }
        if extend.is_none() && size == 4 && stride == 8 && self.every_other(dst, mem, lanes, width) {
            return Ok(());
        }
        if stride != size as i64 && lanes > 1 {
            let packed = self.gather(mem, size, stride, lanes);
            self.extend(dst, packed.into(), extend, width, None);
            return Ok(());
        }
        self.load_run(dst, mem, size, extend, (lanes, width));
        Ok(())
    }

    /// Elements side by side, of a whole vector or of a part of one.
    fn load_run(
        &mut self,
        dst: VReg,
        mem: Mem,
        size: usize,
        extend: Option<Extend>,
        (lanes, width): (usize, usize),
    ) {
        let lane = if extend.is_some() { size_of::<f32>() } else { size };
        match (extend, lanes * lane == width) {
            (None, true) => self.op(Op::Load, width, &[dst.into(), mem.into()]),
            (Some(_), true) => self.extend(dst, mem.into(), extend, width, None),
            (None, false) if lanes * size <= 8 && (lanes * size).is_power_of_two() => {
                let op = match lanes * size {
                    2 => Op::Broadcast16,
                    4 => Op::Load32,
                    _ => Op::Load64,
                };
                self.op(op, 16, &[dst.into(), mem.into()]);
            }
            (None, false) if self.isa.masks => {
                let mask = self.lanes_mask(lanes);
                let op = match size {
                    2 => Op::LoadWords,
                    4 => Op::Load,
                    _ => Op::LoadQuads,
                };
                self.masked(op, width, &[dst.into(), mem.into()], Some(mask), false);
            }
            (None, false) if size == 2 => {
                let packed = self.load_pieces(mem, lanes * size);
                self.op(Op::Movaps, width, &[dst.into(), packed.into()]);
            }
            (None, false) => {
                let bytes = (0..64).map(|i| if i < lanes * size { 0xff } else { 0 }).collect();
                let mask = self.constant(bytes, 0, width);
                self.op(Op::LoadMasked, width, &[dst.into(), mask.into(), mem.into()]);
            }
            (Some(_), false) if self.isa.masks => {
                let mask = self.lanes_mask(lanes);
                self.extend(dst, mem.into(), extend, width, Some(mask));
            }
            (Some(_), false) => {
                let packed = self.load_pieces(mem, lanes * size);
                self.extend(dst, packed.into(), extend, width, None);
            }
        }
    }

    /// Translates a load of couples of bytes.
    pub(super) fn load_couples(&mut self, r: Reg, addr: &Addr) -> Result<()> {
        let lanes = self.ty(r).lanes as usize;
        let op = match self.kernel.params[addr.param as usize].dtype.is_signed_int() {
            true => Op::Pmovsxbw,
            false => Op::Pmovzxbw,
        };
        let mem = self.mem(addr)?;
        let (dst, width) = (self.target(r), self.width(r));
        if 4 * lanes == width {
            self.op(op, width, &[dst.into(), mem.into()]);
        } else if self.isa.masks {
            let mask = self.lanes_mask(2 * lanes);
            self.masked(op, width, &[dst.into(), mem.into()], Some(mask), false);
        } else {
            let packed = self.load_pieces(mem, 2 * lanes);
            self.op(op, width, &[dst.into(), packed.into()]);
        }
        Ok(())
    }

    /// Packed elements, in memory or a register, to lanes.
    fn extend(&mut self, dst: VReg, from: Arg, extend: Option<Extend>, width: usize, mask: Option<VReg>) {
        match extend {
            None => self.op(Op::Movaps, width, &[dst.into(), from]),
            Some(Extend { op, upper: true }) => {
                let low = self.f.reg(super::inst::Class::Vector);
                self.masked(op, width, &[low.into(), from], mask, false);
                self.op(Op::Pslld, width, &[dst.into(), low.into(), Arg::Imm(16)]);
            }
            Some(Extend { op, .. }) => self.masked(op, width, &[dst.into(), from], mask, false),
        }
    }

    /// One element in every lane.
    fn load_repeated(&mut self, dst: VReg, mem: Mem, dtype: DType, extend: Option<Extend>, width: usize) {
        match dtype.size() {
            4 => return self.op(Op::Broadcast32, width, &[dst.into(), mem.into()]),
            8 => return self.op(Op::Broadcast64, width, &[dst.into(), mem.into()]),
            2 if extend.is_none() => return self.op(Op::Broadcast16, width, &[dst.into(), mem.into()]),
            _ => {}
        }
        // Conversions of long vectors are slower than a broadcast more.
        if dtype == DType::F16 && width > 16 {
            let one = self.f.reg(super::inst::Class::Vector);
            self.load_repeated(one, mem, dtype, extend, 16);
            return self.op(Op::Broadcast32, width, &[dst.into(), one.into()]);
        }
        // The narrow vector that extends to the whole one.
        let (op, part) = if dtype.size() == 1 { (Op::Broadcast8, 4) } else { (Op::Broadcast16, 2) };
        let packed = self.def(op, (width / part).max(16), &[mem.into()]);
        self.extend(dst, packed.into(), extend, width, None);
    }

    /// So many bytes in the low part of a vector.
    fn load_pieces(&mut self, mem: Mem, bytes: usize) -> VReg {
        let rows = (0..bytes).step_by(ROW);
        let rows: Vec<VReg> =
            rows.map(|at| self.load_row(mem.offset(at as i64), ROW.min(bytes - at))).collect();
        self.join(&rows)
    }

    /// So many bytes, at most 16, in the low part of a vector of 128 bits.
    fn load_row(&mut self, mem: Mem, bytes: usize) -> VReg {
        let mut at = 0;
        let mut vector = None;
        while at < bytes {
            let piece = 1 << (bytes - at).ilog2();
            let from = mem.offset(at as i64);
            vector = Some(match (vector, piece) {
                (_, ROW) => self.def(Op::Load, 16, &[from.into()]),
                (None, 8) => self.def(Op::Load64, 16, &[from.into()]),
                (None, 4) => self.def(Op::Load32, 16, &[from.into()]),
                (v, _) => self.insert(v, from, piece, at / piece),
            });
            at += piece;
        }
        vector.expect("a row has a byte")
    }

    /// A vector of 128 bits with one element, from memory, replaced.
    fn insert(&mut self, vector: Option<VReg>, from: Mem, size: usize, place: usize) -> VReg {
        let vector = vector.unwrap_or_else(|| self.splat(0, 4, 16));
        let op = match size {
            1 => Op::Pinsrb,
            2 => Op::Pinsrw,
            4 => Op::Pinsrd,
            _ => Op::Pinsrq,
        };
        self.def(op, 16, &[vector.into(), from.into(), Arg::Imm(place as i64)])
    }

    /// Words of four bytes, so many apart that they overlap, of as many bytes as if they did not.
    fn overlapping(&mut self, dst: VReg, mem: Mem, stride: i64, width: usize) {
        let words = |first: usize, lanes: usize| -> Vec<u8> {
            let bytes = |lane: usize| (0..4).map(move |byte| (first + lane * stride as usize + byte) as u8);
            (0..lanes).flat_map(bytes).collect()
        };
        if width > 16 && self.isa.permutes_bytes {
            let places = self.constant(words(0, width / 4), 0, width);
            return self.op(Op::Permb, width, &[dst.into(), places.into(), mem.into()]);
        }
        let mut bytes = mem.into();
        if width > 16 {
            // Each 128 bits get what their words begin in.
            let from = |i: usize| ((i / 4 * stride as usize + i % 4) as u32).min(width as u32 / 4 - 1);
            let places = (0..width / 4).flat_map(|i| from(i).to_le_bytes()).collect();
            let places = self.constant(places, 0, width);
            bytes = self.def(Op::Permd, width, &[places.into(), bytes]).into();
        } else {
            bytes = self.def(Op::Load, width, &[bytes]).into();
        }
        let places = self.constant(words(0, 4).repeat(width / 16), 0, width);
        self.op(Op::Pshufb, width, &[dst.into(), bytes, places.into()]);
    }

    /// Every other element of 32 bits, from two vectors that end with the last one; whether that can be done.
    fn every_other(&mut self, dst: VReg, mem: Mem, lanes: usize, width: usize) -> bool {
        /// Of each 128 bits, the even elements of the first vector, the odd ones of the second; of four
        /// halves, the first, the third, the second and the fourth.
        const EVEN_ODD: i64 = 0xd8;
        let (span, whole) = (2 * lanes - 1, width / 4);
        if self.isa.masks && span > whole {
            let table = self.def(Op::Load, width, &[mem.into()]);
            let behind = self.f.reg(super::inst::Class::Vector);
            let mask = self.lanes_mask(span - whole);
            let rest = mem.offset(width as i64);
            self.masked(Op::Load, width, &[behind.into(), rest.into()], Some(mask), false);
            let even: Vec<u8> = (0..whole as u32).flat_map(|i| (2 * i).to_le_bytes()).collect();
            let even = self.constant(even, 0, width);
            self.op(Op::Permt2ps, width, &[table.into(), even.into(), behind.into()]);
            self.op(Op::Movaps, width, &[dst.into(), table.into()]);
            return true;
        }
        if lanes != whole || width > 32 {
            return false;
        }
        let first = self.def(Op::Load, width, &[mem.into()]);
        let last = self.def(Op::Load, width, &[mem.offset(4 * (whole - 1) as i64).into()]);
        let mixed = self.def(Op::Shufps, width, &[first.into(), last.into(), Arg::Imm(EVEN_ODD)]);
        match width {
            32 => self.op(Op::PermqImm, width, &[dst.into(), mixed.into(), Arg::Imm(EVEN_ODD)]),
            _ => self.op(Op::Movaps, width, &[dst.into(), mixed.into()]),
        }
        true
    }

    /// Elements some bytes apart, packed.
    pub(super) fn gather(&mut self, mem: Mem, size: usize, stride: i64, lanes: usize) -> VReg {
        let per = 16 / size;
        let quarters: Vec<VReg> = (0..lanes.div_ceil(per))
            .map(|q| {
                let mut vector = None;
                for lane in q * per..lanes.min((q + 1) * per) {
                    let from = mem.offset(lane as i64 * stride);
                    vector = Some(match (vector, size) {
                        (None, 4) => self.def(Op::Load32, 16, &[from.into()]),
                        (None, 8) => self.def(Op::Load64, 16, &[from.into()]),
                        (v, _) => self.insert(v, from, size, lane % per),
                    });
                }
                vector.expect("a quarter has a lane")
            })
            .collect();
        self.join(&quarters)
    }

    /// Up to four vectors of 128 bits in one.
    pub(super) fn join(&mut self, quarters: &[VReg]) -> VReg {
        let halves: Vec<VReg> = quarters
            .chunks(2)
            .map(|pair| match pair {
                [low, high] => self.def(Op::Insert128, 32, &[(*low).into(), (*high).into(), Arg::Imm(1)]),
                _ => pair[0],
            })
            .collect();
        match halves[..] {
            [low, high] => self.def(Op::Insert256, 64, &[low.into(), high.into(), Arg::Imm(1)]),
            _ => halves[0],
        }
    }

    /// Translates a store.
    pub(super) fn store(&mut self, addr: &Addr, stride: i64, src: Reg) -> Result<()> {
        let dtype = self.kernel.params[addr.param as usize].dtype;
        let ty = self.ty(src);
        if extends(dtype, ty.lane) {
            return self.store_extended(addr, stride, src);
        }
        extension(dtype, ty.lane)?;
        let (size, lanes) = (dtype.size(), ty.lanes as usize);
        let width = self.width(src);
        if self.wait(addr, stride, src)? {
            return Ok(());
        }
        let mem = self.mem(addr)?;
        match stride == 1 || lanes == 1 {
            true => self.store_waiting_before(addr.param, mem, lanes * size),
            false => self.store_waiting_for(addr.param),
        }
        let packed = match self.looked_up(src).filter(|_| size == 1) {
            Some(looked) => {
                let (index, table) = (self.source(looked.index), self.mem(looked.table)?);
                let bytes = self.narrow(looked.index, index, self.index_type(looked.index), width);
                match self.single_entry(bytes, table, ty.lanes) {
                    Some(entry) => self.def(Op::Broadcast8, 16, &[entry.into()]),
                    None => self.mapped(bytes, table, vector_bytes(lanes)),
                }
            }
            None => {
                let source = self.source(src);
                self.narrow(src, source, dtype, width)
            }
        };
        if stride != 1 && lanes > 1 {
            self.scatter(packed, mem, size, stride * size as i64, lanes);
            return Ok(());
        }
        let bytes = lanes * size;
        if bytes >= 16 && bytes.is_power_of_two() {
            self.op(Op::Store, bytes, &[mem.into(), packed.into()]);
        } else if bytes.is_power_of_two() && bytes <= 8 || !self.isa.masks {
            self.store_pieces(packed, mem, bytes);
        } else {
            let mask = self.lanes_mask(lanes);
            let op = match size {
                1 => Op::StoreBytes,
                2 => Op::StoreWords,
                4 => Op::Store,
                _ => Op::StoreQuads,
            };
            self.masked(op, vector_bytes(bytes), &[mem.into(), packed.into()], Some(mask), false);
        }
        Ok(())
    }

    /// Translates a store of 32-bit lanes as numbers of 64 bits, four at a time.
    fn store_extended(&mut self, addr: &Addr, stride: i64, src: Reg) -> Result<()> {
        const SIZE: usize = 8;
        const TOGETHER: usize = 4;
        self.store_waiting_for(addr.param);
        let (mem, lanes) = (self.mem(addr)?, usize::from(self.ty(src).lanes));
        let source = self.source(src);
        for first in (0..lanes).step_by(TOGETHER) {
            let count = TOGETHER.min(lanes - first);
            let quarter = self.quarter(source, first / TOGETHER, 4 * lanes);
            let extended = self.def(Op::Pmovsxdq, vector_bytes(SIZE * count), &[quarter.into()]);
            let to = mem.offset(first as i64 * stride * SIZE as i64);
            match stride {
                1 => self.store_pieces(extended, to, SIZE * count),
                _ => self.scatter(extended, to, SIZE, stride * SIZE as i64, count),
            }
        }
        Ok(())
    }

    /// 128 bits of a vector.
    pub(super) fn quarter(&mut self, src: VReg, number: usize, bytes: usize) -> VReg {
        match (number, bytes > 32) {
            (0, _) => src,
            (_, wide) => {
                let width = if wide { 64 } else { 32 };
                self.def(Op::Extract128, width, &[src.into(), Arg::Imm(number as i64)])
            }
        }
    }

    /// The low bytes of a vector, in pieces of 32 to 1 bytes.
    pub(super) fn store_pieces(&mut self, src: VReg, mem: Mem, bytes: usize) {
        let (mut at, mut part) = (0, src);
        while at < bytes {
            if at > 0 && at % 16 == 0 {
                part = self.quarter(src, at / 16, bytes);
            }
            let piece = 1 << (bytes - at).ilog2().min(5);
            let to = mem.offset(at as i64);
            self.store_piece(part, to, piece, at % 16 / piece);
            at += piece;
        }
    }

    pub(super) fn store_piece(&mut self, part: VReg, to: Mem, size: usize, place: usize) {
        let op = match (size, place) {
            (16 | 32, _) => return self.op(Op::Store, size, &[to.into(), part.into()]),
            (8, 0) => return self.op(Op::Store64, 16, &[to.into(), part.into()]),
            (8, _) => return self.op(Op::StoreUpper64, 16, &[to.into(), part.into()]),
            (4, 0) => return self.op(Op::Store32, 16, &[to.into(), part.into()]),
            (4, _) => Op::Pextrd,
            (2, _) => Op::Pextrw,
            _ => Op::Pextrb,
        };
        self.op(op, 16, &[to.into(), part.into(), Arg::Imm(place as i64)]);
    }

    /// Packed elements to places some bytes apart.
    pub(super) fn scatter(&mut self, src: VReg, mem: Mem, size: usize, stride: i64, lanes: usize) {
        let per = 16 / size;
        let mut part = src;
        for lane in 0..lanes {
            if lane > 0 && lane % per == 0 {
                part = self.quarter(src, lane / per, lanes * size);
            }
            self.store_piece(part, mem.offset(lane as i64 * stride), size, lane % per);
        }
    }
}
