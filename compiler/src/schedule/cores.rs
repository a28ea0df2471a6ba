//! What a core does per cycle: the numbers of the cost model.

use super::instructions::multiplies_words;
use crate::base::gcd;
use crate::target::{Arch, Feature, Target};

/// Bytes of a line of the caches.
pub(super) const LINE: usize = 64;

/// What the cost model knows of a core: rough throughputs, from the vendors' optimization guides
/// (Zen 4, Golden Cove, Cortex-A55/A72, Neoverse N1), common to the whole class.
pub struct Core {
    /// Multiply-adds of full vectors per cycle.
    pub fma: f64,
    /// Those per cycle by which strips estimate how long the model takes, to see which share of it they may lose
    /// (`strips/memory.rs`).
    pub sustained: f64,
    /// Vector loads per cycle.
    pub loads: f64,
    /// What a load costs, in cycles, though multiply-adds hide it: the place of another instruction.
    pub slot: f64,
    /// Cycles until a multiply-add's result can be added to.
    pub latency: f64,
    /// The same of products of words of bytes.
    pub words: f64,
    /// Loads that a vector takes which begins anywhere: it is loaded twice where two lines hold a part of it.
    pub astride: f64,
    /// The share of the lesser one of multiply-adds and loads that the other does not hide (fitted on Zen 4:
    /// with 0.05 MobileNetV1, RegNet, FBNet and ConvNeXt are 9 to 11 % faster at 512 bits than where loads
    /// count only if there are more of them; 0.1 and 0.2 gain nothing more, and make more code).
    pub unhidden: f64,
    /// Cycles lost for each cycle of multiply-adds that a tile's step has less than six and a half: sums that
    /// wait for their last addition meet others that are late (measured on Zen 4: 8 sums of 256 bits take 9 %
    /// longer than 12, 10 sums 5 %).
    pub late: f64,
    /// Cycles of an operation that makes a vector of floats of narrower constants (fitted on Zen 4 with weights of
    /// eight and four bits).
    pub restores: f64,
    /// How many of them run beside a tile's multiply-adds: conversions of halves or bytes do (measured on Zen 4:
    /// MobileNetV2 with weights of f16 is 7 % slower where they are converted ahead, and 16 % at AVX2).
    pub beside: f64,
    /// Multiplies by a lane of a register.
    pub by_lane: bool,
    /// The encoder lists a tile's work anew, so that what rows share is loaded when they need it.
    pub relists: bool,
    /// Where there is no multiply-add: what it takes.
    pub apart: Option<Apart>,
    /// Sums of floats begin with what their finish adds first: an addition takes the place of a multiply-add, or
    /// measures say so (AVX2 on Zen 4: 1 % of the time; 512 bits lose as much).
    pub begins: bool,
    /// Requantization by fixed-point factors takes less than by floats.
    pub fixed: bool,
    /// Requantization by one multiply-add takes less than by conversions and a product.
    pub placed: bool,
    /// Vector stores per cycle.
    pub stores: f64,
    /// Cycles of a vector whose lanes lie apart in memory, beside three others like it.
    pub turned: f64,
    /// Vector additions per cycle, beside multiply-adds.
    pub adds: f64,
    /// Multiplications, additions and extensions of 16 bits per cycle, mixed (measured on Zen 4: 3.1 to 3.2
    /// with all tiles of 1 to 7 rows, though there are four units: an addition, which waits for its product
    /// and is older than those behind, takes one of the two units that multiply. Registers alone reach 3.25).
    pub couples: f64,
    /// Couples of constants are 16 bits in memory where the first-level cache keeps them (measured on Zen 4: 4 % of
    /// MobileNetV2's time at AVX2; at 512 bits they gain nothing).
    pub wide: bool,
    /// What the end of a tile of couples takes.
    pub ends: Ends,
    /// Cycles of a chain of four words, of two and of one, summed in 16 bits (measured on Zen 4, as above: five,
    /// three and two instructions of the two units that multiply).
    pub chains: [f64; 3],
    /// Sums of filtered convolutions that stay in registers until a column of points is done; 0: registers do not
    /// hold enough of them for a vector of weights to serve several.
    pub columns: usize,
    /// Bytes per cycle that come from the second-level cache, and from beyond it.
    pub near: f64,
    pub far: f64,
    /// Cycles of a call of a kernel; and of one that multiplies words of bytes by an instruction (fitted on Golden
    /// Cove: with 20 the strips of MobileNetV2, EfficientNet-Lite0 and person detection in bytes lose 7.3, 8.4 and
    /// 8.3 % by the model, 7, 6.5 and 4 to 7 % as measured; with 60 the last ones 22 %. What person detection would
    /// save with 20 by couples takes 7 % of the time at AVX2, 5 % at 512 bits).
    pub calls: (f64, f64),
    /// Sums of half floats that are added to sums in `f32`.
    pub widened: Widened,
    /// Sets of the first-level cache.
    pub sets: usize,
    /// Multiply-adds unrolled in one block of a loop at most: where instructions run out of order, a loop's own
    /// run beside them.
    pub unrolled: usize,
    /// Those in each iteration of a loop that goes on, at most.
    pub repeated: usize,
    /// Those, where each iteration asks for constants ahead (`schedule/asked.rs`; measured on Golden Cove at AVX2: a
    /// request for each 24 multiply-adds costs 9 % of the time, one for each 48 nothing).
    pub asking: usize,
    /// Products of groups of neighbours in each iteration, at most.
    pub grouped: usize,
    /// From which on a function of bytes is a table.
    pub lookups: Lookups,
    /// The code of a tile.
    pub code: Code,
}

/// The operations from which on a table of bytes takes their place (measured on Zen 4: MobileNetV3 at AVX2 is 19 %
/// faster with 12 than with 20 and 1 % slower with 6; YOLOv5n 2 % faster with 24 within computations than with 80
/// and 1 % than with 12; with 128 bits alone MobileNetV3 is 22 % faster with 10 than with 16; with HardSwish as one
/// node, which has 11, it is 6 % faster with 10 than with 12 at AVX2, 18 % with VBMI. On aarch64 6 would be
/// 0.2 % less instructions than 12).
#[derive(Clone, Copy, Debug)]
pub struct Lookups {
    /// Where its entries are stored: the bytes of several vectors are looked up at once.
    pub stored: usize,
    /// Where more is computed with its entries: in lanes of 32 bits.
    pub inside: usize,
    /// Vectors next to each other that are looked up at once there.
    pub beside: usize,
}

/// How much code a tile is, and what that costs. `cargo bench --bench code` prints these numbers: the bytes are
/// the least squares over 340 to 360 sums of floats of the shared models, which are 27 % off in the mean (without
/// fused multiply-add 34 %); the cycles are those of copies of a kernel that run one after another, on Zen 4.
pub struct Code {
    /// Bytes of a multiply-add of vectors, with its share of the loads.
    pub step: f64,
    /// Bytes that begin, finish and store a vector of sums.
    pub vector: f64,
    /// Cycles for a byte: each inference fetches and decodes the code anew, once. Straight code takes 0.02 from
    /// the second-level cache, 0.04 from the third and 0.45 from memory; what is between counts here. On x86_64
    /// 0.45 makes pruned person detection 1 % slower than 0.35, and 9 % smaller. On aarch64 0.2 is 0.1 % more
    /// instructions there than 0.1, and 7 % fewer bytes.
    pub fetch: f64,
}

/// Cycles in which sums of couples become bytes. Neighbouring vectors are packed and stored together (measured on Zen 4
/// at AVX2: tiles of 11, 5, 2 rows of 1, 2, 4 vectors take 7.5, 6.9, 6.9 cycles a vector with 16 channels, of which the
/// products are 5.5, 5.0, 4.9).
pub struct Ends {
    /// For a vector.
    pub vector: f64,
    /// For a store.
    pub store: f64,
    /// For a tile.
    pub tile: f64,
}

/// Short sums of half floats, several of which make one in `f32`.
pub struct Widened {
    /// Cycles in which a vector of them is added to two of sums in `f32`.
    pub cycles: f64,
    /// Registers that it takes with these, where they are not left in memory meanwhile.
    pub registers: usize,
    /// Vectors of other sums that its code is as long as.
    pub code: f64,
    /// Products of a part of one at most, where parts are made, which take a register more: those of 16 take 1.08 times
    /// MobileNetV2's time on Golden Cove, where that is left in memory, but 1.26 times its instructions on Neoverse N1.
    pub parts: usize,
}

/// Multiply-adds of three instructions: a factor is copied, multiplied, and the product added.
pub struct Apart {
    /// Instructions per cycle.
    pub instructions: f64,
    /// Products, sums and broadcasts per cycle.
    pub arithmetic: f64,
}

/// Vectors that take one cycle each, however they are stored.
const ALONE: Ends = Ends { vector: 1.0, store: 0.0, tile: 6.0 };

const X86: Core = Core {
    fma: 2.0,
    sustained: 2.0,
    loads: 2.0,
    slot: 0.0,
    latency: 4.0,
    words: 4.0,
    astride: 1.5,
    unhidden: 0.05,
    late: 0.12,
    restores: 0.15,
    beside: 2.0,
    by_lane: false,
    relists: false,
    apart: None,
    begins: true,
    fixed: false,
    placed: true,
    stores: 1.0,
    turned: 3.0,
    adds: 2.0,
    couples: 3.2,
    wide: true,
    ends: Ends { vector: 0.75, store: 0.7, tile: 12.0 },
    chains: [3.0, 1.73, 1.03],
    columns: 0,
    near: 32.0,
    far: 8.0,
    calls: (60.0, 20.0),
    widened: Widened { cycles: 5.0, registers: 1, code: 3.0, parts: 16 },
    sets: 64,
    unrolled: 48,
    repeated: 24,
    asking: 48,
    grouped: 36,
    lookups: Lookups { stored: 10, inside: 24, beside: 4 },
    code: Code { step: 8.4, vector: 27.8, fetch: 0.35 },
};
const X86_512: Core = Core {
    fma: 1.0,
    asking: 24,
    sustained: 1.0,
    loads: 1.5,
    begins: false,
    restores: 0.3,
    astride: 2.0,
    stores: 0.5,
    turned: 4.0,
    adds: 1.0,
    couples: 1.6,
    wide: false,
    ends: ALONE,
    chains: [6.0, 3.46, 2.06],
    columns: 24,
    lookups: Lookups { stored: 10, inside: 24, beside: 4 },
    code: Code { step: 6.9, vector: 38.4, fetch: 0.35 },
    ..X86
};
/// Where two multiply-adds of 512 bits begin each cycle. A loop's own instructions and conversions may take their
/// units, so that loops are unrolled more often (measured on Golden Cove: 3 % of the time of MiniLM, MobileNetV2 and
/// PP-OCR, 4 % of MiniLM's and EfficientNet-Lite0's in bytes), and no conversion runs beside them (MobileNetV2 with
/// weights of f16: 11 %). Strips are those of other cores: weighed against twice as many multiply-adds, they would be
/// larger, quantized MiniLM's 2.6 times, to gain 1 %.
const X86_512_TWICE: Core = Core {
    fma: 2.0,
    words: 5.0,
    loads: 2.0,
    adds: 0.0,
    stores: 1.0,
    restores: 0.6,
    beside: 0.0,
    repeated: 96,
    grouped: 96,
    ..X86_512
};
const X86_128: Core = Core {
    asking: 0,
    placed: false,
    apart: Some(Apart { instructions: 6.0, arithmetic: 4.0 }),
    begins: false,
    astride: 1.0,
    unhidden: 0.0,
    late: 0.0,
    wide: false,
    ends: ALONE,
    lookups: Lookups { stored: 10, inside: 10, beside: 4 },
    code: Code { step: 15.4, vector: 38.1, fetch: 0.35 },
    ..X86
};
const NEON: Core = Core {
    fma: 1.0,
    sustained: 1.0,
    loads: 1.0,
    slot: 0.25,
    latency: 4.0,
    words: 4.0,
    astride: 1.0,
    unhidden: 0.0,
    late: 0.0,
    restores: 0.5,
    beside: 0.0,
    by_lane: true,
    relists: true,
    apart: None,
    begins: true,
    fixed: true,
    placed: false,
    stores: 1.0,
    turned: 5.0,
    adds: 1.0,
    couples: 1.0,
    wide: false,
    ends: ALONE,
    chains: [f64::INFINITY; 3],
    columns: 0,
    near: 16.0,
    far: 4.0,
    calls: (60.0, 60.0),
    widened: Widened { cycles: 4.0, registers: 3, code: 1.0, parts: 64 },
    sets: 128,
    unrolled: 96,
    repeated: 48,
    asking: 0,
    grouped: 36,
    lookups: Lookups { stored: 10, inside: 12, beside: 1 },
    code: Code { step: 2.3, vector: 44.4, fetch: 0.2 },
};

/// Where bytes are picked out of whole registers.
const PERMUTED: Lookups = Lookups { stored: 10, inside: 12, beside: 4 };

impl Core {
    /// The code of a tile of so many sums of so many products each.
    pub fn code_of(&self, sums: f64, depth: f64) -> Unrolled {
        Unrolled { sums, steps: sums.max(self.repeated as f64).min(sums * depth) }
    }
}

/// What the code of tiles consists of.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unrolled {
    /// Vectors of sums, which begin, are finished and stored.
    pub sums: f64,
    /// Multiply-adds.
    pub steps: f64,
}

impl Unrolled {
    /// Bytes, by the model.
    pub fn bytes(self, code: &Code) -> f64 {
        code.vector * self.sums + code.step * self.steps
    }
}

impl std::ops::AddAssign for Unrolled {
    fn add_assign(&mut self, other: Unrolled) {
        self.sums += other.sums;
        self.steps += other.steps;
    }
}

/// The core that a target's schedules are made for.
pub fn core(target: &Target) -> &'static Core {
    match (target.arch, target.vector_bytes) {
        (Arch::Aarch64, _) => &NEON,
        (_, 64) if target.has(Feature::Avx512Twice) => &X86_512_TWICE,
        (_, 64) => &X86_512,
        _ if !target.fma => &X86_128,
        _ => &X86,
    }
}

/// Whether a target's kernels requantize by fixed-point factors.
pub fn requantizes_fixed(target: &Target) -> bool {
    core(target).fixed
}

/// Whether they do so by one multiply-add.
pub fn requantizes_placed(target: &Target) -> bool {
    core(target).placed
}

/// From which on a target's functions of bytes are tables.
pub fn lookups(target: &Target) -> Lookups {
    match target.has(Feature::Avx512Vbmi) {
        true => PERMUTED,
        false => core(target).lookups,
    }
}

/// Whether words of filters of single channels are packed without zeros behind their axis where time counts: where one
/// instruction spreads them. Elsewhere they take two, which on aarch64 are .8 % (MobileNetV2) to 3 % (EfficientNet-Lite0) of all.
pub(super) fn packs_densely(target: &Target) -> bool {
    target.has(Feature::Avx512Vbmi)
}

/// What moves per cycle.
pub struct Throughput {
    /// Bytes from the second-level cache.
    pub near: f64,
    /// Bytes from beyond it.
    pub far: f64,
    /// Cycles of a call, and of one that multiplies bytes.
    pub calls: (f64, f64),
    /// Multiply-adds of 32 bits.
    pub multiplies: f64,
    /// Multiply-adds of bytes.
    pub bytes: f64,
}

/// What a target moves per cycle.
pub fn throughput(target: &Target) -> Throughput {
    let (core, lanes) = (core(target), target.lanes() as f64);
    let multiplies = core.sustained * lanes;
    let Core { near, far, calls, .. } = *core;
    match multiplies_words(target) {
        true => Throughput { near, far, calls, multiplies, bytes: 4.0 * multiplies },
        false => Throughput { near, far, calls: (calls.0, calls.0), multiplies, bytes: core.couples * lanes },
    }
}

/// Lines that the first-level cache keeps at once of those so many bytes apart: those a large power of two apart share
/// few of its sets (measured on Zen 4, 4096 bytes apart: tiles of 14 rows of two vectors, of which each keeps a line
/// until the next element is read, reach 59 % of the peak, those of 8 or 9 rows 98 %).
pub(super) fn kept_lines(target: &Target, apart: usize) -> usize {
    let period = core(target).sets * LINE;
    let places = period / gcd(apart.max(1), period);
    (target.l1 / period).max(1) * places
}
