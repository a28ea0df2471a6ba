//! Numbers that are no quotient of one size, nor a product of two.
//!
//! Padding that makes a size a multiple is shared by both sides: `floor((divisor * quotient - size) / 2)` lies before the
//! first element. Tensors of three and more free dimensions have as many elements, or so many times as many, as the
//! product of their dimensions.

use super::derived::Derived;
use super::fit::{Facts, MAX_TRIED};
use super::unlike;
use crate::base::Affine;
use crate::definition::{Lowering, Stage};
use crate::error::Result;

/// Of a size so many times are tried, and multiples of another one up to so many times that.
const FACTORS: i64 = 4;
const MOST_DIVISOR: i64 = 32;

/// So many sizes become samples at once.
const AT_ONCE: usize = 3;

/// `times * half + offset`.
struct Candidate {
    half: Derived,
    times: i64,
    offset: i64,
    /// The largest half.
    most: i64,
}

impl Candidate {
    fn of(&self, at: impl Fn(usize) -> i64) -> i64 {
        self.times * self.half.of(at).max(0) + self.offset
    }
}

/// The dimensions of what is there that depend on sizes.
pub(super) fn free_dimensions(low: &Lowering) -> Vec<Affine> {
    let mut dims: Vec<Affine> = low.dims.values().flatten().filter(|d| !d.is_constant()).cloned().collect();
    dims.sort_by(|a, b| (&a.terms, a.base).cmp(&(&b.terms, b.base)));
    dims.dedup();
    dims
}

impl Facts {
    /// Half of what a quotient's multiple is more or less than the size, or that less than a number.
    pub(super) fn half(
        &mut self,
        numbers: &[i64],
        low: &mut Lowering,
        before: &mut Vec<Stage>,
    ) -> Result<Option<Affine>> {
        let usable: Vec<usize> = self.usable().collect();
        let pairs = usable.iter().flat_map(|&size| usable.iter().map(move |&whole| (size, whole)));
        let found: Vec<Candidate> = pairs.flat_map(|(a, b)| self.halves(a, b, numbers)).collect();
        let Some(first) = found.first() else { return Ok(None) };
        self.compare(&found)?;
        let values: Vec<i64> =
            (0..self.samples).map(|k| first.half.of(|size| self.sizes[size].values[k])).collect();
        let half = self.add(first.half, (&values, first.most), low, before)?;
        let form = half.scaled(first.times).offset(first.offset);
        self.remember(numbers.to_vec(), form.clone());
        Ok(Some(form))
    }

    /// The halves of what a multiple of `whole` is more than a size, or less than one, that hold in all samples.
    fn halves(&self, size: usize, whole: usize, numbers: &[i64]) -> Vec<Candidate> {
        let (sizes, wholes) = (&self.sizes[size].values, &self.sizes[whole].values);
        let mut found = Vec::new();
        // Half of what a size is less than a number, by itself.
        let divisors = if size == whole { 0..=0 } else { 2..=MOST_DIVISOR };
        for (factor, divisor) in (1..=FACTORS).flat_map(|f| divisors.clone().map(move |d| (f, d))) {
            let left = |s: i64, w: i64| factor * s - divisor * w;
            let ends = |all: &mut dyn Iterator<Item = i64>| {
                all.fold((i64::MAX, i64::MIN), |(least, most), n| (least.min(n), most.max(n)))
            };
            let shown = ends(&mut sizes.iter().zip(wholes).map(|(&s, &w)| left(s, w)));
            if shown.0 == shown.1 || size != whole && shown.1 - shown.0 >= divisor {
                continue;
            }
            let Some(points) = self.all_points(&[size, whole]) else { continue };
            let (least, most) = ends(&mut points.iter().map(|p| left(p[0], p[1])));
            let (least, most) = (least.min(shown.0), most.max(shown.1));
            for (sign, first) in [(1, -least), (-1, most)] {
                for odd in 0..2 {
                    let factors = (sign * factor, -sign * divisor);
                    let half = Derived::Half { a: size, b: whole, factors, offset: first + odd };
                    let value = |k: usize| half.of(|n| self.sizes[n].values[k]);
                    let most = (most - least + odd) / 2;
                    for times in [1, -1] {
                        let offset = numbers[0] - times * value(0);
                        let holds = (0..self.samples).all(|k| times * value(k) + offset == numbers[k]);
                        found.extend(holds.then_some(Candidate { half, times, offset, most }));
                    }
                }
            }
        }
        found
    }

    /// What sizes are for each value of the one that they are made of; none where that is not one alone, or a large one.
    fn all_points(&self, sizes: &[usize]) -> Option<Vec<Vec<i64>>> {
        let mut roots: Vec<usize> = sizes.iter().flat_map(|&s| self.roots(s)).collect();
        roots.sort_unstable();
        roots.dedup();
        let &[root] = roots.as_slice() else { return None };
        let (fact, most) = (&self.sizes[root], self.sizes[root].most);
        let values = (1..=most).filter(|&value| fact.may_be(value));
        let at = |value: i64| sizes.iter().map(|&s| self.with(s, &vec![(root, value)])).collect();
        (most <= MAX_TRIED).then(|| values.map(at).collect())
    }

    /// Notes sizes for which some of the candidates differ.
    fn compare(&mut self, found: &[Candidate]) -> Result<()> {
        let sizes: Vec<usize> = found
            .iter()
            .flat_map(|c| match c.half {
                Derived::Half { a, b, .. } => vec![a, b],
                _ => Vec::new(),
            })
            .collect();
        let differ = |values: &[i64]| {
            let at = |size: usize| values[sizes.iter().position(|s| *s == size).unwrap_or(0)];
            found.iter().any(|c| c.of(at) != found[0].of(at))
        };
        let points = self.points(&sizes).into_iter();
        let open: Vec<_> = points.filter(|p| differ(&p.0)).map(|p| p.1).take(AT_ONCE).collect();
        if self.last && !open.is_empty() {
            return Err(unlike(
                "several halves fit a number that depends on the sizes, and differ for others",
            ));
        }
        self.open.extend(open);
        Ok(())
    }

    /// A product of one dimension of what is there and of another form or product, of so many dimensions at most.
    pub(super) fn times_dimensions(
        &mut self,
        numbers: &[i64],
        most: usize,
        low: &mut Lowering,
        before: &mut Vec<Stage>,
    ) -> Result<Option<Affine>> {
        for dim in free_dimensions(low) {
            let by: Vec<i64> = (0..self.samples).map(|k| self.at(&dim, k)).collect();
            if by.iter().zip(numbers).any(|(by, n)| *by <= 0 || n % by != 0) {
                continue;
            }
            let rest: Vec<i64> = by.iter().zip(numbers).map(|(by, n)| n / by).collect();
            let product = |d: &Derived| matches!(d, Derived::Product { .. });
            let form = match (self.form_found(&rest).0, self.rule(&rest).filter(product)) {
                (Some(form), _) => Some(form),
                (None, Some(rule)) => Some(self.add(rule, (&rest, rest[0]), low, before)?),
                (None, None) if most > 1 => self.times_dimensions(&rest, most - 1, low, before)?,
                (None, None) => None,
            };
            if let Some(form) = form {
                return self.product(&dim, &form, numbers, low, before).map(Some);
            }
        }
        Ok(None)
    }
}
