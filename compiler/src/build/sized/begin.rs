//! Where a model with free sizes begins to be defined, in which steps, and up to where.

use super::{AT_BOUNDS, Check, SMALLEST, Sizer, Sizes, over};
use crate::build::Silent;
use crate::error::{Error, Result};
use crate::import::{Bindings, Sum};
use crate::sizes::{Sample, same_steps, samples};
use std::collections::{BTreeSet, HashSet};

/// Samples at and above the smallest size for which a model is defined.
const BEGINNING: usize = 3;

/// The largest step between sizes for which a model is defined that is found of itself.
const LARGEST_STEP: usize = 128;

/// How many steps below the bound it must be defined, as far as half of the bound: more than a few, since strides that
/// round up give sizes next to each other one meaning.
const STEPS: [usize; 9] = [1, 2, 3, 5, 8, 16, 32, 64, 128];

/// Steps that are tried where sizes in between are computed in another way: padded to a multiple.
const ALIKE: [usize; 12] = [2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 32, 64];

/// Where the model is not defined at a bound, the multiples of these below it are tried, too, to say which bound would do.
const MULTIPLES: [usize; 14] = [2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20, 32, 64, 128];

/// Pairs of sizes of which another may be the sum; 1 would broadcast.
const SUMS: [(usize, usize); 4] = [(3, 2), (2, 4), (5, 3), (2, 2)];

/// Of more dimensions none is tried as another or the sum of others.
const MOST_SUMMED: usize = 6;

/// Samples that have no size below the least ones, with some that begin there.
pub(super) fn begin_at(least: &Sizes, free: &Sizes) -> Vec<Sizes> {
    let mut all = samples(free, least);
    for (name, &least) in least {
        let beginning = least..(least + BEGINNING).min(free[name]);
        let at = |size| [(name.clone(), size)].into_iter().collect();
        all.extend(beginning.map(|size| over(free, at(size))));
    }
    let mut once = HashSet::new();
    all.retain(|sizes| once.insert(sizes.clone()));
    all
}

impl Sizer<'_> {
    /// The options that say what a dimension must be the sum of, or equal, where the model is not defined otherwise.
    pub(super) fn sum(&self, bounds: &Sizes) -> Option<String> {
        let names: Vec<&String> = self.free.keys().filter(|name| !self.hidden.contains_key(*name)).collect();
        if names.len() > MOST_SUMMED {
            return None;
        }
        let pairs = names.iter().enumerate().flat_map(|(i, a)| names[i + 1..].iter().map(|b| (*a, *b)));
        let alike: Vec<_> = pairs.filter(|(a, b)| bounds[*a] == bounds[*b]).collect();
        let equal = |&&(a, b): &&(&String, &String)| self.is_sum(bounds, b, &[a], 0, None);
        let sum = self.sum_of(&names, bounds, None);
        let found = sum.or_else(|| alike.iter().find(equal).map(|(a, b)| format!("--dim {b}={a}")));
        found.or_else(|| {
            alike.iter().find_map(|&(a, b)| {
                let others: Vec<&String> = names.iter().copied().filter(|name| *name != b).collect();
                let sum = self.sum_of(&others, bounds, Some((a, b)))?;
                Some(format!("{sum} --dim {b}={a}"))
            })
        })
    }

    /// The same of sums, where two dimensions are equal.
    fn sum_of(&self, names: &[&String], bounds: &Sizes, equal: Option<(&String, &String)>) -> Option<String> {
        names.iter().enumerate().find_map(|(i, whole)| {
            let parts: Vec<&String> = names.iter().enumerate().filter(|n| n.0 != i).map(|n| *n.1).collect();
            let two = parts.iter().enumerate().flat_map(|(i, a)| parts[i + 1..].iter().map(|b| vec![*a, *b]));
            let mut all = two.chain(parts.iter().map(|a| vec![*a]));
            let sum = all.find(|of| self.is_sum(bounds, whole, of, of.len() % 2, equal))?;
            Some(format!("--dim '{whole}={}+{}'", sum[0], sum.get(1).map_or("1", |b| b.as_str())))
        })
    }

    /// Whether the model is defined where a dimension is the sum of the parts and a number, but not where it is more.
    fn is_sum(
        &self,
        bounds: &Sizes,
        whole: &str,
        parts: &[&String],
        number: usize,
        equal: Option<(&String, &String)>,
    ) -> bool {
        let defined = |(x, y): (usize, usize), more: usize| {
            let mut sizes: Sizes = parts.iter().map(|name| name.to_string()).zip([x, y]).collect();
            let sum = sizes.values().sum::<usize>() + number + more;
            sizes.insert(whole.to_string(), sum);
            if let Some((a, b)) = equal {
                sizes.insert(b.clone(), sizes.get(a).copied().unwrap_or(bounds[a]));
            }
            let within = sizes.iter().all(|(name, size)| *size <= bounds[name]);
            within.then(|| self.typed(&over(bounds, sizes), AT_BOUNDS, &Silent).is_ok())
        };
        let as_said = SUMS.iter().filter_map(|sizes| defined(*sizes, 0));
        let times = as_said.map(usize::from).try_fold(0, |n, d| (d > 0).then_some(n + d));
        let beyond = || SUMS.iter().filter_map(|sizes| defined(*sizes, 1));
        times.is_some_and(|n| n > 1) && beyond().next().is_some() && !beyond().any(|d| d)
    }

    /// The error with the bound that would do, where the model is not defined at the given ones.
    pub(super) fn advised(&self, bounds: &Sizes, number: usize, error: Error) -> Error {
        if number > 0 || self.typed(bounds, AT_BOUNDS, &Silent).is_ok() {
            return error;
        }
        let defined = |name: &String, size: usize| {
            let sizes = over(bounds, [(name.clone(), size)].into_iter().collect());
            self.typed(&sizes, AT_BOUNDS, &Silent).is_ok()
        };
        let below = |(name, &bound): (&String, &usize)| {
            let multiples = MULTIPLES.iter().map(|step| bound - bound % step);
            let sizes: BTreeSet<usize> = multiples.filter(|&size| size > 0 && size < bound).collect();
            let multiple = sizes.into_iter().rev().find(|&size| defined(name, size));
            // As far as a table of positions reaches: the last one before the first that is not.
            let small = (bound > SMALLEST && defined(name, SMALLEST)).then(|| {
                let (mut good, mut bad) = (SMALLEST, bound);
                while good + 1 < bad {
                    let middle = (good + bad) / 2;
                    *(if defined(name, middle) { &mut good } else { &mut bad }) = middle;
                }
                good
            });
            Some((name.clone(), bound, multiple.max(small)?))
        };
        let given = self.free.iter().filter(|(name, _)| !self.hidden.contains_key(*name));
        match given.filter_map(below).next() {
            Some((name, bound, size)) => error.advise(format!(
                "The model is not defined where '{name}' is {bound}, but where it is {size}: give --dim '{name}<={size}'"
            )),
            None => error,
        }
    }

    /// The bindings with a dimension a multiple of another, and a number: where the model passes at the bounds and at
    /// sizes a step apart from them, but not in between.
    pub(super) fn stepped(&self, bounds: &Sizes, check: Check) -> Option<(Bindings, String)> {
        let is_term = |name| self.bindings.sums.values().any(|sum| sum.of.iter().any(|(of, _)| of == name));
        let given = bounds.iter().filter(|(name, _)| !is_term(*name));
        let first = self.made(bounds).ok().filter(|_| check == Check::Alike);
        let passes = |name: &String, size: usize| {
            let sizes = over(&self.free, [(name.clone(), size)].into_iter().collect());
            match (&first, check) {
                (_, Check::Defined) => self.typed(&sizes, AT_BOUNDS, &Silent).is_ok(),
                (Some(first), _) => self.made(&sizes).and_then(|made| same_steps(first, &made)).is_ok(),
                (None, _) => false,
            }
        };
        let mut apart = given.filter_map(|(name, &bound)| {
            let below = |step: usize| STEPS.iter().map(move |n| n * step).filter(|below| 2 * below <= bound);
            let fits = |step: &usize| below(*step).all(|below| passes(name, bound - below));
            let step = match check {
                Check::Defined => (1..=LARGEST_STEP.min(bound / 2)).find(fits)?,
                Check::Alike => ALIKE.into_iter().filter(|step| 2 * step <= bound).find(fits)?,
            };
            (1..step).any(|below| !passes(name, bound - below)).then_some((name, bound, step))
        });
        let (name, bound, step) = apart.next()?;
        let mut bindings = self.bindings.clone();
        let (number, inner) = (bound % step, format!("{name}/{step}"));
        bindings.bounds.insert(inner.clone(), bound / step);
        bindings.sums.insert(name.clone(), Sum { of: vec![(inner, step)], number });
        let why = match check {
            Check::Defined => "not defined",
            Check::Alike => "computed in another way",
        };
        let note = format!("dimension '{name}' is taken in steps of {step}: the model is {why} in between");
        Some((bindings, note))
    }

    /// The model lowered for some sizes.
    fn made(&self, sizes: &Sizes) -> Result<Sample> {
        let typed = self.typed(sizes, AT_BOUNDS, &Silent)?;
        self.lowered(self.rewritten(typed, &Silent)?.0, sizes)
    }

    /// The smallest size of each dimension that passes, where that is not any; the others are at their bounds.
    pub(super) fn least(&self, bounds: &Sizes, check: Check) -> Result<Sizes> {
        let (first, mut least) = (self.made(bounds)?, Sizes::new());
        for (name, &bound) in &self.free {
            let at = |size| {
                let sizes = over(&self.free, [(name.clone(), size)].into_iter().collect());
                let made = self.made(&sizes)?;
                if check == Check::Alike { same_steps(&first, &made) } else { Ok(()) }
            };
            let (mut below, mut defined) = (SMALLEST, bound);
            if bound <= SMALLEST || at(SMALLEST).is_ok() {
                continue;
            }
            while below + 1 < defined {
                let middle = (below + defined) / 2;
                match at(middle) {
                    Ok(_) => defined = middle,
                    Err(_) => below = middle,
                }
            }
            least.insert(name.clone(), defined);
        }
        Ok(least)
    }
}
