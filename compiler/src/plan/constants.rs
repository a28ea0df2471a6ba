//! The order of the constants, without those that no step reads any more because every reader takes them
//! packed.

use super::{Arg, Base, Constant, Program, Step};
use std::cmp::Reverse;

/// Removes constants that no step reads; those of the largest alignment come first, so that small ones leave
/// no gaps.
pub(super) fn arrange(program: &mut Program) {
    let mut used = vec![false; program.constants.len()];
    each_argument(&mut program.steps, &mut |arg| {
        if let Base::Constant(c) = arg.base {
            used[c as usize] = true;
        }
    });
    let mut order: Vec<usize> = (0..used.len()).filter(|&c| used[c]).collect();
    order.sort_by_key(|&c| Reverse(program.constants[c].align));
    let mut number = vec![0; used.len()];
    order.iter().zip(0..).for_each(|(&c, n)| number[c] = n);
    each_argument(&mut program.steps, &mut |arg| {
        if let Base::Constant(c) = &mut arg.base {
            *c = number[*c as usize];
        }
    });
    let mut constants: Vec<Option<Constant>> =
        std::mem::take(&mut program.constants).into_iter().map(Some).collect();
    program.constants = order.into_iter().filter_map(|c| constants[c].take()).collect();
}

/// Calls `f` with every argument of steps, those inside repetitions and branches too.
pub fn each_argument(steps: &mut [Step], f: &mut dyn FnMut(&mut Arg)) {
    for step in steps {
        match step {
            Step::Call { args, .. } => args.iter_mut().for_each(&mut *f),
            Step::Repeat { trip, cond, body, .. } => {
                trip.iter_mut().chain(cond).for_each(&mut *f);
                each_argument(body, f);
            }
            Step::If { cond, then, otherwise } => {
                f(cond);
                each_argument(then, f);
                each_argument(otherwise, f);
            }
        }
    }
}
