//! The search for a plan: the one that takes least memory, or one that keeps to a budget at the least cost of time.
//!
//! Plans differ in what padding lies in memory, in where strips are and how much time these may cost, and in the
//! schedules of definitions: those that are fast, or those that are small. What strips promise is found by a model,
//! and the search for them is no complete one: so plans are made, and compared. Filtered convolutions have up to four times
//! the constants; where these are limited, those that spare least time for a byte are left as they are.

use super::build::{Request, build};
use super::draft::Planned;
use super::grouped::{Grouped, Lowered, below, filtered};
use super::kept::{Texts, keeping, show};
use super::{Choose, Dump, Program, verify};
use crate::definition::{self, Lowering, ValueId, definitions};
use crate::error::{Error, Result};
use crate::group::{Again, spread};
use crate::schedule::linear::{Layout, Linear};
use crate::schedule::{Prefer, Schedule, spared};
use crate::strips::{self, Kernels, Spend};
use crate::target::Target;
use crate::tile;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};

/// Where compiling is to be quick, strips are planned that promise at most so much more than there is already.
const HARDLY: f64 = 1.04;
/// Shares of the time by which plans for size may lose more than those for speed: what a budget is met with first.
const SHARES: [f64; 3] = [0.25, 0.5, 1.0];
/// How often other schedules take the place of those where most is live.
const ROUNDS: usize = 12;
/// Parts of a model in which small schedules are tried.
const PARTS: usize = 2;
/// The share of the arena that something takes which may be computed twice.
const LARGE: f64 = 0.5;
/// The share of the time that this takes at most, where speed is preferred.
const CHEAP: f64 = 0.01;
/// How much must be left of the arena at most, where no budget asks for less.
const LESS: f64 = 0.9;
/// Bytes of flash that a byte of memory is worth: microcontrollers have some four times as much of it.
const WORTH: usize = 4;
/// Other schedules are looked for where they may save one byte in so many.
const WORTHWHILE: usize = 100;

/// What is wanted of a plan.
pub struct Aim<'a> {
    /// What counts.
    pub prefer: Prefer,
    /// Gives the schedules.
    pub choose: &'a Choose<'a>,
    /// Gives the schedules that count the other way: small ones where speed is preferred.
    pub other: Option<&'a Choose<'a>>,
    /// Bytes of the arena, if they are limited: where speed is preferred, as little of it is lost as keeps to them.
    pub ram: Option<usize>,
    /// The same of the constants: filters that multiply them are left out, those first that spare least for a byte.
    pub constants: Option<usize>,
    /// Whether the first plan will do, as for what runs a few times.
    pub first: bool,
}

impl<'a> Aim<'a> {
    /// Speed, whatever it takes.
    pub fn fast(choose: &'a Choose<'a>) -> Aim<'a> {
        Aim { prefer: Prefer::Speed, choose, other: None, ram: None, constants: None, first: false }
    }
}

/// The plan that was found.
pub struct Plan {
    /// The program.
    pub program: Program,
    /// Whether time is lost for the sake of a budget of memory.
    pub slower: bool,
    /// Whether convolutions are filtered with constants that grow by it.
    pub filtered: bool,
}

/// The definitions whose schedules count the other way.
enum Others {
    None,
    All,
    Named(HashSet<String>),
}

impl Others {
    fn have(&self, name: &str) -> bool {
        match self {
            Others::None => false,
            Others::All => true,
            Others::Named(names) => names.contains(name),
        }
    }
}

/// Schedules by what they are of, whatever its name.
type Known = RefCell<HashMap<Linear, Schedule>>;
/// A plan with the texts of its stages.
type Made = (Planned, Texts);
/// ... and whether it is slower than it might be, for the sake of memory.
type Found = (Made, bool);

/// What is the same in all plans.
pub(super) struct Planning<'a> {
    /// In the order in which they are tried.
    grouped: &'a [Grouped],
    wanted: &'a [ValueId],
    name: &'a str,
    target: &'a Target,
    aim: &'a Aim<'a>,
    /// The schedules so far, and those that count the other way.
    known: [Known; 2],
    /// Cycles that filtered convolutions spare for a byte that their constants grow by, if these do.
    spared: RefCell<HashMap<Linear, Option<f64>>>,
    /// What they have to spare more than.
    least: Cell<f64>,
}

impl<'a> Planning<'a> {
    pub(super) fn new(
        grouped: &'a [Grouped],
        wanted: &'a [ValueId],
        name: &'a str,
        target: &'a Target,
        aim: &'a Aim<'a>,
    ) -> Self {
        let (spared, least) = (RefCell::default(), Cell::new(f64::NEG_INFINITY));
        Planning {
            grouped,
            wanted,
            name,
            target,
            aim,
            known: [Known::default(), Known::default()],
            spared,
            least,
        }
    }

    /// The plan that is wanted.
    pub(super) fn search(&self, dump: &Dump) -> Result<Plan> {
        let mut found = self.within_memory(dump)?;
        if let Some(limit) = self.aim.constants.filter(|&limit| constants(&found.0) > limit) {
            found = self.filtering_less(limit, found, dump)?;
        }
        let ((planned, texts), slower) = found;
        show(dump, texts);
        let filtered = self.spared.borrow().values().flatten().any(|&spared| spared > self.least.get());
        Ok(Plan { program: planned.program, slower, filtered })
    }

    /// The plan whose constants keep to a limit, without the filters that spare least, as few of them as that takes; the
    /// one so far where none does.
    fn filtering_less(&self, limit: usize, mut found: Found, dump: &Dump) -> Result<Found> {
        let mut spared: Vec<f64> = self.spared.borrow().values().flatten().copied().collect();
        spared.sort_by(f64::total_cmp);
        spared.dedup();
        let (mut first, mut end) = (0, spared.len());
        while first < end {
            let middle = (first + end) / 2;
            self.least.set(spared[middle]);
            let other = self.within_memory(dump)?;
            if constants(&other.0) <= limit {
                (found, end) = (other, middle);
            } else {
                first = middle + 1;
            }
        }
        self.least.set(spared.get(end).copied().unwrap_or(f64::NEG_INFINITY));
        Ok(found)
    }

    /// The plan that is wanted where constants have no limit, and whether it takes more time to keep to that of memory.
    fn within_memory(&self, dump: &Dump) -> Result<Found> {
        let ways = match self.aim.prefer {
            Prefer::Speed => vec![Spend::fast()],
            Prefer::Size => vec![Spend::small(), Spend::fast()],
        };
        let mut made = self.smallest(&ways, &Others::None, dump)?;
        if self.aim.prefer == Prefer::Speed && !self.aim.first {
            made = self.twice(made, (CHEAP, LESS), |twice| twice.smallest(&ways, &Others::None, dump))?;
        }
        let mut slower = false;
        match (self.aim.prefer, self.aim.ram) {
            (Prefer::Speed, Some(limit)) if bytes(&made) > limit => {
                made = self.within(limit, made, dump)?;
                slower = true;
            }
            (Prefer::Size, _) => {
                if self.aim.other.is_some() {
                    made = self.no_larger(&ways, made, dump)?;
                }
                made = self
                    .twice(made, (f64::INFINITY, LESS), |twice| twice.smallest(&ways, &Others::None, dump))?;
            }
            _ => {}
        }
        Ok((made, slower))
    }

    /// A plan that keeps to a limit, if one is found, by strips that cost more and more time first, then by small
    /// schedules where most is live.
    fn within(&self, limit: usize, mut best: Made, dump: &Dump) -> Result<Made> {
        for share in SHARES {
            let made = self.smallest(&[Spend { share, ..Spend::fast() }], &Others::None, dump)?;
            if bytes(&made) < bytes(&best) {
                best = made;
            }
            if bytes(&best) <= limit {
                return Ok(best);
            }
        }
        let ways = [Spend::fast(), Spend { share: 1.0, ..Spend::fast() }];
        best = self.twice(best, (f64::INFINITY, 1.0), |twice| {
            let made = twice.smallest(&ways, &Others::None, dump)?;
            twice.exchanged(&ways, made, limit, dump)
        })?;
        self.exchanged(&ways, best, limit, dump)
    }

    /// The plan so far, or another one of stages in which what takes most of its arena until its range is known is
    /// computed twice: where that takes a share of the time at most, and leaves one of the memory.
    fn twice(
        &self,
        made: Made,
        (share, less): (f64, f64),
        plan: impl Fn(&Planning) -> Result<Made>,
    ) -> Result<Made> {
        let again = Again { bytes: (bytes(&made) as f64 * LARGE) as usize, share };
        let grouped = self.grouped.iter().filter_map(|g| g.twice(self.wanted, again).transpose());
        let grouped: Vec<Grouped> = grouped.collect::<Result<_>>()?;
        if grouped.is_empty() {
            return Ok(made);
        }
        let twice = Planning::new(&grouped, self.wanted, self.name, self.target, self.aim);
        twice.least.set(self.least.get());
        let other = plan(&twice)?;
        Ok(if bytes(&other) as f64 <= bytes(&made) as f64 * less { other } else { made })
    }

    /// A plan for size that takes fewer bytes than the fast one. Where that has the smaller arena, fast schedules take
    /// the place of small ones where most is live; if that is not enough, small ones that of its own in parts of the
    /// model. Constants of fast schedules are larger: what counts is both.
    fn no_larger(&self, ways: &[Spend], small: Made, dump: &Dump) -> Result<Made> {
        let mut made = self.smallest(&[Spend::fast()], &Others::All, dump)?;
        let most = bytes(&made);
        let key = |made: &Made| (self.exceeds(made), worth(made));
        let more = bytes(&small).saturating_sub(most) * WORTH;
        let hardly = more < worth(&small) / WORTHWHILE && !self.exceeds(&small) && key(&small) <= key(&made);
        if more == 0 || hardly {
            return Ok(small);
        }
        let exchanged = self.exchanged(ways, small, most, dump)?;
        if bytes(&exchanged) > most {
            made = self.in_parts(made, dump)?;
        }
        Ok(if key(&made) < key(&exchanged) { made } else { exchanged })
    }

    /// The plan of fast schedules, with small ones in parts of the model that take no more memory then.
    fn in_parts(&self, mut made: Made, dump: &Dump) -> Result<Made> {
        let most = bytes(&made);
        let all = definitions(&self.grouped[0].lowered.lowering.stages);
        let names: Vec<String> = all.into_iter().map(|def| def.name.clone()).collect();
        let mut others: HashSet<String> = names.iter().cloned().collect();
        for part in names.chunks(names.len().div_ceil(PARTS).max(1)) {
            let part: HashSet<String> = part.iter().cloned().collect();
            let fewer: HashSet<String> = others.difference(&part).cloned().collect();
            let other = self.smallest(&[Spend::fast()], &Others::Named(fewer.clone()), dump)?;
            if bytes(&other) <= most {
                (made, others) = (other, fewer);
            }
        }
        Ok(made)
    }

    /// Whether a plan takes more memory than there is.
    fn exceeds(&self, made: &Made) -> bool {
        self.aim.ram.is_some_and(|limit| bytes(made) > limit)
    }

    /// A plan that keeps to a limit, if one is found, by other schedules where most is live; the smallest otherwise.
    fn exchanged(&self, ways: &[Spend], mut best: Made, limit: usize, dump: &Dump) -> Result<Made> {
        let mut others: HashSet<String> = HashSet::new();
        let mut fullest = best.0.fullest.clone();
        for _ in 0..ROUNDS {
            let new = fullest.into_iter().find(|names| names.iter().any(|name| !others.contains(name)));
            let Some(new) = new.filter(|_| self.aim.other.is_some() && bytes(&best) > limit) else { break };
            others.extend(new);
            let made = self.smallest(ways, &Others::Named(others.clone()), dump)?;
            fullest = made.0.fullest.clone();
            if bytes(&made) < bytes(&best) {
                best = made;
            }
        }
        Ok(best)
    }

    /// The plan that takes least memory; of those that take as much the last, which loses least time, but with as
    /// little padding as the first.
    fn smallest(&self, ways: &[Spend], others: &Others, dump: &Dump) -> Result<Made> {
        let hardly = if ways.contains(&Spend::small()) { f64::INFINITY } else { HARDLY };
        let mut tried: Vec<Lowering> = Vec::new();
        let mut best: Option<Made> = None;
        for (n, grouped) in self.grouped.iter().enumerate() {
            for (spend, follow) in ways.iter().flat_map(|way| [(way, true), (way, false)]) {
                let least = best.as_ref().map_or(usize::MAX, bytes);
                let (lowering, layouts, promised) = self.strips(grouped, (spend, follow), others);
                if promised as f64 > least as f64 * hardly || tried.contains(&lowering) {
                    continue;
                }
                let (planned, texts) = keeping(dump, |dump| {
                    dump("group", &|| Some(grouped.lowered.lowering.to_string()));
                    self.program(&grouped.lowered, (&lowering, &layouts), others, dump)
                })?;
                tried.push(lowering);
                if n == 0 && planned.program.arena_bytes <= least || planned.program.arena_bytes < least {
                    best = Some((planned, texts));
                }
                if let Some(first) = best.take_if(|_| self.aim.first) {
                    return Ok(first);
                }
            }
        }
        best.ok_or_else(|| Error::bug("a model has no plan"))
    }

    /// The schedule of a definition.
    fn choose(&self, linear: &Linear, others: &Others) -> Result<Schedule> {
        let key = Linear { name: String::new(), ..linear.clone() };
        let other = self.aim.other.map(|other| (1, other));
        if let Some(other) = other.filter(|_| others.have(&linear.name)) {
            return self.known(linear, &key, other);
        }
        let schedule = self.known(linear, &key, (0, self.aim.choose))?;
        match other.filter(|_| self.spares_little(&key, &schedule)) {
            Some(other) => self.known(linear, &key, other),
            None => Ok(schedule),
        }
    }

    /// The schedule that one of the two ways gives.
    fn known(&self, linear: &Linear, key: &Linear, (way, choose): (usize, &Choose)) -> Result<Schedule> {
        let known = &self.known[way];
        if let Some(schedule) = known.borrow().get(key) {
            return Ok(schedule.clone());
        }
        let schedule = choose(linear)?;
        known.borrow_mut().insert(key.clone(), schedule.clone());
        Ok(schedule)
    }

    /// Whether a schedule filters a convolution, which spares too little for what its constants grow by.
    fn spares_little(&self, key: &Linear, schedule: &Schedule) -> bool {
        if schedule.winograd.is_none() {
            return false;
        }
        let mut all = self.spared.borrow_mut();
        let spared = match all.get(key) {
            Some(spared) => *spared,
            None => *all.entry(key.clone()).or_insert(spared(key, self.target, schedule)),
        };
        spared.is_some_and(|spared| spared <= self.least.get())
    }

    /// Strips, and the bytes that they promise.
    fn strips(
        &self,
        of: &Grouped,
        (spend, follow): (&Spend, bool),
        others: &Others,
    ) -> (Lowering, Vec<Layout>, usize) {
        let (mut lowering, mut layouts) = (of.lowered.lowering.clone(), of.layouts.clone());
        let choose: &Choose = &|linear| self.choose(linear, others);
        let kernels = Kernels {
            whole: &|low, at, def| filtered(low, at, def, choose),
            below: &|low, at, def, operand| below(low, at, (def, operand), (self.target, choose)),
            follow,
        };
        let to = (self.target, *spend);
        let promised = strips::form(&mut lowering, &mut layouts, self.wanted, to, &kernels);
        if self.aim.prefer == Prefer::Speed {
            spread(&mut lowering, &mut layouts, self.target.vector_bytes / size_of::<f32>());
        }
        (lowering, layouts, promised)
    }

    /// From strips on.
    fn program(
        &self,
        of: &Lowered,
        (lowering, layouts): (&Lowering, &[Layout]),
        others: &Others,
        dump: &Dump,
    ) -> Result<Planned> {
        dump("strips", &|| Some(lowering.to_string()));
        definition::verify(lowering).map_err(|e| e.at("after strips"))?;
        let Lowered { inputs, outputs, visible, .. } = of;
        let planned = build(&Request {
            name: self.name,
            lowering,
            layouts,
            visible: visible.clone(),
            entries: of.entries.as_deref(),
            inputs: inputs.clone(),
            outputs: outputs.clone(),
            target: self.target,
            prefer: self.aim.prefer,
            choose: &|linear| self.choose(linear, others),
            dump,
        })?;
        let program = &planned.program;
        let kernels = || program.kernels.iter().map(|k| k.to_string()).collect::<Vec<_>>().join("\n");
        dump("nest", &|| Some(kernels()));
        program.kernels.iter().try_for_each(tile::verify).map_err(|e| e.at("after nest"))?;
        dump("plan", &|| Some(program.to_string()));
        verify(program).map_err(|e| e.at("after plan"))?;
        Ok(planned)
    }
}

fn bytes(made: &Made) -> usize {
    made.0.program.arena_bytes
}

/// Bytes of a plan's constants.
fn constants(made: &Made) -> usize {
    made.0.program.constant_offsets().1
}

/// Bytes of flash that a plan's memory and constants are worth.
fn worth(made: &Made) -> usize {
    let program = &made.0.program;
    let constants = program.constants.iter().map(|c| c.bytes.len()).sum::<usize>();
    program.arena_bytes * WORTH + constants
}
