//! Whether what was found of numbers holds where a size is 1, which is no sample: 1 broadcasts, so steps may be
//! others there. Shapes and integers that the graph has at that size are compared with what their forms say.

use super::Merger;
use super::constants::{agree, are_integers, made};
use super::derived::Derived;
use crate::base::{Affine, Tensor};
use crate::graph::Graph;
use std::collections::{BTreeMap, HashMap, HashSet};

/// The graph where one dimension is 1 and the others are at their bounds.
pub struct Single {
    /// Which dimension.
    pub name: String,
    /// The sizes of all dimensions.
    pub sizes: BTreeMap<String, usize>,
    /// The graph.
    pub graph: Graph,
}

/// Graphs as they were typed, before they are rewritten.
pub struct Typings<'a> {
    /// For each sample.
    pub samples: Vec<&'a Graph>,
    /// Where a dimension is 1.
    pub singles: &'a [Single],
    /// What is computed at run time, whatever it was in the samples.
    pub computed: &'a HashSet<String>,
    /// The values that results are made of: what others are makes no difference.
    pub wanted: HashSet<&'a str>,
}

impl Merger<'_> {
    /// The dimensions that must not be 1.
    pub(super) fn unfit(&self, typings: &Typings) -> Vec<String> {
        if typings.singles.is_empty() {
            return Vec::new();
        }
        let shapes: Vec<HashMap<&str, &[usize]>> = typings.samples.iter().map(|g| shapes(g)).collect();
        let constants: Vec<_> = typings.samples.iter().map(|g| made(g)).collect();
        let fits = |single: &&Single| {
            let shape = |(name, at_one): (&str, &[usize])| {
                let all: Option<Vec<_>> = shapes.iter().map(|m| m.get(name).copied()).collect();
                all.is_none_or(|all| self.shape_fits(&all, at_one, &single.sizes))
            };
            let constant = |(name, at_one): (&str, &Tensor)| {
                let all: Option<Vec<_>> = constants.iter().map(|m| m.get(name).copied()).collect();
                let all = all.filter(|_| !typings.computed.contains(name));
                all.is_none_or(|all| self.constant_fits(&all, at_one, &single.sizes))
            };
            let is_wanted = |name: &str| typings.wanted.contains(name);
            shapes_of(&single.graph).filter(|s| is_wanted(s.0)).all(shape)
                && made(&single.graph).into_iter().filter(|c| is_wanted(c.0)).all(constant)
        };
        typings.singles.iter().filter(|s| !fits(s)).map(|s| s.name.clone()).collect()
    }

    fn shape_fits(&self, samples: &[&[usize]], at_one: &[usize], sizes: &BTreeMap<String, usize>) -> bool {
        let ranks = samples.iter().all(|s| s.len() == at_one.len());
        let same = |d: usize| {
            let numbers: Vec<i64> = samples.iter().map(|s| s[d] as i64).collect();
            self.said(&numbers, sizes).is_none_or(|said| said == at_one[d] as i64)
        };
        !ranks || (0..at_one.len()).all(same)
    }

    fn constant_fits(&self, samples: &[&Tensor], at_one: &Tensor, sizes: &BTreeMap<String, usize>) -> bool {
        if samples.iter().all(|t| agree(t, samples[0])) {
            return samples[0].ty.rank() != at_one.ty.rank() || agree(samples[0], at_one);
        }
        let all: Vec<&Tensor> = samples.iter().copied().chain([at_one]).collect();
        let numbers: Option<Vec<Vec<i64>>> = all.iter().map(|t| t.to_i64s()).collect();
        let Some(numbers) = numbers.filter(|_| are_integers(&all)) else { return true };
        let Some((at_one, samples)) = numbers.split_last() else { return true };
        let same = |(i, &one): (usize, &i64)| {
            let element: Vec<i64> = samples.iter().map(|n| n[i]).collect();
            self.said(&element, sizes).is_none_or(|said| said == one)
        };
        at_one.iter().enumerate().all(same)
    }

    /// What the form that was found for a number in the samples says of it where dimensions have the given sizes;
    /// nothing where there is none, or where sizes that depend on data are in it.
    fn said(&self, numbers: &[i64], sizes: &BTreeMap<String, usize>) -> Option<i64> {
        if numbers.iter().all(|n| *n == numbers[0]) {
            return Some(numbers[0]);
        }
        let of_form = |form: Affine| {
            let known = (0..self.facts.sizes.len()).map(|n| self.size_at(n, sizes)).collect::<Vec<_>>();
            let unknown = std::cell::Cell::new(false);
            let value = form.with_sizes(|n| {
                known[n].unwrap_or_else(|| {
                    unknown.set(true);
                    0
                })
            });
            (!unknown.get()).then_some(value.base)
        };
        let (sum, other) = self.facts.form_found(numbers);
        match (sum, self.facts.rule_found(numbers), other) {
            (Some(form), ..) => of_form(form),
            (None, Some(rule), _) => self.rule_at(rule, sizes),
            (None, None, other) => of_form(other?),
        }
    }

    /// A size, where dimensions have the given ones.
    fn size_at(&self, number: usize, sizes: &BTreeMap<String, usize>) -> Option<i64> {
        match &self.low.sizes[number].name {
            Some(name) => sizes.get(name).map(|&s| s as i64),
            None => {
                let fact = &self.facts.sizes[number];
                Some(self.rule_at(fact.rule?, sizes)?.clamp(0, fact.values[0].max(0)))
            }
        }
    }

    fn rule_at(&self, rule: Derived, sizes: &BTreeMap<String, usize>) -> Option<i64> {
        let at = |size| self.size_at(size, sizes);
        match rule {
            Derived::Divided { size, .. } | Derived::Limited { size, .. } => at(size).map(|v| rule.of(|_| v)),
            Derived::Product { a, b, .. } => {
                let (x, y) = (at(a)?, at(b)?);
                Some(rule.of(|size| if size == a { x } else { y }))
            }
        }
    }
}

fn shapes_of(graph: &Graph) -> impl Iterator<Item = (&str, &[usize])> {
    graph.values.iter().map(|v| (v.name.as_str(), v.ty.shape.as_slice()))
}

fn shapes(graph: &Graph) -> HashMap<&str, &[usize]> {
    shapes_of(graph).collect()
}
