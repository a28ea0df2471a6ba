//! From a model to an object, stage by stage.

use lmc::emit::Emitted;
use lmc::error::Result;
use lmc::import::{Bindings, Model};
use lmc::plan::Program;
use lmc::target::Target;

/// An object and what it was made from.
pub struct Built {
    pub program: Program,
    pub emitted: Emitted,
    pub stack_bytes: usize,
}

/// Compiles a model.
pub fn build(model: &Model, bindings: &Bindings, name: &str, target: &Target) -> Result<Built> {
    let (types, _) = bindings.resolve(&model.body)?;
    let (graph, _) = lmc::passes::infer(model, &types).into_result()?;
    let program = lmc::plan::program(&graph, name, target)?;
    let compiled = lmc::codegen::compile(&program, target, &|| ())?;
    let emitted = lmc::emit::emit(&program, &compiled, target)?;
    Ok(Built { stack_bytes: compiled.stack_bytes, program, emitted })
}
