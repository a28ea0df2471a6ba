//! Where the time of a build goes, stage by stage.

use serde::Serialize;
use std::cell::RefCell;
use std::time::Instant;

/// The time one stage took.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Timing {
    /// The stage: `read`, `types`, `passes`, `lower`, `group`, `nest`, `plan`, `code`, `object`.
    pub stage: String,
    /// Seconds on the clock.
    pub seconds: f64,
}

/// Measures stages, each from the end of the one before.
pub(super) struct Clock {
    state: RefCell<(Instant, Vec<Timing>)>,
}

impl Clock {
    pub(super) fn start() -> Clock {
        Clock { state: RefCell::new((Instant::now(), Vec::new())) }
    }

    /// A stage ends; one that goes on several times is one entry.
    pub(super) fn end(&self, stage: &str) {
        let (last, timings) = &mut *self.state.borrow_mut();
        let now = Instant::now();
        let seconds = (now - *last).as_secs_f64();
        *last = now;
        match timings.iter_mut().find(|t| t.stage == stage) {
            Some(timing) => timing.seconds += seconds,
            None => timings.push(Timing { stage: stage.to_string(), seconds }),
        }
    }

    pub(super) fn timings(self) -> Vec<Timing> {
        self.state.into_inner().1
    }
}
