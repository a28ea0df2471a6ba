//! Dynamic quantization: weights are integers, activations become integers when they are computed.
//!
//! Each product takes the range of its data from DynamicQuantizeLinear, sums integers, and scales the
//! sum back to floats. LSTMs do so with their state at each step. Needs no samples, but rounds weights against those
//! that are given, and costs a pass over each tensor of data. Weights of operators that have no such form (other
//! recurrent ones, ConvTranspose) are integers in the file.

use super::compensate::{Item, Rounded};
use super::fitted::{Data, Made, fitted};
use super::grid::integer;
use super::logarithms;
use super::recurrent;
use super::report::LayerReport;
use super::stored::{SMALL, error, store_all, store_inner, stored};
use super::tables::Tables;
use super::tied::Tied;
use super::weights::{Quantized, Share, quantize, turned};
use crate::base::{DType, Tensor};
use crate::compress::observe::Known;
use crate::compress::onnx::{Node, Onnx};
use crate::compress::{bodies, opset, prepare};
use crate::error::{Error, Result};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use tract_onnx::pb;

/// Multiplications of an element of data, by all products that read it, from which on integers save more time than it
/// takes to find the range and to round to it (measured on Golden Cove: of 21 nets that it makes a difference to, 17 are
/// faster with 24 than with 16 at AVX2 and 18 with VNNI, by up to 20 %; with 32 ShuffleNetV2 takes 6 and 16 % more).
const WORTHWHILE: f64 = 24.0;

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
    /// The axis of the constant along which its channels lie.
    axis: usize,
    /// Whether the constant is `[columns, depth]`.
    transposed: bool,
}

impl Product {
    /// The channels of its weights have a scale each.
    fn share(&self) -> Share {
        Share::Axis(if self.convolution { 0 } else { self.shape.len() - 1 })
    }
}

/// Quantizes the products with constant weights dynamically.
pub fn dynamic(onnx: &Onnx, known: &Known, data: &Data) -> Result<Made> {
    prepare::check_float(onnx)?;
    let mut onnx = onnx.clone();
    prepare::simplify(&mut onnx, known);
    opset::raise(&mut onnx, 13, known)?;
    let logarithms = logarithms::products(&onnx);
    let products: BTreeMap<usize, Product> = (0..onnx.nodes.len())
        .filter(|i| !logarithms.contains(i))
        .filter_map(|i| Some((i, product(&onnx, i)?)))
        .collect();
    let products = worthwhile(&onnx, products);
    if products.is_empty() && stored(&onnx, false, &|_| true).is_empty() && bodies::weights(&onnx).is_empty()
    {
        return Err(Error::model("there is nothing to quantize: no product with a constant of floats")
            .advise(
                "--dynamic takes the constant weights of f32 of Conv, Gemm, MatMul, Gather and recurrent operators",
            ));
    }
    let item = |(&node, product): (&usize, &Product)| {
        // A scale of the whole turns the signs where it is negative.
        let plain = onnx.nodes[node].float("alpha", 1.0) == 1.0;
        plain.then_some(Item { node, share: Share::Axis(product.axis), dtype: DType::I8 })
    };
    let items: Vec<Item> = products.iter().filter_map(item).collect();
    let lstms = recurrent::suited(&onnx, data.samples)?;
    fitted(&onnx, &items, data, |rounded| rewritten(&onnx, &products, &lstms, rounded))
}

/// The products that gain time; those that come nearest to it in a model in which none does, since they were asked for.
fn worthwhile(onnx: &Onnx, mut products: BTreeMap<usize, Product>) -> BTreeMap<usize, Product> {
    let mut shared: HashMap<&str, f64> = HashMap::new();
    for (&node, product) in &products {
        let node = &onnx.nodes[node];
        *shared.entry(&node.inputs[0]).or_default() += multiplications(node, product);
    }
    let least = shared.values().fold(0.0, |most: f64, &times| most.max(times)).min(WORTHWHILE);
    products.retain(|&node, _| shared[onnx.nodes[node].inputs[0].as_str()] >= least);
    products
}

/// How often a product multiplies each element of its data. Filters of single channels do not count: they gain too
/// little, however large they are.
fn multiplications(node: &Node, product: &Product) -> f64 {
    if !product.convolution {
        return product.shape.last().map_or(0.0, |&columns| columns as f64);
    }
    let groups = node.int("group", 1);
    if groups > 1 && product.shape[1] == 1 {
        return 0.0;
    }
    let channels = product.shape[1] as i64 * groups;
    let strides = node.ints("strides").iter().product::<i64>();
    product.weights.len() as f64 / (channels * strides).max(1) as f64
}

/// The model with all products rewritten, and some LSTMs.
fn rewritten(
    onnx: &Onnx,
    products: &BTreeMap<usize, Product>,
    lstms: &BTreeSet<usize>,
    rounded: &Rounded,
) -> Result<Made> {
    let mut onnx = onnx.clone();
    let (mut reports, mut old) = (Vec::new(), BTreeSet::new());
    let mut quantized: HashMap<String, [String; 3]> = HashMap::new();
    onnx.reserve_names();
    let middle = match products.values().any(|p| p.convolution) {
        true => onnx.add_constant("weights_zero_point", &integer(DType::U8, &[], &[MIDDLE])),
        false => String::new(),
    };
    let nodes = std::mem::take(&mut onnx.nodes);
    let mut made = Vec::with_capacity(nodes.len());
    let (mut tables, mut shared) = (Tables::default(), Shared::new());
    let (tied, mut weights) = (tied(&onnx, &nodes, products), Rounded::new());
    for (i, node) in nodes.into_iter().enumerate() {
        let table = node.input(0).filter(|n| node.op() == "Gather" && !tied.contains_key(*n));
        let table = table.and_then(|n| onnx.floats(n));
        if table.is_some_and(|(shape, t)| shape.len() >= 2 && t.len() >= SMALL) {
            old.insert(node.inputs[0].clone());
            let (name, picked) = (node.name().to_string(), tables.pick(&mut onnx, node)?);
            reports.push(LayerReport::of_weights(&name, "Gather", picked.elements, picked.error));
            made.extend(picked.nodes);
            continue;
        }
        let lstm = lstms.contains(&i).then(|| recurrent::rewritten(&mut onnx, &node)).flatten();
        if let Some((lstm, layers)) = lstm {
            old.extend(node.inputs[1..3].iter().cloned());
            made.push(lstm);
            reports.extend(layers);
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
        let around = Around { data: &quantized[&data], middle: &middle };
        let found = integers(&node, product, rounded);
        reports.push(rewrite(&mut onnx, &node, (product, &found), &around, &mut shared, &mut made));
        if tied.values().any(|name| *name == node.inputs[1]) {
            weights.insert(node.inputs[1].clone(), found);
        }
    }
    onnx.nodes = made;
    onnx.drop_unread(&old);
    reports.extend(store_rest(&mut onnx, &tied, &weights));
    Ok(Made { onnx, layers: reports })
}

/// Stores what is left of weights as integers, tables as those of the weights that they are tied to.
fn store_rest(onnx: &mut Onnx, tied: &BTreeMap<String, String>, weights: &Rounded) -> Vec<LayerReport> {
    let mut rest = stored(onnx, false, &|_| true);
    for item in &mut rest {
        if let Some(name) = tied.get(&onnx.nodes[item.node].inputs[item.input]) {
            item.share = Share::Axis(0);
            item.tied = Some(Tied { name: name.clone(), exchanged: true });
        }
    }
    let mut reports = store_all(onnx, &rest, DType::I8, weights);
    reports.extend(store_inner(onnx, &BTreeSet::new()));
    reports
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
        "MatMul" if shape.len() >= 2 => {
            let axis = shape.len() - 1;
            Some(Product { shape, weights, bias: None, convolution: false, axis, transposed: false })
        }
        "Gemm" if node.int("transA", 0) == 0 => {
            let (alpha, bias) = (node.float("alpha", 1.0), bias(node.float("beta", 1.0))?);
            let transposed = node.int("transB", 0) != 0;
            let (shape, weights) = match transposed {
                false => (shape, weights),
                true => (vec![shape[1], shape[0]], turned(&weights, shape[0], shape[1])),
            };
            let axis = usize::from(!transposed);
            let weights = weights.into_iter().map(|w| w * alpha).collect();
            let fits = bias.as_ref().is_none_or(|b: &Vec<f32>| b.len() == shape[1]);
            fits.then_some(Product { shape, weights, bias, convolution: false, axis, transposed })
        }
        "Conv" => {
            let bias = bias(1.0)?;
            Some(Product { shape, weights, bias, convolution: true, axis: 0, transposed: false })
        }
        _ => None,
    }
}

/// The tables of which rows are picked that a product's weights are with rows and columns exchanged; by name, with that
/// of the weights.
fn tied(onnx: &Onnx, nodes: &[Node], products: &BTreeMap<usize, Product>) -> BTreeMap<String, String> {
    let mut tied = BTreeMap::new();
    for node in nodes.iter().filter(|n| n.op() == "Gather" && n.int("axis", 0) == 0) {
        let Some((shape, rows)) = node.input(0).and_then(|n| onnx.floats(n)) else { continue };
        let same = |product: &&usize| {
            let Product { shape: of, weights, convolution, .. } = &products[*product];
            matches!(of[..], [k, n] if !convolution && shape == [n, k] && turned(weights, k, n) == rows)
        };
        if let Some(product) = products.keys().find(same) {
            tied.insert(node.inputs[0].clone(), nodes[*product].inputs[1].clone());
        }
    }
    tied
}

/// The integers of a product's weights.
fn integers(node: &Node, product: &Product, rounded: &Rounded) -> Quantized {
    let shape = &product.shape;
    let mut found = quantize(shape, &product.weights, product.share(), DType::I8, None, false);
    if let Some(integers) = rounded.get(&node.inputs[1]).and_then(|r| r.values.to_i64s()) {
        let turned = if product.transposed { turned(&integers, shape[1], shape[0]) } else { integers };
        found.set_integers(&turned);
    }
    found
}

/// What a product is rewritten with.
struct Around<'a> {
    /// Its data as integers, their scale and zero point.
    data: &'a [String; 3],
    /// The zero point of unsigned weights.
    middle: &'a str,
}

/// Names of weights and of their scales, by those of the constants and what is made of them.
type Shared = HashMap<Key, [String; 2]>;

/// The initializer, whether it is transposed, its factor's bits, and the type it is stored in.
type Key = (String, bool, u32, DType);

/// The nodes that take the place of one; layers that have the same weights share theirs.
fn rewrite(
    onnx: &mut Onnx,
    node: &Node,
    (product, found): (&Product, &Quantized),
    around: &Around,
    shared: &mut Shared,
    made: &mut Vec<Node>,
) -> LayerReport {
    let Around { data, middle } = around;
    let report = LayerReport::of_weights(
        node.name(),
        node.op(),
        product.weights.len(),
        error(&product.weights, found, product.share()),
    );
    let [sum, real, scale, scaled] =
        ["sum", "sum_float", "scale", "scaled"].map(|w| onnx.fresh(&beside(node, w)));
    let [weights, factors] =
        shared.entry(key(node, product)).or_insert_with(|| constants(onnx, node, product, found)).clone();
    let mut multiply = match product.convolution {
        true => node.clone(),
        false => Node::new("MatMulInteger", node.name(), &[], &[]),
    };
    multiply.inputs = [&data[0], &weights, &data[2]].map(String::clone).to_vec();
    if product.convolution {
        multiply.set_op("ConvInteger");
        multiply.inputs.push(middle.to_string());
    }
    multiply.outputs = vec![sum.clone()];
    let mut cast = Node::new("Cast", "", &[&sum], &[&real]);
    cast.set_int("to", i64::from(pb::tensor_proto::DataType::Float as i32));
    let last = if product.bias.is_some() { &scaled } else { node.output() };
    made.extend([
        multiply,
        cast,
        Node::new("Mul", "", &[&data[1], &factors], &[&scale]),
        Node::new("Mul", "", &[&real, &scale], &[last]),
    ]);
    if let Some(bias) = &product.bias {
        let bias = Tensor::new(along_channels(product, bias.len()), bias);
        let bias = onnx.add_constant(&beside(node, "bias"), &bias);
        made.push(Node::new("Add", "", &[&scaled, &bias], &[node.output()]));
    }
    report
}

/// A name for what is computed on the way to a node's output.
fn beside(node: &Node, what: &str) -> String {
    format!("{}_{what}", node.output())
}

/// The type of a product's constant weights, and their zero point: other runtimes convolve unsigned ones only.
fn integer_type(product: &Product) -> (DType, i64) {
    if product.convolution { (DType::U8, MIDDLE) } else { (DType::I8, 0) }
}

/// What products of the same constants have in common.
fn key(node: &Node, product: &Product) -> Key {
    let alpha = node.float("alpha", 1.0).to_bits();
    (node.inputs[1].clone(), product.transposed, alpha, integer_type(product).0)
}

/// The shape of a number per channel that is broadcast to a product's output.
fn along_channels(product: &Product, count: usize) -> Vec<usize> {
    match product.convolution {
        true => [vec![count], vec![1; product.shape.len() - 2]].concat(),
        false => vec![count],
    }
}

/// The constants of quantized weights: these, and their scales.
fn constants(onnx: &mut Onnx, node: &Node, product: &Product, found: &Quantized) -> [String; 2] {
    let (dtype, zero) = integer_type(product);
    let integers = found.values.to_i64s().unwrap_or_default();
    let integers: Vec<i64> = integers.iter().map(|q| q + zero).collect();
    let factors = Tensor::new(along_channels(product, found.scales.len()), &found.scales);
    [
        onnx.add_constant(&beside(node, "weights"), &integer(dtype, &product.shape, &integers)),
        onnx.add_constant(&beside(node, "weights_scale"), &factors),
    ]
}
