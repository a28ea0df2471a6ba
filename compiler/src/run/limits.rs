//! What running a model may take: memory and time are looked at before it runs.
//!
//! A file of a few hundred bytes can describe a loop of 2^60 steps, or outputs of gigabytes.

use crate::base::TensorType;
use crate::definition::Stage;
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::plan::{Program, Step};
use crate::tile;

/// Bytes that a run has in memory at once.
const MAX_BYTES: usize = 1 << 33;
/// Bytes of what is made besides, before or after it: data, results, values of the reference.
const MAX_BESIDES: usize = 1 << 32;
/// How often inputs and outputs are held: as tensors, as they are passed, and both by what they are compared with.
const COPIES: usize = 4;
/// Statements of kernels, most of which work on whole vectors: some minutes.
const MAX_STATEMENTS: u64 = 1 << 38;
/// Statements that take the time of a call.
const CALL: u64 = 16;
/// Points that the naive loops compute: some minutes.
const MAX_POINTS: u64 = 1 << 33;

/// An error where a program takes more memory or more time than a run may. Where sizes are known only at run time, the
/// bounds say little of the time.
pub fn check(program: &Program) -> Result<()> {
    let interface = program.inputs.iter().chain(&program.outputs).map(|i| i.ty.bytes());
    let copies = interface.fold(0usize, usize::saturating_add).saturating_mul(COPIES);
    within("copies of inputs and outputs", copies, MAX_BESIDES)?;
    within("arena", program.arena_bytes, MAX_BYTES)?;
    let counts: Vec<u64> = program.kernels.iter().map(tile::statements).collect();
    let statements = steps(&program.steps, &counts);
    if statements > MAX_STATEMENTS && program.symbols.is_empty() {
        return Err(Error::model(format!(
            "an inference takes {statements} steps, more than the {MAX_STATEMENTS} that are run here"
        ))
        .advise("Bind free dimensions to smaller sizes with --dim or --input, or check the model; lmc build compiles it")
        .at("running the model"));
    }
    Ok(())
}

/// An error where so many tensors of each type, held twice, take more memory than a run may.
pub fn check_data(types: &[TensorType], count: usize) -> Result<()> {
    let bytes = types.iter().fold(0usize, |sum, ty| sum.saturating_add(ty.bytes()));
    within("two copies of the data", bytes.saturating_mul(count).saturating_mul(2), MAX_BESIDES)
}

/// An error where all values of a graph, constants too, take more memory than a reference may.
pub fn check_values(graph: &Graph) -> Result<()> {
    let bytes = graph.values.iter().map(|v| v.ty.bytes()).fold(0usize, usize::saturating_add);
    within("values that the reference computes", bytes, MAX_BESIDES)
}

/// An error where the naive loops take more time than a run may.
pub fn check_naive(stages: &[Stage]) -> Result<()> {
    let points = points(stages);
    match points > MAX_POINTS {
        true => Err(Error::model(format!(
            "lmc's naive loops take {points} steps, more than the {MAX_POINTS} that are run here"
        ))),
        false => Ok(()),
    }
}

fn within(what: &str, bytes: usize, most: usize) -> Result<()> {
    match bytes > most {
        true => Err(Error::model(format!("{what}: {bytes} bytes, more than the {most} of a run here"))
            .advise("Bind free dimensions to smaller sizes with --dim or --input, or check the model")
            .at("running the model")),
        false => Ok(()),
    }
}

/// Statements of the steps. What a condition or a number of the data ends counts once.
fn steps(list: &[Step], counts: &[u64]) -> u64 {
    let one = |step: &Step| match step {
        Step::Call { kernel, .. } => counts.get(*kernel as usize).copied().unwrap_or(0).saturating_add(CALL),
        Step::Repeat { count, trip: None, cond: None, body } => count.saturating_mul(steps(body, counts)),
        Step::Repeat { body, .. } => steps(body, counts),
        Step::If { then, otherwise, .. } => steps(then, counts).max(steps(otherwise, counts)),
    };
    list.iter().map(one).fold(0, u64::saturating_add)
}

fn points(stages: &[Stage]) -> u64 {
    let one = |stage: &Stage| match stage {
        Stage::Define(definition) => definition.volume(),
        Stage::Routine(routine) => tile::statements(&routine.kernel),
        Stage::Repeat(repeat) if repeat.condition.is_some() => points(&repeat.body),
        Stage::Repeat(repeat) => (repeat.count as u64).saturating_mul(points(&repeat.body)),
        Stage::Strips(strips) => (strips.count as u64).saturating_mul(points(&strips.body)),
        Stage::Reshape { .. } => 0,
    };
    stages.iter().map(one).fold(0, u64::saturating_add)
}
