//! What a value's elements look like over all samples: their range, then how often each part occurs.

/// Bins of a histogram.
pub const BINS: usize = 2048;

/// Counts of elements in equal parts of a range.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// Least and largest element.
    pub lo: f64,
    /// The largest element.
    pub hi: f64,
    /// Elements per part.
    pub counts: Vec<f64>,
}

impl Histogram {
    /// An empty one over a range.
    pub fn new(lo: f64, hi: f64, bins: usize) -> Histogram {
        Histogram { lo, hi, counts: vec![0.0; bins] }
    }

    /// One of the same parts without elements.
    pub fn emptied(&self) -> Histogram {
        Histogram::new(self.lo, self.hi, self.counts.len())
    }

    /// Adds what another one of the same parts has counted.
    pub fn include(&mut self, other: &Histogram) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(all, more)| *all += more);
    }

    /// Width of a part.
    pub fn width(&self) -> f64 {
        (self.hi - self.lo) / self.counts.len() as f64
    }

    /// The middle of part `i`.
    pub fn centre(&self, i: usize) -> f64 {
        self.lo + (i as f64 + 0.5) * self.width()
    }

    /// Counts elements; those outside go to the ends.
    pub fn add(&mut self, elements: &[f32]) {
        let (last, width) = (self.counts.len() - 1, self.width());
        if width <= 0.0 {
            self.counts[0] += elements.len() as f64;
            return;
        }
        let inverse = 1.0 / width;
        for &x in elements.iter().filter(|x| x.is_finite()) {
            let at = ((f64::from(x) - self.lo) * inverse).max(0.0) as usize;
            self.counts[at.min(last)] += 1.0;
        }
    }

    /// One histogram of what several hold, over all their ranges.
    pub fn merged(members: &[&Histogram]) -> Histogram {
        match members {
            [] => Histogram::new(0.0, 0.0, 1),
            [one] => (*one).clone(),
            many => {
                let lo = many.iter().map(|h| h.lo).fold(f64::INFINITY, f64::min);
                let hi = many.iter().map(|h| h.hi).fold(f64::NEG_INFINITY, f64::max);
                let mut all = Histogram::new(lo, hi, BINS);
                let width = all.width().max(f64::MIN_POSITIVE);
                for h in many {
                    for (i, count) in h.counts.iter().enumerate() {
                        all.counts[(((h.centre(i) - lo) / width) as usize).min(BINS - 1)] += count;
                    }
                }
                all
            }
        }
    }

    /// Number of elements.
    pub fn total(&self) -> f64 {
        self.counts.iter().sum()
    }
}

/// The least and the largest of finite elements; `None` where there are none.
pub fn range(elements: &[f32]) -> Option<(f64, f64)> {
    let finite = elements.iter().copied().filter(|x| x.is_finite());
    let (lo, hi) = finite.fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), x| (l.min(x), h.max(x)));
    (lo <= hi).then_some((f64::from(lo), f64::from(hi)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_counted_and_merged() {
        assert_eq!(range(&[1.0, f32::NAN, -2.0, f32::INFINITY]), Some((-2.0, 1.0)));
        assert_eq!(range(&[f32::NAN]), None);
        let mut a = Histogram::new(0.0, 4.0, 4);
        a.add(&[0.0, 0.5, 1.0, 3.9, 4.0, 9.0, f32::NAN]);
        assert_eq!(a.counts, [2.0, 1.0, 0.0, 3.0]);
        let mut b = Histogram::new(-4.0, 0.0, 4);
        b.add(&[-4.0]);
        let all = Histogram::merged(&[&a, &b]);
        assert_eq!((all.lo, all.hi, all.total()), (-4.0, 4.0, 7.0));
        assert_eq!(all.counts[BINS / 16], 1.0);
    }
}
