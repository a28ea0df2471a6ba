//! Loads and stores: exactly the bytes of the lanes, in as few instructions as they allow.

use super::body::{Body, Parts};
use super::places::{Extent, Place, pieces};
use super::shape::Shape;
use crate::base::DType;
use crate::error::Result;
use crate::target::Arch;
use crate::tile::{Addr, Lane, Reg, extends};
use cranelift_codegen::ir::{Endianness, InstBuilder, MemFlagsData, Type, Value, types};

/// Reinterpretation of vectors: lane order as in memory.
fn little() -> MemFlagsData {
    MemFlagsData::new().with_endianness(Endianness::Little)
}

/// Every access is in bounds, and aligned only to its element.
fn flags() -> MemFlagsData {
    MemFlagsData::new().with_notrap()
}

impl Body<'_> {
    pub fn load(&mut self, shape: Shape, addr: &Addr, stride: i64) -> Result<Parts> {
        let dtype = self.kernel.params[addr.param as usize].dtype;
        let size = dtype.size() as i64;
        let extent = Extent::new(shape.lanes, size, stride);
        let place = self.place(addr, extent)?;
        let contiguous = shape.is_scalar() || stride == 1;
        let same = stride == 0 && !shape.is_scalar();
        let wide = matches!(dtype, DType::F16 | DType::BF16);
        if wide {
            // As unsigned 16-bit integers in whole vectors, then in arithmetic.
            let ints = Shape { lane: Lane::I32, lanes: shape.lanes.max(2) };
            let raw = match (contiguous, same) {
                (true, _) => self.load_narrow(place, shape.lanes, DType::U16),
                (_, true) => self.load_same(ints, place, DType::U16),
                _ => self.gather(ints, place, DType::U16, stride * size),
            };
            let parts: Parts = raw.into_iter().map(|v| self.half_to_float(v, dtype)).collect();
            return Ok(if shape.is_scalar() { vec![self.b.ins().extractlane(parts[0], 0)] } else { parts });
        }
        Ok(match (contiguous, same) {
            _ if shape.is_scalar() => vec![self.load_element(place, dtype)],
            (true, _) if size >= 4 => self.load_whole(shape, place),
            (true, _) => self.load_narrow(place, shape.lanes, dtype),
            (_, true) => self.load_same(shape, place, dtype),
            _ => self.gather(shape, place, dtype, stride * size),
        })
    }

    pub fn load_words(&mut self, shape: Shape, addr: &Addr, stride: i64) -> Result<Parts> {
        let place = self.place(addr, Extent::words(shape.lanes, stride))?;
        Ok(match stride {
            _ if shape.is_scalar() => vec![self.load_element(place, DType::I32)],
            4 => self.load_whole(shape, place),
            0 => self.load_same(shape, place, DType::I32),
            _ => self.gather(shape, place, DType::I32, stride),
        })
    }

    /// Couples of bytes, extended to the halves of 32-bit lanes.
    pub fn load_couples(&mut self, shape: Shape, addr: &Addr) -> Result<Parts> {
        let place = self.place(addr, Extent::new(shape.lanes, 2, 1))?;
        let signed = self.kernel.params[addr.param as usize].dtype.is_signed_int();
        let mut parts = Vec::with_capacity(shape.parts());
        for first in (0..shape.lanes).step_by(8) {
            let lanes = (shape.lanes - first).min(8);
            let raw = self.load_bytes(place.plus(2 * first as i64), 2 * lanes, types::I8X16);
            let raw = self.cast(types::I8X16, raw);
            for half in self.widen(raw, signed, lanes.div_ceil(4)) {
                parts.push(self.cast(types::I32X4, half));
            }
        }
        if shape.is_scalar() {
            parts[0] = self.b.ins().extractlane(parts[0], 0);
        }
        Ok(parts)
    }

    /// Entries of a table of bytes, lane by lane.
    pub fn lookup(&mut self, shape: Shape, addr: &Addr, a: Reg) -> Result<Parts> {
        let dtype = self.kernel.params[addr.param as usize].dtype;
        let place = self.place(addr, Extent::entry())?;
        self.by_lane(shape, &[(self.shape(a), a)], |body, lane| {
            let byte = body.b.ins().band_imm_u(lane[0], 0xff);
            let byte = body.b.ins().uextend(types::I64, byte);
            let pointer = body.b.ins().iadd(place.pointer, byte);
            Ok(body.load_element(Place { pointer, ..place }, dtype))
        })
    }

    /// One element, extended as its type says (not the half floats).
    fn load_element(&mut self, place: Place, dtype: DType) -> Value {
        let (pointer, offset) = (place.pointer, place.offset as i32);
        let b = self.b.ins();
        match dtype {
            DType::F32 => b.load(types::F32, flags(), pointer, offset),
            DType::F64 => b.load(types::F64, flags(), pointer, offset),
            DType::I32 | DType::U32 => b.load(types::I32, flags(), pointer, offset),
            DType::I64 | DType::U64 => b.load(types::I64, flags(), pointer, offset),
            DType::I16 => b.sload16(types::I32, flags(), pointer, offset),
            DType::U16 => b.uload16(types::I32, flags(), pointer, offset),
            DType::I8 | DType::I4 | DType::I2 => b.sload8(types::I32, flags(), pointer, offset),
            _ => b.uload8(types::I32, flags(), pointer, offset),
        }
    }

    /// Contiguous elements of 4 or 8 bytes.
    fn load_whole(&mut self, shape: Shape, place: Place) -> Parts {
        let bytes = shape.lanes * shape.bits() as usize / 8;
        (0..shape.parts())
            .map(|part| {
                let raw = self.load_bytes(
                    place.plus(16 * part as i64),
                    (bytes - 16 * part).min(16),
                    shape.vector(),
                );
                self.cast(shape.vector(), raw)
            })
            .collect()
    }

    /// Contiguous elements of 1 or 2 bytes, extended to 32-bit lanes.
    fn load_narrow(&mut self, place: Place, lanes: usize, dtype: DType) -> Parts {
        let size = dtype.size();
        let mut parts = Vec::new();
        for first in (0..lanes).step_by(16 / size) {
            let count = (lanes - first).min(16 / size);
            let raw = self.load_bytes(place.plus((first * size) as i64), count * size, types::I8X16);
            let signed = dtype.is_signed_int();
            let halves = if size == 2 {
                vec![self.cast(types::I16X8, raw)]
            } else {
                let raw = self.cast(types::I8X16, raw);
                self.widen(raw, signed, count.div_ceil(8))
            };
            for (i, half) in halves.into_iter().enumerate() {
                let lanes = count - 8 * i;
                parts.extend(self.widen(half, signed, lanes.min(8).div_ceil(4)));
            }
        }
        parts
    }

    /// The low and, where `count` is 2, the high half of a vector, in lanes twice as wide.
    pub fn widen(&mut self, value: Value, signed: bool, count: usize) -> Parts {
        let low = if signed { self.b.ins().swiden_low(value) } else { self.b.ins().uwiden_low(value) };
        if count == 1 {
            return vec![low];
        }
        let high = if signed { self.b.ins().swiden_high(value) } else { self.b.ins().uwiden_high(value) };
        vec![low, high]
    }

    /// Exactly `bytes` (1 to 16) bytes in the low end of a vector, the rest anything.
    fn load_bytes(&mut self, place: Place, bytes: usize, whole: Type) -> Value {
        let mut vector = None;
        for (at, size) in pieces(bytes) {
            let (pointer, offset) = (place.pointer, place.offset as i32 + at as i32);
            let b = self.b.ins();
            vector = Some(match (vector, size) {
                (_, 16) => b.load(whole, flags(), pointer, offset),
                (None, 8) => {
                    let piece = b.load(types::F64, flags(), pointer, offset);
                    self.b.ins().scalar_to_vector(types::F64X2, piece)
                }
                (None, 4) => {
                    let piece = b.load(types::F32, flags(), pointer, offset);
                    self.b.ins().scalar_to_vector(types::F32X4, piece)
                }
                (None, _) => {
                    let piece = match size {
                        2 => b.uload16(types::I32, flags(), pointer, offset),
                        _ => b.uload8(types::I32, flags(), pointer, offset),
                    };
                    self.b.ins().scalar_to_vector(types::I32X4, piece)
                }
                (Some(vector), _) => {
                    let ty = int_lanes(size);
                    let piece = b.load(ty.lane_type(), flags(), pointer, offset);
                    let vector = self.cast(ty, vector);
                    self.b.ins().insertlane(vector, piece, (at / size) as u8)
                }
            });
        }
        vector.unwrap_or_else(|| self.lanes_of(types::I8X16, 0))
    }

    /// One element in every lane.
    fn load_same(&mut self, shape: Shape, place: Place, dtype: DType) -> Parts {
        let element = self.load_element(place, dtype);
        let splat = self.b.ins().splat(shape.vector(), element);
        vec![splat; shape.parts()]
    }

    /// Elements apart from each other, lane by lane.
    fn gather(&mut self, shape: Shape, place: Place, dtype: DType, stride: i64) -> Parts {
        let mut elements = Vec::with_capacity(shape.lanes);
        for lane in 0..shape.lanes as i64 {
            elements.push(self.load_element(place.plus(lane * stride), dtype));
        }
        self.assemble(shape, &elements)
    }

    /// Scalars as the lanes of a register.
    pub fn assemble(&mut self, shape: Shape, lanes: &[Value]) -> Parts {
        if shape.is_scalar() {
            return vec![lanes[0]];
        }
        let mut parts = Vec::with_capacity(shape.parts());
        for lanes in lanes.chunks(shape.per_part()) {
            let mut vector = self.b.ins().scalar_to_vector(shape.vector(), lanes[0]);
            for (i, &lane) in lanes.iter().enumerate().skip(1) {
                vector = self.b.ins().insertlane(vector, lane, i as u8);
            }
            parts.push(vector);
        }
        parts
    }

    pub fn store(&mut self, addr: &Addr, stride: i64, src: Reg) -> Result<()> {
        let shape = self.shape(src);
        let dtype = self.kernel.params[addr.param as usize].dtype;
        let size = dtype.size();
        let contiguous = shape.is_scalar() || stride == 1;
        let place = self.place(addr, self.extent(addr, src, stride))?;
        let mut parts = self.get(src);
        let mut shape = shape;
        if matches!(dtype, DType::F16 | DType::BF16) {
            if shape.is_scalar() {
                parts = vec![self.b.ins().scalar_to_vector(types::F32X4, parts[0])];
            }
            parts = parts.into_iter().map(|v| self.float_to_half(v, dtype)).collect();
            if shape.is_scalar() {
                parts = vec![self.b.ins().extractlane(parts[0], 0)];
            }
            shape.lane = Lane::I32;
        }
        if extends(dtype, shape.lane) {
            parts = match shape.is_scalar() {
                true => vec![self.b.ins().sextend(types::I64, parts[0])],
                false => parts.into_iter().flat_map(|v| self.widen(v, true, 2)).collect(),
            };
            shape.lane = Lane::I64;
        }
        match (contiguous, size) {
            _ if shape.is_scalar() => self.store_element(place, parts[0], size),
            (true, 4 | 8) => self.store_pieces(place, &parts, shape.lanes * size),
            (true, _) => {
                let packed = self.pack(&parts, size);
                self.store_pieces(place, &packed, shape.lanes * size);
            }
            _ => {
                for lane in 0..shape.lanes {
                    let part = parts[lane / shape.per_part()];
                    let element = self.b.ins().extractlane(part, (lane % shape.per_part()) as u8);
                    self.store_element(place.plus(lane as i64 * stride * size as i64), element, size);
                }
            }
        }
        Ok(())
    }

    /// The low `size` bytes of a scalar.
    fn store_element(&mut self, place: Place, value: Value, size: usize) {
        let (pointer, offset) = (place.pointer, place.offset as i32);
        match size {
            1 => self.b.ins().istore8(flags(), value, pointer, offset),
            2 => self.b.ins().istore16(flags(), value, pointer, offset),
            _ => self.b.ins().store(flags(), value, pointer, offset),
        };
    }

    /// The first `bytes` bytes of some vectors.
    fn store_pieces(&mut self, place: Place, vectors: &[Value], bytes: usize) {
        for (at, size) in pieces(bytes) {
            let vector = vectors[at / 16];
            let piece = if size == 16 {
                vector
            } else {
                let ty = match size {
                    8 => types::F64X2,
                    4 => types::F32X4,
                    _ => int_lanes(size),
                };
                let vector = self.cast(ty, vector);
                self.b.ins().extractlane(vector, (at % 16 / size) as u8)
            };
            self.b.ins().store(flags(), piece, place.pointer, place.offset as i32 + at as i32);
        }
    }

    /// The low `size` (1 or 2) bytes of each 32-bit lane, close together.
    fn pack(&mut self, parts: &[Value], size: usize) -> Parts {
        let halves = self.pack_pairs(parts, types::I32X4, 8 * size as i64);
        if size == 2 { halves } else { self.pack_pairs(&halves, types::I16X8, 8) }
    }

    /// Pairs of vectors, with the lower half of each lane of both in one. `bits` of a lane count.
    fn pack_pairs(&mut self, parts: &[Value], ty: Type, bits: i64) -> Parts {
        let pairs = parts.chunks(2).map(|pair| (pair[0], pair[pair.len() - 1]));
        pairs.map(|(a, b)| self.pack_pair(a, b, ty, bits)).collect()
    }

    fn pack_pair(&mut self, a: Value, b: Value, ty: Type, bits: i64) -> Value {
        if self.target.arch == Arch::Aarch64 {
            let lane = (ty.lane_bits() / 8) as u8;
            let mask: Vec<u8> = (0..16).map(|i| i / (lane / 2) * lane + i % (lane / 2)).collect();
            let (a, b) = (self.cast(types::I8X16, a), self.cast(types::I8X16, b));
            let packed = self.shuffle(a, b, &mask);
            return self.cast(if ty == types::I32X4 { types::I16X8 } else { types::I8X16 }, packed);
        }
        // Sign extension from the bits that count makes the saturation of `snarrow` exact.
        let shift = i64::from(ty.lane_bits()) - bits;
        let mut exact = |v| {
            if ty == types::I16X8 {
                return v;
            }
            let left = self.b.ins().ishl_imm_s(v, shift);
            self.b.ins().sshr_imm_s(left, shift)
        };
        let (a, b) = (exact(a), exact(b));
        self.b.ins().snarrow(a, b)
    }

    /// The same 16 bytes as another type.
    pub fn cast(&mut self, ty: Type, value: Value) -> Value {
        if self.b.func.dfg.value_type(value) == ty {
            value
        } else {
            self.b.ins().bitcast(ty, little(), value)
        }
    }

    /// Bytes chosen from two vectors of bytes.
    pub fn shuffle(&mut self, a: Value, b: Value, mask: &[u8]) -> Value {
        let mask = self.b.func.dfg.immediates.push(mask.into());
        self.b.ins().shuffle(a, b, mask)
    }
}

/// The vector of integers of this many bytes.
fn int_lanes(size: usize) -> Type {
    match size {
        8 => types::I64X2,
        4 => types::I32X4,
        2 => types::I16X8,
        _ => types::I8X16,
    }
}
