//! The encoder that takes every kernel: 128-bit vectors and scalars, through Cranelift.
//!
//! It compiles what the encoders of a target leave to it, and all of the x86_64 baseline.
//!
//! Cranelift is used without its optimizer: the order of a kernel is chosen by its schedule, and
//! the optimizer's sinking of pure operations makes unrolled bodies spill. What it would do is done
//! here: addresses are running pointers with constant displacements (`address`), loops are tested
//! where the architecture prefers it (`control`), and values take the shapes that its patterns
//! recognize (`arith`, `lanes`). Operations that Cranelift would turn into calls of a mathematics
//! library on a target are expanded, so that no object has an undefined symbol.

mod address;
mod arith;
mod body;
mod control;
mod convert;
mod half;
mod isa;
mod lanes;
mod memory;
mod places;
mod shape;
mod sums;

pub(super) use isa::{finish, isa};

use super::{Code, flatten};
use crate::error::{Error, Result};
use crate::target::Target;
use crate::tile::Kernel;
use cranelift_codegen::ir::{AbiParam, Function, Signature, UserFuncName, types};
use cranelift_codegen::isa::{CallConv, TargetIsa};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};

/// The signature of every kernel: `int32_t kernel(const void *const *args)`.
pub(super) fn kernel_signature() -> Signature {
    let mut signature = Signature::new(CallConv::SystemV);
    signature.params.push(AbiParam::new(types::I64));
    signature.returns.push(AbiParam::new(types::I32));
    signature
}

/// Encodes a kernel.
pub fn encode(kernel: &Kernel, target: &Target) -> Result<Code> {
    if kernel.fused && !target.fma {
        return Err(Error::bug("it needs fused multiply-add, which the target lacks"));
    }
    let isa = isa(target)?;
    let mut flat = flatten::flatten(kernel);
    sums::in_floats(&mut flat);
    translate(&flat, target, &*isa)
}

/// The kernel as it stands, to machine code.
fn translate(kernel: &Kernel, target: &Target, isa: &dyn TargetIsa) -> Result<Code> {
    let mut function = Function::with_name_signature(UserFuncName::default(), kernel_signature());
    let mut context = FunctionBuilderContext::new();
    let builder = FunctionBuilder::new(&mut function, &mut context);
    body::Body::new(kernel, target, builder).translate(isa.frontend_config())?;
    let code = finish(function, isa)?;
    if !code.relocs.is_empty() {
        return Err(Error::bug("Cranelift called a library function"));
    }
    Ok(code)
}
