//! Models with sizes known only at run time: lowered at several samples, merged.

use super::timing::Clock;
use super::{Observer, Silent, rewrite, typed_graph};
use crate::definition::{Lowering, ValueId};
use crate::error::{Error, Result};
use crate::graph::{Graph, Shapes};
use crate::import::{Bindings, Model};
use crate::lower::{fold, lower_plain};
use crate::plan::{Lowered, own_outputs};
use crate::sizes::{Sample, merge, samples};
use crate::target::Target;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A size for each named dimension.
type Sizes = BTreeMap<String, usize>;

/// Where a model is not defined for small sizes: so many samples must be left.
const FEWEST: usize = 5;

/// How often samples are added.
const MOST_ROUNDS: usize = 4;

/// Samples at and above the smallest size for which a model is defined.
const BEGINNING: usize = 3;

struct Sizer<'a> {
    model: &'a Model,
    bindings: &'a Bindings,
    target: &'a Target,
    clock: &'a Clock,
    /// The shapes in all samples.
    shapes: Arc<Shapes>,
}

/// A model typed for some sizes, and notes.
type Typed = (Graph, Vec<String>);

/// The model lowered for all sizes up to the bounds of the bindings, and notes.
pub fn lowered(
    model: &Model,
    bindings: &Bindings,
    target: &Target,
    observer: &dyn Observer,
    clock: &Clock,
) -> Result<(Lowered, Vec<String>)> {
    let mut sizer = Sizer { model, bindings, target, clock, shapes: Arc::default() };
    let free = bindings.bounds.iter().filter(|(name, _)| !bindings.sums.contains_key(*name));
    let free: Sizes = free.map(|(name, &bound)| (name.clone(), bound)).collect();
    let mut all: Vec<Sizes> =
        samples(&free).into_iter().map(|s| bindings.with_sums(s)).collect::<Result<_>>()?;
    let (mut graphs, mut made, mut notes, mut failed) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (number, sizes) in all.iter().enumerate() {
        observer.progress("sizing", number, all.len());
        let shown: &dyn Observer = if number == 0 { observer } else { &Silent };
        match sizer.typed(sizes, number, shown) {
            Ok(typed) => graphs.push((number, typed)),
            Err(error) if number == 0 => return Err(error),
            Err(error) => failed.push((number, error)),
        }
    }
    sizer.shapes = Arc::new(shapes(&graphs));
    for (number, typed) in graphs {
        let shown: &dyn Observer = if number == 0 { observer } else { &Silent };
        match sizer.lowered(typed, &all[number], shown) {
            Ok((sample, more)) => {
                if number == 0 {
                    notes = more;
                }
                made.push(sample);
            }
            Err(error) if number == 0 => return Err(error),
            Err(error) => failed.push((number, error)),
        }
    }
    if !failed.is_empty() {
        let (name, least) = sizer.least(&all, failed, &free)?;
        notes.push(format!("dimension '{name}' must be {least} at least: the model is not defined below"));
        for size in least..(least + BEGINNING).min(free[&name]) {
            let mut sizes = free.clone();
            sizes.insert(name.clone(), size);
            let sizes = bindings.with_sums(sizes)?;
            made.push(sizer.sample(&sizes, all.len(), &Silent)?.0);
            all.push(sizes);
        }
        for size in made.iter_mut().flat_map(|s| &mut s.lowering.sizes) {
            if size.name.as_ref() == Some(&name) {
                size.least = least;
            }
        }
    }
    let mut lowered = sizer.merged(made, &free)?;
    let mut kept: Vec<ValueId> = lowered.outputs.iter().map(|o| o.0).collect();
    kept.extend(lowered.lowering.sizes.iter().map(|s| s.value));
    fold(&mut lowered.lowering, &kept);
    Ok((lowered, notes))
}

/// The shapes of the values that have different ones.
fn shapes(graphs: &[(usize, Typed)]) -> Shapes {
    let mut all = Shapes::new();
    for value in graphs.iter().flat_map(|(_, (graph, _))| &graph.values) {
        all.entry(value.name.clone()).or_default().push(value.ty.shape.clone());
    }
    all.retain(|_, shapes| shapes.iter().any(|s| *s != shapes[0]));
    all
}

impl Sizer<'_> {
    /// The samples as one lowering; with further ones, where those leave open what a number is.
    fn merged(&self, mut made: Vec<Sample>, free: &Sizes) -> Result<Lowered> {
        for _ in 0..MOST_ROUNDS {
            let (lowered, open) = merge(&made)?;
            let before = made.len();
            for (name, value) in open.into_iter().filter(|o| !self.bindings.sums.contains_key(&o.0)) {
                let mut sizes = free.clone();
                sizes.insert(name, value);
                let sizes = self.bindings.with_sums(sizes)?;
                made.extend(self.sample(&sizes, before, &Silent).map(|s| s.0));
            }
            if made.len() == before {
                return Ok(lowered);
            }
        }
        Ok(merge(&made)?.0)
    }

    /// The model lowered for some sizes, and notes.
    fn sample(&self, sizes: &Sizes, number: usize, shown: &dyn Observer) -> Result<(Sample, Vec<String>)> {
        self.lowered(self.typed(sizes, number, shown)?, sizes, shown)
    }

    fn typed(&self, sizes: &Sizes, number: usize, shown: &dyn Observer) -> Result<Typed> {
        let (types, mut notes) = self.bindings.at(sizes).resolve(&self.model.body)?;
        let (graph, more) = typed_graph(self.model, &types, number as u32 + 1, shown, self.clock)?;
        notes.extend(more);
        Ok((graph, notes))
    }

    fn lowered(&self, typed: Typed, sizes: &Sizes, shown: &dyn Observer) -> Result<(Sample, Vec<String>)> {
        let (mut graph, mut notes) = typed;
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

    /// The dimension that is too small in the samples that failed, and the smallest size for which the
    /// model is defined; the first error where there is none.
    fn least(
        &self,
        all: &[Sizes],
        mut failed: Vec<(usize, Error)>,
        bounds: &Sizes,
    ) -> Result<(String, usize)> {
        let bad = |i: &usize| failed.iter().any(|f| f.0 == *i);
        let range = |name: &str| {
            let largest = (0..all.len()).filter(|i| bad(i)).map(|i| all[i][name]).max()?;
            let smallest = (0..all.len()).filter(|i| !bad(i)).map(|i| all[i][name]).min()?;
            (largest < smallest && all.len() - failed.len() >= FEWEST).then_some((largest, smallest))
        };
        let found = bounds.keys().find_map(|name| Some((name.clone(), range(name)?)));
        let Some((name, (mut below, mut least))) = found else { return Err(failed.swap_remove(0).1) };
        while below + 1 < least {
            let middle = (below + least) / 2;
            let mut sizes = bounds.clone();
            sizes.insert(name.clone(), middle);
            let sizes = self.bindings.with_sums(sizes)?;
            match self.sample(&sizes, all.len(), &Silent) {
                Ok(_) => least = middle,
                Err(_) => below = middle,
            }
        }
        Ok((name, least))
    }
}
