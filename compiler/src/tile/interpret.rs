//! Interprets a kernel: the meaning of the tile language, and the oracle of its encoders.
//!
//! Written for being right: nothing is shared with code generation, every access is checked against
//! the parameter and the buffer, computed indices against their declared limit.

mod memory;

use super::{Dot, Kernel, Lane, Reg, Stmt, Value, lanes};
use crate::base::{Affine, Bound};
use crate::error::{Error, Result};

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

fn no_operation(lane: Lane, value: &Value) -> Error {
    bug(format!("no such operation on {lane:?}: {value:?}"))
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
        match value {
            Value::Const(bits) => self.fill(dst, |_, _| *bits),
            Value::Index(form, step) => {
                let first = self.affine(form);
                let mask = if self.lane(dst) == Lane::I64 { u64::MAX } else { u64::from(u32::MAX) };
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
            Value::Un(..)
            | Value::Bin(..)
            | Value::Cmp(..)
            | Value::Mla(..)
            | Value::Select(..)
            | Value::Convert(..) => self.lane_by_lane(dst, value)?,
            Value::Dot(kind, c, a, b) => self.dot(dst, *kind, [*c, *a, *b])?,
            Value::Splat(_) | Value::Broadcast(..) | Value::Pairs(_) | Value::Reduce(..) => {
                self.across(dst, value)?;
            }
        }
        Ok(())
    }

    /// The operations of which each lane is computed from the same lane of the operands.
    fn lane_by_lane(&mut self, dst: Reg, value: &Value) -> Result<()> {
        let lane = self.lane(dst);
        let missing = || no_operation(lane, value);
        match value {
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
            Value::Mla(c, a, b) => {
                self.same_lanes(dst, &[*c, *a, *b], true)?;
                let f = lanes::mla(lane, self.kernel.fused).ok_or_else(missing)?;
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
            _ => return Err(missing()),
        }
        Ok(())
    }

    /// Adds products of bytes or couples to `c`.
    fn dot(&mut self, dst: Reg, kind: Dot, [c, a, b]: [Reg; 3]) -> Result<()> {
        self.same_lanes(dst, &[c, a, b], true)?;
        let count = self.lanes(dst);
        if self.lane(dst) != Lane::I32 || !count.is_multiple_of(lanes::together(kind)) {
            return Err(no_operation(self.lane(dst), &Value::Dot(kind, c, a, b)));
        }
        let sum = |i: usize| match kind {
            // Four lanes are two rows by two columns, of two words each.
            Dot::Squares(signs) => {
                let f = lanes::dot(signs.of_words());
                let (row, column) = (i / 2 * 2, i / 4 * 4 + i % 2 * 2);
                let first = f(self.get(c, i), self.get(a, row), self.get(b, column));
                f(first, self.get(a, row + 1), self.get(b, column + 1))
            }
            // Eight words of `b` lie as eight lower halves and eight upper ones.
            Dot::Halves | Dot::HalfPairs | Dot::CoupleHalves => {
                let half = |from: usize, i: usize| self.get(b, from + i / 2) >> (16 * (i % 2)) & 0xffff;
                let first = i / 8 * 8;
                let word = half(first, i % 8) | half(first + 4, i % 8) << 16;
                lanes::dot(kind)(self.get(c, i), self.get(a, i), word)
            }
            _ => lanes::dot(kind)(self.get(c, i), self.get(a, i), self.get(b, i)),
        };
        let sums: Vec<u64> = (0..count).map(sum).collect();
        self.fill(dst, |_, i| sums[i]);
        Ok(())
    }

    /// The operations in which lanes meet.
    fn across(&mut self, dst: Reg, value: &Value) -> Result<()> {
        let bits = match value {
            Value::Pairs(pairs) => return self.pairs(dst, pairs),
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

    /// Two lanes each of several registers, side by side.
    fn pairs(&mut self, dst: Reg, pairs: &[(Reg, u8)]) -> Result<()> {
        let lanes = |&(a, lane): &(Reg, u8)| [lane, lane + 1].map(|lane| (a, usize::from(lane)));
        let from: Vec<(Reg, usize)> = pairs.iter().flat_map(lanes).collect();
        let there = |&(a, i): &(Reg, usize)| i < self.lanes(a) && self.lane(a) == self.lane(dst);
        if from.len() != self.lanes(dst) || !from.iter().all(there) {
            return Err(bug(format!("no such lanes: {pairs:?}")));
        }
        let all: Vec<u64> = from.into_iter().map(|(a, i)| self.get(a, i)).collect();
        self.fill(dst, |_, i| all[i]);
        Ok(())
    }
}
