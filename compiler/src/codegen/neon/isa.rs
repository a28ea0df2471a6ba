//! Which instructions a target has beyond the baseline.

/// What instructions there are.
#[derive(Clone, Copy, Debug)]
pub struct Isa {
    /// `sdot`, `udot`.
    pub dot: bool,
    /// `usdot`, `sudot`, `smmla` and their like.
    pub mixed: bool,
    /// Arithmetic on half floats.
    pub half: bool,
    /// `bfcvtn`.
    pub brain: bool,
}
