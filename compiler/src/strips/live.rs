//! When values are live, and what they take together.

/// A value or a buffer in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Live {
    /// Bytes.
    pub bytes: usize,
    /// First step at which it holds something.
    pub first: usize,
    /// Last step at which it does.
    pub last: usize,
}

/// A model's output, in whose memory others may lie: its bytes, and the first step that uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes.
    pub bytes: usize,
    /// The first step that uses it.
    pub until: usize,
}

/// The bytes of both of two buffers, where the `new` one begins so many bytes `below` the `old` one.
pub fn together(old: usize, new: usize, below: usize) -> usize {
    (old + below).max(new).min(old + new)
}
