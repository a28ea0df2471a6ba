//! How far a quantized model's outputs are from those of the float model.

use crate::base::{Tensor, TensorType};
use crate::compress::observe::{Observed, Sample};
use crate::compress::onnx::Onnx;
use crate::error::{Error, Result};
use crate::run::compare::{Tolerance, compare};
use crate::run::limits;
use std::borrow::Cow;

/// The outputs of the float model for every sample.
pub struct Reference {
    names: Vec<String>,
    outputs: Vec<Vec<Tensor>>,
}

impl Reference {
    /// Runs the float model; an error where the outputs for all samples are larger than what a run may hold.
    pub fn new(onnx: &Onnx, samples: &[Sample]) -> Result<Reference> {
        let names: Vec<String> = onnx.outputs.iter().map(|o| o.name.clone()).collect();
        let mut observed = Observed::new(onnx, &[])?;
        let mut outputs = Vec::new();
        for sample in samples {
            let found = observed.outputs(sample)?;
            if outputs.is_empty() {
                let types: Vec<TensorType> = found.iter().map(|t| t.ty.clone()).collect();
                let advised = |e: Error| e.advise("Give fewer samples, or models with smaller outputs");
                limits::check_data(&types, samples.len()).map_err(advised)?;
            }
            outputs.push(found);
        }
        Ok(Reference { names, outputs })
    }

    /// Names of the outputs.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The least cosine of each output over the samples; of outputs of one element, which has no direction, that
    /// of all samples together.
    pub fn cosines(&self, onnx: &Onnx, samples: &[Sample]) -> Result<Vec<f64>> {
        let mut observed = Observed::new(onnx, &[])?;
        let mut found = Vec::new();
        for sample in samples {
            found.push(observed.outputs(sample)?);
        }
        let pairs = |output: usize| {
            let pair =
                |(f, w): (&Vec<Tensor>, &Vec<Tensor>)| Some((f.get(output)?.clone(), w.get(output)?.clone()));
            found.iter().zip(&self.outputs).filter_map(pair).collect::<Vec<_>>()
        };
        Ok((0..self.names.len()).map(|output| least(&pairs(output))).collect())
    }

    /// The least cosine of all outputs.
    pub fn cosine(&self, onnx: &Onnx, samples: &[Sample]) -> Result<f64> {
        Ok(self.cosines(onnx, samples)?.into_iter().fold(1.0, f64::min))
    }
}

/// The least cosine of pairs of what is found and wanted; that of the whole where each has one element. Where data
/// decide how many there are, what one lacks is zero.
fn least(pairs: &[(Tensor, Tensor)]) -> f64 {
    let any = Tolerance { rtol: 0.0, atol: f64::INFINITY };
    let cosine =
        |(found, wanted): &(Tensor, Tensor)| match compare(&like(found, wanted), &like(wanted, found), any)
            .cosine
        {
            none if none.is_nan() => -1.0,
            cosine => cosine,
        };
    if pairs.len() > 1
        && pairs.iter().all(|(f, w)| f.ty == w.ty && w.ty == pairs[0].1.ty && w.ty.elems() == 1)
    {
        return cosine(&(together(pairs.iter().map(|p| &p.0)), together(pairs.iter().map(|p| &p.1))));
    }
    pairs.iter().map(cosine).fold(1.0, f64::min)
}

/// A tensor as it is; flat, followed by zeros up to the number of elements of the other, where their shapes differ.
fn like<'t>(tensor: &'t Tensor, other: &Tensor) -> Cow<'t, Tensor> {
    if tensor.ty.shape == other.ty.shape {
        return Cow::Borrowed(tensor);
    }
    let elements = tensor.ty.elems().max(other.ty.elems());
    let mut data = tensor.data.to_vec();
    data.resize(elements * tensor.ty.dtype.size(), 0);
    Cow::Owned(Tensor { ty: TensorType::new(tensor.ty.dtype, [elements]), data: data.into() })
}

/// Tensors of one type as one of a row each.
fn together<'t>(mut tensors: impl Iterator<Item = &'t Tensor>) -> Tensor {
    let Some(first) = tensors.next() else { return Tensor::new([0], &[0.0f32; 0]) };
    let (mut data, mut count) = (first.data.to_vec(), 1);
    for tensor in tensors {
        data.extend_from_slice(&tensor.data);
        count += 1;
    }
    let shape: Vec<usize> = [vec![count], first.ty.shape.to_vec()].concat();
    Tensor { ty: TensorType::new(first.ty.dtype, shape), data: data.into() }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_elements_are_compared_over_all_samples() {
        let pair = |found: &[f32], wanted: &[f32]| {
            (Tensor::new([found.len()], found), Tensor::new([wanted.len()], wanted))
        };
        // A score that is near zero in one of the samples, and one that is wrong in one.
        let close = [pair(&[-1e-4], &[1e-4]), pair(&[0.9], &[0.91])];
        assert!(least(&close) > 0.999_999);
        let wrong = [pair(&[0.1], &[0.9]), pair(&[0.9], &[0.91])];
        assert!(least(&wrong) < 0.8);
        assert_eq!(least(&[pair(&[1.0, 0.0], &[0.0, 1.0]), pair(&[1.0, 0.0], &[1.0, 0.0])]), 0.0);
        assert_eq!(least(&[pair(&[f32::NAN], &[1.0])]), -1.0);
    }

    #[test]
    fn what_one_result_lacks_is_zero() {
        let pair = |found: &[f32], wanted: &[f32]| {
            [(Tensor::new([found.len()], found), Tensor::new([wanted.len()], wanted))]
        };
        assert!((least(&pair(&[3.0], &[3.0, 4.0])) - 0.6).abs() < 1e-9);
        assert!((least(&pair(&[3.0, 4.0], &[3.0])) - 0.6).abs() < 1e-9);
    }
}
