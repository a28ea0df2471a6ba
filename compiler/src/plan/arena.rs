//! Offsets in the arena: buffers that are never live together share memory.
//!
//! Each buffer is a rectangle, bytes by lifetime, and no two may overlap. Placing them by
//! decreasing size at the lowest free offset is near the optimum for networks (Pisarchyk and Lee,
//! "Efficient Memory Management for Deep Neural Net Inference", 2020). A few orders are tried; where
//! the best is above the lower bound (the largest sum live at one step), a bounded search changes
//! it: what lies at the top is placed earlier.

use crate::tile::random::Rng;

/// Alignment of every buffer in bytes: a cache line, and the widest vector.
pub const ALIGN: usize = 64;

/// A buffer to be placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Live {
    /// Bytes.
    pub bytes: usize,
    /// First step at which it holds something.
    pub first: usize,
    /// Last step at which it does.
    pub last: usize,
}

/// The placement of all buffers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arena {
    /// Offset of each buffer in bytes.
    pub offsets: Vec<usize>,
    /// Bytes of the arena.
    pub bytes: usize,
    /// The largest sum of buffers live at one step: no arena is smaller.
    pub bound: usize,
}

/// Places all buffers.
pub fn place(buffers: &[Live]) -> Arena {
    let size = |b: &Live| b.bytes.next_multiple_of(ALIGN);
    let steps = buffers.iter().map(|b| b.last + 1).max().unwrap_or(0);
    let live_at = |t: usize| buffers.iter().filter(|b| b.first <= t && t <= b.last).map(size).sum::<usize>();
    let bound = (0..steps).map(live_at).max().unwrap_or(0);
    let keys: [&dyn Fn(&Live) -> (usize, usize); 4] = [
        &|b| (size(b), b.last - b.first),
        &|b| (b.last - b.first, size(b)),
        &|b| ((b.last - b.first + 1) * size(b), 0),
        &|b| (steps - b.first, size(b)),
    ];
    let mut best: Option<(Vec<usize>, Placed)> = None;
    for key in keys {
        let mut order: Vec<usize> = (0..buffers.len()).collect();
        order.sort_by_key(|&i| std::cmp::Reverse(key(&buffers[i])));
        let placed = first_fit(buffers, &order);
        if best.as_ref().is_none_or(|b| placed.bytes < b.1.bytes) {
            best = Some((order, placed));
        }
    }
    let Some((order, placed)) = best else { return Arena { offsets: Vec::new(), bytes: 0, bound } };
    let placed = improve(buffers, order, placed, bound);
    Arena { offsets: placed.offsets, bytes: placed.bytes, bound }
}

/// The pair of buffers that are live together and overlap, if there is one.
pub fn overlap(buffers: &[Live], offsets: &[usize]) -> Option<(usize, usize)> {
    let together = |a: &Live, b: &Live| a.first <= b.last && b.first <= a.last;
    let end = |i: usize| offsets[i] + buffers[i].bytes;
    let meet = |i: usize, j: usize| offsets[i] < end(j) && offsets[j] < end(i);
    let pairs = (0..buffers.len()).flat_map(|i| (0..i).map(move |j| (j, i)));
    pairs.into_iter().find(|&(i, j)| together(&buffers[i], &buffers[j]) && meet(i, j))
}

/// Offsets, and the bytes up to the end of the last.
struct Placed {
    offsets: Vec<usize>,
    bytes: usize,
}

/// Comparisons of two buffers that the search may take: about a second.
const SEARCH: usize = 60_000_000;

/// Looks for an order that needs fewer bytes. The numbers are the same on every host, and so is the
/// result.
fn improve(buffers: &[Live], mut order: Vec<usize>, mut best: Placed, bound: usize) -> Placed {
    let mut rng = Rng(1);
    let tries = SEARCH / buffers.len().pow(2).max(1);
    for _ in 0..tries.min(20_000) {
        if best.bytes <= bound {
            break;
        }
        let end = |i: usize| best.offsets[i] + buffers[i].bytes.next_multiple_of(ALIGN);
        let tops: Vec<usize> = (0..order.len()).filter(|&p| end(order[p]) == best.bytes).collect();
        let mut changed = order.clone();
        let from = rng.pick(&tops);
        let moved = changed.remove(from);
        changed.insert(rng.below(from + 1), moved);
        if rng.chance(50) {
            let (a, b) = (rng.below(changed.len()), rng.below(changed.len()));
            changed.swap(a, b);
        }
        let placed = first_fit(buffers, &changed);
        if placed.bytes <= best.bytes {
            (order, best) = (changed, placed);
        }
    }
    best
}

/// Each buffer, in order, at the lowest offset where it meets no other that is live with it.
fn first_fit(buffers: &[Live], order: &[usize]) -> Placed {
    let mut offsets = vec![0; buffers.len()];
    let mut placed: Vec<usize> = Vec::new();
    let mut total = 0;
    for &i in order {
        let b = &buffers[i];
        let bytes = b.bytes.next_multiple_of(ALIGN);
        let mut taken: Vec<(usize, usize)> = (placed.iter())
            .filter(|&&j| buffers[j].first <= b.last && b.first <= buffers[j].last)
            .map(|&j| (offsets[j], offsets[j] + buffers[j].bytes.next_multiple_of(ALIGN)))
            .collect();
        taken.sort_unstable();
        let mut at = 0;
        for (start, end) in taken {
            if at + bytes <= start {
                break;
            }
            at = at.max(end);
        }
        offsets[i] = at;
        total = total.max(at + bytes);
        placed.push(i);
    }
    Placed { offsets, bytes: total }
}

#[cfg(test)]
mod tests {
    use super::{Live, Rng, overlap, place};

    #[test]
    fn buffers_that_are_not_live_together_share_memory() {
        let live = |bytes, first, last| Live { bytes, first, last };
        let arena = place(&[live(100, 0, 1), live(64, 1, 2), live(128, 2, 3)]);
        assert_eq!((arena.bytes, arena.bound), (192, 192));
        assert_eq!(arena.offsets[0], arena.offsets[2]);
    }

    #[test]
    fn random_lifetimes_never_overlap_and_come_near_the_bound() {
        let mut rng = Rng(7);
        let (mut bytes, mut bound) = (0, 0);
        for _ in 0..20 {
            let buffers: Vec<Live> = (0..12)
                .map(|_| {
                    let first = rng.below(12);
                    let last = first + rng.below(5);
                    Live { bytes: 64 * (1 + rng.below(20)), first, last }
                })
                .collect();
            let arena = place(&buffers);
            assert_eq!(overlap(&buffers, &arena.offsets), None);
            assert!(arena.bytes >= arena.bound);
            (bytes, bound) = (bytes + arena.bytes, bound + arena.bound);
        }
        assert!(bytes * 100 <= bound * 102, "{bytes} bytes, at least {bound}");
    }
}
