//! Results below the normal floats are zeros while a model runs (x86_64).
//!
//! What a trained network does not need ends in products of 1e-30 by 1e-10, and an instruction whose result is denormal
//! takes a hundred times as long as others. `run` switches the processor to flushing such results (MXCSR, Intel SDM
//! volume 1, 10.2.3.3), calls what it was, and switches back. Denormal operands count: an application's data and the
//! model's constants are what they are. Processors for aarch64 take no longer for them.

use super::Code;
use super::driver::windows;
use crate::target::{Arch, Target};

/// Bytes that Microsoft's convention leaves a callee above its return address.
const SHADOW: u8 = 32;
/// Of the frame: what keeps the stack aligned to 16, with the caller's mode at 8 and the other one at 12.
const FRAME: u8 = 24;
/// The bit of MXCSR that flushes.
const FLUSH: [u8; 2] = [0x00, 0x80];
/// A push of the return address.
const CALL: usize = 8;

/// A function that does what the given one does, with results flushed.
pub(super) fn flushed(run: Code, target: &Target) -> Code {
    if target.arch != Arch::X86_64 {
        return run;
    }
    let shadow = if windows(target) { SHADOW } else { 0 };
    let (frame, old, new) = (FRAME + shadow, 8 + shadow, 12 + shadow);
    let before = [
        &[0x48, 0x83, 0xec, frame][..],    // sub rsp, frame
        &[0x0f, 0xae, 0x5c, 0x24, old],    // stmxcsr [rsp + old]
        &[0x8b, 0x44, 0x24, old],          // mov eax, [rsp + old]
        &[0x0d, FLUSH[0], FLUSH[1], 0, 0], // or eax, FLUSH
        &[0x89, 0x44, 0x24, new],          // mov [rsp + new], eax
        &[0x0f, 0xae, 0x54, 0x24, new],    // ldmxcsr [rsp + new]
        &[0xe8],                           // call
    ];
    let after = [
        &[0x0f, 0xae, 0x54, 0x24, old][..], // ldmxcsr [rsp + old]
        &[0x48, 0x83, 0xc4, frame],         // add rsp, frame
        &[0xc3],                            // ret
    ];
    let (mut bytes, after) = (before.concat(), after.concat());
    let called = (bytes.len() + size_of::<i32>() + after.len()).next_multiple_of(run.align as usize);
    let distance = (called - bytes.len() - size_of::<i32>()) as i32;
    bytes.extend(distance.to_le_bytes());
    bytes.extend(after);
    // int3
    bytes.resize(called, 0xcc);
    bytes.extend(run.bytes);
    let relocs = run.relocs.into_iter().map(|r| super::Reloc { offset: r.offset + called as u64, ..r });
    let stack = run.stack + usize::from(frame) + CALL;
    Code { bytes, align: run.align, relocs: relocs.collect(), stack }
}
