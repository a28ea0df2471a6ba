//! Offsets in the arena: buffers that are never live together share memory.
//!
//! Each buffer is a rectangle, bytes by lifetime, and no two may overlap, but where one is written behind what is
//! still read of the other ([`super::trail`]). Placing them by
//! decreasing size at the lowest free offset is near the optimum for networks (Pisarchyk and Lee,
//! "Efficient Memory Management for Deep Neural Net Inference", 2020). A few orders are tried; where
//! the best is above the lower bound (the largest sum live at one step, or what a few buffers need: [`super::least`]), a
//! bounded search changes it: what lies at the top is placed earlier.

use super::least::{Neighbour, least};
use crate::strips::{Live, together};
use crate::tile::random::Rng;
use std::collections::HashMap;
use std::ops::RangeInclusive;

/// Alignment of every buffer in bytes: a cache line, and the widest vector.
pub const ALIGN: usize = 64;

/// Two buffers that may share bytes although both hold something at a time: a step reads one for the last time
/// and writes the other. Multiples of [`ALIGN`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trail {
    /// The buffer read, by number.
    pub old: usize,
    /// The buffer written.
    pub new: usize,
    /// The new one may begin so many bytes before the old one, or further.
    pub below: usize,
    /// The new one may begin so many bytes behind the beginning of the old one, or further, where the step runs
    /// backwards.
    pub above: usize,
}

/// The placement of all buffers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arena {
    /// Offset of each buffer in bytes.
    pub offsets: Vec<usize>,
    /// Bytes of the arena.
    pub bytes: usize,
    /// No arena is smaller: the largest sum of buffers live at one step, less what they may share, or what a few need.
    pub bound: usize,
}

/// Bytes up to the next buffer.
pub fn size(buffer: &Live) -> usize {
    buffer.bytes.next_multiple_of(ALIGN)
}

/// Whether both hold something at a time.
fn meet(one: &Live, other: &Live) -> bool {
    one.first <= other.last && other.first <= one.last
}

/// The bytes that are live at each step, less what buffers may share.
pub fn profile(buffers: &[Live], trails: &[Trail]) -> Vec<i64> {
    let mut profile = vec![0; buffers.iter().map(|b| b.last + 1).max().unwrap_or(0)];
    buffers.iter().for_each(|b| profile[b.first..=b.last].iter_mut().for_each(|sum| *sum += size(b) as i64));
    for trail in trails {
        let (steps, bytes) = shared(buffers, trail);
        profile[steps].iter_mut().for_each(|sum| *sum -= bytes as i64);
    }
    profile
}

/// The steps at which most is live, and those at which something lies at the arena's end.
pub fn fullest(buffers: &[Live], trails: &[Trail], offsets: &[usize]) -> [Vec<usize>; 2] {
    let profile = profile(buffers, trails);
    let most = profile.iter().copied().max();
    let end = |i: usize| offsets[i] + size(&buffers[i]);
    let last = (0..buffers.len()).map(end).max();
    let at_end: Vec<&Live> =
        (0..buffers.len()).filter(|&i| Some(end(i)) == last).map(|i| &buffers[i]).collect();
    let ends = |step: &usize| at_end.iter().any(|b| b.first <= *step && *step <= b.last);
    let full = (0..profile.len()).filter(|&step| Some(profile[step]) == most);
    [full.collect(), (0..profile.len()).filter(ends).collect()]
}

/// The largest sum of buffers live at one step, less what they may share: each at most what it holds, with all that
/// it is written behind, and with all that is written behind it.
pub fn bound(buffers: &[Live], trails: &[Trail]) -> usize {
    let profile = profile(buffers, &[]);
    let saved = |of: &dyn Fn(&Trail) -> usize| {
        let mut sums: HashMap<usize, Vec<i64>> = HashMap::new();
        for trail in trails {
            let (steps, bytes) = shared(buffers, trail);
            let sums = sums.entry(of(trail)).or_insert_with(|| vec![0; profile.len()]);
            sums[steps].iter_mut().for_each(|sum| *sum += bytes as i64);
        }
        let mut saved = vec![0; profile.len()];
        for (buffer, sums) in sums {
            let most = size(&buffers[buffer]) as i64;
            saved.iter_mut().zip(sums).for_each(|(all, sum)| *all += sum.min(most));
        }
        saved
    };
    let saved = saved(&|t| t.new).into_iter().zip(saved(&|t| t.old)).map(|(new, old)| new.min(old));
    profile.iter().zip(saved).map(|(all, less)| all - less).max().unwrap_or(0).max(0) as usize
}

/// The bytes that two buffers may share, and the steps at which both hold something.
pub fn shared(buffers: &[Live], trail: &Trail) -> (RangeInclusive<usize>, usize) {
    let (old, new) = (&buffers[trail.old], &buffers[trail.new]);
    let (o, n) = (size(old), size(new));
    let above = o.max(trail.above.saturating_add(n));
    (new.first..=old.last, o + n - together(o, n, trail.below).min(above))
}

/// The share of the arena that has to be saved for steps to run backwards: their kernels may be there twice.
const WORTH: f64 = 0.05;

/// Places all buffers, with the trails that were used: steps run backwards only where that saves a good deal, or
/// where the order of steps alone leaves gaps.
pub fn place_turned(buffers: &[Live], trails: Vec<Trail>) -> (Vec<Trail>, Arena) {
    let forwards: Vec<Trail> = trails.iter().map(|t| Trail { above: usize::MAX, ..*t }).collect();
    let arena = place(buffers, &forwards);
    let saved = if arena.bytes > bound(buffers, &forwards) { 0.0 } else { WORTH };
    let enough = (arena.bytes as f64 * (1.0 - saved)) as usize;
    if bound(buffers, &trails) <= enough {
        let turned = place(buffers, &trails);
        if turned.bytes < arena.bytes && turned.bytes <= enough {
            return (trails, turned);
        }
    }
    (forwards, arena)
}

/// Places all buffers.
pub fn place(buffers: &[Live], trails: &[Trail]) -> Arena {
    let steps = buffers.iter().map(|b| b.last + 1).max().unwrap_or(0);
    let bound = bound(buffers, trails);
    let neighbours = neighbours(buffers, trails);
    // What trails lies lower than what it follows: the latest first.
    let keys: [&dyn Fn(&Live) -> (usize, usize); 5] = [
        &|b| (size(b), b.last - b.first),
        &|b| (b.last - b.first, size(b)),
        &|b| ((b.last - b.first + 1) * size(b), 0),
        &|b| (steps - b.first, size(b)),
        &|b| (b.first, size(b)),
    ];
    let mut best: Option<(Vec<usize>, Placed)> = None;
    for key in keys {
        let mut order: Vec<usize> = (0..buffers.len()).collect();
        order.sort_by_key(|&i| std::cmp::Reverse(key(&buffers[i])));
        let placed = first_fit(buffers, &neighbours, &order);
        if best.as_ref().is_none_or(|b| placed.bytes < b.1.bytes) {
            best = Some((order, placed));
        }
    }
    let Some((order, placed)) = best else { return Arena { offsets: Vec::new(), bytes: 0, bound } };
    let bound = match placed.bytes > bound {
        true => bound.max(least_of_few(buffers, &neighbours, placed.bytes)),
        false => bound,
    };
    let placed = improve(buffers, &neighbours, order, placed, bound);
    Arena { offsets: placed.offsets, bytes: placed.bytes, bound }
}

/// As [`least`].
fn least_of_few(buffers: &[Live], neighbours: &[Vec<Neighbour>], known: usize) -> usize {
    let (sizes, firsts): (Vec<usize>, Vec<usize>) = buffers.iter().map(|b| (size(b), b.first)).unzip();
    least(&sizes, &firsts, neighbours, known)
}

/// The pair of buffers that are live together and overlap, although neither is written behind the other, if there
/// is one.
pub fn overlap(buffers: &[Live], trails: &[Trail], offsets: &[usize]) -> Option<(usize, usize)> {
    let end = |i: usize| offsets[i] + buffers[i].bytes;
    let beside = |i: usize, j: usize| offsets[i] < end(j) && offsets[j] < end(i);
    let behind = |i: usize, j: usize| {
        let trail = trails.iter().find(|t| (t.old, t.new) == (i, j));
        trail.is_some_and(|t| {
            offsets[j] + t.below <= offsets[i] || offsets[i].saturating_add(t.above) <= offsets[j]
        })
    };
    let pairs = (0..buffers.len()).flat_map(|i| (0..i).map(move |j| (j, i)));
    let clash = |i: usize, j: usize| meet(&buffers[i], &buffers[j]) && beside(i, j);
    pairs.into_iter().find(|&(i, j)| clash(i, j) && !behind(i, j) && !behind(j, i))
}

/// Of each buffer those that are live together with it.
fn neighbours(buffers: &[Live], trails: &[Trail]) -> Vec<Vec<Neighbour>> {
    let trails: HashMap<(usize, usize), &Trail> = trails.iter().map(|t| ((t.old, t.new), t)).collect();
    let of = |i: usize| {
        let together = |j: &usize| *j != i && meet(&buffers[*j], &buffers[i]);
        let neighbour = |other: usize| {
            let (before, after) = match (trails.get(&(other, i)), trails.get(&(i, other))) {
                (Some(t), _) => (t.below, t.above),
                (_, Some(t)) => (t.above, t.below),
                _ => (usize::MAX, usize::MAX),
            };
            let (before, after) = (before.min(size(&buffers[i])), after.min(size(&buffers[other])));
            Neighbour { other, before, after }
        };
        (0..buffers.len()).filter(together).map(neighbour).collect()
    };
    (0..buffers.len()).map(of).collect()
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
fn improve(
    buffers: &[Live],
    neighbours: &[Vec<Neighbour>],
    mut order: Vec<usize>,
    mut best: Placed,
    bound: usize,
) -> Placed {
    let mut rng = Rng(1);
    let tries = SEARCH / buffers.len().pow(2).max(1);
    for _ in 0..tries.min(20_000) {
        if best.bytes <= bound {
            break;
        }
        let end = |i: usize| best.offsets[i] + size(&buffers[i]);
        let tops: Vec<usize> = (0..order.len()).filter(|&p| end(order[p]) == best.bytes).collect();
        let mut changed = order.clone();
        let from = rng.pick(&tops);
        let moved = changed.remove(from);
        changed.insert(rng.below(from + 1), moved);
        if rng.chance(50) {
            let (a, b) = (rng.below(changed.len()), rng.below(changed.len()));
            changed.swap(a, b);
        }
        let placed = first_fit(buffers, neighbours, &changed);
        if placed.bytes <= best.bytes {
            (order, best) = (changed, placed);
        }
    }
    best
}

/// Each buffer, in order, at the lowest offset where it meets no other that is live with it.
fn first_fit(buffers: &[Live], neighbours: &[Vec<Neighbour>], order: &[usize]) -> Placed {
    let mut offsets = vec![0; buffers.len()];
    let mut placed = vec![false; buffers.len()];
    let mut total = 0;
    let mut taken: Vec<(i64, i64)> = Vec::new();
    for &i in order {
        taken.clear();
        for n in neighbours[i].iter().filter(|n| placed[n.other]) {
            let at = offsets[n.other] as i64;
            taken.push((at - n.before as i64, at + n.after as i64));
        }
        taken.sort_unstable();
        let mut at = 0;
        for &(last, next) in &taken {
            if at <= last {
                break;
            }
            at = at.max(next);
        }
        offsets[i] = at as usize;
        total = total.max(offsets[i] + size(&buffers[i]));
        placed[i] = true;
    }
    Placed { offsets, bytes: total }
}

#[cfg(test)]
mod tests {
    use super::{Live, Rng, Trail, overlap, place, place_turned};

    #[test]
    fn what_is_written_behind_what_is_read_shares_memory() {
        let live = |bytes, first, last| Live { bytes, first, last };
        let buffers = [live(640, 0, 1), live(512, 1, 2), live(64, 0, 2)];
        let trails = [Trail { old: 0, new: 1, below: 128, above: 640 }];
        let arena = place(&buffers, &trails);
        assert_eq!((arena.bytes, arena.bound), (832, 832));
        assert_eq!(overlap(&buffers, &trails, &arena.offsets), None);
        assert_eq!(overlap(&buffers, &[Trail { below: 192, ..trails[0] }], &arena.offsets), Some((0, 1)));
        assert_eq!(overlap(&buffers, &[Trail { old: 1, new: 0, ..trails[0] }], &arena.offsets), Some((0, 1)));
        // Three times as much moves down, unless every other step runs backwards.
        let chain = [live(640, 0, 1), live(640, 1, 2), live(640, 2, 3)];
        let step = |old, above| Trail { old, new: old + 1, below: 64, above };
        assert_eq!(place(&chain, &[step(0, 640), step(1, 640)]).bytes, 768);
        assert_eq!(place(&chain, &[step(0, 64), step(1, 64)]).bytes, 704);
        let turned = |above| place_turned(&chain, vec![step(0, above), step(1, above)]);
        assert_eq!((turned(64).0[0].above, turned(64).1.bytes), (64, 704));
        assert_eq!((turned(128).0[0].above, turned(128).1.bytes), (usize::MAX, 768));
    }

    #[test]
    fn no_buffer_shares_more_than_it_holds() {
        let live = |bytes, first, last| Live { bytes, first, last };
        let buffers = [live(640, 0, 1), live(64, 0, 1), live(640, 1, 2)];
        let trail = |old| Trail { old, new: 2, below: 0, above: usize::MAX };
        let arena = place(&buffers, &[trail(0), trail(1)]);
        assert_eq!((arena.bytes, arena.bound), (704, 704));
        let buffers = [live(640, 0, 1), live(640, 1, 2), live(64, 1, 2)];
        let trail = |new| Trail { old: 0, new, below: 0, above: usize::MAX };
        let arena = place(&buffers, &[trail(1), trail(2)]);
        assert_eq!((arena.bytes, arena.bound), (704, 704));
    }

    #[test]
    fn buffers_that_are_not_live_together_share_memory() {
        let live = |bytes, first, last| Live { bytes, first, last };
        let arena = place(&[live(100, 0, 1), live(64, 1, 2), live(128, 2, 3)], &[]);
        assert_eq!((arena.bytes, arena.bound), (192, 192));
        assert_eq!(arena.offsets[0], arena.offsets[2]);
    }

    #[test]
    fn three_that_follow_each_other_need_room_for_two() {
        // The second begins no later than the first, and as late in the third that only little of both is shared.
        let live = |bytes, first, last| Live { bytes, first, last };
        let buffers = [live(640, 0, 1), live(192, 1, 2), live(640, 2, 3)];
        let trail = |old, new, below| Trail { old, new, below, above: usize::MAX };
        let arena = place(&buffers, &[trail(0, 1, 0), trail(1, 2, 512)]);
        assert_eq!((arena.bytes, arena.bound), (832, 832));
    }

    #[test]
    fn where_one_lies_decides_what_the_next_may_share() {
        // Small ones begin behind the large ones that they follow, large ones before the small ones: what lies below
        // cannot be followed by a large one, and what lies above leaves no room for what is there at that step alone.
        let live = |bytes, first, last| Live { bytes, first, last };
        let layer = |step| [live(2560, step, step + 1), live(512, step, step), live(640, step + 1, step + 2)];
        let buffers: Vec<Live> = [0, 2, 4].into_iter().flat_map(layer).collect();
        let trails: Vec<Trail> = [(0, 2, 64), (2, 3, 1984), (3, 5, 64), (5, 6, 1984), (6, 8, 64)]
            .map(|(old, new, below)| Trail { old, new, below, above: usize::MAX })
            .to_vec();
        let arena = place(&buffers, &trails);
        assert_eq!(overlap(&buffers, &trails, &arena.offsets), None);
        assert_eq!((arena.bytes, arena.bound), (3712, 3712));
        assert_eq!(super::bound(&buffers, &trails), 3136);
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
            let arena = place(&buffers, &[]);
            assert_eq!(overlap(&buffers, &[], &arena.offsets), None);
            assert!(arena.bytes >= arena.bound);
            (bytes, bound) = (bytes + arena.bytes, bound + arena.bound);
        }
        assert!(bytes * 100 <= bound * 102, "{bytes} bytes, at least {bound}");
    }
}
