//! Buffers that are written behind what is still read of another one.
//!
//! A step that reads one buffer for the last time and begins another one needs memory for both; but where it
//! walks over both in order, what it writes may follow what it has read: rows of a convolution's result lie over
//! the rows that no later row of its window reaches. How far the new buffer has to begin before the old one is
//! found by following both through all pieces of the step's kernels ([`crate::tile::pieces`]), so that whatever the
//! new one's pieces reach lies before everything that pieces of the old one reach then or later. Since encoders
//! may mix neighbouring pieces, the one before counts as later. Strips are followed through all their
//! iterations, and from the steps at one edge to those at the other. A kernel that runs backwards does the same
//! upwards: where steps take turns, a chain of values of one size takes little more than one of them.

use super::arena::{ALIGN, Trail};
use super::draft::{Draft, Place};
use crate::strips::Live;
use crate::tile::{Kernel, Piece, backwards, hull, pieces};
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

/// Pieces of one pair of buffers that are followed at most.
const MOST: usize = 1 << 18;
/// Steps, strips and their edges, over which a pair of buffers is followed at most.
const FAR: usize = 64;

/// The pairs of buffers of which one may lie behind the other.
pub(super) struct Trails<'a> {
    drafts: &'a [Draft],
    buffer: &'a dyn Fn(usize) -> Option<usize>,
    walks: Walks<'a>,
    /// With the steps at which both hold something.
    found: Vec<(Trail, Range<usize>)>,
}

impl<'a> Trails<'a> {
    /// Those of all buffers that are `live`; `buffer` gives the number of the one that an argument lies in.
    pub(super) fn of(
        drafts: &'a [Draft],
        kernels: &'a [Kernel],
        live: &[Live],
        buffer: &'a dyn Fn(usize) -> Option<usize>,
    ) -> Self {
        let mut walks = Walks { kernels, forwards: HashMap::new(), backwards: HashMap::new() };
        let mut found: Vec<(Trail, Range<usize>)> = Vec::new();
        for (pair, range) in pairs(drafts, live) {
            let mut follow = Follow { walks: &mut walks, buffer, pair, path: Vec::new() };
            let followed = drafts[range.clone()].iter().try_for_each(|d| follow.draft(d, &mut Vec::new()));
            let below = followed.map(|()| behind(&follow.path)).filter(|&b| b < live[pair.1].bytes);
            let trail = |below| Trail { old: pair.0, new: pair.1, below, above: usize::MAX };
            found.extend(below.map(|below| (trail(below), range)));
        }
        Trails { drafts, buffer, walks, found }
    }

    /// Those of the buffers that are kept, with these numbers.
    pub(super) fn among(&mut self, number: &dyn Fn(usize) -> Option<usize>) -> Vec<Trail> {
        let kept: Vec<(Trail, Range<usize>)> = self
            .found
            .iter()
            .filter(|(t, _)| [t.old, t.new].iter().all(|&b| number(b).is_some()))
            .cloned()
            .collect();
        let meet = |a: &Range<usize>, b: &Range<usize>| a.start < b.end && b.start < a.end;
        let alone = |range: &Range<usize>| kept.iter().filter(|other| meet(range, &other.1)).count() == 1;
        let turned =
            kept.iter().map(|(trail, range)| if alone(range) { self.turned(trail, range) } else { *trail });
        let turned: Vec<Trail> = turned.collect();
        turned
            .into_iter()
            .filter_map(|t| Some(Trail { old: number(t.old)?, new: number(t.new)?, ..t }))
            .collect()
    }

    /// The same where the step may run backwards, too.
    fn turned(&mut self, trail: &Trail, range: &Range<usize>) -> Trail {
        let [Draft::Call { kernel, args }] = &self.drafts[range.clone()] else { return *trail };
        let pair = (trail.old, trail.new);
        let mut follow = Follow { walks: &mut self.walks, buffer: self.buffer, pair, path: Vec::new() };
        let pieces = follow.walks.backwards(*kernel);
        pieces.iter().for_each(|pieces| follow.call(pieces, args, &[]));
        Trail { above: pieces.map_or(usize::MAX, |_| behind(&mirrored(&follow.path))), ..*trail }
    }
}

/// Pairs of a buffer that is read for the last time, and one that begins before that, after it, and lives on; with
/// the steps from where the one begins to where the other ends. Strips have steps of their own at the edges.
fn pairs(drafts: &[Draft], live: &[Live]) -> Vec<((usize, usize), Range<usize>)> {
    let mut start = 0;
    let steps: Vec<Range<usize>> = (drafts.iter())
        .map(|draft| {
            let from = start;
            start += draft.count();
            from..start
        })
        .collect();
    let at = |step: usize| steps.partition_point(|s| s.end <= step);
    let large: Vec<usize> = (0..live.len()).filter(|&i| live[i].bytes > ALIGN).collect();
    let mut begins: HashMap<usize, Vec<usize>> = HashMap::new();
    large.iter().for_each(|&i| begins.entry(at(live[i].first)).or_default().push(i));
    let mut pairs = Vec::new();
    for &old in &large {
        let end = at(live[old].last);
        let first = (end + 1).saturating_sub(FAR).max(at(live[old].first) + 1);
        for begin in first..=end {
            let news = begins.get(&begin).into_iter().flatten();
            let on = news.filter(|&&new| live[new].last >= steps[end].end);
            pairs.extend(on.map(|&new| ((old, new), begin..end + 1)));
        }
    }
    pairs
}

/// Of the steps in which buffers share bytes with others, whether each has to run backwards.
pub(super) fn directions(live: &[Live], trails: &[Trail], offsets: &[usize]) -> HashMap<usize, bool> {
    let shares = |t: &&Trail| {
        let [old, new] = [t.old, t.new].map(|i| (offsets[i], offsets[i] + live[i].bytes));
        old.0 < new.1 && new.0 < old.1
    };
    let upwards = |t: &Trail| offsets[t.new] + t.below > offsets[t.old];
    let steps = |t: &Trail| live[t.new].first..=live[t.old].last;
    trails.iter().filter(shares).flat_map(|t| steps(t).map(move |step| (step, upwards(t)))).collect()
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

    /// Follows both through a call, behind which nothing is mixed with it: as a whole where it reaches one of both.
    fn call(&mut self, pieces: &[Piece], args: &[Place], iterations: &[i64]) {
        let which = |place: &Place| {
            let buffer = (self.buffer)(place.buffer)?;
            [self.pair.0, self.pair.1].iter().position(|&b| b == buffer)
        };
        let moved = |place: &Place| place.strides.iter().zip(iterations).map(|(s, i)| s * i).sum::<i64>();
        let parts: Vec<(usize, usize, i64)> = (args.iter().enumerate())
            .filter_map(|(param, place)| Some((param, which(place)?, place.offset as i64 + moved(place))))
            .collect();
        if parts.is_empty() {
            return;
        }
        let reached = |piece: &Piece| {
            let mut both = [0..0, 0..0];
            for &(param, which, from) in &parts {
                let Range { start, end } = piece[param];
                both[which] = hull(&both[which], &(start + from..end + from));
            }
            both
        };
        if (0..2).all(|which| parts.iter().any(|p| p.1 == which)) {
            self.path.extend(pieces.iter().map(reached));
        } else {
            let all = pieces.iter().map(reached);
            self.path.extend(all.reduce(|a, b| [hull(&a[0], &b[0]), hull(&a[1], &b[1])]));
        }
        self.path.push([0..0, 0..0]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tile::parse;

    /// Strips that read rows of a buffer and write rows of another one, by way of a window; the last one has steps of
    /// its own, which read the row at `last`.
    fn strips(last: usize) -> Vec<Trail> {
        let copy = "kernel copy { read x: u8[64] write y: u8[64] vars i \
                    for i in 0..64 { %0: i32 = load x[i] store y[i] = %0 } }";
        let kernels = [parse(copy).expect("a kernel")];
        let (old, new, window) = (0, 1, 2);
        let place = |buffer, offset, stride: Option<i64>| Place {
            buffer,
            offset,
            strides: stride.into_iter().collect(),
        };
        let call = |from, to| Draft::Call { kernel: 0, args: vec![from, to] };
        let body = vec![
            call(place(old, 0, Some(64)), place(window, 0, None)),
            call(place(window, 0, None), place(new, 0, Some(64))),
        ];
        let drafts = [
            call(place(window, 0, None), place(old, 0, None)),
            Draft::Repeat { count: 3, trip: None, cond: None, body },
            call(place(old, last, None), place(window, 0, None)),
            call(place(window, 0, None), place(new, 192, None)),
            call(place(new, 0, None), place(window, 0, None)),
        ];
        let live = |bytes, first, last| Live { bytes, first, last };
        let live = [live(256, 0, 3), live(256, 2, 5), live(64, 0, 5)];
        Trails::of(&drafts, &kernels, &live, &|buffer| Some(buffer)).among(&|buffer| Some(buffer))
    }

    #[test]
    fn all_steps_between_are_bound_to_run_forwards() {
        let live = |bytes, first, last| Live { bytes, first, last };
        let live = [live(256, 0, 3), live(256, 2, 5)];
        let bound = directions(&live, &strips(192), &[0, 0]);
        assert_eq!(bound, HashMap::from([(2, false), (3, false)]));
        assert!(directions(&live, &strips(192), &[0, 256]).is_empty());
    }

    #[test]
    fn strips_are_followed_to_their_edges() {
        let trail = |below| vec![Trail { old: 0, new: 1, below, above: usize::MAX }];
        assert_eq!(strips(192), trail(0));
        // What is read again must not be written before.
        assert_eq!(strips(64), trail(128));
        assert_eq!(strips(0), trail(192));
    }
}
