//! Chains for the sake of memory: where most is live, strips may cost a little time.
//!
//! The arena is as large as the stage at which most is live. As long as a chain over that stage lowers it
//! and what all such chains lose stays a small share of the model's time, it is formed. What lies in the
//! model's outputs takes none of it: values that an output is written over, and, before an output is written,
//! whatever has room there (`crate::plan`).

use super::chain::Chain;
use super::cost::Costs;
use super::frame::Unit;
use super::rates::Rates;
use super::{Choice, LONGEST, Runs, candidates};
use crate::definition::{Lowering, Stage, ValueId};
use crate::schedule::Prefer;
use crate::schedule::linear::Layout;
use crate::target::Arch;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::ops::Range;

/// The share of the time that may be lost, by the model. It takes losses for larger than they are (on Zen 4
/// measured a fifth to a half of them, on aarch64 two thirds by instructions): in truth it is about one percent where
/// speed is preferred. Products of bytes take a third of the time that models of bytes do, so that more of it may be
/// lost (MobileNetV2, EfficientNet-Lite0: none measured; with AVX2 person detection 2 % for 13 % of its arena, on
/// aarch64 without dot products MiniLM 2 % for 8 %, with them MobileNetV2 .3 % for 17 %).
fn loss(costs: &Costs, bytes: bool) -> f64 {
    match (costs.prefer, costs.target.arch) {
        (Prefer::Speed, Arch::X86_64) if bytes => 0.14,
        (Prefer::Speed, Arch::X86_64) => 0.06,
        (Prefer::Speed, Arch::Aarch64) if bytes => 0.04,
        (Prefer::Speed, Arch::Aarch64) => 0.02,
        (Prefer::Size, Arch::X86_64) => 0.3,
        (Prefer::Size, Arch::Aarch64) => 0.1,
    }
}

/// How much larger the share of memory that is saved must be than that of the time that is lost.
const WORTH: f64 = 2.0;
/// Chains formed or changed at most.
const ROUNDS: usize = 400;

/// When a value is live, by units.
struct Live {
    bytes: usize,
    first: usize,
    last: usize,
}

/// An output: its bytes, and the first unit that uses it.
struct Room {
    bytes: usize,
    until: usize,
}

/// What is live at each unit.
pub struct Memory<'a> {
    live: Vec<Live>,
    rooms: Vec<Room>,
    /// Of each unit, what is written over an operand.
    over: Vec<usize>,
    costs: &'a Costs<'a>,
    /// Cycles of everything.
    total: f64,
    /// Of those, cycles that may be lost.
    loss: f64,
}

impl<'a> Memory<'a> {
    /// `last`: the last unit that reads each value that is made, and wanted nowhere else.
    pub fn of(
        (lowering, layouts): (&Lowering, &[Layout]),
        units: &[Unit],
        outputs: &[ValueId],
        last: &HashMap<ValueId, usize>,
        costs: &'a Costs,
    ) -> Self {
        let mut first: HashMap<ValueId, usize> = HashMap::new();
        let mut place: HashMap<ValueId, ValueId> = HashMap::new();
        for (i, unit) in units.iter().enumerate() {
            unit.writes().into_iter().for_each(|v| _ = first.entry(v).or_insert(i));
            if let Some(Stage::Reshape { from, to }) = unit.stages.first() {
                let root = place.get(from).copied().unwrap_or(*from);
                place.insert(*to, root);
            }
        }
        let mut spans: HashMap<ValueId, Live> = HashMap::new();
        for (value, &last) in last {
            let root = place.get(value).copied().unwrap_or(*value);
            let Some(&first) = first.get(&root) else { continue };
            let ty = &lowering.values[root as usize].ty;
            let bytes = layouts[root as usize].span(&ty.shape) * ty.dtype.size();
            let live = spans.entry(root).or_insert(Live { bytes, first, last });
            live.last = live.last.max(last);
        }
        let mut rooms = Vec::new();
        for &output in outputs {
            let Some(&until) = first.get(&output) else { continue };
            let mut room = Room { bytes: lowering.values[output as usize].ty.bytes(), until };
            while let Some(live) = written_over(units, &spans, room.until).and_then(|v| spans.get_mut(&v)) {
                (live.bytes, room.until) = (0, live.first);
            }
            rooms.push(room);
        }
        let over = |i: usize| written_over(units, &spans, i).map_or(0, |v| spans[&v].bytes);
        let over = (0..units.len()).map(over).collect();
        let cycles = |bytes: bool| {
            let defs = units.iter().filter_map(Unit::part).map(|p| p.def);
            defs.filter(|d| Costs::multiplies_bytes(d) == bytes).map(|d| costs.cycles(d)).sum::<f64>()
        };
        let (floats, bytes) = (cycles(false), cycles(true));
        let total = floats + bytes;
        let loss = loss(costs, bytes > floats) * total;
        Memory { live: spans.into_values().collect(), rooms, over, costs, total, loss }
    }

    /// Bytes live at a unit by itself.
    fn alone(&self, unit: usize) -> usize {
        let there = self.live.iter().filter(|l| l.first <= unit && unit <= l.last);
        let mut live: Vec<(usize, usize)> = there.map(|l| (l.bytes, l.last)).collect();
        if let Some(over) = live.iter().position(|&l| l == (self.over[unit], unit)) {
            live.swap_remove(over);
        }
        self.kept(unit, live)
    }

    /// Bytes live in a chain of units from `first` on: what is there before and wanted then or later, what
    /// it leaves, and its windows.
    fn chained(&self, first: usize, chain: &Chain, rates: &Rates) -> usize {
        let end = first + chain.links.len() - 1;
        let there = self
            .live
            .iter()
            .filter(|l| (l.first < first || l.first == end) && l.last >= first && l.first <= end);
        self.kept(first, there.map(|l| (l.bytes, l.last)).collect()) + self.costs.windows(chain, rates)
    }

    /// Of what is live at a unit, with the unit that reads it last, the bytes that no output has room for.
    fn kept(&self, unit: usize, mut live: Vec<(usize, usize)>) -> usize {
        for room in self.rooms.iter().filter(|r| r.until > unit) {
            live.sort_unstable_by_key(|&l| Reverse(l));
            let mut free = room.bytes;
            live.retain(|&(bytes, last)| {
                let lent = last < room.until && bytes <= free;
                free -= if lent { bytes } else { 0 };
                !lent
            });
        }
        live.into_iter().map(|l| l.0).sum()
    }

    /// Bytes live at each unit.
    fn profile(&self, choices: &[Option<Choice>]) -> Vec<usize> {
        let mut bytes: Vec<usize> = (0..choices.len()).map(|i| self.alone(i)).collect();
        for (first, choice) in choices.iter().enumerate() {
            let Some(Choice { length, chain, rates, .. }) = choice else { continue };
            bytes[first..first + length].fill(self.chained(first, chain, rates));
        }
        bytes
    }

    /// Forms chains over the units where most is live; says how much is live there then.
    pub fn lower<'b>(
        &self,
        runs: &Runs<'b>,
        values: (&Lowering, &[Layout]),
        choices: Vec<Option<Choice<'b>>>,
    ) -> (Vec<Option<Choice<'b>>>, usize) {
        let most = |choices: &[Option<Choice>]| self.profile(choices).into_iter().max().unwrap_or(0);
        let saved = |choices: &[Option<Choice>]| choices.iter().flatten().map(|c| c.saves).sum::<f64>();
        let (before, mut best) = (saved(&choices), (most(&choices), choices.clone()));
        let mut now = choices;
        for _ in 0..ROUNDS {
            let Some(next) = self.step(runs, values, &now, before - self.loss) else {
                break;
            };
            now = next;
            let (bytes, lost) = (most(&now), (saved(&best.1) - saved(&now)).max(0.0) / self.total);
            let gained = 1.0 - bytes as f64 / best.0.max(1) as f64;
            if gained > 0.0 && gained >= WORTH * lost {
                best = (bytes, now.clone());
            }
        }
        (best.1, best.0)
    }

    /// The most that is live at a unit of the chains that go, where the new one does not reach.
    fn uncovered(&self, now: &[Option<Choice>], gone: &[usize], new: Range<usize>) -> usize {
        let units = gone.iter().flat_map(|&i| i..i + now[i].as_ref().map_or(0, |c| c.length));
        units.filter(|u| !new.contains(u)).map(|u| self.alone(u)).max().unwrap_or(0)
    }

    /// The chains with one more over a unit where most is live: the one that leaves least there, but for
    /// what is live elsewhere, and of those the cheapest. All together must save `least` cycles.
    fn step<'b>(
        &self,
        runs: &Runs<'b>,
        values: (&Lowering, &[Layout]),
        now: &[Option<Choice<'b>>],
        least: f64,
    ) -> Option<Vec<Option<Choice<'b>>>> {
        let profile = self.profile(now);
        let most = profile.iter().copied().max()?;
        let peak = profile.iter().position(|&b| b == most)?;
        let elsewhere = profile.iter().copied().filter(|&b| b < most).max().unwrap_or(0);
        let saved: f64 = now.iter().flatten().map(|c| c.saves).sum();
        let mut best: Option<((usize, f64), usize, Choice)> = None;
        for length in 2..=LONGEST {
            for first in (peak + 1).saturating_sub(length)..=peak {
                let Some(Some(parts)) = runs.run(first, length) else { continue };
                let gone = overlapping(now, first, length);
                let lost: f64 = gone.iter().filter_map(|&i| now[i].as_ref()).map(|c| c.saves).sum();
                let bare = self.uncovered(now, &gone, first..first + length);
                if bare >= most {
                    continue;
                }
                for (saves, chain, rates) in candidates(&parts, self.costs, values) {
                    let bytes = self.chained(first, &chain, &rates).max(bare);
                    let score = (bytes.max(elsewhere), lost - saves);
                    let better = best.as_ref().is_none_or(|b| score < b.0);
                    if bytes < most && better && saved - lost + saves >= least {
                        best = Some((score, first, Choice { length, saves, chain, rates }));
                    }
                }
            }
        }
        let (_, first, choice) = best?;
        let mut next = now.to_vec();
        overlapping(now, first, choice.length).into_iter().for_each(|i| next[i] = None);
        next[first] = Some(choice);
        Some(next)
    }
}

/// The operand that a unit writes its output over: of the same size, and read no more.
fn written_over(units: &[Unit], spans: &HashMap<ValueId, Live>, i: usize) -> Option<ValueId> {
    let def = units[i].part()?.def;
    let bytes = def.output.ty.bytes();
    let dies = |v: &ValueId| spans.get(v).is_some_and(|l| l.last == i && l.bytes == bytes);
    def.operands.iter().map(|o| o.value).filter(|_| def.fold.is_none()).find(dies)
}

/// The chains that share a unit with those from `first` on.
fn overlapping(choices: &[Option<Choice>], first: usize, length: usize) -> Vec<usize> {
    let meets = |i: &usize| choices[*i].as_ref().is_some_and(|c| *i < first + length && first < i + c.length);
    (0..choices.len()).filter(meets).collect()
}
