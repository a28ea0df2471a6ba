//! What operators are lowered to: a list of stages over values.

use super::{Definition, Operand, ValueId};
use crate::base::{Tensor, TensorType};
use crate::tile::Kernel;

/// A value of a lowering: those of the graph first, under the same ids, then temporaries.
#[derive(Clone, Debug, PartialEq)]
pub struct LoweredValue {
    /// Unique name.
    pub name: String,
    /// Element type and shape.
    pub ty: TensorType,
    /// The elements, where constant.
    pub constant: Option<Tensor>,
}

/// A kernel written by hand, for what no definition says: data-dependent sizes, sorting, scans.
#[derive(Clone, Debug, PartialEq)]
pub struct Routine {
    /// One operand per parameter of the kernel, in order; dense and row-major.
    pub operands: Vec<Operand>,
    /// The kernel.
    pub kernel: Kernel,
}

/// One step of a lowering.
#[derive(Clone, Debug, PartialEq)]
pub enum Stage {
    /// A definition.
    Define(Definition),
    /// A routine.
    Routine(Routine),
    /// `to` has the elements of `from`, in row-major order, under another shape.
    Reshape {
        /// The value read.
        from: ValueId,
        /// The value written.
        to: ValueId,
    },
}

/// Values and stages, in execution order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lowering {
    /// All values.
    pub values: Vec<LoweredValue>,
    /// All stages.
    pub stages: Vec<Stage>,
}

impl Lowering {
    /// Adds a temporary.
    pub fn temporary(&mut self, name: impl Into<String>, ty: TensorType) -> ValueId {
        self.values.push(LoweredValue { name: name.into(), ty, constant: None });
        (self.values.len() - 1) as ValueId
    }

    /// Adds a constant.
    pub fn constant(&mut self, name: impl Into<String>, tensor: Tensor) -> ValueId {
        let id = self.temporary(name, tensor.ty.clone());
        self.values[id as usize].constant = Some(tensor);
        id
    }

    /// Adds a definition.
    pub fn define(&mut self, definition: Definition) {
        self.stages.push(Stage::Define(definition));
    }
}
