//! What is made of a folded value where a nest of its own has folded it: expressions in the lanes of an axis, stored
//! side by side.

use super::emit::{Emitter, addr};
use super::expr::{Exprs, Guards, Point};
use super::registers::memory_store;
use crate::base::Affine;
use crate::schedule::Linear;
use crate::tile::Reg;

/// The finish of a definition.
pub struct Finish<'a> {
    pub linear: &'a Linear,
    /// The axis that fills the lanes.
    pub vector: u32,
    /// The expression that the folded value is already.
    pub started: Option<u32>,
    pub index_error: i32,
}

impl Finish<'_> {
    /// An expression at a place.
    pub fn eval(
        &self,
        e: &mut Emitter,
        id: u32,
        place: &[Affine],
        (acc, lanes): (Option<Reg>, usize),
    ) -> Reg {
        let guards = Guards::Tested;
        let point = Point { place, vector: Some(self.vector), lanes, acc, guards, group: None, chunk: 0 };
        let packed = |_: u32, _: &Point| None;
        let Finish { linear, started, index_error, .. } = *self;
        Exprs { linear, packed: &packed, index_error, started }.eval(e, id, &point)
    }

    /// Stores an expression of the folded value at a place.
    pub fn store(&self, e: &mut Emitter, id: u32, place: &[Affine], (acc, lanes): (Reg, usize)) {
        let value = self.eval(e, id, place, (Some(acc), lanes));
        let index = self.linear.store.map_vars(|v| place[v as usize].clone());
        let out = self.linear.buffers.len() as u32;
        memory_store(e, addr(out, index), self.linear.output.dtype, 1, value);
    }
}
