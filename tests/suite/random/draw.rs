//! Numbers from a seed, and which operators give exact numbers or need them.

/// Numbers from a seed (splitmix).
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let a = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let b = (a ^ (a >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        b ^ (b >> 31)
    }

    /// Below `n`, which is not 0.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// From `lo` to `hi`, both included.
    pub fn range(&mut self, lo: i64, hi: i64) -> i64 {
        lo + self.below((hi - lo + 1) as usize) as i64
    }

    /// True in so many of a hundred cases.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of a list.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// The numbers below `n` in some order.
    pub fn order(&mut self, n: usize) -> Vec<usize> {
        let mut list: Vec<usize> = (0..n).collect();
        (1..n).rev().for_each(|i| list.swap(i, self.below(i + 1)));
        list
    }
}

/// Operators whose result jumps where their input changes a little: they get exact inputs only,
/// since different orders of summing give different last bits.
pub const JUMPS: &[&str] = &[
    "ArgMax",
    "ArgMin",
    "BitCast",
    "Cast",
    "CastLike",
    "Ceil",
    "DynamicQuantizeLinear",
    "Equal",
    "Floor",
    "Greater",
    "GreaterOrEqual",
    "Hardmax",
    "Less",
    "LessOrEqual",
    "MaxRoiPool",
    "Mod",
    "NonZero",
    "QuantizeLinear",
    "RoiAlign",
    "Round",
    "Shrink",
    "Sign",
    "ThresholdedRelu",
    "TopK",
    "Unique",
    "IsInf",
    "IsNaN",
    "ai.onnx.ml.Binarizer",
    "com.microsoft.QuantizeLinear",
    "com.microsoft.DynamicQuantizeMatMul",
    "DynamicQuantizeMatMul",
    "GridSample",
];

/// Operators that give the very bits of their inputs.
pub const EXACT: &[&str] = &[
    "Abs",
    "ArgMax",
    "ArgMin",
    "Ceil",
    "Clip",
    "Compress",
    "Concat",
    "DepthToSpace",
    "Equal",
    "Expand",
    "Flatten",
    "Floor",
    "Gather",
    "GatherElements",
    "GatherND",
    "Greater",
    "Identity",
    "Less",
    "Max",
    "MaxPool",
    "Min",
    "Neg",
    "Pad",
    "ReduceMax",
    "ReduceMin",
    "Relu",
    "Reshape",
    "ReverseSequence",
    "Round",
    "ScatterElements",
    "ScatterND",
    "Sign",
    "Slice",
    "SpaceToDepth",
    "Split",
    "Squeeze",
    "Tile",
    "Transpose",
    "Trilu",
    "Unsqueeze",
    "Where",
    "Not",
];
