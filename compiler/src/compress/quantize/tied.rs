//! Tables that rows are picked from and that a product multiplies by, too.
//!
//! A language model's embedding mostly is its last product's weights, by the same name or as an exchanged copy. With the
//! scales and the integers of the product's weights the table is the same constant still, which is in flash once.

use super::weights::{Quantized, turned};
use crate::compress::onnx::Onnx;

/// The weights that a table is the same as.
#[derive(Clone)]
pub(super) struct Tied {
    /// The name of the weights.
    pub name: String,
    /// Their rows are the table's columns.
    pub exchanged: bool,
}

/// Whether a matrix is another with rows and columns exchanged (or the same: `false`); `None` where it is neither.
pub(super) fn exchanged(onnx: &Onnx, table: &str, weights: &str) -> Option<bool> {
    let shape = |name: &str| <[usize; 2]>::try_from(onnx.constant(name)?.ty.shape).ok();
    let ([n, k], other) = (shape(table)?, shape(weights)?);
    if table == weights {
        return Some(false);
    }
    let (rows, columns) = (onnx.floats(table).filter(|_| other == [k, n])?.1, onnx.floats(weights)?.1);
    (turned(&columns, k, n) == rows).then_some(true)
}

impl Tied {
    /// The integers of the weights, as the table has them.
    pub(super) fn of(&self, weights: &Quantized) -> Quantized {
        let mut made = weights.clone();
        let (&[k, n], Some(integers)) = (&made.values.ty.shape[..], made.values.to_i64s()) else {
            return made;
        };
        if self.exchanged {
            made.values.ty.shape.reverse();
            made.set_integers(&turned(&integers, k, n));
        }
        made
    }
}
