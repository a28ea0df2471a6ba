//! Floats below the normal ones do not slow a model down (x86_64).
//!
//! What a trained network does not need ends in products of 1e-30 by 1e-10, and an instruction whose operand or result
//! is denormal takes a hundred times as long as others. `run` switches the processor to flushing such results (MXCSR,
//! Intel SDM volume 1, 10.2.3.3), calls what it was, and switches back. Denormal operands count: an application's data
//! and the model's constants are what they are. Processors for aarch64 take no longer for them.
//!
//! Sums of products up to a size known only at run time are the exception. Their last tile multiplies what memory held
//! behind that size before: bytes and whole numbers, most of which are denormal as floats. These kernels switch to
//! taking such operands for zeros.

use super::Code;
use super::driver::windows;
use crate::base::DType;
use crate::target::{Arch, Target};
use crate::tile::visit::any;
use crate::tile::{Addr, Kernel, Lane, Stmt, Value};

/// Bytes that Microsoft's convention leaves a callee above its return address.
const SHADOW: u8 = 32;
/// Of the frame: what keeps the stack aligned to 16, with the caller's mode at 8 and the other one at 12.
const FRAME: u8 = 24;
/// The bit of MXCSR that flushes results.
const FLUSH: u16 = 1 << 15;
/// The bit of MXCSR that takes denormal operands for zeros.
const ZEROS: u16 = 1 << 6;
/// A push of the return address.
const CALL: usize = 8;

/// The function `run` with results flushed.
pub(super) fn flushed(run: Code, target: &Target) -> Code {
    match target.arch {
        Arch::X86_64 => within(run, FLUSH, if windows(target) { SHADOW } else { 0 }),
        Arch::Aarch64 => run,
    }
}

/// The code of a kernel, which takes denormal operands for zeros where it multiplies what lies behind a size.
pub(super) fn guarded(kernel: &Kernel, code: Code, target: &Target) -> Code {
    // Lists of constants have lengths of 32 bits, and nothing behind them is read.
    let size = |from: &Addr| kernel.params[from.param as usize].dtype == DType::I64;
    let sized = |s: &Stmt| matches!(s, Stmt::Size { from, .. } if size(from));
    let sums = |s: &Stmt| matches!(s, Stmt::Let(reg, Value::Mla(..)) if kernel.regs[*reg as usize].lane == Lane::F32);
    match target.arch {
        Arch::X86_64 if any(&kernel.body, &mut { sized }) && any(&kernel.body, &mut { sums }) => {
            within(code, ZEROS, 0)
        }
        _ => code,
    }
}

/// A function that does what the given one does, with bits of MXCSR set.
fn within(code: Code, bits: u16, shadow: u8) -> Code {
    let (frame, old, new) = (FRAME + shadow, 8 + shadow, 12 + shadow);
    let [low, high] = bits.to_le_bytes();
    let before = [
        &[0x48, 0x83, 0xec, frame][..], // sub rsp, frame
        &[0x0f, 0xae, 0x5c, 0x24, old], // stmxcsr [rsp + old]
        &[0x8b, 0x44, 0x24, old],       // mov eax, [rsp + old]
        &[0x0d, low, high, 0, 0],       // or eax, bits
        &[0x89, 0x44, 0x24, new],       // mov [rsp + new], eax
        &[0x0f, 0xae, 0x54, 0x24, new], // ldmxcsr [rsp + new]
        &[0xe8],                        // call
    ];
    let after = [
        &[0x0f, 0xae, 0x54, 0x24, old][..], // ldmxcsr [rsp + old]
        &[0x48, 0x83, 0xc4, frame],         // add rsp, frame
        &[0xc3],                            // ret
    ];
    let (mut bytes, after) = (before.concat(), after.concat());
    let called = (bytes.len() + size_of::<i32>() + after.len()).next_multiple_of(code.align as usize);
    let distance = (called - bytes.len() - size_of::<i32>()) as i32;
    bytes.extend(distance.to_le_bytes());
    bytes.extend(after);
    // int3
    bytes.resize(called, 0xcc);
    bytes.extend(code.bytes);
    let relocs = code.relocs.into_iter().map(|r| super::Reloc { offset: r.offset + called as u64, ..r });
    let stack = code.stack + usize::from(frame) + CALL;
    Code { bytes, align: code.align, relocs: relocs.collect(), stack }
}
