//! Machine code: from a [`Program`] to the bytes of its functions.
//!
//! Each kernel becomes one function `int32_t kernel(const void *const *args)` in the System V
//! (x86_64) or AAPCS64 convention, by the first encoder that takes it; the steps become data, which the
//! function `run` of the object's contract reads: calls in code take three times the bytes.
//! Kernels are encoded in parallel; the bytes do not depend on the number of threads.
//!
//! | files | what they do |
//! |---|---|
//! | `pointer`, `flatten`, `loops` | which accesses share a running pointer, and the loops around them: for both architectures |
//! | `blocks`, `planes` | which loads and which stores are turned in registers |
//! | `once` | what moves out of loops |
//! | `live`, `allocate` | when virtual registers hold a value, and which registers they get |
//! | [`wide`] (AVX2, AVX-512), [`neon`] (aarch64) | instructions of a kernel: selected, allocated, encoded |
//! | [`cranelift`] | the encoder of any kernel, where these take none |
//! | `steps`, `driver` | the steps as data, and `run` |

mod allocate;
mod blocks;
pub mod cranelift;
mod driver;
mod flatten;
mod flush;
mod live;
mod loops;
pub mod neon;
mod once;
mod planes;
mod pointer;
mod steps;
pub mod wide;

pub use steps::Steps;

use crate::base::in_parallel;
use crate::error::{Error, Result};
use crate::plan::Program;
use crate::target::Target;
use crate::tile::Kernel;

/// One function.
#[derive(Clone, Debug, PartialEq)]
pub struct Code {
    /// Instructions, followed by the constants they read pc-relatively.
    pub bytes: Vec<u8>,
    /// Alignment of the first byte, a power of two.
    pub align: u64,
    /// Places to be filled in; none in kernels.
    pub relocs: Vec<Reloc>,
    /// Bytes of stack it uses, return address included, callees not.
    pub stack: usize,
}

/// A place in a function that depends on where another thing lies.
#[derive(Clone, Debug, PartialEq)]
pub struct Reloc {
    /// Where in the function's bytes.
    pub offset: u64,
    /// How it is filled in.
    pub kind: RelocKind,
    /// What it points to.
    pub to: Symbol,
    /// Added to the address of what it points to.
    pub addend: i64,
}

/// How a place is filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelocKind {
    /// x86_64: the 32-bit distance of a call.
    X86Call,
    /// x86_64: a 32-bit distance.
    X86Relative,
    /// aarch64: the 26-bit distance of `bl`.
    A64Call,
    /// aarch64: the 21-bit page distance of `adrp`.
    A64Page,
    /// aarch64: the low 12 bits of an address in `add`.
    A64Low,
}

/// What `run` refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Symbol {
    /// The first of [`Compiled::kernels`].
    Kernels,
    /// The first of [`Program::constants`].
    Constants,
    /// [`Steps::words`].
    Steps,
    /// [`Steps::numbers`].
    Numbers,
}

/// The functions of a program.
#[derive(Clone, Debug, PartialEq)]
pub struct Compiled {
    /// The code of each of [`Program::kernels`].
    pub kernels: Vec<Code>,
    /// The steps.
    pub steps: Steps,
    /// The function that performs them.
    pub run: Code,
    /// Bytes of stack that a call of `run` needs in all.
    pub stack_bytes: usize,
}

/// Encodes a kernel, or gives `None` where this encoder does not take it on this target.
type Encoder = fn(&Kernel, &Target) -> Option<Result<Code>>;

/// The encoders, tried in order; the last takes every kernel.
const ENCODERS: &[Encoder] = &[
    |kernel, target| wide::encode(kernel, target).ok().map(Ok),
    |kernel, target| neon::encode(kernel, target).ok().map(Ok),
    |kernel, target| Some(cranelift::encode(kernel, target)),
];

/// Encodes one kernel. Errors are defects of the kernel ([`crate::error::Kind::Bug`]).
pub fn encode(kernel: &Kernel, target: &Target) -> Result<Code> {
    let code = ENCODERS.iter().find_map(|encoder| encoder(kernel, target));
    code.unwrap_or_else(|| Err(Error::bug("no encoder takes it"))).map_err(|e| e.at(kernel.name.clone()))
}

/// Compiles a program. `encoded` is told after each kernel, from any thread, for a progress bar.
pub fn compile(program: &Program, target: &Target, encoded: &(dyn Fn() + Sync)) -> Result<Compiled> {
    compile_shared(program, target, &|kernel| {
        let code = encode(kernel, target);
        encoded();
        code
    })
}

/// As [`compile`], with the kernels encoded by the given function; where several can be one, they are.
pub fn compile_shared(
    program: &Program,
    target: &Target,
    encode: &(dyn Fn(&Kernel) -> Result<Code> + Sync),
) -> Result<Compiled> {
    let mut kernels = encoded(&program.kernels, encode)?;
    let mut numbers = vec![Vec::new(); kernels.len()];
    for shared in wide::share(&program.kernels, &kernels, target) {
        for (kernel, own) in shared.members {
            (kernels[kernel], numbers[kernel]) = (shared.code.clone(), own);
        }
    }
    compiled(program, target, kernels, numbers)
}

/// As [`compile_shared`], with a function per kernel.
pub fn compile_with(
    program: &Program,
    target: &Target,
    encode: &(dyn Fn(&Kernel) -> Result<Code> + Sync),
) -> Result<Compiled> {
    let kernels = encoded(&program.kernels, encode)?;
    let numbers = vec![Vec::new(); kernels.len()];
    compiled(program, target, kernels, numbers)
}

/// The code of each kernel.
fn encoded(kernels: &[Kernel], encode: &(dyn Fn(&Kernel) -> Result<Code> + Sync)) -> Result<Vec<Code>> {
    in_parallel(kernels.len(), &|i| encode(&kernels[i])).into_iter().collect()
}

/// The functions of a program with the code of its kernels, and the table of numbers that each reads.
fn compiled(
    program: &Program,
    target: &Target,
    kernels: Vec<Code>,
    numbers: Vec<Vec<i64>>,
) -> Result<Compiled> {
    let guarded =
        program.kernels.iter().zip(kernels).map(|(kernel, code)| flush::guarded(kernel, code, target));
    let kernels: Vec<Code> = guarded.collect();
    let steps = steps::encode(program, &numbers)?;
    let run = flush::flushed(driver::encode(program, &steps, target)?, target);
    let deepest = kernels.iter().map(|k| k.stack).max().unwrap_or(0);
    Ok(Compiled { stack_bytes: (run.stack + deepest).next_multiple_of(16), steps, run, kernels })
}
