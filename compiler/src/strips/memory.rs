//! Chains for the sake of memory: where most is live, strips may cost a little time.
//!
//! The arena is as large as the stage at which most is live. As long as a chain over that stage lowers it
//! and what all such chains lose stays a small share of the model's time, it is formed. What lies in the
//! model's outputs takes none of it: values that an output is written over, and, before an output is written,
//! whatever has room there (`crate::plan`). A stage's result may also follow what it has read of an operand; that
//! depends on its kernel, which is asked for where most is live only. So may a chain's, which is found by its rows
//! (`follow`).

use super::cost::{Costs, Spend};
use super::frame::Unit;
use super::split::Cut;
use super::{Choice, Kernels, LONGEST, Live, Room, Runs, candidates, follow, together};
use crate::definition::{Lowering, Stage, ValueId};
use crate::schedule::Prefer;
use crate::schedule::linear::Layout;
use crate::target::Arch;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::ops::Range;

/// What memory may cost.
struct Price {
    /// The share of the time that may be lost, by the model, where speed is preferred, and where size is.
    loss: (f64, f64),
    /// How much larger the share of memory that is saved must be than that of the time that is lost, likewise.
    worth: (f64, f64),
}

/// Most of the time is spent with floats. The model takes losses for larger than they are (on Zen 4 measured a fifth to
/// a half of them, on aarch64 two thirds by instructions): in truth it is about one percent where speed is preferred.
const X86_FLOATS: Price = Price { loss: (0.06, 0.3), worth: (2.0, 2.0) };
/// ... with bytes. Their products take a third of the time, so that more of it may be lost: person detection loses 4 %
/// for 28 % of its arena. Where size is preferred it loses 13 % for 39 %, streaming wake words 7 % for 28 %.
const X86_BYTES: Price = Price { loss: (0.14, 0.3), worth: (2.5, 1.5) };
const ARM_FLOATS: Price = Price { loss: (0.02, 0.1), worth: (2.0, 2.0) };
/// Without dot products MiniLM loses 2 % for 8 % of its arena, with them MobileNetV2 .3 % for 17 %.
const ARM_BYTES: Price = Price { loss: (0.04, 0.1), worth: (2.0, 2.0) };

/// The part of what memory must be worth that counts less where a budget has to be met.
const MET: f64 = 0.75;

impl Price {
    fn of(arch: Arch, bytes: bool) -> &'static Price {
        match (arch, bytes) {
            (Arch::X86_64, false) => &X86_FLOATS,
            (Arch::X86_64, true) => &X86_BYTES,
            (Arch::Aarch64, false) => &ARM_FLOATS,
            (Arch::Aarch64, true) => &ARM_BYTES,
        }
    }

    fn loss(&self, spend: Spend) -> f64 {
        self.loss.0 + spend.share * (self.loss.1 - self.loss.0)
    }

    fn worth(&self, spend: Spend) -> f64 {
        match spend.prefer {
            Prefer::Speed => self.worth.0 * (1.0 - MET * spend.share),
            Prefer::Size => self.worth.1,
        }
    }
}

/// Chains formed or changed at most.
const ROUNDS: usize = 400;

/// What is live at each unit.
pub struct Memory<'a> {
    values: (&'a Lowering, &'a [Layout]),
    units: &'a [Unit],
    /// By units.
    live: HashMap<ValueId, Live>,
    /// What each value is a reshape of.
    place: HashMap<ValueId, ValueId>,
    rooms: Vec<Room>,
    /// Of each unit, what is written over an operand.
    over: Vec<usize>,
    /// Whether what follows operands counts.
    shares: bool,
    /// Of units that have been asked: an operand, what follows it, and how far before it that begins.
    trails: HashMap<usize, Option<(Live, Live, usize)>>,
    costs: &'a Costs<'a>,
    kernels: &'a Kernels<'a>,
    /// Cycles of everything.
    total: f64,
    /// Of those, cycles that may be lost.
    loss: f64,
    /// By how much more of the memory must be saved.
    worth: f64,
}

impl<'a> Memory<'a> {
    /// `last`: the last unit that reads each value that is made, and wanted nowhere else.
    pub fn of(
        (lowering, layouts): (&'a Lowering, &'a [Layout]),
        units: &'a [Unit],
        outputs: &[ValueId],
        last: &HashMap<ValueId, usize>,
        (costs, kernels): (&'a Costs, &'a Kernels),
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
        let price = Price::of(costs.target.arch, bytes > floats);
        let (loss, worth) = (price.loss(costs.spend) * total, price.worth(costs.spend));
        Memory {
            values: (lowering, layouts),
            units,
            live: spans,
            place,
            rooms,
            over,
            shares: true,
            trails: HashMap::new(),
            costs,
            kernels,
            total,
            loss,
            worth,
        }
    }

    /// Bytes live at a unit by itself.
    fn alone(&self, unit: usize) -> usize {
        let there = self.live.values().filter(|l| l.first <= unit && unit <= l.last);
        let mut live: Vec<(usize, usize)> = there.map(|l| (l.bytes, l.last)).collect();
        take(&mut live, (self.over[unit], unit));
        self.shared(unit, live, self.trails.get(&unit).copied().flatten())
    }

    /// Of what is live at a unit, the bytes that are left where one value may follow another one.
    fn shared(
        &self,
        unit: usize,
        mut live: Vec<(usize, usize)>,
        trail: Option<(Live, Live, usize)>,
    ) -> usize {
        let Some((old, new, below)) = trail.filter(|_| self.shares) else {
            return self.kept(unit, live);
        };
        let apart = self.kept(unit, live.clone());
        take(&mut live, (old.bytes, old.last));
        take(&mut live, (new.bytes, new.last));
        live.push((together(old.bytes, new.bytes, below), new.last));
        apart.min(self.kept(unit, live))
    }

    /// Finds out what the result of a unit may follow; says whether that was not known before.
    fn ask(&mut self, unit: usize) -> bool {
        if !self.shares || self.trails.contains_key(&unit) {
            return false;
        }
        let found = self.trail(unit);
        self.trails.insert(unit, found);
        true
    }

    /// What is live of a value.
    fn of_value(&self, value: ValueId) -> Option<Live> {
        self.live.get(self.place.get(&value).unwrap_or(&value)).copied()
    }

    /// The operand that shares most bytes with the result of a unit.
    fn trail(&self, unit: usize) -> Option<(Live, Live, usize)> {
        let def = self.units[unit].part()?.def;
        let new = self.of_value(def.output.value).filter(|l| l.first == unit && self.over[unit] == 0)?;
        let olds = (0..def.operands.len()).filter_map(|i| Some((i, self.of_value(def.operands[i].value)?)));
        let dying = olds.filter(|(_, l)| l.last == unit && l.first < unit && l.bytes > 0);
        let (lowering, layouts) = self.values;
        let trails = dying.filter_map(|(i, old)| {
            (self.kernels.below)(lowering, layouts, def, i).map(|below| (old, new, below))
        });
        trails.max_by_key(most_shared)
    }

    /// The operand that shares most bytes with the result of a chain of units from `first` on.
    fn followed(&self, first: usize, cut: &Cut) -> Option<(Live, Live, usize)> {
        let Cut { around: None, chain, rates } = cut else { return None };
        let end = first + chain.links.len() - 1;
        let new = self.of_value(chain.links.last()?.def.output.value).filter(|l| l.first == end)?;
        let operands = || chain.links.iter().flat_map(|l| l.def.operands.iter().map(|o| o.value));
        let root = |v: ValueId| *self.place.get(&v).unwrap_or(&v);
        let trails = operands().filter_map(|value| {
            let old = self.of_value(value).filter(|l| l.first < first && l.last <= end && l.bytes > 0)?;
            let alone = operands().all(|other| other == value || root(other) != root(value));
            let below = follow::below(chain, rates, self.values.1, value).filter(|_| alone)?;
            Some((old, new, below))
        });
        trails.max_by_key(most_shared)
    }

    /// Bytes live in a chain of units from `first` on: what is there before and wanted then or later, what
    /// it leaves, and its windows.
    fn chained(&self, first: usize, cut: &Cut) -> usize {
        let Cut { chain, rates, .. } = cut;
        let end = first + chain.links.len() - 1;
        let there = (self.live.values())
            .filter(|l| (l.first < first || l.first == end) && l.last >= first && l.first <= end);
        // An output that the chain writes has room for nothing from its first strip on.
        let live = there.map(|l| (l.bytes, l.last)).collect();
        let windows = self.costs.windows(chain, rates);
        if !self.kernels.follow {
            return self.kept(end, live) + windows;
        }
        let trail = if self.shares { self.followed(first, cut) } else { None };
        self.shared(end, live, trail) + windows + self.costs.edges(chain)
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

    /// Bytes live at each unit, where most is live by what is known of the kernels.
    fn profile(&mut self, choices: &[Option<Choice>]) -> Vec<usize> {
        loop {
            let profile = self.known(choices);
            let most = profile.iter().copied().max().unwrap_or(0);
            let formed = choices.iter().enumerate().filter_map(|(i, c)| Some(i..i + c.as_ref()?.length));
            let formed: Vec<Range<usize>> = formed.collect();
            let bare = |u: &usize| profile[*u] == most && !formed.iter().any(|chain| chain.contains(u));
            let full: Vec<usize> = (0..profile.len()).filter(bare).collect();
            if full.into_iter().filter(|&unit| self.ask(unit)).count() == 0 {
                return profile;
            }
        }
    }

    /// Bytes live at each unit, by what has been asked so far.
    fn known(&self, choices: &[Option<Choice>]) -> Vec<usize> {
        let mut bytes: Vec<usize> = (0..choices.len()).map(|i| self.alone(i)).collect();
        for (first, choice) in choices.iter().enumerate() {
            let Some(Choice { length, cut, .. }) = choice else { continue };
            bytes[first..first + length].fill(self.chained(first, cut));
        }
        bytes
    }

    /// Forms chains over the units where most is live; says how much is live there then.
    pub fn lower<'b>(
        mut self,
        runs: &Runs<'b>,
        choices: Vec<Option<Choice<'b>>>,
    ) -> (Vec<Option<Choice<'b>>>, usize) {
        let most = |memory: &mut Self, choices: &[Option<Choice>]| {
            memory.profile(choices).into_iter().max().unwrap_or(0)
        };
        let saved = |choices: &[Option<Choice>]| choices.iter().flatten().map(|c| c.saves).sum::<f64>();
        let (before, mut best) = (saved(&choices), (most(&mut self, &choices), choices.clone()));
        // What follows operands leads the search elsewhere, and so do pieces, mostly but not always to less.
        for (shares, pieces) in [(false, false), (true, false), (false, true), (true, true)] {
            let mut now = choices.clone();
            for _ in 0..ROUNDS {
                self.shares = shares;
                let next = self.step(runs, &now, before - self.loss, pieces);
                self.shares = true;
                let Some(next) = next else { break };
                now = next;
                let (bytes, saves) = (most(&mut self, &now), saved(&now));
                let lost = (saved(&best.1) - saves).max(0.0) / self.total;
                let gained = 1.0 - bytes as f64 / best.0.max(1) as f64;
                if gained > 0.0 && gained >= self.worth * lost || bytes == best.0 && saves > saved(&best.1) {
                    best = (bytes, now.clone());
                }
            }
        }
        (best.1, best.0)
    }

    /// The most that is live at a unit of the chains that go, where the new one does not reach.
    fn uncovered(
        &mut self,
        now: &[Option<Choice>],
        gone: &[usize],
        new: &Range<usize>,
        most: usize,
    ) -> usize {
        let units = gone.iter().flat_map(|&i| i..i + now[i].as_ref().map_or(0, |c| c.length));
        let bare: Vec<usize> = units.filter(|u| !new.contains(u)).collect();
        loop {
            let Some(&fullest) = bare.iter().max_by_key(|&&u| self.alone(u)) else { return 0 };
            let bytes = self.alone(fullest);
            if bytes < most || !self.ask(fullest) {
                return bytes;
            }
        }
    }

    /// The chains with one more over a unit where most is live: the one that leaves least there, but for
    /// what is live elsewhere, and of those the cheapest. All together must save `least` cycles.
    /// `pieces`: chains may be cut into pieces first.
    fn step<'b>(
        &mut self,
        runs: &Runs<'b>,
        now: &[Option<Choice<'b>>],
        least: f64,
        pieces: bool,
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
                let bare = self.uncovered(now, &gone, &(first..first + length), most);
                if bare >= most {
                    continue;
                }
                for (saves, cut) in candidates(&parts, self.costs, self.values, pieces) {
                    let bytes = self.chained(first, &cut).max(bare);
                    let score = (bytes.max(elsewhere), lost - saves);
                    let better = best.as_ref().is_none_or(|b| score < b.0);
                    if bytes < most && better && saved - lost + saves >= least {
                        best = Some((score, first, Choice { length, saves, cut }));
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

/// The bytes that two values share.
fn most_shared((old, new, below): &(Live, Live, usize)) -> usize {
    old.bytes + new.bytes - together(old.bytes, new.bytes, *below)
}

/// Removes bytes that are live up to a unit.
fn take(live: &mut Vec<(usize, usize)>, one: (usize, usize)) {
    live.iter().position(|&other| other == one).map(|at| live.swap_remove(at));
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
