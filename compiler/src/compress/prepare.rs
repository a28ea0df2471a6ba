//! Brings a model into the form that is quantized: weights are constants, batch normalization is part
//! of the layer before it, branches that are added are one layer.

use super::observe::{Facts, Sample, facts};
use super::onnx::{Node, Onnx};
use super::{bodies, branches};
use crate::base::{DType, Tensor};
use crate::error::{Error, Result};
use std::collections::{BTreeSet, HashMap, HashSet};

/// Operators of integers: a model with them is quantized already.
const QUANTIZED: &[&str] = &[
    "QuantizeLinear",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "QLinearConv",
    "QLinearMatMul",
    "ConvInteger",
    "MatMulInteger",
];

/// Refuses models that are quantized already.
pub fn check_float(onnx: &Onnx) -> Result<()> {
    match onnx.nodes.iter().find(|n| QUANTIZED.contains(&n.op())) {
        Some(node) => Err(Error::model("the model is quantized already")
            .advise("Give the model in float that it was made of")
            .at(node.place())),
        None => Ok(()),
    }
}

/// Constants other than weights are computed ahead up to so many elements: larger ones may be smaller
/// as what they are computed from.
const SMALL: usize = 1024;

/// Prepares a model; `sample` gives the shapes of its inputs.
pub fn prepare(onnx: &Onnx, sample: &Sample) -> Result<Onnx> {
    let mut onnx = onnx.clone();
    let known = facts(&onnx, sample)?;
    simplify(&mut onnx, &known);
    Ok(onnx)
}

/// [`tidy`], batch normalization becomes part of the layers before it, and layers whose results are added one.
pub fn simplify(onnx: &mut Onnx, known: &Facts) {
    tidy(onnx, known);
    while fold_normalization(onnx) || branches::merge(onnx, known) {}
}

/// Removes what only renames, makes initializers of what is computed from initializers alone, and constants of the
/// model of weights in bodies.
pub fn tidy(onnx: &mut Onnx, known: &Facts) {
    bodies::hoist(onnx);
    drop_identities(onnx);
    constants(onnx, known);
}

/// Lets the readers of an Identity read what it reads; those that write outputs of the model, or what
/// subgraphs read, stay.
fn drop_identities(onnx: &mut Onnx) {
    let readers = onnx.readers();
    let mut sources: HashMap<String, String> = HashMap::new();
    onnx.nodes.retain_mut(|node| {
        for input in &mut node.inputs {
            if let Some(source) = sources.get(input) {
                *input = source.clone();
            }
        }
        let needed = readers.get(node.output()).is_some_and(|r| r.contains(&usize::MAX));
        let gone = node.op() == "Identity" && !needed && node.input(0).is_some();
        if gone {
            sources.insert(node.output().to_string(), node.inputs[0].clone());
        }
        !gone
    });
}

/// Makes initializers of what is computed from initializers alone (transposed or renamed weights, the
/// shapes and paddings that exporters compute), where nodes read it that are not.
fn constants(onnx: &mut Onnx, known: &Facts) {
    let mut fixed: HashSet<String> = onnx.initializers.iter().map(|i| i.proto.name.clone()).collect();
    let mut computed = Vec::new();
    for (i, node) in onnx.nodes.iter().enumerate() {
        let plain = node.captured().is_empty() && !node.op().starts_with("Random");
        if plain && node.inputs.iter().all(|n| n.is_empty() || fixed.contains(n)) && node.op() != "" {
            fixed.extend(node.outputs.iter().cloned());
            if node.op() != "Constant" {
                computed.push(i);
            }
        }
    }
    let read = |name: &String| {
        onnx.nodes.iter().enumerate().any(|(i, n)| !computed.contains(&i) && n.inputs.contains(name))
            || onnx.outputs.iter().any(|o| o.name == *name)
            || onnx.nodes.iter().any(|n| n.captured().contains(name.as_str()))
    };
    let mut found: Vec<(usize, String, Tensor)> = Vec::new();
    for &i in &computed {
        let [output] = onnx.nodes[i].outputs.as_slice() else { continue };
        let Some((ty, Some(tensor))) = known.get(output) else { continue };
        let weights = ty.dtype == DType::F32 && ty.rank() > 0;
        if read(output) && (weights || ty.elems() <= SMALL) {
            found.push((i, output.clone(), tensor.clone()));
        }
    }
    let mut candidates: BTreeSet<String> = BTreeSet::new();
    for (i, name, tensor) in &found {
        candidates.extend(onnx.nodes[*i].inputs.iter().cloned());
        onnx.set_constant(name, tensor);
    }
    let gone: HashSet<usize> = found.iter().map(|f| f.0).collect();
    let names = computed.iter().flat_map(|&i| onnx.nodes[i].outputs.iter().cloned()).collect();
    let mut index = 0;
    onnx.nodes.retain(|_| {
        index += 1;
        !gone.contains(&(index - 1))
    });
    drop_unread_nodes(onnx, &names, &mut candidates);
    onnx.drop_unread(&candidates);
}

/// Removes the nodes whose outputs are among `names` and read by nothing; what they read is added to
/// `sources`.
fn drop_unread_nodes(onnx: &mut Onnx, names: &HashSet<String>, sources: &mut BTreeSet<String>) {
    loop {
        let (before, readers) = (onnx.nodes.len(), onnx.readers());
        onnx.nodes.retain(|node| {
            let unread = |o: &String| names.contains(o) && !readers.contains_key(o);
            let gone = node.outputs.iter().all(|o| o.is_empty() || unread(o));
            if gone {
                sources.extend(node.inputs.iter().cloned());
            }
            !gone
        });
        if onnx.nodes.len() == before {
            return;
        }
    }
}

/// Folds one BatchNormalization into the layer that alone it reads; whether there was one.
fn fold_normalization(onnx: &mut Onnx) -> bool {
    let (readers, writers) = (onnx.readers(), onnx.writers());
    let found = (0..onnx.nodes.len()).find_map(|i| Some((i, foldable(onnx, i, &readers, &writers)?)));
    let Some((at, found)) = found else { return false };
    let Foldable { layer, axis, factors, bias } = found;
    let node = onnx.nodes[layer].clone();
    let Some((shape, mut weights)) = onnx.floats(&node.inputs[1]) else { return false };
    let inner: usize = shape[axis + 1..].iter().product::<usize>().max(1);
    weights.iter_mut().enumerate().for_each(|(i, w)| *w *= factors[i / inner % factors.len()]);
    let old: BTreeSet<String> = node.inputs[1..].iter().chain(&onnx.nodes[at].inputs[1..]).cloned().collect();
    let name = onnx.add_constant(&format!("{}_normalized", node.inputs[1]), &Tensor::new(shape, &weights));
    let bias = Tensor::new([bias.len()], &bias);
    let bias = onnx.add_constant(&format!("{}_normalized_bias", node.inputs[1]), &bias);
    let output = onnx.nodes[at].output().to_string();
    let node = &mut onnx.nodes[layer];
    node.set_input(1, name);
    node.set_input(2, bias);
    node.outputs = vec![output];
    onnx.nodes.remove(at);
    onnx.drop_unread(&old);
    true
}

/// A layer that takes the BatchNormalization behind it.
struct Foldable {
    layer: usize,
    /// The axis of its weights along which its channels lie.
    axis: usize,
    /// What the weights of each channel are multiplied with.
    factors: Vec<f32>,
    /// Its new bias.
    bias: Vec<f32>,
}

/// The axis of a layer's weights along which its channels lie, where a factor per channel can go into them.
fn channel_axis(node: &Node) -> Option<usize> {
    match node.op() {
        "Conv" => Some(0),
        "ConvTranspose" => (node.int("group", 1) == 1).then_some(1),
        "Gemm" => {
            let plain = node.float("alpha", 1.0) == 1.0 && node.float("beta", 1.0) == 1.0;
            plain.then_some(usize::from(node.int("transB", 0) == 0))
        }
        _ => None,
    }
}

/// What a BatchNormalization multiplies each channel with, and what it then adds.
pub fn factors(onnx: &Onnx, node: &Node, channels: usize) -> Option<(Vec<f64>, Vec<f64>)> {
    let single = node.outputs.iter().filter(|o| !o.is_empty()).count() == 1;
    if !single || node.int("training_mode", 0) != 0 {
        return None;
    }
    let list = |name: &str| Some(onnx.floats(name)?.1).filter(|l| l.len() == channels);
    let [scale, shift, mean, variance] =
        [list(node.input(1)?)?, list(node.input(2)?)?, list(node.input(3)?)?, list(node.input(4)?)?];
    let epsilon = f64::from(node.float("epsilon", 1e-5));
    let factor = |c: usize| f64::from(scale[c]) / (f64::from(variance[c]) + epsilon).sqrt();
    let factors: Vec<f64> = (0..channels).map(factor).collect();
    let shifts = (0..channels).map(|c| f64::from(shift[c]) - f64::from(mean[c]) * factors[c]).collect();
    Some((factors, shifts))
}

/// The layer before a BatchNormalization, if it can take that.
fn foldable(
    onnx: &Onnx,
    at: usize,
    readers: &HashMap<String, Vec<usize>>,
    writers: &HashMap<String, usize>,
) -> Option<Foldable> {
    let node = &onnx.nodes[at];
    if node.op() != "BatchNormalization" {
        return None;
    }
    let input = node.input(0)?;
    let layer = *writers.get(input)?;
    let before = &onnx.nodes[layer];
    let axis = channel_axis(before)?;
    if readers.get(input)?.len() != 1 {
        return None;
    }
    let channels = *onnx.floats(before.input(1)?)?.0.get(axis)?;
    let (factors, shifts) = factors(onnx, node, channels)?;
    let old = match before.input(2) {
        Some(name) => Some(onnx.floats(name)?.1).filter(|l| l.len() == channels)?,
        None => vec![0.0; channels],
    };
    let bias = |c: usize| shifts[c] + f64::from(old[c]) * factors[c];
    Some(Foldable {
        layer,
        axis,
        factors: factors.iter().map(|&f| f as f32).collect(),
        bias: (0..channels).map(|c| bias(c) as f32).collect(),
    })
}
