//! Which definitions become one kernel, and in which order of memory values are kept.
//!
//! Works on definitions alone: element-wise work joins the fold before it, movement joins its
//! readers or its writers, and what is left is one kernel each.
//!
//! | files | what they do |
//! |---|---|
//! | `rewrite`, `element` | expressions of one definition in another, under a change of variables |
//! | `sink`, `hoist`, `whole`, `tables`, `paired`, `picked` | definitions that are rewritten to cheaper ones of the same values |
//! | `inline`, `digits`, `reshape`, `forward`, `epilogue` | definitions that join their readers, or what they read |
//! | `frames`, `rim`, `split` | padding: in memory around a value, or as parts of their own |
//! | `sized_rim`, `reach` | padding beside sizes known only at run time, in memory; how wide it is |
//! | `layout`, `channels` | the order of memory of every value |
//! | `tied` | a table that is there in two orders of memory, which all read in one |
//! | `incoming` | copies of what the application passes in another order than products want |
//! | `merged` | numbers of groups repeated for their channels, where these do not fill lanes |
//! | `turn`, `words`, `spread`, `spread_windows`, `points` | copies of factors that lie the wrong way for their products, constants repeated for lanes, once layouts are known |
//! | `long` | sums of many floats, cut into sums of sums |
//! | `twice` | what is quantized by its own range, computed once for that and once for the bytes |

mod channels;
mod digits;
mod element;
mod epilogue;
mod forward;
mod frames;
mod hoist;
mod incoming;
mod inline;
mod layout;
mod long;
mod merged;
mod paired;
mod picked;
mod points;
mod reach;
mod reshape;
mod rewrite;
mod rim;
mod sink;
mod sized_rim;
mod split;
mod spread;
mod spread_windows;
mod tables;
mod tied;
mod turn;
mod twice;
mod whole;
mod words;

pub use channels::order_channels;
pub use frames::{frames, rim};
pub use layout::layouts;
pub use rewrite::{plain_var, replace_loads, split_vars, with_vars};
pub use rim::Rims;
pub use spread::spread;
pub use tables::tabulate;
pub use tied::{TABLE, row_tables, tie};
pub use twice::{Again, twice};

use crate::definition::{Definition, Expr, ExprId, LoweredValue, Lowering, Operand, Stage, ValueId};
use crate::schedule::linear::Layout;
use std::collections::HashMap;

/// Fuses a lowering in place. `outputs` are the values that must be written.
pub fn fuse(lowering: &mut Lowering, outputs: &[ValueId]) {
    fuse_within(lowering, outputs, Rims::Whole);
}

/// The same with a choice of what padding of bytes lies in memory.
pub fn fuse_within(lowering: &mut Lowering, outputs: &[ValueId], rims: Rims) {
    let mut stages = std::mem::take(&mut lowering.stages);
    join_stages(&lowering.values, &mut stages, outputs);
    if sink::sink_weights(&mut lowering.values, &mut stages, outputs) {
        join_loops(&lowering.values, &mut stages);
    }
    hoist::hoist_scales(&mut stages);
    rim::materialize(&mut lowering.values, &mut stages, rims);
    let sizes: Vec<ValueId> = lowering.sizes.iter().map(|s| s.value).collect();
    place_stages(&lowering.values, &mut stages, outputs, &sizes);
    paired::pair_tables(&mut lowering.values, &mut stages);
    lowering.stages = stages;
    sized_rim::materialize(lowering, outputs);
    long::cut(lowering);
}

/// Copies bytes among the model's `inputs` whose order is not that of the products that read them.
pub fn copy_incoming(lowering: &mut Lowering, inputs: &[ValueId]) {
    incoming::copy(lowering, inputs);
}

/// Repeats numbers of groups for the channels of each, which do not fill `lanes` by themselves.
pub fn merge_channels(lowering: &mut Lowering, layouts: &mut Vec<Layout>, lanes: usize) {
    let mut values = 0;
    while values != lowering.values.len() {
        values = lowering.values.len();
        turn::materialize(lowering, layouts, &|values, def, at| merged::merged(values, def, at, lanes));
    }
}

/// Copies factors of products into the order that lanes want: floats, and bytes where the target multiplies a
/// `word` of so many at a time.
pub fn copy_factors(lowering: &mut Lowering, layouts: &mut Vec<Layout>, word: Option<usize>) {
    turn::materialize(lowering, layouts, &turn::turned);
    if let Some(word) = word {
        for copied in [words::padded, words::copied] {
            turn::materialize(lowering, layouts, &|values, def, layouts| copied(values, def, layouts, word));
        }
    }
}

/// Joins producers and readers, inner loops first.
fn join_stages(values: &[LoweredValue], stages: &mut Vec<Stage>, outputs: &[ValueId]) {
    join_loops(values, stages);
    affine_reshapes(values, stages);
    let mut grouping = Grouping { values, stages, outputs };
    grouping.drop_dead();
    while grouping.fuse_once() {
        grouping.drop_dead();
    }
}

/// Joins producers and readers within loops.
fn join_loops(values: &[LoweredValue], stages: &mut [Stage]) {
    for stage in stages {
        if let Stage::Repeat(repeat) = stage {
            let wanted = repeat.exit();
            join_stages(values, &mut repeat.body, &wanted);
        }
    }
}

/// Takes padding out of element-wise definitions, and lets producers write where copies would.
fn place_stages(values: &[LoweredValue], stages: &mut Vec<Stage>, outputs: &[ValueId], sizes: &[ValueId]) {
    for stage in stages.iter_mut() {
        if let Stage::Repeat(repeat) = stage {
            let wanted = repeat.exit();
            place_stages(values, &mut repeat.body, &wanted, sizes);
        }
    }
    let mut grouping = Grouping { values, stages, outputs };
    grouping.split_padding();
    while grouping.forward_copies(sizes) {
        grouping.drop_dead();
    }
}

/// Turns reshapes into copies with affine indices where the shapes allow it.
fn affine_reshapes(values: &[LoweredValue], stages: &mut [Stage]) {
    for stage in stages {
        if let Stage::Reshape { from, to } = *stage {
            let (source, target) = (&values[from as usize], &values[to as usize]);
            let copy = reshape::reshape_copy(&target.name, (from, &source.ty), (to, &target.ty));
            if let Some(copy) = copy {
                *stage = Stage::Define(copy);
            }
        }
    }
}

struct Grouping<'a> {
    values: &'a [LoweredValue],
    stages: &'a mut Vec<Stage>,
    outputs: &'a [ValueId],
}

impl Grouping<'_> {
    /// For each value, the stages that read it.
    fn readers(&self) -> HashMap<ValueId, Vec<usize>> {
        let mut readers: HashMap<ValueId, Vec<usize>> = HashMap::new();
        for (i, stage) in self.stages.iter().enumerate() {
            stage.reads().into_iter().for_each(|v| readers.entry(v).or_default().push(i));
        }
        readers
    }

    /// For each value, the stages that write it.
    fn writers(&self) -> HashMap<ValueId, Vec<usize>> {
        let mut writers: HashMap<ValueId, Vec<usize>> = HashMap::new();
        for (i, stage) in self.stages.iter().enumerate() {
            stage.writes().into_iter().for_each(|v| writers.entry(v).or_default().push(i));
        }
        writers
    }

    fn definition(&self, stage: usize) -> Option<&Definition> {
        match &self.stages[stage] {
            Stage::Define(d) => Some(d),
            _ => None,
        }
    }

    /// Cuts element-wise definitions where padding begins.
    fn split_padding(&mut self) {
        let stages = std::mem::take(self.stages);
        for stage in stages {
            let parts = match &stage {
                Stage::Define(d) => split::split(d),
                _ => None,
            };
            match parts {
                Some(parts) => self.stages.extend(parts.into_iter().map(Stage::Define)),
                None => self.stages.push(stage),
            }
        }
    }

    /// Removes definitions whose output nothing reads.
    fn drop_dead(&mut self) {
        loop {
            let readers = self.readers();
            let before = self.stages.len();
            let outputs = self.outputs;
            self.stages.retain(|stage| match stage {
                Stage::Define(d) => {
                    readers.contains_key(&d.output.value) || outputs.contains(&d.output.value)
                }
                _ => true,
            });
            if self.stages.len() == before {
                return;
            }
        }
    }

    /// One round of fusion over all stages; whether anything changed.
    fn fuse_once(&mut self) -> bool {
        let (readers, writers) = (self.readers(), self.writers());
        let mut touched = vec![false; self.stages.len()];
        let mut changed = false;
        for producer in 0..self.stages.len() {
            let Some(def) = self.definition(producer) else { continue };
            let value = def.output.value;
            let reading = readers.get(&value).cloned().unwrap_or_default();
            let only_writer = writers[&value].len() == 1;
            if touched[producer] || !only_writer || reading.iter().any(|&r| touched[r]) {
                continue;
            }
            let only_reader = reading.len() == 1 && !self.outputs.contains(&value);
            for &reader in &reading {
                if only_reader && self.dissolves(producer, reader, &readers) {
                    continue;
                }
                let fused = self.fused(producer, reader, only_reader);
                if let Some(fused) = fused {
                    self.stages[reader] = Stage::Define(fused);
                    (touched[reader], touched[producer], changed) = (true, true, true);
                }
            }
        }
        changed
    }

    /// Whether what a stage makes wider is read by one other, which sums it or joins it with another tensor and
    /// will widen it itself, or by several that all will: what `producer` makes, the narrow tensor, is stored then.
    /// Where one of several sums it, as normalizations do, each widens it in more time than it takes to load it wide;
    /// unless the narrow tensor is there already, and `producer` only moves it, or all others join it with another one.
    fn dissolves(&self, producer: usize, stage: usize, readers: &HashMap<ValueId, Vec<usize>>) -> bool {
        let Some(def) = self.definition(stage).filter(|d| inline::widens(d)) else { return false };
        let value = def.output.value;
        if self.outputs.contains(&value) {
            return false;
        }
        let fused = |reader: usize, only: bool| self.fused(stage, reader, only);
        match readers.get(&value).map_or(&[][..], Vec::as_slice) {
            &[] => false,
            &[reader] => {
                fused(reader, true).is_some_and(|fused| fused.fold.is_some() || self.joins(reader, value))
                    || self.weighs_bytes(reader, value, readers)
            }
            several => {
                let moved = self.definition(producer).and_then(rewrite::copied_load).is_some();
                let fused: Option<Vec<_>> = several.iter().map(|&r| fused(r, false)).collect();
                let joined = |&&r: &&usize| self.adds(r, value);
                let mean = || several.iter().filter(joined).count() + 1 == several.len();
                fused.is_some_and(|all| moved || all.iter().all(|def| def.fold.is_none()) || mean())
            }
        }
    }

    /// Whether a stage will make bytes of the products of a value and other bytes, once what is around joins it.
    fn weighs_bytes(&self, stage: usize, value: ValueId, readers: &HashMap<ValueId, Vec<usize>>) -> bool {
        let Some(def) = self.definition(stage).filter(|d| inline::scales_by(d, value)) else { return false };
        let writes =
            |s: &Stage, v: ValueId| matches!(s, Stage::Define(d) if d.output.value == v && inline::widens(d));
        let bytes = |o: &Operand| o.ty.dtype.size() == 1 || self.stages.iter().any(|s| writes(s, o.value));
        let mut others = def.operands.iter().filter(|o| o.value != value && o.ty.elems() > 1);
        let other = others.next().is_some_and(bytes) && others.next().is_none();
        let narrows = |d: &Definition| d.fold.is_none() && d.output.ty.dtype.size() == 1;
        let stored = match readers.get(&def.output.value).map_or(&[][..], Vec::as_slice) {
            &[next] => self.definition(next).is_some_and(narrows),
            _ => false,
        };
        other && (stored || narrows(def))
    }

    /// Whether a stage joins a value with another one of as many elements, or with what it sums.
    fn adds(&self, stage: usize, value: ValueId) -> bool {
        let Some(def) = self.definition(stage) else { return false };
        let loads = |&e: &ExprId| matches!(&def.exprs[e as usize], Expr::Load { operand, .. } if def.operands[*operand as usize].value == value);
        match &def.fold {
            Some(fold) => !def.reached(fold.body).iter().any(loads),
            None => self.joins(stage, value),
        }
    }

    /// Whether a stage reads a value beside another one that has as many elements as it writes.
    fn joins(&self, stage: usize, value: ValueId) -> bool {
        let Some(def) = self.definition(stage) else { return false };
        let other = |v: ValueId| v != value && self.values[v as usize].constant.is_none();
        let elems = def.output.ty.elems();
        def.operands.iter().any(|o| other(o.value) && o.ty.elems() == elems)
    }

    fn fused(&self, producer: usize, reader: usize, only_reader: bool) -> Option<Definition> {
        let (p, r) = (self.definition(producer)?, self.definition(reader)?);
        let constant = |v: ValueId| self.values[v as usize].constant.is_some();
        if let Some(picked) = picked::picked(self.values, r, p) {
            return Some(picked);
        }
        let computes = rewrite::copied_load(r).is_none();
        if rewrite::copied_load(p).is_none() && inline::needs_lanes(r, p) {
            return None;
        }
        if computes && inline::picks(p, &constant) || inline::gathers_factor(p, r) || self.picks_weights(p) {
            return None;
        }
        // Computed before it is picked from, in vectors; no longer a copy, it would be fused into anything.
        if rewrite::copied_load(p).is_none() && inline::picks_from(r, p.output.value, &constant) {
            return None;
        }
        inline::inline(r, p, &constant, only_reader)
            .or_else(|| inline::inline_merging(r, p, &constant))
            .or_else(|| digits::inline_digits(r, p, only_reader))
            .or_else(|| if only_reader { epilogue::fuse(p, r) } else { None })
    }

    /// Whether a definition picks rows of a large constant that others multiply by: as products pack it, its elements lie
    /// apart, and are found once.
    fn picks_weights(&self, def: &Definition) -> bool {
        let mut tables = row_tables(def);
        let constant = |v: ValueId| self.values[v as usize].constant.as_ref();
        tables.retain(|&v| constant(v).is_some_and(|table| table.data.len() >= TABLE));
        let multiplies = |other: &Definition| {
            let factors = other.factors().into_iter().flatten();
            let mut loaded = factors.filter_map(|e| match other.behind_casts(e) {
                Expr::Load { operand, .. } => Some(other.operands[*operand as usize].value),
                _ => None,
            });
            loaded.any(|v| tables.contains(&v)) && row_tables(other).is_empty()
        };
        !tables.is_empty() && (0..self.stages.len()).filter_map(|s| self.definition(s)).any(multiplies)
    }

    /// Makes copies unnecessary, each with stages of its own; whether there was one. A stage stays where it is,
    /// so that the `sizes` which say where a part begins must be there by then.
    fn forward_copies(&mut self, sizes: &[ValueId]) -> bool {
        let (readers, writers) = (self.readers(), self.writers());
        let mut touched = vec![false; self.stages.len()];
        let mut gone = vec![false; self.stages.len()];
        for copy in 0..self.stages.len() {
            let Some(moved) = self.forwarded(copy, &readers, &writers) else { continue };
            let early = |(at, def): &(usize, Definition)| {
                let written = def.sizes().filter_map(|n| writers.get(sizes.get(n)?));
                written.flatten().any(|w| w >= at)
            };
            if touched[copy] || moved.iter().any(|m| touched[m.0] || early(m)) {
                continue;
            }
            (touched[copy], gone[copy]) = (true, true);
            for (i, def) in moved {
                touched[i] = true;
                self.stages[i] = Stage::Define(def);
            }
        }
        let mut kept = gone.iter().map(|g| !g);
        self.stages.retain(|_| kept.next().unwrap_or(true));
        gone.contains(&true)
    }

    /// The stages around a copy as they are without it; `None` where it is needed.
    fn forwarded(
        &self,
        copy: usize,
        readers: &HashMap<ValueId, Vec<usize>>,
        writers: &HashMap<ValueId, Vec<usize>>,
    ) -> Option<Vec<(usize, Definition)>> {
        let forward = forward::Forward::of(self.definition(copy)?)?;
        if self.outputs.contains(&forward.from) {
            return None;
        }
        let constant = |v: ValueId| self.values[v as usize].constant.is_some();
        let mut moved: Vec<(usize, Definition)> = Vec::new();
        for &p in writers.get(&forward.from)? {
            let producer = self.definition(p)?;
            if forward.crumbles(producer, &constant) {
                return None;
            }
            moved.push((p, forward.producer(producer)?));
        }
        for &r in readers[&forward.from].iter().filter(|&&r| r != copy) {
            // One that computes a part of the value from another part is a producer too.
            match moved.iter_mut().find(|m| m.0 == r) {
                Some(both) => both.1 = forward.reader(&both.1)?,
                None => moved.push((r, forward.reader(self.definition(r)?)?)),
            }
        }
        Some(moved)
    }
}

#[cfg(test)]
mod tests {
    use crate::base::Tensor;
    use crate::definition::{DefBuilder, Env, Lowering, interpret};

    /// A lowering that begins with a copy of a constant, so that its elements are not known at compile time; and the
    /// number of that copy, 1.
    pub fn computed(constant: &Tensor) -> (Lowering, u32) {
        let mut low = Lowering::default();
        let given = low.constant("given", constant.clone());
        let copy = low.temporary("x", constant.ty.clone());
        let mut b = DefBuilder::new(&constant.ty.shape);
        let axes = b.axes();
        let element = b.load(given, &constant.ty, axes);
        low.define(b.finish("x", copy, &constant.ty, element));
        (low, copy)
    }

    /// What the definitions make of value 2.
    pub fn result(low: &Lowering) -> Tensor {
        let mut env = Env::new(low);
        interpret(low, &mut env).unwrap();
        env.get(2, &low.values[2].ty).unwrap()
    }
}
