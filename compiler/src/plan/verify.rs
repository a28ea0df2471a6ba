//! Proves that a program touches only its own memory, before machine code is made of it.
//!
//! 1. Kernels, inputs, outputs and constants that steps name exist; a call has one argument per
//!    parameter; kernels have names of their own.
//! 2. In every iteration of the loops around, an argument lies inside its buffer and is aligned to its
//!    elements. There is no stride without a loop.
//! 3. Inputs and constants are only read. What is read of the arena was written before.
//! 4. What a call writes overlaps none of its other arguments, unless both begin at one address (in
//!    place), or whatever bytes it has written it reads no more.
//! 5. The arena is no smaller than its bound; alignments are powers of two.
//!
//! That no two buffers of the arena live at once overlap, unless one is written behind the other, is proved where
//! they are placed ([`super::arena`]). Goldens: `tests/golden/plan`, those named `bad_*` must fail.

use super::text::argument;
use super::{Arg, Base, Program, Step};
use crate::error::{Error, Result};
use crate::tile::{Access, Kernel, Param, Piece, hull, interleaved, pieces};
use std::ops::Range;

type Check = std::result::Result<(), String>;

/// An internal error where a program breaks one of the invariants; it names the guilty call.
pub fn verify(program: &Program) -> Result<()> {
    let mut checker = Checker { program, counts: Vec::new(), written: Vec::new() };
    (checker.head().and_then(|()| checker.steps(&program.steps)))
        .map_err(|reason| Error::bug(reason).at(format!("program {}", program.name)))
}

fn require(holds: bool, reason: impl FnOnce() -> String) -> Check {
    if holds { Ok(()) } else { Err(reason()) }
}

struct Checker<'a> {
    program: &'a Program,
    /// Iterations of the loops around.
    counts: Vec<u64>,
    /// Parts of the arena that hold something: disjoint, sorted.
    written: Vec<(i64, i64)>,
}

impl Checker<'_> {
    fn head(&self) -> Check {
        let p = self.program;
        let aligns = p.constants.iter().map(|c| c.align).chain([p.arena_align]);
        for align in aligns {
            require(align.is_power_of_two(), || format!("alignment {align} is no power of two"))?;
        }
        require(p.arena_bytes >= p.arena_bound, || {
            format!("the arena has {} bytes, {} are live at once", p.arena_bytes, p.arena_bound)
        })?;
        for (i, kernel) in p.kernels.iter().enumerate() {
            let twice = p.kernels[..i].iter().any(|k| k.name == kernel.name);
            require(!twice, || format!("two kernels are named '{}'", kernel.name))?;
        }
        Ok(())
    }

    fn steps(&mut self, steps: &[Step]) -> Check {
        steps.iter().try_for_each(|step| match step {
            Step::Call { kernel, args } => self.call(*kernel, args),
            Step::Repeat { count, trip, cond, body } => {
                trip.iter().try_for_each(|t| self.number(t, 8))?;
                cond.iter().try_for_each(|c| self.number(c, 1))?;
                self.counts.push(*count);
                self.steps(body)?;
                self.counts.pop();
                Ok(())
            }
            Step::If { cond, then, otherwise } => {
                self.number(cond, 1)?;
                self.steps(then)?;
                self.steps(otherwise)
            }
        })
    }

    /// A number that the program itself reads.
    fn number(&self, arg: &Arg, bytes: usize) -> Check {
        self.inside(arg, bytes, bytes)
    }

    fn call(&mut self, kernel: u32, args: &[Arg]) -> Check {
        let Some(kernel) = self.program.kernels.get(kernel as usize) else {
            return Err(format!("there is no kernel {kernel}"));
        };
        require(kernel.params.len() == args.len(), || {
            format!("'{}' has {} parameters, not {}", kernel.name, kernel.params.len(), args.len())
        })?;
        let pairs: Vec<(&Arg, &Param)> = args.iter().zip(&kernel.params).collect();
        let about = |arg: &Arg, reason: String| format!("call {}, {}: {reason}", kernel.name, argument(arg));
        for &(arg, param) in &pairs {
            let in_place = pairs.iter().any(|(other, p)| p.access == Access::Write && one_place(arg, other));
            self.argument(arg, param, in_place).map_err(|reason| about(arg, reason))?;
        }
        for &(arg, param) in pairs.iter().filter(|p| p.1.access != Access::Read) {
            let place =
                |of: &Arg| (args.iter().position(|a| std::ptr::eq(a, of)).unwrap_or_default(), of.offset);
            let clash = pairs.iter().find(|(other, p)| {
                let meets = !std::ptr::eq(*other, arg) && meet((arg, param), (other, p));
                meets
                    && !trails(kernel, place(arg), place(other))
                    && !interleaved(kernel, place(arg), place(other))
            });
            require(clash.is_none(), || about(arg, "overlaps another argument".to_string()))?;
        }
        for (arg, param) in pairs.iter().filter(|p| p.1.access != Access::Read && p.0.base == Base::Arena) {
            let range = self.range(arg, bytes(param));
            self.write(range);
        }
        Ok(())
    }

    /// `in_place`: what the call writes begins there too, and may lie before or behind what it reads.
    fn argument(&self, arg: &Arg, param: &Param, in_place: bool) -> Check {
        self.inside(arg, bytes(param), param.dtype.size())?;
        let constant = matches!(arg.base, Base::Input(_) | Base::Constant(_));
        require(!constant || param.access == Access::Read, || "is written".to_string())?;
        let (lo, hi) = self.range(arg, bytes(param));
        // Parts of a tensor that lie between its first and last elements may be written later.
        let known = |at: i64| self.written.iter().any(|w| w.0 <= at && at < w.1);
        let (first, last) = (known(lo), known(hi.max(lo + 1) - 1));
        let known = if in_place { first || last } else { first && last };
        let read = arg.base == Base::Arena && param.access == Access::Read && hi > lo;
        require(!read || known, || "nothing has been written there".to_string())
    }

    fn inside(&self, arg: &Arg, bytes: usize, align: usize) -> Check {
        let p = self.program;
        let size = match arg.base {
            Base::Input(i) => p.inputs.get(i as usize).map(|i| i.ty.bytes()),
            Base::Output(i) => p.outputs.get(i as usize).map(|o| o.ty.bytes()),
            Base::Constant(i) => p.constants.get(i as usize).map(|c| c.bytes.len()),
            Base::Arena => Some(p.arena_bytes),
            Base::Symbols => Some(8 * p.symbols.len()),
        };
        let size = size.ok_or("the buffer does not exist")?;
        require(arg.strides.len() <= self.counts.len(), || "a stride without a loop".to_string())?;
        let (lo, hi) = self.range(arg, bytes);
        require(lo >= 0 && hi <= size as i64, || format!("bytes {lo}..{hi} of a buffer of {size}"))?;
        let steps = arg.strides.iter().map(|s| s.unsigned_abs() as usize).chain([arg.offset]);
        require(steps.into_iter().all(|s| s % align == 0), || format!("is not aligned to {align}"))
    }

    /// The bytes that an argument of this size covers in all iterations.
    fn range(&self, arg: &Arg, bytes: usize) -> (i64, i64) {
        let moves = arg.strides.iter().zip(&self.counts).map(|(s, &n)| s * (n as i64 - 1).max(0));
        let (least, most) = moves.fold((0, 0), |(lo, hi), m| (lo + m.min(0), hi + m.max(0)));
        (arg.offset as i64 + least, arg.offset as i64 + most + bytes as i64)
    }

    fn write(&mut self, (mut lo, mut hi): (i64, i64)) {
        self.written.retain(|w| {
            let apart = w.1 < lo || hi < w.0;
            if !apart {
                (lo, hi) = (lo.min(w.0), hi.max(w.1));
            }
            apart
        });
        let at = self.written.partition_point(|w| w.0 < lo);
        self.written.insert(at, (lo, hi));
    }
}

fn bytes(param: &Param) -> usize {
    param.elems * param.dtype.size()
}

/// Whether two arguments share bytes without being the same place.
fn meet((a, p): (&Arg, &Param), (b, q): (&Arg, &Param)) -> bool {
    let apart = a.offset + bytes(p) <= b.offset || b.offset + bytes(q) <= a.offset;
    a.base == b.base && a.strides == b.strides && !one_place(a, b) && !apart
}

/// Whether a call, piece by piece, reaches nothing of one argument that it or the piece before may have reached of
/// the other one: numbers and places of both.
fn trails(kernel: &Kernel, new: (usize, usize), old: (usize, usize)) -> bool {
    let pieces = pieces(kernel);
    let reached = |(param, offset): (usize, usize), piece: &Piece| {
        let Range { start, end } = piece[param];
        start + offset as i64..end + offset as i64
    };
    let mut written = 0..0;
    (0..pieces.len()).all(|i| {
        let mixed = &pieces[i..pieces.len().min(i + 2)];
        mixed.iter().for_each(|piece| written = hull(&written, &reached(new, piece)));
        let read = reached(old, &pieces[i]);
        read.is_empty() || written.is_empty() || written.end <= read.start || read.end <= written.start
    })
}

fn one_place(a: &Arg, b: &Arg) -> bool {
    a.base == b.base && a.offset == b.offset && a.strides == b.strides
}
