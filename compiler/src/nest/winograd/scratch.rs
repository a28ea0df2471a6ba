//! What a filtered convolution keeps in between: the strip (rows of data transformed down, with what they have of the
//! rim), the transformed data of a block, its products, and one tile half transformed.
//!
//! Where columns of points are multiplied one after the other, the products of one lie over the data of those before
//! it, which nothing reads any more; and all of them over the strip. With P products a column, D numbers of data:
//! ```text
//! first:       strip ....... | data 0 | data 1 | data 2 | ...
//! column 0:    products 0 ...  data 0 | data 1 | data 2 | ...
//! column 1:    products 0 | products 1 .. data 1 | data 2 | ...    (j + 1) P <= start + j D
//! ```

use super::outputs::together;
use super::sides::inside;
use crate::schedule::Linear;
use crate::schedule::winograd::{Block, Conv, Tiles, Winograd};

/// Where things begin in the parameter for what lies between.
pub(super) struct Scratch {
    pub param: u32,
    /// Tiles of the strip, its columns, and those of a whole row of tiles that hold data: the rest is zero.
    pub tiles: usize,
    pub columns: usize,
    pub inside: (usize, usize),
    pub strip: usize,
    pub data: usize,
    pub products: usize,
    pub tile: usize,
    pub elems: usize,
}

impl Scratch {
    pub fn of(linear: &Linear, conv: &Conv, block: &Block, winograd: &Winograd, lanes: usize) -> Scratch {
        let Tiles { outputs, across, part, .. } = winograd.tiles;
        let all = conv.tiles(linear, 1, outputs);
        let columns_of = |tiles: usize| tiles * outputs + conv.parts(linear, part)[1] * part - 1;
        let inside = inside(conv, columns_of(all));
        let strip_of =
            |tiles: usize| (block.inputs[0] * columns_of(tiles) * conv.channels(linear)).next_multiple_of(16);
        let points = block.points();
        let rows = if winograd.columns > 0 { conv.shape(outputs)[0] } else { block.inputs[0] };
        let products_end = rows * block.inputs[1] * block.products;
        let at_once = block.tiles <= winograd.columns && linear.extent(conv.outer) <= lanes;
        let ahead =
            (winograd.columns > 0 && !winograd.each).then(|| ahead(block, conv.shape(outputs)[0], at_once));
        let tiles = strip_tiles(across, all, |tiles| strip_of(tiles) <= ahead.unwrap_or(usize::MAX));
        let (columns, strip_elems) = (columns_of(tiles), strip_of(tiles));
        // Other things lie over the strip where nothing of it stays.
        let over = across < all || inside == (0, columns);
        let (beside, over) = if over { (0, strip_elems) } else { (strip_elems, 0) };
        let (data, products) = match ahead {
            Some(ahead) => (beside + over.max(ahead), beside),
            None => (beside, beside + points * block.data),
        };
        let strip = if over > 0 { products } else { 0 };
        let tile = products + products_end;
        let half = together(linear, conv, lanes) * outputs * block.inputs[1] * lanes;
        let single = winograd.columns > 0 || conv.rows.slide().is_none();
        let end = tile + if single { 0 } else { half };
        let elems = end.max(strip + over).max(data + points * block.data);
        let param = linear.buffers.len() as u32 + 1;
        Scratch { param, tiles, columns, inside, strip, data, products, tile, elems }
    }
}

/// Tiles whose columns are transformed down at a time: all of a block, or of a part of a row some, if they are fewer,
/// so that the strip does not take more memory than something else does. Neighbouring strips have columns in common,
/// which both transform: strips of one tile would transform half of them twice.
fn strip_tiles(across: usize, all: usize, fits: impl Fn(usize) -> bool) -> usize {
    if across == all || fits(across) {
        return across;
    }
    let fewer = || (2..across).rev().filter(|&tiles| across.is_multiple_of(tiles));
    fewer().find(|&tiles| fits(tiles)).or(fewer().next_back()).unwrap_or(across)
}

/// How far the data has to begin behind the products, where those of a column of points lie over the data of columns
/// that were multiplied before; over their own as well, where `at_once` all sums of a column are in registers.
fn ahead(block: &Block, outputs: usize, at_once: bool) -> usize {
    let (products, data) = (outputs * block.products, block.inputs[0] * block.data);
    let apart = |j: usize| ((j + 1) * products).saturating_sub((j + usize::from(at_once)) * data);
    (0..block.inputs[1]).map(apart).max().unwrap_or(0)
}
