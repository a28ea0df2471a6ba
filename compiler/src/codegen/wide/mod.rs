//! Tile kernels to x86_64 machine code with 256- and 512-bit vectors.
//!
//! Cranelift has no vectors over 128 bits; this encoder writes the machine code itself, for AVX2 with
//! FMA and for AVX-512, as position-independent bytes with their constants behind them. What it
//! does not take ([`supports`] says why), Cranelift does.
//!
//! The order of statements is the kernel's, but for what waits for products (`late`). What is added: running
//! pointers and counters (`loops`), loads as memory operands (`fold`), registers (`allocate`, `spill`), encodings
//! (`emit`).

mod across;
mod ahead;
mod alike;
mod allocate;
mod control;
mod convert;
mod dot;
mod emit;
mod fold;
mod halved;
mod inst;
mod late;
mod longs;
mod loops;
mod memory;
mod moves;
mod narrow;
mod pool;
mod reduce;
mod rows;
mod select;
mod spill;
mod state;
mod table;
mod together;
mod turned;
mod value;
mod weave;

use super::allocate::allocate;
pub use alike::Shared;

use super::{Code, flatten, once};
use crate::target::{Arch, Feature, Target};
use crate::tile::{Addr, Kernel, Lane, Value, visit};
use allocate::Allocation;

/// Bytes of a vector that Cranelift has as well.
const SHORT: usize = 16;

/// The result of a step, or why the encoder does not take the kernel.
type Result<T> = std::result::Result<T, String>;

/// What instructions there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Isa {
    /// AVX-512: 32 registers of 64 bytes, masks, embedded broadcast. Otherwise AVX2 with FMA.
    masks: bool,
    /// `vpermi2b`.
    permutes_bytes: bool,
    /// `vpdpbusd`.
    dot: bool,
    /// `vpdpbusd` in its VEX form.
    vex_dot: bool,
    /// Two multiply-adds of 512 bits begin each cycle.
    twice: bool,
    /// `vfmadd231ph`.
    halves: bool,
}

impl Isa {
    fn of(target: &Target) -> Result<Isa> {
        let has = |f| target.has(f);
        if target.arch != Arch::X86_64 || !has(Feature::Avx2) || !has(Feature::Fma) {
            return Err("the target has no AVX2 with FMA".into());
        }
        let masks = has(Feature::Avx512);
        let vex_dot = has(Feature::AvxVnni);
        let permutes_bytes = masks && has(Feature::Avx512Vbmi);
        let dot = vex_dot || (masks && has(Feature::Avx512Vnni));
        let twice = has(Feature::Avx512Twice);
        let halves = masks && has(Feature::Avx512Fp16);
        Ok(Isa { masks, permutes_bytes, dot, vex_dot, twice, halves })
    }

    /// Bytes of a vector register.
    fn vector_bytes(self) -> usize {
        if self.masks { 64 } else { 32 }
    }

    /// What a displacement of one byte counts, in an access to so many bytes.
    fn displacement_unit(self, bytes: i64) -> i64 {
        if self.masks { bytes.clamp(1, 64) } else { 1 }
    }

    /// Whether a displacement takes four bytes in an access to so many.
    fn long_displacement(self, disp: i64, bytes: i64) -> bool {
        let unit = self.displacement_unit(bytes);
        i8::try_from(disp).is_err() && (disp % unit != 0 || i8::try_from(disp / unit).is_err())
    }
}

fn select(kernel: &Kernel, isa: Isa, alike: bool) -> Result<inst::Function> {
    if !isa.halves && kernel.regs.iter().any(|t| t.lane == Lane::F16) {
        return Err("lanes of half floats".into());
    }
    let moved = moves::moves(kernel);
    let kernel = moved.as_ref().unwrap_or(kernel);
    let halved = match isa.halves {
        true => halved::halved(kernel, isa.vector_bytes())?,
        false => None,
    };
    let whole = halved::Parts::new();
    let (kernel, parts) = halved.as_ref().map_or((kernel, &whole), |h| (&h.kernel, &h.parts));
    let fits = |t: &crate::tile::RegType| inst::lane_size(t.lane) * t.lanes as usize <= isa.vector_bytes();
    if !kernel.regs.iter().all(fits) {
        return Err("a register is wider than the target's".into());
    }
    if walks(kernel) {
        return Err(
            "where it reads follows from what it has read, step by step, through vector registers".into()
        );
    }
    let mut function = select::Select::run((kernel, parts), isa, alike)?;
    fold::drop_unused(&mut function);
    fold::share(&mut function, isa);
    fold::fold(&mut function, isa);
    once::hoist(&mut Allocation { f: &mut function, isa });
    Ok(function)
}

/// Whether numbers alone, or short vectors, are read at places that are computed from numbers read at computed places.
fn walks(kernel: &Kernel) -> bool {
    if kernel.regs.iter().any(|t| inst::lane_size(t.lane) * t.lanes as usize > SHORT) {
        return false;
    }
    let index = |value: &Value| match value {
        Value::Load(Addr { dynamic: Some((at, _)), .. }, _) => Some(*at),
        _ => None,
    };
    let mut follows = vec![false; kernel.regs.len()];
    let (mut changed, mut found) = (true, false);
    while changed {
        changed = false;
        visit::each_let(&kernel.body, &mut |reg, value| {
            let mut from = index(value).is_some();
            found |= index(value).is_some_and(|at| follows[at as usize]);
            // What is only compared says which way, not where.
            if !matches!(value, Value::Cmp(..)) {
                visit::read(value, &mut |reg| from |= follows[reg as usize]);
            }
            let known = &mut follows[reg as usize];
            changed |= from && !*known;
            *known |= from;
        });
    }
    found
}

/// Whether the encoder takes a kernel for a target; the reason where it does not.
pub fn supports(kernel: &Kernel, target: &Target) -> std::result::Result<(), String> {
    select(&flatten::flatten(kernel), Isa::of(target)?, false).map(|_| ())
}

/// The machine code of a kernel: `int32_t kernel(const void *const *args)`, System V.
pub fn encode(kernel: &Kernel, target: &Target) -> std::result::Result<Code, String> {
    let isa = Isa::of(target)?;
    finish(select(&flatten::flatten(kernel), isa, false)?, isa)
}

fn finish(function: inst::Function, isa: Isa) -> Result<Code> {
    let allocated = |mut f: inst::Function| {
        let numbers = allocate(&mut Allocation { f: &mut f, isa })?;
        Ok::<_, String>((f, numbers))
    };
    let later = if isa.masks { None } else { late::listed(&function) };
    let plain = allocated(function)?;
    let later = later.map(allocated).transpose()?;
    // Where registers do not hold what waits, the order stays.
    let later = later.filter(|(f, _)| late::accesses(f) <= late::accesses(&plain.0));
    let (f, numbers) = later.unwrap_or(plain);
    emit::emit(&f, &numbers, isa)
}

/// Functions that take the place of several kernels' own code, `own`.
pub fn share(kernels: &[Kernel], own: &[Code], target: &Target) -> Vec<Shared> {
    let Ok(isa) = Isa::of(target) else { return Vec::new() };
    alike::share(kernels, own, isa)
}
