//! The steps of one entry of a batch, repeated for all.

use super::constants::each_argument;
use super::{Arg, Base, Interface, Program, Step};

/// Repeats all steps of a program but the first, so many as `once`, as often as a symbol says. Inputs and outputs that
/// have it as a dimension move on by one entry each time.
pub(super) fn repeat_entries(program: &mut Program, symbol: usize, once: usize) {
    let most = program.symbols[symbol].max;
    let step = |shown: &Interface| {
        let counts = shown.symbolic.contains(&Some(symbol as u32));
        if counts { (shown.ty.bytes() / most) as i64 } else { 0 }
    };
    let [inputs, outputs] =
        [&program.inputs, &program.outputs].map(|list| list.iter().map(step).collect::<Vec<i64>>());
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
    let trip = Arg { base: Base::Symbols, offset: size_of::<i64>() * symbol, strides: Vec::new() };
    program.steps.push(Step::Repeat { count: most as u64, trip: Some(trip), cond: None, body });
    program.macs = program.macs.saturating_mul(most as u64);
}
