//! The cost model: what a register tile takes.

use super::chains::{Chains, ROWS, WORD};
use super::cores::{Core, LINE, Unrolled, core, kept_lines};
use super::instructions::adds_couples;
use super::linear::Linear;
use super::planes::Planes;
use super::reduction::{FILLING, MOST_POINTS, SLIDING, unrolled_whole};
use crate::target::Target;

/// Products of words unrolled in one block at most where the words are put together from bytes.
pub const UNROLLED_WORDS: usize = 192;

/// Cycles that a load beside sums of couples takes (measured on Zen 4: tiles of one vector are 4 % slower
/// than those of two with as many sums).
const BESIDE: f64 = 0.06;
/// Instructions beside couples that the loads of two rows are worth from which they are woven (measured on Zen 4: 1.4
/// such loads less a vector are .32 cycles).
const WOVEN: f64 = 1.4;
/// Registers for vectors of channels on their way to products of two rows by two channels.
const SQUARES: usize = 4;
/// Registers for copies of a word's halves and for products of 16 bits, of two words on their way.
const HALVES: usize = 8;
/// Cycles of multiply-adds from which on a tile's step waits for none of them.
const LATE: f64 = 6.5;
/// Cycles in which the loops of a tile's chains begin and end (measured: 64 channels are as fast by couples).
const CHAINS: f64 = 40.0;
/// Cycles that the loop around a chain takes at least.
const CHAIN: f64 = 4.0;
/// The part of the second-level cache that floats made of narrower constants may fill.
const RESTORED: usize = 4;
/// Bytes of vectors that count as kept from one tile to the next, however small the second-level cache: a class of
/// processors states its smallest one (CREPE at AVX2, 256 KB stated and 2 MB there, is 12 % slower without this).
const KEPT: usize = 512 << 10;
/// Products of a sum up to which those of several tiles are on their way at once.
const SHORT: usize = 16;
/// The share of the time that a byte of code is worth where bytes count before time. MobileNetV2 int8 on a Cortex-A53:
/// 52.0, 39.6, 34.3, 29.0 and 24.6 KB of code with 0, .0001, .0003, .001 and .01, at AVX2 1.00, 1.02 of the time with
/// .0003, .001 (f32 1.06, 1.12).
const SMALL: f64 = 3e-4;

/// How a tile's operands are read.
pub struct Operands {
    /// Neighbours of the innermost reduction axis whose products are summed at a time.
    pub neighbours: usize,
    /// Products of a sum, with those that fill up groups of neighbours.
    pub products: usize,
    /// The chains of words that are multiplied in 16 bits.
    pub chains: Option<Chains>,
    /// The vectors are the same for all rows.
    pub shared: bool,
    /// The rows' factor is one element for all lanes.
    pub broadcast: bool,
    /// ... and is loaded so many reduction points at a time.
    pub by_lane: usize,
    /// Products are summed in half floats, so many at most; 0: they are not.
    pub half_sums: usize,
    /// Bytes of a lane of the sums.
    pub summed: usize,
    /// Registers for what is derived from bytes, beside those of all kernels.
    pub derived: usize,
    /// Registers for each vector beside itself.
    pub beside: usize,
    /// Where rows share what they load: the window's step and extent along them.
    pub window: Option<(usize, usize)>,
    /// Words of the rows' factor are put together from bytes, of each column of the window once: how many
    /// words a point's sum takes.
    pub woven: Option<usize>,
    /// Couples of the vectors lie in memory as 16 bits.
    pub wide: bool,
    /// So do those of the rows' factor.
    pub sixteen: bool,
    /// Words lie in halves.
    pub halves: bool,
    /// ... and two of them are multiplied at a time.
    pub long: bool,
    /// Sums take two registers each.
    pub split: bool,
    /// Lanes of a vector, which may take several registers.
    pub lanes: usize,
    /// Bytes of an element of the vectors in memory.
    pub element: usize,
    /// Vectors do not begin where lines of the caches do.
    pub astride: bool,
    /// Results are stored as planes.
    pub planes: Option<Planes>,
    /// Operations that make a vector's floats of narrower constants.
    pub operations: usize,
    /// They are made once, for so many tiles' rows; none: in each tile.
    pub restored: Option<f64>,
    /// Bytes from what one row reads of its factor to what the next row reads.
    pub row_bytes: usize,
}

/// What a fold takes in register tiles.
pub(super) struct Tiling {
    /// Cycles for all points of the axes `rows` and the vector's, each time.
    pub cycles: f64,
    /// The same, in couples where it is chains.
    pub couples: f64,
    /// The tile's other axis.
    pub rows: Option<u32>,
}

impl Tiling {
    /// So many of these cycles for all points, of which lanes are filled along `var`.
    pub fn all(&self, cycles: f64, linear: &Linear, var: u32) -> f64 {
        let repeated = linear.axes().filter(|&v| v != var && Some(v) != self.rows);
        cycles * repeated.map(|v| linear.extent(v) as f64).product::<f64>()
    }
}

/// A register tile.
pub struct Tile {
    /// Points of the axis beside the vector axis.
    pub rows: usize,
    /// Vectors.
    pub vectors: usize,
    /// Cycles, by the model, for all points of the two axes.
    pub cycles: f64,
    /// The code of all sizes that the axes are cut into.
    pub code: Unrolled,
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
    let lanes = operands.lanes;
    let row_extent = rows.map_or(1, |r| linear.extent(r));
    let width = linear.extent(var);
    // How often the tiles of both axes run.
    let others = |v: &u32| *v != var && Some(*v) != rows;
    let others: f64 = linear.axes().filter(others).map(|v| linear.extent(v) as f64).product();
    let model = Model::new(target, operands);
    let core = model.core;
    // The best tile of so many vectors, and what it costs.
    let of = |v: usize| -> (f64, Tile) {
        let mut best =
            (f64::INFINITY, Tile { rows: 1, vectors: 1, cycles: f64::INFINITY, code: Unrolled::default() });
        for m in (1..=row_extent.min(16)).filter(|&m| model.fits(m, v)) {
            let (mut total, mut code, mut bodies) = (0.0, Unrolled::default(), 0);
            for (count, rows, points) in tiles((row_extent, m), (width, v * lanes)) {
                let vectors = points.div_ceil(lanes);
                total += count as f64 * model.cycles(rows, vectors, row_extent > m);
                code += model.code(rows, vectors);
                bodies += 1;
            }
            total += model.restored(width, v);
            // Every size of tile is a body of its own: prefer few, and small ones where they run rarely.
            let bytes = code.bytes(&core.code);
            let worth = 0.01 * f64::from(bodies) + if linear.compact { SMALL * bytes } else { 0.0 };
            let cost = total * (1.0 + worth) + core.code.fetch * bytes / others;
            if cost < best.0 {
                best = (cost, Tile { rows: m, vectors: v, cycles: total, code });
            }
        }
        best
    };
    let most = width.div_ceil(lanes).min(8);
    let best = (1..=most).map(of).reduce(|one, other| if other.0 < one.0 { other } else { one });
    let best = best.unwrap_or_else(|| of(1));
    match linear.facts.like.filter(|like| like.filter.is_none() && (1..=most).contains(&like.vectors)) {
        Some(like) => {
            let alike = of(like.vectors);
            if alike.0 <= like.slower() * best.0 { alike.1 } else { best.1 }
        }
        None => best.1,
    }
}

/// What a tile of `m` rows and `v` vectors takes, whatever they are.
struct Model<'a> {
    core: &'static Core,
    target: &'a Target,
    operands: &'a Operands,
    /// Registers of a vector.
    parts: usize,
    /// Short sums of half floats in a sum.
    short: f64,
    /// Points of an element of the reduction: products of bytes are counted in words or pairs of them, those
    /// of couples in points.
    word: usize,
    /// Elements of the reduction.
    depth: f64,
    /// Instructions that multiply a vector of couples and add the products, where couples lie in memory as they are.
    added: Option<f64>,
}

/// Stores of neighbouring vectors that are packed to bytes: a power of two of them at once.
fn stores(vectors: usize) -> f64 {
    (vectors / 4) as f64 + f64::from((vectors % 4).count_ones())
}

impl<'a> Model<'a> {
    fn new(target: &'a Target, operands: &'a Operands) -> Model<'a> {
        let word = if operands.neighbours >= 4 { operands.neighbours } else { 1 };
        let depth = operands.products as f64 / word as f64;
        let short = match operands.half_sums {
            0 => 0.0,
            most => operands.products.div_ceil(most) as f64,
        };
        let parts = (operands.lanes * operands.summed).div_ceil(target.vector_bytes);
        let added = adds_couples(target).filter(|_| operands.sixteen);
        Model { core: core(target), target, operands, parts, short, word, depth, added }
    }

    /// Cycles of one tile; `again`: the next rows' tiles read its vectors again.
    fn cycles(&self, m: usize, v: usize, again: bool) -> f64 {
        let Model { core, operands, .. } = self;
        let (m_f, v_f) = (m as f64, (v * self.parts) as f64);
        if let Some(chains) = operands.chains {
            return self.chained(&chains, m_f);
        }
        let (row_loads, vector_loads) = self.loads(m, v);
        let streamed = self.streamed(v, again);
        // Couples are counted in points: half of each.
        let (multiplied, per, latency) = match operands.neighbours {
            2 if let Some(instructions) = self.added => {
                (instructions * m_f * v_f / core.fma / 2.0, 2.0, core.latency / 2.0)
            }
            2 => {
                let widened = if operands.wide { 0.0 } else { 1.0 };
                // Columns of two rows take two instructions, and loads that neighbouring vectors share; rows of an
                // odd one are multiplied as two.
                let (columns, more) = match operands.woven {
                    Some(words) => {
                        let shared = v.div_ceil(2) as f64 / v as f64;
                        ((2.0 + WOVEN * shared) * row_loads, 2.0 * words as f64 / self.depth)
                    }
                    None => (0.0, 1.0),
                };
                let operations = ((2.0 * m_f * more + widened) * v_f + columns) / core.couples;
                ((operations + BESIDE * (row_loads + vector_loads)) / 2.0, 2.0, 0.5)
            }
            8 => (self.sums(m, v) / core.fma, 1.0, core.latency),
            _ => (m_f * v_f / core.fma, 1.0, self.latency()),
        };
        let loads = ((row_loads + vector_loads) / core.loads / per).max(streamed);
        let lost = match m > kept_lines(self.target, operands.row_bytes) {
            true => row_loads * LINE as f64 / core.near,
            false => 0.0,
        };
        let late = if operands.neighbours == 1 { core.late * (LATE - multiplied).max(0.0) } else { 0.0 };
        let issue = multiplied.max(self.apart(m_f, v_f) / per).max(loads).max(latency);
        let issue = issue + late + core.unhidden * multiplied.min(loads);
        let made = match operands.restored {
            None => (operands.operations as f64 - core.beside).max(0.0) * v_f * core.restores,
            Some(_) => 0.0,
        };
        let slots = core.slot * (row_loads + vector_loads / 2.0);
        // Sums of integers take one cycle each: one tile begins while the last one ends.
        let ends = match operands.neighbours {
            2 => m_f * (core.ends.vector * v_f + core.ends.store * stores(v * self.parts)) + core.ends.tile,
            // Pairs of sums become rows.
            8 => 2.0 * m_f * v_f + self.sums(m, v) + 12.0,
            _ => (2.0 + core.widened.cycles * self.short) * m_f * v_f + 12.0,
        };
        let planes = operands.planes.map_or(0.0, |p| p.cycles(self.target, m, v * operands.lanes));
        self.depth * (issue + made + slots + lost) + ends + planes
    }

    /// Cycles until a product's sum can be added to.
    fn latency(&self) -> f64 {
        if self.operands.neighbours == 4 { self.core.words } else { self.core.latency }
    }

    /// The code of a tile.
    fn code(&self, m: usize, v: usize) -> Unrolled {
        let mut code = self.core.code_of((m * v * self.parts) as f64, self.depth);
        if self.short > 1.0 {
            code.sums *= self.core.widened.code;
        }
        code
    }

    /// Cycles in which tiles of `v` vectors have their floats made, for one run of all rows.
    fn restored(&self, width: usize, v: usize) -> f64 {
        let Some(again) = self.operands.restored else { return 0.0 };
        let vectors = (width.div_ceil(v * self.operands.lanes) * v * self.parts) as f64;
        let operations = self.operands.operations as f64 + 1.0;
        self.depth * vectors * operations * self.core.restores / again
    }

    /// Cycles of a tile of `m` rows and a vector of channels whose words are multiplied in chains.
    fn chained(&self, chains: &Chains, m: f64) -> f64 {
        (m * chains.cycles(self.target)).max(CHAIN * chains.mean()) + m + CHAINS
    }

    /// Registers with the sums of two rows and two channels each.
    fn sums(&self, m: usize, v: usize) -> f64 {
        (m.next_multiple_of(2) * v * self.parts) as f64
    }

    /// Loads of a step: of the rows' factor, and of vectors.
    fn loads(&self, m: usize, v: usize) -> (f64, f64) {
        let Model { core, operands, .. } = self;
        let (m_f, v_f) = (m as f64, (v * self.parts) as f64);
        if operands.neighbours == 8 {
            // What two rows have loaded is put side by side.
            let row_loads = if operands.by_lane > 1 { m_f / 2.0 } else { m_f };
            return (row_loads + m.div_ceil(2) as f64, 2.0 * v_f);
        }
        let row_loads = match (operands.broadcast, operands.by_lane) {
            (true, together) => m_f / together as f64,
            _ => match operands.window {
                Some((step, _)) => {
                    let points = self.window_points(m, v);
                    let once = v_f * (m.saturating_sub(1) * step + points) as f64 / points as f64;
                    let kept = self.kept(m, v, step);
                    kept * once + (1.0 - kept) * m_f * v_f
                }
                None => m_f * v_f,
            },
        };
        let astride = if operands.astride { core.astride } else { 1.0 };
        (row_loads, if operands.shared { v_f * astride } else { v_f * 0.5 })
    }

    /// Cycles of a step in which vectors that all rows share, read once a tile, come from wherever those of all points
    /// fit: half of the second-level cache is theirs.
    fn streamed(&self, v: usize, again: bool) -> f64 {
        let Model { core, operands, .. } = self;
        let bytes = (v * operands.lanes * operands.element * self.word) as f64;
        match self.depth * bytes {
            _ if !operands.shared => 0.0,
            all if again && all > (self.target.l2 / 2).max(KEPT) as f64 => bytes / core.far,
            all if all > self.target.l1 as f64 => bytes / core.near,
            _ => 0.0,
        }
    }

    /// Points of a window that slides along the rows which are unrolled at a time: rows share what they load of these.
    fn window_points(&self, m: usize, v: usize) -> usize {
        let Some((_, extent)) = self.operands.window else { return 1 };
        let sums = (m * v * self.parts).max(1);
        match unrolled_whole(extent) || sums * extent <= SLIDING {
            true => extent,
            false => (self.core.repeated.max(SLIDING / 2) / sums).clamp(1, MOST_POINTS),
        }
    }

    /// Whether multiply-adds take what registers do not keep of a window from memory. Where products and sums are
    /// instructions of their own, of as many sums as fill the time of an addition: more leave them no register.
    fn reloads(&self, m: usize, v: usize) -> bool {
        let Model { core, operands, .. } = self;
        let room = core.apart.is_none() || m * v * self.parts <= FILLING;
        room && !core.relists && operands.neighbours == 1 && operands.half_sums == 0
    }

    /// The share of a window's vectors that later rows find in registers.
    fn kept(&self, m: usize, v: usize, step: usize) -> f64 {
        let free = self.target.vector_regs.saturating_sub((m + 1) * v * self.parts + 1);
        let again = m * step * v * self.parts;
        if self.reloads(m, v) { (free as f64 / again as f64).min(1.0) } else { 1.0 }
    }

    /// Registers for a window's vectors. Long sums that are fewer than fill the time until the next addition wait for
    /// each other sooner than for loads, and so do those of windows that are no straight run.
    fn held(&self, m: usize, v: usize, (step, extent): (usize, usize)) -> usize {
        let few = step == 1 && v <= m && m * v * self.parts <= FILLING && self.operands.products > SHORT;
        match self.reloads(m, v) && (few || !unrolled_whole(extent)) {
            true => v,
            false => v * (m + self.window_points(m, v) / step),
        }
    }

    /// Cycles of a step where products and sums are instructions of their own.
    fn apart(&self, m: f64, v: f64) -> f64 {
        let Some(apart) = &self.core.apart else { return 0.0 };
        // A row's factor is loaded and spread, and the last copy of it saved.
        let broadcasts = if self.operands.broadcast { m } else { 0.0 };
        let instructions = 3.0 * m * v + broadcasts + v;
        (instructions / apart.instructions).max((2.0 * m * v + broadcasts) / apart.arithmetic)
    }

    /// Whether registers hold the tile.
    fn fits(&self, m: usize, v: usize) -> bool {
        let Model { core, target, operands, parts, .. } = self;
        if let Some(chains) = operands.chains {
            let words = if chains.counts[0] > 0 { 4 } else { 2 };
            // A row more pays for constants read once less, even where rows wait in the second-level cache.
            let kept = m * chains.turns * self.depth as usize * WORD <= target.l1 * 3 / 2;
            return v * parts == 1 && m + words + 3 <= target.vector_regs && (kept || m <= ROWS);
        }
        let held = match (operands.by_lane, operands.window) {
            (2.., _) => m,
            // A column of the window, the next, and the factor of each of its columns.
            (_, Some(_)) if core.relists && *parts == 1 => v * (self.window_points(m, v) + 2),
            // What later rows load again stays in registers.
            (_, Some(window)) => self.held(m, v, window),
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
        let kept = |depth: f64| depth * (v * operands.lanes * size_of::<f32>()) as f64;
        if operands.restored.is_some() && kept(self.depth) > (target.l2 / RESTORED) as f64 {
            return false;
        }
        if let (2, Some(words)) = (operands.neighbours, operands.woven) {
            // A column of the window beside the sums, and two rows of the filter where they are no operands in memory;
            // a couple and a product on their way.
            // Woven along the rows, they are couples of one column.
            let columns = operands.window.map_or(1, |w| if words < w.1 { 1 } else { w.1 });
            let filter = if operands.wide { 0 } else { columns };
            return v * parts * (m + 1 + filter) + 2 < target.vector_regs
                && m * v * parts * words <= UNROLLED_WORDS;
        }
        if operands.neighbours == 8 {
            return self.sums(m, v) as usize + held + SQUARES < target.vector_regs;
        }
        if operands.halves {
            let words = if operands.long { 2 } else { 1 };
            return (m + words) * v * parts + HALVES < target.vector_regs;
        }
        if self.short > 0.0 {
            let sums = if self.short > 1.0 { core.widened.registers } else { 1 };
            return (sums * m + 1) * v * parts + held < target.vector_regs;
        }
        match operands.split {
            // Two steps at a time: their factors, copies of what each row has loaded, products.
            true => 2 * m * v * parts + 2 * v * parts + 2 * m + 3 <= target.vector_regs,
            false => (m + 1 + operands.beside) * v * parts + held < target.vector_regs,
        }
    }
}
