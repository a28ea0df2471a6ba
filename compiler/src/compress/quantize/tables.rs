//! Constant tables that a Gather picks from: integers are picked, then dequantized.

use super::grid::integer;
use super::stored::error;
use super::weights::{Share, quantize};
use crate::base::{DType, Tensor};
use crate::compress::onnx::{Node, Onnx};
use crate::error::{Error, Result};
use std::collections::HashMap;

/// A table as integers.
#[derive(Clone)]
struct Table {
    integers: String,
    scale: String,
    zero: String,
    error: f64,
    elements: usize,
}

/// The tables made so far, by name and form.
#[derive(Default)]
pub(super) struct Tables(HashMap<String, Table>);

/// What takes the place of a Gather.
pub(super) struct Picked {
    /// The nodes.
    pub nodes: Vec<Node>,
    /// Relative error of the table.
    pub error: f64,
    /// Its elements.
    pub elements: usize,
}

impl Tables {
    /// Replaces a Gather from a constant of floats. Rows share the scales of their columns.
    pub(super) fn pick(&mut self, onnx: &mut Onnx, mut node: Node) -> Result<Picked> {
        let name = node.inputs[0].clone();
        let columns = node.int("axis", 0) == 0;
        let key = format!("{name} {columns}");
        if !self.0.contains_key(&key) {
            let missing = || Error::bug(format!("the table '{name}' is no constant of f32"));
            let (shape, elements) = onnx.floats(&name).ok_or_else(missing)?;
            let share = if columns { Share::Axis(shape.len() - 1) } else { Share::Tensor };
            let made = quantize(&shape, &elements, share, DType::I8, None, false);
            let scale = Tensor::new(made.scale_shape.clone(), &made.scales);
            let zero = integer(DType::I8, &made.scale_shape, &vec![0; made.scales.len()]);
            let table = Table {
                integers: onnx.add_constant(&format!("{name}_quantized"), &made.values),
                scale: onnx.add_constant(&format!("{name}_scale"), &scale),
                zero: onnx.add_constant(&format!("{name}_zero_point"), &zero),
                error: error(&elements, &made, share),
                elements: elements.len(),
            };
            self.0.insert(key.clone(), table);
        }
        let table = &self.0[&key];
        let out = node.output().to_string();
        let picked = onnx.fresh(&format!("{out}_quantized"));
        node.set_input(0, &table.integers);
        node.outputs[0] = picked.clone();
        let mut back = Node::new("DequantizeLinear", "", &[&picked, &table.scale, &table.zero], &[&out]);
        if columns {
            back.set_int("axis", -1);
        }
        Ok(Picked { nodes: vec![node, back], error: table.error, elements: table.elements })
    }
}
