//! Stages that are repeated: loops over time, and strips.

use super::Planner;
use crate::base::Affine;
use crate::base::affine::as_size;
use crate::definition::{Repeat, Stage, Strips, ValueId};
use crate::error::{Error, Result};
use crate::plan::draft::{Draft, Place};
use crate::plan::uses::shares;

impl Planner<'_> {
    /// A loop: the state of its carries stays in one place, slices are pointers that move.
    pub(super) fn repeat(&mut self, repeat: &Repeat) -> Result<Vec<Draft>> {
        let mut drafts = Vec::new();
        let mut late = Vec::new();
        // The state lives where its last value is wanted.
        for carry in &repeat.carries {
            let place = self.place(carry.last);
            self.places.insert(carry.state, place.clone());
            if shares(repeat, carry.state, carry.next) {
                self.places.insert(carry.next, place);
            } else {
                late.push((carry.next, carry.state));
            }
            drafts.extend(self.copy(carry.initial, carry.state)?);
        }
        for slice in &repeat.slices {
            let mut place = self.place(slice.whole);
            let step = self.bytes(slice.part);
            place.strides.resize(self.buffers.depth(), 0);
            let forward = step as i64;
            if slice.reversed {
                place.offset += step * repeat.count.saturating_sub(1);
            }
            place.strides.push(if slice.reversed { -forward } else { forward });
            self.places.insert(slice.part, place);
        }
        self.buffers.enter();
        let inside: Vec<ValueId> = repeat.entry().into_iter().chain(repeat.exit()).collect();
        // Where data may end the loop, one iteration is known.
        let times = if repeat.condition.is_none() { repeat.count } else { 1 };
        let mut body = self.repeated(times, &repeat.body, &inside)?;
        for (next, state) in late {
            body.extend(self.copy(next, state)?);
        }
        self.buffers.leave();
        let trip = match &repeat.size {
            Some(size) => Some(self.trips(size)?),
            None => None,
        };
        let cond = repeat.condition.map(|state| self.place(state));
        if let Some(cond) = &cond {
            self.buffers.touch(cond.buffer);
        }
        drafts.push(Draft::Repeat { count: repeat.count as u64, trip, cond, body });
        Ok(drafts)
    }

    /// Strips: a part is a pointer into its whole.
    pub(super) fn strips(&mut self, strips: &Strips) -> Result<Vec<Draft>> {
        for view in &strips.views {
            let mut place = self.place(view.whole);
            let stride = self.layout(view.whole).strides[view.dim];
            let bytes = stride as usize * self.ty(view.whole).dtype.size();
            place.offset += view.start * bytes;
            if strips.count > 1 {
                place.strides.resize(self.buffers.depth(), 0);
                place.strides.push((view.step * bytes) as i64);
            }
            self.places.insert(view.part, place);
            self.wholes.insert(view.part, view.whole);
        }
        let parts: Vec<ValueId> = strips.views.iter().map(|v| v.part).collect();
        if strips.count == 1 {
            return self.stages(&strips.body, &parts);
        }
        self.buffers.enter();
        let body = self.repeated(strips.count, &strips.body, &parts)?;
        self.buffers.leave();
        Ok(vec![Draft::Repeat { count: strips.count as u64, trip: None, cond: None, body }])
    }

    /// Stages that run so many times.
    fn repeated(&mut self, count: usize, stages: &[Stage], inside: &[ValueId]) -> Result<Vec<Draft>> {
        let around = self.times;
        self.times = around.saturating_mul(count as u64);
        let drafts = self.stages(stages, inside)?;
        self.times = around;
        Ok(drafts)
    }

    /// The place of the number of iterations.
    fn trips(&mut self, size: &Affine) -> Result<Place> {
        let plain = match size.terms.as_slice() {
            [(var, 1)] if size.base == 0 => as_size(*var),
            _ => None,
        };
        let (number, _) = plain.ok_or_else(|| Error::bug("a number of iterations is no size"))?;
        let place = self.place(self.request.lowering.sizes[number].value);
        self.buffers.touch(place.buffer);
        Ok(place)
    }
}
