//! Buffers that lie in the model's outputs until these are written.
//!
//! The application passes memory for each output, and nothing is in it before the first step that writes it. Buffers
//! that are dead by then may lie there in place of the arena: the model's hidden tensors are often as large as its
//! output. Outputs are aligned for their elements only, so that vectors there cross cache lines; therefore only
//! buffers that are live where most is are moved, and only if that makes the arena smaller.

use super::arena::{Trail, profile, shared, size};
use crate::strips::{Live, Room};

/// For each buffer the output that it lies in, and at which offset; `None`: it lies in the arena.
pub fn lend(buffers: &[Live], trails: &[Trail], rooms: &[Room]) -> Vec<Option<(usize, usize)>> {
    let places = vec![None; buffers.len()];
    let mut lent = Lent { buffers, trails, rooms, places, profile: profile(buffers, trails) };
    let mut moved = Vec::new();
    while let Some(i) = lent.next() {
        lent.count(i, -1);
        lent.places[i] = lent.place(i);
        moved.push(i);
    }
    let least = lent.most();
    for i in moved.into_iter().rev() {
        let place = lent.places[i].take();
        lent.count(i, 1);
        if lent.most() > least {
            lent.count(i, -1);
            lent.places[i] = place;
        }
    }
    lent.places
}

struct Lent<'a> {
    buffers: &'a [Live],
    trails: &'a [Trail],
    rooms: &'a [Room],
    places: Vec<Option<(usize, usize)>>,
    /// Bytes of the arena that are live at each step.
    profile: Vec<i64>,
}

impl Lent<'_> {
    fn most(&self) -> i64 {
        self.profile.iter().copied().max().unwrap_or(0)
    }

    /// Counts a buffer of the arena so many times more in the profile, but for what it shares with others there.
    fn count(&mut self, i: usize, times: i64) {
        let b = &self.buffers[i];
        self.profile[b.first..=b.last].iter_mut().for_each(|sum| *sum += times * size(b) as i64);
        let other = |t: &Trail| [(t.old, t.new), (t.new, t.old)].iter().find(|p| p.0 == i).map(|p| p.1);
        for trail in self.trails.iter().filter(|t| other(t).is_some_and(|o| self.places[o].is_none())) {
            let (steps, bytes) = shared(self.buffers, trail);
            self.profile[steps].iter_mut().for_each(|sum| *sum -= times * bytes as i64);
        }
    }

    /// The largest buffer that is live at the first of the fullest steps and has a place elsewhere.
    fn next(&self) -> Option<usize> {
        let most = self.most();
        let step = self.profile.iter().position(|&sum| sum == most)?;
        let there = |i: &usize| {
            let b = &self.buffers[*i];
            self.places[*i].is_none() && b.bytes > 0 && b.first <= step && step <= b.last
        };
        let movable = (0..self.buffers.len()).filter(there).filter(|&i| self.place(i).is_some());
        movable.max_by_key(|&i| self.buffers[i].bytes)
    }

    /// The first output that is written after a buffer's end and has room for it, and the lowest offset there.
    fn place(&self, i: usize) -> Option<(usize, usize)> {
        let own = &self.buffers[i];
        let together = |j: &usize| self.buffers[*j].first <= own.last && own.first <= self.buffers[*j].last;
        let free = |(room, space): (usize, &Room)| {
            let lies = |j: usize| self.places[j].filter(|p| p.0 == room);
            let range = |j: usize| lies(j).map(|p| (p.1, p.1 + size(&self.buffers[j])));
            let mut taken: Vec<_> = (0..self.buffers.len()).filter(together).filter_map(range).collect();
            taken.sort_unstable();
            let over = |at: usize, (start, end): (usize, usize)| {
                if at + own.bytes <= start { at } else { at.max(end) }
            };
            let at = taken.into_iter().fold(0, over);
            (own.last < space.until && at + own.bytes <= space.bytes).then_some((room, at))
        };
        self.rooms.iter().enumerate().find_map(free)
    }
}

#[cfg(test)]
mod tests {
    use super::{Live, Room, Trail, lend};

    fn live(bytes: usize, first: usize, last: usize) -> Live {
        Live { bytes, first, last }
    }

    #[test]
    fn what_is_dead_before_an_output_is_written_lies_there() {
        let buffers = [live(640, 0, 1), live(128, 1, 2), live(256, 1, 3)];
        let room = Room { bytes: 400, until: 3 };
        assert_eq!(lend(&buffers, &[], &[room]), [None, Some((0, 0)), None]);
        assert_eq!(lend(&buffers, &[], &[Room { until: 2, ..room }]), [None, None, None]);
        let larger = Room { bytes: 800, until: 3 };
        assert_eq!(lend(&buffers, &[], &[larger]), [Some((0, 0)), Some((0, 640)), None]);
    }

    #[test]
    fn buffers_live_at_different_times_share_an_output() {
        let buffers = [live(100, 0, 1), live(100, 2, 3), live(64, 0, 3)];
        let room = Room { bytes: 100, until: 4 };
        assert_eq!(lend(&buffers, &[], &[room]), [Some((0, 0)), Some((0, 0)), None]);
    }

    #[test]
    fn nothing_moves_that_leaves_the_arena_as_large() {
        let buffers = [live(64, 0, 0), live(640, 0, 0), live(704, 1, 1)];
        let room = Room { bytes: 640, until: 2 };
        assert_eq!(lend(&buffers, &[], &[room]), [None, None, None]);
    }

    #[test]
    fn what_shares_memory_anyway_stays_in_the_arena() {
        let buffers = [live(640, 0, 1), live(640, 1, 2), live(704, 3, 3)];
        let room = Room { bytes: 640, until: 4 };
        let trail = Trail { old: 0, new: 1, below: 64, above: usize::MAX };
        assert_eq!(lend(&buffers, &[trail], &[room]), [None; 3]);
        assert_eq!(lend(&buffers, &[], &[room]), [None, Some((0, 0)), None]);
    }
}
