//! What the values of a model look like over all samples.

use super::histogram::{BINS, Histogram, range};
use crate::base::{DType, Tensor, in_parallel};
use crate::build::Observer;
use crate::compress::observe::{Observed, Sample};
use crate::error::Result;
use std::collections::BTreeMap;

/// The elements of a tensor of floats; none of others.
pub fn floats(tensor: &Tensor) -> Vec<f32> {
    if tensor.ty.dtype == DType::F32 { tensor.to_vec::<f32>().unwrap_or_default() } else { Vec::new() }
}

/// How far results are from those wanted, in relation to these. What is wanted to be no finite number does not
/// count; what comes out as none in place of a finite one makes the whole none.
#[derive(Clone, Copy, Default)]
pub struct Relative {
    error: f64,
    norm: f64,
}

impl Relative {
    /// Adds some elements.
    pub fn add(&mut self, wanted: &[f32], found: &[f32]) {
        for (&x, &y) in wanted.iter().zip(found).filter(|(x, _)| x.is_finite()) {
            self.error += (f64::from(x) - f64::from(y)).powi(2);
            self.norm += f64::from(x).powi(2);
        }
    }

    /// Norm of the error over the norm of what is wanted.
    pub fn error(self) -> f64 {
        if self.norm > 0.0 { (self.error / self.norm).sqrt() } else { 0.0 }
    }
}

/// Histograms of the values that `wanted` names. Values that no sample computes have none.
pub fn histograms(
    observed: &mut Observed,
    samples: &[Sample],
    wanted: &BTreeMap<String, String>,
    observer: &dyn Observer,
) -> Result<BTreeMap<String, Histogram>> {
    let mut ranges: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    let mut histograms: BTreeMap<String, Histogram> = BTreeMap::new();
    for second in [false, true] {
        for (i, sample) in samples.iter().enumerate() {
            observer.progress("calibrating", i + usize::from(second) * samples.len(), 2 * samples.len());
            let values = observed.run(sample)?;
            let values: Vec<_> = values.iter().filter(|(name, _)| wanted.contains_key(*name)).collect();
            if second {
                let counted = in_parallel(values.len(), &|v| {
                    let mut counted = histograms.get(values[v].0)?.emptied();
                    counted.add(&floats(values[v].1));
                    Some(counted)
                });
                for ((name, _), counted) in values.into_iter().zip(counted) {
                    if let (Some(all), Some(counted)) = (histograms.get_mut(name), counted) {
                        all.include(&counted);
                    }
                }
                continue;
            }
            let found = in_parallel(values.len(), &|v| range(&floats(values[v].1)));
            for ((name, _), (lo, hi)) in values.into_iter().zip(found).filter_map(|(v, f)| Some((v, f?))) {
                let all = ranges.entry(name.clone()).or_insert((lo, hi));
                *all = (all.0.min(lo), all.1.max(hi));
            }
        }
        if !second {
            histograms = ranges.iter().map(|(g, r)| (g.clone(), Histogram::new(r.0, r.1, BINS))).collect();
        }
    }
    Ok(histograms)
}

/// Adds what the elements of a tensor sum to, by the index of an axis.
pub fn channel_sums(shape: &[usize], axis: usize, elements: &[f32], sums: &mut Vec<f64>) {
    let channels = shape.get(axis).copied().unwrap_or(1);
    let inner: usize = shape.iter().skip(axis + 1).product::<usize>().max(1);
    sums.resize(channels, 0.0);
    for (i, run) in elements.chunks(inner).enumerate() {
        sums[i % channels] += run.iter().filter(|x| x.is_finite()).map(|&x| f64::from(x)).sum::<f64>();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_relative() {
        let mut sum = Relative::default();
        assert_eq!(sum.error(), 0.0);
        sum.add(&[3.0, f32::INFINITY, f32::NAN], &[3.5, 1.0, 2.0]);
        sum.add(&[4.0], &[4.0]);
        assert_eq!(sum.error(), 0.1);
        sum.add(&[1.0], &[f32::NAN]);
        assert!(sum.error().is_nan());
    }

    #[test]
    fn channels_are_summed() {
        let mut sums = Vec::new();
        channel_sums(&[2, 2, 2], 1, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, f32::NAN], &mut sums);
        assert_eq!(sums, [14.0, 14.0]);
        channel_sums(&[2, 2, 2], 2, &[1.0; 8], &mut sums);
        assert_eq!(sums, [18.0, 18.0]);
    }
}
