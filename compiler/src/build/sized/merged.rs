//! Samples as one lowering; with further ones, as long as these leave open what a number is.

use super::small::not_empty;
use super::{AT_BOUNDS, SMALLEST, Samples, Sizer, Sizes, over};
use crate::build::Silent;
use crate::error::{Error, Result};
use crate::graph::{Graph, sample_near};
use crate::plan::Lowered;
use crate::sizes::{Merged, Open, Single, Typings, made, merge};

/// How often samples are added.
const MOST_ROUNDS: usize = 12;

/// How often some are added around limits.
const MOST_LIMITED: usize = 4;

/// How often constants are left to run time that were found to depend on sizes.
const MOST_UNFOLDED: usize = 16;

/// Samples that are added around a limit.
const NEAR_LIMIT: usize = 8;

impl Sizer<'_> {
    /// The samples as one lowering: with further ones, where those leave open what a number is, and with more computed at
    /// run time, where constants depend on the sizes. Gives the dimensions, too, that must not be 1.
    pub(super) fn merged(&mut self, mut samples: Samples, least: &Sizes) -> Result<(Lowered, Vec<String>)> {
        let (mut rounds, mut unfolded, mut learned) = (0, 0, samples.made.len());
        let mut others = self.between(&samples.typed[0].1.0, least);
        let names = self.model.body.names();
        let mut compares = false;
        loop {
            let typings = Typings {
                samples: samples.typed.iter().map(|(_, (graph, _))| graph).collect(),
                others: self.singles().chain(&others).collect(),
                names: &names,
                computed: &self.computed,
                undefined: &self.undefined,
                last: rounds >= MOST_ROUNDS,
                compares,
            };
            let merged = merge(&samples.made, &typings);
            let is_new = samples.made.len() > learned;
            if is_new && !matches!(merged, Ok(Merged::One(..))) {
                learned = self.learn_again(&mut samples)?;
                continue;
            }
            match merged? {
                Merged::One(lowered, mut open) => {
                    rounds += 1;
                    if rounds > MOST_LIMITED {
                        open.limits.clear();
                    }
                    if rounds <= MOST_ROUNDS && self.add(&mut samples, &open, least)? {
                        continue;
                    }
                    let Some(found) = &open.unfit else {
                        compares = true;
                        continue;
                    };
                    let unfit = self.unfit(found)?;
                    let more = self.contradicting(found, &mut others);
                    compares = false;
                    if more.is_empty() && !is_new {
                        return Ok((lowered, unfit));
                    }
                    for (sizes, name) in more {
                        self.sample(&mut samples, sizes, AT_BOUNDS).map_err(|e| e.at(format!("'{name}'")))?;
                    }
                    learned = self.learn_again(&mut samples)?;
                }
                Merged::Unlike(names, error) => {
                    unfolded += 1;
                    self.unfold(&mut samples, names, error, unfolded > MOST_UNFOLDED)?;
                }
            }
        }
    }

    /// Leaves constants to run time; the error where there are none that can be.
    fn unfold(&mut self, samples: &mut Samples, names: Vec<String>, error: Error, over: bool) -> Result<()> {
        let made = made(&samples.typed[0].1.0);
        // Behind the names of values of bodies stands a number.
        let typed = |name: &String| match made.contains_key(name) {
            true => Some(name.clone()),
            false => Some(name.rsplit_once('.')?.0.to_string()).filter(|name| made.contains_key(name)),
        };
        let more: Vec<String> = names.iter().filter_map(typed).collect();
        let before = self.computed.len();
        self.computed.extend(more);
        if self.computed.len() == before || over {
            return Err(error);
        }
        self.lower_again(samples)
    }

    /// Lowers all samples by what is alike in those, too, that were added; how many these are.
    fn learn_again(&mut self, samples: &mut Samples) -> Result<usize> {
        self.learn(&samples.typed);
        self.lower_again(samples)?;
        Ok(samples.made.len())
    }

    fn lower_again(&mut self, samples: &mut Samples) -> Result<()> {
        samples.made = self.made_of(&samples.typed, &Silent).map_err(|(_, error)| error)?.0;
        Ok(())
    }

    /// The dimensions for which 1 is another case; an error where that is so of a size that data decide, or 0 is one.
    fn unfit(&self, unfit: &[(usize, String)]) -> Result<Vec<String>> {
        let names: Vec<&String> = self.ones.iter().filter(|one| one.1.is_some()).map(|one| one.0).collect();
        let of_data = |(i, _): &&(usize, String)| (0..self.of_data.len()).any(|n| names.len() + n == *i);
        if let Some((_, name)) = unfit.iter().find(of_data) {
            let reason = "with sizes that data decide: it is computed in another way where they are 0 or 1";
            return Err(Error::model(reason)
                .advise("Export the model without this node, or with a size that is at least 2")
                .at(format!("'{name}'")));
        }
        let first = names.len() + self.of_data.len();
        let empty =
            |(i, name): &(usize, String)| Some((self.empty.get(i.checked_sub(first)?)?, name.clone()));
        if let Some(((dimension, _), name)) = unfit.iter().find_map(empty) {
            let reason = format!("'{name}' is computed in another way then");
            return Err(not_empty(dimension, &reason));
        }
        Ok(unfit.iter().filter_map(|(i, _)| names.get(*i).map(|n| n.to_string())).collect())
    }

    /// Takes those of the other sizes out for which what was found says something else, with the name of a value of which
    /// it does: they must be samples.
    fn contradicting(&self, unfit: &[(usize, String)], others: &mut Vec<Single>) -> Vec<(Sizes, String)> {
        let before = self.singles().count();
        let wrong = unfit.iter().filter_map(|(i, name)| Some((i.checked_sub(before)?, name)));
        let mut wrong: Vec<(usize, &String)> = wrong.collect();
        wrong.sort_unstable();
        let taken = wrong.into_iter().rev().map(|(i, name)| (others.remove(i).sizes, name.clone()));
        let free = |sizes: Sizes| sizes.into_iter().filter(|(n, _)| self.free.contains_key(n)).collect();
        taken.map(|(sizes, name)| (free(sizes), name)).collect()
    }

    /// Adds the samples that leave less open; whether there is another state of knowledge.
    fn add(&mut self, samples: &mut Samples, open: &Open, least: &Sizes) -> Result<bool> {
        let before = (samples.made.len(), self.undefined.len());
        for point in &open.sizes {
            let chosen: Option<Sizes> = point.iter().map(|(name, &value)| self.inner(name, value)).collect();
            let below = |sizes: &Sizes| {
                sizes.iter().any(|(name, &value)| value < least.get(name).copied().unwrap_or(SMALLEST))
            };
            let sizes = chosen.filter(|sizes| !below(sizes)).map(|sizes| over(&self.free, sizes));
            let number = samples.made.len() as u32 + 1;
            match sizes.filter(|sizes| self.typed(sizes, number, &Silent).is_ok()) {
                Some(sizes) => self.sample(samples, sizes, number)?,
                None => self.undefined.push(point.clone()),
            }
        }
        let near =
            |&limit: &usize| (0..NEAR_LIMIT).map(move |i| sample_near(limit, (before.0 + i) as u32 + 1));
        for number in open.limits.iter().flat_map(near) {
            let sizes = self.free.clone();
            if self.typed(&sizes, number, &Silent).is_ok() {
                self.sample(samples, sizes, number)?;
            }
        }
        Ok(before != (samples.made.len(), self.undefined.len()))
    }

    /// A size that is given as one of those for which samples are made.
    fn inner(&self, name: &str, value: usize) -> Option<(String, usize)> {
        match self.hidden.iter().find(|(_, (by, ..))| by == name) {
            Some((inner, (_, times, number))) => {
                let parts = value.checked_sub(*number).filter(|v| *v > 0 && v % times == 0)?;
                Some((inner.clone(), parts / times))
            }
            None => self.free.contains_key(name).then(|| (name.to_string(), value)),
        }
    }

    /// One more sample: an error where it is not lowered.
    fn sample(&self, samples: &mut Samples, sizes: Sizes, number: u32) -> Result<()> {
        let graph = self.typed(&sizes, number, &Silent)?;
        let sample = self.lowered(self.rewritten(graph.clone(), &Silent)?.0, &sizes)?;
        samples.made.push(sample);
        samples.typed.push((sizes, graph));
        Ok(())
    }

    /// The model typed for sizes between those of the samples.
    fn between(&self, graph: &Graph, least: &Sizes) -> Vec<Single> {
        let typed = |sizes: Sizes| {
            let (graph, _) = self.typed(&sizes, AT_BOUNDS, &Silent).ok()?;
            Some(Single { sizes: self.bindings.with_sums(sizes).ok()?, graph, is_apart: false })
        };
        super::between::between(graph, &self.free, least).into_iter().filter_map(typed).collect()
    }
}
