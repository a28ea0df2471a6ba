//! The cost model: what a core does per cycle, and what a register tile takes.

use super::linear::Linear;
use crate::target::{Arch, Target};

/// What the cost model knows of a core: rough throughputs, from the vendors' optimization guides
/// (Zen 4, Golden Cove, Cortex-A55/A72, Neoverse N1), common to the whole class.
pub struct Core {
    /// Multiply-adds of full vectors per cycle.
    pub fma: f64,
    /// Vector loads per cycle.
    pub loads: f64,
    /// What a load costs, in cycles, though multiply-adds hide it: the place of another instruction.
    pub slot: f64,
    /// Cycles until a multiply-add's result can be added to.
    pub latency: f64,
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
    /// Multiplies by a lane of a register.
    pub by_lane: bool,
    /// The encoder lists a tile's work anew, so that what rows share is loaded when they need it.
    pub relists: bool,
    /// Where there is no multiply-add: what it takes.
    pub apart: Option<Apart>,
    /// Sums of floats begin with what their finish adds first: an addition takes the place of a multiply-add, or
    /// measures say so (AVX2 on Zen 4: 1 % of the time; 512 bits lose as much).
    pub begins: bool,
    /// Vector stores per cycle.
    pub stores: f64,
    /// Vector additions per cycle, beside multiply-adds.
    pub adds: f64,
    /// Multiplications, additions and extensions of 16 bits per cycle, mixed (measured on Zen 4: 3.1 to 3.2
    /// with all tiles of 1 to 7 rows, though there are four units: an addition, which waits for its product
    /// and is older than those behind, takes one of the two units that multiply. Registers alone reach 3.25).
    pub couples: f64,
    /// Bytes per cycle that come from the second-level cache, and from beyond it.
    pub near: f64,
    pub far: f64,
    /// Sets of the first-level cache.
    pub sets: usize,
    /// Multiply-adds unrolled in one block of a loop at most: where instructions run out of order, a loop's own
    /// run beside them.
    pub unrolled: usize,
    /// The code of a tile.
    pub code: Code,
}

/// How much code a tile is, and what that costs.
pub struct Code {
    /// Bytes of a multiply-add of vectors, with its share of the loads.
    pub step: f64,
    /// Bytes that begin, finish and store a vector of sums.
    pub vector: f64,
    /// Cycles for a byte: each inference fetches and decodes the code anew, once, where that of the whole
    /// model is more than the first-level cache holds.
    pub fetch: f64,
}

/// Multiply-adds of three instructions: a factor is copied, multiplied, and the product added.
pub struct Apart {
    /// Instructions per cycle.
    pub instructions: f64,
    /// Products, sums and broadcasts per cycle.
    pub arithmetic: f64,
}

/// Products of words unrolled in one block at most where the words are put together from bytes.
pub const UNROLLED_WORDS: usize = 192;

/// Cycles that a load beside sums of couples takes (measured on Zen 4: tiles of one vector are 4 % slower
/// than those of two with as many sums).
const BESIDE: f64 = 0.06;
/// Cycles of multiply-adds from which on a tile's step waits for none of them.
const LATE: f64 = 6.5;
/// Bytes of a line of the caches.
pub(super) const LINE: usize = 64;

const X86: Core = Core {
    fma: 2.0,
    loads: 2.0,
    slot: 0.0,
    latency: 4.0,
    astride: 1.5,
    unhidden: 0.05,
    late: 0.12,
    by_lane: false,
    relists: false,
    apart: None,
    begins: true,
    stores: 1.0,
    adds: 2.0,
    couples: 3.2,
    near: 32.0,
    far: 8.0,
    sets: 64,
    unrolled: 48,
    code: Code { step: 7.0, vector: 25.0, fetch: 0.25 },
};
const X86_512: Core =
    Core { fma: 1.0, loads: 1.5, begins: false, astride: 2.0, stores: 0.5, adds: 1.0, couples: 1.6, ..X86 };
const X86_128: Core = Core {
    apart: Some(Apart { instructions: 6.0, arithmetic: 4.0 }),
    begins: false,
    astride: 1.0,
    unhidden: 0.0,
    late: 0.0,
    ..X86
};
const NEON: Core = Core {
    fma: 1.0,
    loads: 1.0,
    slot: 0.25,
    latency: 4.0,
    astride: 1.0,
    unhidden: 0.0,
    late: 0.0,
    by_lane: true,
    relists: true,
    apart: None,
    begins: true,
    stores: 1.0,
    adds: 1.0,
    couples: 1.0,
    near: 16.0,
    far: 4.0,
    sets: 128,
    unrolled: 96,
    code: Code { step: 5.0, vector: 16.0, fetch: 0.25 },
};

impl Core {
    /// Bytes of the code of a tile of so many sums of so many products each.
    fn code_of(&self, sums: f64, depth: f64) -> f64 {
        let steps = sums.max(self.unrolled as f64 / 2.0).min(sums * depth);
        self.code.vector * sums + self.code.step * steps
    }
}

pub fn core(target: &Target) -> &'static Core {
    match (target.arch, target.vector_bytes) {
        (Arch::Aarch64, _) => &NEON,
        (_, 64) => &X86_512,
        _ if !target.fma => &X86_128,
        _ => &X86,
    }
}

/// What moves per cycle.
pub struct Throughput {
    /// Bytes from the second-level cache.
    pub near: f64,
    /// Bytes from beyond it.
    pub far: f64,
    /// Multiply-adds of 32 bits.
    pub multiplies: f64,
}

/// What a target moves per cycle.
pub fn throughput(target: &Target) -> Throughput {
    let core = core(target);
    Throughput { near: core.near, far: core.far, multiplies: core.fma * target.lanes() as f64 }
}

/// How a tile's operands are read.
pub struct Operands {
    /// Neighbours of the innermost reduction axis whose products are summed at a time.
    pub neighbours: usize,
    /// The vectors are the same for all rows.
    pub shared: bool,
    /// The rows' factor is one element for all lanes.
    pub broadcast: bool,
    /// ... and is loaded four reduction points at a time.
    pub by_lane: bool,
    /// Registers for what is derived from bytes, beside those of all kernels.
    pub derived: usize,
    /// Registers for each vector beside itself.
    pub beside: usize,
    /// Where rows share what they load: the window's step and extent along them.
    pub window: Option<(usize, usize)>,
    /// Words of the rows' factor are put together from bytes, of each column of the window once: how many
    /// words a point's sum takes.
    pub woven: Option<usize>,
    /// Sums take two registers each.
    pub split: bool,
    /// Lanes of a vector, which may take several registers.
    pub lanes: usize,
    /// Bytes of an element of the vectors in memory.
    pub element: usize,
    /// Vectors do not begin where lines of the caches do.
    pub astride: bool,
    /// Bytes from what one row reads of its factor to what the next row reads.
    pub row_bytes: usize,
}

/// A register tile.
pub struct Tile {
    /// Points of the axis beside the vector axis.
    pub rows: usize,
    /// Vectors.
    pub vectors: usize,
    /// Cycles, by the model, for all points of the two axes.
    pub cycles: f64,
}

/// Rows of which the first-level cache keeps a line each until the next element is read: those a
/// large power of two apart share few of its sets (measured on Zen 4, 4096 bytes apart: 14 rows of two
/// vectors reach 59 % of the peak, 8 or 9 rows 98 %).
fn kept_rows(target: &Target, row_bytes: usize) -> usize {
    let period = core(target).sets * LINE;
    let places = period / gcd(row_bytes.max(1), period);
    (target.l1 / period).max(1) * places
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The tiles that two axes are cut into, by size: how many, and points along each axis.
fn tiles(
    (rows, most_rows): (usize, usize),
    (width, most): (usize, usize),
) -> impl Iterator<Item = (usize, usize, usize)> {
    let sizes = |extent: usize, step: usize| {
        [(extent / step, step), (usize::from(!extent.is_multiple_of(step)), extent % step)]
    };
    (sizes(rows, most_rows).into_iter())
        .flat_map(move |(rn, rm)| sizes(width, most).map(|(vn, points)| (rn * vn, rm, points)))
        .filter(|tile| tile.0 > 0)
}

/// The register tile that takes the fewest cycles over the whole axes.
pub fn best_tile(linear: &Linear, target: &Target, rows: Option<u32>, var: u32, operands: &Operands) -> Tile {
    let core = core(target);
    let lanes = operands.lanes;
    let parts = lanes.div_ceil(target.lanes());
    let row_extent = rows.map_or(1, |r| linear.extent(r));
    let width = linear.extent(var);
    let vectors = width.div_ceil(lanes);
    // How often the tiles of both axes run.
    let others = |v: &u32| *v != var && Some(*v) != rows;
    let others: f64 = linear.axes().filter(others).map(|v| linear.extent(v) as f64).product();
    // Products of bytes are counted in words, those of couples in points.
    let word = if operands.neighbours == 4 { 4 } else { 1 };
    let depth: f64 = linear.reductions().map(|r| linear.extent(r) as f64).product::<f64>() / word as f64;
    let cycles = |m: usize, v: usize| -> f64 {
        let (m_f, v_f) = (m as f64, (v * parts) as f64);
        let row_loads = match (operands.broadcast, operands.by_lane) {
            (true, true) => m_f / 4.0,
            (true, false) => m_f,
            _ => match operands.window {
                Some((step, extent)) => v_f * (m.saturating_sub(1) * step + extent) as f64 / extent as f64,
                None => m_f * v_f,
            },
        };
        let astride = if operands.astride { core.astride } else { 1.0 };
        let vector_loads = if operands.shared { v_f * astride } else { v_f * 0.5 };
        let bytes = (v * lanes * operands.element * word) as f64;
        // Vectors that all rows share are read once a tile, from wherever those of all points fit.
        let streamed =
            if operands.shared && depth * bytes > target.l1 as f64 { bytes / core.near } else { 0.0 };
        // Couples are counted in points: half of each.
        let (multiplied, per, latency) = match operands.neighbours {
            2 => {
                let operations = (2.0 * m_f + 1.0) * v_f / core.couples;
                ((operations + BESIDE * (row_loads + vector_loads)) / 2.0, 2.0, 0.5)
            }
            _ => (m_f * v_f / core.fma, 1.0, core.latency),
        };
        let loads = ((row_loads + vector_loads) / core.loads / per).max(streamed);
        let lost =
            if m > kept_rows(target, operands.row_bytes) { row_loads * LINE as f64 / core.near } else { 0.0 };
        let apart = core.apart.as_ref().map_or(0.0, |apart| {
            // A row's factor is loaded and spread, and the last copy of it saved.
            let broadcasts = if operands.broadcast { m_f } else { 0.0 };
            let instructions = 3.0 * m_f * v_f + broadcasts + v_f;
            (instructions / apart.instructions).max((2.0 * m_f * v_f + broadcasts) / apart.arithmetic) / per
        });
        let late = if operands.neighbours == 1 { core.late * (LATE - multiplied).max(0.0) } else { 0.0 };
        let issue = multiplied.max(apart).max(loads).max(latency);
        let issue = issue + late + core.unhidden * multiplied.min(loads);
        let slots = core.slot * (row_loads + vector_loads / 2.0);
        // Sums of integers take one cycle each: one tile begins while the last one ends.
        let ends = if operands.neighbours == 2 { m_f * v_f + 6.0 } else { 2.0 * m_f * v_f + 12.0 };
        depth * (issue + slots + lost) + ends
    };
    let fits = |m: usize, v: usize| {
        let held = match (operands.by_lane, operands.window) {
            (true, _) => m,
            // A column of the window, the next, and the factor of each of its columns.
            (_, Some((_, extent))) if core.relists && parts == 1 => v * (extent + 2),
            // What later rows load again stays in registers.
            (_, Some((step, extent))) => v * (m + extent / step),
            _ => 1,
        };
        let held = held + operands.derived;
        if let (true, Some(words), Some((step, extent))) = (core.relists, operands.woven, operands.window)
            && m * v * parts * words <= UNROLLED_WORDS
        {
            // Sums begin with the first column of their window and are stored after its last; beside them
            // the factors of its columns, a column and the bytes that it is put together from.
            let sums = m.min(extent.div_ceil(step));
            return (sums + words + 1) * v * parts + 3 * v < target.vector_regs;
        }
        match operands.split {
            // Two steps at a time: their factors, copies of what each row has loaded, products.
            true => 2 * m * v * parts + 2 * v * parts + 2 * m + 3 <= target.vector_regs,
            false => (m + 1 + operands.beside) * v * parts + held < target.vector_regs,
        }
    };
    let mut best = (f64::INFINITY, f64::INFINITY, (1, 1));
    for v in 1..=vectors.min(8) {
        for m in (1..=row_extent.min(16)).filter(|&m| fits(m, v)) {
            let (mut total, mut code, mut bodies) = (0.0, 0.0, 0);
            for (count, rows, points) in tiles((row_extent, m), (width, v * lanes)) {
                let vectors = points.div_ceil(lanes);
                total += count as f64 * cycles(rows, vectors);
                code += core.code_of((rows * vectors * parts) as f64, depth);
                bodies += 1;
            }
            // Every size of tile is a body of its own: prefer few, and small ones where they run rarely.
            let cost = total * (1.0 + 0.01 * f64::from(bodies)) + core.code.fetch * code / others;
            if cost < best.0 {
                best = (cost, total, (m, v));
            }
        }
    }
    let (_, cycles, (rows, vectors)) = best;
    Tile { rows, vectors, cycles }
}
