//! Flags that are others, moved or repeated: as many of them are true.
//!
//! `x[mask] = f(x[mask])` looks at its mask twice, the second time spread over what it writes. How long both lists of
//! places are is known when the model runs, but that they are equally long has to be known here.

use super::Driver;
use crate::base::DType;
use crate::graph::{Operator, ValueId};

/// Operators that give the elements of their first input, each as many times.
const MOVES: [&str; 7] = ["Expand", "Flatten", "Reshape", "Squeeze", "Tile", "Transpose", "Unsqueeze"];

impl Driver {
    /// Remembers what a node's result has the flags of.
    pub(super) fn follow_flags(
        &mut self,
        op: &Operator,
        inputs: &[Option<ValueId>],
        outputs: &[Option<ValueId>],
    ) {
        let (Some(&Some(from)), &[Some(to)]) = (inputs.first(), outputs) else { return };
        if from == to || !op.domain.is_empty() || self.constant(to).is_some() {
            return;
        }
        let (x, y) = (self.graph().value(from), self.graph().value(to));
        let set = [x.ty.dtype, y.ty.dtype].contains(&DType::Bool);
        let moved = MOVES.contains(&op.name) || op.name == "Cast" && set;
        let (given, made) = (x.ty.elems(), y.ty.elems());
        if !moved || given == 0 || made == 0 || made % given != 0 {
            return;
        }
        let (name, times) = self.graph().flags(x);
        self.level().graph.values[to as usize].flags = Some((name, times * (made / given)));
    }
}
