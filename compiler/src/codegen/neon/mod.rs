//! Tile kernels to aarch64 machine code.
//!
//! What Cranelift has no way to say is what kernels are made of: multiply-adds of bytes by element,
//! widening multiply-adds, saturating narrowing, and registers that stay where the schedule put
//! them. So this encoder writes the machine code itself. What it does not take ([`supports`] says
//! why: 64-bit lanes, branches, computed indices), Cranelift does.
//!
//! A kernel is listed anew for machines that execute in order (`order`, `demand`, `unroll`, `starts`, by
//! `sizes`), becomes instructions on virtual registers (`select`, `loops`, `address`, `value`, `convert`, `memory`,
//! `dot`, `couple`, `flip`, `weave`, `turns`, `turned`, `across`, `table`), of which loads are joined (`tuples`, `along`), gets registers
//! (`allocate`, `spill`), is encoded (`emit`, `words`), and what neighbouring loads and stores are left are joined
//! (`pairs`).

mod across;
mod address;
mod allocate;
mod along;
mod convert;
mod couple;
mod demand;
mod dot;
mod emit;
mod flip;
mod groups;
mod inst;
mod isa;
mod lives;
mod loops;
mod memory;
mod order;
mod pairs;
mod select;
mod sizes;
mod spill;
mod starts;
mod table;
mod tuples;
mod turned;
mod turns;
mod unroll;
mod value;
mod weave;
mod words;

use super::Code;
use super::flatten;
use crate::target::{Arch, Feature, Target};
use crate::tile::Kernel;

/// The result of a step, or why the encoder does not take the kernel.
type Result<T> = std::result::Result<T, String>;

fn isa(target: &Target) -> Result<isa::Isa> {
    match target.arch {
        Arch::Aarch64 => {
            let [dot, mixed, half, brain] =
                [Feature::DotProd, Feature::I8mm, Feature::Fp16, Feature::Bf16].map(|f| target.has(f));
            Ok(isa::Isa { dot, mixed, half, brain })
        }
        Arch::X86_64 => Err("the target is another architecture".into()),
    }
}

/// Whether the encoder takes a kernel for a target; the reason where it does not.
pub fn supports(kernel: &Kernel, target: &Target) -> Result<()> {
    select::Select::run(kernel, isa(target)?).map(|_| ())
}

/// Registers that sums of products in 16 bits need beside their operands: copies of lanes, products, and the
/// factors of the first sum while it waits.
const COUPLED: usize = 6;

/// Of how many instructions one has to be saved by code that is longer.
const SAVED: u64 = 64;

/// The machine code of a kernel: `int32_t kernel(const void *const *args)`, AAPCS64.
pub fn encode(kernel: &Kernel, target: &Target) -> Result<Code> {
    let isa = isa(target)?;
    let mut flat = flatten::flatten(kernel);
    let split = sizes::sums_of_pairs(&flat, isa);
    starts::load_each(&mut flat, &|r| split[r as usize]);
    let mut reserved = if table::looks_up(&flat) { table::NEEDED } else { 0 };
    if !isa.mixed {
        flip::flip(&mut flat);
    }
    if !isa.dot {
        couple::couple(&mut flat.body);
        reserved = reserved.max(if couple::has_chains(&flat.body) { COUPLED } else { 0 });
    }
    // What a listing needs beside its useful work is known when registers are allocated.
    let mut best: Option<(u64, Code, usize)> = None;
    let mut tried: Vec<Kernel> = Vec::new();
    let sizes = sizes::sizes(&flat, isa);
    // A loop over words in halves is long enough as it is.
    let may_double = isa.dot || !couple::has_halves(&flat.body);
    for (registers, double) in [(31, true), (32, true), (31, false), (32, false)] {
        if double && !may_double {
            continue;
        }
        let mut ordered = flat.clone();
        order::order(&mut ordered, sizes.clone(), registers - reserved, double);
        if !isa.dot {
            couple::couple(&mut ordered.body);
        }
        if tried.contains(&ordered) {
            continue;
        }
        let (code, _) = translate(&ordered, isa, false, true)?;
        let overhead = pairs::overhead(&code.bytes);
        if best.as_ref().is_none_or(|best| overhead < best.0) {
            best = Some((overhead, code, tried.len()));
        }
        tried.push(ordered);
    }
    let (overhead, code, listing) = best.ok_or("no listing")?;
    let (other, moved) = translate(&tried[listing], isa, true, true)?;
    let code = if pairs::overhead(&other.bytes) < overhead { other } else { code };
    if !moved {
        return Ok(code);
    }
    // What leaves a loop may have been loaded there with a neighbour.
    let (stays, _) = translate(&tried[listing], isa, false, false)?;
    let [before, after] = [&stays, &code].map(|code| pairs::executed(&code.bytes));
    let pays = match code.bytes.len() > stays.bytes.len() {
        true => after + before / SAVED < before,
        false => after <= before,
    };
    Ok(if pays { code } else { stays })
}

/// The kernel as it stands, to machine code. Loads that are joined take the registers of constants, where these
/// can be made `again`; what loops compute alike each time leaves them where that is asked for, and whether something
/// did.
fn translate(kernel: &Kernel, isa: isa::Isa, again: bool, leaves: bool) -> Result<(Code, bool)> {
    let mut function = select::Select::run(kernel, isa)?;
    inst::drop_unused(&mut function);
    let moved = leaves && super::once::hoist(&mut function);
    tuples::join(&mut function, again);
    let numbers = super::allocate::allocate(&mut function)?;
    let emit::Emitted { bytes, stack } = emit::emit(&function, &numbers)?;
    Ok((Code { bytes: pairs::join(&bytes), align: 16, relocs: Vec::new(), stack }, moved))
}
