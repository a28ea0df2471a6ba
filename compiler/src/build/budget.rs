//! Budgets of memory: what exceeds them, by how much, and what makes the peak.

use super::Built;
use crate::error::{Error, Kind, Result};
use crate::plan::{Base, Program, Step};
use std::collections::BTreeMap;

/// Limits in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Budgets {
    pub ram: Option<usize>,
    pub flash: Option<usize>,
    pub stack: Option<usize>,
}

impl Budgets {
    /// An error where the model exceeds one.
    pub(super) fn check(&self, built: &Built) -> Result<()> {
        let flash = built.object.code_bytes + built.object.constant_bytes;
        let over = |limit: Option<usize>, needed: usize| limit.filter(|&l| needed > l).map(|l| needed - l);
        if let Some(by) = over(self.ram, built.program.arena_bytes) {
            let needed = built.program.arena_bytes;
            return Err(exceeded("arena", needed, by, "--max-ram")
                .advise(format!("The peak is made by {}", peak(&built.program))));
        }
        if let Some(by) = over(self.flash, flash) {
            let mut constants: Vec<_> =
                built.program.constants.iter().map(|c| (c.bytes.len(), c.name.as_str())).collect();
            constants.sort_by(|a, b| b.cmp(a));
            let largest: Vec<String> =
                constants.iter().take(3).map(|(bytes, name)| format!("{name} ({bytes})")).collect();
            return Err(exceeded("flash", flash, by, "--max-flash")
                .advise(format!("The largest constants are {}", largest.join(", "))));
        }
        if let Some(by) = over(self.stack, built.stack_bytes) {
            return Err(exceeded("stack", built.stack_bytes, by, "--max-stack"));
        }
        Ok(())
    }
}

fn exceeded(what: &str, needed: usize, by: usize, option: &str) -> Error {
    Error::new(Kind::Target, format!("the {what} takes {needed} bytes, {by} more than allowed")).at(option)
}

/// A stretch of the arena while it holds one tensor.
struct Live {
    name: String,
    bytes: usize,
    first: usize,
    last: usize,
}

/// The tensors that are live at the fullest step.
fn peak(program: &Program) -> String {
    let mut lives = Vec::new();
    let mut open: BTreeMap<usize, Live> = BTreeMap::new();
    let mut clock = 0;
    visit(program, &program.steps, &mut clock, &mut open, &mut lives);
    lives.extend(open.into_values());
    let live_at = |t: usize| lives.iter().filter(move |l| l.first <= t && t <= l.last);
    let fullest = (0..clock).max_by_key(|&t| live_at(t).map(|l| l.bytes).sum::<usize>()).unwrap_or(0);
    let mut tensors: Vec<_> = live_at(fullest).map(|l| (l.bytes, l.name.clone())).collect();
    tensors.sort_by(|a, b| b.cmp(a));
    let shown = tensors.iter().take(5).map(|(bytes, name)| format!("{name} ({bytes} bytes)"));
    shown.collect::<Vec<_>>().join(", ")
}

fn visit(
    program: &Program,
    steps: &[Step],
    clock: &mut usize,
    open: &mut BTreeMap<usize, Live>,
    lives: &mut Vec<Live>,
) {
    use crate::tile::Access;
    for step in steps {
        match step {
            Step::Call { kernel, args } => {
                let kernel = &program.kernels[*kernel as usize];
                for (arg, param) in args.iter().zip(&kernel.params).filter(|(a, _)| a.base == Base::Arena) {
                    let bytes = param.elems * param.dtype.size();
                    match open.get_mut(&arg.offset) {
                        Some(live) if param.access != Access::Write => live.last = *clock,
                        _ => {
                            let name = format!("{} of {}", param.name, kernel.name);
                            let live = Live { name, bytes, first: *clock, last: *clock };
                            lives.extend(open.insert(arg.offset, live));
                        }
                    }
                }
                *clock += 1;
            }
            Step::Repeat { body, .. } => visit(program, body, clock, open, lives),
            Step::If { then, otherwise, .. } => {
                visit(program, then, clock, open, lives);
                visit(program, otherwise, clock, open, lives);
            }
        }
    }
}
