//! How far a quantized model's outputs are from those of the float model.

use crate::base::Tensor;
use crate::compress::observe::{Observed, Sample};
use crate::compress::onnx::Onnx;
use crate::error::Result;
use crate::run::compare::{Tolerance, compare};

/// The outputs of the float model for every sample.
pub struct Reference {
    names: Vec<String>,
    outputs: Vec<Vec<Tensor>>,
}

impl Reference {
    /// Runs the float model.
    pub fn new(onnx: &Onnx, samples: &[Sample]) -> Result<Reference> {
        let names: Vec<String> = onnx.outputs.iter().map(|o| o.name.clone()).collect();
        let mut observed = Observed::new(onnx, &[])?;
        let mut outputs = Vec::new();
        for sample in samples {
            outputs.push(observed.outputs(sample)?);
        }
        Ok(Reference { names, outputs })
    }

    /// Names of the outputs.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The least cosine of each output over the samples.
    pub fn cosines(&self, onnx: &Onnx, samples: &[Sample]) -> Result<Vec<f64>> {
        let any = Tolerance { rtol: 0.0, atol: f64::INFINITY };
        let mut observed = Observed::new(onnx, &[])?;
        let mut least = vec![1.0f64; self.names.len()];
        for (sample, wanted) in samples.iter().zip(&self.outputs) {
            for (i, (found, want)) in observed.outputs(sample)?.iter().zip(wanted).enumerate() {
                let cosine = compare(found, want, any).cosine;
                least[i] = if cosine.is_nan() { -1.0 } else { least[i].min(cosine) };
            }
        }
        Ok(least)
    }

    /// The least cosine of all outputs.
    pub fn cosine(&self, onnx: &Onnx, samples: &[Sample]) -> Result<f64> {
        Ok(self.cosines(onnx, samples)?.into_iter().fold(1.0, f64::min))
    }
}

/// The least cosine of each output of two models over the samples, by name; empty without samples.
pub fn compared(onnx: &Onnx, other: &Onnx, samples: &[Sample]) -> Result<Vec<(String, f64)>> {
    if samples.is_empty() {
        return Ok(Vec::new());
    }
    let reference = Reference::new(onnx, samples)?;
    let cosines = reference.cosines(other, samples)?;
    Ok(reference.names.iter().cloned().zip(cosines).collect())
}
