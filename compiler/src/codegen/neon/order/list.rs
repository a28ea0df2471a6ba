//! Lists the statements of a run anew, one after another: loads ahead of their use where registers are free,
//! otherwise what frees some.

use super::{Run, Work};

/// Loaded values that wait for their first use.
const AHEAD: usize = 4;
/// Ready loads that are compared.
const WINDOW: usize = 64;

/// The listing, statement by statement.
pub(super) struct List<'a> {
    run: &'a Run,
    /// Whether arithmetic is chosen freely, or keeps its order and only loads move.
    free: bool,
    /// Registers that it may fill.
    limit: i64,
    waits: Vec<usize>,
    left: Vec<usize>,
    /// When the operands of each statement have arrived.
    arrives: Vec<u32>,
    /// Statements that wait for none, by their first place.
    ready: Vec<usize>,
    done: Vec<usize>,
    pressure: i64,
    clock: u32,
    /// Loaded values that nothing has read yet.
    fresh: Vec<usize>,
    /// The statement before, where it is not the second of a pair.
    single: Option<usize>,
}

impl<'a> List<'a> {
    pub(super) fn new(run: &'a Run, free: bool, limit: usize) -> Self {
        let ready = (0..run.kind.len()).filter(|&i| run.waits[i] == 0).collect();
        List {
            run,
            free,
            limit: limit as i64,
            waits: run.waits.clone(),
            left: run.left.clone(),
            arrives: vec![0; run.kind.len()],
            ready,
            done: Vec::with_capacity(run.kind.len()),
            pressure: run.pressure as i64,
            clock: 0,
            fresh: Vec::new(),
            single: None,
        }
    }

    /// The statements in their new order.
    pub(super) fn run(mut self) -> Vec<usize> {
        while let Some(next) = self.choose() {
            self.issue(next);
        }
        self.done
    }

    fn choose(&self) -> Option<usize> {
        if let Some(&free) = self.ready.iter().find(|&&i| self.run.kind[i] == Work::Free) {
            return Some(free);
        }
        if let Some(beside) = self.single.and_then(|last| self.run.beside[last])
            && self.ready.binary_search(&beside).is_ok()
            && (self.run.kind[beside] == Work::Store || self.pressure < self.limit)
        {
            return Some(beside);
        }
        let load = self.load();
        match load {
            Some(load) if self.fresh.len() < AHEAD && self.has_room(load) => Some(load),
            _ => self.arithmetic().or(load),
        }
    }

    /// Whether a load, and the one beside it where that is next, find free registers.
    fn has_room(&self, load: usize) -> bool {
        let beside = self.run.beside[load].filter(|i| self.ready.binary_search(i).is_ok());
        let size = self.run.size[load] + beside.map_or(0, |i| self.run.size[i]);
        self.pressure + size as i64 <= self.limit
    }

    /// The load that lets most statements start.
    fn load(&self) -> Option<usize> {
        let mut loads = self.ready.iter().copied().filter(|&i| self.run.kind[i] == Work::Load).take(WINDOW);
        if !self.free {
            return loads.next();
        }
        loads.max_by_key(|&i| (self.unlocks(i), std::cmp::Reverse(i)))
    }

    /// Statements that wait for this one alone, looking through lanes.
    fn unlocks(&self, i: usize) -> usize {
        let after = self.run.after[i].iter();
        after
            .map(|&(next, _)| match self.run.kind[next] {
                Work::Free => self.unlocks(next),
                _ => usize::from(self.waits[next] == 1),
            })
            .sum()
    }

    /// Arithmetic or a store: what need not wait, in the old order; what frees registers first where
    /// there are none.
    fn arithmetic(&self) -> Option<usize> {
        let mut work = self.ready.iter().copied().filter(|&i| self.run.kind[i] != Work::Load);
        if !self.free {
            return work.next();
        }
        let full = self.pressure >= self.limit;
        work.min_by_key(|&i| {
            let change = if full { self.run.change(i, &self.left) } else { 0 };
            (change, self.arrives[i].saturating_sub(self.clock), i)
        })
    }

    fn issue(&mut self, i: usize) {
        if let Ok(place) = self.ready.binary_search(&i) {
            self.ready.remove(place);
        }
        self.pressure += self.run.step(i, &mut self.left);
        self.fresh.retain(|v| !self.run.uses[i].contains(v));
        match self.run.kind[i] {
            Work::Load => self.fresh.push(i),
            Work::Free => {}
            _ => self.clock = self.arrives[i].max(self.clock) + 1,
        }
        self.done.push(i);
        let second = self.single.is_some_and(|last| self.run.beside[last] == Some(i));
        self.single = (!second).then_some(i);
        for &(next, latency) in &self.run.after[i] {
            self.arrives[next] = self.arrives[next].max(self.clock + latency);
            self.waits[next] -= 1;
            if self.waits[next] == 0
                && let Err(place) = self.ready.binary_search(&next)
            {
                self.ready.insert(place, next);
            }
        }
    }
}
