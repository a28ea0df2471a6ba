//! Buffers that are written behind what is still read of another one.
//!
//! A step that reads one buffer for the last time and begins another one needs memory for both; but where it
//! walks over both in order, what it writes may follow what it has read: rows of a convolution's result lie over
//! the rows that no later row of its window reaches. How far the new buffer has to begin before the old one is
//! found by following both through all pieces of the step's kernels ([`crate::tile::pieces`]), so that whatever the
//! new one's pieces reach lies before everything that pieces of the old one reach then or later. Since encoders
//! may mix neighbouring pieces, the one before counts as later. Strips are followed through all their
//! iterations. A kernel that runs backwards does the same upwards: where steps take turns, a chain of values of one
//! size takes little more than one of them.

use super::arena::{ALIGN, Trail};
use super::buffers::{Draft, Place};
use crate::strips::Live;
use crate::tile::{Kernel, Piece, backwards, hull, pieces};
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

/// Pieces of one step that are followed at most.
const MOST: usize = 1 << 18;

/// The pairs of buffers of which one may lie behind the other. `buffer` gives the number of the buffer, among
/// `live`, that an argument lies in.
pub(super) fn trails(
    drafts: &[Draft],
    kernels: &[Kernel],
    live: &[Live],
    buffer: &dyn Fn(usize) -> Option<usize>,
) -> Vec<Trail> {
    let mut walks = Walks { kernels, forwards: HashMap::new(), backwards: HashMap::new() };
    let mut trails = Vec::new();
    let mut start = 0;
    for draft in drafts {
        let steps = start..start + draft.count();
        start = steps.end;
        let ends = |b: &Live| b.first < steps.start && steps.contains(&b.last);
        let begins = |b: &Live| steps.contains(&b.first) && b.last >= steps.end;
        let numbers = |which: &dyn Fn(&Live) -> bool| {
            (0..live.len()).filter(|&i| live[i].bytes > ALIGN && which(&live[i])).collect()
        };
        let (olds, news): (Vec<usize>, Vec<usize>) = (numbers(&ends), numbers(&begins));
        let mut found = Vec::new();
        for (&old, &new) in olds.iter().flat_map(|old| news.iter().map(move |new| (old, new))) {
            let mut follow = Follow { walks: &mut walks, buffer, pair: (old, new), path: Vec::new() };
            let below = follow.draft(draft, &mut Vec::new()).map(|()| behind(&follow.path));
            let trail = |below| Trail { old, new, below, above: usize::MAX };
            found.extend(below.filter(|&b| b < live[new].bytes).map(trail));
        }
        if let ([trail], Draft::Call { kernel, args }) = (found.as_mut_slice(), draft) {
            let pair = (trail.old, trail.new);
            let mut follow = Follow { walks: &mut walks, buffer, pair, path: Vec::new() };
            let pieces = follow.walks.backwards(*kernel);
            pieces.iter().for_each(|pieces| follow.call(pieces, args, &[]));
            trail.above = pieces.map_or(usize::MAX, |_| behind(&mirrored(&follow.path)));
        }
        trails.append(&mut found);
    }
    trails
}

/// Of the steps in which buffers share bytes with others, whether each has to run backwards.
pub(super) fn directions(live: &[Live], trails: &[Trail], offsets: &[usize]) -> HashMap<usize, bool> {
    let shares = |t: &&Trail| {
        let [old, new] = [t.old, t.new].map(|i| (offsets[i], offsets[i] + live[i].bytes));
        old.0 < new.1 && new.0 < old.1
    };
    let upwards = |t: &Trail| offsets[t.new] + t.below > offsets[t.old];
    trails.iter().filter(shares).map(|t| (live[t.old].last, upwards(t))).collect()
}

/// How far what a kernel writes to one parameter must begin before what it reads of another one for the last time.
pub(super) fn apart(kernel: &Kernel, old: usize, new: usize) -> usize {
    behind(&pieces(kernel).iter().map(|piece| [piece[old].clone(), piece[new].clone()]).collect::<Vec<_>>())
}

/// How far a buffer must begin before another one, by what is reached of both in each piece, in order.
fn behind(path: &[[Range<i64>; 2]]) -> usize {
    let mut first = i64::MAX;
    let mut most = 0;
    for (i, [_, new]) in path.iter().enumerate().rev() {
        for [old, _] in &path[i.saturating_sub(1)..=i] {
            first = if old.is_empty() { first } else { first.min(old.start) };
        }
        most = if new.is_empty() { most } else { most.max(new.end.saturating_sub(first)) };
    }
    (most as usize).next_multiple_of(ALIGN)
}

/// The same with all addresses negative: what lies below lies above.
fn mirrored(path: &[[Range<i64>; 2]]) -> Vec<[Range<i64>; 2]> {
    path.iter().map(|both| both.each_ref().map(|range| -range.end..-range.start)).collect()
}

/// The pieces of kernels, by number.
struct Walks<'a> {
    kernels: &'a [Kernel],
    forwards: HashMap<u32, Rc<Vec<Piece>>>,
    backwards: HashMap<u32, Option<Rc<Vec<Piece>>>>,
}

impl Walks<'_> {
    fn forwards(&mut self, kernel: u32) -> Rc<Vec<Piece>> {
        let walk = || Rc::new(pieces(&self.kernels[kernel as usize]));
        self.forwards.entry(kernel).or_insert_with(walk).clone()
    }

    fn backwards(&mut self, kernel: u32) -> Option<Rc<Vec<Piece>>> {
        let walk = || backwards(&self.kernels[kernel as usize]).map(|turned| Rc::new(pieces(&turned)));
        self.backwards.entry(kernel).or_insert_with(walk).clone()
    }
}

struct Follow<'a, 'b> {
    walks: &'a mut Walks<'b>,
    buffer: &'a dyn Fn(usize) -> Option<usize>,
    /// The old buffer and the new one.
    pair: (usize, usize),
    /// The bytes reached of either, piece by piece.
    path: Vec<[Range<i64>; 2]>,
}

impl Follow<'_, '_> {
    /// Follows both through a draft; `None` where that takes too long, or where the step depends on data.
    fn draft(&mut self, draft: &Draft, iterations: &mut Vec<i64>) -> Option<()> {
        match draft {
            Draft::Repeat { trip: Some(_), .. } | Draft::Repeat { cond: Some(_), .. } => return None,
            Draft::Repeat { count, body, .. } => {
                for i in 0..*count as i64 {
                    iterations.push(i);
                    body.iter().try_for_each(|d| self.draft(d, iterations))?;
                    iterations.pop();
                }
            }
            Draft::Call { kernel, args } => {
                let pieces = self.walks.forwards(*kernel);
                self.call(&pieces, args, iterations);
            }
        }
        (self.path.len() <= MOST).then_some(())
    }

    fn call(&mut self, pieces: &[Piece], args: &[Place], iterations: &[i64]) {
        let which = |place: &Place| {
            let buffer = (self.buffer)(place.buffer)?;
            [self.pair.0, self.pair.1].iter().position(|&b| b == buffer)
        };
        let moved = |place: &Place| place.strides.iter().zip(iterations).map(|(s, i)| s * i).sum::<i64>();
        let parts: Vec<(usize, usize, i64)> = (args.iter().enumerate())
            .filter_map(|(param, place)| Some((param, which(place)?, place.offset as i64 + moved(place))))
            .collect();
        for piece in pieces.iter().filter(|_| !parts.is_empty()) {
            let mut both = [0..0, 0..0];
            for &(param, which, from) in &parts {
                let Range { start, end } = piece[param];
                both[which] = hull(&both[which], &(start + from..end + from));
            }
            self.path.push(both);
        }
    }
}
