//! A batch whose entries have nothing to do with each other is computed entry by entry.
//!
//! Where a free dimension is the first of the application's tensors, and each element that is computed along it depends
//! on elements of the same place alone, the stages of a batch are those of a single entry, repeated. What is made of a
//! single one has sizes that are numbers: strips, padding and layouts are those of a model bound to 1, and so is the
//! arena. Only where entries share weights that each of them uses little ([`pays`]) is the batch computed together.
//!
//! That entries are apart is proved definition by definition: the one axis that runs over entries is taken apart
//! into the entry and a place within it, and indices into what has entries must follow the entry exactly, all others
//! not at all (`apart`).
//!
//! A batch of fixed size is one that was lowered as if it were free, and always has as many entries as it may have.

mod apart;
mod pays;

use crate::base::Affine;
use crate::base::affine::size_var;
use crate::definition::{Lowering, Repeat, Stage, ValueId};
use crate::plan::{Batch, Interface, Lowered};
use apart::Definer;
pub use pays::has_work_for;
use pays::{BORNE, MADE_UP, pays};
use std::collections::BTreeMap;

/// Where the entries of a value lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    /// The dimension.
    dim: usize,
    /// How many of its indices belong to each entry; those of one follow those of the one before.
    per: usize,
}

/// The model as the stages of a single entry, where that is all there is to a batch; otherwise as it is.
pub fn single(lowered: Lowered) -> Lowered {
    let made = (0..lowered.visible.len()).find_map(|symbol| {
        let lowering = of_size(&lowered, symbol)?;
        pays(&lowering, BORNE).then_some((symbol, lowering))
    });
    let Some((symbol, lowering)) = made else { return lowered };
    let count = lowered.lowering.sizes[lowered.visible[symbol]].max;
    let steps = |list: &[(ValueId, Interface)]| -> Vec<usize> {
        let moves = |shown: &Interface| shown.symbolic.contains(&Some(symbol as u32));
        list.iter().map(|(_, shown)| if moves(shown) { shown.ty.bytes() / count } else { 0 }).collect()
    };
    let (inputs, outputs) = (steps(&lowered.inputs), steps(&lowered.outputs));
    let batch = Batch { count, symbol: Some(symbol), inputs, outputs };
    Lowered { lowering, entries: Some(Box::new(batch)), ..lowered }
}

/// A model whose only free size counts entries that are computed one by one, with as many as there may be; `None` where
/// its stages are not those of one, or take longer so. `compact`: memory counts first.
pub fn of_fixed_batch(mut lowered: Lowered, compact: bool) -> Option<Lowered> {
    if lowered.lowering.sizes.len() != 1 || !pays(&lowered.lowering, if compact { BORNE } else { MADE_UP }) {
        return None;
    }
    lowered.entries.as_mut()?.symbol = None;
    lowered.lowering.sizes.clear();
    lowered.visible.clear();
    let shown = lowered.inputs.iter_mut().chain(&mut lowered.outputs);
    shown.for_each(|(_, shown)| shown.symbolic.clear());
    Some(lowered)
}

/// The stages for a single one of what a symbol counts.
fn of_size(lowered: &Lowered, symbol: usize) -> Option<Lowering> {
    let low = &lowered.lowering;
    let number = lowered.visible[symbol];
    let size = &low.sizes[number];
    let in_sums = low.sizes.iter().filter_map(|s| s.sum.as_ref()).flat_map(|(terms, _)| terms);
    let part_of_sum = in_sums.into_iter().any(|(of, _)| *of == number);
    if size.name.is_none() || size.sum.is_some() || size.step != (1, 0) || part_of_sum || size.max == 0 {
        return None;
    }
    let var = size_var(number, size.max)?;
    let entries =
        Entries { low, var, count: size.max, size: size.value, places: places(low, var, size.max)? };
    let interface: Vec<&(ValueId, Interface)> = lowered.inputs.iter().chain(&lowered.outputs).collect();
    let outermost = |(value, shown): &&(ValueId, Interface)| entries.outermost(*value, shown, symbol);
    let some = lowered.inputs.iter().any(|(value, _)| entries.places.contains_key(value));
    if !some || !interface.iter().all(outermost) {
        return None;
    }
    entries.lowering()
}

/// Where the entries of each value lie; `None` where its dimensions depend on their number in another way.
fn places(low: &Lowering, var: u32, count: usize) -> Option<BTreeMap<ValueId, Place>> {
    let mut places = BTreeMap::new();
    for (&value, dims) in &low.dims {
        let mut counted = dims.iter().enumerate().filter(|(_, form)| form.coefficient(var) != 0);
        let Some((dim, form)) = counted.next() else { continue };
        let per = usize::try_from(form.coefficient(var)).ok()?;
        let plain = *form == Affine::var(var).scaled(per as i64);
        let bound = low.values[value as usize].ty.shape[dim] == per * count;
        if counted.next().is_some() || !plain || !bound {
            return None;
        }
        places.insert(value, Place { dim, per });
    }
    Some(places)
}

struct Entries<'a> {
    low: &'a Lowering,
    /// The size that counts entries.
    var: u32,
    /// The most there may be.
    count: usize,
    /// The value that says how many there are.
    size: ValueId,
    places: BTreeMap<ValueId, Place>,
}

impl Entries<'_> {
    /// Whether entries of one of the application's tensors follow each other, all alike; so do those of a tensor that
    /// has none.
    fn outermost(&self, value: ValueId, shown: &Interface, symbol: usize) -> bool {
        let counts = |s: &Option<u32>| *s == Some(symbol as u32);
        let Some(place) = self.places.get(&value) else { return !shown.symbolic.iter().any(counts) };
        let dims = &self.low.dims[&value];
        let before = dims[..place.dim].iter().all(|d| *d == Affine::constant(1));
        let shape = &self.low.values[value as usize].ty.shape;
        let same = *shape == shown.ty.shape && shown.symbolic.get(place.dim).is_some_and(counts);
        before && same && place.per == 1 && dims[place.dim + 1..].iter().all(Affine::is_constant)
    }

    /// The stages of a single entry.
    fn lowering(&self) -> Option<Lowering> {
        let mut low = Lowering { stages: Vec::new(), dims: BTreeMap::new(), ..self.low.clone() };
        for (&value, dims) in &self.low.dims {
            let mut dims = dims.clone();
            if let Some(place) = self.places.get(&value) {
                dims[place.dim] = Affine::constant(place.per as i64);
                let lowered = &mut low.values[value as usize];
                lowered.ty.shape[place.dim] = place.per;
                let first: Vec<usize> = (0..place.per).collect();
                lowered.constant = lowered.constant.as_ref().map(|t| t.picked(place.dim, &first));
            }
            if dims.iter().any(Affine::has_size) {
                low.dims.insert(value, dims);
            }
        }
        low.stages = self.stages(&self.low.stages, &low)?;
        Some(low)
    }

    fn stages(&self, stages: &[Stage], to: &Lowering) -> Option<Vec<Stage>> {
        stages.iter().map(|stage| self.stage(stage, to)).collect()
    }

    fn stage(&self, stage: &Stage, to: &Lowering) -> Option<Stage> {
        if stage.reads().contains(&self.size) {
            return None;
        }
        match stage {
            Stage::Define(def) => Definer::of(self, def, to)?.define().map(Stage::Define),
            Stage::Repeat(repeat) => self.repeat(repeat, to).map(Stage::Repeat),
            Stage::Routine(_) | Stage::Reshape { .. } | Stage::Strips(_) => {
                let touched: Vec<ValueId> = stage.reads().into_iter().chain(stage.writes()).collect();
                let none = !touched.iter().any(|v| self.places.contains_key(v));
                none.then(|| stage.clone())
            }
        }
    }

    /// A loop over something else than entries.
    fn repeat(&self, repeat: &Repeat, to: &Lowering) -> Option<Repeat> {
        let place = |value: ValueId| self.places.get(&value).copied();
        let inside = |place: Place| Some(Place { dim: place.dim.checked_sub(1)?, ..place });
        let slices = repeat.slices.iter().all(|slice| match place(slice.whole) {
            Some(whole) => inside(whole).is_some_and(|part| place(slice.part) == Some(part)),
            None => place(slice.part).is_none(),
        });
        let carries = repeat.carries.iter().all(|carry| {
            let others = [carry.state, carry.next, carry.last];
            others.iter().all(|&value| place(value) == place(carry.initial))
        });
        let counted = repeat.size.as_ref().is_some_and(|form| form.coefficient(self.var) != 0);
        let ends = repeat.condition.is_some_and(|value| place(value).is_some());
        if !slices || !carries || counted || ends {
            return None;
        }
        Some(Repeat { body: self.stages(&repeat.body, to)?, ..repeat.clone() })
    }
}
