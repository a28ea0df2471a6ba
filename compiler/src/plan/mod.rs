//! The program: kernels in order, and a place for every tensor.

mod alternate;
mod arena;
mod buffers;
mod build;
mod constants;
mod draft;
mod entries;
mod grouped;
mod interpret;
mod kept;
mod kernels;
mod known;
mod least;
mod lent;
mod margins;
mod overrun;
mod packed;
mod parse;
mod program;
mod ranges;
mod search;
mod symbols;
mod tables;
mod text;
mod trail;
mod uses;
mod verify;
mod widened;

pub use build::{Request, build};
pub use constants::each_argument;
pub use draft::Planned;
pub use grouped::{Batch, Lowered};
pub use interpret::interpret;
pub use parse::parse;
pub use program::{lowered, own_outputs, plan, program};
pub use search::{Aim, Plan};
pub use symbols::Symbol;
pub use verify::verify;

use crate::base::{Tensor, TensorType};
use crate::error::{Error, Result};
use crate::schedule::{Linear, Schedule};
use crate::tile::Kernel;

/// Gives the schedule of a definition.
pub type Choose<'a> = dyn Fn(&Linear) -> Result<Schedule> + 'a;

/// Is given the name of a stage that has ended and what makes its text; `None`: it comes later.
pub type Dump<'a> = dyn Fn(&str, &dyn Fn() -> Option<String>) + 'a;

/// An input or output of the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Interface {
    /// Name, as in the ONNX graph.
    pub name: String,
    /// Element type and shape (bounds, for run-time dimensions).
    pub ty: TensorType,
    /// As [`crate::graph::Value::symbolic`].
    pub symbolic: Vec<Option<u32>>,
}

impl Interface {
    /// The type for the given sizes.
    pub fn actual_type(&self, symbols: &[i64]) -> TensorType {
        let mut ty = self.ty.clone();
        for (axis, symbol) in self.symbolic.iter().enumerate() {
            if let Some(size) = symbol.and_then(|s| symbols.get(s as usize)) {
                ty.shape[axis] = usize::try_from(*size).unwrap_or(0).min(ty.shape[axis]);
            }
        }
        ty
    }

    /// The tensor that the first of these bytes are.
    pub fn actual(&self, mut bytes: Vec<u8>, symbols: &[i64]) -> Result<Tensor> {
        let ty = self.actual_type(symbols);
        bytes.truncate(ty.bytes());
        let short = || Error::bug("an output is shorter than its type").at(self.name.clone());
        Tensor::from_bytes(ty, bytes).ok_or_else(short)
    }
}

/// Bytes in read-only data.
#[derive(Clone, PartialEq)]
pub struct Constant {
    /// Name in text forms.
    pub name: String,
    /// The bytes, packed as the kernels read them.
    pub bytes: Vec<u8>,
    /// Alignment in bytes, a power of two.
    pub align: usize,
}

/// Where a buffer begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// Input of the model, by number.
    Input(u32),
    /// Output of the model, by number.
    Output(u32),
    /// The arena.
    Arena,
    /// A constant, by number.
    Constant(u32),
    /// The array of run-time symbols (`i64` each).
    Symbols,
}

/// An argument of a kernel call: a pointer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arg {
    /// Where its buffer begins.
    pub base: Base,
    /// Bytes past it.
    pub offset: usize,
    /// Bytes added per iteration of each surrounding `Repeat`, outermost first.
    pub strides: Vec<i64>,
}

/// One step of the program.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Calls a kernel.
    Call {
        /// Index into [`Program::kernels`].
        kernel: u32,
        /// One per parameter.
        args: Vec<Arg>,
    },
    /// Runs the steps a number of times.
    Repeat {
        /// How often at most.
        count: u64,
        /// An `i64` at run time that lowers the count.
        trip: Option<Arg>,
        /// A boolean at run time tested before each iteration; false ends the repetition.
        cond: Option<Arg>,
        /// The steps.
        body: Vec<Step>,
    },
    /// Runs one of two lists by a boolean at run time.
    If {
        /// Where the boolean is.
        cond: Arg,
        /// Run where it is true.
        then: Vec<Step>,
        /// Run where it is false.
        otherwise: Vec<Step>,
    },
}

/// Everything code generation and packaging need.
#[derive(Clone, PartialEq)]
pub struct Program {
    /// Name of the model: the prefix of its symbols.
    pub name: String,
    /// The model's inputs.
    pub inputs: Vec<Interface>,
    /// The model's outputs.
    pub outputs: Vec<Interface>,
    /// Dimensions known only at run time.
    pub symbols: Vec<Symbol>,
    /// Bytes of scratch memory the application passes.
    pub arena_bytes: usize,
    /// Its alignment.
    pub arena_align: usize,
    /// The largest sum of tensors live at one step, less what they may share: no arena can be smaller.
    pub arena_bound: usize,
    /// Read-only data.
    pub constants: Vec<Constant>,
    /// The kernels, no two alike.
    pub kernels: Vec<Kernel>,
    /// What runs, in order.
    pub steps: Vec<Step>,
    /// Multiply-adds of one inference.
    pub macs: u64,
}

impl Program {
    /// Where each constant begins in the read-only data that holds them all, and where that ends.
    pub fn constant_offsets(&self) -> (Vec<usize>, usize) {
        let mut end = 0;
        let begin = |c: &Constant| {
            let at = usize::next_multiple_of(end, c.align);
            end = at + c.bytes.len();
            at
        };
        (self.constants.iter().map(begin).collect(), end)
    }
}
