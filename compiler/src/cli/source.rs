//! A model that is quantized or pruned: the file, and what the options say of it.

use super::options::ModelArgs;
use crate::base::TensorType;
use crate::compress::chosen::choose;
use crate::compress::observe::Sample;
use crate::compress::onnx::Onnx;
use crate::compress::quantize::{self, Compared};
use crate::compress::samples;
use crate::error::Result;
use crate::import::{self, Bindings, Model};
use std::path::PathBuf;

/// The model, with the branches alone that the options choose.
pub(super) struct Source {
    pub onnx: Onnx,
    pub model: Model,
    pub bindings: Bindings,
    /// The model as it is in the file, which data are for.
    file: Model,
    /// The inputs that only choose branches, by number.
    gone: Vec<usize>,
}

impl Source {
    pub(super) fn read(args: &ModelArgs) -> Result<Source> {
        let (file, mut bindings) = (args.read()?, args.bindings()?);
        bindings.check_branches(&file.body)?;
        let mut onnx = Onnx::read(&args.model)?;
        let branches = std::mem::take(&mut bindings.branches);
        let gone = choose(&mut onnx, &branches)?;
        let mut model = file.clone();
        if !branches.is_empty() {
            model = import::decode(&onnx.encode()?, None)?;
            bindings.name_dims(&mut model.body)?;
        }
        Ok(Source { onnx, model, bindings, file, gone })
    }

    /// The samples in files: for the inputs that are left.
    pub(super) fn samples(&self, paths: &[PathBuf]) -> Result<Vec<Sample>> {
        let mut found = samples::read(&self.file, &self.bindings, paths)?;
        for sample in &mut found {
            let kept = std::mem::take(sample).into_iter().enumerate();
            *sample = kept.filter(|(i, _)| !self.gone.contains(i)).map(|(_, tensor)| tensor).collect();
        }
        Ok(found)
    }

    /// The types of the inputs: those of a sample, or by the options that bind dimensions.
    pub(super) fn types(&self, samples: &[Sample]) -> Result<Vec<TensorType>> {
        match samples.first() {
            Some(sample) => Ok(sample.iter().map(|t| t.ty.clone()).collect()),
            None => Ok(self.bindings.resolve(&self.model.body)?.0),
        }
    }

    /// Compares the outputs of two forms of the model: on the samples, on seeded inputs where none were given; not
    /// at all where the shapes of the inputs are not known, or the model does not run on random numbers.
    pub(super) fn compared(
        &self,
        [onnx, made]: [&Onnx; 2],
        samples: &[Sample],
    ) -> Result<(Compared, Vec<(String, f64)>)> {
        if !samples.is_empty() {
            return Ok((Compared::Samples, quantize::compared(onnx, made, samples)?));
        }
        let seeded = self.types(samples).and_then(|types| samples::random(&types, 1));
        let found = seeded.and_then(|seeded| quantize::compared(onnx, made, &seeded));
        Ok(found.map_or((Compared::Nothing, Vec::new()), |cosines| (Compared::SeededInputs, cosines)))
    }
}
