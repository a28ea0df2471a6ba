//! Loads and stores of the interpreter: each is checked against the parameter and its declared access, and elements
//! become lanes and back as `docs/ir.md` says.

use super::{Machine, bug};
use crate::base::DType;
use crate::error::Result;
use crate::tile::{Access, Addr, Lane, Reg, TABLE, extends, has_words, words_span};
use half::{bf16, f16};

impl Machine<'_> {
    /// The element index of lane 0, after checking that all elements touched lie inside; the
    /// element of lane `i` is `step * i` further, each `span` elements long.
    fn locate(&self, addr: &Addr, lanes: usize, step: i64, span: i64, access: Access) -> Result<i64> {
        let param = &self.kernel.params[addr.param as usize];
        if param.access != access && param.access != Access::ReadWrite {
            return Err(bug(format!("'{}' is not declared for this access", param.name)));
        }
        let mut first = self.affine(&addr.index);
        if let Some((reg, limit)) = addr.dynamic {
            let value = self.scalar(reg)? as i64;
            if value < 0 || value as u64 > limit as u64 {
                return Err(bug(format!(
                    "the index {value} into '{}' exceeds its limit {limit}",
                    param.name
                )));
            }
            first += value;
        }
        let last = first + step * (lanes as i64 - 1);
        let (low, high) = (first.min(last), first.max(last) + span);
        if low < 0 || high > param.elems as i64 {
            return Err(bug(format!(
                "access to the elements {low}..{high} of '{}', which has {}",
                param.name, param.elems
            )));
        }
        Ok(first)
    }

    /// A number in memory, as it is stored.
    pub(super) fn number(&self, from: &Addr) -> Result<i64> {
        let first = self.locate(from, 1, 1, 1, Access::Read)?;
        let dtype = self.kernel.params[from.param as usize].dtype;
        let buffer =
            &from_place(self.memory, self.places[from.param as usize])[dtype.size() * first as usize..];
        match dtype {
            DType::I64 => Ok(i64::from_le_bytes(bytes(buffer))),
            DType::I32 => Ok(i32::from_le_bytes(bytes(buffer)).into()),
            _ => Err(bug(format!("a size is no {dtype}"))),
        }
    }

    pub(super) fn load(&mut self, dst: Reg, addr: &Addr, stride: i64) -> Result<()> {
        let lanes = self.lanes(dst);
        let first = self.locate(addr, lanes, stride, 1, Access::Read)?;
        let dtype = self.kernel.params[addr.param as usize].dtype;
        let lane = self.lane(dst);
        if !lane.holds(dtype) {
            return Err(bug(format!("%{dst} cannot hold {dtype}")));
        }
        let read = reader(in_memory(dtype, lane));
        let size = dtype.size() as i64;
        let buffer = from_place(self.memory, self.places[addr.param as usize]);
        let place = self.place[dst as usize];
        for (i, bits) in self.bits[place..place + lanes].iter_mut().enumerate() {
            *bits = read(&buffer[(size * (first + stride * i as i64)) as usize..]);
        }
        Ok(())
    }

    pub(super) fn load_words(&mut self, dst: Reg, addr: &Addr, stride: i64) -> Result<()> {
        let lanes = self.lanes(dst);
        let dtype = self.kernel.params[addr.param as usize].dtype;
        let size = dtype.size();
        let (step, span) = words_span(lanes, stride, size);
        let first = self.locate(addr, lanes, step, span, Access::Read)? * size as i64;
        if !has_words(size, stride) || self.lane(dst) != Lane::I32 {
            return Err(bug(format!("words of {dtype} cannot be loaded into %{dst}")));
        }
        let place = self.place[dst as usize];
        let buffer = from_place(self.memory, self.places[addr.param as usize]);
        for (i, bits) in self.bits[place..place + lanes].iter_mut().enumerate() {
            *bits = u64::from(u32::from_le_bytes(bytes(&buffer[(first + stride * i as i64) as usize..])));
        }
        Ok(())
    }

    pub(super) fn load_couples(&mut self, dst: Reg, addr: &Addr) -> Result<()> {
        let lanes = self.lanes(dst);
        let first = self.locate(addr, lanes, 2, 2, Access::Read)? as usize;
        let dtype = self.kernel.params[addr.param as usize].dtype;
        if dtype.size() != 1 || self.lane(dst) != Lane::I32 {
            return Err(bug(format!("couples of {dtype} cannot be loaded into %{dst}")));
        }
        let read = reader(dtype);
        let place = self.place[dst as usize];
        let couples = from_place(self.memory, self.places[addr.param as usize])[first..].chunks_exact(2);
        for (bits, couple) in self.bits[place..place + lanes].iter_mut().zip(couples) {
            *bits = read(couple) & 0xffff | (read(&couple[1..]) & 0xffff) << 16;
        }
        Ok(())
    }

    pub(super) fn lookup(&mut self, dst: Reg, addr: &Addr, a: Reg) -> Result<()> {
        let first = self.locate(addr, 1, 0, TABLE as i64, Access::Read)? as usize;
        let dtype = self.kernel.params[addr.param as usize].dtype;
        if dtype.size() != 1 || self.lane(dst) != Lane::I32 {
            return Err(bug(format!("a table of {dtype} has no entries for %{dst}")));
        }
        let read = reader(dtype);
        let place = self.places[addr.param as usize];
        let entry = |m: &Self, i| read(&from_place(m.memory, place)[first + (m.get(a, i) & 0xff) as usize..]);
        self.fill(dst, entry);
        Ok(())
    }

    pub(super) fn store(&mut self, addr: &Addr, stride: i64, src: Reg) -> Result<()> {
        let lanes = self.lanes(src);
        let first = self.locate(addr, lanes, stride, 1, Access::Write)?;
        let dtype = self.kernel.params[addr.param as usize].dtype;
        let lane = self.lane(src);
        let wider = extends(dtype, lane);
        if !lane.holds(dtype) && !wider {
            return Err(bug(format!("%{src} cannot be stored as {dtype}")));
        }
        let size = dtype.size();
        for i in 0..lanes {
            let at = size * (first + stride * i as i64) as usize;
            let bits = self.get(src, i);
            let element = match wider {
                true => i64::from(bits as i32) as u64,
                false => narrow(in_memory(dtype, lane), bits),
            };
            let element = element.to_le_bytes();
            let (number, start) = self.places[addr.param as usize];
            self.memory[number][start + at..start + at + size].copy_from_slice(&element[..size]);
        }
        Ok(())
    }
}

/// The bytes of a memory from a place on.
fn from_place(memory: &[Vec<u8>], (number, start): (usize, usize)) -> &[u8] {
    &memory[number][start..]
}

fn bytes<const N: usize>(memory: &[u8]) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&memory[..N]);
    bytes
}

/// The type by which an element becomes a lane: half floats in lanes of their own stay the bits they are.
fn in_memory(dtype: DType, lane: Lane) -> DType {
    if lane == Lane::F16 { DType::U16 } else { dtype }
}

/// Reads one element at the beginning of `memory` into the bits of its lane.
fn reader(dtype: DType) -> fn(&[u8]) -> u64 {
    match dtype {
        DType::I8 | DType::I4 | DType::I2 => |m| u64::from(i32::from(m[0] as i8) as u32),
        DType::I16 => |m| u64::from(i32::from(i16::from_le_bytes(bytes(m))) as u32),
        DType::U16 => |m| u64::from(u16::from_le_bytes(bytes(m))),
        DType::F16 => |m| u64::from(f16::from_le_bytes(bytes(m)).to_f32().to_bits()),
        DType::BF16 => |m| u64::from(bf16::from_le_bytes(bytes(m)).to_f32().to_bits()),
        DType::F32 | DType::I32 | DType::U32 => |m| u64::from(u32::from_le_bytes(bytes(m))),
        DType::F64 | DType::I64 | DType::U64 => |m| u64::from_le_bytes(bytes(m)),
        _ => |m| u64::from(m[0]),
    }
}

/// The bits of a lane as an element in memory: the low bytes of the result.
fn narrow(dtype: DType, bits: u64) -> u64 {
    match dtype {
        DType::F16 => u64::from(f16::from_f32(f32::from_bits(bits as u32)).to_bits()),
        DType::BF16 => u64::from(bf16::from_f32(f32::from_bits(bits as u32)).to_bits()),
        _ => bits,
    }
}
