//! Which stages of a list make and use each value.

use crate::definition::{Repeat, Stage, ValueId};
use std::collections::HashMap;

/// The first writer and the last user of each value.
pub(super) struct Uses {
    made: HashMap<ValueId, usize>,
    last: HashMap<ValueId, usize>,
}

impl Uses {
    pub(super) fn of(stages: &[Stage]) -> Uses {
        let mut uses = Uses { made: HashMap::new(), last: HashMap::new() };
        for (i, stage) in stages.iter().enumerate() {
            for value in stage.writes() {
                uses.made.entry(value).or_insert(i);
                uses.last.insert(value, i);
            }
            stage.reads().into_iter().for_each(|value| _ = uses.last.insert(value, i));
        }
        uses
    }

    /// Whether a stage before number `i` writes the value.
    pub(super) fn made_before(&self, value: ValueId, i: usize) -> bool {
        self.made.get(&value).is_some_and(|&made| made < i)
    }

    /// Whether no stage after number `i` uses the value.
    pub(super) fn ends_at(&self, value: ValueId, i: usize) -> bool {
        self.last.get(&value).is_none_or(|&last| last <= i)
    }
}

/// Whether a state and its next value may be one buffer: nothing reads the state once a stage has
/// begun to write the next.
pub(super) fn shares(repeat: &Repeat, state: ValueId, next: ValueId) -> bool {
    if state == next {
        return true;
    }
    let other_exit =
        repeat.slices.iter().any(|s| s.part == next) || repeat.carries.iter().any(|c| c.state == next);
    let writes = repeat.body.iter().position(|s| s.writes().contains(&next));
    let last_read = repeat.body.iter().rposition(|s| s.reads().contains(&state));
    !other_exit && matches!((writes, last_read), (Some(w), Some(r)) if r < w)
        || (!other_exit && last_read.is_none() && writes.is_some())
}
