//! Brings a model into the form that is quantized: weights are constants, batch normalization is part
//! of the convolution before it.

use super::observe::{Facts, Sample, facts};
use super::onnx::Onnx;
use crate::base::Tensor;
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

/// Prepares a model; `sample` gives the shapes of its inputs.
pub fn prepare(onnx: &Onnx, sample: &Sample) -> Result<Onnx> {
    let mut onnx = onnx.clone();
    let known = facts(&onnx, sample)?;
    tidy(&mut onnx, &known);
    while fold_normalization(&mut onnx) {}
    Ok(onnx)
}

/// Removes what only renames, and makes initializers of what is computed from initializers alone.
pub fn tidy(onnx: &mut Onnx, known: &Facts) {
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

/// Makes initializers of the float tensors that are computed from initializers alone (transposed or
/// renamed weights), where nodes read them that are not.
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
        if read(output) && ty.dtype == crate::base::DType::F32 && ty.rank() > 0 {
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

/// Folds one BatchNormalization into the convolution that alone it reads; whether there was one.
fn fold_normalization(onnx: &mut Onnx) -> bool {
    let (readers, writers) = (onnx.readers(), onnx.writers());
    let found = (0..onnx.nodes.len()).find_map(|i| Some((i, foldable(onnx, i, &readers, &writers)?)));
    let Some((at, (conv, factors, bias))) = found else { return false };
    let node = onnx.nodes[conv].clone();
    let Some((shape, mut weights)) = onnx.floats(&node.inputs[1]) else { return false };
    let inner: usize = shape[1..].iter().product();
    weights.chunks_mut(inner.max(1)).zip(&factors).for_each(|(w, f)| w.iter_mut().for_each(|w| *w *= f));
    let old: BTreeSet<String> = node.inputs[1..].iter().chain(&onnx.nodes[at].inputs[1..]).cloned().collect();
    let name = onnx.add_constant(&format!("{}_normalized", node.inputs[1]), &Tensor::new(shape, &weights));
    let bias = Tensor::new([bias.len()], &bias);
    let bias = onnx.add_constant(&format!("{}_normalized_bias", node.inputs[1]), &bias);
    let output = onnx.nodes[at].output().to_string();
    let node = &mut onnx.nodes[conv];
    node.set_input(1, name);
    node.set_input(2, bias);
    node.outputs = vec![output];
    onnx.nodes.remove(at);
    onnx.drop_unread(&old);
    true
}

/// The convolution before a BatchNormalization, the factors of its channels, and its new bias.
fn foldable(
    onnx: &Onnx,
    at: usize,
    readers: &HashMap<String, Vec<usize>>,
    writers: &HashMap<String, usize>,
) -> Option<(usize, Vec<f32>, Vec<f32>)> {
    let node = &onnx.nodes[at];
    let single = node.outputs.iter().filter(|o| !o.is_empty()).count() == 1;
    if node.op() != "BatchNormalization" || !single || node.int("training_mode", 0) != 0 {
        return None;
    }
    let input = node.input(0)?;
    let conv = *writers.get(input)?;
    let before = &onnx.nodes[conv];
    if before.op() != "Conv" || readers.get(input)?.len() != 1 {
        return None;
    }
    onnx.floats(before.input(1)?)?;
    let list = |i: usize| Some(onnx.floats(node.input(i)?)?.1);
    let (scale, shift, mean, variance) = (list(1)?, list(2)?, list(3)?, list(4)?);
    let old = match before.input(2) {
        Some(name) => onnx.floats(name)?.1,
        None => vec![0.0; mean.len()],
    };
    let epsilon = f64::from(node.float("epsilon", 1e-5));
    let factor = |c: usize| f64::from(scale[c]) / (f64::from(variance[c]) + epsilon).sqrt();
    let factors: Vec<f64> = (0..mean.len()).map(factor).collect();
    let bias = |c: usize| f64::from(shift[c]) + (f64::from(old[c]) - f64::from(mean[c])) * factors[c];
    Some((
        conv,
        factors.iter().map(|&f| f as f32).collect(),
        (0..mean.len()).map(|c| bias(c) as f32).collect(),
    ))
}
