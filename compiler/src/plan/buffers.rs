//! Buffers before they have offsets: when each is used, which of them are one, and in the end the
//! place of each in the arena and the steps that say so.

use super::arena::{self, ALIGN, Arena, Trail};
use super::draft::{Draft, Place};
use super::lent::lend;
use super::trail::{Trails, directions};
use super::{Arg, Base, Constant, Step};
use crate::error::{Error, Result};
use crate::strips::{Live, Room};
use crate::tile::Kernel;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};

/// A buffer before it has an offset.
struct Buffer {
    base: Option<Base>,
    bytes: usize,
    /// Steps at which it is used, hull.
    first: usize,
    last: usize,
    /// Loops around the stage that made it, outermost first.
    loops: Vec<usize>,
    /// Replaced by another buffer.
    merged: Option<usize>,
}

/// Where buffers lie.
type Places = HashMap<usize, (Base, usize)>;

/// Where all buffers are.
pub(super) struct Placed {
    pub arena: Arena,
    places: Places,
    /// The steps at which most of the arena is live, and those at which something lies at its end.
    pub fullest: [Vec<usize>; 2],
    /// Of steps whose direction matters, whether they have to run backwards.
    pub backwards: HashMap<usize, bool>,
}

/// All buffers, and the steps so far.
#[derive(Default)]
pub(super) struct Buffers {
    list: Vec<Buffer>,
    pub constants: Vec<Constant>,
    /// The constants, and their buffers, by a hash of their bytes.
    constant_ids: HashMap<u64, Vec<(usize, usize)>>,
    /// Steps so far.
    time: usize,
    /// Loops open now, by number.
    open: Vec<usize>,
    /// The first and the last step of each loop.
    loop_spans: Vec<(usize, usize)>,
}

impl Buffers {
    /// A new buffer; of the arena, where it has no base.
    pub fn add(&mut self, base: Option<Base>, bytes: usize) -> usize {
        let loops = self.open.clone();
        self.list.push(Buffer { base, bytes, first: usize::MAX, last: 0, loops, merged: None });
        self.list.len() - 1
    }

    /// The buffer of constant bytes; equal ones are kept once.
    pub fn constant(&mut self, name: &str, bytes: Vec<u8>) -> usize {
        let mut hasher = DefaultHasher::new();
        hasher.write(&bytes);
        let hash = hasher.finish();
        let known = self.constant_ids.get(&hash).map(Vec::as_slice).unwrap_or_default();
        if let Some(known) = known.iter().find(|known| self.constants[known.0].bytes == bytes) {
            return known.1;
        }
        let id = self.constants.len();
        let buffer = self.add(Some(Base::Constant(id as u32)), bytes.len());
        self.constant_ids.entry(hash).or_default().push((id, buffer));
        let align = bytes.len().next_power_of_two().min(ALIGN);
        self.constants.push(Constant { name: name.to_string(), bytes, align });
        buffer
    }

    fn root(&self, mut buffer: usize) -> usize {
        while let Some(next) = self.list[buffer].merged {
            buffer = next;
        }
        buffer
    }

    /// Marks a use at the current step.
    pub fn touch(&mut self, buffer: usize) {
        let (root, time) = (self.root(buffer), self.time);
        let b = &mut self.list[root];
        b.first = b.first.min(time);
        b.last = b.last.max(time);
    }

    /// A step that uses these places.
    pub fn step(&mut self, kernel: u32, args: Vec<Place>) -> Draft {
        args.iter().for_each(|a| self.touch(a.buffer));
        self.time += 1;
        Draft::Call { kernel, args }
    }

    /// Whether nothing has used the buffer yet.
    pub fn is_unused(&self, buffer: usize) -> bool {
        self.list[self.root(buffer)].first == usize::MAX
    }

    /// The number of the next step.
    pub fn now(&self) -> usize {
        self.time
    }

    /// How many loops are open.
    pub fn depth(&self) -> usize {
        self.open.len()
    }

    /// Begins a loop.
    pub fn enter(&mut self) {
        self.open.push(self.loop_spans.len());
        self.loop_spans.push((self.time, self.time));
    }

    /// Ends the innermost loop.
    pub fn leave(&mut self) {
        if let Some(id) = self.open.pop() {
            self.loop_spans[id].1 = self.time.saturating_sub(1);
        }
    }

    /// Makes an arena buffer a part of `into`, with the time it is live; says whether the two may be
    /// one: of one size, and made in the same loops.
    pub fn merge(&mut self, buffer: usize, into: usize) -> bool {
        let (from, to) = (self.root(buffer), self.root(into));
        let (a, b) = (&self.list[from], &self.list[to]);
        let here = a.loops == b.loops || b.base.is_some();
        if a.base.is_some() || a.bytes != b.bytes || !here {
            return false;
        }
        let (first, last) = (a.first, a.last);
        self.list[from].merged = Some(to);
        let b = &mut self.list[to];
        (b.first, b.last) = (b.first.min(first), b.last.max(last));
        true
    }

    /// Places the arena's buffers for steps that call these kernels. `lends` says of an output, by number, whether
    /// buffers may lie in it.
    pub fn place(
        &mut self,
        drafts: &[Draft],
        kernels: &[Kernel],
        lends: &dyn Fn(u32) -> bool,
    ) -> Result<Placed> {
        self.extend_over_loops(drafts);
        let (all, live) = self.of_arena(|_| true);
        let number = |buffer: usize| all.binary_search(&self.root(buffer)).ok();
        let mut trails = Trails::of(drafts, kernels, &live, &number);
        let shared = trails.among(&Some);
        // What may share bytes with others need not lie in an output, but where they find no places that share.
        let lent = |trails: &[Trail]| self.lent((&all, &live), trails, lends);
        let mut ways = vec![lent(&shared), lent(&[])];
        ways.dedup();
        let mut best: Option<(Arena, Vec<usize>, Vec<Live>, Vec<Trail>, Places)> = None;
        for places in ways {
            let (ids, live) = self.of_arena(|b| !places.contains_key(&b));
            let trails = trails.among(&|buffer| ids.binary_search(&all[buffer]).ok());
            if best.as_ref().is_none_or(|b| arena::bound(&live, &trails) < b.0.bytes) {
                let (trails, arena) = arena::place_turned(&live, trails);
                if best.as_ref().is_none_or(|b| arena.bytes < b.0.bytes) {
                    best = Some((arena, ids, live, trails, places));
                }
            }
        }
        let (arena, ids, live, trails, mut places) =
            best.ok_or_else(|| Error::bug("buffers have no place"))?;
        if let Some((a, b)) = arena::overlap(&live, &trails, &arena.offsets) {
            return Err(Error::bug(format!("buffers {a} and {b} of the arena overlap")));
        }
        let backwards = directions(&live, &trails, &arena.offsets);
        let fullest = arena::fullest(&live, &trails, &arena.offsets);
        places.extend(ids.into_iter().zip(arena.offsets.iter().map(|&offset| (Base::Arena, offset))));
        Ok(Placed { arena, places, fullest, backwards })
    }

    /// The steps with their arguments.
    pub fn steps(&self, drafts: &[Draft], placed: &Placed) -> Result<Vec<Step>> {
        drafts.iter().map(|d| self.finished(d, &placed.places)).collect()
    }

    /// Whether a buffer is one of the arena, and used.
    fn in_arena(&self, buffer: usize) -> bool {
        let b = &self.list[buffer];
        b.base.is_none() && b.merged.is_none() && b.first != usize::MAX
    }

    /// The buffers of the arena that are wanted, and when they are live.
    fn of_arena(&self, wanted: impl Fn(usize) -> bool) -> (Vec<usize>, Vec<Live>) {
        let ids = (0..self.list.len()).filter(|&b| self.in_arena(b) && wanted(b));
        ids.map(|b| {
            (b, Live { bytes: self.list[b].bytes, first: self.list[b].first, last: self.list[b].last })
        })
        .unzip()
    }

    /// The places of buffers that lie in outputs, of all those with these numbers.
    fn lent(
        &self,
        (ids, live): (&[usize], &[Live]),
        trails: &[Trail],
        lends: &dyn Fn(u32) -> bool,
    ) -> Places {
        let output = |b: &Buffer| match b.base {
            Some(base @ Base::Output(n)) if lends(n) => Some((base, Room { bytes: b.bytes, until: b.first })),
            _ => None,
        };
        let (bases, rooms): (Vec<Base>, Vec<Room>) = self.list.iter().filter_map(output).unzip();
        let found = ids.iter().zip(lend(live, trails, &rooms));
        found.filter_map(|(&id, place)| place.map(|(room, offset)| (id, (bases[room], offset)))).collect()
    }

    /// A buffer from outside a loop that is used inside lives through all of the loop.
    fn extend_over_loops(&mut self, drafts: &[Draft]) {
        let mut uses = Vec::new();
        collect_uses(drafts, &mut Vec::new(), &mut 0, &mut uses);
        for (buffer, loops) in uses {
            let root = self.root(buffer);
            let own = self.list[root].loops.len();
            if let Some(&outer) = loops.get(own) {
                let (start, end) = self.loop_spans[outer];
                let b = &mut self.list[root];
                (b.first, b.last) = (b.first.min(start), b.last.max(end));
            }
        }
    }

    fn finished(&self, draft: &Draft, places: &Places) -> Result<Step> {
        Ok(match draft {
            Draft::Repeat { count, trip, cond, body } => Step::Repeat {
                count: *count,
                trip: trip.as_ref().map(|t| self.argument(t, places)).transpose()?,
                cond: cond.as_ref().map(|c| self.argument(c, places)).transpose()?,
                body: body.iter().map(|d| self.finished(d, places)).collect::<Result<_>>()?,
            },
            Draft::Call { kernel, args } => Step::Call {
                kernel: *kernel,
                args: args.iter().map(|a| self.argument(a, places)).collect::<Result<_>>()?,
            },
        })
    }

    fn argument(&self, place: &Place, places: &Places) -> Result<Arg> {
        let root = self.root(place.buffer);
        let (base, start) = match self.list[root].base {
            Some(base) => (base, 0),
            None => *places.get(&root).ok_or_else(|| Error::bug("a buffer has no place"))?,
        };
        Ok(Arg { base, offset: start + place.offset, strides: place.strides.clone() })
    }
}

/// Every use of a buffer inside loops, with the loops around it by number.
fn collect_uses(
    drafts: &[Draft],
    open: &mut Vec<usize>,
    next: &mut usize,
    uses: &mut Vec<(usize, Vec<usize>)>,
) {
    for draft in drafts {
        match draft {
            Draft::Call { args, .. } => uses.extend(args.iter().map(|a| (a.buffer, open.clone()))),
            Draft::Repeat { body, .. } => {
                open.push(*next);
                *next += 1;
                collect_uses(body, open, next, uses);
                open.pop();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_lie_only_in_outputs_that_lend() {
        for (lends, base) in [(true, Base::Output(0)), (false, Base::Arena)] {
            let mut buffers = Buffers::default();
            let output = buffers.add(Some(Base::Output(0)), 128);
            let [early, late] = [64, 64].map(|bytes| buffers.add(None, bytes));
            let calls = [vec![early], vec![early, late], vec![late, output]];
            let drafts = calls.map(|call| buffers.step(0, call.into_iter().map(Place::start).collect()));
            let placed = buffers.place(&drafts, &[], &|_| lends).unwrap();
            let steps = buffers.steps(&drafts, &placed).unwrap();
            let Step::Call { args, .. } = &steps[0] else { panic!("a call is a call") };
            assert_eq!((args[0].base, placed.arena.bytes), (base, if lends { 64 } else { 128 }));
        }
    }
}
