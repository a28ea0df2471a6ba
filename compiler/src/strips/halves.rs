//! Half floats that products read are kept as `f32`, where that takes little more memory.
//!
//! Registers hold half floats as `f32`: each load converts. What fills lanes costs one conversion more per
//! vector, what all lanes share three instructions for each tile that reads it. Before strips are formed
//! such factors get a copy in `f32` ([`copies`]), of which strips keep a few rows; afterwards the windows,
//! and whole values where there is room, hold what halves hold, as `f32` ([`widen`]). What a target multiplies as
//! half floats stays as it is.

use crate::base::{DType, TensorType};
use crate::definition::{DefBuilder, Definition, Expr, ExprId, Index, Lowering, Stage, ValueId};
use crate::group::replace_loads;
use crate::scalar::{Fold, Op, cast};
use crate::schedule::Prefer;
use crate::schedule::linear::Layout;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Products of which each copied element must be a factor.
const WORTH: usize = 32;
/// The share of memory that may be taken more, and the bytes where speed is preferred: as many as the caches nearest to
/// the core hold.
const MORE: (f64, usize) = (0.05, 64 * 1024);
/// How much larger the share of memory that is saved without copies must be than that of the time that is lost then.
const WORTH_SHARE: f64 = 2.0;
/// The share of memory that copies may take at most.
const MOST_SHARE: f64 = 0.65;

/// The memory that may be taken, where `live` bytes are live at most without.
pub fn room(live: usize, prefer: Prefer) -> usize {
    let share = (live as f64 * MORE.0) as usize;
    live + if prefer == Prefer::Speed { share.max(MORE.1) } else { share }
}

/// The memory that copies of what lanes share may take, where `live` bytes are live at most without: more, where speed is
/// preferred, the larger the share of the time that they spare.
pub fn room_of_copies(live: usize, prefer: Prefer, spared: f64) -> usize {
    let share = (WORTH_SHARE * spared).min(MOST_SHARE);
    let more = if prefer == Prefer::Speed { (live as f64 / (1.0 - share)) as usize } else { live };
    more.max(room(live, prefer))
}

/// Of the cycles of products, the share of those that read copies: values from number `copies` on. Without them such a
/// product takes twice its time, or more.
pub fn spared(stages: &[Stage], copies: usize, cycles: &dyn Fn(&Definition) -> f64) -> f64 {
    let (mut all, mut reading) = (0.0, 0.0);
    for stage in stages {
        let Stage::Define(def) = stage else { continue };
        if def.factors().is_some() {
            all += cycles(def);
            let copied = def.operands.iter().any(|o| o.value as usize >= copies);
            reading += if copied { cycles(def) } else { 0.0 };
        }
    }
    if all > 0.0 { reading / all } else { 0.0 }
}

/// Whether elements are half floats.
pub fn is_half(ty: &TensorType) -> bool {
    matches!(ty.dtype, DType::F16 | DType::BF16)
}

fn wide(ty: &TensorType) -> TensorType {
    TensorType::new(DType::F32, ty.shape.clone())
}

/// The stages with copies in `f32` of what lanes share; `None` where nothing is. The copies are values
/// behind those that were there. `multiplied`: the target multiplies half floats.
pub fn copies(
    lowering: &mut Lowering,
    layouts: &mut Vec<Layout>,
    stages: &[Stage],
    multiplied: bool,
) -> Option<Vec<Stage>> {
    let mut made: HashMap<ValueId, ValueId> = HashMap::new();
    let mut all = Vec::new();
    for stage in stages {
        let shared = match stage {
            Stage::Define(def) if !(multiplied && multiplies(def)) => shared(lowering, layouts, def),
            _ => Vec::new(),
        };
        for &value in shared.iter() {
            if made.contains_key(&value) {
                continue;
            }
            let from = lowering.values[value as usize].clone();
            let to = lowering.temporary(format!("{}.wide", from.name), wide(&from.ty));
            layouts.push(Layout::permuted(&from.ty.shape, &layouts[value as usize].order()));
            let mut b = match lowering.dims.get(&value).cloned() {
                Some(dims) => {
                    let over = DefBuilder::ending(&dims, &from.ty.shape);
                    lowering.dims.insert(to, dims);
                    over
                }
                None => DefBuilder::new(&from.ty.shape),
            };
            let axes = b.axes();
            let element = b.load(value, &from.ty, axes);
            let element = b.cast(DType::F32, element);
            all.push(Stage::Define(b.finish("wide", to, &wide(&from.ty), element)));
            made.insert(value, to);
        }
        all.push(match stage {
            Stage::Define(def) if !shared.is_empty() => {
                let to = |v: ValueId| made.get(&v).copied().filter(|_| shared.contains(&v));
                Stage::Define(reading(def, &to)?)
            }
            other => other.clone(),
        });
        // What is joined is written part by part: a copy has the parts that were there.
        for value in stage.writes() {
            made.remove(&value);
        }
    }
    (all.len() > stages.len()).then_some(all)
}

/// The half floats that all lanes of a product share.
fn shared(lowering: &Lowering, layouts: &[Layout], def: &Definition) -> Vec<ValueId> {
    let layout = &layouts[def.output.value as usize];
    let step = |v: u32| def.store.iter().zip(&layout.strides).map(|(f, s)| f.coefficient(v) * s).sum::<i64>();
    let lanes = (0..def.axes as u32).find(|&v| def.vars[v as usize].extent > 1 && step(v).abs() == 1);
    let (Some(lanes), Some(factors)) = (lanes, factors(def)) else { return Vec::new() };
    let shares = |e: &ExprId| {
        let Expr::Load { operand, index, .. } = &def.exprs[*e as usize] else { return None };
        let operand = &def.operands[*operand as usize];
        let apart = |i: &Index| matches!(i, Index::Affine(form) if form.coefficient(lanes) == 0);
        let computed = lowering.values[operand.value as usize].constant.is_none();
        let often = def.volume() / operand.ty.elems().max(1) as u64 >= WORTH as u64;
        (computed && often && index.iter().all(apart) && converts(def, operand.value))
            .then_some(operand.value)
    };
    factors.iter().filter_map(shares).collect()
}

/// The loads of half floats that are factors of a sum of products.
fn factors(def: &Definition) -> Option<Vec<ExprId>> {
    let fold = def.fold.as_ref().filter(|f| f.op == Fold::Sum)?;
    let Expr::Op(Op::Mul, args) = &def.exprs[fold.body as usize] else { return None };
    let half = |e: &ExprId| {
        let Expr::Cast { to: DType::F32, arg, .. } = &def.exprs[*e as usize] else { return None };
        let Expr::Load { operand, .. } = &def.exprs[*arg as usize] else { return None };
        is_half(&def.operands[*operand as usize].ty).then_some(*arg)
    };
    Some(args.iter().filter_map(half).collect())
}

/// Whether both factors of a product are half floats of 16 bits that a target may multiply as such.
fn multiplies(def: &Definition) -> bool {
    let half = |e: &ExprId| match &def.exprs[*e as usize] {
        Expr::Load { operand, .. } => def.operands[*operand as usize].ty.dtype == DType::F16,
        _ => false,
    };
    factors(def).is_some_and(|factors| factors.len() == 2 && factors.iter().all(half))
}

/// Whether a definition converts to `f32` whatever it loads of a value.
fn converts(def: &Definition, value: ValueId) -> bool {
    let loads = |e: ExprId| match &def.exprs[e as usize] {
        Expr::Load { operand, .. } => def.operands[*operand as usize].value == value,
        _ => false,
    };
    let folded = def.fold.as_ref().is_some_and(|f| loads(f.body));
    !loads(def.finish)
        && !folded
        && def.exprs.iter().all(|e| match e {
            Expr::Op(_, args) => !args.iter().any(|&a| loads(a)),
            Expr::Cast { to, arg, .. } => *to == DType::F32 || !loads(*arg),
            Expr::Bitcast { arg, .. } => !loads(*arg),
            Expr::Load { index, .. } => !index.iter().any(|i| matches!(i, Index::Dynamic(e) if loads(*e))),
            _ => true,
        })
}

/// A definition that loads `f32` from other values in place of half floats.
fn reading(def: &Definition, to: &dyn Fn(ValueId) -> Option<ValueId>) -> Option<Definition> {
    replace_loads(def, &mut |b, operand, index, fill| {
        let operand = &def.operands[operand as usize];
        let value = to(operand.value)?;
        let fill = fill.map(|f| cast(f, DType::F32, true));
        Some(b.load_at(value, &wide(&operand.ty), index.to_vec(), fill))
    })
}

/// Makes values of half floats hold the same numbers as `f32`: those from number `windows` on, of which a
/// few rows exist at a time, and others where there is [`room`] beside the bytes that are `live` at most. `multiplied`:
/// the target multiplies half floats.
pub fn widen(
    lowering: &mut Lowering,
    outputs: &[ValueId],
    windows: usize,
    (live, prefer): (usize, Prefer),
    multiplied: bool,
) {
    let mut families = Families::of(lowering, outputs, multiplied);
    families.look(&lowering.stages);
    let chosen = families.chosen(lowering, windows, &|highest| room(highest.min(live), prefer));
    if chosen.is_empty() {
        return;
    }
    let mut stages = std::mem::take(&mut lowering.stages);
    retype(&mut stages, &chosen);
    lowering.stages = stages;
    chosen.iter().for_each(|&v| lowering.values[v as usize].ty.dtype = DType::F32);
}

/// Values of one type: a whole, its parts and copies of its rows, under one of them, the root.
struct Families {
    root: Vec<ValueId>,
    /// Roots that must stay as they are.
    fixed: BTreeSet<ValueId>,
    /// Products that read each root.
    gain: BTreeMap<ValueId, u64>,
    /// The target multiplies half floats.
    multiplied: bool,
}

impl Families {
    fn of(lowering: &Lowering, outputs: &[ValueId], multiplied: bool) -> Families {
        let mut root: Vec<ValueId> = (0..lowering.values.len() as ValueId).collect();
        roots(&lowering.stages, &mut root);
        let mut fixed: Vec<ValueId> = outputs.to_vec();
        let written: BTreeSet<ValueId> = lowering.stages.iter().flat_map(Stage::writes).collect();
        for value in lowering.stages.iter().flat_map(Stage::reads).filter(|v| !written.contains(v)) {
            fixed.push(value);
        }
        let other = lowering.stages.iter().filter(|s| !matches!(s, Stage::Define(_) | Stage::Strips(_)));
        other.for_each(|s| fixed.extend(s.reads().into_iter().chain(s.writes())));
        let fixed = fixed.into_iter().map(|v| root[v as usize]).collect();
        Families { root, fixed, gain: BTreeMap::new(), multiplied }
    }

    fn root(&self, value: ValueId) -> ValueId {
        self.root[value as usize]
    }

    /// Finds out what reads and writes each value.
    fn look(&mut self, stages: &[Stage]) {
        for stage in stages {
            match stage {
                Stage::Strips(strips) => self.look(&strips.body),
                Stage::Define(def) => self.definition(def),
                _ => {}
            }
        }
    }

    fn definition(&mut self, def: &Definition) {
        for operand in def.operands.iter().filter(|o| is_half(&o.ty)) {
            if moved(def) != Some(operand.value) && !converts(def, operand.value) {
                self.fixed.insert(self.root(operand.value));
            }
        }
        for load in factors(def).unwrap_or_default() {
            if let Expr::Load { operand, .. } = &def.exprs[load as usize] {
                let root = self.root(def.operands[*operand as usize].value);
                if self.multiplied && multiplies(def) {
                    self.fixed.insert(root);
                }
                *self.gain.entry(root).or_default() += def.volume();
            }
        }
    }

    /// The values to be widened: windows, then most products for a byte first, as long as there is the room for what
    /// is live at most.
    fn chosen(
        &self,
        lowering: &Lowering,
        windows: usize,
        room: &dyn Fn(usize) -> usize,
    ) -> BTreeSet<ValueId> {
        let spans = Spans::of(&lowering.stages);
        let bytes = |v: ValueId| lowering.values[v as usize].ty.bytes();
        let mut live = vec![0usize; lowering.stages.len()];
        for (&value, &(first, last)) in &spans.0 {
            live[first..=last].iter_mut().for_each(|l| *l += bytes(value));
        }
        let mut most = room(live.iter().copied().max().unwrap_or(0));
        let mut list: Vec<(ValueId, u64)> = self.gain.iter().map(|(&v, &g)| (v, g)).collect();
        list.retain(|(v, _)| !self.fixed.contains(v) && is_half(&lowering.values[*v as usize].ty));
        let is_window = |v: ValueId| v as usize >= windows;
        list.sort_by_key(|&(v, gain)| std::cmp::Reverse((is_window(v), gain / bytes(v).max(1) as u64)));
        let mut chosen = BTreeSet::new();
        for (value, _) in list {
            let Some(&(first, last)) = spans.0.get(&value) else { continue };
            let highest = live[first..=last].iter().copied().max().unwrap_or(0) + bytes(value);
            if is_window(value) || highest <= most {
                live[first..=last].iter_mut().for_each(|l| *l += bytes(value));
                most = most.max(highest);
                chosen.insert(value);
            }
        }
        let with_parts = |v: &ValueId| chosen.contains(&self.root(*v));
        (0..lowering.values.len() as ValueId).filter(with_parts).collect()
    }
}

/// Takes parts to what they are parts of, and what holds a copy of some rows to what they are rows of.
fn roots(stages: &[Stage], root: &mut [ValueId]) {
    for stage in stages {
        match stage {
            Stage::Strips(strips) => {
                strips.views.iter().for_each(|v| root[v.part as usize] = root[v.whole as usize]);
                roots(&strips.body, root);
            }
            Stage::Define(def) => {
                if let Some(from) = moved(def) {
                    let ends = [from, def.output.value].map(|v| root[v as usize]);
                    let (to, other) = (ends[0].min(ends[1]), ends[0].max(ends[1]));
                    root.iter_mut().filter(|r| **r == other).for_each(|r| *r = to);
                }
            }
            _ => {}
        }
    }
}

/// The value whose elements a definition moves, without computing anything.
fn moved(def: &Definition) -> Option<ValueId> {
    match &def.exprs[def.finish as usize] {
        Expr::Load { operand, .. } if def.fold.is_none() => Some(def.operands[*operand as usize].value),
        _ => None,
    }
}

/// The first and the last stage that touch each value that stages write.
struct Spans(HashMap<ValueId, (usize, usize)>);

impl Spans {
    fn of(stages: &[Stage]) -> Spans {
        let mut spans: HashMap<ValueId, (usize, usize)> = HashMap::new();
        for (i, stage) in stages.iter().enumerate() {
            for value in stage.writes() {
                spans.entry(value).or_insert((i, i)).1 = i;
            }
            for value in stage.reads() {
                spans.entry(value).and_modify(|s| s.1 = i);
            }
            if let Stage::Strips(strips) = stage {
                let parts: BTreeSet<ValueId> = strips.views.iter().map(|v| v.part).collect();
                let inside = strips.body.iter().flat_map(Stage::writes).filter(|v| !parts.contains(v));
                inside.for_each(|v| _ = spans.entry(v).or_insert((i, i)));
            }
        }
        Spans(spans)
    }
}

/// Definitions with other types for these values.
fn retype(stages: &mut [Stage], chosen: &BTreeSet<ValueId>) {
    for stage in stages {
        match stage {
            Stage::Strips(strips) => retype(&mut strips.body, chosen),
            Stage::Define(def) => {
                let same = |v: ValueId| chosen.contains(&v).then_some(v);
                if def.operands.iter().any(|o| chosen.contains(&o.value)) {
                    if let Some(read) = reading(def, &same) {
                        *def = read;
                    }
                }
                if chosen.contains(&def.output.value) {
                    store_wide(def);
                }
            }
            _ => {}
        }
    }
}

fn store_wide(def: &mut Definition) {
    def.output.ty = wide(&def.output.ty);
    let finish = &mut def.exprs[def.finish as usize];
    match finish {
        Expr::Const(s) => *finish = Expr::Const(cast(*s, DType::F32, true)),
        // Elements moved within the value.
        Expr::Load { operand, .. } if def.operands[*operand as usize].ty.dtype == DType::F32 => {}
        _ => {
            def.exprs.push(Expr::Cast { to: DType::F32, saturate: true, arg: def.finish });
            def.finish = (def.exprs.len() - 1) as ExprId;
        }
    }
}
