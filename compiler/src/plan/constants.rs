//! Constants that no step reads any more: those whose every reader takes them packed.

use super::{Arg, Base, Program, Step};

/// Removes constants that no step reads: operands that were packed.
pub(super) fn drop_unused(program: &mut Program) {
    fn visit(steps: &mut [Step], f: &mut dyn FnMut(&mut Arg)) {
        for step in steps {
            match step {
                Step::Call { args, .. } => args.iter_mut().for_each(&mut *f),
                Step::Repeat { body, .. } => visit(body, f),
                Step::If { then, otherwise, .. } => {
                    visit(then, f);
                    visit(otherwise, f);
                }
            }
        }
    }
    let mut used = vec![false; program.constants.len()];
    visit(&mut program.steps, &mut |arg| {
        if let Base::Constant(c) = arg.base {
            used[c as usize] = true;
        }
    });
    let number: Vec<u32> = (used.iter())
        .scan(0, |n, &u| {
            let this = *n;
            *n += u32::from(u);
            Some(this)
        })
        .collect();
    visit(&mut program.steps, &mut |arg| {
        if let Base::Constant(c) = &mut arg.base {
            *c = number[*c as usize];
        }
    });
    let mut used = used.into_iter();
    program.constants.retain(|_| used.next().unwrap_or(false));
}
