//! The steps of one entry of a batch, repeated for all.

use super::constants::each_argument;
use super::grouped::Batch;
use super::{Arg, Base, Program, Step};

/// Repeats all steps of a program but the first, so many as `once`, for each entry of a batch: what consists of entries
/// moves on by one each time.
pub(super) fn repeat_entries(program: &mut Program, batch: &Batch, once: usize) {
    let mut body = program.steps.split_off(once);
    each_argument(&mut body, &mut |arg| {
        let step = match arg.base {
            Base::Input(i) => batch.inputs[i as usize] as i64,
            Base::Output(i) => batch.outputs[i as usize] as i64,
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
