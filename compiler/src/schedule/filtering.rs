//! Whether minimal filtering pays, in tiles of how many outputs, how many of them at a time.

use super::cores::core;
use super::cost::{Operands, Tiling, best_tile};
use super::direct::direct;
use super::instructions::{couple_halves, couples};
use super::like::Like;
use super::linear::{Buffer, Guard, Linear};
use super::vector::choose_vector;
use super::winograd::{Block, CHANNELS, Conv, HALVES, TILE, Tiles, Winograd, product};
use super::{Schedule, Vector};
use crate::target::Target;

/// Tiles of a block at most: they fill the register tile, more would only take memory.
const TILES: usize = 64;
/// Tiles of a part of a row at least.
const LEAST: usize = 8;
/// Filtering is chosen where it takes less than this part of the direct convolution's time: it takes
/// memory and rounds more.
const GAIN: f64 = 0.85;
/// Instructions that multiply sixteen bytes in pairs, for one by the model.
const PAIRS: f64 = 3.0;
/// Cycles of chains of words that filtering is measured against where it saves few products, for one by the model; where it
/// leaves a quarter of them, it is measured against couples (ResNet-8's 16 channels take 1.1 times as long as filtered
/// where the model has chains as fast; VGGish 1.06 to 1.09 times with as much for all windows).
const CHAINED: f64 = 1.1;
/// Lanes of the widest vectors that take one unit of a core.
const WIDE: usize = 8;
/// Products of couples up to which a tile is no loop.
const WHOLE: usize = 96;
/// Cycles in which a short sum of couples is stored beside the products of others (measured on Zen 4: eight sums of
/// eight couples take 39 cycles, of two couples 14).
const STORED: f64 = 0.75;
/// The part of the time in which weights are read that products of columns do not hide (fitted on Zen 4: ResNet-8's
/// 64 channels are 25 % slower with two tiles at once than with four).
const UNHIDDEN: f64 = 0.3;
/// Cycles in which a vector of sums of couples is divided, scaled and made bytes; other sums of products of integers are
/// scaled by one multiply-add (fitted on Golden Cove: ResNet-8's 16 channels take 1.2 times as long filtered as they are).
const DIVIDED: f64 = 3.3;
/// The share of the first-level cache that weights may fill which each few tiles read again.
const AGAIN: f64 = 0.6;
/// The share of it that transformed data may fill which each vector of channels out reads again.
const KEPT: f64 = 0.25;
/// The share of the second-level cache that weights fill at most which it keeps.
const HELD: f64 = 0.75;
/// Bytes of weights that no cache keeps from one inference to the next, and bytes per cycle that come from memory then
/// (measured on Golden Cove: 9.4 MB come at 3.5 to 5.3 from a third-level cache of 260 MB, beside other work or not. With 6
/// RepVGG natively takes .77 of the time, ResNet-34 at AVX2 .78, for .57 and .68 of the flash; with 4 RepVGG at AVX2 1.11).
const MEMORY_FROM: f64 = (4 << 20) as f64;
const MEMORY_RATE: f64 = 6.0;
/// How much slower it may be for as much less in between as the second-level cache holds.
const MEMORY: f64 = 0.4;
/// ... or as this, where that holds more: memory is not less scarce for it.
const COUNTED: usize = 1 << 20;
/// How much slower sums of weights that are bytes may be for a byte of constants less: bytes are there to be small.
const CONSTANTS: f64 = 2.0 / (1 << 20) as f64;
/// ... where bytes are multiplied as couples: floats are filtered whatever that takes, and bytes should not be slower (256
/// to 128 channels of 32x32 points at AVX2 .43 of the time).
const CONSTANTS_OF_COUPLES: f64 = 0.35 / (1 << 20) as f64;

/// The schedule of a convolution by minimal filtering, made of its direct one and what that takes, and its cycles; `None`
/// where that is faster.
pub(super) fn filtered(
    linear: &Linear,
    target: &Target,
    direct: &Schedule,
    tiling: &Tiling,
) -> Option<(Schedule, f64)> {
    let Vector::Axis { var, .. } = direct.vector else { return None };
    let (winograd, cycles) = filtering(linear, target, var, tiling)?;
    let schedule = Schedule {
        lane_loads: direct.lane_loads.min(4),
        half_sums: 0,
        half_parts: 0,
        half_finish: false,
        begun: false,
        restored: false,
        winograd: Some(winograd),
        ..direct.clone()
    };
    Some((schedule, cycles))
}

/// The minimal filtering of a convolution whose lanes are filled along `var`, where it pays.
fn filtering(linear: &Linear, target: &Target, var: u32, tiling: &Tiling) -> Option<(Winograd, f64)> {
    let conv = Conv::of(linear)?;
    let halves = conv.couples && couple_halves(target);
    // What would fill half of a vector takes as long (ResNet-8's first convolution on Cortex-A53: 1.914 M
    // instructions of all, 1.939 where it is filtered).
    let thin = conv.channels(linear) < target.lanes();
    // Along one axis, and in parts of larger windows, a third and less of the products is saved: halves, an eighth of the
    // instructions for three times the constants.
    if var != conv.outer
        || halves && (thin || !conv.is_square(linear) || !conv.in_halves(linear))
        || conv.couples && !halves && !couples(target) && !target.has_vnni()
    {
        return None;
    }
    let direct = direct_cycles(&conv, linear, target, (var, tiling));
    let like = linear.facts.like;
    let filter = like.and_then(|like| like.filter);
    if like.is_some() && filter.is_none() {
        return None;
    }
    let sizes = conv.sizes(linear).iter().filter(|&&size| filter.is_none_or(|f| f.size == size));
    let candidates = sizes.flat_map(|&size| candidates(&conv, linear, size));
    let costs = candidates.map(|tiles| (filtered_cycles(&conv, linear, target, tiles), tiles));
    let least = |(cycles, tiles): &(f64, Tiles)| cycles * beyond(&conv, linear, *tiles);
    let (cost, tiles) = costs.min_by(|a, b| least(a).total_cmp(&least(b)))?;
    if cost >= direct * like.map_or(GAIN, Like::slower) {
        return None;
    }
    let product = Box::new(products(&conv, linear, target, (tiles, halves)));
    let alone = || shares(&conv, linear, target, (tiles, &product));
    if filter.map_or_else(alone, |f| !f.columns) {
        return Some((Winograd { tiles, halves, columns: 0, each: false, product }, cost));
    }
    let tiles = few(&conv, linear, target, tiles).unwrap_or(tiles);
    let product = Box::new(products(&conv, linear, target, (tiles, halves)));
    let columns = columns(target, &Block::of(&conv, linear, tiles));
    let each = columns > 0 && each(&conv, linear, target, tiles);
    Some((Winograd { tiles, halves, columns, each, product }, cost))
}

/// Cycles that filtering a convolution spares for each byte that its constants grow by; `None` where the schedule does
/// not filter, or they do not grow.
pub fn spared(linear: &Linear, target: &Target, schedule: &Schedule) -> Option<f64> {
    let (Some(Winograd { tiles, .. }), Vector::Axis { var, .. }) = (&schedule.winograd, schedule.vector)
    else {
        return None;
    };
    let (conv, tiling) = (Conv::of(linear)?, direct(linear, target, schedule.vector).1?);
    let Buffer { elems, dtype, .. } = linear.buffers[conv.weights as usize];
    let grown =
        weights(&conv, linear, &Block::of(&conv, linear, *tiles), tiles.part) - (elems * dtype.size()) as f64;
    let cycles =
        direct_cycles(&conv, linear, target, (var, &tiling)) - filtered_cycles(&conv, linear, target, *tiles);
    (grown > 0.0).then_some(cycles / grown)
}

/// Cycles of a convolution as it is, by the model.
fn direct_cycles(conv: &Conv, linear: &Linear, target: &Target, (var, tiling): (u32, &Tiling)) -> f64 {
    let chained = tiling.couples.min(CHAINED * tiling.cycles);
    let cycles = if conv.is_square(linear) { tiling.couples } else { chained };
    let halves = conv.couples && couple_halves(target);
    tiling.all(cycles, linear, var) * inside(linear) * if halves { PAIRS } else { 1.0 }
}

/// Cycles of a filtered convolution, by the model.
fn filtered_cycles(conv: &Conv, linear: &Linear, target: &Target, tiles: Tiles) -> f64 {
    let batches = conv.around(linear).iter().map(|&v| linear.extent(v) as f64).product::<f64>();
    let rows = conv.tiles(linear, 0, tiles.outputs) / tiles.rows;
    let blocks = batches * (rows * conv.times(linear, tiles)) as f64;
    let cycles = |first: bool| block_cycles(conv, linear, target, (tiles, first));
    cycles(true) + (blocks - 1.0) * cycles(false)
}

/// The share of a window's points that lie in no margin, in the mean: loops over the window leave the others out, tiles
/// of filtered outputs do not.
fn inside(linear: &Linear) -> f64 {
    let share = |margin: &Guard| {
        let moves = |&&(v, _): &&(u32, i64)| linear.vars[v as usize].reduce;
        let (window, axis) =
            (margin.form.terms.iter().find(moves), margin.form.terms.iter().find(|t| !moves(t)));
        let Some((&(window, step), &(axis, by))) = window.zip(axis) else { return 1.0 };
        let (points, outputs) = (linear.extent(window) as i64, linear.extent(axis) as i64);
        // Outputs before the first whose point has an index, of those that there are.
        let before = |index: i64, point: i64| {
            let first = (index - margin.form.base - step * point + by - 1).div_euclid(by);
            first.clamp(0, outputs)
        };
        let inside = |point: i64| before(margin.extent as i64, point) - before(0, point);
        (0..points).map(inside).sum::<i64>() as f64 / (points * outputs).max(1) as f64
    };
    linear.margins.iter().map(share).product()
}

/// How many times as much is computed as there is, where an axis ends at a size known only at run time: blocks that begin
/// inside are whole. All sizes up to the bound are taken for equally likely.
fn beyond(conv: &Conv, linear: &Linear, Tiles { outputs, rows, across, .. }: Tiles) -> f64 {
    let [down, along] = conv.shape(outputs);
    let axes = [(conv.rows.axis(), rows * down), (Some(conv.across.axis), across * along)];
    let more = axes.into_iter().map(|(axis, block)| match axis {
        Some(axis) if linear.vars[axis as usize].size.is_some() => {
            1.0 + block as f64 / linear.extent(axis) as f64
        }
        _ => 1.0,
    });
    more.product()
}

/// Whole rows of tiles; parts of a row that has too many for that, or over which alone the window moves. Parts of rows of
/// small tiles lose more than the model says (32 to 16 channels of 256 columns at AVX2: 1.45 of the time of large ones).
fn candidates(conv: &Conv, linear: &Linear, (outputs, part): (usize, usize)) -> Vec<Tiles> {
    let (down, across) = (conv.tiles(linear, 0, outputs), conv.tiles(linear, 1, outputs));
    let rows = (1..=down).filter(|rows| down.is_multiple_of(*rows) && rows * across <= TILES);
    let mut found: Vec<Tiles> = rows.map(|rows| conv.whole_rows(linear, (outputs, part), rows)).collect();
    let sized = linear.vars[conv.across.axis as usize].size.is_some();
    if across > TILES && outputs > 2 || conv.rows.slide().is_none() || sized {
        let parts = (across.div_ceil(TILES)..=across / LEAST).map(|times| across.div_ceil(times));
        let mut parts: Vec<usize> = parts.filter(|&part| part < across).collect();
        parts.dedup();
        found.extend(parts.into_iter().map(|across| Tiles { outputs, part, rows: 1, across }));
    }
    found
}

/// The schedule of the products of each point.
fn products(conv: &Conv, linear: &Linear, target: &Target, (tiles, halves): (Tiles, bool)) -> Schedule {
    let products = product(conv, linear, tiles);
    let vector = match halves {
        true => Vector::Axis { var: CHANNELS, lanes: HALVES },
        false => choose_vector(&products, target),
    };
    let mut schedule = direct(&products, target, vector).0;
    if conv.couples && !halves {
        unroll_whole(&products, &mut schedule);
    }
    schedule
}

/// Tiles of a block whose sums of a column of points are in registers at once; 0 where those do not hold several.
fn columns(target: &Target, block: &Block) -> usize {
    match core(target).columns / block.inputs[0] {
        0 => 0,
        // A column of a single point holds no more products than other tiles.
        _ if block.inputs[0] == 1 => 0,
        most => block.tiles.div_ceil(block.tiles.div_ceil(most)),
    }
}

/// Whether points are multiplied one after the other since products wait for loads: each sum of a column loads its own
/// data, which tiles of several vectors share (Golden Cove: 128 channels take .76 of their time). Not where these would
/// read weights once that lie beyond the second-level cache (256 and 512 channels of 14 tiles: 1.2).
fn shares(conv: &Conv, linear: &Linear, target: &Target, (tiles, product): (Tiles, &Schedule)) -> bool {
    let (core, block) = (core(target), Block::of(conv, linear, tiles));
    let again = block.tiles > product.points(TILE);
    let near = weights(conv, linear, &block, tiles.part) <= target.l2 as f64 * HELD;
    !conv.couples && core.loads <= core.fma && (again || near)
}

/// No more tiles than those whose sums are in registers at once, where the weights, which all of these read again, are
/// in the nearest cache: what lies between is small then.
fn few(conv: &Conv, linear: &Linear, target: &Target, tiles: Tiles) -> Option<Tiles> {
    let block = Block::of(conv, linear, tiles);
    let across = columns(target, &block);
    let part = across > 0 && across < block.tiles && conv.in_rows(linear, tiles.outputs, across);
    let near = weights(conv, linear, &block, tiles.part) <= AGAIN * target.l1 as f64;
    (part && near).then_some(Tiles { rows: 1, across, ..tiles })
}

/// Whether each vector of channels out is finished before the next one is multiplied: these read what all of the block
/// are transformed from again, which the nearest cache then has to keep.
fn each(conv: &Conv, linear: &Linear, target: &Target, tiles: Tiles) -> bool {
    let block = Block::of(conv, linear, tiles);
    let data = 4 * block.points() * block.data;
    linear.extent(conv.outer) > target.lanes() && data as f64 <= KEPT * target.l1 as f64
}

/// Short sums of couples are no loop, and begin with their first product.
fn unroll_whole(products: &Linear, schedule: &mut Schedule) {
    let sums: usize = schedule.tile.iter().map(|t| t.1).product();
    for step in &mut schedule.reduce {
        let extent = products.extent(step.var);
        if sums * extent <= WHOLE {
            step.unroll = extent;
        }
    }
}

/// Vectors of so many couples; half of one at 512 bits takes half as long, any other part as long as all of it.
fn parts(target: &Target, couples: usize) -> f64 {
    let unit = target.lanes().min(WIDE);
    (couples.div_ceil(unit) * unit) as f64 / target.lanes() as f64
}

/// Bytes of the transformed weights.
fn weights(conv: &Conv, linear: &Linear, block: &Block, part: usize) -> f64 {
    (block.points() * conv.summed(linear, part) * linear.extent(conv.outer) * 4) as f64
}

/// Cycles of one block, by the model, the first or another one; also where it is done a few tiles at a time.
fn block_cycles(conv: &Conv, linear: &Linear, target: &Target, (of, first): (Tiles, bool)) -> f64 {
    let (core, block) = (core(target), Block::of(conv, linear, of));
    let (inner, outer) = (conv.summed(linear, of.part), linear.extent(conv.outer));
    let [(down, rows), (n, m)] =
        [0, 1].map(|way| (block.inputs[way] as f64, conv.shape(of.outputs)[way] as f64));
    let (points, tiles) = (block.points() as f64, block.tiles as f64);
    let weights = weights(conv, linear, &block, of.part);
    let rate = match weights {
        _ if weights <= target.l2 as f64 * HELD => core.near,
        _ if first && weights > MEMORY_FROM => core.far.min(MEMORY_RATE),
        _ => core.far,
    };
    let at_once = if conv.couples { columns(target, &block) } else { 0 };
    let in_columns = at_once > 0;
    // Every block reads all weights, each few tiles of it again: the nearest cache has them where these are finished
    // one after the other.
    let again = weights * tiles / at_once.max(1) as f64;
    let (read, block) = match few(conv, linear, target, of).filter(|_| in_columns) {
        Some(few) => (again / (2.0 * core.near), Block::of(conv, linear, few)),
        None if in_columns => (weights / rate + (again - weights) / core.near, block),
        None => (weights / rate, block),
    };
    // Sums of floats are chosen as if each point's went to memory: tiles of four outputs would pay more often, by
    // 2 % of the time for 60 % more constants.
    let multiplied = match in_columns {
        // What a column of sums becomes is stored beside the next products, by half.
        true => {
            let sums = points * tiles * outer.div_ceil(target.lanes()) as f64;
            let product = (1.0 / core.fma).max((1.0 + 1.0 / at_once as f64) / core.loads);
            sums * (inner as f64 * product + rows / down / core.stores / 2.0) + UNHIDDEN * read
        }
        false => points * point_cycles(conv, linear, target, of),
    };
    // A vector of n inputs or products to so many outputs; about two additions for each input. Those of
    // integers take one cycle each, so that one vector need not wait for another.
    let waits = if conv.couples { 0.0 } else { 4.0 };
    let step = |n: f64, made: f64| {
        (n / core.loads).max(made / core.stores).max(2.0 * n / (core.fma + core.adds)) + waits
    };
    let vectors = |extent: usize| extent.div_ceil(target.lanes()) as f64;
    let channels = conv.channels(linear);
    let data = if conv.couples { self::parts(target, channels) } else { vectors(channels) };
    let [parts_down, parts_across] = conv.parts(linear, of.part).map(|parts| parts as f64);
    let strips = m * step(down, down) + parts_across * down * step(n, n);
    let into = tiles * data * parts_down * strips;
    let half = if down > rows { n * step(down, rows) } else { 0.0 };
    let back = match in_columns {
        true => rows * (step(n, m) + m * DIVIDED),
        false => half + rows * step(n, m),
    };
    let back = tiles * vectors(outer) * back;
    // What lies between takes memory, and pushes other things out of the caches.
    let products = if in_columns { rows * n } else { points } * block.products as f64;
    let between = 4.0 * (points * block.data as f64 + products);
    // Beyond the first-level cache, lines are fetched to be written, and written back.
    let moved = if between > target.l1 as f64 { 2.0 * between / core.near } else { 0.0 };
    let stored = weights * self::stored(conv, linear, target);
    let memory = between * MEMORY / target.l2.min(COUNTED) as f64 + stored;
    (multiplied.max(read) + into + back + moved) * (1.0 + memory)
}

/// How much slower sums may be for a byte of transformed weights less.
fn stored(conv: &Conv, linear: &Linear, target: &Target) -> f64 {
    let bytes = linear.buffers[conv.weights as usize].dtype.size() == 1;
    match conv.couples && couples(target) {
        _ if !bytes => 0.0,
        true => CONSTANTS_OF_COUPLES,
        false => CONSTANTS,
    }
}

/// Cycles of the products of a point, by the model.
fn point_cycles(conv: &Conv, linear: &Linear, target: &Target, tiles: Tiles) -> f64 {
    let products = product(conv, linear, tiles);
    let inner = conv.summed(linear, tiles.part);
    // Where halves lie apart, each is multiplied by itself.
    let halves = conv.couples && couple_halves(target);
    // An instruction of its own adds the products of couples, or none.
    let apart = conv.couples && !target.has_vnni();
    let operands = Operands {
        astride: false,
        neighbours: if apart && !halves { 2 } else { 1 },
        products: inner * if apart { 2 } else { 1 },
        chains: None,
        shared: true,
        broadcast: true,
        by_lane: if core(target).by_lane && !conv.couples && inner >= 4 { 4 } else { 1 },
        half_sums: 0,
        summed: 4,
        window: None,
        woven: None,
        wide: apart,
        sixteen: false,
        halves: false,
        long: false,
        split: false,
        lanes: if halves { HALVES } else { target.lanes() },
        element: if halves { 2 } else { 4 },
        row_bytes: inner * 4,
        derived: 0,
        beside: 0,
        planes: None,
        operations: 0,
        restored: None,
    };
    let tile = best_tile(&products, target, Some(1), CHANNELS, &operands);
    if !apart || halves || tile.rows * tile.vectors * inner > WHOLE {
        return tile.cycles;
    }
    // Sums that are no loop begin with their first product.
    let tiles = products.extent(1) * products.extent(CHANNELS).div_ceil(target.lanes());
    tiles as f64 * ((2 * inner - 1) as f64 / core(target).couples + STORED)
}
