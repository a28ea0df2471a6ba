//! Brings a model into the form that is quantized: weights are constants, batch normalization is part
//! of the layer before it, branches that are added are one layer.

use super::observe::{Known, Sample, known};
use super::onnx::Onnx;
use super::{bodies, branches, normalization};
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
/// Bytes of weights that are computed ahead: what a file can hold.
const MOST: usize = 1 << 31;

/// Prepares a model; `sample` gives the shapes of its inputs.
pub fn prepare(onnx: &Onnx, sample: &Sample) -> Result<Onnx> {
    let mut onnx = onnx.clone();
    let known = known(&onnx, sample)?;
    simplify(&mut onnx, &known);
    Ok(onnx)
}

/// [`tidy`], batch normalization becomes part of the layers before it, and layers whose results are added one.
pub fn simplify(onnx: &mut Onnx, known: &Known) {
    tidy(onnx, known);
    while normalization::fold(onnx) || branches::merge(onnx, known) {}
}

/// Removes what only renames, makes initializers of what is computed from initializers alone, and constants of the
/// model of weights in bodies.
pub fn tidy(onnx: &mut Onnx, known: &Known) {
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
fn constants(onnx: &mut Onnx, known: &Known) {
    let mut fixed: HashSet<String> = onnx.initializers.iter().map(|i| i.proto.name.clone()).collect();
    let mut computed: BTreeSet<usize> = BTreeSet::new();
    for (i, node) in onnx.nodes.iter().enumerate() {
        let plain = node.captured().is_empty() && !node.op().starts_with("Random");
        if plain && node.inputs.iter().all(|n| n.is_empty() || fixed.contains(n)) && node.op() != "" {
            fixed.extend(node.outputs.iter().cloned());
            if node.op() != "Constant" {
                computed.insert(i);
            }
        }
    }
    let readers = onnx.readers();
    let read = |name: &String| readers.get(name).is_some_and(|r| r.iter().any(|i| !computed.contains(i)));
    let mut found: Vec<(usize, String, Tensor)> = Vec::new();
    let mut held = 0usize;
    for &i in &computed {
        let [output] = onnx.nodes[i].outputs.as_slice() else { continue };
        let Some((ty, Some(tensor))) = known.get(output) else { continue };
        let weights = ty.dtype == DType::F32 && ty.rank() > 0;
        if read(output) && (weights || ty.elems() <= SMALL) && held.saturating_add(ty.bytes()) <= MOST {
            held += ty.bytes();
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
