//! How the constants of a product by blocks of four bits lie: as its tiles read them.

use crate::base::{Affine, DType};
use crate::nest::reduce::dot::in_halves;
use crate::schedule::Linear;
use crate::schedule::blocked::{Product, TOGETHER, Words};

/// Tiles of columns of one width, side by side.
#[derive(Clone, Copy)]
pub(super) struct Region {
    pub first: usize,
    pub count: usize,
    /// Columns of a tile.
    pub columns: usize,
}

/// How constants lie.
#[derive(Clone)]
pub struct Columns {
    pub(super) product: Product,
    pub(super) how: Words,
    pub(super) regions: Vec<Region>,
    pub(super) lanes: usize,
    pub(super) blocks: usize,
    /// Words of each lane for the weights of a block.
    pub(super) words: usize,
}

impl Region {
    /// Lanes of each vector of a tile.
    pub fn vectors(self, lanes: usize) -> Vec<usize> {
        (0..self.columns).step_by(lanes).map(|at| lanes.min(self.columns - at)).collect()
    }

    /// Lanes in memory.
    fn width(self, lanes: usize) -> usize {
        self.columns.next_multiple_of(lanes)
    }
}

impl Columns {
    pub(super) fn new(
        linear: &Linear,
        (product, how): (Product, Words),
        width: usize,
        lanes: usize,
    ) -> Columns {
        let outer = linear.extent(product.outer);
        let (count, left) = (outer / width, outer % width);
        let whole = Region { first: 0, count, columns: width };
        let rest = Region { first: count * width, count: 1, columns: left };
        let regions = [whole, rest].into_iter().filter(|r| r.count * r.columns > 0).collect();
        let (blocks, words) = (product.blocks(linear), linear.extent(product.place) / TOGETHER);
        Columns { product, how, regions, lanes, blocks, words }
    }

    pub(super) fn operands(&self) -> impl Iterator<Item = u32> {
        let product = &self.product;
        let all = [Some(product.weights.operand), product.zeros.as_ref().map(|z| z.operand)];
        all.into_iter().chain([Some(product.scale.operand)]).flatten()
    }

    /// Rows of lanes that a block has of an operand.
    fn depth(&self, operand: u32) -> usize {
        if operand == self.product.weights.operand { self.words } else { 1 }
    }

    /// Element type and number of elements as an operand lies in memory.
    pub(super) fn memory(&self, operand: u32, dtype: DType) -> (DType, usize) {
        let lanes: usize = self.regions.iter().map(|r| r.count * r.width(self.lanes)).sum();
        let dtype = match dtype {
            DType::U4 if operand == self.product.weights.operand => DType::I32,
            DType::U4 => DType::U8,
            other => other,
        };
        (dtype, lanes * self.blocks * self.depth(operand))
    }

    /// Where the lanes of a vector begin: of the tile at column `n` of a region, in a block, in one of its rows.
    pub(super) fn index(
        &self,
        region: Region,
        (operand, n, vector): (u32, &Affine, usize),
        (block, row): (&Affine, &Affine),
    ) -> Affine {
        let (depth, width) = (self.depth(operand) as i64, region.width(self.lanes) as i64);
        // In what lies before a region tiles are full.
        let past = n.offset(-(region.first as i64)).scaled(width / region.columns as i64);
        let tiles = if region.count > 1 { past } else { Affine::constant(0) };
        let first = tiles.offset(region.first as i64).scaled(self.blocks as i64 * depth);
        let inside = block.scaled(depth * width).plus_scaled(row, width);
        first.plus(&inside).offset((vector * self.lanes) as i64)
    }

    /// The bytes of an operand; `None` where it lies as it is.
    pub fn packed(&self, linear: &Linear, operand: u32, data: &[u8]) -> Option<Vec<u8>> {
        let product = &self.product;
        let place = [Some(&product.weights), product.zeros.as_ref(), Some(&product.scale)];
        let addr = &place.into_iter().flatten().find(|p| p.operand == operand)?.addr;
        let size = linear.buffers[operand as usize].dtype.size();
        let outer = linear.extent(product.outer);
        let at = |column: usize, block: usize, place: usize| {
            let element = addr.eval(|v| match v {
                _ if v == product.outer => column as i64,
                _ if v == product.place => place as i64,
                _ if Some(v) == product.block => block as i64,
                _ => 0,
            });
            let start = element as usize * size;
            if column < outer { &data[start..start + size] } else { &[0; 8][..size] }
        };
        let mut packed = Vec::new();
        for region in &self.regions {
            for tile in 0..region.count {
                let first = region.first + tile * region.columns;
                let lanes = first..first + region.width(self.lanes);
                for block in 0..self.blocks {
                    if operand != product.weights.operand {
                        lanes.clone().for_each(|n| packed.extend_from_slice(at(n, block, 0)));
                        continue;
                    }
                    for row in (0..self.words).map(|w| w * TOGETHER) {
                        let byte = |(lane, p): (usize, usize)| {
                            let (n, p) = (first + lane, row + p);
                            at(n, block, p)[0] & 15 | at(n, block, p + 4)[0] << 4
                        };
                        packed.extend(self.order(*region).map(byte));
                    }
                }
            }
        }
        Some(packed)
    }
}

impl Columns {
    /// Whether the words of a vector lie in halves.
    pub(super) fn halved(&self, lanes: usize) -> bool {
        self.how == Words::Halves && in_halves(lanes)
    }

    /// The lane of a tile and the byte of its word that follow each other in memory.
    fn order(&self, region: Region) -> impl Iterator<Item = (usize, usize)> + '_ {
        let bytes = |first: usize, lanes: usize| {
            let halved = self.halved(lanes);
            // What lies behind the last lane is not read.
            (0..4 * self.lanes).map(move |i| match halved && i < 4 * lanes {
                true => (first + i / 32 * 8 + i % 16 / 2, i % 32 / 16 * 2 + i % 2),
                false => (first + i / 4, i % 4),
            })
        };
        let vectors = region.vectors(self.lanes).into_iter().enumerate();
        vectors.flat_map(move |(v, lanes)| bytes(v * self.lanes, lanes))
    }
}
