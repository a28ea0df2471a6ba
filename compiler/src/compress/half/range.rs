//! Which values of a model half precision cannot hold: measured on samples.
//!
//! Constants that are too large are often masks, for which the largest half does as well. Whether it does is
//! measured, too: the outputs of the model with these constants cut must stay what they are.

use crate::base::{DType, Tensor};
use crate::build::Observer;
use crate::compress::observe::{Known, Observed, Sample};
use crate::compress::onnx::Onnx;
use crate::compress::quantize::Reference;
use crate::error::Result;
use half::f16;
use std::collections::BTreeMap;

/// Values outside of half precision, by name, with the largest magnitude that they have.
pub(super) type Outside = BTreeMap<String, f32>;

/// Bytes of values that are looked at together.
const AT_ONCE: usize = 1 << 28;
/// With cut constants, all outputs have at least this cosine with those of the model.
const SAME: f64 = 0.99999;

/// The values that are too large, or all too small, on some sample.
pub(super) fn outside(
    onnx: &Onnx,
    known: &Known,
    samples: &[Sample],
    observer: &dyn Observer,
) -> Result<Outside> {
    let mut found = Outside::new();
    if samples.is_empty() {
        return Ok(found);
    }
    let large = large_constants(onnx);
    let mut model = cut(onnx, &large);
    if !large.is_empty() && Reference::new(onnx, samples)?.cosine(&model, samples)? < SAME {
        model = onnx.clone();
        found = large.iter().map(|(name, tensor)| (name.clone(), largest(tensor))).collect();
    }
    let parts = parts(onnx, known);
    for (part, names) in parts.iter().enumerate() {
        let mut observed = Observed::new(&model, names)?;
        let mut most: BTreeMap<String, f32> = BTreeMap::new();
        for (i, sample) in samples.iter().enumerate() {
            observer.progress("measuring", part * samples.len() + i, parts.len() * samples.len());
            for (name, tensor) in observed.run(sample)? {
                let reach = most.entry(name).or_default();
                *reach = reach.max(largest(&tensor));
            }
        }
        let least = f32::from(f16::MIN_POSITIVE);
        found.extend(most.into_iter().filter(|(_, m)| is_large(*m) || (*m > 0.0 && *m < least)));
    }
    Ok(found)
}

/// Whether a number is too large for half precision.
pub(super) fn is_large(x: f32) -> bool {
    x.is_finite() && f16::from_f32(x).is_infinite()
}

/// Whether a tensor has numbers that are too large.
pub(super) fn exceeds(tensor: &Tensor) -> bool {
    tensor.to_vec::<f32>().is_some_and(|list| list.iter().any(|&x| is_large(x)))
}

/// The largest magnitude of finite elements.
fn largest(tensor: &Tensor) -> f32 {
    let list = tensor.to_vec::<f32>().unwrap_or_default();
    list.iter().filter(|x| x.is_finite()).fold(0.0, |most, x| most.max(x.abs()))
}

/// The constants with elements that are too large.
fn large_constants(onnx: &Onnx) -> Vec<(String, Tensor)> {
    let nodes = onnx.nodes.iter().filter(|n| n.op() == "Constant").map(|n| n.output());
    let names = onnx.initializers.iter().map(|i| i.proto.name.as_str()).chain(nodes);
    let large = |name: &str| Some((name.to_string(), onnx.constant(name).filter(exceeds)?));
    names.filter_map(large).collect()
}

/// The model with some constants cut to what half precision holds.
fn cut(onnx: &Onnx, constants: &[(String, Tensor)]) -> Onnx {
    let (mut onnx, most) = (onnx.clone(), f32::from(f16::MAX));
    for (name, tensor) in constants {
        let cut: Vec<f32> =
            tensor.to_vec::<f32>().unwrap_or_default().iter().map(|x| x.clamp(-most, most)).collect();
        onnx.set_constant(name, &Tensor::new(tensor.ty.shape.clone(), &cut));
    }
    onnx
}

/// The computed values of `f32`, in parts of so many bytes.
fn parts(onnx: &Onnx, known: &Known) -> Vec<Vec<String>> {
    let (mut parts, mut bytes) = (vec![Vec::new()], 0);
    for name in onnx.nodes.iter().filter(|n| n.op() != "Constant").flat_map(|n| &n.outputs) {
        let Some((ty, _)) = known.get(name).filter(|v| v.0.dtype == DType::F32) else { continue };
        bytes += ty.bytes();
        if bytes > AT_ONCE {
            parts.push(Vec::new());
            bytes = ty.bytes();
        }
        parts.last_mut().into_iter().for_each(|part: &mut Vec<String>| part.push(name.clone()));
    }
    parts.retain(|p| !p.is_empty());
    parts
}
