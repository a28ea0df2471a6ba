//! Steps before buffers have offsets: what is called, and where in which buffers its arguments are.

use super::Program;

/// Where a value is.
#[derive(Clone)]
pub(super) struct Place {
    /// Number of the buffer.
    pub buffer: usize,
    /// Bytes from the buffer's start; loops move it by `strides` per iteration, outermost first.
    pub offset: usize,
    pub strides: Vec<i64>,
}

impl Place {
    /// The start of a buffer.
    pub fn start(buffer: usize) -> Place {
        Place { buffer, offset: 0, strides: Vec::new() }
    }

    /// The place some bytes further.
    pub fn moved(self, bytes: usize) -> Place {
        Place { offset: self.offset + bytes, ..self }
    }

    /// Whether it is a multiple of so many bytes from the buffer's start in every iteration.
    pub fn is_aligned(&self, bytes: usize) -> bool {
        self.offset.is_multiple_of(bytes) && self.strides.iter().all(|s| s % bytes as i64 == 0)
    }

    /// Whether it is the whole buffer in every iteration.
    pub fn is_start(&self) -> bool {
        self.offset == 0 && self.strides.is_empty()
    }
}

/// A call before buffers have offsets.
pub(super) enum Draft {
    Call { kernel: u32, args: Vec<Place> },
    Repeat { count: u64, trip: Option<Place>, cond: Option<Place>, body: Vec<Draft> },
}

impl Draft {
    /// The steps in it.
    pub fn count(&self) -> usize {
        match self {
            Draft::Call { .. } => 1,
            Draft::Repeat { body, .. } => body.iter().map(Draft::count).sum(),
        }
    }
}

/// A program, and what is known of its plan.
pub struct Planned {
    /// The program.
    pub program: Program,
    /// The names of the definitions during which most memory is live, and of those during which something lies at
    /// the arena's end.
    pub fullest: [Vec<String>; 2],
}
