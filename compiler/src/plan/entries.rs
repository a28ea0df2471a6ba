//! The steps of one entry of a batch, repeated for all.

use super::constants::each_argument;
use super::grouped::Batch;
use super::{Arg, Base, Interface, Program, Step};

impl Batch {
    /// Bytes from one entry to the next of an input or output.
    pub(super) fn step(&self, shown: &Interface, moves: bool) -> usize {
        if moves { shown.ty.bytes() / self.count } else { 0 }
    }
}

/// Repeats all steps of a program but the first, so many as `once`, for each entry of a batch: what consists of entries
/// moves on by one each time.
pub(super) fn repeat_entries(program: &mut Program, batch: &Batch, once: usize) {
    let steps = |shown: &[Interface], moves: &[bool]| -> Vec<i64> {
        shown.iter().zip(moves).map(|(shown, &moves)| batch.step(shown, moves) as i64).collect()
    };
    let inputs = steps(&program.inputs, &batch.inputs);
    let outputs = steps(&program.outputs, &batch.outputs);
    let mut body = program.steps.split_off(once);
    each_argument(&mut body, &mut |arg| {
        let step = match arg.base {
            Base::Input(i) => inputs[i as usize],
            Base::Output(i) => outputs[i as usize],
            _ => 0,
        };
        if step != 0 || !arg.strides.is_empty() {
            arg.strides.insert(0, step);
        }
    });
    let number = |symbol| Arg { base: Base::Symbols, offset: size_of::<i64>() * symbol, strides: Vec::new() };
    let count = batch.count as u64;
    program.steps.push(Step::Repeat { count, trip: batch.symbol.map(number), cond: None, body });
    program.macs = program.macs.saturating_mul(count);
}
