//! Which sizes a model is lowered for.

use std::collections::BTreeMap;

/// Samples where only data decides on sizes.
const DATA: usize = 10;

/// For each sample, the size of each named dimension; the first has the bounds. Large ones, and small
/// ones, where the smaller of a size and a number would show; all of them where the bound is small.
pub fn samples(bounds: &BTreeMap<String, usize>) -> Vec<BTreeMap<String, usize>> {
    let lists: Vec<Vec<usize>> = bounds.values().map(|&n| list(n)).collect();
    let most = lists.iter().map(Vec::len).max().unwrap_or(0);
    let count = if bounds.len() > 1 { most.max(DATA) * 2 } else { most.max(DATA) };
    let sample = |k: usize| {
        let size = |(i, list): (usize, &Vec<usize>)| match k {
            0 => list[0],
            _ => list[(k * (2 * i + 1) + 2 * i) % list.len()],
        };
        bounds.keys().cloned().zip(lists.iter().enumerate().map(size)).collect()
    };
    (0..count).map(sample).collect()
}

/// All of a small bound, and some beyond it: what holds of them holds of those few below it.
fn list(bound: usize) -> Vec<usize> {
    if bound < 2 {
        return vec![bound];
    }
    let part = |a: usize, b: usize| bound * a / b;
    let mut all = vec![bound, bound - 1, bound.saturating_sub(3), bound.saturating_sub(2)];
    all.extend([part(7, 8), part(3, 4), part(2, 3), part(1, 2), part(1, 3), part(1, 4), part(1, 8)]);
    all.extend([13, 11, 8, 7, 6, 5, 4, 3, 2]);
    let most = if bound < 6 { bound + 4 } else { bound };
    let mut list: Vec<usize> = Vec::new();
    for n in all {
        if (2..=most).contains(&n) && !list.contains(&n) {
            list.push(n);
        }
    }
    list
}
