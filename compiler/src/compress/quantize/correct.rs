//! Bias correction: what rounding shifts the mean of a layer's channels by is taken off its bias.
//!
//! Each layer is measured by itself, its quantized form on the float model's values, so that the
//! corrections do not depend on each other. They are kept where the outputs get better.

use super::facts::Layer;
use super::plan::Plan;
use super::{Candidate, Changes, Work};
use crate::base::Tensor;
use crate::compress::onnx::Onnx;
use crate::error::Result;
use std::collections::BTreeMap;

/// Where the bias of a layer is.
enum Bias {
    /// An initializer: the layer's own, or that of the addition after it.
    Constant(String),
    /// There is none as yet.
    Missing,
}

impl Work<'_> {
    /// The candidate with corrected biases, where that is better.
    pub(super) fn corrected(&self, candidate: Candidate) -> Result<Candidate> {
        let own = self.own_errors("correcting", &candidate)?;
        let shifts = own.into_iter().map(|own| (own.node, own.shift)).collect();
        let found = self.candidate(
            &candidate.plan,
            candidate.method,
            &Changes { shifts, ..candidate.changes.clone() },
        )?;
        Ok(if found.cosine > candidate.cosine { found } else { candidate })
    }

    /// The float model with the biases of the plan's layers shifted; layers of the plan without a bias
    /// get one.
    pub(super) fn biased(&self, plan: &mut Plan, shifts: &BTreeMap<usize, Vec<f64>>) -> Onnx {
        let mut float = self.onnx.clone();
        for layer in plan.layers.iter_mut() {
            let Some(shift) = shifts.get(&layer.node) else { continue };
            match self.bias(layer) {
                Some(Bias::Constant(name)) => {
                    if let Some((shape, old)) = float.floats(&name).filter(|(_, b)| b.len() == shift.len()) {
                        float.set_constant(&name, &Tensor::new(shape, &shifted(&old, shift)));
                    }
                }
                Some(Bias::Missing) => layer.bias = Some(add_bias(&mut float, layer.node, shift)),
                None => {}
            }
        }
        float
    }

    /// The bias that takes the correction of a layer, if nothing else reads it.
    fn bias(&self, layer: &Layer) -> Option<Bias> {
        layer.weights.as_ref()?;
        let readers = self.onnx.readers();
        let node = &self.onnx.nodes[layer.node];
        let name = match (node.op(), &layer.bias) {
            ("Conv", None) if node.input(2).is_none() => return Some(Bias::Missing),
            (_, Some(name)) => name.clone(),
            ("MatMul", None) => {
                let [reader] = readers.get(node.output())?.as_slice() else { return None };
                let add = self.onnx.nodes.get(*reader).filter(|n| n.op() == "Add")?;
                let other = add.inputs.iter().find(|n| *n != node.output())?;
                let (shape, _) = self.onnx.floats(other)?;
                (shape.len() == 1 && shape[0] > 1).then(|| other.clone())?
            }
            _ => return None,
        };
        (readers.get(&name)?.len() == 1).then_some(Bias::Constant(name))
    }
}

fn shifted(old: &[f32], shift: &[f64]) -> Vec<f32> {
    old.iter().zip(shift).map(|(&b, s)| (f64::from(b) + s) as f32).collect()
}

fn add_bias(onnx: &mut Onnx, node: usize, shift: &[f64]) -> String {
    let bias = Tensor::new([shift.len()], &shifted(&vec![0.0; shift.len()], shift));
    let name = format!("{}_bias", onnx.nodes[node].output());
    let name = onnx.add_constant(&name, &bias);
    onnx.nodes[node].set_input(2, &name);
    name
}
