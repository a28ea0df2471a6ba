//! Quotients of a size: which of them hold in all samples, and for which sizes those say something else.
//!
//! For a factor and a divisor the offsets that hold are a range, so that all quotients can be looked at, however
//! large their divisors are. Where some that hold differ for a size that the model may be run with, that size must
//! become a sample.

use super::derived::Derived;
use super::fit::{Facts, Point};
use super::halves::free_dimensions;
use crate::base::affine::as_size;
use crate::base::{Affine, gcd};
use crate::definition::{Lowering, Stage};
use crate::error::Result;

/// Factors that are tried.
const FACTORS: i64 = 3;

/// The largest divisor that is tried; one beyond stands for all of which the sizes show one step.
const MAX_DIVISOR: i64 = 1 << 14;

/// The largest that stands for those beyond.
const MAX_STEP: i64 = 1 << 24;

/// Sizes among which the one that decides most is chosen.
const MAX_CHOSEN: usize = 1 << 11;

/// So many sizes are chosen at once.
const AT_ONCE: usize = 3;

/// Sizes up to which all are looked at; of larger ones as many, spread.
const MAX_COMPARED: i64 = 1 << 19;

/// Sets of sizes that are looked at where a size is made of several.
const TOGETHER: i64 = 1 << 12;

/// `max(floor((factor * size + offset) / divisor), 0)` for each offset of a range.
#[derive(Clone, Copy)]
pub(super) struct Family {
    size: usize,
    factor: i64,
    divisor: i64,
    first: i64,
    last: i64,
}

impl Family {
    /// What the first and the last of them say.
    fn of(&self, size: i64) -> (i64, i64) {
        let at = |offset: i64| (self.factor * size + offset).div_euclid(self.divisor).max(0);
        (at(self.first), at(self.last))
    }

    /// The smallest offset.
    fn offset(&self) -> i64 {
        0.clamp(self.first, self.last)
    }

    /// The one with the smallest offset of several that hold: of multiples of 8 up to 64, but 8 itself, the eighth part is
    /// `(n - 2) / 7`, too.
    pub(super) fn plainest(families: &[Family]) -> Option<Derived> {
        let plainest = families.iter().min_by_key(|family| family.offset().abs())?;
        let Family { size, factor, divisor, .. } = *plainest;
        Some(Derived::Divided { size, factor, offset: plainest.offset(), divisor })
    }
}

/// The quotients of a size with these values that hold in all samples.
fn of_size(size: usize, values: &[i64], numbers: &[i64]) -> Vec<Family> {
    let place = |k: &usize| (values[*k], *k);
    let (Some(low), Some(high)) = ((0..values.len()).min_by_key(place), (0..values.len()).max_by_key(place))
    else {
        return Vec::new();
    };
    let (range, growth) = (values[high] - values[low], numbers[high] - numbers[low]);
    if range == 0 || growth <= 0 || numbers[high] <= 0 {
        return Vec::new();
    }
    // Of the smallest size for which it is more than nothing: below, it may be that of any.
    let from = (0..values.len()).filter(|k| numbers[*k] > 0).min_by_key(place).unwrap_or(high);
    let (shown, steps) = (values[high] - values[from], numbers[high] - numbers[from]);
    if steps < 0 {
        return Vec::new();
    }
    let family = |factor: i64, divisor: i64| {
        let (mut first, mut last) = (i64::MIN, i64::MAX);
        for (v, n) in values.iter().zip(numbers) {
            let least = n * divisor - factor * v;
            // Whatever is below nothing is nothing.
            first = if *n > 0 { first.max(least) } else { first };
            last = last.min(least + divisor - 1);
            if first > last {
                return None;
            }
        }
        Some(Family { size, factor, divisor, first, last })
    };
    let of_factor = |factor: i64| {
        // As many steps as from the smallest to the largest size, or one less or more.
        let least = (factor * shown / (steps + 1) + 1).max(2);
        let alone = factor * (values[high].max(values[0]) + 1);
        let most = if growth > 1 { (factor * range - 1) / (growth - 1) } else { alone };
        let beyond =
            (growth == 1 && factor == 1 && (MAX_DIVISOR..MAX_STEP).contains(&alone)).then_some(alone);
        let coprime = move |divisor: &i64| gcd(*divisor, factor) == 1;
        (least..=most.min(MAX_DIVISOR)).chain(beyond).filter(coprime).filter_map(move |d| family(factor, d))
    };
    (1..=FACTORS).flat_map(of_factor).collect()
}

impl Facts {
    /// The quotients that hold in all samples.
    pub(super) fn quotients(&self, numbers: &[i64]) -> Vec<Family> {
        self.usable().flat_map(|size| of_size(size, &self.sizes[size].values, numbers)).collect()
    }

    /// A quotient of one dimension of what is there where that is no size: of a sum of sizes, or of one many times.
    pub(super) fn of_dimension(
        &mut self,
        numbers: &[i64],
        low: &mut Lowering,
        before: &mut Vec<Stage>,
    ) -> Result<Option<Affine>> {
        let tried = |d: &Affine| matches!(d.terms.as_slice(), [(_, times)] if (1..=FACTORS).contains(times));
        if !self.is_size(numbers) {
            return Ok(None);
        }
        for dim in free_dimensions(low).into_iter().filter(|d| !tried(d)) {
            let values: Vec<i64> = (0..self.samples).map(|k| self.at(&dim, k)).collect();
            if of_size(self.sizes.len(), &values, numbers).is_empty() {
                continue;
            }
            self.plain(&dim, low, before)?;
            if let Some(derived) = self.derived(numbers)? {
                return self.add(derived, (numbers, numbers[0]), low, before).map(Some);
            }
        }
        Ok(None)
    }

    /// Sizes for which some of these quotients differ: those that leave the fewest, whatever the numbers are there.
    pub(super) fn differing(&self, families: &[Family]) -> Vec<Point> {
        if let [family] = families
            && family.first == family.last
        {
            return Vec::new();
        }
        let mut sizes: Vec<usize> = families.iter().map(|f| f.size).collect();
        sizes.dedup();
        let points: Vec<(Vec<i64>, Point)> = self.points(&sizes);
        let value = |values: &[i64], f: &Family| values[sizes.iter().position(|s| *s == f.size).unwrap_or(0)];
        // How many of the quotients one number leaves, at most; nothing where they agree.
        let left = |(values, _): &&(Vec<i64>, Point)| {
            let mut groups: Vec<(i64, i64)> = Vec::new();
            let mut add = |number: i64, count: i64| match groups.iter_mut().find(|g| g.0 == number) {
                Some(group) => group.1 += count,
                None => groups.push((number, count)),
            };
            for family in families {
                let (v, count) = (value(values, family), family.last - family.first + 1);
                let (least, most) = family.of(v);
                let more = (family.factor * v + family.last).rem_euclid(family.divisor) + 1;
                let more = if least == most { count } else { more };
                add(most, more);
                if least < most {
                    add(least, count - more);
                }
            }
            (groups.len() > 1).then(|| groups.iter().map(|g| g.1).max().unwrap_or(0))
        };
        let step = points.len().div_ceil(MAX_CHOSEN).max(1);
        let open = |points: &mut dyn Iterator<Item = &(Vec<i64>, Point)>| -> Vec<(i64, Point)> {
            points.filter_map(|point| Some((left(&point)?, point.1.clone()))).take(MAX_CHOSEN).collect()
        };
        let spread = open(&mut points.iter().step_by(step));
        let all = if spread.is_empty() { open(&mut points.iter()) } else { spread };
        // The best of each part of those where they differ: on both sides of the best of all, too.
        let parts = all.chunks(all.len().div_ceil(AT_ONCE).max(1));
        parts.filter_map(|part| part.iter().min_by_key(|(left, _)| *left)).map(|p| p.1.clone()).collect()
    }

    /// What these sizes are for each choice of the caller; one alone is chosen, but where a size is made of several.
    pub(super) fn points(&self, sizes: &[usize]) -> Vec<(Vec<i64>, Point)> {
        let roots: Vec<Vec<usize>> = sizes.iter().map(|&s| self.roots(s)).collect();
        let mut all: Vec<usize> = roots.concat();
        all.sort_unstable();
        all.dedup();
        let most = |root: usize| self.sizes[root].values[0];
        let alone = all.iter().flat_map(|&root| {
            let step = (most(root) / MAX_COMPARED + 1).max(1);
            (2..=most(root)).step_by(step as usize).map(move |v| vec![(root, v)])
        });
        let several = roots.iter().any(|r| r.len() > 1);
        let together = (1..=TOGETHER).filter(|_| several).map(|k| {
            let part = |(i, &root): (usize, &usize)| {
                let spread = (k * (40503 + 2 * i as i64 * 7919)).rem_euclid(65536);
                (root, 2 + spread * (most(root) - 1).max(1) / 65536)
            };
            all.iter().enumerate().map(part).collect()
        });
        let may_be = |point: &Point| {
            point.iter().all(|&(root, v)| self.sizes[root].may_be(v) && v <= most(root))
                && !self.undefined.contains(point)
        };
        let values = |point: &Point| sizes.iter().map(|&s| self.with(s, point)).collect();
        alone.chain(together).filter(may_be).map(|point| (values(&point), point)).collect()
    }

    /// The sizes that a size is made of and that nothing computes.
    pub(super) fn roots(&self, size: usize) -> Vec<usize> {
        let fact = &self.sizes[size];
        let parts: Vec<usize> = match (&fact.sum, fact.rule) {
            (Some((terms, _)), _) => terms.iter().map(|t| t.0).collect(),
            (None, Some(Derived::Product { a, b, .. } | Derived::Half { a, b, .. })) => vec![a, b],
            (None, Some(Derived::Divided { size, .. } | Derived::Limited { size, .. })) => vec![size],
            (None, None) if fact.factors.is_empty() => return vec![size],
            (None, None) => {
                let vars = fact.factors.iter().flat_map(|f| &f.terms);
                vars.filter_map(|&(var, _)| as_size(var)).map(|s| s.0).collect()
            }
        };
        let mut roots: Vec<usize> = parts.into_iter().flat_map(|part| self.roots(part)).collect();
        roots.sort_unstable();
        roots.dedup();
        roots
    }

    /// What a size is for a choice of the caller.
    pub(super) fn with(&self, size: usize, point: &Point) -> i64 {
        if let Some(chosen) = point.iter().find(|p| p.0 == size) {
            return chosen.1;
        }
        self.computed(size, &|s| Some(self.with(s, point))).unwrap_or(self.sizes[size].values[0])
    }

    /// What a size is that is computed from others, which are as given; `None` where one of them is not known.
    pub(super) fn computed(&self, size: usize, at: &impl Fn(usize) -> Option<i64>) -> Option<i64> {
        let fact = &self.sizes[size];
        let within = |n: i64| n.clamp(0, fact.most.max(0));
        if let Some((terms, number)) = &fact.sum {
            let sum =
                terms.iter().try_fold(*number as i64, |sum, &(of, times)| Some(sum + times as i64 * at(of)?));
            return sum;
        }
        if let Some(rule) = fact.rule {
            return self.ruled(rule, at).map(within);
        }
        let product =
            || fact.factors.iter().try_fold(1, |product, form| Some(product * self.formed(form, at)?));
        (!fact.factors.is_empty()).then(product).flatten().map(within)
    }

    /// What a form is, where sizes are as given.
    pub(super) fn formed(&self, form: &Affine, at: &impl Fn(usize) -> Option<i64>) -> Option<i64> {
        form.terms.iter().try_fold(form.base, |sum, &(var, times)| Some(sum + times * at(as_size(var)?.0)?))
    }

    /// What a rule says, where sizes are as given.
    pub(super) fn ruled(&self, rule: Derived, at: &impl Fn(usize) -> Option<i64>) -> Option<i64> {
        match rule {
            Derived::Divided { size, .. } | Derived::Limited { size, .. } => at(size).map(|v| rule.of(|_| v)),
            Derived::Product { a, b, .. } | Derived::Half { a, b, .. } => {
                let (x, y) = (at(a)?, at(b)?);
                Some(rule.of(|size| if size == a { x } else { y }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::Size;
    use std::collections::BTreeMap;

    /// The quotient that is found for a number of a size up to a bound, and how many sizes were looked at.
    fn found(bound: usize, number: impl Fn(i64) -> i64) -> (Derived, usize) {
        let bounds: BTreeMap<String, usize> = [("n".to_string(), bound)].into();
        let mut values: Vec<i64> =
            super::super::samples(&bounds, &BTreeMap::new()).iter().map(|s| s["n"] as i64).collect();
        for _ in 0..12 {
            let name = Some("n".to_string());
            let size = Size { name, value: 0, max: bound, sample: bound, least: 1, sum: None, step: (1, 0) };
            let mut facts = Facts::new(values.len());
            facts.declare(&size, values.clone());
            let numbers: Vec<i64> = values.iter().map(|&v| number(v)).collect();
            let families = facts.quotients(&numbers);
            let differing = facts.differing(&families);
            if differing.is_empty() {
                return (Family::plainest(&families).expect("a quotient"), values.len());
            }
            values.extend(differing.iter().map(|point| point[0].1));
        }
        panic!("not decided");
    }

    /// Not even where the first that is more than nothing is more than the last.
    #[test]
    fn what_falls_is_no_quotient() {
        let name = Some("n".to_string());
        let size = Size { name, value: 0, max: 20, sample: 20, least: 1, sum: None, step: (1, 0) };
        let mut facts = Facts::new(4);
        facts.declare(&size, vec![20, 12, 7, 2]);
        assert!(facts.quotients(&[1, 1, 2, 0]).is_empty());
    }

    /// The smallest multiple is no sample: what the others leave open holds there as well.
    #[test]
    fn parts_of_multiples_are_parts_of_the_smallest() {
        let name = Some("n".to_string());
        let size = Size { name, value: 0, max: 64, sample: 64, least: 1, sum: None, step: (8, 0) };
        let values = vec![64, 16, 24, 32, 40, 48, 56];
        let mut facts = Facts::new(values.len());
        facts.declare(&size, values.clone());
        for part in [2, 4, 8] {
            let numbers: Vec<i64> = values.iter().map(|v| v / part).collect();
            let found = Family::plainest(&facts.quotients(&numbers)).expect("a quotient");
            assert_eq!(found.of(|_| 8), 8 / part);
        }
    }

    #[test]
    fn quotients_are_decided_for_every_size() {
        for (factor, offset, divisor, bound) in [
            (1, 0, 160, 16000),
            (1, 160, 160, 480_000),
            (1, 399, 512, 3000),
            (1, 7, 97, 100),
            (3, 5, 320, 5000),
            (2, 1, 3, 700),
            (1, 9000, 20_000, 30_000),
            (1, 5, 1000, 1200),
            (1, -4, 128, 300),
            (2, -700, 90, 1000),
        ] {
            let number = |v: i64| (factor * v + offset).div_euclid(divisor).max(0);
            let (rule, looked_at) = found(bound, number);
            let wrong = (2..=bound as i64).find(|&v| rule.of(|_| v).max(0) != number(v));
            assert_eq!(wrong, None, "({factor} n + {offset}) / {divisor}, {looked_at} sizes");
        }
    }
}
