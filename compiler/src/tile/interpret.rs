//! Interprets a kernel: the meaning of the tile language, and the oracle of its encoders.
//!
//! Written for being right: nothing is shared with code generation, every access is checked against
//! the parameter and the buffer, computed indices against their declared limit.

use super::{
    Access, Addr, Dot, Kernel, Lane, Reg, Stmt, TABLE, Value, extends, has_words, lanes, words_span,
};
use crate::base::{Affine, Bound, DType};
use crate::error::{Error, Result};
use half::{bf16, f16};

/// Runs a kernel on one buffer per parameter (at least `elems` little-endian elements each).
/// Returns 0, or the error code of the `Fail` that ended it. An error where the kernel does what
/// the verifier forbids: access outside, operand types that do not fit, an index beyond its limit.
pub fn interpret(kernel: &Kernel, buffers: &mut [Vec<u8>]) -> Result<i32> {
    let places: Vec<(usize, usize)> = (0..buffers.len()).map(|i| (i, 0)).collect();
    interpret_in(kernel, buffers, &places)
}

/// The same where each parameter begins somewhere in one of several memories: its number, and bytes from its
/// start. Parameters may share bytes.
pub fn interpret_in(kernel: &Kernel, memory: &mut [Vec<u8>], places: &[(usize, usize)]) -> Result<i32> {
    let mut run = || -> Result<i32> {
        if places.len() != kernel.params.len() {
            return Err(bug(format!("{} buffers for {} parameters", places.len(), kernel.params.len())));
        }
        for (param, &(number, start)) in kernel.params.iter().zip(places) {
            let bytes = memory.get(number).map_or(0, |m| m.len().saturating_sub(start));
            if bytes < param.elems * param.dtype.size() {
                return Err(bug(format!("the buffer of '{}' has only {bytes} bytes", param.name)));
            }
        }
        let mut place = Vec::with_capacity(kernel.regs.len());
        let mut size = 0;
        for ty in &kernel.regs {
            place.push(size);
            size += usize::from(ty.lanes);
        }
        let vars = vec![0; kernel.vars.len()];
        let mut machine = Machine { kernel, memory, places, place, bits: vec![0; size], vars };
        Ok(match machine.run(&kernel.body)? {
            Flow::Fail(code) => code,
            Flow::Next | Flow::Break => 0,
        })
    };
    run().map_err(|e| e.at(kernel.name.clone()))
}

fn bug(reason: impl Into<String>) -> Error {
    Error::bug(reason)
}

/// How a list of statements ended.
enum Flow {
    Next,
    Break,
    Fail(i32),
}

struct Machine<'a> {
    kernel: &'a Kernel,
    memory: &'a mut [Vec<u8>],
    /// Where each parameter begins: the memory's number, and bytes from its start.
    places: &'a [(usize, usize)],
    /// Where in `bits` a register begins.
    place: Vec<usize>,
    /// The lanes of all registers, 32-bit ones zero-extended.
    bits: Vec<u64>,
    /// The values of the loop variables.
    vars: Vec<i64>,
}

impl Machine<'_> {
    fn run(&mut self, body: &[Stmt]) -> Result<Flow> {
        for stmt in body {
            match self.step(stmt)? {
                Flow::Next => {}
                flow => return Ok(flow),
            }
        }
        Ok(Flow::Next)
    }

    fn step(&mut self, stmt: &Stmt) -> Result<Flow> {
        match stmt {
            Stmt::Let(dst, value) => self.assign(*dst, value)?,
            Stmt::Store { addr, stride, src } => self.store(addr, *stride, *src)?,
            Stmt::For { var, lo, hi, step, body } => {
                let (mut at, end) = (self.bound(lo, true), self.bound(hi, false));
                if *step <= 0 {
                    return Err(bug("a loop's step must be positive"));
                }
                while at < end {
                    self.vars[*var as usize] = at;
                    match self.run(body)? {
                        Flow::Next => at += step,
                        flow => return Ok(flow),
                    }
                }
            }
            Stmt::Size { var, from, max, body } => {
                let value = self.number(from)?;
                if !(0..=*max).contains(&value) {
                    return Err(bug(format!("the size {value} is not in 0..={max}")));
                }
                self.vars[*var as usize] = value;
                return self.run(body);
            }
            Stmt::If { cond, then, otherwise } => {
                return self.run(if self.truth(*cond)? { then } else { otherwise });
            }
            Stmt::Loop { body } => loop {
                match self.run(body)? {
                    Flow::Next => {}
                    Flow::Break => break,
                    fail => return Ok(fail),
                }
            },
            Stmt::Break { cond } if self.truth(*cond)? => return Ok(Flow::Break),
            Stmt::Fail { cond, code } if self.truth(*cond)? => return Ok(Flow::Fail(*code)),
            Stmt::Break { .. } | Stmt::Fail { .. } => {}
        }
        Ok(Flow::Next)
    }

    fn affine(&self, form: &Affine) -> i64 {
        form.eval(|v| self.vars[v as usize])
    }

    fn bound(&self, bound: &Bound, largest: bool) -> i64 {
        let values = bound.0.iter().map(|f| self.affine(f));
        let chosen = if largest { values.max() } else { values.min() };
        chosen.expect("a bound has a form")
    }

    fn lane(&self, reg: Reg) -> Lane {
        self.kernel.regs[reg as usize].lane
    }

    fn lanes(&self, reg: Reg) -> usize {
        usize::from(self.kernel.regs[reg as usize].lanes)
    }

    fn get(&self, reg: Reg, lane: usize) -> u64 {
        self.bits[self.place[reg as usize] + lane]
    }

    fn scalar(&self, reg: Reg) -> Result<u64> {
        match self.lanes(reg) {
            1 => Ok(self.get(reg, 0)),
            n => Err(bug(format!("%{reg} has {n} lanes where a scalar is needed"))),
        }
    }

    fn truth(&self, reg: Reg) -> Result<bool> {
        Ok(self.scalar(reg)? != 0)
    }

    /// Sets every lane, from its number. A lane may read the same lane of `dst`.
    fn fill(&mut self, dst: Reg, value: impl Fn(&Self, usize) -> u64) {
        for lane in 0..self.lanes(dst) {
            let bits = value(self, lane);
            self.bits[self.place[dst as usize] + lane] = bits;
        }
    }

    /// Operands must have the type of the first register, unless their lane type differs by rule.
    fn same_lanes(&self, dst: Reg, sources: &[Reg], whole_type: bool) -> Result<()> {
        let ty = self.kernel.regs[dst as usize];
        let fits = |r: &Reg| {
            let other = self.kernel.regs[*r as usize];
            if whole_type { other == ty } else { other.lanes == ty.lanes }
        };
        if sources.iter().all(fits) {
            return Ok(());
        }
        Err(bug(format!("the types of the operands {sources:?} do not fit %{dst}")))
    }

    fn assign(&mut self, dst: Reg, value: &Value) -> Result<()> {
        let lane = self.lane(dst);
        let missing = || bug(format!("no such operation on {lane:?}: {value:?}"));
        match value {
            Value::Const(bits) => self.fill(dst, |_, _| *bits),
            Value::Index(form, step) => {
                let first = self.affine(form);
                let mask = if lane == Lane::I64 { u64::MAX } else { u64::from(u32::MAX) };
                self.fill(dst, |_, i| first.wrapping_add(step.wrapping_mul(i as i64)) as u64 & mask);
            }
            Value::Copy(a) => {
                self.same_lanes(dst, &[*a], true)?;
                self.fill(dst, |m, i| m.get(*a, i));
            }
            Value::Load(addr, stride) => self.load(dst, addr, *stride)?,
            Value::LoadWords(addr, stride) => self.load_words(dst, addr, *stride)?,
            Value::LoadCouples(addr) => self.load_couples(dst, addr)?,
            Value::Lookup(addr, a) => {
                self.same_lanes(dst, &[*a], true)?;
                self.lookup(dst, addr, *a)?;
            }
            Value::Un(op, a) => {
                self.same_lanes(dst, &[*a], true)?;
                let f = lanes::un(*op, lane).ok_or_else(missing)?;
                self.fill(dst, |m, i| f(m.get(*a, i)));
            }
            Value::Bin(op, a, b) => {
                self.same_lanes(dst, &[*a, *b], true)?;
                let f = lanes::bin(*op, lane).ok_or_else(missing)?;
                self.fill(dst, |m, i| f(m.get(*a, i), m.get(*b, i)));
            }
            Value::Cmp(op, a, b) => {
                self.same_lanes(dst, &[*a, *b], false)?;
                self.same_lanes(*a, &[*b], true)?;
                let f = lanes::cmp(*op, self.lane(*a)).ok_or_else(missing)?;
                self.fill(dst, |m, i| f(m.get(*a, i), m.get(*b, i)));
            }
            Value::Dot(Dot::Squares(signs), c, a, b) => {
                self.same_lanes(dst, &[*c, *a, *b], true)?;
                if lane != Lane::I32 || !self.lanes(dst).is_multiple_of(4) {
                    return Err(missing());
                }
                let f = lanes::dot(signs.of_words());
                let sums = (0..self.lanes(dst)).map(|i| {
                    let (row, column) = (i / 2 * 2, i / 4 * 4 + i % 2 * 2);
                    let first = f(self.get(*c, i), self.get(*a, row), self.get(*b, column));
                    f(first, self.get(*a, row + 1), self.get(*b, column + 1))
                });
                let sums: Vec<u64> = sums.collect();
                self.fill(dst, |_, i| sums[i]);
            }
            Value::Dot(kind @ (Dot::Halves | Dot::HalfPairs | Dot::CoupleHalves), c, a, b) => {
                self.same_lanes(dst, &[*c, *a, *b], true)?;
                if lane != Lane::I32 || !self.lanes(dst).is_multiple_of(8) {
                    return Err(missing());
                }
                let half = |from: usize, i: usize| self.get(*b, from + i / 2) >> (16 * (i % 2)) & 0xffff;
                let sums = (0..self.lanes(dst)).map(|i| {
                    let first = i / 8 * 8;
                    let word = half(first, i % 8) | half(first + 4, i % 8) << 16;
                    lanes::dot(*kind)(self.get(*c, i), self.get(*a, i), word)
                });
                let sums: Vec<u64> = sums.collect();
                self.fill(dst, |_, i| sums[i]);
            }
            Value::Mla(c, a, b) | Value::Dot(_, c, a, b) => {
                self.same_lanes(dst, &[*c, *a, *b], true)?;
                let f = match value {
                    Value::Dot(kind, ..) if lane == Lane::I32 => Some(lanes::dot(*kind)),
                    Value::Dot(..) => None,
                    _ => lanes::mla(lane, self.kernel.fused),
                };
                let f = f.ok_or_else(missing)?;
                self.fill(dst, |m, i| f(m.get(*c, i), m.get(*a, i), m.get(*b, i)));
            }
            Value::Select(mask, a, b) => {
                self.same_lanes(dst, &[*a, *b], true)?;
                self.same_lanes(dst, &[*mask], false)?;
                self.fill(dst, |m, i| if m.get(*mask, i) != 0 { m.get(*a, i) } else { m.get(*b, i) });
            }
            Value::Convert(kind, a) => {
                self.same_lanes(dst, &[*a], false)?;
                let from = self.lane(*a);
                lanes::convert(*kind, from, lane, 0).ok_or_else(missing)?;
                self.fill(dst, |m, i| lanes::convert(*kind, from, lane, m.get(*a, i)).unwrap_or(0));
            }
            Value::Pairs(pairs) => {
                let lanes = |&(a, lane): &(Reg, u8)| [lane, lane + 1].map(|lane| (a, usize::from(lane)));
                let from: Vec<(Reg, usize)> = pairs.iter().flat_map(lanes).collect();
                let there = |&(a, i): &(Reg, usize)| i < self.lanes(a) && self.lane(a) == lane;
                if from.len() != self.lanes(dst) || !from.iter().all(there) {
                    return Err(bug(format!("no such lanes: {value:?}")));
                }
                let all: Vec<u64> = from.into_iter().map(|(a, i)| self.get(a, i)).collect();
                self.fill(dst, |_, i| all[i]);
            }
            Value::Splat(_) | Value::Broadcast(..) | Value::Reduce(..) => self.across(dst, value)?,
        }
        Ok(())
    }

    /// The operations in which lanes meet.
    fn across(&mut self, dst: Reg, value: &Value) -> Result<()> {
        let bits = match value {
            Value::Splat(a) => self.scalar(*a)?,
            Value::Broadcast(a, i) if usize::from(*i) < self.lanes(*a) => self.get(*a, usize::from(*i)),
            Value::Reduce(fold, a) => {
                let (f, identity) = lanes::fold(*fold, self.lane(*a))
                    .ok_or_else(|| bug(format!("no {} of %{a}", fold.name())))?;
                let mut all: Vec<u64> = (0..self.lanes(*a)).map(|i| self.get(*a, i)).collect();
                all.resize(all.len().next_power_of_two(), identity);
                while all.len() > 1 {
                    let upper = all.split_off(all.len() / 2);
                    all.iter_mut().zip(upper).for_each(|(x, y)| *x = f(*x, y));
                }
                all[0]
            }
            _ => return Err(bug(format!("no such lane: {value:?}"))),
        };
        self.fill(dst, |_, _| bits);
        Ok(())
    }

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
    fn number(&self, from: &Addr) -> Result<i64> {
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

    fn load(&mut self, dst: Reg, addr: &Addr, stride: i64) -> Result<()> {
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

    fn load_words(&mut self, dst: Reg, addr: &Addr, stride: i64) -> Result<()> {
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

    fn load_couples(&mut self, dst: Reg, addr: &Addr) -> Result<()> {
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

    fn lookup(&mut self, dst: Reg, addr: &Addr, a: Reg) -> Result<()> {
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

    fn store(&mut self, addr: &Addr, stride: i64, src: Reg) -> Result<()> {
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
