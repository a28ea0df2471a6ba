//! The encoder that takes every kernel: 128-bit vectors and scalars, through Cranelift.
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
mod flatten;
mod half;
mod isa;
mod lanes;
mod live;
mod memory;
mod order;
mod pairs;
mod shape;

pub(super) use isa::{finish, isa};

use super::Code;
use crate::error::{Error, Result};
use crate::target::{Arch, Target};
use crate::tile::Kernel;
use cranelift_codegen::ir::{AbiParam, Function, Signature, UserFuncName, types};
use cranelift_codegen::isa::CallConv;
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
    let isa = isa(target)?;
    let function = function(kernel, target, &*isa)?;
    let mut code = finish(function, &*isa)?;
    if !code.relocs.is_empty() {
        return Err(Error::bug("Cranelift called a library function"));
    }
    if target.arch == Arch::Aarch64 {
        code.bytes = pairs::join(&code.bytes);
    }
    Ok(code)
}

/// The kernel in Cranelift's form.
fn function(
    kernel: &Kernel,
    target: &Target,
    isa: &dyn cranelift_codegen::isa::TargetIsa,
) -> Result<Function> {
    if kernel.fused && !target.fma {
        return Err(Error::bug("it needs fused multiply-add, which the target lacks"));
    }
    let mut kernel = flatten::flatten(kernel);
    if target.arch == Arch::Aarch64 {
        order::order(&mut kernel);
    }
    let mut function = Function::with_name_signature(UserFuncName::default(), kernel_signature());
    let mut context = FunctionBuilderContext::new();
    let builder = FunctionBuilder::new(&mut function, &mut context);
    body::Body::new(&kernel, target, builder).translate(isa.frontend_config())?;
    Ok(function)
}
