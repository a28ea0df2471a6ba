//! Chains of definitions computed strip by strip: of what lies between them, a few rows exist at a time.
//!
//! ```text
//! expand -> depthwise -> project      for each strip of rows: keep the last rows of the expanded tensor,
//!                                     expand the next ones; filter; project
//! scores -> softmax -> product        for each head, or some rows of the queries: scores, softmax, product
//! ```
//! Works on definitions and layouts alone: any run of them whose rows read rows (`chain`) at steady
//! rates (`rates`). A cost model (`cost`) decides, by what memory traffic saves and what strips take.
//! Nothing is computed twice, each row as without strips. Goldens: `tests/golden/strips`.

mod chain;
mod cost;
mod emit;
mod rates;

use crate::definition::{Definition, Lowering, Stage, ValueId};
use crate::schedule::linear::Layout;
use crate::target::Target;
use chain::Chain;
use cost::Costs;
use emit::Emit;
use rates::Rates;
use std::collections::HashMap;

/// Definitions in one chain at most.
const LONGEST: usize = 8;

/// A chain that pays: its first stage, how many, and how.
struct Choice<'a> {
    length: usize,
    chain: Chain<'a>,
    rates: Rates,
}

/// Makes chains of a lowering's stages. `outputs` are the values that must be written as a whole; `whole`
/// says of a definition that it must not be cut.
pub fn form(
    lowering: &mut Lowering,
    layouts: &mut Vec<Layout>,
    outputs: &[ValueId],
    target: &Target,
    whole: &dyn Fn(&Lowering, &[Layout], &Definition) -> bool,
) {
    let stages = std::mem::take(&mut lowering.stages);
    let choices = choose(lowering, layouts, &stages, outputs, target, whole);
    let mut emit = Emit { lowering, layouts };
    let mut formed = Vec::new();
    let mut next = 0;
    while let Some(stage) = stages.get(next) {
        match &choices[next] {
            Some(choice) => {
                formed.extend(emit.chain(&choice.chain, &choice.rates));
                next += choice.length;
            }
            None => {
                formed.push(stage.clone());
                next += 1;
            }
        }
    }
    lowering.stages = formed;
}

/// For each stage the chain that begins there: those that together save most.
fn choose<'a>(
    lowering: &Lowering,
    layouts: &[Layout],
    stages: &'a [Stage],
    outputs: &[ValueId],
    target: &Target,
    whole: &dyn Fn(&Lowering, &[Layout], &Definition) -> bool,
) -> Vec<Option<Choice<'a>>> {
    let costs = Costs { target };
    let runs = Runs::of(stages, outputs, &|d| whole(lowering, layouts, d));
    let mut saved = vec![0.0; stages.len() + 1];
    let mut choices: Vec<Option<Choice>> = Vec::new();
    for first in (0..stages.len()).rev() {
        let mut best: (f64, Option<Choice>) = (saved[first + 1], None);
        for length in 2..=LONGEST {
            let Some(defs) = runs.run(first, length) else { break };
            let Some(defs) = defs else { continue };
            if let Some((saves, chain, rates)) =
                cheapest(&defs, &costs, (lowering, layouts), &|v| runs.dies(v, first + length))
            {
                let all = saves + saved[first + length];
                if all > best.0 {
                    best = (all, Some(Choice { length, chain, rates }));
                }
            }
        }
        saved[first] = best.0;
        choices.push(best.1);
    }
    choices.reverse();
    choices
}

/// The strips that save most, if any do.
fn cheapest<'a>(
    defs: &[&'a Definition],
    costs: &Costs,
    (lowering, layouts): (&Lowering, &[Layout]),
    dying: &dyn Fn(ValueId) -> bool,
) -> Option<(f64, Chain<'a>, Rates)> {
    let last = defs.last()?;
    let mut best: Option<(f64, Chain, Rates)> = None;
    for axis in 0..last.axes as u32 {
        let Some(chain) = Chain::of(defs, axis).filter(|c| c.apart(lowering, layouts)) else { continue };
        let total = chain.links.last()?.rows();
        for rows in (1..=total / 2).filter(|r| *r <= 8 || r % 4 == 0) {
            let Some(rates) = Rates::of(&chain, rows) else { continue };
            let saves = costs.saved(&chain, &rates);
            if saves > best.as_ref().map_or(0.0, |b| b.0) && costs.shrinks(&chain, &rates, dying) {
                best = Some((saves, chain.clone(), rates));
            }
        }
    }
    best
}

/// Which stages may be a chain.
struct Runs<'a> {
    /// Of each stage, its definition, if it may be cut.
    defs: Vec<Option<&'a Definition>>,
    /// Of each, the last stage that reads its output; `None` where it must be written as a whole.
    until: Vec<Option<usize>>,
    /// The last stage that reads each value that stages make and nothing outside wants.
    last: HashMap<ValueId, usize>,
}

impl<'a> Runs<'a> {
    fn of(stages: &'a [Stage], outputs: &[ValueId], whole: &dyn Fn(&Definition) -> bool) -> Runs<'a> {
        let mut last: HashMap<ValueId, usize> = HashMap::new();
        let mut writers: HashMap<ValueId, usize> = HashMap::new();
        for (i, stage) in stages.iter().enumerate() {
            stage.reads().into_iter().for_each(|v| _ = last.insert(v, i));
            stage.writes().into_iter().for_each(|v| *writers.entry(v).or_default() += 1);
        }
        let definition = |stage: &'a Stage| match stage {
            Stage::Define(d) if !d.has_sizes() && d.output.ty.elems() > 0 && !whole(d) => Some(d),
            _ => None,
        };
        let until = |stage: &Stage| match stage {
            Stage::Define(d) if !outputs.contains(&d.output.value) && writers[&d.output.value] == 1 => {
                last.get(&d.output.value).copied()
            }
            _ => None,
        };
        let (defs, until) = (stages.iter().map(definition).collect(), stages.iter().map(until).collect());
        last.retain(|v, _| writers.contains_key(v) && !outputs.contains(v));
        Runs { defs, until, last }
    }

    /// Whether no stage from number `end` on reads a value, nor anything outside.
    fn dies(&self, value: ValueId, end: usize) -> bool {
        self.last.get(&value).is_some_and(|&last| last < end)
    }

    /// The definitions of a run of stages. `None`: no longer run is one either; `Some(None)`: this is
    /// none, because something else reads what lies between.
    #[allow(clippy::option_option)]
    fn run(&self, first: usize, length: usize) -> Option<Option<Vec<&'a Definition>>> {
        let defs: Vec<&Definition> =
            self.defs.get(first..first + length)?.iter().copied().collect::<Option<_>>()?;
        let between = &self.until[first..first + length - 1];
        let ends = between.iter().map(|u| u.map(|u| u < first + length)).collect::<Option<Vec<bool>>>()?;
        Some(ends.into_iter().all(|e| e).then_some(defs))
    }
}

#[cfg(test)]
mod tests;
