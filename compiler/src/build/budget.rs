//! Budgets of memory: what exceeds them, by how much, and what makes the peak.

use super::Built;
use crate::definition::{Lowering, ValueId};
use crate::error::{Error, Kind, Result};
use crate::plan::{Base, Program, Step};
use std::collections::{BTreeMap, BTreeSet};

/// What is said where a budget has decided how the model is compiled.
pub(super) const PREFERRED: &str = "compiled for size, since the fastest form exceeds a budget; \
     `--prefer size` chooses this at once";

/// What is said where strips and schedules take more time to keep to a budget.
pub(super) const SLOWER: &str =
    "the arena is kept within `--max-ram` by what takes more time than the fastest form";

/// The same where convolutions are left as they are.
pub(super) const UNFILTERED: &str = "convolutions whose constants would grow most for the time it spares are not filtered, \
     to keep within `--max-flash`";

/// Limits in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Budgets {
    pub ram: Option<usize>,
    pub flash: Option<usize>,
    pub stack: Option<usize>,
    /// What code leaves of the flash.
    pub constants: Option<usize>,
}

/// The share of a model's constants by which filters may let them grow, and the bytes, before it is said.
const GROWN: (f64, usize) = (0.5, 1 << 16);

/// What is said of filtered convolutions' constants, where those of the model are so many bytes.
pub(super) fn grown(program: &Program, read: usize) -> Option<String> {
    let (share, least) = GROWN;
    let more = program.constant_offsets().1.saturating_sub(read);
    (more >= least && more as f64 > read as f64 * share).then(|| {
        format!(
            "constants take {more} bytes more than the model's {read}, mostly since convolutions are filtered (Winograd); \
             `--max-flash` filters those alone that spare most time for that, `--prefer size` none"
        )
    })
}

impl Budgets {
    /// The same budgets, with what is left for constants where a model whose convolutions are filtered exceeds the
    /// flash.
    pub(super) fn of_constants(&self, built: &Built) -> Option<Budgets> {
        let flash = self.flash.filter(|&limit| built.filtered && built.flash_bytes() > limit)?;
        let code = built.flash_bytes().saturating_sub(built.program.constant_offsets().1);
        Some(Budgets { constants: Some(flash.saturating_sub(code)), ..*self })
    }

    /// An error where the model exceeds one; it says so of each.
    pub(super) fn check(&self, built: &Built) -> Result<()> {
        let program = &built.program;
        let rows = [
            ("--max-ram", self.ram, "arena", program.arena_bytes),
            ("--max-flash", self.flash, "flash", built.flash_bytes()),
            ("--max-stack", self.stack, "stack", built.stack_bytes),
        ];
        let over = |&(_, limit, _, needed): &(_, Option<usize>, _, usize)| limit.is_some_and(|l| needed > l);
        let exceeded: Vec<_> = rows.into_iter().filter(over).collect();
        if exceeded.is_empty() {
            return Ok(());
        }
        let options: Vec<&str> = exceeded.iter().map(|e| e.0).collect();
        let reason = |&(_, limit, what, needed): &(_, Option<usize>, &str, usize)| {
            format!("the {what} takes {needed} bytes, {} more than allowed", needed - limit.unwrap_or(0))
        };
        let reasons: Vec<String> = exceeded.iter().map(reason).collect();
        let advice = exceeded.iter().filter_map(|e| match e.0 {
            "--max-ram" => Some(format!("The peak of the arena is made by {}", peak(program))),
            "--max-flash" => Some(format!("The largest constants are {}", largest_constants(program))),
            _ => None,
        });
        Err(Error::new(Kind::Target, reasons.join("; "))
            .advise(advice.collect::<Vec<_>>().join(". "))
            .at(options.join(", ")))
    }
}

/// Code finds its constants by signed distances of 32 bits; a part is left to the code.
const REACH: usize = (1 << 31) - (1 << 26);

/// An error where the constants are more than code can reach.
pub(super) fn reachable(program: &Program) -> Result<()> {
    within_reach(program.constants.iter().map(|c| c.bytes.len()).sum())
}

/// The same of what stages read, before any of it is packed: how many bytes that is.
pub(super) fn read_reachable(lowering: &Lowering) -> Result<usize> {
    let read: BTreeSet<ValueId> = lowering.stages.iter().flat_map(|s| s.reads()).collect();
    let constants = read.iter().filter_map(|&v| lowering.values[v as usize].constant.as_ref());
    let bytes = constants.map(|t| t.data.len()).sum();
    within_reach(bytes).map(|()| bytes)
}

fn within_reach(bytes: usize) -> Result<()> {
    if bytes <= REACH {
        return Ok(());
    }
    let reason = format!("the constants take {bytes} bytes, but an object can hold {REACH}");
    Err(Error::model(reason).advise("Make them smaller with lmc quantize --weights-only int8 or int4"))
}

fn largest_constants(program: &Program) -> String {
    let mut constants: Vec<_> = program.constants.iter().map(|c| (c.bytes.len(), c.name.as_str())).collect();
    constants.sort_by(|a, b| b.cmp(a));
    let shown = constants.iter().take(3).map(|(bytes, name)| format!("{name} ({bytes} bytes)"));
    shown.collect::<Vec<_>>().join(", ")
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

/// What is in an argument, by the parameter and the kernel, `kNUMBER_NODE`, that uses it first.
fn tensor(param: &str, kernel: &str) -> String {
    let node = kernel.split_once('_').map_or(kernel, |k| k.1);
    match param {
        "out" => format!("the result of {node}"),
        _ => format!("{param} of {node}"),
    }
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
                            let name = tensor(&param.name, &kernel.name);
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

#[cfg(test)]
mod tests {
    use super::{REACH, within_reach};

    #[test]
    fn constants_out_of_reach_are_refused() {
        within_reach(REACH).unwrap();
        let error = within_reach(REACH + 1).unwrap_err().to_string();
        assert!(error.contains(&format!("{REACH}")) && error.contains("--weights-only"), "{error}");
    }
}
