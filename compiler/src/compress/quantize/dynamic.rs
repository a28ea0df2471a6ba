//! Dynamic quantization: weights are integers, activations become integers when they are computed.
//!
//! Each product takes the range of its data from DynamicQuantizeLinear, sums integers, and scales the
//! sum back to floats. Needs no samples, and costs a pass over each tensor of data. Weights of operators that
//! have no such form (recurrent ones, ConvTranspose) are integers in the file.

use super::grid::integer;
use super::report::LayerReport;
use super::stored::{SMALL, error, store_all, stored};
use super::tables::Tables;
use super::weights::{Share, quantize};
use crate::base::{DType, Tensor};
use crate::compress::observe::Facts;
use crate::compress::onnx::{Node, Onnx};
use crate::compress::{opset, prepare};
use crate::error::{Error, Result};
use std::collections::{BTreeSet, HashMap};
use tract_onnx::pb;

/// The zero point of unsigned weights.
const MIDDLE: i64 = 128;

/// A product that is rewritten.
struct Product {
    /// Weights in the shape they are multiplied in: `[..., depth, columns]`, or as Conv has them.
    shape: Vec<usize>,
    weights: Vec<f32>,
    /// What is added to each channel.
    bias: Option<Vec<f32>>,
    convolution: bool,
}

/// Quantizes the products with constant weights dynamically.
pub fn dynamic(onnx: &Onnx, known: &Facts) -> Result<(Onnx, Vec<LayerReport>)> {
    prepare::check_float(onnx)?;
    let mut onnx = onnx.clone();
    prepare::simplify(&mut onnx, known);
    opset::raise(&mut onnx, 13, known)?;
    let products: HashMap<usize, Product> =
        (0..onnx.nodes.len()).filter_map(|i| Some((i, product(&onnx, i)?))).collect();
    if products.is_empty() && stored(&onnx, false, &|_| true).is_empty() {
        return Err(Error::model("there is nothing to quantize: no product with a constant of floats")
            .advise(
                "--dynamic takes the constant weights of f32 of Conv, Gemm, MatMul, Gather and recurrent operators",
            ));
    }
    let (mut reports, mut old) = (Vec::new(), BTreeSet::new());
    let mut quantized: HashMap<String, [String; 3]> = HashMap::new();
    onnx.reserve_names();
    let middle = match products.values().any(|p| p.convolution) {
        true => onnx.add_constant("weights_zero_point", &integer(DType::U8, &[], &[MIDDLE])),
        false => String::new(),
    };
    let nodes = std::mem::take(&mut onnx.nodes);
    let mut made = Vec::with_capacity(nodes.len());
    let mut tables = Tables::default();
    for (i, node) in nodes.into_iter().enumerate() {
        let table = node.input(0).filter(|_| node.op() == "Gather").and_then(|n| onnx.floats(n));
        if table.is_some_and(|(shape, t)| shape.len() >= 2 && t.len() >= SMALL) {
            old.insert(node.inputs[0].clone());
            let (name, picked) = (node.name().to_string(), tables.pick(&mut onnx, node)?);
            reports.push(LayerReport::of_weights(&name, "Gather", picked.elements, picked.error));
            made.extend(picked.nodes);
            continue;
        }
        let Some(product) = products.get(&i) else {
            made.push(node);
            continue;
        };
        old.extend(node.inputs[1..].iter().cloned());
        let data = node.inputs[0].clone();
        if !quantized.contains_key(&data) {
            let names = ["quantized", "scale", "zero_point"].map(|w| onnx.fresh(&format!("{data}_{w}")));
            let outputs = [&names[0], &names[1], &names[2]].map(String::as_str);
            // Node names are optional, and long ones are much of a small model.
            made.push(Node::new("DynamicQuantizeLinear", "", &[&data], &outputs));
            quantized.insert(data.clone(), names);
        }
        reports.push(rewrite(&mut onnx, &node, product, &quantized[&data], &middle, &mut made));
    }
    onnx.nodes = made;
    onnx.drop_unread(&old);
    let rest = stored(&onnx, false, &|_| true);
    reports.extend(store_all(&mut onnx, &rest, DType::I8));
    Ok((onnx, reports))
}

fn product(onnx: &Onnx, index: usize) -> Option<Product> {
    let node = &onnx.nodes[index];
    let (shape, weights) = onnx.floats(node.input(1)?)?;
    let bias = |scale: f32| match node.input(2) {
        None => Some(None),
        Some(name) => {
            let (shape, values) = onnx.floats(name)?;
            let scaled: Vec<f32> = values.iter().map(|b| b * scale).collect();
            (shape.len() == 1).then(|| Some(scaled).filter(|s| s.iter().any(|&b| b != 0.0)))
        }
    };
    match node.op() {
        "MatMul" if shape.len() >= 2 => Some(Product { shape, weights, bias: None, convolution: false }),
        "Gemm" if node.int("transA", 0) == 0 => {
            let (alpha, bias) = (node.float("alpha", 1.0), bias(node.float("beta", 1.0))?);
            let (shape, weights) = match node.int("transB", 0) {
                0 => (shape, weights),
                _ => (vec![shape[1], shape[0]], transposed(&weights, shape[0], shape[1])),
            };
            let weights = weights.into_iter().map(|w| w * alpha).collect();
            let fits = bias.as_ref().is_none_or(|b: &Vec<f32>| b.len() == shape[1]);
            fits.then_some(Product { shape, weights, bias, convolution: false })
        }
        "Conv" => Some(Product { shape, weights, bias: bias(1.0)?, convolution: true }),
        _ => None,
    }
}

fn transposed(elements: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|c| (0..rows).map(move |r| elements[r * columns + c])).collect()
}

/// The nodes that take the place of one; `middle` is the zero point of unsigned weights.
fn rewrite(
    onnx: &mut Onnx,
    node: &Node,
    product: &Product,
    data: &[String; 3],
    middle: &str,
    made: &mut Vec<Node>,
) -> LayerReport {
    let shape = &product.shape;
    let axis = if product.convolution { 0 } else { shape.len() - 1 };
    let share = Share::Axis(axis);
    let found = quantize(shape, &product.weights, share, DType::I8, None, false);
    let report = LayerReport::of_weights(
        node.name(),
        node.op(),
        product.weights.len(),
        error(&product.weights, &found, share),
    );
    let output = node.output().to_string();
    let name = |what: &str| format!("{output}_{what}");
    let [sum, real, scale, scaled] = ["sum", "sum_float", "scale", "scaled"].map(|w| onnx.fresh(&name(w)));
    // Other runtimes convolve unsigned weights only.
    let (dtype, zero) = if product.convolution { (DType::U8, MIDDLE) } else { (DType::I8, 0) };
    let integers = found.values.to_i64s().unwrap_or_default();
    let integers: Vec<i64> = integers.iter().map(|q| q + zero).collect();
    let weights = onnx.add_constant(&name("weights"), &integer(dtype, shape, &integers));
    let spread = |count: usize| match product.convolution {
        true => [vec![count], vec![1; shape.len() - 2]].concat(),
        false => vec![count],
    };
    let factors = Tensor::new(spread(found.scales.len()), &found.scales);
    let factors = onnx.add_constant(&name("weights_scale"), &factors);
    let mut multiply = match product.convolution {
        true => node.clone(),
        false => Node::new("MatMulInteger", node.name(), &[], &[]),
    };
    if product.convolution {
        multiply.set_op("ConvInteger");
    }
    multiply.inputs = [&data[0], &weights, &data[2]].map(String::clone).to_vec();
    if product.convolution {
        multiply.inputs.push(middle.to_string());
    }
    multiply.outputs = vec![sum.clone()];
    let mut cast = Node::new("Cast", "", &[&sum], &[&real]);
    cast.set_int("to", i64::from(pb::tensor_proto::DataType::Float as i32));
    let last = if product.bias.is_some() { &scaled } else { &output };
    made.extend([
        multiply,
        cast,
        Node::new("Mul", "", &[&data[1], &factors], &[&scale]),
        Node::new("Mul", "", &[&real, &scale], &[last]),
    ]);
    if let Some(bias) = &product.bias {
        let bias = Tensor::new(spread(bias.len()), bias);
        let bias = onnx.add_constant(&name("bias"), &bias);
        made.push(Node::new("Add", "", &[&scaled, &bias], &[&output]));
    }
    report
}
