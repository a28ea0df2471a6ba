//! What a logarithm is taken of is not summed from bytes.
//!
//! A logarithm shows the ratio of numbers, however small they are; bytes have steps of the largest one. Of the powers
//! of a spectrum only the loudest would be left (kaldi's features: cosine .71). So sums of which a logarithm is
//! taken, and those that squares or further such sums are made of, are computed in float.

use crate::compress::onnx::Onnx;
use std::collections::BTreeSet;

/// Operators whose result is about as large as what they read.
const THROUGH: &[&str] = &[
    "Abs",
    "Add",
    "Cast",
    "Clip",
    "Concat",
    "Flatten",
    "Identity",
    "Max",
    "Mul",
    "Pow",
    "ReduceL2",
    "ReduceSum",
    "ReduceSumSquare",
    "Reshape",
    "Slice",
    "Split",
    "Sqrt",
    "Squeeze",
    "Sum",
    "Transpose",
    "Unsqueeze",
];
/// Operators that sum products.
const PRODUCTS: &[&str] = &["Conv", "Gemm", "MatMul"];

/// The products that logarithms are taken of.
pub(super) fn products(onnx: &Onnx) -> BTreeSet<usize> {
    let writers = onnx.writers();
    let logarithms = onnx.nodes.iter().filter(|n| n.op() == "Log");
    let mut open: Vec<&str> = logarithms.filter_map(|n| n.input(0)).collect();
    let (mut seen, mut found) = (BTreeSet::new(), BTreeSet::new());
    while let Some(value) = open.pop() {
        let Some(&writer) = writers.get(value).filter(|w| seen.insert(**w)) else { continue };
        let node = &onnx.nodes[writer];
        let product = PRODUCTS.contains(&node.op());
        if product {
            found.insert(writer);
        }
        if product || THROUGH.contains(&node.op()) {
            open.extend(node.inputs.iter().map(String::as_str));
        }
    }
    found
}
