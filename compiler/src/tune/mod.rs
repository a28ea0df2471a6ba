//! Searches schedules: candidates are compiled, checked against the naive loops, and timed on this
//! machine, interleaved, by their least time.
//!
//! From the model's choice and the other ways to fill lanes, steps to neighbours are taken as long as
//! they gain. What is written never changes results but in the last bits of reordered sums.

mod trial;

use crate::base::Tensor;
use crate::error::{Error, Result};
use crate::schedule::choose::choose;
use crate::schedule::linear::Facts;
use crate::schedule::{Linear, Schedule, neighbours, openings};
use crate::target::Target;
use std::time::{Duration, Instant};
use trial::{Data, Trial, agrees};

/// A schedule must be this much faster to take the place of another.
const GAIN: f64 = 0.98;
/// Candidates that are measured again after the first look.
const FINALISTS: usize = 4;
/// Bytes of code that a kernel may have at any rate, and how many times more than the chosen one's.
const SMALL_CODE: usize = 4096;
const CODE_GROWTH: usize = 2;

/// What was found for a definition.
pub struct Found {
    /// What the cost model chooses, and its nanoseconds.
    pub chosen: (Schedule, f64),
    /// The fastest, and its nanoseconds; the chosen one where nothing is faster.
    pub best: (Schedule, f64),
    /// Candidates that were measured.
    pub tried: usize,
    /// Candidates whose results were wrong: defects of the compiler, never taken.
    pub wrong: Vec<Schedule>,
}

struct Search<'a> {
    linear: &'a Linear,
    target: &'a Target,
    data: Data,
    naive: Tensor,
    seen: Vec<Schedule>,
    tried: usize,
    code_limit: usize,
    wrong: Vec<Schedule>,
    end: Instant,
}

/// Searches for about the given time. An error where the target's code does not run here, where the definition
/// refuses the data that are tried, or where its time depends on its constants.
pub fn tune(linear: &Linear, target: &Target, budget: Duration) -> Result<Found> {
    let end = Instant::now() + budget;
    // Seeded sums do not begin with the bits of floats.
    let linear = &Linear { facts: Facts { placed: None, ..linear.facts }, ..linear.clone() };
    let schedule = choose(linear, target);
    if in_chains(&schedule) {
        return Err(Error::options(
            "words in chains are not tuned, since their constants say how many there are",
        )
        .at(linear.name.clone()));
    }
    let (data, naive) = reference(linear, target)?;
    let mut search = Search {
        linear,
        target,
        data,
        naive,
        seen: Vec::new(),
        tried: 0,
        code_limit: usize::MAX,
        wrong: Vec::new(),
        end,
    };
    let Some(mut chosen) = search.trial(&schedule)? else {
        return Err(Error::bug("the chosen schedule computes something else than the naive loops")
            .at(linear.name.clone()));
    };
    search.code_limit = SMALL_CODE.max(CODE_GROWTH * chosen.code_bytes);
    let (mut best, mut best_trial): (Schedule, Option<Trial>) = (schedule.clone(), None);
    let mut next = openings(linear, target);
    next.extend(neighbours(&schedule, linear, target));
    loop {
        let better = search.step(next, best_trial.as_mut().unwrap_or(&mut chosen))?;
        let Some((schedule, trial)) = better else { break };
        next = neighbours(&schedule, linear, target);
        (best, best_trial) = (schedule, Some(trial));
    }
    if let Some(trial) = &mut best_trial {
        measure(&mut [&mut chosen, trial], 30)?;
    }
    // What was faster in the search may not be in the end.
    let best = match best_trial.filter(|trial| trial.best < chosen.best) {
        Some(trial) => (best, trial.best),
        None => (schedule.clone(), chosen.best),
    };
    Ok(Found { chosen: (schedule, chosen.best), best, tried: search.tried, wrong: search.wrong })
}

/// Whether words are multiplied in chains, which are formed of the model's own constants.
fn in_chains(schedule: &Schedule) -> bool {
    schedule.chains && schedule.winograd.is_none()
}

/// Data that the definition takes, and the result of its naive loops on them.
fn reference(linear: &Linear, target: &Target) -> Result<(Data, Tensor)> {
    let schedule = Schedule::naive(linear);
    let with = |zeros: bool| -> Result<(Data, Tensor)> {
        let data = Data::new(linear, zeros);
        let naive = Trial::new(linear, &schedule, target, &data)?.result(linear)?;
        Ok((data, naive))
    };
    with(false).or_else(|_| with(true)).map_err(|e| e.at(linear.name.clone()))
}

impl Search<'_> {
    /// A candidate, run once; `None` where its result is wrong or its code too large.
    fn trial(&mut self, schedule: &Schedule) -> Result<Option<Trial>> {
        self.seen.push(schedule.clone());
        let mut trial = Trial::new(self.linear, schedule, self.target, &self.data)?;
        if trial.code_bytes > self.code_limit {
            return Ok(None);
        }
        let result = trial.result(self.linear)?;
        if !agrees(&result, &self.naive, schedule.reorders(self.linear)) {
            self.wrong.push(schedule.clone());
            return Ok(None);
        }
        self.tried += 1;
        measure(&mut [&mut trial], 3)?;
        Ok(Some(trial))
    }

    /// The fastest of some candidates, where it is faster than the best so far.
    fn step(&mut self, list: Vec<Schedule>, best: &mut Trial) -> Result<Option<(Schedule, Trial)>> {
        let mut found: Vec<(Schedule, Trial)> = Vec::new();
        for schedule in list {
            if Instant::now() > self.end {
                break;
            }
            if !in_chains(&schedule) && !self.seen.contains(&schedule) {
                let trial = self.trial(&schedule)?;
                found.extend(trial.map(|t| (schedule, t)));
            }
        }
        found.sort_by(|a, b| a.1.best.total_cmp(&b.1.best));
        found.truncate(FINALISTS);
        let mut trials: Vec<&mut Trial> = found.iter_mut().map(|f| &mut f.1).collect();
        trials.push(best);
        measure(&mut trials, 12)?;
        found.sort_by(|a, b| a.1.best.total_cmp(&b.1.best));
        Ok(found.into_iter().next().filter(|f| f.1.best < best.best * GAIN))
    }
}

/// Samples in turns.
fn measure(trials: &mut [&mut Trial], rounds: usize) -> Result<()> {
    for _ in 0..rounds {
        trials.iter_mut().try_for_each(|t| t.sample())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{DType, TensorType};
    use crate::definition::DefBuilder;
    use crate::scalar::{Fold, Op};
    use crate::schedule::linear::Layout;
    use crate::target::resolve;

    /// The search finds nothing slower than what the model chooses, and every candidate agrees with
    /// the naive loops.
    #[test]
    fn a_product_is_tuned() {
        let (m, n, k) = (6, 40, 24);
        let (a, b, c) = (
            TensorType::new(DType::F32, [m, k]),
            TensorType::new(DType::F32, [k, n]),
            TensorType::new(DType::F32, [m, n]),
        );
        let mut d = DefBuilder::new(&[m, n]);
        let axes = d.axes();
        let over = d.reduce("k", k);
        let (x, y) =
            (d.load(0, &a, vec![axes[0].clone(), over.clone()]), d.load(1, &b, vec![over, axes[1].clone()]));
        let product = d.op(Op::Mul, &[x, y]);
        let sum = d.fold(Fold::Sum, product);
        let def = d.finish("product", 2, &c, sum);
        let layouts = [Layout::dense(&a.shape), Layout::dense(&b.shape)];
        let linear = Linear::new(&def, &layouts, &[false, true], &Layout::dense(&c.shape));
        let target = resolve("native", "native").expect("this machine");
        let found = tune(&linear, &target, Duration::from_secs(60)).expect("a search");
        assert!(found.wrong.is_empty(), "{}", found.wrong[0].display(&linear));
        assert!(found.best.1 <= found.chosen.1 && found.tried > 1);
    }

    #[test]
    fn words_in_chains_are_refused() {
        let ty = |dtype, shape: [usize; 2]| TensorType::new(dtype, shape);
        let (a, b, c) = (ty(DType::I8, [16, 64]), ty(DType::I8, [64, 32]), ty(DType::I32, [16, 32]));
        let mut d = DefBuilder::new(&c.shape);
        let (row, column, over) = (d.var(0), d.var(1), d.reduce("k", 64));
        let (x, y) = (d.load(0, &a, vec![row, over.clone()]), d.load(1, &b, vec![over, column]));
        let (x, y) = (d.cast(DType::I32, x), d.cast(DType::I32, y));
        let product = d.op(Op::Mul, &[x, y]);
        let sum = d.fold(Fold::Sum, product);
        let def = d.finish("product", 2, &c, sum);
        let layouts = [Layout::dense(&a.shape), Layout::dense(&b.shape)];
        let mut linear = Linear::new(&def, &layouts, &[false, true], &Layout::dense(&c.shape));
        let target = resolve("x86_64", "x86-64-v3").unwrap();
        let weights: Vec<u8> = (0..64 * 32).map(|i| (i * 7 % 61) as u8).collect();
        let formed = crate::nest::chains(&linear, &target, |i| (i == 1).then_some(weights.as_slice()));
        linear.facts.chains = formed.map(|f| f.chains);
        assert!(choose(&linear, &target).chains);
        assert!(tune(&linear, &target, Duration::ZERO).is_err());
    }
}
