//! Calibration: from what a value's elements look like to the range that its grid covers.
//!
//! A grid that covers every element is coarse where few elements are far out; one that cuts them off
//! is wrong there. The methods weigh the two differently.

use super::grid::Grid;
use super::histogram::Histogram;
use crate::base::DType;

/// How ranges are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// All elements.
    MinMax,
    /// All but a part of the elements at both ends: the percentage that is kept.
    Percentile(f64),
    /// The range whose quantized distribution differs least from the original (Kullback-Leibler), as
    /// in TensorRT's calibration; symmetric around zero where elements have both signs.
    Entropy,
    /// The range with the least mean squared error.
    Mse,
}

impl Method {
    /// Name in options and reports.
    pub fn name(self) -> &'static str {
        match self {
            Method::MinMax => "min-max",
            Method::Percentile(_) => "percentile",
            Method::Entropy => "entropy",
            Method::Mse => "mse",
        }
    }

    /// The range to cover.
    pub fn range(self, histogram: &Histogram, dtype: DType) -> (f64, f64) {
        let whole = (histogram.lo.min(0.0), histogram.hi.max(0.0));
        if histogram.width() <= 0.0 || histogram.total() == 0.0 {
            return whole;
        }
        match self {
            Method::MinMax => whole,
            Method::Percentile(kept) => percentile(histogram, kept),
            Method::Entropy => entropy(histogram, dtype),
            Method::Mse => mse(histogram, dtype),
        }
    }
}

/// Cuts the same number of elements off both ends; within a bin elements are taken as spread evenly.
fn percentile(histogram: &Histogram, kept: f64) -> (f64, f64) {
    let cut = histogram.total() * (100.0 - kept).clamp(0.0, 100.0) / 200.0;
    let edge = |counts: &mut dyn Iterator<Item = &f64>| {
        let (mut before, mut bins) = (0.0, 0.0);
        for &count in counts {
            if before + count > cut {
                return bins + (cut - before) / count;
            }
            before += count;
            bins += 1.0;
        }
        bins
    };
    let lo = histogram.lo + edge(&mut histogram.counts.iter()) * histogram.width();
    let hi = histogram.hi - edge(&mut histogram.counts.iter().rev()) * histogram.width();
    (lo.min(0.0), hi.max(0.0).max(lo))
}

/// The mean squared error of the elements on the grid over a range.
fn error(histogram: &Histogram, range: (f64, f64), dtype: DType) -> f64 {
    let grid = Grid::over(range, dtype);
    let occupied = histogram.counts.iter().enumerate().filter(|(_, c)| **c > 0.0);
    let sum: f64 = occupied
        .map(|(i, count)| {
            let x = histogram.centre(i);
            count * (x - grid.nearest(x)).powi(2)
        })
        .sum();
    sum / histogram.total()
}

/// Shrinks the ends in turn while that lessens the error.
fn mse(histogram: &Histogram, dtype: DType) -> (f64, f64) {
    const STEPS: usize = 40;
    let whole = (histogram.lo.min(0.0), histogram.hi.max(0.0));
    let mut best = (whole, error(histogram, whole, dtype));
    for _ in 0..2 {
        let before = best.1;
        for end in 0..2 {
            for step in 0..STEPS {
                let part = 1.0 - step as f64 / STEPS as f64;
                let (lo, hi) = best.0;
                let range = if end == 0 { (whole.0 * part, hi) } else { (lo, whole.1 * part) };
                let found = error(histogram, range, dtype);
                if found < best.1 {
                    best = (range, found);
                }
            }
        }
        if best.1 == before {
            break;
        }
    }
    best.0
}

/// The divergence of a distribution from its quantized form: `counts` in `levels` equal groups, each
/// spread evenly over its bins that hold anything; what lies past the end counts for the last bin.
pub(super) fn divergence(counts: &[f64], outside: f64, levels: usize) -> f64 {
    let n = counts.len();
    let total: f64 = counts.iter().sum::<f64>() + outside;
    let inner: f64 = total - outside;
    if inner <= 0.0 {
        return f64::INFINITY;
    }
    let mut sum = 0.0;
    for level in 0..levels {
        let (start, end) = (level * n / levels, (level + 1) * n / levels);
        let group = &counts[start..end];
        let filled = group.iter().filter(|c| **c > 0.0).count();
        let q = group.iter().sum::<f64>() / filled.max(1) as f64 / inner;
        for (i, &count) in group.iter().enumerate() {
            let p = (count + if start + i + 1 == n { outside } else { 0.0 }) / total;
            match (p > 0.0, count > 0.0) {
                (true, true) => sum += p * (p / q).ln(),
                // Elements that the quantized distribution has no place for.
                (true, false) => sum += p * (p * total * 1e4).max(1.0).ln(),
                _ => {}
            }
        }
    }
    sum
}

fn entropy(histogram: &Histogram, dtype: DType) -> (f64, f64) {
    let (lo, hi) = (histogram.lo.min(0.0), histogram.hi.max(0.0));
    let most = hi.max(-lo);
    let bins = histogram.counts.len();
    let mut folded = Histogram::new(0.0, most, bins);
    for (i, count) in histogram.counts.iter().enumerate() {
        let at = (histogram.centre(i).abs() / folded.width()) as usize;
        folded.counts[at.min(bins - 1)] += count;
    }
    // Zero is on every grid, however many elements it has (all that a Relu cut off).
    folded.counts[0] = folded.counts.get(1).copied().unwrap_or(0.0).min(folded.counts[0]);
    let levels = 1usize << (dtype.bits().min(8) - u32::from(lo < 0.0 && hi > 0.0));
    let step = (bins / 128).max(1);
    let mut best = (bins, f64::INFINITY);
    for end in (levels.min(bins)..=bins).step_by(step) {
        let outside: f64 = folded.counts[end..].iter().sum();
        let found = divergence(&folded.counts[..end], outside, levels.min(end));
        if found < best.1 {
            best = (end, found);
        }
    }
    let threshold = best.0 as f64 * folded.width();
    (lo.max(-threshold), hi.min(threshold))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(lo: f64, hi: f64, counts: &[f64]) -> Histogram {
        Histogram { lo, hi, counts: counts.to_vec() }
    }

    #[test]
    fn min_max_holds_everything_and_zero() {
        let h = histogram(1.0, 3.0, &[1.0, 1.0]);
        assert_eq!(Method::MinMax.range(&h, DType::U8), (0.0, 3.0));
        let h = histogram(-1.0, 3.0, &[5.0, 0.0, 0.0, 1.0]);
        assert_eq!(Method::MinMax.range(&h, DType::U8), (-1.0, 3.0));
    }

    /// 100 elements, 10 in each tenth of 0..10 but the last: of 80 % kept, 10 go at each end.
    #[test]
    fn percentile_cuts_both_ends() {
        let h = histogram(-5.0, 5.0, &[10.0; 10]);
        assert_eq!(Method::Percentile(80.0).range(&h, DType::U8), (-4.0, 4.0));
        // 5 at each end are half of the first and of the last bin.
        assert_eq!(Method::Percentile(90.0).range(&h, DType::U8), (-4.5, 4.5));
        assert_eq!(Method::Percentile(100.0).range(&h, DType::U8), (-5.0, 5.0));
    }

    /// Two bits over 0..4 give 0, 4/3, 8/3, 4. The elements are 0.5 (999) and 3.5 (1): the whole range
    /// puts the first at 0 (error 0.25). The end at 1.5 puts them at 0.5 and 1.5: 0.004.
    #[test]
    fn mse_gives_up_what_is_rare() {
        let h = histogram(0.0, 4.0, &[999.0, 0.0, 0.0, 1.0]);
        let whole = error(&h, (0.0, 4.0), DType::U2);
        let by_hand = (999.0 * 0.25 + (4.0f64 - 3.5).powi(2)) / 1000.0;
        assert!((whole - by_hand).abs() < 1e-6, "{whole} {by_hand}");
        let (lo, hi) = Method::Mse.range(&h, DType::U2);
        assert_eq!((lo, hi), (0.0, 1.5));
        assert!((error(&h, (lo, hi), DType::U2) - 0.004).abs() < 1e-6);
    }

    /// Four bins in two levels: (3, 1) becomes (2, 2), (2, 2) stays; P = (3, 1, 2, 2) / 8.
    #[test]
    fn divergence_by_hand() {
        let by_hand = 3.0 / 8.0 * (3.0f64 / 2.0).ln() + 1.0 / 8.0 * (0.5f64).ln();
        assert!((divergence(&[3.0, 1.0, 2.0, 2.0], 0.0, 2) - by_hand).abs() < 1e-12);
        // One element past the end: P = (3, 1, 2, 3) / 9, Q = (2, 2, 2, 2) / 8.
        let p = [3.0, 1.0, 2.0, 3.0f64].map(|c| c / 9.0);
        let by_hand: f64 = p.iter().map(|p| p * (p / 0.25).ln()).sum();
        assert!((divergence(&[3.0, 1.0, 2.0, 2.0], 1.0, 2) - by_hand).abs() < 1e-12);
        // An empty bin takes nothing of its group: (4, 0) stays (4, 0).
        assert!(divergence(&[4.0, 0.0], 0.0, 1).abs() < 1e-12);
    }

    /// A bell of nearly all elements and one far outlier: the range ends between the two.
    #[test]
    fn entropy_cuts_outliers() {
        let mut counts = vec![0.0; 2048];
        for (i, c) in counts.iter_mut().enumerate().take(600) {
            *c = (1e5 * (-(i as f64 / 150.0).powi(2)).exp()).floor();
        }
        counts[2047] = 1.0;
        let h = histogram(0.0, 2048.0, &counts);
        let (lo, hi) = Method::Entropy.range(&h, DType::U8);
        assert!(lo == 0.0 && (300.0..1000.0).contains(&hi), "{lo} {hi}");
    }
}
