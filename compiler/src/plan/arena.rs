//! Offsets in the arena: buffers that are never live together share memory.
//!
//! Each buffer is a rectangle, bytes by lifetime, and no two may overlap. Placing them by
//! decreasing size at the lowest free offset is near the optimum for networks (Pisarchyk and Lee,
//! "Efficient Memory Management for Deep Neural Net Inference", 2020); a few other orders are
//! tried, and the smallest arena wins. The lower bound is the largest sum live at one step.

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
    let mut best: Option<Arena> = None;
    for key in keys {
        let mut order: Vec<usize> = (0..buffers.len()).collect();
        order.sort_by_key(|&i| std::cmp::Reverse(key(&buffers[i])));
        let (offsets, bytes) = first_fit(buffers, &order);
        if best.as_ref().is_none_or(|b| bytes < b.bytes) {
            best = Some(Arena { offsets, bytes, bound });
        }
    }
    best.unwrap_or(Arena { offsets: Vec::new(), bytes: 0, bound: 0 })
}

/// Each buffer, in order, at the lowest offset where it meets no other that is live with it.
fn first_fit(buffers: &[Live], order: &[usize]) -> (Vec<usize>, usize) {
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
    (offsets, total)
}

#[cfg(test)]
mod tests {
    use super::{Live, place};

    #[test]
    fn buffers_that_are_not_live_together_share_memory() {
        let live = |bytes, first, last| Live { bytes, first, last };
        let arena = place(&[live(100, 0, 1), live(64, 1, 2), live(128, 2, 3)]);
        assert_eq!((arena.bytes, arena.bound), (192, 192));
        assert_eq!(arena.offsets[0], arena.offsets[2]);
    }
}
