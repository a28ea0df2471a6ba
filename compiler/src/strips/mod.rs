//! Chains of definitions computed strip by strip: of what lies between them, a few rows exist at a time.
//!
//! ```text
//! expand -> depthwise -> project      for each strip of rows: keep the last rows of the expanded tensor,
//!                                     expand the next ones; filter; project
//! scores -> softmax -> product        for each head, for some rows of its queries: scores, softmax, product (`split`)
//! ```
//! Works on definitions and layouts alone: any run of them whose rows read rows (`chain`) at steady
//! rates (`rates`); a definition may write into the middle of a padded tensor (`frame`). A cost model (`cost`)
//! decides, by what memory traffic saves and what strips take; where most memory is live, strips may cost a
//! little (`memory`); half floats become `f32` inside (`halves`). Nothing is computed twice, each row as
//! without strips. Goldens: `tests/golden/strips`.

mod chain;
mod cost;
mod emit;
mod follow;
mod frame;
mod halves;
mod live;
mod memory;
mod rates;
mod split;

pub use live::{Live, Room, together};

use crate::definition::{Definition, Lowering, ValueId};
use crate::schedule::linear::Layout;
use crate::target::Target;
use chain::{Chain, Link, Part};
use cost::Costs;
pub use cost::Spend;
use emit::Emit;
use frame::{Unit, units};
use memory::Memory;
use rates::Rates;
use split::Cut;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

/// Definitions in one chain at most.
const LONGEST: usize = 8;
/// Strips of about the same length into which a chain is cut at most, where any length may be.
const EVEN: i64 = 64;

/// A chain that pays: how many units, and how.
#[derive(Clone)]
struct Choice<'a> {
    length: usize,
    /// Cycles; negative where it costs some.
    saves: f64,
    cut: Cut<'a>,
}

/// What is known of the kernels that definitions become.
pub struct Kernels<'a> {
    /// Whether a definition must not be cut.
    pub whole: &'a dyn Fn(&Lowering, &[Layout], &Definition) -> bool,
    /// How far a definition's output must begin before the operand of a number, which nothing reads later, for both to
    /// lie in the same memory.
    pub below: &'a dyn Fn(&Lowering, &[Layout], &Definition, usize) -> Option<usize>,
    /// Whether those of chains are expected to write behind what they read, as the model of them does (`follow`).
    pub follow: bool,
}

/// Makes chains of a lowering's stages; gives the bytes that are live at most, by the model. `outputs` are the values
/// that must be written as a whole.
pub fn form(
    lowering: &mut Lowering,
    layouts: &mut Vec<Layout>,
    outputs: &[ValueId],
    (target, spend): (&Target, Spend),
    kernels: &Kernels,
) -> usize {
    let stages = std::mem::take(&mut lowering.stages);
    let values = lowering.values.len();
    let multiplied = target.multiplies_halves();
    let copied = halves::copies(lowering, layouts, &stages, multiplied);
    let prefer = spend.prefer;
    let costs = Costs { target, spend };
    let spared = copied.as_deref().map_or(0.0, |stages| halves::spared(stages, values, &|d| costs.cycles(d)));
    let (plain, copied) = (units(stages), copied.map(units));
    let chosen = |units| choose((lowering, layouts), units, outputs, &costs, kernels);
    let without = chosen(&plain);
    let with = copied.as_deref().map(|units| (units, chosen(units)));
    let (windows, live);
    match with.filter(|(_, with)| with.1 <= halves::room_of_copies(without.1, prefer, spared)) {
        Some((units, with)) => {
            (windows, live) = (lowering.values.len(), with.1);
            emit(lowering, layouts, units, &with.0);
        }
        None => {
            lowering.values.truncate(values);
            lowering.dims.retain(|&value, _| (value as usize) < values);
            layouts.truncate(values);
            (windows, live) = (values, without.1);
            emit(lowering, layouts, &plain, &without.0);
        }
    }
    halves::widen(lowering, outputs, windows, (live, prefer), multiplied);
    live
}

/// The stages with the chains that were chosen.
fn emit(lowering: &mut Lowering, layouts: &mut Vec<Layout>, units: &[Unit], choices: &[Option<Choice>]) {
    let mut emit = Emit { lowering, layouts };
    let mut formed = Vec::new();
    let mut next = 0;
    while let Some(unit) = units.get(next) {
        match &choices[next] {
            Some(choice) => {
                formed.extend(split::stages(&mut emit, &choice.cut));
                next += choice.length;
                formed.extend_from_slice(&units[next - 1].stages[1..]);
            }
            None => {
                formed.extend_from_slice(&unit.stages);
                next += 1;
            }
        }
    }
    lowering.stages = formed;
}

/// For each unit the chain that begins there: those that together save most; and the bytes that are live
/// at most.
fn choose<'a>(
    values: (&Lowering, &[Layout]),
    units: &'a [Unit],
    outputs: &[ValueId],
    costs: &Costs,
    kernels: &Kernels,
) -> (Vec<Option<Choice<'a>>>, usize) {
    let runs = Runs::of(units, outputs, &|d| (kernels.whole)(values.0, values.1, d));
    let mut saved = vec![0.0; units.len() + 1];
    let mut choices: Vec<Option<Choice>> = Vec::new();
    for first in (0..units.len()).rev() {
        let mut best: (f64, Option<Choice>) = (saved[first + 1], None);
        for length in 2..=LONGEST {
            let Some(parts) = runs.run(first, length) else { break };
            let Some(parts) = parts else { continue };
            if let Some((saves, cut)) = cheapest(&parts, costs, values, &|v| runs.dies(v, first + length)) {
                let all = saves + saved[first + length];
                if all > best.0 {
                    best = (all, Some(Choice { length, saves, cut }));
                }
            }
        }
        saved[first] = best.0;
        choices.push(best.1);
    }
    choices.reverse();
    let mut end = 0;
    for (i, choice) in choices.iter_mut().enumerate() {
        choice.take_if(|_| i < end);
        end = choice.as_ref().map_or(end, |c| i + c.length);
    }
    Memory::of(values, units, outputs, &runs.last, (costs, kernels)).lower(&runs, choices)
}

/// The strips that save most, if any do and take no more memory.
fn cheapest<'a>(
    parts: &[Part<'a>],
    costs: &Costs,
    values: (&Lowering, &[Layout]),
    dying: &dyn Fn(ValueId) -> bool,
) -> Option<(f64, Cut<'a>)> {
    let pays = |(saves, cut): &(f64, Cut)| *saves > 0.0 && costs.shrinks(cut, dying);
    candidates(parts, costs, values, true)
        .filter(pays)
        .reduce(|best, next| if next.0 > best.0 { next } else { best })
}

/// All strips of a chain, and of its `pieces`, with the cycles that they save.
fn candidates<'a>(
    parts: &[Part<'a>],
    costs: &Costs,
    (lowering, layouts): (&Lowering, &[Layout]),
    pieces: bool,
) -> impl Iterator<Item = (f64, Cut<'a>)> {
    let axes = parts.last().map_or(0, |last| last.def.axes as u32);
    let chains = (0..axes)
        .filter_map(move |axis| Chain::of(parts, axis, layouts).filter(|c| c.apart(lowering, layouts)));
    let cuts = chains.flat_map(move |chain| {
        let inner = if pieces { split::within(&chain, layouts) } else { Vec::new() };
        let inner = inner.into_iter().filter(|c| c.apart(lowering, layouts));
        let whole = Rc::new(chain);
        let inner = inner.map(|chain| (Some(whole.clone()), Rc::new(chain))).collect::<Vec<_>>();
        [(None, whole)].into_iter().chain(inner)
    });
    cuts.flat_map(move |(around, chain)| {
        heights(&chain).into_iter().filter_map(move |rows| {
            let rates = Rates::of(&chain, rows)?;
            let cut = Cut { around: around.clone(), chain: chain.clone(), rates };
            Some((costs.saved(&cut), cut))
        })
    })
}

/// How many rows strips of a chain may have: where the last one may begin among the rows of the one before, also such
/// as leave little to be computed twice.
fn heights(chain: &Chain) -> BTreeSet<i64> {
    let total = chain.links.last().map_or(0, Link::rows);
    let plain = (1..=total / 2).filter(|r| *r <= 8 || r % 4 == 0);
    let even = (2..=if chain.by_rows() { EVEN } else { 1 }).map(|strips| (total + strips - 1) / strips);
    plain.chain(even.filter(|r| (1..=total / 2).contains(r))).collect()
}

/// Which units may be a chain.
struct Runs<'a> {
    /// Of each unit, its definition, if it may be cut.
    parts: Vec<Option<Part<'a>>>,
    /// Of each, the last unit that reads its output; `None` where it must be written as a whole.
    until: Vec<Option<usize>>,
    /// The last unit that reads each value that units make and nothing outside wants.
    last: HashMap<ValueId, usize>,
}

impl<'a> Runs<'a> {
    fn of(units: &'a [Unit], outputs: &[ValueId], whole: &dyn Fn(&Definition) -> bool) -> Runs<'a> {
        let mut last: HashMap<ValueId, usize> = HashMap::new();
        let mut writers: HashMap<ValueId, usize> = HashMap::new();
        for (i, unit) in units.iter().enumerate() {
            unit.reads().into_iter().for_each(|v| _ = last.insert(v, i));
            unit.writes().into_iter().for_each(|v| *writers.entry(v).or_default() += 1);
        }
        let cut = |d: &Definition| d.output.ty.elems() > 0 && !whole(d);
        let until = |unit: &Unit| {
            let value = unit.part()?.def.output.value;
            let alone = !outputs.contains(&value) && writers[&value] == 1;
            last.get(&value).copied().filter(|_| alone)
        };
        let parts = units.iter().map(|u| u.part().filter(|p| cut(p.def))).collect();
        let until = units.iter().map(until).collect();
        last.retain(|v, _| writers.contains_key(v) && !outputs.contains(v));
        Runs { parts, until, last }
    }

    /// Whether no unit from number `end` on reads a value, nor anything outside.
    fn dies(&self, value: ValueId, end: usize) -> bool {
        self.last.get(&value).is_some_and(|&last| last < end)
    }

    /// The definitions of a run of units. `None`: no longer run is one either; `Some(None)`: this is
    /// none, because something else reads what lies between.
    #[allow(clippy::option_option)]
    fn run(&self, first: usize, length: usize) -> Option<Option<Vec<Part<'a>>>> {
        let parts: Vec<Part> =
            self.parts.get(first..first + length)?.iter().copied().collect::<Option<_>>()?;
        let between = &self.until[first..first + length - 1];
        let ends = between.iter().map(|u| u.map(|u| u < first + length)).collect::<Option<Vec<bool>>>()?;
        Some(ends.into_iter().all(|e| e).then_some(parts))
    }
}

#[cfg(test)]
mod tests;
