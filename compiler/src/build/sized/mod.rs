//! Models with sizes known only at run time: lowered at several samples, merged.

mod begin;
mod between;
mod merged;
mod small;

use super::timing::Clock;
use super::{Observer, Silent, rewrite, typed_graph};
use crate::definition::{Lowering, ValueId};
use crate::error::{Error, Result};
use crate::graph::{Graph, Shapes};
use crate::import::{Bindings, Model};
use crate::lower::{fold, lower_plain};
use crate::passes::{Around, Given, unfold};
use crate::plan::{Lowered, own_outputs};
use crate::sizes::{Sample, Single, alike, differing, same_steps, samples, single, special, uniform};
use begin::begin_at;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// A size for each named dimension.
type Sizes = BTreeMap<String, usize>;

/// The number of the sample in which sizes that depend on data have their bounds.
const AT_BOUNDS: u32 = 1;

/// The smallest size that is a sample.
const SMALLEST: usize = 2;

struct Sizer<'a> {
    model: &'a Model,
    bindings: &'a Bindings,
    around: &'a Around<'a>,
    clock: &'a Clock,
    /// The bounds of the dimensions that are no sums.
    free: Sizes,
    /// Which of these the caller does not give, since a dimension is a multiple of it.
    hidden: BTreeMap<String, (String, usize, usize)>,
    /// The shapes in all samples.
    shapes: Arc<Shapes>,
    /// The same of what passes have made, too.
    rewritten: Arc<Shapes>,
    /// The constants that are alike in all samples.
    alike: Arc<HashMap<String, usize>>,
    /// The constants that are one number in all samples.
    uniform: Arc<HashSet<String>>,
    /// What is constant in each sample, but computed at run time.
    computed: HashSet<String>,
    /// The conditions among these, and what is known of numbers that the model computes.
    given: Given,
    /// The model where a dimension is 1; nothing where it is not defined then.
    ones: BTreeMap<String, Option<Single>>,
    /// The model where data decide that sizes are 0, and 1.
    of_data: Vec<Single>,
    /// The model where dimensions that may be are 0, with their names.
    empty: Vec<(String, Single)>,
    /// Sizes for which the model is not defined, of those that would leave less open.
    undefined: Vec<Sizes>,
}

/// What small sizes must pass.
#[derive(Clone, Copy, PartialEq)]
enum Check {
    /// The model is defined for them.
    Defined,
    /// They are computed by the same steps as the bounds. What these are is known once all samples are typed.
    Alike,
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
    around: &Around,
    observer: &dyn Observer,
    clock: &Clock,
) -> Result<(Lowered, Vec<String>)> {
    let mut sizer = Sizer::new(model, bindings, around, clock);
    let mut all = samples(&sizer.free, &Sizes::new());
    sizer.look_at_small(&all[0])?;
    let mut found = sizer.samples(&all, observer);
    let sum = found.is_err().then(|| sizer.sum(&all[0])).flatten();
    if let Some(sum) = sum
        && let Err((_, error)) = found
    {
        return Err(error.advise(format!("The model is defined for these alone: give {sum}")));
    }
    let again = |stepped: Option<(Bindings, String)>| {
        let (bindings, note) = stepped?;
        let with_note = |(lowered, mut notes): (Lowered, Vec<String>)| {
            notes.push(note);
            (lowered, notes)
        };
        Some(lowered(model, &bindings, around, observer, clock).map(with_note))
    };
    if matches!(found, Err((1.., _)))
        && let Some(found) = again(sizer.stepped(&all[0], Check::Defined))
    {
        return found;
    }
    let mut least = Sizes::new();
    for check in [Check::Defined, Check::Alike] {
        // Where data alone decide there is no size to begin at.
        if !matches!(found, Err((1.., _))) || sizer.free.is_empty() {
            break;
        }
        least.extend(sizer.least(&all[0], check)?);
        all = begin_at(&least, &sizer.free);
        found = sizer.samples(&all, observer);
    }
    if matches!(found, Err((1.., _)))
        && let Some(Ok(found)) = again(sizer.stepped(&all[0], Check::Alike))
    {
        return Ok(found);
    }
    let mut found = found.map_err(|(number, error)| sizer.advised(&all[0], number, error))?;
    sizer.ones.retain(|name, _| !least.contains_key(name));
    let undefined = sizer.ones.iter().filter(|one| one.1.is_none());
    let mut above: Vec<String> = undefined.map(|one| one.0.clone()).collect();
    let mut notes = std::mem::take(&mut found.notes);
    let (mut lowered, unfit) = sizer.merged(found, &least)?;
    above.extend(unfit);
    least.extend(above.into_iter().map(|name| (name, SMALLEST)));
    sizer.state_least(least, &mut lowered, &mut notes)?;
    let mut lowered = single(lowered);
    let mut kept: Vec<ValueId> = lowered.outputs.iter().map(|o| o.0).collect();
    kept.extend(lowered.lowering.sizes.iter().map(|s| s.value));
    fold(&mut lowered.lowering, &kept);
    Ok((lowered, notes))
}

/// Sizes with others in place of some of them.
fn over(sizes: &Sizes, others: Sizes) -> Sizes {
    let mut all = sizes.clone();
    all.extend(others);
    all
}

/// The shapes of all values.
fn shapes<'a>(graphs: impl Iterator<Item = &'a Graph>) -> Shapes {
    let mut all = Shapes::new();
    for value in graphs.flat_map(|graph| &graph.values) {
        all.entry(value.name.clone()).or_default().push(value.ty.shape.clone());
    }
    all
}

impl Sizer<'_> {
    fn new<'a>(model: &'a Model, bindings: &'a Bindings, around: &'a Around, clock: &'a Clock) -> Sizer<'a> {
        let free = bindings.bounds.iter().filter(|(name, _)| !bindings.sums.contains_key(*name));
        let (shapes, rewritten, alike, uniform, computed) = Default::default();
        let (ones, of_data, empty, undefined) = Default::default();
        Sizer {
            model,
            bindings,
            around,
            clock,
            free: free.map(|(name, &bound)| (name.clone(), bound)).collect(),
            hidden: bindings.hidden(&model.body),
            shapes,
            rewritten,
            alike,
            uniform,
            computed,
            given: Given { known: Some(Arc::default()), ..Given::of(bindings) },
            ones,
            of_data,
            empty,
            undefined,
        }
    }

    /// Notes which sizes are the smallest.
    fn state_least(&self, mut least: Sizes, lowered: &mut Lowered, notes: &mut Vec<String>) -> Result<()> {
        let empty = &self.bindings.empty;
        if let Some((name, least)) = least.iter().find(|(name, _)| empty.contains(*name)) {
            return Err(small::not_empty(name, &format!("it must be {least} at least")));
        }
        for (name, &least) in least.iter().filter(|(name, _)| !self.hidden.contains_key(*name)) {
            notes.push(format!("dimension '{name}' must be {least} at least: the model is not defined below, or computed in another way"));
        }
        for (name, (by, times, number)) in &self.hidden {
            let smallest = times * least.remove(name).unwrap_or(1) + number;
            notes.push(format!(
                "dimension '{by}' must be {smallest} at least, and {times} times a number more"
            ));
            least.insert(by.clone(), smallest);
        }
        for size in &mut lowered.lowering.sizes {
            let Some(name) = &size.name else { continue };
            let first = if empty.contains(name) { 0 } else { size.least };
            size.least = least.get(name).copied().unwrap_or(first);
        }
        Ok(())
    }

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
            let graph = self.typed(sizes, number as u32 + 1, shown(number)).map_err(|e| (number, e))?;
            typed.push((sizes.clone(), graph));
        }
        self.computed.clear();
        self.learn(&typed);
        self.computed.extend(self.given.open.iter().cloned());
        let (made, notes) = self.made_of(&typed, observer)?;
        Ok(Samples { typed, made, notes })
    }

    /// Typed samples lowered, by the shapes that what passes have made has in all of them; the error of the first that
    /// fails, or is computed by other steps than the first, with its number.
    fn made_of(
        &mut self,
        typed: &[(Sizes, Typed)],
        observer: &dyn Observer,
    ) -> std::result::Result<(Vec<Sample>, Vec<String>), (usize, Error)> {
        let shown = |number| if number == 0 { observer } else { &Silent as &dyn Observer };
        let (mut rewritten, mut made, mut notes) = (Vec::new(), Vec::<Sample>::new(), Vec::new());
        for (number, (_, graph)) in typed.iter().enumerate() {
            rewritten.push(self.rewritten(graph.clone(), shown(number)).map_err(|e| (number, e))?);
        }
        let mut all = Shapes::clone(&self.shapes);
        let of_all = shapes(rewritten.iter().map(|(graph, _)| graph));
        all.extend(of_all.into_iter().filter(|(_, shapes)| shapes.len() == typed.len()));
        self.rewritten = Arc::new(all);
        for (number, ((sizes, _), (graph, more))) in typed.iter().zip(rewritten).enumerate() {
            let sample = self.lowered(graph, sizes).map_err(|e| (number, e))?;
            match made.first() {
                Some(first) => same_steps(first, &sample).map_err(|e| (number, e))?,
                None => notes = more,
            }
            made.push(sample);
        }
        Ok((made, notes))
    }

    /// Notes what is alike in all samples: passes go by it.
    fn learn(&mut self, typed: &[(Sizes, Typed)]) {
        self.shapes = Arc::new(shapes(typed.iter().map(|(_, (graph, _))| graph)));
        let graphs: Vec<&Graph> = typed.iter().map(|(_, (graph, _))| graph).collect();
        self.alike = Arc::new(alike(&graphs));
        self.uniform = Arc::new(uniform(&graphs));
        self.computed.extend(differing(&graphs));
        let small: Vec<&Graph> = self.small().collect();
        self.computed.extend(special(&graphs, &small));
    }

    /// Types the model for sizes of the dimensions that are no sums. The sample's number decides on sizes that
    /// depend on data.
    fn typed(&self, sizes: &Sizes, number: u32, shown: &dyn Observer) -> Result<Typed> {
        let sizes = self.bindings.with_sums(sizes.clone())?;
        let (types, mut notes) = self.bindings.at(&sizes).resolve(&self.model.body)?;
        let (graph, more) = typed_graph(self.model, &types, number, &self.given, shown, self.clock)?;
        notes.extend(more);
        Ok((graph, notes))
    }

    /// The model rewritten by the passes.
    fn rewritten(&self, typed: Typed, shown: &dyn Observer) -> Result<Typed> {
        let (mut graph, mut notes) = typed;
        unfold(&mut graph, &self.computed);
        graph.shapes = self.shapes.clone();
        graph.alike = self.alike.clone();
        graph.uniform = self.uniform.clone();
        notes.extend(rewrite(&mut graph, self.around.clone(), shown, self.clock)?);
        Ok((graph, notes))
    }

    /// The rewritten model lowered for some sizes.
    fn lowered(&self, mut graph: Graph, sizes: &Sizes) -> Result<Sample> {
        let sizes = self.bindings.with_sums(sizes.clone())?;
        graph.shapes = self.rewritten.clone();
        let mut lowering = lower_plain(&graph)?;
        let outputs = own_outputs(&graph, &mut lowering);
        let given = self.bindings.bounds.iter().filter(|(name, _)| !self.hidden.contains_key(*name));
        for (name, &bound) in given {
            let value = lowering.size(format!("size.{name}"), bound, sizes[name]);
            if let Some(size) = lowering.sizes.iter_mut().find(|s| s.value == value) {
                size.name = Some(name.clone());
                let step = self.hidden.values().find(|(by, ..)| by == name);
                size.step = step.map_or(size.step, |(_, times, number)| (*times, *number));
            }
        }
        self.state_sums(&mut lowering);
        Ok(Sample { graph, lowering, outputs })
    }

    /// Which sizes are the sums of which.
    fn state_sums(&self, lowering: &mut Lowering) {
        let numbers: BTreeMap<String, usize> =
            lowering.sizes.iter().enumerate().filter_map(|(i, s)| Some((s.name.clone()?, i))).collect();
        for (name, sum) in &self.bindings.sums {
            let fixed = sum.of.iter().filter_map(|(n, times)| Some(times * self.bindings.dims.get(n)?));
            let fixed: usize = fixed.sum();
            let free = sum.of.iter().filter_map(|(n, times)| Some((*numbers.get(n)?, *times))).collect();
            let hidden = sum.of.iter().any(|(n, _)| self.hidden.contains_key(n));
            if let Some(&number) = numbers.get(name).filter(|_| !hidden) {
                lowering.sizes[number].sum = Some((free, sum.number + fixed));
            }
        }
    }
}
