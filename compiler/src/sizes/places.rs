//! Where kernels written by hand find elements: each sample's addresses are those of a dense tensor of its
//! sizes, but elements lie where they would at the bounds.
//!
//! An address is a sum of loop variables and a number, each times the distance between neighbours along some
//! dimension. Where distances differ between samples they say which dimension that is, and the distance at
//! the bounds takes their place.

use super::{Merger, Sample, unlike};
use crate::base::{Affine, row_major_strides};
use crate::definition::ValueId;
use crate::error::Result;
use crate::tile::{Addr, Reg};
use std::collections::{HashMap, HashSet};

/// A tensor in all samples, without its dimensions of 1.
pub(super) struct Operand {
    /// Whether each dimension is the same in all samples.
    fixed: Vec<bool>,
    /// In each sample the extents.
    shapes: Vec<Vec<i64>>,
    /// In each sample the distance of neighbours along each dimension.
    strides: Vec<Vec<i64>>,
    /// In each sample the extents, with those of 1.
    whole: Vec<Vec<usize>>,
}

/// What addresses are made of.
pub(super) struct Places {
    operands: Vec<Operand>,
    /// Where each loop ends in each sample, if that is known.
    ends: HashMap<u32, Option<Vec<i64>>>,
    /// Registers that are distances at the bounds, for each size.
    pub distances: HashSet<Reg>,
}

impl Places {
    pub fn new(operands: Vec<Operand>, distances: HashSet<Reg>) -> Self {
        Places { operands, ends: HashMap::new(), distances }
    }

    /// A loop begins.
    pub fn enter(&mut self, var: u32, ends: Option<Vec<i64>>) {
        self.ends.insert(var, ends);
    }

    /// Whether loops over these variables run in a sample, as far as is known.
    fn run(&self, vars: &[u32], sample: usize) -> bool {
        let runs = |var| self.ends.get(var).and_then(Option::as_ref).is_none_or(|ends| ends[sample] > 0);
        vars.iter().all(runs)
    }

    /// Whether a loop moves in no sample.
    fn stays(&self, var: u32, sample: usize) -> bool {
        self.ends.get(&var).and_then(Option::as_ref).is_some_and(|ends| ends[sample] <= 1)
    }
}

impl Operand {
    /// Whether all distances are the same in all samples.
    pub fn is_dense(&self) -> bool {
        self.strides.iter().all(|s| *s == self.strides[0])
    }

    /// The first dimension, but for some, along which neighbours have these distances in the samples, and how far it
    /// reaches in each.
    pub fn along(&self, distances: &[i64], but: &HashSet<usize>) -> Option<(usize, Vec<usize>)> {
        let strides: Vec<Vec<i64>> = self.whole.iter().map(|shape| row_major_strides(shape)).collect();
        let fits = |d: &usize| strides.iter().zip(distances).all(|(s, distance)| s[*d] == *distance);
        let dim = (0..self.whole[0].len()).filter(|d| !but.contains(d)).find(fits)?;
        let end = |shape: &Vec<usize>| shape[dim].saturating_sub(1);
        let ends = self.whole.iter().zip(distances).map(|(shape, by)| end(shape) * *by as usize);
        Some((dim, ends.collect()))
    }

    /// At the bounds, the factor that is `factors` in the samples; a sample without one has none.
    fn factor(&self, factors: &[Option<i64>], ends: Option<&Vec<i64>>) -> Option<i64> {
        let said = factors.iter().position(Option::is_some)?;
        (0..self.fixed.len()).rev().find_map(|d| {
            let stride = |k: usize| self.strides[k][d];
            let times = factors[said]? / stride(said).max(1);
            let holds = (0..factors.len()).all(|k| factors[k].is_none_or(|f| f == times * stride(k)));
            (times != 0 && holds && self.covers(d, times.abs(), ends)).then_some(times * stride(0))
        })
    }

    /// Whether a loop along a dimension stays within it, or goes on along those before it, which it can where
    /// the dimension is as long as at the bounds.
    fn covers(&self, d: usize, times: i64, ends: Option<&Vec<i64>>) -> bool {
        let Some(ends) = ends else { return false };
        let whole = |k: usize| -> i64 {
            let outer = (0..=d).rev().take_while(|&j| j == d || self.fixed[j + 1]);
            outer.map(|j| self.shapes[k][j]).product()
        };
        ends.iter().enumerate().all(|(k, &end)| times * (end - 1) < whole(k).max(1))
    }
}

impl Merger<'_> {
    pub(super) fn operand(&self, value: ValueId) -> Operand {
        let dims = self.dims(value);
        let kept: Vec<usize> = (0..dims.len()).filter(|&d| dims[d] != Affine::constant(1)).collect();
        let shape = |sample: &Sample| -> Vec<usize> {
            kept.iter().map(|&d| sample.lowering.values[value as usize].ty.shape[d]).collect()
        };
        let shapes: Vec<Vec<usize>> = self.samples.iter().map(shape).collect();
        Operand {
            fixed: kept.iter().map(|&d| dims[d].is_constant()).collect(),
            strides: shapes.iter().map(|s| row_major_strides(s)).collect(),
            shapes: shapes.iter().map(|s| s.iter().map(|&n| n as i64).collect()).collect(),
            whole: self.samples.iter().map(|s| s.lowering.values[value as usize].ty.shape.clone()).collect(),
        }
    }

    /// The address of an element.
    pub(super) fn element(&mut self, places: &Places, addr: &Addr, forms: &[&Affine]) -> Result<Affine> {
        let moved = || unlike("its elements move with the sizes");
        let operand = &places.operands[addr.param as usize];
        let mut vars: Vec<u32> = forms.iter().flat_map(|f| f.terms.iter().map(|t| t.0)).collect();
        vars.sort_unstable();
        vars.dedup();
        if operand.is_dense() {
            let factor = |var, k: usize| (!places.stays(var, k)).then(|| forms[k].coefficient(var));
            let mut sum = self.fit(&forms.iter().map(|f| f.base).collect::<Vec<_>>())?;
            for var in vars {
                let mut factors = (0..forms.len()).filter_map(|k| factor(var, k));
                let first = factors.next().unwrap_or(0);
                if factors.any(|f| f != first) {
                    return Err(moved());
                }
                sum.add_term(var, first);
            }
            return Ok(sum);
        }
        let live: Vec<usize> = (0..forms.len()).filter(|&k| places.run(&vars, k)).collect();
        let mut sum = self.base(operand, &forms.iter().map(|f| f.base).collect::<Vec<_>>(), &live)?;
        for var in vars {
            let factor = |k: usize| (!places.stays(var, k)).then(|| forms[k].coefficient(var));
            let factors: Vec<Option<i64>> = (0..forms.len()).map(factor).collect();
            if factors.iter().all(Option::is_none) {
                continue;
            }
            let ends = places.ends.get(&var).and_then(Option::as_ref);
            sum.add_term(var, operand.factor(&factors, ends).ok_or_else(moved)?);
        }
        Ok(sum)
    }

    /// The number in an address: how far it lies along each dimension. Samples in which nothing is done there say nothing
    /// where it is the same in the others.
    fn base(&mut self, operand: &Operand, bases: &[i64], live: &[usize]) -> Result<Affine> {
        let mut rest = bases.to_vec();
        let mut sum = Affine::constant(0);
        for d in 0..operand.fixed.len() {
            let last = d + 1 == operand.fixed.len();
            let stride = |k: usize| if last { 1 } else { operand.strides[k][d].max(1) };
            let mut along: Vec<i64> = (0..rest.len()).map(|k| rest[k] / stride(k)).collect();
            if let Some(&first) = live.first()
                && live.iter().all(|&k| along[k] == along[first])
            {
                along = vec![along[first]; rest.len()];
            }
            (0..rest.len()).for_each(|k| rest[k] -= along[k] * stride(k));
            let along = self.fit(&along)?;
            sum = sum.plus_scaled(&along, stride(0));
        }
        Ok(sum)
    }
}
