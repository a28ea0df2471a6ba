//! Models with sizes known only at run time: lowered at several samples, merged.

use super::timing::Clock;
use super::{Observer, Silent, rewrite, typed_graph};
use crate::definition::{Lowering, ValueId};
use crate::error::{Error, Result};
use crate::graph::{Graph, Shapes};
use crate::import::{Bindings, Model};
use crate::lower::{fold, lower_plain};
use crate::passes::unfold;
use crate::plan::{Lowered, own_outputs};
use crate::sizes::{Merged, Sample, differing, merge, samples};
use crate::target::Target;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// A size for each named dimension.
type Sizes = BTreeMap<String, usize>;

/// How often samples are added.
const MOST_ROUNDS: usize = 4;

/// How often constants are left to run time that were found to depend on sizes.
const MOST_UNFOLDED: usize = 16;

/// Samples at and above the smallest size for which a model is defined.
const BEGINNING: usize = 3;

/// The smallest size that is a sample.
const SMALLEST: usize = 2;

struct Sizer<'a> {
    model: &'a Model,
    bindings: &'a Bindings,
    target: &'a Target,
    clock: &'a Clock,
    /// The bounds of the dimensions that are no sums.
    free: Sizes,
    /// The shapes in all samples.
    shapes: Arc<Shapes>,
    /// What is constant in each sample, but computed at run time.
    computed: HashSet<String>,
}

/// A model typed for some sizes, and notes.
type Typed = (Graph, Vec<String>);

/// Typed and lowered samples; the first one is at the bounds.
struct Samples {
    typed: Vec<(Sizes, Typed)>,
    made: Vec<Sample>,
    notes: Vec<String>,
}

/// The model lowered for all sizes up to the bounds of the bindings, and notes.
pub fn lowered(
    model: &Model,
    bindings: &Bindings,
    target: &Target,
    observer: &dyn Observer,
    clock: &Clock,
) -> Result<(Lowered, Vec<String>)> {
    let free = bindings.bounds.iter().filter(|(name, _)| !bindings.sums.contains_key(*name));
    let free: Sizes = free.map(|(name, &bound)| (name.clone(), bound)).collect();
    let (shapes, computed) = Default::default();
    let mut sizer = Sizer { model, bindings, target, clock, free, shapes, computed };
    let mut all = samples(&sizer.free);
    let mut found = sizer.samples(&all, observer);
    let mut least = Sizes::new();
    if matches!(found, Err((1.., _))) {
        least = sizer.least()?;
        for sizes in &mut all {
            least.iter().for_each(|(name, &least)| raise(sizes, name, least));
        }
        for (name, &least) in &least {
            let beginning = least..(least + BEGINNING).min(sizer.free[name]);
            let at = |size| [(name.clone(), size)].into_iter().collect();
            all.extend(beginning.map(|size| over(&sizer.free, at(size))));
        }
        let mut once = HashSet::new();
        all.retain(|sizes| once.insert(sizes.clone()));
        found = sizer.samples(&all, observer);
    }
    let mut found = found.map_err(|(_, error)| error)?;
    let mut notes = std::mem::take(&mut found.notes);
    for (name, &least) in &least {
        notes.push(format!("dimension '{name}' must be {least} at least: the model is not defined below"));
    }
    let mut lowered = sizer.merged(found)?;
    for size in &mut lowered.lowering.sizes {
        size.least = size.name.as_ref().and_then(|name| least.get(name)).copied().unwrap_or(size.least);
    }
    let mut kept: Vec<ValueId> = lowered.outputs.iter().map(|o| o.0).collect();
    kept.extend(lowered.lowering.sizes.iter().map(|s| s.value));
    fold(&mut lowered.lowering, &kept);
    Ok((lowered, notes))
}

/// No size below the least.
fn raise(sizes: &mut Sizes, name: &str, least: usize) {
    if let Some(size) = sizes.get_mut(name) {
        *size = least.max(*size);
    }
}

/// Sizes with others in place of some of them.
fn over(sizes: &Sizes, others: Sizes) -> Sizes {
    let mut all = sizes.clone();
    all.extend(others);
    all
}

/// The shapes of the values that have different ones.
fn shapes(graphs: &[(Sizes, Typed)]) -> Shapes {
    let mut all = Shapes::new();
    for value in graphs.iter().flat_map(|(_, (graph, _))| &graph.values) {
        all.entry(value.name.clone()).or_default().push(value.ty.shape.clone());
    }
    all.retain(|_, shapes| shapes.iter().any(|s| *s != shapes[0]));
    all
}

impl Sizer<'_> {
    /// The model in all samples; the error of the first that fails, with its number.
    fn samples(
        &mut self,
        all: &[Sizes],
        observer: &dyn Observer,
    ) -> std::result::Result<Samples, (usize, Error)> {
        let mut typed = Vec::new();
        let shown = |number| if number == 0 { observer } else { &Silent as &dyn Observer };
        for (number, sizes) in all.iter().enumerate() {
            observer.progress("sizing", number, all.len());
            let graph = self.typed(sizes, number, shown(number)).map_err(|e| (number, e))?;
            typed.push((sizes.clone(), graph));
        }
        self.shapes = Arc::new(shapes(&typed));
        self.computed = differing(&typed.iter().map(|(_, (graph, _))| graph).collect::<Vec<_>>());
        let (mut made, mut notes) = (Vec::new(), Vec::new());
        for (number, (sizes, graph)) in typed.iter().enumerate() {
            let (sample, more) =
                self.lowered(graph.clone(), sizes, shown(number)).map_err(|e| (number, e))?;
            made.push(sample);
            if number == 0 {
                notes = more;
            }
        }
        Ok(Samples { typed, made, notes })
    }

    /// The samples as one lowering: with further ones, where those leave open what a number is, and with
    /// more computed at run time, where constants depend on the sizes.
    fn merged(&mut self, mut samples: Samples) -> Result<Lowered> {
        let (mut added, mut unfolded) = (0, 0);
        loop {
            match merge(&samples.made)? {
                Merged::One(lowered, open) => {
                    added += 1;
                    if added > MOST_ROUNDS || !self.add(&mut samples, open)? {
                        return Ok(lowered);
                    }
                }
                Merged::Unlike(names, error) => {
                    unfolded += 1;
                    let graph = &samples.typed[0].1.0;
                    let made = graph.folded.iter().flat_map(|n| n.outputs.iter().flatten());
                    let made: HashSet<&String> = made.map(|&o| &graph.value(o).name).collect();
                    let more: Vec<String> = names.into_iter().filter(|n| made.contains(n)).collect();
                    let before = self.computed.len();
                    self.computed.extend(more);
                    if self.computed.len() == before || unfolded > MOST_UNFOLDED {
                        return Err(error);
                    }
                    for ((sizes, graph), sample) in samples.typed.iter().zip(&mut samples.made) {
                        *sample = self.lowered(graph.clone(), sizes, &Silent)?.0;
                    }
                }
            }
        }
    }

    /// Adds the samples where single sizes have the given values; whether there were any.
    fn add(&self, samples: &mut Samples, open: Vec<(String, usize)>) -> Result<bool> {
        let before = samples.made.len();
        for (name, value) in open.into_iter().filter(|o| !self.bindings.sums.contains_key(&o.0)) {
            let sizes = over(&self.free, [(name, value)].into_iter().collect());
            let Ok(graph) = self.typed(&sizes, before, &Silent) else { continue };
            let Ok((sample, _)) = self.lowered(graph.clone(), &sizes, &Silent) else { continue };
            samples.made.push(sample);
            samples.typed.push((sizes, graph));
        }
        Ok(samples.made.len() > before)
    }

    /// Types the model for sizes of the dimensions that are no sums.
    fn typed(&self, sizes: &Sizes, number: usize, shown: &dyn Observer) -> Result<Typed> {
        let sizes = self.bindings.with_sums(sizes.clone())?;
        let (types, mut notes) = self.bindings.at(&sizes).resolve(&self.model.body)?;
        let (graph, more) = typed_graph(self.model, &types, number as u32 + 1, shown, self.clock)?;
        notes.extend(more);
        Ok((graph, notes))
    }

    fn lowered(&self, typed: Typed, sizes: &Sizes, shown: &dyn Observer) -> Result<(Sample, Vec<String>)> {
        let (mut graph, mut notes) = typed;
        let sizes = self.bindings.with_sums(sizes.clone())?;
        unfold(&mut graph, &self.computed);
        graph.shapes = self.shapes.clone();
        notes.extend(rewrite(&mut graph, self.target, shown, self.clock)?);
        let mut lowering = lower_plain(&graph)?;
        let outputs = own_outputs(&graph, &mut lowering);
        for (name, &bound) in &self.bindings.bounds {
            let value = lowering.size(format!("size.{name}"), bound, sizes[name]);
            if let Some(size) = lowering.sizes.iter_mut().find(|s| s.value == value) {
                size.name = Some(name.clone());
            }
        }
        self.state_sums(&mut lowering);
        Ok((Sample { graph, lowering, outputs }, notes))
    }

    /// Which sizes are the sums of which.
    fn state_sums(&self, lowering: &mut Lowering) {
        let numbers: BTreeMap<String, usize> =
            lowering.sizes.iter().enumerate().filter_map(|(i, s)| Some((s.name.clone()?, i))).collect();
        for (name, sum) in &self.bindings.sums {
            let fixed: usize = sum.of.iter().filter_map(|n| self.bindings.dims.get(n)).sum();
            let free = sum.of.iter().filter_map(|n| numbers.get(n).copied()).collect();
            if let Some(&number) = numbers.get(name) {
                lowering.sizes[number].sum = Some((free, sum.number + fixed));
            }
        }
    }

    /// The smallest size of each dimension for which the model is defined, where that is not any; the others
    /// are at their bounds.
    fn least(&self) -> Result<Sizes> {
        let mut least = Sizes::new();
        for (name, &bound) in &self.free {
            let at = |size| {
                let sizes = over(&self.free, [(name.clone(), size)].into_iter().collect());
                self.lowered(self.typed(&sizes, 1, &Silent)?, &sizes, &Silent)
            };
            let (mut below, mut defined) = (SMALLEST, bound);
            if bound <= SMALLEST || at(SMALLEST).is_ok() {
                continue;
            }
            while below + 1 < defined {
                let middle = (below + defined) / 2;
                match at(middle) {
                    Ok(_) => defined = middle,
                    Err(_) => below = middle,
                }
            }
            least.insert(name.clone(), defined);
        }
        Ok(least)
    }
}
