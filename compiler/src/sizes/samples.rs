//! Which sizes a model is lowered for.

use crate::base::gcd;
use std::collections::BTreeMap;

/// Samples where only data decides on sizes.
const DATA: usize = 10;

/// Sizes from the smallest one on that are samples in any case.
const BEGINNING: usize = 3;

/// For each sample, the size of each named dimension, which is not below the least one, if there is such; the first has
/// the bounds. Large ones, and small ones, where the smaller of a size and a number would show; all of them where the
/// bound is small. Of several dimensions each size meets others each time: on a line or a cross a product of two
/// would be a sum.
pub fn samples(
    bounds: &BTreeMap<String, usize>,
    least: &BTreeMap<String, usize>,
) -> Vec<BTreeMap<String, usize>> {
    let lists: Vec<Vec<usize>> = bounds.iter().map(|(name, &n)| list(n, least.get(name).copied())).collect();
    let most = lists.iter().map(Vec::len).max().unwrap_or(0);
    let count = if bounds.len() > 1 { most.max(DATA) * 2 } else { most.max(DATA) };
    let sample = |k: usize| {
        let size = |(i, list): (usize, &Vec<usize>)| {
            let count = list.len();
            let step = (2 * i + 1..).find(|&step| gcd(step, count) == 1).unwrap_or(1);
            list[if k == 0 { 0 } else { (k * step + i * (k / count) + 2 * i) % count }]
        };
        bounds.keys().cloned().zip(lists.iter().enumerate().map(size)).collect()
    };
    (0..count).map(sample).collect()
}

/// All of a small bound, and some beyond it: what holds of them holds of those few below it.
fn list(bound: usize, least: Option<usize>) -> Vec<usize> {
    if bound < 2 {
        return vec![bound];
    }
    let first = least.unwrap_or(0).max(2);
    let part = |a: usize, b: usize| bound * a / b;
    let mut all = vec![bound, bound - 1, bound.saturating_sub(3), bound.saturating_sub(2)];
    all.extend([part(7, 8), part(3, 4), part(2, 3), part(1, 2), part(1, 3), part(1, 4), part(1, 8)]);
    all.extend([13, 11, 8, 7, 6, 5, 4, 3, 2]);
    all.extend(least.map(|least| least..least + BEGINNING).into_iter().flatten());
    let most = if bound < 6 { bound + 4 } else { bound };
    let mut list: Vec<usize> = Vec::new();
    for n in all {
        if (first..=most).contains(&n) && !list.contains(&n) {
            list.push(n);
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether `a + b x + c y + d x y` is 0 at some points for these alone: then nothing else is for all.
    fn decides(points: &[(i64, i64)]) -> bool {
        let mut rows: Vec<[f64; 4]> =
            points.iter().map(|&(x, y)| [1, x, y, x * y].map(|v| v as f64)).collect();
        for i in 0..4 {
            let Some(pivot) = (i..rows.len()).find(|&k| rows[k][i].abs() > 1e-9) else { return false };
            rows.swap(i, pivot);
            let row = rows[i];
            for other in &mut rows[i + 1..] {
                let by = other[i] / row[i];
                other.iter_mut().zip(row).for_each(|(v, p)| *v -= by * p);
            }
        }
        true
    }

    #[test]
    fn a_product_is_no_sum_in_all_samples() {
        for (a, b) in (4..40).flat_map(|a| [(a, a), (a, 3 * a), (a, 5), (300, a)]) {
            for least in [None, Some(a - 2)] {
                let bounds = [("a", a), ("b", b)].map(|(name, n)| (name.to_string(), n)).into();
                let least = least.map(|n| ("a".to_string(), n)).into_iter().collect();
                let points: Vec<(i64, i64)> =
                    samples(&bounds, &least).iter().map(|s| (s["a"] as i64, s["b"] as i64)).collect();
                let first = least.get("a").copied().unwrap_or(0) as i64;
                assert!(points.iter().all(|p| p.0 >= first), "{points:?}");
                assert!(decides(&points), "up to {a} and {b}: {points:?}");
            }
        }
    }
}
