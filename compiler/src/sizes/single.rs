//! Whether what was found of numbers holds for sizes that are no samples: 1, which broadcasts, so that steps may be
//! others there, and sizes in between, for which the model is only typed, since that takes little time. Shapes and
//! integers that the graph has for these are compared with what their forms say, within bodies too.

use super::Merger;
use super::constants::{agree, are_integers};
use super::derived::Derived;
use crate::base::{Affine, Tensor, TensorType};
use crate::definition::Size;
use crate::graph::Graph;
use crate::passes::wanted;
use std::collections::{BTreeMap, HashMap, HashSet};

/// The graph for sizes that are no sample.
pub struct Single {
    /// The sizes of all dimensions.
    pub sizes: BTreeMap<String, usize>,
    /// The graph.
    pub graph: Graph,
    /// Whether steps may be others than in the samples: then only what the model itself names is compared.
    pub is_apart: bool,
}

/// Graphs as they were typed, before they are rewritten.
pub struct Typings<'a> {
    /// For each sample.
    pub samples: Vec<&'a Graph>,
    /// For other sizes.
    pub others: Vec<&'a Single>,
    /// The values that the model itself names.
    pub names: &'a HashSet<String>,
    /// What is computed at run time, whatever it was in the samples.
    pub computed: &'a HashSet<String>,
    /// Sizes for which the model is not defined, by the names of those that are not at their bounds.
    pub undefined: &'a [BTreeMap<String, usize>],
    /// Whether no more samples will be made.
    pub last: bool,
    /// Whether other sizes are compared, even if more is open.
    pub compares: bool,
}

impl<'a> Typings<'a> {
    /// What is compared of one of the others.
    fn listed(&self, other: &'a Single) -> Listed<'a> {
        match other.is_apart {
            true => Listed::named(&other.graph, self.names),
            false => Listed::of(&other.graph),
        }
    }
}

/// What a number is, by its values in the samples.
#[derive(Clone)]
enum Said {
    Form(Affine),
    Rule(Derived, i64),
    Nothing,
}

/// What elements are, by their values in the samples.
enum Elements<'g> {
    /// The same in each, wherever they have any.
    Same(&'g Tensor),
    /// Integers, each by itself.
    Each(TensorType, Vec<Said>),
    /// Nothing is said of them.
    Any,
}

/// What a graph has, and the bodies in it: by name, behind the names of the nodes around.
#[derive(Default)]
struct Listed<'g> {
    shapes: HashMap<String, &'g [usize]>,
    constants: HashMap<String, &'g Tensor>,
    /// Constant conditions, and what they chose.
    decided: HashSet<(&'g str, bool)>,
    /// What results are made of.
    wanted: HashSet<String>,
}

impl<'g> Listed<'g> {
    fn of(graph: &'g Graph) -> Self {
        let mut all = Listed::default();
        all.add(graph, "", None);
        all
    }

    /// The same of values of these names alone.
    fn named(graph: &'g Graph, names: &HashSet<String>) -> Self {
        let mut all = Listed::default();
        all.add(graph, "", Some(names));
        all
    }

    fn add(&mut self, graph: &'g Graph, around: &str, names: Option<&HashSet<String>>) {
        let named = |name: &str| format!("{around}{name}");
        let is_listed = |name: &str| names.is_none_or(|names| names.contains(name));
        let values = graph.values.iter().filter(|v| is_listed(&v.name));
        self.shapes.extend(values.clone().map(|v| (named(&v.name), v.ty.shape.as_slice())));
        self.wanted.extend(wanted(graph).map(named));
        if around.is_empty() {
            let folded = graph.folded.iter().flat_map(|n| n.outputs.iter().flatten());
            let made = folded.map(|&v| graph.value(v)).filter(|v| is_listed(&v.name));
            self.constants.extend(made.filter_map(|v| Some((v.name.clone(), v.constant.as_ref()?))));
        } else {
            self.constants.extend(values.filter_map(|v| Some((named(&v.name), v.constant.as_ref()?))));
        }
        self.decided.extend(graph.decided.iter().map(|(name, said)| (name.as_str(), *said)));
        for node in &graph.nodes {
            graph.bodies(node, around).into_iter().for_each(|(around, body)| self.add(body, &around, names));
        }
    }
}

/// What is said of what the samples have, each found when it is first asked for.
struct Compared<'m, 'a, 'g> {
    merger: &'m Merger<'a>,
    samples: &'m [Listed<'g>],
    computed: &'m HashSet<String>,
    numbers: HashMap<Vec<i64>, Said>,
    shapes: HashMap<&'m str, Vec<Said>>,
    constants: HashMap<&'m str, Elements<'g>>,
}

impl Merger<'_> {
    /// The numbers of the other sizes for which something else is said than what the samples have shown, and of what.
    pub(super) fn unfit(&self, typings: &Typings) -> Vec<(usize, String)> {
        if typings.others.is_empty() {
            return Vec::new();
        }
        let samples: Vec<Listed> = typings.samples.iter().map(|g| Listed::of(g)).collect();
        let (numbers, shapes, constants) = Default::default();
        let computed = typings.computed;
        let mut compared = Compared { merger: self, samples: &samples, computed, numbers, shapes, constants };
        let others = typings.others.iter().enumerate();
        others
            .filter_map(|(i, other)| Some((i, compared.contradicts(other, typings.listed(other))?)))
            .collect()
    }

    /// A size, where those that nothing computes are as given.
    fn size_at(&self, number: usize, known: &HashMap<usize, i64>) -> Option<i64> {
        let computed = || self.facts.computed(number, &|s| self.size_at(s, known));
        known.get(&number).copied().or_else(computed)
    }

    /// What was said of a number, where sizes are as given; nothing where one that is needed is not known.
    fn said_at(&self, said: &Said, known: &HashMap<usize, i64>) -> Option<i64> {
        let at = |size| self.size_at(size, known);
        match said {
            Said::Form(form) => self.facts.formed(form, &at),
            Said::Rule(rule, most) => self.facts.ruled(*rule, &at).map(|n| n.clamp(0, *most)),
            Said::Nothing => None,
        }
    }
}

impl<'m, 'g> Compared<'m, '_, 'g> {
    /// The name of a value that is another one than what was found says.
    fn contradicts(&mut self, other: &Single, found: Listed) -> Option<String> {
        let (first, known) = (&self.samples[0], self.known(other, &found));
        let is_wanted = |name: &String| found.wanted.contains(name) || first.wanted.contains(name);
        let mut wrong: Vec<String> = Vec::new();
        for (name, is) in found.decided.iter().filter(|d| !self.computed.contains(d.0)) {
            let same = first.decided.contains(&(*name, *is)) || !first.decided.contains(&(*name, !is));
            wrong.extend((!same).then(|| name.to_string()));
        }
        for (name, shape) in found.shapes.iter().filter(|s| is_wanted(s.0)) {
            wrong.extend((!self.shape_fits(name, shape, &known)).then(|| name.clone()));
        }
        let folded = |name: &String| is_wanted(name) && !self.computed.contains(name);
        let constants: Vec<_> = found.constants.iter().filter(|c| folded(c.0)).collect();
        for (name, tensor) in constants {
            wrong.extend((!self.constant_fits(name, tensor, &known)).then(|| name.clone()));
        }
        wrong.into_iter().min()
    }

    /// The sizes that the caller gives, and those that data decide, as the shapes say that are as long.
    fn known(&self, other: &Single, found: &Listed) -> HashMap<usize, i64> {
        let Merger { facts, samples, .. } = self.merger;
        let size = |(number, size): (usize, &Size)| match &size.name {
            Some(name) => Some((number, *other.sizes.get(name)? as i64)),
            None => {
                let values = &facts.sizes[number].values;
                let as_long = |name: &str, shape: &[usize]| {
                    let of = |d: usize, k: usize| self.samples[k].shapes.get(name)?.get(d).map(|&n| n as i64);
                    let same = |d: &usize| values.iter().enumerate().all(|(k, v)| of(*d, k) == Some(*v));
                    (0..shape.len()).find(same).map(|d| shape[d] as i64)
                };
                // The first of the graph: what is made of it may be as long in the samples alone.
                let of_graph = other.graph.values.iter().find_map(|v| as_long(&v.name, &v.ty.shape));
                let within = || {
                    let found = found.shapes.iter().filter_map(|(name, s)| Some((name, as_long(name, s)?)));
                    found.min().map(|(_, length)| length)
                };
                Some((number, of_graph.or_else(within)?))
            }
        };
        samples[0].lowering.sizes.iter().enumerate().filter_map(size).collect()
    }

    fn shape_fits(&mut self, name: &str, at_other: &[usize], known: &HashMap<usize, i64>) -> bool {
        let Some((name, first)) = self.samples[0].shapes.get_key_value(name) else { return true };
        if !self.shapes.contains_key(name.as_str()) {
            let all: Option<Vec<_>> = self.samples.iter().map(|s| s.shapes.get(name).copied()).collect();
            let all = all.filter(|all| all.iter().all(|s| s.len() == first.len())).unwrap_or_default();
            let of = |d: usize| all.iter().map(|s| s[d] as i64).collect();
            let dims = if all.is_empty() { 0 } else { first.len() };
            let said = (0..dims).map(|d| self.said(of(d))).collect();
            self.shapes.insert(name, said);
        }
        let said = &self.shapes[name.as_str()];
        let fits =
            |(said, &d): (&Said, &usize)| self.merger.said_at(said, known).is_none_or(|n| n == d as i64);
        said.len() != at_other.len() || said.iter().zip(at_other).all(fits)
    }

    fn constant_fits(&mut self, name: &str, at_other: &Tensor, known: &HashMap<usize, i64>) -> bool {
        let Some((name, _)) = self.samples[0].constants.get_key_value(name) else { return true };
        if !self.constants.contains_key(name.as_str()) {
            let elements = self.elements(name);
            self.constants.insert(name, elements);
        }
        match &self.constants[name.as_str()] {
            Elements::Same(first) => first.ty.rank() != at_other.ty.rank() || agree(first, at_other),
            Elements::Each(ty, said) if *ty == at_other.ty => {
                let fits = |(said, n): (&Said, i64)| self.merger.said_at(said, known).is_none_or(|s| s == n);
                at_other.to_i64s().is_none_or(|numbers| said.iter().zip(numbers).all(fits))
            }
            Elements::Each(..) | Elements::Any => true,
        }
    }

    /// What is said of a constant.
    fn elements(&mut self, name: &String) -> Elements<'g> {
        let all: Option<Vec<&Tensor>> = self.samples.iter().map(|s| s.constants.get(name).copied()).collect();
        let Some(all) = all else { return Elements::Any };
        if all.iter().all(|t| agree(t, all[0])) {
            return Elements::Same(all[0]);
        }
        let numbers: Option<Vec<Vec<i64>>> = all.iter().map(|t| t.to_i64s()).collect();
        let Some(numbers) = numbers.filter(|_| are_integers(&all)) else { return Elements::Any };
        let of = |i: usize| numbers.iter().map(|n| n[i]).collect();
        let said = (0..numbers[0].len()).map(|i| self.said(of(i))).collect();
        Elements::Each(all[0].ty.clone(), said)
    }

    /// The form that was found for a number in the samples.
    fn said(&mut self, numbers: Vec<i64>) -> Said {
        if numbers.iter().all(|n| *n == numbers[0]) {
            return Said::Form(Affine::constant(numbers[0]));
        }
        let facts = &self.merger.facts;
        let said = self.numbers.entry(numbers).or_insert_with_key(|numbers| {
            let (sum, other) = facts.form_found(numbers);
            let rule = || Some(Said::Rule(facts.rule_found(numbers)?, numbers[0].max(0)));
            sum.map(Said::Form).or_else(rule).or(other.map(Said::Form)).unwrap_or(Said::Nothing)
        });
        said.clone()
    }
}
