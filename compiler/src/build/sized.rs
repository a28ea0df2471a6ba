//! Models with sizes known only at run time: lowered at several samples, merged.

use super::timing::Clock;
use super::{Observer, Silent, rewrite, typed_graph};
use crate::definition::{Lowering, ValueId};
use crate::error::{Error, Result};
use crate::graph::{Graph, SAMPLE_OF_NONE, SAMPLE_OF_ONE, Shapes, sample_near};
use crate::import::{Bindings, Model, Sum};
use crate::lower::{fold, lower_plain};
use crate::passes::{Around, Given, unfold, wanted};
use crate::plan::{Lowered, own_outputs};
use crate::sizes::{
    Merged, Open, Sample, Single, Typings, alike, differing, merge, same_steps, samples, single, special,
    special_within, uniform,
};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// A size for each named dimension.
type Sizes = BTreeMap<String, usize>;

/// How often samples are added.
const MOST_ROUNDS: usize = 4;

/// How often constants are left to run time that were found to depend on sizes.
const MOST_UNFOLDED: usize = 16;

/// Samples at and above the smallest size for which a model is defined.
const BEGINNING: usize = 3;

/// Samples that are added around a limit.
const NEAR_LIMIT: usize = 8;

/// The number of the sample in which sizes that depend on data have their bounds.
const AT_BOUNDS: u32 = 1;

/// The largest step between sizes for which a model is defined that is found of itself.
const LARGEST_STEP: usize = 128;

/// How many steps below the bound it must be defined, as far as half of the bound: more than a few, since strides that
/// round up give sizes next to each other one meaning.
const STEPS: [usize; 9] = [1, 2, 3, 5, 8, 16, 32, 64, 128];

/// Where the model is not defined at a bound, the multiples of these below it are tried to say which bound would do.
const MULTIPLES: [usize; 14] = [2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20, 32, 64, 128];

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
    /// The constants that are alike in all samples.
    alike: Arc<HashMap<String, usize>>,
    /// The constants that are one number in all samples.
    uniform: Arc<HashSet<String>>,
    /// What is constant in each sample, but computed at run time.
    computed: HashSet<String>,
    /// The conditions among these, and what is known of numbers that the model computes.
    given: Given,
    /// The model for the smallest sizes.
    small: Vec<Graph>,
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
    let mut all = samples(&sizer.free);
    sizer.look_at_small(&all[0]);
    let mut found = sizer.samples(&all, observer);
    if matches!(found, Err((1.., _)))
        && let Some((stepped, note)) = sizer.stepped(&all[0])
    {
        let (lowered, mut notes) = lowered(model, &stepped, around, observer, clock)?;
        notes.push(note);
        return Ok((lowered, notes));
    }
    let mut least = Sizes::new();
    for check in [Check::Defined, Check::Alike] {
        // Where data alone decide there is no size to begin at.
        if !matches!(found, Err((1.., _))) || sizer.free.is_empty() {
            break;
        }
        least.extend(sizer.least(&all[0], check)?);
        begin_at(&mut all, &least, &sizer.free);
        found = sizer.samples(&all, observer);
    }
    let mut found = found.map_err(|(number, error)| sizer.advised(&all[0], number, error))?;
    let alone: Vec<&String> = sizer.free.keys().filter(|name| !least.contains_key(*name)).collect();
    let (singles, mut above) = sizer.singles(&alone)?;
    let mut notes = std::mem::take(&mut found.notes);
    let (mut lowered, unfit) = sizer.merged(found, &singles)?;
    above.extend(unfit);
    least.extend(above.into_iter().map(|name| (name, SMALLEST)));
    for (name, &least) in least.iter().filter(|(name, _)| !sizer.hidden.contains_key(*name)) {
        notes.push(format!("dimension '{name}' must be {least} at least: the model is not defined below, or computed in another way"));
    }
    for (name, (by, times, number)) in &sizer.hidden {
        let smallest = times * least.remove(name).unwrap_or(1) + number;
        notes.push(format!("dimension '{by}' must be {smallest} at least, and {times} times a number more"));
        least.insert(by.clone(), smallest);
    }
    for size in &mut lowered.lowering.sizes {
        size.least = size.name.as_ref().and_then(|name| least.get(name)).copied().unwrap_or(size.least);
    }
    let mut lowered = single(lowered);
    let mut kept: Vec<ValueId> = lowered.outputs.iter().map(|o| o.0).collect();
    kept.extend(lowered.lowering.sizes.iter().map(|s| s.value));
    fold(&mut lowered.lowering, &kept);
    Ok((lowered, notes))
}

/// Samples that have no size below the least ones, with some that begin there.
fn begin_at(all: &mut Vec<Sizes>, least: &Sizes, free: &Sizes) {
    for sizes in &mut *all {
        least.iter().for_each(|(name, &least)| raise(sizes, name, least));
    }
    for (name, &least) in least {
        let beginning = least..(least + BEGINNING).min(free[name]);
        let at = |size| [(name.clone(), size)].into_iter().collect();
        all.extend(beginning.map(|size| over(free, at(size))));
    }
    let mut once = HashSet::new();
    all.retain(|sizes| once.insert(sizes.clone()));
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
    fn new<'a>(model: &'a Model, bindings: &'a Bindings, around: &'a Around, clock: &'a Clock) -> Sizer<'a> {
        let free = bindings.bounds.iter().filter(|(name, _)| !bindings.sums.contains_key(*name));
        let (shapes, alike, uniform, computed, small) = Default::default();
        Sizer {
            model,
            bindings,
            around,
            clock,
            free: free.map(|(name, &bound)| (name.clone(), bound)).collect(),
            hidden: bindings.hidden(&model.body),
            shapes,
            alike,
            uniform,
            computed,
            given: Given::of(bindings),
            small,
        }
    }

    /// The error with the bound that would do, where the model is not defined at the given ones.
    fn advised(&self, bounds: &Sizes, number: usize, error: Error) -> Error {
        if number > 0 || self.typed(bounds, AT_BOUNDS, &Silent).is_ok() {
            return error;
        }
        let defined = |name: &String, size: usize| {
            let sizes = over(bounds, [(name.clone(), size)].into_iter().collect());
            self.typed(&sizes, AT_BOUNDS, &Silent).is_ok()
        };
        let below = |(name, &bound): (&String, &usize)| {
            let multiples = MULTIPLES.iter().map(|step| bound - bound % step);
            let sizes: BTreeSet<usize> = multiples.filter(|&size| size > 0 && size < bound).collect();
            let size = sizes.into_iter().rev().find(|&size| defined(name, size))?;
            Some((name.clone(), bound, size))
        };
        let given = self.free.iter().filter(|(name, _)| !self.hidden.contains_key(*name));
        match given.filter_map(below).next() {
            Some((name, bound, size)) => error.advise(format!(
                "The model is not defined where '{name}' is {bound}, but where it is {size}: give --dim '{name}<={size}'"
            )),
            None => error,
        }
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
        self.shapes = Arc::new(shapes(&typed));
        let graphs: Vec<&Graph> = typed.iter().map(|(_, (graph, _))| graph).collect();
        self.alike = Arc::new(alike(&graphs));
        self.uniform = Arc::new(uniform(&graphs));
        self.computed = differing(&graphs);
        let small: Vec<&Graph> = self.small.iter().collect();
        self.computed.extend(special(&graphs, &small));
        if let Some(name) = special_within(&graphs, &small) {
            let error = Error::model(format!(
                "'{name}', in the body of an If, Loop or Scan, is another constant where sizes known only at run time are 0 or 1"
            ));
            return Err((
                0,
                error.advise("Compute it outside of the body, or bind the dimension to one size"),
            ));
        }
        self.computed.extend(self.given.open.iter().cloned());
        let (mut made, mut notes) = (Vec::new(), Vec::new());
        for (number, (sizes, graph)) in typed.iter().enumerate() {
            let (sample, more) =
                self.lowered(graph.clone(), sizes, shown(number)).map_err(|e| (number, e))?;
            match made.first() {
                Some(first) => same_steps(first, &sample).map_err(|e| (number, e))?,
                None => notes = more,
            }
            made.push(sample);
        }
        Ok(Samples { typed, made, notes })
    }

    /// Types the model where a size is 1, and where data decide that sizes are 0 or 1: no sample shows what is special
    /// there, since 1 broadcasts and 0 leaves nothing to compute. Conditions that say something else at the bounds
    /// are left open.
    fn look_at_small(&mut self, bounds: &Sizes) {
        let Ok((at_bounds, _)) = self.typed(bounds, AT_BOUNDS, &Silent) else { return };
        self.given.lengths = Arc::new(at_bounds.numbers.iter().cloned().collect());
        let typed = |sizes: &Sizes, number| self.typed(sizes, number, &Silent).map(|(graph, _)| graph);
        let one = |name: &String| over(bounds, [(name.clone(), 1)].into_iter().collect());
        let ones = self.free.keys().map(|name| typed(&one(name), AT_BOUNDS));
        let data = [SAMPLE_OF_NONE, SAMPLE_OF_ONE].map(|number| typed(bounds, number));
        let small: Vec<Graph> = ones.chain(data).flatten().collect();
        let names: HashSet<String> = at_bounds.decided.iter().map(|(name, _)| name.clone()).collect();
        let said: HashSet<(String, bool)> = at_bounds.decided.into_iter().collect();
        let decided = small.iter().flat_map(|graph| &graph.decided);
        let open = decided.filter(|said_small| names.contains(&said_small.0) && !said.contains(*said_small));
        self.given.open = Arc::new(open.map(|(name, _)| name.clone()).collect());
        self.small = small;
    }

    /// The samples as one lowering: with further ones, where those leave open what a number is, and with
    /// more computed at run time, where constants depend on the sizes.
    fn merged(&mut self, mut samples: Samples, singles: &[Single]) -> Result<(Lowered, Vec<String>)> {
        let (mut added, mut unfolded) = (0, 0);
        loop {
            let typed: Vec<&Graph> = samples.typed.iter().map(|(_, (graph, _))| graph).collect();
            let graphs = typed.iter().copied().take(1).chain(singles.iter().map(|s| &s.graph));
            let wanted = graphs.flat_map(wanted).collect();
            let typings = Typings { samples: typed, singles, computed: &self.computed, wanted };
            match merge(&samples.made, &typings)? {
                Merged::One(lowered, mut open) => {
                    added += 1;
                    let unfit = std::mem::take(&mut open.unfit);
                    if added > MOST_ROUNDS || !self.add(&mut samples, open)? {
                        return Ok((lowered, unfit));
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

    /// Adds the samples that leave less open; whether there were any.
    fn add(&self, samples: &mut Samples, open: Open) -> Result<bool> {
        let before = samples.made.len();
        let chosen = |(name, value): (String, usize)| {
            let inner = self.hidden.iter().find(|(_, (by, ..))| *by == name);
            match inner {
                Some((inner, (_, times, number))) => {
                    Some((inner.clone(), value.checked_sub(*number)? / times)).filter(|(_, v)| *v > 0)
                }
                None => Some((name, value)).filter(|(name, _)| !self.bindings.sums.contains_key(name)),
            }
        };
        let single = open.sizes.into_iter().filter_map(chosen);
        let single = single.map(|(name, value)| {
            (over(&self.free, [(name, value)].into_iter().collect()), before as u32 + 1)
        });
        let near = |limit| (0..NEAR_LIMIT).map(move |i| sample_near(limit, (before + i) as u32 + 1));
        let near = open.limits.into_iter().flat_map(near).map(|number| (self.free.clone(), number));
        for (sizes, number) in single.chain(near) {
            let Ok(graph) = self.typed(&sizes, number, &Silent) else { continue };
            let Ok((sample, _)) = self.lowered(graph.clone(), &sizes, &Silent) else { continue };
            samples.made.push(sample);
            samples.typed.push((sizes, graph));
        }
        Ok(samples.made.len() > before)
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

    /// The model where one of the dimensions is 1, which is no sample; the dimensions for which it is not defined then.
    fn singles(&self, names: &[&String]) -> Result<(Vec<Single>, Vec<String>)> {
        let (mut singles, mut undefined) = (Vec::new(), Vec::new());
        for &name in names.iter().filter(|name| self.free[**name] >= SMALLEST) {
            let sizes = over(&self.free, [(name.clone(), 1)].into_iter().collect());
            match self.typed(&sizes, AT_BOUNDS, &Silent) {
                Ok((graph, _)) => {
                    let sizes = self.bindings.with_sums(sizes)?;
                    singles.push(Single { name: name.clone(), sizes, graph });
                }
                Err(_) => undefined.push(name.clone()),
            }
        }
        Ok((singles, undefined))
    }

    /// The bindings with a dimension a multiple of another, and a number: where the model is defined at the bounds
    /// and at sizes a step apart from them, but not in between.
    fn stepped(&self, bounds: &Sizes) -> Option<(Bindings, String)> {
        let defined = |name: &String, size: usize| {
            let sizes = over(&self.free, [(name.clone(), size)].into_iter().collect());
            self.typed(&sizes, AT_BOUNDS, &Silent).is_ok()
        };
        let is_term = |name| self.bindings.sums.values().any(|sum| sum.of.iter().any(|(of, _)| of == name));
        let given = bounds.iter().filter(|(name, _)| !is_term(*name));
        let mut apart = given.filter_map(|(name, &bound)| {
            let fits = |step: &usize| {
                STEPS
                    .iter()
                    .map(|n| n * step)
                    .filter(|below| 2 * below <= bound)
                    .all(|below| defined(name, bound - below))
            };
            let step = (1..=LARGEST_STEP.min(bound / 2)).find(fits)?;
            (1..step).any(|below| !defined(name, bound - below)).then_some((name, bound, step))
        });
        let (name, bound, step) = apart.next()?;
        let mut bindings = self.bindings.clone();
        let (number, inner) = (bound % step, format!("{name}/{step}"));
        bindings.bounds.insert(inner.clone(), bound / step);
        bindings.sums.insert(name.clone(), Sum { of: vec![(inner, step)], number });
        Some((
            bindings,
            format!("dimension '{name}' is taken in steps of {step}: the model is not defined in between"),
        ))
    }

    fn lowered(&self, typed: Typed, sizes: &Sizes, shown: &dyn Observer) -> Result<(Sample, Vec<String>)> {
        let (mut graph, mut notes) = typed;
        let sizes = self.bindings.with_sums(sizes.clone())?;
        unfold(&mut graph, &self.computed);
        graph.shapes = self.shapes.clone();
        graph.alike = self.alike.clone();
        graph.uniform = self.uniform.clone();
        notes.extend(rewrite(&mut graph, self.around.clone(), shown, self.clock)?);
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
        Ok((Sample { graph, lowering, outputs }, notes))
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

    /// The smallest size of each dimension that passes, where that is not any; the others are at their bounds.
    fn least(&self, bounds: &Sizes, check: Check) -> Result<Sizes> {
        let made = |sizes: &Sizes| self.lowered(self.typed(sizes, AT_BOUNDS, &Silent)?, sizes, &Silent);
        let (first, mut least) = (made(bounds)?.0, Sizes::new());
        for (name, &bound) in &self.free {
            let at = |size| {
                let sizes = over(&self.free, [(name.clone(), size)].into_iter().collect());
                let made = made(&sizes)?.0;
                if check == Check::Alike { same_steps(&first, &made) } else { Ok(()) }
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
