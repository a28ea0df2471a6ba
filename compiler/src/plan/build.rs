//! Stages to a program: a kernel per definition, a place per value, steps in order.

use super::alternate::alternate;
use super::arena::ALIGN;
use super::buffers::Buffers;
use super::draft::{Draft, Place, Planned};
use super::entries::repeat_entries;
use super::kernels::Kernels;
use super::known::{know, measure};
use super::margins::margins;
use super::ranges::Ranges;
use super::symbols::{check, symbols};
use super::uses::{Uses, count_writers, shares};
use super::{Base, Choose, Dump, Interface, Program, Symbol};
use crate::base::affine::as_size;
use crate::base::{Affine, DType, TensorType};
use crate::definition::{
    DefBuilder, Definition, Expr, Lowering, Operand, Repeat, Routine, Size, Stage, Strips, ValueId,
};
use crate::error::{Error, Result};
use crate::nest::{Formed, bounded, bytes, chains, fix, long, pair, place, scaled};
use crate::scalar::{Fold, Op};
use crate::schedule::choose::places;
use crate::schedule::linear::{Known, Layout, Linear, Node};
use crate::schedule::{QUAD, in_quads, requantizes_fixed};
use crate::target::Target;
use crate::tile::Kernel;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

/// What the program is planned for.
pub struct Request<'a> {
    /// Name of the model.
    pub name: &'a str,
    /// Fused stages.
    pub lowering: &'a Lowering,
    /// Layout of each value.
    pub layouts: &'a [Layout],
    /// Sizes that the application sees, in the order of the program's symbols, by their number among
    /// the lowering's.
    pub visible: Vec<usize>,
    /// The symbol that counts how often all steps are repeated, each time for the next part of the tensors that have it
    /// as a dimension.
    pub entries: Option<usize>,
    /// The model's inputs: values and interfaces.
    pub inputs: Vec<(ValueId, Interface)>,
    /// The model's outputs, each written by some stage.
    pub outputs: Vec<(ValueId, Interface)>,
    /// The target.
    pub target: &'a Target,
    /// Gives the schedules.
    pub choose: &'a Choose<'a>,
    /// Where intermediate forms are shown.
    pub dump: &'a Dump<'a>,
}

struct Planner<'a> {
    request: &'a Request<'a>,
    buffers: Buffers,
    places: HashMap<ValueId, Place>,
    kernels: Kernels<'a>,
    macs: u64,
    /// How often the strips around the stage run.
    strips: u64,
    /// How many stages write each value.
    writers: HashMap<ValueId, usize>,
    /// How many of them have been planned.
    written: HashMap<ValueId, usize>,
    /// Values that one definition has filled.
    filled: HashSet<ValueId>,
    /// How large values are.
    ranges: Ranges,
    /// What strips see parts of.
    wholes: HashMap<ValueId, ValueId>,
    /// Where values with margins of zeros may be something else.
    nonzero: BTreeMap<ValueId, Vec<Range<i64>>>,
    /// The definitions that are steps, by name.
    named: HashMap<usize, String>,
}

/// Plans a program.
pub fn build(request: &Request) -> Result<Planned> {
    let mut planner = Planner {
        request,
        buffers: Buffers::default(),
        places: HashMap::new(),
        kernels: Kernels::new(request),
        macs: 0,
        strips: 1,
        writers: HashMap::new(),
        written: HashMap::new(),
        filled: HashSet::new(),
        ranges: Ranges::new(&request.lowering.stages),
        wholes: HashMap::new(),
        nonzero: margins(&request.lowering.stages),
        named: HashMap::new(),
    };
    count_writers(&request.lowering.stages, &mut planner.writers);
    for (i, (value, _)) in request.inputs.iter().enumerate() {
        planner.fixed(*value, Base::Input(i as u32));
    }
    for (i, (value, _)) in request.outputs.iter().enumerate() {
        planner.fixed(*value, Base::Output(i as u32));
    }
    for (i, &size) in request.visible.iter().enumerate() {
        planner.fixed_at(request.lowering.sizes[size].value, Base::Symbols, 8 * i);
    }
    let mut drafts: Vec<Draft> = planner.check_symbols().into_iter().collect();
    let once = drafts.len();
    drafts.extend(planner.stages(&request.lowering.stages, &[])?);
    planner.finish(drafts, once)
}

impl Planner<'_> {
    fn ty(&self, value: ValueId) -> &TensorType {
        &self.request.lowering.values[value as usize].ty
    }

    fn layout(&self, value: ValueId) -> &Layout {
        &self.request.layouts[value as usize]
    }

    fn bytes(&self, value: ValueId) -> usize {
        self.layout(value).span(&self.ty(value).shape) * self.ty(value).dtype.size()
    }

    fn fixed(&mut self, value: ValueId, base: Base) {
        self.fixed_at(value, base, 0);
    }

    fn fixed_at(&mut self, value: ValueId, base: Base, offset: usize) {
        let buffer = self.buffers.add(Some(base), self.bytes(value));
        self.places.insert(value, Place::start(buffer).moved(offset));
    }

    /// The sizes that the application sees.
    fn symbols(&self) -> Vec<Symbol> {
        let (visible, lowering) = (&self.request.visible, self.request.lowering);
        let sizes: Vec<&Size> = visible.iter().map(|&n| &lowering.sizes[n]).collect();
        symbols(&sizes, |size| visible.iter().position(|&v| v == size))
    }

    /// A kernel that compares the sizes given by the caller with what they may be.
    fn check_symbols(&mut self) -> Option<Draft> {
        let kernel = check(&self.symbols())?;
        let first = self.request.lowering.sizes[*self.request.visible.first()?].value;
        let buffer = self.place(first).buffer;
        Some(self.call(&kernel, vec![Place::start(buffer)]))
    }

    /// The place of a value; a new arena buffer where it has none yet.
    fn place(&mut self, value: ValueId) -> Place {
        if let Some(place) = self.places.get(&value) {
            return place.clone();
        }
        let lowered = &self.request.lowering.values[value as usize];
        let buffer = match &lowered.constant {
            Some(tensor) => self.buffers.constant(&lowered.name, tensor.data.to_vec()),
            None => self.buffers.add(None, self.bytes(value)),
        };
        let place = Place::start(buffer);
        self.places.insert(value, place.clone());
        place
    }

    fn stages(&mut self, stages: &[Stage], outside: &[ValueId]) -> Result<Vec<Draft>> {
        let mut drafts = Vec::new();
        let uses = Uses::of(stages);
        for (i, stage) in stages.iter().enumerate() {
            // Made here, and wanted by no one outside the list.
            let own = |v: ValueId| uses.made_before(v, i) && !outside.contains(&v);
            match stage {
                Stage::Define(def) => {
                    let mut dying = stage.reads();
                    dying.retain(|&v| own(v) && uses.ends_at(v, i));
                    drafts.extend(self.definition(def, &dying)?);
                }
                Stage::Routine(routine) => drafts.push(self.routine(routine)),
                Stage::Reshape { from, to } => drafts.extend(self.reshape(*from, *to, own(*from))?),
                Stage::Repeat(repeat) => drafts.extend(self.repeat(repeat)?),
                Stage::Strips(strips) => drafts.extend(self.strips(strips)?),
            }
            stage.writes().into_iter().for_each(|v| *self.written.entry(v).or_default() += 1);
        }
        Ok(drafts)
    }

    /// What constants, by operand, tell a definition about how its numbers can be computed; with the bytes that take the
    /// place of some of them, and the chains that their words form.
    fn tell_constants<'d>(
        &self,
        linear: &mut Linear,
        data: &impl Fn(usize) -> Option<&'d [u8]>,
    ) -> (HashMap<u32, Vec<u8>>, Option<Formed>) {
        let (target, data) = (self.request.target, |operand: u32| data(operand as usize));
        linear.bounded = bounded(linear, data);
        let fixed = requantizes_fixed(target).then(|| fix(linear, data)).flatten();
        let pairs = target.fma && linear.fixed.is_none();
        let paired = pairs.then(|| pair(linear, data)).flatten();
        let formed = chains(linear, target, data);
        linear.chains = formed.as_ref().map(|f| f.chains);
        linear.bytes = bytes(linear, target);
        linear.long = long(linear, target, data);
        let placed = place(linear, data, |linear| places(linear, target));
        let new = fixed.into_iter().chain(paired.into_iter().flatten()).chain(placed.into_iter().flatten());
        (new.collect(), formed)
    }

    fn definition(&mut self, def: &Definition, dying: &[ValueId]) -> Result<Option<Draft>> {
        if def.vars[..def.axes].iter().any(|v| v.extent == 0) {
            return Ok(None);
        }
        let layouts: Vec<Layout> = def.operands.iter().map(|o| self.layout(o.value).clone()).collect();
        let values = &self.request.lowering.values;
        let constant: Vec<bool> =
            def.operands.iter().map(|o| values[o.value as usize].constant.is_some()).collect();
        let mut linear = self.linear(def, &layouts, &constant);
        let read = |operand: usize| def.operands[operand].value;
        self.ranges.tell(&mut linear, read);
        self.ranges.learn(def.output.value, &linear, read);
        self.macs += self.strips * multiply_adds(def);
        self.share(def, &linear, dying);
        let own: Vec<bool> = def.operands.iter().map(|o| o.value == def.output.value).collect();
        let known: Vec<bool> = def.operands.iter().map(|o| self.is_written(o)).collect();
        let starts = linear.take_starts(&own, &known);
        let begin = |i: usize| starts.operands[i] * def.operands[i].ty.dtype.size();
        let given = |i: usize| {
            let constant = values[def.operands[i].value as usize].constant.as_ref();
            constant.map(|t| &t.data[begin(i)..])
        };
        let remade: HashMap<u32, Vec<u8>> =
            scaled(&mut linear, |operand| given(operand as usize)).into_iter().collect();
        remade.iter().for_each(|(&operand, bytes)| measure(&mut linear, operand, bytes));
        let data = |i: usize| remade.get(&(i as u32)).map(Vec::as_slice).or_else(|| given(i));
        let (mut other, mut formed) = self.tell_constants(&mut linear, &data);
        let written = self.place(def.output.value).moved(starts.output * def.output.ty.dtype.size());
        let read = (0..def.operands.len()).map(|i| self.place(def.operands[i].value).moved(begin(i)));
        if !constant.contains(&true) && read.chain([written.clone()]).all(|p| p.is_aligned(QUAD)) {
            in_quads(&mut linear);
        }
        let nested = self.kernels.nest(&linear)?;
        let mut args = Vec::new();
        for (i, operand) in def.operands.iter().enumerate() {
            let other = other.remove(&(i as u32)).or_else(|| remade.get(&(i as u32)).cloned());
            let chained = nested.packed_chains(i as u32, &mut formed);
            let elements = other.as_deref().or(data(i));
            let packed = chained.or_else(|| elements.and_then(|d| nested.packed(&linear, i as u32, d)));
            args.push(match packed.or(other) {
                Some(bytes) => {
                    Place::start(self.buffers.constant(&values[operand.value as usize].name, bytes))
                }
                None => self.place(operand.value).moved(begin(i)),
            });
        }
        args.push(written);
        if nested.between > 0 {
            let buffer = self.buffers.add(None, nested.between * size_of::<f32>());
            args.push(Place::start(buffer));
        }
        args.extend(nested.sizes.iter().map(|&n| self.place(self.request.lowering.sizes[n].value)));
        let points: usize = def.vars[..def.axes].iter().map(|v| v.extent).product();
        if !def.has_sizes() && points == def.output.ty.elems() {
            self.filled.insert(def.output.value);
        }
        self.named.insert(self.buffers.now(), def.name.clone());
        Ok(Some(self.call(&nested.kernel, args)))
    }

    /// The linear form of a definition. Where others write parts of the same value, or the place of a
    /// part depends on a size, nothing may be written past the part.
    fn linear(&self, def: &Definition, layouts: &[Layout], constant: &[bool]) -> Linear {
        let mut linear = self.sized_linear(def, layouts, constant);
        let value = |operand: u32| def.operands[operand as usize].value as usize;
        know(&mut linear, |operand| self.request.lowering.values[value(operand)].constant.as_ref());
        linear
    }

    fn sized_linear(&self, def: &Definition, layouts: &[Layout], constant: &[bool]) -> Linear {
        let output = self.layout(def.output.value);
        let dims = &self.request.lowering.dims;
        let sized = def.has_sizes() || def.operands.iter().any(|o| dims.contains_key(&o.value));
        let exact = sized
            && (def.store.iter().any(Affine::has_size)
                || self.writers.get(&def.output.value).is_some_and(|&w| w > 1));
        let dims = if sized { of_operands(def, dims) } else { Vec::new() };
        let nonzero = if sized { Vec::new() } else { of_operands(def, &self.nonzero) };
        let known = Known { dims: &dims, exact, nonzero: &nonzero };
        Linear::knowing(def, layouts, constant, output, &known)
    }

    /// Whether all bytes of an operand have been written.
    fn is_written(&self, operand: &Operand) -> bool {
        // Rows that share their rims take less than one place per element.
        let dense = self.layout(operand.value).span(&operand.ty.shape) <= operand.ty.elems();
        let whole = |v: &ValueId| self.wholes.get(v).copied();
        dense
            && std::iter::successors(Some(operand.value), whole).any(|value| {
                let given = self.request.inputs.iter().any(|i| i.0 == value);
                let writers = self.writers.get(&value);
                let all = writers.is_some() && writers == self.written.get(&value);
                given || all || self.filled.contains(&value)
            })
    }

    /// Writes the output over an operand that dies here and is read only where it is written.
    fn share(&mut self, def: &Definition, linear: &Linear, dying: &[ValueId]) {
        let out = self.place(def.output.value);
        if !out.is_start() || !self.buffers.is_unused(out.buffer) {
            return;
        }
        for (i, operand) in def.operands.iter().enumerate() {
            let place = self.place(operand.value);
            let same_size = operand.ty.dtype.size() == def.output.ty.dtype.size();
            let ends = place.is_start() && same_size && dying.contains(&operand.value);
            if ends && read_in_place(linear, i as u32) && self.buffers.merge(place.buffer, out.buffer) {
                return;
            }
        }
    }

    fn call(&mut self, kernel: &Kernel, args: Vec<Place>) -> Draft {
        self.buffers.step(self.kernels.number(kernel), args)
    }

    fn routine(&mut self, routine: &Routine) -> Draft {
        let args = routine.operands.iter().map(|o| self.place(o.value)).collect();
        self.call(&routine.kernel, args)
    }

    /// A reshape of dense memory: the same buffer where both may share it, a copy otherwise.
    /// `own`: the value is made in the list of stages, and wanted by no one outside of it.
    fn reshape(&mut self, from: ValueId, to: ValueId, own: bool) -> Result<Option<Draft>> {
        self.ranges.same(from, to);
        let place = self.place(from);
        let fixed = self.places.contains_key(&to);
        let constant = self.request.lowering.values[from as usize].constant.is_some();
        if !fixed && !constant && own {
            self.places.insert(to, place);
            return Ok(None);
        }
        self.copy(from, to)
    }

    /// Copies all elements, in the order of memory of dense values.
    fn copy(&mut self, from: ValueId, to: ValueId) -> Result<Option<Draft>> {
        let ty = TensorType::new(self.ty(from).dtype, [self.ty(from).elems()]);
        if ty.elems() == 0 {
            return Ok(None);
        }
        let mut b = DefBuilder::new(&ty.shape);
        let axes = b.axes();
        let element = b.load(from, &ty, axes);
        let def = b.finish("copy", to, &ty, element);
        let dense = Layout::dense(&ty.shape);
        let linear = Linear::new(&def, std::slice::from_ref(&dense), &[false], &dense);
        let nested = self.kernels.nest(&linear)?;
        let args = vec![self.place(from), self.place(to)];
        Ok(Some(self.call(&nested.kernel, args)))
    }

    fn repeat(&mut self, repeat: &Repeat) -> Result<Vec<Draft>> {
        let mut drafts = Vec::new();
        let mut late = Vec::new();
        // The state lives where its last value is wanted.
        for carry in &repeat.carries {
            let place = self.place(carry.last);
            self.places.insert(carry.state, place.clone());
            if shares(repeat, carry.state, carry.next) {
                self.places.insert(carry.next, place);
            } else {
                late.push((carry.next, carry.state));
            }
            drafts.extend(self.copy(carry.initial, carry.state)?);
        }
        for slice in &repeat.slices {
            let mut place = self.place(slice.whole);
            let step = self.bytes(slice.part);
            place.strides.resize(self.buffers.depth(), 0);
            let forward = step as i64;
            if slice.reversed {
                place.offset += step * repeat.count.saturating_sub(1);
            }
            place.strides.push(if slice.reversed { -forward } else { forward });
            self.places.insert(slice.part, place);
        }
        self.buffers.enter();
        let inside: Vec<ValueId> = repeat.entry().into_iter().chain(repeat.exit()).collect();
        let mut body = self.stages(&repeat.body, &inside)?;
        for (next, state) in late {
            body.extend(self.copy(next, state)?);
        }
        self.buffers.leave();
        let trip = match &repeat.size {
            Some(size) => Some(self.trips(size)?),
            None => None,
        };
        let cond = repeat.condition.map(|state| self.place(state));
        if let Some(cond) = &cond {
            self.buffers.touch(cond.buffer);
        }
        drafts.push(Draft::Repeat { count: repeat.count as u64, trip, cond, body });
        Ok(drafts)
    }

    /// Strips: a part is a pointer into its whole.
    fn strips(&mut self, strips: &Strips) -> Result<Vec<Draft>> {
        for view in &strips.views {
            let mut place = self.place(view.whole);
            let stride = self.layout(view.whole).strides[view.dim];
            let bytes = stride as usize * self.ty(view.whole).dtype.size();
            place.offset += view.start * bytes;
            if strips.count > 1 {
                place.strides.resize(self.buffers.depth(), 0);
                place.strides.push((view.step * bytes) as i64);
            }
            self.places.insert(view.part, place);
            self.wholes.insert(view.part, view.whole);
        }
        let parts: Vec<ValueId> = strips.views.iter().map(|v| v.part).collect();
        if strips.count == 1 {
            return self.stages(&strips.body, &parts);
        }
        self.buffers.enter();
        self.strips *= strips.count as u64;
        let body = self.stages(&strips.body, &parts)?;
        self.strips /= strips.count as u64;
        self.buffers.leave();
        Ok(vec![Draft::Repeat { count: strips.count as u64, trip: None, cond: None, body }])
    }

    /// The place of the number of iterations.
    fn trips(&mut self, size: &Affine) -> Result<Place> {
        let plain = match size.terms.as_slice() {
            [(var, 1)] if size.base == 0 => as_size(*var),
            _ => None,
        };
        let (number, _) = plain.ok_or_else(|| Error::bug("a number of iterations is no size"))?;
        let place = self.place(self.request.lowering.sizes[number].value);
        self.buffers.touch(place.buffer);
        Ok(place)
    }

    /// The program; the first steps, so many, are no part of any repetition.
    fn finish(mut self, mut drafts: Vec<Draft>, once: usize) -> Result<Planned> {
        // Booleans that are neither true nor false must not be left behind where a run ends early.
        let lends = |n: u32| self.request.outputs[n as usize].1.ty.dtype != DType::Bool;
        let placed = self.buffers.place(&drafts, &self.kernels.list, &lends)?;
        self.kernels.turn(&mut drafts, &placed.backwards)?;
        let steps = self.buffers.steps(&drafts, &placed)?;
        let mut program = Program {
            name: self.request.name.to_string(),
            inputs: self.request.inputs.iter().map(|i| i.1.clone()).collect(),
            outputs: self.request.outputs.iter().map(|o| o.1.clone()).collect(),
            symbols: self.symbols(),
            arena_bytes: placed.arena.bytes,
            arena_align: ALIGN,
            arena_bound: placed.arena.bound,
            constants: self.buffers.constants,
            kernels: self.kernels.list,
            steps,
            macs: self.macs,
        };
        alternate(&mut program, self.request.target);
        if let Some(symbol) = self.request.entries {
            repeat_entries(&mut program, symbol, once);
        }
        super::constants::arrange(&mut program);
        let names = |steps: &Vec<usize>| steps.iter().filter_map(|s| self.named.get(s).cloned()).collect();
        let fullest = placed.fullest.each_ref().map(names);
        Ok(Planned { program, fullest })
    }
}

/// What is known of each operand's dimensions.
fn of_operands<T: Clone>(def: &Definition, known: &BTreeMap<ValueId, Vec<T>>) -> Vec<Vec<T>> {
    def.operands.iter().map(|o| known.get(&o.value).cloned().unwrap_or_default()).collect()
}

/// Whether an operand is read only in `finish`, at the place that is written.
fn read_in_place(linear: &Linear, operand: u32) -> bool {
    let folded = linear.fold.map(|f| linear.reachable(f.2)).unwrap_or_default();
    linear.nodes.iter().enumerate().all(|(e, node)| match node {
        Node::Load { operand: o, addr, dynamic, guards, .. } if *o == operand => {
            *addr == linear.store && dynamic.is_empty() && guards.is_empty() && !folded.contains(&(e as u32))
        }
        _ => true,
    })
}

/// Multiply-adds of a definition.
fn multiply_adds(def: &Definition) -> u64 {
    match &def.fold {
        Some(f) if f.op == Fold::Sum && matches!(def.exprs[f.body as usize], Expr::Op(Op::Mul, _)) => {
            def.volume()
        }
        _ => 0,
    }
}
