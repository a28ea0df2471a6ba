//! The part of the verifier that looks at the stages of a lowering together.

use super::text::{Printer, Subject};
use super::verify::{Fault, check as check_definition, located, report};
use super::{Carry, Lowering, Operand, Repeat, Routine, Slice, Stage, Strips, ValueId, View};
use crate::base::annotate::annotate;
use crate::base::{DType, TensorType};
use crate::error::Result;
use crate::tile;

/// An internal error where a lowering breaks one of the invariants; it shows the guilty lines.
pub fn verify(lowering: &Lowering) -> Result<()> {
    let mut printer = Printer::default();
    let faults = check(lowering);
    if !faults.is_empty() {
        printer.lowering(lowering, false);
    }
    report(&printer, &faults)
}

/// The text of a lowering with every violation under its line.
pub fn explain_lowering(lowering: &Lowering) -> String {
    let mut printer = Printer::default();
    printer.lowering(lowering, false);
    annotate(&printer.lines, &located(&printer, &check(lowering)))
}

/// All violations of a lowering.
fn check(lowering: &Lowering) -> Vec<Fault> {
    let mut c = Checker { lowering, stage: 0, faults: Vec::new() };
    c.stages(&lowering.stages);
    c.faults
}

struct Checker<'a> {
    lowering: &'a Lowering,
    /// The number of the stage being checked, in the order of the text.
    stage: usize,
    faults: Vec<Fault>,
}

impl<'a> Checker<'a> {
    fn fault(&mut self, reason: String) {
        self.faults.push(Fault { stage: self.stage, subject: Subject::Head, reason });
    }

    fn require(&mut self, holds: bool, reason: impl FnOnce() -> String) {
        if !holds {
            self.fault(reason());
        }
    }

    fn ty(&mut self, value: ValueId) -> Option<&'a TensorType> {
        let found = self.lowering.values.get(value as usize);
        if found.is_none() {
            self.fault(format!("there is no v{value}"));
        }
        found.map(|v| &v.ty)
    }

    fn stages(&mut self, stages: &[Stage]) {
        let mut first_write = vec![usize::MAX; self.lowering.values.len()];
        for (i, stage) in stages.iter().enumerate().rev() {
            for value in stage.writes() {
                if let Some(first) = first_write.get_mut(value as usize) {
                    *first = i;
                }
            }
        }
        for (i, stage) in stages.iter().enumerate() {
            let named = stage.sizes().into_iter().filter_map(|n| Some(self.lowering.sizes.get(n)?.value));
            for value in stage.reads().into_iter().chain(named) {
                let written = first_write.get(value as usize).copied().unwrap_or(usize::MAX);
                // A routine may read back what it writes itself, and so may strips.
                let own = written == i && matches!(stage, Stage::Routine(_) | Stage::Strips(_));
                let later = written != usize::MAX && written >= i && !own;
                self.require(!later, || format!("v{value} is written later"));
            }
            for value in stage.writes() {
                let known = self.lowering.values.get(value as usize);
                let constant = known.is_some_and(|v| v.constant.is_some());
                self.require(!constant, || format!("v{value} is a constant"));
            }
            self.one(stage);
        }
    }

    fn one(&mut self, stage: &Stage) {
        match stage {
            Stage::Define(d) => {
                d.operands.iter().chain([&d.output]).for_each(|o| self.operand(o));
                self.faults.extend(check_definition(d, self.stage));
                self.stage += 1;
            }
            Stage::Routine(routine) => {
                self.routine(routine);
                self.stage += 1;
            }
            Stage::Reshape { from, to } => {
                if let (Some(a), Some(b)) = (self.ty(*from), self.ty(*to)) {
                    let same = a.dtype == b.dtype && a.elems() == b.elems();
                    self.require(same, || format!("v{from} is {a}, v{to} is {b}"));
                }
                self.stage += 1;
            }
            Stage::Repeat(repeat) => {
                self.repeat(repeat);
                self.stage += 1;
                self.stages(&repeat.body);
            }
            Stage::Strips(strips) => {
                self.strips(strips);
                self.stage += 1;
                self.stages(&strips.body);
            }
        }
    }

    fn operand(&mut self, operand: &Operand) {
        if let Some(ty) = self.ty(operand.value) {
            let Operand { value, ty: said } = operand;
            self.require(ty == said, || format!("v{value} is {ty}, not {said}"));
        }
    }

    fn routine(&mut self, routine: &Routine) {
        routine.operands.iter().for_each(|o| self.operand(o));
        let (operands, params) = (&routine.operands, &routine.kernel.params);
        self.require(operands.len() == params.len(), || {
            format!("{} operands for {} parameters", operands.len(), params.len())
        });
        for (operand, param) in operands.iter().zip(params) {
            let fits = operand.ty.dtype == param.dtype && operand.ty.elems() >= param.elems;
            self.require(fits, || {
                format!(
                    "v{} is {}, '{}' is {}[{}]",
                    operand.value, operand.ty, param.name, param.dtype, param.elems
                )
            });
        }
        if let Err(error) = tile::verify(&routine.kernel) {
            self.fault(error.reason);
        }
    }

    fn strips(&mut self, strips: &Strips) {
        for (i, View { whole, part, dim, start, step }) in strips.views.iter().enumerate() {
            if let (Some(whole_ty), Some(part_ty)) = (self.ty(*whole), self.ty(*part)) {
                let mut same = whole_ty.clone();
                let (len, room) = (part_ty.shape.get(*dim).copied(), whole_ty.shape.get(*dim).copied());
                if let (Some(long), Some(short)) = (same.shape.get_mut(*dim), len) {
                    *long = short;
                }
                let end = start + step * strips.count.saturating_sub(1) + len.unwrap_or(0);
                let fits = same == *part_ty && room.is_some_and(|room| end <= room);
                self.require(fits, || format!("v{part} ({part_ty}) is no view of v{whole} ({whole_ty})"));
            }
            let twice = strips.views[..i].iter().any(|v| v.part == *part);
            self.require(!twice, || format!("v{part} is seen twice"));
        }
        let plain = |s: &Stage| matches!(s, Stage::Define(_) | Stage::Strips(_));
        let all = strips.body.iter().all(plain);
        self.require(all, || "strips hold definitions and strips only".to_string());
    }

    fn repeat(&mut self, repeat: &Repeat) {
        for Slice { whole, part, .. } in &repeat.slices {
            if let (Some(whole_ty), Some(part_ty)) = (self.ty(*whole), self.ty(*part)) {
                let fits = whole_ty.dtype == part_ty.dtype
                    && whole_ty.shape.first() == Some(&repeat.count)
                    && whole_ty.shape[1..] == part_ty.shape;
                self.require(fits, || format!("v{part} ({part_ty}) is no slice of v{whole} ({whole_ty})"));
            }
        }
        if let Some(condition) = repeat.condition {
            let carried = repeat.carries.iter().any(|c| c.state == condition);
            let one = self.ty(condition).is_none_or(|t| t.dtype == DType::Bool && t.elems() == 1);
            self.require(carried && one, || format!("v{condition} is no state of one boolean"));
        }
        for Carry { initial, state, next, last } in &repeat.carries {
            let types = [initial, state, next, last].map(|v| self.ty(*v));
            self.require(types.iter().all(|t| *t == types[0]), || {
                format!("v{initial}, v{state}, v{next} and v{last} have several types")
            });
        }
    }
}
