//! Sizes known only at run time.
//!
//! Operators are written for shapes that are numbers. So a model with free sizes is typed, rewritten
//! and lowered several times, each time for other sizes (a *sample*, the first one at the bounds),
//! and the lowerings, which are alike but for numbers, are made into one: a number that differs
//! between them must be a function of the sizes that holds in every sample (`fit`). No operator
//! knows of it, and what depends on a size in no such way is an error that names its node.
//!
//! Elements lie where they would at the bounds, so layouts and the arena are static; loops end at
//! the actual sizes. Tensors of the application are dense at the actual sizes: where a free
//! dimension is not the outermost they are copied at the border (`border`), row by row (`rows`). A batch whose
//! entries have nothing to do with each other becomes a loop over them (`entries`).

mod border;
mod constants;
mod definitions;
mod derived;
mod entries;
mod fit;
mod halves;
mod parts;
mod places;
mod quotients;
mod reshape;
mod routines;
mod rows;
mod rules;
mod samples;
mod scaled;
mod single;

pub use constants::{alike, differing, made, special, uniform};
pub use entries::{has_work_for, of_fixed_batch, single};
pub use samples::samples;
pub use single::{Single, Typings};

use crate::base::Affine;
use crate::definition::{DefBuilder, Index, Lowering, Repeat, Size, Slice, Stage, ValueId, Var};
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::plan::Lowered;
use border::Border;
use fit::{Facts, Point};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// A model lowered for some sizes.
pub struct Sample {
    /// Its graph.
    pub graph: Graph,
    /// Its lowering; the sizes have their [`crate::definition::Size::sample`].
    pub lowering: Lowering,
    /// The values of the model's outputs.
    pub outputs: Vec<ValueId>,
}

/// What becomes of several lowerings.
pub enum Merged {
    /// One, and what they leave open.
    One(Lowered, Open),
    /// None yet: the constants of these names depend on the sizes in no way that was found. The error says
    /// so of the first.
    Unlike(Vec<String>, Error),
}

/// What several lowerings leave open: further samples are needed.
pub struct Open {
    /// For these values of named sizes, the others being at their bounds.
    pub sizes: Vec<BTreeMap<String, usize>>,
    /// Of sizes around these limits, for those that depend on data.
    pub limits: Vec<usize>,
    /// The numbers of the other sizes (see [`Typings`]) for which what was found says something else, and of which value;
    /// they are compared where nothing else is open, or where that is asked for.
    pub unfit: Option<Vec<(usize, String)>>,
}

/// One lowering of several; the first sample is the one at the bounds.
pub fn merge(samples: &[Sample], typings: &Typings) -> Result<Merged> {
    let first = samples.first().ok_or_else(|| Error::bug("no sample"))?;
    samples.iter().try_for_each(|other| same_steps(first, other))?;
    let mut merger = Merger::new(samples, typings);
    let merged = merger.all();
    match (merger.unlike.is_empty(), merged) {
        (true, merged) => {
            let (inputs, outputs) = merged?;
            let open = merger.open(typings);
            Ok(Merged::One(merger.finish(inputs, outputs)?, open))
        }
        (false, _) => {
            let (names, mut errors): (Vec<_>, Vec<_>) = merger.unlike.into_iter().unzip();
            Ok(Merged::Unlike(names, errors.swap_remove(0)))
        }
    }
}

/// An error where two samples are not computed by the same steps.
pub fn same_steps(first: &Sample, other: &Sample) -> Result<()> {
    let (a, b) = (&first.lowering, &other.lowering);
    let same = a.values.iter().map(|v| &v.name).eq(b.values.iter().map(|v| &v.name));
    if same && a.stages.len() == b.stages.len() && a.sizes.len() == b.sizes.len() {
        return Ok(());
    }
    let list = |l: &Lowering| -> Vec<String> {
        let written = l.stages.iter().flat_map(Stage::writes).map(|v| l.values[v as usize].name.clone());
        l.values.iter().map(|v| v.name.clone()).chain(written).collect()
    };
    let (x, y) = (list(a), list(b));
    let apart = x.iter().zip(&y).position(|(x, y)| x != y).unwrap_or(x.len().min(y.len()));
    let error = unlike("another computation is needed for other sizes");
    Err(match x.get(apart).or(y.get(apart)) {
        Some(name) => error.at(format!("around '{name}'")),
        None => error,
    })
}

/// The error where samples are computed in different ways.
fn changed() -> Error {
    unlike("it is computed in another way for other sizes")
}

/// An error of a model that no one lowering fits.
fn unlike(reason: &str) -> Error {
    Error::model(format!("with dimensions left to run time: {reason}"))
        .advise("Bind the dimension to one size with --dim NAME=N, or export the model without this node")
}

/// Sizes by their numbers.
fn point(sizes: &[Size], named: &BTreeMap<String, usize>) -> Point {
    let number = |name: &String| sizes.iter().position(|s| s.name.as_ref() == Some(name));
    let mut point: Point =
        named.iter().filter_map(|(name, &value)| Some((number(name)?, value as i64))).collect();
    point.sort_unstable();
    point
}

struct Merger<'a> {
    samples: &'a [Sample],
    low: Lowering,
    facts: Facts,
    /// Values whose dimensions and elements have been looked at.
    known: HashSet<ValueId>,
    /// Stages to be put before the one that is being made.
    before: Vec<Stage>,
    /// Constants that are alike in no way, and what is wrong.
    unlike: Vec<(String, Error)>,
}

impl<'a> Merger<'a> {
    fn new(samples: &'a [Sample], typings: &Typings) -> Self {
        let first = &samples[0].lowering;
        let mut facts = Facts::new(samples.len());
        for (i, size) in first.sizes.iter().enumerate() {
            let values = samples.iter().map(|s| s.lowering.sizes[i].sample as i64).collect();
            facts.declare(size, values);
        }
        facts.last = typings.last;
        facts.undefined = typings.undefined.iter().map(|sizes| point(&first.sizes, sizes)).collect();
        let low = Lowering { stages: Vec::new(), ..first.clone() };
        Merger { samples, low, facts, known: HashSet::new(), before: Vec::new(), unlike: Vec::new() }
    }

    /// What is left open.
    fn open(&self, typings: &Typings) -> Open {
        let (given, mut limits) = (&self.samples[0].lowering.sizes, self.facts.limits.clone());
        let mut sizes = BTreeSet::new();
        for point in &self.facts.open {
            let named = |&(size, value): &(usize, i64)| Some((given[size].name.clone()?, value as usize));
            match point.iter().map(named).collect::<Option<BTreeMap<_, _>>>() {
                Some(point) => drop(sizes.insert(point)),
                None => limits.extend(point.iter().map(|p| p.1 as usize)),
            }
        }
        let data = given.iter().any(|s| s.name.is_none());
        let limits: Vec<usize> = limits.into_iter().filter(|_| data).collect();
        let compares = typings.compares || (sizes.is_empty() && limits.is_empty());
        let unfit = compares.then(|| self.unfit(typings));
        Open { sizes: sizes.into_iter().collect(), limits, unfit }
    }

    /// Merges everything; gives inputs and outputs.
    fn all(&mut self) -> Result<(Vec<Border>, Vec<Border>)> {
        let (first, samples) = (&self.samples[0], self.samples);
        let inputs = first.graph.inputs.iter().map(|&v| self.border_input(v)).collect::<Result<Vec<_>>>()?;
        let mut stages = Vec::new();
        for i in 0..first.lowering.stages.len() {
            let alike: Vec<&Stage> = samples.iter().map(|s| &s.lowering.stages[i]).collect();
            let stage = self.stage(&alike)?;
            stages.append(&mut self.before);
            stages.extend(stage);
        }
        let outputs = first.outputs.iter().zip(&first.graph.outputs);
        let outputs = outputs.map(|(&v, &shown)| self.border_output(v, shown)).collect::<Result<_>>()?;
        stages.append(&mut self.before);
        self.low.stages = early(stages, &self.low.sizes);
        Ok((inputs, outputs))
    }

    /// One number per sample as a form in the sizes.
    fn fit(&mut self, numbers: &[i64]) -> Result<Affine> {
        self.facts.fit(numbers, &mut self.low, &mut self.before)
    }

    /// Looks at the dimensions of a value, and at its elements where it is constant.
    fn ensure(&mut self, value: ValueId) -> Result<()> {
        if !self.known.insert(value) {
            return Ok(());
        }
        let place = |e: Error, low: &Lowering| e.at(format!("'{}'", low.values[value as usize].name));
        let types: Vec<_> = self.samples.iter().map(|s| &s.lowering.values[value as usize].ty).collect();
        let ty = types[0].clone();
        if types.iter().any(|t| t.dtype != ty.dtype || t.rank() != ty.rank()) {
            return Err(place(unlike("it has another rank for other sizes"), &self.low));
        }
        let mut dims = Vec::new();
        for d in 0..ty.rank() {
            let extents: Vec<i64> = types.iter().map(|t| t.shape[d] as i64).collect();
            let form = match self.fit(&extents) {
                Ok(form) => form,
                Err(error) => self
                    .by_parts(value, d, &extents)
                    .and_then(|found| found.ok_or(error))
                    .map_err(|e| place(e, &self.low))?,
            };
            if form.range(|_| 1).1 > extents[0] {
                return Err(place(unlike("a dimension grows where a size shrinks"), &self.low));
            }
            dims.push(form);
        }
        if dims.iter().any(|d| !d.is_constant()) {
            self.low.dims.insert(value, dims);
        }
        if self.low.values[value as usize].constant.is_some() {
            if let Err(error) = self.constant(value) {
                let name = self.low.values[value as usize].name.clone();
                self.unlike.push((name, place(error, &self.low)));
            }
        }
        Ok(())
    }

    /// The dimensions of a value that was looked at.
    fn dims(&self, value: ValueId) -> Vec<Affine> {
        let shape = || &self.low.values[value as usize].ty.shape;
        let fixed = || shape().iter().map(|&d| Affine::constant(d as i64)).collect();
        self.low.dims.get(&value).cloned().unwrap_or_else(fixed)
    }

    fn stages(&mut self, lists: &[&[Stage]]) -> Result<Vec<Stage>> {
        if lists.iter().any(|l| l.len() != lists[0].len()) {
            return Err(unlike("another number of steps is needed for other sizes"));
        }
        let mut merged = Vec::new();
        for i in 0..lists[0].len() {
            let alike: Vec<&Stage> = lists.iter().map(|l| &l[i]).collect();
            merged.extend(self.stage(&alike)?);
        }
        Ok(merged)
    }

    fn stage(&mut self, stages: &[&Stage]) -> Result<Vec<Stage>> {
        let (reads, writes) = (stages[0].reads(), stages[0].writes());
        if stages.iter().any(|s| s.reads() != reads || s.writes() != writes) {
            let name = writes.first().map(|&v| self.low.values[v as usize].name.clone()).unwrap_or_default();
            return Err(unlike("it is computed in another way for other sizes").at(format!("'{name}'")));
        }
        for &value in reads.iter().filter(|v| !writes.contains(v)) {
            self.ensure(value)?;
        }
        let made: Vec<usize> =
            (0..self.low.sizes.len()).filter(|&i| writes.contains(&self.low.sizes[i].value)).collect();
        made.into_iter().for_each(|i| self.facts.available(i));
        for &value in &writes {
            self.ensure(value)?;
        }
        let place = |e: Error| e.at(format!("'{}'", self_name(&self.samples[0].lowering, &writes)));
        match stages[0] {
            Stage::Define(_) => {
                let defs: Vec<_> = stages.iter().filter_map(|s| definition(s)).collect();
                Ok(vec![Stage::Define(self.definition(&defs).map_err(place)?)])
            }
            Stage::Routine(_) => {
                let routines: Vec<_> = stages.iter().filter_map(|s| routine(s)).collect();
                Ok(vec![Stage::Routine(self.routine(&routines).map_err(place)?)])
            }
            Stage::Reshape { from, to } => self.reshape(*from, *to).map_err(place),
            Stage::Repeat(_) => {
                let repeats: Vec<_> = stages.iter().filter_map(|s| repeat(s)).collect();
                self.repeat(&repeats).map_err(place)
            }
            Stage::Strips(_) => Err(place(Error::bug("strips are made after sizes"))),
        }
    }

    /// The loop, with what must be done before and after it.
    fn repeat(&mut self, repeats: &[&Repeat]) -> Result<Vec<Stage>> {
        let counts: Vec<i64> = repeats.iter().map(|r| r.count as i64).collect();
        let form = self.fit(&counts)?;
        let size = match form.is_constant() {
            true => None,
            false => Some(self.facts.plain(&form, &mut self.low, &mut self.before)?),
        };
        let first = repeats[0];
        for Slice { part, .. } in &first.slices {
            self.ensure(*part)?;
        }
        for carry in &first.carries {
            [carry.state, carry.next].into_iter().try_for_each(|v| self.ensure(v))?;
        }
        let lists: Vec<&[Stage]> = repeats.iter().map(|r| r.body.as_slice()).collect();
        let body = self.stages(&lists)?;
        if form == Affine::constant(1) && first.condition.is_none() {
            let once = Repeat { body, ..first.clone() }.once().into_iter();
            let made = once.map(|stage| match stage {
                Stage::Reshape { from, to } => self.reshape(from, to),
                other => Ok(vec![other]),
            });
            return Ok(made.collect::<Result<Vec<_>>>()?.concat());
        }
        let (mut slices, mut before, mut after) = (first.slices.clone(), Vec::new(), Vec::new());
        if let Some(size) = &size {
            for slice in slices.iter_mut().filter(|s| s.reversed) {
                let turned = self.like(slice.whole);
                match slice.written {
                    true => after.push(self.turned(turned, slice.whole, size)),
                    false => before.push(self.turned(slice.whole, turned, size)),
                }
                (slice.whole, slice.reversed) = (turned, false);
            }
        }
        before.push(Stage::Repeat(Repeat { size, slices, body, ..Repeat::clone(first) }));
        before.append(&mut after);
        Ok(before)
    }

    /// A temporary with the type and the dimensions of another value.
    fn like(&mut self, value: ValueId) -> ValueId {
        let (name, ty) = {
            let value = &self.low.values[value as usize];
            (format!("{}.turned{}", value.name, self.low.values.len()), value.ty.clone())
        };
        let made = self.low.temporary(name, ty);
        if let Some(dims) = self.low.dims.get(&value).cloned() {
            self.low.dims.insert(made, dims);
        }
        made
    }

    /// `to[i] = from[size - 1 - i]`: a loop whose length is known only at run time goes forwards.
    fn turned(&self, from: ValueId, to: ValueId, size: &Affine) -> Stage {
        let (ty, dims) = (self.low.values[from as usize].ty.clone(), self.dims(from));
        let var = |(d, form): (usize, &Affine)| Var {
            name: format!("i{d}"),
            extent: ty.shape[d],
            size: Some(form.clone()).filter(|f| !f.is_constant()),
        };
        let mut b = DefBuilder::with_vars(dims.iter().enumerate().map(var).collect(), dims.len());
        let mut index: Vec<Index> = (0..dims.len()).map(|d| Index::Affine(Affine::var(d as u32))).collect();
        let back = b.index(size.offset(-1).plus_scaled(&Affine::var(0), -1));
        index[0] = Index::Dynamic(back);
        let element = b.load_at(from, &ty, index, None);
        let name = self.low.values[to as usize].name.clone();
        Stage::Define(b.finish(&name, to, &ty, element))
    }
}

/// The stages with those that compute sizes from sizes as early as these are there: what is written in parts
/// may then be written where each part begins, and not copied there.
fn early(stages: Vec<Stage>, sizes: &[Size]) -> Vec<Stage> {
    let number = |stage: &Stage| match stage {
        Stage::Define(d) if d.operands.is_empty() => sizes.iter().position(|s| s.value == d.output.value),
        _ => None,
    };
    let (mut computing, rest): (Vec<Stage>, Vec<Stage>) =
        stages.into_iter().partition(|s| number(s).is_some());
    let mut there: Vec<bool> = sizes.iter().map(|s| s.name.is_some()).collect();
    let mut placed = Vec::new();
    let place = |computing: &mut Vec<Stage>, placed: &mut Vec<Stage>, there: &mut Vec<bool>| {
        while let Some(next) = computing.iter().position(|s| s.sizes().iter().all(|&n| there[n])) {
            let stage = computing.remove(next);
            number(&stage).into_iter().for_each(|n| there[n] = true);
            placed.push(stage);
        }
    };
    place(&mut computing, &mut placed, &mut there);
    for stage in rest {
        let writes = stage.writes();
        placed.push(stage);
        (0..sizes.len()).filter(|&n| writes.contains(&sizes[n].value)).for_each(|n| there[n] = true);
        place(&mut computing, &mut placed, &mut there);
    }
    placed.extend(computing);
    placed
}

fn self_name(lowering: &Lowering, writes: &[ValueId]) -> String {
    writes.first().map(|&v| lowering.values[v as usize].name.clone()).unwrap_or_default()
}

fn definition<'s>(stage: &&'s Stage) -> Option<&'s crate::definition::Definition> {
    if let Stage::Define(d) = stage { Some(d) } else { None }
}

fn routine<'s>(stage: &&'s Stage) -> Option<&'s crate::definition::Routine> {
    if let Stage::Routine(r) = stage { Some(r) } else { None }
}

fn repeat<'s>(stage: &&'s Stage) -> Option<&'s Repeat> {
    if let Stage::Repeat(r) = stage { Some(r) } else { None }
}
